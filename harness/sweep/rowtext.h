/* rowtext.h: the text that a row was scored on, read again. */
#ifndef PTQ_SWEEP_ROWTEXT_H
#define PTQ_SWEEP_ROWTEXT_H
#include "model/text.h"
#include "sweep/row.h"

/* By the row's text, protocol and n_windows; in the arena. PTQ_ERR_USAGE where its contents are not
 * those of the row's text_key any more; run: the folder, for the message. */
int ptq_row_load_text(const json_t *row, const char *run, const struct ptq_model_info *,
                      struct ptq_arena *, struct ptq_text *, struct ptq_status *);
#endif
