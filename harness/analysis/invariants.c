#include "analysis/inspection.h"
#include "analysis/strata.h"
#include "core/stat.h"
#include "quant/method.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- findings ----------------------------------------------------------------------------------
 */

static const char *vprint(const struct ptq_inspection *in, const char *fmt, va_list ap)
{
    char text[1024];
    vsnprintf(text, sizeof text, fmt, ap);
    return ptq_arena_strdup(in->arena, in->st, text);
}

void ptq_broken(struct ptq_inspection *in, const char *fmt, ...)
{
    struct ptq_rule_result *r = in->now;
    r->n_broken++;
    if (r->n_findings == PTQ_MAX_FINDINGS)
        return;
    va_list ap;
    va_start(ap, fmt);
    r->findings[r->n_findings] = vprint(in, fmt, ap);
    va_end(ap);
    r->n_findings += r->findings[r->n_findings] != NULL;
}

void ptq_not_checked(struct ptq_inspection *in, const char *fmt, ...)
{
    if (in->now->not_checked)
        return;
    va_list ap;
    va_start(ap, fmt);
    in->now->not_checked = vprint(in, fmt, ap);
    va_end(ap);
}

/* ---- rows --------------------------------------------------------------------------------------
 */

static int64_t whole(const json_t *row, const char *field)
{
    return json_integer_value(json_object_get(row, field));
}

static const char *group_text(int64_t group, char buf[24])
{
    if (group > 0)
        snprintf(buf, 24, "g%" PRId64, group);
    return group > 0 ? buf : group == PTQ_GROUP_TENSOR ? "tensor" : "row";
}

const char *ptq_row_place(const struct ptq_inspection *in, const json_t *row)
{
    char group[24];
    const char *text = ptq_arena_printf(
        in->arena, in->st, "%s b%" PRId64 " %s %s", ptq_row_text(row, "label"), whole(row, "bits"),
        group_text(whole(row, "group_size"), group), ptq_row_text(row, "layer"));
    return text ? text : "";
}

bool ptq_row_is_base(const json_t *row, const char *base)
{
    return !strcmp(ptq_row_text(row, "base"), base);
}

/* Fields of a cell that are no axis of an order (bits, group) and no method. */
static const char *const cell_fields[] = {"model", "layer",     "sym",   "sym_kind",
                                          "grid",  "a_bits",    "scale", "zero_in_range",
                                          "seed",  "precision", NULL};
static const char *const draw_fields[] = {"stats",    "true_sequential", "calib", "calib_seed",
                                          "nsamples", "seqlen",          NULL};

static char *add_field(const struct ptq_inspection *in, const char *key, const json_t *row,
                       const char *field)
{
    const json_t *v = json_object_get(row, field);
    if (json_is_string(v))
        return ptq_arena_printf(in->arena, in->st, "%s|%s", key, json_string_value(v));
    return ptq_arena_printf(in->arena, in->st, "%s|%" JSON_INTEGER_FORMAT, key,
                            json_integer_value(v));
}

static const char *add_fields(const struct ptq_inspection *in, const char *key, const json_t *row,
                              const char *const *fields)
{
    for (int i = 0; fields[i] && key; i++)
        key = add_field(in, key, row, fields[i]);
    return key ? key : "";
}

static const char *cell_key(const struct ptq_inspection *in, const json_t *row)
{
    const char *key = add_fields(in, "", row, cell_fields);
    key = add_field(in, key, row, "bits");
    return key ? add_field(in, key, row, "group_size") : "";
}

const json_t *ptq_same_cell(const struct ptq_inspection *in, const json_t *row)
{
    const char *key = cell_key(in, row);
    return json_object_get(in->by_cell, key ? key : "");
}

static bool same_fields(const json_t *a, const json_t *b, const char *const *fields)
{
    for (int i = 0; fields[i]; i++)
        if (!json_equal(json_object_get(a, fields[i]), json_object_get(b, fields[i])) &&
            (json_object_get(a, fields[i]) || json_object_get(b, fields[i])))
            return false;
    return true;
}

static const json_t *row_at(const struct ptq_inspection *in, const json_t *list, size_t i)
{
    return in->layers[json_integer_value(json_array_get(list, i))];
}

