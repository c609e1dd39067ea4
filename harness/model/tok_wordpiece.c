/* WordPiece (BERT): the text is normalized, cut at white space and around punctuation, and a word
 * is the longest token it begins with, then the longest that continues it, and so on; a word that
 * cannot be written so is the unknown token as a whole. */
#include "model/tok.h"
#include "model/tok_unicode.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_WORD_CHARS = 512, MOST_PREFIX = 16, MOST_WORD_BYTES = 4 * MOST_WORD_CHARS };

/* What a byte below 0x80 is in the text. */
enum ascii_class { PLAIN, SPACE, PUNCTUATION, OTHER };

struct wordpiece {
    struct ptq_tok_index *index;
    int64_t prefix_bytes, longest; /* bytes of the longest token */
    uint8_t ascii[128];            /* enum ascii_class */
};

/* ---- compiling ---- */

static void wordpiece_release(void *own)
{
    struct wordpiece *w = own;
    if (!w)
        return;
    ptq_tok_index_free(w->index);
    free(w);
}

static int wordpiece_compile(const struct ptq_tok_def *def, void **own, struct ptq_status *st)
{
    struct wordpiece *w = calloc(1, sizeof *w);
    *own = w;
    if (!w)
        return ptq_status_nomem(st, "a tokenizer", sizeof *w);
    w->prefix_bytes = def->continuing_prefix ? (int64_t)strlen(def->continuing_prefix) : 0;
    for (int64_t i = 0; i < def->n; i++)
        if (def->at[i + 1] - def->at[i] > w->longest)
            w->longest = def->at[i + 1] - def->at[i];
    for (uint32_t c = 0; c < 128; c++)
        w->ascii[c] = (uint8_t)(ptq_unicode_space(c)         ? SPACE
                                : ptq_unicode_punctuation(c) ? PUNCTUATION
                                : ptq_unicode_other(c)       ? OTHER
                                                             : PLAIN);
    if (def->unk < 0)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: WordPiece needs an unknown token",
                              def->source);
    if (def->max_word_chars < 1 || def->max_word_chars > MOST_WORD_CHARS ||
        w->prefix_bytes > MOST_PREFIX)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: WordPiece with words of %lld characters and a prefix of %lld "
                              "bytes is not supported; at most %d and %d",
                              def->source, (long long)def->max_word_chars,
                              (long long)w->prefix_bytes, MOST_WORD_CHARS, MOST_PREFIX);
    return ptq_tok_index_new(&w->index, def, st);
}

/* ---- the normalizer ---- */

struct call {
    struct ptq_text_buffer cleaned, decomposed, text;
};

static int put(struct ptq_text_buffer *out, uint32_t c, struct ptq_status *st)
{
    char utf8[4];
    return ptq_text_buffer_add(out, utf8, ptq_utf8_put(c, utf8), st);
}

/* A character that is not ASCII: without control characters, spaces as " ", ideographs apart. */
static int clean_one(const struct ptq_tok_def *def, uint32_t c, struct ptq_text_buffer *out,
                     struct ptq_status *st)
{
    if (def->clean_text && ptq_unicode_other(c))
        return PTQ_OK;
    if (def->clean_text && ptq_unicode_space(c))
        return put(out, ' ', st);
    if (!def->split_cjk || !ptq_unicode_chinese(c))
        return put(out, c, st);
    int code = put(out, ' ', st);
    if (code == PTQ_OK)
        code = put(out, c, st);
    return code == PTQ_OK ? put(out, ' ', st) : code;
}

static int clean(const struct ptq_tok_def *def, const struct wordpiece *w, const char *text,
                 int64_t bytes, struct ptq_text_buffer *out, struct ptq_status *st)
{
    int code = PTQ_OK;
    for (const char *at = text, *end = text + bytes; at < end && code == PTQ_OK;) {
        const char *plain = at;
        while (at < end && !(*at & 0x80) && w->ascii[(uint8_t)*at] != OTHER)
            at++;
        code = ptq_text_buffer_add(out, plain, at - plain, st);
        /* ASCII white space stays: words end there just as at " ". */
        if (at == end || code != PTQ_OK)
            break;
        if (*at & 0x80)
            code = clean_one(def, ptq_utf8_next(&at), out, st);
        else if (!def->clean_text)
            code = ptq_text_buffer_add(out, at++, 1, st);
        else
            at++;
    }
    return code;
}

/* Without marks, in lower case. */
static int fold(const struct ptq_tok_def *def, const struct ptq_text_buffer *in,
                struct ptq_text_buffer *out, struct ptq_status *st)
{
    int code = ptq_text_buffer_add(out, in->at ? in->at : "", 0, st);
    for (const char *at = in->at, *end = in->at + in->n; at < end && code == PTQ_OK;) {
        if (!(*at & 0x80)) {
            char c = *at++;
            if (def->lower_case && c >= 'A' && c <= 'Z')
                c = (char)(c - 'A' + 'a');
            if (out->n < out->room)
                out->at[out->n++] = c;
            else
                code = ptq_text_buffer_add(out, &c, 1, st);
            continue;
        }
        uint32_t c = ptq_utf8_next(&at), low[2] = {c};
        if (def->strip_accents && ptq_unicode_mark(c))
            continue;
        int n = def->lower_case ? ptq_unicode_lower(c, low) : 1;
        for (int i = 0; i < n && code == PTQ_OK; i++)
            code = put(out, low[i], st);
    }
    return code;
}

