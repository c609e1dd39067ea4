#include "model/hfwrite.h"
#include "core/progress.h"
#include "core/size.h"
#include "datasets/hffolder.h"
#include "model/config.h"
#include "model/internal.h"
#include "model/weights.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PIECE_FLOATS = 1 << 20, MOST_FILE_BYTES = 1 << 30 };

/* A tensor to write. */
struct item {
    struct ptq_st_entry entry;
    const struct ptq_tensor *stored; /* of a Hugging Face source; else NULL, and: */
    const char *canonical;
    int64_t d0, d1;
};
/* A layer of the model and the stored tensor it is part of (NULL: the item of its name). */
struct layer {
    struct ptq_linear lin;
    const struct ptq_tensor *stored;
    bool last; /* of its block */
};
struct writing {
    const struct ptq_hf_args *a;
    const struct ptq_model *m;
    /* The model as if its tensors were called and laid out as Hugging Face's: spells names. */
    struct ptq_model as_hf;
    struct ptq_arena arena;
    struct item *item;
    struct layer *layer;
    int64_t n_items, n_layers;
    struct ptq_st_writer *to;
    struct ptq_progress *progress;
    struct ptq_hf_written *done;
    struct ptq_status *st;
};

static bool is_hf(const struct ptq_model *m)
{
    return m->dialect && m->dialect == &m->arch->hf;
}

/* ---- what is written: a Hugging Face source's own tensors */

static bool is_whole_number(const char *type)
{
    for (int i = 0; i < PTQ_HF_N_NUMBERS; i++)
        if (!strcmp(type, ptq_hf_types[i].safetensors) || !strcmp(type, ptq_hf_types[i].torch))
            return ptq_hf_types[i].number > PTQ_HF_BF16;
    return false;
}

static int list_stored(struct writing *w)
{
    const struct ptq_tensors *t = w->m->files;
    w->item = ptq_arena_alloc(&w->arena, w->st, t->n, sizeof *w->item);
    if (!w->item)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < t->n; i++) {
        const struct ptq_tensor *x = &t->tensor[i];
        if (is_whole_number(x->type)) {
            w->done->n_left_out++;
            continue;
        }
        struct item *to = &w->item[w->n_items++];
        *to = (struct item){.stored = x, .entry = {x->name, w->a->type, x->rank, {0}}};
        memcpy(to->entry.dim, x->dim, sizeof x->dim);
    }
    return PTQ_OK;
}

/* ---- what is written: canonical tensors under their Hugging Face names */

static int add_canonical(struct writing *w, const char *name, int64_t d0, int64_t d1)
{
    struct ptq_piece p;
    ptq_weights_find(&w->as_hf, name, &p);
    char *outside = ptq_arena_strdup(&w->arena, w->st, p.stored);
    char *inside = ptq_arena_strdup(&w->arena, w->st, name);
    if (!outside || !inside)
        return PTQ_ERR_MEMORY;
    w->item[w->n_items++] = (struct item){
        .entry = {outside, w->a->type, d1 ? 2 : 1, {d0, d1}},
        .canonical = inside,
        .d0 = d0,
        .d1 = d1,
    };
    return PTQ_OK;
}

static int list_block(struct writing *w, int index)
{
    struct ptq_block b;
    int rc = ptq_model_layout(w->m, index, &w->arena, &b, w->st);
    for (int k = 0; k < b.n_linears && !rc; k++)
        rc = add_canonical(w, b.lin[k].name, b.lin[k].d_out, b.lin[k].d_in);
    for (int k = 0; k < b.n_vectors && !rc; k++)
        if (b.vec[k].name)
            rc = add_canonical(w, b.vec[k].name, b.vec[k].n, 0);
    return rc;
}

static int list_canonical(struct writing *w)
{
    const struct ptq_model_info *i = &w->m->info;
    const int64_t most = 2 + PTQ_MAX_OUTER + i->n_blocks * (PTQ_MAX_LINEARS + PTQ_MAX_VECTORS);
    if (!(w->item = ptq_arena_alloc(&w->arena, w->st, most, sizeof *w->item)))
        return PTQ_ERR_MEMORY;
    int rc = add_canonical(w, "tok_embd", i->vocab_size, i->d_embd);
    if (!rc && !i->tied_head)
        rc = add_canonical(w, "output", i->vocab_size, i->d_embd);
    for (int k = 0; k < PTQ_MAX_OUTER && !rc; k++)
        if (w->m->outer[k].name)
            rc = add_canonical(w, w->m->outer[k].name, w->m->outer[k].d0, w->m->outer[k].d1);
    for (int b = 0; b < i->n_blocks && !rc; b++)
        rc = list_block(w, b);
    return rc;
}

