/* GGUF files. Dequantization and a whole file are compared with the `gguf` package's
 * (tests/vectors/gguf_types.py); hostile files are written here, byte by byte. */
#include "testlib.h"
#include "core/hash.h"
#include "core/rng.h"
#include "datasets/tensors.h"

/* ---- files of our own */

enum { MOST = 1 << 15 };
struct out {
    uint8_t at[MOST];
    int64_t n;
};

static void put(struct out *o, const void *bytes, int64_t n)
{
    assert_true(o->n + n <= MOST);
    memcpy(o->at + o->n, bytes, (size_t)n);
    o->n += n;
}

static void put_u32(struct out *o, uint32_t v)
{
    put(o, &v, sizeof v);
}

static void put_u64(struct out *o, uint64_t v)
{
    put(o, &v, sizeof v);
}

static void put_text(struct out *o, const char *text)
{
    put_u64(o, strlen(text));
    put(o, text, (int64_t)strlen(text));
}

static void align(struct out *o, int64_t to)
{
    while (o->n % to)
        put(o, "", 1);
}

static void save(const char *path, const void *bytes, int64_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, (size_t)n, f), n);
    assert_int_equal(fclose(f), 0);
}

struct info {
    const char *name;
    uint32_t rank;
    uint64_t dim[5]; /* in the file's order */
    uint32_t type;
    uint64_t offset;
};

static void put_info(struct out *o, const struct info *x)
{
    put_text(o, x->name);
    put_u32(o, x->rank);
    for (uint32_t i = 0; i < x->rank && i < 5; i++)
        put_u64(o, x->dim[i]);
    put_u32(o, x->type);
    put_u64(o, x->offset);
}

/* ---- every type */

enum { N_VALUES = 1536, ROW = 512 };
static const struct type {
    const char *name;
    uint32_t id;
    int block, bytes, half[2]; /* where halves lie, -1: nowhere */
    int grid_bits, grid_group; /* by the names: Qn_* has codes of n bits */
} types[] = {
    {"F32", 0, 1, 4, {-1, -1}, 0, 0},         {"F16", 1, 1, 2, {0, -1}, 0, 0},
    {"BF16", 30, 1, 2, {-1, -1}, 0, 0},       {"F64", 28, 1, 8, {-1, -1}, 0, 0},
    {"Q4_0", 2, 32, 18, {0, -1}, 4, 32},      {"Q4_1", 3, 32, 20, {0, 2}, 4, 32},
    {"Q5_0", 6, 32, 22, {0, -1}, 5, 32},      {"Q5_1", 7, 32, 24, {0, 2}, 5, 32},
    {"Q8_0", 8, 32, 34, {0, -1}, 8, 32},      {"Q2_K", 10, 256, 84, {80, 82}, 2, 16},
    {"Q3_K", 11, 256, 110, {108, -1}, 3, 16}, {"Q4_K", 12, 256, 144, {0, 2}, 4, 32},
    {"Q5_K", 13, 256, 176, {0, 2}, 5, 32},    {"Q6_K", 14, 256, 210, {208, -1}, 6, 16},
};
static const struct expected {
    const char *name;
    uint64_t hash;
    uint32_t some[8]; /* the first and the last four */
} expected[] = {
#include "tests/vectors/gguf_types.inc"
};

/* The generator of gguf_types.py: finite halves, doubles with exponents that fp32 has. */
static void put_blocks(struct out *o, const struct type *t)
{
    for (int64_t i = 0; i < N_VALUES / t->block * t->bytes; i++) {
        const int at = (int)(i % t->bytes);
        uint8_t b = (uint8_t)ptq_hash_u64(t->id, (uint64_t)i);
        if ((t->half[0] >= 0 && at == t->half[0] + 1) || (t->half[1] >= 0 && at == t->half[1] + 1))
            b &= 0xBF;
        if (t->id == 28 && at == 7)
            b = (b & 0x80) | 0x3F;
        put(o, &b, 1);
    }
}

static void write_type(const char *path, const struct type *t)
{
    struct out o = {.n = 0};
    const struct info x = {"w", 2, {ROW, N_VALUES / ROW}, t->id, 0};
    put(&o, "GGUF", 4);
    put_u32(&o, 3);
    put_u64(&o, 1);
    put_u64(&o, 0);
    put_info(&o, &x);
    align(&o, 32);
    put_blocks(&o, t);
    save(path, o.at, o.n);
}

