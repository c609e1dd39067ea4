/* i8_avx2.h: products of packed weights with int8 activations on 256 bits, 8 rows a register.
 * I8_VNNI, defined by the file that includes this, says how a dot is taken: vpdpbusd, or vpmaddubsw
 * (two products to 16 bits, which must not saturate) and vpmaddwd (to 32 bits).
 *
 * A unit is 16 columns: `bits` lines. An octet is 8 rows of it, one register of codes a step; octet
 * i holds rows 8 i .., and octets i and i + 2 lie in the same half lines. Those two are decoded to
 * 8 of the 16 registers and stay there while all tokens pass by. The dots of a group wait in
 * memory: with one load and one store for 4 steps that costs less than decoding again for every few
 * tokens. A product of one token keeps its dots in registers.
 *
 * Without vpdpbusd the 8 products of a unit are added in 16 bits. Codes of 2 to 4 bits fit: they
 * give at most 8 * 15 * 127 = 15,240. For bytes (8 bits, tables) the activations are cut instead,
 * once for all rows, into x = 16 high + low, high -8..7, low 0..15: 8 * 255 * 15 = 30,600; twice
 * the products.
 *
 * Instructions for a token and two octets (8 dots of 4 columns by 8 rows), loop included: vpdpbusd
 * 20, of which 8 are it; vpmaddubsw 29, of bytes 55. Of one token for one line of 64 bytes, which
 * memory takes 7 cycles for:
 *                 codes of 2, 3, 4, 8 bits   tables of 2, 3, 4
 *   vpdpbusd         25   37   11    6          39   44   20
 *   vpmaddubsw       37   44   21   16          78   70   40
 * Zen 5, one thread, 4096 x 11008 in groups of 128 from memory, by time on the processor, median of
 * runs on a loaded machine. 24 tokens, share of the peak of the same instructions on registers:
 *   vpdpbusd        .86  .86  .86  .85         .86  .86  .86   (4 bits, groups of 32 .69, rows .96)
 *   vpmaddubsw     1.3  1.25  1.3  .68         .67  .66  .67   (sums in 16 bits beat that peak)
 * One token, share of a plain read of the same bytes:
 *   vpdpbusd        .88  .75  .90  .95         .65  .65  .92
 *   vpmaddubsw      .82  .70  .95  .90         .43  .43  .75
 * Tried, without gain: two chains of vpdpbusd for one token; loading x again for each octet of
 * bytes; cutting codes, not x, into nibbles (as fast, with one more table). */
#ifndef PTQ_KERNELS_I8_AVX2_H
#define PTQ_KERNELS_I8_AVX2_H
#include <string.h>
#include "kernels/panel.h"
#pragma GCC target("avx2,fma,f16c,bmi2")
#include <immintrin.h>

#define KINLINE static inline __attribute__((always_inline))

enum {
    LINE_BYTES = 64,
    N_OCTETS = 4,
    MAX_TOKENS = 32,
    /* of x, interleaved; the longest row times 12 tokens of one part, 6 of two, fits */
    BLOCK_BYTES = 12 * PTQ_MAX_PCOLS,
    AHEAD_BYTES = 8 << 10 /* codes to ask for while the ones here are used */
};

/* ---- codes ---- */

/* Pieces of an activation. */
KINLINE int n_parts(const int bits, const bool table)
{
    return !I8_VNNI && (table || bits == 8) ? 2 : 1;
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
    __m256i book;           /* TABLE: 16 entries in each 128 bits */
    __m256 step, min;       /* TABLE */
};

struct octet_pair {
    __m256i octet[2][4]; /* by steps */
};

