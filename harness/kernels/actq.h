/* actq.h: one token to int8. Body of actq_ISA.c, which has absmax() and codes_of() before. */
#ifndef PTQ_KERNELS_ACTQ_H
#define PTQ_KERNELS_ACTQ_H
#include <string.h>

static void actq(struct ptq_actq *a)
{
    a->scale = absmax(a) / 127;
    for (int64_t i = 0; i < a->pcols; i += a->group) {
        const int64_t end = a->pcols - i < a->group ? a->pcols : i + a->group;
        if (a->scale > 0)
            a->sums[i / a->group] = codes_of(a, i, end);
        else {
            memset(a->codes + i, 0, (size_t)(end - i));
            a->sums[i / a->group] = 0;
        }
    }
}
#endif
