/* report.h: what a finished run means: tables and pictures from its rows alone
 * (results/NAME/cells*.jsonl and run.json). */
#ifndef PTQ_ANALYSIS_REPORT_H
#define PTQ_ANALYSIS_REPORT_H
#include "core/arena.h"
#include "sweep/row.h"

struct ptq_report_args {
    const char *run_dir;
    bool plots;
    bool quiet;
};
/* Writes report.md, report.html (one self-contained file, SVG pictures inside), tables CSV and
 * LaTeX (booktabs) under tables/, plots/ data and SVG. A picture that cannot be drawn (no gnuplot,
 * nothing to show) costs no table: report and stderr (unless quiet) say why. */
int ptq_report_write(const struct ptq_report_args *, struct ptq_status *);
/* The main table (model cells, or layer cells of a bare file aggregated over layers) on `file`, as
 * text | md | csv | jsonl | latex; text ends with VALID or INVALID and the reasons. */
int ptq_report_print(const char *run_dir, const char *format, void *file, struct ptq_status *);
/* What the proxies of every board are worth, in the same formats. PTQ_SKIP: of none, with the
 * reason. */
int ptq_proxies_print(const char *run_dir, const char *format, void *file, struct ptq_status *st);
/* One picture by name (plots/NAME.gp) as SVG or PNG (by the end of out_path). PTQ_SKIP: not drawn,
 * with the reason. */
int ptq_plot_write(const char *run_dir, const char *plot, const char *out_path,
                   struct ptq_status *);
/* The run folder of a word on the command line: a folder, or NAME of results/NAME. PTQ_ERR_USAGE
 * with the nearest name. */
int ptq_run_folder(const char *word, struct ptq_arena *, char **run_dir, struct ptq_status *);
#endif
