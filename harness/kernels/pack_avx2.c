/* pack_avx2.c: codes of 32 rows into a panel's stream, 8 rows a register. */
#include "kernels/kernel.h"
#pragma GCC target("avx2,fma,bmi2")
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

#include "kernels/pack.h"

const struct ptq_kernel ptq_kernel_pack_avx2 = {
    .op = PTQ_KOP_PACK, .isa = PTQ_ISA_AVX2, .needs = PTQ_CPU_AVX2, .rank = 10, .run.pack = pack};
