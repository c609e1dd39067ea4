/* arch_llama.c: the Llama family: RMSNorm, rotary positions, grouped-head causal attention, SwiGLU.
 *   h = x + Wo attention(rope(Wq n1), rope(Wk n1), Wv n1),  n1 = norm(x) * g1
 *   y = h + Wdown (silu(Wgate n2) * Wup n2),                n2 = norm(h) * g2
 * with norm(x) = x / sqrt(mean(x^2) + eps) and silu(z) = z / (1 + exp(-z)). */
#include "core/rng.h"
#include "core/size.h"
#include "model/attention.h"
#include "model/ops.h"
#include <stdio.h>
#include <string.h>

extern const struct ptq_arch ptq_arch_llama;

enum linear { Q, K, V, O, GATE, UP, DOWN, N_LINEARS };
enum vector { ATTN_NORM, FFN_NORM, Q_BIAS, K_BIAS, V_BIAS, O_BIAS, Q_NORM, K_NORM, N_VECTORS };
enum stage { ATTN_IN, O_IN, FFN_IN, DOWN_IN, N_STAGES };
enum outer { OUTPUT_NORM };

static int check(const struct ptq_model_info *m, struct ptq_status *st)
{
    if (m->head_dim % 2 != 0)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: head_dim %lld is odd: rotary positions turn pairs; repair the configuration",
            m->source, (long long)m->head_dim);
    if (m->activation != PTQ_SILU || m->mlp_bias || m->post_norm || m->no_final_norm ||
        m->position_offset || m->n_token_types || m->encoder || m->d_embd != m->d_model)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: a model of architecture llama has SiLU, norms before its halves "
                              "and at the end, no biases in the MLP, no projection of the "
                              "embedding; the configuration says otherwise",
                              m->source);
    return PTQ_OK;
}

static int layout(const struct ptq_model_info *m, int index, struct ptq_arena *a,
                  struct ptq_block *b, struct ptq_status *st)
{
    static const char *const input[N_STAGES] = {"attn_in", "attn_o_in", "ffn_in", "ffn_down_in"};
    const int64_t d = m->d_model, q = m->n_heads * m->head_dim, kv = m->n_kv_heads * m->head_dim;
    const struct ptq_linear_spec lin[N_LINEARS] = {
        {"attn_q", PTQ_ROLE_Q, ATTN_IN, q, d},
        {"attn_k", PTQ_ROLE_K, ATTN_IN, kv, d},
        {"attn_v", PTQ_ROLE_V, ATTN_IN, kv, d},
        {"attn_o", PTQ_ROLE_O, O_IN, d, q},
        {"ffn_gate", PTQ_ROLE_GATE, FFN_IN, m->d_ff, d},
        {"ffn_up", PTQ_ROLE_UP, FFN_IN, m->d_ff, d},
        {"ffn_down", PTQ_ROLE_DOWN, DOWN_IN, d, m->d_ff},
    };
    const struct ptq_vector_spec vec[N_VECTORS] = {
        {"attn_norm", d},
        {"ffn_norm", d},
        {m->qkv_bias ? "attn_q.bias" : NULL, q},
        {m->qkv_bias ? "attn_k.bias" : NULL, kv},
        {m->qkv_bias ? "attn_v.bias" : NULL, kv},
        {m->o_bias ? "attn_o.bias" : NULL, d},
        {m->qk_norm ? "attn_q_norm" : NULL, m->head_dim},
        {m->qk_norm ? "attn_k_norm" : NULL, m->head_dim},
    };
    /* Attention mixes values channel by channel, and the product with silu(gate) is linear in up: a
     * divisor folds into the rows of v or up. Shared value heads would need shared divisors. */
    const enum ptq_producer producer[N_STAGES] = {
        [ATTN_IN] = PTQ_PRODUCER_NORM,
        [O_IN] = m->n_kv_heads == m->n_heads ? PTQ_PRODUCER_LINEAR : PTQ_PRODUCER_NONE,
        [FFN_IN] = PTQ_PRODUCER_NORM,
        [DOWN_IN] = PTQ_PRODUCER_LINEAR};
    const struct ptq_layout_spec s = {lin, vec, N_LINEARS, N_VECTORS, N_STAGES, input, producer};
    return ptq_layout_fill(&s, index, a, b, st);
}

