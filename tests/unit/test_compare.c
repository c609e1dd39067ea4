/* test_compare.c: the test behind `ptq compare`, on the windows of the committed baseline: its rate
 * of false alarms, its power, its verdicts; joins and verdicts over rows made by hand. */
#include "testlib.h"
#include "analysis/compare.h"
#include "core/rng.h"
#include <math.h>

enum { N_WINDOWS = 256, FLIPS = 2000, DRAWS = 1000, MOST = 8 };
static const char *const baseline = "results/baselines/demo.jsonl";

/* ---- the baseline's windows ---- */

static void windows_of(const struct ptq_rows *rows, const char *label, double seed, double sign,
                       double out[N_WINDOWS])
{
    for (int64_t i = 0; i < rows->n; i++) {
        const json_t *r = rows->at[i], *list = json_object_get(r, "nll_windows");
        if (strcmp(ptq_row_text(r, "kind"), "model") != 0 ||
            strcmp(ptq_row_text(r, "label"), label) != 0 || ptq_row_num(r, "calib_seed") != seed)
            continue;
        assert_int_equal(json_array_size(list), N_WINDOWS);
        for (int w = 0; w < N_WINDOWS; w++)
            out[w] += sign * json_number_value(json_array_get(list, (size_t)w));
        return;
    }
    fail_msg("%s: no row of %s with seed %g", baseline, label, seed);
}

/* Paired differences of quantized models: one draw of the calibration text against another, and
 * one method against another. */
static const struct {
    const char *a, *b;
    double seed_a, seed_b;
} real_pairs[] = {{"gptq", "gptq", 4444, 4445},
                  {"gptq-paper", "gptq-paper", 4444, 4445},
                  {"rtn", "gptq", 4444, 4446}};
enum { N_PAIRS = 3 };

static void real_differences(double diff[N_PAIRS * N_WINDOWS])
{
    struct ptq_rows rows = {0};
    struct ptq_status st = {0};
    assert_ok(ptq_rows_read_file(baseline, &rows, &st), &st);
    memset(diff, 0, N_PAIRS * N_WINDOWS * sizeof *diff);
    for (int k = 0; k < N_PAIRS; k++) {
        windows_of(&rows, real_pairs[k].a, real_pairs[k].seed_a, 1, diff + k * N_WINDOWS);
        windows_of(&rows, real_pairs[k].b, real_pairs[k].seed_b, -1, diff + k * N_WINDOWS);
    }
    ptq_rows_release(&rows);
}

/* Nothing changed: each window's differences, of all settings together, get a random sign. */
static double alarm_rate(const struct ptq_compare_options *o)
{
    static double diff[N_PAIRS * N_WINDOWS], flipped[N_PAIRS * N_WINDOWS];
    struct ptq_judged judged[N_PAIRS];
    int alarms = 0;
    real_differences(diff);
    for (int f = 0; f < FLIPS; f++) {
        for (int w = 0; w < N_WINDOWS; w++) {
            double sign = ptq_hash_u64(20261123, (uint64_t)(f * N_WINDOWS + w)) & 1 ? 1 : -1;
            for (int k = 0; k < N_PAIRS; k++)
                flipped[k * N_WINDOWS + w] = sign * diff[k * N_WINDOWS + w];
        }
        assert_true(ptq_judge(flipped, N_PAIRS, N_WINDOWS, o, judged));
        bool alarm = false;
        for (int k = 0; k < N_PAIRS; k++)
            alarm |= judged[k].quality == PTQ_REGRESSED || judged[k].quality == PTQ_IMPROVED;
        alarms += alarm;
    }
    return (double)alarms / FLIPS;
}

