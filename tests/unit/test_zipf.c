/* Token ids without language (model/textzipf.h). */
#include "testlib.h"
#include "model/textzipf.h"

static struct ptq_arena arena;
static struct ptq_status st;

static int load(const char *source, int64_t n_seq, int64_t window, const char *protocol,
                struct ptq_text *out)
{
    static const struct ptq_model_info info = {.vocab_size = 1000, .max_context = 512};
    struct ptq_text_request ask = {
        .source = source, .n_seq = n_seq, .window = window, .protocol = protocol};
    ptq_status_clear(&st);
    return ptq_zipf_text(&info, &ask, &arena, out, &st);
}

/* An id comes with probability 1 / (id + 2.7) / sum: counts within five standard deviations. */
static void frequencies(void **state)
{
    (void)state;
    struct ptq_text t;
    double sum = 0, n = 400 * 512;
    int64_t count[1000] = {0};
    ptq_arena_init(&arena, 0);
    assert_ok(load("synth:zipf:7", 400, 0, NULL, &t), &st);
    assert_int_equal(t.tokens.n_total, 400 * 512);
    for (int64_t i = 0; i < t.tokens.n_total; i++) {
        assert_in_range(t.tokens.id[i], 0, 999);
        count[t.tokens.id[i]]++;
    }
    for (int i = 0; i < 1000; i++)
        sum += 1 / (i + 2.7);
    static const int looked[] = {0, 1, 5, 50, 500, 999};
    for (int64_t k = 0; k < LENGTH(looked); k++) {
        double p = 1 / (looked[k] + 2.7) / sum;
        assert_true(fabs((double)count[looked[k]] - n * p) < 5 * sqrt(n * p * (1 - p)));
    }
    ptq_arena_clear(&arena);
}

static void windows(void **state)
{
    (void)state;
    static const struct {
        int64_t n, window;
        const char *protocol;
        int64_t want_n, want_window;
    } cases[] = {{0, 0, NULL, 16, 512},         {3, 100, NULL, 3, 100},
                 {3, 0, "gptq-128", 3, 128},    {3, 64, "gptq-128", 3, 64},
                 {3, 0, "gptq-2048", 3, 512},   {3, 5000, NULL, 3, 512},
                 {3, 0, "lm-eval-word", 3, 512}};
    ptq_arena_init(&arena, 0);
    for (int64_t k = 0; k < LENGTH(cases); k++) {
        struct ptq_text t;
        char name[64];
        assert_ok(load("synth:zipf:1", cases[k].n, cases[k].window, cases[k].protocol, &t), &st);
        assert_int_equal(t.tokens.n_seq, cases[k].want_n);
        for (int64_t s = 0; s < t.tokens.n_seq; s++) {
            assert_int_equal(t.tokens.len[s], cases[k].want_window);
            assert_int_equal(t.tokens.offset[s], s * cases[k].want_window);
        }
        snprintf(name, sizeof name, "zipf-%d/first%d", (int)cases[k].want_window,
                 (int)cases[k].want_n);
        assert_string_equal(t.protocol, name);
    }
    ptq_arena_clear(&arena);
}

static void seeds(void **state)
{
    (void)state;
    struct ptq_text a, again, b;
    ptq_arena_init(&arena, 0);
    assert_ok(load("synth:zipf:1", 4, 64, NULL, &a), &st);
    assert_ok(load("synth:zipf:1", 4, 64, NULL, &again), &st);
    assert_ok(load("synth:zipf:2", 4, 64, NULL, &b), &st);
    assert_string_equal(a.key, again.key);
    assert_string_not_equal(a.key, b.key);
    assert_memory_equal(a.tokens.id, again.tokens.id, 256 * sizeof *a.tokens.id);
    assert_memory_not_equal(a.tokens.id, b.tokens.id, 256 * sizeof *a.tokens.id);
    assert_int_equal(load("synth:zipf:x", 4, 64, NULL, &a), PTQ_ERR_USAGE);
    assert_int_equal(load("synth:zipf:1", INT64_MAX / 2, 64, NULL, &a), PTQ_ERR_USAGE);
    assert_true(ptq_is_zipf("synth:zipf:1") && !ptq_is_zipf("synth:facts:1"));
    ptq_arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(frequencies), cmocka_unit_test(windows),
                                       cmocka_unit_test(seeds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
