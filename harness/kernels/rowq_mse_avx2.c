/* rowq_mse_avx2.c: the search of 80 grids, 8 candidates a register. */
#include "kernels/rowq.h"
#pragma GCC target("avx2,fma,bmi2")
#include "kernels/rowq_avx2.h"

typedef __m256d vecd;
typedef __v4du vecu;

KINLINE vecd load_doubles(const double *p)
{
    return _mm256_loadu_pd(p);
}
KINLINE vecf narrow(vecd low, vecd high)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low)), _mm256_cvtpd_ps(high),
                                1);
}
KINLINE vecf float_of_bits(vecf x)
{
    return _mm256_cvtepi32_ps(_mm256_castps_si256(x));
}
KINLINE vecf bits_of_float(vecf x)
{
    return _mm256_castsi256_ps(_mm256_cvtps_epi32(x));
}
KINLINE vecf fraction(vecf x)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0F), x - vec_rint(x));
}
static float least_lane(__m256 x)
{
    float lanes[8];
    _mm256_storeu_ps(lanes, x);
    for (int l = 1; l < 8; l++)
        lanes[0] = lanes[l] < lanes[0] ? lanes[l] : lanes[0];
    return lanes[0];
}

#include "kernels/rowq_mse.h"

/* Without branches: a weight goes to both places, and counts in one. */
static void split(const float *w, int64_t n, float lo, float hi, struct halves *out)
{
    int n_inner = 0, n_outer = 0;
    for (int64_t i = 0; i < n; i++) {
        const int in = (w[i] >= lo) & (w[i] <= hi);
        out->inner[n_inner] = out->outer[n_outer] = w[i];
        n_inner += in;
        n_outer += 1 - in;
    }
    out->outer[n_outer] = 0;
    out->n_inner = n_inner;
    out->n_outer = n_outer;
}

/* Errors of 8 weights. */
static inline void errors_of(const float *w, struct ptq_rowq_grid g, float maxq, __m256d e[2])
{
    const __m256 scale = _mm256_set1_ps(g.scale), zero = _mm256_set1_ps(g.zero),
                 x = _mm256_loadu_ps(w), q = rowq_codes(x, scale, zero, _mm256_set1_ps(maxq)),
                 what = _mm256_mul_ps(scale, _mm256_sub_ps(q, zero));
    e[0] = _mm256_sub_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(what)),
                         _mm256_cvtps_pd(_mm256_castps256_ps128(x)));
    e[1] = _mm256_sub_pd(_mm256_cvtps_pd(_mm256_extractf128_ps(what, 1)),
                         _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
}

static double exact_error(const float *w, int64_t n, struct ptq_rowq_grid g, float maxq)
{
    vecd low = _mm256_setzero_pd(), high = low, e[SIDE];
    for (int64_t i = 0; i < n; i += 16) {
        float end[16] = {0}; /* lanes behind the end: 0 of 0 */
        const float *x = w + i;
        if (n - i < 16)
            x = memcpy(end, x, (size_t)(n - i) * sizeof *x);
        errors_of(x, g, maxq, e);
        errors_of(x + 8, g, maxq, e + 2);
        exact_powers(e, SIDE);
        low = _mm256_add_pd(_mm256_add_pd(low, e[0]), e[2]);
        high = _mm256_add_pd(_mm256_add_pd(high, e[1]), e[3]);
    }
    double lanes[8], total = 0;
    _mm256_storeu_pd(lanes, low);
    _mm256_storeu_pd(lanes + 4, high);
    for (int l = 0; l < 8; l++)
        total += lanes[l];
    return total;
}

const struct ptq_kernel ptq_kernel_rowq_mse_avx2 = {.op = PTQ_KOP_ROWQ_MSE,
                                                    .isa = PTQ_ISA_AVX2,
                                                    .needs = PTQ_CPU_AVX2,
                                                    .rank = 10,
                                                    .run.rowq = mse};
