/* gnuplot.h: one run of gnuplot: `gnuplot -d -e SCRIPT PATH`. */
#ifndef PTQ_ANALYSIS_GNUPLOT_H
#define PTQ_ANALYSIS_GNUPLOT_H
#include "core/status.h"

/* PTQ_OK, or PTQ_SKIP with the reason in the status: not installed, its error message, a time
 * limit. */
int ptq_gnuplot(const char *script, const char *path, struct ptq_status *st);
#endif
