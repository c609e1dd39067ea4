/* model.h: a language model that runs block by block. The one operation is "run block b over these
 * sequences' hidden states"; evaluation, statistics and sequential quantization all walk the
 * blocks in order with one block in memory. Architectures are files model/arch_NAME.c (registry by
 * folder). Arithmetic: fp32 products through core/linalg.h per sequence, softmax and norms in fp32
 * with fp64 sums in a fixed order; the same bits for any thread count, batch and memory budget. */
#ifndef PTQ_MODEL_MODEL_H
#define PTQ_MODEL_MODEL_H
#include "core/arena.h"
#include "core/pool.h"
#include "model/meta.h"
#include "quant/apply.h"

struct ptq_model; /* opaque; read-only after open, shared by threads */

enum ptq_activation { PTQ_SILU, PTQ_GELU, PTQ_GELU_TANH, PTQ_RELU };
enum ptq_rope_scaling { PTQ_ROPE_PLAIN, PTQ_ROPE_LINEAR, PTQ_ROPE_LLAMA3 };
struct ptq_rope { /* rotary positions; ignored by architectures without them */
    double theta;
    bool interleaved; /* pairs 2i, 2i + 1 (llama2.c); else i, i + head_dim / 2 */
    int scaling;      /* enum ptq_rope_scaling */
    double factor;    /* of linear and llama3 scaling */
    /* llama3: wavelengths under original / high stay, over original / low are divided by factor,
     * between them a mean of both */
    double low, high;
    int64_t original_context;
};
/* What an architecture file needs to run a model; attributes of /model (SCHEMA.md, model/config.c).
 * A field that an architecture does not read must hold its default: check refuses others. */
struct ptq_model_info {
    const char *name, *arch, *source; /* source: file or folder */
    int64_t d_model, n_blocks, n_heads, n_kv_heads, head_dim, d_ff, vocab_size, max_context;
    int64_t d_embd; /* columns of tok_embd and of the head: d_model unless projected (OPT-350M) */
    double norm_eps;
    struct ptq_rope rope;
    int activation;         /* enum ptq_activation */
    int64_t sliding_window; /* 0: none; a position sees itself and sliding_window - 1 before it */
    int64_t window_from;    /* first block with the window */
    bool qkv_bias, o_bias, mlp_bias, qk_norm;
    bool post_norm;          /* norms behind the residual sums (OPT-350M); BERT always */
    bool no_final_norm;      /* no norm before the head (OPT-350M) */
    int64_t position_offset; /* first row of pos_embd that is used (OPT: 2) */
    int64_t n_token_types;   /* BERT: rows of type_embd */
    bool rope_paired;        /* the file's PTQ_ROPE_PAIRED tensors are permuted; ours are not */
    bool encoder;            /* no head: its output are hidden states */
    bool tied_head;
    int64_t n_params;       /* all weights */
    int64_t n_block_params; /* those of the block matrices: what is quantized */
    const char *tokenizer;  /* "bytes", "none", or "own": one comes with the source */
    /* "Q4_1: 4 bits, groups of 32" when the block matrices were on a quantization grid already,
     * else NULL. */
    const char *quantized_as;
    int grid_bits, grid_group;
    char key[33]; /* contents and options: names the model in keys */
};
struct ptq_model_options {
    bool outliers; /* the demo model's outlier variant: function-preserving powers of two */
};

/* source: "demo" (the embedded default), a container (datasets/SCHEMA.md), a Hugging Face folder,
 * a .gguf, a llama2.c checkpoint, "synth:NAME"; any format of datasets/tensors.h, in place.
 * Presence and shape of every tensor are checked here, that values are finite when they are loaded.
 * An architecture that is not supported: PTQ_ERR_USAGE with the supported ones. */
int ptq_model_open(struct ptq_model **, const char *source, const struct ptq_model_options *,
                   struct ptq_status *);
void ptq_model_close(struct ptq_model *);
const struct ptq_model_info *ptq_model_info(const struct ptq_model *);

/* One linear of a block. name: "blk.3.attn_q"; input: the distinct input it reads, "blk.3.attn_in"
 * (SCHEMA.md). w may be replaced by the caller (another (d_out x d_in) matrix that outlives the
 * use): that is how a quantized model runs. Where its form quantizes or splits the inputs, run is
 * the product, and w is not read by it. */
struct ptq_linear {
    const char *name, *input;
    enum ptq_role role;
    int stage; /* true-sequential stage inside the block: 0 {q k v}, 1 {o}, 2 {gate up}, 3 {down} */
    enum ptq_producer producer; /* of its input: where a divisor of it folds into */
    int64_t d_out, d_in;
    const float *w;
    const struct ptq_quant_run *run; /* or NULL: x W^T */
};
enum { PTQ_MAX_LINEARS = 8, PTQ_MAX_STAGES = 4, PTQ_MAX_VECTORS = 16 };
/* A norm or bias: "blk.3.attn_norm", "blk.3.attn_q.bias". Slots are the architecture's; one that
 * this model does not have (no biases) has name == NULL. */
