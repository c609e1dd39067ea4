/* Identities of methods.md 8.4.1 and 8.4.8 against the textbook recursion written plainly here,
 * in double: H^-1 = U^T U (U upper), e = (w - q) / U_kk, w_j -= e U_kj; and properties of
 * layers, sessions and Hessians. */
#include "quant_lib.h"
#include "quant/ctx.h"
#include <stdatomic.h>

/* The double names of ptq.h, which declares the float ones here. */
void ptq_grid_fit_hess_f64(const struct ptq_cell *, const double *x, int64_t n, int64_t stride,
                           const double *h, int64_t ldh, double *scratch, struct ptq_grid_fit *);
struct ptq_factor_f64;
int ptq_factor_get_f64(struct ptq_ctx *, const struct ptq_layer *, const struct ptq_factor_args *,
                       const struct ptq_factor_f64 **);
struct ptq_factor_f64 {
    int64_t n;
    const double *m, *d;
    const int32_t *perm;
    const uint8_t *dead;
    double lambda;
    int retries;
    int64_t n_dead;
};

enum { ROWS = 40, COLS = 150, DEAD = 3 };

static int setup_layer(void **state)
{
    int rc = setup(state);
    struct fixture *f = *state;
    if (!rc)
        synthetic_layer(&f->arena, ROWS, COLS, DEAD, &f->layer);
    return rc;
}

/* ---- the textbook ---- */

struct textbook {
    bool act_order, static_groups, reference;
    int block;
    double percdamp, loss; /* loss: sum over k of e_k^2, e = (w - q) / U_kk */
    double lambda;
    int n_clipped;
    int perm[COLS];
    double h[COLS][COLS]; /* permuted, damped */
    double u[COLS][COLS];
    double w[ROWS][COLS];
    uint16_t codes[ROWS * COLS]; /* original order */
};

/* H = L L^T, H^-1 = L^-T L^-1, then H^-1 = L2 L2^T and U = L2^T. */
static void inverse_factor(struct textbook *t)
{
    enum { N = COLS };
    static double l[N][N], li[N][N], inv[N][N];
    memset(l, 0, sizeof l);
    memset(li, 0, sizeof li);
    for (int pass = 0; pass < 2; pass++) {
        memset(l, 0, sizeof l);
        for (int j = 0; j < N; j++)
            for (int i = j; i < N; i++) {
                double s = pass ? inv[i][j] : t->h[i][j];
                for (int k = 0; k < j; k++)
                    s -= l[i][k] * l[j][k];
                l[i][j] = i == j ? sqrt(s) : s / l[j][j];
            }
        if (pass)
            break;
        for (int j = 0; j < N; j++)
            for (int i = j; i < N; i++) {
                double s = i == j;
                for (int k = j; k < i; k++)
                    s -= l[i][k] * li[k][j];
                li[i][j] = s / l[i][i];
            }
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                inv[i][j] = 0;
                for (int k = i > j ? i : j; k < N; k++)
                    inv[i][j] += li[k][i] * li[k][j];
            }
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            t->u[i][j] = l[j][i];
}

static void textbook_hessian(struct textbook *t, const struct ptq_layer *l)
{
    double diag[COLS], live = 0, mean = 0;
    int n_live = 0;
    for (int j = 0; j < COLS; j++) {
        diag[j] = l->hess.at[j * l->hess.ld + j];
        live += diag[j];
        n_live += diag[j] != 0;
    }
    for (int j = 0; j < COLS; j++) {
        if (diag[j] == 0)
            diag[j] = t->reference ? l->n_sequences / l->n_tokens : live / n_live;
        t->perm[j] = j;
        mean += diag[j] / COLS;
    }
    t->lambda = t->percdamp * mean;
    for (int i = 1; t->act_order && i < COLS; i++) /* insertion sort: stable */
        for (int j = i; j > 0 && diag[t->perm[j - 1]] < diag[t->perm[j]]; j--) {
            int p = t->perm[j];
            t->perm[j] = t->perm[j - 1];
            t->perm[j - 1] = p;
        }
    for (int i = 0; i < COLS; i++)
        for (int j = 0; j < COLS; j++) {
            int a = t->perm[i], b = t->perm[j];
            t->h[i][j] = a == b ? diag[a] + t->lambda : l->hess.at[a * l->hess.ld + b];
        }
}

