/* Metrics of forms with split inputs and quantized inputs, against plain fp64 loops over what
 * metric.h says. */
#include "quant_lib.h"
#include "metrics/metric.h"

enum { ROWS = 9, COLS = 14, CALIB = 60, HELD = 25, MOST_COLS = 24, MOST = 64 };

struct expanded_case {
    struct ptq_arena arena;
    struct ptq_status st;
    struct ptq_layer layer, held;
    struct ptq_layer_truth truth;
    struct ptq_quant q;
    int32_t source[MOST_COLS], piece[MOST_COLS];
    float w[ROWS * COLS], x[CALIB * COLS], xh[HELD * COLS], divisor[COLS];
    float what[ROWS * MOST_COLS];
    struct ptq_value v[MOST];
};

static void inputs(float *x, int64_t n, uint64_t seed)
{
    for (int64_t i = 0; i < n * COLS; i++)
        x[i] = (float)ptq_normal(seed, (uint64_t)i) * (i % COLS == 4 ? 2 : 0.5f);
}

static void put_acts(struct expanded_case *c, struct ptq_layer *l, const float *x, int64_t n)
{
    *l = (struct ptq_layer){
        .name = "split", .w = {c->w, ROWS, COLS, COLS}, .acts = {x, n, COLS, COLS}};
    assert_ok(ptq_hess_from_acts(NULL, &l->acts, PTQ_NORM_TOKEN, 0, PTQ_DOUBLE_PRECISION, &c->arena,
                                 &l->hess, &c->st),
              &c->st);
}

static void open_case(struct expanded_case *c)
{
    memset(c, 0, sizeof *c);
    ptq_arena_init(&c->arena, 0);
    for (int i = 0; i < ROWS * COLS; i++)
        c->w[i] = (float)ptq_normal(1, (uint64_t)i);
    for (int j = 0; j < COLS; j++)
        c->divisor[j] = (float)(0.5 + ptq_uniform(2, (uint64_t)j));
    inputs(c->x, CALIB, 3);
    inputs(c->xh, HELD, 4);
    put_acts(c, &c->layer, c->x, CALIB);
    put_acts(c, &c->held, c->xh, HELD);
    c->q = (struct ptq_quant){.rows = ROWS, .cols = COLS};
    c->q.act.divisor = (struct ptq_arr){.fmt = PTQ_FMT_F32, .n = COLS, .at = c->divisor};
}

static void close_case(struct expanded_case *c)
{
    ptq_arena_clear(&c->arena);
}

/* Channel 4 in `pieces` pieces of the input, channel 7 twice (pieces of the weight, `cut` of it in
 * the first), two columns of padding; from the last channel to the first. */
static void split(struct expanded_case *c, int pieces, double cut)
{
    int64_t n = 0;
    for (int j = COLS - 1; j >= 0; j--)
        for (int k = 0, of = j == 4 ? pieces : j == 7 ? 2 : 1; k < of; k++, n++) {
            c->source[n] = j;
            c->piece[n] = j == 4 && pieces > 1 ? k : -1;
        }
    for (int k = 0; k < 2; k++, n++)
        c->source[n] = c->piece[n] = -1;
    c->q.split = (struct ptq_split){n, c->source, c->piece, 1.5f};
    for (int64_t i = 0; i < ROWS; i++)
        for (int64_t k = 0, seven = 0; k < n; k++) {
            int j = c->source[k];
            double share = j == 7 ? (seven++ ? 1 - cut : cut) : 1;
            c->what[i * n + k] =
                j < 0 ? 0 : (float)(share * (double)c->w[i * COLS + j] * (double)c->divisor[j]);
        }
}

static void evaluate(struct expanded_case *c, bool held)
{
    assert_ok(
        ptq_layer_truth_init(&c->truth, &c->layer, held ? &c->held : NULL, NULL, &c->arena, &c->st),
        &c->st);
    int n;
    ptq_metrics(&n);
    assert_true(n <= MOST);
    assert_ok(ptq_metrics_layer_eval(&c->truth, &c->q, c->what, NULL, c->v, &c->st), &c->st);
}

