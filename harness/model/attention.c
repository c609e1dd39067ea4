/* 48 queries of a head side by side, one a lane: scores are kept transposed (key x query), so that
 * softmax never reduces across a vector and both products are the tile of core/fmatile.h. Keys come
 * in blocks with a running maximum (Milakov and Gimelshein, arXiv:1805.02867): the rounding of a
 * row depends on its place in the sequence, not on threads. */
#include "model/attention.h"
#include "core/clones.h"
#include "core/fmatile.h"
#include "core/num.h"
#include "model/internal.h"
#include <math.h>
#include <string.h>

/* Lanes of sums; the width of a vector changes no order. */
enum { LANES = 16 };
typedef float lanes __attribute__((vector_size(64)));
typedef float loose __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(64)));
typedef double wide __attribute__((vector_size(128)));
typedef double loose_wide __attribute__((vector_size(128), aligned(8), may_alias));

PTQ_CLONES double ptq_lanes_sumsq(const float *x, int64_t n)
{
    wide a = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        wide v = __builtin_convertvector(*(const loose *)(x + i), wide);
        a += v * v;
    }
    double s = 0;
    for (int j = 0; j < LANES; j++) {
        double t = a[j];
        if (i + j < n)
            t += (double)x[i + j] * x[i + j];
        s += t;
    }
    return s;
}

PTQ_CLONES double ptq_lanes_sum(const float *x, int64_t n)
{
    wide a = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        a += __builtin_convertvector(*(const loose *)(x + i), wide);
    double s = 0;
    for (int j = 0; j < LANES; j++)
        s += i + j < n ? a[j] + x[i + j] : a[j];
    return s;
}

/* ---- a block of queries */

enum {
    ROWS = PTQ_FMATILE_ROWS,
    QUERIES = PTQ_FMATILE_COLS,
    VECTORS = QUERIES / LANES,
    KEYS = 128, /* a multiple of ROWS; scores of a block stay in the first cache */
    WIDE = 256  /* channels of a head at a time */
};
_Static_assert(KEYS % ROWS == 0 && WIDE % ROWS == 0 && QUERIES % LANES == 0, "whole tiles");

struct block {
    const struct ptq_attention *at;
    ptq_fmatile_fn *kernel;
    int64_t head, t0;    /* queries t0 .. t0 + QUERIES - 1, of which those below len exist */
    int64_t u0, n;       /* keys u0 .. u0 + n - 1 */
    uint64_t seen[KEYS]; /* bit i: query t0 + i sees the key */
    bool all_seen;       /* by all queries */
    float top[QUERIES];  /* largest score so far */
    double sum[QUERIES]; /* of exp(score - top) */
    /* (channel x query): queries, scaled, and values weighted by exp(score - top); (key x query) */
    _Alignas(64) float q[WIDE * QUERIES];
    float mixed[WIDE * QUERIES], score[KEYS * QUERIES];
};

static int64_t min_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Key and value rows of this block's head. */
static const float *key_head(const struct block *b, const float *of)
{
    const struct ptq_attention *at = b->at;
    return of + b->head / (at->n_heads / at->n_kv_heads) * at->head_dim;
}

static void load_queries(struct block *b, int64_t d0, int64_t n)
{
    const struct ptq_attention *at = b->at;
    const int64_t ld = at->n_heads * at->head_dim, rows = min_of(QUERIES, at->len - b->t0);
    const float scale = at->scale != 0 ? at->scale : (float)(1 / sqrt((double)at->head_dim));
    const float *q = at->q + b->t0 * ld + b->head * at->head_dim + d0;
    for (int64_t d = 0; d < n; d++)
        for (int64_t i = 0; i < QUERIES; i++)
            b->q[d * QUERIES + i] = i < rows ? q[i * ld + d] * scale : 0;
}

/* Query i sees the keys i - window + 1 .. i of its sequence: key u is seen by lanes [u - t0,
 * u - t0 + window). */
