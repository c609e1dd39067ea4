#include "core/linalg.h"
#include "metrics/metric.h"
#include <math.h>
#include <string.h>

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
    *t = (struct ptq_layer_truth){.layer = l};
    int rc = PTQ_OK;
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

static struct ptq_cmat difference(const struct ptq_layer_eval *e)
{
    const struct ptq_cmat *w = &e->truth->layer->w;
    return (struct ptq_cmat){e->dw, w->rows, w->cols, w->cols};
}

int ptq_layer_eval_quad(struct ptq_layer_eval *e, enum ptq_moment k, double *out)
{
    if (!e->truth->moment[k].at)
        return PTQ_SKIP;
    if (!e->has_quad[k]) {
        struct ptq_cmat dw = difference(e);
        int rc = quad(e->pool, &dw, &e->truth->moment[k], &e->quad[k], e->st);
        if (rc)
            return rc;
        e->has_quad[k] = true;
    }
    *out = e->quad[k];
    return PTQ_OK;
}

int ptq_layer_eval_relerr(struct ptq_layer_eval *e, enum ptq_moment k, struct ptq_value *v)
{
    static const char *const absent[PTQ_N_MOMENTS] = {
        "no calibration Hessian", "no sink class in the calibration statistics",
        "no held-out Hessian", "no sink class in the held-out statistics"};
    double top;
    int rc = ptq_layer_eval_quad(e, k, &top);
    if (rc)
        return rc == PTQ_SKIP ? ptq_value_none(v, absent[k]) : rc;
    if (!(e->truth->denominator[k] > 0))
        return ptq_value_none(v, "the layer's output is zero under this Hessian");
    return ptq_value_set(v, top / e->truth->denominator[k]);
}

int ptq_layer_eval_dy(struct ptq_layer_eval *e, const float **dy)
{
    const struct ptq_cmat *x = &e->truth->heldout_acts, dw = difference(e);
    if (!x->at)
        return PTQ_SKIP;
    if (!e->heldout_dy) {
        float *y = ptq_arena_alloc(&e->arena, e->st, x->rows * dw.rows, sizeof *y);
        if (!y)
            return PTQ_ERR_MEMORY;
        int rc = outputs(e->pool, x, &dw, y, e->st);
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
    const struct ptq_cmat *w = &e->truth->layer->w;
    *s = (struct ptq_weight_sums){0, 0, 0};
    for (int64_t i = 0; i < w->rows; i++)
        for (int64_t j = 0; j < w->cols; j++) {
            /* In fp64 the difference of two floats keeps what fp32 would round away. */
            double x = w->at[i * w->ld + j], d = (double)e->what[i * w->cols + j] - x;
            s->dw2 += d * d;
            s->w2 += x * x;
            s->max_dw = fabs(d) > s->max_dw ? fabs(d) : s->max_dw;
        }
}
