/* AWQ (methods.md 7.2 and 8.4.7): both searches against all candidates tried here, with a quantizer
 * written plainly, in double; where scales fold; the algebra. */
#include "quant_lib.h"
#include "quant/module.h"

enum { ROWS = 20, COLS = 48, GROUP = 16, GROUPS = COLS / GROUP, STEPS = 20, N_READERS = 3 };

static struct ptq_cell awq_cell(int bits)
{
    struct ptq_cell c = cell_of(bits, GROUP);
    c.zero_in_range = false; /* AWQ's own grid */
    return c;
}

static struct ptq_result run(struct fixture *f, const struct ptq_layer *l, const char *spec,
                             struct ptq_cell cell)
{
    struct ptq_result r;
    struct run_args a = {l, spec, cell, PTQ_DOUBLE_PRECISION, NULL};
    assert_ok(run_cell(&a, &r, &f->st), &f->st);
    return r;
}

/* ---- plainly ---- */

/* Asymmetric grid without 0 in the range, scale in fp32, of n values; out: stored values. */
static void round_group(const double *v, int n, int bits, float *out)
{
    double lo = v[0], hi = v[0], top = (1 << bits) - 1;
    for (int k = 1; k < n; k++) {
        lo = fmin(lo, v[k]);
        hi = fmax(hi, v[k]);
    }
    float scale = (float)((hi - lo) / top);
    double zero = rint(-lo / (double)scale);
    for (int k = 0; k < n; k++) {
        double code = fmin(fmax(rint(v[k] / (double)scale) + zero, 0), top);
        out[k] = scale * (float)(code - zero);
    }
}

static void divisor(const struct ptq_layer *l, int step, float s[COLS])
{
    double v[COLS], lo = INFINITY, hi = 0;
    for (int j = 0; j < COLS; j++) {
        double x = (double)l->x_absmean[j];
        v[j] = fmax(step ? (x > 0 ? exp(step / 20.0 * log(x)) : 0) : 1, 1e-4);
        lo = fmin(lo, v[j]);
        hi = fmax(hi, v[j]);
    }
    for (int j = 0; j < COLS; j++)
        s[j] = (float)(v[j] / sqrt(lo * hi));
}

/* What of the weights under a divisor. */
static void rounded(const struct ptq_layer *l, const float *s, int bits, float *what)
{
    for (int64_t i = 0; i < l->w.rows; i++)
        for (int g = 0; g < GROUPS; g++) {
            double v[GROUP];
            float *out = what + i * COLS + g * GROUP;
            for (int k = 0; k < GROUP; k++)
                v[k] = (double)l->w.at[i * COLS + g * GROUP + k] * (double)s[g * GROUP + k];
            round_group(v, GROUP, bits, out);
            for (int k = 0; k < GROUP; k++)
                out[k] /= s[g * GROUP + k];
        }
}

/* Best step by brute force for the sum of tr(dW H dW^T) over layers. */
static int best_step(const struct ptq_layer *const *layers, int n, int bits)
{
    static float what[ROWS * COLS];
    float s[COLS];
    double lowest = INFINITY;
    int best = -1;
    for (int step = 0; step < STEPS; step++) {
        double loss = 0;
        divisor(layers[0], step, s);
        for (int i = 0; i < n; i++) {
            rounded(layers[i], s, bits, what);
            loss += loss_of(layers[i], what);
        }
        if (loss < lowest) {
            lowest = loss;
            best = step;
        }
    }
    return best;
}

/* ---- layers ---- */

/* Inputs of unequal sizes, so that r > 0 pays; one is dead. */
static void salient_layer(struct fixture *f, uint64_t seed, struct ptq_layer *l)
{
    enum { TOKENS = 200 };
    float *w = ptq_arena_alloc(&f->arena, &f->st, ROWS * COLS, sizeof *w),
          *x = ptq_arena_alloc(&f->arena, &f->st, TOKENS * COLS, sizeof *x);
    for (int i = 0; i < ROWS * COLS; i++)
        w[i] = (float)(0.05 * ptq_normal(seed, (uint64_t)i));
    for (int i = 0; i < TOKENS * COLS; i++)
        x[i] = (float)(ptq_normal(52, (uint64_t)i) * exp(0.8 * ptq_normal(53, (uint64_t)i % COLS)) *
                       (i % COLS == 7    ? 8
                        : i % COLS == 30 ? 0
                                         : 1));
    *l = (struct ptq_layer){.name = "salient",
                            .block = -1,
                            .w = {w, ROWS, COLS, COLS},
                            .acts = {x, TOKENS, COLS, COLS},
                            .hess_norm = PTQ_NORM_TOKEN,
                            .n_tokens = TOKENS,
                            .n_sequences = 1,
                            .producer = PTQ_PRODUCER_LINEAR,
                            .role = PTQ_ROLE_DOWN};
    synthetic_ranges(&f->arena, l);
    assert_ok(ptq_hess_from_acts(NULL, &l->acts, PTQ_NORM_TOKEN, 0, PTQ_DOUBLE_PRECISION, &f->arena,
                                 &l->hess, &f->st),
              &f->st);
}

