#include "model/requests.h"
#include "core/json.h"
#include "core/words.h"
#include "model/eval.h"
#include "model/pytext.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Hidden states of a batch: 512 MB at d_model = 4096. */
enum { BATCH_TOKENS = 1 << 15 };

struct pair {   /* a request as ids: context and continuation one after another */
    json_t *id; /* owned; NULL: none given */
    const int32_t *ids;
    int64_t n, n_continuation, truncated;
};
struct job {
    const struct ptq_requests *ask;
    const struct ptq_model_info *info;
    struct ptq_arena arena; /* pairs and their ids */
    struct pair *pair;
    int64_t n, window, line;
    struct ptq_status *st;
};

static int fault(const struct job *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int fault(const struct job *j, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return ptq_status_set(j->st, PTQ_ERR_USAGE, "%s:%lld: %s", j->ask->name, (long long)j->line,
                          text);
}

/* ---- ids */

static int ids_of(struct job *j, const json_t *row, const char *key, int32_t *out)
{
    const json_t *list = json_object_get(row, key), *v;
    size_t i;
    json_array_foreach(list, i, v)
    {
        if (!json_is_integer(v))
            return fault(j, "\"%s\"[%zu] is not a whole number", key, i);
        json_int_t id = json_integer_value(v);
        if (id < 0 || id >= j->info->vocab_size)
            return fault(j, "\"%s\"[%zu] is %lld: outside the vocabulary of %s, 0 .. %lld", key, i,
                         (long long)id, j->info->name, (long long)j->info->vocab_size - 1);
        out[i] = (int32_t)id;
    }
    return PTQ_OK;
}

static int pair_of_ids(struct job *j, const json_t *row, struct pair *p)
{
    const json_t *a = json_object_get(row, "context"), *b = json_object_get(row, "continuation");
    if (!json_is_array(a) || !json_is_array(b))
        return fault(j, "\"context\" and \"continuation\" are lists of token ids");
    int64_t n = (int64_t)json_array_size(a);
    p->n_continuation = (int64_t)json_array_size(b);
    p->n = n + p->n_continuation;
    int32_t *ids = ptq_arena_alloc(&j->arena, j->st, p->n, sizeof *ids);
    p->ids = ids;
    if (!ids)
        return PTQ_ERR_MEMORY;
    if (n == 0)
        return fault(j, "\"context\" is empty; give at least one token (BOS)");
    int rc = ids_of(j, row, "context", ids);
    return rc ? rc : ids_of(j, row, "continuation", ids + n);
}

/* ---- texts */

static int encode(struct job *j, const char *text, int64_t bytes, int32_t **ids, int64_t *n)
{
    const struct ptq_encode ask = {.text = text, .bytes = bytes, .added = true};
    if (j->ask->tokenizer)
        return ptq_tokenizer_encode(j->ask->tokenizer, &ask, &j->arena, ids, n, j->st);
    *n = bytes;
    if (!(*ids = ptq_arena_alloc(&j->arena, j->st, bytes, sizeof **ids)))
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < bytes; i++)
        (*ids)[i] = (unsigned char)text[i];
    return PTQ_OK;
}

/* The prefix token stands for an empty context, unless the continuation brings it along. */
static int pair_without_context(struct job *j, const int32_t *ids, int64_t n, struct pair *p)
{
    const struct ptq_tokenizer_info *t =
        j->ask->tokenizer ? ptq_tokenizer_info(j->ask->tokenizer) : NULL;
    int32_t prefix = !t ? -1 : t->bos >= 0 ? t->bos : t->eos;
    int64_t extra = !(n > 0 && ids[0] == prefix);
    if (prefix < 0)
        return fault(j, "\"context_text\" is empty, and there is no BOS or EOS token for it");
    int32_t *all = ptq_arena_alloc(&j->arena, j->st, n + extra, sizeof *all);
    if (!all)
        return PTQ_ERR_MEMORY;
    all[0] = prefix;
    memcpy(all + extra, ids, (size_t)n * sizeof *all);
    p->ids = all;
    p->n = n + extra;
    p->n_continuation = p->n - 1;
    return PTQ_OK;
}

static int check_vocabulary(const struct job *j, const struct pair *p)
{
    for (int64_t i = 0; i < p->n; i++)
        if (p->ids[i] < 0 || p->ids[i] >= j->info->vocab_size)
            return fault(j, "the tokenizer gives the id %d: it is another model's", (int)p->ids[i]);
    return PTQ_OK;
}