/* The row of a base method in the same cell; drawn: with the same statistics. NULL: none. */
static const json_t *partner(const struct ptq_inspection *in, const json_t *row, const char *base,
                             bool drawn)
{
    const json_t *list = ptq_same_cell(in, row);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *other = row_at(in, list, i);
        if (ptq_row_is_base(other, base) && (!drawn || same_fields(row, other, draw_fields)))
            return other;
    }
    return NULL;
}

const struct ptq_spec *ptq_row_spec(struct ptq_inspection *in, const json_t *row)
{
    const char *base = ptq_row_text(row, "base"), *options = ptq_row_text(row, "options");
    const size_t n = strlen(base);
    const char *last = in->spec_text;
    if (!last || strncmp(last, base, n) != 0 || last[n] != ':' || strcmp(last + n + 1, options)) {
        struct ptq_status why = {0};
        const char *text =
            ptq_arena_printf(in->arena, in->st, "%s%s%s", base, *options ? ":" : "", options);
        in->spec_text = ptq_arena_printf(in->arena, in->st, "%s:%s", base, options);
        if (!text || ptq_spec_parse(text, in->arena, &in->spec, &why))
            in->spec.entry = NULL;
    }
    return in->spec_text && in->spec.entry ? &in->spec : NULL;
}

static unsigned needs_of(struct ptq_inspection *in, const json_t *row)
{
    const struct ptq_spec *s = ptq_row_spec(in, row);
    return s ? ptq_spec_needs(s) : 0;
}

/* Value of an option in the canonical text ("act_order=1:block=128"); "" when absent. */
static bool option_is(const json_t *row, const char *name, const char *value)
{
    const size_t n = strlen(name), m = strlen(value);
    for (const char *s = ptq_row_text(row, "options"); *s; s += strcspn(s, ":"), s += *s == ':')
        if (!strncmp(s, name, n) && s[n] == '=' && !strncmp(s + n + 1, value, m) &&
            (s[n + 1 + m] == ':' || !s[n + 1 + m]))
            return true;
    return false;
}

/* ---- the Hessian -------------------------------------------------------------------------------
 */

static int check_hess(struct ptq_inspection *in)
{
    int64_t without = 0;
    in->now->unit = "layer cells";
    for (int64_t i = 0; i < in->n_layers; i++) {
        const json_t *r = in->layers[i], *h = json_object_get(r, "health");
        if (!(needs_of(in, r) & PTQ_NEEDS_HESS))
            continue;
        const double trace = ptq_row_num(h, "trace"), dead = ptq_row_num(h, "n_dead");
        if (!h) {
            without++;
            continue;
        }
        in->now->n_checked++;
        if (!(trace > 0) || !(dead < ptq_row_num(r, "cols")))
            ptq_broken(in, "%s: tr H = %g, %g of %g inputs never active", ptq_row_place(in, r),
                       trace, dead, ptq_row_num(r, "cols"));
    }
    if (without)
        ptq_not_checked(
            in, "%" PRId64 " layer cells: their rows do not hold their Hessian's health", without);
    return PTQ_OK;
}

/* ---- calibration changed something -------------------------------------------------------------
 */

struct setting_count { /* layers of one setting */
    int64_t n, n_equal;
    const json_t *first;
};

static bool is_calibrated(struct ptq_inspection *in, const json_t *r)
{
    return needs_of(in, r) & (PTQ_NEEDS_HESS | PTQ_NEEDS_ACTS);
}

static void end_setting(struct ptq_inspection *in, struct setting_count *c)
{
    if (c->n && c->n_equal == c->n)
        ptq_broken(in,
                   "%s and all %" PRId64
                   " layers of this setting have the codes of rtn (codes_hash %.12s...)",
                   ptq_row_place(in, c->first), c->n, ptq_row_text(c->first, "codes_hash"));
    in->now->n_checked += c->n > 0;
    *c = (struct setting_count){0};
}

/* Report order: the layers of a setting and draw stand together. */
static bool same_setting(const json_t *a, const json_t *b)
{
    static const char *const fields[] = {
        "model",         "label", "bits",   "group_size", "sym", "grid",
        "zero_in_range", "scale", "a_bits", "precision",  NULL};
    return same_fields(a, b, fields) && same_fields(a, b, draw_fields);
}

