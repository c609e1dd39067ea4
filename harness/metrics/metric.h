/* metric.h: what a number in a table is. One file metrics/metric_ID.c = one metric; it exports
 * `const struct ptq_metric ptq_metric_ID`. dW = What - W. Definitions: design section 9; the id is
 * printed beside every value. A metric whose inputs are absent returns PTQ_SKIP with a reason: the
 * row then holds null and the reason. All sums in fp64, in index order. */
#ifndef PTQ_METRICS_METRIC_H
#define PTQ_METRICS_METRIC_H
#include "model/eval.h"
#include "quant/apply.h"

struct ptq_value {
    double v, lo, hi;   /* interval; NaN when there is none */
    const char *reason; /* why v is absent (static text) */
};

/* Which second moments score a layer. */
enum ptq_moment {
    PTQ_MOMENT_CALIB,
    PTQ_MOMENT_CALIB_NOSINK,
    PTQ_MOMENT_HELDOUT,
    PTQ_MOMENT_HELDOUT_NOSINK,
    PTQ_N_MOMENTS
};

/* A layer's truth, shared by all its cells: the Hessians it is scored under and the denominators.
 */
struct ptq_layer_truth {
    const struct ptq_layer *layer;          /* calibration statistics (full-precision model's) */
    struct ptq_cdmat moment[PTQ_N_MOMENTS]; /* at == NULL: absent */
    double denominator[PTQ_N_MOMENTS];      /* tr(W H W^T) */
    struct ptq_cmat heldout_acts;           /* (n x d_in) held-out tokens, or absent */
    const float *heldout_y;                 /* (n x d_out) W x of them, or NULL */
    const char *heldout_source;             /* named in reports; NULL: none */
    const double *eigenvalues; /* [d_in] of the calibration Hessian, rising; NULL: not wanted */
    /* NULL: every metric. What no wanted metric asks for is not computed: a moment is a product as
     * long as quantizing the layer. */
    bool (*wanted)(const void *wanted_arg, const char *id);
    const void *wanted_arg;
};
/* Everything in the arena; the layers must outlive the truth. The sink class of a moment is absent
 * where its layer has none. `wanted` and its argument stay as the caller set them. Eigenvalues take
 * d_in^2 doubles for the time of the call. */
int ptq_layer_truth_init(struct ptq_layer_truth *, const struct ptq_layer *,
                         const struct ptq_layer *heldout /* or NULL */, struct ptq_pool *,
                         struct ptq_arena *, struct ptq_status *);

struct ptq_layer_eval { /* one cell of one layer; memoises what several metrics need */
    const struct ptq_layer_truth *truth;
    const struct ptq_quant *quant;
    const float *stored; /* as ptq_quant_dequant gave it */
    struct ptq_pool *pool;
    /* What is compared; made by ptq_layer_eval_compare. Without a split the layer's weights and
     * What. With one both expanded: a column for every signal, that is a piece of an input channel,
     * in order of the channels. There W is the channel's column, and What the sum of the stored
     * columns that multiply the signal (pieces of a weight), over the divisor: so what a form does
     * not hold, where the weight was cut, is not asked for. */
    struct ptq_cmat w, what, dw;
    bool has_pieces; /* of inputs: out_* come from sampled inputs then, no Hessian knows pieces */
    struct ptq_ledger ledger;
    double quad[PTQ_N_MOMENTS]; /* tr(dW H dW^T) where has_quad */
    bool has_quad[PTQ_N_MOMENTS];
    float *heldout_dy;      /* (n x d_out) dW x of the held-out tokens, made when first asked for */
    struct ptq_arena arena; /* holds the matrices and heldout_dy */
    struct ptq_status *st;
};
/* Fills w, what and dw from truth, quant and stored. */
int ptq_layer_eval_compare(struct ptq_layer_eval *);
/* tr(dW H dW^T) under a moment; PTQ_SKIP when the moment is absent, or inputs are in pieces. */
int ptq_layer_eval_quad(struct ptq_layer_eval *, enum ptq_moment, double *);
/* tr(dW H dW^T) / tr(W H W^T); reasons for an absent moment and a zero denominator. What the
 * out_relerr metrics are. Inputs in pieces: the same of the sampled inputs. */
int ptq_layer_eval_relerr(struct ptq_layer_eval *, enum ptq_moment, struct ptq_value *);
/* |What x^ - W x|^2 / |W x|^2 over sampled inputs, held-out ones where there are some; x^: the
 * inputs as the form quantizes and splits them. */
