/* score_source.h: the layers of a checkpoint that somebody else quantized, as stored forms, by our
 * names. What it may be:
 *
 * - packed: safetensors in the layouts of datasets/packed.h, of the original's architecture
 * - a model in any format the program opens: its matrices as they are (GGUF's types dequantized)
 * - an HDF5 file with /packed/LAYER or /quant/LAYER/dequant (ours), or /layers/LAYER/DATASET
 *
 * A packed matrix becomes a UNIFORM part; others become a book of whole rows, which holds any
 * values, counted at what they take in the file (file_bits). Where a norm of the checkpoint is not
 * the original's, its gains were divided by something that the next matrices were multiplied with:
 * the form gets that divisor, so that it stands for the original's weights. */
#ifndef PTQ_ANALYSIS_SCORE_SOURCE_H
#define PTQ_ANALYSIS_SCORE_SOURCE_H
#include "datasets/h5.h"
#include "datasets/tensors.h"
#include "model/model.h"
#include <pthread.h>

struct ptq_external {
    const char *path;
    const char *kind;    /* "model", "packed", "forms", "datasets" */
    const char *dataset; /* "datasets": its name in /layers/LAYER */
    char key[33];        /* of the contents */
    struct ptq_arena arena;
    struct ptq_model *original; /* NULL: bare layers */
    struct ptq_model *model;
    struct ptq_tensors *packed;
    struct ptq_h5 *h5;
    pthread_mutex_t lock; /* h5 */
};
struct ptq_external_args {
    const char *original, *quantized;
    const char *dataset; /* NULL: "quantized" */
};
/* On failure close is still called. */
int ptq_external_open(struct ptq_external *, const struct ptq_external_args *, struct ptq_status *);
void ptq_external_close(struct ptq_external *);

struct ptq_external_layer {
    struct ptq_quant quant;
    const char *layout; /* "gptq", "awq", ..., "form", "plain" */
    const float *plain; /* (rows x cols) the values where they were not packed, else NULL */
    double value_eps;   /* plain: rounding of the stored type, relative */
    bool rest_differs;  /* the norm before it: quant.act.divisor is the quotient */
    int64_t form_bits;  /* what our packing of the same takes; 0: plain */
};
/* Relative rounding of values stored as `type` ("BF16", "float16", ...). */
double ptq_value_eps(const char *type);
/* rows x cols: of the original. Thread-safe. */
struct ptq_external_want {
    const char *name;
    int64_t rows, cols;
};
int ptq_external_layer(struct ptq_external *, const struct ptq_external_want *, struct ptq_arena *,
                       struct ptq_external_layer *, struct ptq_status *);
#endif
