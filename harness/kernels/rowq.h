/* rowq.h: the asymmetric grid of one group, the arithmetic of quant/grid_real.c in float
 * (zero_in_range, scales kept as fp32), so that codes are those of method rtn. Private to
 * kernels/. Weights are finite. */
#ifndef PTQ_KERNELS_ROWQ_H
#define PTQ_KERNELS_ROWQ_H
#include "kernels/kernel.h"
#include "core/half.h"
#include "quant/power.h"
#include <math.h>

enum { PTQ_ROWQ_STEPS = 80 };

struct ptq_rowq_range {
    double lo, hi; /* lo <= 0 <= hi */
};
struct ptq_rowq_grid {
    float scale, zero;
};

/* The range of the data widened to hold 0; nothing but 0: -1 .. 1. */
static inline struct ptq_rowq_range ptq_rowq_widen(float lo, float hi)
{
    const struct ptq_rowq_range r = {lo < 0 ? lo : 0, hi > 0 ? hi : 0};
    return r.lo == 0 && r.hi == 0 ? (struct ptq_rowq_range){-1, 1} : r;
}

/* Ranges and scales in fp64, the zero by a division in fp32 as the codes: a range with lo = -hi is
 * a tie, and that division decides it. + 0 turns -0 into 0. A normal step is rounded by a cast. */
static inline struct ptq_rowq_grid ptq_rowq_grid_of(struct ptq_rowq_range r, int bits)
{
    const int maxq = (1 << bits) - 1;
    const double step = (r.hi - r.lo) / maxq;
    const float scale = step > 0x1p-120 ? (float)step : ptq_round_fmt(step, PTQ_FMT_F32),
                zero = rintf((float)-r.lo / scale) + 0.0f;
    return (struct ptq_rowq_grid){scale, zero > (float)maxq ? (float)maxq : zero};
}

/* Candidate i of the search. */
static inline struct ptq_rowq_grid ptq_rowq_candidate(struct ptq_rowq_range r, int bits, int i)
{
    const double p = 1 - i / 100.0;
    return ptq_rowq_grid_of((struct ptq_rowq_range){p * r.lo, p * r.hi}, bits);
}

static inline float ptq_rowq_code(float w, struct ptq_rowq_grid g, float maxq)
{
    float q = rintf(w / g.scale) + g.zero;
    q = q > 0 ? q : 0;
    return q < maxq ? q : maxq;
}

/* sum |w - what|^2.4: weight i into lane i % 8 in order of i, then lanes in order. */
static inline double ptq_rowq_error(const float *restrict w, int64_t n, struct ptq_rowq_grid g,
                                    float maxq)
{
    enum { LANES = 8 };
    double lanes[LANES] = {0}, total = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            const float what = g.scale * (ptq_rowq_code(w[i + l], g, maxq) - g.zero);
            lanes[l] += ptq_power_2_4((double)what - (double)w[i + l]);
        }
    for (int l = 0; i + l < n; l++) {
        const float what = g.scale * (ptq_rowq_code(w[i + l], g, maxq) - g.zero);
        lanes[l] += ptq_power_2_4((double)what - (double)w[i + l]);
    }
    for (int l = 0; l < LANES; l++)
        total += lanes[l];
    return total;
}

ptq_rowq_fn ptq_rowq_minmax_plain, ptq_rowq_mse_plain; /* what the scalar kernels run */
#endif
