#include "datasets/llama2c.h"
#include "core/size.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_BYTES = 7 * 4, MOST = 1 << 24 };

/* Tensors in file order. A kind of a block's tensors lies together: all layers of one, then all
 * layers of the next. */
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

struct place {
    bool per_layer;
    int64_t dim[2]; /* of one tensor; dim[1] 0: a vector */
    int64_t n;      /* elements of one tensor */
    int64_t offset; /* bytes */
};
struct ptq_llama2c {
    int fd;
    char *path;
    struct ptq_llama2c_head head;
    struct place place[N_KINDS];
};

static int bad(const struct ptq_llama2c *f, struct ptq_status *st, const char *what, long long got)
{
    return ptq_status_set(st, PTQ_ERR_USAGE, "%s: not a legacy llama2.c checkpoint: %s (%lld)",
                          f->path, what, got);
}

static int head_parse(struct ptq_llama2c *f, const unsigned char *raw, struct ptq_status *st)
{
    static const char *const words[7] = {"dim",        "hidden_dim", "n_layers", "n_heads",
                                         "n_kv_heads", "vocab_size", "seq_len"};
    int64_t v[7];
    for (int i = 0; i < 7; i++) {
        const unsigned char *b = raw + 4 * i;
        uint32_t u =
            (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
        v[i] = (int32_t)u;
        int64_t size =
            i == 5 && v[i] < 0 ? -v[i] : v[i]; /* a negative vocabulary means a head of its own */
        if (size < 1 || size > MOST)
            return bad(f, st, words[i], (long long)v[i]);
    }
    f->head = (struct ptq_llama2c_head){v[0], v[1],    v[2], v[3], v[4], v[5] < 0 ? -v[5] : v[5],
                                        v[6], v[5] > 0};
    if (v[0] % v[3] != 0 || v[3] % v[4] != 0 || (v[0] / v[3]) % 2 != 0)
        return bad(f, st, "heads do not divide dim, or an odd head; n_heads", (long long)v[3]);
    return PTQ_OK;
}

/* Offsets of everything; the sum must be the file's size to the byte. */
static int lay_out(struct ptq_llama2c *f, int64_t file_bytes, struct ptq_status *st)
{
    const struct ptq_llama2c_head *h = &f->head;
    const int64_t d = h->dim, kv = d / h->n_heads * h->n_kv_heads, ff = h->hidden,
                  v = h->vocab_size;
    const struct place shape[N_KINDS] = {
        [EMBD] = {false, {v, d}},
        [ATTN_NORM] = {true, {d, 0}},
        [ATTN_Q] = {true, {d, d}},
        [ATTN_K] = {true, {kv, d}},
        [ATTN_V] = {true, {kv, d}},
        [ATTN_O] = {true, {d, d}},
        [FFN_NORM] = {true, {d, 0}},
        [FFN_GATE] = {true, {ff, d}},
        [FFN_DOWN] = {true, {d, ff}},
        [FFN_UP] = {true, {ff, d}},
        [OUTPUT_NORM] = {false, {d, 0}},
        [ROTATIONS] = {false, {h->seq_len, d / h->n_heads}},
        [OUTPUT] = {false, {h->tied ? 0 : v, d}},
    };
    int64_t at = HEADER_BYTES;
    for (int k = 0; k < N_KINDS; k++) {
        struct place p = shape[k];
        int64_t all;
        p.offset = at;
        if (!ptq_size_mul(p.dim[0], p.dim[1] ? p.dim[1] : 1, &p.n) ||
            !ptq_size_mul(p.n, p.per_layer ? 4 * h->n_layers : 4, &all) ||
            !ptq_size_add(at, all, &at))
            return bad(f, st, "sizes overflow; dim", (long long)d);
        f->place[k] = p;
    }
    if (at != file_bytes)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: holds %lld bytes, a legacy llama2.c checkpoint of its header "
                              "%lld: truncated, or of "
                              "another format",
                              f->path, (long long)file_bytes, (long long)at);
    return PTQ_OK;
}

static int file_open(struct ptq_llama2c *f, struct ptq_status *st)
{
    unsigned char raw[HEADER_BYTES];
    struct stat s;
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f->fd < 0 || fstat(f->fd, &s) != 0)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: cannot be opened: %s", f->path,
                              strerror(errno));
    if (!S_ISREG(s.st_mode))
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: not a regular file", f->path);
    if (pread(f->fd, raw, sizeof raw, 0) != (ssize_t)sizeof raw)
        return bad(f, st, "shorter than its header; bytes", (long long)s.st_size);
    int rc = head_parse(f, raw, st);
    return rc ? rc : lay_out(f, s.st_size, st);
}

int ptq_llama2c_open(struct ptq_llama2c **out, const char *path, struct ptq_status *st)
{
    *out = NULL;
    struct ptq_llama2c *f = calloc(1, sizeof *f);
    if (!f)
        return ptq_status_nomem(st, path, sizeof *f);
    f->fd = -1;
    f->path = strdup(path);
    int rc = f->path ? file_open(f, st) : ptq_status_nomem(st, path, strlen(path));
    if (rc)
        ptq_llama2c_close(f);
    else
        *out = f;
    return rc;
}

void ptq_llama2c_close(struct ptq_llama2c *f)
{
    if (!f)
        return;
    if (f->fd >= 0)
        close(f->fd);
    free(f->path);
    free(f);
}

const struct ptq_llama2c_head *ptq_llama2c_head(const struct ptq_llama2c *f)
{
    return &f->head;
}

/* "blk.3.attn_q" -> kind and layer; -1 when there is none. */
static int locate(const struct ptq_llama2c *f, const char *tensor, int64_t *layer)
{
    *layer = 0;
    bool in_block = strncmp(tensor, "blk.", 4) == 0;
    if (in_block) {
        char *end;
        if (tensor[4] < '0' || tensor[4] > '9')
            return -1;
        errno = 0;
        long long n = strtoll(tensor + 4, &end, 10);
        if (*end != '.' || errno || n >= f->head.n_layers)
            return -1;
        *layer = n;
        tensor = end + 1;
    }
    for (int k = 0; k < N_KINDS; k++)
        if (names[k] && f->place[k].n > 0 && f->place[k].per_layer == in_block &&
            strcmp(names[k], tensor) == 0)
            return k;
    return -1;
}

int ptq_llama2c_find(const struct ptq_llama2c *f, const char *tensor, int64_t dim[2])
{
    int64_t layer;
    int k = locate(f, tensor, &layer);
    if (k < 0)
        return PTQ_SKIP;
    dim[0] = f->place[k].dim[0];
    dim[1] = f->place[k].dim[1];
    return PTQ_OK;
}

int ptq_llama2c_read(const struct ptq_llama2c *f, const char *tensor, struct ptq_arena *a,
                     float **out, struct ptq_status *st)
{
    int64_t layer;
    int k = locate(f, tensor, &layer);
    if (k < 0)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: no tensor %s", f->path, tensor);
    const struct place *p = &f->place[k];
    float *x = ptq_arena_alloc(a, st, p->n, sizeof *x);
    if (!x)
        return PTQ_ERR_MEMORY;
    int64_t want = p->n * 4, got = 0, at = p->offset + layer * want;
    while (got < want) {
        ssize_t r = pread(f->fd, (char *)x + got, (size_t)(want - got), at + got);
        if (r <= 0)
            return ptq_status_set(st, PTQ_ERR_IO, "%s: tensor %s cannot be read: %s", f->path,
                                  tensor, r < 0 ? strerror(errno) : "the file became shorter");
        got += r;
    }
    *out = x;
    return PTQ_OK;
}
