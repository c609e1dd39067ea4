/* linalg_real.c: products, Cholesky and triangular solves; compiled for float and for double.
 * A product is a set of BLAS calls on tiles of one shape (tile.h). A tile that lies whole inside
 * its matrices is computed where it is; one that sticks out is computed in scratch padded with
 * zeros. Neither changes bits: the library's kernels look at the sizes of a call, not at base
 * addresses or leading dimensions (asserted by tests/unit/test_linalg.c). */
#include "core/clones.h"
#include "core/linalg.h"
#include "core/panels.h"
#include "core/size.h"
#include "core/tile.h"
#include <cblas.h>
#include <limits.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#ifdef PTQ_DOUBLE
#define CBLAS_GEMM cblas_dgemm
#else
#define CBLAS_GEMM cblas_sgemm
#endif
typedef struct PTQ_REAL(ptq_gemm) gemm;

/* ---- products by tiles ---- */

struct product {
    const gemm *g;
    struct ptq_tile tile;
    int64_t tiles_m, tiles_n;
    bool lower;        /* only elements (i, j <= i) are written */
    ptq_real *scratch; /* one slot a thread, NULL when no tile needs padding */
    int64_t slot;      /* elements of a slot */
    _Atomic int64_t next_tile;
};

struct span { /* a tile's part of one dimension: n of its full elements exist */
    int64_t at, n, full;
};

struct block {
    const ptq_real *p;
    int64_t ld;
};

struct pads { /* a thread's slot of the scratch, all NULL when no tile needs padding */
    ptq_real *a, *b, *c;
};

static struct span span_of(int64_t at, int64_t size, int64_t full)
{
    int64_t n = size - at < full ? size - at : full;
    return (struct span){at, n, full};
}

/* The tile of a stored operand: in place when whole, else a copy padded with zeros. */
static struct block operand(const ptq_real *x, int64_t ld, struct span rows, struct span cols,
                            ptq_real *pad)
{
    const ptq_real *from = x + rows.at * ld + cols.at;
    if (rows.n == rows.full && cols.n == cols.full && ld <= INT_MAX)
        return (struct block){from, ld};
    for (int64_t i = 0; i < rows.n; i++) {
        memcpy(pad + i * cols.full, from + i * ld, (size_t)cols.n * sizeof *pad);
        memset(pad + i * cols.full + cols.n, 0, (size_t)(cols.full - cols.n) * sizeof *pad);
    }
    memset(pad + rows.n * cols.full, 0, (size_t)((rows.full - rows.n) * cols.full) * sizeof *pad);
    return (struct block){pad, cols.full};
}

/* C <- beta C. The BLAS is then always called with beta = 1: it never reads what beta = 0 says not
 * to read, and its kernels for beta = 0, alpha = 1 (AVX-512 whatever the core type) are out of the
 * game. */
static void scale_rows(ptq_real *c, int64_t ldc, int64_t m, int64_t n, ptq_real beta)
{
    for (int64_t i = 0; i < m && beta != 1; i++)
        if (beta == 0)
            memset(c + i * ldc, 0, (size_t)n * sizeof *c);
        else
            for (int64_t j = 0; j < n; j++)
                c[i * ldc + j] *= beta;
}

static void multiply(const struct product *p, struct span rows, struct span cols, ptq_real *c,
                     int64_t ldc, struct pads pad)
{
    const gemm *g = p->g;
    for (int64_t k0 = 0; k0 < g->k; k0 += p->tile.k) {
        struct span deep = span_of(k0, g->k, p->tile.k);
        struct block a = g->ta ? operand(g->a, g->lda, deep, rows, pad.a)
                               : operand(g->a, g->lda, rows, deep, pad.a);
        struct block b = g->tb ? operand(g->b, g->ldb, cols, deep, pad.b)
                               : operand(g->b, g->ldb, deep, cols, pad.b);
        CBLAS_GEMM(CblasRowMajor, g->ta ? CblasTrans : CblasNoTrans,
                   g->tb ? CblasTrans : CblasNoTrans, (int)rows.full, (int)cols.full,
                   (int)deep.full, g->alpha, a.p, (int)a.ld, b.p, (int)b.ld, 1, c, (int)ldc);
    }
}

/* Elements of row i of a tile that belong to the result. */
static int64_t row_length(struct span rows, struct span cols, bool crosses, int64_t i)
{
    int64_t below = rows.at + i + 1 - cols.at;
    return !crosses || below >= cols.n ? cols.n : below > 0 ? below : 0;
}