static int pair_of_texts(struct job *j, const json_t *row, struct pair *p)
{
    const json_t *a = json_object_get(row, "context_text");
    const json_t *b = json_object_get(row, "continuation_text");
    if (!json_is_string(a) || !json_is_string(b))
        return fault(j, "\"context_text\" and \"continuation_text\" are texts");
    if (!j->ask->tokenizer && strcmp(j->info->tokenizer, "bytes") != 0)
        return fault(j,
                     "texts need a tokenizer, and %s has none; name one (--tokenizer) or give "
                     "\"context\" and \"continuation\" as ids",
                     j->info->name);
    int64_t n_a = (int64_t)json_string_length(a), n_b = (int64_t)json_string_length(b), from, to;
    char *both = ptq_arena_alloc(&j->arena, j->st, n_a + n_b + 1, 1);
    int32_t *ids, *context;
    int64_t n, n_context;
    if (!both)
        return PTQ_ERR_MEMORY;
    memcpy(both, json_string_value(a), (size_t)n_a);
    memcpy(both + n_a, json_string_value(b), (size_t)n_b);
    int rc = encode(j, both, n_a + n_b, &ids, &n);
    if (rc)
        return rc;
    if (n_a == 0) {
        rc = pair_without_context(j, ids, n, p);
        return rc ? rc : check_vocabulary(j, p);
    }
    ptq_strip(both, n_a, &from, &to);
    if (from == to)
        return fault(j, "\"context_text\" is white space alone");
    if ((rc = encode(j, both, to, &context, &n_context)))
        return rc;
    *p = (struct pair){p->id, ids, n, n > n_context ? n - n_context : 0, 0};
    return check_vocabulary(j, p);
}

/* ---- lines */

static int check_keys(const struct job *j, const json_t *row)
{
    static const char *const keys[] = {"id",           "context",           "continuation",
                                       "context_text", "continuation_text", NULL};
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)row, key, v)
    {
        bool known = false;
        for (int i = 0; keys[i]; i++)
            known = known || strcmp(keys[i], key) == 0;
        if (!known) {
            char place[320];
            snprintf(place, sizeof place, "%.255s:%lld", j->ask->name, (long long)j->line);
            return ptq_unknown_word_at(place, "key", key, keys, j->st);
        }
    }
    return PTQ_OK;
}

/* Keeps the last window + 1 ids: the last one is a target and no input. */
static int fit(struct job *j, struct pair *p)
{
    if (p->n_continuation < 1)
        return fault(j, "the continuation is empty");
    if (p->n_continuation > j->window)
        return fault(j, "a continuation of %lld tokens; a window of %lld is all there is",
                     (long long)p->n_continuation, (long long)j->window);
    p->truncated = p->n > j->window + 1 ? p->n - (j->window + 1) : 0;
    p->ids += p->truncated;
    p->n -= p->truncated;
    return PTQ_OK;
}

