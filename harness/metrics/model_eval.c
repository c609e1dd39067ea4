#include "core/stat.h"
#include "datasets/facts.h"
#include "metrics/metric.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

int ptq_model_eval_dnll(const struct ptq_model_eval *m, struct ptq_interval *out)
{
    const struct ptq_eval *e = m->eval, *ref = e->reference;
    if (!ref || e->n_scored == 0)
        return PTQ_SKIP;
    double *z = malloc((size_t)e->n_windows * sizeof *z + 1);
    if (!z)
        return PTQ_ERR_MEMORY;
    for (int64_t s = 0; s < e->n_windows; s++)
        z[s] = e->nll_window[s] - ref->nll_window[s];
    ptq_paired_interval(z, ptq_ratio_units(z, e->n_window, e->n_windows, z), .95, out);
    free(z);
    return PTQ_OK;
}

int ptq_model_eval_kl(const struct ptq_model_eval *m, double p, struct ptq_value *v)
{
    const struct ptq_eval *e = m->eval;
    if (!e->kl)
        return ptq_value_none(v, "no full-precision reference");
    double *sorted = malloc((size_t)e->n_scored * sizeof *sorted + 1);
    if (!sorted)
        return PTQ_ERR_MEMORY;
    bool whole = true;
    for (int64_t i = 0; i < e->n_scored; i++) {
        sorted[i] = e->kl[i];
        whole = whole && isfinite(sorted[i]);
    }
    if (whole)
        ptq_sort_f64(sorted, e->n_scored);
    int rc = whole ? ptq_value_set(v, ptq_quantile_sorted(sorted, e->n_scored, p))
                   : ptq_value_none(v, "a position's divergence is not finite");
    free(sorted);
    return rc;
}

/* Byte t of window s is the (t - 1)-th scored position of the window. */
int ptq_model_eval_spans(const struct ptq_model_eval *m, bool copies, struct ptq_value *v)
{
    const struct ptq_eval *e = m->eval;
    int64_t n = 0, right = 0, first = 0;
    if (!e->text->facts)
        return ptq_value_none(v, "the text is not the facts language");
    for (int64_t s = 0; s < e->n_windows; s++) {
        const struct ptq_facts_window *w = &e->text->facts[s];
        for (int k = 0; k < w->n_spans; k++) {
            if ((w->span[k].attr == PTQ_FACTS_COPY) != copies)
                continue;
            bool all = true;
            for (int t = w->span[k].begin; t < w->span[k].end; t++)
                all = all && e->hit[first + t - 1];
            right += all;
            n++;
        }
        first += e->n_window[s];
    }
    return n ? ptq_value_set(v, (double)right / (double)n)
             : ptq_value_none(v, "no such value lies wholly inside a window");
}
