/* formfile.c: stored forms in a container. */
#include "quant/formfile.h"
#include <stdio.h>
#include <string.h>

enum { OBJECT = 1100, NAME = 48 };

/* Layer names hold dots, not slashes (SCHEMA.md). */
static int object_name(char out[OBJECT], const char *group, const char *layer, const char *leaf,
                       struct ptq_status *st)
{
    if (!*layer || strchr(layer, '/'))
        return ptq_status_set(st, PTQ_ERR_USAGE, "layer name '%s': empty or with a slash; use dots",
                              layer);
    if (snprintf(out, OBJECT, "/%s/%s%s%s", group, layer, *leaf ? "/" : "", leaf) >= OBJECT)
        return ptq_status_set(st, PTQ_ERR_USAGE, "layer name of more than 1000 bytes");
    return PTQ_OK;
}

/* ---- the head as attributes ---- */

/* One integer attribute of the head; exactly one of the pointers is set. */
struct field {
    char name[NAME];
    bool always; /* absent means 0 where not */
    int64_t *wide;
    int *small;
    bool *yes;
};
enum { N_FORM_FIELDS = 9, N_PART_FIELDS = 16 + 4 * (PTQ_N_ARRS - PTQ_ARR_BOOK) };

static int form_fields(struct ptq_form_head *h, struct field out[N_FORM_FIELDS])
{
    const struct field all[N_FORM_FIELDS] = {
        {"rows", true, .wide = &h->rows},        {"cols", true, .wide = &h->cols},
        {"n_parts", true, .small = &h->n_parts}, {"split_cols", .wide = &h->split_cols},
        {"piece_bits", .small = &h->piece_bits}, {"folds", .yes = &h->folds},
        {"act_bits", .small = &h->act_bits},     {"act_scale", .yes = &h->act_scale},
        {"file_bits", .wide = &h->file_bits},
    };
    memcpy(out, all, sizeof all);
    return N_FORM_FIELDS;
}

static int array_fields(struct ptq_arr_head *a, const char *array, struct field out[4])
{
    const struct field all[4] = {
        {.small = &a->fmt}, {.small = &a->bits}, {.yes = &a->is_signed}, {.wide = &a->n}};
    const char *const what[4] = {"fmt", "bits", "signed", "n"};
    memcpy(out, all, sizeof all);
    for (int i = 0; i < 4; i++)
        snprintf(out[i].name, NAME, "%s_%s", array, what[i]);
    return 4;
}

static int part_fields(struct ptq_part_head *h, int k, struct field out[N_PART_FIELDS])
{
    struct ptq_arr_head *scale = &h->arr[PTQ_ARR_SCALE], *zero = &h->arr[PTQ_ARR_ZERO];
    const struct field all[] = {
        {"kind", true, .small = &h->kind},
        {"bits", true, .small = &h->bits},
        {"group_cols", true, .wide = &h->group_cols},
        {"groups_per_row", true, .wide = &h->groups_per_row},
        {"n_groups", true, .wide = &scale->n},
        {"scale_fmt", true, .small = &scale->fmt},
        {"zero_fmt", true, .small = &zero->fmt},
        {"zero_bits", true, .small = &zero->bits},
        {"zero_signed", true, .yes = &zero->is_signed},
        {"has_perm", true, .yes = &h->has_perm},
        {"dim", .wide = &h->dim},
        {"book_len", .wide = &h->book_len},
        {"book_rows", .wide = &h->book_rows},
        {"book_cols", .wide = &h->book_cols},
        {"rank", .wide = &h->rank},
        {"tree_levels", .small = &h->tree_levels},
    };
    int n = sizeof all / sizeof *all;
    memcpy(out, all, sizeof all);
    for (int id = PTQ_ARR_BOOK; id < PTQ_N_ARRS; id++)
        n += array_fields(&h->arr[id], ptq_arr_names[id], out + n);
    for (int i = 0; i < n; i++) {
        char name[NAME];
        memcpy(name, out[i].name, NAME);
        snprintf(out[i].name, NAME, "part%d.%.32s", k, name);
    }
    return n;
}

