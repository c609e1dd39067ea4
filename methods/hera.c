/* hera.c: HERA / HETA, later named QET ("Quantum Entanglement Trees", arXiv 2407.03637; the
 * published code is the definition): a matrix within a budget of memory, without calibration.
 *
 * Neighbouring entries of a row are split into the smaller and the larger; the smaller ones go to
 * the first half of the row, the larger to the second, and so again within each half, `levels`
 * times. A bit a pair remembers which was which. What then stands in one column is alike from row
 * to row, and product quantization of the columns (ptq_product_quantize) finds less to store. The
 * bits are paid for: half a bit a weight and level.
 *
 * The budget B (the cell's bits times the weights) pays for everything. Trees first; of the rest
 * stage i gets its share, and takes the largest number of centroids k whose codes and books,
 *
 *     rows m ceil(log2 k) + k cols book_bits + 64   (the 64: step and minimum of the books)
 *
 * fit into it. The next stage quantizes what the stages before left over, seen without their
 * trees. A stage that cannot pay for 2 centroids is dropped, its share unused, and noted.
 *
 * Departures: a book's codes are made again after it was rounded. k stops at the rows (published
 * code: assumed). */
#include "ptq.h"
#include <string.h>

enum { STAGES = PTQ_MAX_PARTS };

struct opts {
    int64_t m, levels, levels_rest, stages;
    double split;
    int64_t book_bits, iterations, seed;
};

/* ---- what the budget buys ---- */

struct stage {
    int levels;
    double budget; /* bits of codes and books */
    int64_t k;
};
struct plan {
    int64_t subspaces;
    int n; /* stages that can be paid for */
    struct stage stage[STAGES];
};

static int levels_of(const struct opts *o, int stage)
{
    return (int)(stage ? o->levels_rest : o->levels);
}

static int make_plan(struct ptq_ctx *ctx, const struct ptq_layer *layer,
                     const struct ptq_cell *cell, const struct opts *o, struct plan *p)
{
    const int64_t rows = layer->w.rows, cols = layer->w.cols;
    const double weights = (double)rows * (double)cols;
    const double first = o->stages == 1 ? 1 : o->split;      /* the first stage's share */
    double left = (double)cell->w_bits * weights, trees = 0; /* trees: bits a weight */
    memset(p, 0, sizeof *p);
    for (int i = 0; i < o->stages; i++) {
        if (cols & (((int64_t)1 << levels_of(o, i)) - 1))
            return ptq_skip(ctx, "%lld columns are not divisible by 2^%d, as a tree of %d needs",
                            (long long)cols, levels_of(o, i), levels_of(o, i));
        trees += levels_of(o, i) / 2.0;
    }
    left -= weights * trees;
    int rc = ptq_product_subspaces(ctx, layer, o->m, &p->subspaces);
    if (rc != PTQ_OK)
        return rc;
    for (int i = 0; i < o->stages; i++) {
        double share = i == o->stages - 1 ? left : left * o->split;
        int64_t k = ptq_product_most(rows, cols, p->subspaces, (int)o->book_bits, share);
        left -= share;
        if (i == 0)
            rc = ptq_product_enough(
                ctx, layer, share, k,
                trees + ptq_product_least(layer, p->subspaces, (int)o->book_bits) / first);
        if (rc != PTQ_OK)
            return rc;
        if (k >= 2)
            p->stage[p->n++] = (struct stage){levels_of(o, i), share, k};
    }
    return PTQ_OK;
}

static int check(struct ptq_ctx *ctx, const struct ptq_layer *layer, const struct ptq_cell *cell,
                 const void *opts)
{
    struct plan p;
    return make_plan(ctx, layer, cell, opts, &p);
}

/* ---- the tree ---- */

struct tree {
    int levels;
    int64_t cols;
    ptq_real *x;     /* (rows x cols) */
    uint8_t *bits;   /* [row][level][cols / 2] */
    ptq_real *spare; /* a row for each thread */
};

