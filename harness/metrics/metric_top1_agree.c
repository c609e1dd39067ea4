#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_top1_agree;

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    return m->eval->reference ? ptq_value_set(v, m->eval->top1_agree)
                              : ptq_value_none(v, "no full-precision reference");
}

const struct ptq_metric ptq_metric_top1_agree = {
    .id = "top1_agree",
    .title = "share of positions with the argmax of full precision (ties to the lower id)",
    .unit = "",
    .better = PTQ_HIGHER,
    .of = PTQ_OF_PREDICTIONS,
    .model = model,
};
