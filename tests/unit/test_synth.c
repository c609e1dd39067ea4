/* Generators: the layers have the properties asked for (checked from the numbers, not from the
 * generator), and are the same bits for the same options. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/hash.h"
#include "datasets/h5.h"
#include "datasets/synth.h"
#include "datasets/synth_layer.h"

static const struct ptq_synth_layer_args base = {
    .rows = 24, .cols = 48, .tokens = 512, .spectrum = PTQ_SPECTRUM_FLAT, .gain = 16, .seed = 3};

static struct ptq_synth_layer make(struct ptq_arena *arena, const struct ptq_synth_layer_args *a)
{
    struct ptq_synth_layer l;
    struct ptq_status st = {0};
    ptq_arena_init(arena, 0);
    assert_int_equal(ptq_synth_layer_make(a, true, arena, &l, &st), PTQ_OK);
    return l;
}

static double row2(const float *x, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++)
        s += (double)x[i] * x[i];
    return s;
}

static double trace(const double *h, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++)
        s += h[i * n + i];
    return s;
}

static void hessian_is_that_of_the_activations(void **state)
{
    (void)state;
    struct ptq_arena a;
    struct ptq_synth_layer l = make(&a, &base);
    for (int i = 0; i < 48; i++)
        for (int j = 0; j < 48; j++) {
            double want = 0;
            for (int t = 0; t < 512; t++)
                want += (double)l.acts[t * 48 + i] * l.acts[t * 48 + j];
            want *= 2.0 / 512;
            assert_true(fabs(l.hess[i * 48 + j] - want) <= 1e-12 * (1 + fabs(want)));
            assert_true(l.hess[i * 48 + j] == l.hess[j * 48 + i]);
        }
    /* Flat spectrum, mean square 1: tr H = 2 * cols; chi-square with 512 * 48 degrees of freedom, 5
     * sigma. */
    assert_true(fabs(trace(l.hess, 48) / 96 - 1) < 5 * sqrt(2.0 / (512 * 48)));
    ptq_arena_clear(&a);
}

static void same_options_same_bits(void **state)
{
    (void)state;
    struct ptq_arena a, b;
    struct ptq_synth_layer_args args = base;
    args.spectrum = PTQ_SPECTRUM_POWER;
    args.alpha = 1;
    args.n_outliers = 2;
    args.sink = .5;
    args.tails = 3;
    struct ptq_synth_layer x = make(&a, &args);
    args.tokens = 512;
    struct ptq_synth_layer y = make(&b, &args);
    assert_memory_equal(x.weight, y.weight, 24 * 48 * sizeof(float));
    assert_memory_equal(x.acts, y.acts, 512 * 48 * sizeof(float));
    assert_memory_equal(x.hess, y.hess, 48 * 48 * sizeof(double));
    ptq_arena_clear(&b);
    args.seed = 4;
    y = make(&b, &args);
    assert_memory_not_equal(x.weight, y.weight, 24 * 48 * sizeof(float));
    assert_memory_not_equal(x.acts, y.acts, 512 * 48 * sizeof(float));
    /* Recorded: another CPU, compiler or thread count must give these bits too. */
    assert_true(ptq_hash64(y.weight, 24 * 48 * sizeof(float)) == UINT64_C(0xd9ee6e6a06bc6967));
    assert_true(ptq_hash64(y.acts, 512 * 48 * sizeof(float)) == UINT64_C(0x4ce4c0dbee38e1c8));
    ptq_arena_clear(&a);
    ptq_arena_clear(&b);
}

static void sinks_own_their_share(void **state)
{
    (void)state;
    static const struct {
        int64_t seqlen;
        double share;
    } cases[] = {{0, .99}, {128, .9}, {256, .01}};
    for (size_t c = 0; c < 3; c++) {
        struct ptq_arena a;
        struct ptq_synth_layer_args args = base;
        args.seqlen = cases[c].seqlen;
        args.sink = cases[c].share;
        struct ptq_synth_layer l = make(&a, &args);
        double own = 0, all = 0;
        int64_t seqlen = args.seqlen ? args.seqlen : args.tokens;
        for (int64_t t = 0; t < args.tokens; t++) {
            all += row2(l.acts + t * 48, 48);
            own += t % seqlen ? 0 : row2(l.acts + t * 48, 48);
        }
        assert_true(fabs(own / all - args.sink) < 1e-6); /* rounding of the rows to fp32 */
        assert_true(fabs(trace(l.hess, 48) - 2 * all / 512) < 1e-9 * all);
        ptq_arena_clear(&a);
    }
}

/* Rank of the activations by Gram-Schmidt: rows beyond the rank lie in the span of the first ones,
 * up to fp32 rounding. */
