/* The product with inputs that a form treats, against a plain double loop over what ptq.h says, and
 * against the product of the floats that the codes stand for. */
#include "quant_lib.h"
#include "core/linalg.h"
#include "quant/apply.h"

enum { ROWS = 21, COLS = 75, TOKENS = 13, MOST_COLS = 120 };

struct made { /* a random form of one UNIFORM part, and inputs */
    struct ptq_quant q;
    uint16_t codes[ROWS * MOST_COLS];
    float scale[ROWS * MOST_COLS], zero[ROWS * MOST_COLS], divisor[COLS];
    int32_t source[MOST_COLS], piece[MOST_COLS], perm[MOST_COLS];
    float x[TOKENS * COLS], what[ROWS * MOST_COLS], y[TOKENS * ROWS];
    double want[TOKENS * ROWS];
    double most[TOKENS * ROWS]; /* sum of the absolute products: the scale of an error */
};

struct kind {
    int bits, a_bits;
    int64_t group; /* 0: one grid */
    float static_scale, zero_shift;
    bool divisor, split, perm;
};

static double uniform(uint64_t i)
{
    return ptq_uniform(77, i);
}

/* Channel 3 in three pieces of the input, channel 5 in two of the weight, padding of four. */
static void make_split(struct made *m)
{
    int64_t n = 0;
    for (int j = 0; j < COLS; j++)
        for (int k = 0, of = j == 3 ? 3 : j == 5 ? 2 : 1; k < of; k++, n++) {
            m->source[n] = j;
            m->piece[n] = j == 3 ? k : -1;
        }
    for (int k = 0; k < 4; k++, n++)
        m->source[n] = m->piece[n] = -1;
    m->q.split = (struct ptq_split){n, m->source, m->piece, 0.7f};
}

static void make(struct made *m, const struct kind *k)
{
    memset(m, 0, sizeof *m);
    m->q = (struct ptq_quant){.rows = ROWS, .cols = COLS, .n_parts = 1};
    m->q.act.bits = k->a_bits;
    m->q.act.scale = k->static_scale;
    for (int j = 0; j < COLS; j++)
        m->divisor[j] = (float)(0.5 + uniform((uint64_t)j));
    if (k->divisor)
        m->q.act.divisor = (struct ptq_arr){.fmt = PTQ_FMT_F32, .n = COLS, .at = m->divisor};
    if (k->split)
        make_split(m);
    const int64_t kc = ptq_quant_kcols(&m->q), per = k->group ? (kc - 1) / k->group + 1 : 0;
    const int64_t groups = per ? ROWS * per : 1;
    for (int64_t i = 0; i < ROWS * kc; i++)
        m->codes[i] = (uint16_t)(uniform(1000 + (uint64_t)i) * (1 << k->bits));
    for (int64_t g = 0; g < groups; g++) {
        m->scale[g] = (float)(0.01 * (1 + uniform(9000 + (uint64_t)g)));
        m->zero[g] = (float)floor(uniform(19000 + (uint64_t)g) * (1 << k->bits)) + k->zero_shift;
    }
    for (int64_t j = 0; j < kc; j++)
        m->perm[j] = (int32_t)((j * 7 + 3) % kc);
    m->q.part[0] = (struct ptq_part){.kind = PTQ_PART_UNIFORM,
                                     .bits = k->bits,
                                     .codes = m->codes,
                                     .group_cols = k->group ? k->group : kc,
                                     .groups_per_row = per,
                                     .scale = {PTQ_FMT_F32, 0, false, groups, m->scale},
                                     .zero = {PTQ_FMT_F32, 0, false, groups, m->zero},
                                     .perm = k->perm ? m->perm : NULL};
    for (int i = 0; i < TOKENS * COLS; i++)
        m->x[i] = (float)ptq_normal(5, (uint64_t)i) * (i % COLS == 3 ? 1.5f : 0.4f);
    struct ptq_status st = {0};
    assert_ok(ptq_quant_dequant(&m->q, m->what, &st), &st);
}

static int64_t group_of(const struct made *m, int64_t i, int64_t j)
{
    const struct ptq_part *p = &m->q.part[0];
    const int64_t kc = ptq_quant_kcols(&m->q);
    int64_t at = j;
    for (int64_t k = 0; p->perm && k < kc; k++)
        at = p->perm[k] == j ? k : at;
    return p->groups_per_row ? i * p->groups_per_row + at / p->group_cols : 0;
}

