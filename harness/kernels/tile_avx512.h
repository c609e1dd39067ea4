/* tile_avx512.h: between tiles and lines. Included behind the target. */
#ifndef PTQ_KERNELS_TILE_AVX512_H
#define PTQ_KERNELS_TILE_AVX512_H
#include "kernels/tile.h"
#include <immintrin.h>

static inline __m512i bits_of(__m512i x, int mask)
{
    return _mm512_and_si512(x, _mm512_set1_epi8((char)mask));
}

/* Rows 4 k .. 4 k + 3 of 16 columns in z[k] to four lines, line s holding columns 4 s .. of 16
 * rows. Transposing 4 x 4 twice, it is its own inverse but for the order of the two steps. */
static inline void swap_lanes(__m512i z[4])
{
    const __m512i a = _mm512_shuffle_i32x4(z[0], z[1], 0x44),
                  b = _mm512_shuffle_i32x4(z[2], z[3], 0x44),
                  c = _mm512_shuffle_i32x4(z[0], z[1], 0xee),
                  d = _mm512_shuffle_i32x4(z[2], z[3], 0xee);
    z[0] = _mm512_shuffle_i32x4(a, b, 0x88);
    z[1] = _mm512_shuffle_i32x4(a, b, 0xdd);
    z[2] = _mm512_shuffle_i32x4(c, d, 0x88);
    z[3] = _mm512_shuffle_i32x4(c, d, 0xdd);
}

static inline void swap_dwords(__m512i z[4])
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (int k = 0; k < 4; k++)
        z[k] = _mm512_permutexvar_epi32(order, z[k]);
}
#endif
