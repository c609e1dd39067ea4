/* feedback_real.c: the column sweep of GPTQ on known grids (ptq.h, struct ptq_feedback), compiled
 * for float and for double:
 *
 *     x_k = W_k + sum over j < k of E_j M_jk,   What_k = quant(x_k),   E_k = W_k - What_k
 *
 * and with a drive P: W_j += x_k P_kj for j > k, once x_k is known.
 *
 * Rows are independent, and a call may have few of them (BoA: one row of each head). A piece of
 * rows goes through all columns, panel by panel. What earlier panels feed into a panel is one
 * product; inside the panel LANES rows lie side by side and every column, once rounded, is spread
 * over the later ones: a row of M is read as it lies. */
#include "core/linalg.h"
#include "core/size.h"
#include "quant/ctx.h"
#include <string.h>

enum { LANES = 16, PANEL = 128, MOST_ROWS = 256, PIECES = 8 };

/* ---- one call, shared by all pieces ---- */

struct job {
    struct ptq_ctx *ctx;
    const struct PTQ_REAL(ptq_feedback) * f;
    const struct PTQ_REAL(ptq_factor) * factor;
    int64_t n;
    ptq_real *e; /* (rows x n) in order of quantization: E */
    ptq_real *x; /* the same of x; only with a drive */
    struct scratch *scratch;
};

/* Of a thread. */
struct scratch {
    ptq_real *fed, *driven;          /* (MOST_ROWS x PANEL): of earlier panels */
    ptq_real *w, *x, *err;           /* (PANEL x LANES) */
    uint16_t *code;                  /* (PANEL x LANES) */
    float scale[LANES], zero[LANES]; /* of the group at hand */
    int64_t group;
    int64_t n_clipped;
    int rc;
};

