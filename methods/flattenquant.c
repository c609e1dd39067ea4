/* flattenquant.c: FlattenQuant (arXiv 2402.17985), per-tensor integers on both sides. A
 * reimplementation: there is no public code, and the paper's constants are not known here; every
 * choice is an option or an assumption of methods/README.md.
 *
 * 1. Inputs are divided by s_j = a_j^alpha / w_j^(1 - alpha) (a, w: maxima of a channel).
 * 2. A threshold T on the channels' maxima a_j (after 1): the box plot's whisker or a percentile.
 * 3. A channel with a_j > T becomes n_j = ceil(a_j / T) channels,
 *        v^(k) = sign(v) min(max(|v| - k T, 0), T),  k = 0 .. n_j - 1,
 *    which add up to v for |v| <= n_j T, and its weights are repeated: the product is the same, and
 *    no input is larger than T. A column of large weights may be split the same way.
 * 4. Inputs get the one scale T / (2^(b-1) - 1), the expanded matrix one grid; its codes are GPTQ's
 *    for the Hessian of the expanded inputs.
 * 5. A layer takes the bits of the cell, or 8 and 8 where those cost too much.
 *
 * T is rounded to 8 significant bits: then k T and |v| - k T are exact in fp32, and so is the sum
 * of the pieces. */
#include "ptq.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_A_PIECE = 16, TOKENS_A_PIECE = 8, CHOICE_TOKENS = 256, BINS = 128, FALLBACK_BITS = 8 };
enum { SMOOTH_ALL, SMOOTH_NORM, SMOOTH_NO };
enum { THRESHOLD_BOXPLOT, THRESHOLD_PERCENTILE };
enum { CHOOSE_NONE, CHOOSE_KL, CHOOSE_MSE };
static const double LEAST = 1e-5;

struct opts {
    double alpha, beta, percentile, percdamp, gamma;
    int64_t smooth, threshold, cap, pad, choose;
    bool flatten, split_weights, act_order;
};

/* What does not depend on the cell: in the arena of the layer. */
struct plan {
    int64_t n, kcols;
    const float *s;  /* [n] divisor, or NULL */
    float *most;     /* [n] max |x / s| */
    float *weights;  /* (rows x kcols) W diag(s), expanded */
    float limit;     /* T */
    bool has_pieces; /* some channel is split */
    /* [kcols], or NULL where nothing is split; source -1: padding */
    int32_t *source, *piece, *w_piece;
    PTQ_REAL(ptq_factor_result) factor;
};

/* One hook. */
struct job {
    struct ptq_ctx *ctx;
    const struct ptq_layer *layer;
    const struct opts *opts;
    struct plan *plan;
    /* prepare */
    float *scaled;               /* (rows x n) W diag(s) */
    int32_t *n_acts, *n_weights; /* [n]: pieces of a channel, of a column */
    float w_limit;
    ptq_real *x, *xt; /* (tokens x kcols) expanded inputs, and transposed */
};

/* ---- divisor ---- */

static double at_least(double v)
{
    return v > LEAST ? v : LEAST;
}

static void add_maxima(const struct ptq_cmat *w, float *most)
{
    for (int64_t i = 0; i < w->rows; i++)
        for (int64_t j = 0; j < w->cols; j++) {
            float v = fabsf(w->at[i * w->ld + j]);
            most[j] = v > most[j] ? v : most[j];
        }
}

/* Layers that read the same input get the same divisor, which can then fold. */
static int smooth(struct job *job)
{
    const struct ptq_layer *l = job->layer;
    int64_t n = l->w.cols;
    float *w = ptq_alloc(job->ctx, PTQ_ARENA_CALL, n, sizeof *w),
          *s = ptq_alloc(job->ctx, PTQ_ARENA_LAYER, n, sizeof *s);
    if (!w || !s)
        return PTQ_ERR_MEMORY;
    add_maxima(&l->w, w);
    for (int i = 0; i < l->n_siblings; i++)
        add_maxima(&l->siblings[i]->w, w);
    for (int64_t j = 0; j < n; j++) {
        double v = pow(at_least((double)l->x_absmax[j]), job->opts->alpha) /
                   pow(at_least((double)w[j]), 1 - job->opts->alpha);
        s[j] = ptq_round_fmt(at_least(v), PTQ_FMT_F16);
    }
    job->plan->s = s;
    return PTQ_OK;
}

