/* score_rest.h: what of a checkpoint is not measured with its matrices: the tensors around them
 * (model/rest.h) and the settings of the architecture, where they are not the original's. Norms
 * whose gains were divided by what the next matrices were multiplied with are not among them: the
 * forms take that back (score_source.h). */
#ifndef PTQ_ANALYSIS_SCORE_REST_H
#define PTQ_ANALYSIS_SCORE_REST_H
#include "analysis/score_source.h"

/* Lines such as "tok_embd: 3.1 % off", in the arena, none where all is the original's but for the
 * rounding of the stored type; NULL: the checkpoint holds matrices alone. A packed checkpoint's
 * configuration is not looked at. */
int ptq_external_rest(struct ptq_external *, struct ptq_arena *, const char *const **lines,
                      int64_t *n, struct ptq_status *);
#endif
