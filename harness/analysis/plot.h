/* plot.h: pictures. A file plots/NAME.gp is a picture; its head comment says what it shows and
 * reads: # title: Loss against stored bits # data: model            (a line a point: model.tsv) or
 * layer (a line a layer cell: layer.tsv), or block (a line a block of some models: block.tsv,
 * plot_propagation.c), or proxy (a line a proxy and model: proxy.tsv, plot_proxies.c) # needs:
 * bits_stored loss  (columns that must hold a finite value; else the picture is left out, with the
 * reason) # order: 10              (place in a report, low first; 100 without) # alt: one sentence
 * that describes the picture # alt_layers: the same of a run of layers without a model, where it
 * differs Names that start with '_' are shared parts. The columns of the TSV files and the
 * variables given to gnuplot are described in plots/_style.gp. gnuplot runs as a child without a
 * shell; its failures never cost a table. */
#ifndef PTQ_ANALYSIS_PLOT_H
#define PTQ_ANALYSIS_PLOT_H
#include "analysis/tables.h"

struct ptq_plot {
    const char *name, *path, *title, *data, *alt, *alt_layers;
    const char *needs;
    int64_t order;
    bool optional; /* "# optional: yes": where it cannot be drawn nobody misses it */
};

/* Every picture of the plots folder, by order, then name. PTQ_ERR_USAGE: the folder is not found.
 */
int ptq_plots_list(struct ptq_arena *, struct ptq_plot **, int64_t *n, struct ptq_status *);

/* Writes RUN/plots/model.tsv and layer.tsv ("-2" and so on for later boards). */
int ptq_plot_data_write(const struct ptq_tables *, int64_t board);
/* Draws into out_path (.svg, or .png). PTQ_SKIP: not drawn; the reason is in the status (no
 * gnuplot, nothing to show, its error). */
int ptq_plot_draw(const struct ptq_tables *, int64_t board, const struct ptq_plot *,
                  const char *out_path, struct ptq_status *);
/* The picture as it describes itself on that board; in the arena, or NULL. */
const struct ptq_plot *ptq_plot_on_board(const struct ptq_tables *, int64_t board,
                                         const struct ptq_plot *);
/* "plots/NAME.svg", "plots/NAME-2.svg", ... under the run folder, in the arena. */
const char *ptq_plot_file(const struct ptq_tables *, int64_t board, const char *name,
                          const char *ext);

/* gnuplot's SVG made fit for light and dark pages: black becomes the colour of the text around it,
 * ids get the picture's name. malloc'ed. inlined: without prolog and name spaces, to stand inside
 * HTML. */
int ptq_svg_adapt(const char *svg, const struct ptq_plot *, char **out, size_t *bytes,
                  struct ptq_status *);
void ptq_svg_inline(const char *svg, FILE *);
#endif
