/* hf_folder.h: tiny checkpoints from vector files (tests/vectors/arch_reference.py): the weights
 * are made by name and index, and written as a Hugging Face folder or as GGUF. */
#ifndef PTQ_HF_FOLDER_H
#define PTQ_HF_FOLDER_H
#include <sys/stat.h>
#include "core/json.h"
#include "core/rng.h"
#include "datasets/safetensors.h"
#include "testlib.h"

enum { HF_MAX_TENSORS = 128 };
struct hf_tensor {
    const char *name;
    int rank;
    int64_t dim[2], n;
    float *value; /* malloc'ed */
    int gguf;     /* how gguf_write stores it; quantized: codes at random, not these values */
};
struct hf_checkpoint {
    json_t *vector, *config; /* config is the caller's to edit */
    struct hf_tensor tensor[HF_MAX_TENSORS];
    int64_t n;
};

static inline uint64_t hf_fnv1a(const char *name)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001B3u;
    return h;
}

/* weights() of the script: 24 bits of splitmix64 on [-0.3, 0.3), gains of norms around 1. */
static inline void hf_fill(struct hf_tensor *t)
{
    const uint64_t seed = hf_fnv1a(t->name);
    const size_t len = strlen(t->name);
    const bool gain = t->rank == 1 && len > 7 && !strcmp(t->name + len - 7, ".weight");
    t->value = malloc((size_t)t->n * sizeof *t->value);
    assert_non_null(t->value);
    for (int64_t i = 0; i < t->n; i++) {
        int64_t bits = (int64_t)(ptq_hash_u64(seed, (uint64_t)i) >> 40) - (1 << 23);
        float w = (float)bits * 0x1p-23f * 0.3f;
        t->value[i] = gain ? w + 1 : w;
    }
}

static inline void hf_load(struct hf_checkpoint *c, const char *name)
{
    char path[TEST_PATH];
    const char *key;
    json_t *shape;
    json_error_t e;
    *c = (struct hf_checkpoint){0};
    snprintf(path, sizeof path, "tests/vectors/arch/%s.json", name);
    c->vector = json_load_file(path, 0, &e);
    if (!c->vector)
        fail_msg("%s: %s", path, e.text);
    c->config = json_deep_copy(json_object_get(c->vector, "config"));
    json_object_foreach(json_object_get(c->vector, "tensors"), key, shape)
    {
        struct hf_tensor *t = &c->tensor[c->n++];
        assert_true(c->n <= HF_MAX_TENSORS);
        *t = (struct hf_tensor){.name = key, .rank = (int)json_array_size(shape), .n = 1};
        for (int k = 0; k < t->rank; k++)
            t->n *= t->dim[k] = json_integer_value(json_array_get(shape, (size_t)k));
        hf_fill(t);
    }
}

static inline void hf_release(struct hf_checkpoint *c)
{
    for (int64_t i = 0; i < c->n; i++)
        free(c->tensor[i].value);
    json_decref(c->config);
    json_decref(c->vector);
}

/* A setting of config.json; v is taken. NULL: the key is removed. */
static inline void hf_set(struct hf_checkpoint *c, const char *key, json_t *v)
{
    if (v)
        assert_int_equal(json_object_set_new(c->config, key, v), 0);
    else
        json_object_del(c->config, key);
}

static inline void hf_write_config(const struct hf_checkpoint *c, const char *dir)
{
    char path[TEST_PATH];
    test_path(dir, "config.json", path);
    assert_int_equal(json_dump_file(c->config, path, JSON_INDENT(2)), 0);
}

/* Tensors first, first + step, ... into one safetensors file; `drop` is cut from names that begin
 * with it. */
