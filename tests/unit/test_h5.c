/* HDF5 container: against files written by h5py (tests/vectors/h5py_types.py), round trips, and
 * files that must be refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "datasets/h5.h"

#define VECTORS "tests/vectors/h5py_types.h5"

struct fixture {
    char dir[256], path[300];
    struct ptq_arena arena;
    struct ptq_status st;
    struct ptq_h5 *h;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%s/ptq_h5_XXXXXX", tmp ? tmp : P_tmpdir);
    if (!mkdtemp(f->dir))
        return -1;
    snprintf(f->path, sizeof f->path, "%s/t.h5", f->dir);
    ptq_arena_init(&f->arena, 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    ptq_h5_close(f->h, NULL);
    ptq_arena_clear(&f->arena);
    unlink(f->path);
    rmdir(f->dir);
    free(f);
    return 0;
}

static void open_vectors(struct fixture *f)
{
    assert_int_equal(ptq_h5_open(&f->h, VECTORS, PTQ_H5_READ, &f->st), PTQ_OK);
}

static float *f32(struct fixture *f, const char *name, int64_t n)
{
    float *x = NULL;
    struct ptq_h5_info info;
    assert_int_equal(ptq_h5_read_f32(f->h, name, &f->arena, &x, &info, &f->st), PTQ_OK);
    assert_int_equal(info.n, n);
    return x;
}

static double *f64(struct fixture *f, const char *name, int64_t n)
{
    double *x = NULL;
    struct ptq_h5_info info;
    assert_int_equal(ptq_h5_read_f64(f->h, name, &f->arena, &x, &info, &f->st), PTQ_OK);
    assert_int_equal(info.n, n);
    return x;
}

static void reads_floats_of_h5py(void **state)
{
    struct fixture *f = *state;
    open_vectors(f);
    /* By the definition of IEEE half; the script lists the same values. */
    const float half[] = {0x1p-24f, -1023 * 0x1p-24f, 0x1p-14f, 65504.0f, 1 + 0x1p-10f, -0.0f};
    assert_memory_equal(f32(f, "/f/f16", 6), half, sizeof half);
    assert_memory_equal(f32(f, "/f/f16be", 6), half, sizeof half);
    for (int i = 0; i < 6; i++)
        assert_true(f64(f, "/f/f16", 6)[i] == half[i]);
    const float bf[] = {1.0f, -3.140625f, 0x1p-133f, INFINITY};
    assert_memory_equal(f32(f, "/f/bf16", 4), bf, sizeof bf);
    assert_true(f64(f, "/f/bf16", 4)[2] == 0x1p-133);
    float *x = f32(f, "/f/f32", 6), *be = f32(f, "/f/f32be", 6), *d = f32(f, "/f/f64", 6);
    float *soft = f32(f, "/f/soft", 6);
    for (int i = 0; i < 6; i++) {
        float want = (float)(i / 7.0);
        assert_true(x[i] == want && be[i] == want && d[i] == want && soft[i] == want);
        assert_true(f64(f, "/f/f64", 6)[i] == i / 7.0);
    }
    double *z = f64(f, "/f/gzip", 100 * 120); /* the 2 x 3 matrix, tiled */
    for (int i = 0; i < 100 * 120; i++)
        assert_true(z[i] == (i / 120 % 2 * 3 + i % 3) / 7.0);
    x = f32(f, "/f/f16_inf_nan", 3);
    assert_true(x[0] == INFINITY && x[1] == -INFINITY && isnan(x[2]));
    assert_true(f32(f, "/f/scalar", 1)[0] == 2.5f);
    f32(f, "/f/empty", 0);
}

static void reports_types_and_shapes(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *name;
        enum ptq_h5_type type;
    } want[] = {
        {"/f/f16", PTQ_H5_F16},      {"/f/f16be", PTQ_H5_F16}, {"/f/bf16", PTQ_H5_BF16},
        {"/f/f32", PTQ_H5_F32},      {"/f/f64", PTQ_H5_F64},   {"/i/u1", PTQ_H5_U8},
        {"/i/u2", PTQ_H5_U16},       {"/i/i4", PTQ_H5_I32},    {"/i/i8", PTQ_H5_I64},
        {"/bad/text", PTQ_H5_TEXT},  {"/i/u4", PTQ_H5_OTHER},  {"/bad/complex", PTQ_H5_OTHER},
        {"/bad/bool", PTQ_H5_OTHER}, {"/i/i1", PTQ_H5_OTHER}};
    struct ptq_h5_info info;
    open_vectors(f);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        assert_int_equal(ptq_h5_info(f->h, want[i].name, &info, &f->st), PTQ_OK);
        assert_int_equal(info.type, want[i].type);
    }
    assert_int_equal(ptq_h5_info(f->h, "/f/f64", &info, &f->st), PTQ_OK);
    assert_int_equal(info.rank, 2);
    assert_int_equal(info.dim[0], 2);
    assert_int_equal(info.dim[1], 3);
}

