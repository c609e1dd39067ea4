/* llama2.c checkpoints: files of its own exporter (tests/vectors/llama2c.py), and damaged ones. */
#include "testlib.h"
#include "core/rng.h"
#include "datasets/tensors.h"

extern const struct ptq_file_format ptq_format_llama2c;

enum { DIM = 8, HIDDEN = 12, LAYERS = 2, HEADS = 2, KV = 1, VOCAB = 6, CONTEXT = 4 };
enum { N_TENSORS = 9 * LAYERS + 3, MOST = 1 << 13, VOCAB_FIELD = 5 };

static void load(const char *name, char **bytes, size_t *n)
{
    char path[TEST_PATH];
    struct ptq_status st = {0};
    test_path("tests/vectors/llama2c", name, path);
    assert_ok(ptq_read_file(path, MOST, bytes, n, &st), &st);
}

static void save(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* ---- what the exporter was given */

static const struct given {
    const char *name; /* in the order that numbers the streams of weights */
    bool per_layer;
    int64_t dim[2];
} given[] = {
    {"tok_embd", false, {VOCAB, DIM}},
    {"attn_norm", true, {DIM}},
    {"attn_q", true, {DIM, DIM}},
    {"attn_k", true, {DIM / HEADS * KV, DIM}},
    {"attn_v", true, {DIM / HEADS * KV, DIM}},
    {"attn_o", true, {DIM, DIM}},
    {"ffn_norm", true, {DIM}},
    {"ffn_gate", true, {HIDDEN, DIM}},
    {"ffn_down", true, {DIM, HIDDEN}},
    {"ffn_up", true, {HIDDEN, DIM}},
    {"output_norm", false, {DIM}},
    {"output", false, {VOCAB, DIM}},
};

/* torch's: group 8, the largest power of two that divides the width. */
static const struct q8 {
    const char *name;
    uint64_t hash;
} q8[] = {
#include "tests/vectors/llama2c/q8.inc"
};

static uint64_t q8_hash(const char *name)
{
    for (int i = 0; i < LENGTH(q8); i++)
        if (strcmp(q8[i].name, name) == 0)
            return q8[i].hash;
    fail_msg("no hash of %s", name);
    return 0;
}

static uint64_t fnv1a(const void *bytes, size_t n)
{
    uint64_t h = 0xCBF29CE484222325;
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const uint8_t *)bytes)[i]) * 0x100000001B3;
    return h;
}

static void check_ranges(const struct ptq_tensors *t, const struct ptq_tensor *x,
                         const float *whole)
{
    float part[HIDDEN * DIM];
    struct ptq_status st = {0};
    for (int64_t first = 0; first <= x->n; first++)
        for (int64_t n = 0; n <= x->n - first; n += 5) {
            assert_ok(ptq_tensors_read(t, x, first, n, part, &st), &st);
            assert_memory_equal(part, whole + first, (size_t)n * sizeof *part);
        }
}

static void check_tensor(const struct ptq_tensors *t, const struct given *g, int layer, bool int8)
{
    char name[64];
    float got[HIDDEN * DIM];
    struct ptq_status st = {0};
    const bool matrix = g->dim[1] > 0, quantized = int8 && matrix;
    const int64_t n = g->dim[0] * (matrix ? g->dim[1] : 1);
    snprintf(name, sizeof name, g->per_layer ? "blk.%d.%s" : "%.0d%s", layer, g->name);
    const struct ptq_tensor *x = ptq_tensors_find(t, name);
    if (!x)
        fail_msg("no tensor %s", name);
    assert_int_equal(x->rank, matrix ? 2 : 1);
    assert_int_equal(x->dim[0], g->dim[0]);
    assert_true(!matrix || x->dim[1] == g->dim[1]);
    assert_int_equal(x->n, n);
    assert_string_equal(x->type, quantized ? "Q8_0" : "F32");
    assert_true(x->stored_bits == (quantized ? 12 : 32)); /* 8 + 32 / 8 */
    assert_int_equal(x->grid_bits, quantized ? 8 : 0);
    assert_int_equal(x->grid_group, quantized ? 8 : 0);
    assert_ok(ptq_tensors_read(t, x, 0, n, got, &st), &st);
    const uint64_t seed = (uint64_t)(100 * layer + (g - given));
    for (int64_t i = 0; i < n && !quantized; i++)
        assert_true(got[i] == (float)(ptq_hash_u64(seed, (uint64_t)i) & 255) / 64 - 2);
    if (quantized && fnv1a(got, (size_t)n * sizeof *got) != q8_hash(name))
        fail_msg("%s: some value differs from torch's", name);
    check_ranges(t, x, got);
}

