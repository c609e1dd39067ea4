/* test_proxies.c: rank correlations inside strata and what goes with them, on losses made here:
 * every figure can be worked out by hand, or has a closed form. */
#include "testlib.h"
#include "analysis/proxy_stats.h"
#include "core/rng.h"
#include <math.h>

enum { WINDOWS = 40, MOST = 400 };

struct made { /* cells with a noise that all windows share, so paired differences are nearly exact
               */
    int64_t n, stratum[MOST];
    const char *method[MOST];
    double dnll[MOST * WINDOWS], proxy[MOST];
};

static void add_cell(struct made *m, int64_t stratum, const char *method, double loss, double proxy)
{
    for (int w = 0; w < WINDOWS; w++)
        m->dnll[m->n * WINDOWS + w] = loss * (1 + .01 * ((w + m->n) % 2 ? 1 : -1));
    m->stratum[m->n] = stratum;
    m->method[m->n] = method;
    m->proxy[m->n++] = proxy;
}

static void study(const struct made *m, int64_t n_strata, struct ptq_arena *a,
                  struct ptq_proxy_study *s)
{
    struct ptq_status st = {0};
    const struct ptq_measured of = {m->n,       WINDOWS,   n_strata, PTQ_LEAST_RANKS,
                                    m->stratum, m->method, m->dnll};
    assert_int_equal(ptq_proxy_study(&of, a, s, &st), PTQ_OK);
}

static struct ptq_proxy_fit fit_of(const struct made *m, int64_t n_strata, struct ptq_arena *a)
{
    struct ptq_proxy_study s;
    struct ptq_proxy_fit f;
    struct ptq_status st = {0};
    study(m, n_strata, a, &s);
    assert_int_equal(ptq_proxy_fit(&s, m->proxy, a, &f, &st), PTQ_OK);
    return f;
}

static const char *const names[] = {"a", "b", "c", "d", "e", "f"};

/* Simpson: it falls inside both strata, and rises from one to the other. */
static void test_strata_are_not_pooled(void **state)
{
    struct ptq_arena a;
    struct made *m = test_calloc(1, sizeof *m);
    (void)state;
    ptq_arena_init(&a, 0);
    for (int i = 0; i < 4; i++)
        add_cell(m, 0, names[i], 1 + i, 10 - i);
    for (int i = 0; i < 4; i++)
        add_cell(m, 1, names[i], 101 + i, 1000 - i);
    const struct ptq_proxy_fit f = fit_of(m, 2, &a);
    assert_float_equal(f.rho, -1, 1e-12);
    assert_float_equal(f.rho_lo, -1, 1e-12);
    assert_float_equal(f.rho_hi, -1, 1e-12);
    /* ranks 4 3 2 1 8 7 6 5 against 1 .. 8: 1 - 6 * 40 / (8 * 63) */
    assert_float_equal(f.rho_pooled, 1 - 6 * 40. / 504, 1e-12);
    assert_int_equal(f.n_pairs, 12);
    assert_float_equal(f.n_wrong, 12, 0);
    /* the widest gap as a ratio of losses: 1 against 4 */
    assert_int_equal(f.better, 3);
    assert_int_equal(f.worse, 0);
    assert_int_equal(f.n_cells, 8);
    assert_int_equal(f.n_strata, 2);
    ptq_arena_clear(&a);
    test_free(m);
}

/* Better than full precision: a ratio of losses says nothing, but a wrong pair is still shown. */
static void test_losses_below_zero(void **state)
{
    struct ptq_arena a;
    struct made *m = test_calloc(1, sizeof *m);
    (void)state;
    ptq_arena_init(&a, 0);
    for (int i = 0; i < 4; i++)
        add_cell(m, 0, names[i], i - 5, i < 2 ? 1 - i : i); /* -5 -4 -3 -2; the first two wrong */
    const struct ptq_proxy_fit f = fit_of(m, 1, &a);
    assert_float_equal(f.n_wrong, 1, 0);
    assert_int_equal(f.better, 1);
    assert_int_equal(f.worse, 0);
    ptq_arena_clear(&a);
    test_free(m);
}

/* Strata weigh by their cells less one: 3 cells at 1, 5 cells at 1/10 give (2 + 4/10) / 6. */
static void test_weights_of_strata(void **state)
{
    static const double order[] = {3, 1, 5, 4, 2}; /* sum of squared rank differences 18 */
    struct ptq_arena a;
    struct made *m = test_calloc(1, sizeof *m);
    (void)state;
    ptq_arena_init(&a, 0);
    for (int i = 0; i < 3; i++)
        add_cell(m, 0, names[i], 1 + i, 1 + i);
    for (int i = 0; i < 5; i++)
        add_cell(m, 1, names[i], 1 + i, order[i]);
    const struct ptq_proxy_fit f = fit_of(m, 2, &a);
    const double in_second = 1 - 6 * 18. / (5 * 24);
    assert_float_equal(in_second, .1, 1e-12);
    assert_float_equal(f.rho, (2 + 4 * in_second) / 6, 1e-12);
    assert_int_equal(f.worst_stratum, 1);
    assert_float_equal(f.worst_rho, in_second, 1e-12);
    ptq_arena_clear(&a);
    test_free(m);
}

