/* gemm_i8_avx512.c: products of several tokens of int8 with packed weights, vpdpbusd on 512 bits.
 *
 * A tile is a panel's 32 rows times up to 12 tokens: 24 accumulators of the 32 registers. In the
 * inner loop 12 tokens of 4 bits cost 161 instructions for 4 lines: 96 vpdpbusd, 48 broadcasts (on
 * the load ports), 8 masks, 4 prefetches, 5 of the loop; no register is spilled. Two vpdpbusd start
 * a cycle, so they bind: 48 cycles. 8 tokens: 117 for 4 lines, 32 cycles. 12 tokens of 3 bits take
 * 193 for 3 lines, of 8 bits 169 for 8, of a table of 4 bits 175 for 4: decoding hides behind the
 * same 48 cycles.
 *
 * Zen 5, one thread, 4096 x 11008 in groups of 128 from memory, share of the peak of vpdpbusd on
 * registers in the same run, by time on the processor, median of runs on a loaded machine and the
 * best of them:
 *   4 bits       n = 8 .79 (.85), 12 .85 (.88), 24 .86 (.87), 128 .85 (.86), 512 .83
 *   2, 3, 8 bits n = 24 .88, .84, .78; tables of 2, 3, 4 bits .86, .81, .82; n = 13 .81, 20 .84
 *   4 bits       n = 24, groups of 32 .67, 64 .78, whole rows .92
 * 8 bits at n = 8 are read at the speed of memory, as are 4 bits by two threads (.94 of a plain
 * read, .63 of the peak).
 *
 * What a group adds is its end: 24 x (vpdpwssd, vcvtdq2ps, vfmadd, store), the first and third on
 * the ports of vpdpbusd: 24 cycles to 384 of a group of 128 or 96 of one of 32. With no arithmetic
 * there .91 and .85 were seen.
 * Tried, without gain: vpmulld in place of vpdpwssd (-.02); blocks of 2 or 8 tiles (within .01);
 * pieces of 1024 or 2048 columns, so that x stays in the first-level cache (-.1: sums go to and
 * from y); prefetching 2 KiB ahead (-.25 at n = 8), 4 (-.08) or 12 (as 8). */
#include <string.h>
#include "kernels/panel_avx512.h"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")

enum {
    TILE_TOKENS = 12,
    /* of x, interleaved; with the panel it should stay in a second-level cache of 1 MiB, so
     * that weights are read once a block */
    BLOCK_TILES = 4,
    BLOCK_BYTES = TILE_TOKENS * PTQ_MAX_PCOLS, /* the longest group fits */
    AHEAD_BYTES = 8 << 10,                     /* codes to ask for while the ones here are used */
    AHEAD_GROUPS = 8
};

/* A panel's groups [begin, end) times one tile of tokens, whose x is interleaved: 16 bytes of each
 * token, unit after unit. */
struct piece {
    const struct ptq_kweight *w;
    const int8_t *x;
    const int32_t *sums; /* sum8 of the first token */
    float (*acc)[PTQ_PANEL_ROWS];
    int64_t panel, begin, end;
    int64_t ahead_bytes, ahead_groups;
};

