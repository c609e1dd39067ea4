#include "analysis/score_source.h"
#include "core/size.h"
#include "datasets/packed.h"
#include "model/weights.h"
#include "quant/formfile.h"
#include "sweep/layerfile.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- opening ---- */

static bool is_hdf5(const char *path)
{
    static const unsigned char magic[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
    unsigned char head[8] = {0};
    FILE *f = fopen(path, "rb");
    bool is =
        f && fread(head, 1, sizeof head, f) == sizeof head && !memcmp(head, magic, sizeof magic);
    if (f)
        fclose(f);
    return is;
}

static int open_model(struct ptq_external *x, struct ptq_status *st)
{
    const struct ptq_model_options options = {.outliers = false};
    x->kind = "model";
    int rc = ptq_model_open(&x->model, x->path, &options, st);
    if (!rc)
        memcpy(x->key, ptq_model_info(x->model)->key, sizeof x->key);
    return rc;
}

static int open_h5(struct ptq_external *x, struct ptq_status *st)
{
    int rc = ptq_h5_open(&x->h5, x->path, PTQ_H5_READ, st);
    if (rc)
        return rc;
    bool forms = ptq_h5_exists(x->h5, "/quant") || ptq_h5_exists(x->h5, "/packed");
    if (!forms && !ptq_h5_exists(x->h5, "/layers"))
        return x->original && ptq_h5_exists(x->h5, "/model")
                   ? open_model(x, st)
                   : ptq_status_set(st, PTQ_ERR_USAGE,
                                    "%s: holds no /packed, /quant, /layers and no model; "
                                    "datasets/SCHEMA.md says what they are",
                                    x->path);
    x->kind = forms ? "forms" : "datasets";
    return ptq_file_key(x->path, x->key, st);
}

static int check_arch(const struct ptq_external *x, struct ptq_status *st)
{
    const struct ptq_model_info *a = ptq_model_info(x->original),
                                *b = x->model ? ptq_model_info(x->model) : a;
    if (!strcmp(a->arch, b->arch) && a->n_blocks == b->n_blocks && a->d_model == b->d_model)
        return PTQ_OK;
    return ptq_status_set(
        st, PTQ_ERR_USAGE,
        "%s: a model of architecture %s, %lld blocks of %lld; the original %s has "
        "%s, %lld blocks of %lld: it is no quantized form of it",
        x->path, b->arch, (long long)b->n_blocks, (long long)b->d_model, a->source, a->arch,
        (long long)a->n_blocks, (long long)a->d_model);
}

static int open_checkpoint(struct ptq_external *x, struct ptq_status *st)
{
    if (!x->original)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: the original is a file of bare layers; the quantized one must be "
            "an HDF5 file then",
            x->path);
    int rc = ptq_tensors_open(&x->packed, x->path, st);
    if (rc)
        return rc;
    if (ptq_packed_has_any(x->packed)) {
        x->kind = "packed";
        return ptq_tensors_key(x->packed, x->key, st);
    }
    ptq_tensors_close(x->packed);
    x->packed = NULL;
    return open_model(x, st);
}

static bool is_bare(const char *source)
{
    struct ptq_status ignored = {0};
    struct ptq_h5 *h5 = NULL;
    bool is = is_hdf5(source) && ptq_h5_open(&h5, source, PTQ_H5_READ, &ignored) >= 0 &&
              ptq_layerfile_is(h5);
    ptq_h5_close(h5, NULL);
    return is;
}

int ptq_external_open(struct ptq_external *x, const struct ptq_external_args *a,
                      struct ptq_status *st)
{
    const struct ptq_model_options options = {.outliers = false};
    *x = (struct ptq_external){.path = a->quantized,
                               .dataset = a->dataset ? a->dataset : "quantized"};
    ptq_arena_init(&x->arena, 0);
    pthread_mutex_init(&x->lock, NULL);
    int rc =
        is_bare(a->original) ? PTQ_OK : ptq_model_open(&x->original, a->original, &options, st);
    if (!rc)
        rc = is_hdf5(a->quantized) ? open_h5(x, st) : open_checkpoint(x, st);
    return rc || !x->original ? rc : check_arch(x, st);
}

void ptq_external_close(struct ptq_external *x)
{
    ptq_model_close(x->original);
    ptq_model_close(x->model);
    ptq_tensors_close(x->packed);
    ptq_h5_close(x->h5, NULL);
    ptq_arena_clear(&x->arena);
    pthread_mutex_destroy(&x->lock);
}

