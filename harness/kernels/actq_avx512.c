/* actq_avx512.c: one token to int8, 16 values at a time. */
#include "kernels/kernel.h"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,bmi2")
#include <immintrin.h>

static inline __mmask16 tail(int64_t n)
{
    return (__mmask16)(n >= 16 ? 0xffff : (1 << n) - 1);
}

static float absmax(const struct ptq_actq *q)
{
    const float *x = q->x;
    __m512 a = _mm512_setzero_ps(), b = a;
    int64_t i = 0;
    for (; i + 32 <= q->n; i += 32) {
        a = _mm512_max_ps(a, _mm512_abs_ps(_mm512_loadu_ps(x + i)));
        b = _mm512_max_ps(b, _mm512_abs_ps(_mm512_loadu_ps(x + i + 16)));
    }
    for (; i < q->n; i += 16)
        a = _mm512_max_ps(a, _mm512_abs_ps(_mm512_maskz_loadu_ps(tail(q->n - i), x + i)));
    return _mm512_reduce_max_ps(_mm512_max_ps(a, b));
}

/* Codes [begin, end), whole runs of 16, and their sum. */
static int32_t codes_of(struct ptq_actq *a, int64_t begin, int64_t end)
{
    const __m512 scale = _mm512_set1_ps(a->scale);
    const __m512i most = _mm512_set1_epi32(127), least = _mm512_set1_epi32(-127);
    __m512i sum = _mm512_setzero_si512();
    for (int64_t i = begin; i < end; i += 16) {
        const int64_t left = a->n - i;
        const __m512 x = _mm512_maskz_loadu_ps(left > 0 ? tail(left) : 0, a->x + i);
        const __m512i q = _mm512_max_epi32(
            _mm512_min_epi32(_mm512_cvtps_epi32(_mm512_div_ps(x, scale)), most), least);
        sum = _mm512_add_epi32(sum, q);
        _mm_storeu_si128((__m128i *)(a->codes + i), _mm512_cvtepi32_epi8(q));
    }
    return _mm512_reduce_add_epi32(sum);
}

#include "kernels/actq.h"

const struct ptq_kernel ptq_kernel_actq_avx512 = {.op = PTQ_KOP_ACTQ,
                                                  .isa = PTQ_ISA_AVX512,
                                                  .needs = PTQ_CPU_AVX512,
                                                  .rank = 20,
                                                  .run.actq = actq};
