/* statsfile.c: statistics in a container (/stats/NAME, datasets/SCHEMA.md) and the capture that
 * writes them. */
#include "core/clock.h"
#include "core/hash.h"
#include "core/linalg.h"
#include "core/progress.h"
#include "core/size.h"
#include "core/words.h"
#include "model/attnstats.h"
#include "model/internal.h"
#include "model/shards.h"
#include "model/states.h"
#include "model/stats.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const norm_words[] = {"unknown", "token", "sequence",
                                         NULL}; /* by enum ptq_norm */
enum { SCHEMA = 1, OBJECT_CHARS = 1024 };

/* "/stats/NAME[/INPUT[/ARRAY]]". Names come from the command line: a slash or an overlong one is
 * refused. */
static int object_path(char out[OBJECT_CHARS], const char *name, const char *input,
                       const char *array, struct ptq_status *st)
{
    if (!*name || strchr(name, '/') || (input && strchr(input, '/')))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "'%s' cannot name statistics: names are not empty and hold no slash",
                              name);
    int n = snprintf(out, OBJECT_CHARS, "/stats/%s%s%s%s%s", name, input ? "/" : "",
                     input ? input : "", array ? "/" : "", array ? array : "");
    return n < OBJECT_CHARS ? PTQ_OK
                            : ptq_status_set(st, PTQ_ERR_USAGE,
                                             "the name of statistics '%.40s...' is too long", name);
}

/* ---- packed triangles */

static bool packed_count(int64_t d, int64_t *n)
{
    return ptq_size_mul(d, d + 1, n) && (*n /= 2, true);
}

static int write_triangle(struct ptq_h5 *f, const char *object, const double *full, int64_t d,
                          bool f64, struct ptq_status *st)
{
    int64_t n, k = 0;
    if (!packed_count(d, &n))
        return ptq_status_set(st, PTQ_ERR_MEMORY, "%s overflows", object);
    void *at = malloc((size_t)n * (f64 ? sizeof(double) : sizeof(float)));
    if (!at)
        return ptq_status_nomem(st, object, (size_t)n * 8);
    for (int64_t i = 0; i < d; i++)
        for (int64_t j = i; j < d; j++, k++)
            if (f64)
                ((double *)at)[k] = full[i * d + j];
            else
                ((float *)at)[k] =
                    (float)full[i * d + j]; /* exact: rounded before anybody used it */
    int rc = ptq_h5_write(f, object, f64 ? PTQ_H5_F64 : PTQ_H5_F32, 1, &n, at, st);
    free(at);
    return rc;
}

static int read_triangle(struct ptq_h5 *f, const char *object, int64_t d, struct ptq_arena *arena,
                         double **full, struct ptq_status *st)
{
    struct ptq_h5_info info;
    struct ptq_arena own;
    int64_t n, dd;
    double *packed;
    int rc = ptq_h5_info(f, object, &info, st);
    if (rc)
        return rc;
    if (!packed_count(d, &n) || !ptq_size_mul(d, d, &dd) || info.rank != 1 || info.n != n)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: %s holds %lld elements; the upper triangle of %lld inputs has %lld",
            ptq_h5_path(f), object, (long long)info.n, (long long)d, (long long)(d * (d + 1) / 2));
    ptq_arena_init(&own, 0);
    if (!(rc = ptq_h5_read_f64(f, object, &own, &packed, &info, st)) &&
        ptq_first_nonfinite_f64(packed, n) >= 0)
        rc = ptq_status_set(st, PTQ_ERR_NUMERIC,
                            "%s: %s is not finite at element %lld; capture the statistics again",
                            ptq_h5_path(f), object, (long long)ptq_first_nonfinite_f64(packed, n));
    if (!rc && !(*full = ptq_arena_alloc(arena, st, dd, sizeof **full)))
        rc = PTQ_ERR_MEMORY;
    for (int64_t i = 0, k = 0; i < d && !rc; i++)
        for (int64_t j = i; j < d; j++, k++)
            (*full)[i * d + j] = (*full)[j * d + i] = packed[k];
    ptq_arena_clear(&own);
    return rc;
}

