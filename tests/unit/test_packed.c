/* Matrices as other programs pack them: files of those programs (tests/vectors/make_packed.py:
 * auto-gptq 0.7.1, autoawq 0.2.9, compressed-tensors 0.20.0) of codes that are computed again here,
 * and files that must be refused. */
#include "testlib.h"
#include "datasets/packed.h"
#include "datasets/safetensors.h"
#include <sys/stat.h>

enum { ROWS = 32, COLS = 64, GROUP = 16, N_GROUPS = COLS / GROUP };

/* ---- known codes: the formulas of make_packed.py */

static int known_code(int64_t i, int64_t j, int bits)
{
    return (int)((37 * i + 11 * j + i * j) % (1 << bits));
}

static int known_zero(int64_t i, int64_t g, int bits, bool sym)
{
    return sym ? 1 << (bits - 1) : (int)(1 + (5 * i + 3 * g) % ((1 << bits) - 1));
}

static float known_scale(int64_t i, int64_t g)
{
    return (float)(1 + (5 * i + 3 * g) % 17) / 64;
}

struct known {
    const char *folder, *base, *layout;
    int bits;
    bool sym, order;
};

static void check_known(const struct known *k)
{
    char path[200];
    struct ptq_tensors *t;
    struct ptq_arena a;
    struct ptq_packed_matrix m;
    struct ptq_status st = {0};
    ptq_arena_init(&a, 0);
    snprintf(path, sizeof path, "tests/vectors/packed/%s", k->folder);
    assert_ok(ptq_tensors_open(&t, path, &st), &st);
    assert_true(ptq_packed_has_any(t));
    assert_ok(ptq_packed_matrix_read(t, k->base, COLS, &a, &m, &st), &st);
    assert_string_equal(m.layout, k->layout);
    assert_int_equal(m.bits, k->bits);
    assert_int_equal(m.rows, ROWS);
    assert_int_equal(m.cols, COLS);
    assert_int_equal(m.n_groups, N_GROUPS);
    assert_int_equal(m.stored_groups, k->order);
    assert_int_equal(m.zero == NULL, k->sym);
    for (int64_t i = 0; i < ROWS; i++)
        for (int64_t j = 0; j < COLS; j++) {
            const int64_t g = k->order ? j % 4 : j / GROUP;
            assert_int_equal(m.group_of[j], g);
            assert_int_equal(m.codes[i * COLS + j], known_code(i, j, k->bits));
            assert_true(m.scale[i * N_GROUPS + g] == known_scale(i, g));
            if (m.zero)
                assert_int_equal(m.zero[i * N_GROUPS + g], known_zero(i, g, k->bits, false));
        }
    ptq_arena_clear(&a);
    ptq_tensors_close(t);
}

static void test_layouts(void **state)
{
    static const struct known all[] = {
        {"layouts", "gptq2", "gptq", 2, false, false},
        {"layouts", "gptq3", "gptq", 3, false, false},
        {"layouts", "gptq4", "gptq", 4, false, false},
        {"layouts", "gptq8", "gptq", 8, false, false},
        {"layouts", "gptq_order", "gptq", 4, false, true},
        {"layouts_v2", "gptq_v2", "gptq_v2", 4, false, false},
        {"layouts", "awq", "awq", 4, false, false},
        {"layouts", "compressed3", "compressed-tensors", 3, false, false},
        {"layouts", "compressed4", "compressed-tensors", 4, false, false},
        {"layouts", "compressed8", "compressed-tensors", 8, false, false},
        {"layouts", "compressed_sym", "compressed-tensors", 4, true, false}};
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        check_known(&all[i]);
}

/* By hand: 8 rows of 4 groups of 16 columns at 4 bits are 4 bits a weight, and a group 16 bits of
 * scale and 4 of zero. */
static void test_file_bits(void **state)
{
    struct ptq_tensors *t;
    struct ptq_arena a;
    struct ptq_packed_matrix m;
    struct ptq_status st = {0};
    (void)state;
    ptq_arena_init(&a, 0);
    assert_ok(ptq_tensors_open(&t, "tests/vectors/packed/layouts", &st), &st);
    assert_ok(ptq_packed_matrix_read(t, "awq", COLS, &a, &m, &st), &st);
    assert_int_equal(m.file_bits, ROWS * COLS * 4 + ROWS * N_GROUPS * (16 + 4));
    assert_ok(ptq_packed_matrix_read(t, "gptq4", COLS, &a, &m, &st), &st);
    assert_int_equal(m.file_bits, ROWS * COLS * 4 + ROWS * N_GROUPS * (16 + 4) + COLS * 32);
    assert_int_equal(ptq_packed_matrix_read(t, "absent", COLS, &a, &m, &st), PTQ_SKIP);
    ptq_arena_clear(&a);
    ptq_tensors_close(t);
}

