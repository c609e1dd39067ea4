#include "core/linalg.h"
#include "core/clones.h"
#include "core/size.h"
#include "core/tile.h"
#include <cblas.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- tile shapes ---- */

/* Picoseconds of one padded tile call, fitted to OpenBLAS 0.3.21 (SkylakeX sgemm, Zen 5: 128^3 23.1
 * us, 64 x 64 x 128 7.3 us, 384 x 384 x 256 333 us): flops, then packing of both operands inside
 * the library, reading and writing C, the call itself. Other machines scale all terms alike,
 * roughly; a poor guess costs time, never correctness. */
static double tile_cost(const struct ptq_tile *t)
{
    double m = (double)t->m, n = (double)t->n, k = (double)t->k;
    return 8.7 * m * n * k + 90.0 * (m * k + k * n) + 70.0 * m * n + 400e3;
}

enum { N_SIDE = 9, N_DEPTH = 5 };

static void padded_counts(int64_t size, const int16_t *tile, int n, double *count)
{
    for (int i = 0; i < n; i++)
        count[i] = (double)(size / tile[i] + (size % tile[i] != 0));
}

struct ptq_tile ptq_tile_choose(int64_t m, int64_t n, int64_t k, bool square)
{
    static const int16_t side[N_SIDE] = {16, 32, 48, 64, 96, 128, 192, 256, 384},
                         depth[N_DEPTH] = {32, 64, 96, 128, 256};
    double count_m[N_SIDE], count_n[N_SIDE], count_k[N_DEPTH], best_cost = 0;
    padded_counts(m, side, N_SIDE, count_m);
    padded_counts(n, side, N_SIDE, count_n);
    padded_counts(k, depth, N_DEPTH, count_k);
    struct ptq_tile best = {0, 0, 0};
    for (int i = 0; i < N_SIDE; i++)
        for (int j = square ? i : 0; j < (square ? i + 1 : N_SIDE); j++)
            for (int l = 0; l < N_DEPTH; l++) {
                struct ptq_tile t = {side[i], side[j], depth[l]};
                double cost = count_m[i] * count_n[j] * count_k[l] * tile_cost(&t);
                if (best.m == 0 || cost < best_cost) {
                    best = t;
                    best_cost = cost;
                }
            }
    return best;
}

static void set_single_thread(void)
{
    openblas_set_num_threads(1);
}

void ptq_blas_single_thread(void)
{
    static pthread_once_t once =
        PTHREAD_ONCE_INIT; /* the library's own setting, made once a process */
    pthread_once(&once, set_single_thread);
}

/* ---- tr(A H A^T) ---- */

enum {
    QUAD_ROWS = 384
}; /* rows of A in fp64 at a time: bounds the scratch; a constant, so that no budget moves a tile */

struct quad {
    const double *a, *ah;
    int64_t n;
    double *rows;
};

static void quad_rows(void *arg, int64_t begin, int64_t end)
{
    const struct quad *q = arg;
    for (int64_t i = begin; i < end; i++) {
        double sum = 0;
        for (int64_t j = 0; j < q->n; j++)
            sum += q->a[i * q->n + j] * q->ah[i * q->n + j];
        q->rows[i] = sum;
    }
}

static int quad_chunk(struct ptq_pool *pool, struct quad *q, int64_t m, double *ah, const double *h,
                      int64_t ldh, struct ptq_status *st)
{
    struct ptq_gemm_f64 g = {.m = m,
                             .n = q->n,
                             .k = q->n,
                             .alpha = 1,
                             .a = q->a,
                             .lda = q->n,
                             .b = h,
                             .ldb = ldh,
                             .c = ah,
                             .ldc = q->n};
    int rc = ptq_gemm_f64(pool, &g, st);
    if (rc == PTQ_OK)
        ptq_pool_for(pool, m, 16, quad_rows, q);
    return rc;
}

int ptq_quadform(struct ptq_pool *pool, const float *a, int64_t m, int64_t n, int64_t lda,
                 const double *h, int64_t ldh, double *rows_out, double *total,
                 struct ptq_status *st)
{
    *total = 0;
    for (int64_t i = 0; i < m && rows_out; i++)
        rows_out[i] = 0;
    if (m <= 0 || n <= 0)
        return PTQ_OK;
    int64_t chunk = m < QUAD_ROWS ? m : QUAD_ROWS, cells, bytes;
    if (!ptq_size_mul(chunk, n, &cells) || !ptq_size_mul(cells, 2 * sizeof(double), &bytes))
        return ptq_status_nomem(st, "a quadratic form", SIZE_MAX);
    double *buf = malloc((size_t)bytes), rows[QUAD_ROWS];
    if (!buf)
        return ptq_status_nomem(st, "a quadratic form", (size_t)bytes);
    struct quad q = {.a = buf, .ah = buf + cells, .n = n, .rows = rows};
    int rc = PTQ_OK;
    for (int64_t i0 = 0; i0 < m && rc == PTQ_OK; i0 += chunk) {
        int64_t rows_now = m - i0 < chunk ? m - i0 : chunk;
        for (int64_t i = 0; i < rows_now; i++)
            for (int64_t j = 0; j < n; j++)
                buf[i * n + j] = a[(i0 + i) * lda + j];
        rc = quad_chunk(pool, &q, rows_now, buf + cells, h, ldh, st);
        for (int64_t i = 0; i < rows_now && rc == PTQ_OK; i++) {
            *total += rows[i];
            if (rows_out)
                rows_out[i0 + i] = rows[i];
        }
    }
    free(buf);
    return rc;
}

/* ---- finite? ---- */

/* NaN and Inf are the values whose exponent bits are all set; integers may be reduced in any order.
 */
PTQ_CLONES static bool any_nonfinite_f32(const float *x, int64_t n)
{
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, x + i, sizeof u);
        bad |= (u & 0x7f800000u) == 0x7f800000u;
    }
    return bad;
}

PTQ_CLONES static bool any_nonfinite_f64(const double *x, int64_t n)
{
    uint64_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint64_t u;
        memcpy(&u, x + i, sizeof u);
        bad |= (u & 0x7ff0000000000000u) == 0x7ff0000000000000u;
    }
    return bad;
}

#define FIRST_NONFINITE(T, S)                                                                      \
    int64_t ptq_first_nonfinite_##S(const T *x, int64_t n)                                         \
    {                                                                                              \
        enum { BLOCK = 1024 };                                                                     \
        for (int64_t b = 0; b < n; b += BLOCK) {                                                   \
            int64_t e = n - b < BLOCK ? n : b + BLOCK;                                             \
            if (any_nonfinite_##S(x + b, e - b))                                                   \
                for (int64_t i = b; i < e; i++)                                                    \
                    if (any_nonfinite_##S(x + i, 1))                                               \
                        return i;                                                                  \
        }                                                                                          \
        return -1;                                                                                 \
    }
FIRST_NONFINITE(float, f32)
FIRST_NONFINITE(double, f64)
