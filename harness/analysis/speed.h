/* speed.h: rows of kind "speed" in the model rows that they belong to. */
#ifndef PTQ_ANALYSIS_SPEED_H
#define PTQ_ANALYSIS_SPEED_H
#include "sweep/row.h"

/* Every model row of a form whose speed was measured gets tokens_s and batch_gflops among its
 * metrics, of the last measurement; the reference row of their model the medians of the fp32
 * products timed beside them. False: no memory. */
bool ptq_rows_join_speed(struct ptq_rows *);
/* What these are, for readers; NULL: none of them. */
const char *ptq_speed_title(const char *id);
#endif
