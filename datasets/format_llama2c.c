/* format_llama2c.c: checkpoints of llama2.c: legacy (28 bytes of header without a magic number,
 * fp32), version 1 (256 bytes with the magic, fp32) and version 2 (int8 matrices with an fp32 scale
 * a group). Header fields: dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len.
 * Rotary positions turn interleaved pairs; theta 10000 and norm eps 1e-5 are fixed by the format.
 */
#include "core/size.h"
#include "datasets/tensors.h"
#include <string.h>

extern const struct ptq_file_format ptq_format_llama2c;

enum {
    N_FIELDS = 7,
    LEGACY_BYTES = 4 * N_FIELDS,
    HEADER_BYTES = 256,
    MAGIC = 0x616b3432, /* "ak42" */
    MOST = 1 << 24,
    MOST_LAYERS = 1 << 14,
    PIECE = 8192 /* values dequantized at once */
};

enum field { DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, SEQ_LEN };

struct head {
    int version; /* 0: legacy */
    int64_t v[N_FIELDS];
    bool tied;     /* the head is the embedding: no tensor "output" */
    int64_t group; /* values a scale; 0: fp32 */
};

/* Kinds of tensors. Those of the blocks lie together: all layers of one kind, then all layers of
 * the next. */
enum kind {
    EMBD,
    ATTN_NORM,
    ATTN_Q,
    ATTN_K,
    ATTN_V,
    ATTN_O,
    FFN_NORM,
    FFN_GATE,
    FFN_DOWN,
    FFN_UP,
    OUTPUT_NORM,
    ROTATIONS,
    OUTPUT,
    N_KINDS
};
static const char *const names[N_KINDS] = {
    "tok_embd", "attn_norm", "attn_q", "attn_k",      "attn_v", "attn_o", "ffn_norm",
    "ffn_gate", "ffn_down",  "ffn_up", "output_norm", NULL,     "output"};

/* In the order of the file, N_KINDS behind the last. */
static const enum kind legacy_order[] = {EMBD,        ATTN_NORM, ATTN_Q,   ATTN_K,   ATTN_V,
                                         ATTN_O,      FFN_NORM,  FFN_GATE, FFN_DOWN, FFN_UP,
                                         OUTPUT_NORM, ROTATIONS, OUTPUT,   N_KINDS};
static const enum kind order[] = {ATTN_NORM, FFN_NORM, OUTPUT_NORM, EMBD,   ATTN_Q, ATTN_K, ATTN_V,
                                  ATTN_O,    FFN_GATE, FFN_DOWN,    FFN_UP, OUTPUT, N_KINDS};

/* ---- the header */

