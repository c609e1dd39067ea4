/* Metrics: every id against plain loops over its definition (design: weights, output, model, bits)
 * and against closed forms; every absence has its reason. */
#include "core/rng.h"
#include "datasets/facts.h"
#include "metrics/metric.h"
#include "testlib.h"

enum { ROWS = 7, COLS = 20, GROUP = 8, GROUPS = 3, TOKENS = 50, HELD = 40, MOST = 64 };

/* A layer, its statistics from random inputs, and a 3-bit quantization by plain rounding. */
struct fixture {
    struct ptq_arena arena;
    struct ptq_status st;
    float w[ROWS * COLS], what[ROWS * COLS], x[TOKENS * COLS], held[HELD * COLS];
    double hess[COLS * COLS], sink[COLS * COLS], rest[COLS * COLS], held_hess[COLS * COLS];
    uint16_t codes[ROWS * COLS];
    float scale[ROWS * GROUPS], zero[ROWS * GROUPS];
    struct ptq_layer layer, heldout;
    struct ptq_quant quant;
    struct ptq_layer_truth truth;
    struct ptq_value v[MOST];
};

static void moments(const float *x, int n, int from, int to, double *h)
{
    for (int i = 0; i < COLS; i++)
        for (int j = 0; j < COLS; j++) {
            h[i * COLS + j] = 0;
            for (int t = from; t < to; t++)
                h[i * COLS + j] += 2.0 * x[t * COLS + i] * x[t * COLS + j] / n;
        }
}

static void quantize(struct fixture *f)
{
    for (int i = 0; i < ROWS; i++)
        for (int g = 0; g < GROUPS; g++) {
            f->scale[i * GROUPS + g] = 0.5f;
            f->zero[i * GROUPS + g] = (float)(3 + g % 2);
            for (int j = g * GROUP; j < COLS && j < (g + 1) * GROUP; j++) {
                double q = rint(f->w[i * COLS + j] / .5) + 3 + g % 2;
                f->codes[i * COLS + j] = (uint16_t)(q < 0 ? 0 : q > 7 ? 7 : q);
                f->what[i * COLS + j] =
                    .5f * ((float)f->codes[i * COLS + j] - f->zero[i * GROUPS + g]);
            }
        }
    f->quant = (struct ptq_quant){ROWS,
                                  COLS,
                                  1,
                                  {{.kind = PTQ_PART_UNIFORM,
                                    .bits = 3,
                                    .codes = f->codes,
                                    .group_cols = GROUP,
                                    .groups_per_row = GROUPS,
                                    .scale = {PTQ_FMT_F16, 16, false, ROWS * GROUPS, f->scale},
                                    .zero = {PTQ_FMT_INT, 3, false, ROWS * GROUPS, f->zero}}}};
}

static void setup(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    ptq_arena_init(&f->arena, 0);
    for (int i = 0; i < ROWS * COLS; i++)
        f->w[i] = (float)ptq_normal(1, (uint64_t)i);
    for (int i = 0; i < TOKENS * COLS; i++)
        f->x[i] =
            (float)ptq_normal(2, (uint64_t)i) * (i < 2 * COLS ? 30.f : 1.f); /* two sink tokens */
    for (int i = 0; i < HELD * COLS; i++)
        f->held[i] = (float)ptq_normal(3, (uint64_t)i) *
                     (float)(1 + i / COLS); /* of unequal size: means of ratios differ */
    moments(f->x, TOKENS, 0, TOKENS, f->hess);
    moments(f->x, TOKENS, 0, 2, f->sink);
    moments(f->x, TOKENS, 2, TOKENS, f->rest);
    moments(f->held, HELD, 0, HELD, f->held_hess);
    quantize(f);
    f->layer = (struct ptq_layer){.name = "l",
                                  .w = {f->w, ROWS, COLS, COLS},
                                  .hess = {f->hess, COLS, COLS, COLS},
                                  .hess_sink = {f->sink, COLS, COLS, COLS},
                                  .hess_rest = {f->rest, COLS, COLS, COLS}};
    f->heldout = (struct ptq_layer){.name = "l",
                                    .w = f->layer.w,
                                    .hess = {f->held_hess, COLS, COLS, COLS},
                                    .acts = {f->held, HELD, COLS, COLS}};
}

