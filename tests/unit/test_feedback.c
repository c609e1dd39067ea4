/* The column sweep as a service against the method GPTQ, and the services beside it: factors of
 * any Hessian, Cholesky and triangular solves. */
#include "quant_lib.h"
#include "quant/ctx.h"

/* The double names of ptq.h, which declares the float ones here. */
struct ptq_factor_f64 {
    int64_t n;
    const double *m, *d;
    const int32_t *perm;
    const uint8_t *dead;
    double lambda;
    int retries;
    int64_t n_dead;
};
struct ptq_feedback_f64 {
    int64_t rows;
    const double *w;
    int64_t ldw;
    const struct ptq_factor_f64 *factor;
    const struct ptq_part *part;
    int64_t first_row;
    const double *drive;
    uint16_t *codes;
    double *error;
    int64_t *n_clipped;
};
int ptq_factor_make_f64(struct ptq_ctx *, const struct ptq_cdmat *, const struct ptq_layer *,
                        const struct ptq_factor_args *, const struct ptq_factor_f64 **);
int ptq_feedback_run_f64(struct ptq_ctx *, const struct ptq_feedback_f64 *);
int ptq_cholesky_lower_f64(struct ptq_ctx *, double *, int64_t n, int64_t lda);
int ptq_solve_lower_f64(struct ptq_ctx *, bool trans, const double *l, int64_t n, int64_t ldl,
                        double *b, int64_t m, int64_t ldb);

enum { ROWS = 40, COLS = 150, DEAD = 3 };

static struct ptq_ctx context(struct fixture *f, struct ptq_pool *pool)
{
    return (struct ptq_ctx){
        .call = &f->arena, .pool = pool, .st = &f->st, .lock = PTHREAD_MUTEX_INITIALIZER};
}

struct sweep {
    struct fixture *f;
    struct ptq_ctx *ctx;
    const struct ptq_layer *l;
    const struct ptq_factor_args *args;
    const struct ptq_part *part;
    int64_t rows_a_call;
    uint16_t *codes;
    double *error; /* (rows x n) */
    int64_t n_clipped;
};

static void sweep_f32(struct sweep *s)
{
    struct ptq_feedback_f32 b = {.ldw = s->l->w.ld, .part = s->part, .n_clipped = &s->n_clipped};
    int64_t n = s->l->w.cols;
    float *error = ptq_arena_alloc(&s->f->arena, &s->f->st, s->l->w.rows * n, sizeof *error);
    assert_ok(ptq_factor_make_f32(s->ctx, &s->l->hess, s->l, s->args, &b.factor), &s->f->st);
    for (int64_t i = 0; i < s->l->w.rows; i += s->rows_a_call) {
        b.first_row = i;
        b.rows = s->l->w.rows - i < s->rows_a_call ? s->l->w.rows - i : s->rows_a_call;
        b.w = s->l->w.at + i * s->l->w.ld;
        b.codes = s->codes + i * n;
        b.error = error + i * n;
        assert_ok(ptq_feedback_run_f32(s->ctx, &b), &s->f->st);
    }
    for (int64_t i = 0; i < s->l->w.rows * n; i++)
        s->error[i] = (double)error[i];
}

static void sweep_f64(struct sweep *s)
{
    struct ptq_feedback_f64 b = {.ldw = s->l->w.cols, .part = s->part, .n_clipped = &s->n_clipped};
    int64_t n = s->l->w.cols;
    double *w = ptq_arena_alloc(&s->f->arena, &s->f->st, s->l->w.rows * n, sizeof *w);
    for (int64_t i = 0; i < s->l->w.rows * n; i++)
        w[i] = (double)s->l->w.at[i];
    assert_ok(ptq_factor_make_f64(s->ctx, &s->l->hess, s->l, s->args, &b.factor), &s->f->st);
    for (int64_t i = 0; i < s->l->w.rows; i += s->rows_a_call) {
        b.first_row = i;
        b.rows = s->l->w.rows - i < s->rows_a_call ? s->l->w.rows - i : s->rows_a_call;
        b.w = w + i * n;
        b.codes = s->codes + i * n;
        b.error = s->error + i * n;
        assert_ok(ptq_feedback_run_f64(s->ctx, &b), &s->f->st);
    }
}

