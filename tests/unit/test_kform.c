/* Forms made by hand of every kind that kernels serve: their products against the stored matrix
 * (ptq_quant_dequant) in fp64, and with integer activations against ptq_quant_apply. */
#include "quant_lib.h"
#include "kernels/kform.h"
#include "quant/apply.h"

enum { TOKENS = 5 };

/* ---- forms ---- */

struct maker {
    struct fixture *f;
    struct ptq_quant q;
    uint64_t draws;
};

static uint64_t draw(struct maker *m, uint64_t below)
{
    return ptq_hash_u64(99, m->draws++) % below;
}

static void *take(struct maker *m, int64_t n, size_t size)
{
    void *at = ptq_arena_alloc(&m->f->arena, &m->f->st, n, size);
    assert_non_null(at);
    return at;
}

/* Values of an array in their format: whole numbers, or about `size`. */
static struct ptq_arr arr(struct maker *m, int64_t n, enum ptq_fmt fmt, int bits, double size)
{
    const bool is_signed = bits < 0;
    float *at = take(m, n, sizeof *at);
    bits = bits < 0 ? -bits : bits;
    for (int64_t i = 0; i < n; i++)
        at[i] = fmt == PTQ_FMT_INT
                    ? (float)((int)draw(m, UINT64_C(1) << bits) - (is_signed ? 1 << (bits - 1) : 0))
                    : ptq_round_fmt(size * ptq_normal(7, m->draws++), fmt);
    return (struct ptq_arr){fmt, fmt == PTQ_FMT_INT ? bits : 0, is_signed, n, at};
}

static struct ptq_arr positive(struct ptq_arr a)
{
    for (int64_t i = 0; i < a.n; i++)
        ((float *)(uintptr_t)a.at)[i] = fabsf(a.at[i]) + ldexpf(1, -10);
    for (int64_t i = 0; i < a.n; i++)
        ((float *)(uintptr_t)a.at)[i] = ptq_round_fmt(a.at[i], a.fmt);
    return a;
}

static const uint16_t *codes(struct maker *m, int64_t n, int64_t below)
{
    uint16_t *at = take(m, n, sizeof *at);
    for (int64_t i = 0; i < n; i++)
        at[i] = (uint16_t)draw(m, (uint64_t)below);
    return at;
}

static const int32_t *permutation(struct maker *m, int64_t n)
{
    int32_t *p = take(m, n, sizeof *p);
    for (int64_t i = 0; i < n; i++)
        p[i] = (int32_t)i;
    for (int64_t i = n - 1; i > 0; i--) {
        const int64_t j = (int64_t)draw(m, (uint64_t)i + 1);
        const int32_t t = p[i];
        p[i] = p[j];
        p[j] = t;
    }
    return p;
}

static struct ptq_part *add_part(struct maker *m, enum ptq_part_kind kind, int bits)
{
    struct ptq_part *p = &m->q.part[m->q.n_parts++];
    p->kind = kind;
    p->bits = bits;
    return p;
}

static void group(struct maker *m, struct ptq_part *p, int64_t cols)
{
    const int64_t kcols = ptq_quant_kcols(&m->q);
    p->group_cols = cols == PTQ_GROUP_ROW || cols == PTQ_GROUP_TENSOR ? kcols : cols;
    p->groups_per_row = cols == PTQ_GROUP_TENSOR ? 0 : (kcols - 1) / p->group_cols + 1;
}
static int64_t n_groups(const struct maker *m, const struct ptq_part *p)
{
    return p->groups_per_row ? m->q.rows * p->groups_per_row : 1;
}

static struct ptq_part *uniform(struct maker *m, int bits, int64_t cols, bool zeros)
{
    struct ptq_part *p = add_part(m, PTQ_PART_UNIFORM, bits);
    group(m, p, cols);
    p->codes = codes(m, m->q.rows * ptq_quant_kcols(&m->q), INT64_C(1) << bits);
    p->scale = positive(arr(m, n_groups(m, p), bits % 2 ? PTQ_FMT_F32 : PTQ_FMT_F16, 0, 0.02));
    p->zero_const = (float)(1 << (bits - 1));
    if (zeros)
        p->zero = arr(m, n_groups(m, p), PTQ_FMT_INT, bits, 0);
    return p;
}

