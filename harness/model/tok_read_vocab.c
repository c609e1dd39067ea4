/* vocab.json + merges.txt, by GPT-2's names encoder.json + vocab.bpe: a byte-level BPE without
 * description of its steps. They follow from tokenizer_class in tokenizer_config.json (GPT-2's
 * where there is none: OPT has its class too); special tokens from there, special_tokens_map.json
 * and added_tokens.json. */
#include "core/words.h"
#include "model/tok_json.h"
#include "model/tok_pretok.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_MERGES_FILE = 64 << 20, MOST_ADDED = 1 << 16 };

struct vocab_files {
    json_t *vocab, *config, *map, *added;
};

/* ---- added tokens ---------------------------------------------------------------------------- */

/* Appends a token once. lookup: its id in the vocabulary or the list of added ones. */
static int add_token(struct ptq_tok_reading *r, const struct vocab_files *f, const char *text,
                     const json_t *flags, bool special)
{
    const json_t *id = json_object_get(f->vocab, text);
    id = id ? id : json_object_get(f->added, text);
    if (!text || !json_is_integer(id) || r->def->n_added == MOST_ADDED)
        return PTQ_OK; /* a role whose token this vocabulary lacks is no role */
    if (json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
        return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: an added token's id is out of range",
                              r->path);
    for (int64_t i = 0; i < r->def->n_added; i++)
        if (r->added[i].id == json_integer_value(id))
            return PTQ_OK;
    char *copy = ptq_arena_strdup(r->arena, r->st, text);
    if (!copy)
        return PTQ_ERR_MEMORY;
    r->added[r->def->n_added++] =
        (struct ptq_added_token){.id = (int32_t)json_integer_value(id),
                                 .text = copy,
                                 .bytes = (int64_t)strlen(copy),
                                 .special = special,
                                 .lstrip = ptq_json_yes(flags, "lstrip", false),
                                 .rstrip = ptq_json_yes(flags, "rstrip", false)};
    return PTQ_OK;
}

static int add_value(struct ptq_tok_reading *r, const struct vocab_files *f, const json_t *value)
{
    const char *text =
        json_is_object(value) ? ptq_json_word(value, "content", NULL) : json_string_value(value);
    return text ? add_token(r, f, text, value, true) : PTQ_OK;
}

/* Every value whose key ends in "_token", and the list of further ones. */
static int add_named(struct ptq_tok_reading *r, const struct vocab_files *f, const json_t *from)
{
    static const char *const keys[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};
    size_t i;
    json_t *value;
    int code = PTQ_OK;
    for (i = 0; i < sizeof keys / sizeof *keys && code == PTQ_OK; i++)
        code = add_value(r, f, json_object_get(from, keys[i]));
    json_array_foreach(json_object_get(from, "additional_special_tokens"), i,
                       value) if (code == PTQ_OK) code = add_value(r, f, value);
    return code;
}

static int read_added(struct ptq_tok_reading *r, const struct vocab_files *f)
{
    const char *text;
    json_t *id;
    int code;
    r->added = ptq_arena_alloc(r->arena, r->st, MOST_ADDED, sizeof *r->added);
    if (!r->added)
        return PTQ_ERR_MEMORY;
    code = add_named(r, f, f->map);
    if (code == PTQ_OK)
        code = add_named(r, f, f->config);
    json_object_foreach(f->added, text, id) if (code == PTQ_OK) code =
        add_token(r, f, text, NULL, false);
    if (code == PTQ_OK && !f->config && !f->map)
        code = add_token(r, f, "<|endoftext|>", NULL, true);
    return code;
}

/* ---- merges ---------------------------------------------------------------------------------- */

/* The next line that holds a merge; false: none is left. */
static bool next_line(char **at, char **line, int64_t *bytes)
{
    while (**at) {
        char *begin = *at, *end = begin + strcspn(begin, "\n");
        *at = *end ? end + 1 : end;
        *bytes = end - begin - (end > begin && end[-1] == '\r');
        *line = begin;
        if (*bytes > 0 && strncmp(begin, "#version", 8) != 0)
            return true;
    }
    return false;
}

