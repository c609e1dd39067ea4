/* Torch checkpoints: files of torch.save (tests/vectors/checkpoints.py), a trained one, and
 * archives and pickles written by hand, each refused with its message. */
#include "testlib.h"
#include <sys/stat.h>
#include "datasets/tensors.h"

#define VECTORS "tests/vectors/checkpoints/"

struct fixture {
    char folder[TEST_PATH];
    struct ptq_status st;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    test_tmpdir(f->folder);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    test_rmdir(f->folder);
    free(f);
    return 0;
}

static void put(const char *folder, const char *name, const void *at, size_t n)
{
    char path[TEST_PATH];
    test_path(folder, name, path);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(at, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static struct ptq_tensors *open_ok(const char *path, struct ptq_status *st)
{
    struct ptq_tensors *t = NULL;
    assert_ok(ptq_tensors_open(&t, path, st), st);
    return t;
}

static void refused_at(struct ptq_status *st, const char *path, const char *message)
{
    struct ptq_tensors *t = NULL;
    ptq_status_clear(st);
    ptq_tensors_open(&t, path, st);
    assert_null(t);
    assert_status(st, PTQ_ERR_USAGE, message);
    assert_non_null(strstr(st->text, path)); /* the message names the file */
}

/* ---- files of torch */

/* What checkpoints.py puts into value i. */
static float value(int64_t i, int seed)
{
    return (float)((37 * i + seed) % 101 - 50) / 8;
}

/* The whole tensor, and the same again in ranges of 7. */
static const float *values_of(const struct ptq_tensors *t, const char *name, const char *type,
                              float out[256], struct ptq_status *st)
{
    float part[7];
    const struct ptq_tensor *x = ptq_tensors_find(t, name);
    assert_non_null(x);
    assert_string_equal(x->type, type);
    assert_true(x->n <= 256);
    assert_ok(ptq_tensors_read(t, x, 0, x->n, out, st), st);
    for (int64_t i = 0; i < x->n; i += 7) {
        int64_t n = x->n - i < 7 ? x->n - i : 7;
        assert_ok(ptq_tensors_read(t, x, i, n, part, st), st);
        assert_memory_equal(part, out + i, (size_t)n * sizeof *part);
    }
    return out;
}

static void types_of_torch(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *name, *type;
        int64_t n;
        int seed;
        float times, plus;
    } c[] = {{"f64", "torch.float64", 15, 1, 1, 0}, {"f32", "torch.float32", 15, 1, 1, 0},
             {"f16", "torch.float16", 15, 1, 1, 0}, {"bf16", "torch.bfloat16", 15, 1, 1, 0},
             {"i64", "torch.int64", 12, 2, 8, 0},   {"i32", "torch.int32", 12, 2, 8, 0},
             {"i16", "torch.int16", 12, 2, 8, 0},   {"i8", "torch.int8", 12, 2, 8, 0},
             {"u8", "torch.uint8", 7, 3, 8, 50},    {"scalar", "torch.float64", 1, 5, 1, 0}};
    struct ptq_tensors *t = open_ok(VECTORS "views.pt", &f->st);
    float v[256];
    assert_int_equal(t->n, 11 + 9); /* plain and views of the script */
    assert_int_equal(t->dialect, PTQ_HUGGINGFACE);
    for (int64_t i = 0; i < LENGTH(c); i++) {
        values_of(t, c[i].name, c[i].type, v, &f->st);
        assert_int_equal(ptq_tensors_find(t, c[i].name)->n, c[i].n);
        for (int64_t k = 0; k < c[i].n; k++)
            assert_true(v[k] == value(k, c[i].seed) * c[i].times + c[i].plus);
    }
    values_of(t, "bool", "torch.bool", v, &f->st);
    for (int k = 0; k < 6; k++)
        assert_true(v[k] == (value(k, 4) > 0));
    assert_int_equal(ptq_tensors_find(t, "scalar")->rank, 0);
    char *meta = json_dumps(t->meta, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(meta, "{\"config\":{\"n_heads\":4,\"rope\":[1.5,null,true]},\"step\":-7}");
    free(meta);
    ptq_tensors_close(t);
}

static void strides(void **state)
{
    struct fixture *f = *state;
    struct ptq_tensors *t = open_ok(VECTORS "views.pt", &f->st);
    float v[256];
    /* base is 11 x 13 */
    values_of(t, "base", "torch.float32", v, &f->st);
    for (int i = 0; i < 143; i++)
        assert_true(v[i] == value(i, 6));
    values_of(t, "tied", "torch.float32", v, &f->st);
    assert_true(v[142] == value(142, 6));
    values_of(t, "transposed", "torch.float32", v, &f->st);
    assert_int_equal(ptq_tensors_find(t, "transposed")->dim[0], 13);
    for (int i = 0; i < 13; i++)
        for (int k = 0; k < 11; k++)
            assert_true(v[i * 11 + k] == value(k * 13 + i, 6));
    values_of(t, "slice", "torch.float32", v, &f->st);
    for (int i = 0; i < 7; i++)
        for (int k = 0; k < 8; k++)
            assert_true(v[i * 8 + k] == value((i + 2) * 13 + k + 3, 6));
    values_of(t, "transposed_slice", "torch.float32", v, &f->st);
    for (int i = 0; i < 8; i++)
        for (int k = 0; k < 7; k++)
            assert_true(v[i * 7 + k] == value((k + 2) * 13 + i + 3, 6));
    values_of(t, "column", "torch.float32", v, &f->st);
    for (int i = 0; i < 11; i++)
        assert_true(v[i] == value(i * 13 + 4, 6));
    values_of(t, "expanded", "torch.float32", v, &f->st);
    for (int i = 0; i < 39; i++)
        assert_true(v[i] == value(13 + i % 13, 6));
    values_of(t, "parameter", "torch.float16", v, &f->st);
    for (int i = 0; i < 16; i++)
        assert_true(v[i] == value(i, 7));
    values_of(t, "swapped", "torch.bfloat16", v, &f->st); /* (2,3,4) as (3,2,4) */
    for (int i = 0; i < 24; i++)
        assert_true(v[i] == value(i / 4 % 2 * 12 + i / 8 * 4 + i % 4, 8));
    ptq_tensors_close(t);
}

/* The stored bytes of a strided tensor are those of its row-major copy, in pieces of any size. */
static void stored_bytes(void **state)
{
    struct fixture *f = *state;
    struct ptq_tensors *t = open_ok(VECTORS "views.pt", &f->st);
    const struct ptq_tensor *x = ptq_tensors_find(t, "transposed");
    float v[256];
    char bytes[256 * 4];
    values_of(t, "transposed", "torch.float32", v, &f->st);
    const int64_t n = t->format->n_bytes(x);
    assert_int_equal(n, 4 * 143);
    for (int64_t piece = 1; piece < n; piece = piece * 2 + 1) {
        memset(bytes, 0, sizeof bytes);
        for (int64_t at = 0; at < n; at += piece)
            assert_ok(
                t->format->bytes(t, x, at, n - at < piece ? n - at : piece, bytes + at, &f->st),
                &f->st);
        assert_memory_equal(bytes, v, (size_t)n);
    }
    ptq_tensors_close(t);
}

static void other_files_of_torch(void **state)
{
    struct fixture *f = *state;
    float v[256];
    struct ptq_tensors *t = open_ok(VECTORS "protocol5.pt", &f->st);
    assert_int_equal(t->n, 2);
    values_of(t, "f32", "torch.float32", v, &f->st);
    assert_true(v[14] == value(14, 1));
    ptq_tensors_close(t);
    refused_at(&f->st, VECTORS "legacy.pt",
               "an old torch file (before 1.6), which is one long pickle; convert it: "
               "torch.save(torch.load(OLD, weights_only=True), NEW)");
    refused_at(&f->st, VECTORS "module.pt",
               "its pickle calls torch.nn.modules.linear.Linear; only tensors in dicts are read "
               "and nothing is executed: save model.state_dict() with torch.save, or as "
               "safetensors");
}

/* Names, shapes and values as torch.load gives them (torch 2.15.0). */
static void trained_checkpoint(void **state)
{
    struct fixture *f = *state;
    TEST_SHARED_OR_SKIP(path, "data/models/atome-1m/vanilla_1m_v1.pt");
    static const struct {
        const char *name;
        int64_t dim[2], at;
        float value;
    } c[] = {
        {"tok_embed.weight", {256, 152}, 38911, -0x1.dd6ae20000000p-5f},
        {"pos_embed.weight", {256, 152}, 153, 0x1.0c3c3e0000000p-1f},
        {"blocks.0.norm1.weight", {152, 0}, 7, 0x1.4ae15a0000000p-1f},
        {"blocks.1.attn.qkv.weight", {456, 152}, 69311, -0x1.e70cbc0000000p-7f},
        {"blocks.2.ffn.up.weight", {608, 152}, 12345, 0x1.7d9bea0000000p-7f},
        {"blocks.2.ffn.down.weight", {152, 608}, 92415, -0x1.e0eec60000000p-6f},
        {"norm_final.bias", {152, 0}, 151, 0x1.dbec4e0000000p-4f},
        {"unembed.weight", {256, 152}, 20000, 0x1.dd9ef60000000p-5f},
    };
    struct ptq_tensors *t = open_ok(path, &f->st);
    assert_int_equal(t->n, 29);
    for (int64_t i = 0; i < LENGTH(c); i++) {
        float v;
        const struct ptq_tensor *x = ptq_tensors_find(t, c[i].name);
        assert_non_null(x);
        assert_string_equal(x->type, "torch.float32");
        assert_int_equal(x->rank, c[i].dim[1] ? 2 : 1);
        assert_memory_equal(x->dim, c[i].dim, (size_t)x->rank * sizeof *x->dim);
        assert_ok(ptq_tensors_read(t, x, c[i].at, 1, &v, &f->st), &f->st);
        assert_true(v == c[i].value);
    }
    const json_t *config = json_object_get(t->meta, "config");
    assert_int_equal(json_integer_value(json_object_get(config, "n_heads")), 4);
    assert_int_equal(json_integer_value(json_object_get(config, "max_seq")), 256);
    ptq_tensors_close(t);
}

/* ---- archives by hand */

struct bytes {
    unsigned char *at;
    size_t n, room;
};

static void add(struct bytes *b, const void *at, size_t n)
{
    if (b->n + n > b->room) {
        b->room = 2 * (b->n + n);
        b->at = realloc(b->at, b->room);
        assert_non_null(b->at);
    }
    memcpy(b->at + b->n, at, n);
    b->n += n;
}

static void number(struct bytes *b, uint64_t v, size_t bytes)
{
    add(b, &v, bytes); /* little-endian, as the machines that run this */
}

static void zeros(struct bytes *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        number(b, 0, 1);
}

struct entry {
    const char *name;
    const void *at;
    size_t n;
    /* Lies of the directory; 0: none. */
    uint16_t method, flags;
    uint64_t more;     /* added to the size */
    uint64_t packed;   /* added to the packed size alone */
    const char *local; /* the name in the local header */
    uint32_t place;    /* of the local header, + 1 */
};
enum { ZIP64 = 1, NO_END = 2, LONG_DIRECTORY = 4, TWO_ENDS = 8, TAIL = 16 };

static void add_local(struct bytes *z, const struct entry *e)
{
    const char *name = e->local ? e->local : e->name;
    number(z, 0x04034b50, 4);
    zeros(z, 22); /* sizes too: the directory's count */
    number(z, strlen(name), 2);
    number(z, 6, 2);
    add(z, name, strlen(name));
    add(z, "FB\2\0ZZ", 6); /* torch pads with such a field */
    add(z, e->at, e->n);
}

static void add_record(struct bytes *d, const struct entry *e, size_t head, bool wide)
{
    const uint64_t size = e->n + e->more, place = e->place ? e->place - 1 : head;
    number(d, 0x02014b50, 4);
    zeros(d, 4);
    number(d, e->flags, 2);
    number(d, e->method, 2);
    zeros(d, 8);
    number(d, wide ? 0xffffffff : size + e->packed, 4);
    number(d, wide ? 0xffffffff : size, 4);
    number(d, strlen(e->name), 2);
    number(d, wide ? 32 : 0, 2);
    zeros(d, 10);
    number(d, wide ? 0xffffffff : place, 4);
    add(d, e->name, strlen(e->name));
    if (!wide)
        return;
    number(d, 0x00007777, 4); /* an empty field of another kind comes first */
    number(d, 0x00180001, 4);
    number(d, size, 8);
    number(d, size + e->packed, 8);
    number(d, place, 8);
}

/* ZIP64: sizes and places stand in the extra field and the wide end record, as in files over 4 GB.
 */
static void add_end(struct bytes *z, size_t at, size_t bytes, uint64_t n, int flags)
{
    const bool wide = flags & ZIP64;
    if (wide) {
        const size_t end64 = z->n;
        number(z, 0x06064b50, 4);
        number(z, 44, 8);
        zeros(z, 12);
        number(z, n, 8);
        number(z, n, 8);
        number(z, bytes, 8);
        number(z, at, 8);
        number(z, 0x07064b50, 8);
        number(z, end64, 8);
        number(z, 1, 4);
    }
    number(z, 0x06054b50, 8);
    number(z, n, 2);
    number(z, flags & TWO_ENDS ? n - 1 : n, 2);
    number(z, wide ? 0xffffffff : bytes + (flags & LONG_DIRECTORY ? 1000 : 0), 4);
    number(z, wide ? 0xffffffff : at, 4);
    number(z, 0, 2);
}

static void put_zip(const char *folder, const char *name, const struct entry *e, int n, int flags)
{
    struct bytes z = {0}, d = {0};
    for (int i = 0; i < n; i++) {
        const size_t head = z.n;
        add_local(&z, &e[i]);
        add_record(&d, &e[i], head, flags & ZIP64);
    }
    const size_t at = z.n;
    add(&z, d.at, d.n);
    if (!(flags & NO_END))
        add_end(&z, at, d.n, (uint64_t)n, flags);
    zeros(&z, flags & TAIL ? 3 : 0);
    put(folder, name, z.at, z.n);
    free(z.at);
    free(d.at);
}

/* ---- pickles by hand */

#define T(length, text) "\x8c" length text
#define STORAGE(class, elements)                                                                   \
    "(" T("\7", "storage") "ctorch\n" class "\n" T("\1", "0") T("\3", "cpu") elements "tQ"
#define FLOATS STORAGE("FloatStorage", "K\6")
#define REBUILD(storage, offset, size, stride)                                                     \
    "ctorch._utils\n_rebuild_tensor_v2\n(" storage offset size stride "\x89"                       \
    "ccollections\nOrderedDict\n)RtR"
#define TENSOR      REBUILD(FLOATS, "K\0", "K\2K\3\x86", "K\3K\1\x86")
#define DICT(items) "\x80\2}(" items "u."

static const float six[6] = {1, -2, 3.5f, 1e-30f, 0, 6};

static void put_pickle(const char *folder, const void *pickle, size_t n)
{
    const struct entry e[] = {{"x/data.pkl", pickle, n},
                              {"x/byteorder", "little", 6},
                              {"x/data/0", six, sizeof six},
                              {"x/version", "3\n", 2}};
    put_zip(folder, "x.pt", e, LENGTH(e), 0);
}

static void refused(struct fixture *f, const char *message)
{
    char path[TEST_PATH];
    test_path(f->folder, "x.pt", path);
    refused_at(&f->st, path, message);
}

/* The builders make good files, so a refusal below is of the one thing that is wrong. */
static void files_by_hand(void **state)
{
    struct fixture *f = *state;
    static const char good[] = DICT(T("\1", "w") TENSOR);
    char path[TEST_PATH], key[2][33];
    float v[256];
    test_path(f->folder, "x.pt", path);
    for (int wide = 0; wide < 2; wide++) {
        const struct entry e[] = {{"x/data.pkl", good, sizeof good - 1},
                                  {"x/data/0", six, sizeof six}};
        put_zip(f->folder, "x.pt", e, 2, wide ? ZIP64 : 0);
        struct ptq_tensors *t = open_ok(path, &f->st);
        assert_int_equal(t->n, 1);
        assert_int_equal(t->tensor[0].dim[1], 3);
        assert_memory_equal(values_of(t, "w", "torch.float32", v, &f->st), six, sizeof six);
        assert_ok(ptq_tensors_key(t, key[wide], &f->st), &f->st);
        ptq_tensors_close(t);
    }
    assert_string_equal(key[0], key[1]);
}

#define P(text) text, sizeof text - 1

static void pickles_that_call(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *pickle;
        size_t n;
        const char *message;
    } c[] = {
        {P("\x80\2cos\nsystem\n" T("\6", "touch ") "\x85R."),
         "x.pt: refused: at byte 13 its pickle calls os.system; only tensors in dicts are read and "
         "nothing is executed: save model.state_dict() with torch.save, or as safetensors"},
        {P("\x80\4" T("\5", "posix") T("\6", "system") "\x93)R."),
         "its pickle calls posix.system;"},
        {P("\x80\2"
           "c__builtin__\neval\n" T("\1", "1") "\x85R."),
         "calls __builtin__.eval;"},
        {P("\x80\2"
           "ctorch.storage\n_load_from_bytes\n)R."),
         "calls torch.storage._load_from_bytes;"},
        {P("\x80\2"
           "ctorch._utils\n_rebuild_tensor\n)R."),
         "calls torch._utils._rebuild_tensor;"},
        {P("\x80\2"
           "ctorch\nFloatStorage\n)R."),
         "calls torch.FloatStorage;"},
        {P("\x80\2(ios\nsystem\n."), "uses opcode 0x69 'i';"},
        {P("\x80\2(oN."), "uses opcode 0x6f 'o';"},
        {P("\x80\2))\x81."), "uses opcode 0x81;"},
        {P("\x80\2\x82\1."), "uses opcode 0x82;"},
        {P("\x80\2Pid\n."), "uses opcode 0x50 'P';"},
        {P("\x80\2S'text'\n."), "uses opcode 0x53 'S';"},
        {P("\x80\2"
           "ccollections\nOrderedDict\n]\x85R."),
         "makes an OrderedDict of arguments;"},
    };
    for (int64_t i = 0; i < LENGTH(c); i++) {
        put_pickle(f->folder, c[i].pickle, c[i].n);
        refused(f, c[i].message);
    }
}

static void pickles_that_are_broken(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *pickle;
        size_t n;
        const char *message;
    } c[] = {
        {P(""), "its pickle ends at byte 0 in the middle: truncated; get it again"},
        {P("\x80\2}"), "its pickle ends at byte 3 in the middle: truncated"},
        {P("\x80\2X\xff\xff\xff\xff"
           "abc."),
         "in the middle: truncated"},
        {P("\x80\2\x8d\xff\xff\xff\xff\xff\xff\xff\xff"
           "abc."),
         "in the middle: truncated"},
        {P("\x80\2G\0\0"), "in the middle: truncated"},
        {P("\x80\4\x95\xff\0\0\0\0\0\0\0}."), "in the middle: truncated"},
        {P("\x80\2"
           "ctorch"),
         "in the middle: truncated"},
        {P("\x80\1}."), "is of an unknown protocol (2 to 5 are known)"},
        {P("\x80\2."), "ends with open values"},
        {P("\x80\2NN."), "ends with open values"},
        {P("\x80\2(."), "ends with open values"},
        {P("\x80\2\x85."), "takes a value from an empty stack"},
        {P("\x80\2(a."), "takes a value from an empty stack"},
        {P("\x80\2](a."), "takes a value from an empty stack"},
        {P("\x80\2Nt."), "closes what it never opened"},
        {P("\x80\2NNa."), "appends to something else than a list"},
        {P("\x80\2]NNs."), "sets items of something else than a dict"},
        {P("\x80\2}(Nu."), "sets items of something else than a dict"},
        {P("\x80\2])b."), "sets attributes of something else than a dict"},
        {P("\x80\2Nq\1."), "numbers its values out of order"},
        {P("\x80\2Nr\xff\xff\xff\x7f."), "numbers its values out of order"},
        {P("\x80\2h\0."), "refers to no value"},
        {P("\x80\2\x8a\x09"
           "123456789."),
         "holds a number of more than 64 bits"},
        {P("\x80\2" T("\2", "\xff\xff") "."), "holds a text that is no UTF-8"},
        {P("\x80\2" T("\1", "\0") "."), "holds a text that is no UTF-8"},
        {P("\x80\2)R."), "takes a value from an empty stack"},
        {P("\x80\2N)R."), "has a value of another kind than its opcode needs"},
        {P("\x80\2" T("\1", "0") "\x85Q."), "refers to something that is no storage"},
        {P("\x80\2"
           "ctorch._utils\n_rebuild_tensor_v2\n(" FLOATS "K\0)tR."),
         "makes a tensor of something else than a storage, offset, size and stride"},
        {P("\x80\2(" T("\6", "module") "ctorch\nFloatStorage\n" T("\1", "0")
               T("\3", "cpu") "K\6tQ."),
         "refers to something that is no storage"},
        {P("\x80\2(" T("\7", "storage") "ctorch\nFloatStorage\n" T("\1", "0")
               T("\3", "cpu") "K\6NtQ."),
         "refers to something that is no storage"},
        {P("\x80\2"
           "ctorch._utils\n_rebuild_tensor_v2\n(" FLOATS "K\0))NtR."),
         "makes a tensor of something else than a storage, offset, size and stride"},
        {P("\x80\2"
           "ctorch._utils\n_rebuild_tensor_v2\n(NK\0))NNtR."),
         "makes a tensor of something else than a storage, offset, size and stride"},
        {P("\x80\2"
           "ctorch._utils\n_rebuild_parameter\nN\x89N\x87R."),
         "makes a parameter of something else than a tensor"},
    };
    for (int64_t i = 0; i < LENGTH(c); i++) {
        put_pickle(f->folder, c[i].pickle, c[i].n);
        refused(f, c[i].message);
    }
}

