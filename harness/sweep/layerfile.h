/* layerfile.h: bare layers of a container: /layers/NAME/{weight, hess | activations}
 * (datasets/SCHEMA.md). Files are untrusted: shapes are checked here, values by ptq_layer_check,
 * which is called here too. */
#ifndef PTQ_SWEEP_LAYERFILE_H
#define PTQ_SWEEP_LAYERFILE_H
#include "core/hash.h"
#include "datasets/h5.h"
#include "quant/run.h"

/* True when the file holds bare layers and no model. */
bool ptq_layerfile_is(struct ptq_h5 *);
/* Names in name order; none is PTQ_ERR_USAGE. */
int ptq_layerfile_names(struct ptq_h5 *, struct ptq_arena *, char ***names, int64_t *n,
                        struct ptq_status *);

struct ptq_layerfile_args {
    const char *name;
    bool make_hess; /* from activations, where the file gives no Hessian (normalisation token) */
    enum ptq_precision precision;
    struct ptq_pool *pool;
};
/* Everything in the arena. A given Hessian is used before activations. */
int ptq_layerfile_read(struct ptq_h5 *, const struct ptq_layerfile_args *, struct ptq_arena *,
                       struct ptq_layer *, struct ptq_status *);
/* Keys of the contents: weights, and what the Hessian is or will be made of ("" without any). */
void ptq_layerfile_keys(const struct ptq_layer *, char weights[PTQ_KEY_CHARS],
                        char stats[PTQ_KEY_CHARS]);
/* Role of a canonical name: "blk.3.attn_q" is PTQ_ROLE_Q; and its block, or -1. */
enum ptq_role ptq_role_of_name(const char *name, int *block);
const char *ptq_role_name(enum ptq_role);
#endif
