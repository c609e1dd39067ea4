#include "model/tokenizer.h"
#include "core/size.h"
#include "model/tok_added.h"
#include "model/tok_open.h"
#include "model/tok_unicode.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct ptq_tokenizer {
    struct ptq_arena arena;
    struct ptq_tok_def def;
    /* For text whose normalizer ran already: that of SentencePiece is part of its model. */
    struct ptq_tok_def normalized_def;
    const struct ptq_tok_model *model;
    void *own;
    struct ptq_added *raw,
        *normalized;       /* added tokens looked for before and behind the normalizer */
    bool match_normalized; /* there are tokens of the second kind */
    int32_t *added_of;     /* [n] index of an added token, or -1 */
    struct ptq_tokenizer_info info;
};

/* ---- opening --------------------------------------------------------------------------------- */

static const struct ptq_tok_model *model_of(enum ptq_tok_kind kind)
{
    static const struct ptq_tok_model *const models[] = {&ptq_tok_bytes, &ptq_tok_bpe, &ptq_tok_spm,
                                                         &ptq_tok_llama2c, &ptq_tok_wordpiece};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (models[i]->kind == kind)
            return models[i];
    assert(!"a kind without a model");
    return NULL;
}

static int fill_info(struct ptq_tokenizer *t, const char *source, struct ptq_status *st)
{
    const struct ptq_tok_def *d = &t->def;
    struct ptq_tokenizer_info *i = &t->info;
    *i = (struct ptq_tokenizer_info){.kind = ptq_tok_kind_name(d->kind),
                                     .source = ptq_arena_strdup(&t->arena, st, source),
                                     .vocab_size = d->n,
                                     .bos = d->bos,
                                     .eos = d->eos,
                                     .unk = d->unk,
                                     .cls = d->cls,
                                     .sep = d->sep,
                                     .pad = d->pad,
                                     .n_before = d->n_before,
                                     .n_after = d->n_after};
    memcpy(i->before, d->before, sizeof i->before);
    memcpy(i->after, d->after, sizeof i->after);
    return i->source ? ptq_tok_key(d, i->key, st) : PTQ_ERR_MEMORY;
}

/* A normalizer of tokenizer.json for one text: NFC, or SentencePiece's (Prepend, Replace). */
static int normalize(const struct ptq_tok_def *def, const char *text, int64_t bytes,
                     struct ptq_text_buffer *out, struct ptq_status *st)
{
    return def->norm == PTQ_NORM_NFC ? ptq_unicode_nfc(text, bytes, out, st)
                                     : ptq_spm_normalize(def, text, bytes, true, out, st);
}

/* Metaspace replaces spaces behind the search for added tokens, the normalizers before it. */
static bool has_normalizer(const struct ptq_tok_def *def)
{
    return def->norm == PTQ_NORM_NFC ||
           (def->norm == PTQ_NORM_SPM_SPACES &&
            (def->prefix == PTQ_PREFIX_EACH || def->prefix == PTQ_PREFIX_NONE));
}

/* Added tokens that are looked for in normalized text are normalized themselves. */
static int compile_normalized(struct ptq_tokenizer *t, struct ptq_status *st)
{
    const struct ptq_tok_def *d = &t->def;
    struct ptq_added_text *pattern = ptq_arena_alloc(&t->arena, st, d->n_added, sizeof *pattern);
    if (!pattern)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < d->n_added; i++) {
        const struct ptq_added_token *a = &d->added[i];
        struct ptq_text_buffer out = {0};
        pattern[i] = (struct ptq_added_text){a->text, a->bytes};
        if (!a->normalized)
            continue;
        t->match_normalized = true;
        if (!has_normalizer(d))
            continue;
        int code = normalize(d, a->text, a->bytes, &out, st);
        char *copy = code == PTQ_OK ? ptq_arena_alloc(&t->arena, st, out.n, 1) : NULL;
        if (copy && out.n)
            memcpy(copy, out.at, (size_t)out.n);
        pattern[i] = (struct ptq_added_text){copy, out.n};
        free(out.at);
        if (!copy)
            return code == PTQ_OK ? PTQ_ERR_MEMORY : code;
    }
    return ptq_added_new(&t->normalized, d, true, pattern, &t->arena, st);
}

