/* Grids: values worked out by hand from the rules of methods.md section 1, and searches against
 * plain loops with glibc's pow. */
#include "quant_lib.h"

/* ptq.h declares the float names here; the double ones come from the other compilation. */
void ptq_grid_fit_f64(const struct ptq_cell *, const double *x, int64_t n, int64_t stride,
                      struct ptq_grid_fit *);
void ptq_grid_fit_hess_f64(const struct ptq_cell *, const double *x, int64_t n, int64_t stride,
                           const double *h, int64_t ldh, double *scratch, struct ptq_grid_fit *);

static struct ptq_grid_fit fit(const struct ptq_cell *c, const double *x, int64_t n)
{
    struct ptq_grid_fit g;
    ptq_grid_fit_f64(c, x, n, 1, &g);
    return g;
}

static float value(const struct ptq_cell *c, const struct ptq_grid_fit *g, double x)
{
    return ptq_grid_value(
        g, ptq_grid_code(ptq_round(x / (double)g->scale), g->zero, (1 << c->w_bits) - 1));
}

/* [-1, 2] at 2 bits: scale 3 / 3 = 1, zero 1; 0.4 -> 0, 0.6 -> 1, halves to even: 0.5 -> 0, 1.5
 * -> 2. */
static void asymmetric(void **state)
{
    (void)state;
    struct ptq_cell c = cell_of(2, -1);
    const double x[] = {-1, 0.4, 0.6, 2, 0.5, 1.5};
    const float want[] = {-1, 0, 1, 2, 0, 2};
    struct ptq_grid_fit g = fit(&c, x, LENGTH(x));
    assert_true(g.scale == 1 && g.zero == 1 && !g.widened);
    for (int64_t i = 0; i < LENGTH(x); i++)
        assert_true(value(&c, &g, x[i]) == want[i]);
}

/* One-sided ranges are widened to hold 0: {.5,.6,.7,.8} and its negative, scale .8 / 15. */
static void zero_in_range(void **state)
{
    (void)state;
    struct ptq_cell c = cell_of(4, -1);
    const double up[] = {.5, .6, .7, .8}, down[] = {-.5, -.6, -.7, -.8};
    struct ptq_grid_fit g = fit(&c, up, 4);
    assert_true(g.scale == (float)(.8 / 15) && g.zero == 0 && !signbit(g.zero));
    g = fit(&c, down, 4);
    assert_true(g.scale == (float)(.8 / 15) && g.zero == 15);
}

/* methods.md 0.3: {.5,.6,.7,.8} has z = -25 (4 bits: scale .3 / 15 = .02, -(.5) / .02). */
static void zero_free(void **state)
{
    (void)state;
    struct ptq_cell c = cell_of(4, -1);
    c.zero_in_range = false;
    const double x[] = {.5, .6, .7, .8}, constant[] = {.3, .3, .3}, minus[] = {-.3, -.3};
    struct ptq_grid_fit g = fit(&c, x, 4);
    assert_true(g.scale == (float)((.8 - .5) / 15) && g.zero == -25 && !g.widened);
    g = fit(&c, constant, 3);
    assert_true(value(&c, &g, .3) == .3f);
    g = fit(&c, minus, 2);
    assert_true(value(&c, &g, -.3) == -.3f);
}

/* 8 bits, [1, 1 + 2^-10]: the zero would be -255 * 2^10 = -261120, beyond 16 bits. */
static void zero_widened(void **state)
{
    (void)state;
    struct ptq_cell c = cell_of(8, -1);
    c.zero_in_range = false;
    const double x[] = {1, 1 + 0x1p-10}, near[] = {1, 1 + 1.0 / 128};
    struct ptq_grid_fit g = fit(&c, x, 2);
    assert_true(g.widened && g.zero == 0 && g.scale == (float)((1 + 0x1p-10) / 255));
    g = fit(&c, near, 2);
    assert_true(!g.widened && fabsf(g.zero + 32640) <= 2); /* 128 * 255 */
}

static void all_zero(void **state)
{
    (void)state;
    const double x[] = {0, -0.0, 0};
    for (int sym = 0; sym < 2; sym++)
        for (int kind = 0; kind < 3; kind++) {
            struct ptq_cell c = cell_of(4, -1);
            c.sym = sym;
            c.sym_kind = (enum ptq_sym_kind)kind;
            struct ptq_grid_fit g = fit(&c, x, 3);
            assert_true(g.scale == (float)(sym && kind == PTQ_SYM_ABSMAX ? 1.0 / 7 : 2.0 / 15));
            assert_true(value(&c, &g, 0) == 0);
        }
}

