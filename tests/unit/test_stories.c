/* llama2.c checkpoints as models: the same as a container's, and stories260K (GQA, interleaved
 * rotary pairs, tied head) with its tokenizer against independent numpy forward passes (figures of
 * ../shared/data/README.md). */
#include "core/json.h"
#include "model/tokenizer.h"
#include "trained.h"

/* ---- the tokenizer */

struct tokenized {
    struct ptq_tokenizer *t;
    struct ptq_arena a;
};

static void tokenizer_open(struct tokenized *k, const char *path)
{
    struct ptq_status st = {0};
    ptq_arena_init(&k->a, 0);
    assert_ok(ptq_tokenizer_open(&k->t, path, &st), &st);
    assert_int_equal(ptq_tokenizer_info(k->t)->vocab_size, 512);
}

static void tokenizer_close(struct tokenized *k)
{
    ptq_tokenizer_close(k->t);
    ptq_arena_clear(&k->a);
}

/* BOS and the ids of the text. */
static int64_t encode(struct tokenized *k, const char *text, size_t bytes, int32_t **id)
{
    struct ptq_status st = {0};
    const struct ptq_encode ask = {.text = text, .bytes = (int64_t)bytes, .specials = true};
    int64_t n;
    assert_ok(ptq_tokenizer_encode(k->t, &ask, &k->a, id, &n, &st), &st);
    assert_true(n > 0 && (*id)[0] == 1);
    return n;
}

/* BOS + story, cut at 512 tokens. */
static void test_sixty_stories(void **state)
{
    (void)state;
    TEST_SHARED_OR_SKIP(model, "data/models/stories260K/stories260K.bin");
    TEST_SHARED_OR_SKIP(tok, "data/models/stories260K/tok512.bin");
    TEST_SHARED_OR_SKIP(stories, "data/text/tinystories.first600KB.txt");
    struct tokenized t;
    struct ptq_status st = {0};
    struct windows w;
    char *text;
    size_t bytes;
    tokenizer_open(&t, tok);
    assert_ok(ptq_read_file(stories, 1 << 20, &text, &bytes, &st), &st);
    static const char end_mark[] = "<|endoftext|>";
    windows_new(&w, 60, 512);
    for (char *p = text; w.n_seq < 60;) {
        char *end = strstr(p, end_mark), *last = end;
        assert_non_null(end);
        while (p < end && strchr(" \n", *p))
            p++;
        while (last > p && strchr(" \n", last[-1]))
            last--;
        int32_t *id;
        int64_t n = encode(&t, p, (size_t)(last - p), &id);
        windows_add(&w, n < 512 ? n : 512, -1, id);
        p = end + strlen(end_mark);
    }
    assert_int_equal(w.n_total - w.n_seq, 20424); /* scored, as many as in the figure */
    check_figure(model, &w, 1.2958, 5.1e-5);
    free(text);
    tokenizer_close(&t);
}

/* 300 windows of BOS + 511 tokens of the text encoded as one. */
static void test_wiki(void **state)
{
    (void)state;
    TEST_SHARED_OR_SKIP(model, "data/models/stories260K/stories260K.bin");
    TEST_SHARED_OR_SKIP(tok, "data/models/stories260K/tok512.bin");
    TEST_SHARED_OR_SKIP(wiki, "data/text/wiki.test.raw");
    struct tokenized t;
    struct ptq_status st = {0};
    struct windows w;
    char *text;
    size_t bytes;
    tokenizer_open(&t, tok);
    assert_ok(ptq_read_file(wiki, 1 << 22, &text, &bytes, &st), &st);
    int32_t *all;
    assert_true(encode(&t, text, bytes, &all) > 300 * 511);
    windows_make(&w, 300, 512, 1, all + 1);
    assert_int_equal(w.n_total - w.n_seq, 153300);
    check_figure(model, &w, 4.83978, 1e-5);
    free(text);
    tokenizer_close(&t);
}

/* ---- a file of our own */

static void write_bin(const char *path, const struct tiny *m, int32_t vocab_field)
{
    const struct tiny_shape *s = &m->s;
    const int64_t kv = s->kv * s->hd;
    const int32_t head[7] = {(int32_t)s->d,  (int32_t)s->ff, (int32_t)s->blocks, (int32_t)s->heads,
                             (int32_t)s->kv, vocab_field,    (int32_t)s->context};
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(head, sizeof head, 1, f);
    fwrite(m->embd, 4, (size_t)(s->vocab * s->d), f);
#define EACH(name, n)                                                                              \
    for (int64_t b = 0; b < s->blocks; b++)                                                        \
    fwrite(m->b[b].name, 4, (size_t)(n), f)
    EACH(norm1, s->d);
    EACH(q, s->d * s->d);
    EACH(k, kv * s->d);
    EACH(v, kv * s->d);
    EACH(o, s->d * s->d);
    EACH(norm2, s->d);
    EACH(gate, s->ff * s->d);
    EACH(down, s->ff * s->d);
    EACH(up, s->ff * s->d);
#undef EACH
    fwrite(m->out_norm, 4, (size_t)s->d, f);
    for (int64_t i = 0; i < s->context * s->hd; i++)
        fwrite(&(float){77}, 4, 1, f); /* rotation tables: not used */
    if (vocab_field < 0)
        fwrite(m->out, 4, (size_t)(s->vocab * s->d), f);
    assert_int_equal(fclose(f), 0);
}

/* The same weights through both kinds of files: the same bits. Untied and tied. */
static void test_reader_equals_container(void **state)
{
    (void)state;
    struct ptq_arena a;
    struct ptq_status st = {0};
    char dir[TEST_PATH], bin[TEST_PATH], h5[TEST_PATH];
    test_tmpdir(dir);
    test_path(dir, "m.bin", bin);
    test_path(dir, "m.h5", h5);
    for (int tied = 0; tied < 2; tied++) {
        const struct tiny_shape s = {32, 2, 4, 2, 8, 40, 50, 16, true, tied, 10000};
        struct tiny m;
        struct ptq_model *x, *y;
        const int64_t len = 16, offset = 0;
        const int32_t id[16] = {1, 49, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 12, 13, 14, 15};
        const struct ptq_tokens t = {1, 16, &len, &offset, id};
        ptq_arena_init(&a, 0);
        tiny_make(&m, &s, &a);
        write_bin(bin, &m, tied ? 50 : -50);
        tiny_write(&m, h5);
        assert_ok(ptq_model_open(&x, bin, NULL, &st), &st);
        assert_ok(ptq_model_open(&y, h5, NULL, &st), &st);
        assert_int_equal(ptq_model_info(x)->n_params, ptq_model_info(y)->n_params);
        assert_int_equal(ptq_model_info(x)->tied_head, tied);
        float *p = model_logits(x, &t, 0, NULL), *q = model_logits(y, &t, 0, NULL);
        assert_memory_equal(p, q, 16 * 50 * sizeof *p);
        free(p);
        free(q);
        ptq_model_close(x);
        ptq_model_close(y);
        ptq_arena_clear(&a);
    }
    test_rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sixty_stories),
        cmocka_unit_test(test_wiki),
        cmocka_unit_test(test_reader_equals_container),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
