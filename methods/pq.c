/* pq.c: product quantization (Jegou, Douze, Schmid, "Product Quantization for Nearest Neighbor
 * Search", IEEE TPAMI 33, 2011), a baseline of HERA's paper (arXiv 2407.03637). The cell's bits are
 * the budget a weight, books included: they take the largest number of centroids that it pays for.
 * Departures: none; the baseline's books are fp32 (book_bits = 32), as in the paper. */
#include "ptq.h"

struct opts {
    int64_t m, book_bits, iterations, seed;
};

struct plan {
    int64_t subspaces, k;
    int book_bits;
};

static int make_plan(struct ptq_ctx *ctx, const struct ptq_layer *layer,
                     const struct ptq_cell *cell, const struct opts *o, struct plan *p)
{
    double budget = (double)cell->w_bits * (double)layer->w.rows * (double)layer->w.cols;
    int rc = ptq_product_subspaces(ctx, layer, o->m, &p->subspaces);
    if (rc != PTQ_OK)
        return rc;
    p->book_bits = (int)o->book_bits;
    p->k = ptq_product_most(layer->w.rows, layer->w.cols, p->subspaces, p->book_bits, budget);
    return ptq_product_enough(ctx, layer, budget, p->k,
                              ptq_product_least(layer, p->subspaces, p->book_bits));
}

static int check(struct ptq_ctx *ctx, const struct ptq_layer *layer, const struct ptq_cell *cell,
                 const void *opts)
{
    struct plan p;
    return make_plan(ctx, layer, cell, opts, &p);
}

static void normalise(void *opts)
{
    struct opts *o = opts;
    if (o->book_bits > 24)
        o->book_bits = PTQ_BOOK_F32;
}

static int quantize(struct ptq_ctx *ctx, const struct ptq_layer *layer, const struct ptq_cell *cell,
                    const void *opts, const void *shared, struct ptq_quant *out)
{
    (void)shared;
    const struct opts *o = opts;
    const int64_t rows = layer->w.rows, cols = layer->w.cols;
    struct plan p;
    int rc = make_plan(ctx, layer, cell, o, &p);
    ptq_real *x = ptq_alloc(ctx, PTQ_ARENA_CALL, rows * cols, sizeof *x);
    if (rc != PTQ_OK || !x)
        return rc != PTQ_OK ? rc : PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            x[i * cols + j] = (ptq_real)layer->w.at[i * layer->w.ld + j];
    struct PTQ_REAL(ptq_product) product = {.x = x,
                                            .rows = rows,
                                            .cols = cols,
                                            .subspaces = p.subspaces,
                                            .k = p.k,
                                            .book_bits = p.book_bits,
                                            .iterations = (int)o->iterations,
                                            .seed = (uint64_t)o->seed + cell->seed};
    ptq_note(ctx, "centroids", (double)p.k);
    out->n_parts = 1;
    return PTQ_REAL(ptq_product_quantize)(ctx, &product, &out->part[0]);
}

static void cost(const struct ptq_layer *layer, const struct ptq_cell *cell, const void *opts,
                 struct ptq_cost *out)
{
    (void)cell;
    const struct opts *o = opts;
    double n = (double)layer->w.rows * (double)layer->w.cols;
    double k = (double)layer->w.rows / 4; /* about what budgets of 2 to 4 bits pay for */
    *out = (struct ptq_cost){.flops = 3 * n * k * (double)o->iterations,
                             .bytes = n * 4 * (double)o->iterations,
                             .peak_bytes = n * (4 + 2 * sizeof(ptq_real))};
}

static const struct ptq_opt options[] = {
    {.name = "m",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, m),
     .def = 0,
     .min = 0,
     .max = 65536,
     .help = "subspaces; 0 (ours): runs of 4 columns"},
    {.name = "book_bits",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, book_bits),
     .def = PTQ_BOOK_F32,
     .min = 1,
     .max = PTQ_BOOK_F32,
     .help = "width of book entries, one step and minimum for all; above 24: fp32 (the paper's)"},
    {.name = "iterations",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, iterations),
     .def = 20,
     .min = 0,
     .max = 10000,
     .help = "of Lloyd's algorithm, at most (published code: 20)"},
    {.name = "seed",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, seed),
     .def = 123,
     .min = 0,
     .max = 1e9,
     .help = "of the points that k-means starts from (published code: 123); the cell's is added"},
    {.name = NULL},
};

PTQ_METHOD(pq) = {
    .name = "pq",
    .title = "Product quantization",
    .cite = "Jegou et al. 2011; baseline of arXiv 2407.03637",
    .status = "reference",
    .caps = PTQ_CAP_ASYM | PTQ_CAP_NO_PRODUCT,
    .bits_mean = PTQ_BITS_BUDGET,
    .opts_size = sizeof(struct opts),
    .opts = options,
    .normalise = normalise,
    .check = check,
    .quantize = quantize,
    .cost = cost,
};
