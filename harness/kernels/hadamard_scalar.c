/* hadamard_scalar.c: butterflies of one distance after the other. */
#include "kernels/kernel.h"

static void hadamard(float *x, int64_t n, int64_t blocks)
{
    for (int64_t d = 1; d < n; d *= 2)
        for (int64_t i = 0; i < n * blocks; i += 2 * d)
            for (int64_t j = i; j < i + d; j++) {
                const float a = x[j], b = x[j + d];
                x[j] = a + b;
                x[j + d] = a - b;
            }
}

const struct ptq_kernel ptq_kernel_hadamard_scalar = {.op = PTQ_KOP_HADAMARD,
                                                      .run.hadamard = hadamard};
