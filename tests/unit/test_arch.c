/* Architectures against transformers: the files of tests/vectors/arch, made by
 * tests/vectors/arch_reference.py. Logits within 2e-4 and NLL to 1e-5 of the reference; every
 * feature matters ("moves" in the vector files, and here where a setting alone switches it off);
 * the same model from a folder, shards, GGUF and a pickle; settings that cannot be run are refused.
 * Trained models: test_babyllama.c, test_atome.c. */
#include "datasets/tensors.h"
#include "hf_folder.h"
#include "model/eval.h"
#include "model/import.h"
#include "model_cases.h"

static const double logit_tolerance = 2e-4, nll_tolerance = 1e-5;
/* What a feature must move at least: arch_reference.py asserts the same. */
static const double least_move = 100 * 2e-4;
/* opt_bin has its weights in a file. */
static const char *const names[] = {"llama",    "llama3",       "llama_bias", "mistral",
                                    "qwen2",    "qwen2_window", "qwen3",      "opt",
                                    "opt_350m", "gpt2",         "bloom",      "bloom4"};

/* ---- running */

struct ids { /* one sequence */
    int64_t len, offset;
    int32_t *id;
};

static void ids_read(const json_t *vector, struct ids *s)
{
    const json_t *list = json_object_get(vector, "ids");
    *s = (struct ids){.len = (int64_t)json_array_size(list)};
    s->id = malloc((size_t)s->len * sizeof *s->id);
    assert_non_null(s->id);
    for (int64_t i = 0; i < s->len; i++)
        s->id[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
}

static float *logits_of(const char *source, const json_t *vector, struct ptq_pool *pool)
{
    struct ptq_status st = {0};
    struct ptq_model *m;
    struct ids s;
    ids_read(vector, &s);
    const struct ptq_tokens t = {1, s.len, &s.len, &s.offset, s.id};
    assert_ok(ptq_model_open(&m, source, NULL, &st), &st);
    float *logits = model_logits(m, &t, 0, pool);
    ptq_model_close(m);
    free(s.id);
    return logits;
}

static double nll_of(const char *source, const json_t *vector)
{
    struct ptq_status st = {0};
    struct ptq_arena a;
    struct ptq_model *m;
    struct ptq_eval e;
    struct ids s;
    ids_read(vector, &s);
    ptq_arena_init(&a, 0);
    const struct ptq_text text = {.tokens = {1, s.len, &s.len, &s.offset, s.id}};
    assert_ok(ptq_model_open(&m, source, NULL, &st), &st);
    const struct ptq_eval_args args = {.model = m, .text = &text};
    assert_ok(ptq_eval_model(&args, &a, &e, &st), &st);
    double nll = ptq_eval_nll(&e);
    assert_int_equal(e.n_scored, s.len - 1);
    ptq_model_close(m);
    ptq_arena_clear(&a);
    free(s.id);
    return nll;
}

/* Largest difference to the vector's logits. */
static double logits_error(const float *logits, const json_t *vector)
{
    const json_t *positions = json_object_get(vector, "positions"),
                 *entries = json_object_get(vector, "entries"),
                 *want = json_object_get(vector, "logits");
    const int64_t vocab =
        json_integer_value(json_object_get(json_object_get(vector, "config"), "vocab_size"));
    double worst = 0;
    assert_true(json_array_size(want) >= 6 && json_array_size(entries) >= 6);
    for (size_t p = 0; p < json_array_size(want); p++)
        for (size_t k = 0; k < json_array_size(entries); k++) {
            int64_t t = json_integer_value(json_array_get(positions, p)),
                    v = json_integer_value(json_array_get(entries, k));
            double expected = json_number_value(json_array_get(json_array_get(want, p), k));
            worst = fmax(worst, fabs((double)logits[t * vocab + v] - expected));
        }
    return worst;
}

static void check_source(const char *what, const char *source, const json_t *vector)
{
    float *logits = logits_of(source, vector, NULL);
    double error = logits_error(logits, vector);
    if (!(error <= logit_tolerance))
        fail_msg("%s: logits differ by %.3g", what, error);
    double nll = nll_of(source, vector), want = json_real_value(json_object_get(vector, "nll"));
    if (!(fabs(nll - want) <= nll_tolerance))
        fail_msg("%s: nll %.8f, expected %.8f", what, nll, want);
    free(logits);
}

/* ---- folders */

static void test_reference(void **state)
{
    (void)state;
    for (int64_t i = 0; i < LENGTH(names); i++) {
        struct hf_checkpoint c;
        char dir[TEST_PATH];
        const char *key;
        json_t *move;
        hf_load(&c, names[i]);
        test_tmpdir(dir);
        hf_write(&c, dir, "");
        check_source(names[i], dir, c.vector);
        json_object_foreach(json_object_get(c.vector, "moves"), key, move)
            assert_true(json_real_value(move) > least_move);
        test_rmdir(dir);
        hf_release(&c);
    }
}

/* Checkpoints of the bare model have no prefix. */
static void test_prefixes(void **state)
{
    (void)state;
    static const struct {
        const char *name, *drop;
    } cases[] = {{"llama3", "model."},
                 {"opt", "model."},
                 {"opt_350m", "model.decoder."},
                 {"gpt2", "transformer."},
                 {"bloom", "transformer."}};
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        struct hf_checkpoint c;
        char dir[TEST_PATH];
        hf_load(&c, cases[i].name);
        test_tmpdir(dir);
        hf_write(&c, dir, cases[i].drop);
        check_source(cases[i].name, dir, c.vector);
        test_rmdir(dir);
        hf_release(&c);
    }
}