static int64_t i32_at(const unsigned char *b)
{
    return (int32_t)((uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
                     (uint32_t)b[3] << 24);
}

/* A legacy file has no magic number, but its first four fields are small positive numbers, and
 * heads divide dim into even parts. No other checkpoint begins so: magic numbers of four letters
 * are over MOST, and safetensors' second word is 0. */
static bool probe(const struct ptq_probe *p)
{
    if (p->is_folder)
        return false;
    if (i32_at(p->head) == MAGIC)
        return true;
    for (int i = DIM; i <= HEADS; i++)
        if (i32_at(p->head + 4 * i) < 1 || i32_at(p->head + 4 * i) > MOST)
            return false;
    return i32_at(p->head) % (2 * i32_at(p->head + 4 * HEADS)) == 0;
}

static int bad(const struct ptq_bytes *f, struct ptq_status *st, const char *what, int64_t got)
{
    return ptq_status_set(st, PTQ_ERR_USAGE, "%s: not a checkpoint of llama2.c: %s (%lld)", f->path,
                          what, (long long)got);
}

static int parse_fields(const struct ptq_bytes *f, struct head *h, const unsigned char *raw,
                        struct ptq_status *st)
{
    static const char *const words[N_FIELDS] = {"dim",        "hidden_dim", "n_layers", "n_heads",
                                                "n_kv_heads", "vocab_size", "seq_len"};
    for (int i = 0; i < N_FIELDS; i++) {
        const int64_t given = i32_at(raw + 4 * i);
        h->v[i] = given;
        if (i == VOCAB && h->version == 0) { /* negative: a head of its own */
            h->tied = given > 0;
            h->v[i] = given < 0 ? -given : given;
        }
        if (h->v[i] < 1 || h->v[i] > (i == LAYERS ? MOST_LAYERS : MOST))
            return bad(f, st, words[i], given);
    }
    if (h->v[DIM] % (2 * h->v[HEADS]) || h->v[HEADS] % h->v[KV_HEADS])
        return bad(f, st, "heads do not divide dim, or an odd head; n_heads", h->v[HEADS]);
    return PTQ_OK;
}

static int parse_head(const struct ptq_bytes *f, struct head *h, struct ptq_status *st)
{
    unsigned char raw[48];
    int rc = ptq_bytes_read(f, 0, LEGACY_BYTES, raw, st);
    if (rc)
        return rc;
    if (i32_at(raw) != MAGIC)
        return parse_fields(f, h, raw, st);
    if ((rc = ptq_bytes_read(f, 0, sizeof raw, raw, st)))
        return rc;
    h->version = (int)i32_at(raw + 4);
    if (h->version != 1 && h->version != 2)
        return bad(f, st, "versions 1 and 2 are read; version", h->version);
    if (raw[36] > 1)
        return bad(f, st, "the flag of a shared classifier is neither 0 nor 1", raw[36]);
    h->tied = raw[36];
    if (h->version == 2 && ((h->group = i32_at(raw + 37)) < 1 || h->group > MOST))
        return bad(f, st, "group size", h->group);
    return parse_fields(f, h, raw + 8, st);
}

/* ---- tensors. at[0]: offset of the values; at[1]: of the scales of an int8 tensor, right behind
 * its values, else 0. */

static int64_t n_bytes(const struct ptq_tensor *x)
{
    return x->grid_bits ? x->n + x->n / x->grid_group * 4 : x->n * 4;
}

static struct ptq_tensor shape_of(const struct head *h, enum kind k)
{
    const int64_t d = h->v[DIM], kv = d / h->v[HEADS] * h->v[KV_HEADS], ff = h->v[HIDDEN];
    const int64_t dim[N_KINDS][2] = {
        [EMBD] = {h->v[VOCAB], d},  [ATTN_NORM] = {d, 0},
        [ATTN_Q] = {d, d},          [ATTN_K] = {kv, d},
        [ATTN_V] = {kv, d},         [ATTN_O] = {d, d},
        [FFN_NORM] = {d, 0},        [FFN_GATE] = {ff, d},
        [FFN_DOWN] = {d, ff},       [FFN_UP] = {ff, d},
        [OUTPUT_NORM] = {d, 0},     [ROTATIONS] = {h->v[SEQ_LEN], d / h->v[HEADS]},
        [OUTPUT] = {h->v[VOCAB], d}};
    struct ptq_tensor x = {.type = "F32",
                           .rank = dim[k][1] ? 2 : 1,
                           .dim = {dim[k][0], dim[k][1]},
                           .n = dim[k][0] * (dim[k][1] ? dim[k][1] : 1), /* < MOST^2 */
                           .stored_bits = 32};
    if (h->group && x.rank == 2) {
        x.type = "Q8_0";
        x.stored_bits = 8 + 32 / (double)h->group;
        x.grid_bits = 8;
        x.grid_group = (int)h->group;
    }
    return x;
}

static bool of_blocks(enum kind k)
{
    return k >= ATTN_NORM && k <= FFN_UP;
}

/* All tensors of a kind, from *at on. Without t only the bytes are counted. */
static int add_kind(struct ptq_tensors *t, const struct head *h, enum kind k, int64_t *at,
                    struct ptq_status *st)
{
    const struct ptq_bytes *f = t->own;
    const int64_t layers = of_blocks(k) ? h->v[LAYERS] : 1;
    const struct ptq_tensor x = shape_of(h, k);
    if (x.grid_bits && x.n % x.grid_group)
        return bad(f, st, "groups do not divide the matrices; group size", x.grid_group);
    if (n_bytes(&x) > (f->size - *at) / layers)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: holds %lld bytes, too few for the llama2.c checkpoint that its "
                              "header describes: truncated, or of another format",
                              f->path, (long long)f->size);
    for (int64_t i = 0; i < layers; i++, *at += n_bytes(&x)) {
        if (!names[k])
            continue;
        struct ptq_tensor *y = &t->tensor[t->n++];
        *y = x;
        y->name = of_blocks(k)
                      ? ptq_arena_printf(&t->arena, st, "blk.%lld.%s", (long long)i, names[k])
                      : names[k];
        y->at[0] = (uint64_t)*at;
        y->at[1] = x.grid_bits ? (uint64_t)(*at + x.n) : 0;
        if (!y->name)
            return PTQ_ERR_MEMORY;
    }
    return PTQ_OK;
}

