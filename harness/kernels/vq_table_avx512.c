/* vq_table_avx512.c: 16 entries at once. */
#include "kernels/kernel.h"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq")
#include <immintrin.h>

static void segment(const struct ptq_kvector *v, const float *book, const float *x, float *table)
{
    for (int64_t i = 0; i < v->book_ld; i += 16) {
        __m512 t = _mm512_setzero_ps();
        for (int64_t d = 0; d < v->dim; d++)
            t = _mm512_fmadd_ps(_mm512_load_ps(book + d * v->book_ld + i), _mm512_set1_ps(x[d]), t);
        _mm512_store_ps(table + i, t);
    }
}

static void vq_table(const struct ptq_kvector *v, const float *x, int64_t begin, int64_t end,
                     float *table)
{
    for (int64_t s = begin; s < end; s++)
        segment(v, v->books + s / v->book_segments * v->dim * v->book_ld, x + s * v->dim,
                table + (s - begin) * v->book_ld);
}

const struct ptq_kernel ptq_kernel_vq_table_avx512 = {.op = PTQ_KOP_VQ_TABLE,
                                                      .isa = PTQ_ISA_AVX512,
                                                      .needs = PTQ_CPU_AVX512,
                                                      .rank = 2,
                                                      .run.vq_table = vq_table};
