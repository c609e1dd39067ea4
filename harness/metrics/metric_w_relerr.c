#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_w_relerr;

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    struct ptq_weight_sums s;
    ptq_layer_eval_weights(e, &s);
    return s.w2 > 0 ? ptq_value_set(v, s.dw2 / s.w2)
                    : ptq_value_none(v, "the weights are all zero");
}

const struct ptq_metric ptq_metric_w_relerr = {
    .id = "w_relerr",
    .title = "relative squared weight error, |dW|_F^2 / |W|_F^2",
    .unit = "",
    .better = PTQ_LOWER,
    .layer = layer,
};
