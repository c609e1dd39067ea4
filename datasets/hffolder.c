#include "datasets/hffolder.h"
#include "core/half.h"
#include "core/size.h"
#include "core/words.h"
#include <assert.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Caps of what a file may make us hold. The largest indexes in use name 10^5 tensors in 10 MB. */
enum {
    MAX_CONFIG_BYTES = 16 << 20,
    MAX_INDEX_BYTES = 64 << 20,
    MAX_JSON_DEPTH = 64,
    MAX_JSON_VALUES = 1 << 21,
    MAX_SHARDS = 4096,
    PIECE_BYTES = 1 << 20
};

const struct ptq_hf_type ptq_hf_types[PTQ_HF_N_NUMBERS] = {
    [PTQ_HF_F64] = {PTQ_HF_F64, 8, "F64", "torch.float64", "torch.DoubleStorage"},
    [PTQ_HF_F32] = {PTQ_HF_F32, 4, "F32", "torch.float32", "torch.FloatStorage"},
    [PTQ_HF_F16] = {PTQ_HF_F16, 2, "F16", "torch.float16", "torch.HalfStorage"},
    [PTQ_HF_BF16] = {PTQ_HF_BF16, 2, "BF16", "torch.bfloat16", "torch.BFloat16Storage"},
    [PTQ_HF_I64] = {PTQ_HF_I64, 8, "I64", "torch.int64", "torch.LongStorage"},
    [PTQ_HF_I32] = {PTQ_HF_I32, 4, "I32", "torch.int32", "torch.IntStorage"},
    [PTQ_HF_I16] = {PTQ_HF_I16, 2, "I16", "torch.int16", "torch.ShortStorage"},
    [PTQ_HF_I8] = {PTQ_HF_I8, 1, "I8", "torch.int8", "torch.CharStorage"},
    /* torch has no storage class of the wide unsigned types */
    [PTQ_HF_U64] = {PTQ_HF_U64, 8, "U64", "torch.uint64", NULL},
    [PTQ_HF_U32] = {PTQ_HF_U32, 4, "U32", "torch.uint32", NULL},
    [PTQ_HF_U16] = {PTQ_HF_U16, 2, "U16", "torch.uint16", NULL},
    [PTQ_HF_U8] = {PTQ_HF_U8, 1, "U8", "torch.uint8", "torch.ByteStorage"},
    [PTQ_HF_BOOL] = {PTQ_HF_BOOL, 1, "BOOL", "torch.bool", "torch.BoolStorage"},
};

/* ---- numbers */

#define CONVERT(T, VALUE)                                                                          \
    for (int64_t i = 0; i < n; i++) {                                                              \
        T v;                                                                                       \
        memcpy(&v, raw + i * (int64_t)sizeof v, sizeof v);                                         \
        out[i] = (VALUE);                                                                          \
    }                                                                                              \
    break

static void convert(enum ptq_hf_number number, const char *raw, int64_t n, float *out)
{
    switch (number) {
    case PTQ_HF_F64: CONVERT(double, (float)v);
    case PTQ_HF_F32: CONVERT(float, v);
    case PTQ_HF_F16: CONVERT(uint16_t, ptq_f32_from_f16(v));
    case PTQ_HF_BF16: CONVERT(uint16_t, ptq_f32_from_bf16(v));
    case PTQ_HF_I64: CONVERT(int64_t, (float)v);
    case PTQ_HF_I32: CONVERT(int32_t, (float)v);
    case PTQ_HF_I16: CONVERT(int16_t, (float)v);
    case PTQ_HF_I8: CONVERT(int8_t, (float)v);
    case PTQ_HF_U64: CONVERT(uint64_t, (float)v);
    case PTQ_HF_U32: CONVERT(uint32_t, (float)v);
    case PTQ_HF_U16: CONVERT(uint16_t, (float)v);
    case PTQ_HF_U8: CONVERT(uint8_t, (float)v);
    case PTQ_HF_BOOL: CONVERT(uint8_t, v ? 1.0f : 0.0f);
    case PTQ_HF_N_NUMBERS: break;
    }
}

/* ---- tensors */

bool ptq_hf_extent(const int64_t *dim, int rank, int width, int64_t *n, int64_t *bytes)
{
    *n = 1;
    for (int i = 0; i < rank; i++)
        if (!ptq_size_mul(*n, dim[i], n))
            return false;
    return ptq_size_mul(*n, width, bytes);
}

