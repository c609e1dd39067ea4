/* Safetensors: a file of the format's own library (tests/vectors/checkpoints.py), folders with
 * shards, files that must be refused, each with its message, and the writer. */
#include "testlib.h"
#include <sys/stat.h>
#include "core/half.h"
#include "datasets/safetensors.h"
#include "datasets/tensors.h"

#define VECTORS "tests/vectors/checkpoints/"

struct fixture {
    char folder[TEST_PATH];
    struct ptq_status st;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    test_tmpdir(f->folder);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    test_rmdir(f->folder);
    free(f);
    return 0;
}

static void put(const char *folder, const char *name, const void *at, size_t n)
{
    char path[TEST_PATH];
    test_path(folder, name, path);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(at, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* A safetensors file of this header and n_data bytes 0, 1, 2, ...; length: what it claims for the
 * header, -1 the truth. */
static void put_st(const char *folder, const char *name, const char *header, size_t n_data,
                   int64_t length)
{
    size_t n = strlen(header);
    unsigned char *all = calloc(1, 8 + n + n_data + 1);
    uint64_t claim = length < 0 ? n : (uint64_t)length;
    memcpy(all, &claim, 8);
    memcpy(all + 8, header, n);
    for (size_t i = 0; i < n_data; i++)
        all[8 + n + i] = (unsigned char)i;
    put(folder, name, all, 8 + n + n_data);
    free(all);
}

static struct ptq_tensors *open_ok(const char *folder, const char *name, struct ptq_status *st)
{
    char path[TEST_PATH];
    struct ptq_tensors *t = NULL;
    test_path(folder, name, path);
    assert_ok(ptq_tensors_open(&t, path, st), st);
    return t;
}

static void refused(struct fixture *f, const char *name, const char *message)
{
    char path[TEST_PATH];
    struct ptq_tensors *t = NULL;
    test_path(f->folder, name, path);
    ptq_status_clear(&f->st);
    ptq_tensors_open(&t, path, &f->st);
    assert_null(t);
    assert_status(&f->st, PTQ_ERR_USAGE, message);
    assert_non_null(strstr(f->st.text, f->folder)); /* the message names the file */
}

/* ---- reading */

/* What checkpoints.py puts into value i. */
static float value(int64_t i, int seed)
{
    return (float)((37 * i + seed) % 101 - 50) / 8;
}

static void types_of_the_library(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *name, *type;
        int rank;
        int64_t dim[3];
        int seed;
        float times, plus;
        double bits;
    } t[] = {{"bf16", "BF16", 2, {3, 5}, 1, 1, 0, 16},  {"f16", "F16", 2, {3, 5}, 1, 1, 0, 16},
             {"f32", "F32", 2, {3, 5}, 1, 1, 0, 32},    {"f64", "F64", 2, {3, 5}, 1, 1, 0, 64},
             {"i16", "I16", 3, {2, 3, 2}, 2, 8, 0, 16}, {"i32", "I32", 3, {2, 3, 2}, 2, 8, 0, 32},
             {"i64", "I64", 3, {2, 3, 2}, 2, 8, 0, 64}, {"i8", "I8", 3, {2, 3, 2}, 2, 8, 0, 8},
             {"scalar", "F64", 0, {0}, 5, 1, 0, 64},    {"u8", "U8", 1, {7}, 3, 8, 50, 8}};
    struct ptq_tensors *x = open_ok(VECTORS, "types.safetensors", &f->st);
    float v[16];
    assert_int_equal(x->n, LENGTH(t) + 1); /* and bool */
    assert_int_equal(x->dialect, PTQ_HUGGINGFACE);
    assert_int_equal(json_object_size(x->meta), 0); /* __metadata__ is not the model's */
    for (int64_t i = 0; i < LENGTH(t); i++) {
        const struct ptq_tensor *a = ptq_tensors_find(x, t[i].name);
        assert_non_null(a);
        assert_string_equal(a->type, t[i].type);
        assert_int_equal(a->rank, t[i].rank);
        assert_memory_equal(a->dim, t[i].dim, (size_t)a->rank * sizeof *a->dim);
        assert_true(a->stored_bits == t[i].bits && a->grid_bits == 0);
        assert_ok(ptq_tensors_read(x, a, 0, a->n, v, &f->st), &f->st);
        for (int64_t k = 0; k < a->n; k++)
            assert_true(v[k] == value(k, t[i].seed) * t[i].times + t[i].plus);
    }
    const struct ptq_tensor *b = ptq_tensors_find(x, "bool");
    assert_ok(ptq_tensors_read(x, b, 0, 6, v, &f->st), &f->st);
    for (int k = 0; k < 6; k++)
        assert_true(v[k] == (value(k, 4) > 0));
    assert_null(ptq_tensors_find(x, "f3"));
    ptq_tensors_close(x);
}

/* Integers and doubles that fp32 cannot hold are rounded to the nearest; specials pass. */
static void values_are_rounded(void **state)
{
    struct fixture *f = *state;
    const double d[4] = {1.0 / 3, 1e300, -INFINITY, 0x1.000001p0};
    const int64_t i[3] = {INT64_C(16777217), INT64_C(16777219), INT64_MIN};
    const uint16_t h[4] = {0x0001, 0x7c00, 0x7e00, 0x8000};
    const char *header = "{\"d\":{\"dtype\":\"F64\",\"shape\":[4],\"data_offsets\":[0,32]},"
                         "\"i\":{\"dtype\":\"I64\",\"shape\":[3],\"data_offsets\":[32,56]},"
                         "\"h\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[56,64]},"
                         "\"t\":{\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[64,66]}}";
    unsigned char all[512] = {0};
    const uint64_t n = strlen(header);
    memcpy(all, &n, 8);
    memcpy(all + 8, header, n);
    memcpy(all + 8 + n, d, 32);
    memcpy(all + 40 + n, i, 24);
    memcpy(all + 64 + n, h, 8);
    memcpy(all + 72 + n, "\0\2", 2);
    put(f->folder, "x.safetensors", all, 74 + n);
    struct ptq_tensors *t = open_ok(f->folder, "x.safetensors", &f->st);
    float v[4];
    assert_ok(ptq_tensors_read(t, ptq_tensors_find(t, "d"), 0, 4, v, &f->st), &f->st);
    assert_true(v[0] == 0x1.555556p-2f && isinf(v[1]) && v[2] == -INFINITY && v[3] == 1);
    assert_ok(ptq_tensors_read(t, ptq_tensors_find(t, "i"), 0, 3, v, &f->st), &f->st);
    assert_true(v[0] == 16777216 && v[1] == 16777220 && v[2] == -0x1p63f);
    assert_ok(ptq_tensors_read(t, ptq_tensors_find(t, "h"), 0, 4, v, &f->st), &f->st);
    assert_true(v[0] == 0x1p-24f && isinf(v[1]) && isnan(v[2]) && v[3] == 0 && signbit(v[3]));
    assert_ok(ptq_tensors_read(t, ptq_tensors_find(t, "t"), 0, 2, v, &f->st), &f->st);
    assert_true(v[0] == 0 && v[1] == 1); /* any byte but 0 is true */
    ptq_tensors_close(t);
}

/* Longer than the pieces in which it is read (1 MiB) and written, in ranges that do not fit them.
 */
static void ranges(void **state)
{
    struct fixture *f = *state;
    enum { N = 7 * 100003 };
    const struct ptq_st_entry e = {"w", PTQ_ST_BF16, 2, {7, 100003}};
    struct ptq_st_writer *w;
    char path[TEST_PATH];
    float *v = malloc(2 * N * sizeof *v), *got = v + N;
    assert_non_null(v);
    for (int64_t i = 0; i < N; i++)
        v[i] = value(i, 0);
    test_path(f->folder, "big.safetensors", path);
    assert_ok(ptq_st_create(&w, path, &e, 1, NULL, &f->st), &f->st);
    for (int64_t at = 0, n = 1, next; at < N; at += n, n = next) {
        next = 3 * n < N - at - n ? 3 * n : N - at - n;
        assert_ok(ptq_st_write(w, v + at, n, &f->st), &f->st);
    }
    assert_ok(ptq_st_finish(w, true, &f->st), &f->st);
    struct ptq_tensors *t = open_ok(f->folder, "big.safetensors", &f->st);
    assert_ok(ptq_tensors_read(t, &t->tensor[0], 0, N, got, &f->st), &f->st);
    assert_memory_equal(got, v, N * sizeof *v);
    for (int64_t first = 0; first < N - 1000; first += 99991) {
        assert_ok(ptq_tensors_read(t, &t->tensor[0], first, 1000, got, &f->st), &f->st);
        assert_memory_equal(got, v + first, 1000 * sizeof *v);
    }
    ptq_tensors_close(t);
    free(v);
}

/* ---- folders */

#define W(name, from, to)                                                                          \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":[" #to "],\"data_offsets\":[" #from "," #to "]}"
#define W4(name, from, to)                                                                         \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[" #from "," #to "]}"
#define ONE(name) "{" W(name, 0, 4) "}"
#define TWO(name) "{" W(name, 0, 2) "}"
#define SIX(name) "{" W(name, 0, 6) "}"
#define INDEX(a, b, c)                                                                             \
    "{\"metadata\":{\"total_size\":12},\"weight_map\":{\"a\":\"" a "\",\"b\":\"" b "\",\"c\":\"" c \
    "\"}}"
#define GOOD_INDEX INDEX("m-1.safetensors", "m-2.safetensors", "m-3.safetensors")

static void put_text(const char *folder, const char *name, const char *text)
{
    put(folder, name, text, strlen(text));
}

static void put_shards(const char *folder, const char *index)
{
    put_text(folder, "config.json", "{\"model_type\": \"x\", \"n\": [1, 2]}");
    put_text(folder, "model.safetensors.index.json", index);
    put_st(folder, "m-1.safetensors", ONE("a"), 4, -1);
    put_st(folder, "m-2.safetensors", TWO("b"), 2, -1);
    put_st(folder, "m-3.safetensors", SIX("c"), 6, -1);
}

static void key_of(const char *folder, const char *name, char out[33], struct ptq_status *st)
{
    struct ptq_tensors *t = open_ok(folder, name, st);
    assert_ok(ptq_tensors_key(t, out, st), st);
    ptq_tensors_close(t);
}

static void shards_and_one_file_have_one_key(void **state)
{
    struct fixture *f = *state;
    char three[33], one[33], other[33], inner[TEST_PATH];
    put_shards(f->folder, GOOD_INDEX);
    key_of(f->folder, ".", three, &f->st);
    put_text(f->folder, "model.safetensors.index.json",
             INDEX("m-1.safetensors", "m-2.safetensors", "m-1.safetensors"));
    put_st(f->folder, "m-1.safetensors", "{" W("c", 0, 6) "," W4("a", 6, 10) "}", 10, -1);
    struct ptq_tensors *two = open_ok(f->folder, ".", &f->st);
    assert_int_equal(two->n, 3); /* a shard with two tensors is read once */
    ptq_tensors_close(two);
    test_path(f->folder, "one", inner);
    assert_int_equal(mkdir(inner, 0777), 0);
    put_text(inner, "config.json", "{\"n\":[1,2],\"model_type\":\"x\"}");
    /* in another order: each tensor counts from 0, as in its shard, only at its own place */
    unsigned char all[512];
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"},"
                         "\"c\":{\"dtype\":\"U8\",\"shape\":[6],\"data_offsets\":[0,6]},"
                         "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[8,12]},"
                         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[6,8]}}";
    const uint64_t n = strlen(header);
    memcpy(all, &n, 8);
    memcpy(all + 8, header, n);
    memcpy(all + 8 + n, "\0\1\2\3\4\5\0\1\0\1\2\3", 12);
    put(inner, "anything.safetensors", all, 20 + n);
    key_of(inner, ".", one, &f->st);
    assert_string_equal(three, one);
    key_of(inner, "anything.safetensors", other, &f->st); /* finds the config beside it */
    assert_string_equal(three, other);
    all[8 + n + 11] ^= 1;
    put(inner, "anything.safetensors", all, 20 + n);
    key_of(inner, ".", other, &f->st);
    assert_string_not_equal(three, other);
    all[8 + n + 11] ^= 1;
    put(inner, "model.safetensors", all, 20 + n);
    put_text(inner, "config.json", "{\"n\":[1,3],\"model_type\":\"x\"}");
    key_of(inner, ".", other, &f->st); /* two files, but one has the usual name */
    assert_string_not_equal(three, other);
}

