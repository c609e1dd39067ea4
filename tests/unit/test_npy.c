/* .npy files as NumPy saves them (tests/vectors/npy.py), and headers that must be refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "datasets/npy.h"

#define VECTORS "tests/vectors/npy/"

struct fixture {
    char path[300];
    struct ptq_arena arena;
    struct ptq_status st;
    struct ptq_npy_info info;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const char *tmp = getenv("TMPDIR");
    snprintf(f->path, sizeof f->path, "%s/ptq_npy_XXXXXX", tmp ? tmp : P_tmpdir);
    int fd = mkstemp(f->path);
    ptq_arena_init(&f->arena, 0);
    *state = f;
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    ptq_arena_clear(&f->arena);
    unlink(f->path);
    free(f);
    return 0;
}

static void floats_of_numpy(void **state)
{
    struct fixture *f = *state;
    double *d;
    float *s;
    assert_int_equal(ptq_npy_read_f64(VECTORS "f8.npy", &f->arena, &d, &f->info, &f->st), PTQ_OK);
    assert_true(f->info.kind == 'f' && f->info.width == 8 && f->info.rank == 2 && f->info.n == 6);
    assert_true(f->info.dim[0] == 2 && f->info.dim[1] == 3);
    for (int i = 0; i < 6; i++)
        assert_true(d[i] == i / 7.0);
    assert_int_equal(ptq_npy_read_f32(VECTORS "f8.npy", &f->arena, &s, &f->info, &f->st), PTQ_OK);
    for (int i = 0; i < 6; i++)
        assert_true(s[i] == (float)(i / 7.0));
    assert_int_equal(ptq_npy_read_f64(VECTORS "f4.npy", &f->arena, &d, &f->info, &f->st), PTQ_OK);
    for (int i = 0; i < 6; i++)
        assert_true(d[i] == (float)(i / 7.0));
    assert_int_equal(ptq_npy_read_f32(VECTORS "f2.npy", &f->arena, &s, &f->info, &f->st), PTQ_OK);
    assert_true(s[1] == 0x1.248p-3f); /* 1/7 in IEEE half: mantissa 0010010010|01.. rounds down */
    assert_int_equal(ptq_npy_read_f32(VECTORS "empty.npy", &f->arena, &s, &f->info, &f->st),
                     PTQ_OK);
    assert_true(f->info.n == 0 && f->info.dim[1] == 3);
}

static void integers_of_numpy(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *file;
        int64_t min, max;
    } t[] = {{"i1", INT8_MIN, INT8_MAX},   {"u1", 0, UINT8_MAX},
             {"i2", INT16_MIN, INT16_MAX}, {"u2", 0, UINT16_MAX},
             {"i4", INT32_MIN, INT32_MAX}, {"u4", 0, UINT32_MAX},
             {"i8", INT64_MIN, INT64_MAX}, {"u8", 0, INT64_MAX /* UINT64_MAX / 2 */}};
    int64_t *v;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char path[64];
        snprintf(path, sizeof path, VECTORS "%s.npy", t[i].file);
        assert_int_equal(ptq_npy_read_i64(path, &f->arena, &v, &f->info, &f->st), PTQ_OK);
        assert_true(f->info.rank == 1 && f->info.n == 3);
        assert_true(v[0] == t[i].min && v[1] == 1 && v[2] == t[i].max);
    }
    assert_int_equal(ptq_npy_read_i64(VECTORS "rank3.npy", &f->arena, &v, &f->info, &f->st),
                     PTQ_OK);
    assert_true(f->info.rank == 3 && f->info.dim[2] == 4 && v[23] == 23);
    assert_int_equal(ptq_npy_read_i64(VECTORS "version2.npy", &f->arena, &v, &f->info, &f->st),
                     PTQ_OK);
    assert_true(f->info.rank == 2 && v[5] == 5);
}

static void refuses(struct fixture *f, const char *path, bool integers)
{
    int64_t *v = NULL;
    float *s = NULL;
    ptq_status_clear(&f->st);
    int rc = integers ? ptq_npy_read_i64(path, &f->arena, &v, &f->info, &f->st)
                      : ptq_npy_read_f32(path, &f->arena, &s, &f->info, &f->st);
    if (rc != PTQ_ERR_USAGE)
        print_error("%s was read\n", path);
    assert_int_equal(rc, PTQ_ERR_USAGE);
    assert_non_null(strstr(f->st.text, path));
    assert_true(!v && !s);
}

static void other_arrays_are_refused(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {"bad_fortran", "bad_big_endian", "bad_scalar",
                                      "bad_rank4",   "bad_complex",    "bad_text",
                                      "bad_object",  "absent",         "i4"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char path[64];
        snprintf(path, sizeof path, VECTORS "%s.npy", bad[i]);
        refuses(f, path, false);
    }
    refuses(f, VECTORS "bad_over.npy", true);
    refuses(f, VECTORS "f4.npy", true);
    refuses(f, VECTORS, true);
}

