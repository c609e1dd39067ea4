/* Token sequences: the facts language, text as bytes, ids from text and .npy; what is refused, and
 * how it is said. */
#include "model/text.h"
#include "datasets/facts.h"
#include "testlib.h"

static const struct ptq_model_info bytes_model = {
    .name = "m", .vocab_size = 256, .max_context = 8, .tokenizer = "bytes"};
static const struct ptq_model_info facts_model = {
    .name = "m", .vocab_size = 256, .max_context = 256, .tokenizer = "bytes"};
static const struct ptq_model_info ids_model = {
    .name = "m", .vocab_size = 100, .max_context = 8, .tokenizer = "none"};

struct fixture {
    struct ptq_arena arena;
    struct ptq_status st;
    char dir[TEST_PATH], path[TEST_PATH];
    struct ptq_text t;
};

static void setup(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    ptq_arena_init(&f->arena, 0);
    test_tmpdir(f->dir);
}

static void teardown(struct fixture *f)
{
    ptq_arena_clear(&f->arena);
    test_rmdir(f->dir);
}

static const char *put(struct fixture *f, const char *name, const char *text, size_t bytes)
{
    test_path(f->dir, name, f->path);
    FILE *h = fopen(f->path, "wb");
    assert_non_null(h);
    assert_int_equal(fwrite(text, 1, bytes, h), bytes);
    assert_int_equal(fclose(h), 0);
    return f->path;
}

static int load(struct fixture *f, const struct ptq_model_info *m, const char *source,
                int64_t n_seq, int64_t window)
{
    const struct ptq_text_request ask = {source, n_seq, window};
    ptq_status_clear(&f->st);
    return ptq_text_load(m, &ask, &f->arena, &f->t, &f->st);
}

static void check_lengths(const struct fixture *f, const int64_t *len, int64_t n)
{
    int64_t at = 0;
    assert_int_equal(f->t.tokens.n_seq, n);
    for (int64_t s = 0; s < n; s++) {
        assert_int_equal(f->t.tokens.len[s], len[s]);
        assert_int_equal(f->t.tokens.offset[s], at);
        at += len[s];
    }
    assert_int_equal(f->t.tokens.n_total, at);
}
#define CHECK_LENGTHS(f, ...)                                                                      \
    check_lengths(f, (const int64_t[]){__VA_ARGS__}, LENGTH(((const int64_t[]){__VA_ARGS__})))

static void test_facts(void **state)
{
    (void)state;
    struct fixture f;
    struct ptq_facts_window *w;
    setup(&f);
    assert_ok(load(&f, &facts_model, "synth:facts:4444", 3, 0), &f.st);
    assert_string_equal(f.t.protocol, "facts-256/first3");
    assert_non_null(strstr(f.t.rules, "; 3 windows"));
    assert_ok(ptq_facts_windows(4444, 3, &f.arena, &w, &f.st), &f.st);
    CHECK_LENGTHS(&f, 256, 256, 256);
    for (int i = 0; i < 768; i++)
        assert_int_equal(f.t.tokens.id[i], w[i / 256].text[i % 256]);
    assert_true(f.t.bytes_per_token == 1 && f.t.facts && f.t.facts[2].bits == w[2].bits);
    char key[33];
    memcpy(key, f.t.key, 33);
    assert_ok(load(&f, &facts_model, "synth:facts:4445", 3, 256), &f.st);
    assert_string_not_equal(f.t.key, key);
    assert_ok(load(&f, &facts_model, "synth:facts:4444", 0, 0), &f.st);
    assert_string_equal(f.t.protocol, "facts-256");
    assert_non_null(strstr(f.t.rules, "; 256 windows"));
    assert_int_equal(f.t.tokens.n_seq, 256);
    static const char *const bad[] = {"synth:facts", "synth:facts:", "synth:facts:x",
                                      "synth:facts:-1", "synth:fact:1"};
    for (int i = 0; i < LENGTH(bad); i++)
        assert_int_equal(load(&f, &facts_model, bad[i], 1, 0), PTQ_ERR_USAGE);
    assert_int_equal(load(&f, &facts_model, "synth:facts:1", 1, 128), PTQ_ERR_USAGE);
    assert_int_equal(load(&f, &facts_model, "synth:facts:1", INT64_MAX, 0), PTQ_ERR_USAGE);
    assert_int_equal(load(&f, &ids_model, "synth:facts:1", 1, 0), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "--tokens");
    teardown(&f);
}

