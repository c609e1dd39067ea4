#include "analysis/proxy_stats.h"
#include "core/rng.h"
#include "core/stat.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the study ---- */

static int take_means(struct ptq_proxy_study *s, struct ptq_arena *a, struct ptq_status *st)
{
    const struct ptq_measured *m = &s->of;
    s->loss = ptq_arena_alloc(a, st, m->n, sizeof *s->loss);
    s->resampled = ptq_arena_alloc(a, st, PTQ_RESAMPLES * m->n, sizeof *s->resampled);
    int64_t *times = ptq_arena_alloc(a, st, m->n_windows, sizeof *times);
    if (!s->loss || !s->resampled || !times)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < m->n; i++)
        s->loss[i] = ptq_mean(m->dnll + i * m->n_windows, m->n_windows);
    struct ptq_rng rng = {20101};
    for (int64_t b = 0; b < PTQ_RESAMPLES; b++) {
        memset(times, 0, (size_t)m->n_windows * sizeof *times);
        for (int64_t w = 0; w < m->n_windows; w++)
            times[ptq_rng_below(&rng, (uint64_t)m->n_windows)]++;
        for (int64_t i = 0; i < m->n; i++) {
            double sum = 0;
            for (int64_t w = 0; w < m->n_windows; w++)
                sum += (double)times[w] * m->dnll[i * m->n_windows + w];
            s->resampled[b * m->n + i] = sum / (double)m->n_windows;
        }
    }
    return PTQ_OK;
}

static int8_t told_apart(const struct ptq_measured *m, int64_t a, int64_t b, double *diff)
{
    struct ptq_interval v;
    for (int64_t w = 0; w < m->n_windows; w++)
        diff[w] = m->dnll[a * m->n_windows + w] - m->dnll[b * m->n_windows + w];
    ptq_paired_interval(diff, m->n_windows, .95, &v);
    return v.lo > 0 ? 1 : v.hi < 0 ? -1 : 0;
}

static int decide(struct ptq_proxy_study *s, struct ptq_arena *a, struct ptq_status *st)
{
    const struct ptq_measured *m = &s->of;
    s->decided = ptq_arena_alloc(a, st, m->n * m->n, sizeof *s->decided);
    double *diff = ptq_arena_alloc(a, st, m->n_windows, sizeof *diff);
    if (!s->decided || !diff)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < m->n; i++)
        for (int64_t k = 0; k < m->n; k++)
            s->decided[i * m->n + k] =
                i != k && m->stratum[i] == m->stratum[k] ? told_apart(m, i, k, diff) : 0;
    return PTQ_OK;
}

static int choose_strata(struct ptq_proxy_study *s, struct ptq_arena *a, struct ptq_status *st)
{
    const struct ptq_measured *m = &s->of;
    s->counts = ptq_arena_alloc(a, st, m->n_strata, sizeof *s->counts);
    for (int64_t x = 0; s->counts && x < m->n_strata; x++) {
        int64_t n = 0, n_decided = 0;
        for (int64_t i = 0; i < m->n; i++) {
            n += m->stratum[i] == x;
            for (int64_t k = 0; k < m->n && m->stratum[i] == x; k++)
                n_decided += s->decided[i * m->n + k] != 0;
        }
        s->counts[x] = n >= m->least && 2 * n_decided >= n * (n - 1);
        s->n_counted += s->counts[x];
        s->n_cells += s->counts[x] ? n : 0;
    }
    return s->counts ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* ---- ranks inside strata ---- */

struct ranking {
    const struct ptq_proxy_study *s;
    const char *without; /* a method that is left out, or NULL */
    double *x, *y;       /* [n] of one stratum */
    int64_t n_cells, n_strata, worst_stratum;
    double worst_rho;
};

static bool takes_part(const struct ranking *r, const double *proxy, int64_t i)
{
    const struct ptq_measured *m = &r->s->of;
    return !isnan(proxy[i]) && (!r->without || strcmp(m->method[i], r->without) != 0);
}

/* Correlation in one stratum; NaN: fewer cells than that, or all are equal. */
static double rho_in(const struct ranking *r, int64_t stratum, const double *proxy,
                     const double *loss, int64_t *n)
{
    *n = 0;
    for (int64_t i = 0; i < r->s->of.n; i++)
        if (r->s->of.stratum[i] == stratum && takes_part(r, proxy, i)) {
            r->x[*n] = proxy[i];
            r->y[(*n)++] = loss[i];
        }
    return *n >= PTQ_LEAST_RANKS ? ptq_spearman(r->x, r->y, *n) : NAN;
}

static double rho_inside(struct ranking *r, const double *proxy, const double *loss)
{
    double sum = 0, weight = 0;
    r->n_cells = r->n_strata = 0;
    r->worst_stratum = -1;
    r->worst_rho = INFINITY;
    for (int64_t x = 0; x < r->s->of.n_strata; x++) {
        int64_t n;
        const double rho = r->s->counts[x] ? rho_in(r, x, proxy, loss, &n) : NAN;
        if (isnan(rho))
            continue;
        sum += (double)(n - 1) * rho;
        weight += (double)(n - 1);
        r->n_cells += n;
        r->n_strata++;
        if (rho < r->worst_rho) {
            r->worst_rho = rho;
            r->worst_stratum = x;
        }
    }
    return weight > 0 ? sum / weight : NAN;
}

static int ranking_init(struct ranking *r, const struct ptq_proxy_study *s, struct ptq_arena *a,
                        struct ptq_status *st)
{
    *r = (struct ranking){.s = s};
    r->x = ptq_arena_alloc(a, st, s->of.n, sizeof *r->x);
    r->y = ptq_arena_alloc(a, st, s->of.n, sizeof *r->y);
    return r->x && r->y ? PTQ_OK : PTQ_ERR_MEMORY;
}

static double half_mean(const struct ptq_measured *m, int64_t cell, int64_t from)
{
    double sum = 0;
    int64_t n = 0;
    for (int64_t w = from; w < m->n_windows; w += 2, n++)
        sum += m->dnll[cell * m->n_windows + w];
    return sum / (double)n;
}

static int find_ceiling(struct ptq_proxy_study *s, struct ptq_arena *a, struct ptq_status *st)
{
    struct ranking r;
    double *even = ptq_arena_alloc(a, st, s->of.n, sizeof *even),
           *odd = ptq_arena_alloc(a, st, s->of.n, sizeof *odd);
    if (!even || !odd || ranking_init(&r, s, a, st))
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < s->of.n; i++) {
        even[i] = half_mean(&s->of, i, 0);
        odd[i] = half_mean(&s->of, i, 1);
    }
    const double rho = rho_inside(&r, even, odd);
    s->ceiling = rho > 0 ? sqrt(2 * rho / (1 + rho)) : NAN;
    return PTQ_OK;
}

