#include "analysis/speed.h"
#include <string.h>

static const char *const fields[] = {"tokens_s", "batch_gflops", NULL};
static const char *const titles[] = {"tokens a second through all quantized linears, one token at "
                                     "a time, on the machine and threads "
                                     "of the run; measured once, fp32 beside it in cells.jsonl",
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

bool ptq_rows_join_speed(struct ptq_rows *rows)
{
    json_t *by_form = json_object();
    bool ok = by_form != NULL;
    for (int64_t i = 0; i < rows->n && ok; i++)
        if (is_kind(rows->at[i], "speed"))
            ok = !json_object_set(by_form, ptq_row_text(rows->at[i], "form"),
                                  json_object_get(rows->at[i], "speed"));
    for (int64_t i = 0; i < rows->n && ok; i++) {
        const json_t *speed = json_object_get(by_form, ptq_row_text(rows->at[i], "form"));
        json_t *metrics = json_object_get(rows->at[i], "metrics");
        if (!speed || !metrics || !is_kind(rows->at[i], "model"))
            continue;
        for (int f = 0; fields[f] && ok; f++)
            if (json_is_number(json_object_get(speed, fields[f])))
                ok = !json_object_set(metrics, fields[f], json_object_get(speed, fields[f]));
    }
    json_decref(by_form);
    return ok;
}
