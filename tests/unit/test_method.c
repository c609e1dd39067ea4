/* Registry, presets and SPEC texts. */
#include "quant_lib.h"

static void registry(void **state)
{
    (void)state;
    int n;
    const struct ptq_method_entry *e = ptq_methods(&n);
    assert_true(n >= 2);
    for (int i = 0; i < n; i++) {
        assert_string_equal(e[i].name, e[i].single->name);
        assert_string_equal(e[i].name, e[i].dbl->name);
        assert_true(i == 0 || strcmp(e[i - 1].name, e[i].name) < 0);
        assert_int_equal(strlen(e[i].version), 16);
        assert_non_null(e[i].single->quantize);
        assert_true(e[i].single->title && e[i].single->cite && e[i].single->status);
        assert_true(e[i].single->quantize != e[i].dbl->quantize);
        assert_ptr_equal(ptq_method_find(e[i].name), &e[i]);
    }
    assert_null(ptq_method_find("nonsense"));
}

static void specs(void **state)
{
    struct fixture *f = *state;
    const struct {
        const char *text, *name, *label, *canonical;
    } cases[] = {
        {"rtn", "rtn", "rtn", ""},
        {"rtn-mse", "rtn-mse", "rtn-mse", "grid=mse"},
        {"rtn:grid=hess", "rtn", "rtn:grid=hess", "grid=hess"},
        {"gptq", "gptq", "gptq",
         "act_order=1:static_groups=1:stale_scales=0:percdamp=0.01:dead=mean:block=128"},
        {" gptq-paper : percdamp=0.10 ", "gptq-paper", "gptq-paper:percdamp=0.10",
         "act_order=0:static_groups=0:stale_scales=1:percdamp=0.1:dead=reference:block=128"},
        {"gptq:desc_act=no:block=1:dead=reference:grid=mse", "gptq",
         "gptq:desc_act=no:block=1:dead=reference:grid=mse",
         "act_order=0:static_groups=1:stale_scales=0:percdamp=0.01:dead=reference:block=128:grid="
         "mse"},
        /* inert: stale_scales without dynamic groups, block without stale_scales */
        {"gptq:stale_scales=1:block=32", "gptq", "gptq:stale_scales=1:block=32",
         "act_order=1:static_groups=1:stale_scales=0:percdamp=0.01:dead=mean:block=128"},
        {"gptq:static_groups=0:block=32", "gptq", "gptq:static_groups=0:block=32",
         "act_order=1:static_groups=0:stale_scales=0:percdamp=0.01:dead=mean:block=128"},
        {"gptq:static_groups=0:block=32:stale_scales=1", "gptq",
         "gptq:static_groups=0:block=32:stale_scales=1",
         "act_order=1:static_groups=0:stale_scales=1:percdamp=0.01:dead=mean:block=32"},
    };
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        struct ptq_spec s;
        assert_ok(ptq_spec_parse(cases[i].text, &f->arena, &s, &f->st), &f->st);
        assert_string_equal(s.name, cases[i].name);
        assert_string_equal(s.label, cases[i].label);
        assert_string_equal(s.canonical, cases[i].canonical);
    }
}

/* The canonical text read back is the same spec: keys do not depend on how an option was
 * written. */
static void canonical_is_complete(void **state)
{
    struct fixture *f = *state;
    struct ptq_preset *p;
    int64_t n;
    assert_ok(ptq_presets(&f->arena, &p, &n, &f->st), &f->st);
    assert_true(n >= 4);
    for (int64_t i = 0; i < n; i++) {
        struct ptq_spec a, b;
        assert_ok(ptq_spec_parse(p[i].name, &f->arena, &a, &f->st), &f->st);
        char *text = ptq_arena_printf(&f->arena, &f->st, "%s%s%s", a.entry->name,
                                      *a.canonical ? ":" : "", a.canonical);
        assert_ok(ptq_spec_parse(text, &f->arena, &b, &f->st), &f->st);
        assert_string_equal(a.canonical, b.canonical);
        assert_ptr_equal(a.entry, b.entry);
    }
}

