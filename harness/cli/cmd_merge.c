/* cmd_merge.c: `ptq merge OUT RUN...`: the rows of several runs (shards on other machines) in one
 * folder. */
#include "cli/cli.h"
#include "sweep/row.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct merge {
    const struct ptq_args *args;
    json_t *by_key; /* key -> row, in the order met */
    json_t *plan;   /* set of keys; rows outside plans are history and are carried along */
    char *run_json; /* of the first run */
    const char *first;
    struct ptq_status *st;
};

/* Rows of one key must say the same, time and host aside. */
static bool same_result(const json_t *a, const json_t *b)
{
    json_t *x = json_copy((json_t *)a), *y = json_copy((json_t *)b);
    const char *const aside[] = {"time", "host", "source"};
    for (size_t i = 0; i < sizeof aside / sizeof *aside; i++) {
        json_object_del(x, aside[i]);
        json_object_del(y, aside[i]);
    }
    bool same = json_equal(x, y);
    json_decref(x);
    json_decref(y);
    return same;
}

static int add_row(struct merge *m, const char *dir, json_t *row)
{
    const char *key = ptq_row_text(row, "key");
    const json_t *known = json_object_get(m->by_key, key);
    if (known && !same_result(known, row))
        return ptq_status_set(m->st, PTQ_ERR_USAGE,
                              "%s: the row of key %s (%s, bits %g, %s) differs from one merged "
                              "before; these are not shards of one run",
                              dir, key, ptq_row_text(row, "label"), ptq_row_num(row, "bits"),
                              ptq_row_text(row, "layer"));
    if (!known && json_object_set(m->by_key, key, row))
        return ptq_status_nomem(m->st, "the rows", 0);
    return PTQ_OK;
}

static int add_rows(struct merge *m, const char *dir)
{
    struct ptq_rows rows = {0}, current = {0};
    int code = ptq_rows_read_all(dir, &rows, m->st);
    if (code >= 0)
        code = ptq_rows_read_run(dir, &current, m->st);
    for (int64_t i = 0; code >= 0 && i < rows.n; i++)
        code = add_row(m, dir, rows.at[i]);
    for (int64_t i = 0; code >= 0 && i < current.n; i++)
        json_object_set_new(m->plan, ptq_row_text(current.at[i], "key"), json_true());
    ptq_rows_release(&rows);
    ptq_rows_release(&current);
    return code;
}

/* ---- run.json ----------------------------------------------------------------------------------
 */

static const char *run_text(const json_t *run, const char *field)
{
    const char *t = json_string_value(json_object_get(run, field));
    return t ? t : "";
}

/* Where and how a part ran is not part of what was asked. Lines are cut out in place. */
static void drop_local_lines(char *config)
{
    static const char *const local[] = {"model.source",  "run.threads", "run.memory",
                                        "run.budget",    "run.out",     "run.name",
                                        "run.keep_forms"};
    for (char *line = config; *line;) {
        char *next = strchr(line, '\n');
        next = next ? next + 1 : line + strlen(line);
        bool drop = false;
        for (size_t i = 0; i < sizeof local / sizeof *local; i++)
            drop = drop || !strncmp(line, local[i], strlen(local[i]));
        if (drop)
            memmove(line, next, strlen(next) + 1);
        else
            line = next;
    }
}

static bool same_field(const json_t *a, const json_t *b, const char *field)
{
    char *x = strdup(run_text(a, field)), *y = strdup(run_text(b, field));
    bool same = false;
    if (x && y) {
        drop_local_lines(x);
        drop_local_lines(y);
        same = !strcmp(x, y);
    }
    free(x);
    free(y);
    return same;
}

static int compare_runs(struct merge *m, const char *dir, const char *text)
{
    json_t *a = json_loads(m->run_json, 0, NULL), *b = json_loads(text, 0, NULL);
    static const char *const fields[] = {"config", "harness"};
    int code = PTQ_OK;
    for (size_t i = 0; i < 2 && code >= 0; i++)
        if (!same_field(a, b, fields[i]))
            code = ptq_status_set(
                m->st, PTQ_ERR_USAGE,
                "%s: run.json: another %s than %s has; --force merges all the same", dir,
                i ? "harness (source of the program)" : "configuration", m->first);
    json_decref(a);
    json_decref(b);
    return code;
}

/* run.json, or that of a shard on its own. Absent is fine: rows are the truth. */
static char *read_run_json(const char *dir)
{
    char path[PATH_MAX], *text = NULL;
    size_t bytes;
    for (int n = 1; n <= 1000 && !text; n++)
        for (int i = n > 1 ? 2 : 1; i <= n && !text; i++) {
            struct ptq_status absent = {0};
            struct stat info;
            int w = n == 1 ? snprintf(path, sizeof path, "%s/run.json", dir)
                           : snprintf(path, sizeof path, "%s/run.%d-of-%d.json", dir, i, n);
            if (w < (int)sizeof path && stat(path, &info) == 0)
                ptq_read_file(path, 1 << 24, &text, &bytes, &absent);
        }
    return text;
}

