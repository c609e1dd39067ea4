#include "core/linalg.h"
#include "core/size.h"
#include "metrics/metric.h"
#include <assert.h>

extern const struct ptq_metric ptq_metric_attn_loss;

/* A head's rows of dW, in fp64: Hrow dW Hcol dW^T needs both products, and its size is that of a
 * head, so nothing here is as large as the layer. */
struct head {
    const struct ptq_attn *attn;
    int64_t d, n;              /* head_dim, d_in */
    const double *hcol;        /* (n x n) */
    double *dw, *left, *right; /* (d x n): dW, Hrow dW, dW Hcol */
};

static int product(struct ptq_layer_eval *e, int64_t m, int64_t n, int64_t k, const double *a,
                   const double *b, double *c)
{
    struct ptq_gemm_f64 g = {m, n, k, false, false, 1, 0, a, k, b, n, c, n};
    return ptq_gemm_f64(e->pool, &g, e->st);
}

/* tr(Hrow dW Hcol dW^T) = sum over (Hrow dW) o (dW Hcol) */
static int head_loss(struct ptq_layer_eval *e, struct head *h, int64_t index, double *sum)
{
    const float *from = e->dw.at + index * h->d * e->dw.ld;
    for (int64_t i = 0; i < h->d; i++)
        for (int64_t j = 0; j < h->n; j++)
            h->dw[i * h->n + j] = (double)from[i * e->dw.ld + j];
    int rc = product(e, h->d, h->n, h->d, h->attn->hrow + index * h->d * h->d, h->dw, h->left);
    if (!rc)
        rc = product(e, h->d, h->n, h->n, h->dw, h->hcol, h->right);
    for (int64_t i = 0; !rc && i < h->d * h->n; i++)
        *sum += h->left[i] * h->right[i];
    return rc;
}

static void unpack(const double *upper, int64_t n, double *full)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i; j < n; j++)
            full[i * n + j] = full[j * n + i] = *upper++;
}

/* A contiguous copy of the layer's Hessian, or room for a head's own columns. */
static double *columns(struct ptq_layer_eval *e, const struct ptq_cdmat *hess, int64_t n,
                       struct ptq_arena *arena)
{
    int64_t nn;
    if (!ptq_size_mul(n, n, &nn)) {
        ptq_status_set(e->st, PTQ_ERR_MEMORY, "the Hessian overflows a size");
        return NULL;
    }
    double *full = ptq_arena_alloc(arena, e->st, nn, sizeof *full);
    for (int64_t i = 0; full && hess && i < n; i++)
        for (int64_t j = 0; j < n; j++)
            full[i * n + j] = hess->at[i * hess->ld + j];
    return full;
}

static int all_heads(struct ptq_layer_eval *e, struct ptq_arena *arena, double *sum)
{
    const struct ptq_layer *l = e->truth->layer;
    struct head h = {.attn = l->attn, .d = l->attn->head_dim, .n = l->w.cols};
    const int64_t room = h.d * h.n; /* of the layer's weights: no overflow */
    double *hcol = columns(e, l->attn->hcol ? NULL : &l->hess, h.n, arena);
    h.hcol = hcol;
    h.dw = ptq_arena_alloc(arena, e->st, room, sizeof *h.dw);
    h.left = ptq_arena_alloc(arena, e->st, room, sizeof *h.left);
    h.right = ptq_arena_alloc(arena, e->st, room, sizeof *h.right);
    int rc = hcol && h.dw && h.left && h.right ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int64_t k = 0; !rc && k < l->attn->n_heads; k++) {
        if (l->attn->hcol)
            unpack(l->attn->hcol + k * (h.n * (h.n + 1) / 2), h.n, hcol);
        rc = head_loss(e, &h, k, sum);
    }
    return rc;
}

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    const struct ptq_layer *l = e->truth->layer;
    double sum = 0;
    struct ptq_arena arena;
    if (!l->attn)
        return ptq_value_none(v, "no statistics of attention for this layer");
    if (!l->attn->hcol && !l->hess.at)
        return ptq_value_none(v, "no calibration Hessian");
    if (e->has_pieces)
        return ptq_value_none(v, "no Hessian knows pieces of inputs");
    assert(l->attn->n_heads * l->attn->head_dim == e->dw.rows && e->dw.cols == l->w.cols);
    ptq_arena_init(&arena, 0);
    int rc = all_heads(e, &arena, &sum);
    ptq_arena_clear(&arena);
    return rc ? rc : ptq_value_set(v, sum);
}

const struct ptq_metric ptq_metric_attn_loss = {
    .id = "attn_loss",
    .title = "Sum over heads of tr(Hrow dW Hcol dW^T) with the calibration text's statistics of "
             "attention: what BoA minimises; its constants differ between projections",
    .unit = "",
    .better = PTQ_LOWER,
    .of_attention = true,
    .layer = layer,
};