static void false_alarms(void **state)
{
    (void)state;
    struct ptq_compare_options o = ptq_compare_defaults();
    o.margin = 0;
    double rate = alarm_rate(&o);
    printf("alarms of %d sign flips at 5 %%: %.2f %% without a margin", FLIPS, 100 * rate);
    assert_true(rate >= .035 && rate <= .065);
    o.margin = ptq_compare_defaults().margin;
    double with = alarm_rate(&o);
    printf(", %.2f %% with the default one\n", 100 * with);
    assert_true(with <= rate);
}

/* Windows are drawn again from the real differences, whose mean is moved to 0.5 % of perplexity. */
static void power(void **state)
{
    (void)state;
    static double diff[N_PAIRS * N_WINDOWS], drawn[N_PAIRS * N_WINDOWS];
    const struct ptq_compare_options o = ptq_compare_defaults();
    struct ptq_judged judged[N_PAIRS];
    int seen[N_PAIRS] = {0};
    real_differences(diff);
    assert_true(ptq_judge(diff, N_PAIRS, N_WINDOWS, &o, judged));
    double mean[N_PAIRS];
    for (int k = 0; k < N_PAIRS; k++) {
        mean[k] = judged[k].change.mean;
        printf("%s-%s: standard error %.6f, least seen %.6f nats/token\n", real_pairs[k].a,
               real_pairs[k].b, judged[k].change.se, judged[k].least_seen);
        assert_true(judged[k].least_seen < log(1.005));
    }
    for (int d = 0; d < DRAWS; d++) {
        for (int w = 0; w < N_WINDOWS; w++) {
            uint64_t from = ptq_hash_u64(7, (uint64_t)(d * N_WINDOWS + w)) % N_WINDOWS;
            for (int k = 0; k < N_PAIRS; k++)
                drawn[k * N_WINDOWS + w] =
                    diff[k * N_WINDOWS + (int64_t)from] - mean[k] + log(1.005);
        }
        assert_true(ptq_judge(drawn, N_PAIRS, N_WINDOWS, &o, judged));
        for (int k = 0; k < N_PAIRS; k++)
            seen[k] += judged[k].quality == PTQ_REGRESSED;
    }
    for (int k = 0; k < N_PAIRS; k++) {
        printf("%s-%s: 0.5 %% of perplexity seen in %d of %d\n", real_pairs[k].a, real_pairs[k].b,
               seen[k], DRAWS);
        assert_true(seen[k] >= .9 * DRAWS);
    }
}

/* ---- the verdict of one setting ---- */

static enum ptq_quality verdict(double mean, double spread, double margin)
{
    double diff[16];
    struct ptq_judged j;
    struct ptq_compare_options o = ptq_compare_defaults();
    o.margin = margin;
    for (int i = 0; i < 16; i++)
        diff[i] = mean + (i % 2 ? spread : -spread);
    assert_true(ptq_judge(diff, 1, 16, &o, &j));
    return j.quality;
}

/* 16 windows at mean +- s: se = s sqrt(16/15) / 4, t(.975, 15) = 2.1314 (tables): half = .5503 s.
 */
static void verdicts(void **state)
{
    (void)state;
    assert_int_equal(verdict(0, 0, .001), PTQ_SAME);
    assert_int_equal(verdict(.0005, 0, .001), PTQ_SAME);
    assert_int_equal(verdict(.002, 0, .001), PTQ_REGRESSED);
    assert_int_equal(verdict(-.002, 0, .001), PTQ_IMPROVED);
    assert_int_equal(verdict(.0004, .001, .001), PTQ_SAME);      /* -.00015 .. .00095 */
    assert_int_equal(verdict(.0005, .001, .001), PTQ_AMBIGUOUS); /* -.00005 .. .00105 */
    assert_int_equal(verdict(.0006, .001, .001), PTQ_REGRESSED); /* .00005 .. .00115 */
    assert_int_equal(verdict(-.0006, .001, .001), PTQ_IMPROVED);
    assert_int_equal(verdict(.0006, .001, .002), PTQ_SAME); /* significant, and below the margin */
}

