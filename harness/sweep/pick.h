/* pick.h: one model row of a finished sweep with the stored forms of its layers: a quantized model
 * again. */
#ifndef PTQ_SWEEP_PICK_H
#define PTQ_SWEEP_PICK_H
#include "core/json.h"
#include "model/model.h"
#include "sweep/formpack.h"
#include "sweep/row.h"

/* A field of the row (row.h) and the value it must have, as text: "bits", "4". Numbers compare as
 * numbers; of "key" a beginning will do. */
struct ptq_row_pick {
    const char *field, *value;
};
struct ptq_pick_args {
    const char *run_dir;
    const struct ptq_row_pick *picks;
    int n_picks;
    bool any_build; /* forms that another build made will do */
};
struct ptq_picked {
    const char *run_dir;
    struct ptq_rows rows;
    const json_t *row;
    json_t *forms; /* layer -> form key */
    struct ptq_pack *pack;
};
/* Exactly one model row must match: PTQ_ERR_USAGE names the candidates and what tells them apart.
 * Release it in any case. */
int ptq_pick(const struct ptq_pick_args *, struct ptq_picked *, struct ptq_status *);
void ptq_picked_release(struct ptq_picked *);
/* The model that the row was measured on: at source, or where the row says when that is NULL. Its
 * contents and the layers are checked against the row's form key. */
int ptq_picked_model(const struct ptq_picked *, const char *source, struct ptq_model **,
                     struct ptq_status *);
/* The stored form of a layer, of the layer's shape; release it. PTQ_SKIP: the row left that layer
 * alone. */
int ptq_picked_form(const struct ptq_picked *, const struct ptq_linear *, struct ptq_result *,
                    struct ptq_status *);

/* Fields that tell a setting from another; layer rows and the model row of one setting agree in
 * them. Ends with NULL. */
extern const char *const ptq_setting_fields[];
#endif
