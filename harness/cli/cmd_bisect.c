/* cmd_bisect.c: `ptq bisect OLD NEW`: which layer, and what of it, carries a difference. */
#include "analysis/bisect.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "core/words.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- which rows */

enum { MOST_PICKS = 16 };
struct picks {
    struct ptq_row_pick at[MOST_PICKS];
    int n;
};

static int add_picks(const char *flag, char *words, struct picks *p, struct ptq_status *st)
{
    char *rest = NULL;
    for (char *w = words ? strtok_r(words, " ,", &rest) : NULL; w;
         w = strtok_r(NULL, " ,", &rest)) {
        char *value = strchr(w, '=');
        if (!value || p->n == MOST_PICKS)
            return ptq_status_set(st, PTQ_ERR_USAGE,
                                  "--%s: '%s' is not FIELD=VALUE, or there are more than %d; an "
                                  "example: --%s \"label=gptq bits=3 group_size=64\"",
                                  flag, w, MOST_PICKS, flag);
        *value = 0;
        p->at[p->n++] = (struct ptq_row_pick){w, value + 1};
    }
    return PTQ_OK;
}

/* --pick speaks of both sides, --old and --new of one. */
static int side_picks(const struct ptq_args *a, const char *flag, struct ptq_arena *arena,
                      struct picks *p, struct ptq_status *st)
{
    const char *const flags[] = {"pick", flag};
    p->n = 0;
    for (int i = 0; i < 2; i++) {
        const char *text = ptq_arg(a, flags[i]);
        char *words = text ? ptq_arena_printf(arena, st, "%s", text) : NULL;
        if (text && !words)
            return PTQ_ERR_MEMORY;
        int rc = add_picks(flags[i], words, p, st);
        if (rc)
            return rc;
    }
    return PTQ_OK;
}

/* ---- what was found */

static const char *const columns[] = {"layers", "n",     "dnll",  "lo",   "hi",    "share",
                                      "guilty", "alone", "codes", "grid", "order", "what differs"};
static const bool numeric[] = {false, true, true, true, true, true,
                               false, true, true, true, true, false};
enum { N_COLUMNS = sizeof columns / sizeof *columns };

enum { CELL = 32 };

static void put_number(char out[CELL], double v, bool exact)
{
    snprintf(out, CELL, isnan(v) ? "-" : exact ? "%.17g" : "%+.6f", v);
}

static void put_mean(char out[CELL], const struct ptq_interval *i, bool exact)
{
    put_number(out, i->n ? i->mean : NAN, exact);
}

/* A share of the whole; programs get the number, people per cent. */
static void put_share(char out[CELL], double part, double whole, bool exact)
{
    if (whole == 0)
        snprintf(out, CELL, "-");
    else if (exact)
        put_number(out, part / whole, true);
    else
        snprintf(out, CELL, "%.1f%%", 100 * part / whole);
}

static void what_differs(const struct ptq_bisect_range *r, char *out, size_t size)
{
    const struct ptq_bisect_parts *p = &r->parts;
    if (r->split)
        snprintf(out, size, "out of probes: raise --probes");
    else if (!r->guilty || r->n_layers > 1)
        snprintf(out, size, "%s", r->guilty ? "" : "-");
    else if (!p->comparable)
        snprintf(out, size, "forms of another kind or shape: no parts in common");
    else
        snprintf(out, size, "%lld codes, %lld scales (at most %.3g), %lld zeros%s",
                 (long long)p->n_codes, (long long)p->n_scales, p->max_scale, (long long)p->n_zeros,
                 p->order ? ", order" : "");
}

