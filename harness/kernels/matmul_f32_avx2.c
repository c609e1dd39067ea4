/* matmul_f32_avx2.c: packed weights by fp32 activations, 8 rows a register. */
#include "kernels/f32_avx2.h"

/* Of 16 registers at most 10 hold chains. A column of 5 tokens: 10 multiply-adds (5 cycles of two
 * units), 5 broadcasts, 2 decoded vectors of 2 to 4 operations each (tables of 16: 5). */
enum { MAX_TOKENS = 5, MAX_PARTS = 4, MAX_SUMS = 5 };
#define TILES(X) X(1, 4) X(2, 2) X(1, 1) X(2, 1) X(3, 1) X(4, 1) X(5, 1)
#include "kernels/matmul_f32.h"

const struct ptq_kernel ptq_kernel_matmul_f32_avx2 = {.op = PTQ_KOP_MATMUL_F32,
                                                      .isa = PTQ_ISA_AVX2,
                                                      .needs = PTQ_CPU_AVX2,
                                                      .rank = 20,
                                                      .run.matmul = matmul};
