/* score.h: a checkpoint that another program quantized, measured like a method: a sweep whose first
 * method is the checkpoint (score_method.h) and whose others, rtn and gptq on the same bits and
 * groups, say what its numbers are worth. The run's folder is one like any other: `ptq report`,
 * `ptq compare` and `ptq bisect` read it. The audit is read off its rows. */
#ifndef PTQ_ANALYSIS_SCORE_H
#define PTQ_ANALYSIS_SCORE_H
#include "analysis/score_source.h"
#include "core/blas.h"
#include "sweep/row.h"
#include "sweep/sweep.h"

struct ptq_score_args {
    const char *original, *quantized, *name;
    const char *dataset; /* of an HDF5 file with bare layers; NULL: "quantized" */
    const char *config;  /* NULL: that of the demo model, of bare layers, or configs/score.ini */
    /* "section.key=value ...", NULL: none; wins over all below and the configuration */
    const char *set_words;
    /* NULL, or 0: as configured */
    const char *calib, *heldout, *text, *protocol, *layers, *results;
    int64_t windows;
    int64_t bits, group_size; /* what the row is filed under; bits 0: as found */
    bool alone;               /* no rivals */
    bool quiet;
    int64_t threads;
    const struct ptq_machine *machine;
    const atomic_bool *cancel;
    const char *command;
};

struct ptq_score_layer { /* one layer of the checkpoint; NaN: not known */
    const char *name;
    const char *failed; /* NULL, or why there is no form */
    double bits, group, found_grid;
    double file_bits; /* a weight, as the checkpoint stores it */
    double form_bits; /* a weight, as our packed form of the same; plain values: as their
                         grid would take; NaN: there is none */
    double rtn_same, clipped, saturated, one_sided, flat; /* shares of weights, of groups */
    double n_rtn_other; /* codes that are not the rounded weight's */
    double n_scale_zero, n_scale_negative, n_scale_subnormal, n_zero_out_of_range;
    double scaled; /* larger share of rows or columns that are multiples of the original's */
    bool rest_differs, on_no_grid, is_rtn;
    bool other_grid; /* of other bits or groups than the rivals': over_* are not known */
    double w_relerr, out, heldout, heldout_nosink; /* every objective */
    double over_rtn, over_gptq;                    /* out over theirs on the same bits and groups */
};
struct ptq_score_model {
    const char *label;
    double bits_stored, nll, ppl, dnll, lo, hi, kl_mean;
    const char *failed;
    const char *protocol, *text,
        *text_note; /* note: what stands in for a text that is not here; "" */
};
struct ptq_score {
    const char *run_dir, *kind;
    struct ptq_score_layer *layer;
    int64_t n_layers, n_rtn_layers, n_failed, n_other_grid;
    struct ptq_score_model *model; /* full precision, the checkpoint, rivals; bare layers: none */
    int64_t n_models;
    /* What of the checkpoint is not in those numbers (score_rest.h): the original's stands in. */
    const char *const *rest;
    int64_t n_rest;
    struct ptq_score_model whole; /* the file as it is, where there is such a rest and the program
                                     can run it (label NULL: not) */
    struct ptq_rows rows;         /* of the run */
};
/* Texts live in the arena or the rows. release: also after a failure. */
int ptq_score(const struct ptq_score_args *, struct ptq_arena *, struct ptq_score *,
              struct ptq_status *);
void ptq_score_release(struct ptq_score *);
/* What the audit says about a layer in words; "" when nothing is to be said. */
void ptq_score_remark(const struct ptq_score_layer *, char *out, size_t size);
/* The checkpoint's rows and the reference, as JSON lines. */
int ptq_score_write_rows(const struct ptq_score *, const char *path, struct ptq_status *);
#endif
