#include "core/stat.h"
#include <gsl/gsl_cdf.h>
#include <gsl/gsl_errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

/* GSL's default handler aborts the process. Its switch is one global of the library, so it is
 * thrown once for all threads. */
static pthread_once_t gsl_once = PTHREAD_ONCE_INIT;
static void gsl_quiet(void)
{
    gsl_set_error_handler_off();
}

double ptq_mean(const double *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return n > 0 ? sum / (double)n : NAN;
}

double ptq_stddev(const double *x, int64_t n)
{
    if (n < 2)
        return NAN;
    double mean = ptq_mean(x, n), squares = 0, rest = 0;
    for (int64_t i = 0; i < n; i++) {
        squares += (x[i] - mean) * (x[i] - mean);
        rest += x[i] - mean; /* not 0 where the mean was rounded */
    }
    double variance = (squares - rest * rest / (double)n) / (double)(n - 1);
    return sqrt(variance < 0 ? 0 : variance);
}

double ptq_jackknife_se(const double *less_one, int64_t n)
{
    return (double)(n - 1) / sqrt((double)n) * ptq_stddev(less_one, n);
}

/* A NaN is larger than any number. */
static int order(double a, double b)
{
    if (isnan(a) || isnan(b))
        return (isnan(a) != 0) - (isnan(b) != 0);
    return (a > b) - (a < b);
}

static int compare_f64(const void *a, const void *b)
{
    return order(*(const double *)a, *(const double *)b);
}

void ptq_sort_f64(double *x, int64_t n)
{
    if (n > 1)
        qsort(x, (size_t)n, sizeof *x, compare_f64);
}

double ptq_quantile_sorted(const double *x, int64_t n, double p)
{
    if (n <= 0 || isnan(p))
        return NAN;
    double at = (p < 0 ? 0 : p > 1 ? 1 : p) * (double)(n - 1);
    int64_t lo = (int64_t)at, hi = lo + 1 < n ? lo + 1 : lo;
    double share = at - (double)lo;
    return share == 0 ? x[lo] : x[lo] + share * (x[hi] - x[lo]);
}

double ptq_median_spread(double *x, int64_t n, double *spread)
{
    ptq_sort_f64(x, n);
    const double median = ptq_quantile_sorted(x, n, .5);
    *spread = (ptq_quantile_sorted(x, n, .75) - ptq_quantile_sorted(x, n, .25)) / 2 / median;
    return median;
}

void ptq_paired_interval(const double *diff, int64_t n, double level, struct ptq_interval *out)
{
    *out = (struct ptq_interval){ptq_mean(diff, n), NAN, NAN, NAN, NAN, NAN, n};
    if (n < 2 || !(level > 0 && level < 1))
        return;
    pthread_once(&gsl_once, gsl_quiet);
    double freedom = (double)(n - 1);
    out->se = ptq_stddev(diff, n) / sqrt((double)n);
    double half = gsl_cdf_tdist_Qinv((1 - level) / 2, freedom) * out->se;
    out->lo = out->mean - half;
    out->hi = out->mean + half;
    if (out->se > 0) {
        out->t = out->mean / out->se;
        out->p = 2 * gsl_cdf_tdist_Q(fabs(out->t), freedom);
    } else if (out->se == 0) { /* all differences equal: certain, or no difference at all */
        out->t = out->mean == 0 ? 0 : copysign(INFINITY, out->mean);
        out->p = out->mean == 0 ? 1 : 0;
    }
}

int64_t ptq_ratio_units(const double *x, const int64_t *weight, int64_t n, double *out)
{
    double tokens = 0, sum = 0;
    int64_t units = 0, first = -1;
    bool equal = true;
    for (int64_t i = 0; i < n; i++) {
        const int64_t w = weight ? weight[i] : 1;
        if (!w)
            continue;
        first = first < 0 ? i : first;
        equal = equal && w == (weight ? weight[first] : 1);
        tokens += (double)w;
        sum += (double)w * x[i];
        units++;
    }
    for (int64_t i = 0, k = 0; i < n; i++)
        if (!weight || weight[i])
            out[k++] = equal ? x[i]
                             : sum / tokens + (x[i] - sum / tokens) * (double)weight[i] *
                                                  (double)units / tokens;
    return units;
}

double ptq_t_quantile(double below, double freedom)
{
    if (!(below > 0 && below < 1 && freedom > 0))
        return NAN;
    pthread_once(&gsl_once, gsl_quiet);
    return gsl_cdf_tdist_Pinv(below, freedom);
}

double ptq_detectable(double se, int64_t n, double alpha, double power)
{
    double freedom = (double)(n - 1);
    return se * (ptq_t_quantile(1 - alpha / 2, freedom) + ptq_t_quantile(power, freedom));
}

struct ranked {
    double value;
    int64_t at;
};

static int compare_ranked(const void *a, const void *b)
{
    return order(((const struct ranked *)a)->value, ((const struct ranked *)b)->value);
}

/* rank[i] = mean position of x[i] among the sorted values; equal values share it. */
static void ranks(const double *x, int64_t n, struct ranked *scratch, double *rank)
{
    for (int64_t i = 0; i < n; i++)
        scratch[i] = (struct ranked){x[i], i};
    qsort(scratch, (size_t)n, sizeof *scratch, compare_ranked);
    for (int64_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && scratch[j].value == scratch[i].value; j++)
            ;
        for (int64_t k = i; k < j; k++)
            rank[scratch[k].at] = (double)(i + j - 1) / 2;
    }
}

static double correlation(const double *x, const double *y, int64_t n)
{
    double mx = ptq_mean(x, n), my = ptq_mean(y, n), xx = 0, yy = 0, xy = 0;
    for (int64_t i = 0; i < n; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
        xy += (x[i] - mx) * (y[i] - my);
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : NAN;
}

double ptq_spearman(const double *x, const double *y, int64_t n)
{
    if (n < 3)
        return NAN;
    for (int64_t i = 0; i < n; i++)
        if (isnan(x[i]) || isnan(y[i]))
            return NAN;
    struct ranked *scratch = calloc((size_t)n, sizeof *scratch);
    double *rx = calloc((size_t)n, sizeof *rx), *ry = calloc((size_t)n, sizeof *ry);
    double rho = NAN;
    if (scratch && rx && ry) {
        ranks(x, n, scratch, rx);
        ranks(y, n, scratch, ry);
        rho = correlation(rx, ry, n);
    }
    free(scratch);
    free(rx);
    free(ry);
    return rho;
}

/* adjusted p of rank k (from 0) = max over ranks up to k of (m - rank) p, at most 1. */
bool ptq_holm(const double *p, int64_t n, double *adjusted)
{
    struct ranked *sorted = calloc((size_t)n + 1, sizeof *sorted);
    double most = 0;
    int64_t m = 0;
    for (int64_t i = 0; sorted && i < n; i++) {
        sorted[i] = (struct ranked){p[i], i};
        m += !isnan(p[i]);
    }
    if (sorted)
        qsort(sorted, (size_t)n, sizeof *sorted, compare_ranked);
    for (int64_t k = 0; sorted && k < n; k++) {
        most = fmax(most, (double)(m - k) * sorted[k].value);
        adjusted[sorted[k].at] = k < m ? fmin(1, most) : NAN;
    }
    bool done = sorted != NULL;
    free(sorted);
    return done;
}
