/* fmatile.h: the inner kernel of our own fp32 products (linalg, attention): C (8 x 48) = or +=
 * A (8 x n) B (n x 48). Every element is one chain of fused multiply-adds from 0 in index order,
 * then added to C at once: AVX2 and AVX-512 give the same bits. A processor without them, or
 * PTQ_CPU=scalar, multiplies and adds with two roundings. Pure; any thread. */
#ifndef PTQ_CORE_FMATILE_H
#define PTQ_CORE_FMATILE_H
#include <stdbool.h>
#include <stdint.h>

enum { PTQ_FMATILE_ROWS = 8, PTQ_FMATILE_COLS = 48 };

struct ptq_fmatile {
    const float *row[PTQ_FMATILE_ROWS]; /* A_rk = row[r][k * step]; rows may be one and the same */
    int64_t step, n;
    const float *b; /* (n x 48), without gaps */
    /* NULL, or [n]: column c takes term k only where bit c of seen[k] is set; what it does not
     * take may be NaN. */
    const uint64_t *seen;
    float *c;
    int64_t ldc;
    bool add; /* else C is not read */
};
typedef void ptq_fmatile_fn(const struct ptq_fmatile *);

/* The fastest kernel that this processor and PTQ_CPU allow. */
ptq_fmatile_fn *ptq_fmatile_best(void);
/* Whether that one fuses. */
bool ptq_fmatile_fuses(void);
#endif
