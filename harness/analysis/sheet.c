#include "analysis/sheet.h"
#include "analysis/put.h"
#include "core/json.h"
#include "core/size.h"
#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int ptq_sheet_init(struct ptq_sheet *s, int max_columns, int64_t max_rows, struct ptq_arena *a,
                   struct ptq_status *st)
{
    *s = (struct ptq_sheet){.arena = a, .st = st, .max_columns = max_columns, .max_rows = max_rows};
    int64_t n;
    if (!ptq_size_mul(max_rows, max_columns, &n))
        return ptq_status_set(st, PTQ_ERR_MEMORY, "a table of %lld rows is too large",
                              (long long)max_rows);
    s->columns = ptq_arena_alloc(a, st, max_columns, sizeof *s->columns);
    s->cells = s->columns ? ptq_arena_alloc(a, st, n, sizeof *s->cells) : NULL;
    return s->cells ? PTQ_OK : PTQ_ERR_MEMORY;
}

int ptq_sheet_column(struct ptq_sheet *s, const char *id, const char *head, bool numeric, int drop)
{
    assert(s->n_columns < s->max_columns && s->n_rows == 0);
    s->columns[s->n_columns] = (struct ptq_sheet_column){id, head, numeric, drop};
    return s->n_columns++;
}

void ptq_sheet_row(struct ptq_sheet *s)
{
    assert(s->n_rows < s->max_rows);
    s->n_rows++;
}

