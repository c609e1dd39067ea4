/* rowq_mse.h: the search of 80 grids, 16 candidates side by side in REGS registers, with the
 * estimates of rowq_power.h. Body of rowq_mse_ISA.c, which has rowq_ISA.h before and
 *   vecd, vecu          LANES / 2 doubles and their bits
 *   narrow              two vecd to a vecf
 *   float_of_bits       bits of x as integers, these as floats; bits_of_float: back, rounded
 *   fraction            |x - rint x|
 *   least_lane
 * and behind split and exact_error, which each does in its own way. */
#ifndef PTQ_KERNELS_ROWQ_MSE_H
#define PTQ_KERNELS_ROWQ_MSE_H
#include "kernels/rowq_power.h"

enum {
    REGS = PTQ_POWER_STEPS / LANES,
    /* Sums at once, for the latency of the chain, and powers at once: one alone is a chain of 60
     * cycles, and the processor's window holds too few of them. */
    SUMS = 2,
    SIDE = 4,
    PAD = 16 /* a register of zeros may be written */
};

struct halves { /* of a block: weights that no candidate cuts, and others */
    float inner[PTQ_POWER_BLOCK + PAD], outer[PTQ_POWER_BLOCK + PAD];
    int n_inner, n_outer;
};
/* Inner weights lie within [lo, hi]. Behind the inner lies 0 up to a multiple of SUMS / REGS,
 * behind the outer up to one of SIDE / REGS: it adds nothing. */
static void split(const float *w, int64_t n, float lo, float hi, struct halves *);
static ptq_rowq_error_fn exact_error;

/* LANES candidates. */
struct grids {
    vecf scale, zero, inverse;
};

static struct grids grids_of(struct ptq_rowq_range r, float maxq, const double *factor)
{
    vecd scale[2], low[2];
    for (int h = 0; h < 2; h++) {
        const vecd p = load_doubles(factor + LANES / 2 * h), lo = p * r.lo, hi = p * r.hi;
        scale[h] = (hi - lo) / (double)maxq;
        low[h] = 0 - lo;
    }
    struct grids g = {.scale = narrow(scale[0], scale[1])};
    g.zero = vec_min(vec_rint(narrow(low[0], low[1]) / g.scale), vec_all(maxq));
    g.inverse = 1 / g.scale;
    return g;
}

/* |u|^2.4 for any u. */
KINLINE void powers(vecf u[SIDE])
{
    vecf t[SIDE], y[SIDE], v[SIDE];
    for (int k = 0; k < SIDE; k++)
        t[k] = vec_fma(u[k], u[k], vec_all(1e-30F));
    for (int k = 0; k < SIDE; k++)
        y[k] = vec_fma(float_of_bits(t[k]), vec_all(-0.2F), vec_all(ptq_power_bits));
    for (int k = 0; k < SIDE; k++) {
        y[k] = bits_of_float(y[k]);
        const vecf y2 = y[k] * y[k];
        t[k] = t[k] * y2;
        v[k] = t[k] * (y2 * y[k]);
    }
    for (int k = 0; k < SIDE; k++)
        u[k] = vec_fma(v[k], vec_all(ptq_power_r3), vec_all(ptq_power_r2));
    for (int k = 0; k < SIDE; k++)
        u[k] = vec_fma(v[k], u[k], vec_all(ptq_power_r1));
    for (int k = 0; k < SIDE; k++)
        u[k] = vec_fma(v[k], u[k], vec_all(ptq_power_r0));
    for (int k = 0; k < SIDE; k++)
        u[k] = t[k] * t[k] * u[k];
}

/* Adds (u^2.4 - k0) / k4 of a weight that no candidate cuts. */
KINLINE vecf inner_term(float w, vecf inverse, vecf sum)
{
    const vecf u = fraction(vec_all(w) * inverse);
    vecf c = u + ptq_power_k3;
    c = vec_fma(c, u, vec_all(ptq_power_k2));
    c = vec_fma(c, u, vec_all(ptq_power_k1));
    return vec_fma(c, u, sum);
}

