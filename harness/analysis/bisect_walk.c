#include "analysis/bisect_walk.h"
#include "core/hash.h"
#include "sweep/keys.h"
#include "sweep/placed.h"
#include "sweep/row.h"
#include "sweep/rowtext.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- sites */

static int form_of(const struct ptq_walk *w, int side, const struct ptq_linear *lin,
                   struct ptq_result *r, struct ptq_status *st)
{
    return ptq_picked_form(&w->picked[side], lin, r, st);
}

/* What the layer computes with: the values that the form stands for, unless it treats its inputs in
 * a way of its own. */
static void values_hash(const struct ptq_quant *q, const float *what, char out[PTQ_KEY_CHARS])
{
    if (q->act.bits || q->act.divisor.fmt != PTQ_FMT_NONE || q->split.n_cols) {
        ptq_quant_hash(q, out);
        return;
    }
    const uint64_t h = ptq_hash64(what, (size_t)(q->rows * q->cols) * sizeof *what);
    snprintf(out, PTQ_KEY_CHARS, "values %016llx", (unsigned long long)h);
}

/* The form's hash goes into the chain that model rows carry. "": the layer is left alone. */
static int hash_of(struct ptq_walk *w, int side, const struct ptq_linear *lin,
                   char out[PTQ_KEY_CHARS], struct ptq_status *st)
{
    struct ptq_result r;
    out[0] = 0;
    int rc = form_of(w, side, lin, &r, st);
    if (rc)
        return rc == PTQ_SKIP ? PTQ_OK : rc;
    ptq_quant_hash(&r.quant, out);
    ptq_key_of(w->codes[side], w->codes[side], out, (char *)NULL);
    values_hash(&r.quant, r.what, out);
    ptq_result_release(&r);
    return PTQ_OK;
}

static int add_site(struct ptq_walk *w, const struct ptq_block *b, int lin, struct ptq_status *st)
{
    char hash[2][PTQ_KEY_CHARS];
    int rc = hash_of(w, PTQ_OLD, &b->lin[lin], hash[PTQ_OLD], st);
    if (!rc)
        rc = hash_of(w, PTQ_NEW, &b->lin[lin], hash[PTQ_NEW], st);
    if (rc || (!*hash[PTQ_OLD] && !*hash[PTQ_NEW]))
        return rc;
    struct ptq_site *s = &w->site[w->n_sites];
    *s = (struct ptq_site){b->lin[lin].name, b->index, lin, w->n_changed, strcmp(hash[0], hash[1])};
    if (s->differs)
        w->changed_site[w->n_changed++] = w->n_sites;
    w->n_sites++;
    return PTQ_OK;
}

/* Layers in the order in which the model runs them: stages of a block stand in that order. */
static int list_sites(struct ptq_walk *w, struct ptq_status *st)
{
    const int64_t n_blocks = ptq_model_info(w->model)->n_blocks;
    w->site = ptq_arena_alloc(w->arena, st, n_blocks * PTQ_MAX_LINEARS, sizeof *w->site);
    w->changed_site =
        ptq_arena_alloc(w->arena, st, n_blocks * PTQ_MAX_LINEARS, sizeof *w->changed_site);
    int rc = w->site && w->changed_site ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int b = 0; b < n_blocks && !rc; b++) {
        struct ptq_block block;
        rc = ptq_model_layout(w->model, b, w->arena, &block, st);
        for (int i = 0; i < block.n_linears && !rc; i++)
            rc = add_site(w, &block, i, st);
    }
    return rc;
}

/* The forms that were read are those that were measured. */
static int check_codes(const struct ptq_walk *w, int side, struct ptq_status *st)
{
    const char *row = ptq_row_text(w->picked[side].row, "codes_hash");
    if (!strcmp(row, w->codes[side]))
        return PTQ_OK;
    return ptq_status_set(
        st, PTQ_ERR_NUMERIC,
        "%s: the stored forms hash to %.8s, its row says %.8s: a form was changed "
        "after it was measured; run the sweep again",
        w->picked[side].run_dir, w->codes[side], row);
}

/* ---- both rows */

