/* papertable_run.c: a table's cells as sweeps. Every cell is a sweep of its own into the folder of
 * its column, so forms, statistics and finished rows are shared; the configuration that made it
 * stays beside. */
#include "analysis/board.h"
#include "analysis/papertable.h"
#include "analysis/put.h"
#include "core/stat.h"
#include "sweep/sweep.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const ptq_paper_verdict_words[PTQ_PAPER_N_VERDICTS] = {
    "reproduced",
    "off",
    "not reproducible",
    "base unknown",
    "detail missing in the paper",
    "not run: model missing",
    "not run: text missing",
    "not run: method missing",
    "not run: metric missing",
    "not run: failed",
    "not run: left",
};

enum base { BASE_NOT_CHECKED, BASE_FINE, BASE_OTHER };
struct runner {
    const struct ptq_paper_run *run;
    struct ptq_paper_table *t;
    struct ptq_arena *arena;
    struct ptq_status *st;
    const char *folder; /* OUT/table-NAME */
    char **checkpoint;  /* of a column; NULL: not here */
    enum base *base;    /* [data][column] */
    const char **base_why;
    bool own_settings; /* --set changed more than how it runs */
};

/* ---- the configuration of a cell ---------------------------------------------------------------
 */

enum { MOST_SETS = 320 };
struct merged {
    struct ptq_paper_set at[MOST_SETS];
    int64_t n;
};

static void put(struct merged *m, const char *name, const char *value)
{
    for (int64_t i = 0; i < m->n; i++)
        if (!strcmp(m->at[i].name, name)) {
            m->at[i].value = value;
            return;
        }
    if (m->n < MOST_SETS) /* four sections of at most 64, and our own */
        m->at[m->n++] = (struct ptq_paper_set){name, value};
}

static void put_all(struct merged *m, const struct ptq_paper_sets *sets)
{
    for (int64_t i = 0; i < sets->n; i++)
        put(m, sets->at[i].name, sets->at[i].value);
}

static const char *value_of(const struct merged *m, const char *name)
{
    for (int64_t i = 0; i < m->n; i++)
        if (!strcmp(m->at[i].name, name))
            return m->at[i].value;
    return NULL;
}

/* Rounding to nearest and full precision look at no calibration text, but a sweep wants one: the
 * text that is scored is there. */
static void without_calibration(struct merged *m)
{
    const char *text = value_of(m, "eval.text");
    if (!text)
        return;
    put(m, "calib.text", text);
    put(m, "calib.draw", "windows");
    put(m, "calib.nsamples", "1");
    put(m, "calib.seed", "0");
    put(m, "calib.stats", "fp");
    put(m, "calib.true_sequential", "0");
}

static void merge(const struct runner *r, const struct ptq_paper_cell *c, struct merged *m)
{
    const struct ptq_paper_row *row = &r->t->rows[c->row];
    const struct ptq_paper_data *data = &r->t->data[c->data];
    const struct ptq_paper_column *column = &r->t->columns[c->column];
    m->n = 0;
    put_all(m, &r->t->sets);
    put_all(m, &data->sets);
    put_all(m, &column->sets);
    put_all(m, &row->sets);
    if (row->fp || row->data_free)
        without_calibration(m);
    put(m, "sweep.methods", row->fp ? "rtn" : row->methods);
    put(m, "model.name", column->id);
    put(m, "eval.metrics", data->metric);
    put(m, "run.keep_forms", "1"); /* the next text quantizes nothing again */
}

