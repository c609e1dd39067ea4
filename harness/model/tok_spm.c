/* SentencePiece's byte pair encoding (Llama 1 and 2, Mistral, Gemma): the text's characters are the
 * symbols, a space is U+2581, and neighbours merge over the whole text: by the score of the token
 * they make (tokenizer.model, GGUF) or by the rank of the merge (tokenizer.json). Both become one
 * table of pairs: a token of score s is made by every split of it into two symbols.
 *
 * The text is cut where no pair can merge across: beside a character that no token holds, beside a
 * symbol of the user, and before U+2581 unless some token holds the two characters in a row. What
 * merges on one side of such a cut does not depend on the other, so the ids are the same and the
 * work is of words instead of megabytes. */
#include "core/size.h"
#include "model/tok.h"
#include "model/tok_merge.h"
#include "model/tok_unicode.h"
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPACE "\xE2\x96\x81" /* U+2581 */
enum {
    SPACE_POINT = 0x2581,
    SPACE_BYTES = 3,
    PAGE = 256,
    N_PAGES = 0x110000 / PAGE,
    BYTE_TOKEN = 6,         /* "<0x0A>" */
    MOST_TOKEN_BYTES = 1024 /* every split of a token is looked up; the longest of Gemma has 93 */
};

struct spm {
    struct ptq_tok_index *index;
    struct ptq_pairs pairs;
    int32_t *page[N_PAGES]; /* the symbol of a code point, -1: in no token */
    /* Bit c: some pair's left part ends with the code point c and its right one begins with U+2581.
     */
    uint8_t joins[0x110000 / 8];
    int32_t byte_id[256];
    /* Characters that are no token but a part of one: symbols n, n + 1, ... */
    uint32_t *part;
    int64_t n_parts, parts_room;
    int32_t *user; /* symbols of the user in the order of their texts */
    int64_t n_user;
    bool user_begins[256]; /* with this byte */
};

struct view {
    const char *at;
    int64_t bytes;
};

static struct view token(const struct ptq_tok_def *def, int64_t id)
{
    return (struct view){def->text + def->at[id], def->at[id + 1] - def->at[id]};
}

static int type_of(const struct ptq_tok_def *def, int64_t id)
{
    return def->type ? def->type[id] : PTQ_TOKEN_NORMAL;
}

/* Tokens that merging may make from a score. */
static bool can_merge(const struct ptq_tok_def *def, int64_t id)
{
    int type = type_of(def, id);
    return type == PTQ_TOKEN_NORMAL || type == PTQ_TOKEN_USER;
}

static bool is_one_character(struct view v)
{
    return v.bytes > 0 && v.bytes == ptq_utf8_length(v.at[0]);
}

/* ---- compiling: characters ---- */

static int32_t symbol_of(const struct spm *s, uint32_t c)
{
    const int32_t *page = s->page[c / PAGE];
    return page ? page[c % PAGE] : -1;
}

static int set_symbol(struct spm *s, uint32_t c, int32_t symbol, struct ptq_status *st)
{
    int32_t **page = &s->page[c / PAGE];
    if (!*page) {
        *page = malloc(PAGE * sizeof **page);
        if (!*page)
            return ptq_status_nomem(st, "characters of a tokenizer", PAGE * sizeof **page);
        memset(*page, 0xFF, PAGE * sizeof **page);
    }
    (*page)[c % PAGE] = symbol;
    return PTQ_OK;
}

/* By rank every token that is one character is its symbol, by score only those that can merge. */
static int add_characters(struct spm *s, const struct ptq_tok_def *def, struct ptq_status *st)
{
    int code = PTQ_OK;
    for (int64_t i = 0; i < def->n && code == PTQ_OK; i++) {
        struct view v = token(def, i);
        const char *at = v.at;
        if (!ptq_utf8_valid(v.at, v.bytes))
            return ptq_status_set(st, PTQ_ERR_USAGE,
                                  "%s: token %lld is not UTF-8; the file is damaged: get it again",
                                  def->source, (long long)i);
        bool unused = type_of(def, i) == PTQ_TOKEN_UNUSED;
        if (is_one_character(v) && !unused && (def->n_merges || can_merge(def, i)))
            code = set_symbol(s, ptq_utf8_next(&at), (int32_t)i, st);
    }
    return code;
}