static void reads_integers_of_h5py(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *name;
        int64_t max;
    } t[] = {{"/i/u1", 255},   {"/i/u2", 65535},     {"/i/u4", UINT32_MAX}, {"/i/i1", 127},
             {"/i/i2", 32767}, {"/i/i4", INT32_MAX}, {"/i/i8", INT64_MAX},  {"/i/u8", -1}};
    int64_t *v;
    uint8_t *b;
    open_vectors(f);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        int64_t want = t[i].max < 0 ? INT64_MAX : t[i].max / 2; /* (2^64 - 1) / 2 = 2^63 - 1 */
        assert_int_equal(ptq_h5_read_i64(f->h, t[i].name, &f->arena, &v, NULL, &f->st), PTQ_OK);
        assert_true(v[0] == 0 && v[1] == 1 && v[2] == want);
    }
    assert_int_equal(ptq_h5_read_i64(f->h, "/i/neg", &f->arena, &v, NULL, &f->st), PTQ_OK);
    assert_true(v[0] == -1 && v[1] == -128);
    assert_int_equal(ptq_h5_read_u8(f->h, "/i/u1", &f->arena, &b, NULL, &f->st), PTQ_OK);
    assert_true(b[0] == 0 && b[1] == 1 && b[2] == 127);
}

static void reads_attributes_of_h5py(void **state)
{
    struct fixture *f = *state;
    static const char *const text[][2] = {
        {"str", "llama"}, {"utf8", "\xc3\xa9"}, {"empty", ""}, {"fixed", "half"}};
    static const struct {
        const char *name;
        int64_t v;
    } ints[] = {{"int", 42}, {"np32", -3}, {"bool", 1}, {"array1", 7}};
    open_vectors(f);
    for (size_t i = 0; i < 4; i++) {
        char *s;
        int64_t v = 0;
        assert_int_equal(ptq_h5_get_text(f->h, "/a", text[i][0], &f->arena, &s, &f->st), PTQ_OK);
        assert_string_equal(s, text[i][1]);
        assert_int_equal(ptq_h5_get_i64(f->h, "/a", ints[i].name, &v, &f->st), PTQ_OK);
        assert_int_equal(v, ints[i].v);
    }
    double d;
    assert_int_equal(ptq_h5_get_f64(f->h, "/a", "float", &d, &f->st), PTQ_OK);
    assert_true(d == 1e-5);
    assert_int_equal(ptq_h5_get_f64(f->h, "/a", "f4", &d, &f->st), PTQ_OK);
    assert_true(d == 0.5);
    assert_int_equal(ptq_h5_get_f64(f->h, "/a", "int", &d, &f->st), PTQ_OK);
    assert_true(d == 42);
}

static void attributes_absent_or_of_another_type(void **state)
{
    struct fixture *f = *state;
    int64_t v = 5;
    char *s = NULL;
    open_vectors(f);
    assert_int_equal(ptq_h5_get_i64(f->h, "/a", "nothing", &v, &f->st), PTQ_SKIP);
    assert_int_equal(ptq_h5_get_i64(f->h, "/none", "nothing", &v, &f->st), PTQ_SKIP);
    assert_int_equal(f->st.code, PTQ_OK);
    static const char *const not_int[] = {"str", "float", "u64", "list"};
    for (size_t i = 0; i < 4; i++) {
        ptq_status_clear(&f->st);
        assert_int_equal(ptq_h5_get_i64(f->h, "/a", not_int[i], &v, &f->st), PTQ_ERR_USAGE);
        assert_non_null(strstr(f->st.text, not_int[i]));
    }
    assert_int_equal(v, 5);
    ptq_status_clear(&f->st);
    assert_int_equal(ptq_h5_get_text(f->h, "/a", "int", &f->arena, &s, &f->st), PTQ_ERR_USAGE);
    assert_null(s);
}

/* Every hostile or unsuitable dataset: refused with file, object and a word of the reason, and
 * without taking memory for it. */
