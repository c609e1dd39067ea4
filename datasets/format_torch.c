/* format_torch.c: checkpoints of torch.save since 1.6: a zip of one pickle (ARCHIVE/data.pkl: the
 * names, shapes and strides) and one entry of plain numbers a storage (ARCHIVE/data/KEY). Storages
 * may be shared (tied weights).
 *
 * Which dict is the checkpoint: the one whose values are tensors, at the top or down to three dicts
 * deep; among several, the one behind state_dict, model_state_dict, model or module, in this order.
 * Its names are the tensors' names, those of the dicts around it are not joined. Without a
 * config.json the plain values around the tensors are the metadata ({"config": {...}, "step": 1}).
 */
#include "datasets/hffolder.h"
#include "core/size.h"
#include "core/words.h"
#include "datasets/pickle.h"
#include "datasets/zip.h"
#include <stdlib.h>
#include <string.h>

enum {
    MAX_PICKLE_BYTES = 32 << 20, /* 150 bytes a tensor */
    MAX_TREE_BYTES = 512 << 20,
    MAX_DEPTH = 3,
    MAX_META_DEPTH = 8,
    MAX_SHARING = 16,   /* all tensors together, in sizes of the file: tied weights need 2 */
    MAX_STEPS = 1 << 20 /* of a walk: shared values make a small pickle a large tree */
};

