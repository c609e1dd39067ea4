/* states.h: hidden states of a text behind some blocks, kept in a file so that an interrupted walk
 * through the blocks goes on where it was. A cache of ours: one of another walk is no error. */
#ifndef PTQ_MODEL_STATES_H
#define PTQ_MODEL_STATES_H
#include "model/model.h"

struct ptq_states_id {
    const char *path;
    char key[33]; /* names the walk: model, text */
};
/* Whole under its name or not at all (path.tmp, fsync, rename). */
int ptq_states_save(const struct ptq_states_id *, int64_t blocks_done, const struct ptq_hidden *,
                    struct ptq_status *);
/* Fills the hidden states. PTQ_SKIP (no status set, states untouched): no file, or of another walk.
 */
int ptq_states_load(const struct ptq_states_id *, int64_t *blocks_done, struct ptq_hidden *,
                    struct ptq_status *);
#endif
