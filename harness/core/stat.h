/* stat.h: statistics (the only place that includes GSL). Sums in index order, fp64. GSL's aborting
 * handler is switched off. Thread-safe. */
#ifndef PTQ_CORE_STAT_H
#define PTQ_CORE_STAT_H
#include "core/status.h"

double ptq_mean(const double *x, int64_t n);   /* NaN for n == 0 */
double ptq_stddev(const double *x, int64_t n); /* n - 1; NaN for n < 2 */
/* Linear between order statistics (numpy's default); p is clamped to [0, 1]; NaN for n == 0. */
double ptq_quantile_sorted(const double *x, int64_t n, double p);
/* Sorts x; its median, and beside it half the distance of the quartiles over the median. */
double ptq_median_spread(double *x, int64_t n, double *spread);
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
/* Means x of windows with `weight` tokens each, as the units of a paired interval: m + (x - m) w /
 * mean(w), m the mean over all tokens. Their plain mean is m and their spread that of the ratio
 * estimator (linearised: Cochran, Sampling Techniques, 3rd ed., section 6.3). Linear in x: units of
 * two runs may be subtracted. Windows of weight 0 are left out; all weights equal, or NULL: x as it
 * is. Returns how many; out may be x. */
int64_t ptq_ratio_units(const double *x, const int64_t *weight, int64_t n, double *out);
/* Holm's step-down: adjusted[i] <= alpha for each i that is rejected with all errors of the family
 * below alpha. A NaN stays one and is no member. False: no memory. */
bool ptq_holm(const double *p, int64_t n, double *adjusted);
/* The t value that a share `below` of Student's distribution lies under; NaN outside (0, 1) or for
 * freedom <= 0. */
double ptq_t_quantile(double below, double freedom);
/* The mean difference that a two-sided test at `alpha` sees with that power: (t_{1-alpha/2} +
 * t_power) standard errors. */
double ptq_detectable(double se, int64_t n, double alpha, double power);
/* Standard error of a statistic from its values without one of the n units each (delete-one
 * jackknife): sqrt((n - 1) / n sum (x_i - mean)^2). NaN for n < 2. */
double ptq_jackknife_se(const double *less_one, int64_t n);
/* Ties by mean rank. NaN for n < 3, a NaN inside, constant x or y, or no memory. */
double ptq_spearman(const double *x, const double *y, int64_t n);
#endif
