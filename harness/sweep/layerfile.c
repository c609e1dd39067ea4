#include "sweep/layerfile.h"
#include "core/size.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    struct ptq_h5 *h5;
    const struct ptq_layerfile_args *args;
    struct ptq_arena *arena;
    struct ptq_layer *layer;
    struct ptq_status *st;
};

bool ptq_layerfile_is(struct ptq_h5 *h5)
{
    return ptq_h5_exists(h5, "/layers") && !ptq_h5_exists(h5, "/model");
}

int ptq_layerfile_names(struct ptq_h5 *h5, struct ptq_arena *arena, char ***names, int64_t *n,
                        struct ptq_status *st)
{
    int code = ptq_h5_list(h5, "/layers", arena, names, n, st);
    if (code >= 0 && *n == 0)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: /layers: no layer in it; write /layers/NAME/weight (datasets/README.md)",
            ptq_h5_path(h5));
    return code;
}

/* ---- roles -------------------------------------------------------------------------------------
 */

static const struct {
    const char *suffix, *name;
    enum ptq_role role;
} roles[] = {{"attn_q", "q", PTQ_ROLE_Q},          {"attn_k", "k", PTQ_ROLE_K},
             {"attn_v", "v", PTQ_ROLE_V},          {"attn_o", "o", PTQ_ROLE_O},
             {"ffn_gate", "gate", PTQ_ROLE_GATE},  {"ffn_up", "up", PTQ_ROLE_UP},
             {"ffn_down", "down", PTQ_ROLE_DOWN},  {"fc1", "fc1", PTQ_ROLE_FC1},
             {"fc2", "fc2", PTQ_ROLE_FC2},         {"tok_embd", "embed", PTQ_ROLE_EMBED},
             {"output", "head", PTQ_ROLE_HEAD},    {"kcache", "kcache", PTQ_ROLE_KCACHE},
             {"vcache", "vcache", PTQ_ROLE_VCACHE}};
enum { N_ROLES = sizeof roles / sizeof *roles };

enum ptq_role ptq_role_of_name(const char *name, int *block)
{
    char tail[64];
    *block = -1;
    if (sscanf(name, "blk.%d.%63s", block, tail) != 2 || *block < 0) {
        *block = -1;
        snprintf(tail, sizeof tail, "%s", name);
    }
    for (int i = 0; i < N_ROLES; i++)
        if (!strcmp(tail, roles[i].suffix))
            return roles[i].role;
    return PTQ_ROLE_OTHER;
}

const char *ptq_role_name(enum ptq_role role)
{
    for (int i = 0; i < N_ROLES; i++)
        if (roles[i].role == role)
            return roles[i].name;
    return "other";
}

/* ---- arrays ------------------------------------------------------------------------------------
 */

static const char *object(struct reader *r, const char *part)
{
    return ptq_arena_printf(r->arena, r->st, "/layers/%s/%s", r->args->name, part);
}

static int wrong_shape(struct reader *r, const char *path, const struct ptq_h5_info *i,
                       const char *wanted)
{
    return ptq_status_set(r->st, PTQ_ERR_USAGE,
                          "%s: %s: rank %d, first sides %lld and %lld; expected %s",
                          ptq_h5_path(r->h5), path, i->rank, (long long)i->dim[0],
                          (long long)(i->rank > 1 ? i->dim[1] : 1), wanted);
}

static int read_matrix(struct reader *r, const char *part, int64_t cols, struct ptq_cmat *m)
{
    struct ptq_h5_info info;
    float *at;
    const char *path = object(r, part);
    int code = path ? ptq_h5_read_f32(r->h5, path, r->arena, &at, &info, r->st) : PTQ_ERR_MEMORY;
    if (code < 0)
        return code;
    if (info.rank != 2 || info.n == 0 || (cols && info.dim[1] != cols))
        return wrong_shape(r, path, &info,
                           cols ? "as many columns as the weight" : "a matrix (d_out x d_in)");
    *m = (struct ptq_cmat){at, info.dim[0], info.dim[1], info.dim[1]};
    return PTQ_OK;
}

/* Packed upper triangle, row by row -> full. */
static int unpack_triangle(struct reader *r, const double *packed, int64_t n, double **full)
{
    int64_t nn;
    if (!ptq_size_mul(n, n, &nn) || !(*full = ptq_arena_alloc(r->arena, r->st, nn, sizeof **full)))
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i; j < n; j++)
            (*full)[i * n + j] = (*full)[j * n + i] = *packed++;
    return PTQ_OK;
}

static enum ptq_norm norm_of(const char *word)
{
    return !strcmp(word, "token")      ? PTQ_NORM_TOKEN
           : !strcmp(word, "sequence") ? PTQ_NORM_SEQUENCE
                                       : PTQ_NORM_UNKNOWN;
}

static int read_hess_attributes(struct reader *r, const char *path)
{
    char *word = NULL;
    struct ptq_layer *l = r->layer;
    int code = ptq_h5_get_text(r->h5, path, "normalisation", r->arena, &word, r->st);
    if (code >= 0)
        code = ptq_h5_get_f64(r->h5, path, "n_tokens", &l->n_tokens, r->st);
    if (code >= 0)
        code = ptq_h5_get_f64(r->h5, path, "n_sequences", &l->n_sequences, r->st);
    if (code >= 0 && word && strcmp(word, "unknown") != 0 && norm_of(word) == PTQ_NORM_UNKNOWN)
        return ptq_status_set(r->st, PTQ_ERR_USAGE,
                              "%s: %s: normalisation '%.40s'; write token, sequence or unknown",
                              ptq_h5_path(r->h5), path, word);
    l->hess_norm = word ? norm_of(word) : PTQ_NORM_UNKNOWN;
    return code < 0 ? code : PTQ_OK;
}