static int add_bytes(struct spm *s, const struct ptq_tok_def *def, struct ptq_status *st)
{
    for (int i = 0; i < 256; i++) {
        char text[BYTE_TOKEN + 1];
        snprintf(text, sizeof text, "<0x%02X>", i);
        s->byte_id[i] = def->byte_fallback ? ptq_tok_index_find(s->index, text, BYTE_TOKEN) : -1;
        if (def->byte_fallback && s->byte_id[i] < 0)
            return ptq_status_set(
                st, PTQ_ERR_USAGE,
                "%s: unknown characters are to become bytes, but the vocabulary lacks '%s'",
                def->source, text);
    }
    return PTQ_OK;
}

/* ---- compiling: pairs ---- */

static uint32_t last_point(struct view v)
{
    const char *at = v.at + v.bytes - 1;
    while (at > v.at && (*at & 0xC0) == 0x80)
        at--;
    return ptq_utf8_next(&at);
}

static int add_pair(struct spm *s, struct view left, struct view right, struct ptq_pair pair,
                    struct ptq_status *st)
{
    if (right.bytes >= SPACE_BYTES && left.bytes && memcmp(right.at, SPACE, SPACE_BYTES) == 0) {
        uint32_t c = last_point(left);
        s->joins[c / 8] |= (uint8_t)(1 << c % 8);
    }
    return ptq_pairs_add(&s->pairs, pair, st);
}

/* The symbol whose text this is, or -1; a character becomes one. */
static int part_symbol(struct spm *s, const struct ptq_tok_def *def, struct view v, int32_t *out,
                       struct ptq_status *st)
{
    const char *at = v.at;
    if (!is_one_character(v)) {
        *out = ptq_tok_index_find(s->index, v.at, v.bytes);
        if (*out >= 0 && !can_merge(def, *out))
            *out = -1;
        return PTQ_OK;
    }
    uint32_t c = ptq_utf8_next(&at);
    *out = symbol_of(s, c);
    if (*out >= 0)
        return PTQ_OK;
    if (s->n_parts == s->parts_room) {
        int64_t room = 2 * s->parts_room + 64;
        uint32_t *larger = realloc(s->part, (size_t)room * sizeof *larger);
        if (!larger)
            return ptq_status_nomem(st, "characters of a tokenizer", (size_t)room * sizeof *larger);
        s->part = larger;
        s->parts_room = room;
    }
    s->part[s->n_parts] = c;
    *out = (int32_t)(def->n + s->n_parts++);
    return set_symbol(s, c, *out, st);
}

static int add_splits(struct spm *s, const struct ptq_tok_def *def, int32_t id, int32_t rank,
                      struct ptq_status *st)
{
    struct view v = token(def, id);
    int code = PTQ_OK;
    for (int64_t cut = v.bytes ? ptq_utf8_length(v.at[0]) : 0; cut < v.bytes && code == PTQ_OK;
         cut += ptq_utf8_length(v.at[cut])) {
        const struct view left = {v.at, cut}, right = {v.at + cut, v.bytes - cut};
        struct ptq_pair pair = {.rank = rank, .merged = id, .right = -1};
        code = part_symbol(s, def, left, &pair.left, st);
        if (code == PTQ_OK && pair.left >= 0)
            code = part_symbol(s, def, right, &pair.right, st);
        if (code == PTQ_OK && pair.left >= 0 && pair.right >= 0)
            code = add_pair(s, left, right, pair, st);
    }
    return code;
}

static int pairs_by_score(struct spm *s, const struct ptq_tok_def *def, struct ptq_status *st)
{
    struct ptq_scored *order = malloc((size_t)(def->n + 1) * sizeof *order);
    int64_t n = 0;
    int code = order ? PTQ_OK : ptq_status_nomem(st, "scores", (size_t)def->n * sizeof *order);
    for (int64_t i = 0; i < def->n && code == PTQ_OK; i++)
        if (!isfinite(def->score[i]))
            code = ptq_status_set(st, PTQ_ERR_USAGE, "%s: the score of token %lld is not a number",
                                  def->source, (long long)i);
        else if (can_merge(def, i))
            order[n++] = (struct ptq_scored){def->score[i], (int32_t)i, 0};
    if (code == PTQ_OK)
        ptq_rank_scores(order, n);
    for (int64_t i = 0; i < n && code == PTQ_OK; i++)
        code = add_splits(s, def, order[i].id, order[i].rank, st);
    free(order);
    return code;
}

