/* actq_scalar.c: one token to int8. */
#include "kernels/kernel.h"
#include <math.h>

static float absmax(const float *x, int64_t n)
{
    float most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

/* A scale near the smallest float is rounded coarsely: codes beyond 127 are cut. */
static int8_t code_of(float x, float scale)
{
    const float q = rintf(x / scale);
    return (int8_t)(q > 127 ? 127 : q < -127 ? -127 : q);
}

static void actq(struct ptq_actq *a)
{
    a->scale = absmax(a->x, a->n) / 127;
    for (int64_t i = 0; i < a->pcols; i++)
        a->codes[i] = i < a->n && a->scale > 0 ? code_of(a->x[i], a->scale) : 0;
    for (int64_t i = 0; i < a->pcols; i += a->group) {
        int32_t sum = 0;
        for (int64_t j = i; j < i + a->group && j < a->pcols; j++)
            sum += a->codes[j];
        a->sums[i / a->group] = sum;
    }
}

const struct ptq_kernel ptq_kernel_actq_scalar = {.op = PTQ_KOP_ACTQ, .run.actq = actq};