struct ptq_vector {
    const char *name;
    int64_t n;
    const float *at;
};
struct ptq_block {
    int index, n_linears, n_stages, n_vectors;
    struct ptq_linear lin[PTQ_MAX_LINEARS];
    struct ptq_vector vec[PTQ_MAX_VECTORS]; /* meaning by architecture */
};
/* Everything in the arena. Names without loading weights: ptq_model_layout (w == NULL). */
int ptq_model_load_block(const struct ptq_model *, int index, struct ptq_arena *,
                         struct ptq_block *, struct ptq_status *);
int ptq_model_layout(const struct ptq_model *, int index, struct ptq_arena *, struct ptq_block *,
                     struct ptq_status *);

/* Token sequences (each runs alone, position 0 first). */
struct ptq_tokens {
    int64_t n_seq, n_total;
    const int64_t *len;    /* [n_seq] >= 1 */
    const int64_t *offset; /* [n_seq] into id */
    const int32_t *id;     /* [n_total] */
};
/* Its first n sequences, or all there are: they lie side by side from the start. */
struct ptq_tokens ptq_first_windows(const struct ptq_tokens *, int64_t n);
/* Hidden states of all sequences: rows offset[s] .. offset[s] + len[s] - 1 belong to sequence s. */
struct ptq_hidden {
    const struct ptq_tokens *tokens;
    int64_t d_model;
    float *at;    /* (n_total x d_model) */
    bool spilled; /* at lies in a file: a sequence that has been run is given back to the system */
};

/* Ids outside the vocabulary and sequences over max_context: PTQ_ERR_USAGE. at is taken from the
 * arena. */
int ptq_model_embed(const struct ptq_model *, const struct ptq_tokens *, struct ptq_arena *,
                    struct ptq_hidden *, struct ptq_status *);

/* What attention is about to mix. */
struct ptq_shown_attention {
    const struct ptq_attention *at; /* model/attention.h; out is not filled yet */
    const float *x;                 /* (len x d_model) the input of the projections */
    bool rotated;                   /* q and k are turned by their positions */
    /* [head_dim] gains of the norms between projection and rotation; NULL: there are none */
    const float *q_gain, *k_gain;
};
enum ptq_half { PTQ_WHOLE_BLOCK, PTQ_ATTENTION_HALF, PTQ_MLP_HALF };
/* Sees the input x (len x d_in) of a distinct input of sequence s, on the thread that runs the
 * sequence; sequences come in any order. see and see_attention NULL: nothing is looked at, the tap
 * only carries the stop. */
struct ptq_block_tap {
    int (*see)(void *arg, const char *input, int64_t s, const float *x, int64_t len, int64_t d_in,
               struct ptq_status *);
    void *arg;
    const char *only; /* NULL: all inputs; else this one: the run stops there, hidden states kept */
    bool keep;        /* true: the hidden states are left unchanged also when all inputs are seen */
    /* NULL, or asked before every sequence, on any thread: true ends the run with
     * PTQ_ERR_CANCELLED, the hidden states then being half moved on. */
    bool (*stop)(void *stop_arg);
    void *stop_arg;
    /* NULL, or sees the attention as well; with `only`, where that is the input of q, k and v,
     * before the run stops. */
    int (*see_attention)(void *arg, int64_t s, const struct ptq_shown_attention *,
                         struct ptq_status *);
    /* Only this half of the block is run, on states that enter it. */
    enum ptq_half half;
    /* NULL, or sees what the half adds to the hidden states, y (len x d_model); these are left
     * unchanged then. */
    int (*see_output)(void *arg, int64_t s, const float *y, int64_t len, int64_t d_model,
                      struct ptq_status *);
};
/* Runs the block over every sequence in place; tap may be NULL. Threads take whole sequences. */
int ptq_block_run(const struct ptq_model *, const struct ptq_block *, struct ptq_pool *,
                  struct ptq_hidden *, const struct ptq_block_tap *, struct ptq_status *);
/* Final norm and head for rows [first, first + n) of the hidden states: logits (n x vocab). x: (n
 * x d_model) rows of hidden states. */
struct ptq_head; /* final norm and output matrix in memory */
int ptq_model_load_head(const struct ptq_model *, struct ptq_arena *, struct ptq_head **,
                        struct ptq_status *);
int ptq_head_logits(const struct ptq_model *, const struct ptq_head *, struct ptq_pool *,
                    const float *x, int64_t n, float *logits, struct ptq_status *);