/* Columns of x: column[0 .. n - 1], for the block of H. */
static struct ptq_grid_fit fit_row(const struct ptq_cell *c, const struct ptq_layer *l,
                                   const double *x, const int *column, int n)
{
    static double h[COLS * COLS], scratch[COLS * PTQ_HESS_LANES];
    struct ptq_grid_fit g;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            h[i * n + j] = l->hess.at[column[i] * l->hess.ld + column[j]];
    ptq_grid_fit_hess_f64(c, x, n, 1, h, n, scratch, &g);
    return g;
}

/* One row, as the published code goes: grids from `outer`, which is refreshed at block ends. */
static void textbook_row(struct textbook *t, const struct ptq_layer *l, const struct ptq_cell *c,
                         int row)
{
    const float *w0 = l->w.at + row * l->w.ld;
    double orig[COLS], w[COLS], outer[COLS];
    int natural[COLS];
    int g = c->group_size > 0 ? (int)c->group_size : COLS, maxq = (1 << c->w_bits) - 1;
    struct ptq_grid_fit fit = {0};
    for (int j = 0; j < COLS; j++) {
        orig[j] = (double)w0[j];
        natural[j] = j;
    }
    if (c->group_size <= 0)
        fit = fit_row(c, l, orig, natural, COLS);
    for (int j = 0; j < COLS; j++)
        if (l->hess.at[j * l->hess.ld + j] == 0)
            orig[j] = 0;
    for (int k = 0; k < COLS; k++)
        w[k] = outer[k] = orig[t->perm[k]];
    for (int k = 0; k < COLS; k++) {
        if (k % t->block == 0)
            memcpy(outer, w, sizeof w);
        if (c->group_size > 0 && t->static_groups) {
            int at = t->perm[k] / g * g;
            fit = fit_row(c, l, orig + at, natural + at, COLS - at < g ? COLS - at : g);
        } else if (c->group_size > 0 && k % g == 0) {
            fit = fit_row(c, l, outer + k, t->perm + k, COLS - k < g ? COLS - k : g);
        }
        double unclipped = rint(w[k] / (double)fit.scale) + (double)fit.zero;
        int code = (int)fmin(fmax(unclipped, 0), maxq);
        t->n_clipped += unclipped != code;
        double e = (w[k] - (double)ptq_grid_value(&fit, code)) / t->u[k][k];
        t->loss += e * e;
        t->codes[row * COLS + t->perm[k]] = (uint16_t)code;
        for (int j = k; j < COLS; j++)
            w[j] -= e * t->u[k][j];
    }
}

static void textbook_run(struct textbook *t, const struct ptq_layer *l, const struct ptq_cell *c)
{
    textbook_hessian(t, l);
    inverse_factor(t);
    t->loss = 0;
    t->n_clipped = 0;
    for (int i = 0; i < ROWS; i++)
        textbook_row(t, l, c, i);
}

/* Codes of every variant of groups, and the loss identity: sum of e^2 = dW H dW^T with the
 * damped, permuted H (dead weights at 0). */
