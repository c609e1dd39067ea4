/* arch_bloom.c: BLOOM: no positions but linear biases on the scores (ALiBi), a norm on the
 * embedding, blocks of gpt_block.h with the norms before their halves, tanh's GELU, a norm before
 * the tied head. Files of transformers keep q, k and v as one matrix, head by head. */
#include "core/num.h"
#include "model/gpt_block.h"

extern const struct ptq_arch ptq_arch_bloom;

enum outer { EMBD_NORM, EMBD_NORM_BIAS, OUTPUT_NORM, OUTPUT_NORM_BIAS };

/* The first p heads, p the largest power of two that is not above n, have the slopes 2^(-8 (h + 1)
 * / p); the others every second one of 2p heads: 2^(-4 (2 (h - p) + 1) / p). */
static void slopes(int64_t n, float *out)
{
    int64_t p = 1;
    while (2 * p <= n)
        p *= 2;
    for (int64_t h = 0; h < n; h++) {
        double power = h < p ? 8 * (double)(h + 1) : 4 * (double)(2 * (h - p) + 1);
        out[h] = (float)ptq_pow(2, -power / (double)p);
    }
}

static const struct ptq_gpt_kind kind = {.slopes = slopes};

static int check(const struct ptq_model_info *m, struct ptq_status *st)
{
    return ptq_gpt_check_normed(m, "no positions", st);
}

static void outer(const struct ptq_model_info *m, struct ptq_outer *out)
{
    out[EMBD_NORM] = (struct ptq_outer){"embd_norm", m->d_model, 0, false};
    out[EMBD_NORM_BIAS] = (struct ptq_outer){"embd_norm.bias", m->d_model, 0, false};
    out[OUTPUT_NORM] = (struct ptq_outer){"output_norm", m->d_model, 0, true};
    out[OUTPUT_NORM_BIAS] = (struct ptq_outer){"output_norm.bias", m->d_model, 0, true};
}

static void norm(const struct ptq_edge *e, int gain)
{
    ptq_layer_norm_rows(e->outer[gain], e->outer[gain + 1], e->info->norm_eps, e->in, e->n,
                        e->info->d_model, e->out);
}

static int embed(const struct ptq_edge *e, struct ptq_status *st)
{
    (void)st;
    norm(e, EMBD_NORM);
    return PTQ_OK;
}

static int finish(const struct ptq_edge *e, struct ptq_status *st)
{
    (void)st;
    norm(e, OUTPUT_NORM);
    return PTQ_OK;
}

static int run_sequence(const struct ptq_sequence *q, struct ptq_status *st)
{
    return ptq_gpt_run(q, &kind, st);
}

/* ---- how the outside calls it */

static const char *const types[] = {"bloom", NULL};
static const char *const hf_prefixes[] = {"transformer.", "", NULL};
static const struct ptq_name hf_names[] = {
    {"tok_embd", "@word_embeddings.weight", 0, 0},
    {"embd_norm", "@word_embeddings_layernorm.weight", 0, 0},
    {"embd_norm.bias", "@word_embeddings_layernorm.bias", 0, 0},
    {"output_norm", "@ln_f.weight", 0, 0},
    {"output_norm.bias", "@ln_f.bias", 0, 0},
    {"output", "lm_head.weight", 0, 0},
    {"attn_norm", "@h.%d.input_layernorm.weight", 0, 0},
    {"attn_norm.bias", "@h.%d.input_layernorm.bias", 0, 0},
    {"ffn_norm", "@h.%d.post_attention_layernorm.weight", 0, 0},
    {"ffn_norm.bias", "@h.%d.post_attention_layernorm.bias", 0, 0},
    {"attn_q", "@h.%d.self_attention.query_key_value.weight", PTQ_FUSED_BY_HEAD, 0},
    {"attn_k", "@h.%d.self_attention.query_key_value.weight", PTQ_FUSED_BY_HEAD, 1},
    {"attn_v", "@h.%d.self_attention.query_key_value.weight", PTQ_FUSED_BY_HEAD, 2},
    {"attn_q.bias", "@h.%d.self_attention.query_key_value.bias", PTQ_FUSED_BY_HEAD, 0},
    {"attn_k.bias", "@h.%d.self_attention.query_key_value.bias", PTQ_FUSED_BY_HEAD, 1},
    {"attn_v.bias", "@h.%d.self_attention.query_key_value.bias", PTQ_FUSED_BY_HEAD, 2},
    {"attn_o", "@h.%d.self_attention.dense.weight", 0, 0},
    {"attn_o.bias", "@h.%d.self_attention.dense.bias", 0, 0},
    {"ffn_up", "@h.%d.mlp.dense_h_to_4h.weight", 0, 0},
    {"ffn_up.bias", "@h.%d.mlp.dense_h_to_4h.bias", 0, 0},
    {"ffn_down", "@h.%d.mlp.dense_4h_to_h.weight", 0, 0},
    {"ffn_down.bias", "@h.%d.mlp.dense_4h_to_h.bias", 0, 0},
    {NULL, NULL, 0, 0},
};

/* Any context can be run; where a file does not say which one was trained, it was 2048. */
enum { TRAINED_CONTEXT = 2048 };

static int configure_hf(const struct ptq_meta *m, struct ptq_model_info *i, struct ptq_status *st)
{
    int rc;
    i->activation = PTQ_GELU_TANH;
    i->qkv_bias = i->o_bias = i->mlp_bias = i->tied_head = true;
    i->max_context = TRAINED_CONTEXT;
    if ((rc = ptq_gpt_unpacked(m, st)) ||
        (rc = ptq_gpt_fixed(m, "apply_residual_connection_post_layernorm", false,
                            "the sums would start from the normed states", st)) ||
        (rc = ptq_gpt_count(m, "hidden_size", "n_embed", &i->d_model, st)) ||
        (rc = ptq_gpt_count(m, "n_layer", "num_hidden_layers", &i->n_blocks, st)) ||
        (rc = ptq_gpt_count(m, "n_head", "num_attention_heads", &i->n_heads, st)) ||
        (rc = ptq_gpt_count(m, "vocab_size", NULL, &i->vocab_size, st)) ||
        (rc = ptq_meta_i64(m, "seq_length", false, 1, 1 << 24, &i->max_context, st)) ||
        (rc = ptq_meta_f64(m, "layer_norm_epsilon", false, 0, 1, &i->norm_eps, st)) ||
        (rc = ptq_meta_bool(m, "tie_word_embeddings", false, &i->tied_head, st)))
        return rc;
    i->d_ff = 4 * i->d_model;
    return ptq_gpt_heads(m, i, st);
}

const struct ptq_arch ptq_arch_bloom = {
    .name = "bloom",
    .hf = {types, hf_prefixes, hf_names, configure_hf},
    .gguf = {types, NULL, ptq_gpt_gguf_names, ptq_gpt_configure_gguf},
    .check = check,
    .layout = ptq_gpt_layout,
    .outer = outer,
    .embed = embed,
    .finish = finish,
    .scratch_floats = ptq_gpt_scratch,
    .run_sequence = run_sequence,
};
