/* rowq_mse_avx2.c: the search of 80 grids, 8 candidates side by side, 16 to a split of the weights.
 */
#include "kernels/rowq.h"
#pragma GCC target("avx2,fma,bmi2")
#include "kernels/rowq_avx2.h"
#include "kernels/rowq_power.h"

/* 8 candidates. */
struct grids {
    __m256 scale, zero, inverse;
};

static inline __m256 narrow(__m256d low, __m256d high)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low)), _mm256_cvtpd_ps(high),
                                1);
}

static struct grids grids_of(struct ptq_rowq_range r, float maxq, const double *factor)
{
    __m256d scale[2], low[2];
    for (int h = 0; h < 2; h++) {
        const __m256d p = _mm256_loadu_pd(factor + 4 * h),
                      lo = _mm256_mul_pd(p, _mm256_set1_pd(r.lo)),
                      hi = _mm256_mul_pd(p, _mm256_set1_pd(r.hi));
        scale[h] = _mm256_div_pd(_mm256_sub_pd(hi, lo), _mm256_set1_pd((double)maxq));
        low[h] = _mm256_sub_pd(_mm256_setzero_pd(), lo);
    }
    struct grids g = {.scale = narrow(scale[0], scale[1])};
    g.zero = _mm256_min_ps(rowq_rint(_mm256_div_ps(narrow(low[0], low[1]), g.scale)),
                           _mm256_set1_ps(maxq));
    g.inverse = _mm256_div_ps(_mm256_set1_ps(1), g.scale);
    return g;
}

/* |u|^2.4 for any u, of several at once: one alone is a chain of 60 cycles, and the processor's
 * window holds too few of them. */
enum { SIDE = 4 };

static inline void powers(__m256 u[SIDE])
{
    __m256 t[SIDE], y[SIDE], v[SIDE];
    for (int k = 0; k < SIDE; k++)
        t[k] = _mm256_fmadd_ps(u[k], u[k], _mm256_set1_ps(1e-30F));
    for (int k = 0; k < SIDE; k++)
        y[k] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(_mm256_castps_si256(t[k])), _mm256_set1_ps(0.2F),
                                _mm256_set1_ps(ptq_power_bits));
    for (int k = 0; k < SIDE; k++) {
        y[k] = _mm256_castsi256_ps(_mm256_cvtps_epi32(y[k]));
        const __m256 y2 = _mm256_mul_ps(y[k], y[k]);
        t[k] = _mm256_mul_ps(t[k], y2);
        v[k] = _mm256_mul_ps(t[k], _mm256_mul_ps(y2, y[k]));
    }
    for (int k = 0; k < SIDE; k++)
        u[k] = _mm256_fmadd_ps(v[k], _mm256_set1_ps(ptq_power_r3), _mm256_set1_ps(ptq_power_r2));
    for (int k = 0; k < SIDE; k++)
        u[k] = _mm256_fmadd_ps(v[k], u[k], _mm256_set1_ps(ptq_power_r1));
    for (int k = 0; k < SIDE; k++)
        u[k] = _mm256_fmadd_ps(v[k], u[k], _mm256_set1_ps(ptq_power_r0));
    for (int k = 0; k < SIDE; k++)
        u[k] = _mm256_mul_ps(_mm256_mul_ps(t[k], t[k]), u[k]);
}

/* Adds (u^2.4 - k0) / k4 of a weight that no candidate cuts. */
static inline __m256 inner_term(__m256 w, __m256 inverse, __m256 sum)
{
    const __m256 t = _mm256_mul_ps(w, inverse),
                 u = _mm256_andnot_ps(_mm256_set1_ps(-0.0F), _mm256_sub_ps(t, rowq_rint(t)));
    __m256 c = _mm256_add_ps(u, _mm256_set1_ps(ptq_power_k3));
    c = _mm256_fmadd_ps(c, u, _mm256_set1_ps(ptq_power_k2));
    c = _mm256_fmadd_ps(c, u, _mm256_set1_ps(ptq_power_k1));
    return _mm256_fmadd_ps(c, u, sum);
}

static void inner_sums(const float *w, int n, const struct grids g[2], __m256 sum[2])
{
    __m256 a = _mm256_setzero_ps(), b = a;
    for (int i = 0; i < n; i++) {
        const __m256 x = _mm256_broadcast_ss(w + i);
        a = inner_term(x, g[0].inverse, a);
        b = inner_term(x, g[1].inverse, b);
    }
    const __m256 k0 = _mm256_set1_ps(ptq_power_k0 * (float)n), k4 = _mm256_set1_ps(ptq_power_k4);
    sum[0] = _mm256_add_ps(sum[0], _mm256_fmadd_ps(a, k4, k0));
    sum[1] = _mm256_add_ps(sum[1], _mm256_fmadd_ps(b, k4, k0));
}

static inline __m256 cut_error(__m256 w, const struct grids *g, __m256 maxq)
{
    const __m256 t = _mm256_fmadd_ps(w, g->inverse, g->zero);
    return _mm256_sub_ps(t, _mm256_min_ps(_mm256_max_ps(rowq_rint(t), _mm256_setzero_ps()), maxq));
}

/* n weights that some candidate cuts, 0 behind them up to a multiple of 2: 0 adds nothing. */
static void outer_sums(const float *w, int n, const struct grids g[2], float maxq, __m256 sum[2])
{
    for (int i = 0; i < n; i += 2) {
        const __m256 most = _mm256_set1_ps(maxq), x = _mm256_broadcast_ss(w + i),
                     next = _mm256_broadcast_ss(w + i + 1);
        __m256 u[SIDE] = {cut_error(x, &g[0], most), cut_error(x, &g[1], most),
                          cut_error(next, &g[0], most), cut_error(next, &g[1], most)};
        powers(u);
        sum[0] = _mm256_add_ps(sum[0], _mm256_add_ps(u[0], u[2]));
        sum[1] = _mm256_add_ps(sum[1], _mm256_add_ps(u[1], u[3]));
    }
}

