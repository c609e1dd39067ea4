#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_out_relerr_tok;

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    const struct ptq_layer_truth *t = e->truth;
    const int64_t d = t->layer->w.rows;
    const float *dy;
    double sum = 0;
    int64_t n = 0;
    int rc = ptq_layer_eval_dy(e, &dy);
    if (rc)
        return rc == PTQ_SKIP ? ptq_value_none(v, "no held-out activations") : rc;
    for (int64_t i = 0; i < t->heldout_acts.rows; i++) {
        double top = 0, bottom = 0;
        for (int64_t j = 0; j < d; j++) {
            top += (double)dy[i * d + j] * dy[i * d + j];
            bottom += (double)t->heldout_y[i * d + j] * t->heldout_y[i * d + j];
        }
        if (bottom > 0) { /* a token without output has no relative error */
            sum += top / bottom;
            n++;
        }
    }
    return n ? ptq_value_set(v, sum / (double)n)
             : ptq_value_none(v, "the output of every held-out token is zero");
}

const struct ptq_metric ptq_metric_out_relerr_tok = {
    .id = "out_relerr_tok",
    .title = "mean over held-out tokens of |dW x|^2 / |W x|^2",
    .unit = "",
    .better = PTQ_LOWER,
    .layer = layer,
};
