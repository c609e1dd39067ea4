/* Random models of known shapes (datasets/format_synth.c). Values were computed from the formula of
 * the head comment by a few lines of numpy of their own; the shapes are those of the published
 * config.json files. */
#include "testlib.h"
#include "core/json.h"
#include "datasets/tensors.h"

static struct ptq_status st;

static struct ptq_tensors *open_model(const char *source)
{
    struct ptq_tensors *t;
    ptq_status_clear(&st);
    assert_ok(ptq_tensors_open(&t, source, &st), &st);
    return t;
}

static const struct ptq_tensor *named(const struct ptq_tensors *t, const char *name)
{
    const struct ptq_tensor *x = ptq_tensors_find(t, name);
    if (!x)
        fail_msg("%s is absent", name);
    return x;
}

static float at(const struct ptq_tensors *t, const char *name, int64_t i, int64_t j)
{
    const struct ptq_tensor *x = named(t, name);
    float v;
    assert_ok(ptq_tensors_read(t, x, x->rank == 1 ? i : i * x->dim[1] + j, 1, &v, &st), &st);
    return v;
}

static void values(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t i, j;
        double want;
    } cases[] = {{"model.embed_tokens.weight", 5, 7, 0.05423099175095558},
                 {"model.layers.1.self_attn.q_proj.weight", 3, 100, 0.041747283190488815},
                 {"model.layers.2.mlp.down_proj.weight", 127, 351, 0.004611465614289045},
                 {"model.layers.0.mlp.up_proj.weight", 17, 0, 0.001046304707415402},
                 {"model.layers.3.input_layernorm.weight", 9, 0, 0.6704923510551453}};
    struct ptq_tensors *t = open_model("synth:tiny");
    for (int64_t k = 0; k < LENGTH(cases); k++)
        assert_rel(at(t, cases[k].name, cases[k].i, cases[k].j), cases[k].want, 1e-7);
    ptq_tensors_close(t);
}

/* Any range of a tensor is that part of the whole. */
static void ranges(void **state)
{
    (void)state;
    struct ptq_tensors *t = open_model("synth:tiny");
    for (int64_t k = 0; k < t->n; k++) {
        const struct ptq_tensor *x = &t->tensor[k];
        float *whole = calloc((size_t)x->n, sizeof *whole),
              *part = calloc((size_t)x->n, sizeof *part);
        assert_true(whole && part);
        assert_ok(ptq_tensors_read(t, x, 0, x->n, whole, &st), &st);
        for (int64_t from = 0, n = 1; from < x->n; from += n, n = n * 3 + 1) {
            n = n < x->n - from ? n : x->n - from;
            assert_ok(ptq_tensors_read(t, x, from, n, part + from, &st), &st);
        }
        assert_memory_equal(whole, part, (size_t)x->n * sizeof *whole);
        for (int64_t i = 0; i < x->n; i++)
            assert_true(isfinite(whole[i]));
        free(whole);
        free(part);
    }
    ptq_tensors_close(t);
}

/* The first blocks of a short model are those of the whole one, which has another key. */
static void cut(void **state)
{
    (void)state;
    struct ptq_tensors *t = open_model("synth:tiny"), *one = open_model("synth:tiny:1"),
                       *six = open_model("synth:tiny:6");
    char key[33], key_one[33], again[33];
    assert_int_equal(t->n, 3 + 4 * 9);
    assert_int_equal(one->n, 3 + 9);
    assert_int_equal(six->n, 3 + 6 * 9);
    const char *name = "model.layers.0.mlp.down_proj.weight";
    assert_true(at(t, name, 3, 4) == at(one, name, 3, 4));
    assert_true(at(t, name, 3, 4) != at(t, "model.layers.1.mlp.down_proj.weight", 3, 4));
    assert_true(at(t, "model.layers.3.mlp.up_proj.weight", 3, 4) ==
                at(six, "model.layers.3.mlp.up_proj.weight", 3, 4));
    assert_ok(ptq_tensors_key(t, key, &st), &st);
    assert_ok(ptq_tensors_key(t, again, &st), &st);
    assert_ok(ptq_tensors_key(one, key_one, &st), &st);
    assert_string_equal(key, again);
    assert_string_not_equal(key, key_one);
    ptq_tensors_close(t);
    ptq_tensors_close(one);
    ptq_tensors_close(six);
}

static int64_t setting(const struct ptq_tensors *t, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(t->meta, key));
}

/* huggyllama/llama-7b, meta-llama/Llama-2-7b-hf, meta-llama/Meta-Llama-3-8B: config.json, and the
 * numbers of weights that their pages give. */
