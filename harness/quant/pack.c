/* pack.c: the stored form as bytes. A section is a stream of fields, least significant bit first,
 * padded to a whole byte. */
#include "quant/pack.h"
#include "core/half.h"
#include "core/size.h"
#include <string.h>

int ptq_index_bits(int64_t n)
{
    int bits = 0;
    while (n > 1 && (n - 1) >> bits)
        bits++;
    return bits;
}

/* ---- sizes ---- */

int ptq_fmt_bits(int fmt, int int_bits)
{
    switch (fmt) {
    case PTQ_FMT_INT: return int_bits;
    case PTQ_FMT_F16:
    case PTQ_FMT_BF16: return 16;
    case PTQ_FMT_F32: return 32;
    default: return 0;
    }
}

static bool section(int64_t n, int bits, int64_t *bytes)
{
    int64_t total;
    if (!ptq_size_mul(n, bits, &total) || total > INT64_MAX - 7)
        return false;
    *bytes = (total + 7) / 8;
    return true;
}

static bool array_section(const struct ptq_arr_head *a, int64_t *bytes)
{
    return section(a->n, ptq_fmt_bits(a->fmt, a->bits), bytes);
}

int64_t ptq_head_codes(const struct ptq_form_head *h, int k)
{
    const struct ptq_part_head *p = &h->part[k];
    switch (p->kind) {
    case PTQ_PART_UNIFORM: return h->rows * ptq_head_kcols(h);
    case PTQ_PART_CODEBOOK: return h->rows * (ptq_head_kcols(h) / p->dim);
    default: return 0;
    }
}

bool ptq_part_section_bytes(const struct ptq_form_head *h, int k, int64_t bytes[PTQ_N_SECTIONS])
{
    const struct ptq_part_head *p = &h->part[k];
    const int64_t kcols = ptq_head_kcols(h);
    int64_t tree;
    bool ok = ptq_size_mul(h->rows, kcols / 2, &tree) &&
              ptq_size_mul(tree, p->tree_levels, &tree) &&
              section(ptq_head_codes(h, k), p->bits, &bytes[PTQ_SECTION_CODES]) &&
              array_section(&p->arr[PTQ_ARR_SCALE], &bytes[PTQ_SECTION_SCALE]) &&
              array_section(&p->arr[PTQ_ARR_ZERO], &bytes[PTQ_SECTION_ZERO]) &&
              section(p->has_perm ? kcols : 0, ptq_index_bits(kcols), &bytes[PTQ_SECTION_PERM]) &&
              section(tree, 1, &bytes[PTQ_SECTION_TREE]);
    for (int id = PTQ_ARR_BOOK; id < PTQ_N_ARRS && ok; id++)
        ok = array_section(&p->arr[id], &bytes[PTQ_SECTION_OF(id)]);
    return ok;
}

bool ptq_input_section_bytes(const struct ptq_form_head *h, int64_t bytes[PTQ_N_INPUT_SECTIONS])
{
    const struct ptq_arr_head none = {0};
    return array_section(h->folds ? &none : &h->divisor, &bytes[PTQ_SECTION_DIVISOR]) &&
           section(h->act_scale, 32, &bytes[PTQ_SECTION_ACT_SCALE]) &&
           section(h->split_cols, ptq_index_bits(h->cols + 1), &bytes[PTQ_SECTION_SOURCE]) &&
           section(h->split_cols, h->piece_bits, &bytes[PTQ_SECTION_PIECE]) &&
           section(h->piece_bits != 0, 32, &bytes[PTQ_SECTION_LIMIT]);
}

static bool add_all(const int64_t *bytes, int n, int64_t *total)
{
    bool ok = true;
    for (int s = 0; s < n && ok; s++)
        ok = ptq_size_add(*total, bytes[s], total);
    return ok;
}

bool ptq_form_bytes(const struct ptq_form_head *h, int64_t *total)
{
    int64_t inputs[PTQ_N_INPUT_SECTIONS];
    bool ok = true;
    *total = 0;
    for (int k = 0; k < h->n_parts && ok; k++) {
        int64_t bytes[PTQ_N_SECTIONS];
        ok = ptq_part_section_bytes(h, k, bytes) && add_all(bytes, PTQ_N_SECTIONS, total);
    }
    return ok && ptq_input_section_bytes(h, inputs) && add_all(inputs, PTQ_N_INPUT_SECTIONS, total);
}

