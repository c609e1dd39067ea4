/* format_safetensors.c: safetensors files. Layout: the header's length (8 bytes, little-endian),
 * the header (JSON: name -> dtype, shape, data_offsets from the header's end), the values. The
 * offsets must tile the rest of the file: no overlap, no hole, no byte left. */
#include "datasets/hffolder.h"
#include "core/words.h"
#include <stdlib.h>
#include <string.h>

/* The header cap is that of the format's own library. */
enum { LENGTH_BYTES = 8, MAX_HEADER_BYTES = 100000000 };

struct header {
    const char *path;
    int64_t file, data, data_bytes; /* which file; where the values begin; how many bytes follow */
};
struct extent {
    int64_t from, to; /* from the values' begin */
    const char *name;
};

static int bad_tensor(const struct header *h, const char *name, const char *why,
                      struct ptq_status *st)
{
    char shown[PTQ_PRINTABLE];
    ptq_printable(name, shown);
    return ptq_status_set(st, PTQ_ERR_USAGE, "%s: tensor %s: %s; get the file again", h->path,
                          shown, why);
}

/* ---- one tensor */

static int take_type(const struct header *h, const char *name, const json_t *entry,
                     const struct ptq_hf_type **out, struct ptq_status *st)
{
    char shown[PTQ_PRINTABLE], type[PTQ_PRINTABLE], known[128] = "";
    const char *word = json_string_value(json_object_get(entry, "dtype"));
    if (!word)
        return bad_tensor(h, name, "it has no dtype", st);
    for (int i = 0; i < PTQ_HF_N_NUMBERS; i++) {
        *out = &ptq_hf_types[i];
        if (!strcmp(word, (*out)->safetensors))
            return PTQ_OK;
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", i ? " " : "", (*out)->safetensors);
    }
    ptq_printable(name, shown);
    ptq_printable(word, type);
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: tensor %s has type %s; known: %s; save it in one of them", h->path,
                          shown, type, known);
}

/* False: not an array of non-negative integers. */
static bool take_integers(const json_t *array, int64_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(array, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return false;
        out[i] = json_integer_value(v);
    }
    return true;
}

static int take_shape(const struct header *h, struct ptq_tensor *x, const json_t *entry,
                      struct ptq_status *st)
{
    const json_t *shape = json_object_get(entry, "shape");
    size_t rank = json_array_size(shape);
    if (!json_is_array(shape))
        return bad_tensor(h, x->name, "it has no shape", st);
    if (rank > PTQ_TENSOR_MAX_RANK)
        return bad_tensor(h, x->name, "its shape has more than 4 axes", st);
    x->rank = (int)rank;
    return take_integers(shape, x->dim, rank)
               ? PTQ_OK
               : bad_tensor(h, x->name, "its shape is not of sizes", st);
}

static int take_extent(const struct header *h, const char *name, const json_t *entry,
                       struct extent *out, struct ptq_status *st)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    int64_t at[2];
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !take_integers(offsets, at, 2))
        return bad_tensor(h, name, "it has no two data_offsets", st);
    if (at[0] > at[1] || at[1] > h->data_bytes) {
        char why[160];
        snprintf(
            why, sizeof why,
            "data_offsets %lld .. %lld lie outside of the file's %lld bytes of values: truncated",
            (long long)at[0], (long long)at[1], (long long)h->data_bytes);
        return bad_tensor(h, name, why, st);
    }
    *out = (struct extent){at[0], at[1], name};
    return PTQ_OK;
}

static int add_tensor(struct ptq_tensors *t, const struct header *h, const char *name,
                      const json_t *entry, struct extent *extent, struct ptq_status *st)
{
    struct ptq_tensor x = {.name = name};
    struct ptq_hf_view view = {.file = h->file};
    int64_t n, bytes;
    int rc = take_type(h, name, entry, &view.type, st);
    if (!rc)
        rc = take_shape(h, &x, entry, st);
    if (!rc)
        rc = take_extent(h, name, entry, extent, st);
    if (rc)
        return rc;
    if (!ptq_hf_extent(x.dim, x.rank, view.type->bytes, &n, &bytes))
        return bad_tensor(h, name, "its shape overflows", st);
    if (bytes != extent->to - extent->from) {
        char why[160];
        snprintf(why, sizeof why, "shape and dtype need %lld bytes, data_offsets give %lld",
                 (long long)bytes, (long long)(extent->to - extent->from));
        return bad_tensor(h, name, why, st);
    }
    x.type = view.type->safetensors;
    view.at = h->data + extent->from;
    return ptq_hf_add(t, &x, &view, st);
}

