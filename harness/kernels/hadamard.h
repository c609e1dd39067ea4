/* hadamard.h: butterflies in registers. Body of hadamard_ISA.c, which has vec_ISA.h before and
 * within(), the distances below LANES of one register.
 *
 * LANES registers hold LANES^2 floats: those go through all their distances in one pass, and from
 * there on a pass takes as many registers, each a distance apart, through the next log2 LANES
 * distances (the last pass what is left). Butterflies of one distance are independent, so any order
 * gives the bits. */
#ifndef PTQ_KERNELS_HADAMARD_H
#define PTQ_KERNELS_HADAMARD_H

extern const struct ptq_kernel ptq_kernel_hadamard_scalar;

enum { IN_REGISTERS = LANES * LANES };

/* Distances 1, 2 .. n / 2 between registers. */
KINLINE void between(vecf *x, const int n)
{
#pragma GCC unroll 4
    for (int d = 1; d < n; d *= 2)
#pragma GCC unroll 16
        for (int i = 0; i < n; i++)
            if (!(i & d)) {
                const vecf a = x[i], b = x[i + d];
                x[i] = a + b;
                x[i + d] = a - b;
            }
}

/* n registers, `step` floats apart, through the distances between them (and inside them). */
KINLINE void columns_of(float *x, int64_t step, const int n, const bool inside)
{
    vecf v[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < n; i++) {
        v[i] = vec_load(x + i * step);
        if (inside)
            v[i] = within(v[i]);
    }
    between(v, n);
#pragma GCC unroll 16
    for (int i = 0; i < n; i++)
        vec_store(x + i * step, v[i]);
}

KINLINE void strip_of(float *x, int64_t step, int64_t width, const int n, const bool inside)
{
    for (int64_t j = 0; j < width; j += LANES)
        columns_of(x + j, step, n, inside);
}

/* The first `width` columns of n = 1, 2, 4 .. LANES rows that lie `step` floats apart; n is a
 * constant in each case, so that all stays in registers. */
KINLINE void strip(float *x, int64_t step, int64_t width, int n, const bool inside)
{
    switch (n) {
    case 1: strip_of(x, step, width, 1, inside); break;
    case 2: strip_of(x, step, width, 2, inside); break;
    case 4: strip_of(x, step, width, 4, inside); break;
    case LANES: strip_of(x, step, width, LANES, inside); break;
    default: strip_of(x, step, width, 8, inside);
    }
}

/* Distances below IN_REGISTERS of n <= IN_REGISTERS floats. */
static void short_block(float *x, int64_t n)
{
    strip(x, LANES, LANES, (int)(n / LANES), true);
}

/* Distances step .. step * radix / 2 of a block of radix * step floats. */
static void long_block(float *x, int64_t step, int radix)
{
    strip(x, step, step, radix, false);
}

static void one_block(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += IN_REGISTERS)
        short_block(x + i, n < IN_REGISTERS ? n : IN_REGISTERS);
    for (int64_t step = IN_REGISTERS; step < n; step *= LANES) {
        const int radix = n / step < LANES ? (int)(n / step) : LANES;
        for (int64_t i = 0; i < n; i += step * radix)
            long_block(x + i, step, radix);
    }
}

static void hadamard(float *x, int64_t n, int64_t blocks)
{
    if (n < LANES) {
        ptq_kernel_hadamard_scalar.run.hadamard(x, n, blocks);
        return;
    }
    for (int64_t i = 0; i < blocks; i++)
        one_block(x + i * n, n);
}
#endif
