/* hadamard_avx2.c: butterflies in registers: 64 floats through their first 6 distances,
 * then 3 distances a pass. */
#include "kernels/kernel.h"
#pragma GCC target("avx2,fma,bmi2")
#include "kernels/vec_avx2.h"

/* Butterfly of distance d < 8 within a register: partner + x where the lane's bit d is 0, partner -
 * x where it is 1; a product with +-1 is exact. */
KINLINE vecf within(vecf x)
{
    const vecf by1 = _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1),
               by2 = _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1),
               by4 = _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1);
    x = _mm256_fmadd_ps(x, by1, _mm256_permute_ps(x, 0xb1));
    x = _mm256_fmadd_ps(x, by2, _mm256_permute_ps(x, 0x4e));
    return _mm256_fmadd_ps(x, by4, _mm256_permute2f128_ps(x, x, 1));
}

#include "kernels/hadamard.h"

const struct ptq_kernel ptq_kernel_hadamard_avx2 = {.op = PTQ_KOP_HADAMARD,
                                                    .isa = PTQ_ISA_AVX2,
                                                    .needs = PTQ_CPU_AVX2,
                                                    .rank = 10,
                                                    .run.hadamard = hadamard};
