#include "cli/cli.h"
#include "core/json.h"
#include "core/words.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ptq_table {
    int n_columns;
    int64_t n_rows, capacity;
    char **columns;
    bool *numeric;
    const int *widths; /* at most so wide in text; NULL: as wide as what they hold */
    char **cells;      /* row-major */
};

static const char *const format_words[] = {"text", "md", "csv", "jsonl", NULL};

int ptq_format_parse(const char *text, enum ptq_format *out, struct ptq_status *st)
{
    *out = PTQ_TEXT;
    if (!text)
        return PTQ_OK;
    for (int i = 0; format_words[i]; i++)
        if (!strcmp(text, format_words[i])) {
            *out = (enum ptq_format)i;
            return PTQ_OK;
        }
    return ptq_unknown_word("format", text, format_words, st);
}

struct ptq_table *ptq_table_new(int n_columns, const char *const *columns, const bool *numeric)
{
    struct ptq_table *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->columns = calloc((size_t)n_columns, sizeof *t->columns);
    t->numeric = calloc((size_t)n_columns, sizeof *t->numeric);
    if (!t->columns || !t->numeric) {
        ptq_table_free(t);
        return NULL;
    }
    t->n_columns = n_columns;
    for (int c = 0; c < n_columns; c++) {
        t->columns[c] = strdup(columns[c]);
        t->numeric[c] = numeric && numeric[c];
        if (!t->columns[c]) {
            ptq_table_free(t);
            return NULL;
        }
    }
    return t;
}

int ptq_table_row(struct ptq_table *t, const char *const *cells)
{
    if (t->n_rows == t->capacity) {
        int64_t want = t->capacity ? 2 * t->capacity : 16;
        char **grown = realloc(t->cells, (size_t)(want * t->n_columns) * sizeof *grown);
        if (!grown)
            return PTQ_ERR_MEMORY;
        t->cells = grown;
        t->capacity = want;
    }
    for (int c = 0; c < t->n_columns; c++) {
        char *copy = strdup(cells[c] ? cells[c] : "");
        if (!copy) {
            while (c--)
                free(t->cells[t->n_rows * t->n_columns + c]);
            return PTQ_ERR_MEMORY;
        }
        t->cells[t->n_rows * t->n_columns + c] = copy;
    }
    t->n_rows++;
    return PTQ_OK;
}

static const char *cell(const struct ptq_table *t, int64_t r, int c)
{
    return t->cells[r * t->n_columns + c];
}

/* Columns of a terminal: code points, not bytes. */
static int width_of(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += (*s & 0xC0) != 0x80;
    return n;
}

void ptq_table_wrap(struct ptq_table *t, const int *widths)
{
    t->widths = widths;
}

/* Nothing stands behind the cell: it may take the room. */
static bool spans(const struct ptq_table *t, int64_t r, int c)
{
    bool empty = t->widths && r >= 0;
    for (int k = c + 1; k < t->n_columns && empty; k++)
        empty = !*cell(t, r, k);
    return empty && c + 1 < t->n_columns;
}

static int column_width(const struct ptq_table *t, int c)
{
    int w = width_of(t->columns[c]);
    for (int64_t r = 0; r < t->n_rows; r++)
        if (!spans(t, r, c) && width_of(cell(t, r, c)) > w)
            w = width_of(cell(t, r, c));
    return t->widths && w > t->widths[c] ? t->widths[c] : w;
}

/* Bytes of s that make a line of at most `width` columns: up to the last space or behind the last
 * mark that a word of options or a path can be broken at. */
static size_t line_bytes(const char *s, int width)
{
    size_t n = 0, at = 0;
    for (int seen = 0; s[n] && (seen < width || (s[n] & 0xC0) == 0x80); n++) {
        seen += (s[n] & 0xC0) != 0x80;
        if (s[n] == ' ')
            at = n;
        else if (strchr(":,/;", s[n]))
            at = n + 1;
    }
    return !s[n] || s[n] == ' ' || !at ? n : at;
}

static void put_padded(FILE *f, const char *s, int width, bool right)
{
    int pad = width > width_of(s) ? width - width_of(s) : 0;
    fprintf(f, "%*s%s%*s", right ? pad : 0, "", s, right ? 0 : pad, "");
}

static void put_escaped(FILE *f, const char *s, const char *special, const char *escape)
{
    for (; *s; s++) {
        if (strchr(special, *s))
            fputs(escape, f);
        fputc(*s, f);
    }
}

