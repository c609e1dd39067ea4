/* unpack_avx512.c: codes of 32 rows from a panel's stream: 16 columns of lines at a time to bytes,
 * then 256 columns to rows. */
#include "kernels/kernel.h"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,bmi2")
#include "kernels/tile_avx512.h"

static void tile_to_row(const uint8_t *tile, int64_t n, uint16_t *codes)
{
    int64_t j = 0;
    for (; j + 32 <= n; j += 32, tile += 2 * UNIT_BYTES) {
        const __m256i low = _mm256_castsi128_si256(_mm_load_si128((const __m128i *)tile));
        _mm512_storeu_si512(codes + j,
                            _mm512_cvtepu8_epi16(_mm256_inserti128_si256(
                                low, _mm_load_si128((const __m128i *)(tile + UNIT_BYTES)), 1)));
    }
    for (; j < n; j += 16, tile += UNIT_BYTES) {
        const __mmask16 some = (__mmask16)(n - j >= 16 ? 0xffff : (1 << (n - j)) - 1);
        _mm256_mask_storeu_epi16(codes + j, some,
                                 _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)tile)));
    }
}

static inline __m512i line_of(const uint8_t *in, int line)
{
    _mm_prefetch((const char *)(in + 64 * line + 4096), _MM_HINT_T0);
    return _mm512_loadu_si512(in + 64 * line);
}

static void get_8(const uint8_t *in, uint8_t *unit)
{
    for (int b = 0; b < 2; b++) {
        __m512i z[4];
        for (int s = 0; s < 4; s++)
            z[s] = line_of(in, 2 * s + b);
        swap_lanes(z);
        swap_dwords(z);
        for (int k = 0; k < 4; k++)
            _mm512_storeu_si512(unit + 16 * (16 * b + 4 * k), z[k]);
    }
}

/* From lines of bytes, row l in the low half and row l + 16 in the high one. */
static inline void put_nibbles(__m512i z[4], uint8_t *unit)
{
    swap_lanes(z);
    swap_dwords(z);
    for (int k = 0; k < 4; k++) {
        _mm512_storeu_si512(unit + 64 * k, bits_of(z[k], 15));
        _mm512_storeu_si512(unit + 64 * (k + 4), bits_of(_mm512_srli_epi16(z[k], 4), 15));
    }
}

static void get_4(const uint8_t *in, uint8_t *unit)
{
    __m512i z[4];
    for (int s = 0; s < 4; s++)
        z[s] = line_of(in, s);
    put_nibbles(z, unit);
}

/* Bits 0-1 stay, bits 2-3 go to 4-5. */
static inline __m512i spread(__m512i z)
{
    return _mm512_or_si512(bits_of(z, 3), _mm512_slli_epi16(bits_of(z, 12), 2));
}

static inline void get_low(const uint8_t *in, __m512i z[4])
{
    for (int h = 0; h < 2; h++) {
        const __m512i line = line_of(in, h);
        z[2 * h] = spread(line);
        z[2 * h + 1] = spread(_mm512_srli_epi16(line, 4));
    }
}

static void get_2(const uint8_t *in, uint8_t *unit)
{
    __m512i z[4];
    get_low(in, z);
    put_nibbles(z, unit);
}

static void get_3(const uint8_t *in, uint8_t *unit)
{
    __m512i z[4], high = line_of(in, 2);
    get_low(in, z);
    for (int s = 0; s < 4; s++, high = _mm512_srli_epi16(high, 2))
        z[s] = _mm512_or_si512(z[s], _mm512_or_si512(_mm512_slli_epi16(bits_of(high, 1), 2),
                                                     _mm512_slli_epi16(bits_of(high, 2), 5)));
    put_nibbles(z, unit);
}

static void get_units(const uint8_t *in, int64_t n, int bits, uint8_t *tile)
{
    for (int64_t u = 0; u < n; u++, tile += UNIT_BYTES, in += unit_stride(bits))
        switch (bits) {
        case 8: get_8(in, tile); break;
        case 4: get_4(in, tile); break;
        case 3: get_3(in, tile); break;
        default: get_2(in, tile);
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

const struct ptq_kernel ptq_kernel_unpack_avx512 = {.op = PTQ_KOP_UNPACK,
                                                    .isa = PTQ_ISA_AVX512,
                                                    .needs = PTQ_CPU_AVX512,
                                                    .rank = 20,
                                                    .run.unpack = unpack};
