#include "model/gpt_block.h"
#include "core/size.h"
#include "model/attention.h"
#include <string.h>

enum linear { Q, K, V, O, UP, DOWN, N_LINEARS };
enum vector {
    NORM1,
    NORM1_BIAS,
    NORM2,
    NORM2_BIAS,
    Q_BIAS,
    K_BIAS,
    V_BIAS,
    O_BIAS,
    UP_BIAS,
    DOWN_BIAS,
    N_VECTORS
};
enum stage { ATTN_IN, O_IN, FFN_IN, DOWN_IN, N_STAGES };

/* ---- tensors */

int ptq_gpt_layout(const struct ptq_model_info *m, int index, struct ptq_arena *a,
                   struct ptq_block *b, struct ptq_status *st)
{
    static const char *const input[N_STAGES] = {"attn_in", "attn_o_in", "ffn_in", "ffn_down_in"};
    const int64_t d = m->d_model, q = m->n_heads * m->head_dim;
    const struct ptq_linear_spec lin[N_LINEARS] = {
        [Q] = {"attn_q", PTQ_ROLE_Q, ATTN_IN, q, d},
        [K] = {"attn_k", PTQ_ROLE_K, ATTN_IN, q, d},
        [V] = {"attn_v", PTQ_ROLE_V, ATTN_IN, q, d},
        [O] = {"attn_o", PTQ_ROLE_O, O_IN, d, q},
        [UP] = {"ffn_up", PTQ_ROLE_FC1, FFN_IN, m->d_ff, d},
        [DOWN] = {"ffn_down", PTQ_ROLE_FC2, DOWN_IN, d, m->d_ff},
    };
    const struct ptq_vector_spec vec[N_VECTORS] = {
        [NORM1] = {"attn_norm", d},
        [NORM1_BIAS] = {"attn_norm.bias", d},
        [NORM2] = {"ffn_norm", d},
        [NORM2_BIAS] = {"ffn_norm.bias", d},
        [Q_BIAS] = {m->qkv_bias ? "attn_q.bias" : NULL, q},
        [K_BIAS] = {m->qkv_bias ? "attn_k.bias" : NULL, q},
        [V_BIAS] = {m->qkv_bias ? "attn_v.bias" : NULL, q},
        [O_BIAS] = {m->o_bias ? "attn_o.bias" : NULL, d},
        [UP_BIAS] = {m->mlp_bias ? "ffn_up.bias" : NULL, m->d_ff},
        [DOWN_BIAS] = {m->mlp_bias ? "ffn_down.bias" : NULL, d},
    };
    /* A norm behind the sum is the residual as well: nothing folds into it. relu(x / s) =
     * relu(x) / s, which no other function here has. */
    const enum ptq_producer normed = m->post_norm ? PTQ_PRODUCER_NONE : PTQ_PRODUCER_NORM;
    const enum ptq_producer producer[N_STAGES] = {
        [ATTN_IN] = normed,
        [O_IN] = PTQ_PRODUCER_LINEAR,
        [FFN_IN] = normed,
        [DOWN_IN] = m->activation == PTQ_RELU ? PTQ_PRODUCER_LINEAR : PTQ_PRODUCER_NONE};
    const struct ptq_layout_spec s = {lin, vec, N_LINEARS, N_VECTORS, N_STAGES, input, producer};
    return ptq_layout_fill(&s, index, a, b, st);
}

/* ---- one sequence */

/* Pieces of the scratch. hidden overlays q, k, v and what follows, done by then. */
struct buffers {
    float *norm; /* (len x d_model): input of a half, then what it adds to x */
    float *q, *k, *v;
    float *mixed; /* (len x q) output of the heads */
    float *slopes;
    float *hidden; /* (len x d_ff) */
};

static int64_t attention_floats(const struct ptq_model_info *m, int64_t len)
{
    int64_t n;
    if (!ptq_size_mul(4 * len, m->n_heads * m->head_dim, &n) || !ptq_size_add(n, m->n_heads, &n))
        return -1;
    return n;
}

