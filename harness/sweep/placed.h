/* placed.h: a block of a model with stored forms in place of its weights: a quantized block. */
#ifndef PTQ_SWEEP_PLACED_H
#define PTQ_SWEEP_PLACED_H
#include "model/model.h"
#include "quant/run.h"

/* Puts a stored form in place of a linear's weights. The form must outlive the block; the arena
 * gets what its product needs. */
int ptq_linear_take(struct ptq_linear *, const struct ptq_result *, struct ptq_arena *,
                    struct ptq_status *);

/* Which forms a block gets. of: the form of linear `lin`, as *own, which is released with the
 * block, or as *use, which is the caller's and outlives it. PTQ_SKIP: its weights stay. */
struct ptq_forms {
    int (*of)(void *arg, const struct ptq_block *, int lin, struct ptq_result *own,
              const struct ptq_result **use, struct ptq_status *);
    void *arg;
};
struct ptq_placed {
    struct ptq_block exact, block; /* as it was, as it is */
    struct ptq_arena arena;
    struct ptq_result forms[PTQ_MAX_LINEARS];
    int n_forms;
};
/* forms NULL: the block as it is. Release it in any case. */
int ptq_placed_load(struct ptq_placed *, const struct ptq_model *, int index,
                    const struct ptq_forms *, struct ptq_status *);
void ptq_placed_release(struct ptq_placed *);

struct ptq_placed_args {
    const struct ptq_model *model;
    const struct ptq_forms *forms;
    struct ptq_pool *pool;
    const struct ptq_block_tap *tap; /* or NULL */
};
/* Loads the block, moves the states on through it and releases it. */
int ptq_placed_run(const struct ptq_placed_args *, int index, struct ptq_hidden *,
                   struct ptq_status *);
#endif