struct book {
    int bits;
    int64_t dim, rows, cols;
    int int_bits;   /* of the entries; 0: F16 */
    int64_t scales; /* columns of a group; 0: no scales */
};
static struct ptq_part *codebook(struct maker *m, struct book b)
{
    struct ptq_part *p = add_part(m, PTQ_PART_CODEBOOK, b.bits);
    const int64_t kcols = ptq_quant_kcols(&m->q), rows = m->q.rows;
    p->dim = b.dim;
    p->book_len = (INT64_C(1) << b.bits) - (b.bits > 2); /* one entry less than codes */
    p->book_rows = b.rows ? b.rows : rows;
    p->book_cols = b.cols ? b.cols : kcols;
    const int64_t books = ((rows - 1) / p->book_rows + 1) * ((kcols - 1) / p->book_cols + 1);
    p->codes = codes(m, rows * (kcols / b.dim), p->book_len);
    p->book = arr(m, books * p->book_len * b.dim, b.int_bits ? PTQ_FMT_INT : PTQ_FMT_F16,
                  b.int_bits, 0.1);
    if (b.int_bits) {
        p->book_step = positive(arr(m, books, PTQ_FMT_F16, 0, 0.001));
        p->book_min = arr(m, books, PTQ_FMT_F16, 0, 0.1);
    }
    if (b.scales) {
        group(m, p, b.scales);
        p->scale = positive(arr(m, n_groups(m, p), PTQ_FMT_F16, 0, 1));
    }
    return p;
}

static void lowrank(struct maker *m, int64_t rank, int bits)
{
    struct ptq_part *p = add_part(m, PTQ_PART_LOWRANK, 0);
    p->rank = rank;
    p->left = arr(m, m->q.rows * rank, PTQ_FMT_INT, bits, 0);
    p->right = arr(m, rank * ptq_quant_kcols(&m->q), PTQ_FMT_INT, bits, 0);
    p->left_scale = positive(arr(m, rank, PTQ_FMT_F16, 0, 0.01));
    p->right_scale = positive(arr(m, rank, PTQ_FMT_F16, 0, 0.01));
}

static void tree(struct maker *m, struct ptq_part *p, int levels)
{
    const int64_t n = m->q.rows * levels * (ptq_quant_kcols(&m->q) / 2);
    uint8_t *bits = take(m, n, 1);
    for (int64_t i = 0; i < n; i++)
        bits[i] = (uint8_t)draw(m, 2);
    p->tree_levels = levels;
    p->tree_bits = bits;
}

/* Any matrix will do: nothing here needs it to be orthogonal. */
static void rotation(struct maker *m, struct ptq_part *p)
{
    const int64_t n = ptq_quant_kcols(&m->q);
    p->rot = arr(m, n * n, PTQ_FMT_F32, 0, 0.2);
}

static void divisor(struct maker *m, bool folds)
{
    m->q.act.divisor = positive(arr(m, m->q.cols, PTQ_FMT_F16, 0, 1));
    m->q.act.folds = folds;
}

/* Every channel once, some in pieces, two columns of padding. */
static void split(struct maker *m, int64_t extra)
{
    const int64_t n = m->q.cols + extra;
    int32_t *source = take(m, n, sizeof *source), *piece = take(m, n, sizeof *piece);
    for (int64_t k = 0; k < n; k++) {
        const bool more = k >= m->q.cols;
        source[k] = (int32_t)(k >= n - 2 ? -1 : more ? 3 * (k - m->q.cols) : k);
        piece[k] = more ? 1 : k % 3 == 0 && k / 3 < extra - 2 ? 0 : -1;
    }
    m->q.split = (struct ptq_split){n, source, piece, 0.75f};
}

static struct maker maker_of(void **state, int64_t rows, int64_t cols)
{
    return (struct maker){.f = *state, .q = {.rows = rows, .cols = cols}};
}

/* ---- references ---- */

static float *inputs(struct maker *m)
{
    float *x = take(m, TOKENS * m->q.cols, sizeof *x);
    for (int64_t i = 0; i < TOKENS * m->q.cols; i++)
        x[i] = (float)ptq_normal(5, (uint64_t)i);
    return x;
}

/* Column k of the stored matrix sees this of token x, which is divided already where a divisor
 * folds; What itself holds the divisor unless there is a split. */
