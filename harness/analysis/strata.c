#include "analysis/strata.h"
#include "ptq.h"
#include <stdlib.h>

int64_t ptq_group_fineness(int64_t group)
{
    if (group == INT64_MIN)
        return INT64_MAX;
    return group == PTQ_GROUP_TENSOR ? INT64_MIN : group <= PTQ_GROUP_ROW ? INT64_MIN + 1 : -group;
}

int64_t ptq_inputs_bits(const struct ptq_point *p)
{
    return json_integer_value(json_object_get(p->any, "a_bits"));
}

static int order_members(const void *pa, const void *pb)
{
    const struct ptq_member *a = pa, *b = pb;
    const int64_t x[] = {a->first->bits, a->a_bits, ptq_group_fineness(a->first->group),
                         a->combo->first},
                  y[] = {b->first->bits, b->a_bits, ptq_group_fineness(b->first->group),
                         b->combo->first};
    for (int i = 0; i < 4; i++)
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    return 0;
}

int ptq_strata(const struct ptq_board *d, struct ptq_arena *arena, struct ptq_member **at,
               struct ptq_status *st)
{
    struct ptq_member *m = ptq_arena_alloc(arena, st, d->n_combos, sizeof *m);
    *at = m;
    if (!m)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < d->n_combos; i++) {
        const struct ptq_point *first = &d->points[d->combos[i].first];
        m[i] = (struct ptq_member){&d->combos[i], first, ptq_inputs_bits(first)};
    }
    qsort(m, (size_t)d->n_combos, sizeof *m, order_members);
    return PTQ_OK;
}

bool ptq_points_together(const struct ptq_point *a, const struct ptq_point *b)
{
    return a->bits == b->bits && a->group == b->group && ptq_inputs_bits(a) == ptq_inputs_bits(b);
}

bool ptq_same_stratum(const struct ptq_member *a, const struct ptq_member *b)
{
    return ptq_points_together(a->first, b->first);
}

bool ptq_quantizes_inputs(const struct ptq_board *d)
{
    for (int64_t i = 0; i < d->n; i++)
        if (ptq_inputs_bits(&d->points[i]))
            return true;
    return false;
}

bool ptq_stores_more(double bits, double fair)
{
    return bits > 1.05 * fair;
}
