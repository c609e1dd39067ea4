/* The attention kernel against a plain fp64 loop, and its properties: what a position may not see
 * does not reach it, bits do not depend on threads or on the kernel (AVX2, AVX-512). */
#include "testlib.h"
#include "core/fmatile.h"
#include "core/rng.h"
#include "model/attention.h"

struct problem {
    int64_t len, heads, kv, dim, window;
    bool bidirectional, slopes;
    float scale;
};

struct operands {
    float *q, *k, *v, *out, *slope;
};

static float *filled(int64_t n, uint64_t seed)
{
    float *x = malloc((size_t)n * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)ptq_normal(seed, (uint64_t)i);
    return x;
}

static struct operands operands_new(const struct problem *p)
{
    const int64_t nq = p->len * p->heads * p->dim, nkv = p->len * p->kv * p->dim;
    struct operands o = {filled(nq, 1), filled(nkv, 2), filled(nkv, 3), filled(nq, 4),
                         filled(p->heads, 5)};
    for (int64_t h = 0; h < p->heads; h++)
        o.slope[h] = ldexpf(1, -(int)h - 1); /* of the usual size: 2^-1, 2^-2 ... */
    for (int64_t i = 0; i < nq; i++)
        o.out[i] = NAN;
    return o;
}

static void operands_free(struct operands *o)
{
    free(o->q), free(o->k), free(o->v), free(o->out), free(o->slope);
}

static void run(const struct problem *p, const struct operands *o, struct ptq_pool *pool)
{
    const struct ptq_attention a = {.len = p->len,
                                    .n_heads = p->heads,
                                    .n_kv_heads = p->kv,
                                    .head_dim = p->dim,
                                    .q = o->q,
                                    .k = o->k,
                                    .v = o->v,
                                    .out = o->out,
                                    .bidirectional = p->bidirectional,
                                    .window = p->window,
                                    .slopes = p->slopes ? o->slope : NULL,
                                    .scale = p->scale,
                                    .pool = pool};
    ptq_attention_run(&a);
}

static bool sees(const struct problem *p, int64_t i, int64_t j)
{
    return (p->bidirectional || j <= i) && (p->window == 0 || i - j < p->window);
}

/* One row of one head: softmax(q k^T scale + slope j) v, the definition. */
static void row_plain(const struct problem *p, const struct operands *o, int64_t h, int64_t i,
                      double *weight, double *out)
{
    const int64_t kv = h / (p->heads / p->kv);
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < p->len; j++) {
        const float *q = o->q + (i * p->heads + h) * p->dim, *k = o->k + (j * p->kv + kv) * p->dim;
        double s = 0;
        for (int64_t d = 0; d < p->dim; d++)
            s += (double)q[d] * k[d];
        s *= p->scale != 0 ? p->scale : 1 / sqrt((double)p->dim);
        if (p->slopes)
            s += (double)o->slope[h] * (double)j;
        weight[j] = sees(p, i, j) ? s : -INFINITY;
        top = fmax(top, weight[j]);
    }
    for (int64_t j = 0; j < p->len; j++)
        sum += weight[j] = exp(weight[j] - top);
    for (int64_t d = 0; d < p->dim; d++) {
        out[d] = 0;
        for (int64_t j = 0; j < p->len; j++)
            out[d] += weight[j] / sum * o->v[(j * p->kv + kv) * p->dim + d];
    }
}

/* Outputs are means of normal values, below 5 in size; scores of up to 15, rounded in fp32, move
 * them by some 15 x 2^-24 of that. */
static void check(const struct problem *p)
{
    struct operands o = operands_new(p);
    double *weight = malloc((size_t)p->len * sizeof *weight), want[1024];
    assert_non_null(weight);
    run(p, &o, NULL);
    for (int64_t h = 0; h < p->heads; h++)
        for (int64_t i = 0; i<p->len; i += p->len> 100 ? 7 : 1) {
            row_plain(p, &o, h, i, weight, want);
            const float *got = o.out + (i * p->heads + h) * p->dim;
            for (int64_t d = 0; d < p->dim; d++)
                if (!(fabs(got[d] - want[d]) < 5e-6))
                    fail_msg("length %lld dim %lld window %lld%s%s, head %lld row %lld channel "
                             "%lld: %.9g, expected %.9g",
                             (long long)p->len, (long long)p->dim, (long long)p->window,
                             p->bidirectional ? " both" : "", p->slopes ? " slopes" : "",
                             (long long)h, (long long)i, (long long)d, got[d], want[d]);
        }
    free(weight);
    operands_free(&o);
}

static const int64_t dims[] = {1, 2, 16, 20, 64, 80, 128};

/* Lengths around the kernel's 8, 48 and 128. */
static const int64_t lengths[] = {1, 2, 7, 8, 9, 47, 48, 49, 97, 127, 128, 129, 177, 300};

