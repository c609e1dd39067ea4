/* run.c: sessions: prepare once, quantize cells, check what comes back. */
#include "quant/run.h"
#include "core/clock.h"
#include "core/linalg.h"
#include "core/size.h"
#include "quant/ctx.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PREPARE_OPTIONS = 32 };

/* What prepare made for one value of the options marked so. The first cell computes it, the
 * others wait; failures are not kept. */
struct shared_work {
    struct shared_work *next;
    const struct ptq_method *method;
    double options[MAX_PREPARE_OPTIONS];
    bool ready;
    struct ptq_arena arena;
    const void *shared;
    struct ptq_note_value notes[PTQ_MAX_NOTES];
    int n_notes;
};

struct ptq_session {
    struct ptq_session_args args;
    struct ptq_factor_cache *own_cache, *cache;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct shared_work *works;
};

int ptq_session_new(struct ptq_session **out, const struct ptq_session_args *args,
                    struct ptq_status *st)
{
    struct ptq_session *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return ptq_status_nomem(st, "a session", sizeof *s);
    s->args = *args;
    s->cache = args->layer->hess_key ? args->cache
                                     : NULL; /* without a key two Hessians would be taken for one */
    if (!s->cache && ptq_factor_cache_new(&s->own_cache, st) != PTQ_OK) {
        free(s);
        return PTQ_ERR_MEMORY;
    }
    if (!s->cache)
        s->cache = s->own_cache;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    *out = s;
    return PTQ_OK;
}

static void work_free(struct shared_work *w)
{
    ptq_arena_clear(&w->arena);
    free(w);
}

void ptq_session_free(struct ptq_session *s)
{
    if (!s)
        return;
    while (s->works) {
        struct shared_work *w = s->works;
        s->works = w->next;
        work_free(w);
    }
    ptq_factor_cache_free(s->own_cache);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ---- which cells can be done ---- */

static int check_cell(const struct ptq_cell *c, const struct ptq_layer *l, struct ptq_status *st)
{
    if (c->w_bits < 1 || c->w_bits > 8)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: bits = %d; use 1 to 8", l->name, c->w_bits);
    if (c->a_bits && (c->a_bits < 2 || c->a_bits > 8))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: a_bits = %d; use 2 to 8, or 16 for inputs as they are", l->name,
                              c->a_bits);
    if (c->group_size < PTQ_GROUP_ROW)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: group_size = %lld; use -1 (row), 0 (tensor) or a number of columns", l->name,
            (long long)c->group_size);
    if (c->group_size > l->w.cols)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: group_size = %lld is larger than the row (%lld columns); use -1 for whole rows",
            l->name, (long long)c->group_size, (long long)l->w.cols);
    if (c->scale_fmt != PTQ_FMT_F16 && c->scale_fmt != PTQ_FMT_BF16 && c->scale_fmt != PTQ_FMT_F32)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: scales are f16, bf16 or f32", l->name);
    if (c->sym && c->sym_kind == PTQ_SYM_ABSMAX && c->w_bits == 1)
        return ptq_status_set(st, PTQ_SKIP, "sym_kind absmax has no grid at 1 bit (scale = A / 0)");
    return PTQ_OK;
}

static bool multiplies(const struct ptq_layer *l)
{
    return l->role != PTQ_ROLE_KCACHE && l->role != PTQ_ROLE_VCACHE;
}

