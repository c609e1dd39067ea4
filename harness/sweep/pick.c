#include "sweep/pick.h"
#include "core/words.h"
#include "sweep/keys.h"
#include "sweep/row.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What tells a setting from another; layer rows and the model row of one setting agree in them. */
const char *const ptq_setting_fields[] = {"label",
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

struct pick {
    const struct ptq_pick_args *a;
    struct ptq_picked *p;
    struct ptq_status *st;
};

/* ---- the row */

static bool agrees(const json_t *row, const struct ptq_row_pick *p)
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

static bool is_wanted(const struct pick *x, const json_t *row, int n_picks)
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
static bool tells_apart(const struct pick *x, const char *field, int n_picks)
{
    const bool in_label = !strcmp(field, "method") || !strcmp(field, "options");
    if (in_label && tells_apart(x, "label", n_picks))
        return false;
    const json_t *first = NULL;
    for (int64_t i = 0; i < x->p->rows.n; i++) {
        if (!is_wanted(x, x->p->rows.at[i], n_picks))
            continue;
        if (first && !same_field(first, x->p->rows.at[i], field))
            return true;
        first = first ? first : x->p->rows.at[i];
    }
    return false;
}

static void describe(const struct pick *x, const json_t *row, int n_picks, struct listing *l)
{
    char value[PTQ_FIELD_ROOM];
    const char *const *const fields[] = {ptq_setting_fields, scoring};
    snprintf(value, sizeof value, "%.8s", ptq_row_text(row, "key"));
    add(l, "\n  key ", value);
    for (int k = 0; k < 2; k++)
        for (const char *const *f = fields[k]; *f; f++)
            if (tells_apart(x, *f, n_picks)) {
                const char *text = ptq_row_as_text(row, *f, value);
                add(l, "  ", *f);
                add(l, " ", text ? text : "-");
            }
}

static int list_candidates(const struct pick *x, int64_t n, int n_picks)
{
    struct listing l = {.n = 0};
    int64_t listed = 0;
    for (int64_t i = 0; i < x->p->rows.n; i++)
        if (is_wanted(x, x->p->rows.at[i], n_picks) && listed++ < MOST_LISTED)
            describe(x, x->p->rows.at[i], n_picks, &l);
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

/* A field that no row knows is a slip of the pen, not a setting that was not run. */
static int check_fields(const struct pick *x)
{
    for (int i = 0; i < x->a->n_picks; i++) {
        const char *field = x->a->picks[i].field;
        bool known = false;
        for (const char *const *f = ptq_setting_fields; *f && !known; f++)
            known = !strcmp(*f, field);
        for (int64_t r = 0; r < x->p->rows.n && !known; r++)
            known = json_object_get(x->p->rows.at[r], field) != NULL;
        if (!known && x->p->rows.n)
            return ptq_unknown_word("field of a row", field, ptq_setting_fields, x->st);
    }
    return PTQ_OK;
}

static int find_row(struct pick *x)
{
    int64_t n = 0;
    int rc = check_fields(x);
    if (rc)
        return rc;
    for (int64_t i = 0; i < x->p->rows.n; i++)
        if (is_wanted(x, x->p->rows.at[i], x->a->n_picks)) {
            x->p->row = x->p->rows.at[i];
            n++;
        }
    if (n == 1)
        return PTQ_OK;
    return n ? list_candidates(x, n, x->a->n_picks) : list_candidates(x, 0, 0);
}

/* ---- its layers */

static bool same_setting(const json_t *a, const json_t *b)
{
    for (const char *const *f = ptq_setting_fields; *f; f++)
        if (!same_field(a, b, *f))
            return false;
    return true;
}

static int find_layers(struct pick *x)
{
    if (!(x->p->forms = json_object()))
        return ptq_status_nomem(x->st, "the layers of a row", 0);
    for (int64_t i = 0; i < x->p->rows.n; i++) {
        const json_t *r = x->p->rows.at[i];
        if (strcmp(ptq_row_text(r, "kind"), "layer") != 0 || !same_setting(r, x->p->row))
            continue;
        if (json_object_set_new(x->p->forms, ptq_row_text(r, "layer"),
                                json_string(ptq_row_text(r, "form"))))
            return ptq_status_nomem(x->st, "the layers of a row", 0);
    }
    return PTQ_OK;
}

/* ---- the model */

/* The row's form is a hash over the model's key and the forms of its layers in order: when it comes
 * out again, model and layers are those that were measured. */
static int check_form(const struct ptq_picked *p, struct ptq_model *m, struct ptq_status *st)
{
    const struct ptq_model_info *info = ptq_model_info(m);
    char(*forms)[PTQ_KEY_CHARS], key[PTQ_KEY_CHARS] = "";
    struct ptq_arena arena;
    int64_t n = 0;
    ptq_arena_init(&arena, 0);
    forms = ptq_arena_alloc(&arena, st, info->n_blocks * PTQ_MAX_LINEARS, sizeof *forms);
    int rc = forms ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int b = 0; b < info->n_blocks && !rc; b++) {
        struct ptq_block block;
        rc = ptq_model_layout(m, b, &arena, &block, st);
        for (int k = 0; k < block.n_linears && !rc; k++) {
            const char *form = ptq_row_text(p->forms, block.lin[k].name);
            if (*form)
                snprintf(forms[n++], PTQ_KEY_CHARS, "%s", form);
        }
    }
    if (!rc)
        ptq_model_form_key(info->key, (const char(*)[PTQ_KEY_CHARS])forms, n, key);
    ptq_arena_clear(&arena);
    if (rc || !strcmp(key, ptq_row_text(p->row, "form")))
        return rc;
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: is not the model that the row was measured on, or rows of its "
                          "layers are gone from %s; name the model with --model, or run the sweep "
                          "again",
                          info->source, p->run_dir);
}

