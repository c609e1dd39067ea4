/* attnfile.c: statistics of attention in a container: datasets of the group of the input that q, k
 * and v read (datasets/SCHEMA.md). */
#include "core/linalg.h"
#include "core/size.h"
#include "model/attnstats.h"
#include <stdio.h>
#include <stdlib.h>

enum { OBJECT_CHARS = 1024, MOST_HEAD_DIM = 1 << 20 };

static int object_path(char out[OBJECT_CHARS], const char *group, const char *array,
                       struct ptq_status *st)
{
    return snprintf(out, OBJECT_CHARS, "%s/%s", group, array) < OBJECT_CHARS
               ? PTQ_OK
               : ptq_status_set(st, PTQ_ERR_USAGE, "%.40s...: the name is too long", group);
}

static bool triangle(int64_t n, int64_t *out)
{
    return ptq_size_mul(n, n + 1, out) && (*out /= 2, true);
}

/* ---- writing */

/* (heads x n) numbers that have been rounded already. */
static int write_values(struct ptq_h5 *f, const char *object, int64_t heads, int64_t n,
                        const double *x, bool f64, struct ptq_status *st)
{
    const int64_t dim[2] = {heads, n};
    if (f64)
        return ptq_h5_write(f, object, PTQ_H5_F64, 2, dim, x, st);
    float *narrow = malloc((size_t)(heads * n) * sizeof *narrow);
    if (!narrow)
        return ptq_status_nomem(st, object, (size_t)(heads * n) * sizeof *narrow);
    for (int64_t i = 0; i < heads * n; i++)
        narrow[i] = (float)x[i];
    int rc = ptq_h5_write(f, object, PTQ_H5_F32, 2, dim, narrow, st);
    free(narrow);
    return rc;
}

static int write_rows(struct ptq_h5 *f, const char *object, const struct ptq_attn *a, bool f64,
                      struct ptq_status *st)
{
    const int64_t hd = a->head_dim, n = hd * (hd + 1) / 2;
    double *packed = malloc((size_t)(a->n_heads * n) * sizeof *packed), *p = packed;
    if (!packed)
        return ptq_status_nomem(st, object, (size_t)(a->n_heads * n) * sizeof *packed);
    for (int64_t i = 0; i < a->n_heads * hd; i++) /* row i % hd of its head */
        for (int64_t j = i % hd; j < hd; j++)
            *p++ = a->hrow[i * hd + j];
    int rc = write_values(f, object, a->n_heads, n, packed, f64, st);
    free(packed);
    return rc;
}

int ptq_attn_write(struct ptq_h5 *f, const char *group, const struct ptq_attn_stats *s,
                   int64_t d_in, bool f64, struct ptq_status *st)
{
    const struct {
        const char *array;
        const struct ptq_attn *a;
    } rows[] = {{"attn_q_rows", &s->q}, {"attn_k_rows", &s->k}, {"attn_v_rows", &s->v}};
    char object[OBJECT_CHARS];
    int rc = PTQ_OK;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !rc; i++)
        if (!(rc = object_path(object, group, rows[i].array, st)))
            rc = write_rows(f, object, rows[i].a, f64, st);
    if (!rc && s->v.hcol && !(rc = object_path(object, group, "attn_v_cols", st)))
        rc = write_values(f, object, s->v.n_heads, d_in * (d_in + 1) / 2, s->v.hcol, f64, st);
    return rc ? rc : ptq_h5_set_i64(f, group, "head_dim", s->q.head_dim, st);
}

/* ---- reading */

