/* SentencePiece BPE against sentencepiece (scores of a tokenizer.model, GGUF) and against the
 * `tokenizers` library (ranks of a tokenizer.json) over tests/vectors/tok_spm/; llama2.c's against
 * its rule done the slow way; damaged and unsupported files. */
#include "model/tok.h"
#include "tok_vectors.h"

/* ---- ids */

static void test_models(void **state)
{
    (void)state;
    tok_check(TOK_FOLDER "llama.model", "llama.model");
    tok_check(TOK_FOLDER "symbols.model", "symbols.model");
}

/* The normalizer and pre-tokenizer of the variants of tests/vectors/tok_spm.py. */
static void test_json_variants(void **state)
{
#define REPLACE "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\u2581\"}"
#define METASPACE(scheme, split)                                                                   \
    "{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"prepend_scheme\":\"" scheme              \
    "\",\"split\":" split "}"
    static const struct {
        const char *name, *normalizer, *pretokenizer;
    } variants[] = {
        {"llama.json:prepend",
         "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\u2581\"}"
         "," REPLACE "]}",
         "null"},
        {"llama.json:first", "null", METASPACE("first", "false")},
        {"llama.json:always", "null", METASPACE("always", "false")},
        {"llama.json:split", "null", METASPACE("always", "true")},
        {"llama.json:never", "null", METASPACE("never", "false")},
        {"llama.json:replace", REPLACE, "null"},
    };
    char folder[TEST_PATH], path[TEST_PATH];
    (void)state;
    test_tmpdir(folder);
    json_t *root = tok_json(TOK_FOLDER "llama.json");
    for (int i = 0; i < LENGTH(variants); i++) {
        json_t *normalizer = json_loads(variants[i].normalizer, JSON_DECODE_ANY, NULL);
        json_t *pretokenizer = json_loads(variants[i].pretokenizer, JSON_DECODE_ANY, NULL);
        assert_true(normalizer && pretokenizer);
        json_object_set_new(root, "normalizer", normalizer);
        json_object_set_new(root, "pre_tokenizer", pretokenizer);
        tok_save(root, folder, path);
        tok_check(path, variants[i].name);
    }
    json_decref(root);
    test_rmdir(folder);
}

/* ---- GGUF: what a converter writes of a tokenizer.model must be read as that model */

static json_t *gguf_of(const struct ptq_tok_def *d)
{
    static const int types[] = {1, 2, 3, 6, 4, 5}; /* by enum ptq_token_type */
    json_t *meta = json_object(), *tokens = json_array(), *scores = json_array();
    json_t *kinds = json_array();
    for (int64_t i = 0; i < d->n; i++) {
        json_array_append_new(tokens,
                              json_stringn(d->text + d->at[i], (size_t)(d->at[i + 1] - d->at[i])));
        json_array_append_new(scores, json_real((double)d->score[i]));
        json_array_append_new(kinds, json_integer(types[d->type[i]]));
    }
    json_object_set_new(meta, "tokenizer.ggml.model", json_string("llama"));
    json_object_set_new(meta, "tokenizer.ggml.pre", json_string("default"));
    json_object_set_new(meta, "tokenizer.ggml.tokens", tokens);
    json_object_set_new(meta, "tokenizer.ggml.scores", scores);
    json_object_set_new(meta, "tokenizer.ggml.token_type", kinds);
    json_object_set_new(meta, "tokenizer.ggml.bos_token_id", json_integer(1));
    json_object_set_new(meta, "tokenizer.ggml.eos_token_id", json_integer(2));
    json_object_set_new(meta, "tokenizer.ggml.remove_extra_whitespaces",
                        json_boolean(d->squeeze_spaces));
    return meta;
}

