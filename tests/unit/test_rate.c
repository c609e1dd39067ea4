/* The rate-distortion bound and the best codes on a grid, against closed forms, a bisection and
 * exhaustive search. */
#include "core/eig.h"
#include "core/rng.h"
#include "metrics/nearest.h"
#include "metrics/rate.h"
#include "testlib.h"

/* n equal components: n/2 log2(n s / D) (Cover and Thomas, 10.3.2) */
static void test_white(void **state)
{
    (void)state;
    const double s[4] = {3, 3, 3, 3};
    assert_rel(ptq_gaussian_rate(s, 4, 12.0 / 16), 4 * 2, 1e-14); /* a sixteenth: 2 bits each */
    assert_true(ptq_gaussian_rate(s, 4, 12) == 0);
    assert_true(ptq_gaussian_rate(s, 4, 100) == 0);
}

/* By hand: variances 1, 4, 16 and D = 5: level 2 drowns the first (1 + 2 + 2 = 5): rate
 * 1/2 log2(4/2) + 1/2 log2(16/2) = 2. Components below 0 are none. */
static void test_by_hand(void **state)
{
    (void)state;
    const double s[5] = {-1e-9, 0, 1, 4, 16};
    assert_rel(ptq_gaussian_rate(s + 2, 3, 5), 2, 1e-14);
    assert_rel(ptq_gaussian_rate(s, 5, 5), 2, 1e-14);
}

/* Against the definition: the level by bisection. */
static void test_bisection(void **state)
{
    (void)state;
    enum { N = 40 };
    double s[N], total = 0;
    s[0] = 1e-3;
    for (int i = 1; i < N; i++)
        s[i] = s[i - 1] * (1 + ptq_uniform(5, (uint64_t)i));
    for (int i = 0; i < N; i++)
        total += s[i];
    for (double share = .9; share > 1e-6; share /= 3) {
        double low = 0, high = s[N - 1], bits = 0;
        for (int k = 0; k < 200; k++) {
            double level = (low + high) / 2, sum = 0;
            for (int i = 0; i < N; i++)
                sum += fmin(level, s[i]);
            *(sum > share * total ? &high : &low) = level;
        }
        for (int i = 0; i < N; i++)
            bits += fmax(0, .5 * log2(s[i] / low));
        assert_rel(ptq_gaussian_rate(s, N, share * total), bits, 1e-10);
    }
}

/* The second difference matrix: 2 - 2 cos(k pi / (n + 1)). */
static void test_eigenvalues(void **state)
{
    (void)state;
    enum { N = 30 };
    double a[N * N], v[N];
    struct ptq_status st = {0};
    for (int i = 0; i < N * N; i++)
        a[i] = i / N == i % N ? 2 : abs(i / N - i % N) == 1 ? -1 : 0;
    assert_ok(ptq_eigenvalues(a, N, v, &st), &st);
    for (int k = 0; k < N; k++)
        assert_rel(v[k], 2 - 2 * cos((k + 1) * 3.14159265358979323846 / (N + 1)), 1e-12);
    a[3] = NAN;
    assert_int_equal(ptq_eigenvalues(a, N, v, &st), PTQ_ERR_NUMERIC);
}

/* ---- the best codes */

enum { N = 5, CODES = 4 };

struct problem {
    double chol[N * N], w[N], scale[N], zero[N];
};

static void make_problem(struct problem *p, uint64_t seed)
{
    memset(p, 0, sizeof *p);
    for (int i = 0; i < N; i++) {
        for (int j = i; j < N; j++)
            p->chol[i * N + j] = ptq_normal(seed, (uint64_t)(i * N + j)) + (i == j ? 4 : 0);
        p->chol[i * N + i] = fabs(p->chol[i * N + i]) + .1;
        p->w[i] = ptq_normal(seed + 1, (uint64_t)i) * 2;
        p->scale[i] = .3 + ptq_uniform(seed + 2, (uint64_t)i);
        p->zero[i] = floor(CODES * ptq_uniform(seed + 3, (uint64_t)i));
    }
}

static double loss_of(const struct problem *p, int codes)
{
    double e[N], sum = 0;
    for (int i = 0; i < N; i++, codes /= CODES)
        e[i] = p->scale[i] * (codes % CODES - p->zero[i]) - p->w[i];
    for (int i = 0; i < N; i++) {
        double y = 0;
        for (int j = i; j < N; j++)
            y += p->chol[i * N + j] * e[j];
        sum += y * y;
    }
    return sum;
}

static void test_exhaustive(void **state)
{
    (void)state;
    int not_rounding = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct problem p;
        make_problem(&p, 10 * seed);
        double least = INFINITY, found;
        int all = 1, rounded = 0;
        for (int i = 0; i < N; i++)
            all *= CODES;
        for (int c = 0; c < all; c++)
            least = fmin(least, loss_of(&p, c));
        for (int i = N - 1; i >= 0; i--)
            rounded = rounded * CODES +
                      (int)fmax(0, fmin(CODES - 1, rint(p.w[i] / p.scale[i] + p.zero[i])));
        struct ptq_nearest a = {N, p.chol, p.w, p.scale, p.zero, CODES, INFINITY, 100000};
        assert_true(ptq_nearest_loss(&a, &found));
        assert_rel(found, least, 1e-12);
        not_rounding += loss_of(&p, rounded) > least * (1 + 1e-9);
        a.bound = least / 2; /* nothing lies below: the bound comes back */
        assert_true(ptq_nearest_loss(&a, &found) && found == a.bound);
        a.bound = INFINITY;
        a.most_nodes = 2;
        assert_false(ptq_nearest_loss(&a, &found));
    }
    assert_true(not_rounding > 50); /* the search has something to find */
}

/* A point of the grid is met by the first descent, and nothing else is looked into: one node a
 * coordinate. */
static void test_nodes(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct problem p;
        double found;
        make_problem(&p, 10 * seed);
        for (int i = 0; i < N; i++)
            p.w[i] = p.scale[i] * (floor(CODES * ptq_uniform(seed, (uint64_t)i)) - p.zero[i]);
        struct ptq_nearest a = {N, p.chol, p.w, p.scale, p.zero, CODES, INFINITY, N};
        assert_true(ptq_nearest_loss(&a, &found) && found == 0);
        a.most_nodes = N - 1;
        assert_false(ptq_nearest_loss(&a, &found));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_white),      cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_bisection),  cmocka_unit_test(test_eigenvalues),
        cmocka_unit_test(test_exhaustive), cmocka_unit_test(test_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
