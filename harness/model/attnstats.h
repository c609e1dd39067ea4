/* attnstats.h: statistics of attention for its projections (struct ptq_attn): BoA, arXiv
 * 2406.13474, Table 1. From the rotated q and k, the input x and the model's own mask:
 *   q: mean over positions l of R_l^T C R_l, C = (2 / tokens) sum of k k^T over the rotated keys of
 *      the head's kv head
 *   k: the same with C of the rotated queries, mean over the query heads of the kv head
 *   v: rows: sum over its query heads of W_o,h^T W_o,h; columns: (2 / tokens) sum over sequences of
 *      (A X)^T (A X), mean over its query heads (X: tokens by rows)
 * R_l is the rotation of position l as the model turns it (the identity without rotary positions),
 * a position counting as often as the text has it. With norms between projection and rotation
 * (Qwen3) the factor is G mean(R_l^T C R_l) G, G their gain: what the norm divides by, another
 * number for each token, is left out. Second moments, not centred.
 *
 * The unit is a sequence and a kv head: fp32 partials (fp64 with the option f64, attention
 * included) are summed in fp64 in order of the sequences. A thread takes a kv head with all its
 * sequences, so threads and memory decide no sum. */
#ifndef PTQ_MODEL_ATTNSTATS_H
#define PTQ_MODEL_ATTNSTATS_H
#include "model/stats.h"

struct ptq_attnsum; /* sums of one block under way */
struct ptq_attnsum_args {
    const struct ptq_model *model;
    const struct ptq_block *block;
    const struct ptq_tokens *tokens; /* of the whole text */
    const struct ptq_stats_options *options;
    int64_t n_slots;          /* sequences kept at once */
    struct ptq_arena *result; /* what finish gives lives there */
};
int ptq_attnsum_new(struct ptq_attnsum **, const struct ptq_attnsum_args *, struct ptq_arena *,
                    struct ptq_status *);
/* Copies what a sequence shows into a slot; on any thread, each slot once a wave. */
void ptq_attnsum_keep(struct ptq_attnsum *, int64_t slot, const struct ptq_shown_attention *);
/* Adds slots 0 .. n - 1 in order. */
int ptq_attnsum_add(struct ptq_attnsum *, struct ptq_pool *, int64_t n, struct ptq_status *);
int ptq_attnsum_finish(struct ptq_attnsum *, struct ptq_pool *, const struct ptq_attn_stats **,
                       struct ptq_status *);

/* What they take: a block's in memory while they are made, the model's in a file and in work. */
struct ptq_attn_cost {
    double memory_bytes, file_bytes, flops;
};
struct ptq_attn_cost ptq_attn_cost(const struct ptq_model_info *, const struct ptq_tokens *,
                                   const struct ptq_stats_options *, int threads);
/* PTQ_ERR_MEMORY with the remedies when that is over memory_bytes; 0: no limit. */
int ptq_attn_check(const struct ptq_model_info *, const struct ptq_tokens *,
                   const struct ptq_stats_options *, int threads, int64_t memory_bytes,
                   struct ptq_status *);

/* Datasets of a container's group, /stats/NAME/INPUT (SCHEMA.md). *out is NULL when the group has
 * none. */
int ptq_attn_write(struct ptq_h5 *, const char *group, const struct ptq_attn_stats *, int64_t d_in,
                   bool f64, struct ptq_status *);
int ptq_attn_read(struct ptq_h5 *, const char *group, int64_t d_in, struct ptq_arena *,
                  const struct ptq_attn_stats **out, struct ptq_status *);
/* Names the contents. */
uint64_t ptq_attn_key(const struct ptq_attn *, int64_t d_in);

/* ---- attnstats_real.c: a sequence and a kv head */
struct ptq_attn_sums {
    double *keys, *queries; /* (head_dim x head_dim) sums of k k^T; of q q^T over the query heads */
    double
        *mixed; /* d (d + 1) / 2, upper triangle of the sums of (A X)^T (A X); NULL: not wanted */
};
struct ptq_attn_sequence {
    const struct ptq_attention *at;
    const float *x; /* (len x d) */
    int64_t d, kv_head;
};
int ptq_attn_add_f32(struct ptq_pool *, const struct ptq_attn_sequence *,
                     const struct ptq_attn_sums *, struct ptq_status *);
int ptq_attn_add_f64(struct ptq_pool *, const struct ptq_attn_sequence *,
                     const struct ptq_attn_sums *, struct ptq_status *);
/* The attention of a head's queries t0 .. t0 + n - 1: (n x *cols) weights of the keys *first ..
 * *first + *cols - 1; all others have none. a: n len values. */
struct ptq_attn_rows {
    int64_t head, t0, n;
    int64_t first, cols; /* out */
};
int ptq_attn_weights_f32(struct ptq_pool *, const struct ptq_attention *, struct ptq_attn_rows *,
                         float *a, struct ptq_status *);
int ptq_attn_weights_f64(struct ptq_pool *, const struct ptq_attention *, struct ptq_attn_rows *,
                         double *a, struct ptq_status *);
#endif
