/* Rows of sweeps as Hugging Face folders: opened again, the folder scores what the row says, for
 * models that came as folders (fused and transposed matrices), containers and GGUF; the stored
 * forms beside it hold the same weights. The small checkpoints are those of
 * tests/vectors/arch_reference.py. That transformers reads such folders alike was checked with
 * transformers 5.23: log-probabilities within 3e-5. */
#include <dirent.h>
#include "testlib.h"
#include "hf_folder.h"
#include "machine.h"
#include "model/config.h"
#include "model/eval.h"
#include "model/import.h"
#include "model/internal.h"
#include "quant/formfile.h"
#include "sweep/export.h"
#include "sweep/row.h"
#include "sweep/sweep.h"

struct fixture {
    char dir[TEST_PATH], source[TEST_PATH], run[TEST_PATH], out[TEST_PATH], ids[TEST_PATH];
    struct ptq_arena arena;
    struct ptq_status st;
};

static void begin(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    ptq_arena_init(&f->arena, 0);
    test_tmpdir(f->dir);
    test_path(f->dir, "model", f->source);
    test_path(f->dir, "out", f->out);
    test_path(f->dir, "text.ids", f->ids);
    FILE *to = fopen(f->ids, "w");
    assert_non_null(to);
    for (uint64_t i = 0; i < 256; i++)
        fprintf(to, "%d ", (int)(ptq_hash_u64(7, i) % 96));
    assert_int_equal(fclose(to), 0);
}

static void end(struct fixture *f)
{
    ptq_arena_clear(&f->arena);
    test_rmdir(f->dir);
}

static void sweep(struct fixture *f, const char *more)
{
    char path[TEST_PATH], set[3 * TEST_PATH];
    struct ptq_config config;
    struct ptq_sweep_summary summary;
    test_path(f->dir, "s.ini", path);
    FILE *to = fopen(path, "w");
    assert_non_null(to);
    fprintf(to,
            "[model]\nsource = %s\n[calib]\ntext = ids:%s\nnsamples = 4\nseqlen = 32\n[sweep]\n"
            "methods = gptq\nbits = 3\ngroup_size = 8\n[eval]\ntext = ids:%s\nwindow = 32\n"
            "metrics = ppl\n",
            f->source, f->ids, f->ids);
    assert_int_equal(fclose(to), 0);
    snprintf(set, sizeof set, "run.out=%s run.name=run %s", f->dir, more);
    assert_ok(ptq_config_read(path, &(struct ptq_config_override){.set_words = set}, &f->arena,
                              &config, &f->st),
              &f->st);
    const struct ptq_sweep_args args = {
        .config = &config, .machine = &machine, .pool = pool, .quiet = true, .n_shards = 1};
    assert_ok(ptq_sweep_run(&args, &summary, &f->st), &f->st);
    assert_int_equal(summary.n_failed + summary.n_left + summary.n_skipped, 0);
    snprintf(f->run, sizeof f->run, "%s", summary.run_dir);
}

static int export(struct fixture *f, const char *field, const char *value, enum ptq_st_type type,
                  struct ptq_export_done *done)
{
    const struct ptq_row_pick pick = {field, value};
    const struct ptq_export_args args = {.run_dir = f->run,
                                         .out_dir = f->out,
                                         .picks = &pick,
                                         .n_picks = field != NULL,
                                         .type = type,
                                         .quiet = true};
    ptq_status_clear(&f->st);
    return ptq_export(&args, done, &f->st);
}

