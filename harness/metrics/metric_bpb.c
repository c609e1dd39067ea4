#include "core/stat.h"
#include "metrics/metric.h"

/* ln 2 */
#define LN2 0.693147180559945309

extern const struct ptq_metric ptq_metric_bpb;

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    const double per = m->eval->text->bytes_per_token * LN2;
    if (!(per > 0))
        return ptq_value_none(v, "bytes per token are unknown for this text");
    int rc = ptq_value_set(v, ptq_eval_nll(m->eval) / per);
    struct ptq_interval d;
    if (rc)
        return rc;
    /* The paired interval, taken around the reference: texts differ far more than models do. */
    if ((rc = ptq_model_eval_dnll(m, &d)) == PTQ_OK) {
        double ref = ptq_eval_nll(m->eval->reference);
        v->lo = (ref + d.lo) / per;
        v->hi = (ref + d.hi) / per;
    }
    return rc == PTQ_SKIP ? PTQ_OK : rc;
}

const struct ptq_metric ptq_metric_bpb = {
    .id = "bpb",
    .title = "bits per byte of text, nll / ln 2 per scored byte",
    .unit = "bits/byte",
    .better = PTQ_LOWER,
    .of = PTQ_OF_PREDICTIONS,
    .model = model,
};