/* Holm 1979: p = .01 .04 .03 .005 gives .03 .06 .06 .02; by hand. */
static void holm(void **state)
{
    (void)state;
    const double p[] = {.01, .04, NAN, .03, .005}, want[] = {.03, .06, NAN, .06, .02};
    double got[5];
    assert_true(ptq_holm(p, 5, got));
    for (int i = 0; i < 5; i++)
        assert_rel(got[i], want[i], 1e-12);
    assert_true(ptq_holm(p, 0, got));
    const double large[] = {.9, .8};
    assert_true(ptq_holm(large, 2, got));
    assert_rel(got[0], 1, 0);
    assert_rel(got[1], 1, 0);
}

/* Student's table: t(.975, 10) = 2.228139, t(.9, 10) = 1.372184; t(.975, 1) = 12.706205. */
static void quantiles(void **state)
{
    (void)state;
    assert_rel(ptq_t_quantile(.975, 10), 2.228139, 1e-6);
    assert_rel(ptq_t_quantile(.975, 1), 12.706205, 1e-6);
    assert_rel(ptq_detectable(.5, 11, .05, .9), .5 * (2.228139 + 1.372184), 1e-6);
    assert_true(isnan(ptq_t_quantile(1, 10)) && isnan(ptq_t_quantile(.5, 0)));
}

/* A setting that nothing changed is no test: of three the family has two. Their p by themselves are
 * Student's; the least change seen is at alpha / 2: t(.9875, 10) = 2.633767 (its density
 * integrated), t(.9, 10) = 1.372184. */
static void family(void **state)
{
    (void)state;
    enum { N = 11 };
    const struct ptq_compare_options o = ptq_compare_defaults();
    double diff[3 * N] = {0};
    struct ptq_judged j[3];
    for (int i = 0; i < N; i++) {
        diff[N + i] = .01 + .02 * (i - 5); /* spread .02 sqrt(11) */
        diff[2 * N + i] = -.05 + .02 * (i - 5);
    }
    assert_true(ptq_judge(diff, 3, N, &o, j));
    assert_int_equal(j[0].quality, PTQ_SAME);
    assert_rel(j[0].p_holm, 1, 0);
    assert_rel(j[2].p_holm, 2 * j[2].change.p, 1e-14);
    assert_rel(j[1].p_holm, j[1].change.p, 1e-14);
    assert_true(j[2].change.p < j[1].change.p && j[1].change.p < 1);
    for (int k = 1; k < 3; k++) {
        assert_rel(j[k].change.se, .02, 1e-12);
        assert_rel(j[k].least_seen, .02 * (2.633767 + 1.372184), 1e-6);
    }
}

/* ---- rows made by hand ---- */

struct made {
    double bits, stored, seed;
    const char *codes, *layer;
    double error;   /* of a layer */
    double windows; /* of a model: 4 windows around it */
    int size;       /* of a layer: rows; 0: 8 */
    const char *status, *label;
    double seconds;
};

static void add(struct ptq_rows *rows, const struct made *m)
{
    static char key[32];
    snprintf(key, sizeof key, "k%lld", (long long)rows->n);
    json_t *r =
        json_pack("{s:i,s:s,s:s,s:s,s:s,s:f,s:i,s:f,s:s}", "schema", 1, "key", key, "kind",
                  m->layer ? "layer" : "model", "model", "m", "method", "external:q", "bits",
                  m->bits, "group_size", 64, "calib_seed", m->seed, "codes_hash", m->codes);
    json_object_set_new(r, "metrics", json_pack("{s:f}", "bits_stored", m->stored));
    if (m->layer) {
        json_object_set_new(r, "layer", json_string(m->layer));
        json_object_set_new(r, "rows", json_integer(m->size ? m->size : 8));
        json_object_set_new(r, "cols", json_integer(8));
        json_object_set_new(json_object_get(r, "metrics"), "out_relerr", json_real(m->error));
    } else {
        json_object_set_new(r, "n_windows", json_integer(4));
        json_object_set_new(r, "nll_windows",
                            json_pack("[f,f,f,f]", m->windows + .1, m->windows - .1,
                                      m->windows + .2, m->windows - .2));
    }
    if (m->status)
        json_object_set_new(r, "status", json_string(m->status));
    if (m->label)
        json_object_set_new(r, "label", json_string(m->label));
    if (m->seconds > 0)
        json_object_set_new(r, "time", json_pack("{s:f}", "quantize_s", m->seconds));
    assert_true(rows->n < MOST);
    rows->at[rows->n++] = r;
}

