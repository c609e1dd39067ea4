/* model.h: a language model that runs block by block. The one operation is "run block b over these
 * sequences' hidden states"; evaluation, statistics and sequential quantization all walk the
 * blocks in order with one block in memory. Architectures are files model/arch_NAME.c (registry by
 * folder). Arithmetic: fp32 products through core/linalg.h per sequence, softmax and norms in fp32
 * with fp64 sums in a fixed order; the same bits for any thread count, batch and memory budget. */
#ifndef PTQ_MODEL_MODEL_H
#define PTQ_MODEL_MODEL_H
#include "core/arena.h"
#include "core/pool.h"

struct ptq_model; /* opaque; read-only after open, shared by threads */

struct ptq_model_info {
    const char *name, *arch, *source; /* source: the file */
    int64_t d_model, n_blocks, n_heads, n_kv_heads, head_dim, d_ff, vocab_size, max_context;
    double rope_theta, norm_eps;
    bool rope_interleaved, tied_head;
    int64_t n_params;       /* all weights */
    int64_t n_block_params; /* those of the block matrices: what is quantized */
    const char *tokenizer;  /* "bytes" or "none" */
    char key[33];           /* file contents and options: names the model in keys */
};
struct ptq_model_options {
    bool outliers; /* the demo model's outlier variant: function-preserving powers of two */
};

/* source: a path of a container (datasets/SCHEMA.md), of a llama2.c checkpoint (name ends in
 * .bin), or "demo" for the embedded default. Presence and shape of every tensor are checked here,
 * that values are finite when they are loaded. */
int ptq_model_open(struct ptq_model **, const char *source, const struct ptq_model_options *,
                   struct ptq_status *);
void ptq_model_close(struct ptq_model *);
const struct ptq_model_info *ptq_model_info(const struct ptq_model *);

/* One linear of a block. name: "blk.3.attn_q"; input: the distinct input it reads, "blk.3.attn_in"
 * (SCHEMA.md). w may be replaced by the caller (another (d_out x d_in) matrix that outlives the
 * use): that is how a quantized model runs. */
struct ptq_linear {
    const char *name, *input;
    enum ptq_role role;
    int stage; /* true-sequential stage inside the block: 0 {q k v}, 1 {o}, 2 {gate up}, 3 {down} */
    int64_t d_out, d_in;
    const float *w;
};
enum { PTQ_MAX_LINEARS = 8, PTQ_MAX_STAGES = 4, PTQ_MAX_VECTORS = 8 };
struct ptq_vector { /* a norm or bias: "blk.3.attn_norm" */
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
/* Hidden states of all sequences: rows offset[s] .. offset[s] + len[s] - 1 belong to sequence s. */
struct ptq_hidden {
    const struct ptq_tokens *tokens;
    int64_t d_model;
    float *at; /* (n_total x d_model) */
};

/* Ids outside the vocabulary and sequences over max_context: PTQ_ERR_USAGE. at is taken from the
 * arena. */
int ptq_model_embed(const struct ptq_model *, const struct ptq_tokens *, struct ptq_arena *,
                    struct ptq_hidden *, struct ptq_status *);

/* Sees the input x (len x d_in) of a distinct input of sequence s, on the thread that runs the
 * sequence; sequences come in any order. see == NULL: nothing is looked at, the tap only carries
 * the stop. */
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
};
/* Runs the block over every sequence in place; tap may be NULL. Threads take whole sequences. */
int ptq_block_run(const struct ptq_model *, const struct ptq_block *, struct ptq_pool *,
                  struct ptq_hidden *, const struct ptq_block_tap *, struct ptq_status *);
/* Final norm and head for rows [first, first + n) of the hidden states: logits (n x vocab). x: (n
 * x d_model) rows of hidden states. */
struct ptq_head; /* final norm and output matrix in memory */
int ptq_model_load_head(const struct ptq_model *, struct ptq_arena *, struct ptq_head **,
                        struct ptq_status *);
int ptq_head_logits(const struct ptq_model *, const struct ptq_head *, const float *x, int64_t n,
                    float *logits, struct ptq_status *);

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
struct ptq_arch {
    const char *name;
    /* Faults of the configuration that this architecture cannot run: PTQ_ERR_USAGE. */
    int (*check)(const struct ptq_model_info *, struct ptq_status *);
    /* Names, shapes and stages of the block's tensors; data NULL. */
    int (*layout)(const struct ptq_model_info *, int index, struct ptq_arena *, struct ptq_block *,
                  struct ptq_status *);
    /* Optional: the outlier variant of a block just loaded; lin[i] and vec[i] are its tensors,
     * writable. */
    int (*outliers)(const struct ptq_model_info *, const struct ptq_block *, float *const *lin,
                    float *const *vec, struct ptq_status *);
    int64_t (*scratch_floats)(const struct ptq_model_info *, int64_t len); /* -1: overflow */
    int (*run_sequence)(const struct ptq_sequence *, struct ptq_status *);
};
#endif
