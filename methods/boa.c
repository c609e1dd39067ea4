/* boa.c: BoA, "Attention-aware Post-training Quantization without Backpropagation" (arXiv
 * 2406.13474), and TurboBoA (arXiv 2602.04929), in LDLQ form. methods.md section 4.
 *
 * What a head of attention loses is, to first order, tr(H_row dW H_col dW^T), dW = W - What (d_h x
 * n): its Hessian is H_row x H_col (Kronecker, rows of W by H_row).
 *
 *     q, k    H_col = 2 X X^T,         H_row = covariance of the keys (of the queries)  (Table 1)
 *     v       H_col = 2 X A^T A X^T,   H_row = W_o^T W_o                                 (eq. 9)
 *     others  H_col = 2 X X^T,         H_row = I: GPTQ
 *
 * Rows of a head therefore compensate each other. The published recursion quantizes row j by GPTQ's
 * column sweep with chol(H_col^-1) and moves its error to the rows below through U, H_row^-1 = U^T
 * U: W_k -= U_jk / U_jj (W_j - What_j), since chol of the Kronecker product is the product of
 * chols. With H_row = R R^T (R upper), M = R diag(R)^-1 the same rows come from feedback of the
 * errors against the original weights, E = W - What (as in gptq.c, applied to rows):
 *
 *     T_k = W_k + D_k,    D_k = sum over i < k of M_ik E_i,    What_k = GPTQ sweep of T_k      (1)
 *
 * TurboBoA's joint rows (F1): N rows are swept at once and only then compensated for. Rows B begin
 * when the rows F before them are fixed: they are then the minimizer over all rows from B on,
 * W_B + D_B with M_BB^T D_B = M_FB^T E_F, that is, row by row
 *
 *     D_k = sum over i < k of M_ik X_i,    X_i = E_i before the block, -D_i in the block       (2)
 *
 * which for N = 1 is (1). Upstream error (F2), R = 2 (X_fp - X) X^T and alpha: the sweep is driven
 * by P = alpha striu(R U_c^T) U_c, and rows hand on E + alpha T R H_col^-1. Scales and grids (F3):
 * adaptive_grid fits the grid of a block from T; refine_scales then moves, with the codes frozen,
 * one scale after the other to the minimum of tr(H_row dW H_col dW^T) (+ the linear term of R).
 *
 * Heads are independent ("head-wise simultaneous"). Damping: percdamp of the mean diagonal of each
 * of the two factors, again until it is positive definite.
 *
 * Departures: as in gptq.c (scales rounded before codes see them, diagonal of dead inputs). Rows
 * whose H_row diagonal is 0 get the mean of the others and keep their weights; a head whose H_row
 * is 0 counts as H_row = I. F2 uses x, the value before rounding, in P (the code of GPTAQ uses What
 * in its lazy blocks), and for v 2 X X^T, since R is captured of X alone. F3 refines with undamped
 * factors and rounds a scale at once, to nearest: no farther from the minimum than the old one. */
#include "ptq.h"
#include <math.h>
#include <string.h>

enum { ROW_PANEL = 16, REFINE_ROWS = 64 };

struct opts {
    bool act_order_row, act_order_col, block_v, row_factor_v, adaptive_grid, refine_scales;
    double percdamp, upstream;
    int64_t dead, joint_rows;
};

typedef const struct PTQ_REAL(ptq_factor) factor;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- which Hessians a layer has ---- */

static bool is_attention(const struct ptq_layer *l)
{
    return l->role == PTQ_ROLE_Q || l->role == PTQ_ROLE_K || l->role == PTQ_ROLE_V;
}

static bool wants_row_factor(const struct ptq_layer *l, const struct opts *o)
{
    return is_attention(l) && (l->role != PTQ_ROLE_V || o->row_factor_v);
}

static bool wants_head_columns(const struct ptq_layer *l, const struct opts *o)
{
    return l->role == PTQ_ROLE_V && o->block_v && o->upstream == 0;
}

static bool wants_attention(const struct ptq_layer *l, const struct opts *o)
{
    return wants_row_factor(l, o) || wants_head_columns(l, o);
}

static int check_attention(struct ptq_ctx *ctx, const struct ptq_layer *l, const struct opts *o)
{
    const struct ptq_attn *a = l->attn;
    if (!a || (wants_row_factor(l, o) && !a->hrow))
        return ptq_skip(
            ctx,
            "boa needs attention statistics, which %s lacks: set [calib] attention = 1, "
            "or ptq capture --attention",
            l->name);
    if (a->n_heads < 1 || a->head_dim < 1 || l->w.rows % a->head_dim ||
        l->w.rows / a->head_dim != a->n_heads)
        return ptq_fail(ctx, PTQ_ERR_USAGE,
                        "%s: attention statistics of %lld heads of %lld rows do not fit its %lld "
                        "rows; capture them again from this model",
                        l->name, (long long)a->n_heads, (long long)a->head_dim,
                        (long long)l->w.rows);
    if (wants_head_columns(l, o) && !a->hcol)
        return ptq_skip(ctx,
                        "the attention statistics of %s hold no column factors of heads: capture "
                        "them ([calib] attention = 1, or ptq capture --attention --block-v on), or "
                        "use block_v=0",
                        l->name);
    return PTQ_OK;
}

/* Full precision is walked a second time for cells with an upstream alone. */
static unsigned needs_of(const void *opts)
{
    const struct opts *o = opts;
    return PTQ_NEEDS_HESS | PTQ_NEEDS_ATTN | (o->upstream > 0 ? PTQ_NEEDS_CROSS : 0);
}