static uint64_t fnv1a(const void *bytes, size_t n)
{
    uint64_t h = 0xCBF29CE484222325;
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const uint8_t *)bytes)[i]) * 0x100000001B3;
    return h;
}

static void check_type(const struct ptq_tensors *t, const struct type *want,
                       const struct expected *e)
{
    struct ptq_status st = {0};
    float whole[N_VALUES], part[N_VALUES];
    uint32_t bits[N_VALUES];
    const struct ptq_tensor *x = ptq_tensors_find(t, "w");
    assert_non_null(x);
    assert_string_equal(x->type, want->name);
    assert_string_equal(e->name, want->name);
    assert_int_equal(x->rank, 2);
    assert_int_equal(x->dim[0], N_VALUES / ROW);
    assert_int_equal(x->dim[1], ROW);
    assert_int_equal(x->n, N_VALUES);
    assert_true(x->stored_bits == 8.0 * want->bytes / want->block);
    assert_int_equal(x->grid_bits, want->grid_bits);
    assert_int_equal(x->grid_group, want->grid_group);
    assert_ok(ptq_tensors_read(t, x, 0, N_VALUES, whole, &st), &st);
    memcpy(bits, whole, sizeof bits);
    for (int i = 0; i < 8; i++)
        if (bits[i < 4 ? i : N_VALUES - 8 + i] != e->some[i])
            fail_msg("%s: value %d is %08x, expected %08x", e->name, i,
                     bits[i < 4 ? i : N_VALUES - 8 + i], e->some[i]);
    if (fnv1a(whole, sizeof whole) != e->hash)
        fail_msg("%s: some value differs from the reference's", e->name);
    struct ptq_rng rng = {7};
    for (int i = 0; i < 300; i++) {
        const int64_t first = (int64_t)ptq_rng_below(&rng, N_VALUES + 1),
                      n = (int64_t)ptq_rng_below(&rng, (uint64_t)(N_VALUES - first + 1));
        memset(part, 0x55, sizeof part);
        assert_ok(ptq_tensors_read(t, x, first, n, part, &st), &st);
        assert_memory_equal(part, whole + first, (size_t)n * sizeof *part);
        for (int64_t k = n; k < N_VALUES; k++) /* nothing behind the range is touched */
            assert_memory_equal(&part[k], "UUUU", 4);
    }
}

static void test_types_equal_the_reference(void **state)
{
    (void)state;
    char dir[TEST_PATH], path[TEST_PATH];
    test_tmpdir(dir);
    test_path(dir, "m.gguf", path);
    assert_int_equal(LENGTH(types), LENGTH(expected));
    for (int i = 0; i < LENGTH(types); i++) {
        struct ptq_status st = {0};
        struct ptq_tensors *t;
        write_type(path, &types[i]);
        assert_ok(ptq_tensors_open(&t, path, &st), &st);
        assert_int_equal(t->dialect, PTQ_GGUF);
        check_type(t, &types[i], &expected[i]);
        ptq_tensors_close(t);
    }
    test_rmdir(dir);
}

/* Longer than the pieces that are read at once; the last row is cut out of it. */
static void test_long_tensor(void **state)
{
    (void)state;
    enum { N = 65536 + 96 };
    char dir[TEST_PATH], path[TEST_PATH];
    struct ptq_status st = {0};
    struct ptq_tensors *t;
    struct out o = {.n = 0};
    const struct info x = {"w", 1, {N}, 8, 0};
    test_tmpdir(dir);
    test_path(dir, "m.gguf", path);
    put(&o, "GGUF", 4);
    put_u32(&o, 3);
    put_u64(&o, 1);
    put_u64(&o, 0);
    put_info(&o, &x);
    align(&o, 32);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(o.at, 1, (size_t)o.n, f);
    for (int b = 0; b < N / 32; b++) { /* scale 2^-3, codes by position */
        fwrite("\x00\x30", 1, 2, f);
        for (int i = 0; i < 32; i++)
            fputc((b * 5 + i) & 255, f);
    }
    assert_int_equal(fclose(f), 0);
    assert_ok(ptq_tensors_open(&t, path, &st), &st);
    float *got = malloc(N * sizeof *got);
    assert_non_null(got);
    assert_ok(ptq_tensors_read(t, t->tensor, 5, N - 7, got, &st), &st);
    for (int k = 5; k < N - 2; k++) {
        const float want = (float)(int8_t)(k / 32 * 5 + k % 32) / 8;
        if (got[k - 5] != want)
            fail_msg("value %d is %g, expected %g", k, (double)got[k - 5], (double)want);
    }
    free(got);
    ptq_tensors_close(t);
    test_rmdir(dir);
}