/* W diag(s) and max |x / s|, as the stored form will divide. */
static int divide(struct job *job)
{
    const struct ptq_layer *l = job->layer;
    struct plan *p = job->plan;
    p->most = ptq_alloc(job->ctx, PTQ_ARENA_LAYER, p->n, sizeof *p->most);
    job->scaled = ptq_alloc(job->ctx, PTQ_ARENA_CALL, l->w.rows * p->n, sizeof *job->scaled);
    if (!p->most || !job->scaled)
        return PTQ_ERR_MEMORY;
    for (int64_t j = 0; j < p->n; j++) {
        if (!isfinite(l->x_absmax[j]))
            return ptq_fail(job->ctx, PTQ_ERR_NUMERIC, "%s: x_absmax[%lld] is %g; capture again",
                            l->name, (long long)j, (double)l->x_absmax[j]);
        p->most[j] = p->s ? l->x_absmax[j] / p->s[j] : l->x_absmax[j];
    }
    for (int64_t i = 0; i < l->w.rows; i++)
        for (int64_t j = 0; j < p->n; j++) {
            float w = l->w.at[i * l->w.ld + j], v = p->s ? w * p->s[j] : w;
            if (!isfinite(v))
                return ptq_fail(job->ctx, PTQ_ERR_NUMERIC,
                                "%s: weight at row %lld, column %lld overflows fp32 times its "
                                "divisor %g; lower alpha",
                                l->name, (long long)i, (long long)j, (double)p->s[j]);
            job->scaled[i * p->n + j] = v;
        }
    return PTQ_OK;
}

/* ---- thresholds ---- */

static int ascending(const void *pa, const void *pb)
{
    const float a = *(const float *)pa, b = *(const float *)pb;
    return (a > b) - (a < b);
}

/* Linear between the neighbouring ones of n >= 1 sorted values. */
static double quantile(const float *sorted, int64_t n, double q)
{
    double at = q * (double)(n - 1);
    int64_t i = (int64_t)at, next = i + 1 < n ? i + 1 : i;
    return (double)sorted[i] + (at - (double)i) * ((double)sorted[next] - (double)sorted[i]);
}

/* The threshold on maxima of channels; dead ones (0) are left out, so that they do not lower it.
 * The largest maximum itself where nothing exceeds it. 0: all are dead. */
static int threshold(const struct job *job, const float *most, bool flatten, float *out)
{
    const struct opts *o = job->opts;
    int64_t n = 0;
    float *live = ptq_alloc(job->ctx, PTQ_ARENA_CALL, job->plan->n, sizeof *live);
    if (!live)
        return PTQ_ERR_MEMORY;
    for (int64_t j = 0; j < job->plan->n; j++)
        if (most[j] > 0)
            live[n++] = most[j];
    *out = 0;
    if (n == 0)
        return PTQ_OK;
    qsort(live, (size_t)n, sizeof *live, ascending);
    double q3 = quantile(live, n, 0.75), iqr = q3 - quantile(live, n, 0.25),
           t = o->threshold == THRESHOLD_BOXPLOT ? o->beta * (q3 + 1.5 * iqr)
                                                 : quantile(live, n, o->percentile / 100);
    float rounded = ptq_round_fmt(t, PTQ_FMT_BF16);
    *out = flatten && rounded < live[n - 1] ? rounded : live[n - 1];
    return PTQ_OK;
}

/* Pieces of every channel: ceil(most / limit), at least 1, at most the cap. */
static int64_t count_pieces(const struct job *job, const float *most, float limit, int32_t *out,
                            int64_t *n_capped)
{
    int64_t n_split = 0;
    for (int64_t j = 0; j < job->plan->n; j++) {
        double pieces = most[j] > limit ? ceil((double)most[j] / (double)limit) : 1;
        *n_capped += pieces > (double)job->opts->cap;
        out[j] = (int32_t)(pieces > (double)job->opts->cap ? (double)job->opts->cap : pieces);
        n_split += out[j] > 1;
    }
    return n_split;
}

static void weight_maxima(const struct job *job, float *most)
{
    add_maxima(&(struct ptq_cmat){job->scaled, job->layer->w.rows, job->plan->n, job->plan->n},
               most);
}

