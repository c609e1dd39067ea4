#include "core/stat.h"
#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_nll;

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    int rc = ptq_value_set(v, ptq_eval_nll(m->eval));
    struct ptq_interval d;
    if (rc)
        return rc;
    /* The paired interval, taken around the reference: texts differ far more than models do. */
    if ((rc = ptq_model_eval_dnll(m, &d)) == PTQ_OK) {
        double ref = ptq_eval_nll(m->eval->reference);
        v->lo = ref + d.lo;
        v->hi = ref + d.hi;
    }
    return rc == PTQ_SKIP ? PTQ_OK : rc;
}

const struct ptq_metric ptq_metric_nll = {
    .id = "nll",
    .title = "mean negative log likelihood",
    .unit = "nats/token",
    .better = PTQ_LOWER,
    .of = PTQ_OF_PREDICTIONS,
    .model = model,
};
