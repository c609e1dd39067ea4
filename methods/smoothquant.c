/* smoothquant.c: SmoothQuant (arXiv 2211.10438). Outliers of the inputs move into the weights by a
 * divisor a channel,
 *
 *     s_j = max|X_j|^alpha / max_i|W_ij|^(1 - alpha),   W x = (W diag(s)) (x / s),
 *
 * after which both sides are rounded to nearest. As in the published code the weights' maximum is
 * that of all layers that read the input, both maxima and s are at least 1e-5, and only inputs that
 * a norm makes are divided (smooth = all: every input, stored where it does not fold).
 *
 * Departures: s is rounded to the cell's format of scales before the weights see it, so that the
 * algebra holds for what is stored; W diag(s) is rounded to fp32. */
#include "ptq.h"
#include <math.h>

enum { ROWS_A_PIECE = 16 };
enum { ACT_TOKEN, ACT_TENSOR };
enum { SMOOTH_NORM, SMOOTH_ALL, SMOOTH_NO };
static const double LEAST = 1e-5;

struct opts {
    double alpha;
    int64_t act, smooth;
};

static double at_least(double v)
{
    return v > LEAST ? v : LEAST;
}

/* ---- divisor ---- */

/* most[j] = max |W_ij|, over what it was. */
static void add_maxima(const struct ptq_cmat *w, float *most)
{
    for (int64_t i = 0; i < w->rows; i++)
        for (int64_t j = 0; j < w->cols; j++) {
            float v = fabsf(w->at[i * w->ld + j]);
            most[j] = v > most[j] ? v : most[j];
        }
}

static int smooth(struct ptq_ctx *ctx, const struct ptq_layer *l, const struct ptq_cell *cell,
                  double alpha, struct ptq_arr *out)
{
    int64_t n = l->w.cols;
    float *most = ptq_alloc(ctx, PTQ_ARENA_CALL, n, sizeof *most),
          *s = ptq_alloc(ctx, PTQ_ARENA_RESULT, n, sizeof *s);
    if (!most || !s)
        return PTQ_ERR_MEMORY;
    add_maxima(&l->w, most);
    for (int i = 0; i < l->n_siblings; i++)
        add_maxima(&l->siblings[i]->w, most);
    for (int64_t j = 0; j < n; j++) {
        double x = (double)l->x_absmax[j];
        if (!isfinite(x))
            return ptq_fail(ctx, PTQ_ERR_NUMERIC, "%s: x_absmax[%lld] is %g; capture again",
                            l->name, (long long)j, x);
        double v = pow(at_least(x), alpha) / pow(at_least((double)most[j]), 1 - alpha);
        s[j] = ptq_round_fmt(at_least(v), cell->scale_fmt);
    }
    *out = (struct ptq_arr){.fmt = cell->scale_fmt, .n = n, .at = s};
    return PTQ_OK;
}

/* ---- the layer that reads x / s ---- */

static int scale_weights(struct ptq_ctx *ctx, const char *name, const float *s, struct ptq_cmat *w)
{
    float *at = ptq_alloc(ctx, PTQ_ARENA_CALL, w->rows * w->cols, sizeof *at);
    if (!at)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < w->rows; i++)
        for (int64_t j = 0; j < w->cols; j++) {
            float v = w->at[i * w->ld + j] * s[j];
            if (!isfinite(v))
                return ptq_fail(ctx, PTQ_ERR_NUMERIC,
                                "%s: weight at row %lld, column %lld overflows fp32 times its "
                                "divisor %g; lower alpha",
                                name, (long long)i, (long long)j, (double)s[j]);
            at[i * w->cols + j] = v;
        }
    *w = (struct ptq_cmat){at, w->rows, w->cols, w->cols};
    return PTQ_OK;
}

/* H of x / s; only the grid search reads it. */
static int scale_hess(struct ptq_ctx *ctx, const float *s, struct ptq_cdmat *h)
{
    int64_t n = h->rows;
    double *at = ptq_alloc(ctx, PTQ_ARENA_CALL, n * n, sizeof *at);
    if (!at)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            at[i * n + j] = h->at[i * h->ld + j] / ((double)s[i] * (double)s[j]);
    *h = (struct ptq_cdmat){at, n, n, n};
    return PTQ_OK;
}

/* ---- rounding ---- */

struct job {
    const struct ptq_layer *layer;
    const struct ptq_part *part;
    uint16_t *codes;
};

static void round_rows(void *arg, int64_t begin, int64_t end)
{
    const struct job *job = arg;
    const struct ptq_part *p = job->part;
    int64_t cols = job->layer->w.cols;
    for (int64_t i = begin; i < end; i++)
        for (int64_t j = 0; j < cols; j++) {
            int64_t g = p->groups_per_row ? i * p->groups_per_row + j / p->group_cols : 0;
            ptq_real x =
                (ptq_real)job->layer->w.at[i * job->layer->w.ld + j] / (ptq_real)p->scale.at[g];
            job->codes[i * cols + j] =
                (uint16_t)ptq_grid_code(ptq_round(x), ptq_part_zero(p, g), (1 << p->bits) - 1);
        }
}

