/* tokenizer.json: model, added tokens and the steps around it (tok_json_steps.c); ids of roles and
 * add_bos_token from tokenizer_config.json beside it. */
#include "core/words.h"
#include "model/tok_json.h"
#include "model/tok_unicode.h"
#include <limits.h>
#include <string.h>

static int refuse(const struct ptq_tok_reading *r, const char *what, const char *value,
                  const char *supported)
{
    char shown[PTQ_PRINTABLE];
    ptq_printable(value, shown);
    return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: %s '%s' is not supported; supported: %s",
                          r->path, what, shown, supported);
}

/* ---- added tokens ---------------------------------------------------------------------------- */

static int read_added(struct ptq_tok_reading *r, const json_t *list)
{
    size_t i;
    json_t *item;
    r->added = ptq_arena_alloc(r->arena, r->st, (int64_t)json_array_size(list), sizeof *r->added);
    if (!r->added)
        return PTQ_ERR_MEMORY;
    json_array_foreach(list, i, item)
    {
        const json_t *id = json_object_get(item, "id"), *text = json_object_get(item, "content");
        if (!json_is_string(text) || !json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX)
            return ptq_status_set(r->st, PTQ_ERR_USAGE,
                                  "%s: added token %zu has no content or no id", r->path, i + 1);
        bool special = ptq_json_yes(item, "special", false);
        struct ptq_added_token *t = &r->added[r->def->n_added++];
        *t = (struct ptq_added_token){.id = (int32_t)json_integer_value(id),
                                      .bytes = (int64_t)json_string_length(text),
                                      .special = special,
                                      .lstrip = ptq_json_yes(item, "lstrip", false),
                                      .rstrip = ptq_json_yes(item, "rstrip", false),
                                      .single_word = ptq_json_yes(item, "single_word", false),
                                      .normalized = ptq_json_yes(item, "normalized", !special)};
        char *copy = ptq_arena_alloc(r->arena, r->st, t->bytes + 1, 1);
        if (!copy)
            return PTQ_ERR_MEMORY;
        t->text = memcpy(copy, json_string_value(text), (size_t)t->bytes);
        if (t->single_word)
            return refuse(r, "single_word of the added token", copy, "false");
        if (t->normalized && r->def->kind == PTQ_TOK_WORDPIECE)
            return refuse(r, "normalized of the added token", copy, "false for WordPiece");
    }
    return PTQ_OK;
}

/* ---- model ----------------------------------------------------------------------------------- */

static bool mentions(const json_t *part, const char *list, const char *type, int depth)
{
    size_t i;
    json_t *inner;
    if (strcmp(ptq_json_word(part, "type", ""), type) == 0)
        return true;
    json_array_foreach(json_object_get(part, list), i,
                       inner) if (depth < 8 && mentions(inner, list, type, depth + 1)) return true;
    return false;
}

/* Files before version 0.9 of the library give no type. */
static const char *model_type(const json_t *model)
{
    const char *absent = json_object_get(model, "merges")                 ? "BPE"
                         : json_is_array(json_object_get(model, "vocab")) ? "Unigram"
                                                                          : "WordPiece";
    return ptq_json_word(model, "type", absent);
}

static int read_kind(struct ptq_tok_reading *r, const json_t *root, const json_t *model)
{
    const json_t *pre = json_object_get(root, "pre_tokenizer");
    const json_t *norm = json_object_get(root, "normalizer");
    const char *type = model_type(model);
    if (strcmp(type, "WordPiece") == 0) {
        r->def->kind = PTQ_TOK_WORDPIECE;
        return PTQ_OK;
    }
    if (strcmp(type, "BPE") != 0)
        return refuse(r, "model", type, "BPE, WordPiece");
    bool spm = mentions(pre, "pretokenizers", "Metaspace", 0) ||
               mentions(norm, "normalizers", "Replace", 0);
    r->def->kind = spm ? PTQ_TOK_SPM : PTQ_TOK_BPE;
    if (!spm && !mentions(pre, "pretokenizers", "ByteLevel", 0))
        return refuse(r, "BPE over", "characters",
                      "bytes (pre-tokenizer ByteLevel), SentencePiece (U+2581 for spaces)");
    return PTQ_OK;
}

