#include "sweep/export.h"
#include "model/tokenizer.h"
#include "quant/formfile.h"
#include "sweep/formpack.h"
#include "sweep/keys.h"
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

/* What tells a setting from another; layer rows and the model row of one setting agree in them. */
static const char *const setting[] = {"label",
                                      "method",
                                      "options",
                                      "bits",
                                      "group_size",
                                      "sym",
                                      "grid",
                                      "sym_kind",
                                      "scale",
                                      "precision",
                                      "zero_in_range",
                                      "seed",
                                      "calib",
                                      "calib_seed",
                                      "stats",
                                      "calib_draw",
                                      "true_sequential",
                                      "nsamples",
                                      "model",
                                      "seqlen",
                                      "source",
                                      "a_bits",
                                      NULL};
/* Those of model rows alone. */
static const char *const scoring[] = {"text", "protocol", NULL};
enum { MOST_LISTED = 10 };

struct export
{
    const struct ptq_export_args *a;
    struct ptq_rows rows;
    const json_t *row;
    struct ptq_model *model;
    struct ptq_pack *pack;
    struct ptq_h5 *h5;
    json_t *forms; /* layer -> form key */
    char tmp[PATH_MAX];
    struct ptq_status *st;
};

/* ---- the row */

static void value_text(const json_t *row, const char *field, char *out, size_t size)
{
    const json_t *v = json_object_get(row, field);
    if (json_is_string(v))
        snprintf(out, size, "%s", json_string_value(v));
    else if (json_is_number(v))
        snprintf(out, size, "%.17g", json_number_value(v));
    else
        snprintf(out, size, "-");
}

static bool agrees(const json_t *row, const struct ptq_export_pick *p)
{
    const json_t *v = json_object_get(row, p->field);
    const char *text = json_string_value(v);
    if (text && !strcmp(p->field, "key"))
        return !strncmp(text, p->value, strlen(p->value));
    if (text)
        return !strcmp(text, p->value);
    char *end;
    double wanted = strtod(p->value, &end);
    return json_is_number(v) && end != p->value && !*end && wanted == json_number_value(v);
}

static bool same_field(const json_t *a, const json_t *b, const char *field)
{
    const json_t *x = json_object_get(a, field), *y = json_object_get(b, field);
    return x == y || json_equal(x, y); /* both absent: the same */
}

static bool is_model_row(const json_t *row)
{
    return !strcmp(ptq_row_text(row, "kind"), "model") &&
           !strcmp(ptq_row_text(row, "status"), "ok");
}

static bool is_wanted(const struct export *x, const json_t *row, int n_picks)
{
    bool wanted = is_model_row(row);
    for (int i = 0; i < n_picks && wanted; i++)
        wanted = agrees(row, &x->a->picks[i]);
    return wanted;
}

struct listing { /* candidates as text */
    char text[700];
    size_t n;
};

static void add(struct listing *l, const char *lead, const char *text)
{
    if (l->n < sizeof l->text)
        l->n += (size_t)snprintf(l->text + l->n, sizeof l->text - l->n, "%s%s", lead, text);
}

/* Whether candidates differ in the field. A label says method and options. */
static bool tells_apart(const struct export *x, const char *field, int n_picks)
{
    const bool in_label = !strcmp(field, "method") || !strcmp(field, "options");
    if (in_label && tells_apart(x, "label", n_picks))
        return false;
    const json_t *first = NULL;
    for (int64_t i = 0; i < x->rows.n; i++) {
        if (!is_wanted(x, x->rows.at[i], n_picks))
            continue;
        if (first && !same_field(first, x->rows.at[i], field))
            return true;
        first = first ? first : x->rows.at[i];
    }
    return false;
}

static void describe(const struct export *x, const json_t *row, int n_picks, struct listing *l)
{
    char value[96];
    const char *const *const fields[] = {setting, scoring};
    snprintf(value, sizeof value, "%.8s", ptq_row_text(row, "key"));
    add(l, "\n  key ", value);
    for (int k = 0; k < 2; k++)
        for (const char *const *f = fields[k]; *f; f++)
            if (tells_apart(x, *f, n_picks)) {
                value_text(row, *f, value, sizeof value);
                add(l, "  ", *f);
                add(l, " ", value);
            }
}

static int list_candidates(const struct export *x, int64_t n, int n_picks)
{
    struct listing l = {.n = 0};
    int64_t listed = 0;
    for (int64_t i = 0; i < x->rows.n; i++)
        if (is_wanted(x, x->rows.at[i], n_picks) && listed++ < MOST_LISTED)
            describe(x, x->rows.at[i], n_picks, &l);
    if (listed > MOST_LISTED)
        add(&l, "\n  ", "... and more (ptq report lists them)");
    if (n)
        return ptq_status_set(x->st, PTQ_ERR_USAGE,
                              "%s: %lld model rows match; add an option that tells them apart:%s",
                              x->a->run_dir, (long long)n, l.text);
    return ptq_status_set(x->st, PTQ_ERR_USAGE, "%s: no model row matches%s%s", x->a->run_dir,
                          listed ? "; there are:" : ": the run has none; give it an [eval] text",
                          l.text);
}

static int find_row(struct export *x)
{
    int64_t n = 0;
    for (int64_t i = 0; i < x->rows.n; i++)
        if (is_wanted(x, x->rows.at[i], x->a->n_picks)) {
            x->row = x->rows.at[i];
            n++;
        }
    if (n == 1)
        return PTQ_OK;
    return n ? list_candidates(x, n, x->a->n_picks) : list_candidates(x, 0, 0);
}

