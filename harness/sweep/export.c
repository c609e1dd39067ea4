#include "sweep/export.h"
#include "model/tokenizer.h"
#include "quant/formfile.h"
#include "sweep/formpack.h"
#include "sweep/pick.h"
#include "sweep/row.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct export
{
    const struct ptq_export_args *a;
    struct ptq_picked picked;
    struct ptq_model *model;
    struct ptq_h5 *h5;
    char tmp[PATH_MAX];
    struct ptq_status *st;
};

/* ---- forms */

static int write_form(const struct export *x, const char *layer, const struct ptq_result *r)
{
    int rc = ptq_form_write_packed(x->h5, layer, &r->quant, x->st);
    return rc ? rc : ptq_form_write_quant(x->h5, layer, &r->quant, NULL, x->st);
}

/* A folder holds weights of linears and nothing that happens to their inputs. A divisor needs
 * none of it: the dequantized matrix takes inputs as they are. */
static int check_weights_say_all(const struct ptq_quant *q, const char *layer,
                                 struct ptq_status *st)
{
    if (q->act.bits)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: its inputs are quantized to %d bits, which a folder of weights "
                              "cannot say; export a row without a_bits",
                              layer, q->act.bits);
    if (q->split.n_cols)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: its inputs are split (%lld columns for %lld channels), which a "
                              "folder of weights cannot say; export a row of another method",
                              layer, (long long)q->split.n_cols, (long long)q->cols);
    return PTQ_OK;
}

static int replace(void *arg, const struct ptq_linear *lin, float *w, struct ptq_status *st)
{
    struct export *x = arg;
    struct ptq_result r;
    int rc = ptq_picked_form(&x->picked, lin, &r, st);
    if (rc)
        return rc;
    if (!(rc = check_weights_say_all(&r.quant, lin->name, st)))
        memcpy(w, r.what, (size_t)(lin->d_out * lin->d_in) * sizeof *w);
    if (!rc)
        rc = write_form(x, lin->name, &r);
    ptq_result_release(&r);
    return rc;
}

/* ---- the folder */

/* Folders of ours are flat. */
static void remove_folder(const char *folder)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
    rmdir(folder);
}

static bool is_empty(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return d && n == 2;
}

static int make_folder(struct export *x)
{
    struct stat info;
    size_t n = strlen(x->a->out_dir);
    while (n > 1 && x->a->out_dir[n - 1] == '/')
        n--;
    if (snprintf(x->tmp, sizeof x->tmp, "%.*s.tmp", (int)n, x->a->out_dir) >= (int)sizeof x->tmp)
        return ptq_status_set(x->st, PTQ_ERR_USAGE, "%s: the path is too long", x->a->out_dir);
    if (stat(x->a->out_dir, &info) == 0 && !is_empty(x->a->out_dir))
        return ptq_status_set(x->st, PTQ_ERR_USAGE,
                              "%s: is there and is not an empty folder; name another one",
                              x->a->out_dir);
    if (mkdir(x->tmp, 0777) == 0)
        return PTQ_OK;
    int error = errno;
    return ptq_status_set(x->st, error == EEXIST ? PTQ_ERR_USAGE : PTQ_ERR_IO,
                          "%s: cannot be made: %s%s", x->tmp, strerror(error),
                          error == EEXIST ? "; an export that was killed left it: remove it" : "");
}

/* What the forms are of, for who finds the file alone. */
static int write_identity(const struct export *x)
{
    char value[PTQ_FIELD_ROOM];
    int rc = ptq_h5_set_i64(x->h5, "/", "schema", 1, x->st);
    for (const char *const *f = ptq_setting_fields; *f && !rc; f++) {
        const char *text = ptq_row_as_text(x->picked.row, *f, value);
        rc = ptq_h5_set_text(x->h5, "/", *f, text ? text : "-", x->st);
    }
    if (!rc)
        rc = ptq_h5_set_text(x->h5, "/", "form", ptq_row_text(x->picked.row, "form"), x->st);
    return rc ? rc : ptq_h5_set_text(x->h5, "/", "model_key", ptq_model_info(x->model)->key, x->st);
}