static void teardown(struct fixture *f)
{
    ptq_arena_clear(&f->arena);
}

static const struct ptq_value *value(const struct ptq_value *v, const char *id)
{
    int n;
    const struct ptq_metric_entry *m = ptq_metrics(&n);
    for (int i = 0; i < n; i++)
        if (strcmp(m[i].metric->id, id) == 0)
            return &v[i];
    fail_msg("no metric %s", id);
    return NULL;
}

static void evaluate(struct fixture *f, bool heldout)
{
    int n;
    ptq_metrics(&n);
    assert_true(n <= MOST);
    assert_ok(ptq_layer_truth_init(&f->truth, &f->layer, heldout ? &f->heldout : NULL, NULL,
                                   &f->arena, &f->st),
              &f->st);
    assert_ok(ptq_metrics_layer_eval(&f->truth, &f->quant, f->what, NULL, f->v, &f->st), &f->st);
}

/* sum over tokens from .. to of 2 |A x|^2 / n: what tr(A H A^T) is */
static double loss(const double *a, const float *x, int n, int from, int to)
{
    double sum = 0;
    for (int t = from; t < to; t++)
        for (int i = 0; i < ROWS; i++) {
            double y = 0;
            for (int j = 0; j < COLS; j++)
                y += a[i * COLS + j] * x[t * COLS + j];
            sum += 2 * y * y / n;
        }
    return sum;
}

static void test_layer_against_loops(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    evaluate(&f, true);
    double dw[ROWS * COLS], w[ROWS * COLS], e2 = 0, w2 = 0, most = 0;
    for (int i = 0; i < ROWS * COLS; i++) {
        w[i] = f.w[i];
        dw[i] = (double)f.what[i] - f.w[i];
        e2 += dw[i] * dw[i];
        w2 += w[i] * w[i];
        most = fmax(most, fabs(dw[i]));
    }
    assert_rel(value(f.v, "w_mse")->v, e2 / (ROWS * COLS), 1e-14);
    assert_rel(value(f.v, "w_relerr")->v, e2 / w2, 1e-14);
    assert_rel(value(f.v, "w_sqnr_db")->v, 10 * log10(w2 / e2), 1e-13);
    assert_rel(value(f.v, "w_maxabs")->v, most, 0);
    /* dW is rounded to fp32 before the quadratic form: 6e-8 of an entry */
    assert_rel(value(f.v, "proxy_loss")->v, loss(dw, f.x, TOKENS, 0, TOKENS), 1e-6);
    assert_rel(value(f.v, "out_relerr")->v,
               loss(dw, f.x, TOKENS, 0, TOKENS) / loss(w, f.x, TOKENS, 0, TOKENS), 1e-6);
    assert_rel(value(f.v, "out_relerr_nosink")->v,
               loss(dw, f.x, TOKENS, 2, TOKENS) / loss(w, f.x, TOKENS, 2, TOKENS), 1e-6);
    assert_rel(value(f.v, "out_relerr_heldout")->v,
               loss(dw, f.held, HELD, 0, HELD) / loss(w, f.held, HELD, 0, HELD), 1e-6);
    double ratio = 0, cosine = 0, q[ROWS * COLS];
    for (int i = 0; i < ROWS * COLS; i++)
        q[i] = f.what[i];
    for (int t = 0; t < HELD; t++) {
        double dot = 0, yy = 0, zz = 0;
        for (int i = 0; i < ROWS; i++) {
            double y = 0, z = 0;
            for (int j = 0; j < COLS; j++) {
                y += w[i * COLS + j] * f.held[t * COLS + j];
                z += q[i * COLS + j] * f.held[t * COLS + j];
            }
            dot += y * z;
            yy += y * y;
            zz += z * z;
        }
        ratio += loss(dw, f.held, HELD, t, t + 1) / loss(w, f.held, HELD, t, t + 1) / HELD;
        cosine += dot / sqrt(yy * zz) / HELD;
    }
    assert_rel(value(f.v, "out_relerr_tok")->v, ratio, 1e-5);
    assert_rel(value(f.v, "out_cos")->v, cosine, 1e-6);
    assert_true(fabs(ratio - value(f.v, "out_relerr_heldout")->v) >
                1e-3 * ratio); /* another mean, not the same number */
    assert_null(value(f.v, "out_cos")->reason);
    assert_non_null(value(f.v, "out_relerr_heldout_nosink")->reason);
    teardown(&f);
}

