#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_out_relerr_heldout_nosink;

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    return ptq_layer_eval_relerr(e, PTQ_MOMENT_HELDOUT_NOSINK, v);
}

const struct ptq_metric ptq_metric_out_relerr_heldout_nosink = {
    .id = "out_relerr_heldout_nosink",
    .title = "relative squared output error under the held-out Hessian without the first tokens",
    .unit = "",
    .better = PTQ_LOWER,
    .layer = layer,
};
