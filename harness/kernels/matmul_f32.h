/* matmul_f32.h: packed weights by fp32 activations. Body of matmul_f32_ISA.c, which includes an ISA
 * header with LANES rows a vector before and lists its tiles, TILES(X): X(tokens, parts), at most
 * MAX_TOKENS, MAX_PARTS and a product of MAX_SUMS.
 *
 * A part is what the lanes of one register hold of a panel's lines: two vectors of rows, those of
 * the low and of the high codes of a byte. A tile is T tokens by P parts, all in registers: a row's
 * sum is one chain of fused multiply-adds (kernel.h), and two units of latency 4 want 8 chains at
 * least. So few tokens take several parts side by side, each a stream with its own prefetches, and
 * memory binds; many tokens take one, and a decoded code serves them all: with 8 of them shifts and
 * lookups find room beside the multiply-adds, so that decoding once and keeping floats would only
 * add their loads and stores. */
#ifndef PTQ_KERNELS_MATMUL_F32_H
#define PTQ_KERNELS_MATMUL_F32_H

enum {
    LINE = 64,
    UNIT = PTQ_PANEL_COLS, /* columns: `bits` lines */
    ROWS = PTQ_PANEL_ROWS,
    HALVES = 16 / LANES, /* parts of a panel */
    /* Codes are asked for this far ahead: at 20 GB/s a thread reads 2 KiB in the 100 ns that a line
     * takes from memory. */
    AHEAD_BYTES = 4096,
    /* Activations that stay in the second level cache while all panels pass. */
    BLOCK_BYTES = 512 << 10
};

/* ---- codes ---- */

/* One step's codes: bits 8 t + at[b] .. of a lane of word[b]. */
struct words {
    veci word[2];
    int at[2];
};

/* The high bit b + 2 s of a byte is put above the code's low two. Of an odd step those are bits
 * 4..7, so that the second row's find no room above and move down by 2 first. */
KINLINE struct words words_of_3(const uint8_t *unit, const int s)
{
    const veci low = word_load(unit + LINE * (s / 2)), high = word_load(unit + LINE * 2);
    const int odd = s % 2, to[2] = {odd ? 6 : 2, odd ? 6 : 4};
    veci second = word_shift(low, odd ? 2 : 0);
    return (struct words){{word_merge(1 << to[0], word_shift(high, 2 * s - to[0]), low),
                           word_merge(1 << to[1], word_shift(high, 2 * s + 1 - to[1]), second)},
                          {to[0] - 2, to[1] - 2}};
}

KINLINE struct words words_of_step(const uint8_t *unit, const int s, const int bits)
{
    if (bits == 3)
        return words_of_3(unit, s);
    if (bits == 8)
        return (struct words){
            {word_load(unit + LINE * 2 * s), word_load(unit + LINE * (2 * s + 1))}, {0, 0}};
    const veci v = word_load(unit + LINE * (bits == 4 ? s : s / 2));
    const int at = bits == 4 ? 0 : 4 * (s % 2);
    return (struct words){{v, v}, {at, at + (bits == 4 ? 4 : SECOND_2BITS)}};
}

KINLINE vecf word_of(const struct words *w, const int b, const int t, const int bits,
                     const bool table, const struct lut *lut)
{
    return word_value(w->word[b], 8 * t + w->at[b], b, bits, table, lut);
}

/* ---- a tile ---- */
struct job {
    const struct ptq_kweight *w;
    const struct ptq_kacts *a;
    int64_t part, token;
    float *y;
    int64_t ldy;
};

/* Of a part's two vectors: the rows' places in the panel. */
KINLINE int64_t row_at(int64_t part, int b)
{
    return part % HALVES * LANES + 16 * b;
}
KINLINE int64_t scale_at(const struct ptq_kweight *w, int64_t part, int64_t g, int b)
{
    return (part / HALVES * w->groups + g) * ROWS + row_at(part, b);
}

/* gcc gathers loads of many columns first and then spills chains. */
#define KEEP_ORDER __asm__ volatile("" ::: "memory")

/* Column t of a step, x[j][k] the tokens' values, added to a part's chains. */
KINLINE void part_column(const struct words *words, const int t, const float *const *x, int64_t k,
                         const struct lut *lut, const int bits, const bool table, const int T,
                         vecf (*chain)[2])
{
    const vecf low = word_of(words, 0, t, bits, table, lut);
    const vecf high = word_of(words, 1, t, bits, table, lut);
#pragma GCC unroll 8
    for (int j = 0; j < T; j++) {
        const vecf v = vec_all(x[j][k]);
        chain[j][0] = vec_fma(low, v, chain[j][0]);
        chain[j][1] = vec_fma(high, v, chain[j][1]);
    }
}

