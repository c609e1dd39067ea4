/* athena.c: "Athena: Efficient Block-Wise Post-Training Quantization for Large Language Models
 * Using Second-Order Matrix Derivative Information" (arXiv 2405.17470). A reimplementation:
 * no code was published; methods.md section 3, assumptions in methods/README.md.
 *
 * Optimal brain surgery on groups of columns. With P = H^-1 of the columns that remain, the group
 * G is quantized as a whole, D_G = W_G - quant(W_G), and the others take the error over:
 *
 *     S_G = 1/2 tr(D_G P_GG^-1 D_G^T)                       the increase of the loss    (1)
 *     Z_G = P_GG^-1 P_G,:                                                               (2)
 *     W  <- W - D_G Z_G,     P <- P - P_:,G Z_G,            drop G                      (3)
 *
 * quant: k-means, one codebook a group, the book quantized and the codes taken again before (3).
 * Order of the groups: as they stand, or the one with the largest (smallest) S_G of all that
 * remain, each fitted anew to the weights as they are then.
 *
 * In natural order P needs no updates: with H = R R^T (R upper) and U = R^-1, H^-1 = U^T U, the
 * columns from G on have P_GG = U_GG^T U_GG, and (2) is Z_G = U_GG^-1 U_G,: = R_GG U_G,:.
 *
 * Residual: E = W_0 - What, truncated in the norm of H: E R ~ A B', ||E R||_F^2 = tr(E H E^T), so
 * that B = B' R^-1 (any square root of H gives the same A B). The form is book + A B. */
#include "ptq.h"
#include <math.h>
#include <string.h>

enum { ITERATIONS = 30, DEFAULT_WIDTH = 32, MOST_CODE_BITS = 16, RANK_BITS = 8 };
enum order { NATURAL, MAX_FIRST, MIN_FIRST };
enum book { BOOK_KMEANS, BOOK_UNIFORM };
enum residual { RESIDUAL_HESS, RESIDUAL_PLAIN };

struct opts {
    bool exact, weighted, row_norm, downdate;
    int64_t width, dim, book_bits, rank, order, book, residual, dead;
    double percdamp;
};

typedef const struct PTQ_REAL(ptq_factor) factor;
typedef struct PTQ_REAL(ptq_kmeans) kmeans;
#define gemm_add    PTQ_REAL(ptq_gemm_add)
#define solve_lower PTQ_REAL(ptq_solve_lower)

struct shared { /* (n x n) each */
    factor *f;
    ptq_real *rt; /* R^T, lower */
    ptq_real *u;  /* R^-1, upper; NULL where P is kept */
    ptq_real *p;  /* H^-1; NULL in natural order */
};

struct job {
    struct ptq_ctx *ctx;
    const struct ptq_layer *layer;
    const struct ptq_cell *cell;
    const struct opts *opts;
    const struct shared *shared;
    int64_t rows, n, width, n_groups;
    ptq_real *w0;  /* (rows x n): the weights, those of dead inputs 0 */
    ptq_real *w;   /* (rows x n): as the groups before have left them */
    float *what;   /* (rows x n): stored values, of a group that remains: of its last fit */
    ptq_real *p;   /* (n x n): P of the columns that remain, 0 elsewhere; NULL: the shortcut */
    ptq_real *z;   /* (width x n) */
    ptq_real *pg;  /* (n x width): P_:,G */
    double *score; /* [n_groups] S_G of the last fit */
    bool *done;    /* [n_groups] */
    struct ptq_part *part;
    struct ptq_part_arrays at; /* codes; scales (and zeros) of the cell's groups */
    float *book, *book_step, *book_min;
    struct scratch *scratch; /* [ptq_threads] */
};

struct scratch {        /* m: rows, g: width */
    ptq_real *x;        /* (m x g): points; D_G */
    ptq_real *t;        /* (g x m): D_G^T */
    ptq_real *c;        /* (g x g): lower, P_GG = C C^T */
    double *column;     /* [g] weights of columns */
    ptq_real *weight;   /* [points] */
    ptq_real *centroid; /* (book_len x dim) */
    uint16_t *code;     /* [points] */
    int rc;
};

struct span { /* columns of a group */
    int64_t at, n;
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static struct span span_of(const struct job *job, int64_t group)
{
    int64_t at = group * job->width;
    return (struct span){at, least(job->width, job->n - at)};
}

static bool by_downdates(const struct opts *o)
{
    return o->order != NATURAL || o->downdate;
}

/* ---- prepare: R, and U or P ---- */

static ptq_real *identity(struct ptq_ctx *ctx, int64_t n)
{
    ptq_real *a = ptq_alloc(ctx, PTQ_ARENA_LAYER, n * n, sizeof *a);
    for (int64_t i = 0; a && i < n; i++)
        a[i * n + i] = 1;
    return a;
}

/* R = M diag(sqrt d). */
static ptq_real *transposed_root(struct ptq_ctx *ctx, factor *f)
{
    int64_t n = f->n;
    ptq_real *rt = ptq_alloc(ctx, PTQ_ARENA_LAYER, n * n, sizeof *rt);
    for (int64_t j = 0; rt && j < n; j++) {
        ptq_real root = (ptq_real)sqrt((double)f->d[j]);
        for (int64_t i = 0; i <= j; i++)
            rt[j * n + i] = f->m[i * n + j] * root;
    }
    return rt;
}

static void symmetrise(ptq_real *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++)
            p[i * n + j] = p[j * n + i] = (p[i * n + j] + p[j * n + i]) / 2;
}

