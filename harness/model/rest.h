/* rest.h: what a model holds beside the matrices of its blocks: token table, positions, norms,
 * biases, head. Methods here leave all of it alone. */
#ifndef PTQ_MODEL_REST_H
#define PTQ_MODEL_REST_H
#include "model/model.h"

struct ptq_rest_tensor {
    const char *name; /* canonical */
    int64_t d0, d1;   /* d1 == 0: a vector */
};
/* In the order of the model; a head that is the token table (tied_head) is not listed. In the
 * arena. */
int ptq_model_rest(const struct ptq_model *, struct ptq_arena *, struct ptq_rest_tensor **,
                   int64_t *n, struct ptq_status *);
#endif
