#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_bits_nominal;

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    return ptq_value_set(v, e->ledger.nominal);
}

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    if (!(m->n_quantized_weights > 0))
        return ptq_value_none(v, "nothing is quantized");
    return ptq_value_set(v, m->bits_nominal);
}

const struct ptq_metric ptq_metric_bits_nominal = {
    .id = "bits_nominal",
    .title = "code width, mean over the quantized weights",
    .unit = "bits/weight",
    .better = PTQ_NEUTRAL,
    .layer = layer,
    .model = model,
};
