/* rowq.c: row quantization, plainly: the definition, and what other kernels fall back to for ranges
 * near the ends of fp32. */
#include "kernels/rowq.h"

static struct ptq_rowq_range range_of(const struct ptq_rowq *q)
{
    float lo = q->w[0], hi = q->w[0];
    for (int64_t i = 1; i < q->n; i++) {
        lo = q->w[i] < lo ? q->w[i] : lo;
        hi = q->w[i] > hi ? q->w[i] : hi;
    }
    return ptq_rowq_widen(lo, hi);
}

static void round_to(struct ptq_rowq *q, struct ptq_rowq_grid g)
{
    q->scale = g.scale;
    q->zero = (int)g.zero;
    for (int64_t i = 0; i < q->n; i++)
        q->codes[i] = (uint8_t)ptq_rowq_code(q->w[i], g, (float)((1 << q->bits) - 1));
}

void ptq_rowq_minmax_plain(struct ptq_rowq *q)
{
    round_to(q, ptq_rowq_grid_of(range_of(q), q->bits));
}

void ptq_rowq_mse_plain(struct ptq_rowq *q)
{
    const struct ptq_rowq_range r = range_of(q);
    struct ptq_rowq_grid best = ptq_rowq_grid_of(r, q->bits);
    double least = INFINITY;
    for (int i = 0; i < PTQ_ROWQ_STEPS; i++) {
        const struct ptq_rowq_grid g = ptq_rowq_candidate(r, q->bits, i);
        const double e = ptq_rowq_error(q->w, q->n, g, (float)((1 << q->bits) - 1));
        if (e < least) {
            least = e;
            best = g;
        }
    }
    round_to(q, best);
}