static void outer(const struct ptq_model_info *m, struct ptq_outer *out)
{
    out[OUTPUT_NORM] = (struct ptq_outer){"output_norm", m->d_model, 0, true};
}

static int finish(const struct ptq_edge *e, struct ptq_status *st)
{
    (void)st;
    ptq_norm_rows(e->outer[OUTPUT_NORM], e->info->norm_eps, e->in, e->n, e->info->d_model, e->out);
    return PTQ_OK;
}

/* ---- how the outside calls it */

static const char *const hf_types[] = {"llama", "mistral", "qwen2", "qwen3", NULL};
static const char *const hf_prefixes[] = {"model.", "", NULL};
static const struct ptq_name hf_names[] = {
    {"tok_embd", "@embed_tokens.weight", 0, 0},
    {"output_norm", "@norm.weight", 0, 0},
    {"output", "lm_head.weight", 0, 0},
    {"attn_norm", "@layers.%d.input_layernorm.weight", 0, 0},
    {"ffn_norm", "@layers.%d.post_attention_layernorm.weight", 0, 0},
    {"attn_q", "@layers.%d.self_attn.q_proj.weight", 0, 0},
    {"attn_k", "@layers.%d.self_attn.k_proj.weight", 0, 0},
    {"attn_v", "@layers.%d.self_attn.v_proj.weight", 0, 0},
    {"attn_o", "@layers.%d.self_attn.o_proj.weight", 0, 0},
    {"attn_q.bias", "@layers.%d.self_attn.q_proj.bias", 0, 0},
    {"attn_k.bias", "@layers.%d.self_attn.k_proj.bias", 0, 0},
    {"attn_v.bias", "@layers.%d.self_attn.v_proj.bias", 0, 0},
    {"attn_o.bias", "@layers.%d.self_attn.o_proj.bias", 0, 0},
    {"attn_q_norm", "@layers.%d.self_attn.q_norm.weight", 0, 0},
    {"attn_k_norm", "@layers.%d.self_attn.k_norm.weight", 0, 0},
    {"ffn_gate", "@layers.%d.mlp.gate_proj.weight", 0, 0},
    {"ffn_up", "@layers.%d.mlp.up_proj.weight", 0, 0},
    {"ffn_down", "@layers.%d.mlp.down_proj.weight", 0, 0},
    {NULL, NULL, 0, 0},
};

static bool is_type(const struct ptq_meta *m, const char *type)
{
    const json_t *v = json_object_get(m->object, "model_type");
    return json_is_string(v) && !strcmp(json_string_value(v), type);
}

static int refuse(const struct ptq_meta *m, const char *what, struct ptq_status *st)
{
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: %s; supported: rope types default, linear and "
                          "llama3, hidden_act silu, unquantized checkpoints",
                          m->source, what);
}

