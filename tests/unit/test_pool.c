#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include "core/clock.h"
#include "core/pool.h"

enum { SIZE = 1000, N_POOLS = 4 };
static struct ptq_pool *pools[N_POOLS]; /* NULL, one, two, five threads */

struct seen {
    int64_t n, grain;
    int count[SIZE];
    atomic_int pieces, wrong_borders, at_once, most_at_once;
    bool slow, was_inside;
};

static void mark(void *arg, int64_t begin, int64_t end)
{
    struct seen *s = arg;
    int now = atomic_fetch_add(&s->at_once, 1) + 1, most = atomic_load(&s->most_at_once);
    while (now > most && !atomic_compare_exchange_weak(&s->most_at_once, &most, now)) {}
    int64_t want_end = begin + s->grain < s->n ? begin + s->grain : s->n;
    if (begin % s->grain != 0 || end != want_end)
        atomic_fetch_add(&s->wrong_borders, 1);
    for (int64_t i = begin; i < end; i++)
        s->count[i]++; /* a plain write: ThreadSanitizer sees a piece given out twice, or a return
                          before the last is done */
    if (s->slow)
        usleep(1000);
    atomic_fetch_add(&s->pieces, 1);
    atomic_fetch_sub(&s->at_once, 1);
}

static void assert_covered(const struct seen *s)
{
    for (int64_t i = 0; i < SIZE; i++)
        assert_int_equal(s->count[i], i < s->n ? 1 : 0);
    assert_int_equal(s->wrong_borders, 0);
    assert_int_equal(s->pieces, (s->n + s->grain - 1) / s->grain);
}

static void test_every_piece_once(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0, 1, 2, 7, 64, 999, 1000},
                         grains[] = {1, 2, 3, 64, 999, 1000, 5000};
    for (int p = 0; p < N_POOLS; p++)
        for (int repeat = 0; repeat < 20; repeat++)
            for (int i = 0; i < 7; i++)
                for (int j = 0; j < 7; j++) {
                    struct seen s = {.n = sizes[i], .grain = grains[j]};
                    ptq_pool_for(pools[p], s.n, s.grain, mark, &s);
                    assert_covered(&s);
                }
}

static void test_at_most(void **state)
{
    (void)state;
    for (int most = 1; most <= 4; most++) {
        struct seen s = {.n = 60, .grain = 1, .slow = true};
        ptq_pool_for_at_most(pools[3], most, s.n, s.grain, mark, &s);
        assert_covered(&s);
        assert_true(s.most_at_once <= most);
        assert_true(most == 1 ||
                    s.most_at_once >= 2); /* pieces of 1 ms that sleep: the others do take part */
    }
    struct seen s = {.n = 10, .grain = 3};
    ptq_pool_for_at_most(pools[3], 0, s.n, s.grain, mark, &s);
    assert_covered(&s);
}

static void record_order(void *arg, int64_t begin, int64_t end)
{
    int64_t **next = arg;
    (void)end;
    *(*next)++ = begin;
}

static void test_serial_in_order(void **state)
{
    (void)state;
    for (int p = 0; p < 2; p++) {
        int64_t order[10], *next = order;
        ptq_pool_for(pools[p], 95, 10, record_order, &next);
        assert_int_equal(next - order, 10);
        for (int i = 0; i < 10; i++)
            assert_int_equal(order[i], 10 * i);
    }
}

struct outer {
    struct ptq_pool *pool;
    struct seen inner[40];
    pthread_t inner_thread[40];
    atomic_int other_thread;
};

static void note_thread(void *arg, int64_t begin, int64_t end)
{
    (void)begin, (void)end;
    pthread_t *me = arg;
    if (!pthread_equal(*me, pthread_self()))
        memset(me, 0, sizeof *me);
}

static void run_inner(void *arg, int64_t begin, int64_t end)
{
    struct outer *o = arg;
    for (int64_t i = begin; i < end; i++) {
        struct seen *s = &o->inner[i];
        s->was_inside = ptq_pool_inside();
        ptq_pool_for(o->pool, s->n, s->grain, mark, s);
        pthread_t me = pthread_self();
        ptq_pool_for(o->pool, 50, 1, note_thread, &me);
        if (!pthread_equal(me, pthread_self()))
            atomic_fetch_add(&o->other_thread, 1);
    }
}