struct feedback_case {
    const char *spec;
    int64_t rows, cols, group;
    int bits;
    bool act_order, sym;
};

/* Codes, clipped codes and errors of GPTQ on the grids that GPTQ chose. */
static void check_case(struct fixture *f, const struct feedback_case *c,
                       enum ptq_precision precision, struct ptq_pool *pool)
{
    struct ptq_layer l;
    struct ptq_result r;
    struct ptq_ctx ctx = context(f, pool);
    synthetic_layer(&f->arena, c->rows, c->cols, DEAD, &l);
    struct run_args a = {&l, c->spec, cell_of(c->bits, c->group), precision, NULL};
    a.cell.sym = c->sym;
    assert_ok(run_cell(&a, &r, &f->st), &f->st);
    struct ptq_factor_args args = {.percdamp = 0.01, .act_order = c->act_order};
    struct sweep s = {f, &ctx, &l, &args, &r.quant.part[0], .rows_a_call = c->rows};
    int64_t cells = c->rows * c->cols;
    s.codes = ptq_arena_alloc(&f->arena, &f->st, cells, sizeof *s.codes);
    s.error = ptq_arena_alloc(&f->arena, &f->st, cells, sizeof *s.error);
    for (int whole = 0; whole < 2; whole++, s.rows_a_call = 7) {
        s.n_clipped = 0;
        memset(s.codes, 0xff, (size_t)cells * sizeof *s.codes);
        (precision == PTQ_SINGLE ? sweep_f32 : sweep_f64)(&s);
        int64_t different = count_different(s.codes, r.quant.part[0].codes, cells);
        if (different)
            fail_msg("%s %lld x %lld: %lld codes differ", c->spec, (long long)c->rows,
                     (long long)c->cols, (long long)different);
        assert_true((double)s.n_clipped == note_of(&r, "n_clipped"));
        for (int64_t i = 0; i < cells; i++) {
            bool dead = l.hess.at[i % c->cols * (c->cols + 1)] == 0;
            double e = (dead ? 0 : (double)l.w.at[i]) - (double)r.what[i];
            assert_true(fabs(s.error[i] - e) <= 1e-6 * fabs(e) + 1e-12);
        }
    }
    ptq_result_release(&r);
}

static void codes_of_gptq(void **state)
{
    const struct feedback_case cases[] = {
        {"gptq", ROWS, COLS, -1, 3, true, false},
        {"gptq:act_order=0", ROWS, COLS, -1, 2, false, false},
        {"gptq", ROWS, COLS, 32, 3, true, true},
        {"gptq:act_order=0", ROWS, COLS, 48, 2, false, false},
        {"gptq", ROWS, COLS, 0, 4, true, false},
        {"gptq", 1, 300, -1, 3, true, false},
        {"gptq", 300, 30, -1, 8, true, false},
    };
    struct ptq_pool *pool;
    struct fixture *f = *state;
    assert_ok(ptq_pool_new(&pool, 2, &f->st), &f->st);
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        check_case(f, &cases[i], PTQ_SINGLE, NULL);
        check_case(f, &cases[i], PTQ_DOUBLE_PRECISION, NULL);
        check_case(f, &cases[i], PTQ_DOUBLE_PRECISION, pool);
    }
    ptq_pool_free(pool);
}

/* x_k by the definition, weights moved as the columns go. */
static void plain_drive(const struct ptq_feedback_f64 *b, int64_t row, uint16_t *codes)
{
    double w[COLS], x[COLS], e[COLS];
    for (int j = 0; j < COLS; j++)
        w[j] = b->factor->dead[b->factor->perm[j]] ? 0 : b->w[row * COLS + b->factor->perm[j]];
    for (int k = 0; k < COLS; k++) {
        struct ptq_grid_fit g = {b->part->scale.at[row], b->part->zero.at[row], false};
        x[k] = w[k];
        for (int j = 0; j < k; j++)
            x[k] += e[j] * b->factor->m[j * COLS + k];
        int code = ptq_grid_code(rint(x[k] / (double)g.scale), g.zero, (1 << b->part->bits) - 1);
        e[k] = w[k] - (double)ptq_grid_value(&g, code);
        codes[b->factor->perm[k]] = (uint16_t)code;
        for (int j = k + 1; j < COLS; j++)
            w[j] += x[k] * b->drive[k * COLS + j];
    }
}

