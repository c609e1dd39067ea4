#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_out_relerr_tok;

static bool of_token(const float *y, const float *dy, int64_t d, double *out)
{
    double top = 0, bottom = 0;
    for (int64_t j = 0; j < d; j++) {
        top += (double)dy[j] * dy[j];
        bottom += (double)y[j] * y[j];
    }
    *out = top / bottom;
    return bottom > 0; /* a token without output has no relative error */
}

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    return ptq_layer_eval_token_mean(e, of_token, "the output of every held-out token is zero", v);
}

const struct ptq_metric ptq_metric_out_relerr_tok = {
    .id = "out_relerr_tok",
    .title = "mean over held-out tokens of |dW x|^2 / |W x|^2",
    .unit = "",
    .better = PTQ_LOWER,
    .layer = layer,
};