/* rope_scaling of older files, rope_parameters of newer ones (which hold rope_theta too). */
static int configure_rope(const struct ptq_meta *m, struct ptq_rope *r, struct ptq_status *st)
{
    static const char *const words[] = {"default", "linear", "llama3", NULL};
    const bool newer = ptq_meta_find(m, "rope_parameters") != NULL;
    char prefix[32];
    snprintf(prefix, sizeof prefix, "%s.", newer ? "rope_parameters" : "rope_scaling");
    const struct ptq_meta s = {m->source, m->object, prefix, m->arena};
    double turned = 1;
    int rc = ptq_meta_f64(m, "rope_theta", false, 1, 1e12, &r->theta, st);
    if (!rc)
        rc = ptq_meta_f64(m, "partial_rotary_factor", false, 0, 1, &turned, st);
    if (!rc)
        rc = ptq_meta_f64(&s, "partial_rotary_factor", false, 0, 1, &turned, st);
    if (!rc && turned != 1)
        return refuse(m, "only a part of each head is turned (partial_rotary_factor)", st);
    if (!rc) /* newer files hold it there; where both do, transformers takes this one */
        rc = ptq_meta_f64(&s, "rope_theta", false, 1, 1e12, &r->theta, st);
    if (!rc)
        rc = ptq_meta_word(&s, ptq_meta_find(&s, "rope_type") ? "rope_type" : "type", false, words,
                           &r->scaling, st);
    if (rc || r->scaling == PTQ_ROPE_PLAIN)
        return rc;
    rc = ptq_meta_f64(&s, "factor", true, 1e-3, 1e6, &r->factor, st);
    if (rc || r->scaling == PTQ_ROPE_LINEAR)
        return rc;
    if ((rc = ptq_meta_f64(&s, "low_freq_factor", true, 1e-3, 1e6, &r->low, st)) ||
        (rc = ptq_meta_f64(&s, "high_freq_factor", true, 1e-3, 1e6, &r->high, st)))
        return rc;
    static const char original[] = "original_max_position_embeddings";
    const bool outside = ptq_meta_find(m, original) != NULL;
    rc = ptq_meta_i64(&s, original, !outside, 1, 1 << 24, &r->original_context, st);
    if (!rc && outside && !ptq_meta_find(&s, original))
        rc = ptq_meta_i64(m, original, true, 1, 1 << 24, &r->original_context, st);
    return rc;
}

/* Newer files name every block's kind; the first windowed one of such a list is window_from, and
 * all behind it must be windowed. */
static int configure_layer_types(const struct ptq_meta *m, struct ptq_model_info *i,
                                 struct ptq_status *st)
{
    const json_t *list = ptq_meta_find(m, "layer_types");
    if (!list)
        return PTQ_OK;
    const size_t n = json_array_size(list);
    if ((int64_t)n != i->n_blocks)
        return refuse(m, "layer_types does not name the kind of every block", st);
    i->window_from = (int64_t)n;
    for (size_t k = 0; k < n; k++) {
        const char *kind = json_string_value(json_array_get(list, k));
        const bool windowed = kind && !strcmp(kind, "sliding_attention");
        if (!windowed && (!kind || strcmp(kind, "full_attention") != 0))
            return refuse(m,
                          "layer_types holds another kind than full_attention and "
                          "sliding_attention (linear_attention, say)",
                          st);
        if (windowed && i->window_from == (int64_t)n)
            i->window_from = (int64_t)k;
        if (!windowed && i->window_from < (int64_t)n)
            return refuse(m, "layer_types has a block without window behind one with it", st);
    }
    return PTQ_OK;
}

/* Mistral's window counts for all blocks; Qwen's only when switched on, from max_window_layers. A
 * setting that is not there at all has transformers' default, null means no window. */
static int configure_window(const struct ptq_meta *m, struct ptq_model_info *i,
                            struct ptq_status *st)
{
    const bool mistral = is_type(m, "mistral");
    bool used = mistral; /* which has no such switch */
    int rc = mistral ? PTQ_OK : ptq_meta_bool(m, "use_sliding_window", false, &used, st);
    if (rc || !used || is_type(m, "llama"))
        return rc;
    if (!json_object_get(m->object, "sliding_window"))
        i->sliding_window = 4096;
    if (!mistral)
        i->window_from = 28;
    if ((rc = ptq_meta_i64(m, "sliding_window", false, 1, 1 << 24, &i->sliding_window, st)) ||
        (!mistral &&
         (rc = ptq_meta_i64(m, "max_window_layers", false, 0, 1 << 14, &i->window_from, st))))
        return rc;
    return configure_layer_types(m, i, st);
}

