/* gptq.c: GPTQ, "Accurate Post-Training Quantization for Generative Pre-trained Transformers"
 * (arXiv 2210.17323), in LDLQ form.
 *
 * The published recursion quantizes column k and moves its error onto the later columns through U,
 * H^-1 = U^T U. With H = R R^T (R = U^-1 upper) and M = R diag(R)^-1 the same codes come from
 * feedback without moving weights (methods.md sections 2 and 7.12):
 *
 *     What_k = quant(W_k + sum over j < k of E_j M_jk),   E = W - What  (1)
 *
 * so no inverse is needed and the rows are independent. Columns are in the order of quantization
 * (act_order: diag H descending).
 *
 * Grids. Rows and tensors: from the original weights. Static groups: from the original weights with
 * dead inputs at 0. Dynamic groups: from the weights as the published code would hold them when the
 * group G = [i, i + g) begins. Those are W_G + D_G with
 *
 *     D_T M_TT = E_{<s} M_{<s,T}       (a right solve; M_TT is unit upper)       (2)
 *
 * fresh: s = i and T = G: all columns before the group have been compensated for. stale: s is
 * the last multiple of block up to i and T = [s, i + g): the published code refreshes the weights
 * that grids read only at block ends.
 *
 * Departures from the published code: scales are rounded to their stored format before codes see
 * them; a dead input gets the mean of the live diagonal (dead=reference: the published rule); a
 * Hessian that is not positive definite is damped again and retried. E uses the stored fp32 value
 * of a weight in both precisions.
 *
 * Work: a piece of CHUNK rows goes through all columns, panel by panel of `block` columns. What
 * earlier panels feed into a panel is one product; inside the panel LANES rows at a time stay in
 * the first cache, transposed, so that loops run over rows. */
#include "ptq.h"
#include <string.h>

enum { CHUNK = 256, LANES = 64, BLOCK = 128 };

struct opts {
    bool act_order, static_groups, stale_scales;
    double percdamp;
    int64_t dead, block;
};

typedef const struct PTQ_REAL(ptq_factor) factor;
#define fit_hess PTQ_REAL(ptq_grid_fit_hess)

/* ---- one layer, shared by all pieces ---- */

struct job {
    struct ptq_ctx *ctx;
    const struct ptq_layer *layer;
    const struct ptq_cell *cell;
    const struct opts *opts;
    factor *f;
    const struct ptq_part *part;
    struct ptq_part_arrays at;
    bool dynamic; /* grids are fitted on the way */
    int64_t rows, n;
    int64_t width; /* most columns that a panel and the groups that begin in it span */
    int64_t padded_rows, groups; /* rows up to whole LANES; grids of a row, at least 1 */
    float *scale, *zero; /* (groups x padded_rows): the lanes of a column lie side by side */
    /* (rows x n) in order of quantization: weights, overwritten by E column by column */
    ptq_real *e;
    struct scratch *scratch; /* [ptq_threads] */
};

/* ---- scratch of a thread ---- */

struct scratch {
    ptq_real *p;        /* (CHUNK x width): E of earlier panels times M */
    ptq_real *mt;       /* (width x width): mt[k][j] = M_jk of the panel's columns */
    ptq_real *w;        /* (width x LANES): weights */
    ptq_real *fed;      /* (width x LANES): feedback of earlier panels */
    ptq_real *err;      /* (block x LANES): E of this panel */
    ptq_real *d;        /* (width x LANES): D of (2), then W + D */
    uint16_t *code;     /* (block x LANES) */
    uint16_t *row;      /* [n] codes of a row before they go back to original order */
    double *h, *search; /* grid = hess: a group's block of H, and what the search wants */
    int64_t n_clipped, n_widened;
    int rc; /* of the first chunk that failed here */
};