/* U = R^-1 = (R^T)^-T I; P = R^-T R^-1 = (R^T)^-1 U. */
static int invert(struct ptq_ctx *ctx, struct shared *s, bool whole)
{
    int64_t n = s->f->n;
    s->rt = transposed_root(ctx, s->f);
    s->u = identity(ctx, n);
    if (!s->rt || !s->u)
        return PTQ_ERR_MEMORY;
    int rc = solve_lower(ctx, true, s->rt, n, n, s->u, n, n);
    if (rc != PTQ_OK || !whole)
        return rc;
    s->p = s->u;
    s->u = NULL;
    rc = solve_lower(ctx, false, s->rt, n, n, s->p, n, n);
    symmetrise(s->p, n);
    return rc;
}

static int prepare(struct ptq_ctx *ctx, const struct ptq_layer *layer, const void *opts,
                   const void **shared)
{
    const struct opts *o = opts;
    struct ptq_factor_args args = {.percdamp = o->percdamp, .dead = (enum ptq_dead_rule)o->dead};
    struct shared *s = ptq_alloc(ctx, PTQ_ARENA_LAYER, 1, sizeof *s);
    if (!s)
        return PTQ_ERR_MEMORY;
    int rc = PTQ_REAL(ptq_factor_get)(ctx, layer, &args, &s->f);
    if (rc == PTQ_OK)
        rc = invert(ctx, s, by_downdates(o));
    if (rc != PTQ_OK)
        return rc;
    ptq_note(ctx, "damping", s->f->lambda);
    ptq_note(ctx, "retries", s->f->retries);
    ptq_note(ctx, "n_dead", (double)s->f->n_dead);
    *shared = s;
    return PTQ_OK;
}

/* ---- quant(W_G): k-means ---- */

static float scale_of(const struct job *job, int64_t row, int64_t column)
{
    const struct ptq_part *p = job->part;
    return job->at.scale ? job->at.scale[row * p->groups_per_row + column / p->group_cols] : 1;
}

/* The scales of the cell's groups that begin in a span: max |w|; 1 where all are 0. */
static void fit_scales(const struct job *job, const ptq_real *w, struct span g)
{
    const struct ptq_part *p = job->part;
    for (int64_t i = 0; i < job->rows; i++)
        for (int64_t at = g.at; at < g.at + g.n; at += p->group_cols) {
            double top = 0;
            for (int64_t j = at; j < least(at + p->group_cols, job->n); j++)
                top = fmax(top, fabs((double)w[i * job->n + j]));
            job->at.scale[i * p->groups_per_row + at / p->group_cols] =
                top > 0 ? ptq_round_fmt(top, job->cell->scale_fmt) : 1;
        }
}

/* What an error at a column weighs: 1 / P_jj, its cost when all others compensate for it
 * (weighted), or the same everywhere; nothing at a dead input. */
static void weigh_columns(const struct job *job, struct span g, struct scratch *s)
{
    for (int64_t j = 0; j < g.n; j++) {
        const ptq_real *c = s->c + j * g.n;
        double p = 0;
        for (int64_t k = 0; k <= j; k++)
            p += (double)c[k] * (double)c[k];
        s->column[j] = job->shared->f->dead[g.at + j] ? 0 : job->opts->weighted ? 1 / p : 1;
    }
}

/* Points: `dim` neighbours of a row, divided by the row's scale s; an error of a point is then s
 * times as large in W, so that its square weighs s^2. */
static void gather_points(const struct job *job, struct span g, struct scratch *s)
{
    const int64_t dim = job->part->dim, points = job->rows * (g.n / dim);
    weigh_columns(job, g, s);
    for (int64_t k = 0; k < points; k++) {
        double weight = 0;
        for (int64_t at = k * dim; at < (k + 1) * dim; at++) {
            int64_t i = at / g.n, j = at % g.n;
            double scale = (double)scale_of(job, i, g.at + j);
            s->x[at] = (ptq_real)((double)job->w[i * job->n + g.at + j] / scale);
            weight += scale * scale * s->column[j];
        }
        s->weight[k] = (ptq_real)(weight / (double)dim);
    }
}