/* ---- a file of another writer */

static void check_tensor(const struct ptq_tensors *t, const char *name, const json_t *want)
{
    struct ptq_status st = {0};
    float got[96];
    const struct ptq_tensor *x = ptq_tensors_find(t, name);
    const json_t *dim = json_object_get(want, "dim"), *values = json_object_get(want, "values");
    assert_non_null(x);
    assert_string_equal(x->type, json_string_value(json_object_get(want, "type")));
    assert_int_equal(x->rank, json_array_size(dim));
    for (int i = 0; i < x->rank; i++)
        assert_int_equal(x->dim[i], json_integer_value(json_array_get(dim, (size_t)i)));
    assert_int_equal(x->n, LENGTH(got));
    assert_int_equal(json_array_size(values), LENGTH(got));
    assert_ok(ptq_tensors_read(t, x, 0, x->n, got, &st), &st);
    for (int i = 0; i < LENGTH(got); i++)
        if ((double)got[i] != json_real_value(json_array_get(values, (size_t)i)))
            fail_msg("%s: value %d is %.9g", name, i, (double)got[i]);
}

/* Version 2 has the same layout; so the same file with another number is one. */
static void test_file_of_the_package(void **state)
{
    (void)state;
    struct ptq_status st = {0};
    char dir[TEST_PATH], path[TEST_PATH], key[2][PTQ_KEY_CHARS], *bytes;
    size_t n;
    json_error_t error;
    json_t *want = json_load_file("tests/vectors/gguf_small.json", 0, &error);
    assert_non_null(want);
    assert_ok(ptq_read_file("tests/vectors/gguf_small.gguf", MOST, &bytes, &n, &st), &st);
    test_tmpdir(dir);
    test_path(dir, "m.gguf", path);
    for (char version = 2; version <= 3; version++) {
        struct ptq_tensors *t;
        bytes[4] = version;
        save(path, bytes, (int64_t)n);
        assert_ok(ptq_tensors_open(&t, path, &st), &st);
        assert_true(json_equal(t->meta, json_object_get(want, "meta")));
        const char *name;
        json_t *tensor;
        assert_int_equal(t->n, json_object_size(json_object_get(want, "tensors")));
        json_object_foreach(json_object_get(want, "tensors"), name, tensor)
            check_tensor(t, name, tensor);
        assert_ok(ptq_tensors_key(t, key[version - 2], &st), &st);
        ptq_tensors_close(t);
    }
    assert_string_equal(key[0], key[1]);
    json_decref(want);
    free(bytes);
    test_rmdir(dir);
}

/* ---- hostile files */

#define RAW(text) text, sizeof text - 1
struct spec {
    const char *magic;
    uint32_t version;
    uint64_t n_tensors, n_pairs;
    struct pair {
        const char *key;
        uint32_t type;
        const char *raw;
        size_t n_raw;
    } pair[2];
    struct info info[2];
    int64_t n_data;
};
/* a: 128 bytes, b: 36 bytes. */
static const struct spec good = {"GGUF",
                                 3,
                                 2,
                                 2,
                                 {{"general.architecture", 8, RAW("\5\0\0\0\0\0\0\0llama")},
                                  {"general.alignment", 4, RAW("\x20\0\0\0")}},
                                 {{"a", 2, {8, 4}, 0, 0}, {"b", 2, {32, 2}, 2, 128}},
                                 128 + 36};

static void put_spec(struct out *o, const struct spec *s)
{
    o->n = 0;
    put(o, s->magic, 4);
    put_u32(o, s->version);
    put_u64(o, s->n_tensors);
    put_u64(o, s->n_pairs);
    for (int i = 0; i < 2; i++) {
        put_text(o, s->pair[i].key);
        put_u32(o, s->pair[i].type);
        put(o, s->pair[i].raw, (int64_t)s->pair[i].n_raw);
    }
    put_info(o, &s->info[0]);
    put_info(o, &s->info[1]);
    align(o, 32);
    for (int64_t i = 0; i < s->n_data; i++)
        put(o, "x", 1);
}

static void refused(const char *path, const struct spec *s, const char *part)
{
    struct out o;
    struct ptq_status st = {0};
    struct ptq_tensors *t;
    put_spec(&o, s);
    save(path, o.at, o.n);
    assert_int_equal(ptq_tensors_open(&t, path, &st), PTQ_ERR_USAGE);
    assert_null(t);
    assert_status(&st, PTQ_ERR_USAGE, part);
    assert_status(&st, PTQ_ERR_USAGE, path);
}

