#include "cli/compared.h"
#include "analysis/put.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

enum { WIDTH = 64, N_COLUMNS = 16 };
static const char *const columns[N_COLUMNS] = {
    "setting",  "quality",  "bits",       "cells",      "change",    "lo",
    "hi",       "p_holm",   "least_seen", "layers_pct", "worst_pct", "worst_layer",
    "bits_old", "bits_new", "draws",      "why"};
static const bool numeric[N_COLUMNS] = {false, false, false, true,  true, true, true,  true,
                                        true,  true,  true,  false, true, true, false, false};

static void put(char cell[WIDTH], const char *format, double v)
{
    if (isfinite(v))
        snprintf(cell, WIDTH, format, v);
    else
        snprintf(cell, WIDTH, "-");
}

static int add_setting(struct ptq_table *t, const struct ptq_compared *c)
{
    char n[WIDTH], change[WIDTH], lo[WIDTH], hi[WIDTH], p[WIDTH], least[WIDTH], mean[WIDTH],
        worst[WIDTH], old[WIDTH], new[WIDTH], layer[WIDTH];
    const struct ptq_interval *i = &c->model.change;
    const bool w = c->has_windows, l = c->layers.n > 0;
    snprintf(n, sizeof n, "%" PRId64, c->n_cells);
    put(change, "%+.6f", w ? i->mean : NAN);
    put(lo, "%+.6f", w ? i->lo : NAN);
    put(hi, "%+.6f", w ? i->hi : NAN);
    put(p, "%.2g", w ? c->model.p_holm : NAN);
    put(least, "%.6f", w ? c->model.least_seen : NAN);
    put(mean, "%+.2f", l ? 100 * (c->layers.mean - 1) : NAN);
    put(worst, "%+.2f", l ? 100 * (c->layers.worst - 1) : NAN);
    put(old, "%.4f", c->bits_old);
    put(new, "%.4f", c->bits_new);
    snprintf(layer, sizeof layer, "%s",
             l && c->layers.worst > 1 && c->layers.worst_name ? c->layers.worst_name : "-");
    for (char *k = layer; *k; k++)
        *k = (unsigned char)*k < ' ' || *k == 127 ? '?' : *k;
    const char *const cells[] = {c->name,
                                 ptq_quality_words[c->quality],
                                 !c->n_hashed   ? "-"
                                 : c->n_changed ? "CHANGED"
                                                : "SAME",
                                 n,
                                 change,
                                 lo,
                                 hi,
                                 p,
                                 least,
                                 mean,
                                 worst,
                                 layer,
                                 old,
                                 new,
                                 c->seeds.n < 2    ? "-"
                                 : c->seeds.beyond ? "beyond"
                                                   : "within",
                                 c->reason};
    return ptq_table_row(t, cells);
}

static void tell(const struct ptq_comparison *c, const struct ptq_compare_options *o)
{
    printf("\nbits         %s\nquality      %s\n", c->bits_changed ? "CHANGED" : "SAME",
           ptq_quality_words[c->quality]);
    if (c->n_windows)
        printf("interval     %.0f %% of NEW - OLD, nats/token, paired over %" PRId64
               " windows; p: Holm's over the settings, alarm at %.3g; margin %g nats/token\n",
               100 * (1 - o->alpha), c->n_windows, o->alpha, o->margin);
    printf("layers       change in %% of the geometric mean of their errors and of the worst; they "
           "count beyond %g and %g %% where windows do not decide\n",
           100 * o->mean_tolerance, 100 * o->layer_tolerance);
    for (int i = 0; i < c->n_remarks; i++) {
        printf("note         ");
        ptq_put_text(stdout, c->remarks[i]);
        putchar('\n');
    }
    ptq_put_text(stdout, c->why);
    putchar('\n');
}

int ptq_compared_print(const struct ptq_comparison *c, const struct ptq_compare_options *o,
                       enum ptq_format format, struct ptq_status *st)
{
    if (!c->comparable) {
        fputs("NOT COMPARABLE: ", stderr);
        ptq_put_text(stderr, c->why);
        fputc('\n', stderr);
        return PTQ_OK;
    }
    struct ptq_table *t = ptq_table_new(N_COLUMNS, columns, numeric);
    int code = t ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int64_t i = 0; !code && i < c->n; i++)
        code = add_setting(t, &c->at[i]);
    if (!code)
        ptq_table_print(t, format, stdout);
    ptq_table_free(t);
    if (code)
        return ptq_status_nomem(st, "a table", 0);
    if (format == PTQ_TEXT)
        tell(c, o);
    return PTQ_OK;
}
