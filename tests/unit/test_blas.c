/* test_blas.c: the program executes itself as `test_blas child [portable]` under chosen
 * environments and reads what the child says of its machine. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/blas.h"

struct answer {
    int code, repaired, executions;
    char isa[16], core[64], inherited[64], library[256], text[1024];
};

static int child(int argc, char **argv)
{
    struct ptq_machine m;
    struct ptq_status st = {0};
    const char *seen = getenv("TEST_EXECUTIONS");
    char count[16];
    snprintf(count, sizeof count, "%d", seen ? atoi(seen) + 1 : 1);
    setenv("TEST_EXECUTIONS", count, 1);
    int rc = ptq_machine_init(&m, argc > 2, argv, &st);
    printf("%d %d %s %s [%s] [%s] %s [%s]\n", rc, m.blas_repaired, ptq_isa_name(m.isa), m.blas_core,
           m.blas_inherited, m.blas_library, count, st.text);
    return 0;
}

static struct answer ask(const char *environment, const char *arguments)
{
    char command[512], line[2048] = "";
    struct answer a = {0};
    snprintf(command, sizeof command,
             "env -u OPENBLAS_CORETYPE -u PTQ_CPU -u PTQ_NO_REEXEC -u PTQ_BLAS_INHERITED %s "
             "/proc/%d/exe child %s",
             environment, (int)getpid(), arguments);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    char *got = fgets(line, sizeof line, f);
    assert_int_equal(pclose(f), 0);
    assert_non_null(got);
    char *core_end = strstr(line, " [");
    assert_non_null(core_end);
    assert_int_equal(sscanf(line, "%d %d %15s %63s", &a.code, &a.repaired, a.isa, a.core), 4);
    char *p = core_end + 2;
    snprintf(a.inherited, sizeof a.inherited, "%.*s", (int)strcspn(p, "]"), p);
    p = strstr(p, "] [") + 3;
    snprintf(a.library, sizeof a.library, "%.*s", (int)strcspn(p, "]"), p);
    p = strchr(p, ']') + 2;
    a.executions = atoi(p);
    snprintf(a.text, sizeof a.text, "%s", strchr(p, '['));
    return a;
}

/* True where the library chooses its core at run time and the processor has AVX2. */
static bool can_choose(void)
{
    struct answer a = ask("OPENBLAS_CORETYPE=Nehalem PTQ_NO_REEXEC=1", "");
    bool can = strcmp(a.core, "Nehalem") == 0 && strcmp(a.isa, "scalar") != 0;
    if (!can)
        printf("SKIP: OpenBLAS has one core type here (%s) or the processor no AVX2\n", a.core);
    return can;
}

static void test_low_core_is_repaired(void **state)
{
    (void)state;
    if (!can_choose())
        return;
    struct answer a = ask("OPENBLAS_CORETYPE=Nehalem", "");
    assert_int_equal(a.code, PTQ_OK);
    assert_true(a.repaired);
    assert_int_equal(a.executions, 2);
    assert_string_equal(a.inherited, "Nehalem");
    assert_string_not_equal(a.core, "Nehalem");
    assert_non_null(strstr(a.library, "blas"));
    struct answer kept = ask("OPENBLAS_CORETYPE=Nehalem PTQ_NO_REEXEC=1", "");
    assert_false(kept.repaired);
    assert_int_equal(kept.executions, 1);
    assert_string_equal(kept.core, "Nehalem");
    assert_string_equal(kept.inherited, "Nehalem");
}

static void test_named_isa(void **state)
{
    (void)state;
    if (!can_choose())
        return;
    struct answer a = ask("PTQ_CPU=scalar", "");
    assert_string_equal(a.isa, "scalar");
    assert_string_equal(a.core, "Nehalem");
    a = ask("PTQ_CPU=avx2 OPENBLAS_CORETYPE=Zen", "");
    assert_string_equal(a.isa, "avx2");
    assert_string_equal(a.core, "Haswell");
    assert_string_equal(a.inherited, "Zen");
    a = ask("", "portable");
    assert_int_equal(a.code, PTQ_OK);
    assert_string_equal(a.isa, "avx2");
    assert_string_equal(a.core, "Haswell");
    a = ask("PTQ_CPU=avx512", "portable"); /* the portable bits, whatever the processor can do */
    assert_int_equal(a.code, PTQ_OK);
    assert_string_equal(a.isa, "avx2");
    a = ask("OPENBLAS_CORETYPE=Haswell", "portable");
    assert_false(a.repaired);
    assert_int_equal(a.executions, 1);
}

static void test_refusals(void **state)
{
    (void)state;
    struct answer a = ask("PTQ_CPU=avx1024", "");
    assert_int_equal(a.code, PTQ_ERR_USAGE);
    assert_non_null(strstr(a.text, "avx1024"));
    a = ask("PTQ_CPU=scalar", "portable");
    assert_int_equal(a.code, PTQ_ERR_USAGE);
    if (!can_choose())
        return;
    a = ask("OPENBLAS_CORETYPE=Nehalem PTQ_NO_REEXEC=1", "portable"); /* other bits than promised */
    assert_int_equal(a.code, PTQ_ERR_USAGE);
    assert_non_null(strstr(a.text, "OPENBLAS_CORETYPE=Haswell"));
}

/* A library that ignores the variable must not send the program round for ever: the guard alone
 * stops it. */
static void test_executes_at_most_once(void **state)
{
    (void)state;
    struct answer a = ask("OPENBLAS_CORETYPE=Nehalem PTQ_BLAS_INHERITED=Prescott", "");
    assert_int_equal(a.executions, 1);
    assert_true(a.repaired);
    assert_string_equal(a.inherited, "Prescott");
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "child") == 0)
        return child(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_low_core_is_repaired),
        cmocka_unit_test(test_named_isa),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_executes_at_most_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
