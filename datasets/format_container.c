/* format_container.c: a model in an HDF5 container (SCHEMA.md): datasets of /model under their
 * canonical names, its attributes as metadata. */
#include "core/size.h"
#include "datasets/h5.h"
#include "datasets/tensors.h"
#include <stdlib.h>
#include <string.h>

extern const struct ptq_file_format ptq_format_container;

enum { SCHEMA = 1 };

/* The kind of /tokenizer is handed on as a piece of metadata. */
static int note_tokenizer(struct ptq_tensors *t, struct ptq_status *st)
{
    char *kind = NULL;
    if (!ptq_h5_exists(t->own, "/tokenizer"))
        return PTQ_OK;
    int rc = ptq_h5_get_text(t->own, "/tokenizer", "kind", &t->arena, &kind, st);
    if (rc < 0 || !kind)
        return rc < 0 ? rc : PTQ_OK;
    json_object_set_new(t->meta, "tokenizer", json_string(kind));
    return PTQ_OK;
}

static bool probe(const struct ptq_probe *p)
{
    return memcmp(p->head, "\x89HDF\r\n\x1a\n", 8) == 0;
}

static int check_schema(struct ptq_tensors *t, struct ptq_status *st)
{
    int64_t schema = 0;
    int rc = ptq_h5_get_i64(t->own, "/", "schema", &schema, st);
    if (rc < 0)
        return rc;
    if (schema != SCHEMA)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: schema version %lld (root attribute schema; 0: absent); this "
                              "program reads version %d (datasets/SCHEMA.md): convert the file "
                              "or take a newer program",
                              t->path, (long long)schema, SCHEMA);
    if (ptq_h5_exists(t->own, "/model"))
        return PTQ_OK;
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: holds no /model group: not a model container (datasets/SCHEMA.md)",
                          t->path);
}

static int add_tensor(struct ptq_tensors *t, const char *name, struct ptq_status *st)
{
    static const char *const words[] = {"?",  "f16", "bf16", "f32", "f64",
                                        "u8", "u16", "i32",  "i64", "text"};
    static const int bits[] = {0, 16, 16, 32, 64, 8, 16, 32, 64, 0};
    struct ptq_h5_info info;
    char path[1024];
    snprintf(path, sizeof path, "/model/%s", name);
    int rc = ptq_h5_info(t->own, path, &info, st);
    if (rc)
        return rc;
    struct ptq_tensor *x = &t->tensor[t->n++];
    *x = (struct ptq_tensor){.name = name,
                             .type = words[info.type],
                             .rank = info.rank,
                             .n = info.n,
                             .stored_bits = bits[info.type]};
    memcpy(x->dim, info.dim, sizeof x->dim);
    return PTQ_OK;
}

static int open_container(struct ptq_tensors *t, const struct ptq_probe *p, struct ptq_status *st)
{
    char **names;
    int64_t n;
    struct ptq_h5 *h = NULL;
    int rc = ptq_h5_open(&h, p->path, PTQ_H5_READ, st);
    t->own = h;
    t->dialect = PTQ_CANONICAL;
    if (rc || (rc = check_schema(t, st)) || (rc = ptq_h5_attributes(h, "/model", &t->meta, st)) ||
        (rc = note_tokenizer(t, st)) || (rc = ptq_h5_list(h, "/model", &t->arena, &names, &n, st)))
        return rc;
    if (!(t->tensor = ptq_arena_alloc(&t->arena, st, n, sizeof *t->tensor)))
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < n && !rc; i++)
        rc = add_tensor(t, names[i], st);
    return rc;
}

static void close_container(struct ptq_tensors *t)
{
    ptq_h5_close(t->own, NULL);
}

/* Whole rows are read; a range that begins or ends inside one goes through a piece. */
static int read_values(const struct ptq_tensors *t, const struct ptq_tensor *x, int64_t first,
                       int64_t n, float *out, struct ptq_status *st)
{
    const int64_t width = x->rank == 2 ? x->dim[1] : 1, begin = first / width,
                  end = (first + n + width - 1) / width;
    char path[1024];
    if (x->rank < 1 || x->rank > 2)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: /model/%s has %d axes; expected 1 or 2",
                              t->path, x->name, x->rank);
    snprintf(path, sizeof path, "/model/%s", x->name);
    if (begin * width == first && (end - begin) * width == n)
        return ptq_h5_read_rows_f32(t->own, path, begin, end - begin, out, st);
    float *rows = malloc((size_t)((end - begin) * width) * sizeof *rows);
    if (!rows)
        return ptq_status_nomem(st, x->name, (size_t)((end - begin) * width) * sizeof *rows);
    int rc = ptq_h5_read_rows_f32(t->own, path, begin, end - begin, rows, st);
    if (!rc)
        memcpy(out, rows + (first - begin * width), (size_t)n * sizeof *out);
    free(rows);
    return rc;
}

/* Contents are named by the values as fp32, whatever layout and filters the file has; arrays that
 * no model can use (other types and ranks) by their shape alone. */
static int64_t n_bytes(const struct ptq_tensor *x)
{
    bool real = *x->type == 'f' || *x->type == 'b';
    return real && x->rank >= 1 && x->rank <= 2 ? x->n * (int64_t)sizeof(float) : 0;
}

static int read_bytes(const struct ptq_tensors *t, const struct ptq_tensor *x, int64_t from,
                      int64_t bytes, void *out, struct ptq_status *st)
{
    return read_values(t, x, from / (int64_t)sizeof(float), bytes / (int64_t)sizeof(float), out,
                       st);
}

const struct ptq_file_format ptq_format_container = {
    .name = "container",
    .title = "HDF5 container (datasets/SCHEMA.md)",
    .probe = probe,
    .open = open_container,
    .close = close_container,
    .read = read_values,
    .n_bytes = n_bytes,
    .bytes = read_bytes,
};