/* ---- one file */

static int by_place(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    if (x->from != y->from)
        return x->from < y->from ? -1 : 1;
    return (x->to > y->to) - (x->to < y->to);
}

static int check_tiling(const struct header *h, struct extent *e, int64_t n, struct ptq_status *st)
{
    int64_t end = 0;
    if (n)
        qsort(e, (size_t)n, sizeof *e, by_place);
    for (int64_t i = 0; i < n; end = e[i++].to) {
        if (e[i].from < end)
            return bad_tensor(h, e[i].name, "its values overlap those of another tensor", st);
        if (e[i].from > end)
            return bad_tensor(h, e[i].name, "a hole lies before its values", st);
    }
    if (end != h->data_bytes)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: its tensors end at byte %lld of %lld of values: not what the "
                              "header says; get the file again",
                              h->path, (long long)end, (long long)h->data_bytes);
    return PTQ_OK;
}

static int add_tensors(struct ptq_tensors *t, const struct header *h, json_t *root,
                       struct ptq_status *st)
{
    const char *name;
    json_t *entry;
    int64_t n = 0;
    int rc = PTQ_OK;
    struct extent *extent = calloc(json_object_size(root) + 1, sizeof *extent);
    if (!extent)
        return ptq_status_nomem(st, h->path, json_object_size(root) * sizeof *extent);
    json_object_foreach(root, name, entry)
    {
        if (!strcmp(name, "__metadata__"))
            continue;
        if ((rc = add_tensor(t, h, name, entry, &extent[n++], st)))
            break;
    }
    if (!rc)
        rc = check_tiling(h, extent, n, st);
    free(extent);
    return rc;
}

/* The header's length, checked. */
static int header_bytes(const struct ptq_bytes *file, int64_t *out, struct ptq_status *st)
{
    unsigned char raw[LENGTH_BYTES];
    uint64_t n = 0;
    int rc = ptq_bytes_read(file, 0, LENGTH_BYTES, raw, st);
    if (rc)
        return rc;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        n = n << 8 | raw[i];
    if (n > MAX_HEADER_BYTES)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: its header claims %llu bytes, %d are allowed: not a safetensors "
                              "file, or damaged; get it again",
                              file->path, (unsigned long long)n, MAX_HEADER_BYTES);
    if ((int64_t)n > file->size - LENGTH_BYTES)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: its header claims %llu bytes, the file has %lld: truncated; get "
                              "it again",
                              file->path, (unsigned long long)n, (long long)file->size);
    *out = (int64_t)n;
    return PTQ_OK;
}

static int list(struct ptq_tensors *t, int64_t number, struct ptq_status *st)
{
    const struct ptq_bytes *file = &((struct ptq_hf *)t->own)->file[number];
    json_t *root = NULL;
    int64_t n = 0;
    int rc = header_bytes(file, &n, st);
    if (rc)
        return rc;
    char *text = malloc((size_t)n + 1);
    rc = text ? ptq_bytes_read(file, LENGTH_BYTES, n, text, st)
              : ptq_status_nomem(st, file->path, (size_t)n);
    if (!rc)
        rc = ptq_hf_json(file->path, text, (size_t)n, &root, st);
    free(text);
    const struct header h = {file->path, number, LENGTH_BYTES + n, file->size - LENGTH_BYTES - n};
    if (!rc)
        rc = add_tensors(t, &h, root, st);
    json_decref(root);
    return rc;
}

/* ---- the format */

static const struct ptq_hf_weights weights = {"model.safetensors", "model.safetensors.index.json",
                                              ".safetensors", list};

static bool probe(const struct ptq_probe *p)
{
    if (p->is_folder)
        return ptq_hf_folder_has(p->path, &weights);
    return ptq_ends_with(p->path, weights.suffix);
}

static int open_source(struct ptq_tensors *t, const struct ptq_probe *p, struct ptq_status *st)
{
    return ptq_hf_open(t, p, &weights, st);
}

const struct ptq_file_format ptq_format_safetensors = {
    .name = "safetensors",
    .title = "Hugging Face folder (config.json, *.safetensors) or .safetensors file",
    .probe = probe,
    .open = open_source,
    .close = ptq_hf_close,
    .read = ptq_hf_read,
    .n_bytes = ptq_hf_n_bytes,
    .bytes = ptq_hf_bytes,
};