/* The centroids as the form stores them. */
static void quantize_book(const struct job *job, int64_t group, ptq_real *centroid)
{
    int64_t n = job->part->book_len * job->part->dim;
    float *book = job->book + group * n;
    if (job->part->book.fmt == PTQ_FMT_INT) {
        PTQ_REAL(ptq_affine_quantize)
        (centroid, n, job->part->book.bits, PTQ_FMT_F16, book, &job->book_step[group],
         &job->book_min[group], centroid);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        centroid[i] = book[i] = ptq_round_fmt((double)centroid[i], job->part->book.fmt);
}

static void store_codes(struct job *job, struct span g, const struct scratch *s)
{
    int64_t dim = job->part->dim, per_row = g.n / dim;
    for (int64_t i = 0; i < job->rows; i++)
        for (int64_t v = 0; v < per_row; v++) {
            uint16_t code = s->code[i * per_row + v];
            job->at.codes[(i * job->n + g.at) / dim + v] = code;
            for (int64_t j = 0; j < dim; j++) {
                int64_t column = g.at + v * dim + j;
                job->what[i * job->n + column] =
                    (float)s->centroid[code * dim + j] * scale_of(job, i, column);
            }
        }
}

static int quantize_kmeans(struct job *job, int64_t group, struct scratch *s)
{
    struct span g = span_of(job, group);
    const struct ptq_part *part = job->part;
    if (job->at.scale && job->width % part->group_cols == 0)
        fit_scales(job, job->w, g); /* else they span groups: those of the original weights */
    gather_points(job, g, s);
    kmeans k = {.x = s->x,
                .n = job->rows * (g.n / part->dim),
                .dim = part->dim,
                .ld = part->dim,
                .weight = s->weight,
                .k = part->book_len,
                .iterations = ITERATIONS,
                .init = PTQ_KMEANS_QUANTILE,
                .seed = job->cell->seed,
                .centroids = s->centroid,
                .codes = s->code};
    int rc = job->opts->exact ? PTQ_REAL(ptq_kmeans_exact)(job->ctx, &k)
                              : PTQ_REAL(ptq_kmeans_run)(job->ctx, &k);
    if (rc != PTQ_OK)
        return rc;
    quantize_book(job, group, s->centroid);
    rc = PTQ_REAL(ptq_kmeans_assign)(job->ctx, &k);
    if (rc == PTQ_OK)
        store_codes(job, g, s);
    return rc;
}

/* ---- quant(W_G): the cell's own grid, fixed ---- */

static void quantize_uniform(struct job *job, struct span g)
{
    const struct ptq_part *part = job->part;
    int maxq = (1 << part->bits) - 1;
    for (int64_t i = 0; i < job->rows; i++)
        for (int64_t j = g.at; j < g.at + g.n; j++) {
            int64_t of = i * part->groups_per_row + j / part->group_cols;
            struct ptq_grid_fit grid = {part->scale.at[of], ptq_part_zero(part, of), false};
            ptq_real x = job->w[i * job->n + j] / (ptq_real)grid.scale;
            int code = ptq_grid_code(ptq_round(x), grid.zero, maxq);
            job->at.codes[i * job->n + j] = (uint16_t)code;
            job->what[i * job->n + j] = ptq_grid_value(&grid, code);
        }
}

/* ---- the score (1) ---- */

/* C, lower, P_GG = C C^T: U_GG^T in natural order. */
static int root_of_block(const struct job *job, struct span g, ptq_real *c)
{
    const ptq_real *from = job->p ? job->p : job->shared->u;
    for (int64_t i = 0; i < g.n; i++)
        for (int64_t j = 0; j < g.n; j++)
            c[i * g.n + j] = job->p ? from[(g.at + i) * job->n + g.at + j]
                                    : from[(g.at + j) * job->n + g.at + i];
    int rc = job->p ? PTQ_REAL(ptq_cholesky_lower)(job->ctx, c, g.n, g.n) : PTQ_OK;
    return rc != PTQ_SKIP
               ? rc
               : ptq_fail(job->ctx, PTQ_ERR_NUMERIC,
                          "%s: the inverse Hessian of columns %lld to %lld is not "
                          "positive definite after its downdates; raise percdamp or "
                          "set precision = double",
                          job->layer->name, (long long)g.at, (long long)(g.at + g.n - 1));
}

/* tr(D P_GG^-1 D^T) = ||C^-1 D^T||_F^2. */
static int score_group(struct job *job, int64_t group, struct scratch *s)
{
    struct span g = span_of(job, group);
    int64_t m = job->rows;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < g.n; j++) {
            int64_t at = i * job->n + g.at + j;
            s->t[j * m + i] = job->w[at] - (ptq_real)job->what[at];
        }
    int rc = solve_lower(job->ctx, false, s->c, g.n, g.n, s->t, m, m);
    double sum = 0;
    for (int64_t i = 0; i < g.n * m; i++)
        sum += (double)s->t[i] * (double)s->t[i];
    job->score[group] = sum / 2;
    return rc;
}

static int fit_group(struct job *job, int64_t group, struct scratch *s)
{
    struct span g = span_of(job, group);
    int rc = root_of_block(job, g, s->c);
    if (rc != PTQ_OK)
        return rc;
    if (job->opts->book == BOOK_UNIFORM)
        quantize_uniform(job, g);
    else
        rc = quantize_kmeans(job, group, s);
    return rc == PTQ_OK ? score_group(job, group, s) : rc;
}

/* ---- order ---- */

static void fit_piece(void *arg, int slot, int64_t begin, int64_t end)
{
    struct job *job = arg;
    struct scratch *s = &job->scratch[slot];
    for (int64_t k = begin; k < end && s->rc == PTQ_OK; k++)
        if (!job->done[k])
            s->rc = fit_group(job, k, s);
}

