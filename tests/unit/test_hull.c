/* Lower hulls of (bits, log loss) in closed form and by brute force over pairs of points. */
#include "testlib.h"
#include "analysis/hull.h"
#include "core/rng.h"
#include <math.h>

static struct ptq_arena arena;

static struct ptq_hull make(const double *bits, const double *loss, int64_t n)
{
    struct ptq_status st = {0};
    struct ptq_hull h;
    assert_ok(ptq_hull_make(bits, loss, n, &arena, &h, &st), &st);
    return h;
}

static double at(const struct ptq_hull *h, double bits)
{
    struct ptq_hull_place p;
    return ptq_hull_find(h, bits, &p) ? p.log_loss : NAN;
}

/* 1, 1/4, 1/8 at 2, 4, 5 bits: log2 falls by 1 a bit. The point at 3 lies above that line, the one
 * at 4.5 on none of it. */
static void lines_between_corners(void **state)
{
    (void)state;
    const double bits[] = {5, 2, 4.5, 4, 3}, loss[] = {1. / 16, 1, .2, 1. / 8, .9};
    struct ptq_hull h = make(bits, loss, 5);
    assert_int_equal(h.n, 3);
    const int64_t want[] = {1, 3, 0};
    for (int i = 0; i < 3; i++)
        assert_int_equal(h.at[i], want[i]);
    assert_rel(at(&h, 3), log(sqrt(1. / 8)), 1e-14);
    assert_rel(at(&h, 3.5), .75 * log(1. / 8), 1e-14);
    assert_rel(at(&h, 4.5), log(sqrt(1. / 128)), 1e-14);
    struct ptq_hull_place p;
    assert_true(ptq_hull_find(&h, 2.5, &p));
    assert_int_equal(p.a, 1);
    assert_int_equal(p.b, 3);
    assert_rel(p.w, .25, 1e-15);
    assert_true(ptq_hull_find(&h, 4, &p) && p.w == 0 && p.a == 3);
}

static void nothing_is_extrapolated(void **state)
{
    (void)state;
    const double bits[] = {2, 4}, loss[] = {1, .5};
    struct ptq_hull h = make(bits, loss, 2);
    assert_true(isnan(at(&h, 1.999)) && isnan(at(&h, 4.001)) && isnan(at(&h, NAN)));
    assert_rel(at(&h, 4 * (1 + 1e-15)), log(.5), 1e-14);
    assert_true(at(&h, 2 - 1e-12) == 0);
    h = make(bits, loss, 1);
    assert_true(at(&h, 2) == 0 && isnan(at(&h, 2.01)));
    h = make(bits, loss, 0);
    assert_true(isnan(at(&h, 2)));
}

/* More bits and more loss: the better setting with fewer bits stands, up to the last bits. */
static void a_rising_end_is_flat(void **state)
{
    (void)state;
    const double bits[] = {2, 3, 4, 4.5}, loss[] = {1, .25, .5, .25};
    struct ptq_hull h = make(bits, loss, 4);
    assert_int_equal(h.n, 2);
    assert_rel(at(&h, 3.7), log(.25), 1e-15);
    assert_rel(at(&h, 4.5), log(.25), 1e-15);
    assert_true(isnan(at(&h, 4.6)));
}

static void what_has_no_logarithm_is_left_out(void **state)
{
    (void)state;
    const double bits[] = {2, 3, 4, NAN, 8, 1}, loss[] = {1, NAN, .5, .1, -1e-5, 0};
    struct ptq_hull h = make(bits, loss, 6);
    assert_int_equal(h.n, 2);
    assert_true(isnan(at(&h, 8)) && isnan(at(&h, 1)));
    assert_rel(at(&h, 3), .5 * log(.5), 1e-14);
}

/* The hull at b is the least of all lines between two points on both sides of b, where the least
 * loss counts at the last bits too. */
static void hulls_agree_with_brute_force(void **state)
{
    (void)state;
    enum { N = 9 };
    for (uint64_t round = 0; round < 400; round++) {
        double x[N + 1], y[N + 1], loss[N], last = 0, least = INFINITY;
        int64_t n = 1 + (int64_t)(ptq_hash_u64(round, 1) % N);
        for (int64_t i = 0; i < n; i++) {
            x[i] = (double)(ptq_hash_u64(round, (uint64_t)i + 10) % 12) / 2;
            y[i] = -(double)(ptq_hash_u64(round, (uint64_t)i + 50) % 16) / 4;
            loss[i] = exp(y[i]);
            last = fmax(last, x[i]);
            least = fmin(least, y[i]);
        }
        x[n] = last;
        y[n] = least;
        struct ptq_hull h = make(x, loss, n);
        for (double b = 0; b <= 6; b += .125) {
            double want = INFINITY;
            for (int64_t i = 0; i <= n; i++)
                for (int64_t k = 0; k <= n; k++)
                    if (x[i] <= b && b <= x[k])
                        want = fmin(want, x[i] < x[k]
                                              ? y[i] + (y[k] - y[i]) * (b - x[i]) / (x[k] - x[i])
                                              : fmin(y[i], y[k]));
            double got = at(&h, b);
            assert_int_equal(isnan(got), isinf(want));
            if (!isnan(got) && fabs(got - want) > 1e-12)
                fail_msg("round %d at %g: %.17g, not %.17g", (int)round, b, got, want);
        }
    }
}

/* Hulls over [2, 4.1], [2.1, 4.1], [2.2, 3] and one point at 3: 2 is reached by one, 2.25 to 2.75
 * by three, 3 by all, 3.25 to 4 by two, which is half. Where only six fit, every second one is
 * taken: from 2.5, since 3 + 4 + 2 + 2 hulls are more than the 3 + 3 + 2 + 2 from 2.25. */
static void rates_are_those_that_most_reach(void **state)
{
    (void)state;
    const double bits[] = {2, 4.1, 2.1, 4.1, 2.2, 3}, loss[] = {1, .1, 1, .1, 1, .1};
    const struct ptq_hull h[] = {make(bits, loss, 2), make(bits + 2, loss, 2),
                                 make(bits + 4, loss, 2), make(bits + 5, loss, 1)};
    double rates[8];
    assert_int_equal(ptq_hull_rates(h, 4, 8, rates), 8);
    assert_true(rates[0] == 2.25 && rates[7] == 4);
    assert_int_equal(ptq_hull_rates(h, 4, 6, rates), 4);
    assert_true(rates[0] == 2.5 && rates[1] == 3 && rates[3] == 4);
    assert_int_equal(ptq_hull_rates(h, 1, 6, rates), 0);
    assert_int_equal(ptq_hull_rates(h + 2, 2, 6, rates), 1);
    assert_true(rates[0] == 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_between_corners),
        cmocka_unit_test(nothing_is_extrapolated),
        cmocka_unit_test(a_rising_end_is_flat),
        cmocka_unit_test(what_has_no_logarithm_is_left_out),
        cmocka_unit_test(hulls_agree_with_brute_force),
        cmocka_unit_test(rates_are_those_that_most_reach),
    };
    ptq_arena_init(&arena, 0);
    int failed = cmocka_run_group_tests_name("hull", tests, NULL, NULL);
    ptq_arena_clear(&arena);
    return failed;
}