static void folders_that_do_not_fit(void **state)
{
    struct fixture *f = *state;
    char path[TEST_PATH];
    put_shards(f->folder, GOOD_INDEX);
    put_text(f->folder, "model.safetensors.index.json",
             INDEX("m-1.safetensors", "m-4.safetensors", "m-3.safetensors"));
    refused(f, ".",
            "model.safetensors.index.json: names the shard m-4.safetensors, which is "
            "missing; get it again");
    put_text(f->folder, "model.safetensors.index.json",
             INDEX("m-1.safetensors", "m-1.safetensors", "m-3.safetensors"));
    refused(f, ".", "places tensor b in m-1.safetensors, which lacks it");
    put_text(f->folder, "model.safetensors.index.json",
             INDEX("m-1.safetensors", "m-2.safetensors", "m-2.safetensors"));
    put_st(f->folder, "m-2.safetensors", ONE("d"), 4, -1);
    refused(f, ".", "does not name tensor d, which m-2.safetensors holds");
    put_st(f->folder, "m-2.safetensors", ONE("a"), 4, -1);
    refused(f, ".", "places tensor a in m-1.safetensors, but m-2.safetensors holds one too");
    static const char *const bad[] = {INDEX("m-1.safetensors", "sub/m-2", "m-3.safetensors"),
                                      INDEX("m-1.safetensors", "..", "m-3.safetensors"),
                                      INDEX("m-1.safetensors", "", "m-3.safetensors")};
    for (int i = 0; i < 3; i++) {
        put_text(f->folder, "model.safetensors.index.json", bad[i]);
        refused(f, ".", "tensor b: its shard is not a file name");
    }
    put_text(f->folder, "model.safetensors.index.json", "{\"weight_map\":{\"a\":3}}");
    refused(f, ".", "tensor a: its shard is not a file name");
    put_text(f->folder, "model.safetensors.index.json", "{\"weight_map\":{}}");
    refused(f, ".", "names 0 shards (1 to 4096 are allowed)");
    put_text(f->folder, "model.safetensors.index.json", "{\"weights\":{}}");
    refused(f, ".", "has no \"weight_map\"");
    put_text(f->folder, "model.safetensors.index.json", "{\"weight_map\":{\"a\":\"b\"}");
    refused(f, ".", "model.safetensors.index.json: not valid JSON: line 1:");
    test_path(f->folder, "model.safetensors.index.json", path);
    assert_int_equal(unlink(path), 0);
    refused(f, ".",
            "holds 3 weight files (m-1.safetensors, m-2.safetensors, ...) and neither "
            "model.safetensors nor model.safetensors.index.json; get the index, or name "
            "one file");
}

