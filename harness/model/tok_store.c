/* A definition as /tokenizer of a container (datasets/SCHEMA.md), and its key. */
#include "core/hash.h"
#include "core/size.h"
#include "core/words.h"
#include "model/tok.h"
#include "model/tok_unicode.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kinds[] = {"bytes", "bpe", "spm", "llama2c", "wordpiece", NULL};
static const char *const norms[] = {"none", "nfc", "spm_spaces", "bert", NULL};
static const char *const splits[] = {"isolated", "removed", "matches", NULL};
static const char *const prefixes[] = {"none", "each", "missing_each", "missing_first", NULL};
static const char root[] = "/tokenizer";

const char *ptq_tok_kind_name(enum ptq_tok_kind kind)
{
    return kinds[kind];
}

/* The plain fields, by name: what is stored, read and hashed is one list. */
enum field_type { FLAG, ID, COUNT };
#define FIELD(name) #name, offsetof(struct ptq_tok_def, name)
static const struct field {
    const char *name;
    size_t at;
    enum field_type type;
} fields[] = {
    {FIELD(ignore_merges), FLAG},
    {FIELD(byte_fallback), FLAG},
    {FIELD(dummy_prefix), FLAG},
    {FIELD(fuse_unk), FLAG},
    {FIELD(split_spaces), FLAG},
    {FIELD(squeeze_spaces), FLAG},
    {FIELD(lower_case), FLAG},
    {FIELD(strip_accents), FLAG},
    {FIELD(split_cjk), FLAG},
    {FIELD(clean_text), FLAG},
    {FIELD(max_word_chars), COUNT},
    {FIELD(bos), ID},
    {FIELD(eos), ID},
    {FIELD(unk), ID},
    {FIELD(cls), ID},
    {FIELD(sep), ID},
    {FIELD(pad), ID},
};
enum { N_FIELDS = sizeof fields / sizeof *fields };

static int64_t field_get(const struct ptq_tok_def *d, const struct field *f)
{
    const char *at = (const char *)d + f->at;
    return f->type == FLAG ? *(const bool *)at
           : f->type == ID ? *(const int32_t *)at
                           : *(const int64_t *)at;
}

/* False: the value is none that the field can have. */
static bool field_set(struct ptq_tok_def *d, const struct field *f, int64_t v)
{
    char *at = (char *)d + f->at;
    if (f->type == FLAG && v >= 0 && v <= 1)
        *(bool *)at = v;
    else if (f->type == ID && v >= -1 && v < d->n)
        *(int32_t *)at = (int32_t)v;
    else if (f->type == COUNT && v >= 0)
        *(int64_t *)at = v;
    else
        return false;
    return true;
}

/* ---- key ------------------------------------------------------------------------------------- */

static void hash_added(struct ptq_hasher *h, const struct ptq_tok_def *d)
{
    ptq_hasher_add_i64(h, d->n_added);
    for (int64_t i = 0; i < d->n_added; i++) {
        const struct ptq_added_token *t = &d->added[i];
        const int flags =
            t->special | t->lstrip << 1 | t->rstrip << 2 | t->single_word << 3 | t->normalized << 4;
        ptq_hasher_add_i64(h, t->id);
        ptq_hasher_add_i64(h, flags);
        ptq_hasher_add(h, t->text, (size_t)t->bytes);
    }
}

