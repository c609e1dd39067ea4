#include "core/blasref.h"
#include "core/tile.h"
#include <cblas.h>

static void product(const struct ptq_blasref *p, int64_t begin, int64_t end)
{
    const float *w = p->w + begin * p->cols;
    const blasint rows = (blasint)(end - begin), cols = (blasint)p->cols;
    if (p->n == 1)
        cblas_sgemv(CblasRowMajor, CblasNoTrans, rows, cols, 1, w, cols, p->x, 1, 0, p->y + begin,
                    1);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)p->n, rows, cols, 1, p->x,
                    cols, w, cols, 0, p->y + begin, (blasint)p->rows);
}

void ptq_blasref_rows(const struct ptq_blasref *p, int64_t begin, int64_t end)
{
    ptq_blas_single_thread();
    if (begin < end)
        product(p, begin, end);
}

void ptq_blasref_all(const struct ptq_blasref *p, int threads)
{
    ptq_blas_single_thread();
    openblas_set_num_threads(threads);
    product(p, 0, p->rows);
    openblas_set_num_threads(1);
}