static void configs_that_do_not_fit(void **state)
{
    struct fixture *f = *state;
    char deep[200];
    put_st(f->folder, "model.safetensors", ONE("a"), 4, -1);
    refused(f, ".", "no config.json beside the weights; get it from where they came from");
    put_text(f->folder, "config.json", "{\"a\": 1, \"a\": 2}");
    refused(f, ".", "config.json: not valid JSON: line 1: duplicate object key");
    put_text(f->folder, "config.json", "[1]");
    refused(f, ".", "config.json: a JSON object {...} is expected");
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    put(f->folder, "config.json", deep, 200);
    refused(f, ".", "config.json: refused: its JSON is nested too deep");
    memcpy(deep, "{\"a\":\"\\\"", 8); /* brackets in a text, after a quote in it, do not nest */
    memset(deep + 8, '[', 190);
    memcpy(deep + 198, "\"}", 2);
    put(f->folder, "config.json", deep, 200);
    ptq_tensors_close(open_ok(f->folder, ".", &f->st));
}

/* ---- files that must be refused */

static void hostile_headers(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *header;
        size_t n_data;
        int64_t length;
        const char *message;
    } t[] = {
        {"", 0, 1, "its header claims 1 bytes, the file has 8: truncated; get it again"},
        {ONE("a"), 4, 4000, "its header claims 4000 bytes, the file has"},
        {ONE("a"), 4, INT64_MAX, "its header claims 9223372036854775807 bytes, 100000000 are"},
        {"{\"a\":", 0, -1, "not valid JSON: line 1:"},
        {"[]", 0, -1, "a JSON object {...} is expected"},
        {"{" W("a", 0, 4) "," W("a", 0, 4) "}", 4, -1, "duplicate object key"},
        {"{\"a\":{\"shape\":[4],\"data_offsets\":[0,4]}}", 4, -1, "tensor a: it has no dtype"},
        {"{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, -1,
         "tensor a has type F8_E4M3; known: F64 F32 F16 BF16 I64 I32 I16 I8 U64 U32 U16 U8 BOOL; "
         "save it in one of them"},
        {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,4]}}", 4, -1, "tensor a: it has no shape"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,2,2],\"data_offsets\":[0,4]}}", 4, -1,
         "tensor a: its shape has more than 4 axes"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-4],\"data_offsets\":[0,4]}}", 4, -1,
         "tensor a: its shape is not of sizes"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4.0],\"data_offsets\":[0,4]}}", 4, -1,
         "tensor a: its shape is not of sizes"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[4611686018427387904,2],\"data_offsets\":[0,0]}}", 0,
         -1, "tensor a: its shape overflows"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, -1, "tensor a: it has no two data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0]}}", 4, -1,
         "tensor a: it has no two data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]}}", 4, -1,
         "tensor a: data_offsets 4 .. 0 lie outside of the file's 4 bytes of values"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4,4]}}", 4, -1,
         "tensor a: it has no two data_offsets"},
        {ONE("a"), 3, -1,
         "tensor a: data_offsets 0 .. 4 lie outside of the file's 3 bytes of values: truncated; "
         "get the file again"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, -1,
         "tensor a: shape and dtype need 16 bytes, data_offsets give 4"},
        {"{" W("a", 0, 4) ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[3,7]}}", 7, -1,
         "tensor b: its values overlap those of another tensor"},
        {"{" W("a", 0, 4) ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[5,9]}}", 9, -1,
         "tensor b: a hole lies before its values"},
        {ONE("a"), 6, -1, "its tensors end at byte 4 of 6 of values: not what the header says"},
        {"{\"a\":3}", 0, -1, "tensor a: it has no dtype"},
        {"{\"\\u0001\":{\"dtype\":\"\\u001b[2J\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, -1,
         "tensor ? has type ?[2J; known"},
    };
    for (int64_t i = 0; i < LENGTH(t); i++) {
        put_st(f->folder, "x.safetensors", t[i].header, t[i].n_data, t[i].length);
        refused(f, "x.safetensors", t[i].message);
    }
    put(f->folder, "x.safetensors", "abc", 3);
    refused(f, "x.safetensors", "bytes 0 .. 8 are wanted, the file has 3: truncated; get it again");
    put_st(f->folder, "x.safetensors", "{}", 0, -1); /* no tensors: fine, as in the library */
    ptq_tensors_close(open_ok(f->folder, "x.safetensors", &f->st));
}