/* loss = 3 proxy^2 exactly, but for the windows' one per cent. */
static void test_line(void **state)
{
    struct ptq_arena a;
    struct made *m = test_calloc(1, sizeof *m);
    (void)state;
    ptq_arena_init(&a, 0);
    for (int i = 0; i < 6; i++)
        add_cell(m, i / 3, names[i], 3 * pow(2, 2 * i), pow(2, i));
    struct ptq_proxy_fit f = fit_of(m, 2, &a);
    assert_float_equal(f.slope, 2, 1e-9);
    assert_float_equal(f.factor, 1, 1e-9);
    assert_true(f.factor_hi > 1 && f.factor_hi < 1.01); /* 1 % over 40 windows */
    /* proxy over loss: 1 / (3 proxy) at 1, 2, .. 32; the median lies between those at 4 and 8 */
    assert_float_equal(f.ratio, (1 / 12. + 1 / 24.) / 2, 1e-9);
    for (int i = 0; i < 6; i++)
        m->proxy[i] = i % 2 ? 1 : 2;
    f = fit_of(m, 2, &a);
    assert_true(f.factor > 10); /* a proxy that says nothing: the spread of the losses themselves */
    ptq_arena_clear(&a);
    test_free(m);
}

/* Residuals +-.5 in log about a line of slope 1 that they do not tilt: sd sqrt(8 .25 / 6). */
static void test_residual(void **state)
{
    static const int sign[] = {1, -1, -1, 1, 1, -1, -1, 1};
    struct ptq_arena a;
    struct made *m = test_calloc(1, sizeof *m);
    (void)state;
    ptq_arena_init(&a, 0);
    for (int i = 0; i < 8; i++)
        add_cell(m, i / 4, names[i % 4], exp(i + .5 * sign[i]), exp(i));
    const struct ptq_proxy_fit f = fit_of(m, 2, &a);
    assert_float_equal(f.slope, 1, 1e-9);
    assert_float_equal(f.factor, exp(sqrt(8 * .25 / 6)), 1e-6);
    ptq_arena_clear(&a);
    test_free(m);
}

static void test_equal_values_are_half_wrong(void **state)
{
    struct ptq_arena a;
    struct made *m = test_calloc(1, sizeof *m);
    (void)state;
    ptq_arena_init(&a, 0);
    add_cell(m, 0, "a", 1, 5);
    add_cell(m, 0, "b", 2, 5);
    add_cell(m, 0, "c", 4, 7);
    const struct ptq_proxy_fit f = fit_of(m, 1, &a);
    assert_int_equal(f.n_pairs, 3);
    assert_float_equal(f.n_wrong, .5, 0);
    assert_int_equal(f.better, -1); /* equal is not the other way round */
    ptq_arena_clear(&a);
    test_free(m);
}

/* One method alone spoils the order. */
static void test_leaving_out_a_method(void **state)
{
    struct ptq_arena a;
    struct made *m = test_calloc(1, sizeof *m);
    (void)state;
    ptq_arena_init(&a, 0);
    for (int i = 0; i < 5; i++)
        add_cell(m, 0, names[i], 1 + i, i == 4 ? 0 : 1 + i);
    add_cell(m, 0, "f", 8, 8);
    const struct ptq_proxy_fit f = fit_of(m, 1, &a);
    assert_float_equal(f.rho_most, 1, 1e-12);
    /* without f: ranks 2 3 4 5 1 against 1 .. 5 give 0 */
    assert_float_equal(f.rho_least, 0, 1e-12);
    assert_string_equal(f.without_least, "f");
    ptq_arena_clear(&a);
    test_free(m);
}

