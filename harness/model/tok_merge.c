#include "model/tok_merge.h"
#include "core/size.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- pairs ---- */

static uint64_t pair_hash(int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
}

/* The slot of this pair, or the free one where it belongs. */
static struct ptq_pair *slot_of(const struct ptq_pairs *p, int32_t left, int32_t right)
{
    uint64_t mask = (uint64_t)p->n_slots - 1, i = pair_hash(left, right) & mask;
    while (p->at[i].left >= 0 && (p->at[i].left != left || p->at[i].right != right))
        i = (i + 1) & mask;
    return &p->at[i];
}

static const struct ptq_pair *find(const struct ptq_pairs *p, int32_t left, int32_t right)
{
    const struct ptq_pair *slot = slot_of(p, left, right);
    return slot->left < 0 ? NULL : slot;
}

static int resize(struct ptq_pairs *p, int64_t n_slots, struct ptq_status *st)
{
    struct ptq_pairs larger = {.n = p->n, .n_slots = n_slots};
    int64_t bytes;
    if (!ptq_size_mul(n_slots, (int64_t)sizeof *larger.at, &bytes) ||
        !(larger.at = malloc((size_t)bytes)))
        return ptq_status_nomem(st, "pairs of symbols", (size_t)n_slots * sizeof *larger.at);
    for (int64_t i = 0; i < n_slots; i++)
        larger.at[i].left = -1;
    for (int64_t i = 0; i < p->n_slots; i++)
        if (p->at[i].left >= 0)
            *slot_of(&larger, p->at[i].left, p->at[i].right) = p->at[i];
    free(p->at);
    *p = larger;
    return PTQ_OK;
}

int ptq_pairs_add(struct ptq_pairs *p, struct ptq_pair pair, struct ptq_status *st)
{
    int code = PTQ_OK;
    if (2 * (p->n + 1) > p->n_slots)
        code = resize(p, p->n_slots ? 2 * p->n_slots : 64, st);
    if (code != PTQ_OK)
        return code;
    struct ptq_pair *slot = slot_of(p, pair.left, pair.right);
    p->n += slot->left < 0;
    *slot = pair;
    return PTQ_OK;
}

void ptq_pairs_release(struct ptq_pairs *p)
{
    free(p->at);
    *p = (struct ptq_pairs){0};
}

/* ---- ranks ---- */

static int by_score(const void *a, const void *b)
{
    const struct ptq_scored *x = a, *y = b;
    return (x->score < y->score) - (x->score > y->score);
}

void ptq_rank_scores(struct ptq_scored *t, int64_t n)
{
    qsort(t, (size_t)n, sizeof *t, by_score);
    int32_t rank = 0;
    for (int64_t i = 0; i < n; i++) {
        rank += i > 0 && t[i].score < t[i - 1].score;
        t[i].rank = rank;
    }
}

/* ---- merging ---- */

/* Symbols are a list; one that was merged into its left neighbour has id -1. */
struct ptq_merge_node {
    int32_t id, left, right; /* neighbours' places, -1: none */
};
/* Two neighbours that may merge. It is stale when either is another symbol by now: symbols only
 * grow, so the same two ids at one place are the same two symbols. */
struct ptq_merge_candidate {
    uint64_t order; /* rank, then place of the left one: one comparison orders both */
    int32_t left_id, right_id, merged;
};

static void sift_up(struct ptq_merge_candidate *heap, int64_t i, struct ptq_merge_candidate c)
{
    for (int64_t parent; i > 0 && heap[parent = (i - 1) / 2].order > c.order; i = parent)
        heap[i] = heap[parent];
    heap[i] = c;
}

static void sift_down(struct ptq_merge_candidate *heap, int64_t n, int64_t i,
                      struct ptq_merge_candidate c)
{
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && heap[child + 1].order < heap[child].order)
            child++;
        if (heap[child].order >= c.order)
            break;
        heap[i] = heap[child];
    }
    heap[i] = c;
}

