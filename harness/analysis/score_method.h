/* score_method.h: a checkpoint of somebody else as a method "external:NAME": its stored form of a
 * layer is what the checkpoint holds. So it is run, scored, stored and compared like any other. The
 * audit of a layer (score_audit.h) becomes notes of its row. */
#ifndef PTQ_ANALYSIS_SCORE_METHOD_H
#define PTQ_ANALYSIS_SCORE_METHOD_H
#include "analysis/score_source.h"
#include "quant/method.h"

/* The source outlives the spec. */
int ptq_score_spec(struct ptq_external *, const char *name, struct ptq_arena *, struct ptq_spec *,
                   struct ptq_status *);
#endif