/* ---- one input */

int ptq_stats_write_input(struct ptq_h5 *f, const char *name, const struct ptq_input_stats *s,
                          bool f64, struct ptq_status *st)
{
    char object[OBJECT_CHARS];
    const struct {
        const char *array;
        const float *at;
        int rank;
        int64_t dim[2];
    } plain[] = {{"absmax", s->absmax, 1, {s->d_in}},
                 {"absmean", s->absmean, 1, {s->d_in}},
                 {"mean", s->mean, 1, {s->d_in}},
                 {"acts", s->n_acts ? s->acts : NULL, 2, {s->n_acts, s->d_in}},
                 {"kcache", s->kcache, 2, {s->n_cached, s->d_cached}},
                 {"vcache", s->vcache, 2, {s->n_cached, s->d_cached}}};
    const struct {
        const char *array;
        const double *at;
    } hess[] = {{"hess", s->hess_sink ? NULL : s->hess},
                {"hess_rest", s->hess_rest},
                {"hess_sink", s->hess_sink}};
    int rc = PTQ_OK;
    for (size_t k = 0; k < sizeof hess / sizeof *hess; k++)
        if (hess[k].at && ((rc = object_path(object, name, s->name, hess[k].array, st)) ||
                           (rc = write_triangle(f, object, hess[k].at, s->d_in, f64, st))))
            return rc;
    for (size_t k = 0; k < sizeof plain / sizeof *plain; k++)
        if (plain[k].at && ((rc = object_path(object, name, s->name, plain[k].array, st)) ||
                            (rc = ptq_h5_write(f, object, PTQ_H5_F32, plain[k].rank, plain[k].dim,
                                               plain[k].at, st))))
            return rc;
    if ((rc = object_path(object, name, s->name, NULL, st)) ||
        (s->attn && (rc = ptq_attn_write(f, object, s->attn, s->d_in, f64, st))) ||
        (s->n_shards && (rc = ptq_shards_write(f, object, s, f64, st))) ||
        (rc = ptq_h5_set_i64(f, object, "n_tokens", (int64_t)s->n_tokens, st)))
        return rc;
    return ptq_h5_set_i64(f, object, "n_sequences", (int64_t)s->n_sequences, st);
}

static int read_vector(struct ptq_h5 *f, const char *object, int64_t *d, struct ptq_arena *arena,
                       float **out, struct ptq_status *st)
{
    struct ptq_h5_info info;
    int rc = ptq_h5_info(f, object, &info, st);
    if (rc)
        return rc;
    if (info.rank != 1 || info.n < 1 || (*d && info.n != *d))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: %s has %d axes and %lld elements; expected one axis of %lld",
                              ptq_h5_path(f), object, info.rank, (long long)info.n, (long long)*d);
    if ((rc = ptq_h5_read_f32(f, object, arena, out, &info, st)))
        return rc;
    *d = info.n;
    int64_t bad = ptq_first_nonfinite_f32(*out, info.n);
    return bad < 0 ? PTQ_OK
                   : ptq_status_set(st, PTQ_ERR_NUMERIC, "%s: %s is not finite at element %lld",
                                    ptq_h5_path(f), object, (long long)bad);
}

/* A matrix of sampled rows, if it is there; *n and *d where not 0 are what it must have. */
static int read_samples(struct ptq_h5 *f, const char *object, struct ptq_arena *arena, int64_t *n,
                        int64_t *d, float **out, struct ptq_status *st)
{
    struct ptq_h5_info info;
    if (!ptq_h5_exists(f, object))
        return PTQ_OK;
    int rc = ptq_h5_info(f, object, &info, st);
    if (rc)
        return rc;
    if (info.rank != 2 || (*d && info.dim[1] != *d) || (*n && info.dim[0] != *n) || info.n < 1)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: %s is not a matrix of %lld columns",
                              ptq_h5_path(f), object, (long long)*d);
    if ((rc = ptq_h5_read_f32(f, object, arena, out, &info, st)))
        return rc;
    *n = info.dim[0];
    *d = info.dim[1];
    int64_t bad = ptq_first_nonfinite_f32(*out, info.n);
    return bad < 0 ? PTQ_OK
                   : ptq_status_set(st, PTQ_ERR_NUMERIC, "%s: %s is not finite at row %lld",
                                    ptq_h5_path(f), object, (long long)(bad / *d));
}

