#include "analysis/score_rest.h"
#include "model/rest.h"
#include "model/weights.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct rest {
    struct ptq_external *x;
    struct ptq_arena *arena;
    const char **line;
    int64_t n;
    struct ptq_status *st;
};

static int say(struct rest *r, const char *line)
{
    if (line)
        r->line[r->n++] = line;
    return line ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* ---- tensors ---- */

enum { PIECE_VALUES = 1 << 18, MOST_SETTINGS = 16 };

/* Where the checkpoint has the tensor; false: it holds none. A head may be its token table. */
static bool find_theirs(const struct rest *r, const char *name, const char **theirs,
                        struct ptq_piece *p)
{
    const struct ptq_external *x = r->x;
    *theirs = name;
    if (!x->model)
        return ptq_weights_elsewhere(x->original, x->packed, name, p) && p->tensor;
    if (!strcmp(name, "output") && ptq_model_info(x->model)->tied_head)
        *theirs = "tok_embd";
    ptq_weights_find(x->model, *theirs, p);
    return p->tensor != NULL;
}

static int read_theirs(const struct rest *r, const struct ptq_weight_rows *rows, float *out)
{
    return r->x->model ? ptq_weights_rows(r->x->model, rows, out, r->st)
                       : ptq_weights_rows_elsewhere(r->x->original, r->x->packed, rows, out, r->st);
}

struct pieces { /* some rows of both */
    float *ours, *theirs;
    double off, all; /* sums of squares: of the difference, of the original */
};

static void add(struct pieces *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const double d = (double)p->theirs[i] - (double)p->ours[i];
        p->off += d * d;
        p->all += (double)p->ours[i] * (double)p->ours[i];
    }
}

/* A norm in front of matrices, or its bias, whose gains were divided by something: theirs is put
 * back over ours in place. False: it is no such norm. */
static bool take_back(const struct rest *r, const char *name, const struct pieces *p, int64_t n)
{
    const struct ptq_model_info *info = ptq_model_info(r->x->original);
    static const char *const folded[] = {".attn_norm", ".ffn_norm"};
    static const char bias[] = ".bias";
    char norm[80];
    const size_t length = strlen(name), tail = sizeof bias - 1;
    const bool is_bias = length > tail && !strcmp(name + length - tail, bias);
    snprintf(norm, sizeof norm, "%.*s", (int)(is_bias ? length - tail : length), name);
    const char *dot = strrchr(norm, '.');
    if (info->post_norm || info->encoder || !dot ||
        (strcmp(dot, folded[0]) && strcmp(dot, folded[1])))
        return false;
    const struct ptq_weight_rows rows = {norm, n, 0, 0, n};
    float *ours = malloc((size_t)n * sizeof *ours), *theirs = malloc((size_t)n * sizeof *theirs);
    struct ptq_status ignored = {0};
    bool whole = ours && theirs && !ptq_weights_rows(r->x->original, &rows, ours, &ignored) &&
                 !read_theirs(r, &rows, theirs);
    for (int64_t j = 0; j < n && whole; j++)
        whole = isfinite(ours[j] / theirs[j]) && ours[j] / theirs[j] > 0;
    for (int64_t j = 0; j < n && whole; j++)
        p->theirs[j] *= ours[j] / theirs[j];
    free(ours);
    free(theirs);
    return whole;
}

static int sum_pieces(struct rest *r, const struct ptq_rest_tensor *t, const char *theirs,
                      struct pieces *p)
{
    const int64_t width = t->d1 ? t->d1 : 1, step = width < PIECE_VALUES ? PIECE_VALUES / width : 1;
    int rc = PTQ_OK;
    p->ours = malloc((size_t)(step * width) * sizeof *p->ours);
    p->theirs = malloc((size_t)(step * width) * sizeof *p->theirs);
    if (!p->ours || !p->theirs)
        rc = ptq_status_nomem(r->st, t->name, (size_t)(step * width) * sizeof *p->ours);
    for (int64_t i = 0; i < t->d0 && !rc; i += step) {
        const int64_t n = t->d0 - i < step ? t->d0 - i : step;
        const struct ptq_weight_rows mine = {t->name, t->d0, t->d1, i, n},
                                     other = {theirs, t->d0, t->d1, i, n};
        rc = ptq_weights_rows(r->x->original, &mine, p->ours, r->st);
        rc = rc ? rc : read_theirs(r, &other, p->theirs);
        if (!rc && !t->d1 && step >= t->d0)
            take_back(r, t->name, p, t->d0);
        if (!rc)
            add(p, n * width);
    }
    free(p->ours);
    free(p->theirs);
    return rc;
}

