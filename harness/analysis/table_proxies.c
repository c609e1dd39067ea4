/* table_proxies.c: how well each proxy orders what perplexity orders, and where it does not. */
#include "analysis/proxies.h"
#include "analysis/strata.h"
#include <inttypes.h>
#include <math.h>

static const char *name_of(const struct ptq_proxies *p, int64_t cell)
{
    return p->d->series[p->cell[cell]->series];
}

static void put_range(struct ptq_sheet *s, int column, double lo, double hi)
{
    ptq_sheet_set(s, column, isnan(lo) ? "-" : "[%.2f, %.2f]", lo, hi);
}

struct columns {
    int id, rho, interval, without, pooled, wrong, factor, factor_interval, ratio;
};

static void lay_out(struct ptq_sheet *s, struct columns *c)
{
    c->id = ptq_sheet_column(s, "proxy", "proxy\n", false, 0);
    c->rho = ptq_sheet_column(s, "rho", "rho in\nstrata", true, 0);
    c->interval = ptq_sheet_column(s, "interval", "95 %\n(windows)", false, 0);
    c->without = ptq_sheet_column(s, "without", "without\na method", false, 3);
    c->pooled = ptq_sheet_column(s, "rho_pooled", "rho\npooled", true, 0);
    c->wrong = ptq_sheet_column(s, "wrong", "pairs\nwrong", true, 0);
    c->factor = ptq_sheet_column(s, "factor", "off by\na factor", true, 0);
    c->factor_interval = ptq_sheet_column(s, "factor_interval", "95 %\n(windows)", false, 4);
    c->ratio = ptq_sheet_column(s, "ratio", "over\nloss", true, 2);
}

static void put_proxy(const struct ptq_proxy *x, const struct columns *c, struct ptq_sheet *s)
{
    const struct ptq_proxy_fit *f = &x->fit;
    ptq_sheet_row(s);
    ptq_sheet_set(s, c->id, "%s", x->id);
    ptq_sheet_set(s, c->rho, "%.2f", f->rho);
    put_range(s, c->interval, f->rho_lo, f->rho_hi);
    put_range(s, c->without, f->rho_least, f->rho_most);
    ptq_sheet_set(s, c->pooled, "%.2f", f->rho_pooled);
    if (f->n_pairs)
        ptq_sheet_set(s, c->wrong, "%.0f %%", 100 * f->n_wrong / (double)f->n_pairs);
    ptq_sheet_set(s, c->factor, "%.2f", f->factor);
    put_range(s, c->factor_interval, f->factor_lo, f->factor_hi);
    if (x->in_nats)
        ptq_sheet_set(s, c->ratio, "%.2f", f->ratio);
    else
        ptq_sheet_set(s, c->ratio, "-");
}

int ptq_table_proxies(const struct ptq_tables *t, const struct ptq_proxies *p, struct ptq_sheet *s)
{
    struct columns c;
    int code = ptq_sheet_init(s, 9, p->n, t->arena, t->st);
    if (code)
        return code;
    lay_out(s, &c);
    for (int64_t i = 0; i < p->n; i++)
        put_proxy(&p->at[i], &c, s);
    return t->st->code < 0 ? t->st->code : PTQ_OK;
}

/* ---- where they break ---- */

/* "2 bits, row", "3 bits, 32, inputs 8": a line holds two of them. */
static void put_stratum(const struct ptq_tables *t, struct ptq_sheet *s, int column,
                        const struct ptq_point *x)
{
    const int64_t a_bits = ptq_inputs_bits(x);
    const char *inputs =
        a_bits ? ptq_arena_printf(t->arena, t->st, ", inputs %" PRId64, a_bits) : "";
    ptq_sheet_set(s, column, "%" PRId64 " bits, %s%s", x->bits, ptq_group_text(t, x->group),
                  inputs ? inputs : "");
}

static void put_loss(struct ptq_sheet *s, int column, const struct ptq_proxies *p, int64_t cell)
{
    ptq_sheet_set(s, column, "%s %+.4f", name_of(p, cell), p->study.loss[cell]);
}

