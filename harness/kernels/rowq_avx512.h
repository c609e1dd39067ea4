/* rowq_avx512.h: what both row quantizations of AVX-512 share. Included behind the target. */
#ifndef PTQ_KERNELS_ROWQ_AVX512_H
#define PTQ_KERNELS_ROWQ_AVX512_H
#include "kernels/rowq.h"
#include "kernels/vec_avx512.h"

static inline __mmask16 rowq_tail(int64_t n)
{
    return (__mmask16)(n >= 16 ? 0xffff : (1 << n) - 1);
}

static inline struct ptq_rowq_range rowq_range(const float *w, int64_t n)
{
    __m512 lo = _mm512_set1_ps(w[0]), hi = lo;
    for (int64_t i = 0; i < n; i += 16) {
        const __m512 x = _mm512_mask_loadu_ps(lo, rowq_tail(n - i), w + i);
        lo = _mm512_min_ps(lo, x);
        hi = _mm512_max_ps(hi, _mm512_mask_mov_ps(hi, rowq_tail(n - i), x));
    }
    return ptq_rowq_widen(_mm512_reduce_min_ps(lo), _mm512_reduce_max_ps(hi));
}

static inline void rowq_round(struct ptq_rowq *q, struct ptq_rowq_grid g)
{
    const __m512 scale = _mm512_set1_ps(g.scale), zero = _mm512_set1_ps(g.zero),
                 most = _mm512_set1_ps((float)((1 << q->bits) - 1));
    q->scale = g.scale;
    q->zero = (int)g.zero;
    for (int64_t i = 0; i < q->n; i += 16) {
        const __mmask16 some = rowq_tail(q->n - i);
        const __m512 t = _mm512_div_ps(_mm512_maskz_loadu_ps(some, q->w + i), scale),
                     c = vec_min(vec_max(vec_rint(t) + zero, vec_zero()), most);
        _mm_mask_storeu_epi8(q->codes + i, some, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(c)));
    }
}
#endif
