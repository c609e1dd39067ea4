/* format_gguf.c: GGUF files, versions 2 and 3, little-endian: header, key-value pairs, tensor
 * infos, padding to general.alignment, data. The pairs become the metadata as they are; numbers
 * that JSON cannot hold (NaN, Inf) become null, unsigned ones over 2^63 - 1 the nearest double. */
#include "core/size.h"
#include "core/words.h"
#include "datasets/gguf_types.h"
#include "datasets/tensors.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

extern const struct ptq_file_format ptq_format_gguf;

/* Caps far above any model, so that a small file cannot ask for much memory: the largest
 * vocabularies have 2^18 tokens with as many scores and types, and 2^19 merges. */
enum {
    MOST_PAIRS = 1 << 16,
    MOST_VALUES = 1 << 22, /* of all pairs together, array elements counted */
    MOST_TEXT = 1 << 24,   /* bytes of one text */
    MOST_TEXTS = 1 << 28,  /* bytes of all texts */
    MOST_NAME = 1 << 10,
    MOST_KEY = (1 << 16) - 1,
    MOST_TENSORS = 1 << 20,
    MOST_ALIGNMENT = 1 << 20,
    MOST_DEPTH = 2, /* arrays, and arrays of arrays */
    WINDOW = 1 << 16,
    PIECE = 1 << 15 /* bytes read at once when values are dequantized */
};

/* What is taken up at least: a pair is a key's length, a type and a byte; an info a name's length,
 * rank, type and offset. */
enum { PAIR_BYTES = 8 + 4 + 1, INFO_BYTES = 8 + 4 + 4 + 8 };

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, ARRAY, U64, I64, F64, N_VALUE_TYPES };
static const int value_bytes[N_VALUE_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 4 + 8, 8, 8, 8};

/* Reads the file from its start, through a window. */
struct cursor {
    const struct ptq_bytes *file;
    int64_t at;             /* of the next byte */
    int64_t from, n_window; /* what the window holds */
    uint8_t *window;
    char *text; /* the text read last, NUL behind it */
    int64_t text_room, n_texts, n_values;
    /* Where we are, for messages: "key general.name", element of its array or -1. */
    const char *kind;
    char name[PTQ_PRINTABLE];
    int64_t element;
    struct ptq_status *st;
};

/* ---- messages */