static void compute_padded(const struct product *p, struct span rows, struct span cols,
                           bool crosses, struct pads pad)
{
    const gemm *g = p->g;
    ptq_real *c = g->c + rows.at * g->ldc + cols.at;
    memset(pad.c, 0, (size_t)(rows.full * cols.full) * sizeof *c);
    for (int64_t i = 0; i < rows.n && g->beta != 0; i++)
        memcpy(pad.c + i * cols.full, c + i * g->ldc,
               (size_t)row_length(rows, cols, crosses, i) * sizeof *c);
    scale_rows(pad.c, cols.full, rows.n, cols.n, g->beta);
    multiply(p, rows, cols, pad.c, cols.full, pad);
    for (int64_t i = 0; i < rows.n; i++)
        memcpy(c + i * g->ldc, pad.c + i * cols.full,
               (size_t)row_length(rows, cols, crosses, i) * sizeof *c);
}

static void compute_tile(const struct product *p, int64_t tile, struct pads pad)
{
    const gemm *g = p->g;
    struct span rows = span_of(tile / p->tiles_n * p->tile.m, g->m, p->tile.m);
    struct span cols = span_of(tile % p->tiles_n * p->tile.n, g->n, p->tile.n);
    if (p->lower && cols.at >= rows.at + rows.n)
        return;
    bool crosses = p->lower && cols.at + cols.n - 1 > rows.at;
    ptq_real *c = g->c + rows.at * g->ldc + cols.at;
    if (rows.n == rows.full && cols.n == cols.full && !crosses && g->ldc <= INT_MAX) {
        scale_rows(c, g->ldc, rows.n, cols.n, g->beta);
        multiply(p, rows, cols, c, g->ldc, pad);
        return;
    }
    compute_padded(p, rows, cols, crosses, pad);
}

/* A piece is a thread's share of the scratch; tiles are taken one by one, by whoever is free. */
static void compute_tiles(void *arg, int64_t begin, int64_t end)
{
    struct product *p = arg;
    for (int64_t slot = begin; slot < end; slot++) {
        struct pads pad = {NULL, NULL, NULL};
        if (p->scratch) {
            pad.a = p->scratch + slot * p->slot;
            pad.b = pad.a + p->tile.m * p->tile.k;
            pad.c = pad.b + p->tile.n * p->tile.k;
        }
        for (;;) {
            int64_t tile = atomic_fetch_add(&p->next_tile, 1);
            if (tile >= p->tiles_m * p->tiles_n)
                break;
            compute_tile(p, tile, pad);
        }
    }
}

static bool needs_scratch(const struct product *p)
{
    const gemm *g = p->g;
    return p->lower || g->m % p->tile.m || g->n % p->tile.n || g->k % p->tile.k ||
           g->lda > INT_MAX || g->ldb > INT_MAX || g->ldc > INT_MAX;
}

static int product_run(struct ptq_pool *pool, const gemm *g, bool lower, struct ptq_status *st)
{
    if (g->m <= 0 || g->n <= 0)
        return PTQ_OK;
    struct ptq_tile t = ptq_tile_choose(g->m, g->n, g->k, lower);
    struct product p = {.g = g, .tile = t, .lower = lower};
    p.tiles_m = (g->m - 1) / t.m + 1;
    p.tiles_n = (g->n - 1) / t.n + 1;
    p.slot = (t.m + t.n) * t.k + t.m * t.n;
    int64_t threads = ptq_pool_inside() ? 1 : ptq_pool_threads(pool), tiles = p.tiles_m * p.tiles_n;
    if (threads > tiles)
        threads = tiles;
    if (needs_scratch(&p)) {
        size_t bytes =
            (size_t)threads * (size_t)p.slot * sizeof(ptq_real); /* at most 1.4 MB * threads */
        p.scratch = aligned_alloc(64, bytes);
        if (!p.scratch)
            return ptq_status_nomem(st, "the tiles of a matrix product", bytes);
    }
    ptq_blas_single_thread();
    ptq_pool_for(pool, threads, 1, compute_tiles, &p);
    free(p.scratch);
    return PTQ_OK;
}

int PTQ_REAL(ptq_gemm)(struct ptq_pool *pool, const gemm *g, struct ptq_status *st)
{
#ifndef PTQ_DOUBLE
    /* The forward pass: half as long again on tiles (packing of both operands in every call). */
    if (g->m > 0 && g->n > 0 && ptq_panels_fit(g)) {
        ptq_panels_run(pool, g);
        return PTQ_OK;
    }
#endif
    return product_run(pool, g, false, st);
}

struct mirror {
    ptq_real *g;
    int64_t n, ld;
};

