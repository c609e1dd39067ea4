#include "analysis/bisect_parts.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool one_grid(const struct ptq_quant *q)
{
    return q->n_parts == 1 && q->part[0].kind == PTQ_PART_UNIFORM && !q->part[0].tree_levels &&
           q->part[0].rot.fmt == PTQ_FMT_NONE && !q->split.n_cols &&
           q->act.divisor.fmt == PTQ_FMT_NONE;
}

static bool same_shape(const struct ptq_part *a, const struct ptq_part *b)
{
    return a->bits == b->bits && a->group_cols == b->group_cols &&
           a->groups_per_row == b->groups_per_row && a->scale.n == b->scale.n &&
           a->zero.n == b->zero.n && (a->zero.fmt == PTQ_FMT_NONE) == (b->zero.fmt == PTQ_FMT_NONE);
}

static bool same_order(const struct ptq_part *a, const struct ptq_part *b, int64_t cols)
{
    if (!a->perm || !b->perm)
        return a->perm == b->perm;
    return !memcmp(a->perm, b->perm, (size_t)cols * sizeof *a->perm);
}

static int64_t count(const struct ptq_arr *a, const struct ptq_arr *b)
{
    int64_t n = 0;
    for (int64_t i = 0; i < a->n; i++)
        n += a->at[i] != b->at[i];
    return n;
}

static void compare(const struct ptq_quant *a, const struct ptq_quant *b,
                    struct ptq_bisect_parts *p)
{
    const struct ptq_part *x = &a->part[0], *y = &b->part[0];
    p->comparable = one_grid(a) && one_grid(b) && same_shape(x, y);
    if (!p->comparable)
        return;
    for (int64_t i = 0; i < a->rows * a->cols; i++)
        p->n_codes += x->codes[i] != y->codes[i];
    p->n_scales = count(&x->scale, &y->scale);
    p->n_zeros =
        count(&x->zero, &y->zero) + (x->zero.fmt == PTQ_FMT_NONE && x->zero_const != y->zero_const);
    p->order = !same_order(x, y, a->cols);
    for (int64_t i = 0; i < x->scale.n; i++)
        p->max_scale =
            fmax(p->max_scale, fabs((double)y->scale.at[i] / (double)x->scale.at[i] - 1));
}

struct swap { /* which of NEW's parts replace OLD's */
    bool codes, grid, order;
};

struct scoring {
    struct ptq_walk *w;
    int64_t site;
    struct ptq_waypoint here; /* OLD before the site's block */
    const struct ptq_result *form[2];
};

static int score_form(struct scoring *s, const struct ptq_result *r, struct ptq_interval *out,
                      struct ptq_status *st)
{
    const struct ptq_hybrid h = {.n_new = 0, .instead = r, .at = s->site};
    double *nll = malloc((size_t)s->w->text.tokens.n_seq * sizeof *nll);
    if (!nll)
        return ptq_status_nomem(st, "NLL of windows", 0);
    int rc = ptq_walk_score(s->w, &s->here, &h, nll, st);
    if (!rc)
        ptq_walk_difference(s->w, s->w->zero_nll, nll, out);
    free(nll);
    return rc;
}

/* The mix is a form of its own: dequantized as any is. */
static int score_swap(struct scoring *s, struct swap swap, struct ptq_interval *out,
                      struct ptq_status *st)
{
    struct ptq_result mix = *s->form[PTQ_OLD];
    const struct ptq_part *new = &s->form[PTQ_NEW]->quant.part[0];
    struct ptq_part *p = &mix.quant.part[0];
    if (swap.codes)
        p->codes = new->codes;
    if (swap.grid) {
        p->scale = new->scale;
        p->zero = new->zero;
        p->zero_const = new->zero_const;
    }
    if (swap.order)
        p->perm = new->perm;
    mix.what = malloc((size_t)(mix.quant.rows * mix.quant.cols) * sizeof *mix.what);
    if (!mix.what)
        return ptq_status_nomem(st, "a mixed form", 0);
    int rc = ptq_quant_dequant(&mix.quant, mix.what, st);
    if (!rc)
        rc = score_form(s, &mix, out, st);
    free(mix.what);
    return rc;
}

static int score_all(struct scoring *s, struct ptq_bisect_parts *p, struct ptq_status *st)
{
    int rc = score_form(s, s->form[PTQ_NEW], &p->whole, st);
    if (!p->comparable)
        return rc;
    const bool grid = p->n_scales || p->n_zeros;
    if (!rc && p->n_codes)
        rc = score_swap(s, (struct swap){.codes = true}, &p->codes, st);
    if (!rc && grid)
        rc = score_swap(s, (struct swap){.grid = true}, &p->grid, st);
    if (!rc && p->order)
        rc = score_swap(s, (struct swap){.order = true}, &p->order_alone, st);
    return rc;
}

int ptq_bisect_parts(struct ptq_walk *w, int64_t site, const struct ptq_waypoint *from,
                     struct ptq_bisect_parts *p, struct ptq_status *st)
{
    const struct ptq_site *at = &w->site[site];
    const struct ptq_hybrid old = {.n_new = 0};
    struct ptq_result form[2];
    struct ptq_block block;
    int n = 0, rc = ptq_model_layout(w->model, at->block, w->arena, &block, st);
    *p = (struct ptq_bisect_parts){.comparable = false};
    for (; n < 2 && !rc; n += !rc)
        rc = ptq_picked_form(&w->picked[n], &block.lin[at->lin], &form[n], st);
    if (!rc) {
        struct scoring s = {.w = w, .site = site, .form = {&form[PTQ_OLD], &form[PTQ_NEW]}};
        compare(&form[PTQ_OLD].quant, &form[PTQ_NEW].quant, p);
        rc = ptq_waypoint_at(w, from, at->block, &old, &s.here, st);
        if (!rc)
            rc = score_all(&s, p, st);
        ptq_waypoint_release(&s.here);
    }
    for (int i = 0; i < n; i++)
        ptq_result_release(&form[i]);
    /* one of the two leaves the layer alone: there are no parts */
    return rc == PTQ_SKIP ? PTQ_OK : rc;
}
