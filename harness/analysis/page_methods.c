#include "analysis/page_methods.h"
#include "analysis/equal.h"
#include "analysis/noise.h"
#include "analysis/propagation.h"
#include "analysis/proxies.h"
#include "analysis/put.h"
#include <inttypes.h>

static const char about_equal[] =
    "A method's settings (all its bits and groups, means over calibration seeds) give the lower "
    "convex hull of (bits_stored, log loss); what stands here is interpolated on that hull: log "
    "loss, straight in bits, and the least loss so far where more bits did not help. Nothing is "
    "extrapolated: - is outside of the method's own settings. A setting with a loss at or below 0 "
    "(no worse than full precision) has no logarithm and is left out. * least of its column; ~ not "
    "told apart from it.";
static const char about_books[] =
    "Books dominate small matrices: of the stored bits, those of codebooks (with steps and "
    "minima) here, and of books of the same length and format were every layer 4096 x 4096. "
    "bits_stored counts them as they are here.";
static const char about_wins[] =
    "In which share of the layers a method has the lowest held-out error (out_relerr without "
    "held-out statistics) among the settings of equal bits and group. A setting that stores over 5 "
    "% more bits than the block's rtn (its median without one) does not take part: -. Equal errors "
    "share the win, copies with the same codes each have it whole. Means over the draws of the "
    "calibration text, with the least and the most of a "
    "draw. Beyond the spread: lower than every other method's by more, in the mean over draws, "
    "than "
    "that difference (of logs) moves between draws; - with one draw.";
static const char no_rates[] =
    "No multiple of 1/4 bit lies within the settings of two methods: sweep more bits or groups.";

/* What differs between the two formats. */
struct writer {
    FILE *f;
    bool html;
};

static void put(const struct writer *w, const char *text)
{
    if (w->html)
        ptq_put_html(w->f, text);
    else
        ptq_put_md(w->f, text);
}

static void put_title(const struct writer *w, const char *title, const char *id)
{
    if (w->html)
        fprintf(w->f, "<h2 id=\"%s\">%s</h2>\n", id, title);
    else
        fprintf(w->f, "\n## %s\n", title);
}

static void put_line(const struct writer *w, const char *text)
{
    fputs(w->html ? "<p class=\"soft\">" : "\n", w->f);
    put(w, text);
    fputs(w->html ? "</p>\n" : "\n", w->f);
}

static void put_board(const struct writer *w, const struct ptq_board *d, const char *what)
{
    fputs(w->html ? "<h3>" : "\n### ", w->f);
    put(w, d->model);
    fputs(*d->protocol ? ", protocol " : "", w->f);
    put(w, d->protocol);
    fputs(*what ? ": " : "", w->f);
    put(w, what);
    fputs(w->html ? "</h3>\n" : "\n", w->f);
}

static void put_sheet(const struct writer *w, const struct ptq_sheet *s, const char *name,
                      int64_t board)
{
    char id[48];
    snprintf(id, sizeof id, "%s-%" PRId64, name, board + 1);
    fputs(w->html ? "" : "\n", w->f);
    if (w->html)
        ptq_sheet_html(s, w->f, id, true);
    else
        ptq_sheet_md(s, w->f);
}

static int put_words(const struct ptq_tables *t, const struct writer *w, const struct ptq_equal *e)
{
    const char **words = ptq_equal_words(t, e);
    if (!words)
        return PTQ_ERR_MEMORY;
    put_line(w, *e->how ? ptq_arena_printf(t->arena, t->st, "Best, by the %s:", e->how) : "Best:");
    fputs(w->html ? "<ul class=\"soft\">\n" : "\n", w->f);
    for (int r = 0; r < e->n_rates; r++) {
        fputs(w->html ? "<li>" : "- ", w->f);
        put(w, words[r]);
        fputs(w->html ? "</li>\n" : "\n", w->f);
    }
    fputs(w->html ? "</ul>\n" : "", w->f);
    return PTQ_OK;
}

static int put_quantity(const struct ptq_tables *t, const struct writer *w, int64_t board,
                        enum ptq_quantity quantity)
{
    static const char *const names[] = {"equal-model", "equal-layers"};
    const struct ptq_board *d = &t->v->boards[board];
    struct ptq_equal e;
    struct ptq_sheet s;
    int code = ptq_equal_make(t, d, quantity, &e);
    if (code || !e.id)
        return code;
    put_board(w, d,
              quantity == PTQ_OF_MODEL
                  ? e.id
                  : ptq_arena_printf(t->arena, t->st, "%s, geometric mean over layers", e.id));
    if (!e.n_rates) {
        put_line(w, no_rates);
        return PTQ_OK;
    }
    code = ptq_table_equal(t, &e, &s);
    if (code)
        return code;
    put_sheet(w, &s, names[quantity], board);
    return put_words(t, w, &e);
}