static int fit_all(struct job *job)
{
    int rc = PTQ_OK;
    ptq_parallel_for_slots(job->ctx, job->n_groups, 1, fit_piece, job);
    for (int i = 0; i < ptq_threads(job->ctx); i++)
        rc = rc == PTQ_OK ? job->scratch[i].rc : rc;
    return rc;
}

static int64_t best_group(const struct job *job)
{
    double sign = job->opts->order == MAX_FIRST ? 1 : -1;
    int64_t best = -1;
    for (int64_t k = 0; k < job->n_groups; k++)
        if (!job->done[k] && (best < 0 || sign * job->score[k] > sign * job->score[best]))
            best = k;
    return best;
}

/* Fits what has to be fitted to say which group is the step's. */
static int choose(struct job *job, int64_t step, int64_t *group)
{
    *group = step;
    if (job->opts->order == NATURAL)
        return fit_group(job, step, job->scratch);
    int rc = fit_all(job);
    if (rc == PTQ_OK)
        *group = best_group(job);
    return rc;
}

/* ---- the others take the error over: (2), (3) ---- */

/* Z_G = R_GG U_G,: for the columns behind G. */
static int shortcut_z(struct job *job, struct span g, ptq_real *r)
{
    int64_t n = job->n, end = g.at + g.n;
    const ptq_real *rt = job->shared->rt;
    for (int64_t i = 0; i < g.n; i++)
        for (int64_t j = 0; j < g.n; j++)
            r[i * g.n + j] = rt[(g.at + j) * n + g.at + i];
    memset(job->z, 0, (size_t)(g.n * n) * sizeof *job->z);
    return gemm_add(job->ctx, 1, g.n, n - end, g.n, r, g.n, job->shared->u + g.at * n + end, n,
                    job->z + end, n);
}

/* Z_G = C^-T C^-1 P_G,:. */
static int explicit_z(struct job *job, struct span g, ptq_real *c)
{
    int64_t n = job->n;
    memcpy(job->z, job->p + g.at * n, (size_t)(g.n * n) * sizeof *job->z);
    int rc = root_of_block(job, g, c);
    if (rc == PTQ_OK)
        rc = solve_lower(job->ctx, false, c, g.n, g.n, job->z, n, n);
    return rc == PTQ_OK ? solve_lower(job->ctx, true, c, g.n, g.n, job->z, n, n) : rc;
}

static void drop(struct job *job, struct span g)
{
    int64_t n = job->n;
    memset(job->p + g.at * n, 0, (size_t)(g.n * n) * sizeof *job->p);
    for (int64_t i = 0; i < n; i++)
        memset(job->p + i * n + g.at, 0, (size_t)g.n * sizeof *job->p);
}

static int downdate(struct job *job, struct span g)
{
    int64_t n = job->n;
    for (int64_t i = 0; i < n; i++)
        memcpy(job->pg + i * g.n, job->p + i * n + g.at, (size_t)g.n * sizeof *job->pg);
    int rc = gemm_add(job->ctx, -1, n, n, g.n, job->pg, g.n, job->z, n, job->p, n);
    drop(job, g);
    return rc;
}

static int compensate(struct job *job, int64_t group)
{
    struct span g = span_of(job, group);
    struct scratch *s = job->scratch;
    int64_t n = job->n, from = job->p ? 0 : g.at + g.n;
    int rc = job->p ? explicit_z(job, g, s->c) : shortcut_z(job, g, s->c);
    if (rc != PTQ_OK)
        return rc;
    for (int64_t i = 0; i < job->rows; i++)
        for (int64_t j = 0; j < g.n; j++) {
            int64_t at = i * n + g.at + j;
            s->x[i * g.n + j] = job->w[at] - (ptq_real)job->what[at];
        }
    rc = gemm_add(job->ctx, -1, job->rows, n - from, g.n, s->x, g.n, job->z + from, n,
                  job->w + from, n);
    return rc == PTQ_OK && job->p ? downdate(job, g) : rc;
}

static int quantize_groups(struct job *job)
{
    double loss = 0;
    for (int64_t step = 0; step < job->n_groups; step++) {
        int64_t group;
        if (ptq_cancelled(job->ctx))
            return ptq_fail(job->ctx, PTQ_ERR_CANCELLED, "cancelled");
        int rc = choose(job, step, &group);
        if (rc == PTQ_OK && !isfinite(job->score[group]))
            return ptq_fail(job->ctx, PTQ_ERR_NUMERIC,
                            "%s: weights grew to Inf under compensation; raise percdamp",
                            job->layer->name);
        if (rc == PTQ_OK)
            rc = compensate(job, group);
        if (rc != PTQ_OK)
            return rc;
        loss += 2 * job->score[group];
        job->done[group] = true;
    }
    ptq_note(job->ctx, "obs_loss", loss); /* tr(E H E^T), H damped: an identity of OBS */
    return PTQ_OK;
}

/* ---- the residual ---- */

struct residual_job {
    int64_t rank;
    ptq_real *e;         /* (rows x n) */
    ptq_real *left;      /* (rows x rank) */
    ptq_real *right, *t; /* (rank x n), (n x rank) */
};

static void transpose(const ptq_real *a, int64_t rows, int64_t cols, ptq_real *t)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            t[j * rows + i] = a[i * cols + j];
}