static int find_pieces(struct job *job)
{
    struct plan *p = job->plan;
    int64_t n_capped = 0, n_split = 0;
    float *w = ptq_alloc(job->ctx, PTQ_ARENA_CALL, p->n, sizeof *w);
    job->n_acts = ptq_alloc(job->ctx, PTQ_ARENA_CALL, p->n, sizeof *job->n_acts);
    job->n_weights = ptq_alloc(job->ctx, PTQ_ARENA_CALL, p->n, sizeof *job->n_weights);
    if (!w || !job->n_acts || !job->n_weights)
        return PTQ_ERR_MEMORY;
    weight_maxima(job, w);
    int rc = threshold(job, p->most, job->opts->flatten, &p->limit);
    if (rc == PTQ_OK)
        rc = threshold(job, w, job->opts->split_weights, &job->w_limit);
    if (rc != PTQ_OK)
        return rc;
    if (p->limit == 0)
        return ptq_fail(job->ctx, PTQ_ERR_NUMERIC,
                        "%s: every input was 0 in the calibration; capture statistics over a text "
                        "that reaches this layer",
                        job->layer->name);
    n_split = count_pieces(job, p->most, p->limit, job->n_acts, &n_capped);
    p->has_pieces = n_split > 0;
    ptq_note(job->ctx, "n_split_channels", (double)n_split);
    n_split = count_pieces(job, w, job->w_limit, job->n_weights, &n_capped);
    if (job->opts->split_weights)
        ptq_note(job->ctx, "n_split_weights", (double)n_split);
    ptq_note(job->ctx, "n_capped_channels", (double)n_capped);
    return PTQ_OK;
}

/* ---- columns of the stored matrix ---- */

static int lay_out(struct job *job)
{
    struct plan *p = job->plan;
    int64_t total = 0, pad = job->opts->pad, k = 0;
    for (int64_t j = 0; j < p->n; j++)
        total += (int64_t)job->n_acts[j] * job->n_weights[j];
    p->kcols = p->n;
    if (total == p->n)
        return PTQ_OK;
    p->kcols = (total + pad - 1) / pad * pad;
    p->source = ptq_alloc(job->ctx, PTQ_ARENA_LAYER, p->kcols, sizeof *p->source);
    p->piece = ptq_alloc(job->ctx, PTQ_ARENA_LAYER, p->kcols, sizeof *p->piece);
    p->w_piece = ptq_alloc(job->ctx, PTQ_ARENA_LAYER, p->kcols, sizeof *p->w_piece);
    if (!p->source || !p->piece || !p->w_piece)
        return PTQ_ERR_MEMORY;
    for (int64_t j = 0; j < p->n; j++)
        for (int32_t a = 0; a < job->n_acts[j]; a++)
            for (int32_t w = 0; w < job->n_weights[j]; w++, k++) {
                p->source[k] = (int32_t)j;
                p->piece[k] = job->n_acts[j] > 1 ? a : -1;
                p->w_piece[k] = w;
            }
    for (; k < p->kcols; k++)
        p->source[k] = p->piece[k] = -1;
    return PTQ_OK;
}

/* Piece k of v; last: the rest, however large. */
static float piece_of(float v, int32_t k, float limit, bool last)
{
    float a = fabsf(v) - (float)k * limit;
    return copysignf(a < 0 ? 0 : a > limit && !last ? limit : a, v);
}

static void expand_weights(void *arg, int64_t begin, int64_t end)
{
    const struct job *job = arg;
    const struct plan *p = job->plan;
    for (int64_t i = begin; i < end; i++) {
        const float *w = job->scaled + i * p->n;
        float *out = p->weights + i * p->kcols;
        for (int64_t k = 0; k < p->kcols; k++) {
            int64_t j = p->source ? p->source[k] : k;
            if (j < 0 || job->n_weights[j] == 1)
                out[k] = j < 0 ? 0 : w[j];
            else
                out[k] = piece_of(w[j], p->w_piece[k], job->w_limit,
                                  p->w_piece[k] == job->n_weights[j] - 1);
        }
    }
}

/* Input of column k, as the stored form treats it (ptq.h, struct ptq_split). */
static float expanded_input(const struct plan *p, const float *x, int64_t k)
{
    int64_t j = p->source ? p->source[k] : k;
    if (j < 0)
        return 0;
    float v = p->s ? x[j] / p->s[j] : x[j];
    return p->source && p->piece[k] >= 0 ? piece_of(v, p->piece[k], p->limit, false) : v;
}

