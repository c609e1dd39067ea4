/* WordPiece against the `tokenizers` library: a small trained vocabulary under four normalizers
 * (tests/vectors/tok_spm.py), and all-MiniLM-L6-v2 against ../shared/oracle/minilm where the model
 * is in the cache. */
#include "tok_vectors.h"

/* ---- the small vocabulary */

static json_t *vocabulary(void)
{
    json_t *vocab = json_object();
    char line[256];
    FILE *f = fopen(TOK_FOLDER "bert.txt", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        assert_int_equal(
            json_object_set_new(vocab, line, json_integer((json_int_t)json_object_size(vocab))), 0);
    }
    fclose(f);
    assert_int_equal(json_object_size(vocab), 900);
    return vocab;
}

static json_t *tokenizer_json(json_t *normalizer)
{
    json_t *added = json_array();
    static const char *const specials[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    for (int i = 0; i < LENGTH(specials); i++)
        json_array_append_new(added, json_pack("{si ss sb sb sb sb sb}", "id", i, "content",
                                               specials[i], "special", 1, "normalized", 0, "lstrip",
                                               0, "rstrip", 0, "single_word", 0));
    json_t *root = json_pack("{so so s{ss} s{ss ss ss si so}}", "added_tokens", added, "normalizer",
                             normalizer, "pre_tokenizer", "type", "BertPreTokenizer", "model",
                             "type", "WordPiece", "unk_token", "[UNK]", "continuing_subword_prefix",
                             "##", "max_input_chars_per_word", 100, "vocab", vocabulary());
    assert_non_null(root);
    return root;
}

static void test_json(void **state)
{
    static const struct {
        const char *name;
        int clean, chinese, strip, lower; /* strip -1: null, that is as lower */
    } cases[] = {{"bert.txt:uncased", 1, 1, -1, 1},
                 {"bert.txt:cased", 1, 1, -1, 0},
                 {"bert.txt:accents", 1, 1, 0, 1},
                 {"bert.txt:dirty", 0, 0, -1, 1}};
    char folder[TEST_PATH], path[TEST_PATH];
    (void)state;
    test_tmpdir(folder);
    for (int i = 0; i < LENGTH(cases); i++) {
        json_t *strip = cases[i].strip < 0 ? json_null() : json_boolean(cases[i].strip);
        json_t *root =
            tokenizer_json(json_pack("{ss sb sb so sb}", "type", "BertNormalizer", "clean_text",
                                     cases[i].clean, "handle_chinese_chars", cases[i].chinese,
                                     "strip_accents", strip, "lowercase", cases[i].lower));
        tok_save(root, folder, path);
        tok_check(path, cases[i].name);
        json_decref(root);
    }
    test_rmdir(folder);
}

static void write_text(const char *folder, const char *name, const char *text, size_t n)
{
    char path[TEST_PATH];
    test_path(folder, name, path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* vocab.txt alone, and with the configuration beside it; lines may end in CR LF. */
static void test_vocab_txt(void **state)
{
    static const struct {
        const char *config, *name;
    } cases[] = {
        {NULL, "bert.txt:uncased"},
        {"{\"do_lower_case\": false}", "bert.txt:cased"},
        {"{\"strip_accents\": false, \"cls_token\": {\"content\": \"[CLS]\"}}", "bert.txt:accents"},
    };
    char folder[TEST_PATH], *text;
    size_t n;
    struct ptq_status st = {0};
    (void)state;
    assert_ok(ptq_read_file(TOK_FOLDER "bert.txt", 1 << 20, &text, &n, &st), &st);
    char *crlf = malloc(2 * n);
    size_t m = 0;
    assert_non_null(crlf);
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\n')
            crlf[m++] = '\r';
        crlf[m++] = text[i];
    }
    for (int i = 0; i < LENGTH(cases); i++) {
        test_tmpdir(folder);
        write_text(folder, "vocab.txt", i ? crlf : text, i ? m : n);
        if (cases[i].config)
            write_text(folder, "tokenizer_config.json", cases[i].config, strlen(cases[i].config));
        tok_check(folder, cases[i].name); /* found in the folder */
        test_rmdir(folder);
    }
    free(text);
    free(crlf);
}

static void test_roles_and_decode(void **state)
{
    struct ptq_tokenizer *t;
    struct ptq_arena a;
    struct ptq_status st = {0};
    int32_t *id;
    int64_t n, bytes;
    char *text;
    (void)state;
    ptq_arena_init(&a, 0);
    assert_ok(ptq_tokenizer_open(&t, TOK_FOLDER "bert.txt", &st), &st);
    const struct ptq_tokenizer_info *info = ptq_tokenizer_info(t);
    assert_string_equal(info->kind, "wordpiece");
    assert_int_equal(info->vocab_size, 900);
    assert_true(info->pad == 0 && info->unk == 1 && info->cls == 2 && info->sep == 3);
    assert_true(info->bos == -1 && info->eos == -1);
    const char said[] = "The CAF\u00C9, [SEP]quantizer";
    const struct ptq_encode ask = {said, sizeof said - 1, true, true};
    assert_ok(ptq_tokenizer_encode(t, &ask, &a, &id, &n, &st), &st);
    int n_sep = 0;
    for (int64_t i = 0; i < n; i++)
        n_sep += id[i] == 3;
    assert_true(id[0] == 2 && id[n - 1] == 3 && n_sep == 2);
    /* Special tokens by their text, words apart by one space, pieces joined. */
    assert_ok(ptq_tokenizer_decode(t, id, n, &a, &text, &bytes, &st), &st);
    assert_string_equal(text, "[CLS]the cafe ,[SEP] quantizer[SEP]");
    ptq_tokenizer_close(t);
    ptq_arena_clear(&a);
}

static void expect(const char *vocab, size_t n, const char *config, const char *part)
{
    struct ptq_tokenizer *t;
    struct ptq_status st = {0};
    char folder[TEST_PATH];
    test_tmpdir(folder);
    write_text(folder, "vocab.txt", vocab, n);
    if (config)
        write_text(folder, "tokenizer_config.json", config, strlen(config));
    assert_int_equal(ptq_tokenizer_open(&t, folder, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, part);
    assert_null(t);
    test_rmdir(folder);
}

static void test_bad_lists(void **state)
{
    (void)state;
    expect("", 0, NULL, "lacks [UNK]");
    expect("a\nb\n", 4, NULL, "lacks [UNK]");
    expect("[UNK]\n[CLS]\n[SEP]\na\nb\na\n", 24, NULL, "vocab.txt:6: the same token as in line 4");
    expect("[UNK]\n[CLS]\n[SEP]\n", 18, "{", "no JSON");
    expect("[UNK]\n[CLS]\n[SEP]\n", 18, "{\"cls_token\": \"[nowhere]\"}", "lacks [UNK]");
}

static void test_bad_options(void **state)
{
    struct ptq_tokenizer *t;
    char folder[TEST_PATH], path[TEST_PATH];
    (void)state;
    test_tmpdir(folder);
    static const struct {
        const char *key, *value, *part;
    } cases[] = {{"max_input_chars_per_word", "9223372036854775807", "words of"},
                 {"max_input_chars_per_word", "-1", "words of"},
                 {"continuing_subword_prefix", "\"#################\"", "prefix"},
                 {"unk_token", "\"nowhere\"", "unk_token"}};
    for (int i = 0; i < LENGTH(cases); i++) {
        struct ptq_status st = {0};
        json_t *root = tokenizer_json(json_pack("{ss}", "type", "BertNormalizer"));
        json_object_set_new(json_object_get(root, "model"), cases[i].key,
                            json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
        tok_save(root, folder, path);
        assert_int_equal(ptq_tokenizer_open(&t, path, &st), PTQ_ERR_USAGE);
        assert_status(&st, PTQ_ERR_USAGE, cases[i].part);
        json_decref(root);
    }
    test_rmdir(folder);
}

/* ---- all-MiniLM-L6-v2 */

static void check_sentence(const struct ptq_tokenizer *t, const char *text, json_t *want,
                           int64_t n_want)
{
    struct ptq_arena a;
    struct ptq_status st = {0};
    const struct ptq_encode ask = {text, (int64_t)strlen(text), true, true};
    int32_t *id;
    int64_t n;
    size_t i;
    json_t *v;
    ptq_arena_init(&a, 0);
    assert_ok(ptq_tokenizer_encode(t, &ask, &a, &id, &n, &st), &st);
    assert_true(n >= n_want);
    json_array_foreach(want, i, v) assert_int_equal(id[i], json_integer_value(v));
    ptq_arena_clear(&a);
}

/* The last sentence is described, not written: "word " 300 times, of which 256 ids are kept and 64
 * listed. */
static void check_reference(const char *source, json_t *reference)
{
    struct ptq_tokenizer *t;
    struct ptq_status st = {0};
    size_t i;
    json_t *s;
    char words[5 * 300 + 1];
    for (int k = 0; k < 300; k++)
        memcpy(words + 5 * k, "word ", 6);
    assert_ok(ptq_tokenizer_open(&t, source, &st), &st);
    assert_int_equal(ptq_tokenizer_info(t)->vocab_size, 30522);
    json_array_foreach(json_object_get(reference, "sentences"), i, s)
    {
        const char *text = json_string_value(json_object_get(s, "text"));
        bool described = strncmp(text, "word x 300", 10) == 0;
        check_sentence(t, described ? words : text, json_object_get(s, "ids"),
                       json_integer_value(json_object_get(s, "n_ids")));
    }
    assert_int_equal(i, 8);
    ptq_tokenizer_close(t);
}

static void test_minilm(void **state)
{
    (void)state;
    TEST_SHARED_OR_SKIP(reference, "oracle/minilm/reference.json");
    static const char *const names[] = {"tokenizer.json", "vocab.txt"};
    const char *cache = getenv("PTQ_CACHE");
    char path[TEST_PATH];
    json_t *j = tok_json(reference);
    for (int i = 0; i < LENGTH(names); i++) {
        assert_true(snprintf(path, sizeof path, "%s/all-minilm-l6-v2/%s",
                             cache && *cache ? cache : "datasets/cache", names[i]) < TEST_PATH);
        if (access(path, R_OK) != 0) {
            json_decref(j);
            printf("SKIP %s: not fetched (datasets/fetch.sh configs/minilm.ini)\n", path);
            skip();
        }
        check_reference(path, j);
    }
    json_decref(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_vocab_txt),
        cmocka_unit_test(test_roles_and_decode),
        cmocka_unit_test(test_bad_lists),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_minilm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
