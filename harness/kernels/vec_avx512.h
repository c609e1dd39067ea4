/* vec_avx512.h: a register of AVX-512 as 16 floats, for code written once for both widths; sums and
 * products of registers are the language's. Included behind the target. */
#ifndef PTQ_KERNELS_VEC_AVX512_H
#define PTQ_KERNELS_VEC_AVX512_H
#include <immintrin.h>

#define KINLINE static inline __attribute__((always_inline))

enum { LANES = 16 };
typedef __m512 vecf;
typedef __m512i veci;

KINLINE vecf vec_zero(void)
{
    return _mm512_setzero_ps();
}
KINLINE vecf vec_all(float x)
{
    return _mm512_set1_ps(x);
}
KINLINE vecf vec_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
KINLINE void vec_store(float *p, vecf v)
{
    _mm512_storeu_ps(p, v);
}
KINLINE vecf vec_fma(vecf a, vecf b, vecf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
#endif
