#include "core/stat.h"
#include "metrics/metric.h"
#include <math.h>
#include <stdlib.h>

extern const struct ptq_metric ptq_metric_embed_cos_p1;

/* The 99th percentile of 1 - cosine; NaN is sorted last, where no quantile sees it. */
static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    const int64_t n = m->eval->n_windows;
    double worst = NAN, *dcos = malloc((size_t)n * sizeof *dcos + 1);
    if (!dcos)
        return PTQ_ERR_MEMORY;
    int rc = ptq_model_eval_dcos(m, dcos);
    if (!rc) {
        ptq_sort_f64(dcos, n);
        if (isfinite(dcos[n - 1]))
            worst = ptq_quantile_sorted(dcos, n, .99);
    }
    free(dcos);
    return rc == PTQ_SKIP ? ptq_value_none(v, "no full-precision reference")
                          : ptq_value_set(v, 1 - worst);
}

const struct ptq_metric ptq_metric_embed_cos_p1 = {
    .id = "embed_cos_p1",
    .title = "cosine of a sentence's embedding to full precision's, 1st percentile over sentences "
             "(linear between neighbours)",
    .unit = "",
    .better = PTQ_HIGHER,
    .of = PTQ_OF_EMBEDDINGS,
    .model = model,
};