static int quantize_weights(struct ptq_ctx *ctx, const struct ptq_layer *l,
                            const struct ptq_cell *cell, struct ptq_quant *out)
{
    struct ptq_part_arrays at;
    int rc = ptq_part_uniform(ctx, l, cell, &out->part[0], &at);
    if (rc == PTQ_OK)
        rc = PTQ_REAL(ptq_grid_fit_all)(ctx, l, cell, NULL, &at);
    if (rc != PTQ_OK)
        return rc;
    struct job job = {l, &out->part[0], at.codes};
    ptq_parallel_for(ctx, l->w.rows, ROWS_A_PIECE, round_rows, &job);
    out->n_parts = 1;
    return PTQ_OK;
}

/* The largest input that calibration saw gets the largest code. */
static float static_scale(const struct ptq_layer *l, const struct ptq_arr *divisor, int bits)
{
    float most = (float)LEAST;
    for (int64_t j = 0; j < l->w.cols; j++) {
        float v = divisor->at ? l->x_absmax[j] / divisor->at[j] : l->x_absmax[j];
        most = v > most ? v : most;
    }
    return most / (float)((1 << (bits - 1)) - 1);
}

/* ---- hooks ---- */

static int quantize(struct ptq_ctx *ctx, const struct ptq_layer *layer, const struct ptq_cell *cell,
                    const void *opts, const void *shared, struct ptq_quant *out)
{
    const struct opts *o = opts;
    struct ptq_layer scaled = *layer;
    int rc = PTQ_OK;
    (void)shared;
    if (o->smooth == SMOOTH_ALL ||
        (o->smooth == SMOOTH_NORM && layer->producer == PTQ_PRODUCER_NORM)) {
        rc = smooth(ctx, layer, cell, o->alpha, &out->act.divisor);
        if (rc == PTQ_OK)
            rc = scale_weights(ctx, layer->name, out->act.divisor.at, &scaled.w);
        if (rc == PTQ_OK && cell->grid == PTQ_GRID_HESS)
            rc = scale_hess(ctx, out->act.divisor.at, &scaled.hess);
    }
    if (rc == PTQ_OK)
        rc = quantize_weights(ctx, &scaled, cell, out);
    if (rc == PTQ_OK && cell->a_bits && o->act == ACT_TENSOR) {
        out->act.bits = cell->a_bits;
        out->act.scale = static_scale(layer, &out->act.divisor, cell->a_bits);
    }
    return rc;
}

/* Without a divisor there is no alpha. */
static void normalise(void *opts)
{
    struct opts *o = opts;
    if (o->smooth == SMOOTH_NO)
        o->alpha = 0.5;
}

static void cost(const struct ptq_layer *layer, const struct ptq_cell *cell, const void *opts,
                 struct ptq_cost *out)
{
    (void)opts;
    double n = (double)layer->w.rows * (double)layer->w.cols;
    double group = (double)ptq_group_cols(cell, layer->w.cols);
    double search = cell->grid == PTQ_GRID_MSE    ? 80 * 30
                    : cell->grid == PTQ_GRID_HESS ? 200 * group
                                                  : 0;
    *out = (struct ptq_cost){.flops = n * (9 + search), .bytes = n * 14, .peak_bytes = n * 10};
}

static const char *const act_words[] = {"token", "tensor", NULL};
static const char *const smooth_words[] = {"norm", "all", "no", NULL};
static const struct ptq_opt options[] = {
    {.name = "alpha",
     .type = PTQ_OPT_REAL,
     .offset = offsetof(struct opts, alpha),
     .def = 0.5,
     .min = 0,
     .max = 1,
     .help = "share of the outliers that moves into the weights [0.5: paper, OPT and BLOOM; the "
             "published code takes 0.85 for Llama]"},
    {.name = "act",
     .type = PTQ_OPT_CHOICE,
     .offset = offsetof(struct opts, act),
     .def = ACT_TOKEN,
     .choices = act_words,
     .help = "scale of the inputs: of each token, or one from the calibration's maxima; inert with "
             "inputs as they are [token: published evaluation]"},
    {.name = "smooth",
     .type = PTQ_OPT_CHOICE,
     .offset = offsetof(struct opts, smooth),
     .def = SMOOTH_NORM,
     .choices = smooth_words,
     .help = "inputs that are divided: those that a norm makes, all (the divisor is stored where "
             "it does not fold), none [norm: published code]"},
    {.name = NULL},
};

PTQ_METHOD(smoothquant) = {
    .name = "smoothquant",
    .title = "SmoothQuant: outliers of the inputs move into the weights, then round to nearest",
    .cite = "Xiao et al., ICML 2023, arXiv 2211.10438",
    .status = "reference",
    .needs = PTQ_NEEDS_RANGES,
    .caps = PTQ_CAP_SYM | PTQ_CAP_ASYM | PTQ_CAP_GROUPS | PTQ_CAP_TENSOR | PTQ_CAP_GRID_MSE |
            PTQ_CAP_GRID_HESS | PTQ_CAP_ZERO_FREE | PTQ_CAP_ACT,
    .opts_size = sizeof(struct opts),
    .opts = options,
    .normalise = normalise,
    .quantize = quantize,
    .cost = cost,
};
