/* Trained models of other people's programs against the figures of ../shared/data/README.md, over
 * all of their windows. */
#include "datasets/tensors.h"
#include "model/eval.h"
#include "model_cases.h"

struct windows {
    int64_t *len, *offset, n_seq, n_total;
    int32_t *id;
};

/* n windows of `width` ids: lead (or none, < 0) and the next ids of the text. */
static void windows_make(struct windows *w, int64_t n, int64_t width, int32_t lead,
                         const int32_t *id)
{
    const int64_t own = lead < 0 ? width : width - 1;
    w->n_seq = n;
    w->n_total = n * width;
    w->len = malloc((size_t)n * sizeof *w->len);
    w->offset = malloc((size_t)n * sizeof *w->offset);
    w->id = malloc((size_t)w->n_total * sizeof *w->id);
    assert_true(w->len && w->offset && w->id);
    for (int64_t s = 0; s < n; s++) {
        int32_t *at = w->id + s * width;
        w->len[s] = width;
        w->offset[s] = s * width;
        if (lead >= 0)
            *at++ = lead;
        memcpy(at, id + s * own, (size_t)own * sizeof *at);
    }
}

static void check_figure(const char *model, struct windows *w, double want)
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
    if (!(fabs(nll - want) < 1e-5))
        fail_msg("%s: nll %.6f, expected %.5f", model, nll, want);
    ptq_pool_free(pool);
    ptq_model_close(m);
    ptq_arena_clear(&a);
    free(w->len);
    free(w->offset);
    free(w->id);
}

/* babyllama-361: ids 3 .. 258 are bytes; behind them the table's characters, id = line + 256, a
 * space being its U+2581. As in SentencePiece one stands before the text. */
enum { BABY_LINES = 105, BABY_FIRST = 256, BABY_BYTE = 3, BABY_BOS = 1 };

static int64_t baby_encode(const char *vocab, const char *text, int64_t most, int32_t *id)
{
    char line[BABY_LINES][8];
    int n_lines = 0;
    int64_t n = 0;
    for (const char *p = vocab; *p; p = strchr(p, '\n') + 1) {
        size_t len = strcspn(p, "\t");
        assert_true(n_lines < BABY_LINES && len < sizeof line[0]);
        memcpy(line[n_lines], p, len);
        line[n_lines++][len] = 0;
    }
    assert_int_equal(n_lines, BABY_LINES);
    assert_string_equal(line[3], "\xE2\x96\x81");
    id[n++] = 3 + BABY_FIRST;
    for (const char *p = text; *p && n < most;) {
        size_t len = 1;
        while ((p[len] & 0xC0) == 0x80)
            len++;
        const char *find = *p == ' ' ? "\xE2\x96\x81" : p;
        const size_t find_len = *p == ' ' ? 3 : len;
        int k = 3; /* <unk> <s> </s> are no characters */
        while (k < BABY_LINES &&
               !(strlen(line[k]) == find_len && memcmp(line[k], find, find_len) == 0))
            k++;
        if (k < BABY_LINES)
            id[n++] = k + BABY_FIRST;
        for (size_t i = 0; k == BABY_LINES && i < len && n < most; i++)
            id[n++] = (unsigned char)p[i] + BABY_BYTE;
        p += len;
    }
    return n;
}

static void test_babyllama(void **state)
{
    (void)state;
    TEST_SHARED_OR_SKIP(model, "data/models/babyllama-361/tok361_model5000.bin");
    TEST_SHARED_OR_SKIP(table, "data/models/babyllama-361/tok105.vocab");
    TEST_SHARED_OR_SKIP(wiki, "data/text/wiki.test.raw");
    struct ptq_status st = {0};
    struct windows w;
    char *vocab, *text;
    size_t n_vocab, n_text;
    const int64_t n = 600 * 255;
    int32_t *id = malloc((size_t)n * sizeof *id);
    assert_non_null(id);
    assert_ok(ptq_read_file(table, 1 << 16, &vocab, &n_vocab, &st), &st);
    assert_ok(ptq_read_file(wiki, 1 << 22, &text, &n_text, &st), &st);
    assert_int_equal(baby_encode(vocab, text, n, id), n);
    windows_make(&w, 600, 256, BABY_BOS, id);
    check_figure(model, &w, 3.27217);
    free(id);
    free(vocab);
    free(text);
}