static int check(struct ptq_ctx *ctx, const struct ptq_layer *l, const struct ptq_cell *cell,
                 const void *opts)
{
    const struct opts *o = opts;
    if (wants_attention(l, o)) {
        int rc = check_attention(ctx, l, o);
        if (rc != PTQ_OK)
            return rc;
    }
    if (o->act_order_col && cell->group_size > 0 && cell->group_size < l->w.cols)
        return ptq_skip(ctx, "act_order_col does not go with groups, as in the released code: use "
                             "act_order_col=0 or group_size = -1");
    if (cell->group_size == PTQ_GROUP_TENSOR && (o->adaptive_grid || o->refine_scales))
        return ptq_skip(ctx,
                        "adaptive_grid and refine_scales need grids of rows or groups, not one "
                        "for the tensor");
    if (o->upstream > 0 && !l->cross.at)
        return ptq_skip(ctx,
                        "upstream needs 2 (x_fp - x) x^T of %s, which sequential statistics alone "
                        "hold: set [calib] stats = sequential, or use upstream=0",
                        l->name);
    return PTQ_OK;
}

/* ---- prepare: factors ---- */

struct shared {
    int64_t heads, head_rows; /* a layer without heads is one head */
    bool own_col;             /* heads have column factors of their own */
    int64_t n_col;            /* then heads, else 1 */
    factor **col;             /* [n_col] */
    factor **row;             /* [heads], NULL: H_row = I */
    ptq_real *drive;          /* F2: P / alpha (n x n), order of col[0] */
    ptq_real *pull;           /* F2: R H_col^-1 (n x n), original order */
};

struct totals {
    double damping, damping_row, retries, n_dead, n_heads_without_row;
};

/* H_col of head h, unpacked; `full` (n x n) is written only where it has to be. */
static struct ptq_cdmat head_hess(const struct ptq_layer *l, bool own_col, int64_t h, double *full)
{
    int64_t n = l->w.cols;
    if (!own_col)
        return l->hess;
    const double *at = l->attn->hcol + h * (n * (n + 1) / 2);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i; j < n; j++)
            full[i * n + j] = full[j * n + i] = *at++;
    return (struct ptq_cdmat){full, n, n, n};
}

static int column_factors(struct ptq_ctx *ctx, const struct ptq_layer *l, const struct opts *o,
                          struct shared *s, struct totals *t)
{
    struct ptq_factor_args args = {.percdamp = o->percdamp,
                                   .dead = (enum ptq_dead_rule)o->dead,
                                   .act_order = o->act_order_col,
                                   .arena = PTQ_ARENA_LAYER};
    int64_t n = l->w.cols;
    double *full = ptq_alloc(ctx, PTQ_ARENA_CALL, s->own_col ? n * n : 0, sizeof *full);
    int rc = full ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int64_t h = 0; h < s->n_col && rc == PTQ_OK; h++) {
        struct ptq_cdmat hess = head_hess(l, s->own_col, h, full);
        rc = s->own_col ? PTQ_REAL(ptq_factor_make)(ctx, &hess, l, &args, &s->col[h])
                        : PTQ_REAL(ptq_factor_get)(ctx, l, &args, &s->col[h]);
        if (rc != PTQ_OK)
            return rc;
        t->damping = s->col[h]->lambda > t->damping ? s->col[h]->lambda : t->damping;
        t->retries += s->col[h]->retries;
        t->n_dead = (double)s->col[h]->n_dead;
    }
    return rc;
}

static bool is_zero(const double *x, int64_t n)
{
    int64_t i = 0;
    while (i < n && x[i] == 0)
        i++;
    return i == n;
}

static int row_factors(struct ptq_ctx *ctx, const struct ptq_layer *l, const struct opts *o,
                       struct shared *s, struct totals *t)
{
    int64_t d = s->head_rows;
    for (int64_t h = 0; h < s->heads; h++) {
        struct ptq_cdmat hess = {l->attn->hrow + h * d * d, d, d, d};
        struct ptq_factor_args args = {.percdamp = o->percdamp,
                                       .act_order = o->act_order_row,
                                       .no_hess = is_zero(hess.at, d * d),
                                       .arena = PTQ_ARENA_LAYER};
        int rc = PTQ_REAL(ptq_factor_make)(ctx, &hess, l, &args, &s->row[h]);
        if (rc != PTQ_OK)
            return rc;
        double lambda = args.no_hess ? 0 : s->row[h]->lambda;
        t->damping_row = lambda > t->damping_row ? lambda : t->damping_row;
        t->retries += s->row[h]->retries;
        t->n_heads_without_row += args.no_hess;
    }
    return PTQ_OK;
}

/* F2. With the columns in order and A = H + lambda I = R_c R_c^T (U_c = R_c^-1, L = R_c^T):
 *     (R U_c^T)^T = L^-T R^T =: B,   P^T = L^-1 (B below its diagonal),   (R A^-1)^T = L^-1 B */
static int upstream_matrices(struct ptq_ctx *ctx, const struct ptq_layer *l, struct shared *s)
{
    int64_t n = l->w.cols;
    factor *f = s->col[0];
    ptq_real *lower = ptq_alloc(ctx, PTQ_ARENA_CALL, n * n, sizeof *lower);
    ptq_real *b = ptq_alloc(ctx, PTQ_ARENA_CALL, n * n, sizeof *b);
    ptq_real *below = ptq_alloc(ctx, PTQ_ARENA_CALL, n * n, sizeof *below);
    s->drive = ptq_alloc(ctx, PTQ_ARENA_LAYER, n * n, sizeof *s->drive);
    s->pull = ptq_alloc(ctx, PTQ_ARENA_LAYER, n * n, sizeof *s->pull);
    if (!lower || !b || !below || !s->drive || !s->pull)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            if (j >= i)
                lower[j * n + i] = f->m[i * n + j] * (ptq_real)sqrt((double)f->d[j]);
            b[j * n + i] = (ptq_real)l->cross.at[f->perm[i] * l->cross.ld + f->perm[j]];
        }
    int rc = PTQ_REAL(ptq_solve_lower)(ctx, true, lower, n, n, b, n, n);
    for (int64_t i = 0; i < n && rc == PTQ_OK; i++)
        memcpy(below + i * n, b + i * n, (size_t)i * sizeof *b);
    if (rc == PTQ_OK)
        rc = PTQ_REAL(ptq_solve_lower)(ctx, false, lower, n, n, below, n, n);
    if (rc == PTQ_OK)
        rc = PTQ_REAL(ptq_solve_lower)(ctx, false, lower, n, n, b, n, n);
    for (int64_t i = 0; i < n && rc == PTQ_OK; i++)
        for (int64_t j = 0; j < n; j++) {
            s->drive[i * n + j] = j > i ? below[j * n + i] : 0;
            s->pull[f->perm[i] * n + f->perm[j]] = b[j * n + i];
        }
    return rc;
}