static int write_config(const struct runner *r, const struct ptq_paper_cell *c, const char *path)
{
    static const char *const sections[] = {"model", "calib", "sweep", "eval", "run"};
    struct merged m;
    struct ptq_buffer b;
    merge(r, c, &m);
    int code = ptq_buffer_open(&b, r->st);
    if (code < 0)
        return code;
    fprintf(b.f, "; table %s: row %s, column %s, data %s", r->t->name, r->t->rows[c->row].id,
            r->t->columns[c->column].id, r->t->data[c->data].id);
    fputs(r->t->rows[c->row].fp ? ": the full-precision row alone\n" : "\n", b.f);
    for (size_t s = 0; s < sizeof sections / sizeof *sections; s++) {
        size_t len = strlen(sections[s]);
        fprintf(b.f, "\n[%s]\n", sections[s]);
        for (int64_t i = 0; i < m.n; i++)
            if (!strncmp(m.at[i].name, sections[s], len) && m.at[i].name[len] == '.')
                fprintf(b.f, "%s = %s\n", m.at[i].name + len + 1, m.at[i].value);
    }
    return ptq_buffer_save(&b, path, r->st);
}

static int read_config(const struct runner *r, const struct ptq_paper_cell *c,
                       struct ptq_arena *arena, struct ptq_config *config)
{
    const struct ptq_paper_run *run = r->run;
    const struct ptq_config_override override = {run->set_words, r->checkpoint[c->column], false};
    char *folder = ptq_arena_printf(arena, r->st, "%s/configs", r->folder);
    char *path =
        folder ? ptq_arena_printf(arena, r->st, "%s/%s.%s.%s.ini", folder, r->t->rows[c->row].id,
                                  r->t->data[c->data].id, r->t->columns[c->column].id)
               : NULL;
    int code = path ? ptq_make_dirs(folder, r->st) : PTQ_ERR_MEMORY;
    if (code >= 0)
        code = write_config(r, c, path);
    if (code >= 0)
        code = ptq_config_read(path, &override, arena, config, r->st);
    if (code < 0)
        return code;
    config->run.out = r->folder;
    config->run.name = r->t->columns[c->column].id;
    config->run.threads = run->threads ? run->threads : config->run.threads;
    config->run.memory_bytes = run->memory_bytes ? run->memory_bytes : config->run.memory_bytes;
    return code;
}

/* ---- the rows of a cell ------------------------------------------------------------------------
 */

/* A spec's result over the calibration seeds. */
struct outcome {
    double mean, spread;
    int64_t n;
    const char *label;
};

static int of_label(const json_t *const *rows, int64_t n, const char *metric, struct outcome *o,
                    struct ptq_arena *arena, struct ptq_status *st)
{
    double *v = ptq_arena_alloc(arena, st, n, sizeof *v);
    if (!v)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        v[i] = ptq_row_metric(rows[i], metric);
    *o = (struct outcome){ptq_mean(v, n), ptq_stddev(v, n), n, ptq_row_text(rows[0], "label")};
    return PTQ_OK;
}

static bool usable(const json_t *row, const char *kind)
{
    return !strcmp(ptq_row_text(row, "kind"), kind) && !strcmp(ptq_row_text(row, "status"), "ok");
}

/* Rows with the label of `first` moved together into same[]; the mean over layers is one row's
 * worth for bare layers. */
static int outcome_of(const struct ptq_rows *rows, int64_t first, const char *kind,
                      const char *metric, struct outcome *o, struct ptq_arena *arena,
                      struct ptq_status *st)
{
    const json_t **same = ptq_arena_alloc(arena, st, rows->n, sizeof *same);
    const char *label = ptq_row_text(rows->at[first], "label");
    int64_t n = 0;
    for (int64_t i = 0; same && i < rows->n; i++)
        if (usable(rows->at[i], kind) && !strcmp(ptq_row_text(rows->at[i], "label"), label))
            same[n++] = rows->at[i];
    if (!same || strcmp(kind, "layer") != 0)
        return same ? of_label(same, n, metric, o, arena, st) : PTQ_ERR_MEMORY;
    const struct ptq_cells cells = {same, n};
    *o = (struct outcome){ptq_cells_metric(&cells, metric), NAN, 1, label};
    return PTQ_OK;
}