static double ppl_of(const char *source, const char *ids)
{
    char text[TEST_PATH + 8];
    struct ptq_status st = {0};
    struct ptq_model *m;
    struct ptq_arena a;
    struct ptq_eval e;
    struct ptq_text t;
    ptq_arena_init(&a, 0);
    snprintf(text, sizeof text, "ids:%s", ids);
    assert_ok(ptq_model_open(&m, source, NULL, &st), &st);
    const struct ptq_text_request q = {.source = text, .window = 32};
    assert_ok(ptq_text_load(ptq_model_info(m), &q, &a, &t, &st), &st);
    const struct ptq_eval_args args = {.model = m, .text = &t, .pool = pool};
    assert_ok(ptq_eval_model(&args, &a, &e, &st), &st);
    double ppl = exp(ptq_eval_nll(&e));
    ptq_model_close(m);
    ptq_arena_clear(&a);
    return ppl;
}

/* Every layer of the folder is what /packed unpacks to; turned_head: the width of heads whose rows
 * were interleaved, 0 where none were. */
static void check_forms(struct fixture *f, int64_t turned_head)
{
    char path[TEST_PATH];
    struct ptq_model *m;
    struct ptq_h5 *h;
    test_path(f->out, "quant.h5", path);
    assert_ok(ptq_model_open(&m, f->out, NULL, &f->st), &f->st);
    assert_ok(ptq_h5_open(&h, path, PTQ_H5_READ, &f->st), &f->st);
    for (int b = 0; b < ptq_model_info(m)->n_blocks; b++) {
        struct ptq_arena a;
        struct ptq_block block;
        ptq_arena_init(&a, 0);
        assert_ok(ptq_model_load_block(m, b, &a, &block, &f->st), &f->st);
        for (int k = 0; k < block.n_linears; k++) {
            const struct ptq_linear *l = &block.lin[k];
            const bool turned = turned_head && (l->role == PTQ_ROLE_Q || l->role == PTQ_ROLE_K);
            struct ptq_quant q;
            assert_ok(ptq_form_read_packed(h, l->name, &a, &q, &f->st), &f->st);
            float *what = ptq_arena_alloc(&a, &f->st, l->d_out * l->d_in, sizeof *what);
            assert_non_null(what);
            assert_ok(ptq_quant_dequant(&q, what, &f->st), &f->st);
            for (int64_t r = 0; r < l->d_out; r++) {
                int64_t in = turned ? r % turned_head : 0, half = turned_head / 2,
                        from = turned ? r - in + (in < half ? 2 * in : 2 * (in - half) + 1) : r;
                assert_memory_equal(l->w + r * l->d_in, what + from * l->d_in,
                                    (size_t)l->d_in * sizeof *what);
            }
        }
        ptq_arena_clear(&a);
    }
    assert_ok(ptq_h5_close(h, &f->st), &f->st);
    ptq_model_close(m);
}

static void check_export(struct fixture *f, int64_t turned_head)
{
    struct ptq_export_done done;
    char tmp[TEST_PATH];
    assert_ok(export(f, NULL, NULL, PTQ_ST_F32, &done), &f->st);
    assert_true(done.written.n_replaced > 0);
    assert_rel(ppl_of(f->out, f->ids), done.ppl, 1e-6);
    double plain = ppl_of(f->source, f->ids);
    assert_true(fabs(plain / done.ppl - 1) > 1e-4); /* else nothing was put in */
    check_forms(f, turned_head);
    test_path(f->dir, "out.tmp", tmp);
    assert_int_equal(access(tmp, F_OK), -1);
}

static void test_folders(void **state)
{
    static const char *const names[] = {"gpt2", "bloom", "opt", "llama3", "qwen3"};
    (void)state;
    for (int64_t i = 0; i < LENGTH(names); i++) {
        struct fixture f;
        struct hf_checkpoint c;
        char path[TEST_PATH];
        begin(&f);
        hf_load(&c, names[i]);
        mkdir(f.source, 0777);
        hf_write_sharded(&c, f.source);
        test_path(f.source, "merges.txt", path);
        assert_ok(ptq_write_file(path, "kept", 4, &f.st), &f.st);
        /* Rows of both kinds of statistics. */
        sweep(&f, i ? "" : "calib.stats=sequential calib.true_sequential=1");
        check_export(&f, 0);
        test_path(f.out, "merges.txt", path);
        assert_int_equal(access(path, R_OK), 0);
        hf_release(&c);
        end(&f);
    }
}

