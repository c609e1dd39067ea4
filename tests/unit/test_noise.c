/* Shards recombined: halves and less-one errors against direct loops and closed forms, and the
 * noise that they tell against that of many independent texts of a made-up language. */
#include "quant_lib.h"
#include "core/stat.h"
#include "model/shards.h"
#include "sweep/noise.h"

/* ---- halves */

static void test_halves_are_balanced(void **state)
{
    (void)state;
    for (int64_t k = 4; k <= 64; k *= 2) {
        int64_t in[64] = {0};
        for (int64_t r = 0; r < 2 * (k - 1); r++) {
            int64_t size = 0;
            for (int64_t i = 0; i < k; i++) {
                size += ptq_in_half(r, i);
                in[i] += ptq_in_half(r, i);
                assert_true(ptq_in_half(r, i) != ptq_in_half(r ^ 1, i));
            }
            assert_int_equal(size, k / 2);
            for (int64_t q = 0; q < r; q++) { /* no two alike */
                bool same = true;
                for (int64_t i = 0; i < k; i++)
                    same = same && ptq_in_half(r, i) == ptq_in_half(q, i);
                assert_false(same);
            }
        }
        for (int64_t i = 0; i < k; i++)
            assert_int_equal(in[i], k - 1);
    }
}

/* Over all halves the mean square of a mean about the whole's mean is s^2 / K: that of the mean of
 * K independent values. */
static void test_halves_of_a_linear_function(void **state)
{
    (void)state;
    enum { K = 16 };
    double x[K], squares = 0, mean = 0;
    for (int i = 0; i < K; i++)
        x[i] = ptq_normal(3, (uint64_t)i);
    for (int64_t r = 0; r < 2 * (K - 1); r++) {
        double half = 0;
        for (int64_t i = 0; i < K; i++)
            half += ptq_in_half(r, i) ? x[i] / (K / 2) : 0;
        squares += (half - ptq_mean(x, K)) * (half - ptq_mean(x, K));
        mean += half - ptq_mean(x, K);
    }
    const double s = ptq_stddev(x, K);
    assert_rel(squares / (2 * (K - 1)), s * s / K, 1e-13);
    assert_true(fabs(mean) < 1e-13);
}

/* ---- the jackknife */

/* Of a mean it is the standard error of the mean; numpy 1.24 for the sample:
 * np.std([3.5, -1, 2.25, 9, 4, .5, 7.75], ddof=1) / np.sqrt(7). */
static void test_jackknife_of_a_mean(void **state)
{
    (void)state;
    const double x[] = {3.5, -1.0, 2.25, 9.0, 4.0, 0.5, 7.75};
    double one[7], less_one[7];
    for (int i = 0; i < 7; i++)
        one[i] = 1;
    ptq_less_one(x, one, 7, less_one);
    assert_rel(less_one[1], (3.5 + 2.25 + 9 + 4 + .5 + 7.75) / 6, 1e-15);
    assert_rel(ptq_jackknife_se(less_one, 7), 3.6298202762802516 / sqrt(7), 1e-14);
    assert_true(isnan(ptq_jackknife_se(x, 1)));
    /* equal units: nothing is uncertain */
    assert_true(ptq_jackknife_se((double[]){.1, .1, .1}, 3) == 0);
}

/* ---- a made-up language ------------------------------------------------------------------------
 * x = A (z_t + u_s / 2): z of the token, u of its sequence, both unit normal; H = 2 (5/4) A A^T. */

enum { LEN = 4, MOST_D = 24 };
struct language {
    int64_t d;
    double a[MOST_D * MOST_D], hess[MOST_D * MOST_D];
};

static void make_language(struct language *l, int64_t d)
{
    l->d = d;
    for (int64_t i = 0; i < d * d; i++)
        l->a[i] = ptq_normal(21, (uint64_t)i) * (i % d < d / 4 ? 2 : .3);
    for (int64_t i = 0; i < d; i++)
        for (int64_t j = 0; j < d; j++) {
            double sum = 0;
            for (int64_t k = 0; k < d; k++)
                sum += l->a[i * d + k] * l->a[j * d + k];
            l->hess[i * d + j] = 2 * 1.25 * sum;
        }
}

