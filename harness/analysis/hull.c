#include "analysis/hull.h"
#include <math.h>
#include <stdlib.h>

struct corner {
    double bits, y;
    int64_t at;
};

/* By bits, then loss; the caller's order decides between equals, so results do not depend on qsort.
 */
static int order_corners(const void *pa, const void *pb)
{
    const struct corner *a = pa, *b = pb;
    if (a->bits != b->bits)
        return a->bits < b->bits ? -1 : 1;
    if (a->y != b->y)
        return a->y < b->y ? -1 : 1;
    return (a->at > b->at) - (a->at < b->at);
}

/* Whether b lies on or above the line from a to c. */
static bool is_above(const struct corner *a, const struct corner *b, const struct corner *c)
{
    return (b->y - a->y) * (c->bits - a->bits) >= (c->y - a->y) * (b->bits - a->bits);
}

int ptq_hull_make(const double *bits, const double *loss, int64_t n, struct ptq_arena *arena,
                  struct ptq_hull *h, struct ptq_status *st)
{
    struct corner *c = ptq_arena_alloc(arena, st, n, sizeof *c);
    *h = (struct ptq_hull){.bits = ptq_arena_alloc(arena, st, n, sizeof *h->bits),
                           .log_loss = ptq_arena_alloc(arena, st, n, sizeof *h->log_loss),
                           .at = ptq_arena_alloc(arena, st, n, sizeof *h->at),
                           .last_bits = NAN};
    if (!c || !h->bits || !h->log_loss || !h->at)
        return PTQ_ERR_MEMORY;
    int64_t m = 0, k = 0;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(bits[i]) && isfinite(loss[i]) && loss[i] > 0)
            c[m++] = (struct corner){bits[i], log(loss[i]), i};
    qsort(c, (size_t)m, sizeof *c, order_corners);
    if (m)
        h->last_bits = c[m - 1].bits;
    for (int64_t i = 0; i < m; i++) { /* Andrew's chain; k corners stand in c[0 .. k) */
        const struct corner next = c[i];
        if (k && next.y >= c[k - 1].y)
            continue; /* as good with fewer bits */
        while (k > 1 && is_above(&c[k - 2], &c[k - 1], &next))
            k--;
        c[k++] = next;
    }
    for (int64_t i = 0; i < k; i++) {
        h->bits[i] = c[i].bits;
        h->log_loss[i] = c[i].y;
        h->at[i] = c[i].at;
    }
    h->n = k;
    return PTQ_OK;
}

static const double slack = 1e-9;

bool ptq_hull_find(const struct ptq_hull *h, double bits, struct ptq_hull_place *p)
{
    if (!h->n || !(bits >= h->bits[0] - slack && bits <= h->last_bits + slack))
        return false;
    int64_t i = 0;
    while (i < h->n && h->bits[i] <= bits)
        i++;
    if (i == 0 || i == h->n) {
        i = i ? h->n - 1 : 0;
        *p = (struct ptq_hull_place){h->at[i], h->at[i], 0, h->log_loss[i]};
        return true;
    }
    const double w = (bits - h->bits[i - 1]) / (h->bits[i] - h->bits[i - 1]);
    *p = (struct ptq_hull_place){h->at[i - 1], h->at[i], w,
                                 (1 - w) * h->log_loss[i - 1] + w * h->log_loss[i]};
    return true;
}

/* ---- rates ---- */

enum { MOST_QUARTERS = 4 * 64 };

static int64_t n_reaching(const struct ptq_hull *hulls, int64_t n, int quarter)
{
    struct ptq_hull_place p;
    int64_t reach = 0;
    for (int64_t i = 0; i < n; i++)
        reach += ptq_hull_find(&hulls[i], quarter / 4.0, &p);
    return reach;
}

int ptq_hull_rates(const struct ptq_hull *hulls, int64_t n_hulls, int max, double *rates)
{
    int64_t reach[MOST_QUARTERS + 1], n_alive = 0;
    for (int64_t i = 0; i < n_hulls; i++)
        n_alive += hulls[i].n > 0;
    for (int q = 0; q <= MOST_QUARTERS; q++) {
        reach[q] = n_reaching(hulls, n_hulls, q);
        if (reach[q] < 2 || 2 * reach[q] < n_alive)
            reach[q] = 0;
    }
    for (int step = 1; step <= MOST_QUARTERS; step *= 2) {
        int best = 0, n_best = 0;
        int64_t sum_best = -1;
        for (int first = 0; first < step; first++) {
            int64_t sum = 0;
            int n = 0;
            for (int q = first; q <= MOST_QUARTERS; q += step) {
                sum += reach[q];
                n += reach[q] > 0;
            }
            if (sum > sum_best) {
                sum_best = sum;
                n_best = n;
                best = first;
            }
        }
        if (n_best > max)
            continue;
        int n = 0;
        for (int q = best; q <= MOST_QUARTERS; q += step)
            if (reach[q])
                rates[n++] = q / 4.0;
        return n;
    }
    return 0;
}
