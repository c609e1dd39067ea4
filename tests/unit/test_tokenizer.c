/* Tokenizers opened from files: ids of byte-level BPE against the `tokenizers` library over awkward
 * texts and all of WikiText-2 (tests/vectors/tokenizers_bpe.py), containers, threads, and what is
 * refused. SentencePiece, WordPiece and the other files have tests of their own. */
#include "core/hash.h"
#include "core/pool.h"
#include "core/sha256.h"
#include "model/tok.h"
#include "model/tok_pretok.h"
#include "testlib.h"

enum { N_AWKWARD = 34, N_DAMAGED = 5, MOST_TEXTS = 64, WIKI_BYTES = 1296370 };

struct view {
    const char *at;
    int64_t bytes;
};
struct fixture {
    struct ptq_arena arena;
    struct ptq_status st;
    char folder[TEST_PATH];
    json_t *root; /* cases.json */
    struct view text[MOST_TEXTS];
    int n_texts;
};

/* ---- fixture --------------------------------------------------------------------------------- */

static json_t *load_json(const char *path)
{
    json_error_t error;
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &error);
    if (!root)
        fail_msg("%s:%d: %s", path, error.line, error.text);
    return root;
}

static struct view from_hex(struct fixture *f, const char *hex)
{
    int64_t n = (int64_t)strlen(hex) / 2;
    char *out = ptq_arena_alloc(&f->arena, &f->st, n, 1);
    for (int64_t i = 0; i < n; i++) {
        unsigned byte;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        out[i] = (char)byte;
    }
    return (struct view){out, n};
}

/* The order of the vectors: awkward texts, damaged bytes, texts for byte-level BPE. */
static void load_texts(struct fixture *f, const json_t *awkward)
{
    const json_t *lists[] = {json_object_get(awkward, "texts"),
                             json_object_get(awkward, "damaged_hex"),
                             json_object_get(f->root, "texts")};
    size_t i;
    json_t *item;
    for (int k = 0; k < 3; k++)
        json_array_foreach(lists[k], i, item)
        {
            assert_true(f->n_texts < MOST_TEXTS);
            const char *text = json_string_value(item);
            struct view v = {text, (int64_t)json_string_length(item)};
            if (k == 1)
                v = from_hex(f, text);
            char *copy = ptq_arena_alloc(&f->arena, &f->st, v.bytes, 1);
            memcpy(copy, v.at, (size_t)v.bytes);
            f->text[f->n_texts++] = (struct view){copy, v.bytes};
        }
    assert_true(f->n_texts > N_AWKWARD + N_DAMAGED);
}

static int setup(void **state)
{
    struct fixture *f = *state = calloc(1, sizeof *f);
    ptq_arena_init(&f->arena, 0);
    test_tmpdir(f->folder);
    f->root = load_json("tests/vectors/tok_bpe/cases.json");
    json_t *awkward = load_json("tests/vectors/tok_awkward.json");
    load_texts(f, awkward);
    json_decref(awkward);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    ptq_arena_clear(&f->arena);
    test_rmdir(f->folder);
    json_decref(f->root);
    free(f);
    return 0;
}

static void put_file(struct fixture *f, const char *name, const char *text)
{
    char path[TEST_PATH];
    test_path(f->folder, name, path);
    assert_ok(ptq_write_file(path, text, strlen(text), &f->st), &f->st);
}

static void put_json(struct fixture *f, const char *name, const json_t *value)
{
    char path[TEST_PATH];
    test_path(f->folder, name, path);
    assert_int_equal(json_dump_file(value, path, 0), 0);
}

/* ---- cases ----------------------------------------------------------------------------------- */

/* Does s hold a character of the text? Both UTF-8, characters of one or two bytes. */
static bool holds_any(const char *s, const char *characters)
{
    char one[3] = {0};
    for (; *characters; characters += strlen(one)) {
        memcpy(one, characters, (*characters & 0x80) ? 2 : 1);
        one[(*characters & 0x80) ? 2 : 1] = 0;
        if (strstr(s, one))
            return true;
    }
    return false;
}

static void add_id(json_t *vocab, const char *token)
{
    json_object_set_new(vocab, token, json_integer((json_int_t)json_object_size(vocab)));
}

/* The case's vocabulary and merges, as tokenizers_bpe.py makes them. pairs: ["a", "b"], not "a b".
 */
static void make_vocabulary(const struct fixture *f, const char *lacks, bool pairs, json_t *vocab,
                            json_t *merges)
{
    const char *letter = json_string_value(json_object_get(f->root, "alphabet"));
    size_t i;
    json_t *merge;
    while (*letter) {
        char one[3] = {0};
        memcpy(one, letter, (*letter & 0x80) ? 2 : 1);
        letter += strlen(one);
        if (!strstr(lacks, one))
            add_id(vocab, one);
    }
    json_array_foreach(json_object_get(f->root, "merges"), i, merge)
    {
        char left[64], right[64], both[128];
        if (holds_any(json_string_value(merge), lacks))
            continue;
        assert_int_equal(sscanf(json_string_value(merge), "%63s %63s", left, right), 2);
        snprintf(both, sizeof both, "%s%s", left, right);
        add_id(vocab, both);
        json_array_append_new(merges, pairs ? json_pack("[ss]", left, right) : json_incref(merge));
    }
}

