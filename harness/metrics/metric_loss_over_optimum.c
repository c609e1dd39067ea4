/* How far a method's codes are from the best ones on its own grid: only for layers of at most 16
 * inputs, where a search finds them. */
#include "core/linalg.h"
#include "metrics/metric.h"
#include "metrics/nearest.h"

extern const struct ptq_metric ptq_metric_loss_over_optimum;

static const int64_t most_nodes = 10000000; /* of a row: about a second */

struct exact {
    const struct ptq_layer_eval *e;
    double chol[PTQ_NEAREST_MOST * PTQ_NEAREST_MOST]; /* R, upper */
    double *row_loss;                                 /* the method's */
    double sum;                                       /* of the least losses */
};

static const char *why_not(const struct ptq_layer_eval *e)
{
    const struct ptq_quant *q = e->quant;
    const struct ptq_part *p = &q->part[0];
    if (e->truth->layer->w.cols > PTQ_NEAREST_MOST)
        return "more than 16 inputs";
    if (!e->truth->moment[PTQ_MOMENT_CALIB].at)
        return "no calibration Hessian";
    if (q->n_parts != 1 || p->kind != PTQ_PART_UNIFORM || p->tree_levels ||
        p->rot.fmt != PTQ_FMT_NONE || q->split.n_cols || q->act.divisor.fmt != PTQ_FMT_NONE)
        return "not one uniform grid";
    return NULL;
}

static int factor(struct exact *x, struct ptq_value *v)
{
    const struct ptq_cdmat *h = &x->e->truth->moment[PTQ_MOMENT_CALIB];
    const int64_t n = h->cols;
    double l[PTQ_NEAREST_MOST * PTQ_NEAREST_MOST];
    int64_t bad;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            l[i * n + j] = h->at[i * h->ld + j];
    int rc = ptq_cholesky_f64(NULL, l, n, n, &bad, x->e->st);
    if (rc)
        return rc < 0 ? rc : ptq_value_none(v, "the Hessian is not positive definite");
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i; j < n; j++)
            x->chol[i * n + j] = l[j * n + i];
    return PTQ_OK;
}

static int64_t position(const struct ptq_part *p, int64_t col, int64_t cols)
{
    for (int64_t k = 0; p->perm && k < cols; k++)
        if (p->perm[k] == col)
            return k;
    return col;
}

/* NULL: added. Else why there is no optimum. */
static const char *add_row(struct exact *x, int64_t i)
{
    const struct ptq_part *p = &x->e->quant->part[0];
    const struct ptq_cmat *m = &x->e->truth->layer->w;
    double w[PTQ_NEAREST_MOST], scale[PTQ_NEAREST_MOST], zero[PTQ_NEAREST_MOST], least;
    for (int64_t j = 0; j < m->cols; j++) {
        int64_t at = position(p, j, m->cols) / p->group_cols;
        int64_t g = p->groups_per_row ? i * p->groups_per_row + at : 0;
        w[j] = (double)m->at[i * m->ld + j];
        scale[j] = (double)p->scale.at[g];
        zero[j] = (double)(p->zero.fmt == PTQ_FMT_NONE ? p->zero_const : p->zero.at[g]);
        if (!(scale[j] > 0))
            return "a scale is not above 0";
    }
    struct ptq_nearest a = {(int)m->cols, x->chol,        w,         scale, zero,
                            1 << p->bits, x->row_loss[i], most_nodes};
    if (!ptq_nearest_loss(&a, &least))
        return "the search for the best codes took too long";
    x->sum += least;
    return NULL;
}

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    const char *why = why_not(e);
    const struct ptq_cmat *dw = &e->dw;
    if (why)
        return ptq_value_none(v, why);
    struct exact x = {.e = e};
    int rc = factor(&x, v);
    if (rc)
        return rc;
    const struct ptq_cdmat *h = &e->truth->moment[PTQ_MOMENT_CALIB];
    double loss;
    x.row_loss = ptq_arena_alloc(&e->arena, e->st, dw->rows, sizeof *x.row_loss);
    rc = x.row_loss ? ptq_quadform(e->pool, dw->at, dw->rows, dw->cols, dw->ld, h->at, h->ld,
                                   x.row_loss, &loss, e->st)
                    : PTQ_ERR_MEMORY;
    for (int64_t i = 0; rc == PTQ_OK && i < dw->rows; i++)
        if ((why = add_row(&x, i)))
            return ptq_value_none(v, why);
    if (rc)
        return rc;
    return x.sum > 0 ? ptq_value_set(v, loss / x.sum)
                     : ptq_value_none(v, "the best codes have no loss");
}

const struct ptq_metric ptq_metric_loss_over_optimum = {
    .id = "loss_over_optimum",
    .title = "proxy loss over the least that any codes have on the same grid (exact, by branch and "
             "bound; layers of at most 16 inputs)",
    .unit = "",
    .better = PTQ_LOWER,
    .layer = layer,
};