static int prepare(struct ptq_ctx *ctx, const struct ptq_layer *l, const void *opts,
                   const void **shared)
{
    const struct opts *o = opts;
    struct totals t = {0};
    struct shared *s = ptq_alloc(ctx, PTQ_ARENA_LAYER, 1, sizeof *s);
    if (!s)
        return PTQ_ERR_MEMORY;
    s->heads = wants_attention(l, o) ? l->attn->n_heads : 1;
    s->head_rows = l->w.rows / s->heads;
    s->own_col = wants_head_columns(l, o);
    s->n_col = s->own_col ? s->heads : 1;
    s->col = ptq_alloc(ctx, PTQ_ARENA_LAYER, s->n_col, sizeof *s->col);
    if (wants_row_factor(l, o) &&
        !(s->row = ptq_alloc(ctx, PTQ_ARENA_LAYER, s->heads, sizeof *s->row)))
        return PTQ_ERR_MEMORY;
    int rc = s->col ? column_factors(ctx, l, o, s, &t) : PTQ_ERR_MEMORY;
    if (rc == PTQ_OK && s->row)
        rc = row_factors(ctx, l, o, s, &t);
    if (rc == PTQ_OK && o->upstream > 0)
        rc = upstream_matrices(ctx, l, s);
    ptq_note(ctx, "damping", t.damping);
    ptq_note(ctx, "damping_row", t.damping_row);
    ptq_note(ctx, "retries", t.retries);
    ptq_note(ctx, "n_dead", t.n_dead);
    ptq_note(ctx, "n_heads_without_row", t.n_heads_without_row);
    *shared = s;
    return rc;
}

/* ---- one cell ---- */

struct job {
    struct ptq_ctx *ctx;
    const struct ptq_layer *layer;
    const struct ptq_cell *cell;
    const struct opts *opts;
    const struct shared *s;
    struct ptq_part *part;
    struct ptq_part_arrays at;
    int64_t n, groups; /* groups of a row, at least 1 */
    int64_t block;     /* N: rows of a head that are swept at once */
    int64_t panel;     /* rows of a head that get earlier panels' feedback in one product */
    double *hess;      /* (n x n) of the head at hand; only with own_col */
    ptq_real *drive;   /* P, or NULL */
    /* (heads x head_rows x n), rows in order of quantization: X of (2), E in the end */
    ptq_real *e;
    ptq_real *d;      /* (heads x panel x n): D */
    ptq_real *target; /* (heads x block x n): T, head by head without gaps */
    /* the block's grids and codes, rows as in target */
    struct ptq_part grids;
    float *scale, *zero;
    uint16_t *codes;
    int64_t first, n_rows; /* the block: positions [first, first + n_rows) of every head */
    int64_t panel_first;
    int64_t *n_clipped;      /* [heads] */
    int *rc;                 /* [heads] */
    struct fit_scratch *fit; /* [ptq_threads], where grids are fitted here */
};

struct fit_scratch {
    ptq_real *x;    /* [n] */
    double *search; /* what the Hessian search wants */
    int64_t n_widened;
};

/* The row of the layer at position p of head h. */
static int64_t row_at(const struct job *job, int64_t h, int64_t p)
{
    return h * job->s->head_rows + (job->s->row ? job->s->row[h]->perm[p] : p);
}

static factor *column_factor(const struct job *job, int64_t h)
{
    return job->s->col[job->s->own_col ? h : 0];
}

/* y += a x. */
PTQ_CLONES static void add_scaled(ptq_real *restrict y, const ptq_real *restrict x, ptq_real a,
                                  int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        y[j] += a * x[j];
}

/* ---- (2): what the rows before feed into a row ---- */

/* Rows before the panel, into all rows of the panel: D = M^T E. */
static int far_feedback(const struct job *job, int64_t h)
{
    const struct shared *s = job->s;
    int64_t first = job->panel_first, rows = least(job->panel, s->head_rows - first), n = job->n;
    ptq_real *d = job->d + h * job->panel * n;
    memset(d, 0, (size_t)(rows * n) * sizeof *d);
    ptq_real *mt = ptq_alloc(job->ctx, PTQ_ARENA_CALL, rows * first, sizeof *mt);
    if (!mt)
        return PTQ_ERR_MEMORY;
    for (int64_t k = 0; k < rows; k++)
        for (int64_t i = 0; i < first; i++)
            mt[k * first + i] = s->row[h]->m[i * s->head_rows + first + k];
    return PTQ_REAL(ptq_gemm_add)(job->ctx, 1, rows, n, first, mt, first,
                                  job->e + h * s->head_rows * n, n, d, n);
}

/* Rows of the panel up to row k, into row k. */
static void near_feedback(const struct job *job, int64_t h, int64_t k)
{
    const struct shared *s = job->s;
    int64_t n = job->n, first = job->panel_first;
    ptq_real *d = job->d + h * job->panel * n, *e = job->e + h * s->head_rows * n;
    for (int64_t i = first; i < k; i++) {
        ptq_real m = s->row[h]->m[i * s->head_rows + k];
        bool fixed = i < job->first;
        add_scaled(d + (k - first) * n, fixed ? e + i * n : d + (i - first) * n, fixed ? m : -m, n);
    }
}

