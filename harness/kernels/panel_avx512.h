/* panel_avx512.h: what the AVX-512 VNNI products with int8 activations share: codes of a panel to
 * bytes in registers, and from exact dots to floats. Every function is a template: bits, table and
 * the like are constants where it is called, so that no branch on them remains.
 *
 * A unit is 16 columns: `bits` lines. Step s (0..3) of a unit gives two vectors of bytes, rows l
 * and l + 16. Integer codes of rows l + 16 stay where a mask alone reaches them, too large by
 * 2^panel_high_shift; their dot is shifted back once a group. It cannot overflow: 4 bits are the
 * worst, 240 * 127 * 65,536 columns = 1,997,537,280 < 2^31. */
#ifndef PTQ_KERNELS_PANEL_AVX512_H
#define PTQ_KERNELS_PANEL_AVX512_H
#include "kernels/panel.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#include <immintrin.h>

#define PANEL_INLINE static inline __attribute__((always_inline))
enum { LINE_BYTES = 64 };

/* gcc 12 copies and spills the accumulators of a tile built of _mm512_dpbusd_epi32 (twice as slow);
 * through this it keeps them in place. */
#define PANEL_DOT(acc, codes, x) __asm__("vpdpbusd %2,%1,%0" : "+v"(acc) : "v"(codes), "v"(x))

/* ---- codes ---- */

struct panel_step {
    __m512i low, high; /* rows l, rows l + 16 */
};

PANEL_INLINE int panel_high_shift(int bits, bool table)
{
    return table || bits == 8 ? 0 : bits == 4 ? 4 : bits == 2 ? 2 : 1;
}

PANEL_INLINE __m512i panel_line(const uint8_t *unit, int line)
{
    return _mm512_load_si512(unit + LINE_BYTES * line);
}

PANEL_INLINE __m512i panel_mask8(__m512i v, int mask)
{
    return _mm512_and_si512(v, _mm512_set1_epi8((char)mask));
}

/* Bits shift.. of each byte to bit 0 (or up); bits of its neighbour come in. */
PANEL_INLINE __m512i panel_down(__m512i v, int shift)
{
    return shift > 0 ? _mm512_srli_epi16(v, (unsigned)shift)
                     : _mm512_slli_epi16(v, (unsigned)-shift);
}

/* a where the mask's bits are set, else b. The mask stands last: the instruction overwrites its
 * first operand. */
PANEL_INLINE __m512i panel_select(__m512i a, __m512i b, int mask)
{
    return _mm512_ternarylogic_epi32(a, b, _mm512_set1_epi8((char)mask), 0xe4);
}

/* Rows l get their code at bit 0, rows l + 16 at bit 1, so that one shift of the line of high bits
 * serves both. */
PANEL_INLINE struct panel_step panel_step_of_3(const uint8_t *unit, int s)
{
    const __m512i low = panel_down(panel_line(unit, s / 2), s % 2 * 4);
    const __m512i high = panel_down(panel_line(unit, 2), 2 * s - 2);
    return (struct panel_step){panel_mask8(panel_select(low, high, 3), 7),
                               panel_mask8(panel_select(panel_down(low, 1), high, 6), 14)};
}

PANEL_INLINE struct panel_step panel_codes(int bits, const uint8_t *unit, int s)
{
    if (bits == 8)
        return (struct panel_step){panel_line(unit, 2 * s), panel_line(unit, 2 * s + 1)};
    if (bits == 3)
        return panel_step_of_3(unit, s);
    const __m512i v =
        bits == 4 ? panel_line(unit, s) : panel_down(panel_line(unit, s / 2), s % 2 * 4);
    return bits == 4 ? (struct panel_step){panel_mask8(v, 15), panel_mask8(v, 240)}
                     : (struct panel_step){panel_mask8(v, 3), panel_mask8(v, 12)};
}

/* The bytes to multiply; book: the table's 16 entries in each 128 bits. vpshufb does for 16
 * entries; vpermb would save masks and lose processors. */
PANEL_INLINE struct panel_step panel_decode(int bits, bool table, const uint8_t *unit, int s,
                                            __m512i book)
{
    struct panel_step step = panel_codes(bits, unit, s);
    if (!table)
        return step;
    step.high = panel_down(step.high, panel_high_shift(bits, false));
    step.low = _mm512_shuffle_epi8(book, step.low);
    step.high = _mm512_shuffle_epi8(book, step.high);
    return step;
}

/* The 4 activations of step s for all lanes, loaded where they are used: left to itself gcc keeps
 * some in registers that the accumulators need. */
PANEL_INLINE __m512i panel_x(const int8_t *x, int s)
{
    typedef int32_t four_bytes __attribute__((may_alias, aligned(4)));
    __m512i all;
    __asm__("vpbroadcastd %1,%0" : "=v"(all) : "m"(*(const four_bytes *)(const void *)(x + 4 * s)));
    return all;
}

PANEL_INLINE void panel_prefetch(const uint8_t *unit, int64_t ahead_bytes, int lines)
{
    for (int i = 0; i < lines; i++)
        _mm_prefetch((const char *)unit + ahead_bytes + LINE_BYTES * i, _MM_HINT_T0);
}

