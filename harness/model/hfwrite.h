/* hfwrite.h: a model as a Hugging Face folder: config.json and model.safetensors, with the values
 * of some layers replaced. What came from a Hugging Face checkpoint keeps its configuration, the
 * names, shapes and the other tensors it has (shards become one file); other sources get those of
 * the architecture's dialect, where it has a to_hf. One tensor of the blocks is in memory at a
 * time. */
#ifndef PTQ_MODEL_HFWRITE_H
#define PTQ_MODEL_HFWRITE_H
#include "datasets/safetensors.h"
#include "model/model.h"

struct ptq_hf_args {
    const struct ptq_model *model;
    const char *folder;          /* there, and empty */
    enum ptq_st_type type;       /* of every tensor; what it cannot hold: PTQ_ERR_NUMERIC */
    const char *const *metadata; /* of the safetensors file: key, value, ..., NULL */
    /* The layer's new values into w (d_out x d_in); PTQ_SKIP: it stays as it is. Once a layer. */
    int (*replace)(void *arg, const struct ptq_linear *, float *w, struct ptq_status *);
    void *arg;
    bool quiet;
    bool (*stop)(void *stop_arg); /* NULL, or asked before every tensor */
    void *stop_arg;
};
struct ptq_hf_written {
    int64_t n_tensors, n_replaced;
    /* Tensors of whole numbers (masks, position numbers) are left out: the architecture makes its
     * own. */
    int64_t n_left_out;
    bool
        tokenizer; /* the source has its tokenizer in files, and those that are there were copied */
};
int ptq_hf_write(const struct ptq_hf_args *, struct ptq_hf_written *, struct ptq_status *);
#endif
