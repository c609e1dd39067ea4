/* plot_data.h: what pictures are drawn from: a file of lines under the run's plots/, and the names
 * that the picture is given. */
#ifndef PTQ_ANALYSIS_PLOT_DATA_H
#define PTQ_ANALYSIS_PLOT_DATA_H
#include "analysis/tables.h"

struct ptq_plot_series { /* texts of gnuplot's arrays NAMES and PANELS */
    const char *const *names;
    int n;
    const char *const *panels;
    int n_panels;
};
struct ptq_plot_data {
    const char *name; /* "# data: NAME" of a picture; the file is NAME.tsv */
    int (*write)(const struct ptq_tables *, int64_t board, const char *path);
    /* NULL: the board's series, no panels */
    int (*series)(const struct ptq_tables *, const struct ptq_board *, struct ptq_plot_series *);
    /* NULL, or why there is nothing to draw on that board; NULL from it: there is. */
    const char *(*missing)(const struct ptq_tables *, const struct ptq_board *);
};
extern const struct ptq_plot_data ptq_block_data; /* plot_propagation.c */
extern const struct ptq_plot_data ptq_proxy_data; /* plot_proxies.c */
#endif
