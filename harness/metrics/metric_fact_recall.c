#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_fact_recall;

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    return ptq_model_eval_spans(m, false, v);
}

const struct ptq_metric ptq_metric_fact_recall = {
    .id = "fact_recall",
    .title = "share of facts of which every byte is the argmax (facts language)",
    .unit = "",
    .better = PTQ_HIGHER,
    .of = PTQ_OF_PREDICTIONS,
    .model = model,
};