/* A matrix for the head in the file of a model whose head is tied, as transformers ties it: not
 * used. OPT's files carry one; those of GPT-2, OPT and BLOOM do not say that they are tied. */
static void test_tied_heads(void **state)
{
    (void)state;
    static const char *const tied[] = {"llama3", "opt", "gpt2", "bloom"};
    for (int64_t i = 0; i < LENGTH(tied); i++) {
        struct hf_checkpoint c;
        char dir[TEST_PATH];
        hf_load(&c, tied[i]);
        struct hf_tensor *t = &c.tensor[c.n++];
        *t = c.tensor[0];
        t->name = "lm_head.weight";
        hf_fill(t);
        assert_true(memcmp(t->value, c.tensor[0].value, (size_t)t->n * sizeof *t->value) != 0);
        test_tmpdir(dir);
        hf_write(&c, dir, "");
        check_source(tied[i], dir, c.vector);
        test_rmdir(dir);
        hf_release(&c);
    }
}

/* The same bits on two threads. */
static void test_threads(void **state)
{
    (void)state;
    struct ptq_status st = {0};
    struct ptq_pool *pool;
    assert_ok(ptq_pool_new(&pool, 2, &st), &st);
    for (int64_t i = 0; i < LENGTH(names); i++) {
        struct hf_checkpoint c;
        char dir[TEST_PATH];
        hf_load(&c, names[i]);
        test_tmpdir(dir);
        hf_write(&c, dir, "");
        float *one = logits_of(dir, c.vector, NULL), *two = logits_of(dir, c.vector, pool);
        size_t n = json_array_size(json_object_get(c.vector, "ids")) *
                   (size_t)json_integer_value(json_object_get(c.config, "vocab_size"));
        assert_memory_equal(one, two, n * sizeof *one);
        free(one);
        free(two);
        test_rmdir(dir);
        hf_release(&c);
    }
    ptq_pool_free(pool);
}

/* A setting changed in config.json moves the logits: it is read, and it matters. */
static void test_settings_matter(void **state)
{
    (void)state;
    json_t *theta = json_pack("{s:s, s:f}", "rope_type", "default", "rope_theta", 10000.0),
           *linear = json_pack("{s:s, s:f}", "type", "linear", "factor", 8.0);
    const struct {
        const char *name, *key;
        json_t *to;
    } cases[] = {
        {"llama", "rope_theta", json_real(500)},
        {"llama", "rope_scaling", linear},
        {"llama", "rms_norm_eps", json_real(0.1)},
        {"llama", "tie_word_embeddings", json_true()},
        {"llama3", "rope_scaling", NULL},
        {"mistral", "rope_parameters", theta},
        {"mistral", "sliding_window", json_null()},
        {"mistral", "sliding_window", json_integer(12)},
        {"qwen2", "use_sliding_window", json_true()},
        {"qwen2_window", "use_sliding_window", json_false()},
        {"qwen2_window", "max_window_layers", json_integer(2)},
        {"opt", "_remove_final_layer_norm", json_true()},
        {"opt", "activation_function", json_string("gelu")},
        {"gpt2", "activation_function", json_string("relu")},
        {"gpt2", "layer_norm_epsilon", json_real(0.1)},
        {"bloom", "layer_norm_epsilon", json_real(0.1)},
    };
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        struct hf_checkpoint c;
        char dir[TEST_PATH];
        hf_load(&c, cases[i].name);
        hf_set(&c, cases[i].key, cases[i].to);
        test_tmpdir(dir);
        hf_write(&c, dir, "");
        float *logits = logits_of(dir, c.vector, NULL);
        double move = logits_error(logits, c.vector);
        if (!(move > least_move))
            fail_msg("%s: %s moves logits by %.3g alone", cases[i].name, cases[i].key, move);
        free(logits);
        test_rmdir(dir);
        hf_release(&c);
    }
}