struct halves { /* of a block */
    float inner[PTQ_POWER_BLOCK + 1], outer[PTQ_POWER_BLOCK + 1];
    int n_inner, n_outer;
};

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

static float least_lane(__m256 x)
{
    float lanes[8];
    _mm256_storeu_ps(lanes, x);
    for (int l = 1; l < 8; l++)
        lanes[0] = lanes[l] < lanes[0] ? lanes[l] : lanes[0];
    return lanes[0];
}

/* Keeps what is known of candidates i .. i + 7. */
static void keep(struct ptq_rowq_search *s, int i, const struct grids *g, __m256 sum,
                 int64_t n_inner)
{
    const __m256 slack = _mm256_set1_ps(ptq_power_slack * (float)n_inner);
    __m256 unit[SIDE] = {
        narrow(_mm256_loadu_pd(ptq_rowq_factor + i), _mm256_loadu_pd(ptq_rowq_factor + i + 4))};
    powers(unit);
    const __m256 most = _mm256_mul_ps(_mm256_add_ps(sum, slack), unit[0]),
                 least = _mm256_mul_ps(_mm256_sub_ps(sum, slack), unit[0]);
    _mm256_storeu_ps(s->below + i, _mm256_mul_ps(least, _mm256_set1_ps(1 - ptq_power_relative)));
    _mm256_storeu_ps(s->scale + i, g->scale);
    _mm256_storeu_ps(s->zero + i, g->zero);
    const float m = least_lane(most) * (1 + ptq_power_relative);
    s->least = m < s->least ? m : s->least;
}

/* Estimates candidates i .. i + 15. */
static void estimate(struct ptq_rowq_search *s, int i)
{
    const struct grids g[2] = {grids_of(s->range, s->maxq, ptq_rowq_factor + i),
                               grids_of(s->range, s->maxq, ptq_rowq_factor + i + 8)};
    const double smallest = ptq_rowq_factor[i + PTQ_POWER_STEPS - 1];
    const float lo = (float)(smallest * s->range.lo), hi = (float)(smallest * s->range.hi);
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    struct halves h;
    int64_t n_inner = 0;
    for (int64_t j = 0; j < s->q->n; j += PTQ_POWER_BLOCK) {
        const int64_t n = s->q->n - j < PTQ_POWER_BLOCK ? s->q->n - j : PTQ_POWER_BLOCK;
        split(s->q->w + j, n, lo, hi, &h);
        inner_sums(h.inner, h.n_inner, g, sum);
        outer_sums(h.outer, h.n_outer, g, s->maxq, sum);
        n_inner += h.n_inner;
    }
    keep(s, i, &g[0], sum[0], n_inner);
    keep(s, i + 8, &g[1], sum[1], n_inner);
    s->n_steps = i + PTQ_POWER_STEPS;
}

/* ---- the definition's score, its 8 lanes in two registers ---- */

static inline void exact_powers(__m256d e[SIDE])
{
    __m256d t[SIDE], fifth_t[SIDE], y[SIDE];
    for (int k = 0; k < SIDE; k++) {
        t[k] = _mm256_add_pd(_mm256_mul_pd(e[k], e[k]), _mm256_set1_pd(1e-300));
        fifth_t[k] = _mm256_mul_pd(_mm256_set1_pd(0.2), t[k]);
        const __m256i u = _mm256_castpd_si256(t[k]);
        __m256i fifth = _mm256_add_epi64(_mm256_srli_epi64(u, 3), _mm256_srli_epi64(u, 4));
        fifth = _mm256_add_epi64(fifth, _mm256_srli_epi64(fifth, 4));
        fifth = _mm256_add_epi64(fifth, _mm256_srli_epi64(fifth, 8));
        fifth = _mm256_add_epi64(fifth, _mm256_srli_epi64(fifth, 16));
        y[k] = _mm256_castsi256_pd(_mm256_sub_epi64(_mm256_set1_epi64x(PTQ_ROWQ_ROOT_BITS), fifth));
    }
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < SIDE; k++) {
            const __m256d y2 = _mm256_mul_pd(y[k], y[k]),
                          y5 = _mm256_mul_pd(_mm256_mul_pd(y2, y2), y[k]);
            y[k] = _mm256_mul_pd(y[k],
                                 _mm256_sub_pd(_mm256_set1_pd(1.2), _mm256_mul_pd(fifth_t[k], y5)));
        }
    for (int k = 0; k < SIDE; k++) {
        const __m256d y2 = _mm256_mul_pd(y[k], y[k]);
        e[k] = _mm256_mul_pd(_mm256_mul_pd(t[k], t[k]), _mm256_mul_pd(y2, y2));
    }
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
    __m256d low = _mm256_setzero_pd(), high = low, e[SIDE];
    for (int64_t i = 0; i < n; i += 16) {
        float end[16] = {0}; /* lanes behind the end: 0 of 0 */
        const float *x = w + i;
        if (n - i < 16)
            x = memcpy(end, x, (size_t)(n - i) * sizeof *x);
        errors_of(x, g, maxq, e);
        errors_of(x + 8, g, maxq, e + 2);
        exact_powers(e);
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

const struct ptq_kernel ptq_kernel_rowq_mse_avx2 = {.op = PTQ_KOP_ROWQ_MSE,
                                                    .isa = PTQ_ISA_AVX2,
                                                    .needs = PTQ_CPU_AVX2,
                                                    .rank = 10,
                                                    .run.rowq = mse};
