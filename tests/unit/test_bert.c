/* BERT's encoder against transformers: tests/vectors/arch/bert.json, made by
 * tests/vectors/arch_reference.py. Last hidden states within 2e-5, the pooled embedding within
 * 1e-5; every feature moves the states ("moves" in the file). */
#include "hf_folder.h"
#include "model/eval.h"
#include "model/import.h"

static const double hidden_tolerance = 2e-5, embedding_tolerance = 1e-5;
static const double least_move = 100 * 2e-4; /* arch_reference.py asserts the same */

struct result { /* of one sequence */
    int64_t len, d;
    float *hidden;     /* (len x d) */
    double *embedding; /* [d] */
    struct ptq_arena arena;
};

static void run(const char *source, const json_t *vector, struct ptq_pool *pool, struct result *r)
{
    const json_t *list = json_object_get(vector, "ids");
    const int64_t len = (int64_t)json_array_size(list), offset = 0;
    struct ptq_status st = {0};
    struct ptq_model *m;
    struct ptq_hidden h;
    struct ptq_eval e;
    ptq_arena_init(&r->arena, 0);
    int32_t *id = ptq_arena_alloc(&r->arena, &st, len, sizeof *id);
    assert_non_null(id);
    for (int64_t i = 0; i < len; i++)
        id[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    const struct ptq_text text = {.tokens = {1, len, &len, &offset, id}};
    assert_ok(ptq_model_open(&m, source, NULL, &st), &st);
    const struct ptq_eval_args args = {.model = m, .text = &text, .pool = pool};
    assert_ok(ptq_model_embed(m, &text.tokens, &r->arena, &h, &st), &st);
    for (int b = 0; b < ptq_model_info(m)->n_blocks; b++) {
        struct ptq_block block;
        assert_ok(ptq_model_load_block(m, b, &r->arena, &block, &st), &st);
        assert_ok(ptq_block_run(m, &block, pool, &h, NULL, &st), &st);
    }
    assert_ok(ptq_eval_model(&args, &r->arena, &e, &st), &st);
    assert_int_equal(e.n_windows, 1);
    assert_int_equal(e.n_scored, 0);
    assert_null(e.nll_window);
    assert_int_equal(e.d_embedding, ptq_model_info(m)->d_model);
    r->len = len;
    r->d = e.d_embedding;
    r->hidden = h.at;
    r->embedding = e.embedding;
    ptq_model_close(m);
}

static double hidden_error(const struct result *r, const json_t *vector)
{
    const json_t *positions = json_object_get(vector, "positions"),
                 *entries = json_object_get(vector, "entries"),
                 *want = json_object_get(vector, "hidden");
    double worst = 0;
    assert_true(json_array_size(want) >= 6 && json_array_size(entries) >= 6);
    for (size_t p = 0; p < json_array_size(want); p++)
        for (size_t k = 0; k < json_array_size(entries); k++) {
            int64_t t = json_integer_value(json_array_get(positions, p)),
                    v = json_integer_value(json_array_get(entries, k));
            double expected = json_number_value(json_array_get(json_array_get(want, p), k));
            worst = fmax(worst, fabs((double)r->hidden[t * r->d + v] - expected));
        }
    return worst;
}

static double embedding_error(const struct result *r, const json_t *vector)
{
    const json_t *want = json_object_get(vector, "embedding");
    double worst = 0;
    assert_int_equal(json_array_size(want), r->d);
    for (int64_t k = 0; k < r->d; k++)
        worst =
            fmax(worst, fabs(r->embedding[k] - json_number_value(json_array_get(want, (size_t)k))));
    return worst;
}

static void check_source(const char *what, const char *source, const json_t *vector)
{
    struct result r;
    run(source, vector, NULL, &r);
    double hidden = hidden_error(&r, vector), embedding = embedding_error(&r, vector);
    if (!(hidden <= hidden_tolerance && embedding <= embedding_tolerance))
        fail_msg("%s: states differ by %.3g, the embedding by %.3g", what, hidden, embedding);
    ptq_arena_clear(&r.arena);
}

/* A tensor that the model does not use. */
static void add_tensor(struct hf_checkpoint *c, const char *name)
{
    struct hf_tensor *t = &c->tensor[c->n++];
    *t = (struct hf_tensor){name, 2, {24, 24}, 24 * 24, NULL};
    hf_fill(t);
}

static void test_reference(void **state)
{
    (void)state;
    struct hf_checkpoint c;
    char dir[TEST_PATH], parts[TEST_PATH];
    const char *key;
    json_t *move;
    hf_load(&c, "bert");
    test_tmpdir(dir);
    test_tmpdir(parts);
    add_tensor(&c, "pooler.dense.weight");
    hf_write(&c, dir, "");
    hf_write_sharded(&c, parts);
    check_source("a folder", dir, c.vector);
    check_source("shards", parts, c.vector);
    int n = 0;
    json_object_foreach(json_object_get(c.vector, "moves"), key, move)
    {
        assert_true(json_real_value(move) > least_move);
        n++;
    }
    assert_int_equal(n, 8);
    test_rmdir(dir);
    test_rmdir(parts);
    hf_release(&c);
}

/* BertForMaskedLM and its kin call the encoder "bert.". */
static void test_prefix(void **state)
{
    (void)state;
    struct hf_checkpoint c;
    char dir[TEST_PATH], name[HF_MAX_TENSORS][128];
    hf_load(&c, "bert");
    for (int64_t i = 0; i < c.n; i++) {
        snprintf(name[i], sizeof name[i], "bert.%s", c.tensor[i].name);
        c.tensor[i].name = name[i];
    }
    add_tensor(&c, "cls.predictions.transform.dense.weight");
    test_tmpdir(dir);
    hf_write(&c, dir, "");
    check_source("prefix", dir, c.vector);
    test_rmdir(dir);
    hf_release(&c);
}

static void test_container(void **state)
{
    (void)state;
    struct ptq_status st = {0};
    struct hf_checkpoint c;
    struct ptq_model *m;
    char dir[TEST_PATH], path[TEST_PATH];
    hf_load(&c, "bert");
    test_tmpdir(dir);
    test_path(dir, "m.h5", path);
    hf_write(&c, dir, "");
    assert_ok(ptq_model_open(&m, dir, NULL, &st), &st);
    /* by hand: 2 blocks of 24 and 40, 96 tokens, 64 positions, 2 types */
    const int64_t matrices = 2 * (4 * 24 * 24 + 2 * 24 * 40),
                  vectors = 2 * (4 * 24 + 40 + 24 + 4 * 24);
    assert_int_equal(ptq_model_info(m)->n_block_params, matrices);
    assert_int_equal(ptq_model_info(m)->n_params, matrices + vectors + (96 + 64 + 2 + 2) * 24);
    const struct ptq_import_args args = {
        .model = m, .out_path = path, .name = "m", .type = PTQ_H5_OTHER, .quiet = true};
    assert_ok(ptq_import(&args, &st), &st);
    ptq_model_close(m);
    check_source("a container", path, c.vector);
    test_rmdir(dir);
    hf_release(&c);
}

static void test_threads(void **state)
{
    (void)state;
    struct ptq_status st = {0};
    struct hf_checkpoint c;
    struct ptq_pool *pool;
    struct result one, two;
    char dir[TEST_PATH];
    hf_load(&c, "bert");
    test_tmpdir(dir);
    hf_write(&c, dir, "");
    assert_ok(ptq_pool_new(&pool, 2, &st), &st);
    run(dir, c.vector, NULL, &one);
    run(dir, c.vector, pool, &two);
    assert_memory_equal(one.hidden, two.hidden, (size_t)(one.len * one.d) * sizeof *one.hidden);
    assert_memory_equal(one.embedding, two.embedding, (size_t)one.d * sizeof *one.embedding);
    ptq_arena_clear(&one.arena);
    ptq_arena_clear(&two.arena);
    ptq_pool_free(pool);
    test_rmdir(dir);
    hf_release(&c);
}

static void test_settings_matter(void **state)
{
    (void)state;
    const struct {
        const char *key;
        json_t *to;
    } cases[] = {{"hidden_act", json_string("relu")},
                 {"hidden_act", json_string("gelu_new")},
                 {"layer_norm_eps", json_real(0.1)}};
    const double least[] = {least_move, 10 * hidden_tolerance, least_move};
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        struct hf_checkpoint c;
        struct result r;
        char dir[TEST_PATH];
        hf_load(&c, "bert");
        hf_set(&c, cases[i].key, cases[i].to);
        test_tmpdir(dir);
        hf_write(&c, dir, "");
        run(dir, c.vector, NULL, &r);
        double move = hidden_error(&r, c.vector);
        if (!(move > least[i]))
            fail_msg("%s moves the states by %.3g alone", cases[i].key, move);
        ptq_arena_clear(&r.arena);
        test_rmdir(dir);
        hf_release(&c);
    }
}

