/* put.h: texts from files (labels, reasons, names) are hostile; each output format has its own way
 * to write them. A NULL text is "". Control characters become '?' in every format: a label must not
 * drive the reader's terminal. The FILE reports its own errors. */
#ifndef PTQ_ANALYSIS_PUT_H
#define PTQ_ANALYSIS_PUT_H
#include "core/status.h"
#include <stdio.h>

void ptq_put_text(FILE *, const char *);  /* as it is */
void ptq_put_html(FILE *, const char *);  /* element text or a quoted attribute */
void ptq_put_latex(FILE *, const char *); /* text mode, pdflatex with utf8 and T1 */
void ptq_put_md(FILE *, const char *);    /* a table cell of GitHub's Markdown */
void ptq_put_csv(FILE *, const char *);   /* RFC 4180: quoted where needed */
void ptq_put_tsv(FILE *,
                 const char *); /* gnuplot data: quotes would group fields, so they are replaced */

int ptq_text_width(const char *); /* terminal columns: code points (no wide scripts in labels) */

/* A FILE in memory. close: *text is malloc'ed (free it), also on errors of the FILE. */
struct ptq_buffer {
    FILE *f;
    char *text;
    size_t bytes;
};
int ptq_buffer_open(struct ptq_buffer *, struct ptq_status *);
int ptq_buffer_close(struct ptq_buffer *, struct ptq_status *);
/* Closes, writes the file (whole or untouched) and frees. */
int ptq_buffer_save(struct ptq_buffer *, const char *path, struct ptq_status *);
#endif