/* What the columns of the stored matrix multiply, by the words of ptq.h, one token. */
static void inputs(const struct made *m, const float *x, float *v)
{
    const struct ptq_quant *q = &m->q;
    const int64_t kc = ptq_quant_kcols(q);
    float most = 0;
    for (int64_t k = 0; k < kc; k++) {
        int64_t j = q->split.n_cols ? q->split.source[k] : k;
        float a = j < 0 ? 0 : q->act.divisor.at ? x[j] / q->act.divisor.at[j] : x[j];
        if (q->split.n_cols && q->split.piece[k] >= 0) {
            float rest = fabsf(a) - (float)q->split.piece[k] * q->split.limit;
            rest = fminf(fmaxf(rest, 0), q->split.limit);
            a = a < 0 ? -rest : rest;
        }
        v[k] = a;
        most = fmaxf(most, fabsf(a));
    }
    if (!q->act.bits)
        return;
    const float top = (float)((1 << (q->act.bits - 1)) - 1);
    const float s = q->act.scale != 0 ? q->act.scale : most / top;
    for (int64_t k = 0; k < kc; k++)
        v[k] = fminf(fmaxf(rintf(v[k] / s), -top), top) * s;
}

static void plain(struct made *m)
{
    const int64_t kc = ptq_quant_kcols(&m->q);
    float v[MOST_COLS];
    for (int t = 0; t < TOKENS; t++) {
        inputs(m, m->x + t * COLS, v);
        for (int64_t i = 0; i < ROWS; i++) {
            double sum = 0, size = 0;
            for (int64_t k = 0; k < kc; k++) {
                int64_t g = group_of(m, i, k);
                double p = (double)v[k] * (double)m->scale[g] *
                           ((double)m->codes[i * kc + k] - (double)m->zero[g]);
                sum += p;
                size += fabs(p);
            }
            m->want[t * ROWS + i] = sum;
            m->most[t * ROWS + i] = size;
        }
    }
}

static const struct kind kinds[] = {
    {4, 8, COLS, 0, 0, false, false, false},  /* a grid a row */
    {4, 4, 32, 0, 0, false, false, false},    /* groups, the last of them shorter */
    {8, 8, 0, 0, 0, true, false, false},      /* one grid, divisor */
    {3, 8, 16, 0.01f, 0, true, false, false}, /* static */
    {4, 4, 0, 0.1f, 0, true, true, false},    /* FlattenQuant's */
    {4, 8, 32, 0, 0.25f, true, false, false}, /* zeros that are not whole: floats */
    {4, 8, 32, 0, 0, true, false, true},      /* permuted: floats */
    {4, 0, 32, 0, 0, true, true, false},      /* a split alone: floats */
};
enum { N_KINDS = sizeof kinds / sizeof *kinds, N_INTEGER = 5 };

/* Integers lose nothing but the rounding of the codes' values (2^-24 each) and of the output;
 * floats add COLS roundings of the sum. */
static void by_a_plain_loop(void **state)
{
    (void)state;
    struct made *m = malloc(sizeof *m);
    struct ptq_status st = {0};
    for (int k = 0; k < N_KINDS; k++) {
        make(m, &kinds[k]);
        plain(m);
        assert_ok(ptq_quant_apply(&m->q, m->what, m->x, TOKENS, m->y, &st), &st);
        for (int i = 0; i < TOKENS * ROWS; i++) {
            double bound = m->most[i] * (k < N_INTEGER ? 3 : MOST_COLS) * 0x1p-24;
            if (!(fabs((double)m->y[i] - m->want[i]) <= bound))
                fail_msg("kind %d, output %d: %.9g, %.9g expected", k, i, (double)m->y[i],
                         m->want[i]);
        }
    }
    free(m);
}

