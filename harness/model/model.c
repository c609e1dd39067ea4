#include "model/model.h"
#include "core/hash.h"
#include "core/linalg.h"
#include "core/paths.h"
#include "core/size.h"
#include "core/words.h"
#include "model/config.h"
#include "model/internal.h"
#include "model/weights.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- opening */

const char *ptq_tensor_place(const struct ptq_model *m)
{
    return m->dialect ? "" : "/model/";
}

static const char *base_name(struct ptq_model *m, struct ptq_status *st)
{
    const char *path = m->info.source;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t from = n;
    while (from > 0 && path[from - 1] != '/')
        from--;
    return ptq_arena_printf(&m->arena, st, "%.*s", (int)(n - from), path + from);
}

static const struct ptq_dialect *dialect_of(const struct ptq_arch *a, enum ptq_dialect_kind k)
{
    return k == PTQ_HUGGINGFACE ? &a->hf : &a->gguf;
}

static bool in_list(const char *const *list, const char *word)
{
    while (list && *list && strcmp(*list, word) != 0)
        list++;
    return list && *list;
}

/* The architecture whose dialect knows the type; every type there is, for the message. */
static int find_dialect(struct ptq_model *m, const char *type, struct ptq_status *st)
{
    const struct ptq_arch *const *all = ptq_archs();
    const char *types[64] = {NULL};
    int n = 0;
    for (int i = 0; all[i]; i++) {
        const struct ptq_dialect *d = dialect_of(all[i], m->files->dialect);
        for (int k = 0; d->types && d->types[k] && n < 63; k++)
            types[n++] = d->types[k];
        if (in_list(d->types, type)) {
            m->arch = all[i];
            m->dialect = d;
            m->info.arch = all[i]->name;
            return PTQ_OK;
        }
    }
    return ptq_unknown_word_at(m->info.source, "kind of model", type, types, st);
}

static int find_arch(struct ptq_model *m, struct ptq_status *st)
{
    const struct ptq_arch *const *all = ptq_archs();
    const char *names[64] = {NULL};
    for (int i = 0; all[i] && i < 63; i++) {
        names[i] = all[i]->name;
        if (strcmp(names[i], m->info.arch) == 0) {
            m->arch = all[i];
            return PTQ_OK;
        }
    }
    return ptq_unknown_word_at(m->info.source, "architecture", m->info.arch, names, st);
}

/* The first prefix under which the embedding is found; the first of all, when under none: the
 * message about the missing tensor then spells it. */
static void find_prefix(struct ptq_model *m)
{
    static const char *const none[] = {"", NULL};
    const char *const *list = m->dialect->prefixes ? m->dialect->prefixes : none;
    for (int i = 0; list[i]; i++) {
        m->prefix = list[i];
        if (ptq_weights_has(m, "tok_embd"))
            return;
    }
    m->prefix = list[0];
}

static int configure_dialect(struct ptq_model *m, struct ptq_status *st)
{
    const bool hf = m->files->dialect == PTQ_HUGGINGFACE;
    const char *type = NULL;
    char prefix[64] = "";
    struct ptq_meta meta = {m->info.source, m->files->meta, "", &m->arena};
    if (!hf && json_object_size(m->files->meta) == 0)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: holds no metadata, which say what kind of model it is: it is a "
                              "part of a split file or was cut; name the whole model",
                              m->info.source);
    if (hf && json_object_size(m->files->meta) == 0)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: no config.json lies beside the weights: put the checkpoint's in "
                              "the folder",
                              m->info.source);
    int rc = ptq_meta_text(&meta, hf ? "model_type" : "general.architecture", true, &type, st);
    if (rc || (rc = find_dialect(m, type, st)))
        return rc;
    if (!hf)
        snprintf(prefix, sizeof prefix, "%s.", type);
    meta.prefix = prefix;
    rc = m->dialect->configure(&meta, &m->info, st);
    if (!rc && hf) {
        meta.prefix = PTQ_MARKS ".";
        rc = ptq_config_read_marks(&meta, &m->info, st);
    }
    if (rc)
        return rc;
    find_prefix(m);
    /* GGUF has no setting for it: a file without a matrix of its own uses the embedding. */
    if (!hf && !m->info.encoder && !ptq_weights_has(m, "output"))
        m->info.tied_head = true;
    return PTQ_OK;
}