int64_t ptq_gpt_scratch(const struct ptq_model_info *m, int64_t len)
{
    int64_t a = attention_floats(m, len), f, n;
    if (a < 0 || !ptq_size_mul(len, m->d_ff, &f) || !ptq_size_mul(len, m->d_model, &n) ||
        !ptq_size_add(n, a > f ? a : f, &n))
        return -1;
    return n;
}

static void split(const struct ptq_model_info *m, int64_t len, float *scratch, struct buffers *b)
{
    const int64_t q = len * m->n_heads * m->head_dim;
    float *rest = scratch + len * m->d_model;
    *b = (struct buffers){.norm = scratch,
                          .q = rest,
                          .k = rest + q,
                          .v = rest + 2 * q,
                          .mixed = rest + 3 * q,
                          .slopes = rest + 4 * q,
                          .hidden = rest};
}

/* gain: slot of a norm, its bias in the next one. */
static void norm(const struct ptq_sequence *q, int gain, const float *x, float *y)
{
    const struct ptq_model_info *m = ptq_model_info(q->model);
    const struct ptq_vector *v = q->block->vec;
    ptq_layer_norm_rows(v[gain].at, v[gain + 1].at, m->norm_eps, x, q->len, m->d_model, y);
}

/* What a half reads: the normed hidden states, or a copy of them as they are: products add to x
 * only after it was read, and the buffer holds their sum then. */
static void enter(const struct ptq_sequence *q, int gain, float *y)
{
    const struct ptq_model_info *m = ptq_model_info(q->model);
    if (m->post_norm)
        memcpy(y, q->x, (size_t)(q->len * m->d_model) * sizeof *y);
    else
        norm(q, gain, q->x, y);
}

static void leave(const struct ptq_sequence *q, int gain, const float *y)
{
    const struct ptq_model_info *m = ptq_model_info(q->model);
    ptq_add_to(q->x, y, q->len * m->d_model);
    if (m->post_norm)
        norm(q, gain, q->x, q->x);
}

static int attend(const struct ptq_sequence *q, const struct ptq_gpt_kind *kind,
                  const struct buffers *b, struct ptq_status *st)
{
    const struct ptq_model_info *m = ptq_model_info(q->model);
    if (kind->slopes)
        kind->slopes(m->n_heads, b->slopes);
    const struct ptq_attention a = {.len = q->len,
                                    .n_heads = m->n_heads,
                                    .n_kv_heads = m->n_heads,
                                    .head_dim = m->head_dim,
                                    .q = b->q,
                                    .k = b->k,
                                    .v = b->v,
                                    .out = b->mixed,
                                    .bidirectional = kind->bidirectional,
                                    .slopes = kind->slopes ? b->slopes : NULL,
                                    .pool = q->pool};
    const struct ptq_shown_attention shown = {.at = &a, .x = b->norm};
    int rc = ptq_tap_attention(q, ATTN_IN, &shown, st);
    if (rc == PTQ_OK)
        ptq_attention_run(&a);
    return rc;
}

static int attention_half(const struct ptq_sequence *q, const struct ptq_gpt_kind *kind,
                          const struct buffers *b, struct ptq_status *st)
{
    int rc;
    enter(q, NORM1, b->norm);
    if ((rc = ptq_tap_show(q, ATTN_IN, b->norm, st)) ||
        (rc = ptq_linear_run(q, Q, Q_BIAS, b->norm, b->q, st)) ||
        (rc = ptq_linear_run(q, K, K_BIAS, b->norm, b->k, st)) ||
        (rc = ptq_linear_run(q, V, V_BIAS, b->norm, b->v, st)) || (rc = attend(q, kind, b, st)))
        return rc;
    if ((rc = ptq_tap_show(q, O_IN, b->mixed, st)) ||
        (rc = ptq_linear_run(q, O, O_BIAS, b->mixed, b->norm, st)) ||
        (rc = ptq_tap_output(q, b->norm, st)))
        return rc;
    leave(q, NORM1, b->norm);
    return PTQ_OK;
}

