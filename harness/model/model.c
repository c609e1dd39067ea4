#include "model/model.h"
#include "core/hash.h"
#include "core/linalg.h"
#include "core/num.h"
#include "core/paths.h"
#include "core/size.h"
#include "core/words.h"
#include "model/internal.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bounds of the configuration: far above any model, low enough that products of two need no care.
 */
enum {
    MOST_DIM = 1 << 24,
    MOST_BLOCKS = 1 << 14,
    MOST_HEAD_DIM = 1 << 14,
    TABLE_ROWS = 4096,
    SCHEMA = 1
};

/* ---- tensors, from either kind of file */

static int tensor_info(const struct ptq_model *m, const char *name, int *rank, int64_t dim[2],
                       struct ptq_status *st)
{
    if (m->bin) {
        if (ptq_llama2c_find(m->bin, name, dim) != PTQ_OK)
            return PTQ_SKIP;
        *rank = dim[1] ? 2 : 1;
        return PTQ_OK;
    }
    char path[256];
    snprintf(path, sizeof path, "/model/%s", name);
    if (!ptq_h5_exists(m->h5, path))
        return PTQ_SKIP;
    struct ptq_h5_info info;
    int rc = ptq_h5_info(m->h5, path, &info, st);
    if (rc)
        return rc;
    *rank = info.rank;
    dim[0] = info.rank > 0 ? info.dim[0] : 0;
    dim[1] = info.rank > 1 ? info.dim[1] : 0;
    return PTQ_OK;
}

/* Presence and shape; d1 == 0: a vector. */
static int tensor_check(const struct ptq_model *m, const char *name, int64_t d0, int64_t d1,
                        struct ptq_status *st)
{
    int rank = 0;
    int64_t dim[2] = {0, 0};
    int rc = tensor_info(m, name, &rank, dim, st);
    if (rc == PTQ_SKIP)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: tensor /model/%s is missing; /model must hold every tensor of its architecture %s "
            "(datasets/SCHEMA.md)",
            m->info.source, name, m->info.arch);
    if (rc)
        return rc;
    if (rank != (d1 ? 2 : 1) || dim[0] != d0 || (d1 && dim[1] != d1))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: tensor /model/%s has %d axes, the first of %lld x %lld "
                              "elements; expected %lld x %lld "
                              "by the attributes of /model",
                              m->info.source, name, rank, (long long)dim[0], (long long)dim[1],
                              (long long)d0, (long long)d1);
    return PTQ_OK;
}

static int check_finite(const struct ptq_model *m, const char *name, const float *x, int64_t n,
                        int64_t cols, struct ptq_status *st)
{
    int64_t bad = ptq_first_nonfinite_f32(x, n);
    if (bad < 0)
        return PTQ_OK;
    return ptq_status_set(st, PTQ_ERR_NUMERIC,
                          "%s: tensor /model/%s holds %f at row %lld, column %lld (element %lld): "
                          "weights must be finite; "
                          "export the model again",
                          m->info.source, name, (double)x[bad], (long long)(cols ? bad / cols : 0),
                          (long long)(cols ? bad % cols : bad), (long long)bad);
}

/* Reads and checks a tensor; d1 == 0: a vector. */
static int tensor_read(const struct ptq_model *m, const char *name, int64_t d0, int64_t d1,
                       struct ptq_arena *a, float **out, struct ptq_status *st)
{
    int rc = tensor_check(m, name, d0, d1, st);
    if (rc)
        return rc;
    if (m->bin) {
        rc = ptq_llama2c_read(m->bin, name, a, out, st);
    } else {
        char path[256];
        struct ptq_h5_info info;
        snprintf(path, sizeof path, "/model/%s", name);
        rc = ptq_h5_read_f32(m->h5, path, a, out, &info, st);
    }
    return rc ? rc : check_finite(m, name, *out, d0 * (d1 ? d1 : 1), d1, st);
}

/* ---- opening */

static int attr_count(struct ptq_model *m, const char *name, int64_t most, int64_t *out,
                      struct ptq_status *st)
{
    int rc = ptq_h5_get_i64(m->h5, "/model", name, out, st);
    if (rc == PTQ_SKIP)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: attribute %s of /model is missing (datasets/SCHEMA.md)",
                              m->info.source, name);
    if (rc)
        return rc;
    if (*out < 1 || *out > most)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: attribute %s of /model is %lld, expected 1 .. %lld",
                              m->info.source, name, (long long)*out, (long long)most);
    return PTQ_OK;
}