static int configure_canonical(struct ptq_model *m, struct ptq_status *st)
{
    const struct ptq_meta meta = {m->info.source, m->files->meta, "", &m->arena};
    m->info.tied_head = !ptq_weights_has(m, "output");
    int rc = ptq_config_read_canonical(&meta, &m->info, st);
    return rc ? rc : find_arch(m, st);
}

/* A container names the kind of its tokenizer; a checkpoint's own lies with it: in its folder, in a
 * GGUF. Bare weights and random ones have none. */
static void note_tokenizer(struct ptq_model *m)
{
    const json_t *kind = json_object_get(m->files->meta, "tokenizer");
    const char *word = json_is_string(kind) ? json_string_value(kind) : NULL;
    struct stat s;
    bool with = m->files->dialect == PTQ_GGUF || (word && strcmp(word, "bytes") != 0) ||
                (m->dialect && stat(m->info.source, &s) == 0 && S_ISDIR(s.st_mode));
    m->info.tokenizer = with ? "own" : word ? "bytes" : "none";
}

static int configure(struct ptq_model *m, struct ptq_status *st)
{
    ptq_config_init(&m->info);
    if (!(m->info.name = base_name(m, st)))
        return PTQ_ERR_MEMORY;
    int rc =
        m->files->dialect == PTQ_CANONICAL ? configure_canonical(m, st) : configure_dialect(m, st);
    note_tokenizer(m);
    if (!m->info.d_embd)
        m->info.d_embd = m->info.d_model;
    if (!rc)
        rc = ptq_config_check(&m->info, st);
    if (!rc)
        rc = m->arch->check(&m->info, st);
    if (!rc && m->arch->outer)
        m->arch->outer(&m->info, m->outer);
    return rc;
}

/* ---- tensors */

/* Weights of block matrices by the grid that they lie on already. */
enum { MOST_GRIDS = 16 };
struct grids {
    const struct ptq_tensor *of[MOST_GRIDS]; /* one tensor of each kind */
    int64_t weights[MOST_GRIDS];
    int n;
};

static void note_grid(struct grids *g, const struct ptq_tensor *t, int64_t weights)
{
    int k = 0;
    while (k < g->n && strcmp(g->of[k]->type, t->type) != 0)
        k++;
    if (!t->grid_bits || k == MOST_GRIDS)
        return;
    if (k == g->n)
        g->of[g->n++] = t;
    g->weights[k] += weights;
}

/* The narrowest grid that holds a tenth of the weights or more is named: a format that can hold it
 * looks better than it is, so it bounds what may be ranked. */
