/* pack_avx2.c: codes of 32 rows into a panel's stream: 256 columns to bytes, then 16 columns at a
 * time to lines, 8 rows (and those 16 behind them) at a time. */
#include "kernels/kernel.h"
#include <string.h>
#pragma GCC target("avx2,bmi2")
#include "kernels/tile_avx2.h"

static inline void put_bytes(const uint16_t *codes, uint8_t *tile)
{
    const __m256i low = _mm256_loadu_si256((const __m256i *)codes),
                  high = _mm256_loadu_si256((const __m256i *)(codes + 16)),
                  bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(low, high), 0xd8);
    _mm_storeu_si128((__m128i *)tile, _mm256_castsi256_si128(bytes));
    _mm_storeu_si128((__m128i *)(tile + UNIT_BYTES), _mm256_extracti128_si256(bytes, 1));
}

/* n codes of a row to its places in a tile, 0 behind them up to whole units. */
static void row_to_tile(const uint16_t *codes, int64_t n, uint8_t *tile)
{
    int64_t j = 0;
    for (; j + 32 <= n; j += 32, tile += 2 * UNIT_BYTES) {
        _mm_prefetch((const char *)(codes + j + TILE_COLS), _MM_HINT_T0);
        put_bytes(codes + j, tile);
    }
    for (; j < n; j += 16, tile += UNIT_BYTES)
        for (int64_t k = 0; k < 16; k++)
            tile[k] = (uint8_t)(j + k < n ? codes[j + k] : 0);
}

static inline __m256i rows_of(const uint8_t *unit, int row)
{
    return _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(unit + 16 * row))),
        _mm_loadu_si128((const __m128i *)(unit + 16 * (row + 4))), 1);
}

/* The half of a line that holds rows 8 h .. 8 h + 7. */
static inline void put_half(uint8_t *out, int line, int h, __m256i v)
{
    _mm256_storeu_si256((__m256i *)(out + 64 * line + 32 * h), v);
}

static void put_8(const uint8_t *unit, int h, uint8_t *out)
{
    for (int b = 0; b < 2; b++) {
        __m256i z[4];
        for (int k = 0; k < 4; k++)
            z[k] = rows_of(unit, 16 * b + 8 * h + k);
        transpose(z);
        for (int s = 0; s < 4; s++)
            put_half(out, 2 * s + b, h, z[s]);
    }
}

/* Lines of bytes, row l in the low half and row l + 16 in the high one. */
static inline void nibble_lines(const uint8_t *unit, int h, __m256i z[4])
{
    for (int k = 0; k < 4; k++)
        z[k] = _mm256_or_si256(rows_of(unit, 8 * h + k),
                               _mm256_slli_epi16(rows_of(unit, 16 + 8 * h + k), 4));
    transpose(z);
}

/* The low 2 bits of both rows in bits 0-3. */
static inline __m256i low_bits(__m256i z)
{
    return _mm256_or_si256(bits_of(z, 3), bits_of(_mm256_srli_epi16(z, 2), 12));
}

static inline void put_low(const __m256i z[4], int h, uint8_t *out)
{
    for (int p = 0; p < 2; p++)
        put_half(out, p, h,
                 _mm256_or_si256(low_bits(z[2 * p]), _mm256_slli_epi16(low_bits(z[2 * p + 1]), 4)));
}

static inline void put_high(const __m256i z[4], int h, uint8_t *out)
{
    __m256i high = _mm256_setzero_si256();
    for (int s = 3; s >= 0; s--) {
        const __m256i both = _mm256_or_si256(bits_of(_mm256_srli_epi16(z[s], 2), 1),
                                             bits_of(_mm256_srli_epi16(z[s], 5), 2));
        high = _mm256_or_si256(_mm256_slli_epi16(high, 2), both); /* 6 bits at most before */
    }
    put_half(out, 2, h, high);
}

static void put_unit(const uint8_t *unit, int h, int bits, uint8_t *out)
{
    __m256i z[4];
    if (bits == 8) {
        put_8(unit, h, out);
        return;
    }
    nibble_lines(unit, h, z);
    for (int s = 0; s < 4 && bits == 4; s++)
        put_half(out, s, h, z[s]);
    if (bits < 4)
        put_low(z, h, out);
    if (bits == 3)
        put_high(z, h, out);
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
        for (int64_t u = 0; u < 2 * ((n + 15) / 16); u++)
            put_unit(tile + u / 2 * UNIT_BYTES, (int)(u % 2), w->bits,
                     out + (j / 16 + u / 2) * unit_stride(w->bits));
    }
}

const struct ptq_kernel ptq_kernel_pack_avx2 = {
    .op = PTQ_KOP_PACK, .isa = PTQ_ISA_AVX2, .needs = PTQ_CPU_AVX2, .rank = 10, .run.pack = pack};