/* 7 rows of 20 three-bit codes: 420 bits in 53 bytes; 21 f16 scales: 42 bytes; 21 zeros of 3 bits:
 * 63 bits in 8 bytes. */
static void test_layer_bits(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    evaluate(&f, false);
    assert_rel(value(f.v, "bits_stored")->v, 8.0 * (53 + 42 + 8) / 140, 1e-15);
    assert_rel(value(f.v, "bits_nominal")->v, 3, 0);
    /* methods.md 0.3: codes 3, and 16 + 3 bits for each of the 21 groups */
    assert_rel(value(f.v, "bits_paper")->v, 3 + 19.0 * 21 / 140, 1e-15);
    assert_string_equal(value(f.v, "loss_over_optimum")->reason, "more than 16 inputs");
    assert_true(isnan(value(f.v, "bits_model")->v) &&
                !value(f.v, "bits_model")->reason); /* a metric of models */
    teardown(&f);
}

/* H = 2 I: the bound is 1/2 log2 (mean w^2 / mean dw^2) bits a weight. */
static void test_layer_excess_bits(void **state)
{
    (void)state;
    struct fixture f;
    double w2 = 0, dw2 = 0;
    setup(&f);
    for (int i = 0; i < COLS * COLS; i++)
        f.hess[i] = i / COLS == i % COLS ? 2 : 0;
    evaluate(&f, false);
    for (int i = 0; i < ROWS * COLS; i++) {
        w2 += (double)f.w[i] * f.w[i];
        dw2 += ((double)f.what[i] - f.w[i]) * ((double)f.what[i] - f.w[i]);
    }
    assert_rel(value(f.v, "excess_bits")->v, value(f.v, "bits_stored")->v - .5 * log2(w2 / dw2),
               1e-9);
    teardown(&f);
}

/* ---- loss_over_optimum: rows x cols at 2 bits, against every code there is */

enum { LO_ROWS = 3, LO_MOST = 16, LO_CODES = 4 };

struct coarse {
    int cols, group, groups; /* groups: a row's, 0 of the matrix */
    const int32_t *perm;
    bool tree, rotated, divided; /* the values are not the grid's */
    float w[LO_ROWS * LO_MOST], what[LO_ROWS * LO_MOST], scale[LO_ROWS * LO_MOST],
        zero[LO_ROWS * LO_MOST];
    double hess[LO_MOST * LO_MOST];
    uint16_t codes[LO_ROWS * LO_MOST];
};

static int group_of(const struct coarse *c, int i, int j)
{
    int at = j;
    for (int k = 0; c->perm && k < c->cols; k++)
        if (c->perm[k] == j)
            at = k;
    return c->groups ? i * c->groups + at / c->group : 0;
}

static float coarse_value(const struct coarse *c, int i, int j, int code)
{
    const int g = group_of(c, i, j);
    return c->scale[g] * ((float)code - c->zero[g]);
}

