/* Model of the bound: the weights of a row are independent Gaussians of the layer's mean square, so
 * in the eigenbasis of H the loss of a row is a sum of squared errors of n components with the
 * variances eig(H) * w^2. Of all weights of that second moment the Gaussian needs most bits, so a
 * value below 0 is possible and says that the weights are easier than Gaussian. */
#include "metrics/metric.h"
#include "metrics/rate.h"

extern const struct ptq_metric ptq_metric_excess_bits;

static int layer(struct ptq_layer_eval *e, struct ptq_value *v)
{
    const struct ptq_layer_truth *t = e->truth;
    const struct ptq_cmat *w = &t->layer->w;
    double loss;
    struct ptq_weight_sums sums;
    int rc = ptq_layer_eval_quad(e, PTQ_MOMENT_CALIB, &loss);
    if (rc)
        return rc != PTQ_SKIP  ? rc
               : e->has_pieces ? ptq_value_none(v, "no Hessian knows pieces of inputs")
                               : ptq_value_none(v, "no calibration Hessian");
    if (!(loss > 0))
        return ptq_value_none(v, "no loss: the bound is infinite");
    ptq_layer_eval_weights(e, &sums);
    const double n = (double)w->rows * (double)w->cols;
    if (!(sums.w2 > 0))
        return ptq_value_none(v, "weights are all zero");
    /* variances eig * w2 / n and distortion loss / rows: both over w2 / n */
    double bits =
        ptq_gaussian_rate(t->eigenvalues, w->cols, loss / (double)w->rows / (sums.w2 / n));
    return ptq_value_set(v, e->ledger.total / n - bits / (double)w->cols);
}

const struct ptq_metric ptq_metric_excess_bits = {
    .id = "excess_bits",
    .title =
        "stored bits a weight above the Gaussian rate-distortion bound at this proxy loss "
        "(reverse water-filling over the eigenvalues of the calibration Hessian; weights taken "
        "for independent, of the layer's mean square)",
    .unit = "bit",
    .better = PTQ_LOWER,
    .layer = layer,
};
