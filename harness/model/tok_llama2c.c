/* The tokenizer of llama2.c: SentencePiece's with U+2581 written as a space. A text gets a space in
 * front, each character is a token or else its bytes (ids 3 .. 258), and the neighbours whose joint
 * text is the token of the highest score merge, the left ones first among equals. Texts of byte
 * tokens ("<0x0A>") take part like any other, as they do there. */
#include "model/tok.h"
#include "model/tok_merge.h"
#include "model/tok_unicode.h"
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_BYTE = 3, N_WITH_BYTES = FIRST_BYTE + 256, MOST_TOKEN_BYTES = 1024 };
/* llama2.c begins its search for the best pair with this score. */
static const float worst_score = -1e10f;

struct llama2c {
    struct ptq_tok_index *index;
    struct ptq_pairs pairs;
    int32_t ascii[128]; /* -1: no token */
    int32_t space;
    /* Some pair's left text ends with byte a and its right one begins with byte b. */
    bool joins[256][256];
};

static int add_splits(struct llama2c *t, const struct ptq_tok_def *def, int32_t id, int32_t rank,
                      struct ptq_status *st)
{
    const char *text = def->text + def->at[id];
    int64_t bytes = def->at[id + 1] - def->at[id];
    int code = PTQ_OK;
    for (int64_t cut = 1; cut < bytes && code == PTQ_OK; cut++) {
        int32_t left = ptq_tok_index_find(t->index, text, cut);
        int32_t right = left < 0 ? -1 : ptq_tok_index_find(t->index, text + cut, bytes - cut);
        if (right < 0)
            continue;
        t->joins[(uint8_t)text[cut - 1]][(uint8_t)text[cut]] = true;
        code = ptq_pairs_add(&t->pairs, (struct ptq_pair){left, right, rank, id}, st);
    }
    return code;
}

static int add_pairs(struct llama2c *t, const struct ptq_tok_def *def, struct ptq_status *st)
{
    struct ptq_scored *order = malloc((size_t)def->n * sizeof *order);
    int64_t n = 0;
    if (!order)
        return ptq_status_nomem(st, "scores", (size_t)def->n * sizeof *order);
    for (int64_t i = 0; i < def->n; i++)
        if (def->score[i] > worst_score)
            order[n++] = (struct ptq_scored){def->score[i], (int32_t)i, 0};
    ptq_rank_scores(order, n);
    int code = PTQ_OK;
    for (int64_t i = 0; i < n && code == PTQ_OK; i++)
        code = add_splits(t, def, order[i].id, order[i].rank, st);
    free(order);
    return code;
}

static int check(const struct llama2c *t, const struct ptq_tok_def *def, struct ptq_status *st)
{
    if (def->n < N_WITH_BYTES || def->n > INT32_MAX || !def->score)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: a tokenizer of llama2.c has scores and at least %d tokens, the "
                              "bytes from id %d on; this one has %lld",
                              def->source, N_WITH_BYTES, FIRST_BYTE, (long long)def->n);
    for (int64_t i = 0; i < def->n; i++) {
        int64_t bytes = def->at[i + 1] - def->at[i];
        if (!isfinite(def->score[i]) || bytes < 1 || bytes > MOST_TOKEN_BYTES)
            return ptq_status_set(st, PTQ_ERR_USAGE,
                                  "%s: token %lld has %lld bytes and the score %g: not 1 .. %d "
                                  "bytes and a number",
                                  def->source, (long long)i, (long long)bytes,
                                  (double)def->score[i], MOST_TOKEN_BYTES);
        int code = ptq_tok_index_check(t->index, i, st);
        if (code != PTQ_OK)
            return code;
    }
    return PTQ_OK;
}

static void llama2c_release(void *own)
{
    struct llama2c *t = own;
    if (!t)
        return;
    ptq_tok_index_free(t->index);
    ptq_pairs_release(&t->pairs);
    free(t);
}