/* The parser's memory is a multiple of the number of values: the number is capped before. */
static void too_many_values(void **state)
{
    struct fixture *f = *state;
    const size_t n = 5 << 20;
    char *text = malloc(n + 16);
    assert_non_null(text);
    memset(text, '0', n);
    for (size_t i = 0; i < n; i += 2)
        text[i] = ',';
    memcpy(text, "{\"a\":[0", 7);
    memcpy(text + n - 4, ",0]}", 5);
    put_st(f->folder, "x.safetensors", text, 0, -1);
    refused(f, "x.safetensors", "refused: its JSON is too many values");
    free(text);
}

/* A file that becomes shorter while it is open is an error, not a crash. */
static void file_that_shrinks(void **state)
{
    struct fixture *f = *state;
    char path[TEST_PATH];
    float v[4];
    put_st(f->folder, "x.safetensors", ONE("a"), 4, -1);
    struct ptq_tensors *t = open_ok(f->folder, "x.safetensors", &f->st);
    test_path(f->folder, "x.safetensors", path);
    assert_int_equal(truncate(path, 20), 0);
    assert_int_equal(ptq_tensors_read(t, &t->tensor[0], 0, 4, v, &f->st), PTQ_ERR_IO);
    assert_status(&f->st, PTQ_ERR_IO, "the file became shorter");
    ptq_tensors_close(t);
}

