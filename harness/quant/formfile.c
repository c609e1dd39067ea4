/* formfile.c: stored forms in a container. */
#include "quant/formfile.h"
#include <stdio.h>
#include <string.h>

enum { OBJECT = 1100 };

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

/* ---- /packed ---- */

struct field { /* one integer attribute of the head */
    const char *name;
    int64_t value;
};
enum { N_FIELDS = 10 };

static void head_fields(const struct ptq_form_head *h, int k, struct field f[N_FIELDS])
{
    struct field all[N_FIELDS] = {
        {"kind", h->part[k].kind},
        {"bits", h->part[k].bits},
        {"group_cols", h->part[k].group_cols},
        {"groups_per_row", h->part[k].groups_per_row},
        {"n_groups", h->part[k].n_groups},
        {"scale_fmt", h->part[k].scale_fmt},
        {"zero_fmt", h->part[k].zero_fmt},
        {"zero_bits", h->part[k].zero_bits},
        {"zero_signed", h->part[k].zero_signed},
        {"has_perm", h->part[k].has_perm},
    };
    memcpy(f, all, sizeof all);
}

static int write_head(struct ptq_h5 *h5, const char *object, const struct ptq_form_head *h,
                      struct ptq_status *st)
{
    char name[48];
    int rc = ptq_h5_set_i64(h5, object, "rows", h->rows, st);
    if (rc == PTQ_OK)
        rc = ptq_h5_set_i64(h5, object, "cols", h->cols, st);
    if (rc == PTQ_OK)
        rc = ptq_h5_set_i64(h5, object, "n_parts", h->n_parts, st);
    for (int k = 0; k < h->n_parts && rc == PTQ_OK; k++) {
        struct field f[N_FIELDS];
        head_fields(h, k, f);
        for (int i = 0; i < N_FIELDS && rc == PTQ_OK; i++) {
            snprintf(name, sizeof name, "part%d.%s", k, f[i].name);
            rc = ptq_h5_set_i64(h5, object, name, f[i].value, st);
        }
        snprintf(name, sizeof name, "part%d.zero_const", k);
        if (rc == PTQ_OK)
            rc = ptq_h5_set_f64(h5, object, name, h->part[k].zero_const, st);
    }
    return rc;
}

int ptq_form_write_packed(struct ptq_h5 *h5, const char *layer, const struct ptq_quant *q,
                          struct ptq_status *st)
{
    char object[OBJECT];
    struct ptq_arena arena;
    struct ptq_packed packed;
    struct ptq_form_head head;
    ptq_arena_init(&arena, 0);
    ptq_quant_head(q, &head);
    int rc = object_name(object, "packed", layer, "", st);
    if (rc == PTQ_OK)
        rc = ptq_quant_pack(q, &arena, &packed, st);
    if (rc == PTQ_OK)
        rc = ptq_h5_write(h5, object, PTQ_H5_U8, 1, &packed.bytes, packed.at, st);
    if (rc == PTQ_OK)
        rc = write_head(h5, object, &head, st);
    ptq_arena_clear(&arena);
    return rc;
}

static int need_i64(struct ptq_h5 *h5, const char *object, const char *name, int64_t min,
                    int64_t max, int64_t *out, struct ptq_status *st)
{
    int rc = ptq_h5_get_i64(h5, object, name, out, st);
    if (rc < 0)
        return rc;
    if (rc == PTQ_SKIP)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: %s: attribute %s is absent; write the form again",
                              ptq_h5_path(h5), object, name);
    if (*out < min || *out > max)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: %s: attribute %s = %lld is out of range; write the form again",
                              ptq_h5_path(h5), object, name, (long long)*out);
    return PTQ_OK;
}

static int read_part(struct ptq_h5 *h5, const char *object, int k, struct ptq_form_head *h,
                     struct ptq_status *st)
{
    char name[48];
    struct field f[N_FIELDS];
    double zero_const = 0;
    head_fields(h, k, f);
    for (int i = 0; i < N_FIELDS; i++) {
        bool small = strncmp(f[i].name, "group", 5) && strcmp(f[i].name, "n_groups");
        snprintf(name, sizeof name, "part%d.%s", k, f[i].name);
        int rc = need_i64(h5, object, name, 0, small ? 1000 : INT64_MAX, &f[i].value, st);
        if (rc != PTQ_OK)
            return rc;
    }
    snprintf(name, sizeof name, "part%d.zero_const", k);
    int rc = ptq_h5_get_f64(h5, object, name, &zero_const, st);
    if (rc < 0)
        return rc;
    h->part[k].kind = (int)f[0].value;
    h->part[k].bits = (int)f[1].value;
    h->part[k].group_cols = f[2].value;
    h->part[k].groups_per_row = f[3].value;
    h->part[k].n_groups = f[4].value;
    h->part[k].scale_fmt = (int)f[5].value;
    h->part[k].zero_fmt = (int)f[6].value;
    h->part[k].zero_bits = (int)f[7].value;
    h->part[k].zero_signed = f[8].value != 0;
    h->part[k].has_perm = f[9].value != 0;
    h->part[k].zero_const = (float)zero_const;
    return PTQ_OK;
}

