#include "analysis/bisect_parts.h"
#include "core/progress.h"
#include "sweep/row.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

struct search {
    struct ptq_walk w;
    struct ptq_bisect *out;
    struct ptq_progress *progress;
    struct ptq_waypoint first; /* before the first block that differs: both models agree there */
};

/* Changed layers lo .. hi - 1; nll of the hybrids with lo and with hi of them NEW's. */
struct range {
    int64_t lo, hi;
    const double *at_lo, *at_hi;
    const struct ptq_waypoint *from; /* of the hybrid lo, at or before the block of layer lo */
};

static double *windows(struct search *s, struct ptq_status *st)
{
    return ptq_arena_alloc(s->w.arena, st, s->w.text.tokens.n_seq, sizeof(double));
}

static int probe(struct search *s, const struct ptq_waypoint *from, int64_t n_new, double *nll,
                 struct ptq_status *st)
{
    char label[160];
    const struct ptq_hybrid h = {.n_new = n_new};
    int rc = ptq_walk_score(&s->w, from, &h, nll, st);
    snprintf(label, sizeof label, "%lld of %lld layers NEW's: NLL %.6f", (long long)n_new,
             (long long)s->w.n_changed, rc ? NAN : ptq_walk_nll(&s->w, nll));
    ptq_progress_step(s->progress, label);
    return rc;
}

static const struct ptq_site *changed(const struct search *s, int64_t k)
{
    return &s->w.site[s->w.changed_site[k]];
}

static bool differs_surely(const struct ptq_interval *d)
{
    return d->lo > 0 || d->hi < 0;
}

/* The largest that a range may carry, against the whole: below the share it is not looked into.
 * Where the whole is nothing (layers that cancel), every sure difference is. */
static bool matters(const struct search *s, const struct ptq_interval *d)
{
    const double whole = fabs(s->out->total.mean);
    return differs_surely(d) && fabs(d->mean) >= s->w.args->share * whole;
}

static int add_range(struct search *s, const struct range *r, const struct ptq_interval *d,
                     bool guilty, bool out_of_probes, struct ptq_status *st)
{
    struct ptq_bisect_range *x = &s->out->range[s->out->n_ranges++];
    *x = (struct ptq_bisect_range){.first = changed(s, r->lo)->name,
                                   .last = changed(s, r->hi - 1)->name,
                                   .n_layers = r->hi - r->lo,
                                   .dnll = *d,
                                   .guilty = guilty,
                                   .split = out_of_probes};
    if (!guilty || x->n_layers > 1)
        return PTQ_OK;
    return ptq_bisect_parts(&s->w, s->w.changed_site[r->lo], &s->first, &x->parts, st);
}

static int search(struct search *s, const struct range *r, struct ptq_status *st);

static int halve(struct search *s, const struct range *r, struct ptq_status *st)
{
    const int64_t mid = (r->lo + r->hi) / 2;
    const struct ptq_hybrid h = {.n_new = mid};
    struct ptq_waypoint here, there = {0, NULL};
    double *at_mid = windows(s, st);
    if (!at_mid)
        return PTQ_ERR_MEMORY;
    int rc = ptq_waypoint_at(&s->w, r->from, changed(s, r->lo)->block, &h, &here, st);
    if (!rc)
        rc = probe(s, &here, mid, at_mid, st);
    if (!rc)
        rc = search(s, &(struct range){r->lo, mid, r->at_lo, at_mid, &here}, st);
    if (!rc)
        rc = ptq_waypoint_at(&s->w, &here, changed(s, mid)->block, &h, &there, st);
    ptq_waypoint_release(&here);
    if (!rc)
        rc = search(s, &(struct range){mid, r->hi, at_mid, r->at_hi, &there}, st);
    ptq_waypoint_release(&there);
    return rc;
}

static int search(struct search *s, const struct range *r, struct ptq_status *st)
{
    struct ptq_interval d;
    ptq_walk_difference(&s->w, r->at_lo, r->at_hi, &d);
    const bool guilty = matters(s, &d), may_split = r->hi - r->lo > 1;
    const bool out_of_probes = s->w.n_probes >= s->w.args->most_probes;
    /* The whole is always looked into: layers may cancel each other. */
    const bool whole = r->lo == 0 && r->hi == s->w.n_changed;
    if (may_split && (guilty || whole) && !out_of_probes)
        return halve(s, r, st);
    return add_range(s, r, &d, guilty, may_split && guilty, st);
}

