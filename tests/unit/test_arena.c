#include "testlib.h"
#include "core/arena.h"

static void pieces_are_aligned_zeroed_and_apart(void **state)
{
    (void)state;
    struct ptq_arena a;
    struct ptq_status st = {0};
    ptq_arena_init(&a, 0);
    for (int round = 0; round < 2; round++) { /* the second meets memory that was freed dirty */
        unsigned char *before = NULL;
        for (int64_t n = 1; n < 300000; n = n * 3 + 1) {
            unsigned char *p = ptq_arena_alloc(&a, &st, n, 1);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % 64, 0);
            for (int64_t i = 0; i < n; i++)
                assert_int_equal(p[i], 0);
            if (before)
                assert_int_equal(before[0], 0xAB); /* the piece before was not touched */
            memset(p, 0xAB, (size_t)n);
            before = p;
        }
        ptq_arena_clear(&a);
        assert_int_equal(a.used_bytes, 0);
    }
}

static void no_elements_are_a_unique_piece(void **state)
{
    (void)state;
    struct ptq_arena a;
    struct ptq_status st = {0};
    ptq_arena_init(&a, 0);
    void *p = ptq_arena_alloc(&a, &st, 0, 8), *q = ptq_arena_alloc(&a, &st, 0, 8);
    assert_non_null(p);
    assert_non_null(q);
    assert_ptr_not_equal(p, q);
    ptq_arena_clear(&a);
}

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    static const struct {
        int64_t n;
        size_t size;
    } bad[] = {{INT64_MAX, 8}, {INT64_MAX / 8 + 1, 8}, {-1, 1},
               {INT64_MAX, 1}, {INT64_MAX - 63, 1},    {1, SIZE_MAX}};
    for (int64_t i = 0; i < LENGTH(bad); i++) {
        struct ptq_arena a;
        struct ptq_status st = {0};
        ptq_arena_init(&a, 0);
        assert_null(ptq_arena_alloc(&a, &st, bad[i].n, bad[i].size));
        assert_status(&st, PTQ_ERR_MEMORY, "");
        assert_true(*st.text);
        assert_int_equal(a.used_bytes, 0);
        ptq_arena_clear(&a);
    }
}

static void the_limit_holds(void **state)
{
    (void)state;
    struct ptq_arena a;
    struct ptq_status st = {0};
    ptq_arena_init(&a, 1000);
    assert_non_null(ptq_arena_alloc(&a, &st, 640, 1));
    assert_null(ptq_arena_alloc(&a, &st, 361, 1));
    assert_status(&st, PTQ_ERR_MEMORY, "limit");
    ptq_status_clear(&st);
    assert_non_null(ptq_arena_alloc(&a, &st, 320, 1)); /* 640 + 320 <= 1000 */
    assert_null(ptq_arena_alloc(&a, &st, 64, 1));
    ptq_arena_clear(&a);
    ptq_status_clear(&st);
    assert_non_null(ptq_arena_alloc(&a, &st, 900, 1));
    assert_int_equal(a.used_bytes, 960);
    assert_int_equal(a.peak_bytes, 960); /* the same as before the clear */
    ptq_arena_clear(&a);
}

static void large_pieces_go_to_disk(void **state)
{
    (void)state;
    struct ptq_arena a;
    struct ptq_status st = {0};
    char dir[TEST_PATH];
    test_tmpdir(dir);
    ptq_arena_init(&a, 0);
    a.spill = (struct ptq_spill){dir, 300000};
    unsigned char *small = ptq_arena_alloc(&a, &st, 1000, 1);
    unsigned char *fits = ptq_arena_alloc(&a, &st, 200000, 1);
    unsigned char *big = ptq_arena_alloc(&a, &st, 1 << 20, 1);
    unsigned char *more = ptq_arena_alloc(&a, &st, 1000, 1); /* small ones never */
    assert_true(small && fits && big && more);
    assert_false(ptq_arena_is_spilled(&a, small));
    assert_false(ptq_arena_is_spilled(&a, fits));
    assert_false(ptq_arena_is_spilled(&a, more));
    assert_true(ptq_arena_is_spilled(&a, big));
    assert_true(ptq_arena_is_spilled(&a, big + (1 << 20) - 1));
    for (int i = 0; i < 1 << 20; i++)
        assert_int_equal(big[i], 0);
    memset(big, 77, 1 << 20);
    ptq_spill_rest(big, 1 << 20);
    for (int i = 0; i < 1 << 20; i++)
        assert_int_equal(big[i], 77);
    assert_int_equal(rmdir(dir), 0); /* nothing has a name there */
    ptq_arena_clear(&a);
    a.spill.folder = "/nonexistent/folder";
    assert_null(ptq_arena_alloc(&a, &st, 1 << 20, 1));
    assert_int_equal(st.code, PTQ_ERR_IO);
    assert_non_null(strstr(st.text, "/nonexistent/folder: cannot put 1 MiB there"));
    ptq_arena_clear(&a);
}

static void texts(void **state)
{
    (void)state;
    struct ptq_arena a;
    struct ptq_status st = {0};
    ptq_arena_init(&a, 0);
    assert_string_equal(ptq_arena_strdup(&a, &st, ""), "");
    assert_string_equal(ptq_arena_strdup(&a, &st, "blk.0"), "blk.0");
    assert_string_equal(ptq_arena_printf(&a, &st, "%s-b%d", "gptq", 3), "gptq-b3");
    assert_int_equal(strlen(ptq_arena_printf(&a, &st, "%0100000d", 1)), 100000);
    ptq_arena_clear(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_aligned_zeroed_and_apart),
        cmocka_unit_test(no_elements_are_a_unique_piece),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(the_limit_holds),
        cmocka_unit_test(large_pieces_go_to_disk),
        cmocka_unit_test(texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
