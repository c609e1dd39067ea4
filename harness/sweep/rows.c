/* rows.c: reading results back. Files are untrusted: a line is at most MAX_LINE_BYTES and is a row
 * of our schema or an error. */
#include "sweep/row.h"
#include "core/stat.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LINE_BYTES = 64 << 20 };

struct reader {
    const char *path;
    int64_t line;
    struct ptq_rows *rows;
    json_t *position; /* key -> index in rows */
    struct ptq_status *st;
};

static int broken(struct reader *r, const char *reason)
{
    return ptq_status_set(r->st, PTQ_ERR_USAGE,
                          "%s:%lld: %s; remove the line, its cell is then run again", r->path,
                          (long long)r->line, reason);
}

static int grow(struct ptq_rows *rows, struct ptq_status *st)
{
    if (rows->n & (rows->n - 1)) /* room for the next power of two is there */
        return PTQ_OK;
    size_t bytes = (size_t)(rows->n ? 2 * rows->n : 1) * sizeof(json_t *);
    json_t **larger = realloc(rows->at, bytes);
    if (!larger)
        return ptq_status_nomem(st, "the rows of a run", bytes);
    rows->at = larger;
    return PTQ_OK;
}

/* Takes the reference. */
static int add_row(struct reader *r, json_t *row)
{
    const char *key = ptq_row_text(row, "key");
    const json_t *known = json_object_get(r->position, key);
    if (known) {
        json_t **at = &r->rows->at[json_integer_value(known)];
        bool newer = ptq_row_seq(row) >= ptq_row_seq(*at);
        json_decref(newer ? *at : row);
        *at = newer ? row : *at;
        return PTQ_OK;
    }
    int code = grow(r->rows, r->st);
    if (code >= 0 && json_object_set_new(r->position, key, json_integer(r->rows->n)))
        code = ptq_status_nomem(r->st, "the rows of a run", 0);
    if (code < 0) {
        json_decref(row);
        return code;
    }
    r->rows->at[r->rows->n++] = row;
    return PTQ_OK;
}

static int read_line(struct reader *r, const char *line, size_t bytes)
{
    char reason[200];
    json_error_t error;
    json_t *row = json_loadb(line, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!row) {
        snprintf(reason, sizeof reason, "not a JSON row (%.100s)", error.text);
        return broken(r, reason);
    }
    double schema = ptq_row_num(row, "schema");
    if (!*ptq_row_text(row, "key"))
        snprintf(reason, sizeof reason, "the row has no key");
    else if (schema != PTQ_ROW_SCHEMA) {
        snprintf(reason, sizeof reason, "row schema %g; this program reads schema %d", schema,
                 PTQ_ROW_SCHEMA);
        r->rows->other_schema = schema;
    } else
        return add_row(r, row);
    json_decref(row);
    return broken(r, reason);
}

static int read_lines(struct reader *r, FILE *f)
{
    char *line = NULL;
    size_t room = 0;
    int code = PTQ_OK;
    ssize_t n;
    while (code >= 0 && (n = getline(&line, &room, f)) > 0) {
        r->line++;
        if (n > MAX_LINE_BYTES)
            code = broken(r, "a line of more than 64 MiB");
        else if (line[n - 1] != '\n')
            r->rows->n_torn++;
        else if (n > 1)
            code = read_line(r, line, (size_t)n - 1);
    }
    if (code >= 0 && ferror(f))
        code = ptq_status_set(r->st, PTQ_ERR_IO, "%s: cannot read: %s; check the disk", r->path,
                              strerror(errno));
    free(line);
    return code;
}

