/* The forward pass: against plain fp64 loops on tiny models of awkward shapes, against the torch
 * figures of the demo model (../shared/demo-model/reference.json), and its properties: causality,
 * thread count, the outlier variant, bad files. */
#include "core/json.h"
#include "model/attention.h"
#include "model/eval.h"
#include "model_cases.h"

static const char demo[] = "datasets/demo.h5";

struct fixture {
    struct ptq_arena arena;
    struct ptq_status st;
    char dir[TEST_PATH], path[TEST_PATH];
};

static void setup(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    ptq_arena_init(&f->arena, 0);
    test_tmpdir(f->dir);
    test_path(f->dir, "model.h5", f->path);
}

static void teardown(struct fixture *f)
{
    ptq_arena_clear(&f->arena);
    test_rmdir(f->dir);
}

/* ---- tiny models */

static const struct tiny_shape shapes[] = {
    {32, 2, 4, 2, 8, 48, 40, 64, false, false, 10000}, /* groups of two heads */
    {24, 3, 3, 1, 10, 20, 17, 64, true, true,
     500}, /* one key head, q wider than d, interleaved, tied */
    {36, 2, 2, 2, 18, 100, 300, 64, false, true, 10000}, /* a head over one vector, plain heads */
    {20, 1, 5, 5, 4, 7, 33, 64, true, false, 1e6},       /* d_ff below everything */
};

static void test_tiny_models(void **state)
{
    (void)state;
    for (int k = 0; k < LENGTH(shapes); k++) {
        struct fixture f;
        struct tiny tiny;
        struct ptq_model *m;
        setup(&f);
        tiny_make(&tiny, &shapes[k], &f.arena);
        tiny_write(&tiny, f.path);
        assert_ok(ptq_model_open(&m, f.path, NULL, &f.st), &f.st);
        const int64_t len[] = {1, 37, 64, 8}, offset[] = {0, 1, 38, 102};
        int32_t id[110];
        for (int i = 0; i < 110; i++)
            id[i] = (int32_t)(ptq_hash_u64(5, (uint64_t)i) % (uint64_t)shapes[k].vocab);
        const struct ptq_tokens tokens = {4, 110, len, offset, id};
        for (int s = 0; s < 4; s++) {
            const int64_t n = len[s] * shapes[k].vocab;
            double *want = malloc((size_t)n * sizeof *want);
            float *got = model_logits(m, &tokens, s, NULL);
            assert_non_null(want);
            tiny_forward(&tiny, id + offset[s], len[s], want, -1, NULL);
            for (int64_t i = 0; i < n; i++)
                if (!(fabs(got[i] - want[i]) <
                      1e-4)) /* logits of size 2 to 10 by some hundred fp32 roundings */
                    fail_msg("shape %d sequence %d element %lld: %.9g, expected %.9g", k, s,
                             (long long)i, got[i], want[i]);
            free(want);
            free(got);
        }
        ptq_model_close(m);
        teardown(&f);
    }
}