static void tensors_that_do_not_fit(void **state)
{
    struct fixture *f = *state;
#define ONE(storage, offset, size, stride)                                                         \
    P(DICT(T("\1", "w") REBUILD(storage, offset, size, stride)))
#define HUGE_INT "\x8a\x08\0\0\0\0\0\0\0\x40" /* 2^62 */
    static const struct {
        const char *pickle;
        size_t n;
        const char *message;
    } c[] = {
        {ONE(STORAGE("FloatStorage", "K\7"), "K\0", "K\6\x85", "K\1\x85"),
         "tensor w: 7 values of torch.float32 are announced, zip entry data/0 has 24 bytes; get "
         "the file again"},
        {ONE(STORAGE("FloatStorage", HUGE_INT), "K\0", "K\6\x85", "K\1\x85"),
         "tensor w: 4611686018427387904 values of torch.float32 are announced"},
        {ONE(STORAGE("FloatStorage", "J\xff\xff\xff\xff"), "K\0", "K\6\x85", "K\1\x85"),
         "tensor w: -1 values of torch.float32 are announced"},
        {ONE("(" T("\7", "storage") "ctorch\nHalfStorage\n" T("\1", "7") T("\3", "cpu") "K\6tQ",
             "K\0", "K\6\x85", "K\1\x85"),
         "tensor w: its values, zip entry data/7, are missing; get the file again"},
        {ONE("(" T("\7", "storage") "ccollections\nOrderedDict\n" T("\1", "0")
                 T("\3", "cpu") "K\6tQ",
             "K\0", "K\6\x85", "K\1\x85"),
         "tensor w: its storage is of no known class"},
        {ONE(FLOATS, "K\1", "K\2K\3\x86", "K\3K\1\x86"), "tensor w: it reaches beyond its storage"},
        {ONE(FLOATS, "K\0", "K\2K\3\x86", "K\4K\1\x86"), "tensor w: it reaches beyond its storage"},
        {ONE(FLOATS, "J\xff\xff\xff\xff", "K\2\x85", "K\1\x85"),
         "tensor w: it reaches beyond its storage"},
        {ONE(FLOATS, "K\7", "K\0\x85", "K\1\x85"), "tensor w: it reaches beyond its storage"},
        {ONE(FLOATS, "K\0", HUGE_INT HUGE_INT "\x86", "K\0K\0\x86"),
         "tensor w: it reaches beyond its storage"},
        {ONE(FLOATS, "K\0", "K\2\x85", HUGE_INT "\x85"), "tensor w: it reaches beyond its storage"},
        {ONE(FLOATS, "K\0", "(K\1K\1K\1K\1K\1t", "(K\1K\1K\1K\1K\1t"),
         "tensor w: its size and stride are not of 0 to 4 axes"},
        {ONE(FLOATS, "K\0", "J\xff\xff\xff\xff\x85", "K\1\x85"),
         "tensor w: its size and stride are not of 0 to 4 axes"},
        {ONE(FLOATS, "K\0", "K\2K\3\x86", "K\1\x85"),
         "tensor w: its size and stride are not of 0 to 4 axes"},
        {ONE(FLOATS, "K\0", "N\x85", "K\1\x85"),
         "tensor w: its size and stride are not of 0 to 4 axes"},
        {ONE(FLOATS, "J\xff\xff\xff\xff", "K\0\x85", "K\1\x85"),
         "tensor w: it reaches beyond its storage"},
        {ONE(FLOATS, "K\0", "K\2K\6\x86", "K\0K\1\x86"),
         "tensor w: refused: it repeats what its storage holds"},
        {ONE(FLOATS, "K\0", "K\2K\2\x86", "K\3K\2\x86"),
         "tensor w: its axes are stored in an order that is not read"},
        {ONE(FLOATS, "K\0", "K\3\x85", "K\2\x85"),
         "tensor w: its axes are stored in an order that is not read; save it after .contiguous()"},
        {ONE(FLOATS, "K\0", HUGE_INT "\x85", "K\0\x85"), "tensor w: it reaches beyond"},
        {ONE(FLOATS, "K\0", "J\0\0\0\x40K\1\x86", "K\0K\1\x86"),
         "tensor w: refused: it repeats what its storage holds; save it after .clone()"},
        {P(DICT("K\1" TENSOR)), "a tensor's name is no text"},
        {P(DICT(T("\1", "w") TENSOR T("\1", "w") TENSOR)), "tensor w is there twice"},
        {P("\x80\2" TENSOR "."), "holds no dict of tensors; save model.state_dict()"},
        {P(DICT(T("\1", "w") "K\1")), "holds no dict of tensors"},
        {P(DICT(T("\1", "a") "}(" T("\1", "w") TENSOR "u" T("\1", "b") "}(" T("\1", "w") TENSOR
                "u")),
         "holds several dicts of tensors and none is called state_dict or model; save "
         "model.state_dict() alone"},
    };
    for (int64_t i = 0; i < LENGTH(c); i++) {
        put_pickle(f->folder, c[i].pickle, c[i].n);
        refused(f, c[i].message);
    }
}

