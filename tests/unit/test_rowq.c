/* Row quantization of kernels/: every kernel gives the codes, scales and zeros that method rtn
 * stores, on weights of every shape that steers the search. */
#include "quant_lib.h"
#include "kernels/kernel.h"

enum { ROWS = 24, COLS = 400 };

enum shape {
    HEAVY_TAILS,
    NORMAL,
    UNIFORM,
    ON_A_GRID,
    OUTLIER,
    ONE_SIDED,
    CONSTANT,
    NEAR_TIES,
    N_SHAPES
};

static float weight(enum shape shape, int64_t i)
{
    const double g = ptq_normal(21 + (uint64_t)shape, (uint64_t)i);
    const int64_t k = (int64_t)(ptq_uniform(22, (uint64_t)i) * 16);
    switch (shape) {
    case HEAVY_TAILS: return (float)(0.03 * g * g * g);
    case NORMAL: return (float)(0.02 * g);
    case UNIFORM: return (float)(ptq_uniform(23, (uint64_t)i) - 0.4);
    case ON_A_GRID: return (float)(0.0625 * (double)(k - 7));
    case OUTLIER: return (float)(i % 37 == 5 ? 40 * g : 0.01 * g);
    case ONE_SIDED: return (float)fabs(g);
    case CONSTANT: return i / COLS % 3 == 0 ? 0 : i / COLS % 3 == 1 ? 0.7F : -1e-3F;
    default: return (float)((double)(k - 8) + (i % 2 ? 0.5 : -0.5)) * 0.01F;
    }
}

static void same_group(const struct ptq_quant *form, const struct ptq_kernel *k, const float *w,
                       int64_t group_cols, int64_t row, int64_t col)
{
    const struct ptq_part *p = &form->part[0];
    uint8_t codes[COLS];
    struct ptq_rowq q = {.w = w + row * COLS + col,
                         .n = COLS - col < group_cols ? COLS - col : group_cols,
                         .bits = p->bits,
                         .codes = codes};
    const int64_t group = row * p->groups_per_row + col / group_cols;
    k->run.rowq(&q);
    if (q.scale != p->scale.at[group] || (float)q.zero != p->zero.at[group])
        fail_msg("row %d column %d: scale %.9g zero %d, rtn has %.9g and %g", (int)row, (int)col,
                 (double)q.scale, q.zero, (double)p->scale.at[group], (double)p->zero.at[group]);
    for (int64_t j = 0; j < q.n; j++)
        assert_int_equal(codes[j], p->codes[row * COLS + col + j]);
}

static void same_as_rtn(struct fixture *f, const float *w, int bits, int64_t group,
                        enum ptq_grid grid)
{
    struct ptq_cell cell = cell_of(bits, group);
    cell.grid = grid;
    const struct run_args a = {
        .layer = &f->layer, .spec = "rtn", .cell = cell, .precision = PTQ_SINGLE};
    struct ptq_result r;
    assert_ok(run_cell(&a, &r, &f->st), &f->st);
    const enum ptq_kop op = grid == PTQ_GRID_MSE ? PTQ_KOP_ROWQ_MSE : PTQ_KOP_ROWQ_MINMAX;
    const unsigned flags = ptq_cpu_flags(PTQ_ISA_AVX512);
    for (int i = 0; i < ptq_n_kernels; i++) {
        const struct ptq_kernel *k = ptq_kernels[i];
        for (int64_t row = 0; k->op == op && !(k->needs & ~flags) && row < ROWS; row++)
            for (int64_t col = 0; col < COLS; col += group)
                same_group(&r.quant, k, w, group, row, col);
    }
    ptq_result_release(&r);
}

static void rtn_codes(void **state)
{
    struct fixture *f = *state;
    static const int bits[] = {2, 3, 4, 8};
    static const int64_t groups[] = {32, 64, 128, COLS}; /* a row ends within 32 and 128 */
    float *w = ptq_arena_alloc(&f->arena, &f->st, ROWS * COLS, sizeof *w);
    assert_non_null(w);
    synthetic_layer(&f->arena, ROWS, COLS, 0, &f->layer);
    f->layer.w.at = w;
    for (int shape = 0; shape < N_SHAPES; shape++) {
        for (int64_t i = 0; i < ROWS * COLS; i++)
            w[i] = weight((enum shape)shape, i);
        for (int b = 0; b < LENGTH(bits); b++)
            for (int g = 0; g < LENGTH(groups); g++) {
                same_as_rtn(f, w, bits[b], groups[g], PTQ_GRID_MINMAX);
                same_as_rtn(f, w, bits[b], groups[g], PTQ_GRID_MSE);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(rtn_codes, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