/* Step s of a unit: parts take turns by columns, or, for want of registers, by steps. */
KINLINE void tile_step(const uint8_t *const *codes, int64_t at, const int s, const float *const *x,
                       int64_t k, const struct lut *lut, const int bits, const bool table,
                       const int P, const int T, vecf (*chain)[2])
{
    if (LANES < 16) {
#pragma GCC unroll 4
        for (int p = 0; p < P; p++) {
            const struct words words = words_of_step(codes[p] + at, s, bits);
#pragma GCC unroll 4
            for (int t = 0; t < 4; t++) {
                KEEP_ORDER;
                part_column(&words, t, x, k + t, lut, bits, table, T, chain + p * T);
            }
        }
        return;
    }
    struct words words[MAX_PARTS];
#pragma GCC unroll 4
    for (int p = 0; p < P; p++)
        words[p] = words_of_step(codes[p] + at, s, bits);
#pragma GCC unroll 4
    for (int t = 0; t < 4; t++) {
        if (T > 2)
            KEEP_ORDER;
#pragma GCC unroll 4
        for (int p = 0; p < P; p++)
            part_column(&words[p], t, x, k + t, lut, bits, table, T, chain + p * T);
    }
}

/* A group is done: its chains, with the zero's share, scaled, into the sums. */
KINLINE void tile_flush(const struct job *job, int64_t g, const bool table, const int P,
                        const int T, vecf (*chain)[2], float (*acc)[2][LANES])
{
    const struct ptq_kweight *w = job->w;
#pragma GCC unroll 8
    for (int i = 0; i < 2 * P; i++) {
        const int p = i / 2, b = i % 2;
        const int64_t at = scale_at(w, job->part + p, g, b);
        vecf scale = w->scale16 ? vec_half(w->scale16 + at) : vec_load(w->scale32 + at);
        vecf minus_zero = vec_all((float)-w->zero_const);
        if (w->zero)
            minus_zero = vec_minus_bytes(w->zero + at);
#pragma GCC unroll 8
        for (int j = 0; j < T; j++) {
            float *to = acc[p * T + j][b];
            vecf sum = chain[p * T + j][b];
            if (!table)
                sum = vec_fma(minus_zero, vec_all(job->a->sum32[(job->token + j) * w->groups + g]),
                              sum);
            vec_store(to, vec_fma(sum, scale, vec_load(to)));
        }
    }
}

/* Asks for the scales and zeros of group g. */
KINLINE void tile_ahead(const struct job *job, int64_t g, const int P)
{
    const struct ptq_kweight *w = job->w;
#pragma GCC unroll 4
    for (int p = 0; p < P; p += HALVES) {
        int64_t at = scale_at(w, job->part + p, g, 0);
        if (w->scale16) {
            __builtin_prefetch(w->scale16 + at);
        } else {
            __builtin_prefetch(w->scale32 + at);
            __builtin_prefetch(w->scale32 + at + LINE / sizeof(float));
        }
        if (w->zero)
            __builtin_prefetch(w->zero + at);
    }
}

/* Rows beyond the matrix are not written. */
KINLINE void tile_put(const struct job *job, int64_t part, int64_t token, float (*sums)[LANES])
{
    for (int b = 0; b < 2; b++) {
        const int64_t row = part / HALVES * ROWS + row_at(part, b);
        float *y = job->y + token * job->ldy + row;
        if (job->w->rows - row >= LANES)
            vec_store(y, vec_load(sums[b]));
        else
            for (int r = 0; r < job->w->rows - row; r++)
                y[r] = sums[b][r];
    }
}

