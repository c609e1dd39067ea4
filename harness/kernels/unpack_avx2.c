/* unpack_avx2.c: codes of 32 rows from a panel's stream: 16 columns of lines at a time to bytes, 8
 * rows (and those 16 behind them) at a time, then 256 columns to rows. */
#include "kernels/kernel.h"
#pragma GCC target("avx2,bmi2")
#include "kernels/tile_avx2.h"

static void tile_to_row(const uint8_t *tile, int64_t n, uint16_t *codes)
{
    int64_t j = 0;
    for (; j + 16 <= n; j += 16, tile += UNIT_BYTES)
        _mm256_storeu_si256((__m256i *)(codes + j),
                            _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)tile)));
    for (int64_t k = 0; j + k < n; k++)
        codes[j + k] = tile[k];
}

static inline void put_rows(uint8_t *unit, int row, __m256i v)
{
    _mm_storeu_si128((__m128i *)(unit + 16 * row), _mm256_castsi256_si128(v));
    _mm_storeu_si128((__m128i *)(unit + 16 * (row + 4)), _mm256_extracti128_si256(v, 1));
}

/* The half of a line that holds rows 8 h .. 8 h + 7. */
static inline __m256i half_of(const uint8_t *in, int line, int h)
{
    if (h == 0)
        _mm_prefetch((const char *)(in + 64 * line + 4096), _MM_HINT_T0);
    return _mm256_loadu_si256((const __m256i *)(in + 64 * line + 32 * h));
}

static void get_8(const uint8_t *in, int h, uint8_t *unit)
{
    for (int b = 0; b < 2; b++) {
        __m256i z[4];
        for (int s = 0; s < 4; s++)
            z[s] = half_of(in, 2 * s + b, h);
        transpose(z);
        for (int k = 0; k < 4; k++)
            put_rows(unit, 16 * b + 8 * h + k, z[k]);
    }
}

/* Bits 0-1 stay, bits 2-3 go to 4-5. */
static inline __m256i spread(__m256i z)
{
    return _mm256_or_si256(bits_of(z, 3), _mm256_slli_epi16(bits_of(z, 12), 2));
}

static inline void get_low(const uint8_t *in, int h, __m256i z[4])
{
    for (int p = 0; p < 2; p++) {
        const __m256i line = half_of(in, p, h);
        z[2 * p] = spread(line);
        z[2 * p + 1] = spread(_mm256_srli_epi16(line, 4));
    }
}

static inline void add_high(const uint8_t *in, int h, __m256i z[4])
{
    __m256i high = half_of(in, 2, h);
    for (int s = 0; s < 4; s++, high = _mm256_srli_epi16(high, 2))
        z[s] = _mm256_or_si256(z[s], _mm256_or_si256(_mm256_slli_epi16(bits_of(high, 1), 2),
                                                     _mm256_slli_epi16(bits_of(high, 2), 5)));
}

static void get_unit(const uint8_t *in, int h, int bits, uint8_t *unit)
{
    __m256i z[4];
    if (bits == 8) {
        get_8(in, h, unit);
        return;
    }
    for (int s = 0; s < 4; s++)
        z[s] = bits == 4 ? half_of(in, s, h) : _mm256_setzero_si256();
    if (bits < 4)
        get_low(in, h, z);
    if (bits == 3)
        add_high(in, h, z);
    transpose(z);
    for (int k = 0; k < 4; k++) {
        put_rows(unit, 8 * h + k, bits_of(z[k], 15));
        put_rows(unit, 16 + 8 * h + k, bits_of(_mm256_srli_epi16(z[k], 4), 15));
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
        for (int64_t u = 0; u < 2 * ((n + 15) / 16); u++)
            get_unit(in + (j / 16 + u / 2) * unit_stride(w->bits), (int)(u % 2), w->bits,
                     tile + u / 2 * UNIT_BYTES);
        for (int64_t r = 0; r < rows; r++)
            tile_to_row(tile + 16 * r, n, codes + (row0 + r) * ld + j);
    }
}

const struct ptq_kernel ptq_kernel_unpack_avx2 = {.op = PTQ_KOP_UNPACK,
                                                  .isa = PTQ_ISA_AVX2,
                                                  .needs = PTQ_CPU_AVX2,
                                                  .rank = 10,
                                                  .run.unpack = unpack};