static void codes_of_the_textbook(void **state)
{
    struct fixture *f = *state;
    static struct textbook t;
    const struct {
        const char *spec;
        bool act, stat;
        int block;
        int64_t group;
        int bits;
        bool sym;
        enum ptq_grid grid;
    } cases[] = {
        {"gptq", true, true, 128, -1, 3, false},
        {"gptq:act_order=0", false, true, 128, 32, 3, false},
        {"gptq", true, true, 128, 32, 2, false},
        {"gptq", true, true, 128, 150, 4, false},
        {"gptq:static_groups=0:stale_scales=1:act_order=0", false, false, 128, 32, 3, false},
        {"gptq:static_groups=0:stale_scales=1:act_order=0", false, false, 128, 48, 2, false},
        {"gptq:static_groups=0:stale_scales=1:act_order=0", false, false, 128, 140, 4, false},
        {"gptq:static_groups=0:stale_scales=1:act_order=0:block=20", false, false, 20, 48, 3,
         false},
        {"gptq:static_groups=0:stale_scales=1:act_order=1:block=64", true, false, 64, 16, 3, true},
        {"gptq:static_groups=0:act_order=0", false, false, 1, 32, 3, false},
        {"gptq:static_groups=0:act_order=0", false, false, 1, 48, 2, false},
        {"gptq:static_groups=0:act_order=0", false, false, 1, 48, 3, true},
        {"gptq:static_groups=0:act_order=1", true, false, 1, 100, 4, false},
        {"gptq:percdamp=0.1:dead=reference:act_order=0", false, true, 128, 64, 8, false},
        {"gptq", true, true, 128, -1, 2, false, PTQ_GRID_HESS},
        {"gptq", true, true, 128, 48, 3, true, PTQ_GRID_HESS},
        {"gptq:static_groups=0:act_order=1", true, false, 1, 32, 2, false, PTQ_GRID_HESS},
        {"gptq-paper:act_order=1:dead=mean", true, false, 128, 48, 2, false, PTQ_GRID_HESS},
        {"gptq-paper:dead=mean", false, false, 128, 48, 3, false, PTQ_GRID_MSE},
    };
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        struct ptq_result r;
        struct run_args a = {&f->layer, cases[i].spec, cell_of(cases[i].bits, cases[i].group),
                             PTQ_DOUBLE_PRECISION, NULL};
        a.cell.sym = cases[i].sym;
        a.cell.grid = cases[i].grid;
        t.act_order = cases[i].act;
        t.static_groups = cases[i].stat;
        t.block = cases[i].block;
        t.reference = strstr(cases[i].spec, "reference") != NULL;
        t.percdamp = strstr(cases[i].spec, "0.1") ? 0.1 : 0.01;
        textbook_run(&t, &f->layer, &a.cell);
        assert_ok(run_cell(&a, &r, &f->st), &f->st);
        int64_t different = count_different(r.quant.part[0].codes, t.codes, ROWS * COLS);
        if (different)
            fail_msg("%s g%lld: %lld codes differ", cases[i].spec, (long long)a.cell.group_size,
                     (long long)different);
        double loss = 0;
        for (int row = 0; row < ROWS; row++)
            for (int p = 0; p < COLS; p++)
                for (int q = 0; q < COLS; q++) {
                    int jp = t.perm[p], jq = t.perm[q];
                    double wp = f->layer.hess.at[jp * COLS + jp] == 0
                                    ? 0
                                    : (double)f->layer.w.at[row * COLS + jp];
                    double wq = f->layer.hess.at[jq * COLS + jq] == 0
                                    ? 0
                                    : (double)f->layer.w.at[row * COLS + jq];
                    loss += (wp - (double)r.what[row * COLS + jp]) * t.h[p][q] *
                            (wq - (double)r.what[row * COLS + jq]);
                }
        assert_rel(loss, t.loss, 1e-9);
        assert_true(note_of(&r, "n_dead") == DEAD && note_of(&r, "retries") == 0);
        assert_rel(note_of(&r, "damping"), t.lambda, 1e-12);
        assert_true(note_of(&r, "n_clipped") == t.n_clipped);
        ptq_result_release(&r);
    }
}

/* D_k = 1 / U_kk^2; M diag(D) M^T is the permuted damped H again; no_hess factors the identity. */
static void feedback_matrix(void **state)
{
    struct fixture *f = *state;
    static struct textbook t;
    const struct ptq_factor_f64 *m;
    struct ptq_factor_cache *cache;
    assert_ok(ptq_factor_cache_new(&cache, &f->st), &f->st);
    struct ptq_ctx ctx = {.cache = cache, .st = &f->st, .lock = PTHREAD_MUTEX_INITIALIZER};
    for (int order = 0; order < 2; order++) {
        struct ptq_factor_args args = {.percdamp = 0.01, .act_order = order};
        t = (struct textbook){.act_order = order, .percdamp = 0.01};
        textbook_hessian(&t, &f->layer);
        inverse_factor(&t);
        assert_ok(ptq_factor_get_f64(&ctx, &f->layer, &args, &m), &f->st);
        for (int k = 0; k < COLS; k++) {
            assert_int_equal(m->perm[k], t.perm[k]);
            assert_rel(m->d[k], 1 / (t.u[k][k] * t.u[k][k]), 1e-10);
            assert_true(m->m[k * COLS + k] == 1 && (k == 0 || m->m[k * COLS + k - 1] == 0));
        }
        for (int i = 0; i < COLS; i += 7)
            for (int j = i; j < COLS; j += 5) {
                double sum = 0;
                for (int k = j; k < COLS; k++)
                    sum += m->m[i * COLS + k] * m->d[k] * m->m[j * COLS + k];
                assert_true(fabs(sum - t.h[i][j]) < 1e-12 * t.h[i][i] * COLS);
            }
    }
    struct ptq_factor_args none = {.percdamp = 0.5, .no_hess = true};
    assert_ok(ptq_factor_get_f64(&ctx, &f->layer, &none, &m), &f->st);
    assert_true(m->d[3] == sqrt(1.5) * sqrt(1.5) && m->m[3] == 0 && m->n_dead == 0);
    ptq_factor_cache_free(cache);
}

