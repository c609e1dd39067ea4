#include "model/weights.h"
#include "core/linalg.h"
#include "core/size.h"
#include "model/internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_FLOATS = 1 << 20 };

/* ---- names */

/* "blk.12.attn_q" -> 12 and "attn_q"; others: -1 and the whole. */
static int split_name(const char *canonical, const char **suffix)
{
    int block = -1, n = 0;
    *suffix = canonical;
    if (sscanf(canonical, "blk.%d.%n", &block, &n) == 1 && n > 0)
        *suffix = canonical + n;
    return n > 0 ? block : -1;
}

/* '@' becomes the prefix, %d the block. */
static void spell(const char *outside, const char *prefix, int block, char *out, size_t size)
{
    char with_prefix[200];
    snprintf(with_prefix, sizeof with_prefix, "%s%s", *outside == '@' ? prefix : "",
             *outside == '@' ? outside + 1 : outside);
    const char *at = strstr(with_prefix, "%d");
    if (at)
        snprintf(out, size, "%.*s%d%s", (int)(at - with_prefix), with_prefix, block, at + 2);
    else
        snprintf(out, size, "%s", with_prefix);
}

void ptq_weights_find(const struct ptq_model *m, const char *canonical, struct ptq_piece *p)
{
    const char *suffix;
    int block = split_name(canonical, &suffix);
    *p = (struct ptq_piece){0};
    snprintf(p->stored, sizeof p->stored, "%s", canonical);
    if (m->dialect) {
        const struct ptq_name *n = m->dialect->names;
        while (n->canonical && strcmp(n->canonical, suffix) != 0)
            n++;
        if (n->canonical)
            spell(n->outside, m->prefix, block, p->stored, sizeof p->stored);
        p->as = m->info.rope_paired ? n->as : n->as & ~(unsigned)PTQ_ROPE_PAIRED;
        p->part = n->part;
        p->tensor = n->canonical ? ptq_tensors_find(m->files, p->stored) : NULL;
        return;
    }
    p->tensor = ptq_tensors_find(m->files, canonical);
}

/* The prefix under which the embedding lies there; the first of all, when under none. */
static const char *prefix_in(const struct ptq_dialect *d, const struct ptq_tensors *files)
{
    const struct ptq_name *n = d->names;
    char name[200];
    while (n->canonical && strcmp(n->canonical, "tok_embd") != 0)
        n++;
    for (const char *const *p = d->prefixes; p && *p && n->canonical; p++) {
        spell(n->outside, *p, 0, name, sizeof name);
        if (ptq_tensors_find(files, name))
            return *p;
    }
    return d->prefixes ? d->prefixes[0] : "";
}

static bool model_in(const struct ptq_model *m, const struct ptq_tensors *files,
                     struct ptq_model *there)
{
    *there = *m;
    there->info.source = files->path;
    there->files = (struct ptq_tensors *)(uintptr_t)files;
    there->dialect = files->dialect == PTQ_CANONICAL ? NULL
                     : files->dialect == PTQ_GGUF    ? &m->arch->gguf
                                                     : &m->arch->hf;
    if (there->dialect && !there->dialect->types)
        return false;
    there->prefix = there->dialect ? prefix_in(there->dialect, files) : "";
    /* Hugging Face holds heads in halves, as we do. */
    there->info.rope_paired = files->dialect == PTQ_GGUF && m->info.rope_paired;
    return true;
}

bool ptq_weights_elsewhere(const struct ptq_model *m, const struct ptq_tensors *files,
                           const char *canonical, struct ptq_piece *p)
{
    struct ptq_model there;
    if (!model_in(m, files, &there))
        return false;
    ptq_weights_find(&there, canonical, p);
    return true;
}

bool ptq_weights_has(const struct ptq_model *m, const char *canonical)
{
    struct ptq_piece p;
    ptq_weights_find(m, canonical, &p);
    return p.tensor != NULL;
}

int64_t ptq_piece_row(const struct ptq_model_info *i, const struct ptq_piece *p, int64_t d0,
                      int64_t row)
{
    const int64_t hd = i->head_dim;
    if (p->as & PTQ_ROPE_PAIRED) {
        int64_t in = row % hd, half = hd / 2;
        row += (in < half ? 2 * in : 2 * (in - half) + 1) - in;
    }
    if (p->as & PTQ_FUSED_BY_HEAD)
        return (row / hd) * 3 * hd + p->part * hd + row % hd;
    return p->as & PTQ_FUSED ? p->part * d0 + row : row;
}

static bool is_fused(const struct ptq_piece *p)
{
    return p->as & (PTQ_FUSED | PTQ_FUSED_BY_HEAD);
}

/* ---- presence and shape */

static int wrong_shape(const struct ptq_model *m, const struct ptq_piece *p, const int64_t want[2],
                       int rank, struct ptq_status *st)
{
    char have[100] = "", wanted[64];
    for (int k = 0; k < p->tensor->rank; k++) {
        size_t n = strlen(have);
        snprintf(have + n, sizeof have - n, "%s%lld", k ? " x " : "", (long long)p->tensor->dim[k]);
    }
    if (rank == 2)
        snprintf(wanted, sizeof wanted, "%lld x %lld", (long long)want[0], (long long)want[1]);
    else
        snprintf(wanted, sizeof wanted, "%lld", (long long)want[0]);
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: tensor %s%s has the shape (%s); expected (%s) by the %s",
                          m->info.source, ptq_tensor_place(m), p->stored, have, wanted,
                          m->dialect ? "configuration of the model" : "attributes of /model");
}