static void test_refused(void **state)
{
    (void)state;
    const struct {
        const char *key;
        json_t *to;
        const char *message;
    } cases[] = {
        {"position_embedding_type", json_string("relative_key"), "relative_key"},
        {"is_decoder", json_true(), "is_decoder"},
        {"add_cross_attention", json_true(), "add_cross_attention"},
        {"num_attention_heads", json_integer(5), "multiple"},
        {"hidden_act", json_string("quick_gelu"), "gelu"},
        {"hidden_size", NULL, "hidden_size"},
        {"intermediate_size", json_integer(41), "intermediate.dense.weight"},
        {"type_vocab_size", json_integer(3), "token_type_embeddings"},
        {"max_position_embeddings", json_integer(65), "position_embeddings"},
        {"quantization_config", json_pack("{s:s}", "quant_method", "gptq"), "quantization_config"}};
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        struct ptq_status st = {0};
        struct hf_checkpoint c;
        struct ptq_model *m;
        char dir[TEST_PATH];
        hf_load(&c, "bert");
        hf_set(&c, cases[i].key, cases[i].to);
        test_tmpdir(dir);
        hf_write(&c, dir, "");
        assert_int_equal(ptq_model_open(&m, dir, NULL, &st), PTQ_ERR_USAGE);
        assert_null(m);
        assert_status(&st, PTQ_ERR_USAGE, cases[i].message);
        assert_status(&st, PTQ_ERR_USAGE, dir);
        test_rmdir(dir);
        hf_release(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),       cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_container),       cmocka_unit_test(test_threads),
        cmocka_unit_test(test_settings_matter), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