static json_t *find_case(const struct fixture *f, const char *name)
{
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(f->root, "cases"), i,
                       item) if (strcmp(json_string_value(json_object_get(item, "name")), name) ==
                                 0) return item;
    fail_msg("no case %s", name);
    return NULL;
}

/* A whole tokenizer.json; the caller's. */
static json_t *whole_json(const struct fixture *f, const json_t *one, bool pairs)
{
    json_t *root = json_deep_copy(json_object_get(one, "tokenizer"));
    json_t *model = json_object_get(root, "model");
    json_t *vocab = json_object(), *merges = json_array(), *token;
    size_t i;
    make_vocabulary(f, json_string_value(json_object_get(one, "lacks")), pairs, vocab, merges);
    json_array_foreach(json_object_get(one, "extra"), i, token)
        add_id(vocab, json_string_value(token));
    json_object_set_new(model, "vocab", vocab);
    json_object_set_new(model, "merges", merges);
    return root;
}

static struct ptq_tokenizer *open_source(struct fixture *f, const char *source)
{
    struct ptq_tokenizer *t = NULL;
    ptq_status_clear(&f->st);
    assert_ok(ptq_tokenizer_open(&t, source, &f->st), &f->st);
    return t;
}

static struct ptq_tokenizer *open_case(struct fixture *f, const json_t *one, bool pairs)
{
    json_t *root = whole_json(f, one, pairs);
    put_json(f, "tokenizer.json", root);
    json_decref(root);
    return open_source(f, f->folder);
}

/* FNV-1a over ids, as in tok_texts.py. */
static uint64_t fnv(uint64_t h, const int32_t *id, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        h = (h ^ (uint64_t)id[i]) * 0x100000001B3u;
    return h;
}
static const uint64_t fnv_start = 0xCBF29CE484222325u;

static int64_t encode(struct fixture *f, const struct ptq_tokenizer *t, struct view v,
                      bool specials, bool added, int32_t **id)
{
    const struct ptq_encode ask = {v.at, v.bytes, specials, added};
    int64_t n;
    assert_ok(ptq_tokenizer_encode(t, &ask, &f->arena, id, &n, &f->st), &f->st);
    return n;
}

static uint64_t hash_of(const json_t *text)
{
    return strtoull(json_string_value(text), NULL, 16);
}

static void check_texts(struct fixture *f, const struct ptq_tokenizer *t, const json_t *one)
{
    const char *name = json_string_value(json_object_get(one, "name"));
    const json_t *want = json_object_get(one, "ids");
    uint64_t plain = fnv_start;
    assert_int_equal(json_array_size(want), f->n_texts);
    for (int i = 0; i < f->n_texts; i++) {
        int32_t *id;
        int64_t n = encode(f, t, f->text[i], true, true, &id);
        if (fnv(fnv_start, id, n) != hash_of(json_array_get(want, (size_t)i)))
            fail_msg("%s: other ids for text %d: %.*s", name, i, (int)f->text[i].bytes,
                     f->text[i].at);
        n = encode(f, t, f->text[i], false, false, &id);
        plain = fnv(plain, id, n);
    }
    if (plain != hash_of(json_object_get(one, "plain")))
        fail_msg("%s: other ids without special tokens", name);
}

/* WikiText-2 test as papers join it: a blank line is an empty row; rows with "\n\n" between. */
static bool load_wiki(struct fixture *f, struct view *out)
{
    char path[TEST_PATH], *raw, *joined;
    size_t bytes, n = 0;
    if (!test_shared("data/text/wiki.test.raw", path))
        return false;
    assert_ok(ptq_read_file(path, 1 << 24, &raw, &bytes, &f->st), &f->st);
    joined = ptq_arena_alloc(&f->arena, &f->st, 2 * (int64_t)bytes, 1);
    for (char *line = raw; *line;) {
        size_t len = strcspn(line, "\n") + 1;
        if (line != raw) {
            memcpy(joined + n, "\n\n", 2);
            n += 2;
        }
        if (len != 2 || *line != ' ') {
            memcpy(joined + n, line, len);
            n += len;
        }
        line += len;
    }
    free(raw);
    assert_int_equal(n, WIKI_BYTES); /* data/README.md */
    *out = (struct view){joined, WIKI_BYTES};
    return true;
}

static void check_wiki(struct fixture *f, const struct ptq_tokenizer *t, const json_t *one,
                       struct view wiki)
{
    const json_t *want = json_object_get(one, "wiki");
    int32_t *id;
    int64_t n = encode(f, t, wiki, false, true, &id);
    assert_int_equal(n, json_integer_value(json_array_get(want, 0)));
    assert_true(fnv(fnv_start, id, n) == hash_of(json_array_get(want, 1)));
}

static void families(void **state)
{
    struct fixture *f = *state;
    struct view wiki;
    bool has_wiki = load_wiki(f, &wiki);
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(f->root, "cases"), i, one)
    {
        struct ptq_tokenizer *t = open_case(f, one, i % 2);
        assert_string_equal(ptq_tokenizer_info(t)->kind, "bpe");
        check_texts(f, t, one);
        if (has_wiki)
            check_wiki(f, t, one, wiki);
        ptq_tokenizer_close(t);
    }
    assert_int_equal(i, 13);
}