/* ---- plain values ---- */

/* Any values at all: every row is the one entry of a book of its own. */
static int plain_form(const struct ptq_external_want *w, const float *values, double bits,
                      struct ptq_arena *arena, struct ptq_external_layer *out,
                      struct ptq_status *st)
{
    uint16_t *codes = ptq_arena_alloc(arena, st, w->rows, sizeof *codes); /* all 0 */
    struct ptq_part *p = &out->quant.part[0];
    out->layout = "plain";
    out->plain = values;
    out->quant.n_parts = 1;
    out->quant.file_bits = (int64_t)(bits * (double)w->rows * (double)w->cols);
    *p = (struct ptq_part){.kind = PTQ_PART_CODEBOOK,
                           .bits = 1,
                           .codes = codes,
                           .dim = w->cols,
                           .book_len = 1,
                           .book_rows = 1,
                           .book_cols = w->cols,
                           .book = {.fmt = PTQ_FMT_F32, .n = w->rows * w->cols, .at = values}};
    return codes ? PTQ_OK : PTQ_ERR_MEMORY;
}

double ptq_value_eps(const char *type)
{
    return strstr(type, "BF16") || strstr(type, "bfloat16") ? ldexp(1, -8)
           : strstr(type, "F16") || strstr(type, "float16") ? ldexp(1, -11)
                                                            : ldexp(1, -23);
}

static int model_layer(struct ptq_external *x, const struct ptq_external_want *w,
                       struct ptq_arena *arena, struct ptq_external_layer *out,
                       struct ptq_status *st)
{
    struct ptq_piece piece;
    float *values;
    ptq_weights_find(x->model, w->name, &piece);
    int rc = ptq_weights_check(x->model, w->name, w->rows, w->cols, st);
    rc = rc ? rc : ptq_weights_read(x->model, w->name, w->rows, w->cols, arena, &values, st);
    if (rc)
        return rc;
    out->value_eps = ptq_value_eps(piece.tensor->type);
    return plain_form(w, values, piece.tensor->stored_bits, arena, out, st);
}

/* ---- packed ---- */

static enum ptq_fmt format_of(const char *type)
{
    return !strcmp(type, "BF16") ? PTQ_FMT_BF16 : !strcmp(type, "F16") ? PTQ_FMT_F16 : PTQ_FMT_F32;
}

/* Groups as runs of permuted columns: possible where all have one size, but for the last. */
static int make_perm(const struct ptq_packed_matrix *m, int64_t size, int32_t *perm)
{
    int64_t p = 0;
    for (int64_t g = 0; g < m->n_groups; g++)
        for (int64_t j = 0; j < m->cols; j++)
            if (m->group_of[j] == g) {
                if (p / size != g)
                    return PTQ_SKIP;
                perm[p++] = (int32_t)j;
            }
    return p == m->cols ? PTQ_OK : PTQ_SKIP;
}

static int64_t largest_group(const struct ptq_packed_matrix *m)
{
    int64_t n = 0;
    for (int64_t j = 0; j < m->cols; j++)
        n += m->group_of[j] == m->group_of[0];
    return n;
}

static int set_groups(const struct ptq_packed_matrix *m, const char *path, const char *name,
                      struct ptq_arena *arena, struct ptq_part *p, struct ptq_status *st)
{
    p->group_cols = largest_group(m);
    p->groups_per_row = (m->cols - 1) / p->group_cols + 1;
    int32_t *perm = m->stored_groups ? ptq_arena_alloc(arena, st, m->cols, sizeof *perm) : NULL;
    if (m->stored_groups && !perm)
        return PTQ_ERR_MEMORY;
    if (p->groups_per_row != m->n_groups || (perm && make_perm(m, p->group_cols, perm)))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: %s: its groups (g_idx) are of different sizes, which no form "
                              "here has",
                              path, name);
    p->perm = perm;
    return PTQ_OK;
}

/* One value for all: a constant of the format, no data. */
static bool constant_zero(const struct ptq_packed_matrix *m, int64_t n)
{
    const int32_t middle = 1 << (m->bits - 1);
    for (int64_t i = 0; m->zero && i < n; i++)
        if (m->zero[i] != middle)
            return false;
    return true;
}

struct rows { /* which rows of a packed matrix are the layer's */
    const struct ptq_model_info *info;
    const struct ptq_piece *piece;
    int64_t n;
};

