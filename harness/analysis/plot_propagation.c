/* plot_propagation.c: the models of the picture of errors block by block, and its data. */
#include "analysis/plot_data.h"
#include "analysis/propagation.h"
#include "analysis/put.h"
#include "analysis/strata.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Models of one picture: those of the stratum at which most methods stand, the one of the fewest
 * bits where several do; where no two stand together, all. Of more than fit in, those with the
 * least error behind the last block. */
enum { MOST_SHOWN = 6 };
struct shown {
    const struct ptq_point *at[MOST_SHOWN];
    const char *name[MOST_SHOWN];
    int n;
};

static int64_t companions(const struct ptq_point *const *at, int64_t n, const struct ptq_point *p)
{
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++)
        found += ptq_points_together(at[i], p);
    return found;
}

static const char *name_of(const struct ptq_tables *t, const struct ptq_board *d,
                           const struct ptq_point *p)
{
    const char *group = ptq_group_text(t, p->group), *inputs = "";
    if (ptq_inputs_bits(p))
        inputs = ptq_arena_printf(t->arena, t->st, " a%" PRId64, ptq_inputs_bits(p));
    return inputs
               ? ptq_arena_printf(t->arena, t->st, "%s b%" PRId64 "%s %s%s", d->series[p->series],
                                  p->bits, inputs, p->group > 0 ? "g" : "", group)
               : NULL;
}

/* Every setting under the first of its calibration seeds. */
static int64_t gather(const struct ptq_tables *t, const struct ptq_board *d,
                      const struct ptq_point **at)
{
    int64_t n = 0;
    for (int64_t i = 0; i < d->n_combos; i++)
        if (ptq_propagation_of(t, &d->points[d->combos[i].first]))
            at[n++] = &d->points[d->combos[i].first];
    return n;
}

/* Those that stand with most others, the fewest bits first; all where none do. */
static int64_t keep_together(const struct ptq_point **at, int64_t n)
{
    const struct ptq_point *best = n ? at[0] : NULL;
    int64_t most = 0, kept = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t beside = companions(at, n, at[i]);
        if (beside > most || (beside == most && at[i]->bits < best->bits)) {
            most = beside;
            best = at[i];
        }
    }
    for (int64_t i = 0; i < n; i++)
        if (most == 1 || ptq_points_together(at[i], best))
            at[kept++] = at[i];
    return kept;
}

static double last_total(const struct ptq_tables *t, const struct ptq_point *p)
{
    const json_t *found = ptq_propagation_of(t, p);
    return ptq_propagation_at(found, "blocks", "total", ptq_propagation_blocks(found) - 1);
}

/* Takes out the one of largest error until few enough are left. */
static int64_t keep_few(const struct ptq_tables *t, const struct ptq_point **at, int64_t n)
{
    for (; n > MOST_SHOWN; n--) {
        int64_t worst = 0;
        for (int64_t i = 1; i < n; i++)
            if (!(last_total(t, at[i]) < last_total(t, at[worst])))
                worst = i;
        memmove(at + worst, at + worst + 1, (size_t)(n - worst - 1) * sizeof(struct ptq_point *));
    }
    return n;
}

static int choose(const struct ptq_tables *t, const struct ptq_board *d, struct shown *out)
{
    const struct ptq_point **at = ptq_arena_alloc(t->arena, t->st, d->n_combos, sizeof *at);
    *out = (struct shown){.n = 0};
    if (!at)
        return PTQ_ERR_MEMORY;
    const int64_t n = keep_few(t, at, keep_together(at, gather(t, d, at)));
    for (; out->n < n; out->n++) {
        out->at[out->n] = at[out->n];
        if (!(out->name[out->n] = name_of(t, d, at[out->n])))
            return PTQ_ERR_MEMORY;
    }
    return PTQ_OK;
}

static void put_value(FILE *f, double v)
{
    if (isfinite(v) && v > 0) /* a log axis has no other place */
        fprintf(f, "\t%.17g", v);
    else
        fputs("\tNaN", f);
}

static int write_blocks(const struct ptq_tables *t, int64_t board, const char *path)
{
    struct shown chosen;
    struct ptq_buffer b;
    int code = choose(t, &t->v->boards[board], &chosen);
    if (code || !chosen.n)
        return code;
    if (ptq_buffer_open(&b, t->st))
        return PTQ_ERR_MEMORY;
    fputs("series\tname\tblock\ttotal\tlocal\tinherited\n", b.f);
    for (int i = 0; i < chosen.n; i++) {
        const json_t *p = ptq_propagation_of(t, chosen.at[i]);
        for (int64_t k = 0; k < ptq_propagation_blocks(p); k++) {
            fprintf(b.f, "%d\t", i + 1);
            ptq_put_tsv(b.f, chosen.name[i]);
            fprintf(b.f, "\t%" PRId64, k);
            put_value(b.f, ptq_propagation_at(p, "blocks", "total", k));
            put_value(b.f, ptq_propagation_at(p, "blocks", "local", k));
            put_value(b.f, ptq_propagation_at(p, "blocks", "inherited", k));
            fputc('\n', b.f);
        }
    }
    return ptq_buffer_save(&b, path, t->st);
}

static int models(const struct ptq_tables *t, const struct ptq_board *d, struct ptq_plot_series *s)
{
    struct shown *chosen = ptq_arena_alloc(t->arena, t->st, 1, sizeof *chosen);
    int code = chosen ? choose(t, d, chosen) : PTQ_ERR_MEMORY;
    if (!code)
        *s = (struct ptq_plot_series){chosen->name, chosen->n, NULL, 0};
    return code;
}

static const char *missing(const struct ptq_tables *t, const struct ptq_board *d)
{
    struct shown chosen;
    if (!choose(t, d, &chosen) && chosen.n)
        return NULL;
    return "no row of errors block by block; sweep with [eval] propagation = 8";
}

const struct ptq_plot_data ptq_block_data = {"block", write_blocks, models, missing};
