#include "analysis/report.h"
#include "analysis/equal.h"
#include "analysis/noise.h"
#include "analysis/page.h"
#include "analysis/page_methods.h"
#include "analysis/plot.h"
#include "analysis/propagation.h"
#include "analysis/proxies.h"
#include "analysis/put.h"
#include "analysis/tables.h"
#include "core/words.h"
#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEXT_WIDTH = 120, MAX_BAD_LINES = 20 };

struct session { /* an open view and what its tables live in */
    struct ptq_arena arena;
    struct ptq_view view;
    struct ptq_tables tables;
};

static int session_open(struct session *s, const char *run_dir, struct ptq_status *st)
{
    ptq_arena_init(&s->arena, 0);
    int code = ptq_view_open(&s->view, run_dir, &s->arena, st);
    return code ? code : ptq_tables_init(&s->tables, &s->view, &s->arena, st);
}

static void session_close(struct session *s)
{
    ptq_view_close(&s->view);
    ptq_arena_clear(&s->arena);
}

/* ---- the terminal ---- */

/* "name  text", wrapped at spaces with the text's column kept. */
static void put_wrapped(FILE *f, const char *name, const char *text)
{
    enum { INDENT = 13 };
    fprintf(f, "%-*s", INDENT, name);
    int at = INDENT;
    for (const char *s = text; *s;) {
        int bytes = (int)strcspn(s, " ");
        char *word = strndup(s, (size_t)bytes);
        int width = ptq_text_width(word);
        if (at > INDENT && at + 1 + width > TEXT_WIDTH) {
            fprintf(f, "\n%*s", INDENT, "");
            at = INDENT;
        }
        fputs(at > INDENT ? " " : "", f);
        ptq_put_text(f, word);
        at += width + (at > INDENT);
        free(word);
        s += bytes;
        s += *s == ' ';
    }
    fputc('\n', f);
}

static int print_board(const struct ptq_tables *t, const struct ptq_board *d, FILE *f)
{
    struct ptq_sheet s;
    struct ptq_fact facts[PTQ_MAX_FACTS];
    const char *dropped = "";
    int code = ptq_table_main(t, d, false, &s);
    if (code)
        return code;
    ptq_sheet_text(&s, f, TEXT_WIDTH, &dropped);
    fputc('\n', f);
    int n = ptq_board_facts(t, d, facts);
    for (int i = 0; i < n; i++)
        put_wrapped(f, facts[i].name, facts[i].text);
    if (*dropped)
        put_wrapped(f, "left out",
                    ptq_arena_printf(t->arena, t->st,
                                     "%s (too wide; see --format csv and report.html)", dropped));
    return PTQ_OK;
}

static int print_bad(const struct ptq_tables *t, FILE *f)
{
    struct ptq_sheet s;
    int code = ptq_table_bad(t, &s);
    if (code)
        return code;
    for (int64_t r = 0; r < s.n_rows && r < MAX_BAD_LINES; r++) {
        const char *const *c =
            s.cells + r * s.max_columns; /* status, cells, method, first cell, reason */
        const char *many =
            strcmp(c[1], "1") ? ptq_arena_printf(t->arena, t->st, " (%s cells, first)", c[1]) : "";
        put_wrapped(f, c[0],
                    ptq_arena_printf(t->arena, t->st, "%s %s%s: %s", c[2], c[3], many, c[4]));
    }
    if (s.n_rows > MAX_BAD_LINES)
        fprintf(f, "             ... and %" PRId64 " more: tables/not_run.csv\n",
                s.n_rows - MAX_BAD_LINES);
    return PTQ_OK;
}

struct below { /* a table below the main one */
    const char *head, *about;
    bool of_text; /* of every board, not of a model's first alone */
    int (*make)(const struct ptq_tables *, const struct ptq_board *, struct ptq_sheet *);
};