static int compare(struct rest *r, const struct ptq_rest_tensor *t)
{
    const char *theirs;
    struct ptq_piece mine, other;
    struct ptq_status shape = {0};
    struct pieces p = {.off = 0};
    if (!find_theirs(r, t->name, &theirs, &other))
        return PTQ_OK;
    if (r->x->model && ptq_weights_check(r->x->model, theirs, t->d0, t->d1, &shape))
        return say(r, ptq_arena_printf(r->arena, r->st, "%s: of another shape", t->name));
    int rc = sum_pieces(r, t, theirs, &p);
    if (rc)
        return rc;
    ptq_weights_find(r->x->original, t->name, &mine);
    const double eps = fmax(ptq_value_eps(mine.tensor->type), ptq_value_eps(other.tensor->type));
    if (p.off <= eps * eps * p.all)
        return PTQ_OK;
    return say(r, ptq_arena_printf(r->arena, r->st, "%s: %.3g %% off", t->name,
                                   p.all > 0 ? 100 * sqrt(p.off / p.all) : INFINITY));
}

/* ---- settings ---- */

static int setting(struct rest *r, const char *name, double ours, double theirs)
{
    if (ours == theirs)
        return PTQ_OK;
    return say(r, ptq_arena_printf(r->arena, r->st, "%s: %.10g, not %.10g", name, theirs, ours));
}

static int compare_settings(struct rest *r)
{
    const struct ptq_model_info *a = ptq_model_info(r->x->original),
                                *b = ptq_model_info(r->x->model);
    const struct {
        const char *name;
        double ours, theirs;
    } all[] = {{"vocabulary", (double)a->vocab_size, (double)b->vocab_size},
               {"heads", (double)a->n_heads, (double)b->n_heads},
               {"key-value heads", (double)a->n_kv_heads, (double)b->n_kv_heads},
               {"norm epsilon", (double)(float)a->norm_eps, (double)(float)b->norm_eps},
               {"rope theta", (double)(float)a->rope.theta, (double)(float)b->rope.theta},
               {"rope scaling", a->rope.scaling, b->rope.scaling},
               {"rope factor", a->rope.factor, b->rope.factor},
               {"activation", a->activation, b->activation},
               {"sliding window", (double)a->sliding_window, (double)b->sliding_window}};
    int rc = PTQ_OK;
    for (size_t i = 0; i < sizeof all / sizeof *all && !rc; i++)
        rc = setting(r, all[i].name, all[i].ours, all[i].theirs);
    return rc;
}

int ptq_external_rest(struct ptq_external *x, struct ptq_arena *arena, const char *const **lines,
                      int64_t *n, struct ptq_status *st)
{
    struct rest r = {x, arena, NULL, 0, st};
    struct ptq_rest_tensor *tensor;
    int64_t n_tensors;
    *lines = NULL;
    *n = 0;
    if (!x->original || (!x->model && !x->packed))
        return PTQ_OK;
    int rc = ptq_model_rest(x->original, arena, &tensor, &n_tensors, st);
    if (rc)
        return rc;
    r.line = ptq_arena_alloc(arena, st, n_tensors + MOST_SETTINGS, sizeof *r.line);
    rc = r.line ? PTQ_OK : PTQ_ERR_MEMORY;
    if (!rc && x->model)
        rc = compare_settings(&r);
    for (int64_t i = 0; i < n_tensors && !rc; i++)
        rc = compare(&r, &tensor[i]);
    *lines = r.line;
    *n = r.n;
    return rc;
}