/* Twice the room. The old arrays stay in the arena: together less than the new ones. */
static int grow(struct ptq_tensors *t, struct ptq_status *st)
{
    struct ptq_hf *hf = t->own;
    int64_t room = hf->capacity ? 2 * hf->capacity : 64;
    struct ptq_tensor *tensor = ptq_arena_alloc(&t->arena, st, room, sizeof *tensor);
    struct ptq_hf_view *view = ptq_arena_alloc(&t->arena, st, room, sizeof *view);
    if (!tensor || !view)
        return PTQ_ERR_MEMORY;
    if (t->n) {
        memcpy(tensor, t->tensor, (size_t)t->n * sizeof *tensor);
        memcpy(view, hf->view, (size_t)t->n * sizeof *view);
    }
    t->tensor = tensor;
    hf->view = view;
    hf->capacity = room;
    return PTQ_OK;
}

int ptq_hf_add(struct ptq_tensors *t, const struct ptq_tensor *tensor,
               const struct ptq_hf_view *view, struct ptq_status *st)
{
    struct ptq_hf *hf = t->own;
    int64_t bytes;
    if (t->n == hf->capacity && grow(t, st))
        return PTQ_ERR_MEMORY;
    struct ptq_tensor *x = &t->tensor[t->n];
    *x = *tensor;
    x->name = ptq_arena_strdup(&t->arena, st, tensor->name);
    if (!x->name)
        return PTQ_ERR_MEMORY;
    bool fits = ptq_hf_extent(x->dim, x->rank, view->type->bytes, &x->n, &bytes);
    assert(fits);
    (void)fits;
    x->stored_bits = 8 * view->type->bytes;
    x->at[0] = (uint64_t)t->n;
    hf->view[t->n++] = *view;
    return PTQ_OK;
}