/* Of several dicts of tensors the one that is called so. */
static void the_dict_of_tensors(void **state)
{
    struct fixture *f = *state;
    static const char pickle[] =
        DICT(T("\x03", "ema") "}(" T("\1", "e") TENSOR "u" T("\5", "model") "}(" T("\1", "m")
                 TENSOR T("\1", "n") "K\1u" T("\4", "opti") "}(" T("\5", "state") "}(" T("\1", "o")
                     TENSOR "uu" T("\4", "step") "K\7");
    char path[TEST_PATH];
    put_pickle(f->folder, pickle, sizeof pickle - 1);
    test_path(f->folder, "x.pt", path);
    struct ptq_tensors *t = open_ok(path, &f->st);
    assert_int_equal(t->n, 1);
    assert_string_equal(t->tensor[0].name, "m");
    char *meta = json_dumps(t->meta, JSON_COMPACT);
    assert_string_equal(meta, "{\"step\":7}"); /* nothing of the dicts of tensors */
    free(meta);
    ptq_tensors_close(t);
}

/* ---- small pickles that would be large trees */

static void put_built(struct fixture *f, struct bytes *b)
{
    put_pickle(f->folder, b->at, b->n);
    free(b->at);
    *b = (struct bytes){0};
}

static void add_times(struct bytes *b, const char *text, int times)
{
    for (int i = 0; i < times; i++)
        add(b, text, strlen(text));
}

