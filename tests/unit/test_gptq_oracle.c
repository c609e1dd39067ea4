/* GPTQ and RTN against vectors that the published code and a float64 transcription of it gave
 * (../shared/oracle). */
#include "quant_lib.h"
#include "datasets/h5.h"
#include "datasets/npy.h"

/* ---- oracle/gptq: 256 x 256, float32 ---- */

static const char *oracle_file(struct fixture *f, const char *name)
{
    char path[TEST_PATH], relative[200];
    snprintf(relative, sizeof relative, "oracle/gptq/%s", name);
    if (!test_shared(relative, path))
        return NULL;
    return ptq_arena_strdup(&f->arena, &f->st, path);
}

static bool load_published(struct fixture *f)
{
    float *w, *h;
    struct ptq_npy_info info;
    const char *wp = oracle_file(f, "W.npy"), *hp = oracle_file(f, "H.npy");
    if (!wp || !hp)
        return false;
    assert_ok(ptq_npy_read_f32(wp, &f->arena, &w, &info, &f->st), &f->st);
    assert_int_equal(info.n, 256 * 256);
    assert_ok(ptq_npy_read_f32(hp, &f->arena, &h, &info, &f->st), &f->st);
    double *h64 = ptq_arena_alloc(&f->arena, &f->st, info.n, sizeof *h64);
    assert_non_null(h64);
    for (int64_t i = 0; i < info.n; i++)
        h64[i] = (double)h[i];
    f->layer = (struct ptq_layer){.name = "oracle",
                                  .block = -1,
                                  .w = {w, 256, 256, 256},
                                  .hess = {h64, 256, 256, 256},
                                  .hess_norm = PTQ_NORM_SEQUENCE,
                                  .n_tokens = 512,
                                  .n_sequences = 4,
                                  .hess_key = 1};
    assert_ok(ptq_layer_check(&f->layer, "oracle", &f->st), &f->st);
    return true;
}

struct published {
    const char *name, *spec;
    int bits;
    int64_t group;
    double err_gptq, err_rtn; /* manifest.json */
};
static const struct published published[] = {
    {"b4_g-1_asym", "gptq-paper", 4, -1, 50.33636385536, 129.9121268313765},
    {"b4_g128_asym", "gptq-paper", 4, 128, 30.256669145550635, 75.79608842425552},
    {"b4_g128_asym_act_static", "gptq:dead=reference", 4, 128, 22.000034715514005,
     75.79608842425552},
    {"b2_g128_asym", "gptq-paper", 2, 128, 1047.7908348588521, 1630.5331090335958},
};

static void check_published(struct fixture *f, const struct published *p,
                            enum ptq_precision precision)
{
    char name[100];
    int64_t *want;
    struct ptq_npy_info info;
    struct ptq_result r;
    struct run_args a = {&f->layer, p->spec, cell_of(p->bits, p->group), precision, NULL};
    snprintf(name, sizeof name, "%s_codes.npy", p->name);
    assert_ok(ptq_npy_read_i64(oracle_file(f, name), &f->arena, &want, &info, &f->st), &f->st);
    assert_ok(run_cell(&a, &r, &f->st), &f->st);
    int64_t different = 0;
    for (int64_t i = 0; i < info.n; i++)
        different += r.quant.part[0].codes[i] != want[i];
    if (different)
        fail_msg("%s: %lld of %lld codes differ", p->name, (long long)different, (long long)info.n);
    assert_rel(loss_of(&f->layer, r.what), p->err_gptq, 1e-5);
    ptq_result_release(&r);
    a.spec = "rtn";
    assert_ok(run_cell(&a, &r, &f->st), &f->st);
    assert_rel(loss_of(&f->layer, r.what), p->err_rtn, 1e-5);
    ptq_result_release(&r);
}

static void published_code_single(void **state)
{
    if (!load_published(*state))
        skip();
    for (int64_t i = 0; i < LENGTH(published); i++)
        check_published(*state, &published[i], PTQ_SINGLE);
}

static void published_code_double(void **state)
{
    if (!load_published(*state))
        skip();
    for (int64_t i = 0; i < LENGTH(published); i++)
        check_published(*state, &published[i], PTQ_DOUBLE_PRECISION);
}

/* ---- oracle/gptq2: 48 x 160, float64, dead inputs ---- */