/* 8.4.8: a Hessian whose diagonal descends gives act-order the identity; static groups with g =
 * n are rows; without stale scales blocks decide nothing, which is why gptq's normalise may set
 * them. */
static void same_codes(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    synthetic_layer(&f->arena, ROWS, COLS, 0, &l);
    double *h = (double *)(uintptr_t)l.hess.at;
    double d[COLS];
    for (int j = 0; j < COLS; j++)
        d[j] = sqrt((1000.0 - j) / h[j * COLS + j]);
    for (int i = 0; i < COLS; i++)
        for (int j = 0; j < COLS; j++)
            h[i * COLS + j] *= d[i] * d[j];
    const struct {
        const char *a, *b;
        int64_t ga, gb, block_a, block_b;
    } pairs[] = {
        {"gptq:act_order=1", "gptq:act_order=0", 32, 32},
        {"gptq:act_order=1:static_groups=0", "gptq:act_order=0:static_groups=0", 48, 48},
        {"gptq:static_groups=1", "gptq:static_groups=1", COLS, -1},
        {"gptq:static_groups=0", "gptq:static_groups=1", COLS, -1},
        {"gptq", "gptq", 32, 32, 1, 128},
        {"gptq:static_groups=0:act_order=0", "gptq:static_groups=0:act_order=0", 32, 32, 1, 128},
        {"gptq", "gptq", -1, -1, 7, 4096},
    };
    for (int64_t i = 0; i < LENGTH(pairs); i++)
        for (int bits = 2; bits <= 4; bits++) {
            struct ptq_result ra, rb;
            struct run_args a = {&l, pairs[i].a, cell_of(bits, pairs[i].ga), PTQ_DOUBLE_PRECISION,
                                 NULL},
                            b = a;
            b.spec = pairs[i].b;
            b.cell.group_size = pairs[i].gb;
            a.block = pairs[i].block_a;
            b.block = pairs[i].block_b;
            assert_ok(run_cell(&a, &ra, &f->st), &f->st);
            assert_ok(run_cell(&b, &rb, &f->st), &f->st);
            assert_int_equal(
                count_different(ra.quant.part[0].codes, rb.quant.part[0].codes, ROWS * COLS), 0);
            ptq_result_release(&ra);
            ptq_result_release(&rb);
        }
}

/* Blocks do decide codes with stale scales: the pair that must differ. */
static void stale_depends_on_the_block(void **state)
{
    struct fixture *f = *state;
    struct ptq_result ra, rb;
    struct run_args a = {&f->layer, "gptq-paper:block=1", cell_of(2, 32), PTQ_DOUBLE_PRECISION,
                         NULL},
                    b = a;
    b.spec = "gptq-paper:block=128";
    assert_ok(run_cell(&a, &ra, &f->st), &f->st);
    assert_ok(run_cell(&b, &rb, &f->st), &f->st);
    assert_true(count_different(ra.quant.part[0].codes, rb.quant.part[0].codes, ROWS * COLS) >
                ROWS);
    ptq_result_release(&ra);
    ptq_result_release(&rb);
}