/* A part of the layers: the others stay as they are. */
static void test_some_layers(void **state)
{
    (void)state;
    struct fixture f;
    struct hf_checkpoint c;
    struct ptq_export_done done;
    begin(&f);
    hf_load(&c, "gpt2");
    mkdir(f.source, 0777);
    hf_write(&c, f.source, "transformer.");
    sweep(&f, "sweep.layers=blk.1.attn_k");
    assert_ok(export(&f, NULL, NULL, PTQ_ST_F32, &done), &f.st);
    assert_int_equal(done.written.n_replaced, 1);
    assert_int_equal(done.written.n_tensors, c.n);
    assert_rel(ppl_of(f.out, f.ids), done.ppl, 1e-6);
    hf_release(&c);
    end(&f);
}

/* What happens to inputs is no weight: such a row is refused, and nothing is left behind. */
static void test_inputs(void **state)
{
    (void)state;
    struct fixture f;
    struct hf_checkpoint c;
    struct ptq_export_done done;
    begin(&f);
    hf_load(&c, "gpt2");
    mkdir(f.source, 0777);
    hf_write(&c, f.source, "transformer.");
    sweep(&f, "sweep.a_bits=8");
    assert_int_equal(export(&f, NULL, NULL, PTQ_ST_F32, &done), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "inputs are quantized to 8 bits");
    assert_int_equal(access(f.out, F_OK), -1);
    hf_release(&c);
    end(&f);
}

/* A container whose model turns neighbours; tensors of the folder are in the half layout. */
static void test_container(void **state)
{
    (void)state;
    struct fixture f;
    struct hf_checkpoint c;
    struct ptq_model *m;
    struct ptq_h5 *h;
    char folder[TEST_PATH];
    begin(&f);
    hf_load(&c, "llama_bias");
    test_path(f.dir, "hf", folder);
    mkdir(folder, 0777);
    hf_write(&c, folder, "");
    assert_ok(ptq_model_open(&m, folder, NULL, &f.st), &f.st);
    const struct ptq_import_args args = {
        .model = m, .out_path = f.source, .type = PTQ_H5_OTHER, .quiet = true};
    assert_ok(ptq_import(&args, &f.st), &f.st);
    const int64_t head = ptq_model_info(m)->head_dim;
    ptq_model_close(m);
    assert_ok(ptq_h5_open(&h, f.source, PTQ_H5_APPEND, &f.st), &f.st);
    assert_ok(ptq_h5_set_text(h, "/model", "rope_layout", "interleaved", &f.st), &f.st);
    assert_ok(ptq_h5_close(h, &f.st), &f.st);
    sweep(&f, "");
    check_export(&f, head);
    hf_release(&c);
    end(&f);
}

/* ---- GGUF: the values as they lie; which order of rows they stand for, the reader says */

static void test_gguf(void **state)
{
    (void)state;
    struct fixture f;
    struct ptq_model *m;
    begin(&f);
    test_path(f.dir, "m.gguf", f.source);
    gguf_write_llama(f.source, &(struct gguf_types){"", 0, GGUF_F32_TENSOR});
    sweep(&f, "");
    check_export(&f, 0);
    assert_ok(ptq_model_open(&m, f.out, NULL, &f.st), &f.st);
    assert_null(json_object_get(m->files->meta, PTQ_MARKS));
    ptq_model_close(m);
    end(&f);
}

/* ---- weights that were on a grid before: their floats do not show it any more */

static void check_marks(struct fixture *f, const char *source, const char *mark)
{
    struct ptq_model *m;
    assert_ok(ptq_model_open(&m, source, NULL, &f->st), &f->st);
    const struct ptq_model_info *i = ptq_model_info(m);
    assert_non_null(i->quantized_as);
    assert_string_equal(i->quantized_as, mark);
    assert_int_equal(i->grid_bits, 4);
    assert_int_equal(i->grid_group, 32);
    ptq_model_close(m);
}