KINLINE struct octet_pair decode(const int bits, const bool table, const uint8_t *half,
                                 const struct group *g)
{
    struct octet_pair c;
    for (int s = 0; s < 4; s++)
        for (int high = 0; high < 2; high++) {
            const __m256i v = step_codes(bits, table, half, s, high);
            c.octet[high][s] = table ? _mm256_shuffle_epi8(g->book, v) : v;
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
    for (int s = 0; s < 4; s++)
        __asm__("vpbroadcastd %1,%0" : "=x"(all.step[s]) : "m"(((const four_bytes *)x)[s]));
    return all;
}

/* dot + weight times that of 4 steps; weight 1 where there is one part. */
KINLINE __m256i add_dot(__m256i dot, const __m256i code[4], const struct unit_x *x, int weight)
{
#if I8_VNNI
    /* The short encoding is that of processors without AVX-512. In assembler as gcc 12 copies the
     * accumulators of the intrinsic. */
    (void)weight;
    for (int s = 0; s < 4; s++)
        __asm__("%{vex%} vpdpbusd %2,%1,%0" : "+x"(dot) : "x"(code[s]), "x"(x->step[s]));
    return dot;
#else
    __m256i sum = _mm256_maddubs_epi16(code[0], x->step[0]);
    for (int s = 0; s < 3; s++)
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(code[s + 1], x->step[s + 1]));
    return _mm256_add_epi32(dot, _mm256_madd_epi16(sum, _mm256_set1_epi16((short)weight)));
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

KINLINE void add_octets(const int bits, const bool table, const struct unit *u, const int half)
{
    const int parts = n_parts(bits, table);
    const struct octet_pair c = decode(bits, table, u->lines + 32 * half, u->group);
    for (int64_t t = 0; t < u->tokens; t++)
        for (int p = 0; p < parts; p++) {
            const struct unit_x x = load_x(u->x + PTQ_PANEL_COLS * (parts * t + p));
            for (int high = 0; high < 2; high++)
                u->dots[t][half + 2 * high] =
                    add_dot(u->dots[t][half + 2 * high], c.octet[high], &x, p ? 16 : 1);
        }
}

KINLINE void add_unit(const int bits, const bool table, const struct unit *u)
{
    for (int i = 0; i < bits; i++)
        _mm_prefetch((const char *)u->lines + AHEAD_BYTES + LINE_BYTES * i, _MM_HINT_T0);
    add_octets(bits, table, u, 0);
    add_octets(bits, table, u, 1);
}

/* ---- a group's scales and zeros ---- */

KINLINE void load_book(struct group *g, const struct ptq_kweight *w, int64_t block)
{
    const void *table = w->table8 + 16 * block;
    g->book = _mm256_broadcastsi128_si256(_mm_loadu_si128(table));
    g->step = _mm256_set1_ps(w->table_step[block]);
    g->min = _mm256_set1_ps(w->table_min[block]);
}

KINLINE struct group load_group(const struct ptq_kweight *w, const bool table, int64_t panel,
                                int64_t group)
{
    const int64_t at = (panel * w->groups + group) * PTQ_PANEL_ROWS;
    struct group g = {0};
    for (int i = 0; i < N_OCTETS; i++) {
        const int64_t row = at + 8 * i;
        g.scale[i] = w->scale32
                         ? _mm256_loadu_ps(w->scale32 + row)
                         : _mm256_cvtph_ps(_mm_loadu_si128((const void *)(w->scale16 + row)));
        g.zero[i] = w->zero && !table
                        ? _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(w->zero + row)))
                        : _mm256_set1_epi32(w->zero_const);
    }
    if (table)
        load_book(&g, w, group * w->group / w->table_cols);
    return g;
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
    const int8_t *x;     /* 16 of each token, part after part, unit after unit */
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
    for (int i = 0; i < N_OCTETS; i++)
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
        for (int i = 0; i < N_OCTETS; i++) {
            sums.acc[t][i] = _mm256_setzero_ps();
            sums.dots[t][i] = _mm256_setzero_si256();
        }
    for (int64_t at = 0; at < w->groups; at++) {
        const struct group g = load_group(w, table, panel, at);
        for (int64_t n = ptq_group_units(w, at); n > 0; n--) {
            add_unit(bits, table, &(struct unit){lines, &g, x, tokens, sums.dots});
            lines += LINE_BYTES * bits;
            x += PTQ_PANEL_COLS * n_parts(bits, table) * tokens;
        }
        for (int64_t t = 0; t < tokens; t++)
            for (int i = 0; i < N_OCTETS; i++) {
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
PTQ_PANEL_FORMATS(DEFINE)

typedef void panel_fn(const struct block *, int64_t panel);
#define ENTRY(name, bits, table) [table][bits] = {name##_one, name##_many},
static panel_fn *const panel_fns[2][9][2] = {PTQ_PANEL_FORMATS(ENTRY)};

static void run_block(const struct block *b, int64_t begin, int64_t end)
{
    panel_fn *fn = panel_fns[b->w->code == PTQ_KCODE_TABLE][b->w->bits][b->tokens > 1];
    for (int64_t panel = begin; panel < end; panel++)
        fn(b, panel);
}

/* 16 activations, in two parts: low, high. Written as the language's shift of 16 bits: of bytes
 * there is none. */
KINLINE void cut(const int8_t *from, int8_t *to)
{
    const __m128i low = _mm_set1_epi8(15), sign = _mm_set1_epi8(8);
    const __m128i x = _mm_loadu_si128((const void *)from);
    const __m128i high = _mm_and_si128((__m128i)((__v8hu)x >> 4), low);
    _mm_storeu_si128((void *)to, _mm_and_si128(x, low));
    _mm_storeu_si128((void *)(to + PTQ_PANEL_COLS), _mm_sub_epi8(_mm_xor_si128(high, sign), sign));
}

/* Tokens from .. from + n interleaved: x is then one stream, while tokens may lie a multiple of 4
 * KiB apart, where they would share one set of the first-level cache. */
static void interleave(const struct ptq_kacts *x, int64_t from, int64_t n, int64_t cols, int parts,
                       int8_t *to)
{
    for (int64_t k = 0; k < cols; k += PTQ_PANEL_COLS)
        for (int64_t t = from; t < from + n; t++, to += PTQ_PANEL_COLS * parts)
            if (parts == 2)
                cut(x->i8 + t * x->ld + k, to);
            else
                memcpy(to, x->i8 + t * x->ld + k, PTQ_PANEL_COLS);
}

/* Blocks of about the same size: 33 tokens are 16 and 17, not 32 and 1. */
static void matmul(const struct ptq_kweight *w, const struct ptq_kacts *x, int64_t begin,
                   int64_t end, float *y, int64_t ldy)
{
    int8_t packed[BLOCK_BYTES] __attribute__((aligned(64)));
    const int parts = n_parts(w->bits, w->code == PTQ_KCODE_TABLE);
    const int64_t fit = BLOCK_BYTES / w->pcols / parts, most = fit < MAX_TOKENS ? fit : MAX_TOKENS,
                  blocks = (x->n + most - 1) / most;
    for (int64_t i = 0; i < blocks; i++) {
        const int64_t from = x->n * i / blocks, n = x->n * (i + 1) / blocks - from;
        const struct block b = {.w = w,
                                .x = packed,
                                .sums = x->sum8 + from * w->groups,
                                .scale = x->scale + from,
                                .tokens = n,
                                .y = y + from * ldy,
                                .ldy = ldy};
        interleave(x, from, n, w->pcols, parts, packed);
        run_block(&b, begin, end);
    }
}

static bool serves(const struct ptq_kweight *w, int64_t n_tokens)
{
    (void)n_tokens;
    return ptq_panel_i8_serves(w);
}
#endif
