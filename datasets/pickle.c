#include "datasets/pickle.h"
#include "core/words.h"
#include "datasets/hffolder.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Torch writes containers in batches of 1000 items, its C++ writer in one; 2^20 holds both. */
enum { MAX_STACK = 1 << 20, BLOCK_BYTES = 1 << 16, MAX_NAME = 255 };

struct machine {
    const char *path;
    const unsigned char *at, *end, *begin;
    struct ptq_arena *arena;
    char *block; /* room for small pieces: the arena's own are of 64 bytes and more */
    int64_t block_left;
    struct ptq_pickle **stack, **memo;
    int64_t n_stack, stack_room, n_memo, memo_room;
    bool done;
    struct ptq_status *st;
};

/* ---- messages */

static int refuse(struct machine *m, const char *what)
{
    return ptq_status_set(m->st, PTQ_ERR_USAGE,
                          "%s: refused: at byte %lld its pickle %s; only tensors in dicts are read "
                          "and nothing is executed: save model.state_dict() with torch.save, or as "
                          "safetensors",
                          m->path, (long long)(m->at - m->begin), what);
}

static int refuse_named(struct machine *m, const char *what, const char *name)
{
    char shown[PTQ_PRINTABLE], text[2 * PTQ_PRINTABLE];
    ptq_printable(name, shown);
    snprintf(text, sizeof text, "%s %s", what, shown);
    return refuse(m, text);
}

static int truncated(struct machine *m)
{
    return ptq_status_set(m->st, PTQ_ERR_USAGE,
                          "%s: its pickle ends at byte %lld in the middle: truncated; get it again",
                          m->path, (long long)(m->end - m->begin));
}

/* ---- memory */

static void *take(struct machine *m, int64_t bytes)
{
    bytes = (bytes + 7) / 8 * 8;
    if (bytes > BLOCK_BYTES / 4)
        return ptq_arena_alloc(m->arena, m->st, bytes, 1);
    if (bytes > m->block_left) {
        if (!(m->block = ptq_arena_alloc(m->arena, m->st, BLOCK_BYTES, 1)))
            return NULL;
        m->block_left = BLOCK_BYTES;
    }
    void *out = m->block;
    m->block += bytes, m->block_left -= bytes;
    return out;
}

/* The stack and the memo grow by doubling; neither outgrows the pickle's bytes. */
static int room_for(struct machine *m, struct ptq_pickle ***list, int64_t n, int64_t *room)
{
    if (n < *room)
        return PTQ_OK;
    int64_t more = *room ? 2 * *room : 256;
    struct ptq_pickle **p = realloc(*list, (size_t)more * sizeof *p);
    if (!p)
        return ptq_status_nomem(m->st, m->path, (size_t)more * sizeof *p);
    *list = p;
    *room = more;
    return PTQ_OK;
}

static int push(struct machine *m, struct ptq_pickle *v)
{
    if (!v)
        return PTQ_ERR_MEMORY;
    if (m->n_stack >= MAX_STACK)
        return refuse(m, "has too many open values");
    if (room_for(m, &m->stack, m->n_stack, &m->stack_room))
        return PTQ_ERR_MEMORY;
    m->stack[m->n_stack++] = v;
    return PTQ_OK;
}

static struct ptq_pickle *make(struct machine *m, enum ptq_pickle_kind kind)
{
    struct ptq_pickle *v = take(m, sizeof *v);
    if (v)
        *v = (struct ptq_pickle){.kind = kind};
    return v;
}

static int push_new(struct machine *m, enum ptq_pickle_kind kind, int64_t i)
{
    struct ptq_pickle *v = make(m, kind);
    if (v)
        v->i = i;
    return push(m, v);
}

/* ---- the stack; NULL: refused, the status says why */

static struct ptq_pickle *top(struct machine *m)
{
    if (m->n_stack && m->stack[m->n_stack - 1]->kind != PTQ_PICKLE_MARK)
        return m->stack[m->n_stack - 1];
    refuse(m, "takes a value from an empty stack");
    return NULL;
}

static struct ptq_pickle *pop(struct machine *m)
{
    struct ptq_pickle *v = top(m);
    m->n_stack -= v != NULL;
    return v;
}

static struct ptq_pickle *pop_kind(struct machine *m, enum ptq_pickle_kind kind)
{
    struct ptq_pickle *v = pop(m);
    if (v && v->kind != kind) {
        refuse(m, "has a value of another kind than its opcode needs");
        return NULL;
    }
    return v;
}

