/* unpack_avx2.c: codes of 32 rows from a panel's stream, 8 rows a register. */
#include "kernels/kernel.h"
#pragma GCC target("avx2,fma,bmi2")
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

#include "kernels/unpack.h"

const struct ptq_kernel ptq_kernel_unpack_avx2 = {.op = PTQ_KOP_UNPACK,
                                                  .isa = PTQ_ISA_AVX2,
                                                  .needs = PTQ_CPU_AVX2,
                                                  .rank = 10,
                                                  .run.unpack = unpack};
