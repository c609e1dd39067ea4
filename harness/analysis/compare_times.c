/* compare_times.c: times of repeated runs. */
#include "analysis/compare.h"
#include <math.h>
#include <string.h>

/* Quantizing every layer of the setting, without preparation, which cells share; NaN: no times. */
static int time_of(const struct ptq_compare_run *run, const char *asked, struct ptq_arena *a,
                   double *out, struct ptq_status *st)
{
    *out = NAN;
    for (int64_t i = 0; i < run->rows.n; i++) {
        const json_t *row = run->rows.at[i];
        double t = ptq_row_sub(row, "time", "quantize_s");
        const char *text = *ptq_row_text(row, "layer") ? ptq_asked_for(row, a, st) : "";
        if (!text)
            return PTQ_ERR_MEMORY;
        if (isfinite(t) && !strcmp(text, asked))
            *out = isnan(*out) ? t : *out + t;
    }
    return PTQ_OK;
}

/* Sorted, those without times left out. */
static int times_of(const struct ptq_compare_run *const *runs, int n_runs, const char *asked,
                    double *out, int64_t *n, struct ptq_status *st)
{
    struct ptq_arena a;
    int code = PTQ_OK;
    *n = 0;
    ptq_arena_init(&a, 0);
    for (int i = 0; !code && i < n_runs; i++) {
        code = time_of(runs[i], asked, &a, &out[*n], st);
        *n += isfinite(out[*n]);
        ptq_arena_clear(&a);
    }
    ptq_sort_f64(out, *n);
    return code;
}

static const char *verdict(const double *old, int64_t n_old, const double *new, int64_t n_new)
{
    if (n_old < PTQ_TIMES_LEAST || n_new < PTQ_TIMES_LEAST)
        return "not judged: fewer than 5 runs a side";
    return new[0] > old[n_old - 1]   ? "slower"
           : new[n_new - 1] < old[0] ? "faster"
                                     : "no difference seen";
}

int ptq_compare_times(const struct ptq_compare_run *const *old, int n_old,
                      const struct ptq_compare_run *const *new, int n_new, struct ptq_arena *arena,
                      struct ptq_compared_times **out, int64_t *n, struct ptq_status *st)
{
    const struct ptq_rows *rows = &old[0]->rows;
    int code = PTQ_OK;
    *n = 0;
    *out = ptq_arena_alloc(arena, st, rows->n + 1, sizeof **out);
    json_t *seen = json_object();
    if (!*out || !seen)
        code = PTQ_ERR_MEMORY;
    for (int64_t i = 0; !code && i < rows->n; i++) {
        double a[PTQ_TIMES_MOST], b[PTQ_TIMES_MOST];
        struct ptq_compared_times *t = &(*out)[*n];
        const char *asked = ptq_asked_for(rows->at[i], arena, st);
        if (!asked || !*ptq_row_text(rows->at[i], "layer") || json_object_get(seen, asked)) {
            code = asked ? PTQ_OK : PTQ_ERR_MEMORY;
            continue;
        }
        json_object_set_new(seen, asked, json_true());
        code = times_of(old, n_old, asked, a, &t->n_old, st);
        code = code ? code : times_of(new, n_new, asked, b, &t->n_new, st);
        t->name = ptq_setting_name(rows->at[i], arena, st);
        t->old = ptq_quantile_sorted(a, t->n_old, .5);
        t->new = ptq_quantile_sorted(b, t->n_new, .5);
        t->verdict = verdict(a, t->n_old, b, t->n_new);
        *n += t->n_old && t->n_new;
    }
    json_decref(seen);
    return code;
}
