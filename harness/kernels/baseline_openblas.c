/* baseline_openblas.c: fp32 products of the BLAS library. Rows of W are split over our pool, one
 * single-threaded call each, or the library splits with threads of its own: what is faster here. */
#include "core/blasref.h"
#include "core/clock.h"
#include "core/size.h"
#include "kernels/bench_ops.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct blas {
    struct ptq_blasref product;
    float *w, *x, *y;
    int64_t one_bytes, w_bytes, x_bytes, y_bytes; /* one: of a copy of W */
    int threads;
};

static struct ptq_blasref copy_of(const struct blas *b, int64_t copy)
{
    struct ptq_blasref p = b->product;
    p.w = b->w + copy * (b->one_bytes / (int64_t)sizeof *b->w);
    return p;
}

/* Items are blocks of rows: a library packs its inputs again for every call, so that rows one by
 * one would take many times as long as all of them. */
enum { BLOCK = 64 };
static void run_rows(void *arg, int64_t copy, int64_t begin, int64_t end, int slot)
{
    const struct ptq_blasref p = copy_of(arg, copy);
    (void)slot;
    ptq_blasref_rows(&p, begin * BLOCK, end * BLOCK < p.rows ? end * BLOCK : p.rows);
}

static void run_all(void *arg, int64_t copy, int64_t begin, int64_t end, int slot)
{
    const struct blas *b = arg;
    const struct ptq_blasref p = copy_of(b, copy);
    (void)begin, (void)end, (void)slot;
    ptq_blasref_all(&p, b->threads);
}

static void fill(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(i * 2654435761 >> 7 & 255) / 128 - 1;
}

static int take_memory(struct blas *b, const struct ptq_bench *bench, int64_t copies,
                       struct ptq_status *st)
{
    if (!ptq_size_mul(copies, b->one_bytes, &b->w_bytes))
        return ptq_status_nomem(st, "fp32 weights", SIZE_MAX);
    b->w = ptq_bench_memory(bench, b->w_bytes, st);
    b->x = b->w ? ptq_bench_memory(bench, b->x_bytes, st) : NULL;
    b->y = b->x ? ptq_bench_memory(bench, b->y_bytes, st) : NULL;
    if (!b->y)
        return st->code;
    fill(b->w, b->w_bytes / (int64_t)sizeof *b->w);
    fill(b->x, b->x_bytes / (int64_t)sizeof *b->x);
    b->product.x = b->x;
    b->product.y = b->y;
    return PTQ_OK;
}

static void rows_piece(void *arg, int64_t begin, int64_t end)
{
    run_rows(arg, 0, begin, end, 0);
}

/* The second of two passes each: the first wakes threads and reads pages. */
static bool own_threads_win(struct blas *b, struct ptq_pool *pool)
{
    const int64_t items = (b->product.rows + BLOCK - 1) / BLOCK,
                  grain = (items + b->threads - 1) / b->threads;
    const struct timespec rest = {.tv_nsec = 30000000};
    int64_t ns[2] = {0};
    if (b->threads == 1 || b->product.n == 1)
        return false;
    for (int i = 0; i < 4; i++) {
        const int64_t begin = ptq_now_ns();
        if (i < 2)
            ptq_pool_for(pool, items, grain, rows_piece, b);
        else
            run_all(b, 0, 0, 0, 0);
        ns[i / 2] = ptq_now_ns() - begin;
    }
    nanosleep(&rest, NULL); /* the library's threads spin for a while */
    return (double)ns[1] < 0.97 * (double)ns[0];
}

int ptq_rival_blas_open(struct ptq_rival *r, struct ptq_bench *bench,
                        const struct ptq_rival_shape *s, struct ptq_status *st)
{
    *r = (struct ptq_rival){.own = NULL};
    struct blas *b = r->own = calloc(1, sizeof *b);
    if (!b)
        return ptq_status_nomem(st, "a benchmark", sizeof *b);
    b->threads = ptq_pool_threads(bench->probe.pool);
    b->product = (struct ptq_blasref){.rows = s->rows, .cols = s->cols, .n = s->batch};
    b->one_bytes = s->rows * s->cols * (int64_t)sizeof(float);
    b->x_bytes = s->batch * s->cols * (int64_t)sizeof(float);
    b->y_bytes = s->batch * s->rows * (int64_t)sizeof(float);
    const int64_t copies = ptq_bench_copies(bench, b->one_bytes);
    const int code = take_memory(b, bench, copies, st);
    if (code)
        return snprintf(r->name, sizeof r->name, "%.90s", st->text), code;
    const bool own = own_threads_win(b, bench->probe.pool);
    r->work =
        (struct ptq_bench_work){.items = (s->rows + BLOCK - 1) / BLOCK,
                                .copies = copies,
                                .run = own ? run_all : run_rows,
                                .arg = b,
                                .own_threads = own,
                                .bytes = (double)b->one_bytes,
                                .ops = 2.0 * (double)s->rows * (double)s->cols * (double)s->batch,
                                .values = (double)s->rows * (double)s->cols,
                                .memory = PTQ_PROBE_READ,
                                .arithmetic = PTQ_PROBE_FMA,
                                .flags = ptq_cpu_flags(PTQ_ISA_AVX512)};
    snprintf(r->name, sizeof r->name, "openblas %.20s, %s", s->blas_core,
             own ? "own threads" : "rows by thread");
    return PTQ_OK;
}

void ptq_rival_blas_close(struct ptq_rival *r)
{
    struct blas *b = r->own;
    if (!b)
        return;
    ptq_bench_memory_free(b->w, b->w_bytes);
    ptq_bench_memory_free(b->x, b->x_bytes);
    ptq_bench_memory_free(b->y, b->y_bytes);
    free(b);
    r->own = NULL;
}
