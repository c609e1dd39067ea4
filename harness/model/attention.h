/* attention.h: causal attention of one sequence with grouped heads. An own kernel, because
 * products of a head (16 to 128 wide) would drown in the padding of the GEMM tiles. Every sum runs
 * in a fixed order, vectorised over outputs: the same bits on any CPU. A position's result depends
 * on itself and earlier positions alone. */
#ifndef PTQ_MODEL_ATTENTION_H
#define PTQ_MODEL_ATTENTION_H
#include "ptq.h"

struct ptq_attention {
    int64_t len, n_heads, n_kv_heads, head_dim; /* n_heads a multiple of n_kv_heads */
    const float *
        q; /* (len x n_heads head_dim), rotated; head h reads key head h / (n_heads / n_kv_heads) */
    const float *k, *v; /* (len x n_kv_heads head_dim), k rotated */
    float *out;         /* (len x n_heads head_dim) */
    float *scratch;     /* ptq_attention_scratch floats */
};
int64_t ptq_attention_scratch(int64_t len, int64_t head_dim); /* -1: overflow */
void ptq_attention_run(const struct ptq_attention *);
#endif
