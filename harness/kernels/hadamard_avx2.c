/* hadamard_avx2.c: butterflies in registers: 256 floats through their first 8 distances, then
 * four distances a pass. Butterflies of one distance are independent, so any order gives the bits.
 */
#include "kernels/kernel.h"
#pragma GCC target("avx2,fma,bmi2")
#include <immintrin.h>

/* Butterfly of distance d < 8 within a register: partner + x where the lane's bit d is 0, partner -
 * x where it is 1; a product with +-1 is exact. */
static inline __m256 within(__m256 x)
{
    const __m256 by1 = _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1),
                 by2 = _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1),
                 by4 = _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1);
    x = _mm256_fmadd_ps(x, by1, _mm256_permute_ps(x, 0xb1));
    x = _mm256_fmadd_ps(x, by2, _mm256_permute_ps(x, 0x4e));
    return _mm256_fmadd_ps(x, by4, _mm256_permute2f128_ps(x, x, 1));
}

/* Distances 1, 2 .. n / 2 between registers. */
static inline __attribute__((always_inline)) void between(__m256 *x, int n)
{
#pragma GCC unroll 4
    for (int d = 1; d < n; d *= 2)
#pragma GCC unroll 8
        for (int i = 0; i < n; i++)
            if (!(i & d)) {
                const __m256 a = x[i], b = x[i + d];
                x[i] = _mm256_add_ps(a, b);
                x[i + d] = _mm256_sub_ps(a, b);
            }
}

/* n registers, `step` floats apart, through the distances between them; in registers as n is a
 * constant where this is called. */
static inline __attribute__((always_inline)) void columns(float *x, int64_t step, int n,
                                                          bool inside)
{
    __m256 v[8];
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) {
        v[i] = _mm256_loadu_ps(x + i * step);
        if (inside)
            v[i] = within(v[i]);
    }
    between(v, n);
#pragma GCC unroll 8
    for (int i = 0; i < n; i++)
        _mm256_storeu_ps(x + i * step, v[i]);
}

/* Distances below 64 of n <= 64 floats, n >= 8. */
static void short_block(float *x, int64_t n)
{
    switch (n) {
    case 8: columns(x, 8, 1, true); break;
    case 16: columns(x, 8, 2, true); break;
    case 32: columns(x, 8, 4, true); break;
    default: columns(x, 8, 8, true);
    }
}

/* Distances step .. step * radix / 2 of a block of radix * step floats. */
static void long_block(float *x, int64_t step, int radix)
{
    for (int64_t j = 0; j < step; j += 8)
        switch (radix) {
        case 2: columns(x + j, step, 2, false); break;
        case 4: columns(x + j, step, 4, false); break;
        default: columns(x + j, step, 8, false);
        }
}

static void one_block(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += 64)
        short_block(x + i, n < 64 ? n : 64);
    for (int64_t step = 64; step < n; step *= 8) {
        const int radix = n / step < 8 ? (int)(n / step) : 8;
        for (int64_t i = 0; i < n; i += step * radix)
            long_block(x + i, step, radix);
    }
}

static void tiny_blocks(float *x, int64_t n, int64_t blocks)
{
    for (int64_t d = 1; d < n; d *= 2)
        for (int64_t i = 0; i < n * blocks; i++)
            if (!(i & d)) {
                const float a = x[i], b = x[i + d];
                x[i] = a + b;
                x[i + d] = a - b;
            }
}

static void hadamard(float *x, int64_t n, int64_t blocks)
{
    if (n < 8) {
        tiny_blocks(x, n, blocks);
        return;
    }
    for (int64_t i = 0; i < blocks; i++)
        one_block(x + i * n, n);
}

const struct ptq_kernel ptq_kernel_hadamard_avx2 = {.op = PTQ_KOP_HADAMARD,
                                                    .isa = PTQ_ISA_AVX2,
                                                    .needs = PTQ_CPU_AVX2,
                                                    .rank = 10,
                                                    .run.hadamard = hadamard};