int ptq_rows_read_file(const char *path, struct ptq_rows *rows, struct ptq_status *st)
{
    struct reader r = {path, 0, rows, json_object(), st};
    FILE *f = fopen(path, "re");
    int code = PTQ_OK;
    if (!f)
        code = ptq_status_set(st, errno == ENOENT ? PTQ_ERR_USAGE : PTQ_ERR_IO,
                              "%s: cannot open: %s; check the name", path, strerror(errno));
    if (code >= 0 && !r.position)
        code = ptq_status_nomem(st, "the rows of a run", 0);
    for (int64_t i = 0; code >= 0 && i < rows->n; i++)
        json_object_set_new(r.position, ptq_row_text(rows->at[i], "key"), json_integer(i));
    if (code >= 0)
        code = read_lines(&r, f);
    json_decref(r.position);
    if (f)
        fclose(f);
    return code;
}

/* ---- a run -------------------------------------------------------------------------------------
 */

static int is_cells(const struct dirent *e)
{
    return fnmatch("cells*.jsonl", e->d_name, 0) == 0;
}

int ptq_rows_read_all(const char *run_dir, struct ptq_rows *rows, struct ptq_status *st)
{
    struct dirent **names = NULL;
    int code = PTQ_OK, n = scandir(run_dir, &names, is_cells, alphasort);
    if (n < 0)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: cannot read the folder: %s; name a run's folder, such as results/demo", run_dir,
            strerror(errno));
    for (int i = 0; i < n; i++) {
        char path[PATH_MAX];
        if (code >= 0 &&
            snprintf(path, sizeof path, "%s/%s", run_dir, names[i]->d_name) >= (int)sizeof path)
            code = ptq_status_set(st, PTQ_ERR_USAGE, "%s: the name is too long", run_dir);
        if (code >= 0)
            code = ptq_rows_read_file(path, rows, st);
        free(names[i]);
    }
    free(names);
    return code;
}

/* keys: a set of the plan's lines, or NULL without a plan. */
static int read_plan(const char *run_dir, json_t **keys, struct ptq_status *st)
{
    char path[PATH_MAX], *text = NULL, *next = NULL;
    size_t bytes;
    struct ptq_status absent = {0};
    *keys = NULL;
    if (snprintf(path, sizeof path, "%s/plan.txt", run_dir) >= (int)sizeof path)
        return PTQ_OK;
    if (ptq_read_file(path, (size_t)1 << 32, &text, &bytes, &absent) < 0)
        return PTQ_OK;
    *keys = json_object();
    for (char *key = *keys ? strtok_r(text, "\n", &next) : NULL; key;
         key = strtok_r(NULL, "\n", &next))
        json_object_set_new(*keys, key, json_true());
    free(text);
    return *keys ? PTQ_OK : ptq_status_nomem(st, "the plan of a run", bytes);
}

/* Speeds depend on the machine and its threads, which no plan knows; they belong to rows of their
 * form and say nothing without one. */
static bool is_wanted(const json_t *plan, const json_t *row)
{
    return json_object_get(plan, ptq_row_text(row, "key")) ||
           !strcmp(ptq_row_text(row, "kind"), "speed");
}

int ptq_rows_read_run(const char *run_dir, struct ptq_rows *rows, struct ptq_status *st)
{
    json_t *wanted = NULL;
    int64_t first = rows->n, kept = rows->n;
    int code = ptq_rows_read_all(run_dir, rows, st);
    if (code >= 0)
        code = read_plan(run_dir, &wanted, st);
    for (int64_t i = first; wanted && i < rows->n; i++)
        if (is_wanted(wanted, rows->at[i]))
            rows->at[kept++] = rows->at[i];
        else
            json_decref(rows->at[i]);
    if (wanted)
        rows->n = kept;
    json_decref(wanted);
    if (code >= 0 && rows->n == first)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: no rows (cells*.jsonl) here; run a sweep first: ptq sweep CONFIG", run_dir);
    return code;
}

void ptq_rows_release(struct ptq_rows *rows)
{
    for (int64_t i = 0; i < rows->n; i++)
        json_decref(rows->at[i]);
    free(rows->at);
    *rows = (struct ptq_rows){0};
}

/* ---- fields ------------------------------------------------------------------------------------
 */

bool ptq_row_is_cell(const json_t *row)
{
    static const char *const cells[] = {"layer", "model", "reference"};
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++)
        if (!strcmp(ptq_row_text(row, "kind"), cells[i]))
            return true;
    return false;
}