/* Older and newer spellings and defaults that transformers fills in: the same logits. */
static void test_spellings(void **state)
{
    (void)state;
    const struct {
        const char *name, *key;
        json_t *to;
        const char *key2;
        json_t *to2;
    } cases[] = {
        {"llama", "rope_theta", NULL, "rope_parameters",
         json_pack("{s:s, s:f}", "rope_type", "default", "rope_theta", 10000.0)},
        {"llama", "rope_theta", NULL, "head_dim", json_integer(8)},
        {"llama", "rope_scaling", json_pack("{s:s}", "type", "default"), "head_dim", json_null()},
        {"llama3", "rope_scaling", NULL, "rope_parameters",
         json_pack("{s:s, s:f, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "rope_theta", 10000.0,
                   "factor", 8.0, "low_freq_factor", 1.0, "high_freq_factor", 4.0,
                   "original_max_position_embeddings", 32)},
        {"mistral", "rope_parameters", NULL, "rope_theta", json_real(5000)},
        {"mistral", "use_sliding_window", json_false(), "head_dim", json_null()}, /* not its key */
        {"llama3", "rope_theta", json_real(77), "rope_scaling",
         json_pack("{s:s, s:f, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "rope_theta", 10000.0,
                   "factor", 8.0, "low_freq_factor", 1.0, "high_freq_factor", 4.0,
                   "original_max_position_embeddings", 32)},
        {"qwen2_window", "layer_types",
         json_pack("[s,s,s]", "full_attention", "sliding_attention", "sliding_attention"),
         "max_window_layers", json_integer(0)},
        {"opt", "word_embed_proj_dim", NULL, "enable_bias", json_true()},
        {"gpt2", "n_inner", json_integer(96), "activation_function",
         json_string("gelu_pytorch_tanh")},
        {"gpt2", "n_embd", NULL, "hidden_size", json_integer(24)},
        {"gpt2", "activation_function", NULL, "scale_attn_weights", json_true()},
        {"bloom", "n_embed", NULL, "hidden_size", json_integer(24)},
        {"bloom", "num_attention_heads", NULL, "n_head", json_integer(3)},
        {"bloom", "seq_length", NULL, "n_layer", json_integer(2)},
    };
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        struct hf_checkpoint c;
        char dir[TEST_PATH];
        hf_load(&c, cases[i].name);
        hf_set(&c, cases[i].key, cases[i].to);
        hf_set(&c, cases[i].key2, cases[i].to2);
        test_tmpdir(dir);
        hf_write(&c, dir, "");
        check_source(cases[i].key2, dir, c.vector);
        test_rmdir(dir);
        hf_release(&c);
    }
}

/* Settings that are not there, by the defaults of transformers' configurations (a shape that does
 * not fit tells the rest: test_refused_settings). */
static void test_defaults(void **state)
{
    (void)state;
    static const struct {
        const char *name, *gone;
        int64_t window, window_from;
        double eps;
    } cases[] = {{"mistral", "sliding_window", 4096, 0, 1e-5},
                 {"qwen2_window", "sliding_window", 4096, 1, 1e-6},
                 {"qwen2_window", "max_window_layers", 13, 28, 1e-6},
                 {"qwen2", "use_sliding_window", 0, 0, 1e-6},
                 {"llama", "rms_norm_eps", 0, 0, 1e-6},
                 {"gpt2", "layer_norm_epsilon", 0, 0, 1e-5}};
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        struct ptq_status st = {0};
        struct hf_checkpoint c;
        struct ptq_model *m;
        char dir[TEST_PATH];
        hf_load(&c, cases[i].name);
        hf_set(&c, cases[i].gone, NULL);
        test_tmpdir(dir);
        hf_write(&c, dir, "");
        assert_ok(ptq_model_open(&m, dir, NULL, &st), &st);
        assert_int_equal(ptq_model_info(m)->sliding_window, cases[i].window);
        assert_int_equal(ptq_model_info(m)->window_from, cases[i].window_from);
        assert_rel(ptq_model_info(m)->norm_eps, cases[i].eps, 0);
        ptq_model_close(m);
        test_rmdir(dir);
        hf_release(&c);
    }
}

static void assert_same_blocks(const char *a_source, const char *b_source, bool same_key)
{
    struct ptq_status st = {0};
    struct ptq_arena a;
    struct ptq_model *x, *y;
    ptq_arena_init(&a, 0);
    assert_ok(ptq_model_open(&x, a_source, NULL, &st), &st);
    assert_ok(ptq_model_open(&y, b_source, NULL, &st), &st);
    assert_true(strcmp(ptq_model_info(x)->key, ptq_model_info(y)->key) == 0 || !same_key);
    assert_int_equal(ptq_model_info(x)->n_params, ptq_model_info(y)->n_params);
    for (int i = 0; i < ptq_model_info(x)->n_blocks; i++) {
        struct ptq_block p, q;
        assert_ok(ptq_model_load_block(x, i, &a, &p, &st), &st);
        assert_ok(ptq_model_load_block(y, i, &a, &q, &st), &st);
        assert_int_equal(p.n_linears, q.n_linears);
        for (int k = 0; k < p.n_linears; k++)
            assert_memory_equal(p.lin[k].w, q.lin[k].w,
                                (size_t)(p.lin[k].d_out * p.lin[k].d_in) * sizeof(float));
        for (int k = 0; k < p.n_vectors; k++)
            if (p.vec[k].name)
                assert_memory_equal(p.vec[k].at, q.vec[k].at, (size_t)p.vec[k].n * sizeof(float));
    }
    ptq_model_close(x);
    ptq_model_close(y);
    ptq_arena_clear(&a);
}

