#include "analysis/gnuplot.h"
#include "analysis/plot.h"
#include "cli/bench.h"
#include "core/json.h"
#include "core/paths.h"
#include "core/words.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CELL = 256 };

/* ---- columns ---- */

enum column_kind { TEXT, WHOLE, REAL };
struct value {
    const char *text;
    int64_t whole;
    double real;
};
typedef struct value column_fn(const struct ptq_bench_row *);
static struct value text(const char *s)
{
    return (struct value){.text = s};
}
static struct value whole(int64_t n)
{
    return (struct value){.whole = n};
}
static struct value real(double v)
{
    return (struct value){.real = v};
}

#define COLUMN(name, what)                                                                         \
    static struct value column_##name(const struct ptq_bench_row *r)                               \
    {                                                                                              \
        return what;                                                                               \
    }
COLUMN(op, text(r->op))
COLUMN(weights, text(*r->weights ? r->weights : "-"))
COLUMN(rows, whole(r->rows))
COLUMN(cols, whole(r->cols))
COLUMN(batch, whole(r->batch))
COLUMN(threads, whole(r->threads))
COLUMN(isa, text(r->isa))
COLUMN(kernel, text(*r->kernel ? r->kernel : "-"))
COLUMN(us, real(r->result.ns.median / 1e3))
COLUMN(spread, real(r->result.spread))
COLUMN(best_us, real(r->result.ns.least / 1e3))
COLUMN(gbs, real(r->work.bytes / r->result.ns.median))
COLUMN(gops, real(r->work.ops / r->result.ns.median))
COLUMN(gvals, real(r->work.values / r->result.ns.median))
COLUMN(bound, text(r->result.share.bound ? r->result.share.bound : "-"))
COLUMN(share, real(r->result.share.share))
COLUMN(best, real(r->result.best))
COLUMN(cached, real(r->cached))
COLUMN(share_memory, real(r->result.share.memory))
COLUMN(share_ops, real(r->result.share.ops))
COLUMN(vs_blas, real(r->vs_blas))
COLUMN(vs_onednn, real(r->vs_onednn))
COLUMN(limit_gbs, real(r->result.limit.gbs))
COLUMN(limit_gops, real(r->result.limit.gops))
COLUMN(memory, text(r->timed ? ptq_probe_names[r->work.memory] : "-"))
COLUMN(arithmetic,
       text(r->timed && r->work.arithmetic >= 0 ? ptq_probe_names[r->work.arithmetic] : "-"))
COLUMN(rounds, whole(r->result.rounds))
COLUMN(marked, whole(r->result.marked))
COLUMN(others, real(r->result.others))
COLUMN(stolen, real(r->result.stolen))
COLUMN(copies, whole(r->work.copies))
COLUMN(intensity, real(r->work.bytes > 0 ? r->work.ops / r->work.bytes : 0))
COLUMN(note, text(r->note))

static const struct column {
    const char *name, *heading; /* of CSV and JSON Lines; of text and Markdown, NULL: not there */
    enum column_kind kind;
    int decimals;
    double times; /* of text and Markdown */
    bool measured;
    column_fn *value;
} columns[] = {
    {"op", "op", TEXT, .value = column_op},
    {"weights", "weights", TEXT, .value = column_weights},
    {"rows", "rows", WHOLE, .value = column_rows},
    {"cols", "cols", WHOLE, .value = column_cols},
    {"batch", "n", WHOLE, .value = column_batch},
    {"threads", NULL, WHOLE, .value = column_threads},
    {"isa", NULL, TEXT, .value = column_isa},
    {"kernel", "kernel", TEXT, .value = column_kernel},
    {"us", "us", REAL, 2, 1, true, column_us},
    {"spread", "+-%", REAL, 1, 100, true, column_spread},
    {"best_us", NULL, REAL, 1, 1, true, column_best_us},
    {"gbs", "GB/s", REAL, 1, 1, true, column_gbs},
    {"gops", "Gop/s", REAL, 1, 1, true, column_gops},
    {"gvals", "Gval/s", REAL, 2, 1, true, column_gvals},
    {"bound", "bound", TEXT, .measured = true, .value = column_bound},
    {"share", "share", REAL, 3, 1, true, column_share},
    {"best_share", "best", REAL, 3, 1, true, column_best},
    {"share_memory", "mem%", REAL, 0, 100, true, column_share_memory},
    {"share_ops", "ops%", REAL, 0, 100, true, column_share_ops},
    {"cached", "cached", REAL, 3, 1, true, column_cached},
    {"vs_blas", "xBLAS", REAL, 2, 1, true, column_vs_blas},
    {"vs_onednn", "xDNN", REAL, 2, 1, true, column_vs_onednn},
    {"limit_gbs", NULL, REAL, 1, 1, true, column_limit_gbs},
    {"limit_gops", NULL, REAL, 1, 1, true, column_limit_gops},
    {"memory_probe", NULL, TEXT, .measured = true, .value = column_memory},
    {"arithmetic_probe", NULL, TEXT, .measured = true, .value = column_arithmetic},
    {"rounds", NULL, WHOLE, .measured = true, .value = column_rounds},
    {"marked", NULL, WHOLE, .measured = true, .value = column_marked},
    {"other_processors", NULL, REAL, 2, 1, true, column_others},
    {"stolen_processors", NULL, REAL, 2, 1, true, column_stolen},
    {"copies", NULL, WHOLE, .measured = true, .value = column_copies},
    {"intensity", NULL, REAL, 3, 1, true, column_intensity},
    {"note", "note", TEXT, .value = column_note},
};
enum { N_COLUMNS = sizeof columns / sizeof *columns };

