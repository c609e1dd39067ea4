/* blasref.h: the BLAS library's own fp32 product, as a yardstick for time. Not for results: its
 * sums depend on shape, position and threads (linalg.h is for results). */
#ifndef PTQ_CORE_BLASREF_H
#define PTQ_CORE_BLASREF_H
#include <stdint.h>

struct ptq_blasref {    /* Y (n x rows) = X (n x cols) W^T, row-major without gaps */
    const float *w, *x; /* W (rows x cols) */
    int64_t rows, cols, n;
    float *y;
};
/* Rows [begin, end) of W on the calling thread. */
void ptq_blasref_rows(const struct ptq_blasref *, int64_t begin, int64_t end);
/* All of it on so many threads of the library's own. Those spin for a while afterwards: sleep
 * before anything else is timed. Not while others use the library. */
void ptq_blasref_all(const struct ptq_blasref *, int threads);
#endif
