#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "core/linalg.h"

enum { N_POOLS = 3 };
static struct ptq_pool *pools[N_POOLS]; /* NULL (serial), two threads, three threads */

struct shape {
    int64_t m, n, k, gap;
    bool ta, tb;
    double alpha, beta;
};

/* Knuth's MMIX generator, upper bits: the tests' own numbers. */
static uint64_t next(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return *s >> 33;
}

static double draw(uint64_t *s)
{
    next(s);
    return (double)next(s) / 0x1p30 - 1;
}

static int pick(uint64_t *s, int n)
{
    next(s);
    return (int)(next(s) % (uint64_t)n);
}

#define T   float
#define S   f32
#define EPS 0x1p-24L
#include "unit/linalg_cases.h"
#define T   double
#define S   f64
#define EPS 0x1p-53L
#include "unit/linalg_cases.h"

static void check_quadform(int64_t m, int64_t n)
{
    struct matrix_f32 a = random_f32(m, n, 3, 11);
    struct matrix_f64 h = random_f64(n, n, 2, 12);
    double *rows = test_malloc((size_t)(m + 1) * sizeof *rows),
           *first = test_malloc((size_t)(m + 1) * sizeof *first);
    double total, first_total = 0;
    for (int pool = 0; pool < N_POOLS; pool++) {
        assert_int_equal(
            ptq_quadform(pools[pool], a.at, m, n, a.ld, h.at, h.ld, rows, &total, NULL), PTQ_OK);
        if (pool == 0) {
            memcpy(first, rows, (size_t)m * sizeof *rows);
            first_total = total;
        }
        assert_memory_equal(rows, first, (size_t)m * sizeof *rows);
        assert_memory_equal(&total, &first_total, sizeof total);
    }
    double sum = 0;
    for (int64_t i = 0; i < m; i++) {
        long double want = 0, mass = 0;
        for (int64_t j = 0; j < n; j++)
            for (int64_t k = 0; k < n; k++) {
                long double v =
                    (long double)a.at[i * a.ld + j] * a.at[i * a.ld + k] * h.at[k * h.ld + j];
                want += v;
                mass += fabsl(v);
            }
        assert_true(fabsl(rows[i] - want) <= (long double)(2 * n + 2) * 0x1p-53L * mass);
        sum += rows[i];
    }
    assert_true(total == sum); /* rows are added in index order */
    assert_int_equal(ptq_quadform(NULL, a.at, m, n, a.ld, h.at, h.ld, NULL, &total, NULL), PTQ_OK);
    assert_true(total == sum);
    test_free(rows);
    test_free(first);
    test_free(a.at);
    test_free(h.at);
}

static void test_quadform(void **state)
{
    (void)state;
    static const int64_t cases[][2] = {{0, 3}, {3, 0}, {1, 1}, {5, 130}, {500, 33}, {70, 129}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_quadform(cases[i][0], cases[i][1]);
}

/* Inside a parallel loop a product runs on the calling thread, with the bits it has outside. */
struct nested {
    const struct ptq_gemm_f32 *g;
    float *c[8];
};

static void nested_piece(void *arg, int64_t begin, int64_t end)
{
    struct nested *s = arg;
    for (int64_t i = begin; i < end; i++) {
        struct ptq_gemm_f32 g = *s->g;
        g.c = s->c[i];
        if (ptq_gemm_f32(pools[2], &g, NULL) != PTQ_OK)
            s->c[i][0] = NAN;
    }
}

static void test_nested(void **state)
{
    (void)state;
    struct shape shape = {.m = 150, .n = 70, .k = 90, .alpha = 1};
    struct product_f32 p = product_new_f32(&shape, 9);
    struct nested s = {.g = &p.g};
    assert_int_equal(ptq_gemm_f32(NULL, &p.g, NULL), PTQ_OK);
    for (int i = 0; i < 8; i++)
        s.c[i] = test_calloc((size_t)(shape.m * shape.n), sizeof(float));
    ptq_pool_for(pools[2], 8, 1, nested_piece, &s);
    for (int i = 0; i < 8; i++) {
        assert_same_bits_f32(&p.c, s.c[i]);
        test_free(s.c[i]);
    }
    product_free_f32(&p);
}

static int make_pools(void **state)
{
    (void)state;
    return ptq_pool_new(&pools[1], 2, NULL) || ptq_pool_new(&pools[2], 3, NULL);
}

static int free_pools(void **state)
{
    (void)state;
    for (int i = 0; i < N_POOLS; i++)
        ptq_pool_free(pools[i]);
    return 0;
}

#define BOTH(name) cmocka_unit_test(name##_f32), cmocka_unit_test(name##_f64)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_gemm_sizes),      BOTH(test_gemm_place),           BOTH(test_syrk),
        BOTH(test_cholesky),        BOTH(test_cholesky_refuses),     BOTH(test_trsm),
        BOTH(test_first_nonfinite), cmocka_unit_test(test_quadform), cmocka_unit_test(test_nested),
    };
    return cmocka_run_group_tests(tests, make_pools, free_pools);
}