int ptq_weights_check(const struct ptq_model *m, const char *canonical, int64_t d0, int64_t d1,
                      struct ptq_status *st)
{
    struct ptq_piece p;
    ptq_weights_find(m, canonical, &p);
    if (!p.tensor)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: tensor %s%s is missing; a model of architecture %s needs it",
                              m->info.source, ptq_tensor_place(m), p.stored, m->info.arch);
    int64_t rows = is_fused(&p) ? 3 * d0 : d0, want[2] = {rows, d1};
    const int rank = d1 ? 2 : 1;
    if (d1 && (p.as & PTQ_TRANSPOSED)) {
        want[0] = d1;
        want[1] = rows;
    }
    if (p.tensor->rank != rank || p.tensor->dim[0] != want[0] ||
        (d1 && p.tensor->dim[1] != want[1]))
        return wrong_shape(m, &p, want, rank, st);
    return PTQ_OK;
}

/* ---- values */

/* Rows whose stored rows follow each other are read at once. */
static int read_runs(const struct ptq_model *m, const struct ptq_piece *p,
                     const struct ptq_weight_rows *r, float *out, struct ptq_status *st)
{
    const int64_t width = r->d1 ? r->d1 : 1;
    for (int64_t i = 0; i < r->n;) {
        int64_t from = ptq_piece_row(&m->info, p, r->d0, r->first + i), n = 1;
        while (i + n < r->n && ptq_piece_row(&m->info, p, r->d0, r->first + i + n) == from + n)
            n++;
        int rc =
            ptq_tensors_read(m->files, p->tensor, from * width, n * width, out + i * width, st);
        if (rc)
            return rc;
        i += n;
    }
    return PTQ_OK;
}

/* Stored (d1 x columns): some of its rows at a time, of which our rows are columns. */
static int read_transposed(const struct ptq_model *m, const struct ptq_piece *p,
                           const struct ptq_weight_rows *r, float *out, struct ptq_status *st)
{
    const int64_t columns = p->tensor->dim[1];
    const int64_t step = columns < PIECE_FLOATS ? PIECE_FLOATS / columns : 1;
    float *part = malloc((size_t)(step * columns) * sizeof *part);
    int rc = part ? PTQ_OK : ptq_status_nomem(st, r->name, (size_t)(step * columns) * sizeof *part);
    for (int64_t j = 0; j < r->d1 && !rc; j += step) {
        int64_t n = r->d1 - j < step ? r->d1 - j : step;
        rc = ptq_tensors_read(m->files, p->tensor, j * columns, n * columns, part, st);
        for (int64_t i = 0; i < r->n && !rc; i++) {
            int64_t column = ptq_piece_row(&m->info, p, r->d0, r->first + i);
            for (int64_t k = 0; k < n; k++)
                out[i * r->d1 + j + k] = part[k * columns + column];
        }
    }
    free(part);
    return rc;
}

int ptq_weights_rows(const struct ptq_model *m, const struct ptq_weight_rows *r, float *out,
                     struct ptq_status *st)
{
    struct ptq_piece p;
    const int64_t width = r->d1 ? r->d1 : 1;
    ptq_weights_find(m, r->name, &p);
    int rc = r->d1 && (p.as & PTQ_TRANSPOSED) ? read_transposed(m, &p, r, out, st)
                                              : read_runs(m, &p, r, out, st);
    if (rc)
        return rc;
    int64_t bad = ptq_first_nonfinite_f32(out, r->n * width);
    if (bad < 0)
        return PTQ_OK;
    return ptq_status_set(
        st, PTQ_ERR_NUMERIC,
        "%s: tensor %s%s holds %f at row %lld, column %lld of %s: weights must be "
        "finite; export the model again",
        m->info.source, ptq_tensor_place(m), p.stored, (double)out[bad],
        (long long)(r->d1 ? r->first + bad / width : 0),
        (long long)(r->d1 ? bad % width : r->first + bad), r->name);
}

int ptq_weights_read(const struct ptq_model *m, const char *canonical, int64_t d0, int64_t d1,
                     struct ptq_arena *a, float **out, struct ptq_status *st)
{
    const struct ptq_weight_rows all = {canonical, d0, d1, 0, d0};
    int64_t n;
    int rc = ptq_weights_check(m, canonical, d0, d1, st);
    if (rc)
        return rc;
    if (!ptq_size_mul(d0, d1 ? d1 : 1, &n) || !(*out = ptq_arena_alloc(a, st, n, sizeof **out)))
        return PTQ_ERR_MEMORY;
    return ptq_weights_rows(m, &all, *out, st);
}

/* The model as `files` holds it, with the tensor checked. */
static int check_elsewhere(const struct ptq_model *m, const struct ptq_tensors *files,
                           const struct ptq_weight_rows *what, struct ptq_model *there,
                           struct ptq_status *st)
{
    if (!model_in(m, files, there))
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: such a file does not hold %s models",
                              files->path, m->info.arch);
    return ptq_weights_check(there, what->name, what->d0, what->d1, st);
}

int ptq_weights_rows_elsewhere(const struct ptq_model *m, const struct ptq_tensors *files,
                               const struct ptq_weight_rows *what, float *out,
                               struct ptq_status *st)
{
    struct ptq_model there;
    int rc = check_elsewhere(m, files, what, &there, st);
    return rc ? rc : ptq_weights_rows(&there, what, out, st);
}

int ptq_weights_read_elsewhere(const struct ptq_model *m, const struct ptq_tensors *files,
                               const struct ptq_weight_rows *what, struct ptq_arena *arena,
                               float **out, struct ptq_status *st)
{
    struct ptq_model there;
    int rc = check_elsewhere(m, files, what, &there, st);
    return rc ? rc : ptq_weights_read(&there, what->name, what->d0, what->d1, arena, out, st);
}
