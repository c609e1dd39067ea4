/* Statistics of layer inputs: against direct fp64 sums over the inputs that the block shows, in
 * memory and through a container. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include "model/states.h"
#include "model/stats.h"
#include "model_cases.h"

static const struct tiny_shape shape = {24, 2, 4, 2, 8, 40, 256, 48, false, true, 10000};
enum { N_SEQ = 21, SINK = 2, N_ACTS = 37 };

static void setup(struct tiny_case *f)
{
    int64_t len[N_SEQ];
    for (int s = 0; s < N_SEQ; s++)
        len[s] = s == 3 ? 1 : 20 + s; /* one sequence shorter than the sink class */
    tiny_open(f, &shape, 1);
    tiny_text(f, N_SEQ, len, 6);
}

/* Keeps every input row as it is shown. */
struct keeper {
    const struct ptq_tokens *t;
    const char *name;
    float *x; /* (n_total x d) */
    int n_seen;
};
static int keep(void *arg, const char *input, int64_t s, const float *x, int64_t len, int64_t d,
                struct ptq_status *st)
{
    struct keeper *k = arg;
    (void)st;
    if (strcmp(input, k->name) != 0)
        return PTQ_OK;
    memcpy(k->x + k->t->offset[s] * d, x, (size_t)(len * d) * sizeof *x);
    k->n_seen++;
    return PTQ_OK;
}

/* Hidden states that enter block 1, and the block. */
static void enter(struct tiny_case *f, struct ptq_hidden *h, struct ptq_block *b)
{
    struct ptq_block first;
    assert_ok(ptq_model_embed(f->model, &f->text.tokens, &f->arena, h, &f->st), &f->st);
    assert_ok(ptq_model_load_block(f->model, 0, &f->arena, &first, &f->st), &f->st);
    assert_ok(ptq_block_run(f->model, &first, NULL, h, NULL, &f->st), &f->st);
    assert_ok(ptq_model_load_block(f->model, 1, &f->arena, b, &f->st), &f->st);
}

static void check_near(const char *what, double got, double want, double scale, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * scale))
        fail_msg("%s: %.12g, expected %.12g", what, got, want);
}

static void check_input(const struct tiny_case *f, const struct ptq_input_stats *s, const float *x,
                        double tolerance)
{
    const struct ptq_tokens *t = &f->text.tokens;
    const int64_t d = s->d_in;
    assert_true(s->n_tokens == (double)t->n_total && s->n_sequences == N_SEQ &&
                s->norm == PTQ_NORM_TOKEN && s->n_acts == N_ACTS);
    double largest = 0;
    for (int64_t i = 0; i < d; i++)
        largest = s->hess[i * d + i] > largest ? s->hess[i * d + i] : largest;
    for (int64_t i = 0; i < d; i++) {
        double sum = 0, sumabs = 0, most = 0;
        for (int64_t r = 0; r < t->n_total; r++) {
            sum += x[r * d + i];
            sumabs += fabs(x[r * d + i]);
            most = fmax(most, fabs(x[r * d + i]));
        }
        assert_true(s->absmax[i] == (float)most);
        check_near("mean", s->mean[i], sum / s->n_tokens, most, 1e-7);
        check_near("absmean", s->absmean[i], sumabs / s->n_tokens, most, 1e-7);
        for (int64_t j = 0; j < d; j++) {
            double h = 0, sink = 0;
            for (int64_t q = 0; q < t->n_seq; q++)
                for (int64_t r = 0; r < t->len[q]; r++) {
                    double p =
                        (double)x[(t->offset[q] + r) * d + i] * x[(t->offset[q] + r) * d + j];
                    h += p;
                    sink += r < SINK ? p : 0;
                }
            check_near("hess", s->hess[i * d + j], 2 * h / s->n_tokens, largest, tolerance);
            check_near("hess_sink", s->hess_sink[i * d + j], 2 * sink / s->n_tokens, largest,
                       tolerance);
            check_near("hess_rest", s->hess_rest[i * d + j], 2 * (h - sink) / s->n_tokens, largest,
                       tolerance);
            assert_true(s->hess[i * d + j] == s->hess_rest[i * d + j] + s->hess_sink[i * d + j]);
            assert_true(s->hess[i * d + j] == s->hess[j * d + i]);
        }
    }
    /* sampled rows: the middles of N_ACTS equal parts */
    for (int64_t k = 0; k < N_ACTS; k++) {
        int64_t row = (2 * k + 1) * t->n_total / (2 * N_ACTS);
        assert_memory_equal(s->acts + k * d, x + row * d, (size_t)d * sizeof *x);
    }
}