static bool scratch_alloc(struct job *job, struct scratch *s)
{
    int64_t width = job->width, block = job->opts->block, g = job->part->group_cols;
    bool hess = job->dynamic && job->cell->grid == PTQ_GRID_HESS;
    s->p = ptq_alloc(job->ctx, PTQ_ARENA_CALL, CHUNK * width, sizeof *s->p);
    s->mt = ptq_alloc(job->ctx, PTQ_ARENA_CALL, width * width, sizeof *s->mt);
    s->w = ptq_alloc(job->ctx, PTQ_ARENA_CALL, width * LANES, sizeof *s->w);
    s->fed = ptq_alloc(job->ctx, PTQ_ARENA_CALL, width * LANES, sizeof *s->fed);
    s->d = ptq_alloc(job->ctx, PTQ_ARENA_CALL, job->dynamic ? width * LANES : 0, sizeof *s->d);
    s->err = ptq_alloc(job->ctx, PTQ_ARENA_CALL, block * LANES, sizeof *s->err);
    s->code = ptq_alloc(job->ctx, PTQ_ARENA_CALL, block * LANES, sizeof *s->code);
    s->row = ptq_alloc(job->ctx, PTQ_ARENA_CALL, job->n, sizeof *s->row);
    s->h = ptq_alloc(job->ctx, PTQ_ARENA_CALL, hess ? g * g : 0, sizeof *s->h);
    s->search =
        ptq_alloc(job->ctx, PTQ_ARENA_CALL, hess ? g * PTQ_HESS_LANES : 0, sizeof *s->search);
    return s->p && s->mt && s->w && s->fed && s->d && s->err && s->code && s->row && s->h &&
           s->search;
}

/* ---- loops over the rows of a block of LANES ---- */

/* acc += sign * sum over j of x[j] m[j], in index order. */
PTQ_CLONES static void feed(ptq_real *restrict acc, const ptq_real *restrict x,
                            const ptq_real *restrict m, int64_t n, ptq_real sign)
{
    ptq_real a[LANES];
    for (int r = 0; r < LANES; r++)
        a[r] = acc[r];
    for (int64_t j = 0; j < n; j++) {
        ptq_real f = sign * m[j];
        for (int r = 0; r < LANES; r++)
            a[r] += f * x[j * LANES + r];
    }
    for (int r = 0; r < LANES; r++)
        acc[r] = a[r];
}

static inline ptq_real round_real(ptq_real v)
{
    return sizeof v == sizeof(float) ? (ptq_real)__builtin_rintf((float)v)
                                     : (ptq_real)__builtin_rint((double)v);
}

/* Codes and errors of one column; x: the weights with their feedback. Returns how many codes
 * were clipped. */
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