static int add_item(struct machine *m, struct ptq_pickle *to, const struct ptq_pickle *key,
                    const struct ptq_pickle *value)
{
    struct ptq_pickle_item *item = take(m, sizeof *item);
    if (!item)
        return PTQ_ERR_MEMORY;
    *item = (struct ptq_pickle_item){key, value, NULL};
    if (to->last)
        to->last->next = item;
    else
        to->first = item;
    to->last = item;
    to->i++;
    return PTQ_OK;
}

/* Values that lie together on the stack, valid until the next push; at NULL: refused. */
struct span {
    struct ptq_pickle **at;
    int64_t n;
};

/* Takes everything above the topmost mark, and the mark, off the stack. */
static struct span to_mark(struct machine *m)
{
    const int64_t end = m->n_stack;
    int64_t mark = end - 1;
    while (mark >= 0 && m->stack[mark]->kind != PTQ_PICKLE_MARK)
        mark--;
    if (mark < 0) {
        refuse(m, "closes what it never opened");
        return (struct span){NULL, 0};
    }
    m->n_stack = mark;
    return (struct span){m->stack + mark + 1, end - mark - 1};
}

/* ---- reading its bytes */

static const unsigned char *bytes(struct machine *m, uint64_t n)
{
    const unsigned char *p = m->at;
    if (n > (uint64_t)(m->end - m->at)) {
        truncated(m);
        return NULL;
    }
    m->at += n;
    return p;
}

/* A little-endian number of 1 to 8 bytes; false: truncated. */
static bool number(struct machine *m, int n, uint64_t *v)
{
    const unsigned char *p = bytes(m, (uint64_t)n);
    *v = 0;
    for (int i = n - 1; p && i >= 0; i--)
        *v = *v << 8 | p[i];
    return p != NULL;
}

/* Two's complement of n bytes, 0 <= n <= 8. */
static int64_t extended(uint64_t v, int n)
{
    const uint64_t sign = n ? UINT64_C(1) << (8 * n - 1) : 0;
    return (int64_t)((v ^ sign) - sign);
}

static int op_int(struct machine *m, int n, bool is_signed)
{
    uint64_t v;
    if (!number(m, n, &v))
        return PTQ_ERR_USAGE;
    return push_new(m, PTQ_PICKLE_INT, is_signed ? extended(v, n) : (int64_t)v);
}

static int op_long(struct machine *m)
{
    uint64_t n;
    if (!number(m, 1, &n))
        return PTQ_ERR_USAGE;
    return n <= 8 ? op_int(m, (int)n, true) : refuse(m, "holds a number of more than 64 bits");
}

static int op_float(struct machine *m)
{
    const unsigned char *p = bytes(m, 8);
    uint64_t v = 0;
    if (!p)
        return PTQ_ERR_USAGE;
    for (int i = 0; i < 8; i++) /* big-endian, alone among all its numbers */
        v = v << 8 | p[i];
    struct ptq_pickle *x = make(m, PTQ_PICKLE_FLOAT);
    if (x)
        memcpy(&x->f, &v, sizeof x->f);
    return push(m, x);
}

static bool is_utf8(const unsigned char *p, size_t n)
{
    json_t *text = json_stringn((const char *)p, n);
    json_decref(text);
    return text != NULL;
}

static int op_text(struct machine *m, int length_bytes)
{
    uint64_t n;
    const unsigned char *p = number(m, length_bytes, &n) ? bytes(m, n) : NULL;
    if (!p)
        return PTQ_ERR_USAGE;
    if (memchr(p, 0, n) || !is_utf8(p, n))
        return refuse(m, "holds a text that is no UTF-8");
    struct ptq_pickle *v = make(m, PTQ_PICKLE_TEXT);
    char *text = v ? take(m, (int64_t)n + 1) : NULL;
    if (!text)
        return PTQ_ERR_MEMORY;
    memcpy(text, p, n);
    text[n] = 0;
    v->text = text;
    return push(m, v);
}

/* ---- names and calls */

static const char *const callable[] = {"torch._utils._rebuild_tensor_v2",
                                       "torch._utils._rebuild_parameter", "collections.OrderedDict",
                                       NULL};

