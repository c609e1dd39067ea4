/* shards.h: partial Hessians of an input, so that its text can be taken apart again: sequence s of
 * n belongs to shard s * K / n (rounded down). A shard is an upper triangle by rows, element (i,
 * j), i <= j, at i d - i (i - 1) / 2 + (j - i); both token classes together, in the unit of the
 * total (2 / n_tokens of the whole text), summed in fp64 in sequence order and rounded to the
 * stored type: the shards add up to hess but for that rounding. */
#ifndef PTQ_MODEL_SHARDS_H
#define PTQ_MODEL_SHARDS_H
#include "model/stats.h"

enum { PTQ_MOST_SHARDS = 256 };

static inline int64_t ptq_shard_of(int64_t sequence, int64_t n_sequences, int64_t n_shards)
{
    return sequence * n_shards / n_sequences;
}
static inline int64_t ptq_triangle_row(int64_t i, int64_t d)
{
    return i * d - i * (i - 1) / 2;
}

/* Empty ones, with the tokens of each. PTQ_ERR_USAGE: fewer sequences than shards. */
int ptq_shards_new(struct ptq_input_stats *, int64_t n_shards, const struct ptq_tokens *,
                   struct ptq_arena *, struct ptq_status *);
/* Rows begin .. end - 1 of a sequence's sums: gram or gram64 (d x d) of the tokens behind the sink
 * class, the class itself (n_sink x d). */
struct ptq_shard_part {
    const float *gram;
    const double *gram64;
    const float *sink;
    int64_t n_sink;
};
void ptq_shards_add(struct ptq_input_stats *, int64_t shard, const struct ptq_shard_part *,
                    int64_t begin, int64_t end);
/* Sums to values: times scale, rounded to what is stored. */
void ptq_shards_finish(struct ptq_input_stats *, double scale, bool f64);

/* Datasets `shards` and `shard_tokens` of the input's group; reading an input without them leaves
 * n_shards at 0. */
int ptq_shards_write(struct ptq_h5 *, const char *group, const struct ptq_input_stats *, bool f64,
                     struct ptq_status *);
int ptq_shards_read(struct ptq_h5 *, const char *group, struct ptq_arena *,
                    struct ptq_input_stats *, struct ptq_status *);

/* In memory, of one input. */
double ptq_shards_bytes(int64_t n_shards, double d);
#endif
