/* rowq_mse_scalar.c: round to nearest on the best of 80 shrunk ranges. */
#include "kernels/rowq.h"

const struct ptq_kernel ptq_kernel_rowq_mse_scalar = {.op = PTQ_KOP_ROWQ_MSE,
                                                      .run.rowq = ptq_rowq_mse_plain};