static void token(const struct language *l, uint64_t seed, int64_t s, int64_t t, double *x)
{
    double z[MOST_D];
    for (int64_t k = 0; k < l->d; k++)
        z[k] = ptq_normal(seed, (uint64_t)((s * LEN + t) * l->d + k)) +
               .5 * ptq_normal(seed + 1000003, (uint64_t)(s * l->d + k));
    for (int64_t i = 0; i < l->d; i++) {
        x[i] = 0;
        for (int64_t k = 0; k < l->d; k++)
            x[i] += l->a[i * l->d + k] * z[k];
    }
}

/* Statistics of a text of n sequences, as stats.h has them; `uneven`: the last token of the
 * sequences of the first half is left out. */
static void read_text(const struct language *l, uint64_t seed, int64_t n, int64_t n_shards,
                      bool uneven, struct ptq_arena *arena, struct ptq_input_stats *s)
{
    const int64_t d = l->d;
    double *hess = ptq_arena_alloc(arena, NULL, d * d, sizeof *hess);
    *s = (struct ptq_input_stats){.name = "made.up", .d_in = d, .n_shards = n_shards, .hess = hess};
    s->shards = ptq_arena_alloc(arena, NULL, n_shards * (d * (d + 1) / 2), sizeof *s->shards);
    s->shard_tokens = ptq_arena_alloc(arena, NULL, n_shards, sizeof(double));
    for (int64_t q = 0; q < n; q++)
        s->n_tokens += uneven && q < n / 2 ? LEN - 1 : LEN;
    for (int64_t q = 0; q < n; q++) {
        const int64_t k = q * n_shards / n, len = uneven && q < n / 2 ? LEN - 1 : LEN;
        double *to = s->shards + k * (d * (d + 1) / 2), x[MOST_D];
        s->shard_tokens[k] += (double)len;
        for (int64_t t = 0; t < len; t++) {
            token(l, seed, q, t, x);
            for (int64_t i = 0, e = 0; i < d; i++)
                for (int64_t j = i; j < d; j++, e++)
                    to[e] += 2 * x[i] * x[j] / s->n_tokens;
        }
    }
    for (int64_t k = 0; k < n_shards; k++)
        for (int64_t i = 0; i < d; i++)
            for (int64_t j = i; j < d; j++) {
                const double v = s->shards[k * (d * (d + 1) / 2) + i * d - i * (i - 1) / 2 + j - i];
                hess[i * d + j] += v;
                if (i != j)
                    hess[j * d + i] += v;
            }
}

static double trace_of(const float *a, int64_t rows, const double *h, int64_t d)
{
    double sum = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < d; i++)
            for (int64_t j = 0; j < d; j++)
                sum += (double)a[r * d + i] * h[i * d + j] * (double)a[r * d + j];
    return sum;
}

static float *random_matrix(struct ptq_arena *a, uint64_t seed, int64_t n)
{
    float *x = ptq_arena_alloc(a, NULL, n, sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)ptq_normal(seed, (uint64_t)i);
    return x;
}

/* H of a half is that of its tokens alone. */
static void test_half_hess(void **state)
{
    struct fixture *f = *state;
    struct language l;
    struct ptq_input_stats s;
    struct ptq_pool *pool;
    enum { N = 16, K = 8, D = 6 };
    double half[D * D], again[D * D], n_tokens;
    make_language(&l, D);
    read_text(&l, 5, N, K, true, &f->arena, &s);
    assert_ok(ptq_pool_new(&pool, 2, &f->st), &f->st);
    for (int64_t r = 0; r < 2 * (K - 1); r++) {
        double direct[D * D] = {0}, tokens = 0;
        ptq_half_hess(&s, r, NULL, half, &n_tokens);
        ptq_half_hess(&s, r, pool, again, &n_tokens);
        for (int64_t q = 0; q < N; q++)
            for (int64_t t = 0; ptq_in_half(r, q / 2) && t < LEN - (q < N / 2); t++) {
                double x[MOST_D];
                token(&l, 5, q, t, x);
                tokens++;
                for (int64_t e = 0; e < D * D; e++)
                    direct[e] += 2 * x[e / D] * x[e % D];
            }
        assert_true(n_tokens == tokens);
        assert_memory_equal(half, again, sizeof half);
        for (int64_t e = 0; e < D * D; e++)
            assert_true(fabs(half[e] - direct[e] / tokens) < 1e-13 * fabs(direct[0]));
    }
    ptq_pool_free(pool);
}