static void check_rows(struct fixture *f, const char *mark)
{
    struct ptq_rows rows = {.n = 0};
    assert_ok(ptq_rows_read_run(f->run, &rows, &f->st), &f->st);
    assert_true(rows.n > 0);
    for (int64_t i = 0; i < rows.n; i++) {
        assert_string_equal(ptq_row_text(rows.at[i], "weights_on_grid"), mark);
        assert_true(ptq_row_num(rows.at[i], "weights_grid_bits") == 4);
    }
    ptq_rows_release(&rows);
}

/* From a GGUF, from the folder made of it, from a container made of that: each sweep says it. */
static void test_marks(void **state)
{
    (void)state;
    static const char mark[] = "Q4_0: 4 bits, groups of 32 (11 % of the block weights)";
    struct fixture f;
    struct ptq_model *m;
    char container[TEST_PATH];
    begin(&f);
    test_path(f.dir, "m.gguf", f.source);
    test_path(f.dir, "m.h5", container);
    gguf_write_llama(f.source, &(struct gguf_types){"attn_k attn_v", GGUF_Q4_0, GGUF_Q8_0});
    check_marks(&f, f.source, mark);
    sweep(&f, "");
    check_export(&f, 0);
    check_marks(&f, f.out, mark);

    snprintf(f.source, sizeof f.source, "%s", f.out);
    test_path(f.dir, "out2", f.out);
    sweep(&f, "run.name=again");
    check_rows(&f, mark);
    check_export(&f, 0);
    check_marks(&f, f.out, mark);

    assert_ok(ptq_model_open(&m, f.out, NULL, &f.st), &f.st);
    const struct ptq_import_args args = {
        .model = m, .out_path = container, .type = PTQ_H5_OTHER, .quiet = true};
    assert_ok(ptq_import(&args, &f.st), &f.st);
    ptq_model_close(m);
    check_marks(&f, container, mark);
    snprintf(f.source, sizeof f.source, "%s", container);
    test_path(f.dir, "out3", f.out);
    sweep(&f, "run.name=third");
    check_export(&f, 0);
    check_marks(&f, f.out, mark);
    end(&f);
}

/* A mark that is none is a fault of the file, as in a container. */
static void test_bad_marks(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        int value;
    } bad[] = {{"quantized_as", 4}, {"grid_bits", 17}, {"grid_group", -1}};
    for (int64_t i = 0; i < LENGTH(bad); i++) {
        struct fixture f;
        struct hf_checkpoint c;
        struct ptq_model *m;
        char said[64];
        begin(&f);
        hf_load(&c, "llama");
        mkdir(f.source, 0777);
        hf_set(&c, PTQ_MARKS, json_pack("{s:i}", bad[i].key, bad[i].value));
        hf_write(&c, f.source, "");
        assert_int_equal(ptq_model_open(&m, f.source, NULL, &f.st), PTQ_ERR_USAGE);
        snprintf(said, sizeof said, "the setting ptqbench.%s is %d", bad[i].key, bad[i].value);
        assert_status(&f.st, PTQ_ERR_USAGE, said);
        assert_non_null(strstr(f.st.text, f.source));
        assert_non_null(strstr(f.st.text, "config.json"));
        hf_release(&c);
        end(&f);
    }
}

/* ---- what cannot be exported */

static void assert_nothing(const struct fixture *f)
{
    char tmp[TEST_PATH];
    test_path(f->dir, "out.tmp", tmp);
    assert_int_equal(access(f->out, F_OK), -1);
    assert_int_equal(access(tmp, F_OK), -1);
}