static void expand_tokens(void *arg, int64_t begin, int64_t end)
{
    const struct job *job = arg;
    const struct ptq_cmat *acts = &job->layer->acts;
    int64_t kcols = job->plan->kcols;
    for (int64_t t = begin; t < end; t++)
        for (int64_t k = 0; k < kcols; k++) {
            float v = expanded_input(job->plan, acts->at + t * acts->ld, k);
            job->x[t * kcols + k] = (ptq_real)v;
            job->xt[k * acts->rows + t] = (ptq_real)v;
        }
}

/* ---- Hessian of the expanded inputs ---- */

/* A last piece may be 0 on every sampled token although some token of the calibration reached it:
 * it is not dead. Its weights round to nearest. */
static void revive(const struct job *job, double *h)
{
    const struct plan *p = job->plan;
    int64_t n = p->kcols, n_live = 0;
    double sum = 0;
    for (int64_t k = 0; k < n; k++) {
        sum += h[k * n + k];
        n_live += h[k * n + k] > 0;
    }
    for (int64_t k = 0; n_live && k < n; k++) {
        int64_t j = p->source ? p->source[k] : k;
        if (h[k * n + k] == 0 && j >= 0 && p->most[j] > 0)
            h[k * n + k] = sum / (double)n_live;
    }
}

static int expanded_hess(struct job *job, struct ptq_cdmat *out)
{
    int64_t n = job->plan->kcols, tokens = job->layer->acts.rows;
    job->x = ptq_alloc(job->ctx, PTQ_ARENA_CALL, tokens * n, sizeof *job->x);
    job->xt = ptq_alloc(job->ctx, PTQ_ARENA_CALL, tokens * n, sizeof *job->xt);
    ptq_real *g = ptq_alloc(job->ctx, PTQ_ARENA_CALL, n * n, sizeof *g);
    double *h = ptq_alloc(job->ctx, PTQ_ARENA_CALL, n * n, sizeof *h);
    if (!job->x || !job->xt || !g || !h)
        return PTQ_ERR_MEMORY;
    ptq_parallel_for(job->ctx, tokens, TOKENS_A_PIECE, expand_tokens, job);
    int rc = PTQ_REAL(ptq_gemm_add)(job->ctx, 1, n, n, tokens, job->xt, tokens, job->x, n, g, n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) /* the lower triangle's, both times: symmetric */
            h[i * n + j] = 2 * (double)g[i > j ? i * n + j : j * n + i] / (double)tokens;
    revive(job, h);
    *out = (struct ptq_cdmat){h, n, n, n};
    return rc;
}

static int factorise(struct job *job)
{
    struct ptq_cdmat h;
    struct ptq_factor_args args = {.percdamp = job->opts->percdamp,
                                   .act_order = job->opts->act_order,
                                   .arena = PTQ_ARENA_LAYER};
    int rc = expanded_hess(job, &h);
    if (rc == PTQ_OK)
        rc = PTQ_REAL(ptq_factor_make)(job->ctx, &h, job->layer, &args, &job->plan->factor);
    if (rc != PTQ_OK)
        return rc;
    ptq_note(job->ctx, "damping", job->plan->factor->lambda);
    ptq_note(job->ctx, "retries", job->plan->factor->retries);
    return PTQ_OK;
}

static int prepare(struct ptq_ctx *ctx, const struct ptq_layer *layer, const void *opts,
                   const void **shared)
{
    const struct opts *o = opts;
    struct plan *p = ptq_alloc(ctx, PTQ_ARENA_LAYER, 1, sizeof *p);
    struct job job = {.ctx = ctx, .layer = layer, .opts = o, .plan = p};
    int rc = PTQ_OK;
    if (!p)
        return PTQ_ERR_MEMORY;
    p->n = layer->w.cols;
    if (o->smooth == SMOOTH_ALL ||
        (o->smooth == SMOOTH_NORM && layer->producer == PTQ_PRODUCER_NORM))
        rc = smooth(&job);
    if (rc == PTQ_OK)
        rc = divide(&job);
    if (rc == PTQ_OK)
        rc = find_pieces(&job);
    if (rc == PTQ_OK)
        rc = lay_out(&job);
    if (rc != PTQ_OK)
        return rc;
    p->weights = ptq_alloc(ctx, PTQ_ARENA_LAYER, layer->w.rows * p->kcols, sizeof *p->weights);
    if (!p->weights)
        return PTQ_ERR_MEMORY;
    ptq_parallel_for(ctx, layer->w.rows, ROWS_A_PIECE, expand_weights, &job);
    ptq_note(ctx, "expand", (double)p->kcols / (double)p->n);
    *shared = p;
    return factorise(&job);
}