static double row_loss(const struct coarse *c, int i, const float *v)
{
    double sum = 0;
    for (int a = 0; a < c->cols; a++)
        for (int b = 0; b < c->cols; b++)
            sum += ((double)v[a] - c->w[i * c->cols + a]) * c->hess[a * c->cols + b] *
                   ((double)v[b] - c->w[i * c->cols + b]);
    return sum;
}

static double least_loss(const struct coarse *c, int i)
{
    double least = INFINITY;
    float v[LO_MOST];
    for (int all = 0; all < 1 << 2 * c->cols; all++) {
        for (int j = 0; j < c->cols; j++)
            v[j] = coarse_value(c, i, j, all >> 2 * j & 3);
        least = fmin(least, row_loss(c, i, v));
    }
    return least;
}

/* Codes: round to nearest. */
static void make_coarse(struct coarse *c, bool dense)
{
    for (int i = 0; i < LO_ROWS * LO_MOST; i++) {
        c->w[i] = (float)ptq_normal(11, (uint64_t)i);
        c->scale[i] = .5f + (float)(i % 5) / 8;
        c->zero[i] = (float)(1 + i % 2);
    }
    for (int a = 0; a < c->cols; a++)
        for (int b = 0; b < c->cols; b++) {
            double *h = &c->hess[a * c->cols + b];
            *h = a == b ? 1 + a : 0;
            for (int t = 0; dense && t < 8; t++)
                *h += ptq_normal(12, (uint64_t)(t * LO_MOST + a)) *
                      ptq_normal(12, (uint64_t)(t * LO_MOST + b));
        }
    for (int i = 0; i < LO_ROWS; i++)
        for (int j = 0; j < c->cols; j++) {
            const int g = group_of(c, i, j), at = i * c->cols + j;
            const double q = rint(c->w[at] / c->scale[g] + c->zero[g]);
            c->codes[at] = (uint16_t)(q < 0 ? 0 : q > LO_CODES - 1 ? LO_CODES - 1 : q);
            c->what[at] = coarse_value(c, i, j, c->codes[at]);
        }
}

static const struct ptq_value *loss_over_optimum(const struct coarse *c, struct ptq_value v[MOST],
                                                 struct ptq_arena *arena)
{
    static const uint8_t pairs[LO_ROWS * LO_MOST / 2];
    const int n_grids = c->groups ? LO_ROWS * c->groups : 1;
    struct ptq_status st = {0};
    struct ptq_layer_truth truth = {0};
    struct ptq_layer layer = {.name = "l",
                              .w = {c->w, LO_ROWS, c->cols, c->cols},
                              .hess = {c->hess, c->cols, c->cols, c->cols}};
    struct ptq_quant q = {LO_ROWS, c->cols, 1};
    q.part[0] = (struct ptq_part){.kind = PTQ_PART_UNIFORM,
                                  .bits = 2,
                                  .codes = c->codes,
                                  .group_cols = c->group,
                                  .groups_per_row = c->groups,
                                  .perm = c->perm,
                                  .scale = {PTQ_FMT_F32, 32, false, n_grids, c->scale},
                                  .zero = {PTQ_FMT_INT, 2, false, n_grids, c->zero}};
    if (!c->groups) { /* a grid without zeros: the constant */
        q.part[0].zero = (struct ptq_arr){.fmt = PTQ_FMT_NONE};
        q.part[0].zero_const = c->zero[0];
    }
    q.part[0].tree_levels = c->tree;
    q.part[0].tree_bits = c->tree ? pairs : NULL;
    if (c->rotated)
        q.part[0].rot = (struct ptq_arr){PTQ_FMT_F32, 32, false, c->cols * c->cols, c->w};
    if (c->divided)
        q.act.divisor = (struct ptq_arr){PTQ_FMT_F32, 32, false, c->cols, c->scale};
    ptq_arena_init(arena, 0);
    assert_ok(ptq_layer_truth_init(&truth, &layer, NULL, NULL, arena, &st), &st);
    assert_ok(ptq_metrics_layer_eval(&truth, &q, c->what, NULL, v, &st), &st);
    return value(v, "loss_over_optimum");
}