static int numerical_rank(const float *x, int64_t rows, int64_t cols)
{
    double q[64][64];
    int r = 0;
    for (int64_t t = 0; t < rows && r < 64; t++) {
        double v[64], before = 0, left = 0;
        for (int64_t i = 0; i < cols; i++) {
            v[i] = x[t * cols + i];
            before += v[i] * v[i];
        }
        for (int pass = 0; pass < 2; pass++)
            for (int k = 0; k < r; k++) {
                double dot = 0;
                for (int64_t i = 0; i < cols; i++)
                    dot += v[i] * q[k][i];
                for (int64_t i = 0; i < cols; i++)
                    v[i] -= dot * q[k][i];
            }
        for (int64_t i = 0; i < cols; i++)
            left += v[i] * v[i];
        if (left < 1e-10 * before)
            continue;
        for (int64_t i = 0; i < cols; i++)
            q[r][i] = v[i] / sqrt(left);
        r++;
    }
    return r;
}

static void low_rank_is_low_and_mixed(void **state)
{
    (void)state;
    struct ptq_arena a;
    struct ptq_synth_layer_args args = base;
    args.spectrum = PTQ_SPECTRUM_LOWRANK;
    args.rank = 5;
    struct ptq_synth_layer l = make(&a, &args);
    assert_int_equal(numerical_rank(l.acts, 64, 48), 5);
    for (int i = 0; i < 48; i++)
        assert_true(l.hess[i * 49] > 0); /* every channel carries a part of the five */
    ptq_arena_clear(&a);
    l = make(&a, &base);
    assert_int_equal(numerical_rank(l.acts, 64, 48), 48);
    ptq_arena_clear(&a);
}

/* tr H^2 needs no eigenvalues: for the power law it is 4 sum lambda_i^2 (1 + small) with lambda
 * scaled to mean 1. */
static void power_law_has_its_second_moment(void **state)
{
    (void)state;
    struct ptq_arena a;
    struct ptq_synth_layer_args args = base;
    args.tokens = 16384;
    args.spectrum = PTQ_SPECTRUM_POWER;
    args.alpha = 1.5;
    struct ptq_synth_layer l = make(&a, &args);
    double sum = 0, sum2 = 0, frobenius = 0;
    for (int i = 1; i <= 48; i++) {
        sum += pow(i, -1.5);
        sum2 += pow(i, -3);
    }
    for (int i = 0; i < 48 * 48; i++)
        frobenius += l.hess[i] * l.hess[i];
    double want = 4 * sum2 * (48 / sum) * (48 / sum);
    /* The leading eigenvalue dominates: relative deviation about 2 sqrt(2 / tokens) = .022; 5 of
     * them. */
    assert_true(fabs(frobenius / want - 1) < .11);
    ptq_arena_clear(&a);
}

static void outlier_channels_are_counted_and_scaled(void **state)
{
    (void)state;
    struct ptq_arena a, b;
    struct ptq_synth_layer_args args = base;
    struct ptq_synth_layer plain = make(&a, &args);
    args.n_outliers = 3;
    args.gain = 8;
    struct ptq_synth_layer l = make(&b, &args);
    int n = 0;
    for (int i = 0; i < 48; i++) {
        double ratio = l.hess[i * 49] / plain.hess[i * 49];
        assert_true(ratio == 64 || ratio == 1); /* a power of two: exact */
        n += ratio == 64;
    }
    assert_int_equal(n, 3);
    ptq_arena_clear(&a);
    ptq_arena_clear(&b);
}

static double kurtosis(const float *x, int64_t n)
{
    double m2 = 0, m4 = 0;
    for (int64_t i = 0; i < n; i++) {
        double s = (double)x[i] * x[i];
        m2 += s;
        m4 += s * s;
    }
    return m4 * (double)n / (m2 * m2);
}

static void tails_are_heavy(void **state)
{
    (void)state;
    struct ptq_arena a;
    struct ptq_synth_layer_args args = base;
    args.rows = 1000;
    struct ptq_synth_layer l = make(&a, &args);
    int64_t n = args.rows * args.cols;
    assert_true(fabs(kurtosis(l.weight, n) - 3) <
                5 * sqrt(24.0 / 48000)); /* normal: 3, variance 24/n */
    assert_true(fabs(row2(l.weight, n) / 1000 - 1) < 5 * sqrt(2.0 / 48000)); /* variance 1 / cols */
    ptq_arena_clear(&a);
    args.tails = 10;
    l = make(&a, &args);
    /* Student t with nu degrees: kurtosis 3 + 6 / (nu - 4) = 4, variance nu / (nu - 2) = 1.25 */
    assert_true(fabs(kurtosis(l.weight, n) - 4) < .3);
    assert_true(fabs(row2(l.weight, n) / 1000 - 1.25) < .05);
    ptq_arena_clear(&a);
}

static void bad_options_are_refused(void **state)
{
    (void)state;
    struct ptq_synth_layer_args bad[8];
    for (int i = 0; i < 8; i++)
        bad[i] = base;
    bad[0].rows = 0;
    bad[1].cols = bad[1].rows = 65536, bad[1].tokens = 65536;
    bad[2].seqlen = 100;
    bad[3].sink = 1;
    bad[4].n_outliers = 49;
    bad[5].spectrum = PTQ_SPECTRUM_LOWRANK;
    bad[6].sink = .5, bad[6].seqlen = 1;
    bad[7].gain = NAN;
    for (int i = 0; i < 8; i++) {
        struct ptq_arena a;
        struct ptq_synth_layer l;
        struct ptq_status st = {0};
        ptq_arena_init(&a, 0);
        assert_int_equal(ptq_synth_layer_make(&bad[i], true, &a, &l, &st), PTQ_ERR_USAGE);
        assert_int_equal(a.used_bytes, 0);
    }
}