static void test_text_file(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    const char *path = put(&f, "t.txt", "abcdefgh\xff\0ijklmnop", 18);
    assert_ok(load(&f, &bytes_model, path, 0, 0), &f.st); /* windows of 8, the rest of 2 dropped */
    CHECK_LENGTHS(&f, 8, 8);
    assert_int_equal(f.t.tokens.id[8], 255);
    assert_int_equal(f.t.tokens.id[9], 0);
    assert_string_equal(f.t.protocol, "bytes-8");
    assert_ok(load(&f, &bytes_model, path, 2, 8), &f.st);
    assert_string_equal(f.t.protocol, "bytes-8");
    assert_ok(load(&f, &bytes_model, path, 1, 5), &f.st);
    assert_string_equal(f.t.protocol, "bytes-5/first1");
    assert_int_equal(load(&f, &bytes_model, path, 0, 9), PTQ_ERR_USAGE);
    assert_int_equal(load(&f, &bytes_model, path, 0, 1), PTQ_ERR_USAGE);
    assert_int_equal(load(&f, &bytes_model, path, -1, 0), PTQ_ERR_USAGE);
    assert_int_equal(load(&f, &ids_model, path, 0, 0), PTQ_ERR_USAGE);
    path = put(&f, "short.txt", "abc", 3);
    assert_int_equal(load(&f, &bytes_model, path, 0, 0), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "short.txt");
    assert_int_equal(load(&f, &bytes_model, "no/such/file", 0, 0), PTQ_ERR_USAGE);
    teardown(&f);
}

/* Drawn positions: below(bytes - window + 1) of splitmix64(seed 0): 16294208416658607535,
 * 7960286522194355700, 487617019471545679 (the generator's published test vector), over 17 - 4 + 1
 * = 14 places: 9, 8, 9. */
static void test_random_windows(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    const struct ptq_text_request ask = {put(&f, "t.txt", "abcdefghijklmnopq", 17), 3, 4, "windows",
                                         0};
    assert_ok(ptq_text_load(&bytes_model, &ask, &f.arena, &f.t, &f.st), &f.st);
    CHECK_LENGTHS(&f, 4, 4, 4);
    for (int i = 0; i < 12; i++)
        assert_int_equal(f.t.tokens.id[i], "jklmijkljklm"[i]);
    assert_string_equal(f.t.protocol, "windows-4/3");
    /* more windows than would fit side by side; none where the file is shorter than one */
    const struct ptq_text_request many = {f.path, 9, 8, "windows", 1};
    assert_ok(ptq_text_load(&bytes_model, &many, &f.arena, &f.t, &f.st), &f.st);
    assert_int_equal(f.t.tokens.n_seq, 9);
    const struct ptq_text_request none = {put(&f, "s.txt", "abc", 3), 9, 8, "windows", 1};
    assert_int_equal(ptq_text_load(&bytes_model, &none, &f.arena, &f.t, &f.st), PTQ_ERR_USAGE);
    teardown(&f);
}

static void test_id_lines(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    static const char text[] = "1 2,3\t4, 5 6 7 8 9 10 11\r\n\n  \n42\n99 0\n7 7 7 7 7 7 7 7";
    const char *path = put(&f, "t.ids", text, sizeof text - 1);
    assert_ok(load(&f, &ids_model, path, 0, 4), &f.st);
    CHECK_LENGTHS(&f, 4, 4, 3, 1, 2, 4, 4);
    static const int32_t want[] = {1,  2,  3, 4, 5, 6, 7, 8, 9, 10, 11,
                                   42, 99, 0, 7, 7, 7, 7, 7, 7, 7,  7};
    assert_memory_equal(f.t.tokens.id, want, sizeof want);
    assert_string_equal(f.t.protocol, "ids-4");
    assert_true(isnan(f.t.bytes_per_token));
    assert_ok(load(&f, &ids_model, path, 5, 4), &f.st);
    CHECK_LENGTHS(&f, 4, 4, 3, 1, 2);
    assert_string_equal(f.t.protocol, "ids-4/first5");
    assert_ok(load(&f, &ids_model, path, 2, 4), &f.st);
    CHECK_LENGTHS(&f, 4, 4);
    put(&f, "one.ids", "1 2 3 4 5", 9);
    assert_ok(load(&f, &ids_model, f.path, 1, 4), &f.st);
    assert_string_equal(f.t.protocol, "ids-4/first1");
    path = put(&f, "t.ids", text, sizeof text - 1);
    assert_ok(load(&f, &ids_model, path, 7, 4), &f.st); /* all there are: not fewer */
    assert_string_equal(f.t.protocol, "ids-4");
    assert_ok(load(&f, &ids_model, path, 0, 0), &f.st);
    CHECK_LENGTHS(&f, 8, 3, 1, 2, 8);

    /* The same ids cut elsewhere are another text; the same ids in another file are the same. */
    char key[33];
    memcpy(key, f.t.key, 33);
    assert_ok(load(&f, &ids_model, path, 0, 4), &f.st);
    assert_string_not_equal(key, f.t.key);
    static const char other[] = "1 2 3 4 5 6 7 8 9 10 11\n42\n99 0\n7 7 7 7 7 7 7 7\n";
    put(&f, "other", other, sizeof other - 1);
    char source[TEST_PATH + 8];
    snprintf(source, sizeof source, "ids:%s", f.path);
    assert_ok(load(&f, &ids_model, source, 0, 0), &f.st);
    assert_string_equal(key, f.t.key);
    teardown(&f);
}