static int print_below(const struct ptq_tables *t, const struct below *b, FILE *f)
{
    int code = PTQ_OK;
    for (int64_t k = 0; k < t->v->n_boards && !code; k++) {
        struct ptq_sheet s;
        const char *dropped = "";
        if (!b->of_text && !ptq_first_of_model(t->v, k))
            continue;
        code = b->make(t, &t->v->boards[k], &s);
        if (code || !s.n_rows)
            continue;
        fputc('\n', f);
        ptq_sheet_text(&s, f, TEXT_WIDTH, &dropped);
        fputc('\n', f);
        put_wrapped(f, b->head, b->about);
        if (*dropped)
            put_wrapped(f, "left out",
                        ptq_arena_printf(t->arena, t->st, "%s (too wide; see tables/)", dropped));
    }
    return code;
}

static const struct below below[] = {
    {"blocks", ptq_about_propagation, true, ptq_table_propagation},
    {"noise", ptq_about_noise, false, ptq_table_noise},
};

static int print_text(const struct ptq_tables *t, FILE *f)
{
    int code = PTQ_OK;
    for (int64_t k = 0; k < t->v->n_boards && !code; k++) {
        fputs(k ? "\n" : "", f);
        code = print_board(t, &t->v->boards[k], f);
    }
    for (size_t i = 0; i < sizeof below / sizeof *below && !code; i++)
        code = print_below(t, &below[i], f);
    code = code ? code : print_bad(t, f);
    if (!code) {
        ptq_put_text(f, ptq_verdict(t));
        fputc('\n', f);
    }
    return code;
}

/* ---- other formats ---- */

static int print_md(const struct ptq_tables *t, FILE *f)
{
    struct ptq_page page = {.t = t};
    return ptq_page_md(&page, f);
}

static int print_csv(const struct ptq_tables *t, FILE *f)
{
    struct ptq_sheet s;
    int code = ptq_table_main_exact(t, &s);
    if (!code)
        ptq_sheet_csv(&s, f);
    return code;
}

static int print_jsonl(const struct ptq_tables *t, FILE *f)
{
    struct ptq_sheet s;
    int code = ptq_table_main_exact(t, &s);
    if (!code)
        ptq_sheet_jsonl(&s, f);
    return code;
}

static int print_latex(const struct ptq_tables *t, FILE *f)
{
    int code = PTQ_OK;
    for (int64_t k = 0; k < t->v->n_boards && !code; k++) {
        struct ptq_sheet s;
        struct ptq_fact facts[PTQ_MAX_FACTS];
        code = ptq_table_main(t, &t->v->boards[k], true, &s);
        if (code)
            return code;
        int n = ptq_board_facts(t, &t->v->boards[k], facts);
        for (int i = 0; i < n; i++) {
            fprintf(f, "%% %s: ", facts[i].name);
            ptq_put_text(f, facts[i].text);
            fputc('\n', f);
        }
        ptq_sheet_latex(&s, f);
    }
    return code;
}

/* ---- proxies ---- */

static void put_sheet_text(const struct ptq_sheet *s, FILE *f)
{
    ptq_sheet_text(s, f, TEXT_WIDTH, NULL);
}

static int print_proxies(const struct ptq_tables *t, FILE *f,
                         void (*put)(const struct ptq_sheet *, FILE *),
                         void (*note)(FILE *, const char *))
{
    int code = PTQ_OK;
    for (int64_t k = 0; k < t->v->n_boards && !code; k++) {
        struct ptq_sheet s, breaks;
        const struct ptq_proxies *p = &t->proxies[k];
        if (p->none && put != put_sheet_text) /* there the reason stands in its place */
            continue;
        const char **notes = ptq_proxies_notes(t, p);
        code = notes ? ptq_table_proxies(t, p, &s) : PTQ_ERR_MEMORY;
        code = code ? code : ptq_table_breaks(t, p, &breaks);
        if (code)
            return code;
        fputs(k ? "\n" : "", f);
        note(f, ptq_arena_printf(t->arena, t->st, "%s, %s", p->d->model, p->d->protocol));
        if (s.n_rows) {
            put(&s, f);
            note(f, "Where each breaks:");
            put(&breaks, f);
        }
        for (; *notes; notes++)
            note(f, *notes);
    }
    return code;
}