static int read_all_samples(struct ptq_h5 *f, const char *name, const char *input,
                            struct ptq_arena *arena, struct ptq_input_stats *out,
                            struct ptq_status *st)
{
    const struct {
        const char *array;
        int64_t *n, *d;
        float **to;
    } samples[] = {{"acts", &out->n_acts, &out->d_in, &out->acts},
                   {"kcache", &out->n_cached, &out->d_cached, &out->kcache},
                   {"vcache", &out->n_cached, &out->d_cached, &out->vcache}};
    char object[OBJECT_CHARS];
    int rc = PTQ_OK;
    for (size_t k = 0; k < sizeof samples / sizeof *samples && !rc; k++)
        if (!(rc = object_path(object, name, input, samples[k].array, st)))
            rc = read_samples(f, object, arena, samples[k].n, samples[k].d, samples[k].to, st);
    return rc;
}

/* A count attribute of the input, else of the whole statistics. */
static int read_count(struct ptq_h5 *f, const char *object, const char *group, const char *what,
                      double *out, struct ptq_status *st)
{
    int64_t v = 0;
    int rc = ptq_h5_get_i64(f, object, what, &v, st);
    if (rc == PTQ_SKIP)
        rc = ptq_h5_get_i64(f, group, what, &v, st);
    *out = (double)v; /* 0: unknown */
    return rc == PTQ_SKIP ? PTQ_OK : rc;
}

static int read_norm(struct ptq_h5 *f, const char *group, struct ptq_arena *arena,
                     enum ptq_norm *out, struct ptq_status *st)
{
    char *word = NULL;
    *out = PTQ_NORM_UNKNOWN;
    int rc = ptq_h5_get_text(f, group, "normalisation", arena, &word, st);
    if (rc)
        return rc == PTQ_SKIP ? PTQ_OK : rc;
    for (int i = 0; norm_words[i]; i++)
        if (strcmp(word, norm_words[i]) == 0) {
            *out = (enum ptq_norm)i;
            return PTQ_OK;
        }
    return ptq_unknown_word("normalisation", word, norm_words, st);
}

/* Both classes, or the total of a file that does not tell them apart. */
static int read_hess(struct ptq_h5 *f, const char *name, const char *input, struct ptq_arena *arena,
                     struct ptq_input_stats *out, struct ptq_status *st)
{
    char total[OBJECT_CHARS], rest[OBJECT_CHARS], sink[OBJECT_CHARS];
    const int64_t d = out->d_in;
    int rc = object_path(total, name, input, "hess", st);
    if (rc || (rc = object_path(rest, name, input, "hess_rest", st)) ||
        (rc = object_path(sink, name, input, "hess_sink", st)))
        return rc;
    const bool has_rest = ptq_h5_exists(f, rest), has_sink = ptq_h5_exists(f, sink);
    if (!has_rest && !has_sink)
        return read_triangle(f, total, d, arena, &out->hess, st);
    if (!has_rest || !has_sink)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: %s is there without %s; capture the statistics into a new file",
                              ptq_h5_path(f), has_rest ? rest : sink, has_rest ? sink : rest);
    if ((rc = read_triangle(f, rest, d, arena, &out->hess_rest, st)) ||
        (rc = read_triangle(f, sink, d, arena, &out->hess_sink, st)))
        return rc;
    if (!(out->hess = ptq_arena_alloc(arena, st, d * d, sizeof *out->hess)))
        return PTQ_ERR_MEMORY;
    ptq_stats_total(out);
    return PTQ_OK;
}