static bool same_text(const struct ptq_walk *w, const char *field)
{
    return !strcmp(ptq_row_text(w->picked[0].row, field), ptq_row_text(w->picked[1].row, field));
}

static int check_comparable(const struct ptq_walk *w, bool *comparable, struct ptq_status *st)
{
    static const char *const fields[] = {"text_key", "protocol", "model", "source"};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (!same_text(w, fields[i]) && (i < 3 || !w->args->source)) {
            *comparable = false;
            return ptq_status_set(st, PTQ_ERR_USAGE, "not comparable: %s says %s = %s, %s says %s",
                                  w->picked[0].run_dir, fields[i],
                                  ptq_row_text(w->picked[0].row, fields[i]), w->picked[1].run_dir,
                                  ptq_row_text(w->picked[1].row, fields[i]));
        }
    return PTQ_OK;
}

int ptq_walk_open(struct ptq_walk *w, bool *comparable, struct ptq_status *st)
{
    struct ptq_model *again = NULL;
    *comparable = true;
    int rc = PTQ_OK;
    for (int side = 0; side < 2 && !rc; side++)
        rc = ptq_pick(&w->args->side[side], &w->picked[side], st);
    if (!rc && !(rc = check_comparable(w, comparable, st)))
        rc = ptq_picked_model(&w->picked[PTQ_OLD], w->args->source, &w->model, st);
    if (!rc && !(rc = ptq_picked_model(&w->picked[PTQ_NEW], w->args->source, &again, st)))
        ptq_model_close(again);
    if (!rc && ptq_model_info(w->model)->encoder)
        rc = ptq_status_set(st, PTQ_ERR_USAGE,
                            "%s: an encoder predicts no tokens; bisect needs a model that has a "
                            "perplexity",
                            ptq_model_info(w->model)->source);
    if (!rc && !(rc = list_sites(w, st)) && !(rc = check_codes(w, PTQ_OLD, st)))
        rc = check_codes(w, PTQ_NEW, st);
    const struct ptq_picked *old = &w->picked[PTQ_OLD];
    return rc ? rc
              : ptq_row_load_text(old->row, old->run_dir, ptq_model_info(w->model), w->arena,
                                  &w->text, st);
}

void ptq_walk_close(struct ptq_walk *w)
{
    ptq_model_close(w->model);
    for (int side = 0; side < 2; side++)
        ptq_picked_release(&w->picked[side]);
}

/* ---- running */

struct hybrid { /* in work */
    struct ptq_walk *walk;
    const struct ptq_hybrid *of;
};

static int64_t site_at(const struct ptq_walk *w, int block, int lin)
{
    for (int64_t i = 0; i < w->n_sites; i++)
        if (w->site[i].block == block && w->site[i].lin == lin)
            return i;
    return -1;
}

static int side_of(const struct ptq_site *s, const struct ptq_hybrid *h)
{
    return s->differs && s->changed < h->n_new ? PTQ_NEW : PTQ_OLD;
}

static int form_in(void *arg, const struct ptq_block *block, int lin, struct ptq_result *own,
                   const struct ptq_result **use, struct ptq_status *st)
{
    const struct hybrid *h = arg;
    const int64_t site = site_at(h->walk, block->index, lin);
    if (site < 0)
        return PTQ_SKIP;
    if (h->of->instead && h->of->at == site) {
        *use = h->of->instead;
        return PTQ_OK;
    }
    return form_of(h->walk, side_of(&h->walk->site[site], h->of), &block->lin[lin], own, st);
}

static int run_block(struct ptq_walk *w, const struct ptq_hybrid *h, int index,
                     struct ptq_hidden *hidden, struct ptq_status *st)
{
    struct hybrid hybrid = {w, h};
    const struct ptq_forms forms = {form_in, &hybrid};
    const struct ptq_block_tap tap = {.stop = w->args->stop, .stop_arg = w->args->stop_arg};
    const struct ptq_placed_args args = {w->model, &forms, w->args->pool, &tap};
    return ptq_placed_run(&args, index, hidden, st);
}

static struct ptq_hidden hidden_at(const struct ptq_walk *w, float *states)
{
    return (struct ptq_hidden){
        .tokens = &w->text.tokens, .d_model = ptq_model_info(w->model)->d_model, .at = states};
}