static int64_t stored_row(const struct rows *r, int64_t i)
{
    struct ptq_piece as = *r->piece;
    as.as &= ~(unsigned)PTQ_TRANSPOSED; /* packed matrices all are outputs x inputs */
    return ptq_piece_row(r->info, &as, r->n, i);
}

static int fill_zeros(const struct ptq_packed_matrix *m, const struct rows *r,
                      struct ptq_arena *arena, struct ptq_part *p, struct ptq_status *st)
{
    const int64_t n = m->n_groups;
    float *zero = ptq_arena_alloc(arena, st, r->n * n, sizeof *zero);
    bool wide = false;
    for (int64_t i = 0; zero && i < r->n; i++)
        for (int64_t g = 0; g < n; g++) {
            int32_t z = m->zero[stored_row(r, i) * n + g];
            wide = wide || z < 0 || z >> m->bits;
            zero[i * n + g] = (float)z;
        }
    p->zero = (struct ptq_arr){.fmt = PTQ_FMT_INT,
                               .bits = wide ? 16 : m->bits,
                               .is_signed = wide,
                               .n = r->n * n,
                               .at = zero};
    return zero ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int fill_rows(const struct ptq_packed_matrix *m, const struct rows *r,
                     struct ptq_arena *arena, struct ptq_part *p, struct ptq_status *st)
{
    const int64_t n = m->n_groups;
    uint16_t *codes = ptq_arena_alloc(arena, st, r->n * m->cols, sizeof *codes);
    float *scale = ptq_arena_alloc(arena, st, r->n * n, sizeof *scale);
    for (int64_t i = 0; codes && scale && i < r->n; i++) {
        const int64_t from = stored_row(r, i);
        memcpy(codes + i * m->cols, m->codes + from * m->cols, (size_t)m->cols * sizeof *codes);
        memcpy(scale + i * n, m->scale + from * n, (size_t)n * sizeof *scale);
    }
    p->codes = codes;
    p->scale = (struct ptq_arr){.fmt = format_of(m->scale_type), .n = r->n * n, .at = scale};
    return codes && scale ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int64_t first_bad(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return i;
    return -1;
}

static int uniform_form(const struct ptq_packed_matrix *m, const struct rows *r, const char *path,
                        const char *name, struct ptq_arena *arena, struct ptq_external_layer *out,
                        struct ptq_status *st)
{
    struct ptq_part *p = &out->quant.part[0];
    *p = (struct ptq_part){
        .kind = PTQ_PART_UNIFORM, .bits = m->bits, .zero_const = (float)(1 << (m->bits - 1))};
    int rc = set_groups(m, path, name, arena, p, st);
    rc = rc ? rc : fill_rows(m, r, arena, p, st);
    if (!rc && !constant_zero(m, m->rows * m->n_groups)) {
        p->zero_const = 0;
        rc = fill_zeros(m, r, arena, p, st);
    }
    int64_t bad = rc ? -1 : first_bad(p->scale.at, p->scale.n);
    if (bad >= 0)
        rc = ptq_status_set(st, PTQ_ERR_NUMERIC,
                            "%s: %s: the scale of row %lld, group %lld is not "
                            "finite",
                            path, name, (long long)(bad / m->n_groups),
                            (long long)(bad % m->n_groups));
    out->layout = m->layout;
    out->quant.n_parts = 1;
    out->quant.file_bits = m->file_bits / (m->rows / r->n);
    return rc;
}

static int packed_layer(struct ptq_external *x, const struct ptq_external_want *w,
                        struct ptq_arena *arena, struct ptq_external_layer *out,
                        struct ptq_status *st)
{
    static const char leaf[] = ".weight";
    struct ptq_piece piece;
    struct ptq_packed_matrix m;
    if (!ptq_weights_elsewhere(x->original, x->packed, w->name, &piece))
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: packed files do not hold %s models", x->path,
                              ptq_model_info(x->original)->arch);
    if (piece.tensor) { /* left as it was */
        const struct ptq_weight_rows rows = {.name = w->name, .d0 = w->rows, .d1 = w->cols};
        float *values;
        int rc = ptq_weights_read_elsewhere(x->original, x->packed, &rows, arena, &values, st);
        out->value_eps = ptq_value_eps(piece.tensor->type);
        return rc ? rc : plain_form(w, values, piece.tensor->stored_bits, arena, out, st);
    }
    size_t n = strlen(piece.stored);
    if (n > sizeof leaf - 1 && !strcmp(piece.stored + n - (sizeof leaf - 1), leaf))
        piece.stored[n - (sizeof leaf - 1)] = 0;
    int rc = ptq_packed_matrix_read(x->packed, piece.stored, w->cols, arena, &m, st);
    if (rc == PTQ_SKIP)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: %s is missing: there is neither %s.weight nor %s.qweight nor "
                              "%s.weight_packed",
                              x->path, w->name, piece.stored, piece.stored, piece.stored);
    if (rc)
        return rc;
    const int64_t fused = piece.as & (PTQ_FUSED | PTQ_FUSED_BY_HEAD) ? 3 : 1;
    if (m.rows != fused * w->rows)
        return ptq_status_set(
            st, PTQ_ERR_USAGE, "%s: %s has %lld outputs; the original's %s asks for %lld", x->path,
            piece.stored, (long long)m.rows, w->name, (long long)(fused * w->rows));
    const struct rows rows = {ptq_model_info(x->original), &piece, w->rows};
    return uniform_form(&m, &rows, x->path, w->name, arena, out, st);
}