static int read_head(struct ptq_h5 *h5, const char *object, struct ptq_form_head *h,
                     struct ptq_status *st)
{
    int64_t n_parts;
    memset(h, 0, sizeof *h);
    int rc = need_i64(h5, object, "rows", 1, INT64_MAX, &h->rows, st);
    if (rc == PTQ_OK)
        rc = need_i64(h5, object, "cols", 1, INT64_MAX, &h->cols, st);
    if (rc == PTQ_OK)
        rc = need_i64(h5, object, "n_parts", 1, PTQ_MAX_PARTS, &n_parts, st);
    if (rc != PTQ_OK)
        return rc;
    h->n_parts = (int)n_parts;
    for (int k = 0; k < h->n_parts && rc == PTQ_OK; k++)
        rc = read_part(h5, object, k, h, st);
    return rc;
}

int ptq_form_read_packed(struct ptq_h5 *h5, const char *layer, struct ptq_arena *arena,
                         struct ptq_quant *q, struct ptq_status *st)
{
    char object[OBJECT];
    uint8_t *at;
    struct ptq_h5_info info;
    struct ptq_form_head head;
    struct ptq_status reason = {0};
    int rc = object_name(object, "packed", layer, "", st);
    if (rc == PTQ_OK)
        rc = read_head(h5, object, &head, st);
    if (rc == PTQ_OK)
        rc = ptq_h5_read_u8(h5, object, arena, &at, &info, st);
    if (rc != PTQ_OK)
        return rc;
    rc = ptq_quant_unpack(&head, at, info.n, arena, q, &reason);
    return rc == PTQ_OK ? rc
                        : ptq_status_set(st, (enum ptq_code)rc, "%s: %s: %s", ptq_h5_path(h5),
                                         object, reason.text);
}

/* ---- /quant ---- */

struct writer {
    struct ptq_h5 *h5;
    const char *layer;
    const struct ptq_quant *q;
    struct ptq_status *st;
};

static int write_array(const struct writer *w, const char *leaf, enum ptq_h5_type type, int rank,
                       const int64_t *dim, const void *data)
{
    char object[OBJECT];
    int rc = object_name(object, "quant", w->layer, leaf, w->st);
    return rc == PTQ_OK ? ptq_h5_write(w->h5, object, type, rank, dim, data, w->st) : rc;
}

/* Codes of up to 8 bits as bytes, wider ones as uint16. */
static int write_codes(const struct writer *w, struct ptq_arena *arena)
{
    int64_t dim[2] = {w->q->rows, w->q->cols}, n = dim[0] * dim[1];
    const struct ptq_part *p = &w->q->part[0];
    if (p->bits > 8)
        return write_array(w, "codes", PTQ_H5_U16, 2, dim, p->codes);
    uint8_t *bytes = ptq_arena_alloc(arena, w->st, n, 1);
    if (!bytes)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)p->codes[i];
    return write_array(w, "codes", PTQ_H5_U8, 2, dim, bytes);
}

static int write_grids(const struct writer *w, struct ptq_arena *arena)
{
    const struct ptq_part *p = &w->q->part[0];
    int64_t tensor[2] = {1, 1}, grouped[2] = {w->q->rows, p->groups_per_row};
    const int64_t *dim = p->groups_per_row ? grouped : tensor;
    float *zero = ptq_arena_alloc(arena, w->st, p->scale.n, sizeof *zero);
    if (!zero)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < p->scale.n; i++)
        zero[i] = ptq_part_zero(p, i);
    int rc = write_array(w, "scale", PTQ_H5_F32, 2, dim, p->scale.at);
    return rc == PTQ_OK ? write_array(w, "zero", PTQ_H5_F32, 2, dim, zero) : rc;
}

static int write_attributes(const struct writer *w)
{
    char object[OBJECT];
    const struct ptq_part *p = &w->q->part[0];
    int64_t group = p->groups_per_row == 0   ? PTQ_GROUP_TENSOR
                    : p->groups_per_row == 1 ? PTQ_GROUP_ROW
                                             : p->group_cols;
    int rc = object_name(object, "quant", w->layer, "", w->st);
    if (rc == PTQ_OK)
        rc = ptq_h5_set_i64(w->h5, object, "bits", p->bits, w->st);
    return rc == PTQ_OK ? ptq_h5_set_i64(w->h5, object, "group_size", group, w->st) : rc;
}

int ptq_form_write_quant(struct ptq_h5 *h5, const char *layer, const struct ptq_quant *q,
                         const float *what, struct ptq_status *st)
{
    struct writer w = {h5, layer, q, st};
    struct ptq_arena arena;
    int64_t dim[2] = {q->rows, q->cols};
    if (q->n_parts != 1)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: /quant holds forms of one part; read /packed instead", layer);
    ptq_arena_init(&arena, 0);
    int rc = write_codes(&w, &arena);
    if (rc == PTQ_OK)
        rc = write_grids(&w, &arena);
    if (rc == PTQ_OK && q->part[0].perm)
        rc = write_array(&w, "perm", PTQ_H5_I32, 1, &q->cols, q->part[0].perm);
    if (rc == PTQ_OK && what)
        rc = write_array(&w, "dequant", PTQ_H5_F32, 2, dim, what);
    if (rc == PTQ_OK)
        rc = write_attributes(&w);
    ptq_arena_clear(&arena);
    return rc;
}
