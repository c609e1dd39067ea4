#include "analysis/speed.h"
#include "core/stat.h"
#include <stdlib.h>
#include <string.h>

static const char *const fields[] = {"tokens_s", "batch_gflops", NULL};
static const char *const fp32_fields[] = {"fp32_tokens_s", "fp32_batch_gflops", NULL};
static const char *const titles[] = {
    "tokens a second through all quantized linears, one token at "
    "a time, on the machine and threads "
    "of the run; measured once; full precision: fp32 products, median of "
    "what was measured in turn with each cell",
    "GFLOP/s of the same for a batch of tokens ([bench] batch)"};

const char *ptq_speed_title(const char *id)
{
    for (int i = 0; fields[i]; i++)
        if (!strcmp(id, fields[i]))
            return titles[i];
    return NULL;
}

static bool is_kind(const json_t *row, const char *kind)
{
    return !strcmp(ptq_row_text(row, "kind"), kind) && !strcmp(ptq_row_text(row, "status"), "ok");
}

static bool put_field(json_t *row, const char *field, json_t *value)
{
    json_t *metrics = json_object_get(row, "metrics");
    return !metrics || !json_is_number(value) || !json_object_set(metrics, field, value);
}

/* Every cell is timed in turn with fp32 products of its shapes: as many measurements of one thing.
 */
static bool join_reference(const struct ptq_rows *rows, json_t *reference, double *value)
{
    const char *model = ptq_row_text(reference, "model_key");
    for (int f = 0; fields[f]; f++) {
        int64_t n = 0;
        for (int64_t i = 0; i < rows->n; i++) {
            const json_t *row = rows->at[i];
            const json_t *v = json_object_get(json_object_get(row, "speed"), fp32_fields[f]);
            if (is_kind(row, "speed") && !strcmp(model, ptq_row_text(row, "model_key")) &&
                json_is_number(v))
                value[n++] = json_number_value(v);
        }
        ptq_sort_f64(value, n);
        json_t *median = n ? json_real(ptq_quantile_sorted(value, n, .5)) : NULL;
        bool ok = !n || (median && put_field(reference, fields[f], median));
        json_decref(median);
        if (!ok)
            return false;
    }
    return true;
}

bool ptq_rows_join_speed(struct ptq_rows *rows)
{
    json_t *by_form = json_object();
    double *value = malloc((size_t)(rows->n + 1) * sizeof *value);
    bool ok = by_form && value;
    for (int64_t i = 0; i < rows->n && ok; i++)
        if (is_kind(rows->at[i], "speed"))
            ok = !json_object_set(by_form, ptq_row_text(rows->at[i], "form"),
                                  json_object_get(rows->at[i], "speed"));
    for (int64_t i = 0; i < rows->n && ok; i++) {
        json_t *row = rows->at[i];
        const json_t *speed = json_object_get(by_form, ptq_row_text(row, "form"));
        if (is_kind(row, "reference"))
            ok = join_reference(rows, row, value);
        else if (speed && is_kind(row, "model"))
            for (int f = 0; fields[f] && ok; f++)
                ok = put_field(row, fields[f], json_object_get(speed, fields[f]));
    }
    free(value);
    json_decref(by_form);
    return ok;
}