static int put_equal(const struct ptq_tables *t, const struct writer *w)
{
    int code = PTQ_OK;
    put_title(w, "At equal stored bits", "equal");
    put_line(w, about_equal);
    for (int64_t k = 0; k < t->v->n_boards && !code; k++) {
        code = put_quantity(t, w, k, PTQ_OF_MODEL);
        if (!code && ptq_first_of_model(t->v, k))
            code = put_quantity(t, w, k, PTQ_OF_LAYERS);
    }
    return code;
}

/* Of the boards that share layers, one, unless the table is of the board's text; nothing, not even
 * the title, where no board has a row. */
static int put_tables(const struct ptq_tables *t, const struct writer *w, bool of_text,
                      const char *title, const char *id, const char *about,
                      int (*make)(const struct ptq_tables *, const struct ptq_board *,
                                  struct ptq_sheet *))
{
    bool any = false;
    for (int64_t k = 0; k < t->v->n_boards; k++) {
        struct ptq_sheet s;
        const struct ptq_board *d = &t->v->boards[k];
        if (!of_text && !ptq_first_of_model(t->v, k))
            continue;
        int code = make(t, d, &s);
        if (code)
            return code;
        if (!s.n_rows)
            continue;
        if (!any) {
            put_title(w, title, id);
            put_line(w, about);
        }
        any = true;
        if (t->v->n_boards > 1)
            put_board(w, d, "");
        put_sheet(w, &s, id, k);
    }
    return PTQ_OK;
}

static const char about_proxies[] =
    "What may stand for perplexity before it is measured, and what may not: each proxy against the "
    "loss on the evaluation text, over the models of this run.";

static int put_proxies(const struct ptq_tables *t, const struct writer *w)
{
    bool any = false;
    for (int64_t k = 0; k < t->v->n_boards; k++) {
        struct ptq_sheet s, breaks;
        const struct ptq_proxies *p = &t->proxies[k];
        const char **notes = p->none ? NULL : ptq_proxies_notes(t, p);
        if (p->none)
            continue;
        int code = notes ? ptq_table_proxies(t, p, &s) : PTQ_ERR_MEMORY;
        code = code ? code : ptq_table_breaks(t, p, &breaks);
        if (code)
            return code;
        if (!any) {
            put_title(w, "Proxies of perplexity", "proxies");
            put_line(w, about_proxies);
        }
        any = true;
        if (t->v->n_boards > 1)
            put_board(w, p->d, "");
        put_sheet(w, &s, "proxies", k);
        for (; *notes; notes++)
            put_line(w, *notes);
        put_line(w, "Where each breaks:");
        put_sheet(w, &breaks, "proxy-breaks", k);
    }
    return PTQ_OK;
}

static int put_books(const struct ptq_tables *t, const struct writer *w)
{
    return put_tables(t, w, false, "Codebooks", "books", about_books, ptq_table_books);
}

static int put_wins(const struct ptq_tables *t, const struct writer *w)
{
    return put_tables(t, w, false, "Who wins", "wins", about_wins, ptq_table_wins);
}

static int put_noise(const struct ptq_tables *t, const struct writer *w)
{
    return put_tables(t, w, false, "Noise", "noise", ptq_about_noise, ptq_table_noise);
}

static int put_propagation(const struct ptq_tables *t, const struct writer *w)
{
    return put_tables(t, w, true, "Error block by block", "propagation", ptq_about_propagation,
                      ptq_table_propagation);
}

static const struct {
    const char *id, *name;
    int (*put)(const struct ptq_tables *, const struct writer *);
} parts[] = {
    {"equal", "equal bits", put_equal},
    {"books", "codebooks", put_books},
    {"wins", "who wins", put_wins},
    {"noise", "noise", put_noise},
    {"propagation", "blocks", put_propagation},
    {"proxies", "proxies", put_proxies},
};

int ptq_page_methods_html(const struct ptq_tables *t, FILE *f, FILE *nav)
{
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const long start = ftell(f);
        int code = parts[i].put(t, &(struct writer){f, true});
        if (code)
            return code;
        if (ftell(f) > start)
            ptq_page_link(nav, parts[i].id, parts[i].name);
    }
    return PTQ_OK;
}

int ptq_page_methods_md(const struct ptq_tables *t, FILE *f)
{
    int code = PTQ_OK;
    for (size_t i = 0; i < sizeof parts / sizeof *parts && !code; i++)
        code = parts[i].put(t, &(struct writer){f, false});
    return code;
}

int ptq_page_proxies_md(const struct ptq_tables *t, FILE *f)
{
    return put_proxies(t, &(struct writer){f, false});
}