int ptq_layer_eval_applied(struct ptq_layer_eval *, struct ptq_value *);
/* dW x of the held-out tokens (inputs in pieces: What x' - W x); PTQ_SKIP without them. */
int ptq_layer_eval_dy(struct ptq_layer_eval *, const float **dy);
/* Mean over the held-out tokens of a number of one token, from y = W x and dy = dW x (d_out values
 * each). of_token returns false for a token that has none; `none` is the reason when no token has
 * one. PTQ_SKIP without held-out tokens. */
int ptq_layer_eval_token_mean(struct ptq_layer_eval *,
                              bool (*of_token)(const float *y, const float *dy, int64_t d_out,
                                               double *out),
                              const char *none, struct ptq_value *);
/* Sums of squares of dW and W and the largest |dW|. */
struct ptq_weight_sums {
    double dw2, w2, max_dw;
};
void ptq_layer_eval_weights(const struct ptq_layer_eval *, struct ptq_weight_sums *);
/* Sets the value, or its absence with the reason, and returns PTQ_OK or PTQ_SKIP. */
int ptq_value_set(struct ptq_value *, double v);
int ptq_value_none(struct ptq_value *, const char *reason);

struct ptq_model_eval {          /* one quantized model */
    const struct ptq_eval *eval; /* its reference is the full-precision model */
    const struct ptq_model_info *info;
    double bits_stored_total, n_quantized_weights; /* sums over quantized layers */
    double bits_rest_total;          /* bits of the weights left alone, as stored in the model */
    double bits_nominal, bits_paper; /* weighted means over the quantized layers */
    struct ptq_macs macs;            /* of the quantized layers, a token */
};

/* Helpers of model metrics. The paired interval of mean NLL against the reference, clustered by
 * window: windows of unequal length enter by the linearised ratio of sums; PTQ_SKIP without a
 * reference. */
struct ptq_interval;
int ptq_model_eval_dnll(const struct ptq_model_eval *, struct ptq_interval *);
/* Quantile p of the KL of all positions (p = 1: largest); PTQ_SKIP with the reason. */
int ptq_model_eval_kl(const struct ptq_model_eval *, double p, struct ptq_value *);
/* Half the squared distance of every sentence's embedding to the reference's: 1 - cosine, and exact
 * where that is tiny. n_windows values into out; PTQ_SKIP without a reference. */
int ptq_model_eval_dcos(const struct ptq_model_eval *, double *out);
/* Share of spans of the facts language of which every byte was the argmax; copies or facts. */
int ptq_model_eval_spans(const struct ptq_model_eval *, bool copies, struct ptq_value *);

enum ptq_better { PTQ_LOWER = -1, PTQ_NEUTRAL = 0, PTQ_HIGHER = 1 };
/* What a model metric is made of: models that predict tokens have no embeddings, encoders nothing
 * else. */
enum ptq_made_of { PTQ_OF_ANY, PTQ_OF_PREDICTIONS, PTQ_OF_EMBEDDINGS };
struct ptq_metric {
    const char *id, *title, *unit;
    enum ptq_better better;
    enum ptq_made_of of;
    bool of_attention; /* reads statistics of attention, where the layer has them */
    int (*layer)(struct ptq_layer_eval *, struct ptq_value *); /* NULL: not a layer metric */
    /* NULL: not a model metric; called through ptq_metric_of_model */
    int (*model)(const struct ptq_model_eval *, struct ptq_value *);
};
struct ptq_metric_entry {
    const struct ptq_metric *metric;
    const char *version;
};
const struct ptq_metric_entry *ptq_metrics(int *n);       /* id order */
const struct ptq_metric *ptq_metric_find(const char *id); /* or NULL */

/* A model metric; absent where the model has nothing that it is made of. */
int ptq_metric_of_model(const struct ptq_metric *, const struct ptq_model_eval *,
                        struct ptq_value *);

/* Every layer (model) metric that is wanted into values[n] in registry order; the others and
 * metrics of the other kind get a NULL reason and NaN. Errors of a single metric are errors of the
 * call (PTQ_ERR_NUMERIC), absences are reasons. */
int ptq_metrics_layer_eval(const struct ptq_layer_truth *, const struct ptq_quant *,
                           const float *what, struct ptq_pool *, struct ptq_value *values,
                           struct ptq_status *);
int ptq_metrics_model_eval(const struct ptq_model_eval *, struct ptq_value *values,
                           struct ptq_status *);
/* Of a layer's values: out_relerr is 1 or more, what zeros in place of the weights give. Such rows
 * carry the note. */
#define PTQ_NOTE_WORSE_THAN_ZEROS "worse_than_zeros"
bool ptq_worse_than_zeros(const struct ptq_value *values);
#endif