static void import_to(const char *source, const char *path)
{
    struct ptq_status st = {0};
    struct ptq_model *m;
    assert_ok(ptq_model_open(&m, source, NULL, &st), &st);
    const struct ptq_import_args args = {
        .model = m, .out_path = path, .name = "m", .type = PTQ_H5_OTHER, .quiet = true};
    assert_ok(ptq_import(&args, &st), &st);
    ptq_model_close(m);
}

static void test_shards(void **state)
{
    (void)state;
    for (int64_t i = 0; i < LENGTH(names); i++) {
        struct hf_checkpoint c;
        char whole[TEST_PATH], parts[TEST_PATH];
        hf_load(&c, names[i]);
        test_tmpdir(whole);
        test_tmpdir(parts);
        hf_write(&c, whole, "");
        hf_write_sharded(&c, parts);
        assert_same_blocks(whole, parts, true);
        check_source(names[i], parts, c.vector);
        test_rmdir(whole);
        test_rmdir(parts);
        hf_release(&c);
    }
}

/* Imported into a container: the same bits, also from shards, and the same answers. */
static void test_containers(void **state)
{
    (void)state;
    for (int64_t i = 0; i < LENGTH(names); i++) {
        struct ptq_status st = {0};
        struct hf_checkpoint c;
        char whole[TEST_PATH], parts[TEST_PATH], one[TEST_PATH], two[TEST_PATH], *a, *b;
        size_t n_a, n_b;
        hf_load(&c, names[i]);
        test_tmpdir(whole);
        test_tmpdir(parts);
        hf_write(&c, whole, "");
        hf_write_sharded(&c, parts);
        test_path(whole, "m.h5", one);
        test_path(parts, "m.h5", two);
        import_to(whole, one);
        import_to(parts, two);
        check_source(names[i], one, c.vector);
        assert_same_blocks(whole, one, false);
        assert_ok(ptq_read_file(one, 1 << 24, &a, &n_a, &st), &st);
        assert_ok(ptq_read_file(two, 1 << 24, &b, &n_b, &st), &st);
        assert_int_equal(n_a, n_b);
        assert_memory_equal(a, b, n_a);
        free(a);
        free(b);
        test_rmdir(whole);
        test_rmdir(parts);
        hf_release(&c);
    }
}

/* Names of the block matrices and counts of parameters: by hand for OPT of the pattern 2 blocks, 32
 * wide, 56 hidden, 96 tokens, 66 positions. */
static void test_counts(void **state)
{
    (void)state;
    struct ptq_status st = {0};
    struct hf_checkpoint c;
    struct ptq_model *m;
    char dir[TEST_PATH];
    hf_load(&c, "opt");
    test_tmpdir(dir);
    hf_write(&c, dir, "");
    assert_ok(ptq_model_open(&m, dir, NULL, &st), &st);
    const int64_t matrices = 2 * (4 * 32 * 32 + 2 * 32 * 56),
                  vectors = 2 * (4 * 32 + 4 * 32 + 56 + 32);
    assert_int_equal(ptq_model_info(m)->n_block_params, matrices);
    assert_int_equal(ptq_model_info(m)->n_params, matrices + vectors + 96 * 32 + 66 * 32 + 2 * 32);
    assert_true(ptq_model_info(m)->tied_head);
    ptq_model_close(m);
    test_rmdir(dir);
    hf_release(&c);
}

/* ---- taps: what statistics see */

struct seen {
    int n;
    char inputs[256]; /* "attn_in:32 " ... */
    float *last;      /* a copy of the last input */
};

static int see(void *arg, const char *input, int64_t s, const float *x, int64_t len, int64_t d_in,
               struct ptq_status *st)
{
    struct seen *seen = arg;
    const size_t used = strlen(seen->inputs), n = (size_t)(len * d_in);
    (void)st;
    assert_int_equal(s, 0);
    snprintf(seen->inputs + used, sizeof seen->inputs - used, "%s:%d ", input, (int)d_in);
    seen->n++;
    free(seen->last);
    seen->last = malloc(n * sizeof *x);
    assert_non_null(seen->last);
    memcpy(seen->last, x, n * sizeof *x);
    return PTQ_OK;
}