/* q, k and v of one input, with a module whose loss is what `pay` says. */
struct readers {
    struct ptq_layer at[N_READERS];
    const struct ptq_layer *all[N_READERS];
    struct ptq_module module;
    int n_calls, favourite;
};

/* How far the second candidate is from that of the favourite step. */
static int pay(void *arg, const struct ptq_layer *l, const float *const *candidate,
               struct ptq_pool *pool, double *loss, struct ptq_status *st)
{
    (void)pool;
    (void)st;
    static float what[N_READERS][ROWS * COLS];
    struct readers *r = arg;
    float s[COLS];
    divisor(l, r->favourite, s);
    *loss = 0;
    for (int i = 0; i < l->n_siblings; i++) {
        rounded(l->siblings[i], s, 3, what[i]);
        for (int k = 0; k < ROWS * COLS; k++)
            *loss += (i + 1) * fabs((double)candidate[i][k] - (double)what[i][k]);
    }
    r->n_calls++;
    return PTQ_OK;
}

static const char *input_name(void *arg, const struct ptq_layer *l)
{
    (void)arg;
    (void)l;
    return "input";
}

static void make_readers(struct fixture *f, struct readers *r)
{
    memset(r, 0, sizeof *r);
    r->module = (struct ptq_module){.loss = pay, .input = input_name, .arg = r};
    assert_ok(ptq_module_memo_new(&r->module.memo, &f->st), &f->st);
    for (int i = 0; i < N_READERS; i++) {
        salient_layer(f, 61 + (uint64_t)i, &r->at[i]);
        r->at[i].role = (enum ptq_role)(PTQ_ROLE_Q + i);
        r->at[i].producer = PTQ_PRODUCER_NORM;
        r->at[i].siblings = r->all;
        r->at[i].n_siblings = N_READERS;
        r->at[i].module = &r->module;
        r->all[i] = &r->at[i];
    }
}

/* ---- scales ---- */

static void best_exponent(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    int seen = 0;
    for (int k = 0; k < 6; k++) {
        int bits = 2 + k % 3, step;
        salient_layer(f, 71 + (uint64_t)k, &l);
        struct ptq_result r = run(f, &l, "awq:clip=0", awq_cell(bits)),
                          plain = run(f, &l, "awq:clip=0:scale=0", awq_cell(bits));
        step = best_step((const struct ptq_layer *[]){&l}, 1, bits);
        assert_true(note_of(&r, "exponent") == step / 20.0);
        assert_true(loss_of(&l, r.what) <= loss_of(&l, plain.what) * (1 + 1e-12));
        seen += step > 0;
        if (step > 0) {
            float s[COLS];
            divisor(&l, step, s);
            assert_true(r.quant.act.folds);
            for (int j = 0; j < COLS; j++)
                assert_rel((double)r.quant.act.divisor.at[j], (double)s[j], 1e-6);
        }
        ptq_result_release(&r);
        ptq_result_release(&plain);
    }
    assert_true(seen >= 4);
}

/* The objective `layer` adds the errors of all that read the input: one divisor for all. */
static void sum_over_readers(void **state)
{
    struct fixture *f = *state;
    struct readers r;
    make_readers(f, &r);
    int step = best_step(r.all, N_READERS, 3);
    for (int i = 0; i < N_READERS; i++) {
        struct ptq_result q = run(f, &r.at[i], "awq:objective=layer", awq_cell(3));
        assert_true(note_of(&q, "exponent") == step / 20.0);
        ptq_result_release(&q);
    }
    assert_int_equal(r.n_calls, 0);
    ptq_module_memo_free(r.module.memo);
}

/* The module's loss decides, asked once for each candidate of the three. */
static void module_decides(void **state)
{
    struct fixture *f = *state;
    const int favourites[] = {0, 3, 12, 19};
    for (int k = 0; k < 4; k++) {
        struct readers r;
        make_readers(f, &r);
        r.favourite = favourites[k];
        for (int i = 0; i < N_READERS; i++) {
            struct ptq_result q = run(f, &r.at[i], "awq", awq_cell(3));
            assert_true(note_of(&q, "exponent") == favourites[k] / 20.0);
            assert_true((q.quant.act.divisor.fmt != PTQ_FMT_NONE) == (favourites[k] > 0));
            ptq_result_release(&q);
        }
        assert_int_equal(r.n_calls, STEPS);
        ptq_module_memo_free(r.module.memo);
    }
}

