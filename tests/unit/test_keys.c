/* Keys: equal inputs give equal keys, and each thing that decides a result changes them. */
#include "testlib.h"
#include "sweep/keys.h"
#include "sweep/layerfile.h"

static struct ptq_arena arena;
static struct ptq_status st;

struct form { /* everything that enters a form key, to be changed one by one */
    struct ptq_form_inputs in;
    struct ptq_spec spec;
    struct ptq_cell cell;
    struct ptq_machine machine;
};

static void base(struct form *f)
{
    memset(f, 0, sizeof *f);
    assert_ok(ptq_spec_parse("gptq", &arena, &f->spec, &st), &st);
    f->cell = (struct ptq_cell){
        .w_bits = 3, .group_size = 64, .zero_in_range = true, .scale_fmt = PTQ_FMT_F16};
    f->machine = (struct ptq_machine){.isa = PTQ_ISA_AVX2};
    strcpy(f->machine.blas_core, "Haswell");
    f->in =
        (struct ptq_form_inputs){"weights", "stats", &f->spec, &f->cell, PTQ_SINGLE, &f->machine};
}

static void key(struct form *f, char out[PTQ_KEY_CHARS])
{
    f->in.spec = &f->spec;
    f->in.cell = &f->cell;
    f->in.machine = &f->machine;
    ptq_form_key(&f->in, out);
    assert_int_equal(strlen(out), PTQ_KEY_CHARS - 1);
}

enum { N_CHANGES = 18 };

static void change(struct form *f, int i)
{
    switch (i) {
    case 0: f->in.weights = "weights2"; break;
    case 1: f->in.stats = "stats2"; break;
    case 2: f->in.precision = PTQ_DOUBLE_PRECISION; break;
    case 3: f->cell.w_bits = 4; break;
    case 4: f->cell.group_size = 32; break;
    case 5: f->cell.sym = true; break;
    case 6:
        f->cell.sym = true;
        f->cell.sym_kind = PTQ_SYM_ABSMAX;
        break;
    case 7: f->cell.grid = PTQ_GRID_MSE; break;
    case 8: f->cell.zero_in_range = false; break;
    case 9: f->cell.scale_fmt = PTQ_FMT_F32; break;
    case 10: f->cell.seed = 1; break;
    case 11: strcpy(f->machine.blas_core, "SkylakeX"); break;
    case 12: f->machine.isa = PTQ_ISA_AVX512; break;
    case 13: assert_ok(ptq_spec_parse("gptq:percdamp=0.1", &arena, &f->spec, &st), &st); break;
    case 14: assert_ok(ptq_spec_parse("rtn", &arena, &f->spec, &st), &st); break;
    case 15:
        f->in.weights = "weightsstats", f->in.stats = "";
        break; /* fields do not run together */
    case 16: f->cell.a_bits = 8; break;
    case 17: f->cell.a_bits = 4; break;
    }
}

static void form_keys(void **state)
{
    (void)state;
    char keys[N_CHANGES + 1][PTQ_KEY_CHARS];
    for (int i = 0; i <= N_CHANGES; i++) {
        struct form f;
        base(&f);
        if (i < N_CHANGES)
            change(&f, i);
        key(&f, keys[i]);
        for (int j = 0; j < i; j++)
            if (!strcmp(keys[i], keys[j]))
                fail_msg("changes %d and %d give one key", i, j);
    }
}

/* What does not decide the codes is not in the key. */
static void form_keys_leave_out(void **state)
{
    (void)state;
    char want[PTQ_KEY_CHARS], got[PTQ_KEY_CHARS];
    struct form f;
    base(&f);
    key(&f, want);
    base(&f);
    strcpy(f.machine.cpu, "another CPU");
    strcpy(f.machine.blas_library, "/elsewhere/libopenblas.so");
    f.machine.blas_repaired = true;
    key(&f, got);
    assert_string_equal(got, want);
    base(&f);
    f.cell.sym_kind = PTQ_SYM_ABSMAX; /* of a cell that is not symmetric */
    key(&f, got);
    assert_string_equal(got, want);
    base(
        &f); /* an option written out with its default, and a preset that names the same settings */
    assert_ok(ptq_spec_parse("gptq:percdamp=0.01", &arena, &f.spec, &st), &st);
    key(&f, got);
    assert_string_equal(got, want);
}