/* Inputs come in order under their names, the last one behind the ReLU; the states stay where
 * asked, and a run for one input stops there. */
static void test_taps(void **state)
{
    (void)state;
    struct ptq_status st = {0};
    struct ptq_arena a;
    struct hf_checkpoint c;
    struct ptq_model *m;
    struct ptq_hidden h;
    struct ptq_block b;
    struct ids s;
    struct seen seen = {0};
    char dir[TEST_PATH];
    ptq_arena_init(&a, 0);
    hf_load(&c, "opt");
    ids_read(c.vector, &s);
    test_tmpdir(dir);
    hf_write(&c, dir, "");
    const struct ptq_tokens t = {1, s.len, &s.len, &s.offset, s.id};
    assert_ok(ptq_model_open(&m, dir, NULL, &st), &st);
    assert_ok(ptq_model_embed(m, &t, &a, &h, &st), &st);
    assert_ok(ptq_model_load_block(m, 1, &a, &b, &st), &st);
    const size_t bytes = (size_t)(s.len * 32) * sizeof(float);
    float *before = malloc(bytes);
    assert_non_null(before);
    memcpy(before, h.at, bytes);
    struct ptq_block_tap tap = {.see = see, .arg = &seen, .keep = true};
    assert_ok(ptq_block_run(m, &b, NULL, &h, &tap, &st), &st);
    assert_string_equal(
        seen.inputs, "blk.1.attn_in:32 blk.1.attn_o_in:32 blk.1.ffn_in:32 blk.1.ffn_down_in:56 ");
    assert_memory_equal(h.at, before, bytes);
    int zeros = 0;
    for (int64_t i = 0; i < s.len * 56; i++) {
        assert_true(seen.last[i] >= 0);
        zeros += seen.last[i] == 0;
    }
    assert_true(zeros > s.len * 56 / 4 && zeros < s.len * 56 * 3 / 4);
    tap.only = "blk.1.attn_o_in";
    seen.inputs[0] = 0;
    assert_ok(ptq_block_run(m, &b, NULL, &h, &tap, &st), &st);
    assert_string_equal(seen.inputs, "blk.1.attn_o_in:32 ");
    assert_memory_equal(h.at, before, bytes);
    assert_int_equal(b.lin[4].role, PTQ_ROLE_FC1);
    assert_int_equal(b.lin[5].role, PTQ_ROLE_FC2);
    free(before);
    free(seen.last);
    free(s.id);
    ptq_model_close(m);
    ptq_arena_clear(&a);
    test_rmdir(dir);
    hf_release(&c);
}

/* ---- other files */

/* The folder as facebook publishes OPT: pytorch_model.bin in fp16. */
static void test_pickle(void **state)
{
    (void)state;
    struct ptq_status st = {0};
    struct hf_checkpoint c;
    char dir[TEST_PATH], path[TEST_PATH], *bytes;
    size_t n;
    hf_load(&c, "opt_bin");
    test_tmpdir(dir);
    hf_write_config(&c, dir);
    assert_ok(ptq_read_file("tests/vectors/arch/opt_bin.bin", 1 << 16, &bytes, &n, &st), &st);
    test_path(dir, "pytorch_model.bin", path);
    assert_ok(ptq_write_file(path, bytes, n, &st), &st);
    check_source("opt_bin", dir, c.vector);
    free(bytes);
    test_rmdir(dir);
    hf_release(&c);
}

/* ---- GGUF */

static struct hf_tensor *tensor_named(struct hf_checkpoint *c, const char *part, int *from)
{
    for (; *from < c->n; ++*from)
        if (strstr(c->tensor[*from].name, part))
            return &c->tensor[(*from)++];
    return NULL;
}

/* Rows to rows: row i of the result is row order(i) of t. */
static void reorder(struct hf_tensor *t, const int64_t *order)
{
    const int64_t rows = t->dim[0], width = t->n / rows;
    float *y = malloc((size_t)t->n * sizeof *y);
    assert_non_null(y);
    for (int64_t i = 0; i < rows; i++)
        memcpy(y + i * width, t->value + order[i] * width, (size_t)width * sizeof *y);
    free(t->value);
    t->value = y;
}

/* LlamaModel.permute of llama.cpp's convert_hf_to_gguf.py:
 * w.reshape(heads, 2, hd / 2, ...).swapaxes(1, 2).reshape(w.shape). */
static void permute_heads(struct hf_checkpoint *c, const char *part, int64_t head_dim)
{
    int from = 0;
    int64_t order[256];
    for (struct hf_tensor *t; (t = tensor_named(c, part, &from));) {
        assert_true(t->dim[0] <= LENGTH(order));
        for (int64_t i = 0; i < t->dim[0]; i++) {
            int64_t in = i % head_dim;
            order[i] = i - in + in % 2 * (head_dim / 2) + in / 2;
        }
        reorder(t, order);
    }
}

