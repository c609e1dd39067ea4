#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_bits_paper;

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    return ptq_value_set(v, e->ledger.paper);
}

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    if (!(m->n_quantized_weights > 0))
        return ptq_value_none(v, "nothing is quantized");
    return ptq_value_set(v, m->bits_paper);
}

const struct ptq_metric ptq_metric_bits_paper = {
    .id = "bits_paper",
    .title = "bits as papers count them: b + (16 + b)/g asymmetric, b + 16/g symmetric, "
             "permutation included",
    .unit = "bits/weight",
    .better = PTQ_NEUTRAL,
    .layer = layer,
    .model = model,
};
