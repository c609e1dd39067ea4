/* awq.c: AWQ, activation-aware weight quantization (arXiv 2306.00978), as in the published code.
 *
 * Scales: s = max(xbar^r, 1e-4) / sqrt(max s min s), xbar_j = mean |X_j|, for r = 0, 1/20 .. 19/20;
 * the W diag(s) of all layers that read the input are rounded, and the r whose module output has
 * the least error wins (o, down and layers that read an input alone: least error of their own
 * output, tr(dW H dW^T)). x is divided by s where that folds into what makes it; elsewhere there
 * are no scales unless fold = store.
 *
 * Clipping, after the scales and not for q and k: every group of a row is clamped to its largest
 * weight times 1 - i/20, i = 0 .. 9, whichever makes the least error of the group's partial dot
 * products with at most 512 tokens.
 *
 * objective = layer is another method (awq-layer): the sum of tr(dW H dW^T) over the layers that
 * read the input.
 *
 * Departures: s and the scales of the grid are rounded to the cell's format before weights see
 * them; the grid is the cell's (AWQ's own: asymmetric, zero_in_range = 0). */
#include "ptq.h"
#include <math.h>
#include <string.h>

enum { CHUNK = 64, ERROR_ROWS = 256, STEPS = 20, CLIP_STEPS = 10, CLIP_TOKENS = 512 };
enum { OBJECTIVE_MODULE, OBJECTIVE_LAYER };
enum { FOLD_REQUIRE, FOLD_STORE };

struct opts {
    int64_t objective, fold;
    bool scale, clip;
};

struct job {
    struct ptq_ctx *ctx;
    const struct ptq_layer *layer;
    const struct ptq_cell *cell;
    const struct opts *opts;
    const struct ptq_layer *const *readers; /* of the input, this layer among them */
    int n_readers;
    int64_t n, group, groups; /* columns; of a group; groups of a row */
    float *s;                 /* [n] divisor */
    float **candidate;        /* [n_readers] (rows x n) rounded weights */
    const ptq_real *h;        /* (n x n) or NULL: the module says the error */
    ptq_real *d, *dh;         /* (ERROR_ROWS x n) W - What, times H */
    ptq_real *limit;          /* (rows x groups) or NULL: no weight is clamped */
    const ptq_real *x;        /* (n x n_tokens) x / s of sampled tokens */
    int64_t n_tokens;
    struct scratch *scratch;   /* [ptq_threads] */
    struct ptq_part_arrays at; /* the form */
};

