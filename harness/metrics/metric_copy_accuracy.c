#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_copy_accuracy;

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    return ptq_model_eval_spans(m, true, v);
}

const struct ptq_metric ptq_metric_copy_accuracy = {
    .id = "copy_accuracy",
    .title = "share of copied digits that are the argmax (facts language)",
    .unit = "",
    .better = PTQ_HIGHER,
    .of = PTQ_OF_PREDICTIONS,
    .model = model,
};