static const char *first_reason(const struct ptq_rows *rows)
{
    for (int64_t i = 0; i < rows->n; i++)
        if (*ptq_row_text(rows->at[i], "reason"))
            return ptq_row_text(rows->at[i], "reason");
    return "no row";
}

/* The paper's best of several orders is the best of ours. */
static int take_best(const struct runner *r, struct ptq_paper_cell *c, const struct ptq_rows *rows,
                     const char *kind)
{
    struct outcome best = {.mean = NAN, .label = ""};
    struct ptq_arena scratch;
    int code = PTQ_OK;
    ptq_arena_init(&scratch, 0);
    for (int64_t i = 0; code >= 0 && i < rows->n; i++) {
        struct outcome o;
        if (!usable(rows->at[i], kind))
            continue;
        code = outcome_of(rows, i, kind, r->t->data[c->data].metric, &o, &scratch, r->st);
        if (code >= 0 && (isnan(best.mean) || o.mean < best.mean))
            best = o;
    }
    ptq_arena_clear(&scratch);
    const char *why = isnan(best.mean) ? first_reason(rows) : "";
    c->ours = best.mean;
    c->spread = best.spread;
    c->n_seeds = best.n;
    c->label = ptq_arena_strdup(r->arena, r->st, best.label);
    c->why = ptq_arena_strdup(r->arena, r->st, why);
    return code < 0 || (c->label && c->why) ? code : PTQ_ERR_MEMORY;
}

static int collect(const struct runner *r, struct ptq_paper_cell *c, const char *run_dir,
                   const char *kind)
{
    struct ptq_rows rows = {0};
    int code = ptq_rows_read_run(run_dir, &rows, r->st);
    if (code >= 0)
        code = take_best(r, c, &rows, kind);
    ptq_rows_release(&rows);
    return code;
}

/* ---- one cell ----------------------------------------------------------------------------------
 */

static void say(const struct runner *r, const struct ptq_paper_cell *c)
{
    if (!r->run->quiet)
        fprintf(stderr, "table %s: %s, %s, %s\n", r->t->name, r->t->columns[c->column].title,
                r->t->data[c->data].title, r->t->rows[c->row].title);
}

static int sweep(const struct runner *r, struct ptq_paper_cell *c, const struct ptq_config *config)
{
    const struct ptq_paper_run *run = r->run;
    struct ptq_sweep_summary summary = {0};
    const bool fp = r->t->rows[c->row].fp;
    const struct ptq_sweep_args args = {.config = config,
                                        .machine = run->machine,
                                        .pool = run->pool,
                                        .cancel = run->cancel,
                                        .quiet = run->quiet || !r->checkpoint[c->column],
                                        .reference_only = fp,
                                        .n_shards = 1,
                                        .command = "ptq table"};
    const char *kind = fp ? "reference" : config->eval.text ? "model" : "layer";
    say(r, c);
    int code = ptq_sweep_run(&args, &summary, r->st);
    return code < 0 ? code : collect(r, c, summary.run_dir, kind);
}

/* True when all texts are here; else the verdict says which are not. */
static bool has_texts(const struct runner *r, const struct ptq_config *config,
                      struct ptq_paper_cell *c, struct ptq_arena *arena)
{
    const char **names;
    int64_t n = 0;
    if (ptq_config_missing_texts(config, arena, &names, &n, r->st) < 0) {
        ptq_status_clear(r->st); /* the sweep says it, too */
        return true;
    }
    if (!n)
        return true;
    c->verdict = PTQ_PAPER_NO_TEXT;
    c->why =
        ptq_arena_printf(r->arena, r->st, "%s is not in datasets/texts/ or $PTQ_TEXTS", names[0]);
    return false;
}