/* ---- codes ---- */

static float act_scale(const struct plan *p, int bits)
{
    return p->limit / (float)((1 << (bits - 1)) - 1);
}

static const ptq_real *as_real(struct ptq_ctx *ctx, const float *at, int64_t rows, int64_t cols,
                               int64_t ld)
{
    ptq_real *out = ptq_alloc(ctx, PTQ_ARENA_CALL, rows * cols, sizeof *out);
    for (int64_t i = 0; out && i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            out[i * cols + j] = (ptq_real)at[i * ld + j];
    return out;
}

static int make_part(const struct job *job, const struct ptq_cell *cell, struct ptq_part *part,
                     int64_t *n_clipped)
{
    const struct plan *p = job->plan;
    int64_t rows = job->layer->w.rows;
    struct ptq_layer expanded = *job->layer;
    struct ptq_part_arrays at;
    expanded.w = (struct ptq_cmat){p->weights, rows, p->kcols, p->kcols};
    int rc = ptq_part_uniform(job->ctx, &expanded, cell, part, &at);
    if (rc == PTQ_OK)
        rc = PTQ_REAL(ptq_grid_fit_all)(job->ctx, &expanded, cell, NULL, &at);
    if (rc != PTQ_OK)
        return rc;
    struct PTQ_REAL(ptq_feedback) f = {
        .rows = rows,
        .w = as_real(job->ctx, p->weights, rows, p->kcols, p->kcols),
        .ldw = p->kcols,
        .factor = p->factor,
        .part = part,
        .codes = at.codes,
        .n_clipped = n_clipped,
    };
    return f.w ? PTQ_REAL(ptq_feedback_run)(job->ctx, &f) : PTQ_ERR_MEMORY;
}

/* ---- the cell's bits, or 8 and 8 ---- */

struct trial {
    const struct job *job;
    int64_t rows, tokens;
    const ptq_real *exact; /* (rows x tokens) W x */
    ptq_real *y;           /* (rows x tokens) of a candidate */
};

/* Row of `acts` that is token number t of a trial: evenly spread. */
static const float *token_at(const struct trial *t, int64_t number)
{
    const struct ptq_cmat *acts = &t->job->layer->acts;
    return acts->at + number * acts->rows / t->tokens * acts->ld;
}

static int exact_outputs(struct trial *t)
{
    const struct ptq_layer *l = t->job->layer;
    struct ptq_ctx *ctx = t->job->ctx;
    int64_t n = l->w.cols;
    ptq_real *xt = ptq_alloc(ctx, PTQ_ARENA_CALL, n * t->tokens, sizeof *xt),
             *y = ptq_alloc(ctx, PTQ_ARENA_CALL, t->rows * t->tokens, sizeof *y);
    const ptq_real *w = as_real(ctx, l->w.at, t->rows, n, l->w.ld);
    t->exact = y;
    if (!xt || !y || !w)
        return PTQ_ERR_MEMORY;
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < t->tokens; i++)
            xt[j * t->tokens + i] = (ptq_real)token_at(t, i)[j];
    return PTQ_REAL(ptq_gemm_add)(ctx, 1, t->rows, t->tokens, n, w, n, xt, t->tokens, y, t->tokens);
}

static int rounded_outputs(struct trial *t, const struct ptq_part *part, int a_bits)
{
    const struct plan *p = t->job->plan;
    struct ptq_ctx *ctx = t->job->ctx;
    int64_t n = p->kcols;
    float scale = act_scale(p, a_bits), top = (float)((1 << (a_bits - 1)) - 1);
    ptq_real *xt = ptq_alloc(ctx, PTQ_ARENA_CALL, n * t->tokens, sizeof *xt),
             *w = ptq_alloc(ctx, PTQ_ARENA_CALL, t->rows * n, sizeof *w);
    t->y = ptq_alloc(ctx, PTQ_ARENA_CALL, t->rows * t->tokens, sizeof *t->y);
    if (!xt || !w || !t->y)
        return PTQ_ERR_MEMORY;
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; i < t->tokens; i++) {
            float c = rintf(expanded_input(p, token_at(t, i), k) / scale);
            xt[k * t->tokens + i] = (ptq_real)((c > top ? top : c < -top ? -top : c) * scale);
        }
    for (int64_t i = 0; i < t->rows * n; i++)
        w[i] = (ptq_real)(part->scale.at[0] * ((float)part->codes[i] - ptq_part_zero(part, 0)));
    return PTQ_REAL(ptq_gemm_add)(ctx, 1, t->rows, t->tokens, n, w, n, xt, t->tokens, t->y,
                                  t->tokens);
}

