#include "metrics/metric.h"
#include <math.h>

extern const struct ptq_metric ptq_metric_out_cos;

static bool of_token(const float *y, const float *dy, int64_t d, double *out)
{
    double dot = 0, y2 = 0, q2 = 0;
    for (int64_t j = 0; j < d; j++) {
        double was = y[j], is = was + dy[j];
        dot += was * is;
        y2 += was * was;
        q2 += is * is;
    }
    *out = dot / sqrt(y2 * q2);
    return y2 > 0 && q2 > 0; /* a cosine needs two directions */
}

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    return ptq_layer_eval_token_mean(e, of_token, "no held-out token has an output on both sides",
                                     v);
}

const struct ptq_metric ptq_metric_out_cos = {
    .id = "out_cos",
    .title = "mean over held-out tokens of the cosine between W x and What x",
    .unit = "",
    .better = PTQ_HIGHER,
    .layer = layer,
};
