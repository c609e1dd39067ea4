/* fuzz_parsers.c: every parser of untrusted bytes that is our own, fed mutated seeds. `make fuzz
 * BUILD=asan [FUZZ_SECONDS=60]`. A run is a function of its seed, which is printed; a crash or a
 * sanitizer's report is the failure. The library behind HDF5 files is not ours and not fuzzed here.
 * usage: fuzz_parsers SECONDS [SEED] */
#include "core/clock.h"
#include "core/hash.h"
#include "core/ini.h"
#include "core/rng.h"
#include "core/size.h"
#include "core/words.h"
#include "datasets/npy.h"
#include "datasets/packed.h"
#include "datasets/pickle.h"
#include "datasets/tensors.h"
#include "model/text.h"
#include "model/tok.h"
#include "quant/pack.h"
#include "sweep/row.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_BYTES = 1 << 14 };

struct input {
    const uint8_t *at;
    int64_t n;
    const char *path; /* a file that holds the same bytes */
};

static void feed_ini(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    struct ptq_ini ini;
    if (ptq_ini_parse("fuzz.ini", (const char *)in->at, (size_t)in->n, a, &ini, st) == PTQ_OK)
        ptq_ini_find(&ini, "sweep", "bits");
}

static void feed_words(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    char text[MAX_BYTES + 1];
    int64_t *list, n, bytes;
    char **fields;
    memcpy(text, in->at, (size_t)in->n);
    text[in->n] = 0;
    ptq_list_i64(text, "list", a, &list, &n, st);
    ptq_split(text, ',', "fields", a, &fields, &n, st);
    ptq_parse_bytes(text, "size", &bytes, st);
}

static void feed_npy(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    struct ptq_npy_info info;
    int64_t *ids;
    float *x;
    ptq_npy_read_i64(in->path, a, &ids, &info, st);
    ptq_npy_read_f32(in->path, a, &x, &info, st);
}

/* A checkpoint of any format; the file's size bounds what its tensors hold. */
static void feed_tensors(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    struct ptq_tensors *t;
    char key[PTQ_KEY_CHARS];
    if (ptq_tensors_open(&t, in->path, st) != PTQ_OK)
        return;
    for (int64_t i = 0; i < t->n; i++) {
        const struct ptq_tensor *x = &t->tensor[i];
        float *values = ptq_arena_alloc(a, st, x->n, sizeof *values);
        if (values && ptq_tensors_read(t, x, x->n / 3, x->n - x->n / 3, values, st) == PTQ_OK)
            ptq_tensors_read(t, x, 0, x->n / 2, values, st);
    }
    ptq_tensors_key(t, key, st);
    ptq_tensors_close(t);
}

/* The formats that know a file by its name's end, past their probe. */
static void feed_format(const struct ptq_file_format *format, const struct input *in,
                        struct ptq_arena *a, struct ptq_status *st)
{
    const struct ptq_probe probe = {.path = in->path, .bytes = in->n};
    struct ptq_tensors t = {.format = format, .path = in->path};
    ptq_arena_init(&t.arena, (size_t)64 << 20);
    if (format->open(&t, &probe, st) == PTQ_OK) {
        for (int64_t i = 0; i < t.n; i++) {
            const struct ptq_tensor *x = &t.tensor[i];
            float *values = ptq_arena_alloc(a, st, x->n, sizeof *values);
            if (values)
                ptq_tensors_read(&t, x, x->n / 3, x->n - x->n / 3, values, st);
        }
        char key[PTQ_KEY_CHARS];
        ptq_tensors_key(&t, key, st);
    }
    format->close(&t);
    json_decref(t.meta);
    ptq_arena_clear(&t.arena);
}

extern const struct ptq_file_format ptq_format_safetensors, ptq_format_torch;

static void feed_safetensors(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    feed_format(&ptq_format_safetensors, in, a, st);
}

