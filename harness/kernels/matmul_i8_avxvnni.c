/* matmul_i8_avxvnni.c: packed weights by int8 activations, vpdpbusd of 256 bits. */
#define I8_VNNI 1
#include "kernels/i8_avx2.h"

const struct ptq_kernel ptq_kernel_matmul_i8_avxvnni = {.op = PTQ_KOP_MATMUL_I8,
                                                        .isa = PTQ_ISA_AVX2,
                                                        .needs = PTQ_CPU_AVX2 | PTQ_CPU_AVX_VNNI,
                                                        .rank = 25,
                                                        .serves = serves,
                                                        .run.matmul = matmul};
