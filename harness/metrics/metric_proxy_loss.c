#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_proxy_loss;

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    double top;
    int rc = ptq_layer_eval_quad(e, PTQ_MOMENT_CALIB, &top);
    if (rc)
        return rc != PTQ_SKIP  ? rc
               : e->has_pieces ? ptq_value_none(v, "no Hessian knows pieces of inputs")
                               : ptq_value_none(v, "no calibration Hessian");
    return ptq_value_set(v, top);
}

const struct ptq_metric ptq_metric_proxy_loss = {
    .id = "proxy_loss",
    .title = "tr(dW H dW^T) under the calibration Hessian; carries its normalisation (per token or "
             "per sequence)",
    .unit = "",
    .better = PTQ_LOWER,
    .layer = layer,
};
