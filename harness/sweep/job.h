/* job.h: a sweep under way; internal to sweep/. One thread plans and leads; cells run on the pool
 * and share what is marked shared. */
#ifndef PTQ_SWEEP_JOB_H
#define PTQ_SWEEP_JOB_H
#include "core/progress.h"
#include "metrics/health.h"
#include "metrics/metric.h"
#include "model/module.h"
#include "model/stats.h"
#include "sweep/pick.h"
#include "sweep/placed.h"
#include "sweep/keys.h"
#include "sweep/noise.h"
#include "sweep/formpack.h"
#include "sweep/row.h"
#include "sweep/store.h"
#include "sweep/sweep.h"
#include <limits.h>
#include <pthread.h>

struct ptq_point { /* a grid point: one quantized model, one row a layer */
    const struct ptq_spec *spec;
    struct ptq_cell cell;
    int draw; /* calibration draw */
};
struct ptq_entry { /* a layer of the source */
    const char *name, *input;
    enum ptq_role role;
    int block, lin, stage; /* lin < 0: a K or V cache, no part of the model that is run */
    int64_t rows, cols;
    char weights[PTQ_KEY_CHARS];
    char given[PTQ_KEY_CHARS]; /* bare layers: key of Hessian or activations, "" without */
};
struct ptq_draw { /* a text whose statistics are taken: a calibration draw, or the held-out text */
    int64_t seed; /* the one the text was drawn with, also where its source names it */
    struct ptq_text text;
    /* Of the statistics that every method may see: text, model, options, arithmetic. Those of
     * attention are no part of it, so that adding a method that asks for them changes no key of the
     * others. */
    char key[PTQ_KEY_CHARS];
    char path[PATH_MAX]; /* where they are kept: another file with statistics of attention */
    bool captured;
    /* What the evaluation text has to do with this one (row.h); NULL: nothing. */
    const char *in_domain;
};
struct ptq_want { /* a row that the sweep wants */
    char key[PTQ_KEY_CHARS], form[PTQ_KEY_CHARS];
    bool repeated;  /* an earlier point gives this very row (methods without statistics, over
                       calibration draws) */
    bool mine;      /* of this shard */
    bool need_row;  /* absent, or lacks a metric that is wanted now */
    bool need_form; /* layers: a model row that is needed needs the stored form, and it is not there
                     */
};

/* Rows beside the cells: of every point (propagation_phase.c, proxy_phase.c), or of every layer
 * with noise, at[entry * levels + level]. */
enum { PTQ_PROPAGATION, PTQ_FEW, PTQ_PERTURBED, PTQ_N_BESIDE };
struct ptq_wants { /* n == 0: not asked for */
    struct ptq_want *at;
    int64_t n;
};

struct ptq_job {
    const struct ptq_sweep_args *args;
    const struct ptq_config *cfg;
    struct ptq_arena arena; /* lives as long as the job */
    char run_dir[PATH_MAX];
    int64_t begin_ns;
    char started[32]; /* UTC, for rows */

    struct ptq_model *model; /* NULL: bare layers */
    struct ptq_h5 *layerfile;
    const char *model_name, *model_key;
    struct ptq_draw *draws, heldout; /* draws[cfg->calib.n_seeds]; models only */
    struct ptq_stats_options stats_options;
    struct ptq_text eval_text;
    bool has_heldout, has_eval;
    char eval_key[PTQ_KEY_CHARS]; /* what model rows are evaluated on */

    struct ptq_point *points;
    int64_t n_points;
    struct ptq_entry *entries;
    int64_t n_entries;
    struct ptq_want *layer_wants; /* [point * n_entries + entry] */
    struct ptq_want *model_wants; /* [point]; models with an evaluation text */
    struct ptq_wants beside[PTQ_N_BESIDE];
    struct ptq_want reference_want;

    struct ptq_store *store; /* shared */
    struct ptq_pack *pack;   /* shared */
    struct ptq_progress *progress;
    struct ptq_eval *reference; /* of the full-precision model, once model rows are needed */
    int64_t memory_bytes;