int ptq_proxy_study(const struct ptq_measured *m, struct ptq_arena *a, struct ptq_proxy_study *s,
                    struct ptq_status *st)
{
    *s = (struct ptq_proxy_study){.of = *m, .ceiling = NAN};
    int code = take_means(s, a, st);
    code = code ? code : decide(s, a, st);
    code = code ? code : choose_strata(s, a, st);
    return code || m->n_windows < 2 ? code : find_ceiling(s, a, st);
}

/* ---- the line ---- */

struct line {
    double slope, sd; /* of log loss about it */
};

/* Least squares of log loss on log proxy, over cells where both are above 0. */
static struct line fit_line(const struct ptq_proxy_study *s, const double *proxy,
                            const double *loss)
{
    double n = 0, sx = 0, sy = 0, sxx = 0, sxy = 0, syy = 0;
    for (int64_t i = 0; i < s->of.n; i++) {
        if (!(proxy[i] > 0) || !(loss[i] > 0) || !s->counts[s->of.stratum[i]])
            continue;
        const double x = log(proxy[i]), y = log(loss[i]);
        n += 1, sx += x, sy += y, sxx += x * x, sxy += x * y, syy += y * y;
    }
    const double vx = sxx - sx * sx / n, vy = syy - sy * sy / n, c = sxy - sx * sy / n;
    if (n < 3 || !(vx > 0))
        return (struct line){NAN, NAN};
    return (struct line){c / vx, sqrt(fmax(0, vy - c * c / vx) / (n - 2))};
}

/* ---- a proxy ---- */

/* The basic bootstrap interval (A. C. Davison, D. V. Hinkley, Bootstrap Methods and their
 * Application, eq. 5.6), cut at the ends of the scale. Resampled losses carry the noise of the
 * windows twice, so their correlations lie below the one that was seen, as that lies below the one
 * without noise: quantiles themselves would lie on the wrong side of it. */
static void interval_of(double *x, int64_t n, double seen, double least, double most, double *lo,
                        double *hi)
{
    ptq_sort_f64(x, n); /* NaN last */
    while (n && isnan(x[n - 1]))
        n--;
    *lo = 2 * seen - ptq_quantile_sorted(x, n, .975);
    *hi = 2 * seen - ptq_quantile_sorted(x, n, .025);
    *lo = *lo < least ? least : *lo > most ? most : *lo; /* NaN stays */
    *hi = *hi < least ? least : *hi > most ? most : *hi;
}