static int configure_shape(const struct ptq_meta *m, struct ptq_model_info *i,
                           struct ptq_status *st)
{
    const int64_t most = 1 << 24;
    int rc;
    if ((rc = ptq_meta_i64(m, "hidden_size", true, 1, most, &i->d_model, st)) ||
        (rc = ptq_meta_i64(m, "num_hidden_layers", true, 1, 1 << 14, &i->n_blocks, st)) ||
        (rc = ptq_meta_i64(m, "num_attention_heads", true, 1, 1 << 14, &i->n_heads, st)))
        return rc;
    /* What transformers takes for a setting that is not there. */
    i->n_kv_heads = is_type(m, "llama") || json_object_get(m->object, "num_key_value_heads")
                        ? i->n_heads
                    : is_type(m, "mistral") ? 8
                                            : 32;
    i->head_dim = is_type(m, "qwen3") && !json_object_get(m->object, "head_dim")
                      ? 128
                      : i->d_model / i->n_heads;
    if ((rc = ptq_meta_i64(m, "num_key_value_heads", false, 1, 1 << 14, &i->n_kv_heads, st)) ||
        (rc = ptq_meta_i64(m, "head_dim", false, 1, 1 << 14, &i->head_dim, st)) ||
        (rc = ptq_meta_i64(m, "intermediate_size", true, 1, most, &i->d_ff, st)) ||
        (rc = ptq_meta_i64(m, "vocab_size", true, 1, most, &i->vocab_size, st)))
        return rc;
    i->max_context = 2048;
    return ptq_meta_i64(m, "max_position_embeddings", false, 1, most, &i->max_context, st);
}

static int configure_hf(const struct ptq_meta *m, struct ptq_model_info *i, struct ptq_status *st)
{
    bool mlp_bias = false;
    int rc = configure_shape(m, i, st);
    if (rc)
        return rc;
    if (ptq_meta_find(m, "quantization_config"))
        return refuse(m, "the checkpoint holds packed quantized weights (quantization_config)", st);
    i->norm_eps = 1e-6;
    i->qkv_bias = is_type(m, "qwen2");
    i->qk_norm = is_type(m, "qwen3");
    if ((rc = ptq_meta_f64(m, "rms_norm_eps", false, 0, 1, &i->norm_eps, st)) ||
        (rc = ptq_meta_only(m, "hidden_act", "silu", st)) ||
        (rc = ptq_meta_bool(m, "tie_word_embeddings", false, &i->tied_head, st)) ||
        (rc = ptq_meta_bool(m, "mlp_bias", false, &mlp_bias, st)) ||
        (rc = configure_rope(m, &i->rope, st)) || (rc = configure_window(m, i, st)))
        return rc;
    if (mlp_bias)
        return refuse(m, "mlp_bias is true: biases in the MLP are not supported", st);
    if (is_type(m, "qwen2"))
        return PTQ_OK;
    rc = ptq_meta_bool(m, "attention_bias", false, &i->qkv_bias, st);
    i->o_bias = i->qkv_bias;
    return rc;
}

/* ---- the way back: config.json of a model that came otherwise */

/* The four types are one family that differs in settings: the type is the one that has them. */
static const char *hf_type(const struct ptq_model_info *i)
{
    return i->qk_norm                  ? "qwen3"
           : i->qkv_bias && !i->o_bias ? "qwen2"
           : i->sliding_window         ? "mistral"
                                       : "llama";
}

static bool hf_can_say(const struct ptq_model_info *i, const char *type)
{
    const bool mistral = !strcmp(type, "mistral"), qwen2 = !strcmp(type, "qwen2");
    if (i->o_bias && !i->qkv_bias)
        return false;
    if (!strcmp(type, "qwen3"))
        return i->qkv_bias == i->o_bias;
    if (mistral)
        return !i->qkv_bias && i->window_from == 0;
    return qwen2 || !i->sliding_window;
}

static json_t *hf_scaling(const struct ptq_rope *r)
{
    if (r->scaling == PTQ_ROPE_LINEAR)
        return json_pack("{s:s,s:f}", "rope_type", "linear", "factor", r->factor);
    return json_pack("{s:s,s:f,s:f,s:f,s:I}", "rope_type", "llama3", "factor", r->factor,
                     "low_freq_factor", r->low, "high_freq_factor", r->high,
                     "original_max_position_embeddings", (json_int_t)r->original_context);
}