int ptq_stats_read_input(struct ptq_h5 *f, const char *name, const char *input,
                         struct ptq_arena *arena, struct ptq_input_stats *out,
                         struct ptq_status *st)
{
    char object[OBJECT_CHARS], group[OBJECT_CHARS];
    *out = (struct ptq_input_stats){0};
    struct {
        const char *array;
        float **to;
    } vectors[] = {{"absmax", &out->absmax}, {"absmean", &out->absmean}, {"mean", &out->mean}};
    int rc = object_path(group, name, NULL, NULL, st);
    for (size_t k = 0; k < sizeof vectors / sizeof *vectors && !rc; k++)
        if (!(rc = object_path(object, name, input, vectors[k].array, st)))
            rc = read_vector(f, object, &out->d_in, arena, vectors[k].to, st);
    if (rc || (rc = read_hess(f, name, input, arena, out, st)) ||
        (rc = read_all_samples(f, name, input, arena, out, st)) ||
        (rc = object_path(object, name, input, NULL, st)) ||
        (rc = ptq_attn_read(f, object, out->d_in, arena, &out->attn, st)) ||
        (rc = ptq_shards_read(f, object, arena, out, st)) ||
        (rc = read_count(f, object, group, "n_tokens", &out->n_tokens, st)) ||
        (rc = read_count(f, object, group, "n_sequences", &out->n_sequences, st)) ||
        (rc = read_norm(f, group, arena, &out->norm, st)))
        return rc;
    out->key = ptq_stats_key(out);
    return (out->name = ptq_arena_strdup(arena, st, input)) ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* ---- the head */

int ptq_stats_write_head(struct ptq_h5 *f, const char *name, const struct ptq_stats_head *h,
                         struct ptq_status *st)
{
    char o[OBJECT_CHARS];
    const struct {
        const char *name, *value;
    } texts[] = {{"text", h->text},
                 {"upstream", h->upstream},
                 {"text_key", h->text_key},
                 {"model_key", h->model_key},
                 {"normalisation", norm_words[PTQ_NORM_TOKEN]},
                 {"unit", "sequence"}};
    const struct {
        const char *name;
        int64_t value;
    } counts[] = {{"n_sequences", h->n_sequences},
                  {"n_tokens", h->n_tokens},
                  {"seqlen", h->seqlen},
                  {"sink_tokens", h->sink_tokens}};
    int rc = object_path(o, name, NULL, NULL, st);
    if (!rc)
        rc = ptq_h5_set_i64(f, "/", "schema", SCHEMA, st);
    for (size_t i = 0; i < sizeof texts / sizeof *texts && !rc; i++)
        rc = ptq_h5_set_text(f, o, texts[i].name, texts[i].value, st);
    for (size_t i = 0; i < sizeof counts / sizeof *counts && !rc; i++)
        rc = ptq_h5_set_i64(f, o, counts[i].name, counts[i].value, st);
    return rc;
}

static int read_head_text(struct ptq_h5 *f, const char *o, const char *name, struct ptq_arena *a,
                          const char **out, struct ptq_status *st)
{
    char *text = NULL;
    int rc = ptq_h5_get_text(f, o, name, a, &text, st);
    *out = rc == PTQ_SKIP ? "" : text;
    return rc == PTQ_SKIP ? PTQ_OK : rc;
}

static int check_schema(struct ptq_h5 *f, struct ptq_status *st)
{
    int64_t schema = 0;
    int rc = ptq_h5_get_i64(f, "/", "schema", &schema, st);
    if (rc < 0 || schema == SCHEMA)
        return rc < 0 ? rc : PTQ_OK;
    return ptq_status_set(
        st, PTQ_ERR_USAGE,
        "%s: schema version %lld (root attribute schema; 0: absent); this program reads version %d",
        ptq_h5_path(f), (long long)schema, SCHEMA);
}

int ptq_stats_read_head(struct ptq_h5 *f, const char *name, struct ptq_arena *a,
                        struct ptq_stats_head *h, struct ptq_status *st)
{
    char o[OBJECT_CHARS];
    const char *text_key, *model_key;
    struct {
        const char *name;
        int64_t *to;
    } counts[] = {{"n_sequences", &h->n_sequences},
                  {"n_tokens", &h->n_tokens},
                  {"seqlen", &h->seqlen},
                  {"sink_tokens", &h->sink_tokens}};
    *h = (struct ptq_stats_head){0};
    int rc = object_path(o, name, NULL, NULL, st);
    if (rc || (rc = check_schema(f, st)))
        return rc;
    if (!ptq_h5_exists(f, o))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: holds no statistics %s; ptq capture makes them", ptq_h5_path(f),
                              o);
    if ((rc = read_head_text(f, o, "text", a, &h->text, st)) ||
        (rc = read_head_text(f, o, "upstream", a, &h->upstream, st)) ||
        (rc = read_head_text(f, o, "text_key", a, &text_key, st)) ||
        (rc = read_head_text(f, o, "model_key", a, &model_key, st)))
        return rc;
    snprintf(h->text_key, sizeof h->text_key, "%s", text_key);
    snprintf(h->model_key, sizeof h->model_key, "%s", model_key);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if ((rc = ptq_h5_get_i64(f, o, counts[i].name, counts[i].to, st)) < 0)
            return rc;
    return PTQ_OK;
}

