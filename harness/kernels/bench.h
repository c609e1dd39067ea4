/* bench.h: measures work against what the machine can do at that moment.
 *
 * A row of `ptq bench` is one or several works (a kernel and its rivals) that take turns: each
 * round probes the machine, then lets every work run for one repetition; a last probe closes the
 * row. So a rival sees the same machine, and a repetition is judged by the probes before and after
 * it. Times are of one pass: all items of one copy of the data.
 *
 * Timed: the work's own function, on every thread over items of its own, over copies that together
 * are several times the last cache, so that data come from memory. Not timed: making the data
 * (packing weights, quantizing activations: rows of their own), first touches of pages, and waking
 * the threads but once a repetition: a repetition is many passes, and threads do not wait for each
 * other between passes. */
#ifndef PTQ_KERNELS_BENCH_H
#define PTQ_KERNELS_BENCH_H
#include "kernels/probe.h"

enum { PTQ_BENCH_WORKS = 4, PTQ_BENCH_ROUNDS = 400, PTQ_BENCH_NO_OPS = -1 };

struct ptq_bench_work {
    int64_t items, copies;
    /* Items [begin, end) of a copy, on thread `slot` of the pool. */
    void (*run)(void *arg, int64_t copy, int64_t begin, int64_t end, int slot);
    void *arg;
    bool own_threads;          /* run takes all items at once and brings its threads */
    double bytes, ops, values; /* of a pass: from and to memory; 2 a multiplication and addition */
    enum ptq_probe_kind memory;
    int arithmetic; /* enum ptq_probe_kind, or PTQ_BENCH_NO_OPS */
    unsigned flags; /* enum ptq_cpu_flags: what instructions the arithmetic limit may use */
};

struct ptq_bench_summary { /* of samples that count */
    int64_t n;
    double median, q1, q3, least;
};
/* Samples whose mark is set do not count, unless fewer than three are left: then all do. marked
 * NULL: none is. n == 0: NaN. */
struct ptq_bench_summary ptq_bench_summary(const double *samples, const bool *marked, int64_t n);
/* Time of a pass at the limit, as a share of ns; *bound: what sets it. A limit of 0 is none. */
struct ptq_bench_limit {
    double gbs, gops; /* 1e9 a second */
};
struct ptq_bench_share {
    double memory, ops, share; /* share: the larger */
    const char *bound;         /* "memory", "ops"; "-": no limit */
};
struct ptq_bench_share ptq_bench_share(const struct ptq_bench_work *, double ns,
                                       struct ptq_bench_limit);

struct ptq_bench_result { /* of one work */
    int64_t rounds, marked;
    struct ptq_bench_summary ns;  /* of a pass */
    struct ptq_bench_limit limit; /* medians of the probes */
    struct ptq_bench_share share; /* medians of the rounds' own */
    double best;                  /* share of the best probes by the fastest repetition */
    double spread;                /* (q3 - q1) / 2 / median */
    double speed;                 /* time of this work / time of the first, median of rounds */
    double others, stolen;        /* processors in others' hands during the row: 1 is one */
};

struct ptq_bench {
    struct ptq_prober probe;
    int64_t cache_bytes, rotate_bytes; /* last cache; data are copied until they exceed this */
    int64_t most_bytes;                /* memory that one row may take */
    double
        best[PTQ_MAX_PROBE_LOOPS]; /* mean of two probes, one before and one after a repetition */
    int64_t row_ns, repetition_ns; /* time of a row; of one repetition, roughly */
    int64_t least_rounds;
};
struct ptq_bench_time {
    double row_s;
    int64_t least_rounds;
};
int ptq_bench_open(struct ptq_bench *, struct ptq_pool *, struct ptq_bench_time,
                   struct ptq_status *);
void ptq_bench_close(struct ptq_bench *);
/* n <= PTQ_BENCH_WORKS; out[n]. */
int ptq_bench_run(struct ptq_bench *, const struct ptq_bench_work *, int n,
                  struct ptq_bench_result *out, struct ptq_status *);

/* Memory in pages of 2 MiB where the system has them, every page touched. NULL, and PTQ_SKIP, where
 * it is more than most_bytes. */
void *ptq_bench_memory(const struct ptq_bench *, int64_t bytes, struct ptq_status *);
void ptq_bench_memory_free(void *, int64_t bytes);
/* How many copies of so many bytes make a rotation; at least 1, within most_bytes. */
int64_t ptq_bench_copies(const struct ptq_bench *, int64_t bytes);
#endif