static int read_line(struct job *j, const char *line, int64_t bytes, struct pair *p)
{
    json_error_t error;
    json_t *row = json_loadb(line, (size_t)bytes, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
    int rc;
    if (!json_is_object(row))
        rc = fault(j, "%s",
                   row ? "a request is {\"context\": ..., \"continuation\": ...}" : error.text);
    else if (!(rc = check_keys(j, row)))
        rc = json_object_get(row, "context_text") || json_object_get(row, "continuation_text")
                 ? pair_of_texts(j, row, p)
                 : pair_of_ids(j, row, p);
    if (!rc)
        rc = fit(j, p);
    p->id = json_incref(json_object_get(row, "id"));
    json_decref(row);
    return rc;
}

static bool is_blank(const char *line, int64_t bytes)
{
    int64_t from, to;
    ptq_strip(line, bytes, &from, &to);
    return from == to;
}

static int read_all(struct job *j)
{
    int64_t lines = 1, rc = PTQ_OK;
    for (int64_t i = 0; i < j->ask->bytes; i++)
        lines += j->ask->text[i] == '\n';
    j->pair = ptq_arena_alloc(&j->arena, j->st, lines, sizeof *j->pair);
    if (!j->pair)
        return PTQ_ERR_MEMORY;
    for (int64_t at = 0; at < j->ask->bytes && !rc;) {
        const char *line = j->ask->text + at;
        const char *end = memchr(line, '\n', (size_t)(j->ask->bytes - at));
        int64_t n = end ? end - line : j->ask->bytes - at;
        j->line++;
        if (!is_blank(line, n))
            rc = read_line(j, line, n, &j->pair[j->n++]);
        at += n + 1;
    }
    return (int)rc;
}

/* ---- scoring */

static int batch_text(const struct job *j, int64_t begin, int64_t end, struct ptq_arena *arena,
                      struct ptq_text *out)
{
    int64_t n = end - begin, total = 0;
    int64_t *len = ptq_arena_alloc(arena, j->st, n, sizeof *len);
    int64_t *offset = ptq_arena_alloc(arena, j->st, n, sizeof *offset);
    int64_t *first = ptq_arena_alloc(arena, j->st, n, sizeof *first);
    int32_t *after = ptq_arena_alloc(arena, j->st, n, sizeof *after);
    for (int64_t s = begin; s < end; s++)
        total += j->pair[s].n - 1;
    int32_t *ids = ptq_arena_alloc(arena, j->st, total, sizeof *ids);
    if (!len || !offset || !first || !after || !ids)
        return PTQ_ERR_MEMORY;
    total = 0;
    for (int64_t s = 0; s < n; s++) {
        const struct pair *p = &j->pair[begin + s];
        len[s] = p->n - 1;
        offset[s] = total;
        first[s] = p->n - p->n_continuation;
        after[s] = p->ids[p->n - 1];
        memcpy(ids + total, p->ids, (size_t)len[s] * sizeof *ids);
        total += len[s];
    }
    *out = (struct ptq_text){.tokens = {n, total, len, offset, ids},
                             .first_scored = first,
                             .after = after,
                             .source = j->ask->name,
                             .name = j->ask->name,
                             .protocol = "requests"};
    return PTQ_OK;
}

static int put_row(const struct job *j, const struct pair *p, double logprob, bool greedy)
{
    json_t *o = json_object();
    int bad = json_object_set(o, "id", p->id ? p->id : json_null()) ||
              json_object_set_new(o, "logprob", ptq_json_num(logprob)) ||
              json_object_set_new(o, "greedy", json_boolean(greedy)) ||
              json_object_set_new(o, "n_tokens", json_integer(p->n_continuation));
    if (!bad && p->truncated)
        bad = json_object_set_new(o, "truncated", json_integer(p->truncated));
    char *line = bad ? NULL : ptq_json_line(o);
    int rc = line ? j->ask->row(j->ask->arg, line, j->st) : ptq_status_nomem(j->st, "a row", 256);
    free(line);
    json_decref(o);
    return rc;
}

static int put_rows(const struct job *j, int64_t begin, const struct ptq_eval *e)
{
    int64_t flat = 0;
    for (int64_t s = 0; s < e->n_windows; s++) {
        bool greedy = true;
        for (int64_t i = 0; i < e->n_window[s]; i++)
            greedy = greedy && e->hit[flat + i];
        flat += e->n_window[s];
        double logprob = -e->nll_window[s] * (double)e->n_window[s];
        if (!isfinite(logprob))
            return ptq_status_set(j->st, PTQ_ERR_NUMERIC,
                                  "%s: request %lld: the log-likelihood is not finite: the model's "
                                  "activations overflow",
                                  j->ask->name, (long long)(begin + s + 1));
        int rc = put_row(j, &j->pair[begin + s], logprob, greedy);
        if (rc < 0)
            return rc;
    }
    return PTQ_OK;
}

static int run_batch(const struct job *j, int64_t begin, int64_t end)
{
    struct ptq_arena arena;
    struct ptq_text text;
    struct ptq_eval eval;
    ptq_arena_init(&arena, 0);
    int rc = batch_text(j, begin, end, &arena, &text);
    const struct ptq_eval_args args = {.model = j->ask->model, .text = &text, .pool = j->ask->pool};
    if (!rc && !(rc = ptq_eval_model(&args, &arena, &eval, j->st)))
        rc = put_rows(j, begin, &eval);
    ptq_arena_clear(&arena);
    return rc;
}

static int run_all(const struct job *j)
{
    int rc = PTQ_OK;
    for (int64_t begin = 0, end; begin < j->n && !rc; begin = end) {
        int64_t tokens = 0;
        for (end = begin; end < j->n && (end == begin || tokens + j->pair[end].n <= BATCH_TOKENS);)
            tokens += j->pair[end++].n;
        rc = run_batch(j, begin, end);
    }
    return rc;
}

int ptq_requests_run(const struct ptq_requests *ask, struct ptq_status *st)
{
    const struct ptq_model_info *info = ptq_model_info(ask->model);
    struct job j = {.ask = ask, .info = info, .st = st};
    if (info->encoder)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: the model %s is an encoder, which predicts no tokens, and "
                              "requests ask for their log-likelihoods; name a model that predicts "
                              "tokens, or score this one by its embeddings (--text)",
                              ask->name, info->source);
    j.window = ask->window ? ask->window : info->max_context;
    if (j.window < 1 || j.window > info->max_context)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "a window of %lld tokens: the model %s takes 1 .. %lld",
                              (long long)j.window, info->name, (long long)info->max_context);
    ptq_arena_init(&j.arena, 0);
    int rc = read_all(&j);
    if (!rc)
        rc = run_all(&j);
    for (int64_t i = 0; i < j.n; i++)
        json_decref(j.pair[i].id);
    ptq_arena_clear(&j.arena);
    return rc;
}