/* BloomModel of the same script: (heads, 3, hd, ...) becomes all q, all k, all v. */
static void unfuse_heads(struct hf_checkpoint *c, const char *part, int64_t heads)
{
    int from = 0;
    int64_t order[256];
    for (struct hf_tensor *t; (t = tensor_named(c, part, &from));) {
        const int64_t hd = t->dim[0] / (3 * heads);
        assert_true(t->dim[0] <= LENGTH(order));
        for (int64_t i = 0; i < t->dim[0]; i++)
            order[i] = (i / hd % heads) * 3 * hd + i / (hd * heads) * hd + i % hd;
        reorder(t, order);
    }
}

/* GPT2Model of the same script: Conv1D's matrices are transposed. */
static void transpose_all(struct hf_checkpoint *c, const char *part)
{
    int from = 0;
    for (struct hf_tensor *t; (t = tensor_named(c, part, &from));) {
        const int64_t rows = t->dim[0], columns = t->dim[1];
        float *y = malloc((size_t)t->n * sizeof *y);
        assert_non_null(y);
        for (int64_t i = 0; i < t->n; i++)
            y[i % columns * rows + i / columns] = t->value[i];
        free(t->value);
        t->value = y;
        t->dim[0] = columns;
        t->dim[1] = rows;
    }
}

static void rename_all(struct hf_checkpoint *c)
{
    const json_t *to = json_object_get(c->vector, "gguf");
    for (int64_t i = 0; i < c->n; i++) {
        c->tensor[i].name = json_string_value(json_object_get(to, c->tensor[i].name));
        assert_non_null(c->tensor[i].name);
    }
}

/* Counts of config.json under GGUF's keys (docs/gguf.md). */
static json_t *gguf_meta(const struct hf_checkpoint *c, bool llama)
{
    static const char *const pairs[][2] = {
        {"hidden_size", "embedding_length"},
        {"n_embd", "embedding_length"},
        {"n_embed", "embedding_length"},
        {"num_hidden_layers", "block_count"},
        {"n_layer", "block_count"},
        {"num_attention_heads", "attention.head_count"},
        {"n_head", "attention.head_count"},
        {"num_key_value_heads", "attention.head_count_kv"},
        {"head_dim", "attention.key_length"},
        {"intermediate_size", "feed_forward_length"},
        {"max_position_embeddings", "context_length"},
        {"n_positions", "context_length"},
        {"seq_length", "context_length"},
        {"vocab_size", "vocab_size"},
        {"rope_theta", "rope.freq_base"},
        {"rms_norm_eps", "attention.layer_norm_rms_epsilon"},
        {"layer_norm_epsilon", "attention.layer_norm_epsilon"},
    };
    json_t *m = json_object();
    for (int64_t i = 0; i < LENGTH(pairs); i++) {
        json_t *v = json_object_get(c->config, pairs[i][0]);
        if (v && !json_is_null(v))
            json_object_set(m, pairs[i][1], v);
    }
    if (!llama)
        json_object_set_new(m, "feed_forward_length", json_integer(4 * 24));
    return m;
}

/* llama.cpp's script turns Llama 3's rule into the divisors of the frequencies. */
static void add_rope_freqs(struct hf_checkpoint *c)
{
    const json_t *list = json_object_get(c->vector, "rope_freqs");
    if (!list)
        return;
    struct hf_tensor *t = &c->tensor[c->n++];
    *t = (struct hf_tensor){.name = "rope_freqs.weight",
                            .rank = 1,
                            .n = (int64_t)json_array_size(list),
                            .dim = {(int64_t)json_array_size(list)}};
    t->value = malloc((size_t)t->n * sizeof *t->value);
    assert_non_null(t->value);
    for (int64_t i = 0; i < t->n; i++)
        t->value[i] = (float)json_real_value(json_array_get(list, (size_t)i));
}

static void test_gguf(void **state)
{
    (void)state;
    static const struct {
        const char *name, *arch;
        int64_t permuted; /* head_dim of permuted q and k, or 0 */
    } cases[] = {{"llama", "llama", 8}, {"llama3", "llama", 16}, {"qwen2", "qwen2", 0},
                 {"qwen3", "qwen3", 0}, {"gpt2", "gpt2", 0},     {"bloom", "bloom", 0}};
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        struct hf_checkpoint c;
        char dir[TEST_PATH], folder[TEST_PATH], path[TEST_PATH];
        hf_load(&c, cases[i].name);
        test_tmpdir(dir);
        test_path(dir, "hf", folder);
        test_path(dir, "m.gguf", path);
        assert_int_equal(mkdir(folder, 0700), 0);
        hf_write(&c, folder, "");
        json_t *meta = gguf_meta(&c, i < 4);
        if (cases[i].permuted) {
            permute_heads(&c, "q_proj", cases[i].permuted);
            permute_heads(&c, "k_proj", cases[i].permuted);
        }
        unfuse_heads(&c, "query_key_value", 3);
        transpose_all(&c, "c_attn.weight");
        transpose_all(&c, "c_proj.weight");
        transpose_all(&c, "c_fc.weight");
        rename_all(&c);
        add_rope_freqs(&c);
        gguf_write(&c, path, cases[i].arch, meta);
        check_source(cases[i].name, path, c.vector);
        if (!json_object_get(c.vector, "rope_freqs")) /* a tensor more */
            assert_same_blocks(folder, path, false);
        json_decref(meta);
        test_rmdir(dir);
        hf_release(&c);
    }
}

