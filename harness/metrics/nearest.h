/* nearest.h: the best codes there are on a given grid, by branch and bound. */
#ifndef PTQ_METRICS_NEAREST_H
#define PTQ_METRICS_NEAREST_H
#include "core/status.h"

enum { PTQ_NEAREST_MOST = 16 };
/* One row: the least of (v - w)^T H (v - w) over v_j = scale_j (q_j - zero_j), q_j whole in
 * [0, n_codes). */
struct ptq_nearest {
    int n;                          /* 1 .. PTQ_NEAREST_MOST */
    const double *chol;             /* (n x n) row-major upper R, R^T R = H, diagonal positive */
    const double *w, *scale, *zero; /* [n] */
    int n_codes;
    double bound;       /* a loss that some codes have; the search keeps below it */
    int64_t most_nodes; /* gives up after so many */
};
/* The least loss, `bound` where nothing is below it; false when it gave up. Schnorr and Euchner's
 * depth-first search (Mathematical Programming 66, 1994), coordinates from the last to the first,
 * codes of a coordinate in order of their distance. */
bool ptq_nearest_loss(const struct ptq_nearest *, double *loss);
#endif
