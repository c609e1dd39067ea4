#include "testlib.h"
#include "core/stat.h"
#include <pthread.h>

static const double sample[] = {3.5, -1.0, 2.25, 9.0, 4.0, 0.5, 7.75};

/* numpy 1.24: mean, std(ddof=1) of the sample. */
static void mean_and_deviation(void **state)
{
    (void)state;
    assert_rel(ptq_mean(sample, 7), 3.7142857142857144, 1e-15);
    assert_rel(ptq_stddev(sample, 7), 3.6298202762802516, 1e-15);
    assert_true(isnan(ptq_mean(sample, 0)));
    assert_true(isnan(ptq_stddev(sample, 1)));
    /* A large offset must not cancel: 1e9 + {1, 2, 3} has deviation 1. */
    assert_rel(ptq_stddev((double[]){1e9 + 1, 1e9 + 2, 1e9 + 3}, 3), 1, 1e-15);
}

/* numpy 1.24: quantile(sample, p), linear. */
static void quantiles(void **state)
{
    (void)state;
    double x[7];
    memcpy(x, sample, sizeof x);
    ptq_sort_f64(x, 7);
    assert_rel(ptq_quantile_sorted(x, 7, 0), -1, 0);
    assert_rel(ptq_quantile_sorted(x, 7, .05), -0.5499999999999999, 1e-14);
    assert_rel(ptq_quantile_sorted(x, 7, .25), 1.375, 0);
    assert_rel(ptq_quantile_sorted(x, 7, .5), 3.5, 0);
    assert_rel(ptq_quantile_sorted(x, 7, .9), 8.25, 1e-15);
    assert_rel(ptq_quantile_sorted(x, 7, 1), 9, 0);
    assert_rel(ptq_quantile_sorted(x, 7, 2), 9, 0);
    assert_rel(ptq_quantile_sorted(x, 1, .3), -1, 0);
    assert_true(isnan(ptq_quantile_sorted(x, 0, .5)));
    assert_true(isnan(ptq_quantile_sorted(x, 7, NAN)));
    /* No step towards an infinite neighbour. */
    assert_rel(ptq_quantile_sorted((double[]){1, 2, INFINITY}, 3, .5), 2, 0);
}

/* 1 .. 9: median 5, quartiles 3 and 7. */
static void median_and_spread(void **state)
{
    (void)state;
    double x[] = {9, 2, 7, 4, 5, 6, 3, 8, 1}, one = 3, spread;
    assert_rel(ptq_median_spread(x, 9, &spread), 5, 0);
    assert_rel(spread, .4, 1e-15);
    assert_rel(ptq_median_spread(&one, 1, &spread), 3, 0);
    assert_true(spread == 0);
}

static void sorting_puts_nan_last(void **state)
{
    (void)state;
    double x[] = {NAN, 2, -INFINITY, NAN, -0.5, INFINITY};
    ptq_sort_f64(x, 6);
    assert_true(x[0] == -INFINITY && x[1] == -0.5 && x[2] == 2 && x[3] == INFINITY && isnan(x[4]) &&
                isnan(x[5]));
    ptq_sort_f64(NULL, 0);
}

/* The t distribution in closed form. One degree of freedom: F(t) = 1/2 + atan(t) / pi; two: 1/2
 * + t / (2 sqrt(2 + t^2)). */
static void intervals_in_closed_form(void **state)
{
    (void)state;
    struct ptq_interval i;
    ptq_paired_interval((double[]){1, 3}, 2, .95, &i); /* mean 2, deviation sqrt 2, se 1, t 2 */
    double half = tan(M_PI * .475);
    assert_rel(i.mean, 2, 0);
    assert_rel(i.se, 1, 1e-15);
    assert_rel(i.t, 2, 1e-15);
    assert_rel(i.p, 1 - 2 * atan(2) / M_PI, 1e-12);
    assert_rel(i.lo, 2 - half, 1e-12);
    assert_rel(i.hi, 2 + half, 1e-12);
    assert_int_equal(i.n, 2);
    ptq_paired_interval((double[]){-1, -2, -6}, 3, .9, &i); /* mean -3, variance 7 */
    double se = sqrt(7. / 3), t = -3 / se, c = .9;
    half = c * sqrt(2 / (1 - c * c)) * se; /* t / sqrt(2 + t^2) = .9 */
    assert_rel(i.se, se, 1e-15);
    assert_rel(i.p, 1 + t / sqrt(2 + t * t), 1e-12);
    assert_rel(i.lo, -3 - half, 1e-12);
    assert_rel(i.hi, -3 + half, 1e-12);
}

