#include "model/config.h"
#include <stddef.h>
#include <string.h>

/* Bounds: far above any model, low enough that products of two need no care. */
enum { MOST_DIM = 1 << 24, MOST_BLOCKS = 1 << 14, MOST_HEAD_DIM = 1 << 14 };

const char *const ptq_activation_words[] = {"silu", "gelu", "gelu_tanh", "relu", NULL};
static const char *const rope_words[] = {"half", "interleaved", NULL};
static const char *const scaling_words[] = {"none", "linear", "llama3", NULL};

enum kind { COUNT, REAL, YES, WORD, TEXT };
struct attribute {
    const char *name;
    enum kind kind;
    bool required;
    size_t at;
    double min, max;
    const char *const *words; /* WORD: to an int; rope_layout: to a bool */
};
#define AT(field) offsetof(struct ptq_model_info, field)
static const struct attribute attributes[] = {
    {"architecture", TEXT, true, AT(arch), 0, 0, NULL},
    {"name", TEXT, false, AT(name), 0, 0, NULL},
    {"d_model", COUNT, true, AT(d_model), 1, MOST_DIM, NULL},
    {"n_blocks", COUNT, true, AT(n_blocks), 1, MOST_BLOCKS, NULL},
    {"n_heads", COUNT, true, AT(n_heads), 1, MOST_HEAD_DIM, NULL},
    {"n_kv_heads", COUNT, true, AT(n_kv_heads), 1, MOST_HEAD_DIM, NULL},
    {"head_dim", COUNT, true, AT(head_dim), 1, MOST_HEAD_DIM, NULL},
    {"d_ff", COUNT, true, AT(d_ff), 1, MOST_DIM, NULL},
    {"vocab_size", COUNT, true, AT(vocab_size), 1, MOST_DIM, NULL},
    {"max_context", COUNT, true, AT(max_context), 1, MOST_DIM, NULL},
    {"d_embd", COUNT, false, AT(d_embd), 1, MOST_DIM, NULL},
    {"norm_eps", REAL, true, AT(norm_eps), 0, 1, NULL},
    {"rope_theta", REAL, false, AT(rope.theta), 1, 1e12, NULL},
    {"rope_layout", WORD, false, AT(rope.interleaved), 0, 0, rope_words},
    {"rope_scaling", WORD, false, AT(rope.scaling), 0, 0, scaling_words},
    {"rope_factor", REAL, false, AT(rope.factor), 1e-3, 1e6, NULL},
    {"rope_low_frequency_factor", REAL, false, AT(rope.low), 1e-3, 1e6, NULL},
    {"rope_high_frequency_factor", REAL, false, AT(rope.high), 1e-3, 1e6, NULL},
    {"rope_original_context", COUNT, false, AT(rope.original_context), 1, MOST_DIM, NULL},
    {"activation", WORD, false, AT(activation), 0, 0, ptq_activation_words},
    {"sliding_window", COUNT, false, AT(sliding_window), 0, MOST_DIM, NULL},
    {"window_from", COUNT, false, AT(window_from), 0, MOST_BLOCKS, NULL},
    {"qkv_bias", YES, false, AT(qkv_bias), 0, 0, NULL},
    {"o_bias", YES, false, AT(o_bias), 0, 0, NULL},
    {"mlp_bias", YES, false, AT(mlp_bias), 0, 0, NULL},
    {"qk_norm", YES, false, AT(qk_norm), 0, 0, NULL},
    {"post_norm", YES, false, AT(post_norm), 0, 0, NULL},
    {"no_final_norm", YES, false, AT(no_final_norm), 0, 0, NULL},
    {"position_offset", COUNT, false, AT(position_offset), 0, MOST_DIM, NULL},
    {"n_token_types", COUNT, false, AT(n_token_types), 0, MOST_DIM, NULL},
    {"encoder", YES, false, AT(encoder), 0, 0, NULL},
    {"tied_head", YES, false, AT(tied_head), 0, 0, NULL},
};
enum { N_ATTRIBUTES = sizeof attributes / sizeof *attributes };

void ptq_config_init(struct ptq_model_info *i)
{
    i->rope = (struct ptq_rope){
        .theta = 10000, .factor = 1, .low = 1, .high = 4, .original_context = 8192};
    i->norm_eps = 1e-5;
}

static int read_word(const struct ptq_meta *m, const struct attribute *a, void *at,
                     struct ptq_status *st)
{
    int word = a->words == rope_words ? *(bool *)at : *(int *)at;
    int rc = ptq_meta_word(m, a->name, a->required, a->words, &word, st);
    if (a->words == rope_words)
        *(bool *)at = word != 0;
    else
        *(int *)at = word;
    return rc;
}

