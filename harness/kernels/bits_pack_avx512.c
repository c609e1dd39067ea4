/* bits_pack_avx512.c: 64 fields at a time: neighbours are joined to 16, 32 and 64 bits, then the
 * bytes that hold 8 fields each are moved together. */
#include "kernels/kernel.h"
#include <string.h>
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,bmi2")
#include <immintrin.h>

/* Byte i of the result is byte i % bits of word i / bits. */
static __m512i gather_order(int bits)
{
    uint8_t order[64] = {0};
    for (int i = 0; i < 8 * bits; i++)
        order[i] = (uint8_t)(8 * (i / bits) + i % bits);
    return _mm512_loadu_si512(order);
}

/* 8 fields of at most 7 bits into the low bits of each word of 64. */
static inline __m512i join_fields(__m512i x, int bits)
{
    const __m512i by1 = _mm512_set1_epi16((short)(1 | 1 << (8 + bits))), /* bytes 1, 2^bits */
        by2 = _mm512_set1_epi32(1 | 1 << (16 + 2 * bits));
    x = _mm512_madd_epi16(_mm512_maddubs_epi16(by1, x), by2);
    const __m512i high = _mm512_sll_epi64(_mm512_srli_epi64(x, 32), _mm_cvtsi32_si128(4 * bits));
    return _mm512_or_si512(_mm512_maskz_mov_epi32(0x5555, x), high);
}

static void bits_pack(const uint8_t *fields, int64_t n, int bits, uint8_t *stream)
{
    if (bits == 8) {
        memcpy(stream, fields, (size_t)n);
        return;
    }
    const __m512i order = gather_order(bits);
    const uint8_t *const end = stream + (n * bits + 7) / 8;
    int64_t i = 0;
    /* whole registers while they fit, the next overwrites what is too much */
    for (; i + 64 <= n && end - stream >= 64; i += 64, stream += 8 * bits)
        _mm512_storeu_si512(stream, _mm512_permutexvar_epi8(
                                        order, join_fields(_mm512_loadu_si512(fields + i), bits)));
    for (; i < n; i += 64, stream += 8 * bits) {
        const __mmask64 some = _bzhi_u64(~UINT64_C(0), (unsigned)(n - i < 64 ? n - i : 64)),
                        out = _bzhi_u64(
                            ~UINT64_C(0),
                            (unsigned)(end - stream < 8 * bits ? end - stream : 8 * bits));
        const __m512i x = join_fields(_mm512_maskz_loadu_epi8(some, fields + i), bits);
        _mm512_mask_storeu_epi8(stream, out, _mm512_permutexvar_epi8(order, x));
    }
}

const struct ptq_kernel ptq_kernel_bits_pack_avx512 = {.op = PTQ_KOP_BITS_PACK,
                                                       .isa = PTQ_ISA_AVX512,
                                                       .needs =
                                                           PTQ_CPU_AVX512 | PTQ_CPU_AVX512_VBMI,
                                                       .rank = 20,
                                                       .run.bits_pack = bits_pack};