int ptq_tok_key(const struct ptq_tok_def *d, char out[33], struct ptq_status *st)
{
    struct ptq_hasher *h = ptq_hasher_new();
    if (!h)
        return ptq_status_nomem(st, "a hash", 1024);
    ptq_hasher_add_text(h, kinds[d->kind]);
    ptq_hasher_add_i64(h, d->n);
    if (d->at) {
        ptq_hasher_add(h, d->at, (size_t)(d->n + 1) * sizeof *d->at);
        ptq_hasher_add(h, d->text, (size_t)d->at[d->n]);
    }
    ptq_hasher_add(h, d->score, d->score ? (size_t)d->n * sizeof *d->score : 0);
    ptq_hasher_add(h, d->type, d->type ? (size_t)d->n : 0);
    ptq_hasher_add(h, d->merge, (size_t)d->n_merges * 2 * sizeof *d->merge);
    hash_added(h, d);
    for (int i = 0; i < d->n_steps; i++) {
        ptq_hasher_add_text(h, d->step[i].pattern);
        ptq_hasher_add_i64(h, d->step[i].kind);
        ptq_hasher_add_i64(h, d->step[i].add_prefix_space);
    }
    ptq_hasher_add_i64(h, d->norm);
    ptq_hasher_add_i64(h, d->prefix);
    ptq_hasher_add_text(h, d->continuing_prefix);
    for (int i = 0; i < N_FIELDS; i++)
        ptq_hasher_add_i64(h, field_get(d, &fields[i]));
    ptq_hasher_add(h, d->before, (size_t)d->n_before * sizeof *d->before);
    ptq_hasher_add(h, d->after, (size_t)d->n_after * sizeof *d->after);
    ptq_hasher_done(h, out);
    return PTQ_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

struct writing {
    struct ptq_h5 *file;
    struct ptq_status *st;
    int code; /* the first failure; later calls do nothing */
};

static void put(struct writing *w, const char *name, enum ptq_h5_type type, int64_t n, int64_t m,
                const void *data)
{
    const int64_t dim[2] = {n, m};
    char path[64];
    snprintf(path, sizeof path, "%s/%s", root, name);
    if (w->code == PTQ_OK && n > 0)
        w->code = ptq_h5_write(w->file, path, type, m > 1 ? 2 : 1, dim, data, w->st);
}

static void put_text(struct writing *w, const char *name, const char *value)
{
    if (w->code == PTQ_OK && value)
        w->code = ptq_h5_set_text(w->file, root, name, value, w->st);
}

static void put_i64(struct writing *w, const char *name, int64_t value)
{
    if (w->code == PTQ_OK)
        w->code = ptq_h5_set_i64(w->file, root, name, value, w->st);
}

static void put_steps(struct writing *w, const struct ptq_tok_def *d)
{
    char name[64];
    put_i64(w, "n_steps", d->n_steps);
    for (int i = 0; i < d->n_steps; i++) {
        snprintf(name, sizeof name, "step%d.pattern", i);
        put_text(w, name, d->step[i].pattern);
        snprintf(name, sizeof name, "step%d.kind", i);
        put_text(w, name, splits[d->step[i].kind]);
        snprintf(name, sizeof name, "step%d.add_prefix_space", i);
        put_i64(w, name, d->step[i].add_prefix_space);
    }
}

/* Texts one after another in a byte array, borders beside them, as the vocabulary's. */
static void put_added(struct writing *w, const struct ptq_tok_def *d)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < d->n_added; i++)
        bytes += d->added[i].bytes;
    int32_t *id = calloc((size_t)d->n_added + 1, sizeof *id);
    int64_t *at = calloc((size_t)d->n_added + 1, sizeof *at);
    uint8_t *flags = calloc((size_t)d->n_added + 1, 1);
    char *text = malloc((size_t)bytes + 1);
    if (!id || !at || !flags || !text)
        w->code = ptq_status_nomem(w->st, "added tokens", (size_t)bytes);
    for (int64_t i = 0; i < d->n_added && w->code == PTQ_OK; i++) {
        const struct ptq_added_token *t = &d->added[i];
        id[i] = t->id;
        flags[i] = (uint8_t)(t->special | t->lstrip << 1 | t->rstrip << 2 | t->single_word << 3 |
                             t->normalized << 4);
        memcpy(text + at[i], t->text, (size_t)t->bytes);
        at[i + 1] = at[i] + t->bytes;
    }
    put(w, "added_id", PTQ_H5_I32, d->n_added, 1, id);
    put(w, "added_flags", PTQ_H5_U8, d->n_added, 1, flags);
    put(w, "added_at", PTQ_H5_I64, d->n_added ? d->n_added + 1 : 0, 1, at);
    put(w, "added_text", PTQ_H5_U8, bytes, 1, text);
    free(id);
    free(at);
    free(flags);
    free(text);
}