static int read_hess(struct reader *r)
{
    struct ptq_h5_info info;
    double *at, *full;
    int64_t n = r->layer->w.cols;
    const char *path = object(r, "hess");
    int code = path ? ptq_h5_read_f64(r->h5, path, r->arena, &at, &info, r->st) : PTQ_ERR_MEMORY;
    if (code < 0)
        return code;
    if (info.rank == 1 &&
        info.n == n * (n + 1) / 2) { /* n is a side of an array in memory: no overflow */
        if (unpack_triangle(r, at, n, &full) < 0)
            return PTQ_ERR_MEMORY;
        at = full;
    } else if (info.rank != 2 || info.dim[0] != n || info.dim[1] != n) {
        return wrong_shape(r, path, &info, "(d_in x d_in), or its packed upper triangle");
    }
    r->layer->hess = (struct ptq_cdmat){at, n, n, n};
    return read_hess_attributes(r, path);
}

/* ---- activations -------------------------------------------------------------------------------
 */

static int activation_ranges(struct reader *r)
{
    const struct ptq_cmat *x = &r->layer->acts;
    float *stat = ptq_arena_alloc(r->arena, r->st, 3 * x->cols, sizeof *stat);
    if (!stat)
        return PTQ_ERR_MEMORY;
    for (int64_t j = 0; j < x->cols; j++) {
        double sum = 0, sum_abs = 0;
        float max = 0;
        for (int64_t i = 0; i < x->rows; i++) {
            float v = x->at[i * x->ld + j];
            sum += v;
            sum_abs += fabsf(v);
            max = fabsf(v) > max ? fabsf(v) : max;
        }
        stat[j] = max;
        stat[x->cols + j] = (float)(sum_abs / (double)x->rows);
        stat[2 * x->cols + j] = (float)(sum / (double)x->rows);
    }
    r->layer->x_absmax = stat;
    r->layer->x_absmean = stat + x->cols;
    r->layer->x_mean = stat + 2 * x->cols;
    return PTQ_OK;
}

static int hess_from_activations(struct reader *r)
{
    struct ptq_layer *l = r->layer;
    l->hess_norm = PTQ_NORM_TOKEN;
    l->n_tokens = (double)l->acts.rows;
    return ptq_hess_from_acts(r->args->pool, &l->acts, PTQ_NORM_TOKEN, 1, r->args->precision,
                              r->arena, &l->hess, r->st);
}

int ptq_layerfile_read(struct ptq_h5 *h5, const struct ptq_layerfile_args *args,
                       struct ptq_arena *arena, struct ptq_layer *layer, struct ptq_status *st)
{
    struct reader r = {h5, args, arena, layer, st};
    char source[512];
    snprintf(source, sizeof source, "%.300s: /layers/%.150s", ptq_h5_path(h5), args->name);
    memset(layer, 0, sizeof *layer);
    layer->role = ptq_role_of_name(args->name, &layer->block);
    layer->name = ptq_arena_strdup(arena, st, args->name);
    const char *hess = object(&r, "hess"), *acts = object(&r, "activations");
    if (!layer->name || !hess || !acts)
        return PTQ_ERR_MEMORY;
    bool has_hess = ptq_h5_exists(h5, hess), has_acts = ptq_h5_exists(h5, acts);
    int code = read_matrix(&r, "weight", 0, &layer->w);
    if (code >= 0 && has_acts)
        code = read_matrix(&r, "activations", layer->w.cols, &layer->acts);
    if (code >= 0 && has_hess)
        code = read_hess(&r);
    if (code >= 0)
        code = ptq_layer_check(layer, source, st);
    if (code >= 0 && has_acts)
        code = activation_ranges(&r);
    if (code >= 0 && has_acts && !has_hess && args->make_hess) {
        code = hess_from_activations(&r);
        if (code >= 0)
            code = ptq_layer_check(layer, source, st); /* all activations zero */
    }
    if (code >= 0 && layer->hess.at)
        layer->hess_key = ptq_hash64(layer->hess.at,
                                     (size_t)(layer->hess.rows * layer->hess.ld) * sizeof(double));
    return code;
}

static void add_matrix(struct ptq_hasher *h, const struct ptq_cmat *m)
{
    ptq_hasher_add_i64(h, m->rows);
    ptq_hasher_add_i64(h, m->cols);
    ptq_hasher_add(h, m->at,
                   (size_t)(m->rows * m->cols) * sizeof *m->at); /* ld == cols: read here */
}

void ptq_layerfile_keys(const struct ptq_layer *l, char weights[PTQ_KEY_CHARS],
                        char stats[PTQ_KEY_CHARS])
{
    struct ptq_hasher *h = ptq_hasher_new();
    ptq_hasher_add_text(h, l->name);
    add_matrix(h, &l->w);
    ptq_hasher_done(h, weights);
    *stats = 0;
    if (!l->hess.at && !l->acts.at)
        return;
    h = ptq_hasher_new();
    if (l->acts.at)
        add_matrix(h, &l->acts);
    ptq_hasher_add_i64(h, l->hess.at != NULL);
    if (l->hess.at) {
        /* Counts scale what dead inputs get (dead = reference). Those of activations follow from
         * their shape. */
        ptq_hasher_add_i64(h, l->hess_norm);
        ptq_hasher_add_f64(h, l->n_tokens);
        ptq_hasher_add_f64(h, l->n_sequences);
        ptq_hasher_add(h, l->hess.at, (size_t)(l->hess.rows * l->hess.cols) * sizeof(double));
    }
    ptq_hasher_done(h, stats);
}
