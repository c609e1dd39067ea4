/* equal.h: the comparison of methods: at equal stored bits, by wins over layers, by the books they
 * store. Settings that are not ranked (board.h) take no part. */
#ifndef PTQ_ANALYSIS_EQUAL_H
#define PTQ_ANALYSIS_EQUAL_H
#include "analysis/hull.h"
#include "analysis/tables.h"

enum { PTQ_MAX_RATES = 6 };
enum ptq_quantity {
    PTQ_OF_MODEL,  /* the board's loss */
    PTQ_OF_LAYERS, /* geometric mean over layers of the held-out error, or of out_relerr */
    PTQ_N_QUANTITIES
};

struct ptq_equal_cell {
    struct ptq_hull_place place; /* points are indices of combinations */
    bool reached, best, tied;    /* tied: the interval of the difference to the best holds 0 */
};
struct ptq_equal { /* one quantity of a board; families are its series */
    const struct ptq_board *d;
    const char *id;  /* of the metric; NULL: no row holds one */
    const char *how; /* what the interval is of; "" without one */
    struct ptq_hull *hulls;
    struct ptq_equal_cell *cells; /* n_series x n_rates */
    double rates[PTQ_MAX_RATES];
    int n_rates;
};
int ptq_equal_make(const struct ptq_tables *, const struct ptq_board *, enum ptq_quantity,
                   struct ptq_equal *);
/* Rows: families; columns: rates. "*" best, "~" not told apart from it, "-" not reached. */
int ptq_table_equal(const struct ptq_tables *, const struct ptq_equal *, struct ptq_sheet *);
/* "2.25 bits: boa; not told apart from it: gptq", one a rate; in the arena, n_rates of them. */
const char **ptq_equal_words(const struct ptq_tables *, const struct ptq_equal *);
int ptq_table_equal_exact(const struct ptq_tables *, struct ptq_sheet *); /* every board */

/* Of the next two, board NULL: every model's, exact numbers. */
/* Settings whose layers store books: their bits here, and were the layers 4096 x 4096. */
int ptq_table_books(const struct ptq_tables *, const struct ptq_board *, struct ptq_sheet *);
/* At each (bits, group): in which share of the layers each method has the lowest held-out error
 * (equal errors share a win; a setting that stores over 5 % more than rtn does not take part), by
 * draw of the calibration text: mean, least and most. beyond: in which it is lower than every
 * other's by more than that difference moves over the draws. */
int ptq_table_wins(const struct ptq_tables *, const struct ptq_board *, struct ptq_sheet *);

/* "out_relerr_heldout" where the board's layers hold it, else "out_relerr". */
const char *ptq_layer_error_id(const struct ptq_board *);
/* corner[i]: combination i is a corner of its family's hull of the board's loss. */
int ptq_hull_corners(const struct ptq_tables *, const struct ptq_board *, bool *corner);
#endif