static int mlp_half(const struct ptq_sequence *q, const struct buffers *b, struct ptq_status *st)
{
    const struct ptq_model_info *m = ptq_model_info(q->model);
    int rc;
    enter(q, NORM2, b->norm);
    if ((rc = ptq_tap_show(q, FFN_IN, b->norm, st)) ||
        (rc = ptq_linear_run(q, UP, UP_BIAS, b->norm, b->hidden, st)))
        return rc;
    ptq_activate((enum ptq_activation)m->activation, b->hidden, q->len * m->d_ff);
    if ((rc = ptq_tap_show(q, DOWN_IN, b->hidden, st)) ||
        (rc = ptq_linear_run(q, DOWN, DOWN_BIAS, b->hidden, b->norm, st)) ||
        (rc = ptq_tap_output(q, b->norm, st)))
        return rc;
    leave(q, NORM2, b->norm);
    return PTQ_OK;
}

int ptq_gpt_run(const struct ptq_sequence *q, const struct ptq_gpt_kind *kind,
                struct ptq_status *st)
{
    struct buffers b;
    split(ptq_model_info(q->model), q->len, q->scratch, &b);
    int rc = ptq_runs_half(q, PTQ_ATTENTION_HALF) ? attention_half(q, kind, &b, st) : PTQ_OK;
    if (rc == PTQ_OK && ptq_runs_half(q, PTQ_MLP_HALF))
        rc = mlp_half(q, &b, st);
    return rc == PTQ_SKIP ? PTQ_OK : rc;
}

/* ---- settings */

int ptq_gpt_check(const struct ptq_model_info *m, struct ptq_status *st)
{
    const struct {
        bool on;
        const char *what;
    } faults[] = {
        {m->n_kv_heads != m->n_heads, "fewer key heads than heads"},
        {m->sliding_window != 0 || m->window_from != 0, "a sliding window"},
        {m->qk_norm, "norms of q and k"},
        {m->rope.scaling != PTQ_ROPE_PLAIN, "scaled rotary positions"},
        {m->n_token_types != 0, "token types"},
        {m->encoder, "hidden states for output"},
        {m->post_norm && !m->no_final_norm, "a norm before the head behind blocks with post_norm"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        if (faults[i].on)
            return ptq_status_set(st, PTQ_ERR_USAGE,
                                  "%s: the configuration asks for %s, which the architecture %s "
                                  "does not have; repair the configuration",
                                  m->source, faults[i].what, m->arch);
    return PTQ_OK;
}

int ptq_gpt_check_normed(const struct ptq_model_info *m, const char *positions,
                         struct ptq_status *st)
{
    int rc = ptq_gpt_check(m, st);
    if (rc || !(m->post_norm || m->no_final_norm || m->d_embd != m->d_model || m->position_offset))
        return rc;
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: a model of architecture %s has its norms before the halves of a "
                          "block and before the head, %s and an embedding of its own width; "
                          "config.json says otherwise: is its model_type right?",
                          m->source, m->arch, positions);
}

enum { MOST = 1 << 24 };

int ptq_gpt_count(const struct ptq_meta *m, const char *key, const char *other, int64_t *out,
                  struct ptq_status *st)
{
    const char *name = other && !ptq_meta_find(m, key) && ptq_meta_find(m, other) ? other : key;
    return ptq_meta_i64(m, name, true, 1, MOST, out, st);
}

int ptq_gpt_activation(const struct ptq_meta *m, const char *key, int *out, struct ptq_status *st)
{
    static const char *const words[] = {"relu", "gelu",  "gelu_new", "gelu_pytorch_tanh",
                                        "silu", "swish", NULL};
    static const int functions[] = {PTQ_RELU,      PTQ_GELU, PTQ_GELU_TANH,
                                    PTQ_GELU_TANH, PTQ_SILU, PTQ_SILU};
    int word = -1;
    int rc = ptq_meta_word(m, key, false, words, &word, st);
    if (word >= 0)
        *out = functions[word];
    return rc;
}

int ptq_gpt_fixed(const struct ptq_meta *m, const char *key, bool wanted, const char *differs,
                  struct ptq_status *st)
{
    bool have = wanted;
    int rc = ptq_meta_bool(m, key, false, &have, st);
    if (rc || have == wanted)
        return rc;
    return ptq_status_set(
        st, PTQ_ERR_USAGE, "%s: the setting %s is %s, which is not supported: %s; supported is %s",
        m->source, key, have ? "true" : "false", differs, wanted ? "true" : "false");
}

int ptq_gpt_unpacked(const struct ptq_meta *m, struct ptq_status *st)
{
    if (!ptq_meta_find(m, "quantization_config"))
        return PTQ_OK;
    return ptq_status_set(
        st, PTQ_ERR_USAGE,
        "%s: the checkpoint holds packed quantized weights (quantization_config); "
        "supported: checkpoints of F32, F16 or BF16 weights",
        m->source);
}

int ptq_gpt_heads(const struct ptq_meta *m, struct ptq_model_info *i, struct ptq_status *st)
{
    if (i->d_model % i->n_heads != 0)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: the width %lld is not a multiple of the %lld heads; repair the "
                              "configuration",
                              m->source, (long long)i->d_model, (long long)i->n_heads);
    i->head_dim = i->d_model / i->n_heads;
    i->n_kv_heads = i->n_heads;
    return PTQ_OK;
}