static void test_shard_quads(void **state)
{
    struct fixture *f = *state;
    struct language l;
    struct ptq_input_stats s;
    enum { K = 8, D = 10, ROWS = 7 };
    double got[K], sum = 0;
    make_language(&l, D);
    read_text(&l, 5, 16, K, false, &f->arena, &s);
    const float *a = random_matrix(&f->arena, 8, ROWS * D);
    assert_ok(ptq_shard_quads(&s, a, ROWS, got, &f->st), &f->st);
    for (int64_t k = 0; k < K; k++) {
        double full[D * D];
        for (int64_t i = 0; i < D; i++)
            for (int64_t j = i; j < D; j++)
                full[i * D + j] = full[j * D + i] =
                    s.shards[k * (D * (D + 1) / 2) + i * D - i * (i - 1) / 2 + j - i];
        assert_rel(got[k], trace_of(a, ROWS, full, D), 1e-12);
        sum += got[k];
    }
    assert_rel(sum, trace_of(a, ROWS, s.hess, D), 1e-12);
}

static void test_perturbed(void **state)
{
    struct fixture *f = *state;
    struct language l;
    enum { D = 24 };
    double a[D * D], b[D * D], g[D * (D + 1) / 2];
    int64_t n = 0;
    struct ptq_pool *pool;
    make_language(&l, D);
    const struct ptq_cdmat h = {l.hess, D, D, D};
    assert_ok(ptq_pool_new(&pool, 2, &f->st), &f->st);
    ptq_perturb_hess(&h, 1e-6, 77, NULL, a);
    ptq_perturb_hess(&h, 1e-6, 77, pool, b);
    ptq_pool_free(pool);
    assert_memory_equal(a, b, sizeof a);
    for (int64_t i = 0; i < D; i++)
        for (int64_t j = i; j < D; j++) {
            assert_true(a[i * D + j] == a[j * D + i]);
            g[n++] = (a[i * D + j] / l.hess[i * D + j] - 1) / 1e-6;
        }
    /* 300 unit normals: four standard errors */
    assert_true(fabs(ptq_mean(g, n)) < 4 / sqrt(300) && fabs(ptq_stddev(g, n) - 1) < 4 / sqrt(600));
    ptq_perturb_hess(&h, 1e-6, 78, NULL, b);
    assert_true(memcmp(a, b, sizeof a) != 0);
}

/* ---- against independent texts */

/* A fixed form scored on 400 texts: how often the interval of one holds the truth of the language,
 * and its standard error beside the spread of the errors. */
static void test_scoring_noise(void **state)
{
    struct fixture *f = *state;
    struct language l;
    enum { TEXTS = 400, K = 16, N = 64, D = 8, ROWS = 4 };
    double log_error[TEXTS], variance = 0;
    int64_t held = 0;
    make_language(&l, D);
    const float *w = random_matrix(&f->arena, 31, ROWS * D),
                *dw = random_matrix(&f->arena, 32, ROWS * D);
    const double truth = log(trace_of(dw, ROWS, l.hess, D) / trace_of(w, ROWS, l.hess, D));
    for (int i = 0; i < TEXTS; i++) {
        struct ptq_input_stats s;
        struct ptq_arena arena;
        double top[K], bottom[K], less_one[K];
        ptq_arena_init(&arena, 0);
        read_text(&l, 100 + (uint64_t)i, N, K, false, &arena, &s);
        assert_ok(ptq_shard_quads(&s, dw, ROWS, top, &f->st), &f->st);
        assert_ok(ptq_shard_quads(&s, w, ROWS, bottom, &f->st), &f->st);
        ptq_less_one(top, bottom, K, less_one);
        for (int k = 0; k < K; k++)
            less_one[k] = log(less_one[k]);
        const double se = ptq_jackknife_se(less_one, K);
        log_error[i] = log(trace_of(dw, ROWS, s.hess, D) / trace_of(w, ROWS, s.hess, D));
        variance += se * se / TEXTS;
        held += fabs(log_error[i] - truth) <= ptq_t_quantile(.975, K - 1) * se;
        ptq_arena_clear(&arena);
    }
    const double ratio = sqrt(variance) / ptq_stddev(log_error, TEXTS);
    print_message("scoring: interval of one text holds the truth in %.1f %% of %d, standard error "
                  "over spread %.3f\n",
                  100 * (double)held / TEXTS, TEXTS, ratio);
    /* 380 are expected; four binomial deviations are 17. The spread of 400 is known to 3.5 %. */
    assert_true(held >= 363 && held <= 397);
    assert_true(ratio > .86 && ratio < 1.14);
}

