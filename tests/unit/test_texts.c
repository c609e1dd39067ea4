/* Known texts (configs/texts.ini): found, checked, joined; what is said of wrong and absent ones.
 */
#include "model/text.h"
#include "model/textfile.h"
#include "testlib.h"

static const struct ptq_model_info model = {
    .name = "m", .vocab_size = 256, .max_context = 2048, .tokenizer = "bytes"};

struct fixture {
    struct ptq_arena arena;
    struct ptq_status st;
    char dir[TEST_PATH];
    struct ptq_text t;
};

static void setup(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    ptq_arena_init(&f->arena, 0);
    test_tmpdir(f->dir);
    setenv("PTQ_TEXTS", f->dir, 1);
}

static void teardown(struct fixture *f)
{
    ptq_arena_clear(&f->arena);
    test_rmdir(f->dir);
    unsetenv("PTQ_TEXTS");
}

static void put(const struct fixture *f, const char *name, const char *text, int64_t bytes)
{
    char path[TEST_PATH];
    test_path(f->dir, name, path);
    FILE *h = fopen(path, "wb");
    assert_non_null(h);
    assert_int_equal(fwrite(text, 1, (size_t)bytes, h), bytes);
    assert_int_equal(fclose(h), 0);
}

static int load(struct fixture *f, struct ptq_text_request ask)
{
    ptq_status_clear(&f->st);
    return ptq_text_load(&model, &ask, &f->arena, &f->t, &f->st);
}

static void check_ids(const struct fixture *f, const char *want)
{
    assert_int_equal(f->t.tokens.n_total, (int64_t)strlen(want));
    for (int64_t i = 0; want[i]; i++)
        assert_int_equal(f->t.tokens.id[i], (unsigned char)want[i]);
}

/* ../shared/oracle/smollm2/reference.json: test_text_bytes, test_text_sha256. */
static void test_wikitext_joined(void **state)
{
    (void)state;
    TEST_SHARED_OR_SKIP(path, "data/text/wiki.test.raw");
    struct fixture f;
    struct ptq_textfile file;
    char *text, hash[PTQ_SHA256_CHARS];
    int64_t bytes;
    setup(&f);
    *strrchr(path, '/') = 0;
    setenv("PTQ_TEXTS", path, 1);
    const struct ptq_textfile_request ask = {.source = "wikitext2"};
    assert_ok(ptq_textfile_open(&ask, &f.arena, &file, &f.st), &f.st);
    assert_string_equal(file.name, "wikitext2:test");
    assert_true(file.verified);
    assert_ok(ptq_text_rows_joined(&file, &text, &bytes, &f.st), &f.st);
    assert_int_equal(bytes, 1296370);
    ptq_sha256(text, (size_t)bytes, hash);
    assert_string_equal(hash, "696cca6b65a171b0a358a4be6732cdfdf2dd6164a32e20fd70e3c13fc4dfae83");
    free(text);
    ptq_textfile_close(&file);
    /* floor(1,296,370 / 2048) windows */
    assert_ok(load(&f, (struct ptq_text_request){"wikitext2", .protocol = "gptq-2048"}), &f.st);
    assert_int_equal(f.t.tokens.n_seq, 632);
    assert_string_equal(f.t.family, "wikitext");
    assert_true(f.t.verified && !f.t.note && !f.t.fallback);
    /* the raw file under a path is the known text too */
    char whole[TEST_PATH + 16];
    snprintf(whole, sizeof whole, "%s/wiki.valid.raw", path);
    assert_ok(load(&f, (struct ptq_text_request){whole, 1, .protocol = "gptq-2048"}), &f.st);
    assert_string_equal(f.t.name, "wikitext2:valid");
    assert_string_equal(f.t.source, whole);
    teardown(&f);
}

/* ---- wrong files */

struct text {
    char *at;
    int64_t n;
};

static struct text read_shared(const char *path)
{
    FILE *h = fopen(path, "rb");
    assert_non_null(h);
    struct text t = {malloc(3 << 20), 0};
    assert_non_null(t.at);
    t.n = (int64_t)fread(t.at, 1, 3 << 20, h);
    fclose(h);
    return t;
}