/* E R = (E M) diag(sqrt d). */
static int to_norm_of_hess(const struct job *job, struct residual_job *r)
{
    int64_t n = job->n, m = job->rows;
    factor *f = job->shared->f;
    ptq_real *er = ptq_alloc(job->ctx, PTQ_ARENA_CALL, m * n, sizeof *er);
    int rc = er ? gemm_add(job->ctx, 1, m, n, n, r->e, n, f->m, n, er, n) : PTQ_ERR_MEMORY;
    for (int64_t j = 0; j < n && rc == PTQ_OK; j++)
        for (int64_t i = 0; i < m; i++)
            er[i * n + j] *= (ptq_real)sqrt((double)f->d[j]);
    r->e = er;
    return rc;
}

/* B = B' R^-1: R^T B^T = B'^T. */
static int from_norm_of_hess(const struct job *job, struct residual_job *r)
{
    int64_t n = job->n;
    transpose(r->right, r->rank, n, r->t);
    int rc = solve_lower(job->ctx, false, job->shared->rt, n, n, r->t, r->rank, r->rank);
    transpose(r->t, n, r->rank, r->right);
    return rc;
}

static int truncate(const struct job *job, struct residual_job *r)
{
    bool hess = job->opts->residual == RESIDUAL_HESS;
    for (int64_t i = 0; i < job->rows * job->n; i++)
        r->e[i] = job->w0[i] - (ptq_real)job->what[i];
    int rc = hess ? to_norm_of_hess(job, r) : PTQ_OK;
    struct PTQ_REAL(ptq_truncated)
        t = {job->rows, job->n, r->rank, r->e, job->n, r->left, r->right};
    if (rc == PTQ_OK)
        rc = PTQ_REAL(ptq_truncate)(job->ctx, &t);
    return rc == PTQ_OK && hess ? from_norm_of_hess(job, r) : rc;
}

/* A component of a factor, x[0], x[stride], ..., as integers of RANK_BITS bits and its scale. */
static void store_component(const ptq_real *x, int64_t n, int64_t stride, enum ptq_fmt fmt,
                            float *out, float *scale)
{
    const double most = (1 << (RANK_BITS - 1)) - 1;
    double top = 0;
    for (int64_t i = 0; i < n; i++)
        top = fmax(top, fabs((double)x[i * stride]));
    *scale = top > 0 ? ptq_round_fmt(top / most, fmt) : 1;
    for (int64_t i = 0; i < n; i++) {
        double v = __builtin_rint((double)x[i * stride] / (double)*scale);
        out[i * stride] = (float)fmax(-most, fmin(most, v)) + 0.0F; /* an integer has one zero */
    }
}

static struct ptq_arr signed_ints(int64_t n, const float *at)
{
    return (struct ptq_arr){PTQ_FMT_INT, RANK_BITS, true, n, at};
}

static int store_residual(const struct job *job, const struct residual_job *r,
                          struct ptq_part *part)
{
    int64_t rank = r->rank, m = job->rows, n = job->n;
    enum ptq_fmt fmt = job->cell->scale_fmt;
    float *left = ptq_alloc(job->ctx, PTQ_ARENA_RESULT, m * rank, sizeof *left),
          *right = ptq_alloc(job->ctx, PTQ_ARENA_RESULT, rank * n, sizeof *right),
          *scale = ptq_alloc(job->ctx, PTQ_ARENA_RESULT, 2 * rank, sizeof *scale);
    if (!left || !right || !scale)
        return PTQ_ERR_MEMORY;
    for (int64_t k = 0; k < rank; k++) {
        store_component(r->left + k, m, rank, fmt, left + k, &scale[k]);
        store_component(r->right + k * n, n, 1, fmt, right + k * n, &scale[rank + k]);
    }
    *part = (struct ptq_part){.kind = PTQ_PART_LOWRANK,
                              .rank = rank,
                              .left = signed_ints(m * rank, left),
                              .right = signed_ints(rank * n, right),
                              .left_scale = {fmt, 0, false, rank, scale},
                              .right_scale = {fmt, 0, false, rank, scale + rank}};
    return PTQ_OK;
}

static int add_residual(const struct job *job, struct ptq_part *part)
{
    int64_t m = job->rows, n = job->n, rank = least(job->opts->rank, least(m, n));
    struct residual_job r = {
        .rank = rank,
        .e = ptq_alloc(job->ctx, PTQ_ARENA_CALL, m * n, sizeof *r.e),
        .left = ptq_alloc(job->ctx, PTQ_ARENA_CALL, m * rank, sizeof *r.left),
        .right = ptq_alloc(job->ctx, PTQ_ARENA_CALL, rank * n, sizeof *r.right),
        .t = ptq_alloc(job->ctx, PTQ_ARENA_CALL, n * rank, sizeof *r.t),
    };
    if (!r.e || !r.left || !r.right || !r.t)
        return PTQ_ERR_MEMORY;
    int rc = truncate(job, &r);
    return rc == PTQ_OK ? store_residual(job, &r, part) : rc;
}

/* ---- the form ---- */

static int code_bits(int64_t book_len)
{
    int bits = 1;
    while (bits < MOST_CODE_BITS && INT64_C(1) << bits < book_len)
        bits++;
    return bits;
}