/* H = I (scaled): no feedback, so the codes of RTN; every kind of group, both precisions. */
static void identity_hessian_is_rtn(void **state)
{
    struct fixture *f = *state;
    double *h = ptq_arena_alloc(&f->arena, &f->st, COLS * COLS, sizeof *h);
    for (int j = 0; j < COLS; j++)
        h[j * COLS + j] = 3;
    struct ptq_layer l = f->layer;
    l.hess.at = h;
    l.hess_key = 99;
    const char *specs[] = {"gptq", "gptq-paper", "gptq:static_groups=0",
                           "gptq:static_groups=0:act_order=0"};
    const int64_t groups[] = {-1, 0, 32, 64};
    for (int64_t s = 0; s < LENGTH(specs); s++)
        for (int64_t g = 0; g < LENGTH(groups); g++)
            for (int precision = 0; precision < 2; precision++) {
                struct ptq_result ra, rb;
                struct run_args a = {&l, specs[s], cell_of(3, groups[g]),
                                     (enum ptq_precision)precision, NULL},
                                b = a;
                a.cell.sym = b.cell.sym = g == 3;
                a.cell.scale_fmt = b.cell.scale_fmt = PTQ_FMT_F16;
                b.spec = "rtn";
                assert_ok(run_cell(&a, &ra, &f->st), &f->st);
                assert_ok(run_cell(&b, &rb, &f->st), &f->st);
                assert_int_equal(
                    count_different(ra.quant.part[0].codes, rb.quant.part[0].codes, ROWS * COLS),
                    0);
                assert_memory_equal(ra.what, rb.what, sizeof(float) * ROWS * COLS);
                ptq_result_release(&ra);
                ptq_result_release(&rb);
            }
}

/* GPTQ is better than RTN on its own objective; group scales are better than row scales. */
static void losses_in_order(void **state)
{
    struct fixture *f = *state;
    for (int bits = 2; bits <= 4; bits++) {
        double loss[3];
        const char *specs[] = {"rtn", "gptq", "gptq"};
        for (int k = 0; k < 3; k++) {
            struct ptq_result r;
            struct run_args a = {&f->layer, specs[k], cell_of(bits, k == 2 ? 32 : -1), PTQ_SINGLE,
                                 NULL};
            assert_ok(run_cell(&a, &r, &f->st), &f->st);
            loss[k] = loss_of(&f->layer, r.what);
            ptq_result_release(&r);
        }
        assert_true(loss[1] < 0.8 * loss[0] && loss[2] < 0.9 * loss[1]);
    }
}

/* Dead inputs: quantized to 0, counted, and without influence on the other codes whatever their
 * weights are. */
static void dead_inputs(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l = f->layer;
    float *w = ptq_arena_alloc(&f->arena, &f->st, ROWS * COLS, sizeof *w);
    memcpy(w, l.w.at, sizeof(float) * ROWS * COLS);
    for (int k = 0; k < DEAD; k++)
        for (int i = 0; i < ROWS; i++)
            w[i * COLS + 7 * k + 2] = 0.01f;
    l.w.at = w;
    struct ptq_result ra, rb;
    struct run_args a = {&f->layer, "gptq", cell_of(3, 32), PTQ_DOUBLE_PRECISION, NULL}, b = a;
    b.layer = &l;
    assert_ok(run_cell(&a, &ra, &f->st), &f->st);
    assert_ok(run_cell(&b, &rb, &f->st), &f->st);
    assert_memory_equal(ra.what, rb.what, sizeof(float) * ROWS * COLS);
    for (int k = 0; k < DEAD; k++)
        for (int i = 0; i < ROWS; i++)
            assert_true(ra.what[i * COLS + 7 * k + 2] == 0);
    ptq_result_release(&ra);
    ptq_result_release(&rb);
}

/* ---- retries and failures ---- */

/* Eight tokens for 150 inputs: rank 8. Damping saves it; without damping it is a failure that
 * says what to do. */
static void rank_deficient(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l = f->layer;
    struct ptq_result r;
    l.acts.rows = 8;
    l.hess_key = 5;
    assert_ok(ptq_hess_from_acts(NULL, &l.acts, PTQ_NORM_TOKEN, 0, PTQ_SINGLE, &f->arena, &l.hess,
                                 &f->st),
              &f->st);
    struct run_args a = {&l, "gptq", cell_of(4, -1), PTQ_SINGLE, NULL};
    assert_ok(run_cell(&a, &r, &f->st), &f->st);
    assert_true(note_of(&r, "damping") > 0);
    ptq_result_release(&r);
    a.spec = "gptq:percdamp=0";
    assert_int_equal(run_cell(&a, &r, &f->st), PTQ_ERR_NUMERIC);
    assert_status(&f->st, PTQ_ERR_NUMERIC, "raise percdamp");
    assert_null(r.what);
}

/* A Hessian with an eigenvalue of -2.5 dampings: two retries make it positive definite (1 + 2
 * dampings fail, 3 do not). */