/* Of a thread. */
struct scratch {
    ptq_real *w;      /* [group] W diag(s) */
    ptq_real *error;  /* (CHUNK x group) */
    ptq_real *output; /* (CHUNK x n_tokens) partial dot products of it */
    int64_t n_widened, n_clamped;
    int rc;
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static bool scratch_alloc(struct job *job)
{
    int threads = ptq_threads(job->ctx);
    job->scratch = ptq_alloc(job->ctx, PTQ_ARENA_CALL, threads, sizeof *job->scratch);
    for (int i = 0; job->scratch && i < threads; i++) {
        struct scratch *s = &job->scratch[i];
        s->w = ptq_alloc(job->ctx, PTQ_ARENA_CALL, job->group, sizeof *s->w);
        if (!s->w)
            return false;
    }
    return job->scratch;
}

/* ---- one group of a row ---- */

/* W diag(s), clamped to the limit where there is one. */
static int64_t load_group(const struct job *job, const float *row, int64_t j, int64_t n,
                          ptq_real limit, ptq_real *out)
{
    int64_t n_clamped = 0;
    for (int64_t k = 0; k < n; k++) {
        ptq_real v = (ptq_real)row[j + k] * (ptq_real)job->s[j + k];
        n_clamped += v > limit || v < -limit;
        out[k] = v > limit ? limit : v < -limit ? -limit : v;
    }
    return n_clamped;
}

static int code_of(const struct ptq_cell *cell, const struct ptq_grid_fit *g, ptq_real v)
{
    ptq_real x = v / (ptq_real)g->scale;
    return ptq_grid_code(ptq_round(x), g->zero, (1 << cell->w_bits) - 1);
}

/* ---- error of a divisor ---- */

struct rounding {
    const struct job *job;
    const struct ptq_cmat *w;
    float *out;
};

/* Rounded weights, divided back, as the harness makes them of the stored form. */
static void round_rows(void *arg, int slot, int64_t begin, int64_t end)
{
    const struct rounding *r = arg;
    const struct job *job = r->job;
    ptq_real *x = job->scratch[slot].w;
    for (int64_t i = begin; i < end; i++)
        for (int64_t j = 0; j < job->n; j += job->group) {
            struct ptq_grid_fit g;
            int64_t n = least(job->group, job->n - j);
            load_group(job, r->w->at + i * r->w->ld, j, n, (ptq_real)INFINITY, x);
            PTQ_REAL(ptq_grid_fit)(job->cell, x, n, 1, &g);
            for (int64_t k = 0; k < n; k++)
                r->out[i * job->n + j + k] =
                    ptq_grid_value(&g, code_of(job->cell, &g, x[k])) / job->s[j + k];
        }
}

/* tr(dW H dW^T) */
static int layer_error(struct job *job, const struct ptq_cmat *w, const float *what, double *total)
{
    int64_t n = job->n;
    ptq_real *d = job->d, *dh = job->dh;
    for (int64_t row = 0; row < w->rows; row += ERROR_ROWS) {
        int64_t rows = least(ERROR_ROWS, w->rows - row);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < n; j++)
                d[i * n + j] =
                    (ptq_real)w->at[(row + i) * w->ld + j] - (ptq_real)what[(row + i) * n + j];
        memset(dh, 0, (size_t)(rows * n) * sizeof *dh);
        int rc = PTQ_REAL(ptq_gemm_add)(job->ctx, 1, rows, n, n, d, n, job->h, n, dh, n);
        if (rc != PTQ_OK)
            return rc;
        for (int64_t i = 0; i < rows * n; i++)
            *total += (double)d[i] * (double)dh[i];
    }
    return PTQ_OK;
}

static int without_module(struct ptq_ctx *ctx, const struct ptq_layer *layer)
{
    return ptq_skip(
        ctx,
        "%s: awq scores the output of its attention or MLP, which a layer by itself "
        "lacks; `ptq sweep` a model, or take awq-layer, which scores the outputs of layers",
        layer->name);
}

/* Error of the divisor job->s. */
static int error_of(struct job *job, double *error)
{
    *error = 0;
    for (int i = 0; i < job->n_readers; i++) {
        const struct ptq_cmat *w = &job->readers[i]->w;
        struct rounding r = {job, w, job->candidate[i]};
        ptq_parallel_for_slots(job->ctx, w->rows, CHUNK, round_rows, &r);
        int rc = job->h ? layer_error(job, w, job->candidate[i], error) : PTQ_OK;
        if (rc != PTQ_OK)
            return rc;
    }
    if (job->h)
        return PTQ_OK;
    int rc = ptq_module_loss(job->ctx, job->layer, (const float *const *)job->candidate, error);
    return rc == PTQ_SKIP ? without_module(job->ctx, job->layer) : rc;
}

/* ---- search of the scales ---- */

/* Whether x may be divided. */
static bool scales(const struct ptq_layer *l, const struct opts *o)
{
    return o->scale && (o->fold == FOLD_STORE || l->producer != PTQ_PRODUCER_NONE);
}

/* Whose output is scored: the module's of layers that read its input, else the layer's own. */
static bool wants_module(const struct ptq_layer *l, const struct opts *o)
{
    switch (l->role) {
    case PTQ_ROLE_Q:
    case PTQ_ROLE_K:
    case PTQ_ROLE_V:
    case PTQ_ROLE_GATE:
    case PTQ_ROLE_UP: return o->objective == OBJECTIVE_MODULE;
    default: return o->objective == OBJECTIVE_MODULE && l->n_siblings > 1;
    }
}

