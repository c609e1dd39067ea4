#include "kernels/weight.h"
#include "core/half.h"
#include "core/size.h"
#include <math.h>

/* ---- shapes ---- */

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Widths that panels have; 0: too wide. */
static int packed_bits(int bits)
{
    return bits <= 2 ? 2 : bits == 3 ? 3 : bits == 4 ? 4 : bits <= 8 ? 8 : 0;
}

static int take_shape(struct ptq_kweight *w, int64_t rows, int64_t cols, int bits,
                      struct ptq_status *st)
{
    *w = (struct ptq_kweight){.rows = rows,
                              .cols = cols,
                              .panels = ceil_div(rows, PTQ_PANEL_ROWS),
                              .pcols = ceil_div(cols, PTQ_PANEL_COLS) * PTQ_PANEL_COLS,
                              .bits = packed_bits(bits)};
    if (!w->bits)
        return ptq_status_set(st, PTQ_SKIP, "no kernel for codes of %d bits", bits);
    if (w->pcols > PTQ_MAX_PCOLS)
        return ptq_status_set(st, PTQ_SKIP, "no kernel for %lld columns: at most %d",
                              (long long)cols, PTQ_MAX_PCOLS);
    w->panel_bytes = w->pcols * PTQ_PANEL_ROWS * w->bits / 8;
    return PTQ_OK;
}

static int take_group(struct ptq_kweight *w, int64_t group, struct ptq_status *st)
{
    if (group < w->pcols && group % PTQ_PANEL_COLS)
        return ptq_status_set(st, PTQ_SKIP, "no kernel for groups of %lld: multiples of %d only",
                              (long long)group, PTQ_PANEL_COLS);
    w->group = group < w->pcols ? group : w->pcols;
    w->groups = ceil_div(w->pcols, w->group);
    return PTQ_OK;
}

/* ---- codes ---- */

