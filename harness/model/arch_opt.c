/* arch_opt.c: OPT: learned positions from row 2 of their table, blocks of gpt_block.h, ReLU, a tied
 * head. The 350M model has its norms behind the sums, no norm before the head, and an embedding
 * that is narrower than the model, with a projection on either side. */
#include "core/linalg.h"
#include "core/size.h"
#include "model/gpt_block.h"
#include <stdlib.h>
#include <string.h>

extern const struct ptq_arch ptq_arch_opt;

enum outer { POSITIONS, PROJ_IN, OUTPUT_NORM, OUTPUT_NORM_BIAS, PROJ_OUT };
static const struct ptq_gpt_kind kind = {0};

static void outer(const struct ptq_model_info *m, struct ptq_outer *out)
{
    const int64_t d = m->d_model, rows = m->max_context + m->position_offset;
    out[POSITIONS] = (struct ptq_outer){"pos_embd", rows, d, false};
    if (m->d_embd != d) {
        out[PROJ_IN] = (struct ptq_outer){"embd_proj_in", d, m->d_embd, false};
        out[PROJ_OUT] = (struct ptq_outer){"embd_proj_out", m->d_embd, d, true};
    }
    if (!m->no_final_norm) {
        out[OUTPUT_NORM] = (struct ptq_outer){"output_norm", d, 0, true};
        out[OUTPUT_NORM_BIAS] = (struct ptq_outer){"output_norm.bias", d, 0, true};
    }
}

/* y (n x to) = x W^T, W (to x from) */
static int project(const float *x, int64_t n, const float *w, int64_t to, int64_t from, float *y,
                   struct ptq_status *st)
{
    struct ptq_gemm_f32 g = {n, to, from, false, true, 1, 0, x, from, w, from, y, to};
    return ptq_gemm_f32(NULL, &g, st);
}

static int embed(const struct ptq_edge *e, struct ptq_status *st)
{
    const struct ptq_model_info *m = e->info;
    const int64_t n = e->n * m->d_model;
    const float *w = e->outer[PROJ_IN];
    int rc = w ? project(e->in, e->n, w, m->d_model, m->d_embd, e->out, st) : PTQ_OK;
    if (!w && e->out != e->in)
        memcpy(e->out, e->in, (size_t)n * sizeof *e->out);
    ptq_add_to(e->out, e->outer[POSITIONS] + m->position_offset * m->d_model, n);
    return rc;
}

static void last_norm(const struct ptq_edge *e, float *y)
{
    ptq_layer_norm_rows(e->outer[OUTPUT_NORM], e->outer[OUTPUT_NORM_BIAS], e->info->norm_eps, e->in,
                        e->n, e->info->d_model, y);
}

static int finish_projected(const struct ptq_edge *e, struct ptq_status *st)
{
    const struct ptq_model_info *m = e->info;
    const float *x = e->in;
    float *normed = NULL;
    int64_t n;
    if (!m->no_final_norm) {
        if (!ptq_size_mul(e->n, m->d_model, &n) || !(normed = malloc((size_t)n * sizeof *normed)))
            return ptq_status_nomem(st, "normed hidden states", 0);
        last_norm(e, normed);
        x = normed;
    }
    int rc = project(x, e->n, e->outer[PROJ_OUT], m->d_embd, m->d_model, e->out, st);
    free(normed);
    return rc;
}

static int finish(const struct ptq_edge *e, struct ptq_status *st)
{
    if (e->outer[PROJ_OUT])
        return finish_projected(e, st);
    if (e->info->no_final_norm)
        memcpy(e->out, e->in, (size_t)(e->n * e->info->d_model) * sizeof *e->out);
    else
        last_norm(e, e->out);
    return PTQ_OK;
}

static int run_sequence(const struct ptq_sequence *q, struct ptq_status *st)
{
    return ptq_gpt_run(q, &kind, st);
}

/* ---- how the outside calls it */