/* T of the block's rows, for heads [begin, end). */
static void load_block(void *arg, int64_t begin, int64_t end)
{
    struct job *job = arg;
    int64_t n = job->n;
    for (int64_t h = begin; h < end; h++) {
        if (job->s->row && job->first == job->panel_first && job->first > 0)
            job->rc[h] = far_feedback(job, h);
        for (int64_t p = job->first; p < job->first + job->n_rows; p++) {
            ptq_real *t = job->target + (h * job->n_rows + p - job->first) * n;
            const float *w = job->layer->w.at + row_at(job, h, p) * job->layer->w.ld;
            for (int64_t j = 0; j < n; j++)
                t[j] = (ptq_real)w[j];
            if (job->s->row) {
                near_feedback(job, h, p);
                add_scaled(t, job->d + (h * job->panel + p - job->panel_first) * n, 1, n);
            }
        }
    }
}

/* ---- grids ---- */

struct fitting {
    struct job *job;
    struct ptq_cdmat hess;
    const uint8_t *zeroed;
    const ptq_real *x; /* (rows x n) */
    struct ptq_part_arrays at;
};

static void fit_rows(void *arg, int slot, int64_t begin, int64_t end)
{
    struct fitting *f = arg;
    struct fit_scratch *s = &f->job->fit[slot];
    int64_t n = f->job->n, g = f->job->part->group_cols;
    for (int64_t i = begin; i < end && !ptq_cancelled(f->job->ctx); i++) {
        for (int64_t j = 0; j < n; j++)
            s->x[j] = f->zeroed && f->zeroed[j] ? 0 : f->x[i * n + j];
        for (int64_t k = 0; k < f->job->groups; k++) {
            struct ptq_grid_fit fit;
            PTQ_REAL(ptq_grid_fit_hess)
            (f->job->cell, s->x + k * g, least(g, n - k * g), 1,
             f->hess.at + k * g * (f->hess.ld + 1), f->hess.ld, s->search, &fit);
            ptq_part_set_grid(&f->at, i * f->job->groups + k, &fit);
            s->n_widened += fit.widened;
        }
    }
}

/* Grids of `rows` rows x from the values that they have now, scored with H_col of head h. Group
 * grids see dead inputs as 0, row grids see their weights, as in the published code. */
static int fit_from(struct job *job, int64_t h, const ptq_real *x, int64_t rows,
                    struct ptq_part_arrays at)
{
    struct fitting f = {.job = job, .x = x, .at = at, .hess = job->layer->hess};
    if (job->cell->grid == PTQ_GRID_HESS)
        f.hess = head_hess(job->layer, job->s->own_col, h, job->hess);
    f.zeroed = job->cell->group_size > 0 ? column_factor(job, h)->dead : NULL;
    ptq_parallel_for_slots(job->ctx, rows, 1, fit_rows, &f);
    return ptq_cancelled(job->ctx) ? ptq_fail(job->ctx, PTQ_ERR_CANCELLED, "cancelled") : PTQ_OK;
}

/* Grids of all rows from the original weights. A Hessian search of heads that have their own H_col
 * goes head by head. */
static bool fits_by_head(const struct job *job)
{
    return job->cell->grid == PTQ_GRID_HESS && job->s->own_col &&
           job->cell->group_size != PTQ_GROUP_TENSOR;
}

static int fit_original(struct job *job)
{
    int64_t rows = job->s->head_rows, n = job->n;
    if (!fits_by_head(job))
        return PTQ_REAL(ptq_grid_fit_all)(
            job->ctx, job->layer, job->cell,
            job->cell->group_size > 0 ? column_factor(job, 0)->dead : NULL, &job->at);
    ptq_real *x = ptq_alloc(job->ctx, PTQ_ARENA_CALL, rows * n, sizeof *x);
    int rc = x ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int64_t h = 0; h < job->s->heads && rc == PTQ_OK; h++) {
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < n; j++)
                x[i * n + j] = (ptq_real)job->layer->w.at[(h * rows + i) * job->layer->w.ld + j];
        int64_t from = h * rows * job->groups;
        struct ptq_part_arrays at = {.scale = job->at.scale + from,
                                     .zero = job->at.zero ? job->at.zero + from : NULL};
        rc = fit_from(job, h, x, rows, at);
    }
    return rc;
}

/* The block's grids: those of the part, or (F3) new ones from T, which then become the part's. */
static int block_grids(struct job *job)
{
    int64_t groups = job->groups, rows = job->n_rows;
    struct ptq_part_arrays at = {.scale = job->scale, .zero = job->zero};
    if (!job->part->groups_per_row) { /* one grid serves all */
        job->scale[0] = job->at.scale[0];
        if (job->zero)
            job->zero[0] = job->at.zero[0];
        return PTQ_OK;
    }
    int64_t calls = job->opts->adaptive_grid ? job->s->n_col : 0,
            share = calls ? job->s->heads / calls * rows : 0;
    int rc = PTQ_OK;
    for (int64_t c = 0; c < calls && rc == PTQ_OK; c++) {
        rc = fit_from(job, c, job->target + c * share * job->n, share, at);
        at.scale += share * groups;
        at.zero = at.zero ? at.zero + share * groups : NULL;
    }
    for (int64_t h = 0; h < job->s->heads; h++)
        for (int64_t i = 0; i < rows * groups; i++) {
            int64_t in = h * rows * groups + i,
                    out = row_at(job, h, job->first + i / groups) * groups + i % groups;
            float *from_scale = calls ? job->scale + in : job->at.scale + out,
                  *to_scale = calls ? job->at.scale + out : job->scale + in;
            *to_scale = *from_scale;
            if (job->zero && calls)
                job->at.zero[out] = job->zero[in];
            else if (job->zero)
                job->zero[in] = job->at.zero[out];
        }
    return rc;
}