static int compile_added(struct ptq_tokenizer *t, struct ptq_status *st)
{
    const struct ptq_tok_def *d = &t->def;
    t->added_of = ptq_arena_alloc(&t->arena, st, d->n, sizeof *t->added_of);
    if (!t->added_of)
        return PTQ_ERR_MEMORY;
    memset(t->added_of, 0xFF, (size_t)d->n * sizeof *t->added_of);
    for (int64_t i = d->n_added - 1; i >= 0; i--)
        t->added_of[d->added[i].id] = (int32_t)i;
    int code = ptq_added_new(&t->raw, d, false, NULL, &t->arena, st);
    return code == PTQ_OK ? compile_normalized(t, st) : code;
}

int ptq_tokenizer_open(struct ptq_tokenizer **out, const char *source, struct ptq_status *st)
{
    struct ptq_tokenizer *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t)
        return ptq_status_nomem(st, "a tokenizer", sizeof *t);
    ptq_arena_init(&t->arena, 0);
    int code = ptq_tok_read(source, &t->arena, &t->def, st);
    if (code == PTQ_OK) {
        t->model = model_of(t->def.kind);
        code = t->model->compile(&t->def, &t->own, st);
    }
    if (code == PTQ_OK)
        code = compile_added(t, st);
    if (code == PTQ_OK)
        code = fill_info(t, source, st);
    t->normalized_def = t->def;
    t->normalized_def.prefix = PTQ_PREFIX_NONE;
    if (code == PTQ_OK)
        *out = t;
    else
        ptq_tokenizer_close(t);
    return code;
}

void ptq_tokenizer_close(struct ptq_tokenizer *t)
{
    if (!t)
        return;
    if (t->model)
        t->model->release(t->own);
    ptq_arena_clear(&t->arena);
    free(t);
}

const struct ptq_tokenizer_info *ptq_tokenizer_info(const struct ptq_tokenizer *t)
{
    return &t->info;
}

int ptq_tokenizer_write(const struct ptq_tokenizer *t, struct ptq_h5 *file, struct ptq_status *st)
{
    return ptq_tok_write_h5(&t->def, file, st);
}

/* ---- lists of ids ---------------------------------------------------------------------------- */

int ptq_ids_room(struct ptq_ids *ids, int64_t n, struct ptq_status *st)
{
    int64_t bytes, room = ids->room + ids->room / 2;
    if (n <= ids->room - ids->n)
        return PTQ_OK;
    if (n > room - ids->n && !ptq_size_add(ids->n, n, &room))
        return ptq_status_nomem(st, "token ids", SIZE_MAX);
    if (room < 256)
        room = 256;
    void *at = ptq_size_mul(room, (int64_t)sizeof *ids->at, &bytes)
                   ? realloc(ids->at, (size_t)bytes)
                   : NULL;
    if (!at)
        return ptq_status_nomem(st, "token ids", (size_t)room * sizeof *ids->at);
    ids->at = at;
    ids->room = room;
    return PTQ_OK;
}

int ptq_ids_add(struct ptq_ids *ids, int32_t id, struct ptq_status *st)
{
    int code = ptq_ids_room(ids, 1, st);
    if (code == PTQ_OK)
        ids->at[ids->n++] = id;
    return code;
}

/* ---- damaged UTF-8 --------------------------------------------------------------------------- */

/* Bytes at *text that one U+FFFD replaces, or that are a character (*good): the longest start of a
 * well-formed sequence, at least one byte (Unicode, chapter 3.9; Python's decoder does the same).
 */
static int64_t sequence(const unsigned char *text, int64_t bytes, bool *good)
{
    unsigned char lead = text[0], low = 0x80, high = 0xBF;
    int64_t n = lead < 0x80   ? 1
                : lead < 0xC2 ? 0
                : lead < 0xE0 ? 2
                : lead < 0xF0 ? 3
                : lead < 0xF5 ? 4
                              : 0;
    if (lead == 0xE0)
        low = 0xA0; /* no overlong forms */
    else if (lead == 0xED)
        high = 0x9F; /* no surrogates */
    else if (lead == 0xF0)
        low = 0x90;
    else if (lead == 0xF4)
        high = 0x8F; /* nothing beyond U+10FFFF */
    *good = false;
    if (n == 0)
        return 1;
    for (int64_t i = 1; i < n; i++) {
        if (i >= bytes || text[i] < low || text[i] > high)
            return i;
        low = 0x80;
        high = 0xBF;
    }
    *good = true;
    return n;
}

