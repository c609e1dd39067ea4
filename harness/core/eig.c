#include "core/eig.h"
#include "core/linalg.h"
#include "core/size.h"
#include "core/tile.h"
#include <lapacke.h>
#include <limits.h>
#include <stdlib.h>

int ptq_eigenvalues(double *a, int64_t n, double *values, struct ptq_status *st)
{
    int64_t size;
    if (!ptq_size_mul(n, n, &size) || n > INT_MAX / 64)
        return ptq_status_set(st, PTQ_ERR_MEMORY, "%lld x %lld is too large for eigenvalues",
                              (long long)n, (long long)n);
    if (n == 0)
        return PTQ_OK;
    if (ptq_first_nonfinite_f64(a, size) >= 0)
        return ptq_status_set(st, PTQ_ERR_NUMERIC, "eigenvalues of a matrix with NaN or Inf");
    ptq_blas_single_thread();
    double best = 0;
    LAPACKE_dsyev_work(LAPACK_COL_MAJOR, 'N', 'L', (int)n, a, (int)n, values, &best, -1);
    const int64_t wanted = (int64_t)best;
    double *work = wanted > 0 && wanted <= INT_MAX ? malloc((size_t)wanted * sizeof *work) : NULL;
    if (!work)
        return ptq_status_nomem(st, "eigenvalues", (size_t)wanted * sizeof *work);
    int info = LAPACKE_dsyev_work(LAPACK_COL_MAJOR, 'N', 'L', (int)n, a, (int)n, values, work,
                                  (int)wanted);
    free(work);
    if (info || ptq_first_nonfinite_f64(values, n) >= 0)
        return ptq_status_set(st, PTQ_ERR_NUMERIC,
                              "eigenvalues of a %lld x %lld matrix did not converge", (long long)n,
                              (long long)n);
    return PTQ_OK;
}
