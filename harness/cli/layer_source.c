#include "cli/layer_source.h"
#include "core/hash.h"
#include "core/paths.h"
#include "core/words.h"
#include "datasets/synth_layer.h"
#include "model/module.h"
#include "model/stats.h"
#include "sweep/layerfile.h"
#include <string.h>

struct loader {
    const struct ptq_layer_request *ask;
    struct ptq_arena *arena;
    struct ptq_layer *layer;
    struct ptq_h5 *h5;       /* NULL: the file is no container */
    struct ptq_h5 *stats_h5; /* the file of --stats-file; NULL: none was named */
    struct ptq_status *st;
};

/* The name asked for, or the only one of names. */
static int choose(struct loader *l, const char *file, const char *what, const char *asked,
                  char **names, int64_t n, const char **out)
{
    const char **valid = ptq_arena_alloc(l->arena, l->st, n + 1, sizeof *valid);
    if (!valid)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++) {
        valid[i] = names[i];
        if (asked && !strcmp(names[i], asked)) {
            *out = names[i];
            return PTQ_OK;
        }
    }
    if (asked)
        return ptq_unknown_word_at(file, what, asked, valid, l->st);
    if (n == 1) {
        *out = names[0];
        return PTQ_OK;
    }
    return ptq_status_set(
        l->st, PTQ_ERR_USAGE, "%s: holds %lld of kind %s; name one with %s (the first is %s)", file,
        (long long)n, what, strcmp(what, "layer") ? "--stats" : "-l", n ? names[0] : "absent");
}

/* ---- bare layers ---- */

static int apply_norm(struct loader *l)
{
    struct ptq_layer *y = l->layer;
    if (y->hess.at) {
        if (l->ask->norm >= 0)
            y->hess_norm = (enum ptq_norm)l->ask->norm;
        if (l->ask->n_sequences > 0)
            y->n_sequences = (double)l->ask->n_sequences;
        return PTQ_OK;
    }
    if (!y->acts.at)
        return PTQ_OK;
    y->hess_norm = l->ask->norm >= 0 ? (enum ptq_norm)l->ask->norm : PTQ_NORM_TOKEN;
    if (y->hess_norm == PTQ_NORM_UNKNOWN)
        return ptq_status_set(l->st, PTQ_ERR_USAGE,
                              "a Hessian made from activations is scaled by token or sequence");
    if (y->hess_norm == PTQ_NORM_SEQUENCE && l->ask->n_sequences < 1)
        return ptq_status_set(
            l->st, PTQ_ERR_USAGE,
            "normalisation sequence: say how many sequences the activations are (--sequences N)");
    y->n_tokens = (double)y->acts.rows;
    y->n_sequences = (double)l->ask->n_sequences;
    return ptq_hess_from_acts(l->ask->pool, &y->acts, y->hess_norm, l->ask->n_sequences,
                              l->ask->precision, l->arena, &y->hess, l->st);
}

static int load_bare(struct loader *l, const char **object)
{
    char **names;
    int64_t n;
    const char *name = NULL;
    if (l->ask->stats_file || l->ask->stats)
        return ptq_status_set(l->st, PTQ_ERR_USAGE,
                              "%s: holds bare layers, which bring their own activations or hess; "
                              "--stats-file and --stats go with a model",
                              l->ask->file);
    int rc = ptq_layerfile_names(l->h5, l->arena, &names, &n, l->st);
    if (rc == PTQ_OK)
        rc = choose(l, l->ask->file, "layer", l->ask->layer, names, n, &name);
    if (rc != PTQ_OK)
        return rc;
    struct ptq_layerfile_args args = {
        .name = name, .precision = l->ask->precision, .pool = l->ask->pool};
    rc = ptq_layerfile_read(l->h5, &args, l->arena, l->layer, l->st);
    if (rc == PTQ_OK)
        rc = apply_norm(l);
    if (rc == PTQ_OK && l->layer->hess.at && !l->layer->hess_key)
        l->layer->hess_key = ptq_hash64(
            l->layer->hess.at, (size_t)(l->layer->hess.rows * l->layer->hess.ld) * sizeof(double));
    *object = ptq_arena_printf(l->arena, l->st, "/layers/%s", name);
    return rc == PTQ_OK && !*object ? PTQ_ERR_MEMORY : rc;
}

