/* hull.h: methods at equal stored bits. The points of a family (a method with its options and
 * settings, over all bits and groups: a series of the board) give its lower convex hull of
 * (stored bits, log loss); the family's loss at a rate is that of the hull there. */
#ifndef PTQ_ANALYSIS_HULL_H
#define PTQ_ANALYSIS_HULL_H
#include "core/arena.h"

struct ptq_hull {
    double *bits, *log_loss; /* corners: bits rise, log_loss falls */
    int64_t *at;             /* index of the point that a corner is */
    int64_t n;               /* 0: no point had a positive loss */
    double last_bits;        /* of the point with the most: there the least loss still holds */
};
/* Of points with finite bits and a finite loss above 0; the others have no logarithm and are left
 * out. A family that is worse with more bits is taken where it is best with at most as many. */
int ptq_hull_make(const double *bits, const double *loss, int64_t n, struct ptq_arena *,
                  struct ptq_hull *, struct ptq_status *);

/* log loss = (1 - w) log loss of point a + w log loss of point b, 0 <= w <= 1. */
struct ptq_hull_place {
    int64_t a, b;
    double w, log_loss;
};
/* False outside of the points' bits: nothing is extrapolated. Rates within 1e-9 of an end are the
 * end (means over seeds of one number differ in their last digit). */
bool ptq_hull_find(const struct ptq_hull *, double bits, struct ptq_hull_place *);

/* The rates at which a report compares: multiples of 1/4 bit that at least half of the hulls, and
 * two, reach; of every second, fourth, ... one where there are more than max, starting where most
 * hulls reach. Rising; returns how many. */
int ptq_hull_rates(const struct ptq_hull *, int64_t n_hulls, int max, double *rates);
#endif