static const struct ptq_value *value(const struct expanded_case *c, const char *id)
{
    int n;
    const struct ptq_metric_entry *m = ptq_metrics(&n);
    for (int i = 0; i < n; i++)
        if (!strcmp(m[i].metric->id, id))
            return &c->v[i];
    fail_msg("no metric %s", id);
    return NULL;
}

static void expect(const struct expanded_case *c, const char *id, double want, double relative)
{
    const struct ptq_value *v = value(c, id);
    if (v->reason || !(fabs(v->v - want) <= relative * fabs(want)))
        fail_msg("%s: %.9g, %.9g expected (%s)", id, v->v, want, v->reason ? v->reason : "");
}

static void expect_none(const struct expanded_case *c, const char *id, const char *why)
{
    const struct ptq_value *v = value(c, id);
    if (!v->reason || !strstr(v->reason, why))
        fail_msg("%s: %g, reason '%s', expected '%s'", id, v->v, v->reason ? v->reason : "", why);
}

/* y^ of a token: every column by the words of ptq.h, in double. */
static double applied(const struct expanded_case *c, const float *x, int i, int bits)
{
    const struct ptq_quant *q = &c->q;
    const int64_t n = ptq_quant_kcols(q);
    double v[MOST_COLS], most = 0, y = 0;
    for (int64_t k = 0; k < n; k++) {
        int j = q->split.n_cols ? c->source[k] : (int)k;
        double a = j < 0 ? 0 : (double)(x[j] / c->divisor[j]), t = (double)q->split.limit;
        if (q->split.n_cols && c->piece[k] >= 0)
            a = copysign(fmin(fmax(fabs(a) - c->piece[k] * t, 0), t), a);
        v[k] = a;
        most = fmax(most, fabs(a));
    }
    const double top = (1 << (bits ? bits - 1 : 0)) - 1;
    for (int64_t k = 0; k < n; k++) {
        double a = bits ? rint(v[k] * top / most) * most / top : v[k];
        double stored = (double)c->what[i * n + k];
        y += a * (q->split.n_cols ? stored : stored * (double)c->divisor[k]);
    }
    return y;
}

static double plain(const struct expanded_case *c, const float *x, int i)
{
    double y = 0;
    for (int j = 0; j < COLS; j++)
        y += (double)c->w[i * COLS + j] * (double)x[j];
    return y;
}

static double relerr(const struct expanded_case *c, const float *x, int64_t n, int bits)
{
    double top = 0, bottom = 0;
    for (int64_t t = 0; t < n; t++)
        for (int i = 0; i < ROWS; i++) {
            double y = plain(c, x + t * COLS, i), e = applied(c, x + t * COLS, i, bits) - y;
            top += e * e;
            bottom += y * y;
        }
    return top / bottom;
}

static void noise(struct expanded_case *c, double by)
{
    const int64_t n = ptq_quant_kcols(&c->q);
    for (int64_t k = 0; k < ROWS * n; k++)
        if (!c->q.split.n_cols || c->source[k % n] >= 0)
            c->what[k] += (float)(by * ptq_normal(8, (uint64_t)k));
}

/* The pieces of an exact matrix add up to its product wherever |v| <= pieces * limit. */
static void exact_pieces_lose_nothing(void **state)
{
    (void)state;
    struct expanded_case c;
    open_case(&c);
    split(&c, 8, 0.25); /* 8 x 1.5 is over any of the inputs */
    evaluate(&c, true);
    assert_true(value(&c, "w_relerr")->v < 1e-13 && value(&c, "out_relerr")->v < 1e-12 &&
                value(&c, "out_relerr_heldout")->v < 1e-12 &&
                value(&c, "out_relerr_wa")->v < 1e-12 && value(&c, "out_cos")->v > 1 - 1e-6);
    expect(&c, "macs_expand", 24.0 / 14, 1e-12);
    expect_none(&c, "proxy_loss", "pieces of inputs");
    expect_none(&c, "out_relerr_nosink", "sampled tokens");
    split(&c, 2, 0.25); /* two pieces cut what lies beyond 3 */
    evaluate(&c, true);
    assert_true(value(&c, "w_relerr")->v < 1e-13);
    expect(&c, "out_relerr", relerr(&c, c.x, CALIB, 0), 1e-4);
    close_case(&c);
}