static int64_t field_value(const struct field *f)
{
    return f->wide ? *f->wide : f->small ? *f->small : *f->yes;
}

static int write_fields(struct ptq_h5 *h5, const char *object, const struct field *f, int n,
                        struct ptq_status *st)
{
    int rc = PTQ_OK;
    for (int i = 0; i < n && rc == PTQ_OK; i++)
        if (f[i].always || field_value(&f[i]) != 0)
            rc = ptq_h5_set_i64(h5, object, f[i].name, field_value(&f[i]), st);
    return rc;
}

static int write_head(struct ptq_h5 *h5, const char *object, const struct ptq_quant *q,
                      struct ptq_status *st)
{
    struct ptq_form_head h;
    struct field f[N_PART_FIELDS];
    char name[NAME];
    ptq_quant_head(q, &h);
    int rc = write_fields(h5, object, f, form_fields(&h, f), st);
    if (rc == PTQ_OK && h.divisor.fmt != PTQ_FMT_NONE)
        rc = ptq_h5_set_i64(h5, object, "divisor_fmt", h.divisor.fmt, st);
    for (int k = 0; k < h.n_parts && rc == PTQ_OK; k++) {
        rc = write_fields(h5, object, f, part_fields(&h.part[k], k, f), st);
        snprintf(name, sizeof name, "part%d.zero_const", k);
        if (rc == PTQ_OK)
            rc = ptq_h5_set_f64(h5, object, name, h.part[k].zero_const, st);
    }
    return rc;
}

static int read_field(struct ptq_h5 *h5, const char *object, const struct field *f,
                      struct ptq_status *st)
{
    const int64_t most = f->wide ? INT64_MAX : 1000;
    int64_t v = 0;
    int rc = ptq_h5_get_i64(h5, object, f->name, &v, st);
    if (rc < 0)
        return rc;
    if (rc == PTQ_SKIP && f->always)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: %s: attribute %s is absent; write the form again",
                              ptq_h5_path(h5), object, f->name);
    if (v < 0 || v > most)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: %s: attribute %s = %lld is out of range; write the form again",
                              ptq_h5_path(h5), object, f->name, (long long)v);
    if (f->wide)
        *f->wide = v;
    else if (f->small)
        *f->small = (int)v;
    else
        *f->yes = v != 0;
    return PTQ_OK;
}

static int read_fields(struct ptq_h5 *h5, const char *object, const struct field *f, int n,
                       struct ptq_status *st)
{
    int rc = PTQ_OK;
    for (int i = 0; i < n && rc == PTQ_OK; i++)
        rc = read_field(h5, object, &f[i], st);
    return rc;
}

static int read_part(struct ptq_h5 *h5, const char *object, int k, struct ptq_part_head *h,
                     struct ptq_status *st)
{
    struct field f[N_PART_FIELDS];
    char name[NAME];
    double zero_const = 0;
    snprintf(name, sizeof name, "part%d.zero_const", k);
    int rc = read_fields(h5, object, f, part_fields(h, k, f), st);
    if (rc == PTQ_OK)
        rc = ptq_h5_get_f64(h5, object, name, &zero_const, st);
    if (rc < 0)
        return rc;
    h->zero_const = (float)zero_const;
    if (h->arr[PTQ_ARR_ZERO].fmt != PTQ_FMT_NONE)
        h->arr[PTQ_ARR_ZERO].n = h->arr[PTQ_ARR_SCALE].n;
    return PTQ_OK;
}

static int read_head(struct ptq_h5 *h5, const char *object, struct ptq_form_head *h,
                     struct ptq_status *st)
{
    struct field f[N_FORM_FIELDS];
    memset(h, 0, sizeof *h);
    const struct field divisor = {"divisor_fmt", .small = &h->divisor.fmt};
    int rc = read_fields(h5, object, f, form_fields(h, f), st);
    if (rc == PTQ_OK)
        rc = read_field(h5, object, &divisor, st);
    if (rc != PTQ_OK)
        return rc;
    if (h->divisor.fmt != PTQ_FMT_NONE)
        h->divisor.n = h->cols;
    if (h->n_parts < 1 || h->n_parts > PTQ_MAX_PARTS)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: %s: attribute n_parts = %d is not within 1..%d; write the form "
                              "again",
                              ptq_h5_path(h5), object, h->n_parts, PTQ_MAX_PARTS);
    for (int k = 0; k < h->n_parts && rc == PTQ_OK; k++)
        rc = read_part(h5, object, k, &h->part[k], st);
    return rc;
}