/* ---- files that must be refused */

struct tensor {
    const char *name, *type;
    int width;
    int rank;
    int64_t dim[2];
};

/* A safetensors file of these tensors, all bytes `fill`. */
static void put_file(const char *path, const struct tensor *t, int n, unsigned char fill)
{
    char header[4000] = "{";
    int64_t at = 0;
    for (int i = 0; i < n; i++) {
        const int64_t bytes = t[i].width * t[i].dim[0] * (t[i].rank > 1 ? t[i].dim[1] : 1);
        char shape[60];
        snprintf(shape, sizeof shape, t[i].rank > 1 ? "%lld,%lld" : "%lld", (long long)t[i].dim[0],
                 (long long)t[i].dim[1]);
        snprintf(header + strlen(header), sizeof header - strlen(header),
                 "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%lld,%lld]}",
                 i ? "," : "", t[i].name, t[i].type, shape, (long long)at, (long long)(at + bytes));
        at += bytes;
    }
    strcat(header, "}");
    uint64_t length = strlen(header);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(&length, 8, 1, f);
    fwrite(header, 1, length, f);
    for (int64_t i = 0; i < at; i++)
        fputc(fill, f);
    assert_int_equal(fclose(f), 0);
}

static void refused(const struct tensor *t, int n, unsigned char fill, const char *reason)
{
    char folder[TEST_PATH], path[TEST_PATH];
    struct ptq_tensors *file;
    struct ptq_arena a;
    struct ptq_packed_matrix m;
    struct ptq_status st = {0};
    ptq_arena_init(&a, 0);
    test_tmpdir(folder);
    test_path(folder, "m.safetensors", path);
    put_file(path, t, n, fill);
    assert_ok(ptq_tensors_open(&file, path, &st), &st);
    assert_int_equal(ptq_packed_matrix_read(file, "x", 64, &a, &m, &st), PTQ_ERR_USAGE);
    if (!strstr(st.text, reason))
        fail_msg("'%s' says nothing of '%s'", st.text, reason);
    ptq_tensors_close(file);
    ptq_arena_clear(&a);
    test_rmdir(folder);
}

static void test_refused(void **state)
{
    const struct tensor codes = {"x.qweight", "I32", 4, 2, {8, 32}},
                        zeros = {"x.qzeros", "I32", 4, 2, {4, 4}},
                        scales = {"x.scales", "F16", 2, 2, {4, 32}},
                        groups = {"x.g_idx", "I32", 4, 1, {64}};
    (void)state;
    struct tensor all[4] = {codes, scales, zeros, groups};
    refused(all, 1, 0, "is missing");
    refused(all, 2, 0, "qzeros");
    all[0].dim[0] = 7; /* 3.5 bits */
    refused(all, 4, 0, "no codes of 1..8 bits");
    all[0] = codes;
    all[1].dim[1] = 31;
    refused(all, 4, 0, "is not 4 x 32");
    all[1] = scales;
    all[2].dim[0] = 3;
    refused(all, 4, 0, "is not 4 x 4, as the 4 bits of qweight (by its shape) want it");
    all[2] = zeros;
    all[3].dim[0] = 63;
    refused(all, 4, 0, "one group a column");
    all[3] = groups;
    refused(all, 4, 1, "beyond those that have scales"); /* group 16843009 */
    all[0].type = "F32";
    refused(all, 4, 0, "32-bit integers");
    const struct tensor packed[4] = {{"x.weight_packed", "I32", 4, 2, {32, 8}},
                                     {"x.weight_scale", "F16", 2, 2, {32, 4}},
                                     {"x.weight_shape", "I64", 8, 1, {2}},
                                     {"x.weight_zero_point", "I32", 4, 2, {4, 4}}};
    refused(packed, 2, 0, "weight_shape");
    refused(packed, 4, 0, "not the layer's shape");
    refused(packed, 4, 0x40, "not the layer's shape"); /* 4.6e18 rows */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layouts),
                                       cmocka_unit_test(test_file_bits),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