/* The three symmetric kinds on {.11,.4,.7,1}: gptq clips to {.13,.40,.47,.47} (methods.md
 * section 1, whose .1 is a tie of fp64 scales); full 2 / 15, absmax 1 / 7. */
static void symmetric_kinds(void **state)
{
    (void)state;
    struct ptq_cell c = cell_of(4, -1);
    c.sym = true;
    const double x[] = {.11, .4, .7, 1}, s = 1.0 / 15;
    const double want[] = {2 * s, 6 * s, 7 * s, 7 * s};
    c.sym_kind = PTQ_SYM_GPTQ;
    struct ptq_grid_fit g = fit(&c, x, 4);
    assert_true(g.scale == (float)s && g.zero == 8);
    for (int i = 0; i < 4; i++)
        assert_rel(value(&c, &g, x[i]), want[i], 1e-6);
    c.sym_kind = PTQ_SYM_FULL;
    g = fit(&c, x, 4);
    assert_true(g.scale == (float)(2.0 / 15) && g.zero == 8);
    assert_rel(value(&c, &g, 1), 7 * 2.0 / 15, 1e-6); /* half a step below the maximum */
    c.sym_kind = PTQ_SYM_ABSMAX;
    g = fit(&c, x, 4);
    assert_true(g.scale == (float)(1.0 / 7) && g.zero == 8);
    assert_rel(value(&c, &g, 1), 1, 1e-6);
    const double both[] = {-.2, 1};
    c.sym_kind = PTQ_SYM_GPTQ;
    g = fit(&c, both, 2);
    assert_true(g.scale == (float)(2.0 / 15));
}

/* scale_fmt: 0.1 is 0x2E66 in half (Python struct 'e'): 0.0999755859375; the zero follows the
 * rounded scale. */
static void scale_formats(void **state)
{
    (void)state;
    const double x[] = {-.7, .8};
    struct ptq_cell c = cell_of(4, -1);
    c.scale_fmt = PTQ_FMT_F16;
    struct ptq_grid_fit g = fit(&c, x, 2);
    assert_true(g.scale == 0.0999755859375f && g.zero == 7);
    c.scale_fmt = PTQ_FMT_BF16; /* 0.1 in bfloat16: 0x3DCD */
    g = fit(&c, x, 2);
    assert_true(g.scale == 0.10009765625f && g.zero == 7);
}

static void strides_and_precisions(void **state)
{
    (void)state;
    float x[3 * 40];
    double dense[40];
    for (int i = 0; i < 40; i++) {
        dense[i] = (double)(x[3 * i] = (float)ptq_normal(5, (uint64_t)i));
        x[3 * i + 1] = x[3 * i + 2] = 1e9f;
    }
    for (int grid = 0; grid < 2; grid++) {
        struct ptq_cell c = cell_of(3, -1);
        c.grid = (enum ptq_grid)grid;
        struct ptq_grid_fit a = fit(&c, dense, 40), b;
        ptq_grid_fit_f32(&c, x, 40, 3, &b);
        assert_true(a.scale == b.scale && a.zero == b.zero);
    }
}

/* ---- searches ---- */

static double reference_mse(const struct ptq_cell *c, const double *x, int64_t n, float *scale,
                            float *zero)
{
    double lo = 0, hi = 0, best = INFINITY;
    int maxq = (1 << c->w_bits) - 1;
    for (int64_t i = 0; i < n; i++) {
        lo = fmin(lo, x[i]);
        hi = fmax(hi, x[i]);
    }
    for (int k = 0; k < 80; k++) {
        double p = 1 - k / 100.0, e = 0;
        float s = (float)((p * hi - p * lo) / maxq), z = (float)rint(-p * lo / (double)s);
        for (int64_t i = 0; i < n; i++) {
            double q = fmin(fmax(rint(x[i] / (double)s) + (double)z, 0), maxq);
            e += pow(fabs((double)(s * ((float)q - z)) - x[i]), 2.4);
        }
        if (e < best) {
            best = e;
            *scale = s;
            *zero = z;
        }
    }
    return best;
}

static void mse_search(void **state)
{
    (void)state;
    double x[333];
    int shrunk = 0;
    for (int trial = 0; trial < 40; trial++) {
        int64_t n = 1 + trial * 8;
        for (int64_t i = 0; i < n; i++) {
            double g = ptq_normal(100 + (uint64_t)trial, (uint64_t)i);
            x[i] = i % 29 == 7 ? 4 * g : g;
        }
        struct ptq_cell c = cell_of(2 + trial % 3, -1), plain = c;
        c.grid = PTQ_GRID_MSE;
        float s = 0, z = 0;
        reference_mse(&c, x, n, &s, &z);
        struct ptq_grid_fit g = fit(&c, x, n), m = fit(&plain, x, n);
        assert_true(g.scale == s && g.zero == z);
        shrunk += g.scale < m.scale;
    }
    assert_true(shrunk > 30);
}