struct panel {
    int64_t row, n_rows;     /* rows of the chunk */
    int64_t begin, end, far; /* columns [begin, end); groups that begin here reach to far >= end */
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Where the columns end that the grids of a panel read. */
static int64_t panel_far(const struct job *job, int64_t begin, int64_t end)
{
    int64_t g = job->part->group_cols, last_start = (end - 1) / g * g;
    int64_t far = job->dynamic && last_start >= begin ? least(job->n, last_start + g) : end;
    return far > end ? far : end;
}

static int load_panel(struct job *job, const struct panel *p, struct scratch *s)
{
    int64_t n = job->n, width = p->far - p->begin;
    for (int64_t k = 0; k < width; k++)
        for (int64_t j = 0; j < k; j++)
            s->mt[k * job->width + j] = job->f->m[(p->begin + j) * n + p->begin + k];
    memset(s->p, 0, (size_t)(p->n_rows * width) * sizeof *s->p);
    if (p->begin == 0)
        return PTQ_OK;
    return PTQ_REAL(ptq_gemm_add)(job->ctx, 1, p->n_rows, width, p->begin, job->e + p->row * n, n,
                                  job->f->m + p->begin, n, s->p, width);
}

/* Rows [r0, r0 + LANES) of the chunk, transposed; rows that do not exist are 0. */
static void load_lanes(const struct job *job, const struct panel *p, int64_t r0, struct scratch *s)
{
    int64_t width = p->far - p->begin, rows = least(LANES, p->n_rows - r0);
    if (rows < LANES) {
        memset(s->w, 0, (size_t)(width * LANES) * sizeof *s->w);
        memset(s->fed, 0, (size_t)(width * LANES) * sizeof *s->fed);
    }
    for (int64_t r = 0; r < rows; r++) {
        const ptq_real *w = job->e + (p->row + r0 + r) * job->n + p->begin,
                       *fed = s->p + (r0 + r) * width;
        for (int64_t k = 0; k < width; k++) {
            s->w[k * LANES + r] = w[k];
            s->fed[k * LANES + r] = fed[k];
        }
    }
}

static void store_lanes(struct job *job, const struct panel *p, int64_t r0, const struct scratch *s)
{
    int64_t width = p->end - p->begin, rows = least(LANES, p->n_rows - r0);
    for (int64_t r = 0; r < rows; r++) {
        ptq_real *e = job->e + (p->row + r0 + r) * job->n + p->begin;
        uint16_t *code = job->at.codes + (p->row + r0 + r) * job->n + p->begin;
        for (int64_t k = 0; k < width; k++) {
            e[k] = s->err[k * LANES + r];
            code[k] = s->code[k * LANES + r];
        }
    }
}

/* ---- dynamic grids ---- */

/* Columns [first, last) of the panel: d[k] = right hand side - sum of d_j M_jk, forward; it then
 * holds D. */
static void solve(const struct job *job, int64_t first, int64_t last, struct scratch *s)
{
    for (int64_t k = first; k < last; k++)
        feed(s->d + k * LANES, s->d + first * LANES, s->mt + k * job->width + first, k - first, -1);
}

static void add_weights(int64_t first, int64_t last, struct scratch *s)
{
    for (int64_t i = first * LANES; i < last * LANES; i++)
        s->d[i] += s->w[i];
}

/* stale: one solve serves all groups that begin in the panel. */
static void stale_weights(const struct job *job, const struct panel *p, struct scratch *s)
{
    int64_t width = p->far - p->begin;
    memcpy(s->d, s->fed, (size_t)(width * LANES) * sizeof *s->d);
    solve(job, 0, width, s);
    add_weights(0, width, s);
}

/* fresh: columns [k, last) after columns [0, k) of the panel have their errors. */
static void fresh_weights(const struct job *job, int64_t k, int64_t last, struct scratch *s)
{
    for (int64_t c = k; c < last; c++) {
        memcpy(s->d + c * LANES, s->fed + c * LANES, LANES * sizeof *s->d);
        feed(s->d + c * LANES, s->err, s->mt + c * job->width, k, 1);
    }
    solve(job, k, last, s);
    add_weights(k, last, s);
}

/* The block of H of the columns [first, last) in order of quantization. */
static void gather_hess(const struct job *job, int64_t first, int64_t last, double *h)
{
    const struct ptq_cdmat *full = &job->layer->hess;
    const int32_t *perm = job->f->perm;
    for (int64_t i = first; i < last; i++)
        for (int64_t j = first; j < last; j++)
            h[(i - first) * (last - first) + j - first] = full->at[perm[i] * full->ld + perm[j]];
}

/* Fits the grids of the group that begins at column k of the panel. */
static void fit_group(struct job *job, const struct panel *p, int64_t r0, int64_t k,
                      struct scratch *s)
{
    int64_t first = p->begin + k, g = job->part->group_cols, n = least(g, job->n - first),
            row0 = p->row + r0;
    if (!job->opts->stale_scales)
        fresh_weights(job, k, k + n, s);
    if (job->cell->grid == PTQ_GRID_HESS)
        gather_hess(job, first, first + n, s->h);
    for (int64_t r = 0; r < least(LANES, p->n_rows - r0); r++) {
        struct ptq_grid_fit fit;
        fit_hess(job->cell, s->d + k * LANES + r, n, LANES, s->h, n, s->search, &fit);
        int64_t at = first / g * job->padded_rows + row0 + r;
        job->scale[at] = fit.scale;
        job->zero[at] = fit.zero;
        s->n_widened += fit.widened;
    }
}

/* ---- the recursion (1) ---- */

static int64_t group_of(const struct job *job, int64_t column)
{
    return job->groups == 1
               ? 0
               : (job->dynamic ? column : job->f->perm[column]) / job->part->group_cols;
}

static int quantize_lanes(struct job *job, const struct panel *p, int64_t r0, struct scratch *s)
{
    ptq_real maxq = (ptq_real)((1 << job->cell->w_bits) - 1);
    int clipped = 0;
    if (job->dynamic && job->opts->stale_scales)
        stale_weights(job, p, s);
    for (int64_t k = 0; k < p->end - p->begin; k++) {
        if (job->dynamic && (p->begin + k) % job->part->group_cols == 0)
            fit_group(job, p, r0, k, s);
        ptq_real x[LANES];
        for (int r = 0; r < LANES; r++)
            x[r] = s->w[k * LANES + r] + s->fed[k * LANES + r];
        feed(x, s->err, s->mt + k * job->width, k, 1);
        int64_t at = group_of(job, p->begin + k) * job->padded_rows + p->row + r0;
        clipped += round_column(x, s->w + k * LANES, job->scale + at, job->zero + at, maxq,
                                s->code + k * LANES, s->err + k * LANES);
    }
    return clipped;
}

static void load_weights(struct job *job, int64_t begin, int64_t end)
{
    const int32_t *perm = job->f->perm;
    for (int64_t i = begin; i < end; i++)
        for (int64_t p = 0; p < job->n; p++)
            job->e[i * job->n + p] =
                job->f->dead[perm[p]] ? 0
                                      : (ptq_real)job->layer->w.at[i * job->layer->w.ld + perm[p]];
}

static void codes_to_original_order(struct job *job, int64_t begin, int64_t end, uint16_t *row)
{
    for (int64_t i = begin; i < end; i++) {
        uint16_t *codes = job->at.codes + i * job->n;
        memcpy(row, codes, (size_t)job->n * sizeof *row);
        for (int64_t p = 0; p < job->n; p++)
            codes[job->f->perm[p]] = row[p];
    }
}

static int quantize_rows(struct job *job, struct scratch *s, int64_t row, int64_t n_rows)
{
    int64_t block = job->opts->block;
    load_weights(job, row, row + n_rows);
    for (int64_t c = 0; c < job->n; c += block) {
        struct panel p = {row, n_rows, c, least(c + block, job->n), 0};
        p.far = panel_far(job, p.begin, p.end);
        if (ptq_cancelled(job->ctx))
            return ptq_fail(job->ctx, PTQ_ERR_CANCELLED, "cancelled");
        int rc = load_panel(job, &p, s);
        if (rc != PTQ_OK)
            return rc;
        for (int64_t r0 = 0; r0 < n_rows; r0 += LANES) {
            load_lanes(job, &p, r0, s);
            s->n_clipped += quantize_lanes(job, &p, r0, s);
            store_lanes(job, &p, r0, s);
        }
    }
    codes_to_original_order(job, row, row + n_rows, s->row);
    return PTQ_OK;
}

/* A piece of the loop: CHUNK rows. */
static void quantize_chunk(void *arg, int slot, int64_t begin, int64_t end)
{
    struct job *job = arg;
    struct scratch *s = &job->scratch[slot];
    if (s->rc == PTQ_OK && !s->p && !scratch_alloc(job, s))
        s->rc = PTQ_ERR_MEMORY;
    if (s->rc == PTQ_OK)
        s->rc = quantize_rows(job, s, begin, end - begin);
}

/* ---- grids in and out ---- */

/* Rows that only fill up LANES get scale 1, so that nothing divides by 0. */
static bool grids_alloc(struct job *job)
{
    job->padded_rows = (job->rows + LANES - 1) / LANES * LANES;
    job->groups = job->part->groups_per_row ? job->part->groups_per_row : 1;
    job->scale =
        ptq_alloc(job->ctx, PTQ_ARENA_CALL, job->groups * job->padded_rows, sizeof *job->scale);
    job->zero =
        ptq_alloc(job->ctx, PTQ_ARENA_CALL, job->groups * job->padded_rows, sizeof *job->zero);
    for (int64_t i = 0; job->scale && i < job->groups * job->padded_rows; i++)
        job->scale[i] = 1;
    return job->scale && job->zero;
}

static void grids_from_part(struct job *job)
{
    const struct ptq_part *p = job->part;
    for (int64_t i = 0; i < job->rows; i++)
        for (int64_t g = 0; g < job->groups; g++) {
            int64_t from = p->groups_per_row ? i * job->groups + g : 0;
            job->scale[g * job->padded_rows + i] = p->scale.at[from];
            job->zero[g * job->padded_rows + i] = ptq_part_zero(p, from);
        }
}

static void grids_to_part(struct job *job)
{
    for (int64_t i = 0; i < job->rows; i++)
        for (int64_t g = 0; g < job->groups; g++) {
            int64_t from = g * job->padded_rows + i;
            ptq_part_set_grid(&job->at, i * job->groups + g,
                              &(struct ptq_grid_fit){job->scale[from], job->zero[from], false});
        }
}

/* Row and tensor grids see the dead columns, as in the published code; group grids do not. */
static int fixed_grids(struct job *job)
{
    const uint8_t *zeroed = job->cell->group_size > 0 ? job->f->dead : NULL;
    int rc = PTQ_REAL(ptq_grid_fit_all)(job->ctx, job->layer, job->cell, zeroed, &job->at);
    if (rc == PTQ_OK)
        grids_from_part(job);
    return rc;
}

static int permuted_groups(struct job *job, struct ptq_part *part)
{
    if (!job->dynamic || !job->opts->act_order || job->groups == 1)
        return PTQ_OK;
    int32_t *perm = ptq_alloc(job->ctx, PTQ_ARENA_RESULT, job->n, sizeof *perm);
    if (!perm)
        return PTQ_ERR_MEMORY;
    memcpy(perm, job->f->perm, (size_t)job->n * sizeof *perm);
    part->perm = perm;
    return PTQ_OK;
}

/* ---- hooks ---- */

/* Only dynamic groups can be stale, and only stale ones depend on where blocks end. */
static void normalise(void *opts)
{
    struct opts *o = opts;
    o->stale_scales = o->stale_scales && !o->static_groups;
    if (!o->stale_scales)
        o->block = BLOCK;
}

static int prepare(struct ptq_ctx *ctx, const struct ptq_layer *layer, const void *opts,
                   const void **shared)
{
    const struct opts *o = opts;
    struct ptq_factor_args args = {
        .percdamp = o->percdamp, .dead = (enum ptq_dead_rule)o->dead, .act_order = o->act_order};
    factor *f;
    int rc = PTQ_REAL(ptq_factor_get)(ctx, layer, &args, &f);
    if (rc != PTQ_OK)
        return rc;
    ptq_note(ctx, "damping", f->lambda);
    ptq_note(ctx, "retries", f->retries);
    ptq_note(ctx, "n_dead", (double)f->n_dead);
    *shared = f;
    return PTQ_OK;
}

/* Adds up what the slots counted. */
static int gather(const struct job *job, struct scratch *total)
{
    memset(total, 0, sizeof *total);
    for (int i = 0; i < ptq_threads(job->ctx); i++) {
        const struct scratch *s = &job->scratch[i];
        total->n_clipped += s->n_clipped;
        total->n_widened += s->n_widened;
        total->rc = total->rc == PTQ_OK ? s->rc : total->rc;
    }
    return total->rc;
}

/* |dW|^2 of dead inputs, whose weights were taken for 0: no part of what is minimised here. */
static double dead_error(const struct job *job)
{
    const struct ptq_cmat *w = &job->layer->w;
    double sum = 0;
    for (int64_t i = 0; i < job->rows; i++)
        for (int64_t p = 0; p < job->n; p++) {
            const int32_t j = job->f->perm[p];
            const double e = (double)w->at[i * w->ld + j] + (double)job->e[i * job->n + p];
            sum += job->f->dead[j] ? e * e : 0;
        }
    return sum;
}

static int finish(struct job *job, struct ptq_part *part)
{
    struct scratch total;
    int rc = gather(job, &total);
    if (rc != PTQ_OK)
        return rc;
    for (int64_t i = 0; i < job->rows * job->n; i++)
        if (!(job->e[i] - job->e[i] == 0))
            return ptq_fail(job->ctx, PTQ_ERR_NUMERIC,
                            "%s: row %lld grew to Inf under error feedback; raise percdamp",
                            job->layer->name, (long long)(i / job->n));
    if (job->dynamic) {
        grids_to_part(job);
        if (job->at.zero && !job->cell->zero_in_range)
            ptq_note(job->ctx, "n_zero_widened", (double)total.n_widened);
    }
    ptq_note(job->ctx, "n_clipped", (double)total.n_clipped);
    if (job->f->n_dead)
        ptq_note(job->ctx, "dead_dw2", dead_error(job));
    return permuted_groups(job, part);
}

static int quantize(struct ptq_ctx *ctx, const struct ptq_layer *layer, const struct ptq_cell *cell,
                    const void *opts, const void *shared, struct ptq_quant *out)
{
    const struct opts *o = opts;
    struct ptq_part *part = &out->part[0];
    struct job job = {.ctx = ctx,
                      .layer = layer,
                      .cell = cell,
                      .opts = o,
                      .f = shared,
                      .part = part,
                      .rows = layer->w.rows,
                      .n = layer->w.cols,
                      .dynamic = cell->group_size > 0 && !o->static_groups};
    int rc = ptq_part_uniform(ctx, layer, cell, part, &job.at);
    if (rc != PTQ_OK)
        return rc;
    struct opts clamped = *o;
    clamped.block = least(o->block, job.n);
    job.opts = &clamped;
    job.width = least(job.n, clamped.block + (job.dynamic ? part->group_cols : 0));
    job.e = ptq_alloc(ctx, PTQ_ARENA_CALL, job.rows * job.n, sizeof *job.e);
    job.scratch = ptq_alloc(ctx, PTQ_ARENA_CALL, ptq_threads(ctx), sizeof *job.scratch);
    if (!job.e || !job.scratch || !grids_alloc(&job))
        return PTQ_ERR_MEMORY;
    if (!job.dynamic && (rc = fixed_grids(&job)) != PTQ_OK)
        return rc;
    ptq_parallel_for_slots(ctx, job.rows, CHUNK, quantize_chunk, &job);
    out->n_parts = 1;
    return finish(&job, part);
}

static void cost(const struct ptq_layer *layer, const struct ptq_cell *cell, const void *opts,
                 struct ptq_cost *out)
{
    const struct opts *o = opts;
    double rows = (double)layer->w.rows, n = (double)layer->w.cols,
           group = (double)ptq_group_cols(cell, layer->w.cols);
    double search = cell->grid == PTQ_GRID_MSE    ? 80 * 30
                    : cell->grid == PTQ_GRID_HESS ? 200 * group
                                                  : 0;
    bool dynamic = cell->group_size > 0 && !o->static_groups;
    out->flops = n * n * n / 3 + rows * n * (n + (dynamic ? group + (double)o->block : 0) + search);
    out->bytes = n * n * 12 + rows * n * 10;
    out->peak_bytes = n * n * 4 + rows * n * 10;
}

static const char *const dead_words[] = {"mean", "reference", NULL};
static const struct ptq_opt options[] = {
    {.name = "act_order",
     .type = PTQ_OPT_BOOL,
     .offset = offsetof(struct opts, act_order),
     .def = 1,
     .prepare = true,
     .alias = "desc_act",
     .help = "columns by diag H descending [1: what GPTQ worth comparing with uses; paper 0]"},
    {.name = "static_groups",
     .type = PTQ_OPT_BOOL,
     .offset = offsetof(struct opts, static_groups),
     .def = 1,
     .help = "group scales from the original weights [1: best at 2 bits, needs no stored "
             "permutation; published code 0]"},
    {.name = "stale_scales",
     .type = PTQ_OPT_BOOL,
     .offset = offsetof(struct opts, stale_scales),
     .def = 0,
     .help = "dynamic groups read weights as of the last block end; inert with static_groups [0; "
             "published code 1]"},
    {.name = "percdamp",
     .type = PTQ_OPT_REAL,
     .offset = offsetof(struct opts, percdamp),
     .def = 0.01,
     .min = 0,
     .max = 1000,
     .prepare = true,
     .help = "damping as a share of the mean diagonal [0.01: published code]"},
    {.name = "dead",
     .type = PTQ_OPT_CHOICE,
     .offset = offsetof(struct opts, dead),
     .def = 0,
     .choices = dead_words,
     .prepare = true,
     .help = "diagonal of dead inputs: mean of the live ones, or the published code's 1 [mean]"},
    {.name = "block",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, block),
     .def = BLOCK,
     .min = 1,
     .max = 4096,
     .alias = "blocksize",
     .help = "columns between lazy updates; inert without stale_scales [128: paper]"},
    {.name = NULL},
};

/* Nothing is fed back, and fresh groups read weights that nobody has moved. */
static bool rtn_under_identity(const void *opts)
{
    (void)opts;
    return true;
}

PTQ_METHOD(gptq) = {
    .name = "gptq",
    .title = "GPTQ: column by column with error feedback through the inverse Hessian",
    .cite = "Frantar et al., ICLR 2023, arXiv 2210.17323",
    .status = "reference",
    .needs = PTQ_NEEDS_HESS,
    .caps = PTQ_CAP_SYM | PTQ_CAP_ASYM | PTQ_CAP_GROUPS | PTQ_CAP_TENSOR | PTQ_CAP_GRID_MSE |
            PTQ_CAP_GRID_HESS | PTQ_CAP_ZERO_FREE | PTQ_CAP_ACT,
    .opts_size = sizeof(struct opts),
    .opts = options,
    .normalise = normalise,
    .prepare = prepare,
    .rtn_under_identity = rtn_under_identity,
    .quantize = quantize,
    .cost = cost,
};