static inline void hf_write_shard(const struct hf_checkpoint *c, const char *path, int64_t first,
                                  int64_t step, const char *drop)
{
    struct ptq_st_entry e[HF_MAX_TENSORS];
    struct ptq_st_writer *w;
    struct ptq_status st = {0};
    int64_t n = 0;
    for (int64_t i = first; i < c->n; i += step) {
        const struct hf_tensor *t = &c->tensor[i];
        size_t cut = !strncmp(t->name, drop, strlen(drop)) ? strlen(drop) : 0;
        e[n++] = (struct ptq_st_entry){t->name + cut, PTQ_ST_F32, t->rank, {t->dim[0], t->dim[1]}};
    }
    assert_ok(ptq_st_create(&w, path, e, n, NULL, &st), &st);
    for (int64_t i = first; i < c->n; i += step)
        assert_ok(ptq_st_write(w, c->tensor[i].value, c->tensor[i].n, &st), &st);
    assert_ok(ptq_st_finish(w, true, &st), &st);
}

static inline void hf_write(const struct hf_checkpoint *c, const char *dir, const char *drop)
{
    char path[TEST_PATH];
    hf_write_config(c, dir);
    test_path(dir, "model.safetensors", path);
    hf_write_shard(c, path, 0, 1, drop);
}

/* Three shards that take tensors in turn, and their index. */
static inline void hf_write_sharded(const struct hf_checkpoint *c, const char *dir)
{
    char path[TEST_PATH], name[64];
    json_t *map = json_object(), *index = json_pack("{s:{s:i}}", "metadata", "total_size", 0);
    hf_write_config(c, dir);
    for (int64_t s = 0; s < 3; s++) {
        snprintf(name, sizeof name, "model-%05d-of-00003.safetensors", (int)s + 1);
        test_path(dir, name, path);
        hf_write_shard(c, path, s, 3, "");
        for (int64_t i = s; i < c->n; i += 3)
            json_object_set_new(map, c->tensor[i].name, json_string(name));
    }
    json_object_set_new(index, "weight_map", map);
    test_path(dir, "model.safetensors.index.json", path);
    assert_int_equal(json_dump_file(index, path, 0), 0);
    json_decref(index);
}

/* ---- GGUF, version 3 (github.com/ggml-org/ggml, docs/gguf.md) */

enum { GGUF_U32 = 4, GGUF_F32 = 6, GGUF_STRING = 8, GGUF_ALIGN = 32 };
enum { GGUF_F32_TENSOR = 0, GGUF_Q4_0 = 2, GGUF_Q5_0 = 6, GGUF_Q8_0 = 8, GGUF_GROUP = 32 };

/* The names that the tensors have in GGUF, as the vector file lists them. */
static inline void gguf_rename(struct hf_checkpoint *c)
{
    const json_t *to = json_object_get(c->vector, "gguf");
    for (int64_t i = 0; i < c->n; i++) {
        c->tensor[i].name = json_string_value(json_object_get(to, c->tensor[i].name));
        assert_non_null(c->tensor[i].name);
    }
}

static inline void gguf_text(FILE *f, const char *text)
{
    fwrite(&(uint64_t){strlen(text)}, 8, 1, f);
    fwrite(text, 1, strlen(text), f);
}

/* Key `key` of the architecture, or a general one as it stands ("general.architecture"). */
static inline void gguf_put(FILE *f, const char *arch, const char *key, const json_t *v)
{
    char whole[128];
    snprintf(whole, sizeof whole, "%s%s%s", strchr(key, '!') ? "" : arch,
             strchr(key, '!') ? "" : ".", key + strspn(key, "!"));
    gguf_text(f, whole);
    if (json_is_string(v)) {
        fwrite(&(uint32_t){GGUF_STRING}, 4, 1, f);
        gguf_text(f, json_string_value(v));
    } else if (json_is_integer(v)) {
        fwrite(&(uint32_t){GGUF_U32}, 4, 1, f);
        fwrite(&(uint32_t){(uint32_t)json_integer_value(v)}, 4, 1, f);
    } else {
        fwrite(&(uint32_t){GGUF_F32}, 4, 1, f);
        fwrite(&(float){(float)json_real_value(v)}, 4, 1, f);
    }
}

static inline int64_t gguf_padding(int64_t n)
{
    return (GGUF_ALIGN - n % GGUF_ALIGN) % GGUF_ALIGN;
}

/* A group of 32 values is a scale, here 2^-8 as an f16, and codes. */
static inline int64_t gguf_group_bytes(int type)
{
    return type == GGUF_Q4_0 ? 2 + 16 : type == GGUF_Q5_0 ? 2 + 4 + 16 : 2 + 32;
}

