/* formfile.h: stored forms in an HDF5 container: /quant/LAYER/{codes,scale,zero,perm,...,dequant},
 * /packed/LAYER (SCHEMA.md). */
#ifndef PTQ_QUANT_FORMFILE_H
#define PTQ_QUANT_FORMFILE_H
#include "quant/form.h"
#include "datasets/h5.h"

/* /packed/LAYER: 1-D uint8 with the head as attributes; with a divisor that folds into the producer
 * also /quant/LAYER/divisor, where it is read back from. */
int ptq_form_write_packed(struct ptq_h5 *, const char *layer, const struct ptq_quant *,
                          struct ptq_status *);
/* The matrix of the form may be far larger than the file: check its rows and cols. */
int ptq_form_read_packed(struct ptq_h5 *, const char *layer, struct ptq_arena *, struct ptq_quant *,
                         struct ptq_status *);
/* /quant/LAYER/...: codes one an element, rows x columns, original column order; scale and zero
 * (rows x groups_per_row) fp32; all other arrays in shapes of their own; what: the dequantized
 * matrix, left out when NULL. */
int ptq_form_write_quant(struct ptq_h5 *, const char *layer, const struct ptq_quant *,
                         const float *what, struct ptq_status *);
#endif