static int resample(const struct ptq_proxy_study *s, const double *proxy, struct ranking *r,
                    struct ptq_arena *a, struct ptq_proxy_fit *f, struct ptq_status *st)
{
    double *rho = ptq_arena_alloc(a, st, PTQ_RESAMPLES, sizeof *rho),
           *sd = ptq_arena_alloc(a, st, PTQ_RESAMPLES, sizeof *sd);
    if (!rho || !sd)
        return PTQ_ERR_MEMORY;
    for (int64_t b = 0; b < PTQ_RESAMPLES; b++) {
        const double *loss = s->resampled + b * s->of.n;
        rho[b] = rho_inside(r, proxy, loss);
        sd[b] = fit_line(s, proxy, loss).sd;
    }
    interval_of(rho, PTQ_RESAMPLES, rho_inside(r, proxy, s->loss), -1, 1, &f->rho_lo, &f->rho_hi);
    interval_of(sd, PTQ_RESAMPLES, log(f->factor), 0, INFINITY, &f->factor_lo, &f->factor_hi);
    f->factor_lo = exp(f->factor_lo);
    f->factor_hi = exp(f->factor_hi);
    return PTQ_OK;
}

static bool seen_before(const struct ptq_measured *m, int64_t i)
{
    for (int64_t k = 0; k < i; k++)
        if (!strcmp(m->method[k], m->method[i]))
            return true;
    return false;
}

static void leave_out_methods(const struct ptq_proxy_study *s, const double *proxy,
                              struct ranking *r, struct ptq_proxy_fit *f)
{
    f->rho_least = f->rho_most = NAN;
    for (int64_t i = 0; i < s->of.n; i++) {
        if (seen_before(&s->of, i))
            continue;
        r->without = s->of.method[i];
        const double rho = rho_inside(r, proxy, s->loss);
        if (rho < f->rho_least || (isnan(f->rho_least) && !isnan(rho))) {
            f->rho_least = rho;
            f->without_least = r->without;
        }
        f->rho_most = fmax(f->rho_most, rho); /* NaN gives way */
    }
    r->without = NULL;
}

/* Every decided pair once, from the cell that lost more. */
static void count_pairs(const struct ptq_proxy_study *s, const double *proxy,
                        struct ptq_proxy_fit *f)
{
    double widest = -1; /* gaps are at least 0 */
    const int64_t n = s->of.n;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < n; k++) {
            if (s->decided[i * n + k] != 1 || isnan(proxy[i]) || isnan(proxy[k]) ||
                !s->counts[s->of.stratum[i]])
                continue;
            f->n_pairs++;
            f->n_wrong += proxy[i] < proxy[k] ? 1 : proxy[i] == proxy[k] ? .5 : 0;
            /* As a ratio of losses; one at or below 0 is next to nothing. */
            const double gap = log(fmax(s->loss[i], 1e-9) / fmax(s->loss[k], 1e-9));
            if (proxy[i] < proxy[k] && gap > widest) {
                widest = gap;
                f->better = i;
                f->worse = k;
            }
        }
}

static int median_ratio(const struct ptq_proxy_study *s, const double *proxy, struct ptq_arena *a,
                        double *ratio, struct ptq_status *st)
{
    int64_t n = 0;
    double *x = ptq_arena_alloc(a, st, s->of.n, sizeof *x);
    for (int64_t i = 0; x && i < s->of.n; i++)
        if (!isnan(proxy[i]) && s->loss[i] > 0 && s->counts[s->of.stratum[i]])
            x[n++] = proxy[i] / s->loss[i];
    if (x)
        ptq_sort_f64(x, n);
    *ratio = x ? ptq_quantile_sorted(x, n, .5) : NAN;
    return x ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* Over the cells of all strata that count. */
static double pooled(const struct ptq_proxy_study *s, const double *proxy, struct ranking *r)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->of.n; i++)
        if (s->counts[s->of.stratum[i]] && !isnan(proxy[i])) {
            r->x[n] = proxy[i];
            r->y[n++] = s->loss[i];
        }
    return ptq_spearman(r->x, r->y, n);
}

int ptq_proxy_fit(const struct ptq_proxy_study *s, const double *proxy, struct ptq_arena *a,
                  struct ptq_proxy_fit *f, struct ptq_status *st)
{
    struct ranking r;
    *f = (struct ptq_proxy_fit){.better = -1, .worse = -1};
    int code = ranking_init(&r, s, a, st);
    if (code)
        return code;
    leave_out_methods(s, proxy, &r, f);
    f->rho_pooled = pooled(s, proxy, &r);
    count_pairs(s, proxy, f);
    const struct line line = fit_line(s, proxy, s->loss);
    f->slope = line.slope;
    f->factor = exp(line.sd);
    code = median_ratio(s, proxy, a, &f->ratio, st);
    code = code ? code : resample(s, proxy, &r, a, f, st);
    f->rho = rho_inside(&r, proxy, s->loss); /* last: its strata are those told of */
    f->n_cells = r.n_cells;
    f->n_strata = r.n_strata;
    f->worst_stratum = r.worst_stratum;
    f->worst_rho = r.worst_rho;
    return code;
}