enum { POSITION_OFFSET = 2 }; /* rows of the table in front of position 0: transformers' constant */
static const char *const types[] = {"opt", NULL};
static const char *const hf_prefixes[] = {"model.decoder.", "decoder.", "", NULL};
static const struct ptq_name hf_names[] = {
    {"tok_embd", "@embed_tokens.weight", 0, 0},
    {"pos_embd", "@embed_positions.weight", 0, 0},
    {"embd_proj_in", "@project_in.weight", 0, 0},
    {"embd_proj_out", "@project_out.weight", 0, 0},
    {"output_norm", "@final_layer_norm.weight", 0, 0},
    {"output_norm.bias", "@final_layer_norm.bias", 0, 0},
    {"output", "lm_head.weight", 0, 0},
    {"attn_norm", "@layers.%d.self_attn_layer_norm.weight", 0, 0},
    {"attn_norm.bias", "@layers.%d.self_attn_layer_norm.bias", 0, 0},
    {"ffn_norm", "@layers.%d.final_layer_norm.weight", 0, 0},
    {"ffn_norm.bias", "@layers.%d.final_layer_norm.bias", 0, 0},
    {"attn_q", "@layers.%d.self_attn.q_proj.weight", 0, 0},
    {"attn_k", "@layers.%d.self_attn.k_proj.weight", 0, 0},
    {"attn_v", "@layers.%d.self_attn.v_proj.weight", 0, 0},
    {"attn_o", "@layers.%d.self_attn.out_proj.weight", 0, 0},
    {"attn_q.bias", "@layers.%d.self_attn.q_proj.bias", 0, 0},
    {"attn_k.bias", "@layers.%d.self_attn.k_proj.bias", 0, 0},
    {"attn_v.bias", "@layers.%d.self_attn.v_proj.bias", 0, 0},
    {"attn_o.bias", "@layers.%d.self_attn.out_proj.bias", 0, 0},
    {"ffn_up", "@layers.%d.fc1.weight", 0, 0},
    {"ffn_up.bias", "@layers.%d.fc1.bias", 0, 0},
    {"ffn_down", "@layers.%d.fc2.weight", 0, 0},
    {"ffn_down.bias", "@layers.%d.fc2.bias", 0, 0},
    {NULL, NULL, 0, 0},
};

static int configure_shape(const struct ptq_meta *m, struct ptq_model_info *i,
                           struct ptq_status *st)
{
    int rc;
    if ((rc = ptq_gpt_count(m, "hidden_size", NULL, &i->d_model, st)) ||
        (rc = ptq_gpt_count(m, "num_hidden_layers", NULL, &i->n_blocks, st)) ||
        (rc = ptq_gpt_count(m, "num_attention_heads", NULL, &i->n_heads, st)) ||
        (rc = ptq_gpt_count(m, "ffn_dim", NULL, &i->d_ff, st)) ||
        (rc = ptq_gpt_count(m, "max_position_embeddings", NULL, &i->max_context, st)) ||
        (rc = ptq_gpt_count(m, "vocab_size", NULL, &i->vocab_size, st)))
        return rc;
    i->d_embd = i->d_model;
    rc = ptq_meta_i64(m, "word_embed_proj_dim", false, 1, 1 << 24, &i->d_embd, st);
    return rc ? rc : ptq_gpt_heads(m, i, st);
}

static int configure_hf(const struct ptq_meta *m, struct ptq_model_info *i, struct ptq_status *st)
{
    bool biases = true, norm_before = true;
    int rc;
    i->activation = PTQ_RELU;
    i->tied_head = true;
    i->position_offset = POSITION_OFFSET;
    if ((rc = ptq_gpt_unpacked(m, st)) || (rc = configure_shape(m, i, st)) ||
        (rc = ptq_gpt_fixed(m, "layer_norm_elementwise_affine", true,
                            "the norms would have no gains and biases", st)) ||
        (rc = ptq_meta_bool(m, "enable_bias", false, &biases, st)) ||
        (rc = ptq_meta_bool(m, "do_layer_norm_before", false, &norm_before, st)) ||
        (rc = ptq_meta_bool(m, "_remove_final_layer_norm", false, &i->no_final_norm, st)) ||
        (rc = ptq_gpt_activation(m, "activation_function", &i->activation, st)) ||
        (rc = ptq_meta_bool(m, "tie_word_embeddings", false, &i->tied_head, st)))
        return rc;
    i->qkv_bias = i->o_bias = i->mlp_bias = biases;
    i->post_norm = !norm_before;
    i->no_final_norm = i->no_final_norm || i->post_norm;
    return PTQ_OK;
}

const struct ptq_arch ptq_arch_opt = {
    .name = "opt",
    .hf = {types, hf_prefixes, hf_names, configure_hf},
    .check = ptq_gpt_check,
    .layout = ptq_gpt_layout,
    .outer = outer,
    .embed = embed,
    .finish = finish,
    .scratch_floats = ptq_gpt_scratch,
    .run_sequence = run_sequence,
};
