/* sheet.h: a table whose cells are texts, in every format a report has. The order of rows and
 * columns is the caller's. A sheet lives in an arena; growing it can fail only for memory, which
 * the status keeps: the adders return nothing and the first failure makes ptq_sheet_ok() false. */
#ifndef PTQ_ANALYSIS_SHEET_H
#define PTQ_ANALYSIS_SHEET_H
#include "core/arena.h"
#include <stdio.h>

struct ptq_sheet_column {
    const char *id;   /* heading of CSV and JSON Lines; of the others when `head` is NULL */
    const char *head; /* lines of the heading, separated by '\n' */
    bool numeric;     /* right-aligned; a JSON number where it is one */
    int drop;         /* > 0: left out first (highest first) where a text line would be too long */
};
struct ptq_sheet {
    struct ptq_arena *arena;
    struct ptq_status *st;
    struct ptq_sheet_column *columns;
    int n_columns, max_columns;
    const char **cells; /* n_rows x max_columns */
    int64_t n_rows, max_rows;
};

/* max_rows is known before: tables are made of rows that are already in memory. */
int ptq_sheet_init(struct ptq_sheet *, int max_columns, int64_t max_rows, struct ptq_arena *,
                   struct ptq_status *);
int ptq_sheet_column(struct ptq_sheet *, const char *id, const char *head, bool numeric,
                     int drop);         /* its index */
void ptq_sheet_row(struct ptq_sheet *); /* a new row of empty cells */
void ptq_sheet_set(struct ptq_sheet *, int column, const char *fmt, ...)
    __attribute__((format(printf, 3, 4))); /* last row */

/* Text fits `width` columns where columns may be dropped; *dropped (may be NULL) gets their ids (""
 * when none). */
void ptq_sheet_text(const struct ptq_sheet *, FILE *, int width, const char **dropped);
void ptq_sheet_md(const struct ptq_sheet *, FILE *);
void ptq_sheet_csv(const struct ptq_sheet *, FILE *);
void ptq_sheet_jsonl(const struct ptq_sheet *, FILE *);
void ptq_sheet_latex(const struct ptq_sheet *, FILE *); /* a booktabs tabular */
void ptq_sheet_html(const struct ptq_sheet *, FILE *, const char *id, bool sortable);
#endif