static bool is_fallback(const struct spm *s, const struct ptq_tok_def *def, int32_t id)
{
    struct view v = token(def, id);
    unsigned byte;
    char text[BYTE_TOKEN + 1] = "";
    if (id == def->unk)
        return true;
    if (!def->byte_fallback || v.bytes != BYTE_TOKEN)
        return false;
    memcpy(text, v.at, BYTE_TOKEN);
    return sscanf(text, "<0x%2X>", &byte) == 1 && s->byte_id[byte] == id;
}

static int add_merge(struct spm *s, const struct ptq_tok_def *def, int64_t rank,
                     struct ptq_text_buffer *text, struct ptq_status *st)
{
    const int32_t *m = def->merge + 2 * rank;
    struct view left = token(def, m[0]), right = token(def, m[1]);
    text->n = 0;
    int code = ptq_text_buffer_add(text, left.at, left.bytes, st);
    if (code == PTQ_OK)
        code = ptq_text_buffer_add(text, right.at, right.bytes, st);
    if (code != PTQ_OK)
        return code;
    if (is_fallback(s, def, m[0]) || is_fallback(s, def, m[1]))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: merge %lld is of a byte or unknown token, which is not "
                              "implemented",
                              def->source, (long long)rank + 1);
    int32_t merged = ptq_tok_index_find(s->index, text->at, text->n);
    if (merged < 0)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: the vocabulary lacks the token that merge %lld makes; vocabulary "
            "and merges belong to different models or are cut",
            def->source, (long long)rank + 1);
    return add_pair(s, left, right, (struct ptq_pair){m[0], m[1], (int32_t)rank, merged}, st);
}

static int pairs_by_rank(struct spm *s, const struct ptq_tok_def *def, struct ptq_status *st)
{
    struct ptq_text_buffer text = {0};
    int code = PTQ_OK;
    for (int64_t i = 0; i < def->n_merges && code == PTQ_OK; i++)
        code = add_merge(s, def, i, &text, st);
    free(text.at);
    return code;
}

/* ---- compiling: symbols of the user ---- */

/* qsort has no argument: what is sorted carries the text. */
struct named {
    struct view text;
    int32_t id;
};

static int by_text(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    int64_t n = x->text.bytes < y->text.bytes ? x->text.bytes : y->text.bytes;
    int order = memcmp(x->text.at, y->text.at, (size_t)n);
    return order ? order : (x->text.bytes > y->text.bytes) - (x->text.bytes < y->text.bytes);
}

static int add_user(struct spm *s, const struct ptq_tok_def *def, struct ptq_status *st)
{
    struct named *all = malloc((size_t)(def->n + 1) * sizeof *all);
    s->user = malloc((size_t)(def->n + 1) * sizeof *s->user);
    if (!all || !s->user) {
        free(all);
        return ptq_status_nomem(st, "symbols of the user", (size_t)def->n * sizeof *all);
    }
    for (int64_t i = 0; i < def->n; i++)
        if (type_of(def, i) == PTQ_TOKEN_USER && token(def, i).bytes > 0)
            all[s->n_user++] = (struct named){token(def, i), (int32_t)i};
    qsort(all, (size_t)s->n_user, sizeof *all, by_text);
    for (int64_t i = 0; i < s->n_user; i++) {
        s->user[i] = all[i].id;
        s->user_begins[(uint8_t)all[i].text.at[0]] = true;
    }
    free(all);
    return PTQ_OK;
}

/* The first of user[lo .. hi), which agree in `depth` bytes and are longer, whose next byte is at
 * least `byte`. */