static void entangle_row(const struct tree *t, ptq_real *x, uint8_t *bits, ptq_real *spare)
{
    const int64_t half = t->cols / 2;
    for (int level = 0; level < t->levels; level++, bits += half) {
        const int64_t pairs = half >> level;
        for (int64_t i = 0; i < half; i++) {
            int64_t begin = i / pairs * 2 * pairs, j = i % pairs;
            ptq_real even = x[begin + 2 * j], odd = x[begin + 2 * j + 1];
            bits[i] = even < odd;
            spare[begin + j] = even < odd ? even : odd;
            spare[begin + pairs + j] = even < odd ? odd : even;
        }
        memcpy(x, spare, (size_t)t->cols * sizeof *x);
    }
}

/* The deepest level first. */
static void untangle_row(const struct tree *t, ptq_real *x, const uint8_t *bits, ptq_real *spare)
{
    const int64_t half = t->cols / 2;
    for (int level = t->levels - 1; level >= 0; level--) {
        const int64_t pairs = half >> level;
        for (int64_t i = 0; i < half; i++) {
            int64_t begin = i / pairs * 2 * pairs, j = i % pairs;
            bool even_smaller = bits[level * half + i];
            spare[begin + 2 * j + !even_smaller] = x[begin + j];
            spare[begin + 2 * j + even_smaller] = x[begin + pairs + j];
        }
        memcpy(x, spare, (size_t)t->cols * sizeof *x);
    }
}

static void entangle_rows(void *arg, int slot, int64_t begin, int64_t end)
{
    const struct tree *t = arg;
    for (int64_t i = begin; i < end; i++)
        entangle_row(t, t->x + i * t->cols, t->bits + i * t->levels * (t->cols / 2),
                     t->spare + slot * t->cols);
}

static void untangle_rows(void *arg, int slot, int64_t begin, int64_t end)
{
    const struct tree *t = arg;
    for (int64_t i = begin; i < end; i++)
        untangle_row(t, t->x + i * t->cols, t->bits + i * t->levels * (t->cols / 2),
                     t->spare + slot * t->cols);
}

/* ---- the stages ---- */

enum { ROWS_A_PIECE = 16 };

struct job {
    struct ptq_ctx *ctx;
    const struct opts *opts;
    int64_t rows, cols;
    ptq_real *rest; /* (rows x cols) what the stages so far leave over */
    ptq_real *seen; /* the same through the tree, then its decoded values */
    ptq_real *spare;
};

static int run_stage(struct job *job, const struct plan *plan, int i, uint64_t seed,
                     struct ptq_part *part)
{
    const struct stage *s = &plan->stage[i];
    const int64_t n = job->rows * job->cols;
    struct tree t = {s->levels, job->cols, job->seen, NULL, job->spare};
    t.bits = ptq_alloc(job->ctx, PTQ_ARENA_RESULT, s->levels * (n / 2), sizeof *t.bits);
    if (!t.bits)
        return PTQ_ERR_MEMORY;
    memcpy(job->seen, job->rest, (size_t)n * sizeof *job->seen);
    ptq_parallel_for_slots(job->ctx, job->rows, ROWS_A_PIECE, entangle_rows, &t);
    struct PTQ_REAL(ptq_product) product = {.x = job->seen,
                                            .rows = job->rows,
                                            .cols = job->cols,
                                            .subspaces = plan->subspaces,
                                            .k = s->k,
                                            .book_bits = (int)job->opts->book_bits,
                                            .iterations = (int)job->opts->iterations,
                                            .seed = seed + (uint64_t)i * 65536,
                                            .decoded = job->seen};
    int rc = PTQ_REAL(ptq_product_quantize)(job->ctx, &product, part);
    if (rc != PTQ_OK)
        return rc;
    part->tree_levels = s->levels;
    part->tree_bits = s->levels ? t.bits : NULL;
    ptq_parallel_for_slots(job->ctx, job->rows, ROWS_A_PIECE, untangle_rows, &t);
    for (int64_t j = 0; j < n; j++)
        job->rest[j] -= job->seen[j];
    return PTQ_OK;
}