static int pack_codes(struct ptq_kweight *w, const uint16_t *codes, unsigned cpu_flags,
                      struct ptq_arena *a, struct ptq_status *st)
{
    const struct ptq_kernel *k = ptq_kernel_best(PTQ_KOP_PACK, cpu_flags, w, 0);
    uint8_t *out = ptq_arena_alloc(a, st, w->panels, (size_t)w->panel_bytes);
    for (int64_t p = 0; out && p < w->panels; p++)
        k->run.pack(w, codes, w->cols, p, out + p * w->panel_bytes);
    w->codes = out;
    w->bytes += w->panels * w->panel_bytes;
    return out ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int pack_permuted(struct ptq_kweight *w, const struct ptq_kpart *kp, struct ptq_arena *a,
                         struct ptq_status *st)
{
    struct ptq_arena own;
    ptq_arena_init(&own, 0);
    int64_t n;
    const uint16_t *codes = kp->part->codes;
    uint16_t *moved =
        ptq_size_mul(w->rows, w->cols, &n) ? ptq_arena_alloc(&own, st, n, sizeof *moved) : NULL;
    for (int64_t i = 0; moved && i < w->rows; i++)
        for (int64_t k = 0; k < w->cols; k++)
            moved[i * w->cols + k] = codes[i * w->cols + kp->part->perm[k]];
    int rc = moved ? pack_codes(w, moved, kp->cpu_flags, a, st) : PTQ_ERR_MEMORY;
    ptq_arena_clear(&own);
    return rc;
}

/* ---- scales and zeros ---- */

static int64_t place_of(const struct ptq_kweight *w, int64_t row, int64_t g)
{
    return (row / PTQ_PANEL_ROWS * w->groups + g) * PTQ_PANEL_ROWS + row % PTQ_PANEL_ROWS;
}

/* Stored group of packed group g of a row. */
static int64_t source_of(const struct ptq_kweight *w, const struct ptq_part *p, int64_t row,
                         int64_t g)
{
    return p->groups_per_row ? row * p->groups_per_row + g * w->group / p->group_cols : 0;
}

static bool all_halves(const float *v, int64_t n)
{
    bool all = true;
    for (int64_t i = 0; i < n && all; i++)
        all = ptq_f32_from_f16(ptq_f16_from_f32(v[i])) == v[i];
    return all;
}

static int take_scale16(struct ptq_kweight *w, const float *scale32, struct ptq_arena *a,
                        struct ptq_status *st)
{
    const int64_t n = w->panels * w->groups * PTQ_PANEL_ROWS;
    uint16_t *out = ptq_arena_alloc(a, st, n, sizeof *out);
    for (int64_t i = 0; out && i < n; i++)
        out[i] = ptq_f16_from_f32(scale32[i]);
    w->scale16 = out;
    w->bytes += n * (int64_t)sizeof *out;
    return out ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* scale (panels x groups x 32) lies in `own`; it is kept as halves where they are all exact. */
static int keep_scales(struct ptq_kweight *w, const float *scale, struct ptq_arena *a,
                       struct ptq_status *st)
{
    const int64_t n = w->panels * w->groups * PTQ_PANEL_ROWS;
    if (all_halves(scale, n))
        return take_scale16(w, scale, a, st);
    float *out = ptq_arena_alloc(a, st, n, sizeof *out);
    for (int64_t i = 0; out && i < n; i++)
        out[i] = scale[i];
    w->scale32 = out;
    w->bytes += n * (int64_t)sizeof *out;
    return out ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int take_scales(struct ptq_kweight *w, const struct ptq_part *p, struct ptq_arena *a,
                       struct ptq_status *st)
{
    struct ptq_arena own;
    ptq_arena_init(&own, 0);
    float *scale = ptq_arena_alloc(&own, st, w->panels * w->groups * PTQ_PANEL_ROWS, sizeof *scale);
    for (int64_t i = 0; scale && i < w->rows; i++)
        for (int64_t g = 0; g < w->groups; g++)
            scale[place_of(w, i, g)] =
                p->scale.fmt == PTQ_FMT_NONE ? 1 : p->scale.at[source_of(w, p, i, g)];
    int rc = scale ? keep_scales(w, scale, a, st) : PTQ_ERR_MEMORY;
    ptq_arena_clear(&own);
    return rc;
}

static bool fits_zero(float v)
{
    return v == rintf(v) && v >= 0 && v <= UINT8_MAX;
}

static int take_zeros(struct ptq_kweight *w, const struct ptq_part *p, struct ptq_arena *a,
                      struct ptq_status *st)
{
    static const char reason[] = "no kernel for a zero of %g: whole numbers of 0..255 only";
    const int64_t n = w->panels * w->groups * PTQ_PANEL_ROWS;
    if (p->zero.fmt == PTQ_FMT_NONE) {
        if (!fits_zero(p->zero_const))
            return ptq_status_set(st, PTQ_SKIP, reason, (double)p->zero_const);
        w->zero_const = (int)p->zero_const;
        return PTQ_OK;
    }
    for (int64_t i = 0; i < p->zero.n; i++)
        if (!fits_zero(p->zero.at[i]))
            return ptq_status_set(st, PTQ_SKIP, reason, (double)p->zero.at[i]);
    uint8_t *out = ptq_arena_alloc(a, st, n, 1);
    for (int64_t i = 0; out && i < w->rows; i++)
        for (int64_t g = 0; g < w->groups; g++)
            out[place_of(w, i, g)] = (uint8_t)p->zero.at[source_of(w, p, i, g)];
    w->zero = out;
    w->bytes += n;
    return out ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* ---- books of single values ---- */

const float *ptq_kbooks(const struct ptq_part *p, struct ptq_arena *a, struct ptq_status *st)
{
    if (p->book.fmt != PTQ_FMT_INT)
        return p->book.at;
    const int64_t one = p->book_len * p->dim;
    float *out = ptq_arena_alloc(a, st, p->book.n, sizeof *out);
    for (int64_t i = 0; out && i < p->book.n; i++) {
        const int64_t b = p->book_step.n == 1 ? 0 : i / one;
        out[i] =
            (float)((double)p->book_step.at[b] * (double)p->book.at[i] + (double)p->book_min.at[b]);
    }
    return out;
}

enum { TABLE_LEN = 16 };

/* Signed integers are moved up into 0..255, their minimum by as much down. */
static int take_table8(struct ptq_kweight *w, const struct ptq_part *p, struct ptq_arena *a,
                       struct ptq_status *st)
{
    const int64_t blocks = ceil_div(w->pcols, w->table_cols);
    const float up = p->book.is_signed ? (float)(1 << (p->book.bits - 1)) : 0;
    if (p->book.fmt != PTQ_FMT_INT || p->book.bits > 8)
        return PTQ_OK;
    uint8_t *table = ptq_arena_alloc(a, st, blocks * TABLE_LEN, 1);
    float *step = ptq_arena_alloc(a, st, blocks, sizeof *step),
          *min = ptq_arena_alloc(a, st, blocks, sizeof *min);
    if (!table || !step || !min)
        return PTQ_ERR_MEMORY;
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t from = p->book_step.n == 1 ? 0 : b;
        step[b] = p->book_step.at[from];
        min[b] = p->book_min.at[from] - up * step[b];
        for (int64_t i = 0; i < p->book_len; i++)
            table[b * TABLE_LEN + i] = (uint8_t)(p->book.at[b * p->book_len + i] + up);
    }
    w->table8 = table;
    w->table_step = step;
    w->table_min = min;
    return PTQ_OK;
}

static int take_table(struct ptq_kweight *w, const struct ptq_part *p, struct ptq_arena *a,
                      struct ptq_status *st)
{
    const int64_t blocks = ceil_div(w->pcols, w->table_cols);
    const float *books = ptq_kbooks(p, a, st);
    float *table = books ? ptq_arena_alloc(a, st, blocks * TABLE_LEN, sizeof *table) : NULL;
    for (int64_t b = 0; table && b < blocks; b++)
        for (int64_t i = 0; i < p->book_len; i++)
            table[b * TABLE_LEN + i] = books[b * p->book_len + i];
    w->table = table;
    w->bytes += blocks * TABLE_LEN * (int64_t)sizeof *table;
    return table ? take_table8(w, p, a, st) : PTQ_ERR_MEMORY;
}

/* ---- parts ---- */

/* Columns that share a scale; a row, where it has one. */
static int64_t scale_cols(const struct ptq_kweight *w, const struct ptq_part *p)
{
    const bool grouped = p->scale.fmt != PTQ_FMT_NONE && p->groups_per_row > 1;
    return grouped ? p->group_cols : w->pcols;
}

static int codebook_shape(struct ptq_kweight *w, const struct ptq_part *p, struct ptq_status *st)
{
    const int64_t scale = scale_cols(w, p),
                  table = p->book_cols < w->cols ? p->book_cols : w->pcols;
    w->code = PTQ_KCODE_TABLE;
    w->table_cols = table;
    if (w->bits > 4)
        return ptq_status_set(st, PTQ_SKIP, "no kernel for books of single values beyond 4 bits");
    if (p->book_rows < w->rows)
        return ptq_status_set(st, PTQ_SKIP, "no kernel for books that change from row to row");
    if (table != w->pcols && scale != w->pcols && table % scale && scale % table)
        return ptq_status_set(st, PTQ_SKIP,
                              "no kernel for books of %lld and groups of %lld columns",
                              (long long)table, (long long)scale);
    return take_group(w, table < scale ? table : scale, st);
}

int ptq_kweight_build(const struct ptq_kpart *kp, struct ptq_arena *a, struct ptq_kweight *w,
                      struct ptq_status *st)
{
    const struct ptq_part *p = kp->part;
    const bool book = p->kind == PTQ_PART_CODEBOOK;
    int rc = take_shape(w, kp->rows, kp->cols, p->bits, st);
    if (!rc)
        rc = book ? codebook_shape(w, p, st) : take_group(w, scale_cols(w, p), st);
    if (!rc)
        rc = take_scales(w, p, a, st);
    if (!rc)
        rc = book ? take_table(w, p, a, st) : take_zeros(w, p, a, st);
    if (!rc)
        rc = p->perm ? pack_permuted(w, kp, a, st) : pack_codes(w, p->codes, kp->cpu_flags, a, st);
    return rc;
}

/* ---- factors ---- */

static int factor_scales(struct ptq_kweight *w, const struct ptq_arr *scale, struct ptq_arena *a,
                         struct ptq_status *st)
{
    struct ptq_part one = {.group_cols = w->cols, .groups_per_row = 1};
    if (scale)
        one.scale = *scale;
    return take_scales(w, &one, a, st);
}

int ptq_kweight_factor(const struct ptq_kfactor *f, struct ptq_arena *a, struct ptq_kweight *w,
                       struct ptq_status *st)
{
    const struct ptq_arr *v = f->values;
    if (v->fmt != PTQ_FMT_INT)
        return ptq_status_set(st, PTQ_SKIP, "no kernel for low-rank factors that are no integers");
    int rc = take_shape(w, f->rows, f->cols, v->bits, st);
    if (!rc)
        rc = take_group(w, w->pcols, st);
    if (!rc)
        rc = factor_scales(w, f->row_scale, a, st);
    if (rc)
        return rc;
    struct ptq_arena own;
    ptq_arena_init(&own, 0);
    uint16_t *codes = ptq_arena_alloc(&own, st, v->n, sizeof *codes);
    w->zero_const = v->is_signed ? 1 << (v->bits - 1) : 0;
    for (int64_t i = 0; codes && i < v->n; i++)
        codes[i] = (uint16_t)((int)v->at[i] + w->zero_const);
    rc = codes ? pack_codes(w, codes, f->cpu_flags, a, st) : PTQ_ERR_MEMORY;
    ptq_arena_clear(&own);
    return rc;
}
