/* module.h: what stands behind struct ptq_module (ptq.h): a way to run the module, which the side
 * that knows models brings, and the losses that were asked for already. */
#ifndef PTQ_QUANT_MODULE_H
#define PTQ_QUANT_MODULE_H
#include "core/pool.h"
#include "ptq.h"

struct ptq_module_memo;
struct ptq_module {
    /* Any thread; the same bits for any number of them. */
    int (*loss)(void *arg, const struct ptq_layer *, const float *const *candidate,
                struct ptq_pool *, double *loss, struct ptq_status *);
    /* Names the input that the layer and its siblings read. */
    const char *(*input)(void *arg, const struct ptq_layer *);
    void *arg;
    struct ptq_module_memo *memo;
};
int ptq_module_memo_new(struct ptq_module_memo **, struct ptq_status *);
void ptq_module_memo_free(struct ptq_module_memo *); /* NULL is fine */
#endif