static void test_id_faults(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"1 2\n3 x4\n", "t.ids:2: 'x4' is not a token id"},
        {"1 2\n3 4x\n", "t.ids:2: '4x' is not a token id"},
        {"1 2.5\n", "t.ids:1: '2.5'"},
        {"1 100\n", "t.ids:1: token 2 of the line is 100"},
        {"1 2\n\n4 -1\n", "t.ids:3: token 2 of the line is -1"},
        {"- 3\n", "'-' is not a token id"},
        {"1 99999999999999999999999999\n", "is not a token id"},
        {"1 999999999999\n", "is 999999999999"},
        {"", "no window has a token to score"},
        {"\n \n", "no window has a token to score"},
        {"5\n6\n7", "no window has a token to score"},
    };
    struct fixture f;
    setup(&f);
    for (int i = 0; i < LENGTH(cases); i++) {
        const char *path = put(&f, "t.ids", cases[i].text, strlen(cases[i].text));
        assert_int_equal(load(&f, &ids_model, path, 0, 4), PTQ_ERR_USAGE);
        assert_status(&f.st, PTQ_ERR_USAGE, cases[i].part);
    }
    assert_int_equal(load(&f, &ids_model, put(&f, "t.ids", "1\0002", 3), 0, 4), PTQ_ERR_USAGE);
    teardown(&f);
}

/* A .npy file of version 1, little-endian (its format page: magic, version, header length, padded
 * dictionary). */
static const char *put_npy(struct fixture *f, const char *name, const char *descr,
                           const char *shape, const void *data, size_t bytes)
{
    char file[1024] = "\x93NUMPY\x01\x00v\x00";
    int n = snprintf(file + 10, 128, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }",
                     descr, shape);
    memset(file + 10 + n, ' ', (size_t)(118 - n));
    file[127] = '\n';
    memcpy(file + 128, data, bytes);
    return put(f, name, file, 128 + bytes);
}

static void test_npy(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    const int32_t id[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 99};
    assert_ok(load(&f, &ids_model, put_npy(&f, "a.npy", "<i4", "(2, 5)", id, sizeof id), 0, 4),
              &f.st);
    CHECK_LENGTHS(&f, 4, 1, 4, 1);
    assert_memory_equal(f.t.tokens.id, id, sizeof id);
    assert_ok(load(&f, &ids_model, f.path, 1, 8), &f.st);
    CHECK_LENGTHS(&f, 5);
    assert_string_equal(f.t.protocol, "ids-8/first1");
    assert_ok(load(&f, &ids_model, put_npy(&f, "b.npy", "<i4", "(10,)", id, sizeof id), 0, 8),
              &f.st);
    CHECK_LENGTHS(&f, 8, 2);
    const uint8_t small[3] = {4, 100, 5};
    assert_int_equal(load(&f, &ids_model, put_npy(&f, "c.npy", "|u1", "(1, 3)", small, 3), 0, 8),
                     PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "c.npy:1: token 2 of the line is 100");
    assert_int_equal(
        load(&f, &ids_model, put_npy(&f, "d.npy", "<i4", "(1, 2, 5)", id, sizeof id), 0, 8),
        PTQ_ERR_USAGE);
    assert_int_equal(
        load(&f, &ids_model, put_npy(&f, "e.npy", "<i4", "(1099511627776, 0)", id, 0), 0, 8),
        PTQ_ERR_USAGE);
    assert_int_equal(
        load(&f, &ids_model, put_npy(&f, "g.npy", "<f4", "(10,)", id, sizeof id), 0, 8),
        PTQ_ERR_USAGE);
    assert_int_equal(
        load(&f, &ids_model, put_npy(&f, "h.npy", "<i4", "(11,)", id, sizeof id), 0, 8),
        PTQ_ERR_USAGE);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts),          cmocka_unit_test(test_text_file),
        cmocka_unit_test(test_random_windows), cmocka_unit_test(test_id_lines),
        cmocka_unit_test(test_id_faults),      cmocka_unit_test(test_npy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
