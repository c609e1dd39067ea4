/* bits_unpack_avx2.c: 32 fields at a time: the two bytes a field may lie in to 16 bits, then the
 * field to their upper byte by a product with a power of 2. */
#include "kernels/kernel.h"
#include <string.h>
#pragma GCC target("avx2,bmi2")
#include <immintrin.h>

extern const struct ptq_kernel ptq_kernel_bits_unpack_scalar;

struct places { /* of 16 fields in 2 bits bytes */
    __m256i order, power, mask;
};

static struct places places_of(int bits)
{
    uint8_t order[32];
    uint16_t power[16];
    for (int i = 0; i < 16; i++) {
        order[2 * i] = (uint8_t)(i * bits / 8);
        order[2 * i + 1] = (uint8_t)(i * bits / 8 + 1);
        power[i] = (uint16_t)(1 << (8 - i * bits % 8));
    }
    return (struct places){_mm256_loadu_si256((const __m256i *)order),
                           _mm256_loadu_si256((const __m256i *)power),
                           _mm256_set1_epi8((char)((1 << bits) - 1))};
}

static inline __m256i fields_16(const uint8_t *stream, const struct places *p)
{
    const __m256i x = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)stream));
    return _mm256_srli_epi16(_mm256_mullo_epi16(_mm256_shuffle_epi8(x, p->order), p->power), 8);
}

static void bits_unpack(const uint8_t *stream, int64_t n, int bits, uint8_t *fields)
{
    if (bits == 8) {
        memcpy(fields, stream, (size_t)n);
        return;
    }
    const struct places p = places_of(bits);
    const uint8_t *const end = stream + (n * bits + 7) / 8;
    int64_t i = 0;
    for (; i + 32 <= n && end - stream >= 2 * bits + 16; i += 32, stream += 4 * bits) {
        const __m256i x =
            _mm256_packus_epi16(fields_16(stream, &p), fields_16(stream + 2 * bits, &p));
        _mm256_storeu_si256((__m256i *)(fields + i),
                            _mm256_and_si256(_mm256_permute4x64_epi64(x, 0xd8), p.mask));
    }
    ptq_kernel_bits_unpack_scalar.run.bits_unpack(stream, n - i, bits, fields + i);
}

const struct ptq_kernel ptq_kernel_bits_unpack_avx2 = {.op = PTQ_KOP_BITS_UNPACK,
                                                       .isa = PTQ_ISA_AVX2,
                                                       .needs = PTQ_CPU_AVX2,
                                                       .rank = 10,
                                                       .run.bits_unpack = bits_unpack};