void ptq_sheet_set(struct ptq_sheet *s, int column, const char *fmt, ...)
{
    assert(column >= 0 && column < s->n_columns && s->n_rows > 0);
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *text = ptq_arena_alloc(s->arena, s->st, n < 0 ? 1 : n + 1, 1);
    if (text && n >= 0)
        vsnprintf(text, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    s->cells[(s->n_rows - 1) * s->max_columns + column] = text;
}

static const char *cell(const struct ptq_sheet *s, int64_t row, int column)
{
    const char *t = s->cells[row * s->max_columns + column];
    return t ? t : "";
}

static const char *heading(const struct ptq_sheet *s, int c)
{
    return s->columns[c].head ? s->columns[c].head : s->columns[c].id;
}

/* Line i of a heading; headings stand on the lowest line, so a short one starts with empty lines.
 */
static void head_line(const char *head, int line, int n_lines, char out[64])
{
    int n = 1;
    for (const char *p = head; (p = strchr(p, '\n')); p++)
        n++;
    line -= n_lines - n;
    out[0] = 0;
    if (line < 0)
        return;
    while (line--)
        head = strchr(head, '\n') + 1;
    snprintf(out, 64, "%.*s", (int)strcspn(head, "\n"), head);
}

static int head_lines(const struct ptq_sheet *s)
{
    int most = 1;
    for (int c = 0; c < s->n_columns; c++) {
        int n = 1;
        for (const char *p = heading(s, c); (p = strchr(p, '\n')); p++)
            n++;
        most = n > most ? n : most;
    }
    return most;
}

static int column_width(const struct ptq_sheet *s, int c, int n_lines)
{
    int w = 0;
    char line[64];
    for (int i = 0; i < n_lines; i++) {
        head_line(heading(s, c), i, n_lines, line);
        w = ptq_text_width(line) > w ? ptq_text_width(line) : w;
    }
    for (int64_t r = 0; r < s->n_rows; r++) {
        int n = ptq_text_width(cell(s, r, c));
        w = n > w ? n : w;
    }
    return w;
}

/* Negative widths are columns left out. */
static int total_width(const struct ptq_sheet *s, const int *width)
{
    int total = 0;
    for (int c = 0; c < s->n_columns; c++)
        total += width[c] >= 0 ? width[c] + (total ? 2 : 0) : 0;
    return total;
}

static const char *drop_columns(const struct ptq_sheet *s, int *width, int limit)
{
    const char *names = "";
    while (total_width(s, width) > limit) {
        int worst = -1;
        for (int c = 0; c < s->n_columns; c++)
            if (width[c] >= 0 && s->columns[c].drop > (worst < 0 ? 0 : s->columns[worst].drop))
                worst = c;
        if (worst < 0)
            break;
        width[worst] = -1;
        char *more = ptq_arena_printf(s->arena, s->st, "%s%s%s", names, *names ? ", " : "",
                                      s->columns[worst].id);
        names = more ? more : names;
    }
    return names;
}

static void text_line(const struct ptq_sheet *s, FILE *f, const int *width, int64_t row, int head,
                      int n_lines)
{
    bool first = true;
    int spaces = 0; /* pending padding: no line ends in white space */
    for (int c = 0; c < s->n_columns; c++) {
        if (width[c] < 0)
            continue;
        char line[64];
        head_line(heading(s, c), head, n_lines, line);
        const char *t = row < 0 ? line : cell(s, row, c);
        int pad = width[c] - ptq_text_width(t), left = s->columns[c].numeric ? pad : 0;
        spaces += (first ? 0 : 2) + left;
        if (*t) {
            fprintf(f, "%*s", spaces, "");
            ptq_put_text(f, t);
            spaces = 0;
        }
        spaces += *t ? pad - left : width[c] - left;
        first = false;
    }
    fputc('\n', f);
}

void ptq_sheet_text(const struct ptq_sheet *s, FILE *f, int limit, const char **dropped)
{
    int n_lines = head_lines(s);
    int *width = ptq_arena_alloc(s->arena, s->st, s->n_columns, sizeof *width);
    if (!width)
        return;
    for (int c = 0; c < s->n_columns; c++)
        width[c] = column_width(s, c, n_lines);
    const char *names = drop_columns(s, width, limit);
    if (dropped)
        *dropped = names;
    for (int i = 0; i < n_lines; i++)
        text_line(s, f, width, -1, i, n_lines);
    for (int64_t r = 0; r < s->n_rows; r++)
        text_line(s, f, width, r, 0, n_lines);
}

/* A heading on one line: its lines joined by spaces. */
static void put_heading(FILE *f, const char *head, void (*put)(FILE *, const char *),
                        const char *joint)
{
    for (;;) {
        char line[64];
        size_t n = strcspn(head, "\n");
        snprintf(line, sizeof line, "%.*s", (int)n, head);
        put(f, line);
        if (!head[n])
            return;
        fputs(joint, f);
        head += n + 1;
    }
}

void ptq_sheet_md(const struct ptq_sheet *s, FILE *f)
{
    for (int c = 0; c < s->n_columns; c++) {
        fputs(c ? " | " : "| ", f);
        put_heading(f, heading(s, c), ptq_put_md, " ");
    }
    fputs(" |\n", f);
    for (int c = 0; c < s->n_columns; c++)
        fputs(s->columns[c].numeric ? "|---:" : "|---", f);
    fputs("|\n", f);
    for (int64_t r = 0; r < s->n_rows; r++) {
        for (int c = 0; c < s->n_columns; c++) {
            fputs(c ? " | " : "| ", f);
            ptq_put_md(f, cell(s, r, c));
        }
        fputs(" |\n", f);
    }
}

void ptq_sheet_csv(const struct ptq_sheet *s, FILE *f)
{
    for (int64_t r = -1; r < s->n_rows; r++)
        for (int c = 0; c < s->n_columns; c++) {
            ptq_put_csv(f, r < 0 ? s->columns[c].id : cell(s, r, c));
            fputc(c + 1 < s->n_columns ? ',' : '\n', f);
        }
}

static json_t *cell_json(const struct ptq_sheet *s, int64_t r, int c)
{
    const char *t = cell(s, r, c);
    char *end;
    if (!s->columns[c].numeric)
        return json_string(t);
    double v = strtod(t, &end);
    return *t && !*end ? ptq_json_num(v) : json_null();
}

void ptq_sheet_jsonl(const struct ptq_sheet *s, FILE *f)
{
    for (int64_t r = 0; r < s->n_rows; r++) {
        json_t *row = json_object();
        for (int c = 0; row && c < s->n_columns; c++)
            json_object_set_new(row, s->columns[c].id, cell_json(s, r, c));
        char *line = row ? ptq_json_line(row) : NULL;
        if (line)
            fputs(line, f);
        else
            ptq_status_nomem(s->st, "a row of JSON", 0);
        free(line);
        json_decref(row);
    }
}

static void latex_cell(FILE *f, const char *t)
{
    /* "±" and a leading minus are mathematics; the rest is text. */
    for (const char *p; (p = strstr(t, "±")); t = p + strlen("±")) {
        char part[128];
        snprintf(part, sizeof part, "%.*s", (int)(p - t), t);
        ptq_put_latex(f, part);
        fputs("$\\pm$", f);
    }
    if (t[0] == '-' && t[1] >= '0' && t[1] <= '9') {
        fputs("$-$", f);
        t++;
    }
    ptq_put_latex(f, t);
}

void ptq_sheet_latex(const struct ptq_sheet *s, FILE *f)
{
    fputs("\\begin{tabular}{@{}", f);
    for (int c = 0; c < s->n_columns; c++)
        fputc(s->columns[c].numeric ? 'r' : 'l', f);
    fputs("@{}}\n\\toprule\n", f);
    int n_lines = head_lines(s);
    for (int i = 0; i < n_lines; i++)
        for (int c = 0; c < s->n_columns; c++) {
            char line[64];
            head_line(heading(s, c), i, n_lines, line);
            latex_cell(f, line);
            fputs(c + 1 < s->n_columns ? " & " : " \\\\\n", f);
        }
    fputs("\\midrule\n", f);
    for (int64_t r = 0; r < s->n_rows; r++)
        for (int c = 0; c < s->n_columns; c++) {
            latex_cell(f, cell(s, r, c));
            fputs(c + 1 < s->n_columns ? " & " : " \\\\\n", f);
        }
    fputs("\\bottomrule\n\\end{tabular}\n", f);
}

void ptq_sheet_html(const struct ptq_sheet *s, FILE *f, const char *id, bool sortable)
{
    fprintf(f, "<div class=\"scroll\"><table id=\"%s\"%s>\n<thead><tr>", id,
            sortable ? " class=\"sortable\"" : "");
    for (int c = 0; c < s->n_columns; c++) {
        fprintf(f, "<th scope=\"col\"%s>", s->columns[c].numeric ? " class=\"n\"" : "");
        put_heading(f, heading(s, c), ptq_put_html, "<br>");
        fputs("</th>", f);
    }
    fputs("</tr></thead>\n<tbody>\n", f);
    for (int64_t r = 0; r < s->n_rows; r++) {
        fputs("<tr>", f);
        for (int c = 0; c < s->n_columns; c++) {
            fputs(s->columns[c].numeric ? "<td class=\"n\">" : "<td>", f);
            ptq_put_html(f, cell(s, r, c));
            fputs("</td>", f);
        }
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
}
