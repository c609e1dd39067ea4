/* compare_read.c: a run or a file of rows for a comparison, and its stored forms beside them. */
#include "analysis/compare.h"
#include "analysis/report.h"
#include "core/words.h"
#include "quant/form.h"
#include "sweep/formpack.h"
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

/* Stored forms are hashed again: a row must name the bits that lie there. Forms of another build,
 * or none at all, count as absent (formpack.h). */
static int check_form(struct ptq_pack *pack, const json_t *row, const char *dir,
                      struct ptq_status *st)
{
    const char *form = ptq_row_text(row, "form"), *told = ptq_row_text(row, "codes_hash");
    char layer[PTQ_PRINTABLE], hash[33];
    struct ptq_result result;
    if (!*told || !*ptq_row_text(row, "layer") || !ptq_pack_has(pack, form))
        return PTQ_OK;
    ptq_printable(ptq_row_text(row, "layer"), layer);
    if (!ptq_pack_verify(pack, form))
        return ptq_status_set(st, PTQ_ERR_NUMERIC,
                              "%s/forms.pack: the stored form of %s does not have the bytes that "
                              "were written (hash); delete forms.pack and sweep again",
                              dir, layer);
    int code = ptq_pack_get(pack, form, &result, st);
    if (code)
        return code < 0 ? code : PTQ_OK;
    ptq_quant_hash(&result.quant, hash);
    ptq_result_release(&result);
    if (strcmp(hash, told) != 0)
        return ptq_status_set(st, PTQ_ERR_NUMERIC,
                              "%s: %s: the row's codes hash to %.12s..., those of its stored form "
                              "to %.12s...; one of them was changed: sweep again",
                              dir, layer, told, hash);
    return PTQ_OK;
}

static int check_forms(const char *dir, const struct ptq_rows *rows, struct ptq_status *st)
{
    struct ptq_pack *pack;
    int code = ptq_pack_read(&pack, dir, st);
    if (code)
        return code;
    for (int64_t i = 0; !code && i < rows->n; i++)
        code = check_form(pack, rows->at[i], dir, st);
    ptq_pack_close(pack);
    return code;
}

/* Rows about a model row are no cells: speeds are measurements of a machine at a time, and errors
 * block by block are made for one run and not the other. */
static void leave_out_extras(struct ptq_rows *rows)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < rows->n; i++)
        if (ptq_row_is_cell(rows->at[i]))
            rows->at[kept++] = rows->at[i];
        else
            json_decref(rows->at[i]);
    rows->n = kept;
}

int ptq_compare_read(const char *word, struct ptq_arena *arena, struct ptq_compare_run *out,
                     struct ptq_status *st)
{
    struct stat info;
    char *dir;
    int code;
    bool file = stat(word, &info) == 0 && !S_ISDIR(info.st_mode);
    *out = (struct ptq_compare_run){.name = word};
    if (file) {
        code = ptq_rows_read_file(word, &out->rows, st);
    } else {
        code = ptq_run_folder(word, arena, &dir, st);
        code = code ? code : ptq_rows_read_run(dir, &out->rows, st);
        code = code ? code : check_forms(dir, &out->rows, st);
    }
    if (code && out->rows.other_schema != 0) { /* not a fault of the file: nothing is comparable */
        ptq_status_clear(st);
        return PTQ_OK;
    }
    if (code)
        return code;
    const bool any = out->rows.n > 0;
    leave_out_extras(&out->rows);
    if (!out->rows.n)
        code = ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: holds no whole row%s%s; run a sweep or `ptq score` first", word,
                              any ? " of kind layer, model or reference" : "",
                              out->rows.n_torn ? " (its last line is torn)" : "");
    return code;
}