static void test_loss_over_optimum(void **state)
{
    (void)state;
    static const int32_t order[] = {3, 0, 4, 2, 1};
    const struct coarse shapes[] = {{.cols = 5, .group = 2, .groups = 3},
                                    {.cols = 5, .group = 2, .groups = 3, .perm = order},
                                    {.cols = 5, .group = 5, .groups = 0},
                                    {.cols = 3, .group = 1, .groups = 3}};
    for (int k = 0; k < LENGTH(shapes); k++) {
        struct coarse c = shapes[k];
        struct ptq_value v[MOST];
        struct ptq_arena arena;
        double loss = 0, least = 0;
        make_coarse(&c, true);
        for (int i = 0; i < LO_ROWS; i++) {
            loss += row_loss(&c, i, c.what + i * c.cols);
            least += least_loss(&c, i);
        }
        assert_true(loss > 1.02 * least); /* rounding is not the best */
        assert_rel(loss_over_optimum(&c, v, &arena)->v, loss / least, 1e-5);
        ptq_arena_clear(&arena);
    }
}

/* 16 inputs are searched, and under a diagonal Hessian rounding is the best there is. A Hessian
 * that is not positive definite has no search. */
static void test_loss_over_optimum_edges(void **state)
{
    (void)state;
    struct coarse c = {.cols = LO_MOST, .group = 4, .groups = 4};
    struct ptq_value v[MOST];
    struct ptq_arena arena;
    make_coarse(&c, false);
    assert_rel(loss_over_optimum(&c, v, &arena)->v, 1, 1e-5);
    ptq_arena_clear(&arena);
    c.hess[0] = -1;
    assert_string_equal(loss_over_optimum(&c, v, &arena)->reason,
                        "the Hessian is not positive definite");
    ptq_arena_clear(&arena);
}

/* Codes of a grid that is not the weights' own are not searched. */
static void test_loss_over_optimum_seen_another_way(void **state)
{
    (void)state;
    const struct coarse shapes[] = {{.cols = 4, .group = 2, .groups = 2, .tree = true},
                                    {.cols = 4, .group = 2, .groups = 2, .rotated = true},
                                    {.cols = 4, .group = 2, .groups = 2, .divided = true}};
    for (int k = 0; k < LENGTH(shapes); k++) {
        struct coarse c = shapes[k];
        struct ptq_value v[MOST];
        struct ptq_arena arena;
        make_coarse(&c, true);
        const struct ptq_value *it = loss_over_optimum(&c, v, &arena);
        assert_non_null(it->reason);
        assert_string_equal(it->reason, "not one uniform grid");
        ptq_arena_clear(&arena);
    }
}

/* What = W stores no error: no bound, and nothing to be the best of. */
static void test_no_loss(void **state)
{
    (void)state;
    struct coarse c = {.cols = 4, .group = 2, .groups = 2};
    struct ptq_value v[MOST];
    struct ptq_arena arena;
    make_coarse(&c, true);
    memcpy(c.w, c.what, sizeof c.w);
    assert_string_equal(loss_over_optimum(&c, v, &arena)->reason, "the best codes have no loss");
    assert_string_equal(value(v, "excess_bits")->reason, "no loss: the bound is infinite");
    ptq_arena_clear(&arena);
}

/* What = W / 2: dW = -W / 2, so every relative error is 1/4 and every cosine 1, under any Hessian.
 */
