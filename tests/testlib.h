/* testlib.h: small helpers of the unit tests. Tests run from the repository's root; reference
 * data that is not part of the repository lies in ../shared (or $PTQ_SHARED), and a test without
 * it skips with a visible line. */
#ifndef PTQ_TESTLIB_H
#define PTQ_TESTLIB_H
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <ftw.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/status.h"

#define LENGTH(a) ((int64_t)(sizeof(a) / sizeof *(a)))

enum { TEST_PATH = 4096 };

/* Path of a shared file into out; false, with a SKIP line printed, when it is absent. */
static inline bool test_shared(const char *relative, char out[TEST_PATH])
{
    const char *root = getenv("PTQ_SHARED");
    snprintf(out, TEST_PATH, "%s/%s", root && *root ? root : "../shared", relative);
    if (access(out, R_OK) == 0)
        return true;
    printf("SKIP %s: ../shared absent (set PTQ_SHARED)\n", relative);
    fflush(stdout);
    return false;
}

/* Inside a test: declares `path` as a shared file's, or skips the test. */
#define TEST_SHARED_OR_SKIP(path, relative)                                                        \
    char path[TEST_PATH];                                                                          \
    if (!test_shared(relative, path))                                                              \
    skip()

/* A new folder, removed by test_rmdir. */
static inline void test_tmpdir(char out[TEST_PATH])
{
    const char *root = getenv("TMPDIR");
    snprintf(out, TEST_PATH, "%s/ptq-test-XXXXXX", root && *root ? root : "/tmp");
    assert_non_null(mkdtemp(out));
}

static inline int test_remove_one(const char *path, const struct stat *info, int type,
                                  struct FTW *at)
{
    (void)info;
    (void)type;
    (void)at;
    return remove(path);
}

static inline void test_rmdir(const char *folder)
{
    assert_int_equal(nftw(folder, test_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* out = folder/name; fails the test when it does not fit. */
static inline void test_path(const char *folder, const char *name, char out[TEST_PATH])
{
    assert_true(snprintf(out, TEST_PATH, "%s/%s", folder, name) < TEST_PATH);
}

/* |got - want| / |want|, or |got| when want is 0; 0 for two NaN or the same infinity. */
static inline double test_relerr(double got, double want)
{
    if ((isnan(got) && isnan(want)) || got == want)
        return 0;
    double error = fabs(got - want) / (want == 0 ? 1 : fabs(want));
    return isnan(error) ? INFINITY : error;
}

#define assert_rel(got, want, tolerance)                                                           \
    do {                                                                                           \
        double got_ = (got), want_ = (want);                                                       \
        if (!(test_relerr(got_, want_) <= (tolerance)))                                            \
            fail_msg("%s = %.17g, expected %.17g: relative error %.3g > %.3g", #got, got_, want_,  \
                     test_relerr(got_, want_), (double)(tolerance));                               \
    } while (0)

/* The status holds this code, and its message this text. */
#define assert_status(st, want, part)                                                              \
    do {                                                                                           \
        if ((st)->code != (want) || !strstr((st)->text, (part)))                                   \
            fail_msg("status %d \"%s\", expected %d \"...%s...\"", (st)->code, (st)->text,         \
                     (int)(want), (part));                                                         \
    } while (0)
#define assert_ok(call, st)                                                                        \
    do {                                                                                           \
        int code_ = (call);                                                                        \
        if (code_ != PTQ_OK)                                                                       \
            fail_msg("%s: code %d: %s", #call, code_, (st)->text);                                 \
    } while (0)
#endif
