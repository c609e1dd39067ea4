#include "model/tok_json.h"
#include "core/size.h"
#include "core/words.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The largest vocabularies (256,000 tokens, as many merges in pairs) hold about a million values.
 */
enum { MOST_FILE = 256 << 20, MOST_DEPTH = 64, MOST_VALUES = 1 << 22, MOST_HOLES = 1 << 16 };

const char *ptq_json_word(const json_t *object, const char *key, const char *absent)
{
    const char *word = json_string_value(json_object_get(object, key));
    return word ? word : absent;
}

bool ptq_json_yes(const json_t *object, const char *key, bool absent)
{
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : absent;
}

int ptq_json_object_file(const char *path, json_t **out, struct ptq_status *st)
{
    char *text;
    size_t bytes;
    json_error_t error;
    *out = NULL;
    int code = ptq_read_file(path, MOST_FILE, &text, &bytes, st);
    if (code != PTQ_OK)
        return code;
    const char *much = ptq_json_too_much(text, bytes, MOST_DEPTH, MOST_VALUES);
    if (much) {
        free(text);
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: refused: its JSON is %s; is it the right file?", path, much);
    }
    *out = json_loadb(text, bytes, JSON_ALLOW_NUL, &error);
    /* Settings that mean "no limit" are written as integers beyond 64 bits. */
    if (!*out && strstr(error.text, "too big integer"))
        *out = json_loadb(text, bytes, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    free(text);
    if (!*out)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s:%d: is no JSON: %s; the file is cut or damaged", path, error.line,
                              error.text);
    if (json_is_object(*out))
        return PTQ_OK;
    json_decref(*out);
    *out = NULL;
    return ptq_status_set(st, PTQ_ERR_USAGE, "%s: holds no JSON object; is it the right file?",
                          path);
}

int ptq_json_beside(const struct ptq_tok_reading *r, const char *name, json_t **out)
{
    const char *slash = strrchr(r->path, '/');
    char *path = ptq_arena_printf(r->arena, r->st, "%.*s%s", slash ? (int)(slash - r->path) + 1 : 0,
                                  r->path, name);
    *out = NULL;
    if (!path)
        return PTQ_ERR_MEMORY;
    return access(path, F_OK) == 0 ? ptq_json_object_file(path, out, r->st) : PTQ_OK;
}

/* ---- vocabulary ------------------------------------------------------------------------------ */

static int bad_id(const struct ptq_tok_reading *r, const char *token, const char *what)
{
    char shown[PTQ_PRINTABLE];
    ptq_printable(token, shown);
    return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: token '%s': %s", r->path, shown, what);
}

/* Ids may leave holes, but not so many that a small file asks for much memory. */
static int count_ids(struct ptq_tok_reading *r, const json_t *vocab)
{
    int64_t most = (int64_t)json_object_size(vocab) + r->def->n_added, last = -1;
    const char *token;
    json_t *id;
    most = 2 * most + MOST_HOLES;
    json_object_foreach((json_t *)(uintptr_t)vocab, token, id)
    {
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= most)
            return bad_id(r, token, "its id is no number that a vocabulary of this size can have");
        last = json_integer_value(id) > last ? json_integer_value(id) : last;
    }
    for (int64_t i = 0; i < r->def->n_added; i++) {
        if (r->added[i].id < 0 || r->added[i].id >= most)
            return bad_id(r, r->added[i].text,
                          "its id is no number that a vocabulary of this size can have");
        last = r->added[i].id > last ? r->added[i].id : last;
    }
    r->def->n = last + 1;
    if (last < 0)
        return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: the vocabulary is empty", r->path);
    return PTQ_OK;
}

/* Key i of the vocabulary belongs to token i. */
static int by_id(struct ptq_tok_reading *r, const json_t *vocab, const char **key, int64_t *bytes)
{
    const char *token;
    json_t *id;
    json_object_foreach((json_t *)(uintptr_t)vocab, token, id)
    {
        const char **slot = &key[json_integer_value(id)];
        if (*slot)
            return bad_id(r, token, "has the same id as another token");
        *slot = token;
        *bytes += (int64_t)strlen(token);
    }
    return PTQ_OK;
}