/* Writes a version 1 file of that header and n_data zero bytes. */
static void put(const char *path, const char *header, size_t header_bytes, size_t n_data)
{
    FILE *f = fopen(path, "wb");
    unsigned char head[10] = {0x93,
                              'N',
                              'U',
                              'M',
                              'P',
                              'Y',
                              1,
                              0,
                              (unsigned char)header_bytes,
                              (unsigned char)(header_bytes >> 8)};
    fwrite(head, 1, sizeof head, f);
    fwrite(header, 1, strlen(header), f);
    for (size_t i = 0; i < n_data; i++)
        fputc(0, f);
    assert_int_equal(fclose(f), 0);
}

static void hostile_headers_are_refused(void **state)
{
    struct fixture *f = *state;
    static const char good[] = "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }\n";
    static const char *const bad[] = {"{'descr': '<i4', 'shape': (2,)}",
                                      "{'fortran_order': False, 'shape': (2,)}",
                                      "",
                                      "{",
                                      "{'descr'",
                                      "{}",
                                      "{'descr': '<i4', 'fortran_order': False}",
                                      "{'descr': '<i4', 'fortran_order': False, 'shape': (2)}",
                                      "{'descr': '<i4', 'fortran_order': False, 'shape': (-2,)}",
                                      "{'descr': '<i4', 'fortran_order': False, 'shape': (2,",
                                      "{'descr': '<i4', 'fortran_order': False, 'shape': (2 1,)}",
                                      "{'descr': '<i4', 'fortran_order': False, 'shape': "
                                      "(4611686018427387904, 4)}",
                                      "{'descr': '<i4', 'fortran_order': False, 'shape': "
                                      "(99999999999999999999,)}",
                                      "{'descr': '<i4', 'fortran_order': False, 'shape': "
                                      "(18446744073709551618,)}", /* 2^64 + 2 */
                                      "{'descr': '<i4', 'fortran_order': False, 'shape': "
                                      "(4611686018427387906,)}", /* * 4 = 2^64 + 8 */
                                      "{'descr': '<i4', 'descr': '<i4', 'fortran_order': False, "
                                      "'shape': (2,)}",
                                      "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), "
                                      "'more': 1}",
                                      "{'descr': '<i4', 'fortran_order': False, 'shape': (2,)} x",
                                      "{'descr': '<i4' 'fortran_order': False, 'shape': (2,)}",
                                      "{'descr': '<i3', 'fortran_order': False, 'shape': (2,)}",
                                      "{'descr': '<i44', 'fortran_order': False, 'shape': (2,)}",
                                      "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': "
                                      "(2,)}"};
    int64_t *v;
    put(f->path, good, strlen(good), 8);
    assert_int_equal(ptq_npy_read_i64(f->path, &f->arena, &v, &f->info, &f->st), PTQ_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put(f->path, bad[i], strlen(bad[i]), 8);
        refuses(f, f->path, true);
    }
    put(f->path, good, strlen(good),
        7); /* a byte short, a byte long, header longer than the file */
    refuses(f, f->path, true);
    put(f->path, good, strlen(good), 9);
    refuses(f, f->path, true);
    put(f->path, good, 60000, 8);
    refuses(f, f->path, true);
    put(f->path, "{}", 2, 0);
    refuses(f, f->path, true);
}

/* Version 3 has the layout of 2 but text that we do not read; 0 and 1.1 do not exist. */
static void other_versions_are_refused(void **state)
{
    struct fixture *f = *state;
    static const char good[] = "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }\n";
    static const unsigned char version[][2] = {{0, 0}, {1, 1}, {2, 1}, {3, 0}, {255, 255}};
    for (size_t i = 0; i < sizeof version / sizeof *version; i++) {
        const unsigned char head[12] = {0x93,          'N',           'U',
                                        'M',           'P',           'Y',
                                        version[i][0], version[i][1], (unsigned char)strlen(good)};
        FILE *out = fopen(f->path, "wb");
        fwrite(head, 1, version[i][0] < 2 ? 10 : 12, out);
        fwrite(good, 1, strlen(good), out);
        fwrite("12345678", 1, 8, out);
        assert_int_equal(fclose(out), 0);
        refuses(f, f->path, true);
    }
}

static void every_truncation_is_refused(void **state)
{
    struct fixture *f = *state;
    static const char good[] = "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }\n";
    for (long n = 10 + (long)strlen(good) + 7; n >= 0; n--) {
        put(f->path, good, strlen(good), 8);
        assert_int_equal(truncate(f->path, n), 0);
        refuses(f, f->path, true);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(floats_of_numpy),
        T(integers_of_numpy),
        T(other_arrays_are_refused),
        T(hostile_headers_are_refused),
        T(other_versions_are_refused),
        T(every_truncation_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