static void look(struct block *b)
{
    const struct ptq_attention *at = b->at;
    const uint64_t all = (UINT64_C(1) << QUERIES) - 1;
    b->all_seen = true;
    for (int64_t u = 0; u < b->n; u++) {
        int64_t from = at->bidirectional ? 0 : max_of(0, b->u0 + u - b->t0),
                to = at->window ? min_of(QUERIES, b->u0 + u - b->t0 + at->window) : QUERIES;
        b->seen[u] = to <= 0 ? 0 : all >> (QUERIES - to) & (from >= QUERIES ? 0 : all << from);
        b->all_seen = b->all_seen && b->seen[u] == all;
    }
}

static void scores_run(struct block *b, int64_t d0, int64_t n)
{
    const int64_t ld = b->at->n_kv_heads * b->at->head_dim;
    const float *k = key_head(b, b->at->k) + b->u0 * ld + d0;
    struct ptq_fmatile t = {.step = 1, .n = n, .b = b->q, .ldc = QUERIES, .add = d0 > 0};
    for (int64_t u = 0; u < b->n; u += ROWS) {
        for (int64_t r = 0; r < ROWS; r++)
            t.row[r] = k + min_of(u + r, b->n - 1) * ld;
        t.c = b->score + u * QUERIES;
        b->kernel(&t);
    }
}

PTQ_CLONES static void slope_add(float slope, int64_t distance, float *score, int64_t n)
{
    for (int64_t u = 0; u < n; u++)
        for (int64_t i = 0; i < QUERIES; i++)
            score[u * QUERIES + i] += slope * (float)(distance + u - i);
}

static void hide(struct block *b)
{
    for (int64_t u = 0; u < b->n && !b->all_seen; u++)
        for (int64_t i = 0; i < QUERIES; i++)
            if (!(b->seen[u] >> i & 1))
                b->score[u * QUERIES + i] = -INFINITY;
}

/* top = the larger of top and the scores, shrink = old top - top, score -= top */
PTQ_CLONES static void tops(float *score, int64_t n, float *top, float *shrink)
{
    loose *s = (loose *)score, *of = (loose *)top;
    lanes most[VECTORS];
    memcpy(most, top, sizeof most);
    for (int64_t u = 0; u < n; u++)
        for (int v = 0; v < VECTORS; v++) {
            const lanes x = s[u * VECTORS + v];
            const mask more = x > most[v];
            most[v] = (lanes)((more & (mask)x) | (~more & (mask)most[v]));
        }
    for (int v = 0; v < VECTORS; v++) {
        ((loose *)shrink)[v] = of[v] - most[v];
        of[v] = most[v];
    }
    for (int64_t u = 0; u < n; u++)
        for (int v = 0; v < VECTORS; v++)
            s[u * VECTORS + v] -= most[v];
}

PTQ_CLONES static void sums(const float *e, int64_t n, const float *shrink, double *sum)
{
    const loose *x = (const loose *)e, *by = (const loose *)shrink;
    loose_wide *total = (loose_wide *)sum;
    wide now[VECTORS] = {{0}};
    for (int64_t u = 0; u < n; u++)
        for (int v = 0; v < VECTORS; v++)
            now[v] += __builtin_convertvector(x[u * VECTORS + v], wide);
    for (int v = 0; v < VECTORS; v++)
        total[v] = total[v] * __builtin_convertvector(by[v], wide) + now[v];
}

PTQ_CLONES static void shrink_by(const float *shrink, float *mixed, int64_t n)
{
    for (int64_t d = 0; d < n; d++)
        for (int64_t i = 0; i < QUERIES; i++)
            mixed[d * QUERIES + i] *= shrink[i];
}

static void values_run(struct block *b, int64_t d0, int64_t n)
{
    const int64_t ld = b->at->n_kv_heads * b->at->head_dim;
    const float *v = key_head(b, b->at->v) + b->u0 * ld + d0;
    struct ptq_fmatile t = {.step = ld,
                            .n = b->n,
                            .b = b->score,
                            .seen = b->all_seen ? NULL : b->seen,
                            .ldc = QUERIES,
                            .add = true};
    for (int64_t d = 0; d < n; d += ROWS) {
        for (int64_t r = 0; r < ROWS; r++)
            t.row[r] = v + min_of(d + r, n - 1);
        t.c = b->mixed + d * QUERIES;
        b->kernel(&t);
    }
}