static void retries_are_counted(void **state)
{
    struct fixture *f = *state;
    double *h = ptq_arena_alloc(&f->arena, &f->st, COLS * COLS, sizeof *h);
    for (int j = 0; j < COLS; j++)
        h[j * COLS + j] = 1; /* mean 1: a damping of 0.01 */
    h[1] = h[COLS] = 1.025;  /* eigenvalues 2.025 and -0.025 */
    struct ptq_layer l = f->layer;
    struct ptq_result r;
    l.hess.at = h;
    l.hess_key = 6;
    for (int precision = 0; precision < 2; precision++) {
        struct run_args a = {&l, "gptq", cell_of(4, -1), (enum ptq_precision)precision, NULL};
        assert_ok(run_cell(&a, &r, &f->st), &f->st);
        assert_true(note_of(&r, "retries") == 2);
        assert_rel(note_of(&r, "damping"), 0.03, 1e-12);
        ptq_result_release(&r);
    }
    h[1] = h[COLS] = 1.2; /* 11 dampings are not enough */
    l.hess_key = 7;
    struct run_args a = {&l, "gptq", cell_of(4, -1), PTQ_SINGLE, NULL};
    assert_int_equal(run_cell(&a, &r, &f->st), PTQ_ERR_NUMERIC);
    assert_status(&f->st, PTQ_ERR_NUMERIC, "10 retries");
}

static void bad_layers(void **state)
{
    struct fixture *f = *state;
    const struct {
        const char *message;
        int code;
    } cases[] = {
        {"weight: row 1, column 3 is nan", PTQ_ERR_NUMERIC},
        {"activations: row 0, column 2 is inf", PTQ_ERR_NUMERIC},
        {"hess: row 0, column 1 is nan", PTQ_ERR_NUMERIC},
        {"hess: diagonal element 2 is -1", PTQ_ERR_NUMERIC},
        {"all zero", PTQ_ERR_NUMERIC},
        {"not symmetric: (1, 0)", PTQ_ERR_NUMERIC},
        {"no sum of x x^T", PTQ_ERR_NUMERIC},
        {"hess is 3 x 3, the weight has 4 columns", PTQ_ERR_USAGE},
        {"activations have 3 columns", PTQ_ERR_USAGE},
        {"weight is absent", PTQ_ERR_USAGE},
    };
    for (int64_t k = 0; k < LENGTH(cases); k++) {
        float w[8] = {1, 2, 3, 4, 5, 6, 7, 8}, x[8] = {1, 1, 1, 1, 2, 2, 2, 2};
        double h[16] = {2, 1, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0};
        struct ptq_layer l = {
            .name = "l", .w = {w, 2, 4, 4}, .hess = {h, 4, 4, 4}, .acts = {x, 2, 4, 4}};
        ptq_status_clear(&f->st);
        assert_ok(ptq_layer_check(&l, "file.h5: l", &f->st), &f->st); /* a dead input is no error */
        switch (k) {
        case 0: w[7] = NAN; break;
        case 1: x[2] = INFINITY; break;
        case 2: h[1] = NAN; break;
        case 3: h[10] = -1; break;
        case 4: memset(h, 0, sizeof h); break;
        case 5: h[1] = 1.001; break;
        case 6: h[3] = h[12] = 0.5; break;
        case 7: l.hess.rows = l.hess.cols = 3; break;
        case 8: l.acts.cols = 3; break;
        case 9: l.w.at = NULL; break;
        }
        assert_int_equal(ptq_layer_check(&l, "file.h5: l", &f->st), cases[k].code);
        assert_status(&f->st, cases[k].code, cases[k].message);
        assert_non_null(strstr(f->st.text, "file.h5: l"));
    }
}