static int check_changed(struct ptq_inspection *in)
{
    struct setting_count c = {0};
    int64_t alone = 0, idle = 0;
    in->now->unit = "settings";
    for (int64_t i = 0; i < in->n_layers; i++) {
        const json_t *r = in->layers[i];
        if (i && !same_setting(in->layers[i - 1], r))
            end_setting(in, &c);
        if (!is_calibrated(in, r))
            continue;
        if (ptq_row_sub(r, "notes", "took_nothing") == 1) {
            idle++;
            continue;
        }
        const json_t *rtn = partner(in, r, "rtn", false);
        alone += !rtn;
        if (!rtn)
            continue;
        c.first = c.n++ ? c.first : r;
        c.n_equal += !strcmp(ptq_row_text(r, "codes_hash"), ptq_row_text(rtn, "codes_hash"));
    }
    end_setting(in, &c);
    if (alone)
        ptq_not_checked(in, "%" PRId64 " layer cells have no rtn row of the same cell beside them",
                        alone);
    if (idle)
        ptq_not_checked(in,
                        "%" PRId64 " layer cells had nothing to take from their statistics "
                        "(note took_nothing)",
                        idle);
    return PTQ_OK;
}

/* ---- stored forms ------------------------------------------------------------------------------
 */

/* Over all forms: those that are absent, and those that the rule speaks of. */
static int each_form(struct ptq_inspection *in,
                     void (*one)(struct ptq_inspection *, const struct ptq_form_look *))
{
    int64_t absent = 0;
    int code = ptq_look_at_forms(in);
    in->now->unit = "forms";
    for (int64_t i = 0; !code && i < in->n_layers; i++) {
        absent += in->forms[i].state == PTQ_FORM_ABSENT;
        if (in->forms[i].state != PTQ_FORM_ABSENT)
            one(in, &in->forms[i]);
    }
    if (absent)
        ptq_not_checked(in,
                        "INCOMPLETE: %" PRId64 " of %" PRId64
                        " stored forms are not in forms.pack ([run] keep_forms = 0, another build, "
                        "deleted or damaged)",
                        absent, in->n_layers);
    return code;
}

static void codes_of(struct ptq_inspection *in, const struct ptq_form_look *f)
{
    in->now->n_checked += f->state != PTQ_FORM_DAMAGED;
    if (f->state == PTQ_FORM_INVALID)
        ptq_broken(in,
                   "%s: bytes are whole, but make no valid form: a code, index or side array "
                   "out of range (form %.12s...)",
                   ptq_row_place(in, f->row), ptq_row_text(f->row, "form"));
}

static void round_trip_of(struct ptq_inspection *in, const struct ptq_form_look *f)
{
    in->now->n_checked++;
    if (f->state == PTQ_FORM_DAMAGED)
        ptq_broken(in, "%s: the stored bytes do not match their checksum (form %.12s...)",
                   ptq_row_place(in, f->row), ptq_row_text(f->row, "form"));
    else if (*f->round_trip)
        ptq_broken(in, "%s: %s", ptq_row_place(in, f->row), f->round_trip);
}

static void ledger_of(struct ptq_inspection *in, const struct ptq_form_look *f)
{
    if (f->state != PTQ_FORM_READ)
        return;
    in->now->n_checked++;
    if (*f->ledger)
        ptq_broken(in, "%s: %s", ptq_row_place(in, f->row), f->ledger);
    if (f->no_bits)
        ptq_not_checked(in,
                        "rows without bits_stored: the ledger was compared with the bytes alone");
}

static void transforms_of(struct ptq_inspection *in, const struct ptq_form_look *f)
{
    in->now->n_checked += f->state == PTQ_FORM_READ && f->transforms;
    if (*f->transform)
        ptq_broken(in, "%s: %s", ptq_row_place(in, f->row), f->transform);
}

static int check_codes(struct ptq_inspection *in)
{
    return each_form(in, codes_of);
}
static int check_round_trip(struct ptq_inspection *in)
{
    return each_form(in, round_trip_of);
}
static int check_ledger(struct ptq_inspection *in)
{
    return each_form(in, ledger_of);
}
static int check_transforms(struct ptq_inspection *in)
{
    int code = each_form(in, transforms_of);
    return code ? code : ptq_compare_weights(in);
}

