#include "core/eig.h"
#include "core/linalg.h"
#include "core/size.h"
#include "metrics/metric.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

extern const struct ptq_metric ptq_metric_excess_bits;

/* ---- truth */

static int quad(struct ptq_pool *pool, const struct ptq_cmat *a, const struct ptq_cdmat *h,
                double *out, struct ptq_status *st)
{
    return ptq_quadform(pool, a->at, a->rows, a->cols, a->ld, h->at, h->ld, NULL, out, st);
}

/* x W^T of tokens x (n x d_in): (n x d_out) */
static int outputs(struct ptq_pool *pool, const struct ptq_cmat *x, const struct ptq_cmat *w,
                   float *y, struct ptq_status *st)
{
    struct ptq_gemm_f32 g = {x->rows, w->rows, w->cols, false, true, 1,      0,
                             x->at,   x->ld,   w->at,   w->ld, y,    w->rows};
    return ptq_gemm_f32(pool, &g, st);
}

/* n^3 work once a layer: only where a metric asks for it. */
static int spectrum(struct ptq_layer_truth *t, struct ptq_arena *arena, struct ptq_status *st)
{
    const struct ptq_cdmat *h = &t->layer->hess;
    const int64_t n = h->cols;
    int64_t size;
    if (!h->at || (t->wanted && !t->wanted(t->wanted_arg, ptq_metric_excess_bits.id)))
        return PTQ_OK;
    double *values = ptq_arena_alloc(arena, st, n, sizeof *values);
    double *a = values && ptq_size_mul(n, n, &size) ? malloc((size_t)size * sizeof *a) : NULL;
    if (!a)
        return ptq_status_nomem(st, "eigenvalues of a Hessian", (size_t)(n * n) * sizeof *a);
    for (int64_t i = 0; i < n; i++)
        memcpy(a + i * n, h->at + i * h->ld, (size_t)n * sizeof *a);
    int rc = ptq_eigenvalues(a, n, values, st);
    free(a);
    t->eigenvalues = values;
    return rc;
}

static void set_moments(struct ptq_layer_truth *t, const struct ptq_layer *l, enum ptq_moment all,
                        enum ptq_moment nosink)
{
    t->moment[all] = l->hess;
    t->moment[nosink] = l->hess_rest;
}

int ptq_layer_truth_init(struct ptq_layer_truth *t, const struct ptq_layer *l,
                         const struct ptq_layer *heldout, struct ptq_pool *pool,
                         struct ptq_arena *arena, struct ptq_status *st)
{
    *t = (struct ptq_layer_truth){.layer = l, .wanted = t->wanted, .wanted_arg = t->wanted_arg};
    int rc = spectrum(t, arena, st);
    set_moments(t, l, PTQ_MOMENT_CALIB, PTQ_MOMENT_CALIB_NOSINK);
    if (heldout)
        set_moments(t, heldout, PTQ_MOMENT_HELDOUT, PTQ_MOMENT_HELDOUT_NOSINK);
    for (int k = 0; k < PTQ_N_MOMENTS && !rc; k++)
        if (t->moment[k].at)
            rc = quad(pool, &l->w, &t->moment[k], &t->denominator[k], st);
    if (rc || !heldout || !heldout->acts.at)
        return rc;
    t->heldout_acts = heldout->acts;
    float *y = ptq_arena_alloc(arena, st, heldout->acts.rows * l->w.rows, sizeof *y);
    if (!y)
        return PTQ_ERR_MEMORY;
    t->heldout_y = y;
    return outputs(pool, &heldout->acts, &l->w, y, st);
}

/* ---- one cell */

/* The distinct signals that the columns of a split multiply, in order of channels; a channel that
 * no column reads has one as well. */
struct signals {
    int64_t n;
    int64_t *of_column; /* [n_cols] its signal, -1: none */
    int64_t *channel;   /* [n] */
};

