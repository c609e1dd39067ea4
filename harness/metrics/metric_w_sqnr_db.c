#include "core/num.h"
#include "metrics/metric.h"

/* ln 10 */
#define LN10 2.302585092994045684

extern const struct ptq_metric ptq_metric_w_sqnr_db;

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    struct ptq_weight_sums s;
    ptq_layer_eval_weights(e, &s);
    if (!(s.w2 > 0))
        return ptq_value_none(v, "the weights are all zero");
    return s.dw2 > 0 ? ptq_value_set(v, 10 * ptq_log(s.w2 / s.dw2) / LN10)
                     : ptq_value_none(v, "infinite: the weights are exact");
}

const struct ptq_metric ptq_metric_w_sqnr_db = {
    .id = "w_sqnr_db",
    .title = "signal to quantization noise of the weights, 10 log10(|W|_F^2 / |dW|_F^2)",
    .unit = "dB",
    .better = PTQ_HIGHER,
    .layer = layer,
};