static int divisor_of(const struct job *job, int step, float *s)
{
    double lo = INFINITY, hi = 0;
    for (int64_t j = 0; j < job->n; j++) {
        double v = pow((double)job->layer->x_absmean[j], (double)step / STEPS);
        v = v > 1e-4 ? v : 1e-4;
        lo = v < lo ? v : lo;
        hi = v > hi ? v : hi;
    }
    if (!isfinite(hi))
        return ptq_fail(job->ctx, PTQ_ERR_NUMERIC, "%s: x_absmean is not finite; capture again",
                        job->layer->name);
    for (int64_t j = 0; j < job->n; j++) {
        double v = pow((double)job->layer->x_absmean[j], (double)step / STEPS);
        s[j] = ptq_round_fmt((v > 1e-4 ? v : 1e-4) / sqrt(hi * lo), job->cell->scale_fmt);
    }
    return PTQ_OK;
}

static int search_alloc(struct job *job)
{
    const struct ptq_cdmat *h = &job->layer->hess;
    bool own = !wants_module(job->layer, job->opts);
    int64_t n = job->n, size = own ? ERROR_ROWS * n : 0;
    ptq_real *copy = ptq_alloc(job->ctx, PTQ_ARENA_CALL, own ? n * n : 0, sizeof *copy);
    job->d = ptq_alloc(job->ctx, PTQ_ARENA_CALL, size, sizeof *job->d);
    job->dh = ptq_alloc(job->ctx, PTQ_ARENA_CALL, size, sizeof *job->dh);
    job->candidate = ptq_alloc(job->ctx, PTQ_ARENA_CALL, job->n_readers, sizeof *job->candidate);
    if (!copy || !job->d || !job->dh || !job->candidate)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; own && i < n; i++)
        for (int64_t j = 0; j < n; j++)
            copy[i * n + j] = (ptq_real)h->at[i * h->ld + j];
    job->h = own ? copy : NULL;
    for (int i = 0; i < job->n_readers; i++) {
        int64_t rows = job->readers[i]->w.rows;
        job->candidate[i] =
            ptq_alloc(job->ctx, PTQ_ARENA_CALL, rows * n, sizeof *job->candidate[i]);
        if (!job->candidate[i])
            return PTQ_ERR_MEMORY;
    }
    return PTQ_OK;
}

/* The exponent of least error, in steps; the lowest on a tie. */
static int search_exponent(struct job *job, int *best)
{
    double lowest = INFINITY, error;
    int rc = search_alloc(job);
    *best = -1;
    for (int step = 0; step < STEPS && rc == PTQ_OK; step++) {
        if (ptq_cancelled(job->ctx))
            return ptq_fail(job->ctx, PTQ_ERR_CANCELLED, "cancelled");
        rc = divisor_of(job, step, job->s);
        if (rc == PTQ_OK)
            rc = error_of(job, &error);
        if (rc == PTQ_OK && error < lowest) {
            lowest = error;
            *best = step;
        }
    }
    if (rc == PTQ_OK && *best < 0)
        return ptq_fail(job->ctx, PTQ_ERR_NUMERIC, "%s: the error of every scale is NaN or Inf",
                        job->layer->name);
    return rc;
}

/* Leaves the best divisor in job->s; *divides: it is not all 1. */
static int choose_divisor(struct job *job, bool *divides)
{
    int best = 0, rc = PTQ_OK;
    if (scales(job->layer, job->opts))
        rc = search_exponent(job, &best);
    if (rc == PTQ_OK && best > 0)
        rc = divisor_of(job, best, job->s);
    for (int64_t j = 0; best == 0 && j < job->n; j++)
        job->s[j] = 1; /* without reading ranges, which cells without scales do not have */
    ptq_note(job->ctx, "exponent", (double)best / STEPS);
    *divides = best > 0;
    return rc;
}

/* ---- clipping ---- */

/* Partial dot products of the errors of rows [begin, end), columns [j, j + n). */
static int outputs(const struct job *job, int64_t rows, int64_t j, int64_t n, struct scratch *s)
{
    memset(s->output, 0, (size_t)(rows * job->n_tokens) * sizeof *s->output);
    return PTQ_REAL(ptq_gemm_add)(job->ctx, 1, rows, job->n_tokens, n, s->error, n,
                                  job->x + j * job->n_tokens, job->n_tokens, s->output,
                                  job->n_tokens);
}