static void test_causal(void **state)
{
    (void)state;
    for (int d = 0; d < LENGTH(dims); d++)
        for (int l = 0; l < LENGTH(lengths); l++)
            check(&(struct problem){.len = lengths[l], .heads = 2, .kv = 1, .dim = dims[d]});
    for (int64_t len = 1; len < 60; len++)
        check(&(struct problem){.len = len, .heads = 1, .kv = 1, .dim = 6});
}

static void test_window(void **state)
{
    (void)state;
    static const int64_t windows[] = {1, 2, 31, 47, 48, 49, 128, 129, 200, 1000};
    for (int w = 0; w < LENGTH(windows); w++)
        for (int l = 0; l < LENGTH(lengths); l++)
            check(&(struct problem){
                .len = lengths[l], .heads = 1, .kv = 1, .dim = 20, .window = windows[w]});
}

static void test_slopes(void **state)
{
    (void)state;
    for (int l = 0; l < LENGTH(lengths); l++)
        check(&(struct problem){.len = lengths[l], .heads = 8, .kv = 8, .dim = 16, .slopes = true});
}

static void test_bidirectional(void **state)
{
    (void)state;
    for (int l = 0; l < LENGTH(lengths); l++) {
        check(&(struct problem){
            .len = lengths[l], .heads = 2, .kv = 2, .dim = 32, .bidirectional = true});
        check(&(struct problem){.len = lengths[l],
                                .heads = 1,
                                .kv = 1,
                                .dim = 18,
                                .bidirectional = true,
                                .window = 50});
    }
}

static void test_groups_and_scale(void **state)
{
    (void)state;
    check(&(struct problem){.len = 61, .heads = 9, .kv = 3, .dim = 64});
    check(&(struct problem){.len = 61, .heads = 6, .kv = 1, .dim = 80, .scale = 0.3f});
    check(&(struct problem){.len = 130, .heads = 4, .kv = 4, .dim = 128, .scale = 0.05f});
    /* heads wider than what is held at a time */
    check(&(struct problem){.len = 150, .heads = 2, .kv = 1, .dim = 600, .window = 90});
    check(&(struct problem){.len = 50, .heads = 2, .kv = 1, .dim = 256, .slopes = true});
}

/* Scores of some hundreds: exp of them overflows unless the maximum is taken off, and earlier
 * blocks of keys must fade away. Keys grow with their position, then shrink. */
static void test_large_scores(void **state)
{
    (void)state;
    const struct problem p = {.len = 300, .heads = 1, .kv = 1, .dim = 16, .scale = 1};
    struct operands o = operands_new(&p);
    double weight[300], want[16];
    for (int64_t i = 0; i < p.len * p.dim; i++) {
        const int64_t t = i / p.dim;
        o.q[i] = 1;
        o.k[i] = (t < 200 ? (float)t : 3) * 0.25f; /* exact products and sums */
    }
    run(&p, &o, NULL);
    for (int64_t i = 0; i < p.len; i++) {
        row_plain(&p, &o, 0, i, weight, want);
        for (int64_t d = 0; d < p.dim; d++)
            assert_true(fabs(o.out[i * p.dim + d] - want[d]) < 2e-6);
    }
    operands_free(&o);
}

/* ---- properties */

static void assert_rows_equal(const float *a, const float *b, int64_t from, int64_t to, int64_t d)
{
    assert_memory_equal(a + from * d, b + from * d, (size_t)((to - from) * d) * sizeof *a);
}

/* Positions before and behind a poisoned one keep their bits as far as they do not see it. */
static void check_blind(const struct problem *p, int64_t poisoned)
{
    struct operands o = operands_new(p), clean = operands_new(p);
    const int64_t row = p->heads * p->dim, kv = p->kv * p->dim;
    run(p, &clean, NULL);
    for (int64_t i = 0; i < kv; i++) {
        o.k[poisoned * kv + i] = i % 2 ? NAN : INFINITY;
        o.v[poisoned * kv + i] = i % 3 ? NAN : -INFINITY;
    }
    for (int64_t i = 0; i < row; i++)
        o.q[poisoned * row + i] = NAN;
    run(p, &o, NULL);
    for (int64_t i = 0; i < p->len; i++)
        if (!sees(p, i, poisoned) && i != poisoned)
            assert_rows_equal(o.out, clean.out, i, i + 1, row);
        else
            assert_true(isnan(o.out[i * row]));
    operands_free(&o);
    operands_free(&clean);
}

static void test_unseen_is_unread(void **state)
{
    (void)state;
    static const int64_t at[] = {0, 1, 46, 47, 48, 90, 127, 128, 199};
    for (int i = 0; i < LENGTH(at); i++) {
        check_blind(&(struct problem){.len = 200, .heads = 2, .kv = 1, .dim = 20}, at[i]);
        check_blind(&(struct problem){.len = 200, .heads = 2, .kv = 1, .dim = 20, .window = 37},
                    at[i]);
        check_blind(&(struct problem){.len = 200, .heads = 1, .kv = 1, .dim = 16, .window = 1},
                    at[i]);
    }
}