static int normalize(const struct ptq_tok_def *def, const struct wordpiece *w, const char *text,
                     int64_t bytes, struct call *c, struct ptq_status *st)
{
    c->cleaned.n = c->decomposed.n = c->text.n = 0;
    if (def->norm != PTQ_NORM_BERT)
        return ptq_text_buffer_add(&c->text, text, bytes, st);
    int code = clean(def, w, text, bytes, &c->cleaned, st);
    if (code != PTQ_OK || !def->strip_accents)
        return code == PTQ_OK ? fold(def, &c->cleaned, &c->text, st) : code;
    code = ptq_unicode_nfd(c->cleaned.at, c->cleaned.n, &c->decomposed, st);
    return code == PTQ_OK ? fold(def, &c->decomposed, &c->text, st) : code;
}

/* ---- words ---- */

struct encoding {
    const struct ptq_tok_def *def;
    const struct wordpiece *w;
    struct ptq_ids *ids;
    struct ptq_status *st;
};

/* The longest token that the word's rest begins with: text[0 .. *bytes); -1: none. */
static int32_t longest_token(const struct wordpiece *w, const char *text, int64_t least,
                             int64_t *bytes)
{
    int64_t n = *bytes < w->longest ? *bytes : w->longest;
    while (n < *bytes && n > least && (text[n] & 0xC0) == 0x80)
        n--; /* not in the middle of a character */
    while (n > least) {
        int32_t id = ptq_tok_index_find(w->index, text, n);
        if (id >= 0) {
            *bytes = n;
            return id;
        }
        do
            n--;
        while (n > least && (text[n] & 0xC0) == 0x80);
    }
    return -1;
}

/* The prefix of continuing tokens is written over what was read of the word before. */
static int add_pieces(struct encoding *e, const char *word, int64_t bytes)
{
    const int64_t prefix = e->w->prefix_bytes, begin = e->ids->n;
    char text[MOST_PREFIX + MOST_WORD_BYTES];
    memcpy(text + prefix, word, (size_t)bytes);
    for (int64_t at = 0; at < bytes;) {
        int64_t p = at ? prefix : 0, n = p + bytes - at;
        if (at && prefix)
            memcpy(text + at, e->def->continuing_prefix, (size_t)prefix);
        int32_t id = longest_token(e->w, text + prefix + at - p, p, &n);
        if (id < 0) {
            e->ids->n = begin;
            return ptq_ids_add(e->ids, e->def->unk, e->st);
        }
        int code = ptq_ids_add(e->ids, id, e->st);
        if (code != PTQ_OK)
            return code;
        at += n - p;
    }
    return PTQ_OK;
}

static int add_word(struct encoding *e, const char *word, int64_t bytes)
{
    int64_t chars = 0;
    for (int64_t i = 0; i < bytes && chars <= e->def->max_word_chars; i++)
        chars += (word[i] & 0xC0) != 0x80;
    if (bytes == 0)
        return PTQ_OK;
    if (chars > e->def->max_word_chars)
        return ptq_ids_add(e->ids, e->def->unk, e->st);
    int32_t id = ptq_tok_index_find(e->w->index, word, bytes); /* most words are */
    return id >= 0 ? ptq_ids_add(e->ids, id, e->st) : add_pieces(e, word, bytes);
}

static enum ascii_class class_at(const struct wordpiece *w, const char **at)
{
    uint32_t c = ptq_utf8_next(at);
    if (c < 0x80)
        return w->ascii[c];
    return ptq_unicode_space(c) ? SPACE : ptq_unicode_punctuation(c) ? PUNCTUATION : PLAIN;
}

static int add_words(struct encoding *e, const struct ptq_text_buffer *text)
{
    const char *word = text->at, *end = text->at + text->n;
    int code = PTQ_OK;
    for (const char *at = word; at < end && code == PTQ_OK;) {
        const char *here = at;
        enum ascii_class class = class_at(e->w, &at);
        if (class != SPACE && class != PUNCTUATION)
            continue;
        code = add_word(e, word, here - word);
        if (code == PTQ_OK && class == PUNCTUATION)
            code = add_word(e, here, at - here);
        word = at;
    }
    return code == PTQ_OK ? add_word(e, word, end - word) : code;
}

static int wordpiece_encode(const struct ptq_tok_def *def, const void *own, const char *text,
                            int64_t bytes, bool first, struct ptq_ids *ids, struct ptq_status *st)
{
    (void)first;
    if (!ids->call && !(ids->call = calloc(1, sizeof(struct call))))
        return ptq_status_nomem(st, "a tokenizer's call", sizeof(struct call));
    struct call *c = ids->call;
    struct encoding e = {def, own, ids, st};
    int code = normalize(def, own, text, bytes, c, st);
    return code == PTQ_OK ? add_words(&e, &c->text) : code;
}

static void wordpiece_done(void *own)
{
    struct call *c = own;
    if (!c)
        return;
    free(c->cleaned.at);
    free(c->decomposed.at);
    free(c->text.at);
    free(c);
}

/* Words apart by a space; what continues one without its prefix. */
static int wordpiece_decode(const struct ptq_tok_def *def, int32_t id, bool first, char *out,
                            int64_t *n)
{
    const char *text = def->text + def->at[id];
    int64_t bytes = def->at[id + 1] - def->at[id];
    int64_t prefix = def->continuing_prefix ? (int64_t)strlen(def->continuing_prefix) : 0;
    bool goes_on =
        prefix > 0 && bytes > prefix && memcmp(text, def->continuing_prefix, (size_t)prefix) == 0;
    *n = 0;
    if (goes_on) {
        text += prefix;
        bytes -= prefix;
    } else if (!first) {
        out[(*n)++] = ' ';
    }
    memcpy(out + *n, text, (size_t)bytes);
    *n += bytes;
    return PTQ_OK;
}

const struct ptq_tok_model ptq_tok_wordpiece = {PTQ_TOK_WORDPIECE, wordpiece_compile,
                                                wordpiece_release, wordpiece_encode,
                                                wordpiece_decode,  wordpiece_done};