/* ---- its layers */

static bool same_setting(const json_t *a, const json_t *b)
{
    for (const char *const *f = setting; *f; f++)
        if (!same_field(a, b, *f))
            return false;
    return true;
}

static int find_layers(struct export *x)
{
    if (!(x->forms = json_object()))
        return ptq_status_nomem(x->st, "the layers of a row", 0);
    for (int64_t i = 0; i < x->rows.n; i++) {
        const json_t *r = x->rows.at[i];
        if (strcmp(ptq_row_text(r, "kind"), "layer") != 0 || !same_setting(r, x->row))
            continue;
        if (json_object_set_new(x->forms, ptq_row_text(r, "layer"),
                                json_string(ptq_row_text(r, "form"))))
            return ptq_status_nomem(x->st, "the layers of a row", 0);
    }
    return PTQ_OK;
}

/* ---- the model */

/* The row's form is a hash over the model's key and the forms of its layers in order: when it comes
 * out again, model and layers are those that were measured. */
static int check_form(struct export *x)
{
    const struct ptq_model_info *info = ptq_model_info(x->model);
    char(*forms)[PTQ_KEY_CHARS], key[PTQ_KEY_CHARS] = "";
    struct ptq_arena arena;
    int64_t n = 0;
    ptq_arena_init(&arena, 0);
    forms = ptq_arena_alloc(&arena, x->st, info->n_blocks * PTQ_MAX_LINEARS, sizeof *forms);
    int rc = forms ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int b = 0; b < info->n_blocks && !rc; b++) {
        struct ptq_block block;
        rc = ptq_model_layout(x->model, b, &arena, &block, x->st);
        for (int k = 0; k < block.n_linears && !rc; k++) {
            const char *form = ptq_row_text(x->forms, block.lin[k].name);
            if (*form)
                snprintf(forms[n++], PTQ_KEY_CHARS, "%s", form);
        }
    }
    if (!rc)
        ptq_model_form_key(info->key, (const char(*)[PTQ_KEY_CHARS])forms, n, key);
    ptq_arena_clear(&arena);
    if (rc || !strcmp(key, ptq_row_text(x->row, "form")))
        return rc;
    return ptq_status_set(x->st, PTQ_ERR_USAGE,
                          "%s: is not the model that the row was measured on, or rows of its "
                          "layers are gone from %s; name the model with --model, or run the sweep "
                          "again",
                          info->source, x->a->run_dir);
}

static int open_model(struct export *x)
{
    const char *source = x->a->source ? x->a->source : ptq_row_text(x->row, "source");
    const struct ptq_model_options outliers = {.outliers = true};
    int rc = ptq_model_open(&x->model, source, NULL, x->st);
    if (rc)
        return rc;
    struct ptq_status *st = x->st, other = {0};
    x->st = &other;
    rc = check_form(x);
    x->st = st;
    if (rc != PTQ_ERR_USAGE)
        return rc;
    /* Rows do not say it, keys do. */
    struct ptq_model *variant = NULL;
    struct ptq_status none = {0};
    if (ptq_model_open(&variant, source, &outliers, &none))
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s", other.text);
    ptq_model_close(x->model);
    x->model = variant;
    return check_form(x);
}

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
    const char *form = ptq_row_text(x->forms, lin->name);
    struct ptq_result r;
    if (!*form)
        return PTQ_SKIP;
    int rc = ptq_pack_get(x->pack, form, &r, st);
    if (rc == PTQ_SKIP)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: the stored form of %s is not here (forms.pack was deleted or "
                              "left behind, [run] keep_forms is 0, or another build made it); run "
                              "the sweep again",
                              x->a->run_dir, lin->name);
    if (rc)
        return rc;
    if (r.quant.rows != lin->d_out || r.quant.cols != lin->d_in)
        rc = ptq_status_set(
            st, PTQ_ERR_NUMERIC, "%s: the stored form of %s is %lld x %lld; delete forms.pack",
            x->a->run_dir, lin->name, (long long)r.quant.rows, (long long)r.quant.cols);
    else if (!(rc = check_weights_say_all(&r.quant, lin->name, st)))
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
    char value[256];
    int rc = ptq_h5_set_i64(x->h5, "/", "schema", 1, x->st);
    for (const char *const *f = setting; *f && !rc; f++) {
        value_text(x->row, *f, value, sizeof value);
        rc = ptq_h5_set_text(x->h5, "/", *f, value, x->st);
    }
    if (!rc)
        rc = ptq_h5_set_text(x->h5, "/", "form", ptq_row_text(x->row, "form"), x->st);
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
    const char *const metadata[] = {
        "format", "pt", "ptq_setting", title, "ptq_form", ptq_row_text(x->row, "form"), NULL};
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
    int rc = ptq_rows_read_run(a->run_dir, &x.rows, st);
    if (!rc && !(rc = find_row(&x)) && !(rc = find_layers(&x)) && !(rc = open_model(&x)))
        rc = ptq_pack_read(&x.pack, a->run_dir, st);
    if (!rc) {
        make_title(x.row, done);
        rc = write_folder(&x, done);
    }
    ptq_pack_close(x.pack);
    ptq_model_close(x.model);
    json_decref(x.forms);
    ptq_rows_release(&x.rows);
    return rc;
}