static double sum_squares(const ptq_real *y, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)y[i] * (double)y[i];
    return sum;
}

/* Error of a group of a row that is clamped to `limit`. */
static void error_of_group(const struct job *job, const float *row, int64_t j, int64_t n,
                           ptq_real limit, ptq_real *w, ptq_real *error)
{
    struct ptq_grid_fit g;
    load_group(job, row, j, n, limit, w);
    PTQ_REAL(ptq_grid_fit)(job->cell, w, n, 1, &g);
    for (int64_t k = 0; k < n; k++)
        error[k] = (ptq_real)row[j + k] * (ptq_real)job->s[j + k] -
                   (ptq_real)ptq_grid_value(&g, code_of(job->cell, &g, w[k]));
}

static ptq_real largest_of(const struct job *job, const float *row, int64_t j, int64_t n)
{
    ptq_real most = 0;
    for (int64_t k = j; k < j + n; k++) {
        ptq_real v = (ptq_real)row[k] * (ptq_real)job->s[k];
        most = v > most ? v : -v > most ? -v : most;
    }
    return most;
}

/* Limits of one group of the rows [begin, end). */
static int clip_group(const struct job *job, int64_t begin, int64_t end, int64_t j,
                      struct scratch *s)
{
    const struct ptq_cmat *w = &job->layer->w;
    int64_t n = least(job->group, job->n - j), at = j / job->group;
    double lowest[CHUNK];
    for (int step = 0; step < CLIP_STEPS; step++) {
        ptq_real limit[CHUNK];
        for (int64_t i = begin; i < end; i++) {
            const float *row = w->at + i * w->ld;
            limit[i - begin] =
                largest_of(job, row, j, n) * (ptq_real)(1 - (double)step / (2 * CLIP_STEPS));
            error_of_group(job, row, j, n, limit[i - begin], s->w, s->error + (i - begin) * n);
        }
        int rc = outputs(job, end - begin, j, n, s);
        if (rc != PTQ_OK)
            return rc;
        for (int64_t i = 0; i < end - begin; i++) {
            double error = sum_squares(s->output + i * job->n_tokens, job->n_tokens);
            if (step > 0 && !(error < lowest[i]))
                continue;
            lowest[i] = error;
            job->limit[(begin + i) * job->groups + at] = limit[i];
        }
    }
    return PTQ_OK;
}

static void clip_rows(void *arg, int slot, int64_t begin, int64_t end)
{
    const struct job *job = arg;
    struct scratch *s = &job->scratch[slot];
    for (int64_t j = 0; j < job->n && s->rc == PTQ_OK; j += job->group)
        s->rc = ptq_cancelled(job->ctx) ? ptq_fail(job->ctx, PTQ_ERR_CANCELLED, "cancelled")
                                        : clip_group(job, begin, end, j, s);
}