static void put_note_text(FILE *f, const char *text)
{
    put_wrapped(f, "", text);
}

static void put_note_latex(FILE *f, const char *text)
{
    fputs("% ", f);
    ptq_put_text(f, text);
    fputc('\n', f);
}

static int print_proxies_latext(const struct ptq_tables *t, FILE *f)
{
    return print_proxies(t, f, put_sheet_text, put_note_text);
}

static int print_proxies_latex(const struct ptq_tables *t, FILE *f)
{
    return print_proxies(t, f, ptq_sheet_latex, put_note_latex);
}

static int print_proxies_csv(const struct ptq_tables *t, FILE *f)
{
    struct ptq_sheet s;
    int code = ptq_table_proxies_exact(t, &s);
    if (!code)
        ptq_sheet_csv(&s, f);
    return code;
}

static int print_proxies_jsonl(const struct ptq_tables *t, FILE *f)
{
    struct ptq_sheet s;
    int code = ptq_table_proxies_exact(t, &s);
    if (!code)
        ptq_sheet_jsonl(&s, f);
    return code;
}

static const char *const format_words[] = {"text", "md", "csv", "jsonl", "latex", NULL};
typedef int printer(const struct ptq_tables *, FILE *);
static printer *const printers[] = {print_text, print_md, print_csv, print_jsonl, print_latex};
static printer *const proxy_printers[] = {print_proxies_latext, ptq_page_proxies_md,
                                          print_proxies_csv, print_proxies_jsonl,
                                          print_proxies_latex};

static int find_printer(const char *format, printer *const *of, printer **out,
                        struct ptq_status *st)
{
    int k = 0;
    while (format && format_words[k] && strcmp(format_words[k], format))
        k++;
    if (!format_words[k])
        return ptq_unknown_word("format", format, format_words, st);
    *out = of[k];
    return PTQ_OK;
}

int ptq_report_print(const char *run_dir, const char *format, void *file, struct ptq_status *st)
{
    struct session s;
    printer *print = NULL;
    int code = find_printer(format, printers, &print, st);
    if (code)
        return code;
    code = session_open(&s, run_dir, st);
    if (code == PTQ_OK)
        code = print(&s.tables, file);
    session_close(&s);
    return code;
}

/* Why none of the boards has a study. */
static int need_study(const struct ptq_tables *t)
{
    const char *none = "no finished cell";
    for (int64_t k = 0; k < t->v->n_boards; k++) {
        if (!t->proxies[k].none)
            return PTQ_OK;
        none = t->proxies[k].none;
    }
    return ptq_status_set(t->st, PTQ_SKIP, "%s: no proxy can be judged: %s", t->v->run_dir, none);
}

int ptq_proxies_print(const char *run_dir, const char *format, void *file, struct ptq_status *st)
{
    struct session s;
    printer *print = NULL;
    int code = find_printer(format, proxy_printers, &print, st);
    if (code)
        return code;
    code = session_open(&s, run_dir, st);
    if (!code && (s.tables.v->faults.n || s.tables.v->rows.n_torn))
        fprintf(stderr, "%s: %s%s\n", run_dir, ptq_verdict(&s.tables),
                s.tables.v->rows.n_torn ? "; the last line is torn and left out" : "");
    code = code ? code : need_study(&s.tables);
    code = code ? code : print(&s.tables, file);
    session_close(&s);
    return code;
}

/* ---- files ---- */

static int all_layers(const struct ptq_tables *t, struct ptq_sheet *s)
{
    return ptq_table_layers(t, true, INT64_MAX, s);
}

static int all_inputs(const struct ptq_tables *t, struct ptq_sheet *s)
{
    return ptq_table_inputs(t, true, s);
}

static int all_books(const struct ptq_tables *t, struct ptq_sheet *s)
{
    return ptq_table_books(t, NULL, s);
}

static int all_wins(const struct ptq_tables *t, struct ptq_sheet *s)
{
    return ptq_table_wins(t, NULL, s);
}

static int all_noise(const struct ptq_tables *t, struct ptq_sheet *s)
{
    return ptq_table_noise(t, NULL, s);
}