/* ---- the column sweep of a block ---- */

static int sweep(const struct job *job, int64_t head, int64_t heads)
{
    int64_t first = head * job->n_rows;
    struct PTQ_REAL(ptq_feedback) f = {.rows = heads * job->n_rows,
                                       .w = job->target + first * job->n,
                                       .ldw = job->n,
                                       .factor = column_factor(job, head),
                                       .part = &job->grids,
                                       .first_row = first,
                                       .drive = job->drive,
                                       .codes = job->codes + first * job->n,
                                       .n_clipped = &job->n_clipped[head]};
    return PTQ_REAL(ptq_feedback_run)(job->ctx, &f);
}

static void sweep_heads(void *arg, int64_t begin, int64_t end)
{
    struct job *job = arg;
    for (int64_t h = begin; h < end; h++)
        job->rc[h] = sweep(job, h, 1);
}

/* E = W - What of a row; dead inputs count as W = 0. */
static void error_of_row(const struct job *job, int64_t h, int64_t row, const uint16_t *codes,
                         ptq_real *e)
{
    const uint8_t *dead = column_factor(job, h)->dead;
    const float *w = job->layer->w.at + row * job->layer->w.ld;
    int64_t g = job->part->group_cols;
    for (int64_t k = 0; k < job->groups; k++) {
        int64_t at = job->part->groups_per_row ? row * job->groups + k : 0;
        struct ptq_grid_fit fit = {job->at.scale[at], ptq_part_zero(job->part, at), false};
        for (int64_t j = k * g; j < least((k + 1) * g, job->n); j++)
            e[j] = (dead[j] ? 0 : (ptq_real)w[j]) - (ptq_real)ptq_grid_value(&fit, codes[j]);
    }
}

static void store_block(void *arg, int64_t begin, int64_t end)
{
    struct job *job = arg;
    int64_t n = job->n;
    for (int64_t h = begin; h < end; h++)
        for (int64_t i = 0; i < job->n_rows; i++) {
            int64_t row = row_at(job, h, job->first + i);
            const uint16_t *codes = job->codes + (h * job->n_rows + i) * n;
            memcpy(job->at.codes + row * n, codes, (size_t)n * sizeof *codes);
            if (job->s->row)
                error_of_row(job, h, row, codes,
                             job->e + (h * job->s->head_rows + job->first + i) * n);
        }
}

/* F2: rows hand on E + alpha T R H_col^-1. */
static int pull_rows(const struct job *job)
{
    int64_t n = job->n, rows = job->s->heads * job->n_rows;
    for (int64_t i = 0; i < rows * n; i++)
        job->target[i] *= (ptq_real)job->opts->upstream;
    int rc = PTQ_OK;
    for (int64_t h = 0; h < job->s->heads && rc == PTQ_OK; h++)
        rc = PTQ_REAL(ptq_gemm_add)(job->ctx, 1, job->n_rows, n, n,
                                    job->target + h * job->n_rows * n, n, job->s->pull, n,
                                    job->e + (h * job->s->head_rows + job->first) * n, n);
    return rc;
}

static int first_failure(const struct job *job)
{
    int64_t h = 0;
    while (h < job->s->heads - 1 && job->rc[h] == PTQ_OK)
        h++;
    return job->rc[h];
}

static int quantize_block(struct job *job)
{
    const struct shared *s = job->s;
    ptq_parallel_for(job->ctx, s->heads, 1, load_block, job);
    int rc = first_failure(job);
    if (rc == PTQ_OK)
        rc = block_grids(job);
    if (rc != PTQ_OK)
        return rc;
    if (!s->own_col) {
        rc = sweep(job, 0, s->heads);
    } else {
        ptq_parallel_for(job->ctx, s->heads, 1, sweep_heads, job);
        rc = first_failure(job);
    }
    if (rc != PTQ_OK)
        return rc;
    ptq_parallel_for(job->ctx, s->heads, 1, store_block, job);
    return job->drive && s->row ? pull_rows(job) : PTQ_OK;
}

static int quantize_rows(struct job *job)
{
    int rc = PTQ_OK;
    int64_t rows = job->s->head_rows;
    for (job->first = 0; job->first < rows && rc == PTQ_OK; job->first += job->n_rows) {
        if (job->first % job->panel == 0)
            job->panel_first = job->first;
        job->n_rows = least(job->block, rows - job->first);
        rc = quantize_block(job);
    }
    return rc;
}

/* ---- F3: scales with the codes frozen ---- */

struct refining {
    const struct job *job;
    const ptq_real *hess, *cross; /* (n x n); cross: R or NULL */
    int64_t head, n_heads;        /* heads that share hess */
    int64_t unit, units;          /* rows of a unit, units of a head */
    struct refine_scratch *scratch;
};

/* A unit of rows: a head, or some rows of one where rows do not meet (H_row = I). */
struct refine_scratch {
    int64_t row0, rows, head;
    ptq_real *shifted; /* (unit x n) Q: codes - zero */
    ptq_real *eh;      /* (unit x n) E H_col + alpha W R */
    ptq_real *qh;      /* (unit x n) Q H_col, Q of the group at hand */
    ptq_real *y;       /* [n] a row of H_row eh, columns of the group at hand */
    int64_t n_refined;
    int rc;
};

