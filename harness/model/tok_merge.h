/* tok_merge.h: merging of neighbouring symbols, best pair first, ties to the left: the inner loop
 * of byte pair encoding, O(n log n) for n symbols, whatever the text. */
#ifndef PTQ_MODEL_TOK_MERGE_H
#define PTQ_MODEL_TOK_MERGE_H
#include <stdbool.h>
#include "core/status.h"

/* What a pair of symbols becomes; the smallest rank merges first. None is negative. */
struct ptq_pair {
    int32_t left, right, rank, merged;
};
/* A hash of pairs; zeroed is empty. */
struct ptq_pairs {
    struct ptq_pair *at; /* slots; left -1: free */
    int64_t n, n_slots;  /* a power of two, or 0 */
};
/* A pair that is there already gets the new values, as the last of equal merges counts. */
int ptq_pairs_add(struct ptq_pairs *, struct ptq_pair, struct ptq_status *);
void ptq_pairs_release(struct ptq_pairs *);

/* A token whose score says how early pairs that make it merge. */
struct ptq_scored {
    float score;
    int32_t id, rank;
};
/* Sorts by score, the highest first, and fills the ranks; equal scores are one rank, where the left
 * pair comes first. */
void ptq_rank_scores(struct ptq_scored *, int64_t n);

/* Working memory of one encoder; zeroed at first, for one thread of control. */
struct ptq_merger {
    struct ptq_merge_node *node;
    struct ptq_merge_candidate *heap;
    int64_t room; /* symbols */
};
/* Merges id[0 .. n) in place; *n is how many are left. */
int ptq_merge(struct ptq_merger *, const struct ptq_pairs *, int32_t *id, int64_t *n,
              struct ptq_status *);
void ptq_merger_release(struct ptq_merger *);
#endif