/* The relative error but for the power of the exact outputs, which both candidates share. */
static double squared_error(const struct trial *t)
{
    double error = 0;
    for (int64_t i = 0; i < t->rows * t->tokens; i++) {
        double e = (double)t->y[i] - (double)t->exact[i];
        error += e * e;
    }
    return error;
}

/* Shares of the values in BINS equal bins of [lo, hi], the outer ones open; one is added to every
 * count, so that no bin is empty. */
static void histogram(const ptq_real *y, int64_t n, double lo, double hi, double share[BINS])
{
    for (int b = 0; b < BINS; b++)
        share[b] = 1.0 / (double)(n + BINS);
    for (int64_t i = 0; i < n; i++) {
        double at = hi > lo ? ((double)y[i] - lo) / (hi - lo) * BINS : 0;
        share[at < 0 ? 0 : at >= BINS ? BINS - 1 : (int)at] += 1.0 / (double)(n + BINS);
    }
}

/* KL divergence of the histogram of the outputs from that of the exact ones. */
static double divergence(const struct trial *t)
{
    double p[BINS], q[BINS], lo = (double)t->exact[0], hi = lo, kl = 0;
    int64_t n = t->rows * t->tokens;
    for (int64_t i = 0; i < n; i++) {
        lo = (double)t->exact[i] < lo ? (double)t->exact[i] : lo;
        hi = (double)t->exact[i] > hi ? (double)t->exact[i] : hi;
    }
    histogram(t->exact, n, lo, hi, p);
    histogram(t->y, n, lo, hi, q);
    for (int b = 0; b < BINS; b++)
        kl += p[b] * log(p[b] / q[b]);
    return kl > 0 ? kl : 0; /* rounding */
}

static int distance(struct trial *t, const struct ptq_part *part, int a_bits, double *out)
{
    int rc = rounded_outputs(t, part, a_bits);
    if (rc == PTQ_OK)
        *out = t->job->opts->choose == CHOOSE_KL ? divergence(t) : squared_error(t);
    return rc;
}

/* Puts the fallback's part and bits in place of the cell's where the ratio says so. */
static int choose(const struct job *job, const struct ptq_cell *cell, struct ptq_part *part,
                  int *a_bits, int64_t *n_clipped)
{
    int64_t tokens = job->layer->acts.rows, other_clipped = 0;
    struct trial t = {.job = job,
                      .rows = job->layer->w.rows,
                      .tokens = tokens < CHOICE_TOKENS ? tokens : CHOICE_TOKENS};
    struct ptq_cell wide = *cell;
    struct ptq_part other = {0};
    double low, high;
    wide.w_bits = FALLBACK_BITS;
    int rc = exact_outputs(&t);
    if (rc == PTQ_OK)
        rc = distance(&t, part, *a_bits, &low);
    if (rc == PTQ_OK)
        rc = make_part(job, &wide, &other, &other_clipped);
    if (rc == PTQ_OK)
        rc = distance(&t, &other, FALLBACK_BITS, &high);
    if (rc != PTQ_OK || low <= job->opts->gamma * high)
        return rc;
    *part = other;
    *n_clipped = other_clipped;
    *a_bits = FALLBACK_BITS;
    return PTQ_OK;
}

/* ---- hooks ---- */

static void *keep(struct ptq_ctx *ctx, const void *from, int64_t n, size_t size)
{
    void *out = ptq_alloc(ctx, PTQ_ARENA_RESULT, n, size);
    if (out)
        memcpy(out, from, (size_t)n * size);
    return out;
}