static void test_against_sums(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_hidden h;
    struct ptq_block b;
    struct ptq_input_stats s[PTQ_MAX_STAGES];
    int n;
    setup(&f);
    enter(&f, &h, &b);
    const size_t bytes = (size_t)(f.text.tokens.n_total * shape.d) * sizeof(float);
    float *before = malloc(bytes);
    assert_non_null(before);
    memcpy(before, h.at, bytes);
    for (int f64 = 0; f64 < 2; f64++) {
        const struct ptq_stats_options o = {SINK, N_ACTS, f64};
        assert_ok(ptq_stats_block(f.model, &b, NULL, &h, &o, NULL, &f.arena, s, &n, &f.st), &f.st);
        assert_memory_equal(before, h.at, bytes);
        assert_int_equal(n, 4);
        static const char *const names[] = {"blk.1.attn_in", "blk.1.attn_o_in", "blk.1.ffn_in",
                                            "blk.1.ffn_down_in"};
        for (int i = 0; i < 4; i++) {
            struct keeper k = {
                &f.text.tokens, names[i],
                ptq_arena_alloc(&f.arena, NULL, f.text.tokens.n_total * s[i].d_in, sizeof(float)),
                0};
            const struct ptq_block_tap tap = {keep, &k, NULL, true};
            assert_string_equal(s[i].name, names[i]);
            assert_ptr_equal(ptq_stats_find(s, n, names[i]), &s[i]);
            assert_ok(ptq_block_run(f.model, &b, NULL, &h, &tap, &f.st), &f.st);
            assert_int_equal(k.n_seen, N_SEQ);
            /* fp32 sums of at most 40 terms and one rounding to fp32; with f64 rounding alone */
            check_input(&f, &s[i], k.x, f64 ? 1e-14 : 1e-6);
        }
    }
    assert_null(ptq_stats_find(s, n, "blk.0.attn_in"));
    free(before);
    tiny_close(&f);
}

/* The inputs themselves against the fp64 forward pass: attn_in of block 1 is the normed hidden
 * state. */
static void test_inputs_are_right(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_hidden h;
    struct ptq_block b;
    setup(&f);
    enter(&f, &h, &b);
    const int64_t d = shape.d, len = f.text.tokens.len[5];
    struct keeper k = {&f.text.tokens, "blk.1.attn_in",
                       ptq_arena_alloc(&f.arena, NULL, f.text.tokens.n_total * d, sizeof(float)),
                       0};
    const struct ptq_block_tap tap = {keep, &k, "blk.1.attn_in", false};
    assert_ok(ptq_block_run(f.model, &b, NULL, &h, &tap, &f.st), &f.st);
    double *logits = malloc((size_t)(len * shape.vocab) * sizeof *logits),
           *x = malloc((size_t)(len * d) * sizeof *x), *n = malloc((size_t)(len * d) * sizeof *n);
    assert_true(logits && x && n);
    tiny_forward(&f.tiny, f.id + f.text.tokens.offset[5], len, logits, 1, x);
    tiny_norm(x, len, d, f.tiny.b[1].norm1, n);
    for (int64_t i = 0; i < len * d; i++)
        check_near("attn_in", k.x[f.text.tokens.offset[5] * d + i], n[i], 1, 1e-5);
    free(logits);
    free(x);
    free(n);
    tiny_close(&f);
}

static void same_stats(const struct ptq_input_stats *a, const struct ptq_input_stats *b)
{
    const size_t d = (size_t)a->d_in;
    assert_string_equal(a->name, b->name);
    assert_true(a->d_in == b->d_in && a->n_tokens == b->n_tokens &&
                a->n_sequences == b->n_sequences && a->n_acts == b->n_acts);
    assert_true(a->key == b->key && a->norm == b->norm);
    assert_memory_equal(a->hess, b->hess, d * d * sizeof(double));
    assert_memory_equal(a->hess_sink, b->hess_sink, d * d * sizeof(double));
    assert_memory_equal(a->hess_rest, b->hess_rest, d * d * sizeof(double));
    assert_memory_equal(a->absmax, b->absmax, d * sizeof(float));
    assert_memory_equal(a->absmean, b->absmean, d * sizeof(float));
    assert_memory_equal(a->mean, b->mean, d * sizeof(float));
    assert_memory_equal(a->acts, b->acts, (size_t)a->n_acts * d * sizeof(float));
}

