/* health.h: how well a layer's Hessian can be worked with: numbers of the input, not of a method,
 * so they are made once an input and stand in every row of the layers that read it. */
#ifndef PTQ_METRICS_HEALTH_H
#define PTQ_METRICS_HEALTH_H
#include "core/arena.h"
#include "core/pool.h"

/* Damping under which the condition is given: GPTQ's default, so that inputs compare whatever the
 * methods of a run were told. */
#define PTQ_HEALTH_PERCDAMP 0.01

struct ptq_health {
    uint64_t key;      /* hess_key: which input */
    double trace;      /* tr H */
    double sink_share; /* tr H of the sink class over tr H; NaN: no classes */
    /* (tr H)^2 / tr(H^2), between 1 and n: as many directions of equal weight would have this
     * spread. */
    double effective_rank;
    int64_t n_dead; /* inputs that were never active: H_jj = 0 */
    /* Of H + lambda I over the live inputs, lambda = PTQ_HEALTH_PERCDAMP mean(H_jj): largest and
     * smallest eigenvalue by power and inverse iteration, both as Rayleigh quotients of H in fp64,
     * so the estimate is not above the true value but for rounding. NaN: not positive definite. */
    double damping, condition;
};
/* PTQ_SKIP without a Hessian. One that is all zero has only dead inputs. Takes 4 n^2 bytes besides.
 */
int ptq_health_of(const struct ptq_layer *, struct ptq_pool *, struct ptq_health *,
                  struct ptq_status *);
#endif
