/* rowq_minmax_avx512.c: round to nearest between minimum and maximum, 16 weights at a time. */
#include "kernels/rowq.h"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,bmi2")
#include "kernels/rowq_avx512.h"

static void minmax(struct ptq_rowq *q)
{
    rowq_round(q, ptq_rowq_grid_of(rowq_range(q->w, q->n), q->bits));
}

const struct ptq_kernel ptq_kernel_rowq_minmax_avx512 = {.op = PTQ_KOP_ROWQ_MINMAX,
                                                         .isa = PTQ_ISA_AVX512,
                                                         .needs = PTQ_CPU_AVX512,
                                                         .rank = 20,
                                                         .run.rowq = minmax};
