/* unpack.c: the stored form from bytes. The head and the bytes are untrusted. */
#include "core/half.h"
#include "quant/pack.h"
#include <stdio.h>
#include <string.h>

/* ---- bit streams ---- */

struct stream {
    const uint8_t *at;
    uint64_t acc;
    int n; /* bits waiting in acc */
};

static uint32_t get(struct stream *s, int bits)
{
    for (; s->n < bits; s->n += 8)
        s->acc |= (uint64_t)*s->at++ << s->n;
    uint32_t v = (uint32_t)(s->acc & ((UINT64_C(1) << bits) - 1));
    s->acc >>= bits;
    s->n -= bits;
    return v;
}

static void get_end(struct stream *s)
{
    s->acc = 0;
    s->n = 0;
}

/* ---- arrays ---- */

static float decode(uint32_t u, enum ptq_fmt fmt, int bits, bool is_signed)
{
    float v;
    switch (fmt) {
    case PTQ_FMT_F16: return ptq_f32_from_f16((uint16_t)u);
    case PTQ_FMT_BF16: return ptq_f32_from_bf16((uint16_t)u);
    case PTQ_FMT_F32: memcpy(&v, &u, sizeof v); return v;
    default:
        return is_signed && u >> (bits - 1) ? (float)((int64_t)u - (INT64_C(1) << bits)) : (float)u;
    }
}

struct reader {
    const struct ptq_form_head *h;
    struct stream s;
    struct ptq_arena *arena;
    struct ptq_status *st;
};

static int get_array(struct reader *r, const struct ptq_arr_head *h, struct ptq_arr *a)
{
    const int bits = ptq_fmt_bits(h->fmt, h->bits);
    *a = (struct ptq_arr){.fmt = (enum ptq_fmt)h->fmt};
    if (!bits)
        return PTQ_OK;
    float *at = ptq_arena_alloc(r->arena, r->st, h->n, sizeof *at);
    if (!at)
        return PTQ_ERR_MEMORY;
    *a = (struct ptq_arr){(enum ptq_fmt)h->fmt, h->bits, h->is_signed, h->n, at};
    for (int64_t i = 0; i < h->n; i++)
        at[i] = decode(get(&r->s, bits), a->fmt, bits, a->is_signed);
    get_end(&r->s);
    return PTQ_OK;
}

static float get_f32(struct reader *r, bool is_there)
{
    const float v = is_there ? decode(get(&r->s, 32), PTQ_FMT_F32, 32, false) : 0;
    get_end(&r->s);
    return v;
}

static int get_codes(struct reader *r, int64_t n, int bits, const uint16_t **out)
{
    uint16_t *codes = n ? ptq_arena_alloc(r->arena, r->st, n, sizeof *codes) : NULL;
    *out = codes;
    for (int64_t i = 0; i < n && codes; i++)
        codes[i] = (uint16_t)get(&r->s, bits);
    get_end(&r->s);
    return n && !codes ? PTQ_ERR_MEMORY : PTQ_OK;
}

/* Fields of an index, `less` below what is stored. */
static int get_indices(struct reader *r, int64_t n, int bits, int less, const int32_t **out)
{
    int32_t *at = n ? ptq_arena_alloc(r->arena, r->st, n, sizeof *at) : NULL;
    *out = at;
    for (int64_t i = 0; i < n && at; i++)
        at[i] = (int32_t)get(&r->s, bits) - less;
    get_end(&r->s);
    return n && !at ? PTQ_ERR_MEMORY : PTQ_OK;
}

static int get_bits(struct reader *r, int64_t n, const uint8_t **out)
{
    uint8_t *at = n ? ptq_arena_alloc(r->arena, r->st, n, 1) : NULL;
    *out = at;
    for (int64_t i = 0; i < n && at; i++)
        at[i] = (uint8_t)get(&r->s, 1);
    get_end(&r->s);
    return n && !at ? PTQ_ERR_MEMORY : PTQ_OK;
}

/* ---- the form ---- */

static int get_part(struct reader *r, int k, struct ptq_part *p)
{
    const struct ptq_part_head *h = &r->h->part[k];
    const int64_t kcols = ptq_head_kcols(r->h);
    *p = (struct ptq_part){.kind = (enum ptq_part_kind)h->kind,
                           .bits = h->bits,
                           .group_cols = h->group_cols,
                           .groups_per_row = h->groups_per_row,
                           .zero_const = h->zero_const,
                           .dim = h->dim,
                           .book_len = h->book_len,
                           .book_rows = h->book_rows,
                           .book_cols = h->book_cols,
                           .rank = h->rank,
                           .tree_levels = h->tree_levels};
    int rc = get_codes(r, ptq_head_codes(r->h, k), h->bits, &p->codes);
    if (rc == PTQ_OK)
        rc = get_array(r, &h->arr[PTQ_ARR_SCALE], &p->scale);
    if (rc == PTQ_OK)
        rc = get_array(r, &h->arr[PTQ_ARR_ZERO], &p->zero);
    if (rc == PTQ_OK)
        rc = get_indices(r, h->has_perm ? kcols : 0, ptq_index_bits(kcols), 0, &p->perm);
    if (rc == PTQ_OK)
        rc = get_bits(r, r->h->rows * (kcols / 2) * h->tree_levels, &p->tree_bits);
    for (int id = PTQ_ARR_BOOK; id < PTQ_N_ARRS && rc == PTQ_OK; id++)
        rc = get_array(r, &h->arr[id], ptq_part_arr(p, (enum ptq_arr_id)id));
    return rc;
}

