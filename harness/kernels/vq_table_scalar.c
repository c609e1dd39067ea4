/* vq_table_scalar.c: what every entry of a book gives with the inputs of a segment: the definition.
 */
#include "kernels/kernel.h"
#include <math.h>

static void vq_table(const struct ptq_kvector *v, const float *x, int64_t begin, int64_t end,
                     float *table)
{
    for (int64_t s = begin; s < end; s++) {
        const float *book = v->books + s / v->book_segments * v->dim * v->book_ld;
        for (int64_t i = 0; i < v->book_ld; i++) {
            float t = 0;
            for (int64_t d = 0; d < v->dim; d++)
                t = fmaf(book[d * v->book_ld + i], x[s * v->dim + d], t);
            table[(s - begin) * v->book_ld + i] = t;
        }
    }
}

const struct ptq_kernel ptq_kernel_vq_table_scalar = {.op = PTQ_KOP_VQ_TABLE,
                                                      .run.vq_table = vq_table};
