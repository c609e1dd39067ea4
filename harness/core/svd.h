/* svd.h: singular values and vectors, by LAPACK on one thread (design section 4): the same bits
 * for any thread count. */
#ifndef PTQ_CORE_SVD_H
#define PTQ_CORE_SVD_H
#include "core/status.h"

/* A (m x n, row-major, contiguous; destroyed) = U diag(s) V^T with k = min(m, n): u (m x k), s [k]
 * falling, vt (k x n), row-major. Checks that A is finite. PTQ_ERR_NUMERIC when it is not, or when
 * the algorithm does not converge; PTQ_ERR_MEMORY. */
int ptq_svd(double *a, int64_t m, int64_t n, double *u, double *s, double *vt, struct ptq_status *);
#endif