/* A prefix of a sequence has the bits of the prefix alone. */
static void test_prefix(void **state)
{
    (void)state;
    const struct problem whole = {.len = 300, .heads = 2, .kv = 2, .dim = 24, .slopes = true};
    struct operands o = operands_new(&whole);
    run(&whole, &o, NULL);
    for (int64_t len = 1; len < whole.len; len += 13) {
        struct problem p = whole;
        p.len = len;
        struct operands part = operands_new(&p);
        run(&p, &part, NULL);
        assert_rows_equal(part.out, o.out, 0, len, 2 * 24);
        operands_free(&part);
    }
    operands_free(&o);
}

static void test_threads(void **state)
{
    (void)state;
    const struct problem p = {.len = 333, .heads = 6, .kv = 3, .dim = 36, .window = 150};
    struct operands serial = operands_new(&p);
    run(&p, &serial, NULL);
    for (int n = 2; n <= 5; n++) {
        struct ptq_status st = {0};
        struct ptq_pool *pool;
        struct operands o = operands_new(&p);
        assert_ok(ptq_pool_new(&pool, n, &st), &st);
        run(&p, &o, pool);
        assert_rows_equal(o.out, serial.out, 0, p.len, p.heads * p.dim);
        operands_free(&o);
        ptq_pool_free(pool);
    }
    operands_free(&serial);
}

/* ---- the tile */

static void fill(float *x, int64_t n, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)ptq_normal(seed, (uint64_t)i);
}

enum { ROWS = PTQ_FMATILE_ROWS, COLS = PTQ_FMATILE_COLS, TERMS = 37, LDC = COLS + 3 };

/* c = or += the chain of fused multiply-adds, one rounding a term: exactly what fmaf gives. */
static void tile_check(ptq_fmatile_fn *kernel, int64_t step, bool add, bool masked)
{
    float a[ROWS][TERMS * 2], b[TERMS * COLS], c[ROWS * LDC], before[ROWS * LDC];
    uint64_t seen[TERMS];
    fill(a[0], ROWS * TERMS * 2, 7);
    fill(b, TERMS * COLS, 8);
    fill(c, ROWS * LDC, 9);
    memcpy(before, c, sizeof c);
    for (int k = 0; k < TERMS; k++)
        seen[k] = ptq_hash_u64(3, (uint64_t)k) >> (64 - COLS);
    for (int k = 0; k < TERMS && masked; k++)
        for (int j = 0; j < COLS; j++)
            if (!(seen[k] >> j & 1))
                b[k * COLS + j] = NAN;
    struct ptq_fmatile t = {.step = step,
                            .n = TERMS,
                            .b = b,
                            .seen = masked ? seen : NULL,
                            .c = c,
                            .ldc = LDC,
                            .add = add};
    for (int r = 0; r < ROWS; r++)
        t.row[r] = a[r];
    kernel(&t);
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < LDC; j++) {
            float sum = 0;
            for (int k = 0; k < TERMS && j < COLS; k++)
                if (!masked || seen[k] >> j & 1)
                    sum = ptq_fmatile_fuses() ? fmaf(a[r][k * step], b[k * COLS + j], sum)
                                              : sum + a[r][k * step] * b[k * COLS + j];
            const float old = before[r * LDC + j], want = j >= COLS ? old : add ? old + sum : sum;
            assert_true(c[r * LDC + j] == want);
        }
}

/* Every kernel that this processor has; PTQ_CPU picks, as in the program. */
static void test_tile(void **state)
{
    (void)state;
    static const char *const words[] = {"scalar", "avx2", "avx512"};
    const char *old = getenv("PTQ_CPU");
    char *kept = old ? strdup(old) : NULL;
    for (int i = 0; i < LENGTH(words); i++) {
        setenv("PTQ_CPU", words[i], 1);
        assert_true(i > 0 || !ptq_fmatile_fuses());
        for (int mode = 0; mode < 8; mode++)
            tile_check(ptq_fmatile_best(), 1 + mode % 2, mode & 2, mode & 4);
    }
    if (kept)
        setenv("PTQ_CPU", kept, 1);
    else
        unsetenv("PTQ_CPU");
    free(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_causal),           cmocka_unit_test(test_window),
        cmocka_unit_test(test_slopes),           cmocka_unit_test(test_bidirectional),
        cmocka_unit_test(test_groups_and_scale), cmocka_unit_test(test_large_scores),
        cmocka_unit_test(test_unseen_is_unread), cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_threads),          cmocka_unit_test(test_tile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
