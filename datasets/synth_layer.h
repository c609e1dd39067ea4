/* synth_layer.h: layers of chosen shape, spectrum, outlier channels and sink, for tests and for
 * `ptq synth layer`. Everything is a pure function of the parameters, the same bits on every CPU
 * (counter-based numbers, fp64 in a fixed order, no BLAS).
 *
 * Activations: row t is D B diag(sqrt(lambda)) z_t with z_t standard normal, lambda the spectrum
 * scaled to mean 1, B an orthogonal butterfly of random rotations (so that channels are
 * correlated), D the gains of outlier channels. The first token of every sequence is the sink: one
 * direction for all of them, as long as it takes for them to own `sink` of tr H. Weights: normal,
 * or Student t, with variance 1 / cols before tails. */
#ifndef PTQ_DATASETS_SYNTH_LAYER_H
#define PTQ_DATASETS_SYNTH_LAYER_H
#include "datasets/h5.h"

enum ptq_spectrum {
    PTQ_SPECTRUM_FLAT,
    PTQ_SPECTRUM_POWER,  /* lambda_i = (i+1)^-alpha */
    PTQ_SPECTRUM_LOWRANK /* the first r are 1, the others 0 */
};
struct ptq_synth_layer_args {
    int64_t rows, cols, tokens; /* 1..65536 each; products at most 2^31 */
    int64_t seqlen;             /* divides tokens; 0: one sequence */
    enum ptq_spectrum spectrum;
    double alpha;       /* POWER: 0..10 */
    int64_t rank;       /* LOWRANK: 1..cols */
    int64_t n_outliers; /* channels times gain, 0..cols */
    double gain;        /* > 0 */
    double sink;        /* share of tr H, 0 <= sink < 1; 0: no sink */
    int64_t tails;      /* degrees of freedom of Student's t, 1..64; 0: normal */
    uint64_t seed;
};
struct ptq_synth_layer {
    float *weight; /* (rows x cols) */
    float *acts;   /* (tokens x cols) */
    double *hess;  /* (cols x cols) 2 / tokens X^T X of the fp32 activations, in token order */
};
/* In the arena. want_hess == false: hess is NULL. Parameters outside their range: PTQ_ERR_USAGE
 * naming the option. */
int ptq_synth_layer_make(const struct ptq_synth_layer_args *, bool want_hess, struct ptq_arena *,
                         struct ptq_synth_layer *, struct ptq_status *);

/* "synth:layer NAME=VALUE ...", by the options of `ptq synth layer` but out, append and hess: its
 * file of bare layers, in memory. The attribute `source` of such a file is the layer again. */
bool ptq_synth_layer_is(const char *source);
int ptq_synth_layer_open(struct ptq_h5 **, const char *source, struct ptq_status *);
#endif
