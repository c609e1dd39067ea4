/* kmeans_real.c: Lloyd's k-means and codes for given centroids; compiled for float and for double.
 *
 * Distances are sums of squared differences, not |x|^2 - 2 x c + |c|^2: a point that is a centroid
 * is at distance 0 exactly, and near centroids are told apart. Centroids lie side by side in lanes,
 * so that no sum runs across lanes: the same bits whatever the vector width. In one dimension the
 * points are sorted once, and an iteration is one walk along points and centroids. */
#include "quant/kmeans.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 16, POINTS = 4, GRAIN = 256 };

#ifdef PTQ_DOUBLE
typedef int64_t lane_index; /* as wide as a value: one mask serves both */
#else
typedef int32_t lane_index;
#endif

typedef struct PTQ_REAL(ptq_sorted_points) sorted_points;

/* ---- codes by distance ---- */

struct assignment {
    const kmeans *a;
    int64_t blocks;
    const ptq_real *packed; /* [block][j][lane]; lanes without a centroid are at Inf */
    ptq_real *dist;         /* [n] squared distance to the nearest, or NULL */
};

static ptq_real *pack_centroids(const kmeans *a, struct ptq_arena *arena, struct ptq_status *st)
{
    int64_t blocks = (a->k + LANES - 1) / LANES;
    ptq_real *packed = ptq_arena_alloc(arena, st, blocks * LANES * a->dim, sizeof *packed);
    for (int64_t c = 0; packed && c < blocks * LANES; c++)
        for (int64_t j = 0; j < a->dim; j++)
            packed[(c / LANES * a->dim + j) * LANES + c % LANES] =
                c < a->k ? a->centroids[c * a->dim + j] : (ptq_real)INFINITY;
    return packed;
}

/* The nearest of each lane: its distance, and its block (the lower one on a tie). */
struct nearest {
    ptq_real dist[POINTS][LANES];
    lane_index block[POINTS][LANES];
};

PTQ_CLONES static void nearest_in_lanes(const ptq_real *restrict packed, int64_t blocks,
                                        int64_t dim, const ptq_real *const x[POINTS],
                                        struct nearest *restrict out)
{
    const ptq_real *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
    for (int64_t b = 0; b < blocks; b++) {
        ptq_real d0[LANES] = {0}, d1[LANES] = {0}, d2[LANES] = {0}, d3[LANES] = {0};
        for (int64_t j = 0; j < dim; j++) {
            const ptq_real *c = packed + (b * dim + j) * LANES;
            for (int l = 0; l < LANES; l++) {
                ptq_real e0 = x0[j] - c[l], e1 = x1[j] - c[l], e2 = x2[j] - c[l], e3 = x3[j] - c[l];
                d0[l] += e0 * e0;
                d1[l] += e1 * e1;
                d2[l] += e2 * e2;
                d3[l] += e3 * e3;
            }
        }
        const ptq_real *const d[POINTS] = {d0, d1, d2, d3};
        for (int p = 0; p < POINTS; p++)
            for (int l = 0; l < LANES; l++) {
                bool less = d[p][l] < out->dist[p][l];
                out->dist[p][l] = less ? d[p][l] : out->dist[p][l];
                out->block[p][l] = less ? (lane_index)b : out->block[p][l];
            }
    }
}

static int64_t nearest_of(const struct nearest *n, int p, ptq_real *dist)
{
    int64_t best = n->block[p][0] * LANES;
    *dist = n->dist[p][0];
    for (int l = 1; l < LANES; l++) {
        int64_t at = n->block[p][l] * LANES + l;
        if (n->dist[p][l] < *dist || (n->dist[p][l] == *dist && at < best)) {
            *dist = n->dist[p][l];
            best = at;
        }
    }
    return best;
}

static void assign_piece(void *arg, int64_t begin, int64_t end)
{
    const struct assignment *s = arg;
    const kmeans *a = s->a;
    for (int64_t i = begin; i < end; i += POINTS) {
        const ptq_real *x[POINTS];
        struct nearest n;
        for (int p = 0; p < POINTS; p++) {
            x[p] = a->x + (i + p < end ? i + p : end - 1) * a->ld;
            for (int l = 0; l < LANES; l++) {
                n.dist[p][l] = (ptq_real)INFINITY;
                n.block[p][l] = 0;
            }
        }
        nearest_in_lanes(s->packed, s->blocks, a->dim, x, &n);
        for (int p = 0; p < POINTS && i + p < end; p++) {
            ptq_real dist;
            a->codes[i + p] = (uint16_t)nearest_of(&n, p, &dist);
            if (s->dist)
                s->dist[i + p] = dist;
        }
    }
}