/* ---- capture: a block counts as done when its inputs are written */

static const char done_attr[] = "blocks_done";

static int64_t longest_sequence(const struct ptq_tokens *t)
{
    int64_t most = 0;
    for (int64_t s = 0; s < t->n_seq; s++)
        most = t->len[s] > most ? t->len[s] : most;
    return most;
}

static void head_of(const struct ptq_capture_args *a, struct ptq_stats_head *h)
{
    const struct ptq_tokens *t = &a->text->tokens;
    *h = (struct ptq_stats_head){.text = a->text->source,
                                 .upstream = "fp",
                                 .n_sequences = t->n_seq,
                                 .n_tokens = t->n_total,
                                 .sink_tokens = a->options->sink_tokens};
    snprintf(h->text_key, sizeof h->text_key, "%s", a->text->key);
    snprintf(h->model_key, sizeof h->model_key, "%s", ptq_model_info(a->model)->key);
    h->seqlen = longest_sequence(t);
}

/* The same request as the one in the file: what it holds is then what we would write. */
static int same_request(struct ptq_h5 *f, const struct ptq_capture_args *a, const char *object,
                        struct ptq_arena *arena, struct ptq_status *st)
{
    const struct ptq_stats_options *o = a->options;
    struct ptq_stats_head old, new;
    int64_t f64 = 0, n_acts = 0, attention = 0, cached = 0, shards = 0;
    char *arithmetic = NULL;
    int rc = ptq_stats_read_head(f, a->name, arena, &old, st);
    if (rc || (rc = ptq_h5_get_text(f, object, "arithmetic", arena, &arithmetic, st)) < 0 ||
        (rc = ptq_h5_get_i64(f, object, "f64", &f64, st)) < 0 ||
        (rc = ptq_h5_get_i64(f, object, "n_acts", &n_acts, st)) < 0 ||
        (rc = ptq_h5_get_i64(f, object, "attention", &attention, st)) < 0 ||
        (rc = ptq_h5_get_i64(f, object, "n_cached", &cached, st)) < 0 ||
        (rc = ptq_h5_get_i64(f, object, "n_shards", &shards, st)) < 0)
        return rc;
    head_of(a, &new);
    if (strcmp(old.text_key, new.text_key) == 0 && strcmp(old.model_key, new.model_key) == 0 &&
        strcmp(old.upstream, new.upstream) == 0 && old.sink_tokens == new.sink_tokens &&
        (!arithmetic || !a->arithmetic || strcmp(arithmetic, a->arithmetic) == 0) &&
        o->f64 == f64 && o->n_acts == n_acts && o->attention == attention &&
        o->n_cached == cached && o->n_shards == shards)
        return PTQ_OK;
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: %s holds statistics of another model, text, options or "
                          "instruction set; choose another --name or another --out",
                          a->out_path, object);
}