static size_t states_bytes(const struct ptq_walk *w)
{
    return (size_t)w->text.tokens.n_total * (size_t)ptq_model_info(w->model)->d_model *
           sizeof(float);
}

static int copy_states(const struct ptq_walk *w, const float *from, float **to,
                       struct ptq_status *st)
{
    *to = malloc(states_bytes(w));
    if (!*to)
        return ptq_status_nomem(st, "hidden states of a hybrid", states_bytes(w));
    memcpy(*to, from, states_bytes(w));
    return PTQ_OK;
}

int ptq_waypoint_first(struct ptq_walk *w, struct ptq_waypoint *p, struct ptq_status *st)
{
    struct ptq_arena arena;
    struct ptq_hidden hidden;
    *p = (struct ptq_waypoint){0, NULL};
    ptq_arena_init(&arena, 0);
    int rc = ptq_model_embed(w->model, &w->text.tokens, &arena, &hidden, st);
    if (!rc)
        rc = copy_states(w, hidden.at, &p->states, st);
    ptq_arena_clear(&arena);
    return rc;
}

int ptq_waypoint_at(struct ptq_walk *w, const struct ptq_waypoint *from, int block,
                    const struct ptq_hybrid *h, struct ptq_waypoint *p, struct ptq_status *st)
{
    *p = (struct ptq_waypoint){from->block, NULL};
    int rc = copy_states(w, from->states, &p->states, st);
    struct ptq_hidden hidden = hidden_at(w, p->states);
    for (; p->block < block && !rc; p->block++)
        rc = run_block(w, h, p->block, &hidden, st);
    if (rc)
        ptq_waypoint_release(p);
    return rc;
}

void ptq_waypoint_release(struct ptq_waypoint *p)
{
    free(p->states);
    p->states = NULL;
}

int ptq_walk_score(struct ptq_walk *w, const struct ptq_waypoint *from, const struct ptq_hybrid *h,
                   double *nll_window, struct ptq_status *st)
{
    const struct ptq_eval_args args = {.model = w->model,
                                       .text = &w->text,
                                       .pool = w->args->pool,
                                       .stop = w->args->stop,
                                       .stop_arg = w->args->stop_arg};
    struct ptq_waypoint end;
    struct ptq_arena arena;
    struct ptq_eval eval;
    w->n_probes++;
    int rc = ptq_waypoint_at(w, from, (int)ptq_model_info(w->model)->n_blocks, h, &end, st);
    if (rc)
        return rc;
    const struct ptq_hidden hidden = hidden_at(w, end.states);
    ptq_arena_init(&arena, 0);
    rc = ptq_eval_score(&args, &hidden, &arena, &eval, st);
    if (!rc) {
        memcpy(nll_window, eval.nll_window, (size_t)eval.n_windows * sizeof *nll_window);
        memcpy(w->n_window, eval.n_window, (size_t)eval.n_windows * sizeof *w->n_window);
    }
    ptq_arena_clear(&arena);
    ptq_waypoint_release(&end);
    return rc;
}

/* ---- differences */

double ptq_walk_nll(const struct ptq_walk *w, const double *nll)
{
    double sum = 0, n = 0;
    for (int64_t i = 0; i < w->text.tokens.n_seq; i++)
        if (w->n_window[i]) {
            sum += nll[i] * (double)w->n_window[i];
            n += (double)w->n_window[i];
        }
    return sum / n;
}

void ptq_walk_difference(const struct ptq_walk *w, const double *a, const double *b,
                         struct ptq_interval *out)
{
    const int64_t n = w->text.tokens.n_seq;
    *out = (struct ptq_interval){NAN, NAN, NAN, NAN, NAN, NAN, 0};
    double *diff = malloc((size_t)n * sizeof *diff + 1);
    for (int64_t i = 0; diff && i < n; i++)
        diff[i] = b[i] - a[i];
    if (diff)
        ptq_paired_interval(diff, ptq_ratio_units(diff, w->n_window, n, diff), w->args->level, out);
    free(diff);
}