/* Llama 1: the normalizer puts U+2581 before "<s>" too, which is then found behind spaces alone. */
static void tokens_in_normalized_text(void **state)
{
    struct fixture *f = *state;
    json_t *root = load_json("tests/vectors/tok_spm/llama.json"), *token;
    size_t i;
    json_array_foreach(json_object_get(root, "added_tokens"), i, token)
        json_object_set_new(token, "normalized", json_true());
    put_json(f, "tokenizer.json", root);
    json_decref(root);
    struct ptq_tokenizer *t = open_source(f, f->folder);
    for (int k = 0; k < f->n_texts; k++) {
        int32_t *id;
        int64_t n = encode(f, t, f->text[k], true, true, &id);
        if (fnv(fnv_start, id, n) !=
            hash_of(json_array_get(json_object_get(f->root, "llama1"), (size_t)k)))
            fail_msg("other ids for text %d: %.*s", k, (int)f->text[k].bytes, f->text[k].at);
    }
    ptq_tokenizer_close(t);
}

/* ---- files of other kinds -------------------------------------------------------------------- */

/* OPT as it is published: no tokenizer.json, BOS by tokenizer_config.json. */
static void vocabulary_folder(void **state)
{
    struct fixture *f = *state;
    json_t *opt = find_case(f, "opt"), *vocab = json_object(), *merges = json_array(), *line;
    size_t i;
    char *text = ptq_arena_alloc(&f->arena, &f->st, 1 << 16, 1), *end = text;
    make_vocabulary(f, "", false, vocab, merges);
    add_id(vocab, "</s>");
    add_id(vocab, "<pad>");
    put_json(f, "vocab.json", vocab);
    end += sprintf(end, "#version: 0.2\r\n");
    json_array_foreach(merges, i, line) end += sprintf(end, "%s\r\n", json_string_value(line));
    put_file(f, "merges.txt", text);
    put_file(f, "special_tokens_map.json",
             "{\"bos_token\": {\"content\": \"</s>\"}, \"eos_token\": "
             "\"</s>\", \"pad_token\": \"<pad>\"}");
    put_file(f, "tokenizer_config.json",
             "{\"add_bos_token\": true, \"tokenizer_class\": \"GPT2Tokenizer\", "
             "\"model_max_length\": 1000000000000000019884624838656}");
    struct ptq_tokenizer *t = open_source(f, f->folder);
    const struct ptq_tokenizer_info *info = ptq_tokenizer_info(t);
    assert_int_equal(info->vocab_size, 902);
    assert_true(info->bos == 900 && info->eos == 900 && info->pad == 901 && info->unk == -1);
    assert_true(info->n_before == 1 && info->before[0] == 900 && info->n_after == 0);
    check_texts(f, t, opt);
    ptq_tokenizer_close(t);
    put_file(f, "tokenizer_config.json", "{\"tokenizer_class\": \"CodeGenTokenizer\"}");
    ptq_status_clear(&f->st);
    assert_int_equal(ptq_tokenizer_open(&t, f->folder, &f->st), PTQ_ERR_USAGE);
    assert_status(&f->st, PTQ_ERR_USAGE, "tokenizer_class 'CodeGenTokenizer'");
    json_decref(vocab);
    json_decref(merges);
}

/* Configuration beside a tokenizer.json decides about BOS and EOS. */
static void configuration(void **state)
{
    struct fixture *f = *state;
    json_t *llama = find_case(f, "llama3");
    put_file(f, "tokenizer_config.json",
             "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"add_bos_token\": false}");
    struct ptq_tokenizer *t = open_case(f, llama, false);
    const struct ptq_tokenizer_info *info = ptq_tokenizer_info(t);
    assert_true(info->n_before == 0 && info->n_after == 1 && info->after[0] == info->eos);
    ptq_tokenizer_close(t);
    put_file(f, "tokenizer_config.json",
             "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", "
             "\"add_bos_token\": true, \"add_eos_token\": false}");
    t = open_source(f, f->folder);
    info = ptq_tokenizer_info(t);
    assert_true(info->n_after == 0 && info->n_before == 1 && info->before[0] == info->bos);
    ptq_tokenizer_close(t);
    put_file(f, "tokenizer_config.json",
             "{\"bos_token\": \"</s>\", \"eos_token\": \"<s>\", "
             "\"add_bos_token\": true, \"add_eos_token\": true}");
    t = open_source(f, f->folder);
    info = ptq_tokenizer_info(t);
    assert_true(info->n_before == 2 && info->before[0] == info->bos &&
                info->before[1] == info->eos);
    assert_true(info->n_after == 2 && info->after[0] == info->bos && info->after[1] == info->eos);
    ptq_tokenizer_close(t);
}

/* The ids of the whole text by the library: 287,644, their FNV-1a by tok_texts.py's fnv. */
static void gpt2(void **state)
{
    struct fixture *f = *state;
    struct view wiki;
    TEST_SHARED_OR_SKIP(path, "data/tokenizers/gpt2");
    if (!load_wiki(f, &wiki))
        skip();
    struct ptq_tokenizer *t = open_source(f, path);
    const struct ptq_tokenizer_info *info = ptq_tokenizer_info(t);
    assert_int_equal(info->vocab_size, 50257);
    assert_true(info->bos == 50256 && info->eos == 50256 && info->n_before == 0);
    int32_t *id;
    int64_t n = encode(f, t, wiki, false, true, &id);
    assert_int_equal(n, 287644);
    assert_true(fnv(fnv_start, id, n) == 0x9185de6c49973ab6u);
    char *text;
    int64_t bytes;
    assert_ok(ptq_tokenizer_decode(t, id, n, &f->arena, &text, &bytes, &f->st), &f->st);
    assert_int_equal(bytes, WIKI_BYTES);
    assert_memory_equal(text, wiki.at, (size_t)bytes);
    ptq_tokenizer_close(t);
}

