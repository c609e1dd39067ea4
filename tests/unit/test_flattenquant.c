/* FlattenQuant (methods.md 6, 8.4.5 and the trap of section 9): thresholds and pieces by hand, the
 * expansion against the plain product, codes against GPTQ on a matrix expanded here, the choice of
 * bits against distances computed here. */
#include "quant_lib.h"
#include "quant/apply.h"

enum { ROWS = 24, COLS = 40 };

static struct ptq_cell tensor_cell(int w_bits, int a_bits)
{
    struct ptq_cell c = cell_of(w_bits, PTQ_GROUP_TENSOR);
    c.sym = true;
    c.a_bits = a_bits;
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

/* A layer with given inputs; H from them, weights from a counter. */
static void layer_of(struct fixture *f, int64_t rows, int64_t cols, int64_t n, const float *x,
                     struct ptq_layer *l)
{
    float *w = ptq_arena_alloc(&f->arena, &f->st, rows * cols, sizeof *w);
    for (int64_t i = 0; i < rows * cols; i++)
        w[i] = (float)(0.05 * ptq_normal(21, (uint64_t)i));
    *l = (struct ptq_layer){.name = "made",
                            .block = -1,
                            .w = {w, rows, cols, cols},
                            .acts = {x, n, cols, cols},
                            .hess_norm = PTQ_NORM_TOKEN,
                            .n_tokens = (double)n,
                            .n_sequences = 1};
    synthetic_ranges(&f->arena, l);
    assert_ok(ptq_hess_from_acts(NULL, &l->acts, PTQ_NORM_TOKEN, 0, PTQ_DOUBLE_PRECISION, &f->arena,
                                 &l->hess, &f->st),
              &f->st);
}

/* Inputs whose channel j is a uniform signal with largest value most[j], which it reaches. */
static const float *inputs_of(struct fixture *f, const float *most, int64_t cols, int64_t n)
{
    float *x = ptq_arena_alloc(&f->arena, &f->st, n * cols, sizeof *x);
    for (int64_t t = 0; t < n; t++)
        for (int64_t j = 0; j < cols; j++)
            x[t * cols + j] =
                t == j % n ? most[j]
                           : most[j] * (float)(2 * ptq_uniform(22, (uint64_t)(t * cols + j)) - 1);
    return x;
}

/* ---- thresholds and pieces ---- */

static void made_by_hand(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    /* Q1 = 2, Q3 = 4, T = 4 + 1.5 * 2 = 7; ceil(30 / 7) = 5 pieces */
    const float most[] = {3, 1, 30, 4, 2};
    layer_of(f, 3, 5, 64, inputs_of(f, most, 5, 64), &l);
    struct ptq_result r =
        run(f, &l, "flattenquant:smooth=no:pad=1:threshold=boxplot", tensor_cell(4, 4));
    const struct ptq_split *s = &r.quant.split;
    const int source[] = {0, 1, 2, 2, 2, 2, 2, 3, 4}, piece[] = {-1, -1, 0, 1, 2, 3, 4, -1, -1};
    assert_int_equal(s->n_cols, 9);
    for (int k = 0; k < 9; k++)
        assert_true(s->source[k] == source[k] && s->piece[k] == piece[k]);
    assert_true(s->limit == 7 && r.quant.act.bits == 4);
    assert_rel((double)r.quant.act.scale, 1, 1e-7); /* 7 / 7 */
    assert_true(note_of(&r, "n_split_channels") == 1 && note_of(&r, "n_capped_channels") == 0);
    assert_rel(note_of(&r, "expand"), 9.0 / 5, 1e-15);
    assert_true(note_of(&r, "n_kept_bits") == 1);
    ptq_result_release(&r);
    /* dead channels do not lower it */
    const float dead[] = {3, 1, 30, 4, 2, 0, 0};
    struct ptq_layer with_dead;
    layer_of(f, 3, 7, 64, inputs_of(f, dead, 7, 64), &with_dead);
    r = run(f, &with_dead, "flattenquant:smooth=no:pad=1", tensor_cell(4, 4));
    assert_true(r.quant.split.n_cols == 11 && r.quant.split.limit == 7);
    ptq_result_release(&r);
    /* padded to 32: zeros without a source */
    r = run(f, &l, "flattenquant:smooth=no", tensor_cell(4, 4));
    assert_int_equal(r.quant.split.n_cols, 32);
    for (int k = 9; k < 32; k++) {
        assert_int_equal(r.quant.split.source[k], -1);
        for (int i = 0; i < 3; i++)
            assert_int_equal(r.quant.part[0].codes[i * 32 + k], 8);
    }
    ptq_result_release(&r);
    /* beta = 2: T = 14, three pieces; the cap of 2 clips beyond 28 */
    r = run(f, &l, "flattenquant:smooth=no:pad=1:beta=2:cap=2", tensor_cell(4, 8));
    assert_true(r.quant.split.n_cols == 6 && r.quant.split.limit == 14);
    assert_true(note_of(&r, "n_capped_channels") == 1);
    assert_rel((double)r.quant.act.scale, 14.0 / 127, 1e-7);
    ptq_result_release(&r);
    /* the median: 3 splits 4 into 2 and 30 into 10, capped at 8 */
    r = run(f, &l, "flattenquant:smooth=no:pad=1:threshold=percentile:p=50", tensor_cell(4, 8));
    assert_true(r.quant.split.n_cols == 3 + 8 + 2 && r.quant.split.limit == 3);
    ptq_result_release(&r);
    /* beta so large that nothing exceeds it: T is the maximum, nothing is split or padded */
    r = run(f, &l, "flattenquant:smooth=no:beta=9", tensor_cell(4, 4));
    assert_true(r.quant.split.n_cols == 0 && note_of(&r, "expand") == 1);
    assert_rel((double)r.quant.act.scale, 30.0 / 7, 1e-7);
    ptq_result_release(&r);
}

/* One channel ten times the others: IQR = 0, T = Q3 = 1; ten pieces, or the cap's eight. */
static void no_spread(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    float most[COLS];
    for (int j = 0; j < COLS; j++)
        most[j] = j == 17 ? 10 : 1;
    layer_of(f, ROWS, COLS, 64, inputs_of(f, most, COLS, 64), &l);
    struct ptq_result r = run(f, &l, "flattenquant:smooth=no:pad=1:cap=16", tensor_cell(4, 4));
    assert_true(r.quant.split.n_cols == COLS + 9 && r.quant.split.limit == 1);
    ptq_result_release(&r);
    r = run(f, &l, "flattenquant:smooth=no:pad=1", tensor_cell(4, 4));
    assert_true(r.quant.split.n_cols == COLS + 7 && note_of(&r, "n_capped_channels") == 1);
    ptq_result_release(&r);
}

/* ---- the expansion ---- */

static float piece_of(float v, int k, float limit)
{
    return k < 0 ? v : copysignf(fminf(fmaxf(fabsf(v) - (float)k * limit, 0), limit), v);
}

/* Sum of the pieces = v, bit for bit; product of the expanded matrix = W x to 1e-12. */
static void check_expansion(const struct ptq_layer *l, const struct ptq_quant *q)
{
    const float *d = q->act.divisor.fmt ? q->act.divisor.at : NULL;
    double sum[128], out[ROWS], plain[ROWS], size[ROWS];
    assert_true(l->w.cols <= LENGTH(sum) && l->w.rows <= ROWS && q->split.n_cols > 0);
    for (int64_t t = 0; t < l->acts.rows; t++) {
        const float *x = l->acts.at + t * l->acts.ld;
        memset(sum, 0, sizeof sum);
        memset(out, 0, sizeof out);
        memset(plain, 0, sizeof plain);
        memset(size, 0, sizeof size);
        for (int64_t k = 0; k < q->split.n_cols; k++) {
            int64_t j = q->split.source[k];
            if (j < 0)
                continue;
            float v = d ? x[j] / d[j] : x[j], p = piece_of(v, q->split.piece[k], q->split.limit);
            sum[j] += (double)p;
            for (int64_t i = 0; i < l->w.rows; i++)
                out[i] += (double)l->w.at[i * l->w.ld + j] * (d ? (double)d[j] : 1) * (double)p;
        }
        for (int64_t j = 0; j < l->w.cols; j++) {
            float v = d ? x[j] / d[j] : x[j];
            assert_true(sum[j] == (double)v);
            for (int64_t i = 0; i < l->w.rows; i++) {
                double term = (double)l->w.at[i * l->w.ld + j] * (d ? (double)d[j] : 1) * (double)v;
                plain[i] += term;
                size[i] += fabs(term);
            }
        }
        for (int64_t i = 0; i < l->w.rows; i++)
            assert_true(fabs(out[i] - plain[i]) <= 1e-12 * size[i]);
    }
}

static void exact_expansion(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    const char *specs[] = {"flattenquant:cap=64", "flattenquant:smooth=no:cap=64",
                           "flattenquant:smooth=no:threshold=percentile:p=60:cap=1024",
                           "flattenquant:alpha=0.2:beta=0.37:cap=1024"};
    float most[COLS];
    for (int j = 0; j < COLS; j++)
        most[j] = (float)(exp(ptq_normal(31, (uint64_t)j)) * (j % 13 == 4 ? 40 : 1));
    layer_of(f, ROWS, COLS, 64, inputs_of(f, most, COLS, 64), &l);
    for (int64_t s = 0; s < LENGTH(specs); s++) {
        struct ptq_result r = run(f, &l, specs[s], tensor_cell(4, 4));
        assert_true(note_of(&r, "n_capped_channels") == 0 && note_of(&r, "n_split_channels") > 0);
        check_expansion(&l, &r.quant);
        ptq_result_release(&r);
    }
}

/* ---- codes ---- */

/* The layer as the split makes it, everything in memory of the test. */
static void expand(struct fixture *f, const struct ptq_layer *l, const struct ptq_quant *q,
                   struct ptq_layer *out)
{
    int64_t n = q->split.n_cols;
    const float *d = q->act.divisor.fmt ? q->act.divisor.at : NULL;
    float *w = ptq_arena_alloc(&f->arena, &f->st, l->w.rows * n, sizeof *w),
          *x = ptq_arena_alloc(&f->arena, &f->st, l->acts.rows * n, sizeof *x);
    for (int64_t k = 0; k < n; k++) {
        int64_t j = q->split.source[k];
        for (int64_t i = 0; j >= 0 && i < l->w.rows; i++)
            w[i * n + k] = l->w.at[i * l->w.ld + j] * (d ? d[j] : 1);
        for (int64_t t = 0; j >= 0 && t < l->acts.rows; t++) {
            float v = l->acts.at[t * l->acts.ld + j];
            x[t * n + k] = piece_of(d ? v / d[j] : v, q->split.piece[k], q->split.limit);
        }
    }
    *out = *l;
    out->w = (struct ptq_cmat){w, l->w.rows, n, n};
    out->acts = (struct ptq_cmat){x, l->acts.rows, n, n};
    assert_ok(ptq_hess_from_acts(NULL, &out->acts, PTQ_NORM_TOKEN, 0, PTQ_DOUBLE_PRECISION,
                                 &f->arena, &out->hess, &f->st),
              &f->st);
}

static void assert_same_part(const struct ptq_quant *a, const struct ptq_quant *b)
{
    assert_int_equal(ptq_quant_kcols(a), ptq_quant_kcols(b));
    assert_true(a->part[0].scale.at[0] == b->part[0].scale.at[0]);
    assert_int_equal(
        count_different(a->part[0].codes, b->part[0].codes, a->rows * ptq_quant_kcols(a)), 0);
}

static void codes_of_gptq(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l, e;
    const char *orders[] = {"0", "1"}, *grids[] = {"minmax", "mse"};
    synthetic_layer(&f->arena, ROWS, 70, 2, &l); /* dead inputs too */
    for (int k = 0; k < 8; k++) {
        char spec[96], gptq[96];
        struct ptq_cell cell = tensor_cell(3 + k % 2, 4), weights = cell;
        weights.a_bits = 0;
        snprintf(spec, sizeof spec, "flattenquant:act_order=%s:beta=0.6:grid=%s:smooth=%s",
                 orders[k % 2], grids[k / 2 % 2], k < 4 ? "all" : "no");
        snprintf(gptq, sizeof gptq, "gptq:act_order=%s:grid=%s", orders[k % 2], grids[k / 2 % 2]);
        struct ptq_result r = run(f, &l, spec, cell);
        assert_true(note_of(&r, "n_split_channels") > 3 && r.quant.split.n_cols % 32 == 0);
        expand(f, &l, &r.quant, &e);
        struct ptq_result g = run(f, &e, gptq, weights);
        assert_same_part(&r.quant, &g.quant);
        ptq_result_release(&g);
        ptq_result_release(&r);
    }
    /* nothing split, nothing divided: gptq itself */
    struct ptq_cell weights = tensor_cell(4, 0);
    struct ptq_result r = run(f, &l, "flattenquant:smooth=no:flatten=0:grid=minmax",
                              tensor_cell(4, 4)),
                      g = run(f, &l, "gptq", weights);
    assert_same_part(&r.quant, &g.quant);
    ptq_result_release(&g);
    ptq_result_release(&r);
}

/* A piece that the sampled tokens do not reach keeps its weights. */
static void unsampled_piece(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    float most[COLS], seen[COLS];
    for (int j = 0; j < COLS; j++)
        most[j] = seen[j] = 1;
    layer_of(f, ROWS, COLS, 64, inputs_of(f, most, COLS, 64), &l);
    seen[9] = 2.5F; /* the whole calibration saw more than the sample */
    l.x_absmax = seen;
    struct ptq_result r = run(f, &l, "flattenquant:smooth=no:pad=1", tensor_cell(8, 8));
    assert_int_equal(r.quant.split.n_cols, COLS + 2);
    for (int64_t i = 0; i < ROWS; i++)
        for (int k = 9; k < 12; k++) {
            assert_int_equal(r.quant.split.source[k], 9);
            assert_true(fabsf(r.what[i * (COLS + 2) + k] - l.w.at[i * COLS + 9]) <= 0.01F);
        }
    ptq_result_release(&r);
}

/* With damping so large that errors do not move, a code is the nearest one: the pieces of a column
 * of weights are seen in the form, and they add up to the column. */
static void check_split_weights(struct fixture *f, int cap)
{
    char spec[96];
    struct ptq_layer l;
    float most[COLS];
    for (int j = 0; j < COLS; j++)
        most[j] = j == 3 ? 5 : 1;
    layer_of(f, ROWS, COLS, 64, inputs_of(f, most, COLS, 64), &l);
    float *w = ptq_arena_alloc(&f->arena, &f->st, ROWS * COLS, sizeof *w);
    for (int i = 0; i < ROWS * COLS; i++)
        w[i] = l.w.at[i] * (i % COLS == 8 || i % COLS == 3 ? 7 : 1);
    l.w.at = w;
    snprintf(spec, sizeof spec, "flattenquant:smooth=no:split_weights=1:percdamp=1000:pad=1:cap=%d",
             cap);
    struct ptq_result r = run(f, &l, spec, tensor_cell(8, 8));
    const struct ptq_split *s = &r.quant.split;
    double scale = (double)r.quant.part[0].scale.at[0];
    double most_plain = 0, most_stored = 0;
    assert_true(note_of(&r, "n_split_weights") == 2);
    for (int64_t i = 0; i < ROWS; i++)
        for (int64_t k = 0, next; k < s->n_cols; k = next) { /* runs of one piece of a channel */
            double sum = 0, want = (double)w[i * COLS + s->source[k]];
            for (next = k; next < s->n_cols && s->source[next] == s->source[k] &&
                           s->piece[next] == s->piece[k];
                 next++) {
                sum += (double)r.what[i * s->n_cols + next];
                most_stored = fmax(most_stored, fabs((double)r.what[i * s->n_cols + next]));
            }
            most_plain = fmax(most_plain, fabs(want));
            assert_true(fabs(sum - want) <= 0.6 * scale * (double)(next - k));
            assert_true((next - k > 1) == (s->source[k] == 8 || s->source[k] == 3));
        }
    /* the last piece of a capped column holds the rest */
    assert_true(cap == 2 || most_stored < 0.5 * most_plain);
    ptq_result_release(&r);
}

static void split_weights(void **state)
{
    check_split_weights(*state, 8);
    check_split_weights(*state, 2);
}

/* The divisor is SmoothQuant's, over all layers that read the input. */
static void divisor_of_siblings(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l, other;
    const struct ptq_layer *readers[] = {&other, &l};
    synthetic_layer(&f->arena, ROWS, 70, 2, &l);
    synthetic_layer(&f->arena, 9, 70, 2, &other);
    float *w = ptq_arena_alloc(&f->arena, &f->st, 9 * 70, sizeof *w);
    for (int i = 0; i < 9 * 70; i++)
        w[i] = other.w.at[i] * (i % 3 ? 1 : 20);
    other.w.at = w;
    for (int siblings = 0; siblings < 2; siblings++)
        for (int norm = 0; norm < 2; norm++) {
            struct ptq_cell cell = tensor_cell(4, 4);
            cell.scale_fmt = PTQ_FMT_F16;
            l.siblings = siblings ? readers : NULL;
            l.n_siblings = siblings ? 2 : 0;
            l.producer = norm ? PTQ_PRODUCER_NORM : PTQ_PRODUCER_LINEAR;
            struct ptq_result a = run(f, &l, "flattenquant:alpha=0.6", cell),
                              b = run(f, &l, "smoothquant:alpha=0.6:smooth=all", cell),
                              c = run(f, &l, "flattenquant:smooth=norm", cell);
            assert_memory_equal(a.quant.act.divisor.at, b.quant.act.divisor.at, 70 * sizeof *w);
            assert_true((c.quant.act.divisor.fmt != PTQ_FMT_NONE) == norm);
            ptq_result_release(&a);
            ptq_result_release(&b);
            ptq_result_release(&c);
        }
}

/* ---- bits of a layer ---- */

/* Relative mean squared error of the form's outputs on the layer's inputs. */
static double relative_error(struct fixture *f, const struct ptq_layer *l,
                             const struct ptq_result *r)
{
    int64_t n = l->acts.rows, rows = l->w.rows;
    double error = 0, power = 0;
    float *y = ptq_arena_alloc(&f->arena, &f->st, n * rows, sizeof *y);
    assert_ok(ptq_quant_apply(&r->quant, r->what, l->acts.at, n, y, &f->st), &f->st);
    for (int64_t t = 0; t < n; t++)
        for (int64_t i = 0; i < rows; i++) {
            double want = 0;
            for (int64_t j = 0; j < l->w.cols; j++)
                want += (double)l->w.at[i * l->w.ld + j] * (double)l->acts.at[t * l->acts.ld + j];
            error += ((double)y[t * rows + i] - want) * ((double)y[t * rows + i] - want);
            power += want * want;
        }
    return error / power;
}

static void choice_of_bits(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    synthetic_layer(&f->arena, ROWS, COLS, 0, &l); /* 160 tokens: all of them are scored */
    struct ptq_result low = run(f, &l, "flattenquant", tensor_cell(4, 4)),
                      high = run(f, &l, "flattenquant", tensor_cell(8, 8));
    double ratio = relative_error(f, &l, &low) / relative_error(f, &l, &high);
    assert_true(ratio > 10);
    for (int side = 0; side < 2; side++) {
        char spec[96], a[33], b[33];
        snprintf(spec, sizeof spec, "flattenquant:choose=mse:gamma=%.9g",
                 ratio * (side ? 1.0001 : 0.9999));
        struct ptq_result r = run(f, &l, spec, tensor_cell(4, 4));
        assert_true(note_of(&r, "n_kept_bits") == side);
        assert_true(r.quant.act.bits == (side ? 4 : 8));
        assert_true(note_of(&r, "n_clipped") == note_of(side ? &low : &high, "n_clipped"));
        ptq_quant_hash(&r.quant, a);
        ptq_quant_hash(side ? &low.quant : &high.quant, b);
        assert_string_equal(a, b);
        ptq_result_release(&r);
    }
    const char *specs[] = {"flattenquant:choose=kl:gamma=0", "flattenquant:choose=kl:gamma=1e12"};
    for (int k = 0; k < 2; k++) {
        struct ptq_result r = run(f, &l, specs[k], tensor_cell(4, 4));
        assert_true(note_of(&r, "n_kept_bits") == k);
        ptq_result_release(&r);
    }
    ptq_result_release(&low);
    ptq_result_release(&high);
}

/* ---- planted outliers (methods.md section 9) ---- */

/* Gaussian inputs and weights; outliers: a channel in ten 25 times as large, its weights as much
 * smaller. */
static void planted_layer(struct fixture *f, bool outliers, struct ptq_layer *l)
{
    enum { N = 120, TOKENS = 256 };
    float *x = ptq_arena_alloc(&f->arena, &f->st, TOKENS * N, sizeof *x),
          *w = ptq_arena_alloc(&f->arena, &f->st, ROWS * N, sizeof *w);
    for (int i = 0; i < TOKENS * N; i++)
        x[i] = (float)ptq_normal(41, (uint64_t)i) * (outliers && i % N % 10 == 3 ? 25 : 1);
    layer_of(f, ROWS, N, TOKENS, x, l);
    for (int i = 0; i < ROWS * N; i++)
        w[i] = l->w.at[i] / (outliers && i % N % 10 == 3 ? 25 : 1);
    l->w.at = w;
}

static double planted_error(struct fixture *f, const struct ptq_layer *l, const char *spec)
{
    struct ptq_result r = run(f, l, spec, tensor_cell(8, 4));
    double error = sqrt(relative_error(f, l, &r));
    ptq_result_release(&r);
    return error;
}

/* Outliers that are a diagonal scaling ruin one 4-bit grid for all inputs; smoothing alone undoes
 * them, and so does flattening alone. */
static void planted_outliers(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer clean, planted;
    planted_layer(f, false, &clean);
    planted_layer(f, true, &planted);
    double without = planted_error(f, &clean, "flattenquant:flatten=0:smooth=no"),
           with = planted_error(f, &planted, "flattenquant:flatten=0:smooth=no"),
           smoothed = planted_error(f, &planted, "flattenquant:flatten=0"),
           flattened = planted_error(f, &planted, "flattenquant:smooth=no:cap=64");
    printf("4-bit inputs, one grid: %.3f without outliers, %.3f with, %.3f smoothed, %.3f "
           "flattened\n",
           without, with, smoothed, flattened);
    assert_true(with > 3 * without);
    assert_true(smoothed < 1.3 * without && flattened < 1.3 * without);
}

/* ---- edges ---- */

static void edges(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    struct ptq_result r;
    synthetic_layer(&f->arena, 1, 20, 2, &l); /* one row, two dead inputs */
    r = run(f, &l, "flattenquant:beta=0.5", tensor_cell(4, 4));
    assert_true(isfinite(relative_error(f, &l, &r)));
    ptq_result_release(&r);
    synthetic_layer(&f->arena, 5, 1, 0, &l); /* one column */
    r = run(f, &l, "flattenquant", tensor_cell(4, 4));
    assert_true(r.quant.split.n_cols == 0);
    ptq_result_release(&r);
    struct run_args a = {&l, "flattenquant", cell_of(4, 0), PTQ_SINGLE, NULL};
    a.cell.sym = true;
    assert_int_equal(run_cell(&a, &r, &f->st), PTQ_SKIP);
    assert_status(&f->st, PTQ_SKIP, "a_bits");
    a.cell.a_bits = 4;
    a.cell.group_size = -1;
    ptq_status_clear(&f->st);
    assert_int_equal(run_cell(&a, &r, &f->st), PTQ_SKIP);
    assert_status(&f->st, PTQ_SKIP, "group_size = 0");
    a.cell.group_size = 0;
    ptq_status_clear(&f->st);
    l.x_absmax = (float[1]){0};
    assert_int_equal(run_cell(&a, &r, &f->st), PTQ_ERR_NUMERIC);
    assert_status(&f->st, PTQ_ERR_NUMERIC, "every input was 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(made_by_hand, setup, teardown),
        cmocka_unit_test_setup_teardown(no_spread, setup, teardown),
        cmocka_unit_test_setup_teardown(exact_expansion, setup, teardown),
        cmocka_unit_test_setup_teardown(codes_of_gptq, setup, teardown),
        cmocka_unit_test_setup_teardown(unsampled_piece, setup, teardown),
        cmocka_unit_test_setup_teardown(split_weights, setup, teardown),
        cmocka_unit_test_setup_teardown(divisor_of_siblings, setup, teardown),
        cmocka_unit_test_setup_teardown(choice_of_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(planted_outliers, setup, teardown),
        cmocka_unit_test_setup_teardown(edges, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
