/* matmul_i8_avx2.c: packed weights by int8 activations on any AVX2: vpmaddubsw. */
#define I8_VNNI 0
#include "kernels/i8_avx2.h"

const struct ptq_kernel ptq_kernel_matmul_i8_avx2 = {.op = PTQ_KOP_MATMUL_I8,
                                                     .isa = PTQ_ISA_AVX2,
                                                     .needs = PTQ_CPU_AVX2,
                                                     .rank = 20,
                                                     .serves = serves,
                                                     .run.matmul = matmul};
