/* arch_gpt2.c: GPT-2: learned positions, blocks of gpt_block.h with the norms before their halves,
 * tanh's GELU, a norm before the (mostly tied) head. Files of transformers keep the matrices as
 * Conv1D does, (d_in x d_out), and q, k and v as one. */
#include "model/gpt_block.h"

extern const struct ptq_arch ptq_arch_gpt2;

enum outer { POSITIONS, OUTPUT_NORM, OUTPUT_NORM_BIAS };
static const struct ptq_gpt_kind kind = {0};

static int check(const struct ptq_model_info *m, struct ptq_status *st)
{
    return ptq_gpt_check_normed(m, "positions from row 0", st);
}

static void outer(const struct ptq_model_info *m, struct ptq_outer *out)
{
    out[POSITIONS] = (struct ptq_outer){"pos_embd", m->max_context, m->d_model, false};
    out[OUTPUT_NORM] = (struct ptq_outer){"output_norm", m->d_model, 0, true};
    out[OUTPUT_NORM_BIAS] = (struct ptq_outer){"output_norm.bias", m->d_model, 0, true};
}

static int embed(const struct ptq_edge *e, struct ptq_status *st)
{
    (void)st;
    const int64_t n = e->n * e->info->d_model;
    for (int64_t i = 0; i < n; i++)
        e->out[i] = e->in[i] + e->outer[POSITIONS][i];
    return PTQ_OK;
}

static int finish(const struct ptq_edge *e, struct ptq_status *st)
{
    (void)st;
    ptq_layer_norm_rows(e->outer[OUTPUT_NORM], e->outer[OUTPUT_NORM_BIAS], e->info->norm_eps, e->in,
                        e->n, e->info->d_model, e->out);
    return PTQ_OK;
}

static int run_sequence(const struct ptq_sequence *q, struct ptq_status *st)
{
    return ptq_gpt_run(q, &kind, st);
}

/* ---- how the outside calls it */

static const char *const types[] = {"gpt2", NULL};
static const char *const hf_prefixes[] = {"transformer.", "", NULL};
static const struct ptq_name hf_names[] = {
    {"tok_embd", "@wte.weight", 0, 0},
    {"pos_embd", "@wpe.weight", 0, 0},
    {"output_norm", "@ln_f.weight", 0, 0},
    {"output_norm.bias", "@ln_f.bias", 0, 0},
    {"output", "lm_head.weight", 0, 0},
    {"attn_norm", "@h.%d.ln_1.weight", 0, 0},
    {"attn_norm.bias", "@h.%d.ln_1.bias", 0, 0},
    {"ffn_norm", "@h.%d.ln_2.weight", 0, 0},
    {"ffn_norm.bias", "@h.%d.ln_2.bias", 0, 0},
    {"attn_q", "@h.%d.attn.c_attn.weight", PTQ_FUSED | PTQ_TRANSPOSED, 0},
    {"attn_k", "@h.%d.attn.c_attn.weight", PTQ_FUSED | PTQ_TRANSPOSED, 1},
    {"attn_v", "@h.%d.attn.c_attn.weight", PTQ_FUSED | PTQ_TRANSPOSED, 2},
    {"attn_q.bias", "@h.%d.attn.c_attn.bias", PTQ_FUSED, 0},
    {"attn_k.bias", "@h.%d.attn.c_attn.bias", PTQ_FUSED, 1},
    {"attn_v.bias", "@h.%d.attn.c_attn.bias", PTQ_FUSED, 2},
    {"attn_o", "@h.%d.attn.c_proj.weight", PTQ_TRANSPOSED, 0},
    {"attn_o.bias", "@h.%d.attn.c_proj.bias", 0, 0},
    {"ffn_up", "@h.%d.mlp.c_fc.weight", PTQ_TRANSPOSED, 0},
    {"ffn_up.bias", "@h.%d.mlp.c_fc.bias", 0, 0},
    {"ffn_down", "@h.%d.mlp.c_proj.weight", PTQ_TRANSPOSED, 0},
    {"ffn_down.bias", "@h.%d.mlp.c_proj.bias", 0, 0},
    {NULL, NULL, 0, 0},
};

static int check_settings(const struct ptq_meta *m, struct ptq_status *st)
{
    int rc = ptq_gpt_fixed(m, "scale_attn_weights", true,
                           "scores of the attention would not be divided by the root of the head's "
                           "width",
                           st);
    if (!rc)
        rc = ptq_gpt_fixed(m, "scale_attn_by_inverse_layer_idx", false,
                           "scores of the attention would be divided by the block's number", st);
    if (!rc)
        rc = ptq_gpt_fixed(m, "add_cross_attention", false,
                           "blocks would read an encoder's output as well", st);
    return rc;
}

static int configure_hf(const struct ptq_meta *m, struct ptq_model_info *i, struct ptq_status *st)
{
    int rc;
    i->activation = PTQ_GELU_TANH;
    i->qkv_bias = i->o_bias = i->mlp_bias = i->tied_head = true;
    if ((rc = ptq_gpt_unpacked(m, st)) || (rc = check_settings(m, st)) ||
        (rc = ptq_gpt_count(m, "n_embd", "hidden_size", &i->d_model, st)) ||
        (rc = ptq_gpt_count(m, "n_layer", "num_hidden_layers", &i->n_blocks, st)) ||
        (rc = ptq_gpt_count(m, "n_head", "num_attention_heads", &i->n_heads, st)) ||
        (rc = ptq_gpt_count(m, "n_positions", "max_position_embeddings", &i->max_context, st)) ||
        (rc = ptq_gpt_count(m, "vocab_size", NULL, &i->vocab_size, st)) ||
        (rc = ptq_meta_f64(m, "layer_norm_epsilon", false, 0, 1, &i->norm_eps, st)) ||
        (rc = ptq_gpt_activation(m, "activation_function", &i->activation, st)) ||
        (rc = ptq_meta_bool(m, "tie_word_embeddings", false, &i->tied_head, st)))
        return rc;
    i->d_ff = 4 * i->d_model;
    if (ptq_meta_find(m, "n_inner") && (rc = ptq_gpt_count(m, "n_inner", NULL, &i->d_ff, st)))
        return rc;
    return ptq_gpt_heads(m, i, st);
}

const struct ptq_arch ptq_arch_gpt2 = {
    .name = "gpt2",
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