int ptq_picked_model(const struct ptq_picked *p, const char *source, struct ptq_model **out,
                     struct ptq_status *st)
{
    source = source ? source : ptq_row_text(p->row, "source");
    const struct ptq_model_options outliers = {.outliers = true};
    struct ptq_status mismatch = {0}, none = {0};
    struct ptq_model *plain = NULL, *variant = NULL;
    int rc = ptq_model_open(&plain, source, NULL, st);
    if (rc)
        return rc;
    rc = check_form(p, plain, &mismatch);
    if (rc == PTQ_ERR_USAGE && !ptq_model_open(&variant, source, &outliers, &none)) {
        /* Rows do not say that it is the variant with outliers, keys do. */
        ptq_model_close(plain);
        plain = variant;
        rc = check_form(p, plain, &mismatch);
    }
    *out = rc ? NULL : plain;
    if (!rc)
        return PTQ_OK;
    ptq_model_close(plain);
    return ptq_status_set(st, (enum ptq_code)rc, "%s", mismatch.text);
}

/* ---- all of it */

int ptq_picked_form(const struct ptq_picked *p, const struct ptq_linear *lin, struct ptq_result *r,
                    struct ptq_status *st)
{
    const char *form = ptq_row_text(p->forms, lin->name);
    if (!*form)
        return PTQ_SKIP;
    const bool there = ptq_pack_has(p->pack, form);
    int rc = ptq_pack_get(p->pack, form, r, st);
    if (rc == PTQ_SKIP && there)
        return ptq_status_set(st, PTQ_ERR_NUMERIC,
                              "%s/forms.pack: the stored form of %s does not have the bytes that "
                              "were written (hash); delete forms.pack and sweep again",
                              p->run_dir, lin->name);
    if (rc == PTQ_SKIP)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: the stored form of %s is not here (forms.pack was deleted, "
            "damaged or left behind, [run] keep_forms is 0, or another build made it); run "
            "the sweep again",
            p->run_dir, lin->name);
    if (rc)
        return rc;
    if (r->quant.rows == lin->d_out && r->quant.cols == lin->d_in)
        return PTQ_OK;
    ptq_status_set(st, PTQ_ERR_NUMERIC,
                   "%s: the stored form of %s is %lld x %lld; delete forms.pack", p->run_dir,
                   lin->name, (long long)r->quant.rows, (long long)r->quant.cols);
    ptq_result_release(r);
    return PTQ_ERR_NUMERIC;
}

int ptq_pick(const struct ptq_pick_args *a, struct ptq_picked *p, struct ptq_status *st)
{
    struct pick x = {a, p, st};
    *p = (struct ptq_picked){.run_dir = a->run_dir};
    int rc = ptq_rows_read_run(a->run_dir, &p->rows, st);
    if (!rc && !(rc = find_row(&x)) && !(rc = find_layers(&x)))
        rc = (a->any_build ? ptq_pack_read_any : ptq_pack_read)(&p->pack, a->run_dir, st);
    return rc;
}

void ptq_picked_release(struct ptq_picked *p)
{
    ptq_pack_close(p->pack);
    json_decref(p->forms);
    ptq_rows_release(&p->rows);
    *p = (struct ptq_picked){.run_dir = NULL};
}