static void refused_cells(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer bare = f->layer;
    bare.hess.at = NULL;
    bare.acts.at = NULL;
    const struct {
        const struct ptq_layer *l;
        const char *spec;
        int bits;
        int64_t group;
        int code;
        const char *message;
    } cases[] = {
        {&f->layer, "rtn", 0, -1, PTQ_ERR_USAGE, "1 to 8"},
        {&f->layer, "rtn", 9, -1, PTQ_ERR_USAGE, "1 to 8"},
        {&f->layer, "rtn", 4, COLS + 1, PTQ_ERR_USAGE, "larger than the row"},
        {&f->layer, "rtn", 4, -2, PTQ_ERR_USAGE, "group_size"},
        {&bare, "gptq", 4, -1, PTQ_SKIP, "needs a Hessian"},
        {&bare, "rtn:grid=hess", 4, -1, PTQ_SKIP, "needs a Hessian"},
    };
    for (int64_t k = 0; k < LENGTH(cases); k++) {
        struct ptq_result r;
        struct run_args a = {cases[k].l, cases[k].spec, cell_of(cases[k].bits, cases[k].group),
                             PTQ_SINGLE, NULL};
        ptq_status_clear(&f->st);
        assert_int_equal(run_cell(&a, &r, &f->st), cases[k].code);
        assert_status(&f->st, cases[k].code, cases[k].message);
    }
    struct ptq_result r;
    struct run_args a = {&f->layer, "rtn", cell_of(1, -1), PTQ_SINGLE, NULL};
    a.cell.sym = true;
    a.cell.sym_kind = PTQ_SYM_ABSMAX;
    ptq_status_clear(&f->st);
    assert_int_equal(run_cell(&a, &r, &f->st), PTQ_SKIP);
    a = (struct run_args){&bare, "rtn", cell_of(4, -1), PTQ_SINGLE, NULL};
    ptq_status_clear(&f->st);
    assert_ok(run_cell(&a, &r, &f->st), &f->st); /* RTN needs no statistics */
    ptq_result_release(&r);
}

/* ---- sessions ---- */

/* The second cell finds the factor; another damping does not; layers that share hess_key share
 * factors (told by a layer that has the key of a Hessian ten times as large). */
static void prepared_once(void **state)
{
    struct fixture *f = *state;
    struct ptq_factor_cache *cache;
    struct ptq_session *s, *s2;
    struct ptq_spec spec, other;
    struct ptq_result r;
    struct ptq_layer twin = f->layer;
    double *h = ptq_arena_alloc(&f->arena, &f->st, COLS * COLS, sizeof *h);
    for (int i = 0; i < COLS * COLS; i++)
        h[i] = 10 * f->layer.hess.at[i];
    twin.hess.at = h;
    assert_ok(ptq_factor_cache_new(&cache, &f->st), &f->st);
    struct ptq_session_args args = {.layer = &f->layer, .cache = cache};
    struct ptq_cell c = cell_of(4, -1);
    assert_ok(ptq_session_new(&s, &args, &f->st), &f->st);
    args.layer = &twin;
    assert_ok(ptq_session_new(&s2, &args, &f->st), &f->st);
    assert_ok(ptq_spec_parse("gptq", &f->arena, &spec, &f->st), &f->st);
    assert_ok(ptq_spec_parse("gptq:percdamp=0.1", &f->arena, &other, &f->st), &f->st);
    double prepare_s[4], damping[4];
    for (int k = 0; k < 4; k++) {
        assert_ok(ptq_session_quantize(k == 3 ? s2 : s, k == 2 ? &other : &spec, &c, &r, &f->st),
                  &f->st);
        prepare_s[k] = r.prepare_s;
        damping[k] = note_of(&r, "damping");
        ptq_result_release(&r);
    }
    assert_true(prepare_s[0] > 0 && prepare_s[1] == 0 && prepare_s[2] > 0);
    assert_true(damping[1] == damping[0] && damping[3] == damping[0]);
    assert_rel(damping[2], 10 * damping[0], 1e-12);
    ptq_session_free(s);
    ptq_session_free(s2);
    ptq_factor_cache_free(cache);
}

/* Weights far above and far below what f16 scales reach: every scale ends at 65504 or at 2^-24, and
 * the harness says how many; f32 scales hold them. A fact of the form, so it is noted for every
 * method. */
static void saturated_scales(void **state)
{
    struct fixture *f = *state;
    static const char *const specs[] = {"rtn", "gptq"};
    static const float factors[] = {1, 1e9f, 1e-9f};
    float *w = ptq_arena_alloc(&f->arena, &f->st, ROWS * COLS, sizeof *w);
    for (int k = 0; k < 3; k++)
        for (int m = 0; m < 2; m++)
            for (int fmt = PTQ_FMT_F16; fmt <= PTQ_FMT_F32; fmt++) {
                struct ptq_layer l = f->layer;
                struct ptq_result r;
                struct run_args a = {&l, specs[m], cell_of(4, PTQ_GROUP_ROW), PTQ_SINGLE, NULL};
                a.cell.scale_fmt = (enum ptq_fmt)fmt;
                for (int i = 0; i < ROWS * COLS; i++)
                    w[i] = f->layer.w.at[i] * factors[k];
                l.w.at = w;
                assert_ok(run_cell(&a, &r, &f->st), &f->st);
                double noted = note_of(&r, "n_scale_saturated");
                if (k > 0 && fmt == PTQ_FMT_F16)
                    assert_true(noted == ROWS);
                else
                    assert_true(isnan(noted));
                ptq_result_release(&r);
            }
}

