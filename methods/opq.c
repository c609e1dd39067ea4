/* opq.c: optimized product quantization (Ge, He, Ke, Sun, "Optimized Product Quantization for
 * Approximate Nearest Neighbor Search", CVPR 2013, the non-parametric form), a baseline of HERA's
 * paper (arXiv 2407.03637): an orthogonal rotation R of the columns is learned with the books, by
 * turns. For fixed R, one iteration of Lloyd's on the rows of X R; for fixed values Y of those, the
 * R that minimises |X R - Y| is U V^T of X^T Y = U S V^T. R is stored in fp32 and paid for: 32 cols
 * / rows bits a weight, so that a budget allows it on tall matrices only (caches).
 *
 * Departure: X^T Y gets a millionth of |X^T Y| R_old added, so that directions in which X is zero
 * keep their rotation instead of an arbitrary one. */
#include "ptq.h"
#include <math.h>
#include <string.h>

struct opts {
    int64_t m, book_bits, iterations, rotations, seed;
};

struct plan {
    int64_t subspaces, k;
};

static int make_plan(struct ptq_ctx *ctx, const struct ptq_layer *layer,
                     const struct ptq_cell *cell, const struct opts *o, struct plan *p)
{
    const int64_t rows = layer->w.rows, cols = layer->w.cols;
    double rotation = 32 * (double)cols * (double)cols,
           budget = (double)cell->w_bits * (double)rows * (double)cols;
    if (rotation >= budget)
        return ptq_skip(ctx,
                        "the rotation alone takes %.3g of %d bits a weight (32 columns / rows)",
                        32 * (double)cols / (double)rows, cell->w_bits);
    int rc = ptq_product_subspaces(ctx, layer, o->m, &p->subspaces);
    if (rc != PTQ_OK)
        return rc;
    budget -= rotation;
    p->k = ptq_product_most(rows, cols, p->subspaces, (int)o->book_bits, budget);
    return ptq_product_enough(ctx, layer, budget, p->k,
                              32 * (double)cols / (double)rows +
                                  ptq_product_least(layer, p->subspaces, (int)o->book_bits));
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

/* ---- turns ---- */

struct job {
    struct ptq_ctx *ctx;
    int64_t rows, cols;
    ptq_real *x, *xt;       /* (rows x cols), (cols x rows) */
    ptq_real *y, *decoded;  /* x r; its values */
    ptq_real *r, *c;        /* (cols x cols): the rotation; X^T Y */
    ptq_real *left, *right; /* of c */
    ptq_real *books;
};

static bool load(struct job *job, const struct ptq_layer *layer, int64_t k)
{
    const int64_t rows = layer->w.rows, cols = layer->w.cols;
    const struct {
        ptq_real **at;
        int64_t n;
    } arrays[] = {
        {&job->x, rows * cols},     {&job->xt, rows * cols},      {&job->y, rows * cols},
        {&job->r, cols * cols},     {&job->c, cols * cols},       {&job->left, cols * cols},
        {&job->right, cols * cols}, {&job->decoded, rows * cols}, {&job->books, k * cols}};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        if (!(*arrays[i].at =
                  ptq_alloc(job->ctx, PTQ_ARENA_CALL, arrays[i].n, sizeof **arrays[i].at)))
            return false;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            job->x[i * cols + j] = job->xt[j * rows + i] =
                (ptq_real)layer->w.at[i * layer->w.ld + j];
    for (int64_t j = 0; j < cols; j++)
        job->r[j * (cols + 1)] = 1;
    return true;
}

static int rotate(struct job *job)
{
    const int64_t n = job->cols;
    memset(job->y, 0, (size_t)(job->rows * n) * sizeof *job->y);
    return PTQ_REAL(ptq_gemm_add)(job->ctx, 1, job->rows, n, n, job->x, n, job->r, n, job->y, n);
}

/* left = U S with S > 0: its columns of length 1, times right. A length of 0 leaves r alone. */
static int set_rotation(struct job *job)
{
    const int64_t n = job->cols;
    for (int64_t c = 0; c < n; c++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += (double)job->left[i * n + c] * (double)job->left[i * n + c];
        if (!(sum > 0))
            return PTQ_OK;
        for (int64_t i = 0; i < n; i++)
            job->left[i * n + c] = (ptq_real)((double)job->left[i * n + c] / sqrt(sum));
    }
    memset(job->r, 0, (size_t)(n * n) * sizeof *job->r);
    return PTQ_REAL(ptq_gemm_add)(job->ctx, 1, n, n, n, job->left, n, job->right, n, job->r, n);
}

static int turn(struct job *job)
{
    const int64_t n = job->cols;
    double size = 0;
    memset(job->c, 0, (size_t)(n * n) * sizeof *job->c);
    int rc = PTQ_REAL(ptq_gemm_add)(job->ctx, 1, n, n, job->rows, job->xt, job->rows, job->decoded,
                                    n, job->c, n);
    if (rc != PTQ_OK)
        return rc;
    for (int64_t i = 0; i < n * n; i++)
        size += (double)job->c[i] * (double)job->c[i];
    for (int64_t i = 0; i < n * n; i++)
        job->c[i] += (ptq_real)(1e-6 * sqrt(size)) * job->r[i];
    struct PTQ_REAL(ptq_truncated) t = {n, n, n, job->c, n, job->left, job->right};
    rc = PTQ_REAL(ptq_truncate)(job->ctx, &t);
    return rc == PTQ_OK ? set_rotation(job) : rc;
}

/* The rotation in its stored format. */
static int store_rotation(struct job *job, struct ptq_part *part)
{
    const int64_t n = job->cols * job->cols;
    float *rot = ptq_alloc(job->ctx, PTQ_ARENA_RESULT, n, sizeof *rot);
    if (!rot)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        rot[i] = (float)job->r[i];
    part->rot = (struct ptq_arr){.fmt = PTQ_FMT_F32, .n = n, .at = rot};
    return PTQ_OK;
}

static void round_rotation(struct job *job)
{
    for (int64_t i = 0; i < job->cols * job->cols; i++)
        job->r[i] = (ptq_real)(float)job->r[i];
}

static int run(struct job *job, const struct opts *o, struct PTQ_REAL(ptq_product) * p,
               struct ptq_part *part)
{
    int rc = rotate(job);
    if (rc == PTQ_OK)
        rc = PTQ_REAL(ptq_product_quantize)(job->ctx, p, NULL);
    p->start = true;
    p->iterations = 1;
    for (int64_t i = 0; i < o->rotations && rc == PTQ_OK; i++) {
        if (ptq_cancelled(job->ctx))
            return ptq_fail(job->ctx, PTQ_ERR_CANCELLED, "cancelled");
        rc = turn(job);
        if (rc == PTQ_OK)
            rc = rotate(job);
        if (rc == PTQ_OK)
            rc = PTQ_REAL(ptq_product_quantize)(job->ctx, p, NULL);
    }
    p->iterations = (int)o->iterations;
    round_rotation(job);
    if (rc == PTQ_OK)
        rc = rotate(job);
    if (rc == PTQ_OK)
        rc = PTQ_REAL(ptq_product_quantize)(job->ctx, p, part);
    return rc == PTQ_OK ? store_rotation(job, part) : rc;
}

static int quantize(struct ptq_ctx *ctx, const struct ptq_layer *layer, const struct ptq_cell *cell,
                    const void *opts, const void *shared, struct ptq_quant *out)
{
    (void)shared;
    const struct opts *o = opts;
    struct job job = {.ctx = ctx, .rows = layer->w.rows, .cols = layer->w.cols};
    struct plan plan;
    int rc = make_plan(ctx, layer, cell, o, &plan);
    if (rc != PTQ_OK)
        return rc;
    if (!load(&job, layer, plan.k))
        return PTQ_ERR_MEMORY;
    struct PTQ_REAL(ptq_product) product = {.x = job.y,
                                            .rows = job.rows,
                                            .cols = job.cols,
                                            .subspaces = plan.subspaces,
                                            .k = plan.k,
                                            .book_bits = (int)o->book_bits,
                                            .iterations = (int)o->iterations,
                                            .seed = (uint64_t)o->seed + cell->seed,
                                            .books = job.books,
                                            .decoded = job.decoded};
    ptq_note(ctx, "centroids", (double)plan.k);
    out->n_parts = 1;
    return run(&job, o, &product, &out->part[0]);
}

/* ---- hooks ---- */

static void cost(const struct ptq_layer *layer, const struct ptq_cell *cell, const void *opts,
                 struct ptq_cost *out)
{
    (void)cell;
    const struct opts *o = opts;
    double rows = (double)layer->w.rows, cols = (double)layer->w.cols, n = rows * cols;
    double k = rows / 8; /* about what budgets of 3 and 4 bits pay for */
    double turns = (double)o->rotations, rounds = turns + 2 * (double)o->iterations;
    *out =
        (struct ptq_cost){.flops = 3 * n * k * rounds + turns * (4 * n + 24 * cols * cols) * cols,
                          .bytes = n * 4 * rounds,
                          .peak_bytes = n * (4 + 5 * sizeof(ptq_real)) + 64 * cols * cols};
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
     .help = "of Lloyd's algorithm before the turns, and after them, at most (as pq: 20)"},
    {.name = "rotations",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, rotations),
     .def = 20,
     .min = 0,
     .max = 10000,
     .help = "turns of rotation and one iteration (ours)"},
    {.name = "seed",
     .type = PTQ_OPT_INT,
     .offset = offsetof(struct opts, seed),
     .def = 123,
     .min = 0,
     .max = 1e9,
     .help = "of the points that k-means starts from (as pq: 123); the cell's is added"},
    {.name = NULL},
};

PTQ_METHOD(opq) = {
    .name = "opq",
    .title = "Optimized product quantization",
    .cite = "Ge et al. 2013; baseline of arXiv 2407.03637",
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
