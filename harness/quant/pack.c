/* pack.c: the stored form as bytes and back. A section is a stream of fields, least significant
 * bit first, padded to a whole byte. */
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

static int fmt_bits(int fmt, int int_bits)
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

bool ptq_part_section_bytes(const struct ptq_form_head *h, int k, int64_t bytes[PTQ_N_SECTIONS])
{
    int64_t n, groups = h->part[k].n_groups;
    return ptq_size_mul(h->rows, h->cols, &n) &&
           section(n, h->part[k].bits, &bytes[PTQ_SECTION_CODES]) &&
           section(groups, fmt_bits(h->part[k].scale_fmt, 0), &bytes[PTQ_SECTION_SCALE]) &&
           section(groups, fmt_bits(h->part[k].zero_fmt, h->part[k].zero_bits),
                   &bytes[PTQ_SECTION_ZERO]) &&
           section(h->part[k].has_perm ? h->cols : 0, ptq_index_bits(h->cols),
                   &bytes[PTQ_SECTION_PERM]);
}

static bool total_bytes(const struct ptq_form_head *h, int64_t *total)
{
    *total = 0;
    for (int k = 0; k < h->n_parts; k++) {
        int64_t bytes[PTQ_N_SECTIONS];
        if (!ptq_part_section_bytes(h, k, bytes))
            return false;
        for (int s = 0; s < PTQ_N_SECTIONS; s++)
            if (!ptq_size_add(*total, bytes[s], total))
                return false;
    }
    return true;
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

static void put_array(struct stream *s, const struct ptq_arr *a)
{
    int bits = fmt_bits(a->fmt, a->bits);
    for (int64_t i = 0; bits && i < a->n; i++)
        put(s, encode(a->at[i], a->fmt, bits), bits);
    put_end(s);
}

static int get_array(struct stream *s, struct ptq_arena *arena, struct ptq_arr *a,
                     struct ptq_status *st)
{
    int bits = fmt_bits(a->fmt, a->bits);
    if (!bits)
        return PTQ_OK;
    float *at = ptq_arena_alloc(arena, st, a->n, sizeof *at);
    if (!at)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < a->n; i++)
        at[i] = decode(get(s, bits), a->fmt, bits, a->is_signed);
    get_end(s);
    a->at = at;
    return PTQ_OK;
}

/* ---- pack ---- */

int ptq_quant_pack(const struct ptq_quant *q, struct ptq_arena *arena, struct ptq_packed *out,
                   struct ptq_status *st)
{
    struct ptq_form_head h;
    ptq_quant_head(q, &h);
    if (!total_bytes(&h, &out->bytes))
        return ptq_status_set(st, PTQ_ERR_MEMORY,
                              "a packed form of %lld x %lld weights overflows a size",
                              (long long)q->rows, (long long)q->cols);
    out->at = ptq_arena_alloc(arena, st, out->bytes, 1);
    if (!out->at)
        return PTQ_ERR_MEMORY;
    struct stream s = {.at = out->at};
    for (int k = 0; k < q->n_parts; k++) {
        const struct ptq_part *p = &q->part[k];
        for (int64_t i = 0; i < q->rows * q->cols; i++)
            put(&s, p->codes[i], p->bits);
        put_end(&s);
        put_array(&s, &p->scale);
        put_array(&s, &p->zero);
        for (int64_t i = 0; p->perm && i < q->cols; i++)
            put(&s, (uint32_t)p->perm[i], ptq_index_bits(q->cols));
        put_end(&s);
    }
    return PTQ_OK;
}

/* ---- unpack: the head and the bytes are untrusted ---- */

static bool valid_float(int fmt)
{
    return fmt == PTQ_FMT_F16 || fmt == PTQ_FMT_BF16 || fmt == PTQ_FMT_F32;
}

