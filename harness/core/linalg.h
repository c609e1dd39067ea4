/* linalg.h: the arithmetic of design section 4. Tiles, not threads, decide the result.
 * Every product runs as single-threaded BLAS calls on one constant, zero-padded tile shape chosen
 * by the matrix's own dimensions alone; tile origin = matrix origin. So the same bits for any
 * thread count. Row-major everywhere; ld in elements. linalg_real.c is compiled twice: names end in
 * _f32 and _f64. pool == NULL: serial. Scratch is allocated inside; failures return PTQ_ERR_MEMORY
 * with the status set. Inputs must be finite where said. */
#ifndef PTQ_CORE_LINALG_H
#define PTQ_CORE_LINALG_H
#include "core/pool.h"

#define PTQ_LINALG_DECLARE(T, S)                                                                   \
    /* C (m x n) = alpha op(A) op(B) + beta C; ta: A is stored (k x m); tb: B is stored (n x k).   \
     * beta == 0: C is not read. */                                                                \
    struct ptq_gemm_##S {                                                                          \
        int64_t m, n, k;                                                                           \
        bool ta, tb;                                                                               \
        T alpha, beta;                                                                             \
        const T *a;                                                                                \
        int64_t lda;                                                                               \
        const T *b;                                                                                \
        int64_t ldb;                                                                               \
        T *c;                                                                                      \
        int64_t ldc;                                                                               \
    };                                                                                             \
    int ptq_gemm_##S(struct ptq_pool *, const struct ptq_gemm_##S *, struct ptq_status *);         \
    /* G (n x n) = X^T X for X (t x n), both triangles written and exactly symmetric. */           \
    int ptq_syrk_##S(struct ptq_pool *, const T *x, int64_t t, int64_t n, int64_t ldx, T *g,       \
                     int64_t ldg, struct ptq_status *);                                            \
    /* A = L L^T in place, lower triangle (the upper one is left as it was). Returns 0, or         \
     * PTQ_SKIP when not positive definite (a pivot not > 0 or not finite; *bad then holds its     \
     * index, A is destroyed). */                                                                  \
    int ptq_cholesky_##S(struct ptq_pool *, T *a, int64_t n, int64_t lda, int64_t *bad,            \
                         struct ptq_status *);                                                     \
    /* X = L^-1 B (or L^-T B with trans) in place in B (n x m), L (n x n) lower, non-unit. */      \
    int ptq_trsm_lower_##S(struct ptq_pool *, bool trans, const T *l, int64_t n, int64_t ldl,      \
                           T *b, int64_t m, int64_t ldb, struct ptq_status *);

PTQ_LINALG_DECLARE(float, f32)
PTQ_LINALG_DECLARE(double, f64)

/* sum_ij A_ij (A H)_ij = tr(A H A^T) for A (m x n) fp32, H (n x n) fp64 symmetric; the product and
 * the sum in fp64, rows added in index order. rows_out, when not NULL, gets the m row terms. */
int ptq_quadform(struct ptq_pool *, const float *a, int64_t m, int64_t n, int64_t lda,
                 const double *h, int64_t ldh, double *rows_out, double *total,
                 struct ptq_status *);
/* Index of the first value that is NaN or Inf, or -1. */
int64_t ptq_first_nonfinite_f32(const float *x, int64_t n);
int64_t ptq_first_nonfinite_f64(const double *x, int64_t n);
#endif
