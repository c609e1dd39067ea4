/* vocab.txt of BERT: a token a line, its id the number of the line from 0. How the text is
 * normalized stands in tokenizer_config.json beside it; without one it is BERT's uncased rule. */
#include "core/words.h"
#include "model/tok_json.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_FILE_BYTES = 64 << 20 };

/* The line at *at without its end; moves to the next one. */
static const char *take_line(const char **at, const char *end, int64_t *bytes)
{
    const char *line = *at, *stop = memchr(line, '\n', (size_t)(end - line));
    *at = stop ? stop + 1 : end;
    if (!stop)
        stop = end;
    if (stop > line && stop[-1] == '\r')
        stop--;
    *bytes = stop - line;
    return line;
}

static int fill(const char *raw, size_t size, struct ptq_arena *a, struct ptq_tok_def *def,
                struct ptq_status *st)
{
    const char *end = raw + size;
    int64_t n = 0, bytes;
    for (const char *at = raw; at < end; n++)
        take_line(&at, end, &bytes);
    char *text = ptq_arena_alloc(a, st, (int64_t)size + 1, 1);
    int64_t *place = ptq_arena_alloc(a, st, n + 1, sizeof *place);
    uint8_t *type = ptq_arena_alloc(a, st, n, sizeof *type);
    if (!text || !place || !type)
        return st->code;
    n = 0;
    for (const char *at = raw; at < end; n++) {
        const char *line = take_line(&at, end, &bytes);
        memcpy(text + place[n], line, (size_t)bytes);
        place[n + 1] = place[n] + bytes;
    }
    def->n = n;
    def->text = text;
    def->at = place;
    def->type = type;
    return PTQ_OK;
}

/* transformers keeps the last of equal lines: ids of the others never come up there, and here the
 * index keeps the first. No known file has any. */
static int check_lines(const struct ptq_tok_reading *r)
{
    const struct ptq_tok_def *def = r->def;
    for (int64_t i = 0; i < def->n; i++) {
        int32_t other =
            ptq_tok_index_find(r->index, def->text + def->at[i], def->at[i + 1] - def->at[i]);
        if (other != i)
            return ptq_status_set(r->st, PTQ_ERR_USAGE,
                                  "%s:%lld: the same token as in line %d; is it a list of tokens?",
                                  r->path, (long long)i + 1, other + 1);
    }
    return PTQ_OK;
}

static int add_special(struct ptq_tok_reading *r, int32_t id)
{
    const struct ptq_tok_def *def = r->def;
    if (id < 0)
        return PTQ_OK;
    for (int64_t i = 0; i < def->n_added; i++)
        if (r->added[i].id == id)
            return PTQ_OK;
    int64_t bytes = def->at[id + 1] - def->at[id];
    char *text = ptq_arena_alloc(r->arena, r->st, bytes + 1, 1);
    if (!text)
        return r->st->code;
    r->added[r->def->n_added++] =
        (struct ptq_added_token){.id = id,
                                 .text = memcpy(text, def->text + def->at[id], (size_t)bytes),
                                 .bytes = bytes,
                                 .special = true};
    ((uint8_t *)(uintptr_t)def->type)[id] = PTQ_TOKEN_CONTROL;
    return PTQ_OK;
}

static int read_specials(struct ptq_tok_reading *r, const json_t *config)
{
    struct ptq_tok_def *d = r->def;
    const char *mask = ptq_json_word(config, "mask_token", "[MASK]");
    int code = ptq_tok_roles(r, NULL, NULL); /* what the configuration does not name is as usual */
    if (code == PTQ_OK && config)
        code = ptq_tok_roles(r, config, NULL);
    const int32_t ids[] = {d->unk, d->cls, d->sep, d->pad,
                           ptq_tok_id_of(r, mask, (int64_t)strlen(mask))};
    for (size_t i = 0; i < sizeof ids / sizeof *ids && code == PTQ_OK; i++)
        code = add_special(r, ids[i]);
    d->bos = d->eos = -1;
    d->added = r->added;
    if (code == PTQ_OK && (d->cls < 0 || d->sep < 0 || d->unk < 0))
        return ptq_status_set(r->st, PTQ_ERR_USAGE,
                              "%s: the list lacks [UNK], [CLS] or [SEP]; is it BERT's vocab.txt?",
                              r->path);
    d->before[0] = d->cls;
    d->after[0] = d->sep;
    d->n_before = d->n_after = 1;
    return code;
}

static void read_rules(struct ptq_tok_def *def, const json_t *config)
{
    def->norm = PTQ_NORM_BERT;
    def->clean_text = true;
    def->lower_case = ptq_json_yes(config, "do_lower_case", true);
    def->strip_accents = ptq_json_yes(config, "strip_accents", def->lower_case);
    def->split_cjk = ptq_json_yes(config, "tokenize_chinese_chars", true);
    def->max_word_chars = 100;
    def->continuing_prefix = "##";
}

static int make(struct ptq_tok_reading *r, const char *raw, size_t size)
{
    json_t *config = NULL;
    int code = fill(raw, size, r->arena, r->def, r->st);
    if (code == PTQ_OK)
        code = ptq_tok_index_new(&r->index, r->def, r->st);
    if (code == PTQ_OK)
        code = check_lines(r);
    if (code == PTQ_OK && !(r->added = ptq_arena_alloc(r->arena, r->st, 5, sizeof *r->added)))
        code = r->st->code;
    if (code == PTQ_OK)
        code = ptq_json_beside(r, "tokenizer_config.json", &config);
    if (code == PTQ_OK)
        code = read_specials(r, config);
    read_rules(r->def, config);
    json_decref(config);
    ptq_tok_index_free(r->index);
    return code;
}

int ptq_tok_read_wordlist(const char *path, struct ptq_arena *a, struct ptq_tok_def *def,
                          struct ptq_status *st)
{
    char *raw;
    size_t size;
    *def = (struct ptq_tok_def){.kind = PTQ_TOK_WORDPIECE};
    def->bos = def->eos = def->unk = def->cls = def->sep = def->pad = -1;
    int code = ptq_read_file(path, MOST_FILE_BYTES, &raw, &size, st);
    if (code != PTQ_OK)
        return code;
    struct ptq_tok_reading r = {.path = path, .arena = a, .def = def, .st = st};
    def->source = ptq_arena_strdup(a, st, path);
    code = def->source ? make(&r, raw, size) : st->code;
    free(raw);
    return code;
}