/* Q and eh of the unit; qh holds E and alpha W for a moment. */
static int load_unit(const struct refining *r, struct refine_scratch *s)
{
    const struct job *job = r->job;
    const struct ptq_cmat *w = &job->layer->w;
    int64_t n = job->n, g = job->part->group_cols;
    for (int64_t i = 0; i < s->rows; i++) {
        const uint16_t *codes = job->at.codes + (s->row0 + i) * n;
        error_of_row(job, s->head, s->row0 + i, codes, s->qh + i * n);
        for (int64_t j = 0; j < n; j++)
            s->shifted[i * n + j] =
                (ptq_real)codes[j] -
                (ptq_real)ptq_part_zero(job->part, (s->row0 + i) * job->groups + j / g);
    }
    memset(s->eh, 0, (size_t)(s->rows * n) * sizeof *s->eh);
    int rc = PTQ_REAL(ptq_gemm_add)(job->ctx, 1, s->rows, n, n, s->qh, n, r->hess, n, s->eh, n);
    if (rc != PTQ_OK || !r->cross)
        return rc;
    for (int64_t i = 0; i < s->rows; i++)
        for (int64_t j = 0; j < n; j++)
            s->qh[i * n + j] =
                (ptq_real)job->opts->upstream * (ptq_real)w->at[(s->row0 + i) * w->ld + j];
    return PTQ_REAL(ptq_gemm_add)(job->ctx, 1, s->rows, n, n, s->qh, n, r->cross, n, s->eh, n);
}

/* y = row i of H_row eh, columns [j0, j1); returns H_row_ii. */
static double load_y(const struct refining *r, struct refine_scratch *s, int64_t i, int64_t j0,
                     int64_t j1)
{
    int64_t n = r->job->n, d = r->job->s->head_rows;
    if (!r->job->s->row) {
        memcpy(s->y + j0, s->eh + i * n + j0, (size_t)(j1 - j0) * sizeof *s->y);
        return 1;
    }
    const double *hrow = r->job->layer->attn->hrow + (s->head * d + i) * d;
    memset(s->y + j0, 0, (size_t)(j1 - j0) * sizeof *s->y);
    for (int64_t k = 0; k < d; k++)
        add_scaled(s->y + j0, s->eh + k * n + j0, (ptq_real)hrow[k], j1 - j0);
    return hrow[i];
}

/* The scale of row i on columns [j0, j1). With num = (H_row (E H_col + alpha W R) Q^T)_ii and den =
 * (Q H_col Q^T)_ii H_row_ii a step t of the scale changes the objective by den t^2 - 2 num t. */
static void refine_scale(const struct refining *r, struct refine_scratch *s, int64_t i, int64_t j0,
                         int64_t j1)
{
    const struct job *job = r->job;
    int64_t n = job->n;
    const ptq_real *q = s->shifted + i * n, *qh = s->qh + i * n;
    double num = 0, den = 0, weight = load_y(r, s, i, j0, j1);
    for (int64_t j = j0; j < j1; j++) {
        num += (double)s->y[j] * (double)q[j];
        den += (double)qh[j] * (double)q[j];
    }
    den *= weight;
    if (!(den > 0))
        return;
    float *scale = &job->at.scale[(s->row0 + i) * job->groups + j0 / job->part->group_cols];
    double moved = (double)*scale + num / den;
    float next = moved > 0 ? ptq_round_fmt(moved, job->cell->scale_fmt) : *scale;
    double t = (double)next - (double)*scale;
    if (t == 0)
        return;
    *scale = next;
    s->n_refined++;
    add_scaled(s->eh + i * n, qh, (ptq_real)-t, n);
}

static int refine_unit(const struct refining *r, struct refine_scratch *s)
{
    int64_t n = r->job->n, g = r->job->part->group_cols;
    int rc = load_unit(r, s);
    for (int64_t j = 0; j < n && rc == PTQ_OK; j += g) {
        int64_t end = least(j + g, n);
        memset(s->qh, 0, (size_t)(s->rows * n) * sizeof *s->qh);
        rc = PTQ_REAL(ptq_gemm_add)(r->job->ctx, 1, s->rows, n, end - j, s->shifted + j, n,
                                    r->hess + j * n, n, s->qh, n);
        for (int64_t i = 0; i < s->rows && rc == PTQ_OK; i++)
            refine_scale(r, s, i, j, end);
    }
    return rc;
}

static void refine_units(void *arg, int slot, int64_t begin, int64_t end)
{
    const struct refining *r = arg;
    struct refine_scratch *s = &r->scratch[slot];
    for (int64_t u = begin; u < end && s->rc == PTQ_OK; u++) {
        int64_t at = u % r->units * r->unit, rows = r->job->s->head_rows;
        s->head = r->head + u / r->units;
        s->row0 = s->head * rows + at;
        s->rows = least(r->unit, rows - at);
        s->rc = ptq_cancelled(r->job->ctx) ? ptq_fail(r->job->ctx, PTQ_ERR_CANCELLED, "cancelled")
                                           : refine_unit(r, s);
    }
}

static bool refining_alloc(struct refining *r)
{
    struct ptq_ctx *ctx = r->job->ctx;
    int threads = ptq_threads(ctx);
    int64_t cells = r->unit * r->job->n;
    r->scratch = ptq_alloc(ctx, PTQ_ARENA_CALL, threads, sizeof *r->scratch);
    for (int i = 0; r->scratch && i < threads; i++) {
        struct refine_scratch *s = &r->scratch[i];
        s->shifted = ptq_alloc(ctx, PTQ_ARENA_CALL, cells, sizeof *s->shifted);
        s->eh = ptq_alloc(ctx, PTQ_ARENA_CALL, cells, sizeof *s->eh);
        s->qh = ptq_alloc(ctx, PTQ_ARENA_CALL, cells, sizeof *s->qh);
        s->y = ptq_alloc(ctx, PTQ_ARENA_CALL, r->job->n, sizeof *s->y);
        if (!s->shifted || !s->eh || !s->qh || !s->y)
            return false;
    }
    return r->scratch != NULL;
}

static void load_matrix(const struct ptq_cdmat *from, ptq_real *to)
{
    for (int64_t i = 0; i < from->rows; i++)
        for (int64_t j = 0; j < from->cols; j++)
            to[i * from->cols + j] = (ptq_real)from->at[i * from->ld + j];
}