/* The three ways a GGUF speaks of linear scaling run what config.json's rope_scaling does; a bias
 * that the configuration cannot speak of is refused. */
static void test_gguf_scaling(void **state)
{
    (void)state;
    static const char *const keys[] = {"rope.scaling.factor", "rope.scale_linear", NULL};
    for (int k = 0; k < 3; k++) {
        struct ptq_status st = {0};
        struct ptq_model *m;
        struct hf_checkpoint c;
        char dir[TEST_PATH], folder[TEST_PATH], path[TEST_PATH];
        hf_load(&c, "llama");
        hf_set(&c, "rope_scaling", json_pack("{s:s, s:f}", "type", "linear", "factor", 4.0));
        test_tmpdir(dir);
        test_path(dir, "hf", folder);
        test_path(dir, "m.gguf", path);
        assert_int_equal(mkdir(folder, 0700), 0);
        hf_write(&c, folder, "");
        float *wanted = logits_of(folder, c.vector, NULL);
        json_t *meta = gguf_meta(&c, true);
        permute_heads(&c, "q_proj", 8);
        permute_heads(&c, "k_proj", 8);
        rename_all(&c);
        if (keys[k]) {
            json_object_set_new(meta, keys[k], json_real(4));
        } else {
            struct hf_tensor *t = &c.tensor[c.n++];
            *t = (struct hf_tensor){.name = "blk.1.ffn_up.bias", .rank = 1, .n = 1, .dim = {1}};
            assert_non_null(t->value = calloc(1, sizeof *t->value));
        }
        gguf_write(&c, path, "llama", meta);
        if (keys[k]) {
            float *got = logits_of(path, c.vector, NULL);
            const size_t n = json_array_size(json_object_get(c.vector, "ids"));
            for (size_t i = 0; i < n; i++)
                assert_true(fabsf(got[i] - wanted[i]) < 1e-6F);
            free(got);
        } else {
            assert_int_equal(ptq_model_open(&m, path, NULL, &st), PTQ_ERR_USAGE);
            assert_status(&st, PTQ_ERR_USAGE, "blk.1.ffn_up.bias");
        }
        free(wanted);
        json_decref(meta);
        test_rmdir(dir);
        hf_release(&c);
    }
}

/* ---- what is refused */

struct refusal {
    const char *name, *key;
    json_t *to;
    const char *message;
};

static void check_refusal(const struct refusal *r)
{
    struct ptq_status st = {0};
    struct hf_checkpoint c;
    struct ptq_model *m;
    char dir[TEST_PATH];
    hf_load(&c, r->name);
    hf_set(&c, r->key, r->to);
    test_tmpdir(dir);
    hf_write(&c, dir, "");
    assert_int_equal(ptq_model_open(&m, dir, NULL, &st), PTQ_ERR_USAGE);
    assert_null(m);
    assert_status(&st, PTQ_ERR_USAGE, r->message);
    assert_status(&st, PTQ_ERR_USAGE, dir);
    test_rmdir(dir);
    hf_release(&c);
}

