/* gemv_i8_avx512.c: product of one token of int8 with packed weights, vpdpbusd on 512 bits. Memory
 * binds: instructions of the inner loop for one line of 64 bytes, prefetch and loop included:
 *   codes of 2 bits 14, 3 bits 18.3, 4 bits 7, 8 bits 4; tables of 2 bits 22, 3 bits 20.3, 4 bits
 * 10 while one thread's line takes about 1.9 ns, 7 cycles or 30 to 50 instructions, to arrive. Zen
 * 5, 4096 x 11008 in groups of 128, rotated through 230 MB, against a plain read of the same bytes
 * before each product, best of 60 each, range of three runs on a loaded machine: one thread 4 bits
 * .89 .. 1.03, 3 bits .95 .. 1.02, 2 bits .92 .. 1.06, 8 bits .96 .. 1.05, tables .94 .. 1.06; two
 * threads .88 .. 1.04. */
#include "kernels/panel_avx512.h"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")

/* The prototype got .55 of the read bandwidth without, .85 with this. */
enum { AHEAD_BYTES = 8 << 10 };

/* Even and odd steps have accumulators of their own: the chain of one, 4 cycles a vpdpbusd, would
 * need the time the line needs from the second-level cache. */
#define STEP(step, p, q)                                                                           \
    {                                                                                              \
        const struct panel_step code = panel_decode(bits, table, unit, step, g.book);              \
        const __m512i b = panel_x(x, step);                                                        \
        PANEL_DOT(p, code.low, b);                                                                 \
        PANEL_DOT(q, code.high, b);                                                                \
    }

PANEL_INLINE void gemv(const struct ptq_kweight *w, const struct ptq_kacts *acts, int64_t panel,
                       float *y, const int bits, const bool table)
{
    const int shift = panel_high_shift(bits, table);
    const uint8_t *unit = w->codes + panel * w->panel_bytes;
    const int8_t *x = acts->i8;
    __m512 low = _mm512_setzero_ps(), high = low;
    for (int64_t at = 0; at < w->groups; at++) {
        const struct panel_group g = panel_group(w, table, panel, at);
        __m512i p0 = _mm512_setzero_si512(), q0 = p0, p1 = p0, q1 = p0;
        for (int64_t n = ptq_group_units(w, at); n > 0; n--) {
            panel_prefetch(unit, AHEAD_BYTES, bits);
            STEP(0, p0, q0)
            STEP(1, p1, q1) STEP(2, p0, q0) STEP(3, p1, q1) unit += LINE_BYTES * bits;
            x += PTQ_PANEL_COLS;
        }
        p0 = _mm512_add_epi32(p0, p1);
        q0 = _mm512_add_epi32(q0, q1);
        low = panel_flush(&g, table, true, shift, 0, p0, acts->sum8 + at, low);
        high = panel_flush(&g, table, true, shift, 1, q0, acts->sum8 + at, high);
    }
    float acc[PTQ_PANEL_ROWS] __attribute__((aligned(64)));
    _mm512_store_ps(acc, low);
    _mm512_store_ps(acc + 16, high);
    panel_store(w, panel, acts->scale[0], acc, y);
}

#define PANELS(name, bits, table)                                                                  \
    static void name(const struct ptq_kweight *w, const struct ptq_kacts *x, int64_t begin,        \
                     int64_t end, float *y, int64_t ldy)                                           \
    {                                                                                              \
        (void)ldy;                                                                                 \
        for (int64_t panel = begin; panel < end; panel++)                                          \
            gemv(w, x, panel, y, bits, table);                                                     \
    }
PANELS(int2, 2, false)
PANELS(int3, 3, false)
PANELS(int4, 4, false)
PANELS(int8, 8, false)
PANELS(book2, 2, true)
PANELS(book3, 3, true)
PANELS(book4, 4, true)

static void matmul(const struct ptq_kweight *w, const struct ptq_kacts *x, int64_t begin,
                   int64_t end, float *y, int64_t ldy)
{
    static ptq_matmul_fn *const fn[2][9] = {{[2] = int2, [3] = int3, [4] = int4, [8] = int8},
                                            {[2] = book2, [3] = book3, [4] = book4}};
    fn[w->code == PTQ_KCODE_TABLE][w->bits](w, x, begin, end, y, ldy);
}

static bool serves(const struct ptq_kweight *w, int64_t n_tokens)
{
    return n_tokens == 1 && ptq_panel_i8_serves(w);
}

const struct ptq_kernel ptq_kernel_gemv_i8_avx512 = {.op = PTQ_KOP_MATMUL_I8,
                                                     .isa = PTQ_ISA_AVX512,
                                                     .needs = PTQ_CPU_AVX512 | PTQ_CPU_AVX512_VNNI,
                                                     .rank = 40,
                                                     .serves = serves,
                                                     .run.matmul = matmul};