static int by_name(const void *a, const void *b)
{
    const struct ptq_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Matrices that other programs packed, for layers of several widths. */
static void feed_packed(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    const struct ptq_probe probe = {.path = in->path, .bytes = in->n};
    struct ptq_tensors t = {.format = &ptq_format_safetensors, .path = in->path};
    struct ptq_packed_matrix m;
    ptq_arena_init(&t.arena, (size_t)64 << 20);
    if (ptq_format_safetensors.open(&t, &probe, st) == PTQ_OK && t.n) {
        qsort(t.tensor, (size_t)t.n, sizeof *t.tensor, by_name);
        for (int64_t cols = 2; cols <= 16; cols *= 2)
            ptq_packed_matrix_read(&t, "x", cols, a, &m, st);
    }
    ptq_format_safetensors.close(&t);
    json_decref(t.meta);
    ptq_arena_clear(&t.arena);
}

static void feed_torch(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    feed_format(&ptq_format_torch, in, a, st);
}

static void feed_pickle(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    const struct ptq_pickle *root;
    ptq_pickle_parse(in->path, in->at, in->n, a, &root, st);
}

typedef int tok_reader(const char *, struct ptq_arena *, struct ptq_tok_def *, struct ptq_status *);

/* Reads a definition, compiles it and encodes a text that meets all parts of it. */
static void feed_tokenizer(tok_reader *read, const struct input *in, struct ptq_arena *a,
                           struct ptq_status *st)
{
    const struct ptq_tok_model *const models[] = {&ptq_tok_bpe, &ptq_tok_spm, &ptq_tok_wordpiece,
                                                  &ptq_tok_llama2c};
    static const char text[] = "it's a  b <s> ab\n\xC3\xA9 12 ba";
    struct ptq_tok_def def;
    if (read(in->path, a, &def, st) != PTQ_OK)
        return;
    for (int i = 0; i < 4; i++) {
        struct ptq_ids ids = {0};
        void *own = NULL;
        if (models[i]->kind != def.kind)
            continue;
        if (models[i]->compile(&def, &own, st) == PTQ_OK)
            models[i]->encode(&def, own, text, sizeof text - 1, true, &ids, st);
        if (models[i]->done)
            models[i]->done(ids.call);
        models[i]->release(own);
        free(ids.at);
    }
}

static void feed_tokenizer_json(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    feed_tokenizer(ptq_tok_read_json, in, a, st);
}

static void feed_sentencepiece(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    feed_tokenizer(ptq_tok_read_spm, in, a, st);
}

static void feed_wordlist(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    feed_tokenizer(ptq_tok_read_wordlist, in, a, st);
}

/* The 256 byte tokens that llama2.c's vocabulary begins with are put before the input. */
static int read_llama2c_tokens(const char *path, struct ptq_arena *a, struct ptq_tok_def *def,
                               struct ptq_status *st)
{
    enum { FIRST = 259, ROOM = FIRST * 14 + MAX_BYTES };
    char raw[ROOM] = {0}, with[64];
    int n = 4, fd = memfd_create("tok", 0);
    FILE *f = fopen(path, "rb");
    for (int i = 0; i < FIRST; i++) {
        raw[n + 4] = 6;
        n += 8;
        n += sprintf(raw + n, "<%04X>", i);
    }
    n += f ? (int)fread(raw + n, 1, ROOM - (size_t)n, f) : 0;
    if (f)
        fclose(f);
    snprintf(with, sizeof with, "/proc/self/fd/%d", fd);
    int code = fd >= 0 && write(fd, raw, (size_t)n) == n ? ptq_tok_read_llama2c(with, a, def, st)
                                                         : PTQ_ERR_USAGE;
    close(fd);
    return code;
}

static void feed_llama2c_tokens(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    feed_tokenizer(read_llama2c_tokens, in, a, st);
}

/* Metadata of a GGUF file as the JSON that its reader makes of them. */
static void feed_gguf_tokens(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    struct ptq_tok_def def;
    void *own = NULL;
    json_t *meta = json_loadb((const char *)in->at, (size_t)in->n, JSON_ALLOW_NUL, NULL);
    if (meta && ptq_tok_read_gguf(meta, "fuzz.gguf", a, &def, st) == PTQ_OK) {
        const struct ptq_tok_model *m = def.kind == PTQ_TOK_SPM ? &ptq_tok_spm : &ptq_tok_bpe;
        m->compile(&def, &own, st);
        m->release(own);
    }
    json_decref(meta);
}

static void feed_rows(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    struct ptq_rows rows = {0};
    (void)a;
    if (ptq_rows_read_file(in->path, &rows, st) == PTQ_OK)
        for (int64_t i = 0; i < rows.n; i++)
            ptq_row_metric(rows.at[i], "ppl");
    ptq_rows_release(&rows);
}

static void feed_ids(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    const struct ptq_model_info info = {
        .name = "fuzz", .vocab_size = 300, .max_context = 64, .tokenizer = "bytes"};
    struct ptq_text text;
    char source[4200];
    snprintf(source, sizeof source, "ids:%s", in->path);
    const struct ptq_text_request ask = {.source = source, .window = 16};
    ptq_text_load(&info, &ask, a, &text, st);
}

/* A field of a head: small values as they are, others huge or negative. */
static int64_t head_value(const struct input *in, int64_t *at)
{
    static const int64_t huge[] = {
        INT64_MAX, INT64_MAX / 2, INT64_C(1) << 40, INT32_MAX, 65536, 4096, 200, -1};
    const uint8_t v = *at < in->n ? in->at[*at] : 0;
    ++*at;
    return v < 128 ? v : huge[v & 7];
}

static void head_array(const struct input *in, int64_t *at, struct ptq_arr_head *a)
{
    a->fmt = (int)head_value(in, at);
    a->bits = (int)head_value(in, at);
    a->is_signed = head_value(in, at) & 1;
    a->n = head_value(in, at);
}

static void head_part(const struct input *in, int64_t *at, struct ptq_part_head *p)
{
    int *const small[] = {&p->kind, &p->bits, &p->tree_levels};
    int64_t *const wide[] = {&p->group_cols, &p->groups_per_row, &p->dim, &p->book_len,
                             &p->book_rows,  &p->book_cols,      &p->rank};
    for (int i = 0; i < 3; i++)
        *small[i] = (int)head_value(in, at);
    for (int i = 0; i < 7; i++)
        *wide[i] = head_value(in, at);
    p->has_perm = head_value(in, at) & 1;
    for (int id = 0; id < PTQ_N_ARRS; id++)
        head_array(in, at, &p->arr[id]);
}

/* The first bytes make the head, one a field; the rest is the packed form. */
static void feed_form(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    static const float divisor[16] = {1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    struct ptq_form_head head = {0};
    struct ptq_quant q;
    int64_t at = 0, want, n;
    head.rows = head_value(in, &at);
    head.cols = head_value(in, &at);
    head.split_cols = head_value(in, &at);
    head.piece_bits = (int)head_value(in, &at);
    head_array(in, &at, &head.divisor);
    head.folds = head_value(in, &at) & 1;
    head.act_bits = (int)head_value(in, &at);
    head.act_scale = head_value(in, &at) & 1;
    head.n_parts = (int)head_value(in, &at);
    for (int k = 0; k < 2; k++)
        head_part(in, &at, &head.part[k]);
    if (at > in->n)
        return;
    struct ptq_packed packed = {in->at + at, in->n - at, divisor, head.cols};
    if (head.cols > 16)
        packed.folded = NULL;
    if (!ptq_head_check(&head).what && ptq_form_bytes(&head, &want) && want < packed.bytes)
        packed.bytes = want; /* else few inputs would come past the first check */
    if (ptq_quant_unpack(&head, &packed, a, &q, st) != PTQ_OK ||
        !ptq_size_mul(q.rows, ptq_quant_kcols(&q), &n) || n > 4096)
        return;
    float *what = ptq_arena_alloc(a, st, n, sizeof *what);
    if (what && ptq_quant_dequant(&q, what, st) == PTQ_OK &&
        ptq_quant_pack(&q, a, &packed, st) == PTQ_OK && packed.bytes != want)
        abort();
}

static const struct target {
    const char *name, *seed;
    int64_t seed_bytes;   /* of seed; 0: strlen */
    int64_t padded_bytes; /* zeros up to here follow; 0: none */
    void (*feed)(const struct input *, struct ptq_arena *, struct ptq_status *);
} targets[] = {
    {"ini",
     "[sweep]\nbits = 2-4,8 ; widths\nmethods = rtn, gptq:percdamp=0.01|0.1\n[run]\nout = "
     "${HOME}/x\n",
     0, 0, feed_ini},
    {"words", "2-4,8,-1,512M", 0, 0, feed_words},
    {"npy",
     "\x93NUMPY\1\0v\0{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }"
     "                                                          \n"
     "\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\5\0\0\0\6\0\0\0",
     152, 0, feed_npy},
    {"llama2c", "\4\0\0\0\10\0\0\0\1\0\0\0\2\0\0\0\1\0\0\0\10\0\0\0\20\0\0\0", 28, 908,
     feed_tensors},
    {"llama2c version 2",
     "24ka\2\0\0\0\10\0\0\0\10\0\0\0\1\0\0\0\2\0\0\0\1\0\0\0\10\0\0\0\20\0\0\0\1\10\0\0\0", 41,
     1024, feed_tensors},
    {"gguf",
     "GGUF\3\0\0\0\2\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0\21\0\0\0\0\0\0\0general.alignment\4\0\0"
     "\0\10\0\0\0\1\0\0\0\0\0\0\0a\11\0\0\0\10\0\0\0\2\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0x\2\0"
     "\0\0\0\0\0\0yz\1\0\0\0\0\0\0\0b\11\0\0\0\11\0\0\0\1\0\0\0\0\0\0\0\6\0\0\0\1\0\0\0\0"
     "\0\0\0\0\0\200\77\1\0\0\0\0\0\0\0t\2\0\0\0 \0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\2\0\0\0\0"
     "\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0k\1\0\0\0\0\1\0\0\0\0\0\0\14\0\0\0(\0\0\0\0\0\0\0",
     216, 400, feed_tensors},
    {"tokenizer.json, bytes",
     "{\"added_tokens\":[{\"id\":8,\"content\":\"<s>\",\"special\":true}],\"normalizer\":{\"type\":"
     "\"NFC\"},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
     "\"pattern\":{\"Regex\":\" ?[^(\\\\s|[.,]]+|\\\\p{L}+(?!\\\\S)\"},\"behavior\":\"Isolated\"},{"
     "\"type\":\"ByteLevel\",\"add_prefix_space\":true}]},\"post_processor\":{\"type\":"
     "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":"
     "\"A\"}}],\"special_tokens\":{\"<s>\":{\"ids\":[8]}}},\"model\":{\"type\":\"BPE\",\"vocab\":{"
     "\"a\":0,\"b\":1,\"ab\":2,\"\xC4\xA0\":3,\"\xC4\xA0\x61\":4,\"i\":5,\"t\":6,\"it\":7},"
     "\"merges\":[\"a b\",[\"\xC4\xA0\",\"a\"],\"i t\"]}}",
     0, 0, feed_tokenizer_json},
    {"tokenizer.json, SentencePiece",
     "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":"
     "\"\xE2\x96\x81\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":"
     "\"\xE2\x96\x81\"}]},\"model\":{\"type\":\"BPE\",\"byte_fallback\":false,\"fuse_unk\":true,"
     "\"unk_token\":\"<unk>\",\"vocab\":{\"<unk>\":0,\"<0x0A>\":1,\"a\":2,\"b\":3,\"ab\":4,"
     "\"\xE2\x96\x81\":5,\"\xE2\x96\x81\x61\":6},\"merges\":[\"a b\",\"\xE2\x96\x81 a\"]}}",
     0, 0, feed_tokenizer_json},
    {"tokenizer.json, WordPiece",
     "{\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":true},\"pre_tokenizer\":{\"type\":"
     "\"BertPreTokenizer\"},\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"b\",2],"
     "\"cls\":[\"a\",1]},\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
     "\"max_input_chars_per_word\":100,\"vocab\":{\"[UNK]\":0,\"a\":1,\"b\":2,\"##b\":3,\"it\":4}}"
     "}",
     0, 0, feed_tokenizer_json},
    {"SentencePiece",
     "\012\016\012\005<unk>\025\000\000\000\000\030\002\012\014\012\003<s>\025\000\000\000"
     "\000\030\003\012\012\012\001a\025\000\000\200\277\030\001\012\013\012\002ab\025\000"
     "\000\000\300\030\001\012\015\012\004\342\226\201a\025\000\000@\300\030\001\012\015\012"
     "\004it's\025\000\000\000\000\030\004\012\014\012\003\342\226\201\025\000\000\200\300"
     "\030\001\012\012\012\001b\025\000\000\240\300\030\001\022\005\030\002\230\002\000\032"
     "\006\030\001 \000(\001",
     126, 0, feed_sentencepiece},
    {"tok.bin",
     "\000\000\200\277\001\000\000\000 \000\000\000\300\001\000\000\000a\000\000@\300\001"
     "\000\000\000b\000\000\200\300\002\000\000\000ab\000\000\240\300\002\000\000\000 a\000"
     "\000\300\300\002\000\000\000it\000\000\340\300\001\000\000\000i\000\000\000\301\001"
     "\000\000\000t",
     75, 0, feed_llama2c_tokens},
    {"vocab.txt", "[UNK]\012[CLS]\012[SEP]\012a\012b\012##b\012it\012'\012s\012", 33, 0,
     feed_wordlist},
    {"GGUF tokens, SentencePiece",
     "{\"tokenizer.ggml.model\":\"llama\",\"tokenizer.ggml.tokens\":[\"<unk>\",\"<s>\",\"a\""
     ",\"b\",\"ab\"],\"tokenizer.ggml.scores\":[0,0,-1,-2,-3.5],\"tokenizer.ggml.token_type"
     "\":[2,3,1,1,1],\"tokenizer.ggml.bos_token_id\":1,\"tokenizer.ggml.add_bos_token\":true"
     "}",
     234, 0, feed_gguf_tokens},
    {"GGUF tokens, bytes",
     "{\"tokenizer.ggml.model\":\"gpt2\",\"tokenizer.ggml.pre\":\"smollm\",\"tokenizer.ggml."
     "tokens\":[\"a\",\"b\",\"ab\",\"<|e|>\"],\"tokenizer.ggml.merges\":[\"a b\"],\"tokenize"
     "r.ggml.token_type\":[1,1,1,3],\"tokenizer.ggml.eos_token_id\":3}",
     210, 0, feed_gguf_tokens},
    {"rows",
     "{\"schema\":1,\"kind\":\"model\",\"key\":\"a\",\"metrics\":{\"ppl\":1.5}}\n{\"schema\":1,"
     "\"key\":\"b\"}\n{\"torn",
     0, 0, feed_rows},
    {"ids", "1 2 3,4\n17 250\n\n299 0\n", 0, 0, feed_ids},
    {"pickle",
     "\200\2}q\0(\214\1m}(\214\1wctorch._utils\n_rebuild_tensor_v2\n((\214\7storagectorch"
     "\nFloatStorage\n\214\0010\214\3cpuK\6tQK\0K\2K\3\206K\1K\2\206\211ccollections\nOrd"
     "eredDict\n)RtRq\1\214\1xh\1u\214\1sJ\377\377\377\377u.",
     150, 0, feed_pickle},
    {"torch",
     "PK\3\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\n\0\0\0x/data.pkl\200\2}q\0(\214"
     "\1m}(\214\1wctorch._utils\n_rebuild_tensor_v2\n((\214\7storagectorch\nFloatStorage"
     "\n\214\0010\214\3cpuK\6tQK\0K\2K\3\206K\1K\2\206\211ccollections\nOrderedDict\n)RtR"
     "q\1\214\1xh\1u\214\1sJ\377\377\377\377u.PK\3\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
     "\0\0\0\0\10\0\0\0x/data/0\0\0\200\77\0\0\0@\0\0@@\0\0\200@\0\0\240@\0\0\300@PK\1\2"
     "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\377\377\377\377\377\377\377\377\n\0\34\0\0\0\0\0\0"
     "\0\0\0\0\0\377\377\377\377x/data.pkl\1\0\30\0\226\0\0\0\0\0\0\0\226\0\0\0\0\0\0\0\0"
     "\0\0\0\0\0\0\0PK\1\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\377\377\377\377\377\377\377"
     "\377\10\0\34\0\0\0\0\0\0\0\0\0\0\0\377\377\377\377x/data/0\1\0\30\0\30\0\0\0\0\0\0"
     "\0\30\0\0\0\0\0\0\0\276\0\0\0\0\0\0\0PK\6\6,\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
     "\2\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\246\0\0\0\0\0\0\0\374\0\0\0\0\0\0\0PK\6\7\0\0\0\0"
     "\242\1\0\0\0\0\0\0\1\0\0\0PK\5\6\0\0\0\0\2\0\2\0\377\377\377\377\377\377\377\377\0"
     "\0",
     516, 0, feed_torch},
    {"safetensors",
     "\215\0\0\0\0\0\0\0{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F16\",\""
     "shape\":[2,3],\"data_offsets\":[8,20]},\"b\":{\"dtype\":\"I64\",\"shape\":[1],\"dat"
     "a_offsets\":[0,8]}}\0\1\2\3\4\5\6\7\10\11\n\13\14\15\16\17\20\21\22\23",
     169, 0, feed_safetensors},
    {"packed, GPTQ",
     "\2\1\0\0\0\0\0\0{\"x.qweight\":{\"dtype\":\"I32\",\"shape\":[2,8],\"data_offsets\""
     ":[0,64]},\"x.qzeros\":{\"dtype\":\"I32\",\"shape\":[2,1],\"data_offsets\":[64,72]"
     "},\"x.scales\":{\"dtype\":\"F16\",\"shape\":[2,8],\"data_offsets\":[72,104]},\"x."
     "g_idx\":{\"dtype\":\"I32\",\"shape\":[16],\"data_offsets\":[104,168]}}",
     266, 434, feed_packed},
    {"packed, AWQ",
     "\301\0\0\0\0\0\0\0{\"x.qweight\":{\"dtype\":\"I32\",\"shape\":[8,1],\"data_offset"
     "s\":[0,32]},\"x.qzeros\":{\"dtype\":\"I32\",\"shape\":[2,1],\"data_offsets\":[32,"
     "40]},\"x.scales\":{\"dtype\":\"F16\",\"shape\":[2,8],\"data_offsets\":[40,72]}}",
     201, 273, feed_packed},
    {"packed, compressed-tensors",
     "\37\1\0\0\0\0\0\0{\"x.weight_shape\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offs"
     "ets\":[0,16]},\"x.weight_packed\":{\"dtype\":\"I32\",\"shape\":[8,2],\"data_offse"
     "ts\":[16,80]},\"x.weight_scale\":{\"dtype\":\"F16\",\"shape\":[8,2],\"data_offset"
     "s\":[80,112]},\"x.weight_zero_point\":{\"dtype\":\"I32\",\"shape\":[1,2],\"data_o"
     "ffsets\":[112,120]}}\10\0\0\0\0\0\0\0\20\0\0\0\0\0\0\0",
     311, 415, feed_packed},
    /* 2 x 4 weights: 3 bits with zeros and a split; then a codebook of pairs behind a tree
     * plus rank 1. Fields as feed_form reads them, arrays in the order of their ids. */
    {"form", "\2\4\6\0\0\0\0\0\0\10\0\1\0\3\0\4\2\0\0\0\0\0\0\2\0\0\4\1\2\1\4", 31, 512, feed_form},
    {"form of books",
     "\2\4\0\0\2\0\0\4\1\10\0\2\1\1\1\0\0\2\2\2\4\0\0\0\0\0\0\0\0\0\0\1\3\0\4\4\0\0\1\4\0\0"
     "\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0"
     "\0\0\0\0\0\0\0\0\0\0\2\0\0\2\2\0\0\4",
     102, 512, feed_form},
};
enum { N_TARGETS = sizeof targets / sizeof *targets };

/* A few edits of the seed: flipped bits, extreme bytes, cuts, repeats, copies from elsewhere in it.
 */
static int64_t mutate(struct ptq_rng *rng, uint8_t *at, int64_t n)
{
    static const uint8_t extreme[] = {0, 1, 0x7f, 0x80, 0xff, '\n', '[', '{', '-', '9', '"', '\\'};
    for (uint64_t edits = ptq_rng_below(rng, 8); edits > 0 && n > 0; edits--) {
        int64_t i = (int64_t)ptq_rng_below(rng, (uint64_t)n),
                len = 1 + (int64_t)ptq_rng_below(rng, 16);
        switch (ptq_rng_below(rng, 6)) {
        case 0: at[i] ^= (uint8_t)(1u << ptq_rng_below(rng, 8)); break;
        case 1: at[i] = extreme[ptq_rng_below(rng, sizeof extreme)]; break;
        case 2: n = i; break;
        case 3:
            if (n + len <= MAX_BYTES) {
                memmove(at + i + len, at + i, (size_t)(n - i));
                n += len;
            }
            break;
        case 4:
            memset(at + i, extreme[ptq_rng_below(rng, sizeof extreme)],
                   (size_t)(len < n - i ? len : n - i));
            break;
        default: at[i] = at[ptq_rng_below(rng, (uint64_t)n)];
        }
    }
    return n;
}

static int run_one(const struct target *t, struct ptq_rng *rng, int fd, const char *path)
{
    uint8_t bytes[MAX_BYTES] = {0};
    int64_t n = t->seed_bytes ? t->seed_bytes : (int64_t)strlen(t->seed);
    memcpy(bytes, t->seed, (size_t)n);
    n = mutate(rng, bytes, t->padded_bytes ? t->padded_bytes : n);
    if (ftruncate(fd, 0) || pwrite(fd, bytes, (size_t)n, 0) != n)
        return 1;
    struct ptq_arena a;
    struct ptq_status st = {0};
    const struct input in = {bytes, n, path};
    ptq_arena_init(&a, (size_t)64 << 20);
    t->feed(&in, &a, &st);
    ptq_arena_clear(&a);
    return 0;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 10;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)ptq_now_ns(), n = 0;
    struct ptq_rng rng = {seed};
    char path[64];
    int fd = memfd_create("fuzz", 0);
    if (fd < 0)
        return 1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    for (int64_t begin = ptq_now_ns(); (double)(ptq_now_ns() - begin) < seconds * 1e9; n++)
        if (run_one(&targets[n % N_TARGETS], &rng, fd, path)) {
            fprintf(stderr, "cannot write the input\n");
            return 1;
        }
    printf("%llu inputs, %d parsers, no crash\n", (unsigned long long)n, N_TARGETS);
    close(fd);
    return 0;
}