static int put_window(const struct ptq_model_info *i, const char *type, json_t *config)
{
    if (!strcmp(type, "mistral"))
        return json_object_set_new(config, "sliding_window", json_integer(i->sliding_window));
    if (!strcmp(type, "llama"))
        return 0;
    const bool used = i->sliding_window > 0;
    return json_object_set_new(config, "use_sliding_window", json_boolean(used)) ||
           (used &&
            (json_object_set_new(config, "sliding_window", json_integer(i->sliding_window)) ||
             json_object_set_new(config, "max_window_layers", json_integer(i->window_from))));
}

static int to_hf(const struct ptq_model_info *i, json_t *config, struct ptq_status *st)
{
    const char *type = hf_type(i);
    const char *const class = !strcmp(type, "qwen3")     ? "Qwen3ForCausalLM"
                              : !strcmp(type, "qwen2")   ? "Qwen2ForCausalLM"
                              : !strcmp(type, "mistral") ? "MistralForCausalLM"
                                                         : "LlamaForCausalLM";
    if (!hf_can_say(i, type))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: its biases and its sliding window go together in none of %s, "
                              "%s, %s and %s: there is no Hugging Face configuration for it",
                              i->source, hf_types[0], hf_types[1], hf_types[2], hf_types[3]);
    json_t *o = json_pack(
        "{s:[s],s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:f,s:s,s:b,s:b,s:b}", "architectures",
        class, "model_type", type, "hidden_size", (json_int_t)i->d_model, "intermediate_size",
        (json_int_t)i->d_ff, "num_hidden_layers", (json_int_t)i->n_blocks, "num_attention_heads",
        (json_int_t)i->n_heads, "num_key_value_heads", (json_int_t)i->n_kv_heads, "head_dim",
        (json_int_t)i->head_dim, "vocab_size", (json_int_t)i->vocab_size, "max_position_embeddings",
        (json_int_t)i->max_context, "rms_norm_eps", i->norm_eps, "rope_theta", i->rope.theta,
        "hidden_act", "silu", "tie_word_embeddings", i->tied_head, "attention_bias", i->qkv_bias,
        "mlp_bias", false);
    int bad = !o || json_object_update(config, o) || put_window(i, type, config) ||
              (i->rope.scaling != PTQ_ROPE_PLAIN &&
               json_object_set_new(config, "rope_scaling", hf_scaling(&i->rope)));
    json_decref(o);
    return bad ? ptq_status_nomem(st, "config.json", 0) : PTQ_OK;
}

static const char *const gguf_types[] = {"llama", "qwen2", "qwen3", NULL};
static const struct ptq_name gguf_names[] = {
    {"tok_embd", "token_embd.weight", 0, 0},
    {"output_norm", "output_norm.weight", 0, 0},
    {"output", "output.weight", 0, 0},
    {"rope_freqs", "rope_freqs.weight", 0, 0},
    {"attn_norm", "blk.%d.attn_norm.weight", 0, 0},
    {"ffn_norm", "blk.%d.ffn_norm.weight", 0, 0},
    {"attn_q", "blk.%d.attn_q.weight", PTQ_ROPE_PAIRED, 0},
    {"attn_k", "blk.%d.attn_k.weight", PTQ_ROPE_PAIRED, 0},
    {"attn_v", "blk.%d.attn_v.weight", 0, 0},
    {"attn_o", "blk.%d.attn_output.weight", 0, 0},
    {"attn_q.bias", "blk.%d.attn_q.bias", 0, 0},
    {"attn_k.bias", "blk.%d.attn_k.bias", 0, 0},
    {"attn_v.bias", "blk.%d.attn_v.bias", 0, 0},
    {"attn_o.bias", "blk.%d.attn_output.bias", 0, 0},
    {"attn_q_norm", "blk.%d.attn_q_norm.weight", 0, 0},
    {"attn_k_norm", "blk.%d.attn_k_norm.weight", 0, 0},
    {"ffn_gate", "blk.%d.ffn_gate.weight", 0, 0},
    {"ffn_up", "blk.%d.ffn_up.weight", 0, 0},
    {"ffn_down", "blk.%d.ffn_down.weight", 0, 0},
    {"ffn_gate.bias", "blk.%d.ffn_gate.bias", 0, 0}, /* named to be refused where they are */
    {"ffn_up.bias", "blk.%d.ffn_up.bias", 0, 0},
    {"ffn_down.bias", "blk.%d.ffn_down.bias", 0, 0},
    {NULL, NULL, 0, 0},
};