/* Squares of 32 keep both sides of the transpose in the first cache. */
enum { MIRROR = 32 };

static void mirror_rows(void *arg, int64_t begin, int64_t end)
{
    const struct mirror *s = arg;
    for (int64_t j0 = begin; j0 < s->n; j0 += MIRROR)
        for (int64_t i = begin; i < end; i++) {
            int64_t stop = s->n - j0 < MIRROR ? s->n : j0 + MIRROR;
            for (int64_t j = j0 > i ? j0 : i + 1; j < stop; j++)
                s->g[i * s->ld + j] = s->g[j * s->ld + i];
        }
}

int PTQ_REAL(ptq_syrk)(struct ptq_pool *pool, const ptq_real *x, int64_t t, int64_t n, int64_t ldx,
                       ptq_real *g, int64_t ldg, struct ptq_status *st)
{
    gemm p = {.m = n,
              .n = n,
              .k = t,
              .ta = true,
              .alpha = 1,
              .a = x,
              .lda = ldx,
              .b = x,
              .ldb = ldx,
              .c = g,
              .ldc = ldg};
    int rc = product_run(pool, &p, true, st);
    struct mirror s = {g, n, ldg};
    if (rc == PTQ_OK)
        ptq_pool_for(pool, n, MIRROR, mirror_rows, &s);
    return rc;
}

/* ---- triangular solves: halves down to LEAF, everything between leaves is a product ---- */

enum {
    LEAF = 64,
    WIDTH = 64
}; /* WIDTH right hand sides at a time in a leaf: whole vectors for every instruction set */

/* Sizes of the first half: LEAF times a power of two, so that the products between the halves have
 * whole depths. */
static int64_t first_half(int64_t n)
{
    int64_t h = LEAF;
    while (2 * h < n)
        h *= 2;
    return h;
}

struct leaf {
    const ptq_real *l;
    int64_t n, ldl;
    bool trans; /* L^T X = B, from the last row up */
    ptq_real *b;
    int64_t m, ldb;
    bool right; /* X L^T = B with B (m x n): the right hand sides are the rows of B */
};

/* tri (n x n) holds row i of the triangle in the order in which rows of x are solved; each x_i is
 * n_done products subtracted in index order, then one division. Elementwise over the WIDTH columns:
 * vector width cannot change bits. */
PTQ_CLONES static void solve_columns(const ptq_real *restrict tri, int64_t n, ptq_real *restrict x)
{
    for (int64_t i = 0; i < n; i++) {
        ptq_real acc[WIDTH];
        for (int c = 0; c < WIDTH; c++)
            acc[c] = x[i * WIDTH + c];
        for (int64_t k = 0; k < i; k++) {
            ptq_real f = tri[i * LEAF + k];
            for (int c = 0; c < WIDTH; c++)
                acc[c] -= f * x[k * WIDTH + c];
        }
        ptq_real d = tri[i * LEAF + i];
        for (int c = 0; c < WIDTH; c++)
            x[i * WIDTH + c] = acc[c] / d;
    }
}

/* Element (i, c) of the right hand sides, i in order of solution. */
static ptq_real *rhs(const struct leaf *s, int64_t i, int64_t c)
{
    int64_t row = s->trans ? s->n - 1 - i : i;
    return s->right ? s->b + c * s->ldb + row : s->b + row * s->ldb + c;
}

static void solve_piece(void *arg, int64_t begin, int64_t end)
{
    const struct leaf *s = arg;
    ptq_real tri[LEAF * LEAF], x[LEAF * WIDTH];
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t k = 0; k <= i; k++)
            tri[i * LEAF + k] =
                s->trans ? s->l[(s->n - 1 - k) * s->ldl + s->n - 1 - i] : s->l[i * s->ldl + k];
    for (int64_t c0 = begin; c0 < end; c0 += WIDTH) {
        int64_t w = end - c0 < WIDTH ? end - c0 : WIDTH;
        memset(x, 0, sizeof x);
        for (int64_t c = 0; c < w; c++)
            for (int64_t i = 0; i < s->n; i++)
                x[i * WIDTH + c] = *rhs(s, i, c0 + c);
        solve_columns(tri, s->n, x);
        for (int64_t c = 0; c < w; c++)
            for (int64_t i = 0; i < s->n; i++)
                *rhs(s, i, c0 + c) = x[i * WIDTH + c];
    }
}