/* Every length up to several pieces of the kernel, every width around its vector length. */
static void test_attention_kernel(void **state)
{
    (void)state;
    const int64_t dims[] = {2, 6, 16, 20, 64};
    struct ptq_arena a;
    ptq_arena_init(&a, 0);
    for (int k = 0; k < LENGTH(dims); k++)
        for (int64_t len = 1; len <= 41; len++) {
            const struct tiny_shape s = {.heads = 4, .kv = 2, .hd = dims[k]};
            uint64_t seed = 9;
            const int64_t nq = len * 4 * s.hd, nkv = len * 2 * s.hd;
            float *q = tiny_fill(&a, nq, 1, 0, &seed), *kk = tiny_fill(&a, nkv, 1, 0, &seed),
                  *v = tiny_fill(&a, nkv, 1, 0, &seed);
            float *out = tiny_fill(&a, nq, 0, NAN, &seed);
            double *wide = ptq_arena_alloc(&a, NULL, 2 * nq + 2 * nkv, sizeof *wide);
            for (int64_t i = 0; i < nq; i++)
                wide[i] = q[i];
            for (int64_t i = 0; i < nkv; i++) {
                wide[nq + i] = kk[i];
                wide[nq + nkv + i] = v[i];
            }
            const struct ptq_attention at = {len, 4, 2, s.hd, q, kk, v, out};
            ptq_attention_run(&at);
            double *want = wide + nq + 2 * nkv;
            tiny_attention(&s, len, wide, wide + nq, wide + nq + nkv, want);
            for (int64_t i = 0; i < nq; i++)
                if (!(fabs(out[i] - want[i]) < 2e-6))
                    fail_msg("head %lld length %lld element %lld: %.9g, expected %.9g",
                             (long long)s.hd, (long long)len, (long long)i, out[i], want[i]);
            ptq_arena_clear(&a);
        }
}

/* ---- the demo model */

/* The file holds NaN, which JSON has not. */
static json_t *load_reference(const char *path)
{
    struct ptq_status st = {0};
    char *text;
    size_t bytes;
    json_error_t e;
    assert_ok(ptq_read_file(path, 1 << 20, &text, &bytes, &st), &st);
    for (char *p = text; (p = strstr(p, ": NaN"));)
        memcpy(p, ":   0", 5);
    json_t *j = json_loads(text, 0, &e);
    assert_non_null(j);
    free(text);
    return j;
}

struct run {
    struct ptq_arena arena;
    struct ptq_status st;
    struct ptq_model *model;
    struct ptq_pool *pool;
    struct ptq_text text;
    struct ptq_eval eval;
};

static void run_demo(struct run *r, int64_t windows, int threads, bool outliers)
{
    const struct ptq_model_options o = {outliers};
    const struct ptq_text_request ask = {"synth:facts:5555", windows, 0};
    memset(r, 0, sizeof *r);
    ptq_arena_init(&r->arena, 0);
    assert_ok(ptq_model_open(&r->model, demo, &o, &r->st), &r->st);
    assert_ok(ptq_text_load(ptq_model_info(r->model), &ask, &r->arena, &r->text, &r->st), &r->st);
    assert_ok(ptq_pool_new(&r->pool, threads, &r->st), &r->st);
    const struct ptq_eval_args args = {.model = r->model, .text = &r->text, .pool = r->pool};
    assert_ok(ptq_eval_model(&args, &r->arena, &r->eval, &r->st), &r->st);
}

static void run_end(struct run *r)
{
    ptq_pool_free(r->pool);
    ptq_model_close(r->model);
    ptq_arena_clear(&r->arena);
}

/* First four windows of seed 5555; nll_nats_per_byte_windows_seed_5555_first_64 of
 * ../shared/demo-model/reference.json (torch). */
static void test_demo_committed_figures(void **state)
{
    (void)state;
    static const double want[] = {0.215870953, 0.220960579, 0.220201595, 0.216990445};
    struct run r;
    run_demo(&r, 4, 0, false);
    for (int i = 0; i < 4; i++)
        assert_true(fabs(r.eval.nll_window[i] - want[i]) < 1e-6);
    assert_int_equal(ptq_model_info(r.model)->n_params, 853120); /* its README */
    run_end(&r);
}