static void test_layer_closed_form(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    for (int i = 0; i < ROWS * COLS; i++)
        f.what[i] = f.w[i] / 2;
    f.heldout.hess_sink = f.layer.hess_sink;
    f.heldout.hess_rest = f.layer.hess_rest;
    evaluate(&f, true);
    static const char *const quarters[] = {"w_relerr",
                                           "out_relerr",
                                           "out_relerr_nosink",
                                           "out_relerr_heldout",
                                           "out_relerr_heldout_nosink",
                                           "out_relerr_tok"};
    for (int i = 0; i < LENGTH(quarters); i++)
        assert_rel(value(f.v, quarters[i])->v, .25, 1e-12);
    assert_rel(value(f.v, "w_sqnr_db")->v, 6.020599913279624, 1e-14); /* 10 log10 4 */
    assert_rel(value(f.v, "out_cos")->v, 1, 1e-14);
    teardown(&f);
}

static void check_absent(const struct fixture *f, const char *id, const char *part)
{
    const struct ptq_value *v = value(f->v, id);
    if (!isnan(v->v) || !v->reason || !strstr(v->reason, part))
        fail_msg("%s: %g, reason %s; expected ...%s...", id, v->v, v->reason ? v->reason : "(none)",
                 part);
}

static void test_layer_absences(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    f.layer.hess.at = f.layer.hess_sink.at = f.layer.hess_rest.at = NULL;
    evaluate(&f, false);
    check_absent(&f, "out_relerr", "no calibration Hessian");
    check_absent(&f, "proxy_loss", "no calibration Hessian");
    check_absent(&f, "out_relerr_nosink", "no sink class");
    check_absent(&f, "out_relerr_heldout", "no held-out Hessian");
    check_absent(&f, "out_relerr_tok", "no held-out activations");
    check_absent(&f, "out_cos", "no held-out activations");
    teardown(&f);
    setup(&f);
    memset(f.hess, 0, sizeof f.hess);
    memset(f.held, 0, sizeof f.held);
    evaluate(&f, true);
    check_absent(&f, "out_relerr", "zero under this Hessian");
    check_absent(&f, "out_relerr_tok", "zero");
    check_absent(&f, "out_cos", "no held-out token has an output");
    assert_true(value(f.v, "proxy_loss")->v == 0);
    teardown(&f);
    setup(&f);
    memset(f.w, 0, sizeof f.w);
    memset(f.what, 0, sizeof f.what);
    evaluate(&f, false);
    check_absent(&f, "w_relerr", "all zero");
    check_absent(&f, "w_sqnr_db", "all zero");
    teardown(&f);
    setup(&f);
    memcpy(f.what, f.w, sizeof f.w);
    evaluate(&f, false);
    check_absent(&f, "w_sqnr_db", "exact");
    assert_true(value(f.v, "w_mse")->v == 0 && value(f.v, "out_relerr")->v == 0);
    teardown(&f);
}

/* ---- models */

struct model_case {
    struct ptq_text text;
    struct ptq_eval fp, q;
    struct ptq_model_info info;
    struct ptq_model_eval e;
    struct ptq_value v[MOST];
    double nll_fp[4], nll_q[4], kl[255 * 4];
    int64_t n[4];
    uint8_t hit[255 * 4];
};

static void model_setup(struct model_case *c)
{
    static const double fp[4] = {.20, .25, .30, .25}, q[4] = {.21, .27, .30, .28};
    memset(c, 0, sizeof *c);
    memcpy(c->nll_fp, fp, sizeof fp);
    memcpy(c->nll_q, q, sizeof q);
    for (int i = 0; i < 4; i++)
        c->n[i] = 255;
    for (int i = 0; i < 1020; i++)
        c->kl[(i * 7) % 1020] = i / 1019.0; /* a permutation of 0, 1/1019, ..., 1 */
    c->text.bytes_per_token = 1;
    c->fp = (struct ptq_eval){.text = &c->text,
                              .n_windows = 4,
                              .n_scored = 1020,
                              .nll_window = c->nll_fp,
                              .n_window = c->n,
                              .hit = c->hit};
    c->q = c->fp;
    c->q.nll_window = c->nll_q;
    c->q.kl = c->kl;
    c->q.reference = &c->fp;
    c->q.top1_agree = .875;
    c->info.n_params = 1000;
    c->e = (struct ptq_model_eval){&c->q, &c->info, 2400, 600, 6400, 3, 3.5};
}