/* t_{.975, 9} = 2.262157 (any table of Student's t). */
static void interval_from_the_table(void **state)
{
    (void)state;
    struct ptq_interval i;
    ptq_paired_interval((double[]){1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 10, .95, &i);
    assert_rel((i.hi - i.mean) / i.se, 2.262157, 1e-6);
    assert_rel((i.mean - i.lo) / i.se, 2.262157, 1e-6);
}

static void intervals_without_spread(void **state)
{
    (void)state;
    struct ptq_interval i;
    ptq_paired_interval((double[]){0, 0, 0}, 3, .95, &i);
    assert_true(i.mean == 0 && i.lo == 0 && i.hi == 0 && i.p == 1);
    ptq_paired_interval((double[]){-2, -2, -2}, 3, .95, &i);
    assert_true(i.lo == -2 && i.hi == -2 && i.p == 0 && i.t == -INFINITY);
    ptq_paired_interval((double[]){5}, 1, .95, &i);
    assert_true(i.mean == 5 && isnan(i.lo) && isnan(i.p));
    ptq_paired_interval((double[]){5, NAN}, 2, .95, &i);
    assert_true(isnan(i.mean) && isnan(i.lo) && isnan(i.p));
    ptq_paired_interval((double[]){5, 6}, 2, 1, &i);
    assert_true(i.mean == 5.5 && isnan(i.lo));
}

/* By hand: windows of 1, 2 and 3 tokens, means 1, 2 and 4: m = 17/6, units m + (x - m) w / 2. */
static void ratio_units(void **state)
{
    (void)state;
    const double x[] = {1, NAN, 2, 4}, want[] = {23. / 12, 2, 55. / 12};
    const int64_t tokens[] = {1, 0, 2, 3}, alike[] = {7, 7, 7, 7};
    double u[4], v[4], diff[4];
    struct ptq_interval i;
    assert_int_equal(ptq_ratio_units(x, tokens, 4, u), 3);
    for (int k = 0; k < 3; k++)
        assert_rel(u[k], want[k], 1e-14);
    /* Cochran, eq. 6.13 without the finite population: sum (y_i - R x_i)^2 / ((n - 1) n xbar^2);
     * y_i - R x_i = -11/6, -5/3, 7/2. */
    ptq_paired_interval(u, 3, .95, &i);
    assert_rel(i.mean, 17. / 6, 1e-14);
    assert_rel(i.se, sqrt((121. / 36 + 25. / 9 + 49. / 4) / (2 * 3 * 4)), 1e-14);
    const double y[] = {3, NAN, -1, .5};
    assert_int_equal(ptq_ratio_units(y, tokens, 4, v), 3);
    for (int k = 0; k < 4; k++)
        diff[k] = x[k] - y[k];
    assert_int_equal(ptq_ratio_units(diff, tokens, 4, diff), 3); /* in place */
    for (int k = 0; k < 3; k++)
        assert_rel(diff[k], u[k] - v[k], 1e-13);
    const double z[] = {.1, .2, .7, .3};
    assert_int_equal(ptq_ratio_units(z, alike, 4, u), 4);
    assert_memory_equal(u, z, sizeof z);
    assert_int_equal(ptq_ratio_units(z, NULL, 4, u), 4);
    assert_memory_equal(u, z, sizeof z);
}

/* IQ and hours of television, Wikipedia "Spearman's rank correlation coefficient": rho =
 * -29/165. */
static void spearman(void **state)
{
    (void)state;
    static const double iq[] = {106, 100, 86, 101, 99, 103, 97, 113, 112, 110};
    static const double tv[] = {7, 27, 2, 50, 28, 29, 20, 12, 6, 17};
    assert_rel(ptq_spearman(iq, tv, 10), -29. / 165, 1e-14);
    assert_rel(ptq_spearman(iq, iq, 10), 1, 1e-15);
    /* Ties by hand: ranks 1.5 1.5 3 against 1 2 3: 1.5 / sqrt(1.5 * 2) = sqrt(3) / 2. */
    assert_rel(ptq_spearman((double[]){4, 4, 9}, (double[]){1, 2, 3}, 3), sqrt(3) / 2, 1e-15);
    /* Ranks 1.5 1.5 3 4 against 1 2 3 4: 4.5 / sqrt(4.5 * 5) = sqrt(.9). */
    assert_rel(ptq_spearman((double[]){4, 4, 9, 10}, (double[]){1, 2, 3, 4}, 4), sqrt(.9), 1e-15);
    assert_rel(ptq_spearman((double[]){1, 1e9, INFINITY}, (double[]){3, 2, 1}, 3), -1, 1e-15);
    assert_true(isnan(ptq_spearman(iq, tv, 2)));
    assert_true(isnan(ptq_spearman((double[]){1, 1, 1}, tv, 3)));
    assert_true(isnan(ptq_spearman((double[]){1, NAN, 2}, tv, 3)));
}

static void *one_interval(void *arg)
{
    ptq_paired_interval((double[]){1, 3}, 2, .95, arg);
    return NULL;
}

/* The first use of GSL from several threads at once (a race here is for the thread sanitizer to
 * see). */
static void intervals_on_threads(void **state)
{
    (void)state;
    pthread_t thread[4];
    struct ptq_interval i[4];
    for (int k = 0; k < 4; k++)
        assert_int_equal(pthread_create(&thread[k], NULL, one_interval, &i[k]), 0);
    for (int k = 0; k < 4; k++) {
        pthread_join(thread[k], NULL);
        assert_rel(i[k].p, 1 - 2 * atan(2) / M_PI, 1e-12);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(intervals_on_threads),
        cmocka_unit_test(mean_and_deviation),
        cmocka_unit_test(quantiles),
        cmocka_unit_test(median_and_spread),
        cmocka_unit_test(sorting_puts_nan_last),
        cmocka_unit_test(intervals_in_closed_form),
        cmocka_unit_test(interval_from_the_table),
        cmocka_unit_test(intervals_without_spread),
        cmocka_unit_test(ratio_units),
        cmocka_unit_test(spearman),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
