#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_kl_median;

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    return ptq_model_eval_kl(m, .5, v);
}

const struct ptq_metric ptq_metric_kl_median = {
    .id = "kl_median",
    .title = "median of KL(full precision || quantized) over positions",
    .unit = "nats",
    .better = PTQ_LOWER,
    .of = PTQ_OF_PREDICTIONS,
    .model = model,
};