/* Two passes over the channels' columns, which `first` and `next` chain up. */
static int find_signals(struct ptq_layer_eval *e, struct signals *g)
{
    const struct ptq_split *s = &e->quant->split;
    const int64_t cols = e->quant->cols;
    int64_t *first = ptq_arena_alloc(&e->arena, e->st, cols, sizeof *first);
    int64_t *next = ptq_arena_alloc(&e->arena, e->st, s->n_cols, sizeof *next);
    g->of_column = ptq_arena_alloc(&e->arena, e->st, s->n_cols, sizeof *g->of_column);
    g->channel = ptq_arena_alloc(&e->arena, e->st, cols + s->n_cols, sizeof *g->channel);
    if (!first || !next || !g->of_column || !g->channel)
        return PTQ_ERR_MEMORY;
    for (int64_t j = 0; j < cols; j++)
        first[j] = -1;
    for (int64_t k = s->n_cols - 1; k >= 0; k--) {
        g->of_column[k] = -1;
        if (s->source[k] < 0)
            continue;
        next[k] = first[s->source[k]];
        first[s->source[k]] = k;
        e->has_pieces = e->has_pieces || s->piece[k] >= 0;
    }
    for (int64_t j = 0; j < cols; j++) {
        if (first[j] < 0)
            g->channel[g->n++] = j;
        for (int64_t k = first[j]; k >= 0; k = next[k]) {
            int64_t same = first[j];
            while (s->piece[same] != s->piece[k])
                same = next[same];
            if (same == k)
                g->channel[g->n++] = j;
            g->of_column[k] = same == k ? g->n - 1 : g->of_column[same];
        }
    }
    return PTQ_OK;
}

static void expand_row(const struct ptq_layer_eval *e, const struct signals *g, int64_t i, float *w,
                       float *what)
{
    const struct ptq_cmat *plain = &e->truth->layer->w;
    const struct ptq_quant *q = e->quant;
    for (int64_t k = 0; k < q->split.n_cols; k++)
        if (g->of_column[k] >= 0)
            what[g->of_column[k]] += e->stored[i * q->split.n_cols + k];
    for (int64_t c = 0; c < g->n; c++) {
        w[c] = plain->at[i * plain->ld + g->channel[c]];
        if (q->act.divisor.fmt != PTQ_FMT_NONE)
            what[c] /= q->act.divisor.at[g->channel[c]];
    }
}

static int expand(struct ptq_layer_eval *e)
{
    struct signals g = {.n = 0};
    int64_t n, rows = e->quant->rows;
    int rc = find_signals(e, &g);
    if (rc)
        return rc;
    if (!ptq_size_mul(rows, g.n, &n))
        return ptq_status_set(e->st, PTQ_ERR_MEMORY, "the expanded matrix overflows a size");
    float *w = ptq_arena_alloc(&e->arena, e->st, n, sizeof *w);
    float *what = ptq_arena_alloc(&e->arena, e->st, n, sizeof *what);
    if (!w || !what)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < rows; i++)
        expand_row(e, &g, i, w + i * g.n, what + i * g.n);
    e->w = (struct ptq_cmat){w, rows, g.n, g.n};
    e->what = (struct ptq_cmat){what, rows, g.n, g.n};
    return PTQ_OK;
}

int ptq_layer_eval_compare(struct ptq_layer_eval *e)
{
    e->w = e->truth->layer->w;
    e->what = (struct ptq_cmat){e->stored, e->w.rows, e->w.cols, e->w.cols};
    int rc = e->quant->split.n_cols ? expand(e) : PTQ_OK;
    if (rc)
        return rc;
    float *dw = ptq_arena_alloc(&e->arena, e->st, e->w.rows * e->w.cols, sizeof *dw);
    for (int64_t i = 0; dw && i < e->w.rows; i++)
        for (int64_t j = 0; j < e->w.cols; j++)
            dw[i * e->w.cols + j] = e->what.at[i * e->what.ld + j] - e->w.at[i * e->w.ld + j];
    e->dw = (struct ptq_cmat){dw, e->w.rows, e->w.cols, e->w.cols};
    return dw ? PTQ_OK : PTQ_ERR_MEMORY;
}