static int add_range(struct ptq_table *t, const struct ptq_bisect *b,
                     const struct ptq_bisect_range *r, bool exact)
{
    char layers[256], n[CELL], cell[7][CELL], share[CELL], what[200];
    snprintf(layers, sizeof layers, r->n_layers > 1 ? "%s .. %s" : "%s", r->first, r->last);
    snprintf(n, sizeof n, "%lld", (long long)r->n_layers);
    put_mean(cell[0], &r->dnll, exact);
    put_number(cell[1], r->dnll.lo, exact);
    put_number(cell[2], r->dnll.hi, exact);
    put_share(share, r->dnll.mean, b->total.mean, exact);
    put_mean(cell[3], &r->parts.whole, exact);
    put_mean(cell[4], &r->parts.codes, exact);
    put_mean(cell[5], &r->parts.grid, exact);
    put_mean(cell[6], &r->parts.order_alone, exact);
    what_differs(r, what, sizeof what);
    const char *const cells[N_COLUMNS] = {
        layers,  n,       cell[0], cell[1], cell[2], share, r->guilty ? "yes" : "no",
        cell[3], cell[4], cell[5], cell[6], what};
    return ptq_table_row(t, cells);
}

static int print(const struct ptq_bisect *b, enum ptq_format format, struct ptq_status *st)
{
    struct ptq_table *t = ptq_table_new(N_COLUMNS, columns, numeric);
    int rc = t ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int64_t i = 0; !rc && i < b->n_ranges; i++)
        rc = add_range(t, b, &b->range[i], format == PTQ_CSV || format == PTQ_JSONL);
    if (!rc)
        ptq_table_print(t, format, stdout);
    ptq_table_free(t);
    return rc ? ptq_status_nomem(st, "a table", 0) : PTQ_OK;
}

static void print_head(const struct ptq_bisect *b)
{
    printf("old   %s\nnew   %s\nmodel %s on %s, %s\n", b->title[0], b->title[1], b->model, b->text,
           b->protocol);
    if (!b->n_changed)
        printf("The stored values of all %lld layers are the same: nothing to look for.\n",
               (long long)b->n_layers);
    else
        printf("NLL   %.9f -> %.9f, difference %+.6f [%+.6f, %+.6f] nats/token; %lld of %lld "
               "layers differ; %lld probes\n\n",
               b->nll[0], b->nll[1], b->total.mean, b->total.lo, b->total.hi,
               (long long)b->n_changed, (long long)b->n_layers, (long long)b->n_probes);
}

static void print_verdict(const struct ptq_bisect *b)
{
    const struct ptq_bisect_range *most = NULL;
    int n = 0;
    for (int64_t i = 0; i < b->n_ranges; i++) {
        const struct ptq_bisect_range *r = &b->range[i];
        n += r->guilty;
        if (r->guilty && (!most || fabs(r->dnll.mean) > fabs(most->dnll.mean)))
            most = r;
    }
    if (most)
        printf("\n%s%s%s carries most of what can be told (%.0f %% of the whole)%s.\n", most->first,
               most->n_layers > 1 ? " .. " : "", most->n_layers > 1 ? most->last : "",
               100 * most->dnll.mean / b->total.mean,
               n > 1 ? "; the table has the others" : "; no other is sure to carry any");
    else if (b->n_changed)
        printf("\nNo layer is sure to carry any of it: more windows would tell more.\n");
}

/* ---- the verb */

static int bisect(struct ptq_bisect_args *args, enum ptq_format format, struct ptq_arena *arena,
                  struct ptq_status *st)
{
    struct ptq_bisect b;
    bool comparable = true;
    int rc = ptq_bisect(args, arena, &b, &comparable, st);
    if (!comparable) {
        fprintf(stderr, "ptq bisect: %s\n", st->text);
        return 100 + 3;
    }
    if (rc)
        return rc;
    if (format == PTQ_TEXT || format == PTQ_MD)
        print_head(&b);
    if (b.n_changed)
        rc = print(&b, format, st);
    if (!rc && format == PTQ_TEXT)
        print_verdict(&b);
    return rc;
}