static void refuses_bad_datasets(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[][2] = {{"/bad/rank5", "dimensions"},
                                         {"/bad/text", "floating"},
                                         {"/bad/bool", "floating"},
                                         {"/bad/complex", "floating"},
                                         {"/bad/never_written", "claims"},
                                         {"/bad/bomb", "claims"},
                                         {"/bad/outside", "another file"},
                                         {"/bad/virtual", "another file"},
                                         {"/bad/external", "link"},
                                         {"/bad/external/y", "link"},
                                         {"/bad/soft_external", "link"},
                                         {"/bad/dangling", "link"},
                                         {"/i/u2", "floating"},
                                         {"/a", "not a dataset"},
                                         {"/f/absent", "absent"},
                                         {"/f/f32/below", "absent"}};
    open_vectors(f);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        float *x = NULL;
        ptq_status_clear(&f->st);
        assert_int_equal(ptq_h5_read_f32(f->h, bad[i][0], &f->arena, &x, NULL, &f->st),
                         PTQ_ERR_USAGE);
        assert_null(x);
        assert_non_null(strstr(f->st.text, VECTORS));
        assert_non_null(strstr(f->st.text, bad[i][0]));
        assert_non_null(strstr(f->st.text, bad[i][1]));
    }
    assert_true(f->arena.peak_bytes < 1 << 20);
    int64_t *v = NULL;
    uint8_t *b = NULL;
    ptq_status_clear(&f->st);
    assert_int_equal(ptq_h5_read_i64(f->h, "/i/over", &f->arena, &v, NULL, &f->st), PTQ_ERR_USAGE);
    assert_non_null(strstr(f->st.text, "2^63"));
    assert_int_equal(ptq_h5_read_i64(f->h, "/f/bf16", &f->arena, &v, NULL, NULL), PTQ_ERR_USAGE);
    assert_int_equal(ptq_h5_read_u8(f->h, "/i/u2", &f->arena, &b, NULL, NULL), PTQ_ERR_USAGE);
}

static void lists_and_finds(void **state)
{
    struct fixture *f = *state;
    char **names;
    int64_t n;
    open_vectors(f);
    assert_int_equal(ptq_h5_list(f->h, "/i", &f->arena, &names, &n, &f->st), PTQ_OK);
    static const char *const want[] = {"i1",   "i2", "i4", "i8", "neg",
                                       "over", "u1", "u2", "u4", "u8"};
    assert_int_equal(n, 10);
    for (int i = 0; i < 10; i++)
        assert_string_equal(names[i], want[i]);
    assert_int_equal(ptq_h5_list(f->h, "/", &f->arena, &names, &n, &f->st), PTQ_OK);
    assert_int_equal(n, 4);
    assert_true(ptq_h5_exists(f->h, "/") && ptq_h5_exists(f->h, "/f") &&
                ptq_h5_exists(f->h, "/f/f32"));
    assert_false(ptq_h5_exists(f->h, "/f/nope") || ptq_h5_exists(f->h, "/no/no/no") ||
                 ptq_h5_exists(f->h, "/f/f32/x") || ptq_h5_exists(f->h, "/bad/external"));
    assert_int_equal(ptq_h5_list(f->h, "/f/f32", &f->arena, &names, &n, &f->st), PTQ_ERR_USAGE);
}

static const float sample[6] = {1.0f, -0.1f, 70000.0f, 0x1p-25f, 1 + 3 * 0x1p-11f, 1 + 0x1p-11f};

