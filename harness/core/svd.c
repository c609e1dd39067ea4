#include "core/svd.h"
#include "core/linalg.h"
#include "core/size.h"
#include "core/tile.h"
#include <lapacke.h>
#include <limits.h>
#include <stdlib.h>

/* What is A row by row is A^T column by column: LAPACK is asked for A^T = V S U^T, and its V is
 * our V^T, its U^T our U. */
int ptq_svd(double *a, int64_t m, int64_t n, double *u, double *s, double *vt,
            struct ptq_status *st)
{
    int64_t k = m < n ? m : n, size, wanted;
    if (!ptq_size_mul(m, n, &size) || m > INT_MAX || n > INT_MAX)
        return ptq_status_set(st, PTQ_ERR_MEMORY, "%lld x %lld is too large for singular values",
                              (long long)m, (long long)n);
    if (ptq_first_nonfinite_f64(a, size) >= 0)
        return ptq_status_set(st, PTQ_ERR_NUMERIC, "singular values of a matrix with NaN or Inf");
    ptq_blas_single_thread();
    double best;
    int *iwork = calloc((size_t)k, 8 * sizeof *iwork);
    LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'S', (int)n, (int)m, a, (int)n, s, vt, (int)n, u, (int)k,
                        &best, -1, iwork);
    wanted = (int64_t)best;
    double *work = wanted > INT_MAX ? NULL : malloc((size_t)wanted * sizeof *work);
    int info = 0;
    if (work && iwork)
        info = LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'S', (int)n, (int)m, a, (int)n, s, vt, (int)n,
                                   u, (int)k, work, (int)wanted, iwork);
    int rc = PTQ_OK;
    if (!work || !iwork)
        rc = ptq_status_nomem(st, "singular values", (size_t)wanted * sizeof *work);
    else if (info || ptq_first_nonfinite_f64(s, k) >= 0)
        rc = ptq_status_set(st, PTQ_ERR_NUMERIC,
                            "singular values of a %lld x %lld matrix did not converge",
                            (long long)m, (long long)n);
    free(work);
    free(iwork);
    return rc;
}
