/* board.h: the typed view of a run: its rows, grouped into what may be compared.
 *
 * A setting is everything that names a cell but layer and protocol (method with options, bits,
 * group, grid, formats, calibration). A point is a setting's result: a model row, or, in runs of
 * bare layers, its layer rows aggregated. Points of one board share model, protocol and text: only
 * those are compared. A combination is the points of a setting over its calibration seeds. Orders
 * are total (label, variant, bits, group from coarse to fine, seed, key), so the same rows give the
 * same report whatever the order of lines in the files. Everything lives in the arena and the rows
 * of the view. */
#ifndef PTQ_ANALYSIS_BOARD_H
#define PTQ_ANALYSIS_BOARD_H
#include "core/arena.h"
#include "sweep/row.h"

struct ptq_cells { /* finished layer rows of one setting, in layer order */
    const json_t *const *at;
    int64_t n;
};

struct ptq_point {
    const json_t *row; /* the model row; NULL: an aggregate of `layers` */
    const json_t *any; /* row, or the first layer row: its settings */
    struct ptq_cells layers;
    const char *label,
        *variant; /* variant: the settings that differ inside a label ("sym=1"); "" when none do */
    int series;   /* index into the board's series */
    int64_t bits, group, calib_seed;
    double bits_stored;            /* bits/weight over the quantized weights */
    double loss, loss_lo, loss_hi; /* the board's loss; NaN when absent */
    /* The weights lay on a grid of no more bits before they were quantized (row.h): such a format
     * looks lossless, so the point is compared with nothing. */
    bool unranked;
    double time_s; /* quantizing every layer, without preparation, which cells share; seconds */
};

struct ptq_combo { /* points[first .. first + n): one setting over calibration seeds */
    int64_t first, n;
    double bits, loss; /* means over the seeds */
    bool unranked;
    bool front; /* on the Pareto front of (bits, loss): chosen by means, never by the luckiest seed
                 */
};

struct ptq_board {
    const char *model, *protocol, *text_key;
    bool by_layers;          /* no model rows: points are aggregates over layers */
    const json_t *reference; /* full-precision row, or NULL */
    const char *loss_id, *loss_title, *loss_unit;
    struct ptq_point *points;
    int64_t n;
    struct ptq_combo *combos;
    int64_t n_combos;
    const char **series; /* label and variant */
    int n_series;
    int64_t n_layers;          /* most layers behind one point */
    int64_t n_unranked;        /* points */
    const char *unranked_note; /* why, one line; NULL: none is */
    bool many_seeds;
};

struct ptq_text_list {
    const char **at;
    int64_t n, max;
};

enum { PTQ_MAX_SETTINGS = 16 };
struct ptq_view {
    const char *run_dir;
    struct ptq_rows rows;
    json_t *run;           /* run.json, or NULL */
    const json_t **sorted; /* rows in report order */
    struct ptq_board *boards;
    int64_t n_boards;
    const json_t **bad; /* skipped and failed rows */
    int64_t n_bad, n_ok, n_skipped, n_failed;
    const json_t **layers; /* finished layer rows */
    int64_t n_layers;
    struct ptq_text_list faults;   /* why the run is INVALID; empty: VALID */
    struct ptq_text_list remarks;  /* what a reader should know */
    bool varies[PTQ_MAX_SETTINGS]; /* settings that differ inside a label */
    const char *settings;          /* what all cells share, one line */
};

/* Reads a run folder. PTQ_ERR_USAGE: no rows, or a broken row (file and line). run.json may be
 * absent (a remark). */
int ptq_view_open(struct ptq_view *, const char *run_dir, struct ptq_arena *, struct ptq_status *);
void ptq_view_close(struct ptq_view *);

/* A metric of a point: of its model row, or aggregated over layers: bits weighted by the layer's
 * weights, losses by geometric mean, w_maxabs by maximum, the rest by arithmetic mean. NaN when
 * absent in one of the layers. */
double ptq_point_metric(const struct ptq_point *, const char *id);
/* The same from the layers alone (a model row's out_relerr). */
double ptq_cells_metric(const struct ptq_cells *, const char *id);
bool ptq_point_interval(const struct ptq_point *, const char *id, double *lo, double *hi);

/* Marks front[i] of n pairs: no other pair is at most as large in both and smaller in one. Pairs
 * with NaN are never on it. */
int ptq_pareto(const double *bits, const double *loss, int64_t n, bool *front, struct ptq_status *);

/* The orders of a report: settings (model, label, its settings, bits, group), calibration seeds,
 * layers (block, role, name). */
int ptq_row_order_setting(const json_t *, const json_t *);
int ptq_row_order_seed(const json_t *, const json_t *);
int ptq_row_order_layer(const json_t *, const json_t *);

/* The settings of a row that differ inside a label, as "grid=mse sym=1"; "" when none do. */
const char *ptq_row_variant(const struct ptq_view *, const json_t *row, struct ptq_arena *,
                            struct ptq_status *);

/* What reports say of a row with the field in_domain (row.h); NULL: nothing. */
const char *ptq_in_domain(const json_t *row);

/* A field of any scalar type as text ("" when absent), in the arena. */
const char *ptq_field_text(const json_t *object, const char *field, struct ptq_arena *,
                           struct ptq_status *);
/* The first member of that name anywhere in run.json (depth first), as text; "" when absent. */
const char *ptq_run_text(const struct ptq_view *, const char *field, struct ptq_arena *,
                         struct ptq_status *);
#endif