static struct ptq_comparison compare_rows(const struct made *old, int n_old, const struct made *new,
                                          int n_new, bool strict, struct ptq_arena *arena)
{
    json_t *a[MOST], *b[MOST];
    struct ptq_compare_run x = {.name = "OLD", .rows = {.at = a}},
                           y = {.name = "NEW", .rows = {.at = b}};
    struct ptq_compare_options o = ptq_compare_defaults();
    struct ptq_comparison c;
    struct ptq_status st = {0};
    o.strict = strict;
    for (int i = 0; i < n_old; i++)
        add(&x.rows, &old[i]);
    for (int i = 0; i < n_new; i++)
        add(&y.rows, &new[i]);
    assert_ok(ptq_compare(&x, &y, &o, arena, &c, &st), &st);
    if (c.n && c.at[0].layers.n) { /* they outlive the rows */
        struct ptq_compared_layers *l = &c.at[0].layers;
        l->worst_name = ptq_arena_strdup(arena, &st, l->worst_name);
        l->best_name = ptq_arena_strdup(arena, &st, l->best_name);
    }
    for (int64_t i = 0; i < x.rows.n; i++)
        json_decref(a[i]);
    for (int64_t i = 0; i < y.rows.n; i++)
        json_decref(b[i]);
    return c;
}

static void expect(const struct made *old, const struct made *new, bool strict,
                   enum ptq_quality quality, bool changed, int exit_code)
{
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    struct ptq_comparison c = compare_rows(old, 1, new, 1, strict, &arena);
    assert_int_equal(c.quality, quality);
    assert_int_equal(c.bits_changed, changed);
    assert_int_equal(c.exit_code, exit_code);
    ptq_arena_clear(&arena);
}

static void layers_and_bits(void **state)
{
    (void)state;
    const struct made old = {3, 3.25, 0, "aa", "l", .1, 0};
    struct made new = old;
    expect(&old, &new, true, PTQ_SAME, false, 0);
    new.codes = "bb";
    expect(&old, &new, false, PTQ_SAME, true, 0);
    expect(&old, &new, true, PTQ_SAME, true, 4);
    new.error = .1009; /* within the tolerance of the mean, 1 % */
    expect(&old, &new, false, PTQ_SAME, true, 0);
    new.error = .1011;
    expect(&old, &new, false, PTQ_REGRESSED, true, 1);
    new.error = .098;
    expect(&old, &new, false, PTQ_IMPROVED, true, 0);
    expect(&old, &new, true, PTQ_IMPROVED, true, 4);
    new.stored = 3.5; /* better, for more bits */
    expect(&old, &new, false, PTQ_AMBIGUOUS, true, 7);
    new.error = .1;
    expect(&old, &new, false, PTQ_REGRESSED, true, 1);
    new.stored = 3;
    expect(&old, &new, false, PTQ_IMPROVED, true, 0);
}

static void models(void **state)
{
    (void)state;
    const struct made old = {3, 3.25, 0, "aa", NULL, 0, 2};
    struct made new = old;
    expect(&old, &new, true, PTQ_SAME, false, 0);
    new.windows = 2.005; /* all windows by as much: certain */
    expect(&old, &new, false, PTQ_REGRESSED, false, 1);
    new.windows = 1.995;
    expect(&old, &new, true, PTQ_IMPROVED, false, 4);
}

