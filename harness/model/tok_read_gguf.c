/* tokenizer.ggml.* of a GGUF file: "llama" is SentencePiece with scores, "gpt2" byte-level BPE with
 * merges and a pre-tokenizer by name. */
#include "core/size.h"
#include "core/words.h"
#include "model/meta.h"
#include "model/tok.h"
#include "model/tok_special.h"
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct reading {
    struct ptq_meta meta;
    struct ptq_arena *arena;
    struct ptq_tok_def *def;
    struct ptq_status *st;
};

static int bad(const struct reading *r, const char *what)
{
    return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: tokenizer.ggml.%s", r->meta.source, what);
}

/* ---- tokens ---- */

static int read_tokens(const struct reading *r)
{
    const json_t *list = ptq_meta_find(&r->meta, "tokens"), *token;
    int64_t n = (int64_t)json_array_size(list), bytes = 0;
    size_t i;
    if (n < 1 || n > INT32_MAX)
        return bad(r, "tokens is missing or no list of texts");
    json_array_foreach(list, i, token)
    {
        if (!json_is_string(token) ||
            !ptq_size_add(bytes, (int64_t)json_string_length(token), &bytes))
            return bad(r, "tokens is no list of texts");
    }
    char *text = ptq_arena_alloc(r->arena, r->st, bytes + 1, 1);
    int64_t *at = ptq_arena_alloc(r->arena, r->st, n + 1, sizeof *at);
    if (!text || !at)
        return r->st->code;
    json_array_foreach(list, i, token)
    {
        memcpy(text + at[i], json_string_value(token), json_string_length(token));
        at[i + 1] = at[i] + (int64_t)json_string_length(token);
    }
    r->def->n = n;
    r->def->text = text;
    r->def->at = at;
    return PTQ_OK;
}

/* Absent: all normal, as in the first files. */
static int read_types(const struct reading *r)
{
    static const uint8_t types[] = {PTQ_TOKEN_NORMAL,  PTQ_TOKEN_NORMAL, PTQ_TOKEN_UNKNOWN,
                                    PTQ_TOKEN_CONTROL, PTQ_TOKEN_USER,   PTQ_TOKEN_UNUSED,
                                    PTQ_TOKEN_BYTE};
    const json_t *list = ptq_meta_find(&r->meta, "token_type"), *value;
    uint8_t *type = ptq_arena_alloc(r->arena, r->st, r->def->n, sizeof *type);
    size_t i;
    if (!type)
        return r->st->code;
    r->def->type = type;
    if (list && (int64_t)json_array_size(list) != r->def->n)
        return bad(r, "token_type has another length than the list of tokens");
    json_array_foreach(list, i, value)
    {
        json_int_t v = json_is_integer(value) ? json_integer_value(value) : -1;
        if (v < 0 || v > 6)
            return bad(r, "token_type holds another value than 0 .. 6");
        type[i] = types[v];
    }
    return PTQ_OK;
}

static int read_scores(const struct reading *r)
{
    const json_t *list = ptq_meta_find(&r->meta, "scores"), *value;
    float *score = ptq_arena_alloc(r->arena, r->st, r->def->n, sizeof *score);
    size_t i;
    if (!score)
        return r->st->code;
    if ((int64_t)json_array_size(list) != r->def->n)
        return bad(r, "scores is missing or has another length than the list of tokens");
    json_array_foreach(list, i, value)
    {
        if (!json_is_number(value)) /* NaN and Inf arrive as null */
            return bad(r, "scores holds what is no number");
        score[i] = (float)json_number_value(value);
    }
    r->def->score = score;
    return PTQ_OK;
}

static int read_merges(const struct reading *r)
{
    const json_t *list = ptq_meta_find(&r->meta, "merges"), *line;
    int64_t n = (int64_t)json_array_size(list);
    struct ptq_tok_index *index;
    size_t i;
    if (!json_is_array(list))
        return bad(r, "merges is missing: a byte-level BPE cannot do without");
    int32_t *merge = ptq_arena_alloc(r->arena, r->st, n, 2 * sizeof *merge);
    int code = merge ? ptq_tok_index_new(&index, r->def, r->st) : r->st->code;
    if (code != PTQ_OK)
        return code;
    json_array_foreach(list, i, line)
    {
        if (code == PTQ_OK && !json_is_string(line))
            code = bad(r, "merges is no list of texts");
        if (code == PTQ_OK)
            code = ptq_tok_merge_ids(index, r->meta.source, (int64_t)i + 1, json_string_value(line),
                                     (int64_t)json_string_length(line), merge + 2 * i, r->st);
    }
    ptq_tok_index_free(index);
    r->def->merge = merge;
    r->def->n_merges = n;
    return code;
}

/* ---- roles ---- */

static int read_role(const struct reading *r, const char *key, int32_t *out)
{
    int64_t id = *out;
    int code = ptq_meta_i64(&r->meta, key, false, 0, r->def->n - 1, &id, r->st);
    *out = (int32_t)id;
    return code;
}