/* Makes or checks the group; *done gets the number of blocks that are there. */
static int capture_begin(const struct ptq_capture_args *a, int64_t *done, struct ptq_status *st)
{
    char object[OBJECT_CHARS];
    struct ptq_arena arena;
    struct ptq_h5 *f = NULL;
    struct ptq_stats_head head;
    *done = 0;
    int rc = object_path(object, a->name, NULL, NULL, st);
    if (rc || (rc = ptq_h5_open(&f, a->out_path, PTQ_H5_APPEND, st)))
        return rc;
    ptq_arena_init(&arena, 0);
    if (ptq_h5_exists(f, object)) {
        if (!(rc = same_request(f, a, object, &arena, st)) &&
            (rc = ptq_h5_get_i64(f, object, done_attr, done, st)) == PTQ_SKIP)
            rc = PTQ_OK;
    } else {
        head_of(a, &head);
        if (!(rc = ptq_stats_write_head(f, a->name, &head, st)) &&
            !(rc = ptq_h5_set_i64(f, object, "f64", a->options->f64, st)) &&
            !(rc = ptq_h5_set_i64(f, object, "n_acts", a->options->n_acts, st)))
            rc = ptq_h5_set_i64(f, object, done_attr, 0, st);
        if (!rc && a->arithmetic)
            rc = ptq_h5_set_text(f, object, "arithmetic", a->arithmetic, st);
        if (!rc && a->options->attention)
            rc = ptq_h5_set_i64(f, object, "attention", a->options->attention, st);
        if (!rc && a->options->n_cached)
            rc = ptq_h5_set_i64(f, object, "n_cached", a->options->n_cached, st);
        if (!rc && a->options->n_shards)
            rc = ptq_h5_set_i64(f, object, "n_shards", a->options->n_shards, st);
    }
    ptq_arena_clear(&arena);
    int rc2 = ptq_h5_close(f, st);
    return rc ? rc : rc2;
}

static struct ptq_attn_cost attention_cost(const struct ptq_capture_args *a)
{
    return ptq_attn_cost(ptq_model_info(a->model), &a->text->tokens, a->options,
                         ptq_pool_threads(a->pool));
}

static const double mib = 1 << 20;

static void announce_attention(const struct ptq_capture_args *a)
{
    const struct ptq_model_info *m = ptq_model_info(a->model);
    const struct ptq_attn_cost c = attention_cost(a);
    char columns[80] = "";
    if (!a->options->attention || a->quiet)
        return;
    if (a->options->attention == PTQ_ATTN_ALL)
        snprintf(columns, sizeof columns, ", %lld kv heads x %lld^2", (long long)m->n_kv_heads,
                 (long long)m->d_model);
    fprintf(stderr,
            "statistics of attention: %.0f MiB of memory beside the others, %.0f MiB in the file "
            "(%lld heads x %lld^2%s)\n",
            c.memory_bytes / mib, c.file_bytes / mib, (long long)m->n_heads, (long long)m->head_dim,
            columns);
}

/* A library that runs out of disk in the middle of a file leaves it unreadable with all that it
 * held: room for a block is made sure of first. */
static int reserve(const struct ptq_capture_args *a, const struct ptq_input_stats *s, int n,
                   struct ptq_status *st)
{
    const int64_t width = a->options->f64 ? 8 : 4, slack = 1 << 20;
    int64_t bytes =
        slack + (int64_t)attention_cost(a).file_bytes / ptq_model_info(a->model)->n_blocks;
    char path[4096];
    for (int i = 0; i < n; i++)
        bytes += s[i].d_in * ((s[i].d_in + 1) * width + 4 * (s[i].n_acts + 3)) +
                 s[i].n_shards * (s[i].d_in * (s[i].d_in + 1) / 2 * width + 8) +
                 8 * s[i].n_cached * s[i].d_cached;
    if (snprintf(path, sizeof path, "%s.room", a->out_path) >= (int)sizeof path)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: the path is too long", a->out_path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct stat file;
    const int64_t before = stat(a->out_path, &file) == 0 ? (int64_t)file.st_size : 0;
    /* As far behind the start as the file will reach: limits of a file's size show too. */
    int error = fd < 0 ? errno : posix_fallocate(fd, before, bytes);
    if (fd >= 0)
        close(fd);
    unlink(path);
    return error ? ptq_status_set(st, PTQ_ERR_IO,
                                  "%s: no room for another %lld MiB of statistics: %s; make room "
                                  "and start again, it goes on behind the last block",
                                  a->out_path, (long long)(bytes >> 20), strerror(error))
                 : PTQ_OK;
}

