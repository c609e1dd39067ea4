#include "model/tok.h"
#include "core/hash.h"
#include "core/size.h"
#include "core/words.h"
#include <stdlib.h>
#include <string.h>

struct ptq_tok_index {
    const struct ptq_tok_def *def;
    uint64_t mask;  /* slots - 1, slots a power of two */
    int32_t slot[]; /* id, or -1 */
};

static bool same(const struct ptq_tok_def *def, int32_t id, const char *text, int64_t bytes)
{
    return def->at[id + 1] - def->at[id] == bytes &&
           memcmp(def->text + def->at[id], text, (size_t)bytes) == 0;
}

/* The slot that holds this text, or the free one where it belongs. */
static uint64_t slot_of(const struct ptq_tok_index *x, const char *text, int64_t bytes)
{
    uint64_t i = ptq_hash64(text, (size_t)bytes) & x->mask;
    while (x->slot[i] >= 0 && !same(x->def, x->slot[i], text, bytes))
        i = (i + 1) & x->mask;
    return i;
}

int ptq_tok_index_new(struct ptq_tok_index **out, const struct ptq_tok_def *def,
                      struct ptq_status *st)
{
    int64_t slots = 16, bytes;
    *out = NULL;
    while (slots < 2 * def->n)
        slots *= 2;
    if (!ptq_size_mul(slots, (int64_t)sizeof(int32_t), &bytes))
        return ptq_status_nomem(st, "an index of tokens", SIZE_MAX);
    struct ptq_tok_index *x = malloc(sizeof *x + (size_t)bytes);
    if (!x)
        return ptq_status_nomem(st, "an index of tokens", (size_t)bytes);
    x->def = def;
    x->mask = (uint64_t)slots - 1;
    memset(x->slot, 0xFF, (size_t)bytes);
    for (int32_t id = 0; id < def->n; id++) {
        if (def->type && def->type[id] == PTQ_TOKEN_UNUSED)
            continue;
        int32_t *slot =
            &x->slot[slot_of(x, def->text + def->at[id], def->at[id + 1] - def->at[id])];
        if (*slot < 0)
            *slot = id;
    }
    *out = x;
    return PTQ_OK;
}

void ptq_tok_index_free(struct ptq_tok_index *x)
{
    free(x);
}

int32_t ptq_tok_index_find(const struct ptq_tok_index *x, const char *text, int64_t bytes)
{
    return x->slot[slot_of(x, text, bytes)];
}

int ptq_tok_index_check(const struct ptq_tok_index *x, int64_t id, struct ptq_status *st)
{
    const struct ptq_tok_def *def = x->def;
    int32_t other = ptq_tok_index_find(x, def->text + def->at[id], def->at[id + 1] - def->at[id]);
    if (other == id)
        return PTQ_OK;
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: tokens %d and %lld have the same text: which one is meant cannot be "
                          "known",
                          def->source, other, (long long)id);
}

/* Tokens are no C strings: a text for a message. */
static void printable(const char *text, int64_t bytes, char out[PTQ_PRINTABLE])
{
    char copy[2 * PTQ_PRINTABLE];
    size_t n = bytes < (int64_t)sizeof copy - 1 ? (size_t)bytes : sizeof copy - 1;
    memcpy(copy, text, n);
    copy[n] = 0;
    ptq_printable(copy, out);
}

int ptq_tok_merge_ids(const struct ptq_tok_index *x, const char *source, int64_t number,
                      const char *line, int64_t bytes, int32_t out[2], struct ptq_status *st)
{
    char text[PTQ_PRINTABLE];
    const char *space = memchr(line, ' ', (size_t)bytes);
    const char *end = line + bytes;
    if (!space || space == line || space + 1 == end ||
        memchr(space + 1, ' ', (size_t)(end - space - 1))) {
        printable(line, bytes, text);
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: merge %lld '%s' is not two tokens with a space between; the file "
            "is damaged: get it again",
            source, (long long)number, text);
    }
    return ptq_tok_pair_ids(x, source, number,
                            (struct ptq_tok_pair){line, space - line, space + 1, end - space - 1},
                            out, st);
}

int ptq_tok_pair_ids(const struct ptq_tok_index *x, const char *source, int64_t number,
                     struct ptq_tok_pair pair, int32_t out[2], struct ptq_status *st)
{
    out[0] = ptq_tok_index_find(x, pair.left, pair.left_bytes);
    out[1] = ptq_tok_index_find(x, pair.right, pair.right_bytes);
    if (out[0] >= 0 && out[1] >= 0)
        return PTQ_OK;
    char text[PTQ_PRINTABLE];
    printable(out[0] < 0 ? pair.left : pair.right, out[0] < 0 ? pair.left_bytes : pair.right_bytes,
              text);
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: merge %lld needs the token '%s', which the vocabulary lacks; "
                          "vocabulary and merges belong to different models or are cut",
                          source, (long long)number, text);
}