/* ---- the writer */

static bool exists(const char *folder, const char *name)
{
    char path[TEST_PATH];
    test_path(folder, name, path);
    return access(path, F_OK) == 0;
}

static const struct ptq_st_entry entries[] = {{"half", PTQ_ST_F16, 1, {3}},
                                              {"full", PTQ_ST_F32, 2, {2, 2}},
                                              {"empty", PTQ_ST_F32, 2, {0, 9}},
                                              {"brain \"\\\xc3\xbc", PTQ_ST_BF16, 3, {1, 2, 1}},
                                              {"scalar", PTQ_ST_F32, 0, {0}}};

static void round_trip(void **state)
{
    struct fixture *f = *state;
    static const char *const words[] = {"F32", "F16", "BF16"};
    static const char *const metadata[] = {"format", "pt", "made by", "ptq", NULL};
    /* 2049 and 1 + 2^-8 lie halfway between two neighbours of F16 and BF16: to the even one. */
    const float v[10] = {2049,        -1.5f, INFINITY, 0x1.fffffep127f, -0.0f, 1e-45f, 3,
                         1 + 0x1p-8f, -7,    42};
    struct ptq_st_writer *w;
    char path[TEST_PATH];
    float x[4];
    test_path(f->folder, "w.safetensors", path);
    assert_ok(ptq_st_create(&w, path, entries, LENGTH(entries), metadata, &f->st), &f->st);
    assert_ok(ptq_st_write(w, v, 5, &f->st), &f->st); /* ends inside of a tensor */
    assert_ok(ptq_st_write(w, v + 5, 5, &f->st), &f->st);
    assert_false(exists(f->folder, "w.safetensors"));
    assert_ok(ptq_st_finish(w, true, &f->st), &f->st);
    assert_false(exists(f->folder, "w.safetensors.tmp"));

    struct ptq_tensors *t = open_ok(f->folder, "w.safetensors", &f->st);
    assert_int_equal(t->n, LENGTH(entries));
    for (int64_t i = 0, at = 0; i < t->n; i++) {
        const struct ptq_tensor *a = ptq_tensors_find(t, entries[i].name);
        assert_non_null(a);
        assert_string_equal(a->type, words[entries[i].type]);
        assert_int_equal(a->rank, entries[i].rank);
        assert_memory_equal(a->dim, entries[i].dim, (size_t)a->rank * sizeof *a->dim);
        assert_ok(ptq_tensors_read(t, a, 0, a->n, x, &f->st), &f->st);
        for (int64_t k = 0; k < a->n; k++, at++) {
            float want = at == 0 ? 2048 : at == 7 ? 1 : v[at];
            assert_memory_equal(&x[k], &want, sizeof want);
        }
    }
    ptq_tensors_close(t);
}

