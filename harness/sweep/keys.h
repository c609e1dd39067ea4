/* keys.h: what names a result. A key is a hash of everything that decides the result and of nothing
 * else: threads, memory, time and the place of files never enter.
 *
 *   form key   = (weights, statistics the method may see, method and its source's hash, every
 * option, the cell, precision, BLAS core, ISA, hash of the harness's arithmetic) metric key = (form
 * key, metric, its source's hash, hash of what metrics share, what it is evaluated on) row key    =
 * (kind, form key, what it is evaluated on)
 *
 * So a new metric recomputes no quantization, and an edited method only its own cells. */
#ifndef PTQ_SWEEP_KEYS_H
#define PTQ_SWEEP_KEYS_H
#include "core/blas.h"
#include "core/hash.h"
#include "quant/method.h"

/* Commit, build and arithmetic of this program (gen/version.inc). */
const char *ptq_harness_hash(void);
const char *ptq_build_commit(void);
const char *ptq_build_compiler(void);
const char *ptq_build_kind(void);

struct ptq_form_inputs {
    const char *weights; /* key of the layer's weights */
    const char *stats;   /* key of the statistics the method sees, "" when it sees none */
    const struct ptq_spec *spec;
    const struct ptq_cell *cell;
    enum ptq_precision precision;
    const struct ptq_machine *machine;
};
void ptq_form_key(const struct ptq_form_inputs *, char out[PTQ_KEY_CHARS]);
/* A quantized model: the forms of its layers in order (n x PTQ_KEY_CHARS) and the model around
 * them. */
void ptq_model_form_key(const char *model_key, const char (*forms)[PTQ_KEY_CHARS], int64_t n,
                        char out[PTQ_KEY_CHARS]);
void ptq_metric_key(const char *form, const char *metric, const char *version,
                    const char *evaluated_on, char out[PTQ_KEY_CHARS]);
void ptq_row_key(const char *kind, const char *form, const char *evaluated_on,
                 char out[PTQ_KEY_CHARS]);
/* Of texts in order, NULL-terminated. */
void ptq_key_of(char out[PTQ_KEY_CHARS], ...) __attribute__((sentinel));
/* The arithmetic that every computed input depends on: precision, BLAS core, ISA, harness. */
void ptq_arithmetic_key(enum ptq_precision, const struct ptq_machine *, char out[PTQ_KEY_CHARS]);
/* A method that needs nothing with these options is given no statistics unless the cell's grid
 * search uses the Hessian: then its form does not depend on them. */
bool ptq_sees_stats(const struct ptq_spec *, const struct ptq_cell *);
#endif