static int add_scales(struct job *job)
{
    struct ptq_part *p = job->part;
    p->group_cols = ptq_group_cols(job->cell, job->n);
    p->groups_per_row = ptq_groups_per_row(job->cell, job->n);
    int64_t n = job->rows * p->groups_per_row;
    job->at.scale = ptq_alloc(job->ctx, PTQ_ARENA_RESULT, n, sizeof *job->at.scale);
    if (!job->at.scale)
        return PTQ_ERR_MEMORY;
    fit_scales(job, job->w0, (struct span){0, job->n});
    p->scale = (struct ptq_arr){job->cell->scale_fmt, 0, false, n, job->at.scale};
    return PTQ_OK;
}

static int add_books(struct job *job)
{
    struct ptq_part *p = job->part;
    bool ints = job->opts->book_bits < 16;
    int64_t n = job->n_groups * p->book_len * p->dim;
    job->book = ptq_alloc(job->ctx, PTQ_ARENA_RESULT, n, sizeof *job->book);
    job->book_step = ptq_alloc(job->ctx, PTQ_ARENA_RESULT, job->n_groups, sizeof *job->book_step);
    job->book_min = ptq_alloc(job->ctx, PTQ_ARENA_RESULT, job->n_groups, sizeof *job->book_min);
    job->at.codes =
        ptq_alloc(job->ctx, PTQ_ARENA_RESULT, job->rows * (job->n / p->dim), sizeof *job->at.codes);
    if (!job->book || !job->book_step || !job->book_min || !job->at.codes)
        return PTQ_ERR_MEMORY;
    p->codes = job->at.codes;
    p->book = (struct ptq_arr){ints ? PTQ_FMT_INT : PTQ_FMT_F16,
                               ints ? (int)job->opts->book_bits : 0, false, n, job->book};
    if (ints) {
        p->book_step = (struct ptq_arr){PTQ_FMT_F16, 0, false, job->n_groups, job->book_step};
        p->book_min = (struct ptq_arr){PTQ_FMT_F16, 0, false, job->n_groups, job->book_min};
    }
    return PTQ_OK;
}

/* A book longer than the points of a group would only cost bits. */
static int codebook_part(struct job *job)
{
    struct ptq_part *p = job->part;
    int64_t dim = job->opts->dim, points = job->rows * (job->width / dim);
    int64_t book_len = least(INT64_C(1) << (job->cell->w_bits * dim), points);
    *p = (struct ptq_part){.kind = PTQ_PART_CODEBOOK,
                           .bits = code_bits(book_len),
                           .dim = dim,
                           .book_len = book_len,
                           .book_rows = job->rows,
                           .book_cols = job->width};
    ptq_note(job->ctx, "book_len", (double)book_len);
    int rc = job->opts->row_norm ? add_scales(job) : PTQ_OK;
    return rc == PTQ_OK ? add_books(job) : rc;
}

/* Grids as GPTQ's static ones. */
static int uniform_part(struct job *job)
{
    const uint8_t *zeroed = job->cell->group_size > 0 ? job->shared->f->dead : NULL;
    int rc = ptq_part_uniform(job->ctx, job->layer, job->cell, job->part, &job->at);
    return rc != PTQ_OK
               ? rc
               : PTQ_REAL(ptq_grid_fit_all)(job->ctx, job->layer, job->cell, zeroed, &job->at);
}

/* ---- hooks ---- */

static int64_t width_of(const struct ptq_cell *cell, const struct opts *o, int64_t n)
{
    int64_t of_cell = cell->group_size > 0 ? cell->group_size : DEFAULT_WIDTH;
    return least(o->width ? o->width : of_cell, n);
}

/* What a codebook makes of such a cell is what it makes of the plain one: two names of a form. */
static const char *inert_field(const struct ptq_cell *c)
{
    return c->sym                       ? "sym = 1 (set sym = 0)"
           : c->grid != PTQ_GRID_MINMAX ? "a grid search (set grid = minmax)"
           : !c->zero_in_range          ? "zero_in_range = 0 (set zero_in_range = 1)"
                                        : NULL;
}

static int check(struct ptq_ctx *ctx, const struct ptq_layer *l, const struct ptq_cell *cell,
                 const void *opts)
{
    const struct opts *o = opts;
    int64_t bits = cell->w_bits * o->dim, width = width_of(cell, o, l->w.cols);
    if (o->book == BOOK_UNIFORM)
        return PTQ_OK;
    const char *inert = inert_field(cell);
    if (inert)
        return ptq_skip(ctx, "codebooks have no grid, so that %s would change nothing", inert);
    if (o->dim != 1 && o->dim != 2 && o->dim != 4)
        return ptq_skip(ctx, "dim=%lld: vectors have 1, 2 or 4 weights", (long long)o->dim);
    if (bits > MOST_CODE_BITS)
        return ptq_skip(ctx,
                        "dim=%lld at %d bits is a codebook of 2^%lld entries, more than 65536: use "
                        "fewer bits or a smaller dim",
                        (long long)o->dim, cell->w_bits, (long long)bits);
    if (width % o->dim || l->w.cols % o->dim)
        return ptq_skip(ctx, "dim=%lld does not divide groups of %lld of %lld columns: use dim=1",
                        (long long)o->dim, (long long)width, (long long)l->w.cols);
    if (o->exact && o->dim != 1)
        return ptq_skip(ctx, "exact k-means exists for dim=1 only");
    return PTQ_OK;
}