static void same_definition(const struct ptq_tok_def *x, const struct ptq_tok_def *y)
{
    assert_int_equal(x->kind, y->kind);
    assert_int_equal(x->n, y->n);
    assert_memory_equal(x->at, y->at, (size_t)(x->n + 1) * sizeof *x->at);
    assert_memory_equal(x->text, y->text, (size_t)x->at[x->n]);
    assert_memory_equal(x->score, y->score, (size_t)x->n * sizeof *x->score);
    assert_memory_equal(x->type, y->type, (size_t)x->n);
    assert_true(x->prefix == y->prefix && x->norm == y->norm && x->fuse_unk == y->fuse_unk);
    assert_true(x->byte_fallback == y->byte_fallback && x->squeeze_spaces == y->squeeze_spaces);
    assert_true(x->unk == y->unk && x->bos == y->bos && x->eos == y->eos);
    assert_true(x->n_before == y->n_before && x->before[0] == y->before[0]);
    assert_true(x->n_added == y->n_added && x->dummy_prefix == y->dummy_prefix);
}

static void test_gguf(void **state)
{
    static const char *const names[] = {"llama.model", "symbols.model"};
    (void)state;
    for (int i = 0; i < LENGTH(names); i++) {
        struct ptq_arena a;
        struct ptq_status st = {0};
        struct ptq_tok_def model, gguf;
        char path[TEST_PATH];
        ptq_arena_init(&a, 0);
        test_path("tests/vectors/tok_spm", names[i], path);
        assert_ok(ptq_tok_read_spm(path, &a, &model, &st), &st);
        json_t *meta = gguf_of(&model);
        assert_ok(ptq_tok_read_gguf(meta, "m.gguf", &a, &gguf, &st), &st);
        same_definition(&model, &gguf);
        json_decref(meta);
        ptq_arena_clear(&a);
    }
}

