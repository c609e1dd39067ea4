/* tables.h: the tables of a report, from a view, as sheets. Human tables round; exact ones keep 17
 * digits. */
#ifndef PTQ_ANALYSIS_TABLES_H
#define PTQ_ANALYSIS_TABLES_H
#include "analysis/board.h"
#include "analysis/sheet.h"

struct ptq_proxies;
struct ptq_tables {
    const struct ptq_view *v;
    struct ptq_arena *arena;
    struct ptq_status *st;
    const struct ptq_proxies *proxies; /* [v->n_boards] what proxies are worth there */
};
/* Fills it for an open view. */
int ptq_tables_init(struct ptq_tables *, const struct ptq_view *, struct ptq_arena *,
                    struct ptq_status *);

/* The main table of a board: full precision first. wide: intervals as [lo, hi], else as +- where
 * symmetric. */
int ptq_table_main(const struct ptq_tables *, const struct ptq_board *, bool wide,
                   struct ptq_sheet *);
int ptq_table_main_exact(const struct ptq_tables *,
                         struct ptq_sheet *); /* every board, setting and model metric */
int ptq_table_front(const struct ptq_tables *, const struct ptq_board *, struct ptq_sheet *);
int ptq_table_spread(const struct ptq_tables *, const struct ptq_board *,
                     struct ptq_sheet *); /* over calibration seeds */
int ptq_table_layers(const struct ptq_tables *, bool exact, int64_t max_rows, struct ptq_sheet *);
int ptq_table_bad(const struct ptq_tables *,
                  struct ptq_sheet *); /* skipped and failed cells, equal ones joined */
/* Every distinct input of the layers: its Hessian's health (row.h), and what the methods that
 * worked on it noted. */
int ptq_table_inputs(const struct ptq_tables *, bool exact, struct ptq_sheet *);
int ptq_table_health(const struct ptq_tables *, struct ptq_sheet *); /* notes by method */
/* Methods by objectives: geometric mean over layers of the loss relative to that of the first rtn
 * of the same bits and group. " *": the smallest of its column there; " ~": not told apart from it
 * (95 %, paired over layers). Blocks without rtn, or with nothing else, are left out. */
int ptq_table_crossloss(const struct ptq_tables *, const struct ptq_board *, struct ptq_sheet *);
int ptq_table_crossloss_exact(const struct ptq_tables *, struct ptq_sheet *); /* a row a number */
/* Boards of one model (its protocols) share their layers: those tables are shown with the first. */
bool ptq_first_of_model(const struct ptq_view *, int64_t board);
int ptq_table_definitions(const struct ptq_tables *,
                          struct ptq_sheet *); /* every metric id in the rows */

/* Ids of the metrics in rows of a kind ("layer", "model"; NULL: all), sorted, NULL-terminated. */
const char **ptq_metric_ids(const struct ptq_tables *, const char *kind, int64_t *n);
/* "row", "tensor", "64" */
const char *ptq_group_text(const struct ptq_tables *, int64_t group);

/* What stands under the table: name and one line each (protocol, calibration, settings, interval,
 * machine, ...). */
struct ptq_fact {
    const char *name, *text;
};
enum { PTQ_MAX_FACTS = 12 };
int ptq_board_facts(const struct ptq_tables *, const struct ptq_board *,
                    struct ptq_fact facts[PTQ_MAX_FACTS]);
const char *ptq_verdict(const struct ptq_tables *); /* "VALID: 48 cells" or "INVALID: reasons" */
#endif