static void test_nested(void **state)
{
    (void)state;
    static struct outer o;
    for (int p = 2; p < N_POOLS; p++) {
        memset(&o, 0, sizeof o);
        o.pool = pools[p];
        for (int i = 0; i < 40; i++)
            o.inner[i] = (struct seen){.n = 25 * i, .grain = 7};
        assert_false(ptq_pool_inside());
        ptq_pool_for(pools[p], 40, 1, run_inner, &o);
        assert_false(ptq_pool_inside());
        for (int i = 0; i < 40; i++) {
            assert_covered(&o.inner[i]);
            assert_true(o.inner[i].most_at_once <= 1);
            assert_true(o.inner[i].was_inside);
        }
        assert_int_equal(o.other_thread, 0);
    }
}

/* One piece needs no second thread: what it does may still use all of them. */
static void one_outer_piece(void *arg, int64_t begin, int64_t end)
{
    struct seen *s = arg;
    (void)begin, (void)end;
    s->was_inside = ptq_pool_inside();
    ptq_pool_for(pools[3], s->n, s->grain, mark, s);
}

static void test_single_piece_keeps_the_pool(void **state)
{
    (void)state;
    struct seen s = {.n = 40, .grain = 1, .slow = true};
    ptq_pool_for(pools[3], 1, 1, one_outer_piece, &s);
    assert_covered(&s);
    assert_false(s.was_inside);
    assert_true(s.most_at_once >= 2);
}

static void *second_caller(void *arg)
{
    struct seen *s = arg;
    for (int i = 0; i < 50; i++) {
        memset(s->count, 0, sizeof s->count);
        atomic_store(&s->pieces, 0);
        ptq_pool_for(pools[2], s->n, s->grain, mark, s);
    }
    return NULL;
}

static void test_two_callers(void **state)
{
    (void)state;
    struct seen a = {.n = 300, .grain = 4}, b = {.n = 500, .grain = 9};
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, second_caller, &a), 0);
    second_caller(&b);
    pthread_join(t, NULL);
    assert_covered(&a);
    assert_covered(&b);
}

static void test_sizes_refused(void **state)
{
    (void)state;
    struct ptq_pool *p = NULL;
    struct ptq_status st = {0};
    assert_int_equal(ptq_pool_new(&p, -1, &st), PTQ_ERR_USAGE);
    assert_non_null(strstr(st.text, "-1"));
    assert_null(p);
    assert_int_equal(ptq_pool_new(&p, 0, NULL), PTQ_OK);
    assert_true(ptq_pool_threads(p) >= 1 && ptq_pool_threads(p) <= sysconf(_SC_NPROCESSORS_ONLN));
    ptq_pool_free(p);
    ptq_pool_free(NULL);
    assert_int_equal(ptq_pool_threads(NULL), 1);
    assert_int_equal(ptq_pool_threads(pools[3]), 5);
}

static void test_clock(void **state)
{
    (void)state;
    int64_t a = ptq_now_ns();
    usleep(2000);
    int64_t b = ptq_now_ns();
    assert_true(b - a >= 2000000);
    int64_t before = ptq_peak_rss_bytes();
    assert_true(before > 100 * 1024);
    enum { BYTES = 64 << 20 };
    volatile char *p = test_malloc(BYTES);
    for (int64_t i = 0; i < BYTES; i += 1024)
        p[i] = 1;
    assert_true(ptq_peak_rss_bytes() >= BYTES);
    test_free((void *)(uintptr_t)p);
}

static int make_pools(void **state)
{
    (void)state;
    return ptq_pool_new(&pools[1], 1, NULL) || ptq_pool_new(&pools[2], 2, NULL) ||
           ptq_pool_new(&pools[3], 5, NULL);
}

static int free_pools(void **state)
{
    (void)state;
    for (int i = 0; i < N_POOLS; i++)
        ptq_pool_free(pools[i]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_piece_once),
        cmocka_unit_test(test_at_most),
        cmocka_unit_test(test_serial_in_order),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_single_piece_keeps_the_pool),
        cmocka_unit_test(test_two_callers),
        cmocka_unit_test(test_sizes_refused),
        cmocka_unit_test(test_clock),
    };
    return cmocka_run_group_tests(tests, make_pools, free_pools);
}
