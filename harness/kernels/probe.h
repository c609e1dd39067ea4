/* probe.h: what this machine can do at this moment: short loops on all threads of a pool, one piece
 * a thread. Memory: lines read, and lines copied past the caches, through a buffer that rotates, so
 * that no probe finds its bytes in a cache. Arithmetic: independent chains in registers. Private to
 * kernels/ and `ptq bench`. */
#ifndef PTQ_KERNELS_PROBE_H
#define PTQ_KERNELS_PROBE_H
#include "core/pool.h"
#include "kernels/kernel.h"

enum ptq_probe_kind {
    PTQ_PROBE_READ, /* GB/s read */
    PTQ_PROBE_COPY, /* GB/s read and written, both counted */
    PTQ_PROBE_FMA,  /* fp32 GFLOP/s */
    PTQ_PROBE_DOT,  /* int8 Gop/s, a multiplication and an addition are two */
    PTQ_N_PROBES
};
extern const char *const ptq_probe_names[PTQ_N_PROBES]; /* "read", ... */

struct ptq_probe_loop { /* one loop of probe_loops.c */
    enum ptq_probe_kind kind;
    unsigned needs; /* enum ptq_cpu_flags */
    const char *name;
    double work; /* bytes a line, operations a turn */
    /* READ: n lines of `from`; COPY: n lines to `to`; FMA, DOT: n turns */
    void (*run)(int64_t n, const void *from, void *to);
};
enum { PTQ_MAX_PROBE_LOOPS = 16 };
extern const struct ptq_probe_loop ptq_probe_loops[PTQ_MAX_PROBE_LOOPS];
extern const int ptq_n_probe_loops;

struct ptq_prober {
    struct ptq_pool *pool;
    char *memory;  /* of the caller: a multiple of 64 bytes, touched, larger than the caches */
    int64_t bytes; /* of it */
    int64_t at;    /* next line to probe */
    int64_t ns;    /* one probe takes about so long */
    int64_t turns[PTQ_MAX_PROBE_LOOPS]; /* lines or turns a thread; 0: not known yet */
    double best[PTQ_MAX_PROBE_LOOPS];
};
/* Index of the fastest loop that these flags allow; memory loops: of the machine. */
int ptq_probe_find(enum ptq_probe_kind, unsigned flags);
/* Rate of all threads together, 1e9 a second; updates best. */
double ptq_probe_run(struct ptq_prober *, int loop);
#endif
