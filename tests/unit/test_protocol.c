/* Protocols and draws: which ids a window holds and which of them are scored. Tokens are those of a
 * llama2.c tokenizer without merges, written here: BOS 1, a space 259, any other byte b as b + 3; a
 * text gets a space in front. */
#include "model/eval.h"
#include "model/protocol.h"
#include "model/textfile.h"
#include "testlib.h"

enum { BOS = 1, SPACE = 259, VOCAB = 260 };

struct fixture {
    struct ptq_arena arena;
    struct ptq_status st;
    char dir[TEST_PATH], tokenizer[TEST_PATH], path[TEST_PATH];
    struct ptq_text t;
};
static const struct ptq_model_info model = {
    .name = "m", .vocab_size = VOCAB, .max_context = 64, .tokenizer = "none"};
static const struct ptq_model_info bytes_model = {
    .name = "m", .vocab_size = 256, .max_context = 64, .tokenizer = "bytes"};

static const char *put(struct fixture *f, const char *name, const char *text, size_t bytes)
{
    test_path(f->dir, name, f->path);
    FILE *h = fopen(f->path, "wb");
    assert_non_null(h);
    assert_int_equal(fwrite(text, 1, bytes, h), bytes);
    assert_int_equal(fclose(h), 0);
    return f->path;
}

static void put_token(FILE *h, const char *text)
{
    const float score = 0;
    const int32_t length = (int32_t)strlen(text);
    assert_int_equal(fwrite(&score, 4, 1, h), 1);
    assert_int_equal(fwrite(&length, 4, 1, h), 1);
    assert_int_equal(fwrite(text, 1, (size_t)length, h), (size_t)length);
}

static void setup(struct fixture *f)
{
    const int32_t longest = 7;
    char byte[16];
    memset(f, 0, sizeof *f);
    ptq_arena_init(&f->arena, 0);
    test_tmpdir(f->dir);
    test_path(f->dir, "tok260.bin", f->tokenizer);
    FILE *h = fopen(f->tokenizer, "wb");
    assert_non_null(h);
    assert_int_equal(fwrite(&longest, 4, 1, h), 1);
    put_token(h, "<unk>");
    put_token(h, "\n<s>\n");
    put_token(h, "\n</s>\n");
    for (int b = 0; b < 256; b++) {
        snprintf(byte, sizeof byte, "<0x%02X>", (unsigned)b);
        put_token(h, byte);
    }
    put_token(h, " ");
    assert_int_equal(fclose(h), 0);
}

static void teardown(struct fixture *f)
{
    ptq_arena_clear(&f->arena);
    test_rmdir(f->dir);
}

static int load(struct fixture *f, struct ptq_text_request ask)
{
    ptq_status_clear(&f->st);
    if (!ask.tokenizer)
        ask.tokenizer = f->tokenizer;
    return ptq_text_load(&model, &ask, &f->arena, &f->t, &f->st);
}

static int32_t id_of(char c)
{
    return c == ' ' ? SPACE : (unsigned char)c + 3;
}

/* A window by the characters of its tokens, '^' for BOS. */
static void check_window(const struct fixture *f, int64_t s, const char *want, int64_t first,
                         char after)
{
    const struct ptq_tokens *t = &f->t.tokens;
    assert_int_equal(t->len[s], (int64_t)strlen(want));
    for (int64_t i = 0; i < t->len[s]; i++)
        assert_int_equal(t->id[t->offset[s] + i], want[i] == '^' ? BOS : id_of(want[i]));
    assert_int_equal(ptq_text_first(&f->t, s), first);
    assert_int_equal(ptq_text_has_after(&f->t, s), after != 0);
    if (after)
        assert_int_equal(f->t.after[s], id_of(after));
    assert_int_equal(ptq_text_scored(&f->t, s), t->len[s] + (after != 0) - first);
}

