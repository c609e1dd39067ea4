/* i8_avx2.h: products of packed weights with int8 activations on 256 bits, 8 rows a register.
 * I8_VNNI, defined by the file that includes this, says how a dot is taken: vpdpbusd, or vpmaddubsw
 * (two products to 16 bits, which must not saturate) and vpmaddwd (to 32 bits).
 *
 * A unit is 16 columns: `bits` lines. An octet is 8 rows of it, one register of codes a step; octet
 * i holds rows 8 i .., and octets i and i + 2 lie in the same halves of lines. A slab is what 8 of
 * the 16 registers hold while all tokens pass by: two octets, or one whose bytes are split in
 * nibbles. The dots of a group wait in memory, as few as fit no registers: with one load and one
 * store for 4 steps they cost less than decoding again for every few tokens.
 *
 * Without vpdpbusd codes of 2 to 4 bits are added in 16 bits first: 8 products of a unit are at most
 * 8 * 15 * 127 = 15,240. Bytes (8 bits, tables) are two nibbles, 16 high + low: twice the work. */
#ifndef PTQ_KERNELS_I8_AVX2_H
#define PTQ_KERNELS_I8_AVX2_H
#include <string.h>
#include "kernels/kernel.h"
#pragma GCC target("avx2,fma,f16c,bmi2")
#include <immintrin.h>

#define KINLINE static inline __attribute__((always_inline))
/* Constant bounds; a register each. */
#define EACH(i, n) _Pragma("GCC unroll 8") for (int i = 0; i < (n); i++)

enum {
    LINE_BYTES = 64,
    N_OCTETS = 4,
    MAX_TOKENS = 32,
    /* of x, interleaved; the longest row times 12 tokens fits */
    BLOCK_BYTES = 12 * PTQ_MAX_PCOLS,
    AHEAD_BYTES = 8 << 10 /* codes to ask for while the ones here are used */
};

/* ---- codes ---- */

struct slab {
    __m256i part[2][4]; /* 4 steps of octets i and i + 2, or of the low and high nibbles of i */
};

KINLINE bool is_split(const int bits, const bool table)
{
    return !I8_VNNI && (table || bits == 8);
}

/* Integer codes of octets 2 and 3 stay where a mask alone reaches them, too large by 2^this; their
 * dot is shifted back once a group. 4 bits are the worst: 240 * 127 * 65,536 columns < 2^31; yet in
 * 16 bits they would saturate. */
KINLINE int kept_shift(const int bits, const bool table)
{
    return table || bits == 8 ? 0 : bits == 4 ? 4 * I8_VNNI : bits == 2 ? 2 : 1;
}

/* Bits from `at` of each byte of a half line, moved to bit `to`; mask: as moved to bit 0. Written
 * as the language's shift: the intrinsics want a literal where nothing is inlined. */
KINLINE __m256i field(const uint8_t *half, const int line, const int at, const int to, int mask)
{
    const __m256i v = _mm256_load_si256((const void *)(half + LINE_BYTES * line));
    const __m256i moved = (__m256i)(at < to ? (__v16hu)v << (to - at) : (__v16hu)v >> (at - to));
    return _mm256_and_si256(moved, _mm256_set1_epi8((char)(mask << to)));
}

/* Step s of the rows in the low (0) or high (1) bits of half a line: rows l or l + 16. */
KINLINE __m256i step_codes(const int bits, const bool table, const uint8_t *half, const int s,
                           const int high)
{
    const int low_bits = bits == 3 ? 2 : bits, to = high * kept_shift(bits, table);
    if (bits == 8)
        return _mm256_load_si256((const void *)(half + LINE_BYTES * (2 * s + high)));
    const __m256i low = field(half, s * low_bits / 4, s % (4 / low_bits) * 4 + low_bits * high, to,
                              (1 << low_bits) - 1);
    return bits == 3 ? _mm256_or_si256(low, field(half, 2, high + 2 * s, 2 + to, 1)) : low;
}

struct group { /* a panel's, by octets */
    __m256 scale[N_OCTETS];
    __m256i zero[N_OCTETS]; /* INT */
    __m256i book[2];        /* TABLE: 16 entries in each 128 bits; split: their nibbles */
    __m256 step, min;       /* TABLE */
};

