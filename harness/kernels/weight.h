/* weight.h: one part of a stored form as a packed matrix. Private to kernels/. */
#ifndef PTQ_KERNELS_WEIGHT_H
#define PTQ_KERNELS_WEIGHT_H
#include "kernels/kernel.h"

struct ptq_kpart { /* what is packed */
    const struct ptq_part *part;
    int64_t rows, cols; /* of the stored matrix */
    unsigned cpu_flags;
};
/* UNIFORM, and CODEBOOK of single values. Columns are packed in the order of perm. PTQ_SKIP with
 * the reason for what a packed matrix cannot hold. */
int ptq_kweight_build(const struct ptq_kpart *, struct ptq_arena *, struct ptq_kweight *,
                      struct ptq_status *);
/* Factors of a LOWRANK part: rows and columns as shape says. One scale a row, or NULL: 1. */
struct ptq_kfactor {
    const struct ptq_arr *values, *row_scale;
    int64_t rows, cols;
    unsigned cpu_flags;
};
int ptq_kweight_factor(const struct ptq_kfactor *, struct ptq_arena *, struct ptq_kweight *,
                       struct ptq_status *);
/* CODEBOOK of vectors. */
int ptq_kvector_build(const struct ptq_kpart *, struct ptq_arena *, struct ptq_kvector *,
                      struct ptq_status *);
/* A book's values as fp32, as quant/ has them. */
const float *ptq_kbooks(const struct ptq_part *, struct ptq_arena *, struct ptq_status *);
#endif
