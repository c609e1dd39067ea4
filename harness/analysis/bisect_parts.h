/* bisect_parts.h: which part of one layer's stored form carries a difference; private to bisect. */
#ifndef PTQ_ANALYSIS_BISECT_PARTS_H
#define PTQ_ANALYSIS_BISECT_PARTS_H
#include "analysis/bisect_walk.h"

struct ptq_bisect_place {            /* one layer of the walk from OLD to NEW */
    int64_t site, n_new;             /* its site; layers before it that are NEW's */
    const struct ptq_waypoint *from; /* of that hybrid, at or before the site's block */
    const double *nll;               /* of that hybrid, by window */
    const struct ptq_interval *dnll; /* that of the layer */
};
/* Compares the two forms of the layer and scores the hybrid with parts of NEW's in place of OLD's.
 */
int ptq_bisect_parts(struct ptq_walk *, const struct ptq_bisect_place *, struct ptq_bisect_parts *,
                     struct ptq_status *);
#endif