KINLINE __m256i nibble(__m256i v, const int high)
{
    return _mm256_and_si256((__m256i)((__v16hu)v >> 4 * high), _mm256_set1_epi8(15));
}

KINLINE struct slab decode(const int bits, const bool table, const uint8_t *unit, const int octet,
                           const struct group *g)
{
    const bool split = is_split(bits, table);
    struct slab c;
    EACH (s, 4)
        EACH (p, 2) {
            const int high = split ? octet / 2 : p;
            const __m256i v = step_codes(bits, table, unit + 32 * (octet % 2), s, high);
            c.part[p][s] = table   ? _mm256_shuffle_epi8(g->book[split ? p : 0], v)
                           : split ? nibble(v, p)
                                   : v;
        }
    return c;
}

/* ---- dots ---- */

struct unit_x { /* 16 activations of a token; the 4 of a step in all lanes */
    __m256i step[4];
};

KINLINE struct unit_x load_x(const int8_t *x)
{
    typedef int32_t four_bytes __attribute__((may_alias, aligned(4)));
    struct unit_x all;
    /* gcc would load 16 bytes and shuffle */
    EACH (s, 4)
        __asm__("vpbroadcastd %1,%0" : "=x"(all.step[s]) : "m"(((const four_bytes *)x)[s]));
    return all;
}

#if I8_VNNI
/* The short encoding is a processor's without AVX-512. In assembler as gcc 12 copies accumulators of
 * the intrinsic. */
KINLINE __m256i add_dot(__m256i dot, const __m256i code[4], const struct unit_x *x)
{
    EACH (s, 4)
        __asm__("%{vex%} vpdpbusd %2,%1,%0" : "+x"(dot) : "x"(code[s]), "x"(x->step[s]));
    return dot;
}
#else
/* `weight` times the dot is added. */
KINLINE __m256i add_weighted(__m256i dot, const __m256i code[4], const struct unit_x *x,
                             const int weight)
{
    __m256i sum = _mm256_maddubs_epi16(code[0], x->step[0]);
    EACH (s, 3)
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(code[s + 1], x->step[s + 1]));
    return _mm256_add_epi32(dot, _mm256_madd_epi16(sum, _mm256_set1_epi16((short)weight)));
}
KINLINE __m256i add_dot(__m256i dot, const __m256i code[4], const struct unit_x *x)
{
    return add_weighted(dot, code, x, 1);
}
#endif

/* dot: that of the slab's first octet, i, of 4; it has all of a split slab. */
KINLINE void add_slab(const struct slab *c, const bool split, const int8_t *at, __m256i *dot)
{
    const struct unit_x x = load_x(at);
    dot[0] = add_dot(dot[0], c->part[0], &x);
    if (!split)
        dot[2] = add_dot(dot[2], c->part[1], &x);
#if !I8_VNNI
    else
        dot[0] = add_weighted(dot[0], c->part[1], &x, 16);
#endif
}

/* A unit times `tokens` of 16 activations each. */
struct unit {
    const uint8_t *lines;
    const struct group *group;
    const int8_t *x;
    int64_t tokens;
    __m256i (*dots)[N_OCTETS];
};

KINLINE void add_octets(const int bits, const bool table, const struct unit *u, const int octet)
{
    const struct slab c = decode(bits, table, u->lines, octet, u->group);
    for (int64_t t = 0; t < u->tokens; t++)
        add_slab(&c, is_split(bits, table), u->x + PTQ_PANEL_COLS * t, u->dots[t] + octet);
}

KINLINE void add_unit(const int bits, const bool table, const struct unit *u)
{
    EACH (i, bits)
        _mm_prefetch((const char *)u->lines + AHEAD_BYTES + LINE_BYTES * i, _MM_HINT_T0);
    add_octets(bits, table, u, 0);
    add_octets(bits, table, u, 1);
    if (is_split(bits, table)) {
        add_octets(bits, table, u, 2);
        add_octets(bits, table, u, 3);
    }
}

/* ---- a group's scales and zeros ---- */