static int attr_real(struct ptq_model *m, const char *name, double min, double max, double *out,
                     struct ptq_status *st)
{
    int rc = ptq_h5_get_f64(m->h5, "/model", name, out, st);
    if (rc == PTQ_SKIP)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: attribute %s of /model is missing (datasets/SCHEMA.md)",
                              m->info.source, name);
    if (rc)
        return rc;
    if (!(*out >= min && *out <= max))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: attribute %s of /model is %g, expected %g .. %g", m->info.source,
                              name, *out, min, max);
    return PTQ_OK;
}

static int attr_text(struct ptq_model *m, const char *object, const char *name, const char *def,
                     const char **out, struct ptq_status *st)
{
    char *text = NULL;
    int rc = ptq_h5_get_text(m->h5, object, name, &m->arena, &text, st);
    if (rc == PTQ_SKIP && def) {
        *out = def;
        return PTQ_OK;
    }
    if (rc == PTQ_SKIP)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: attribute %s of %s is missing (datasets/SCHEMA.md)",
                              m->info.source, name, object);
    *out = text;
    return rc;
}

static int read_layout_word(struct ptq_model *m, struct ptq_status *st)
{
    static const char *const words[] = {"half", "interleaved", NULL};
    const char *word = NULL;
    int rc = attr_text(m, "/model", "rope_layout", NULL, &word, st);
    if (rc)
        return rc;
    m->info.rope_interleaved = strcmp(word, words[1]) == 0;
    return m->info.rope_interleaved || strcmp(word, words[0]) == 0
               ? PTQ_OK
               : ptq_unknown_word("rope_layout of /model", word, words, st);
}

static int read_counts(struct ptq_model *m, struct ptq_status *st)
{
    struct ptq_model_info *i = &m->info;
    const struct {
        const char *name;
        int64_t most, *to;
    } counts[] = {
        {"d_model", MOST_DIM, &i->d_model},        {"n_blocks", MOST_BLOCKS, &i->n_blocks},
        {"n_heads", MOST_HEAD_DIM, &i->n_heads},   {"n_kv_heads", MOST_HEAD_DIM, &i->n_kv_heads},
        {"head_dim", MOST_HEAD_DIM, &i->head_dim}, {"d_ff", MOST_DIM, &i->d_ff},
        {"vocab_size", MOST_DIM, &i->vocab_size},  {"max_context", MOST_DIM, &i->max_context},
    };
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        int rc = attr_count(m, counts[k].name, counts[k].most, counts[k].to, st);
        if (rc)
            return rc;
    }
    return PTQ_OK;
}

static int read_container(struct ptq_model *m, struct ptq_status *st)
{
    int rc = ptq_h5_open(&m->h5, m->info.source, PTQ_H5_READ, st);
    if (rc)
        return rc;
    int64_t schema = 0;
    if ((rc = ptq_h5_get_i64(m->h5, "/", "schema", &schema, st)) < 0)
        return rc;
    if (schema != SCHEMA)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: schema version %lld (root attribute schema; 0: absent); this "
                              "program reads version %d (datasets/SCHEMA.md): convert the file "
                              "or take a newer program",
                              m->info.source, (long long)schema, SCHEMA);
    if (!ptq_h5_exists(m->h5, "/model"))
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: holds no /model group: not a model container (datasets/SCHEMA.md)",
            m->info.source);
    const char *slash = strrchr(m->info.source, '/');
    if ((rc = attr_text(m, "/model", "architecture", NULL, &m->info.arch, st)) ||
        (rc = attr_text(m, "/model", "name", slash ? slash + 1 : m->info.source, &m->info.name,
                        st)) ||
        (rc = read_counts(m, st)) ||
        (rc = attr_real(m, "rope_theta", 1, 1e12, &m->info.rope_theta, st)) ||
        (rc = attr_real(m, "norm_eps", 0, 1, &m->info.norm_eps, st)) ||
        (rc = read_layout_word(m, st)))
        return rc;
    int64_t tied = !ptq_h5_exists(m->h5, "/model/output");
    if ((rc = ptq_h5_get_i64(m->h5, "/model", "tied_head", &tied, st)) < 0)
        return rc;
    m->info.tied_head = tied != 0;
    m->info.tokenizer = "none";
    return ptq_h5_exists(m->h5, "/tokenizer")
               ? attr_text(m, "/tokenizer", "kind", "none", &m->info.tokenizer, st)
               : PTQ_OK;
}