static int capture_write(const struct ptq_capture_args *a, int block,
                         const struct ptq_input_stats *s, int n, struct ptq_status *st)
{
    char object[OBJECT_CHARS];
    struct ptq_h5 *f = NULL;
    int rc = object_path(object, a->name, NULL, NULL, st);
    if (rc || (rc = reserve(a, s, n, st)) || (rc = ptq_h5_open(&f, a->out_path, PTQ_H5_APPEND, st)))
        return rc;
    for (int i = 0; i < n && !rc; i++)
        rc = ptq_stats_write_input(f, a->name, &s[i], a->options->f64, st);
    if (!rc)
        rc = ptq_h5_set_i64(f, object, done_attr, block + 1, st);
    int rc2 = ptq_h5_close(f, st);
    return rc ? rc : rc2;
}

/* One block: statistics unless they are there, and on to the next block's inputs, in one pass. */
static int capture_block(const struct ptq_capture_args *a, int b, bool there, bool last,
                         struct ptq_hidden *h, struct ptq_status *st)
{
    struct ptq_arena arena;
    struct ptq_block block;
    struct ptq_input_stats s[PTQ_MAX_STAGES];
    struct ptq_stats_options o = *a->options;
    const struct ptq_block_tap on = {.stop = a->stop, .stop_arg = a->stop_arg};
    int n = 0;
    o.stop = a->whole_blocks ? NULL : a->stop;
    o.stop_arg = a->stop_arg;
    o.advance = !last;
    ptq_arena_init(&arena, 0);
    int rc = ptq_model_load_block(a->model, b, &arena, &block, st);
    if (!rc && there && !last)
        rc = ptq_block_run(a->model, &block, a->pool, h, &on, st);
    if (!rc && !there &&
        !(rc = ptq_stats_block(a->model, &block, a->pool, h, &o, NULL, &arena, s, &n, st)))
        rc = capture_write(a, b, s, n, st);
    ptq_arena_clear(&arena);
    return rc;
}

/* Says how far a capture came that was told to stop. */
static int cancelled(const struct ptq_capture_args *a, int64_t n_blocks, struct ptq_status *st)
{
    struct ptq_status own = {0};
    int64_t done;
    int rc = capture_begin(a, &done, &own);
    ptq_status_clear(st);
    return ptq_status_set(st, PTQ_ERR_CANCELLED,
                          "cancelled: %s: /stats/%s holds %lld of %lld blocks; the same capture "
                          "goes on behind them",
                          a->out_path, a->name, (long long)(rc ? 0 : done), (long long)n_blocks);
}

/* The model's own file is open for reading, so it cannot be written. */
static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Hidden states that took longer to make than this are kept after every block. */
static const double worth_keeping_s = 10;

struct walk { /* a capture under way */
    const struct ptq_capture_args *a;
    struct ptq_states_id id;
    struct ptq_hidden h;
    int64_t done;      /* blocks whose statistics are written */
    int64_t kept_ns;   /* when states were kept last, or the walk began */
    int64_t at, saved; /* blocks that the states have passed; that the kept ones have */
};

