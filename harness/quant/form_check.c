/* form_check.c: the rules of a stored form: first those of its shape (the head), then its values.
 */
#include "core/size.h"
#include "quant/pack.h"
#include <math.h>
#include <stdio.h>

/* ---- shape ---- */

#define MASK(id) (1u << PTQ_ARR_##id)
enum {
    FLOAT_ONLY = MASK(SCALE) | MASK(BOOK_STEP) | MASK(BOOK_MIN) | MASK(LEFT_SCALE) |
                 MASK(RIGHT_SCALE) | MASK(ROT),
    MOST_INT_BITS = 24, /* whole numbers that fp32 holds */
    MOST_TREE_LEVELS = 30,
    MOST_BOOK_LEN = 65536
};

static bool is_float(int fmt)
{
    return fmt == PTQ_FMT_F16 || fmt == PTQ_FMT_BF16 || fmt == PTQ_FMT_F32;
}

static const char *format_fault(const struct ptq_arr_head *a, bool float_only)
{
    if (is_float(a->fmt))
        return NULL;
    if (a->fmt != PTQ_FMT_INT)
        return "its format is unknown";
    if (float_only)
        return "it has no floating format";
    return a->bits < 1 || a->bits > MOST_INT_BITS ? "integers wider than 1..24 bits" : NULL;
}

/* Which arrays the part must have, and which it may. */
static unsigned needed_arrays(const struct ptq_part_head *p)
{
    switch (p->kind) {
    case PTQ_PART_UNIFORM: return MASK(SCALE);
    case PTQ_PART_CODEBOOK:
        return MASK(BOOK) |
               (p->arr[PTQ_ARR_BOOK].fmt == PTQ_FMT_INT ? MASK(BOOK_STEP) | MASK(BOOK_MIN) : 0);
    default:
        return MASK(LEFT) | MASK(RIGHT) |
               (p->arr[PTQ_ARR_LEFT].fmt == PTQ_FMT_INT ? MASK(LEFT_SCALE) : 0) |
               (p->arr[PTQ_ARR_RIGHT].fmt == PTQ_FMT_INT ? MASK(RIGHT_SCALE) : 0);
    }
}

static unsigned optional_arrays(const struct ptq_part_head *p)
{
    switch (p->kind) {
    case PTQ_PART_UNIFORM: return MASK(ZERO) | MASK(ROT);
    case PTQ_PART_CODEBOOK: return MASK(SCALE) | MASK(ROT);
    default: return MASK(ROT);
    }
}

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a - 1) / b + 1;
}

static bool array_length(const struct ptq_form_head *h, const struct ptq_part_head *p, int id,
                         int64_t *n)
{
    const int64_t kcols = ptq_head_kcols(h);
    int64_t books;
    switch (id) {
    case PTQ_ARR_SCALE:
    case PTQ_ARR_ZERO:
        *n = 1;
        return !p->groups_per_row || ptq_size_mul(h->rows, p->groups_per_row, n);
    case PTQ_ARR_LEFT: return ptq_size_mul(h->rows, p->rank, n);
    case PTQ_ARR_RIGHT: return ptq_size_mul(p->rank, kcols, n);
    case PTQ_ARR_LEFT_SCALE:
    case PTQ_ARR_RIGHT_SCALE: *n = p->rank; return true;
    case PTQ_ARR_ROT: return ptq_size_mul(kcols, kcols, n);
    default: break;
    }
    if (!ptq_size_mul(ceil_div(h->rows, p->book_rows), ceil_div(kcols, p->book_cols), &books))
        return false;
    if (id == PTQ_ARR_BOOK)
        return ptq_size_mul(books, p->book_len, n) && ptq_size_mul(*n, p->dim, n);
    *n = p->arr[id].n == 1 ? 1 : books;
    return true;
}

