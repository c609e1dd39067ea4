/* eig.h: eigenvalues of a symmetric matrix, by LAPACK on one thread (design section 4): the same
 * bits for any thread count. */
#ifndef PTQ_CORE_EIG_H
#define PTQ_CORE_EIG_H
#include "core/status.h"

/* Eigenvalues of A (n x n, symmetric, contiguous; destroyed) into values[n], rising. Takes some n
 * doubles besides. Checks that A is finite: PTQ_ERR_NUMERIC when it is not, or when the algorithm
 * does not converge; PTQ_ERR_MEMORY. */
int ptq_eigenvalues(double *a, int64_t n, double *values, struct ptq_status *st);
#endif