/* One fault each. value NULL: the key is missing. */
static void test_gguf_refuses(void **state)
{
    static const struct {
        const char *key, *value, *part;
    } faults[] = {
        {"model", "\"t5\"", "'t5' is not supported; supported: llama"},
        {"model", "\"gpt2\"", "pre, the name of the pre-tokenizer, is missing"},
        {"tokens", NULL, "tokens is missing"},
        {"tokens", "[]", "tokens is missing"},
        {"tokens", "[1, 2]", "no list of texts"},
        {"scores", NULL, "scores is missing"},
        {"scores", "[1, 2]", "another length"},
        {"token_type", "[1]", "another length"},
        {"bos_token_id", "1000", "bos_token_id"},
        {"eos_token_id", "-1", "eos_token_id"},
        {"eos_token_id", "4294967295", "eos_token_id"},
        {"add_bos_token", "3", "add_bos_token"},
    };
    struct ptq_arena a;
    struct ptq_status st = {0};
    struct ptq_tok_def model, gguf;
    (void)state;
    ptq_arena_init(&a, 0);
    assert_ok(ptq_tok_read_spm(TOK_FOLDER "llama.model", &a, &model, &st), &st);
    for (int i = 0; i < LENGTH(faults); i++) {
        char key[64];
        json_t *meta = gguf_of(&model);
        snprintf(key, sizeof key, "tokenizer.ggml.%s", faults[i].key);
        json_object_del(meta, key);
        if (faults[i].value)
            json_object_set_new(meta, key, json_loads(faults[i].value, JSON_DECODE_ANY, NULL));
        ptq_status_clear(&st);
        assert_int_equal(ptq_tok_read_gguf(meta, "m.gguf", &a, &gguf, &st), PTQ_ERR_USAGE);
        assert_status(&st, PTQ_ERR_USAGE, faults[i].part);
        json_decref(meta);
    }
    json_t *types = gguf_of(&model), *nan = gguf_of(&model), *none = json_object();
    ptq_status_clear(&st);
    json_array_set_new(json_object_get(types, "tokenizer.ggml.token_type"), 5, json_integer(7));
    assert_int_equal(ptq_tok_read_gguf(types, "m.gguf", &a, &gguf, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "another value than 0 .. 6");
    ptq_status_clear(&st);
    json_array_set_new(json_object_get(nan, "tokenizer.ggml.scores"), 5, ptq_json_num((double)NAN));
    assert_int_equal(ptq_tok_read_gguf(nan, "m.gguf", &a, &gguf, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "no number");
    ptq_status_clear(&st);
    assert_int_equal(ptq_tok_read_gguf(none, "m.gguf", &a, &gguf, &st), PTQ_SKIP);
    json_decref(types);
    json_decref(nan);
    json_decref(none);
    ptq_arena_clear(&a);
}

/* ---- what lies around the ids */

static void test_info_and_decode(void **state)
{
    struct ptq_tokenizer *t;
    struct ptq_arena a;
    struct ptq_status st = {0};
    json_t *texts = tok_json("tests/vectors/tok_awkward.json"), *text;
    size_t i;
    int n_same = 0;
    (void)state;
    assert_ok(ptq_tokenizer_open(&t, TOK_FOLDER "llama.model", &st), &st);
    const struct ptq_tokenizer_info *info = ptq_tokenizer_info(t);
    assert_string_equal(info->kind, "spm");
    assert_int_equal(info->vocab_size, 1000);
    assert_true(info->unk == 0 && info->bos == 1 && info->eos == 2 && info->pad == -1);
    assert_true(info->n_before == 1 && info->before[0] == 1 && info->n_after == 0);
    json_array_foreach(json_object_get(texts, "texts"), i, text)
    {
        const struct ptq_encode ask = {json_string_value(text), (int64_t)json_string_length(text)};
        int32_t *id;
        int64_t n, bytes;
        char *back;
        if (strstr(ask.text, "\u2581"))
            continue; /* comes back as a space */
        ptq_arena_init(&a, 0);
        assert_ok(ptq_tokenizer_encode(t, &ask, &a, &id, &n, &st), &st);
        assert_ok(ptq_tokenizer_decode(t, id, n, &a, &back, &bytes, &st), &st);
        assert_int_equal(bytes, ask.bytes);
        assert_memory_equal(back, ask.text, (size_t)bytes);
        n_same++;
        ptq_arena_clear(&a);
    }
    assert_true(n_same > 30);
    ptq_tokenizer_close(t);
    json_decref(texts);
}

/* "<s>" in a text: its id when added tokens are looked for, else text; each stretch gets a space.
 */
static void test_added(void **state)
{
    struct ptq_tokenizer *t;
    struct ptq_arena a;
    struct ptq_status st = {0};
    int32_t *id, *plain;
    int64_t n, n_plain;
    (void)state;
    ptq_arena_init(&a, 0);
    assert_ok(ptq_tokenizer_open(&t, TOK_FOLDER "llama.model", &st), &st);
    const struct ptq_encode ask = {"the<unk>the", 11, true, true}, as_text = {"the<unk>the", 11};
    const struct ptq_encode word = {"the", 3};
    assert_ok(ptq_tokenizer_encode(t, &word, &a, &plain, &n_plain, &st), &st);
    assert_int_equal(n_plain, 1); /* "\u2581the" is a token */
    assert_ok(ptq_tokenizer_encode(t, &ask, &a, &id, &n, &st), &st);
    const int32_t want[] = {1, plain[0], 0, plain[0]};
    assert_int_equal(n, 4);
    assert_memory_equal(id, want, sizeof want);
    assert_ok(ptq_tokenizer_encode(t, &as_text, &a, &id, &n, &st), &st);
    for (int64_t i = 0; i < n; i++)
        assert_int_not_equal(id[i], 0);
    ptq_tokenizer_close(t);
    ptq_arena_clear(&a);
}

/* tokenizer_config.json beside a tokenizer.model: add_bos_token and its default. */
static void test_config(void **state)
{
    static const struct {
        const char *config;
        int n_before, n_after;
    } cases[] = {
        {"{}", 1, 0},
        {"{\"add_bos_token\": false}", 0, 0},
        {"{\"add_bos_token\": true, \"add_eos_token\": true, \"bos_token\": \"<s>\"}", 1, 1}};
    char folder[TEST_PATH], path[TEST_PATH], *raw;
    size_t size;
    struct ptq_status st = {0};
    (void)state;
    assert_ok(ptq_read_file(TOK_FOLDER "llama.model", 1 << 20, &raw, &size, &st), &st);
    test_tmpdir(folder);
    test_path(folder, "tokenizer.model", path);
    assert_ok(ptq_write_file(path, raw, size, &st), &st);
    test_path(folder, "tokenizer_config.json", path);
    for (int i = 0; i < LENGTH(cases); i++) {
        struct ptq_tokenizer *t;
        assert_ok(ptq_write_file(path, cases[i].config, strlen(cases[i].config), &st), &st);
        assert_ok(ptq_tokenizer_open(&t, folder, &st), &st);
        assert_int_equal(ptq_tokenizer_info(t)->n_before, cases[i].n_before);
        assert_int_equal(ptq_tokenizer_info(t)->n_after, cases[i].n_after);
        ptq_tokenizer_close(t);
    }
    free(raw);
    test_rmdir(folder);
}

/* A megabyte in one word: work that grows with its square would take an hour. */
static void test_long_word(void **state)
{
    enum { N = 1 << 20 };
    struct ptq_tokenizer *t;
    struct ptq_arena a;
    struct ptq_status st = {0};
    char *text = malloc(N), *back;
    int32_t *id;
    int64_t n, bytes;
    (void)state;
    assert_non_null(text);
    for (int i = 0; i < N; i++)
        text[i] = "thein"[(i * 7 + i / 5) % 5];
    ptq_arena_init(&a, 0);
    assert_ok(ptq_tokenizer_open(&t, TOK_FOLDER "llama.model", &st), &st);
    const struct ptq_encode ask = {text, N};
    assert_ok(ptq_tokenizer_encode(t, &ask, &a, &id, &n, &st), &st);
    assert_true(n < N);
    assert_ok(ptq_tokenizer_decode(t, id, n, &a, &back, &bytes, &st), &st);
    assert_int_equal(bytes, N);
    assert_memory_equal(back, text, N);
    ptq_tokenizer_close(t);
    ptq_arena_clear(&a);
    free(text);
}

/* ---- llama2.c: its rule, one merge a pass over the text */

static int32_t lookup(const struct ptq_tok_def *d, const char *text, int64_t bytes)
{
    for (int64_t i = 0; i < d->n; i++)
        if (d->at[i + 1] - d->at[i] == bytes &&
            memcmp(d->text + d->at[i], text, (size_t)bytes) == 0)
            return (int32_t)i;
    return -1;
}

static int32_t lookup_pair(const struct ptq_tok_def *d, int32_t x, int32_t y)
{
    int64_t nx = d->at[x + 1] - d->at[x], ny = d->at[y + 1] - d->at[y];
    char text[64];
    assert_true(nx + ny < (int64_t)sizeof text);
    memcpy(text, d->text + d->at[x], (size_t)nx);
    memcpy(text + nx, d->text + d->at[y], (size_t)ny);
    return lookup(d, text, nx + ny);
}

static int64_t slow_ids(const struct ptq_tok_def *d, const char *text, int64_t bytes, int32_t *id)
{
    int64_t n = 0;
    if (bytes > 0)
        id[n++] = lookup(d, " ", 1);
    for (int64_t i = 0, len; i < bytes; i += len) {
        for (len = 1; i + len < bytes && len < 4 && (text[i + len] & 0xC0) == 0x80; len++)
            ;
        int32_t whole = lookup(d, text + i, len);
        for (int64_t k = 0; whole < 0 && k < len; k++)
            id[n++] = (uint8_t)text[i + k] + 3;
        if (whole >= 0)
            id[n++] = whole;
    }
    for (int64_t where;;) {
        int32_t best = -1;
        float score = -1e10f;
        for (int64_t i = 0; i + 1 < n; i++) {
            int32_t k = lookup_pair(d, id[i], id[i + 1]);
            if (k >= 0 && d->score[k] > score) {
                best = k;
                score = d->score[k];
                where = i;
            }
        }
        if (best < 0)
            return n;
        id[where] = best;
        memmove(id + where + 1, id + where + 2, (size_t)(n - where - 2) * sizeof *id);
        n--;
    }
}

static void test_llama2c(void **state)
{
    (void)state;
    TEST_SHARED_OR_SKIP(path, "data/models/stories260K/tok512.bin");
    struct ptq_tokenizer *t;
    struct ptq_arena a;
    struct ptq_status st = {0};
    struct ptq_tok_def def;
    json_t *texts = tok_json("tests/vectors/tok_awkward.json"), *text;
    size_t k;
    ptq_arena_init(&a, 0);
    assert_ok(ptq_tokenizer_open(&t, path, &st), &st);
    assert_string_equal(ptq_tokenizer_info(t)->kind, "llama2c");
    assert_ok(ptq_tok_read_llama2c(path, &a, &def, &st), &st);
    json_array_foreach(json_object_get(texts, "texts"), k, text)
    {
        const struct ptq_encode ask = {json_string_value(text), (int64_t)json_string_length(text)};
        int32_t *id, want[1024];
        int64_t n, bytes, n_want = slow_ids(&def, ask.text, ask.bytes, want);
        char *back;
        assert_ok(ptq_tokenizer_encode(t, &ask, &a, &id, &n, &st), &st);
        assert_int_equal(n, n_want);
        assert_memory_equal(id, want, (size_t)n * sizeof *id);
        assert_ok(ptq_tokenizer_decode(t, id, n, &a, &back, &bytes, &st), &st);
        assert_int_equal(bytes, ask.bytes);
        assert_memory_equal(back, ask.text, (size_t)bytes);
    }
    ptq_tokenizer_close(t);
    ptq_arena_clear(&a);
    json_decref(texts);
}

/* ---- damaged files */

struct file {
    char folder[TEST_PATH], path[TEST_PATH], text[8192];
    size_t n;
};

static void file_open(struct file *f, const char *name)
{
    test_tmpdir(f->folder);
    test_path(f->folder, name, f->path);
    f->n = 0;
}

static int try_open(const struct file *f, struct ptq_status *st)
{
    struct ptq_tokenizer *t;
    unlink(f->path); /* file systems flush a file that is written over */
    FILE *out = fopen(f->path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(f->text, 1, f->n, out), f->n);
    assert_int_equal(fclose(out), 0);
    ptq_status_clear(st);
    int code = ptq_tokenizer_open(&t, f->path, st);
    if (code == PTQ_OK)
        ptq_tokenizer_close(t);
    else
        assert_true(code == PTQ_ERR_USAGE && st->text[0]);
    return code;
}

/* Pieces come first in the file, then the trainer's part (which says BPE), then the normalizer's:
 * only a cut between these two, and none, leave a model. */
static void test_truncated(void **state)
{
    static struct file f;
    struct ptq_status st = {0};
    char *raw;
    size_t size;
    int n_whole = 0;
    (void)state;
    assert_ok(ptq_read_file(TOK_FOLDER "symbols.model", 1 << 20, &raw, &size, &st), &st);
    assert_true(size < sizeof f.text);
    file_open(&f, "cut.model");
    memcpy(f.text, raw, size);
    for (f.n = 0; f.n <= size; f.n++)
        n_whole += try_open(&f, &st) == PTQ_OK;
    assert_int_equal(n_whole, 2);
    free(raw);
    test_rmdir(f.folder);
}

/* A writer of protobuf for models of a few pieces. */
static void put(struct file *f, const void *at, size_t n)
{
    assert_true(f->n + n <= sizeof f->text);
    memcpy(f->text + f->n, at, n);
    f->n += n;
}

static void put_piece(struct file *f, const char *text, float score, int type)
{
    const unsigned char n = (unsigned char)strlen(text);
    const unsigned char head[] = {0x0A, (unsigned char)(n + 9), 0x0A, n}, tail[] = {0x18, type};
    put(f, head, 4);
    put(f, text, n);
    put(f, "\x15", 1);
    put(f, &score, 4);
    put(f, tail, 2);
}

enum { NORMAL = 1, UNKNOWN, CONTROL, USER, UNUSED, BYTE };
#define BPE_TRAINER "\x12\x02\x18\x02"
#define NO_SQUEEZE  "\x1A\x02\x20\x00"

static void begin_model(struct file *f)
{
    f->n = 0;
    put_piece(f, "<unk>", 0, UNKNOWN);
    put_piece(f, "a", -1, NORMAL);
}

static void test_refuses(void **state)
{
    static const struct {
        const char *piece;
        float score;
        int type;
        const char *tail, *part;
        size_t n_tail; /* 0: strlen */
    } cases[] = {
        {"b", NAN, NORMAL, BPE_TRAINER, "without a score"},
        {"b", INFINITY, NORMAL, BPE_TRAINER, "without a score"},
        {"", 0, NORMAL, BPE_TRAINER, "piece 2 is empty"},
        {"b", 0, 9, BPE_TRAINER, "unknown type"},
        {"b", 0, UNUSED, BPE_TRAINER, "UNUSED is not implemented"},
        {"a", 0, NORMAL, BPE_TRAINER, "tokens 1 and 2 have the same text"},
        {"\xFF", 0, NORMAL, BPE_TRAINER, "token 2 is not UTF-8"},
        {"b", 0, NORMAL, "", "type unigram; only bpe"},
        {"b", 0, NORMAL, "\x12\x02\x18\x01", "type unigram; only bpe"},
        {"b", 0, NORMAL, "\x12\x02\x18\x04", "type char; only bpe"},
        {"b", 0, NORMAL, BPE_TRAINER "\x1A\x0D\x0A\x08nmt_nfkc\x12\x01X", "normalizer 'nmt_nfkc'"},
        {"b", 0, NORMAL, BPE_TRAINER "\x12\x03\xC0\x01\x01", "treat_whitespace_as_suffix is"},
        {"b", 0, NORMAL, BPE_TRAINER "\x1A\x02\x28\x00", "escape_whitespaces off", 8},
        {"b", 0, NORMAL, BPE_TRAINER "\x12\x03\x98\x02\x01", "lacks '<0x00>'"},
        {"b", 0, NORMAL, BPE_TRAINER "\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01",
         "fields are cut"},
        {"b", 0, NORMAL, BPE_TRAINER "\x0A\xFF\xFF\xFF\xFF\x07", "fields are cut"},
        {"b", 0, NORMAL, BPE_TRAINER "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
         "fields are cut"},
        {"b", 0, NORMAL, BPE_TRAINER "\x0B", "fields are cut"},
    };
    static struct file f;
    struct ptq_status st = {0};
    (void)state;
    file_open(&f, "x.model");
    begin_model(&f);
    put_piece(&f, "b", -2, NORMAL);
    put(&f, BPE_TRAINER NO_SQUEEZE, 8);
    assert_ok(try_open(&f, &st), &st); /* without a fault it is a model */
    for (int i = 0; i < LENGTH(cases); i++) {
        begin_model(&f);
        put_piece(&f, cases[i].piece, cases[i].score, cases[i].type);
        put(&f, cases[i].tail, cases[i].n_tail ? cases[i].n_tail : strlen(cases[i].tail));
        assert_int_equal(try_open(&f, &st), PTQ_ERR_USAGE);
        assert_status(&st, PTQ_ERR_USAGE, cases[i].part);
    }
    f.n = 0;
    put_piece(&f, "a", -1, NORMAL);
    put(&f, BPE_TRAINER, 4);
    assert_int_equal(try_open(&f, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "no piece is the unknown one");
    test_rmdir(f.folder);
}

/* A token whose first character is no token: it can be made all the same, as sentencepiece does,
 * and where it is not made the character is unknown. */
static void test_part_of_a_token(void **state)
{
    static struct file f;
    struct ptq_tokenizer *t;
    struct ptq_arena a;
    struct ptq_status st = {0};
    int32_t *id;
    int64_t n;
    (void)state;
    file_open(&f, "x.model");
    begin_model(&f);
    put_piece(&f, "xa", -2, NORMAL);
    put_piece(&f, "ya", -3, NORMAL);
    put_piece(&f, "y", 0, CONTROL);
    put_piece(&f, "b", -4, NORMAL);
    put(&f, BPE_TRAINER "\x1A\x04\x18\x00\x20\x00", 10); /* no prefix, spaces kept */
    assert_int_equal(try_open(&f, &st), PTQ_OK);
    assert_ok(ptq_tokenizer_open(&t, f.path, &st), &st);
    ptq_arena_init(&a, 0);
    const struct ptq_encode ask = {"xaxxa yz ayayxqxba", 18};
    const int32_t want[] = {2, 0, 2, 0, 1, 3, 0, 5, 1}; /* neighbours that are unknown are one */
    assert_ok(ptq_tokenizer_encode(t, &ask, &a, &id, &n, &st), &st);
    assert_int_equal(n, LENGTH(want));
    assert_memory_equal(id, want, sizeof want);
    ptq_tokenizer_close(t);
    ptq_arena_clear(&a);
    test_rmdir(f.folder);
}

static void put_llama2c(struct file *f, const char *text, int32_t bytes, float score)
{
    put(f, &score, 4);
    put(f, &bytes, 4);
    put(f, text, strlen(text));
}

static void test_llama2c_refuses(void **state)
{
    static struct file f;
    struct ptq_status st = {0};
    (void)state;
    file_open(&f, "tok.bin");
    put(&f, "\x06\0\0\0", 4);
    put_llama2c(&f, "<unk>", 5, 0);
    put_llama2c(&f, "\n<s>\n", 5, 0);
    put_llama2c(&f, "\n</s>\n", 6, 0);
    for (int b = 0; b < 256; b++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", b);
        put_llama2c(&f, text, 6, 0);
    }
    assert_int_equal(try_open(&f, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "the space is no token");
    put_llama2c(&f, " ", 1, -1);
    assert_ok(try_open(&f, &st), &st);
    const size_t whole = f.n;
    for (f.n = 0; f.n < whole; f.n++)
        assert_int_equal(try_open(&f, &st), PTQ_ERR_USAGE);
    static const struct {
        int32_t bytes;
        float score;
        const char *part;
    } cases[] = {{-1, 0, "does not end where"},        {0, 0, "does not end where"},
                 {INT32_MAX, 0, "does not end where"}, {INT32_MIN, 0, "does not end where"},
                 {2, 0, "does not end where"},         {1, NAN, "nan: not 1"},
                 {1, INFINITY, "inf: not 1"}};
    for (int i = 0; i < LENGTH(cases); i++) {
        f.n = whole;
        put_llama2c(&f, "x", cases[i].bytes, cases[i].score);
        assert_int_equal(try_open(&f, &st), PTQ_ERR_USAGE);
        assert_status(&st, PTQ_ERR_USAGE, cases[i].part);
    }
    f.n = whole;
    put_llama2c(&f, " ", 1, -1);
    assert_int_equal(try_open(&f, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "tokens 259 and 260 have the same text");
    test_rmdir(f.folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_json_variants),
        cmocka_unit_test(test_gguf),
        cmocka_unit_test(test_gguf_refuses),
        cmocka_unit_test(test_info_and_decode),
        cmocka_unit_test(test_added),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_long_word),
        cmocka_unit_test(test_llama2c),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_part_of_a_token),
        cmocka_unit_test(test_llama2c_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
