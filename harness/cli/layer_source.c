#include "cli/layer_source.h"
#include "core/hash.h"
#include "core/paths.h"
#include "core/words.h"
#include "model/module.h"
#include "model/stats.h"
#include "sweep/layerfile.h"
#include <string.h>

struct loader {
    const struct ptq_layer_request *ask;
    struct ptq_arena *arena;
    struct ptq_layer *layer;
    const char *path;  /* of the container */
    struct ptq_h5 *h5; /* NULL: no container */
    struct ptq_status *st;
};

/* The name asked for, or the only one of names. */
static int choose(struct loader *l, const char *what, const char *asked, char **names, int64_t n,
                  const char **out)
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
        return ptq_unknown_word_at(l->ask->file, what, asked, valid, l->st);
    if (n == 1) {
        *out = names[0];
        return PTQ_OK;
    }
    return ptq_status_set(l->st, PTQ_ERR_USAGE,
                          "%s: holds %lld of kind %s; name one (the first is %s)", l->ask->file,
                          (long long)n, what, n ? names[0] : "absent");
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
    int rc = ptq_layerfile_names(l->h5, l->arena, &names, &n, l->st);
    if (rc == PTQ_OK)
        rc = choose(l, "layer", l->ask->layer, names, n, &name);
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

/* Statistics of the layer's input; none in the file: the layer has none, and methods that need
 * them say so. */
static int load_stats(struct loader *l, const char *input, struct ptq_input_stats **out)
{
    char **names;
    int64_t n;
    const char *name = NULL;
    *out = NULL;
    if (!l->h5 || !ptq_h5_exists(l->h5, "/stats")) {
        if (l->ask->stats)
            return ptq_status_set(l->st, PTQ_ERR_USAGE,
                                  "%s: holds no /stats; make them with `ptq capture`",
                                  l->ask->file);
        return PTQ_OK;
    }
    int rc = ptq_h5_list(l->h5, "/stats", l->arena, &names, &n, l->st);
    if (rc == PTQ_OK)
        rc = choose(l, "statistics", l->ask->stats, names, n, &name);
    if (rc != PTQ_OK)
        return rc;
    *out = ptq_arena_alloc(l->arena, l->st, 1, sizeof **out);
    return *out ? ptq_stats_read_input(l->h5, name, input, l->arena, *out, l->st) : PTQ_ERR_MEMORY;
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
        rc = choose(l, "layer", l->ask->layer, names, n, &name);
    if (rc == PTQ_OK)
        rc = ptq_model_load_block(m, block < 0 ? 0 : block, l->arena, &loaded, l->st);
    if (rc != PTQ_OK)
        return rc;
    const struct ptq_linear *lin = &loaded.lin[0];
    for (int i = 0; i < loaded.n_linears; i++)
        if (!strcmp(loaded.lin[i].name, name))
            lin = &loaded.lin[i];
    struct ptq_input_stats *stats;
    rc = load_stats(l, lin->input, &stats);
    if (rc != PTQ_OK)
        return rc;
    if (stats && stats->d_in != lin->d_in)
        return ptq_status_set(
            l->st, PTQ_ERR_USAGE,
            "%s: statistics of %s have %lld columns, %s has %lld; capture them again", l->ask->file,
            lin->input, (long long)stats->d_in, lin->name, (long long)lin->d_in);
    ptq_layer_from_model(lin, loaded.index, stats, l->layer);
    struct ptq_neighbours *near = ptq_arena_alloc(l->arena, l->st, 1, sizeof *near);
    if (!near)
        return PTQ_ERR_MEMORY;
    ptq_layer_place(l->layer, &loaded, (int)(lin - loaded.lin), NULL, near);
    *object = lin->name;
    return PTQ_OK;
}

static int load_model(struct loader *l, const char **object)
{
    struct ptq_model *m = NULL;
    int rc = ptq_model_open(&m, l->ask->file, &(struct ptq_model_options){0}, l->st);
    if (rc == PTQ_OK)
        rc = load_linear(l, m, object);
    ptq_model_close(m); /* names and weights live in the arena */
    return rc;
}

/* ---- either ---- */

static int open_container(struct loader *l)
{
    char *path;
    size_t n = strlen(l->ask->file);
    l->path = l->ask->file;
    if (n > 4 && !strcmp(l->ask->file + n - 4, ".bin"))
        return PTQ_OK; /* a llama2.c checkpoint */
    if (!strcmp(l->ask->file, "demo")) {
        int rc = ptq_data_path("datasets/demo.h5", l->arena, &path, l->st);
        if (rc != PTQ_OK)
            return rc;
        l->path = path;
    }
    return ptq_h5_open(&l->h5, l->path, PTQ_H5_READ, l->st);
}

int ptq_layer_load(const struct ptq_layer_request *ask, struct ptq_arena *arena,
                   struct ptq_layer *layer, const char **source, struct ptq_status *st)
{
    struct loader l = {.ask = ask, .arena = arena, .layer = layer, .st = st};
    const char *object = "";
    int rc = open_container(&l);
    if (rc == PTQ_OK)
        rc = l.h5 && !ptq_h5_exists(l.h5, "/model") ? load_bare(&l, &object)
                                                    : load_model(&l, &object);
    ptq_h5_close(l.h5, NULL);
    if (rc == PTQ_OK && !(*source = ptq_arena_printf(arena, st, "%s: %s", ask->file, object)))
        rc = PTQ_ERR_MEMORY;
    return rc == PTQ_OK ? ptq_layer_check(layer, *source, st) : rc;
}
