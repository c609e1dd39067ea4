/* inspection.h: a run under inspection, for the rules of invariants.c. Private to analysis/. */
#ifndef PTQ_ANALYSIS_INSPECTION_H
#define PTQ_ANALYSIS_INSPECTION_H
#include "analysis/invariants.h"
#include "quant/method.h"
#include "sweep/formpack.h"
#include "sweep/row.h"

enum ptq_form_state { PTQ_FORM_ABSENT, PTQ_FORM_DAMAGED, PTQ_FORM_INVALID, PTQ_FORM_READ };
struct ptq_form_look { /* what a stored form showed; a fault is a text, "" when there is none */
    const json_t *row;
    enum ptq_form_state state;
    bool transforms; /* it treats its inputs */
    bool divides;    /* by a divisor, without a split */
    char round_trip[160], ledger[160], transform[200];
    bool no_bits; /* the row does not hold bits_stored */
};

struct ptq_inspection {
    const struct ptq_invariants_args *args;
    const json_t **layers; /* finished layer rows, report order */
    int64_t n_layers;
    /* layer, cell and text of a row, without method and calibration draw -> indices in layers */
    json_t *by_cell;
    struct ptq_form_look *forms; /* [n_layers], looked at when a rule first asks */
    struct ptq_arena *arena;
    struct ptq_status *st;
    struct ptq_rule_result *now; /* of the rule that runs */
    /* The last SPEC that ptq_row_spec parsed and its text: rows of one setting follow each other.
     */
    struct ptq_spec spec;
    const char *spec_text;
};

/* A broken rule: n_broken is counted, the text kept while there is room. */
void ptq_broken(struct ptq_inspection *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Why something was left out; the first reason stays. */
void ptq_not_checked(struct ptq_inspection *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* "gptq b3 g64 blk.0.attn_q" */
const char *ptq_row_place(const struct ptq_inspection *, const json_t *row);
/* Rows of the same layer and cell, of any method and draw. */
const json_t *ptq_same_cell(const struct ptq_inspection *, const json_t *row);
/* The row's method with its options; NULL: not of this build. Valid until the next call. */
const struct ptq_spec *ptq_row_spec(struct ptq_inspection *, const json_t *row);
bool ptq_row_is_base(const json_t *row, const char *base);

/* inspect_forms.c */
int ptq_look_at_forms(struct ptq_inspection *);
/* inspect_weights.c: forms that divide, looked at before, against their layers' weights */
int ptq_compare_weights(struct ptq_inspection *);
/* One form of a single uniform part. */
void ptq_try_weights(struct ptq_inspection *, const struct ptq_cmat *w, const struct ptq_quant *,
                     const json_t *row);
/* inspect_identity.c */
/* The row's layer as its source holds it; refused when the source is no longer what the row says.
 */
int ptq_row_weights(const json_t *row, struct ptq_arena *, struct ptq_cmat *, struct ptq_status *);
int ptq_check_identity(struct ptq_inspection *);
/* One row's method and cell on a layer whose Hessian is a multiple of the identity. */
int ptq_try_identity(struct ptq_inspection *, const struct ptq_layer *, const json_t *row);
#endif
