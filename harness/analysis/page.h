/* page.h: report.html and report.md from a view whose pictures are already drawn. */
#ifndef PTQ_ANALYSIS_PAGE_H
#define PTQ_ANALYSIS_PAGE_H
#include "analysis/plot.h"
#include "analysis/tables.h"

struct ptq_picture {
    const struct ptq_plot *plot;
    int64_t board;
    const char *file;   /* path of the SVG; NULL: not drawn */
    const char *reason; /* why not; "" */
};
struct ptq_page {
    const struct ptq_tables *t;
    const struct ptq_picture *pictures;
    int64_t n_pictures;
    const char *no_pictures; /* why there are none */
};
/* One self-contained file: styles, script and SVG inside, no address outside. */
int ptq_page_html(const struct ptq_page *, FILE *);
int ptq_page_md(const struct ptq_page *, FILE *);

/* "demo" of results/demo or results/demo/ */
const char *ptq_run_name(const struct ptq_tables *);
/* The command that makes the run again. */
const char *ptq_run_command(const struct ptq_tables *);
#endif
