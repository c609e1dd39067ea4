/* attention.h: attention of one sequence with grouped heads. An own kernel, because products of a
 * head (16 to 128 wide) would drown in the padding of the GEMM tiles. A position's result depends
 * on the positions that it may see alone (what it may not see can be NaN), and has the same bits
 * for any thread count and on every processor with fused multiply-adds. Working memory (120 KiB) is
 * on the stack of each thread. */
#ifndef PTQ_MODEL_ATTENTION_H
#define PTQ_MODEL_ATTENTION_H
#include "core/pool.h"
#include "ptq.h"

struct ptq_attention {
    int64_t len, n_heads, n_kv_heads, head_dim; /* n_heads a multiple of n_kv_heads */
    const float *
        q; /* (len x n_heads head_dim), rotated; head h reads key head h / (n_heads / n_kv_heads) */
    const float *k, *v; /* (len x n_kv_heads head_dim), k rotated */
    float *out;         /* (len x n_heads head_dim) */
    bool bidirectional; /* every position sees all; else itself and those before it */
    int64_t window;     /* 0: all of them; else i sees key j only where i - j < window */
    /* ALiBi: [n_heads], or NULL. slope (j - i) is added to the scaled score: the usual slope j but
     * for a constant of the row, small where it matters. */
    const float *slopes;
    float scale;           /* 0: 1 / sqrt(head_dim) */
    struct ptq_pool *pool; /* NULL or inside a parallel loop: serial */
};
void ptq_attention_run(const struct ptq_attention *);
#endif
