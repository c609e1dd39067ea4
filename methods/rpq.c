/* rpq.c: residual product quantization with quantized books: what HERA (methods/hera.c, arXiv
 * 2407.03637) is without its tree. The paper's own baselines spend most of a small matrix's budget
 * on fp32 books, so that its ratios credit the tree with what cheaper books and a second stage do.
 *
 * The budget (the cell's bits times the weights) is shared among the stages; each takes the largest
 * number of centroids whose codes and books fit into its share, and quantizes what the stages
 * before left over. A stage that cannot pay for 2 centroids is dropped, its share unused, and
 * noted. */
#include "ptq.h"

enum { STAGES = PTQ_MAX_PARTS };

struct opts {
    int64_t m, stages;
    double split;
    int64_t book_bits, iterations, seed;
};

struct plan {
    int64_t subspaces;
    int n;             /* stages that can be paid for */
    int64_t k[STAGES]; /* centroids of a book */
};

static int make_plan(struct ptq_ctx *ctx, const struct ptq_layer *layer,
                     const struct ptq_cell *cell, const struct opts *o, struct plan *p)
{
    double left = (double)cell->w_bits * (double)layer->w.rows * (double)layer->w.cols;
    double first = o->stages == 1 ? 1 : o->split; /* of the budget: the first stage's */
    int rc = ptq_product_subspaces(ctx, layer, o->m, &p->subspaces);
    p->n = 0;
    for (int i = 0; i < o->stages && rc == PTQ_OK; i++) {
        double share = i == o->stages - 1 ? left : left * o->split;
        int64_t k =
            ptq_product_most(layer->w.rows, layer->w.cols, p->subspaces, (int)o->book_bits, share);
        left -= share;
        if (i == 0)
            rc = ptq_product_enough(ctx, layer, share, k,
                                    ptq_product_least(layer, p->subspaces, (int)o->book_bits) /
                                        first);
        if (k >= 2)
            p->k[p->n++] = k;
    }
    return rc;
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
    if (o->stages == 1)
        o->split = 0.5;
}

static int quantize(struct ptq_ctx *ctx, const struct ptq_layer *layer, const struct ptq_cell *cell,
                    const void *opts, const void *shared, struct ptq_quant *out)
{
    (void)shared;
    const struct opts *o = opts;
    const int64_t rows = layer->w.rows, cols = layer->w.cols, n = rows * cols;
    struct plan plan;
    int rc = make_plan(ctx, layer, cell, o, &plan);
    if (rc != PTQ_OK)
        return rc;
    ptq_real *rest = ptq_alloc(ctx, PTQ_ARENA_CALL, n, sizeof *rest),
             *decoded = ptq_alloc(ctx, PTQ_ARENA_CALL, n, sizeof *decoded);
    if (!rest || !decoded)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        rest[i] = (ptq_real)layer->w.at[i / cols * layer->w.ld + i % cols];
    for (int i = 0; i < plan.n && rc == PTQ_OK; i++) {
        struct PTQ_REAL(ptq_product)
            product = {.x = rest,
                       .rows = rows,
                       .cols = cols,
                       .subspaces = plan.subspaces,
                       .k = plan.k[i],
                       .book_bits = (int)o->book_bits,
                       .iterations = (int)o->iterations,
                       .seed = (uint64_t)o->seed + cell->seed + (uint64_t)i * 65536,
                       .decoded = decoded};
        rc = PTQ_REAL(ptq_product_quantize)(ctx, &product, &out->part[i]);
        for (int64_t j = 0; j < n && rc == PTQ_OK; j++)
            rest[j] -= decoded[j];
    }
    out->n_parts = plan.n;
    ptq_note(ctx, "n_stages_dropped", (double)(o->stages - plan.n));
    ptq_note(ctx, "centroids", (double)plan.k[0]);
    return rc;
}

static void cost(const struct ptq_layer *layer, const struct ptq_cell *cell, const void *opts,
                 struct ptq_cost *out)
{
    (void)cell;
    const struct opts *o = opts;
    double n = (double)layer->w.rows * (double)layer->w.cols;
    double k = (double)layer->w.rows / 4; /* about what budgets of 2 to 4 bits pay for */
    double rounds = (double)(o->stages * o->iterations);
    *out = (struct ptq_cost){.flops = 3 * n * k * rounds,
                             .bytes = n * 4 * rounds,
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
    {.name = "stages",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, stages),
     .def = 2,
     .min = 1,
     .max = STAGES,
     .help = "each quantizes what those before leave over (as hera: 2)"},
    {.name = "split",
     .type = PTQ_OPT_REAL,
     .offset = offsetof(struct opts, split),
     .def = 0.5,
     .min = 0.01,
     .max = 0.99,
     .help = "share of what is left that a stage gets; the last gets all (ours; hera: 0.7)"},
    {.name = "book_bits",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, book_bits),
     .def = 10,
     .min = 1,
     .max = PTQ_BOOK_F32,
     .help = "width of book entries (as hera: 10); above 24: fp32"},
    {.name = "iterations",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, iterations),
     .def = 20,
     .min = 0,
     .max = 10000,
     .help = "of Lloyd's algorithm, at most (as hera: 20)"},
    {.name = "seed",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, seed),
     .def = 123,
     .min = 0,
     .max = 1e9,
     .help = "of the points that k-means starts from (as hera: 123); the cell's is added"},
    {.name = NULL},
};

PTQ_METHOD(rpq) = {
    .name = "rpq",
    .title = "Residual product quantization, quantized books",
    .cite = "baseline of arXiv 2407.03637 without its tree",
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
