/* matmul_f32_avx512.c: packed weights by fp32 activations, 16 rows a register.
 *
 * Vector operations of the inner loops a 64-byte line, gcc 12 (loads and broadcasts come on top; no
 * spills but up to 6 of 480 instructions in tiles 4 x 2, 7 x 1, 8 x 1):
 *   1 token, 4 parts   multiply-adds  lookups  shifts  others            cycles a line, Zen 5
 *     4 bits                8            8       7                               7.3
 *     3 bits               10.7         10.7    12.3   2.7 selections           11.0
 *     2 bits               16           16       7                              12.9
 *     8 bits                4                    3     3 masks, 4 conversions    4.9
 *   8 tokens, 1 part, 4 bits: 64, 8, 7 and 32 broadcasts in 33.5 cycles, of which 32 are the
 *   multiply-adds'.
 * The bound: two multiply-adds and two lookups a cycle on three ports together, measured alone 8 +
 * 8 in 6.3 cycles, 8 + 8 + 8 shifts in 6.9. Memory gives a line to each of two threads every 13. */
#include "kernels/f32_avx512.h"

/* Of 32 registers 16 hold chains: gcc spills them from 20 on. */
enum { MAX_TOKENS = 8, MAX_PARTS = 4, MAX_SUMS = 8 };
#define TILES(X)                                                                                   \
    X(1, 4) X(2, 2) X(3, 2) X(4, 2) X(1, 1) X(2, 1) X(3, 1) X(4, 1) X(5, 1) X(6, 1) X(7, 1) X(8, 1)
#include "kernels/matmul_f32.h"

const struct ptq_kernel ptq_kernel_matmul_f32_avx512 = {.op = PTQ_KOP_MATMUL_F32,
                                                        .isa = PTQ_ISA_AVX512,
                                                        .needs = PTQ_CPU_AVX512,
                                                        .rank = 40,
                                                        .run.matmul = matmul};
