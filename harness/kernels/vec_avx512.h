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
KINLINE vecf vec_min(vecf a, vecf b)
{
    return _mm512_min_ps(a, b);
}
KINLINE vecf vec_max(vecf a, vecf b)
{
    return _mm512_max_ps(a, b);
}
KINLINE vecf vec_rint(vecf x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#endif