/* A range of a tensor, as raw elements in row-major order. */
struct range {
    const struct ptq_bytes *file;
    const struct ptq_hf_view *view;
    const struct ptq_tensor *x;
    int64_t first, n;
    char *out;
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int fetch_rows(struct range r, struct ptq_status *st)
{
    const int64_t w = r.view->type->bytes, cols = r.x->dim[r.x->rank - 1];
    while (r.n) {
        int64_t row = r.first / cols, col = r.first % cols, n = least(r.n, cols - col), at = col;
        for (int i = r.x->rank - 2; i >= 0; row /= r.x->dim[i], i--)
            at += row % r.x->dim[i] * r.view->stride[i];
        int rc = ptq_bytes_read(r.file, r.view->at + at * w, n * w, r.out, st);
        if (rc)
            return rc;
        r.first += n, r.n -= n, r.out += n * w;
    }
    return PTQ_OK;
}

/* A transposed matrix: its columns lie together, so a block of whole rows is read column by column
 * (one call reads as many elements as the block has rows). */
static int fetch_block(const struct range *r, int64_t rows, int64_t cols, struct ptq_status *st)
{
    char run[4096];
    const int64_t w = r->view->type->bytes, all = r->x->dim[1], row = r->first / all,
                  col = r->first % all;
    for (int64_t k = 0; k < cols; k++) {
        int64_t at = row + (col + k) * r->view->stride[1];
        int rc = ptq_bytes_read(r->file, r->view->at + at * w, rows * w, run, st);
        if (rc)
            return rc;
        for (int64_t i = 0; i < rows; i++)
            memcpy(r->out + (i * cols + k) * w, run + i * w, (size_t)w);
    }
    return PTQ_OK;
}

static int fetch_columns(struct range r, struct ptq_status *st)
{
    const int64_t w = r.view->type->bytes, all = r.x->dim[1];
    while (r.n) {
        int64_t cols = least(r.n, all - r.first % all);
        int64_t rows = cols == all ? least(r.n / all, 4096 / w) : 1, n = rows * cols;
        int rc = fetch_block(&r, rows, cols, st);
        if (rc)
            return rc;
        r.first += n, r.n -= n, r.out += n * w;
    }
    return PTQ_OK;
}

static int fetch(const struct ptq_tensors *t, const struct ptq_tensor *x, int64_t first, int64_t n,
                 void *out, struct ptq_status *st)
{
    const struct ptq_hf *hf = t->own;
    const struct ptq_hf_view *v = &hf->view[x->at[0]];
    const struct range r = {&hf->file[v->file], v, x, first, n, out};
    switch (v->layout) {
    case PTQ_HF_ROWS: return fetch_rows(r, st);
    case PTQ_HF_COLUMNS: return fetch_columns(r, st);
    default:
        return ptq_bytes_read(r.file, v->at + first * v->type->bytes, n * v->type->bytes, out, st);
    }
}

int ptq_hf_read(const struct ptq_tensors *t, const struct ptq_tensor *x, int64_t first, int64_t n,
                float *out, struct ptq_status *st)
{
    const struct ptq_hf *hf = t->own;
    const struct ptq_hf_type *type = hf->view[x->at[0]].type;
    if (type->number == PTQ_HF_F32)
        return fetch(t, x, first, n, out, st);
    const int64_t piece = least(n, PIECE_BYTES / type->bytes);
    char *raw = malloc((size_t)(piece * type->bytes));
    int rc = raw ? PTQ_OK : ptq_status_nomem(st, t->path, (size_t)(piece * type->bytes));
    for (int64_t done = 0, now; done < n && !rc; done += now) {
        now = least(n - done, piece);
        if (!(rc = fetch(t, x, first + done, now, raw, st)))
            convert(type->number, raw, now, out + done);
    }
    free(raw);
    return rc;
}

int64_t ptq_hf_n_bytes(const struct ptq_tensor *x)
{
    return x->n * (int64_t)(x->stored_bits / 8);
}

int ptq_hf_bytes(const struct ptq_tensors *t, const struct ptq_tensor *x, int64_t from,
                 int64_t bytes, void *out, struct ptq_status *st)
{
    const int64_t w = (int64_t)(x->stored_bits / 8), first = from / w, skip = from % w;
    if (skip == 0 && bytes % w == 0)
        return fetch(t, x, first, bytes / w, out, st);
    /* Torn elements at the ends: whole ones are fetched and cut. */
    const int64_t n = (skip + bytes + w - 1) / w;
    char *whole = malloc((size_t)(n * w));
    int rc = whole ? fetch(t, x, first, n, whole, st) : ptq_status_nomem(st, t->path, (size_t)n);
    if (!rc)
        memcpy(out, whole + skip, (size_t)bytes);
    free(whole);
    return rc;
}

/* ---- JSON */

int ptq_hf_json(const char *path, const char *text, size_t bytes, json_t **out,
                struct ptq_status *st)
{
    json_error_t error;
    char near[PTQ_PRINTABLE];
    const char *much = ptq_json_too_much(text, bytes, MAX_JSON_DEPTH, MAX_JSON_VALUES);
    *out = NULL;
    if (much)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: refused: its JSON is %s; is it the right file?", path, much);
    json_t *v = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!v) {
        ptq_printable(error.text, near);
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: not valid JSON: line %d: %s; get it again",
                              path, error.line, near);
    }
    if (!json_is_object(v)) {
        json_decref(v);
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: a JSON object {...} is expected", path);
    }
    *out = v;
    return PTQ_OK;
}

static int read_json(const char *path, size_t cap, json_t **out, struct ptq_status *st)
{
    char *text;
    size_t bytes;
    *out = NULL;
    int rc = ptq_read_file(path, cap, &text, &bytes, st);
    if (rc)
        return rc;
    rc = ptq_hf_json(path, text, bytes, out, st);
    free(text);
    return rc;
}

/* ---- the folder */

static char *in_folder(struct ptq_arena *a, struct ptq_status *st, const char *folder,
                       const char *name)
{
    return ptq_arena_printf(a, st, "%s/%s", folder, name);
}

static bool has(const char *folder, const char *name)
{
    char path[4096];
    return snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path &&
           access(path, F_OK) == 0;
}

/* Files with the suffix in the folder: their number; the first two by name. */
static int with_suffix(const char *folder, const char *suffix, char first[2][256])
{
    int n = 0;
    DIR *d = suffix ? opendir(folder) : NULL;
    first[0][0] = first[1][0] = 0;
    for (const struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.' || !ptq_ends_with(e->d_name, suffix))
            continue;
        bool leads = !n || strcmp(e->d_name, first[0]) < 0;
        if (leads && n)
            memcpy(first[1], first[0], 256);
        if (leads || n == 1 || strcmp(e->d_name, first[1]) < 0)
            snprintf(first[!leads], 256, "%s", e->d_name);
        n++;
    }
    if (d)
        closedir(d);
    return n;
}