static int vocabulary(const struct ptq_meta *m, struct ptq_model_info *i, struct ptq_status *st)
{
    const json_t *tokens = json_object_get(m->object, "tokenizer.ggml.tokens");
    i->vocab_size = (int64_t)json_array_size(tokens);
    return ptq_meta_i64(m, "vocab_size", !tokens, 1, 1 << 24, &i->vocab_size, st);
}

/* A factor without a type is llama.cpp's linear scaling; older files call it rope.scale_linear. */
static int configure_gguf_scaling(const struct ptq_meta *m, struct ptq_rope *r,
                                  struct ptq_status *st)
{
    static const char *const scalings[] = {"none", "linear", NULL};
    const bool typed = ptq_meta_find(m, "rope.scaling.type") != NULL;
    int rc = ptq_meta_word(m, "rope.scaling.type", false, scalings, &r->scaling, st);
    if (!rc)
        rc = ptq_meta_f64(m, "rope.scale_linear", false, 1e-3, 1e6, &r->factor, st);
    if (!rc)
        rc = ptq_meta_f64(m, "rope.scaling.factor", false, 1e-3, 1e6, &r->factor, st);
    if (!typed && r->factor != 1)
        r->scaling = PTQ_ROPE_LINEAR;
    return rc;
}

static int configure_gguf(const struct ptq_meta *m, struct ptq_model_info *i, struct ptq_status *st)
{
    const int64_t most = 1 << 24;
    int64_t turned = 0;
    int rc;
    if ((rc = ptq_meta_i64(m, "embedding_length", true, 1, most, &i->d_model, st)) ||
        (rc = ptq_meta_i64(m, "block_count", true, 1, 1 << 14, &i->n_blocks, st)) ||
        (rc = ptq_meta_i64(m, "attention.head_count", true, 1, 1 << 14, &i->n_heads, st)))
        return rc;
    i->n_kv_heads = i->n_heads;
    i->head_dim = i->d_model / i->n_heads;
    if ((rc = ptq_meta_i64(m, "attention.head_count_kv", false, 1, 1 << 14, &i->n_kv_heads, st)) ||
        (rc = ptq_meta_i64(m, "attention.key_length", false, 1, 1 << 14, &i->head_dim, st)) ||
        (rc = ptq_meta_i64(m, "feed_forward_length", true, 1, most, &i->d_ff, st)) ||
        (rc = ptq_meta_i64(m, "context_length", true, 1, most, &i->max_context, st)) ||
        (rc = ptq_meta_f64(m, "attention.layer_norm_rms_epsilon", true, 0, 1, &i->norm_eps, st)) ||
        (rc = ptq_meta_f64(m, "rope.freq_base", false, 1, 1e12, &i->rope.theta, st)) ||
        (rc = configure_gguf_scaling(m, &i->rope, st)) ||
        (rc = ptq_meta_i64(m, "rope.dimension_count", false, 1, 1 << 14, &turned, st)) ||
        (rc = ptq_meta_i64(m, "attention.sliding_window", false, 0, most, &i->sliding_window, st)))
        return rc;
    if (turned && turned != i->head_dim)
        return refuse(m, "only a part of each head is turned (rope.dimension_count)", st);
    /* llama.cpp turns neighbours in this one of the three and stores its q and k permuted for that.
     */
    i->rope_paired = !strcmp(m->prefix, "llama.");
    i->qkv_bias = !strcmp(m->prefix, "qwen2.");
    i->qk_norm = !strcmp(m->prefix, "qwen3.");
    return vocabulary(m, i, st);
}

/* ---- the outlier variant: powers of two, so the output keeps its bits */

enum { OUTLIER_SEED = 77, N_CHANNELS = 4, N_HIDDEN = 2 };

static void scale_column(const struct ptq_linear *l, float *w, int64_t column, float by)
{
    for (int64_t i = 0; i < l->d_out; i++)
        w[i * l->d_in + column] *= by;
}

