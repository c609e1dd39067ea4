/* product.c: what product quantization costs, and the largest books that a budget pays for. */
#include "ptq.h"
#include <math.h>
#include <stdio.h>

int ptq_product_code_bits(int64_t k)
{
    int bits = 0;
    while ((k - 1) >> bits)
        bits++;
    return bits;
}

double ptq_product_bits(int64_t rows, int64_t cols, int64_t subspaces, int64_t k, int book_bits)
{
    double steps = book_bits == PTQ_BOOK_F32 ? 0 : 2 * 32;
    return (double)rows * (double)subspaces * ptq_product_code_bits(k) +
           (double)k * (double)cols * book_bits + steps;
}

int64_t ptq_product_most(int64_t rows, int64_t cols, int64_t subspaces, int book_bits,
                         double budget)
{
    enum { MOST = 65536 };
    int64_t fits = 0, above = (rows < MOST ? rows : MOST) + 1;
    while (above - fits > 1) {
        int64_t k = fits + (above - fits) / 2;
        if (ptq_product_bits(rows, cols, subspaces, k, book_bits) <= budget)
            fits = k;
        else
            above = k;
    }
    return fits;
}

int ptq_product_subspaces(struct ptq_ctx *ctx, const struct ptq_layer *layer, int64_t m,
                          int64_t *subspaces)
{
    int64_t cols = layer->w.cols;
    if (m ? cols % m : cols % PTQ_PRODUCT_DIM)
        return ptq_skip(
            ctx, "%lld columns do not fall into %s%lld; set m to a divisor of the columns",
            (long long)cols, m ? "m = " : "runs of ", (long long)(m ? m : PTQ_PRODUCT_DIM));
    *subspaces = m ? m : cols / PTQ_PRODUCT_DIM;
    return PTQ_OK;
}

double ptq_product_least(const struct ptq_layer *layer, int64_t subspaces, int book_bits)
{
    const int64_t rows = layer->w.rows, cols = layer->w.cols;
    return ptq_product_bits(rows, cols, subspaces, 2, book_bits) / ((double)rows * (double)cols);
}

int ptq_product_enough(struct ptq_ctx *ctx, const struct ptq_layer *layer, double budget, int64_t k,
                       double least)
{
    enum { MOST_BITS = 8 };
    double weights = (double)layer->w.rows * (double)layer->w.cols;
    char left[32] = "no", way[48] = "no bits up to 8 do";
    if (budget > 0)
        snprintf(left, sizeof left, "%.3g", budget / weights);
    if (least <= MOST_BITS)
        snprintf(way, sizeof way, "bits = %d is the least that does", (int)ceil(least));
    if (layer->w.rows < 2)
        return ptq_skip(ctx, "a book of at least 2 centroids needs 2 rows; %s has %lld",
                        layer->name, (long long)layer->w.rows);
    if (k < 2)
        return ptq_skip(ctx,
                        "%s bits a weight are left for codes and books, which does not pay for 2 "
                        "centroids; %s, or lower m, levels or book_bits",
                        left, way);
    return PTQ_OK;
}