static void integers_where_they_can_be(void **state)
{
    struct fixture *f = *state;
    struct made *m = malloc(sizeof *m);
    struct ptq_quant_run run;
    for (int k = 0; k < N_KINDS; k++) {
        make(m, &kinds[k]);
        assert_ok(ptq_quant_run_init(&run, &m->q, m->what, &f->arena, &f->st), &f->st);
        assert_true((run.codes != NULL) == (k < N_INTEGER));
        int64_t most = 0, kc = ptq_quant_kcols(&m->q);
        for (int64_t i = 0; run.codes && i < ROWS * kc; i++)
            most = abs(run.codes[i]) > most ? abs(run.codes[i]) : most;
        most *= kinds[k].a_bits ? (1 << (kinds[k].a_bits - 1)) - 1 : 0;
        assert_true(run.exact_cols * most <= INT32_MAX);
        assert_true(!run.codes || (run.exact_cols + 1) * most > INT32_MAX);
    }
    free(m);
}

/* The product of the codes' values by ptq_gemm_f32: the sum's order is another, no more. */
static void near_the_float_product(void **state)
{
    struct fixture *f = *state;
    struct made *m = malloc(sizeof *m);
    float *v = malloc(TOKENS * MOST_COLS * sizeof *v), *y = malloc(TOKENS * ROWS * sizeof *y);
    for (int k = 0; k < N_INTEGER; k++) {
        make(m, &kinds[k]);
        plain(m);
        const int64_t kc = ptq_quant_kcols(&m->q);
        struct ptq_quant stored = m->q;
        stored.act = (struct ptq_act){0};
        assert_ok(ptq_quant_dequant(&stored, m->what, &f->st), &f->st);
        for (int t = 0; t < TOKENS; t++)
            inputs(m, m->x + t * COLS, v + t * kc);
        struct ptq_gemm_f32 g = {TOKENS, ROWS, kc, false, true, 1, 0, v, kc, m->what, kc, y, ROWS};
        assert_ok(ptq_gemm_f32(NULL, &g, &f->st), &f->st);
        assert_ok(ptq_quant_apply(&m->q, NULL, m->x, TOKENS, m->y, &f->st), &f->st);
        for (int i = 0; i < TOKENS * ROWS; i++)
            assert_true(fabs((double)m->y[i] - (double)y[i]) <= m->most[i] * MOST_COLS * 0x1p-24);
    }
    free(m);
    free(v);
    free(y);
}

/* One column short of int32's end, and far over it: 127 * 32767 takes 516 columns. */
static void long_sums_are_exact(void **state)
{
    struct fixture *f = *state;
    enum { N = 70000 };
    uint16_t *codes = calloc(N, sizeof *codes);
    float *x = calloc(N, sizeof *x), scale = 1, y;
    for (int64_t j = 0; j < N; j++) {
        codes[j] = 65534;
        x[j] = j % 3 ? 127 : -126;
    }
    struct ptq_quant q = {.rows = 1, .cols = N, .n_parts = 1, .act = {.bits = 8, .scale = 1}};
    q.part[0] = (struct ptq_part){.kind = PTQ_PART_UNIFORM,
                                  .bits = 16,
                                  .codes = codes,
                                  .group_cols = N,
                                  .groups_per_row = 1,
                                  .scale = {PTQ_FMT_F32, 0, false, 1, &scale},
                                  .zero_const = 32767};
    struct ptq_quant_run run;
    assert_ok(ptq_quant_run_init(&run, &q, NULL, &f->arena, &f->st), &f->st);
    assert_int_equal(run.exact_cols, 516);
    assert_ok(ptq_quant_run_apply(&run, NULL, x, 1, &y, &f->st), &f->st);
    int64_t sum = 0;
    for (int64_t j = 0; j < N; j++)
        sum += (int64_t)x[j] * 32767;
    assert_true(y == (float)sum);
    free(codes);
    free(x);
}

static void same_bits_for_any_threads(void **state)
{
    struct fixture *f = *state;
    struct made *m = malloc(sizeof *m);
    float serial[TOKENS * ROWS];
    struct ptq_pool *pool;
    struct ptq_quant_run run;
    assert_ok(ptq_pool_new(&pool, 3, &f->st), &f->st);
    for (int k = 0; k < N_KINDS; k++) {
        make(m, &kinds[k]);
        assert_ok(ptq_quant_run_init(&run, &m->q, m->what, &f->arena, &f->st), &f->st);
        assert_ok(ptq_quant_run_apply(&run, NULL, m->x, TOKENS, serial, &f->st), &f->st);
        assert_ok(ptq_quant_run_apply(&run, pool, m->x, TOKENS, m->y, &f->st), &f->st);
        assert_memory_equal(serial, m->y, sizeof serial);
        /* and token by token */
        for (int t = 0; t < TOKENS; t++)
            assert_ok(ptq_quant_run_apply(&run, pool, m->x + t * COLS, 1, m->y + t * ROWS, &f->st),
                      &f->st);
        assert_memory_equal(serial, m->y, sizeof serial);
    }
    ptq_pool_free(pool);
    free(m);
}