/* Named accumulators: gcc 12 spills them at every step when they are an array. */
#define EACH(F)    F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11)
#define DECLARE(i) __m512i p##i = _mm512_setzero_si512(), q##i = p##i;
#define DOT(i)                                                                                     \
    if (i < tokens) {                                                                              \
        __m512i x_i = panel_x(x + PTQ_PANEL_COLS * i, s);                                          \
        PANEL_DOT(p##i, code.low, x_i);                                                            \
        PANEL_DOT(q##i, code.high, x_i);                                                           \
    }
#define STEP(step)                                                                                 \
    {                                                                                              \
        enum { s = step };                                                                         \
        const struct panel_step code = panel_decode(bits, table, unit, s, g.book);                 \
        EACH(DOT)                                                                                  \
    }
/* The barrier keeps loads of sums and acc behind the branch on wide: gcc would do them before it,
 * for both sides, and spill what it has loaded. */
#define FLUSH(i, wide)                                                                             \
    if (i < tokens) {                                                                              \
        __asm__ volatile("" ::: "memory");                                                         \
        const int32_t *sum = sums + i * groups + at;                                               \
        __m512 a = panel_flush(&g, table, wide, shift, 0, p##i, sum, _mm512_load_ps(acc[i]));      \
        __m512 b = panel_flush(&g, table, wide, shift, 1, q##i, sum, _mm512_load_ps(acc[i] + 16)); \
        _mm512_store_ps(acc[i], a);                                                                \
        _mm512_store_ps(acc[i] + 16, b);                                                           \
    }
#define FLUSH_NARROW(i) FLUSH(i, false)
#define FLUSH_WIDE(i)   FLUSH(i, true)

PANEL_INLINE void prefetch_group(const struct piece *t, int64_t group)
{
    const struct ptq_kweight *w = t->w;
    const int64_t at = (t->panel * w->groups + group + t->ahead_groups) * PTQ_PANEL_ROWS;
    if (w->scale16)
        _mm_prefetch((const char *)(w->scale16 + at), _MM_HINT_T0);
    if (w->zero)
        _mm_prefetch((const char *)(w->zero + at), _MM_HINT_T0);
}

PANEL_INLINE void tile(const struct piece *t, const int bits, const bool table, const int tokens)
{
    const struct ptq_kweight *w = t->w;
    const int shift = panel_high_shift(bits, table);
    /* copies: a store of a vector may alias anything, so fields would be read again behind it */
    const int64_t ahead = t->ahead_bytes, groups = w->groups, end = t->end;
    const int32_t *sums = t->sums;
    float(*acc)[PTQ_PANEL_ROWS] = t->acc;
    const bool wide = !table && panel_is_wide(w);
    const uint8_t *unit = w->codes + t->panel * w->panel_bytes +
                          t->begin * w->group / PTQ_PANEL_COLS * LINE_BYTES * bits;
    const int8_t *x = t->x;
    for (int64_t at = t->begin; at < end; at++) {
        const struct panel_group g = panel_group(w, table, t->panel, at);
        prefetch_group(t, at);
        EACH(DECLARE)
        for (int64_t n = ptq_group_units(w, at); n > 0; n--) {
            panel_prefetch(unit, ahead, bits);
            STEP(0) STEP(1) STEP(2) STEP(3) unit += LINE_BYTES * bits;
            x += PTQ_PANEL_COLS * tokens;
        }
        if (wide) {
            EACH(FLUSH_WIDE)
        } else {
            EACH(FLUSH_NARROW)
        }
    }
}

/* ---- a function for each format and number of tokens ---- */

#define TOKENS(F, ...)                                                                             \
    F(__VA_ARGS__, 1)                                                                              \
    F(__VA_ARGS__, 2)                                                                              \
    F(__VA_ARGS__, 3)                                                                              \
    F(__VA_ARGS__, 4)                                                                              \
    F(__VA_ARGS__, 5)                                                                              \
    F(__VA_ARGS__, 6)                                                                              \
    F(__VA_ARGS__, 7)                                                                              \
    F(__VA_ARGS__, 8)                                                                              \
    F(__VA_ARGS__, 9)                                                                              \
    F(__VA_ARGS__, 10)                                                                             \
    F(__VA_ARGS__, 11)                                                                             \
    F(__VA_ARGS__, 12)
#define DEFINE(name, bits, table, n)                                                               \
    static void name##_##n(const struct piece *t)                                                  \
    {                                                                                              \
        tile(t, bits, table, n);                                                                   \
    }
#define DEFINE_ALL(name, bits, table) TOKENS(DEFINE, name, bits, table)
PTQ_PANEL_FORMATS(DEFINE_ALL)

typedef void tile_fn(const struct piece *);
#define ENTRY(name, n)         name##_##n,
#define ROW(name, bits, table) [table][bits] = {NULL, TOKENS(ENTRY, name)},
static tile_fn *const tiles[2][9][TILE_TOKENS + 1] = {PTQ_PANEL_FORMATS(ROW)};

/* ---- blocks ---- */

static int64_t at_most(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t n_tiles(const struct ptq_kacts *x)
{
    return (x->n + TILE_TOKENS - 1) / TILE_TOKENS;
}

/* First token of a tile; all about the same size: 13 tokens are 6 and 7, not 12 and 1. */
static int64_t tile_begin(const struct ptq_kacts *x, int64_t tile)
{
    return x->n * tile / n_tiles(x);
}

/* Some tiles of tokens times some groups, for all panels asked for. */
struct block {
    const struct ptq_kweight *w;
    const struct ptq_kacts *x;
    int64_t tile, end_tile;
    int64_t begin, end; /* groups */
    float *y;           /* between the pieces of a row: its sum so far */
    int64_t ldy;
    int8_t *packed;
};

static int64_t block_cols(const struct block *b)
{
    return at_most(b->end * b->w->group, b->w->pcols) - b->begin * b->w->group;
}

/* Interleaved, a tile's x is one stream: tokens may lie a multiple of 4 KiB apart, where 12 of them
 * share the 12 ways of one set of the first-level cache (.60 of the peak instead of .77). */
static void pack_tokens(const struct block *b)
{
    const int64_t cols = block_cols(b);
    int8_t *to = b->packed;
    for (int64_t tile = b->tile; tile < b->end_tile; tile++) {
        const int64_t from = tile_begin(b->x, tile), n = tile_begin(b->x, tile + 1) - from;
        const int8_t *x = b->x->i8 + from * b->x->ld + b->begin * b->w->group;
        for (int64_t k = 0; k < cols; k += PTQ_PANEL_COLS)
            for (int64_t i = 0; i < n; i++, to += PTQ_PANEL_COLS)
                memcpy(to, x + i * b->x->ld + k, PTQ_PANEL_COLS);
    }
}

static void panel_of_tile(const struct block *b, int64_t panel, int64_t tile, const int8_t *packed)
{
    float acc[TILE_TOKENS][PTQ_PANEL_ROWS] __attribute__((aligned(64)));
    const struct ptq_kweight *w = b->w;
    const bool is_first = b->begin == 0, is_last = b->end == w->groups;
    const bool is_whole = is_first && is_last; /* the panels' codes are one stream */
    const int64_t token = tile_begin(b->x, tile), n = tile_begin(b->x, tile + 1) - token;
    const struct piece t = {.w = w,
                            .x = packed,
                            .sums = b->x->sum8 + token * w->groups,
                            .acc = acc,
                            .panel = panel,
                            .begin = b->begin,
                            .end = b->end,
                            .ahead_bytes = is_whole ? AHEAD_BYTES : w->panel_bytes,
                            .ahead_groups = is_whole ? AHEAD_GROUPS : w->groups};
    float *y = b->y + token * b->ldy;
    for (int64_t i = 0; i < n; i++)
        panel_load(w, panel, is_first, y + i * b->ldy, acc[i]);
    tiles[w->code == PTQ_KCODE_TABLE][w->bits][n](&t);
    for (int64_t i = 0; i < n; i++)
        panel_store(w, panel, is_last ? b->x->scale[token + i] : 1, acc[i], y + i * b->ldy);
}

static void run_panels(const struct block *b, int64_t begin, int64_t end)
{
    const int64_t first = tile_begin(b->x, b->tile), cols = block_cols(b);
    for (int64_t panel = begin; panel < end; panel++)
        for (int64_t tile = b->tile; tile < b->end_tile; tile++)
            panel_of_tile(b, panel, tile, b->packed + (tile_begin(b->x, tile) - first) * cols);
}

/* Rows whose x does not fit are cut into pieces of whole groups. */
static void run_block(struct block *b, int64_t begin, int64_t end)
{
    const int64_t n = tile_begin(b->x, b->end_tile) - tile_begin(b->x, b->tile);
    const int64_t step = BLOCK_BYTES / n / b->w->group;
    for (b->begin = 0; b->begin < b->w->groups; b->begin = b->end) {
        b->end = at_most(b->begin + step, b->w->groups);
        pack_tokens(b);
        run_panels(b, begin, end);
    }
}

static void matmul(const struct ptq_kweight *w, const struct ptq_kacts *x, int64_t begin,
                   int64_t end, float *y, int64_t ldy)
{
    int8_t packed[BLOCK_BYTES] __attribute__((aligned(64)));
    const int64_t most = at_most(BLOCK_TILES, BLOCK_BYTES / (TILE_TOKENS * w->group));
    for (int64_t tile = 0; tile < n_tiles(x); tile += most) {
        struct block b = {.w = w,
                          .x = x,
                          .tile = tile,
                          .end_tile = at_most(tile + most, n_tiles(x)),
                          .y = y,
                          .ldy = ldy,
                          .packed = packed};
        run_block(&b, begin, end);
    }
}

static bool serves(const struct ptq_kweight *w, int64_t n_tokens)
{
    (void)n_tokens;
    return ptq_panel_i8_serves(w);
}

const struct ptq_kernel ptq_kernel_gemm_i8_avx512 = {.op = PTQ_KOP_MATMUL_I8,
                                                     .isa = PTQ_ISA_AVX512,
                                                     .needs = PTQ_CPU_AVX512 | PTQ_CPU_AVX512_VNNI,
                                                     .rank = 30,
                                                     .serves = serves,
                                                     .run.matmul = matmul};
