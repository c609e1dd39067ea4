/* layer_source.h: one layer of a file, whatever the file is: bare layers, or a model with
 * statistics. */
#ifndef PTQ_CLI_LAYER_SOURCE_H
#define PTQ_CLI_LAYER_SOURCE_H
#include "quant/run.h"

struct ptq_layer_request {
    const char *file;  /* bare layers, "synth:layer:...", or any source of ptq_model_open */
    const char *layer; /* NULL: the only one */
    /* Of a model: the file of `ptq capture` or of a sweep with its statistics, NULL: its own
     * container, if it is one; and which /stats/NAME, NULL: the only one there. */
    const char *stats_file, *stats;
    enum ptq_precision precision;
    struct ptq_pool *pool;
    /* What the file leaves open. norm: -1 as the file says; of a given Hessian, or of the one
     * made from activations. n_sequences: 0 as the file says; activations are then so many
     * sequences of equal length. */
    int norm; /* enum ptq_norm */
    int64_t n_sequences;
    bool bare; /* out: a bare layer, no model's */
};
/* The layer with weights and statistics, checked; everything in the arena. A given Hessian is
 * used before activations. Statistics of another model are refused. *source: "FILE: OBJECT", and
 * the file of the statistics, for messages. */
int ptq_layer_load(struct ptq_layer_request *, struct ptq_arena *, struct ptq_layer *,
                   const char **source, struct ptq_status *);
#endif
