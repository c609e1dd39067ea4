/* form.c: the stored form seen as a whole: its shape, its saturated scales, its hash. */
#include "quant/form.h"
#include "core/hash.h"
#include "quant/pack.h"
#include <float.h>
#include <math.h>
#include <string.h>

/* ---- side arrays ---- */

const char *const ptq_arr_names[PTQ_N_ARRS] = {"scale",       "zero", "book",  "book_step",
                                               "book_min",    "left", "right", "left_scale",
                                               "right_scale", "rot"};

struct ptq_arr *ptq_part_arr(struct ptq_part *p, enum ptq_arr_id id)
{
    struct ptq_arr *const all[PTQ_N_ARRS] = {&p->scale,       &p->zero, &p->book,  &p->book_step,
                                             &p->book_min,    &p->left, &p->right, &p->left_scale,
                                             &p->right_scale, &p->rot};
    return all[id];
}

const struct ptq_arr *ptq_part_arr_of(const struct ptq_part *p, int id)
{
    return ptq_part_arr((struct ptq_part *)(uintptr_t)p, (enum ptq_arr_id)id);
}

/* ---- saturated scales ---- */

int64_t ptq_quant_saturated_scales(const struct ptq_quant *q)
{
    int64_t count = 0;
    for (int k = 0; k < q->n_parts; k++) {
        const struct ptq_arr *s = &q->part[k].scale;
        const float least = ptq_round_fmt(DBL_MIN, s->fmt), most = ptq_round_fmt(DBL_MAX, s->fmt);
        for (int64_t i = 0; i < s->n && s->fmt >= PTQ_FMT_F16; i++)
            count += fabsf(s->at[i]) == least || fabsf(s->at[i]) == most;
    }
    return count;
}

/* ---- shape ---- */

static struct ptq_arr_head array_head(const struct ptq_arr *a)
{
    struct ptq_arr_head h = {0};
    if (a->fmt == PTQ_FMT_NONE)
        return h;
    h.fmt = a->fmt;
    h.n = a->n;
    if (a->fmt == PTQ_FMT_INT) {
        h.bits = a->bits;
        h.is_signed = a->is_signed;
    }
    return h;
}

static void part_head(const struct ptq_part *p, struct ptq_part_head *h)
{
    h->kind = p->kind;
    h->tree_levels = p->tree_levels;
    h->has_perm = p->perm != NULL;
    for (int id = 0; id < PTQ_N_ARRS; id++)
        h->arr[id] = array_head(ptq_part_arr_of(p, id));
    if (p->kind == PTQ_PART_LOWRANK) {
        h->rank = p->rank;
        return;
    }
    h->bits = p->bits;
    if (p->kind == PTQ_PART_UNIFORM || p->scale.fmt != PTQ_FMT_NONE) {
        h->group_cols = p->group_cols;
        h->groups_per_row = p->groups_per_row;
    }
    if (p->kind == PTQ_PART_UNIFORM) {
        h->zero_const = p->zero_const;
        return;
    }
    h->dim = p->dim;
    h->book_len = p->book_len;
    h->book_rows = p->book_rows;
    h->book_cols = p->book_cols;
}

static int piece_bits(const struct ptq_split *s)
{
    int64_t most = -1;
    for (int64_t k = 0; k < s->n_cols && s->piece; k++)
        most = s->piece[k] > most ? s->piece[k] : most;
    return ptq_index_bits(most + 2);
}

void ptq_quant_head(const struct ptq_quant *q, struct ptq_form_head *h)
{
    memset(h, 0, sizeof *h);
    h->rows = q->rows;
    h->cols = q->cols;
    h->split_cols = q->split.n_cols;
    h->piece_bits = piece_bits(&q->split);
    h->divisor = array_head(&q->act.divisor);
    h->folds = q->act.folds && h->divisor.fmt != PTQ_FMT_NONE;
    h->act_bits = q->act.bits;
    h->act_scale = q->act.scale != 0;
    h->file_bits = q->file_bits;
    h->n_parts = q->n_parts;
    for (int k = 0; k < q->n_parts && k < PTQ_MAX_PARTS; k++)
        part_head(&q->part[k], &h->part[k]);
}

/* ---- hash ---- */

