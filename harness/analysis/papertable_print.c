/* papertable_print.c: a table with its verdicts as text, Markdown, CSV, JSON Lines and LaTeX. */
#include "analysis/papertable.h"
#include "analysis/put.h"
#include "analysis/sheet.h"
#include "core/json.h"
#include "core/words.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const formats[] = {"text", "md", "csv", "jsonl", "latex", NULL};
enum format { TEXT, MD, CSV, JSONL, LATEX };

enum column { DATA, MODEL, METHOD, PRINTED, OURS, SPREAD, SEEDS, DIFF, TOLERANCE, TRUST, VERDICT };

static void add_columns(struct ptq_sheet *s, bool exact)
{
    ptq_sheet_column(s, "data", NULL, false, 0);
    ptq_sheet_column(s, "model", NULL, false, 0);
    ptq_sheet_column(s, "method", NULL, false, 0);
    ptq_sheet_column(s, "printed", NULL, true, 0);
    ptq_sheet_column(s, "ours", NULL, true, 0);
    ptq_sheet_column(s, "spread", NULL, true, 2);
    ptq_sheet_column(s, "seeds", NULL, true, 3);
    ptq_sheet_column(s, exact ? "difference_percent" : "diff %", NULL, true, 0);
    ptq_sheet_column(s, exact ? "tolerance_percent" : "tol. %", NULL, true, 4);
    ptq_sheet_column(s, "trust", NULL, false, 5);
    ptq_sheet_column(s, "verdict", NULL, false, 0);
    if (!exact)
        return;
    ptq_sheet_column(s, "gate", NULL, true, 0);
    ptq_sheet_column(s, "why", NULL, false, 0);
    ptq_sheet_column(s, "chosen", NULL, false, 0);
    ptq_sheet_column(s, "row", NULL, false, 0);
    ptq_sheet_column(s, "column", NULL, false, 0);
    ptq_sheet_column(s, "table", NULL, false, 0);
    ptq_sheet_column(s, "paper", NULL, false, 0);
    ptq_sheet_column(s, "version", NULL, false, 0);
    ptq_sheet_column(s, "source", NULL, false, 0);
    ptq_sheet_column(s, "protocol", NULL, false, 0);
    ptq_sheet_column(s, "note", NULL, false, 0);
}

static void add_exact(struct ptq_sheet *s, const struct ptq_paper_table *t,
                      const struct ptq_paper_cell *c)
{
    const char *const texts[] = {c->why,
                                 c->label,
                                 t->rows[c->row].id,
                                 t->columns[c->column].id,
                                 t->name,
                                 t->paper,
                                 t->version,
                                 t->rows[c->row].source,
                                 t->protocol,
                                 t->rows[c->row].note};
    ptq_sheet_set(s, VERDICT + 1, "%d", ptq_paper_is_gate(c));
    for (int i = 0; i < (int)(sizeof texts / sizeof *texts); i++)
        ptq_sheet_set(s, VERDICT + 2 + i, "%s", texts[i]);
}

static void add_cell(struct ptq_sheet *s, const struct ptq_paper_table *t,
                     const struct ptq_paper_cell *c, bool exact)
{
    ptq_sheet_row(s);
    ptq_sheet_set(s, DATA, "%s", t->data[c->data].title);
    ptq_sheet_set(s, MODEL, "%s", t->columns[c->column].title);
    ptq_sheet_set(s, METHOD, "%s", t->rows[c->row].title);
    ptq_sheet_set(s, PRINTED, "%s", c->printed);
    if (!isnan(c->ours)) {
        ptq_sheet_set(s, OURS, exact ? "%.17g" : "%.5g", c->ours);
        ptq_sheet_set(s, DIFF, exact ? "%.6g" : "%+.2f", 100 * ptq_paper_difference(c, c->ours));
    }
    if (!isnan(c->spread))
        ptq_sheet_set(s, SPREAD, exact ? "%.17g" : "%.2g", c->spread);
    if (c->n_seeds)
        ptq_sheet_set(s, SEEDS, "%lld", (long long)c->n_seeds);
    ptq_sheet_set(s, TOLERANCE, "%g", 100 * c->tolerance);
    ptq_sheet_set(s, TRUST, "%s", c->trust);
    ptq_sheet_set(s, VERDICT, "%s", ptq_paper_verdict_words[c->verdict]);
    if (exact)
        add_exact(s, t, c);
}

static int make_sheet(const struct ptq_paper_table *t, bool exact, struct ptq_arena *arena,
                      struct ptq_sheet *s, struct ptq_status *st)
{
    int code = ptq_sheet_init(s, VERDICT + 12, t->n_cells, arena, st);
    if (code < 0)
        return code;
    add_columns(s, exact);
    for (int64_t i = 0; i < t->n_cells; i++)
        if (t->cells[i].selected)
            add_cell(s, t, &t->cells[i], exact);
    return st->code < 0 ? st->code : PTQ_OK;
}

/* ---- around the table --------------------------------------------------------------------------
 */

static void put_head(const struct ptq_paper_table *t, bool md, FILE *f)
{
    fprintf(f, md ? "### %s\n\n%s, version %s. " : "%s\n%s, version %s. ", t->title, t->paper,
            t->version);
    fprintf(f, "%s%s\n\n", t->protocol, *t->note ? " " : "");
    if (*t->note)
        fprintf(f, "%s\n\n", t->note);
}

