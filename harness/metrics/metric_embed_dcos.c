#include "core/stat.h"
#include "metrics/metric.h"
#include <stdlib.h>

extern const struct ptq_metric ptq_metric_embed_dcos;

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    struct ptq_interval d;
    double *dcos = malloc((size_t)m->eval->n_windows * sizeof *dcos + 1);
    if (!dcos)
        return PTQ_ERR_MEMORY;
    int rc = ptq_model_eval_dcos(m, dcos);
    if (!rc)
        ptq_paired_interval(dcos, m->eval->n_windows, .95, &d);
    free(dcos);
    if (rc)
        return rc == PTQ_SKIP ? ptq_value_none(v, "no full-precision reference") : rc;
    if ((rc = ptq_value_set(v, d.mean)) == PTQ_OK) {
        v->lo = d.lo;
        v->hi = d.hi;
    }
    return rc;
}

const struct ptq_metric ptq_metric_embed_dcos = {
    .id = "embed_dcos",
    .title = "1 - cosine of a sentence's embedding to full precision's, mean over sentences; 95 % "
             "interval over sentences",
    .unit = "1 - cosine",
    .better = PTQ_LOWER,
    .of = PTQ_OF_EMBEDDINGS,
    .model = model,
};
