/* arch_bert.c: BERT's encoder: learned positions, every token sees all others, norms behind the
 * residual sums.
 *   x0 = LN(tok[id] + pos[t] + type[0])
 *   h = LN(x + Wo attention(Wq x + bq, Wk x + bk, Wv x + bv) + bo)
 *   y = LN(h + W2 act(W1 h + b1) + b2)
 * with LN(x) = (x - mean) / sqrt(var + eps) * g + b. Its output are hidden states. */
#include "model/gpt_block.h"
#include <string.h>

extern const struct ptq_arch ptq_arch_bert;

enum outer { POSITIONS, TYPES, EMBD_NORM, EMBD_NORM_BIAS };

static int check(const struct ptq_model_info *m, struct ptq_status *st)
{
    if (!m->encoder || !m->qkv_bias || !m->o_bias || !m->mlp_bias || !m->post_norm ||
        m->n_token_types < 1 || m->n_kv_heads != m->n_heads || m->qk_norm || m->sliding_window ||
        m->position_offset || m->d_embd != m->d_model)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: a model of architecture bert is an encoder with biases, token "
                              "types and as many key heads as heads; the configuration says "
                              "otherwise",
                              m->source);
    return PTQ_OK;
}

static void outer(const struct ptq_model_info *m, struct ptq_outer *out)
{
    out[POSITIONS] = (struct ptq_outer){"pos_embd", m->max_context, m->d_model, false};
    out[TYPES] = (struct ptq_outer){"type_embd", m->n_token_types, m->d_model, false};
    out[EMBD_NORM] = (struct ptq_outer){"embd_norm", m->d_model, 0, false};
    out[EMBD_NORM_BIAS] = (struct ptq_outer){"embd_norm.bias", m->d_model, 0, false};
}

/* All tokens are of the first type: texts are scored one by one. */
static int embed(const struct ptq_edge *e, struct ptq_status *st)
{
    const int64_t d = e->info->d_model;
    (void)st;
    memmove(e->out, e->in, (size_t)(e->n * d) * sizeof *e->out);
    ptq_add_rows(e->out, e->outer[TYPES], e->n, d);
    ptq_add_to(e->out, e->outer[POSITIONS], e->n * d);
    ptq_layer_norm_rows(e->outer[EMBD_NORM], e->outer[EMBD_NORM_BIAS], e->info->norm_eps, e->out,
                        e->n, d, e->out);
    return PTQ_OK;
}

/* ---- how the outside calls it */

static const char *const hf_types[] = {"bert", NULL};
static const char *const hf_prefixes[] = {"", "bert.", NULL};
static const struct ptq_name hf_names[] = {
    {"tok_embd", "@embeddings.word_embeddings.weight", 0, 0},
    {"pos_embd", "@embeddings.position_embeddings.weight", 0, 0},
    {"type_embd", "@embeddings.token_type_embeddings.weight", 0, 0},
    {"embd_norm", "@embeddings.LayerNorm.weight", 0, 0},
    {"embd_norm.bias", "@embeddings.LayerNorm.bias", 0, 0},
    {"attn_q", "@encoder.layer.%d.attention.self.query.weight", 0, 0},
    {"attn_k", "@encoder.layer.%d.attention.self.key.weight", 0, 0},
    {"attn_v", "@encoder.layer.%d.attention.self.value.weight", 0, 0},
    {"attn_o", "@encoder.layer.%d.attention.output.dense.weight", 0, 0},
    {"ffn_up", "@encoder.layer.%d.intermediate.dense.weight", 0, 0},
    {"ffn_down", "@encoder.layer.%d.output.dense.weight", 0, 0},
    {"attn_q.bias", "@encoder.layer.%d.attention.self.query.bias", 0, 0},
    {"attn_k.bias", "@encoder.layer.%d.attention.self.key.bias", 0, 0},
    {"attn_v.bias", "@encoder.layer.%d.attention.self.value.bias", 0, 0},
    {"attn_o.bias", "@encoder.layer.%d.attention.output.dense.bias", 0, 0},
    {"ffn_up.bias", "@encoder.layer.%d.intermediate.dense.bias", 0, 0},
    {"ffn_down.bias", "@encoder.layer.%d.output.dense.bias", 0, 0},
    {"attn_norm", "@encoder.layer.%d.attention.output.LayerNorm.weight", 0, 0},
    {"attn_norm.bias", "@encoder.layer.%d.attention.output.LayerNorm.bias", 0, 0},
    {"ffn_norm", "@encoder.layer.%d.output.LayerNorm.weight", 0, 0},
    {"ffn_norm.bias", "@encoder.layer.%d.output.LayerNorm.bias", 0, 0},
    {NULL, NULL, 0, 0},
};

static int configure_hf(const struct ptq_meta *m, struct ptq_model_info *i, struct ptq_status *st)
{
    const int64_t most = 1 << 24;
    int rc;
    i->encoder = i->qkv_bias = i->o_bias = i->mlp_bias = i->post_norm = true;
    i->norm_eps = 1e-12;
    i->activation = PTQ_GELU;
    i->n_token_types = 2;
    if ((rc = ptq_meta_i64(m, "hidden_size", true, 1, most, &i->d_model, st)) ||
        (rc = ptq_meta_i64(m, "num_hidden_layers", true, 1, 1 << 14, &i->n_blocks, st)) ||
        (rc = ptq_meta_i64(m, "num_attention_heads", true, 1, 1 << 14, &i->n_heads, st)) ||
        (rc = ptq_meta_i64(m, "intermediate_size", true, 1, most, &i->d_ff, st)) ||
        (rc = ptq_meta_i64(m, "vocab_size", true, 1, most, &i->vocab_size, st)) ||
        (rc = ptq_meta_i64(m, "max_position_embeddings", true, 1, most, &i->max_context, st)) ||
        (rc = ptq_meta_i64(m, "type_vocab_size", false, 1, most, &i->n_token_types, st)) ||
        (rc = ptq_meta_f64(m, "layer_norm_eps", false, 0, 1, &i->norm_eps, st)) ||
        (rc = ptq_gpt_activation(m, "hidden_act", &i->activation, st)) ||
        (rc = ptq_meta_only(m, "position_embedding_type", "absolute", st)) ||
        (rc = ptq_gpt_fixed(m, "is_decoder", false, "a token would see those before it alone",
                            st)) ||
        (rc = ptq_gpt_fixed(m, "add_cross_attention", false,
                            "blocks would read another model's output as well", st)) ||
        (rc = ptq_gpt_unpacked(m, st)))
        return rc;
    return ptq_gpt_heads(m, i, st);
}

static int run_sequence(const struct ptq_sequence *q, struct ptq_status *st)
{
    static const struct ptq_gpt_kind kind = {.bidirectional = true};
    return ptq_gpt_run(q, &kind, st);
}

const struct ptq_arch ptq_arch_bert = {
    .name = "bert",
    .hf = {hf_types, hf_prefixes, hf_names, configure_hf},
    .check = check,
    .layout = ptq_gpt_layout,
    .outer = outer,
    .embed = embed,
    .scratch_floats = ptq_gpt_scratch,
    .run_sequence = run_sequence,
};