/* ---- one method against another ----------------------------------------------------------------
 */

/* GPTQ minimises under H + lambda I: tr(dW H dW^T) + lambda |dW|^2. A channel that outweighs the
 * others makes lambda large, and the undamped loss may then be the worse one. Weights of dead
 * inputs are taken for 0 there, so that their errors (dead_dw2) are no part of the penalty; rtn
 * rounds them, which only adds to its side. Without w_mse: the undamped loss. */
static double damped_loss(const json_t *row, double lambda)
{
    double mse = ptq_row_metric(row, "w_mse"), loss = ptq_row_metric(row, "proxy_loss"),
           dead = ptq_row_sub(row, "notes", "dead_dw2");
    if (isnan(mse) || isnan(lambda))
        return loss;
    const double dw2 = mse * ptq_row_num(row, "rows") * ptq_row_num(row, "cols");
    return loss + lambda * (isnan(dead) ? dw2 : fmax(dw2 - dead, 0));
}

/* Dead inputs whose errors the row does not tell apart: written by another build. */
static bool lacks_dead_error(const json_t *row)
{
    return ptq_row_sub(row, "notes", "n_dead") > 0 && isnan(ptq_row_sub(row, "notes", "dead_dw2"));
}

/* Grids that were fitted before any feedback: then rtn has the same ones. */
static bool same_grids(const json_t *row)
{
    return whole(row, "group_size") <= 0 || option_is(row, "static_groups", "1");
}

static bool is_firm(const json_t *row) /* enough codes, no clipping to speak of */
{
    return whole(row, "bits") >= 3 && same_grids(row);
}

static void gptq_against_rtn(struct ptq_inspection *in, const json_t *row)
{
    const json_t *rtn = partner(in, row, "rtn", true);
    if (!strcmp(ptq_row_text(row, "stats"), "sequential")) {
        ptq_not_checked(in, "statistics are sequential: rows are scored under another Hessian than "
                            "the one that was minimised");
        return;
    }
    const double lambda = lacks_dead_error(row) ? NAN : ptq_row_sub(row, "notes", "damping");
    const double mine = damped_loss(row, lambda), its = rtn ? damped_loss(rtn, lambda) : NAN;
    if (isnan(mine) || isnan(its)) {
        ptq_not_checked(in, "some gptq rows have no rtn row of the same cell and draw beside them, "
                            "or no proxy_loss");
        return;
    }
    in->now->n_checked++;
    if (mine > its * (1 + 1e-6))
        ptq_broken(in, "%s: tr(dW (H + %.3g I) dW^T) = %.6g, rtn has %.6g", ptq_row_place(in, row),
                   isnan(lambda) ? 0 : lambda, mine, its);
}

static int check_gptq(struct ptq_inspection *in, bool firm)
{
    in->now->unit = "layer cells";
    for (int64_t i = 0; i < in->n_layers; i++)
        if (ptq_row_is_base(in->layers[i], "gptq") && is_firm(in->layers[i]) == firm)
            gptq_against_rtn(in, in->layers[i]);
    return PTQ_OK;
}
static int check_gptq_firm(struct ptq_inspection *in)
{
    return check_gptq(in, true);
}
static int check_gptq_coarse(struct ptq_inspection *in)
{
    return check_gptq(in, false);
}

/* ---- medians over layers -----------------------------------------------------------------------
 */

/* Ratios of two losses of one layer, gathered by what is compared: a JSON object of arrays
 * [ratio, layer], since their number is not known before. */
static void gather(json_t *series, const char *name, double ratio, const json_t *row)
{
    json_t *list = json_object_get(series, name);
    if (!list) {
        list = json_array();
        json_object_set_new(series, name, list);
    }
    json_array_append_new(list, json_pack("[f,s]", ratio, ptq_row_text(row, "layer")));
}

static double ratio_at(const json_t *list, size_t i)
{
    return json_real_value(json_array_get(json_array_get(list, i), 0));
}

