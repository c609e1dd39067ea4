/* actq_avx2.c: one token to int8, 16 values at a time. */
#include "kernels/kernel.h"
#include <string.h>
#pragma GCC target("avx2,fma,bmi2")
#include <immintrin.h>

struct values {
    __m256 low, high;
};

/* 16 values, 0 behind the last. */
static inline struct values values_at(const struct ptq_actq *a, int64_t i)
{
    float end[16] = {0};
    const float *x = a->x + i;
    if (a->n - i < 16) {
        x = end;
        if (a->n > i)
            memcpy(end, a->x + i, (size_t)(a->n - i) * sizeof *end);
    }
    return (struct values){_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)};
}

static float absmax(const struct ptq_actq *a)
{
    const __m256 sign = _mm256_set1_ps(-0.0F);
    __m256 low = _mm256_setzero_ps(), high = low;
    for (int64_t i = 0; i < a->n; i += 16) {
        const struct values x = values_at(a, i);
        low = _mm256_max_ps(low, _mm256_andnot_ps(sign, x.low));
        high = _mm256_max_ps(high, _mm256_andnot_ps(sign, x.high));
    }
    float lanes[8], most = 0;
    _mm256_storeu_ps(lanes, _mm256_max_ps(low, high));
    for (int l = 0; l < 8; l++)
        most = lanes[l] > most ? lanes[l] : most;
    return most;
}

static inline __m256i code_of(__m256 x, __m256 scale)
{
    return _mm256_max_epi32(
        _mm256_min_epi32(_mm256_cvtps_epi32(_mm256_div_ps(x, scale)), _mm256_set1_epi32(127)),
        _mm256_set1_epi32(-127));
}

/* Codes [begin, end), whole runs of 16, and their sum. */
static int32_t codes_of(struct ptq_actq *a, int64_t begin, int64_t end)
{
    const __m256 scale = _mm256_set1_ps(a->scale);
    __m256i sum = _mm256_setzero_si256();
    for (int64_t i = begin; i < end; i += 16) {
        const struct values x = values_at(a, i);
        const __m256i low = code_of(x.low, scale), high = code_of(x.high, scale),
                      words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
        sum = _mm256_add_epi32(sum, _mm256_add_epi32(low, high));
        _mm_storeu_si128(
            (__m128i *)(a->codes + i),
            _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
    }
    int32_t lanes[8], total = 0;
    _mm256_storeu_si256((__m256i *)lanes, sum);
    for (int l = 0; l < 8; l++)
        total += lanes[l];
    return total;
}

#include "kernels/actq.h"

const struct ptq_kernel ptq_kernel_actq_avx2 = {
    .op = PTQ_KOP_ACTQ, .isa = PTQ_ISA_AVX2, .needs = PTQ_CPU_AVX2, .rank = 10, .run.actq = actq};
