/* attnstats_real.c: second moments of one kv head over one sequence (attnstats.h). */
#include "core/arena.h"
#include "core/linalg.h"
#include "core/num.h"
#include "model/attention.h"
#include "model/attnstats.h"
#include <math.h>

/* Rows of A in memory at once; a constant, so that it decides no sum with the threads. */
enum { QUERIES = 256 };

static int64_t min_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void copy(const float *x, int64_t rows, int64_t cols, int64_t ld, ptq_real *out)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            out[i * cols + j] = x[i * ld + j];
}

#ifdef PTQ_DOUBLE
static void exp_row(double *x, double top, int64_t n)
{
    for (int64_t u = 0; u < n; u++)
        x[u] -= top;
    ptq_exp_n(x, x, n);
}
#else
static void exp_row(float *x, float top, int64_t n)
{
    ptq_expf_n(x, top, x, n);
}
#endif

/* Softmax of the scores of query t for keys first .. first + cols - 1, of which it sees those in
 * [from, to); the others get 0. */
static void softmax_row(const struct ptq_attention *at, float slope, int64_t t,
                        const struct ptq_attn_rows *r, ptq_real *a)
{
    const int64_t from = (at->window ? max_of(0, t - at->window + 1) : 0) - r->first,
                  to = (at->bidirectional ? at->len : t + 1) - r->first;
    ptq_real top = -INFINITY;
    double sum = 0;
    for (int64_t u = from; u < to; u++) {
        a[u] += (ptq_real)slope * (ptq_real)(r->first + u - t);
        top = a[u] > top ? a[u] : top;
    }
    exp_row(a + from, top, to - from);
    for (int64_t u = from; u < to; u++)
        sum += (double)a[u];
    for (int64_t u = 0; u < r->cols; u++)
        a[u] = u >= from && u < to ? (ptq_real)((double)a[u] / sum) : 0;
}

/* q (len x head_dim), k (len x head_dim): of the head alone. */
static int weights(struct ptq_pool *pool, const struct ptq_attention *at, const ptq_real *q,
                   const ptq_real *k, struct ptq_attn_rows *r, ptq_real *a, struct ptq_status *st)
{
    const int64_t hd = at->head_dim;
    const double scale = at->scale != 0 ? (double)at->scale : 1 / sqrt((double)hd);
    r->first = at->window ? max_of(0, r->t0 - at->window + 1) : 0;
    r->cols = (at->bidirectional ? at->len : r->t0 + r->n) - r->first;
    const struct PTQ_REAL(ptq_gemm) g = {.m = r->n,
                                         .n = r->cols,
                                         .k = hd,
                                         .tb = true,
                                         .alpha = (ptq_real)scale,
                                         .a = q + r->t0 * hd,
                                         .lda = hd,
                                         .b = k + r->first * hd,
                                         .ldb = hd,
                                         .c = a,
                                         .ldc = r->cols};
    int rc = PTQ_REAL(ptq_gemm)(pool, &g, st);
    for (int64_t i = 0; i < r->n && !rc; i++)
        softmax_row(at, at->slopes ? at->slopes[r->head] : 0, r->t0 + i, r, a + i * r->cols);
    return rc;
}

static void copy_head(const struct ptq_attention *at, int64_t head, ptq_real *q, ptq_real *k)
{
    const int64_t hd = at->head_dim, kv = head / (at->n_heads / at->n_kv_heads);
    copy(at->q + head * hd, at->len, hd, at->n_heads * hd, q);
    copy(at->k + kv * hd, at->len, hd, at->n_kv_heads * hd, k);
}

int PTQ_REAL(ptq_attn_weights)(struct ptq_pool *pool, const struct ptq_attention *at,
                               struct ptq_attn_rows *r, ptq_real *a, struct ptq_status *st)
{
    struct ptq_arena own;
    ptq_arena_init(&own, 0);
    ptq_real *q = ptq_arena_alloc(&own, st, at->len, (size_t)at->head_dim * sizeof *q),
             *k = ptq_arena_alloc(&own, st, at->len, (size_t)at->head_dim * sizeof *k);
    int rc = q && k ? PTQ_OK : PTQ_ERR_MEMORY;
    if (!rc) {
        copy_head(at, r->head, q, k);
        rc = weights(pool, at, q, k, r, a, st);
    }
    ptq_arena_clear(&own);
    return rc;
}

struct scratch {
    ptq_real *q, *k; /* (len x head_dim) of a head */
    ptq_real *a;     /* (QUERIES x len) */
    ptq_real *x, *y; /* (len x d): X, A X */
    ptq_real *gram;  /* (d x d) or (head_dim x head_dim) */
};