static const struct exact { /* a table of every board, as it is kept */
    const char *name;
    int (*make)(const struct ptq_tables *, struct ptq_sheet *);
    void (*put)(const struct ptq_sheet *, FILE *);
    bool optional; /* no file where the run has no rows for it */
} exact_tables[] = {
    {"main.csv", ptq_table_main_exact, ptq_sheet_csv, false},
    {"layers.csv", all_layers, ptq_sheet_csv, false},
    {"crossloss.csv", ptq_table_crossloss_exact, ptq_sheet_csv, false},
    {"crossloss.jsonl", ptq_table_crossloss_exact, ptq_sheet_jsonl, false},
    {"inputs.csv", all_inputs, ptq_sheet_csv, false},
    {"equal_bits.csv", ptq_table_equal_exact, ptq_sheet_csv, false},
    {"books.csv", all_books, ptq_sheet_csv, false},
    {"wins.csv", all_wins, ptq_sheet_csv, false},
    {"proxies.csv", ptq_table_proxies_exact, ptq_sheet_csv, true},
    {"propagation.csv", ptq_table_propagation_exact, ptq_sheet_csv, true},
    {"noise.csv", all_noise, ptq_sheet_csv, true},
    {"noise_pairs.csv", ptq_table_noise_pairs, ptq_sheet_csv, true},
    {"not_run.csv", ptq_table_bad, ptq_sheet_csv, false},
};

static char *table_path(const struct ptq_tables *t, const char *name)
{
    return ptq_arena_printf(t->arena, t->st, "%s/tables/%s", t->v->run_dir, name);
}

static int save_exact(const struct ptq_tables *t, const struct exact *x)
{
    struct ptq_sheet s;
    struct ptq_buffer b;
    char *path = table_path(t, x->name);
    int code = path ? x->make(t, &s) : PTQ_ERR_MEMORY;
    if (code)
        return code;
    if (x->optional && !s.n_rows) {
        unlink(path); /* of rows that another configuration had */
        return PTQ_OK;
    }
    if (ptq_buffer_open(&b, t->st))
        return PTQ_ERR_MEMORY;
    x->put(&s, b.f);
    return ptq_buffer_save(&b, path, t->st);
}

/* ---- LaTeX, a tabular a board ---- */

static int print_equal_latex(const struct ptq_tables *t, FILE *f)
{
    int code = PTQ_OK;
    for (int64_t k = 0; k < t->v->n_boards; k++)
        for (int q = 0; q < PTQ_N_QUANTITIES && !code; q++) {
            struct ptq_equal e;
            struct ptq_sheet s;
            code = ptq_equal_make(t, &t->v->boards[k], (enum ptq_quantity)q, &e);
            if (code || !e.n_rates || (q == PTQ_OF_LAYERS && !ptq_first_of_model(t->v, k)))
                continue;
            fputs("% ", f);
            ptq_put_text(f, e.d->model);
            fprintf(f, ", %s at equal stored bits; *: best, ~: not told apart from it\n", e.id);
            code = ptq_table_equal(t, &e, &s);
            if (!code)
                ptq_sheet_latex(&s, f);
        }
    return code;
}

/* Of the boards that share layers, one, unless the table is of the board's text. */
static int print_boards(const struct ptq_tables *t, FILE *f, bool of_text, const char *about,
                        int (*make)(const struct ptq_tables *, const struct ptq_board *,
                                    struct ptq_sheet *))
{
    int code = PTQ_OK;
    for (int64_t k = 0; k < t->v->n_boards && !code; k++) {
        struct ptq_sheet s;
        if (!of_text && !ptq_first_of_model(t->v, k))
            continue;
        code = make(t, &t->v->boards[k], &s);
        if (code || !s.n_rows)
            continue;
        fputs("% ", f);
        ptq_put_text(f, t->v->boards[k].model);
        fprintf(f, ". %s\n", about);
        ptq_sheet_latex(&s, f);
    }
    return code;
}

static int print_propagation_latex(const struct ptq_tables *t, FILE *f)
{
    return print_boards(t, f, true, ptq_about_propagation, ptq_table_propagation);
}

