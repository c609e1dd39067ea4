/* tok_open.h: the definition behind any source (tokenizer.h lists them), by name and first bytes.
 */
#ifndef PTQ_MODEL_TOK_OPEN_H
#define PTQ_MODEL_TOK_OPEN_H
#include "model/tok.h"

/* PTQ_SKIP (no status set): a folder or container without a tokenizer. */
int ptq_tok_read(const char *source, struct ptq_arena *, struct ptq_tok_def *, struct ptq_status *);
#endif