struct panel {
    int64_t row, n_rows; /* rows of the piece */
    int64_t begin, end;  /* columns */
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- loops over the lanes ---- */

/* acc_c += m_c e for the columns that follow. */
PTQ_CLONES static void spread(ptq_real *restrict acc, const ptq_real *restrict e,
                              const ptq_real *restrict m, int64_t n)
{
    for (int64_t c = 0; c < n; c++)
        for (int r = 0; r < LANES; r++)
            acc[c * LANES + r] += m[c] * e[r];
}

static inline ptq_real round_real(ptq_real v)
{
    return sizeof v == sizeof(float) ? (ptq_real)__builtin_rintf((float)v)
                                     : (ptq_real)__builtin_rint((double)v);
}

PTQ_CLONES static int round_column(const ptq_real *restrict x, const ptq_real *restrict w,
                                   const float *restrict scale, const float *restrict zero,
                                   ptq_real maxq, uint16_t *restrict code, ptq_real *restrict err)
{
    int clipped = 0;
    for (int r = 0; r < LANES; r++) {
        ptq_real q = round_real(x[r] / (ptq_real)scale[r]) + (ptq_real)zero[r];
        clipped += (q < 0) | (q > maxq);
        q = q > 0 ? q : 0;
        q = q < maxq ? q : maxq;
        code[r] = (uint16_t)(int)q;
        err[r] = w[r] - (ptq_real)(scale[r] * ((float)q - zero[r]));
    }
    return clipped;
}

/* ---- panels ---- */

/* out (n_rows x width) = source's earlier columns times the panel's columns of m. */
static int earlier(const struct job *job, const struct panel *p, const ptq_real *source,
                   const ptq_real *m, ptq_real *out)
{
    int64_t width = p->end - p->begin;
    if (p->begin == 0) {
        memset(out, 0, (size_t)(p->n_rows * width) * sizeof *out);
        return PTQ_OK;
    }
    struct ptq_status st = {0};
    struct PTQ_REAL(ptq_gemm) g = {.m = p->n_rows,
                                   .n = width,
                                   .k = p->begin,
                                   .alpha = 1,
                                   .beta = 0,
                                   .a = source + p->row * job->n,
                                   .lda = job->n,
                                   .b = m + p->begin,
                                   .ldb = job->n,
                                   .c = out,
                                   .ldc = width};
    int rc = PTQ_REAL(ptq_gemm)(job->ctx->pool, &g, &st);
    return rc == PTQ_OK ? rc : ptq_ctx_adopt(job->ctx, &st);
}

/* Rows [r0, r0 + LANES) of the piece, transposed; rows that do not exist are 0. */
static void load_lanes(const struct job *job, const struct panel *p, int64_t r0, struct scratch *s)
{
    const int32_t *perm = job->factor->perm + p->begin;
    int64_t width = p->end - p->begin, rows = least(LANES, p->n_rows - r0);
    if (rows < LANES) {
        memset(s->w, 0, (size_t)(width * LANES) * sizeof *s->w);
        memset(s->x, 0, (size_t)(width * LANES) * sizeof *s->x);
    }
    for (int64_t r = 0; r < rows; r++) {
        const ptq_real *w = job->f->w + (p->row + r0 + r) * job->f->ldw,
                       *fed = s->fed + (r0 + r) * width,
                       *driven = job->x ? s->driven + (r0 + r) * width : NULL;
        for (int64_t k = 0; k < width; k++) {
            ptq_real v = job->factor->dead[perm[k]] ? 0 : w[perm[k]];
            v = driven ? v + driven[k] : v;
            s->w[k * LANES + r] = v;
            s->x[k * LANES + r] = v + fed[k];
        }
    }
}

static void store_lanes(const struct job *job, const struct panel *p, int64_t r0,
                        const struct scratch *s)
{
    const int32_t *perm = job->factor->perm + p->begin;
    int64_t n = job->n, width = p->end - p->begin, rows = least(LANES, p->n_rows - r0);
    for (int64_t r = 0; r < rows; r++) {
        int64_t row = p->row + r0 + r;
        for (int64_t k = 0; k < width; k++) {
            ptq_real e = s->err[k * LANES + r];
            job->e[row * n + p->begin + k] = e;
            job->f->codes[row * n + perm[k]] = s->code[k * LANES + r];
            if (job->x)
                job->x[row * n + p->begin + k] = s->x[k * LANES + r];
            if (job->f->error)
                job->f->error[row * n + perm[k]] = e;
        }
    }
}

/* Grids of a column for the rows at hand; lanes without a row get scale 1, so that nothing divides
 * by 0. */
static void load_grids(const struct job *job, int64_t row, int64_t rows, int64_t group,
                       struct scratch *s)
{
    const struct ptq_part *part = job->f->part;
    for (int64_t r = 0; r < LANES; r++) {
        int64_t from =
            part->groups_per_row ? (job->f->first_row + row + r) * part->groups_per_row + group : 0;
        s->scale[r] = r < rows ? part->scale.at[from] : 1;
        s->zero[r] = r < rows ? ptq_part_zero(part, from) : 0;
    }
    s->group = group;
}

static void quantize_lanes(const struct job *job, const struct panel *p, int64_t r0,
                           struct scratch *s)
{
    int64_t width = p->end - p->begin, n = job->n, rows = least(LANES, p->n_rows - r0);
    ptq_real maxq = (ptq_real)((1 << job->f->part->bits) - 1);
    s->group = -1;
    for (int64_t k = 0; k < width; k++) {
        int64_t j = p->begin + k, later = width - k - 1,
                group = job->f->part->groups_per_row
                            ? job->factor->perm[j] / job->f->part->group_cols
                            : 0;
        ptq_real *x = s->x + k * LANES, *w = s->w + k * LANES, *err = s->err + k * LANES;
        if (group != s->group)
            load_grids(job, p->row + r0, rows, group, s);
        s->n_clipped += round_column(x, w, s->scale, s->zero, maxq, s->code + k * LANES, err);
        spread(x + LANES, err, job->factor->m + j * n + j + 1, later);
        if (job->x) {
            spread(x + LANES, x, job->f->drive + j * n + j + 1, later);
            spread(w + LANES, x, job->f->drive + j * n + j + 1, later);
        }
    }
}

static int check_finite(const struct job *job, int64_t begin, int64_t end)
{
    for (int64_t i = begin * job->n; i < end * job->n; i++)
        if (!(job->e[i] - job->e[i] == 0))
            return ptq_fail(job->ctx, PTQ_ERR_NUMERIC,
                            "row %lld grew to Inf under error feedback; raise percdamp",
                            (long long)(job->f->first_row + i / job->n));
    return PTQ_OK;
}

static int quantize_rows(const struct job *job, struct scratch *s, int64_t row, int64_t n_rows)
{
    int rc = PTQ_OK;
    for (int64_t c = 0; c < job->n && rc == PTQ_OK; c += PANEL) {
        struct panel p = {row, n_rows, c, least(c + PANEL, job->n)};
        if (ptq_cancelled(job->ctx))
            return ptq_fail(job->ctx, PTQ_ERR_CANCELLED, "cancelled");
        rc = earlier(job, &p, job->e, job->factor->m, s->fed);
        if (rc == PTQ_OK && job->x)
            rc = earlier(job, &p, job->x, job->f->drive, s->driven);
        for (int64_t r0 = 0; r0 < n_rows && rc == PTQ_OK; r0 += LANES) {
            load_lanes(job, &p, r0, s);
            quantize_lanes(job, &p, r0, s);
            store_lanes(job, &p, r0, s);
        }
    }
    return rc == PTQ_OK ? check_finite(job, row, row + n_rows) : rc;
}

static void quantize_piece(void *arg, int slot, int64_t begin, int64_t end)
{
    struct job *job = arg;
    struct scratch *s = &job->scratch[slot];
    if (s->rc == PTQ_OK)
        s->rc = quantize_rows(job, s, begin, end - begin);
}

/* ---- the call ---- */

/* As many rows as make PIECES pieces, whole LANES, not more than the scratch holds. */
static int64_t rows_of_piece(int64_t rows)
{
    int64_t share = (rows / PIECES + LANES) / LANES * LANES;
    return least(share, MOST_ROWS);
}

static bool allocate(struct job *job, struct ptq_arena *a, struct ptq_status *st)
{
    int64_t cells, threads = ptq_threads(job->ctx), most = rows_of_piece(job->f->rows);
    if (!ptq_size_mul(job->f->rows, job->n, &cells))
        cells = -1; /* refused by the arena */
    job->e = ptq_arena_alloc(a, st, cells, sizeof *job->e);
    job->x = job->f->drive ? ptq_arena_alloc(a, st, cells, sizeof *job->x) : NULL;
    job->scratch = ptq_arena_alloc(a, st, threads, sizeof *job->scratch);
    bool ok = job->e && job->scratch && (job->x || !job->f->drive);
    for (int64_t i = 0; ok && i < threads; i++) {
        struct scratch *s = &job->scratch[i];
        s->fed = ptq_arena_alloc(a, st, most * PANEL, sizeof *s->fed);
        s->driven = ptq_arena_alloc(a, st, job->x ? most * PANEL : 0, sizeof *s->driven);
        s->w = ptq_arena_alloc(a, st, PANEL * LANES, sizeof *s->w);
        s->x = ptq_arena_alloc(a, st, PANEL * LANES, sizeof *s->x);
        s->err = ptq_arena_alloc(a, st, PANEL * LANES, sizeof *s->err);
        s->code = ptq_arena_alloc(a, st, PANEL * LANES, sizeof *s->code);
        ok = s->fed && s->driven && s->w && s->x && s->err && s->code;
    }
    return ok;
}

static int gather(const struct job *job)
{
    int rc = PTQ_OK;
    for (int i = 0; i < ptq_threads(job->ctx); i++) {
        if (job->f->n_clipped)
            *job->f->n_clipped += job->scratch[i].n_clipped;
        rc = rc == PTQ_OK ? job->scratch[i].rc : rc;
    }
    return rc;
}

int PTQ_REAL(ptq_feedback_run)(struct ptq_ctx *ctx, const struct PTQ_REAL(ptq_feedback) * f)
{
    struct job job = {.ctx = ctx, .f = f, .factor = f->factor, .n = f->factor->n};
    struct ptq_status st = {0};
    struct ptq_arena arena; /* a method may call this many times in one hook */
    ptq_arena_init(&arena, 0);
    int rc = PTQ_OK;
    if (!allocate(&job, &arena, &st)) {
        rc = ptq_ctx_adopt(ctx, &st);
    } else {
        ptq_parallel_for_slots(ctx, f->rows, rows_of_piece(f->rows), quantize_piece, &job);
        rc = gather(&job);
    }
    ptq_arena_clear(&arena);
    return rc;
}

/* ---- triangular services ---- */

int PTQ_REAL(ptq_cholesky_lower)(struct ptq_ctx *ctx, ptq_real *a, int64_t n, int64_t lda)
{
    struct ptq_status st = {0};
    int64_t bad;
    int rc = PTQ_REAL(ptq_cholesky)(ctx->pool, a, n, lda, &bad, &st);
    for (int64_t i = 0; i < n && rc == PTQ_OK; i++)
        memset(a + i * lda + i + 1, 0, (size_t)(n - 1 - i) * sizeof *a);
    return rc == PTQ_OK || rc == PTQ_SKIP ? rc : ptq_ctx_adopt(ctx, &st);
}

int PTQ_REAL(ptq_solve_lower)(struct ptq_ctx *ctx, bool trans, const ptq_real *l, int64_t n,
                              int64_t ldl, ptq_real *b, int64_t m, int64_t ldb)
{
    struct ptq_status st = {0};
    int rc = PTQ_REAL(ptq_trsm_lower)(ctx->pool, trans, l, n, ldl, b, m, ldb, &st);
    return rc == PTQ_OK ? rc : ptq_ctx_adopt(ctx, &st);
}