static int run(const struct ptq_args *a, struct ptq_status *st)
{
    struct picks picks[2];
    struct ptq_arena arena;
    enum ptq_format format;
    int64_t threads = 0;
    struct ptq_pool *pool = NULL;
    struct ptq_bisect_args args = {.source = ptq_arg(a, "model"),
                                   .level = .95,
                                   .share = .05,
                                   .most_probes = 200,
                                   .quiet = ptq_arg(a, "quiet") != NULL,
                                   .stop = ptq_interrupt_stop};
    ptq_arena_init(&arena, 0);
    int rc = ptq_format_parse(ptq_arg(a, "format"), &format, st);
    rc = rc ? rc : ptq_arg_i64(a, "threads", 1, 1024, &threads, st);
    rc = rc ? rc : ptq_arg_i64(a, "probes", 3, 1000000, &args.most_probes, st);
    if (!rc && ptq_arg(a, "share"))
        rc = ptq_parse_f64(ptq_arg(a, "share"), "--share", 0, 1, &args.share, st);
    for (int side = 0; side < 2 && !rc; side++) {
        rc = side_picks(a, side ? "new" : "old", &arena, &picks[side], st);
        args.side[side] = (struct ptq_pick_args){.run_dir = a->positional[side],
                                                 .picks = picks[side].at,
                                                 .n_picks = picks[side].n,
                                                 .any_build = true};
    }
    if (!rc)
        rc = ptq_pool_new(&pool, (int)threads, st);
    if (!rc) {
        ptq_catch_interrupts(NULL);
        args.pool = pool;
        rc = bisect(&args, format, &arena, st);
    }
    ptq_pool_free(pool);
    ptq_arena_clear(&arena);
    return rc;
}

static const struct ptq_flag flags[] = {
    {"pick", 'p', PTQ_FLAG_TEXT, "F=V ...", "fields that the row has on both sides", NULL},
    {"old", 0, PTQ_FLAG_TEXT, "F=V ...", "fields of OLD's row alone", NULL},
    {"new", 0, PTQ_FLAG_TEXT, "F=V ...", "fields of NEW's row alone", NULL},
    {"model", 0, PTQ_FLAG_TEXT, "SOURCE", "where the model lies now [where the sweep found it]",
     NULL},
    {"share", 0, PTQ_FLAG_TEXT, "X",
     "a range that carries less than this share of the whole is left alone [0.05]", NULL},
    {"probes", 0, PTQ_FLAG_TEXT, "N", "most models that are run [200]", NULL},
    {"format", 'f', PTQ_FLAG_TEXT, "F", "text, md, csv or jsonl [text]", NULL},
    {"threads", 'j', PTQ_FLAG_TEXT, "N", "threads; no result depends on it [all cores]", NULL},
    {"quiet", 'q', PTQ_FLAG_SWITCH, NULL, "no progress", NULL},
    {NULL},
};
const struct ptq_verb ptq_verb_bisect = {
    .name = "bisect",
    .title = "Which layer, and which part of it, carries the difference of two runs",
    .usage = "OLD_RUN NEW_RUN [--pick \"FIELD=VALUE ...\"] [options]",
    .details =
        "OLD_RUN, NEW_RUN: folders of sweeps with their stored forms (forms.pack), of this build "
        "or "
        "another; the same folder twice\n"
        "compares two of its rows. The picks must leave one model row a side; otherwise the "
        "candidates are listed. Both must be\n"
        "of one model, text and protocol. Layers whose stored values differ are exchanged in the "
        "order of the model, and ranges\n"
        "that carry something are halved: about 2 log2(layers) models are run where one layer is "
        "guilty. dnll: what the layers\n"
        "carry behind NEW's and before OLD's, in nats/token, lo and hi its 95 % interval over "
        "windows; the ranges add up to the "
        "whole. A guilty layer is taken\n"
        "apart: alone is dnll of its NEW form with all else OLD; codes, grid (scales and zeros), "
        "order with that part of it alone:\n"
        "parts fit each other, so they need not add up.\n"
        "Exit codes: 0 ok, 2 usage, a row or form that is not there; 3 not comparable; 5 a form "
        "was changed after it was measured.\n"
        "  ptq bisect results/before results/after --pick \"label=gptq bits=3 group_size=64\"\n"
        "  ptq bisect results/demo results/demo --pick \"bits=3 group_size=64 grid=minmax sym=0\" "
        "--old label=rtn --new label=gptq",
    .flags = flags,
    .min_positional = 2,
    .max_positional = 2,
    .run = run,
};