/* ---- /packed ---- */

static int write_divisor(struct ptq_h5 *h5, const char *layer, const struct ptq_quant *q,
                         struct ptq_status *st)
{
    char object[OBJECT];
    int rc = object_name(object, "quant", layer, "divisor", st);
    return rc == PTQ_OK ? ptq_h5_write(h5, object, PTQ_H5_F32, 1, &q->cols, q->act.divisor.at, st)
                        : rc;
}

int ptq_form_write_packed(struct ptq_h5 *h5, const char *layer, const struct ptq_quant *q,
                          struct ptq_status *st)
{
    char object[OBJECT];
    struct ptq_arena arena;
    struct ptq_packed packed;
    ptq_arena_init(&arena, 0);
    int rc = object_name(object, "packed", layer, "", st);
    if (rc == PTQ_OK)
        rc = ptq_quant_pack(q, &arena, &packed, st);
    if (rc == PTQ_OK)
        rc = ptq_h5_write(h5, object, PTQ_H5_U8, 1, &packed.bytes, packed.at, st);
    if (rc == PTQ_OK)
        rc = write_head(h5, object, q, st);
    if (rc == PTQ_OK && packed.n_folded)
        rc = write_divisor(h5, layer, q, st);
    ptq_arena_clear(&arena);
    return rc;
}

static int read_folded(struct ptq_h5 *h5, const char *layer, struct ptq_arena *arena,
                       struct ptq_packed *packed, struct ptq_status *st)
{
    char object[OBJECT];
    struct ptq_h5_info info;
    float *at;
    int rc = object_name(object, "quant", layer, "divisor", st);
    if (rc == PTQ_OK)
        rc = ptq_h5_read_f32(h5, object, arena, &at, &info, st);
    if (rc != PTQ_OK)
        return rc;
    packed->folded = at;
    packed->n_folded = info.n;
    return PTQ_OK;
}

int ptq_form_read_packed(struct ptq_h5 *h5, const char *layer, struct ptq_arena *arena,
                         struct ptq_quant *q, struct ptq_status *st)
{
    char object[OBJECT];
    uint8_t *at;
    struct ptq_h5_info info;
    struct ptq_form_head head;
    struct ptq_packed packed = {0};
    struct ptq_status reason = {0};
    int rc = object_name(object, "packed", layer, "", st);
    if (rc == PTQ_OK)
        rc = read_head(h5, object, &head, st);
    if (rc == PTQ_OK)
        rc = ptq_h5_read_u8(h5, object, arena, &at, &info, st);
    if (rc == PTQ_OK && head.folds)
        rc = read_folded(h5, layer, arena, &packed, st);
    if (rc != PTQ_OK)
        return rc;
    packed.at = at;
    packed.bytes = info.n;
    rc = ptq_quant_unpack(&head, &packed, arena, q, &reason);
    return rc == PTQ_OK ? rc
                        : ptq_status_set(st, (enum ptq_code)rc, "%s: %s: %s", ptq_h5_path(h5),
                                         object, reason.text);
}

/* ---- /quant ---- */

struct writer {
    struct ptq_h5 *h5;
    const char *layer;
    const struct ptq_quant *q;
    struct ptq_arena *arena;
    struct ptq_status *st;
};

/* Arrays of part 0 bear their names alone, those of part K "partK." before it; k = -1: of the
 * form. */
static int write_array(const struct writer *w, int k, const char *leaf, enum ptq_h5_type type,
                       int rank, const int64_t *dim, const void *data)
{
    char object[OBJECT], name[NAME];
    if (k > 0)
        snprintf(name, sizeof name, "part%d.%s", k, leaf);
    else
        snprintf(name, sizeof name, "%s", leaf);
    int rc = object_name(object, "quant", w->layer, name, w->st);
    return rc == PTQ_OK ? ptq_h5_write(w->h5, object, type, rank, dim, data, w->st) : rc;
}