static void test_demo_windows(void **state)
{
    (void)state;
    TEST_SHARED_OR_SKIP(path, "demo-model/reference.json");
    json_t *j = load_reference(path), *nll;
    struct run r;
    nll = json_object_get(json_object_get(j, "model"),
                          "nll_nats_per_byte_windows_seed_5555_first_64");
    assert_int_equal(json_array_size(nll), 64);
    run_demo(&r, 0, 0, false);
    assert_int_equal(r.eval.n_windows, 256);
    assert_string_equal(r.text.protocol, "facts-256");
    for (size_t i = 0; i < 64; i++)
        if (!(fabs(r.eval.nll_window[i] - json_real_value(json_array_get(nll, i))) < 1e-5))
            fail_msg("window %zu: nll %.9f", i, r.eval.nll_window[i]);
    json_t *fp = json_object_get(json_object_get(j, "cells_256_windows_seed_5555"), "fp");
    assert_true(fabs(ptq_eval_nll(&r.eval) / log(2) - json_real_value(json_object_get(fp, "bpb"))) <
                1.5e-6); /* printed to 1e-6 */
    run_end(&r);
    json_decref(j);
}

static void test_demo_logits(void **state)
{
    (void)state;
    TEST_SHARED_OR_SKIP(path, "demo-model/reference.json");
    json_t *j = load_reference(path), *want;
    struct run r;
    want = json_object_get(json_object_get(j, "model"), "logits");
    run_demo(&r, 1, 1, false);
    float *got = model_logits(r.model, &r.text.tokens, 0, NULL);
    const size_t n = json_array_size(json_object_get(want, "positions"));
    assert_int_equal(n, 4);
    for (size_t i = 0; i < n; i++) {
        json_int_t t = json_integer_value(json_array_get(json_object_get(want, "positions"), i));
        json_t *row = json_array_get(json_object_get(want, "values"), i);
        assert_int_equal(json_array_size(row), 256);
        for (size_t v = 0; v < 256; v++)
            if (!(fabs(got[(size_t)t * 256 + v] - json_real_value(json_array_get(row, v))) < 1e-4))
                fail_msg("position %d, id %zu: %.6f", (int)t, v, got[(size_t)t * 256 + v]);
    }
    free(got);
    run_end(&r);
    json_decref(j);
}

static void test_threads_same_bits(void **state)
{
    (void)state;
    struct run one, more;
    run_demo(&one, 13, 1, false);
    for (int threads = 2; threads <= 3; threads++) {
        run_demo(&more, 13, threads, false);
        assert_memory_equal(one.eval.nll_window, more.eval.nll_window, 13 * sizeof(double));
        assert_memory_equal(one.eval.hit, more.eval.hit, (size_t)one.eval.n_scored);
        run_end(&more);
    }
    /* Another number of windows changes no window either. */
    run_demo(&more, 5, 2, false);
    assert_memory_equal(one.eval.nll_window, more.eval.nll_window, 5 * sizeof(double));
    run_end(&more);
    run_end(&one);
}

/* Powers of two: the weights change, the output keeps its bits. Channels and factors: the draws of
 * generator seed 77 (`outlier` of ../shared/demo-model/quant_eval.py), computed by hand in Python.
 */
static void test_outlier_variant(void **state)
{
    (void)state;
    static const int channel[4] = {1, 84, 108, 59},
                     hidden[4][2] = {{9, 238}, {84, 299}, {241, 317}, {225, 80}};
    struct run plain, planted;
    struct ptq_block a, b;
    run_demo(&plain, 4, 2, false);
    run_demo(&planted, 4, 2, true);
    assert_memory_equal(plain.eval.nll_window, planted.eval.nll_window, 4 * sizeof(double));
    assert_string_not_equal(ptq_model_info(plain.model)->key, ptq_model_info(planted.model)->key);
    for (int block = 0; block < 4; block++) {
        float want[128], up[384];
        assert_ok(ptq_model_load_block(plain.model, block, &plain.arena, &a, &plain.st), &plain.st);
        assert_ok(ptq_model_load_block(planted.model, block, &planted.arena, &b, &planted.st),
                  &planted.st);
        for (int i = 0; i < 384; i++)
            up[i] = i == hidden[block][0] || i == hidden[block][1] ? 16 : 1;
        for (int i = 0; i < 128; i++)
            want[i] = i == channel[0] || i == channel[2]   ? 16
                      : i == channel[1] || i == channel[3] ? 8
                                                           : 1;
        for (int i = 0; i < 128; i++) {
            assert_true(b.vec[0].at[i] == a.vec[0].at[i] * want[i] &&
                        b.vec[1].at[i] == a.vec[1].at[i] * want[i]);
            for (int l = 0; l < 6;
                 l++) /* q k v, gate up; o (3) reads the heads, not the channels */
                assert_true(b.lin[l].w[128 * 9 + i] == a.lin[l].w[128 * 9 + i] /
                                                           (l == 3 ? 1 : want[i]) *
                                                           (l == 5 ? up[9] : 1));
        }
        for (int i = 0; i < 384; i++) {
            assert_true(b.lin[5].w[i * 128] == a.lin[5].w[i * 128] * up[i]);
            assert_true(b.lin[6].w[384 * 7 + i] == a.lin[6].w[384 * 7 + i] / up[i]);
        }
    }
    run_end(&plain);
    run_end(&planted);
}