/* ---- which layers lie in which tensor */

static int list_layers(struct writing *w)
{
    const struct ptq_model_info *i = &w->m->info;
    w->layer = ptq_arena_alloc(&w->arena, w->st, i->n_blocks * PTQ_MAX_LINEARS, sizeof *w->layer);
    int rc = w->layer ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int b = 0; b < i->n_blocks && !rc; b++) {
        struct ptq_block block;
        rc = ptq_model_layout(w->m, b, &w->arena, &block, w->st);
        for (int k = 0; k < block.n_linears && !rc; k++) {
            struct ptq_piece p;
            ptq_weights_find(w->m, block.lin[k].name, &p);
            w->layer[w->n_layers++] =
                (struct layer){block.lin[k], p.tensor, k + 1 == block.n_linears};
        }
    }
    return rc;
}

static bool lies_in(const struct layer *l, const struct item *t)
{
    return t->stored ? l->stored == t->stored : !strcmp(l->lin.name, t->canonical);
}

/* ---- values */

/* Rows of a canonical tensor in the order of the half layout: HF turns i with i + head_dim/2, an
 * interleaved model 2i with 2i + 1, so row i of a head is its row 2i there. */
static bool is_turned(const struct ptq_model_info *i, const char *canonical)
{
    static const char *const ends[] = {".attn_q",      ".attn_k",      ".attn_q.bias",
                                       ".attn_k.bias", ".attn_q_norm", ".attn_k_norm"};
    const size_t n = strlen(canonical);
    for (size_t k = 0; k < sizeof ends / sizeof *ends && i->rope.interleaved; k++)
        if (n > strlen(ends[k]) && !strcmp(canonical + n - strlen(ends[k]), ends[k]))
            return true;
    return false;
}

static int unturn(const struct writing *w, const struct item *t, float *x)
{
    const struct ptq_piece turned = {.as = PTQ_ROPE_PAIRED};
    const int64_t width = t->d1 ? t->d1 : 1;
    if (!is_turned(&w->m->info, t->canonical))
        return PTQ_OK;
    float *from = malloc((size_t)(t->d0 * width) * sizeof *from);
    if (!from)
        return ptq_status_nomem(w->st, t->canonical, (size_t)(t->d0 * width) * sizeof *from);
    memcpy(from, x, (size_t)(t->d0 * width) * sizeof *from);
    for (int64_t r = 0; r < t->d0; r++)
        memcpy(x + r * width, from + ptq_piece_row(&w->m->info, &turned, t->d0, r) * width,
               (size_t)width * sizeof *x);
    free(from);
    return PTQ_OK;
}

static int read_part(const struct writing *w, const struct item *t, int64_t first, int64_t n,
                     float *x)
{
    if (t->stored)
        return ptq_tensors_read(w->m->files, t->stored, first, n, x, w->st);
    const int64_t width = t->d1 ? t->d1 : 1;
    const struct ptq_weight_rows r = {t->canonical, t->d0, t->d1, first / width, n / width};
    return ptq_weights_rows(w->m, &r, x, w->st);
}

/* A layer's values to where they lie in the stored tensor. */
static void put_back(const struct ptq_model *m, const struct layer *l, const float *what, float *x)
{
    const int64_t rows = l->lin.d_out, cols = l->lin.d_in;
    struct ptq_piece p;
    ptq_weights_find(m, l->lin.name, &p);
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = ptq_piece_row(&m->info, &p, rows, i);
        if (!(p.as & PTQ_TRANSPOSED))
            memcpy(x + at * cols, what + i * cols, (size_t)cols * sizeof *x);
        for (int64_t j = 0; (p.as & PTQ_TRANSPOSED) && j < cols; j++)
            x[j * p.tensor->dim[1] + at] = what[i * cols + j];
    }
}

static int replace_layer(struct writing *w, const struct item *t, const struct layer *l, float *x)
{
    const size_t bytes = (size_t)(l->lin.d_out * l->lin.d_in) * sizeof(float);
    float *what = malloc(bytes);
    if (!what)
        return ptq_status_nomem(w->st, l->lin.name, bytes);
    int rc = w->a->replace(w->a->arg, &l->lin, what, w->st);
    if (rc == PTQ_OK) {
        w->done->n_replaced++;
        if (t->stored)
            put_back(w->m, l, what, x);
        else
            memcpy(x, what, bytes);
    }
    free(what);
    if (l->last)
        ptq_progress_step(w->progress, l->lin.name);
    return rc == PTQ_SKIP ? PTQ_OK : rc;
}

