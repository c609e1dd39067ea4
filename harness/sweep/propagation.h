/* propagation.h: how the error of a quantized model comes about, block by block: what leaves a
 * block, on full-precision inputs and on the quantized model's own.
 *
 * Block b is F with its own weights and Q with the quantized ones; h are the states that enter it
 * in the full-precision model, q those in the quantized one. Sums over tokens, of squared norms:
 *
 *   norm       |F(h)|^2
 *   total      |Q(q) - F(h)|^2    the error that leaves the block
 *   local      |Q(h) - F(h)|^2    what the block alone would add
 *   inherited  |F(q) - F(h)|^2    what the block's own weights make of the error that came in
 *   own        |Q(q) - F(q)|^2    what the block adds on the inputs that it really has
 *   cross      <Q(q) - F(q), F(q) - F(h)>
 *
 * so total = own + inherited + 2 cross. The states are those of the residual stream. First tokens
 * (sinks) hold activations whose norm is thousands of times that of others and is the same in both
 * models: relative to a sum that holds them every error is nothing, so they are summed apart.
 * Sums are in fp64 within a sequence, and over the sequences in their order: the same bits for any
 * number of threads. */
#ifndef PTQ_SWEEP_PROPAGATION_H
#define PTQ_SWEEP_PROPAGATION_H
#include "sweep/placed.h"

enum ptq_error_sum {
    PTQ_ERROR_NORM,
    PTQ_ERROR_TOTAL,
    PTQ_ERROR_LOCAL,
    PTQ_ERROR_INHERITED,
    PTQ_ERROR_OWN,
    PTQ_ERROR_CROSS,
    PTQ_N_ERROR_SUMS
};
enum { PTQ_REST_TOKENS, PTQ_SINK_TOKENS, PTQ_N_TOKEN_CLASSES };
struct ptq_block_errors {
    double sum[PTQ_N_TOKEN_CLASSES][PTQ_N_ERROR_SUMS];
};
struct ptq_propagation_args {
    const struct ptq_model *model;
    const struct ptq_forms *forms;
    const struct ptq_tokens *tokens;
    int64_t sink_tokens; /* first positions of a sequence that are sinks */
    struct ptq_pool *pool;
    struct ptq_spill spill; /* where states go; folder NULL: they stay in memory */
    /* NULL, or asked before every sequence, on any thread: true ends the walk with
     * PTQ_ERR_CANCELLED. */
    bool (*stop)(void *stop_arg);
    void *stop_arg;
};
/* out [n_blocks]. Three states of the text are held, and a block as it was and as it is. */
int ptq_propagation(const struct ptq_propagation_args *, struct ptq_block_errors *out,
                    struct ptq_status *);
#endif