/* One line of a row: what fits of every cell. from[c]: bytes that are printed; true: there is
 * more. */
static bool print_line(const struct ptq_table *t, int64_t r, const int *width, size_t *from,
                       FILE *f)
{
    bool more = false;
    for (int c = 0; c < t->n_columns; c++) {
        const char *s = (r < 0 ? t->columns[c] : cell(t, r, c)) + from[c];
        const bool last = c + 1 == t->n_columns || spans(t, r, c);
        int room = width[c];
        for (int k = c + 1; last && k < t->n_columns; k++)
            room += 2 + width[k];
        const size_t n = t->widths ? line_bytes(s, room) : strlen(s);
        char *piece = strndup(s, n);
        put_padded(f, piece ? piece : "", last && !t->numeric[c] ? 0 : width[c], t->numeric[c]);
        fputs(last ? "\n" : "  ", f);
        free(piece);
        from[c] += n + strspn(s + n, " ");
        more = more || s[n + strspn(s + n, " ")];
        if (last)
            break;
    }
    return more;
}

static void print_text(const struct ptq_table *t, FILE *f)
{
    int *width = calloc((size_t)t->n_columns, sizeof *width);
    size_t *from = calloc((size_t)t->n_columns, sizeof *from);
    for (int c = 0; width && c < t->n_columns; c++)
        width[c] = column_width(t, c);
    for (int64_t r = -1; width && from && r < t->n_rows; r++) {
        memset(from, 0, (size_t)t->n_columns * sizeof *from);
        while (print_line(t, r, width, from, f))
            ;
    }
    free(width);
    free(from);
}

static void print_md(const struct ptq_table *t, FILE *f)
{
    for (int64_t r = -1; r < t->n_rows; r++) {
        for (int c = 0; c < t->n_columns; c++) {
            fputs(c ? " | " : "| ", f);
            put_escaped(f, r < 0 ? t->columns[c] : cell(t, r, c), "|", "\\");
        }
        fputs(" |\n", f);
        for (int c = 0; r < 0 && c < t->n_columns; c++)
            fprintf(f, "%s%s", c ? "|" : "|", t->numeric[c] ? "---:" : "---");
        if (r < 0)
            fputs("|\n", f);
    }
}

static void print_csv(const struct ptq_table *t, FILE *f)
{
    for (int64_t r = -1; r < t->n_rows; r++)
        for (int c = 0; c < t->n_columns; c++) {
            const char *s = r < 0 ? t->columns[c] : cell(t, r, c);
            bool quote = strpbrk(s, ",\"\n\r") != NULL;
            fputs(quote ? "\"" : "", f);
            put_escaped(f, s, "\"", "\"");
            fputs(quote ? "\"" : "", f);
            fputs(c + 1 == t->n_columns ? "\n" : ",", f);
        }
}

static json_t *cell_json(const struct ptq_table *t, int64_t r, int c)
{
    const char *s = cell(t, r, c);
    char *end;
    double v = strtod(s, &end);
    if (t->numeric[c] && *s && !*end)
        return ptq_json_num(v);
    return t->numeric[c] && (!*s || !strcmp(s, "-")) ? json_null() : json_string(s);
}

static void print_jsonl(const struct ptq_table *t, FILE *f)
{
    for (int64_t r = 0; r < t->n_rows; r++) {
        json_t *row = json_object();
        for (int c = 0; row && c < t->n_columns; c++)
            json_object_set_new(row, t->columns[c], cell_json(t, r, c));
        char *line = row ? ptq_json_line(row) : NULL;
        if (line)
            fputs(line, f);
        free(line);
        json_decref(row);
    }
}

void ptq_table_print(const struct ptq_table *t, enum ptq_format format, void *file)
{
    switch (format) {
    case PTQ_TEXT: print_text(t, file); break;
    case PTQ_MD: print_md(t, file); break;
    case PTQ_CSV: print_csv(t, file); break;
    case PTQ_JSONL: print_jsonl(t, file); break;
    }
}

void ptq_table_free(struct ptq_table *t)
{
    if (!t)
        return;
    for (int64_t i = 0; i < t->n_rows * t->n_columns; i++)
        free(t->cells[i]);
    for (int c = 0; t->columns && c < t->n_columns; c++)
        free(t->columns[c]);
    free(t->columns);
    free(t->numeric);
    free(t->cells);
    free(t);
}
