/* factor_real.c: the feedback matrix of GPTQ (methods.md section 2, "LDLQ form"), compiled for
 * float and for double.
 *
 * With A the permuted damped Hessian and J the reversal of indices, J A J = L L^T gives A = (J L
 * J)(J L J)^T = R R^T with R = J L J upper. Reversing both indices of a full (n x n) array is
 * reversing the array as one vector, so R overwrites L in place. */
#include "core/linalg.h"
#include "core/size.h"
#include "quant/ctx.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RETRIES = 10, ROWS_A_PIECE = 32 };
typedef struct PTQ_REAL(ptq_factor) factor;

struct work {
    struct ptq_pool *pool;
    const char *name; /* of the layer, for messages */
    const struct ptq_cdmat *hess;
    const struct ptq_factor_key *key;
    int64_t n;
    factor *f;
    double *diag; /* [n] by original column, dead inputs filled */
    uint8_t *dead;
    int32_t *perm;
    ptq_real *a; /* (n x n) */
    ptq_real *d; /* [n] */
    double lambda;
};

/* ---- diagonal: dead inputs, damping ---- */

static double given(const struct work *w, int64_t i, int64_t j)
{
    return w->key->no_hess ? i == j : w->hess->at[i * w->hess->ld + j];
}

static int fill_dead(struct work *w, int64_t *n_dead, struct ptq_status *st)
{
    double live = 0;
    *n_dead = 0;
    for (int64_t j = 0; j < w->n; j++) {
        w->diag[j] = given(w, j, j);
        w->dead[j] = w->diag[j] == 0;
        *n_dead += w->dead[j];
        live += w->diag[j];
    }
    if (*n_dead == w->n)
        return ptq_status_set(
            st, PTQ_ERR_NUMERIC,
            "%s: the Hessian is zero (every input is dead); capture statistics over a text that "
            "reaches this layer",
            w->name);
    double fill = isnan(w->key->fill) ? live / (double)(w->n - *n_dead) : w->key->fill;
    for (int64_t j = 0; j < w->n; j++)
        if (w->dead[j])
            w->diag[j] = fill;
    return PTQ_OK;
}

/* percdamp times the mean of the diagonal. Dead inputs at the live mean leave it where it is; to
 * the last bit by leaving them out. */
static double damping(const struct work *w)
{
    bool all = !isnan(w->key->fill);
    double sum = 0;
    int64_t n = 0;
    for (int64_t j = 0; j < w->n; j++)
        if (all || !w->dead[j]) {
            sum += w->diag[j];
            n++;
        }
    return w->key->percdamp * (sum / (double)n);
}

struct ordered {
    double diag;
    int32_t column;
};

static int by_diag_descending(const void *pa, const void *pb)
{
    const struct ordered *a = pa, *b = pb;
    return a->diag != b->diag ? (a->diag < b->diag) - (a->diag > b->diag)
                              : (a->column > b->column) - (a->column < b->column);
}

static int choose_order(struct work *w, struct ptq_arena *scratch, struct ptq_status *st)
{
    struct ordered *o = ptq_arena_alloc(scratch, st, w->n, sizeof *o);
    if (!o)
        return PTQ_ERR_MEMORY;
    for (int64_t j = 0; j < w->n; j++)
        o[j] = (struct ordered){w->diag[j], (int32_t)j};
    if (w->key->act_order)
        qsort(o, (size_t)w->n, sizeof *o, by_diag_descending);
    for (int64_t p = 0; p < w->n; p++)
        w->perm[p] = o[p].column;
    return PTQ_OK;
}

/* ---- factor ---- */