/* Every line is written by how(), which gets it without its newline. */
static struct text rewrite(const struct text *t,
                           int64_t (*how)(const char *line, int64_t n, char *to))
{
    struct text out = {malloc(8 << 20), 0};
    assert_non_null(out.at);
    for (int64_t at = 0; at < t->n;) {
        int64_t n = (const char *)memchr(t->at + at, '\n', (size_t)(t->n - at)) - (t->at + at);
        out.n += how(t->at + at, n, out.at + out.n);
        at += n + 1;
    }
    return out;
}

static int64_t line(const char *text, int64_t n, const char *end, char *to)
{
    memcpy(to, text, (size_t)n);
    memcpy(to + n, end, strlen(end));
    return n + (int64_t)strlen(end);
}
static bool is_blank(const char *text, int64_t n)
{
    return n == 1 && *text == ' ';
}
static int64_t as_it_is(const char *text, int64_t n, char *to)
{
    return line(text, n, "\n", to);
}
static int64_t crlf(const char *text, int64_t n, char *to)
{
    return line(text, n, "\r\n", to);
}
static int64_t empty(const char *text, int64_t n, char *to)
{
    return line(text, is_blank(text, n) ? 0 : n, "\n", to);
}
static int64_t empty_crlf(const char *text, int64_t n, char *to)
{
    return line(text, is_blank(text, n) ? 0 : n, "\r\n", to);
}
static int64_t doubled(const char *text, int64_t n, char *to)
{
    return line(text, n, "\n\n", to);
}
static int64_t printed(const char *text, int64_t n, char *to) /* print(row) */
{
    return is_blank(text, n) ? line(text, 0, "\n", to) : line(text, n, "\n\n", to);
}
static int64_t dropped(const char *text, int64_t n, char *to)
{
    return is_blank(text, n) ? 0 : line(text, n, "\n", to);
}
static int64_t changed(const char *text, int64_t n, char *to)
{
    int64_t bytes = line(text, n, "\n", to);
    if (n > 10)
        to[5] = '#';
    return bytes;
}

static void expect(struct fixture *f, const struct text *t, const char *part)
{
    put(f, "wiki.valid.raw", t->at, t->n);
    assert_int_equal(load(f, (struct ptq_text_request){"wikitext2:valid", 1}), PTQ_ERR_USAGE);
    assert_status(&f->st, PTQ_ERR_USAGE, "not the text wikitext2:valid: its sha256 is ");
    assert_status(&f->st, PTQ_ERR_USAGE, "expected 4cd0f6876d07a413");
    assert_status(&f->st, PTQ_ERR_USAGE, part);
}

static void test_wrong(void **state)
{
    (void)state;
    TEST_SHARED_OR_SKIP(path, "data/text/wiki.valid.raw");
    static const struct {
        int64_t (*how)(const char *, int64_t, char *);
        const char *said;
    } cases[] = {
        {crlf, "it has lines that end in CR LF; repair it with: sed -i 's/\\r$//' FILE"},
        {empty, "it has blank lines without their space; repair it with: sed -i 's/^$/ /' FILE"},
        {empty_crlf, "it has lines that end in CR LF, blank lines without their space; repair it "
                     "with: sed -i 's/\\r$//' FILE && sed -i 's/^$/ /' FILE"},
        {doubled, "it has every line end doubled; repair it with: sed -i 'n;d' FILE"},
        {printed, "it has a blank line behind every row of text, as printed rows have"},
        {dropped, "its lines of text are the right ones, but blank lines"},
        {changed, "get the file anew"},
    };
    struct fixture f;
    setup(&f);
    struct text right = read_shared(path);
    for (int i = 0; i < LENGTH(cases); i++) {
        struct text wrong = rewrite(&right, cases[i].how);
        expect(&f, &wrong, cases[i].said);
        free(wrong.at);
    }
    struct text t = rewrite(&right, as_it_is);
    t.n--;
    expect(&f, &t, "it has no newline at its end; repair it with: echo >> FILE");
    t.at[t.n++] = '\n';
    t.at[t.n++] = '\n';
    expect(&f, &t, "it has one newline too many at its end; repair it with: truncate -s -1 FILE");
    memmove(t.at + 3, right.at, (size_t)right.n);
    memcpy(t.at, "\xef\xbb\xbf", 3);
    t.n = right.n + 3;
    expect(&f, &t, "it has a byte-order mark; repair it with: sed -i '1s/^\\xEF\\xBB\\xBF//' FILE");
    /* as it is it is taken; under a path the wrong one is a text of its own, and that is said */
    put(&f, "wiki.valid.raw", right.at, right.n);
    assert_ok(load(&f, (struct ptq_text_request){"wikitext2:valid", 1}), &f.st);
    put(&f, "wiki.valid.raw", right.at, right.n - 1);
    char own[TEST_PATH + 16];
    snprintf(own, sizeof own, "%s/wiki.valid.raw", f.dir);
    assert_ok(load(&f, (struct ptq_text_request){own, 1}), &f.st);
    assert_true(f.t.note && strstr(f.t.note, "called like wikitext2:valid") &&
                strstr(f.t.note, "echo >> FILE"));
    assert_null(f.t.family);
    /* rows joined already */
    struct ptq_textfile file = {
        .path = "f", .text = right.at, .bytes = right.n, .rows = PTQ_ROWS_WIKITEXT, .join = "\n\n"};
    struct text joined;
    assert_ok(ptq_text_rows_joined(&file, &joined.at, &joined.n, &f.st), &f.st);
    expect(&f, &joined, "it is the text with its rows joined already: give the raw file");
    free(joined.at);
    free(t.at);
    free(right.at);
    teardown(&f);
}

