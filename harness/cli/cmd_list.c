/* cmd_list.c: `ptq list`: what the registries hold. Every table here is printed from the code,
 * never typed. */
#include "cli/verbs.h"
#include "core/words.h"
#include "metrics/metric.h"
#include "model/protocol.h"
#include "model/textfile.h"
#include "quant/method.h"
#include <stdio.h>
#include <string.h>

struct listing {
    enum ptq_format format;
    bool options; /* -v: the options of methods */
};

static const char *fmt_default(const struct ptq_opt *o, char buf[48])
{
    switch (o->type) {
    case PTQ_OPT_BOOL: return o->def != 0 ? "1" : "0";
    case PTQ_OPT_INT: snprintf(buf, 48, "%.0f", o->def); return buf;
    case PTQ_OPT_REAL: snprintf(buf, 48, "%g", o->def); return buf;
    case PTQ_OPT_CHOICE: return o->choices[(int)o->def];
    }
    return "";
}

static int finish(struct ptq_table *t, enum ptq_format format)
{
    ptq_table_print(t, format, stdout);
    ptq_table_free(t);
    return PTQ_OK;
}

static void caps_text(const struct ptq_method *m, char out[128])
{
    static const struct {
        unsigned cap;
        const char *word;
    } words[] = {{PTQ_CAP_ASYM, "asym"},          {PTQ_CAP_SYM, "sym"},
                 {PTQ_CAP_GROUPS, "groups"},      {PTQ_CAP_TENSOR, "tensor"},
                 {PTQ_CAP_GRID_MSE, "mse"},       {PTQ_CAP_GRID_HESS, "hess"},
                 {PTQ_CAP_ZERO_FREE, "zero-free"}};
    int n = 0;
    out[0] = 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (m->caps & words[i].cap)
            n += snprintf(out + n, (size_t)(128 - n), "%s%s", n ? " " : "", words[i].word);
}

static int list_methods(const struct listing *l, struct ptq_status *st)
{
    static const char *const columns[] = {"method", "version", "needs", "can", "status", "title"};
    struct ptq_table *t = ptq_table_new(6, columns, NULL);
    if (!t)
        return ptq_status_nomem(st, "a table", 0);
    int n;
    const struct ptq_method_entry *e = ptq_methods(&n);
    for (int i = 0; i < n; i++) {
        char caps[128];
        caps_text(e[i].single, caps);
        unsigned needs = e[i].single->needs;
        const char *row[] = {e[i].name,
                             e[i].version,
                             needs & PTQ_NEEDS_HESS   ? "hess"
                             : needs & PTQ_NEEDS_ACTS ? "acts"
                                                      : "-",
                             caps,
                             e[i].single->status,
                             e[i].single->title};
        ptq_table_row(t, row);
    }
    return finish(t, l->format);
}

static int list_options(const struct listing *l, struct ptq_status *st)
{
    static const char *const columns[] = {"method", "option", "default", "help"};
    struct ptq_table *t = ptq_table_new(4, columns, NULL);
    if (!t)
        return ptq_status_nomem(st, "a table", 0);
    int n;
    const struct ptq_method_entry *e = ptq_methods(&n);
    for (int i = 0; i < n; i++)
        for (const struct ptq_opt *o = e[i].single->opts; o && o->name; o++) {
            char buf[48];
            const char *row[] = {e[i].name, o->name, fmt_default(o, buf), o->help};
            ptq_table_row(t, row);
        }
    return finish(t, l->format);
}

static int list_presets(const struct listing *l, struct ptq_status *st)
{
    static const char *const columns[] = {"preset", "method", "options", "help"};
    struct ptq_table *t = ptq_table_new(4, columns, NULL);
    if (!t)
        return ptq_status_nomem(st, "a table", 0);
    struct ptq_arena a;
    struct ptq_preset *p;
    int64_t n;
    ptq_arena_init(&a, 0);
    int code = ptq_presets(&a, &p, &n, st);
    for (int64_t i = 0; !code && i < n; i++) {
        const char *row[] = {p[i].name, p[i].method, p[i].options, p[i].help};
        ptq_table_row(t, row);
    }
    ptq_arena_clear(&a);
    if (!code)
        return finish(t, l->format);
    ptq_table_free(t);
    return code;
}

static int list_metrics(const struct listing *l, struct ptq_status *st)
{
    static const char *const columns[] = {"metric", "of", "unit", "better", "title"};
    struct ptq_table *t = ptq_table_new(5, columns, NULL);
    if (!t)
        return ptq_status_nomem(st, "a table", 0);
    int n;
    const struct ptq_metric_entry *e = ptq_metrics(&n);
    for (int i = 0; i < n; i++) {
        const struct ptq_metric *m = e[i].metric;
        const char *row[] = {m->id,
                             m->layer && m->model ? "layer model"
                             : m->layer           ? "layer"
                                                  : "model",
                             m->unit,
                             m->better < 0   ? "lower"
                             : m->better > 0 ? "higher"
                                             : "-",
                             m->title};
        ptq_table_row(t, row);
    }
    return finish(t, l->format);
}

