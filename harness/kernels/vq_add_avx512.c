/* vq_add_avx512.c: lanes are rows. Tables of 16 entries are looked up in one register, longer ones
 * gathered from the cache. Several panels at once, since each row's sum is one chain of adds. */
#include "kernels/kernel.h"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq")
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
enum { HALF = 16, PREFETCH_BYTES = 2048 };

/* ptq_kvector and range with what the loops hold fast */
struct sums {
    const struct ptq_kvector *v;
    const float *table;
    const struct ptq_vq_range *range;
    float *y;
};

INLINE __mmask16 rows_of(const struct ptq_kvector *v, int64_t row)
{
    const int64_t left = v->rows - row;
    return left >= HALF ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1);
}

/* Codes of rows half * 16 .. + 15 of a line. */
INLINE __m512i codes_of(const uint8_t *line, int code_bits, int half)
{
    if (code_bits == 16)
        return _mm512_cvtepu16_epi32(
            _mm256_loadu_si256((const __m256i *)(const void *)line + half));
    if (code_bits == 8)
        return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)line + half));
    const __m512i both = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)line));
    return half ? _mm512_srli_epi32(both, 4) : both; /* vpermps takes the low 4 bits */
}

INLINE __m512 entries(const float *table, int code_bits, __m512i codes)
{
    return code_bits == 4 ? _mm512_permutexvar_ps(codes, _mm512_loadu_ps(table))
                          : _mm512_i32gather_ps(codes, table, sizeof *table);
}

INLINE void add_panels(const struct sums *a, int64_t panel, int n, int code_bits, bool scaled)
{
    const struct ptq_kvector *v = a->v;
    const int64_t line_bytes = PTQ_PANEL_ROWS * code_bits / 8, row = panel * PTQ_PANEL_ROWS;
    const uint8_t *codes = (const uint8_t *)v->codes + panel * v->segments * line_bytes;
    const float *table = a->table;
    __m512 acc[8];
    for (int h = 0; h < 2 * n; h++)
        acc[h] = _mm512_maskz_loadu_ps(rows_of(v, row + HALF * h), a->y + row + HALF * h);
    for (int64_t s = a->range->begin; s < a->range->end; s++, table += v->book_ld) {
        const int64_t group = scaled ? s / v->group_segments : 0;
        for (int h = 0; h < 2 * n; h++) {
            const uint8_t *line = codes + ((h / 2) * v->segments + s) * line_bytes;
            const __m512 t = entries(table, code_bits, codes_of(line, code_bits, h % 2));
            if (h % 2 == 0)
                _mm_prefetch((const char *)line + PREFETCH_BYTES, _MM_HINT_T0);
            if (scaled)
                acc[h] = _mm512_fmadd_ps(
                    t,
                    _mm512_load_ps(v->scale +
                                   ((panel + h / 2) * v->groups + group) * PTQ_PANEL_ROWS +
                                   h % 2 * HALF),
                    acc[h]);
            else
                acc[h] = _mm512_add_ps(acc[h], t);
        }
    }
    for (int h = 0; h < 2 * n; h++)
        _mm512_mask_storeu_ps(a->y + row + HALF * h, rows_of(v, row + HALF * h), acc[h]);
}

INLINE void all_panels(const struct sums *a, int code_bits, bool scaled)
{
    int64_t p = a->range->panel_begin;
    for (; p + 4 <= a->range->panel_end; p += 4)
        add_panels(a, p, 4, code_bits, scaled);
    for (; p < a->range->panel_end; p++)
        add_panels(a, p, 1, code_bits, scaled);
}

static void plain_4(const struct sums *a)
{
    all_panels(a, 4, false);
}
static void plain_8(const struct sums *a)
{
    all_panels(a, 8, false);
}
static void plain_16(const struct sums *a)
{
    all_panels(a, 16, false);
}
static void scaled_4(const struct sums *a)
{
    all_panels(a, 4, true);
}
static void scaled_8(const struct sums *a)
{
    all_panels(a, 8, true);
}
static void scaled_16(const struct sums *a)
{
    all_panels(a, 16, true);
}

static void vq_add(const struct ptq_kvector *v, const float *table,
                   const struct ptq_vq_range *range, float *y)
{
    const struct sums a = {v, table, range, y};
    if (v->code_bits == 4)
        (v->scale ? scaled_4 : plain_4)(&a);
    else if (v->code_bits == 8)
        (v->scale ? scaled_8 : plain_8)(&a);
    else
        (v->scale ? scaled_16 : plain_16)(&a);
}

const struct ptq_kernel ptq_kernel_vq_add_avx512 = {.op = PTQ_KOP_VQ_ADD,
                                                    .isa = PTQ_ISA_AVX512,
                                                    .needs = PTQ_CPU_AVX512,
                                                    .rank = 2,
                                                    .run.vq_add = vq_add};
