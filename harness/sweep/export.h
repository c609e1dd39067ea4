/* export.h: one row of a finished sweep as a model: a Hugging Face folder with the dequantized
 * weights in place, and quant.h5 beside them with the stored forms (/quant and /packed of every
 * quantized layer, SCHEMA.md), from which nothing is lost whatever type the weights are written
 * in. */
#ifndef PTQ_SWEEP_EXPORT_H
#define PTQ_SWEEP_EXPORT_H
#include "model/hfwrite.h"
#include "sweep/pick.h"

struct ptq_export_args {
    const char *run_dir, *out_dir;
    const struct ptq_row_pick *picks;
    int n_picks;
    const char *source; /* where the model lies now; NULL: where the row says */
    enum ptq_st_type type;
    bool quiet;
    bool (*stop)(void *stop_arg);
    void *stop_arg;
};
struct ptq_export_done {
    char title[256]; /* of the row: "gptq b4 g128 ..." */
    double ppl;      /* of the row; NaN when it was not measured */
    struct ptq_hf_written written;
};
/* Exactly one model row must match: PTQ_ERR_USAGE names the candidates and what tells them apart.
 * The model is checked against the row's key, the forms are read from forms.pack. The folder is
 * there whole or not at all (out_dir.tmp, renamed); an out_dir that is there must be empty. */
int ptq_export(const struct ptq_export_args *, struct ptq_export_done *, struct ptq_status *);
#endif