/* ---- models ---- */

/* Names of all linears; *block of the one asked for, -1 when there is none of that name. */
static int layer_names(struct loader *l, const struct ptq_model *m, char ***names, int64_t *n,
                       int *block)
{
    int64_t n_blocks = ptq_model_info(m)->n_blocks;
    *names = ptq_arena_alloc(l->arena, l->st, n_blocks * PTQ_MAX_LINEARS, sizeof **names);
    if (!*names)
        return PTQ_ERR_MEMORY;
    *n = 0;
    *block = -1;
    for (int64_t b = 0; b < n_blocks; b++) {
        struct ptq_block layout;
        int rc = ptq_model_layout(m, (int)b, l->arena, &layout, l->st);
        if (rc != PTQ_OK)
            return rc;
        for (int i = 0; i < layout.n_linears; i++) {
            (*names)[*n] = ptq_arena_strdup(l->arena, l->st, layout.lin[i].name);
            if (!(*names)[*n])
                return PTQ_ERR_MEMORY;
            if (l->ask->layer && !strcmp((*names)[*n], l->ask->layer))
                *block = (int)b;
            ++*n;
        }
    }
    return PTQ_OK;
}

static int no_stats(const struct loader *l, const char *file)
{
    return ptq_status_set(l->st, PTQ_ERR_USAGE,
                          "%s: holds no /stats; make them: `ptq capture %s --text TEXT --out "
                          "STATS.h5`, then `ptq run %s --stats-file STATS.h5 -l LAYER ...`",
                          file, l->ask->file, l->ask->file);
}

/* The weights of one model and the inputs of another would give a row that means nothing. */
static int check_model(const struct loader *l, const struct ptq_model *m, const char *name)
{
    struct ptq_stats_head head;
    int rc = ptq_stats_read_head(l->stats_h5, name, l->arena, &head, l->st);
    if (rc != PTQ_OK || !strcmp(head.model_key, ptq_model_info(m)->key))
        return rc;
    return ptq_status_set(l->st, PTQ_ERR_USAGE,
                          "%s: /stats/%s is of another model than %s (its contents or options "
                          "differ); `ptq capture %s --text TEXT --out STATS.h5` makes its own",
                          l->ask->stats_file, name, l->ask->file, l->ask->file);
}

/* Statistics of the layer's input; none in the file: the layer has none, and methods that need
 * them say so. */
static int load_stats(struct loader *l, const struct ptq_model *m, const char *input,
                      struct ptq_input_stats **out)
{
    char **names;
    int64_t n;
    const char *name = NULL, *file = l->stats_h5 ? l->ask->stats_file : l->ask->file;
    struct ptq_h5 *h5 = l->stats_h5 ? l->stats_h5 : l->h5;
    *out = NULL;
    if (!h5 || !ptq_h5_exists(h5, "/stats"))
        return l->stats_h5 || l->ask->stats ? no_stats(l, file) : PTQ_OK;
    int rc = ptq_h5_list(h5, "/stats", l->arena, &names, &n, l->st);
    if (rc == PTQ_OK)
        rc = choose(l, file, "statistics", l->ask->stats, names, n, &name);
    if (rc == PTQ_OK && l->stats_h5)
        rc = check_model(l, m, name);
    if (rc != PTQ_OK)
        return rc;
    *out = ptq_arena_alloc(l->arena, l->st, 1, sizeof **out);
    return *out ? ptq_stats_read_input(h5, name, input, l->arena, *out, l->st) : PTQ_ERR_MEMORY;
}

