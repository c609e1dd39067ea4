/* The protocol sentences and the draw of the same name, by hand: which pieces of a text are
 * sentences, what is cut off a long one, what is refused. Tokens are bytes, or those of the
 * vocabulary tests/vectors/tok_spm/bert.txt. */
#include "model/protocol.h"
#include "model/text.h"
#include "model/tokenizer.h"
#include "testlib.h"

struct fixture {
    struct ptq_arena arena;
    struct ptq_status st;
    char dir[TEST_PATH], path[TEST_PATH];
    struct ptq_text t;
};
static const struct ptq_model_info encoder = {
    .name = "e", .vocab_size = 1000, .max_context = 200, .tokenizer = "bytes", .encoder = true};
static const struct ptq_model_info decoder = {
    .name = "d", .vocab_size = 1000, .max_context = 200, .tokenizer = "bytes"};

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

static const char *put(struct fixture *f, const char *name, const char *text)
{
    test_path(f->dir, name, f->path);
    FILE *h = fopen(f->path, "wb");
    assert_non_null(h);
    assert_true(fputs(text, h) >= 0);
    assert_int_equal(fclose(h), 0);
    return f->path;
}

static int load(struct fixture *f, const struct ptq_model_info *m, struct ptq_text_request ask)
{
    ask.source = f->path;
    f->st = (struct ptq_status){0};
    return ptq_text_load(m, &ask, &f->arena, &f->t, &f->st);
}

/* Bytes are ids. */
static void assert_sentence(const struct fixture *f, int64_t s, const char *want)
{
    const struct ptq_tokens *t = &f->t.tokens;
    char got[256];
    assert_true(s < t->n_seq && t->len[s] < LENGTH(got));
    for (int64_t i = 0; i < t->len[s]; i++)
        got[i] = (char)t->id[t->offset[s] + i];
    got[t->len[s]] = 0;
    assert_string_equal(got, want);
}

static const char text[] =
    " = A heading of five words . = \n"
    "\n"
    " The first one has words . The second: 3.14 is \"no.end\" here! Too short. \n"
    "\tIs this the third one? ...so it is, is it not. The first one has words . \r\n"
    "== Another one of the headings ==\n"
    "No mark ends the fifth one\n"
    "=\n"
    "and the last has no newline";

static void test_cut(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    put(&f, "a.txt", text);
    assert_ok(load(&f, &encoder, (struct ptq_text_request){0}), &f.st);
    assert_string_equal(f.t.protocol, "sentences-128");
    assert_int_equal(f.t.tokens.n_seq, 6);
    assert_sentence(&f, 0, "The first one has words .");
    assert_sentence(&f, 1, "The second: 3.14 is \"no.end\" here!");
    assert_sentence(&f, 2, "Is this the third one?");
    assert_sentence(&f, 3, "...so it is, is it not.");
    assert_sentence(&f, 4, "No mark ends the fifth one");
    assert_sentence(&f, 5, "and the last has no newline");
    assert_non_null(strstr(f.t.rules, "fewer than 5 words"));
    assert_non_null(strstr(f.t.rules, "more than 128,"));
    teardown(&f);
}

static void test_first(void **state)
{
    (void)state;
    struct fixture f;
    char whole[33];
    setup(&f);
    put(&f, "a.txt", text);
    assert_ok(load(&f, &encoder, (struct ptq_text_request){0}), &f.st);
    memcpy(whole, f.t.key, sizeof whole);
    assert_ok(load(&f, &encoder, (struct ptq_text_request){.n_seq = 2}), &f.st);
    assert_string_equal(f.t.protocol, "sentences-128/first2");
    assert_int_equal(f.t.tokens.n_seq, 2);
    assert_sentence(&f, 1, "The second: 3.14 is \"no.end\" here!");
    assert_string_not_equal(f.t.key, whole);
    assert_ok(load(&f, &encoder, (struct ptq_text_request){.n_seq = 6}), &f.st);
    assert_string_equal(f.t.protocol, "sentences-128");
    assert_string_equal(f.t.key, whole);
    /* more than 12 bytes: cut */
    assert_ok(load(&f, &encoder, (struct ptq_text_request){.protocol = "sentences-12"}), &f.st);
    assert_string_equal(f.t.protocol, "sentences-12");
    assert_sentence(&f, 0, "The first on");
    teardown(&f);
}

static void test_json_rows(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    put(&f, "a.jsonl",
        "{\"text\": \"One two three four five. A b c d e\\nf g h i j\"}\n{\"text\": \"1 2 3 4 "
        "5\"}\n");
    assert_ok(load(&f, &encoder, (struct ptq_text_request){0}), &f.st);
    assert_int_equal(f.t.tokens.n_seq, 4);
    assert_sentence(&f, 0, "One two three four five.");
    assert_sentence(&f, 1, "A b c d e");
    assert_sentence(&f, 2, "f g h i j");
    assert_sentence(&f, 3, "1 2 3 4 5");
    teardown(&f);
}

