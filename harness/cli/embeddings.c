#include "cli/embeddings.h"
#include "core/hash.h"
#include "core/json.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SHOWN = 3, SHOWN_VALUES = 4 };

static int check(const struct ptq_embeddings *x, struct ptq_status *st)
{
    const struct ptq_eval *e = x->eval;
    for (int64_t i = 0; i < e->n_windows * e->d_embedding; i++)
        if (!isfinite(e->embedding[i]))
            return ptq_status_set(st, PTQ_ERR_NUMERIC,
                                  "%s: the embedding of sentence %lld of %s is not finite: the "
                                  "model's activations overflow",
                                  x->info->source, (long long)(i / e->d_embedding) + 1,
                                  x->text->source);
    return PTQ_OK;
}

/* Of the values as they are: equal hashes are equal bits. */
static void hash_of(const struct ptq_embeddings *x, char out[PTQ_KEY_CHARS])
{
    const struct ptq_eval *e = x->eval;
    struct ptq_hasher *h = ptq_hasher_new();
    ptq_hasher_add(h, e->embedding, (size_t)(e->n_windows * e->d_embedding) * sizeof *e->embedding);
    ptq_hasher_done(h, out);
}

static int add(struct ptq_table *t, const char *name, const char *value)
{
    const char *cells[] = {name, value};
    return *value ? ptq_table_row(t, cells) : PTQ_OK;
}

static int add_first(const struct ptq_embeddings *x, struct ptq_table *t)
{
    const struct ptq_eval *e = x->eval;
    int rc = PTQ_OK;
    for (int64_t s = 0; s < e->n_windows && s < SHOWN && !rc; s++) {
        char name[32], value[128];
        int n = 0;
        snprintf(name, sizeof name, "embedding_%lld", (long long)s + 1);
        for (int64_t k = 0; k < e->d_embedding && k < SHOWN_VALUES; k++)
            n += snprintf(value + n, sizeof value - (size_t)n, "%.7f ",
                          e->embedding[s * e->d_embedding + k]);
        snprintf(value + n, sizeof value - (size_t)n, "...");
        rc = add(t, name, value);
    }
    return rc;
}

static int print_table(const struct ptq_embeddings *x, enum ptq_format format,
                       struct ptq_status *st)
{
    static const char *const columns[] = {"what", "value"};
    char hash[PTQ_KEY_CHARS], n[32], d[32], ids[32], seconds[32];
    struct ptq_table *t = ptq_table_new(2, columns, NULL);
    int rc = t ? PTQ_OK : PTQ_ERR_MEMORY;
    hash_of(x, hash);
    snprintf(n, sizeof n, "%lld", (long long)x->eval->n_windows);
    snprintf(d, sizeof d, "%lld", (long long)x->eval->d_embedding);
    snprintf(ids, sizeof ids, "%lld", (long long)x->text->tokens.n_total);
    snprintf(seconds, sizeof seconds, "%.3g", x->seconds);
    const char *const lines[][2] = {{"model", x->info->name},    {"text", x->text->name},
                                    {"sha256", x->text->sha256}, {"protocol", x->text->protocol},
                                    {"rules", x->text->rules},   {"n_sentences", n},
                                    {"n_tokens", ids},           {"d_embedding", d},
                                    {"embeddings_hash", hash},   {"seconds", seconds}};
    for (size_t i = 0; i < sizeof lines / sizeof *lines && !rc; i++)
        rc = add(t, lines[i][0], lines[i][1]);
    if (!rc)
        rc = add_first(x, t);
    if (!rc)
        ptq_table_print(t, format, stdout);
    ptq_table_free(t);
    return rc ? ptq_status_nomem(st, "a table", 0) : PTQ_OK;
}

static json_t *embeddings_array(const struct ptq_eval *e)
{
    json_t *all = json_array();
    for (int64_t s = 0; s < e->n_windows; s++) {
        json_t *one = json_array();
        for (int64_t k = 0; k < e->d_embedding; k++)
            json_array_append_new(one, ptq_json_num(e->embedding[s * e->d_embedding + k]));
        json_array_append_new(all, one);
    }
    return all;
}

static json_t *lengths_array(const struct ptq_tokens *t)
{
    json_t *all = json_array();
    for (int64_t s = 0; s < t->n_seq; s++)
        json_array_append_new(all, json_integer(t->len[s]));
    return all;
}

static int print_json(const struct ptq_embeddings *x, struct ptq_status *st)
{
    char hash[PTQ_KEY_CHARS];
    hash_of(x, hash);
    json_t *o = json_pack(
        "{s:s,s:s,s:s,s:s,s:s,s:s,s:b,s:s,s:s,s:I,s:I,s:s,s:o,s:o,s:o}", "model", x->info->name,
        "model_key", x->info->key, "text", x->text->name, "text_source", x->text->source,
        "text_sha256", x->text->sha256, "text_key", x->text->key, "text_verified",
        x->text->verified, "protocol", x->text->protocol, "rules", x->text->rules, "n_sentences",
        (json_int_t)x->eval->n_windows, "d_embedding", (json_int_t)x->eval->d_embedding,
        "embeddings_hash", hash, "n_tokens", lengths_array(&x->text->tokens), "embeddings",
        embeddings_array(x->eval), "seconds", ptq_json_num(x->seconds));
    char *line = o ? ptq_json_line(o) : NULL;
    if (line)
        fputs(line, stdout);
    json_decref(o);
    int rc = line ? PTQ_OK : ptq_status_nomem(st, "the result row", 0);
    free(line);
    return rc;
}

int ptq_embeddings_print(const struct ptq_embeddings *x, enum ptq_format format,
                         struct ptq_status *st)
{
    int rc = check(x, st);
    if (rc)
        return rc;
    return format == PTQ_JSONL ? print_json(x, st) : print_table(x, format, st);
}