static int load_linear(struct loader *l, const struct ptq_model *m, const char **object)
{
    char **names;
    int64_t n;
    int block;
    const char *name = NULL;
    struct ptq_block loaded;
    int rc = layer_names(l, m, &names, &n, &block);
    if (rc == PTQ_OK)
        rc = choose(l, l->ask->file, "layer", l->ask->layer, names, n, &name);
    if (rc == PTQ_OK)
        rc = ptq_model_load_block(m, block < 0 ? 0 : block, l->arena, &loaded, l->st);
    if (rc != PTQ_OK)
        return rc;
    const struct ptq_linear *lin = &loaded.lin[0];
    for (int i = 0; i < loaded.n_linears; i++)
        if (!strcmp(loaded.lin[i].name, name))
            lin = &loaded.lin[i];
    struct ptq_input_stats *stats;
    rc = load_stats(l, m, lin->input, &stats);
    if (rc != PTQ_OK)
        return rc;
    if (stats && stats->d_in != lin->d_in)
        return ptq_status_set(
            l->st, PTQ_ERR_USAGE,
            "%s: statistics of %s have %lld columns, %s has %lld; capture them again",
            l->stats_h5 ? l->ask->stats_file : l->ask->file, lin->input, (long long)stats->d_in,
            lin->name, (long long)lin->d_in);
    ptq_layer_from_model(lin, loaded.index, stats, l->layer);
    struct ptq_neighbours *near = ptq_arena_alloc(l->arena, l->st, 1, sizeof *near);
    if (!near)
        return PTQ_ERR_MEMORY;
    ptq_layer_place(l->layer, &loaded, (int)(lin - loaded.lin), NULL, near);
    *object = l->stats_h5 ? ptq_arena_printf(l->arena, l->st, "%s (statistics: %s)", lin->name,
                                             l->ask->stats_file)
                          : lin->name;
    return *object ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int load_model(struct loader *l, const char **object)
{
    struct ptq_model *m = NULL;
    if (l->ask->norm >= 0 || l->ask->n_sequences)
        return ptq_status_set(
            l->st, PTQ_ERR_USAGE,
            "%s: --normalisation and --sequences describe bare layers; statistics "
            "of a model say both themselves",
            l->ask->file);
    int rc = ptq_model_open(&m, l->ask->file, &(struct ptq_model_options){0}, l->st);
    if (rc == PTQ_OK)
        rc = load_linear(l, m, object);
    ptq_model_close(m); /* names and weights live in the arena */
    return rc;
}

/* ---- either ---- */

/* A file that does not open as a container is left to ptq_model_open, which names the reason. */
static int open_container(struct loader *l)
{
    char *path = NULL;
    const char *file = l->ask->file;
    struct ptq_status ignored = {0};
    if (ptq_synth_layer_is(file))
        return ptq_synth_layer_open(&l->h5, file, l->st);
    if (!strcmp(file, "demo")) {
        int rc = ptq_data_path("datasets/demo.h5", l->arena, &path, l->st);
        return rc == PTQ_OK ? ptq_h5_open(&l->h5, path, PTQ_H5_READ, l->st) : rc;
    }
    if (ptq_h5_open(&l->h5, file, PTQ_H5_READ, &ignored) != PTQ_OK)
        l->h5 = NULL;
    return PTQ_OK;
}

static int load_any(struct loader *l, const char **object)
{
    const bool bare = l->ask->bare;
    if (bare && ptq_h5_exists(l->h5, "/stats") && !ptq_h5_exists(l->h5, "/layers"))
        return ptq_status_set(l->st, PTQ_ERR_USAGE,
                              "%s: holds statistics and no weights; name the model that they were "
                              "captured of: `ptq run MODEL --stats-file %s -l LAYER ...`",
                              l->ask->file, l->ask->file);
    return bare ? load_bare(l, object) : load_model(l, object);
}

int ptq_layer_load(struct ptq_layer_request *ask, struct ptq_arena *arena, struct ptq_layer *layer,
                   const char **source, struct ptq_status *st)
{
    struct loader l = {.ask = ask, .arena = arena, .layer = layer, .st = st};
    const char *object = "";
    int rc = open_container(&l);
    if (rc == PTQ_OK && ask->stats_file)
        rc = ptq_h5_open(&l.stats_h5, ask->stats_file, PTQ_H5_READ, st);
    if (rc == PTQ_OK) {
        ask->bare = l.h5 && !ptq_h5_exists(l.h5, "/model");
        rc = load_any(&l, &object);
    }
    ptq_h5_close(l.h5, NULL);
    ptq_h5_close(l.stats_h5, NULL);
    if (rc == PTQ_OK && !(*source = ptq_arena_printf(arena, st, "%s: %s", ask->file, object)))
        rc = PTQ_ERR_MEMORY;
    return rc == PTQ_OK ? ptq_layer_check(layer, *source, st) : rc;
}
