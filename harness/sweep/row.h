/* row.h: one row of results/NAME/cells*.jsonl: the truth of a run. Append-only, one JSON object a
 * line, 17-digit numbers, null with a reason for absent values. Fields (those in () only where they
 * apply):
 *
 * - schema: 1; kind: "layer", "model" or "reference" (the full-precision model)
 * - key: names the cell (form and what it is evaluated on); form: the form key
 * - status: "ok", "skipped" or "failed"; (reason)
 * - model, source, (model_key: of the model's contents), (weights_on_grid, weights_grid_bits)
 * - method: name as configured, a preset or method; label: with its options, as written;
 *   base: name in the registry; options: canonical text; method_version
 * - bits, (a_bits: width of quantized inputs), group_size (-1 row, 0 tensor), sym, sym_kind, grid,
 *   zero_in_range, scale, precision, seed
 * - stats: "fp", "sequential" or "given" (bare layers); true_sequential
 * - calib (text), calib_seed, nsamples, seqlen, calib_draw (how windows were taken), (calib_note),
 *   (heldout), (calib_key, heldout_key: of the texts' contents)
 * - a checkpoint that another program quantized (`ptq score`) is the method "external:NAME", base
 *   "external"; its method_version names its contents, its notes hold the audit of the layer
 *   (analysis/score_method.c)
 * - kind layer: layer, role, block, rows, cols; of a bare layer: weights_key, (given_key: of its
 *   statistics)
 * - kind model, reference: protocol, rules, text, text_key, (text_note), n_windows,
 *   (nll_windows []: mean of every window, not of encoders; window_tokens []: scored tokens of
 *   each, where they are not all equal); (in_domain)
 * - codes_hash: of the stored form: "the bits are the same"
 * - metrics {id: number | null}, absent {id: reason}, intervals {id: [lo, hi]},
 *   metric_keys {id: key}
 * - notes {damping, retries, n_dead, ...} of the method, and of the harness: n_scale_saturated,
 *   tokens_below_columns (tokens behind the Hessian that was used), worse_than_zeros
 * - (health {input, condition, effective_rank, n_dead, sink_share, trace, damping}: of the Hessian
 *   that a layer is scored under, not of a method (metrics/health.h); input names it)
 * - (noise {key, error, less_one [], resampled [], perturb, perturbed [], constant, absent, fixed}:
 *   replicates of a layer's held-out error (noise.h); its interval of out_relerr_heldout is theirs)
 * - time {prepare_s, quantize_s, score_s, total_s}: never part of a comparison
 * - host {threads, cpu, blas_core, isa, peak_bytes, started, seq}: never part of a comparison;
 *   blas_core and isa are in the form key too
 *
 * weights_on_grid: the checkpoint's matrices were quantized before ("Q4_1: 4 bits, groups of 32");
 * weights_grid_bits: the width of that grid. A format of that width or more can hold the grid
 * itself and looks lossless, so settings of that many bits are not ranked: they are on no Pareto
 * front, and reports say so.
 * text_note, calib_note: another text stands in for the one that was asked for, or its hash is not
 * known. in_domain "same text": the text that the row is evaluated on is one that the statistics
 * were taken from: one of its windows is a window of the calibration text, or both are the same
 * file; "same family": both are parts of one corpus (WikiText's training and test split). Allowed,
 * and said in every report. Absent otherwise, and in rows of methods that look at no statistics.
 *
 * kind "speed" (speed_phase.c): how fast the stored form of the model rows of its `form` multiplies
 * on its host, in an object `speed`: tokens_s and gbs (one token at a time), macs of a token,
 * batch, batch_tokens_s and batch_gflops, spreads (half the distance of the quartiles over the
 * median), bytes read, fp32_* of OpenBLAS in the same rounds, integer_inputs.
 *
 * kind "perturbed" (proxy_phase.c): layer, and in an object `perturbed`: level (what the
 * noise's w_relerr is to be) and w_relerr, kl (nats a token to the model without noise), dnll,
 * n_tokens, n_windows, text, text_key. kind "few": the same of the quantized model of `form` on
 * these windows, in an object `few`, without a level. kind "propagation" (propagation_phase.c): the
 * error of the quantized model block by block on the first windows of the evaluation text, in an
 * object `propagation`: windows, tokens, sink_tokens, and, without the first sink_tokens positions
 * of every window (blocks) and with them (with_sinks), lists over the blocks: norm (mean |F(h)|^2 a
 * token), total, local, inherited, own (squared errors relative to it; propagation.h), cosine
 * (between what is inherited and own). null: 0 over 0.
 *
 * A row is written whole: it holds the wanted metrics and those of the row before it whose keys
 * still hold, whether or not they are wanted now. host.seq counts the rows of a folder as they are
 * written (ptq_store_next_seq).
 */
#ifndef PTQ_SWEEP_ROW_H
#define PTQ_SWEEP_ROW_H
#include "core/json.h"

enum { PTQ_ROW_SCHEMA = 1 };

/* Rows read back; the newest row of a key wins: the one with the larger host.seq, the later one
 * where they are equal or absent. Torn last line (no newline) dropped, broken lines elsewhere are
 * PTQ_ERR_USAGE with file and line. */
struct ptq_rows {
    json_t **at;
    int64_t n, n_torn;
    double other_schema; /* of the line that was refused for its schema; 0: none was */
};
int ptq_rows_read_file(const char *path, struct ptq_rows *, struct ptq_status *); /* adds to rows */
int ptq_rows_read_all(const char *run_dir, struct ptq_rows *,
                      struct ptq_status *); /* every cells*.jsonl, name order; none is fine */
/* The run as it stands: the same, without the rows that its last configuration no longer wants
 * (plan.txt, store.h). A folder that is absent or holds no rows is PTQ_ERR_USAGE. */
int ptq_rows_read_run(const char *run_dir, struct ptq_rows *, struct ptq_status *);
void ptq_rows_release(struct ptq_rows *);
/* A result of its own (layer, model, reference), not what was measured beside a model row. */
bool ptq_row_is_cell(const json_t *row);
const char *ptq_row_text(const json_t *row, const char *field); /* "" when absent */
double ptq_row_num(const json_t *row, const char *field);       /* NaN when absent or null */
/* A scalar field of any type as text: a string as it stands, others in the room; NULL: absent. */
enum { PTQ_FIELD_ROOM = 32 };
const char *ptq_row_as_text(const json_t *row, const char *field, char room[PTQ_FIELD_ROOM]);
double ptq_row_metric(const json_t *row, const char *id); /* NaN when absent or null */
bool ptq_row_interval(const json_t *row, const char *id, double *lo, double *hi);
/* nll_windows of a model's or reference's row: how many, 0 when absent; NaN for what is no number.
 */
int64_t ptq_row_n_windows(const json_t *row);
double ptq_row_window(const json_t *row, int64_t window);
/* The windows as units of paired statistics (ptq_ratio_units); out has room for ptq_row_n_windows.
 * Returns how many; NaN where a window or its tokens are no numbers; -1: no memory. */
int64_t ptq_row_units(const json_t *row, double *out);
double ptq_row_mean_window(const json_t *row); /* over tokens; NaN: none, or no numbers */
/* Whether windows of two rows are the same pieces of text: as many, of the same numbers of tokens.
 */
bool ptq_row_same_windows(const json_t *a, const json_t *b);
int64_t ptq_row_seq(const json_t *row); /* host.seq; 0 when absent */
double ptq_row_sub(const json_t *row, const char *object,
                   const char *field); /* notes, time, host */
#endif