static void pieces_with_errors(void **state)
{
    (void)state;
    struct expanded_case c;
    open_case(&c);
    split(&c, 3, 0.6);
    noise(&c, 0.05);
    /* |dW|^2 over 13 channels as they are and three pieces of channel 4; channel 7's columns are
     * one signal. */
    double dw2 = 0, w2 = 0;
    const int64_t n = c.q.split.n_cols;
    for (int i = 0; i < ROWS; i++)
        for (int64_t k = 0; k < n; k++) {
            int j = c.source[k];
            if (j < 0 || (j == 7 && c.source[k - 1] == 7))
                continue;
            double w = (double)c.w[i * COLS + j], s = (double)c.what[i * n + k];
            if (j == 7)
                s += (double)c.what[i * n + k + 1];
            double d = s / (double)c.divisor[j] - w;
            dw2 += d * d;
            w2 += w * w;
        }
    evaluate(&c, true);
    expect(&c, "w_relerr", dw2 / w2, 1e-5);
    expect(&c, "w_mse", dw2 / (ROWS * 16), 1e-5);
    expect(&c, "out_relerr", relerr(&c, c.x, CALIB, 0), 1e-4);
    expect(&c, "out_relerr_heldout", relerr(&c, c.xh, HELD, 0), 1e-4);
    expect(&c, "out_relerr_wa", relerr(&c, c.xh, HELD, 0), 1e-4);
    c.q.act.bits = 6;
    evaluate(&c, true);
    expect(&c, "out_relerr", relerr(&c, c.x, CALIB, 0), 1e-4); /* weights alone */
    expect(&c, "out_relerr_wa", relerr(&c, c.xh, HELD, 6), 1e-3);
    evaluate(&c, false);
    expect(&c, "out_relerr_wa", relerr(&c, c.x, CALIB, 6), 1e-3);
    close_case(&c);
}

/* Pieces of weights alone: the Hessian speaks, and says what the sums of the columns say. */
static void pieces_of_weights(void **state)
{
    (void)state;
    struct expanded_case c, sum;
    open_case(&c);
    open_case(&sum);
    split(&c, 1, 0.3);
    noise(&c, 0.05);
    const int64_t n = c.q.split.n_cols;
    for (int i = 0; i < ROWS; i++)
        for (int64_t k = 0; k < n; k++)
            if (c.source[k] >= 0)
                sum.what[i * COLS + c.source[k]] += c.what[i * n + k] / c.divisor[c.source[k]];
    evaluate(&c, true);
    evaluate(&sum, true);
    static const char *const ids[] = {"w_mse",          "w_relerr",   "w_maxabs",
                                      "out_relerr",     "proxy_loss", "out_relerr_heldout",
                                      "out_relerr_tok", "out_cos"};
    for (int64_t i = 0; i < LENGTH(ids); i++)
        expect(&c, ids[i], value(&sum, ids[i])->v, 1e-5);
    close_case(&c);
    close_case(&sum);
}

static void inputs_alone(void **state)
{
    (void)state;
    struct expanded_case c;
    open_case(&c);
    for (int i = 0; i < ROWS * COLS; i++)
        c.what[i] = c.w[i];
    c.q.act.bits = 5;
    c.q.act.divisor = (struct ptq_arr){.fmt = PTQ_FMT_NONE};
    for (int j = 0; j < COLS; j++)
        c.divisor[j] = 1;
    evaluate(&c, true);
    expect(&c, "out_relerr", 0, 0);
    expect(&c, "out_relerr_wa", relerr(&c, c.xh, HELD, 5), 1e-3);
    expect(&c, "macs_expand", 1, 0);
    expect(&c, "macs_int4_share", 0, 0);
    c.q.act.bits = 4;
    evaluate(&c, true);
    expect(&c, "macs_int4_share", 1, 0);
    c.q.act.bits = 0;
    evaluate(&c, true);
    expect_none(&c, "out_relerr_wa", "inputs stay as they are");
    c.q.act.bits = 4;
    c.layer.acts.at = NULL;
    evaluate(&c, false);
    expect_none(&c, "out_relerr_wa", "no sampled inputs");
    close_case(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_pieces_lose_nothing),
        cmocka_unit_test(pieces_with_errors),
        cmocka_unit_test(pieces_of_weights),
        cmocka_unit_test(inputs_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