/* A tokenizer that came in a container or GGUF has no files: it goes into quant.h5. */
static int write_tokenizer(const struct export *x, bool copied)
{
    const struct ptq_model_info *i = ptq_model_info(x->model);
    struct ptq_tokenizer *t = NULL;
    if (copied || !strcmp(i->tokenizer, "none"))
        return PTQ_OK;
    int rc = ptq_tokenizer_open(&t, i->source, x->st);
    if (!rc)
        rc = ptq_tokenizer_write(t, x->h5, x->st);
    ptq_tokenizer_close(t);
    return rc == PTQ_SKIP ? PTQ_OK : rc;
}

static int fill_folder(struct export *x, struct ptq_export_done *done)
{
    char path[PATH_MAX], title[sizeof done->title];
    snprintf(title, sizeof title, "%s", done->title);
    const char *const metadata[] = {"format", "pt",       "ptq_setting",
                                    title,    "ptq_form", ptq_row_text(x->picked.row, "form"),
                                    NULL};
    const struct ptq_hf_args args = {.model = x->model,
                                     .folder = x->tmp,
                                     .type = x->a->type,
                                     .metadata = metadata,
                                     .replace = replace,
                                     .arg = x,
                                     .quiet = x->a->quiet,
                                     .stop = x->a->stop,
                                     .stop_arg = x->a->stop_arg};
    if (snprintf(path, sizeof path, "%s/quant.h5", x->tmp) >= (int)sizeof path)
        return ptq_status_set(x->st, PTQ_ERR_USAGE, "%s: the path is too long", x->tmp);
    int rc = ptq_h5_open(&x->h5, path, PTQ_H5_CREATE, x->st);
    if (!rc)
        rc = write_identity(x);
    if (!rc)
        rc = ptq_hf_write(&args, &done->written, x->st);
    if (!rc)
        rc = write_tokenizer(x, done->written.tokenizer);
    int closed = ptq_h5_close(x->h5, x->st);
    return rc ? rc : closed;
}

static int write_folder(struct export *x, struct ptq_export_done *done)
{
    int rc = make_folder(x);
    if (rc)
        return rc;
    rc = fill_folder(x, done);
    if (!rc && rename(x->tmp, x->a->out_dir))
        rc = ptq_status_set(x->st, PTQ_ERR_IO, "%s: cannot be written: %s", x->a->out_dir,
                            strerror(errno));
    if (rc)
        remove_folder(x->tmp);
    return rc;
}

static void make_title(const json_t *row, struct ptq_export_done *done)
{
    snprintf(done->title, sizeof done->title, "%s b%g g%g %s %s %s", ptq_row_text(row, "label"),
             ptq_row_num(row, "bits"), ptq_row_num(row, "group_size"),
             ptq_row_num(row, "sym") > 0 ? "sym" : "asym", ptq_row_text(row, "grid"),
             ptq_row_text(row, "scale"));
    done->ppl = ptq_row_metric(row, "ppl");
}

int ptq_export(const struct ptq_export_args *a, struct ptq_export_done *done, struct ptq_status *st)
{
    struct export x = {.a = a, .st = st};
    *done = (struct ptq_export_done){.ppl = NAN};
    const struct ptq_pick_args pick = {
        .run_dir = a->run_dir, .picks = a->picks, .n_picks = a->n_picks};
    int rc = ptq_pick(&pick, &x.picked, st);
    if (!rc)
        rc = ptq_picked_model(&x.picked, a->source, &x.model, st);
    if (!rc) {
        make_title(x.picked.row, done);
        rc = write_folder(&x, done);
    }
    ptq_model_close(x.model);
    ptq_picked_release(&x.picked);
    return rc;
}