static void add_inner(const float *w, int n, const struct grids g[REGS], vecf sum[REGS])
{
    vecf a[SUMS] = {vec_zero(), vec_zero()};
    for (int i = 0; i < n; i += SUMS / REGS)
        for (int k = 0; k < SUMS; k++)
            a[k] = inner_term(w[i + k / REGS], g[k % REGS].inverse, a[k]);
    for (int r = 0; r < REGS; r++) {
        if (REGS == 1)
            a[0] += a[1];
        sum[r] += vec_fma(a[r], vec_all(ptq_power_k4), vec_all(ptq_power_k0 * (float)n));
    }
}

KINLINE vecf cut_error(float w, const struct grids *g, float maxq)
{
    const vecf t = vec_fma(vec_all(w), g->inverse, g->zero);
    return t - vec_min(vec_max(vec_rint(t), vec_zero()), vec_all(maxq));
}

static void add_outer(const float *w, int n, const struct grids g[REGS], float maxq, vecf sum[REGS])
{
    for (int i = 0; i < n; i += SIDE / REGS) {
        vecf u[SIDE];
        for (int k = 0; k < SIDE; k++)
            u[k] = cut_error(w[i + k / REGS], &g[k % REGS], maxq);
        powers(u);
        for (int k = 0; k < SIDE; k++)
            sum[k % REGS] += u[k];
    }
}

/* Keeps what is known of candidates i .. i + LANES - 1. */
static void keep(struct ptq_rowq_search *s, int i, const struct grids *g, vecf sum, int64_t n_inner)
{
    const vecf slack = vec_all(ptq_power_slack * (float)n_inner);
    vecf unit[SIDE] = {
        narrow(load_doubles(ptq_rowq_factor + i), load_doubles(ptq_rowq_factor + i + LANES / 2))};
    powers(unit);
    vec_store(s->below + i, (sum - slack) * unit[0] * (1 - ptq_power_relative));
    vec_store(s->scale + i, g->scale);
    vec_store(s->zero + i, g->zero);
    const float m = least_lane((sum + slack) * unit[0]) * (1 + ptq_power_relative);
    s->least = m < s->least ? m : s->least;
}

/* Estimates candidates i .. i + 15. */
static void estimate(struct ptq_rowq_search *s, int i)
{
    const double smallest = ptq_rowq_factor[i + PTQ_POWER_STEPS - 1];
    const float lo = (float)(smallest * s->range.lo), hi = (float)(smallest * s->range.hi);
    struct grids g[REGS];
    vecf sum[REGS];
    struct halves h;
    int64_t n_inner = 0;
    for (int r = 0; r < REGS; r++) {
        g[r] = grids_of(s->range, s->maxq, ptq_rowq_factor + i + LANES * r);
        sum[r] = vec_zero();
    }
    for (int64_t j = 0; j < s->q->n; j += PTQ_POWER_BLOCK) {
        const int64_t n = s->q->n - j < PTQ_POWER_BLOCK ? s->q->n - j : PTQ_POWER_BLOCK;
        split(s->q->w + j, n, lo, hi, &h);
        add_inner(h.inner, h.n_inner, g, sum);
        add_outer(h.outer, h.n_outer, g, s->maxq, sum);
        n_inner += h.n_inner;
    }
    for (int r = 0; r < REGS; r++)
        keep(s, i + LANES * r, &g[r], sum[r], n_inner);
    s->n_steps = i + PTQ_POWER_STEPS;
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

/* ptq_power_2_4 of `side` registers, 8 at most. */
KINLINE void exact_powers(vecd *e, const int side)
{
    vecd t[8], fifth_t[8], y[8];
#pragma GCC unroll 8
    for (int k = 0; k < side; k++) {
        t[k] = e[k] * e[k] + 1e-300;
        fifth_t[k] = 0.2 * t[k];
        const vecu u = (vecu)t[k];
        vecu fifth = (u >> 3) + (u >> 4);
        fifth += fifth >> 4;
        fifth += fifth >> 8;
        fifth += fifth >> 16;
        y[k] = (vecd)(PTQ_FIFTH_ROOT_BITS - fifth);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
#pragma GCC unroll 8
        for (int k = 0; k < side; k++) {
            const vecd y2 = y[k] * y[k], y5 = y2 * y2 * y[k];
            y[k] = y[k] * (1.2 - fifth_t[k] * y5);
        }
#pragma GCC unroll 8
    for (int k = 0; k < side; k++) {
        const vecd y2 = y[k] * y[k];
        e[k] = t[k] * t[k] * (y2 * y2);
    }
}
#endif
