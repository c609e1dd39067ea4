/* Checkpoints into containers: types, ranges, and that a container is there whole or not at all.
 * That shards do not show and that answers stay the same is in test_arch.c. */
#include "testlib.h"
#include "hf_folder.h"
#include "core/half.h"
#include "model/eval.h"
#include "model/import.h"

struct fixture {
    char dir[TEST_PATH], folder[TEST_PATH], out[TEST_PATH], tmp[TEST_PATH];
    struct hf_checkpoint c;
    struct ptq_status st;
};

static void begin(struct fixture *f, const char *name)
{
    memset(f, 0, sizeof *f);
    test_tmpdir(f->dir);
    test_path(f->dir, "hf", f->folder);
    test_path(f->dir, "m.h5", f->out);
    test_path(f->dir, "m.h5.tmp", f->tmp);
    mkdir(f->folder, 0777);
    hf_load(&f->c, name);
}

static void end(struct fixture *f)
{
    hf_release(&f->c);
    test_rmdir(f->dir);
}

static bool stop_later(void *arg)
{
    int *left = arg;
    return (*left)-- == 0;
}

/* stop_at: tensors before the stop; -1: none. */
static int import(struct fixture *f, enum ptq_h5_type type, int stop_at)
{
    struct ptq_model *m;
    ptq_status_clear(&f->st);
    assert_ok(ptq_model_open(&m, f->folder, NULL, &f->st), &f->st);
    const struct ptq_import_args args = {.model = m,
                                         .out_path = f->out,
                                         .type = type,
                                         .quiet = true,
                                         .stop = stop_at < 0 ? NULL : stop_later,
                                         .stop_arg = &stop_at};
    int rc = ptq_import(&args, &f->st);
    ptq_model_close(m);
    return rc;
}

/* ---- types */

static float rounded(float x, enum ptq_h5_type t)
{
    return t == PTQ_H5_F16    ? ptq_f32_from_f16(ptq_f16_from_f32(x))
           : t == PTQ_H5_BF16 ? ptq_f32_from_bf16(ptq_bf16_from_f32(x))
                              : x;
}

static void assert_rounded(const float *got, const float *from, int64_t n, enum ptq_h5_type t)
{
    for (int64_t i = 0; i < n; i++)
        if (got[i] != rounded(from[i], t))
            fail_msg("value %lld: %.9g, expected %.9g", (long long)i, (double)got[i],
                     (double)rounded(from[i], t));
}

static void compare_blocks(const struct fixture *f, enum ptq_h5_type t)
{
    struct ptq_status st = {0};
    struct ptq_model *x, *y;
    assert_ok(ptq_model_open(&x, f->folder, NULL, &st), &st);
    assert_ok(ptq_model_open(&y, f->out, NULL, &st), &st);
    for (int b = 0; b < ptq_model_info(x)->n_blocks; b++) {
        struct ptq_arena a;
        struct ptq_block p, q;
        ptq_arena_init(&a, 0);
        assert_ok(ptq_model_load_block(x, b, &a, &p, &st), &st);
        assert_ok(ptq_model_load_block(y, b, &a, &q, &st), &st);
        for (int k = 0; k < p.n_linears; k++)
            assert_rounded(q.lin[k].w, p.lin[k].w, p.lin[k].d_out * p.lin[k].d_in, t);
        for (int k = 0; k < p.n_vectors; k++)
            if (p.vec[k].name)
                assert_rounded(q.vec[k].at, p.vec[k].at, p.vec[k].n, t);
        ptq_arena_clear(&a);
    }
    ptq_model_close(x);
    ptq_model_close(y);
}

static enum ptq_h5_type stored_type(const char *path, const char *dataset)
{
    struct ptq_status st = {0};
    struct ptq_h5 *h;
    struct ptq_h5_info info;
    assert_ok(ptq_h5_open(&h, path, PTQ_H5_READ, &st), &st);
    assert_ok(ptq_h5_info(h, dataset, &info, &st), &st);
    assert_ok(ptq_h5_close(h, &st), &st);
    return info.type;
}

