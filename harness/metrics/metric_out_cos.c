#include "metrics/metric.h"
#include <math.h>

extern const struct ptq_metric ptq_metric_out_cos;

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
        double dot = 0, old = 0, new = 0;
        for (int64_t j = 0; j < d; j++) {
            double y = t->heldout_y[i * d + j], q = y + dy[i * d + j];
            dot += y * q;
            old += y * y;
            new += q *q;
        }
        if (old > 0 && new > 0) { /* a cosine needs two directions */
            sum += dot / sqrt(old * new);
            n++;
        }
    }
    return n ? ptq_value_set(v, sum / (double)n)
             : ptq_value_none(v, "no held-out token has an output on both sides");
}

const struct ptq_metric ptq_metric_out_cos = {
    .id = "out_cos",
    .title = "mean over held-out tokens of the cosine between W x and What x",
    .unit = "",
    .better = PTQ_HIGHER,
    .layer = layer,
};
