/* llama2.c checkpoints: the reader, and stories260K (GQA, interleaved rotary pairs, tied head)
 * against independent numpy forward passes (figures of ../shared/data/README.md). The tokenizer of
 * that model is implemented here: it is no part of the program. */
#include "core/json.h"
#include "datasets/llama2c.h"
#include "model/eval.h"
#include "model_cases.h"

/* ---- the tokenizer: int32 longest piece, then per id a float score, an int32 length and the
 * bytes */

enum { N_PIECES = 512, BOS = 1, FIRST_BYTE = 3 };
struct piece {
    const char *at;
    int32_t len;
    float score;
};
struct tokenizer {
    char *raw;
    struct piece piece[N_PIECES];
    int16_t merged[N_PIECES][N_PIECES]; /* of two neighbours; -1: no piece */
};

static int lookup(const struct tokenizer *t, const char *a, int32_t na, const char *b, int32_t nb)
{
    for (int i = 0; i < N_PIECES; i++)
        if (t->piece[i].len == na + nb && memcmp(t->piece[i].at, a, (size_t)na) == 0 &&
            memcmp(t->piece[i].at + na, b, (size_t)nb) == 0)
            return i;
    return -1;
}

static void tokenizer_load(struct tokenizer *t, const char *path)
{
    struct ptq_status st = {0};
    size_t bytes, at = 4;
    assert_ok(ptq_read_file(path, 1 << 20, &t->raw, &bytes, &st), &st);
    for (int i = 0; i < N_PIECES; i++) {
        assert_true(at + 8 <= bytes);
        memcpy(&t->piece[i].score, t->raw + at, 4);
        memcpy(&t->piece[i].len, t->raw + at + 4, 4);
        t->piece[i].at = t->raw + at + 8;
        at += 8 + (size_t)t->piece[i].len;
    }
    assert_true(at <= bytes);
    for (int i = 0; i < N_PIECES; i++)
        for (int k = 0; k < N_PIECES; k++)
            t->merged[i][k] = (int16_t)lookup(t, t->piece[i].at, t->piece[i].len, t->piece[k].at,
                                              t->piece[k].len);
}

/* Appends the ids of the text: a dummy leading space, one code point each (or its bytes + 3), then
 * the best-scored neighbours merge until none do. */
static int64_t encode(const struct tokenizer *t, const char *text, size_t bytes, int32_t *id)
{
    int64_t n = 0;
    int space = lookup(t, " ", 1, "", 0);
    assert_true(space >= 0);
    id[n++] = space;
    for (size_t i = 0; i < bytes;) {
        size_t len = 1;
        while (i + len < bytes && len < 4 && (text[i + len] & 0xC0) == 0x80)
            len++;
        int whole = lookup(t, text + i, (int32_t)len, "", 0);
        if (whole >= 0)
            id[n++] = whole;
        for (size_t k = 0; whole < 0 && k < len; k++)
            id[n++] = (unsigned char)text[i + k] + FIRST_BYTE;
        i += len;
    }
    for (;;) {
        int best = -1;
        int64_t where = -1;
        for (int64_t i = 0; i + 1 < n; i++) {
            int k = t->merged[id[i]][id[i + 1]];
            if (k >= 0 && (best < 0 || t->piece[k].score > t->piece[best].score)) {
                best = k;
                where = i;
            }
        }
        if (best < 0)
            return n;
        id[where] = best;
        memmove(id + where + 1, id + where + 2, (size_t)(n - where - 2) * sizeof *id);
        n--;
    }
}

/* ---- running */

struct windows {
    int64_t len[512], offset[512], n_seq, n_total;
    int32_t *id;
};

static void add_window(struct windows *w, const int32_t *id, int64_t n)
{
    w->len[w->n_seq] = n;
    w->offset[w->n_seq++] = w->n_total;
    memcpy(w->id + w->n_total, id, (size_t)n * sizeof *id);
    w->n_total += n;
}

