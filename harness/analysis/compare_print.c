/* compare_print.c: a comparison as Markdown for a pull request and as JUnit XML for a CI page. */
#include "analysis/compare.h"
#include "analysis/put.h"
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- Markdown ----------------------------------------------------------------------------------
 */

static const char *sign_of(enum ptq_quality q)
{
    static const char *const signs[] = {"✅", "🎉", "❔", "⚠️", "❌"};
    return signs[q];
}

static void put_change(FILE *f, const struct ptq_compared *c)
{
    if (!c->has_windows)
        fputs("–", f);
    else if (c->model.change.mean == 0 && c->model.change.se == 0)
        fputs("0", f);
    else
        fprintf(f, "%+.5f ± %.5f", c->model.change.mean,
                (c->model.change.hi - c->model.change.lo) / 2);
}

static void put_layers(FILE *f, const struct ptq_compared_layers *l)
{
    if (!l->n) {
        fputs("–", f);
        return;
    }
    fprintf(f, "%+.2f %%", 100 * (l->mean - 1));
    const char *name = l->worst - 1 >= 1 - l->best ? l->worst_name : l->best_name;
    double most = l->worst - 1 >= 1 - l->best ? l->worst : l->best;
    if (most != 1 && name) {
        fputs(" (", f);
        ptq_put_md(f, name);
        fprintf(f, " %+.1f %%)", 100 * (most - 1));
    }
}

static void put_setting(FILE *f, const struct ptq_compared *c)
{
    fputs("| ", f);
    ptq_put_md(f, c->name);
    fprintf(f, " | %s %s | ", sign_of(c->quality), ptq_quality_words[c->quality]);
    if (!c->n_hashed)
        fputs("–", f);
    else if (c->n_changed)
        fprintf(f, "changed (%" PRId64 " of %" PRId64 ")", c->n_changed, c->n_hashed);
    else
        fputs("same", f);
    fputs(" | ", f);
    put_change(f, c);
    fputs(" | ", f);
    if (c->has_windows && c->model.change.se > 0)
        fprintf(f, "%.2g | %.5f | ", c->model.p_holm, c->model.least_seen);
    else
        fputs("– | – | ", f);
    put_layers(f, &c->layers);
    fputs(" | ", f);
    if (isfinite(c->bits_old) && isfinite(c->bits_new) && c->bits_old != c->bits_new)
        fprintf(f, "%.4f → %.4f | ", c->bits_old, c->bits_new);
    else if (isfinite(c->bits_new))
        fprintf(f, "%.4f | ", c->bits_new);
    else
        fputs("– | ", f);
    if (c->seeds.n < 2)
        fputs("–", f);
    else
        fprintf(f, "%s (%" PRId64 " seeds)", c->seeds.beyond ? "beyond" : "within", c->seeds.n);
    fputs(" | ", f);
    ptq_put_md(f, c->reason);
    fputs(" |\n", f);
}

static void put_terms(FILE *f, const struct ptq_comparison *c, const struct ptq_compare_options *o)
{
    if (c->n_windows)
        fprintf(
            f,
            "\nChange: NEW − OLD of the loss, nats/token, with its %.0f %% interval from paired "
            "differences of %" PRId64
            " windows; p is Holm's over the settings (alarm at %.2g). SAME: the "
            "interval lies within ±%g nats/token. Least seen: the change that this setting "
            "would show with a power of %g.\n",
            100 * (1 - o->alpha), c->n_windows, o->alpha, o->margin, o->power);
    fprintf(f,
            "\nLayers: geometric mean of NEW / OLD of their relative output errors, and the "
            "largest change; they decide beyond %g %% (mean) and %g %% (one layer) where windows "
            "do not. Draws: whether the change is beyond what another draw of the calibration "
            "text does.\n",
            100 * o->mean_tolerance, 100 * o->layer_tolerance);
}