static const char *known_name(const char *name)
{
    for (int i = 0; callable[i]; i++)
        if (!strcmp(name, callable[i]))
            return callable[i];
    for (int i = 0; i < PTQ_HF_N_NUMBERS; i++) {
        const char *storage = ptq_hf_types[i].storage;
        if (storage && !strcmp(name, storage))
            return storage;
        /* torch.storage.FloatStorage */
        if (storage && !strncmp(name, "torch.storage.", 14) &&
            !strcmp(name + 14, storage + strlen("torch.")))
            return storage;
    }
    return NULL;
}

static int push_name(struct machine *m, const char *module, const char *name)
{
    char full[2 * MAX_NAME + 2];
    snprintf(full, sizeof full, "%s.%s", module, name);
    const char *known = known_name(full);
    if (!known)
        return refuse_named(m, "calls", full);
    struct ptq_pickle *v = make(m, PTQ_PICKLE_NAME);
    if (v)
        v->text = known;
    return push(m, v);
}

static bool line(struct machine *m, char out[MAX_NAME + 1])
{
    const int64_t left = m->end - m->at;
    const unsigned char *stop = memchr(m->at, '\n', (size_t)left);
    if (!stop) {
        truncated(m);
        return false;
    }
    const int64_t n = stop - m->at;
    if (n > MAX_NAME || memchr(m->at, 0, (size_t)n)) {
        refuse(m, "names something too long");
        return false;
    }
    memcpy(out, m->at, (size_t)n);
    out[n] = 0;
    m->at = stop + 1;
    return true;
}

static int op_global(struct machine *m)
{
    char module[MAX_NAME + 1], name[MAX_NAME + 1];
    return line(m, module) && line(m, name) ? push_name(m, module, name) : PTQ_ERR_USAGE;
}

static int op_stack_global(struct machine *m)
{
    const struct ptq_pickle *name = pop_kind(m, PTQ_PICKLE_TEXT),
                            *module = name ? pop_kind(m, PTQ_PICKLE_TEXT) : NULL;
    if (!module)
        return PTQ_ERR_USAGE;
    if (strlen(name->text) > MAX_NAME || strlen(module->text) > MAX_NAME)
        return refuse(m, "names something too long");
    return push_name(m, module->text, name->text);
}

const struct ptq_pickle *ptq_pickle_item(const struct ptq_pickle *v, int64_t i)
{
    const struct ptq_pickle_item *item = v->first;
    while (item && i-- > 0)
        item = item->next;
    return item ? item->value : NULL;
}

static bool is_kind(const struct ptq_pickle *v, int64_t i, enum ptq_pickle_kind kind)
{
    const struct ptq_pickle *item = ptq_pickle_item(v, i);
    return item && item->kind == kind;
}

/* A value of another kind over the items of a tuple. */
static int push_as(struct machine *m, enum ptq_pickle_kind kind, const struct ptq_pickle *tuple)
{
    struct ptq_pickle *v = make(m, kind);
    if (v) {
        *v = *tuple;
        v->kind = kind;
    }
    return push(m, v);
}

/* ("storage", class, key, device, elements) */
static int op_persistent(struct machine *m)
{
    const struct ptq_pickle *id = pop_kind(m, PTQ_PICKLE_TUPLE);
    if (!id)
        return PTQ_ERR_USAGE;
    if (id->i != 5 || !is_kind(id, 0, PTQ_PICKLE_TEXT) || !is_kind(id, 1, PTQ_PICKLE_NAME) ||
        !is_kind(id, 2, PTQ_PICKLE_TEXT) || !is_kind(id, 3, PTQ_PICKLE_TEXT) ||
        !is_kind(id, 4, PTQ_PICKLE_INT) || strcmp(id->first->value->text, "storage"))
        return refuse(m, "refers to something that is no storage");
    return push_as(m, PTQ_PICKLE_STORAGE, id);
}

/* (storage, offset, size, stride, requires_grad, hooks[, metadata]) */
static int call_rebuild_tensor(struct machine *m, const struct ptq_pickle *args)
{
    if (args->i < 6 || args->i > 7 || !is_kind(args, 0, PTQ_PICKLE_STORAGE) ||
        !is_kind(args, 1, PTQ_PICKLE_INT) || !is_kind(args, 2, PTQ_PICKLE_TUPLE) ||
        !is_kind(args, 3, PTQ_PICKLE_TUPLE))
        return refuse(m,
                      "makes a tensor of something else than a storage, offset, size and stride");
    return push_as(m, PTQ_PICKLE_TENSOR, args);
}