static void put_stored(struct ptq_h5 *f, const struct ptq_tensors *t, const char *stored,
                       const char *canonical, int64_t block, int64_t first, int64_t rows)
{
    struct ptq_status st = {0};
    const struct ptq_tensor *x = ptq_tensors_find(t, stored);
    if (!x)
        fail_msg("no tensor %s", stored);
    const int64_t width = x->rank == 2 ? x->dim[1] : 1, n = rows ? rows : x->dim[0];
    float *v = malloc((size_t)(n * width) * sizeof *v);
    assert_non_null(v);
    assert_ok(ptq_tensors_read(t, x, first * width, n * width, v, &st), &st);
    tiny_put(f, canonical, block, v, n, x->rank == 2 ? width : 0);
    free(v);
}

/* atome-1m is a GPT-2 by another program: its tensors under our names, in a container. */
static void atome_convert(const char *pt, const char *path)
{
    static const char *const pairs[][2] = {
        {"norm1.weight", "attn_norm"},   {"norm1.bias", "attn_norm.bias"},
        {"norm2.weight", "ffn_norm"},    {"norm2.bias", "ffn_norm.bias"},
        {"attn.out.weight", "attn_o"},   {"ffn.up.weight", "ffn_up"},
        {"ffn.down.weight", "ffn_down"},
    };
    static const char *const parts[] = {"attn_q", "attn_k", "attn_v"};
    const struct tiny_shape s = {152, 3, 4, 4, 38, 608, 256, 256, false, false, 10000};
    struct ptq_status st = {0};
    struct ptq_tensors *t;
    struct ptq_h5 *f;
    char name[64];
    assert_ok(ptq_tensors_open(&t, pt, &st), &st);
    assert_ok(ptq_h5_open(&f, path, PTQ_H5_CREATE, &st), &st);
    tiny_write_head(f, &s);
    assert_ok(ptq_h5_set_text(f, "/model", "architecture", "gpt2", &st), &st);
    assert_ok(ptq_h5_set_text(f, "/model", "activation", "gelu", &st), &st);
    put_stored(f, t, "tok_embed.weight", "tok_embd", -1, 0, 0);
    put_stored(f, t, "pos_embed.weight", "pos_embd", -1, 0, 0);
    put_stored(f, t, "norm_final.weight", "output_norm", -1, 0, 0);
    put_stored(f, t, "norm_final.bias", "output_norm.bias", -1, 0, 0);
    put_stored(f, t, "unembed.weight", "output", -1, 0, 0);
    for (int64_t b = 0; b < s.blocks; b++) {
        for (int64_t i = 0; i < LENGTH(pairs); i++) {
            snprintf(name, sizeof name, "blocks.%d.%s", (int)b, pairs[i][0]);
            put_stored(f, t, name, pairs[i][1], b, 0, 0);
        }
        snprintf(name, sizeof name, "blocks.%d.attn.qkv.weight", (int)b);
        for (int64_t i = 0; i < 3; i++)
            put_stored(f, t, name, parts[i], b, i * s.d, s.d);
    }
    assert_ok(ptq_h5_close(f, &st), &st);
    ptq_tensors_close(t);
}

static void test_atome(void **state)
{
    (void)state;
    TEST_SHARED_OR_SKIP(pt, "data/models/atome-1m/vanilla_1m_v1.pt");
    TEST_SHARED_OR_SKIP(wiki, "data/text/wiki.test.raw");
    struct ptq_status st = {0};
    struct windows w;
    char dir[TEST_PATH], path[TEST_PATH], *text;
    size_t n_text;
    const int64_t n = 600 * 256;
    int32_t *id = malloc((size_t)n * sizeof *id);
    assert_non_null(id);
    test_tmpdir(dir);
    test_path(dir, "atome.h5", path);
    atome_convert(pt, path);
    assert_ok(ptq_read_file(wiki, 1 << 22, &text, &n_text, &st), &st);
    for (int64_t i = 0; i < n; i++)
        id[i] = (unsigned char)text[i];
    windows_make(&w, 600, 256, -1, id);
    check_figure(path, &w, 3.32848);
    free(id);
    free(text);
    test_rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_babyllama),
        cmocka_unit_test(test_atome),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