/* ---- rows and joins */

static void test_ptb(void **state)
{
    (void)state;
    static const char rows[] = " no it was n't \n  <unk> N \n\n last";
    struct fixture f;
    setup(&f);
    put(&f, "ptb.test.txt", rows, sizeof rows - 1);
    put(&f, "ptb.valid.txt", rows, sizeof rows - 1);
    assert_ok(load(&f, (struct ptq_text_request){"ptb_new", .protocol = "gptq-14", .n_seq = 1}),
              &f.st);
    check_ids(&f, "no it was n't "); /* of "no it was n't <unk> N  last" */
    assert_ok(load(&f, (struct ptq_text_request){"ptb_new", .protocol = "gptq-27"}), &f.st);
    check_ids(&f, "no it was n't <unk> N  last");
    assert_string_equal(f.t.name, "ptb_new:test");
    assert_string_equal(f.t.family, "ptb");
    assert_false(f.t.verified);
    assert_true(f.t.note && strstr(f.t.note, "unverified, sha256") && strstr(f.t.note, f.t.sha256));
    assert_ok(load(&f, (struct ptq_text_request){"ptb", .protocol = "gptq-30"}), &f.st);
    check_ids(&f, "no it was n't\n\n<unk> N\n\n\n\nlast");
    assert_non_null(strstr(f.t.rules, "joined with \"\\n\\n\""));
    put(&f, "ptb.test.txt", "a\r\nb\r\n", 6);
    assert_int_equal(load(&f, (struct ptq_text_request){"ptb_new", .window = 2}), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "lines end in CR LF");
    assert_int_equal(load(&f, (struct ptq_text_request){"ptb_new:tests"}), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "unknown split 'tests'; the text ptb_new has: test train");
    assert_int_equal(load(&f, (struct ptq_text_request){"ptb_new", 1, 2, "first"}), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "ptb_new:train is not here: put ptb.train.txt into");
    teardown(&f);
}

/* c4: 256 crops; the first four by CPython: random.seed(0); rows randint(0, 2) until one is longer
 * than 6, then a position randint(0, bytes - 6 - 1). c4_new: documents joined with a space. */