/* p = 1 - k/100, zero by floor, then ceil; score dw H dw^T; strict improvement. */
static void reference_hess(const struct ptq_cell *c, const double *x, int n, const double *h,
                           int ldh, float *scale, float *zero)
{
    double lo = 0, hi = 0, best = INFINITY;
    int maxq = (1 << c->w_bits) - 1;
    for (int i = 0; i < n; i++) {
        lo = fmin(lo, x[i]);
        hi = fmax(hi, x[i]);
    }
    for (int k = 0; k < 200; k++) {
        double p = 1 - k / 2 / 100.0, e = 0, d[64];
        float s = (float)((p * hi - p * lo) / maxq);
        double exact = -p * lo / (double)s;
        float z = (float)fmin(fmax(k % 2 ? ceil(exact) : floor(exact), 0), maxq);
        for (int i = 0; i < n; i++)
            d[i] =
                (double)(s * ((float)fmin(fmax(rint(x[i] / (double)s) + (double)z, 0), maxq) - z)) -
                x[i];
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++)
                e += d[i] * h[i * ldh + j] * d[j];
        if (e < best * (1 - 1e-13)) { /* the sums differ in order */
            best = e;
            *scale = s;
            *zero = z;
        }
    }
}

static void hess_search(void **state)
{
    (void)state;
    enum { N = 40, LD = 50 };
    double x[N], h[N * LD], scratch[PTQ_HESS_LANES * N];
    int other = 0;
    for (int trial = 0; trial < 20; trial++) {
        for (int i = 0; i < N; i++)
            x[i] = ptq_normal(200 + (uint64_t)trial, (uint64_t)i);
        for (int i = 0; i < N; i++)
            for (int j = 0; j < LD; j++)
                h[i * LD + j] = j >= N ? NAN : (i == j ? 1 + i % 9 : 0.3 / (1 + abs(i - j)));
        struct ptq_cell c = cell_of(2 + trial % 2, -1), plain = c;
        c.grid = PTQ_GRID_HESS;
        float s = 0, z = 0;
        reference_hess(&c, x, N, h, LD, &s, &z);
        struct ptq_grid_fit g;
        ptq_grid_fit_hess_f64(&c, x, N, 1, h, LD, scratch, &g);
        struct ptq_grid_fit m = fit(&plain, x, N);
        assert_true(g.scale == s && g.zero == z);
        other += m.scale != g.scale;
    }
    assert_true(other > 10);
}

/* With H = I and symmetric grids both searches minimise over p; the Hessian's score is then the
 * squared error. */
static void hess_search_symmetric(void **state)
{
    (void)state;
    enum { N = 24 };
    double x[N], h[N * N] = {0}, scratch[PTQ_HESS_LANES * N];
    for (int i = 0; i < N; i++) {
        x[i] = ptq_normal(9, (uint64_t)i);
        h[i * N + i] = 1;
    }
    struct ptq_cell c = cell_of(3, -1);
    c.sym = true;
    c.grid = PTQ_GRID_HESS;
    struct ptq_grid_fit g, best = {0};
    ptq_grid_fit_hess_f64(&c, x, N, 1, h, N, scratch, &g);
    double least = INFINITY, a = 0;
    for (int i = 0; i < N; i++)
        a = fmax(a, fabs(x[i]));
    for (int k = 0; k < 100; k++) {
        struct ptq_grid_fit t = {.scale = (float)((1 - k / 100.0) * 2 * a / 7), .zero = 4};
        double e = 0;
        for (int i = 0; i < N; i++)
            e += pow((double)value(&c, &t, x[i]) - x[i], 2);
        if (e < least) {
            least = e;
            best = t;
        }
    }
    assert_rel(g.scale, best.scale, 1e-6);
    assert_true(g.zero == 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asymmetric),
        cmocka_unit_test(zero_in_range),
        cmocka_unit_test(zero_free),
        cmocka_unit_test(zero_widened),
        cmocka_unit_test(all_zero),
        cmocka_unit_test(symmetric_kinds),
        cmocka_unit_test(scale_formats),
        cmocka_unit_test(strides_and_precisions),
        cmocka_unit_test(mse_search),
        cmocka_unit_test(hess_search),
        cmocka_unit_test(hess_search_symmetric),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
