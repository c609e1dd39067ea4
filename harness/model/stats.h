/* stats.h: statistics of layer inputs: Hessians in two token classes, absmax, absmean, mean,
 * sampled rows. Accumulation unit: one sequence. A sequence's tokens
 * behind the sink class give one fp32 SYRK partial; those of the class are added token by token in
 * fp64. Both are summed in fp64 in sequence order, each class by itself, so the result depends on
 * neither threads nor memory and no class is a difference of larger numbers. Normalisation:
 * token (sum of 2 x x^T over tokens / n_tokens). Values are rounded to the type they are stored in
 * (f32, with the option f64 f64) before anybody uses them: statistics made in memory and the same
 * read back from a file are the same bits. */
#ifndef PTQ_MODEL_STATS_H
#define PTQ_MODEL_STATS_H
#include "datasets/h5.h"
#include "model/text.h"

/* Of the attention of a block; each projection sees its own. hcol is v's alone, and NULL without
 * it. */
struct ptq_attn_stats {
    struct ptq_attn q, k, v;
};
struct ptq_input_stats { /* one distinct input */
    const char *name;    /* "blk.3.attn_in" */
    int64_t d_in;
    double n_tokens, n_sequences;
    enum ptq_norm norm; /* of hess; what we make is PTQ_NORM_TOKEN */
    /* (d_in x d_in) full symmetric, normalised; hess_sink: part of the first sink_tokens tokens of
     * a sequence, hess_rest: of all others, hess: their sum in fp64. A file without classes has
     * hess alone: the others are NULL. */
    double *hess, *hess_sink, *hess_rest;
    float *absmax, *absmean, *mean; /* [d_in] */
    float *acts;
    int64_t n_acts; /* sampled rows: evenly spaced tokens over the text */
    uint64_t key;   /* names the contents (hess_key of struct ptq_layer) */
    double *cross;  /* (d_in x d_in) sum of 2 (x_fp - x) x^T / n_tokens, or NULL; in no file */
    /* The input of q, k and v, where they were asked for; else NULL. */
    const struct ptq_attn_stats *attn;
    /* (n_cached x d_cached) keys, rotated, and values of all kv heads at sampled tokens */
    float *kcache, *vcache;
    int64_t n_cached, d_cached;
    /* Shares of hess by shards of the text (model/shards.h), n_shards upper triangles, and the
     * tokens behind each; 0, NULL: not asked for. No part of key. */
    int64_t n_shards;
    double *shards, *shard_tokens;
};
/* The same text in the full-precision model: its block, and the states that enter it. */
struct ptq_fp_walk {
    const struct ptq_block *block;
    const struct ptq_hidden *hidden;
};
enum ptq_attn_want {
    PTQ_ATTN_NONE,
    PTQ_ATTN_ROWS, /* without the columns of v, which take n_kv_heads d (d + 1) / 2 numbers */
    PTQ_ATTN_ALL
};
struct ptq_stats_options {
    int64_t sink_tokens; /* first k tokens of a sequence, default 1 */
    int64_t n_acts;      /* default 512 */
    bool f64;            /* fp64 SYRK */
    /* NULL, or asked before every sequence, on any thread: true ends the work with
     * PTQ_ERR_CANCELLED. Decides no value and is no part of a request. */
    bool (*stop)(void *stop_arg);
    void *stop_arg;
    /* The hidden states move on through the block in the same pass (all inputs only); after an
     * error they are half moved on. No part of a request. */
    bool advance;
    int attention;    /* enum ptq_attn_want */
    int64_t n_cached; /* sampled tokens whose keys and values are kept, 0: none */
    /* NULL, or beside which cross is taken; left unchanged. No part of a request. */
    const struct ptq_fp_walk *fp;
    int64_t n_shards; /* at most the text's sequences; 0: none */
};

/* Statistics of the distinct inputs of one block (only == NULL) or of one of them, from hidden
 * states that are the block's input (left unchanged, but with o->advance); the block's weights as
 * they stand. Result in the arena. */
int ptq_stats_block(const struct ptq_model *, const struct ptq_block *, struct ptq_pool *,
                    const struct ptq_hidden *, const struct ptq_stats_options *, const char *only,
                    struct ptq_arena *, struct ptq_input_stats *out /* [PTQ_MAX_STAGES] */, int *n,
                    struct ptq_status *);
const struct ptq_input_stats *ptq_stats_find(const struct ptq_input_stats *, int n,
                                             const char *input);

/* /stats/NAME of a container (SCHEMA.md). */
struct ptq_stats_head {
    const char *text, *upstream;
    char text_key[33], model_key[33];
    int64_t n_sequences, n_tokens, seqlen, sink_tokens;
};
int ptq_stats_write_head(struct ptq_h5 *, const char *name, const struct ptq_stats_head *,
                         struct ptq_status *);
int ptq_stats_write_input(struct ptq_h5 *, const char *name, const struct ptq_input_stats *,
                          bool f64, struct ptq_status *);
/* PTQ_ERR_USAGE when /stats/NAME is absent or wrong. text and upstream live in the arena. */
int ptq_stats_read_head(struct ptq_h5 *, const char *name, struct ptq_arena *,
                        struct ptq_stats_head *, struct ptq_status *);
/* NaN and Inf: PTQ_ERR_NUMERIC. The caller compares d_in with the layer's: ptq_layer_from_model
 * asserts it. */
int ptq_stats_read_input(struct ptq_h5 *, const char *name, const char *input, struct ptq_arena *,
                         struct ptq_input_stats *, struct ptq_status *);

/* The layer a method sees: weights of lin, statistics of its input (stats may be NULL). Borrows
 * everything. */
void ptq_layer_from_model(const struct ptq_linear *, int block, const struct ptq_input_stats *,
                          struct ptq_layer *);

/* The whole capture of a full-precision model into a container: `ptq capture`. Progress on stderr
 * unless quiet. Block by block; a file that holds some blocks of the same request already is
 * continued, not begun again. The hidden states behind the last finished block are kept beside it
 * (OUT.states) when making them again would take long, so that going on costs no block twice. */
struct ptq_capture_args {
    const struct ptq_model *model;
    const struct ptq_text *text;
    const struct ptq_stats_options *options;
    const char *out_path, *name;
    struct ptq_pool *pool;
    bool quiet;
    /* NULL, or asked before every sequence, on any thread: true ends the capture with
     * PTQ_ERR_CANCELLED. Blocks that are written stay, and the same capture goes on behind them.
     * The options' own stop is not looked at. */
    bool (*stop)(void *stop_arg);
    void *stop_arg;
    bool whole_blocks; /* a begun block is finished and written before the stop is obeyed */
    /* NULL, or what the bits depend on beside the request (BLAS core, instruction set): statistics
     * of another arithmetic are not continued. */
    const char *arithmetic;
    struct ptq_spill spill; /* where hidden states go; folder NULL: they stay in memory */
    /* Statistics of attention that would take more are refused before any work; 0: no limit. */
    int64_t memory_bytes;
};
int ptq_capture(const struct ptq_capture_args *, struct ptq_status *);
#endif