static void scale_row(const struct ptq_linear *l, float *w, int64_t row, float by)
{
    for (int64_t j = 0; j < l->d_in; j++)
        w[row * l->d_in + j] *= by;
}

/* Four distinct channels of the residual stream, then two hidden channels a block, from one
 * generator in block order: the draws of earlier blocks are repeated to reach those of this one. */
static int outliers(const struct ptq_model_info *m, const struct ptq_block *b, float *const *lin,
                    float *const *vec, struct ptq_status *st)
{
    static const enum linear readers[] = {Q, K, V, GATE, UP};
    struct ptq_rng r = {OUTLIER_SEED};
    uint64_t channel[N_CHANNELS];
    if (m->d_model < N_CHANNELS)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: the outlier variant needs d_model >= %d",
                              m->source, N_CHANNELS);
    for (int n = 0; n < N_CHANNELS;) {
        channel[n] = ptq_rng_below(&r, (uint64_t)m->d_model);
        bool fresh = true;
        for (int i = 0; i < n; i++)
            fresh = fresh && channel[i] != channel[n];
        n += fresh;
    }
    for (int n = 0; n < N_CHANNELS; n++) {
        int64_t c = (int64_t)channel[n];
        float by = n % 2 ? 8 : 16;
        vec[ATTN_NORM][c] *= by;
        vec[FFN_NORM][c] *= by;
        for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
            scale_column(&b->lin[readers[i]], lin[readers[i]], c, 1 / by);
    }
    for (int i = 0; i < b->index * N_HIDDEN; i++)
        ptq_rng_below(&r, (uint64_t)m->d_ff);
    for (int i = 0; i < N_HIDDEN; i++) {
        int64_t c = (int64_t)ptq_rng_below(&r, (uint64_t)m->d_ff);
        scale_row(&b->lin[UP], lin[UP], c, 16);
        scale_column(&b->lin[DOWN], lin[DOWN], c, 1 / 16.f);
    }
    return PTQ_OK;
}

/* ---- one sequence */

/* Pieces of the scratch. gate and up overlay q, k, v and what follows, done by then. */
struct buffers {
    float *norm; /* (len x d_model): normed input, then what a product adds to x */
    float *q, *k, *v;
    float *mixed; /* (len x q) output of the heads */
    float *spin;  /* head_dim floats */
    float *gate, *up;
};

static int64_t attention_floats(const struct ptq_model_info *m, int64_t len)
{
    int64_t q, kv, n;
    if (!ptq_size_mul(2 * len, m->n_heads * m->head_dim, &q) ||
        !ptq_size_mul(2 * len, m->n_kv_heads * m->head_dim, &kv) || !ptq_size_add(q, kv, &n) ||
        !ptq_size_add(n, m->head_dim, &n))
        return -1;
    return n;
}

static int64_t scratch_floats(const struct ptq_model_info *m, int64_t len)
{
    int64_t a = attention_floats(m, len), f, n;
    if (a < 0 || !ptq_size_mul(2 * len, m->d_ff, &f) || !ptq_size_mul(len, m->d_model, &n) ||
        !ptq_size_add(n, a > f ? a : f, &n))
        return -1;
    return n;
}

static void split(const struct ptq_model_info *m, int64_t len, float *scratch, struct buffers *b)
{
    int64_t q = len * m->n_heads * m->head_dim, kv = len * m->n_kv_heads * m->head_dim;
    float *rest = scratch + len * m->d_model;
    *b = (struct buffers){
        .norm = scratch, .q = rest, .k = rest + q, .v = rest + q + kv, .mixed = rest + q + 2 * kv};
    b->spin = b->mixed + q;
    b->gate = rest;
    b->up = rest + len * m->d_ff;
}

static void norm_heads(const struct ptq_sequence *q, enum vector gain, int64_t heads, float *x)
{
    const struct ptq_model_info *m = ptq_model_info(q->model);
    if (q->block->vec[gain].name)
        ptq_norm_rows(q->block->vec[gain].at, m->norm_eps, x, q->len * heads, m->head_dim, x);
}

