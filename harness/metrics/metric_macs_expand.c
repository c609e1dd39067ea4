#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_macs_expand;

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    return ptq_value_set(v, (double)ptq_quant_kcols(e->quant) / (double)e->quant->cols);
}

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    if (!(m->n_quantized_weights > 0))
        return ptq_value_none(v, "nothing is quantized");
    return ptq_value_set(v, m->macs.all / m->n_quantized_weights);
}

const struct ptq_metric ptq_metric_macs_expand = {
    .id = "macs_expand",
    .title = "multiply-accumulates of the quantized layers over those of the layers as they were "
             "(split columns)",
    .unit = "",
    .better = PTQ_LOWER,
    .layer = layer,
    .model = model,
};