static int assign(struct ptq_ctx *ctx, const kmeans *a, ptq_real *dist, struct ptq_status *st)
{
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    struct assignment s = {a, (a->k + LANES - 1) / LANES, pack_centroids(a, &arena, st), dist};
    if (s.packed)
        ptq_parallel_for(ctx, a->n, GRAIN, assign_piece, &s);
    ptq_arena_clear(&arena);
    return s.packed ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* ---- one dimension ---- */

struct ranked {
    ptq_real x;
    int64_t at;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *p = a, *q = b;
    return p->x != q->x ? (p->x < q->x ? -1 : 1) : p->at < q->at ? -1 : p->at > q->at;
}

/* The points by rising first component. */
static struct ranked *rank_points(const kmeans *a, struct ptq_arena *arena, struct ptq_status *st)
{
    struct ranked *r = ptq_arena_alloc(arena, st, a->n, sizeof *r);
    for (int64_t i = 0; r && i < a->n; i++)
        r[i] = (struct ranked){a->x[i * a->ld], i};
    if (r)
        qsort(r, (size_t)a->n, sizeof *r, by_rank);
    return r;
}

int PTQ_REAL(ptq_sort_points)(const kmeans *a, struct ptq_arena *arena, sorted_points *out,
                              struct ptq_status *st)
{
    struct ranked *r = rank_points(a, arena, st);
    out->x = ptq_arena_alloc(arena, st, a->n, sizeof *out->x);
    out->weight = ptq_arena_alloc(arena, st, a->n, sizeof *out->weight);
    out->at = ptq_arena_alloc(arena, st, a->n, sizeof *out->at);
    if (!r || !out->x || !out->weight || !out->at)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < a->n; i++) {
        out->x[i] = r[i].x;
        out->at[i] = r[i].at;
        out->weight[i] = a->weight ? a->weight[r[i].at] : 1;
    }
    return PTQ_OK;
}

/* Walks by midpoints, which rise with the centroids even where rounded distances tie. */
void PTQ_REAL(ptq_sorted_codes)(const ptq_real *x, int64_t n, const ptq_real *centroids, int64_t k,
                                uint16_t *codes)
{
    int64_t c = 0, next = 1; /* next: the first centroid above c */
    for (int64_t i = 0; i < n; i++) {
        for (;;) {
            while (next < k && centroids[next] == centroids[c])
                next++;
            if (next == k)
                break;
            double low = (double)centroids[c], middle = low + ((double)centroids[next] - low) / 2;
            if ((double)x[i] <= middle)
                break;
            c = next++;
        }
        codes[i] = (uint16_t)c;
    }
}

static int by_value(const void *a, const void *b)
{
    ptq_real p = *(const ptq_real *)a, q = *(const ptq_real *)b;
    return p < q ? -1 : p > q;
}

/* ---- Lloyd ---- */

struct lloyd {
    struct ptq_ctx *ctx;
    kmeans a; /* dim 1: its points sorted, its codes in their order */
    ptq_real *dist;
    double *sum, *mass; /* (k x dim), [k] */
    uint16_t *before;   /* codes of the iteration before */
};

static int find_codes(struct lloyd *l, struct ptq_status *st)
{
    const kmeans *a = &l->a;
    if (a->dim > 1)
        return assign(l->ctx, a, l->dist, st);
    PTQ_REAL(ptq_sorted_codes)(a->x, a->n, a->centroids, a->k, a->codes);
    for (int64_t i = 0; i < a->n; i++) {
        ptq_real e = a->x[i] - a->centroids[a->codes[i]];
        l->dist[i] = e * e;
    }
    return PTQ_OK;
}

static double weight_of(const kmeans *a, int64_t i)
{
    return a->weight ? (double)a->weight[i] : 1;
}