static int walk_begin(struct walk *w, struct ptq_arena *arena, struct ptq_status *st)
{
    const struct ptq_capture_args *a = w->a;
    struct ptq_hasher *hasher = ptq_hasher_new();
    ptq_hasher_add_text(hasher, ptq_model_info(a->model)->key);
    ptq_hasher_add_text(hasher, a->text->key);
    ptq_hasher_add_text(hasher, a->arithmetic);
    ptq_hasher_done(hasher, w->id.key);
    w->id.path = ptq_arena_printf(arena, st, "%s.states", a->out_path);
    if (!w->id.path)
        return PTQ_ERR_MEMORY;
    w->kept_ns = ptq_now_ns();
    int rc = ptq_model_embed(a->model, &a->text->tokens, arena, &w->h, st);
    if (!rc && (rc = ptq_states_load(&w->id, &w->saved, &w->h, st)) == PTQ_SKIP)
        rc = PTQ_OK;
    if (w->saved > w->done) { /* of statistics that are no longer there */
        w->saved = 0;
        rc = ptq_model_embed(a->model, &a->text->tokens, arena, &w->h, st);
    }
    w->at = w->saved;
    return rc;
}

/* A cache: one that cannot be written costs a later start time, and is no fault of this one. */
static void walk_keep(struct walk *w)
{
    struct ptq_status own = {0};
    if (w->at == w->saved || w->at == 0 || w->at > w->done)
        return;
    if (ptq_states_save(&w->id, w->at, &w->h, &own) && !w->a->quiet)
        fprintf(stderr, "ptq: %s: a later start will run the blocks before it again\n", own.text);
    w->saved = w->at;
    w->kept_ns = ptq_now_ns();
}

static bool stops(const struct ptq_capture_args *a)
{
    return a->stop && a->stop(a->stop_arg);
}

static int walk_blocks(struct walk *w, struct ptq_status *st)
{
    const struct ptq_capture_args *a = w->a;
    const int64_t n = ptq_model_info(a->model)->n_blocks;
    struct ptq_progress *p = ptq_progress_new("capture", n - w->at, a->quiet);
    int rc = PTQ_OK;
    while (w->at < n && !rc) {
        char label[32];
        if (stops(a)) {
            walk_keep(w);
            rc = ptq_status_set(st, PTQ_ERR_CANCELLED, "cancelled");
            break;
        }
        snprintf(label, sizeof label, "block %lld", (long long)w->at);
        rc = capture_block(a, (int)w->at, w->at < w->done, w->at + 1 == n, &w->h, st);
        if (rc)
            break;
        w->at++;
        w->done = w->at > w->done ? w->at : w->done;
        ptq_progress_step(p, label);
        if (w->at < n && (double)(ptq_now_ns() - w->kept_ns) * 1e-9 > worth_keeping_s)
            walk_keep(w);
    }
    ptq_progress_free(p);
    return rc;
}

int ptq_capture(const struct ptq_capture_args *a, struct ptq_status *st)
{
    const struct ptq_model_info *info = ptq_model_info(a->model);
    struct ptq_arena arena;
    struct walk w = {.a = a};
    if (same_file(info->source, a->out_path))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s is the model's own file; write the statistics to another one, "
                              "--out STATS.h5: `ptq run %s --stats-file STATS.h5 -l LAYER ...` "
                              "takes them",
                              a->out_path, a->out_path);
    int rc = ptq_attn_check(info, &a->text->tokens, a->options, ptq_pool_threads(a->pool),
                            a->memory_bytes, st);
    if (rc || (rc = capture_begin(a, &w.done, st)))
        return rc;
    ptq_arena_init(&arena, 0);
    if (w.done >= info->n_blocks) {
        char *old = ptq_arena_printf(&arena, st, "%s.states", a->out_path);
        if (old)
            unlink(old);
        ptq_arena_clear(&arena);
        return PTQ_OK;
    }
    announce_attention(a);
    arena.spill = a->spill;
    rc = walk_begin(&w, &arena, st);
    if (!rc)
        rc = walk_blocks(&w, st);
    if (!rc)
        unlink(w.id.path);
    ptq_arena_clear(&arena);
    return rc == PTQ_ERR_CANCELLED ? cancelled(a, info->n_blocks, st) : rc;
}
