/* A token is a byte: 256 ids, any bytes, no special tokens. */
#include "model/tok.h"

static int bytes_compile(const struct ptq_tok_def *def, void **own, struct ptq_status *st)
{
    (void)def, (void)st;
    *own = NULL;
    return PTQ_OK;
}

static void bytes_release(void *own)
{
    (void)own;
}

static int bytes_encode(const struct ptq_tok_def *def, const void *own, const char *text,
                        int64_t bytes, bool first, struct ptq_ids *ids, struct ptq_status *st)
{
    (void)def, (void)own, (void)first;
    int code = ptq_ids_room(ids, bytes, st);
    for (int64_t i = 0; i < bytes && code == PTQ_OK; i++)
        ids->at[ids->n++] = (unsigned char)text[i];
    return code;
}

static int bytes_decode(const struct ptq_tok_def *def, int32_t id, bool first, char *out,
                        int64_t *n)
{
    (void)def, (void)first;
    *out = (char)id;
    *n = 1;
    return PTQ_OK;
}

const struct ptq_tok_model ptq_tok_bytes = {PTQ_TOK_BYTES, bytes_compile, bytes_release,
                                            bytes_encode,  bytes_decode,  NULL};