static void add_up(struct lloyd *l)
{
    const kmeans *a = &l->a;
    memset(l->sum, 0, (size_t)(a->k * a->dim) * sizeof *l->sum);
    memset(l->mass, 0, (size_t)a->k * sizeof *l->mass);
    for (int64_t i = 0; i < a->n; i++) {
        double w = weight_of(a, i), *sum = l->sum + a->codes[i] * a->dim;
        l->mass[a->codes[i]] += w;
        for (int64_t j = 0; j < a->dim; j++)
            sum[j] += w * (double)a->x[i * a->ld + j];
    }
}

/* The point that costs most, by its weight; -1 when none costs anything. Taken, it costs nothing
 * any more. */
static int64_t take_farthest(struct lloyd *l)
{
    int64_t far = -1;
    double most = 0;
    for (int64_t i = 0; i < l->a.n; i++) {
        double cost = weight_of(&l->a, i) * (double)l->dist[i];
        if (cost > most) {
            most = cost;
            far = i;
        }
    }
    if (far >= 0)
        l->dist[far] = 0;
    return far;
}

/* Means of the clusters; one without mass moves to the farthest point, which cannot raise the cost:
 * the point's old cluster keeps the mean that it has with it. */
static void move_centroids(struct lloyd *l)
{
    const kmeans *a = &l->a;
    bool any_empty = true;
    for (int64_t c = 0; c < a->k; c++) {
        ptq_real *centroid = a->centroids + c * a->dim;
        if (l->mass[c] > 0) {
            for (int64_t j = 0; j < a->dim; j++)
                centroid[j] = (ptq_real)(l->sum[c * a->dim + j] / l->mass[c]);
            continue;
        }
        int64_t far = any_empty ? take_farthest(l) : -1;
        any_empty = far >= 0;
        if (any_empty)
            memcpy(centroid, a->x + far * a->ld, (size_t)a->dim * sizeof *centroid);
    }
    if (a->dim == 1)
        qsort(a->centroids, (size_t)a->k, sizeof *a->centroids, by_value);
}

static int iterate(struct lloyd *l, struct ptq_status *st)
{
    const kmeans *a = &l->a;
    const size_t bytes = (size_t)a->n * sizeof *a->codes;
    int rc = find_codes(l, st);
    for (int i = 0; i < a->iterations && rc == PTQ_OK; i++) {
        if (ptq_cancelled(l->ctx))
            return ptq_status_set(st, PTQ_ERR_CANCELLED, "cancelled");
        memcpy(l->before, a->codes, bytes);
        add_up(l);
        move_centroids(l);
        rc = find_codes(l, st);
        if (!memcmp(l->before, a->codes, bytes))
            break;
    }
    return rc;
}

static void copy_point(const kmeans *a, int64_t c, int64_t i)
{
    memcpy(a->centroids + c * a->dim, a->x + i * a->ld, (size_t)a->dim * sizeof *a->x);
}

static int start_at_quantiles(const kmeans *a, struct ptq_arena *arena, struct ptq_status *st)
{
    struct ranked *r = rank_points(a, arena, st);
    for (int64_t c = 0; r && c < a->k; c++)
        copy_point(a, c, r[(int64_t)(((double)c + 0.5) * (double)a->n / (double)a->k)].at);
    return r ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int start_at_points(const kmeans *a, struct ptq_arena *arena, struct ptq_status *st)
{
    int64_t *at = ptq_arena_alloc(arena, st, a->n, sizeof *at);
    if (!at)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < a->n; i++)
        at[i] = i;
    for (int64_t c = 0; c < a->k; c++) { /* the first k of a shuffle */
        int64_t from = c + (int64_t)(ptq_random_uniform(a->seed, (uint64_t)c) * (double)(a->n - c));
        int64_t i = at[from];
        at[from] = at[c];
        copy_point(a, c, i);
    }
    return PTQ_OK;
}

static int start(const kmeans *a, struct ptq_arena *arena, struct ptq_status *st)
{
    int rc = PTQ_OK;
    switch (a->init) {
    case PTQ_KMEANS_QUANTILE: rc = start_at_quantiles(a, arena, st); break;
    case PTQ_KMEANS_POINTS: rc = start_at_points(a, arena, st); break;
    case PTQ_KMEANS_GIVEN: break;
    }
    if (a->dim == 1)
        qsort(a->centroids, (size_t)a->k, sizeof *a->centroids, by_value);
    return rc;
}