int ptq_table_breaks(const struct ptq_tables *t, const struct ptq_proxies *p, struct ptq_sheet *s)
{
    int code = ptq_sheet_init(s, 6, p->n, t->arena, t->st);
    if (code)
        return code;
    const int id = ptq_sheet_column(s, "proxy", NULL, false, 0),
              rho = ptq_sheet_column(s, "worst_rho", "least rho", true, 0),
              worst = ptq_sheet_column(s, "worst_stratum", "in", false, 0),
              prefers = ptq_sheet_column(s, "prefers", "prefers (dnll)", false, 0),
              to = ptq_sheet_column(s, "to", "to (dnll)", false, 0),
              at = ptq_sheet_column(s, "at", NULL, false, 0);
    for (int64_t i = 0; i < p->n; i++) {
        const struct ptq_proxy_fit *f = &p->at[i].fit;
        ptq_sheet_row(s);
        ptq_sheet_set(s, id, "%s", p->at[i].id);
        ptq_sheet_set(s, rho, "%.2f", f->worst_rho);
        put_stratum(t, s, worst, p->stratum[f->worst_stratum]);
        if (f->better < 0) {
            ptq_sheet_set(s, prefers, "no decided pair wrong");
            continue;
        }
        put_loss(s, prefers, p, f->better);
        put_loss(s, to, p, f->worse);
        put_stratum(t, s, at, p->cell[f->better]);
    }
    return t->st->code < 0 ? t->st->code : PTQ_OK;
}

/* ---- the same, exact ---- */

static const struct {
    const char *id;
    bool numeric;
} heads[] = {{"model", false},
             {"protocol", false},
             {"proxy", false},
             {"title", false},
             {"n_models", true},
             {"n_strata", true},
             {"rho", true},
             {"rho_lo", true},
             {"rho_hi", true},
             {"rho_without_min", true},
             {"rho_without_max", true},
             {"without_min", false},
             {"rho_pooled", true},
             {"ceiling", true},
             {"n_pairs", true},
             {"n_wrong", true},
             {"slope", true},
             {"factor", true},
             {"factor_lo", true},
             {"factor_hi", true},
             {"ratio", true},
             {"worst_stratum", false},
             {"worst_rho", true},
             {"prefers", false},
             {"to", false}};
enum { N_HEADS = sizeof heads / sizeof *heads };

static void put_number(struct ptq_sheet *s, int *column, double v)
{
    if (isfinite(v))
        ptq_sheet_set(s, *column, "%.17g", v);
    ++*column;
}

static void put_exact(const struct ptq_tables *t, const struct ptq_proxies *p,
                      const struct ptq_proxy *x, struct ptq_sheet *s)
{
    const struct ptq_proxy_fit *f = &x->fit;
    int c = 0;
    ptq_sheet_row(s);
    ptq_sheet_set(s, c++, "%s", p->d->model);
    ptq_sheet_set(s, c++, "%s", p->d->protocol);
    ptq_sheet_set(s, c++, "%s", x->id);
    ptq_sheet_set(s, c++, "%s", x->title);
    ptq_sheet_set(s, c++, "%" PRId64, f->n_cells);
    ptq_sheet_set(s, c++, "%" PRId64, f->n_strata);
    const double ranks[] = {f->rho, f->rho_lo, f->rho_hi, f->rho_least, f->rho_most};
    for (int i = 0; i < 5; i++)
        put_number(s, &c, ranks[i]);
    ptq_sheet_set(s, c++, "%s", f->without_least ? f->without_least : "");
    const double others[] = {f->rho_pooled, p->study.ceiling, (double)f->n_pairs,
                             f->n_wrong,    f->slope,         f->factor,
                             f->factor_lo,  f->factor_hi,     x->in_nats ? f->ratio : NAN};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        put_number(s, &c, others[i]);
    if (f->worst_stratum >= 0)
        ptq_sheet_set(s, c, "%s", ptq_stratum_text(t, p->stratum[f->worst_stratum]));
    c++;
    put_number(s, &c, f->worst_rho);
    if (f->better >= 0) {
        ptq_sheet_set(s, c++, "%s", name_of(p, f->better));
        ptq_sheet_set(s, c++, "%s", name_of(p, f->worse));
    }
}

int ptq_table_proxies_exact(const struct ptq_tables *t, struct ptq_sheet *s)
{
    int64_t room = 0;
    for (int64_t b = 0; b < t->v->n_boards; b++)
        room += t->proxies[b].n;
    int code = ptq_sheet_init(s, N_HEADS, room, t->arena, t->st);
    for (int i = 0; i < N_HEADS && !code; i++)
        ptq_sheet_column(s, heads[i].id, NULL, heads[i].numeric, 0);
    for (int64_t b = 0; b < t->v->n_boards && !code; b++)
        for (int64_t i = 0; i < t->proxies[b].n; i++)
            put_exact(t, &t->proxies[b], &t->proxies[b].at[i], s);
    return code ? code : t->st->code < 0 ? t->st->code : PTQ_OK;
}