static void output_unchanged(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    salient_layer(f, 72, &l);
    struct ptq_result r = run(f, &l, "awq", awq_cell(3));
    const float *s = r.quant.act.divisor.at;
    assert_non_null(s);
    for (int i = 0; i < ROWS; i++)
        for (int t = 0; t < 50; t++) {
            double plain = 0, divided = 0, size = 0;
            for (int j = 0; j < COLS; j++) {
                double w = (double)l.w.at[i * COLS + j], x = (double)l.acts.at[t * COLS + j];
                plain += w * x;
                divided += (w * (double)s[j]) * (x / (double)s[j]);
                size += fabs(w * x);
            }
            assert_true(fabs(plain - divided) <= 1e-12 * size);
        }
    ptq_result_release(&r);
}

/* ---- clipping ---- */

/* Mean squared error of a group's partial dot products with the tokens; x / s, W s. */
static double group_error(const struct ptq_layer *l, int i, int g, const float *value)
{
    double error = 0;
    for (int64_t t = 0; t < l->acts.rows; t++) {
        double sum = 0;
        for (int k = 0; k < GROUP; k++)
            sum += ((double)l->w.at[i * COLS + g * GROUP + k] - (double)value[k]) *
                   (double)l->acts.at[t * COLS + g * GROUP + k];
        error += sum * sum;
    }
    return error;
}

/* Values of the best of the ten limits on W s, divided back. */
static void best_clip(const struct ptq_layer *l, const float *s, int i, int g, int bits,
                      float *best)
{
    double v[GROUP], w[GROUP], most = 0, lowest = INFINITY;
    float out[GROUP];
    for (int k = 0; k < GROUP; k++)
        w[k] = (double)l->w.at[i * COLS + g * GROUP + k] * (double)s[g * GROUP + k];
    for (int k = 0; k < GROUP; k++)
        most = fmax(most, fabs(w[k]));
    for (int step = 0; step < 10; step++) {
        double limit = most * (1 - step / 20.0);
        for (int k = 0; k < GROUP; k++)
            v[k] = fmin(fmax(w[k], -limit), limit);
        round_group(v, GROUP, bits, out);
        for (int k = 0; k < GROUP; k++)
            out[k] /= s[g * GROUP + k];
        double error = group_error(l, i, g, out);
        if (error < lowest) {
            lowest = error;
            memcpy(best, out, sizeof out);
        }
    }
}

static void best_limits(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    salient_layer(f, 73, &l);
    for (int k = 0; k < 6; k++) {
        int bits = 2 + k % 3, better = 0;
        struct ptq_result r = run(f, &l, k < 3 ? "awq:scale=0" : "awq", awq_cell(bits)),
                          plain = run(f, &l, k < 3 ? "awq:scale=0:clip=0" : "awq:clip=0",
                                      awq_cell(bits));
        float s[COLS];
        divisor(&l, (int)lrint(STEPS * note_of(&r, "exponent")), s);
        assert_true((note_of(&r, "exponent") > 0) == (k >= 3));
        if (k >= 3)
            memcpy(s, r.quant.act.divisor.at, sizeof s);
        for (int i = 0; i < ROWS; i++)
            for (int g = 0; g < GROUPS; g++) {
                float want[GROUP];
                const float *got = r.what + i * COLS + g * GROUP;
                double with = group_error(&l, i, g, got),
                       without = group_error(&l, i, g, plain.what + i * COLS + g * GROUP);
                best_clip(&l, s, i, g, bits, want);
                assert_memory_equal(got, want, sizeof want);
                assert_true(with <= without);
                better += with < without;
            }
        assert_true(better > ROWS * GROUPS / 4 && note_of(&r, "n_clamped") > 0);
        ptq_result_release(&r);
        ptq_result_release(&plain);
    }
}

static void assert_same_form(const struct ptq_result *a, const struct ptq_result *b)
{
    char x[33], y[33];
    ptq_quant_hash(&a->quant, x);
    ptq_quant_hash(&b->quant, y);
    assert_string_equal(x, y);
}