static void test_threads_and_only(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_hidden h;
    struct ptq_block b;
    struct ptq_input_stats one[PTQ_MAX_STAGES], more[PTQ_MAX_STAGES];
    int n, m;
    const struct ptq_stats_options o = {SINK, N_ACTS, false};
    setup(&f);
    enter(&f, &h, &b);
    assert_ok(ptq_stats_block(f.model, &b, NULL, &h, &o, NULL, &f.arena, one, &n, &f.st), &f.st);
    for (int threads = 2; threads <= 3; threads++) {
        struct ptq_pool *pool;
        assert_ok(ptq_pool_new(&pool, threads, &f.st), &f.st);
        assert_ok(ptq_stats_block(f.model, &b, pool, &h, &o, NULL, &f.arena, more, &m, &f.st),
                  &f.st);
        assert_int_equal(n, m);
        for (int i = 0; i < n; i++)
            same_stats(&one[i], &more[i]);
        assert_ok(
            ptq_stats_block(f.model, &b, pool, &h, &o, "blk.1.ffn_in", &f.arena, more, &m, &f.st),
            &f.st);
        assert_int_equal(m, 1);
        same_stats(ptq_stats_find(one, n, "blk.1.ffn_in"), &more[0]);
        ptq_pool_free(pool);
    }
    assert_true(one[0].key != one[1].key && one[0].key != one[2].key);
    assert_int_equal(
        ptq_stats_block(f.model, &b, NULL, &h, &o, "blk.1.nothing", &f.arena, more, &m, &f.st),
        PTQ_ERR_USAGE);
    tiny_close(&f);
}

/* Hidden states 1e-7 of the first tokens': the norm's eps leaves inputs of about 3e-5 beside inputs
 * of about 1, so the sink class owns all but 1e-7 of the total, which is what fp32 rounds
 * away. The rest is right to fp32 all the same, in memory and in a file. */
static void test_rest_beside_a_large_sink(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_hidden h;
    struct ptq_block b;
    struct ptq_input_stats s[PTQ_MAX_STAGES], read;
    struct ptq_h5 *file;
    char path[TEST_PATH];
    int n;
    setup(&f);
    enter(&f, &h, &b);
    const struct ptq_tokens *t = &f.text.tokens;
    const int64_t d = shape.d;
    for (int64_t q = 0; q < t->n_seq; q++)
        for (int64_t r = SINK; r < t->len[q]; r++)
            for (int64_t i = 0; i < d; i++)
                h.at[(t->offset[q] + r) * d + i] *= 1e-7f;
    struct keeper k = {t, "blk.1.attn_in",
                       ptq_arena_alloc(&f.arena, NULL, t->n_total * d, sizeof(float)), 0};
    const struct ptq_block_tap tap = {keep, &k, k.name, true};
    assert_ok(ptq_block_run(f.model, &b, NULL, &h, &tap, &f.st), &f.st);
    const struct ptq_stats_options o = {SINK, N_ACTS, false};
    assert_ok(ptq_stats_block(f.model, &b, NULL, &h, &o, k.name, &f.arena, s, &n, &f.st), &f.st);
    test_path(f.dir, "s.h5", path);
    assert_ok(ptq_h5_open(&file, path, PTQ_H5_CREATE, &f.st), &f.st);
    assert_ok(ptq_stats_write_input(file, "calib", &s[0], false, &f.st), &f.st);
    assert_ok(ptq_stats_read_input(file, "calib", k.name, &f.arena, &read, &f.st), &f.st);
    assert_ok(ptq_h5_close(file, &f.st), &f.st);
    struct ptq_layer l;
    ptq_layer_from_model(&b.lin[0], 1, &read, &l);
    for (int64_t i = 0; i < d; i++) {
        double rest = 0, sink = 0;
        for (int64_t q = 0; q < t->n_seq; q++)
            for (int64_t r = 0; r < t->len[q]; r++) {
                double x = k.x[(t->offset[q] + r) * d + i];
                *(r < SINK ? &sink : &rest) += 2 * x * x / (double)t->n_total;
            }
        assert_true(rest > 0 && rest < 1e-7 * sink);
        check_near("hess_rest", s[0].hess_rest[i * d + i], rest, rest, 1e-6);
        check_near("hess_rest read", l.hess_rest.at[i * d + i], rest, rest, 1e-6);
        check_near("hess_sink read", l.hess_sink.at[i * d + i], sink, sink, 1e-6);
    }
    tiny_close(&f);
}

/* ---- beside the full-precision model */

static float *inputs_of(struct tiny_case *f, const struct ptq_block *b, struct ptq_hidden *h,
                        const char *name, int64_t d)
{
    struct keeper k = {&f->text.tokens, name,
                       ptq_arena_alloc(&f->arena, NULL, f->text.tokens.n_total * d, sizeof(float)),
                       0};
    const struct ptq_block_tap tap = {keep, &k, NULL, true};
    assert_ok(ptq_block_run(f->model, b, NULL, h, &tap, &f->st), &f->st);
    return k.x;
}

static void check_cross(struct tiny_case *f, const struct ptq_input_stats *s, const float *fp,
                        const float *x, double tolerance)
{
    const int64_t d = s->d_in, n = f->text.tokens.n_total;
    double *want = calloc((size_t)(d * d), sizeof *want), largest = 0;
    assert_true(want && s->cross);
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < d; i++)
            for (int64_t j = 0; j < d; j++)
                want[i * d + j] +=
                    2 * ((double)fp[r * d + i] - x[r * d + i]) * x[r * d + j] / (double)n;
    for (int64_t i = 0; i < d * d; i++)
        largest = fmax(largest, fabs(want[i]));
    assert_true(largest > 1e-3); /* something to see, and not symmetric: */
    assert_true(fabs(want[1] - want[d]) > 1e-4 * largest);
    for (int64_t i = 0; i < d * d; i++)
        check_near("cross", s->cross[i], want[i], largest, tolerance);
    free(want);
}