/* Three draws at 2.00, 2.01, 2.02: spread .01, t(.975, 4) = 2.776: a change is beyond the draws
 * from 2.776 x .01 x sqrt(2/3) = .02267. */
static void seeds(void **state)
{
    (void)state;
    struct made old[3], new[3];
    for (int k = 0; k < 2; k++) {
        struct ptq_arena arena;
        ptq_arena_init(&arena, 0);
        for (int s = 0; s < 3; s++) {
            old[s] = (struct made){3, 3.25, s, "aa", NULL, 0, 2 + .01 * s};
            new[s] = old[s];
            new[s].windows += k ? .0228 : .0225;
        }
        struct ptq_comparison c = compare_rows(old, 3, new, 3, false, &arena);
        assert_int_equal(c.n, 1);
        assert_int_equal(c.at[0].seeds.n, 3);
        assert_rel(c.at[0].seeds.spread, .01, 1e-9);
        assert_rel(c.at[0].model.change.mean, k ? .0228 : .0225, 1e-9);
        assert_int_equal(c.at[0].seeds.beyond, k);
        assert_int_equal(c.exit_code, 1);
        ptq_arena_clear(&arena);
    }
}

static void joins(void **state)
{
    (void)state;
    const struct made old[2] = {{3, 3.25, 0, "aa", "l", .1, 0}, {4, 4.25, 0, "aa", "l", .1, 0}};
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    struct ptq_comparison c = compare_rows(old, 2, old, 1, false, &arena);
    assert_int_equal(c.exit_code, 6);
    c = compare_rows(old, 1, old, 2, true, &arena); /* more than OLD has: not compared */
    assert_int_equal(c.exit_code, 0);
    assert_int_equal(c.n_added, 1);
    c = compare_rows(old, 1, old + 1, 1, false, &arena);
    assert_int_equal(c.exit_code, 3);
    assert_false(c.comparable);
    ptq_arena_clear(&arena);
}

/* ---- windows of unlike lengths ---- */

static int compare_windows(const char *tokens_old, const char *tokens_new, struct ptq_arena *arena,
                           struct ptq_comparison *c, struct ptq_status *st)
{
    const struct made m = {3, 3.25, 0, "aa", NULL, 0, 0};
    json_t *a[MOST], *b[MOST];
    struct ptq_compare_run x = {.name = "OLD", .rows = {.at = a}},
                           y = {.name = "NEW", .rows = {.at = b}};
    const struct ptq_compare_options o = ptq_compare_defaults();
    add(&x.rows, &m);
    add(&y.rows, &m);
    json_object_set_new(a[0], "nll_windows", json_pack("[f,f,n,f]", 1., 1., 1.));
    json_object_set_new(b[0], "nll_windows", json_pack("[f,f,n,f]", 2., 3., 5.));
    if (tokens_old)
        json_object_set_new(a[0], "window_tokens", json_loads(tokens_old, 0, NULL));
    if (tokens_new)
        json_object_set_new(b[0], "window_tokens", json_loads(tokens_new, 0, NULL));
    int code = ptq_compare(&x, &y, &o, arena, c, st);
    json_decref(a[0]);
    json_decref(b[0]);
    return code;
}

/* Differences 1, 2 and 4 over 1, 2 and 3 tokens: 17 / 6 a token, not the windows' mean 7 / 3; a
 * window without tokens has no loss and is none. */
