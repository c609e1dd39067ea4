/* tok_vectors.h: what the libraries encode, as tests/vectors/tok_spm.py wrote it, and how a
 * tokenizer is held against it: number and FNV-1a of the ids of the texts of
 * tests/vectors/tok_awkward.json, of the damaged ones there, and of WikiText-2 test where ../shared
 * is. */
#ifndef PTQ_TESTS_TOK_VECTORS_H
#define PTQ_TESTS_TOK_VECTORS_H
#include "core/json.h"
#include "model/tokenizer.h"
#include "testlib.h"

#define TOK_FOLDER "tests/vectors/tok_spm/"

static inline json_t *tok_json(const char *path)
{
    json_error_t error;
    json_t *j = json_load_file(path, JSON_ALLOW_NUL, &error);
    if (!j)
        fail_msg("%s: %s", path, error.text);
    return j;
}

static inline char *tok_digest(const int32_t *id, int64_t n, char out[48])
{
    uint64_t h = 0xCBF29CE484222325u;
    for (int64_t i = 0; i < n; i++)
        h = (h ^ (uint32_t)id[i]) * 0x100000001B3u;
    snprintf(out, 48, "%lld:%016llx", (long long)n, (unsigned long long)h);
    return out;
}

/* The ids of a case. */
static inline json_t *tok_expected(json_t *cases, const char *name)
{
    size_t i;
    json_t *c;
    json_array_foreach(cases, i, c)
    {
        if (strcmp(json_string_value(json_object_get(c, "case")), name) == 0)
            return json_object_get(c, "ids");
    }
    fail_msg("no case %s", name);
    return NULL;
}

struct tok_text {
    char *at;
    int64_t bytes;
};

static inline struct tok_text tok_copy(const char *text, size_t n)
{
    struct tok_text t = {malloc(n + 1), (int64_t)n};
    assert_non_null(t.at);
    memcpy(t.at, text, n);
    return t;
}

static inline struct tok_text tok_unhex(const char *hex)
{
    struct tok_text t = tok_copy(hex, strlen(hex) / 2);
    for (int64_t i = 0; i < t.bytes; i++) {
        unsigned v;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &v), 1);
        t.at[i] = (char)v;
    }
    return t;
}

/* WikiText-2 test, rows joined by two line ends, a blank row (one space) being an empty one; at
 * NULL, with a SKIP line: not there. */
static inline struct tok_text tok_wiki(void)
{
    char path[TEST_PATH], *raw;
    size_t size;
    struct ptq_status st = {0};
    struct tok_text t = {0};
    if (!test_shared("data/text/wiki.test.raw", path))
        return t;
    assert_ok(ptq_read_file(path, 1 << 22, &raw, &size, &st), &st);
    t.at = malloc(3 * size);
    assert_non_null(t.at);
    for (char *line = raw, *end = raw + size; line < end;) {
        char *next = memchr(line, '\n', (size_t)(end - line));
        assert_non_null(next);
        next++;
        if (line > raw) {
            memcpy(t.at + t.bytes, "\n\n", 2);
            t.bytes += 2;
        }
        if (next - line != 2 || line[0] != ' ') {
            memcpy(t.at + t.bytes, line, (size_t)(next - line));
            t.bytes += next - line;
        }
        line = next;
    }
    free(raw);
    assert_int_equal(t.bytes, 1296370); /* ../shared/data/README.md */
    return t;
}

static inline void tok_check_text(const struct ptq_tokenizer *t, struct tok_text text,
                                  const char *want, const char *what)
{
    struct ptq_arena a;
    struct ptq_status st = {0};
    const struct ptq_encode ask = {
        .text = text.at, .bytes = text.bytes, .added = strchr(what, ':')};
    int32_t *id;
    int64_t n;
    char got[48];
    ptq_arena_init(&a, 0);
    assert_ok(ptq_tokenizer_encode(t, &ask, &a, &id, &n, &st), &st);
    if (strcmp(tok_digest(id, n, got), want) != 0)
        fail_msg("%s: '%.60s': %s, expected %s", what, text.at, got, want);
    ptq_arena_clear(&a);
}

/* A case "file:variant" comes from a library that looks for added tokens in the text, "file" from
 * one that does not. */
static inline void tok_check(const char *source, const char *name)
{
    struct ptq_tokenizer *t;
    struct ptq_status st = {0};
    json_t *cases = tok_json(TOK_FOLDER "ids.json"),
           *texts = tok_json("tests/vectors/tok_awkward.json");
    json_t *want = tok_expected(cases, name), *list = json_object_get(texts, "texts"), *text;
    json_t *damaged = json_object_get(texts, "damaged_hex");
    size_t i, n = json_array_size(list), n_damaged = json_array_size(damaged);
    assert_ok(ptq_tokenizer_open(&t, source, &st), &st);
    assert_int_equal(json_array_size(want), n + n_damaged + 1);
    assert_true(n > 30 && n_damaged > 4);
    json_array_foreach(list, i, text)
    {
        struct tok_text x = tok_copy(json_string_value(text), json_string_length(text));
        tok_check_text(t, x, json_string_value(json_array_get(want, i)), name);
        free(x.at);
    }
    json_array_foreach(damaged, i, text)
    {
        struct tok_text x = tok_unhex(json_string_value(text));
        tok_check_text(t, x, json_string_value(json_array_get(want, n + i)), name);
        free(x.at);
    }
    struct tok_text wiki = tok_wiki();
    if (wiki.at)
        tok_check_text(t, wiki, json_string_value(json_array_get(want, n + n_damaged)), name);
    free(wiki.at);
    ptq_tokenizer_close(t);
    json_decref(cases);
    json_decref(texts);
}

/* tokenizer.json in the folder. */
static inline void tok_save(json_t *root, const char *folder, char path[TEST_PATH])
{
    test_path(folder, "tokenizer.json", path);
    assert_int_equal(json_dump_file(root, path, JSON_COMPACT), 0);
}
#endif
