#include "sweep/rowtext.h"
#include <stdio.h>
#include <string.h>

/* The protocol's name may say fewer windows ("gptq-2048/first20"), which the count does as well; of
 * texts that have one protocol alone the source says it. */
int ptq_row_load_text(const json_t *row, const char *run, const struct ptq_model_info *info,
                      struct ptq_arena *arena, struct ptq_text *out, struct ptq_status *st)
{
    const char *key = ptq_row_text(row, "text_key");
    char protocol[64];
    struct ptq_status named = {0};
    struct ptq_text_request ask = {.source = ptq_row_text(row, "text"),
                                   .n_seq = (int64_t)ptq_row_num(row, "n_windows"),
                                   .protocol = protocol};
    snprintf(protocol, sizeof protocol, "%s", ptq_row_text(row, "protocol"));
    protocol[strcspn(protocol, "/")] = 0;
    int rc = ptq_text_load(info, &ask, arena, out, &named);
    if (rc || strcmp(out->key, key) != 0) {
        ask.protocol = NULL;
        rc = ptq_text_load(info, &ask, arena, out, st);
    }
    if (!rc && strcmp(out->key, key) != 0)
        rc = ptq_status_set(st, PTQ_ERR_USAGE,
                            "%s: is not the text that %s was scored on (%s): the file changed, or "
                            "is another one here; put the old one back",
                            ask.source, run, ptq_row_text(row, "protocol"));
    return rc;
}
