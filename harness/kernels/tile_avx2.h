/* tile_avx2.h: between tiles and lines, 8 rows (half a line) a register. Included behind the
 * target. */
#ifndef PTQ_KERNELS_TILE_AVX2_H
#define PTQ_KERNELS_TILE_AVX2_H
#include "kernels/tile.h"
#include "kernels/vec_avx2.h"

enum { LINE_PARTS = 2, PART_ROWS = 8 };

KINLINE veci bits_of(veci x, int mask)
{
    return x & _mm256_set1_epi8((char)mask);
}
/* Bits of a neighbour come in. The language's shift, as there is none of bytes and the intrinsics
 * want a literal where nothing is inlined. */
KINLINE veci bits_up(veci x, const int n)
{
    return (veci)((__v16hu)x << n);
}
KINLINE veci bits_down(veci x, const int n)
{
    return (veci)((__v16hu)x >> n);
}

/* Part h of a line: its rows PART_ROWS h .. */
KINLINE veci get_line(const uint8_t *lines, int line, int h)
{
    return _mm256_loadu_si256((const __m256i *)(lines + 64 * line + 32 * h));
}
KINLINE void put_line(uint8_t *lines, int line, int h, veci v)
{
    _mm256_storeu_si256((__m256i *)(lines + 64 * line + 32 * h), v);
}

/* Register k of the PART_ROWS rows from `row` on: rows k and k + 4 of them. */
KINLINE veci get_rows(const uint8_t *unit, int row, int k)
{
    const uint8_t *at = unit + 16 * (row + k);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)at)),
                                   _mm_loadu_si128((const __m128i *)(at + 64)), 1);
}
KINLINE void put_rows(uint8_t *unit, int row, int k, veci v)
{
    uint8_t *at = unit + 16 * (row + k);
    _mm_storeu_si128((__m128i *)at, _mm256_castsi256_si128(v));
    _mm_storeu_si128((__m128i *)(at + 64), _mm256_extracti128_si256(v, 1));
}

/* 4 x 4 numbers of 32 bits in each half: z[s] becomes columns 4 s .. of 8 rows. */
KINLINE void lines_of_rows(veci z[4])
{
    const veci a = _mm256_unpacklo_epi32(z[0], z[1]), b = _mm256_unpackhi_epi32(z[0], z[1]),
               c = _mm256_unpacklo_epi32(z[2], z[3]), d = _mm256_unpackhi_epi32(z[2], z[3]);
    z[0] = _mm256_unpacklo_epi64(a, c);
    z[1] = _mm256_unpackhi_epi64(a, c);
    z[2] = _mm256_unpacklo_epi64(b, d);
    z[3] = _mm256_unpackhi_epi64(b, d);
}

/* A transposition is its own inverse. */
KINLINE void rows_of_lines(veci z[4])
{
    lines_of_rows(z);
}
#endif