static void test_types(void **state)
{
    static const enum ptq_h5_type types[] = {PTQ_H5_F32, PTQ_H5_F16, PTQ_H5_BF16};
    (void)state;
    struct fixture f;
    begin(&f, "gpt2");
    hf_write(&f.c, f.folder, "");
    for (int64_t i = 0; i < LENGTH(types); i++) {
        assert_ok(import(&f, types[i], -1), &f.st);
        assert_int_equal(stored_type(f.out, "/model/blk.1.attn_k"), types[i]);
        compare_blocks(&f, types[i]);
    }
    end(&f);
}

/* One tensor of each type in one file: each keeps its own. */
static void test_same(void **state)
{
    (void)state;
    struct fixture f;
    struct ptq_st_entry e[HF_MAX_TENSORS];
    struct ptq_st_writer *w;
    char path[TEST_PATH];
    begin(&f, "llama");
    for (int64_t i = 0; i < f.c.n; i++) {
        const struct hf_tensor *t = &f.c.tensor[i];
        const enum ptq_st_type type = strstr(t->name, "q_proj")   ? PTQ_ST_F16
                                      : strstr(t->name, "k_proj") ? PTQ_ST_BF16
                                                                  : PTQ_ST_F32;
        e[i] = (struct ptq_st_entry){t->name, type, t->rank, {t->dim[0], t->dim[1]}};
    }
    hf_write_config(&f.c, f.folder);
    test_path(f.folder, "model.safetensors", path);
    assert_ok(ptq_st_create(&w, path, e, f.c.n, NULL, &f.st), &f.st);
    for (int64_t i = 0; i < f.c.n; i++)
        assert_ok(ptq_st_write(w, f.c.tensor[i].value, f.c.tensor[i].n, &f.st), &f.st);
    assert_ok(ptq_st_finish(w, true, &f.st), &f.st);
    assert_ok(import(&f, PTQ_H5_OTHER, -1), &f.st);
    assert_int_equal(stored_type(f.out, "/model/blk.0.attn_q"), PTQ_H5_F16);
    assert_int_equal(stored_type(f.out, "/model/blk.0.attn_k"), PTQ_H5_BF16);
    assert_int_equal(stored_type(f.out, "/model/blk.0.attn_v"), PTQ_H5_F32);
    compare_blocks(&f, PTQ_H5_F32); /* no value moves */
    end(&f);
}

/* ---- files of several grids: the narrowest one of a tenth of the weights or more is named */

static void check_mark(const char *source, int bits, const char *mark)
{
    struct ptq_status st = {0};
    struct ptq_model *m;
    assert_ok(ptq_model_open(&m, source, NULL, &st), &st);
    const struct ptq_model_info *i = ptq_model_info(m);
    assert_int_equal(i->grid_bits, bits);
    assert_int_equal(i->grid_group, mark ? 32 : 0);
    if (mark)
        assert_string_equal(i->quantized_as, mark);
    else
        assert_null(i->quantized_as);
    ptq_model_close(m);
}