/* Codes of up to 8 bits as bytes, wider ones as uint16. */
static int write_codes(const struct writer *w, int k)
{
    const struct ptq_part *p = &w->q->part[k];
    const int64_t dim[2] = {w->q->rows,
                            ptq_quant_kcols(w->q) / (p->kind == PTQ_PART_CODEBOOK ? p->dim : 1)},
                  n = dim[0] * dim[1];
    if (p->bits > 8)
        return write_array(w, k, "codes", PTQ_H5_U16, 2, dim, p->codes);
    uint8_t *bytes = ptq_arena_alloc(w->arena, w->st, n, 1);
    if (!bytes)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)p->codes[i];
    return write_array(w, k, "codes", PTQ_H5_U8, 2, dim, bytes);
}

static int write_grids(const struct writer *w, int k)
{
    const struct ptq_part *p = &w->q->part[k];
    const int64_t tensor[2] = {1, 1}, grouped[2] = {w->q->rows, p->groups_per_row};
    const int64_t *dim = p->groups_per_row ? grouped : tensor;
    if (p->scale.fmt == PTQ_FMT_NONE)
        return PTQ_OK;
    int rc = write_array(w, k, "scale", PTQ_H5_F32, 2, dim, p->scale.at);
    if (rc != PTQ_OK || p->kind != PTQ_PART_UNIFORM)
        return rc;
    float *zero = ptq_arena_alloc(w->arena, w->st, p->scale.n, sizeof *zero);
    if (!zero)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < p->scale.n; i++)
        zero[i] = ptq_part_zero(p, i);
    return write_array(w, k, "zero", PTQ_H5_F32, 2, dim, zero);
}

static int write_books(const struct writer *w, int k)
{
    const struct ptq_part *p = &w->q->part[k];
    const int64_t dim[3] = {p->book.n / (p->book_len * p->dim), p->book_len, p->dim};
    int rc = write_array(w, k, "book", PTQ_H5_F32, 3, dim, p->book.at);
    if (p->book.fmt != PTQ_FMT_INT)
        return rc;
    if (rc == PTQ_OK)
        rc = write_array(w, k, "book_step", PTQ_H5_F32, 1, &p->book_step.n, p->book_step.at);
    return rc == PTQ_OK
               ? write_array(w, k, "book_min", PTQ_H5_F32, 1, &p->book_min.n, p->book_min.at)
               : rc;
}

static int write_factors(const struct writer *w, int k)
{
    const struct ptq_part *p = &w->q->part[k];
    const int64_t left[2] = {w->q->rows, p->rank}, right[2] = {p->rank, ptq_quant_kcols(w->q)};
    int rc = write_array(w, k, "left", PTQ_H5_F32, 2, left, p->left.at);
    if (rc == PTQ_OK)
        rc = write_array(w, k, "right", PTQ_H5_F32, 2, right, p->right.at);
    if (rc == PTQ_OK && p->left.fmt == PTQ_FMT_INT)
        rc = write_array(w, k, "left_scale", PTQ_H5_F32, 1, &p->rank, p->left_scale.at);
    if (rc == PTQ_OK && p->right.fmt == PTQ_FMT_INT)
        rc = write_array(w, k, "right_scale", PTQ_H5_F32, 1, &p->rank, p->right_scale.at);
    return rc;
}

static int write_view(const struct writer *w, int k)
{
    const struct ptq_part *p = &w->q->part[k];
    const int64_t kcols = ptq_quant_kcols(w->q), rot[2] = {kcols, kcols},
                  tree[3] = {w->q->rows, p->tree_levels, kcols / 2};
    int rc = PTQ_OK;
    if (p->perm)
        rc = write_array(w, k, "perm", PTQ_H5_I32, 1, &kcols, p->perm);
    if (rc == PTQ_OK && p->tree_levels)
        rc = write_array(w, k, "tree_bits", PTQ_H5_U8, 3, tree, p->tree_bits);
    if (rc == PTQ_OK && p->rot.fmt != PTQ_FMT_NONE)
        rc = write_array(w, k, "rot", PTQ_H5_F32, 2, rot, p->rot.at);
    return rc;
}

