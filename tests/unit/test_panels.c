/* Forward products in fp32 (core/panels.c): every element is, to the bit, the chain of fused
 * multiply-adds that panels.h promises, whatever the sizes, the place, the threads, the vectors. */
#include "testlib.h"
#include "core/fmatile.h"
#include "core/linalg.h"
#include "core/rng.h"

enum { GAP = 3, MOST_DEPTH = 576 };

struct shape {
    int64_t m, n, k;
};

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Equal shares of the terms, at most MOST_DEPTH each; a share is a chain from 0, shares are added
 * in order. */
static float element(const struct ptq_gemm_f32 *g, int64_t i, int64_t j)
{
    const int64_t depth = ceil_div(g->k, ceil_div(g->k, MOST_DEPTH));
    float c = 0;
    for (int64_t k0 = 0; k0 < g->k; k0 += depth) {
        float sum = 0;
        for (int64_t k = k0; k < g->k && k < k0 + depth; k++)
            sum = fmaf(g->ta ? g->a[k * g->lda + i] : g->a[i * g->lda + k],
                       g->tb ? g->b[j * g->ldb + k] : g->b[k * g->ldb + j], sum);
        c = k0 == 0 ? sum : c + sum;
    }
    return c;
}

/* (rows x cols), NaN in the gap behind each row. */
static float *matrix(int64_t rows, int64_t cols, uint64_t seed)
{
    float *x = malloc((size_t)(rows * (cols + GAP)) * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < rows * (cols + GAP); i++)
        x[i] = i % (cols + GAP) < cols ? (float)ptq_normal(seed, (uint64_t)i) : NAN;
    return x;
}

static void check(const struct shape *s, bool ta, bool tb, struct ptq_pool *pool)
{
    float *a = ta ? matrix(s->k, s->m, 1) : matrix(s->m, s->k, 1),
          *b = tb ? matrix(s->n, s->k, 2) : matrix(s->k, s->n, 2), *c = matrix(s->m, s->n, 3);
    struct ptq_status st = {0};
    const struct ptq_gemm_f32 g = {.m = s->m,
                                   .n = s->n,
                                   .k = s->k,
                                   .ta = ta,
                                   .tb = tb,
                                   .alpha = 1,
                                   .a = a,
                                   .lda = (ta ? s->m : s->k) + GAP,
                                   .b = b,
                                   .ldb = (tb ? s->k : s->n) + GAP,
                                   .c = c,
                                   .ldc = s->n + GAP};
    assert_ok(ptq_gemm_f32(pool, &g, &st), &st);
    for (int64_t i = 0; i < s->m; i++) {
        for (int64_t j = 0; j < s->n; j++)
            if (c[i * g.ldc + j] != element(&g, i, j))
                fail_msg("%lld x %lld x %lld, ta %d tb %d, element %lld %lld: %.9g, expected %.9g",
                         (long long)s->m, (long long)s->n, (long long)s->k, ta, tb, (long long)i,
                         (long long)j, c[i * g.ldc + j], element(&g, i, j));
        for (int64_t j = s->n; j < g.ldc; j++)
            assert_true(isnan(c[i * g.ldc + j]));
    }
    free(a), free(b), free(c);
}

/* Sizes around the 8 rows, 48 and 96 columns, 576 terms of the kernel; rows that threads share. */
static const struct shape shapes[] = {
    {1, 1, 1},    {8, 48, 4},    {7, 47, 5},    {9, 49, 3},     {16, 96, 64},  {17, 97, 63},
    {3, 145, 70}, {25, 20, 575}, {25, 20, 576}, {25, 70, 577},  {9, 30, 1153}, {40, 50, 1500},
    {300, 10, 9}, {530, 49, 20}, {70, 600, 33}, {1040, 50, 30},
};

static void check_all(struct ptq_pool *pool)
{
    for (int i = 0; i < LENGTH(shapes); i++)
        for (int t = 0; t < 4; t++)
            check(&shapes[i], t & 1, t & 2, pool);
}

static void test_elements(void **state)
{
    (void)state;
    if (!ptq_fmatile_fuses()) {
        printf("SKIP test_elements: no fused multiply-add, or PTQ_CPU=scalar\n");
        skip();
    }
    for (int threads = 1; threads <= 3; threads++) {
        struct ptq_status st = {0};
        struct ptq_pool *pool;
        assert_ok(ptq_pool_new(&pool, threads, &st), &st);
        check_all(pool);
        ptq_pool_free(pool);
    }
    setenv("PTQ_CPU", "avx2", 1); /* the narrower vectors have the same bits */
    check_all(NULL);
    unsetenv("PTQ_CPU");
}

/* What the kernel does not do goes to the tiles and must still be right: alpha, beta, no terms. */
static void test_others(void **state)
{
    (void)state;
    struct ptq_status st = {0};
    const float a[2] = {2, 3}, b[2] = {5, 7};
    float c[1] = {100};
    struct ptq_gemm_f32 g = {1, 1, 2, false, true, -1, 2, a, 2, b, 2, c, 1};
    assert_ok(ptq_gemm_f32(NULL, &g, &st), &st);
    assert_true(c[0] == 200 - 31);
    g.alpha = 1, g.beta = 0, g.k = 0;
    assert_ok(ptq_gemm_f32(NULL, &g, &st), &st);
    assert_true(c[0] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elements),
        cmocka_unit_test(test_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