/* [CLS] the quick ... [SEP]: what is cut leaves [SEP] where it is. */
static void test_special_tokens(void **state)
{
    (void)state;
    struct fixture f;
    struct ptq_tokenizer *tok;
    char vocab[TEST_PATH];
    int32_t *id;
    int64_t n;
    setup(&f);
    /* a vocabulary by this name says what it is */
    test_path(f.dir, "vocab.txt", vocab);
    FILE *from = fopen("tests/vectors/tok_spm/bert.txt", "rb"), *to = fopen(vocab, "wb");
    assert_true(from && to);
    for (int c; (c = fgetc(from)) != EOF;)
        fputc(c, to);
    fclose(from);
    assert_int_equal(fclose(to), 0);
    static const char sentence[] = "the cat and the other one are of the house";
    assert_ok(ptq_tokenizer_open(&tok, vocab, &f.st), &f.st);
    const struct ptq_tokenizer_info *info = ptq_tokenizer_info(tok);
    const struct ptq_encode ask = {sentence, (int64_t)strlen(sentence), true, true};
    assert_ok(ptq_tokenizer_encode(tok, &ask, &f.arena, &id, &n, &f.st), &f.st);
    assert_true(n > 12 && id[0] == info->cls && id[n - 1] == info->sep);
    put(&f, "a.txt", sentence);
    const struct ptq_text_request whole = {.tokenizer = vocab},
                                  cut = {.tokenizer = vocab, .window = 7},
                                  none = {.tokenizer = vocab, .window = 2};
    assert_ok(load(&f, &encoder, whole), &f.st);
    assert_int_equal(f.t.tokens.n_total, n);
    assert_memory_equal(f.t.tokens.id, id, (size_t)n * sizeof *id);
    assert_ok(load(&f, &encoder, cut), &f.st);
    assert_int_equal(f.t.tokens.n_total, 7);
    assert_memory_equal(f.t.tokens.id, id, 6 * sizeof *id);
    assert_int_equal(f.t.tokens.id[6], info->sep);
    assert_int_equal(load(&f, &encoder, none), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "none beside the 2 special ones");
    ptq_tokenizer_close(tok);
    teardown(&f);
}

enum { MANY = 40 };

/* Which of the sentences "number 07 of these sentences" are drawn, in order. */
static int64_t drawn(struct fixture *f, int64_t n, uint64_t seed, int out[MANY])
{
    const struct ptq_text_request ask = {.n_seq = n, .draw = "sentences", .seed = seed};
    assert_ok(load(f, &encoder, ask), &f->st);
    for (int64_t s = 0; s < f->t.tokens.n_seq; s++) {
        const int32_t *id = f->t.tokens.id + f->t.tokens.offset[s];
        assert_int_equal(f->t.tokens.len[s], (int)strlen("number 07 of these sentences"));
        out[s] = (id[7] - '0') * 10 + id[8] - '0';
    }
    return f->t.tokens.n_seq;
}

static void test_draw(void **state)
{
    (void)state;
    struct fixture f;
    char many[MANY * 48] = "";
    int a[MANY], b[MANY], all[MANY], seen[MANY] = {0}, in_order = 0;
    setup(&f);
    for (int i = 0; i < MANY; i++)
        snprintf(many + strlen(many), 48, "number %02d of these sentences\n", i);
    put(&f, "a.txt", many);
    assert_int_equal(drawn(&f, 8, 1, a), 8);
    assert_string_equal(f.t.protocol, "sentences-128/8");
    assert_int_equal(drawn(&f, 8, 1, b), 8);
    assert_memory_equal(a, b, 8 * sizeof *a);
    assert_int_equal(drawn(&f, 8, 2, b), 8);
    assert_memory_not_equal(a, b, 8 * sizeof *a);
    assert_int_equal(drawn(&f, 1000, 1, all), MANY); /* every one, once */
    assert_memory_equal(a, all, 8 * sizeof *a);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(seen[all[i]]++, 0);
        in_order += all[i] == i;
    }
    assert_true(in_order < MANY / 4);
    teardown(&f);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const struct ptq_model_info *model;
        struct ptq_text_request ask;
        const char *message;
    } cases[] = {
        {&encoder,
         {.protocol = "gptq-64"},
         "predicts none: give it a text under the protocol sent"},
        {&encoder, {.protocol = "bytes-64"}, "the protocol bytes scores predicted tokens"},
        {&encoder, {.draw = "windows"}, "the draw windows is for models that predict tokens"},
        {&encoder, {.draw = "gptq-documents"}, "of e the draw is sentences"},
        {&decoder, {.protocol = "sentences-64"}, "d is no encoder"},
        {&decoder, {.draw = "sentences"}, "the draw sentences is for encoders"},
        {&encoder, {.protocol = "sentences-64", .window = 32}, "leave one out"},
        {&encoder, {.window = 201}, "takes 2 .. 200"},
    };
    struct fixture f;
    setup(&f);
    put(&f, "a.txt", text);
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        assert_int_equal(load(&f, cases[i].model, cases[i].ask), PTQ_ERR_USAGE);
        assert_status(&f.st, PTQ_ERR_USAGE, cases[i].message);
    }
    put(&f, "a.txt", "Four words are few.\n\n= A heading is no sentence =\n");
    assert_int_equal(load(&f, &encoder, (struct ptq_text_request){0}), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "no sentence of 5 words");
    put(&f, "a.ids", "1 2 3\n");
    assert_int_equal(load(&f, &encoder, (struct ptq_text_request){0}), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "the protocol ids scores predicted tokens");
    strcpy(f.path, "synth:zipf:1");
    assert_int_equal(load(&f, &encoder, (struct ptq_text_request){0}), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "is an encoder");
    strcpy(f.path, "synth:facts:1");
    assert_int_equal(load(&f, &encoder, (struct ptq_text_request){0}), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "is an encoder");
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut),       cmocka_unit_test(test_first),
        cmocka_unit_test(test_json_rows), cmocka_unit_test(test_special_tokens),
        cmocka_unit_test(test_draw),      cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