static double run_nll(const char *model, const struct windows *w, int64_t *n_scored)
{
    struct ptq_status st = {0};
    struct ptq_arena a;
    struct ptq_model *m;
    struct ptq_pool *pool;
    struct ptq_eval e;
    ptq_arena_init(&a, 0);
    const struct ptq_text text = {.tokens = {w->n_seq, w->n_total, w->len, w->offset, w->id}};
    assert_ok(ptq_model_open(&m, model, NULL, &st), &st);
    assert_ok(ptq_pool_new(&pool, 0, &st), &st);
    const struct ptq_eval_args args = {.model = m, .text = &text, .pool = pool};
    assert_ok(ptq_eval_model(&args, &a, &e, &st), &st);
    double nll = ptq_eval_nll(&e);
    *n_scored = e.n_scored;
    ptq_pool_free(pool);
    ptq_model_close(m);
    ptq_arena_clear(&a);
    return nll;
}

/* BOS + story, cut at 512 tokens. */
static void test_sixty_stories(void **state)
{
    (void)state;
    TEST_SHARED_OR_SKIP(model, "data/models/stories260K/stories260K.bin");
    TEST_SHARED_OR_SKIP(tok, "data/models/stories260K/tok512.bin");
    TEST_SHARED_OR_SKIP(stories, "data/text/tinystories.first600KB.txt");
    static struct tokenizer t;
    struct ptq_status st = {0};
    struct windows w = {.id = malloc(60 * 512 * sizeof *w.id)};
    char *text;
    size_t bytes;
    tokenizer_load(&t, tok);
    assert_ok(ptq_read_file(stories, 1 << 20, &text, &bytes, &st), &st);
    static const char end_mark[] = "<|endoftext|>";
    for (char *p = text; w.n_seq < 60;) {
        char *end = strstr(p, end_mark), *last = end;
        assert_non_null(end);
        while (p < end && strchr(" \n", *p))
            p++;
        while (last > p && strchr(" \n", last[-1]))
            last--;
        int32_t *id = malloc((size_t)(last - p + 2) * sizeof *id);
        assert_non_null(id);
        id[0] = BOS;
        int64_t n = 1 + encode(&t, p, (size_t)(last - p), id + 1);
        add_window(&w, id, n < 512 ? n : 512);
        free(id);
        p = end + strlen(end_mark);
    }
    int64_t n_scored;
    double nll = run_nll(model, &w, &n_scored);
    assert_int_equal(n_scored, 20424);
    if (!(fabs(nll - 1.2958) < 5.1e-5))
        fail_msg("nll %.6f", nll);
    free(w.id);
    free(text);
    free(t.raw);
}

/* 300 windows of BOS + 511 tokens of the text encoded as one. */
static void test_wiki(void **state)
{
    (void)state;
    TEST_SHARED_OR_SKIP(model, "data/models/stories260K/stories260K.bin");
    TEST_SHARED_OR_SKIP(tok, "data/models/stories260K/tok512.bin");
    TEST_SHARED_OR_SKIP(wiki, "data/text/wiki.test.raw");
    static struct tokenizer t;
    struct ptq_status st = {0};
    struct windows w = {.id = malloc(300 * 512 * sizeof *w.id)};
    char *text;
    size_t bytes;
    tokenizer_load(&t, tok);
    assert_ok(ptq_read_file(wiki, 1 << 22, &text, &bytes, &st), &st);
    /* Merges never cross a space followed by a letter here: pieces hold a space only at their
     * start. So the text is encoded word by word, the dummy space being the word's own. */
    int64_t n = 0, need = 300 * 511;
    int32_t *all = malloc((size_t)(need + 4096) * sizeof *all), id[4096];
    assert_non_null(all);
    for (size_t i = 0; n < need;) {
        size_t end = i + 1;
        while (end < bytes && text[end] != ' ')
            end++;
        assert_true(end - i < 1000 && end < bytes);
        bool spaced =
            i > 0 && text[i] == ' '; /* the text's first space stands behind the dummy one */
        int64_t k = encode(&t, text + i + spaced, end - i - spaced, id);
        memcpy(all + n, id, (size_t)k * sizeof *id);
        n += k;
        i = end;
    }
    for (int s = 0; s < 300; s++) {
        id[0] = BOS;
        memcpy(id + 1, all + s * 511, 511 * sizeof *id);
        add_window(&w, id, 512);
    }
    int64_t n_scored;
    double nll = run_nll(model, &w, &n_scored);
    assert_int_equal(n_scored, 153300);
    if (!(fabs(nll - 4.83978) < 1e-5))
        fail_msg("nll %.6f", nll);
    free(all);
    free(w.id);
    free(text);
    free(t.raw);
}