/* Another block over other states: what it sees, and what the first one would have seen. */
static void test_cross(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_hidden h, fp;
    struct ptq_block b, fp_block;
    struct ptq_input_stats s[PTQ_MAX_STAGES], t[PTQ_MAX_STAGES];
    struct ptq_pool *pool;
    int n, m;
    setup(&f);
    enter(&f, &fp, &fp_block);
    const int64_t floats = f.text.tokens.n_total * shape.d;
    uint64_t seed = 50;
    h = fp;
    h.at = tiny_fill(&f.arena, floats, .1, 0, &seed);
    for (int64_t i = 0; i < floats; i++)
        h.at[i] += fp.at[i];
    b = fp_block;
    for (int i = 0; i < b.n_linears; i++)
        b.lin[i].w = tiny_fill(&f.arena, b.lin[i].d_out * b.lin[i].d_in, .2, 0, &seed);
    const struct ptq_fp_walk walk = {&fp_block, &fp};
    struct ptq_stats_options o = {.sink_tokens = SINK, .n_acts = N_ACTS, .fp = &walk};
    float *before = malloc((size_t)floats * 2 * sizeof *before);
    assert_non_null(before);
    memcpy(before, h.at, (size_t)floats * sizeof *before);
    memcpy(before + floats, fp.at, (size_t)floats * sizeof *before);
    for (int f64 = 0; f64 < 2; f64++) {
        o.f64 = f64;
        assert_ok(ptq_stats_block(f.model, &b, NULL, &h, &o, NULL, &f.arena, s, &n, &f.st), &f.st);
        assert_int_equal(n, 4);
        for (int i = 0; i < n; i++)
            check_cross(&f, &s[i], inputs_of(&f, &fp_block, &fp, s[i].name, s[i].d_in),
                        inputs_of(&f, &b, &h, s[i].name, s[i].d_in), f64 ? 1e-13 : 2e-6);
    }
    assert_memory_equal(before, h.at, (size_t)floats * sizeof *before);
    assert_memory_equal(before + floats, fp.at, (size_t)floats * sizeof *before);
    assert_ok(ptq_pool_new(&pool, 2, &f.st), &f.st);
    assert_ok(ptq_stats_block(f.model, &b, pool, &h, &o, s[1].name, &f.arena, t, &m, &f.st), &f.st);
    assert_memory_equal(t[0].cross, s[1].cross, (size_t)(s[1].d_in * s[1].d_in) * sizeof(double));
    ptq_pool_free(pool);
    struct ptq_layer l;
    ptq_layer_from_model(&b.lin[0], 1, &s[0], &l);
    assert_true(l.cross.at == s[0].cross && l.cross.rows == shape.d && l.cross.ld == shape.d);
    free(before);
    tiny_close(&f);
}

/* ---- stopping */

/* True from the (after + 1)-th time it is asked. */
static bool stop_after(void *arg)
{
    int *after = arg;
    return (*after)-- <= 0;
}

static void test_stops(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_hidden h;
    struct ptq_block b;
    struct ptq_input_stats s[PTQ_MAX_STAGES];
    int n, after = N_SEQ - 1;
    setup(&f);
    enter(&f, &h, &b);
    const struct ptq_stats_options o = {SINK, N_ACTS, false, stop_after, &after};
    assert_int_equal(ptq_stats_block(f.model, &b, NULL, &h, &o, NULL, &f.arena, s, &n, &f.st),
                     PTQ_ERR_CANCELLED);
    assert_status(&f.st, PTQ_ERR_CANCELLED, "cancelled");
    ptq_status_clear(&f.st);
    after = N_SEQ; /* asked once a sequence: this is enough */
    assert_ok(ptq_stats_block(f.model, &b, NULL, &h, &o, NULL, &f.arena, s, &n, &f.st), &f.st);
    const struct ptq_block_tap tap = {.stop = stop_after, .stop_arg = &after};
    after = 3;
    assert_int_equal(ptq_block_run(f.model, &b, NULL, &h, &tap, &f.st), PTQ_ERR_CANCELLED);
    tiny_close(&f);
}

/* ---- files */

static void capture(struct tiny_case *f, const char *out, bool f64)
{
    const struct ptq_stats_options o = {SINK, N_ACTS, f64};
    const struct ptq_capture_args a = {f->model, &f->text, &o, out, "calib", NULL, true};
    assert_ok(ptq_capture(&a, &f->st), &f->st);
}