static double seen(const struct ptq_quant *q, const float *x, int64_t k)
{
    const struct ptq_split *s = &q->split;
    const bool divide = q->act.divisor.fmt != PTQ_FMT_NONE;
    if (!s->n_cols)
        return divide && q->act.folds ? (double)x[k] * (double)q->act.divisor.at[k] : (double)x[k];
    if (s->source[k] < 0)
        return 0;
    double v = (double)x[s->source[k]];
    if (divide && !q->act.folds)
        v /= (double)q->act.divisor.at[s->source[k]];
    if (s->piece[k] < 0)
        return v;
    const double limit = (double)s->limit, a = fabs(v) - s->piece[k] * limit;
    return copysign(fmin(fmax(a, 0), limit), v);
}

static void check_floats(struct maker *m, const float *what, const float *x, const float *y)
{
    const int64_t kcols = ptq_quant_kcols(&m->q), rows = m->q.rows;
    for (int64_t t = 0; t < TOKENS; t++)
        for (int64_t i = 0; i < rows; i++) {
            double sum = 0, size = 0;
            for (int64_t k = 0; k < kcols; k++) {
                const double p = (double)what[i * kcols + k] * seen(&m->q, x + t * m->q.cols, k);
                sum += p;
                size += fabs(p);
            }
            /* two roundings a product at most, of fp32, in sums of some hundred */
            if (!(fabs((double)y[t * rows + i] - sum) <= 2e-5 * size))
                fail_msg("token %lld, row %lld: %.9g, expected %.9g (terms %.3g)", (long long)t,
                         (long long)i, (double)y[t * rows + i], sum, size);
        }
}

static void check_integers(struct maker *m, const float *x, const float *y)
{
    const int64_t rows = m->q.rows, n = TOKENS * m->q.cols;
    float *want = take(m, TOKENS * rows, sizeof *want), *in = take(m, n, sizeof *in);
    struct ptq_quant q = m->q;
    double most = 0;
    q.act.bits = q.act.bits ? q.act.bits : 8;
    for (int64_t i = 0; i < n; i++)
        in[i] = x[i];
    if (q.act.folds) { /* the producer's part was done */
        q.act.folds = false;
        q.act.divisor = (struct ptq_arr){0};
    }
    assert_ok(ptq_quant_apply(&q, NULL, in, TOKENS, want, &m->f->st), &m->f->st);
    for (int64_t i = 0; i < TOKENS * rows; i++)
        most = fmax(most, fabs((double)want[i]));
    for (int64_t i = 0; i < TOKENS * rows; i++)
        if (!(fabs((double)y[i] - (double)want[i]) <= 1e-5 * most))
            fail_msg("integers: output %lld: %.9g, expected %.9g", (long long)i, (double)y[i],
                     (double)want[i]);
}

static float *run_on(struct maker *m, const struct ptq_kform *form, const float *x, bool integers,
                     struct ptq_pool *pool)
{
    float *y = take(m, TOKENS * m->q.rows, sizeof *y);
    struct ptq_kwork work = {0};
    struct ptq_kcall call = {pool, x, TOKENS, integers, y};
    assert_ok(ptq_kform_run(form, &call, &work, &m->f->st), &m->f->st);
    ptq_kwork_free(&work);
    return y;
}

/* With no instruction set, and with all that the processor has; alone and by three threads: the
 * same bits. */
static float *run(struct maker *m, const float *x, bool integers)
{
    struct ptq_kform form;
    struct ptq_pool *pool;
    float *y[2];
    assert_ok(ptq_pool_new(&pool, 3, &m->f->st), &m->f->st);
    for (int i = 0; i < 2; i++) {
        const unsigned flags = ptq_cpu_flags(i ? PTQ_ISA_AVX512 : PTQ_ISA_SCALAR);
        assert_ok(ptq_kform_build(&m->q, flags, &m->f->arena, &form, &m->f->st), &m->f->st);
        assert_true(form.bytes > 0);
        y[i] = run_on(m, &form, x, integers, i ? pool : NULL);
    }
    ptq_pool_free(pool);
    assert_memory_equal(y[0], y[1], (size_t)(TOKENS * m->q.rows) * sizeof **y);
    return y[0];
}

enum { FLOATS = 1, INTEGERS = 2 };
static void check(struct maker *m, int activations)
{
    const struct ptq_quant *q = &m->q;
    const float *x = inputs(m);
    float *what = take(m, q->rows * ptq_quant_kcols(q), sizeof *what);
    assert_ok(ptq_quant_validate(q, &m->f->st), &m->f->st);
    assert_ok(ptq_quant_dequant(q, what, &m->f->st), &m->f->st);
    if (activations & FLOATS)
        check_floats(m, what, x, run(m, x, false));
    if (activations & INTEGERS)
        check_integers(m, x, run(m, x, true));
}

