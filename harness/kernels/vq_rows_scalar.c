/* vq_rows_scalar.c: rows of vectors, each by itself: the definition. */
#include "kernels/kernel.h"
#include <math.h>
#include <string.h>

/* One level: the smaller place of each pair to the first half of its segment. */
static void split(const uint8_t *bits, const float *x, int64_t cols, int64_t segment, float *out)
{
    const int64_t pairs = segment / 2;
    for (int64_t i = 0; i < cols / 2; i++) {
        const int64_t begin = i / pairs * segment, j = i % pairs;
        const int even_smaller = bits[i / 8] >> (i % 8) & 1;
        out[begin + j] = x[begin + 2 * j + !even_smaller];
        out[begin + pairs + j] = x[begin + 2 * j + even_smaller];
    }
}

/* The row's inputs, in one of the halves of scratch. */
static const float *inputs(const struct ptq_kvector *v, int64_t row, const float *x, float *scratch)
{
    for (int l = 0; l < v->tree_levels; l++) {
        float *out = scratch + l % 2 * v->cols;
        split(v->tree_bits + (row * v->tree_levels + l) * v->tree_ld, x, v->cols, v->cols >> l,
              out);
        x = out;
    }
    return x;
}

static const float *entry(const struct ptq_kvector *v, int64_t row, int64_t s)
{
    const int64_t at = row * v->segments + s,
                  books_per_row = (v->segments - 1) / v->book_segments + 1,
                  b = row / v->book_rows * books_per_row + s / v->book_segments;
    const int64_t code =
        v->code_bits == 8 ? ((const uint8_t *)v->codes)[at] : ((const uint16_t *)v->codes)[at];
    return v->books + (b * v->book_len + code) * v->dim;
}

static float product(const struct ptq_kvector *v, int64_t row, const float *x)
{
    float p[16] = {0};
    for (int64_t s = 0, k = 0; s < v->segments; s++) {
        const float *value = entry(v, row, s);
        for (int64_t d = 0; d < v->dim; d++, k++)
            p[k % 16] = fmaf(value[d], x[k], p[k % 16]);
    }
    for (int half = 8; half; half /= 2)
        for (int l = 0; l < half; l++)
            p[l] += p[l + half];
    return p[0];
}

static void vq_rows(const struct ptq_kvector *v, const struct ptq_kacts *x, int64_t begin,
                    int64_t end, float *scratch, float *y, int64_t ldy)
{
    for (int64_t i = begin; i < end; i++)
        for (int64_t t = 0; t < x->n; t++)
            y[t * ldy + i] = product(v, i, inputs(v, i, x->f32 + t * x->ld, scratch));
}

const struct ptq_kernel ptq_kernel_vq_rows_scalar = {.op = PTQ_KOP_VQ_ROWS, .run.vq_rows = vq_rows};