/* (heads x n), heads being what the file says. */
static int read_values(struct ptq_h5 *f, const char *object, int64_t n, struct ptq_arena *arena,
                       int64_t *heads, double **out, struct ptq_status *st)
{
    struct ptq_h5_info info;
    int rc = ptq_h5_info(f, object, &info, st);
    if (rc)
        return rc;
    if (info.rank != 2 || info.dim[1] != n || info.dim[0] < 1 || (*heads && info.dim[0] != *heads))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: %s is no matrix of one packed triangle of %lld elements a head; "
                              "capture the statistics again",
                              ptq_h5_path(f), object, (long long)n);
    if ((rc = ptq_h5_read_f64(f, object, arena, out, &info, st)))
        return rc;
    *heads = info.dim[0];
    const int64_t bad = ptq_first_nonfinite_f64(*out, info.n);
    return bad < 0 ? PTQ_OK
                   : ptq_status_set(st, PTQ_ERR_NUMERIC,
                                    "%s: %s is not finite at element %lld; capture the statistics "
                                    "again",
                                    ptq_h5_path(f), object, (long long)bad);
}

static int read_rows(struct ptq_h5 *f, const char *group, const char *array, int64_t hd,
                     struct ptq_arena *arena, struct ptq_attn *a, struct ptq_status *st)
{
    char object[OBJECT_CHARS];
    struct ptq_arena own;
    double *packed, *full;
    const int64_t n = hd * (hd + 1) / 2, hh = hd * hd;
    int64_t heads = 0;
    ptq_arena_init(&own, 0);
    int rc = object_path(object, group, array, st);
    if (!rc)
        rc = read_values(f, object, n, &own, &heads, &packed, st);
    if (!rc && !(full = ptq_arena_alloc(arena, st, heads, (size_t)hh * sizeof *full)))
        rc = PTQ_ERR_MEMORY;
    for (int64_t h = 0; h < heads && !rc; h++)
        for (int64_t i = 0, e = h * n; i < hd; i++)
            for (int64_t j = i; j < hd; j++, e++)
                full[h * hh + i * hd + j] = full[h * hh + j * hd + i] = packed[e];
    if (!rc)
        *a = (struct ptq_attn){.n_heads = heads, .head_dim = hd, .hrow = full};
    ptq_arena_clear(&own);
    return rc;
}

static int read_cols(struct ptq_h5 *f, const char *group, int64_t d_in, struct ptq_arena *arena,
                     struct ptq_attn *v, struct ptq_status *st)
{
    char object[OBJECT_CHARS];
    int64_t n;
    double *cols;
    int rc = object_path(object, group, "attn_v_cols", st);
    if (rc || !ptq_h5_exists(f, object))
        return rc;
    if (!triangle(d_in, &n))
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: %s is too large", ptq_h5_path(f), object);
    if ((rc = read_values(f, object, n, arena, &v->n_heads, &cols, st)))
        return rc;
    v->hcol = cols;
    return PTQ_OK;
}

int ptq_attn_read(struct ptq_h5 *f, const char *group, int64_t d_in, struct ptq_arena *arena,
                  const struct ptq_attn_stats **out, struct ptq_status *st)
{
    char object[OBJECT_CHARS];
    int64_t hd = 0;
    *out = NULL;
    int rc = object_path(object, group, "attn_q_rows", st);
    if (rc || !ptq_h5_exists(f, object))
        return rc;
    struct ptq_attn_stats *s = ptq_arena_alloc(arena, st, 1, sizeof *s);
    if (!s)
        return PTQ_ERR_MEMORY;
    if ((rc = ptq_h5_get_i64(f, group, "head_dim", &hd, st)) < 0)
        return rc;
    if (hd < 1 || hd > MOST_HEAD_DIM)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: %s: the attribute head_dim is %lld; expected 1 to %d, as many "
                              "columns as a head has channels",
                              ptq_h5_path(f), group, (long long)hd, MOST_HEAD_DIM);
    if ((rc = read_rows(f, group, "attn_q_rows", hd, arena, &s->q, st)) ||
        (rc = read_rows(f, group, "attn_k_rows", hd, arena, &s->k, st)) ||
        (rc = read_rows(f, group, "attn_v_rows", hd, arena, &s->v, st)) ||
        (rc = read_cols(f, group, d_in, arena, &s->v, st)))
        return rc;
    s->q.key = ptq_attn_key(&s->q, d_in);
    s->k.key = ptq_attn_key(&s->k, d_in);
    s->v.key = ptq_attn_key(&s->v, d_in);
    *out = s;
    return PTQ_OK;
}