/* The real model's tokenizer, where it was fetched: ids by their SHA-256 in the reference. */
static void smollm2(void **state)
{
    struct fixture *f = *state;
    struct view wiki;
    char path[TEST_PATH], hex[PTQ_SHA256_CHARS];
    const char *cache = getenv("PTQ_CACHE");
    snprintf(path, sizeof path, "%s/smollm2-135m-instruct.q4_1.gguf",
             cache && *cache ? cache : "datasets/cache");
    if (access(path, R_OK) != 0) {
        printf("SKIP SmolLM2: %s absent (datasets/fetch.sh configs/smollm2-135m.ini)\n", path);
        skip();
    }
    TEST_SHARED_OR_SKIP(reference, "oracle/smollm2/reference.json");
    if (!load_wiki(f, &wiki))
        skip();
    json_t *root = load_json(reference);
    const json_t *want = json_object_get(root, "tokenizer");
    struct ptq_tokenizer *t = open_source(f, path);
    int32_t *id;
    int64_t n = encode(f, t, wiki, false, true, &id);
    assert_int_equal(n, json_integer_value(json_object_get(want, "test_tokens")));
    ptq_sha256(id, (size_t)n * sizeof *id, hex);
    assert_string_equal(hex, json_string_value(json_object_get(want, "test_ids_int32le_sha256")));
    size_t i, k;
    json_t *vector, *one;
    json_array_foreach(json_object_get(want, "vectors"), i, vector)
    {
        const json_t *text = json_object_get(vector, "text");
        struct view v = {json_string_value(text), (int64_t)json_string_length(text)};
        n = encode(f, t, v, false, true, &id);
        assert_int_equal(n, json_array_size(json_object_get(vector, "ids")));
        json_array_foreach(json_object_get(vector, "ids"), k, one)
            assert_int_equal(id[k], json_integer_value(one));
    }
    assert_int_equal(i, 21);
    ptq_tokenizer_close(t);
    json_decref(root);
}

static void bytes_as_tokens(void **state)
{
    struct fixture *f = *state;
    struct ptq_tokenizer *t = open_source(f, "bytes");
    char all[256], *text;
    int32_t *id;
    int64_t bytes;
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    assert_string_equal(ptq_tokenizer_info(t)->kind, "bytes");
    assert_int_equal(ptq_tokenizer_info(t)->vocab_size, 256);
    assert_int_equal(encode(f, t, (struct view){all, 256}, true, true, &id), 256);
    for (int i = 0; i < 256; i++)
        assert_int_equal(id[i], i);
    assert_ok(ptq_tokenizer_decode(t, id, 256, &f->arena, &text, &bytes, &f->st), &f->st);
    assert_true(bytes == 256 && memcmp(text, all, 256) == 0);
    ptq_tokenizer_close(t);
}

/* ---- container ------------------------------------------------------------------------------- */

/* Writes t to a container and opens that: the same key. */
static struct ptq_tokenizer *stored_copy(struct fixture *f, const struct ptq_tokenizer *t)
{
    char path[TEST_PATH];
    struct ptq_h5 *h;
    test_path(f->folder, "t.h5", path);
    assert_ok(ptq_h5_open(&h, path, PTQ_H5_CREATE, &f->st), &f->st);
    assert_ok(ptq_tokenizer_write(t, h, &f->st), &f->st);
    assert_ok(ptq_h5_close(h, &f->st), &f->st);
    struct ptq_tokenizer *stored = open_source(f, path);
    assert_string_equal(ptq_tokenizer_info(t)->key, ptq_tokenizer_info(stored)->key);
    return stored;
}

static void containers(void **state)
{
    struct fixture *f = *state;
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(f->root, "cases"), i, one)
    {
        struct ptq_tokenizer *t = open_case(f, one, false), *stored = stored_copy(f, t);
        check_texts(f, stored, one);
        ptq_tokenizer_close(t);
        ptq_tokenizer_close(stored);
    }
}

/* Tokenizers of the other kinds, whose ids tests of their own check, come back the same. */
static void containers_of_other_kinds(void **state)
{
    struct fixture *f = *state;
    const char *const sources[] = {
        "tests/vectors/tok_spm/llama.model", "tests/vectors/tok_spm/symbols.model",
        "tests/vectors/tok_spm/llama.json", "tests/vectors/tok_spm/bert.txt", "bytes"};
    for (int i = 0; i < LENGTH(sources); i++) {
        struct ptq_tokenizer *t = open_source(f, sources[i]), *stored = stored_copy(f, t);
        for (int k = 0; k < f->n_texts; k++) {
            int32_t *want, *got;
            int64_t n = encode(f, t, f->text[k], true, true, &want);
            assert_int_equal(encode(f, stored, f->text[k], true, true, &got), n);
            assert_memory_equal(got, want, (size_t)n * sizeof *got);
        }
        ptq_tokenizer_close(t);
        ptq_tokenizer_close(stored);
    }
}

