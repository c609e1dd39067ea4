/* vector.c: codebooks of vectors as a product takes them (weight.h). */
#include "core/size.h"
#include "kernels/weight.h"
#include <string.h>

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* ---- by panels ---- */

static void *pack_panels(const struct ptq_kvector *v, const uint16_t *codes, struct ptq_arena *a,
                         struct ptq_status *st)
{
    const int64_t line = PTQ_PANEL_ROWS * v->code_bits / 8;
    uint8_t *out = ptq_arena_alloc(a, st, v->panels * v->segments, (size_t)line);
    for (int64_t i = 0; out && i < v->rows; i++)
        for (int64_t s = 0; s < v->segments; s++) {
            uint8_t *at = out + (i / PTQ_PANEL_ROWS * v->segments + s) * line;
            const int64_t r = i % PTQ_PANEL_ROWS;
            const uint16_t code = codes[i * v->segments + s];
            if (v->code_bits == 4)
                at[r % 16] |= (uint8_t)(code << (r / 16 * 4));
            else
                memcpy(at + r * v->code_bits / 8, &code, (size_t)(v->code_bits / 8));
        }
    return out;
}

/* Entries of a book side by side. */
static float *turn_books(const struct ptq_kvector *v, const float *books, int64_t n,
                         struct ptq_arena *a, struct ptq_status *st)
{
    float *out = ptq_arena_alloc(a, st, n * v->dim, (size_t)v->book_ld * sizeof *out);
    for (int64_t b = 0; out && b < n; b++)
        for (int64_t i = 0; i < v->book_len; i++)
            for (int64_t d = 0; d < v->dim; d++)
                out[(b * v->dim + d) * v->book_ld + i] = books[(b * v->book_len + i) * v->dim + d];
    return out;
}

static int take_scales(struct ptq_kvector *v, const struct ptq_part *p, struct ptq_arena *a,
                       struct ptq_status *st)
{
    if (p->scale.fmt == PTQ_FMT_NONE)
        return PTQ_OK;
    const int64_t width = p->groups_per_row > 1 ? p->group_cols : v->cols;
    if (width % v->dim)
        return ptq_status_set(st, PTQ_SKIP, "no kernel for vectors of %lld in groups of %lld",
                              (long long)v->dim, (long long)width);
    v->group_segments = width / v->dim;
    v->groups = ceil_div(v->segments, v->group_segments);
    float *out = ptq_arena_alloc(a, st, v->panels * v->groups, PTQ_PANEL_ROWS * sizeof *out);
    for (int64_t i = 0; out && i < v->rows; i++)
        for (int64_t g = 0; g < v->groups; g++)
            out[(i / PTQ_PANEL_ROWS * v->groups + g) * PTQ_PANEL_ROWS + i % PTQ_PANEL_ROWS] =
                p->scale.at[p->groups_per_row ? i * p->groups_per_row + g : 0];
    v->scale = out;
    v->bytes += v->panels * v->groups * PTQ_PANEL_ROWS * (int64_t)sizeof *out;
    return out ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int build_panels(const struct ptq_kpart *kp, const float *books, struct ptq_arena *a,
                        struct ptq_kvector *v, struct ptq_status *st)
{
    const struct ptq_part *p = kp->part;
    const int64_t n_books = p->book.n / (p->book_len * p->dim);
    v->code_bits = p->book_len <= 16 ? 4 : p->book_len <= 256 ? 8 : 16;
    v->codes = pack_panels(v, p->codes, a, st);
    v->books = v->codes ? turn_books(v, books, n_books, a, st) : NULL;
    v->bytes = v->panels * v->segments * PTQ_PANEL_ROWS * v->code_bits / 8 +
               n_books * v->dim * v->book_ld * (int64_t)sizeof *books;
    return v->books ? take_scales(v, p, a, st) : PTQ_ERR_MEMORY;
}

/* ---- by rows ---- */

static uint8_t *pack_tree(const struct ptq_kvector *v, const uint8_t *bits, struct ptq_arena *a,
                          struct ptq_status *st)
{
    const int64_t pairs = v->cols / 2, n = v->rows * v->tree_levels;
    uint8_t *out = ptq_arena_alloc(a, st, n, (size_t)v->tree_ld);
    for (int64_t l = 0; out && l < n; l++)
        for (int64_t i = 0; i < pairs; i++)
            out[l * v->tree_ld + i / 8] |= (uint8_t)(bits[l * pairs + i] << (i % 8));
    return out;
}

static void *codes_by_rows(const struct ptq_kvector *v, const uint16_t *codes, struct ptq_arena *a,
                           struct ptq_status *st)
{
    const int64_t n = v->rows * v->segments, size = v->code_bits / 8;
    uint8_t *out = ptq_arena_alloc(a, st, n, (size_t)size);
    for (int64_t i = 0; out && i < n; i++)
        memcpy(out + i * size, &codes[i], (size_t)size);
    return out;
}

static int build_rows(const struct ptq_kpart *kp, const float *books, struct ptq_arena *a,
                      struct ptq_kvector *v, struct ptq_status *st)
{
    const struct ptq_part *p = kp->part;
    float *kept = ptq_arena_alloc(a, st, p->book.n, sizeof *kept);
    if (p->scale.fmt != PTQ_FMT_NONE)
        return ptq_status_set(
            st, PTQ_SKIP,
            "no kernel for vectors with scales and a tree or books that change from row to row");
    if (!kept)
        return PTQ_ERR_MEMORY;
    memcpy(kept, books, (size_t)p->book.n * sizeof *kept);
    v->books = kept;
    v->book_ld = v->book_len;
    v->book_rows = p->book_rows;
    v->tree_levels = p->tree_levels;
    v->tree_ld = ceil_div(v->cols / 2, 64) * 8;
    v->code_bits = p->book_len <= 256 ? 8 : 16;
    v->codes = codes_by_rows(v, p->codes, a, st);
    v->tree_bits = v->codes ? pack_tree(v, p->tree_bits, a, st) : NULL; /* no levels: empty */
    v->bytes = v->rows * (v->segments * v->code_bits / 8 + v->tree_levels * v->tree_ld) +
               p->book.n * (int64_t)sizeof *kept;
    return v->tree_bits ? PTQ_OK : PTQ_ERR_MEMORY;
}

int ptq_kvector_build(const struct ptq_kpart *kp, struct ptq_arena *a, struct ptq_kvector *v,
                      struct ptq_status *st)
{
    const struct ptq_part *p = kp->part;
    *v = (struct ptq_kvector){.rows = kp->rows,
                              .cols = kp->cols,
                              .dim = p->dim,
                              .segments = kp->cols / p->dim,
                              .panels = ceil_div(kp->rows, PTQ_PANEL_ROWS),
                              .by_rows = p->tree_levels || p->book_rows < kp->rows,
                              .book_len = p->book_len,
                              .book_segments = p->book_cols / p->dim,
                              .book_ld = ceil_div(p->book_len, 16) * 16};
    struct ptq_arena own;
    ptq_arena_init(&own, 0);
    const float *books = ptq_kbooks(p, &own, st);
    int rc = !books       ? PTQ_ERR_MEMORY
             : v->by_rows ? build_rows(kp, books, a, v, st)
                          : build_panels(kp, books, a, v, st);
    ptq_arena_clear(&own);
    return rc;
}