/* Runs a cell; what goes wrong in it is its verdict, unless nothing can go on. */
static int measure(const struct runner *r, struct ptq_paper_cell *c)
{
    struct ptq_arena arena;
    struct ptq_config config;
    ptq_arena_init(&arena, 0);
    int code = read_config(r, c, &arena, &config);
    if (code >= 0 && has_texts(r, &config, c, &arena) && !r->run->dry_run)
        code = sweep(r, c, &config);
    ptq_arena_clear(&arena);
    /* A sweep that memory stopped says "cancelled", too: that is one cell's matter. */
    bool stopped = r->run->cancel && atomic_load(r->run->cancel);
    if (code >= 0 || (code == PTQ_ERR_CANCELLED && stopped))
        return code;
    c->verdict = PTQ_PAPER_FAILED;
    c->why = ptq_arena_strdup(r->arena, NULL, r->st->text);
    ptq_status_clear(r->st);
    return c->why ? PTQ_OK : PTQ_ERR_MEMORY;
}

static void judge(const struct runner *r, struct ptq_paper_cell *c)
{
    if (c->verdict != PTQ_PAPER_TO_RUN || r->run->dry_run)
        return;
    if (isnan(c->ours))
        c->verdict = PTQ_PAPER_FAILED;
    else if (r->own_settings) {
        c->verdict = PTQ_PAPER_HAS_BASE_UNKNOWN;
        c->why = "--set changed the paper's setting";
    } else
        c->verdict = ptq_paper_agrees(c, c->ours) ? PTQ_PAPER_REPRODUCED : PTQ_PAPER_OFF;
}

/* ---- the base ----------------------------------------------------------------------------------
 */

static struct ptq_paper_cell *base_cell(const struct runner *r, int64_t data, int64_t column)
{
    for (int64_t i = 0; i < r->t->n_cells; i++) {
        struct ptq_paper_cell *c = &r->t->cells[i];
        if (r->t->rows[c->row].fp && c->data == data && c->column == column)
            return c;
    }
    return NULL;
}

static void compare_base(struct runner *r, struct ptq_paper_cell *fp, int64_t at)
{
    judge(r, fp);
    r->base[at] = fp->verdict == PTQ_PAPER_REPRODUCED ? BASE_FINE : BASE_OTHER;
    if (r->base[at] == BASE_FINE)
        return;
    r->base_why[at] =
        isnan(fp->ours)
            ? ptq_arena_printf(r->arena, r->st, "full precision: %s",
                               *fp->why ? fp->why : ptq_paper_verdict_words[fp->verdict])
            : ptq_arena_printf(r->arena, r->st,
                               "this checkpoint's full precision is %.5g, the paper's %s", fp->ours,
                               fp->printed);
}

/* Full precision comes first: a checkpoint with another perplexity than the paper's is another
 * model, text or tokenizer, and its rows say nothing of the paper's. */