static void hash_array(struct ptq_hasher *h, const struct ptq_arr *a)
{
    ptq_hasher_add_i64(h, a->fmt);
    ptq_hasher_add_i64(h, a->n);
    if (a->fmt != PTQ_FMT_NONE)
        ptq_hasher_add(h, a->at, (size_t)a->n * sizeof *a->at);
}

static void hash_uniform(struct ptq_hasher *h, const struct ptq_quant *q, const struct ptq_part *p)
{
    int64_t kcols = ptq_quant_kcols(q);
    ptq_hasher_add_i64(h, p->bits);
    ptq_hasher_add_i64(h, p->group_cols);
    ptq_hasher_add_i64(h, p->groups_per_row);
    ptq_hasher_add(h, p->codes, (size_t)(q->rows * kcols) * sizeof *p->codes);
    hash_array(h, &p->scale);
    hash_array(h, &p->zero);
    ptq_hasher_add_f64(h, p->zero_const);
    if (p->perm)
        ptq_hasher_add(h, p->perm, (size_t)kcols * sizeof *p->perm);
}

/* By the head, which holds 0 where a kind of part does not read. */
static void hash_other(struct ptq_hasher *h, const struct ptq_quant *q, const struct ptq_part *p,
                       const struct ptq_part_head *head)
{
    const int64_t shape[] = {head->kind,           head->bits,      head->group_cols,
                             head->groups_per_row, head->dim,       head->book_len,
                             head->book_rows,      head->book_cols, head->rank};
    ptq_hasher_add(h, shape, sizeof shape);
    if (p->kind == PTQ_PART_CODEBOOK)
        ptq_hasher_add(h, p->codes,
                       (size_t)(q->rows * ptq_quant_kcols(q) / p->dim) * sizeof *p->codes);
    for (int id = 0; id < PTQ_ARR_ROT; id++)
        if (head->arr[id].fmt != PTQ_FMT_NONE) {
            ptq_hasher_add_i64(h, id);
            ptq_hasher_add_i64(h, head->arr[id].bits);
            hash_array(h, ptq_part_arr_of(p, id));
        }
}

static void hash_view(struct ptq_hasher *h, const struct ptq_quant *q, const struct ptq_part *p)
{
    if (p->tree_levels) {
        ptq_hasher_add_i64(h, p->tree_levels);
        ptq_hasher_add(h, p->tree_bits,
                       (size_t)(q->rows * p->tree_levels * (ptq_quant_kcols(q) / 2)));
    }
    if (p->rot.fmt != PTQ_FMT_NONE)
        hash_array(h, &p->rot);
}

static void hash_inputs(struct ptq_hasher *h, const struct ptq_quant *q,
                        const struct ptq_form_head *head)
{
    const struct ptq_split *s = &q->split;
    if (head->divisor.fmt != PTQ_FMT_NONE) {
        ptq_hasher_add_i64(h, head->folds);
        hash_array(h, &q->act.divisor);
    }
    if (q->act.bits) {
        ptq_hasher_add_i64(h, q->act.bits);
        ptq_hasher_add_f64(h, q->act.scale);
    }
    if (s->n_cols) {
        ptq_hasher_add_i64(h, s->n_cols);
        ptq_hasher_add(h, s->source, (size_t)s->n_cols * sizeof *s->source);
        ptq_hasher_add(h, s->piece, (size_t)s->n_cols * sizeof *s->piece);
        ptq_hasher_add_f64(h, head->piece_bits ? s->limit : 0);
    }
}

void ptq_quant_hash(const struct ptq_quant *q, char out_33[33])
{
    struct ptq_form_head head;
    struct ptq_hasher *h = ptq_hasher_new();
    ptq_quant_head(q, &head);
    ptq_hasher_add_i64(h, q->rows);
    ptq_hasher_add_i64(h, q->cols);
    for (int k = 0; k < q->n_parts; k++) {
        if (q->part[k].kind == PTQ_PART_UNIFORM)
            hash_uniform(h, q, &q->part[k]);
        else
            hash_other(h, q, &q->part[k], &head.part[k]);
        hash_view(h, q, &q->part[k]);
    }
    hash_inputs(h, q, &head);
    ptq_hasher_done(h, out_33);
}
