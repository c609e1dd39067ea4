/* kmeans_exact_real.c: the optimal k-means in one dimension; compiled for float and for double.
 *
 * Clusters of an optimum are runs of the sorted points. With cost(i, j) the weighted squared
 * deviation of points i .. j-1 from their mean, the best cost of the first j points in c clusters
 * is
 *
 *     D_c(j) = min over i of D_{c-1}(i) + cost(i, j)
 *
 * and the best i never falls when j rises (cost obeys the quadrangle inequality): dividing the j
 * in halves, each D_c takes O(n log n). Equal points are one point of their summed weight; points
 * without weight take no part. Sums are of values about the mean, in fp64. */
#include "quant/kmeans.h"
#include <math.h>
#include <string.h>

struct dp {
    int64_t n, k;        /* different points; clusters in use, k <= n */
    double *x;           /* [n], about `middle` */
    double *w, *wx, *wq; /* [n + 1] sums of the weights, of w x, of w x^2 before a point */
    double *last, *next; /* [n + 1] D_{c-1}, D_c */
    int32_t *cut;        /* (k x (n + 1)): where the last cluster begins */
    double middle;
};

static double cost(const struct dp *d, int64_t i, int64_t j)
{
    double w = d->w[j] - d->w[i], s = d->wx[j] - d->wx[i], q = d->wq[j] - d->wq[i] - s * s / w;
    return j - i > 1 && q > 0 ? q : 0;
}

struct span {
    int64_t lo, hi;   /* j in [lo, hi] */
    int64_t from, to; /* i in [from, to] */
};

static int64_t best_cut(struct dp *d, int64_t j, int64_t from, int64_t to)
{
    int64_t best = from;
    double least = INFINITY;
    for (int64_t i = from; i <= to && i < j; i++) {
        double v = d->last[i] + cost(d, i, j);
        if (v < least) {
            least = v;
            best = i;
        }
    }
    d->next[j] = least;
    return best;
}

static void fill(struct dp *d, int32_t *cut, int64_t first)
{
    enum { DEPTH = 64 }; /* halves of 2^63 */
    struct span stack[DEPTH] = {{first, d->n, first - 1, d->n - 1}};
    for (int top = 1; top > 0;) {
        struct span s = stack[--top];
        if (s.lo > s.hi)
            continue;
        int64_t j = s.lo + (s.hi - s.lo) / 2, i = best_cut(d, j, s.from, s.to);
        cut[j] = (int32_t)i;
        stack[top++] = (struct span){s.lo, j - 1, s.from, i};
        stack[top++] = (struct span){j + 1, s.hi, i, s.to};
    }
}

static void solve(struct dp *d)
{
    for (int64_t j = 0; j <= d->n; j++)
        d->next[j] = j ? cost(d, 0, j) : 0;
    for (int64_t c = 1; c < d->k; c++) {
        double *swap = d->last;
        d->last = d->next;
        d->next = swap;
        fill(d, d->cut + c * (d->n + 1), c + 1);
    }
}

/* Different points with weight. When no point has any, all count alike. */
static void merge(const struct PTQ_REAL(ptq_sorted_points) * p, int64_t n, struct dp *d)
{
    double total = 0, moment = 0;
    for (int64_t i = 0; i < n; i++) {
        total += (double)p->weight[i];
        moment += (double)p->weight[i] * (double)p->x[i];
    }
    d->middle = total > 0 ? moment / total : 0;
    for (int64_t i = 0; i < n; i++) {
        double w = total > 0 ? (double)p->weight[i] : 1, x = (double)p->x[i] - d->middle;
        if (!(w > 0))
            continue;
        if (!d->n || d->x[d->n - 1] != x) {
            d->x[d->n++] = x;
            d->w[d->n] = 0;
        }
        d->w[d->n] += w;
    }
    for (int64_t i = 0; i < d->n; i++) {
        double w = d->w[i + 1];
        d->wx[i + 1] = d->wx[i] + w * d->x[i];
        d->wq[i + 1] = d->wq[i] + w * d->x[i] * d->x[i];
        d->w[i + 1] += d->w[i];
    }
}

static void read_centroids(const struct dp *d, const kmeans *a)
{
    int64_t end = d->n;
    for (int64_t c = d->k - 1; c >= 0; c--) {
        int64_t begin = c ? d->cut[c * (d->n + 1) + end] : 0;
        double w = 0, s = 0;
        for (int64_t i = begin; i < end; i++) {
            w += d->w[i + 1] - d->w[i];
            s += (d->w[i + 1] - d->w[i]) * d->x[i];
        }
        a->centroids[c] =
            (ptq_real)(end - begin == 1 ? d->x[begin] + d->middle : s / w + d->middle);
        end = begin;
    }
    for (int64_t c = d->k; c < a->k; c++)
        a->centroids[c] = a->centroids[d->k - 1];
}

static int run(const kmeans *a, struct ptq_arena *arena, struct ptq_status *st)
{
    struct PTQ_REAL(ptq_sorted_points) p;
    struct dp d = {0};
    if (a->n >= INT32_MAX)
        return ptq_status_set(st, PTQ_ERR_MEMORY, "exact k-means of %lld points: too many",
                              (long long)a->n);
    int rc = PTQ_REAL(ptq_sort_points)(a, arena, &p, st);
    uint16_t *codes = ptq_arena_alloc(arena, st, a->n, sizeof *codes);
    double **arrays[] = {&d.x, &d.w, &d.wx, &d.wq, &d.last, &d.next};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        if (rc == PTQ_OK && !(*arrays[i] = ptq_arena_alloc(arena, st, a->n + 1, sizeof(double))))
            rc = PTQ_ERR_MEMORY;
    if (rc != PTQ_OK || !codes)
        return PTQ_ERR_MEMORY;
    merge(&p, a->n, &d);
    d.k = a->k < d.n ? a->k : d.n;
    d.cut = ptq_arena_alloc(arena, st, d.k * (d.n + 1), sizeof *d.cut); /* < 2^47 */
    if (!d.cut)
        return PTQ_ERR_MEMORY;
    solve(&d);
    read_centroids(&d, a);
    PTQ_REAL(ptq_sorted_codes)(p.x, a->n, a->centroids, a->k, codes);
    for (int64_t i = 0; i < a->n; i++)
        a->codes[p.at[i]] = codes[i];
    return PTQ_OK;
}

int PTQ_REAL(ptq_kmeans_exact)(struct ptq_ctx *ctx, const kmeans *a)
{
    struct ptq_status st = {0};
    struct ptq_arena arena;
    if (PTQ_REAL(ptq_kmeans_few)(a))
        return PTQ_REAL(ptq_kmeans_assign)(ctx, a);
    ptq_arena_init(&arena, 0);
    int rc = run(a, &arena, &st);
    ptq_arena_clear(&arena);
    return rc == PTQ_OK ? rc : ptq_ctx_adopt(ctx, &st);
}