/* Names of published windows: "gptq-N: gptq-2048, gptq-4096". */
static int list_protocols(const struct listing *l, struct ptq_status *st)
{
    static const char *const columns[] = {"protocol", "published_N", "what", "rules"};
    struct ptq_table *t = ptq_table_new(4, columns, NULL);
    if (!t)
        return ptq_status_nomem(st, "a table", 0);
    int n;
    const struct ptq_protocol *p = ptq_protocols(&n);
    for (int i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s-N", p[i].name);
        const char *row[] = {name, *p[i].known ? p[i].known : "-", p[i].title, p[i].rules};
        ptq_table_row(t, row);
    }
    return finish(t, l->format);
}

static int list_draws(const struct listing *l, struct ptq_status *st)
{
    static const char *const columns[] = {"draw", "what", "rules"};
    struct ptq_table *t = ptq_table_new(3, columns, NULL);
    if (!t)
        return ptq_status_nomem(st, "a table", 0);
    int n;
    const struct ptq_draw_rule *d = ptq_draw_rules(&n);
    for (int i = 0; i < n; i++) {
        const char *row[] = {d[i].name, d[i].title, d[i].rules};
        ptq_table_row(t, row);
    }
    return finish(t, l->format);
}

static int text_row(struct ptq_table *t, const struct ptq_known_text *x, struct ptq_arena *a,
                    struct ptq_status *st)
{
    const char *path, *meant = x->evaluation ? "evaluation" : x->calibration ? "calibration" : "-";
    char *name = ptq_arena_printf(a, st, "%s:%s", x->name, x->split);
    int rc = name ? ptq_known_text_path(x, a, &path, st) : PTQ_ERR_MEMORY;
    if (rc < 0)
        return rc;
    const char *row[] = {name,
                         x->family ? x->family : "-",
                         meant,
                         rc == PTQ_SKIP ? "absent" : path,
                         x->sha256 ? x->sha256 : "not known",
                         x->where};
    ptq_table_row(t, row);
    return PTQ_OK;
}

static int list_texts(const struct listing *l, struct ptq_status *st)
{
    static const char *const columns[] = {"text", "family", "default_for",
                                          "file", "sha256", "where"};
    struct ptq_table *t = ptq_table_new(6, columns, NULL);
    if (!t)
        return ptq_status_nomem(st, "a table", 0);
    struct ptq_arena a;
    const struct ptq_known_text *list;
    int64_t n;
    ptq_arena_init(&a, 0);
    int code = ptq_known_texts(&a, &list, &n, st);
    for (int64_t i = 0; !code && i < n; i++)
        code = text_row(t, &list[i], &a, st);
    ptq_arena_clear(&a);
    if (!code)
        return finish(t, l->format);
    ptq_table_free(t);
    return code;
}

static int list_verbs(const struct listing *l, struct ptq_status *st);

static const struct {
    const char *word;
    int (*list)(const struct listing *, struct ptq_status *);
} kinds[] = {{"methods", list_methods}, {"options", list_options},     {"presets", list_presets},
             {"metrics", list_metrics}, {"protocols", list_protocols}, {"draws", list_draws},
             {"texts", list_texts},     {"verbs", list_verbs}};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static int list_verbs(const struct listing *l, struct ptq_status *st)
{
    static const char *const columns[] = {"verb", "title"};
    struct ptq_table *t = ptq_table_new(2, columns, NULL);
    if (!t)
        return ptq_status_nomem(st, "a table", 0);
    for (const struct ptq_verb *const *v = ptq_verbs(); *v; v++) {
        const char *row[] = {(*v)->name, (*v)->title};
        ptq_table_row(t, row);
    }
    return finish(t, l->format);
}

static int run(const struct ptq_args *a, struct ptq_status *st)
{
    struct listing l = {0};
    int code = ptq_format_parse(ptq_arg(a, "format"), &l.format, st);
    const char *names[N_KINDS + 1] = {NULL};
    for (int k = 0; k < N_KINDS; k++)
        names[k] = kinds[k].word;
    if (code)
        return code;
    for (int k = 0; k < N_KINDS; k++) {
        if (a->n_positional && strcmp(a->positional[0], kinds[k].word))
            continue;
        if ((code = kinds[k].list(&l, st)) || a->n_positional)
            return code;
        if (k + 1 < N_KINDS)
            putchar('\n');
    }
    return a->n_positional ? ptq_unknown_word("listing", a->positional[0], names, st) : PTQ_OK;
}

static const struct ptq_flag flags[] = {
    {"format", 0, PTQ_FLAG_TEXT, "F", "text, md, csv or jsonl [text]", NULL},
    {NULL},
};
const struct ptq_verb ptq_verb_list = {
    .name = "list",
    .title = "List methods, their options, presets, metrics, protocols, draws, texts and verbs",
    .usage = "[methods|options|presets|metrics|protocols|draws|texts|verbs] [--format F]",
    .details = "What the registries of this build hold: a file added to methods/ or "
               "harness/metrics/ is here after `make`.\n"
               "A method's version is the hash of its source and part of every key. Protocols are "
               "printed to their last rule;\n"
               "texts (configs/texts.ini) with the place where their file was found, or where it "
               "may be had. Papers' tables are listed by `ptq table`.",
    .flags = flags,
    .min_positional = 0,
    .max_positional = 1,
    .run = run,
};