static int refine(struct job *job)
{
    const struct shared *s = job->s;
    int64_t n = job->n, n_refined = 0;
    ptq_real *hess = ptq_alloc(job->ctx, PTQ_ARENA_CALL, n * n, sizeof *hess);
    ptq_real *cross = job->drive ? ptq_alloc(job->ctx, PTQ_ARENA_CALL, n * n, sizeof *cross) : NULL;
    struct refining r = {.job = job, .hess = hess, .cross = cross, .n_heads = s->heads / s->n_col};
    r.unit = s->row ? s->head_rows : least(REFINE_ROWS, s->head_rows);
    r.units = (s->head_rows - 1) / r.unit + 1;
    if (!hess || (job->drive && !cross) || !refining_alloc(&r))
        return PTQ_ERR_MEMORY;
    if (cross)
        load_matrix(&job->layer->cross, cross);
    int rc = PTQ_OK;
    for (r.head = 0; r.head < s->heads && rc == PTQ_OK; r.head += r.n_heads) {
        struct ptq_cdmat h = head_hess(job->layer, s->own_col, r.head, job->hess);
        load_matrix(&h, hess);
        ptq_parallel_for_slots(job->ctx, r.n_heads * r.units, 1, refine_units, &r);
        for (int i = 0; i < ptq_threads(job->ctx); i++)
            rc = rc == PTQ_OK ? r.scratch[i].rc : rc;
    }
    for (int i = 0; i < ptq_threads(job->ctx); i++)
        n_refined += r.scratch[i].n_refined;
    ptq_note(job->ctx, "n_scales_refined", (double)n_refined);
    return rc;
}

/* ---- hooks ---- */

static bool fit_alloc(struct job *job)
{
    int threads = ptq_threads(job->ctx);
    int64_t search = job->cell->grid == PTQ_GRID_HESS ? job->part->group_cols * PTQ_HESS_LANES : 0;
    job->fit = ptq_alloc(job->ctx, PTQ_ARENA_CALL, threads, sizeof *job->fit);
    for (int i = 0; job->fit && i < threads; i++) {
        job->fit[i].x = ptq_alloc(job->ctx, PTQ_ARENA_CALL, job->n, sizeof(ptq_real));
        job->fit[i].search = ptq_alloc(job->ctx, PTQ_ARENA_CALL, search, sizeof(double));
        if (!job->fit[i].x || !job->fit[i].search)
            return false;
    }
    return job->fit != NULL;
}

static bool allocate(struct job *job)
{
    struct ptq_ctx *ctx = job->ctx;
    const struct shared *s = job->s;
    int64_t n = job->n, rows = s->heads * job->block;
    bool own = s->own_col && (job->cell->grid == PTQ_GRID_HESS || job->opts->refine_scales);
    job->hess = ptq_alloc(ctx, PTQ_ARENA_CALL, own ? n * n : 0, sizeof *job->hess);
    job->e = ptq_alloc(ctx, PTQ_ARENA_CALL, s->row ? job->layer->w.rows * n : 0, sizeof *job->e);
    job->d = ptq_alloc(ctx, PTQ_ARENA_CALL, s->row ? s->heads * job->panel * n : 0, sizeof *job->d);
    job->target = ptq_alloc(ctx, PTQ_ARENA_CALL, rows * n, sizeof *job->target);
    job->codes = ptq_alloc(ctx, PTQ_ARENA_CALL, rows * n, sizeof *job->codes);
    job->scale = ptq_alloc(ctx, PTQ_ARENA_CALL, rows * job->groups, sizeof *job->scale);
    job->zero =
        job->at.zero ? ptq_alloc(ctx, PTQ_ARENA_CALL, rows * job->groups, sizeof *job->zero) : NULL;
    job->n_clipped = ptq_alloc(ctx, PTQ_ARENA_CALL, s->heads, sizeof *job->n_clipped);
    job->rc = ptq_alloc(ctx, PTQ_ARENA_CALL, s->heads, sizeof *job->rc);
    job->grids = *job->part;
    job->grids.scale.at = job->scale;
    job->grids.zero.at = job->zero;
    return job->hess && job->e && job->d && job->target && job->codes && job->scale &&
           (job->zero || !job->at.zero) && job->n_clipped && job->rc && fit_alloc(job);
}

/* P = alpha times what prepare made. */
static bool load_drive(struct job *job)
{
    if (job->opts->upstream == 0)
        return true;
    job->drive = ptq_alloc(job->ctx, PTQ_ARENA_CALL, job->n * job->n, sizeof *job->drive);
    for (int64_t i = 0; job->drive && i < job->n * job->n; i++)
        job->drive[i] = (ptq_real)job->opts->upstream * job->s->drive[i];
    return job->drive != NULL;
}

static int finish(struct job *job)
{
    int64_t n_clipped = 0, n_widened = 0;
    for (int64_t h = 0; h < job->s->heads; h++)
        n_clipped += job->n_clipped[h];
    ptq_note(job->ctx, "n_clipped", (double)n_clipped);
    for (int i = 0; i < ptq_threads(job->ctx); i++)
        n_widened += job->fit[i].n_widened;
    if (n_widened > 0) /* else ptq_grid_fit_all has noted them */
        ptq_note(job->ctx, "n_zero_widened", (double)n_widened);
    return job->opts->refine_scales ? refine(job) : PTQ_OK;
}

static int quantize(struct ptq_ctx *ctx, const struct ptq_layer *layer, const struct ptq_cell *cell,
                    const void *opts, const void *shared, struct ptq_quant *out)
{
    const struct opts *o = opts;
    const struct shared *s = shared;
    struct job job = {.ctx = ctx,
                      .layer = layer,
                      .cell = cell,
                      .opts = o,
                      .s = s,
                      .part = &out->part[0],
                      .n = layer->w.cols};
    int rc = ptq_part_uniform(ctx, layer, cell, job.part, &job.at);
    if (rc != PTQ_OK)
        return rc;
    job.groups = job.part->groups_per_row ? job.part->groups_per_row : 1;
    job.block = s->row ? least(o->joint_rows, s->head_rows) : s->head_rows;
    job.panel = (ROW_PANEL + job.block - 1) / job.block * job.block;
    if (!allocate(&job) || !load_drive(&job))
        return PTQ_ERR_MEMORY;
    out->n_parts = 1;
    if (!o->adaptive_grid)
        rc = fit_original(&job);
    if (rc == PTQ_OK)
        rc = quantize_rows(&job);
    return rc == PTQ_OK ? finish(&job) : rc;
}

