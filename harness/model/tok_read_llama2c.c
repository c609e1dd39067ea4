/* tok512.bin and the like: int32 longest token, then per id a float score, an int32 length and the
 * bytes, little-endian, to the end of the file: the vocabulary's size is nowhere written. */
#include "model/tok.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_FILE_BYTES = 64 << 20, HEAD = 8 };

static int32_t int_at(const char *at)
{
    const unsigned char *b = (const unsigned char *)at;
    return (int32_t)((uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
                     (uint32_t)b[3] << 24);
}

/* Counts tokens and bytes of their texts; false: the file does not end where a token does. */
static bool count(const char *raw, size_t size, int64_t *n, int64_t *bytes)
{
    size_t at = 4;
    *n = *bytes = 0;
    while (size >= at && size - at >= HEAD) {
        int32_t length = int_at(raw + at + 4);
        if (length < 1 || (size_t)length > size - at - HEAD)
            return false;
        at += HEAD + (size_t)length;
        *bytes += length;
        ++*n;
    }
    return at == size && *n > 0;
}

static int fill(const char *raw, int64_t n, int64_t bytes, struct ptq_arena *a,
                struct ptq_tok_def *def, struct ptq_status *st)
{
    char *text = ptq_arena_alloc(a, st, bytes + 1, 1);
    int64_t *at = ptq_arena_alloc(a, st, n + 1, sizeof *at);
    float *score = ptq_arena_alloc(a, st, n, sizeof *score);
    if (!text || !at || !score)
        return st->code;
    raw += 4;
    for (int64_t i = 0; i < n; i++) {
        int32_t length = int_at(raw + 4), score_bits = int_at(raw);
        memcpy(&score[i], &score_bits, sizeof *score);
        memcpy(text + at[i], raw + HEAD, (size_t)length);
        at[i + 1] = at[i] + length;
        raw += HEAD + length;
    }
    def->n = n;
    def->text = text;
    def->at = at;
    def->score = score;
    return PTQ_OK;
}

int ptq_tok_read_llama2c(const char *path, struct ptq_arena *a, struct ptq_tok_def *def,
                         struct ptq_status *st)
{
    char *raw;
    size_t size;
    int64_t n, bytes;
    *def = (struct ptq_tok_def){.kind = PTQ_TOK_LLAMA2C,
                                .byte_fallback = true,
                                .dummy_prefix = true,
                                .unk = 0,
                                .bos = 1,
                                .eos = 2,
                                .cls = -1,
                                .sep = -1,
                                .pad = -1,
                                .n_before = 1,
                                .before = {1}};
    int code = ptq_read_file(path, MOST_FILE_BYTES, &raw, &size, st);
    if (code != PTQ_OK)
        return code;
    def->source = ptq_arena_strdup(a, st, path);
    if (!def->source)
        code = st->code;
    else if (!count(raw, size, &n, &bytes))
        code = ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: not a tokenizer of llama2.c: it does not end where a token "
                              "does; it is cut or of another format",
                              path);
    else
        code = fill(raw, n, bytes, a, def, st);
    free(raw);
    return code;
}