static const char *worse_layers(const struct ptq_inspection *in, const json_t *list)
{
    enum { MOST_NAMES = 6 };
    const char *text = "";
    int n = 0;
    for (size_t i = 0; i < json_array_size(list) && text; i++)
        if (ratio_at(list, i) > 1 && n++ < MOST_NAMES)
            text = ptq_arena_printf(in->arena, in->st, "%s%s%s (%.3g)", text, *text ? ", " : "",
                                    json_string_value(json_array_get(json_array_get(list, i), 1)),
                                    ratio_at(list, i));
    if (n > MOST_NAMES && text)
        text = ptq_arena_printf(in->arena, in->st, "%s and %d more", text, n - MOST_NAMES);
    return text ? text : "";
}

/* The median: one chaotic layer is no alarm. */
static int judge_medians(struct ptq_inspection *in, json_t *series, const char *what)
{
    const char *name;
    json_t *list;
    int code = PTQ_OK;
    in->now->unit = "comparisons";
    json_object_foreach(series, name, list)
    {
        const int64_t n = (int64_t)json_array_size(list);
        double *x = ptq_arena_alloc(in->arena, in->st, n, sizeof *x);
        if (!x) {
            code = PTQ_ERR_MEMORY;
            break;
        }
        for (int64_t i = 0; i < n; i++)
            x[i] = ratio_at(list, (size_t)i);
        ptq_sort_f64(x, n);
        double median = ptq_quantile_sorted(x, n, 0.5);
        in->now->n_checked++;
        if (median > 1 + 1e-6)
            ptq_broken(in, "%s: %s: median ratio over %" PRId64 " layers %.4g; worse in %s", name,
                       what, n, median, worse_layers(in, list));
    }
    json_decref(series);
    return code;
}

static int check_boa(struct ptq_inspection *in)
{
    json_t *series = json_object();
    for (int64_t i = 0; i < in->n_layers; i++) {
        const json_t *r = in->layers[i], *list = ptq_same_cell(in, r);
        if (!ptq_row_is_base(r, "boa") || isnan(ptq_row_metric(r, "attn_loss")))
            continue;
        for (size_t k = 0; k < json_array_size(list); k++) {
            const json_t *g = row_at(in, list, k);
            double its = ptq_row_metric(g, "attn_loss"); /* under the same order of columns */
            if (!ptq_row_is_base(g, "gptq") || !same_fields(r, g, draw_fields) || !(its > 0) ||
                option_is(r, "act_order_col", "1") != option_is(g, "act_order", "1"))
                continue;
            char group[24];
            const char *name =
                ptq_arena_printf(in->arena, in->st, "%s against %s b%" PRId64 " %s",
                                 ptq_row_text(r, "label"), ptq_row_text(g, "label"),
                                 whole(r, "bits"), group_text(whole(r, "group_size"), group));
            if (name)
                gather(series, name, ptq_row_metric(r, "attn_loss") / its, r);
        }
    }
    if (!json_object_size(series))
        ptq_not_checked(in, "no boa and gptq rows of one cell, draw and order of columns with "
                            "attn_loss");
    return judge_medians(in, series, "attn_loss over gptq's");
}

/* ---- error falls with bits and groups ----------------------------------------------------------
 */

static double error_of(const json_t *row)
{
    double v = ptq_row_metric(row, "out_relerr");
    return isnan(v) ? ptq_row_metric(row, "w_relerr") : v;
}