static struct ptq_head_fault arrays_fault(const struct ptq_form_head *h, int k)
{
    const struct ptq_part_head *p = &h->part[k];
    const unsigned needed = needed_arrays(p), may = needed | optional_arrays(p);
    for (int id = 0; id < PTQ_N_ARRS; id++) {
        const struct ptq_arr_head *a = &p->arr[id];
        const char *what = NULL;
        int64_t n;
        if (a->fmt == PTQ_FMT_NONE)
            what = needed >> id & 1 ? "it is absent" : NULL;
        else if (!(may >> id & 1))
            what = "a part of this kind, or without integers, has none";
        else if (!(what = format_fault(a, FLOAT_ONLY >> id & 1)))
            what = !array_length(h, p, id, &n) || a->n != n ? "array of the wrong length" : NULL;
        if (what)
            return (struct ptq_head_fault){k, ptq_arr_names[id], what};
    }
    if (p->arr[PTQ_ARR_BOOK_STEP].n != p->arr[PTQ_ARR_BOOK_MIN].n)
        return (struct ptq_head_fault){k, "book_min", "its length is not that of book_step"};
    return (struct ptq_head_fault){0};
}

static const char *codes_fault(const struct ptq_form_head *h, const struct ptq_part_head *p)
{
    const int64_t kcols = ptq_head_kcols(h);
    const bool grouped = p->kind == PTQ_PART_UNIFORM || p->arr[PTQ_ARR_SCALE].fmt != PTQ_FMT_NONE;
    if (p->bits < 1 || p->bits > 16)
        return "codes are not 1..16 bits wide";
    if (grouped && (p->group_cols < 1 || p->group_cols > kcols))
        return "group_cols is not within 1..columns";
    if (grouped && p->groups_per_row != 0 && p->groups_per_row != ceil_div(kcols, p->group_cols))
        return "groups_per_row is neither 0 nor ceil(columns / group_cols)";
    return NULL;
}

static const char *book_fault(const struct ptq_form_head *h, const struct ptq_part_head *p)
{
    const int64_t kcols = ptq_head_kcols(h);
    if (p->book_rows < 1 || p->book_rows > h->rows || p->book_cols < 1 || p->book_cols > kcols)
        return "book_rows or book_cols is not within the matrix";
    if (p->dim < 1 || p->book_cols % p->dim || kcols % p->dim)
        return "dim does not divide book_cols and the columns";
    if (p->book_len < 1 || p->book_len > MOST_BOOK_LEN || (p->book_len - 1) >> p->bits)
        return "book_len is not within 1..2^bits";
    return NULL;
}

static const char *rank_fault(const struct ptq_form_head *h, const struct ptq_part_head *p)
{
    return p->rank < 1 || p->rank > h->rows || p->rank > ptq_head_kcols(h)
               ? "rank is not within 1..min(rows, columns)"
               : NULL;
}

static struct ptq_head_fault part_fault(const struct ptq_form_head *h, int k)
{
    const struct ptq_part_head *p = &h->part[k];
    const char *what = NULL;
    if (p->kind != PTQ_PART_UNIFORM && p->kind != PTQ_PART_CODEBOOK && p->kind != PTQ_PART_LOWRANK)
        what = "unknown kind of part";
    else if (p->kind != PTQ_PART_LOWRANK)
        what = codes_fault(h, p);
    if (!what && p->kind == PTQ_PART_CODEBOOK)
        what = book_fault(h, p);
    if (!what && p->kind == PTQ_PART_LOWRANK)
        what = rank_fault(h, p);
    if (!what && p->has_perm && p->kind != PTQ_PART_UNIFORM)
        what = "only uniform parts have a perm";
    if (!what && (p->tree_levels < 0 || p->tree_levels > MOST_TREE_LEVELS ||
                  ptq_head_kcols(h) & ((INT64_C(1) << p->tree_levels) - 1)))
        what = "columns are not divisible by 2^tree_levels";
    if (!what && !isfinite(p->zero_const))
        what = "zero_const is not finite";
    return what ? (struct ptq_head_fault){k, "", what} : arrays_fault(h, k);
}

static const char *form_fault(const struct ptq_form_head *h)
{
    int64_t n;
    if (h->rows < 1 || h->cols < 1 || h->cols > INT32_MAX || !ptq_size_mul(h->rows, h->cols, &n))
        return "rows or cols out of range";
    if (h->split_cols < 0 || h->split_cols > INT32_MAX ||
        !ptq_size_mul(h->rows, ptq_head_kcols(h), &n))
        return "columns of the split out of range";
    if (h->piece_bits < 0 || h->piece_bits > 16 || (h->piece_bits && !h->split_cols))
        return "pieces of the split out of range";
    if (h->act_bits != 0 && (h->act_bits < 2 || h->act_bits > 8))
        return "inputs are neither 2..8 bits wide nor as they are";
    if (h->file_bits < 0)
        return "bits of a file below 0";
    if (h->act_scale && !h->act_bits)
        return "inputs have a scale but no bits";
    if (h->n_parts < 1 || h->n_parts > PTQ_MAX_PARTS)
        return "n_parts out of range";
    return NULL;
}

