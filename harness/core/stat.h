/* stat.h: statistics (the only place that includes GSL). Sums in index order, fp64. GSL's aborting
 * handler is switched off. Thread-safe. */
#ifndef PTQ_CORE_STAT_H
#define PTQ_CORE_STAT_H
#include "core/status.h"

double ptq_mean(const double *x, int64_t n);   /* NaN for n == 0 */
double ptq_stddev(const double *x, int64_t n); /* n - 1; NaN for n < 2 */
/* Linear between order statistics (numpy's default); p is clamped to [0, 1]; NaN for n == 0. */
double ptq_quantile_sorted(const double *x, int64_t n, double p);
void ptq_sort_f64(double *x, int64_t n); /* ascending, NaN last */

/* Paired mean difference and its two-sided interval from per-cluster (window) differences: mean,
 * half-width = t_{n-1} * se; t and p of the hypothesis "no difference". n < 2 or a level outside
 * (0, 1): NaN but for the mean. se == 0: the interval is the mean, and p is 0, or 1 for mean 0. */
struct ptq_interval {
    double mean, lo, hi, se, t, p;
    int64_t n;
};
void ptq_paired_interval(const double *diff, int64_t n, double level /* .95 */,
                         struct ptq_interval *);
/* Ties by mean rank. NaN for n < 3, a NaN inside, constant x or y, or no memory. */
double ptq_spearman(const double *x, const double *y, int64_t n);
#endif