static int read_edge(const struct reading *r, const char *key, bool yes, int32_t id, bool before)
{
    struct ptq_tok_def *d = r->def;
    int code = ptq_meta_bool(&r->meta, key, false, &yes, r->st);
    if (code != PTQ_OK || !yes)
        return code;
    if (id < 0)
        return ptq_status_set(r->st, PTQ_ERR_USAGE,
                              "%s: tokenizer.ggml.%s is set, but no id says which token that is",
                              r->meta.source, key);
    if (before)
        d->before[d->n_before++] = id;
    else
        d->after[d->n_after++] = id;
    return PTQ_OK;
}

/* add_bos: what readers of GGUF take where the file says nothing. */
static int read_roles(const struct reading *r, bool add_bos)
{
    struct ptq_tok_def *d = r->def;
    const struct {
        const char *key;
        int32_t *id;
    } roles[] = {{"bos_token_id", &d->bos},       {"eos_token_id", &d->eos},
                 {"unknown_token_id", &d->unk},   {"cls_token_id", &d->cls},
                 {"seperator_token_id", &d->sep}, {"padding_token_id", &d->pad}};
    int code = PTQ_OK;
    for (size_t i = 0; i < sizeof roles / sizeof *roles && code == PTQ_OK; i++)
        code = read_role(r, roles[i].key, roles[i].id);
    if (code == PTQ_OK)
        code = read_edge(r, "add_bos_token", add_bos && d->bos >= 0, d->bos, true);
    return code == PTQ_OK ? read_edge(r, "add_eos_token", false, d->eos, false) : code;
}

/* ---- models ---- */

static int read_llama(struct reading *r)
{
    struct ptq_tok_def *d = r->def;
    bool prefix = true;
    d->kind = PTQ_TOK_SPM;
    d->norm = PTQ_NORM_SPM_SPACES;
    d->fuse_unk = true;
    int code = read_scores(r);
    if (code == PTQ_OK)
        code = ptq_meta_bool(&r->meta, "add_space_prefix", false, &prefix, r->st);
    if (code == PTQ_OK)
        code =
            ptq_meta_bool(&r->meta, "remove_extra_whitespaces", false, &d->squeeze_spaces, r->st);
    d->prefix = prefix ? PTQ_PREFIX_EACH : PTQ_PREFIX_NONE;
    d->dummy_prefix = prefix;
    for (int64_t i = 0; i < d->n; i++) {
        d->byte_fallback |= d->type[i] == PTQ_TOKEN_BYTE;
        if (d->type[i] == PTQ_TOKEN_UNKNOWN && d->unk < 0)
            d->unk = (int32_t)i;
    }
    if (code == PTQ_OK)
        code = ptq_tok_add_specials(d, false, r->arena, r->st);
    if (code == PTQ_OK)
        code = read_roles(r, true);
    if (code == PTQ_OK && d->unk < 0 && !d->byte_fallback)
        return bad(r, "token_type marks neither an unknown token nor bytes");
    return code;
}

static int read_gpt2(struct reading *r)
{
    const char *pre = NULL;
    r->def->kind = PTQ_TOK_BPE;
    int code = ptq_meta_text(&r->meta, "pre", false, &pre, r->st);
    if (code == PTQ_OK && (!pre || strcmp(pre, "default") == 0))
        return bad(r, "pre, the name of the pre-tokenizer, is missing: how text is cut before "
                      "merging cannot be known; give the model's tokenizer.json instead");
    if (code == PTQ_OK)
        code = ptq_pretok_named(pre, r->meta.source, r->def, r->st);
    if (code == PTQ_OK)
        code = read_merges(r);
    if (code == PTQ_OK)
        code = ptq_tok_add_specials(r->def, true, r->arena, r->st);
    return code == PTQ_OK ? read_roles(r, r->def->ignore_merges) : code; /* Llama 3 */
}

int ptq_tok_read_gguf(const json_t *meta, const char *path, struct ptq_arena *a,
                      struct ptq_tok_def *def, struct ptq_status *st)
{
    const char *model = NULL;
    *def = (struct ptq_tok_def){0};
    def->bos = def->eos = def->unk = def->cls = def->sep = def->pad = -1;
    def->source = ptq_arena_strdup(a, st, path);
    struct reading r = {{def->source, meta, "tokenizer.ggml.", a}, a, def, st};
    if (!def->source)
        return st->code;
    int code = ptq_meta_text(&r.meta, "model", false, &model, st);
    if (code != PTQ_OK)
        return code;
    if (!model)
        return PTQ_SKIP;
    bool llama = strcmp(model, "llama") == 0;
    if (!llama && strcmp(model, "gpt2") != 0) {
        char shown[PTQ_PRINTABLE];
        ptq_printable(model, shown);
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: tokenizer.ggml.model '%s' is not supported; supported: llama "
                              "(SentencePiece), gpt2 (byte-level BPE)",
                              path, shown);
    }
    code = read_tokens(&r);
    if (code == PTQ_OK)
        code = read_types(&r);
    if (code != PTQ_OK)
        return code;
    return llama ? read_llama(&r) : read_gpt2(&r);
}
