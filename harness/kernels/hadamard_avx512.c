/* hadamard_avx512.c: butterflies in registers: 256 floats through their first 8 distances, then
 * four distances a pass. Butterflies of one distance are independent, so any order gives the bits.
 */
#include "kernels/kernel.h"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,bmi2")
#include <immintrin.h>

/* Butterfly of distance d < 16 within a register: partner + x where the lane's bit d is 0, partner
 * - x where it is 1; a product with +-1 is exact. */
#define WITHIN(x, swapped, odd)                                                                    \
    _mm512_fmadd_ps(                                                                               \
        x,                                                                                         \
        _mm512_castsi512_ps(_mm512_mask_blend_epi32(odd, _mm512_castps_si512(_mm512_set1_ps(1)),   \
                                                    _mm512_castps_si512(_mm512_set1_ps(-1)))),     \
        swapped)

static inline __m512 within(__m512 x)
{
    x = WITHIN(x, _mm512_permute_ps(x, 0xb1), 0xaaaa);
    x = WITHIN(x, _mm512_permute_ps(x, 0x4e), 0xcccc);
    x = WITHIN(x, _mm512_shuffle_f32x4(x, x, 0xb1), 0xf0f0);
    return WITHIN(x, _mm512_shuffle_f32x4(x, x, 0x4e), 0xff00);
}

/* Distances 1, 2 .. n / 2 between registers. */
static inline __attribute__((always_inline)) void between(__m512 *x, int n)
{
#pragma GCC unroll 4
    for (int d = 1; d < n; d *= 2)
#pragma GCC unroll 16
        for (int i = 0; i < n; i++)
            if (!(i & d)) {
                const __m512 a = x[i], b = x[i + d];
                x[i] = _mm512_add_ps(a, b);
                x[i + d] = _mm512_sub_ps(a, b);
            }
}

/* n registers, `step` floats apart, through the distances between them; in registers as n is a
 * constant where this is called. */
static inline __attribute__((always_inline)) void columns(float *x, int64_t step, int n,
                                                          bool inside)
{
    __m512 v[16];
#pragma GCC unroll 16
    for (int i = 0; i < n; i++) {
        v[i] = _mm512_loadu_ps(x + i * step);
        if (inside)
            v[i] = within(v[i]);
    }
    between(v, n);
#pragma GCC unroll 16
    for (int i = 0; i < n; i++)
        _mm512_storeu_ps(x + i * step, v[i]);
}

/* Distances below 256 of n <= 256 floats, n >= 16. */
static void short_block(float *x, int64_t n)
{
    switch (n) {
    case 16: columns(x, 16, 1, true); break;
    case 32: columns(x, 16, 2, true); break;
    case 64: columns(x, 16, 4, true); break;
    case 128: columns(x, 16, 8, true); break;
    default: columns(x, 16, 16, true);
    }
}

/* Distances step .. step * radix / 2 of a block of radix * step floats. */
static void long_block(float *x, int64_t step, int radix)
{
    for (int64_t j = 0; j < step; j += 16)
        switch (radix) {
        case 2: columns(x + j, step, 2, false); break;
        case 4: columns(x + j, step, 4, false); break;
        case 8: columns(x + j, step, 8, false); break;
        default: columns(x + j, step, 16, false);
        }
}

static void one_block(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += 256)
        short_block(x + i, n < 256 ? n : 256);
    for (int64_t step = 256; step < n; step *= 16) {
        const int radix = n / step < 16 ? (int)(n / step) : 16;
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
    if (n < 16) {
        tiny_blocks(x, n, blocks);
        return;
    }
    for (int64_t i = 0; i < blocks; i++)
        one_block(x + i * n, n);
}

const struct ptq_kernel ptq_kernel_hadamard_avx512 = {.op = PTQ_KOP_HADAMARD,
                                                      .isa = PTQ_ISA_AVX512,
                                                      .needs = PTQ_CPU_AVX512,
                                                      .rank = 20,
                                                      .run.hadamard = hadamard};