bool ptq_hf_folder_has(const char *folder, const struct ptq_hf_weights *w)
{
    char first[2][256];
    return has(folder, w->single) || has(folder, w->index) ||
           with_suffix(folder, w->suffix, first) > 0;
}

static int read_config(struct ptq_tensors *t, const char *folder, bool required,
                       struct ptq_status *st)
{
    if (!has(folder, "config.json"))
        return required ? ptq_status_set(st, PTQ_ERR_USAGE,
                                         "%s: no config.json beside the weights; get it from where "
                                         "they came from",
                                         folder)
                        : PTQ_OK;
    const char *path = in_folder(&t->arena, st, folder, "config.json");
    return path ? read_json(path, MAX_CONFIG_BYTES, &t->meta, st) : PTQ_ERR_MEMORY;
}

static int make_files(struct ptq_tensors *t, int64_t n, struct ptq_status *st)
{
    struct ptq_hf *hf = t->own;
    hf->file = ptq_arena_alloc(&t->arena, st, n, sizeof *hf->file);
    return hf->file ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int open_file(struct ptq_tensors *t, const char *path, const struct ptq_hf_weights *w,
                     struct ptq_status *st)
{
    struct ptq_hf *hf = t->own;
    int rc = path ? ptq_bytes_open(&hf->file[hf->n_files], path, &t->arena, st) : PTQ_ERR_MEMORY;
    if (rc)
        return rc;
    hf->n_files++; /* from here on close closes it */
    return w->list(t, hf->n_files - 1, st);
}

static int open_one(struct ptq_tensors *t, const char *path, const struct ptq_hf_weights *w,
                    struct ptq_status *st)
{
    int rc = make_files(t, 1, st);
    return rc ? rc : open_file(t, path, w, st);
}

/* ---- shards */

struct index {
    const char *folder, *path;
    json_t *map;  /* tensor -> shard */
    json_t *left; /* the tensors that no shard has shown yet */
    const char **shard;
    int64_t n_shards;
};

static bool plain_name(const char *s)
{
    return *s && *s != '.' && !strchr(s, '/');
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The shards in the order of their names, each once. */
static int list_shards(struct index *x, struct ptq_arena *a, struct ptq_status *st)
{
    const char *name;
    json_t *v;
    int64_t n = 0, kept = 0;
    x->shard = ptq_arena_alloc(a, st, (int64_t)json_object_size(x->map), sizeof *x->shard);
    if (!x->shard)
        return PTQ_ERR_MEMORY;
    json_object_foreach(x->map, name, v)
    {
        char shown[PTQ_PRINTABLE];
        ptq_printable(name, shown);
        if (!json_is_string(v) || !plain_name(json_string_value(v)))
            return ptq_status_set(
                st, PTQ_ERR_USAGE,
                "%s: tensor %s: its shard is not a file name; get the index again", x->path, shown);
        x->shard[n++] = json_string_value(v);
    }
    qsort(x->shard, (size_t)n, sizeof *x->shard, by_text);
    for (int64_t i = 0; i < n; i++)
        if (!i || strcmp(x->shard[i], x->shard[i - 1]))
            x->shard[kept++] = x->shard[i];
    x->n_shards = kept;
    if (!n || kept > MAX_SHARDS)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: names %lld shards (1 to %d are allowed)",
                              x->path, (long long)kept, MAX_SHARDS);
    return PTQ_OK;
}

/* A tensor that a shard shows must be one that the index places there. */
static int check_off(struct index *x, const char *name, const char *shard, struct ptq_status *st)
{
    char shown[PTQ_PRINTABLE];
    ptq_printable(name, shown);
    const char *place = json_string_value(json_object_get(x->map, name));
    if (!place)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: does not name tensor %s, which %s holds: index and shards are of "
            "different checkpoints; get the folder again",
            x->path, shown, shard);
    if (strcmp(place, shard))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: places tensor %s in %s, but %s holds one too; get the folder "
                              "again",
                              x->path, shown, place, shard);
    json_object_del(x->left, name); /* a second one in the same shard is found by the sort */
    return PTQ_OK;
}