/* q and k are not clipped; without both searches awq is rtn. */
static void without_searches(void **state)
{
    const struct {
        enum ptq_role role;
        const char *spec;
    } cases[] = {{PTQ_ROLE_Q, "awq:scale=0"},
                 {PTQ_ROLE_K, "awq:scale=0"},
                 {PTQ_ROLE_V, "awq:scale=0:clip=0"},
                 {PTQ_ROLE_DOWN, "awq:scale=0:clip=0"}};
    struct fixture *f = *state;
    struct ptq_layer l;
    salient_layer(f, 74, &l);
    for (int64_t k = 0; k < LENGTH(cases); k++)
        for (int c = 0; c < 6; c++) {
            struct ptq_cell cell = c % 2 ? awq_cell(3) : cell_of(4, c % 3 ? 20 : -1);
            cell.sym = c == 2;
            cell.grid = c < 3 ? PTQ_GRID_MINMAX : PTQ_GRID_MSE;
            l.role = cases[k].role;
            struct ptq_result a = run(f, &l, cases[k].spec, cell), b = run(f, &l, "rtn", cell);
            assert_same_form(&a, &b);
            ptq_result_release(&a);
            ptq_result_release(&b);
        }
}

/* ---- folding, refusals ---- */

static void folding(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    struct ptq_ledger ledger;
    salient_layer(f, 75, &l);
    l.producer = PTQ_PRODUCER_NONE;
    struct ptq_result r = run(f, &l, "awq", awq_cell(3)),
                      clip = run(f, &l, "awq:scale=0", awq_cell(3)),
                      store = run(f, &l, "awq:fold=store", awq_cell(3));
    assert_true(note_of(&r, "exponent") == 0 && r.quant.act.divisor.fmt == PTQ_FMT_NONE);
    assert_same_form(&r, &clip);
    assert_true(note_of(&store, "exponent") > 0 && !store.quant.act.folds);
    ptq_quant_ledger(&store.quant, &ledger);
    assert_true(ledger.divisor == 32.0 * COLS);
    l.role = PTQ_ROLE_Q; /* not clipped either */
    struct ptq_result nothing = run(f, &l, "awq", awq_cell(3));
    assert_true(note_of(&nothing, "took_nothing") == 1);
    assert_true(note_of(&clip, "n_clamped") > 0 && !(note_of(&clip, "took_nothing") == 1) &&
                !(note_of(&store, "took_nothing") == 1));
    ptq_result_release(&nothing);
    ptq_result_release(&r);
    ptq_result_release(&clip);
    ptq_result_release(&store);
}

static void refuses(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    struct ptq_result r;
    salient_layer(f, 76, &l);
    l.role = PTQ_ROLE_GATE;
    struct run_args a = {&l, "awq", awq_cell(3), PTQ_SINGLE, NULL};
    assert_int_equal(run_cell(&a, &r, &f->st), PTQ_SKIP);
    assert_status(&f->st, PTQ_SKIP, "awq-layer");
    ptq_status_clear(&f->st);
    a.spec = "awq-layer";
    assert_ok(run_cell(&a, &r, &f->st), &f->st);
    ptq_result_release(&r);
    a.spec = "awq";
    l.role = PTQ_ROLE_DOWN; /* scored by itself */
    assert_ok(run_cell(&a, &r, &f->st), &f->st);
    ptq_result_release(&r);
    a.cell = cell_of(4, PTQ_GROUP_TENSOR);
    assert_int_equal(run_cell(&a, &r, &f->st), PTQ_SKIP);
}

/* A dead input and one row: 0 to any power is at least 1e-4. */
static void edges(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    synthetic_layer(&f->arena, 1, 40, 3, &l);
    for (int producer = PTQ_PRODUCER_NONE; producer <= PTQ_PRODUCER_NORM; producer++) {
        l.producer = (enum ptq_producer)producer;
        struct ptq_result r = run(f, &l, "awq", cell_of(2, 16));
        ptq_result_release(&r);
    }
    /* inputs of one size: every r is the same divisor, 1, and the lowest r wins */
    static float even[COLS];
    for (int j = 0; j < COLS; j++)
        even[j] = 0.25F;
    salient_layer(f, 77, &l);
    l.x_absmean = even;
    struct ptq_result r = run(f, &l, "awq", awq_cell(3));
    assert_true(note_of(&r, "exponent") == 0);
    ptq_result_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(best_exponent, setup, teardown),
        cmocka_unit_test_setup_teardown(sum_over_readers, setup, teardown),
        cmocka_unit_test_setup_teardown(module_decides, setup, teardown),
        cmocka_unit_test_setup_teardown(output_unchanged, setup, teardown),
        cmocka_unit_test_setup_teardown(best_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(without_searches, setup, teardown),
        cmocka_unit_test_setup_teardown(folding, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(edges, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