static void check_meta(const struct ptq_tensors *t, bool tied)
{
    json_t *want = json_pack(
        "{ss si si si si si si si si sf ss sf si ss}", "architecture", "llama", "d_model", DIM,
        "n_blocks", LAYERS, "n_heads", HEADS, "n_kv_heads", KV, "head_dim", DIM / HEADS, "d_ff",
        HIDDEN, "vocab_size", VOCAB, "max_context", CONTEXT, "rope_theta", 10000.0, "rope_layout",
        "interleaved", "norm_eps", 1e-5, "tied_head", (int)tied, "dtype", "f32");
    assert_non_null(want);
    assert_true(json_equal(t->meta, want));
    json_decref(want);
}

static void check_file(const char *path, bool tied, bool int8)
{
    struct ptq_status st = {0};
    struct ptq_tensors *t;
    assert_ok(ptq_tensors_open(&t, path, &st), &st);
    assert_string_equal(t->format->name, "llama2c");
    assert_int_equal(t->dialect, PTQ_CANONICAL);
    assert_int_equal(t->n, N_TENSORS - tied);
    check_meta(t, tied);
    for (int k = 0; k < LENGTH(given) - tied; k++)
        for (int layer = 0; layer < (given[k].per_layer ? LAYERS : 1); layer++)
            check_tensor(t, &given[k], layer, int8);
    ptq_tensors_close(t);
}

/* The head comes last, so that a tied file is an untied one without it: the vocabulary positive in
 * a legacy file, byte 36 set in the others. */
static void test_files_of_the_exporter(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool int8;
        size_t head_bytes;
    } file[] = {{"legacy.bin", false, VOCAB * DIM * 4},
                {"v1.bin", false, VOCAB * DIM * 4},
                {"v2.bin", true, VOCAB * DIM + VOCAB * DIM / 8 * 4}};
    char dir[TEST_PATH], path[TEST_PATH];
    test_tmpdir(dir);
    test_path(dir, "tied.bin", path);
    for (int i = 0; i < LENGTH(file); i++) {
        char from[TEST_PATH], *bytes;
        size_t n;
        test_path("tests/vectors/llama2c", file[i].name, from);
        check_file(from, false, file[i].int8);
        load(file[i].name, &bytes, &n);
        if (i == 0)
            memcpy(bytes + 4 * VOCAB_FIELD, &(int32_t){VOCAB}, 4);
        else
            bytes[36] = 1;
        save(path, bytes, n - file[i].head_bytes);
        check_file(path, true, file[i].int8);
        free(bytes);
    }
    test_rmdir(dir);
}

/* The contents have one name, and every byte of values is part of it. */
static void test_key(void **state)
{
    (void)state;
    char dir[TEST_PATH], path[TEST_PATH], key[3][33], *bytes;
    size_t n;
    test_tmpdir(dir);
    test_path(dir, "m.bin", path);
    load("v2.bin", &bytes, &n);
    for (int i = 0; i < 3; i++) {
        struct ptq_status st = {0};
        struct ptq_tensors *t;
        bytes[n - 4] = (char)(bytes[n - 4] + (i == 2)); /* of the last scale */
        save(path, bytes, n);
        assert_ok(ptq_tensors_open(&t, path, &st), &st);
        assert_ok(ptq_tensors_key(t, key[i], &st), &st);
        ptq_tensors_close(t);
    }
    assert_string_equal(key[0], key[1]);
    assert_string_not_equal(key[0], key[2]);
    free(bytes);
    test_rmdir(dir);
}