static void test_c4(void **state)
{
    (void)state;
    static const char rows[] = "{\"text\":\"abcdefghijkl\"}\n{\"text\":\"mnop\"}\n"
                               "{\"text\":\"qrstuvwxyz0123\"}\n";
    struct fixture f;
    setup(&f);
    put(&f, "c4-validation.00000-of-00008.json", rows, sizeof rows - 1);
    assert_ok(load(&f, (struct ptq_text_request){"c4", 4, .protocol = "gptq-6"}), &f.st);
    check_ids(&f, "cdefgh"
                  "xyz012"
                  "tuvwxy"
                  "stuvwx");
    assert_string_equal(f.t.protocol, "gptq-6/first4");
    assert_non_null(
        strstr(f.t.rules, "256 windows of N = 6 by the rule gptq-documents with seed 0"));
    assert_ok(load(&f, (struct ptq_text_request){"c4", .protocol = "gptq-6"}), &f.st);
    assert_int_equal(f.t.tokens.n_seq, 256);
    assert_string_equal(f.t.protocol, "gptq-6");
    assert_ok(load(&f, (struct ptq_text_request){"c4_new", .protocol = "gptq-16"}), &f.st);
    check_ids(&f, "abcdefghijkl mnop qrstuvwxyz0123");
    put(&f, "c4-train.00000-of-01024.json.gz", "x", 1);
    assert_int_equal(load(&f, (struct ptq_text_request){"c4:train", .window = 6}), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "packed; unpack it: gunzip -k");
    teardown(&f);
}

/* c4_new takes 1100 documents and 256 windows. */
static void test_c4_most(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    char *rows = malloc(1 << 20);
    assert_non_null(rows);
    int64_t n = 0;
    for (int i = 0; i < 1200; i++)
        n += sprintf(rows + n, "{\"text\": \"%04d\"}\n", i);
    put(&f, "c4-validation.00000-of-00008.json", rows, n);
    free(rows);
    assert_ok(load(&f, (struct ptq_text_request){"c4_new", .protocol = "gptq-25"}), &f.st);
    assert_int_equal(f.t.tokens.n_seq, 219); /* (1100 * 5 - 1) / 25 */
    assert_ok(load(&f, (struct ptq_text_request){"c4_new", .protocol = "gptq-20"}), &f.st);
    assert_int_equal(f.t.tokens.n_seq, 256); /* of 274 */
    assert_string_equal(f.t.protocol, "gptq-20");
    teardown(&f);
}

/* ---- absent texts, and the one that stands in */

static void test_absent(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    assert_int_equal(load(&f, (struct ptq_text_request){"wikitext2"}), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE,
                  "wikitext2:test is not here: put wiki.test.raw into $PTQ_TEXTS");
    assert_int_equal(load(&f, (struct ptq_text_request){"wikitxt2"}), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "did you mean 'wikitext2'");
    assert_int_equal(load(&f, (struct ptq_text_request){"text:wikitext2"}), PTQ_ERR_USAGE);
    teardown(&f);
}

static void test_prose(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    struct ptq_text_request ask = {"wikitext2", .protocol = "gptq-2048", .fallback = true};
    int rc = load(&f, ask);
    if (rc) { /* the package is not installed: it is named */
        assert_status(&f.st, PTQ_ERR_USAGE, "wikitext2:test is not here");
        assert_status(&f.st, PTQ_ERR_USAGE, "dasher-data");
        teardown(&f);
        return;
    }
    assert_string_equal(f.t.protocol, "prose-2048");
    assert_string_equal(f.t.name, "prose:eval");
    assert_string_equal(f.t.family, "prose");
    assert_true(f.t.fallback && f.t.note && strstr(f.t.note, "wikitext2:test is not here"));
    ask.protocol = "llamacpp-512";
    assert_ok(load(&f, ask), &f.st);
    assert_string_equal(f.t.protocol, "prose-llamacpp-512");
    /* calibration is the rest of the file: 60 % of it, up to a line's end */
    struct ptq_textfile part[2];
    for (int i = 0; i < 2; i++) {
        const struct ptq_textfile_request one = {
            .source = "c4", .calibration = i == 0, .fallback = true};
        assert_ok(ptq_textfile_open(&one, &f.arena, &part[i], &f.st), &f.st);
    }
    assert_string_equal(part[0].name, "prose:calib");
    assert_int_equal(part[0].bytes + part[1].bytes, 318595); /* of the file, by ls */
    assert_true(part[0].bytes >= 191157 && part[0].bytes < 193000);
    assert_int_equal(part[0].text[part[0].bytes - 1], '\n');
    assert_memory_equal(part[0].data + part[0].bytes, part[1].text, 100);
    ptq_textfile_close(&part[0]);
    ptq_textfile_close(&part[1]);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wikitext_joined),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_ptb),
        cmocka_unit_test(test_c4),
        cmocka_unit_test(test_c4_most),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_prose),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
