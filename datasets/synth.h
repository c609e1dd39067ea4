/* synth.h: generators of data. A file datasets/synth_NAME.c exports `const struct ptq_synth
 * ptq_synth_NAME` and is then a subcommand of `ptq synth` (the folder is the registry). */
#ifndef PTQ_DATASETS_SYNTH_H
#define PTQ_DATASETS_SYNTH_H
#include "core/arena.h"

struct ptq_synth_opt {
    const char *name, *def, *help;
}; /* name: long option without the dashes; def NULL: required */
struct ptq_synth {
    const char *name, *title;
    const struct ptq_synth_opt *opts; /* ends with name == NULL */
    /* values: one text per option, in the order of opts, defaults filled in. Text results go to
     * text_out (FILE *); files are named by an option of the generator. */
    int (*run)(const char *const *values, void *text_out, struct ptq_status *);
};
const struct ptq_synth *const *ptq_synths(void);          /* NULL-terminated, in name order */
const struct ptq_synth *ptq_synth_find(const char *name); /* or NULL */
#endif