static int write_part(const struct writer *w, int k)
{
    int rc;
    if (w->q->part[k].kind == PTQ_PART_LOWRANK) {
        rc = write_factors(w, k);
    } else {
        rc = write_codes(w, k);
        if (rc == PTQ_OK)
            rc = write_grids(w, k);
        if (rc == PTQ_OK && w->q->part[k].kind == PTQ_PART_CODEBOOK)
            rc = write_books(w, k);
    }
    return rc == PTQ_OK ? write_view(w, k) : rc;
}

static int write_inputs(const struct writer *w)
{
    const struct ptq_split *m = &w->q->split;
    int rc = PTQ_OK;
    if (w->q->act.divisor.fmt != PTQ_FMT_NONE)
        rc = write_divisor(w->h5, w->layer, w->q, w->st);
    if (rc == PTQ_OK && m->n_cols)
        rc = write_array(w, -1, "source", PTQ_H5_I32, 1, &m->n_cols, m->source);
    if (rc == PTQ_OK && m->n_cols)
        rc = write_array(w, -1, "piece", PTQ_H5_I32, 1, &m->n_cols, m->piece);
    return rc;
}

/* One uniform part seen as it is: what `bits` and `group_size` describe. */
static bool is_plain(const struct ptq_quant *q)
{
    const struct ptq_part *p = &q->part[0];
    return q->n_parts == 1 && p->kind == PTQ_PART_UNIFORM && !p->tree_levels &&
           p->rot.fmt == PTQ_FMT_NONE && q->act.divisor.fmt == PTQ_FMT_NONE && !q->act.bits &&
           !q->split.n_cols;
}

static int write_attributes(const struct writer *w)
{
    char object[OBJECT];
    const struct ptq_part *p = &w->q->part[0];
    int64_t group = p->groups_per_row == 0   ? PTQ_GROUP_TENSOR
                    : p->groups_per_row == 1 ? PTQ_GROUP_ROW
                                             : p->group_cols;
    int rc = object_name(object, "quant", w->layer, "", w->st);
    if (rc == PTQ_OK && p->kind != PTQ_PART_LOWRANK)
        rc = ptq_h5_set_i64(w->h5, object, "bits", p->bits, w->st);
    if (rc == PTQ_OK && p->scale.fmt != PTQ_FMT_NONE)
        rc = ptq_h5_set_i64(w->h5, object, "group_size", group, w->st);
    if (rc == PTQ_OK && !is_plain(w->q))
        rc = write_head(w->h5, object, w->q, w->st);
    if (rc == PTQ_OK && w->q->split.n_cols)
        rc = ptq_h5_set_f64(w->h5, object, "split_limit", w->q->split.limit, w->st);
    if (rc == PTQ_OK && w->q->act.scale != 0)
        rc = ptq_h5_set_f64(w->h5, object, "act_step", w->q->act.scale, w->st);
    return rc;
}

int ptq_form_write_quant(struct ptq_h5 *h5, const char *layer, const struct ptq_quant *q,
                         const float *what, struct ptq_status *st)
{
    struct ptq_arena arena;
    const struct writer w = {h5, layer, q, &arena, st};
    const int64_t dim[2] = {q->rows, ptq_quant_kcols(q)};
    int rc = PTQ_OK;
    ptq_arena_init(&arena, 0);
    for (int k = 0; k < q->n_parts && rc == PTQ_OK; k++)
        rc = write_part(&w, k);
    if (rc == PTQ_OK)
        rc = write_inputs(&w);
    if (rc == PTQ_OK && what)
        rc = write_array(&w, -1, "dequant", PTQ_H5_F32, 2, dim, what);
    if (rc == PTQ_OK)
        rc = write_attributes(&w);
    ptq_arena_clear(&arena);
    return rc;
}
