/* rowq_power.h: constants by which the searches of rowq_mse estimate |u|^2.4 in fp32. An estimate
 * only drops candidates that cannot win: what remains is compared by ptq_rowq_error, so that the
 * winner is the definition's. Private to kernels/.
 *
 * In units of the candidate's step a weight that no end of the grid cuts has u = |t - rint t| <=
 * 1/2, t = w / scale, whatever the zero, and
 *     u^2.4 = k4 (((u + k3) u + k2) u + k1) u + k0 +- 5.0e-5 on [0, 1/2]
 * (of all quartics the least largest error, by reweighted least squares; k4 and k0 wait until the
 * sum is made). A cut weight is rarer; with t = u^2, y near t^(-1/5) from the exponent's bits and
 * v = t y^5 in [0.8499, 1.1618]
 *     |u|^2.4 = t^2 y^4 v^(-4/5), v^(-4/5) = r0 + r1 v + r2 v^2 + r3 v^3, good to 5.5e-5.
 *
 * Bounds. Let a_i be |error| of weight i as estimated before the power and e_i the definition's.
 * |a_i - e_i| <= 2^-20 range: t is off by 3 roundings of at most |w| / scale, a code chosen
 * otherwise near a tie changes the error by twice that, and scale (code - zero) is rounded once.
 * Norms of order 2.4 then differ by at most n^(5/12) 2^-20 range (Minkowski). With m = score / n
 * <= 1 in units of a step, n^(5/12) 2^-20 range is at most r = 2^-20 maxq / sqrt(m) of the norm,
 * and (1 + r)^2.4 <= (1 + r)^3. */
#ifndef PTQ_KERNELS_ROWQ_POWER_H
#define PTQ_KERNELS_ROWQ_POWER_H
#include "kernels/rowq.h"

static const float ptq_power_k0 = 4.94099568e-5F, ptq_power_k1 = 0.0182479229F,
                   ptq_power_k2 = -0.84496861F, ptq_power_k3 = -2.23609169F,
                   ptq_power_k4 = -0.451807095F;
/* 5.0e-5, and the roundings of 256 terms of at most 0.42 in one sum: 2^-24 128 0.42 each. */
static const float ptq_power_slack = 5.5e-5F;
static const float ptq_power_r0 = 3.19297241F, ptq_power_r1 = -4.24215707F,
                   ptq_power_r2 = 2.70558864F, ptq_power_r3 = -0.65645593F;
/* y of t: 1.2 (127 - 0.05) 2^23 less a fifth of the bits of t. */
static const float ptq_power_bits = (float)(1.2 * (127 - 0.05) * 8388608);
/* Twice 5.5e-5, for sums and for p^2.4, and 400 roundings of 2^-24. */
static const float ptq_power_relative = 3e-4F;

/* Weights of a block; sums of a candidate are made block by block. */
enum { PTQ_POWER_BLOCK = 256, PTQ_POWER_STEPS = 16 };

/* 1 - i / 100, as the definition rounds it. */
#define PTQ_P1(i)  1 - (i) / 100.0
#define PTQ_P4(i)  PTQ_P1(i), PTQ_P1((i) + 1), PTQ_P1((i) + 2), PTQ_P1((i) + 3)
#define PTQ_P16(i) PTQ_P4(i), PTQ_P4((i) + 4), PTQ_P4((i) + 8), PTQ_P4((i) + 12)
static const double ptq_rowq_factor[PTQ_ROWQ_STEPS] = {PTQ_P16(0), PTQ_P16(16), PTQ_P16(32),
                                                       PTQ_P16(48), PTQ_P16(64)};

/* What a search knows so far. Scores in units of the first step to the 2.4. */
struct ptq_rowq_search {
    struct ptq_rowq *q;
    struct ptq_rowq_range range;
    float maxq, least; /* least upper estimate of any score */
    /* of the candidates: lower estimates, and grids */
    float below[PTQ_ROWQ_STEPS], scale[PTQ_ROWQ_STEPS], zero[PTQ_ROWQ_STEPS];
    int n_steps; /* candidates with an estimate; none of the others wins */
};

/* What a true score may be at most when its estimate is `least`, taking `errors` times the bound on
 * a norm. */
static inline float ptq_rowq_ceiling(const struct ptq_rowq_search *s, int errors)
{
    const float m = s->least / (float)s->q->n,
                r = 1 + (float)errors * 0x1p-20F * s->maxq / sqrtf(m < 1 ? m : 1);
    return s->least * r * r * r;
}

/* Whether candidate i and all after it lose by the two extreme weights alone: shrunk to p, the grid
 * ends at most half a step beyond p hi, and what is cut grows as p falls. */
static inline bool ptq_rowq_all_lose(const struct ptq_rowq_search *s, int i)
{
    const double p = ptq_rowq_factor[i], step = (s->range.hi - s->range.lo) / (double)s->maxq,
                 hi = (1 - p) * s->range.hi / step - 0.501 * p,
                 lo = (1 - p) * -s->range.lo / step - 0.501 * p;
    const double least = (hi > 0 ? ptq_power_2_4(hi) : 0) + (lo > 0 ? ptq_power_2_4(lo) : 0);
    return least * 0.9999 > (double)ptq_rowq_ceiling(s, 1);
}

/* The winner of the candidates that may win; `error` gives the bits of ptq_rowq_error. */
typedef double ptq_rowq_error_fn(const float *w, int64_t n, struct ptq_rowq_grid, float maxq);
static inline struct ptq_rowq_grid ptq_rowq_winner(const struct ptq_rowq_search *s,
                                                   ptq_rowq_error_fn *error)
{
    const float ceiling = ptq_rowq_ceiling(s, 2);
    int n = 0, may[PTQ_ROWQ_STEPS] = {0};
    for (int i = 0; i < s->n_steps; i++) {
        may[n] = i;
        n += s->below[i] <= ceiling;
    }
    struct ptq_rowq_grid best = {s->scale[may[0]], s->zero[may[0]]};
    double least = INFINITY;
    for (int k = 0; k < n && n > 1; k++) {
        const struct ptq_rowq_grid g = {s->scale[may[k]], s->zero[may[k]]};
        const double e = error(s->q->w, s->q->n, g, s->maxq);
        if (e < least) {
            least = e;
            best = g;
        }
    }
    return best;
}

/* Ranges whose steps and errors fp32 holds with room to spare. */
static inline bool ptq_rowq_ordinary(struct ptq_rowq_range r)
{
    return r.hi - r.lo > 0x1p-60 && r.hi - r.lo < 0x1p60;
}
#endif
