#include "testlib.h"
#include "core/json.h"
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

static struct ptq_status st;
static char folder[TEST_PATH];

static int setup(void **state)
{
    (void)state;
    ptq_status_clear(&st);
    test_tmpdir(folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_rmdir(folder);
    return 0;
}

static void expect_file(const char *path, const char *want)
{
    char *text;
    size_t n;
    assert_ok(ptq_read_file(path, 1 << 20, &text, &n, &st), &st);
    assert_int_equal(n, strlen(want));
    assert_string_equal(text, want);
    free(text);
}

static void expect_absent(const char *path)
{
    struct stat info;
    assert_true(lstat(path, &info) != 0 && errno == ENOENT);
}

/* ---- rows ---- */

static void a_row_is_one_line(void **state)
{
    (void)state;
    json_t *row = json_pack("{s:s, s:i, s:o, s:o, s:o, s:[i, i], s:b}", "zeta", "two\nlines \"q\"",
                            "bits", 3, "mse", ptq_json_num(0.1), "snr", ptq_json_num(NAN), "max",
                            ptq_json_num(-INFINITY), "list", 1, 2, "ok", 1);
    char *line = ptq_json_line(row);
    assert_string_equal(
        line,
        "{\"zeta\":\"two\\nlines \\\"q\\\"\",\"bits\":3,\"mse\":0.10000000000000001,\"snr\":null,"
        "\"max\":null,\"list\":[1,2],\"ok\":true}\n");
    free(line);
    json_decref(row);
    assert_null(ptq_json_line(NULL));
}

/* 17 significant digits bring every double back. */
static void numbers_come_back(void **state)
{
    (void)state;
    static const double x[] = {
        0, -0.0, 0.1, 1. / 3, 1e-300, 5e-324, 1.7976931348623157e308, 9007199254740993, 1e22, -2.5};
    for (int64_t i = 0; i < LENGTH(x); i++) {
        json_t *v = ptq_json_num(x[i]);
        char *line = ptq_json_line(v);
        assert_non_null(line);
        double back = strtod(line, NULL);
        assert_true(back == x[i] && !!signbit(back) == !!signbit(x[i]));
        free(line);
        json_decref(v);
    }
}

/* ---- writing ---- */

static void a_file_is_replaced_whole(void **state)
{
    (void)state;
    char path[TEST_PATH], temporary[TEST_PATH];
    test_path(folder, "run.json", path);
    test_path(folder, "run.json.tmp", temporary);
    assert_ok(ptq_write_file(path, "first", 5, &st), &st);
    expect_file(path, "first");
    assert_ok(ptq_write_file(path, "", 0, &st), &st);
    expect_file(path, "");
    assert_ok(ptq_write_file(path, "second line\n", 12, &st), &st);
    expect_file(path, "second line\n");
    expect_absent(temporary);
}

/* A limit on file sizes stands in for the full disk: the write fails half way. */
static void a_failed_write_leaves_the_old_file(void **state)
{
    (void)state;
    char path[TEST_PATH], temporary[TEST_PATH], *text = calloc(1, 1 << 20);
    struct rlimit old, small;
    test_path(folder, "run.json", path);
    test_path(folder, "run.json.tmp", temporary);
    assert_ok(ptq_write_file(path, "old", 3, &st), &st);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 100000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int code = ptq_write_file(path, text, 1 << 20, &st);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(code, PTQ_ERR_IO);
    assert_status(&st, PTQ_ERR_IO, "run.json: cannot write: File too large; raise the limit");
    expect_absent(temporary);
    ptq_status_clear(&st);
    expect_file(path, "old");
    free(text);
}

/* A device is written in place, never replaced by a file; /dev/full answers every write with
 * ENOSPC. The link keeps a wrong rename away from the device itself. */
static void a_full_disk_names_path_and_remedy(void **state)
{
    (void)state;
    struct stat info;
    char path[TEST_PATH];
    test_path(folder, "full", path);
    if (stat("/dev/full", &info) || !S_ISCHR(info.st_mode) || symlink("/dev/full", path)) {
        printf("SKIP a_full_disk_names_path_and_remedy: no /dev/full\n");
        skip();
    }
    assert_int_equal(ptq_write_file(path, "x", 1, &st), PTQ_ERR_IO);
    assert_status(&st, PTQ_ERR_IO,
                  "/full: cannot write: No space left on device; free some space or choose a "
                  "folder on another disk, then run again");
    assert_int_equal(stat(path, &info), 0);
    assert_true(S_ISCHR(info.st_mode));
    ptq_status_clear(&st);
    test_path(folder, "null", path);
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_ok(ptq_write_file(path, "x", 1, &st), &st);
    assert_int_equal(stat(path, &info), 0);
    assert_true(S_ISCHR(info.st_mode));
}

static void unwritable_places(void **state)
{
    (void)state;
    char file[TEST_PATH], path[TEST_PATH];
    test_path(folder, "absent/run.json", path);
    assert_int_equal(ptq_write_file(path, "x", 1, &st), PTQ_ERR_IO);
    assert_status(&st, PTQ_ERR_IO,
                  "absent/run.json: cannot write: No such file or directory; choose a folder that "
                  "can be written");
    ptq_status_clear(&st);
    assert_int_equal(ptq_write_file(folder, "x", 1, &st), PTQ_ERR_IO);
    assert_status(&st, PTQ_ERR_IO, "cannot write: Is a directory");
    ptq_status_clear(&st);
    test_path(folder, "file", file);
    assert_ok(ptq_write_file(file, "x", 1, &st), &st);
    test_path(file, "run.json", path);
    assert_int_equal(ptq_write_file(path, "x", 1, &st), PTQ_ERR_IO);
    assert_status(&st, PTQ_ERR_IO, "Not a directory");
}

/* ---- reading ---- */

static void reading_is_capped(void **state)
{
    (void)state;
    char path[TEST_PATH], *text;
    size_t n;
    test_path(folder, "a", path);
    assert_ok(ptq_write_file(path, "a\0b", 3, &st), &st);
    assert_ok(ptq_read_file(path, 3, &text, &n, &st), &st);
    assert_int_equal(n, 3);
    assert_memory_equal(text, "a\0b", 4); /* and the NUL after it */
    free(text);
    assert_int_equal(ptq_read_file(path, 2, &text, &n, &st), PTQ_ERR_USAGE);
    assert_null(text);
    assert_status(&st, PTQ_ERR_USAGE, "/a: 3 bytes, more than the 2 this kind of file may have");
}

/* A sparse file claims 2^40 bytes: refused before any memory is asked for. */
static void a_huge_file_is_refused(void **state)
{
    (void)state;
    char path[TEST_PATH], *text;
    size_t n;
    test_path(folder, "huge", path);
    assert_ok(ptq_write_file(path, "", 0, &st), &st);
    if (truncate(path, (off_t)1 << 40)) {
        printf("SKIP a_huge_file_is_refused: no sparse files here\n");
        skip();
    }
    assert_int_equal(ptq_read_file(path, 1 << 20, &text, &n, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "1099511627776 bytes, more than the 1048576");
}

/* A pipe without a writer would block for ever. */
static void only_regular_files_are_read(void **state)
{
    (void)state;
    char path[TEST_PATH], *text;
    size_t n;
    test_path(folder, "pipe", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    alarm(10);
    assert_int_equal(ptq_read_file(path, 100, &text, &n, &st), PTQ_ERR_USAGE);
    alarm(0);
    assert_status(&st, PTQ_ERR_USAGE, "not a regular file (a pipe or device)");
    ptq_status_clear(&st);
    assert_int_equal(ptq_read_file(folder, 100, &text, &n, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "not a regular file (a folder)");
    ptq_status_clear(&st);
    test_path(folder, "absent", path);
    assert_int_equal(ptq_read_file(path, 100, &text, &n, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE,
                  "absent: cannot read: No such file or directory; check the name");
}

/* ---- folders ---- */

static void folders(void **state)
{
    (void)state;
    char path[TEST_PATH], file[TEST_PATH], *text;
    size_t n;
    test_path(folder, "a/b//c/", path);
    assert_ok(ptq_make_dirs(path, &st), &st);
    assert_ok(ptq_make_dirs(path, &st), &st); /* again is fine */
    test_path(folder, "a/b/c/file", file);
    assert_ok(ptq_write_file(file, "x", 1, &st), &st);
    test_path(file, "d", path);
    assert_int_equal(ptq_make_dirs(path, &st), PTQ_ERR_IO);
    assert_status(&st, PTQ_ERR_IO, "/a/b/c/file: cannot make the folder: Not a directory");
    ptq_status_clear(&st);
    assert_int_equal(ptq_make_dirs("", &st), PTQ_ERR_USAGE);
    ptq_status_clear(&st);
    text = calloc(1, 100000);
    memset(text, 'x', 99999);
    assert_int_equal(ptq_make_dirs(text, &st), PTQ_ERR_USAGE);
    free(text);
    ptq_status_clear(&st);
    assert_ok(ptq_read_file(file, 1, &text, &n, &st), &st); /* the file in the way was left alone */
    free(text);
}

/* Two values of the outermost array, one in it, an object with one pair: brackets, braces and
 * commas count; those inside texts do not, nor does an escaped quote end one. */
static void values_are_counted_before_parsing(void **state)
{
    (void)state;
    static const char text[] = "[1, [2], {\"a]}\\\",,[[[\": 3}]";
    const size_t n = sizeof text - 1;
    assert_null(ptq_json_too_much(text, n, 2, 5));
    assert_string_equal(ptq_json_too_much(text, n, 1, 5), "nested too deep");
    assert_string_equal(ptq_json_too_much(text, n, 2, 4), "too many values");
    assert_null(ptq_json_too_much("", 0, 0, 0));
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(a_row_is_one_line),
        CASE(numbers_come_back),
        CASE(a_file_is_replaced_whole),
        CASE(a_failed_write_leaves_the_old_file),
        CASE(a_full_disk_names_path_and_remedy),
        CASE(unwritable_places),
        CASE(reading_is_capped),
        CASE(a_huge_file_is_refused),
        CASE(only_regular_files_are_read),
        CASE(folders),
        CASE(values_are_counted_before_parsing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
