/* machine.h: the machine as the program sets it up, for tests that sweep, and a pool of two
 * threads. */
#ifndef PTQ_TEST_MACHINE_H
#define PTQ_TEST_MACHINE_H
#include "testlib.h"
#include "core/blas.h"
#include "core/pool.h"

static struct ptq_machine machine;
static struct ptq_pool *pool;

/* At the begin of main: the process may execute itself again. */
static inline bool machine_start(char **argv)
{
    struct ptq_status st = {0};
    if (ptq_machine_init(&machine, false, argv, &st) >= 0 && ptq_pool_new(&pool, 2, &st) >= 0)
        return true;
    printf("%s\n", st.text);
    return false;
}

/* A group's teardown. */
static inline int machine_end(void **state)
{
    (void)state;
    ptq_pool_free(pool);
    return 0;
}
#endif