static int print_noise_latex(const struct ptq_tables *t, FILE *f)
{
    return print_boards(t, f, false, "Held-out errors of layers and their noise", ptq_table_noise);
}

static const struct latex {
    const char *name;
    int (*print)(const struct ptq_tables *, FILE *);
    bool optional;
} latex_tables[] = {
    {"main.tex", print_latex, false},           {"equal_bits.tex", print_equal_latex, false},
    {"proxies.tex", print_proxies_latex, true}, {"propagation.tex", print_propagation_latex, true},
    {"noise.tex", print_noise_latex, true},
};

static int save_latex(const struct ptq_tables *t, const struct latex *x)
{
    struct ptq_buffer b;
    char *path = table_path(t, x->name);
    if (!path || ptq_buffer_open(&b, t->st))
        return PTQ_ERR_MEMORY;
    int code = x->print(t, b.f);
    const bool empty = !ftell(b.f);
    if (!x->optional || !empty) {
        int saved = ptq_buffer_save(&b, path, t->st);
        return code ? code : saved;
    }
    ptq_buffer_close(&b, t->st);
    free(b.text);
    unlink(path);
    return code;
}

static int write_tables(const struct ptq_tables *t)
{
    char *folder = ptq_arena_printf(t->arena, t->st, "%s/tables", t->v->run_dir);
    int code = folder ? ptq_make_dirs(folder, t->st) : PTQ_ERR_MEMORY;
    for (size_t i = 0; i < sizeof exact_tables / sizeof *exact_tables && !code; i++)
        code = save_exact(t, &exact_tables[i]);
    for (size_t i = 0; i < sizeof latex_tables / sizeof *latex_tables && !code; i++)
        code = save_latex(t, &latex_tables[i]);
    return code;
}

