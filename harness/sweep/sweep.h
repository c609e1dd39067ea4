/* sweep.h: a sweep from a configuration to rows. See design section 7. */
#ifndef PTQ_SWEEP_SWEEP_H
#define PTQ_SWEEP_SWEEP_H
#include "core/blas.h"
#include "core/ini.h"
#include "core/pool.h"
#include "quant/run.h"
#include <stdatomic.h>

struct ptq_config {     /* everything a sweep is told, defaults filled in; lives in the arena it was read into */
    const char *file, *name;            /* name: run folder results/NAME; default the file's stem */
    struct { const char *source; bool outliers; int64_t blocks; /* 0: all */ } model;
    struct { const char *text; int64_t nsamples, seqlen, sink_tokens; int64_t *seeds; int64_t n_seeds; bool sequential, true_sequential;
             const char *heldout; int64_t heldout_seed; } calib;
    struct { struct ptq_spec *specs; int64_t n_specs; int64_t *bits, n_bits, *groups, n_groups; int *sym, n_sym; int *grid, n_grid; int *scale, n_scale;
             enum ptq_sym_kind sym_kind; bool zero_in_range; const char *layers; } sweep;
    struct { const char *text; int64_t windows, window; char **metrics; int64_t n_metrics; } eval;
    struct { int threads; int64_t memory_bytes; uint64_t seed; double budget_s; enum ptq_precision precision; bool portable, keep_forms; const char *out; } run;
};
/* Reads, overrides (set words, may be NULL) and checks. Unknown sections, keys and values: file:line and the nearest valid word. */
int ptq_config_read(const char *path, const char *set_words, const char *model_source, struct ptq_arena *, struct ptq_config *, struct ptq_status *);

struct ptq_sweep_args {
    const struct ptq_config *config;
    const struct ptq_machine *machine;
    struct ptq_pool *pool;
    const atomic_bool *cancel;          /* set by Ctrl-C: the cell in flight is finished or dropped, then the sweep says how to go on */
    bool dry_run, quiet;
    int shard, n_shards;                /* 0, 1: all cells */
};
struct ptq_sweep_summary { int64_t n_cells, n_done_before, n_ok, n_skipped, n_failed, n_left; char run_dir[512]; };
/* Runs what is missing. PTQ_OK also when cells failed (they are rows; see the summary); < 0 when the sweep itself could not go on. */
int ptq_sweep_run(const struct ptq_sweep_args *, struct ptq_sweep_summary *, struct ptq_status *);
#endif