/* Lower triangle of J P (H + lambda I) P^T J, rows [begin, end); the rest of the row is 0. */
static void load_rows(void *arg, int64_t begin, int64_t end)
{
    const struct work *w = arg;
    int64_t n = w->n;
    for (int64_t i = begin; i < end; i++) {
        ptq_real *row = w->a + i * n;
        int64_t c = w->perm[n - 1 - i];
        for (int64_t j = 0; j < i; j++)
            row[j] = (ptq_real)given(w, c, w->perm[n - 1 - j]);
        row[i] = (ptq_real)(w->diag[c] + w->lambda);
        memset(row + i + 1, 0, (size_t)(n - 1 - i) * sizeof *row);
    }
}

static void swap_ends(void *arg, int64_t begin, int64_t end)
{
    const struct work *w = arg;
    ptq_real *last = w->a + w->n * w->n - 1;
    for (int64_t i = begin; i < end; i++) {
        ptq_real t = w->a[i];
        w->a[i] = last[-i];
        last[-i] = t;
    }
}

static void divide_columns(void *arg, int64_t begin, int64_t end)
{
    const struct work *w = arg;
    for (int64_t i = begin; i < end; i++)
        for (int64_t j = i; j < w->n; j++)
            w->a[i * w->n + j] /= w->d[j];
}

/* L in place of A becomes M = R diag(R)^-1; d = diag(R)^2. */
static void feedback_from_cholesky(struct work *w)
{
    int64_t n = w->n;
    ptq_pool_for(w->pool, n * n / 2, 1 << 16, swap_ends, w);
    for (int64_t j = 0; j < n; j++)
        w->d[j] = w->a[j * n + j];
    ptq_pool_for(w->pool, n, ROWS_A_PIECE, divide_columns, w);
    for (int64_t j = 0; j < n; j++)
        w->d[j] *= w->d[j];
}

static int factorise(struct work *w, factor *f, struct ptq_status *st)
{
    double step = damping(w);
    int64_t bad = -1;
    for (int attempt = 0; attempt <= MAX_RETRIES; attempt++) {
        w->lambda = step * (attempt + 1);
        ptq_pool_for(w->pool, w->n, ROWS_A_PIECE, load_rows, w);
        int rc = PTQ_REAL(ptq_cholesky)(w->pool, w->a, w->n, w->n, &bad, st);
        if (rc == PTQ_OK) {
            f->lambda = w->lambda;
            f->retries = attempt;
            feedback_from_cholesky(w);
            return PTQ_OK;
        }
        if (rc != PTQ_SKIP)
            return rc;
        if (step == 0)
            break;
    }
    return ptq_status_set(st, PTQ_ERR_NUMERIC,
                          "%s: the Hessian is not positive definite: pivot %lld of %lld (column "
                          "%d) fails at damping %g after %d "
                          "retries; raise percdamp (now %g)",
                          w->name, (long long)(w->n - 1 - bad), (long long)w->n,
                          w->perm[w->n - 1 - bad], w->lambda, step == 0 ? 0 : MAX_RETRIES,
                          w->key->percdamp);
}

/* Memory of the factor: the arena of a memo slot, or one of the context, which pieces of a loop
 * share and therefore lock. */
struct source {
    struct ptq_arena *arena;
    struct ptq_ctx *ctx; /* when arena == NULL */
    enum ptq_arena_kind kind;
    struct ptq_status *st;
};

static void *take(const struct source *from, int64_t n, size_t size)
{
    return from->arena ? ptq_arena_alloc(from->arena, from->st, n, size)
                       : ptq_alloc(from->ctx, from->kind, n, size);
}

