/* f32_avx512.h: 16 rows a register: what matmul_f32.h needs of AVX-512. Codes become floats by
 * vpermps, which reads the low 4 bits of an index only: no mask. */
#ifndef PTQ_KERNELS_F32_AVX512_H
#define PTQ_KERNELS_F32_AVX512_H
#include "kernels/kernel.h"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma")
#include "kernels/vec_avx512.h"

enum { TABLE_APART = 0 /* integers are looked up as well */ };

KINLINE vecf vec_half(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}
KINLINE vecf vec_minus_bytes(const uint8_t *p)
{
    __m512i v = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_setzero_si512(), v));
}

KINLINE veci word_load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}
/* Bits `mask` of every byte from a, the others from b. */
KINLINE veci word_merge(int mask, veci a, veci b)
{
    return _mm512_ternarylogic_epi32(_mm512_set1_epi8((char)mask), a, b, 0xCA);
}
/* Written as the language's shift: the intrinsics want a literal where nothing is inlined. */
KINLINE veci word_shift(veci v, const int right)
{
    return (veci)(right < 0 ? (__v16su)v << -right : (__v16su)v >> right);
}

/* Values by the low 4 bits of an index, for the rows b = 0, 1 of a byte. Codes of 2 bits: the index
 * holds both rows', so that one shift serves two lookups. */
enum { SECOND_2BITS = 0 };
struct lut {
    vecf of[2];
};
KINLINE struct lut lut_of(const float table[16], const int bits)
{
    const __m512i i = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 t = _mm512_loadu_ps(table);
    if (bits == 4)
        return (struct lut){{t, t}};
    __m512i low = _mm512_and_si512(i, _mm512_set1_epi32(bits == 3 ? 7 : 3));
    vecf first = _mm512_permutexvar_ps(low, t);
    vecf second = bits == 3 ? first : _mm512_permutexvar_ps(_mm512_srli_epi32(i, 2), t);
    return (struct lut){{first, second}};
}
KINLINE struct lut lut_int(const int bits)
{
    const float codes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return lut_of(codes, bits < 4 ? bits : 4);
}

/* The value of the code at bit `at` of each lane. */
KINLINE vecf word_value(veci word, const int at, const int b, const int bits, const bool table,
                        const struct lut *lut)
{
    (void)table;
    veci v = word_shift(word, at);
    if (bits < 8)
        return _mm512_permutexvar_ps(v, lut->of[b]);
    return _mm512_cvtepi32_ps(at == 24 ? v : _mm512_and_si512(v, _mm512_set1_epi32(255)));
}
#endif
