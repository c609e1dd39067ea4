#include "core/stat.h"
#include "metrics/metric.h"
#include <stdlib.h>

extern const struct ptq_metric ptq_metric_embed_cos_mean;

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    double mean = 0, *dcos = malloc((size_t)m->eval->n_windows * sizeof *dcos + 1);
    if (!dcos)
        return PTQ_ERR_MEMORY;
    int rc = ptq_model_eval_dcos(m, dcos);
    if (!rc)
        mean = ptq_mean(dcos, m->eval->n_windows);
    free(dcos);
    return rc == PTQ_SKIP ? ptq_value_none(v, "no full-precision reference")
                          : ptq_value_set(v, 1 - mean);
}

const struct ptq_metric ptq_metric_embed_cos_mean = {
    .id = "embed_cos_mean",
    .title = "cosine of a sentence's embedding to full precision's, mean over sentences",
    .unit = "",
    .better = PTQ_HIGHER,
    .of = PTQ_OF_EMBEDDINGS,
    .model = model,
};