static int check_caps(const char *name, const struct ptq_method *m, const struct ptq_cell *c,
                      const struct ptq_layer *l, struct ptq_status *st)
{
    const struct {
        bool wanted;
        unsigned cap;
        const char *what;
    } rules[] = {
        {c->sym, PTQ_CAP_SYM, "symmetric grids; set sym = 0 (no --sym)"},
        {!c->sym, PTQ_CAP_ASYM, "asymmetric grids; set sym = 1 (--sym)"},
        {c->group_size > 0, PTQ_CAP_GROUPS,
         m->caps & PTQ_CAP_TENSOR
             ? "groups of columns; set group_size = 0, one grid for the tensor (-g 0)"
             : "groups of columns; set group_size = -1 (-g -1)"},
        {c->group_size == PTQ_GROUP_TENSOR, PTQ_CAP_TENSOR,
         m->caps & PTQ_CAP_GROUPS
             ? "one grid for the tensor; set group_size = -1 for rows or a number of columns (-g)"
             : "one grid for the tensor; set group_size = -1 (-g -1)"},
        {c->grid == PTQ_GRID_MSE, PTQ_CAP_GRID_MSE, "grid = mse; set grid = minmax"},
        {c->grid == PTQ_GRID_HESS, PTQ_CAP_GRID_HESS,
         m->caps & PTQ_CAP_GRID_MSE ? "grid = hess; set grid = mse or minmax"
                                    : "grid = hess; set grid = minmax"},
        {!c->sym && !c->zero_in_range, PTQ_CAP_ZERO_FREE,
         "zeros out of range; set zero_in_range = 1 (no --zero-free)"},
        {c->a_bits != 0, PTQ_CAP_ACT, "inputs of fewer than 16 bits; set a_bits = 16 (-a 16)"},
        {!multiplies(l), PTQ_CAP_NO_PRODUCT, "matrices that multiply nothing (K and V caches)"},
    };
    if (c->a_bits && !multiplies(l))
        return ptq_status_set(st, PTQ_SKIP,
                              "%s multiplies nothing: there are no inputs to quantize", l->name);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].wanted && !(m->caps & rules[i].cap))
            return ptq_status_set(st, PTQ_SKIP, "%s cannot do %s", name, rules[i].what);
    return PTQ_OK;
}

static int check_needs(const struct ptq_spec *spec, const struct ptq_cell *c,
                       const struct ptq_layer *l, struct ptq_status *st)
{
    const char *name = spec->name;
    const unsigned needs = ptq_spec_needs(spec);
    const unsigned inputs = PTQ_NEEDS_HESS | PTQ_NEEDS_ACTS | PTQ_NEEDS_RANGES;
    if (((needs & inputs) || c->grid == PTQ_GRID_HESS) && !l->hess.at && l->acts.at &&
        ptq_all_zero(&l->acts))
        return ptq_status_set(st, PTQ_ERR_NUMERIC,
                              "%s: the activations are all zero, so %s has nothing to calibrate "
                              "with; look at how they were recorded (a hook on another module, "
                              "an empty buffer)",
                              l->name, needs & inputs ? name : "grid = hess");
    if ((needs & PTQ_NEEDS_HESS) && !l->hess.at)
        return ptq_status_set(
            st, PTQ_SKIP, "%s needs a Hessian or activations; layer %s has neither", name, l->name);
    if ((needs & PTQ_NEEDS_ACTS) && !l->acts.at)
        return ptq_status_set(st, PTQ_SKIP, "%s needs activations; layer %s has none", name,
                              l->name);
    if ((needs & PTQ_NEEDS_RANGES) && (!l->x_absmax || !l->x_absmean))
        return ptq_status_set(st, PTQ_SKIP,
                              "%s needs ranges of the inputs (x_absmax, x_absmean); layer %s has "
                              "none",
                              name, l->name);
    if (c->grid == PTQ_GRID_HESS && !l->hess.at)
        return ptq_status_set(st, PTQ_SKIP,
                              "grid = hess needs a Hessian or activations; layer %s has neither",
                              l->name);
    return PTQ_OK;
}

/* ---- one call of one hook ---- */

struct call {
    struct ptq_session *s;
    const struct ptq_spec *spec;
    const struct ptq_method *m;
    const struct ptq_layer *layer;
    struct ptq_cell cell;
    struct ptq_result *r;
    struct ptq_arena scratch; /* PTQ_ARENA_CALL */
    struct ptq_status *st;
};