static void normalise(void *opts)
{
    struct opts *o = opts;
    o->downdate = o->downdate && o->order == NATURAL;
    if (o->rank == 0)
        o->residual = RESIDUAL_HESS;
    if (o->book == BOOK_UNIFORM) {
        o->exact = o->weighted = false;
        o->row_norm = true;
        o->dim = 1;
        o->book_bits = 8;
    }
}

static bool alloc_scratch(struct job *job)
{
    int64_t m = job->rows, g = job->width, points = m * g;
    int64_t book = job->part->book_len * job->part->dim;
    job->scratch = ptq_alloc(job->ctx, PTQ_ARENA_CALL, ptq_threads(job->ctx), sizeof *job->scratch);
    bool ok = job->scratch;
    for (int i = 0; ok && i < ptq_threads(job->ctx); i++) {
        struct scratch *s = &job->scratch[i];
        s->x = ptq_alloc(job->ctx, PTQ_ARENA_CALL, points, sizeof *s->x);
        s->t = ptq_alloc(job->ctx, PTQ_ARENA_CALL, points, sizeof *s->t);
        s->c = ptq_alloc(job->ctx, PTQ_ARENA_CALL, g * g, sizeof *s->c);
        s->column = ptq_alloc(job->ctx, PTQ_ARENA_CALL, g, sizeof *s->column);
        s->weight = ptq_alloc(job->ctx, PTQ_ARENA_CALL, points, sizeof *s->weight);
        s->code = ptq_alloc(job->ctx, PTQ_ARENA_CALL, points, sizeof *s->code);
        s->centroid = ptq_alloc(job->ctx, PTQ_ARENA_CALL, book, sizeof *s->centroid);
        ok = s->x && s->t && s->c && s->column && s->weight && s->code && s->centroid;
    }
    return ok;
}

static bool alloc_state(struct job *job)
{
    int64_t m = job->rows, n = job->n, g = job->width;
    bool p = job->shared->p;
    job->w0 = ptq_alloc(job->ctx, PTQ_ARENA_CALL, m * n, sizeof *job->w0);
    job->w = ptq_alloc(job->ctx, PTQ_ARENA_CALL, m * n, sizeof *job->w);
    job->what = ptq_alloc(job->ctx, PTQ_ARENA_CALL, m * n, sizeof *job->what);
    job->z = ptq_alloc(job->ctx, PTQ_ARENA_CALL, g * n, sizeof *job->z);
    job->score = ptq_alloc(job->ctx, PTQ_ARENA_CALL, job->n_groups, sizeof *job->score);
    job->done = ptq_alloc(job->ctx, PTQ_ARENA_CALL, job->n_groups, sizeof *job->done);
    if (p) {
        job->pg = ptq_alloc(job->ctx, PTQ_ARENA_CALL, n * g, sizeof *job->pg);
        job->p = ptq_alloc(job->ctx, PTQ_ARENA_CALL, n * n, sizeof *job->p);
    }
    return job->w0 && job->w && job->what && job->z && job->score && job->done &&
           (!p || (job->pg && job->p));
}

static void load(struct job *job)
{
    const struct ptq_cmat *w = &job->layer->w;
    int64_t n = job->n;
    for (int64_t i = 0; i < job->rows; i++)
        for (int64_t j = 0; j < n; j++)
            job->w0[i * n + j] = job->shared->f->dead[j] ? 0 : (ptq_real)w->at[i * w->ld + j];
    memcpy(job->w, job->w0, (size_t)(job->rows * n) * sizeof *job->w);
    if (job->p)
        memcpy(job->p, job->shared->p, (size_t)(n * n) * sizeof *job->p);
}

static int quantize(struct ptq_ctx *ctx, const struct ptq_layer *layer, const struct ptq_cell *cell,
                    const void *opts, const void *shared, struct ptq_quant *out)
{
    const struct opts *o = opts;
    struct job job = {.ctx = ctx,
                      .layer = layer,
                      .cell = cell,
                      .opts = o,
                      .shared = shared,
                      .rows = layer->w.rows,
                      .n = layer->w.cols,
                      .width = width_of(cell, o, layer->w.cols),
                      .part = &out->part[0]};
    job.n_groups = (job.n - 1) / job.width + 1;
    if (!alloc_state(&job))
        return PTQ_ERR_MEMORY;
    load(&job);
    int rc = o->book == BOOK_UNIFORM ? uniform_part(&job) : codebook_part(&job);
    if (rc == PTQ_OK && !alloc_scratch(&job))
        rc = PTQ_ERR_MEMORY;
    if (rc == PTQ_OK)
        rc = quantize_groups(&job);
    if (rc == PTQ_OK && o->rank)
        rc = add_residual(&job, &out->part[1]);
    out->n_parts = o->rank ? 2 : 1;
    return rc;
}

