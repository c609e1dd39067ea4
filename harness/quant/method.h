/* method.h: the registry of methods, their options and presets.
 * A method is one file of methods/; its table entry is made by the Makefile (gen/methods.inc). A method SPEC is the text
 * "name" or "name:option=value:option=value", where name is a method or a preset of configs/presets.ini. */
#ifndef PTQ_QUANT_METHOD_H
#define PTQ_QUANT_METHOD_H
#include "core/arena.h"

enum ptq_precision { PTQ_SINGLE, PTQ_DOUBLE_PRECISION };

struct ptq_method_entry {
    const char *name;
    const char *version;                /* hash of the source, made by the Makefile */
    const struct ptq_method *single, *dbl;
};
const struct ptq_method_entry *ptq_methods(int *n);         /* name order */
const struct ptq_method_entry *ptq_method_find(const char *name); /* or NULL */

/* A method with all its options set. Lives in the arena it was parsed into. */
struct ptq_spec {
    const struct ptq_method_entry *entry;
    const char *name;       /* the preset or method as written, without options: "gptq-paper" */
    const char *label;      /* as written with the options given: "gptq-paper:percdamp=0.1" */
    const char *canonical;  /* every option with its value, in table order, "act_order=1:static_groups=1:...": goes into keys */
    void *opts;             /* opts_size bytes as the method wants them; NULL without options */
};
/* Parses one SPEC without sweep alternatives. Unknown method or option: PTQ_ERR_USAGE with the nearest valid word. */
int ptq_spec_parse(const char *text, struct ptq_arena *, struct ptq_spec *, struct ptq_status *);
/* "gptq:percdamp=0.01|0.1:act_order=0|1" -> the cross product in order. */
int ptq_spec_expand(const char *text, struct ptq_arena *, struct ptq_spec **, int64_t *n, struct ptq_status *);

struct ptq_preset { const char *name, *method, *options, *help; };
/* The presets of configs/presets.ini (sections [name] with method=, options=, help=). */
int ptq_presets(struct ptq_arena *, struct ptq_preset **, int64_t *n, struct ptq_status *);
#endif