static int choose_grid(struct ptq_model *m, const struct grids *g, struct ptq_status *st)
{
    struct ptq_model_info *i = &m->info;
    const struct ptq_tensor *best = NULL;
    double share = 0;
    for (int k = 0; k < g->n; k++) {
        double of_all = (double)g->weights[k] / (double)i->n_block_params;
        if (of_all < 0.1 || (best && g->of[k]->grid_bits >= best->grid_bits))
            continue;
        best = g->of[k];
        share = of_all;
    }
    if (!best)
        return PTQ_OK;
    i->grid_bits = best->grid_bits;
    i->grid_group = best->grid_group;
    i->quantized_as = ptq_arena_printf(&m->arena, st, "%s: %d bits, groups of %d", best->type,
                                       best->grid_bits, best->grid_group);
    if (i->quantized_as && share < 1)
        i->quantized_as = ptq_arena_printf(&m->arena, st, "%s (%.0f %% of the block weights)",
                                           i->quantized_as, 100 * share);
    return i->quantized_as ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int check_block(struct ptq_model *m, const struct ptq_block *b, struct grids *grids,
                       struct ptq_status *st)
{
    struct ptq_model_info *i = &m->info;
    int rc = PTQ_OK;
    for (int k = 0; k < b->n_linears && !rc; k++) {
        const struct ptq_linear *l = &b->lin[k];
        struct ptq_piece p;
        if ((rc = ptq_weights_check(m, l->name, l->d_out, l->d_in, st)))
            return rc;
        i->n_block_params += l->d_out * l->d_in;
        ptq_weights_find(m, l->name, &p);
        note_grid(grids, p.tensor, l->d_out * l->d_in);
    }
    for (int k = 0; k < b->n_vectors && !rc; k++)
        if (b->vec[k].name) {
            rc = ptq_weights_check(m, b->vec[k].name, b->vec[k].n, 0, st);
            i->n_params += b->vec[k].n;
        }
    return rc;
}

static bool in_layout(const struct ptq_block *b, const char *name)
{
    for (int k = 0; k < b->n_linears; k++)
        if (!strcmp(b->lin[k].name, name))
            return true;
    for (int k = 0; k < b->n_vectors; k++)
        if (b->vec[k].name && !strcmp(b->vec[k].name, name))
            return true;
    return false;
}

/* A bias or norm that lies in the file and that the configuration does not speak of: leaving it out
 * would run another model. */
static int check_unused(const struct ptq_model *m, const struct ptq_block *b, struct ptq_status *st)
{
    const struct ptq_name *n = m->dialect ? m->dialect->names : NULL;
    for (; n && n->canonical; n++) {
        struct ptq_piece p;
        char name[128];
        if (!strstr(n->outside, "%d"))
            continue;
        snprintf(name, sizeof name, "blk.%d.%s", b->index, n->canonical);
        ptq_weights_find(m, name, &p);
        if (p.tensor && !in_layout(b, name))
            return ptq_status_set(
                st, PTQ_ERR_USAGE,
                "%s: tensor %s is in the file, but by its configuration the model "
                "has none: configuration and weights do not belong together",
                m->info.source, p.stored);
    }
    return PTQ_OK;
}

static int check_outer(struct ptq_model *m, struct ptq_status *st)
{
    struct ptq_model_info *i = &m->info;
    int rc = ptq_weights_check(m, "tok_embd", i->vocab_size, i->d_embd, st);
    i->n_params = i->vocab_size * i->d_embd;
    if (!rc && !i->tied_head && !i->encoder) {
        rc = ptq_weights_check(m, "output", i->vocab_size, i->d_embd, st);
        i->n_params += i->vocab_size * i->d_embd;
    }
    for (int k = 0; k < PTQ_MAX_OUTER && !rc; k++)
        if (m->outer[k].name) {
            rc = ptq_weights_check(m, m->outer[k].name, m->outer[k].d0, m->outer[k].d1, st);
            i->n_params += m->outer[k].d0 * (m->outer[k].d1 ? m->outer[k].d1 : 1);
        }
    return rc;
}

/* Every tensor is there with its shape, before any is loaded; counts parameters on the way. */
static int check_tensors(struct ptq_model *m, struct ptq_status *st)
{
    struct ptq_model_info *i = &m->info;
    struct ptq_arena a;
    struct grids grids = {.n = 0};
    int rc = check_outer(m, st);
    ptq_arena_init(&a, 0);
    for (int b = 0; b < i->n_blocks && !rc; b++) {
        struct ptq_block block;
        ptq_arena_clear(&a);
        if (!(rc = m->arch->layout(i, b, &a, &block, st)) &&
            !(rc = check_block(m, &block, &grids, st)))
            rc = check_unused(m, &block, st);
    }
    i->n_params += i->n_block_params;
    ptq_arena_clear(&a);
    return rc ? rc : choose_grid(m, &grids, st);
}

static int make_key(struct ptq_model *m, struct ptq_status *st)
{
    char file[PTQ_KEY_CHARS];
    int rc = ptq_tensors_key(m->files, file, st);
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
    if (rc || (rc = ptq_tensors_open(&m->files, m->info.source, st)) || (rc = configure(m, st)) ||
        (rc = check_tensors(m, st)) || (rc = make_key(m, st)))
        return rc;
    return ptq_rope_init(m, st);
}

int ptq_model_open(struct ptq_model **out, const char *source, const struct ptq_model_options *o,
                   struct ptq_status *st)
{
    *out = NULL;
    struct ptq_model *m = calloc(1, sizeof *m);
    if (!m)
        return ptq_status_nomem(st, "a model", sizeof *m);
    ptq_arena_init(&m->arena, 0);
    m->prefix = "";
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
    ptq_tensors_close(m->files);
    ptq_arena_clear(&m->arena);
    free(m);
}

struct ptq_tokens ptq_first_windows(const struct ptq_tokens *all, int64_t n)
{
    struct ptq_tokens t = *all;
    t.n_seq = n < t.n_seq ? n : t.n_seq;
    t.n_total = t.n_seq ? t.offset[t.n_seq - 1] + t.len[t.n_seq - 1] : 0;
    return t;
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
    float *lin[PTQ_MAX_LINEARS], *vec[PTQ_MAX_VECTORS] = {NULL};
    int rc = ptq_model_layout(m, index, a, b, st);
    if (rc)
        return rc;
    for (int k = 0; k < b->n_linears; k++) {
        const struct ptq_linear *l = &b->lin[k];
        if ((rc = ptq_weights_read(m, l->name, l->d_out, l->d_in, a, &lin[k], st)))
            return rc;
        b->lin[k].w = lin[k];
    }
    for (int k = 0; k < b->n_vectors; k++) {
        if (!b->vec[k].name)
            continue;
        if ((rc = ptq_weights_read(m, b->vec[k].name, b->vec[k].n, 0, a, &vec[k], st)))
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

/* Tensors before (behind) the blocks, by slot. */
static int load_outer(const struct ptq_model *m, bool at_head, struct ptq_arena *a,
                      const float **at, struct ptq_status *st)
{
    int rc = PTQ_OK;
    for (int k = 0; k < PTQ_MAX_OUTER && !rc; k++) {
        const struct ptq_outer *o = &m->outer[k];
        float *values = NULL;
        if (o->name && o->at_head == at_head)
            rc = ptq_weights_read(m, o->name, o->d0, o->d1, a, &values, st);
        at[k] = values;
    }
    return rc;
}

/* ---- embedding */

enum { TABLE_ROWS = 4096 };

struct gather { /* rows of tok_embd for all tokens, a part of the table at a time */
    const struct ptq_model *model;
    const struct ptq_tokens *tokens;
    float *rows; /* (n_total x d_embd) */
    struct ptq_status *st;
};

static int gather_part(const struct gather *g, int32_t first, float *part)
{
    const struct ptq_model_info *i = &g->model->info;
    const struct ptq_tokens *t = g->tokens;
    int32_t low = INT32_MAX, high = -1, end = first + TABLE_ROWS;
    for (int64_t s = 0; s < t->n_seq; s++)
        for (int64_t k = 0; k < t->len[s]; k++) {
            int32_t id = t->id[t->offset[s] + k];
            if (id >= first && id < end) {
                low = id < low ? id : low;
                high = id > high ? id : high;
            }
        }
    if (high < 0)
        return PTQ_OK;
    const struct ptq_weight_rows r = {"tok_embd", i->vocab_size, i->d_embd, low, high - low + 1};
    int rc = ptq_weights_rows(g->model, &r, part, g->st);
    for (int64_t s = 0; s < t->n_seq && !rc; s++)
        for (int64_t k = t->offset[s]; k < t->offset[s] + t->len[s]; k++)
            if (t->id[k] >= low && t->id[k] <= high)
                memcpy(g->rows + k * i->d_embd, part + (t->id[k] - low) * i->d_embd,
                       (size_t)i->d_embd * sizeof *part);
    return rc;
}

/* Large vocabularies are not held: the table passes by, 4096 rows at a time. */
static int gather_all(const struct gather *g)
{
    const struct ptq_model_info *i = &g->model->info;
    const int64_t n = i->vocab_size < TABLE_ROWS ? i->vocab_size : TABLE_ROWS;
    float *part = malloc((size_t)(n * i->d_embd) * sizeof *part);
    int rc =
        part ? PTQ_OK : ptq_status_nomem(g->st, "tok_embd", (size_t)(n * i->d_embd) * sizeof *part);
    for (int64_t first = 0; first < i->vocab_size && !rc; first += TABLE_ROWS)
        rc = gather_part(g, (int32_t)first, part);
    free(part);
    return rc;
}

/* Rows become hidden states; x may be the rows themselves when the architecture adds nothing. */
static int edges(const struct ptq_model *m, const struct ptq_tokens *t, const float *rows, float *x,
                 struct ptq_status *st)
{
    const struct ptq_model_info *i = &m->info;
    const float *outer[PTQ_MAX_OUTER];
    struct ptq_arena own;
    ptq_arena_init(&own, 0);
    int rc = load_outer(m, false, &own, outer, st);
    for (int64_t s = 0; s < t->n_seq && !rc; s++) {
        const int64_t at = t->offset[s];
        const struct ptq_edge e = {i, outer, t->len[s], rows + at * i->d_embd, x + at * i->d_model};
        rc = m->arch->embed(&e, st);
    }
    ptq_arena_clear(&own);
    return rc;
}

int ptq_model_embed(const struct ptq_model *m, const struct ptq_tokens *t, struct ptq_arena *a,
                    struct ptq_hidden *out, struct ptq_status *st)
{
    const struct ptq_model_info *i = &m->info;
    struct ptq_arena own;
    int64_t n, n_rows;
    int rc = check_tokens(m, t, st);
    if (rc)
        return rc;
    if (!ptq_size_mul(t->n_total, i->d_model, &n) || !ptq_size_mul(t->n_total, i->d_embd, &n_rows))
        return ptq_status_set(st, PTQ_ERR_MEMORY, "hidden states of %lld tokens overflow",
                              (long long)t->n_total);
    *out = (struct ptq_hidden){t, i->d_model, ptq_arena_alloc(a, st, n, sizeof(float)), false};
    if (!out->at)
        return PTQ_ERR_MEMORY;
    out->spilled = ptq_arena_is_spilled(a, out->at);
    ptq_arena_init(&own, 0);
    struct gather g = {m, t, out->at, st};
    if (i->d_embd != i->d_model && !(g.rows = ptq_arena_alloc(&own, st, n_rows, sizeof(float))))
        rc = PTQ_ERR_MEMORY;
    if (!rc)
        rc = gather_all(&g);
    if (!rc && m->arch->embed)
        rc = edges(m, t, g.rows, out->at, st);
    ptq_arena_clear(&own);
    return rc;
}

/* ---- head */

struct ptq_head {
    const float *outer[PTQ_MAX_OUTER];
    const float *w;
};

int ptq_model_load_head(const struct ptq_model *m, struct ptq_arena *a, struct ptq_head **out,
                        struct ptq_status *st)
{
    const struct ptq_model_info *i = &m->info;
    float *w = NULL;
    if (i->encoder)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: an encoder has no head: it is scored by its embeddings",
                              i->source);
    struct ptq_head *h = ptq_arena_alloc(a, st, 1, sizeof *h);
    if (!h)
        return PTQ_ERR_MEMORY;
    int rc = load_outer(m, true, a, h->outer, st);
    if (!rc)
        rc = ptq_weights_read(m, i->tied_head ? "tok_embd" : "output", i->vocab_size, i->d_embd, a,
                              &w, st);
    h->w = w;
    *out = h;
    return rc;
}

int ptq_head_logits(const struct ptq_model *m, const struct ptq_head *h, struct ptq_pool *pool,
                    const float *x, int64_t n, float *logits, struct ptq_status *st)
{
    const int64_t d = m->info.d_embd, v = m->info.vocab_size;
    float *last = malloc((size_t)(n * d) * sizeof *last + 1);
    if (!last)
        return ptq_status_nomem(st, "normed hidden states", (size_t)(n * d) * sizeof *last);
    const struct ptq_edge e = {&m->info, h->outer, n, x, last};
    int rc = m->arch->finish(&e, st);
    struct ptq_gemm_f32 g = {n, v, d, false, true, 1, 0, last, d, h->w, d, logits, v};
    if (!rc)
        rc = ptq_gemm_f32(pool, &g, st);
    free(last);
    return rc;
}
