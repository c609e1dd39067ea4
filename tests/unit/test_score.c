/* The audit of a layer that another program quantized: counts by hand, grids found in plain values,
 * matrices that were scaled. */
#include "testlib.h"
#include "analysis/score_audit.h"
#include "core/rng.h"
#include <math.h>

enum { ROWS = 8, COLS = 64, GROUP = 16, N_GROUPS = COLS / GROUP, BITS = 3, MOST = 7 };

struct matrix {
    float w[ROWS * COLS], scale[ROWS * N_GROUPS], zero[ROWS * N_GROUPS], value[ROWS * COLS];
    uint16_t codes[ROWS * COLS];
};

/* Weights on both sides of 0; codes by rounding on a grid over their range. */
static void fill(struct matrix *m)
{
    for (int64_t i = 0; i < ROWS * COLS; i++)
        m->w[i] = (float)ptq_normal(7, (uint64_t)i);
    for (int64_t k = 0; k < ROWS * N_GROUPS; k++) {
        float lo = 0, hi = 0;
        for (int64_t j = 0; j < GROUP; j++) {
            lo = fminf(lo, m->w[k * GROUP + j]);
            hi = fmaxf(hi, m->w[k * GROUP + j]);
        }
        m->scale[k] = (float)(ptq_round_fmt((double)(hi - lo) / MOST, PTQ_FMT_F16));
        m->zero[k] = rintf(-lo / m->scale[k]);
        for (int64_t j = k * GROUP; j < (k + 1) * GROUP; j++) {
            float q = rintf(m->w[j] / m->scale[k]) + m->zero[k];
            m->codes[j] = (uint16_t)(q < 0 ? 0 : q > MOST ? MOST : q);
            m->value[j] = m->scale[k] * ((float)m->codes[j] - m->zero[k]);
        }
    }
}

static struct ptq_external_layer packed(struct matrix *m)
{
    return (struct ptq_external_layer){
        .quant = {
            .rows = ROWS,
            .cols = COLS,
            .n_parts = 1,
            .part = {
                {.kind = PTQ_PART_UNIFORM,
                 .bits = BITS,
                 .codes = m->codes,
                 .group_cols = GROUP,
                 .groups_per_row = N_GROUPS,
                 .scale = {.fmt = PTQ_FMT_F16, .n = ROWS * N_GROUPS, .at = m->scale},
                 .zero = {
                     .fmt = PTQ_FMT_INT, .bits = BITS, .n = ROWS * N_GROUPS, .at = m->zero}}}}};
}

/* As ptq_external_layer makes them: a book of whole rows. */
static struct ptq_external_layer plain(struct matrix *m, uint16_t *no_codes)
{
    return (struct ptq_external_layer){
        .plain = m->value,
        .value_eps = ldexp(1, -23),
        .quant = {.rows = ROWS,
                  .cols = COLS,
                  .n_parts = 1,
                  .part = {{.kind = PTQ_PART_CODEBOOK,
                            .bits = 1,
                            .codes = no_codes,
                            .dim = COLS,
                            .book_len = 1,
                            .book_rows = 1,
                            .book_cols = COLS,
                            .book = {.fmt = PTQ_FMT_F32, .n = ROWS * COLS, .at = m->value}}}}};
}

static struct ptq_score_audit audit(const struct ptq_external_layer *l, const float *w)
{
    struct ptq_arena a;
    struct ptq_score_audit out;
    struct ptq_status st = {0};
    ptq_arena_init(&a, 0);
    assert_ok(ptq_score_audit_layer(l, w, COLS, &a, &out, &st), &st);
    ptq_arena_clear(&a);
    return out;
}

static void test_rounded(void **state)
{
    struct matrix m;
    (void)state;
    fill(&m);
    struct ptq_external_layer l = packed(&m);
    struct ptq_score_audit a = audit(&l, m.w);
    assert_int_equal(a.bits, BITS);
    assert_int_equal(a.group_cols, GROUP);
    assert_int_equal(a.n_groups, ROWS * N_GROUPS);
    assert_int_equal(a.n_rtn_same, ROWS * COLS);
    assert_int_equal(a.n_one_sided + a.n_flat + a.n_scale_zero + a.n_scaled_rows, 0);
    /* one code elsewhere is no rounding any more */
    m.codes[100] = (uint16_t)(m.codes[100] > 3 ? m.codes[100] - 2 : m.codes[100] + 2);
    a = audit(&l, m.w);
    assert_int_equal(a.n_rtn_same, ROWS * COLS - 1);
    assert_int_equal(a.n_rtn_close, ROWS * COLS - 1);
}

static void test_broken_groups(void **state)
{
    struct matrix m;
    (void)state;
    fill(&m);
    struct ptq_external_layer l = packed(&m);
    for (int64_t j = 0; j < GROUP; j++) {
        m.codes[j] = (uint16_t)m.zero[0];      /* all 0: flat, and one-sided */
        m.codes[GROUP + j] = j % 2 ? MOST : 0; /* all at the ends */
    }
    m.scale[2] = 0;
    m.scale[3] = -m.scale[3];
    m.scale[4] = ldexpf(1, -20); /* below 2^-14: subnormal in fp16; all its weights are clipped */
    struct ptq_score_audit a = audit(&l, m.w);
    assert_int_equal(a.n_flat, 1);
    assert_int_equal(a.n_saturated, 1);
    assert_int_equal(a.n_scale_zero, 1);
    assert_int_equal(a.n_scale_negative, 1);
    assert_int_equal(a.n_scale_subnormal, 1);
    assert_true(a.n_one_sided >= 2); /* that of zeros, and that without a scale */
    assert_true(a.n_clipped >= GROUP);
    m.zero[5] = MOST + 1;
    assert_int_equal(audit(&l, m.w).n_out_of_range, 1);
}

/* Values alone give back bits, groups and codes. */
static void test_found(void **state)
{
    struct matrix m;
    uint16_t no_codes[ROWS] = {0};
    (void)state;
    fill(&m);
    struct ptq_external_layer l = plain(&m, no_codes);
    struct ptq_score_audit a = audit(&l, m.w);
    assert_true(a.found);
    assert_int_equal(a.bits, BITS);
    assert_int_equal(a.group_cols, GROUP);
    assert_int_equal(a.n_rtn_close, ROWS * COLS);
    m.value[100] += 0.3F * m.scale[100 / GROUP]; /* off the grid of its group */
    a = audit(&l, m.w);
    assert_true(a.bits == 0 || a.bits > BITS);
    memcpy(m.value, m.w, sizeof m.w); /* floats are on no grid */
    assert_int_equal(audit(&l, m.w).bits, 0);
}

static void test_scaled(void **state)
{
    struct matrix m;
    float before[ROWS * COLS];
    (void)state;
    fill(&m);
    struct ptq_external_layer l = packed(&m);
    memcpy(before, m.w, sizeof before);
    for (int64_t i = 0; i < ROWS; i++)
        for (int64_t j = 0; j < COLS; j++)
            before[i * COLS + j] *= i % 2 ? 1.5F : 1;
    assert_int_equal(audit(&l, before).n_scaled_rows, ROWS / 2);
    for (int64_t i = 0; i < ROWS; i++)
        for (int64_t j = 0; j < COLS; j++)
            before[i * COLS + j] = m.w[i * COLS + j] * (j < 10 ? 0.5F : 1);
    assert_int_equal(audit(&l, before).n_scaled_cols, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rounded),
                                       cmocka_unit_test(test_broken_groups),
                                       cmocka_unit_test(test_found), cmocka_unit_test(test_scaled)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
