#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_bits_books;

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    return ptq_value_set(v, e->ledger.books / ((double)e->quant->rows * (double)e->quant->cols));
}

const struct ptq_metric ptq_metric_bits_books = {
    .id = "bits_books",
    .title = "codebooks with their steps and minima, over the quantized weights; part of "
             "bits_stored",
    .unit = "bits/weight",
    .better = PTQ_NEUTRAL,
    .layer = layer,
};
