/* bench_ops.h: the operations that `ptq bench` can time, with data made up for them: random codes,
 * scales of 16 bits and whole zeros; times do not depend on values. Private to kernels/ and `ptq
 * bench`. */
#ifndef PTQ_KERNELS_BENCH_OPS_H
#define PTQ_KERNELS_BENCH_OPS_H
#include "kernels/acts.h"
#include "kernels/bench.h"

enum ptq_bench_op {
    PTQ_BENCH_MATMUL_I8,
    PTQ_BENCH_MATMUL_F32,
    PTQ_BENCH_PACK,
    PTQ_BENCH_UNPACK,
    PTQ_BENCH_BITS_PACK,
    PTQ_BENCH_BITS_UNPACK,
    PTQ_BENCH_ROWQ_MINMAX,
    PTQ_BENCH_ROWQ_MSE,
    PTQ_BENCH_ACTQ,
    PTQ_BENCH_HADAMARD,
    PTQ_BENCH_VQ,
    PTQ_N_BENCH_OPS
};
struct ptq_bench_op_info {
    const char *name;
    enum ptq_kop kernel;
    bool bits, group, batch; /* which of these it depends on */
};
extern const struct ptq_bench_op_info ptq_bench_ops[PTQ_N_BENCH_OPS];

struct ptq_bench_spec {
    enum ptq_bench_op op;
    int64_t rows, cols, batch;
    int64_t group;  /* columns; -1: whole row */
    int bits;       /* VQ: bits a weight, codes of 8 bits */
    bool table;     /* products: codes index a table */
    unsigned flags; /* enum ptq_cpu_flags */
};

enum { PTQ_BENCH_REGIONS = 8 };
struct ptq_bench_case {
    struct ptq_bench_spec spec;
    const struct ptq_bench *bench;
    const struct ptq_kernel *kernel;
    struct ptq_bench_work work; /* arg: this struct, which therefore stays where it is */
    struct {                    /* memory it owns */
        void *at;
        int64_t bytes;
    } region[PTQ_BENCH_REGIONS];
    int n_regions;
    struct ptq_arena arena;
    /* of the operation */
    struct ptq_kweight *weight; /* [copies], or one shape */
    struct ptq_kvector *vector; /* [copies] */
    struct ptq_kacts acts;
    const struct ptq_kernel *second; /* VQ: the one that adds */
    char *from, *to;
    int64_t from_ld, to_ld;       /* bytes of an item */
    int64_t from_bytes, to_bytes; /* of a copy */
    float *y;
};
/* The kernel that will be timed (VQ: the one that adds up), or NULL. */
const struct ptq_kernel *ptq_bench_pick(const struct ptq_bench_spec *);
/* PTQ_SKIP with the reason: no kernel serves it. The case is closed by the caller either way. */
int ptq_bench_case_open(struct ptq_bench_case *, struct ptq_bench *, const struct ptq_bench_spec *,
                        struct ptq_status *);
/* The same on a part of it that stays in the second-level caches: how fast its instructions are. */
int ptq_bench_cached_open(struct ptq_bench_case *, struct ptq_bench *,
                          const struct ptq_bench_spec *, struct ptq_status *);
void ptq_bench_case_close(struct ptq_bench_case *);
const char *ptq_bench_kernel_name(const struct ptq_kernel *);

/* ---- rivals: fp32 products of BLAS, products of 8 bits of oneDNN ---- */
struct ptq_rival {
    char name[96]; /* what it is and how it uses threads; or why there is none */
    struct ptq_bench_work work;
    void *own;
};
struct ptq_rival_shape {
    int64_t rows, cols, batch;
    const char *blas_core;
};
int ptq_rival_blas_open(struct ptq_rival *, struct ptq_bench *, const struct ptq_rival_shape *,
                        struct ptq_status *);
void ptq_rival_blas_close(struct ptq_rival *);
/* PTQ_SKIP, with the reason in name: not installed, or not when this program was built. */
int ptq_rival_onednn_open(struct ptq_rival *, struct ptq_bench *, const struct ptq_rival_shape *,
                          struct ptq_status *);
void ptq_rival_onednn_close(struct ptq_rival *);
#endif