/* An embedding longer than the pieces that are read at once; value i is i mod 127 times a scale
 * that grows by the group. A group of one value asks for the most scales. */
static void check_long(const char *path, int32_t group)
{
    enum { ROWS = 2500, N = ROWS * DIM, REST = 2 * DIM * DIM + DIM * DIM + 3 * HIDDEN * DIM };
    const int32_t head[9] = {0x616b3432, 2, DIM, HIDDEN, 1, HEADS, KV, ROWS, CONTEXT};
    static float got[N];
    static const char zeros[8192];
    struct ptq_status st = {0};
    struct ptq_tensors *t;
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(head, sizeof head, 1, f);
    fputc(1, f);
    fwrite(&group, 4, 1, f);
    fwrite(zeros, 256 - sizeof head - 5 + 3 * DIM * 4, 1, f); /* the header's rest, three norms */
    for (int i = 0; i < N; i++)
        fputc(i % 127, f);
    for (int i = 0; i < N / group; i++)
        fwrite(&(float){(float)(i + 1)}, 4, 1, f);
    fwrite(zeros, (size_t)(REST + REST / group * 4), 1, f);
    assert_int_equal(fclose(f), 0);
    assert_ok(ptq_tensors_open(&t, path, &st), &st);
    assert_ok(ptq_tensors_read(t, ptq_tensors_find(t, "tok_embd"), 5, N - 8, got, &st), &st);
    for (int i = 5; i < N - 3; i++)
        if (got[i - 5] != (float)((i % 127) * (i / group + 1)))
            fail_msg("group %d: value %d is %g", group, i, (double)got[i - 5]);
    ptq_tensors_close(t);
}

static void test_long_tensor(void **state)
{
    (void)state;
    char dir[TEST_PATH], path[TEST_PATH];
    test_tmpdir(dir);
    test_path(dir, "m.bin", path);
    check_long(path, 1);
    check_long(path, 32);
    test_rmdir(dir);
}

/* ---- damaged files */

static void refused(const char *path, const void *bytes, size_t n, const char *part)
{
    struct ptq_status st = {0};
    struct ptq_tensors *t;
    save(path, bytes, n);
    assert_int_equal(ptq_tensors_open(&t, path, &st), PTQ_ERR_USAGE);
    assert_null(t);
    assert_status(&st, PTQ_ERR_USAGE, path);
    assert_status(&st, PTQ_ERR_USAGE, part);
}

/* Every value in every field that decides the size: it no longer agrees. (Without tables of
 * rotations seq_len decides none.) */
static void refuse_fields(const char *path, const char *name, size_t at, size_t n_fields)
{
    static const int32_t values[] = {0, -1,      INT32_MAX,     INT32_MIN,
                                     7, 1 << 24, (1 << 24) + 1, 1 << 14};
    char *bytes;
    size_t n;
    load(name, &bytes, &n);
    for (size_t field = at; field < at + 4 * n_fields; field += 4)
        for (int k = 0; k < LENGTH(values); k++) {
            char kept[4];
            memcpy(kept, bytes + field, 4);
            memcpy(bytes + field, &values[k], 4);
            refused(path, bytes, n, "");
            memcpy(bytes + field, kept, 4);
        }
    free(bytes);
}

static void refuse_cut(const char *path, const char *name)
{
    char *bytes;
    size_t n;
    load(name, &bytes, &n);
    for (size_t keep = 0; keep < n; keep++) /* the first 16 bytes tell the format */
        refused(path, bytes, keep, keep < 16 ? "" : "truncated");
    bytes = realloc(bytes, n + 1);
    assert_non_null(bytes);
    bytes[n] = 0;
    refused(path, bytes, n + 1, "bytes, a llama2.c checkpoint of its header");
    free(bytes);
}