/* Every part of a definition is in the key: two cases never share one. */
static void keys(void **state)
{
    struct fixture *f = *state;
    char key[32][33];
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(f->root, "cases"), i, one)
    {
        struct ptq_tokenizer *t = open_case(f, one, false);
        strcpy(key[i], ptq_tokenizer_info(t)->key);
        assert_int_equal(strlen(key[i]), 32);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(key[k], key[i]);
        ptq_tokenizer_close(t);
    }
}

static void damaged_container(void **state)
{
    struct fixture *f = *state;
    char path[TEST_PATH];
    struct ptq_h5 *h;
    struct ptq_tokenizer *t = open_case(f, find_case(f, "gpt2"), false), *none;
    test_path(f->folder, "t.h5", path);
    const struct {
        const char *attribute, *text;
        int64_t value;
        const char *message;
    } edits[] = {{"kind", "unigram", 0, "unknown kind 'unigram'"},
                 {"vocab_size", NULL, 5, "at does not fit the texts"},
                 {"vocab_size", NULL, INT64_MAX, "vocab_size is out of range"},
                 {"n_steps", NULL, 9, "n_steps is out of range"},
                 {"step0.pattern", "(", 0, "missing closing parenthesis"},
                 {"normalizer", "nfkc", 0, "unknown normalizer 'nfkc'"},
                 {"bos", NULL, 901, "bos is out of range"},
                 {"ignore_merges", NULL, 2, "ignore_merges is out of range"}};
    for (int i = 0; i < LENGTH(edits); i++) {
        assert_ok(ptq_h5_open(&h, path, PTQ_H5_CREATE, &f->st), &f->st);
        assert_ok(ptq_tokenizer_write(t, h, &f->st), &f->st);
        if (edits[i].text)
            assert_ok(ptq_h5_set_text(h, "/tokenizer", edits[i].attribute, edits[i].text, &f->st),
                      &f->st);
        else
            assert_ok(ptq_h5_set_i64(h, "/tokenizer", edits[i].attribute, edits[i].value, &f->st),
                      &f->st);
        assert_ok(ptq_h5_close(h, &f->st), &f->st);
        assert_int_equal(ptq_tokenizer_open(&none, path, &f->st), PTQ_ERR_USAGE);
        assert_status(&f->st, PTQ_ERR_USAGE, edits[i].message);
        ptq_status_clear(&f->st);
    }
    /* A definition of one kind under the name of another may be refused or encode; no more. */
    const char *const kinds[] = {"spm", "llama2c", "wordpiece"};
    for (int i = 0; i < LENGTH(kinds); i++) {
        assert_ok(ptq_h5_open(&h, path, PTQ_H5_APPEND, &f->st), &f->st);
        assert_ok(ptq_h5_set_text(h, "/tokenizer", "kind", kinds[i], &f->st), &f->st);
        assert_ok(ptq_h5_set_i64(h, "/tokenizer", "ignore_merges", 0, &f->st), &f->st);
        assert_ok(ptq_h5_close(h, &f->st), &f->st);
        int code = ptq_tokenizer_open(&none, path, &f->st);
        assert_true(code == PTQ_OK || code == PTQ_ERR_USAGE);
        for (int k = 0; k < f->n_texts && code == PTQ_OK; k++) {
            int32_t *id;
            encode(f, none, f->text[k], true, true, &id);
        }
        ptq_tokenizer_close(none);
        ptq_status_clear(&f->st);
    }
    const int32_t wrong[2] = {0, 901};
    assert_ok(ptq_h5_open(&h, path, PTQ_H5_CREATE, &f->st), &f->st);
    assert_ok(ptq_tokenizer_write(t, h, &f->st), &f->st);
    assert_ok(ptq_h5_write(h, "/tokenizer/merge", PTQ_H5_I32, 2, (int64_t[]){1, 2}, wrong, &f->st),
              &f->st);
    assert_ok(ptq_h5_close(h, &f->st), &f->st);
    assert_int_equal(ptq_tokenizer_open(&none, path, &f->st), PTQ_ERR_USAGE);
    assert_status(&f->st, PTQ_ERR_USAGE, "merge holds a number out of range");
    ptq_tokenizer_close(t);
}

static void no_tokenizer(void **state)
{
    struct fixture *f = *state;
    struct ptq_tokenizer *t;
    struct ptq_h5 *h;
    char path[TEST_PATH];
    assert_int_equal(ptq_tokenizer_open(&t, f->folder, &f->st), PTQ_SKIP);
    test_path(f->folder, "empty.h5", path);
    assert_ok(ptq_h5_open(&h, path, PTQ_H5_CREATE, &f->st), &f->st);
    assert_ok(ptq_h5_close(h, &f->st), &f->st);
    assert_int_equal(ptq_tokenizer_open(&t, path, &f->st), PTQ_SKIP);
    assert_int_equal(f->st.code, PTQ_OK);
    assert_null(t);
    put_file(f, "notes.md", "x");
    test_path(f->folder, "notes.md", path);
    assert_int_equal(ptq_tokenizer_open(&t, path, &f->st), PTQ_ERR_USAGE);
    assert_status(&f->st, PTQ_ERR_USAGE, "is no tokenizer that is known; supported:");
    ptq_status_clear(&f->st);
    assert_int_equal(ptq_tokenizer_open(&t, "no/such/file", &f->st), PTQ_ERR_USAGE);
    assert_status(&f->st, PTQ_ERR_USAGE, "no/such/file: cannot open");
}