#define REFUSED(part, edit)                                                                        \
    do {                                                                                           \
        struct spec s = good;                                                                      \
        edit;                                                                                      \
        refused(path, &s, part);                                                                   \
    } while (0)
/* The second pair: its type and bytes. */
#define VALUE(part, kind, bytes)                                                                   \
    REFUSED(part, s.pair[1] = ((struct pair){"test.key", kind, RAW(bytes)}))
/* The second tensor. */
#define TENSOR(part, ...) REFUSED(part, s.info[1] = ((struct info){__VA_ARGS__}))

static void refuse_headers(const char *path)
{
    REFUSED("no known kind of checkpoint", s.magic = "GGUX");
    REFUSED("version 1; versions 2 and 3", s.version = 1);
    REFUSED("version 4; versions 2 and 3", s.version = 4);
    REFUSED("version 0", s.version = 0);
    REFUSED("big-endian", s.version = 3u << 24);
    REFUSED("18446744073709551615 tensors cannot lie in", s.n_tensors = UINT64_MAX);
    REFUSED("tensors cannot lie in", s.n_tensors = 1000);
    REFUSED("key-value pairs cannot lie in", s.n_pairs = UINT64_MAX);
    REFUSED("key-value pairs cannot lie in", s.n_pairs = 1ull << 62);
    REFUSED("tensor number 2", s.n_tensors = 3);
    REFUSED("tensor number 0: 1125899906842624 bytes of text cannot lie in", s.n_pairs = 3);
    REFUSED("key general.architecture: is there twice", s.pair[1] = s.pair[0]);
    REFUSED("key number 1: its name is empty", s.pair[1].key = "");
    REFUSED("key number 1: its name is empty, holds a zero byte or is no valid UTF-8",
            s.pair[1] = ((struct pair){"\xff\xfe\xfd", 0, RAW("\1")}));
}

