#include "core/stat.h"
#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_dnll;

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    struct ptq_interval d;
    int rc = ptq_model_eval_dnll(m, &d);
    if (rc)
        return rc == PTQ_SKIP ? ptq_value_none(v, "no full-precision reference") : rc;
    if ((rc = ptq_value_set(v, d.mean)) == PTQ_OK) {
        v->lo = d.lo;
        v->hi = d.hi;
    }
    return rc;
}

const struct ptq_metric ptq_metric_dnll = {
    .id = "dnll",
    .title = "nll above the full-precision model on the same text; paired 95 % interval clustered "
             "by window",
    .unit = "nats/token",
    .better = PTQ_LOWER,
    .of = PTQ_OF_PREDICTIONS,
    .model = model,
};
