/* checkpoint.h: what `ptq inspect` says of a model's tensors, whatever file they lie in: names,
 * shapes and metadata; weights are not read. */
#ifndef PTQ_CLI_CHECKPOINT_H
#define PTQ_CLI_CHECKPOINT_H
#include <stdio.h>
#include "core/status.h"

struct ptq_checkpoint;
int ptq_checkpoint_open(struct ptq_checkpoint **, const char *source, struct ptq_status *);
void ptq_checkpoint_close(struct ptq_checkpoint *); /* NULL is fine */
/* Format, architecture, settings, stored types, tokenizer: a line each. */
void ptq_checkpoint_print(const struct ptq_checkpoint *, FILE *);
int64_t ptq_checkpoint_n_tensors(const struct ptq_checkpoint *);
struct ptq_checkpoint_row { /* one tensor, as texts */
    const char *name, *type;
    char shape[96], n[24];
};
void ptq_checkpoint_row(const struct ptq_checkpoint *, int64_t i, struct ptq_checkpoint_row *);
#endif