static void cost(const struct ptq_layer *l, const struct ptq_cell *cell, const void *opts,
                 struct ptq_cost *out)
{
    const struct opts *o = opts;
    bool heads = is_attention(l) && l->attn;
    double rows = (double)l->w.rows, n = (double)l->w.cols,
           group = (double)ptq_group_cols(cell, l->w.cols),
           n_col = heads && wants_head_columns(l, o) ? (double)l->attn->n_heads : 1,
           head_rows = heads && wants_row_factor(l, o) ? (double)l->attn->head_dim : 0;
    double search = cell->grid == PTQ_GRID_MSE    ? 80 * 30
                    : cell->grid == PTQ_GRID_HESS ? 200 * group
                                                  : 0;
    double sweeps = 1 + (o->upstream > 0 ? 3 : 0) + (o->refine_scales ? 4 : 0);
    out->flops = n_col * n * n * n / 3 + rows * n * (sweeps * n + head_rows + search);
    out->bytes = n_col * n * n * 12 + rows * n * 18;
    out->peak_bytes = (n_col + (o->upstream > 0 ? 3 : 0)) * n * n * 4 + rows * n * 18;
}

static const char *const dead_words[] = {"mean", "reference", NULL};
static const struct ptq_opt options[] = {
    {.name = "act_order_row",
     .type = PTQ_OPT_BOOL,
     .offset = offsetof(struct opts, act_order_row),
     .def = 1,
     .prepare = true,
     .help = "rows of a head by diag H_row descending [1: best at 2 and 4 bits in a rerun; the "
             "paper reports the best of the four orders]"},
    {.name = "act_order_col",
     .type = PTQ_OPT_BOOL,
     .offset = offsetof(struct opts, act_order_col),
     .def = 0,
     .prepare = true,
     .help = "columns by diag H_col descending; not with groups [0: as act_order_row]"},
    {.name = "block_v",
     .type = PTQ_OPT_BOOL,
     .offset = offsetof(struct opts, block_v),
     .def = 1,
     .prepare = true,
     .help = "v: column factors 2 X A^T A X^T of each head; 0: 2 X X^T [1: released code]"},
    {.name = "row_factor_v",
     .type = PTQ_OPT_BOOL,
     .offset = offsetof(struct opts, row_factor_v),
     .def = 0,
     .prepare = true,
     .help = "v: row factor W_o^T W_o of eq. 9; 0: identity [0: released code]"},
    {.name = "percdamp",
     .type = PTQ_OPT_REAL,
     .offset = offsetof(struct opts, percdamp),
     .def = 0.01,
     .min = 0,
     .max = 1000,
     .prepare = true,
     .help = "damping of both factors as a share of their mean diagonals [0.01: released code]"},
    {.name = "dead",
     .type = PTQ_OPT_CHOICE,
     .offset = offsetof(struct opts, dead),
     .def = 0,
     .choices = dead_words,
     .prepare = true,
     .help = "diagonal of dead inputs: mean of the live ones, or the released code's 1 / length of "
             "a sequence [mean]"},
    {.name = "joint_rows",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, joint_rows),
     .def = 1,
     .min = 1,
     .max = 4096,
     .help = "rows of a head that are swept at once (TurboBoA's N) [1: BoA; TurboBoA 16]"},
    {.name = "adaptive_grid",
     .type = PTQ_OPT_BOOL,
     .offset = offsetof(struct opts, adaptive_grid),
     .def = 0,
     .help = "grids of the rows about to be quantized from their compensated values [0: BoA; "
             "TurboBoA 1]"},
    {.name = "refine_scales",
     .type = PTQ_OPT_BOOL,
     .offset = offsetof(struct opts, refine_scales),
     .def = 0,
     .help = "coordinate descent on the scales with the codes frozen [0: BoA; TurboBoA 1]"},
    {.name = "upstream",
     .type = PTQ_OPT_REAL,
     .offset = offsetof(struct opts, upstream),
     .def = 0,
     .min = 0,
     .max = 1,
     .prepare = true,
     .help = "share alpha of the error of earlier layers that is compensated for; needs sequential "
             "statistics [0: BoA; TurboBoA 0.25]"},
    {.name = NULL},
};

/* Refined scales are other scales. */
static bool rtn_under_identity(const void *opts)
{
    return !((const struct opts *)opts)->refine_scales;
}

PTQ_METHOD(boa) = {
    .name = "boa",
    .title = "BoA: GPTQ with attention-aware Hessians, rows of a head compensate each other",
    .cite = "Kim et al., ICML 2025, arXiv 2406.13474; TurboBoA: arXiv 2602.04929",
    .status = "reference",
    .needs = PTQ_NEEDS_HESS | PTQ_NEEDS_ATTN | PTQ_NEEDS_CROSS,
    .needs_of = needs_of,
    .caps = PTQ_CAP_SYM | PTQ_CAP_ASYM | PTQ_CAP_GROUPS | PTQ_CAP_TENSOR | PTQ_CAP_GRID_MSE |
            PTQ_CAP_GRID_HESS | PTQ_CAP_ZERO_FREE | PTQ_CAP_ACT,
    .opts_size = sizeof(struct opts),
    .opts = options,
    .check = check,
    .prepare = prepare,
    .rtn_under_identity = rtn_under_identity,
    .quantize = quantize,
    .cost = cost,
};