/* ---- HDF5 ---- */

static int dataset_layer(struct ptq_external *x, const char *object,
                         const struct ptq_external_want *w, struct ptq_arena *arena,
                         struct ptq_external_layer *out, struct ptq_status *st)
{
    struct ptq_h5_info info;
    float *values;
    int rc = ptq_h5_info(x->h5, object, &info, st);
    if (!rc && (info.rank != 2 || info.dim[0] != w->rows || info.dim[1] != w->cols))
        rc = ptq_status_set(st, PTQ_ERR_USAGE,
                            "%s: %s is not a matrix of %lld x %lld, the shape of the original's %s",
                            x->path, object, (long long)w->rows, (long long)w->cols, w->name);
    rc = rc ? rc : ptq_h5_read_f32(x->h5, object, arena, &values, &info, st);
    if (!rc && first_bad(values, info.n) >= 0)
        rc = ptq_status_set(st, PTQ_ERR_NUMERIC, "%s: %s: a value is not finite", x->path, object);
    if (rc)
        return rc;
    const bool half = info.type == PTQ_H5_F16 || info.type == PTQ_H5_BF16;
    out->value_eps = ptq_value_eps(info.type == PTQ_H5_F16    ? "F16"
                                   : info.type == PTQ_H5_BF16 ? "BF16"
                                                              : "F32");
    return plain_form(w, values, half ? 16 : 32, arena, out, st);
}

static int h5_layer(struct ptq_external *x, const struct ptq_external_want *w,
                    struct ptq_arena *arena, struct ptq_external_layer *out, struct ptq_status *st)
{
    char packed[600], dequant[600], plain[600];
    if (snprintf(packed, sizeof packed, "/packed/%s", w->name) >= (int)sizeof packed ||
        snprintf(dequant, sizeof dequant, "/quant/%s/dequant", w->name) >= (int)sizeof dequant ||
        snprintf(plain, sizeof plain, "/layers/%s/%s", w->name, x->dataset) >= (int)sizeof plain)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: a name of over 500 bytes", x->path);
    if (ptq_h5_exists(x->h5, packed)) {
        int rc = ptq_form_read_packed(x->h5, w->name, arena, &out->quant, st);
        out->layout = "form";
        return rc;
    }
    if (ptq_h5_exists(x->h5, dequant))
        return dataset_layer(x, dequant, w, arena, out, st);
    if (ptq_h5_exists(x->h5, plain))
        return dataset_layer(x, plain, w, arena, out, st);
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: %s is missing: there is neither %s nor %s nor %s (--dataset names "
                          "another)",
                          x->path, w->name, packed, dequant, plain);
}

/* ---- folded divisors ---- */

/* Which norm makes the layer's input; NULL: none. */
static const char *norm_before(const char *layer)
{
    static const char *const made[][2] = {{"attn_q", "attn_norm"},
                                          {"attn_k", "attn_norm"},
                                          {"attn_v", "attn_norm"},
                                          {"ffn_gate", "ffn_norm"},
                                          {"ffn_up", "ffn_norm"}};
    const char *dot = strrchr(layer, '.');
    for (size_t i = 0; dot && i < sizeof made / sizeof *made; i++)
        if (!strcmp(dot + 1, made[i][0]))
            return made[i][1];
    return NULL;
}