static void test_damaged(void **state)
{
    (void)state;
    char dir[TEST_PATH], path[TEST_PATH];
    test_tmpdir(dir);
    test_path(dir, "m.bin", path);
    refuse_fields(path, "legacy.bin", 0, 7);
    refuse_fields(path, "v1.bin", 8, 6);
    refuse_fields(path, "v2.bin", 8, 6);
    refuse_cut(path, "legacy.bin");
    refuse_cut(path, "v2.bin");
    test_rmdir(dir);
}

static void test_messages(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t at;
        int32_t value;
        const char *part;
    } edit[] = {
        {"legacy.bin", 16, 3, "heads do not divide dim, or an odd head; n_heads (2)"},
        {"legacy.bin", 20, 0, "vocab_size (0)"},
        {"legacy.bin", 24, -5, "seq_len (-5)"},
        {"legacy.bin", 8, 20000, "n_layers (20000)"},
        {"legacy.bin", 0, 16, "too few for the llama2.c checkpoint"},
        {"v2.bin", 4, 3, "versions 1 and 2 are read; version (3)"},
        {"v2.bin", 28, -6, "vocab_size (-6)"},
        {"v2.bin", 36, 2 | 8 << 8, "shared classifier is neither 0 nor 1 (2)"},
        {"v2.bin", 37, 0, "group size (0)"},
        {"v2.bin", 37, INT32_MIN, "group size (-2147483648)"},
        {"v2.bin", 37, 5, "groups do not divide the matrices; group size (5)"},
        {"v2.bin", 37, 4, "too few"},
    };
    char dir[TEST_PATH], path[TEST_PATH];
    test_tmpdir(dir);
    test_path(dir, "m.bin", path);
    for (int i = 0; i < LENGTH(edit); i++) {
        char *bytes;
        size_t n;
        load(edit[i].name, &bytes, &n);
        memcpy(bytes + edit[i].at, &edit[i].value, 4);
        refused(path, bytes, n, edit[i].part);
        free(bytes);
    }
    test_rmdir(dir);
}

/* First bytes of other kinds of files are not taken for a legacy header. */
static void test_probe(void **state)
{
    (void)state;
    static const struct {
        char head[17];
        bool yes;
    } cases[] = {
        {"\x40\0\0\0\xac\0\0\0\5\0\0\0\x8\0\0", true}, /* stories260K */
        {"24ka\2\0\0\0\x8\0\0\0\xc\0\0", true},
        {"\x40\0\0\0\xac\0\0\0\5\0\0\0\x7\0\0", false},          /* 7 heads in 64 */
        {"\x40\0\0\0\xac\0\0\0\0\0\0\0\x8\0\0", false},          /* no layers */
        {"PK\3\4\0\0\x8\x8\0\0\0\0\0\0\0", false},               /* zip: torch */
        {"\x80\2\x8a\nl\xfc\x9c\x46\xf9\x20j\xa8P\x19.", false}, /* torch before zip */
        {"\x89HDF\r\n\x1a\n\0\0\0\0\0\x8\x8", false},
        {"GGUF\3\0\0\0\2\0\0\0\0\0\0", false},
        {"\x40\x1\0\0\0\0\0\0{\"__meta", false}, /* safetensors */
        {"{\"architecture", false},
        {"@@@@aaaaaaaa    ", false}, /* text whose "heads" divide its "dim" */
        {"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", false},
    };
    for (int i = 0; i < LENGTH(cases); i++) {
        struct ptq_probe p = {.path = "m.bin", .bytes = 1 << 20};
        memcpy(p.head, cases[i].head, sizeof p.head);
        if (ptq_format_llama2c.probe(&p) != cases[i].yes)
            fail_msg("case %d", i);
        p.is_folder = true;
        assert_false(ptq_format_llama2c.probe(&p));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_of_the_exporter),
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_long_tensor),
        cmocka_unit_test(test_probe),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
