/* pack_avx512.c: codes of 32 rows into a panel's stream, 16 rows a register. */
#include "kernels/kernel.h"
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

#include "kernels/pack.h"

const struct ptq_kernel ptq_kernel_pack_avx512 = {.op = PTQ_KOP_PACK,
                                                  .isa = PTQ_ISA_AVX512,
                                                  .needs = PTQ_CPU_AVX512,
                                                  .rank = 20,
                                                  .run.pack = pack};
