/* SmoothQuant (methods.md 7.1 and 8.4.7): the divisor by its formula, the algebra, and the codes of
 * the plain quantizer on weights scaled here. */
#include "quant_lib.h"

enum { ROWS = 24, COLS = 70, N_READERS = 3 };

/* Three layers that read one input, as q, k and v do; k's weights are three times as large. */
struct readers {
    struct ptq_layer at[N_READERS];
    const struct ptq_layer *all[N_READERS];
};

static void make_readers(struct fixture *f, enum ptq_producer producer, struct readers *r)
{
    for (int i = 0; i < N_READERS; i++) {
        struct ptq_layer *l = &r->at[i];
        synthetic_layer(&f->arena, ROWS - 8 * (i == 2), COLS, 2, l);
        float *w = ptq_arena_alloc(&f->arena, &f->st, l->w.rows * COLS, sizeof *w);
        for (int64_t k = 0; k < l->w.rows * COLS; k++)
            w[k] = l->w.at[k] * (i == 1 ? 3.0F : 1.0F) * (k % COLS == 5 && i == 2 ? 9.0F : 1.0F);
        l->w.at = w;
        l->producer = producer;
        l->siblings = r->all;
        l->n_siblings = N_READERS;
        r->all[i] = l;
    }
}

static struct ptq_result run(struct fixture *f, const struct ptq_layer *l, const char *spec,
                             struct ptq_cell cell)
{
    struct ptq_result r;
    struct run_args a = {l, spec, cell, PTQ_DOUBLE_PRECISION, NULL};
    assert_ok(run_cell(&a, &r, &f->st), &f->st);
    return r;
}

static double clamped(double v)
{
    return v < 1e-5 ? 1e-5 : v;
}

/* s_j by the formula, exponents by logarithms. */
static double formula(const struct readers *r, int64_t j, double alpha)
{
    double w = 0;
    for (int i = 0; i < N_READERS; i++)
        for (int64_t k = 0; k < r->at[i].w.rows; k++)
            w = fmax(w, fabs((double)r->at[i].w.at[k * COLS + j]));
    return clamped(
        exp(alpha * log(clamped((double)r->at[0].x_absmax[j])) - (1 - alpha) * log(clamped(w))));
}

static void divisor_by_formula(void **state)
{
    const struct {
        const char *spec;
        double alpha;
    } cases[] = {{"smoothquant", 0.5},
                 {"smoothquant:alpha=0.85", 0.85},
                 {"smoothquant:alpha=0", 0},
                 {"smoothquant:alpha=1", 1}};
    struct fixture *f = *state;
    struct readers r;
    make_readers(f, PTQ_PRODUCER_NORM, &r);
    for (int64_t c = 0; c < LENGTH(cases); c++)
        for (int half = 0; half < 2; half++)
            for (int i = 0; i < N_READERS; i++) { /* the readers agree */
                struct ptq_cell cell = cell_of(8, -1);
                cell.scale_fmt = half ? PTQ_FMT_F16 : PTQ_FMT_F32;
                struct ptq_result q = run(f, &r.at[i], cases[c].spec, cell);
                const struct ptq_arr *d = &q.quant.act.divisor;
                assert_true(d->fmt == cell.scale_fmt && d->n == COLS && q.quant.act.folds);
                for (int64_t j = 0; j < COLS; j++) { /* half a unit of f16 (subnormal: 2^-25) */
                    double want = formula(&r, j, cases[c].alpha),
                           unit = half ? fmax(0x1p-11 * want, 0x1p-25) : 0x1p-23 * want;
                    assert_true(fabs((double)d->at[j] - want) <= unit);
                }
                ptq_result_release(&q);
            }
}

/* alpha = 0 makes every column's largest weight 1, alpha = 1 every channel's largest input. */
static void limits_of_alpha(void **state)
{
    struct fixture *f = *state;
    struct readers r;
    make_readers(f, PTQ_PRODUCER_NORM, &r);
    struct ptq_result a = run(f, &r.at[0], "smoothquant:alpha=0", cell_of(8, -1)),
                      b = run(f, &r.at[0], "smoothquant:alpha=1", cell_of(8, -1));
    for (int64_t j = 0; j < COLS; j++) {
        double w = 0;
        for (int i = 0; i < N_READERS; i++)
            for (int64_t k = 0; k < r.at[i].w.rows; k++)
                w = fmax(w, fabs((double)r.at[i].w.at[k * COLS + j]));
        assert_rel(w * (double)a.quant.act.divisor.at[j], 1, 1e-6);
        if (r.at[0].x_absmax[j] > 0)
            assert_rel((double)r.at[0].x_absmax[j] / (double)b.quant.act.divisor.at[j], 1, 1e-6);
        else
            assert_rel((double)b.quant.act.divisor.at[j], 1e-5, 1e-6);
    }
    ptq_result_release(&a);
    ptq_result_release(&b);
}

