/* acts.h: tokens as the products take them: divided, gathered, rotated, padded, and either with the
 * sums of their groups or as integers of 8 bits. What this costs is paid by every product. */
#ifndef PTQ_KERNELS_ACTS_H
#define PTQ_KERNELS_ACTS_H
#include "core/pool.h"
#include "kernels/kernel.h"

/* What a packed matrix reads. In this order: x / divisor; column k takes channel gather[k] or piece
 * of it (struct ptq_split); with rot, column k is sum_j rot[j][k] of those. */
struct ptq_kinputs {
    int64_t channels, cols, pcols, group; /* of x; of the matrix; padded; as in ptq_kweight */
    const float *divisor;                 /* [channels] or NULL */
    const int32_t *gather;                /* [cols], -1: zeros; NULL: column k is channel k */
    const int32_t *piece;                 /* [cols] or NULL */
    float limit;
    const float *rot; /* (cols x cols) or NULL */
    int bits;         /* of integer activations, 2..8: codes up to 2^(bits-1) - 1 */
    float scale;      /* their static scale; 0: the token's own */
};

struct ptq_kacts_job {
    const struct ptq_kinputs *in;
    const float *x; /* (n x ldx) */
    int64_t n, ldx;
    bool integers;
    unsigned cpu_flags;
};
/* Bytes of memory that the results need; false on overflow. */
bool ptq_kacts_bytes(const struct ptq_kacts_job *, int64_t *bytes);
/* memory: so many bytes, aligned to 64; out points into it (x is never pointed to). The same bits
 * for any number of threads. */
void ptq_kacts_make(const struct ptq_kacts_job *, struct ptq_pool *, void *memory,
                    struct ptq_kacts *out);
#endif