static void test_causal(void **state)
{
    (void)state;
    struct run r;
    int32_t id[256];
    run_demo(&r, 1, 1, false);
    float *before = model_logits(r.model, &r.text.tokens, 0, NULL);
    for (int at = 255; at >= 3; at -= 36) {
        memcpy(id, r.text.tokens.id, sizeof id);
        id[at] ^= 1;
        struct ptq_tokens t = r.text.tokens;
        t.id = id;
        float *after = model_logits(r.model, &t, 0, NULL);
        assert_memory_equal(before, after, (size_t)at * 256 * sizeof *before);
        assert_true(memcmp(before + at * 256, after + at * 256, 256 * sizeof *before) != 0);
        free(after);
    }
    free(before);
    run_end(&r);
}

/* ---- faults */

static void open_fails(struct fixture *f, const char *part)
{
    struct ptq_model *m;
    struct ptq_status st = {0};
    assert_int_equal(ptq_model_open(&m, f->path, NULL, &st), PTQ_ERR_USAGE);
    assert_null(m);
    assert_status(&st, PTQ_ERR_USAGE, part);
    assert_status(&st, PTQ_ERR_USAGE, "model.h5");
}

static void test_bad_containers(void **state)
{
    (void)state;
    struct fixture f;
    struct tiny tiny;
    struct ptq_h5 *h;
    setup(&f);
    struct tiny_shape s = shapes[0];
    tiny_make(&tiny, &s, &f.arena);

    tiny.s.kv = 3; /* 4 heads over 3 */
    tiny_write(&tiny, f.path);
    open_fails(&f, "not a multiple");
    tiny.s = s;
    tiny.s.hd = 7;
    tiny_write(&tiny, f.path);
    open_fails(&f, "odd");
    tiny.s = s;
    tiny.s.ff = 47;
    tiny_write(&tiny, f.path);
    assert_ok(ptq_h5_open(&h, f.path, PTQ_H5_APPEND, &f.st), &f.st);
    assert_ok(ptq_h5_set_i64(h, "/model", "d_ff", 48, &f.st), &f.st);
    assert_ok(ptq_h5_close(h, &f.st), &f.st);
    open_fails(&f, "blk.0.ffn_gate");
    tiny.s = s;
    tiny.s.blocks = 2;
    tiny_write(&tiny, f.path);
    assert_ok(ptq_h5_open(&h, f.path, PTQ_H5_APPEND, &f.st), &f.st);
    assert_ok(ptq_h5_set_i64(h, "/model", "n_blocks", 3, &f.st), &f.st);
    assert_ok(ptq_h5_close(h, &f.st), &f.st);
    open_fails(&f, "blk.2.attn_q is missing");
    assert_ok(ptq_h5_open(&h, f.path, PTQ_H5_APPEND, &f.st), &f.st);
    assert_ok(ptq_h5_set_i64(h, "/model", "n_blocks", INT64_MAX, &f.st), &f.st);
    assert_ok(ptq_h5_close(h, &f.st), &f.st);
    open_fails(&f, "n_blocks");
    assert_ok(ptq_h5_open(&h, f.path, PTQ_H5_APPEND, &f.st), &f.st);
    assert_ok(ptq_h5_set_i64(h, "/", "schema", 9, &f.st), &f.st);
    assert_ok(ptq_h5_close(h, &f.st), &f.st);
    open_fails(&f, "schema version 9");
    assert_ok(ptq_h5_open(&h, f.path, PTQ_H5_CREATE, &f.st), &f.st);
    assert_ok(ptq_h5_set_i64(h, "/", "schema", 1, &f.st), &f.st);
    assert_ok(ptq_h5_close(h, &f.st), &f.st);
    open_fails(&f, "no /model");
    tiny.s = s;
    tiny_write(&tiny, f.path);
    assert_ok(ptq_h5_open(&h, f.path, PTQ_H5_APPEND, &f.st), &f.st);
    assert_ok(ptq_h5_set_text(h, "/model", "architecture", "lama", &f.st), &f.st);
    assert_ok(ptq_h5_close(h, &f.st), &f.st);
    struct ptq_model *m;
    struct ptq_status st = {0};
    assert_int_equal(ptq_model_open(&m, f.path, NULL, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "did you mean 'llama'");
    teardown(&f);
}

static void test_non_finite_weights(void **state)
{
    (void)state;
    struct fixture f;
    struct tiny tiny;
    struct ptq_model *m;
    struct ptq_block b;
    setup(&f);
    tiny_make(&tiny, &shapes[0], &f.arena);
    tiny.b[1].up[5 * 32 + 3] = NAN;
    tiny_write(&tiny, f.path);
    assert_ok(ptq_model_open(&m, f.path, NULL, &f.st), &f.st);
    assert_ok(ptq_model_load_block(m, 0, &f.arena, &b, &f.st), &f.st);
    assert_int_equal(ptq_model_load_block(m, 1, &f.arena, &b, &f.st), PTQ_ERR_NUMERIC);
    assert_status(&f.st, PTQ_ERR_NUMERIC, "blk.1.ffn_up");
    assert_status(&f.st, PTQ_ERR_NUMERIC, "row 5, column 3");
    ptq_model_close(m);
    teardown(&f);
}

static void test_bad_tokens(void **state)
{
    (void)state;
    struct fixture f;
    struct tiny tiny;
    struct ptq_model *m;
    struct ptq_hidden h;
    setup(&f);
    tiny_make(&tiny, &shapes[0], &f.arena);
    tiny_write(&tiny, f.path);
    assert_ok(ptq_model_open(&m, f.path, NULL, &f.st), &f.st);
    int64_t len = 65, offset = 0;
    int32_t id[65] = {0};
    const struct ptq_tokens t = {1, 65, &len, &offset, id};
    assert_int_equal(ptq_model_embed(m, &t, &f.arena, &h, &f.st), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "65 tokens");
    ptq_status_clear(&f.st);
    len = 64;
    id[63] = 40;
    assert_int_equal(ptq_model_embed(m, &t, &f.arena, &h, &f.st), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "id 40");
    struct ptq_block b;
    ptq_status_clear(&f.st);
    assert_int_equal(ptq_model_layout(m, 2, &f.arena, &b, &f.st), PTQ_ERR_USAGE);
    ptq_model_close(m);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny_models),
        cmocka_unit_test(test_attention_kernel),
        cmocka_unit_test(test_demo_committed_figures),
        cmocka_unit_test(test_demo_windows),
        cmocka_unit_test(test_demo_logits),
        cmocka_unit_test(test_threads_same_bits),
        cmocka_unit_test(test_outlier_variant),
        cmocka_unit_test(test_causal),
        cmocka_unit_test(test_bad_containers),
        cmocka_unit_test(test_non_finite_weights),
        cmocka_unit_test(test_bad_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
