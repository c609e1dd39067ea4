/* baseline.c: rows as a baseline keeps them. */
#include "analysis/compare.h"
#include "analysis/put.h"
#include "sweep/keys.h"
#include <stdlib.h>
#include <string.h>

/* In this order: what a comparison reads, and what a reader of a diff wants beside it. */
static const char *const kept[] = {"schema",        "kind",
                                   "key",           "status",
                                   "block",         "reason",
                                   "model",         "model_key",
                                   "weights_key",   "given_key",
                                   "method",        "label",
                                   "base",          "options",
                                   "bits",          "a_bits",
                                   "group_size",    "sym",
                                   "sym_kind",      "grid",
                                   "zero_in_range", "scale",
                                   "seed",          "precision",
                                   "stats",         "true_sequential",
                                   "calib",         "calib_key",
                                   "calib_seed",    "nsamples",
                                   "seqlen",        "calib_draw",
                                   "heldout",       "heldout_key",
                                   "layer",         "rows",
                                   "cols",          "protocol",
                                   "rules",         "text",
                                   "text_key",      "n_windows",
                                   "codes_hash",    NULL};
/* Texts that the keys say better, left out where the key is there. */
static const char *const said_by_key[][2] = {
    {"calib", "calib_key"}, {"heldout", "heldout_key"}, {"rules", "text_key"}};
static const char *const kept_metrics[] = {"out_relerr_heldout", "out_relerr", "w_relerr",
                                           "embed_dcos",         "nll",        "ppl",
                                           "bits_stored",        NULL};
/* Other arithmetic may give other bits for that alone: a comparison says so. */
static const char *const kept_host[] = {"isa", "blas_core", NULL};

static void copy_fields(json_t *to, const json_t *from, const char *const *names)
{
    for (int i = 0; names[i]; i++) {
        json_t *v = json_object_get(from, names[i]);
        if (v && !json_is_null(v))
            json_object_set(to, names[i], v);
    }
}

static json_t *part_of(const json_t *row, const char *object, const char *const *names)
{
    json_t *out = json_object();
    if (out)
        copy_fields(out, json_object_get(row, object), names);
    return out;
}

/* Of the cell, without the version of the code. */
static int cell_key(const json_t *row, char out[PTQ_KEY_CHARS], struct ptq_status *st)
{
    struct ptq_arena arena;
    char seed[32];
    ptq_arena_init(&arena, 0);
    const char *asked = ptq_asked_for(row, &arena, st);
    snprintf(seed, sizeof seed, "%.17g", ptq_row_num(row, "calib_seed"));
    if (asked)
        ptq_key_of(out, "cell", ptq_row_text(row, "model"), asked, seed, ptq_row_text(row, "layer"),
                   ptq_row_text(row, "protocol"), ptq_row_text(row, "text_key"), (char *)NULL);
    ptq_arena_clear(&arena);
    return asked ? PTQ_OK : PTQ_ERR_MEMORY;
}

static const char *const windows[] = {"nll_windows", "window_tokens", NULL};

static json_t *slim(const json_t *row, struct ptq_status *st)
{
    char key[PTQ_KEY_CHARS];
    json_t *out = json_object();
    if (!out || cell_key(row, key, st)) {
        json_decref(out);
        return NULL;
    }
    copy_fields(out, row, kept);
    json_object_set_new(out, "key", json_string(key));
    for (size_t i = 0; i < sizeof said_by_key / sizeof *said_by_key; i++)
        if (*ptq_row_text(out, said_by_key[i][1]))
            json_object_del(out, said_by_key[i][0]);
    json_object_set_new(out, "metrics", part_of(row, "metrics", kept_metrics));
    if (json_object_get(row, "host"))
        json_object_set_new(out, "host", part_of(row, "host", kept_host));
    copy_fields(out, row, windows); /* long, so at the end of the line */
    return out;
}

struct line {
    char order[512];
    char *text;
};

/* By what was asked for, so that the key, which changes with the code, moves no line. */
static void order_of(const json_t *row, char out[512])
{
    const char *kind = ptq_row_text(row, "kind");
    snprintf(out, 512, "%d %.60s %.120s %06.0f %010.0f %s %010.0f %06.0f %.100s",
             !strcmp(kind, "reference") ? 0
             : !strcmp(kind, "model")   ? 1
                                        : 2,
             ptq_row_text(row, "label"), ptq_row_text(row, "options"), ptq_row_num(row, "bits"),
             ptq_row_num(row, "group_size"), ptq_row_text(row, "grid"),
             ptq_row_num(row, "calib_seed"), ptq_row_num(row, "block"), ptq_row_text(row, "layer"));
}

static int by_order(const void *a, const void *b)
{
    return strcmp(((const struct line *)a)->order, ((const struct line *)b)->order);
}

int ptq_baseline_write(const struct ptq_rows *rows, const char *path, struct ptq_status *st)
{
    struct ptq_buffer b = {0};
    struct line *lines = calloc((size_t)rows->n + 1, sizeof *lines);
    int code = lines ? ptq_buffer_open(&b, st) : ptq_status_nomem(st, "a baseline", 0);
    for (int64_t i = 0; !code && i < rows->n; i++) {
        json_t *row = slim(rows->at[i], st);
        lines[i].text = row ? ptq_json_line(row) : NULL;
        order_of(rows->at[i], lines[i].order);
        json_decref(row);
        code = lines[i].text ? PTQ_OK : ptq_status_nomem(st, "a baseline", 0);
    }
    if (!code)
        qsort(lines, (size_t)rows->n, sizeof *lines, by_order);
    for (int64_t i = 0; !code && i < rows->n; i++)
        fputs(lines[i].text, b.f);
    if (!code)
        code = ptq_buffer_save(&b, path, st);
    else if (b.f) {
        struct ptq_status unused = {0};
        ptq_buffer_close(&b, &unused);
        free(b.text);
    }
    for (int64_t i = 0; lines && i < rows->n; i++)
        free(lines[i].text);
    free(lines);
    return code;
}