static void bombs(void **state)
{
    struct fixture *f = *state;
    struct bytes b = {0};
    /* a dict that holds itself */
    put_pickle(f->folder, P("\x80\2}q\0" T("\1", "a") "h\0s."));
    refused(f, "holds no dict of tensors");
    /* dicts of 1000 times the one before: 10^9 when walked (they lie in a tuple, out of the way) */
    add(&b, P("\x80\2}(N(}q\0"));
    for (unsigned char level = 0; level < 3; level++) {
        const unsigned char get[] = {'N', 'h', level}, put_next[] = {'u', 'q', level + 1};
        add(&b, P("}("));
        for (int i = 0; i < 1000; i++)
            add(&b, get, sizeof get);
        add(&b, put_next, sizeof put_next);
    }
    add(&b, P("tNh\3u."));
    put_built(f, &b);
    refused(f, "refused: its dicts are too many; save model.state_dict() alone");
    /* more open values than any writer has */
    add(&b, P("\x80\2"));
    add_times(&b, "NNNNNNNNNNNNNNNN", (1 << 16) + 1);
    put_built(f, &b);
    refused(f, "has too many open values");
    /* lists in lists, 500,000 deep, beside a tensor: the tree is walked to a depth */
    add(&b, P("\x80\2}(" T("\1", "x")));
    add_times(&b, "]", 500000);
    add_times(&b, "a", 499999);
    add(&b, P(T("\1", "w") TENSOR "u."));
    put_built(f, &b);
    char path[TEST_PATH];
    test_path(f->folder, "x.pt", path);
    ptq_tensors_close(open_ok(path, &f->st));
}