/* The keys' part of channels [d0, d0 + n) of the output. A head of up to WIDE channels has its
 * queries loaded already. */
static void keys_run(struct block *b, int64_t d0, int64_t n)
{
    const struct ptq_attention *at = b->at;
    float shrink[QUERIES];
    look(b);
    for (int64_t e0 = 0; e0 < at->head_dim; e0 += WIDE) {
        const int64_t wide_now = min_of(WIDE, at->head_dim - e0);
        if (at->head_dim > WIDE)
            load_queries(b, e0, wide_now);
        scores_run(b, e0, wide_now);
    }
    if (at->slopes)
        slope_add(at->slopes[b->head], b->u0 - b->t0, b->score, b->n);
    hide(b);
    tops(b->score, b->n, b->top, shrink);
    ptq_expf_n(shrink, 0, shrink, QUERIES);
    ptq_expf_n(b->score, 0, b->score, b->n * QUERIES);
    sums(b->score, b->n, shrink, b->sum);
    shrink_by(shrink, b->mixed, n);
    values_run(b, d0, n);
}

static void store(const struct block *b, int64_t d0, int64_t n)
{
    const struct ptq_attention *at = b->at;
    const int64_t ld = at->n_heads * at->head_dim, rows = min_of(QUERIES, at->len - b->t0);
    for (int64_t i = 0; i < rows; i++) {
        const float inverse = (float)(1 / b->sum[i]);
        float *out = at->out + (b->t0 + i) * ld + b->head * at->head_dim + d0;
        for (int64_t d = 0; d < n; d++)
            out[d] = b->mixed[d * QUERIES + i] * inverse;
    }
}

static void channels_run(struct block *b, int64_t d0, int64_t n)
{
    const struct ptq_attention *at = b->at;
    const int64_t first = at->window ? max_of(0, b->t0 - at->window + 1) : 0,
                  end = at->bidirectional ? at->len : min_of(at->len, b->t0 + QUERIES);
    memset(b->sum, 0, sizeof b->sum);
    memset(b->mixed, 0, (size_t)((n + ROWS - 1) / ROWS * ROWS * QUERIES) * sizeof *b->mixed);
    for (int i = 0; i < QUERIES; i++)
        b->top[i] = -__FLT_MAX__ / 2; /* finite: a lane that has seen no key yet keeps 0 - 0 */
    for (b->u0 = first; b->u0 < end; b->u0 += KEYS) {
        b->n = min_of(KEYS, end - b->u0);
        keys_run(b, d0, n);
    }
    store(b, d0, n);
}

struct job {
    const struct ptq_attention *at;
    ptq_fmatile_fn *kernel;
    int64_t n_blocks;
};

/* Pieces are heads of blocks of queries; the last blocks first, because they see the most keys. */
static void pieces(void *arg, int64_t begin, int64_t end)
{
    const struct job *j = arg;
    const int64_t dim = j->at->head_dim;
    struct block b; /* 120 KiB: not cleared */
    b.at = j->at;
    b.kernel = j->kernel;
    for (int64_t p = begin; p < end; p++) {
        b.head = p % j->at->n_heads;
        b.t0 = (j->n_blocks - 1 - p / j->at->n_heads) * QUERIES;
        if (dim <= WIDE)
            load_queries(&b, 0, dim);
        for (int64_t d0 = 0; d0 < dim; d0 += WIDE)
            channels_run(&b, d0, min_of(WIDE, dim - d0));
    }
}

void ptq_attention_run(const struct ptq_attention *at)
{
    const struct job j = {at, ptq_fmatile_best(), (at->len - 1) / QUERIES + 1};
    ptq_pool_for(at->pool, j.n_blocks * at->n_heads, 1, pieces, (void *)(uintptr_t)&j);
}