/* How torch files before 1.6 begin: protocol 2 and a magic number of ten bytes. */
static const unsigned char legacy_head[14] = {0x80, 2,    0x8a, 0x0a, 0x6c, 0xfc, 0x9c,
                                              0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
static const char zip_head[4] = {'P', 'K', 3, 4};

struct archive {
    const struct ptq_bytes *file;
    int64_t number; /* of the file */
    struct ptq_zip zip;
    const char *prefix;     /* "ARCHIVE/" */
    int64_t bytes;          /* of all tensors so far */
    struct ptq_arena arena; /* of the directory and the pickle; gone after opening */
};

static int bad(const struct archive *a, const char *why, struct ptq_status *st)
{
    return ptq_status_set(st, PTQ_ERR_USAGE, "%s: %s", a->file->path, why);
}

static int bad_tensor(const struct archive *a, const char *name, const char *why,
                      struct ptq_status *st)
{
    char shown[PTQ_PRINTABLE];
    ptq_printable(name, shown);
    return ptq_status_set(st, PTQ_ERR_USAGE, "%s: tensor %s: %s", a->file->path, shown, why);
}

/* ---- the pickle's tree */

static bool is_text(const struct ptq_pickle *v)
{
    return v && v->kind == PTQ_PICKLE_TEXT;
}

static bool holds_tensor(const struct ptq_pickle *dict, int64_t *steps)
{
    for (const struct ptq_pickle_item *i = dict->first; i && (*steps)-- > 0; i = i->next)
        if (i->value->kind == PTQ_PICKLE_TENSOR)
            return true;
    return false;
}

struct search {
    int64_t steps;
    const struct ptq_pickle *found;
    int rank; /* of the key that led there: the lower the better */
    int n;    /* found at that rank */
};

static int rank_of(const char *key)
{
    static const char *const known[] = {"state_dict", "model_state_dict", "model", "module", NULL};
    int i = 0;
    while (known[i] && strcmp(known[i], key))
        i++;
    return i;
}

/* Every dict of tensors below v, down to a depth; rank is the best of the keys on the way. */
static void find_dict(struct search *s, const struct ptq_pickle *v, int depth, int rank)
{
    if (holds_tensor(v, &s->steps)) {
        s->n = rank < s->rank ? 1 : s->n + (rank == s->rank && v != s->found);
        if (rank <= s->rank && s->n == 1)
            s->found = v, s->rank = rank;
        return;
    }
    for (const struct ptq_pickle_item *i = v->first; i && depth && s->steps-- > 0; i = i->next)
        if (i->value->kind == PTQ_PICKLE_DICT) {
            int own = is_text(i->key) ? rank_of(i->key->text) : rank;
            find_dict(s, i->value, depth - 1, own < rank ? own : rank);
        }
}

static int tensors_of(const struct archive *a, const struct ptq_pickle *root,
                      const struct ptq_pickle **out, struct ptq_status *st)
{
    struct search s = {.steps = MAX_STEPS, .rank = 1000};
    if (root->kind == PTQ_PICKLE_DICT)
        find_dict(&s, root, MAX_DEPTH, rank_of(""));
    *out = s.found;
    if (s.steps <= 0)
        return bad(a, "refused: its dicts are too many; save model.state_dict() alone", st);
    if (!s.found)
        return bad(a, "holds no dict of tensors; save model.state_dict() with torch.save", st);
    if (s.n > 1)
        return bad(a,
                   "holds several dicts of tensors and none is called state_dict or model; save "
                   "model.state_dict() alone",
                   st);
    return PTQ_OK;
}

/* ---- metadata: what is plain in the tree */

/* NULL: not plain (a dict: nothing in it is), or out of memory: left out, since the tensors do not
 * depend on it. */
static json_t *plain(const struct ptq_pickle *v, int depth, int64_t *steps);

static json_t *plain_list(const struct ptq_pickle *v, int depth, int64_t *steps)
{
    json_t *out = json_array();
    for (const struct ptq_pickle_item *i = v->first; i && *steps > 0; i = i->next) {
        json_t *item = plain(i->value, depth - 1, steps);
        json_array_append_new(out, item ? item : json_null());
    }
    return out;
}

static json_t *plain_dict(const struct ptq_pickle *v, int depth, int64_t *steps)
{
    json_t *out = json_object();
    for (const struct ptq_pickle_item *i = v->first; i && *steps > 0; i = i->next) {
        json_t *item = is_text(i->key) ? plain(i->value, depth - 1, steps) : NULL;
        if (item)
            json_object_set_new(out, i->key->text, item);
    }
    if (v->first && !json_object_size(out)) {
        json_decref(out);
        return NULL;
    }
    return out;
}

static json_t *plain(const struct ptq_pickle *v, int depth, int64_t *steps)
{
    if (depth < 0 || (*steps)-- <= 0)
        return NULL;
    switch (v->kind) {
    case PTQ_PICKLE_NONE: return json_null();
    case PTQ_PICKLE_BOOL: return json_boolean(v->i);
    case PTQ_PICKLE_INT: return json_integer(v->i);
    case PTQ_PICKLE_FLOAT: return ptq_json_num(v->f);
    case PTQ_PICKLE_TEXT: return json_string(v->text);
    case PTQ_PICKLE_TUPLE:
    case PTQ_PICKLE_LIST: return plain_list(v, depth, steps);
    case PTQ_PICKLE_DICT: return plain_dict(v, depth, steps);
    default: return NULL;
    }
}

static int take_meta(struct ptq_tensors *t, const struct ptq_pickle *root,
                     const struct ptq_pickle *tensors, struct ptq_status *st)
{
    int64_t steps = MAX_STEPS;
    t->meta = json_object();
    if (!t->meta)
        return ptq_status_nomem(st, t->path, 64);
    for (const struct ptq_pickle_item *i = root->first; i; i = i->next) {
        bool wanted = is_text(i->key) && i->value != tensors;
        json_t *v = wanted ? plain(i->value, MAX_META_DEPTH, &steps) : NULL;
        if (v)
            json_object_set_new(t->meta, i->key->text, v);
    }
    return PTQ_OK;
}

/* ---- one tensor */

/* The elements of the storage, when its entry has the bytes they need. */
static int find_storage(struct archive *a, const char *name, const struct ptq_pickle *storage,
                        struct ptq_hf_view *view, int64_t *n, struct ptq_status *st)
{
    const char *class = ptq_pickle_item(storage, 1)->text, *key = ptq_pickle_item(storage, 2)->text;
    char path[1024], shown[PTQ_PRINTABLE], why[256];
    int64_t bytes;
    for (int i = 0; i < PTQ_HF_N_NUMBERS; i++)
        if (ptq_hf_types[i].storage && !strcmp(ptq_hf_types[i].storage, class))
            view->type = &ptq_hf_types[i];
    if (!view->type)
        return bad_tensor(a, name, "its storage is of no known class; save it as float16", st);
    ptq_printable(key, shown);
    const struct ptq_zip_entry *e = NULL;
    if (snprintf(path, sizeof path, "%sdata/%s", a->prefix, key) < (int)sizeof path)
        e = ptq_zip_find(&a->zip, path);
    if (!e) {
        snprintf(why, sizeof why, "its values, zip entry data/%s, are missing; get the file again",
                 shown);
        return bad_tensor(a, name, why, st);
    }
    *n = ptq_pickle_item(storage, 4)->i;
    if (!ptq_size_mul(*n, view->type->bytes, &bytes) || bytes != e->bytes) {
        snprintf(why, sizeof why,
                 "%lld values of %s are announced, zip entry data/%s has %lld bytes; get the file "
                 "again",
                 (long long)*n, view->type->torch, shown, (long long)e->bytes);
        return bad_tensor(a, name, why, st);
    }
    view->at = e->at;
    return PTQ_OK;
}

/* The numbers of a size or stride; false: not 0 .. 4 non-negative ones. */
static bool take_numbers(const struct ptq_pickle *tuple, int64_t *out)
{
    const struct ptq_pickle_item *item = tuple->first;
    if (tuple->i > PTQ_TENSOR_MAX_RANK)
        return false;
    for (int64_t i = 0; item; item = item->next, i++) {
        if (item->value->kind != PTQ_PICKLE_INT || item->value->i < 0)
            return false;
        out[i] = item->value->i;
    }
    return true;
}

/* Strides that are not the plain ones: see enum ptq_hf_layout. An axis of one element has any
 * stride. False: another order. */
static bool set_layout(const struct ptq_tensor *x, struct ptq_hf_view *v)
{
    const int last = x->rank - 1;
    bool flat = true;
    int64_t plain_stride = 1;
    for (int i = last; i >= 0; plain_stride *= x->dim[i--])
        flat = flat && (x->dim[i] == 1 || v->stride[i] == plain_stride);
    if (flat)
        v->layout = PTQ_HF_FLAT;
    else if (x->dim[last] == 1 || v->stride[last] == 1)
        v->layout = PTQ_HF_ROWS;
    else if (x->rank == 2 && (x->dim[0] == 1 || v->stride[0] == 1))
        v->layout = PTQ_HF_COLUMNS;
    else
        return false;
    return true;
}

/* The last element's place in the storage; false: beyond it. */
static bool inside(const struct ptq_tensor *x, const struct ptq_hf_view *v, int64_t offset,
                   int64_t n)
{
    int64_t last = offset, step;
    for (int i = 0; i < x->rank; i++)
        if (!ptq_size_mul(x->dim[i] - 1, v->stride[i], &step) || !ptq_size_add(last, step, &last))
            return false;
    return last < n;
}

static int add_tensor(struct ptq_tensors *t, struct archive *a, const char *name,
                      const struct ptq_pickle *v, struct ptq_status *st)
{
    struct ptq_tensor x = {.name = name};
    struct ptq_hf_view view = {.file = a->number};
    const struct ptq_pickle *size = ptq_pickle_item(v, 2), *stride = ptq_pickle_item(v, 3);
    const int64_t offset = ptq_pickle_item(v, 1)->i;
    int64_t in_storage = 0, n, bytes;
    int rc = find_storage(a, name, ptq_pickle_item(v, 0), &view, &in_storage, st);
    if (rc)
        return rc;
    if (!take_numbers(size, x.dim) || !take_numbers(stride, view.stride) || size->i != stride->i)
        return bad_tensor(a, name, "its size and stride are not of 0 to 4 axes", st);
    x.rank = (int)size->i;
    x.type = view.type->torch;
    if (offset < 0 || offset > in_storage ||
        !ptq_hf_extent(x.dim, x.rank, view.type->bytes, &n, &bytes) ||
        (n && !inside(&x, &view, offset, in_storage)))
        return bad_tensor(a, name, "it reaches beyond its storage; get the file again", st);
    if (n && !set_layout(&x, &view))
        return bad_tensor(a, name,
                          "its axes are stored in an order that is not read; save it after "
                          ".contiguous()",
                          st);
    if (n > in_storage || (a->bytes += bytes) / MAX_SHARING > a->file->size)
        return bad_tensor(a, name,
                          "refused: it repeats what its storage holds; save it after .clone()", st);
    view.at += offset * view.type->bytes;
    return ptq_hf_add(t, &x, &view, st);
}

static int add_tensors(struct ptq_tensors *t, struct archive *a, const struct ptq_pickle *dict,
                       struct ptq_status *st)
{
    for (const struct ptq_pickle_item *i = dict->first; i; i = i->next) {
        if (i->value->kind != PTQ_PICKLE_TENSOR)
            continue;
        if (!is_text(i->key))
            return bad(a, "a tensor's name is no text; save model.state_dict() with torch.save",
                       st);
        int rc = add_tensor(t, a, i->key->text, i->value, st);
        if (rc)
            return rc;
    }
    return PTQ_OK;
}

/* ---- one file */

/* ARCHIVE/data.pkl, whatever the archive is called; data/data.pkl can be no other's storage. */
static const struct ptq_zip_entry *find_pickle(struct archive *a, struct ptq_status *st)
{
    const char *const end = "data.pkl";
    for (int64_t i = 0; i < a->zip.n; i++) {
        const char *name = a->zip.entry[i].name, *slash = strchr(name, '/');
        const char *base = slash ? slash + 1 : name;
        if (strcmp(base, end))
            continue;
        a->prefix = ptq_arena_printf(&a->arena, st, "%.*s", (int)(base - name), name);
        return a->prefix ? &a->zip.entry[i] : NULL;
    }
    bad(a, "a zip, but no checkpoint of torch.save: it has no data.pkl", st);
    return NULL;
}

static int check_order(const struct archive *a, struct ptq_status *st)
{
    char path[1024], word[6] = "";
    if (snprintf(path, sizeof path, "%sbyteorder", a->prefix) >= (int)sizeof path)
        return PTQ_OK;
    const struct ptq_zip_entry *e = ptq_zip_find(&a->zip, path);
    if (!e) /* torch before 2.1 writes none and knew little-endian machines only */
        return PTQ_OK;
    int rc = ptq_bytes_read(a->file, e->at, e->bytes < 6 ? e->bytes : 6, word, st);
    if (!rc && memcmp(word, "little", 6))
        rc = bad(a, "its values are not little-endian; save it on another machine", st);
    return rc;
}

static int read_pickle(struct archive *a, const struct ptq_pickle **root, struct ptq_status *st)
{
    const struct ptq_zip_entry *e = find_pickle(a, st);
    if (!e)
        return PTQ_ERR_USAGE;
    if (e->bytes > MAX_PICKLE_BYTES)
        return bad(a, "refused: its data.pkl has more than 32 MiB; save model.state_dict() alone",
                   st);
    unsigned char *raw = malloc((size_t)e->bytes + 1);
    int rc = raw ? ptq_bytes_read(a->file, e->at, e->bytes, raw, st)
                 : ptq_status_nomem(st, a->file->path, (size_t)e->bytes);
    if (!rc)
        rc = ptq_pickle_parse(a->file->path, raw, e->bytes, &a->arena, root, st);
    free(raw);
    return rc;
}

static int read_archive(struct ptq_tensors *t, struct archive *a, struct ptq_status *st)
{
    const struct ptq_pickle *root, *dict;
    int rc = ptq_zip_open(&a->zip, a->file, &a->arena, st);
    if (!rc)
        rc = read_pickle(a, &root, st);
    if (!rc)
        rc = check_order(a, st);
    if (!rc)
        rc = tensors_of(a, root, &dict, st);
    if (!rc)
        rc = add_tensors(t, a, dict, st);
    if (!rc && !t->meta)
        rc = take_meta(t, root, dict, st);
    return rc;
}

static int list(struct ptq_tensors *t, int64_t number, struct ptq_status *st)
{
    struct archive a = {.file = &((struct ptq_hf *)t->own)->file[number], .number = number};
    unsigned char head[sizeof legacy_head] = {0};
    int64_t n = a.file->size < (int64_t)sizeof head ? a.file->size : (int64_t)sizeof head;
    int rc = ptq_bytes_read(a.file, 0, n, head, st);
    if (rc)
        return rc;
    if (!memcmp(head, legacy_head, sizeof head))
        return bad(&a,
                   "an old torch file (before 1.6), which is one long pickle; convert it: "
                   "torch.save(torch.load(OLD, weights_only=True), NEW)",
                   st);
    if (memcmp(head, zip_head, sizeof zip_head))
        return bad(&a, "no checkpoint of torch.save: it is not a zip; get it again", st);
    ptq_arena_init(&a.arena, MAX_TREE_BYTES);
    rc = read_archive(t, &a, st);
    ptq_arena_clear(&a.arena);
    return rc;
}

/* ---- the format */

static const struct ptq_hf_weights weights = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                              NULL, list};

/* A .bin may be anything, so a file is known by its first bytes too. */
static bool probe(const struct ptq_probe *p)
{
    if (p->is_folder)
        return ptq_hf_folder_has(p->path, &weights);
    const char *dot = strrchr(p->path, '.');
    return dot && (!strcmp(dot, ".bin") || !strcmp(dot, ".pt") || !strcmp(dot, ".pth")) &&
           (!memcmp(p->head, zip_head, sizeof zip_head) ||
            !memcmp(p->head, legacy_head, sizeof legacy_head));
}

static int open_source(struct ptq_tensors *t, const struct ptq_probe *p, struct ptq_status *st)
{
    return ptq_hf_open(t, p, &weights, st);
}

const struct ptq_file_format ptq_format_torch = {
    .name = "torch",
    .title = "Hugging Face folder (config.json, pytorch_model*.bin) or torch .bin, .pt, .pth file",
    .probe = probe,
    .open = open_source,
    .close = ptq_hf_close,
    .read = ptq_hf_read,
    .n_bytes = ptq_hf_n_bytes,
    .bytes = ptq_hf_bytes,
};