/* Each tensor fits its storage, all together would be read 26 times. */
static void shared_storage(void **state)
{
    struct fixture *f = *state;
    static float many[5000];
    struct bytes b = {0};
    add(&b, P("\x80\2}(" T("\1", "a") REBUILD(STORAGE("FloatStorage", "M\x88\x13"), "K\0",
                                              "M\x88\x13\x85", "K\1\x85")));
    for (char c = 'b'; c <= 'z'; c++) {
        const char key[] = {'\x8c', 1, c};
        add(&b, key, sizeof key);
        add(&b,
            P(REBUILD(STORAGE("FloatStorage", "M\x88\x13"), "K\0", "M\x88\x13\x85", "K\1\x85")));
    }
    add(&b, P("u."));
    const struct entry e[] = {{"x/data.pkl", b.at, b.n}, {"x/data/0", many, sizeof many}};
    put_zip(f->folder, "x.pt", e, 2, 0);
    free(b.at);
    refused(f, "refused: it repeats what its storage holds");
}

/* 2^16 tensors that share one size of 2^21 axes, as tuple: 2^37 when counted. */
static void shared_tuple(void **state)
{
    struct fixture *f = *state;
    struct bytes b = {0};
    add(&b, P("\x80\2}(N("));
    add_times(&b, "N", 1 << 17);
    add(&b, P("tq\0"));
    add(&b, P("N" FLOATS "q\1N"
              "ctorch._utils\n_rebuild_tensor_v2\nq\2"));
    for (int i = 0; i < 1 << 16; i++)
        add(&b, P("Nh\2(h\1K\0h\0h\0NNtR"));
    add(&b, P("u."));
    put_built(f, &b);
    refused(f, "a tensor's name is no text");
}