/* ---- bit streams ---- */

struct stream {
    uint8_t *at;
    uint64_t acc;
    int n; /* bits waiting in acc */
};

static void put(struct stream *s, uint32_t v, int bits)
{
    s->acc |= (uint64_t)v << s->n;
    for (s->n += bits; s->n >= 8; s->n -= 8, s->acc >>= 8)
        *s->at++ = (uint8_t)s->acc;
}

static void put_end(struct stream *s)
{
    if (s->n)
        *s->at++ = (uint8_t)s->acc;
    s->acc = 0;
    s->n = 0;
}

/* ---- values of side arrays ---- */

static uint32_t encode(float v, enum ptq_fmt fmt, int bits)
{
    uint32_t u;
    switch (fmt) {
    case PTQ_FMT_F16: return ptq_f16_from_f32(v);
    case PTQ_FMT_BF16: return ptq_bf16_from_f32(v);
    case PTQ_FMT_F32: memcpy(&u, &v, sizeof u); return u;
    default: return (uint32_t)(int32_t)v & (uint32_t)((UINT64_C(1) << bits) - 1);
    }
}

static void put_array(struct stream *s, const struct ptq_arr *a)
{
    int bits = ptq_fmt_bits(a->fmt, a->bits);
    for (int64_t i = 0; bits && i < a->n; i++)
        put(s, encode(a->at[i], a->fmt, bits), bits);
    put_end(s);
}

/* ---- the form ---- */

static void put_part(struct stream *s, const struct ptq_form_head *h, int k,
                     const struct ptq_part *p)
{
    const int64_t kcols = ptq_head_kcols(h), n_codes = ptq_head_codes(h, k);
    for (int64_t i = 0; i < n_codes; i++)
        put(s, p->codes[i], p->bits);
    put_end(s);
    put_array(s, &p->scale);
    put_array(s, &p->zero);
    for (int64_t i = 0; p->perm && i < kcols; i++)
        put(s, (uint32_t)p->perm[i], ptq_index_bits(kcols));
    put_end(s);
    for (int64_t i = 0; i < h->rows * (kcols / 2) * p->tree_levels; i++)
        put(s, p->tree_bits[i], 1);
    put_end(s);
    for (int id = PTQ_ARR_BOOK; id < PTQ_N_ARRS; id++)
        put_array(s, ptq_part_arr_of(p, id));
}

static void put_inputs(struct stream *s, const struct ptq_form_head *h, const struct ptq_quant *q)
{
    const struct ptq_split *m = &q->split;
    const struct ptq_arr scale = {.fmt = PTQ_FMT_F32, .n = h->act_scale, .at = &q->act.scale},
                         limit = {.fmt = PTQ_FMT_F32, .n = h->piece_bits != 0, .at = &m->limit};
    if (!h->folds)
        put_array(s, &q->act.divisor);
    put_array(s, &scale);
    for (int64_t k = 0; k < m->n_cols; k++) /* 0: no source */
        put(s, (uint32_t)(m->source[k] + 1), ptq_index_bits(h->cols + 1));
    put_end(s);
    for (int64_t k = 0; k < m->n_cols && h->piece_bits; k++) /* 0: the channel as it is */
        put(s, (uint32_t)(m->piece[k] + 1), h->piece_bits);
    put_end(s);
    put_array(s, &limit);
}

int ptq_quant_pack(const struct ptq_quant *q, struct ptq_arena *arena, struct ptq_packed *out,
                   struct ptq_status *st)
{
    struct ptq_form_head h;
    *out = (struct ptq_packed){0};
    ptq_quant_head(q, &h);
    if (!ptq_form_bytes(&h, &out->bytes))
        return ptq_status_set(st, PTQ_ERR_MEMORY,
                              "a packed form of %lld x %lld weights overflows a size",
                              (long long)q->rows, (long long)q->cols);
    uint8_t *at = ptq_arena_alloc(arena, st, out->bytes, 1);
    if (!at)
        return PTQ_ERR_MEMORY;
    out->at = at;
    if (h.folds) {
        out->folded = q->act.divisor.at;
        out->n_folded = q->act.divisor.n;
    }
    struct stream s = {.at = at};
    for (int k = 0; k < q->n_parts; k++)
        put_part(&s, &h, k, &q->part[k]);
    put_inputs(&s, &h, q);
    return PTQ_OK;
}