int ptq_tok_write_h5(const struct ptq_tok_def *d, struct ptq_h5 *file, struct ptq_status *st)
{
    struct writing w = {file, st, PTQ_OK};
    put_text(&w, "kind", kinds[d->kind]);
    put_i64(&w, "vocab_size", d->n);
    if (d->kind == PTQ_TOK_BYTES)
        return w.code;
    put(&w, "text", PTQ_H5_U8, d->at[d->n], 1, d->text);
    put(&w, "at", PTQ_H5_I64, d->n + 1, 1, d->at);
    put(&w, "score", PTQ_H5_F32, d->score ? d->n : 0, 1, d->score);
    put(&w, "type", PTQ_H5_U8, d->type ? d->n : 0, 1, d->type);
    put(&w, "merge", PTQ_H5_I32, d->n_merges, 2, d->merge);
    put(&w, "before", PTQ_H5_I32, d->n_before, 1, d->before);
    put(&w, "after", PTQ_H5_I32, d->n_after, 1, d->after);
    put_added(&w, d);
    put_steps(&w, d);
    put_text(&w, "normalizer", norms[d->norm]);
    put_text(&w, "prefix", prefixes[d->prefix]);
    put_text(&w, "continuing_prefix", d->continuing_prefix);
    for (int i = 0; i < N_FIELDS; i++)
        put_i64(&w, fields[i].name, field_get(d, &fields[i]));
    return w.code;
}

/* ---- reading --------------------------------------------------------------------------------- */

struct reading {
    struct ptq_h5 *file;
    struct ptq_arena *arena;
    struct ptq_tok_def *def;
    struct ptq_status *st;
};

static int damaged(const struct reading *r, const char *name, const char *what)
{
    return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: /tokenizer: %s %s (datasets/SCHEMA.md)",
                          ptq_h5_path(r->file), name, what);
}

static int get_i64(const struct reading *r, const char *name, int64_t absent, int64_t *out)
{
    *out = absent;
    int code = ptq_h5_get_i64(r->file, root, name, out, r->st);
    return code == PTQ_SKIP ? PTQ_OK : code;
}

static int get_text(const struct reading *r, const char *name, const char **out)
{
    char *text = NULL;
    int code = ptq_h5_get_text(r->file, root, name, r->arena, &text, r->st);
    *out = text;
    return code == PTQ_SKIP ? PTQ_OK : code;
}

/* Absent: *out stays as it is. */
static int get_word(const struct reading *r, const char *name, const char *const *words, int *out)
{
    const char *text;
    int code = get_text(r, name, &text);
    if (code != PTQ_OK || !text)
        return code;
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], text) == 0) {
            *out = i;
            return PTQ_OK;
        }
    char place[320];
    snprintf(place, sizeof place, "%.250s: /tokenizer", ptq_h5_path(r->file));
    return ptq_unknown_word_at(place, name, text, words, r->st);
}

static bool present(const struct reading *r, const char *name, char path[64])
{
    snprintf(path, 64, "%s/%s", root, name);
    return ptq_h5_exists(r->file, path);
}

static int get_u8(const struct reading *r, const char *name, uint8_t **out, int64_t *n)
{
    struct ptq_h5_info info;
    char path[64];
    *n = 0;
    *out = NULL;
    if (!present(r, name, path))
        return PTQ_OK;
    int code = ptq_h5_read_u8(r->file, path, r->arena, out, &info, r->st);
    *n = info.n;
    return code;
}

/* Integers from least to most. */
static int get_integers(const struct reading *r, const char *name, int64_t least, int64_t most,
                        int64_t **out, int64_t *n)
{
    struct ptq_h5_info info;
    char path[64];
    *n = 0;
    *out = NULL;
    if (!present(r, name, path))
        return PTQ_OK;
    int code = ptq_h5_read_i64(r->file, path, r->arena, out, &info, r->st);
    *n = code == PTQ_OK ? info.n : 0;
    for (int64_t i = 0; i < *n; i++)
        if ((*out)[i] < least || (*out)[i] > most)
            return damaged(r, name, "holds a number out of range");
    return code;
}