/* ---- kinds ---- */

static void test_uniform(void **state)
{
    static const int64_t groups[] = {16, 32, 64, 128, PTQ_GROUP_ROW, PTQ_GROUP_TENSOR};
    for (int bits = 1; bits <= 8; bits++)
        for (int g = 0; g < LENGTH(groups); g++)
            for (int zeros = 0; zeros < 2; zeros++) {
                struct maker m = maker_of(state, 37, 200 - g);
                uniform(&m, bits, groups[g], zeros);
                check(&m, FLOATS | INTEGERS);
            }
}

static void test_perm(void **state)
{
    struct maker m = maker_of(state, 40, 150);
    uniform(&m, 4, 32, true)->perm = permutation(&m, 150);
    check(&m, FLOATS | INTEGERS);
}

static void test_split(void **state)
{
    for (int with = 0; with < 8; with++) {
        struct maker m = maker_of(state, 33, 100);
        split(&m, 12);
        struct ptq_part *p = uniform(&m, 4, with & 1 ? 16 : PTQ_GROUP_TENSOR, true);
        if (with & 1)
            p->perm = permutation(&m, 112);
        if (with & 2)
            divisor(&m, false);
        if (with & 4)
            m.q.act = (struct ptq_act){m.q.act.divisor, false, 4, 0.3f};
        check(&m, FLOATS | INTEGERS);
    }
}

static void test_divisor(void **state)
{
    for (int folds = 0; folds < 2; folds++) {
        struct maker m = maker_of(state, 20, 90);
        uniform(&m, 3, 32, false);
        divisor(&m, folds);
        m.q.act.bits = 6;
        check(&m, FLOATS | INTEGERS);
    }
}

static void test_codebook(void **state)
{
    for (int bits = 1; bits <= 4; bits++)
        for (int with = 0; with < 4; with++) {
            struct maker m = maker_of(state, 50, 144);
            codebook(&m, (struct book){.bits = bits,
                                       .dim = 1,
                                       .cols = with & 1 ? 48 : 0,
                                       .int_bits = with & 2 ? 8 : 0,
                                       .scales = with == 3   ? 16
                                                 : with == 1 ? PTQ_GROUP_ROW
                                                             : 0});
            check(&m, with & 2 ? FLOATS | INTEGERS : FLOATS);
        }
    struct maker m = maker_of(state, 50, 144); /* one pair for all books, signed, groups wider */
    struct ptq_part *p =
        codebook(&m, (struct book){.bits = 3, .dim = 1, .cols = 16, .int_bits = -6, .scales = 48});
    p->book_step.n = p->book_min.n = 1;
    check(&m, FLOATS | INTEGERS);
}

static void test_lowrank(void **state)
{
    struct maker m = maker_of(state, 70, 96);
    lowrank(&m, 5, -8);
    check(&m, FLOATS | INTEGERS);
    m = maker_of(state, 70, 96);
    codebook(&m, (struct book){.bits = 4, .dim = 1, .cols = 32, .int_bits = 8});
    lowrank(&m, 33, -8);
    uniform(&m, 2, 32, true);
    check(&m, FLOATS | INTEGERS);
}

static void test_vectors(void **state)
{
    static const struct book books[] = {
        {.bits = 4, .dim = 2, .cols = 32, .int_bits = 8},
        {.bits = 8, .dim = 4, .cols = 4},
        {.bits = 8, .dim = 2, .scales = PTQ_GROUP_ROW, .int_bits = 10},
        {.bits = 10, .dim = 3, .cols = 48, .scales = 24},
        {.bits = 6, .dim = 1, .cols = 16, .int_bits = 8},
        {.bits = 3, .dim = 2, .rows = 7, .cols = 24},
        {.bits = 2, .dim = 1, .rows = 40},
        {.bits = 12, .dim = 8},
    };
    for (int i = 0; i < LENGTH(books); i++) {
        struct maker m = maker_of(state, 45, 96);
        codebook(&m, books[i]);
        check(&m, FLOATS);
        m = maker_of(state, 41, 96);
        codebook(&m, books[i]);
        codebook(&m, books[0]);
        check(&m, FLOATS);
    }
}

