/* What `ptq bench` makes of its samples, and which work it calls: nothing here depends on time. */
#include "testlib.h"
#include "kernels/bench_ops.h"
#include "kernels/machine.h"
#include <stdatomic.h>

/* ---- samples ---- */

/* Order statistics by hand: of 1..9 the quartiles are 3, 5 and 7. */
static void test_summary(void **state)
{
    (void)state;
    const double x[] = {9, 1, 8, 2, 7, 3, 6, 4, 5};
    const struct ptq_bench_summary s = ptq_bench_summary(x, NULL, LENGTH(x));
    assert_int_equal(s.n, 9);
    assert_true(s.median == 5 && s.q1 == 3 && s.q3 == 7 && s.least == 1);
}

static void test_summary_marked(void **state)
{
    (void)state;
    const double x[] = {100, 1, 200, 2, 3};
    const bool three_left[] = {true, false, true, false, false},
               two_left[] = {true, false, true, false, true};
    struct ptq_bench_summary s = ptq_bench_summary(x, three_left, LENGTH(x));
    assert_int_equal(s.n, 3);
    assert_true(s.median == 2 && s.least == 1);
    s = ptq_bench_summary(x, two_left, LENGTH(x));
    assert_int_equal(s.n, 5); /* too few: all count */
    assert_true(s.median == 3);
}

static void test_summary_empty(void **state)
{
    (void)state;
    const struct ptq_bench_summary s = ptq_bench_summary(NULL, NULL, 0);
    assert_int_equal(s.n, 0);
    assert_true(isnan(s.median));
}

/* 400 bytes at 2 GB/s take 200 ns, 900 operations at 3 Gop/s 300 ns. */
static void test_share(void **state)
{
    (void)state;
    const struct ptq_bench_work w = {.bytes = 400, .ops = 900};
    struct ptq_bench_share s = ptq_bench_share(&w, 600, (struct ptq_bench_limit){2, 3});
    assert_rel(s.memory, 1.0 / 3, 1e-12);
    assert_rel(s.ops, 0.5, 1e-12);
    assert_true(s.share == s.ops);
    assert_string_equal(s.bound, "ops");
    s = ptq_bench_share(&w, 600, (struct ptq_bench_limit){1, 3});
    assert_string_equal(s.bound, "memory");
    assert_rel(s.share, 2.0 / 3, 1e-12);
    s = ptq_bench_share(&w, 600, (struct ptq_bench_limit){0, 0});
    assert_string_equal(s.bound, "-");
    assert_true(s.share == 0);
}

/* ---- the machine ---- */

static void test_copies(void **state)
{
    (void)state;
    const struct ptq_bench b = {.rotate_bytes = 1000, .most_bytes = 3000};
    assert_int_equal(ptq_bench_copies(&b, 300), 4); /* the first number above 1000 */
    assert_int_equal(ptq_bench_copies(&b, 1000), 1);
    assert_int_equal(ptq_bench_copies(&b, 5000), 1);
    const struct ptq_bench little = {.rotate_bytes = 1000, .most_bytes = 650};
    assert_int_equal(ptq_bench_copies(&little, 300), 2);
}

static void test_memory_is_bounded(void **state)
{
    (void)state;
    const struct ptq_bench b = {.most_bytes = 1 << 20};
    struct ptq_status st = {0};
    assert_null(ptq_bench_memory(&b, (1 << 20) + 1, &st));
    assert_int_equal(st.code, PTQ_SKIP);
    ptq_status_clear(&st);
    char *at = ptq_bench_memory(&b, 1 << 20, &st);
    assert_non_null(at);
    assert_int_equal((uintptr_t)at % 64, 0);
    ptq_bench_memory_free(at, 1 << 20);
}

static void test_system(void **state)
{
    (void)state;
    assert_true(ptq_free_memory_bytes() > 0);
    assert_true(ptq_last_cache_bytes() >= 0);
    const int64_t before = ptq_thread_ns();
    for (volatile int i = 0; i < 1000000; i++)
        ;
    assert_true(ptq_thread_ns() > before);
}

/* A loop never uses instructions that the flags lack, and the fastest is taken. */
static void test_probe_find(void **state)
{
    (void)state;
    static const unsigned flags[] = {0, PTQ_CPU_AVX2, PTQ_CPU_AVX2 | PTQ_CPU_AVX_VNNI,
                                     PTQ_CPU_AVX2 | PTQ_CPU_AVX512,
                                     PTQ_CPU_AVX2 | PTQ_CPU_AVX512 | PTQ_CPU_AVX512_VNNI};
    double last[PTQ_N_PROBES] = {0};
    for (int64_t f = 0; f < LENGTH(flags); f++)
        for (int k = 0; k < PTQ_N_PROBES; k++) {
            const int i = ptq_probe_find((enum ptq_probe_kind)k, flags[f]);
            assert_int_equal(ptq_probe_loops[i].kind, k);
            assert_int_equal(ptq_probe_loops[i].needs & ~flags[f], 0);
            if (k == PTQ_PROBE_FMA)
                assert_true(ptq_probe_loops[i].work >= last[k]);
            last[k] = ptq_probe_loops[i].work;
        }
}

/* ---- what is called ---- */

enum { ITEMS = 37, COPIES = 3 };
struct calls { /* of a work that notes its calls */
    _Atomic int64_t of[COPIES][ITEMS];
    _Atomic bool strayed;
    int threads;
};

