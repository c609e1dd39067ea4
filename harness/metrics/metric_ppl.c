#include "core/num.h"
#include "core/stat.h"
#include "metrics/metric.h"

extern const struct ptq_metric ptq_metric_ppl;

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    int rc = ptq_value_set(v, ptq_exp(ptq_eval_nll(m->eval)));
    struct ptq_interval d;
    if (rc)
        return rc;
    /* The paired interval, taken around the reference: texts differ far more than models do. */
    if ((rc = ptq_model_eval_dnll(m, &d)) == PTQ_OK) {
        double ref = ptq_eval_nll(m->eval->reference);
        v->lo = ptq_exp(ref + d.lo);
        v->hi = ptq_exp(ref + d.hi);
    }
    return rc == PTQ_SKIP ? PTQ_OK : rc;
}

const struct ptq_metric ptq_metric_ppl = {
    .id = "ppl",
    .title = "perplexity, exp(nll); interval paired against full precision",
    .unit = "",
    .better = PTQ_LOWER,
    .of = PTQ_OF_PREDICTIONS,
    .model = model,
};
