#include "model/import.h"
#include "core/half.h"
#include "core/progress.h"
#include "model/config.h"
#include "model/internal.h"
#include "model/tokenizer.h"
#include "model/weights.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE_FLOATS = 1 << 22, SCHEMA = 1 };

struct import {
    const struct ptq_import_args *a;
    struct ptq_h5 *to;
    float *piece; /* [PIECE_FLOATS] or a row, where that is longer */
    struct ptq_progress *progress;
    struct ptq_status *st;
};

/* The type that holds a stored tensor as it is. */
static enum ptq_h5_type type_of(const struct import *w, const char *name)
{
    static const struct {
        const char *word;
        enum ptq_h5_type type;
    } same[] = {{"F16", PTQ_H5_F16},   {"f16", PTQ_H5_F16},   {"torch.float16", PTQ_H5_F16},
                {"BF16", PTQ_H5_BF16}, {"bf16", PTQ_H5_BF16}, {"torch.bfloat16", PTQ_H5_BF16}};
    struct ptq_piece p;
    if (w->a->type != PTQ_H5_OTHER)
        return w->a->type;
    ptq_weights_find(w->a->model, name, &p);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (strcmp(p.tensor->type, same[i].word) == 0)
            return same[i].type;
    return PTQ_H5_F32;
}

/* An f16 ends at 65504: what lies beyond would become infinite. */
static int check_range(const struct import *w, const char *name, enum ptq_h5_type t, int64_t n)
{
    for (int64_t i = 0; t == PTQ_H5_F16 && i < n; i++)
        if (!isfinite(ptq_f32_from_f16(ptq_f16_from_f32(w->piece[i]))))
            return ptq_status_set(
                w->st, PTQ_ERR_NUMERIC,
                "%s: tensor %s holds %g, which f16 cannot hold; import as bf16 or "
                "f32",
                ptq_model_info(w->a->model)->source, name, (double)w->piece[i]);
    return PTQ_OK;
}

static int copy_tensor(struct import *w, const char *name, int64_t d0, int64_t d1)
{
    const int64_t width = d1 ? d1 : 1, dim[2] = {d0, d1},
                  step = PIECE_FLOATS / width ? PIECE_FLOATS / width : 1;
    const enum ptq_h5_type t = type_of(w, name);
    char path[256];
    if (w->a->stop && w->a->stop(w->a->stop_arg))
        return ptq_status_set(w->st, PTQ_ERR_CANCELLED, "cancelled: nothing was written");
    snprintf(path, sizeof path, "/model/%s", name);
    int rc = ptq_h5_write(w->to, path, t, d1 ? 2 : 1, dim, NULL, w->st);
    for (int64_t i = 0; i < d0 && !rc; i += step) {
        const struct ptq_weight_rows r = {name, d0, d1, i, d0 - i < step ? d0 - i : step};
        if (!(rc = ptq_weights_rows(w->a->model, &r, w->piece, w->st)) &&
            !(rc = check_range(w, name, t, r.n * width)))
            rc = ptq_h5_write_rows(w->to, path, i, r.n, w->piece, w->st);
    }
    return rc;
}

static int copy_outer(struct import *w)
{
    const struct ptq_model *m = w->a->model;
    const struct ptq_model_info *i = &m->info;
    int rc = copy_tensor(w, "tok_embd", i->vocab_size, i->d_embd);
    if (!rc && !i->tied_head && !i->encoder)
        rc = copy_tensor(w, "output", i->vocab_size, i->d_embd);
    if (!rc && ptq_weights_has(m, "rope_freqs"))
        rc = copy_tensor(w, "rope_freqs", i->head_dim / 2, 0);
    for (int k = 0; k < PTQ_MAX_OUTER && !rc; k++)
        if (m->outer[k].name)
            rc = copy_tensor(w, m->outer[k].name, m->outer[k].d0, m->outer[k].d1);
    return rc;
}