static void test_grids(void **state)
{
    (void)state;
    static const struct {
        struct gguf_types types;
        int bits;
        const char *mark;
    } cases[] = {
        /* 1024 of 9216 weights a block: 11.1 % */
        {{"attn_k attn_v", GGUF_Q4_0, GGUF_Q8_0},
         4,
         "Q4_0: 4 bits, groups of 32 (11 % of the block weights)"},
        {{"attn_q", GGUF_Q4_0, GGUF_Q5_0},
         4, /* the first matrix of a block */
         "Q4_0: 4 bits, groups of 32 (11 % of the block weights)"},
        {{"attn_k attn_v", GGUF_Q8_0, GGUF_Q5_0},
         5, /* 88.9 % */
         "Q5_0: 5 bits, groups of 32 (89 % of the block weights)"},
        /* 512: 5.6 % are too few; the others 94.4 % */
        {{"attn_v", GGUF_Q4_0, GGUF_Q8_0},
         8,
         "Q8_0: 8 bits, groups of 32 (94 % of the block weights)"},
        {{"attn_v", GGUF_Q4_0, GGUF_F32_TENSOR}, 0, NULL},
        {{"", 0, GGUF_Q5_0}, 5, "Q5_0: 5 bits, groups of 32"},
        {{"", 0, GGUF_F32_TENSOR}, 0, NULL},
    };
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        struct fixture f;
        begin(&f, "llama");
        test_path(f.dir, "m.gguf", f.folder);
        gguf_write_llama(f.folder, &cases[i].types);
        check_mark(f.folder, cases[i].bits, cases[i].mark);
        assert_ok(import(&f, PTQ_H5_OTHER, -1), &f.st);
        check_mark(f.out, cases[i].bits, cases[i].mark); /* the container keeps it */
        end(&f);
    }
}

/* ---- what is wrong with a configuration, where, and what to do */

static void assert_said(struct fixture *f, const char *source, const char *place, const char *what,
                        const char *remedy)
{
    struct ptq_model *m;
    ptq_status_clear(&f->st);
    assert_int_equal(ptq_model_open(&m, source, NULL, &f->st), PTQ_ERR_USAGE);
    assert_status(&f->st, PTQ_ERR_USAGE, what);
    assert_non_null(strstr(f->st.text, place));
    assert_non_null(strstr(f->st.text, remedy));
}

static void test_said(void **state)
{
    (void)state;
    static const char bare[] = "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    struct fixture f;
    char path[TEST_PATH];
    begin(&f, "gpt2");
    hf_set(&f.c, "n_head", NULL);
    hf_write(&f.c, f.folder, "");
    assert_said(&f, f.folder, f.folder, "the setting n_head is missing", "add it to");
    hf_set(&f.c, "n_head", json_string("four"));
    hf_write_config(&f.c, f.folder);
    assert_said(&f, f.folder, f.folder,
                "the setting n_head is \"four\"; expected a whole number, 1 .. ",
                "repair the metadata (of a folder: config.json)");
    hf_set(&f.c, "n_head", json_integer(5));
    hf_write_config(&f.c, f.folder);
    assert_said(&f, f.folder, f.folder, "the width 24 is not a multiple of the 5 heads",
                "repair the configuration");
    test_path(f.dir, "part.gguf", path);
    assert_ok(ptq_write_file(path, bare, 24, &f.st), &f.st);
    assert_said(&f, path, path, "holds no metadata", "name the whole model");
    end(&f);
}

/* ---- the same answers, to the last bit */

static void scores(const char *source, double nll[2])
{
    struct ptq_status st = {0};
    struct ptq_arena a;
    struct ptq_model *m;
    struct ptq_eval e;
    int32_t id[60];
    const int64_t len[] = {40, 20}, offset[] = {0, 40};
    ptq_arena_init(&a, 0);
    for (uint64_t i = 0; i < 60; i++)
        id[i] = (int32_t)(ptq_hash_u64(3, i) % 96);
    const struct ptq_text text = {.tokens = {2, 60, len, offset, id}};
    assert_ok(ptq_model_open(&m, source, NULL, &st), &st);
    const struct ptq_eval_args args = {.model = m, .text = &text};
    assert_ok(ptq_eval_model(&args, &a, &e, &st), &st);
    memcpy(nll, e.nll_window, 2 * sizeof *nll);
    ptq_model_close(m);
    ptq_arena_clear(&a);
}