/* Ids of the vocabulary as int32. */
static int get_ids(const struct reading *r, const char *name, int32_t **out, int64_t *n)
{
    int64_t *wide;
    int code = get_integers(r, name, 0, r->def->n - 1, &wide, n);
    *out = code == PTQ_OK ? ptq_arena_alloc(r->arena, r->st, *n, sizeof **out) : NULL;
    for (int64_t i = 0; *out && i < *n; i++)
        (*out)[i] = (int32_t)wide[i];
    return code == PTQ_OK && !*out ? PTQ_ERR_MEMORY : code;
}

/* Borders of texts: n + 1 numbers that rise from 0 to the bytes there are. */
static int get_borders(const struct reading *r, const char *name, int64_t n, int64_t bytes,
                       int64_t **out)
{
    int64_t got;
    int code = get_integers(r, name, 0, bytes, out, &got);
    if (code != PTQ_OK)
        return code;
    if (n == 0 && got == 0)
        return PTQ_OK;
    if (got != n + 1 || (*out)[0] != 0 || (*out)[n] != bytes)
        return damaged(r, name, "does not fit the texts");
    for (int64_t i = 0; i < n; i++)
        if ((*out)[i] > (*out)[i + 1])
            return damaged(r, name, "does not rise");
    return PTQ_OK;
}

static int read_texts(const struct reading *r)
{
    struct ptq_tok_def *d = r->def;
    uint8_t *text, *type;
    int64_t bytes, n_types, *at;
    char path[64];
    int code = get_u8(r, "text", &text, &bytes);
    if (code == PTQ_OK)
        code = get_borders(r, "at", d->n, bytes, &at);
    if (code == PTQ_OK)
        code = get_u8(r, "type", &type, &n_types);
    if (code != PTQ_OK)
        return code;
    d->text = text ? (const char *)text : "";
    d->at = at;
    d->type = type;
    if (n_types != 0 && n_types != d->n)
        return damaged(r, "type", "has another number of tokens");
    for (int64_t i = 0; i < n_types; i++)
        if (type[i] > PTQ_TOKEN_UNUSED)
            return damaged(r, "type", "holds a number out of range");
    if (!present(r, "score", path))
        return PTQ_OK;
    struct ptq_h5_info info;
    float *score;
    code = ptq_h5_read_f32(r->file, path, r->arena, &score, &info, r->st);
    if (code == PTQ_OK && info.n != d->n)
        return damaged(r, "score", "has another number of tokens");
    d->score = score;
    return code;
}

static int read_added(const struct reading *r)
{
    struct ptq_tok_def *d = r->def;
    int32_t *id;
    uint8_t *text, *flags;
    int64_t bytes, n_flags, *at;
    int code = get_ids(r, "added_id", &id, &d->n_added);
    if (code == PTQ_OK)
        code = get_u8(r, "added_flags", &flags, &n_flags);
    if (code == PTQ_OK)
        code = get_u8(r, "added_text", &text, &bytes);
    if (code == PTQ_OK)
        code = get_borders(r, "added_at", d->n_added, bytes, &at);
    if (code != PTQ_OK)
        return code;
    if (n_flags != d->n_added)
        return damaged(r, "added_flags", "has another number of tokens");
    struct ptq_added_token *t = ptq_arena_alloc(r->arena, r->st, d->n_added, sizeof *t);
    if (!t)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < d->n_added; i++) {
        if (flags[i] & 8)
            return damaged(r, "added_flags", "asks for single words, which is not supported");
        t[i] = (struct ptq_added_token){.id = id[i],
                                        .text = text ? (const char *)text + at[i] : "",
                                        .bytes = at[i + 1] - at[i],
                                        .special = flags[i] & 1,
                                        .lstrip = flags[i] & 2,
                                        .rstrip = flags[i] & 4,
                                        .normalized = flags[i] & 16};
        if (!ptq_utf8_valid(t[i].text, t[i].bytes))
            return damaged(r, "added_text", "is no UTF-8");
    }
    d->added = t;
    return PTQ_OK;
}