int ptq_layer_eval_quad(struct ptq_layer_eval *e, enum ptq_moment k, double *out)
{
    if (!e->truth->moment[k].at || e->has_pieces)
        return PTQ_SKIP;
    if (!e->has_quad[k]) {
        int rc = quad(e->pool, &e->dw, &e->truth->moment[k], &e->quad[k], e->st);
        if (rc)
            return rc;
        e->has_quad[k] = true;
    }
    *out = e->quad[k];
    return PTQ_OK;
}

/* ---- sampled inputs */

struct sampled { /* inputs (n x d_in), W x of them */
    const struct ptq_cmat *x;
    const float *y;
};

static int calibration_inputs(struct ptq_layer_eval *e, struct sampled *s)
{
    const struct ptq_layer *l = e->truth->layer;
    int64_t n;
    s->x = &l->acts;
    if (!l->acts.at)
        return PTQ_SKIP;
    if (!ptq_size_mul(l->acts.rows, l->w.rows, &n))
        return ptq_status_set(e->st, PTQ_ERR_MEMORY, "outputs of the inputs overflow a size");
    float *y = ptq_arena_alloc(&e->arena, e->st, n, sizeof *y);
    s->y = y;
    return y ? outputs(e->pool, &l->acts, &l->w, y, e->st) : PTQ_ERR_MEMORY;
}

static int heldout_inputs(const struct ptq_layer_eval *e, struct sampled *s)
{
    *s = (struct sampled){&e->truth->heldout_acts, e->truth->heldout_y};
    return s->x->at ? PTQ_OK : PTQ_SKIP;
}

/* What the form makes of inputs, less W x; exact: inputs in pieces, but not rounded. */
static int applied_error(struct ptq_layer_eval *e, const struct sampled *s, bool exact, float *dy)
{
    struct ptq_quant q = *e->quant;
    struct ptq_quant_run run;
    const int64_t n = s->x->rows * q.rows;
    assert(s->x->ld == s->x->cols);
    if (exact)
        q.act.bits = 0, q.act.scale = 0;
    int rc = ptq_quant_run_init(&run, &q, e->stored, &e->arena, e->st);
    if (!rc)
        rc = ptq_quant_run_apply(&run, e->pool, s->x->at, s->x->rows, dy, e->st);
    for (int64_t i = 0; !rc && i < n; i++)
        dy[i] -= s->y[i];
    return rc;
}

static int applied_relerr(struct ptq_layer_eval *e, const struct sampled *s, bool exact,
                          struct ptq_value *v)
{
    const int64_t n = s->x->rows * e->quant->rows;
    double top = 0, bottom = 0;
    float *dy = ptq_arena_alloc(&e->arena, e->st, n, sizeof *dy);
    int rc = dy ? applied_error(e, s, exact, dy) : PTQ_ERR_MEMORY;
    if (rc)
        return rc;
    for (int64_t i = 0; i < n; i++) {
        top += (double)dy[i] * (double)dy[i];
        bottom += (double)s->y[i] * (double)s->y[i];
    }
    return bottom > 0 ? ptq_value_set(v, top / bottom)
                      : ptq_value_none(v, "the layer's output is zero on the sampled inputs");
}

int ptq_layer_eval_applied(struct ptq_layer_eval *e, struct ptq_value *v)
{
    struct sampled s;
    if (!ptq_quant_treats_inputs(e->quant))
        return ptq_value_none(v, "inputs stay as they are: out_relerr says it");
    int rc = heldout_inputs(e, &s);
    if (rc == PTQ_SKIP)
        rc = calibration_inputs(e, &s);
    if (rc)
        return rc == PTQ_SKIP ? ptq_value_none(v, "no sampled inputs") : rc;
    return applied_relerr(e, &s, false, v);
}