static int solve(struct ptq_pool *pool, const struct leaf *s, struct ptq_status *st)
{
    if (s->n <= LEAF) {
        ptq_pool_for(pool, s->m, 4 * WIDTH, solve_piece, (void *)(uintptr_t)s);
        return PTQ_OK;
    }
    int64_t h = first_half(s->n);
    const ptq_real *l21 = s->l + h * s->ldl;
    ptq_real *b2 = s->right ? s->b + h : s->b + h * s->ldb;
    struct leaf top = *s, bottom = *s;
    top.n = h;
    bottom.n = s->n - h;
    bottom.l = l21 + h;
    bottom.b = b2;
    const struct leaf *first = s->trans ? &bottom : &top, *second = s->trans ? &top : &bottom;
    int rc = solve(pool, first, st);
    if (rc != PTQ_OK)
        return rc;
    gemm g = {.m = second->n,
              .n = s->m,
              .k = first->n,
              .ta = s->trans,
              .alpha = -1,
              .beta = 1,
              .a = l21,
              .lda = s->ldl,
              .b = first->b,
              .ldb = s->ldb,
              .c = second->b,
              .ldc = s->ldb};
    if (s->right)
        g = (gemm){.m = s->m,
                   .n = second->n,
                   .k = first->n,
                   .tb = true,
                   .alpha = -1,
                   .beta = 1,
                   .a = first->b,
                   .lda = s->ldb,
                   .b = l21,
                   .ldb = s->ldl,
                   .c = second->b,
                   .ldc = s->ldb};
    rc = product_run(pool, &g, false, st);
    return rc != PTQ_OK ? rc : solve(pool, second, st);
}

int PTQ_REAL(ptq_trsm_lower)(struct ptq_pool *pool, bool trans, const ptq_real *l, int64_t n,
                             int64_t ldl, ptq_real *b, int64_t m, int64_t ldb,
                             struct ptq_status *st)
{
    struct leaf s = {.l = l, .n = n, .ldl = ldl, .trans = trans, .b = b, .m = m, .ldb = ldb};
    return n <= 0 || m <= 0 ? PTQ_OK : solve(pool, &s, st);
}

/* ---- Cholesky ---- */

/* Column by column; the pivot's test also catches a NaN or Inf that came in from the left of its
 * row. Index of the first bad pivot, or -1. */
PTQ_CLONES static int64_t cholesky_leaf(ptq_real *a, int64_t n, int64_t lda)
{
    for (int64_t j = 0; j < n; j++) {
        ptq_real d = a[j * lda + j], column[LEAF];
        if (!(d > 0) ||
            !(d <= (sizeof d == sizeof(float) ? (ptq_real)__FLT_MAX__ : (ptq_real)__DBL_MAX__)))
            return j;
        d = sizeof d == sizeof(float) ? (ptq_real)__builtin_sqrtf((float)d)
                                      : (ptq_real)__builtin_sqrt((double)d);
        a[j * lda + j] = d;
        for (int64_t i = j + 1; i < n; i++)
            column[i] = a[i * lda + j] /= d;
        for (int64_t i = j + 1; i < n; i++)
            for (int64_t k = j + 1; k <= i; k++)
                a[i * lda + k] -= column[i] * column[k];
    }
    return -1;
}

static int factor(struct ptq_pool *pool, ptq_real *a, int64_t n, int64_t lda, int64_t *bad,
                  struct ptq_status *st)
{
    if (n <= LEAF) {
        *bad = cholesky_leaf(a, n, lda);
        return *bad < 0 ? PTQ_OK : PTQ_SKIP;
    }
    int64_t h = first_half(n);
    int rc = factor(pool, a, h, lda, bad, st);
    if (rc != PTQ_OK)
        return rc;
    ptq_real *a21 = a + h * lda, *a22 = a21 + h;
    struct leaf s = {.l = a, .n = h, .ldl = lda, .b = a21, .m = n - h, .ldb = lda, .right = true};
    gemm g = {.m = n - h,
              .n = n - h,
              .k = h,
              .tb = true,
              .alpha = -1,
              .beta = 1,
              .a = a21,
              .lda = lda,
              .b = a21,
              .ldb = lda,
              .c = a22,
              .ldc = lda};
    rc = solve(pool, &s, st);
    if (rc == PTQ_OK)
        rc = product_run(pool, &g, true, st);
    if (rc != PTQ_OK)
        return rc;
    rc = factor(pool, a22, n - h, lda, bad, st);
    if (rc == PTQ_SKIP)
        *bad += h;
    return rc;
}

int PTQ_REAL(ptq_cholesky)(struct ptq_pool *pool, ptq_real *a, int64_t n, int64_t lda, int64_t *bad,
                           struct ptq_status *st)
{
    int64_t unused;
    return n <= 0 ? PTQ_OK : factor(pool, a, n, lda, bad ? bad : &unused, st);
}
