/* llama2c.h: reader of llama2.c's legacy checkpoints (28-byte header of seven int32, then fp32
 * tensors; llama2.c has no magic number). Tensors are named arrays, called as in the container
 * (SCHEMA.md): "tok_embd", "blk.3.attn_q", ...; matrices (out x in). Rotary positions of such
 * files turn interleaved pairs; theta 10000, norm eps 1e-5 are fixed by the format. Files are
 * untrusted: the header is checked against the exact file size. Reading is thread-safe. */
#ifndef PTQ_DATASETS_LLAMA2C_H
#define PTQ_DATASETS_LLAMA2C_H
#include "core/arena.h"

struct ptq_llama2c; /* an open file */
struct ptq_llama2c_head {
    int64_t dim, hidden, n_layers, n_heads, n_kv_heads, vocab_size, seq_len;
    bool tied; /* the head is the embedding: no tensor "output" */
};
int ptq_llama2c_open(struct ptq_llama2c **, const char *path, struct ptq_status *);
void ptq_llama2c_close(struct ptq_llama2c *); /* NULL is fine */
const struct ptq_llama2c_head *ptq_llama2c_head(const struct ptq_llama2c *);
/* dim[1] is 0 for a vector. PTQ_SKIP (no status set): no such tensor. */
int ptq_llama2c_find(const struct ptq_llama2c *, const char *tensor, int64_t dim[2]);
int ptq_llama2c_read(const struct ptq_llama2c *, const char *tensor, struct ptq_arena *, float **,
                     struct ptq_status *);
#endif
