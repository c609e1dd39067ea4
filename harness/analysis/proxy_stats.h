/* proxy_stats.h: how well a number orders what perplexity orders. Pure statistics: values in,
 * figures out.
 *
 * Over cells of different widths any two errors correlate, since both fall with the bits; so ranks
 * count inside a stratum (bits, inputs, group) alone, and the pooled figure is kept only to show
 * the difference. A stratum takes part when it has `least` cells and the evaluation text
 * tells at least half of their pairs apart: else there is no order that a proxy could find. */
#ifndef PTQ_ANALYSIS_PROXY_STATS_H
#define PTQ_ANALYSIS_PROXY_STATS_H
#include "core/arena.h"

enum { PTQ_LEAST_RANKS = 3, PTQ_RESAMPLES = 1000 }; /* ranks: also without one method */

struct ptq_measured { /* quantized models and what they lost; borrowed */
    int64_t n, n_windows, n_strata;
    int64_t least;             /* cells that a stratum needs; at least PTQ_LEAST_RANKS */
    const int64_t *stratum;    /* [n] 0 .. n_strata - 1 */
    const char *const *method; /* [n] cells of one name leave together */
    const double *dnll;        /* (n x n_windows) quantized less full precision, mean of a window */
};
struct ptq_proxy_study { /* what all proxies of the same cells share */
    struct ptq_measured of;
    double *loss;      /* [n] mean over the windows */
    double *resampled; /* (PTQ_RESAMPLES x n) the same over windows drawn with replacement, one draw
                          for all cells */
    int8_t *decided; /* (n x n) 1: the row's cell lost more, -1: less, by a 95 % paired interval; 0:
                        not told apart, or of two strata */
    bool *counts;    /* [n_strata] */
    int64_t n_cells, n_counted; /* cells in strata that count; how many strata do */
    /* The rank correlation that a proxy of the true loss would show: the windows of the text are
     * split into even and odd, whose correlation r gives 2r / (1 + r) for both together (Spearman
     * and Brown, 1910); its root. NaN without windows to split. */
    double ceiling;
};
/* Everything in the arena. The draws are of a fixed seed: equal rows, equal figures. */
int ptq_proxy_study(const struct ptq_measured *, struct ptq_arena *, struct ptq_proxy_study *,
                    struct ptq_status *);

struct ptq_proxy_fit {
    int64_t n_cells, n_strata; /* with a value, in strata that count */
    /* Mean over strata, by their cells less one, of Spearman's correlation with the loss; 95 %
     * interval over resampled windows: how far the text's noise moves it. */
    double rho, rho_lo, rho_hi;
    /* The smallest and largest rho when one method is left out: how far the choice of methods does.
     */
    double rho_least, rho_most;
    const char *without_least; /* the method whose absence gives the smallest */
    double rho_pooled;         /* over all cells, strata ignored */
    /* log loss = a + slope log proxy over all cells with a loss above 0; factor: exp of the
     * standard deviation about that line, with its interval over resampled windows. */
    double slope, factor, factor_lo, factor_hi;
    /* Median over the cells of proxy / loss: of proxies that claim to be nats themselves. */
    double ratio;
    /* Pairs that the text tells apart, and those of them that the proxy puts the other way round
     * (equal values count half); the worst: where the losses differ most. */
    int64_t n_pairs;
    double n_wrong;
    int64_t better, worse; /* cells: the proxy prefers `better`, the text says it lost more; -1 */
    int64_t worst_stratum; /* where rho is smallest; -1 */
    double worst_rho;
};
/* proxy [n]: less is better; NaN: the cell has none. */
int ptq_proxy_fit(const struct ptq_proxy_study *, const double *proxy, struct ptq_arena *,
                  struct ptq_proxy_fit *, struct ptq_status *);
#endif