static inline int64_t gguf_bytes(const struct hf_tensor *t)
{
    return t->gguf ? t->n / GGUF_GROUP * gguf_group_bytes(t->gguf) : t->n * 4;
}

static inline void gguf_values(FILE *f, const struct hf_tensor *t)
{
    if (!t->gguf) {
        fwrite(t->value, 4, (size_t)t->n, f);
        return;
    }
    const int64_t group = gguf_group_bytes(t->gguf);
    for (int64_t i = 0; i < gguf_bytes(t); i++)
        fputc(i % group == 0   ? 0x00
              : i % group == 1 ? 0x1C
                               : (int)(ptq_hash_u64(hf_fnv1a(t->name), (uint64_t)i) & 255),
              f);
}

/* All tensors of c under the names they have there. */
static inline void gguf_write(const struct hf_checkpoint *c, const char *path, const char *arch,
                              const json_t *meta)
{
    static const char zero[GGUF_ALIGN];
    const char *key;
    json_t *v;
    int64_t at = 0;
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite("GGUF", 1, 4, f);
    fwrite(&(uint32_t){3}, 4, 1, f);
    fwrite(&(uint64_t){(uint64_t)c->n}, 8, 1, f);
    fwrite(&(uint64_t){json_object_size(meta) + 1}, 8, 1, f);
    v = json_string(arch);
    gguf_put(f, arch, "!general.architecture", v);
    json_decref(v);
    json_object_foreach((json_t *)meta, key, v) gguf_put(f, arch, key, v);
    for (int64_t i = 0; i < c->n; i++) {
        const struct hf_tensor *t = &c->tensor[i];
        gguf_text(f, t->name);
        fwrite(&(uint32_t){(uint32_t)t->rank}, 4, 1, f);
        for (int k = t->rank - 1; k >= 0; k--)
            fwrite(&(uint64_t){(uint64_t)t->dim[k]}, 8, 1, f);
        fwrite(&(uint32_t){(uint32_t)t->gguf}, 4, 1, f);
        fwrite(&(uint64_t){(uint64_t)at}, 8, 1, f);
        at += gguf_bytes(t) + gguf_padding(gguf_bytes(t));
    }
    fwrite(zero, 1, (size_t)gguf_padding(ftell(f)), f);
    for (int64_t i = 0; i < c->n; i++) {
        gguf_values(f, &c->tensor[i]);
        fwrite(zero, 1, (size_t)gguf_padding(gguf_bytes(&c->tensor[i])), f);
    }
    assert_int_equal(fclose(f), 0);
}

/* The vector file "llama" as a GGUF, its MLP widened to whole groups. Block matrices whose names
 * are in a list are stored in its type, all others in `rest`; of a block's 9216 weights attn_q and
 * attn_output are 1024 each, attn_k and attn_v 512, the three ffn 2048. */
struct gguf_types {
    const char *list; /* "attn_k attn_v"; "" for none */
    int of_list, rest;
};
static inline void gguf_write_llama(const char *path, const struct gguf_types *types)
{
    struct hf_checkpoint c;
    hf_load(&c, "llama");
    gguf_rename(&c);
    for (int64_t i = 0; i < c.n; i++) {
        struct hf_tensor *t = &c.tensor[i];
        char part[32];
        if (t->rank != 2 || sscanf(t->name, "blk.%*d.%31[^.]", part) != 1)
            continue;
        for (int k = 0; k < 2; k++)
            t->dim[k] = t->dim[k] == 56 ? 64 : t->dim[k];
        t->n = t->dim[0] * t->dim[1];
        free(t->value);
        hf_fill(t);
        t->gguf = strstr(types->list, part) ? types->of_list : types->rest;
    }
    json_t *meta = json_pack("{s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:f}", "embedding_length", 32,
                             "block_count", 2, "attention.head_count", 4, "attention.head_count_kv",
                             2, "feed_forward_length", 64, "context_length", 64, "vocab_size", 96,
                             "attention.layer_norm_rms_epsilon", 1e-5);
    gguf_write(&c, path, "llama", meta);
    json_decref(meta);
    hf_release(&c);
}
#endif