/* ---- decoding, threads ------------------------------------------------------------------------
 */

/* Without normalizer and dropped bytes the text comes back; special tokens by their text. */
static void decoding(void **state)
{
    struct fixture *f = *state;
    struct ptq_tokenizer *t = open_case(f, find_case(f, "gpt2"), false);
    for (int i = 0; i < f->n_texts; i++) {
        int32_t *id;
        int64_t bytes, n = encode(f, t, f->text[i], true, true, &id);
        char *text;
        assert_ok(ptq_tokenizer_decode(t, id, n, &f->arena, &text, &bytes, &f->st), &f->st);
        if (i >= N_AWKWARD && i < N_AWKWARD + N_DAMAGED)
            continue;
        assert_int_equal(bytes, f->text[i].bytes);
        assert_memory_equal(text, f->text[i].at, (size_t)bytes);
        assert_int_equal(text[bytes], 0);
    }
    /* b"cut \xe2\x82": one U+FFFD for the cut sequence, as Python's decoder gives */
    int32_t *id;
    char *text;
    int64_t bytes, n = encode(f, t, f->text[N_AWKWARD + 1], true, true, &id);
    assert_ok(ptq_tokenizer_decode(t, id, n, &f->arena, &text, &bytes, &f->st), &f->st);
    assert_string_equal(text, "cut \xEF\xBF\xBD");
    const int32_t wrong[] = {3, 901};
    assert_int_equal(ptq_tokenizer_decode(t, wrong, 2, &f->arena, &text, &bytes, &f->st),
                     PTQ_ERR_USAGE);
    assert_status(&f->st, PTQ_ERR_USAGE, "id 901 at 1 is no token: the vocabulary has 901");
    ptq_tokenizer_close(t);
}

struct shared_use {
    struct fixture *f;
    const struct ptq_tokenizer *t;
    uint64_t hash[8];
};

static void encode_all(void *arg, int64_t begin, int64_t end)
{
    struct shared_use *u = arg;
    for (int64_t i = begin; i < end; i++) {
        struct ptq_arena a;
        struct ptq_status st = {0};
        ptq_arena_init(&a, 0);
        u->hash[i] = fnv_start;
        for (int k = 0; k < u->f->n_texts; k++) {
            const struct ptq_encode ask = {u->f->text[k].at, u->f->text[k].bytes, true, true};
            int32_t *id;
            int64_t n = 0;
            if (ptq_tokenizer_encode(u->t, &ask, &a, &id, &n, &st) == PTQ_OK)
                u->hash[i] = fnv(u->hash[i], id, n);
        }
        ptq_arena_clear(&a);
    }
}

static void threads(void **state)
{
    struct fixture *f = *state;
    struct shared_use u = {f, open_case(f, find_case(f, "qwen2"), false), {0}};
    struct ptq_pool *pool;
    assert_ok(ptq_pool_new(&pool, 4, &f->st), &f->st);
    ptq_pool_for(pool, 8, 1, encode_all, &u);
    struct shared_use alone = u;
    encode_all(&alone, 0, 1);
    for (int i = 0; i < 8; i++)
        assert_true(u.hash[i] == alone.hash[0] && u.hash[i] != fnv_start);
    ptq_pool_free(pool);
    ptq_tokenizer_close((struct ptq_tokenizer *)(uintptr_t)u.t);
}

/* ---- pre-tokenizers -------------------------------------------------------------------------- */

/* GGUF names a family where tokenizer.json spells its steps: the same definition. */
static void named_steps(void **state)
{
    struct fixture *f = *state;
    const char *const pairs[][2] = {{"gpt2", "gpt-2"},
                                    {"smollm2", "smollm"},
                                    {"llama3", "llama-bpe"},
                                    {"qwen2", "qwen2"},
                                    {"bloom", "bloom"}};
    for (int i = 0; i < LENGTH(pairs); i++) {
        struct ptq_tok_def file, name = {0};
        char path[TEST_PATH];
        json_t *root = whole_json(f, find_case(f, pairs[i][0]), false);
        put_json(f, "t.json", root);
        json_decref(root);
        test_path(f->folder, "t.json", path);
        assert_ok(ptq_tok_read_json(path, &f->arena, &file, &f->st), &f->st);
        assert_ok(ptq_pretok_named(pairs[i][1], "x.gguf", &name, &f->st), &f->st);
        assert_true(file.n_steps == name.n_steps && file.norm == name.norm &&
                    file.ignore_merges == name.ignore_merges);
        for (int k = 0; k < name.n_steps; k++) {
            assert_string_equal(file.step[k].pattern, name.step[k].pattern);
            assert_true(file.step[k].kind == name.step[k].kind);
        }
    }
    struct ptq_tok_def d = {0};
    assert_int_equal(ptq_pretok_named("default", "x.gguf", &d, &f->st), PTQ_ERR_USAGE);
    assert_status(&f->st, PTQ_ERR_USAGE, "x.gguf: unknown pre-tokenizer 'default'");
}