static void write_all_types(struct fixture *f)
{
    const int64_t dim[2] = {2, 3};
    const double d[6] = {0.1, -2, 3, 4, 5, 6};
    const uint8_t u8[6] = {0, 1, 2, 253, 254, 255};
    const uint16_t u16[6] = {0, 1, 2, 3, 4, 65535};
    const int32_t i32[6] = {INT32_MIN, -1, 0, 1, 2, INT32_MAX};
    const int64_t i64[6] = {INT64_MIN, -1, 0, 1, 2, INT64_MAX};
    const struct {
        const char *name;
        enum ptq_h5_type type;
        const void *data;
    } w[] = {{"/x/y/f16", PTQ_H5_F16, sample}, {"/x/y/bf16", PTQ_H5_BF16, sample},
             {"/x/f32", PTQ_H5_F32, sample},   {"/x/f64", PTQ_H5_F64, d},
             {"/u8", PTQ_H5_U8, u8},           {"/u16", PTQ_H5_U16, u16},
             {"/i32", PTQ_H5_I32, i32},        {"/i64", PTQ_H5_I64, i64}};
    assert_int_equal(ptq_h5_open(&f->h, f->path, PTQ_H5_CREATE, &f->st), PTQ_OK);
    for (size_t i = 0; i < sizeof w / sizeof *w; i++)
        assert_int_equal(ptq_h5_write(f->h, w[i].name, w[i].type, 2, dim, w[i].data, &f->st),
                         PTQ_OK);
    assert_int_equal(ptq_h5_set_text(f->h, "/x", "text", "a \xc3\xa9", &f->st), PTQ_OK);
    assert_int_equal(ptq_h5_set_f64(f->h, "/x/f32", "real", 0.1, &f->st), PTQ_OK);
    assert_int_equal(ptq_h5_set_i64(f->h, "/", "schema", 2, &f->st), PTQ_OK);
    assert_int_equal(ptq_h5_set_i64(f->h, "/", "schema", 1, &f->st), PTQ_OK);
    assert_int_equal(ptq_h5_set_i64(f->h, "/new/group", "n", -7, &f->st), PTQ_OK);
    assert_int_equal(ptq_h5_close(f->h, &f->st), PTQ_OK);
    f->h = NULL;
}

static void round_trip(void **state)
{
    struct fixture *f = *state;
    write_all_types(f);
    assert_int_equal(ptq_h5_open(&f->h, f->path, PTQ_H5_READ, &f->st), PTQ_OK);
    /* Rounded to even by hand: 70000 > 65520 overflows; 2^-25 is half the least subnormal; 1 + 3 *
     * 2^-11 is halfway between 1 + 2 * 2^-11 and 1 + 4 * 2^-11, whose mantissas are 1 and 2. -0.1
     * in half is -0x1.998p-4, in bfloat16 -0x1.9ap-4. */
    const float half[6] = {1, -0x1.998p-4f, INFINITY, 0, 1 + 0x1p-9f, 1};
    const float bf[6] = {1, -0x1.9ap-4f, 0x1.12p16f, 0x1p-25f, 1, 1};
    assert_memory_equal(f32(f, "/x/y/f16", 6), half, sizeof half);
    assert_memory_equal(f32(f, "/x/y/bf16", 6), bf, sizeof bf);
    assert_memory_equal(f32(f, "/x/f32", 6), sample, sizeof sample);
    assert_true(f64(f, "/x/f64", 6)[0] == 0.1);
    struct ptq_h5_info info;
    int64_t *v;
    uint8_t *b;
    assert_int_equal(ptq_h5_info(f->h, "/x/y/bf16", &info, &f->st), PTQ_OK);
    assert_int_equal(info.type, PTQ_H5_BF16);
    assert_int_equal(ptq_h5_read_i64(f->h, "/i64", &f->arena, &v, &info, &f->st), PTQ_OK);
    assert_true(v[0] == INT64_MIN && v[5] == INT64_MAX && info.type == PTQ_H5_I64);
    assert_int_equal(ptq_h5_read_i64(f->h, "/i32", &f->arena, &v, &info, &f->st), PTQ_OK);
    assert_true(v[0] == INT32_MIN && info.type == PTQ_H5_I32);
    assert_int_equal(ptq_h5_read_i64(f->h, "/u16", &f->arena, &v, &info, &f->st), PTQ_OK);
    assert_true(v[5] == 65535 && info.type == PTQ_H5_U16);
    assert_int_equal(ptq_h5_read_u8(f->h, "/u8", &f->arena, &b, &info, &f->st), PTQ_OK);
    assert_true(b[3] == 253 && info.rank == 2 && info.dim[1] == 3);
    char *s;
    double d;
    int64_t n;
    assert_int_equal(ptq_h5_get_text(f->h, "/x", "text", &f->arena, &s, &f->st), PTQ_OK);
    assert_string_equal(s, "a \xc3\xa9");
    assert_int_equal(ptq_h5_get_f64(f->h, "/x/f32", "real", &d, &f->st), PTQ_OK);
    assert_true(d == 0.1);
    assert_int_equal(ptq_h5_get_i64(f->h, "/", "schema", &n, &f->st), PTQ_OK);
    assert_int_equal(n, 1);
    assert_int_equal(ptq_h5_get_i64(f->h, "/new/group", "n", &n, &f->st), PTQ_OK);
    assert_int_equal(n, -7);
    assert_int_equal(ptq_h5_write(f->h, "/z", PTQ_H5_U8, 0, NULL, b, &f->st), PTQ_ERR_USAGE);
}