static int add_run_json(struct merge *m, const char *dir)
{
    char *text = read_run_json(dir);
    int code = PTQ_OK;
    if (text && m->run_json && !ptq_arg(m->args, "force"))
        code = compare_runs(m, dir, text);
    if (text && !m->run_json) {
        m->run_json = text;
        m->first = dir;
        return PTQ_OK;
    }
    free(text);
    return code;
}

/* ---- writing -----------------------------------------------------------------------------------
 */

static int write_to(struct merge *m, const char *dir, const char *name, const char *text, size_t n)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return ptq_status_set(m->st, PTQ_ERR_USAGE, "%s: the name is too long", dir);
    return ptq_write_file(path, text, n, m->st);
}

static int write_rows(struct merge *m, const char *dir)
{
    char *text = NULL;
    size_t n = 0;
    const char *key;
    json_t *row;
    bool lost = false;
    FILE *f = open_memstream(&text, &n);
    if (!f)
        return ptq_status_nomem(m->st, "the rows", 0);
    json_object_foreach(m->by_key, key, row)
    {
        char *line = ptq_json_line(row);
        lost |= !line;
        fputs(line ? line : "", f);
        free(line);
    }
    bool bad = fclose(f) || lost; /* a merge without one of its rows is no merge */
    int code =
        bad ? ptq_status_nomem(m->st, "the rows", n) : write_to(m, dir, "cells.jsonl", text, n);
    free(text);
    return code;
}

static int write_plan(struct merge *m, const char *dir)
{
    char *text = NULL;
    size_t n = 0;
    const char *key;
    json_t *unused;
    FILE *f = open_memstream(&text, &n);
    if (!f)
        return ptq_status_nomem(m->st, "the plan", 0);
    json_object_foreach(m->plan, key, unused) fprintf(f, "%s\n", key);
    int bad = fclose(f);
    int code = bad ? ptq_status_nomem(m->st, "the plan", n) : write_to(m, dir, "plan.txt", text, n);
    free(text);
    return code;
}

static int check_out(const char *out, struct ptq_status *st)
{
    struct ptq_rows rows = {0};
    int code = ptq_make_dirs(out, st);
    if (code >= 0)
        code = ptq_rows_read_all(out, &rows, st);
    if (code >= 0 && rows.n)
        code = ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: holds %lld rows already; merge into a new folder", out,
                              (long long)rows.n);
    ptq_rows_release(&rows);
    return code;
}

static int merge_into(struct merge *m, const char *out)
{
    int code = PTQ_OK;
    for (int i = 1; code >= 0 && i < m->args->n_positional; i++) {
        code = add_run_json(m, m->args->positional[i]);
        if (code >= 0)
            code = add_rows(m, m->args->positional[i]);
    }
    if (code >= 0)
        code = check_out(out, m->st);
    if (code >= 0 && m->run_json)
        code = write_to(m, out, "run.json", m->run_json, strlen(m->run_json));
    if (code >= 0)
        code = write_plan(m, out);
    return code < 0 ? code : write_rows(m, out);
}

static int run(const struct ptq_args *a, struct ptq_status *st)
{
    struct merge m = {.args = a, .by_key = json_object(), .plan = json_object(), .st = st};
    int code =
        m.by_key && m.plan ? merge_into(&m, a->positional[0]) : ptq_status_nomem(st, "the rows", 0);
    if (code >= 0)
        printf("%s: %zu rows of %d runs\n", a->positional[0], json_object_size(m.by_key),
               a->n_positional - 1);
    json_decref(m.by_key);
    json_decref(m.plan);
    free(m.run_json);
    return code;
}

static const struct ptq_flag flags[] = {
    {"force", 'f', PTQ_FLAG_SWITCH, NULL,
     "merge runs of different configurations or program versions", NULL},
    {NULL, 0, PTQ_FLAG_SWITCH, NULL, NULL, NULL}};

const struct ptq_verb ptq_verb_merge = {
    .name = "merge",
    .title = "Put the rows of several runs (shards) into one folder",
    .usage = "OUT_DIR RUN_DIR...",
    .details =
        "Concatenates the rows of cells*.jsonl. Equal rows of one key are kept once; rows of one "
        "key that differ (time and host\n"
        "aside), and runs of different configurations, are refused. OUT_DIR must hold no rows.\n"
        "  ptq merge results/all results/node1 results/node2 && ptq report results/all",
    .flags = flags,
    .min_positional = 2,
    .max_positional = PTQ_MAX_POSITIONAL,
    .run = run,
};
