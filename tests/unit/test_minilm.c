/* all-MiniLM-L6-v2 where it has been fetched (datasets/fetch.sh configs/minilm.ini; or PTQ_MINILM
 * names its folder): ids and embeddings of ../shared/oracle/minilm, made by transformers. */
#include "core/json.h"
#include "model/eval.h"
#include "model/tokenizer.h"
#include "testlib.h"

enum { SENTENCES = 8, MOST = 256 };

struct fixture {
    struct ptq_arena arena;
    json_t *reference;
    struct ptq_tokenizer *tokenizer;
    struct ptq_model *model;
    int64_t len[SENTENCES], offset[SENTENCES], n_total;
    int32_t id[SENTENCES * MOST];
    struct ptq_eval e;
};

static bool find_model(char out[TEST_PATH])
{
    const char *named = getenv("PTQ_MINILM"), *cache = getenv("PTQ_CACHE");
    char weights[TEST_PATH];
    if (named && *named)
        snprintf(out, TEST_PATH, "%s", named);
    else
        test_path(cache && *cache ? cache : "datasets/cache", "all-minilm-l6-v2", out);
    test_path(out, "model.safetensors", weights);
    if (access(weights, R_OK) == 0)
        return true;
    printf("SKIP %s: not fetched (datasets/fetch.sh configs/minilm.ini, or set PTQ_MINILM)\n", out);
    fflush(stdout);
    return false;
}

/* The last sentence of the reference describes itself. */
static void encode(struct fixture *f, const json_t *sentence, int s)
{
    static const char described[] = "word x 300 (each followed by a blank)";
    struct ptq_status st = {0};
    char words[300 * 5 + 1];
    const char *text = json_string_value(json_object_get(sentence, "text"));
    for (int i = 0; i < 300; i++)
        memcpy(words + 5 * i, "word ", 6);
    text = strcmp(text, described) == 0 ? words : text;
    const struct ptq_encode ask = {text, (int64_t)strlen(text), true, true};
    int32_t *id;
    int64_t n;
    assert_ok(ptq_tokenizer_encode(f->tokenizer, &ask, &f->arena, &id, &n, &st), &st);
    if (n > MOST) { /* its rule: at most 256 ids, [SEP] the last */
        id[MOST - 1] = id[n - 1];
        n = MOST;
    }
    f->len[s] = n;
    f->offset[s] = f->n_total;
    memcpy(f->id + f->n_total, id, (size_t)n * sizeof *id);
    f->n_total += n;
}

static bool setup(struct fixture *f)
{
    struct ptq_status st = {0};
    json_error_t error;
    json_t *sentence;
    size_t s;
    char path[TEST_PATH], reference[TEST_PATH];
    memset(f, 0, sizeof *f);
    if (!test_shared("oracle/minilm/reference.json", reference) || !find_model(path))
        return false;
    ptq_arena_init(&f->arena, 0);
    f->reference = json_load_file(reference, 0, &error);
    assert_non_null(f->reference);
    assert_ok(ptq_tokenizer_open(&f->tokenizer, path, &st), &st);
    assert_ok(ptq_model_open(&f->model, path, NULL, &st), &st);
    assert_int_equal(json_array_size(json_object_get(f->reference, "sentences")), SENTENCES);
    json_array_foreach(json_object_get(f->reference, "sentences"), s, sentence)
        encode(f, sentence, (int)s);
    const struct ptq_text text = {.tokens = {SENTENCES, f->n_total, f->len, f->offset, f->id}};
    const struct ptq_eval_args args = {.model = f->model, .text = &text};
    assert_ok(ptq_eval_model(&args, &f->arena, &f->e, &st), &st);
    return true;
}

static void teardown(struct fixture *f)
{
    json_decref(f->reference);
    ptq_tokenizer_close(f->tokenizer);
    ptq_model_close(f->model);
    ptq_arena_clear(&f->arena);
}

static const json_t *sentence_of(const struct fixture *f, int s)
{
    return json_array_get(json_object_get(f->reference, "sentences"), (size_t)s);
}

static void check_embedding(const struct fixture *f, int s)
{
    const json_t *want = json_object_get(sentence_of(f, s), "embedding");
    assert_int_equal(json_array_size(want), f->e.d_embedding);
    for (int64_t k = 0; k < f->e.d_embedding; k++) {
        double got = f->e.embedding[s * f->e.d_embedding + k],
               expected = json_number_value(json_array_get(want, (size_t)k));
        if (!(fabs(got - expected) < 1e-5))
            fail_msg("sentence %d, value %d: %.7f, expected %.7f", s, (int)k, got, expected);
    }
}

static void test_reference(void **state)
{
    (void)state;
    struct fixture f;
    if (!setup(&f))
        skip();
    assert_int_equal(f.e.d_embedding, 384);
    for (int s = 0; s < SENTENCES; s++) {
        const json_t *ids = json_object_get(sentence_of(&f, s), "ids");
        assert_int_equal(f.len[s],
                         json_integer_value(json_object_get(sentence_of(&f, s), "n_ids")));
        /* of the longest the first are stored */
        assert_true((int64_t)json_array_size(ids) == f.len[s] || json_array_size(ids) == 64);
        for (size_t i = 0; i < json_array_size(ids); i++)
            assert_int_equal(f.id[f.offset[s] + (int64_t)i],
                             json_integer_value(json_array_get(ids, i)));
        check_embedding(&f, s);
    }
    teardown(&f);
}

/* cosine_matrix of the reference, as it is rounded there. */
static void test_cosines(void **state)
{
    (void)state;
    struct fixture f;
    if (!setup(&f))
        skip();
    const json_t *matrix = json_object_get(f.reference, "cosine_matrix");
    assert_int_equal(json_array_size(matrix), SENTENCES);
    for (int a = 0; a < SENTENCES; a++)
        for (int b = 0; b < SENTENCES; b++) {
            double sum = 0, want = json_number_value(
                                json_array_get(json_array_get(matrix, (size_t)a), (size_t)b));
            for (int64_t k = 0; k < f.e.d_embedding; k++)
                sum +=
                    f.e.embedding[a * f.e.d_embedding + k] * f.e.embedding[b * f.e.d_embedding + k];
            assert_true(fabs(sum - want) < 1e-5);
        }
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_cosines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