static int llama2c_compile(const struct ptq_tok_def *def, void **own, struct ptq_status *st)
{
    struct llama2c *t = calloc(1, sizeof *t);
    *own = t;
    if (!t)
        return ptq_status_nomem(st, "a tokenizer", sizeof *t);
    int code = ptq_tok_index_new(&t->index, def, st);
    if (code == PTQ_OK)
        code = check(t, def, st);
    if (code != PTQ_OK)
        return code;
    for (int c = 0; c < 128; c++)
        t->ascii[c] = ptq_tok_index_find(t->index, &(char){(char)c}, 1);
    t->space = t->ascii[' '];
    if (t->space < 0)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: the space is no token", def->source);
    return add_pairs(t, def, st);
}

struct encoding {
    const struct ptq_tok_def *def;
    const struct llama2c *t;
    struct ptq_ids *ids;
    int64_t begin; /* symbols of the stretch in hand are ids[begin .. n) */
    struct ptq_status *st;
};

static int finish(struct encoding *e)
{
    int64_t n = e->ids->n - e->begin;
    int code = ptq_merge(e->ids->call, &e->t->pairs, e->ids->at + e->begin, &n, e->st);
    e->ids->n = e->begin += n;
    return code;
}

/* Nothing merges across two symbols that no pair joins: what was before is done. */
static int put(struct encoding *e, int32_t id)
{
    const char *text = e->def->text;
    int code = PTQ_OK;
    if (e->ids->n > e->begin) {
        int32_t last = e->ids->at[e->ids->n - 1];
        if (!e->t->joins[(uint8_t)text[e->def->at[last + 1] - 1]][(uint8_t)text[e->def->at[id]]])
            code = finish(e);
    }
    e->ids->at[e->ids->n++] = id;
    return code;
}

static int llama2c_encode(const struct ptq_tok_def *def, const void *own, const char *text,
                          int64_t bytes, bool first, struct ptq_ids *ids, struct ptq_status *st)
{
    const struct llama2c *t = own;
    (void)first;
    if (!ids->call && !(ids->call = calloc(1, sizeof(struct ptq_merger))))
        return ptq_status_nomem(st, "a tokenizer's call", sizeof(struct ptq_merger));
    int code = ptq_ids_room(ids, bytes + 1, st);
    if (code != PTQ_OK || bytes == 0)
        return code;
    struct encoding e = {def, t, ids, ids->n, st};
    code = put(&e, t->space);
    for (int64_t i = 0, n; i < bytes && code == PTQ_OK; i += n) {
        n = ptq_utf8_length(text[i]);
        int32_t id =
            n == 1 ? t->ascii[(uint8_t)text[i]] : ptq_tok_index_find(t->index, text + i, n);
        if (id >= 0)
            code = put(&e, id);
        for (int64_t k = 0; id < 0 && k < n && code == PTQ_OK; k++)
            code = put(&e, (uint8_t)text[i + k] + FIRST_BYTE);
    }
    return code == PTQ_OK ? finish(&e) : code;
}

static void llama2c_done(void *call)
{
    if (call)
        ptq_merger_release(call);
    free(call);
}

static int llama2c_decode(const struct ptq_tok_def *def, int32_t id, bool first, char *out,
                          int64_t *n)
{
    const char *text = def->text + def->at[id];
    int64_t bytes = def->at[id + 1] - def->at[id];
    if (id >= FIRST_BYTE && id < N_WITH_BYTES) {
        out[0] = (char)(id - FIRST_BYTE);
        *n = 1;
        return PTQ_OK;
    }
    int64_t drop = first && text[0] == ' ';
    *n = bytes - drop;
    memcpy(out, text + drop, (size_t)*n);
    return PTQ_OK;
}

const struct ptq_tok_model ptq_tok_llama2c = {PTQ_TOK_LLAMA2C, llama2c_compile, llama2c_release,
                                              llama2c_encode,  llama2c_decode,  llama2c_done};