static int check_base(struct runner *r, int64_t data, int64_t column)
{
    const int64_t at = data * r->t->n_columns + column;
    struct ptq_paper_cell *fp = base_cell(r, data, column);
    if (r->base[at] != BASE_NOT_CHECKED)
        return PTQ_OK;
    r->base[at] = BASE_OTHER;
    r->base_why[at] = "no full-precision value is printed";
    if (!fp)
        return PTQ_OK;
    int code = measure(r, fp);
    if (code < 0 || r->run->dry_run)
        return code;
    compare_base(r, fp, at);
    if (fp->verdict == PTQ_PAPER_OFF)
        fp->verdict = PTQ_PAPER_HAS_BASE_UNKNOWN;
    if (!isnan(fp->ours) && r->base[at] == BASE_OTHER)
        fp->why = r->base_why[at];
    return r->base_why[at] || r->base[at] == BASE_FINE ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* ---- what can be known before ------------------------------------------------------------------
 */

static void find_checkpoint(struct runner *r, int64_t k)
{
    const struct ptq_paper_column *c = &r->t->columns[k];
    for (int64_t i = 0; r->run->model_dir && i < c->n_folders && !r->checkpoint[k]; i++) {
        char *path = ptq_arena_printf(r->arena, r->st, "%s/%s", r->run->model_dir, c->folders[i]);
        if (path && !access(path, F_OK))
            r->checkpoint[k] = path;
    }
}

/* A MODEL_DIR in which no column's checkpoint is found: most often the checkpoint itself. */
static int explain_no_model(struct runner *r)
{
    const char *dir = r->run->model_dir, *column = NULL;
    for (int64_t k = 0; dir && k < r->t->n_columns; k++) {
        if (r->checkpoint[k])
            return PTQ_OK;
        column = !column && r->t->columns[k].needs_model ? r->t->columns[k].folders[0] : column;
    }
    if (!column)
        return PTQ_OK;
    char *config = ptq_arena_printf(r->arena, r->st, "%s/config.json", dir);
    char *why = ptq_arena_printf(
        r->arena, r->st, "%s has none of the folders that the columns name, such as %s%s", dir,
        column,
        config && !access(config, F_OK) ? "; it is a checkpoint itself: name the folder above it"
                                        : "");
    for (int64_t i = 0; why && i < r->t->n_cells; i++)
        if (r->t->cells[i].verdict == PTQ_PAPER_NO_MODEL)
            r->t->cells[i].why = why;
    return config && why ? PTQ_OK : PTQ_ERR_MEMORY;
}

static enum ptq_paper_verdict outlook(const struct runner *r, const struct ptq_paper_cell *c)
{
    const struct ptq_paper_row *row = &r->t->rows[c->row];
    const struct ptq_paper_column *column = &r->t->columns[c->column];
    if (!r->t->data[c->data].metric)
        return PTQ_PAPER_NO_METRIC;
    if (!row->methods && !row->fp && !row->of)
        return PTQ_PAPER_NO_METHOD;
    if (column->needs_model && !r->checkpoint[c->column])
        return PTQ_PAPER_NO_MODEL;
    return PTQ_PAPER_TO_RUN;
}

/* A row on another base; where full precision could not be run there is no base to speak of. */
static void on_other_base(const struct runner *r, struct ptq_paper_cell *c)
{
    const struct ptq_paper_cell *fp = base_cell(r, c->data, c->column);
    const bool ran = !fp || !isnan(fp->ours) || !isnan(c->ours);
    c->verdict = ran ? PTQ_PAPER_HAS_BASE_UNKNOWN : fp->verdict;
    c->why = ran ? r->base_why[c->data * r->t->n_columns + c->column] : fp->why;
}

static int run_on_base(struct runner *r, struct ptq_paper_cell *c)
{
    int code = check_base(r, c->data, c->column);
    if (code < 0 || r->t->rows[c->row].fp)
        return code;
    bool other = r->base[c->data * r->t->n_columns + c->column] == BASE_OTHER && !r->run->dry_run;
    if (!other || r->run->any_base)
        code = measure(r, c);
    if (code < 0)
        return code;
    judge(r, c);
    if (other && (!r->run->any_base || !isnan(c->ours)))
        on_other_base(r, c);
    return PTQ_OK;
}

static int run_cell(struct runner *r, struct ptq_paper_cell *c)
{
    if (r->t->columns[c->column].needs_model)
        return run_on_base(r, c);
    int code = measure(r, c);
    if (code >= 0)
        judge(r, c);
    return code;
}

/* A ratio of two rows that were run before it. */
static void take_ratio(const struct runner *r, struct ptq_paper_cell *c)
{
    const struct ptq_paper_row *row = &r->t->rows[c->row];
    const struct ptq_paper_cell *of = ptq_paper_cell_at(r->t, row->of_row, c->data, c->column),
                                *over = ptq_paper_cell_at(r->t, row->over_row, c->data, c->column);
    if (!of || !over || isnan(of->ours) || isnan(over->ours)) {
        bool left =
            of && over && (of->verdict == PTQ_PAPER_TO_RUN || over->verdict == PTQ_PAPER_TO_RUN);
        c->why = "one of its two rows has no result";
        c->verdict = left ? PTQ_PAPER_TO_RUN : PTQ_PAPER_FAILED;
        return;
    }
    c->ours = 100 * of->ours / over->ours;
    judge(r, c);
}

/* What a cell is known to be wins over what came out. */
static void apply_mark(struct ptq_paper_cell *c)
{
    static const enum ptq_paper_verdict of[] = {PTQ_PAPER_TO_RUN, PTQ_PAPER_IS_NOT_REPRODUCIBLE,
                                                PTQ_PAPER_HAS_BASE_UNKNOWN,
                                                PTQ_PAPER_HAS_DETAIL_MISSING};
    if (c->mark != PTQ_PAPER_PLAIN)
        c->verdict = of[c->mark];
}

bool ptq_paper_changed(const char *set_words)
{
    for (const char *s = set_words; s && *s;) {
        s += strspn(s, " \t");
        if (*s && strncmp(s, "run.", 4) != 0 && strncmp(s, "calib.seed=", 11) != 0)
            return true;
        s += strcspn(s, " \t");
    }
    return false;
}

/* Words of --set that no configuration takes are the caller's error, not every cell's. */
static int try_words(const struct runner *r)
{
    struct ptq_arena arena;
    struct ptq_config config;
    int64_t i = 0;
    while (i < r->t->n_cells &&
           !(r->t->cells[i].selected && r->t->cells[i].verdict == PTQ_PAPER_TO_RUN &&
             !r->t->rows[r->t->cells[i].row].of))
        i++;
    if (i == r->t->n_cells || !r->run->set_words)
        return PTQ_OK;
    ptq_arena_init(&arena, 0);
    int code = read_config(r, &r->t->cells[i], &arena, &config);
    ptq_arena_clear(&arena);
    return code;
}

static int begin(struct runner *r)
{
    struct ptq_paper_table *t = r->t;
    const int64_t n = t->n_data * t->n_columns;
    r->folder = ptq_arena_printf(r->arena, r->st, "%s/table-%s", r->run->out, t->name);
    r->checkpoint = ptq_arena_alloc(r->arena, r->st, t->n_columns, sizeof *r->checkpoint);
    r->base = ptq_arena_alloc(r->arena, r->st, n, sizeof *r->base);
    r->base_why = ptq_arena_alloc(r->arena, r->st, n, sizeof *r->base_why);
    r->own_settings = ptq_paper_changed(r->run->set_words);
    if (!r->folder || !r->checkpoint || !r->base || !r->base_why)
        return PTQ_ERR_MEMORY;
    for (int64_t k = 0; k < t->n_columns; k++)
        find_checkpoint(r, k);
    for (int64_t i = 0; i < t->n_cells; i++)
        t->cells[i].verdict = outlook(r, &t->cells[i]);
    int code = explain_no_model(r);
    return code < 0 ? code : try_words(r);
}

int ptq_paper_run(const struct ptq_paper_run *run, struct ptq_paper_table *t,
                  struct ptq_arena *arena, struct ptq_status *st)
{
    struct runner r = {.run = run, .t = t, .arena = arena, .st = st};
    int code = begin(&r);
    for (int64_t i = 0; code >= 0 && i < t->n_cells; i++) {
        struct ptq_paper_cell *c = &t->cells[i];
        if (c->selected && c->verdict == PTQ_PAPER_TO_RUN && !t->rows[c->row].of)
            code = run_cell(&r, c);
    }
    for (int64_t i = 0; i < t->n_cells; i++) {
        struct ptq_paper_cell *c = &t->cells[i];
        if (c->selected && c->verdict == PTQ_PAPER_TO_RUN && t->rows[c->row].of)
            take_ratio(&r, c);
        apply_mark(c);
    }
    return code;
}
