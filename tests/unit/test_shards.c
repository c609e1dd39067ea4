/* Shards of an input's Hessian: against direct fp64 sums over the inputs that the block shows, the
 * total that they add up to, and files that lie about them. */
#include "model/shards.h"
#include "core/hash.h"
#include "core/pool.h"
#include "core/rng.h"
#include "model_cases.h"

static const struct tiny_shape shape = {24, 2, 4, 2, 8, 40, 256, 48, false, true, 10000};
enum { N_SEQ = 21, SINK = 2, K = 8, D = 24, TRIANGLE = D * (D + 1) / 2 };

struct fixture {
    struct tiny_case c;
    struct ptq_hidden hidden;
    struct ptq_block block;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct tiny_case *c = &f->c;
    int64_t len[N_SEQ];
    *state = f;
    for (int s = 0; s < N_SEQ; s++)
        len[s] = s == 3 ? 1 : 20 + s; /* one shorter than the sink class */
    tiny_open(c, &shape, 1);
    tiny_text(c, N_SEQ, len, 6);
    assert_ok(ptq_model_embed(c->model, &c->text.tokens, &c->arena, &f->hidden, &c->st), &c->st);
    assert_ok(ptq_model_load_block(c->model, 0, &c->arena, &f->block, &c->st), &c->st);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    tiny_close(&f->c);
    free(f);
    return 0;
}

struct keeper {
    const struct ptq_tokens *t;
    float *x; /* (n_total x D) */
};

static int keep(void *arg, const char *input, int64_t s, const float *x, int64_t len, int64_t d,
                struct ptq_status *st)
{
    struct keeper *k = arg;
    (void)st;
    if (!strcmp(input, "blk.0.ffn_in"))
        memcpy(k->x + k->t->offset[s] * d, x, (size_t)(len * d) * sizeof *x);
    return PTQ_OK;
}

static void take(struct fixture *f, struct ptq_pool *pool, const struct ptq_stats_options *o,
                 struct ptq_input_stats *out)
{
    struct ptq_input_stats s[PTQ_MAX_STAGES];
    int n;
    assert_ok(ptq_stats_block(f->c.model, &f->block, pool, &f->hidden, o, NULL, &f->c.arena, s, &n,
                              &f->c.st),
              &f->c.st);
    const struct ptq_input_stats *found = ptq_stats_find(s, n, "blk.0.ffn_in");
    assert_non_null(found);
    *out = *found;
    assert_int_equal(out->d_in, D);
}

static double at(const struct ptq_input_stats *s, int64_t k, int64_t i, int64_t j)
{
    return s->shards[k * TRIANGLE + i * D - i * (i - 1) / 2 + j - i]; /* SCHEMA.md */
}

static void test_sums(void **state)
{
    struct fixture *f = *state;
    const struct ptq_tokens *t = &f->c.text.tokens;
    struct keeper kept = {t, ptq_arena_alloc(&f->c.arena, NULL, t->n_total, D * sizeof(float))};
    const struct ptq_block_tap tap = {keep, &kept, NULL, true};
    assert_ok(ptq_block_run(f->c.model, &f->block, NULL, &f->hidden, &tap, &f->c.st), &f->c.st);
    for (int f64 = 0; f64 < 2; f64++) {
        const struct ptq_stats_options o = {.sink_tokens = SINK, .f64 = f64, .n_shards = K};
        struct ptq_input_stats s;
        take(f, NULL, &o, &s);
        assert_int_equal(s.n_shards, K);
        double largest = 0, tokens = 0;
        for (int64_t i = 0; i < D; i++)
            largest = fmax(largest, s.hess[i * D + i]);
        for (int64_t i = 0; i < D; i++)
            for (int64_t j = i; j < D; j++) {
                double direct[K] = {0}, sum = 0;
                for (int64_t q = 0; q < N_SEQ; q++)
                    for (int64_t r = t->offset[q]; r < t->offset[q] + t->len[q]; r++)
                        direct[q * K / N_SEQ] +=
                            2 * (double)kept.x[r * D + i] * kept.x[r * D + j] / (double)t->n_total;
                for (int64_t k = 0; k < K; k++) {
                    assert_true(fabs(at(&s, k, i, j) - direct[k]) <=
                                (f64 ? 1e-14 : 1e-6) * largest);
                    sum += at(&s, k, i, j);
                }
                /* fp32: K + 2 roundings to 2^-24 */
                assert_true(fabs(sum - s.hess[i * D + j]) <= (f64 ? 1e-12 : 1e-6) * largest);
            }
        for (int64_t k = 0; k < K; k++)
            tokens += s.shard_tokens[k];
        assert_true(tokens == (double)t->n_total);
        assert_true(s.shard_tokens[0] == 20 + 21 + 22); /* sequences 0, 1, 2: q * 8 / 21 == 0 */
    }
}

/* The totals and their key are those of statistics without shards, for any number of threads. */
static void test_change_nothing(void **state)
{
    struct fixture *f = *state;
    const struct ptq_stats_options plain = {.sink_tokens = SINK, .n_acts = 5},
                                   with = {.sink_tokens = SINK, .n_acts = 5, .n_shards = K};
    struct ptq_input_stats a, b, c;
    struct ptq_pool *pool;
    assert_ok(ptq_pool_new(&pool, 3, &f->c.st), &f->c.st);
    take(f, NULL, &plain, &a);
    take(f, NULL, &with, &b);
    take(f, pool, &with, &c);
    ptq_pool_free(pool);
    assert_int_equal(a.n_shards, 0);
    assert_true(a.key == b.key && b.key == c.key);
    assert_memory_equal(a.hess, b.hess, D * D * sizeof *a.hess);
    assert_memory_equal(b.shards, c.shards, K * TRIANGLE * sizeof *b.shards);
    struct ptq_stats_options many = with;
    struct ptq_input_stats s[PTQ_MAX_STAGES];
    int n;
    many.n_shards = N_SEQ + 1;
    assert_int_equal(ptq_stats_block(f->c.model, &f->block, NULL, &f->hidden, &many, NULL,
                                     &f->c.arena, s, &n, &f->c.st),
                     PTQ_ERR_USAGE);
    assert_status(&f->c.st, PTQ_ERR_USAGE, "22 shards of a text of 21 sequences");
    ptq_status_clear(&f->c.st);
}

