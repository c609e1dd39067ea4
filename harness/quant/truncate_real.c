/* truncate_real.c: the best approximation of a rank (ptq.h); compiled for float and for double, the
 * singular values in fp64 in both. */
#include "core/size.h"
#include "core/svd.h"
#include "quant/ctx.h"
#include <math.h>

typedef const struct PTQ_REAL(ptq_truncated) truncated;

/* +1 or -1: makes the largest entry of a row (the first of equals) positive. */
static double sign_of(const double *row, int64_t n)
{
    int64_t largest = 0;
    for (int64_t j = 1; j < n; j++)
        if (fabs(row[j]) > fabs(row[largest]))
            largest = j;
    return row[largest] < 0 ? -1 : 1;
}

static void take(truncated *t, int64_t k, const double *u, const double *s, const double *vt)
{
    for (int64_t r = 0; r < t->rank; r++) {
        double sign = sign_of(vt + r * t->n, t->n);
        for (int64_t j = 0; j < t->n; j++)
            t->right[r * t->n + j] = (ptq_real)(sign * vt[r * t->n + j]);
        for (int64_t i = 0; i < t->m; i++)
            t->left[i * t->rank + r] = (ptq_real)(sign * u[i * k + r] * s[r]);
    }
}

static int run(truncated *t, struct ptq_arena *arena, struct ptq_status *st)
{
    int64_t k = t->m < t->n ? t->m : t->n, size;
    if (!ptq_size_mul(t->m, t->n, &size))
        return ptq_status_set(st, PTQ_ERR_MEMORY, "a matrix of %lld x %lld overflows a size",
                              (long long)t->m, (long long)t->n);
    double *a = ptq_arena_alloc(arena, st, size, sizeof *a),
           *u = ptq_arena_alloc(arena, st, t->m * k, sizeof *u),
           *s = ptq_arena_alloc(arena, st, k, sizeof *s),
           *vt = ptq_arena_alloc(arena, st, k * t->n, sizeof *vt);
    if (!a || !u || !s || !vt)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < t->m; i++)
        for (int64_t j = 0; j < t->n; j++)
            a[i * t->n + j] = (double)t->a[i * t->lda + j];
    int rc = ptq_svd(a, t->m, t->n, u, s, vt, st);
    if (rc == PTQ_OK)
        take(t, k, u, s, vt);
    return rc;
}

int PTQ_REAL(ptq_truncate)(struct ptq_ctx *ctx, truncated *t)
{
    struct ptq_status st = {0};
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    int rc = run(t, &arena, &st);
    ptq_arena_clear(&arena);
    return rc == PTQ_OK ? rc : ptq_ctx_adopt(ctx, &st);
}
