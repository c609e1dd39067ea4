/* Normal forms and lower case of every code point against the `tokenizers` library (cases "points:"
 * of tests/vectors/tok_spm/ids.json); classes by what Unicode says of single characters. */
#include "model/tok_unicode.h"
#include "tok_vectors.h"

/* Every code point with `behind` after it. */
static struct ptq_text_buffer all_points(const char *behind)
{
    struct ptq_text_buffer b = {0};
    struct ptq_status st = {0};
    for (uint32_t c = 0; c < 0x110000; c++) {
        char utf8[4];
        if (c >= 0xD800 && c < 0xE000)
            continue;
        assert_ok(ptq_text_buffer_add(&b, utf8, ptq_utf8_put(c, utf8), &st), &st);
        assert_ok(ptq_text_buffer_add(&b, behind, (int64_t)strlen(behind), &st), &st);
    }
    return b;
}

static int lower(const char *text, int64_t bytes, struct ptq_text_buffer *out,
                 struct ptq_status *st)
{
    int code = PTQ_OK;
    for (const char *at = text; at < text + bytes && code == PTQ_OK;) {
        uint32_t low[2];
        int n = ptq_unicode_lower(ptq_utf8_next(&at), low);
        for (int i = 0; i < n && code == PTQ_OK; i++) {
            char utf8[4];
            code = ptq_text_buffer_add(out, utf8, ptq_utf8_put(low[i], utf8), st);
        }
    }
    return code;
}

static void check_points(const char *behind, json_t *want, size_t i,
                         int (*form)(const char *, int64_t, struct ptq_text_buffer *,
                                     struct ptq_status *))
{
    struct ptq_text_buffer in = all_points(behind), out = {0};
    struct ptq_status st = {0};
    assert_true(ptq_utf8_valid(in.at, in.n));
    assert_ok(form(in.at, in.n, &out, &st), &st);
    int32_t *point = malloc((size_t)out.n * sizeof *point);
    int64_t n = 0;
    char got[48];
    assert_non_null(point);
    for (const char *at = out.at; at < out.at + out.n;)
        point[n++] = (int32_t)ptq_utf8_next(&at);
    assert_string_equal(tok_digest(point, n, got), json_string_value(json_array_get(want, i)));
    free(point);
    free(in.at);
    free(out.at);
}

static void test_points(void **state)
{
    static const struct {
        const char *name;
        int (*form)(const char *, int64_t, struct ptq_text_buffer *, struct ptq_status *);
    } forms[] = {
        {"points:nfc", ptq_unicode_nfc}, {"points:nfd", ptq_unicode_nfd}, {"points:lower", lower}};
    (void)state;
    json_t *cases = tok_json(TOK_FOLDER "ids.json");
    for (int i = 0; i < LENGTH(forms); i++) {
        json_t *want = tok_expected(cases, forms[i].name);
        check_points("a", want, 0, forms[i].form);
        check_points("\u0301\u0323\u0308", want, 1, forms[i].form);
    }
    json_decref(cases);
}

/* Hangul by Unicode's arithmetic (chapter 3.12): U+AC00 + (L x 21 + V) x 28 + T. */
static void test_hangul(void **state)
{
    (void)state;
    struct ptq_status st = {0};
    struct ptq_text_buffer out = {0};
    assert_ok(ptq_unicode_nfc("\u1112\u1161\u11AB\u1100\u1161", 15, &out, &st), &st);
    assert_int_equal(out.n, 6);
    assert_memory_equal(out.at, "\uD55C\uAC00", 6);
    out.n = 0;
    assert_ok(ptq_unicode_nfd("\uD55C", 3, &out, &st), &st);
    assert_int_equal(out.n, 9);
    assert_memory_equal(out.at, "\u1112\u1161\u11AB", 9);
    free(out.at);
}

/* 400,000 marks on one letter, in the wrong order: linear time, sorted by class (220 before 230).
 */
static void test_many_marks(void **state)
{
    enum { N = 200000 };
    (void)state;
    struct ptq_status st = {0};
    struct ptq_text_buffer in = {0}, out = {0};
    assert_ok(ptq_text_buffer_add(&in, "x", 1, &st), &st);
    for (int i = 0; i < N; i++)
        assert_ok(ptq_text_buffer_add(&in, "\u0301\u0323", 4, &st), &st);
    assert_ok(ptq_unicode_nfd(in.at, in.n, &out, &st), &st);
    assert_int_equal(out.n, in.n);
    assert_memory_equal(out.at + 1 + 2 * (N - 1), "\u0323\u0301", 4);
    free(in.at);
    free(out.at);
}

static void test_classes(void **state)
{
    (void)state;
    assert_true(ptq_unicode_space(0x3000) && ptq_unicode_space('\t') && ptq_unicode_space(0x85));
    assert_false(ptq_unicode_space(0x200B) || ptq_unicode_space('a'));
    assert_true(ptq_unicode_punctuation('$') && ptq_unicode_punctuation(0x2014));
    assert_false(ptq_unicode_punctuation(0x20AC) || ptq_unicode_punctuation(' '));
    assert_true(ptq_unicode_mark(0x301) && !ptq_unicode_mark(0x903)); /* 903 is Mc */
    assert_true(ptq_unicode_other(0) && ptq_unicode_other(0xAD) && ptq_unicode_other(0xFFFD));
    assert_false(ptq_unicode_other('\n') || ptq_unicode_other('a'));
    assert_true(ptq_unicode_chinese(0x4F60) && !ptq_unicode_chinese(0x3042));
}

/* Unicode's table 3-7 of well-formed sequences. */
static void test_utf8(void **state)
{
    static const char *const bad[] = {"\xC3",         "\xC0\x80",         "\xED\xA0\x80",
                                      "\xE0\x80\x80", "\xF4\x90\x80\x80", "\xFF",
                                      "\x80",         "a\xE2\x82",        "\xF0\x8F\xBF\xBF"};
    static const char *const good[] = {"",           "a",         "\u00E9", "\uD7FF\uE000",
                                       "\U0010FFFF", "\U00010000"};
    (void)state;
    for (int i = 0; i < LENGTH(bad); i++)
        assert_false(ptq_utf8_valid(bad[i], (int64_t)strlen(bad[i])));
    for (int i = 0; i < LENGTH(good); i++)
        assert_true(ptq_utf8_valid(good[i], (int64_t)strlen(good[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_points),     cmocka_unit_test(test_hangul),
        cmocka_unit_test(test_many_marks), cmocka_unit_test(test_classes),
        cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