static void test_refused(void **state)
{
    (void)state;
    struct fixture f;
    struct hf_checkpoint c;
    struct ptq_export_done done;
    char path[TEST_PATH];
    begin(&f);
    hf_load(&c, "opt");
    mkdir(f.source, 0777);
    hf_write(&c, f.source, "");
    sweep(&f, "sweep.methods=rtn,gptq sweep.bits=3,4");
    assert_int_equal(export(&f, "bits", "4", PTQ_ST_F32, &done), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "2 model rows match");
    assert_non_null(strstr(f.st.text, "label rtn"));
    assert_non_null(strstr(f.st.text, "label gptq"));
    assert_null(strstr(f.st.text, "bits 3"));
    assert_int_equal(export(&f, "bits", "5", PTQ_ST_F32, &done), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "no model row matches; there are:");
    assert_non_null(strstr(f.st.text, "label gptq  bits 3"));
    assert_nothing(&f);
    sweep(&f, "");

    /* Something lies there. */
    mkdir(f.out, 0777);
    test_path(f.out, "mine", path);
    assert_ok(ptq_write_file(path, "x", 1, &f.st), &f.st);
    assert_int_equal(export(&f, NULL, NULL, PTQ_ST_F32, &done), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "not an empty folder");
    assert_int_equal(access(path, F_OK), 0);
    remove(path);
    assert_ok(export(&f, NULL, NULL, PTQ_ST_F32, &done), &f.st); /* an empty folder is fine */
    test_rmdir(f.out);

    /* Weights of the source that were changed behind the sweep. */
    c.tensor[0].value[0] += 1;
    hf_write(&c, f.source, "");
    assert_int_equal(export(&f, NULL, NULL, PTQ_ST_F32, &done), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "is not the model that the row was measured on");
    c.tensor[0].value[0] -= 1;
    hf_write(&c, f.source, "");

    /* Forms that are gone. */
    test_path(f.run, "forms.pack", path);
    assert_int_equal(truncate(path, 1000), 0);
    assert_int_equal(export(&f, NULL, NULL, PTQ_ST_F32, &done), PTQ_ERR_USAGE);
    assert_status(&f.st, PTQ_ERR_USAGE, "run the sweep again");
    assert_nothing(&f);
    hf_release(&c);
    end(&f);
}

static bool stop_now(void *arg)
{
    int *asked = arg;
    return ++*asked > 3;
}

static void test_types(void **state)
{
    (void)state;
    struct fixture f;
    struct hf_checkpoint c;
    struct ptq_export_done done;
    struct ptq_model *m;
    int asked = 0;
    begin(&f);
    hf_load(&c, "gpt2");
    mkdir(f.source, 0777);
    c.tensor[0].value[5] = 70000; /* above f16's 65504; fine in bf16 */
    hf_write(&c, f.source, "");
    sweep(&f, "");
    assert_int_equal(export(&f, NULL, NULL, PTQ_ST_F16, &done), PTQ_ERR_NUMERIC);
    assert_non_null(strstr(f.st.text, c.tensor[0].name));
    assert_nothing(&f);
    const struct ptq_export_args args = {
        .run_dir = f.run, .out_dir = f.out, .quiet = true, .stop = stop_now, .stop_arg = &asked};
    ptq_status_clear(&f.st);
    assert_int_equal(ptq_export(&args, &done, &f.st), PTQ_ERR_CANCELLED);
    assert_nothing(&f);
    assert_ok(export(&f, NULL, NULL, PTQ_ST_BF16, &done), &f.st);
    assert_ok(ptq_model_open(&m, f.out, NULL, &f.st), &f.st);
    assert_string_equal(m->files->tensor[0].type, "BF16");
    const char *type = json_string_value(json_object_get(m->files->meta, "torch_dtype"));
    assert_string_equal(type ? type : json_string_value(json_object_get(m->files->meta, "dtype")),
                        "bfloat16");
    ptq_model_close(m);
    hf_release(&c);
    end(&f);
}

