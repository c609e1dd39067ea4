#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_w_mse;

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    struct ptq_weight_sums s;
    ptq_layer_eval_weights(e, &s);
    return ptq_value_set(v, s.dw2 / (double)(e->w.rows * e->w.cols));
}

const struct ptq_metric ptq_metric_w_mse = {
    .id = "w_mse",
    .title = "mean squared weight error, |dW|^2 / numel",
    .unit = "",
    .better = PTQ_LOWER,
    .layer = layer,
};
