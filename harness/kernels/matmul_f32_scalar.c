/* matmul_f32_scalar.c: products of packed weights with fp32 activations: the definition. */
#include <math.h>
#include "kernels/panel.h"

/* Entry a code stands for. */
static inline float entry(const struct ptq_kweight *w, int64_t k, int code)
{
    return w->code == PTQ_KCODE_INT ? (float)code : w->table[k / w->table_cols * 16 + code];
}

static float one(const struct ptq_kweight *w, const struct ptq_kacts *x, int64_t panel, int r,
                 int64_t token, const uint8_t *codes)
{
    const float *in = x->f32 + token * x->ld;
    float acc = 0;
    for (int64_t g = 0; g < w->groups; g++) {
        const int64_t end = ptq_group_end(w, g);
        float t = 0;
        for (int64_t k = g * w->group; k < end; k++)
            t = fmaf(entry(w, k, codes[k]), in[k], t);
        if (w->code == PTQ_KCODE_INT)
            t = fmaf((float)-ptq_panel_zero(w, panel, g, r), x->sum32[token * w->groups + g], t);
        acc = fmaf(t, ptq_panel_scale(w, panel, g, r), acc);
    }
    return acc;
}

static void matmul(const struct ptq_kweight *w, const struct ptq_kacts *x, int64_t begin,
                   int64_t end, float *y, int64_t ldy)
{
    uint8_t codes[PTQ_MAX_PCOLS];
    for (int64_t row = begin * PTQ_PANEL_ROWS; row < end * PTQ_PANEL_ROWS && row < w->rows; row++) {
        const int64_t panel = row / PTQ_PANEL_ROWS;
        const int r = (int)(row % PTQ_PANEL_ROWS);
        ptq_panel_row(w, panel, r, codes);
        for (int64_t token = 0; token < x->n; token++)
            y[token * ldy + row] = one(w, x, panel, r, token, codes);
    }
}

const struct ptq_kernel ptq_kernel_matmul_f32_scalar = {
    .op = PTQ_KOP_MATMUL_F32, .isa = PTQ_ISA_SCALAR, .run.matmul = matmul};