static int open_shard(struct ptq_tensors *t, struct index *x, const char *shard,
                      const struct ptq_hf_weights *w, struct ptq_status *st)
{
    char shown[PTQ_PRINTABLE];
    ptq_printable(shard, shown);
    if (!has(x->folder, shard))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: names the shard %s, which is missing; get it again", x->path,
                              shown);
    const int64_t before = t->n;
    int rc = open_file(t, in_folder(&t->arena, st, x->folder, shard), w, st);
    for (int64_t i = before; i < t->n && !rc; i++)
        rc = check_off(x, t->tensor[i].name, shard, st);
    return rc;
}

static int nothing_left(const struct index *x, struct ptq_status *st)
{
    char shown[PTQ_PRINTABLE];
    const char *name;
    json_t *shard;
    json_object_foreach(x->left, name, shard)
    {
        ptq_printable(name, shown);
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: places tensor %s in %s, which lacks it; get the folder again",
                              x->path, shown, json_string_value(shard));
    }
    return PTQ_OK;
}

static int read_shards(struct ptq_tensors *t, struct index *x, const struct ptq_hf_weights *w,
                       struct ptq_status *st)
{
    int rc = list_shards(x, &t->arena, st);
    if (!rc && !(x->left = json_copy(x->map)))
        rc = ptq_status_nomem(st, x->path, json_object_size(x->map));
    if (!rc)
        rc = make_files(t, x->n_shards, st);
    for (int64_t i = 0; i < x->n_shards && !rc; i++)
        rc = open_shard(t, x, x->shard[i], w, st);
    if (!rc)
        rc = nothing_left(x, st);
    json_decref(x->left);
    return rc;
}

static int open_index(struct ptq_tensors *t, const char *folder, const struct ptq_hf_weights *w,
                      struct ptq_status *st)
{
    json_t *root;
    struct index x = {.folder = folder, .path = in_folder(&t->arena, st, folder, w->index)};
    int rc = x.path ? read_json(x.path, MAX_INDEX_BYTES, &root, st) : PTQ_ERR_MEMORY;
    if (rc)
        return rc;
    x.map = json_object_get(root, "weight_map");
    rc = json_is_object(x.map)
             ? read_shards(t, &x, w, st)
             : ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: has no \"weight_map\": {tensor: shard}; get it again", x.path);
    json_decref(root);
    return rc;
}

/* ---- opening */

static int open_weights(struct ptq_tensors *t, const char *folder, const struct ptq_hf_weights *w,
                        struct ptq_status *st)
{
    char first[2][256];
    if (has(folder, w->single))
        return open_one(t, in_folder(&t->arena, st, folder, w->single), w, st);
    if (has(folder, w->index))
        return open_index(t, folder, w, st);
    int n = with_suffix(folder, w->suffix, first);
    if (n > 1)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: holds %d weight files (%s, %s%s) and neither %s nor %s; get the "
                              "index, or name one file",
                              folder, n, first[0], first[1], n > 2 ? ", ..." : "", w->single,
                              w->index);
    return open_one(t, in_folder(&t->arena, st, folder, first[0]), w, st);
}

static int open_alone(struct ptq_tensors *t, const char *path, const struct ptq_hf_weights *w,
                      struct ptq_status *st)
{
    const char *slash = strrchr(path, '/');
    const char *folder =
        slash ? ptq_arena_printf(&t->arena, st, "%.*s", (int)(slash - path), path) : ".";
    int rc = folder ? read_config(t, folder, false, st) : PTQ_ERR_MEMORY;
    return rc ? rc : open_one(t, path, w, st);
}

int ptq_hf_open(struct ptq_tensors *t, const struct ptq_probe *p, const struct ptq_hf_weights *w,
                struct ptq_status *st)
{
    t->dialect = PTQ_HUGGINGFACE;
    t->own = ptq_arena_alloc(&t->arena, st, 1, sizeof(struct ptq_hf));
    if (!t->own)
        return PTQ_ERR_MEMORY;
    int rc = PTQ_OK;
    if (p->is_folder && !(rc = read_config(t, p->path, true, st)))
        rc = open_weights(t, p->path, w, st);
    else if (!p->is_folder)
        rc = open_alone(t, p->path, w, st);
    if (!rc && !t->meta && !(t->meta = json_object()))
        rc = ptq_status_nomem(st, p->path, 64);
    return rc;
}

void ptq_hf_close(struct ptq_tensors *t)
{
    struct ptq_hf *hf = t->own;
    for (int64_t i = 0; hf && i < hf->n_files; i++)
        ptq_bytes_close(&hf->file[i]);
}