static void model_evaluate(struct model_case *c)
{
    struct ptq_status st = {0};
    assert_ok(ptq_metrics_model_eval(&c->e, c->v, &st), &st);
}

/* By hand: means .25 and .265; differences .01 .02 0 .03: mean .015, deviation .0129099 (variance
 * 5/3 * 1e-4), half width t_3(.975) = 3.182446305 (table) * .0129099 / 2. */
static void test_model_by_hand(void **state)
{
    (void)state;
    struct model_case c;
    model_setup(&c);
    model_evaluate(&c);
    const double half = 3.182446305284263 * sqrt(5e-4 / 3) / 2;
    assert_rel(value(c.v, "nll")->v, .265, 1e-14);
    assert_rel(value(c.v, "nll")->lo, .265 - half, 1e-9);
    assert_rel(value(c.v, "ppl")->v, exp(.265), 1e-14);
    assert_rel(value(c.v, "ppl")->hi, exp(.265 + half), 1e-9);
    assert_rel(value(c.v, "bpb")->v, .265 / log(2), 1e-14);
    assert_rel(value(c.v, "bpb")->hi, (.265 + half) / log(2), 1e-9);
    assert_rel(value(c.v, "dnll")->v, .015, 1e-12);
    assert_rel(value(c.v, "dnll")->lo, .015 - half, 1e-8);
    assert_rel(value(c.v, "dnll")->hi, .015 + half, 1e-8);
    assert_rel(value(c.v, "kl_mean")->v, .5, 1e-14);
    assert_rel(value(c.v, "kl_median")->v, .5, 1e-14);
    assert_rel(value(c.v, "kl_p99")->v, .99, 1e-14);
    assert_rel(value(c.v, "kl_max")->v, 1, 0);
    assert_rel(value(c.v, "top1_agree")->v, .875, 0);
    assert_rel(value(c.v, "bits_stored")->v, 4, 0);
    assert_rel(value(c.v, "bits_nominal")->v, 3, 0);
    assert_rel(value(c.v, "bits_paper")->v, 3.5, 0);
    assert_rel(value(c.v, "bits_model")->v, 8.8, 1e-15);
    assert_true(isnan(value(c.v, "w_mse")->v) && !value(c.v, "w_mse")->reason);
    assert_non_null(value(c.v, "fact_recall")->reason);
}

/* Unequal windows: the mean is over tokens; splitting hairs of weight: a window of one token
 * counts for nothing. */
static void test_model_unequal_windows(void **state)
{
    (void)state;
    struct model_case c;
    model_setup(&c);
    c.n[0] = 100;
    c.n[1] = 300;
    c.n[2] = 0;
    c.nll_fp[2] = c.nll_q[2] = NAN;
    c.n[3] = 500;
    c.q.n_scored = c.fp.n_scored = 900;
    model_evaluate(&c);
    const double mean = (.01 * 100 + .02 * 300 + .03 * 500) / 900;
    assert_rel(value(c.v, "dnll")->v, mean, 1e-12);
    /* sandwich: sum of (D_w - mean n_w)^2 * k / (k - 1) over N^2, k = 3, t_2(.975) = 4.302652730
     * (table) */
    const double r[3] = {(.01 - mean) * 100, (.02 - mean) * 300, (.03 - mean) * 500};
    const double se = sqrt((r[0] * r[0] + r[1] * r[1] + r[2] * r[2]) * 1.5) / 900;
    assert_rel(value(c.v, "dnll")->hi - mean, 4.302652729749462 * se, 1e-8);
}

