/* rate.h: how few bits could have done: the rate-distortion function of a Gaussian source with
 * several components (reverse water-filling: Cover and Thomas, Elements of Information Theory,
 * section 10.3.3; Shannon 1959). */
#ifndef PTQ_METRICS_RATE_H
#define PTQ_METRICS_RATE_H
#include <stdint.h>

/* Bits for one draw of n independent Gaussian components with these variances (rising, values
 * below 0 count as 0) at a summed squared error of `distortion` > 0: the sum of max(0, 1/2
 * log2(variance / level)), the level so that the sum of min(level, variance) is the distortion.
 * 0 where the distortion is as large as the variances' sum. */
double ptq_gaussian_rate(const double *variances, int64_t n, double distortion);
#endif
