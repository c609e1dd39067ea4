/* rtn.c: round to nearest on the grid of the cell (methods.md section 1). What every other
 * method has to beat. Reference: the quantizer of the published GPTQ code (arXiv 2210.17323). No
 * departures; the search of the grid is the cell's. */
#include "ptq.h"

enum { ROWS_A_PIECE = 16 };

struct job {
    const struct ptq_layer *layer;
    const struct ptq_part *part;
    uint16_t *codes;
};

/* One run of weights that share a grid. */
PTQ_CLONES static void round_run(const float *restrict w, int64_t n, float scale, float zero,
                                 int maxq, uint16_t *restrict code)
{
    for (int64_t j = 0; j < n; j++) {
        ptq_real x = (ptq_real)w[j] / (ptq_real)scale;
        code[j] = (uint16_t)ptq_grid_code(ptq_round(x), zero, maxq);
    }
}

static void round_rows(void *arg, int64_t begin, int64_t end)
{
    const struct job *job = arg;
    const struct ptq_part *p = job->part;
    int64_t cols = job->layer->w.cols, g = p->group_cols;
    for (int64_t i = begin; i < end; i++)
        for (int64_t j = 0; j < cols; j += g) {
            int64_t group = p->groups_per_row ? i * p->groups_per_row + j / g : 0,
                    n = cols - j < g ? cols - j : g;
            round_run(job->layer->w.at + i * job->layer->w.ld + j, n, p->scale.at[group],
                      ptq_part_zero(p, group), (1 << p->bits) - 1, job->codes + i * cols + j);
        }
}

static int quantize(struct ptq_ctx *ctx, const struct ptq_layer *layer, const struct ptq_cell *cell,
                    const void *opts, const void *shared, struct ptq_quant *out)
{
    (void)opts;
    (void)shared;
    struct ptq_part_arrays at;
    int rc = ptq_part_uniform(ctx, layer, cell, &out->part[0], &at);
    if (rc == PTQ_OK)
        rc = PTQ_REAL(ptq_grid_fit_all)(ctx, layer, cell, NULL, &at);
    if (rc != PTQ_OK)
        return rc;
    struct job job = {layer, &out->part[0], at.codes};
    ptq_parallel_for(ctx, layer->w.rows, ROWS_A_PIECE, round_rows, &job);
    out->n_parts = 1;
    return PTQ_OK;
}

static void cost(const struct ptq_layer *layer, const struct ptq_cell *cell, const void *opts,
                 struct ptq_cost *out)
{
    (void)opts;
    double n = (double)layer->w.rows * (double)layer->w.cols;
    double group = (double)ptq_group_cols(cell, layer->w.cols);
    double search = cell->grid == PTQ_GRID_MSE    ? 80 * 30
                    : cell->grid == PTQ_GRID_HESS ? 200 * group
                                                  : 0;
    *out = (struct ptq_cost){.flops = n * (6 + search), .bytes = n * 6, .peak_bytes = n * 6};
}

PTQ_METHOD(rtn) = {
    .name = "rtn",
    .title = "Round to nearest",
    .cite = "baseline; grid of arXiv 2210.17323 (code)",
    .status = "reference",
    .caps = PTQ_CAP_SYM | PTQ_CAP_ASYM | PTQ_CAP_GROUPS | PTQ_CAP_TENSOR | PTQ_CAP_GRID_MSE |
            PTQ_CAP_GRID_HESS | PTQ_CAP_ZERO_FREE | PTQ_CAP_ACT | PTQ_CAP_NO_PRODUCT,
    .quantize = quantize,
    .cost = cost,
};
