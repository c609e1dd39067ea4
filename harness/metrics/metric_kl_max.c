#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_kl_max;

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    return ptq_model_eval_kl(m, 1, v);
}

const struct ptq_metric ptq_metric_kl_max = {
    .id = "kl_max",
    .title = "largest of KL(full precision || quantized) over positions",
    .unit = "nats",
    .better = PTQ_LOWER,
    .of = PTQ_OF_PREDICTIONS,
    .model = model,
};
