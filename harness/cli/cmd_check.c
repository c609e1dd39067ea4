/* cmd_check.c: `ptq check RUN`: what must hold of every finished run. */
#include "analysis/invariants.h"
#include "analysis/report.h"
#include "cli/verbs.h"
#include "core/words.h"
#include <inttypes.h>
#include <stdio.h>

enum { N_COLUMNS = 5 };
static const char *const columns[N_COLUMNS] = {"rule", "kind", "result", "checked", "where"};

static const char *result_word(const struct ptq_rule_result *r)
{
    if (r->n_broken)
        return r->rule->hard ? "VIOLATED" : "warning";
    return r->n_checked ? "ok" : "not checked";
}

static int add_row(struct ptq_table *t, const struct ptq_rule_result *r, const char *where)
{
    char checked[64];
    snprintf(checked, sizeof checked, "%" PRId64 " %s", r->n_checked, r->unit);
    const char *const cells[] = {r->rule->name, r->rule->hard ? "hard" : "warning", result_word(r),
                                 checked, where};
    return ptq_table_row(t, cells);
}

static int add_result(struct ptq_table *t, const struct ptq_rule_result *r)
{
    int code = PTQ_OK;
    char text[1200];
    for (int i = 0; !code && i < r->n_findings; i++)
        code = add_row(t, r, r->findings[i]);
    if (!code && r->n_broken > r->n_findings) {
        snprintf(text, sizeof text, "and %" PRId64 " more", r->n_broken - r->n_findings);
        code = add_row(t, r, text);
    }
    if (!code && r->not_checked) {
        snprintf(text, sizeof text, "not checked: %s", r->not_checked);
        code = add_row(t, r, text);
    }
    if (code || r->n_broken || r->not_checked)
        return code;
    return add_row(t, r, r->n_checked ? "" : "nothing in this run that it speaks of");
}

static int print_table(const struct ptq_invariants *all, enum ptq_format format,
                       struct ptq_status *st)
{
    struct ptq_table *t = ptq_table_new(N_COLUMNS, columns, NULL);
    int code = t ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int i = 0; !code && i < all->n; i++)
        code = add_result(t, &all->at[i]);
    if (!code)
        ptq_table_print(t, format, stdout);
    ptq_table_free(t);
    return code ? ptq_status_nomem(st, "a table", 0) : PTQ_OK;
}

static void print_verdict(const struct ptq_invariants *all)
{
    for (int i = 0; i < all->n; i++)
        if (all->at[i].n_broken)
            printf("%s: %s; likely: %s\n", all->at[i].rule->name, all->at[i].rule->what,
                   all->at[i].rule->cause);
    printf("%s: %" PRId64 " of %d rules violated, %" PRId64 " with warnings, %" PRId64
           " not fully checked\n",
           all->n_violated ? "VIOLATED" : "PASSED", all->n_violated, all->n, all->n_warned,
           all->n_not_checked);
}

static int list_rules(enum ptq_format format, struct ptq_status *st)
{
    static const char *const heads[] = {"rule", "kind", "holds", "likely_cause"};
    int n;
    const struct ptq_rule *rules = ptq_invariant_rules(&n);
    struct ptq_table *t = ptq_table_new(4, heads, NULL);
    for (int i = 0; t && i < n; i++) {
        const char *const cells[] = {rules[i].name, rules[i].hard ? "hard" : "warning",
                                     rules[i].what, rules[i].cause};
        ptq_table_row(t, cells);
    }
    if (!t)
        return ptq_status_nomem(st, "a table", 0);
    ptq_table_print(t, format, stdout);
    ptq_table_free(t);
    return PTQ_OK;
}

static int check(const char *word, enum ptq_format format, struct ptq_status *st)
{
    struct ptq_arena arena;
    struct ptq_pool *pool = NULL;
    struct ptq_invariants all;
    char *dir;
    ptq_arena_init(&arena, 0);
    int code = ptq_run_folder(word, &arena, &dir, st);
    code = code ? code : ptq_pool_new(&pool, 0, st);
    const struct ptq_invariants_args args = {.run_dir = dir, .pool = pool};
    code = code ? code : ptq_invariants_check(&args, &arena, &all, st);
    code = code ? code : print_table(&all, format, st);
    if (!code && format == PTQ_TEXT)
        print_verdict(&all);
    ptq_pool_free(pool);
    ptq_arena_clear(&arena);
    return code ? code : all.n_violated ? 100 + 5 : PTQ_OK;
}

static int run(const struct ptq_args *a, struct ptq_status *st)
{
    enum ptq_format format;
    int code = ptq_format_parse(ptq_arg(a, "format"), &format, st);
    if (code)
        return code;
    if (ptq_arg(a, "rules"))
        return list_rules(format, st);
    if (!a->n_positional)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "ptq check needs a run: a folder, or NAME of results/NAME");
    return check(a->positional[0], format, st);
}

static const struct ptq_flag flags[] = {
    {"rules", 0, PTQ_FLAG_SWITCH, NULL, "list the rules and what most likely breaks them"},
    {"format", 0, PTQ_FLAG_TEXT, "text|md|csv|jsonl", "format of the table [text]"},
    {NULL}};
const struct ptq_verb ptq_verb_check = {
    .name = "check",
    .title = "Check what must hold of a finished run; run after every sweep",
    .usage = "RUN [--format text|md|csv|jsonl] | --rules",
    .details =
        "RUN is a run folder (results/NAME) or its NAME. Rows, stored forms and, for one rule, a "
        "layer of its model are read again.\n"
        "Hard rules: identity_is_rtn hessian_not_zero calibration_counts codes_in_range round_trip "
        "ledger_is_bytes\n"
        "            transforms_are_exact gptq_not_above_rtn\n"
        "Warnings:   gptq_not_above_rtn_coarse boa_not_above_gptq error_falls_with_bits "
        "error_falls_with_groups\n"
        "`ptq check --rules` says what each holds and what most likely breaks it. What cannot be "
        "checked is said with its reason\n"
        "(stored forms that were not kept, rows without the numbers).\n"
        "Exit codes: 0 no hard rule is broken, 2 no such run or a broken row, 5 a hard rule is "
        "broken.\n"
        "  ptq check demo",
    .flags = flags,
    .min_positional = 0,
    .max_positional = 1,
    .run = run,
};
