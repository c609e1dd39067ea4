/* propagation.h: rows of kind "propagation" (row.h) beside the model rows that they belong to: the
 * error of a quantized model block by block. Relative squared errors of the residual stream without
 * the sink tokens unless a name says otherwise. */
#ifndef PTQ_ANALYSIS_PROPAGATION_H
#define PTQ_ANALYSIS_PROPAGATION_H
#include "analysis/tables.h"

/* The object of the row of that point's form and text, or NULL. */
const json_t *ptq_propagation_of(const struct ptq_tables *, const struct ptq_point *);
/* "blocks" or "with_sinks", the quantity, the block; NaN where it is absent. */
double ptq_propagation_at(const json_t *, const char *tokens, const char *quantity, int64_t block);
int64_t ptq_propagation_blocks(const json_t *);

/* A model a row: what leaves the last block, and how it came about. */
int ptq_table_propagation(const struct ptq_tables *, const struct ptq_board *, struct ptq_sheet *);
/* Every board, model and block. */
int ptq_table_propagation_exact(const struct ptq_tables *, struct ptq_sheet *);
extern const char ptq_about_propagation[];

/* Models of one picture: those of the bits and group at which most methods stand, the fewest bits
 * where several do; where no two stand together, all. Of more than fit in, those with the least
 * error behind the last block. */
enum { PTQ_MAX_PROPAGATED = 6 };
struct ptq_propagated {
    const struct ptq_point *at[PTQ_MAX_PROPAGATED];
    const char *name[PTQ_MAX_PROPAGATED];
    int n;
};
int ptq_propagation_choose(const struct ptq_tables *, const struct ptq_board *,
                           struct ptq_propagated *);
/* block.tsv of a picture: series, name, block, total, local, inherited. */
int ptq_propagation_data_write(const struct ptq_tables *, int64_t board, const char *path);
#endif