static int lay_out(struct ptq_tensors *t, const struct head *h, struct ptq_status *st)
{
    const struct ptq_bytes *f = t->own;
    int64_t at = h->version ? HEADER_BYTES : LEGACY_BYTES;
    int rc = PTQ_OK;
    if (at > f->size)
        return bad(f, st, "truncated in its header; bytes", f->size);
    t->tensor = ptq_arena_alloc(&t->arena, st, 9 * h->v[LAYERS] + 3, sizeof *t->tensor);
    if (!t->tensor)
        return PTQ_ERR_MEMORY;
    for (const enum kind *k = h->version ? order : legacy_order; *k != N_KINDS && !rc; k++)
        if (*k != OUTPUT || !h->tied)
            rc = add_kind(t, h, *k, &at, st);
    if (!rc && at != f->size)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: holds %lld bytes, a llama2.c checkpoint of its header %lld: of "
                              "another format, or written wrongly",
                              f->path, (long long)f->size, (long long)at);
    return rc;
}

/* ---- opening */

static int describe(struct ptq_tensors *t, const struct head *h, struct ptq_status *st)
{
    t->meta = json_pack(
        "{ss sI sI sI sI sI sI sI sI sf ss sf si ss}", "architecture", "llama", "d_model",
        (json_int_t)h->v[DIM], "n_blocks", (json_int_t)h->v[LAYERS], "n_heads",
        (json_int_t)h->v[HEADS], "n_kv_heads", (json_int_t)h->v[KV_HEADS], "head_dim",
        (json_int_t)(h->v[DIM] / h->v[HEADS]), "d_ff", (json_int_t)h->v[HIDDEN], "vocab_size",
        (json_int_t)h->v[VOCAB], "max_context", (json_int_t)h->v[SEQ_LEN], "rope_theta", 10000.0,
        "rope_layout", "interleaved", "norm_eps", 1e-5, "tied_head", (int)h->tied, "dtype", "f32");
    return t->meta ? PTQ_OK : ptq_status_nomem(st, "metadata", 1024);
}

static int open_llama2c(struct ptq_tensors *t, const struct ptq_probe *p, struct ptq_status *st)
{
    struct head h = {0};
    struct ptq_bytes *file = ptq_arena_alloc(&t->arena, st, 1, sizeof *file);
    if (!file)
        return PTQ_ERR_MEMORY;
    file->fd = -1;
    t->own = file;
    t->dialect = PTQ_CANONICAL;
    int rc = ptq_bytes_open(file, p->path, &t->arena, st);
    if (rc || (rc = parse_head(file, &h, st)) || (rc = lay_out(t, &h, st)))
        return rc;
    return describe(t, &h, st);
}

static void close_llama2c(struct ptq_tensors *t)
{
    if (t->own)
        ptq_bytes_close(t->own);
}

/* ---- values */

/* At most PIECE int8 values; groups count through the whole tensor, over the ends of rows. */
static int read_piece(const struct ptq_tensors *t, const struct ptq_tensor *x, int64_t first,
                      int64_t n, float *out, struct ptq_status *st)
{
    int8_t code[PIECE];
    float scale[PIECE + 1];
    const int64_t g = x->grid_group, from = first / g, to = (first + n - 1) / g;
    int rc = ptq_bytes_read(t->own, (int64_t)x->at[0] + first, n, code, st);
    if (!rc)
        rc = ptq_bytes_read(t->own, (int64_t)x->at[1] + 4 * from, 4 * (to - from + 1), scale, st);
    for (int64_t i = 0; i < n && !rc; i++)
        out[i] = (float)code[i] * scale[(first + i) / g - from];
    return rc;
}

static int read_values(const struct ptq_tensors *t, const struct ptq_tensor *x, int64_t first,
                       int64_t n, float *out, struct ptq_status *st)
{
    int rc = PTQ_OK;
    if (!x->grid_bits)
        return ptq_bytes_read(t->own, (int64_t)x->at[0] + 4 * first, 4 * n, out, st);
    for (int64_t done = 0; done < n && !rc; done += PIECE)
        rc = read_piece(t, x, first + done, n - done < PIECE ? n - done : PIECE, out + done, st);
    return rc;
}

static int read_bytes(const struct ptq_tensors *t, const struct ptq_tensor *x, int64_t from,
                      int64_t bytes, void *out, struct ptq_status *st)
{
    return ptq_bytes_read(t->own, (int64_t)x->at[0] + from, bytes, out, st);
}

const struct ptq_file_format ptq_format_llama2c = {
    .name = "llama2c",
    .title = "llama2.c checkpoint (legacy, version 1 or 2)",
    .probe = probe,
    .open = open_llama2c,
    .close = close_llama2c,
    .read = read_values,
    .n_bytes = n_bytes,
    .bytes = read_bytes,
};
