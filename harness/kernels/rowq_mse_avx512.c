/* rowq_mse_avx512.c: the search of 80 grids, 16 candidates a register. */
#include "kernels/rowq.h"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,bmi2")
#include "kernels/rowq_avx512.h"

typedef __m512d vecd;
typedef __v8du vecu;

KINLINE vecd load_doubles(const double *p)
{
    return _mm512_loadu_pd(p);
}
KINLINE vecf narrow(vecd low, vecd high)
{
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high),
                              1);
}
KINLINE vecf float_of_bits(vecf x)
{
    return _mm512_cvtepi32_ps(_mm512_castps_si512(x));
}
KINLINE vecf bits_of_float(vecf x)
{
    return _mm512_castsi512_ps(_mm512_cvtps_epi32(x));
}
KINLINE vecf fraction(vecf x)
{
    return _mm512_abs_ps(_mm512_reduce_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static float least_lane(vecf x)
{
    return _mm512_reduce_min_ps(x);
}

#include "kernels/rowq_mse.h"

static void split(const float *w, int64_t n, float lo, float hi, struct halves *out)
{
    out->n_inner = out->n_outer = 0;
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 some = rowq_tail(n - i);
        const __m512 x = _mm512_maskz_loadu_ps(some, w + i);
        const __mmask16 in = _mm512_mask_cmp_ps_mask(
                            _mm512_mask_cmp_ps_mask(some, x, _mm512_set1_ps(lo), _CMP_GE_OQ), x,
                            _mm512_set1_ps(hi), _CMP_LE_OQ),
                        cut = some & (__mmask16)~in;
        _mm512_storeu_ps(out->inner + out->n_inner, _mm512_maskz_compress_ps(in, x));
        _mm512_storeu_ps(out->outer + out->n_outer, _mm512_maskz_compress_ps(cut, x));
        out->n_inner += __builtin_popcount(in);
        out->n_outer += __builtin_popcount(cut);
    }
    _mm512_storeu_ps(out->inner + out->n_inner, _mm512_setzero_ps());
    _mm512_storeu_ps(out->outer + out->n_outer, _mm512_setzero_ps());
}

/* Adds the powers of the errors of n weights, 8 * side at most, to the lanes. */
static inline __attribute__((always_inline)) __m512d add_errors(const float *w, int64_t n,
                                                                struct ptq_rowq_grid g, float maxq,
                                                                __m512d sum, int side)
{
    const __m256 scale = _mm256_set1_ps(g.scale), zero = _mm256_set1_ps(g.zero);
    __m512d e[8];
#pragma GCC unroll 8
    for (int k = 0; k < side; k++) {
        const int64_t left = n - 8 * k;
        const __mmask8 some = left > 0 ? (__mmask8)rowq_tail(left) : 0;
        const __m256 x = _mm256_maskz_loadu_ps(some, w + 8 * k),
                     r = _mm256_round_ps(_mm256_div_ps(x, scale),
                                         _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                     q = _mm256_min_ps(_mm256_max_ps(_mm256_add_ps(r, zero), _mm256_setzero_ps()),
                                       _mm256_set1_ps(maxq)),
                     what = _mm256_mul_ps(scale, _mm256_sub_ps(q, zero));
        e[k] = _mm512_sub_pd(_mm512_cvtps_pd(what), _mm512_cvtps_pd(x));
    }
    exact_powers(e, side); /* lanes behind the end: 0 of 0 */
#pragma GCC unroll 8
    for (int k = 0; k < side; k++)
        sum = _mm512_add_pd(sum, e[k]);
    return sum;
}

static double exact_error(const float *w, int64_t n, struct ptq_rowq_grid g, float maxq)
{
    __m512d sum = _mm512_setzero_pd();
    int64_t i = 0;
    for (; i + 64 <= n; i += 64)
        sum = add_errors(w + i, 64, g, maxq, sum, 8);
    for (; i < n; i += 32)
        sum = add_errors(w + i, n - i, g, maxq, sum, 4);
    double lanes[8], total = 0;
    _mm512_storeu_pd(lanes, sum);
    for (int l = 0; l < 8; l++)
        total += lanes[l];
    return total;
}

const struct ptq_kernel ptq_kernel_rowq_mse_avx512 = {.op = PTQ_KOP_ROWQ_MSE,
                                                      .isa = PTQ_ISA_AVX512,
                                                      .needs = PTQ_CPU_AVX512,
                                                      .rank = 20,
                                                      .run.rowq = mse};
