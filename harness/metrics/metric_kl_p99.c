#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_kl_p99;

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    return ptq_model_eval_kl(m, .99, v);
}

const struct ptq_metric ptq_metric_kl_p99 = {
    .id = "kl_p99",
    .title = "99th percentile of KL(full precision || quantized) over positions",
    .unit = "nats",
    .better = PTQ_LOWER,
    .of = PTQ_OF_PREDICTIONS,
    .model = model,
};
