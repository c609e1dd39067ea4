/* gpt_block.h: the block that OPT, GPT-2 and BLOOM share: LayerNorm, attention with as many key
 * heads as heads, an MLP of two matrices, biases where the model has them.
 *   h = x + Wo attention(Wq n1, Wk n1, Wv n1),  n1 = norm1(x)
 *   y = h + W2 f(W1 n2),                        n2 = norm2(h)
 * or, with the norms behind the sums (info.post_norm),
 *   h = norm1(x + Wo attention(Wq x, Wk x, Wv x)),  y = norm2(h + W2 f(W1 h)). */
#ifndef PTQ_MODEL_GPT_BLOCK_H
#define PTQ_MODEL_GPT_BLOCK_H
#include "model/ops.h"

struct ptq_gpt_kind {
    bool bidirectional; /* every position sees all */
    /* NULL, or fills the slopes of the linear biases (ALiBi): [n_heads] */
    void (*slopes)(int64_t n_heads, float *out);
};
int ptq_gpt_layout(const struct ptq_model_info *, int index, struct ptq_arena *, struct ptq_block *,
                   struct ptq_status *);
int64_t ptq_gpt_scratch(const struct ptq_model_info *, int64_t len);
int ptq_gpt_run(const struct ptq_sequence *, const struct ptq_gpt_kind *, struct ptq_status *);

/* Settings that none of them has: grouped heads, rotation, windows, norms of q and k, token types,
 * an output without head: PTQ_ERR_USAGE when one is on. */
int ptq_gpt_check(const struct ptq_model_info *, struct ptq_status *);
/* GPT-2 and BLOOM: the same, and the norms where they have them, no offset of positions and an
 * embedding of the model's width. positions: what they are there, for the message. */
int ptq_gpt_check_normed(const struct ptq_model_info *, const char *positions, struct ptq_status *);
/* A setting under either of two names, the second may be NULL. */
int ptq_gpt_count(const struct ptq_meta *, const char *key, const char *other, int64_t *out,
                  struct ptq_status *);
/* The words of config.json for the functions that are supported; absent: as it stands. */
int ptq_gpt_activation(const struct ptq_meta *, const char *key, int *out, struct ptq_status *);
/* A switch that must stand as the engine runs it; absent is fine. differs: what the other setting
 * would do, for the message. */
int ptq_gpt_fixed(const struct ptq_meta *, const char *key, bool wanted, const char *differs,
                  struct ptq_status *);
/* A checkpoint of packed quantized weights (quantization_config) is refused. */
int ptq_gpt_unpacked(const struct ptq_meta *, struct ptq_status *);
/* d_model over n_heads, which must divide it, to head_dim and n_kv_heads. */
int ptq_gpt_heads(const struct ptq_meta *, struct ptq_model_info *, struct ptq_status *);
/* GGUF: names of tensors, and the counts and the epsilon under the keys that GPT-2 and BLOOM share.
 */
extern const struct ptq_name ptq_gpt_gguf_names[];
int ptq_gpt_configure_gguf(const struct ptq_meta *, struct ptq_model_info *, struct ptq_status *);
#endif
