/* matmul_i8_scalar.c: products of packed weights with int8 activations: the definition. */
#include <math.h>
#include "kernels/panel.h"

static bool serves(const struct ptq_kweight *w, int64_t n_tokens)
{
    (void)n_tokens;
    return w->code == PTQ_KCODE_INT || w->table8;
}

/* Exact: |dot| <= 255 * 127 * 65,536 < 2^31. */
static int32_t dot(const uint8_t *value, const int8_t *x, int64_t begin, int64_t end)
{
    int32_t sum = 0;
    for (int64_t k = begin; k < end; k++)
        sum += value[k] * x[k];
    return sum;
}

/* Codes become the integers of their table. */
static void look_up(const struct ptq_kweight *w, uint8_t *codes)
{
    for (int64_t k = 0; k < w->pcols; k++)
        codes[k] = w->table8[k / w->table_cols * 16 + codes[k]];
}

static float one(const struct ptq_kweight *w, const struct ptq_kacts *x, int64_t panel, int r,
                 int64_t token, const uint8_t *value)
{
    float acc = 0;
    for (int64_t g = 0; g < w->groups; g++) {
        const int64_t begin = g * w->group;
        const int32_t sum = x->sum8[token * w->groups + g];
        const int32_t d = dot(value, x->i8 + token * x->ld, begin, ptq_group_end(w, g));
        float term;
        if (w->code == PTQ_KCODE_INT) {
            /* the product alone may reach 2^31, the difference cannot */
            term = (float)(int32_t)(d - (int64_t)ptq_panel_zero(w, panel, g, r) * sum);
        } else {
            const int64_t block = begin / w->table_cols;
            term = fmaf((float)d, w->table_step[block], w->table_min[block] * (float)sum);
        }
        acc = fmaf(term, ptq_panel_scale(w, panel, g, r), acc);
    }
    return x->scale[token] * acc;
}

static void matmul(const struct ptq_kweight *w, const struct ptq_kacts *x, int64_t begin,
                   int64_t end, float *y, int64_t ldy)
{
    uint8_t value[PTQ_MAX_PCOLS];
    for (int64_t row = begin * PTQ_PANEL_ROWS; row < end * PTQ_PANEL_ROWS && row < w->rows; row++) {
        const int64_t panel = row / PTQ_PANEL_ROWS;
        const int r = (int)(row % PTQ_PANEL_ROWS);
        ptq_panel_row(w, panel, r, value);
        if (w->code == PTQ_KCODE_TABLE)
            look_up(w, value);
        for (int64_t token = 0; token < x->n; token++)
            y[token * ldy + row] = one(w, x, panel, r, token, value);
    }
}

const struct ptq_kernel ptq_kernel_matmul_i8_scalar = {
    .op = PTQ_KOP_MATMUL_I8, .isa = PTQ_ISA_SCALAR, .serves = serves, .run.matmul = matmul};