/* The configuration that is made says the same model, or is refused. */
static void test_round_trip(void **state)
{
    (void)state;
    static const struct {
        bool qkv, o, norm;
        int64_t window, from;
        int scaling;
        const char *type; /* NULL: refused */
    } cases[] = {
        {false, false, false, 0, 0, PTQ_ROPE_PLAIN, "llama"},
        {true, true, false, 0, 0, PTQ_ROPE_LINEAR, "llama"},
        {false, false, false, 0, 0, PTQ_ROPE_LLAMA3, "llama"},
        {true, false, false, 0, 0, PTQ_ROPE_PLAIN, "qwen2"},
        {true, false, false, 16, 1, PTQ_ROPE_PLAIN, "qwen2"},
        {false, false, false, 16, 0, PTQ_ROPE_PLAIN, "mistral"},
        {false, false, true, 0, 0, PTQ_ROPE_PLAIN, "qwen3"},
        {true, true, true, 16, 1, PTQ_ROPE_PLAIN, "qwen3"},
        {false, true, false, 0, 0, PTQ_ROPE_PLAIN, NULL},
        {true, true, false, 16, 0, PTQ_ROPE_PLAIN, NULL},
        {false, false, false, 16, 1, PTQ_ROPE_PLAIN, NULL},
        {true, false, true, 0, 0, PTQ_ROPE_PLAIN, NULL},
    };
    const struct ptq_arch *llama = NULL;
    for (int i = 0; ptq_archs()[i]; i++)
        if (!strcmp(ptq_archs()[i]->name, "llama"))
            llama = ptq_archs()[i];
    assert_non_null(llama);
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        struct ptq_status st = {0};
        struct ptq_arena a;
        struct ptq_model_info in = {.name = "m", .arch = "llama", .source = "m"}, out = in;
        json_t *config = json_object();
        ptq_arena_init(&a, 0);
        ptq_config_init(&in);
        ptq_config_init(&out);
        in.d_model = 48, in.n_blocks = 3, in.n_heads = 4, in.n_kv_heads = 2, in.head_dim = 16;
        in.d_ff = 80, in.vocab_size = 101, in.max_context = 77, in.norm_eps = 3e-6;
        in.tied_head = i % 2;
        in.rope.theta = 50000;
        in.qkv_bias = cases[i].qkv, in.o_bias = cases[i].o, in.qk_norm = cases[i].norm;
        in.sliding_window = cases[i].window, in.window_from = cases[i].from;
        in.rope.scaling = cases[i].scaling;
        if (in.rope.scaling)
            in.rope.factor = 4;
        if (in.rope.scaling == PTQ_ROPE_LLAMA3)
            in.rope.low = 2, in.rope.high = 8, in.rope.original_context = 32;
        if (!cases[i].type) {
            assert_int_equal(llama->hf.to_hf(&in, config, &st), PTQ_ERR_USAGE);
            assert_non_null(strstr(st.text, "no Hugging Face configuration"));
        } else {
            assert_ok(llama->hf.to_hf(&in, config, &st), &st);
            assert_string_equal(json_string_value(json_object_get(config, "model_type")),
                                cases[i].type);
            const struct ptq_meta meta = {"m", config, "", &a};
            assert_ok(llama->hf.configure(&meta, &out, &st), &st);
            assert_memory_equal(&in, &out, sizeof in);
        }
        json_decref(config);
        ptq_arena_clear(&a);
    }
}

int main(int argc, char **argv)
{
    (void)argc;
    if (!machine_start(argv))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folders),   cmocka_unit_test(test_some_layers),
        cmocka_unit_test(test_inputs),    cmocka_unit_test(test_container),
        cmocka_unit_test(test_gguf),      cmocka_unit_test(test_marks),
        cmocka_unit_test(test_bad_marks), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_types),     cmocka_unit_test(test_round_trip)};
    return cmocka_run_group_tests(tests, NULL, machine_end);
}
