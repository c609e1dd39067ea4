/* kmeans.h: what the two files of k-means share. Private to quant/. */
#ifndef PTQ_QUANT_KMEANS_H
#define PTQ_QUANT_KMEANS_H
#include "quant/ctx.h"

typedef struct PTQ_REAL(ptq_kmeans) kmeans;

/* Points of dim 1 by rising value, equal ones in their order. */
struct PTQ_REAL(ptq_sorted_points) {
    ptq_real *x, *weight; /* [n]; weight: 1 where none was given */
    int64_t *at;          /* [n] index of the point */
};
int PTQ_REAL(ptq_sort_points)(const kmeans *, struct ptq_arena *,
                              struct PTQ_REAL(ptq_sorted_points) *, struct ptq_status *);
/* Codes of the sorted points for ascending centroids. */
void PTQ_REAL(ptq_sorted_codes)(const ptq_real *x, int64_t n, const ptq_real *centroids, int64_t k,
                                uint16_t *codes);
/* n <= k: every point is a centroid; the rest repeat the last. False when n > k. */
bool PTQ_REAL(ptq_kmeans_few)(const kmeans *);
#endif
