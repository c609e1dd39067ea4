/* bits_unpack_avx512.c: 64 fields at a time: the bytes of 8 fields to a word of 64 bits each, out
 * of which every byte takes 8 bits at its field's place. */
#include "kernels/kernel.h"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,bmi2")
#include <immintrin.h>

/* Byte i % 8 of word i / 8 is byte i / 8 bits + i % 8 of the stream; those past the field's bits
 * may wrap, they are masked. */
static __m512i spread_order(int bits)
{
    uint8_t order[64];
    for (int i = 0; i < 64; i++)
        order[i] = (uint8_t)((i / 8 * bits + i % 8) & 63);
    return _mm512_loadu_si512(order);
}

static inline __m512i take_fields(__m512i stream, __m512i order, __m512i shift, __m512i mask)
{
    return _mm512_and_si512(
        _mm512_multishift_epi64_epi8(shift, _mm512_permutexvar_epi8(order, stream)), mask);
}

static void bits_unpack(const uint8_t *stream, int64_t n, int bits, uint8_t *fields)
{
    const __m512i order = spread_order(bits), mask = _mm512_set1_epi8((char)((1 << bits) - 1));
    uint64_t places = 0;
    for (int i = 0; i < 8; i++)
        places |= (uint64_t)(i * bits) << 8 * i;
    const __m512i shift = _mm512_set1_epi64((long long)places);
    const uint8_t *const end = stream + (n * bits + 7) / 8;
    int64_t i = 0;
    for (; i + 64 <= n && end - stream >= 64; i += 64, stream += 8 * bits)
        _mm512_storeu_si512(fields + i,
                            take_fields(_mm512_loadu_si512(stream), order, shift, mask));
    for (; i < n; i += 64, stream += 8 * bits) {
        const __mmask64 some = _bzhi_u64(~UINT64_C(0),
                                         (unsigned)(end - stream < 64 ? end - stream : 64)),
                        out = _bzhi_u64(~UINT64_C(0), (unsigned)(n - i < 64 ? n - i : 64));
        const __m512i x = _mm512_maskz_loadu_epi8(some, stream);
        _mm512_mask_storeu_epi8(fields + i, out, take_fields(x, order, shift, mask));
    }
}

const struct ptq_kernel ptq_kernel_bits_unpack_avx512 = {.op = PTQ_KOP_BITS_UNPACK,
                                                         .isa = PTQ_ISA_AVX512,
                                                         .needs =
                                                             PTQ_CPU_AVX512 | PTQ_CPU_AVX512_VBMI,
                                                         .rank = 20,
                                                         .run.bits_unpack = bits_unpack};
