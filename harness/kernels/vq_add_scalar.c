/* vq_add_scalar.c: sums of table entries that the codes name: the definition. */
#include "kernels/kernel.h"
#include <math.h>

static int64_t code_of(const struct ptq_kvector *v, int64_t panel, int64_t s, int64_t r)
{
    const int64_t line = panel * v->segments + s;
    if (v->code_bits == 16)
        return ((const uint16_t *)v->codes)[line * PTQ_PANEL_ROWS + r];
    if (v->code_bits == 8)
        return ((const uint8_t *)v->codes)[line * PTQ_PANEL_ROWS + r];
    return ((const uint8_t *)v->codes)[line * 16 + r % 16] >> (r / 16 * 4) & 15;
}

static float row(const struct ptq_kvector *v, const float *table, const struct ptq_vq_range *range,
                 int64_t i, float y)
{
    const int64_t panel = i / PTQ_PANEL_ROWS, r = i % PTQ_PANEL_ROWS;
    for (int64_t s = range->begin; s < range->end; s++) {
        const float t = table[(s - range->begin) * v->book_ld + code_of(v, panel, s, r)];
        y = v->scale
                ? fmaf(t,
                       v->scale[(panel * v->groups + s / v->group_segments) * PTQ_PANEL_ROWS + r],
                       y)
                : y + t;
    }
    return y;
}

static void vq_add(const struct ptq_kvector *v, const float *table,
                   const struct ptq_vq_range *range, float *y)
{
    const int64_t end = range->panel_end * PTQ_PANEL_ROWS;
    for (int64_t i = range->panel_begin * PTQ_PANEL_ROWS; i < end && i < v->rows; i++)
        y[i] = row(v, table, range, i, y[i]);
}

const struct ptq_kernel ptq_kernel_vq_add_scalar = {.op = PTQ_KOP_VQ_ADD, .run.vq_add = vq_add};
