#include "metrics/metric.h"
#include <math.h>
#include <string.h>

#define ENTRY(name, hash) extern const struct ptq_metric ptq_metric_##name;
#include "metrics.inc"
#undef ENTRY

static const struct ptq_metric_entry table[] = {
#define ENTRY(name, hash) {&ptq_metric_##name, hash},
#include "metrics.inc"
#undef ENTRY
};
enum { N_METRICS = sizeof table / sizeof *table };

const struct ptq_metric_entry *ptq_metrics(int *n)
{
    *n = N_METRICS;
    return table;
}

const struct ptq_metric *ptq_metric_find(const char *id)
{
    for (int i = 0; i < N_METRICS; i++)
        if (strcmp(table[i].metric->id, id) == 0)
            return table[i].metric;
    return NULL;
}

int ptq_value_set(struct ptq_value *v, double x)
{
    if (!isfinite(x))
        return ptq_value_none(v, isnan(x) ? "not a number" : "infinite");
    *v = (struct ptq_value){x, NAN, NAN, NULL};
    return PTQ_OK;
}

int ptq_value_none(struct ptq_value *v, const char *reason)
{
    *v = (struct ptq_value){NAN, NAN, NAN, reason};
    return PTQ_SKIP;
}

int ptq_metrics_layer_eval(const struct ptq_layer_truth *truth, const struct ptq_quant *q,
                           const float *what, struct ptq_pool *pool, struct ptq_value *values,
                           struct ptq_status *st)
{
    struct ptq_layer_eval e = {.truth = truth, .quant = q, .stored = what, .pool = pool, .st = st};
    ptq_arena_init(&e.arena, 0);
    int rc = ptq_layer_eval_compare(&e);
    if (!rc)
        ptq_quant_ledger(q, &e.ledger);
    for (int i = 0; i < N_METRICS && rc >= 0; i++) {
        ptq_value_none(&values[i], NULL);
        bool wanted = !truth->wanted || truth->wanted(truth->wanted_arg, table[i].metric->id);
        if (table[i].metric->layer && wanted)
            rc = table[i].metric->layer(&e, &values[i]);
    }
    ptq_arena_clear(&e.arena);
    return rc < 0 ? rc : PTQ_OK;
}

int ptq_metric_of_model(const struct ptq_metric *m, const struct ptq_model_eval *e,
                        struct ptq_value *v)
{
    const bool embeds = e->eval->embedding != NULL;
    if (m->of == PTQ_OF_PREDICTIONS && embeds)
        return ptq_value_none(v, "an encoder predicts no tokens");
    if (m->of == PTQ_OF_EMBEDDINGS && !embeds)
        return ptq_value_none(v, "only encoders give embeddings");
    return m->model(e, v);
}

int ptq_metrics_model_eval(const struct ptq_model_eval *e, struct ptq_value *values,
                           struct ptq_status *st)
{
    for (int i = 0; i < N_METRICS; i++) {
        ptq_value_none(&values[i], NULL);
        const struct ptq_metric *m = table[i].metric;
        int rc = m->model ? ptq_metric_of_model(m, e, &values[i]) : PTQ_OK;
        if (rc < 0)
            return ptq_status_set(st, rc, "metric %s failed", table[i].metric->id);
    }
    return PTQ_OK;
}

bool ptq_worse_than_zeros(const struct ptq_value *values)
{
    for (int i = 0; i < N_METRICS; i++)
        if (!strcmp(table[i].metric->id, "out_relerr"))
            return !values[i].reason && values[i].v >= 1;
    return false;
}
