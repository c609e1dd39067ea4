#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_macs_int4_share;

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    const struct ptq_macs m = ptq_quant_macs(e->quant);
    return ptq_value_set(v, m.int4 / m.all);
}

/* Block matrices that are left alone are part of the computation. */
static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    if (!(m->n_quantized_weights > 0))
        return ptq_value_none(v, "nothing is quantized");
    const double rest = (double)m->info->n_block_params - m->n_quantized_weights;
    return ptq_value_set(v, m->macs.int4 / (m->macs.all + rest));
}

const struct ptq_metric ptq_metric_macs_int4_share = {
    .id = "macs_int4_share",
    .title = "share of the multiply-accumulates of the block matrices whose operands both have at "
             "most 4 bits",
    .unit = "",
    .better = PTQ_NEUTRAL,
    .layer = layer,
    .model = model,
};