static void refuse_values(const char *path)
{
    VALUE("key test.key: unknown value type 13", 13, "\1");
    VALUE("unknown value type 4294967295", UINT32_MAX, "\1");
    VALUE("test.key: a yes/no is the byte 2", 7, "\2");
    VALUE("test.key: 18446744073709551615 bytes of text cannot", 8,
          "\xff\xff\xff\xff\xff\xff\xff\xff");
    VALUE("test.key: the text of 3 bytes is no valid UTF-8", 8, "\3\0\0\0\0\0\0\0a\xc3(");
    VALUE("test.key, element 1: the text of 1 bytes is no valid UTF-8", 9,
          "\x8\0\0\0\2\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0a\1\0\0\0\0\0\0\0\xff");
    VALUE("18446744073709551615 array elements cannot", 9,
          "\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
    VALUE("array elements cannot", 9, "\xc\0\0\0\xff\0\0\0\0\0\0\0");
    VALUE("test.key: unknown value type 77", 9, "\x4d\0\0\0\1\0\0\0\0\0\0\0");
    VALUE("test.key, element 0: arrays lie in each other more than 2 deep", 9,
          "\x9\0\0\0\1\0\0\0\0\0\0\0\x9\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1");
    REFUSED("key split.count: the model is split over 3 files",
            s.pair[1] = ((struct pair){"split.count", 2, RAW("\3\0")}));
    REFUSED("general.alignment: is 0,", s.pair[1].raw = "\0\0\0\0");
    REFUSED("general.alignment: is 24,", s.pair[1].raw = "\x18\0\0\0");
    REFUSED("general.alignment: is 4294967295,", s.pair[1].raw = "\xff\xff\xff\xff");
    REFUSED("general.alignment: is 0,",
            s.pair[1] = ((struct pair){"general.alignment", 8, RAW("\2\0\0\0\0\0\0\00032")}));
}

static void refuse_tensors(const char *path)
{
    TENSOR("tensor a is there twice", "a", 2, {32, 2}, 2, 128);
    TENSOR("tensor number 1: its name is empty", "", 2, {32, 2}, 2, 128);
    TENSOR("tensor b: 5 axes", "b", 5, {1, 1, 1, 1, 1}, 0, 128);
    TENSOR("tensor b: 4294967295 axes", "b", UINT32_MAX, {1}, 0, 128);
    TENSOR("tensor b: axis 1 has 0 elements", "b", 2, {0, 2}, 0, 128);
    TENSOR("overflows", "b", 2, {1ull << 40, 1ull << 40}, 0, 128);
    TENSOR("overflows", "b", 1, {1ull << 63}, 0, 128);
    TENSOR("overflows", "b", 1, {1ull << 62}, 0, 128); /* 2^64 bytes */
    TENSOR("tensor b: type 4 (not known here) cannot be read; these can: F32 F16 BF16 F64 Q4_0 "
           "Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K",
           "b", 2, {32, 2}, 4, 128);
    TENSOR("tensor b: type 20 (IQ4_NL) cannot be read", "b", 2, {32, 2}, 20, 128);
    TENSOR("tensor b: rows of 16 values are no whole blocks of 32, as type Q4_0 needs", "b", 2,
           {16, 4}, 2, 128);
    TENSOR("tensor b: its offset 129 is no multiple of the alignment 32", "b", 2, {32, 2}, 2, 129);
    TENSOR("tensor b: overlaps tensor a", "b", 2, {32, 2}, 2, 96);
    TENSOR("overlaps tensor", "b", 2, {32, 2}, 2, 0);
    TENSOR("tensor b: its 36 bytes at offset 160 of the data end behind the file's", "b", 2,
           {32, 2}, 2, 160);
    TENSOR("end behind", "b", 2, {32, 2}, 2, 1ull << 62);
    TENSOR("end behind", "b", 2, {32, 2}, 2, UINT64_MAX - 31);
    TENSOR("end behind", "b", 2, {1ull << 40, 1}, 0, 128);
    REFUSED("tensor b: its 36 bytes", s.n_data--);
}

static void test_refused(void **state)
{
    (void)state;
    char dir[TEST_PATH], path[TEST_PATH];
    struct out o;
    struct ptq_status st = {0};
    struct ptq_tensors *t;
    test_tmpdir(dir);
    test_path(dir, "m.gguf", path);
    put_spec(&o, &good);
    save(path, o.at, o.n);
    assert_ok(ptq_tensors_open(&t, path, &st), &st); /* what the faults are put into */
    assert_int_equal(t->n, 2);
    ptq_tensors_close(t);
    refuse_headers(path);
    refuse_values(path);
    refuse_tensors(path);
    test_rmdir(dir);
}

static void test_truncated_anywhere(void **state)
{
    (void)state;
    char dir[TEST_PATH], path[TEST_PATH];
    struct out o;
    test_tmpdir(dir);
    test_path(dir, "m.gguf", path);
    put_spec(&o, &good);
    save(path, o.at, o.n);
    for (int64_t n = o.n - 1; n >= 0; n--) {
        struct ptq_status st = {0};
        struct ptq_tensors *t;
        assert_int_equal(truncate(path, n), 0);
        assert_int_equal(ptq_tensors_open(&t, path, &st), PTQ_ERR_USAGE);
        assert_null(t);
        assert_status(&st, PTQ_ERR_USAGE, n < 4 ? "no known kind" : "truncated");
    }
    test_rmdir(dir);
}

/* Numbers that JSON lacks; a file without tensors or pairs, and one that ends with the infos. */
static void test_odd_but_fine(void **state)
{
    (void)state;
    char dir[TEST_PATH], path[TEST_PATH];
    struct out o;
    struct ptq_status st = {0};
    struct ptq_tensors *t;
    struct spec s = good;
    test_tmpdir(dir);
    test_path(dir, "m.gguf", path);
    s.pair[0] = (struct pair){"nan", 6, RAW("\0\0\xc0\x7f")};
    s.pair[1] = (struct pair){"big", 10, RAW("\xff\xff\xff\xff\xff\xff\xff\xff")};
    put_spec(&o, &s);
    save(path, o.at, o.n);
    assert_ok(ptq_tensors_open(&t, path, &st), &st);
    assert_true(json_is_null(json_object_get(t->meta, "nan")));
    assert_true(json_real_value(json_object_get(t->meta, "big")) == 0x1p64);
    ptq_tensors_close(t);
    o.n = 0;
    put(&o, "GGUF", 4);
    put_u32(&o, 3);
    put_u64(&o, 0);
    put_u64(&o, 0);
    save(path, o.at, o.n);
    assert_ok(ptq_tensors_open(&t, path, &st), &st);
    assert_int_equal(t->n, 0);
    assert_int_equal(json_object_size(t->meta), 0);
    ptq_tensors_close(t);
    test_rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types_equal_the_reference), cmocka_unit_test(test_long_tensor),
        cmocka_unit_test(test_file_of_the_package),       cmocka_unit_test(test_refused),
        cmocka_unit_test(test_truncated_anywhere),        cmocka_unit_test(test_odd_but_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