/* Every merge takes one symbol away and adds two candidates: there are never more than 3 n. */
static int make_room(struct ptq_merger *m, int64_t n, struct ptq_status *st)
{
    if (n <= m->room)
        return PTQ_OK;
    int64_t room = n + n / 2 + 64;
    if (n > INT32_MAX / 4)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "a text of %lld symbols in one piece is too long; split it into files", (long long)n);
    struct ptq_merge_node *node = realloc(m->node, (size_t)room * sizeof *node);
    if (node)
        m->node = node;
    struct ptq_merge_candidate *heap =
        node ? realloc(m->heap, 3 * (size_t)room * sizeof *heap) : NULL;
    if (!heap)
        return ptq_status_nomem(st, "symbols of a text", 3 * (size_t)room * sizeof *heap);
    m->heap = heap;
    m->room = room;
    return PTQ_OK;
}

static bool candidate_at(const struct ptq_merger *m, const struct ptq_pairs *pairs, int32_t left,
                         struct ptq_merge_candidate *out)
{
    int32_t right = left < 0 ? -1 : m->node[left].right;
    const struct ptq_pair *p = right < 0 ? NULL : find(pairs, m->node[left].id, m->node[right].id);
    if (p)
        *out = (struct ptq_merge_candidate){(uint64_t)p->rank << 32 | (uint32_t)left, p->left,
                                            p->right, p->merged};
    return p != NULL;
}

static int64_t first_candidates(struct ptq_merger *m, const struct ptq_pairs *pairs, int64_t n)
{
    int64_t n_heap = 0;
    for (int32_t i = 0; i + 1 < n; i++)
        n_heap += candidate_at(m, pairs, i, &m->heap[n_heap]);
    for (int64_t i = n_heap / 2 - 1; i >= 0; i--)
        sift_down(m->heap, n_heap, i, m->heap[i]);
    return n_heap;
}

/* The right neighbour of `left` goes into it. */
static void join(struct ptq_merge_node *node, int32_t left, int32_t merged)
{
    int32_t gone = node[left].right;
    node[left].id = merged;
    node[left].right = node[gone].right;
    if (node[gone].right >= 0)
        node[node[gone].right].left = left;
    node[gone].id = -1;
}

static void run(struct ptq_merger *m, const struct ptq_pairs *pairs, int64_t n_heap)
{
    struct ptq_merge_node *node = m->node;
    while (n_heap > 0) {
        const struct ptq_merge_candidate c = m->heap[0];
        int32_t left = (int32_t)(c.order & 0xFFFFFFFFu);
        n_heap--;
        if (n_heap > 0)
            sift_down(m->heap, n_heap, 0, m->heap[n_heap]);
        if (node[left].id != c.left_id || node[left].right < 0 ||
            node[node[left].right].id != c.right_id)
            continue;
        join(node, left, c.merged);
        struct ptq_merge_candidate next;
        if (candidate_at(m, pairs, node[left].left, &next))
            sift_up(m->heap, n_heap++, next);
        if (candidate_at(m, pairs, left, &next))
            sift_up(m->heap, n_heap++, next);
    }
}

int ptq_merge(struct ptq_merger *m, const struct ptq_pairs *pairs, int32_t *id, int64_t *n,
              struct ptq_status *st)
{
    int code = make_room(m, *n, st);
    if (code != PTQ_OK || *n < 2 || pairs->n == 0)
        return code;
    for (int32_t i = 0; i < *n; i++)
        m->node[i] = (struct ptq_merge_node){id[i], i - 1, i + 1 < *n ? i + 1 : -1};
    run(m, pairs, first_candidates(m, pairs, *n));
    int64_t left = 0;
    for (int32_t i = 0; i >= 0; i = m->node[i].right)
        id[left++] = m->node[i].id;
    *n = left;
    return PTQ_OK;
}

void ptq_merger_release(struct ptq_merger *m)
{
    free(m->node);
    free(m->heap);
    *m = (struct ptq_merger){0};
}