/* Zero stands for what there is none of. */
static void cell(const struct column *c, const struct ptq_bench_row *r, bool people, char *out)
{
    const struct value v = c->value(r);
    snprintf(out, CELL, "-");
    if (c->measured && !r->timed)
        return;
    switch (c->kind) {
    case TEXT: snprintf(out, CELL, "%s", v.text); break;
    case WHOLE: snprintf(out, CELL, "%lld", (long long)v.whole); break;
    case REAL:
        if (v.real == 0 && strcmp(c->name, "spread"))
            break;
        if (people)
            snprintf(out, CELL, "%.*f", c->decimals, v.real * c->times);
        else
            snprintf(out, CELL, "%.6g", v.real);
    }
}

static int print_table(const struct ptq_bench_sheet *s, enum ptq_format format, FILE *f,
                       struct ptq_status *st)
{
    const bool people = format == PTQ_TEXT || format == PTQ_MD;
    const char *name[N_COLUMNS];
    const struct column *shown[N_COLUMNS];
    bool numeric[N_COLUMNS];
    int n = 0;
    for (int i = 0; i < N_COLUMNS; i++) {
        if (people && !columns[i].heading)
            continue;
        name[n] = people ? columns[i].heading : columns[i].name;
        numeric[n] = columns[i].kind != TEXT;
        shown[n++] = &columns[i];
    }
    struct ptq_table *t = ptq_table_new(n, name, numeric);
    int code = t ? PTQ_OK : ptq_status_nomem(st, "a table", 0);
    for (int64_t i = 0; !code && i < s->n; i++) {
        char cells[N_COLUMNS][CELL];
        const char *row[N_COLUMNS];
        for (int c = 0; c < n; c++) {
            cell(shown[c], &s->row[i], people, cells[c]);
            row[c] = cells[c];
        }
        code = ptq_table_row(t, row) ? ptq_status_nomem(st, "a table", 0) : PTQ_OK;
    }
    if (!code)
        ptq_table_print(t, format, f);
    ptq_table_free(t);
    return code;
}

/* ---- what machine it was ---- */

static void print_limits(const struct ptq_bench_sheet *s, FILE *f)
{
    static const char *const units[] = {"GB/s", "GB/s", "GFLOP/s", "Gop/s"};
    fputs("limits, best probe:", f);
    const char *comma = " ";
    for (int l = 0; l < ptq_n_probe_loops; l++)
        if (s->bench->probe.best[l] > 0) {
            const struct ptq_probe_loop *p = &ptq_probe_loops[l];
            fprintf(f, "%s%s %.1f %s (%s)", comma, ptq_probe_names[p->kind],
                    s->bench->probe.best[l], units[p->kind], p->name);
            comma = ", ";
        }
    fputs("\n", f);
}

static void print_machine(const struct ptq_bench_sheet *s, FILE *f)
{
    const struct ptq_bench *b = s->bench;
    fprintf(f, "%s, %d threads, last cache %.0f MiB, data rotate through %.0f MiB, BLAS core %s\n",
            s->machine->cpu, ptq_pool_threads(b->probe.pool), (double)b->cache_bytes / (1 << 20),
            (double)b->rotate_bytes / (1 << 20), s->machine->blas_core);
    print_limits(s, f);
    fputs("\n", f);
}

static void print_disturbance(const struct ptq_bench_sheet *s, FILE *f)
{
    int64_t rounds = 0, marked = 0;
    double most = 0;
    for (int64_t i = 0; i < s->n; i++) {
        rounds += s->row[i].result.rounds;
        marked += s->row[i].result.marked;
        most = s->row[i].result.others > most ? s->row[i].result.others : most;
    }
    if (marked)
        fprintf(f,
                "\n%lld of %lld repetitions were disturbed; other processes took up to %.2f "
                "processors: these are not the figures of a quiet machine\n",
                (long long)marked, (long long)rounds, most);
}

int ptq_bench_print(const struct ptq_bench_sheet *s, enum ptq_format format, void *file,
                    struct ptq_status *st)
{
    const bool people = format == PTQ_TEXT || format == PTQ_MD;
    if (people)
        print_machine(s, file);
    const int code = print_table(s, format, file, st);
    if (!code && people)
        print_disturbance(s, file);
    return code;
}

/* ---- the picture ---- */