/* ---- what stands beside it ---- */

struct notes {
    const struct ptq_tables *t;
    const char **at;
    int n;
};
enum { MOST_NOTES = 8 };

static void add(struct notes *n, const char *text)
{
    if (text && n->n < MOST_NOTES)
        n->at[n->n++] = text;
}

/* "13", "4 to 6": of the strata that count */
static const char *settings_each(const struct ptq_tables *t, const struct ptq_proxies *p)
{
    int64_t least = INT64_MAX, most = 0;
    for (int64_t x = 0; x < p->study.of.n_strata; x++) {
        int64_t n = 0;
        for (int64_t i = 0; i < p->study.of.n; i++)
            n += p->study.of.stratum[i] == x;
        if (!p->study.counts[x])
            continue;
        least = n < least ? n : least;
        most = n > most ? n : most;
    }
    const char *text =
        least == most ? ptq_arena_printf(t->arena, t->st, "%" PRId64, most)
                      : ptq_arena_printf(t->arena, t->st, "%" PRId64 " to %" PRId64, least, most);
    return text ? text : "";
}

static const char *cells_note(const struct ptq_tables *t, const struct ptq_proxies *p)
{
    const char *others = p->study.n_counted == p->study.of.n_strata
                             ? ""
                             : ptq_arena_printf(t->arena, t->st,
                                                "; the others have fewer than %" PRId64
                                                ", or an order that the text does "
                                                "not tell",
                                                p->study.of.least);
    return ptq_arena_printf(
        t->arena, t->st,
        "%" PRId64 " models in %" PRId64 " of %" PRId64
        " strata of equal bits, inputs and group, %s settings each%s. Left out before: %" PRId64
        " settings of other stored bits than their stratum (by 5 %%), %" PRId64
        " copies of another's codes, %" PRId64 " not ranked.",
        p->study.n_cells, p->study.n_counted, p->study.of.n_strata, settings_each(t, p),
        others ? others : "", p->n_other_bits, p->n_copies, p->n_unfit);
}

static const char *runs_note(const struct ptq_tables *t, const struct ptq_proxies *p)
{
    if (!p->runs)
        return "lin_* and *_few need short runs of the models: [eval] proxies = 16 in the sweep.";
    const char *linear =
        isnan(p->linearity)
            ? ""
            : ptq_arena_printf(t->arena, t->st,
                               "; four times the noise in one layer gives %.2f times four times "
                               "the loss",
                               p->linearity);
    return ptq_arena_printf(t->arena, t->st, "lin_* and *_few: from %s%s.", p->runs,
                            linear ? linear : "");
}

const char **ptq_proxies_notes(const struct ptq_tables *t, const struct ptq_proxies *p)
{
    struct notes n = {t, ptq_arena_alloc(t->arena, t->st, MOST_NOTES + 1, sizeof *n.at), 0};
    if (!n.at)
        return NULL;
    if (p->none) {
        add(&n, p->none);
        return n.at;
    }
    const char *ceiling =
        isnan(p->study.ceiling)
            ? ""
            : ptq_arena_printf(t->arena, t->st,
                               "A proxy of the true loss itself would show %.2f here. ",
                               p->study.ceiling);
    add(&n, cells_note(t, p));
    add(&n, ptq_arena_printf(
                t->arena, t->st,
                "rho in strata: mean over them of Spearman's correlation with dnll; beside it what "
                "the windows' noise (basic bootstrap; kl_mean is of the same windows and stays as "
                "it is) and leaving out one method make of it. %sPooled over the strata every "
                "error falls with the bits, so that figure says little.",
                ceiling ? ceiling : ""));
    add(&n, "pairs wrong: of the pairs inside a stratum that the text tells apart (95 %, paired "
            "over windows), the share that the proxy puts the other way round. off by a factor: "
            "one standard deviation about a line in log loss and log proxy. over loss: median "
            "ratio to the loss, of proxies in nats.");
    add(&n, runs_note(t, p));
    return n.at;
}
