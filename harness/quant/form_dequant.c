/* form_dequant.c: the values of a stored form. Row by row, each part its term, seen back through
 * its tree and its rotation, added to the terms before. */
#include "quant/form.h"
#include <string.h>

/* ---- uniform ---- */

PTQ_CLONES static void uniform_run(const uint16_t *restrict codes, int64_t n, float scale,
                                   float zero, float *restrict out)
{
    for (int64_t j = 0; j < n; j++)
        out[j] = scale * ((float)codes[j] - zero);
}

static void uniform_row(const struct ptq_part *p, int64_t kcols, int64_t row, float *out)
{
    const uint16_t *codes = p->codes + row * kcols;
    for (int64_t j = 0; j < kcols; j += p->group_cols) {
        int64_t g = p->groups_per_row ? row * p->groups_per_row + j / p->group_cols : 0;
        int64_t n = kcols - j < p->group_cols ? kcols - j : p->group_cols;
        if (!p->perm) {
            uniform_run(codes + j, n, p->scale.at[g], ptq_part_zero(p, g), out + j);
            continue;
        }
        for (int64_t k = j; k < j + n; k++) {
            int64_t c = p->perm[k];
            uniform_run(codes + c, 1, p->scale.at[g], ptq_part_zero(p, g), out + c);
        }
    }
}

/* ---- codebook ---- */

/* Books as fp32: integers become step * v + min, in fp64, rounded to fp32. */
static const float *decode_books(const struct ptq_part *p, struct ptq_arena *a,
                                 struct ptq_status *st)
{
    if (p->book.fmt != PTQ_FMT_INT)
        return p->book.at;
    const int64_t one = p->book_len * p->dim;
    float *out = ptq_arena_alloc(a, st, p->book.n, sizeof *out);
    for (int64_t i = 0; out && i < p->book.n; i++) {
        int64_t b = p->book_step.n == 1 ? 0 : i / one;
        out[i] =
            (float)((double)p->book_step.at[b] * (double)p->book.at[i] + (double)p->book_min.at[b]);
    }
    return out;
}

static void codebook_row(const struct ptq_part *p, const float *books, int64_t kcols, int64_t row,
                         float *out)
{
    const uint16_t *codes = p->codes + row * (kcols / p->dim);
    const int64_t one = p->book_len * p->dim, books_per_row = (kcols - 1) / p->book_cols + 1;
    for (int64_t j = 0; j < kcols; j += p->dim) {
        int64_t b = row / p->book_rows * books_per_row + j / p->book_cols;
        memcpy(out + j, books + b * one + codes[j / p->dim] * p->dim, (size_t)p->dim * sizeof *out);
    }
    for (int64_t j = 0; p->scale.fmt != PTQ_FMT_NONE && j < kcols; j++)
        out[j] *= p->scale.at[p->groups_per_row ? row * p->groups_per_row + j / p->group_cols : 0];
}

/* ---- products: fp64 in order of the inner index, rounded once ---- */

PTQ_CLONES static void add_product(double a, double b, const float *restrict x, int64_t n,
                                   double *restrict sum)
{
    for (int64_t j = 0; j < n; j++)
        sum[j] += a * (b * (double)x[j]);
}

static void round_row(const double *sum, int64_t n, float *out)
{
    for (int64_t j = 0; j < n; j++)
        out[j] = (float)sum[j];
}

static double component(const struct ptq_arr *scale, int64_t r)
{
    return scale->fmt == PTQ_FMT_NONE ? 1 : (double)scale->at[r];
}

static void lowrank_row(const struct ptq_part *p, int64_t kcols, int64_t row, double *sum,
                        float *out)
{
    memset(sum, 0, (size_t)kcols * sizeof *sum);
    for (int64_t r = 0; r < p->rank; r++)
        add_product(component(&p->left_scale, r) * (double)p->left.at[row * p->rank + r],
                    component(&p->right_scale, r), p->right.at + r * kcols, kcols, sum);
    round_row(sum, kcols, out);
}

/* ---- seen another way ---- */

/* The children of the deepest level are joined first. */
static void undo_tree(const struct ptq_part *p, int64_t kcols, int64_t row, float *t, float *spare)
{
    const int64_t half = kcols / 2;
    const uint8_t *bits = p->tree_bits + row * p->tree_levels * half;
    for (int level = p->tree_levels - 1; level >= 0; level--) {
        const int64_t segment = kcols >> level, pairs = segment / 2;
        for (int64_t i = 0; i < half; i++) {
            int64_t begin = i / pairs * segment, j = i % pairs;
            bool even_smaller = bits[level * half + i];
            spare[begin + 2 * j + !even_smaller] = t[begin + j];
            spare[begin + 2 * j + even_smaller] = t[begin + pairs + j];
        }
        memcpy(t, spare, (size_t)kcols * sizeof *t);
    }
}

