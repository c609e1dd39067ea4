/* rowq_mse_avx512.c: the search of 80 grids, 16 candidates side by side. */
#include "kernels/rowq.h"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,bmi2")
#include "kernels/rowq_avx512.h"
#include "kernels/rowq_power.h"

/* 16 candidates. */
struct grids {
    __m512 scale, zero, inverse;
};

static inline __m512 join(__m256 low, __m256 high)
{
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}

static struct grids grids_of(struct ptq_rowq_range r, float maxq, const double *factor)
{
    __m256 scale[2], low[2];
    for (int h = 0; h < 2; h++) {
        const __m512d p = _mm512_loadu_pd(factor + 8 * h),
                      lo = _mm512_mul_pd(p, _mm512_set1_pd(r.lo)),
                      hi = _mm512_mul_pd(p, _mm512_set1_pd(r.hi));
        scale[h] =
            _mm512_cvtpd_ps(_mm512_div_pd(_mm512_sub_pd(hi, lo), _mm512_set1_pd((double)maxq)));
        low[h] = _mm512_cvtpd_ps(_mm512_sub_pd(_mm512_setzero_pd(), lo));
    }
    struct grids g = {.scale = join(scale[0], scale[1])};
    g.zero = _mm512_roundscale_ps(_mm512_div_ps(join(low[0], low[1]), g.scale),
                                  _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    g.zero = _mm512_min_ps(g.zero, _mm512_set1_ps(maxq));
    g.inverse = _mm512_div_ps(_mm512_set1_ps(1), g.scale);
    return g;
}

/* |u|^2.4 for any u, of several at once: one alone is a chain of 60 cycles, and the processor's
 * window holds too few of them. */
enum { SIDE = 4 };

static inline void powers(__m512 u[SIDE])
{
    __m512 t[SIDE], y[SIDE], v[SIDE];
    for (int k = 0; k < SIDE; k++)
        t[k] = _mm512_fmadd_ps(u[k], u[k], _mm512_set1_ps(1e-30F));
    for (int k = 0; k < SIDE; k++)
        y[k] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(_mm512_castps_si512(t[k])), _mm512_set1_ps(0.2F),
                                _mm512_set1_ps(ptq_power_bits));
    for (int k = 0; k < SIDE; k++)
        y[k] = _mm512_castsi512_ps(_mm512_cvtps_epi32(y[k]));
    for (int k = 0; k < SIDE; k++) {
        const __m512 y2 = _mm512_mul_ps(y[k], y[k]);
        t[k] = _mm512_mul_ps(t[k], y2);
        v[k] = _mm512_mul_ps(t[k], _mm512_mul_ps(y2, y[k]));
    }
    for (int k = 0; k < SIDE; k++)
        u[k] = _mm512_fmadd_ps(v[k], _mm512_set1_ps(ptq_power_r3), _mm512_set1_ps(ptq_power_r2));
    for (int k = 0; k < SIDE; k++)
        u[k] = _mm512_fmadd_ps(v[k], u[k], _mm512_set1_ps(ptq_power_r1));
    for (int k = 0; k < SIDE; k++)
        u[k] = _mm512_fmadd_ps(v[k], u[k], _mm512_set1_ps(ptq_power_r0));
    for (int k = 0; k < SIDE; k++)
        u[k] = _mm512_mul_ps(_mm512_mul_ps(t[k], t[k]), u[k]);
}

/* Adds (u^2.4 - k0) / k4 of a weight that no candidate cuts. */
static inline __m512 inner_term(float w, __m512 inverse, __m512 sum)
{
    const __m512 t = _mm512_mul_ps(_mm512_set1_ps(w), inverse),
                 u = _mm512_abs_ps(
                     _mm512_reduce_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    __m512 c = _mm512_add_ps(u, _mm512_set1_ps(ptq_power_k3));
    c = _mm512_fmadd_ps(c, u, _mm512_set1_ps(ptq_power_k2));
    c = _mm512_fmadd_ps(c, u, _mm512_set1_ps(ptq_power_k1));
    return _mm512_fmadd_ps(c, u, sum);
}

/* Two sums, for the latency of the chain. Behind the weights lies 0 up to a multiple of 4, which
 * adds nothing; so with outer weights, up to a multiple of SIDE. */
static __m512 inner_sum(const float *w, int n, __m512 inverse)
{
    __m512 a = _mm512_setzero_ps(), b = a;
    for (int i = 0; i < n; i += 4) {
        a = inner_term(w[i], inverse, a);
        b = inner_term(w[i + 1], inverse, b);
        a = inner_term(w[i + 2], inverse, a);
        b = inner_term(w[i + 3], inverse, b);
    }
    return _mm512_fmadd_ps(_mm512_add_ps(a, b), _mm512_set1_ps(ptq_power_k4),
                           _mm512_set1_ps(ptq_power_k0 * (float)n));
}

/* n weights that some candidate cuts. */
static __m512 outer_sum(const float *w, int n, const struct grids *g, float maxq)
{
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < n; i += SIDE) {
        __m512 u[SIDE];
        for (int k = 0; k < SIDE; k++) {
            const __m512 t = _mm512_fmadd_ps(_mm512_set1_ps(w[i + k]), g->inverse, g->zero),
                         r = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
            u[k] = _mm512_sub_ps(
                t, _mm512_min_ps(_mm512_max_ps(r, _mm512_setzero_ps()), _mm512_set1_ps(maxq)));
        }
        powers(u);
        sum =
            _mm512_add_ps(sum, _mm512_add_ps(_mm512_add_ps(u[0], u[1]), _mm512_add_ps(u[2], u[3])));
    }
    return sum;
}