    pthread_mutex_t lock;           /* guards: */
    struct ptq_status fatal;        /* the first fault that ends the sweep (disk full) */
    char no_memory[1024];           /* why the first cell was left for want of memory; "" */
    struct ptq_health_node *health; /* of the inputs so far (health.c) */
    atomic_bool failed;             /* fatal is set */
};

/* ---- inputs.c, plan.c: what is swept ---- */
/* What calibration, held-out and evaluation text have to do with each other: the held-out text may
 * not be a calibration text, an evaluation text that is one is marked in its draw. */
int ptq_job_check_texts(struct ptq_job *, struct ptq_status *);
/* On stderr, of a planned job: draws whose text is the evaluation's, where a method looks at them.
 */
void ptq_job_say_in_domain(const struct ptq_job *);
int ptq_job_open_source(struct ptq_job *, struct ptq_status *);
int ptq_job_plan(struct ptq_job *,
                 struct ptq_status *); /* points, entries, wants with their keys */
int ptq_job_look(struct ptq_job *,
                 struct ptq_status *); /* what the store and the pack have: need_row, need_form */
int ptq_job_capture(struct ptq_job *, struct ptq_draw *,
                    struct ptq_status *); /* makes sure the statistics are on disk */
/* What is captured of a draw into its file. */
struct ptq_stats_options ptq_draw_options(const struct ptq_job *, const struct ptq_draw *);
static inline struct ptq_want *ptq_layer_want(const struct ptq_job *j, int64_t point, int64_t entry)
{
    return &j->layer_wants[point * j->n_entries + entry];
}
/* Index of the entry of a block's linear, or -1 when it is not swept. */
int64_t ptq_entry_of(const struct ptq_job *, int block, int lin);
/* What a layer's row is evaluated on. */
void ptq_layer_evaluated_on(const struct ptq_job *, const struct ptq_point *,
                            const struct ptq_entry *, char out[PTQ_KEY_CHARS]);
bool ptq_metric_wanted(const struct ptq_job *, const char *id);
bool ptq_metric_wanted_hook(const void *job, const char *id); /* the same for the metrics */

/* ---- run control ---- */
bool ptq_job_stop(
    const struct ptq_job *); /* cancelled, out of budget, or fatal: start nothing new */
bool ptq_job_out_of_budget(const struct ptq_job *);
bool ptq_job_stop_hook(void *job); /* the same for the loops of model/ */
void ptq_job_fatal(struct ptq_job *, const struct ptq_status *);
/* What a cell that ended in `code` leaves: a row, or the end of the sweep (IO), or nothing
 * (cancelled; no memory, which says nothing about the cell: the next run tries it again). */
enum ptq_leaves { PTQ_LEAVES_ROW, PTQ_LEAVES_NOTHING };
enum ptq_leaves ptq_job_cell_ended(struct ptq_job *, int code, const struct ptq_status *);
/* Cells in flight that the memory budget allows, at least 1, at most the pool's threads. */
int ptq_job_at_most(const struct ptq_job *, double bytes_per_cell);
double ptq_layer_cell_bytes(int64_t rows, int64_t cols);
/* Runs every one of the n points: side by side where they are as many as the threads, else one
 * after another, each with the whole pool. */
void ptq_job_each_model(struct ptq_job *, const int64_t *points, int64_t n, double bytes_per_cell,
                        void (*run)(struct ptq_job *, int64_t point));
/* Where hidden states of one text go that would take more than a thread's half of the budget: the
 * run's folder. */
struct ptq_spill ptq_job_spill(const struct ptq_job *);
/* Running and scoring the evaluation text: the widest intermediate results of its longest sequence,
 * the output matrix, logits of two models. */
double ptq_scoring_bytes(const struct ptq_job *);
/* What a block's forms are made into for products with quantized inputs; 0: there are none. */
double ptq_runs_bytes(const struct ptq_job *);
double ptq_module_bytes(const struct ptq_job *); /* behind ptq_module_loss; 0: nobody asks */

/* ---- rowmake.c ---- */
struct ptq_times {
    double prepare_s, quantize_s, score_s;
    int64_t begin_ns;
};
/* A row's fields before its metrics; point NULL: the reference. */
json_t *ptq_row_begin(const struct ptq_job *, const char *kind, const struct ptq_want *,
                      const struct ptq_point *);