/* Options that would make another tokenization. */
static int check_options(struct ptq_tok_reading *r, const json_t *model)
{
    const json_t *dropout = json_object_get(model, "dropout");
    const char *prefix = ptq_json_word(model, "continuing_subword_prefix", "");
    const char *suffix = ptq_json_word(model, "end_of_word_suffix", "");
    if (dropout && !json_is_null(dropout) && json_number_value(dropout) != 0)
        return refuse(r, "option of the model", "dropout", "null");
    if (*suffix)
        return refuse(r, "end_of_word_suffix", suffix, "null");
    if (*prefix && r->def->kind != PTQ_TOK_WORDPIECE)
        return refuse(r, "continuing_subword_prefix", prefix, "null for BPE");
    return PTQ_OK;
}

static int read_merge(struct ptq_tok_reading *r, const json_t *item, int64_t i, int32_t out[2])
{
    const json_t *left = json_array_get(item, 0), *right = json_array_get(item, 1);
    if (json_is_string(item))
        return ptq_tok_merge_ids(r->index, r->path, i + 1, json_string_value(item),
                                 (int64_t)json_string_length(item), out, r->st);
    if (!json_is_string(left) || !json_is_string(right) || json_array_size(item) != 2)
        return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: merge %lld is no pair of tokens", r->path,
                              (long long)i + 1);
    return ptq_tok_pair_ids(
        r->index, r->path, i + 1,
        (struct ptq_tok_pair){json_string_value(left), (int64_t)json_string_length(left),
                              json_string_value(right), (int64_t)json_string_length(right)},
        out, r->st);
}

static int read_merges(struct ptq_tok_reading *r, const json_t *list)
{
    int32_t *merge;
    size_t i;
    json_t *item;
    if (!json_is_array(list))
        return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: a BPE model without merges", r->path);
    int code = ptq_tok_merges_room(r, (int64_t)json_array_size(list), &merge);
    json_array_foreach(list, i, item)
    {
        if (code != PTQ_OK)
            break;
        code = read_merge(r, item, (int64_t)i, merge + 2 * i);
    }
    return code;
}

/* A byte without symbol would become the unknown token where there is one: no known model has both,
 * and ours drops such bytes. */
static int check_symbols(struct ptq_tok_reading *r, const char *unk)
{
    for (int b = 0; b < 256 && *unk; b++) {
        char symbol[4];
        int n = ptq_utf8_put(ptq_byte_symbol((uint8_t)b), symbol);
        if (ptq_tok_index_find(r->index, symbol, n) < 0)
            return refuse(r, "byte-level BPE that lacks symbols, with unk_token", unk, "null");
    }
    return PTQ_OK;
}

/* "<0x0A>" stands for a byte where characters fall back to them. */
static void mark_bytes(struct ptq_tok_reading *r)
{
    uint8_t *type = (uint8_t *)(uintptr_t)r->def->type;
    for (int b = 0; b < 256; b++) {
        const char hex[] = "0123456789ABCDEF",
                   text[] = {'<', '0', 'x', hex[b >> 4], hex[b & 15], '>'};
        int32_t id = ptq_tok_index_find(r->index, text, sizeof text);
        if (id >= 0)
            type[id] = PTQ_TOKEN_BYTE;
    }
}