const char *ptq_row_text(const json_t *row, const char *field)
{
    const char *text = json_string_value(json_object_get(row, field));
    return text ? text : "";
}

const char *ptq_row_as_text(const json_t *row, const char *field, char room[PTQ_FIELD_ROOM])
{
    const json_t *v = json_object_get(row, field);
    if (json_is_string(v))
        return json_string_value(v);
    if (json_is_integer(v))
        snprintf(room, PTQ_FIELD_ROOM, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else if (json_is_real(v))
        snprintf(room, PTQ_FIELD_ROOM, "%.17g", json_real_value(v));
    else if (json_is_boolean(v))
        snprintf(room, PTQ_FIELD_ROOM, "%d", json_is_true(v));
    else
        return NULL;
    return room;
}

static double number(const json_t *value)
{
    return json_is_number(value)    ? json_number_value(value)
           : json_is_boolean(value) ? json_is_true(value)
                                    : NAN;
}

double ptq_row_num(const json_t *row, const char *field)
{
    return number(json_object_get(row, field));
}

double ptq_row_sub(const json_t *row, const char *object, const char *field)
{
    return number(json_object_get(json_object_get(row, object), field));
}

int64_t ptq_row_seq(const json_t *row)
{
    return (int64_t)json_integer_value(json_object_get(json_object_get(row, "host"), "seq"));
}

int64_t ptq_row_n_windows(const json_t *row)
{
    return (int64_t)json_array_size(json_object_get(row, "nll_windows"));
}

double ptq_row_window(const json_t *row, int64_t window)
{
    return number(json_array_get(json_object_get(row, "nll_windows"), (size_t)window));
}

/* Counts of tokens; for a list that is none, windows of NaN. */
static void read_tokens(const json_t *list, int64_t n, double *x, int64_t *weight)
{
    bool fit = (int64_t)json_array_size(list) == n;
    for (int64_t w = 0; w < n && fit; w++) {
        const double v = number(json_array_get(list, (size_t)w));
        fit = v >= 0 && v <= INT32_MAX && v == floor(v);
        weight[w] = fit ? (int64_t)v : 0;
    }
    for (int64_t w = 0; w < n && !fit; w++) {
        x[w] = NAN;
        weight[w] = 1;
    }
}

int64_t ptq_row_units(const json_t *row, double *out)
{
    const int64_t n = ptq_row_n_windows(row);
    const json_t *tokens = json_object_get(row, "window_tokens");
    int64_t *weight = tokens ? malloc((size_t)n * sizeof *weight + 1) : NULL;
    if (tokens && !weight)
        return -1;
    for (int64_t w = 0; w < n; w++)
        out[w] = ptq_row_window(row, w);
    if (tokens)
        read_tokens(tokens, n, out, weight);
    const int64_t units = ptq_ratio_units(out, weight, n, out);
    free(weight);
    return units;
}

double ptq_row_mean_window(const json_t *row)
{
    double *units = malloc((size_t)ptq_row_n_windows(row) * sizeof *units + 1);
    const double mean = units ? ptq_mean(units, ptq_row_units(row, units)) : NAN;
    free(units);
    return mean;
}

bool ptq_row_same_windows(const json_t *a, const json_t *b)
{
    const json_t *x = json_object_get(a, "window_tokens"), *y = json_object_get(b, "window_tokens");
    return ptq_row_n_windows(a) == ptq_row_n_windows(b) && (x == y || json_equal(x, y));
}

double ptq_row_metric(const json_t *row, const char *id)
{
    return ptq_row_sub(row, "metrics", id);
}

bool ptq_row_interval(const json_t *row, const char *id, double *lo, double *hi)
{
    const json_t *pair = json_object_get(json_object_get(row, "intervals"), id);
    if (json_array_size(pair) != 2)
        return false;
    *lo = number(json_array_get(pair, 0));
    *hi = number(json_array_get(pair, 1));
    return isfinite(*lo) && isfinite(*hi);
}
