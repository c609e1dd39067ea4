/* f32_avx2.h: 8 rows a register: what matmul_f32.h needs of AVX2. vpermps reads the low 3 bits of
 * an index: tables of 16 take two lookups and a choice, integers of 4 bits a mask instead. */
#ifndef PTQ_KERNELS_F32_AVX2_H
#define PTQ_KERNELS_F32_AVX2_H
#include "kernels/kernel.h"
#pragma GCC target("avx2,fma,f16c,bmi2")
#include "kernels/vec_avx2.h"

enum { TABLE_APART = 1 };

KINLINE vecf vec_half(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
}
KINLINE vecf vec_minus_bytes(const uint8_t *p)
{
    __m256i v = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_setzero_si256(), v));
}

KINLINE veci word_load(const uint8_t *p)
{
    return _mm256_loadu_si256((const void *)p);
}
/* Bits `mask` of every byte from a, the others from b. */
KINLINE veci word_merge(int mask, veci a, veci b)
{
    __m256i m = _mm256_set1_epi8((char)mask);
    return _mm256_or_si256(_mm256_and_si256(m, a), _mm256_andnot_si256(m, b));
}
/* Written as the language's shift: the intrinsics want a literal where nothing is inlined. */
KINLINE veci word_shift(veci v, const int right)
{
    return (veci)(right < 0 ? (__v8su)v << -right : (__v8su)v >> right);
}

/* Entries 0..7 and 8..15; 2 bits: the four twice, as an index holds a bit more. */
enum { SECOND_2BITS = 2 };
struct lut {
    vecf of[2];
};
KINLINE struct lut lut_of(const float table[16], const int bits)
{
    const __m256 t = _mm256_loadu_ps(table);
    if (bits == 2)
        return (struct lut){{_mm256_permute2f128_ps(t, t, 0)}};
    return (struct lut){{t, bits == 4 ? _mm256_loadu_ps(table + 8) : t}};
}
KINLINE struct lut lut_int(const int bits)
{
    const float codes[16] = {0, 1, 2, 3, 4, 5, 6, 7};
    return lut_of(codes, bits < 4 ? bits : 3);
}

/* From memory: the chains want the registers, and gcc would give them to the tables. */
KINLINE vecf lookup(const vecf *table, veci index)
{
    vecf value;
    __asm__("vpermps %2,%1,%0" : "=x"(value) : "x"(index), "m"(*table));
    return value;
}

/* The value of the code at bit `at` of each lane. */
KINLINE vecf word_value(veci word, const int at, const int b, const int bits, const bool table,
                        const struct lut *lut)
{
    (void)b;
    const veci v = word_shift(word, at);
    if (bits < 4)
        return _mm256_permutevar8x32_ps(lut->of[0], v);
    if (bits == 4 && table)
        return _mm256_blendv_ps(lookup(&lut->of[0], v), lookup(&lut->of[1], v),
                                _mm256_castsi256_ps(word_shift(word, at - 28)));
    if (at + bits == 32)
        return _mm256_cvtepi32_ps(v);
    return _mm256_cvtepi32_ps(_mm256_and_si256(v, _mm256_set1_epi32((1 << bits) - 1)));
}
#endif
