/* rowq_avx2.h: what both row quantizations of AVX2 share. Included behind the target. */
#ifndef PTQ_KERNELS_ROWQ_AVX2_H
#define PTQ_KERNELS_ROWQ_AVX2_H
#include "kernels/rowq.h"
#include "kernels/vec_avx2.h"

static inline struct ptq_rowq_range rowq_range(const float *w, int64_t n)
{
    __m256 low = _mm256_set1_ps(w[0]), high = low;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 x = _mm256_loadu_ps(w + i);
        low = _mm256_min_ps(low, x);
        high = _mm256_max_ps(high, x);
    }
    float lo[8], hi[8];
    _mm256_storeu_ps(lo, low);
    _mm256_storeu_ps(hi, high);
    for (; i < n; i++) {
        lo[0] = w[i] < lo[0] ? w[i] : lo[0];
        hi[0] = w[i] > hi[0] ? w[i] : hi[0];
    }
    for (int l = 1; l < 8; l++) {
        lo[0] = lo[l] < lo[0] ? lo[l] : lo[0];
        hi[0] = hi[l] > hi[0] ? hi[l] : hi[0];
    }
    return ptq_rowq_widen(lo[0], hi[0]);
}

static inline __m256 rowq_codes(__m256 x, __m256 scale, __m256 zero, __m256 most)
{
    const __m256 q = _mm256_add_ps(vec_rint(_mm256_div_ps(x, scale)), zero);
    return _mm256_min_ps(_mm256_max_ps(q, _mm256_setzero_ps()), most);
}

static inline void rowq_round(struct ptq_rowq *q, struct ptq_rowq_grid g)
{
    const __m256 scale = _mm256_set1_ps(g.scale), zero = _mm256_set1_ps(g.zero),
                 most = _mm256_set1_ps((float)((1 << q->bits) - 1));
    q->scale = g.scale;
    q->zero = (int)g.zero;
    int64_t i = 0;
    for (; i + 16 <= q->n; i += 16) {
        const __m256i low = _mm256_cvtps_epi32(
                          rowq_codes(_mm256_loadu_ps(q->w + i), scale, zero, most)),
                      high = _mm256_cvtps_epi32(
                          rowq_codes(_mm256_loadu_ps(q->w + i + 8), scale, zero, most)),
                      words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
        _mm_storeu_si128(
            (__m128i *)(q->codes + i),
            _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
    }
    for (; i < q->n; i++)
        q->codes[i] = (uint8_t)ptq_rowq_code(q->w[i], g, (float)((1 << q->bits) - 1));
}
#endif
