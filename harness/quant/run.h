/* run.h: running a method on a layer: prepare once, quantize cells, validate what comes back. A
 * session belongs to one layer and may serve several threads at once (one ptq_result each).
 * Factors of Hessians are memoised in a factor cache that several sessions share (q, k, v; gate,
 * up: equal hess_key). */
#ifndef PTQ_QUANT_RUN_H
#define PTQ_QUANT_RUN_H
#include "core/arena.h"
#include "core/pool.h"
#include "quant/form.h"
#include "quant/method.h"
#include <stdatomic.h>

struct ptq_factor_cache;
int ptq_factor_cache_new(struct ptq_factor_cache **, struct ptq_status *);
/* Forgets everything: no session may be using it. */
void ptq_factor_cache_clear(struct ptq_factor_cache *);
void ptq_factor_cache_free(struct ptq_factor_cache *);

struct ptq_session; /* a layer being quantized */
struct ptq_session_args {
    /* must outlive the session; w, hess, acts were checked finite, hess symmetric and not zero */
    const struct ptq_layer *layer;
    enum ptq_precision precision;
    struct ptq_pool *pool; /* NULL: serial */
    /* NULL, or a layer without hess_key: the session has one of its own */
    struct ptq_factor_cache *cache;
    const atomic_bool *cancel; /* may be NULL */
};
int ptq_session_new(struct ptq_session **, const struct ptq_session_args *, struct ptq_status *);
void ptq_session_free(struct ptq_session *);

enum { PTQ_METHOD_NOTES = 30, PTQ_MAX_NOTES = 32 }; /* the last two are the harness's own */
/* Value: the tokens, fewer than the columns, behind the Hessian that a method used. */
#define PTQ_NOTE_FEW_TOKENS "tokens_below_columns"
struct ptq_note_value {
    char key[32];
    double value;
};
struct ptq_result {
    struct ptq_arena arena; /* owns quant and what; ptq_result_release frees */
    struct ptq_quant quant;
    float *what; /* (rows x cols) dequantized */
    struct ptq_note_value notes[PTQ_MAX_NOTES];
    int n_notes;
    double prepare_s, quantize_s; /* seconds; prepare_s is 0 when shared work was found done */
};
/* PTQ_OK; PTQ_SKIP with the reason in st (caps, needs or check refuse the cell: nothing to
 * release); < 0 with the reason. Checks caps, needs, group size against the row ("group larger
 * than the row" is PTQ_ERR_USAGE), runs prepare (once per prepare options) and quantize,
 * validates, dequantizes. Thread-safe. */
int ptq_session_quantize(struct ptq_session *, const struct ptq_spec *, const struct ptq_cell *,
                         struct ptq_result *, struct ptq_status *);
void ptq_result_release(struct ptq_result *);
/* Predicted cost of a cell, for --dry-run; zeros when the method has no cost hook. */
void ptq_spec_cost(const struct ptq_spec *, const struct ptq_layer *, const struct ptq_cell *,
                   struct ptq_cost *);

/* Checks a layer's inputs: finite weights, activations, Hessian; Hessian square, symmetric
 * (relative 1e-5), diagonal >= 0, not all zero. source: file and object for messages. */
int ptq_layer_check(const struct ptq_layer *, const char *source, struct ptq_status *);
bool ptq_all_zero(const struct ptq_cmat *);
/* H = 2/N sum x x^T (token) or 2/N_seq (sequence) from activations (n x d_in), fp32 SYRK per
 * `unit` rows (or fp64 for double), partials added in fp64 in order; n_sequences must divide n
 * when norm is SEQUENCE. Activations that are all zero give none (at == NULL): a layer of them has
 * no Hessian, and methods that need one say why. */
int ptq_hess_from_acts(struct ptq_pool *, const struct ptq_cmat *acts, enum ptq_norm,
                       int64_t n_sequences, enum ptq_precision, struct ptq_arena *,
                       struct ptq_cdmat *hess, struct ptq_status *);
/* "b3 g64 asym minmax f16", "b4 a8 row sym-full mse f32", "b2 tensor asym minmax f16 zero-free":
 * canonical, may go into keys; the seed is not part of it. */
const char *ptq_cell_text(const struct ptq_cell *, char buf[96]);
#endif
