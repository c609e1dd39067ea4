/* vq_rows_avx512.c: 16 columns of a row at once. The row is decoded once for all tokens; each token
 * goes down the row's tree by blends. */
#include "kernels/kernel.h"
#include <string.h>
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq")
#include <immintrin.h>

/* ---- the row's values ---- */

static inline int64_t code_at(const struct ptq_kvector *v, int64_t at)
{
    return v->code_bits == 8 ? ((const uint8_t *)v->codes)[at] : ((const uint16_t *)v->codes)[at];
}

/* Segments [s, end), which share a book. Four values are one register; any other number a copy.
 * Books larger than a cache are read all over: the next row's entries are sent for a row ahead. */
static void decode_run(const struct ptq_kvector *v, int64_t row, int64_t s, int64_t end,
                       const float *book, float *out)
{
    const int64_t at = row * v->segments, ahead = row + 1 < v->rows ? v->segments : 0;
    for (; s < end; s++) {
        const float *entry = book + v->dim * code_at(v, at + s);
        _mm_prefetch((const char *)(book + v->dim * code_at(v, at + ahead + s)), _MM_HINT_T0);
        if (v->dim == 4)
            _mm_storeu_ps(out + 4 * s, _mm_loadu_ps(entry));
        else
            memcpy(out + s * v->dim, entry, (size_t)v->dim * sizeof *out);
    }
}

static void decode(const struct ptq_kvector *v, int64_t row, float *out)
{
    const int64_t step = v->book_segments, books_per_row = (v->segments - 1) / step + 1;
    const float *book = v->books + row / v->book_rows * books_per_row * v->book_len * v->dim;
    for (int64_t s = 0; s < v->segments; s += step, book += v->book_len * v->dim)
        decode_run(v, row, s, s + step < v->segments ? s + step : v->segments, book, out);
}

/* ---- its inputs ---- */

static void split_pairs(const uint8_t *bits, const float *x, int64_t cols, int64_t pairs,
                        float *out)
{
    for (int64_t i = 0; i < cols / 2; i++) {
        const int64_t begin = i / pairs * 2 * pairs, j = i % pairs;
        const int even_smaller = bits[i / 8] >> (i % 8) & 1;
        out[begin + j] = x[begin + 2 * j + !even_smaller];
        out[begin + pairs + j] = x[begin + 2 * j + even_smaller];
    }
}

/* pairs: of a segment, a multiple of 16 */
static void split_lines(const uint8_t *bits, const float *x, int64_t cols, int64_t pairs,
                        float *out)
{
    const __m512i evens =
                      _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0),
                  odds = _mm512_add_epi32(evens, _mm512_set1_epi32(1));
    for (int64_t begin = 0; begin < cols; begin += 2 * pairs)
        for (int64_t j = begin; j < begin + pairs; j += 16, x += 32, bits += 2) {
            const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16),
                         even = _mm512_permutex2var_ps(a, evens, b),
                         odd = _mm512_permutex2var_ps(a, odds, b);
            const __mmask16 even_smaller = (__mmask16)(bits[0] | bits[1] << 8);
            _mm512_storeu_ps(out + j, _mm512_mask_blend_ps(even_smaller, odd, even));
            _mm512_storeu_ps(out + j + pairs, _mm512_mask_blend_ps(even_smaller, even, odd));
        }
}

static const float *inputs(const struct ptq_kvector *v, int64_t row, const float *x, float *scratch)
{
    for (int l = 0; l < v->tree_levels; l++) {
        const uint8_t *bits = v->tree_bits + (row * v->tree_levels + l) * v->tree_ld;
        const int64_t pairs = v->cols >> l >> 1;
        float *out = scratch + l % 2 * v->cols;
        (pairs % 16 ? split_pairs : split_lines)(bits, x, v->cols, pairs, out);
        x = out;
    }
    return x;
}

/* ---- their product ---- */

static float sum_of(__m512 p)
{
    const __m256 p8 = _mm256_add_ps(_mm512_castps512_ps256(p), _mm512_extractf32x8_ps(p, 1));
    const __m128 p4 = _mm_add_ps(_mm256_castps256_ps128(p8), _mm256_extractf128_ps(p8, 1)),
                 p2 = _mm_add_ps(p4, _mm_movehl_ps(p4, p4));
    return _mm_cvtss_f32(_mm_add_ss(p2, _mm_movehdup_ps(p2)));
}

static float product(const float *value, const float *x, int64_t n)
{
    __m512 p = _mm512_setzero_ps();
    int64_t k = 0;
    for (; k + 16 <= n; k += 16)
        p = _mm512_fmadd_ps(_mm512_loadu_ps(value + k), _mm512_loadu_ps(x + k), p);
    const __mmask16 rest = (__mmask16)((1u << (n - k)) - 1);
    p = _mm512_mask3_fmadd_ps(_mm512_maskz_loadu_ps(rest, value + k),
                              _mm512_maskz_loadu_ps(rest, x + k), p, rest);
    return sum_of(p);
}

static void vq_rows(const struct ptq_kvector *v, const struct ptq_kacts *x, int64_t begin,
                    int64_t end, float *scratch, float *y, int64_t ldy)
{
    float *value = scratch + 2 * v->cols;
    for (int64_t i = begin; i < end; i++) {
        decode(v, i, value);
        for (int64_t t = 0; t < x->n; t++)
            y[t * ldy + i] = product(value, inputs(v, i, x->f32 + t * x->ld, scratch), v->cols);
    }
}

const struct ptq_kernel ptq_kernel_vq_rows_avx512 = {.op = PTQ_KOP_VQ_ROWS,
                                                     .isa = PTQ_ISA_AVX512,
                                                     .needs = PTQ_CPU_AVX512,
                                                     .rank = 2,
                                                     .run.vq_rows = vq_rows};