bool PTQ_REAL(ptq_kmeans_few)(const kmeans *a)
{
    if (a->n > a->k)
        return false;
    for (int64_t c = 0; c < a->k; c++)
        copy_point(a, c, c < a->n ? c : a->n - 1);
    if (a->dim == 1)
        qsort(a->centroids, (size_t)a->n, sizeof *a->centroids, by_value);
    for (int64_t c = a->n; c < a->k; c++)
        memcpy(a->centroids + c * a->dim, a->centroids + (a->n - 1) * a->dim,
               (size_t)a->dim * sizeof *a->centroids);
    return true;
}

/* Gives a run of dim 1 its sorted points. */
static int sort_run(struct lloyd *l, struct ptq_arena *arena, sorted_points *points,
                    struct ptq_status *st)
{
    int rc = PTQ_REAL(ptq_sort_points)(&l->a, arena, points, st);
    l->a.x = points->x;
    l->a.ld = 1;
    l->a.weight = points->weight;
    l->a.codes = ptq_arena_alloc(arena, st, l->a.n, sizeof *l->a.codes);
    return rc == PTQ_OK && !l->a.codes ? PTQ_ERR_MEMORY : rc;
}

static int run(struct lloyd *l, struct ptq_arena *arena, struct ptq_status *st)
{
    const kmeans *a = &l->a;
    l->dist = ptq_arena_alloc(arena, st, a->n, sizeof *l->dist);
    l->sum = ptq_arena_alloc(arena, st, a->k * a->dim, sizeof *l->sum);
    l->mass = ptq_arena_alloc(arena, st, a->k, sizeof *l->mass);
    l->before = ptq_arena_alloc(arena, st, a->n, sizeof *l->before);
    if (!l->dist || !l->sum || !l->mass || !l->before)
        return PTQ_ERR_MEMORY;
    uint16_t *codes = a->codes;
    sorted_points points;
    int rc = start(a, arena, st);
    if (rc == PTQ_OK && a->dim == 1)
        rc = sort_run(l, arena, &points, st);
    if (rc == PTQ_OK)
        rc = iterate(l, st);
    for (int64_t i = 0; i < a->n && rc == PTQ_OK && a->dim == 1; i++)
        codes[points.at[i]] = a->codes[i];
    return rc;
}

/* ---- services ---- */

static int finish(struct ptq_ctx *ctx, int rc, const struct ptq_status *st)
{
    return rc == PTQ_OK ? rc : ptq_ctx_adopt(ctx, st);
}

int PTQ_REAL(ptq_kmeans_run)(struct ptq_ctx *ctx, const kmeans *a)
{
    struct ptq_status st = {0};
    struct ptq_arena arena;
    struct lloyd l = {.ctx = ctx, .a = *a};
    if (PTQ_REAL(ptq_kmeans_few)(a))
        return PTQ_REAL(ptq_kmeans_assign)(ctx, a);
    ptq_arena_init(&arena, 0);
    int rc = run(&l, &arena, &st);
    ptq_arena_clear(&arena);
    return finish(ctx, rc, &st);
}

int PTQ_REAL(ptq_kmeans_assign)(struct ptq_ctx *ctx, const kmeans *a)
{
    struct ptq_status st = {0};
    return finish(ctx, assign(ctx, a, NULL, &st), &st);
}

/* ---- values as integers ---- */

void PTQ_REAL(ptq_affine_quantize)(const ptq_real *x, int64_t n, int bits, enum ptq_fmt step_fmt,
                                   float *v, float *step, float *min, ptq_real *out)
{
    const double most = (double)((1 << bits) - 1);
    double lo = n ? (double)x[0] : 0, hi = lo;
    for (int64_t i = 1; i < n; i++) {
        lo = (double)x[i] < lo ? (double)x[i] : lo;
        hi = (double)x[i] > hi ? (double)x[i] : hi;
    }
    *min = ptq_round_fmt(lo, step_fmt);
    *step = ptq_round_fmt((hi - lo) / most, step_fmt);
    for (int64_t i = 0; i < n; i++) {
        double q = *step > 0 ? __builtin_rint(((double)x[i] - (double)*min) / (double)*step) : 0;
        v[i] = (float)(q > 0 ? q < most ? q : most : 0);
        out[i] = (ptq_real)(float)((double)*step * (double)v[i] + (double)*min);
    }
}
