#include "metrics/metric.h"

/* |a - b|^2 / 2 = 1 - a b of unit vectors. */
int ptq_model_eval_dcos(const struct ptq_model_eval *m, double *out)
{
    const struct ptq_eval *e = m->eval, *ref = e->reference;
    if (!ref)
        return PTQ_SKIP;
    for (int64_t s = 0; s < e->n_windows; s++) {
        const double *a = e->embedding + s * e->d_embedding,
                     *b = ref->embedding + s * e->d_embedding;
        double sum = 0;
        for (int64_t k = 0; k < e->d_embedding; k++)
            sum += (a[k] - b[k]) * (a[k] - b[k]);
        out[s] = sum / 2;
    }
    return PTQ_OK;
}
