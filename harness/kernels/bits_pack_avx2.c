/* bits_pack_avx2.c: 32 fields at a time: neighbours are joined to 16, 32 and 64 bits, then the
 * bytes that hold 8 fields each are moved together. (pext does this in one step, but takes hundreds
 * of cycles on some processors.) */
#include "kernels/kernel.h"
#include <string.h>
#pragma GCC target("avx2,bmi2")
#include <immintrin.h>

extern const struct ptq_kernel ptq_kernel_bits_pack_scalar;

/* Byte i of a half is byte i % bits of its word i / bits. */
static __m256i gather_order(int bits)
{
    uint8_t order[16];
    for (int i = 0; i < 16; i++)
        order[i] = (uint8_t)(i < 2 * bits ? 8 * (i / bits) + i % bits : 0x80);
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)order));
}

/* 8 fields of at most 7 bits into the low bits of each word of 64. */
static inline __m256i join_fields(__m256i x, int bits)
{
    const __m256i by1 = _mm256_set1_epi16((short)(1 | 1 << (8 + bits))), /* bytes 1, 2^bits */
        by2 = _mm256_set1_epi32(1 | 1 << (16 + 2 * bits));
    x = _mm256_madd_epi16(_mm256_maddubs_epi16(by1, x), by2);
    const __m256i high = _mm256_sll_epi64(_mm256_srli_epi64(x, 32), _mm_cvtsi32_si128(4 * bits));
    return _mm256_or_si256(_mm256_blend_epi32(x, _mm256_setzero_si256(), 0xaa), high);
}

static void bits_pack(const uint8_t *fields, int64_t n, int bits, uint8_t *stream)
{
    if (bits == 8) {
        memcpy(stream, fields, (size_t)n);
        return;
    }
    const __m256i order = gather_order(bits);
    const uint8_t *const end = stream + (n * bits + 7) / 8;
    int64_t i = 0;
    /* 16 bytes while they fit, the next overwrites what is too much */
    for (; i + 32 <= n && end - stream >= 2 * bits + 16; i += 32, stream += 4 * bits) {
        const __m256i x = _mm256_shuffle_epi8(
            join_fields(_mm256_loadu_si256((const __m256i *)(fields + i)), bits), order);
        _mm_storeu_si128((__m128i *)stream, _mm256_castsi256_si128(x));
        _mm_storeu_si128((__m128i *)(stream + 2 * bits), _mm256_extracti128_si256(x, 1));
    }
    ptq_kernel_bits_pack_scalar.run.bits_pack(fields + i, n - i, bits, stream);
}

const struct ptq_kernel ptq_kernel_bits_pack_avx2 = {.op = PTQ_KOP_BITS_PACK,
                                                     .isa = PTQ_ISA_AVX2,
                                                     .needs = PTQ_CPU_AVX2,
                                                     .rank = 10,
                                                     .run.bits_pack = bits_pack};
