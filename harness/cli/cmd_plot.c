/* cmd_plot.c: `ptq plot RUN NAME`: one picture of plots/NAME.gp. */
#include "analysis/plot.h"
#include "analysis/report.h"
#include "cli/cli.h"
#include <stdio.h>

static int list(struct ptq_arena *arena, struct ptq_status *st)
{
    struct ptq_plot *plots;
    int64_t n;
    int code = ptq_plots_list(arena, &plots, &n, st);
    for (int64_t i = 0; i < n; i++)
        printf("%-12s %s\n", plots[i].name, plots[i].title);
    return code;
}

static int draw(const struct ptq_args *a, struct ptq_arena *arena, struct ptq_status *st)
{
    char *dir;
    const char *name = a->positional[1], *out = ptq_arg(a, "output");
    int code = ptq_run_folder(a->positional[0], arena, &dir, st);
    if (code)
        return code;
    out = out ? out : ptq_arena_printf(arena, st, "%s/plots/%s.svg", dir, name);
    code = out ? ptq_plot_write(dir, name, out, st) : PTQ_ERR_MEMORY;
    if (code == PTQ_OK)
        printf("%s\n", out);
    /* Not drawn is what a report can live with; here the picture was all that was asked for. */
    if (code == PTQ_SKIP) {
        fprintf(stderr, "ptq plot: %s\n", st->text);
        return 100 + 6;
    }
    return code;
}

static int run(const struct ptq_args *a, struct ptq_status *st)
{
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    int code = a->n_positional < 2 ? list(&arena, st) : draw(a, &arena, st);
    ptq_arena_clear(&arena);
    return code;
}

static const struct ptq_flag flags[] = {
    {"output", 'o', PTQ_FLAG_TEXT, "FILE", "where to write it, .svg or .png [RUN/plots/NAME.svg]"},
    {NULL}};
const struct ptq_verb ptq_verb_plot = {
    .name = "plot",
    .title = "Draw one picture of a run with gnuplot",
    .usage = "[RUN NAME] [-o FILE.svg]",
    .details = "RUN is a run folder (results/NAME) or its name; NAME is a file plots/NAME.gp: "
               "without arguments they are listed.\n"
               "The data lie beside the picture (RUN/plots/*.tsv, a heading line, tabs). A new "
               "picture is a new .gp file; plots/_style.gp\n"
               "says what it is given. Prints the name of the file it wrote.\n"
               "Exit codes: 0 ok, 2 unknown run or picture, 6 not drawn (gnuplot absent or its "
               "error, nothing to show).\n"
               "  ptq plot demo loss_bits -o loss.png",
    .flags = flags,
    .min_positional = 0,
    .max_positional = 2,
    .run = run,
};