static void note(void *arg, int64_t copy, int64_t begin, int64_t end, int slot)
{
    struct calls *c = arg;
    if (copy < 0 || copy >= COPIES || begin < 0 || end > ITEMS || begin >= end || slot < 0 ||
        slot >= c->threads || begin < ITEMS * slot / c->threads ||
        end > ITEMS * (slot + 1) / c->threads)
        c->strayed = true;
    else
        for (int64_t i = begin; i < end; i++)
            c->of[copy][i]++;
}

static struct ptq_bench_result bench_calls(struct calls *c, int threads)
{
    struct ptq_pool *pool;
    struct ptq_bench b;
    struct ptq_bench_result r;
    struct ptq_status st = {0};
    assert_int_equal(ptq_pool_new(&pool, threads, &st), 0);
    assert_int_equal(ptq_bench_open(&b, pool, (struct ptq_bench_time){0.001, 4}, &st), 0);
    c->threads = threads;
    b.repetition_ns = 10000000; /* long beside a call: all items at once */
    const struct ptq_bench_work w = {.items = ITEMS,
                                     .copies = COPIES,
                                     .run = note,
                                     .arg = c,
                                     .bytes = 1,
                                     .ops = 1,
                                     .values = 1,
                                     .memory = PTQ_PROBE_READ,
                                     .arithmetic = PTQ_PROBE_FMA};
    assert_int_equal(ptq_bench_run(&b, &w, 1, &r, &st), 0);
    ptq_bench_close(&b);
    ptq_pool_free(pool);
    return r;
}

/* Threads have items of their own, all of them together, and copies take turns: of a copy, items
 * of the same thread are called equally often, and copies differ by less than the few loops in
 * which the length of a repetition is found. */
static void check_calls(int threads)
{
    struct calls c = {.threads = 0};
    const struct ptq_bench_result r = bench_calls(&c, threads);
    assert_false(c.strayed);
    assert_true(r.rounds >= 4);
    assert_true(r.ns.n >= 3 && r.ns.median > 0 && r.share.share > 0);
    assert_true(r.speed == 1);
    for (int i = 0; i < ITEMS; i++) {
        assert_true(c.of[0][i] > 0);
        for (int k = 1; k < COPIES; k++)
            assert_true(llabs(c.of[k][i] - c.of[0][i]) <= 8);
    }
}

static void test_calls(void **state)
{
    (void)state;
    check_calls(1);
    check_calls(2);
    check_calls(3);
}

/* ---- operations ---- */

/* Every operation runs on odd shapes, with every set of instructions that it is given. */
static void test_operations(void **state)
{
    (void)state;
    struct ptq_pool *pool;
    struct ptq_bench b;
    struct ptq_status st = {0};
    assert_int_equal(ptq_pool_new(&pool, 2, &st), 0);
    assert_int_equal(ptq_bench_open(&b, pool, (struct ptq_bench_time){0.001, 1}, &st), 0);
    b.rotate_bytes = 1 << 16;
    for (int op = 0; op < PTQ_N_BENCH_OPS; op++)
        for (int simd = 0; simd < 2; simd++) {
            const struct ptq_bench_spec s = {.op = (enum ptq_bench_op)op,
                                             .rows = 45,
                                             .cols = 50,
                                             .batch = 3,
                                             .group = 16,
                                             .bits = 4,
                                             .flags = simd ? ptq_cpu_flags(PTQ_ISA_AVX512) : 0};
            struct ptq_bench_case c;
            struct ptq_bench_result r;
            const int code = ptq_bench_case_open(&c, &b, &s, &st);
            assert_int_equal(code, PTQ_OK);
            assert_true(c.work.copies * (int64_t)c.work.bytes > b.rotate_bytes / 2);
            assert_int_equal(ptq_bench_run(&b, &c.work, 1, &r, &st), 0);
            assert_true(r.ns.median > 0);
            ptq_bench_case_close(&c);
        }
    ptq_bench_close(&b);
    ptq_pool_free(pool);
}

/* What is counted as read is what the library's own packed form of the shape holds: 4 bits in
 * groups of 128 with scales of 16 and zeros of 8 bits are 4 + 24 / 128 bits a weight. */
static void test_bytes(void **state)
{
    (void)state;
    struct ptq_pool *pool;
    struct ptq_bench b;
    struct ptq_bench_case c;
    struct ptq_status st = {0};
    assert_int_equal(ptq_pool_new(&pool, 1, &st), 0);
    assert_int_equal(ptq_bench_open(&b, pool, (struct ptq_bench_time){0.001, 1}, &st), 0);
    const struct ptq_bench_spec s = {
        .op = PTQ_BENCH_MATMUL_I8, .rows = 64, .cols = 256, .batch = 1, .group = 128, .bits = 4};
    assert_int_equal(ptq_bench_case_open(&c, &b, &s, &st), 0);
    assert_rel(c.work.bytes, 64 * 256 * (4 + 24 / 128.0) / 8, 1e-12);
    assert_rel(c.work.ops, 2.0 * 64 * 256, 1e-12);
    ptq_bench_case_close(&c);
    ptq_bench_close(&b);
    ptq_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_summary),       cmocka_unit_test(test_summary_marked),
        cmocka_unit_test(test_summary_empty), cmocka_unit_test(test_share),
        cmocka_unit_test(test_copies),        cmocka_unit_test(test_memory_is_bounded),
        cmocka_unit_test(test_system),        cmocka_unit_test(test_probe_find),
        cmocka_unit_test(test_calls),         cmocka_unit_test(test_operations),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