static void read_one(struct tiny_case *f, const char *path, const char *input,
                     struct ptq_input_stats *s)
{
    struct ptq_h5 *h;
    assert_ok(ptq_h5_open(&h, path, PTQ_H5_READ, &f->st), &f->st);
    assert_ok(ptq_stats_read_input(h, "calib", input, &f->arena, s, &f->st), &f->st);
    assert_ok(ptq_h5_close(h, &f->st), &f->st);
}

static void test_capture_reads_back(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_hidden h;
    struct ptq_block b;
    struct ptq_input_stats made[PTQ_MAX_STAGES], read;
    char out[TEST_PATH];
    int n;
    setup(&f);
    enter(&f, &h, &b);
    for (int f64 = 0; f64 < 2; f64++) {
        const struct ptq_stats_options o = {SINK, N_ACTS, f64};
        test_path(f.dir, f64 ? "64.h5" : "32.h5", out);
        capture(&f, out, f64);
        assert_ok(ptq_stats_block(f.model, &b, NULL, &h, &o, NULL, &f.arena, made, &n, &f.st),
                  &f.st);
        for (int i = 0; i < n; i++) {
            read_one(&f, out, made[i].name, &read);
            same_stats(&made[i], &read);
        }
    }
    struct ptq_h5 *file;
    struct ptq_stats_head head;
    struct ptq_h5_info info;
    assert_ok(ptq_h5_open(&file, out, PTQ_H5_READ, &f.st), &f.st);
    assert_ok(ptq_stats_read_head(file, "calib", &f.arena, &head, &f.st), &f.st);
    assert_string_equal(head.text, "made up");
    assert_string_equal(head.upstream, "fp");
    assert_string_equal(head.text_key, f.text.key);
    assert_string_equal(head.model_key, ptq_model_info(f.model)->key);
    assert_true(head.n_sequences == N_SEQ && head.n_tokens == f.text.tokens.n_total &&
                head.seqlen == 40 && head.sink_tokens == SINK);
    /* packed: 24 * 25 / 2 (SCHEMA.md), element (1, 2) at 24 + 1 */
    assert_false(ptq_h5_exists(file, "/stats/calib/blk.1.attn_in/hess"));
    assert_ok(ptq_h5_info(file, "/stats/calib/blk.1.attn_in/hess_rest", &info, &f.st), &f.st);
    assert_int_equal(info.n, 300);
    double *packed;
    assert_ok(ptq_h5_read_f64(file, "/stats/calib/blk.1.attn_in/hess_rest", &f.arena, &packed,
                              &info, &f.st),
              &f.st);
    assert_true(packed[25] == made[0].hess_rest[1 * 24 + 2] &&
                packed[299] == made[0].hess_rest[24 * 24 - 1]);
    assert_int_equal(ptq_stats_read_head(file, "none", &f.arena, &head, &f.st), PTQ_ERR_USAGE);
    assert_ok(ptq_h5_close(file, NULL), &f.st);
    tiny_close(&f);
}

/* Stopped in the middle of a block: it is not counted; with whole_blocks it is. What goes on ends
 * in the same file. */
static void test_capture_stops(void **state)
{
    (void)state;
    static const char *const said[] = {"/stats/calib holds 0 of 2 blocks",
                                       "/stats/calib holds 1 of 2 blocks"};
    struct tiny_case f;
    struct ptq_input_stats whole, resumed;
    char a[TEST_PATH], b[TEST_PATH];
    setup(&f);
    test_path(f.dir, "a.h5", a);
    capture(&f, a, false);
    read_one(&f, a, "blk.1.ffn_in", &whole);
    for (int k = 0; k < 2; k++) {
        int after = k ? 1 : N_SEQ / 2; /* asked once before a block too */
        char states[TEST_PATH + 8];
        const struct ptq_stats_options o = {SINK, N_ACTS, false};
        test_path(f.dir, k ? "c.h5" : "b.h5", b);
        const struct ptq_capture_args args = {.model = f.model,
                                              .text = &f.text,
                                              .options = &o,
                                              .out_path = b,
                                              .name = "calib",
                                              .quiet = true,
                                              .stop = stop_after,
                                              .stop_arg = &after,
                                              .whole_blocks = k};
        assert_int_equal(ptq_capture(&args, &f.st), PTQ_ERR_CANCELLED);
        assert_status(&f.st, PTQ_ERR_CANCELLED, said[k]);
        ptq_status_clear(&f.st);
        /* Behind a whole block the hidden states are kept, and used: a wrong one shows in the
         * statistics below. They go with the end of the capture. */
        snprintf(states, sizeof states, "%s.states", b);
        assert_int_equal(access(states, R_OK), k ? 0 : -1);
        capture(&f, b, false);
        assert_int_equal(access(states, R_OK), -1);
        read_one(&f, b, "blk.1.ffn_in", &resumed);
        same_stats(&whole, &resumed);
    }
    tiny_close(&f);
}