static int store_inputs(struct ptq_ctx *ctx, const struct plan *p, int a_bits,
                        struct ptq_quant *out)
{
    if (p->s) {
        out->act.divisor = (struct ptq_arr){
            .fmt = PTQ_FMT_F16, .n = p->n, .at = keep(ctx, p->s, p->n, sizeof *p->s)};
        if (!out->act.divisor.at)
            return PTQ_ERR_MEMORY;
    }
    out->act.bits = a_bits;
    out->act.scale = act_scale(p, a_bits);
    if (!p->source)
        return PTQ_OK;
    out->split = (struct ptq_split){
        .n_cols = p->kcols,
        .source = keep(ctx, p->source, p->kcols, sizeof *p->source),
        .piece = keep(ctx, p->piece, p->kcols, sizeof *p->piece),
        .limit = p->has_pieces ? p->limit : 0,
    };
    return out->split.source && out->split.piece ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int quantize(struct ptq_ctx *ctx, const struct ptq_layer *layer, const struct ptq_cell *cell,
                    const void *opts, const void *shared, struct ptq_quant *out)
{
    const struct opts *o = opts;
    struct plan plan = *(const struct plan *)shared;
    struct job job = {.ctx = ctx, .layer = layer, .opts = o, .plan = &plan};
    int a_bits = cell->a_bits;
    int64_t n_clipped = 0;
    int rc = make_part(&job, cell, &out->part[0], &n_clipped);
    if (rc == PTQ_OK && o->choose != CHOOSE_NONE &&
        (cell->w_bits != FALLBACK_BITS || a_bits != FALLBACK_BITS))
        rc = choose(&job, cell, &out->part[0], &a_bits, &n_clipped);
    if (rc != PTQ_OK)
        return rc;
    out->n_parts = 1;
    bool low = out->part[0].bits == cell->w_bits && a_bits == cell->a_bits;
    ptq_note(ctx, "n_clipped", (double)n_clipped);
    ptq_note(ctx, "n_kept_bits", low);
    return store_inputs(ctx, &plan, a_bits, out);
}

static int check(struct ptq_ctx *ctx, const struct ptq_layer *layer, const struct ptq_cell *cell,
                 const void *opts)
{
    (void)opts;
    if (cell->a_bits == 0)
        return ptq_skip(ctx,
                        "%s: inputs are split where they become integers; set a_bits to 2 .. 8",
                        layer->name);
    if (cell->group_size != PTQ_GROUP_TENSOR)
        return ptq_skip(ctx, "%s: one grid for the tensor alone; set group_size = 0", layer->name);
    return PTQ_OK;
}

/* Options that others switch off. */
static void normalise(void *opts)
{
    struct opts *o = opts;
    bool splits = o->flatten || o->split_weights;
    if (o->smooth == SMOOTH_NO)
        o->alpha = 0.5;
    if (!splits || o->threshold != THRESHOLD_BOXPLOT)
        o->beta = 1;
    if (!splits || o->threshold != THRESHOLD_PERCENTILE)
        o->percentile = 99;
    if (!splits) {
        o->threshold = THRESHOLD_BOXPLOT;
        o->cap = 8;
        o->pad = 32;
    }
    if (o->choose == CHOOSE_NONE)
        o->gamma = 1.86;
}

/* As if nothing were split; how much is, only the data say. */
static void cost(const struct ptq_layer *layer, const struct ptq_cell *cell, const void *opts,
                 struct ptq_cost *out)
{
    (void)opts;
    double rows = (double)layer->w.rows, n = (double)layer->w.cols,
           tokens = (double)layer->acts.rows, search = cell->grid == PTQ_GRID_MSE ? 80 * 30 : 0;
    out->flops = n * n * (n / 3 + 2 * tokens) + rows * n * (n + search);
    out->bytes = n * n * 20 + tokens * n * 8 + rows * n * 10;
    out->peak_bytes = n * n * 20 + tokens * n * 8 + rows * n * 14;
}

static const char *const smooth_words[] = {"all", "norm", "no", NULL};
static const char *const threshold_words[] = {"boxplot", "percentile", NULL};
static const char *const choose_words[] = {"none", "kl", "mse", NULL};
static const struct ptq_opt options[] = {
    {.name = "smooth",
     .type = PTQ_OPT_CHOICE,
     .offset = offsetof(struct opts, smooth),
     .def = SMOOTH_ALL,
     .choices = smooth_words,
     .prepare = true,
     .help = "inputs that are divided before: all (the divisor is stored where it does not fold), "
             "those that a norm makes, none [all: not known of the paper]"},
    {.name = "alpha",
     .type = PTQ_OPT_REAL,
     .offset = offsetof(struct opts, alpha),
     .def = 0.5,
     .min = 0,
     .max = 1,
     .prepare = true,
     .help = "exponent of the divisor [0.5: SmoothQuant's]"},
    {.name = "flatten",
     .type = PTQ_OPT_BOOL,
     .offset = offsetof(struct opts, flatten),
     .def = 1,
     .prepare = true,
     .help = "splits input channels beyond the threshold [1: the method; 0: smoothing alone]"},
    {.name = "threshold",
     .type = PTQ_OPT_CHOICE,
     .offset = offsetof(struct opts, threshold),
     .def = THRESHOLD_BOXPLOT,
     .choices = threshold_words,
     .prepare = true,
     .help =
         "rule of the threshold on the channels' maxima [boxplot: fits summaries of the paper]"},
    {.name = "beta",
     .type = PTQ_OPT_REAL,
     .offset = offsetof(struct opts, beta),
     .def = 1,
     .min = 0.01,
     .max = 1000,
     .prepare = true,
     .help = "boxplot: threshold = beta (Q3 + 1.5 IQR) [1: the whisker; the paper's may be 1.3]"},
    {.name = "percentile",
     .type = PTQ_OPT_REAL,
     .offset = offsetof(struct opts, percentile),
     .def = 99,
     .min = 0,
     .max = 100,
     .prepare = true,
     .alias = "p",
     .help = "percentile of the channels' maxima that is the threshold [99: a guess]"},
    {.name = "cap",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, cap),
     .def = 8,
     .min = 1,
     .max = 1024,
     .prepare = true,
     .help = "most pieces of a channel; what lies beyond is clipped [8: a guess]"},
    {.name = "split_weights",
     .type = PTQ_OPT_BOOL,
     .offset = offsetof(struct opts, split_weights),
     .def = 0,
     .prepare = true,
     .help = "splits columns of large weights by the same rule [0: a guess]"},
    {.name = "pad",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, pad),
     .def = 32,
     .min = 1,
     .max = 1024,
     .prepare = true,
     .help = "columns of an expanded matrix are a multiple of this [32: tile of an integer GEMM]"},
    {.name = "percdamp",
     .type = PTQ_OPT_REAL,
     .offset = offsetof(struct opts, percdamp),
     .def = 0.01,
     .min = 0,
     .max = 1000,
     .prepare = true,
     .help = "damping as a share of the mean diagonal [0.01: GPTQ's code]"},
    {.name = "act_order",
     .type = PTQ_OPT_BOOL,
     .offset = offsetof(struct opts, act_order),
     .def = 1,
     .prepare = true,
     .alias = "desc_act",
     .help = "columns by diag H descending [1: as this harness's gptq]"},
    {.name = "choose",
     .type = PTQ_OPT_CHOICE,
     .offset = offsetof(struct opts, choose),
     .def = CHOOSE_NONE,
     .choices = choose_words,
     .help = "distance of the outputs by which a layer takes the cell's bits or 8 and 8 "
             "[none: always the cell's]"},
    {.name = "gamma",
     .type = PTQ_OPT_REAL,
     .offset = offsetof(struct opts, gamma),
     .def = 1.86,
     .min = 0,
     .max = 1e12,
     .help = "the cell's bits are taken up to so many times the distance of 8 and 8 [1.86: of the "
             "paper, unverified, and for a distance that is not known]"},
    {.name = NULL},
};

PTQ_METHOD(flattenquant) = {
    .name = "flattenquant",
    .title = "FlattenQuant: outlier channels split, one grid a tensor on both sides, GPTQ",
    .cite = "Zhang et al., 2024, arXiv 2402.17985",
    .status = "reimplementation: methods/README.md",
    .needs = PTQ_NEEDS_ACTS | PTQ_NEEDS_RANGES,
    .caps = PTQ_CAP_SYM | PTQ_CAP_TENSOR | PTQ_CAP_GRID_MSE | PTQ_CAP_ACT,
    .opts_size = sizeof(struct opts),
    .opts = options,
    .normalise = normalise,
    .check = check,
    .prepare = prepare,
    .quantize = quantize,
    .cost = cost,
};
