/* Byte-level BPE (GPT-2 and after): the pre-tokenizer's pieces are bytes, every byte a symbol of
 * the vocabulary, and neighbours merge by rank. A byte whose symbol the vocabulary lacks is dropped
 * without a sign, as the `tokenizers` library and llama.cpp do. */
#include "core/hash.h"
#include "core/words.h"
#include "model/tok.h"
#include "model/tok_merge.h"
#include "model/tok_pretok.h"
#include "model/tok_unicode.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- the alphabet of bytes --------------------------------------------------------------------
 */

/* Printable characters of Latin-1 stand for their own byte, the 68 others follow from U+0100 on. */
static bool stands_for_itself(uint32_t c)
{
    return (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255);
}

uint32_t ptq_byte_symbol(uint8_t byte)
{
    uint32_t next = 256;
    if (stands_for_itself(byte))
        return byte;
    for (uint32_t b = 0; b < byte; b++)
        next += !stands_for_itself(b);
    return next;
}

int ptq_symbol_byte(uint32_t symbol)
{
    if (symbol < 256)
        return stands_for_itself(symbol) ? (int)symbol : -1;
    for (int b = 0; b < 256; b++)
        if (!stands_for_itself((uint32_t)b) && symbol-- == 256)
            return b;
    return -1;
}

/* ---- compiling ------------------------------------------------------------------------------- */

/* Decoding walks over the characters of a token: a container may hold anything. */
static int check_texts(const struct ptq_tok_def *def, struct ptq_status *st)
{
    for (int64_t i = 0; i < def->n; i++)
        if (!ptq_utf8_valid(def->text + def->at[i], def->at[i + 1] - def->at[i]))
            return ptq_status_set(st, PTQ_ERR_USAGE,
                                  "%s: token %lld is no UTF-8; the file is damaged", def->source,
                                  (long long)i);
    return PTQ_OK;
}

struct bpe {
    struct ptq_tok_index *index;
    struct ptq_pairs pairs;
    struct ptq_splitter *splitter;
    int32_t byte_id[256]; /* -1: no such token */
};

static int add_merge(struct bpe *b, const struct ptq_tok_def *def, int64_t rank,
                     struct ptq_text_buffer *text, struct ptq_status *st)
{
    const int32_t *m = def->merge + 2 * rank;
    text->n = 0;
    for (int i = 0; i < 2; i++) {
        int code = ptq_text_buffer_add(text, def->text + def->at[m[i]],
                                       def->at[m[i] + 1] - def->at[m[i]], st);
        if (code != PTQ_OK)
            return code;
    }
    int32_t merged = ptq_tok_index_find(b->index, text->at, text->n);
    if (merged >= 0)
        return ptq_pairs_add(&b->pairs, (struct ptq_pair){m[0], m[1], (int32_t)rank, merged}, st);
    char shown[PTQ_PRINTABLE];
    int code = ptq_text_buffer_add(text, "", 1, st);
    if (code != PTQ_OK)
        return code;
    ptq_printable(text->at, shown);
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: merge %lld makes the token '%s', which the vocabulary lacks; "
                          "vocabulary and merges belong to different models or are cut",
                          def->source, (long long)rank + 1, shown);
}

static int add_merges(struct bpe *b, const struct ptq_tok_def *def, struct ptq_status *st)
{
    struct ptq_text_buffer text = {0};
    int code = PTQ_OK;
    if (def->n_merges > INT32_MAX)
        code = ptq_status_set(st, PTQ_ERR_USAGE, "%s: %lld merges are too many", def->source,
                              (long long)def->n_merges);
    for (int64_t i = 0; i < def->n_merges && code == PTQ_OK; i++)
        code = add_merge(b, def, i, &text, st);
    free(text.at);
    return code;
}

static void bpe_release(void *own)
{
    struct bpe *b = own;
    if (!b)
        return;
    ptq_tok_index_free(b->index);
    ptq_pairs_release(&b->pairs);
    ptq_splitter_free(b->splitter);
    free(b);
}

static int bpe_compile(const struct ptq_tok_def *def, void **own, struct ptq_status *st)
{
    struct bpe *b = calloc(1, sizeof *b);
    *own = b;
    if (!b)
        return ptq_status_nomem(st, "a tokenizer", sizeof *b);
    int code = check_texts(def, st);
    if (code == PTQ_OK)
        code = ptq_tok_index_new(&b->index, def, st);
    for (int i = 0; i < 256 && code == PTQ_OK; i++) {
        char symbol[4];
        int n = ptq_utf8_put(ptq_byte_symbol((uint8_t)i), symbol);
        b->byte_id[i] = ptq_tok_index_find(b->index, symbol, n);
    }
    if (code == PTQ_OK)
        code = add_merges(b, def, st);
    return code == PTQ_OK ? ptq_splitter_new(&b->splitter, def, st) : code;
}

/* ---- encoding -------------------------------------------------------------------------------- */

/* Ids of a piece that was seen before; the last one of its slot stays. Most text is common words:
 * few pieces are merged twice. */
struct seen {
    uint64_t hash;
    uint8_t bytes, n; /* bytes 0: free */
    char text[30];
    int32_t id[6];
};
enum { N_SEEN = 1 << 16, MOST_SEEN_BYTES = 30, MOST_SEEN_IDS = 6 };