/* Kept states are used: spoiled ones spoil what is made from them. Those of another text are not.
 */
static void test_states_are_used(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_hidden h, back;
    int64_t done = 0;
    char path[TEST_PATH];
    setup(&f);
    test_path(f.dir, "x.states", path);
    struct ptq_states_id id = {path, "0123456789abcdef0123456789abcdef"};
    assert_ok(ptq_model_embed(f.model, &f.text.tokens, &f.arena, &h, &f.st), &f.st);
    assert_ok(ptq_model_embed(f.model, &f.text.tokens, &f.arena, &back, &f.st), &f.st);
    assert_int_equal(ptq_states_load(&id, &done, &back, &f.st), PTQ_SKIP);
    h.at[7] = 0.25F;
    assert_ok(ptq_states_save(&id, 3, &h, &f.st), &f.st);
    assert_ok(ptq_states_load(&id, &done, &back, &f.st), &f.st);
    assert_int_equal(done, 3);
    assert_memory_equal(h.at, back.at, (size_t)(f.text.tokens.n_total * h.d_model) * sizeof *h.at);
    id.path = "/nonexistent/x.states";
    assert_int_equal(ptq_states_save(&id, 3, &h, &f.st), PTQ_ERR_IO);
    assert_status(&f.st, PTQ_ERR_IO,
                  "/nonexistent/x.states.tmp: hidden states cannot be written: ");
    assert_non_null(strstr(f.st.text, "make room there"));
    ptq_status_clear(&f.st);
    id.path = path;
    id.key[0] = '1';
    assert_int_equal(ptq_states_load(&id, &done, &back, &f.st), PTQ_SKIP);
    id.key[0] = '0';
    assert_int_equal(truncate(path, 500), 0);
    back.at[7] = 1;
    assert_int_equal(ptq_states_load(&id, &done, &back, &f.st), PTQ_SKIP);
    assert_true(back.at[7] == 1);
    tiny_close(&f);
}

/* Hidden states in a file instead of memory: the same statistics, and nothing is left behind. */
static void test_capture_spills(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_input_stats in_memory, on_disk;
    char a[TEST_PATH], b[TEST_PATH];
    setup(&f);
    test_path(f.dir, "a.h5", a);
    test_path(f.dir, "b.h5", b);
    capture(&f, a, false);
    const struct ptq_stats_options o = {SINK, N_ACTS, false};
    struct ptq_capture_args args = {f.model, &f.text, &o, b, "calib", NULL, true};
    args.spill = (struct ptq_spill){"/nonexistent", 0}; /* it is asked for: 60 kB do not fit in 0 */
    assert_true(ptq_capture(&args, &f.st) < 0);
    assert_status(&f.st, PTQ_ERR_IO, "/nonexistent: cannot put");
    ptq_status_clear(&f.st);
    args.spill.folder = f.dir;
    assert_ok(ptq_capture(&args, &f.st), &f.st);
    read_one(&f, a, "blk.1.ffn_in", &in_memory);
    read_one(&f, b, "blk.1.ffn_in", &on_disk);
    same_stats(&in_memory, &on_disk);
    tiny_close(&f);
}

/* A capture that was stopped behind block 0: block 1 is made, block 0 is not touched. Another
 * request is refused. */
static void test_capture_goes_on(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_input_stats whole, resumed, marked;
    struct ptq_h5 *h;
    char a[TEST_PATH], b[TEST_PATH];
    const float mark[24] = {5};
    const int64_t d = 24;
    setup(&f);
    test_path(f.dir, "a.h5", a);
    test_path(f.dir, "b.h5", b);
    capture(&f, a, false);
    capture(&f, b, false);
    assert_ok(ptq_h5_open(&h, b, PTQ_H5_APPEND, &f.st), &f.st);
    assert_ok(ptq_h5_set_i64(h, "/stats/calib", "blocks_done", 1, &f.st), &f.st);
    assert_ok(ptq_h5_write(h, "/stats/calib/blk.0.attn_in/mean", PTQ_H5_F32, 1, &d, mark, &f.st),
              &f.st);
    assert_ok(ptq_h5_write(h, "/stats/calib/blk.1.attn_in/mean", PTQ_H5_F32, 1, &d, mark, &f.st),
              &f.st);
    assert_ok(ptq_h5_close(h, &f.st), &f.st);
    capture(&f, b, false);
    read_one(&f, a, "blk.1.attn_in", &whole);
    read_one(&f, b, "blk.1.attn_in", &resumed);
    read_one(&f, b, "blk.0.attn_in", &marked);
    same_stats(&whole, &resumed);
    assert_memory_equal(marked.mean, mark, sizeof mark);

    const struct ptq_stats_options o = {SINK + 1, N_ACTS, false};
    struct ptq_capture_args args = {f.model, &f.text, &o, b, "calib", NULL, true};
    assert_int_equal(ptq_capture(&args, &f.st), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "another model, text, options or instruction set");
    ptq_status_clear(&f.st);
    args.out_path = f.path;
    assert_int_equal(ptq_capture(&args, &f.st), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "own file");
    ptq_status_clear(&f.st);
    args.out_path = b;
    args.name = "a/b";
    assert_int_equal(ptq_capture(&args, &f.st), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "slash");
    tiny_close(&f);
}