static void ctx_open(struct ptq_ctx *x, struct call *c, struct ptq_note_value *notes, int n_notes)
{
    memset(x, 0, sizeof *x);
    x->call = &c->scratch;
    x->pool = c->s->args.pool;
    x->cache = c->s->cache;
    x->cancel = c->s->args.cancel;
    x->notes = notes;
    x->n_notes = n_notes;
    x->st = c->st;
    pthread_mutex_init(&x->lock, NULL);
}

/* Ends a hook: frees what was its own. A hook that failed without a message, or filled the
 * notes, is the method's bug. */
static int ctx_close(struct ptq_ctx *x, struct call *c, int rc)
{
    pthread_mutex_destroy(&x->lock);
    ptq_arena_clear(&c->scratch);
    if (rc == PTQ_OK && c->st->code < 0)
        rc = c->st->code;
    if (rc == PTQ_OK && x->notes_full)
        rc = ptq_status_set(
            c->st, PTQ_ERR_NUMERIC,
            "%s: more than %d notes, or a key over 31 bytes; this is a bug of the method",
            c->m->name, PTQ_METHOD_NOTES);
    if (rc != PTQ_OK && c->st->code == PTQ_OK)
        ptq_status_set(c->st, (enum ptq_code)rc,
                       "%s gave up on %s without a reason; this is a bug of the method", c->m->name,
                       c->layer->name);
    return rc;
}

/* ---- prepare ---- */

static void prepare_options(const struct ptq_spec *spec, const struct ptq_method *m,
                            double out[MAX_PREPARE_OPTIONS])
{
    int n = 0;
    memset(out, 0, MAX_PREPARE_OPTIONS * sizeof *out);
    for (const struct ptq_opt *o = m->opts; o && o->name; o++)
        if (o->prepare && n < MAX_PREPARE_OPTIONS)
            out[n++] = ptq_opt_value(o, spec->opts);
}

static struct shared_work *find_work(const struct ptq_session *s, const struct ptq_method *m,
                                     const double *options)
{
    struct shared_work *w = s->works;
    while (w && (w->method != m || memcmp(w->options, options, sizeof w->options)))
        w = w->next;
    return w;
}

/* The work of these options, or a new one that the caller must fill (*made). */
static struct shared_work *take_work(struct call *c, bool *made)
{
    struct ptq_session *s = c->s;
    struct shared_work *w;
    double options[MAX_PREPARE_OPTIONS];
    prepare_options(c->spec, c->m, options);
    *made = false;
    pthread_mutex_lock(&s->lock);
    while ((w = find_work(s, c->m, options)) && !w->ready)
        pthread_cond_wait(&s->changed, &s->lock);
    if (!w && (w = calloc(1, sizeof *w))) {
        w->method = c->m;
        memcpy(w->options, options, sizeof options);
        w->next = s->works;
        s->works = w;
        *made = true;
    }
    pthread_mutex_unlock(&s->lock);
    if (!w)
        ptq_status_nomem(c->st, "shared work of a layer", sizeof *w);
    return w;
}