static void shapes(void **state)
{
    (void)state;
    static const struct {
        const char *source;
        int64_t d, ff, kv, vocab, context, n_weights;
    } cases[] = {{"synth:llama-7b", 4096, 11008, 32, 32000, 2048, 6738415616},
                 {"synth:llama2-7b", 4096, 11008, 32, 32000, 4096, 6738415616},
                 {"synth:llama3-8b", 4096, 14336, 8, 128256, 8192, 8030261248}};
    for (int64_t k = 0; k < LENGTH(cases); k++) {
        struct ptq_tensors *t = open_model(cases[k].source);
        int64_t n = 0;
        for (int64_t i = 0; i < t->n; i++)
            n += t->tensor[i].n;
        assert_int_equal(n, cases[k].n_weights);
        assert_int_equal(setting(t, "hidden_size"), cases[k].d);
        assert_int_equal(setting(t, "intermediate_size"), cases[k].ff);
        assert_int_equal(setting(t, "num_key_value_heads"), cases[k].kv);
        assert_int_equal(setting(t, "vocab_size"), cases[k].vocab);
        assert_int_equal(setting(t, "max_position_embeddings"), cases[k].context);
        assert_int_equal(named(t, "model.layers.31.self_attn.k_proj.weight")->dim[0],
                         cases[k].kv * 128);
        ptq_tensors_close(t);
    }
}

/* A few channels of the residual stream stand far above the others, the same ones wherever it is
 * written. Channel 123 of 128: from the numpy lines. */
static void outliers(void **state)
{
    (void)state;
    enum { D = 128, VOCAB = 512, FF = 352 };
    static float e[VOCAB * D], w[D * FF];
    struct ptq_tensors *t = open_model("synth:tiny");
    assert_ok(ptq_tensors_read(t, named(t, "model.embed_tokens.weight"), 0, VOCAB * D, e, &st),
              &st);
    assert_ok(
        ptq_tensors_read(t, named(t, "model.layers.2.mlp.down_proj.weight"), 0, D * FF, w, &st),
        &st);
    for (int c = 0; c < D; c++) {
        double in = 0, out = 0;
        for (int i = 0; i < VOCAB; i++)
            in += (double)e[i * D + c] * e[i * D + c] / VOCAB;
        for (int j = 0; j < FF; j++)
            out += (double)w[c * FF + j] * w[c * FF + j];
        bool high = sqrt(in) > 5;
        assert_true(high == (c == 123));
        assert_true(high == (sqrt(out) > 5 / sqrt(8)));
    }
    ptq_tensors_close(t);
}

/* The spectrum decays: power iteration finds a direction of q_proj that stands over the edge of a
 * random matrix with the same variance, 2 for entries of variance 1 / columns. */
static void spectrum(void **state)
{
    (void)state;
    enum { D = 128 };
    static float w[D * D];
    double v[D], y[D], top = 0;
    struct ptq_tensors *t = open_model("synth:tiny");
    assert_ok(
        ptq_tensors_read(t, named(t, "model.layers.0.self_attn.q_proj.weight"), 0, D * D, w, &st),
        &st);
    for (int i = 0; i < D; i++)
        v[i] = 1 + i % 3;
    for (int round = 0; round < 50; round++) {
        double norm = 0;
        memset(y, 0, sizeof y);
        for (int i = 0; i < D; i++)
            for (int j = 0; j < D; j++)
                y[i] += w[i * D + j] * v[j];
        memset(v, 0, sizeof v);
        for (int i = 0; i < D; i++)
            for (int j = 0; j < D; j++)
                v[j] += w[i * D + j] * y[i];
        for (int j = 0; j < D; j++)
            norm += v[j] * v[j];
        top = sqrt(sqrt(norm));
        for (int j = 0; j < D; j++)
            v[j] /= sqrt(norm);
    }
    /* 2.4: a_0 sqrt(128) / norm = 0.25 * 11.3 / 1.07 = 2.6 beside the bulk, edge 2 / 1.07 = 1.9 */
    assert_true(top > 2.4);
    ptq_tensors_close(t);
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *source, *says;
    } cases[] = {{"synth:llama-7c", "did you mean 'llama-7b'"},
                 {"synth:", "valid: llama-7b, llama2-7b, llama3-8b, tiny"},
                 {"synth:tiny:0", "0 is outside 1 .. 1024"},
                 {"synth:tiny:", "not a whole number"},
                 {"synth:tiny:2:3", "not a whole number"}};
    for (int64_t k = 0; k < LENGTH(cases); k++) {
        struct ptq_tensors *t;
        ptq_status_clear(&st);
        assert_int_equal(ptq_tensors_open(&t, cases[k].source, &st), PTQ_ERR_USAGE);
        assert_status(&st, PTQ_ERR_USAGE, cases[k].says);
        assert_null(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),  cmocka_unit_test(ranges),   cmocka_unit_test(cut),
        cmocka_unit_test(shapes),  cmocka_unit_test(outliers), cmocka_unit_test(spectrum),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