static int write_whole(struct writing *w, const struct item *t, int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    if (!x)
        return ptq_status_nomem(w->st, t->entry.name, (size_t)n * sizeof *x);
    int rc = read_part(w, t, 0, n, x);
    for (int64_t i = 0; i < w->n_layers && !rc; i++)
        if (lies_in(&w->layer[i], t))
            rc = replace_layer(w, t, &w->layer[i], x);
    if (!rc && !t->stored)
        rc = unturn(w, t, x);
    if (!rc)
        rc = ptq_st_write(w->to, x, n, w->st);
    free(x);
    return rc;
}

static int write_pieces(struct writing *w, const struct item *t, int64_t n)
{
    const int64_t width = t->stored || !t->d1 ? 1 : t->d1;
    const int64_t step = width < PIECE_FLOATS ? PIECE_FLOATS / width * width : width;
    float *x = malloc((size_t)step * sizeof *x);
    int rc = x ? PTQ_OK : ptq_status_nomem(w->st, t->entry.name, (size_t)step * sizeof *x);
    for (int64_t i = 0; i < n && !rc; i += step) {
        const int64_t now = n - i < step ? n - i : step;
        if (!(rc = read_part(w, t, i, now, x)))
            rc = ptq_st_write(w->to, x, now, w->st);
    }
    free(x);
    return rc;
}

static int write_item(struct writing *w, const struct item *t)
{
    int64_t n = 1;
    bool whole = t->canonical && is_turned(&w->m->info, t->canonical);
    if (w->a->stop && w->a->stop(w->a->stop_arg))
        return ptq_status_set(w->st, PTQ_ERR_CANCELLED, "cancelled: nothing was written");
    for (int k = 0; k < t->entry.rank; k++)
        if (!ptq_size_mul(n, t->entry.dim[k], &n))
            return ptq_status_nomem(w->st, t->entry.name, SIZE_MAX);
    for (int64_t i = 0; i < w->n_layers && !whole; i++)
        whole = lies_in(&w->layer[i], t);
    return whole ? write_whole(w, t, n) : write_pieces(w, t, n);
}

static int path_of(const struct writing *w, const char *folder, const char *name,
                   char out[PATH_MAX])
{
    if (snprintf(out, PATH_MAX, "%s/%s", folder, name) >= PATH_MAX)
        return ptq_status_set(w->st, PTQ_ERR_USAGE, "%s: the path is too long", folder);
    return PTQ_OK;
}

static int write_tensors(struct writing *w)
{
    char path[PATH_MAX];
    struct ptq_st_entry *e = ptq_arena_alloc(&w->arena, w->st, w->n_items, sizeof *e);
    int rc = e ? path_of(w, w->a->folder, "model.safetensors", path) : PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < w->n_items && !rc; i++)
        e[i] = w->item[i].entry;
    if (rc || (rc = ptq_st_create(&w->to, path, e, w->n_items, w->a->metadata, w->st)))
        return rc;
    w->progress = ptq_progress_new("export", w->m->info.n_blocks, w->a->quiet);
    for (int64_t i = 0; i < w->n_items && !rc; i++)
        rc = write_item(w, &w->item[i]);
    ptq_progress_free(w->progress);
    int finished = ptq_st_finish(w->to, rc == PTQ_OK, w->st);
    w->done->n_tensors = w->n_items;
    return rc ? rc : finished;
}

/* ---- config.json and the tokenizer's files */

/* Plain numbers do not show that they were on a grid: the next sweep of the folder must be told. */
static int add_marks(const struct writing *w, json_t *config)
{
    json_t *marks = json_object();
    int rc = ptq_config_marks(&w->m->info, marks, w->st);
    if (json_object_set_new(config, PTQ_MARKS, marks) && !rc)
        rc = ptq_status_nomem(w->st, "config.json", 0);
    return rc;
}