static int name_rows(struct search *s, struct ptq_status *st)
{
    for (int side = 0; side < 2; side++) {
        const json_t *row = s->w.picked[side].row;
        snprintf(s->out->title[side], sizeof s->out->title[side], "%s: %s b%g g%g",
                 s->w.picked[side].run_dir, ptq_row_text(row, "label"), ptq_row_num(row, "bits"),
                 ptq_row_num(row, "group_size"));
    }
    s->out->model = ptq_arena_printf(s->w.arena, st, "%s", ptq_model_info(s->w.model)->name);
    s->out->text = s->w.text.name;
    s->out->protocol = s->w.text.protocol;
    s->out->n_layers = s->w.n_sites;
    s->out->n_changed = s->w.n_changed;
    return s->out->model ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int both_ends(struct search *s, double *old, double *new, struct ptq_status *st)
{
    const struct ptq_hybrid h = {.n_new = 0};
    struct ptq_waypoint start;
    int rc = ptq_waypoint_first(&s->w, &start, st);
    if (!rc)
        rc = ptq_waypoint_at(&s->w, &start, changed(s, 0)->block, &h, &s->first, st);
    ptq_waypoint_release(&start);
    if (!rc)
        rc = probe(s, &s->first, 0, old, st);
    if (!rc)
        rc = probe(s, &s->first, s->w.n_changed, new, st);
    return rc;
}

/* What the row was measured at, but for the rounding of another build or processor. */
static int check_nll(struct search *s, int side, const double *nll, struct ptq_status *st)
{
    static const double rounding = 1e-4; /* nats a token; a tenth of what `ptq compare` minds */
    const json_t *row = s->w.picked[side].row;
    const int64_t n = s->w.text.tokens.n_seq;
    double *measured = windows(s, st);
    if (!measured)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        measured[i] = ptq_row_window(row, i);
    const double was = ptq_walk_nll(&s->w, measured), is = ptq_walk_nll(&s->w, nll);
    if (ptq_row_n_windows(row) == n && fabs(is - was) <= rounding)
        return PTQ_OK;
    return ptq_status_set(
        st, PTQ_ERR_NUMERIC,
        "%s: the stored forms give an NLL of %.6f, its row says %.6f: they are not "
        "the model that was measured; run the sweep again",
        s->w.picked[side].run_dir, is, was);
}

static int find(struct search *s, struct ptq_status *st)
{
    double *old = windows(s, st), *new = windows(s, st);
    s->w.n_window = ptq_arena_alloc(s->w.arena, st, s->w.text.tokens.n_seq, sizeof(int64_t));
    s->out->range = ptq_arena_alloc(s->w.arena, st, s->w.n_changed, sizeof *s->out->range);
    if (!old || !new || !s->w.n_window || !s->out->range)
        return PTQ_ERR_MEMORY;
    int rc = both_ends(s, old, new, st);
    if (!rc)
        rc = check_nll(s, PTQ_OLD, old, st);
    if (!rc)
        rc = check_nll(s, PTQ_NEW, new, st);
    if (rc)
        return rc;
    s->w.zero_nll = old;
    s->out->nll[PTQ_OLD] = ptq_walk_nll(&s->w, old);
    s->out->nll[PTQ_NEW] = ptq_walk_nll(&s->w, new);
    ptq_walk_difference(&s->w, old, new, &s->out->total);
    return search(s, &(struct range){0, s->w.n_changed, old, new, &s->first}, st);
}

int ptq_bisect(const struct ptq_bisect_args *a, struct ptq_arena *arena, struct ptq_bisect *out,
               bool *comparable, struct ptq_status *st)
{
    struct search s = {.w = {.args = a, .arena = arena}, .out = out};
    *out = (struct ptq_bisect){.n_layers = 0};
    int rc = ptq_walk_open(&s.w, comparable, st);
    if (!rc)
        rc = name_rows(&s, st);
    if (!rc) {
        s.progress = ptq_progress_new("bisect", 0, a->quiet);
        rc = s.w.n_changed ? find(&s, st) : PTQ_OK;
        ptq_progress_free(s.progress);
        out->n_probes = s.w.n_probes;
    }
    ptq_waypoint_release(&s.first);
    ptq_walk_close(&s.w);
    return rc;
}
