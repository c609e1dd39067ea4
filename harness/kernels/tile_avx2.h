/* tile_avx2.h: between tiles and lines. Included behind the target. */
#ifndef PTQ_KERNELS_TILE_AVX2_H
#define PTQ_KERNELS_TILE_AVX2_H
#include "kernels/tile.h"
#include <immintrin.h>

static inline __m256i bits_of(__m256i x, int mask)
{
    return _mm256_and_si256(x, _mm256_set1_epi8((char)mask));
}

/* 4 x 4 numbers of 32 bits in each half; its own inverse. With row j of the low and row j + 4 of
 * the high half in z[j]: z[s] becomes columns 4 s .. of 8 rows. */
static inline void transpose(__m256i z[4])
{
    const __m256i a = _mm256_unpacklo_epi32(z[0], z[1]), b = _mm256_unpackhi_epi32(z[0], z[1]),
                  c = _mm256_unpacklo_epi32(z[2], z[3]), d = _mm256_unpackhi_epi32(z[2], z[3]);
    z[0] = _mm256_unpacklo_epi64(a, c);
    z[1] = _mm256_unpackhi_epi64(a, c);
    z[2] = _mm256_unpacklo_epi64(b, d);
    z[3] = _mm256_unpackhi_epi64(b, d);
}
#endif
