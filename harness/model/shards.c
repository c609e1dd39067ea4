#include "model/shards.h"
#include "core/clones.h"
#include "core/linalg.h"
#include "core/size.h"
#include "model/ops.h"
#include <stdio.h>
#include <stdlib.h>

static bool triangle(int64_t d, int64_t *n)
{
    return ptq_size_mul(d, d + 1, n) && (*n /= 2, true);
}

double ptq_shards_bytes(int64_t n_shards, double d)
{
    return 4 * (double)n_shards * d * (d + 1);
}

/* ---- sums */

int ptq_shards_new(struct ptq_input_stats *s, int64_t n_shards, const struct ptq_tokens *t,
                   struct ptq_arena *arena, struct ptq_status *st)
{
    int64_t n, all;
    if (!triangle(s->d_in, &n) || !ptq_size_mul(n, n_shards, &all))
        return ptq_status_set(st, PTQ_ERR_MEMORY, "the shards of %s overflow", s->name);
    if (n_shards > t->n_seq)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%lld shards of a text of %lld sequences: each needs one; take fewer",
                              (long long)n_shards, (long long)t->n_seq);
    s->n_shards = n_shards;
    s->shards = ptq_arena_alloc(arena, st, all, sizeof *s->shards);
    s->shard_tokens = ptq_arena_alloc(arena, st, n_shards, sizeof *s->shard_tokens);
    if (!s->shards || !s->shard_tokens)
        return PTQ_ERR_MEMORY;
    for (int64_t q = 0; q < t->n_seq; q++)
        s->shard_tokens[ptq_shard_of(q, t->n_seq, n_shards)] += (double)t->len[q];
    return PTQ_OK;
}

/* Products of two floats are exact in fp64. */
PTQ_CLONES static void add_scaled(double *to, const float *x, double by, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += by * x[i];
}

void ptq_shards_add(struct ptq_input_stats *s, int64_t shard, const struct ptq_shard_part *p,
                    int64_t begin, int64_t end)
{
    const int64_t d = s->d_in;
    double *all = s->shards + shard * (d * (d + 1) / 2);
    for (int64_t i = begin; i < end; i++) {
        double *row = all + ptq_triangle_row(i, d);
        if (p->gram)
            ptq_sum_f32(row, p->gram + i * d + i, d - i);
        else
            ptq_sum_f64(row, p->gram64 + i * d + i, d - i);
        for (int64_t t = 0; t < p->n_sink; t++)
            add_scaled(row, p->sink + t * d + i, p->sink[t * d + i], d - i);
    }
}

void ptq_shards_finish(struct ptq_input_stats *s, double scale, bool f64)
{
    const int64_t n = s->n_shards * (s->d_in * (s->d_in + 1) / 2);
    for (int64_t e = 0; e < n; e++) {
        const double v = s->shards[e] * scale;
        s->shards[e] = f64 ? v : (double)(float)v;
    }
}

/* ---- in a container */

enum { OBJECT_CHARS = 1024 };

static int object_path(char out[OBJECT_CHARS], const char *group, const char *array,
                       struct ptq_status *st)
{
    return snprintf(out, OBJECT_CHARS, "%s/%s", group, array) < OBJECT_CHARS
               ? PTQ_OK
               : ptq_status_set(st, PTQ_ERR_USAGE, "%.40s...: the name is too long", group);
}

int ptq_shards_write(struct ptq_h5 *f, const char *group, const struct ptq_input_stats *s, bool f64,
                     struct ptq_status *st)
{
    char object[OBJECT_CHARS];
    const int64_t dim[2] = {s->n_shards, s->d_in * (s->d_in + 1) / 2}, n = dim[0] * dim[1];
    int rc = object_path(object, group, "shards", st);
    if (rc)
        return rc;
    float *narrow = f64 ? NULL : malloc((size_t)n * sizeof *narrow);
    if (!f64 && !narrow)
        return ptq_status_nomem(st, object, (size_t)n * sizeof *narrow);
    for (int64_t e = 0; narrow && e < n; e++)
        narrow[e] = (float)s->shards[e]; /* exact: rounded before */
    rc = ptq_h5_write(f, object, f64 ? PTQ_H5_F64 : PTQ_H5_F32, 2, dim,
                      f64 ? (const void *)s->shards : narrow, st);
    free(narrow);
    if (!rc && !(rc = object_path(object, group, "shard_tokens", st)))
        rc = ptq_h5_write(f, object, PTQ_H5_F64, 1, dim, s->shard_tokens, st);
    return rc;
}

static int bad_shape(struct ptq_h5 *f, const char *object, struct ptq_status *st)
{
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: %s is not 2 to %d rows of one packed triangle each, with their "
                          "tokens beside them; capture the statistics again",
                          ptq_h5_path(f), object, PTQ_MOST_SHARDS);
}

static int check_values(struct ptq_h5 *f, const char *object, const struct ptq_input_stats *s,
                        int64_t n, struct ptq_status *st)
{
    const int64_t bad = ptq_first_nonfinite_f64(s->shards, n);
    if (bad >= 0)
        return ptq_status_set(st, PTQ_ERR_NUMERIC,
                              "%s: %s is not finite at element %lld; capture the statistics again",
                              ptq_h5_path(f), object, (long long)bad);
    for (int64_t k = 0; k < s->n_shards; k++)
        if (!(s->shard_tokens[k] > 0 && s->shard_tokens[k] < 1e18))
            return ptq_status_set(
                st, PTQ_ERR_NUMERIC,
                "%s: shard %lld of %s has %g tokens; capture the statistics again", ptq_h5_path(f),
                (long long)k, object, s->shard_tokens[k]);
    return PTQ_OK;
}

int ptq_shards_read(struct ptq_h5 *f, const char *group, struct ptq_arena *arena,
                    struct ptq_input_stats *s, struct ptq_status *st)
{
    char object[OBJECT_CHARS], tokens[OBJECT_CHARS];
    struct ptq_h5_info info, beside;
    int64_t n;
    int rc = object_path(object, group, "shards", st);
    if (rc || (rc = object_path(tokens, group, "shard_tokens", st)) || !ptq_h5_exists(f, object))
        return rc;
    if (!ptq_h5_exists(f, tokens))
        return bad_shape(f, object, st);
    if ((rc = ptq_h5_info(f, object, &info, st)) || (rc = ptq_h5_info(f, tokens, &beside, st)))
        return rc;
    if (!triangle(s->d_in, &n) || info.rank != 2 || info.dim[1] != n || info.dim[0] < 2 ||
        info.dim[0] > PTQ_MOST_SHARDS || beside.rank != 1 || beside.n != info.dim[0])
        return bad_shape(f, object, st);
    if ((rc = ptq_h5_read_f64(f, object, arena, &s->shards, &info, st)) ||
        (rc = ptq_h5_read_f64(f, tokens, arena, &s->shard_tokens, &beside, st)))
        return rc;
    s->n_shards = info.dim[0];
    return check_values(f, object, s, info.n, st);
}