static void test_eval(void **state)
{
    static const char *const names[] = {"gpt2", "bloom", "opt_350m", "qwen3", "llama3"};
    (void)state;
    for (int64_t i = 0; i < LENGTH(names); i++) {
        struct fixture f;
        double folder[2], container[2];
        begin(&f, names[i]);
        hf_write(&f.c, f.folder, "");
        assert_ok(import(&f, PTQ_H5_OTHER, -1), &f.st);
        scores(f.folder, folder);
        scores(f.out, container);
        assert_true(isfinite(folder[0]) && folder[0] != folder[1]);
        assert_memory_equal(folder, container, sizeof folder);
        end(&f);
    }
}

/* ---- whole or not at all */

static void assert_absent(const struct fixture *f)
{
    assert_int_equal(access(f->out, F_OK), -1);
    assert_int_equal(access(f->tmp, F_OK), -1);
}

static void test_overflow(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, "opt");
    struct hf_tensor *t = &f.c.tensor[f.c.n - 1];
    /* The largest fp32 that rounds to f16's 65504, and the next one. */
    t->value[1] = 65519.996f;
    hf_write(&f.c, f.folder, "");
    assert_ok(import(&f, PTQ_H5_F16, -1), &f.st);
    remove(f.out);
    t->value[1] = -65520;
    hf_write(&f.c, f.folder, "");
    assert_int_equal(import(&f, PTQ_H5_F16, -1), PTQ_ERR_NUMERIC);
    assert_status(&f.st, PTQ_ERR_NUMERIC, "holds -65520, which f16 cannot hold");
    assert_absent(&f);
    assert_ok(import(&f, PTQ_H5_BF16, -1), &f.st);
    t->value[1] = NAN;
    remove(f.out);
    /* The writer refuses it, so the bytes are put there. */
    FILE *to;
    char path[TEST_PATH];
    test_path(f.folder, "model.safetensors", path);
    assert_non_null(to = fopen(path, "r+b"));
    assert_int_equal(fseek(to, -4, SEEK_END), 0);
    assert_int_equal(fwrite(&t->value[1], 4, 1, to), 1);
    assert_int_equal(fclose(to), 0);
    assert_int_equal(import(&f, PTQ_H5_OTHER, -1), PTQ_ERR_NUMERIC);
    assert_absent(&f);
    end(&f);
}

/* Stopped at any tensor: what stood there stays. */
static void test_stop(void **state)
{
    (void)state;
    struct fixture f;
    char *text;
    size_t n;
    begin(&f, "llama");
    hf_write(&f.c, f.folder, "");
    for (int at = 0; at < 9; at += 4) {
        assert_int_equal(import(&f, PTQ_H5_OTHER, at), PTQ_ERR_CANCELLED);
        assert_absent(&f);
    }
    assert_ok(ptq_write_file(f.out, "before", 6, &f.st), &f.st);
    assert_int_equal(import(&f, PTQ_H5_OTHER, 2), PTQ_ERR_CANCELLED);
    assert_int_equal(access(f.tmp, F_OK), -1);
    ptq_status_clear(&f.st);
    assert_ok(ptq_read_file(f.out, 100, &text, &n, &f.st), &f.st);
    assert_string_equal(text, "before");
    free(text);
    assert_ok(import(&f, PTQ_H5_OTHER, -1), &f.st);
    compare_blocks(&f, PTQ_H5_F32);
    end(&f);
}

static void test_onto_itself(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, "llama");
    hf_write(&f.c, f.folder, "");
    assert_ok(import(&f, PTQ_H5_OTHER, -1), &f.st);
    snprintf(f.folder, sizeof f.folder, "%s", f.out);
    assert_int_equal(import(&f, PTQ_H5_F16, -1), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "is the model itself");
    assert_int_equal(stored_type(f.out, "/model/tok_embd"), PTQ_H5_F32);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types), cmocka_unit_test(test_same),
        cmocka_unit_test(test_grids), cmocka_unit_test(test_said),
        cmocka_unit_test(test_eval),  cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_stop),  cmocka_unit_test(test_onto_itself)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