static void same_contents_same_file(void **state)
{
    struct fixture *f = *state;
    char a[33], b[33];
    write_all_types(f);
    assert_int_equal(ptq_file_key(f->path, a, &f->st), PTQ_OK);
    sleep(1); /* a time stamp of one second would differ */
    write_all_types(f);
    assert_int_equal(ptq_file_key(f->path, b, &f->st), PTQ_OK);
    assert_string_equal(a, b);
}

static void append_replaces_and_keeps(void **state)
{
    struct fixture *f = *state;
    const int64_t dim[1] = {3};
    const float a[3] = {7, 8, 9};
    write_all_types(f);
    assert_int_equal(ptq_h5_open(&f->h, f->path, PTQ_H5_APPEND, &f->st), PTQ_OK);
    assert_int_equal(ptq_h5_write(f->h, "/x/f32", PTQ_H5_F32, 1, dim, a, &f->st), PTQ_OK);
    assert_memory_equal(f32(f, "/x/f32", 3), a, sizeof a);
    assert_int_equal(ptq_h5_close(f->h, &f->st), PTQ_OK);
    assert_int_equal(ptq_h5_open(&f->h, f->path, PTQ_H5_READ, &f->st), PTQ_OK);
    assert_memory_equal(f32(f, "/x/f32", 3), a, sizeof a);
    f64(f, "/x/f64", 6);
    int64_t n;
    assert_int_equal(ptq_h5_get_i64(f->h, "/x/f32", "real", &n, &f->st),
                     PTQ_SKIP); /* gone with it */
}

static void expect_open_fails(struct fixture *f, const char *path, enum ptq_h5_mode mode, int code)
{
    ptq_status_clear(&f->st);
    f->h = NULL;
    assert_int_equal(ptq_h5_open(&f->h, path, mode, &f->st), code);
    assert_null(f->h);
    assert_non_null(strstr(f->st.text, path));
}

static void truncated_anywhere_is_a_message(void **state)
{
    struct fixture *f = *state;
    write_all_types(f);
    struct stat s;
    assert_int_equal(stat(f->path, &s), 0);
    for (off_t n = s.st_size - 1; n > 0; n -= 61) {
        assert_int_equal(truncate(f->path, n), 0);
        expect_open_fails(f, f->path, PTQ_H5_READ, PTQ_ERR_USAGE);
    }
    assert_int_equal(truncate(f->path, 0), 0);
    expect_open_fails(f, f->path, PTQ_H5_READ, PTQ_ERR_USAGE);
}

static void refuses_what_is_no_file(void **state)
{
    struct fixture *f = *state;
    char sub[400];
    expect_open_fails(f, f->path, PTQ_H5_READ, PTQ_ERR_USAGE); /* absent */
    expect_open_fails(f, f->dir, PTQ_H5_READ, PTQ_ERR_USAGE);
    expect_open_fails(f, f->dir, PTQ_H5_CREATE, PTQ_ERR_USAGE);
    snprintf(sub, sizeof sub, "%s/none/t.h5", f->dir);
    expect_open_fails(f, sub, PTQ_H5_CREATE, PTQ_ERR_IO);
    expect_open_fails(f, "tests/vectors/h5py_types.py", PTQ_H5_READ, PTQ_ERR_USAGE);
    assert_int_equal(mkfifo(f->path, 0600), 0);
    expect_open_fails(f, f->path, PTQ_H5_READ, PTQ_ERR_USAGE); /* and does not wait for a writer */
}

