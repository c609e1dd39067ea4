/* Metrics of encoders against plain loops over their definitions, by embeddings made here. */
#include "core/rng.h"
#include "metrics/metric.h"
#include "testlib.h"

enum { N = 40, D = 5, MOST_METRICS = 64 };

struct fixture {
    double fp[N * D], q[N * D];
    struct ptq_eval reference, eval;
    struct ptq_model_info info;
    struct ptq_value v[MOST_METRICS];
};

static void normalise(double *e)
{
    for (int i = 0; i < N; i++) {
        double sum = 0;
        for (int k = 0; k < D; k++)
            sum += e[i * D + k] * e[i * D + k];
        for (int k = 0; k < D; k++)
            e[i * D + k] /= sqrt(sum);
    }
}

static void setup(struct fixture *f, double noise)
{
    memset(f, 0, sizeof *f);
    for (int i = 0; i < N * D; i++) {
        f->fp[i] = ptq_normal(1, (uint64_t)i);
        f->q[i] = f->fp[i] + noise * ptq_normal(2, (uint64_t)i);
    }
    normalise(f->fp);
    normalise(f->q);
    f->reference = (struct ptq_eval){.n_windows = N, .embedding = f->fp, .d_embedding = D};
    f->eval = (struct ptq_eval){
        .n_windows = N, .embedding = f->q, .d_embedding = D, .reference = &f->reference};
}

static void evaluate(struct fixture *f)
{
    struct ptq_status st = {0};
    const struct ptq_model_eval e = {.eval = &f->eval, .info = &f->info, .n_quantized_weights = 1};
    assert_ok(ptq_metrics_model_eval(&e, f->v, &st), &st);
}

static const struct ptq_value *value(const struct fixture *f, const char *id)
{
    int n;
    const struct ptq_metric_entry *all = ptq_metrics(&n);
    assert_true(n <= MOST_METRICS);
    for (int i = 0; i < n; i++)
        if (!strcmp(all[i].metric->id, id))
            return &f->v[i];
    fail_msg("no metric %s", id);
    return NULL;
}

static double dot(const double *a, const double *b)
{
    double sum = 0;
    for (int k = 0; k < D; k++)
        sum += a[k] * b[k];
    return sum;
}

