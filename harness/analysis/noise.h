/* noise.h: the tables of what is chance in layer errors, from the object `noise` of layer rows
 * (sweep/noise.h). No rows where no layer holds one. */
#ifndef PTQ_ANALYSIS_NOISE_H
#define PTQ_ANALYSIS_NOISE_H
#include "analysis/tables.h"

/* What the columns are. */
extern const char ptq_about_noise[];
/* A row a setting: geometric mean over layers of the held-out error with its interval (scoring and
 * calibration), standard deviations of its log by source, what half the calibration tokens cost,
 * and the methods of the same bits and group that are lower by more than the noise of the
 * difference, or not told apart. board NULL: every model's, exact numbers. */
int ptq_table_noise(const struct ptq_tables *, const struct ptq_board *, struct ptq_sheet *);
/* A row a pair of methods of equal bits and group that store about as much: ratio of geometric
 * means with its interval, verdict, and in how many layers by themselves either is lower. */
int ptq_table_noise_pairs(const struct ptq_tables *, struct ptq_sheet *);
#endif