/* (W diag(s)) (x / s) = W x, and the stored values are those of W diag(s), not W / s. */
static void output_unchanged(void **state)
{
    struct fixture *f = *state;
    struct readers r;
    make_readers(f, PTQ_PRODUCER_NORM, &r);
    const struct ptq_layer *l = &r.at[1];
    struct ptq_result q = run(f, l, "smoothquant:alpha=0.7", cell_of(8, -1));
    const struct ptq_part *p = &q.quant.part[0];
    const float *s = q.quant.act.divisor.at;
    for (int64_t i = 0; i < l->w.rows; i++) {
        for (int64_t t = 0; t < 20; t++) {
            double plain = 0, divided = 0, size = 0;
            for (int64_t j = 0; j < COLS; j++) {
                double w = (double)l->w.at[i * COLS + j], x = (double)l->acts.at[t * COLS + j];
                plain += w * x;
                divided += (w * (double)s[j]) * (x / (double)s[j]);
                size += fabs(w * x);
            }
            assert_true(fabs(plain - divided) <= 1e-12 * size);
        }
        for (int64_t j = 0; j < COLS; j++) {
            double value = (double)p->scale.at[i] *
                           ((double)p->codes[i * COLS + j] - (double)ptq_part_zero(p, i)),
                   w = (double)l->w.at[i * COLS + j];
            assert_true(fabs(value - w * (double)s[j]) <= 0.501 * (double)p->scale.at[i]);
            assert_true(fabs((double)q.what[i * COLS + j] - w) <=
                        0.51 * (double)p->scale.at[i] / (double)s[j]);
        }
    }
    ptq_result_release(&q);
}

/* Codes and scales are those of rtn on the scaled weights, with the scaled Hessian. */
static void codes_of_rtn(void **state)
{
    struct fixture *f = *state;
    struct readers r;
    make_readers(f, PTQ_PRODUCER_NORM, &r);
    const struct ptq_layer *l = &r.at[0];
    static float w[ROWS * COLS];
    static double h[COLS * COLS];
    const int64_t groups[] = {-1, 0, 32};
    for (int k = 0; k < 9; k++) {
        struct ptq_cell cell = cell_of(3 + k % 2, groups[k % 3]);
        cell.grid = (enum ptq_grid)(k / 3);
        cell.sym = k % 2;
        struct ptq_result q = run(f, l, "smoothquant", cell);
        const float *s = q.quant.act.divisor.at;
        struct ptq_layer scaled = *l;
        for (int64_t i = 0; i < ROWS * COLS; i++)
            w[i] = l->w.at[i] * s[i % COLS];
        for (int64_t i = 0; i < COLS * COLS; i++)
            h[i] = l->hess.at[i] / ((double)s[i / COLS] * (double)s[i % COLS]);
        scaled.w.at = w;
        scaled.hess.at = h;
        struct ptq_result p = run(f, &scaled, "rtn", cell);
        assert_int_equal(count_different(q.quant.part[0].codes, p.quant.part[0].codes, ROWS * COLS),
                         0);
        assert_memory_equal(q.quant.part[0].scale.at, p.quant.part[0].scale.at,
                            (size_t)p.quant.part[0].scale.n * sizeof(float));
        ptq_result_release(&p);
        ptq_result_release(&q);
    }
}

