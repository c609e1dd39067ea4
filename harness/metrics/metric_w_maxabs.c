#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_w_maxabs;

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    struct ptq_weight_sums s;
    ptq_layer_eval_weights(e, &s);
    return ptq_value_set(v, s.max_dw);
}

const struct ptq_metric ptq_metric_w_maxabs = {
    .id = "w_maxabs",
    .title = "largest weight error, max |dW|",
    .unit = "",
    .better = PTQ_LOWER,
    .layer = layer,
};