int ptq_config_read_marks(const struct ptq_meta *m, struct ptq_model_info *i, struct ptq_status *st)
{
    int64_t bits = 0, group = 0;
    int rc = ptq_meta_text(m, "quantized_as", false, &i->quantized_as, st);
    if (!rc)
        rc = ptq_meta_i64(m, "grid_bits", false, 0, 16, &bits, st);
    if (!rc)
        rc = ptq_meta_i64(m, "grid_group", false, 0, MOST_DIM, &group, st);
    i->grid_bits = (int)bits;
    i->grid_group = (int)group;
    return rc;
}

int ptq_config_marks(const struct ptq_model_info *i, json_t *to, struct ptq_status *st)
{
    if (json_object_set_new(to, "quantized_as", json_string(i->quantized_as)) ||
        (i->grid_bits && (json_object_set_new(to, "grid_bits", json_integer(i->grid_bits)) ||
                          json_object_set_new(to, "grid_group", json_integer(i->grid_group)))))
        return ptq_status_nomem(st, "marks of a model", 0);
    return PTQ_OK;
}

int ptq_config_read_canonical(const struct ptq_meta *m, struct ptq_model_info *i,
                              struct ptq_status *st)
{
    for (const struct attribute *a = attributes; a < attributes + N_ATTRIBUTES; a++) {
        void *at = (char *)i + a->at;
        int rc = PTQ_OK;
        switch (a->kind) {
        case COUNT:
            rc = ptq_meta_i64(m, a->name, a->required, (int64_t)a->min, (int64_t)a->max, at, st);
            break;
        case REAL: rc = ptq_meta_f64(m, a->name, a->required, a->min, a->max, at, st); break;
        case YES: rc = ptq_meta_bool(m, a->name, a->required, at, st); break;
        case WORD: rc = read_word(m, a, at, st); break;
        case TEXT: rc = ptq_meta_text(m, a->name, a->required, at, st); break;
        }
        if (rc)
            return rc;
    }
    if (!i->d_embd)
        i->d_embd = i->d_model;
    return ptq_config_read_marks(m, i, st);
}

static int write_one(struct ptq_h5 *h, const struct attribute *a, const void *at,
                     struct ptq_status *st)
{
    switch (a->kind) {
    case COUNT: return ptq_h5_set_i64(h, "/model", a->name, *(const int64_t *)at, st);
    case REAL: return ptq_h5_set_f64(h, "/model", a->name, *(const double *)at, st);
    case YES: return ptq_h5_set_i64(h, "/model", a->name, *(const bool *)at, st);
    case WORD:
        return ptq_h5_set_text(
            h, "/model", a->name,
            a->words[a->words == rope_words ? *(const bool *)at : *(const int *)at], st);
    case TEXT:
        return *(const char *const *)at
                   ? ptq_h5_set_text(h, "/model", a->name, *(const char *const *)at, st)
                   : PTQ_OK;
    }
    return PTQ_OK;
}

int ptq_config_write(struct ptq_h5 *h, const struct ptq_model_info *i, struct ptq_status *st)
{
    int rc = PTQ_OK;
    for (const struct attribute *a = attributes; a < attributes + N_ATTRIBUTES && !rc; a++)
        rc = write_one(h, a, (const char *)i + a->at, st);
    if (!rc && i->quantized_as)
        rc = ptq_h5_set_text(h, "/model", "quantized_as", i->quantized_as, st);
    if (!rc && i->grid_bits)
        rc = ptq_h5_set_i64(h, "/model", "grid_bits", i->grid_bits, st);
    if (!rc && i->grid_bits)
        rc = ptq_h5_set_i64(h, "/model", "grid_group", i->grid_group, st);
    return rc;
}

int ptq_config_check(const struct ptq_model_info *i, struct ptq_status *st)
{
    const struct {
        const char *name;
        int64_t v, most;
    } counts[] = {
        {"width", i->d_model, MOST_DIM},
        {"number of blocks", i->n_blocks, MOST_BLOCKS},
        {"number of heads", i->n_heads, MOST_HEAD_DIM},
        {"number of key heads", i->n_kv_heads, MOST_HEAD_DIM},
        {"head width", i->head_dim, MOST_HEAD_DIM},
        {"width of the MLP", i->d_ff, MOST_DIM},
        {"vocabulary", i->vocab_size, MOST_DIM},
        {"longest context", i->max_context, MOST_DIM},
        {"width of the embedding", i->d_embd, MOST_DIM},
    };
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++)
        if (counts[k].v < 1 || counts[k].v > counts[k].most)
            return ptq_status_set(st, PTQ_ERR_USAGE, "%s: the %s is %lld, expected 1 .. %lld",
                                  i->source, counts[k].name, (long long)counts[k].v,
                                  (long long)counts[k].most);
    if (i->n_heads % i->n_kv_heads != 0)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: n_heads %lld is not a multiple of n_kv_heads %lld; repair the configuration",
            i->source, (long long)i->n_heads, (long long)i->n_kv_heads);
    return PTQ_OK;
}