static void cancelled(void **state)
{
    struct fixture *f = *state;
    atomic_bool stop = true;
    struct ptq_session *s;
    struct ptq_spec spec;
    struct ptq_result r;
    struct ptq_session_args args = {.layer = &f->layer, .cancel = &stop};
    struct ptq_cell c = cell_of(4, -1);
    assert_ok(ptq_session_new(&s, &args, &f->st), &f->st);
    for (int k = 0; k < 2; k++) {
        assert_ok(ptq_spec_parse(k ? "rtn" : "gptq", &f->arena, &spec, &f->st), &f->st);
        assert_int_equal(ptq_session_quantize(s, &spec, &c, &r, &f->st), PTQ_ERR_CANCELLED);
        ptq_status_clear(&f->st);
    }
    ptq_session_free(s);
}

/* ---- Hessians from activations ---- */

static void hessians(void **state)
{
    struct fixture *f = *state;
    struct ptq_cdmat single, twice, seq;
    int64_t n = f->layer.acts.rows;
    assert_ok(ptq_hess_from_acts(NULL, &f->layer.acts, PTQ_NORM_TOKEN, 0, PTQ_SINGLE, &f->arena,
                                 &single, &f->st),
              &f->st);
    assert_ok(ptq_hess_from_acts(NULL, &f->layer.acts, PTQ_NORM_TOKEN, 0, PTQ_DOUBLE_PRECISION,
                                 &f->arena, &twice, &f->st),
              &f->st);
    assert_ok(ptq_hess_from_acts(NULL, &f->layer.acts, PTQ_NORM_SEQUENCE, 4, PTQ_DOUBLE_PRECISION,
                                 &f->arena, &seq, &f->st),
              &f->st);
    for (int i = 0; i < COLS; i += 13)
        for (int j = 0; j < COLS; j += 7) {
            double want = 0;
            for (int64_t t = 0; t < n; t++)
                want +=
                    (double)f->layer.acts.at[t * COLS + i] * (double)f->layer.acts.at[t * COLS + j];
            double scale = 1e-5 * (fabs(want) + (double)n);
            assert_true(fabs(twice.at[i * COLS + j] - 2 * want / (double)n) < 1e-7 * scale);
            assert_true(fabs(single.at[i * COLS + j] - 2 * want / (double)n) < scale);
            assert_true(fabs(seq.at[i * COLS + j] - 2 * want / 4) < 1e-4 * scale);
            assert_true(single.at[i * COLS + j] == single.at[j * COLS + i]);
        }
    assert_int_equal(ptq_hess_from_acts(NULL, &f->layer.acts, PTQ_NORM_SEQUENCE, 7, PTQ_SINGLE,
                                        &f->arena, &seq, &f->st),
                     PTQ_ERR_USAGE);
    ptq_status_clear(&f->st);
    const float large[] = {1, 2, 3, 1e20f}; /* finite, but 1e40 is no float */
    const struct ptq_cmat acts = {large, 2, 2, 2};
    assert_int_equal(
        ptq_hess_from_acts(NULL, &acts, PTQ_NORM_TOKEN, 0, PTQ_SINGLE, &f->arena, &seq, &f->st),
        PTQ_ERR_NUMERIC);
    assert_status(&f->st, PTQ_ERR_NUMERIC, "activations overflows at row 1, column 1");
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup_layer, teardown)
    const struct CMUnitTest tests[] = {
        T(codes_of_the_textbook),
        T(feedback_matrix),
        T(same_codes),
        T(stale_depends_on_the_block),
        T(identity_hessian_is_rtn),
        T(losses_in_order),
        T(dead_inputs),
        T(rank_deficient),
        T(retries_are_counted),
        T(bad_layers),
        T(refused_cells),
        T(prepared_once),
        T(saturated_scales),
        T(cancelled),
        T(hessians),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