void ptq_row_add_layer(json_t *, const struct ptq_entry *);
void ptq_row_add_eval(json_t *, const struct ptq_text *, const struct ptq_eval *);
void ptq_row_add_notes(json_t *, const struct ptq_note_value *, int n);
/* values: as the metrics gave them, registry order; NULL: none were computed. */
void ptq_row_add_metrics(json_t *, const struct ptq_job *,
                         const struct ptq_entry * /* NULL: a model's row */,
                         const struct ptq_want *, const char *evaluated_on,
                         const struct ptq_value *values);
/* Adds time and host, appends and forgets the row. IO faults become the job's. */
int ptq_row_finish(struct ptq_job *, json_t *, const struct ptq_times *, struct ptq_status *);
/* status "skipped" or "failed" with a reason, in place of metrics. */
void ptq_row_set_outcome(json_t *, int code, const char *reason);
/* True when the row has every wanted metric under its present key, or is an outcome without
 * metrics. */
bool ptq_row_complete(const struct ptq_job *, const json_t *row,
                      const struct ptq_entry * /* NULL: a model's row */, const struct ptq_want *,
                      const char *evaluated_on);

/* health.c: of the layer's input, made when it is first asked for; valid as long as the job. NULL
 * in *out: no Hessian. Any thread. */
int ptq_job_health(struct ptq_job *, const struct ptq_layer *, const struct ptq_health **out,
                   struct ptq_status *);
void ptq_row_add_health(json_t *, const struct ptq_health *); /* NULL: nothing */

/* ---- phases ---- */
int ptq_layer_phase(struct ptq_job *, struct ptq_status *);
int ptq_model_phase(struct ptq_job *, struct ptq_status *);
/* The stored form of a swept layer, which must be there; release it. */
int ptq_stored_form(struct ptq_job *, int64_t point, int64_t entry, struct ptq_result *,
                    struct ptq_status *);
/* Rows of kind "speed" for the model rows that have none here: one cell after another, alone. */
int ptq_speed_phase(struct ptq_job *, struct ptq_status *);
/* Rows of kinds "perturbed" and "few". */
int ptq_proxy_plan(struct ptq_job *, struct ptq_status *);
struct ptq_tokens ptq_proxy_tokens(const struct ptq_job *); /* that they are run over */
int ptq_proxy_phase(struct ptq_job *, struct ptq_status *);
int ptq_sequential_phase(struct ptq_job *, struct ptq_status *);
/* Rows of kind "propagation". */
int ptq_propagation_plan(struct ptq_job *, struct ptq_status *);
double ptq_propagation_bytes(const struct ptq_job *); /* of one model */
int ptq_propagation_phase(struct ptq_job *, struct ptq_status *);

/* ---- noise.c: of the cells of a layer (noise.h) ---- */
struct ptq_noise {
    struct ptq_job *job;
    const struct ptq_layer_truth *truth;
    const struct ptq_input_stats *calib; /* NULL: cells are not run again */
    const struct ptq_input_stats *heldout;
    double *w_quads; /* tr(W S_k W^T) of the held-out shards */
    int64_t n_resamples, n_perturbed;
    double *again; /* [cell][replicate] errors of the cells that ptq_noise_again was given */
};
struct ptq_noise_cells {
    int64_t entry;
    const int64_t *points;
    int64_t n;
    int at_most; /* side by side */
};
static inline int64_t ptq_noise_replicates(const struct ptq_noise *v)
{
    return v->n_resamples + v->n_perturbed;
}
bool ptq_noise_wanted(const struct ptq_job *);
/* From job, truth, calib and heldout of args, which outlive it. */
int ptq_noise_init(struct ptq_noise *, const struct ptq_noise *args, struct ptq_arena *,
                   struct ptq_status *);
/* Runs the cells under every replicate of the calibration Hessian, one after another. */
int ptq_noise_again(struct ptq_noise *, const struct ptq_noise_cells *, struct ptq_arena *,
                    struct ptq_status *);
/* The row has what is asked for now. */
bool ptq_noise_complete(const struct ptq_job *, const json_t *row,
                        const struct ptq_entry * /* NULL: a model's row */,
                        const struct ptq_want *);