static int64_t user_bound(const struct spm *s, const struct ptq_tok_def *def, int64_t lo,
                          int64_t hi, int64_t depth, int byte)
{
    while (lo < hi) {
        int64_t mid = (lo + hi) / 2;
        if ((uint8_t)token(def, s->user[mid]).at[depth] < byte)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The longest symbol of the user that the text begins with, or -1. */
static int32_t user_at(const struct spm *s, const struct ptq_tok_def *def, struct view text)
{
    int32_t best = -1;
    int64_t lo = 0, hi = s->n_user;
    if (!s->user_begins[(uint8_t)text.at[0]])
        return -1;
    for (int64_t depth = 0; lo < hi; depth++) {
        if (token(def, s->user[lo]).bytes == depth) /* shorter ones come first */
            best = s->user[lo++];
        if (depth == text.bytes)
            break;
        int byte = (uint8_t)text.at[depth];
        lo = user_bound(s, def, lo, hi, depth, byte);
        hi = user_bound(s, def, lo, hi, depth, byte + 1);
    }
    return best;
}

/* ---- compiling ---- */

static int check(const struct spm *s, const struct ptq_tok_def *def, struct ptq_status *st)
{
    for (int64_t i = 0; i < def->n; i++) {
        struct view v = token(def, i);
        if (type_of(def, i) == PTQ_TOKEN_UNUSED)
            continue;
        if (v.bytes > MOST_TOKEN_BYTES && !def->n_merges)
            return ptq_status_set(st, PTQ_ERR_USAGE,
                                  "%s: token %lld has %lld bytes; tokens of more than %d are not "
                                  "supported",
                                  def->source, (long long)i, (long long)v.bytes, MOST_TOKEN_BYTES);
        int code = ptq_tok_index_check(s->index, i, st);
        if (code != PTQ_OK)
            return code;
    }
    if (def->ignore_merges)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: ignore_merges is not implemented for SentencePiece",
                              def->source);
    if (def->n_merges > INT32_MAX || def->n > INT32_MAX / 2)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: too many tokens or merges", def->source);
    if (!def->n_merges && !def->score)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: neither merges nor scores say what merges first", def->source);
    return PTQ_OK;
}

static void spm_release(void *own)
{
    struct spm *s = own;
    if (!s)
        return;
    ptq_tok_index_free(s->index);
    ptq_pairs_release(&s->pairs);
    for (int i = 0; i < N_PAGES; i++)
        free(s->page[i]);
    free(s->part);
    free(s->user);
    free(s);
}

static int spm_compile(const struct ptq_tok_def *def, void **own, struct ptq_status *st)
{
    struct spm *s = calloc(1, sizeof *s);
    *own = s;
    if (!s)
        return ptq_status_nomem(st, "a tokenizer", sizeof *s);
    int code = ptq_tok_index_new(&s->index, def, st);
    if (code == PTQ_OK)
        code = check(s, def, st);
    if (code == PTQ_OK)
        code = add_characters(s, def, st);
    if (code == PTQ_OK)
        code = add_bytes(s, def, st);
    if (code != PTQ_OK)
        return code;
    if (def->n_merges) /* those of a tokenizer.json are added tokens, found before */
        return pairs_by_rank(s, def, st);
    code = add_user(s, def, st);
    return code == PTQ_OK ? pairs_by_score(s, def, st) : code;
}

/* ---- encoding: the text with its spaces ---- */

static bool wants_prefix(const struct ptq_tok_def *def, struct view v, bool first)
{
    bool has = v.at[0] == ' ' && def->norm == PTQ_NORM_SPM_SPACES;
    has |= v.bytes >= SPACE_BYTES && memcmp(v.at, SPACE, SPACE_BYTES) == 0;
    switch (def->prefix) {
    case PTQ_PREFIX_NONE: return false;
    case PTQ_PREFIX_EACH: return true;
    case PTQ_PREFIX_MISSING_EACH: return !has;
    case PTQ_PREFIX_MISSING_FIRST: return first && !has;
    }
    return false;
}

/* Room for the text is there: every byte becomes three at most. */
static void add_spaced(const struct ptq_tok_def *def, struct view v, struct ptq_text_buffer *out)
{
    bool after_space = def->squeeze_spaces;
    for (int64_t i = 0; i < v.bytes; i++) {
        bool space = v.at[i] == ' ';
        if (space && after_space && def->squeeze_spaces)
            continue;
        after_space = space;
        if (space && def->norm == PTQ_NORM_SPM_SPACES) {
            memcpy(out->at + out->n, SPACE, SPACE_BYTES);
            out->n += SPACE_BYTES;
        } else {
            out->at[out->n++] = v.at[i];
        }
    }
}

int ptq_spm_normalize(const struct ptq_tok_def *def, const char *text, int64_t bytes, bool first,
                      struct ptq_text_buffer *out, struct ptq_status *st)
{
    struct view v = {text, bytes};
    int64_t spaces = 1, room;
    out->n = 0;
    while (def->squeeze_spaces && v.bytes && v.at[0] == ' ') {
        v.at++;
        v.bytes--;
    }
    if (v.bytes == 0)
        return PTQ_OK;
    for (int64_t i = 0; i < v.bytes; i++)
        spaces += v.at[i] == ' ';
    room = v.bytes + SPACE_BYTES * spaces;
    if (out->room < room) {
        free(out->at);
        out->room = 0;
        out->at = malloc((size_t)room);
        if (!out->at)
            return ptq_status_nomem(st, "a normalized text", (size_t)room);
        out->room = room;
    }
    if (wants_prefix(def, v, first)) {
        memcpy(out->at, SPACE, SPACE_BYTES);
        out->n = SPACE_BYTES;
    }
    add_spaced(def, v, out);
    /* sentencepiece takes away trailing U+2581 that the text had itself, too. */
    while (def->squeeze_spaces && out->n >= SPACE_BYTES &&
           memcmp(out->at + out->n - SPACE_BYTES, SPACE, SPACE_BYTES) == 0)
        out->n -= SPACE_BYTES;
    return PTQ_OK;
}

/* ---- encoding ---- */

struct call {
    struct ptq_merger merger;
    struct ptq_text_buffer text;
    int32_t *parts;
    int64_t parts_room;
};
struct encoding {
    const struct ptq_tok_def *def;
    const struct spm *s;
    struct ptq_ids *ids; /* with room for all that comes */
    struct call *call;
    int64_t begin;  /* symbols of the stretch in hand are ids[begin .. n) */
    uint32_t last;  /* the last one's last code point */
    bool after_unk; /* the last id is the unknown token and another would join it */
    struct ptq_status *st;
};

static void spm_done(void *own)
{
    struct call *c = own;
    if (!c)
        return;
    ptq_merger_release(&c->merger);
    free(c->text.at);
    free(c->parts);
    free(c);
}

static void put(struct encoding *e, int32_t id)
{
    e->ids->at[e->ids->n++] = id;
    e->after_unk = false;
}

static void put_unknown(struct encoding *e, uint32_t c)
{
    char utf8[4];
    int n = ptq_utf8_put(c, utf8);
    if (e->def->byte_fallback) {
        for (int i = 0; i < n; i++)
            put(e, e->s->byte_id[(uint8_t)utf8[i]]);
    } else if (e->def->unk >= 0) {
        if (!(e->after_unk && e->def->fuse_unk))
            put(e, e->def->unk);
        e->after_unk = true;
    }
}

/* Parts among ids[begin .. begin + n) that stayed alone are unknown characters. */
static int put_parts(struct encoding *e, int64_t begin, int64_t n)
{
    struct call *c = e->call;
    if (c->parts_room < n) {
        int32_t *larger = realloc(c->parts, (size_t)n * sizeof *larger);
        if (!larger)
            return ptq_status_nomem(e->st, "symbols", (size_t)n * sizeof *larger);
        c->parts = larger;
        c->parts_room = n;
    }
    memcpy(c->parts, e->ids->at + begin, (size_t)n * sizeof *c->parts);
    e->ids->n = begin;
    for (int64_t i = 0; i < n; i++)
        if (c->parts[i] >= e->def->n)
            put_unknown(e, e->s->part[c->parts[i] - e->def->n]);
        else
            put(e, c->parts[i]);
    return PTQ_OK;
}

/* Merges the stretch in hand. */
static int finish(struct encoding *e)
{
    int64_t n = e->ids->n - e->begin;
    int code = PTQ_OK;
    if (n > 1)
        code = ptq_merge(&e->call->merger, &e->s->pairs, e->ids->at + e->begin, &n, e->st);
    e->ids->n = e->begin + n;
    if (code == PTQ_OK && n > 0 && e->s->n_parts)
        code = put_parts(e, e->begin, n);
    else if (n > 0)
        e->after_unk = false;
    e->begin = e->ids->n;
    return code;
}

static bool cuts_before(const struct encoding *e, uint32_t c)
{
    if (c != SPACE_POINT || e->ids->n == e->begin)
        return false;
    return e->def->split_spaces || !(e->s->joins[e->last / 8] >> e->last % 8 & 1);
}

static int take_character(struct encoding *e, uint32_t c)
{
    int32_t symbol = symbol_of(e->s, c);
    int code = PTQ_OK;
    /* Without an unknown token the character is as if it had never been there. */
    if (symbol < 0 && !e->def->byte_fallback && e->def->unk < 0)
        return PTQ_OK;
    if (symbol < 0 || cuts_before(e, c))
        code = finish(e);
    if (code != PTQ_OK)
        return code;
    if (c == SPACE_POINT && e->def->split_spaces)
        e->after_unk = false; /* unknown tokens join inside a piece only */
    if (symbol < 0) {
        put_unknown(e, c);
        e->begin = e->ids->n;
    } else {
        e->ids->at[e->ids->n++] = symbol;
    }
    e->last = c;
    return PTQ_OK;
}

static int take_user(struct encoding *e, int32_t id)
{
    int code = finish(e);
    put(e, id);
    e->begin = e->ids->n;
    return code;
}

static int encode_normalized(struct encoding *e)
{
    const struct ptq_text_buffer *text = &e->call->text;
    int code = ptq_ids_room(e->ids, text->n, e->st);
    for (const char *at = text->at, *end = at + text->n; at < end && code == PTQ_OK;) {
        int32_t user = user_at(e->s, e->def, (struct view){at, end - at});
        if (user >= 0) {
            at += token(e->def, user).bytes;
            code = take_user(e, user);
        } else {
            code = take_character(e, ptq_utf8_next(&at));
        }
    }
    return code == PTQ_OK ? finish(e) : code;
}

static int spm_encode(const struct ptq_tok_def *def, const void *own, const char *text,
                      int64_t bytes, bool first, struct ptq_ids *ids, struct ptq_status *st)
{
    if (!ids->call && !(ids->call = calloc(1, sizeof(struct call))))
        return ptq_status_nomem(st, "a tokenizer's call", sizeof(struct call));
    struct encoding e = {def, own, ids, ids->call, ids->n, 0, false, st};
    int code = ptq_spm_normalize(def, text, bytes, first, &e.call->text, st);
    return code == PTQ_OK ? encode_normalized(&e) : code;
}

/* ---- decoding ---- */

static bool decode_byte(const struct ptq_tok_def *def, int32_t id, char *out)
{
    static const char digits[] = "0123456789ABCDEF";
    struct view v = token(def, id);
    if (!(def->byte_fallback || type_of(def, id) == PTQ_TOKEN_BYTE) || v.bytes != BYTE_TOKEN ||
        memcmp(v.at, "<0x", 3) != 0 || v.at[5] != '>' || !v.at[3] || !v.at[4])
        return false;
    const char *high = strchr(digits, v.at[3]), *low = strchr(digits, v.at[4]);
    if (!high || !low)
        return false;
    *out = (char)((high - digits) << 4 | (low - digits));
    return true;
}

static int spm_decode(const struct ptq_tok_def *def, int32_t id, bool first, char *out, int64_t *n)
{
    struct view v = token(def, id);
    *n = 0;
    if (decode_byte(def, id, out)) {
        *n = 1;
        return PTQ_OK;
    }
    bool drop = first && def->dummy_prefix && can_merge(def, id);
    for (int64_t i = 0; i < v.bytes; drop = false) {
        bool space = v.bytes - i >= SPACE_BYTES && memcmp(v.at + i, SPACE, SPACE_BYTES) == 0;
        if (!space)
            out[(*n)++] = v.at[i];
        else if (!drop)
            out[(*n)++] = ' ';
        i += space ? SPACE_BYTES : 1;
    }
    return PTQ_OK;
}

const struct ptq_tok_model ptq_tok_spm = {PTQ_TOK_SPM, spm_compile, spm_release,
                                          spm_encode,  spm_decode,  spm_done};