static int repair(const char *text, int64_t bytes, struct ptq_text_buffer *out,
                  struct ptq_status *st)
{
    int code = PTQ_OK;
    int64_t whole = 0; /* beginning of what is copied as it is */
    for (int64_t i = 0; i < bytes && code == PTQ_OK;) {
        bool good;
        int64_t n = sequence((const unsigned char *)text + i, bytes - i, &good);
        if (!good) {
            code = ptq_text_buffer_add(out, text + whole, i - whole, st);
            if (code == PTQ_OK)
                code = ptq_text_buffer_add(out, "\xEF\xBF\xBD", 3, st);
            whole = i + n;
        }
        i += n;
    }
    return code == PTQ_OK ? ptq_text_buffer_add(out, text + whole, bytes - whole, st) : code;
}

/* ---- encoding -------------------------------------------------------------------------------- */

struct encoding {
    const struct ptq_tokenizer *t;
    bool specials_in_text; /* texts of special tokens are looked for */
    struct ptq_ids *ids;
    struct ptq_status *st;
};
/* The text between added tokens. first: nothing lies before it. */
typedef int between(struct encoding *, const char *text, int64_t bytes, bool first);

/* White space beside a token belongs to it when the token says so. */
static int64_t before_spaces(const char *text, int64_t from, int64_t at)
{
    while (at > from) {
        int64_t i = at - 1;
        while (i > from && ((unsigned char)text[i] & 0xC0) == 0x80)
            i--;
        const char *c = text + i;
        if (!ptq_unicode_space(ptq_utf8_next(&c)))
            break;
        at = i;
    }
    return at;
}

static int64_t behind_spaces(const char *text, int64_t bytes, int64_t at)
{
    const char *c = text + at;
    while (at < bytes && ptq_unicode_space(ptq_utf8_next(&c)))
        at = c - text;
    return at;
}

static int split_added(struct encoding *e, const struct ptq_added *added, const char *text,
                       int64_t bytes, bool first, between *rest)
{
    struct ptq_added_match m;
    int64_t done = 0;
    int code = PTQ_OK;
    for (int64_t at = 0; code == PTQ_OK && ptq_added_next(added, text, bytes, at, &m); at = m.end) {
        if (m.token->special && !e->specials_in_text)
            continue;
        int64_t begin = m.token->lstrip ? before_spaces(text, done, m.begin) : m.begin;
        if (done < begin)
            code = rest(e, text + done, begin - done, first && done == 0);
        if (code == PTQ_OK)
            code = ptq_ids_add(e->ids, m.token->id, e->st);
        done = m.token->rstrip ? behind_spaces(text, bytes, m.end) : m.end;
    }
    if (code == PTQ_OK && done < bytes)
        code = rest(e, text + done, bytes - done, first && done == 0);
    return code;
}

static int encode_raw(struct encoding *e, const char *text, int64_t bytes, bool first)
{
    return e->t->model->encode(&e->t->def, e->t->own, text, bytes, first, e->ids, e->st);
}

static int encode_normalized(struct encoding *e, const char *text, int64_t bytes, bool first)
{
    return e->t->model->encode(&e->t->normalized_def, e->t->own, text, bytes, first, e->ids, e->st);
}

/* Characters below U+0300 compose with nothing before them: such text is NFC as it stands. */
static bool is_plain(const char *text, int64_t bytes)
{
    unsigned char most = 0;
    for (int64_t i = 0; i < bytes; i++)
        most = (unsigned char)text[i] > most ? (unsigned char)text[i] : most;
    return most < 0xCC;
}

/* Between added tokens of the raw text: normalized, then the others are looked for. SentencePiece
 * normalizes in its model unless tokens must be found behind it. */
static int encode_between(struct encoding *e, const char *text, int64_t bytes, bool first)
{
    const struct ptq_tokenizer *t = e->t;
    bool nfc = t->def.norm == PTQ_NORM_NFC;
    if (!has_normalizer(&t->def) || (nfc && is_plain(text, bytes)))
        return split_added(e, t->normalized, text, bytes, first, encode_raw);
    if (!nfc && !t->match_normalized)
        return encode_raw(e, text, bytes, first);
    struct ptq_text_buffer out = {0};
    int code = normalize(&t->def, text, bytes, &out, e->st);
    if (code == PTQ_OK)
        code = split_added(e, t->normalized, out.at, out.n, first,
                           nfc ? encode_raw : encode_normalized);
    free(out.at);
    return code;
}