struct ptq_layer_cell;
/* Behind the metrics. */
int ptq_row_add_noise(const struct ptq_layer_cell *, const struct ptq_result *, json_t *row,
                      struct ptq_status *);
double ptq_noise_cell_bytes(const struct ptq_job *, int64_t rows, int64_t cols);

struct ptq_layer_cell { /* one cell of one layer, on one thread */
    struct ptq_job *job;
    const struct ptq_point *point;
    const struct ptq_entry *entry;
    struct ptq_want *want;
    struct ptq_session *session;
    const struct ptq_layer_truth *truth;
    const struct ptq_health *health; /* of the input that it is scored under, or NULL */
    const struct ptq_noise *noise;   /* NULL: not asked for */
    const double *again;             /* its replicates there */
    struct ptq_pool *pool;           /* NULL when cells run side by side */
};
/* Form from the pack or the method, scored, stored, written as a row where needed. On PTQ_OK out
 * holds the form (release it). PTQ_SKIP and < 0: the reason is in the status and, unless cancelled
 * or fatal, in a row. */
int ptq_layer_cell_run(const struct ptq_layer_cell *, struct ptq_result *out, struct ptq_status *);
/* Whether it asks for losses of modules. */
static inline bool ptq_needs_module(const struct ptq_point *p)
{
    return (ptq_spec_needs(p->spec) & PTQ_NEEDS_MODULE) != 0;
}
/* The layer as a method without needs sees it: weights alone. */
struct ptq_layer ptq_layer_blind(const struct ptq_layer *);
/* Statistics of an entry's input from a draw's file. */
int ptq_read_stats(const struct ptq_draw *, const char *input, struct ptq_arena *,
                   struct ptq_input_stats *, struct ptq_status *);

struct ptq_model_sum { /* what a model row needs to know of its layers */
    double bits_stored, n_weights, bits_nominal, bits_paper;
    struct ptq_macs macs; /* a token */
    struct ptq_note_value notes[PTQ_MAX_NOTES];
    int n_notes;
    double prepare_s, quantize_s;
    char codes[PTQ_KEY_CHARS]; /* hash of the hashes of the forms so far */
};
int ptq_model_sum_add(struct ptq_model_sum *, const struct ptq_result *, struct ptq_status *);
/* Writes the model row from the hidden states that left the last block. */
int ptq_model_row(struct ptq_job *, int64_t point, struct ptq_model_sum *,
                  const struct ptq_hidden *, struct ptq_pool *, const struct ptq_times *,
                  struct ptq_status *);
int ptq_model_outcome(struct ptq_job *, int64_t point, int code, const char *reason,
                      struct ptq_status *);
/* The first layer without a form decides: its reason is the model's. 0: every layer has one. */
int ptq_layers_outcome(struct ptq_job *, int64_t point, char *reason, size_t size);
int ptq_model_reference(struct ptq_job *,
                        struct ptq_status *); /* fills job->reference, writes its row */

/* ---- dryrun.c, runjson.c ---- */
struct ptq_prediction {
    double flops, bytes, seconds, gflops_per_thread;
    double peak_bytes; /* of the whole program */
    double cell_bytes; /* of the largest cell with all that it must have in memory, alone */
    double left_bytes; /* what finished cells leave behind (predict.c) */
    int64_t n_layer_rows, n_model_rows, n_left_layers, n_left_models;
    int64_t n_beside_rows, n_left_beside;
};
void ptq_job_predict(struct ptq_job *, struct ptq_prediction *);
/* "about 40 seconds", "about 7.3 hours", "about 3.2 days". */
void ptq_duration_text(double seconds, char out[64]);
/* A line on stderr when one cell alone is over the memory budget. */
void ptq_job_warn_memory(const struct ptq_job *, const struct ptq_prediction *);
void ptq_job_print_prediction(const struct ptq_job *, const struct ptq_prediction *);
int ptq_job_write_run(const struct ptq_job *, const struct ptq_prediction *, double wall_s,
                      struct ptq_status *);
int ptq_job_write_plan(const struct ptq_job *, struct ptq_status *);
#endif