static int read_merges(struct ptq_tok_reading *r, const char *path)
{
    char *text, *at, *line;
    size_t size;
    int64_t n = 0, bytes;
    int32_t *merge;
    int code = ptq_read_file(path, MOST_MERGES_FILE, &text, &size, r->st);
    if (code != PTQ_OK)
        return code;
    for (at = text; next_line(&at, &line, &bytes);)
        n++;
    code = ptq_tok_merges_room(r, n, &merge);
    n = 0;
    for (at = text; code == PTQ_OK && next_line(&at, &line, &bytes); n++)
        code = ptq_tok_merge_ids(r->index, path, n + 1, line, bytes, merge + 2 * n, r->st);
    free(text);
    return code;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static int set_steps(struct ptq_tok_reading *r, const json_t *config)
{
    const char *class = ptq_json_word(config, "tokenizer_class", "GPT2Tokenizer");
    char shown[PTQ_PRINTABLE];
    if (strncmp(class, "Qwen2Tokenizer", 14) == 0)
        return ptq_pretok_named("qwen2", r->path, r->def, r->st);
    if (strncmp(class, "GPT2Tokenizer", 13) == 0) {
        int code = ptq_pretok_named("gpt-2", r->path, r->def, r->st);
        r->def->step[0].add_prefix_space = ptq_json_yes(config, "add_prefix_space", false);
        return code;
    }
    ptq_printable(class, shown);
    return ptq_status_set(
        r->st, PTQ_ERR_USAGE,
        "%s: tokenizer_class '%s' of tokenizer_config.json is not supported without "
        "a tokenizer.json; supported: GPT2Tokenizer, Qwen2Tokenizer",
        r->path, shown);
}

/* ---- the files ------------------------------------------------------------------------------- */

static char *merges_path(struct ptq_tok_reading *r)
{
    const char *slash = strrchr(r->path, '/'), *name = slash ? slash + 1 : r->path;
    const char *merges = strstr(name, "encoder.json") ? "vocab.bpe" : "merges.txt";
    return ptq_arena_printf(r->arena, r->st, "%.*s%s", (int)(name - r->path), r->path, merges);
}

static int read_all(struct ptq_tok_reading *r, struct vocab_files *f)
{
    char *merges = merges_path(r);
    int code = merges ? ptq_json_object_file(r->path, &f->vocab, r->st) : PTQ_ERR_MEMORY;
    if (code == PTQ_OK)
        code = ptq_json_beside(r, "tokenizer_config.json", &f->config);
    if (code == PTQ_OK)
        code = ptq_json_beside(r, "special_tokens_map.json", &f->map);
    if (code == PTQ_OK)
        code = ptq_json_beside(r, "added_tokens.json", &f->added);
    if (code == PTQ_OK)
        code = read_added(r, f);
    if (code == PTQ_OK)
        code = ptq_tok_fill_vocab(r, f->vocab);
    if (code == PTQ_OK)
        code = read_merges(r, merges);
    if (code == PTQ_OK)
        code = set_steps(r, f->config);
    return code == PTQ_OK ? ptq_tok_roles(r, f->config, f->map) : code;
}

int ptq_tok_read_vocab(const char *path, struct ptq_arena *a, struct ptq_tok_def *def,
                       struct ptq_status *st)
{
    struct vocab_files f = {0};
    *def = (struct ptq_tok_def){.kind = PTQ_TOK_BPE, .source = ptq_arena_strdup(a, st, path)};
    def->bos = def->eos = def->unk = def->cls = def->sep = def->pad = -1;
    struct ptq_tok_reading r = {.path = path, .arena = a, .def = def, .st = st};
    int code = def->source ? read_all(&r, &f) : PTQ_ERR_MEMORY;
    json_decref(f.vocab);
    json_decref(f.config);
    json_decref(f.map);
    json_decref(f.added);
    ptq_tok_index_free(r.index);
    return code;
}