struct call {
    struct ptq_split_call *split;
    struct ptq_merger merger;
    struct ptq_text_buffer symbols;
    struct seen *seen; /* [N_SEEN] */
};
struct encoding {
    const struct ptq_tok_def *def;
    const struct bpe *bpe;
    struct ptq_ids *ids;
    struct call *call;
};

static void bpe_done(void *own)
{
    struct call *c = own;
    if (!c)
        return;
    ptq_split_call_free(c->split);
    ptq_merger_release(&c->merger);
    free(c->symbols.at);
    free(c->seen);
    free(c);
}

static int begin_call(struct ptq_ids *ids, struct ptq_status *st)
{
    if (ids->call)
        return PTQ_OK;
    struct call *c = ids->call = calloc(1, sizeof *c);
    if (!c || !(c->seen = calloc(N_SEEN, sizeof *c->seen)))
        return ptq_status_nomem(st, "a cache of words", N_SEEN * sizeof *c->seen);
    return ptq_split_call_new(&c->split, st);
}

/* The token whose symbols are all of the piece, or -1. */
static int whole_piece(struct encoding *e, const char *text, int64_t bytes, int32_t *id,
                       struct ptq_status *st)
{
    e->call->symbols.n = 0;
    for (int64_t i = 0; i < bytes; i++) {
        char symbol[4];
        int code = ptq_text_buffer_add(&e->call->symbols, symbol,
                                       ptq_utf8_put(ptq_byte_symbol((uint8_t)text[i]), symbol), st);
        if (code != PTQ_OK)
            return code;
    }
    *id = ptq_tok_index_find(e->bpe->index, e->call->symbols.at, e->call->symbols.n);
    return PTQ_OK;
}

static int merge_piece(struct encoding *e, const char *text, int64_t bytes, struct ptq_status *st)
{
    int32_t whole = -1;
    int64_t n = 0;
    int code = ptq_ids_room(e->ids, bytes, st);
    if (code == PTQ_OK && e->def->ignore_merges)
        code = whole_piece(e, text, bytes, &whole, st);
    if (code != PTQ_OK)
        return code;
    int32_t *id = e->ids->at + e->ids->n;
    if (whole >= 0)
        id[n++] = whole;
    else
        for (int64_t i = 0; i < bytes; i++)
            if ((id[n] = e->bpe->byte_id[(uint8_t)text[i]]) >= 0)
                n++;
    if (n > 1)
        code = ptq_merge(&e->call->merger, &e->bpe->pairs, id, &n, st);
    e->ids->n += n;
    return code;
}

static void remember(struct seen *s, const char *text, int64_t bytes, uint64_t hash,
                     const int32_t *id, int64_t n)
{
    if (n > MOST_SEEN_IDS)
        return;
    s->hash = hash;
    s->bytes = (uint8_t)bytes;
    s->n = (uint8_t)n;
    memcpy(s->text, text, (size_t)bytes);
    memcpy(s->id, id, (size_t)n * sizeof *id);
}

static int encode_piece(void *arg, const char *text, int64_t bytes, struct ptq_status *st)
{
    struct encoding *e = arg;
    if (bytes > MOST_SEEN_BYTES)
        return merge_piece(e, text, bytes, st);
    uint64_t hash = ptq_hash64(text, (size_t)bytes);
    struct seen *s = &e->call->seen[hash & (N_SEEN - 1)];
    int64_t begin = e->ids->n;
    if (s->hash == hash && s->bytes == bytes && memcmp(s->text, text, (size_t)bytes) == 0) {
        int code = ptq_ids_room(e->ids, MOST_SEEN_IDS, st);
        if (code != PTQ_OK)
            return code;
        memcpy(e->ids->at + begin, s->id, s->n * sizeof *s->id);
        e->ids->n += s->n;
        return PTQ_OK;
    }
    int code = merge_piece(e, text, bytes, st);
    if (code == PTQ_OK)
        remember(s, text, bytes, hash, e->ids->at + begin, e->ids->n - begin);
    return code;
}

static int bpe_encode(const struct ptq_tok_def *def, const void *own, const char *text,
                      int64_t bytes, bool first, struct ptq_ids *ids, struct ptq_status *st)
{
    const struct bpe *b = own;
    (void)first;
    int code = begin_call(ids, st);
    if (code != PTQ_OK)
        return code;
    struct encoding e = {def, b, ids, ids->call};
    const struct ptq_pieces pieces = {encode_piece, &e};
    return ptq_splitter_run(b->splitter, e.call->split, text, bytes, &pieces, st);
}

/* A token with a sign outside the alphabet is its own text. */
static int bpe_decode(const struct ptq_tok_def *def, int32_t id, bool first, char *out, int64_t *n)
{
    const char *text = def->text + def->at[id], *end = def->text + def->at[id + 1];
    (void)first;
    *n = 0;
    for (const char *c = text; c < end;) {
        int byte = ptq_symbol_byte(ptq_utf8_next(&c));
        if (byte < 0) {
            *n = end - text;
            memcpy(out, text, (size_t)*n);
            return PTQ_OK;
        }
        out[(*n)++] = (char)byte;
    }
    return PTQ_OK;
}

const struct ptq_tok_model ptq_tok_bpe = {PTQ_TOK_BPE, bpe_compile, bpe_release,
                                          bpe_encode,  bpe_decode,  bpe_done};