struct ptq_head_fault ptq_head_check(const struct ptq_form_head *h)
{
    struct ptq_head_fault fault = {-1, "", form_fault(h)};
    if (fault.what)
        return fault;
    if (h->divisor.fmt != PTQ_FMT_NONE) {
        fault.what = format_fault(&h->divisor, true);
        if (!fault.what && h->divisor.n != h->cols)
            fault.what = "array of the wrong length";
        fault.array = "divisor";
    } else if (h->folds) {
        fault.what = "a divisor folds that is not there";
    }
    for (int k = 0; !fault.what && k < h->n_parts; k++)
        fault = part_fault(h, k);
    return fault;
}

/* ---- values ---- */

enum { WHERE = 40 };
static const char *where(int part, char out[WHERE])
{
    if (part < 0)
        return "stored form";
    snprintf(out, WHERE, "stored form, part %d", part);
    return out;
}

static int broken(struct ptq_status *st, int part, const char *what)
{
    char text[WHERE];
    return ptq_status_set(st, PTQ_ERR_NUMERIC, "%s: %s", where(part, text), what);
}

struct place { /* of an array, for messages */
    int part;  /* -1: of the whole form */
    const char *name;
};

static int check_value(const struct ptq_arr *a, int64_t i, const struct place *at,
                       struct ptq_status *st)
{
    float v = a->at[i];
    double most = ldexp(1, a->bits - a->is_signed) - 1,
           least = a->is_signed ? -ldexp(1, a->bits - 1) : 0;
    const char *fault = NULL;
    if (!isfinite(v))
        fault = "is not finite";
    else if (a->fmt != PTQ_FMT_INT)
        fault = ptq_round_fmt(v, a->fmt) != v ? "is not a value of its format" : NULL;
    else if (v != rintf(v))
        fault = "is not a whole number";
    else if (v > most || v < least)
        fault = "does not fit its bits";
    else if (v == 0 && signbit(v))
        fault = "is a negative zero, which an integer does not have";
    if (!fault)
        return PTQ_OK;
    char text[WHERE];
    return ptq_status_set(st, PTQ_ERR_NUMERIC, "%s: %s[%lld] = %g %s (%d bits)",
                          where(at->part, text), at->name, (long long)i, (double)v, fault, a->bits);
}

static int check_array(const struct ptq_arr *a, const struct place *at, struct ptq_status *st)
{
    char text[WHERE];
    if (a->fmt == PTQ_FMT_NONE)
        return PTQ_OK;
    if (!a->at)
        return ptq_status_set(st, PTQ_ERR_NUMERIC, "%s: %s: no values", where(at->part, text),
                              at->name);
    int rc = PTQ_OK;
    for (int64_t i = 0; i < a->n && rc == PTQ_OK; i++)
        rc = check_value(a, i, at, st);
    return rc;
}

static int check_perm(const int32_t *perm, int64_t cols, int part, struct ptq_status *st)
{
    struct ptq_arena a;
    ptq_arena_init(&a, 0);
    uint8_t *seen = ptq_arena_alloc(&a, st, cols, 1);
    int rc = seen ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int64_t p = 0; p < cols && rc == PTQ_OK; p++) {
        if (perm[p] < 0 || perm[p] >= cols || seen[perm[p]])
            rc = broken(st, part, "perm is no permutation");
        else
            seen[perm[p]] = 1;
    }
    ptq_arena_clear(&a);
    return rc;
}

