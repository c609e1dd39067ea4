/* embeddings.h: what `ptq eval` prints of an encoder. */
#ifndef PTQ_CLI_EMBEDDINGS_H
#define PTQ_CLI_EMBEDDINGS_H
#include "cli/cli.h"
#include "model/eval.h"

struct ptq_embeddings {
    const struct ptq_model_info *info;
    const struct ptq_text *text;
    const struct ptq_eval *eval;
    double seconds;
};
/* PTQ_ERR_NUMERIC when one is not finite. jsonl: a row that holds all of them; the other formats: a
 * table with the first. */
int ptq_embeddings_print(const struct ptq_embeddings *, enum ptq_format, struct ptq_status *);
#endif