static int make_scratch(const struct ptq_attn_sequence *s, bool mixed, struct ptq_arena *own,
                        struct scratch *w, struct ptq_status *st)
{
    const int64_t len = s->at->len, hd = s->at->head_dim, wide = mixed ? s->d : 0;
    const size_t size = sizeof(ptq_real);
    w->q = ptq_arena_alloc(own, st, len, (size_t)hd * size);
    w->k = ptq_arena_alloc(own, st, len, (size_t)hd * size);
    w->a = ptq_arena_alloc(own, st, mixed ? len : 0, QUERIES * size);
    w->x = ptq_arena_alloc(own, st, len, (size_t)wide * size);
    w->y = ptq_arena_alloc(own, st, len, (size_t)wide * size);
    w->gram = ptq_arena_alloc(own, st, max_of(hd, wide), (size_t)max_of(hd, wide) * size);
    return w->q && w->k && w->a && w->x && w->y && w->gram ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int add_square(struct ptq_pool *pool, const ptq_real *x, int64_t len, int64_t n,
                      ptq_real *gram, double *sum, struct ptq_status *st)
{
    int rc = PTQ_REAL(ptq_syrk)(pool, x, len, n, n, gram, n, st);
    for (int64_t i = 0; i < n * n && !rc; i++)
        sum[i] += (double)gram[i];
    return rc;
}

static int add_triangle(struct ptq_pool *pool, const ptq_real *y, int64_t len, int64_t n,
                        ptq_real *gram, double *sum, struct ptq_status *st)
{
    int rc = PTQ_REAL(ptq_syrk)(pool, y, len, n, n, gram, n, st);
    for (int64_t i = 0, e = 0; i < n && !rc; i++)
        for (int64_t j = i; j < n; j++, e++)
            sum[e] += (double)gram[i * n + j];
    return rc;
}

/* y = A x of one head, a block of queries at a time: those see no key behind them. */
static int mix(struct ptq_pool *pool, const struct ptq_attn_sequence *s, int64_t head,
               const struct scratch *w, struct ptq_status *st)
{
    const struct ptq_attention *at = s->at;
    int rc = PTQ_OK;
    for (int64_t t0 = 0; t0 < at->len && !rc; t0 += QUERIES) {
        struct ptq_attn_rows r = {.head = head, .t0 = t0, .n = min_of(QUERIES, at->len - t0)};
        if ((rc = weights(pool, at, w->q, w->k, &r, w->a, st)))
            break;
        const struct PTQ_REAL(ptq_gemm) g = {.m = r.n,
                                             .n = s->d,
                                             .k = r.cols,
                                             .alpha = 1,
                                             .a = w->a,
                                             .lda = r.cols,
                                             .b = w->x + r.first * s->d,
                                             .ldb = s->d,
                                             .c = w->y + t0 * s->d,
                                             .ldc = s->d};
        rc = PTQ_REAL(ptq_gemm)(pool, &g, st);
    }
    return rc;
}

static int add_all(struct ptq_pool *pool, const struct ptq_attn_sequence *s,
                   const struct ptq_attn_sums *sums, const struct scratch *w, struct ptq_status *st)
{
    const struct ptq_attention *at = s->at;
    const int64_t group = at->n_heads / at->n_kv_heads, hd = at->head_dim;
    int rc = PTQ_OK;
    if (sums->mixed)
        copy(s->x, at->len, s->d, s->d, w->x);
    for (int64_t h = s->kv_head * group; h < (s->kv_head + 1) * group && !rc; h++) {
        copy_head(at, h, w->q, w->k);
        if (h == s->kv_head * group)
            rc = add_square(pool, w->k, at->len, hd, w->gram, sums->keys, st);
        if (!rc)
            rc = add_square(pool, w->q, at->len, hd, w->gram, sums->queries, st);
        if (!rc && sums->mixed && !(rc = mix(pool, s, h, w, st)))
            rc = add_triangle(pool, w->y, at->len, s->d, w->gram, sums->mixed, st);
    }
    return rc;
}

int PTQ_REAL(ptq_attn_add)(struct ptq_pool *pool, const struct ptq_attn_sequence *s,
                           const struct ptq_attn_sums *sums, struct ptq_status *st)
{
    struct ptq_arena own;
    struct scratch w;
    ptq_arena_init(&own, 0);
    int rc = make_scratch(s, sums->mixed != NULL, &own, &w, st);
    if (!rc)
        rc = add_all(pool, s, sums, &w, st);
    ptq_arena_clear(&own);
    return rc;
}