int ptq_tok_fill_vocab(struct ptq_tok_reading *r, const json_t *vocab)
{
    struct ptq_tok_def *d = r->def;
    if (!json_is_object(vocab))
        return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: holds no vocabulary {\"token\": id, ...}",
                              r->path);
    int code = count_ids(r, vocab);
    if (code != PTQ_OK)
        return code;
    int64_t bytes = 0, used = 0;
    const char **key = ptq_arena_alloc(r->arena, r->st, d->n, sizeof *key);
    code = key ? by_id(r, vocab, key, &bytes) : PTQ_ERR_MEMORY;
    if (code != PTQ_OK)
        return code;
    char *text = ptq_arena_alloc(r->arena, r->st, bytes + 1, 1);
    int64_t *at = ptq_arena_alloc(r->arena, r->st, d->n + 1, sizeof *at);
    uint8_t *type = ptq_arena_alloc(r->arena, r->st, d->n, 1);
    if (!text || !at || !type)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < d->n; i++) {
        size_t n = key[i] ? strlen(key[i]) : 0;
        memcpy(text + used, key[i] ? key[i] : "", n);
        at[i] = used;
        used += (int64_t)n;
        type[i] = key[i] ? PTQ_TOKEN_NORMAL : PTQ_TOKEN_UNUSED;
    }
    at[d->n] = used;
    for (int64_t i = 0; i < d->n_added; i++)
        if (type[r->added[i].id] != PTQ_TOKEN_UNUSED)
            type[r->added[i].id] = r->added[i].special ? PTQ_TOKEN_CONTROL : PTQ_TOKEN_USER;
    d->text = text;
    d->at = at;
    d->type = type;
    d->added = r->added;
    return ptq_tok_index_new(&r->index, d, r->st);
}

int ptq_tok_merges_room(struct ptq_tok_reading *r, int64_t n, int32_t **out)
{
    *out = ptq_arena_alloc(r->arena, r->st, n, 2 * sizeof **out);
    r->def->merge = *out;
    r->def->n_merges = n;
    return *out ? PTQ_OK : PTQ_ERR_MEMORY;
}

int32_t ptq_tok_id_of(const struct ptq_tok_reading *r, const char *text, int64_t bytes)
{
    for (int64_t i = 0; i < r->def->n_added; i++)
        if (r->added[i].bytes == bytes && memcmp(r->added[i].text, text, (size_t)bytes) == 0)
            return r->added[i].id;
    return ptq_tok_index_find(r->index, text, bytes);
}

/* ---- roles ----------------------------------------------------------------------------------- */

/* "<s>" or {"content": "<s>", ...} */
static const char *content(const json_t *value)
{
    return json_is_object(value) ? ptq_json_word(value, "content", NULL) : json_string_value(value);
}

static const char *configured(const json_t *config, const json_t *map, const char *key)
{
    const char *text = content(json_object_get(config, key));
    return text ? text : content(json_object_get(map, key));
}

/* Files without a configuration beside them: how families call these tokens. */
static int32_t usual(const struct ptq_tok_reading *r, const char *const *names)
{
    for (; *names; names++) {
        int32_t id = ptq_tok_id_of(r, *names, (int64_t)strlen(*names));
        if (id >= 0)
            return id;
    }
    return -1;
}

/* A token put before (after) every text, or not, whatever the post-processor says. */
static int set_edge(struct ptq_tok_reading *r, const json_t *config, const char *key, int32_t id,
                    bool before)
{
    struct ptq_tok_def *d = r->def;
    int32_t *list = before ? d->before : d->after;
    int *n = before ? &d->n_before : &d->n_after;
    if (!json_is_boolean(json_object_get(config, key)))
        return PTQ_OK;
    bool there = *n > 0 && id >= 0 && list[before ? 0 : *n - 1] == id;
    bool wanted = ptq_json_yes(config, key, false);
    if (there == wanted)
        return PTQ_OK;
    if (id < 0 || (wanted && *n == 4))
        return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: tokenizer_config.json says %s, but %s",
                              r->path, key,
                              id < 0 ? "names no such token" : "too many tokens stand there");
    if (before)
        memmove(list + wanted, list + !wanted, (size_t)(*n - !wanted) * sizeof *list);
    *n += wanted ? 1 : -1;
    if (wanted)
        list[before ? 0 : *n - 1] = id;
    return PTQ_OK;
}

int ptq_tok_roles(struct ptq_tok_reading *r, const json_t *config, const json_t *map)
{
    struct ptq_tok_def *d = r->def;
    static const char
        *const usual_bos[] = {"<s>", "<|begin_of_text|>", "<|endoftext|>", NULL},
               *const usual_eos[] = {"</s>", "<|end_of_text|>", "<|endoftext|>", NULL},
               *const usual_unk[] = {"<unk>", "[UNK]", NULL}, *const usual_cls[] = {"[CLS]", NULL},
               *const usual_sep[] = {"[SEP]", NULL}, *const usual_pad[] = {"<pad>", "[PAD]", NULL};
    const struct {
        const char *key;
        int32_t *id;
        const char *const *names;
    } roles[] = {{"bos_token", &d->bos, usual_bos}, {"eos_token", &d->eos, usual_eos},
                 {"unk_token", &d->unk, usual_unk}, {"cls_token", &d->cls, usual_cls},
                 {"sep_token", &d->sep, usual_sep}, {"pad_token", &d->pad, usual_pad}};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        const char *text = configured(config, map, roles[i].key);
        if (text)
            *roles[i].id = ptq_tok_id_of(r, text, (int64_t)strlen(text));
        else if (!config && !map && *roles[i].id < 0)
            *roles[i].id = usual(r, roles[i].names);
    }
    int code = set_edge(r, config, "add_bos_token", d->bos, true);
    return code == PTQ_OK ? set_edge(r, config, "add_eos_token", d->eos, false) : code;
}