/* ---- the reader, on a file of our own */

static void write_bin(const char *path, const struct tiny *m, int32_t vocab_field, size_t drop)
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
    long end = ftell(f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(truncate(path, end - (long)drop), 0);
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
        write_bin(bin, &m, tied ? 50 : -50, 0);
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

static void test_reader_refuses(void **state)
{
    (void)state;
    struct ptq_arena a;
    struct ptq_status st = {0};
    struct ptq_llama2c *f;
    struct tiny m;
    char dir[TEST_PATH], bin[TEST_PATH];
    const struct tiny_shape s = {32, 2, 4, 2, 8, 40, 50, 16, true, true, 10000};
    test_tmpdir(dir);
    test_path(dir, "m.bin", bin);
    ptq_arena_init(&a, 0);
    tiny_make(&m, &s, &a);
    write_bin(bin, &m, 50, 4);
    assert_int_equal(ptq_llama2c_open(&f, bin, &st), PTQ_ERR_USAGE);
    assert_null(f);
    assert_status(&st, PTQ_ERR_USAGE, "truncated");
    for (int field = 0; field < 7; field++) {
        static const int32_t values[] = {0, -1, INT32_MAX, INT32_MIN, 7, 1 << 24};
        for (int k = 0; k < LENGTH(values); k++) {
            write_bin(bin, &m, 50, 0);
            FILE *h = fopen(bin, "r+b");
            assert_non_null(h);
            assert_int_equal(fseek(h, 4 * field, SEEK_SET), 0);
            fwrite(&values[k], 4, 1, h);
            assert_int_equal(fclose(h), 0);
            ptq_status_clear(&st);
            assert_int_equal(ptq_llama2c_open(&f, bin, &st), PTQ_ERR_USAGE);
            assert_status(&st, PTQ_ERR_USAGE, "m.bin");
        }
    }
    for (size_t keep = 0; keep <= 28; keep += 7) {
        write_bin(bin, &m, 50, 0);
        assert_int_equal(truncate(bin, (long)keep), 0);
        ptq_status_clear(&st);
        assert_int_equal(ptq_llama2c_open(&f, bin, &st), PTQ_ERR_USAGE);
    }
    write_bin(bin, &m, 50, 0);
    ptq_status_clear(&st);
    assert_ok(ptq_llama2c_open(&f, bin, &st), &st);
    int64_t dim[2];
    static const char *const strange[] = {"output",
                                          "blk.2.attn_q",
                                          "blk.-1.attn_q",
                                          "blk.attn_q",
                                          "blk.0.tok_embd",
                                          "blk.99999999999999999999.attn_q",
                                          ""};
    for (int i = 0; i < LENGTH(strange); i++)
        assert_int_equal(ptq_llama2c_find(f, strange[i], dim), PTQ_SKIP);
    ptq_llama2c_close(f);
    ptq_status_clear(&st);
    assert_int_equal(ptq_llama2c_open(&f, dir, &st), PTQ_ERR_USAGE);
    ptq_arena_clear(&a);
    test_rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sixty_stories),
        cmocka_unit_test(test_wiki),
        cmocka_unit_test(test_reader_equals_container),
        cmocka_unit_test(test_reader_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