/* Byte for byte: what the layout of the file is, by the format's description. F32 before F16, so
 * that each lies on a multiple of its width. */
static void written_bytes(void **state)
{
    struct fixture *f = *state;
    const struct ptq_st_entry e[] = {{"h", PTQ_ST_F16, 1, {1}}, {"f", PTQ_ST_F32, 1, {1}}};
    const float v[2] = {1, 2};
    const char header[] = "{\"h\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[4,6]},"
                          "\"f\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}     ";
    unsigned char want[8 + sizeof header - 1 + 6] = {sizeof header - 1}, got[256];
    struct ptq_st_writer *w;
    char path[TEST_PATH];
    test_path(f->folder, "w.safetensors", path);
    assert_ok(ptq_st_create(&w, path, e, 2, NULL, &f->st), &f->st);
    assert_ok(ptq_st_write(w, v, 2, &f->st), &f->st);
    assert_ok(ptq_st_finish(w, true, &f->st), &f->st);
    memcpy(want + 8, header, sizeof header - 1);
    memcpy(want + 8 + sizeof header - 1, "\0\0\0\x40\0\x3c", 6);
    FILE *in = fopen(path, "rb");
    assert_int_equal(fread(got, 1, sizeof got, in), sizeof want);
    fclose(in);
    assert_memory_equal(got, want, sizeof want);
}