static int read_checkpoint(struct ptq_model *m, struct ptq_status *st)
{
    int rc = ptq_llama2c_open(&m->bin, m->info.source, st);
    if (rc)
        return rc;
    const struct ptq_llama2c_head *h = ptq_llama2c_head(m->bin);
    const char *slash = strrchr(m->info.source, '/');
    struct ptq_model_info *i = &m->info;
    i->arch = "llama";
    i->name = slash ? slash + 1 : i->source;
    i->tokenizer = "none"; /* lies in a file of its own */
    i->d_model = h->dim;
    i->n_blocks = h->n_layers;
    i->n_heads = h->n_heads;
    i->n_kv_heads = h->n_kv_heads;
    i->head_dim = h->dim / h->n_heads;
    i->d_ff = h->hidden;
    i->vocab_size = h->vocab_size;
    i->max_context = h->seq_len;
    i->rope_theta = 10000;
    i->norm_eps = 1e-5;
    i->rope_interleaved = true;
    i->tied_head = h->tied;
    if (i->n_blocks > MOST_BLOCKS)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: %lld layers are too many", i->source,
                              (long long)i->n_blocks);
    return PTQ_OK;
}

static int find_arch(struct ptq_model *m, struct ptq_status *st)
{
    const struct ptq_arch *const *all = ptq_archs();
    const char *names[64] = {NULL};
    for (int i = 0; all[i] && i < 63; i++) {
        names[i] = all[i]->name;
        if (strcmp(names[i], m->info.arch) == 0) {
            m->arch = all[i];
            return m->arch->check(&m->info, st);
        }
    }
    return ptq_unknown_word("architecture", m->info.arch, names, st);
}

/* Every tensor is there with its shape, before any is loaded; counts parameters on the way. */
static int check_tensors(struct ptq_model *m, struct ptq_status *st)
{
    struct ptq_model_info *i = &m->info;
    int rc;
    if ((rc = tensor_check(m, "tok_embd", i->vocab_size, i->d_model, st)) ||
        (rc = tensor_check(m, "output_norm", i->d_model, 0, st)) ||
        (!i->tied_head && (rc = tensor_check(m, "output", i->vocab_size, i->d_model, st))))
        return rc;
    i->n_params = i->d_model + (i->tied_head ? 1 : 2) * i->vocab_size * i->d_model;
    struct ptq_arena a;
    ptq_arena_init(&a, 0);
    for (int b = 0; b < i->n_blocks && !rc; b++) {
        struct ptq_block block;
        ptq_arena_clear(&a);
        rc = m->arch->layout(i, b, &a, &block, st);
        for (int k = 0; k < block.n_linears && !rc; k++) {
            rc = tensor_check(m, block.lin[k].name, block.lin[k].d_out, block.lin[k].d_in, st);
            i->n_block_params += block.lin[k].d_out * block.lin[k].d_in;
        }
        for (int k = 0; k < block.n_vectors && !rc; k++) {
            rc = tensor_check(m, block.vec[k].name, block.vec[k].n, 0, st);
            i->n_params += block.vec[k].n;
        }
    }
    i->n_params += i->n_block_params;
    ptq_arena_clear(&a);
    return rc;
}

static int make_key(struct ptq_model *m, struct ptq_status *st)
{
    char file[PTQ_KEY_CHARS];
    int rc = ptq_file_key(m->info.source, file, st);
    if (rc)
        return rc;
    struct ptq_hasher *h = ptq_hasher_new();
    if (!h)
        return ptq_status_nomem(st, "a hash", 1024);
    ptq_hasher_add_text(h, file);
    ptq_hasher_add_i64(h, m->options.outliers);
    ptq_hasher_done(h, m->info.key);
    return PTQ_OK;
}

void ptq_rope_row(const struct ptq_model_info *m, int64_t position, float *cos_out, float *sin_out)
{
    for (int64_t i = 0; i < m->head_dim / 2; i++) {
        double c, s;
        ptq_sincos((double)position *
                       ptq_pow(m->rope_theta, -2.0 * (double)i / (double)m->head_dim),
                   &s, &c);
        cos_out[i] = (float)c;
        sin_out[i] = (float)s;
    }
}

