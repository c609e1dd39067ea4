/* plot_proxies.c: the data of the picture of proxies: a panel a proxy, a point a model. */
#include "analysis/plot_data.h"
#include "analysis/proxies.h"
#include "analysis/put.h"
#include <inttypes.h>
#include <math.h>

static void put_value(FILE *f, double v)
{
    if (isfinite(v) && v > 0) /* a log axis has no other place */
        fprintf(f, "\t%.17g", v);
    else
        fputs("\tNaN", f);
}

/* Series are the strata that count, from 1. */
static int64_t series_of(const struct ptq_proxies *p, int64_t stratum)
{
    int64_t n = 0;
    for (int64_t x = 0; x <= stratum; x++)
        n += p->study.counts[x];
    return n;
}

static int write_proxies(const struct ptq_tables *t, int64_t board, const char *path)
{
    const struct ptq_proxies *p = &t->proxies[board];
    struct ptq_buffer b;
    if (ptq_buffer_open(&b, t->st))
        return PTQ_ERR_MEMORY;
    fputs("panel\tproxy\tseries\tname\tbits\tgroup_size\tvalue\tloss\n", b.f);
    for (int64_t k = 0; k < p->n; k++)
        for (int64_t i = 0; i < p->study.of.n; i++) {
            const int64_t stratum = p->study.of.stratum[i];
            if (!p->study.counts[stratum])
                continue;
            fprintf(b.f, "%" PRId64 "\t%s\t%" PRId64 "\t", k + 1, p->at[k].id,
                    series_of(p, stratum));
            ptq_put_tsv(b.f, p->d->series[p->cell[i]->series]);
            fprintf(b.f, "\t%" PRId64 "\t%" PRId64, p->cell[i]->bits, p->cell[i]->group);
            put_value(b.f, p->at[k].value[i]);
            put_value(b.f, p->study.loss[i]);
            fputc('\n', b.f);
        }
    return ptq_buffer_save(&b, path, t->st);
}

static int series(const struct ptq_tables *t, const struct ptq_board *d, struct ptq_plot_series *s)
{
    const struct ptq_proxies *p = ptq_proxies_of(t, d);
    const char **names = ptq_arena_alloc(t->arena, t->st, p->study.n_counted, sizeof *names);
    const char **panels = ptq_arena_alloc(t->arena, t->st, p->n, sizeof *panels);
    if (!names || !panels)
        return PTQ_ERR_MEMORY;
    *s = (struct ptq_plot_series){names, 0, panels, 0};
    for (int64_t x = 0; x < p->study.of.n_strata; x++)
        if (p->study.counts[x])
            names[s->n++] = ptq_stratum_text(t, p->stratum[x]);
    for (int64_t k = 0; k < p->n; k++) {
        panels[s->n_panels] =
            ptq_arena_printf(t->arena, t->st, "%s  %.2f", p->at[k].id, p->at[k].fit.rho);
        if (!panels[s->n_panels++])
            return PTQ_ERR_MEMORY;
    }
    return PTQ_OK;
}

static const char *missing(const struct ptq_tables *t, const struct ptq_board *d)
{
    return ptq_proxies_of(t, d)->none;
}

const struct ptq_plot_data ptq_proxy_data = {"proxy", write_proxies, series, missing};