static int attention_half(const struct ptq_sequence *q, const struct buffers *b,
                          struct ptq_status *st)
{
    const struct ptq_model_info *m = ptq_model_info(q->model);
    int rc;
    ptq_norm_rows(q->block->vec[ATTN_NORM].at, m->norm_eps, q->x, q->len, m->d_model, b->norm);
    if ((rc = ptq_tap_show(q, ATTN_IN, b->norm, st)) ||
        (rc = ptq_linear_run(q, Q, Q_BIAS, b->norm, b->q, st)) ||
        (rc = ptq_linear_run(q, K, K_BIAS, b->norm, b->k, st)) ||
        (rc = ptq_linear_run(q, V, V_BIAS, b->norm, b->v, st)))
        return rc;
    norm_heads(q, Q_NORM, m->n_heads, b->q);
    norm_heads(q, K_NORM, m->n_kv_heads, b->k);
    ptq_rope_turn(q, m->n_heads, b->q, b->spin);
    ptq_rope_turn(q, m->n_kv_heads, b->k, b->spin);
    struct ptq_attention a = {.len = q->len,
                              .n_heads = m->n_heads,
                              .n_kv_heads = m->n_kv_heads,
                              .head_dim = m->head_dim,
                              .q = b->q,
                              .k = b->k,
                              .v = b->v,
                              .out = b->mixed,
                              .window = q->block->index >= m->window_from ? m->sliding_window : 0,
                              .pool = q->pool};
    const struct ptq_shown_attention shown = {&a, b->norm, true, q->block->vec[Q_NORM].at,
                                              q->block->vec[K_NORM].at};
    if ((rc = ptq_tap_attention(q, ATTN_IN, &shown, st)))
        return rc;
    ptq_attention_run(&a);
    if ((rc = ptq_tap_show(q, O_IN, b->mixed, st)) ||
        (rc = ptq_linear_run(q, O, O_BIAS, b->mixed, b->norm, st)) ||
        (rc = ptq_tap_output(q, b->norm, st)))
        return rc;
    ptq_add_to(q->x, b->norm, q->len * m->d_model);
    return PTQ_OK;
}

static int mlp_half(const struct ptq_sequence *q, const struct buffers *b, struct ptq_status *st)
{
    const struct ptq_model_info *m = ptq_model_info(q->model);
    int rc;
    ptq_norm_rows(q->block->vec[FFN_NORM].at, m->norm_eps, q->x, q->len, m->d_model, b->norm);
    if ((rc = ptq_tap_show(q, FFN_IN, b->norm, st)) ||
        (rc = ptq_linear_run(q, GATE, -1, b->norm, b->gate, st)) ||
        (rc = ptq_linear_run(q, UP, -1, b->norm, b->up, st)))
        return rc;
    ptq_gate(b->gate, b->up, q->len * m->d_ff);
    if ((rc = ptq_tap_show(q, DOWN_IN, b->gate, st)) ||
        (rc = ptq_linear_run(q, DOWN, -1, b->gate, b->norm, st)) ||
        (rc = ptq_tap_output(q, b->norm, st)))
        return rc;
    ptq_add_to(q->x, b->norm, q->len * m->d_model);
    return PTQ_OK;
}

static int run_sequence(const struct ptq_sequence *q, struct ptq_status *st)
{
    struct buffers b;
    split(ptq_model_info(q->model), q->len, q->scratch, &b);
    int rc = ptq_runs_half(q, PTQ_ATTENTION_HALF) ? attention_half(q, &b, st) : PTQ_OK;
    if (rc == PTQ_OK && ptq_runs_half(q, PTQ_MLP_HALF))
        rc = mlp_half(q, &b, st);
    return rc == PTQ_SKIP ? PTQ_OK : rc;
}

const struct ptq_arch ptq_arch_llama = {
    .name = "llama",
    .hf = {hf_types, hf_prefixes, hf_names, configure_hf, to_hf},
    .gguf = {gguf_types, NULL, gguf_names, configure_gguf},
    .check = check,
    .layout = layout,
    .outer = outer,
    .finish = finish,
    .outliers = outliers,
    .scratch_floats = scratch_floats,
    .run_sequence = run_sequence,
};
