/* pack_avx512.c: codes of 32 rows into a panel's stream: 256 columns to bytes, then 16 columns at a
 * time to lines. */
#include "kernels/kernel.h"
#include <string.h>
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,bmi2")
#include "kernels/tile_avx512.h"

/* n codes of a row to its places in a tile, 0 behind them up to whole units. */
static void row_to_tile(const uint16_t *codes, int64_t n, uint8_t *tile)
{
    int64_t j = 0;
    for (; j + 32 <= n; j += 32, tile += 2 * UNIT_BYTES) {
        const __m256i bytes = _mm512_cvtepi16_epi8(_mm512_loadu_si512(codes + j));
        _mm_prefetch((const char *)(codes + j + TILE_COLS), _MM_HINT_T0);
        _mm_storeu_si128((__m128i *)tile, _mm256_castsi256_si128(bytes));
        _mm_storeu_si128((__m128i *)(tile + UNIT_BYTES), _mm256_extracti128_si256(bytes, 1));
    }
    for (; j < n; j += 16, tile += UNIT_BYTES) {
        const __mmask16 some = (__mmask16)(n - j >= 16 ? 0xffff : (1 << (n - j)) - 1);
        _mm_storeu_si128((__m128i *)tile,
                         _mm256_cvtepi16_epi8(_mm256_maskz_loadu_epi16(some, codes + j)));
    }
}

static inline void put_line(uint8_t *out, int line, __m512i v)
{
    _mm512_storeu_si512(out + 64 * line, v);
}

static inline void lines_of(const uint8_t *unit, int row, __m512i z[4])
{
    for (int k = 0; k < 4; k++)
        z[k] = _mm512_loadu_si512(unit + 16 * (row + 4 * k));
    swap_dwords(z);
    swap_lanes(z);
}

static void put_8(const uint8_t *unit, uint8_t *out)
{
    for (int b = 0; b < 2; b++) {
        __m512i z[4];
        lines_of(unit, 16 * b, z);
        for (int s = 0; s < 4; s++)
            put_line(out, 2 * s + b, z[s]);
    }
}

/* Lines of bytes, row l in the low half and row l + 16 in the high one. */
static inline void nibble_lines(const uint8_t *unit, __m512i z[4])
{
    for (int k = 0; k < 4; k++)
        z[k] = _mm512_or_si512(_mm512_loadu_si512(unit + 64 * k),
                               _mm512_slli_epi16(_mm512_loadu_si512(unit + 64 * (k + 4)), 4));
    swap_dwords(z);
    swap_lanes(z);
}

static void put_4(const uint8_t *unit, uint8_t *out)
{
    __m512i z[4];
    nibble_lines(unit, z);
    for (int s = 0; s < 4; s++)
        put_line(out, s, z[s]);
}

/* The low 2 bits of both rows in bits 0-3. */
static inline __m512i low_bits(__m512i z)
{
    return _mm512_or_si512(bits_of(z, 3), bits_of(_mm512_srli_epi16(z, 2), 12));
}

static inline void put_low(const __m512i z[4], uint8_t *out)
{
    for (int h = 0; h < 2; h++)
        put_line(out, h,
                 _mm512_or_si512(low_bits(z[2 * h]), _mm512_slli_epi16(low_bits(z[2 * h + 1]), 4)));
}

static void put_2(const uint8_t *unit, uint8_t *out)
{
    __m512i z[4];
    nibble_lines(unit, z);
    put_low(z, out);
}

static void put_3(const uint8_t *unit, uint8_t *out)
{
    __m512i z[4], high = _mm512_setzero_si512();
    nibble_lines(unit, z);
    put_low(z, out);
    for (int s = 3; s >= 0; s--) {
        const __m512i h = _mm512_or_si512(bits_of(_mm512_srli_epi16(z[s], 2), 1),
                                          bits_of(_mm512_srli_epi16(z[s], 5), 2));
        high = _mm512_or_si512(_mm512_slli_epi16(high, 2), h); /* 6 bits at most before */
    }
    put_line(out, 2, high);
}

static void put_units(const uint8_t *tile, int64_t n, int bits, uint8_t *out)
{
    for (int64_t u = 0; u < n; u++, tile += UNIT_BYTES, out += unit_stride(bits))
        switch (bits) {
        case 8: put_8(tile, out); break;
        case 4: put_4(tile, out); break;
        case 3: put_3(tile, out); break;
        default: put_2(tile, out);
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

const struct ptq_kernel ptq_kernel_pack_avx512 = {.op = PTQ_KOP_PACK,
                                                  .isa = PTQ_ISA_AVX512,
                                                  .needs = PTQ_CPU_AVX512,
                                                  .rank = 20,
                                                  .run.pack = pack};
