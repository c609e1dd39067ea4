/* product_real.c: product quantization (Jegou, Douze, Schmid 2011), compiled for float and for
 * double: the columns fall into m subspaces, each with a book of its own, and a row is one code a
 * subspace. Books may be stored as integers with one step and one minimum for all of them (QET's
 * codebook quantization, arXiv 2407.03637); codes are then those of the stored books. */
#include "core/size.h"
#include "quant/ctx.h"
#include <string.h>

typedef const struct PTQ_REAL(ptq_product) product;

struct job {
    struct ptq_ctx *ctx;
    product *p;
    int64_t dim;
    ptq_real *books;    /* (m x k x dim) */
    uint16_t *by_space; /* (m x rows) */
    int *rc;            /* [m] */
    bool assign_only;
};

static void subspace(void *arg, int64_t begin, int64_t end)
{
    const struct job *job = arg;
    product *p = job->p;
    for (int64_t s = begin; s < end; s++) {
        struct PTQ_REAL(ptq_kmeans) a = {
            .x = p->x + s * job->dim,
            .n = p->rows,
            .dim = job->dim,
            .ld = p->cols,
            .k = p->k,
            .iterations = p->iterations,
            .init = p->start ? PTQ_KMEANS_GIVEN : PTQ_KMEANS_POINTS,
            .seed = p->seed + (uint64_t)s,
            .centroids = job->books + s * p->k * job->dim,
            .codes = job->by_space + s * p->rows,
        };
        job->rc[s] = (job->assign_only ? PTQ_REAL(ptq_kmeans_assign)
                                       : PTQ_REAL(ptq_kmeans_run))(job->ctx, &a);
    }
}

static int all_subspaces(struct job *job, bool assign_only)
{
    job->assign_only = assign_only;
    ptq_parallel_for(job->ctx, job->p->subspaces, 1, subspace, job);
    int rc = PTQ_OK;
    for (int64_t s = 0; s < job->p->subspaces && rc == PTQ_OK; s++)
        rc = job->rc[s];
    return rc;
}

/* The books as stored: in the part, and their values in job->books. */
static int store_books(struct job *job, struct ptq_part *out)
{
    product *p = job->p;
    int64_t n = p->subspaces * p->k * job->dim;
    float *book = ptq_alloc(job->ctx, PTQ_ARENA_RESULT, n, sizeof *book),
          *step = ptq_alloc(job->ctx, PTQ_ARENA_RESULT, 2, sizeof *step);
    if (!book || !step)
        return PTQ_ERR_MEMORY;
    if (p->book_bits == PTQ_BOOK_F32) {
        out->book = (struct ptq_arr){.fmt = PTQ_FMT_F32, .n = n, .at = book};
        for (int64_t i = 0; i < n; i++)
            job->books[i] = (ptq_real)(book[i] = (float)job->books[i]);
        return PTQ_OK;
    }
    PTQ_REAL(ptq_affine_quantize)
    (job->books, n, p->book_bits, PTQ_FMT_F32, book, &step[0], &step[1], job->books);
    out->book = (struct ptq_arr){.fmt = PTQ_FMT_INT, .bits = p->book_bits, .n = n, .at = book};
    out->book_step = (struct ptq_arr){.fmt = PTQ_FMT_F32, .n = 1, .at = &step[0]};
    out->book_min = (struct ptq_arr){.fmt = PTQ_FMT_F32, .n = 1, .at = &step[1]};
    return PTQ_OK;
}

static void decode(const struct job *job)
{
    product *p = job->p;
    for (int64_t i = 0; i < p->rows; i++)
        for (int64_t s = 0; s < p->subspaces; s++)
            memcpy(p->decoded + i * p->cols + s * job->dim,
                   job->books + (s * p->k + job->by_space[s * p->rows + i]) * job->dim,
                   (size_t)job->dim * sizeof *job->books);
}

static int store_part(struct job *job, struct ptq_part *out)
{
    product *p = job->p;
    uint16_t *codes = ptq_alloc(job->ctx, PTQ_ARENA_RESULT, p->rows * p->subspaces, sizeof *codes);
    if (!codes)
        return PTQ_ERR_MEMORY;
    *out = (struct ptq_part){.kind = PTQ_PART_CODEBOOK,
                             .bits = ptq_product_code_bits(p->k),
                             .codes = codes,
                             .dim = job->dim,
                             .book_len = p->k,
                             .book_rows = p->rows,
                             .book_cols = job->dim};
    int rc = store_books(job, out);
    if (rc == PTQ_OK)
        rc = all_subspaces(job, true);
    for (int64_t i = 0; i < p->rows && rc == PTQ_OK; i++)
        for (int64_t s = 0; s < p->subspaces; s++)
            codes[i * p->subspaces + s] = job->by_space[s * p->rows + i];
    return rc;
}

int PTQ_REAL(ptq_product_quantize)(struct ptq_ctx *ctx, product *p, struct ptq_part *out)
{
    struct job job = {.ctx = ctx, .p = p, .dim = p->cols / p->subspaces};
    int64_t n = p->k * p->cols; /* at most rows * cols */
    job.books = p->books ? p->books : ptq_alloc(ctx, PTQ_ARENA_CALL, n, sizeof *job.books);
    job.by_space = ptq_alloc(ctx, PTQ_ARENA_CALL, p->rows * p->subspaces, sizeof *job.by_space);
    job.rc = ptq_alloc(ctx, PTQ_ARENA_CALL, p->subspaces, sizeof *job.rc);
    if (!job.books || !job.by_space || !job.rc)
        return PTQ_ERR_MEMORY;
    int rc = all_subspaces(&job, false);
    if (rc == PTQ_OK && out)
        rc = store_part(&job, out);
    if (rc == PTQ_OK && p->decoded)
        decode(&job);
    return rc;
}