static void faults(void **state)
{
    struct fixture *f = *state;
    const struct {
        const char *text, *message;
    } cases[] = {
        {"", "empty"},
        {"gtpq", "did you mean 'gptq'"},
        {"gptq:perdamp=1", "did you mean 'percdamp'"},
        {"gptq:percdamp", "not option=value"},
        {"gptq:percdamp=x", "option percdamp"},
        {"gptq:percdamp=-1", "outside"},
        {"gptq:percdamp=nan", "percdamp"},
        {"gptq:block=0", "outside"},
        {"gptq:dead=meen", "did you mean 'mean'"},
        {"gptq:act_order=2", "act_order"},
        {"gptq:act_order=1:desc_act=0", "twice"},
        {"rtn:grid=msee", "did you mean 'mse'"},
        {"rtn:percdamp=1", "option"},
        {"rtn::grid=mse", "empty"},
    };
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        struct ptq_spec s;
        ptq_status_clear(&f->st);
        assert_int_equal(ptq_spec_parse(cases[i].text, &f->arena, &s, &f->st), PTQ_ERR_USAGE);
        assert_status(&f->st, PTQ_ERR_USAGE, cases[i].message);
    }
}

static void expansion(void **state)
{
    struct fixture *f = *state;
    struct ptq_spec *s;
    int64_t n;
    const char *want[] = {"gptq:percdamp=0.01:act_order=0", "gptq:percdamp=0.01:act_order=1",
                          "gptq:percdamp=0.1:act_order=0", "gptq:percdamp=0.1:act_order=1"};
    assert_ok(ptq_spec_expand("gptq:percdamp=0.01|0.1:act_order=0|1", &f->arena, &s, &n, &f->st),
              &f->st);
    assert_int_equal(n, 4);
    for (int i = 0; i < 4; i++)
        assert_string_equal(s[i].label, want[i]);
    assert_ok(ptq_spec_expand("rtn|gptq", &f->arena, &s, &n, &f->st), &f->st);
    assert_int_equal(n, 2);
    assert_string_equal(s[1].name, "gptq");
    assert_ok(ptq_spec_expand("rtn", &f->arena, &s, &n, &f->st), &f->st);
    assert_int_equal(n, 1);
    assert_int_equal(ptq_spec_expand("gptq:percdamp=", &f->arena, &s, &n, &f->st), PTQ_ERR_USAGE);
    ptq_status_clear(&f->st);
    assert_int_equal(ptq_spec_expand("gptq:percdamp=1||2", &f->arena, &s, &n, &f->st),
                     PTQ_ERR_USAGE);
    ptq_status_clear(&f->st);
    char text[8000] = "gptq:percdamp=1";
    for (int i = 2; i < 70; i++)
        snprintf(text + strlen(text), 16, "|%d", i);
    strcat(text, ":block=1");
    for (int i = 2; i < 70; i++)
        snprintf(text + strlen(text), 16, "|%d", i);
    assert_int_equal(ptq_spec_expand(text, &f->arena, &s, &n, &f->st),
                     PTQ_ERR_USAGE); /* 69 * 69 > 4096 */
    assert_status(&f->st, PTQ_ERR_USAGE, "4096");
}

static void own_grid_wins(void **state)
{
    struct fixture *f = *state;
    struct ptq_spec s;
    struct ptq_cell c = cell_of(3, 64), out;
    assert_ok(ptq_spec_parse("rtn-mse", &f->arena, &s, &f->st), &f->st);
    ptq_spec_cell(&s, &c, &out);
    assert_true(out.grid == PTQ_GRID_MSE && out.w_bits == 3);
    assert_ok(ptq_spec_parse("rtn", &f->arena, &s, &f->st), &f->st);
    c.grid = PTQ_GRID_HESS;
    ptq_spec_cell(&s, &c, &out);
    assert_true(out.grid == PTQ_GRID_HESS);
}

static void cell_texts(void **state)
{
    (void)state;
    char buf[96];
    struct ptq_cell c = cell_of(3, 64);
    assert_string_equal(ptq_cell_text(&c, buf), "b3 g64 asym minmax f32");
    c.group_size = PTQ_GROUP_ROW;
    c.zero_in_range = false;
    c.scale_fmt = PTQ_FMT_F16;
    assert_string_equal(ptq_cell_text(&c, buf), "b3 row asym minmax f16 zero-free");
    c.group_size = PTQ_GROUP_TENSOR;
    c.sym = true;
    c.sym_kind = PTQ_SYM_ABSMAX;
    c.grid = PTQ_GRID_HESS;
    assert_string_equal(ptq_cell_text(&c, buf), "b3 tensor sym-absmax hess f16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registry),
        cmocka_unit_test_setup_teardown(specs, setup, teardown),
        cmocka_unit_test_setup_teardown(canonical_is_complete, setup, teardown),
        cmocka_unit_test_setup_teardown(faults, setup, teardown),
        cmocka_unit_test_setup_teardown(expansion, setup, teardown),
        cmocka_unit_test_setup_teardown(own_grid_wins, setup, teardown),
        cmocka_unit_test(cell_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
