/* attn_loss against vec(dW_h)^T (Hrow kron Hcol) vec(dW_h) written out. */
#include "quant_lib.h"
#include "metrics/metric.h"

enum { HEADS = 3, D = 4, COLS = 7, ROWS = HEADS * D };

static void random_spd(uint64_t seed, int n, double *h)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            h[i * n + j] = 0;
            for (int k = 0; k < n + 2; k++)
                h[i * n + j] += ptq_normal(seed, (uint64_t)(i * 31 + k)) *
                                ptq_normal(seed, (uint64_t)(j * 31 + k));
        }
}

struct attn_case {
    float w[ROWS * COLS], what[ROWS * COLS];
    double hess[COLS * COLS], hrow[HEADS][D * D], hcol[HEADS][COLS * COLS];
    double packed[HEADS * COLS * (COLS + 1) / 2];
    struct ptq_attn attn;
    struct ptq_layer layer;
};

static void make(struct attn_case *c, bool columns)
{
    int at = 0;
    for (int i = 0; i < ROWS * COLS; i++) {
        c->w[i] = (float)ptq_normal(1, (uint64_t)i);
        c->what[i] = c->w[i] + (float)(0.1 * ptq_normal(2, (uint64_t)i));
    }
    random_spd(3, COLS, c->hess);
    for (int h = 0; h < HEADS; h++) {
        random_spd((uint64_t)(10 + h), D, c->hrow[h]);
        random_spd((uint64_t)(20 + h), COLS, c->hcol[h]);
        for (int i = 0; i < COLS; i++)
            for (int j = i; j < COLS; j++)
                c->packed[at++] = c->hcol[h][i * COLS + j];
    }
    c->attn = (struct ptq_attn){
        .n_heads = HEADS, .head_dim = D, .hrow = c->hrow[0], .hcol = columns ? c->packed : NULL};
    c->layer = (struct ptq_layer){.name = "blk.0.attn_v",
                                  .w = {c->w, ROWS, COLS, COLS},
                                  .hess = {c->hess, COLS, COLS, COLS},
                                  .attn = &c->attn};
}

static double written_out(const struct attn_case *c, bool columns)
{
    double sum = 0;
    for (int h = 0; h < HEADS; h++) {
        const double *hcol = columns ? c->hcol[h] : c->hess;
        for (int a = 0; a < D * COLS; a++)
            for (int b = 0; b < D * COLS; b++) {
                const int i = h * D * COLS + a, j = h * D * COLS + b;
                sum += ((double)(c->what[i] - c->w[i])) * ((double)(c->what[j] - c->w[j])) *
                       c->hrow[h][(a / COLS) * D + b / COLS] * hcol[(a % COLS) * COLS + b % COLS];
            }
    }
    return sum;
}

static int evaluate(struct fixture *f, struct attn_case *c, struct ptq_value *v)
{
    const struct ptq_quant quant = {.rows = ROWS, .cols = COLS};
    struct ptq_layer_truth truth = {.layer = NULL};
    assert_int_equal(ptq_layer_truth_init(&truth, &c->layer, NULL, NULL, &f->arena, &f->st), 0);
    struct ptq_layer_eval e = {.truth = &truth, .quant = &quant, .stored = c->what, .st = &f->st};
    ptq_arena_init(&e.arena, 0);
    assert_int_equal(ptq_layer_eval_compare(&e), PTQ_OK);
    int rc = ptq_metric_find("attn_loss")->layer(&e, v);
    ptq_arena_clear(&e.arena);
    return rc;
}

static void test_against_kronecker(void **state)
{
    static struct attn_case c;
    for (int columns = 0; columns < 2; columns++) {
        struct ptq_value v;
        make(&c, columns);
        assert_int_equal(evaluate(*state, &c, &v), PTQ_OK);
        assert_true(fabs(v.v / written_out(&c, columns) - 1) < 1e-12);
    }
}

static void test_absent(void **state)
{
    static struct attn_case c;
    struct ptq_value v;
    make(&c, true);
    c.layer.attn = NULL;
    assert_int_equal(evaluate(*state, &c, &v), PTQ_SKIP);
    assert_non_null(strstr(v.reason, "no statistics of attention"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_against_kronecker, setup, teardown),
        cmocka_unit_test_setup_teardown(test_absent, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
