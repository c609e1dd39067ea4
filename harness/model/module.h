/* module.h: what a method may know of the block around its layer: the layers that read the same
 * input, what makes that input, and the modules (attention with its output projection, MLP) run on
 * sampled windows, which is what ptq_module_loss is. */
#ifndef PTQ_MODEL_MODULE_H
#define PTQ_MODEL_MODULE_H
#include "model/model.h"
#include "quant/module.h"

struct ptq_neighbours {
    struct ptq_layer layer[PTQ_MAX_LINEARS]; /* names, roles and weights alone */
    const struct ptq_layer *at[PTQ_MAX_LINEARS];
};
/* Completes a layer (ptq_layer_from_model) that is a linear of the block as it stands: siblings,
 * producer, module (may be NULL). The layer borrows n and is not to be copied elsewhere: it is one
 * of its own siblings. */
void ptq_layer_place(struct ptq_layer *, const struct ptq_block *, int lin,
                     const struct ptq_module *, struct ptq_neighbours *n);

/* The first sequences of a text, so many that they hold at most n_tokens tokens; the first one is
 * cut where it holds more. Lives in the arena, ids in the text. */
int ptq_sample_windows(const struct ptq_tokens *, int64_t n_tokens, struct ptq_arena *,
                       struct ptq_tokens *, struct ptq_status *);

struct ptq_modules; /* those of one block */
struct ptq_modules_args {
    const struct ptq_model *model;
    const struct ptq_block *exact; /* full-precision weights: what outputs are compared with */
    /* As it stands, which may change between calls: layers that are quantized before others of the
     * module are so in every candidate. May be exact. */
    const struct ptq_block *current;
    /* What enters the block: of the windows, or of the text that they are the first sequences of.
     * Copied. */
    const struct ptq_hidden *hidden;
    const struct ptq_tokens *windows; /* outlives the modules */
    bool (*stop)(void *stop_arg);     /* as of a tap */
    void *stop_arg;
};
/* An MLP reads what the attention half of the block leaves that stood when its loss was first asked
 * for. The memory of four times the windows' hidden states. */
int ptq_modules_new(struct ptq_modules **, const struct ptq_modules_args *, struct ptq_status *);
void ptq_modules_free(struct ptq_modules *); /* NULL is fine */
/* For every layer of the block; NULL of NULL. */
const struct ptq_module *ptq_modules_module(const struct ptq_modules *);
#endif