/* term_j = sum_c t_c rot_jc; rot_t: the transposed matrix. */
static void undo_rot(const float *rot_t, int64_t kcols, float *t, double *sum)
{
    memset(sum, 0, (size_t)kcols * sizeof *sum);
    for (int64_t c = 0; c < kcols; c++)
        add_product(t[c], 1, rot_t + c * kcols, kcols, sum);
    round_row(sum, kcols, t);
}

static const float *transpose(const float *at, int64_t n, struct ptq_arena *a,
                              struct ptq_status *st)
{
    enum { TILE = 16 };
    float *t = ptq_arena_alloc(a, st, n * n, sizeof *t);
    for (int64_t i = 0; t && i < n; i += TILE)
        for (int64_t j = 0; j < n; j++)
            for (int64_t k = i; k < i + TILE && k < n; k++)
                t[j * n + k] = at[k * n + j];
    return t;
}

/* ---- the sum ---- */

struct scratch {
    float *term, *spare; /* [kcols] */
    double *sum;         /* [kcols] */
    const float *books[PTQ_MAX_PARTS], *rot_t[PTQ_MAX_PARTS];
};

static int prepare(const struct ptq_quant *q, struct ptq_arena *a, struct scratch *s,
                   struct ptq_status *st)
{
    const int64_t kcols = ptq_quant_kcols(q);
    s->term = ptq_arena_alloc(a, st, kcols, sizeof *s->term);
    s->spare = ptq_arena_alloc(a, st, kcols, sizeof *s->spare);
    s->sum = ptq_arena_alloc(a, st, kcols, sizeof *s->sum);
    bool ok = s->term && s->spare && s->sum;
    for (int k = 0; ok && k < q->n_parts; k++) {
        const struct ptq_part *p = &q->part[k];
        if (p->kind == PTQ_PART_CODEBOOK)
            ok = (s->books[k] = decode_books(p, a, st)) != NULL;
        if (ok && p->rot.fmt != PTQ_FMT_NONE)
            ok = (s->rot_t[k] = transpose(p->rot.at, kcols, a, st)) != NULL;
    }
    return ok ? PTQ_OK : PTQ_ERR_MEMORY;
}

static void part_row(const struct ptq_quant *q, int k, int64_t row, const struct scratch *s,
                     float *out)
{
    const struct ptq_part *p = &q->part[k];
    const int64_t kcols = ptq_quant_kcols(q);
    switch (p->kind) {
    case PTQ_PART_UNIFORM: uniform_row(p, kcols, row, out); break;
    case PTQ_PART_CODEBOOK: codebook_row(p, s->books[k], kcols, row, out); break;
    case PTQ_PART_LOWRANK: lowrank_row(p, kcols, row, s->sum, out); break;
    }
    if (p->tree_levels)
        undo_tree(p, kcols, row, out, s->spare);
    if (s->rot_t[k])
        undo_rot(s->rot_t[k], kcols, out, s->sum);
}

/* As the product sees the row: without padding, and for inputs that were not divided. */
static void finish_row(const struct ptq_quant *q, float *what)
{
    const struct ptq_split *s = &q->split;
    for (int64_t k = 0; k < s->n_cols; k++)
        if (s->source[k] < 0)
            what[k] = 0;
    for (int64_t j = 0; !s->n_cols && q->act.divisor.fmt != PTQ_FMT_NONE && j < q->cols; j++)
        what[j] /= q->act.divisor.at[j];
}

int ptq_quant_dequant(const struct ptq_quant *q, float *what, struct ptq_status *st)
{
    const int64_t kcols = ptq_quant_kcols(q);
    struct scratch s = {0};
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    int rc = prepare(q, &arena, &s, st);
    for (int64_t i = 0; i < q->rows && rc == PTQ_OK; i++) {
        float *out = what + i * kcols;
        part_row(q, 0, i, &s, out);
        for (int k = 1; k < q->n_parts; k++) {
            part_row(q, k, i, &s, s.term);
            for (int64_t j = 0; j < kcols; j++)
                out[j] += s.term[j];
        }
        finish_row(q, out);
    }
    ptq_arena_clear(&arena);
    return rc;
}