static void tokens_weigh(void **state)
{
    (void)state;
    struct ptq_arena arena;
    struct ptq_comparison c;
    struct ptq_status st = {0};
    ptq_arena_init(&arena, 0);
    assert_ok(compare_windows("[1,2,0,3]", "[1,2,0,3]", &arena, &c, &st), &st);
    assert_rel(c.at[0].model.change.mean, 17. / 6, 1e-14);
    assert_int_equal(c.at[0].model.change.n, 3);
    static const char *const bad[][2] = {{"[1,2,0,3]", NULL},
                                         {"[1,2,0,3]", "[1,2,0,4]"},
                                         {"[1,2]", "[1,2]"},
                                         {"[1,2,3]", "[1,2,3]"},
                                         {"[1,2,0,-3]", "[1,2,0,-3]"},
                                         {"[1,2,0,1.5]", "[1,2,0,1.5]"},
                                         {"{}", "{}"},
                                         {NULL, NULL},
                                         {"[1,2,\"x\",3]", "[1,2,\"x\",3]"},
                                         {"[0,0,0,1e300]", "[0,0,0,1e300]"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_true(compare_windows(bad[i][0], bad[i][1], &arena, &c, &st) < 0);
        ptq_status_clear(&st);
    }
    ptq_arena_clear(&arena);
}

/* Layers a, b, ... of one setting, all of error .1 in OLD and of .1 x ratio in NEW. */
static struct ptq_comparison compare_ratios(const double *ratio, int n, struct ptq_arena *arena)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    struct made old[MOST], new[MOST];
    ptq_arena_init(arena, 0);
    for (int i = 0; i < n; i++) {
        old[i] = new[i] = (struct made){3, 3.25, 0, "aa", names[i], .1, 0};
        new[i].error *= ratio[i];
    }
    return compare_rows(old, n, new, n, false, arena);
}

/* One layer beyond 5 % decides where the mean is within 1 %; 1.04^(1/8) = 1.0049. */
static void one_layer(void **state)
{
    (void)state;
    struct ptq_arena arena;
    double ratio[8] = {1, 1, 1.04, 1, 1, 1, 1, 1};
    struct ptq_comparison c = compare_ratios(ratio, 8, &arena);
    assert_int_equal(c.quality, PTQ_SAME);
    assert_rel(c.at[0].layers.mean, pow(1.04, .125), 1e-12);
    assert_string_equal(c.at[0].layers.worst_name, "c");
    ptq_arena_clear(&arena);
    ratio[2] = 1.051;
    ratio[5] = 1 / 1.049;
    c = compare_ratios(ratio, 8, &arena);
    assert_int_equal(c.quality, PTQ_REGRESSED);
    assert_int_equal(c.at[0].layers.n_worse, 1);
    assert_int_equal(c.at[0].layers.n_better, 0);
    assert_string_equal(c.at[0].layers.best_name, "f");
    ptq_arena_clear(&arena);
    ratio[2] = 1;
    ratio[5] = 1 / 1.051;
    c = compare_ratios(ratio, 8, &arena);
    assert_int_equal(c.quality, PTQ_IMPROVED);
    assert_int_equal(c.at[0].layers.n_better, 1);
    assert_int_equal(c.at[0].layers.n_worse, 0);
    ptq_arena_clear(&arena);
}

/* A layer that lost all of its error takes no part in the mean, which the others make worse. */
static void mean_without_zeros(void **state)
{
    (void)state;
    struct ptq_arena arena;
    const double ratio[8] = {0, 1.04, 1.04, 1.04, 1.04, 1.04, 1.04, 1.04};
    struct ptq_comparison c = compare_ratios(ratio, 8, &arena);
    assert_rel(c.at[0].layers.mean, 1.04, 1e-12);
    assert_int_equal(c.quality, PTQ_REGRESSED);
    ptq_arena_clear(&arena);
}

