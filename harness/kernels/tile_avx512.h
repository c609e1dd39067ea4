/* tile_avx512.h: between tiles and lines, a whole line a register. Included behind the target. */
#ifndef PTQ_KERNELS_TILE_AVX512_H
#define PTQ_KERNELS_TILE_AVX512_H
#include "kernels/tile.h"
#include "kernels/vec_avx512.h"

enum { LINE_PARTS = 1, PART_ROWS = 16 };

KINLINE veci bits_of(veci x, int mask)
{
    return x & _mm512_set1_epi8((char)mask);
}
/* Bits of a neighbour come in. The language's shift, as there is none of bytes and the intrinsics
 * want a literal where nothing is inlined. */
KINLINE veci bits_up(veci x, const int n)
{
    return (veci)((__v32hu)x << n);
}
KINLINE veci bits_down(veci x, const int n)
{
    return (veci)((__v32hu)x >> n);
}

KINLINE veci get_line(const uint8_t *lines, int line, int h)
{
    (void)h;
    return _mm512_loadu_si512(lines + 64 * line);
}
KINLINE void put_line(uint8_t *lines, int line, int h, veci v)
{
    (void)h;
    _mm512_storeu_si512(lines + 64 * line, v);
}

/* Register k of the PART_ROWS rows from `row` on: rows 4 k .. 4 k + 3 of them. */
KINLINE veci get_rows(const uint8_t *unit, int row, int k)
{
    return _mm512_loadu_si512(unit + 16 * (row + 4 * k));
}
KINLINE void put_rows(uint8_t *unit, int row, int k, veci v)
{
    _mm512_storeu_si512(unit + 16 * (row + 4 * k), v);
}

KINLINE void swap_lanes(veci z[4])
{
    const veci a = _mm512_shuffle_i32x4(z[0], z[1], 0x44),
               b = _mm512_shuffle_i32x4(z[2], z[3], 0x44),
               c = _mm512_shuffle_i32x4(z[0], z[1], 0xee),
               d = _mm512_shuffle_i32x4(z[2], z[3], 0xee);
    z[0] = _mm512_shuffle_i32x4(a, b, 0x88);
    z[1] = _mm512_shuffle_i32x4(a, b, 0xdd);
    z[2] = _mm512_shuffle_i32x4(c, d, 0x88);
    z[3] = _mm512_shuffle_i32x4(c, d, 0xdd);
}

KINLINE void swap_dwords(veci z[4])
{
    const veci order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (int k = 0; k < 4; k++)
        z[k] = _mm512_permutexvar_epi32(order, z[k]);
}

/* z[s] becomes columns 4 s .. of 16 rows. Each step transposes 4 x 4 and is its own inverse. */
KINLINE void lines_of_rows(veci z[4])
{
    swap_dwords(z);
    swap_lanes(z);
}
KINLINE void rows_of_lines(veci z[4])
{
    swap_lanes(z);
    swap_dwords(z);
}
#endif
