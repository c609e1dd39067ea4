/* textrows.c: rows of a text file and their joined text. */
#include "model/textfile.h"
#include "core/json.h"
#include "core/size.h"
#include "model/pytext.h"
#include <stdlib.h>
#include <string.h>

/* A joined text is tokenized as a whole. */
enum { MOST_JOINED_BYTES = 256 << 20 };

int ptq_text_rows_open(const struct ptq_textfile *f, struct ptq_arena *arena,
                       struct ptq_text_rows *rows, struct ptq_status *st)
{
    int64_t n = 0;
    for (int64_t i = 0; i < f->bytes; i++)
        n += f->text[i] == '\n' || i + 1 == f->bytes;
    if (f->rows == PTQ_ROWS_WHOLE)
        n = 1;
    int64_t *at = ptq_arena_alloc(arena, st, n + 1, sizeof *at);
    *rows = (struct ptq_text_rows){f, n, at};
    if (!at)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0, k = 1; i < f->bytes && k < n; i++)
        if (f->text[i] == '\n')
            at[k++] = i + 1;
    at[n] = f->bytes;
    return PTQ_OK;
}

static int json_row(const struct ptq_text_rows *rows, int64_t i, struct ptq_arena *arena,
                    const char **text, int64_t *bytes, struct ptq_status *st)
{
    json_error_t error;
    const char *line = rows->file->text + rows->at[i];
    json_t *row = json_loadb(line, (size_t)(rows->at[i + 1] - rows->at[i]),
                             JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    const json_t *t = json_object_get(row, "text");
    int rc = PTQ_OK;
    if (!row)
        rc = ptq_status_set(st, PTQ_ERR_USAGE, "%s:%lld: no JSON: %s", rows->file->path,
                            (long long)i + 1, error.text);
    else if (!json_is_string(t))
        rc = ptq_status_set(st, PTQ_ERR_USAGE,
                            "%s:%lld: no \"text\" in it; a row is {\"text\": \"...\"}",
                            rows->file->path, (long long)i + 1);
    if (!rc) {
        *bytes = (int64_t)json_string_length(t);
        char *copy = ptq_arena_alloc(arena, st, *bytes + 1, 1);
        if (copy)
            memcpy(copy, json_string_value(t), (size_t)*bytes);
        *text = copy;
        rc = copy ? PTQ_OK : PTQ_ERR_MEMORY;
    }
    json_decref(row);
    return rc;
}

int ptq_text_rows_get(const struct ptq_text_rows *rows, int64_t i, struct ptq_arena *arena,
                      const char **text, int64_t *bytes, struct ptq_status *st)
{
    int64_t from, to;
    if (rows->file->rows == PTQ_ROWS_JSON)
        return json_row(rows, i, arena, text, bytes, st);
    *text = rows->file->text + rows->at[i];
    *bytes = rows->at[i + 1] - rows->at[i];
    if (rows->file->rows == PTQ_ROWS_WHOLE)
        return PTQ_OK;
    ptq_strip(*text, *bytes, &from, &to);
    if (rows->file->rows == PTQ_ROWS_STRIPPED) {
        *text += from;
        *bytes = to - from;
    } else if (from == to) {
        *bytes = 0;
    }
    return PTQ_OK;
}

/* ---- joined */

struct joined {
    char *at;
    int64_t n, room;
};

static int append(struct joined *j, const struct ptq_textfile *f, const char *text, int64_t bytes,
                  struct ptq_status *st)
{
    int64_t need;
    if (!ptq_size_add(j->n, bytes, &need) || need > MOST_JOINED_BYTES)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: more than %d MB of text to be tokenized as one; draw documents "
                              "(gptq-documents), or take a part of the file",
                              f->path, MOST_JOINED_BYTES >> 20);
    if (need > j->room) {
        int64_t room = 2 * need + 4096;
        char *at = realloc(j->at, (size_t)room);
        if (!at)
            return ptq_status_nomem(st, "the joined text", (size_t)room);
        j->at = at;
        j->room = room;
    }
    if (bytes)
        memcpy(j->at + j->n, text, (size_t)bytes);
    j->n = need;
    return PTQ_OK;
}

int ptq_text_rows_joined(const struct ptq_textfile *f, char **out, int64_t *bytes,
                         struct ptq_status *st)
{
    struct ptq_arena lines, one;
    struct ptq_text_rows rows;
    struct joined j = {0};
    const char *text;
    int64_t n;
    ptq_arena_init(&lines, 0);
    ptq_arena_init(&one, 0);
    int rc = ptq_text_rows_open(f, &lines, &rows, st);
    int64_t most = f->known && f->known->first_rows ? f->known->first_rows : rows.n;
    for (int64_t i = 0; i < rows.n && i < most && !rc; i++) {
        ptq_arena_clear(&one);
        if (i)
            rc = append(&j, f, f->join, (int64_t)strlen(f->join), st);
        if (!rc && !(rc = ptq_text_rows_get(&rows, i, &one, &text, &n, st)))
            rc = append(&j, f, text, n, st);
    }
    ptq_arena_clear(&one);
    ptq_arena_clear(&lines);
    if (rc) {
        free(j.at);
        j.at = NULL;
    }
    *out = j.at;
    *bytes = j.n;
    return rc;
}