static int add_all(struct encoding *e, const int32_t *id, int n)
{
    int code = PTQ_OK;
    for (int i = 0; i < n && code == PTQ_OK; i++)
        code = ptq_ids_add(e->ids, id[i], e->st);
    return code;
}

static int encode_text(struct encoding *e, const struct ptq_encode *ask)
{
    const struct ptq_tokenizer *t = e->t;
    if (t->def.kind == PTQ_TOK_BYTES)
        return encode_raw(e, ask->text, ask->bytes, true);
    if (ptq_utf8_valid(ask->text, ask->bytes))
        return split_added(e, t->raw, ask->text, ask->bytes, true, encode_between);
    struct ptq_text_buffer repaired = {0};
    int code = repair(ask->text, ask->bytes, &repaired, e->st);
    if (code == PTQ_OK)
        code = split_added(e, t->raw, repaired.at, repaired.n, true, encode_between);
    free(repaired.at);
    return code;
}

int ptq_tokenizer_encode(const struct ptq_tokenizer *t, const struct ptq_encode *ask,
                         struct ptq_arena *a, int32_t **out, int64_t *n, struct ptq_status *st)
{
    struct ptq_ids ids = {0};
    struct encoding e = {t, ask->added, &ids, st};
    int code = ask->specials ? add_all(&e, t->info.before, t->info.n_before) : PTQ_OK;
    if (code == PTQ_OK)
        code = encode_text(&e, ask);
    if (code == PTQ_OK && ask->specials)
        code = add_all(&e, t->info.after, t->info.n_after);
    if (t->model->done)
        t->model->done(ids.call);
    if (code == PTQ_OK) {
        *n = ids.n;
        *out = ptq_arena_alloc(a, st, ids.n, sizeof **out);
        code = *out ? PTQ_OK : PTQ_ERR_MEMORY;
    }
    if (code == PTQ_OK && ids.n)
        memcpy(*out, ids.at, (size_t)ids.n * sizeof *ids.at);
    free(ids.at);
    return code;
}

/* ---- decoding -------------------------------------------------------------------------------- */

/* The most bytes that an id decodes to; kept in step with ptq_tok_model.decode. */
static int64_t decoded_room(const struct ptq_tokenizer *t, int32_t id)
{
    if (t->added_of[id] >= 0)
        return t->def.added[t->added_of[id]].bytes;
    return t->def.at ? 4 * (t->def.at[id + 1] - t->def.at[id]) + 8 : 8;
}

static int decode_one(const struct ptq_tokenizer *t, int32_t id, bool first, char *out, int64_t *n)
{
    const struct ptq_tok_def *d = &t->def;
    if (t->added_of[id] >= 0) {
        const struct ptq_added_token *a = &d->added[t->added_of[id]];
        *n = a->bytes;
        memcpy(out, a->text, (size_t)a->bytes);
        return PTQ_OK;
    }
    if (t->model->decode)
        return t->model->decode(d, id, first, out, n);
    *n = d->at[id + 1] - d->at[id];
    memcpy(out, d->text + d->at[id], (size_t)*n);
    return PTQ_OK;
}

int ptq_tokenizer_decode(const struct ptq_tokenizer *t, const int32_t *ids, int64_t n,
                         struct ptq_arena *a, char **text, int64_t *bytes, struct ptq_status *st)
{
    int64_t room = 1;
    bool first = true; /* no token but added ones before it */
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->def.n)
            return ptq_status_set(st, PTQ_ERR_USAGE,
                                  "%s: id %d at %lld is no token: the vocabulary has %lld",
                                  t->info.source, ids[i], (long long)i, (long long)t->def.n);
        if (!ptq_size_add(room, decoded_room(t, ids[i]), &room))
            return ptq_status_nomem(st, "a text", SIZE_MAX);
    }
    *bytes = 0;
    *text = ptq_arena_alloc(a, st, room, 1);
    for (int64_t i = 0; i < n && *text; i++) {
        int64_t added = 0;
        int code = decode_one(t, ids[i], first, *text + *bytes, &added);
        if (code != PTQ_OK)
            return code;
        *bytes += added;
        first = first && t->added_of[ids[i]] >= 0;
    }
    return *text ? PTQ_OK : PTQ_ERR_MEMORY;
}