/* Two cells are too few; cells whose differences drown in the windows' noise have no order. */
static void test_strata_that_do_not_count(void **state)
{
    struct ptq_arena a;
    struct ptq_proxy_study s;
    struct made *m = test_calloc(1, sizeof *m);
    (void)state;
    ptq_arena_init(&a, 0);
    add_cell(m, 0, "a", 1, 1);
    add_cell(m, 0, "b", 2, 2);
    for (int i = 0; i < 4; i++) {
        add_cell(m, 1, names[i], 0, 1 + i);
        for (int w = 0; w < WINDOWS; w++)
            m->dnll[(m->n - 1) * WINDOWS + w] =
                1e-3 * i + ptq_normal(7, (uint64_t)(i * WINDOWS + w));
    }
    study(m, 2, &a, &s);
    assert_int_equal(s.n_counted, 0);
    assert_int_equal(s.n_cells, 0);
    const struct ptq_proxy_fit f = fit_of(m, 2, &a);
    assert_int_equal(f.n_strata, 0);
    assert_true(isnan(f.rho));
    ptq_arena_clear(&a);
    test_free(m);
}

/* Cells without a value leave, and a stratum that falls below three goes with them. */
static void test_absent_values(void **state)
{
    struct ptq_arena a;
    struct made *m = test_calloc(1, sizeof *m);
    (void)state;
    ptq_arena_init(&a, 0);
    for (int i = 0; i < 4; i++)
        add_cell(m, 0, names[i], 1 + i, 1 + i);
    for (int i = 0; i < 3; i++)
        add_cell(m, 1, names[i], 1 + i, i ? 3 - i : NAN);
    const struct ptq_proxy_fit f = fit_of(m, 2, &a);
    assert_int_equal(f.n_strata, 1);
    assert_int_equal(f.n_cells, 4);
    assert_float_equal(f.rho, 1, 1e-12);
    assert_int_equal(f.n_pairs, 6 + 1);
    ptq_arena_clear(&a);
    test_free(m);
}

/* Losses of variance 1 under windows' noise of variance 4: over 40 windows a reliability of
 * 1 / (1 + 4 / 40), and a perfect proxy shows its root. Ranks of normal values lose a per cent. */
static void test_ceiling(void **state)
{
    struct ptq_arena a;
    struct ptq_proxy_study s;
    struct ptq_proxy_fit f;
    struct ptq_status st = {0};
    struct made *m = test_calloc(1, sizeof *m);
    (void)state;
    ptq_arena_init(&a, 0);
    for (int i = 0; i < MOST; i++) {
        const double loss = ptq_normal(11, (uint64_t)i);
        add_cell(m, 0, names[i % 6], loss, loss);
        for (int w = 0; w < WINDOWS; w++)
            m->dnll[i * WINDOWS + w] = loss + 2 * ptq_normal(13, (uint64_t)(i * WINDOWS + w));
    }
    study(m, 1, &a, &s);
    assert_int_equal(s.n_counted, 1);
    assert_float_equal(s.ceiling, sqrt(1 / 1.1), .015);
    assert_int_equal(ptq_proxy_fit(&s, m->proxy, &a, &f, &st), PTQ_OK);
    assert_float_equal(f.rho, s.ceiling, .015);
    /* About the correlation without the windows' noise, 1, not about twice as much of it. */
    printf("rho %.4f [%.4f, %.4f]\n", f.rho, f.rho_lo, f.rho_hi);
    assert_true(f.rho_hi > f.rho && f.rho_hi > .99 && f.rho_hi - f.rho_lo > .002 &&
                f.rho_hi - f.rho_lo < .06);
    ptq_arena_clear(&a);
    test_free(m);
}

/* The draws of a resample are the windows of all cells alike: what all windows share falls out of
 * ranks, so noise that is common to the cells leaves the interval a point. */
static void test_resamples_are_paired(void **state)
{
    struct ptq_arena a;
    struct made *m = test_calloc(1, sizeof *m);
    (void)state;
    ptq_arena_init(&a, 0);
    for (int i = 0; i < 5; i++) {
        add_cell(m, 0, names[i], 0, i == 1 ? 5 : i);
        for (int w = 0; w < WINDOWS; w++)
            m->dnll[i * WINDOWS + w] = .01 * i + ptq_normal(17, (uint64_t)w);
    }
    const struct ptq_proxy_fit f = fit_of(m, 1, &a);
    assert_float_equal(f.rho_lo, f.rho, 1e-12);
    assert_float_equal(f.rho_hi, f.rho, 1e-12);
    assert_int_equal(f.n_pairs, 10);
    ptq_arena_clear(&a);
    test_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strata_are_not_pooled),
        cmocka_unit_test(test_losses_below_zero),
        cmocka_unit_test(test_weights_of_strata),
        cmocka_unit_test(test_line),
        cmocka_unit_test(test_residual),
        cmocka_unit_test(test_equal_values_are_half_wrong),
        cmocka_unit_test(test_leaving_out_a_method),
        cmocka_unit_test(test_strata_that_do_not_count),
        cmocka_unit_test(test_absent_values),
        cmocka_unit_test(test_ceiling),
        cmocka_unit_test(test_resamples_are_paired),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