static int read_model(struct ptq_tok_reading *r, const json_t *model)
{
    struct ptq_tok_def *d = r->def;
    const char *unk = ptq_json_word(model, "unk_token", "");
    int code = ptq_tok_fill_vocab(r, json_object_get(model, "vocab"));
    if (code == PTQ_OK && d->kind != PTQ_TOK_WORDPIECE)
        code = read_merges(r, json_object_get(model, "merges"));
    if (code == PTQ_OK && d->kind == PTQ_TOK_BPE)
        code = check_symbols(r, unk);
    if (code != PTQ_OK)
        return code;
    d->ignore_merges = ptq_json_yes(model, "ignore_merges", false);
    d->byte_fallback = ptq_json_yes(model, "byte_fallback", false);
    d->fuse_unk = ptq_json_yes(model, "fuse_unk", false);
    if (d->byte_fallback)
        mark_bytes(r);
    if (*unk && (d->unk = ptq_tok_id_of(r, unk, (int64_t)strlen(unk))) < 0)
        return refuse(r, "unk_token", unk, "a token of the vocabulary");
    if (d->kind != PTQ_TOK_WORDPIECE)
        return PTQ_OK;
    const json_t *longest = json_object_get(model, "max_input_chars_per_word");
    d->max_word_chars = json_is_integer(longest) ? json_integer_value(longest) : 100;
    d->continuing_prefix =
        ptq_arena_strdup(r->arena, r->st, ptq_json_word(model, "continuing_subword_prefix", "##"));
    return d->continuing_prefix ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* ---- the file -------------------------------------------------------------------------------- */

static int read_root(struct ptq_tok_reading *r, const json_t *root)
{
    const json_t *model = json_object_get(root, "model");
    if (!json_is_object(model))
        return ptq_status_set(r->st, PTQ_ERR_USAGE,
                              "%s: has no model: is it a tokenizer.json of the tokenizers library?",
                              r->path);
    int code = read_kind(r, root, model);
    if (code == PTQ_OK)
        code = check_options(r, model);
    if (code == PTQ_OK)
        code = read_added(r, json_object_get(root, "added_tokens"));
    if (code == PTQ_OK)
        code = read_model(r, model);
    if (code == PTQ_OK)
        code = ptq_tok_json_normalizer(r, json_object_get(root, "normalizer"));
    if (code == PTQ_OK)
        code = ptq_tok_json_pretokenizer(r, json_object_get(root, "pre_tokenizer"));
    if (code == PTQ_OK)
        code = ptq_tok_json_postprocessor(r, json_object_get(root, "post_processor"));
    return code;
}

/* Only a file of the usual name belongs to the configuration beside it. */
static int read_config(struct ptq_tok_reading *r)
{
    json_t *config = NULL, *map = NULL;
    const char *name = strrchr(r->path, '/');
    int32_t unk = r->def->unk;
    int code = PTQ_OK;
    if (strcmp(name ? name + 1 : r->path, "tokenizer.json") == 0) {
        code = ptq_json_beside(r, "tokenizer_config.json", &config);
        if (code == PTQ_OK)
            code = ptq_json_beside(r, "special_tokens_map.json", &map);
    }
    if (code == PTQ_OK)
        code = ptq_tok_roles(r, config, map);
    /* What the model itself uses; one of pieces without such a token drops what it does not know.
     */
    if (unk >= 0 || r->def->kind == PTQ_TOK_SPM)
        r->def->unk = unk;
    json_decref(config);
    json_decref(map);
    return code;
}

int ptq_tok_read_json(const char *path, struct ptq_arena *a, struct ptq_tok_def *def,
                      struct ptq_status *st)
{
    json_t *root;
    *def = (struct ptq_tok_def){.source = path};
    def->bos = def->eos = def->unk = def->cls = def->sep = def->pad = -1;
    struct ptq_tok_reading r = {.path = path, .arena = a, .def = def, .st = st};
    def->source = ptq_arena_strdup(a, st, path);
    int code = def->source ? ptq_json_object_file(path, &root, st) : PTQ_ERR_MEMORY;
    if (code != PTQ_OK)
        return code;
    code = read_root(&r, root);
    if (code == PTQ_OK)
        code = read_config(&r);
    json_decref(root);
    ptq_tok_index_free(r.index);
    return code;
}
