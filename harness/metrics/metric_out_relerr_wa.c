#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_out_relerr_wa;

const struct ptq_metric ptq_metric_out_relerr_wa = {
    .id = "out_relerr_wa",
    .title = "relative squared output error with inputs as the form quantizes and splits them, "
             "|What x^ - W x|^2 / |W x|^2 over sampled inputs, held-out where there are some",
    .unit = "",
    .better = PTQ_LOWER,
    .layer = ptq_layer_eval_applied,
};