static int copy_block(struct import *w, int index)
{
    struct ptq_arena names;
    struct ptq_block b;
    char label[32];
    ptq_arena_init(&names, 0);
    int rc = ptq_model_layout(w->a->model, index, &names, &b, w->st);
    for (int k = 0; k < b.n_linears && !rc; k++)
        rc = copy_tensor(w, b.lin[k].name, b.lin[k].d_out, b.lin[k].d_in);
    for (int k = 0; k < b.n_vectors && !rc; k++)
        if (b.vec[k].name)
            rc = copy_tensor(w, b.vec[k].name, b.vec[k].n, 0);
    ptq_arena_clear(&names);
    snprintf(label, sizeof label, "block %d", index);
    ptq_progress_step(w->progress, label);
    return rc;
}

static int copy_tokenizer(struct import *w)
{
    const struct ptq_model_info *i = ptq_model_info(w->a->model);
    struct ptq_tokenizer *t = NULL;
    if (strcmp(i->tokenizer, "none") == 0)
        return PTQ_OK;
    int rc = ptq_tokenizer_open(&t, i->source, w->st);
    if (rc == PTQ_SKIP)
        return PTQ_OK;
    if (!rc)
        rc = ptq_tokenizer_write(t, w->to, w->st);
    ptq_tokenizer_close(t);
    return rc;
}

static int fill(struct import *w)
{
    struct ptq_model_info info = *ptq_model_info(w->a->model);
    if (w->a->name)
        info.name = w->a->name;
    int rc = ptq_h5_set_i64(w->to, "/", "schema", SCHEMA, w->st);
    if (!rc && !(rc = ptq_config_write(w->to, &info, w->st)))
        rc = copy_outer(w);
    for (int b = 0; b < info.n_blocks && !rc; b++)
        rc = copy_block(w, b);
    return rc ? rc : copy_tokenizer(w);
}

static int64_t longest_row(const struct ptq_model_info *i)
{
    int64_t n = i->d_embd > i->d_model ? i->d_embd : i->d_model;
    n = i->d_ff > n ? i->d_ff : n;
    return i->n_heads * i->head_dim > n ? i->n_heads * i->head_dim : n;
}

static int write_file(struct import *w, const char *path)
{
    const struct ptq_model_info *i = ptq_model_info(w->a->model);
    const int64_t n = longest_row(i) > PIECE_FLOATS ? longest_row(i) : PIECE_FLOATS;
    w->piece = malloc((size_t)n * sizeof *w->piece);
    if (!w->piece)
        return ptq_status_nomem(w->st, "rows of a tensor", (size_t)n * sizeof *w->piece);
    int rc = ptq_h5_open(&w->to, path, PTQ_H5_CREATE, w->st);
    if (!rc) {
        w->progress = ptq_progress_new("import", i->n_blocks, w->a->quiet);
        rc = fill(w);
        ptq_progress_free(w->progress);
    }
    int closed = ptq_h5_close(w->to, w->st);
    free(w->piece);
    return rc ? rc : closed;
}

int ptq_import(const struct ptq_import_args *a, struct ptq_status *st)
{
    struct import w = {.a = a, .st = st};
    struct stat x, y;
    char tmp[4096];
    if (stat(ptq_model_info(a->model)->source, &x) == 0 && stat(a->out_path, &y) == 0 &&
        x.st_dev == y.st_dev && x.st_ino == y.st_ino)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: is the model itself; name another file",
                              a->out_path);
    if (snprintf(tmp, sizeof tmp, "%s.tmp", a->out_path) >= (int)sizeof tmp)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: the path is too long", a->out_path);
    int rc = write_file(&w, tmp);
    if (!rc && rename(tmp, a->out_path))
        rc = ptq_status_set(st, PTQ_ERR_IO, "%s: cannot be written: %s", a->out_path,
                            strerror(errno));
    if (rc)
        unlink(tmp);
    return rc;
}