struct halves { /* of a block */
    float inner[PTQ_POWER_BLOCK + 16], outer[PTQ_POWER_BLOCK + 16];
    int n_inner, n_outer;
};

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

/* Estimates candidates i .. i + 15. */
static void estimate(struct ptq_rowq_search *s, int i)
{
    const struct grids g = grids_of(s->range, s->maxq, ptq_rowq_factor + i);
    const double smallest = ptq_rowq_factor[i + PTQ_POWER_STEPS - 1];
    const float lo = (float)(smallest * s->range.lo), hi = (float)(smallest * s->range.hi);
    __m512 sum = _mm512_setzero_ps();
    struct halves h;
    int64_t n_inner = 0;
    for (int64_t j = 0; j < s->q->n; j += PTQ_POWER_BLOCK) {
        const int64_t n = s->q->n - j < PTQ_POWER_BLOCK ? s->q->n - j : PTQ_POWER_BLOCK;
        split(s->q->w + j, n, lo, hi, &h);
        sum = _mm512_add_ps(sum, inner_sum(h.inner, h.n_inner, g.inverse));
        sum = _mm512_add_ps(sum, outer_sum(h.outer, h.n_outer, &g, s->maxq));
        n_inner += h.n_inner;
    }
    __m512 unit[SIDE] = {join(_mm512_cvtpd_ps(_mm512_loadu_pd(ptq_rowq_factor + i)),
                              _mm512_cvtpd_ps(_mm512_loadu_pd(ptq_rowq_factor + i + 8)))};
    powers(unit);
    const __m512 slack = _mm512_set1_ps(ptq_power_slack * (float)n_inner);
    const __m512 most =
                     _mm512_mul_ps(_mm512_add_ps(sum, slack),
                                   _mm512_mul_ps(unit[0], _mm512_set1_ps(1 + ptq_power_relative))),
                 least =
                     _mm512_mul_ps(_mm512_sub_ps(sum, slack),
                                   _mm512_mul_ps(unit[0], _mm512_set1_ps(1 - ptq_power_relative)));
    _mm512_storeu_ps(s->below + i, least);
    _mm512_storeu_ps(s->scale + i, g.scale);
    _mm512_storeu_ps(s->zero + i, g.zero);
    const float m = _mm512_reduce_min_ps(most);
    s->least = m < s->least ? m : s->least;
    s->n_steps = i + PTQ_POWER_STEPS;
}

/* ---- the definition's score, its 8 lanes in one register ---- */

/* side: how many at once, 8 at most. */
static inline __attribute__((always_inline)) void exact_powers(__m512d *e, int side)
{
    __m512d t[8], fifth_t[8], y[8];
#pragma GCC unroll 8
    for (int k = 0; k < side; k++) {
        t[k] = _mm512_add_pd(_mm512_mul_pd(e[k], e[k]), _mm512_set1_pd(1e-300));
        fifth_t[k] = _mm512_mul_pd(_mm512_set1_pd(0.2), t[k]);
        const __m512i u = _mm512_castpd_si512(t[k]);
        __m512i fifth = _mm512_add_epi64(_mm512_srli_epi64(u, 3), _mm512_srli_epi64(u, 4));
        fifth = _mm512_add_epi64(fifth, _mm512_srli_epi64(fifth, 4));
        fifth = _mm512_add_epi64(fifth, _mm512_srli_epi64(fifth, 8));
        fifth = _mm512_add_epi64(fifth, _mm512_srli_epi64(fifth, 16));
        y[k] = _mm512_castsi512_pd(_mm512_sub_epi64(_mm512_set1_epi64(PTQ_ROWQ_ROOT_BITS), fifth));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
#pragma GCC unroll 8
        for (int k = 0; k < side; k++) {
            const __m512d y2 = _mm512_mul_pd(y[k], y[k]),
                          y5 = _mm512_mul_pd(_mm512_mul_pd(y2, y2), y[k]);
            y[k] = _mm512_mul_pd(y[k],
                                 _mm512_sub_pd(_mm512_set1_pd(1.2), _mm512_mul_pd(fifth_t[k], y5)));
        }
#pragma GCC unroll 8
    for (int k = 0; k < side; k++) {
        const __m512d y2 = _mm512_mul_pd(y[k], y[k]);
        e[k] = _mm512_mul_pd(_mm512_mul_pd(t[k], t[k]), _mm512_mul_pd(y2, y2));
    }
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

static void mse(struct ptq_rowq *q)
{
    struct ptq_rowq_search s = {
        .q = q, .range = rowq_range(q->w, q->n), .maxq = (float)((1 << q->bits) - 1)};
    if (!ptq_rowq_ordinary(s.range)) {
        ptq_rowq_mse_plain(q);
        return;
    }
    s.least = INFINITY;
    for (int i = 0; i < PTQ_ROWQ_STEPS; i += PTQ_POWER_STEPS) {
        if (i && ptq_rowq_all_lose(&s, i))
            break;
        estimate(&s, i);
    }
    rowq_round(q, ptq_rowq_winner(&s, exact_error));
}

const struct ptq_kernel ptq_kernel_rowq_mse_avx512 = {.op = PTQ_KOP_ROWQ_MSE,
                                                      .isa = PTQ_ISA_AVX512,
                                                      .needs = PTQ_CPU_AVX512,
                                                      .rank = 20,
                                                      .run.rowq = mse};