KINLINE void load_book(struct group *g, const bool split, const struct ptq_kweight *w,
                       int64_t block)
{
    const void *table = w->table8 + 16 * block;
    const __m256i book = _mm256_broadcastsi128_si256(_mm_loadu_si128(table));
    EACH (p, 2)
        g->book[p] = split ? nibble(book, p) : book;
    g->step = _mm256_set1_ps(w->table_step[block]);
    g->min = _mm256_set1_ps(w->table_min[block]);
}

KINLINE struct group load_group(const struct ptq_kweight *w, const int bits, const bool table,
                                int64_t panel, int64_t group)
{
    const int64_t at = (panel * w->groups + group) * PTQ_PANEL_ROWS;
    struct group g = {0};
    EACH (i, N_OCTETS) {
        const int64_t row = at + 8 * i;
        g.scale[i] = w->scale32 ? _mm256_loadu_ps(w->scale32 + row)
                                : _mm256_cvtph_ps(_mm_loadu_si128((const void *)(w->scale16 + row)));
        g.zero[i] = w->zero && !table
                        ? _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(w->zero + row)))
                        : _mm256_set1_epi32(w->zero_const);
    }
    if (table)
        load_book(&g, is_split(bits, table), w, group * w->group / w->table_cols);
    return g;
}

KINLINE int64_t group_units(const struct ptq_kweight *w, int64_t group)
{
    const int64_t left = w->pcols - group * w->group;
    return (left < w->group ? left : w->group) / PTQ_PANEL_COLS;
}

/* acc of octet i after a group. */
KINLINE __m256 add_group(const struct group *g, const int bits, const bool table, const int i,
                         __m256i dot, int32_t sum, __m256 acc)
{
    const __m256i sums = _mm256_set1_epi32(sum);
    dot = (__m256i)((__v8si)dot >> (i / 2 * kept_shift(bits, table)));
    if (!table) {
        dot = _mm256_sub_epi32(dot, _mm256_mullo_epi32(g->zero[i], sums));
        return _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), g->scale[i], acc);
    }
    const __m256 low = _mm256_mul_ps(g->min, _mm256_cvtepi32_ps(sums));
    const __m256 value = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), g->step, low);
    return _mm256_fmadd_ps(value, g->scale[i], acc);
}

/* ---- panels ---- */

struct block { /* some tokens, for all panels asked for */
    const struct ptq_kweight *w;
    const int8_t *x;     /* 16 of each token, unit after unit */
    const int32_t *sums; /* sum8 of the first token */
    const float *scale;
    int64_t tokens;
    float *y;
    int64_t ldy;
};

KINLINE void store(const struct block *b, int64_t panel, int64_t token, const __m256 *acc)
{
    const int64_t row = panel * PTQ_PANEL_ROWS, left = b->w->rows - row;
    float y[PTQ_PANEL_ROWS];
    EACH (i, N_OCTETS)
        _mm256_storeu_ps(y + 8 * i, _mm256_mul_ps(_mm256_set1_ps(b->scale[token]), acc[i]));
    memcpy(b->y + token * b->ldy + row, y,
           (size_t)(left < PTQ_PANEL_ROWS ? left : PTQ_PANEL_ROWS) * sizeof *y);
}

struct sums { /* of a panel and as many tokens: within a group, and over groups */
    __m256i (*dots)[N_OCTETS];
    __m256 (*acc)[N_OCTETS];
};

KINLINE void run_panel(const struct block *b, int64_t panel, const int bits, const bool table,
                       const int64_t tokens, struct sums sums)
{
    const struct ptq_kweight *w = b->w;
    const uint8_t *lines = w->codes + panel * w->panel_bytes;
    const int8_t *x = b->x;
    for (int64_t t = 0; t < tokens; t++)
        EACH (i, N_OCTETS) {
            sums.acc[t][i] = _mm256_setzero_ps();
            sums.dots[t][i] = _mm256_setzero_si256();
        }
    for (int64_t at = 0; at < w->groups; at++) {
        const struct group g = load_group(w, bits, table, panel, at);
        for (int64_t n = group_units(w, at); n > 0; n--) {
            add_unit(bits, table, &(struct unit){lines, &g, x, tokens, sums.dots});
            lines += LINE_BYTES * bits;
            x += PTQ_PANEL_COLS * tokens;
        }
        for (int64_t t = 0; t < tokens; t++)
            EACH (i, N_OCTETS) {
                sums.acc[t][i] = add_group(&g, bits, table, i, sums.dots[t][i],
                                           b->sums[t * w->groups + at], sums.acc[t][i]);
                sums.dots[t][i] = _mm256_setzero_si256();
            }
    }
    for (int64_t t = 0; t < tokens; t++)
        store(b, panel, t, sums.acc[t]);
}