static bool load(struct job *job, const struct ptq_cmat *w)
{
    int64_t n = job->rows * job->cols;
    job->rest = ptq_alloc(job->ctx, PTQ_ARENA_CALL, n, sizeof *job->rest);
    job->seen = ptq_alloc(job->ctx, PTQ_ARENA_CALL, n, sizeof *job->seen);
    job->spare =
        ptq_alloc(job->ctx, PTQ_ARENA_CALL, ptq_threads(job->ctx) * job->cols, sizeof *job->spare);
    if (!job->rest || !job->seen || !job->spare)
        return false;
    for (int64_t i = 0; i < job->rows; i++)
        for (int64_t j = 0; j < job->cols; j++)
            job->rest[i * job->cols + j] = (ptq_real)w->at[i * w->ld + j];
    return true;
}

static int quantize(struct ptq_ctx *ctx, const struct ptq_layer *layer, const struct ptq_cell *cell,
                    const void *opts, const void *shared, struct ptq_quant *out)
{
    (void)shared;
    const struct opts *o = opts;
    struct job job = {.ctx = ctx, .opts = o, .rows = layer->w.rows, .cols = layer->w.cols};
    struct plan plan;
    int rc = make_plan(ctx, layer, cell, o, &plan);
    if (rc == PTQ_OK && !load(&job, &layer->w))
        rc = PTQ_ERR_MEMORY;
    for (int i = 0; i < plan.n && rc == PTQ_OK; i++)
        rc = run_stage(&job, &plan, i, (uint64_t)o->seed + cell->seed, &out->part[i]);
    out->n_parts = plan.n;
    ptq_note(ctx, "n_stages_dropped", (double)(o->stages - plan.n));
    ptq_note(ctx, "centroids", (double)plan.stage[0].k);
    return rc;
}

/* ---- hooks ---- */

static void normalise(void *opts)
{
    struct opts *o = opts;
    if (o->book_bits > 24)
        o->book_bits = PTQ_BOOK_F32;
    if (o->stages == 1) {
        o->levels_rest = 0;
        o->split = 0.7;
    }
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
                             .peak_bytes = n * (4 + 3 * sizeof(ptq_real))};
}

static const struct ptq_opt options[] = {
    {.name = "m",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, m),
     .def = 0,
     .min = 0,
     .max = 65536,
     .help = "subspaces; 0 (ours): runs of 4 columns"},
    {.name = "levels",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, levels),
     .def = 3,
     .min = 0,
     .max = 12,
     .help = "of the first stage's tree, half a bit a weight each (published code: 3)"},
    {.name = "levels_rest",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, levels_rest),
     .def = 0,
     .min = 0,
     .max = 12,
     .help = "of the trees of later stages (published code: 0)"},
    {.name = "stages",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, stages),
     .def = 2,
     .min = 1,
     .max = STAGES,
     .help = "each quantizes what those before leave over (published code: 2)"},
    {.name = "split",
     .type = PTQ_OPT_REAL,
     .offset = offsetof(struct opts, split),
     .def = 0.7,
     .min = 0.01,
     .max = 0.99,
     .help = "share of what is left that a stage gets; the last gets all (published code: 0.7)"},
    {.name = "book_bits",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, book_bits),
     .def = 10,
     .min = 1,
     .max = PTQ_BOOK_F32,
     .help = "width of book entries (published code: 10); above 24: fp32, the paper's vanilla"},
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

PTQ_METHOD(hera) = {
    .name = "hera",
    .title = "HERA / QET: entanglement trees and product quantization",
    .cite = "arXiv 2407.03637",
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
