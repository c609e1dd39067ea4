/* bench.h: the rows of `ptq bench`: which are asked for, and how they are shown. */
#ifndef PTQ_CLI_BENCH_H
#define PTQ_CLI_BENCH_H
#include "cli/cli.h"
#include "kernels/bench_ops.h"

enum { PTQ_BENCH_NAME = 96, PTQ_BENCH_NOTE = 200 };
struct ptq_bench_row {
    char op[32]; /* of ptq_bench_ops; sgemv, sgemm, u8s8s32 of rivals */
    char weights[32], kernel[PTQ_BENCH_NAME], note[PTQ_BENCH_NOTE];
    const char *isa;
    int64_t rows, cols, batch, threads;
    bool timed;
    struct ptq_bench_work work;
    struct ptq_bench_result result;
    double vs_blas, vs_onednn; /* how many times as fast as; 0: not compared */
    double cached; /* time a weight where all lies in caches / time a weight; 0: not measured */
};
/* ---- what is asked for ---- */
struct ptq_bench_shape {
    int64_t rows, cols;
};
struct ptq_bench_level { /* an instruction set, as --isa names it */
    const char *name;
    unsigned flags;
};
struct ptq_bench_plan {
    struct ptq_bench_spec *spec; /* flags: not set */
    int64_t n;
    struct ptq_bench_level level[4];
    int n_levels;
};
/* From the verb's options; in the arena. */
int ptq_bench_plan(const struct ptq_args *, struct ptq_arena *, struct ptq_bench_plan *,
                   struct ptq_status *);
/* Distinct shapes of the matrices of a model's first block. model: a name of `synth:`, a
 * checkpoint, or a configuration that names one. */
int ptq_bench_model_shapes(const char *model, struct ptq_arena *, struct ptq_bench_shape **,
                           int64_t *n, struct ptq_status *);

/* ---- what is shown ---- */
struct ptq_bench_sheet {
    const struct ptq_machine *machine;
    const struct ptq_bench *bench;
    const struct ptq_bench_row *row;
    int64_t n;
};
/* Text and Markdown: what machine it was and what it can do, a table, and what stood in the way;
 * CSV and JSON Lines: every column, rows alone. */
int ptq_bench_print(const struct ptq_bench_sheet *, enum ptq_format, void *file,
                    struct ptq_status *);
/* The rows over the machine's limits, as NAME.svg or .png; NAME.tsv holds what is drawn. PTQ_SKIP:
 * the reason why there is no picture. */
int ptq_bench_draw(const struct ptq_bench_sheet *, const char *out, struct ptq_status *);
#endif
