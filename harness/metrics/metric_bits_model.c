#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_bits_model;

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    return ptq_value_set(v,
                         (m->bits_stored_total + m->bits_rest_total) / (double)m->info->n_params);
}

const struct ptq_metric ptq_metric_bits_model = {
    .id = "bits_model",
    .title = "everything stored over all weights of the model, those left alone included",
    .unit = "bits/weight",
    .better = PTQ_LOWER,
    .model = model,
};