/* Rewriting of Oniguruma's patterns, by hand from its reference of regular expressions. */
static void patterns(void **state)
{
    struct fixture *f = *state;
    const char *const good[][2] = {
        {"a|\\p{L}+\\x{20}", "a|\\p{L}+\\x{20}"},
        {"[(\\d[.,]x]+", "[(\\d.,x]+"},   /* an inner class adds its members */
        {"[^]a]\\h", "[^]a][0-9a-fA-F]"}, /* "]" first is a member; \h is a digit */
        {"x{,3}y{2}z{", "x{0,3}y{2}z\\{"},
        {"(?i:\\u00e9)(?!b)", "(?i:\\x{00e9})(?!b)"}};
    const char *const bad[][2] = {{"[a&&b]", "&& in a class"},
                                  {"[[:alpha:]]", "[:name:]"},
                                  {"[a[^b]]", "negated class inside"},
                                  {"[\\S\\d]", "negated class inside"},
                                  {"(?m:a)", "this kind of group"},
                                  {"(?<n>a)", "a named group"},
                                  {"\\p{L}{1,3}+", "+ behind {n,m}"},
                                  {"\\R", "this escape"},
                                  {"[ab", "a class without end"},
                                  {"a\\", "this escape"},
                                  {"\\p{L", "{ without }"},
                                  {"\\u12", "\\u without four"}};
    char *out;
    for (int i = 0; i < LENGTH(good); i++) {
        assert_ok(ptq_pattern_translate(good[i][0], "t", &f->arena, &out, &f->st), &f->st);
        assert_string_equal(out, good[i][1]);
    }
    for (int i = 0; i < LENGTH(bad); i++) {
        assert_int_equal(ptq_pattern_translate(bad[i][0], "t", &f->arena, &out, &f->st),
                         PTQ_ERR_USAGE);
        assert_status(&f->st, PTQ_ERR_USAGE, bad[i][1]);
        ptq_status_clear(&f->st);
    }
}

