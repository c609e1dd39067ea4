/* rowq_minmax_avx2.c: round to nearest between minimum and maximum, 8 weights at a time. */
#include "kernels/rowq.h"
#pragma GCC target("avx2,fma,bmi2")
#include "kernels/rowq_avx2.h"

static void minmax(struct ptq_rowq *q)
{
    rowq_round(q, ptq_rowq_grid_of(rowq_range(q->w, q->n), q->bits));
}

const struct ptq_kernel ptq_kernel_rowq_minmax_avx2 = {.op = PTQ_KOP_ROWQ_MINMAX,
                                                       .isa = PTQ_ISA_AVX2,
                                                       .needs = PTQ_CPU_AVX2,
                                                       .rank = 10,
                                                       .run.rowq = minmax};
