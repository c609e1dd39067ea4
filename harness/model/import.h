/* import.h: a model of any format into a container (datasets/SCHEMA.md), rows of one tensor at a
 * time: the memory needed does not grow with the model. */
#ifndef PTQ_MODEL_IMPORT_H
#define PTQ_MODEL_IMPORT_H
#include "datasets/h5.h"
#include "model/model.h"

struct ptq_import_args {
    const struct ptq_model *model;
    const char *out_path;
    const char *name; /* attribute `name`; NULL: the model's */
    /* f32, f16 or bf16; PTQ_H5_OTHER: each tensor as it is stored, f32 where the container has no
     * such type (quantized tensors, whose values need not fit a narrower one). Values that a
     * narrower type cannot hold are PTQ_ERR_NUMERIC. */
    enum ptq_h5_type type;
    bool quiet;
    bool (*stop)(void *stop_arg); /* NULL, or asked before every tensor */
    void *stop_arg;
};
/* The container is there whole or not at all (out_path.tmp, renamed). Statistics are not copied. */
int ptq_import(const struct ptq_import_args *, struct ptq_status *);
#endif