static void test_tree(void **state)
{
    for (int levels = 1; levels <= 4; levels++) {
        struct maker m = maker_of(state, 35, 96);
        tree(&m, codebook(&m, (struct book){.bits = 5, .dim = levels % 2 ? 4 : 3, .cols = 12}),
             levels);
        codebook(&m, (struct book){.bits = 9, .dim = 4, .cols = 4, .int_bits = 10});
        check(&m, FLOATS);
    }
}

static void test_rot(void **state)
{
    struct maker m = maker_of(state, 35, 104);
    rotation(&m, codebook(&m, (struct book){.bits = 5, .dim = 4, .cols = 4}));
    check(&m, FLOATS);
    m = maker_of(state, 35, 104);
    struct ptq_part *p = codebook(&m, (struct book){.bits = 5, .dim = 2, .cols = 26});
    tree(&m, p, 2);
    rotation(&m, p);
    check(&m, FLOATS);
}

/* ---- what is not served ---- */

static void expect_skip(struct maker *m, const char *reason)
{
    struct ptq_kform form;
    struct ptq_status st = {0};
    assert_ok(ptq_quant_validate(&m->q, &m->f->st), &m->f->st);
    assert_int_equal(ptq_kform_build(&m->q, 0, &m->f->arena, &form, &st), PTQ_SKIP);
    assert_status(&st, PTQ_SKIP, reason);
}

static void test_skips(void **state)
{
    struct maker m = maker_of(state, 20, 90);
    uniform(&m, 4, 24, false);
    expect_skip(&m, "groups of 24");
    m = maker_of(state, 20, 90);
    uniform(&m, 4, 32, false)->zero_const = 7.5f;
    expect_skip(&m, "zero of 7.5");
    m = maker_of(state, 20, 90);
    uniform(&m, 4, 32, true)->zero = arr(&m, 60, PTQ_FMT_INT, -5, 0);
    expect_skip(&m, "whole numbers of 0..255");
    m = maker_of(state, 20, 90);
    uniform(&m, 9, 32, false);
    expect_skip(&m, "codes of 9 bits");
    m = maker_of(state, 20, 90);
    lowrank(&m, 2, -9);
    expect_skip(&m, "codes of 9 bits");
    m = maker_of(state, 20, 96);
    tree(&m, uniform(&m, 4, 32, false), 2);
    expect_skip(&m, "tree");
}

static void test_no_integers(void **state)
{
    struct maker m = maker_of(state, 20, 96);
    struct ptq_kform form;
    struct ptq_kwork work = {0};
    struct ptq_status st = {0};
    float *y = take(&m, 20, sizeof *y);
    codebook(&m, (struct book){.bits = 4, .dim = 2});
    struct ptq_kcall call = {NULL, inputs(&m), 1, true, y};
    assert_ok(ptq_kform_build(&m.q, 0, &m.f->arena, &form, &st), &st);
    assert_int_equal(ptq_kform_run(&form, &call, &work, &st), PTQ_SKIP);
    assert_status(&st, PTQ_SKIP, "codes of vectors");
    m = maker_of(state, 20, 96);
    codebook(&m, (struct book){.bits = 4, .dim = 1});
    ptq_status_clear(&st);
    assert_ok(ptq_kform_build(&m.q, 0, &m.f->arena, &form, &st), &st);
    assert_int_equal(ptq_kform_run(&form, &call, &work, &st), PTQ_SKIP);
    assert_status(&st, PTQ_SKIP, "books of floats");
    ptq_kwork_free(&work);
}

/* Bytes that a product reads, by hand: 64 rows x 256 columns, 4 bits, groups of 128. */
static void test_bytes(void **state)
{
    struct maker m = maker_of(state, 64, 256);
    struct ptq_kform form;
    uniform(&m, 4, 128, true)->perm = permutation(&m, 256);
    assert_ok(ptq_kform_build(&m.q, 0, &m.f->arena, &form, &m.f->st), &m.f->st);
    assert_int_equal(form.bytes, 64 * 256 / 2 + 64 * 2 * (2 + 1) + 256 * 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_uniform, setup, teardown),
        cmocka_unit_test_setup_teardown(test_perm, setup, teardown),
        cmocka_unit_test_setup_teardown(test_split, setup, teardown),
        cmocka_unit_test_setup_teardown(test_divisor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_codebook, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lowrank, setup, teardown),
        cmocka_unit_test_setup_teardown(test_vectors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tree, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rot, setup, teardown),
        cmocka_unit_test_setup_teardown(test_skips, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_integers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bytes, setup, teardown),
    };
    return cmocka_run_group_tests_name("kform", tests, NULL, NULL);
}