/* One token's sums stay in registers. */
#define DEFINE(name, bits, table)                                                                  \
    static void name##_one(const struct block *b, int64_t panel)                                   \
    {                                                                                              \
        __m256i dots[1][N_OCTETS];                                                                 \
        __m256 acc[1][N_OCTETS];                                                                   \
        run_panel(b, panel, bits, table, 1, (struct sums){dots, acc});                             \
    }                                                                                              \
    static void name##_many(const struct block *b, int64_t panel)                                  \
    {                                                                                              \
        __m256i dots[MAX_TOKENS][N_OCTETS];                                                        \
        __m256 acc[MAX_TOKENS][N_OCTETS];                                                          \
        run_panel(b, panel, bits, table, b->tokens, (struct sums){dots, acc});                     \
    }
#define FORMATS(F)                                                                                 \
    F(int2, 2, false)                                                                              \
    F(int3, 3, false)                                                                              \
    F(int4, 4, false)                                                                              \
    F(int8, 8, false)                                                                              \
    F(book2, 2, true)                                                                              \
    F(book3, 3, true)                                                                              \
    F(book4, 4, true)
FORMATS(DEFINE)

typedef void panel_fn(const struct block *, int64_t panel);
#define ENTRY(name, bits, table) [table][bits] = {name##_one, name##_many},
static panel_fn *const panel_fns[2][9][2] = {FORMATS(ENTRY)};

static void run_block(const struct block *b, int64_t begin, int64_t end)
{
    panel_fn *fn = panel_fns[b->w->code == PTQ_KCODE_TABLE][b->w->bits][b->tokens > 1];
    for (int64_t panel = begin; panel < end; panel++)
        fn(b, panel);
}

/* Interleaved, x is one stream: tokens may lie a multiple of 4 KiB apart, where they would share
 * one set of the first-level cache. */
static void interleave(const struct ptq_kacts *x, int64_t from, int64_t n, int64_t cols, int8_t *to)
{
    for (int64_t k = 0; k < cols; k += PTQ_PANEL_COLS)
        for (int64_t t = from; t < from + n; t++, to += PTQ_PANEL_COLS)
            memcpy(to, x->i8 + t * x->ld + k, PTQ_PANEL_COLS);
}

/* Blocks of about the same size: 33 tokens are 16 and 17, not 32 and 1. */
static void matmul(const struct ptq_kweight *w, const struct ptq_kacts *x, int64_t begin,
                   int64_t end, float *y, int64_t ldy)
{
    int8_t packed[BLOCK_BYTES];
    const int64_t fit = BLOCK_BYTES / w->pcols, most = fit < MAX_TOKENS ? fit : MAX_TOKENS,
                  blocks = (x->n + most - 1) / most;
    for (int64_t i = 0; i < blocks; i++) {
        const int64_t from = x->n * i / blocks, n = x->n * (i + 1) / blocks - from;
        const struct block b = {.w = w,
                                .x = x->n > 1 ? packed : x->i8,
                                .sums = x->sum8 + from * w->groups,
                                .scale = x->scale + from,
                                .tokens = n,
                                .y = y + from * ldy,
                                .ldy = ldy};
        if (x->n > 1)
            interleave(x, from, n, w->pcols, packed);
        run_block(&b, begin, end);
    }
}

static bool serves(const struct ptq_kweight *w, int64_t n_tokens)
{
    (void)n_tokens;
    const bool small = w->bits >= 2 && w->bits <= 4;
    return w->code == PTQ_KCODE_TABLE ? small && w->table8 : small || w->bits == 8;
}
#endif
