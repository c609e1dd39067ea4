/* pack.h: codes of 32 rows into a panel's stream: 256 columns to bytes, then 16 columns at a time
 * to lines. Body of pack_ISA.c, which has tile_ISA.h before and row_to_tile(). */
#ifndef PTQ_KERNELS_PACK_H
#define PTQ_KERNELS_PACK_H
#include <string.h>

KINLINE void put_8(const uint8_t *unit, int h, uint8_t *out)
{
    for (int b = 0; b < 2; b++) {
        veci z[4];
        for (int k = 0; k < 4; k++)
            z[k] = get_rows(unit, 16 * b + PART_ROWS * h, k);
        lines_of_rows(z);
        for (int s = 0; s < 4; s++)
            put_line(out, 2 * s + b, h, z[s]);
    }
}

/* Lines of bytes, row l in the low half and row l + 16 in the high one. */
KINLINE void nibble_lines(const uint8_t *unit, int h, veci z[4])
{
    for (int k = 0; k < 4; k++)
        z[k] = get_rows(unit, PART_ROWS * h, k) | bits_up(get_rows(unit, 16 + PART_ROWS * h, k), 4);
    lines_of_rows(z);
}

/* The low 2 bits of both rows in bits 0-3. */
KINLINE veci low_bits(veci z)
{
    return bits_of(z, 3) | bits_of(bits_down(z, 2), 12);
}

KINLINE void put_low(const veci z[4], int h, uint8_t *out)
{
    for (int p = 0; p < 2; p++)
        put_line(out, p, h, low_bits(z[2 * p]) | bits_up(low_bits(z[2 * p + 1]), 4));
}

KINLINE void put_high(const veci z[4], int h, uint8_t *out)
{
    veci high = {0};
    for (int s = 3; s >= 0; s--) /* 6 bits at most before */
        high = bits_up(high, 2) | bits_of(bits_down(z[s], 2), 1) | bits_of(bits_down(z[s], 5), 2);
    put_line(out, 2, h, high);
}

KINLINE void put_unit(const uint8_t *unit, int h, const int bits, uint8_t *out)
{
    veci z[4];
    if (bits == 8) {
        put_8(unit, h, out);
        return;
    }
    nibble_lines(unit, h, z);
    for (int s = 0; s < 4 && bits == 4; s++)
        put_line(out, s, h, z[s]);
    if (bits < 4)
        put_low(z, h, out);
    if (bits == 3)
        put_high(z, h, out);
}

KINLINE void put_units_of(const uint8_t *tile, int64_t n, const int bits, uint8_t *out)
{
    for (int64_t u = 0; u < n; u++, tile += UNIT_BYTES, out += unit_stride(bits))
        for (int h = 0; h < LINE_PARTS; h++)
            put_unit(tile, h, bits, out);
}

static void put_units(const uint8_t *tile, int64_t n, int bits, uint8_t *out)
{
    switch (bits) {
    case 8: put_units_of(tile, n, 8, out); break;
    case 4: put_units_of(tile, n, 4, out); break;
    case 3: put_units_of(tile, n, 3, out); break;
    default: put_units_of(tile, n, 2, out);
    }
}

static void pack(const struct ptq_kweight *w, const uint16_t *codes, int64_t ld, int64_t panel,
                 uint8_t *out)
{
    _Alignas(64) uint8_t tile[TILE_UNITS * UNIT_BYTES];
    const int64_t row0 = panel * PTQ_PANEL_ROWS,
                  rows = w->rows - row0 < PTQ_PANEL_ROWS ? w->rows - row0 : PTQ_PANEL_ROWS;
    if (rows < PTQ_PANEL_ROWS)
        memset(tile, 0, sizeof tile);
    for (int64_t j = 0; j < w->cols; j += TILE_COLS) {
        const int64_t n = w->cols - j < TILE_COLS ? w->cols - j : TILE_COLS;
        for (int64_t r = 0; r < rows; r++)
            row_to_tile(codes + (row0 + r) * ld + j, n, tile + 16 * r);
        put_units(tile, (n + 15) / 16, w->bits, out + j / 16 * unit_stride(w->bits));
    }
}
#endif
