#include "metrics/health.h"
#include "core/clones.h"
#include "core/linalg.h"
#include "core/rng.h"
#include "core/size.h"
#include <math.h>
#include <string.h>

enum { MOST_STEPS = 40, LANES = 16 };
/* The estimates are read by their order of magnitude. */
static const double settled = 1e-4;

struct work {
    const struct ptq_cdmat *hess;
    double lambda;
    int64_t n;           /* live inputs */
    const int64_t *live; /* [n] */
    float *a;            /* (n x n) H + lambda I, then its Cholesky factor */
    float *x, *y;        /* [n] */
    double *v;           /* [n] */
};

/* ---- vectors */

PTQ_CLONES static float dot(const float *a, const float *b, int64_t n)
{
    float lane[LANES] = {0}, sum = 0;
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES)
        for (int k = 0; k < LANES; k++)
            lane[k] += a[j + k] * b[j + k];
    for (; j < n; j++)
        lane[0] += a[j] * b[j];
    for (int k = 0; k < LANES; k++)
        sum += lane[k];
    return sum;
}

static void scale_to_one(float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)((double)x[i] / sqrt(sum));
}

/* Any vector that is orthogonal to no eigenvector will do; the same one every time. */
static void start(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(0.5 + ptq_uniform(1, (uint64_t)i));
    scale_to_one(x, n);
}

PTQ_CLONES static double weighted(const double *row, const int64_t *live, const double *v,
                                  int64_t n)
{
    double sum = 0;
    for (int64_t j = 0; j < n; j++)
        sum += row[live[j]] * v[j];
    return sum;
}

/* x^T (H + lambda I) x / x^T x in fp64 from H itself: rounding of the factor spoils the direction
 * alone, which enters squared. */
static double rayleigh(const struct work *w, const float *x)
{
    double top = 0, bottom = 0;
    for (int64_t i = 0; i < w->n; i++)
        w->v[i] = (double)x[i];
    for (int64_t i = 0; i < w->n; i++) {
        const double *row = w->hess->at + w->live[i] * w->hess->ld;
        top += w->v[i] * (weighted(row, w->live, w->v, w->n) + w->lambda * w->v[i]);
        bottom += w->v[i] * w->v[i];
    }
    return top / bottom;
}

/* ---- extreme eigenvalues */

static void times_a(struct work *w)
{
    for (int64_t i = 0; i < w->n; i++)
        w->y[i] = dot(w->a + i * w->n, w->x, w->n);
}

/* y = (L L^T)^-1 x, rows of L only: memory is read in order. */
static void solve(struct work *w)
{
    float *y = w->y;
    memcpy(y, w->x, (size_t)w->n * sizeof *y);
    for (int64_t i = 0; i < w->n; i++) {
        const float *row = w->a + i * w->n;
        y[i] = (y[i] - dot(row, y, i)) / row[i];
    }
    for (int64_t i = w->n - 1; i >= 0; i--) {
        const float *row = w->a + i * w->n;
        y[i] /= row[i];
        for (int64_t j = 0; j < i; j++)
            y[j] -= row[j] * y[i];
    }
}

/* Repeats x <- step(x) until its gain |step(x)| settles; x is the direction then. */
static void iterate(struct work *w, void (*step)(struct work *))
{
    double before = 0;
    start(w->x, w->n);
    for (int k = 0; k < MOST_STEPS; k++) {
        step(w);
        double gain = sqrt((double)dot(w->y, w->y, w->n));
        memcpy(w->x, w->y, (size_t)w->n * sizeof *w->x);
        scale_to_one(w->x, w->n);
        if (fabs(gain - before) <= settled * gain)
            return;
        before = gain;
    }
}

static int condition(struct work *w, struct ptq_pool *pool, struct ptq_health *h,
                     struct ptq_status *st)
{
    int64_t bad;
    for (int64_t i = 0; i < w->n; i++)
        for (int64_t j = 0; j < w->n; j++)
            w->a[i * w->n + j] =
                (float)(w->hess->at[w->live[i] * w->hess->ld + w->live[j]] / w->lambda) +
                (i == j ? 1.0F : 0.0F);
    iterate(w, times_a);
    const double largest = rayleigh(w, w->x);
    int code = ptq_cholesky_f32(pool, w->a, w->n, w->n, &bad, st);
    if (code)
        return code == PTQ_SKIP ? PTQ_OK : code;
    iterate(w, solve);
    h->condition = largest / rayleigh(w, w->x);
    return PTQ_OK;
}

static int allocate(struct work *w, struct ptq_arena *arena, struct ptq_status *st)
{
    int64_t nn;
    if (!ptq_size_mul(w->n, w->n, &nn))
        return ptq_status_set(st, PTQ_ERR_MEMORY, "the Hessian overflows a size");
    w->a = ptq_arena_alloc(arena, st, nn, sizeof *w->a);
    w->x = ptq_arena_alloc(arena, st, w->n, sizeof *w->x);
    w->y = ptq_arena_alloc(arena, st, w->n, sizeof *w->y);
    w->v = ptq_arena_alloc(arena, st, w->n, sizeof *w->v);
    return w->a && w->x && w->y && w->v ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* ---- sums */

static double trace(const struct ptq_cdmat *h)
{
    double sum = 0;
    for (int64_t i = 0; h->at && i < h->rows; i++)
        sum += h->at[i * h->ld + i];
    return sum;
}

/* Relative to the trace, so that squares do not overflow. */
static double effective_rank(const struct ptq_cdmat *h, double tr)
{
    double sum = 0;
    for (int64_t i = 0; i < h->rows; i++)
        for (int64_t j = 0; j < h->cols; j++) {
            double v = h->at[i * h->ld + j] / tr;
            sum += v * v;
        }
    return 1 / sum;
}

static int64_t find_live(const struct ptq_cdmat *h, int64_t *live)
{
    int64_t n = 0;
    for (int64_t i = 0; i < h->rows; i++)
        if (h->at[i * h->ld + i] != 0)
            live[n++] = i;
    return n;
}

int ptq_health_of(const struct ptq_layer *l, struct ptq_pool *pool, struct ptq_health *h,
                  struct ptq_status *st)
{
    const double tr = trace(&l->hess);
    struct ptq_arena arena;
    *h = (struct ptq_health){.key = l->hess_key, .trace = tr, .sink_share = NAN, .condition = NAN};
    if (!l->hess.at)
        return PTQ_SKIP;
    if (!(tr > 0)) {
        h->n_dead = l->hess.rows;
        h->effective_rank = NAN;
        return PTQ_OK;
    }
    if (l->hess_sink.at)
        h->sink_share = trace(&l->hess_sink) / tr;
    h->effective_rank = effective_rank(&l->hess, tr);
    ptq_arena_init(&arena, 0);
    int64_t *live = ptq_arena_alloc(&arena, st, l->hess.rows, sizeof *live);
    struct work w = {.hess = &l->hess, .live = live};
    int code = live ? PTQ_OK : PTQ_ERR_MEMORY;
    if (live) {
        w.n = find_live(&l->hess, live);
        h->n_dead = l->hess.rows - w.n;
        h->damping = w.lambda = PTQ_HEALTH_PERCDAMP * tr / (double)w.n;
        code = allocate(&w, &arena, st);
    }
    if (!code)
        code = condition(&w, pool, h, st);
    ptq_arena_clear(&arena);
    return code;
}
