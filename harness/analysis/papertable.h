/* papertable.h: a paper's table as data (configs/tables/NAME.ini), run and compared cell by cell.
 *
 * A table has columns (models, or settings of a layer that is made), data (a text and a protocol,
 * or a metric) and rows (methods). A cell is a printed number at (row, data, column) with its trust
 * and tolerance. What a cell runs is a sweep configuration put together from the table's settings,
 * its data's, its column's and its row's, a later one winning; results/table-NAME/configs/ keeps
 * it. Everything lives in the arena that the table was read into. */
#ifndef PTQ_ANALYSIS_PAPERTABLE_H
#define PTQ_ANALYSIS_PAPERTABLE_H
#include "core/blas.h"
#include "core/ini.h"
#include "core/pool.h"
#include <stdatomic.h>
#include <stdio.h>

/* What a printed cell is known to be before anything runs. */
enum ptq_paper_mark {
    PTQ_PAPER_PLAIN,
    PTQ_PAPER_NOT_REPRODUCIBLE, /* an exact rerun gives another number */
    PTQ_PAPER_BASE_UNKNOWN,     /* which matrix or checkpoint it was measured on is not known */
    PTQ_PAPER_DETAIL_MISSING    /* the paper leaves out what decides the number */
};
enum ptq_paper_verdict {
    PTQ_PAPER_REPRODUCED,
    PTQ_PAPER_OFF,
    PTQ_PAPER_IS_NOT_REPRODUCIBLE,
    PTQ_PAPER_HAS_BASE_UNKNOWN,
    PTQ_PAPER_HAS_DETAIL_MISSING,
    PTQ_PAPER_NO_MODEL,
    PTQ_PAPER_NO_TEXT,
    PTQ_PAPER_NO_METHOD,
    PTQ_PAPER_NO_METRIC,
    PTQ_PAPER_FAILED,
    PTQ_PAPER_TO_RUN, /* of a dry run, or of a run that was interrupted */
    PTQ_PAPER_N_VERDICTS
};
extern const char *const ptq_paper_verdict_words[PTQ_PAPER_N_VERDICTS];

struct ptq_paper_set { /* a line of a sweep configuration: "calib.text", "c4" */
    const char *name, *value;
};
struct ptq_paper_sets {
    struct ptq_paper_set *at;
    int64_t n;
};
struct ptq_paper_column {
    const char *id, *title;
    char **folders; /* where below MODEL_DIR its checkpoint may lie */
    int64_t n_folders;
    bool needs_model; /* n_folders > 0 */
    struct ptq_paper_sets sets;
};
struct ptq_paper_data {
    const char *id, *title, *metric; /* metric NULL: nothing here measures it */
    struct ptq_paper_sets sets;
};
struct ptq_paper_row {
    const char *id, *title, *source, *note;
    const char *methods;   /* NULL: not here, `fp` or a ratio. Several specs: the best one counts */
    bool fp;               /* full precision: the base that the other rows stand on */
    bool data_free;        /* needs no calibration text */
    const char *of, *over; /* ids of rows: 100 of / over; both or none */
    int64_t of_row, over_row; /* their indices, or -1 */
    const char *trust;        /* of ptq_paper_trust_words */
    double tolerance;         /* share, beside half a digit of what is printed */
    enum ptq_paper_mark mark;
    struct ptq_paper_sets sets;
    const struct ptq_ini_entry *first; /* for messages */
};
struct ptq_paper_cell {
    int64_t row, data, column;
    const char *printed; /* as printed: "1.3e3", "5.61..5.69", "17.8%" */
    double lo, hi;       /* its value; a range's ends */
    double half_digit;   /* half a unit of the last printed digit */
    const char *trust;
    double tolerance;
    enum ptq_paper_mark mark;
    bool selected;
    /* of a run */
    enum ptq_paper_verdict verdict;
    double ours, spread; /* mean and standard deviation over calibration seeds; NaN */
    int64_t n_seeds;
    const char *label; /* of the best spec, or "" */
    const char *why;   /* one line, or "" */
};
struct ptq_paper_table {
    const char *name, *title, *paper, *version, *protocol, *note, *file;
    struct ptq_paper_sets sets;
    struct ptq_paper_column *columns;
    struct ptq_paper_data *data;
    struct ptq_paper_row *rows;
    struct ptq_paper_cell *cells;
    int64_t n_columns, n_data, n_rows, n_cells;
};

/* NAME of configs/tables/, or the path of such a file. PTQ_ERR_USAGE: the nearest name, or file,
 * line and reason. */
int ptq_paper_read(const char *name, struct ptq_arena *, struct ptq_paper_table *,
                   struct ptq_status *);
/* Names of configs/tables/ in order. */
int ptq_paper_names(struct ptq_arena *, const char ***names, int64_t *n, struct ptq_status *);
/* Only cells whose row, column and data match one of the patterns (separated by commas; NULL: all)
 * stay selected. A pattern that meets nothing, or no cell left: PTQ_ERR_USAGE. */
int ptq_paper_select(struct ptq_paper_table *, const char *rows, const char *columns,
                     const char *data, struct ptq_arena *, struct ptq_status *);
/* The cell at a place, or NULL. */
struct ptq_paper_cell *ptq_paper_cell_at(const struct ptq_paper_table *, int64_t row, int64_t data,
                                         int64_t column);
extern const char *const ptq_paper_trust_words[]; /* ends with NULL */
const char *ptq_paper_trust_meaning(const char *trust);
/* Its source is good enough for a gate: not memory, a third party or an inference. */
bool ptq_paper_is_gate(const struct ptq_paper_cell *);
/* Within the tolerance and half a printed digit. */
bool ptq_paper_agrees(const struct ptq_paper_cell *, double ours);
/* (ours - printed) / printed; 0 inside a range. */
double ptq_paper_difference(const struct ptq_paper_cell *, double ours);

struct ptq_paper_run {
    const char *model_dir; /* NULL: no model is looked for */
    const char *out;       /* results/ */
    const char *set_words; /* NULL, or words that win over the table's settings */
    const struct ptq_machine *machine;
    struct ptq_pool *pool;
    const atomic_bool *cancel;
    int64_t threads, memory_bytes; /* 0: as a sweep's */
    bool any_base;                 /* run the rows of a checkpoint that is not the paper's, too */
    bool dry_run, quiet;
};
/* --set changed what is measured ("sweep.bits=3"), not only how ("run.threads=1") or on how many
 * seeds: no cell can be the paper's. */
bool ptq_paper_changed(const char *set_words);
/* Runs what this machine can run of the selected cells and gives every one its verdict. A cell that
 * fails is a verdict, not an error. PTQ_ERR_CANCELLED: interrupted; the verdicts say what is left.
 */
int ptq_paper_run(const struct ptq_paper_run *, struct ptq_paper_table *, struct ptq_arena *,
                  struct ptq_status *);

/* text, md, csv, jsonl or latex; NULL: text. */
int ptq_paper_check_format(const char *format, struct ptq_status *);
int ptq_paper_print(const struct ptq_paper_table *, const char *format, FILE *, struct ptq_arena *,
                    struct ptq_status *);
/* STEM.md, STEM.csv and STEM.tex in a folder. */
int ptq_paper_write(const struct ptq_paper_table *, const char *folder, const char *stem,
                    struct ptq_arena *, struct ptq_status *);
#endif