/* Only inputs of norms by default; smooth = all stores the divisor where it does not fold. */
static void folding(void **state)
{
    struct fixture *f = *state;
    for (int producer = PTQ_PRODUCER_NONE; producer <= PTQ_PRODUCER_LINEAR; producer++) {
        struct readers r;
        struct ptq_ledger ledger;
        bool norm = producer == PTQ_PRODUCER_NORM, folds = producer != PTQ_PRODUCER_NONE;
        make_readers(f, (enum ptq_producer)producer, &r);
        struct ptq_result a = run(f, &r.at[0], "smoothquant", cell_of(8, -1)),
                          all = run(f, &r.at[0], "smoothquant:smooth=all", cell_of(8, -1)),
                          no = run(f, &r.at[0], "smoothquant:smooth=no", cell_of(8, -1)),
                          rtn = run(f, &r.at[0], "rtn", cell_of(8, -1));
        char x[33], y[33];
        assert_true((a.quant.act.divisor.fmt != PTQ_FMT_NONE) == norm);
        assert_true(all.quant.act.divisor.fmt == PTQ_FMT_F32 && all.quant.act.folds == folds);
        ptq_quant_ledger(&all.quant, &ledger);
        assert_true(ledger.divisor == (folds ? 0 : 32.0 * COLS));
        ptq_quant_hash(&rtn.quant, y);
        ptq_quant_hash(&no.quant, x);
        assert_string_equal(x, y);
        ptq_quant_hash(&a.quant, x);
        assert_true((strcmp(x, y) == 0) == !norm);
        /* One scale for the tensor: the rows of a linear before have no factor of their own. */
        struct ptq_result tensor = run(f, &r.at[0], "smoothquant:smooth=all", cell_of(8, 0));
        ptq_quant_ledger(&tensor.quant, &ledger);
        assert_true(tensor.quant.act.folds == norm && ledger.divisor == (norm ? 0 : 32.0 * COLS));
        ptq_result_release(&tensor);
        ptq_result_release(&a);
        ptq_result_release(&all);
        ptq_result_release(&no);
        ptq_result_release(&rtn);
    }
}

static void scales_of_inputs(void **state)
{
    struct fixture *f = *state;
    struct readers r;
    struct ptq_cell cell = cell_of(8, -1);
    make_readers(f, PTQ_PRODUCER_NORM, &r);
    cell.a_bits = 6;
    struct ptq_result token = run(f, &r.at[0], "smoothquant", cell),
                      tensor = run(f, &r.at[0], "smoothquant:act=tensor", cell);
    double most = 0;
    for (int64_t j = 0; j < COLS; j++)
        most = fmax(most, (double)r.at[0].x_absmax[j] / (double)tensor.quant.act.divisor.at[j]);
    assert_true(token.quant.act.bits == 6 && token.quant.act.scale == 0);
    assert_true(tensor.quant.act.bits == 6);
    assert_rel((double)tensor.quant.act.scale, most / 31, 1e-6);
    ptq_result_release(&token);
    ptq_result_release(&tensor);
    cell.a_bits = 0; /* weights alone */
    struct ptq_result weights = run(f, &r.at[0], "smoothquant:act=tensor", cell);
    assert_true(weights.quant.act.bits == 0 && weights.quant.act.scale == 0);
    ptq_result_release(&weights);
}

/* A channel that is 0 on both sides: both maxima are 1e-5. */
static void dead_channel(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    struct ptq_result q;
    synthetic_layer(&f->arena, 1, 16, 1, &l); /* one row; input 2 is dead */
    static float w[16];
    memcpy(w, l.w.at, sizeof w);
    w[2] = 0;
    l.w.at = w;
    l.producer = PTQ_PRODUCER_NORM;
    q = run(f, &l, "smoothquant", cell_of(4, -1));
    assert_true(l.x_absmax[2] == 0);
    assert_rel((double)q.quant.act.divisor.at[2], 1, 1e-6);
    ptq_result_release(&q);
}

static void refuses(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    struct ptq_result q;
    synthetic_layer(&f->arena, 8, 16, 0, &l);
    struct run_args a = {&l, "smoothquant", cell_of(4, -1), PTQ_SINGLE, NULL};
    l.x_absmax = NULL;
    assert_int_equal(run_cell(&a, &q, &f->st), PTQ_SKIP);
    assert_non_null(strstr(f->st.text, "ranges"));
    ptq_status_clear(&f->st);
    static float broken[16];
    for (int j = 0; j < 16; j++)
        broken[j] = j == 7 ? NAN : 1;
    l.x_absmax = broken;
    l.producer = PTQ_PRODUCER_NORM;
    assert_int_equal(run_cell(&a, &q, &f->st), PTQ_ERR_NUMERIC);
    assert_non_null(strstr(f->st.text, "x_absmax[7]"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(divisor_by_formula, setup, teardown),
        cmocka_unit_test_setup_teardown(limits_of_alpha, setup, teardown),
        cmocka_unit_test_setup_teardown(output_unchanged, setup, teardown),
        cmocka_unit_test_setup_teardown(codes_of_rtn, setup, teardown),
        cmocka_unit_test_setup_teardown(folding, setup, teardown),
        cmocka_unit_test_setup_teardown(scales_of_inputs, setup, teardown),
        cmocka_unit_test_setup_teardown(dead_channel, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
