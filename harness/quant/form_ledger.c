/* form_ledger.c: the bits of a stored form: those of its packed bytes, and those of papers. */
#include "quant/pack.h"
#include <math.h>
#include <string.h>

static double array_bits(const struct ptq_arr_head *a)
{
    return (double)a->n * ptq_fmt_bits(a->fmt, a->bits);
}

/* What papers count of a part beside its codes, in bits. */
static double paper_side_bits(const struct ptq_form_head *h, int k)
{
    const struct ptq_part_head *p = &h->part[k];
    const double rows = (double)h->rows, kcols = (double)ptq_head_kcols(h),
                 groups = (double)p->arr[PTQ_ARR_SCALE].n;
    double zero = p->arr[PTQ_ARR_ZERO].fmt == PTQ_FMT_NONE ? 0 : p->bits;
    double perm = p->has_perm ? kcols * ptq_index_bits(ptq_head_kcols(h)) : 0;
    double books = array_bits(&p->arr[PTQ_ARR_BOOK]) + array_bits(&p->arr[PTQ_ARR_BOOK_STEP]) +
                   array_bits(&p->arr[PTQ_ARR_BOOK_MIN]);
    double view = rows * p->tree_levels * (kcols / 2) + array_bits(&p->arr[PTQ_ARR_ROT]);
    return groups * (16 + zero) + perm + books + view + 8 * (double)p->rank * (rows + kcols);
}

static double nominal_bits(const struct ptq_part_head *p)
{
    return p->kind == PTQ_PART_CODEBOOK ? p->bits / (double)p->dim : p->bits;
}

static double paper_bits(const struct ptq_form_head *h)
{
    double n = (double)h->rows * (double)h->cols, codes = 0,
           side = 16 * (double)h->split_cols + (h->folds ? 0 : array_bits(&h->divisor));
    for (int k = 0; k < h->n_parts; k++) {
        codes += nominal_bits(&h->part[k]);
        side += paper_side_bits(h, k);
    }
    return codes * ((double)ptq_head_kcols(h) / (double)h->cols) + side / n;
}

static double *ledger_of(struct ptq_ledger *l, int section)
{
    switch (section) {
    case PTQ_SECTION_CODES: return &l->codes;
    case PTQ_SECTION_SCALE: return &l->scales;
    case PTQ_SECTION_ZERO: return &l->zeros;
    case PTQ_SECTION_PERM: return &l->perm;
    case PTQ_SECTION_TREE: return &l->tree;
    case PTQ_SECTION_OF(PTQ_ARR_BOOK):
    case PTQ_SECTION_OF(PTQ_ARR_BOOK_STEP):
    case PTQ_SECTION_OF(PTQ_ARR_BOOK_MIN): return &l->books;
    case PTQ_SECTION_OF(PTQ_ARR_ROT): return &l->rot;
    default: return &l->lowrank;
    }
}

void ptq_quant_ledger(const struct ptq_quant *q, struct ptq_ledger *l)
{
    struct ptq_form_head h;
    ptq_quant_head(q, &h);
    memset(l, 0, sizeof *l);
    for (int k = 0; k < h.n_parts; k++) {
        int64_t bytes[PTQ_N_SECTIONS];
        ptq_part_section_bytes(&h, k, bytes); /* a validated form: no overflow */
        for (int s = 0; s < PTQ_N_SECTIONS; s++) {
            *ledger_of(l, s) += 8.0 * (double)bytes[s];
            l->total += 8.0 * (double)bytes[s];
        }
        l->nominal += nominal_bits(&h.part[k]);
    }
    int64_t bytes[PTQ_N_INPUT_SECTIONS];
    ptq_input_section_bytes(&h, bytes);
    l->divisor = 8.0 * (double)bytes[PTQ_SECTION_DIVISOR];
    l->act_scale = 8.0 * (double)bytes[PTQ_SECTION_ACT_SCALE];
    l->split = 8.0 * (double)(bytes[PTQ_SECTION_SOURCE] + bytes[PTQ_SECTION_PIECE] +
                              bytes[PTQ_SECTION_LIMIT]);
    l->total += l->divisor + l->act_scale + l->split;
    l->paper = paper_bits(&h);
    if (h.file_bits) { /* the sections are those of our form of it */
        l->total = (double)h.file_bits;
        if (h.part[0].kind != PTQ_PART_UNIFORM)
            l->nominal = l->paper = l->total / ((double)h.rows * (double)h.cols);
    }
}

/* ---- books elsewhere ---- */

static double blocks_along(int64_t here, int64_t block, double there)
{
    return block >= here ? 1 : ceil(there / (double)block);
}

static double books_at(const struct ptq_form_head *h, const struct ptq_part_head *p, double rows,
                       double kcols)
{
    const double books = blocks_along(h->rows, p->book_rows, rows) *
                         blocks_along(ptq_head_kcols(h), p->book_cols, kcols);
    const double dim = p->dim == ptq_head_kcols(h) ? kcols : (double)p->dim;
    const struct ptq_arr_head *book = &p->arr[PTQ_ARR_BOOK], *step = &p->arr[PTQ_ARR_BOOK_STEP],
                              *min = &p->arr[PTQ_ARR_BOOK_MIN];
    return books * (double)p->book_len * dim * ptq_fmt_bits(book->fmt, book->bits) +
           (step->n == 1 ? 1 : books) *
               (ptq_fmt_bits(step->fmt, step->bits) + ptq_fmt_bits(min->fmt, min->bits));
}

double ptq_quant_books_at(const struct ptq_quant *q, int64_t rows, int64_t cols)
{
    struct ptq_form_head h;
    double bits = 0;
    ptq_quant_head(q, &h);
    /* a split makes as many columns of a column */
    const double kcols = (double)cols * ((double)ptq_head_kcols(&h) / (double)h.cols);
    for (int k = 0; k < h.n_parts; k++)
        if (h.part[k].kind == PTQ_PART_CODEBOOK)
            bits += books_at(&h, &h.part[k], (double)rows, kcols);
    return bits;
}