/* What decides bits and is not the statistics' own: refused, and the file is left as it is. */
static void test_capture_of_another_request(void **state)
{
    (void)state;
    static const struct {
        struct ptq_stats_options o;
        const char *arithmetic;
        int rc;
    } cases[] = {{{SINK, N_ACTS, false}, "SKYLAKEX avx512", PTQ_OK},
                 {{SINK, N_ACTS, false}, "HASWELL avx2", PTQ_ERR_USAGE},
                 {{SINK, N_ACTS, true}, "SKYLAKEX avx512", PTQ_ERR_USAGE},
                 {{SINK, N_ACTS + 1, false}, "SKYLAKEX avx512", PTQ_ERR_USAGE}};
    struct tiny_case f;
    struct ptq_input_stats before, after;
    char out[TEST_PATH];
    setup(&f);
    test_path(f.dir, "a.h5", out);
    struct ptq_capture_args args = {f.model, &f.text, &cases[0].o, out, "calib", NULL, true};
    args.arithmetic = cases[0].arithmetic;
    assert_ok(ptq_capture(&args, &f.st), &f.st);
    read_one(&f, out, "blk.1.ffn_in", &before);
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        ptq_status_clear(&f.st);
        args.options = &cases[i].o;
        args.arithmetic = cases[i].arithmetic;
        assert_int_equal(ptq_capture(&args, &f.st), cases[i].rc);
        if (cases[i].rc)
            assert_status(&f.st, PTQ_ERR_USAGE, "choose another --name or another --out");
        read_one(&f, out, "blk.1.ffn_in", &after);
        same_stats(&before, &after);
    }
    tiny_close(&f);
}

/* No file of this process may grow beyond `bytes`; a write beyond is an error and no signal. */
static void limit_files(rlim_t bytes)
{
    struct rlimit l;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &l), 0);
    l.rlim_cur = bytes < l.rlim_max ? bytes : l.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &l), 0);
    signal(SIGXFSZ, bytes == RLIM_INFINITY ? SIG_DFL : SIG_IGN);
}

/* Room is asked for before a block is appended: the file that is short of it is whole, holds the
 * blocks before, and is gone on with. The limit is one that the file itself does not reach. */
static void test_capture_without_room(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_input_stats whole, there;
    struct ptq_h5 *h;
    struct stat size;
    char a[TEST_PATH], b[TEST_PATH], room[TEST_PATH + 8];
    int64_t done;
    int after = 1;
    setup(&f);
    test_path(f.dir, "a.h5", a);
    test_path(f.dir, "b.h5", b);
    snprintf(room, sizeof room, "%s.room", b);
    capture(&f, a, false);
    assert_int_equal(stat(a, &size), 0);
    const struct ptq_stats_options o = {SINK, N_ACTS, false};
    struct ptq_capture_args args = {f.model, &f.text, &o, b, "calib", NULL, true};
    args.stop = stop_after;
    args.stop_arg = &after;
    args.whole_blocks = true;
    assert_int_equal(ptq_capture(&args, &f.st), PTQ_ERR_CANCELLED); /* block 0 is there */
    ptq_status_clear(&f.st);
    args.stop = NULL;
    limit_files((rlim_t)size.st_size + 4096);
    int rc = ptq_capture(&args, &f.st);
    limit_files(RLIM_INFINITY);
    assert_int_equal(rc, PTQ_ERR_IO);
    assert_status(&f.st, PTQ_ERR_IO, "b.h5: no room for another 1 MiB of statistics");
    assert_non_null(strstr(f.st.text, "make room and start again"));
    ptq_status_clear(&f.st);
    assert_int_equal(access(room, F_OK), -1);
    assert_ok(ptq_h5_open(&h, b, PTQ_H5_READ, &f.st), &f.st);
    assert_ok(ptq_h5_get_i64(h, "/stats/calib", "blocks_done", &done, &f.st), &f.st);
    assert_int_equal(done, 1);
    assert_false(ptq_h5_exists(h, "/stats/calib/blk.1.attn_in"));
    assert_ok(ptq_h5_close(h, &f.st), &f.st);
    capture(&f, b, false);
    for (int block = 0; block < 2; block++) {
        const char *input = block ? "blk.1.ffn_in" : "blk.0.ffn_in";
        read_one(&f, a, input, &whole);
        read_one(&f, b, input, &there);
        same_stats(&whole, &there);
    }
    tiny_close(&f);
}

