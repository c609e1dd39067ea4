/* strata.h: settings side by side. A stratum is the settings of a board at one width of codes,
 * width of inputs and group: what differs inside it is the method, and not the rate, so only there
 * does an order say something about methods. */
#ifndef PTQ_ANALYSIS_STRATA_H
#define PTQ_ANALYSIS_STRATA_H
#include "analysis/board.h"

struct ptq_member { /* a setting */
    const struct ptq_combo *combo;
    const struct ptq_point *first; /* of its calibration seeds */
    int64_t a_bits;                /* 0: inputs stay as they are */
};
/* Every setting of the board, by stratum: few bits first, inputs that stay as they are before
 * narrow ones, coarse groups before fine, and inside a stratum in the order of the board. *at
 * [d->n_combos] in the arena. */
int ptq_strata(const struct ptq_board *d, struct ptq_arena *, struct ptq_member **at,
               struct ptq_status *);
/* Coarse to fine, as a number that rises: the tensor, the row, large groups, small ones; a
 * row without one (INT64_MIN) comes last. */
int64_t ptq_group_fineness(int64_t group);
bool ptq_points_together(const struct ptq_point *, const struct ptq_point *); /* of one stratum */
bool ptq_same_stratum(const struct ptq_member *, const struct ptq_member *);
int64_t ptq_inputs_bits(const struct ptq_point *);   /* 0: inputs stay as they are */
bool ptq_quantizes_inputs(const struct ptq_board *); /* a point of it does */
/* Settings of one stratum are ranked only when they store about as much: some keep more beside the
 * same codes (low rank, a scale of their own). fair: what is stored there ordinarily. */
bool ptq_stores_more(double bits, double fair);
#endif