static void test_names(void **state)
{
    (void)state;
    const struct ptq_protocol *p;
    struct ptq_status st = {0};
    struct ptq_arena arena;
    int64_t window;
    static const char *const good[] = {"gptq", "llamacpp", "lm-eval-word", "bos", "bytes"};
    ptq_arena_init(&arena, 0);
    for (int i = 0; i < LENGTH(good); i++) {
        assert_ok(ptq_protocol_parse(good[i], &p, &window, &st), &st);
        assert_string_equal(p->name, good[i]);
        assert_int_equal(window, 0);
    }
    assert_ok(ptq_protocol_parse("gptq-4096", &p, &window, &st), &st);
    assert_int_equal(window, 4096);
    assert_ok(ptq_protocol_parse("lm-eval-word-1024", &p, &window, &st), &st);
    assert_string_equal(p->name, "lm-eval-word");
    assert_int_equal(window, 1024);
    const char *rules = ptq_protocol_rules(p, 1024, &arena, &st);
    assert_non_null(strstr(rules, "windows of 1024 inputs score the next 1024 tokens"));
    assert_non_null(strstr(rules, "NLL")); /* no window */
    assert_int_equal(ptq_protocol_parse("gptq2048", &p, &window, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "did you mean 'gptq'");
    static const char *const bad[] = {"gptq-", "gptq-1", "gptq-x", "", "llamacpp-512/first2"};
    for (int i = 0; i < LENGTH(bad); i++) {
        ptq_status_clear(&st);
        assert_int_equal(ptq_protocol_parse(bad[i], &p, &window, &st), PTQ_ERR_USAGE);
    }
    ptq_arena_clear(&arena);
}

/* The whole text's tokens: BOS, the space in front, then the characters. */
static void test_gptq(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    const char *path = put(&f, "t.txt", "abcdefghijklmn\n", 15);
    assert_ok(load(&f, (struct ptq_text_request){path, .protocol = "gptq-4"}), &f.st);
    assert_int_equal(f.t.tokens.n_seq, 4); /* 17 tokens */
    check_window(&f, 0, "^ ab", 1, 0);
    check_window(&f, 1, "cdef", 1, 0);
    check_window(&f, 3, "klmn", 1, 0);
    assert_string_equal(f.t.protocol, "gptq-4");
    assert_rel(f.t.bytes_per_token, 15. / 16, 1e-15); /* BOS is no token of the text */
    assert_ok(
        load(&f, (struct ptq_text_request){path, .n_seq = 2, .protocol = "gptq", .window = 4}),
        &f.st);
    assert_string_equal(f.t.protocol, "gptq-4/first2");
    assert_int_equal(f.t.tokens.n_seq, 2);
    assert_ok(load(&f, (struct ptq_text_request){path, .window = 8}), &f.st); /* by the text */
    assert_string_equal(f.t.protocol, "gptq-8");
    assert_int_equal(load(&f, (struct ptq_text_request){path, .window = 8, .protocol = "gptq-4"}),
                     PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "gptq-4 has windows of 4 tokens, and 8 are asked for");
    assert_int_equal(load(&f, (struct ptq_text_request){path, .protocol = "gptq-2048"}),
                     PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "a window of 2048 tokens: the model m takes 2 .. 64");
    teardown(&f);
}

/* 13 tokens: the last newline is dropped; three chunks of 4; of a chunk the token 3 is scored. */
static void test_llamacpp(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    const char *path = put(&f, "t.txt", "abcdefghijk\n", 12);
    assert_ok(load(&f, (struct ptq_text_request){path, .protocol = "llamacpp-4"}), &f.st);
    assert_int_equal(f.t.tokens.n_seq, 3);
    check_window(&f, 0, "^ ab", 3, 0);
    check_window(&f, 1, "^def", 3, 0);
    check_window(&f, 2, "^hij", 3, 0);
    assert_int_equal(load(&f, (struct ptq_text_request){path, .protocol = "llamacpp-7"}),
                     PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE,
                  "13 tokens; llama.cpp's perplexity tool takes at least two");
    assert_ok(load(&f, (struct ptq_text_request){path, .protocol = "llamacpp-5"}), &f.st);
    check_window(&f, 1, "^efgh", 3, 0); /* floor(5 / 2) + 1 */
    /* A byte model adds no BOS: nothing is replaced. */
    const struct ptq_text_request ask = {path, .protocol = "llamacpp-4"};
    assert_ok(ptq_text_load(&bytes_model, &ask, &f.arena, &f.t, &f.st), &f.st);
    assert_int_equal(f.t.tokens.id[4], 'e');
    teardown(&f);
}

static void test_bos(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    const char *path = put(&f, "t.txt", "abcdefg\n", 8);
    assert_ok(load(&f, (struct ptq_text_request){path, .protocol = "bos-4"}), &f.st);
    assert_int_equal(f.t.tokens.n_seq, 3);
    check_window(&f, 0, "^ ab", 1, 0);
    check_window(&f, 1, "^cde", 1, 0);
    check_window(&f, 2, "^fg\n", 1, 0);
    const struct ptq_text_request ask = {path, .protocol = "bos-4"};
    assert_int_equal(ptq_text_load(&bytes_model, &ask, &f.arena, &f.t, &f.st), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "BOS");
    teardown(&f);
}

/* The windows that lm-eval's get_rolling_token_windows gives for context_len 1 and max_seq_len 3,
 * over 7 tokens of one page and 3 of another: (P 0 1 | 0 1 2), (2 3 4 | 3 4 5), (3 4 5 | 6). */
static void test_rolling(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    /* pages: "abcdef" with a space in front; "= =" with two spaces less, and one in front */
    const char *path = put(&f, "t.txt", "abcdef\n= b =\n", 13);
    assert_ok(load(&f, (struct ptq_text_request){path, .protocol = "lm-eval-word-3"}), &f.st);
    check_window(&f, 0, "^ a", 1, 'b');
    check_window(&f, 1, "bcd", 1, 'e');
    check_window(&f, 2, "cde", 3, 'f');
    check_window(&f, 3, "^ =", 1, ' ');
    check_window(&f, 4, " b ", 1, '=');
    check_window(&f, 5, "b =", 3, '\n');
    assert_int_equal(f.t.tokens.n_seq, 6);
    /* words by re.split: "abcdef"; "=", "b", "=", "" */
    assert_rel(f.t.words_per_token, 5. / 14, 1e-15);
    assert_rel(f.t.bytes_per_token, 12. / 14, 1e-15);
    assert_string_equal(f.t.protocol, "lm-eval-word-3");
    assert_ok(load(&f, (struct ptq_text_request){path, .n_seq = 1, .protocol = "lm-eval-word-64"}),
              &f.st);
    check_window(&f, 0, "^ abcde", 1, 'f');
    assert_string_equal(f.t.protocol, "lm-eval-word-64/first1"); /* documents */
    const struct ptq_text_request ask = {path, .protocol = "lm-eval-word"};
    assert_int_equal(ptq_text_load(&bytes_model, &ask, &f.arena, &f.t, &f.st), PTQ_ERR_USAGE);
    teardown(&f);
}

static void key_of_page(struct fixture *f, const char *text, char key[33])
{
    static const char detokenized[] = "a-b x. y. z. w. q\n";
    const char *path = put(f, "page.txt", text, strlen(text));
    assert_ok(load(f, (struct ptq_text_request){path, .protocol = "lm-eval-word-64"}), &f->st);
    check_window(f, 0, "^ a-b x. y. z. w. q", 1, '\n');
    /* the tokens are the text's and the space in front */
    assert_rel(f->t.bytes_per_token * sizeof detokenized, (double)strlen(text), 1e-15);
    memcpy(key, f->t.key, 33);
}

/* One sequence of tokens out of three texts: " @-@ " is four bytes and two words more than "-", a
 * space before '.' a byte and a word. What turns NLL into values per word and byte is in the key.
 */
static void test_keys_hold_rates(void **state)
{
    (void)state;
    struct fixture f;
    char plain[33], again[33], words[33], bytes[33];
    setup(&f);
    key_of_page(&f, "a @-@ b x. y. z. w. q\n", plain);
    const double per_word = f.t.words_per_token, per_byte = f.t.bytes_per_token;
    key_of_page(&f, "a @-@ b x. y. z. w. q\n", again);
    assert_string_equal(plain, again);
    key_of_page(&f, "a-b x . y . z . w . q\n", words);
    assert_true(f.t.bytes_per_token == per_byte && f.t.words_per_token != per_word);
    assert_string_not_equal(plain, words);
    key_of_page(&f, "a-b x . y . z. w. q\n", bytes);
    assert_true(f.t.bytes_per_token != per_byte && f.t.words_per_token == per_word);
    assert_string_not_equal(plain, bytes);
    teardown(&f);
}

/* Calibration reads tokens alone: the same ones from a text and as ids are one draw, or held-out
 * text could be the calibration text under another name. */
static void test_keys_of_draws(void **state)
{
    (void)state;
    struct fixture f;
    char key[33];
    setup(&f);
    const char *path = put(&f, "t.txt", "01234567", 8);
    const struct ptq_text_request text = {path, 2, 4, "first", 1};
    assert_ok(ptq_text_load(&bytes_model, &text, &f.arena, &f.t, &f.st), &f.st);
    assert_true(f.t.bytes_per_token == 1);
    memcpy(key, f.t.key, sizeof key);
    path = put(&f, "t.ids", "48 49 50 51 52 53 54 55\n", 24);
    struct ptq_text_request ids = {path, 2, 4, "first", 1, .tokenizer = f.tokenizer};
    assert_ok(ptq_text_load(&bytes_model, &ids, &f.arena, &f.t, &f.st), &f.st);
    assert_true(isnan(f.t.bytes_per_token));
    assert_string_equal(f.t.key, key);
    ids.draw = NULL;
    assert_ok(ptq_text_load(&bytes_model, &ids, &f.arena, &f.t, &f.st), &f.st);
    assert_string_not_equal(f.t.key, key); /* of an evaluation, though */
    teardown(&f);
}

/* What the task's detokenizer makes of it in Python (re.sub and str.replace, run once). */
static void test_pages(void **state)
{
    (void)state;
    static const char text[] =
        " \n = A N B = \n \n One @-@ two , 1 @,@ 000 ( in = = x ) . \" Yes \" s ' s \n"
        " = = Part = = \n /' 5/ it 's 3 \u00b0 N x ? [ a ] { b } ' c ' \n = Z = \n";
    static const char *const want[] = {" = A 1 B =\n\nOne-two, 1,000 (in == x). \"Yes\" s's\n== "
                                       "Part ==\n/'[0-9]/ it's 3\u00b0N x? [a] {b}' c ' ",
                                       " = Z =\n"};
    struct ptq_textfile file = {.path = "t", .text = text, .bytes = sizeof text - 1};
    struct ptq_status st = {0};
    struct ptq_arena arena;
    struct ptq_page *page;
    int64_t n;
    bool left;
    ptq_arena_init(&arena, 0);
    assert_ok(ptq_pages(&file, 0, &arena, &page, &n, &left, &st), &st);
    assert_int_equal(n, LENGTH(want));
    for (int i = 0; i < n; i++) {
        assert_int_equal(page[i].bytes, (int64_t)strlen(want[i]));
        assert_memory_equal(page[i].text, want[i], strlen(want[i]));
    }
    ptq_arena_clear(&arena);
}

/* Both splits of WikiText-2: number of pages, words and bytes, and the hash of the detokenized
 * pages with a NUL between them, all as Python's re gives them. */
static void check_wikitext(const char *path, const int64_t want[3], const char *hash)
{
    struct ptq_arena arena;
    struct ptq_status st = {0};
    struct ptq_textfile file;
    struct ptq_page *page;
    int64_t n, words = 0, bytes = 0, total = 0;
    bool left;
    char got[PTQ_SHA256_CHARS];
    ptq_arena_init(&arena, 0);
    const struct ptq_textfile_request ask = {.source =
                                                 ptq_arena_printf(&arena, &st, "text:%s", path)};
    assert_ok(ptq_textfile_open(&ask, &arena, &file, &st), &st);
    assert_true(file.verified);
    assert_ok(ptq_pages(&file, 0, &arena, &page, &n, &left, &st), &st);
    for (int64_t i = 0; i < n; i++) {
        words += page[i].n_words;
        bytes += page[i].n_bytes;
        total += page[i].bytes + 1;
    }
    assert_int_equal(n, want[0]);
    assert_int_equal(words, want[1]);
    assert_int_equal(bytes, want[2]);
    char *all = ptq_arena_alloc(&arena, &st, total, 1), *to = all;
    assert_non_null(all);
    for (int64_t i = 0; i < n; i++, to++) {
        memcpy(to, page[i].text, (size_t)page[i].bytes);
        to += page[i].bytes;
    }
    ptq_sha256(all, (size_t)total - 1, got);
    assert_string_equal(got, hash);
    ptq_textfile_close(&file);
    ptq_arena_clear(&arena);
}

static void test_wikitext_pages(void **state)
{
    (void)state;
    TEST_SHARED_OR_SKIP(test, "data/text/wiki.test.raw");
    TEST_SHARED_OR_SKIP(valid, "data/text/wiki.valid.raw");
    check_wikitext(test, (const int64_t[]){62, 241335, 1290527},
                   "b0ae50e166add20959a5406d9b3c99fe1f23819ec0a10149047149434fb85d81");
    check_wikitext(valid, (const int64_t[]){60, 214006, 1146785},
                   "d5bd98ccac4d0ffcd8ca06d7bd1a94f0871b631d7e3d454578760fca5b575b95");
}

/* ---- draws */

/* 40 bytes; CPython: random.seed(11); randint(0, 40 - 8 - 1) six times. */
static void test_gptq_windows(void **state)
{
    (void)state;
    static const int at[] = {28, 29, 28, 12, 11, 30};
    static const char text[] = "0123456789abcdefghijklmnopqrstuvwxyzABCD";
    struct fixture f;
    setup(&f);
    const char *path = put(&f, "t.txt", text, 40);
    const struct ptq_text_request ask = {path, 6, 8, "gptq-windows", 11};
    assert_ok(ptq_text_load(&bytes_model, &ask, &f.arena, &f.t, &f.st), &f.st);
    assert_int_equal(f.t.tokens.n_seq, 6);
    for (int s = 0; s < 6; s++)
        for (int i = 0; i < 8; i++)
            assert_int_equal(f.t.tokens.id[8 * s + i], text[at[s] + i]);
    assert_string_equal(f.t.protocol, "gptq-windows-8/6");
    assert_string_equal(f.t.rules, "windows of 8 at positions randint(0, tokens - 8 - 1) of "
                                   "Python's random.seed(seed) in the tokens of the text");
    assert_null(f.t.first_scored);
    /* 8 bytes have no window for randint(0, -1), but one for the other draws */
    path = put(&f, "s.txt", text, 8);
    const struct ptq_text_request one = {path, 2, 8, "gptq-windows", 1};
    assert_int_equal(ptq_text_load(&bytes_model, &one, &f.arena, &f.t, &f.st), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "8 tokens hold no window of 8");
    ptq_status_clear(&f.st);
    const struct ptq_text_request all = {path, 2, 8, "windows", 1};
    assert_ok(ptq_text_load(&bytes_model, &all, &f.arena, &f.t, &f.st), &f.st);
    assert_int_equal(f.t.tokens.n_seq, 2);
    const struct ptq_text_request first = {path, 2, 4, "first", 1};
    assert_ok(ptq_text_load(&bytes_model, &first, &f.arena, &f.t, &f.st), &f.st);
    assert_memory_equal(f.t.tokens.id, ((const int32_t[]){'0', '1', '2', '3', '4', '5', '6', '7'}),
                        32);
    const struct ptq_text_request bad = {path, 2, 4, "gptq-window", 1};
    assert_int_equal(ptq_text_load(&bytes_model, &bad, &f.arena, &f.t, &f.st), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "did you mean 'gptq-windows'");
    teardown(&f);
}

/* Rows of 8, 16, 1, 21 and 13 bytes and windows of 8; CPython: random.seed(4); for a window, rows
 * randint(0, 4) until one has more than 8 bytes, then a position randint(0, bytes - 8 - 1). */
static void test_gptq_documents(void **state)
{
    (void)state;
    static const char rows[] = "{\"text\": \"abcdefgh\", \"url\": \"u\"}\n"
                               "{\"text\": \"0123456789ABCDEF\"}\n"
                               "{\"text\": \"x\"}\n"
                               "{\"text\": \"quick brown fox jumps\"}\n"
                               "{\"text\": \"\\u00e9\\u00e8\\u00e0 na\\u00efve\"}";
    static const char *const want[] = {"456789AB", "rown fox", "12345678",
                                       "own fox ", "56789ABC", "12345678"};
    struct fixture f;
    setup(&f);
    const char *path = put(&f, "t.jsonl", rows, sizeof rows - 1);
    const struct ptq_text_request ask = {path, 6, 8, "gptq-documents", 4};
    assert_ok(ptq_text_load(&bytes_model, &ask, &f.arena, &f.t, &f.st), &f.st);
    for (int s = 0; s < 6; s++)
        for (int i = 0; i < 8; i++)
            assert_int_equal(f.t.tokens.id[8 * s + i], want[s][i]);
    assert_string_equal(f.t.protocol, "gptq-documents-8/6");
    assert_non_null(strstr(f.t.rules, "until it has more than 8 tokens; of it the 8 from "
                                      "randint(0, tokens - 8 - 1) on"));
    const struct ptq_text_request wide = {path, 1, 32, "gptq-documents", 4};
    assert_int_equal(ptq_text_load(&bytes_model, &wide, &f.arena, &f.t, &f.st), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "have no more than 32 tokens");
    static const char *const faults[][2] = {
        {"{\"text\": \"abcdefghijkl\"\n", "j.json:1: no JSON"},
        {"{\"txt\": \"abcdefghijkl\"}\n", "j.json:1: no \"text\""},
        {"\n", "j.json:1: no JSON"}};
    for (int i = 0; i < LENGTH(faults); i++) {
        ptq_status_clear(&f.st);
        path = put(&f, "j.json", faults[i][0], strlen(faults[i][0]));
        const struct ptq_text_request bad = {path, 1, 8, "gptq-documents", 4};
        assert_int_equal(ptq_text_load(&bytes_model, &bad, &f.arena, &f.t, &f.st), PTQ_ERR_USAGE);
        assert_status(&f.st, PTQ_ERR_USAGE, faults[i][1]);
    }
    teardown(&f);
}

/* ---- what is scored: the parts of a window's NLL add up to the whole */

/* One window of n bytes of the demo language, scored from `first` on, with the next byte or not. */
static double sum_nll(const struct ptq_model *m, const unsigned char *bytes, int64_t n,
                      int64_t first, bool after, uint8_t *hit)
{
    int32_t id[64], next = bytes[n];
    const int64_t offset = 0;
    memset(id, 0, sizeof id); /* what lies behind the window is not read */
    for (int64_t i = 0; i < n; i++)
        id[i] = bytes[i];
    const struct ptq_text text = {
        .tokens = {1, n, &n, &offset, id}, .first_scored = &first, .after = after ? &next : NULL};
    const struct ptq_eval_args args = {.model = m, .text = &text};
    struct ptq_arena arena;
    struct ptq_status st = {0};
    struct ptq_eval e;
    ptq_arena_init(&arena, 0);
    assert_ok(ptq_eval_model(&args, &arena, &e, &st), &st);
    assert_int_equal(e.n_scored, n + after - first);
    assert_int_equal(e.n_window[0], e.n_scored);
    memcpy(hit, e.hit, (size_t)e.n_scored);
    double sum = e.nll_window[0] * (double)e.n_scored;
    ptq_arena_clear(&arena);
    return sum;
}

static void test_scored(void **state)
{
    (void)state;
    static const unsigned char bytes[64] =
        "the capital of the town is far and the river runs to the sea ..";
    const struct ptq_model_options options = {0};
    struct ptq_status st = {0};
    struct ptq_model *m;
    uint8_t all[64], head[64], tail[64], next[64];
    assert_ok(ptq_model_open(&m, "demo", &options, &st), &st);
    double whole = sum_nll(m, bytes, 40, 1, false, all);
    double begin = sum_nll(m, bytes, 20, 1, false, head);
    assert_rel(sum_nll(m, bytes, 40, 20, false, tail), whole - begin, 1e-6);
    assert_memory_equal(tail, all + 19, 20);
    assert_rel(sum_nll(m, bytes, 39, 1, true, next), whole, 1e-6);
    assert_memory_equal(next, all, 39);
    assert_rel(sum_nll(m, bytes, 39, 39, true, next), whole - sum_nll(m, bytes, 39, 1, false, head),
               1e-6);
    assert_int_equal(next[0], all[38]);
    ptq_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),           cmocka_unit_test(test_gptq),
        cmocka_unit_test(test_llamacpp),        cmocka_unit_test(test_bos),
        cmocka_unit_test(test_rolling),         cmocka_unit_test(test_pages),
        cmocka_unit_test(test_wikitext_pages),  cmocka_unit_test(test_gptq_windows),
        cmocka_unit_test(test_gptq_documents),  cmocka_unit_test(test_scored),
        cmocka_unit_test(test_keys_hold_rates), cmocka_unit_test(test_keys_of_draws),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
