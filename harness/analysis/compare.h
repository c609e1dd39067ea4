/* compare.h: what changed between two runs, as statements with a confidence.
 *
 * Cells are joined by what was asked for (method, options, bits, grid, calibration seed, layer),
 * never by the version of the code, which is what differs. A setting is the cells of one method and
 * its options over layers and calibration seeds. Each gets two verdicts:
 *
 * - bits: whether the stored codes are the same (codes_hash);
 * - quality, from the paired differences of the windows' NLL where there is a model: windows are
 * the clusters, seeds are averaged inside them; Student's interval, Holm over the settings. SAME:
 * the interval lies within the margin. REGRESSED, IMPROVED: it does not, and the difference is
 *   significant in the family. AMBIGUOUS: neither; more windows would tell. Layers without a model,
 *   and beside one that does not decide, go by the relative change of their errors: they are
 *   computed from equal data, so the tolerance only says what counts.
 *
 * Stored bits are part of it: more of them and no better is REGRESSED, better for more of them is
 * AMBIGUOUS. Rows must speak of the same model, texts and protocol: else nothing is compared.
 * Everything lives in the arena and in the rows. */
#ifndef PTQ_ANALYSIS_COMPARE_H
#define PTQ_ANALYSIS_COMPARE_H
#include "core/arena.h"
#include "core/stat.h"
#include "sweep/row.h"
#include <stdio.h>

enum ptq_quality {
    PTQ_SAME,
    PTQ_IMPROVED,
    PTQ_AMBIGUOUS,
    PTQ_MISSING, /* OLD has it, NEW has not, or it failed there */
    PTQ_REGRESSED
};
extern const char *const ptq_quality_words[]; /* "SAME" ... */

struct ptq_compare_options {
    double alpha;           /* .05: chance of an alarm over all settings when nothing changed */
    double power;           /* .9: of the smallest change that a setting would show */
    double margin;          /* nats/token: smaller changes count as none */
    double mean_tolerance;  /* relative change of the layers' geometric mean error */
    double layer_tolerance; /* relative change of one layer's error */
    double bits_tolerance;  /* stored bits a weight */
    bool strict;            /* an improvement or other bits ask for a new baseline */
};
struct ptq_compare_options ptq_compare_defaults(void);

/* ---- the test by itself ---- */

struct ptq_judged {
    struct ptq_interval change; /* NEW - OLD, nats/token, at 1 - alpha, of this setting alone */
    double p_holm, least_seen;  /* least_seen: at alpha / tests, with options.power */
    enum ptq_quality quality;
};
/* diff[setting * n_windows + window]; fewer than 2 windows: AMBIGUOUS. False: no memory. */
bool ptq_judge(const double *diff, int64_t n_settings, int64_t n_windows,
               const struct ptq_compare_options *, struct ptq_judged *);

/* ---- two runs ---- */

struct ptq_compared_layers {
    int64_t n, n_worse, n_better; /* layer cells; beyond layer_tolerance */
    double mean; /* geometric mean of NEW / OLD where both are above 0; NaN: an error below 0 */
    double worst, best; /* of the same ratio */
    const char *worst_name, *best_name;
    const char *metric;
    enum ptq_quality quality;
};
struct ptq_compared_seeds { /* would another draw of the calibration text do as much? */
    int64_t n;              /* seeds in both runs; below 2 nothing is known */
    double change, spread;  /* mean change; pooled standard deviation over seeds */
    bool beyond;            /* the change is beyond what draws explain at 1 - alpha */
};
struct ptq_compared {
    const char *name;
    enum ptq_quality quality;
    const char *reason; /* why, where the interval alone does not say it; "" */
    int64_t n_cells, n_changed, n_hashed;
    bool has_windows;
    struct ptq_judged model;
    double loss_old, loss_new; /* mean NLL */
    struct ptq_compared_layers layers;
    struct ptq_compared_seeds seeds;
    double bits_old, bits_new; /* stored, a weight; NaN when absent */
};
struct ptq_comparison {
    const char *old_name, *new_name;
    struct ptq_compared *at;
    int64_t n, n_added; /* n_added: settings that only NEW has */
    int64_t n_windows;
    const char *remarks[16];
    int n_remarks;
    bool comparable;
    bool bits_changed;
    enum ptq_quality quality;
    int exit_code;   /* design section 8 */
    const char *why; /* one line: the verdict and what to do */
};

struct ptq_compare_run {
    const char *name; /* shown */
    struct ptq_rows rows;
};
/* WORD: a run folder, NAME of results/NAME, or a file of rows. Stored forms beside the rows are
 * hashed again. PTQ_ERR_NUMERIC: one does not have the bits that its row names. */
int ptq_compare_read(const char *word, struct ptq_arena *, struct ptq_compare_run *,
                     struct ptq_status *);
/* PTQ_OK also when runs cannot be compared (exit_code 3) or differ. PTQ_ERR_USAGE: rows are broken;
 * PTQ_ERR_NUMERIC: a window's NLL is no number. */
int ptq_compare(const struct ptq_compare_run *old, const struct ptq_compare_run *new,
                const struct ptq_compare_options *, struct ptq_arena *, struct ptq_comparison *,
                struct ptq_status *);

/* What was asked for, without the version of the code: settings join by it. In the arena. */
const char *ptq_asked_for(const json_t *row, struct ptq_arena *, struct ptq_status *);

/* ---- times (compare_times.c) ---- */

/* A time is a fact of one run on one machine at one moment, so it is compared over repeated runs
 * only, and decides nothing. Ranks: with PTQ_TIMES_LEAST runs a side, all of one side above all of
 * the other happens by chance in 2 of 252 (0.8 %). */
enum { PTQ_TIMES_LEAST = 5, PTQ_TIMES_MOST = 64 };
struct ptq_compared_times {
    const char *name; /* setting */
    int64_t n_old, n_new;
    double old, new;     /* medians of quantizing all its layers, s */
    const char *verdict; /* "slower", "faster", "no difference seen", "not judged: ..." */
};
/* Runs of each side, the compared ones among them. Settings of old[0] with times in both. */
int ptq_compare_times(const struct ptq_compare_run *const *old, int n_old,
                      const struct ptq_compare_run *const *new, int n_new, struct ptq_arena *,
                      struct ptq_compared_times **, int64_t *n, struct ptq_status *);

/* ---- output (compare_print.c) ---- */
int ptq_compare_md(const struct ptq_comparison *, const struct ptq_compare_options *, FILE *);
int ptq_compare_junit(const struct ptq_comparison *, const struct ptq_compare_options *,
                      const char *path, struct ptq_status *);

/* ---- baselines (baseline.c) ---- */
/* Rows as a baseline keeps them: what a comparison reads, in a fixed order, one line each, under
 * keys without the version of the code, so that a diff shows what changed and nothing else. Times
 * are left out. */
int ptq_baseline_write(const struct ptq_rows *, const char *path, struct ptq_status *);
/* "gptq b3 g64 f16": of a row, in the arena; control characters are replaced. */
const char *ptq_setting_name(const json_t *row, struct ptq_arena *, struct ptq_status *);
#endif