/* One picture; not being drawn is no error. */
static int draw(const struct ptq_tables *t, int64_t board, const struct ptq_plot *plot,
                struct ptq_picture *p)
{
    struct ptq_status why = {0};
    plot = ptq_plot_on_board(t, board, plot);
    if (!plot)
        return PTQ_ERR_MEMORY;
    const char *file = ptq_plot_file(t, board, plot->name, "svg");
    int code = ptq_plot_draw(t, board, plot, file, &why);
    *p = (struct ptq_picture){.plot = plot, .board = board, .reason = ""};
    if (code == PTQ_OK)
        p->file = file;
    else
        p->reason = ptq_arena_strdup(t->arena, t->st, why.text);
    return p->reason ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int draw_all(const struct ptq_tables *t, struct ptq_page *page)
{
    struct ptq_plot *plots = NULL;
    int64_t n = 0;
    struct ptq_status why = {0};
    if (ptq_plots_list(t->arena, &plots, &n, &why)) {
        page->no_pictures = ptq_arena_strdup(t->arena, t->st, why.text);
        return page->no_pictures ? PTQ_OK : PTQ_ERR_MEMORY;
    }
    struct ptq_picture *all = ptq_arena_alloc(t->arena, t->st, n * t->v->n_boards, sizeof *all);
    if (!all)
        return PTQ_ERR_MEMORY;
    for (int64_t k = 0; k < t->v->n_boards; k++) {
        int code = ptq_plot_data_write(t, k);
        for (int64_t i = 0; i < n && !code; i++) {
            struct ptq_picture *p = &all[page->n_pictures];
            code = draw(t, k, &plots[i], p);
            page->n_pictures += code || p->file || !plots[i].optional;
        }
        if (code)
            return code;
    }
    page->pictures = all;
    return PTQ_OK;
}

/* Every reason once. */
static void tell_missing(const struct ptq_page *page)
{
    if (page->no_pictures)
        fprintf(stderr, "report: no pictures: %s\n", page->no_pictures);
    for (int64_t i = 0; i < page->n_pictures; i++) {
        bool told = page->pictures[i].file != NULL;
        for (int64_t k = 0; k < i; k++)
            told |= !page->pictures[k].file &&
                    !strcmp(page->pictures[k].reason, page->pictures[i].reason);
        if (!told)
            fprintf(stderr, "report: %s: no picture: %s\n", page->pictures[i].plot->name,
                    page->pictures[i].reason);
    }
}

static int save_page(const struct ptq_page *page, const char *name,
                     int (*print)(const struct ptq_page *, FILE *))
{
    struct ptq_buffer b;
    const struct ptq_tables *t = page->t;
    char *path = ptq_arena_printf(t->arena, t->st, "%s/%s", t->v->run_dir, name);
    if (!path || ptq_buffer_open(&b, t->st))
        return PTQ_ERR_MEMORY;
    int code = print(page, b.f);
    int saved = ptq_buffer_save(&b, path, t->st);
    return code ? code : saved;
}

int ptq_report_write(const struct ptq_report_args *args, struct ptq_status *st)
{
    struct session s;
    int code = session_open(&s, args->run_dir, st);
    struct ptq_page page = {.t = &s.tables};
    code = code ? code : write_tables(&s.tables);
    if (!code && args->plots)
        code = draw_all(&s.tables, &page);
    if (!code && !args->quiet)
        tell_missing(&page);
    code = code ? code : save_page(&page, "report.md", ptq_page_md);
    code = code ? code : save_page(&page, "report.html", ptq_page_html);
    session_close(&s);
    return code;
}

int ptq_plot_write(const char *run_dir, const char *plot, const char *out_path,
                   struct ptq_status *st)
{
    struct session s;
    struct ptq_plot *plots = NULL;
    int64_t n = 0, at = 0;
    int code = session_open(&s, run_dir, st);
    code = code ? code : ptq_plots_list(&s.arena, &plots, &n, st);
    const char **names = code ? NULL : ptq_arena_alloc(&s.arena, st, n + 1, sizeof *names);
    for (int64_t i = 0; names && i < n; i++)
        names[i] = plots[i].name;
    while (names && at < n && strcmp(names[at], plot))
        at++;
    if (names && at == n)
        code = ptq_unknown_word("plot", plot, names, st);
    if (!code && !s.view.n_boards)
        code = ptq_status_set(st, PTQ_ERR_USAGE, "%s: no finished cell to draw", run_dir);
    code = code ? code : names ? ptq_plot_data_write(&s.tables, 0) : PTQ_ERR_MEMORY;
    const struct ptq_plot *own = code ? NULL : ptq_plot_on_board(&s.tables, 0, &plots[at]);
    code = code ? code : own ? ptq_plot_draw(&s.tables, 0, own, out_path, st) : PTQ_ERR_MEMORY;
    session_close(&s);
    return code;
}

/* ---- run folders ---- */

static bool is_folder(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

static int is_run_name(const struct dirent *e)
{
    return e->d_name[0] != '.' && strcmp(e->d_name, "baselines") != 0;
}

static int unknown_run(const char *word, struct ptq_status *st)
{
    struct dirent **entries;
    const char *names[65];
    int n = scandir("results", &entries, is_run_name, alphasort), k = 0;
    for (int i = 0; i < n && k < 64; i++)
        names[k++] = entries[i]->d_name;
    names[k] = NULL;
    int code =
        k ? ptq_unknown_word("run", word, names, st)
          : ptq_status_set(st, PTQ_ERR_USAGE,
                           "%s: no such folder, and results/ holds no runs; run `ptq sweep` first",
                           word);
    for (int i = 0; i < n; i++)
        free(entries[i]);
    if (n >= 0)
        free(entries);
    return code;
}

int ptq_run_folder(const char *word, struct ptq_arena *a, char **run_dir, struct ptq_status *st)
{
    bool bare = !strchr(word, '/');
    *run_dir = ptq_arena_printf(a, st, "results/%s", word);
    if (*run_dir && bare && is_folder(*run_dir))
        return PTQ_OK;
    *run_dir = ptq_arena_strdup(a, st, word);
    if (!*run_dir)
        return PTQ_ERR_MEMORY;
    return is_folder(word) ? PTQ_OK : unknown_run(word, st);
}