/* A killed process leaves a file that opens and holds what was written before. */
static void kill_after_write_keeps_it(void **state)
{
    struct fixture *f = *state;
    const int64_t dim[1] = {3};
    const float x[3] = {7, 8, 9};
    write_all_types(f);
    pid_t pid = fork();
    if (pid == 0) {
        int rc = ptq_h5_open(&f->h, f->path, PTQ_H5_APPEND, &f->st);
        for (int i = 0; i < 50 && rc == PTQ_OK; i++) {
            char name[32];
            snprintf(name, sizeof name, "/later/%d/x", i);
            rc = ptq_h5_write(f->h, name, PTQ_H5_F32, 1, dim, x, &f->st);
        }
        _exit(rc == PTQ_OK ? 0 : 1); /* not closed */
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(ptq_h5_open(&f->h, f->path, PTQ_H5_READ, &f->st), PTQ_OK);
    assert_memory_equal(f32(f, "/x/f32", 6), sample, sizeof sample);
    assert_memory_equal(f32(f, "/later/49/x", 3), x, sizeof x);
}

/* In a child: the file may not grow over 64 KiB, which fails like a full disk. Exit status 0: the
 * failure was reported by a write or by the close, with the file's name, and another file can still
 * be written. */
static int write_until_full(struct fixture *f, int64_t n_each, bool space_again)
{
    const int64_t dim[1] = {n_each};
    float *x = calloc((size_t)n_each, sizeof *x);
    int rc = ptq_h5_open(&f->h, f->path, PTQ_H5_CREATE, &f->st);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit l = {65536, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &l);
    for (int i = 0; i < 400 && rc == PTQ_OK; i++) {
        char name[32];
        snprintf(name, sizeof name, "/g%d/x", i);
        rc = ptq_h5_write(f->h, name, PTQ_H5_F32, 1, dim, x, &f->st);
    }
    if (space_again) { /* what failed stays failed: the close must not report success */
        l.rlim_cur = RLIM_INFINITY;
        setrlimit(RLIMIT_FSIZE, &l);
    }
    int end = ptq_h5_close(f->h, rc == PTQ_OK ? &f->st : NULL);
    free(x);
    char other[320];
    snprintf(other, sizeof other, "%s2", f->path);
    struct ptq_status st = {0};
    int again = ptq_h5_open(&f->h, other, PTQ_H5_CREATE, &st);
    again = again == PTQ_OK ? ptq_h5_close(f->h, &st) : again;
    unlink(other);
    return f->st.code == PTQ_ERR_IO && end == PTQ_ERR_IO && again == PTQ_OK &&
                   strstr(f->st.text, f->path)
               ? 0
               : 1;
}

static void full_disk_is_reported(void **state)
{
    struct fixture *f = *state;
    static const int64_t sizes[] = {100000, 3000, 10, 1}; /* data or metadata hit the limit first */
    for (size_t i = 0; i < 2 * sizeof sizes / sizeof *sizes; i++) {
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0)
            exit(write_until_full(f, sizes[i / 2],
                                  i % 2)); /* exit, not _exit: the library's exit handler runs */
        int status = -1;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

static void *read_often(void *arg)
{
    struct ptq_h5 *h = arg;
    struct ptq_arena a;
    struct ptq_status st = {0};
    float *x;
    char *s;
    intptr_t bad = 0;
    ptq_arena_init(&a, 0);
    for (int i = 0; i < 200; i++) {
        bad += ptq_h5_read_f32(h, "/f/gzip", &a, &x, NULL, &st) != PTQ_OK ||
               x[121] != (float)(4 / 7.0);
        bad += ptq_h5_get_text(h, "/a", "str", &a, &s, &st) != PTQ_OK || strcmp(s, "llama") != 0;
        ptq_arena_clear(&a);
    }
    return (void *)bad;
}

static void threads_share_the_library(void **state)
{
    struct fixture *f = *state;
    pthread_t t[4];
    open_vectors(f);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, read_often, f->h), 0);
    for (int i = 0; i < 4; i++) {
        void *bad;
        pthread_join(t[i], &bad);
        assert_null(bad);
    }
}

static void file_key_is_plain_xxh128(void **state)
{
    struct fixture *f = *state;
    char key[33];
    FILE *out = fopen(f->path, "wb");
    fputs("abc", out);
    fclose(out);
    assert_int_equal(ptq_file_key(f->path, key, &f->st), PTQ_OK);
    /* `printf abc | xxh128sum`: the published digest of "abc" by XXH3-128, seed 0. */
    assert_string_equal(key, "06b05ab6733a618578af5f94892f3950");
    assert_int_equal(ptq_file_key(f->dir, key, &f->st), PTQ_ERR_USAGE);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(reads_floats_of_h5py),
        T(reports_types_and_shapes),
        T(reads_integers_of_h5py),
        T(reads_attributes_of_h5py),
        T(attributes_absent_or_of_another_type),
        T(refuses_bad_datasets),
        T(lists_and_finds),
        T(round_trip),
        T(same_contents_same_file),
        T(append_replaces_and_keeps),
        T(truncated_anywhere_is_a_message),
        T(refuses_what_is_no_file),
        T(kill_after_write_keeps_it),
        T(full_disk_is_reported),
        T(threads_share_the_library),
        T(file_key_is_plain_xxh128),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
