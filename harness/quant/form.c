/* form.c: what a stored form is: its rules, its values, its bits. */
#include "quant/form.h"
#include "core/hash.h"
#include "core/size.h"
#include "quant/pack.h"
#include <float.h>
#include <math.h>
#include <string.h>

/* ---- rules ---- */

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

static int broken(struct ptq_status *st, int part, const char *what)
{
    return ptq_status_set(st, PTQ_ERR_NUMERIC, "stored form, part %d: %s", part, what);
}

static int check_value(const struct ptq_arr *a, int64_t i, int part, const char *name,
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
    if (!fault)
        return PTQ_OK;
    return ptq_status_set(st, PTQ_ERR_NUMERIC, "stored form, part %d: %s[%lld] = %g %s (%d bits)",
                          part, name, (long long)i, (double)v, fault, a->bits);
}

static int check_array(const struct ptq_arr *a, int64_t n, int part, const char *name,
                       struct ptq_status *st)
{
    if (a->n != n || !a->at)
        return broken(st, part, "scale or zero array of the wrong length");
    if (a->fmt == PTQ_FMT_INT && (a->bits < 1 || a->bits > 24))
        return broken(st, part, "integer array wider than 1..24 bits");
    int rc = PTQ_OK;
    for (int64_t i = 0; i < n && rc == PTQ_OK; i++)
        rc = check_value(a, i, part, name, st);
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

static int check_codes(const struct ptq_quant *q, int k, struct ptq_status *st)
{
    const struct ptq_part *p = &q->part[k];
    int64_t n = q->rows * q->cols;
    uint16_t all = 0;
    for (int64_t i = 0; i < n; i++)
        all |= p->codes[i];
    if (all >> p->bits == 0)
        return PTQ_OK;
    int64_t i = 0;
    while (p->codes[i] >> p->bits == 0)
        i++;
    return ptq_status_set(
        st, PTQ_ERR_NUMERIC,
        "stored form, part %d: code %d at row %lld, column %lld is not below 2^%d", k, p->codes[i],
        (long long)(i / q->cols), (long long)(i % q->cols), p->bits);
}

static int check_part(const struct ptq_quant *q, int k, struct ptq_status *st)
{
    const struct ptq_part *p = &q->part[k];
    if (p->kind != PTQ_PART_UNIFORM)
        return broken(st, k, "unknown kind of part");
    if (p->bits < 1 || p->bits > 16 || !p->codes)
        return broken(st, k, "codes absent, or not 1..16 bits wide");
    if (p->group_cols < 1 || p->group_cols > q->cols)
        return broken(st, k, "group_cols is not within 1..cols");
    if (p->groups_per_row != 0 && p->groups_per_row != (q->cols - 1) / p->group_cols + 1)
        return broken(st, k, "groups_per_row is neither 0 nor ceil(cols / group_cols)");
    if (p->scale.fmt == PTQ_FMT_NONE || p->scale.fmt == PTQ_FMT_INT)
        return broken(st, k, "scale has no floating format");
    int64_t groups = p->groups_per_row ? q->rows * p->groups_per_row : 1;
    int rc = check_array(&p->scale, groups, k, "scale", st);
    if (rc == PTQ_OK && p->zero.fmt != PTQ_FMT_NONE)
        rc = check_array(&p->zero, groups, k, "zero", st);
    if (rc == PTQ_OK && !isfinite(p->zero_const))
        rc = broken(st, k, "zero_const is not finite");
    if (rc == PTQ_OK && p->perm)
        rc = check_perm(p->perm, q->cols, k, st);
    return rc == PTQ_OK ? check_codes(q, k, st) : rc;
}

int ptq_quant_validate(const struct ptq_quant *q, struct ptq_status *st)
{
    int64_t n;
    if (q->rows < 1 || q->cols < 1 || !ptq_size_mul(q->rows, q->cols, &n) || q->cols > INT32_MAX)
        return broken(st, 0, "rows or cols out of range");
    if (q->n_parts < 1 || q->n_parts > PTQ_MAX_PARTS)
        return broken(st, 0, "n_parts out of range");
    int rc = PTQ_OK;
    for (int k = 0; k < q->n_parts && rc == PTQ_OK; k++)
        rc = check_part(q, k, st);
    return rc;
}

/* ---- values ---- */

PTQ_CLONES static void dequant_run(const uint16_t *restrict codes, int64_t n, float scale,
                                   float zero, bool add, float *restrict what)
{
    if (add)
        for (int64_t j = 0; j < n; j++)
            what[j] += scale * ((float)codes[j] - zero);
    else
        for (int64_t j = 0; j < n; j++)
            what[j] = scale * ((float)codes[j] - zero);
}

static void dequant_row(const struct ptq_part *p, int64_t cols, int64_t row, bool add, float *what)
{
    const uint16_t *codes = p->codes + row * cols;
    for (int64_t j = 0; j < cols; j += p->group_cols) {
        int64_t g = p->groups_per_row ? row * p->groups_per_row + j / p->group_cols : 0;
        int64_t n = cols - j < p->group_cols ? cols - j : p->group_cols;
        if (!p->perm) {
            dequant_run(codes + j, n, p->scale.at[g], ptq_part_zero(p, g), add, what + j);
            continue;
        }
        for (int64_t k = j; k < j + n; k++) {
            int64_t c = p->perm[k];
            dequant_run(codes + c, 1, p->scale.at[g], ptq_part_zero(p, g), add, what + c);
        }
    }
}

void ptq_quant_dequant(const struct ptq_quant *q, float *what)
{
    for (int64_t i = 0; i < q->rows; i++)
        for (int k = 0; k < q->n_parts; k++)
            dequant_row(&q->part[k], q->cols, i, k > 0, what + i * q->cols);
}

/* ---- bits ---- */

void ptq_quant_head(const struct ptq_quant *q, struct ptq_form_head *h)
{
    memset(h, 0, sizeof *h);
    h->rows = q->rows;
    h->cols = q->cols;
    h->n_parts = q->n_parts;
    for (int k = 0; k < q->n_parts; k++) {
        const struct ptq_part *p = &q->part[k];
        h->part[k].kind = p->kind;
        h->part[k].bits = p->bits;
        h->part[k].group_cols = p->group_cols;
        h->part[k].groups_per_row = p->groups_per_row;
        h->part[k].n_groups = p->scale.n;
        h->part[k].scale_fmt = p->scale.fmt;
        h->part[k].zero_fmt = p->zero.fmt;
        h->part[k].zero_bits = p->zero.fmt == PTQ_FMT_INT ? p->zero.bits : 0;
        h->part[k].zero_signed = p->zero.is_signed;
        h->part[k].has_perm = p->perm != NULL;
        h->part[k].zero_const = p->zero_const;
    }
}

static double paper_bits(const struct ptq_form_head *h, int k)
{
    double n = (double)h->rows * (double)h->cols, groups = (double)h->part[k].n_groups;
    double zero = h->part[k].zero_fmt == PTQ_FMT_NONE ? 0 : h->part[k].bits;
    double perm = h->part[k].has_perm ? (double)h->cols * ptq_index_bits(h->cols) : 0;
    return h->part[k].bits + (groups * (16 + zero) + perm) / n;
}

void ptq_quant_ledger(const struct ptq_quant *q, struct ptq_ledger *l)
{
    struct ptq_form_head h;
    ptq_quant_head(q, &h);
    memset(l, 0, sizeof *l);
    for (int k = 0; k < h.n_parts; k++) {
        int64_t bytes[PTQ_N_SECTIONS];
        ptq_part_section_bytes(&h, k, bytes); /* a validated form: no overflow */
        l->codes += 8.0 * (double)bytes[PTQ_SECTION_CODES];
        l->scales += 8.0 * (double)bytes[PTQ_SECTION_SCALE];
        l->zeros += 8.0 * (double)bytes[PTQ_SECTION_ZERO];
        l->perm += 8.0 * (double)bytes[PTQ_SECTION_PERM];
        l->nominal += h.part[k].bits;
        l->paper += paper_bits(&h, k);
    }
    l->total = l->codes + l->scales + l->zeros + l->perm;
}

/* ---- hash ---- */

static void hash_array(struct ptq_hasher *h, const struct ptq_arr *a)
{
    ptq_hasher_add_i64(h, a->fmt);
    ptq_hasher_add_i64(h, a->n);
    if (a->fmt != PTQ_FMT_NONE)
        ptq_hasher_add(h, a->at, (size_t)a->n * sizeof *a->at);
}

void ptq_quant_hash(const struct ptq_quant *q, char out_33[33])
{
    struct ptq_hasher *h = ptq_hasher_new();
    ptq_hasher_add_i64(h, q->rows);
    ptq_hasher_add_i64(h, q->cols);
    for (int k = 0; k < q->n_parts; k++) {
        const struct ptq_part *p = &q->part[k];
        ptq_hasher_add_i64(h, p->bits);
        ptq_hasher_add_i64(h, p->group_cols);
        ptq_hasher_add_i64(h, p->groups_per_row);
        ptq_hasher_add(h, p->codes, (size_t)(q->rows * q->cols) * sizeof *p->codes);
        hash_array(h, &p->scale);
        hash_array(h, &p->zero);
        ptq_hasher_add_f64(h, p->zero_const);
        if (p->perm)
            ptq_hasher_add(h, p->perm, (size_t)q->cols * sizeof *p->perm);
    }
    ptq_hasher_done(h, out_33);
}
