/* rowq_minmax_scalar.c: round to nearest between minimum and maximum. */
#include "kernels/rowq.h"

const struct ptq_kernel ptq_kernel_rowq_minmax_scalar = {.op = PTQ_KOP_ROWQ_MINMAX,
                                                         .run.rowq = ptq_rowq_minmax_plain};