static void put_counts(const struct ptq_paper_table *t, FILE *f)
{
    int64_t n[PTQ_PAPER_N_VERDICTS] = {0}, all = 0, off = 0;
    const char *between = ": ";
    for (int64_t i = 0; i < t->n_cells; i++) {
        const struct ptq_paper_cell *c = &t->cells[i];
        n[c->verdict] += c->selected;
        all += c->selected;
        off += c->selected && c->verdict == PTQ_PAPER_OFF && ptq_paper_is_gate(c);
    }
    fprintf(f, "\n%lld cells", (long long)all);
    for (int v = 0; v < PTQ_PAPER_N_VERDICTS; v++)
        if (n[v]) {
            fprintf(f, "%s%lld %s", between, (long long)n[v], ptq_paper_verdict_words[v]);
            between = ", ";
        }
    if (n[PTQ_PAPER_OFF])
        fprintf(f, "; %lld of those off are gates (trust code, text, repro or num)",
                (long long)off);
    fputs(".\n", f);
}

/* What the words of trust that stand in the table mean. */
static void put_trusts(const struct ptq_paper_table *t, FILE *f)
{
    const char *before = "Where the printed numbers are from: ";
    for (int k = 0; ptq_paper_trust_words[k]; k++) {
        bool used = false;
        for (int64_t i = 0; i < t->n_cells && !used; i++)
            used = t->cells[i].selected && !strcmp(t->cells[i].trust, ptq_paper_trust_words[k]);
        if (used)
            fprintf(f, "%s%s: %s", before, ptq_paper_trust_words[k],
                    ptq_paper_trust_meaning(ptq_paper_trust_words[k]));
        before = used ? "; " : before;
    }
    fputs(".\n", f);
}

/* Each reason once, with the first cell that has it. */
static void put_reasons(const struct ptq_paper_table *t, FILE *f)
{
    enum { MOST = 12 };
    const char *said[MOST];
    int n = 0;
    for (int64_t i = 0; i < t->n_cells && n < MOST; i++) {
        const struct ptq_paper_cell *c = &t->cells[i];
        bool known = !c->selected || !*c->why;
        for (int k = 0; k < n; k++)
            known = known || !strcmp(said[k], c->why);
        if (known)
            continue;
        fprintf(f, "* %s, %s: ", t->columns[c->column].title, t->rows[c->row].title);
        ptq_put_text(f, c->why);
        fputc('\n', f);
        said[n++] = c->why;
    }
}

/* Notes of the rows that are shown. */
static void put_notes(const struct ptq_paper_table *t, FILE *f)
{
    for (int64_t r = 0; r < t->n_rows; r++) {
        bool shown = false;
        for (int64_t i = 0; i < t->n_cells; i++)
            shown = shown || (t->cells[i].row == r && t->cells[i].selected);
        if (shown && *t->rows[r].note)
            fprintf(f, "* %s: %s\n", t->rows[r].title, t->rows[r].note);
    }
}

static int format_of(const char *word)
{
    int k = 0;
    while (word && formats[k] && strcmp(formats[k], word) != 0)
        k++;
    return k;
}

int ptq_paper_check_format(const char *format, struct ptq_status *st)
{
    return formats[format_of(format)] ? PTQ_OK : ptq_unknown_word("format", format, formats, st);
}

int ptq_paper_print(const struct ptq_paper_table *t, const char *format, FILE *f,
                    struct ptq_arena *arena, struct ptq_status *st)
{
    struct ptq_sheet s;
    const int k = format_of(format);
    int code = ptq_paper_check_format(format, st);
    code = code < 0 ? code : make_sheet(t, k == CSV || k == JSONL, arena, &s, st);
    if (code < 0)
        return code;
    if (k == CSV)
        ptq_sheet_csv(&s, f);
    else if (k == JSONL)
        ptq_sheet_jsonl(&s, f);
    else if (k == LATEX)
        ptq_sheet_latex(&s, f);
    if (k != TEXT && k != MD)
        return PTQ_OK;
    put_head(t, k == MD, f);
    if (k == MD)
        ptq_sheet_md(&s, f);
    else
        ptq_sheet_text(&s, f, 160, NULL);
    put_counts(t, f);
    put_trusts(t, f);
    put_reasons(t, f);
    put_notes(t, f);
    return PTQ_OK;
}

int ptq_paper_write(const struct ptq_paper_table *t, const char *folder, const char *stem,
                    struct ptq_arena *arena, struct ptq_status *st)
{
    static const struct {
        const char *format, *extension;
    } files[] = {{"md", "md"}, {"csv", "csv"}, {"latex", "tex"}};
    int code = ptq_make_dirs(folder, st);
    for (int i = 0; code >= 0 && i < 3; i++) {
        struct ptq_buffer b;
        char *path = ptq_arena_printf(arena, st, "%s/%s.%s", folder, stem, files[i].extension);
        code = path ? ptq_buffer_open(&b, st) : PTQ_ERR_MEMORY;
        if (code < 0)
            break;
        code = ptq_paper_print(t, files[i].format, b.f, arena, st);
        if (code >= 0)
            code = ptq_buffer_save(&b, path, st);
        else {
            ptq_buffer_close(&b, NULL);
            free(b.text);
        }
    }
    return code;
}
