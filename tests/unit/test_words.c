#include "testlib.h"
#include "core/words.h"

static struct ptq_arena arena;
static struct ptq_status st;

static int setup(void **state)
{
    (void)state;
    ptq_arena_init(&arena, 0);
    ptq_status_clear(&st);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ptq_arena_clear(&arena);
    return 0;
}

static void good_list(const char *text, const int64_t *want, int64_t n_want)
{
    int64_t *list, n;
    assert_ok(ptq_list_i64(text, "bits", &arena, &list, &n, &st), &st);
    assert_int_equal(n, n_want);
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(list[i], want[i]);
}

static void bad_list(const char *text, const char *message)
{
    int64_t *list, n;
    ptq_status_clear(&st);
    assert_int_equal(ptq_list_i64(text, "x.ini:3: bits", &arena, &list, &n, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, message);
    assert_status(&st, PTQ_ERR_USAGE, "x.ini:3: bits");
}

static void lists_of_whole_numbers(void **state)
{
    (void)state;
    good_list("2-4,8", (int64_t[]){2, 3, 4, 8}, 4);
    good_list(" -1 , 128,64 ", (int64_t[]){-1, 128, 64}, 3);
    good_list("0-0", (int64_t[]){0}, 1);
    good_list("9223372036854775807", (int64_t[]){INT64_MAX}, 1);
    good_list("9223372036854775806-9223372036854775807", (int64_t[]){INT64_MAX - 1, INT64_MAX}, 2);
    good_list("", NULL, 0);
    good_list(" \t", NULL, 0);
}

static void bad_lists_of_whole_numbers(void **state)
{
    (void)state;
    bad_list("2,,3", "field 2 of 3 is empty");
    bad_list("2,", "field 2 of 2 is empty");
    bad_list("2,three", "'three' is not a whole number or a range");
    bad_list("4-2", "'4-2' is not");
    bad_list("-4--2", "'-4--2' is not");
    bad_list("2 - 4", "'2 - 4' is not");
    bad_list("1.5", "'1.5' is not");
    bad_list("0x10", "'0x10' is not");
    bad_list("+3", "'+3' is not");
    bad_list("9223372036854775808", "is not");
    bad_list("00000000000000000000000000000000000000000-4", "is not");
    bad_list("2,3,1-2", "2 stands twice");
    bad_list("0-4096", "more than 4096 values");
    bad_list("0-9223372036854775807", "more than 4096 values");
    bad_list("5,0-9223372036854775807", "more than 4096 values");
}

static void lists_of_numbers(void **state)
{
    (void)state;
    double *list;
    int64_t n;
    assert_ok(ptq_list_f64("0.01, -2e3,.5", "percdamp", &arena, &list, &n, &st), &st);
    assert_int_equal(n, 3);
    assert_true(list[0] == 0.01 && list[1] == -2000 && list[2] == .5);
    static const char *const bad[] = {"nan", "1,inf", "0x1p3", "1e999",
                                      "1e",  "--1",   "1 2",   "1,1.0"};
    for (int64_t i = 0; i < LENGTH(bad); i++) {
        ptq_status_clear(&st);
        assert_int_equal(ptq_list_f64(bad[i], "percdamp", &arena, &list, &n, &st), PTQ_ERR_USAGE);
        assert_status(&st, PTQ_ERR_USAGE, "percdamp: ");
        assert_int_equal(n, 0);
    }
}

static void splitting(void **state)
{
    (void)state;
    char **f;
    int64_t n;
    assert_ok(ptq_split(" rtn | gptq:act_order=1 |x y", '|', "methods", &arena, &f, &n, &st), &st);
    assert_int_equal(n, 3);
    assert_string_equal(f[0], "rtn");
    assert_string_equal(f[1], "gptq:act_order=1");
    assert_string_equal(f[2], "x y");
    assert_int_equal(ptq_split("a|", '|', "methods", &arena, &f, &n, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "methods: field 2 of 2 is empty; remove one '|'");
    assert_int_equal(n, 0);
}

static void whole_numbers(void **state)
{
    (void)state;
    int64_t v = 77;
    assert_ok(ptq_parse_i64("-9223372036854775808", "seed", INT64_MIN, INT64_MAX, &v, &st), &st);
    assert_true(v == INT64_MIN);
    assert_int_equal(ptq_parse_i64("9", "threads", 1, 8, &v, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "threads: 9 is outside 1 .. 8");
    assert_true(v == INT64_MIN); /* untouched */
    static const char *const bad[] = {"", " 1", "1 ", "1x", "-", "1e3", "99999999999999999999"};
    for (int64_t i = 0; i < LENGTH(bad); i++) {
        ptq_status_clear(&st);
        assert_int_equal(ptq_parse_i64(bad[i], "threads", 0, INT64_MAX, &v, &st), PTQ_ERR_USAGE);
        assert_status(&st, PTQ_ERR_USAGE, "is not a whole number");
    }
}

static void real_numbers(void **state)
{
    (void)state;
    double v;
    assert_ok(ptq_parse_f64("1e-2", "percdamp", 0, 1, &v, &st), &st);
    assert_true(v == 0.01);
    assert_int_equal(ptq_parse_f64("-0.5", "percdamp", 0, 1, &v, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "percdamp: -0.5 is outside 0 .. 1");
    ptq_status_clear(&st);
    assert_int_equal(ptq_parse_f64("nan", "percdamp", 0, 1, &v, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "'nan' is not a number");
}

static void truth_values(void **state)
{
    (void)state;
    static const char *const yes[] = {"1", "true", "YES", "On"}, *const no[] = {"0", "False", "no",
                                                                                "OFF"};
    bool b;
    for (int64_t i = 0; i < 4; i++) {
        assert_ok(ptq_parse_bool(yes[i], "sym", &b, &st), &st);
        assert_true(b);
        assert_ok(ptq_parse_bool(no[i], "sym", &b, &st), &st);
        assert_false(b);
    }
    assert_int_equal(ptq_parse_bool("2", "sym", &b, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "sym: '2' is not one of 1 0 true false yes no on off");
}

static void sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {{"65536", 65536},       {"0", 0},
                {"4k", 4096},           {"512M", 536870912},
                {"2G", 2147483648},     {"2GiB", 2147483648},
                {"3TB", 3298534883328}, {"8388607T", 9223370937343148032}};
    static const char *const bad[] = {
        "", "-1", "2X", "2GG", "M", "1.5G", "8388608T", "99999999999999999999", "2 G"};
    int64_t v;
    for (int64_t i = 0; i < LENGTH(good); i++) {
        assert_ok(ptq_parse_bytes(good[i].text, "memory", &v, &st), &st);
        assert_true(v == good[i].bytes);
    }
    for (int64_t i = 0; i < LENGTH(bad); i++) {
        ptq_status_clear(&st);
        assert_int_equal(ptq_parse_bytes(bad[i], "memory", &v, &st), PTQ_ERR_USAGE);
        assert_status(&st, PTQ_ERR_USAGE, "is not a size such as 512M");
    }
}

static const char *const keys[] = {"bits",    "group_size", "sym", "act_order",
                                   "methods", "percdamp",   NULL};

static void nearest(void **state)
{
    (void)state;
    static const struct {
        const char *word, *want;
    } near[] = {{"bit", "bits"},
                {"GROUP-SIZE", "group_size"},
                {"groupsize", "group_size"},
                {"actorder", "act_order"},
                {"mehtods", "methods"},
                {"perc_damp", "percdamp"},
                {"sim", "sym"},
                {"ym", "sym"},
                {"bits", "bits"}};
    static const char *const far[] = {"", "x", "temperature", "zz",
                                      "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"
                                      "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"};
    for (int64_t i = 0; i < LENGTH(near); i++) {
        const char *got = ptq_nearest(near[i].word, keys);
        assert_non_null(got);
        assert_string_equal(got, near[i].want);
    }
    for (int64_t i = 0; i < LENGTH(far); i++)
        assert_null(ptq_nearest(far[i], keys));
    assert_null(ptq_nearest("bits", (const char *const[]){NULL}));
    /* Half of the letters differ: no help. */
    assert_null(ptq_nearest("nope", (const char *const[]){"opq", "pq", NULL}));
    assert_string_equal(ptq_nearest("x-Y", (const char *const[]){"xzy", "x_y", NULL}), "x_y");
    /* Swapped neighbours cost 1, a replaced letter 1: of two equally near words the first. */
    assert_string_equal(ptq_nearest("abdc", (const char *const[]){"axyc", "abcd", "abce", NULL}),
                        "abcd");
}

static void unknown_words(void **state)
{
    (void)state;
    assert_int_equal(
        ptq_unknown_word("method", "gtpq", (const char *const[]){"rtn", "gptq", NULL}, &st),
        PTQ_ERR_USAGE);
    assert_string_equal(st.text, "unknown method 'gtpq'; did you mean 'gptq'? valid: rtn, gptq");
    ptq_status_clear(&st);
    ptq_unknown_word_at("a.ini:7", "metric", "zzz", (const char *const[]){"w_mse", NULL}, &st);
    assert_string_equal(st.text, "a.ini:7: unknown metric 'zzz'; valid: w_mse");
    ptq_status_clear(&st);
    ptq_unknown_word("verb", "a\nb\033[2J", (const char *const[]){NULL}, &st);
    assert_string_equal(st.text, "unknown verb 'a?b?[2J'; valid: none");
}

static void long_words_and_lists_are_cut(void **state)
{
    (void)state;
    char word[5000], names[300][16];
    const char *valid[301];
    memset(word, 'w', sizeof word - 1);
    word[sizeof word - 1] = 0;
    for (int i = 0; i < 300; i++) {
        snprintf(names[i], sizeof names[i], "name%03d", i);
        valid[i] = names[i];
    }
    valid[300] = NULL;
    ptq_unknown_word("layer", word, valid, &st);
    assert_status(&st, PTQ_ERR_USAGE, "www...'; valid: name000, name001");
    assert_true(strlen(st.text) < sizeof st.text - 1);
    assert_string_equal(st.text + strlen(st.text) - 5, ", ...");
    char shown[PTQ_PRINTABLE];
    for (int i = 0; i < 4900; i += 2)
        memcpy(word + i, "\xC3\xA9", 2); /* e acute: never cut in its middle */
    for (int start = 0; start < 2; start++) {
        word[0] = 'w';
        ptq_printable(word + start, shown);
        size_t n = strlen(shown);
        assert_true(n < PTQ_PRINTABLE && !strcmp(shown + n - 3, "..."));
        assert_int_equal((unsigned char)shown[n - 4], 0xA9);
    }
}

static void globs(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool match;
    } g[] = {{"*", "", true},
             {"", "", true},
             {"", "a", false},
             {"blk.*.attn_q", "blk.12.attn_q", true},
             {"blk.?", "blk.12", false},
             {"blk.??", "blk.12", true},
             {"*_q", "attn_q_q", true},
             {"*_q", "attn_k", false},
             {"a*b*c", "axbxbxc", true},
             {"a*b*c", "axbxbx", false},
             {"**", "x", true},
             {"?", "", false},
             {"abc", "abd", false},
             {"*.ffn_*", "blk.0.ffn_up", true}};
    for (int64_t i = 0; i < LENGTH(g); i++)
        if (ptq_glob(g[i].pattern, g[i].text) != g[i].match)
            fail_msg("ptq_glob(\"%s\", \"%s\") is wrong", g[i].pattern, g[i].text);
}

static void beginnings_and_ends(void **state)
{
    (void)state;
    assert_true(ptq_starts_with("text:a", "text:"));
    assert_true(ptq_starts_with("text:", "text:"));
    assert_true(ptq_starts_with("a", ""));
    assert_false(ptq_starts_with("text", "text:"));
    assert_false(ptq_starts_with("a text:", "text:"));
    assert_true(ptq_ends_with("a.npy", ".npy"));
    assert_true(ptq_ends_with(".npy", ".npy"));
    assert_true(ptq_ends_with("a", ""));
    assert_false(ptq_ends_with("npy", ".npy"));
    assert_false(ptq_ends_with("a.npy.gz", ".npy"));
}

/* Backtracking over every star would take longer than the universe is old. */
static void a_hostile_glob_ends(void **state)
{
    (void)state;
    char text[20001], pattern[1001];
    memset(text, 'a', 20000);
    text[20000] = 0;
    for (int i = 0; i < 1000; i += 2)
        memcpy(pattern + i, "*a", 2);
    pattern[1000] = 0;
    assert_true(ptq_glob(pattern, text));
    pattern[999] = 'b';
    assert_false(ptq_glob(pattern, text));
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(lists_of_whole_numbers),
        CASE(bad_lists_of_whole_numbers),
        CASE(lists_of_numbers),
        CASE(splitting),
        CASE(whole_numbers),
        CASE(real_numbers),
        CASE(truth_values),
        CASE(sizes),
        CASE(nearest),
        CASE(unknown_words),
        CASE(long_words_and_lists_are_cut),
        CASE(globs),
        CASE(beginnings_and_ends),
        CASE(a_hostile_glob_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
