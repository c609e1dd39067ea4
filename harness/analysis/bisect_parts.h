/* bisect_parts.h: which part of one layer's stored form carries a difference; private to bisect. */
#ifndef PTQ_ANALYSIS_BISECT_PARTS_H
#define PTQ_ANALYSIS_BISECT_PARTS_H
#include "analysis/bisect_walk.h"

/* Compares the two forms of a site and scores OLD with parts of NEW's in their place. from: a
 * waypoint of OLD at or before the site's block. */
int ptq_bisect_parts(struct ptq_walk *, int64_t site, const struct ptq_waypoint *from,
                     struct ptq_bisect_parts *, struct ptq_status *);
#endif