/* Below 2^bits, and inside the book. */
static int check_codes(const struct ptq_quant *q, int k, struct ptq_status *st)
{
    const struct ptq_part *p = &q->part[k];
    const bool book = p->kind == PTQ_PART_CODEBOOK;
    const int64_t per_row = ptq_quant_kcols(q) / (book ? p->dim : 1), n = q->rows * per_row;
    const int64_t limit = book ? p->book_len : INT64_C(1) << p->bits;
    if (!p->codes)
        return broken(st, k, "codes absent");
    uint16_t most = 0;
    for (int64_t i = 0; i < n; i++)
        most = p->codes[i] > most ? p->codes[i] : most;
    if (most < limit)
        return PTQ_OK;
    int64_t i = 0;
    while (p->codes[i] < limit)
        i++;
    return ptq_status_set(
        st, PTQ_ERR_NUMERIC,
        "stored form, part %d: code %d at row %lld, column %lld is not below %lld%s", k,
        p->codes[i], (long long)(i / per_row), (long long)(i % per_row * (book ? p->dim : 1)),
        (long long)limit, book ? ", the length of its book" : "");
}

static int check_tree(const struct ptq_quant *q, int k, struct ptq_status *st)
{
    const struct ptq_part *p = &q->part[k];
    const int64_t n = q->rows * p->tree_levels * (ptq_quant_kcols(q) / 2);
    if (!p->tree_bits)
        return broken(st, k, "tree_bits absent");
    uint8_t all = 0;
    for (int64_t i = 0; i < n; i++)
        all |= p->tree_bits[i];
    return all > 1 ? broken(st, k, "tree_bits are not 0 and 1") : PTQ_OK;
}

static int check_part(const struct ptq_quant *q, int k, struct ptq_status *st)
{
    const struct ptq_part *p = &q->part[k];
    int rc = PTQ_OK;
    for (int id = 0; id < PTQ_N_ARRS && rc == PTQ_OK; id++)
        rc = check_array(ptq_part_arr_of(p, id), &(struct place){k, ptq_arr_names[id]}, st);
    if (rc == PTQ_OK && p->perm)
        rc = check_perm(p->perm, ptq_quant_kcols(q), k, st);
    if (rc == PTQ_OK && p->tree_levels)
        rc = check_tree(q, k, st);
    if (rc == PTQ_OK && p->kind != PTQ_PART_LOWRANK)
        rc = check_codes(q, k, st);
    return rc;
}

static int check_act(const struct ptq_quant *q, struct ptq_status *st)
{
    const struct ptq_arr *d = &q->act.divisor;
    int rc = check_array(d, &(struct place){-1, "divisor"}, st);
    for (int64_t j = 0; d->fmt != PTQ_FMT_NONE && j < d->n && rc == PTQ_OK; j++)
        if (d->at[j] <= 0)
            rc = ptq_status_set(st, PTQ_ERR_NUMERIC, "stored form: divisor[%lld] = %g is not > 0",
                                (long long)j, (double)d->at[j]);
    if (rc == PTQ_OK && (!isfinite(q->act.scale) || q->act.scale < 0))
        rc = broken(st, -1, "the scale of the inputs is negative or not finite");
    return rc;
}

static int check_split(const struct ptq_quant *q, struct ptq_status *st)
{
    const struct ptq_split *s = &q->split;
    bool pieces = false;
    if (!s->source || !s->piece)
        return broken(st, -1, "source or piece of the split absent");
    for (int64_t k = 0; k < s->n_cols; k++) {
        if (s->source[k] < -1 || s->source[k] >= q->cols || s->piece[k] < -1)
            return ptq_status_set(st, PTQ_ERR_NUMERIC,
                                  "stored form: column %lld of the split is piece %d of channel %d",
                                  (long long)k, s->piece[k], s->source[k]);
        pieces = pieces || s->piece[k] >= 0;
    }
    if (pieces && !(s->limit > 0 && isfinite(s->limit)))
        return broken(st, -1, "the limit of the split is not positive and finite");
    return PTQ_OK;
}

int ptq_quant_validate(const struct ptq_quant *q, struct ptq_status *st)
{
    struct ptq_form_head h;
    ptq_quant_head(q, &h);
    struct ptq_head_fault fault = ptq_head_check(&h);
    char text[WHERE];
    if (fault.what)
        return ptq_status_set(st, PTQ_ERR_NUMERIC, "%s: %s%s%s", where(fault.part, text),
                              fault.array, fault.array[0] ? ": " : "", fault.what);
    int rc = check_act(q, st);
    if (rc == PTQ_OK && q->split.n_cols)
        rc = check_split(q, st);
    for (int k = 0; k < q->n_parts && rc == PTQ_OK; k++)
        rc = check_part(q, k, st);
    return rc;
}