static void print_tsv(const struct ptq_bench_sheet *s, FILE *f)
{
    char text_of[CELL];
    fputs("label\tfirst", f);
    for (int i = 0; i < N_COLUMNS; i++)
        if (columns[i].kind != TEXT || !strcmp(columns[i].name, "arithmetic_probe"))
            fprintf(f, "\t%s", columns[i].name);
    fputs("\n", f);
    for (int64_t r = 0; r < s->n; r++) {
        const struct ptq_bench_row *row = &s->row[r];
        if (!row->timed || row->work.ops == 0)
            continue;
        fprintf(f, "%s%s%s n=%lld\t%d", row->op, row->weights[0] ? " " : "", row->weights,
                (long long)row->batch, r == 0);
        for (int i = 0; i < N_COLUMNS; i++)
            if (columns[i].kind != TEXT || !strcmp(columns[i].name, "arithmetic_probe")) {
                cell(&columns[i], row, false, text_of);
                fprintf(f, "\t%s", strcmp(text_of, "-") ? text_of : "NaN");
            }
        fputs("\n", f);
    }
}

static int write_tsv(const struct ptq_bench_sheet *s, const char *path, struct ptq_status *st)
{
    char *text_of = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text_of, &bytes);
    if (!f)
        return ptq_status_nomem(st, "a picture's data", 0);
    print_tsv(s, f);
    int code = fclose(f) ? ptq_status_nomem(st, "a picture's data", bytes) : PTQ_OK;
    code = code ? code : ptq_write_file(path, text_of, bytes, st);
    free(text_of);
    return code;
}

/* In single quotes gnuplot reads everything but two of them as it stands. */
static char *quoted(const char *s, struct ptq_arena *a, struct ptq_status *st)
{
    char *out = ptq_arena_alloc(a, st, 2 * (int64_t)strlen(s) + 3, 1), *at = out;
    if (!out)
        return NULL;
    *at++ = '\'';
    for (; *s; s++) {
        if (*s == '\'')
            *at++ = *s;
        *at++ = *s == '\n' ? ' ' : *s;
    }
    *at++ = '\'';
    return out;
}

static double best_of(const struct ptq_bench_sheet *s, enum ptq_probe_kind kind)
{
    double best = 0;
    for (int l = 0; l < ptq_n_probe_loops; l++)
        if (ptq_probe_loops[l].kind == kind && s->bench->probe.best[l] > best)
            best = s->bench->probe.best[l];
    return best;
}

static int adapt(const char *path, struct ptq_status *st)
{
    const struct ptq_plot plot = {.name = "roofline",
                                  .title = "Kernels under the machine's limits",
                                  .alt = "Operations a second over operations a byte, both on log "
                                         "scales, under the lines of memory and arithmetic."};
    char *svg, *out = NULL;
    size_t bytes;
    int code = ptq_read_file(path, 16 << 20, &svg, &bytes, st);
    if (code)
        return code;
    code = ptq_svg_adapt(svg, &plot, &out, &bytes, st);
    code = code ? code : ptq_write_file(path, out, bytes, st);
    free(svg);
    free(out);
    return code;
}

static int draw(const struct ptq_bench_sheet *s, const char *tsv, const char *out,
                struct ptq_arena *a, struct ptq_status *st)
{
    char *path, *style;
    int code = ptq_data_path("plots/_roofline.gp", a, &path, st);
    code = code ? code : ptq_data_path("plots/_style.gp", a, &style, st);
    if (code)
        return code;
    const bool png = ptq_ends_with(out, ".png");
    const char *q[] = {quoted(tsv, a, st), quoted(out, a, st), quoted(style, a, st),
                       quoted(s->machine->cpu, a, st)};
    const char *script =
        q[0] && q[1] && q[2] && q[3]
            ? ptq_arena_printf(a, st,
                               "data=%s; out=%s; style=%s; model=%s; title='Kernels under the "
                               "limits of this machine'; n_floor=0; read_gbs=%g; fma=%g; dot=%g; "
                               "term='%s'",
                               q[0], q[1], q[2], q[3], best_of(s, PTQ_PROBE_READ),
                               best_of(s, PTQ_PROBE_FMA), best_of(s, PTQ_PROBE_DOT),
                               png ? "pngcairo noenhanced" : "svg dynamic noenhanced")
            : NULL;
    if (!script)
        return PTQ_ERR_MEMORY;
    code = ptq_gnuplot(script, path, st);
    return code || png ? code : adapt(out, st);
}

int ptq_bench_draw(const struct ptq_bench_sheet *s, const char *out, struct ptq_status *st)
{
    struct ptq_arena a;
    ptq_arena_init(&a, 0);
    const char *dot = strrchr(out, '.');
    const char *tsv = ptq_arena_printf(&a, st, "%.*s.tsv", (int)(dot ? dot - out : 0), out);
    bool any = false;
    for (int64_t i = 0; i < s->n; i++)
        any |= s->row[i].timed && s->row[i].work.ops > 0;
    int code = !tsv  ? PTQ_ERR_MEMORY
               : any ? write_tsv(s, tsv, st)
                     : ptq_status_set(st, PTQ_SKIP, "no row counts operations");
    code = code ? code : draw(s, tsv, out, &a, st);
    ptq_arena_clear(&a);
    return code;
}
