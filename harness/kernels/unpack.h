/* unpack.h: codes of 32 rows from a panel's stream: 16 columns of lines at a time to bytes, then
 * 256 columns to rows. Body of unpack_ISA.c, which has tile_ISA.h before and tile_to_row(). */
#ifndef PTQ_KERNELS_UNPACK_H
#define PTQ_KERNELS_UNPACK_H

KINLINE veci next_line(const uint8_t *in, int line, int h)
{
    if (h == 0)
        _mm_prefetch((const char *)(in + 64 * line + 4096), _MM_HINT_T0);
    return get_line(in, line, h);
}

KINLINE void get_8(const uint8_t *in, int h, uint8_t *unit)
{
    for (int b = 0; b < 2; b++) {
        veci z[4];
        for (int s = 0; s < 4; s++)
            z[s] = next_line(in, 2 * s + b, h);
        rows_of_lines(z);
        for (int k = 0; k < 4; k++)
            put_rows(unit, 16 * b + PART_ROWS * h, k, z[k]);
    }
}

/* Bits 0-1 stay, bits 2-3 go to 4-5. */
KINLINE veci spread(veci z)
{
    return bits_of(z, 3) | bits_up(bits_of(z, 12), 2);
}

KINLINE void get_low(const uint8_t *in, int h, veci z[4])
{
    for (int p = 0; p < 2; p++) {
        const veci line = next_line(in, p, h);
        z[2 * p] = spread(line);
        z[2 * p + 1] = spread(bits_down(line, 4));
    }
}

KINLINE void add_high(const uint8_t *in, int h, veci z[4])
{
    veci high = next_line(in, 2, h);
    for (int s = 0; s < 4; s++, high = bits_down(high, 2))
        z[s] |= bits_up(bits_of(high, 1), 2) | bits_up(bits_of(high, 2), 5);
}

KINLINE void get_unit(const uint8_t *in, int h, const int bits, uint8_t *unit)
{
    veci z[4];
    if (bits == 8) {
        get_8(in, h, unit);
        return;
    }
    for (int s = 0; s < 4 && bits == 4; s++)
        z[s] = next_line(in, s, h);
    if (bits < 4)
        get_low(in, h, z);
    if (bits == 3)
        add_high(in, h, z);
    rows_of_lines(z);
    for (int k = 0; k < 4; k++) {
        put_rows(unit, PART_ROWS * h, k, bits_of(z[k], 15));
        put_rows(unit, 16 + PART_ROWS * h, k, bits_of(bits_down(z[k], 4), 15));
    }
}

KINLINE void get_units_of(const uint8_t *in, int64_t n, const int bits, uint8_t *tile)
{
    for (int64_t u = 0; u < n; u++, tile += UNIT_BYTES, in += unit_stride(bits))
        for (int h = 0; h < LINE_PARTS; h++)
            get_unit(in, h, bits, tile);
}

static void get_units(const uint8_t *in, int64_t n, int bits, uint8_t *tile)
{
    switch (bits) {
    case 8: get_units_of(in, n, 8, tile); break;
    case 4: get_units_of(in, n, 4, tile); break;
    case 3: get_units_of(in, n, 3, tile); break;
    default: get_units_of(in, n, 2, tile);
    }
}

static void unpack(const struct ptq_kweight *w, const uint8_t *in, int64_t panel, uint16_t *codes,
                   int64_t ld)
{
    _Alignas(64) uint8_t tile[TILE_UNITS * UNIT_BYTES];
    const int64_t row0 = panel * PTQ_PANEL_ROWS,
                  rows = w->rows - row0 < PTQ_PANEL_ROWS ? w->rows - row0 : PTQ_PANEL_ROWS;
    for (int64_t j = 0; j < w->cols; j += TILE_COLS) {
        const int64_t n = w->cols - j < TILE_COLS ? w->cols - j : TILE_COLS;
        get_units(in + j / 16 * unit_stride(w->bits), (n + 15) / 16, w->bits, tile);
        for (int64_t r = 0; r < rows; r++)
            tile_to_row(tile + 16 * r, n, codes + (row0 + r) * ld + j);
    }
}
#endif