/* x / s of evenly spread tokens, transposed. */
static int sample_tokens(struct job *job)
{
    const struct ptq_cmat *acts = &job->layer->acts;
    job->n_tokens = least(acts->rows, CLIP_TOKENS);
    ptq_real *x = ptq_alloc(job->ctx, PTQ_ARENA_CALL, job->n * job->n_tokens, sizeof *x);
    job->x = x;
    for (int64_t t = 0; x && t < job->n_tokens; t++) {
        const float *row = acts->at + t * acts->rows / job->n_tokens * acts->ld;
        for (int64_t j = 0; j < job->n; j++)
            x[j * job->n_tokens + t] = (ptq_real)row[j] / (ptq_real)job->s[j];
    }
    return x ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int clip(struct job *job)
{
    int64_t rows = job->layer->w.rows;
    int rc = sample_tokens(job);
    job->limit = ptq_alloc(job->ctx, PTQ_ARENA_CALL, rows * job->groups, sizeof *job->limit);
    if (rc != PTQ_OK || !job->limit)
        return PTQ_ERR_MEMORY;
    for (int i = 0; i < ptq_threads(job->ctx); i++) {
        struct scratch *s = &job->scratch[i];
        s->error = ptq_alloc(job->ctx, PTQ_ARENA_CALL, CHUNK * job->group, sizeof *s->error);
        s->output = ptq_alloc(job->ctx, PTQ_ARENA_CALL, CHUNK * job->n_tokens, sizeof *s->output);
        if (!s->error || !s->output)
            return PTQ_ERR_MEMORY;
    }
    ptq_parallel_for_slots(job->ctx, rows, CHUNK, clip_rows, job);
    for (int i = 0; i < ptq_threads(job->ctx) && rc == PTQ_OK; i++)
        rc = job->scratch[i].rc;
    return rc;
}

/* ---- the form ---- */

static void store_rows(void *arg, int slot, int64_t begin, int64_t end)
{
    const struct job *job = arg;
    const struct ptq_cmat *w = &job->layer->w;
    struct scratch *s = &job->scratch[slot];
    for (int64_t i = begin; i < end; i++)
        for (int64_t g = 0; g < job->groups; g++) {
            struct ptq_grid_fit fit;
            int64_t j = g * job->group, n = least(job->group, job->n - j);
            ptq_real limit = job->limit ? job->limit[i * job->groups + g] : (ptq_real)INFINITY;
            s->n_clamped += load_group(job, w->at + i * w->ld, j, n, limit, s->w);
            PTQ_REAL(ptq_grid_fit)(job->cell, s->w, n, 1, &fit);
            s->n_widened += fit.widened;
            ptq_part_set_grid(&job->at, i * job->groups + g, &fit);
            for (int64_t k = 0; k < n; k++)
                job->at.codes[i * job->n + j + k] = (uint16_t)code_of(job->cell, &fit, s->w[k]);
        }
}

static void note_counts(const struct job *job)
{
    int64_t n_widened = 0, n_clamped = 0;
    for (int i = 0; i < ptq_threads(job->ctx); i++) {
        n_widened += job->scratch[i].n_widened;
        n_clamped += job->scratch[i].n_clamped;
    }
    ptq_note(job->ctx, "n_clamped", (double)n_clamped);
    if (!scales(job->layer, job->opts) && n_clamped == 0)
        ptq_note(job->ctx, "took_nothing", 1);
    if (job->at.zero && !job->cell->zero_in_range)
        ptq_note(job->ctx, "n_zero_widened", (double)n_widened);
}

/* ---- hooks ---- */

static int quantize(struct ptq_ctx *ctx, const struct ptq_layer *layer, const struct ptq_cell *cell,
                    const void *opts, const void *shared, struct ptq_quant *out)
{
    struct job job = {.ctx = ctx,
                      .layer = layer,
                      .cell = cell,
                      .opts = opts,
                      .readers = layer->n_siblings ? layer->siblings : &layer,
                      .n_readers = layer->n_siblings ? layer->n_siblings : 1,
                      .n = layer->w.cols,
                      .group = ptq_group_cols(cell, layer->w.cols),
                      .groups = ptq_groups_per_row(cell, layer->w.cols)};
    bool divides;
    (void)shared;
    job.s = ptq_alloc(ctx, PTQ_ARENA_RESULT, job.n, sizeof *job.s);
    int rc = ptq_part_uniform(ctx, layer, cell, &out->part[0], &job.at);
    if (rc != PTQ_OK || !job.s || !scratch_alloc(&job))
        return PTQ_ERR_MEMORY;
    rc = choose_divisor(&job, &divides);
    if (rc == PTQ_OK && job.opts->clip && layer->role != PTQ_ROLE_Q && layer->role != PTQ_ROLE_K)
        rc = clip(&job);
    if (rc != PTQ_OK)
        return rc;
    ptq_parallel_for_slots(ctx, layer->w.rows, CHUNK, store_rows, &job);
    note_counts(&job);
    out->n_parts = 1;
    if (divides)
        out->act.divisor = (struct ptq_arr){.fmt = cell->scale_fmt, .n = job.n, .at = job.s};
    return PTQ_OK;
}

/* Ranges and losses are the scales' (the Hessian serves layers scored by their own output), samples
 * the clipping's. */
static unsigned needs_of(const void *opts)
{
    const struct opts *o = opts;
    unsigned scales = PTQ_NEEDS_HESS | PTQ_NEEDS_RANGES |
                      (o->objective == OBJECTIVE_MODULE ? PTQ_NEEDS_MODULE : 0);
    return (o->scale ? scales : 0) | (o->clip ? PTQ_NEEDS_ACTS : 0);
}

static int check(struct ptq_ctx *ctx, const struct ptq_layer *layer, const struct ptq_cell *cell,
                 const void *opts)
{
    (void)cell;
    bool lacks = !layer->module || layer->n_siblings == 0;
    if (scales(layer, opts) && wants_module(layer, opts) && lacks)
        return without_module(ctx, layer);
    return PTQ_OK;
}

/* Without scales nothing is scored or folded. */
static void normalise(void *opts)
{
    struct opts *o = opts;
    if (!o->scale) {
        o->objective = OBJECTIVE_MODULE;
        o->fold = FOLD_REQUIRE;
    }
}

static void cost(const struct ptq_layer *layer, const struct ptq_cell *cell, const void *opts,
                 struct ptq_cost *out)
{
    const struct opts *o = opts;
    double size = (double)layer->w.rows * (double)layer->w.cols, n = (double)layer->w.cols,
           tokens = (double)least(layer->acts.rows, CLIP_TOKENS),
           fit = cell->grid == PTQ_GRID_MSE ? 80 * 30 : 6;
    out->flops = (o->scale ? STEPS * size * (2 * n + fit) : 0) +
                 (o->clip ? CLIP_STEPS * size * (2 * tokens + fit) : 0);
    out->bytes = (STEPS * 8.0 + CLIP_STEPS * 4.0) * size + n * n * 8;
    out->peak_bytes = size * 14 + n * n * 12 + n * tokens * 8;
}

static const char *const objective_words[] = {"module", "layer", NULL};
static const char *const fold_words[] = {"require", "store", NULL};
static const struct ptq_opt options[] = {
    {.name = "objective",
     .type = PTQ_OPT_CHOICE,
     .offset = offsetof(struct opts, objective),
     .def = OBJECTIVE_MODULE,
     .choices = objective_words,
     .help = "error that the scales minimise: of the attention's or MLP's output, or of the "
             "layers' own [module: paper; layer is another method, named awq-layer]"},
    {.name = "fold",
     .type = PTQ_OPT_CHOICE,
     .offset = offsetof(struct opts, fold),
     .def = FOLD_REQUIRE,
     .choices = fold_words,
     .help = "inputs whose divisor does not fold into what makes them are not scaled, or the "
             "divisor is stored and counted [require: paper]"},
    {.name = "scale",
     .type = PTQ_OPT_BOOL,
     .offset = offsetof(struct opts, scale),
     .def = 1,
     .help = "searches scales of the channels [1: paper]"},
    {.name = "clip",
     .type = PTQ_OPT_BOOL,
     .offset = offsetof(struct opts, clip),
     .def = 1,
     .help = "searches where groups are clamped, not for q and k [1: published code]"},
    {.name = NULL},
};

PTQ_METHOD(awq) = {
    .name = "awq",
    .title = "AWQ: scales of the channels and clipping by the error of the output",
    .cite = "Lin et al., MLSys 2024, arXiv 2306.00978",
    .status = "reference",
    .needs = PTQ_NEEDS_HESS | PTQ_NEEDS_ACTS | PTQ_NEEDS_RANGES | PTQ_NEEDS_MODULE,
    .needs_of = needs_of,
    .caps = PTQ_CAP_SYM | PTQ_CAP_ASYM | PTQ_CAP_GROUPS | PTQ_CAP_GRID_MSE | PTQ_CAP_ZERO_FREE |
            PTQ_CAP_ACT,
    .opts_size = sizeof(struct opts),
    .opts = options,
    .normalise = normalise,
    .check = check,
    .quantize = quantize,
    .cost = cost,
};
