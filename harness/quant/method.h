/* method.h: the registry of methods, their options and presets. A method is one file of
 * methods/; its table entry is made by the Makefile (gen/methods.inc). A method SPEC is the text
 * "name" or "name:option=value:option=value", where name is a preset of configs/presets.ini or,
 * failing that, a method. Beside a method's own options every SPEC takes grid=minmax|mse|hess,
 * which then wins over the cell's grid ("rtn:grid=mse"). */
#ifndef PTQ_QUANT_METHOD_H
#define PTQ_QUANT_METHOD_H
#include "core/arena.h"

enum ptq_precision { PTQ_SINGLE, PTQ_DOUBLE_PRECISION };

struct ptq_method_entry {
    const char *name;
    const char *version; /* hash of the source, made by the Makefile */
    const struct ptq_method *single, *dbl;
};
const struct ptq_method_entry *ptq_methods(int *n);               /* name order */
const struct ptq_method_entry *ptq_method_find(const char *name); /* or NULL */

/* A method with all its options set. Lives in the arena it was parsed into. */
struct ptq_spec {
    const struct ptq_method_entry *entry;
    const char *name;  /* the preset or method as written, without options: "gptq-paper" */
    const char *label; /* as written with the options given: "gptq-paper:percdamp=0.1" */
    /* every option with its value, in table order, "act_order=1:static_groups=1:...", after the
     * method's normalise: goes into keys */
    const char *canonical;
    void *opts;    /* opts_size bytes as the method wants them; NULL without options */
    bool has_grid; /* the spec names a grid of its own: it wins over the cell's */
    enum ptq_grid grid;
};
/* What its method needs with these options (enum ptq_needs). */
unsigned ptq_spec_needs(const struct ptq_spec *);
/* The cell as the spec runs it: its own grid put in. Keys and rows take this one. */
void ptq_spec_cell(const struct ptq_spec *, const struct ptq_cell *cell, struct ptq_cell *out);
/* Parses one SPEC without sweep alternatives. Unknown method or option: PTQ_ERR_USAGE with the
 * nearest valid word. */
int ptq_spec_parse(const char *text, struct ptq_arena *, struct ptq_spec *, struct ptq_status *);
/* "gptq:percdamp=0.01|0.1:act_order=0|1" -> the cross product, the last option fastest. */
int ptq_spec_expand(const char *text, struct ptq_arena *, struct ptq_spec **, int64_t *n,
                    struct ptq_status *);

/* Value of one option inside an option struct: a bool, whole number, real or index of a choice. */
double ptq_opt_value(const struct ptq_opt *, const void *opts);

/* The words of a cell's enums, in the order of the enums, NULL at the end. */
extern const char *const ptq_grid_words[];     /* minmax mse hess */
extern const char *const ptq_sym_kind_words[]; /* full gptq absmax */
extern const char *const ptq_scale_words[];    /* f16 bf16 f32: enum ptq_fmt from PTQ_FMT_F16 on */

struct ptq_preset {
    const char *name, *method, *options, *help;
};
/* The presets of configs/presets.ini (sections [name] with method=, options= as in a SPEC,
 * help=). */
int ptq_presets(struct ptq_arena *, struct ptq_preset **, int64_t *n, struct ptq_status *);
#endif