static int rising(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void test_cosines(void **state)
{
    (void)state;
    struct fixture f;
    double c[N], mean = 0, squares = 0;
    setup(&f, .3);
    evaluate(&f);
    for (int i = 0; i < N; i++)
        mean += (c[i] = dot(f.fp + i * D, f.q + i * D)) / N;
    for (int i = 0; i < N; i++)
        squares += (c[i] - mean) * (c[i] - mean);
    qsort(c, N, sizeof *c, rising);
    assert_rel(value(&f, "embed_cos_mean")->v, mean, 1e-12);
    assert_rel(value(&f, "embed_dcos")->v, 1 - mean, 1e-12);
    /* (n - 1) / 100 = 0.39 of the way from the least to the next */
    assert_rel(value(&f, "embed_cos_p1")->v, c[0] + .39 * (c[1] - c[0]), 1e-12);
    /* t of 39 degrees of freedom, two-sided 95 %: 2.022690920036760 (tables) */
    double half = 2.022690920036760 * sqrt(squares / (N - 1) / N);
    assert_rel(value(&f, "embed_dcos")->lo, 1 - mean - half, 1e-9);
    assert_rel(value(&f, "embed_dcos")->hi, 1 - mean + half, 1e-9);
}

/* Small distances keep their digits: a turn by phi gives 1 - cos phi. */
static void test_small_distance(void **state)
{
    (void)state;
    struct fixture f;
    const double phi = 1e-7;
    setup(&f, 0);
    for (int i = 0; i < N; i++)
        for (int k = 0; k < D; k++) {
            f.fp[i * D + k] = k == 0;
            f.q[i * D + k] = k == 0 ? cos(phi) : k == 1 ? sin(phi) : 0;
        }
    evaluate(&f);
    assert_rel(value(&f, "embed_dcos")->v, phi * phi / 2, 1e-6);
    assert_rel(value(&f, "embed_cos_mean")->v, 1, 1e-13);
}

/* By sorting all others: falling cosine, then rising index. */
static void ten_of(const double *e, int i, int out[10])
{
    bool taken[N] = {false};
    for (int k = 0; k < 10; k++) {
        int best = -1;
        for (int j = 0; j < N; j++)
            if (j != i && !taken[j] &&
                (best < 0 || dot(e + i * D, e + j * D) > dot(e + i * D, e + best * D)))
                best = j;
        taken[best] = true;
        out[k] = best;
    }
}

static double plain_overlap(const struct fixture *f)
{
    int both = 0;
    for (int i = 0; i < N; i++) {
        int a[10], b[10];
        ten_of(f->fp, i, a);
        ten_of(f->q, i, b);
        for (int k = 0; k < 100; k++)
            both += a[k / 10] == b[k % 10];
    }
    return both / (10. * N);
}

static void test_neighbours(void **state)
{
    (void)state;
    struct fixture f;
    for (int i = 0; i < 4; i++) {
        setup(&f, .05 * (1 << i));
        /* many sentences alike: ties decide */
        for (int s = N / 2; i % 2 && s < N; s++)
            memcpy(f.q + s * D, f.q, D * sizeof *f.q);
        evaluate(&f);
        double want = plain_overlap(&f);
        assert_true(want > .2 && want < .95);
        assert_rel(value(&f, "embed_nn10")->v, want, 1e-12);
    }
    setup(&f, 0);
    evaluate(&f);
    assert_rel(value(&f, "embed_nn10")->v, 1, 0);
    assert_rel(value(&f, "embed_dcos")->v, 0, 0);
}

/* All alike: the neighbours are the ten lowest others, by hand those of the reference e_i = angle
 * i: of sentence 0 the same ten, 1 .. 10. */
static void test_ties(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 0);
    for (int i = 0; i < N; i++)
        for (int k = 0; k < D; k++) {
            f.fp[i * D + k] = k == 0 ? cos(.01 * i) : k == 1 ? sin(.01 * i) : 0;
            f.q[i * D + k] = k == 0;
        }
    evaluate(&f);
    double want = plain_overlap(&f);
    /* overlap of {0 .. 9 or 10 without i} with the ten nearest angles, counted by hand for the
     * ends: sentence 0: 10; sentence 39: {29 .. 38} and {0 .. 9}: 0 */
    assert_true(want > .2 && want < .6);
    assert_rel(value(&f, "embed_nn10")->v, want, 1e-12);
}

static void test_absent(void **state)
{
    (void)state;
    static const char *const ids[] = {"embed_cos_mean", "embed_cos_p1", "embed_dcos", "embed_nn10"},
                             *const predicted[] = {"ppl",         "nll",          "dnll",
                                                   "bpb",         "kl_mean",      "kl_median",
                                                   "kl_p99",      "kl_max",       "top1_agree",
                                                   "fact_recall", "copy_accuracy"};
    struct fixture f;
    setup(&f, .1);
    evaluate(&f);
    for (int64_t i = 0; i < LENGTH(predicted); i++) {
        assert_string_equal(value(&f, predicted[i])->reason, "an encoder predicts no tokens");
        assert_true(isnan(value(&f, predicted[i])->v));
    }
    f.eval.reference = NULL;
    evaluate(&f);
    for (int64_t i = 0; i < LENGTH(ids); i++)
        assert_string_equal(value(&f, ids[i])->reason, "no full-precision reference");
    setup(&f, .1);
    f.q[7 * D + 2] = NAN;
    evaluate(&f);
    for (int64_t i = 0; i < LENGTH(ids); i++)
        assert_non_null(value(&f, ids[i])->reason);
    setup(&f, .1);
    f.eval.n_windows = f.reference.n_windows = 10;
    evaluate(&f);
    assert_string_equal(value(&f, "embed_nn10")->reason, "fewer than eleven sentences");
    f.eval.n_windows = f.reference.n_windows = 11; /* all others are the ten nearest */
    evaluate(&f);
    assert_rel(value(&f, "embed_nn10")->v, 1, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cosines),    cmocka_unit_test(test_small_distance),
        cmocka_unit_test(test_neighbours), cmocka_unit_test(test_ties),
        cmocka_unit_test(test_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