static void tokens_of_zeros_and_infinities(void **state)
{
    struct fixture *f = *state;
    struct made *m = malloc(sizeof *m);
    for (int k = 0; k < N_KINDS; k++) {
        make(m, &kinds[k]);
        memset(m->x, 0, COLS * sizeof *m->x);
        m->x[COLS + 7] = INFINITY;
        m->x[2 * COLS + 8] = NAN;
        assert_ok(ptq_quant_apply(&m->q, m->what, m->x, TOKENS, m->y, &f->st), &f->st);
        for (int i = 0; i < ROWS; i++) {
            assert_true(m->y[i] == 0);
            assert_false(isfinite(m->y[ROWS + i]));
            assert_false(isfinite(m->y[2 * ROWS + i]));
            assert_true(isfinite(m->y[3 * ROWS + i]));
        }
    }
    free(m);
}

/* ---- cells */

static int setup_layer(void **state)
{
    int rc = setup(state);
    struct fixture *f = *state;
    if (!rc)
        synthetic_layer(&f->arena, 12, 40, 0, &f->layer);
    return rc;
}

static void skipped(struct fixture *f, const char *spec, const struct ptq_cell *cell,
                    const char *why)
{
    struct run_args a = {&f->layer, spec, *cell, PTQ_SINGLE, NULL};
    struct ptq_result r;
    ptq_status_clear(&f->st);
    assert_int_equal(run_cell(&a, &r, &f->st), PTQ_SKIP);
    assert_non_null(strstr(f->st.text, why));
}

static void cells_with_inputs(void **state)
{
    struct fixture *f = *state;
    struct ptq_cell cell = cell_of(4, 16), wide = cell_of(4, 16);
    struct run_args a = {&f->layer, "rtn", cell, PTQ_SINGLE, NULL};
    struct ptq_result r;
    char text[96];
    a.cell.a_bits = cell.a_bits = 8;
    assert_ok(run_cell(&a, &r, &f->st), &f->st); /* the harness fills in what the method left */
    assert_true(r.quant.act.bits == 8 && r.quant.act.scale == 0 && !r.quant.act.folds);
    ptq_result_release(&r);
    assert_string_equal(ptq_cell_text(&cell, text), "b4 a8 g16 asym minmax f32");
    assert_string_equal(ptq_cell_text(&wide, text), "b4 g16 asym minmax f32");
    a.cell.a_bits = 9;
    assert_int_equal(run_cell(&a, &r, &f->st), PTQ_ERR_USAGE);
    f->layer.role = PTQ_ROLE_KCACHE;
    skipped(f, "gptq", &wide, "multiply nothing");
    skipped(f, "rtn", &cell, "no inputs to quantize");
    a.cell = wide;
    ptq_status_clear(&f->st);
    assert_ok(run_cell(&a, &r, &f->st), &f->st);
    assert_int_equal(r.quant.act.bits, 0);
    ptq_result_release(&r);
    f->layer.role = PTQ_ROLE_Q;
    f->layer.x_absmax = NULL;
    skipped(f, "smoothquant", &cell, "needs ranges of the inputs");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(by_a_plain_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(integers_where_they_can_be, setup, teardown),
        cmocka_unit_test_setup_teardown(near_the_float_product, setup, teardown),
        cmocka_unit_test_setup_teardown(long_sums_are_exact, setup, teardown),
        cmocka_unit_test_setup_teardown(same_bits_for_any_threads, setup, teardown),
        cmocka_unit_test_setup_teardown(tokens_of_zeros_and_infinities, setup, teardown),
        cmocka_unit_test_setup_teardown(cells_with_inputs, setup_layer, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
