#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_out_relerr;

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    return ptq_layer_eval_relerr(e, PTQ_MOMENT_CALIB, v);
}

const struct ptq_metric ptq_metric_out_relerr = {
    .id = "out_relerr",
    .title =
        "relative squared output error under the calibration Hessian, tr(dW H dW^T) / tr(W H W^T)",
    .unit = "",
    .better = PTQ_LOWER,
    .layer = layer,
};
