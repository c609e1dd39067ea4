/* unpack_avx512.c: codes of 32 rows from a panel's stream, 16 rows a register. */
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

#include "kernels/unpack.h"

const struct ptq_kernel ptq_kernel_unpack_avx512 = {.op = PTQ_KOP_UNPACK,
                                                    .isa = PTQ_ISA_AVX512,
                                                    .needs = PTQ_CPU_AVX512,
                                                    .rank = 20,
                                                    .run.unpack = unpack};