/* The generator as `ptq synth` calls it: options as texts by name, defaults for the rest. */
static int synth(const char *name, const char *const (*set)[2], int n_set, FILE *out,
                 struct ptq_status *st)
{
    const struct ptq_synth *s = ptq_synth_find(name);
    const char *values[32];
    assert_non_null(s);
    for (int i = 0; s->opts[i].name; i++) {
        values[i] = s->opts[i].def;
        for (int k = 0; k < n_set; k++)
            if (!strcmp(set[k][0], s->opts[i].name))
                values[i] = set[k][1];
    }
    return s->run(values, out, st);
}

static void command_writes_a_bare_layer(void **state)
{
    (void)state;
    char path[300];
    const char *tmp = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/ptq_synth_XXXXXX", tmp ? tmp : P_tmpdir);
    close(mkstemp(path));
    const char *const set[][2] = {{"rows", "24"},       {"cols", "48"}, {"tokens", "512"},
                                  {"spectrum", "flat"}, {"seed", "3"},  {"name", "a.b"},
                                  {"out", path}};
    struct ptq_status st = {0};
    struct ptq_arena a, b;
    struct ptq_h5 *h;
    struct ptq_h5_info info;
    float *x;
    double *d;
    char *text;
    FILE *out = tmpfile();
    assert_int_equal(synth("layer", set, 7, out, &st), PTQ_OK);
    struct ptq_synth_layer l = make(&a, &base);
    ptq_arena_init(&b, 0);
    assert_int_equal(ptq_h5_open(&h, path, PTQ_H5_READ, &st), PTQ_OK);
    assert_int_equal(ptq_h5_read_f32(h, "/layers/a.b/weight", &b, &x, &info, &st), PTQ_OK);
    assert_true(info.dim[0] == 24 && info.dim[1] == 48);
    assert_memory_equal(x, l.weight, 24 * 48 * sizeof(float));
    assert_int_equal(ptq_h5_read_f32(h, "/layers/a.b/activations", &b, &x, &info, &st), PTQ_OK);
    assert_true(info.dim[0] == 512 && info.dim[1] == 48);
    assert_int_equal(ptq_h5_read_f64(h, "/layers/a.b/hess", &b, &d, &info, &st), PTQ_OK);
    assert_memory_equal(d, l.hess, 48 * 48 * sizeof(double));
    assert_int_equal(ptq_h5_get_text(h, "/layers/a.b/hess", "normalisation", &b, &text, &st),
                     PTQ_OK);
    assert_string_equal(text, "token");
    assert_int_equal(ptq_h5_close(h, &st), PTQ_OK);
    ptq_arena_clear(&a);
    ptq_arena_clear(&b);
    fclose(out);
    unlink(path);
}

static void command_refuses_bad_words(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"spectrum", "powr:1"}, {"spectrum", "power:x"},      {"rows", "0"}, {"rows", "1x"},
        {"outliers", "3:"},     {"outliers", "300"},          {"sink", "1"}, {"name", "a/b"},
        {"hess", "maybe"},      {"out", "/nowhere/at/all.h5"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ptq_status st = {0};
        const char *const set[][2] = {{bad[i][0], bad[i][1]}, {"out", "/nowhere/at/all.h5"}};
        int rc = synth("layer", set, 2, stdout, &st);
        assert_int_equal(rc, i + 1 < sizeof bad / sizeof *bad ? PTQ_ERR_USAGE : PTQ_ERR_IO);
        assert_true(st.code == rc && *st.text);
    }
}

static void facts_command_prints_text_or_entropy(void **state)
{
    (void)state;
    char line[600];
    struct ptq_status st = {0};
    FILE *out = tmpfile();
    const char *const set[][2] = {{"windows", "2"}, {"entropy", "1"}};
    assert_int_equal(synth("facts", set, 1, out, &st), PTQ_OK);
    assert_int_equal(ftell(out), 512);
    rewind(out);
    assert_int_equal(synth("facts", set, 2, out, &st), PTQ_OK);
    rewind(out);
    assert_non_null(fgets(line, sizeof line, out));
    /* (78.86639333996158 + 80.45135584068274) / 510, from the executable specification */
    assert_non_null(strstr(line, "0.312387743491 bits/byte"));
    fclose(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hessian_is_that_of_the_activations),
        cmocka_unit_test(same_options_same_bits),
        cmocka_unit_test(sinks_own_their_share),
        cmocka_unit_test(low_rank_is_low_and_mixed),
        cmocka_unit_test(power_law_has_its_second_moment),
        cmocka_unit_test(outlier_channels_are_counted_and_scaled),
        cmocka_unit_test(tails_are_heavy),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(command_writes_a_bare_layer),
        cmocka_unit_test(command_refuses_bad_words),
        cmocka_unit_test(facts_command_prints_text_or_entropy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