static void cost(const struct ptq_layer *layer, const struct ptq_cell *cell, const void *opts,
                 struct ptq_cost *out)
{
    const struct opts *o = opts;
    double m = (double)layer->w.rows, n = (double)layer->w.cols,
           groups = ceil(n / (double)width_of(cell, o, layer->w.cols)),
           book = ldexp(1, (int)(cell->w_bits * o->dim)),
           fit = ITERATIONS * (o->dim > 1 ? 3 * book : 6) + 20 * log2(1 + m);
    bool p = by_downdates(o);
    double fits = o->order == NATURAL ? 1 : (groups + 1) / 2; /* of each weight, on average */
    out->flops = (p ? 4 : 2) * n * n * n + 2 * m * n * n + fits * m * n * fit;
    out->bytes = n * n * (p ? 4 * groups : 8) + m * n * 4 * groups;
    out->peak_bytes = n * n * (p ? 16 : 12) + m * n * 16;
}

static const char *const order_words[] = {"natural", "max_first", "min_first", NULL};
static const char *const book_words[] = {"kmeans", "uniform", NULL};
static const char *const residual_words[] = {"hess", "plain", NULL};
static const char *const dead_words[] = {"mean", "reference", NULL};
static const struct ptq_opt options[] = {
    {.name = "width",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, width),
     .def = 0,
     .min = 0,
     .max = 65536,
     .help = "columns of a group, that is of a codebook; 0: the cell's group_size, 32 for rows [0: "
             "not published]"},
    {.name = "order",
     .type = PTQ_OPT_CHOICE,
     .offset = offsetof(struct opts, order),
     .def = MAX_FIRST,
     .choices = order_words,
     .prepare = true,
     .help = "order of the groups: natural, or by the loss that each would add now [max_first: not "
             "published]"},
    {.name = "book",
     .type = PTQ_OPT_CHOICE,
     .offset = offsetof(struct opts, book),
     .def = BOOK_KMEANS,
     .choices = book_words,
     .help = "codebooks, or the cell's own fixed grid (block OBS; width=1: GPTQ) [kmeans: paper]"},
    {.name = "dim",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, dim),
     .def = 1,
     .min = 1,
     .max = 4,
     .help = "weights of a row that share a code, 1, 2 or 4; books of 2^(bits dim) entries [1: not "
             "published]"},
    {.name = "row_norm",
     .type = PTQ_OPT_BOOL,
     .offset = offsetof(struct opts, row_norm),
     .def = 1,
     .help = "rows are divided by their scale before clustering; one scale a group of the cell, "
             "counted [1: not published]"},
    {.name = "weighted",
     .type = PTQ_OPT_BOOL,
     .offset = offsetof(struct opts, weighted),
     .def = 0,
     .help = "clustering weighs columns by 1 / P_jj [0: not published]"},
    {.name = "exact",
     .type = PTQ_OPT_BOOL,
     .offset = offsetof(struct opts, exact),
     .def = 0,
     .help = "optimal clusters by dynamic programming instead of Lloyd's; dim=1 [0: paper]"},
    {.name = "book_bits",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, book_bits),
     .def = 8,
     .min = 2,
     .max = 16,
     .help =
         "width of a codebook's values, with an f16 step and minimum a book; 16: f16 values [8: "
         "not published]"},
    {.name = "rank",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, rank),
     .def = 0,
     .min = 0,
     .max = 65536,
     .help = "rank of the residual's approximation, 8-bit factors [0: not published]"},
    {.name = "residual",
     .type = PTQ_OPT_CHOICE,
     .offset = offsetof(struct opts, residual),
     .def = RESIDUAL_HESS,
     .choices = residual_words,
     .help = "norm of the residual's approximation; inert with rank=0 [hess: not published]"},
    {.name = "downdate",
     .type = PTQ_OPT_BOOL,
     .offset = offsetof(struct opts, downdate),
     .def = 0,
     .prepare = true,
     .help = "natural order by updates of the inverse Hessian, as the other orders go: the same "
             "codes, slower [0]"},
    {.name = "percdamp",
     .type = PTQ_OPT_REAL,
     .offset = offsetof(struct opts, percdamp),
     .def = 0.01,
     .min = 0,
     .max = 1000,
     .prepare = true,
     .help = "damping as a share of the mean diagonal [0.01: as gptq]"},
    {.name = "dead",
     .type = PTQ_OPT_CHOICE,
     .offset = offsetof(struct opts, dead),
     .def = 0,
     .choices = dead_words,
     .prepare = true,
     .help = "diagonal of dead inputs, as gptq's [mean]"},
    {.name = NULL},
};

PTQ_METHOD(athena) = {
    .name = "athena",
    .title = "Athena: groups of columns by k-means, compensated in closed form",
    .cite = "Wang, He, Yang, arXiv 2405.17470",
    .status = "reimplementation: methods/README.md",
    .needs = PTQ_NEEDS_HESS,
    .caps = PTQ_CAP_SYM | PTQ_CAP_ASYM | PTQ_CAP_GROUPS | PTQ_CAP_GRID_MSE | PTQ_CAP_GRID_HESS |
            PTQ_CAP_ZERO_FREE | PTQ_CAP_ACT,
    .opts_size = sizeof(struct opts),
    .opts = options,
    .normalise = normalise,
    .check = check,
    .prepare = prepare,
    .quantize = quantize,
    .cost = cost,
};