static void test_refused_settings(void **state)
{
    (void)state;
    const struct refusal cases[] = {
        {"llama", "model_type", json_string("gemma2"), "unknown kind of model 'gemma2'"},
        {"llama", "model_type", json_string("gemma2"), "bloom"},
        {"llama", "model_type", NULL, "model_type"},
        {"llama", "hidden_act", json_string("gelu"), "silu"},
        {"llama", "mlp_bias", json_true(), "mlp_bias"},
        {"llama", "rope_scaling", json_pack("{s:s,s:f}", "rope_type", "yarn", "factor", 4.0),
         "'yarn'"},
        {"llama", "rope_scaling", json_pack("{s:s,s:f}", "type", "dynamic", "factor", 4.0),
         "default, linear, llama3"},
        {"llama3", "rope_scaling", json_pack("{s:s,s:f}", "rope_type", "llama3", "factor", 8.0),
         "low_freq_factor"},
        {"llama", "partial_rotary_factor", json_real(0.5), "partial_rotary_factor"},
        {"llama", "quantization_config", json_pack("{s:s}", "quant_method", "gptq"),
         "quantization_config"},
        {"llama", "num_key_value_heads", json_integer(3), "multiple"},
        {"llama", "hidden_size", json_string("32"), "hidden_size"},
        {"llama", "hidden_size", json_integer(-1), "hidden_size"},
        {"llama", "hidden_size", NULL, "hidden_size"},
        {"llama", "intermediate_size", json_integer(57), "mlp.gate_proj.weight"},
        {"llama", "vocab_size", json_integer(97), "embed_tokens.weight"},
        {"llama", "num_hidden_layers", json_integer(3), "layers.2."},
        {"llama", "attention_bias", json_true(), "q_proj.bias"},
        {"mistral", "num_key_value_heads", NULL, "n_kv_heads 8"},
        {"qwen2", "num_key_value_heads", NULL, "n_kv_heads 32"},
        {"qwen3", "head_dim", NULL, "512 x 32"},
        {"qwen2_window", "layer_types",
         json_pack("[s,s,s]", "full_attention", "sliding_attention", "full_attention"),
         "layer_types"},
        {"qwen2_window", "layer_types", json_pack("[s,s]", "full_attention", "full_attention"),
         "layer_types"},
        {"qwen2_window", "layer_types",
         json_pack("[s,s,s]", "full_attention", "full_attention", "linear_attention"),
         "linear_attention"},
        {"opt", "activation_function", json_string("quick_gelu"), "relu"},
        {"opt", "enable_bias", json_false(), "configuration and weights do not belong together"},
        {"opt", "layer_norm_elementwise_affine", json_false(), "no gains"},
        {"opt", "num_attention_heads", json_integer(5), "multiple"},
        {"opt", "word_embed_proj_dim", json_integer(16), "embed_tokens.weight"},
        {"opt_350m", "do_layer_norm_before", json_true(), "final_layer_norm.weight"},
        {"opt", "quantization_config", json_pack("{s:s}", "quant_method", "gptq"),
         "quantization_config"},
        {"gpt2", "scale_attn_weights", json_false(), "scale_attn_weights is false"},
        {"gpt2", "scale_attn_by_inverse_layer_idx", json_true(), "supported is false"},
        {"gpt2", "add_cross_attention", json_true(), "add_cross_attention"},
        {"gpt2", "activation_function", json_string("quick_gelu"), "gelu_new"},
        {"gpt2", "n_positions", json_integer(65), "wpe.weight"},
        {"gpt2", "n_inner", json_integer(48), "mlp.c_fc.weight"},
        {"bloom", "apply_residual_connection_post_layernorm", json_true(), "supported is false"},
    };
    for (int64_t i = 0; i < LENGTH(cases); i++)
        check_refusal(&cases[i]);
}

/* A container that asks an architecture for what it has not. */
static void test_refused_containers(void **state)
{
    (void)state;
    static const struct {
        const char *arch, *key;
        int64_t v;
        const char *message;
    } cases[] = {{"gpt2", "n_kv_heads", 2, "fewer key heads"},
                 {"opt", "sliding_window", 8, "sliding window"},
                 {"bloom", "qk_norm", 1, "norms of q and k"},
                 {"gpt2", "encoder", 1, "hidden states"},
                 {"bloom", "n_token_types", 2, "token types"},
                 {"opt", "post_norm", 1, "post_norm"},
                 {"gpt2", "no_final_norm", 1, "before the head"},
                 {"bloom", "position_offset", 2, "no positions"},
                 {"gpt2", "d_embd", 16, "own width"}};
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        const struct tiny_shape s = {32, 1, 4, 4, 8, 40, 50, 16, true, true, 10000};
        struct ptq_status st = {0};
        struct ptq_h5 *f;
        struct ptq_model *m;
        char dir[TEST_PATH], path[TEST_PATH];
        test_tmpdir(dir);
        test_path(dir, "m.h5", path);
        assert_ok(ptq_h5_open(&f, path, PTQ_H5_CREATE, &st), &st);
        tiny_write_head(f, &s);
        assert_ok(ptq_h5_set_text(f, "/model", "architecture", cases[i].arch, &st), &st);
        assert_ok(ptq_h5_set_i64(f, "/model", cases[i].key, cases[i].v, &st), &st);
        assert_ok(ptq_h5_close(f, &st), &st);
        assert_int_equal(ptq_model_open(&m, path, NULL, &st), PTQ_ERR_USAGE);
        assert_status(&st, PTQ_ERR_USAGE, cases[i].message);
        test_rmdir(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_settings_matter),
        cmocka_unit_test(test_spellings),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_pickle),
        cmocka_unit_test(test_taps),
        cmocka_unit_test(test_tied_heads),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_containers),
        cmocka_unit_test(test_gguf),
        cmocka_unit_test(test_gguf_scaling),
        cmocka_unit_test(test_refused_settings),
        cmocka_unit_test(test_refused_containers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