static void work_done(struct ptq_session *s, struct shared_work *w, bool ok)
{
    pthread_mutex_lock(&s->lock);
    w->ready = ok;
    if (!ok) {
        struct shared_work **at = &s->works;
        while (*at != w)
            at = &(*at)->next;
        *at = w->next;
        work_free(w);
    }
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static int run_prepare(struct call *c, const void **shared)
{
    *shared = NULL;
    if (!c->m->prepare)
        return PTQ_OK;
    bool made;
    struct shared_work *w = take_work(c, &made);
    if (!w)
        return PTQ_ERR_MEMORY;
    if (made) {
        int64_t start = ptq_now_ns();
        struct ptq_ctx x;
        ctx_open(&x, c, w->notes, 0);
        x.layer = &w->arena;
        int rc = ctx_close(&x, c, c->m->prepare(&x, c->layer, c->spec->opts, &w->shared));
        w->n_notes = x.n_notes;
        c->r->prepare_s = 1e-9 * (double)(ptq_now_ns() - start);
        work_done(c->s, w, rc == PTQ_OK);
        if (rc != PTQ_OK)
            return rc;
    }
    *shared = w->shared;
    memcpy(c->r->notes, w->notes, (size_t)w->n_notes * sizeof *w->notes);
    c->r->n_notes = w->n_notes;
    return PTQ_OK;
}

/* ---- quantize ---- */

static int run_check(struct call *c)
{
    if (!c->m->check)
        return PTQ_OK;
    struct ptq_ctx x;
    struct ptq_note_value notes[PTQ_MAX_NOTES];
    ctx_open(&x, c, notes, 0);
    return ctx_close(&x, c, c->m->check(&x, c->layer, &c->cell, c->spec->opts));
}

/* A gain of a norm takes a factor a channel. The rows of a linear do where each has scales of its
 * own; under one scale for the tensor the linear before has no place for it. */
static bool has_place(const struct ptq_layer *l, const struct ptq_cell *cell)
{
    return l->producer == PTQ_PRODUCER_NORM ||
           (l->producer == PTQ_PRODUCER_LINEAR && cell->group_size != PTQ_GROUP_TENSOR);
}

static int run_quantize(struct call *c, const void *shared)
{
    struct ptq_ctx x;
    int64_t start = ptq_now_ns();
    ctx_open(&x, c, c->r->notes, c->r->n_notes);
    x.result = &c->r->arena;
    c->r->quant.rows = c->layer->w.rows;
    c->r->quant.cols = c->layer->w.cols;
    int rc = ctx_close(&x, c,
                       c->m->quantize(&x, c->layer, &c->cell, c->spec->opts, shared, &c->r->quant));
    c->r->n_notes = x.n_notes;
    c->r->quantize_s = 1e-9 * (double)(ptq_now_ns() - start);
    struct ptq_act *act = &c->r->quant.act;
    if (act->bits == 0)
        act->bits = c->cell.a_bits; /* and no scale: each token's own */
    act->folds = act->divisor.fmt != PTQ_FMT_NONE && has_place(c->layer, &c->cell);
    return rc;
}

/* Overwrites a note of that name; 0 makes none. */
static void note(struct ptq_result *r, const char *key, double value)
{
    int i = 0;
    while (i < r->n_notes && strcmp(r->notes[i].key, key))
        i++;
    if (value == 0 && i == r->n_notes)
        return;
    r->n_notes += i == r->n_notes;
    strcpy(r->notes[i].key, key);
    r->notes[i].value = value;
}

/* H = sum of 2 x x^T has at most as many directions as tokens. */
static double few_tokens(const struct call *c)
{
    const struct ptq_layer *l = c->layer;
    const bool used = (ptq_spec_needs(c->spec) & (PTQ_NEEDS_HESS | PTQ_NEEDS_ATTN)) ||
                      c->cell.grid == PTQ_GRID_HESS;
    return used && l->n_tokens < (double)l->w.cols ? l->n_tokens : 0;
}

static void own_notes(struct call *c)
{
    note(c->r, "n_scale_saturated", (double)ptq_quant_saturated_scales(&c->r->quant));
    note(c->r, PTQ_NOTE_FEW_TOKENS, few_tokens(c));
}

static int adopt_form(struct call *c)
{
    struct ptq_status rules = {0};
    const struct ptq_quant *q = &c->r->quant;
    int rc = ptq_quant_validate(q, &rules);
    if (rc == PTQ_OK && (q->rows != c->layer->w.rows || q->cols != c->layer->w.cols))
        rc = ptq_status_set(&rules, PTQ_ERR_NUMERIC, "stored form: its shape is not the layer's");
    if (rc != PTQ_OK)
        return ptq_status_set(c->st, (enum ptq_code)rc, "%s on %s: %s; this is a bug of the method",
                              c->m->name, c->layer->name, rules.text);
    own_notes(c);
    int64_t kcols = ptq_quant_kcols(q), n = q->rows * kcols, bad;
    c->r->what = ptq_arena_alloc(&c->r->arena, c->st, n, sizeof *c->r->what);
    if (!c->r->what)
        return PTQ_ERR_MEMORY;
    rc = ptq_quant_dequant(q, c->r->what, c->st);
    if (rc != PTQ_OK)
        return rc;
    bad = ptq_first_nonfinite_f32(c->r->what, n);
    if (bad >= 0)
        return ptq_status_set(
            c->st, PTQ_ERR_NUMERIC,
            "%s on %s: the quantized weight at row %lld, column %lld overflows fp32", c->m->name,
            c->layer->name, (long long)(bad / kcols), (long long)(bad % kcols));
    return PTQ_OK;
}

int ptq_session_quantize(struct ptq_session *s, const struct ptq_spec *spec,
                         const struct ptq_cell *cell, struct ptq_result *r, struct ptq_status *st)
{
    struct ptq_status own = {0};
    struct call c = {.s = s, .spec = spec, .layer = s->args.layer, .r = r, .st = st ? st : &own};
    const void *shared = NULL;
    c.m = s->args.precision == PTQ_DOUBLE_PRECISION ? spec->entry->dbl : spec->entry->single;
    ptq_spec_cell(spec, cell, &c.cell);
    memset(r, 0, sizeof *r);
    ptq_arena_init(&r->arena, 0);
    ptq_arena_init(&c.scratch, 0);
    int rc = check_cell(&c.cell, c.layer, c.st);
    if (rc == PTQ_OK)
        rc = check_caps(spec->name, c.m, &c.cell, c.layer, c.st);
    if (rc == PTQ_OK)
        rc = check_needs(spec, &c.cell, c.layer, c.st);
    if (rc == PTQ_OK)
        rc = run_check(&c);
    if (rc == PTQ_OK)
        rc = run_prepare(&c, &shared);
    if (rc == PTQ_OK)
        rc = run_quantize(&c, shared);
    if (rc == PTQ_OK)
        rc = adopt_form(&c);
    if (rc != PTQ_OK)
        ptq_result_release(r);
    return rc;
}

void ptq_result_release(struct ptq_result *r)
{
    ptq_arena_clear(&r->arena);
    memset(r, 0, sizeof *r);
}

void ptq_spec_cost(const struct ptq_spec *spec, const struct ptq_layer *layer,
                   const struct ptq_cell *cell, struct ptq_cost *out)
{
    struct ptq_cell c;
    memset(out, 0, sizeof *out);
    ptq_spec_cell(spec, cell, &c);
    if (spec->entry->single->cost)
        spec->entry->single->cost(layer, &c, spec->opts, out);
}

const char *ptq_cell_text(const struct ptq_cell *c, char buf[96])
{
    char group[32], inputs[16] = "";
    if (c->a_bits)
        snprintf(inputs, sizeof inputs, " a%d", c->a_bits);
    if (c->group_size == PTQ_GROUP_ROW)
        strcpy(group, "row");
    else if (c->group_size == PTQ_GROUP_TENSOR)
        strcpy(group, "tensor");
    else
        snprintf(group, sizeof group, "g%lld", (long long)c->group_size);
    snprintf(buf, 96, "b%d%s %s %s%s %s %s%s", c->w_bits, inputs, group, c->sym ? "sym-" : "asym",
             c->sym ? ptq_sym_kind_words[c->sym_kind] : "", ptq_grid_words[c->grid],
             ptq_scale_words[c->scale_fmt - PTQ_FMT_F16],
             c->sym || c->zero_in_range ? "" : " zero-free");
    return buf;
}