static void test_model_absences(void **state)
{
    (void)state;
    struct model_case c;
    static const char *const relative[] = {"dnll",   "kl_mean", "kl_median",
                                           "kl_p99", "kl_max",  "top1_agree"};
    model_setup(&c);
    c.q.reference = NULL;
    c.q.kl = NULL;
    c.text.bytes_per_token = NAN;
    c.e.n_quantized_weights = 0;
    model_evaluate(&c);
    for (int i = 0; i < LENGTH(relative); i++)
        assert_string_equal(value(c.v, relative[i])->reason, "no full-precision reference");
    assert_non_null(value(c.v, "bpb")->reason);
    assert_non_null(value(c.v, "bits_stored")->reason);
    assert_rel(value(c.v, "nll")->v, .265, 1e-14);
    assert_true(isnan(value(c.v, "nll")->lo));
    model_setup(&c);
    c.nll_q[1] = INFINITY;
    c.kl[5] = NAN;
    model_evaluate(&c);
    assert_string_equal(value(c.v, "ppl")->reason, "infinite");
    assert_non_null(value(c.v, "kl_mean")->reason);
    assert_non_null(value(c.v, "kl_p99")->reason);
}

/* A fact counts when all its bytes hit; a copied digit is no fact. Byte t is the (t - 1)-th scored
 * position of its window. */
static void test_spans(void **state)
{
    (void)state;
    struct model_case c;
    struct ptq_facts_window w[4];
    model_setup(&c);
    memset(w, 0, sizeof w);
    c.text.facts = w;
    for (int s = 0; s < 4; s++) {
        w[s].n_spans = 3;
        w[s].span[0] = (struct ptq_facts_span){0, 10, 14};
        w[s].span[1] = (struct ptq_facts_span){5, 1, 2};
        w[s].span[2] = (struct ptq_facts_span){PTQ_FACTS_COPY, 255, 256};
    }
    memset(c.hit, 1, sizeof c.hit);
    model_evaluate(&c);
    assert_true(value(c.v, "fact_recall")->v == 1 && value(c.v, "copy_accuracy")->v == 1);
    c.hit[0] = 0;               /* byte 1 of window 0: its second span */
    c.hit[255 + 13 - 1] = 0;    /* last byte of window 1's first span */
    c.hit[255 + 14 - 1] = 0;    /* behind it */
    c.hit[2 * 255 + 9 - 1] = 0; /* before window 2's first span */
    c.hit[3 * 255 + 254] = 0;   /* the last position of all: a copy */
    model_evaluate(&c);
    assert_rel(value(c.v, "fact_recall")->v, 6 / 8., 0);
    assert_rel(value(c.v, "copy_accuracy")->v, 3 / 4., 0);
    for (int s = 0; s < 4; s++)
        w[s].n_spans = 2;
    model_evaluate(&c);
    assert_non_null(value(c.v, "copy_accuracy")->reason);
}

static void test_registry(void **state)
{
    (void)state;
    int n;
    const struct ptq_metric_entry *m = ptq_metrics(&n);
    assert_true(n >= 26);
    for (int i = 0; i < n; i++) {
        assert_true(i == 0 || strcmp(m[i - 1].metric->id, m[i].metric->id) < 0);
        assert_true(m[i].metric->layer || m[i].metric->model);
        assert_true(*m[i].metric->title && m[i].metric->unit && strlen(m[i].version) == 16);
        assert_ptr_equal(ptq_metric_find(m[i].metric->id), m[i].metric);
    }
    assert_null(ptq_metric_find("nothing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layer_against_loops),
        cmocka_unit_test(test_layer_bits),
        cmocka_unit_test(test_layer_excess_bits),
        cmocka_unit_test(test_loss_over_optimum),
        cmocka_unit_test(test_loss_over_optimum_edges),
        cmocka_unit_test(test_loss_over_optimum_seen_another_way),
        cmocka_unit_test(test_no_loss),
        cmocka_unit_test(test_layer_closed_form),
        cmocka_unit_test(test_layer_absences),
        cmocka_unit_test(test_model_by_hand),
        cmocka_unit_test(test_model_unequal_windows),
        cmocka_unit_test(test_model_absences),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_registry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