/* An error where there was none is infinitely worse, none where there was one the reverse. */
static void no_error(void **state)
{
    (void)state;
    const struct made none = {3, 3.25, 0, "aa", "l", 0, 0}, some = {3, 3.25, 0, "aa", "l", .1, 0};
    expect(&none, &none, true, PTQ_SAME, false, 0);
    expect(&none, &some, false, PTQ_REGRESSED, false, 1);
    expect(&some, &none, false, PTQ_IMPROVED, false, 0);
    const struct made broken = {3, 3.25, 0, "aa", "l", -.1, 0};
    expect(&some, &broken, false, PTQ_AMBIGUOUS, false, 7);
    struct made larger = none; /* named in XML and tables, whatever its ratio */
    larger.stored = 4;
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    assert_string_equal(compare_rows(&some, 1, &larger, 1, false, &arena).at[0].layers.worst_name,
                        "l");
    assert_string_equal(compare_rows(&none, 1, &some, 1, false, &arena).at[0].layers.best_name,
                        "l");
    assert_string_equal(compare_rows(&some, 1, &broken, 1, false, &arena).at[0].layers.worst_name,
                        "l");
    ptq_arena_clear(&arena);
}

/* 3 bits of 8 rows and 5 of 24: (3 x 8 + 5 x 24) / 32 = 4.5. */
static void stored_by_size(void **state)
{
    (void)state;
    const struct made old[] = {{3, 3, 0, "aa", "a", .1, 0, .size = 8},
                               {3, 5, 0, "aa", "b", .1, 0, .size = 24}};
    struct made new[] = {old[0], old[1]};
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    new[0].stored = 6; /* more by as much as the other saves: 4.5 again */
    new[1].stored = 4;
    struct ptq_comparison c = compare_rows(old, 2, new, 2, false, &arena);
    assert_rel(c.at[0].bits_old, 4.5, 1e-14);
    assert_rel(c.at[0].bits_new, 4.5, 1e-14);
    assert_int_equal(c.quality, PTQ_SAME);
    ptq_arena_clear(&arena);
}

/* A row that failed is one that is missing; what is worse beside it comes first, and so does the
 * worst of all settings. */
static void worst_first(void **state)
{
    (void)state;
    const struct made old[] = {{3, 3.25, 0, "aa", "a", .1, 0},
                               {3, 3.25, 0, "aa", "b", .1, 0},
                               {4, 4.25, 0, "aa", "a", .1, 0}};
    struct made new[] = {old[0], old[1], old[2]};
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    new[1].status = "failed";
    struct ptq_comparison c = compare_rows(old, 3, new, 3, false, &arena);
    assert_int_equal(c.quality, PTQ_MISSING);
    assert_int_equal(c.exit_code, 6);
    new[0].error = .2;
    c = compare_rows(old, 3, new, 3, false, &arena);
    assert_int_equal(c.quality, PTQ_REGRESSED);
    assert_int_equal(c.exit_code, 1);
    assert_int_equal(c.at[1].quality, PTQ_SAME);
    ptq_arena_clear(&arena);
}

/* What failed in OLD says nothing, whatever it is now. */
static void failed_before(void **state)
{
    (void)state;
    const struct made old[] = {{3, 3.25, 0, "aa", "a", .1, 0},
                               {4, 4.25, 0, "aa", "a", .1, 0, .status = "skipped"}};
    struct made new[] = {old[0], old[1]};
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    for (int k = 0; k < 2; k++) {
        struct ptq_comparison c = compare_rows(old, 2, new, 2, true, &arena);
        assert_int_equal(c.quality, PTQ_SAME);
        assert_int_equal(c.exit_code, 0);
        assert_int_equal(c.n, 1);
        new[1].status = NULL;
    }
    assert_int_equal(compare_rows(old + 1, 1, old + 1, 1, true, &arena).exit_code, 3);
    ptq_arena_clear(&arena);
}

/* Windows decide against layers, and layers where windows are silent. */
static void windows_before_layers(void **state)
{
    (void)state;
    const struct made old[] = {{3, 3.25, 0, "aa", NULL, 0, 2}, {3, 3.25, 0, "aa", "a", .1, 0}};
    struct made new[] = {old[0], old[1]};
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    new[1].error = .2;
    assert_int_equal(compare_rows(old, 2, new, 2, false, &arena).quality, PTQ_REGRESSED);
    new[0].windows = 1.9;
    assert_int_equal(compare_rows(old, 2, new, 2, false, &arena).quality, PTQ_IMPROVED);
    new[0].windows = 2.1;
    new[1].error = .05;
    assert_int_equal(compare_rows(old, 2, new, 2, false, &arena).quality, PTQ_REGRESSED);
    ptq_arena_clear(&arena);
}