static int bad(const struct cursor *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int bad(const struct cursor *c, const char *fmt, ...)
{
    char what[512], element[32] = "";
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (c->element >= 0)
        snprintf(element, sizeof element, ", element %lld", (long long)c->element);
    return ptq_status_set(c->st, PTQ_ERR_USAGE, "%s: GGUF %s%s%s%s: %s", c->file->path, c->kind,
                          *c->name ? " " : "", c->name, element, what);
}

static void place(struct cursor *c, const char *kind, const char *name)
{
    c->kind = kind;
    c->element = -1;
    ptq_printable(name, c->name);
}

/* ---- bytes */

static int64_t left(const struct cursor *c)
{
    return c->file->size - c->at;
}

static int refill(struct cursor *c)
{
    int64_t n = left(c) < WINDOW ? left(c) : WINDOW;
    c->from = c->at;
    c->n_window = 0;
    int rc = ptq_bytes_read(c->file, c->at, n, c->window, c->st);
    if (!rc)
        c->n_window = n;
    return rc;
}

static int take(struct cursor *c, int64_t n, void *out)
{
    if (n > left(c))
        return bad(c, "bytes %lld .. %lld are wanted, the file has %lld: truncated; get it again",
                   (long long)c->at, (long long)(c->at + n), (long long)c->file->size);
    for (char *to = out; n > 0;) {
        int64_t have = c->from + c->n_window - c->at;
        if (have <= 0) {
            int rc = refill(c);
            if (rc)
                return rc;
            have = c->n_window;
        }
        if (have > n)
            have = n;
        memcpy(to, c->window + (c->at - c->from), (size_t)have);
        to += have;
        c->at += have;
        n -= have;
    }
    return PTQ_OK;
}

static uint64_t little(const uint8_t *b, int n)
{
    uint64_t v = 0;
    for (int i = n - 1; i >= 0; i--)
        v = v << 8 | b[i];
    return v;
}

static int take_u32(struct cursor *c, uint32_t *out)
{
    uint8_t b[4];
    int rc = take(c, sizeof b, b);
    *out = rc ? 0 : (uint32_t)little(b, sizeof b);
    return rc;
}

static int take_u64(struct cursor *c, uint64_t *out)
{
    uint8_t b[8];
    int rc = take(c, sizeof b, b);
    *out = rc ? 0 : little(b, sizeof b);
    return rc;
}

/* A number of things that take at least `each` bytes in the rest of the file. */
static int take_count(struct cursor *c, const char *what, int64_t each, int64_t most, int64_t *out)
{
    uint64_t n;
    int rc = take_u64(c, &n);
    *out = 0;
    if (rc)
        return rc;
    if (n > (uint64_t)(left(c) / each))
        return bad(c, "%llu %s cannot lie in the %lld bytes that are left: truncated or damaged",
                   (unsigned long long)n, what, (long long)left(c));
    if (n > (uint64_t)most)
        return bad(c, "%llu %s; at most %lld are read", (unsigned long long)n, what,
                   (long long)most);
    *out = (int64_t)n;
    return PTQ_OK;
}

/* Into c->text, good until the next text. */
static int take_text(struct cursor *c, int64_t most, int64_t *n)
{
    int rc = take_count(c, "bytes of text", 1, most, n);
    if (rc)
        return rc;
    if ((c->n_texts += *n) > MOST_TEXTS)
        return bad(c, "the texts of the file take over %d bytes", MOST_TEXTS);
    if (*n >= c->text_room) {
        char *more = realloc(c->text, (size_t)(2 * *n + 64));
        if (!more)
            return ptq_status_nomem(c->st, "a text of GGUF metadata", (size_t)(2 * *n + 64));
        c->text = more;
        c->text_room = 2 * *n + 64;
    }
    c->text[*n] = 0;
    return take(c, *n, c->text);
}

/* jansson's check: so writing the metadata as JSON cannot fail later. */
static bool is_utf8(const char *text, int64_t n)
{
    json_t *made_of_it = json_stringn(text, (size_t)n);
    json_decref(made_of_it);
    return made_of_it != NULL;
}

/* A key or name: at least a byte, no NUL inside. */
static int take_name(struct cursor *c, int64_t most, struct ptq_arena *a, char **out)
{
    int64_t n;
    int rc = take_text(c, most, &n);
    if (rc)
        return rc;
    if (n == 0 || memchr(c->text, 0, (size_t)n) || !is_utf8(c->text, n))
        return bad(c, "its name is empty, holds a zero byte or is no valid UTF-8");
    *out = ptq_arena_strdup(a, c->st, c->text);
    return *out ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* ---- key-value pairs */

static json_t *number(int type, const uint8_t *b)
{
    const uint64_t u = little(b, value_bytes[type]);
    const uint32_t low = (uint32_t)u;
    float f;
    double d;
    switch (type) {
    case I8: return json_integer((int8_t)u);
    case I16: return json_integer((int16_t)u);
    case I32: return json_integer((int32_t)u);
    case I64: return json_integer((int64_t)u);
    case U64: return u > INT64_MAX ? json_real((double)u) : json_integer((int64_t)u);
    case F32: memcpy(&f, &low, sizeof f); return ptq_json_num((double)f);
    case F64: memcpy(&d, &u, sizeof d); return ptq_json_num(d);
    default: return json_integer((int64_t)u);
    }
}

static int take_value_type(struct cursor *c, uint32_t *type)
{
    int rc = take_u32(c, type);
    if (!rc && *type >= N_VALUE_TYPES)
        return bad(c, "unknown value type %u (0 .. %d are known)", *type, N_VALUE_TYPES - 1);
    return rc;
}

static int made(const struct cursor *c, json_t *value, json_t **out)
{
    *out = value;
    return value ? PTQ_OK : ptq_status_nomem(c->st, "GGUF metadata", sizeof(json_t));
}

static int take_scalar(struct cursor *c, uint32_t type, json_t **out)
{
    uint8_t b[8];
    int rc = take(c, value_bytes[type], b);
    if (rc)
        return rc;
    if (type == BOOL && *b > 1)
        return bad(c, "a yes/no is the byte %d, neither 0 nor 1", *b);
    return made(c, type == BOOL ? json_boolean(*b) : number((int)type, b), out);
}

static int take_text_value(struct cursor *c, json_t **out)
{
    int64_t n;
    int rc = take_text(c, MOST_TEXT, &n);
    if (rc)
        return rc;
    if (!is_utf8(c->text, n))
        return bad(c, "the text of %lld bytes is no valid UTF-8", (long long)n);
    return made(c, json_stringn(c->text, (size_t)n), out);
}

static int take_array(struct cursor *c, int depth, json_t **out);

static int take_value(struct cursor *c, uint32_t type, int depth, json_t **out)
{
    *out = NULL;
    if (++c->n_values > MOST_VALUES)
        return bad(c, "the file holds over %d metadata values", MOST_VALUES);
    if (type == TEXT)
        return take_text_value(c, out);
    return type == ARRAY ? take_array(c, depth + 1, out) : take_scalar(c, type, out);
}

/* Messages count the elements of the outermost array. */
static int take_array(struct cursor *c, int depth, json_t **out)
{
    uint32_t type;
    int64_t n;
    if (depth > MOST_DEPTH)
        return bad(c, "arrays lie in each other more than %d deep", MOST_DEPTH);
    int rc = take_value_type(c, &type);
    if (rc || (rc = take_count(c, "array elements", value_bytes[type], MOST_VALUES, &n)) ||
        (rc = made(c, json_array(), out)))
        return rc;
    for (int64_t i = 0; i < n && !rc; i++) {
        json_t *value;
        if (depth == 1)
            c->element = i;
        if (!(rc = take_value(c, type, depth, &value)) && json_array_append_new(*out, value))
            rc = ptq_status_nomem(c->st, "GGUF metadata", sizeof(json_t));
    }
    if (rc) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

static int take_pair(struct cursor *c, struct ptq_tensors *t)
{
    char *key = NULL;
    uint32_t type;
    json_t *value = NULL;
    int rc = take_name(c, MOST_KEY, &t->arena, &key);
    if (rc)
        return rc;
    place(c, "key", key);
    if (json_object_get(t->meta, key))
        return bad(c, "is there twice");
    if ((rc = take_value_type(c, &type)) || (rc = take_value(c, type, 0, &value)))
        return rc;
    if (json_object_set_new(t->meta, key, value))
        return ptq_status_nomem(c->st, "GGUF metadata", sizeof(json_t));
    return PTQ_OK;
}

static int take_pairs(struct cursor *c, struct ptq_tensors *t, int64_t n)
{
    int rc = PTQ_OK;
    for (int64_t i = 0; i < n && !rc; i++) {
        char number_of[32];
        snprintf(number_of, sizeof number_of, "%lld", (long long)i);
        place(c, "key number", number_of);
        rc = take_pair(c, t);
    }
    return rc;
}

/* ---- tensor infos */

/* at[0]: offset in the file; at[1]: the type's number. */
static const struct ptq_gguf_type *type_of(const struct ptq_tensor *x)
{
    return ptq_gguf_type((uint32_t)x->at[1]);
}

static int64_t n_bytes(const struct ptq_tensor *x)
{
    const struct ptq_gguf_type *type = type_of(x);
    return x->n / type->block * type->bytes;
}

static int unknown_type(const struct cursor *c, uint32_t id)
{
    const struct ptq_gguf_type *type = ptq_gguf_type(id);
    char list[256] = "";
    for (int i = 0; ptq_gguf_type_at(i); i++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", i ? " " : "", ptq_gguf_type_at(i)->name);
    }
    return bad(c, "type %u (%s) cannot be read; these can: %s", id,
               type ? type->name : "not known here", list);
}

static int take_dims(struct cursor *c, struct ptq_tensor *x)
{
    uint32_t rank;
    int rc = take_u32(c, &rank);
    if (rc)
        return rc;
    if (rank > PTQ_TENSOR_MAX_RANK)
        return bad(c, "%u axes; at most %d are read", rank, PTQ_TENSOR_MAX_RANK);
    x->rank = (int)rank;
    x->n = 1;
    for (int i = x->rank - 1; i >= 0; i--) { /* the file begins with the fastest */
        uint64_t n;
        if ((rc = take_u64(c, &n)))
            return rc;
        x->dim[i] = (int64_t)n;
        if (n == 0 || n > INT64_MAX || !ptq_size_mul(x->n, x->dim[i], &x->n))
            return bad(c, "axis %d has %llu elements: none, or the shape overflows", i,
                       (unsigned long long)n);
    }
    return PTQ_OK;
}

static int take_type(struct cursor *c, struct ptq_tensor *x)
{
    uint32_t id;
    int64_t bytes;
    int rc = take_u32(c, &id);
    if (rc)
        return rc;
    const struct ptq_gguf_type *type = ptq_gguf_type(id);
    if (!type || !type->decode)
        return unknown_type(c, id);
    const int64_t row = x->rank ? x->dim[x->rank - 1] : 1;
    if (row % type->block)
        return bad(c, "rows of %lld values are no whole blocks of %d, as type %s needs",
                   (long long)row, type->block, type->name);
    if (!ptq_size_mul(x->n / type->block, type->bytes, &bytes))
        return bad(c, "the shape overflows");
    x->at[1] = id;
    x->type = type->name;
    x->stored_bits = 8.0 * type->bytes / type->block;
    x->grid_bits = type->grid_bits;
    x->grid_group = type->grid_group;
    return PTQ_OK;
}

static int take_info(struct cursor *c, struct ptq_tensor *x, struct ptq_arena *a)
{
    char *name = NULL;
    int rc = take_name(c, MOST_NAME, a, &name);
    if (rc)
        return rc;
    x->name = name;
    place(c, "tensor", name);
    if ((rc = take_dims(c, x)) || (rc = take_type(c, x)))
        return rc;
    return take_u64(c, &x->at[0]); /* from the start of the data, until lay_out */
}

static int take_infos(struct cursor *c, struct ptq_tensors *t)
{
    int rc = PTQ_OK;
    for (int64_t i = 0; i < t->n && !rc; i++) {
        char number_of[32];
        snprintf(number_of, sizeof number_of, "%lld", (long long)i);
        place(c, "tensor number", number_of);
        rc = take_info(c, &t->tensor[i], &t->arena);
    }
    return rc;
}

/* ---- the data */

static int get_alignment(struct cursor *c, const json_t *meta, int64_t *out)
{
    const json_t *v = json_object_get(meta, "general.alignment");
    *out = v ? json_integer_value(v) : 32; /* no integer: 0 */
    place(c, "key", "general.alignment");
    if (*out < 1 || *out > MOST_ALIGNMENT || (*out & (*out - 1)))
        return bad(c, "is %lld, expected a power of two of at most %d", (long long)*out,
                   MOST_ALIGNMENT);
    return PTQ_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct ptq_tensor *x = a, *y = b;
    return (x->at[0] > y->at[0]) - (x->at[0] < y->at[0]);
}

static int overlap(const struct cursor *c, const struct ptq_tensor *other)
{
    char name[PTQ_PRINTABLE];
    ptq_printable(other->name, name);
    return bad(c, "overlaps tensor %s", name);
}

/* Offsets become those in the file; data must lie in it, aligned, each byte in one tensor. */
static int lay_out(struct cursor *c, struct ptq_tensors *t)
{
    int64_t align, end = 0;
    int rc = get_alignment(c, t->meta, &align);
    if (rc)
        return rc;
    const int64_t start = (c->at + align - 1) & -align;
    if (t->n)
        qsort(t->tensor, (size_t)t->n, sizeof *t->tensor, by_offset);
    for (int64_t i = 0; i < t->n; i++) {
        struct ptq_tensor *x = &t->tensor[i];
        const uint64_t at = x->at[0];
        int64_t bytes = n_bytes(x), begin = start;
        place(c, "tensor", x->name);
        if (at % (uint64_t)align)
            return bad(c, "its offset %llu is no multiple of the alignment %lld",
                       (unsigned long long)at, (long long)align);
        if (at > INT64_MAX || !ptq_size_add(start, (int64_t)at, &begin) || begin > c->file->size ||
            bytes > c->file->size - begin)
            return bad(c,
                       "its %lld bytes at offset %llu of the data end behind the file's %lld: "
                       "truncated; get it again",
                       (long long)bytes, (unsigned long long)at, (long long)c->file->size);
        if (begin < end)
            return overlap(c, &t->tensor[i - 1]);
        x->at[0] = (uint64_t)begin;
        end = begin + bytes;
    }
    return PTQ_OK;
}

static int check_split(struct cursor *c, const json_t *meta)
{
    const json_int_t n = json_integer_value(json_object_get(meta, "split.count"));
    place(c, "key", "split.count");
    if (n > 1)
        return bad(c, "the model is split over %lld files; join them first (gguf-split --merge)",
                   (long long)n);
    return PTQ_OK;
}

/* ---- opening */

static int take_version(struct cursor *c)
{
    uint32_t magic, version;
    int rc;
    place(c, "header", "");
    if ((rc = take_u32(c, &magic)) || (rc = take_u32(c, &version)))
        return rc;
    if (version == 2 || version == 3)
        return PTQ_OK;
    if (version && !(version & 0xFFFF))
        return bad(c, "a big-endian file; little-endian ones are read: convert the model again");
    return bad(c, "version %u; versions 2 and 3 are read: convert the model again", version);
}

static int take_file(struct cursor *c, struct ptq_tensors *t)
{
    int64_t n_tensors, n_pairs;
    int rc;
    if ((rc = take_version(c)) ||
        (rc = take_count(c, "tensors", INFO_BYTES, MOST_TENSORS, &n_tensors)) ||
        (rc = take_count(c, "key-value pairs", PAIR_BYTES, MOST_PAIRS, &n_pairs)) ||
        (rc = made(c, json_object(), &t->meta)) || (rc = take_pairs(c, t, n_pairs)) ||
        (rc = check_split(c, t->meta)))
        return rc;
    if (!(t->tensor = ptq_arena_alloc(&t->arena, c->st, n_tensors, sizeof *t->tensor)))
        return PTQ_ERR_MEMORY;
    t->n = n_tensors;
    return (rc = take_infos(c, t)) ? rc : lay_out(c, t);
}

static bool probe(const struct ptq_probe *p)
{
    return !p->is_folder && memcmp(p->head, "GGUF", 4) == 0;
}

static int open_gguf(struct ptq_tensors *t, const struct ptq_probe *p, struct ptq_status *st)
{
    struct ptq_bytes *file = ptq_arena_alloc(&t->arena, st, 1, sizeof *file);
    if (!file)
        return PTQ_ERR_MEMORY;
    file->fd = -1;
    t->own = file;
    t->dialect = PTQ_GGUF;
    int rc = ptq_bytes_open(file, p->path, &t->arena, st);
    if (rc)
        return rc;
    struct cursor c = {.file = file, .window = malloc(WINDOW), .st = st};
    rc = c.window ? take_file(&c, t) : ptq_status_nomem(st, "a window of a file", WINDOW);
    free(c.window);
    free(c.text);
    return rc;
}

static void close_gguf(struct ptq_tensors *t)
{
    if (t->own)
        ptq_bytes_close(t->own);
}

/* ---- values */

/* Whole blocks are decoded in place, a block that the range cuts through a buffer. */
static int read_values(const struct ptq_tensors *t, const struct ptq_tensor *x, int64_t first,
                       int64_t n, float *out, struct ptq_status *st)
{
    const struct ptq_gguf_type *type = type_of(x);
    uint8_t raw[PIECE];
    float cut[PTQ_GGUF_MOST_BLOCK];
    while (n > 0) {
        const int64_t block = first / type->block, skip = first % type->block;
        int64_t blocks = 1, take_n = type->block - skip;
        if (skip == 0 && n >= type->block) {
            blocks = n / type->block < PIECE / type->bytes ? n / type->block : PIECE / type->bytes;
            take_n = blocks * type->block;
        } else if (take_n > n) {
            take_n = n;
        }
        const bool whole = take_n == blocks * type->block;
        int rc = ptq_bytes_read(t->own, (int64_t)x->at[0] + block * type->bytes,
                                blocks * type->bytes, raw, st);
        if (rc)
            return rc;
        type->decode(raw, blocks, whole ? out : cut);
        if (!whole)
            memcpy(out, cut + skip, (size_t)take_n * sizeof *out);
        first += take_n;
        out += take_n;
        n -= take_n;
    }
    return PTQ_OK;
}

static int read_bytes(const struct ptq_tensors *t, const struct ptq_tensor *x, int64_t from,
                      int64_t bytes, void *out, struct ptq_status *st)
{
    return ptq_bytes_read(t->own, (int64_t)x->at[0] + from, bytes, out, st);
}

const struct ptq_file_format ptq_format_gguf = {
    .name = "gguf",
    .title = "GGUF file",
    .probe = probe,
    .open = open_gguf,
    .close = close_gguf,
    .read = read_values,
    .n_bytes = n_bytes,
    .bytes = read_bytes,
};