static int order_i64(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int64_t fineness(const char *field, int64_t v)
{
    return strcmp(field, "group_size") ? v : ptq_group_fineness(v);
}

/* Values of the field over the run, rising in fineness. */
static int64_t steps_of(const struct ptq_inspection *in, const char *field, int64_t steps[64])
{
    int64_t n = 0;
    for (int64_t i = 0; i < in->n_layers; i++) {
        int64_t v = fineness(field, whole(in->layers[i], field)), k = 0;
        while (k < n && steps[k] != v)
            k++;
        if (k == n && n < 64)
            steps[n++] = v;
    }
    qsort(steps, (size_t)n, sizeof *steps, order_i64);
    return n;
}

/* All of a row but the field: those that differ in nothing else have one key. */
static const char *axis_key(const struct ptq_inspection *in, const json_t *row, const char *other)
{
    static const char *const names[] = {"label", "options", NULL};
    const char *key = add_fields(in, "", row, names);
    key = add_fields(in, key, row, cell_fields);
    key = add_fields(in, key, row, draw_fields);
    key = add_field(in, key, row, other);
    return key ? key : "";
}

static void compare_step(struct ptq_inspection *in, json_t *series, const char *field,
                         const json_t *coarse, const json_t *fine)
{
    const double a = error_of(coarse), b = error_of(fine);
    char g1[24], g2[24];
    if (!(a > 0) || isnan(b))
        return;
    const char *grid = ptq_row_text(fine, "grid"),
               *name = ptq_arena_printf(
                   in->arena, in->st, "%s %s%s from b%" PRId64 " %s to b%" PRId64 " %s",
                   ptq_row_text(fine, "label"), grid, whole(fine, "sym") ? " sym" : "",
                   whole(coarse, "bits"), group_text(whole(coarse, "group_size"), g1),
                   whole(fine, "bits"), group_text(whole(fine, "group_size"), g2));
    (void)field;
    if (name)
        gather(series, name, b / a, fine);
}

/* Every row against the one of the next coarser step that the run holds. */
static int check_falls(struct ptq_inspection *in, const char *field, const char *other)
{
    int64_t steps[64], n = steps_of(in, field, steps);
    json_t *series = json_object(), *before = json_object(); /* key -> index in layers */
    for (int64_t s = 0; s < n; s++)
        for (int64_t i = 0; i < in->n_layers; i++) {
            const json_t *r = in->layers[i];
            if (fineness(field, whole(r, field)) != steps[s])
                continue;
            const char *key = axis_key(in, r, other);
            const json_t *last = json_object_get(before, key);
            if (last)
                compare_step(in, series, field, in->layers[json_integer_value(last)], r);
            json_object_set_new(before, key, json_integer(i));
        }
    json_decref(before);
    if (!json_object_size(series))
        ptq_not_checked(in, "no two settings of the run differ in %s alone", field);
    return judge_medians(in, series, "error over that of the coarser setting");
}

static int check_bits(struct ptq_inspection *in)
{
    return check_falls(in, "bits", "group_size");
}
static int check_groups(struct ptq_inspection *in)
{
    return check_falls(in, "group_size", "bits");
}

/* ---- the rules ---------------------------------------------------------------------------------
 */

static const struct ptq_rule rules[] = {
    {"identity_is_rtn", true,
     "under an identity Hessian a method that promises it (rtn_under_identity) gives rtn's codes",
     "feedback between columns that do not correlate: a transposed or mis-scaled factor",
     ptq_check_identity},
    {"hessian_not_zero", true, "every Hessian behind a row has a positive trace and live inputs",
     "statistics of another layer or of no text: capture again", check_hess},
    {"calibration_counts", true,
     "a calibrated method differs from rtn in at least one layer of each setting",
     "the method did not see its Hessian, or sees one that is diagonal", check_changed},
    {"codes_in_range", true, "stored codes, indices and side arrays are within their ranges",
     "a code beyond its width or book, or a file that was changed", check_codes},
    {"round_trip", true,
     "forms read back are whole, unpack(pack) = form, and their codes are those of the row",
     "a damaged forms.pack, rows of another run, or an error in pack or unpack", check_round_trip},
    {"ledger_is_bytes", true, "counted bits = 8 x stored bytes = bits_stored x weights",
     "a side array that is stored but not counted, or counted but not stored", check_ledger},
    {"transforms_are_exact", true,
     "without rounding, divisors, splits and rotations leave the layer's output as it was",
     "a divisor applied on one side only (inputs or weights), a piece that is missing or counted "
     "twice",
     check_transforms},
    {"gptq_not_above_rtn", true,
     "gptq's own objective is not above rtn's, at 3 bits and more with static or row grids",
     "a Hessian of another input, a wrong column order, or feedback of the wrong sign",
     check_gptq_firm},
    {"gptq_not_above_rtn_coarse", false, "the same at 2 bits and less, or with fresh grids",
     "codes clip at the ends of coarse grids; grids fitted later are other grids than rtn's",
     check_gptq_coarse},
    {"boa_not_above_gptq", false,
     "boa's attn_loss is not above gptq's of the same column order (median over layers)",
     "damping of the row factor, or too few calibration tokens for it", check_boa},
    {"error_falls_with_bits", false, "out_relerr falls with bits (median over layers)",
     "clipping or a grid search that fails at one width", check_bits},
    {"error_falls_with_groups", false, "out_relerr falls with smaller groups (median over layers)",
     "fresh grids late in a row, or scales that saturate in their format", check_groups},
};
enum { N_RULES = sizeof rules / sizeof *rules };

const struct ptq_rule *ptq_invariant_rules(int *n)
{
    *n = N_RULES;
    return rules;
}

/* ---- a run -------------------------------------------------------------------------------------
 */

static int order_rows(const void *pa, const void *pb)
{
    const json_t *a = *(const json_t *const *)pa, *b = *(const json_t *const *)pb;
    static const char *const fields[] = {
        "model", "label",      "options", "sym",        "grid",  "zero_in_range", "scale", "a_bits",
        "bits",  "group_size", "calib",   "calib_seed", "layer", "key",           NULL};
    for (int i = 0; fields[i]; i++) {
        const json_t *x = json_object_get(a, fields[i]), *y = json_object_get(b, fields[i]);
        int c = json_is_string(x) || json_is_string(y)
                    ? strcmp(ptq_row_text(a, fields[i]), ptq_row_text(b, fields[i]))
                    : (json_integer_value(x) > json_integer_value(y)) -
                          (json_integer_value(x) < json_integer_value(y));
        if (c)
            return c;
    }
    return 0;
}

static int index_rows(struct ptq_inspection *in, const struct ptq_rows *rows)
{
    in->layers = ptq_arena_alloc(in->arena, in->st, rows->n, sizeof *in->layers);
    in->by_cell = json_object();
    if (!in->layers || !in->by_cell)
        return ptq_status_nomem(in->st, "the index of rows", 0);
    for (int64_t i = 0; i < rows->n; i++)
        if (!strcmp(ptq_row_text(rows->at[i], "kind"), "layer") &&
            !strcmp(ptq_row_text(rows->at[i], "status"), "ok"))
            in->layers[in->n_layers++] = rows->at[i];
    qsort(in->layers, (size_t)in->n_layers, sizeof *in->layers, order_rows);
    for (int64_t i = 0; i < in->n_layers; i++) {
        const char *key = cell_key(in, in->layers[i]);
        json_t *list = json_object_get(in->by_cell, key ? key : "");
        if (!list)
            json_object_set_new(in->by_cell, key ? key : "", list = json_array());
        json_array_append_new(list, json_integer(i));
    }
    return in->st->code < 0 ? in->st->code : PTQ_OK;
}

static int run_rules(struct ptq_inspection *in, struct ptq_invariants *out)
{
    int code = PTQ_OK;
    for (int i = 0; !code && i < N_RULES; i++) {
        struct ptq_rule_result *r = in->now = &out->at[i];
        *r = (struct ptq_rule_result){.rule = &rules[i], .unit = "cases"};
        code = rules[i].check(in);
        if (r->n_broken)
            *(rules[i].hard ? &out->n_violated : &out->n_warned) += 1;
        out->n_not_checked += !r->n_broken && (r->not_checked || !r->n_checked);
    }
    return code ? code : in->st->code < 0 ? in->st->code : PTQ_OK;
}

int ptq_invariants_check(const struct ptq_invariants_args *args, struct ptq_arena *arena,
                         struct ptq_invariants *out, struct ptq_status *st)
{
    struct ptq_rows rows = {0};
    struct ptq_inspection in = {.args = args, .arena = arena, .st = st};
    *out = (struct ptq_invariants){.n = N_RULES};
    out->at = ptq_arena_alloc(arena, st, N_RULES, sizeof *out->at);
    int code = out->at ? ptq_rows_read_run(args->run_dir, &rows, st) : PTQ_ERR_MEMORY;
    if (!code)
        code = index_rows(&in, &rows);
    if (!code)
        code = run_rules(&in, out);
    json_decref(in.by_cell);
    ptq_rows_release(&rows);
    return code;
}