/* ---- archives that must be refused */

static void archives(void **state)
{
    struct fixture *f = *state;
    static const char good[] = DICT(T("\1", "w") TENSOR);
#define PICKLE                                                                                     \
    {                                                                                              \
        "x/data.pkl", good, sizeof good - 1                                                        \
    }
#define VALUES                                                                                     \
    {                                                                                              \
        "x/data/0", six, sizeof six                                                                \
    }
    static const struct {
        struct entry e[3];
        int n, flags;
        const char *message;
    } c[] = {
        {{PICKLE, VALUES},
         2,
         NO_END,
         "its zip directory cannot be used: it has no end record: "
         "truncated; get it again"},
        {{PICKLE, VALUES}, 2, TAIL, "its zip directory cannot be used: it has no end record"},
        {{PICKLE, VALUES}, 2, LONG_DIRECTORY, "its size and place do not fit the file"},
        {{PICKLE, VALUES}, 2, ZIP64 | TWO_ENDS, "its two end records differ"},
        {{PICKLE, VALUES}, 2, TWO_ENDS, "it holds more than its records"},
        {{PICKLE, {"x/data/0", six, 24, .method = 8}},
         2,
         0,
         "zip entry x/data/0 is compressed; torch stores entries as they are: save it again with "
         "torch.save"},
        {{PICKLE, {"x/data/0", six, 24, .flags = 1}}, 2, 0, "zip entry x/data/0 is encrypted"},
        {{PICKLE, {"x/data/0", six, 24, .more = 1}},
         2,
         0,
         "zip entry x/data/0 lies outside of the file; get it again"},
        {{PICKLE, {"x/data/0", six, 24, .more = 1u << 31}},
         2,
         0,
         "zip entry x/data/0 lies outside of the file; get it again"},
        {{PICKLE, {"x/data/0", six, 24, .packed = 1}},
         2,
         0,
         "zip entry x/data/0 lies outside of the file; get it again"},
        {{PICKLE, {"x/data/0", six, 24, .more = UINT64_C(1) << 63}},
         2,
         ZIP64,
         "zip entry x/data/0 lies outside of the file; get it again"},
        {{PICKLE, {"x/data/0", six, 24, .more = 100}},
         2,
         ZIP64,
         "zip entry x/data/0 lies outside of the file; get it again"},
        {{{"x/data.pkl", good, sizeof good - 1, .more = 10}, VALUES},
         2,
         0,
         "zip entry x/data/0 overlaps another one"},
        {{PICKLE, {"x/data/0", six, 24, .place = 1u << 30}}, 2, 0, "lies outside of the file"},
        {{PICKLE, {"x/data/0", six, 24, .place = 2}},
         2,
         0,
         "zip entry x/data/0 has another local header; get the file again"},
        {{PICKLE, {"x/data/0", six, 24, .local = "x/data/1"}},
         2,
         0,
         "zip entry x/data/0 has another local header; get the file again"},
        {{PICKLE, VALUES, VALUES}, 3, 0, "zip entry x/data/0 is there twice; get the file again"},
        {{VALUES}, 1, 0, "a zip, but no checkpoint of torch.save: it has no data.pkl"},
        {{PICKLE, VALUES, {"x/byteorder", "big", 3}},
         3,
         0,
         "its values are not little-endian; save it on another machine"},
        {{PICKLE, {"y/data/0", six, 24}},
         2,
         0,
         "tensor w: its values, zip entry data/0, are "
         "missing"},
        {{PICKLE, {"x/data/0", six, 20}},
         2,
         0,
         "tensor w: 6 values of torch.float32 are announced, zip entry data/0 has 20 bytes"},
    };
    for (int64_t i = 0; i < LENGTH(c); i++) {
        put_zip(f->folder, "x.pt", c[i].e, c[i].n, c[i].flags);
        refused(f, c[i].message);
    }
    put(f->folder, "x.pt", "PK\3\4", 4);
    refused(f, "it has no end record: truncated");
    put(f->folder, "x.pt", "hello", 5); /* any .pt: no torch file */
    refused(f, "no known kind of checkpoint; known: ");
}

