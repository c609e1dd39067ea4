/* stat.h: statistics (the only place that includes GSL). Sums in index order, fp64. GSL's aborting handler is switched off. */
#ifndef PTQ_CORE_STAT_H
#define PTQ_CORE_STAT_H
#include "core/status.h"

double ptq_mean(const double *x, int64_t n);        /* NaN for n == 0 */
double ptq_stddev(const double *x, int64_t n);      /* n - 1; NaN for n < 2 */
double ptq_quantile_sorted(const double *x, int64_t n, double p);
void ptq_sort_f64(double *x, int64_t n);
/* Paired mean difference and its two-sided interval from per-cluster (window) differences: mean, half-width = t_{n-1} * se. */
struct ptq_interval { double mean, lo, hi, se, t, p; int64_t n; };
void ptq_paired_interval(const double *diff, int64_t n, double level /* .95 */, struct ptq_interval *);
double ptq_spearman(const double *x, const double *y, int64_t n); /* ties by mean rank; NaN for n < 3 */
#endif