KINLINE void tile_run(const struct job *job, const int bits, const bool table, const int P,
                      const int T)
{
    const struct ptq_kweight *w = job->w;
    const int64_t ahead = AHEAD_BYTES / (w->group * 4 * bits) + 1;
    float acc[MAX_SUMS][2][LANES] __attribute__((aligned(64)));
    const uint8_t *codes[MAX_PARTS];
    const float *x[MAX_TOKENS];
#pragma GCC unroll 8
    for (int j = 0; j < T; j++)
        x[j] = job->a->f32 + (job->token + j) * job->a->ld;
#pragma GCC unroll 4
    for (int p = 0; p < P; p++)
        codes[p] = w->codes + (job->part + p) / HALVES * w->panel_bytes +
                   (job->part + p) % HALVES * LANES * 4;
    for (int i = 0; i < P * T; i++)
        for (int b = 0; b < 2; b++)
            vec_store(acc[i][b], vec_zero());
    int64_t k = 0, at = 0;
    for (int64_t g = 0; g < w->groups; g++) {
        const int64_t end = k + w->group < w->pcols ? k + w->group : w->pcols;
        const struct lut lut =
            table ? lut_of(w->table + 16 * (k / w->table_cols), bits) : lut_int(bits);
        vecf chain[MAX_SUMS][2];
#pragma GCC unroll 16
        for (int i = 0; i < P * T; i++)
            chain[i][0] = chain[i][1] = vec_zero();
        tile_ahead(job, g + ahead, P);
        for (; k < end; k += UNIT, at += bits * LINE) {
#pragma GCC unroll 4
            for (int p = 0; p < P; p += HALVES)
#pragma GCC unroll 8
                for (int i = 0; i < bits; i++)
                    __builtin_prefetch(codes[p] + at + AHEAD_BYTES + i * LINE);
#pragma GCC unroll 4
            for (int s = 0; s < 4; s++)
                tile_step(codes, at, s, x, k + 4 * s, &lut, bits, table, P, T, chain);
        }
        tile_flush(job, g, table, P, T, chain, acc);
    }
    for (int p = 0; p < P; p++)
        for (int j = 0; j < T; j++)
            tile_put(job, job->part + p, job->token + j, acc[p * T + j]);
}

/* ---- all tiles ---- */
#define TILE(T, P)                                                                                 \
    static __attribute__((noinline)) void tile_##T##_##P(const struct job *job)                    \
    {                                                                                              \
        const bool table = job->w->code == PTQ_KCODE_TABLE;                                        \
        switch (job->w->bits) {                                                                    \
        case 2: tile_run(job, 2, table, P, T); break;                                              \
        case 3: tile_run(job, 3, table, P, T); break;                                              \
        case 4:                                                                                    \
            if (!TABLE_APART)                                                                      \
                tile_run(job, 4, table, P, T);                                                     \
            else if (table)                                                                        \
                tile_run(job, 4, true, P, T);                                                      \
            else                                                                                   \
                tile_run(job, 4, false, P, T);                                                     \
            break;                                                                                 \
        default: tile_run(job, 8, false, P, T); break;                                             \
        }                                                                                          \
    }
TILES(TILE)

typedef void tile_fn(const struct job *);
#define TILE_ENTRY(T, P) [T][P] = tile_##T##_##P,
static tile_fn *const tiles[MAX_TOKENS + 1][MAX_PARTS + 1] = {TILES(TILE_ENTRY)};

/* Parts [job->part, end) by T tokens, as many at once as there is a tile for. */
static void run_parts(struct job job, int64_t end, int T)
{
    for (int p = MAX_PARTS; p > 0; p--)
        for (; tiles[T][p] && end - job.part >= p; job.part += p)
            tiles[T][p](&job);
}

/* Tokens are cut into tiles of nearly the same size; those whose activations the cache holds
 * together meet a few parts after each other, which then are in the cache too. */
static void matmul(const struct ptq_kweight *w, const struct ptq_kacts *a, int64_t begin,
                   int64_t end, float *y, int64_t ldy)
{
    const int64_t n = (a->n + MAX_TOKENS - 1) / MAX_TOKENS;
    const int64_t fit = BLOCK_BYTES / (w->pcols * MAX_TOKENS * (int64_t)sizeof(float));
    const int64_t step = fit > 1 ? fit : 1, end_part = end * HALVES;
    for (int64_t block = 0; block < n; block += step) {
        const int64_t block_end = block + step < n ? block + step : n;
        for (int64_t part = begin * HALVES; part < end_part; part += MAX_PARTS)
            for (int64_t i = block; i < block_end; i++) {
                const int64_t token = i * a->n / n;
                const int64_t to = part + MAX_PARTS < end_part ? part + MAX_PARTS : end_part;
                run_parts((struct job){w, a, part, token, y, ldy}, to,
                          (int)((i + 1) * a->n / n - token));
            }
    }
}
#endif
