/* A trained GPT-2, atome-1m, against the figure of ../shared/data/README.md. */
#include "datasets/tensors.h"
#include "trained.h"

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
    check_figure(path, &w, 3.32848, 1e-5);
    free(id);
    free(text);
    test_rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_atome),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