/* rtn declares no needs: statistics decide nothing, unless the grid search uses the Hessian. */
static void statistics_that_are_not_seen(void **state)
{
    (void)state;
    char a[PTQ_KEY_CHARS], b[PTQ_KEY_CHARS];
    for (int hess = 0; hess < 2; hess++) {
        struct form f;
        base(&f);
        assert_ok(ptq_spec_parse("rtn", &arena, &f.spec, &st), &st);
        f.cell.grid = hess ? PTQ_GRID_HESS : PTQ_GRID_MINMAX;
        key(&f, a);
        f.in.stats = "other";
        key(&f, b);
        assert_int_equal(strcmp(a, b) == 0, !hess);
        assert_int_equal(ptq_sees_stats(&f.spec, &f.cell), hess);
    }
}

static void other_keys(void **state)
{
    (void)state;
    char k[8][PTQ_KEY_CHARS];
    ptq_metric_key("form", "ppl", "v1", "text", k[0]);
    ptq_metric_key("form", "ppl", "v2", "text", k[1]);
    ptq_metric_key("form", "ppl", "v1", "text2", k[2]);
    ptq_metric_key("form2", "ppl", "v1", "text", k[3]);
    ptq_metric_key("form", "nll", "v1", "text", k[4]);
    ptq_row_key("layer", "form", "text", k[5]);
    ptq_row_key("model", "form", "text", k[6]);
    ptq_row_key("layer", "form", "text2", k[7]);
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(k[i], k[j]);
    ptq_metric_key("form", "ppl", "v1", "text", k[1]);
    assert_string_equal(k[0], k[1]);

    char forms[2][PTQ_KEY_CHARS] = {"0123456789abcdef0123456789abcdef",
                                    "fedcba9876543210fedcba9876543210"};
    char swapped[2][PTQ_KEY_CHARS];
    memcpy(swapped[0], forms[1], PTQ_KEY_CHARS);
    memcpy(swapped[1], forms[0], PTQ_KEY_CHARS);
    ptq_model_form_key("model", (const char(*)[PTQ_KEY_CHARS])forms, 2, k[0]);
    ptq_model_form_key("model", (const char(*)[PTQ_KEY_CHARS])swapped, 2, k[1]);
    ptq_model_form_key("model", (const char(*)[PTQ_KEY_CHARS])forms, 1, k[2]);
    ptq_model_form_key("model2", (const char(*)[PTQ_KEY_CHARS])forms, 2, k[3]);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(k[i], k[j]);
}

/* A bare layer's statistics are what its Hessian holds and everything a method reads beside it. */
static void layer_keys(void **state)
{
    (void)state;
    static const float w[4] = {1, 2, 3, 4};
    static const double h[4] = {2, 0, 0, 2};
    char stats[5][PTQ_KEY_CHARS], weights[2][PTQ_KEY_CHARS];
    struct ptq_layer l = {.name = "l", .w = {w, 2, 2, 2}, .hess = {h, 2, 2, 2}};
    l.hess_norm = PTQ_NORM_TOKEN;
    l.n_tokens = 1024;
    l.n_sequences = 8;
    ptq_layerfile_keys(&l, weights[0], stats[0]);
    l.n_tokens = 512; /* dead = reference: a dead input's diagonal is n_sequences / n_tokens */
    ptq_layerfile_keys(&l, weights[1], stats[1]);
    l.n_sequences = 4;
    ptq_layerfile_keys(&l, weights[1], stats[2]);
    l.hess_norm = PTQ_NORM_SEQUENCE;
    ptq_layerfile_keys(&l, weights[1], stats[3]);
    l.hess.at = NULL;
    ptq_layerfile_keys(&l, weights[1], stats[4]);
    assert_string_equal(stats[4], "");
    assert_string_equal(weights[0], weights[1]);
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(stats[i], stats[j]);
}

int main(void)
{
    ptq_arena_init(&arena, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(form_keys),
        cmocka_unit_test(form_keys_leave_out),
        cmocka_unit_test(statistics_that_are_not_seen),
        cmocka_unit_test(other_keys),
        cmocka_unit_test(layer_keys),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ptq_arena_clear(&arena);
    return failed;
}
