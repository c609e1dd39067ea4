#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_bits_stored;

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    return ptq_value_set(v, e->ledger.total / (double)(e->quant->rows * e->quant->cols));
}

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    if (!(m->n_quantized_weights > 0))
        return ptq_value_none(v, "nothing is quantized");
    return ptq_value_set(v, m->bits_stored_total / m->n_quantized_weights);
}

const struct ptq_metric ptq_metric_bits_stored = {
    .id = "bits_stored",
    .title =
        "everything stored over the quantized weights: codes, scales, zeros, permutations, padding",
    .unit = "bits/weight",
    .better = PTQ_LOWER,
    .layer = layer,
    .model = model,
};