static int read_norm(struct ptq_external *x, const char *norm, int64_t n, struct ptq_arena *arena,
                     float *gain[2], struct ptq_status *st)
{
    const struct ptq_weight_rows rows = {.name = norm, .d0 = n};
    struct ptq_piece piece;
    struct ptq_status ignored = {0};
    if (ptq_weights_check(x->original, norm, n, 0, &ignored))
        return PTQ_SKIP;
    int rc = ptq_weights_read(x->original, norm, n, 0, arena, &gain[0], st);
    if (rc)
        return rc;
    if (x->model)
        return ptq_weights_read(x->model, norm, n, 0, arena, &gain[1], st);
    if (!ptq_weights_elsewhere(x->original, x->packed, norm, &piece) || !piece.tensor)
        return PTQ_SKIP; /* the file holds the matrices alone */
    return ptq_weights_read_elsewhere(x->original, x->packed, &rows, arena, &gain[1], st);
}

/* Half a unit in the last place of bf16 and a little: gains are stored rounded. */
#define SAME_GAIN 0.005

static int fold(struct ptq_external *x, const struct ptq_external_want *w, struct ptq_arena *arena,
                struct ptq_external_layer *out, struct ptq_status *st)
{
    const char *which = norm_before(w->name);
    char norm[80];
    float *gain[2];
    int block;
    if (!which || x->h5 || !x->original || ptq_model_info(x->original)->post_norm ||
        ptq_model_info(x->original)->encoder || sscanf(w->name, "blk.%d.", &block) != 1)
        return PTQ_OK;
    snprintf(norm, sizeof norm, "blk.%d.%s", block, which);
    int rc = read_norm(x, norm, w->cols, arena, gain, st);
    if (rc)
        return rc == PTQ_SKIP ? PTQ_OK : rc;
    float *divisor = ptq_arena_alloc(arena, st, w->cols, sizeof *divisor);
    bool whole = divisor != NULL;
    for (int64_t j = 0; whole && j < w->cols; j++) {
        const float q = gain[0][j] / gain[1][j];
        const bool same = fabsf(gain[0][j] - gain[1][j]) <= (float)SAME_GAIN * fabsf(gain[0][j]);
        out->rest_differs = out->rest_differs || !same;
        divisor[j] = same ? 1 : q;
        whole = same || (isfinite(q) && q > 0);
    }
    if (!divisor)
        return PTQ_ERR_MEMORY;
    if (out->rest_differs && whole)
        out->quant.act.divisor = (struct ptq_arr){.fmt = PTQ_FMT_F32, .n = w->cols, .at = divisor};
    return PTQ_OK;
}

/* ---- any ---- */

static int64_t form_bits(const struct ptq_external_layer *l)
{
    struct ptq_quant q = l->quant;
    struct ptq_ledger ledger;
    q.file_bits = 0;
    ptq_quant_ledger(&q, &ledger);
    return (int64_t)ledger.total;
}

int ptq_external_layer(struct ptq_external *x, const struct ptq_external_want *w,
                       struct ptq_arena *arena, struct ptq_external_layer *out,
                       struct ptq_status *st)
{
    int64_t n;
    *out = (struct ptq_external_layer){.quant = {.rows = w->rows, .cols = w->cols}};
    if (!ptq_size_mul(w->rows, w->cols, &n))
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: sizes overflow", w->name);
    int rc;
    if (x->h5 && !x->model) {
        pthread_mutex_lock(&x->lock);
        rc = h5_layer(x, w, arena, out, st);
        pthread_mutex_unlock(&x->lock);
    } else {
        rc = x->model ? model_layer(x, w, arena, out, st) : packed_layer(x, w, arena, out, st);
    }
    if (!rc && (out->quant.rows != w->rows || out->quant.cols != w->cols))
        rc = ptq_status_set(st, PTQ_ERR_USAGE, "%s: %s is %lld x %lld, the original's %lld x %lld",
                            x->path, w->name, (long long)out->quant.rows,
                            (long long)out->quant.cols, (long long)w->rows, (long long)w->cols);
    rc = rc ? rc : fold(x, w, arena, out, st);
    if (!rc && !out->plain) {
        rc = ptq_quant_validate(&out->quant, st);
        out->form_bits = rc ? 0 : form_bits(out);
    }
    return rc;
}