int ptq_compare_md(const struct ptq_comparison *c, const struct ptq_compare_options *o, FILE *f)
{
    if (!c->comparable) {
        fputs("### ⛔ Not comparable\n\n", f);
        ptq_put_md(f, c->why);
        fputs("\n\nNo number is given: the two sides do not speak of the same thing.\n", f);
        return PTQ_OK;
    }
    fprintf(f, "### %s Quantization: quality %s, bits %s\n\n", sign_of(c->quality),
            ptq_quality_words[c->quality], c->bits_changed ? "CHANGED" : "SAME");
    ptq_put_md(f, c->old_name);
    fputs(" → ", f);
    ptq_put_md(f, c->new_name);
    fputs(". ", f);
    ptq_put_md(f, c->why);
    fputs("\n\n| setting | quality | bits | change of loss | p | least seen | layers | stored bits "
          "| draws | |\n|---|---|---|---|---|---|---|---|---|---|\n",
          f);
    for (int64_t i = 0; i < c->n; i++)
        put_setting(f, &c->at[i]);
    put_terms(f, c, o);
    for (int i = 0; i < c->n_remarks; i++) {
        fputs("\n* ", f);
        ptq_put_md(f, c->remarks[i]);
    }
    fputs(c->n_remarks ? "\n" : "", f);
    return PTQ_OK;
}

/* ---- JUnit -------------------------------------------------------------------------------------
 */

/* The schema that CI servers read: testsuites/testsuite/testcase/(failure | error). */
static bool fails(const struct ptq_compared *c, const struct ptq_compare_options *o)
{
    return c->quality == PTQ_REGRESSED || c->quality == PTQ_AMBIGUOUS ||
           (o->strict && (c->quality == PTQ_IMPROVED || c->n_changed));
}

static void put_case(FILE *f, const struct ptq_compared *c, const struct ptq_compare_options *o)
{
    fputs("  <testcase classname=\"ptq.compare\" name=\"", f);
    ptq_put_html(f, c->name);
    if (c->quality != PTQ_MISSING && !fails(c, o)) {
        fputs("\"/>\n", f);
        return;
    }
    const char *kind = c->quality == PTQ_MISSING ? "error" : "failure",
               *type = c->quality == PTQ_SAME ? "BITS" : ptq_quality_words[c->quality];
    fprintf(f, "\">\n    <%s type=\"%s\" message=\"%s: ", kind, type,
            c->quality == PTQ_SAME ? "other bits, the baseline is old" : type);
    if (c->has_windows)
        fprintf(f, "change of loss %+.6f, %+.6f to %+.6f nats/token, p %.3g; ",
                c->model.change.mean, c->model.change.lo, c->model.change.hi, c->model.p_holm);
    if (c->layers.n) {
        fprintf(f, "layers %+.2f %% in the mean, worst %+.2f %%", 100 * (c->layers.mean - 1),
                100 * (c->layers.worst - 1));
        fputs(c->layers.worst_name ? " in " : "", f);
        ptq_put_html(f, c->layers.worst_name);
        fputs("; ", f);
    }
    fprintf(f, "codes of %" PRId64 " of %" PRId64 " cells changed", c->n_changed, c->n_hashed);
    fputs(*c->reason ? "; " : "", f);
    ptq_put_html(f, c->reason);
    fprintf(f, "\"/>\n  </testcase>\n");
}

static void put_suite(FILE *f, const struct ptq_comparison *c, const struct ptq_compare_options *o)
{
    int64_t n_failed = 0, n_errors = c->comparable ? 0 : 1;
    for (int64_t i = 0; i < c->n; i++) {
        n_errors += c->at[i].quality == PTQ_MISSING;
        n_failed += c->at[i].quality != PTQ_MISSING && fails(&c->at[i], o);
    }
    int64_t n = c->comparable ? c->n : 1;
    fprintf(f,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<testsuites tests=\"%" PRId64 "\" failures=\"%" PRId64 "\" errors=\"%" PRId64 "\">\n"
            " <testsuite name=\"ptq compare\" tests=\"%" PRId64 "\" failures=\"%" PRId64
            "\" errors=\"%" PRId64 "\">\n",
            n, n_failed, n_errors, n, n_failed, n_errors);
    if (!c->comparable) {
        fputs("  <testcase classname=\"ptq.compare\" name=\"comparable\">\n"
              "    <error type=\"NOT COMPARABLE\" message=\"",
              f);
        ptq_put_html(f, c->why);
        fputs("\"/>\n  </testcase>\n", f);
    }
    for (int64_t i = 0; i < c->n; i++)
        put_case(f, &c->at[i], o);
    fputs(" </testsuite>\n</testsuites>\n", f);
}

int ptq_compare_junit(const struct ptq_comparison *c, const struct ptq_compare_options *o,
                      const char *path, struct ptq_status *st)
{
    struct ptq_buffer b;
    int code = ptq_buffer_open(&b, st);
    if (code)
        return code;
    put_suite(b.f, c, o);
    return ptq_buffer_save(&b, path, st);
}