static int get_divisor(struct reader *r, const struct ptq_packed *packed, struct ptq_arr *a)
{
    const struct ptq_arr_head *h = &r->h->divisor;
    if (!r->h->folds)
        return get_array(r, h, a);
    float *at = ptq_arena_alloc(r->arena, r->st, h->n, sizeof *at);
    if (!at)
        return PTQ_ERR_MEMORY;
    memcpy(at, packed->folded, (size_t)h->n * sizeof *at);
    *a = (struct ptq_arr){.fmt = (enum ptq_fmt)h->fmt, .n = h->n, .at = at};
    return PTQ_OK;
}

static int get_inputs(struct reader *r, const struct ptq_packed *packed, struct ptq_quant *q)
{
    struct ptq_split *m = &q->split;
    q->act.folds = r->h->folds;
    q->act.bits = r->h->act_bits;
    m->n_cols = r->h->split_cols;
    int rc = get_divisor(r, packed, &q->act.divisor);
    if (rc == PTQ_OK)
        q->act.scale = get_f32(r, r->h->act_scale);
    if (rc == PTQ_OK)
        rc = get_indices(r, m->n_cols, ptq_index_bits(r->h->cols + 1), 1, &m->source);
    if (rc == PTQ_OK)
        rc = get_indices(r, m->n_cols, r->h->piece_bits, 1, &m->piece);
    if (rc == PTQ_OK)
        m->limit = get_f32(r, r->h->piece_bits != 0);
    return rc;
}

/* ---- rules ---- */

static int check_head(const struct ptq_form_head *h, const struct ptq_packed *packed,
                      struct ptq_status *st)
{
    char part[24] = "";
    struct ptq_head_fault fault = ptq_head_check(h);
    if (fault.part >= 0)
        snprintf(part, sizeof part, "part %d: ", fault.part);
    if (fault.what)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "packed form: %s%s%s%s; the attributes are damaged, write the form "
                              "again",
                              part, fault.array, fault.array[0] ? ": " : "", fault.what);
    int64_t want;
    if (!ptq_form_bytes(h, &want) || want != packed->bytes)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "packed form: %lld bytes do not fill the shape of its attributes; write the form again",
            (long long)packed->bytes);
    if (h->folds && (!packed->folded || packed->n_folded != h->cols))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "packed form: the divisor that was folded into the producer is not "
                              "beside it; write the form again");
    return PTQ_OK;
}

/* A form has one packed form: no scale of 0, no wider pieces than it needs. */
static void check_bytes(const struct ptq_quant *q, int64_t bytes, struct ptq_status *st)
{
    struct ptq_form_head h;
    int64_t want;
    ptq_quant_head(q, &h);
    if (!ptq_form_bytes(&h, &want) || want != bytes)
        ptq_status_set(st, PTQ_ERR_NUMERIC, "stored form: fields wider than their values need");
}

int ptq_quant_unpack(const struct ptq_form_head *h, const struct ptq_packed *packed,
                     struct ptq_arena *arena, struct ptq_quant *q, struct ptq_status *st)
{
    int rc = check_head(h, packed, st);
    if (rc != PTQ_OK)
        return rc;
    struct reader r = {.h = h, .s = {.at = packed->at}, .arena = arena, .st = st};
    *q = (struct ptq_quant){
        .rows = h->rows, .cols = h->cols, .n_parts = h->n_parts, .file_bits = h->file_bits};
    for (int k = 0; k < h->n_parts && rc == PTQ_OK; k++)
        rc = get_part(&r, k, &q->part[k]);
    if (rc == PTQ_OK)
        rc = get_inputs(&r, packed, q);
    struct ptq_status rules = {0};
    if (rc == PTQ_OK && ptq_quant_validate(q, &rules) == PTQ_OK)
        check_bytes(q, packed->bytes, &rules);
    if (rc == PTQ_OK && rules.text[0])
        rc = ptq_status_set(st, PTQ_ERR_USAGE, "packed form: damaged (%s); write the form again",
                            rules.text);
    return rc;
}