const struct ptq_name ptq_gpt_gguf_names[] = {
    {"tok_embd", "token_embd.weight", 0, 0},
    {"pos_embd", "position_embd.weight", 0, 0},
    {"embd_norm", "token_embd_norm.weight", 0, 0},
    {"embd_norm.bias", "token_embd_norm.bias", 0, 0},
    {"output_norm", "output_norm.weight", 0, 0},
    {"output_norm.bias", "output_norm.bias", 0, 0},
    {"output", "output.weight", 0, 0},
    {"attn_norm", "blk.%d.attn_norm.weight", 0, 0},
    {"attn_norm.bias", "blk.%d.attn_norm.bias", 0, 0},
    {"ffn_norm", "blk.%d.ffn_norm.weight", 0, 0},
    {"ffn_norm.bias", "blk.%d.ffn_norm.bias", 0, 0},
    {"attn_q", "blk.%d.attn_qkv.weight", PTQ_FUSED, 0},
    {"attn_k", "blk.%d.attn_qkv.weight", PTQ_FUSED, 1},
    {"attn_v", "blk.%d.attn_qkv.weight", PTQ_FUSED, 2},
    {"attn_q.bias", "blk.%d.attn_qkv.bias", PTQ_FUSED, 0},
    {"attn_k.bias", "blk.%d.attn_qkv.bias", PTQ_FUSED, 1},
    {"attn_v.bias", "blk.%d.attn_qkv.bias", PTQ_FUSED, 2},
    {"attn_o", "blk.%d.attn_output.weight", 0, 0},
    {"attn_o.bias", "blk.%d.attn_output.bias", 0, 0},
    {"ffn_up", "blk.%d.ffn_up.weight", 0, 0},
    {"ffn_up.bias", "blk.%d.ffn_up.bias", 0, 0},
    {"ffn_down", "blk.%d.ffn_down.weight", 0, 0},
    {"ffn_down.bias", "blk.%d.ffn_down.bias", 0, 0},
    {NULL, NULL, 0, 0},
};

int ptq_gpt_configure_gguf(const struct ptq_meta *m, struct ptq_model_info *i,
                           struct ptq_status *st)
{
    const struct ptq_meta whole = {m->source, m->object, "", m->arena};
    int rc;
    const json_t *tokens = ptq_meta_find(&whole, "tokenizer.ggml.tokens");
    i->vocab_size = (int64_t)json_array_size(tokens);
    i->qkv_bias = i->o_bias = i->mlp_bias = true;
    i->activation = PTQ_GELU_TANH;
    if ((rc = ptq_gpt_count(m, "embedding_length", NULL, &i->d_model, st)) ||
        (rc = ptq_gpt_count(m, "block_count", NULL, &i->n_blocks, st)) ||
        (rc = ptq_gpt_count(m, "attention.head_count", NULL, &i->n_heads, st)) ||
        (rc = ptq_gpt_count(m, "feed_forward_length", NULL, &i->d_ff, st)) ||
        (rc = ptq_gpt_count(m, "context_length", NULL, &i->max_context, st)) ||
        (rc = ptq_meta_i64(m, "vocab_size", !i->vocab_size, 1, MOST, &i->vocab_size, st)) ||
        (rc = ptq_meta_f64(m, "attention.layer_norm_epsilon", true, 0, 1, &i->norm_eps, st)))
        return rc;
    return ptq_gpt_heads(m, i, st);
}