static int capture(struct fixture *f, const char *path, int64_t n_shards, bool f64)
{
    const struct ptq_stats_options o = {.sink_tokens = SINK, .f64 = f64, .n_shards = n_shards};
    const struct ptq_capture_args a = {.model = f->c.model,
                                       .text = &f->c.text,
                                       .options = &o,
                                       .out_path = path,
                                       .name = "calib",
                                       .quiet = true};
    return ptq_capture(&a, &f->c.st);
}

static int read_one(struct fixture *f, const char *path, struct ptq_input_stats *s)
{
    struct ptq_h5 *h;
    assert_ok(ptq_h5_open(&h, path, PTQ_H5_READ, &f->c.st), &f->c.st);
    int rc = ptq_stats_read_input(h, "calib", "blk.0.ffn_in", &f->c.arena, s, &f->c.st);
    ptq_h5_close(h, NULL);
    return rc;
}

static void test_reads_back(void **state)
{
    struct fixture *f = *state;
    char path[TEST_PATH];
    struct ptq_input_stats made, read;
    for (int f64 = 0; f64 < 2; f64++) {
        const struct ptq_stats_options o = {.sink_tokens = SINK, .f64 = f64, .n_shards = K};
        test_path(f->c.dir, f64 ? "64.h5" : "32.h5", path);
        assert_ok(capture(f, path, K, f64), &f->c.st);
        take(f, NULL, &o, &made);
        assert_ok(read_one(f, path, &read), &f->c.st);
        assert_true(read.n_shards == K && read.key == made.key);
        assert_memory_equal(read.shards, made.shards, K * TRIANGLE * sizeof *made.shards);
        assert_memory_equal(read.shard_tokens, made.shard_tokens, K * sizeof(double));
    }
    assert_int_equal(capture(f, path, 4, true), PTQ_ERR_USAGE); /* another request */
    ptq_status_clear(&f->c.st);
}

/* Each file holds one thing that is wrong. */
static void test_hostile_files(void **state)
{
    struct fixture *f = *state;
    static float zero[300 * TRIANGLE];
    static const struct {
        int64_t rows, cols, tokens;
        double first;
        int token; /* -2: left away */
        enum ptq_code code;
        const char *says;
    } cases[] = {
        {K, TRIANGLE, K, 1, 7, PTQ_OK, ""},
        {K, TRIANGLE - 1, K, 1, 7, PTQ_ERR_USAGE, "is not 2 to 256 rows"},
        {K, TRIANGLE, K - 1, 1, 7, PTQ_ERR_USAGE, "is not 2 to 256 rows"},
        {K, TRIANGLE, K + 1, 1, 7, PTQ_ERR_USAGE, "is not 2 to 256 rows"},
        {1, TRIANGLE, 1, 1, 7, PTQ_ERR_USAGE, "is not 2 to 256 rows"},
        {257, TRIANGLE, 257, 1, 7, PTQ_ERR_USAGE, "is not 2 to 256 rows"},
        {K, TRIANGLE, K, 1, -2, PTQ_ERR_USAGE, "with their tokens beside them"},
        {K, TRIANGLE, K, INFINITY, 7, PTQ_ERR_NUMERIC, "shards is not finite at element 0"},
        {K, TRIANGLE, K, 1, -1, PTQ_ERR_NUMERIC, "has -1 tokens"},
        {K, TRIANGLE, K, 1, 0, PTQ_ERR_NUMERIC, "has 0 tokens"}};
    for (int i = 0; i < LENGTH(cases); i++) {
        char path[TEST_PATH], name[16];
        struct ptq_h5 *h;
        struct ptq_input_stats s;
        double tokens[300];
        const int64_t dim[2] = {cases[i].rows, cases[i].cols};
        snprintf(name, sizeof name, "%d.h5", i);
        test_path(f->c.dir, name, path);
        assert_ok(capture(f, path, 0, false), &f->c.st);
        assert_ok(read_one(f, path, &s), &f->c.st);
        assert_int_equal(s.n_shards, 0);
        for (int k = 0; k < 300; k++)
            tokens[k] = cases[i].token;
        zero[0] = (float)cases[i].first;
        assert_ok(ptq_h5_open(&h, path, PTQ_H5_APPEND, &f->c.st), &f->c.st);
        assert_ok(
            ptq_h5_write(h, "/stats/calib/blk.0.ffn_in/shards", PTQ_H5_F32, 2, dim, zero, &f->c.st),
            &f->c.st);
        if (cases[i].token != -2)
            assert_ok(ptq_h5_write(h, "/stats/calib/blk.0.ffn_in/shard_tokens", PTQ_H5_F64, 1,
                                   &cases[i].tokens, tokens, &f->c.st),
                      &f->c.st);
        assert_ok(ptq_h5_close(h, &f->c.st), &f->c.st);
        assert_int_equal(read_one(f, path, &s), cases[i].code);
        if (cases[i].code) {
            assert_status(&f->c.st, cases[i].code, cases[i].says);
            ptq_status_clear(&f->c.st);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sums, setup, teardown),
        cmocka_unit_test_setup_teardown(test_change_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reads_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_files, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