static void nothing_is_left_of_a_failure(void **state)
{
    struct fixture *f = *state;
    const struct ptq_st_entry half = {"w", PTQ_ST_F16, 1, {2}}, brain = {"w", PTQ_ST_BF16, 1, {2}},
                              full = {"w", PTQ_ST_F32, 1, {2}};
    const float big[2] = {1, 65520}, biggest[2] = {1, 0x1.fffffep127f}, fine[2] = {1, 65519};
    struct ptq_st_writer *w;
    char path[TEST_PATH];
    test_path(f->folder, "w.safetensors", path);
    put_text(f->folder, "w.safetensors", "old");
    assert_ok(ptq_st_create(&w, path, &half, 1, NULL, &f->st), &f->st);
    assert_int_equal(ptq_st_write(w, big, 2, &f->st), PTQ_ERR_NUMERIC);
    assert_status(&f->st, PTQ_ERR_NUMERIC,
                  "tensor w: value 1 is 65520, more than F16 holds; write it as F32");
    assert_int_equal(ptq_st_finish(w, true, &f->st), PTQ_ERR_NUMERIC);
    assert_false(exists(f->folder, "w.safetensors.tmp"));
    struct stat info;
    assert_true(stat(path, &info) == 0 && info.st_size == 3); /* the old file is untouched */

    ptq_status_clear(&f->st);
    assert_ok(ptq_st_create(&w, path, &brain, 1, NULL, &f->st), &f->st);
    assert_int_equal(ptq_st_write(w, biggest, 2, &f->st), PTQ_ERR_NUMERIC);
    assert_int_equal(ptq_st_finish(w, false, &f->st), PTQ_ERR_NUMERIC);
    ptq_status_clear(&f->st);
    assert_ok(ptq_st_create(&w, path, &half, 1, NULL, &f->st), &f->st);
    assert_ok(ptq_st_write(w, fine, 2, &f->st), &f->st); /* 65519 rounds down to 65504 */
    assert_ok(ptq_st_finish(w, false, &f->st), &f->st);
    assert_true(stat(path, &info) == 0 && info.st_size == 3);
    assert_false(exists(f->folder, "w.safetensors.tmp"));

    test_path(f->folder, "absent/w.safetensors", path);
    assert_int_equal(ptq_st_create(&w, path, &full, 1, NULL, &f->st), PTQ_ERR_IO);
    assert_null(w);
    assert_status(&f->st, PTQ_ERR_IO, "cannot write: No such file or directory");
}

static void names_that_cannot_be_written(void **state)
{
    struct fixture *f = *state;
    struct ptq_st_entry e[2] = {{"a", PTQ_ST_F32, 1, {1}}, {"a", PTQ_ST_F32, 1, {1}}};
    struct ptq_st_writer *w;
    char path[TEST_PATH];
    test_path(f->folder, "w.safetensors", path);
    ptq_st_create(&w, path, e, 2, NULL, &f->st);
    assert_status(&f->st, PTQ_ERR_USAGE, "tensor a cannot be written: the name is taken");
    e[1].name = "\xff";
    ptq_status_clear(&f->st);
    ptq_st_create(&w, path, e, 2, NULL, &f->st);
    assert_status(&f->st, PTQ_ERR_USAGE, "tensor \xff cannot be written: the name is no UTF-8");
    e[1] = (struct ptq_st_entry){"big", PTQ_ST_F32, 2, {INT64_MAX / 2, 3}};
    ptq_status_clear(&f->st);
    ptq_st_create(&w, path, e, 2, NULL, &f->st);
    assert_status(&f->st, PTQ_ERR_USAGE, "tensor big cannot be written: its shape overflows");
    assert_false(exists(f->folder, "w.safetensors.tmp"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(types_of_the_library),
        TEST(values_are_rounded),
        TEST(ranges),
        TEST(shards_and_one_file_have_one_key),
        TEST(folders_that_do_not_fit),
        TEST(configs_that_do_not_fit),
        TEST(hostile_headers),
        TEST(too_many_values),
        TEST(file_that_shrinks),
        TEST(round_trip),
        TEST(written_bytes),
        TEST(nothing_is_left_of_a_failure),
        TEST(names_that_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