/* (tensor, requires_grad, hooks) */
static int call_rebuild_parameter(struct machine *m, const struct ptq_pickle *args)
{
    if (args->i != 3 || !is_kind(args, 0, PTQ_PICKLE_TENSOR))
        return refuse(m, "makes a parameter of something else than a tensor");
    return push_as(m, PTQ_PICKLE_TENSOR, args->first->value);
}

static int op_reduce(struct machine *m)
{
    const struct ptq_pickle *args = pop_kind(m, PTQ_PICKLE_TUPLE),
                            *name = args ? pop_kind(m, PTQ_PICKLE_NAME) : NULL;
    if (!name)
        return PTQ_ERR_USAGE;
    if (name->text == callable[0])
        return call_rebuild_tensor(m, args);
    if (name->text == callable[1])
        return call_rebuild_parameter(m, args);
    if (name->text == callable[2])
        return args->i == 0 ? push_new(m, PTQ_PICKLE_DICT, 0)
                            : refuse(m, "makes an OrderedDict of arguments");
    return refuse_named(m, "calls", name->text);
}

/* The attributes of a state dict (_metadata: versions of modules) say nothing of tensors. */
static int op_build(struct machine *m)
{
    const struct ptq_pickle *state = pop(m), *of = state ? top(m) : NULL;
    if (!of)
        return PTQ_ERR_USAGE;
    return of->kind == PTQ_PICKLE_DICT ? PTQ_OK
                                       : refuse(m, "sets attributes of something else "
                                                   "than a dict");
}

/* ---- containers */

static int push_tuple(struct machine *m, struct span items)
{
    struct ptq_pickle *v = make(m, PTQ_PICKLE_TUPLE);
    if (!v)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < items.n; i++)
        if (add_item(m, v, NULL, items.at[i]))
            return PTQ_ERR_MEMORY;
    return push(m, v);
}

static int op_small_tuple(struct machine *m, int64_t n)
{
    struct ptq_pickle *item[3];
    for (int64_t i = n - 1; i >= 0; i--)
        if (!(item[i] = pop(m)))
            return PTQ_ERR_USAGE;
    return push_tuple(m, (struct span){item, n});
}

static int append_all(struct machine *m, struct span items)
{
    struct ptq_pickle *to = top(m);
    if (!to)
        return PTQ_ERR_USAGE;
    if (to->kind != PTQ_PICKLE_LIST)
        return refuse(m, "appends to something else than a list");
    for (int64_t i = 0; i < items.n; i++)
        if (add_item(m, to, NULL, items.at[i]))
            return PTQ_ERR_MEMORY;
    return PTQ_OK;
}

static int set_all(struct machine *m, struct span items)
{
    struct ptq_pickle *to = top(m);
    if (!to)
        return PTQ_ERR_USAGE;
    if (to->kind != PTQ_PICKLE_DICT || items.n % 2)
        return refuse(m, "sets items of something else than a dict");
    for (int64_t i = 0; i < items.n; i += 2)
        if (add_item(m, to, items.at[i], items.at[i + 1]))
            return PTQ_ERR_MEMORY;
    return PTQ_OK;
}

static int op_append(struct machine *m)
{
    struct ptq_pickle *v = pop(m);
    return v ? append_all(m, (struct span){&v, 1}) : PTQ_ERR_USAGE;
}

static int op_set(struct machine *m)
{
    struct ptq_pickle *pair[2];
    pair[1] = pop(m);
    pair[0] = pair[1] ? pop(m) : NULL;
    return pair[0] ? set_all(m, (struct span){pair, 2}) : PTQ_ERR_USAGE;
}

static int op_many(struct machine *m, int (*with)(struct machine *, struct span))
{
    struct span items = to_mark(m);
    return items.at ? with(m, items) : PTQ_ERR_USAGE;
}

/* ---- the memo: numbers are given in order, so an index beyond the count is no honest one */

static int put(struct machine *m, uint64_t i)
{
    struct ptq_pickle *v = top(m);
    if (!v)
        return PTQ_ERR_USAGE;
    if (i > (uint64_t)m->n_memo)
        return refuse(m, "numbers its values out of order");
    if (room_for(m, &m->memo, (int64_t)i, &m->memo_room))
        return PTQ_ERR_MEMORY;
    m->memo[i] = v;
    m->n_memo += i == (uint64_t)m->n_memo;
    return PTQ_OK;
}