static void test_bad_stats_files(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_input_stats s;
    struct ptq_h5 *h;
    char a[TEST_PATH];
    float junk[300] = {1};
    const int64_t n299 = 299, n300 = 300;
    setup(&f);
    test_path(f.dir, "a.h5", a);
    capture(&f, a, false);
    assert_ok(ptq_h5_open(&h, a, PTQ_H5_APPEND, &f.st), &f.st);
    assert_ok(
        ptq_h5_write(h, "/stats/calib/blk.0.attn_in/hess_rest", PTQ_H5_F32, 1, &n299, junk, &f.st),
        &f.st);
    junk[7] = INFINITY;
    assert_ok(
        ptq_h5_write(h, "/stats/calib/blk.1.attn_in/hess_sink", PTQ_H5_F32, 1, &n300, junk, &f.st),
        &f.st);
    assert_int_equal(ptq_stats_read_input(h, "calib", "blk.0.attn_in", &f.arena, &s, &f.st),
                     PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "upper triangle of 24 inputs has 300");
    ptq_status_clear(&f.st);
    assert_int_equal(ptq_stats_read_input(h, "calib", "blk.1.attn_in", &f.arena, &s, &f.st),
                     PTQ_ERR_NUMERIC);
    assert_status(&f.st, PTQ_ERR_NUMERIC, "hess_sink is not finite at element 7");
    ptq_status_clear(&f.st);
    assert_ok(ptq_h5_write(h, "/stats/calib/lone/hess_sink", PTQ_H5_F32, 1, &n300, junk, &f.st),
              &f.st);
    const int64_t n24 = 24;
    static const char *const vectors[] = {"absmax", "absmean", "mean"};
    for (int k = 0; k < 3; k++) {
        char object[64];
        snprintf(object, sizeof object, "/stats/calib/lone/%s", vectors[k]);
        assert_ok(ptq_h5_write(h, object, PTQ_H5_F32, 1, &n24, (const float[24]){0}, &f.st), &f.st);
    }
    assert_int_equal(ptq_stats_read_input(h, "calib", "lone", &f.arena, &s, &f.st), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "is there without /stats/calib/lone/hess_rest");
    ptq_status_clear(&f.st);
    assert_int_equal(ptq_stats_read_input(h, "calib", "blk.9.attn_in", &f.arena, &s, &f.st),
                     PTQ_ERR_USAGE);
    ptq_status_clear(&f.st);
    assert_ok(ptq_h5_set_text(h, "/stats/calib", "normalisation", "tokens", &f.st), &f.st);
    assert_int_equal(ptq_stats_read_input(h, "calib", "blk.0.ffn_in", &f.arena, &s, &f.st),
                     PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "did you mean 'token'");
    assert_ok(ptq_h5_close(h, NULL), &f.st);
    tiny_close(&f);
}

static void test_layer_view(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_hidden h;
    struct ptq_block b;
    struct ptq_input_stats s[PTQ_MAX_STAGES];
    struct ptq_layer l;
    int n;
    const struct ptq_stats_options o = {SINK, N_ACTS, false};
    setup(&f);
    enter(&f, &h, &b);
    assert_ok(ptq_stats_block(f.model, &b, NULL, &h, &o, NULL, &f.arena, s, &n, &f.st), &f.st);
    ptq_layer_from_model(&b.lin[6], 1, ptq_stats_find(s, n, b.lin[6].input), &l);
    assert_string_equal(l.name, "blk.1.ffn_down");
    assert_true(l.role == PTQ_ROLE_DOWN && l.block == 1 && l.w.rows == 24 && l.w.cols == 40 &&
                l.w.ld == 40 && l.w.at == b.lin[6].w);
    assert_true(l.hess.at == s[3].hess && l.hess.rows == 40 && l.hess_key == s[3].key &&
                l.acts.rows == N_ACTS && l.hess_norm == PTQ_NORM_TOKEN);
    ptq_layer_from_model(&b.lin[0], 1, NULL, &l);
    assert_true(!l.hess.at && !l.acts.at && l.role == PTQ_ROLE_Q);
    tiny_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_sums),
        cmocka_unit_test(test_inputs_are_right),
        cmocka_unit_test(test_threads_and_only),
        cmocka_unit_test(test_capture_reads_back),
        cmocka_unit_test(test_rest_beside_a_large_sink),
        cmocka_unit_test(test_cross),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_capture_stops),
        cmocka_unit_test(test_capture_goes_on),
        cmocka_unit_test(test_states_are_used),
        cmocka_unit_test(test_capture_spills),
        cmocka_unit_test(test_capture_of_another_request),
        cmocka_unit_test(test_capture_without_room),
        cmocka_unit_test(test_bad_stats_files),
        cmocka_unit_test(test_layer_view),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