/* ---- architectures (arch_NAME.c exports const struct ptq_arch ptq_arch_NAME) ---- */
struct ptq_sequence { /* one sequence in a block: what an architecture runs */
    const struct ptq_model *model;
    const struct ptq_block *block;
    int64_t index, len;
    float *x;       /* (len x d_model), in place */
    float *scratch; /* scratch_floats(info, longest sequence), contents unspecified */
    /* For the products of a text of one sequence; serial inside a parallel loop. */
    struct ptq_pool *pool;
    const struct ptq_block_tap *tap; /* or NULL */
};

/* How the outside calls a tensor: data, one line a tensor. canonical: "tok_embd", "output_norm",
 * or, of a block, "attn_q" (for "blk.N.attn_q"). outside: "@layers.%d.self_attn.q_proj.weight": '@'
 * is the dialect's prefix, %d the block. The stored matrix may hold more than the canonical one, or
 * hold it otherwise: */
enum ptq_stored_as {
    PTQ_AS_IS,
    /* rows of each head permuted for interleaved rotation (GGUF's llama), where info.rope_paired */
    PTQ_ROPE_PAIRED = 1,
    PTQ_TRANSPOSED = 2, /* (d_in x d_out): GPT-2's Conv1D */
    /* q, k, v in one: rows Q..., K..., V..., or per head q, k, v (BLOOM); part says which */
    PTQ_FUSED = 4,
    PTQ_FUSED_BY_HEAD = 8
};
struct ptq_name {
    const char *canonical, *outside;
    unsigned as; /* enum ptq_stored_as, or'ed */
    int part;    /* 0 q, 1 k, 2 v */
};
struct ptq_dialect {
    const char *const *types; /* model_type of config.json, general.architecture; NULL-terminated */
    const char *const *prefixes;  /* tried in order on tok_embd; NULL: only "" */
    const struct ptq_name *names; /* ends in canonical == NULL */
    /* Metadata to info (all but name, source, key and counts of parameters). Settings that this
     * architecture cannot run as they are meant are PTQ_ERR_USAGE: never another model. */
    int (*configure)(const struct ptq_meta *, struct ptq_model_info *, struct ptq_status *);
    /* Optional, of `hf`: the way back: puts into config what configure reads as this info, with
     * half-layout rotation. PTQ_ERR_USAGE when no configuration says it. */
    int (*to_hf)(const struct ptq_model_info *, json_t *config, struct ptq_status *);
};

/* Tensors outside of the blocks, beside tok_embd (vocab_size x d_embd) and output (the same; absent
 * when tied or in an encoder), which all have: positions, norms, projections. */
struct ptq_outer {
    const char *name; /* NULL: this model does not have it */
    int64_t d0, d1;   /* d1 == 0: a vector */
    bool at_head;     /* used behind the blocks, else before them */
};
enum { PTQ_MAX_OUTER = 8 };
struct ptq_edge { /* a sequence before the first or behind the last block */
    const struct ptq_model_info *info;
    const float *const *outer; /* [PTQ_MAX_OUTER] values of the slots, NULL where absent */
    int64_t n;                 /* rows: positions 0 .. n - 1 before, any rows behind the blocks */
    const float *in;           /* before: (n x d_embd) rows of tok_embd; behind: (n x d_model) */
    float *out; /* before: (n x d_model); behind: (n x d_embd) what the head multiplies */
};
struct ptq_arch {
    const char *name;
    struct ptq_dialect hf, gguf; /* types == NULL: the outside does not know it */
    /* Faults of the configuration that this architecture cannot run: PTQ_ERR_USAGE. */
    int (*check)(const struct ptq_model_info *, struct ptq_status *);
    /* Names, shapes and stages of the block's tensors; data NULL. */
    int (*layout)(const struct ptq_model_info *, int index, struct ptq_arena *, struct ptq_block *,
                  struct ptq_status *);
    /* Fills out[PTQ_MAX_OUTER] (zeroed). */
    void (*outer)(const struct ptq_model_info *, struct ptq_outer *out);
    /* NULL: the rows of tok_embd are the hidden states. */
    int (*embed)(const struct ptq_edge *, struct ptq_status *);
    int (*finish)(const struct ptq_edge *, struct ptq_status *); /* NULL in encoders */
    /* Optional: the outlier variant of a block just loaded; lin[i] and vec[i] are its tensors,
     * writable. */
    int (*outliers)(const struct ptq_model_info *, const struct ptq_block *, float *const *lin,
                    float *const *vec, struct ptq_status *);
    int64_t (*scratch_floats)(const struct ptq_model_info *, int64_t len); /* -1: overflow */
    int (*run_sequence)(const struct ptq_sequence *, struct ptq_status *);
};
#endif
