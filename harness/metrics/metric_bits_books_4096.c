/* metric_bits_books_4096.c: books dominate small matrices, so a small matrix says little of what
 * they cost where methods are used. */
#include "metrics/metric.h"
#include "quant/form.h"

extern const struct ptq_metric ptq_metric_bits_books_4096;

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    return ptq_value_set(v, ptq_quant_books_at(e->quant, 4096, 4096) / (4096.0 * 4096.0));
}

const struct ptq_metric ptq_metric_bits_books_4096 = {
    .id = "bits_books_4096",
    .title = "codebooks of the same length and format, were the layer 4096 x 4096",
    .unit = "bits/weight",
    .better = PTQ_NEUTRAL,
    .layer = layer,
};
