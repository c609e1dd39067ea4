/* Health of Hessians whose eigenvalues are known. */
#include "quant_lib.h"
#include "metrics/health.h"

enum { N = 96 };

/* H = P diag(e) P, P = I - 2 v v^T / v^T v. */
static void known_spectrum(struct fixture *f, const double *e)
{
    double v[N], vv = 0, *h = ptq_arena_alloc(&f->arena, &f->st, N * N, sizeof *h);
    assert_non_null(h);
    for (int i = 0; i < N; i++) {
        v[i] = ptq_normal(5, (uint64_t)i);
        vv += v[i] * v[i];
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            for (int k = 0; k < N; k++)
                h[i * N + j] +=
                    ((i == k) - 2 * v[i] * v[k] / vv) * e[k] * ((k == j) - 2 * v[k] * v[j] / vv);
    f->layer = (struct ptq_layer){.name = "known", .hess = {h, N, N, N}, .hess_key = 7};
}

static void test_known_spectrum(void **state)
{
    struct fixture *f = *state;
    struct ptq_health h;
    double e[N], sum = 0, squares = 0;
    for (int i = 0; i < N; i++) {
        e[i] = i == 0 ? 50 : i == N - 1 ? 1e-4 : 1 + 0.01 * i;
        sum += e[i];
        squares += e[i] * e[i];
    }
    known_spectrum(f, e);
    assert_int_equal(ptq_health_of(&f->layer, NULL, &h, &f->st), PTQ_OK);
    const double lambda = 0.01 * sum / N;
    assert_true(fabs(h.trace / sum - 1) < 1e-12);
    assert_true(fabs(h.damping / lambda - 1) < 1e-12);
    assert_true(fabs(h.effective_rank / (sum * sum / squares) - 1) < 1e-12);
    assert_true(fabs(h.condition / ((50 + lambda) / (1e-4 + lambda)) - 1) < 1e-3);
    assert_int_equal(h.n_dead, 0);
    assert_true(isnan(h.sink_share));
    assert_int_equal(h.key, 7);
}

/* Dead inputs enter neither the mean nor the condition; the sink's share is that of the traces. */
static void test_dead_and_sink(void **state)
{
    struct fixture *f = *state;
    struct ptq_health h;
    double *all = ptq_arena_alloc(&f->arena, &f->st, N * N, sizeof *all),
           *sink = ptq_arena_alloc(&f->arena, &f->st, N * N, sizeof *sink);
    assert_true(all && sink);
    for (int i = 0; i < N; i++)
        all[i * N + i] = i % 3 == 1 ? 0 : i == 0 ? 8 : 2; /* 64 live: trace 8 + 63 * 2 = 134 */
    sink[0] = 6.7;
    f->layer =
        (struct ptq_layer){.name = "dead", .hess = {all, N, N, N}, .hess_sink = {sink, N, N, N}};
    assert_int_equal(ptq_health_of(&f->layer, NULL, &h, &f->st), PTQ_OK);
    const double lambda = 0.01 * 134 / 64;
    assert_int_equal(h.n_dead, 32);
    assert_true(fabs(h.damping / lambda - 1) < 1e-12);
    assert_true(fabs(h.condition / ((8 + lambda) / (2 + lambda)) - 1) < 1e-5);
    assert_true(fabs(h.sink_share / 0.05 - 1) < 1e-12);
}

static void test_none_and_zero(void **state)
{
    struct fixture *f = *state;
    struct ptq_health h;
    f->layer = (struct ptq_layer){.name = "none"};
    assert_int_equal(ptq_health_of(&f->layer, NULL, &h, &f->st), PTQ_SKIP);
    double *zero = ptq_arena_alloc(&f->arena, &f->st, N * N, sizeof *zero);
    f->layer.hess = (struct ptq_cdmat){zero, N, N, N};
    assert_int_equal(ptq_health_of(&f->layer, NULL, &h, &f->st), PTQ_OK);
    assert_int_equal(h.n_dead, N);
    assert_true(h.trace == 0 && isnan(h.condition));
    zero[1] = zero[N] = 5; /* [0 5; 5 0] is no sum of x x^T; with 1 on the diagonal not either */
    zero[0] = zero[N + 1] = 1;
    assert_int_equal(ptq_health_of(&f->layer, NULL, &h, &f->st), PTQ_OK);
    assert_true(isnan(h.condition));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_known_spectrum, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dead_and_sink, setup, teardown),
        cmocka_unit_test_setup_teardown(test_none_and_zero, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