void ptq_rope_at(const struct ptq_model *m, int64_t position, float *buf, const float **cos_out,
                 const float **sin_out)
{
    const int64_t half = m->info.head_dim / 2;
    if (position < m->rope_rows) {
        *cos_out = m->rope_cos + position * half;
        *sin_out = m->rope_sin + position * half;
        return;
    }
    ptq_rope_row(&m->info, position, buf, buf + half);
    *cos_out = buf;
    *sin_out = buf + half;
}

static int make_rotations(struct ptq_model *m, struct ptq_status *st)
{
    const int64_t rows = m->info.max_context < TABLE_ROWS ? m->info.max_context : TABLE_ROWS,
                  half = m->info.head_dim / 2;
    float *c = ptq_arena_alloc(&m->arena, st, rows * half, sizeof *c),
          *s = ptq_arena_alloc(&m->arena, st, rows * half, sizeof *s);
    if (!c || !s)
        return PTQ_ERR_MEMORY;
    for (int64_t t = 0; t < rows; t++)
        ptq_rope_row(&m->info, t, c + t * half, s + t * half);
    m->rope_cos = c;
    m->rope_sin = s;
    m->rope_rows = rows;
    return PTQ_OK;
}

static int set_source(struct ptq_model *m, const char *source, struct ptq_status *st)
{
    char *path;
    if (strcmp(source, "demo") == 0) {
        int rc = ptq_data_path("datasets/demo.h5", &m->arena, &path, st);
        if (rc)
            return rc;
    } else if (!(path = ptq_arena_strdup(&m->arena, st, source))) {
        return PTQ_ERR_MEMORY;
    }
    m->info.source = path;
    return PTQ_OK;
}

static int open_parts(struct ptq_model *m, const char *source, struct ptq_status *st)
{
    int rc = set_source(m, source, st);
    if (rc)
        return rc;
    size_t n = strlen(m->info.source);
    bool bin = n > 4 && strcmp(m->info.source + n - 4, ".bin") == 0;
    if ((rc = bin ? read_checkpoint(m, st) : read_container(m, st)) || (rc = find_arch(m, st)) ||
        (rc = check_tensors(m, st)) || (rc = make_key(m, st)))
        return rc;
    return make_rotations(m, st);
}

int ptq_model_open(struct ptq_model **out, const char *source, const struct ptq_model_options *o,
                   struct ptq_status *st)
{
    *out = NULL;
    struct ptq_model *m = calloc(1, sizeof *m);
    if (!m)
        return ptq_status_nomem(st, "a model", sizeof *m);
    ptq_arena_init(&m->arena, 0);
    if (o)
        m->options = *o;
    int rc = open_parts(m, source, st);
    if (rc == PTQ_OK && m->options.outliers && !m->arch->outliers)
        rc = ptq_status_set(st, PTQ_ERR_USAGE, "architecture %s has no outlier variant",
                            m->arch->name);
    if (rc)
        ptq_model_close(m);
    else
        *out = m;
    return rc;
}

void ptq_model_close(struct ptq_model *m)
{
    if (!m)
        return;
    ptq_h5_close(m->h5, NULL);
    ptq_llama2c_close(m->bin);
    ptq_arena_clear(&m->arena);
    free(m);
}

const struct ptq_model_info *ptq_model_info(const struct ptq_model *m)
{
    return &m->info;
}

/* ---- blocks */

static int check_index(const struct ptq_model *m, int index, struct ptq_status *st)
{
    if (index >= 0 && index < m->info.n_blocks)
        return PTQ_OK;
    return ptq_status_set(st, PTQ_ERR_USAGE, "%s: no block %d; there are blocks 0 .. %lld",
                          m->info.source, index, (long long)m->info.n_blocks - 1);
}

int ptq_model_layout(const struct ptq_model *m, int index, struct ptq_arena *a, struct ptq_block *b,
                     struct ptq_status *st)
{
    int rc = check_index(m, index, st);
    return rc ? rc : m->arch->layout(&m->info, index, a, b, st);
}