/* ---- times: two layers of .25 and .75 of each run's seconds */

static struct ptq_compared_times times(const double *old, int n_old, const double *new, int n_new,
                                       struct ptq_arena *arena)
{
    struct ptq_compare_run run[2][MOST];
    const struct ptq_compare_run *at[2][MOST];
    json_t *row[2][MOST][MOST];
    struct ptq_compared_times *out;
    struct ptq_status st = {0};
    int64_t n;
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < (side ? n_new : n_old); i++) {
            const double s = side ? new[i] : old[i];
            struct made m = {3, 3.25, 0, "aa", "a", .1, 0, .label = "q", .seconds = s / 4};
            run[side][i] = (struct ptq_compare_run){.name = "r", .rows = {.at = row[side][i]}};
            add(&run[side][i].rows, &m);
            m.layer = "b";
            m.seconds = 3 * s / 4;
            add(&run[side][i].rows, &m);
            m.bits = 4; /* another setting, in OLD alone */
            m.seconds = 100;
            if (!side)
                add(&run[side][i].rows, &m);
            at[side][i] = &run[side][i];
        }
    assert_ok(ptq_compare_times(at[0], n_old, at[1], n_new, arena, &out, &n, &st), &st);
    assert_int_equal(n, 1);
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < (side ? n_new : n_old); i++)
            for (int64_t k = 0; k < run[side][i].rows.n; k++)
                json_decref(row[side][i][k]);
    return *out;
}

static void repeated_times(void **state)
{
    (void)state;
    const double old[] = {4, 2, 1, 3, 5}, above[] = {9, 6, 8, 5.5, 7},
                 touching[] = {9, 6, 8, 4.5, 7}, reaching[] = {.5, .9, 1.5, .6, .8},
                 below[] = {.5, .9, .7, .6, .8};
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    struct ptq_compared_times t = times(old, 5, above, 5, &arena);
    assert_string_equal(t.verdict, "slower");
    assert_rel(t.old, 3, 1e-14);
    assert_rel(t.new, 7, 1e-14);
    assert_string_equal(t.name, "q b3 g64");
    assert_string_equal(times(old, 5, touching, 5, &arena).verdict, "no difference seen");
    assert_string_equal(times(old, 5, reaching, 5, &arena).verdict, "no difference seen");
    assert_string_equal(times(old, 5, below, 5, &arena).verdict, "faster");
    assert_string_equal(times(above, 5, old, 5, &arena).verdict, "faster");
    assert_non_null(strstr(times(old, 4, above, 5, &arena).verdict, "not judged"));
    assert_non_null(strstr(times(old, 5, above, 4, &arena).verdict, "not judged"));
    ptq_arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tokens_weigh),
                                       cmocka_unit_test(family),
                                       cmocka_unit_test(one_layer),
                                       cmocka_unit_test(mean_without_zeros),
                                       cmocka_unit_test(no_error),
                                       cmocka_unit_test(stored_by_size),
                                       cmocka_unit_test(worst_first),
                                       cmocka_unit_test(failed_before),
                                       cmocka_unit_test(windows_before_layers),
                                       cmocka_unit_test(repeated_times),
                                       cmocka_unit_test(false_alarms),
                                       cmocka_unit_test(power),
                                       cmocka_unit_test(verdicts),
                                       cmocka_unit_test(holm),
                                       cmocka_unit_test(quantiles),
                                       cmocka_unit_test(layers_and_bits),
                                       cmocka_unit_test(models),
                                       cmocka_unit_test(seeds),
                                       cmocka_unit_test(joins)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
