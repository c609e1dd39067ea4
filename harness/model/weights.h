/* weights.h: tensors of a model by canonical name, whatever the file calls them and however it
 * stores them (struct ptq_name): transposed, fused, permuted. Read by rows, so that no tensor need
 * be in memory as a whole. */
#ifndef PTQ_MODEL_WEIGHTS_H
#define PTQ_MODEL_WEIGHTS_H
#include "model/model.h"

struct ptq_tensors;
/* Where a canonical tensor lies. */
struct ptq_piece {
    const struct ptq_tensor *tensor; /* NULL: the file has none of the name */
    char stored[200];                /* the name looked for, as the file would call it */
    unsigned as;                     /* enum ptq_stored_as */
    int part;
};
void ptq_weights_find(const struct ptq_model *, const char *canonical, struct ptq_piece *);
/* The same in another file that holds a model of this architecture, whatever its names: where the
 * tensor would lie there (p->tensor is NULL where it lies packed, under other names). False: that
 * kind of file does not know the architecture. */
bool ptq_weights_elsewhere(const struct ptq_model *, const struct ptq_tensors *,
                           const char *canonical, struct ptq_piece *);
bool ptq_weights_has(const struct ptq_model *, const char *canonical);
/* Presence and shape (d0 x d1; d1 == 0: a vector): PTQ_ERR_USAGE with file and tensor. */
int ptq_weights_check(const struct ptq_model *, const char *canonical, int64_t d0, int64_t d1,
                      struct ptq_status *);
/* Rows first .. first + n - 1 of a tensor that was checked (elements, of a vector); every value
 * finite, else PTQ_ERR_NUMERIC. */
struct ptq_weight_rows {
    const char *name; /* canonical */
    int64_t d0, d1;   /* its shape */
    int64_t first, n;
};
int ptq_weights_rows(const struct ptq_model *, const struct ptq_weight_rows *, float *out,
                     struct ptq_status *);
/* A row of the canonical tensor is this row of the stored one (column, when transposed). */
int64_t ptq_piece_row(const struct ptq_model_info *, const struct ptq_piece *, int64_t d0,
                      int64_t row);
/* Whole, into the arena. */
int ptq_weights_read(const struct ptq_model *, const char *canonical, int64_t d0, int64_t d1,
                     struct ptq_arena *, float **out, struct ptq_status *);
/* Some rows of a tensor of another file (ptq_weights_elsewhere), checked. */
int ptq_weights_rows_elsewhere(const struct ptq_model *, const struct ptq_tensors *,
                               const struct ptq_weight_rows *, float *out, struct ptq_status *);
/* The same, whole; first and n are not read. */
int ptq_weights_read_elsewhere(const struct ptq_model *, const struct ptq_tensors *,
                               const struct ptq_weight_rows *, struct ptq_arena *, float **out,
                               struct ptq_status *);
#endif