struct transcribed {
    struct fixture *f;
    struct ptq_h5 *h5;
};

static int64_t attribute(const struct transcribed *t, const char *object, const char *name)
{
    int64_t v = -99;
    assert_ok(ptq_h5_get_i64(t->h5, object, name, &v, &t->f->st), &t->f->st);
    return v;
}

static void load_transcribed(struct transcribed *t)
{
    struct fixture *f = t->f;
    float *w;
    double *h;
    struct ptq_h5_info info;
    assert_ok(ptq_h5_read_f32(t->h5, "/weight", &f->arena, &w, &info, &f->st), &f->st);
    f->layer = (struct ptq_layer){.name = "cases",
                                  .block = -1,
                                  .w = {w, info.dim[0], info.dim[1], info.dim[1]},
                                  .hess_norm = PTQ_NORM_SEQUENCE,
                                  .n_tokens = 384,
                                  .n_sequences = 4,
                                  .hess_key = 2};
    assert_ok(ptq_h5_read_f64(t->h5, "/hess_per_sequence", &f->arena, &h, &info, &f->st), &f->st);
    f->layer.hess = (struct ptq_cdmat){h, info.dim[0], info.dim[1], info.dim[1]};
    assert_ok(ptq_layer_check(&f->layer, "cases", &f->st), &f->st);
}

static void check_transcribed(struct transcribed *t, const char *name)
{
    struct fixture *f = t->f;
    char spec[200], codes[200];
    int64_t *want;
    double loss = 0;
    struct ptq_h5_info info;
    struct ptq_result r;
    snprintf(spec, sizeof spec,
             "gptq:dead=reference:stale_scales=1:act_order=%d:static_groups=%d:block=%d",
             (int)attribute(t, name, "act_order"), (int)attribute(t, name, "static_groups"),
             (int)attribute(t, name, "block"));
    struct run_args a = {&f->layer, spec,
                         cell_of((int)attribute(t, name, "bits"), attribute(t, name, "group_size")),
                         PTQ_DOUBLE_PRECISION, NULL};
    a.cell.sym = attribute(t, name, "sym");
    a.cell.sym_kind = PTQ_SYM_GPTQ;
    a.cell.grid = attribute(t, name, "mse") ? PTQ_GRID_MSE : PTQ_GRID_MINMAX;
    snprintf(codes, sizeof codes, "%s/codes", name);
    assert_ok(ptq_h5_read_i64(t->h5, codes, &f->arena, &want, &info, &f->st), &f->st);
    assert_ok(ptq_h5_get_f64(t->h5, name, "loss", &loss, &f->st), &f->st);
    assert_ok(run_cell(&a, &r, &f->st), &f->st);
    int64_t different = 0;
    for (int64_t i = 0; i < info.n; i++)
        different += r.quant.part[0].codes[i] != want[i];
    if (different)
        fail_msg("%s: %lld of %lld codes differ", name, (long long)different, (long long)info.n);
    assert_rel(loss_of(&f->layer, r.what), loss,
               1e-6); /* scales are f32 here, f64 there: 6e-8 each */
    assert_true(note_of(&r, "n_dead") == 3);
    ptq_result_release(&r);
}

static void transcription(void **state)
{
    TEST_SHARED_OR_SKIP(path, "oracle/gptq2/cases.h5");
    struct transcribed t = {.f = *state};
    char **names;
    int64_t n, n_cases = 0;
    assert_ok(ptq_h5_open(&t.h5, path, PTQ_H5_READ, &t.f->st), &t.f->st);
    load_transcribed(&t);
    assert_ok(ptq_h5_list(t.h5, "/", &t.f->arena, &names, &n, &t.f->st), &t.f->st);
    for (int64_t i = 0; i < n; i++)
        if (names[i][0] == 'b') {
            char object[100];
            snprintf(object, sizeof object, "/%s", names[i]);
            check_transcribed(&t, object);
            n_cases++;
        }
    assert_int_equal(n_cases, 9);
    assert_ok(ptq_h5_close(t.h5, &t.f->st), &t.f->st);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(published_code_single, setup, teardown),
        cmocka_unit_test_setup_teardown(published_code_double, setup, teardown),
        cmocka_unit_test_setup_teardown(transcription, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