/* ---- a group's scales and zeros ---- */

struct panel_group { /* [2]: rows l, rows l + 16 */
    __m512 scale[2];
    __m512i zero[2], minus_zero[2]; /* INT: 32 bits; 16 bits beside a 0 */
    __m512i book;                   /* TABLE */
    __m512 step, min;               /* TABLE */
};

PANEL_INLINE __m512 panel_scale(const struct ptq_kweight *w, int64_t at)
{
    if (w->scale32)
        return _mm512_load_ps(w->scale32 + at);
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)(w->scale16 + at)));
}

PANEL_INLINE __m512i panel_zero(const struct ptq_kweight *w, int64_t at)
{
    if (!w->zero)
        return _mm512_set1_epi32(w->zero_const);
    return _mm512_cvtepu8_epi32(_mm_load_si128((const __m128i *)(const void *)(w->zero + at)));
}

PANEL_INLINE void panel_set_book(struct panel_group *g, const struct ptq_kweight *w, int64_t block)
{
    const void *table = w->table8 + 16 * block;
    g->book = _mm512_broadcast_i32x4(_mm_loadu_si128(table));
    g->step = _mm512_set1_ps(w->table_step[block]);
    g->min = _mm512_set1_ps(w->table_min[block]);
}

PANEL_INLINE struct panel_group panel_group(const struct ptq_kweight *w, bool table, int64_t panel,
                                            int64_t group)
{
    const __m512i low_half = _mm512_set1_epi32(0xffff), none = _mm512_setzero_si512();
    const int64_t at = (panel * w->groups + group) * PTQ_PANEL_ROWS;
    struct panel_group g = {0};
    for (int half = 0; half < 2; half++) {
        g.scale[half] = panel_scale(w, at + 16 * half);
        if (table)
            continue;
        g.zero[half] = panel_zero(w, at + 16 * half);
        g.minus_zero[half] = _mm512_and_si512(_mm512_sub_epi32(none, g.zero[half]), low_half);
    }
    if (table)
        panel_set_book(&g, w, group * w->group / w->table_cols);
    return g;
}

/* Whether a group's sum of x may leave 16 bits: 127 * 258 = 32,766. */
PANEL_INLINE bool panel_is_wide(const struct ptq_kweight *w)
{
    return w->group > 258;
}

/* acc after a group, whose dot stands 2^shift too large in rows l + 16 (half 1). Unless wide the
 * low half of a sum times -zero is one vpdpwssd: its high half, a sign, meets a 0. */
PANEL_INLINE __m512 panel_flush(const struct panel_group *g, bool table, bool wide, int shift,
                                int half, __m512i dot, const int32_t *sum, __m512 acc)
{
    if (shift && half)
        dot = _mm512_srai_epi32(dot, (unsigned)shift);
    const __m512i sums = _mm512_set1_epi32(*sum);
    if (table) {
        const __m512 low = _mm512_mul_ps(g->min, _mm512_cvtepi32_ps(sums));
        const __m512 value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), g->step, low);
        return _mm512_fmadd_ps(value, g->scale[half], acc);
    }
    if (wide)
        dot = _mm512_sub_epi32(dot, _mm512_mullo_epi32(g->zero[half], sums));
    else
        __asm__("vpdpwssd %2,%1,%0" : "+v"(dot) : "v"(g->minus_zero[half]), "v"(sums));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), g->scale[half], acc);
}

/* ---- 32 sums of a token to and from y; rows beyond the matrix are left alone ---- */

PANEL_INLINE __mmask16 panel_rows(const struct ptq_kweight *w, int64_t panel, int half)
{
    const int64_t left = w->rows - panel * PTQ_PANEL_ROWS - 16 * half;
    return (__mmask16)(left >= 16 ? 0xffff : left > 0 ? (1 << left) - 1 : 0);
}

PANEL_INLINE void panel_store(const struct ptq_kweight *w, int64_t panel, float xscale,
                              const float *acc, float *y)
{
    for (int half = 0; half < 2; half++) {
        const __m512 v = _mm512_mul_ps(_mm512_set1_ps(xscale), _mm512_load_ps(acc + 16 * half));
        const __mmask16 rows = panel_rows(w, panel, half);
        if (rows)
            _mm512_mask_storeu_ps(y + panel * PTQ_PANEL_ROWS + 16 * half, rows, v);
    }
}

PANEL_INLINE void panel_load(const struct ptq_kweight *w, int64_t panel, bool is_first,
                             const float *y, float *acc)
{
    for (int half = 0; half < 2; half++) {
        const __mmask16 rows = is_first ? 0 : panel_rows(w, panel, half);
        __m512 v = _mm512_setzero_ps();
        if (rows)
            v = _mm512_maskz_loadu_ps(rows, y + panel * PTQ_PANEL_ROWS + 16 * half);
        _mm512_store_ps(acc + 16 * half, v);
    }
}
#pragma GCC pop_options
#endif
