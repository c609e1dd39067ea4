#include "core/stat.h"
#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_kl_mean;

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    const struct ptq_eval *e = m->eval;
    if (!e->kl)
        return ptq_value_none(v, "no full-precision reference");
    return ptq_value_set(v, ptq_mean(e->kl, e->n_scored));
}

const struct ptq_metric ptq_metric_kl_mean = {
    .id = "kl_mean",
    .title = "mean divergence KL(full precision || quantized) over positions, full vocabulary",
    .unit = "nats",
    .better = PTQ_LOWER,
    .of = PTQ_OF_PREDICTIONS,
    .model = model,
};