static const char *part_fault(const struct ptq_form_head *h, int k)
{
    int64_t groups = h->part[k].groups_per_row, n;
    if (h->part[k].kind != PTQ_PART_UNIFORM)
        return "kind is unknown";
    if (h->part[k].bits < 1 || h->part[k].bits > 16)
        return "bits are not within 1..16";
    if (h->part[k].group_cols < 1 || h->part[k].group_cols > h->cols)
        return "group_cols is not within 1..cols";
    if (groups != 0 && groups != (h->cols - 1) / h->part[k].group_cols + 1)
        return "groups_per_row does not fit group_cols";
    if (!ptq_size_mul(h->rows, groups, &n) || h->part[k].n_groups != (groups ? n : 1))
        return "n_groups does not fit rows";
    if (!valid_float(h->part[k].scale_fmt))
        return "scale_fmt is unknown";
    if (h->part[k].zero_fmt == PTQ_FMT_INT
            ? h->part[k].zero_bits < 1 || h->part[k].zero_bits > 24
            : h->part[k].zero_fmt != PTQ_FMT_NONE && !valid_float(h->part[k].zero_fmt))
        return "zero_fmt or zero_bits is unknown";
    return NULL;
}

static int check_head(const struct ptq_form_head *h, int64_t bytes, struct ptq_status *st)
{
    int64_t n, want;
    const char *fault = NULL;
    if (h->rows < 1 || h->cols < 1 || h->cols > INT32_MAX || !ptq_size_mul(h->rows, h->cols, &n))
        fault = "rows or cols out of range";
    else if (h->n_parts < 1 || h->n_parts > PTQ_MAX_PARTS)
        fault = "n_parts out of range";
    for (int k = 0; !fault && k < h->n_parts; k++)
        fault = part_fault(h, k);
    if (fault)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "packed form: %s; the attributes are damaged, write the form again",
                              fault);
    if (!total_bytes(h, &want) || want != bytes)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "packed form: %lld bytes do not fill the shape of its attributes; write the form again",
            (long long)bytes);
    return PTQ_OK;
}

static int unpack_part(const struct ptq_form_head *h, int k, struct stream *s,
                       struct ptq_arena *arena, struct ptq_part *p, struct ptq_status *st)
{
    int64_t n = h->rows * h->cols;
    uint16_t *codes = ptq_arena_alloc(arena, st, n, sizeof *codes);
    int32_t *perm = h->part[k].has_perm ? ptq_arena_alloc(arena, st, h->cols, sizeof *perm) : NULL;
    if (!codes || (h->part[k].has_perm && !perm))
        return PTQ_ERR_MEMORY;
    *p = (struct ptq_part){.kind = PTQ_PART_UNIFORM,
                           .bits = h->part[k].bits,
                           .codes = codes,
                           .perm = perm,
                           .group_cols = h->part[k].group_cols,
                           .groups_per_row = h->part[k].groups_per_row,
                           .zero_const = h->part[k].zero_const};
    p->scale =
        (struct ptq_arr){.fmt = (enum ptq_fmt)h->part[k].scale_fmt, .n = h->part[k].n_groups};
    if (h->part[k].zero_fmt != PTQ_FMT_NONE)
        p->zero = (struct ptq_arr){.fmt = (enum ptq_fmt)h->part[k].zero_fmt,
                                   .bits = h->part[k].zero_bits,
                                   .is_signed = h->part[k].zero_signed,
                                   .n = h->part[k].n_groups};
    for (int64_t i = 0; i < n; i++)
        codes[i] = (uint16_t)get(s, p->bits);
    get_end(s);
    int rc = get_array(s, arena, &p->scale, st);
    if (rc == PTQ_OK)
        rc = get_array(s, arena, &p->zero, st);
    for (int64_t i = 0; perm && i < h->cols && rc == PTQ_OK; i++)
        perm[i] = (int32_t)get(s, ptq_index_bits(h->cols));
    get_end(s);
    return rc;
}

int ptq_quant_unpack(const struct ptq_form_head *h, const uint8_t *at, int64_t bytes,
                     struct ptq_arena *arena, struct ptq_quant *q, struct ptq_status *st)
{
    int rc = check_head(h, bytes, st);
    if (rc != PTQ_OK)
        return rc;
    memset(q, 0, sizeof *q);
    q->rows = h->rows;
    q->cols = h->cols;
    q->n_parts = h->n_parts;
    struct stream s = {.at = (uint8_t *)(uintptr_t)at}; /* read only */
    for (int k = 0; k < h->n_parts && rc == PTQ_OK; k++)
        rc = unpack_part(h, k, &s, arena, &q->part[k], st);
    struct ptq_status rules = {0};
    if (rc == PTQ_OK && ptq_quant_validate(q, &rules) != PTQ_OK)
        rc = ptq_status_set(st, PTQ_ERR_USAGE, "packed form: damaged (%s); write the form again",
                            rules.text);
    return rc;
}