int ptq_model_load_block(const struct ptq_model *m, int index, struct ptq_arena *a,
                         struct ptq_block *b, struct ptq_status *st)
{
    float *lin[PTQ_MAX_LINEARS], *vec[PTQ_MAX_VECTORS];
    int rc = ptq_model_layout(m, index, a, b, st);
    if (rc)
        return rc;
    for (int k = 0; k < b->n_linears; k++) {
        if ((rc = tensor_read(m, b->lin[k].name, b->lin[k].d_out, b->lin[k].d_in, a, &lin[k], st)))
            return rc;
        b->lin[k].w = lin[k];
    }
    for (int k = 0; k < b->n_vectors; k++) {
        if ((rc = tensor_read(m, b->vec[k].name, b->vec[k].n, 0, a, &vec[k], st)))
            return rc;
        b->vec[k].at = vec[k];
    }
    return m->options.outliers ? m->arch->outliers(&m->info, b, lin, vec, st) : PTQ_OK;
}

/* ---- embedding and head */

static int check_tokens(const struct ptq_model *m, const struct ptq_tokens *t,
                        struct ptq_status *st)
{
    for (int64_t s = 0; s < t->n_seq; s++) {
        if (t->len[s] > m->info.max_context)
            return ptq_status_set(st, PTQ_ERR_USAGE,
                                  "sequence %lld has %lld tokens, the model %s takes %lld: choose "
                                  "a window of at most that",
                                  (long long)s, (long long)t->len[s], m->info.name,
                                  (long long)m->info.max_context);
        const int32_t *id = t->id + t->offset[s];
        for (int64_t i = 0; i < t->len[s]; i++)
            if (id[i] < 0 || id[i] >= m->info.vocab_size)
                return ptq_status_set(
                    st, PTQ_ERR_USAGE,
                    "sequence %lld, token %lld: id %d is outside the vocabulary of %s, 0 .. %lld",
                    (long long)s, (long long)i, (int)id[i], m->info.name,
                    (long long)m->info.vocab_size - 1);
    }
    return PTQ_OK;
}

int ptq_model_embed(const struct ptq_model *m, const struct ptq_tokens *t, struct ptq_arena *a,
                    struct ptq_hidden *out, struct ptq_status *st)
{
    const int64_t d = m->info.d_model;
    struct ptq_arena own;
    float *table = NULL;
    int64_t n;
    int rc = check_tokens(m, t, st);
    if (rc)
        return rc;
    if (!ptq_size_mul(t->n_total, d, &n))
        return ptq_status_set(st, PTQ_ERR_MEMORY, "hidden states of %lld tokens overflow",
                              (long long)t->n_total);
    *out = (struct ptq_hidden){t, d, ptq_arena_alloc(a, st, n, sizeof(float))};
    if (!out->at)
        return PTQ_ERR_MEMORY;
    ptq_arena_init(&own, 0);
    rc = tensor_read(m, "tok_embd", m->info.vocab_size, d, &own, &table, st);
    for (int64_t i = 0; i < t->n_total && !rc; i++)
        memcpy(out->at + i * d, table + t->id[i] * d, (size_t)d * sizeof(float));
    ptq_arena_clear(&own);
    return rc;
}

struct ptq_head {
    const float *gain, *w;
};

int ptq_model_load_head(const struct ptq_model *m, struct ptq_arena *a, struct ptq_head **out,
                        struct ptq_status *st)
{
    float *gain, *w;
    struct ptq_head *h = ptq_arena_alloc(a, st, 1, sizeof *h);
    if (!h)
        return PTQ_ERR_MEMORY;
    int rc = tensor_read(m, "output_norm", m->info.d_model, 0, a, &gain, st);
    if (!rc)
        rc = tensor_read(m, m->info.tied_head ? "tok_embd" : "output", m->info.vocab_size,
                         m->info.d_model, a, &w, st);
    if (rc)
        return rc;
    *h = (struct ptq_head){gain, w};
    *out = h;
    return PTQ_OK;
}

int ptq_head_logits(const struct ptq_model *m, const struct ptq_head *h, const float *x, int64_t n,
                    float *logits, struct ptq_status *st)
{
    const int64_t d = m->info.d_model, v = m->info.vocab_size;
    float *normed = malloc((size_t)(n * d) * sizeof *normed + 1);
    if (!normed)
        return ptq_status_nomem(st, "normed hidden states", (size_t)(n * d) * sizeof *normed);
    ptq_norm_rows(h->gain, m->info.norm_eps, x, n, d, normed);
    struct ptq_gemm_f32 g = {n, v, d, false, true, 1, 0, normed, d, h->w, d, logits, v};
    int rc = ptq_gemm_f32(NULL, &g, st);
    free(normed);
    return rc;
}