static int pieces_relerr(struct ptq_layer_eval *e, enum ptq_moment k, struct ptq_value *v)
{
    struct sampled s;
    if (k == PTQ_MOMENT_CALIB_NOSINK || k == PTQ_MOMENT_HELDOUT_NOSINK)
        return ptq_value_none(v, "inputs in pieces are scored on sampled tokens of all classes");
    int rc = k == PTQ_MOMENT_CALIB ? calibration_inputs(e, &s) : heldout_inputs(e, &s);
    if (rc)
        return rc == PTQ_SKIP ? ptq_value_none(v, "no sampled inputs") : rc;
    return applied_relerr(e, &s, true, v);
}

/* ---- errors of outputs */

int ptq_layer_eval_relerr(struct ptq_layer_eval *e, enum ptq_moment k, struct ptq_value *v)
{
    static const char *const absent[PTQ_N_MOMENTS] = {
        "no calibration Hessian", "no sink class in the calibration statistics",
        "no held-out Hessian", "no sink class in the held-out statistics"};
    double top;
    if (e->has_pieces)
        return pieces_relerr(e, k, v);
    int rc = ptq_layer_eval_quad(e, k, &top);
    if (rc)
        return rc == PTQ_SKIP ? ptq_value_none(v, absent[k]) : rc;
    if (!(e->truth->denominator[k] > 0))
        return ptq_value_none(v, "the layer's output is zero under this Hessian");
    return ptq_value_set(v, top / e->truth->denominator[k]);
}

int ptq_layer_eval_dy(struct ptq_layer_eval *e, const float **dy)
{
    struct sampled s;
    if (heldout_inputs(e, &s))
        return PTQ_SKIP;
    if (!e->heldout_dy) {
        float *y = ptq_arena_alloc(&e->arena, e->st, s.x->rows * e->dw.rows, sizeof *y);
        if (!y)
            return PTQ_ERR_MEMORY;
        int rc =
            e->has_pieces ? applied_error(e, &s, true, y) : outputs(e->pool, s.x, &e->dw, y, e->st);
        if (rc)
            return rc;
        e->heldout_dy = y;
    }
    *dy = e->heldout_dy;
    return PTQ_OK;
}

int ptq_layer_eval_token_mean(struct ptq_layer_eval *e,
                              bool (*of_token)(const float *y, const float *dy, int64_t d_out,
                                               double *out),
                              const char *none, struct ptq_value *v)
{
    const struct ptq_layer_truth *t = e->truth;
    const int64_t d = t->layer->w.rows;
    const float *dy;
    double sum = 0;
    int64_t n = 0;
    int rc = ptq_layer_eval_dy(e, &dy);
    if (rc)
        return rc == PTQ_SKIP ? ptq_value_none(v, "no held-out activations") : rc;
    for (int64_t i = 0; i < t->heldout_acts.rows; i++) {
        double one;
        if (of_token(t->heldout_y + i * d, dy + i * d, d, &one)) {
            sum += one;
            n++;
        }
    }
    return n ? ptq_value_set(v, sum / (double)n) : ptq_value_none(v, none);
}

void ptq_layer_eval_weights(const struct ptq_layer_eval *e, struct ptq_weight_sums *s)
{
    const struct ptq_cmat *w = &e->w;
    *s = (struct ptq_weight_sums){0, 0, 0};
    for (int64_t i = 0; i < w->rows; i++)
        for (int64_t j = 0; j < w->cols; j++) {
            /* In fp64 the difference of two floats keeps what fp32 would round away. */
            double x = w->at[i * w->ld + j], d = (double)e->what.at[i * e->what.ld + j] - x;
            s->dw2 += d * d;
            s->w2 += x * x;
            s->max_dw = fabs(d) > s->max_dw ? fabs(d) : s->max_dw;
        }
}