static void driven(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    struct ptq_result r;
    struct ptq_ctx ctx = context(f, NULL);
    static double w[ROWS * COLS], drive[COLS * COLS];
    static uint16_t codes[ROWS * COLS], plain[COLS];
    synthetic_layer(&f->arena, ROWS, COLS, DEAD, &l);
    struct run_args a = {&l, "gptq", cell_of(3, -1), PTQ_DOUBLE_PRECISION, NULL};
    assert_ok(run_cell(&a, &r, &f->st), &f->st);
    for (int i = 0; i < ROWS * COLS; i++)
        w[i] = (double)l.w.at[i];
    for (int i = 0; i < COLS; i++)
        for (int j = i + 1; j < COLS; j++)
            drive[i * COLS + j] = 0.02 * ptq_normal(5, (uint64_t)(i * COLS + j));
    struct ptq_factor_args args = {.percdamp = 0.01, .act_order = true};
    struct ptq_feedback_f64 b = {.rows = ROWS,
                                 .w = w,
                                 .ldw = COLS,
                                 .part = &r.quant.part[0],
                                 .drive = drive,
                                 .codes = codes};
    assert_ok(ptq_factor_make_f64(&ctx, &l.hess, &l, &args, &b.factor), &f->st);
    assert_ok(ptq_feedback_run_f64(&ctx, &b), &f->st);
    for (int i = 0; i < ROWS; i++) {
        plain_drive(&b, i, plain);
        assert_int_equal(count_different(plain, codes + i * COLS, COLS), 0);
    }
    assert_true(count_different(codes, r.quant.part[0].codes, ROWS * COLS) > ROWS);
    ptq_result_release(&r);
}

/* A = L L^T to rounding, L^-1 and L^-T of it; an indefinite matrix is refused without a message. */
static void triangles(void **state)
{
    enum { N = 70, M = 9 };
    struct fixture *f = *state;
    struct ptq_layer l;
    struct ptq_ctx ctx = context(f, NULL);
    static double a[N * N], lower[N * N], b[N * M], x[N * M];
    synthetic_layer(&f->arena, 2, N, 0, &l);
    memcpy(a, l.hess.at, sizeof a);
    for (int i = 0; i < N; i++)
        a[i * (N + 1)] += 1;
    memcpy(lower, a, sizeof a);
    assert_int_equal(ptq_cholesky_lower_f64(&ctx, lower, N, N), PTQ_OK);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int k = 0; k < N; k++)
                sum += lower[i * N + k] * lower[j * N + k];
            assert_true(fabs(sum - a[i * N + j]) < 1e-12 * a[0] * N);
            assert_true(j <= i || lower[i * N + j] == 0);
        }
    for (int trans = 0; trans < 2; trans++) {
        for (int i = 0; i < N * M; i++)
            x[i] = b[i] = ptq_normal(7, (uint64_t)i);
        assert_ok(ptq_solve_lower_f64(&ctx, trans, lower, N, N, x, M, M), &f->st);
        for (int i = 0; i < N; i++)
            for (int j = 0; j < M; j++) {
                double sum = 0;
                for (int k = 0; k < N; k++)
                    sum += (trans ? lower[k * N + i] : lower[i * N + k]) * x[k * M + j];
                assert_true(fabs(sum - b[i * M + j]) < 1e-11);
            }
    }
    a[3 * (N + 1)] = -1;
    assert_int_equal(ptq_cholesky_lower_f64(&ctx, a, N, N), PTQ_SKIP);
    assert_int_equal(f->st.code, PTQ_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(codes_of_gptq, setup, teardown),
        cmocka_unit_test_setup_teardown(driven, setup, teardown),
        cmocka_unit_test_setup_teardown(triangles, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
