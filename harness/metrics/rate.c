#include "metrics/rate.h"
#include <math.h>

static double positive(double x)
{
    return x > 0 ? x : 0;
}

/* With the k smallest components under water (they cost nothing and lose their variance), the
 * others lose the level each: level = (distortion - what those k lose) / (n - k). The first k whose
 * level does not drown component k is the solution. */
double ptq_gaussian_rate(const double *variances, int64_t n, double distortion)
{
    double lost = 0;
    for (int64_t k = 0; k < n; k++) {
        double level = (distortion - lost) / (double)(n - k), bits = 0;
        if (level < variances[k]) {
            for (int64_t i = k; i < n; i++)
                bits += 0.5 * log2(variances[i] / level);
            return bits;
        }
        lost += positive(variances[k]);
    }
    return 0;
}