/* ---- folders */

static void folders(void **state)
{
    struct fixture *f = *state;
    static const char a[] = DICT(T("\1", "a") TENSOR), b[] = DICT(T("\1", "b") TENSOR),
                      both[] = DICT(T("\1", "a") TENSOR T("\1", "b") TENSOR);
    static const char index[] = "{\"weight_map\":{\"a\":\"m-1.bin\",\"b\":\"m-2.bin\"}}";
    const struct entry values = VALUES, one[] = {{"x/data.pkl", P(a)}, values},
                       two[] = {{"x/data.pkl", P(b)}, values},
                       all[] = {{"x/data.pkl", P(both)}, values};
    char key[2][33];
    put(f->folder, "config.json", P("{\"model_type\":\"opt\"}"));
    put(f->folder, "pytorch_model.bin.index.json", P(index));
    put_zip(f->folder, "m-1.bin", one, 2, 0);
    refused_at(&f->st, f->folder, "names the shard m-2.bin, which is missing; get it again");
    put_zip(f->folder, "m-2.bin", one, 2, 0);
    refused_at(&f->st, f->folder, "places tensor a in m-1.bin, but m-2.bin holds one too");
    put_zip(f->folder, "m-2.bin", two, 2, 0);
    for (int i = 0; i < 2; i++) {
        struct ptq_tensors *t = open_ok(f->folder, &f->st);
        assert_int_equal(t->n, 2);
        assert_string_equal(json_string_value(json_object_get(t->meta, "model_type")), "opt");
        assert_ok(ptq_tensors_key(t, key[i], &f->st), &f->st);
        ptq_tensors_close(t);
        put_zip(f->folder, "pytorch_model.bin", all, 2, 0);
    }
    assert_string_equal(key[0], key[1]);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(types_of_torch),
        TEST(strides),
        TEST(stored_bytes),
        TEST(other_files_of_torch),
        TEST(trained_checkpoint),
        TEST(files_by_hand),
        TEST(pickles_that_call),
        TEST(pickles_that_are_broken),
        TEST(tensors_that_do_not_fit),
        TEST(the_dict_of_tensors),
        TEST(bombs),
        TEST(shared_storage),
        TEST(shared_tuple),
        TEST(archives),
        TEST(folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