static double log_error_of(struct ptq_layer *layer, const struct language *l, const double *hess,
                           uint64_t key)
{
    struct ptq_result r;
    struct ptq_status st = {0};
    struct run_args a = {.layer = layer, .spec = "gptq", .cell = cell_of(3, PTQ_GROUP_ROW)};
    const int64_t n = layer->w.rows * l->d;
    float *dw = malloc((size_t)n * sizeof *dw);
    layer->hess = (struct ptq_cdmat){hess, l->d, l->d, l->d};
    layer->hess_key = key;
    assert_ok(run_cell(&a, &r, &st), &st);
    for (int64_t i = 0; i < n; i++)
        dw[i] = r.what[i] - layer->w.at[i];
    const double top = trace_of(dw, layer->w.rows, l->hess, l->d);
    free(dw);
    ptq_result_release(&r);
    return log(top / trace_of(layer->w.at, layer->w.rows, l->hess, l->d));
}

/* GPTQ calibrated on 800 texts and scored on the language itself: the spread over texts beside that
 * over the halves of one, and the error of texts half as long beside the mean over halves. */
static void test_calibration_noise(void **state)
{
    struct fixture *f = *state;
    struct language l;
    enum { TEXTS = 800, K = 8, R = 8, N = 64, D = MOST_D, ROWS = 24 };
    double whole[TEXTS], shorter[TEXTS], variance = 0, shift = 0;
    make_language(&l, D);
    struct ptq_layer layer = {.name = "made.up",
                              .block = -1,
                              .w = {random_matrix(&f->arena, 33, ROWS * D), ROWS, D, D},
                              .hess_norm = PTQ_NORM_TOKEN,
                              .n_tokens = N * LEN};
    for (int i = 0; i < TEXTS; i++) {
        struct ptq_input_stats s;
        struct ptq_arena arena;
        double half[R], hess[D * D], n_tokens;
        const uint64_t key = 1000 * (uint64_t)(i + 1);
        ptq_arena_init(&arena, 0);
        read_text(&l, 5000 + (uint64_t)i, N, K, false, &arena, &s);
        whole[i] = log_error_of(&layer, &l, s.hess, key);
        for (int64_t r = 0; r < R; r++) {
            ptq_half_hess(&s, r, NULL, hess, &n_tokens);
            half[r] = log_error_of(&layer, &l, hess, key + 1 + (uint64_t)r);
            shift += (half[r] - whole[i]) / (R * TEXTS);
        }
        variance += ptq_stddev(half, R) * ptq_stddev(half, R) / TEXTS;
        read_text(&l, 9000 + (uint64_t)i, N / 2, K, false, &arena, &s);
        shorter[i] = log_error_of(&layer, &l, s.hess, key + 100);
        ptq_arena_clear(&arena);
    }
    const double ratio = sqrt(variance) / ptq_stddev(whole, TEXTS),
                 cost = ptq_mean(shorter, TEXTS) - ptq_mean(whole, TEXTS);
    print_message("calibration: spread over halves %.3f of that over texts (%.4f); half the text "
                  "costs %.4f, halves say %.4f\n",
                  ratio, ptq_stddev(whole, TEXTS), cost, shift);
    /* Between 1 and the root of 3 (noise.h), the spread of 800 texts being known to 2.5 %. */
    assert_true(ratio > .9 && ratio < 1.8);
    assert_true(shift > .6 * cost && shift < 1.6 * cost);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_halves_are_balanced),
        cmocka_unit_test(test_halves_of_a_linear_function),
        cmocka_unit_test(test_jackknife_of_a_mean),
        cmocka_unit_test_setup_teardown(test_half_hess, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shard_quads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_perturbed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scoring_noise, setup, teardown),
        cmocka_unit_test_setup_teardown(test_calibration_noise, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