static int op_put(struct machine *m, int n)
{
    uint64_t i;
    return number(m, n, &i) ? put(m, i) : PTQ_ERR_USAGE;
}

static int op_get(struct machine *m, int n)
{
    uint64_t i;
    if (!number(m, n, &i))
        return PTQ_ERR_USAGE;
    return i < (uint64_t)m->n_memo ? push(m, m->memo[i]) : refuse(m, "refers to no value");
}

/* ---- the machine */

static int op_proto(struct machine *m)
{
    uint64_t v;
    if (!number(m, 1, &v))
        return PTQ_ERR_USAGE;
    return v >= 2 && v <= 5 ? PTQ_OK : refuse(m, "is of an unknown protocol (2 to 5 are known)");
}

static int op_frame(struct machine *m)
{
    uint64_t n;
    if (!number(m, 8, &n))
        return PTQ_ERR_USAGE;
    return n <= (uint64_t)(m->end - m->at) ? PTQ_OK : truncated(m);
}

static int unknown_op(struct machine *m, unsigned char op)
{
    char text[64];
    const bool shows = op > ' ' && op < 0x7f;
    snprintf(text, sizeof text, shows ? "uses opcode 0x%02x '%c'" : "uses opcode 0x%02x", op, op);
    return refuse(m, text);
}

static int step(struct machine *m, unsigned char op)
{
    switch (op) {
    case 0x80: return op_proto(m);
    case 0x95: return op_frame(m);
    case '(': return push_new(m, PTQ_PICKLE_MARK, 0);
    case 'N': return push_new(m, PTQ_PICKLE_NONE, 0);
    case 0x88: return push_new(m, PTQ_PICKLE_BOOL, 1);
    case 0x89: return push_new(m, PTQ_PICKLE_BOOL, 0);
    case 'J': return op_int(m, 4, true);
    case 'K': return op_int(m, 1, false);
    case 'M': return op_int(m, 2, false);
    case 0x8a: return op_long(m);
    case 'G': return op_float(m);
    case 'X': return op_text(m, 4);
    case 0x8c: return op_text(m, 1);
    case 0x8d: return op_text(m, 8);
    case ')': return push_new(m, PTQ_PICKLE_TUPLE, 0);
    case ']': return push_new(m, PTQ_PICKLE_LIST, 0);
    case '}': return push_new(m, PTQ_PICKLE_DICT, 0);
    case 't': return op_many(m, push_tuple);
    case 0x85: return op_small_tuple(m, 1);
    case 0x86: return op_small_tuple(m, 2);
    case 0x87: return op_small_tuple(m, 3);
    case 'a': return op_append(m);
    case 'e': return op_many(m, append_all);
    case 's': return op_set(m);
    case 'u': return op_many(m, set_all);
    case 'q': return op_put(m, 1);
    case 'r': return op_put(m, 4);
    case 0x94: return put(m, (uint64_t)m->n_memo);
    case 'h': return op_get(m, 1);
    case 'j': return op_get(m, 4);
    case 'c': return op_global(m);
    case 0x93: return op_stack_global(m);
    case 'Q': return op_persistent(m);
    case 'R': return op_reduce(m);
    case 'b': return op_build(m);
    case '.': m->done = true; return PTQ_OK;
    default: return unknown_op(m, op);
    }
}

static int run(struct machine *m)
{
    int rc = PTQ_OK;
    while (!rc && !m->done)
        rc = m->at < m->end ? step(m, *m->at++) : truncated(m);
    if (!rc && (m->n_stack != 1 || m->stack[0]->kind == PTQ_PICKLE_MARK))
        rc = refuse(m, "ends with open values");
    return rc;
}

int ptq_pickle_parse(const char *path, const unsigned char *at, int64_t n, struct ptq_arena *a,
                     const struct ptq_pickle **root, struct ptq_status *st)
{
    struct machine m = {.path = path, .at = at, .begin = at, .end = at + n, .arena = a, .st = st};
    *root = NULL;
    int rc = run(&m);
    if (!rc)
        *root = m.stack[0];
    free(m.stack);
    free(m.memo);
    return rc;
}