static int read_edges(const struct reading *r)
{
    struct ptq_tok_def *d = r->def;
    for (int after = 0; after < 2; after++) {
        int32_t *id;
        int64_t n;
        int code = get_ids(r, after ? "after" : "before", &id, &n);
        if (code != PTQ_OK)
            return code;
        if (n > 4)
            return damaged(r, after ? "after" : "before", "holds more than 4 tokens");
        *(after ? &d->n_after : &d->n_before) = (int)n;
        if (n)
            memcpy(after ? d->after : d->before, id, (size_t)n * sizeof *id);
    }
    return PTQ_OK;
}

static int read_steps(const struct reading *r)
{
    struct ptq_tok_def *d = r->def;
    int64_t n, prefix;
    char name[64];
    int code = get_i64(r, "n_steps", 0, &n);
    if (code == PTQ_OK && (n < 0 || n > PTQ_MAX_STEPS))
        return damaged(r, "n_steps", "is out of range");
    for (int i = 0; i < n && code == PTQ_OK; i++) {
        struct ptq_pretok *s = &d->step[i];
        int kind = 0;
        snprintf(name, sizeof name, "step%d.pattern", i);
        code = get_text(r, name, &s->pattern);
        snprintf(name, sizeof name, "step%d.kind", i);
        if (code == PTQ_OK)
            code = get_word(r, name, splits, &kind);
        s->kind = (enum ptq_split_kind)kind;
        snprintf(name, sizeof name, "step%d.add_prefix_space", i);
        if (code == PTQ_OK)
            code = get_i64(r, name, 0, &prefix);
        s->add_prefix_space = code == PTQ_OK && prefix;
    }
    d->n_steps = (int)n;
    return code;
}

static int read_fields(const struct reading *r)
{
    struct ptq_tok_def *d = r->def;
    int norm = 0, prefix = 0;
    int code = get_word(r, "normalizer", norms, &norm);
    if (code == PTQ_OK)
        code = get_word(r, "prefix", prefixes, &prefix);
    if (code == PTQ_OK)
        code = get_text(r, "continuing_prefix", &d->continuing_prefix);
    for (int i = 0; i < N_FIELDS && code == PTQ_OK; i++) {
        int64_t v;
        code = get_i64(r, fields[i].name, fields[i].type == ID ? -1 : 0, &v);
        if (code == PTQ_OK && !field_set(d, &fields[i], v))
            return damaged(r, fields[i].name, "is out of range");
    }
    d->norm = (enum ptq_norm_step)norm;
    d->prefix = (enum ptq_spm_prefix)prefix;
    return code;
}

static int read_merges(const struct reading *r)
{
    int32_t *merge;
    int64_t n;
    int code = get_ids(r, "merge", &merge, &n);
    if (code == PTQ_OK && n % 2)
        return damaged(r, "merge", "is no list of pairs");
    r->def->merge = merge;
    r->def->n_merges = n / 2;
    return code;
}

int ptq_tok_read_h5(struct ptq_h5 *file, struct ptq_arena *a, struct ptq_tok_def *def,
                    struct ptq_status *st)
{
    const struct reading r = {file, a, def, st};
    int kind = -1;
    *def = (struct ptq_tok_def){.n = 256};
    def->bos = def->eos = def->unk = def->cls = def->sep = def->pad = -1;
    if (!ptq_h5_exists(file, root))
        return PTQ_SKIP;
    def->source = ptq_arena_strdup(a, st, ptq_h5_path(file));
    int code = def->source ? get_word(&r, "kind", kinds, &kind) : PTQ_ERR_MEMORY;
    if (code == PTQ_OK && kind < 0)
        return damaged(&r, "kind", "is absent");
    def->kind = (enum ptq_tok_kind)kind;
    if (code != PTQ_OK || def->kind == PTQ_TOK_BYTES)
        return code;
    code = get_i64(&r, "vocab_size", 0, &def->n);
    if (code == PTQ_OK && (def->n < 1 || def->n >= INT32_MAX))
        return damaged(&r, "vocab_size", "is out of range");
    int (*const parts[])(const struct reading *) = {read_texts, read_merges, read_added,
                                                    read_edges, read_steps,  read_fields};
    for (size_t i = 0; i < sizeof parts / sizeof *parts && code == PTQ_OK; i++)
        code = parts[i](&r);
    return code;
}