static int allocate(struct work *w, const struct source *from)
{
    int64_t n = w->n, nn;
    if (!ptq_size_mul(n, n, &nn) || n > INT32_MAX)
        return ptq_status_set(from->st, PTQ_ERR_MEMORY,
                              "%s: a Hessian of %lld columns overflows a size", w->name,
                              (long long)n);
    w->f = take(from, 1, sizeof *w->f);
    w->dead = take(from, n, sizeof *w->dead);
    w->perm = take(from, n, sizeof *w->perm);
    w->d = take(from, n, sizeof *w->d);
    w->a = take(from, nn, sizeof *w->a);
    return w->f && w->dead && w->perm && w->d && w->a ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int compute(struct work *w, struct ptq_status *st)
{
    struct ptq_arena scratch;
    ptq_arena_init(&scratch, 0);
    w->diag = ptq_arena_alloc(&scratch, st, w->n, sizeof *w->diag);
    int rc = w->diag ? fill_dead(w, &w->f->n_dead, st) : PTQ_ERR_MEMORY;
    if (rc == PTQ_OK)
        rc = choose_order(w, &scratch, st);
    if (rc == PTQ_OK)
        rc = factorise(w, w->f, st);
    ptq_arena_clear(&scratch);
    w->f->n = w->n;
    w->f->m = w->a;
    w->f->d = w->d;
    w->f->perm = w->perm;
    w->f->dead = w->dead;
    return rc;
}

/* The published code puts 1 into H scaled by sequences; H scaled by tokens is n_sequences /
 * n_tokens of that. */
static double dead_fill(const struct ptq_layer *l, enum ptq_dead_rule rule)
{
    if (rule == PTQ_DEAD_MEAN)
        return NAN;
    bool token = l->hess_norm == PTQ_NORM_TOKEN && l->n_tokens > 0 && l->n_sequences > 0;
    return token ? l->n_sequences / l->n_tokens : 1;
}

static struct ptq_factor_key key_of(const struct ptq_layer *layer, int64_t n,
                                    const struct ptq_factor_args *args)
{
    return (struct ptq_factor_key){.hess_key = args->no_hess ? 0 : layer->hess_key,
                                   .n = n,
                                   .percdamp = args->percdamp,
                                   .fill = dead_fill(layer, args->dead),
                                   .act_order = args->act_order,
                                   .no_hess = args->no_hess,
                                   .f64 = sizeof(ptq_real) == sizeof(double)};
}

int PTQ_REAL(ptq_factor_get)(struct ptq_ctx *ctx, const struct ptq_layer *layer,
                             const struct ptq_factor_args *args, const factor **out)
{
    struct ptq_status st = {0};
    struct ptq_factor_key key = key_of(layer, layer->w.cols, args);
    struct ptq_factor_slot *slot;
    bool made;
    if (!args->no_hess && !layer->hess.at)
        return ptq_fail(ctx, PTQ_ERR_USAGE, "%s: no Hessian to factor", layer->name);
    int rc = ptq_factor_cache_take(ctx->cache, &key, &slot, &made, &st);
    if (rc == PTQ_OK && made) {
        struct work w = {.pool = ctx->pool,
                         .name = layer->name,
                         .hess = &layer->hess,
                         .key = &key,
                         .n = layer->w.cols};
        rc = allocate(&w, &(struct source){.arena = &slot->arena, .st = &st});
        if (rc == PTQ_OK)
            rc = compute(&w, &st);
        slot->factor = w.f;
        ptq_factor_cache_done(ctx->cache, slot, rc == PTQ_OK);
    }
    if (rc != PTQ_OK)
        return ptq_ctx_adopt(ctx, &st);
    *out = slot->factor;
    return PTQ_OK;
}

int PTQ_REAL(ptq_factor_make)(struct ptq_ctx *ctx, const struct ptq_cdmat *hess,
                              const struct ptq_layer *normalised,
                              const struct ptq_factor_args *args, const factor **out)
{
    struct ptq_status st = {0};
    struct ptq_factor_key key = key_of(normalised, hess->rows, args);
    struct work w = {
        .pool = ctx->pool, .name = normalised->name, .hess = hess, .key = &key, .n = hess->rows};
    int rc = allocate(&w, &(struct source){.ctx = ctx, .kind = args->arena, .st = &st});
    if (rc == PTQ_OK)
        rc = compute(&w, &st);
    if (rc != PTQ_OK) /* ptq_alloc has set its message itself */
        return st.code ? ptq_ctx_adopt(ctx, &st) : rc;
    *out = w.f;
    return PTQ_OK;
}
