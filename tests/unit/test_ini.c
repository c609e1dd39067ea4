#include "testlib.h"
#include "core/ini.h"
#include "core/rng.h"

static struct ptq_arena arena;
static struct ptq_status st;
static struct ptq_ini ini;

static int setup(void **state)
{
    (void)state;
    ptq_arena_init(&arena, 0);
    ptq_status_clear(&st);
    unsetenv("PTQ_TEST_UNSET");
    setenv("PTQ_TEST_DATA", "/data/llama 7b", 1);
    setenv("HOME", "/home/ada", 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ptq_arena_clear(&arena);
    return 0;
}

static int parse(const char *text)
{
    return ptq_ini_parse("a.ini", text, strlen(text), &arena, &ini, &st);
}

static void expect(const char *section, const char *key, const char *value, int line)
{
    const struct ptq_ini_entry *e = ptq_ini_find(&ini, section, key);
    if (!e)
        fail_msg("[%s] %s is absent", section, key);
    assert_string_equal(e->value, value);
    assert_int_equal(e->line, line);
}

static void expect_error(const char *text, const char *message)
{
    ptq_status_clear(&st);
    assert_int_equal(parse(text), PTQ_ERR_USAGE);
    if (strcmp(st.text, message))
        fail_msg("\"%s\", expected \"%s\"", st.text, message);
}

static void a_whole_file(void **state)
{
    (void)state;
    assert_ok(parse("; sweep of a model\n"
                    "[model]\r\n"
                    "source = synth:facts   ; the demo\r\n"
                    "\tname=tab\n"
                    "\n"
                    "  # indented comment\n"
                    "[ sweep ]\n"
                    "methods = rtn, gptq:percdamp=0.01|0.1\n"
                    "calib.seed = 0,1,2\n"
                    "empty =\n"
                    "text = a;b#c  # cut here\n"
                    "[model]\n"
                    "note = caf\xC3\xA9 = \xE6\x97\xA5 \xF0\x9F\x98\x80"),
              &st);
    assert_int_equal(ini.n, 7);
    assert_string_equal(ini.file, "a.ini");
    expect("model", "source", "synth:facts", 3);
    expect("model", "name", "tab", 4);
    expect("sweep", "methods", "rtn, gptq:percdamp=0.01|0.1", 8);
    expect("sweep", "calib.seed", "0,1,2", 9);
    expect("sweep", "empty", "", 10);
    expect("sweep", "text", "a;b#c", 11);
    expect("model", "note", "caf\xC3\xA9 = \xE6\x97\xA5 \xF0\x9F\x98\x80", 13);
    assert_null(ptq_ini_find(&ini, "sweep", "source"));
    assert_null(ptq_ini_find(&ini, "sweep", "Methods"));
}

static void nothing_and_a_byte_order_mark(void **state)
{
    (void)state;
    assert_ok(parse(""), &st);
    assert_int_equal(ini.n, 0);
    assert_ok(parse("\xEF\xBB\xBF[a]\nb=1"), &st);
    expect("a", "b", "1", 2);
}

static void variables_and_home(void **state)
{
    (void)state;
    assert_ok(parse("[a]\nx = ${PTQ_TEST_DATA}/b${PTQ_TEST_DATA}\ny = ~/models\nz = ~\nu = "
                    "~ada/x\nv = 5$ a~b {c}\n"),
              &st);
    expect("a", "x", "/data/llama 7b/b/data/llama 7b", 2);
    expect("a", "y", "/home/ada/models", 3);
    expect("a", "z", "/home/ada", 4);
    expect("a", "u", "~ada/x", 5);
    expect("a", "v", "5$ a~b {c}", 6);
}

/* A value that came from the environment is not looked at again. */
static void variables_are_not_expanded_twice(void **state)
{
    (void)state;
    setenv("PTQ_TEST_DATA", "${PTQ_TEST_UNSET}", 1);
    assert_ok(parse("[a]\nx = ${PTQ_TEST_DATA}\n"), &st);
    expect("a", "x", "${PTQ_TEST_UNSET}", 2);
}

static void errors_name_file_and_line(void **state)
{
    (void)state;
    expect_error("\n[a]\nb = 1\nb = 2\n",
                 "a.ini:4: [a] b is already set in line 3; remove one of the two");
    expect_error("[a]\nb = 1\n[c]\n[a]\nb = 2",
                 "a.ini:5: [a] b is already set in line 2; remove one of the two");
    expect_error("b = 1", "a.ini:1: 'b = 1' stands before the first [section]; add one above it");
    expect_error(
        "[a]\nbits 3\n",
        "a.ini:2: 'bits 3': expected key = value or [section]; comments begin with ; or #");
    expect_error("[a\nb=1", "a.ini:1: '[a': the section's name is not closed; write [name]");
    expect_error("[]", "a.ini:1: '[]': a section's name is made of letters, digits and . _ -");
    expect_error("[a b]",
                 "a.ini:1: '[a b]': a section's name is made of letters, digits and . _ -");
    expect_error("[a]\n= 3", "a.ini:2: '= 3': a key is made of letters, digits and . _ -");
    expect_error("[a]\nb c = 3", "a.ini:2: 'b c = 3': a key is made of letters, digits and . _ -");
    expect_error("[a]\n\nb = ${PTQ_TEST_UNSET}", "a.ini:3: the environment variable PTQ_TEST_UNSET "
                                                 "is not set; set it or write the value itself");
    expect_error(
        "[a]\nb = ${PTQ",
        "a.ini:2: '${PTQ': ${ is not closed or its name is empty or too long; write ${NAME}");
    expect_error(
        "[a]\nb = ${}",
        "a.ini:2: '${}': ${ is not closed or its name is empty or too long; write ${NAME}");
    expect_error("[a]\nb = \001", "a.ini:2: byte 0x01 is no UTF-8 text; save the file as UTF-8");
    expect_error("[a]\n\nb = caf\xE9",
                 "a.ini:3: byte 0xE9 is no UTF-8 text; save the file as UTF-8");
}

static void only_utf8_is_text(void **state)
{
    (void)state;
    static const char *const bad[] = {"\x80",
                                      "\xC0\x80",
                                      "\xC1\xBF",
                                      "\xE0\x9F\xBF",
                                      "\xED\xA0\x80",
                                      "\xF0\x8F\xBF\xBF",
                                      "\xF4\x90\x80\x80",
                                      "\xF8\x88\x80\x80\x80",
                                      "\xE6\x97",
                                      "\x7F",
                                      "\033[2J"};
    for (int64_t i = 0; i < LENGTH(bad); i++) {
        ptq_status_clear(&st);
        assert_int_equal(parse(bad[i]), PTQ_ERR_USAGE);
        assert_status(&st, PTQ_ERR_USAGE, "a.ini:1: byte 0x");
    }
    ptq_status_clear(&st);
    assert_int_equal(ptq_ini_parse("a.ini", "[a]\nb=\0", 7, &arena, &ini, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "a.ini:2: byte 0x00");
}

static void no_home(void **state)
{
    (void)state;
    unsetenv("HOME");
    expect_error("[a]\nb = ~/x", "a.ini:2: ~ stands for a folder that HOME does not name; set HOME "
                                 "or write the folder itself");
}

/* ---- untrusted files ---- */

static void long_lines(void **state)
{
    (void)state;
    enum { N = 900000 };
    char *text = malloc(N + 1);
    memset(text, 'v', N);
    text[N] = 0;
    memcpy(text, "[a]\nb = ", 8);
    assert_ok(parse(text), &st);
    assert_int_equal(strlen(ptq_ini_find(&ini, "a", "b")->value), N - 8);
    free(text);
}

static void limits(void **state)
{
    (void)state;
    char *text = malloc(2 << 20);
    size_t n = (size_t)sprintf(text, "[a]\n");
    for (int i = 0; i < 4096; i++)
        n += (size_t)sprintf(text + n, "k%d=\n", i);
    assert_ok(parse(text), &st);
    assert_int_equal(ini.n, 4096);
    sprintf(text + n, "one_more=\n");
    expect_error(text, "a.ini:4098: more than 4096 entries; is this a configuration file?");
    memset(text, '\n', 2 << 20);
    ptq_status_clear(&st);
    assert_int_equal(ptq_ini_parse("a.ini", text, (1 << 20) + 1, &arena, &ini, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "a.ini: more than 1048576 bytes");
    free(text);
}

/* 100 kB of environment, 1000 times: 100 MB from 20 kB of file. */
static void expansion_is_limited(void **state)
{
    (void)state;
    char *big = malloc(100001), *text = malloc(100000);
    memset(big, 'x', 100000);
    big[100000] = 0;
    setenv("PTQ_TEST_DATA", big, 1);
    size_t n = (size_t)sprintf(text, "[a]\nb = ");
    for (int i = 0; i < 1000; i++)
        n += (size_t)sprintf(text + n, "${PTQ_TEST_DATA}");
    expect_error(
        text,
        "a.ini:2: the values grow beyond 4 MiB when their ${...} are filled in; shorten them");
    setenv("PTQ_TEST_DATA", "", 1);
    free(big);
    free(text);
}

/* A valid file with random bytes changed: parsed or refused with a message, never a crash. */
static void random_damage(void **state)
{
    (void)state;
    static const char good[] =
        "[model]\nsource = ${HOME}/x ; c\n[sweep]\nbits = 2-4,8\nmethods = rtn, gptq\n";
    static const char bytes[] = "[]=;#${}~\n\r\t .'\0\xC3\xFFkv";
    struct ptq_rng r = {1};
    char text[sizeof good];
    int refused = 0;
    for (int i = 0; i < 20000; i++) {
        memcpy(text, good, sizeof good);
        for (uint64_t k = ptq_rng_below(&r, 6); k > 0; k--)
            text[ptq_rng_below(&r, sizeof good - 1)] = bytes[ptq_rng_below(&r, sizeof bytes - 1)];
        ptq_status_clear(&st);
        int code = ptq_ini_parse("a.ini", text, ptq_rng_below(&r, sizeof good), &arena, &ini, &st);
        if (code == PTQ_OK)
            code = ptq_ini_override(&ini, "sweep.bits=3", &arena, &st);
        assert_true(code == PTQ_OK || (code == PTQ_ERR_USAGE && st.code == code && *st.text));
        refused += code != PTQ_OK;
        ptq_status_clear(&st);
        text[sizeof good - 1] = 0;
        code = ptq_ini_override(&ini, text, &arena, &st);
        assert_true(code == PTQ_OK || (code == PTQ_ERR_USAGE && *st.text));
        ptq_arena_clear(&arena);
    }
    assert_true(refused > 2000 && refused < 19000);
}

/* ---- the command line ---- */

static void overrides(void **state)
{
    (void)state;
    assert_ok(parse("[sweep]\nbits = 2-4,8\nsym = 0\n"), &st);
    assert_ok(ptq_ini_override(
                  &ini,
                  " sweep.bits=3  model.source='~/my model.h5' sweep.calib.seed=0,1\teval.windows=",
                  &arena, &st),
              &st);
    expect("sweep", "bits", "3", 0);
    expect("sweep", "sym", "0", 3);
    expect("model", "source", "/home/ada/my model.h5", 0);
    expect("sweep", "calib.seed", "0,1", 0);
    expect("eval", "windows", "", 0);
    assert_int_equal(ini.n, 5);
    assert_ok(ptq_ini_override(&ini, "sweep.bits=4 sweep.bits=5", &arena, &st), &st);
    expect("sweep", "bits", "5", 0); /* the last wins */
    assert_ok(ptq_ini_override(&ini, "", &arena, &st), &st);
    assert_int_equal(ini.n, 5);
}

static void bad_overrides(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"bits=3", "command line: 'bits' has no section; write section.key=value"},
        {"sweep.bits",
         "command line: 'sweep.bits': expected section.key=value (no spaces around =)"},
        {"sweep.bits = 3",
         "command line: 'sweep.bits = 3': expected section.key=value (no spaces around =)"},
        {"sweep.=3",
         "command line: 'sweep.': section and key are made of letters, digits and . _ -"},
        {".x=3", "command line: '.x': section and key are made of letters, digits and . _ -"},
        {"a.b='c", "command line: 'a.b='c': the quote ' is not closed"},
        {"a.b='c'd",
         "command line: 'a.b='c'd': text follows the closing quote; put a space between"},
        {"a.b=${PTQ_TEST_UNSET}", "command line: the environment variable PTQ_TEST_UNSET is not "
                                  "set; set it or write the value itself"},
        {"a.b=\xFF", "command line: byte 0xFF is no UTF-8 text; write it as UTF-8"},
    };
    for (int64_t i = 0; i < LENGTH(bad); i++) {
        assert_ok(parse("[sweep]\nbits = 2\n"), &st);
        assert_int_equal(ptq_ini_override(&ini, bad[i][0], &arena, &st), PTQ_ERR_USAGE);
        assert_string_equal(st.text, bad[i][1]);
        ptq_status_clear(&st);
    }
}

/* ---- files and messages ---- */

static void files(void **state)
{
    (void)state;
    char folder[TEST_PATH], path[TEST_PATH];
    test_tmpdir(folder);
    test_path(folder, "a.ini", path);
    FILE *f = fopen(path, "w");
    fputs("[a]\nb = 1\nb = 2\n", f);
    fclose(f);
    assert_int_equal(ptq_ini_read_file(path, &arena, &ini, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "/a.ini:3: [a] b is already set in line 2");
    ptq_status_clear(&st);
    assert_int_equal(ptq_ini_read_file(folder, &arena, &ini, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "not a regular file (a folder)");
    ptq_status_clear(&st);
    test_path(folder, "absent.ini", path);
    assert_int_equal(ptq_ini_read_file(path, &arena, &ini, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "absent.ini: cannot read: No such file or directory");
    test_rmdir(folder);
}

static void unknown_words_name_their_place(void **state)
{
    (void)state;
    static const char *const sections[] = {"model", "sweep", NULL}, *const keys[] = {"bits", "sym",
                                                                                     NULL};
    assert_ok(parse("[sweep]\nbit = 3\n"), &st);
    assert_ok(ptq_ini_override(&ini, "swep.bits=q", &arena, &st), &st);
    assert_int_equal(ptq_ini_unknown_key(&ini, &ini.entries[0], keys, &st), PTQ_ERR_USAGE);
    assert_string_equal(
        st.text, "a.ini:2: unknown key in [sweep]: 'bit'; did you mean 'bits'? valid: bits, sym");
    ptq_status_clear(&st);
    ptq_ini_unknown_section(&ini, &ini.entries[1], sections, &st);
    assert_string_equal(
        st.text, "command line: unknown section 'swep'; did you mean 'sweep'? valid: model, sweep");
    ptq_status_clear(&st);
    ptq_ini_unknown_value(&ini, &ini.entries[0], "grid", "mes",
                          (const char *const[]){"minmax", "mse", NULL}, &st);
    assert_string_equal(
        st.text,
        "a.ini:2: [sweep] bit: unknown grid 'mes'; did you mean 'mse'? valid: minmax, mse");
    assert_string_equal(ptq_ini_place(&ini, &ini.entries[0], &arena, &st), "a.ini:2: [sweep] bit");
    assert_string_equal(ptq_ini_place(&ini, &ini.entries[1], &arena, &st),
                        "command line: [swep] bits");
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(a_whole_file),
        CASE(nothing_and_a_byte_order_mark),
        CASE(variables_and_home),
        CASE(variables_are_not_expanded_twice),
        CASE(errors_name_file_and_line),
        CASE(only_utf8_is_text),
        CASE(no_home),
        CASE(long_lines),
        CASE(limits),
        CASE(expansion_is_limited),
        CASE(random_damage),
        CASE(overrides),
        CASE(bad_overrides),
        CASE(files),
        CASE(unknown_words_name_their_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