/* GPT-2's bytes_to_unicode: printable Latin-1 is itself, the rest counts up from U+0100. */
static void byte_symbols(void **state)
{
    (void)state;
    bool seen[512] = {false};
    for (int b = 0; b < 256; b++) {
        uint32_t c = ptq_byte_symbol((uint8_t)b);
        assert_true(c < 512 && !seen[c]);
        seen[c] = true;
        assert_int_equal(ptq_symbol_byte(c), b);
    }
    assert_int_equal(ptq_byte_symbol('\n'), 0x10A);
    assert_int_equal(ptq_byte_symbol(' '), 0x120);
    assert_int_equal(ptq_byte_symbol(0xAD), 0x143);
    assert_true(ptq_symbol_byte(' ') == -1 && ptq_symbol_byte(0x144) == -1);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void expect_refusal(struct fixture *f, const json_t *root, const char *message)
{
    struct ptq_tokenizer *t;
    put_json(f, "tokenizer.json", root);
    ptq_status_clear(&f->st);
    int code = ptq_tokenizer_open(&t, f->folder, &f->st);
    if (code != PTQ_ERR_USAGE)
        fail_msg("not refused: %s", message);
    assert_null(t);
    assert_status(&f->st, PTQ_ERR_USAGE, message);
    assert_status(&f->st, PTQ_ERR_USAGE, "tokenizer.json");
}

/* path: keys from the root with dots between. */
static void replace(json_t *root, const char *path, json_t *value)
{
    char key[64];
    size_t n = strcspn(path, ".");
    snprintf(key, sizeof key, "%.*s", (int)n, path);
    if (path[n])
        replace(json_object_get(root, key), path + n + 1, value);
    else
        json_object_set_new(root, key, value);
}

/* What would be another tokenization, each by its name. */
static void unsupported(void **state)
{
    struct fixture *f = *state;
    const char *const edits[][3] = {
        {"model.type", "\"Unigram\"", "model 'Unigram' is not supported; supported: BPE"},
        {"model.dropout", "0.1", "'dropout' is not supported"},
        {"model.end_of_word_suffix", "\"</w>\"", "end_of_word_suffix '</w>'"},
        {"model.continuing_subword_prefix", "\"##\"", "continuing_subword_prefix '##'"},
        {"model.unk_token", "\"<none>\"", "unk_token '<none>'"},
        {"normalizer", "{\"type\": \"NFKC\"}",
         "normalizer 'NFKC' is not supported; supported: NFC"},
        {"pre_tokenizer", "null", "BPE over 'characters'"},
        {"pre_tokenizer.type", "\"Magic\"", "BPE over 'characters'"},
        {"pre_tokenizer",
         "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"ByteLevel\"}, {\"type\": "
         "\"Digits\"}]}",
         "behind ByteLevel"},
        {"pre_tokenizer",
         "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Magic\"}, {\"type\": "
         "\"ByteLevel\"}]}",
         "pre-tokenizer 'Magic' is not supported; supported: ByteLevel"},
        {"pre_tokenizer",
         "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": "
         "{\"String\": "
         "\" \"}, \"behavior\": \"MergedWithNext\"}, {\"type\": \"ByteLevel\"}]}",
         "behavior 'MergedWithNext'"},
        {"pre_tokenizer",
         "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": "
         "{\"Regex\": "
         "\"\\\\p{Klingon}\"}}, {\"type\": \"ByteLevel\"}]}",
         "pattern '\\p{Klingon}' cannot be used"},
        {"post_processor", "{\"type\": \"Magic\"}", "post-processor 'Magic'"},
        {"post_processor",
         "{\"type\": \"BertProcessing\", \"sep\": [\"x\", 1], \"cls\": [\"y\", 999999]}",
         "a token that is not in the vocabulary around"},
        {"added_tokens",
         "[{\"id\": 900, \"content\": \"x\", \"single_word\": true, \"special\": true}]",
         "single_word of the added token 'x'"},
        {"added_tokens", "[{\"id\": 2000000000, \"content\": \"x\"}]", "token 'x': its id"},
        {"added_tokens", "[{\"id\": -1, \"content\": \"x\"}]",
         "added token 1 has no content or no id"},
        {"model.vocab", "[]", "holds no vocabulary"},
        {"model.vocab", "{\"a\": 1, \"b\": 1}", "token 'b': has the same id"},
        {"model.vocab", "{\"a\": 10000000000}", "token 'a': its id is no number"},
        {"model.merges", "{}", "a BPE model without merges"},
        {"model.merges", "[\"a b c\"]", "merge 1 'a b c' is not two tokens"},
        {"model.merges", "[[\"a\"]]", "merge 1 is no pair of tokens"},
        {"model.merges", "[\"a b\", \"a zzz\"]", "merge 2 needs the token 'zzz'"},
        {"model.merges", "[\"Q Z\"]", "merge 1 makes the token 'QZ', which the vocabulary lacks"},
        {"model", "3", "has no model"}};
    json_t *whole = whole_json(f, find_case(f, "gpt2"), false);
    json_object_set_new(json_object_get(json_object_get(whole, "model"), "vocab"), "ab",
                        json_integer(901));
    for (int i = 0; i < LENGTH(edits); i++) {
        json_t *root = json_deep_copy(whole);
        json_t *value = json_loads(edits[i][1], JSON_DECODE_ANY, NULL);
        assert_non_null(value);
        replace(root, edits[i][0], value);
        expect_refusal(f, root, edits[i][2]);
        json_decref(root);
    }
    json_decref(whole);
}

static void broken_files(void **state)
{
    struct fixture *f = *state;
    struct ptq_tokenizer *t;
    const char *const texts[][2] = {{"", "is no JSON"},
                                    {"[1]", "holds no JSON object"},
                                    {"{\"model\": {\"vocab\"", "is no JSON"},
                                    {"{}", "has no model"}};
    for (int i = 0; i < LENGTH(texts); i++) {
        put_file(f, "tokenizer.json", texts[i][0]);
        ptq_status_clear(&f->st);
        assert_int_equal(ptq_tokenizer_open(&t, f->folder, &f->st), PTQ_ERR_USAGE);
        assert_status(&f->st, PTQ_ERR_USAGE, texts[i][1]);
    }
    char *deep = ptq_arena_alloc(&f->arena, &f->st, 1 << 20, 1);
    memset(deep, '[', (1 << 20) - 1);
    put_file(f, "tokenizer.json", deep);
    ptq_status_clear(&f->st);
    assert_int_equal(ptq_tokenizer_open(&t, f->folder, &f->st), PTQ_ERR_USAGE);
    assert_status(&f->st, PTQ_ERR_USAGE, "nested too deep");
    json_t *root = whole_json(f, find_case(f, "gpt2"), false);
    json_t *pre = json_incref(json_object_get(root, "pre_tokenizer"));
    for (int i = 0; i < 20; i++)
        pre = json_pack("{s:s, s:[o]}", "type", "Sequence", "pretokenizers", pre);
    json_object_set_new(root, "pre_tokenizer", pre);
    expect_refusal(f, root, "BPE over 'characters'");
    json_object_set(root, "normalizer", pre);
    json_decref(root);
}

/* A pattern that backtracks without end stops with an error that names the step. */
static void exploding_pattern(void **state)
{
    struct fixture *f = *state;
    json_t *root = whole_json(f, find_case(f, "gpt2"), false);
    replace(root, "pre_tokenizer",
            json_pack("{s:s, s:[{s:s, s:{s:s}, s:s}, {s:s}]}", "type", "Sequence", "pretokenizers",
                      "type", "Split", "pattern", "Regex", "(?:(?:a|aa)+)+b", "behavior",
                      "Isolated", "type", "ByteLevel"));
    put_json(f, "tokenizer.json", root);
    json_decref(root);
    struct ptq_tokenizer *t = open_source(f, f->folder);
    char text[200];
    memset(text, 'a', sizeof text);
    memcpy(text + 190, "c b", 3); /* a b that no match reaches */
    const struct ptq_encode ask = {text, sizeof text, false, true};
    int32_t *id;
    int64_t n;
    assert_int_equal(ptq_tokenizer_encode(t, &ask, &f->arena, &id, &n, &f->st), PTQ_ERR_USAGE);
    assert_status(&f->st, PTQ_ERR_USAGE, "pre-tokenizer step 1 takes too long");
    ptq_tokenizer_close(t);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {TEST(families),
                                       TEST(tokens_in_normalized_text),
                                       TEST(vocabulary_folder),
                                       TEST(configuration),
                                       TEST(gpt2),
                                       TEST(smollm2),
                                       TEST(bytes_as_tokens),
                                       TEST(containers),
                                       TEST(containers_of_other_kinds),
                                       TEST(keys),
                                       TEST(damaged_container),
                                       TEST(no_tokenizer),
                                       TEST(decoding),
                                       TEST(threads),
                                       TEST(named_steps),
                                       TEST(patterns),
                                       TEST(byte_symbols),
                                       TEST(unsupported),
                                       TEST(broken_files),
                                       TEST(exploding_pattern)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