static int make_config(const struct writing *w, json_t **config)
{
    static const char *const types[] = {"float32", "float16", "bfloat16"};
    int rc = PTQ_OK;
    *config = is_hf(w->m) ? json_deep_copy(w->m->files->meta) : json_object();
    if (*config && !is_hf(w->m))
        rc = w->m->arch->hf.to_hf(&w->m->info, *config, w->st);
    if (!rc && w->m->info.quantized_as)
        rc = add_marks(w, *config);
    if (rc)
        return rc;
    /* Newer files call it dtype. */
    const char *key = json_object_get(*config, "dtype") ? "dtype" : "torch_dtype";
    if (json_object_set_new(*config, key, json_string(types[w->a->type])))
        return ptq_status_nomem(w->st, "config.json", 0);
    return PTQ_OK;
}

static int write_config(const struct writing *w)
{
    char path[PATH_MAX];
    json_t *config = NULL;
    int rc = make_config(w, &config);
    char *text = rc ? NULL : json_dumps(config, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    json_decref(config);
    if (!rc && !text)
        rc = ptq_status_nomem(w->st, "config.json", 0);
    if (!rc && !(rc = path_of(w, w->a->folder, "config.json", path)))
        rc = ptq_write_file(path, text, strlen(text), w->st);
    free(text);
    return rc;
}

static int copy_file(const struct writing *w, const char *folder, const char *name)
{
    char from[PATH_MAX], to[PATH_MAX], *text = NULL;
    struct stat info;
    size_t bytes;
    int rc = path_of(w, folder, name, from);
    if (!rc)
        rc = path_of(w, w->a->folder, name, to);
    if (rc || stat(from, &info))
        return rc;
    if (!(rc = ptq_read_file(from, MOST_FILE_BYTES, &text, &bytes, w->st)))
        rc = ptq_write_file(to, text, bytes, w->st);
    free(text);
    return rc;
}

/* From the source's folder: of a folder itself, of a file the one it lies in. */
static int copy_tokenizer(const struct writing *w)
{
    static const char *const names[] = {"tokenizer.json",
                                        "tokenizer.model",
                                        "tokenizer_config.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "vocab.txt",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "generation_config.json",
                                        NULL};
    char folder[PATH_MAX];
    struct stat info;
    int rc = path_of(w, w->m->info.source, ".", folder);
    if (!rc && stat(w->m->info.source, &info) == 0 && !S_ISDIR(info.st_mode)) {
        folder[strlen(w->m->info.source)] = 0;
        char *slash = strrchr(folder, '/');
        snprintf(slash ? slash + 1 : folder, 2, ".");
    }
    for (int i = 0; names[i] && !rc; i++)
        rc = copy_file(w, folder, names[i]);
    w->done->tokenizer = true;
    return rc;
}

/* ---- the whole */

static int check(const struct writing *w)
{
    const struct ptq_model_info *i = &w->m->info;
    if (w->m->options.outliers)
        return ptq_status_set(w->st, PTQ_ERR_USAGE,
                              "%s: the outlier variant is made for measurements; export a sweep of "
                              "the model itself",
                              i->source);
    if (is_hf(w->m))
        return PTQ_OK;
    if (!w->m->arch->hf.to_hf)
        return ptq_status_set(w->st, PTQ_ERR_USAGE,
                              "%s: a Hugging Face folder can be made of a model of architecture %s "
                              "only when it came from one; sweep its Hugging Face checkpoint",
                              i->source, i->arch);
    if (ptq_weights_has(w->m, "rope_freqs"))
        return ptq_status_set(w->st, PTQ_ERR_USAGE,
                              "%s: holds rotary frequencies of its own (rope_freqs), which "
                              "config.json cannot say; sweep its Hugging Face checkpoint",
                              i->source);
    return PTQ_OK;
}

static int write_all(struct writing *w)
{
    int rc = check(w);
    if (!rc)
        rc = is_hf(w->m) ? list_stored(w) : list_canonical(w);
    if (!rc)
        rc = list_layers(w);
    if (!rc)
        rc = write_config(w);
    if (!rc && is_hf(w->m))
        rc = copy_tokenizer(w);
    return rc ? rc : write_tensors(w);
}

int ptq_hf_write(const struct ptq_hf_args *a, struct ptq_hf_written *done, struct ptq_status *st)
{
    struct writing w = {.a = a, .m = a->model, .as_hf = *a->model, .done = done, .st = st};
    *done = (struct ptq_hf_written){0};
    w.as_hf.dialect = &a->model->arch->hf;
    w.as_hf.prefix = w.as_hf.dialect->prefixes ? w.as_hf.dialect->prefixes[0] : "";
    ptq_arena_init(&w.arena, 0);
    int rc = write_all(&w);
    ptq_arena_clear(&w.arena);
    return rc;
}
