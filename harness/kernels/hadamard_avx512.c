/* hadamard_avx512.c: butterflies in registers: 256 floats through their first 8 distances,
 * then 4 distances a pass. */
#include "kernels/kernel.h"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,bmi2")
#include "kernels/vec_avx512.h"

/* Butterfly of distance d < 16 within a register: partner + x where the lane's bit d is 0, partner
 * - x where it is 1; a product with +-1 is exact. */
#define WITHIN(x, swapped, odd)                                                                    \
    _mm512_fmadd_ps(                                                                               \
        x,                                                                                         \
        _mm512_castsi512_ps(_mm512_mask_blend_epi32(odd, _mm512_castps_si512(_mm512_set1_ps(1)),   \
                                                    _mm512_castps_si512(_mm512_set1_ps(-1)))),     \
        swapped)

KINLINE vecf within(vecf x)
{
    x = WITHIN(x, _mm512_permute_ps(x, 0xb1), 0xaaaa);
    x = WITHIN(x, _mm512_permute_ps(x, 0x4e), 0xcccc);
    x = WITHIN(x, _mm512_shuffle_f32x4(x, x, 0xb1), 0xf0f0);
    return WITHIN(x, _mm512_shuffle_f32x4(x, x, 0x4e), 0xff00);
}

#include "kernels/hadamard.h"

const struct ptq_kernel ptq_kernel_hadamard_avx512 = {.op = PTQ_KOP_HADAMARD,
                                                      .isa = PTQ_ISA_AVX512,
                                                      .needs = PTQ_CPU_AVX512,
                                                      .rank = 20,
                                                      .run.hadamard = hadamard};
