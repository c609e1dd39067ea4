#include "testlib.h"

static void the_first_error_stays(void **state)
{
    (void)state;
    struct ptq_status st = {0};
    assert_int_equal(ptq_status_set(&st, PTQ_ERR_IO, "a.h5: %s %d", "cut at byte", 12), PTQ_ERR_IO);
    assert_string_equal(st.text, "a.h5: cut at byte 12");
    assert_int_equal(ptq_status_set(&st, PTQ_ERR_USAGE, "later"), PTQ_ERR_IO);
    assert_status(&st, PTQ_ERR_IO, "cut at byte 12");
    ptq_status_clear(&st);
    assert_int_equal(st.code, PTQ_OK);
    assert_string_equal(st.text, "");
}

static void a_skip_gives_way_to_an_error(void **state)
{
    (void)state;
    struct ptq_status st = {0};
    assert_int_equal(ptq_status_set(&st, PTQ_SKIP, "no 1-bit grid"), PTQ_SKIP);
    assert_int_equal(ptq_status_set(&st, PTQ_ERR_NUMERIC, "NaN in row 3"), PTQ_ERR_NUMERIC);
    assert_status(&st, PTQ_ERR_NUMERIC, "NaN in row 3");
}

static void no_status_is_allowed(void **state)
{
    (void)state;
    assert_int_equal(ptq_status_set(NULL, PTQ_ERR_MEMORY, "x"), PTQ_ERR_MEMORY);
    assert_int_equal(ptq_status_nomem(NULL, "x", 1), PTQ_ERR_MEMORY);
}

static void a_long_message_is_cut(void **state)
{
    (void)state;
    struct ptq_status st = {0};
    ptq_status_set(&st, PTQ_ERR_USAGE, "%05000d", 7);
    assert_int_equal(strlen(st.text), sizeof st.text - 1);
}

static void no_memory_names_what_and_how_much(void **state)
{
    (void)state;
    struct ptq_status st = {0};
    assert_int_equal(ptq_status_nomem(&st, "the Hessian of blk.0.attn_q", 134217728),
                     PTQ_ERR_MEMORY);
    assert_status(&st, PTQ_ERR_MEMORY,
                  "out of memory: the Hessian of blk.0.attn_q needs 134217728 bytes");
}

/* Design section 8: 0 ok, 2 usage, 5 invariant or numerical failure, 6 incomplete. */
static void exit_codes(void **state)
{
    (void)state;
    assert_int_equal(ptq_status_exit_code(PTQ_OK), 0);
    assert_int_equal(ptq_status_exit_code(PTQ_SKIP), 0);
    assert_int_equal(ptq_status_exit_code(PTQ_ERR_USAGE), 2);
    assert_int_equal(ptq_status_exit_code(PTQ_ERR_NUMERIC), 5);
    assert_int_equal(ptq_status_exit_code(PTQ_ERR_IO), 6);
    assert_int_equal(ptq_status_exit_code(PTQ_ERR_MEMORY), 6);
    assert_int_equal(ptq_status_exit_code(PTQ_ERR_CANCELLED), 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_error_stays),
        cmocka_unit_test(a_skip_gives_way_to_an_error),
        cmocka_unit_test(no_status_is_allowed),
        cmocka_unit_test(a_long_message_is_cut),
        cmocka_unit_test(no_memory_names_what_and_how_much),
        cmocka_unit_test(exit_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
