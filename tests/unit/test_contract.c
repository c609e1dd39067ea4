/* The contract of ptq.h, held by every registered method and preset over a grid of cells. A new
 * file in methods/ is tested here without an edit. */
#include "quant_lib.h"
#include "core/hash.h"

enum { N_PRECISIONS = 2, MAX_SPECS = 200 };

struct bench {
    struct ptq_arena arena;
    struct ptq_status st;
    struct ptq_layer small, tall; /* tall: several pieces of every parallel loop */
    struct ptq_pool *pool[3];     /* 1, 2, 3 threads */
    const char *specs[MAX_SPECS];
    int n_specs;
};

static void collect_specs(struct bench *f)
{
    int n;
    struct ptq_preset *presets;
    int64_t n_presets;
    const struct ptq_method_entry *e = ptq_methods(&n);
    for (int i = 0; i < n && f->n_specs < MAX_SPECS; i++)
        f->specs[f->n_specs++] = e[i].name;
    assert_ok(ptq_presets(&f->arena, &presets, &n_presets, &f->st), &f->st);
    for (int64_t i = 0; i < n_presets && f->n_specs < MAX_SPECS; i++)
        if (!ptq_method_find(presets[i].name))
            f->specs[f->n_specs++] = presets[i].name;
}

static int open_bench(void **state)
{
    struct bench *f = calloc(1, sizeof *f);
    ptq_arena_init(&f->arena, 0);
    for (int i = 0; i < 3; i++)
        assert_ok(ptq_pool_new(&f->pool[i], i + 1, &f->st), &f->st);
    synthetic_layer(&f->arena, 33, 72, 2, &f->small);
    synthetic_layer(&f->arena, 530, 40, 1, &f->tall);
    collect_specs(f);
    *state = f;
    return 0;
}

static int close_bench(void **state)
{
    struct bench *f = *state;
    for (int i = 0; i < 3; i++)
        ptq_pool_free(f->pool[i]);
    ptq_arena_clear(&f->arena);
    free(f);
    return 0;
}

/* Groups x kinds of range x searches; bits, widths of inputs and scale formats run along. */
enum { N_CELLS = 5 * 5 * 3 };
static struct ptq_cell cell_number(int k, int64_t cols)
{
    const int64_t groups[] = {PTQ_GROUP_ROW, PTQ_GROUP_TENSOR, 32, 9, cols};
    const int bits[] = {4, 2, 3, 8, 1, 5, 6}, inputs[] = {0, 8, 0, 4};
    struct ptq_cell c = cell_of(bits[k % 7], groups[k % 5]);
    int kind = k / 5 % 5;
    c.zero_in_range = kind != 1;
    c.sym = kind >= 2;
    c.sym_kind = (enum ptq_sym_kind)(kind >= 2 ? kind - 2 : 0);
    c.grid = (enum ptq_grid)(k / 25);
    c.scale_fmt = (enum ptq_fmt)(PTQ_FMT_F16 + k % 3);
    c.a_bits = inputs[k % 4];
    c.seed = 7;
    return c;
}

/* One uniform part that multiplies inputs as they are; test_form_parts.c has the others. */
static bool is_plain(const struct ptq_quant *q)
{
    const struct ptq_part *p = &q->part[0];
    return q->n_parts == 1 && p->kind == PTQ_PART_UNIFORM && !p->tree_levels && !p->rot.fmt &&
           !q->act.divisor.fmt && !q->split.n_cols;
}

/* The value of every weight by the words of ptq.h, apart from the harness. */
static void check_values(const struct ptq_quant *q, const float *what)
{
    int64_t position[72];
    const struct ptq_part *p = &q->part[0];
    assert_true(q->cols <= LENGTH(position));
    if (!is_plain(q))
        return;
    for (int64_t j = 0; j < q->cols; j++)
        position[p->perm ? p->perm[j] : j] = j;
    for (int64_t i = 0; i < q->rows; i++)
        for (int64_t j = 0; j < q->cols; j++) {
            int64_t g = p->groups_per_row ? i * p->groups_per_row + position[j] / p->group_cols : 0;
            volatile float difference =
                (float)p->codes[i * q->cols + j] - (p->zero.at ? p->zero.at[g] : p->zero_const);
            volatile float value = p->scale.at[g] * difference;
            assert_true(value == what[i * q->cols + j]);
            assert_true(p->codes[i * q->cols + j] < 1u << p->bits);
        }
}

static void check_bytes(struct bench *f, const struct ptq_result *r)
{
    struct ptq_packed packed;
    struct ptq_form_head head;
    struct ptq_quant back;
    struct ptq_ledger ledger;
    struct ptq_arena arena;
    char before[33], after[33];
    float *what;
    int64_t n = r->quant.rows * ptq_quant_kcols(&r->quant);
    ptq_arena_init(&arena, 0);
    what = ptq_arena_alloc(&arena, &f->st, n, sizeof *what);
    assert_ok(ptq_quant_pack(&r->quant, &arena, &packed, &f->st), &f->st);
    ptq_quant_head(&r->quant, &head);
    assert_ok(ptq_quant_unpack(&head, &packed, &arena, &back, &f->st), &f->st);
    ptq_quant_hash(&r->quant, before);
    ptq_quant_hash(&back, after);
    assert_string_equal(before, after);
    assert_ok(ptq_quant_dequant(&back, what, &f->st), &f->st);
    assert_memory_equal(what, r->what, (size_t)n * sizeof *what);
    ptq_quant_ledger(&r->quant, &ledger);
    assert_true(ledger.total == 8.0 * (double)packed.bytes &&
                ledger.total >= ledger.nominal * (double)n); /* codes of every stored value */
    ptq_arena_clear(&arena);
}

static void check_notes(const struct ptq_result *r)
{
    for (int i = 0; i < r->n_notes; i++) {
        assert_true(isfinite(r->notes[i].value) && r->notes[i].key[0]);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(r->notes[i].key, r->notes[k].key);
    }
}

static void form_hash(const struct ptq_result *r, char out[33])
{
    assert_ok(ptq_quant_validate(&r->quant, NULL), &(struct ptq_status){0});
    ptq_quant_hash(&r->quant, out);
}

/* A cell that the method does: PTQ_OK; skipped with a reason: PTQ_SKIP. */
static int run_checked(struct bench *f, const struct run_args *a, struct ptq_result *r)
{
    char buf[96];
    ptq_status_clear(&f->st);
    int rc = run_cell(a, r, &f->st);
    if (rc != PTQ_OK && (rc != PTQ_SKIP || strlen(f->st.text) < 8))
        fail_msg("%s, %s: code %d: %s", a->spec, ptq_cell_text(&a->cell, buf), rc, f->st.text);
    return rc;
}

static void inputs_hash(const struct ptq_layer *l, uint64_t out[3])
{
    out[0] = ptq_hash64(l->w.at, (size_t)(l->w.rows * l->w.ld) * sizeof *l->w.at);
    out[1] = ptq_hash64(l->hess.at, (size_t)(l->hess.rows * l->hess.ld) * sizeof *l->hess.at);
    out[2] = ptq_hash64(l->acts.at, (size_t)(l->acts.rows * l->acts.ld) * sizeof *l->acts.at);
}

/* How many cells of the layer the method does. */
static int forms_of(struct bench *f, const char *spec, const struct ptq_layer *layer)
{
    int done = 0;
    for (int k = 0; k < N_CELLS; k++) {
        double loss[N_PRECISIONS] = {0};
        struct run_args a = {layer, spec, cell_number(k, layer->w.cols), PTQ_SINGLE, NULL};
        for (int precision = 0; precision < N_PRECISIONS; precision++) {
            struct ptq_result r;
            a.precision = (enum ptq_precision)precision;
            if (run_checked(f, &a, &r) != PTQ_OK)
                break;
            check_values(&r.quant, r.what);
            check_bytes(f, &r);
            check_notes(&r);
            loss[precision] = r.quant.split.n_cols ? 0 : loss_of(layer, r.what); /* else no What */
            ptq_result_release(&r);
            done++;
        }
        /* The same method in both precisions: a few codes flip, the loss stays. */
        assert_true(loss[1] <= 1.5 * loss[0] && loss[0] <= 1.5 * loss[1]);
    }
    return done;
}

static void stored_forms(void **state)
{
    struct bench *f = *state;
    uint64_t before[3], after[3];
    inputs_hash(&f->small, before);
    for (int s = 0; s < f->n_specs; s++) {
        int done = forms_of(f, f->specs[s], &f->small);
        if (!done) /* what pays for a book or a rotation by many rows */
            done = forms_of(f, f->specs[s], &f->tall);
        printf("%s: %d of %d cells done, the rest skipped with a reason\n", f->specs[s], done,
               N_CELLS * N_PRECISIONS);
        assert_true(done > 0);
    }
    inputs_hash(&f->small, after);
    assert_memory_equal(before, after, sizeof before);
}

static void same_bits_for_any_threads(void **state)
{
    struct bench *f = *state;
    const int cells[] = {0, 1, 2, 8, 12, 13, 21, 27, 33, 38, 41};
    for (int s = 0; s < f->n_specs; s++)
        for (int64_t k = 0; k < LENGTH(cells); k++)
            for (int precision = 0; precision < N_PRECISIONS; precision++) {
                char first[33] = "", other[33];
                struct run_args a = {&f->tall, f->specs[s], cell_number(cells[k], f->tall.w.cols),
                                     (enum ptq_precision)precision, NULL};
                for (int run = 0; run < 4; run++) { /* no pool; then 1, 2, 3 threads */
                    struct ptq_result r;
                    a.pool = run ? f->pool[run - 1] : NULL;
                    if (run_checked(f, &a, &r) != PTQ_OK)
                        break;
                    form_hash(&r, run ? other : first);
                    if (run)
                        assert_string_equal(first, other);
                    ptq_result_release(&r);
                }
            }
}

/* Several cells of one session at once: the same as alone. */
struct crowd {
    struct ptq_session *session;
    const struct ptq_spec *spec;
    const struct ptq_layer *layer;
    char hash[8][33];
};

static void crowd_piece(void *arg, int64_t begin, int64_t end)
{
    struct crowd *c = arg;
    for (int64_t i = begin; i < end; i++) {
        struct ptq_result r;
        struct ptq_status st = {0};
        struct ptq_cell cell = cell_of(2 + (int)i % 4, i % 2 ? 16 : -1);
        strcpy(c->hash[i], "failed");
        if (ptq_session_quantize(c->session, c->spec, &cell, &r, &st) != PTQ_OK)
            continue;
        ptq_quant_hash(&r.quant, c->hash[i]);
        ptq_result_release(&r);
    }
}

static void cells_at_once(void **state)
{
    struct bench *f = *state;
    for (int s = 0; s < f->n_specs; s++) {
        struct crowd c[2];
        for (int k = 0; k < 2; k++) {
            struct ptq_spec spec;
            struct ptq_session_args args = {.layer = &f->tall, .pool = f->pool[2]};
            assert_ok(ptq_spec_parse(f->specs[s], &f->arena, &spec, &f->st), &f->st);
            c[k] = (struct crowd){.spec = &spec, .layer = &f->tall};
            assert_ok(ptq_session_new(&c[k].session, &args, &f->st), &f->st);
            ptq_pool_for(k ? f->pool[2] : NULL, 8, 1, crowd_piece, &c[k]);
            ptq_session_free(c[k].session);
        }
        assert_memory_equal(c[0].hash, c[1].hash, sizeof c[0].hash);
    }
}

/* ---- what cells with given options need ---- */

/* "name:option=value" at both ends of an option and between, a bool's and choice's every value. */
enum { MAX_SETTINGS = 64 };
static int settings_of(struct bench *f, const struct ptq_method *m, const char *out[MAX_SETTINGS])
{
    int n = 0;
    for (const struct ptq_opt *o = m->opts; o && o->name; o++) {
        const char *const numbers[] = {ptq_arena_printf(&f->arena, &f->st, "%.9g", o->min),
                                       ptq_arena_printf(&f->arena, &f->st, "%.9g", o->def),
                                       ptq_arena_printf(&f->arena, &f->st, "%.9g", o->max), NULL};
        static const char *const bools[] = {"0", "1", NULL};
        const char *const *values = o->type == PTQ_OPT_CHOICE ? o->choices
                                    : o->type == PTQ_OPT_BOOL ? bools
                                                              : numbers;
        for (; *values; values++) {
            assert_true(n < MAX_SETTINGS);
            out[n++] = ptq_arena_printf(&f->arena, &f->st, "%s=%s", o->name, *values);
        }
    }
    return n;
}

/* Only what cells with these options need is there. */
static struct ptq_layer needed(const struct ptq_layer *l, const struct ptq_spec *spec,
                               const struct ptq_cell *cell)
{
    const unsigned needs = ptq_spec_needs(spec);
    struct ptq_layer out = *l;
    if (!(needs & PTQ_NEEDS_HESS) && cell->grid != PTQ_GRID_HESS) {
        out.hess = (struct ptq_cdmat){0};
        out.hess_key = 0;
    }
    if (!(needs & PTQ_NEEDS_ACTS))
        out.acts = (struct ptq_cmat){0};
    if (!(needs & PTQ_NEEDS_RANGES))
        out.x_absmax = out.x_absmean = out.x_mean = NULL;
    if (!(needs & PTQ_NEEDS_CROSS))
        out.cross = (struct ptq_cdmat){0};
    return out;
}

static void check_enough(struct bench *f, const struct ptq_layer *full, const char *text)
{
    struct ptq_spec spec;
    assert_ok(ptq_spec_parse(text, &f->arena, &spec, &f->st), &f->st);
    for (int k = 0; k < 2; k++) {
        char hash[2][33] = {"", ""};
        int rc[2];
        struct run_args a = {full, text, cell_of(3 + k, PTQ_GROUP_ROW), PTQ_SINGLE, NULL};
        for (int less = 0; less < 2; less++) {
            struct ptq_result r;
            struct ptq_layer l = needed(full, &spec, &a.cell);
            a.layer = less ? &l : full;
            rc[less] = run_checked(f, &a, &r);
            if (rc[less] == PTQ_OK)
                form_hash(&r, hash[less]);
            ptq_result_release(&r);
        }
        if (rc[0] != rc[1] || strcmp(hash[0], hash[1]) != 0)
            fail_msg("%s: another result without what it says it does not need", text);
    }
}

/* Every pair of settings: a subset of the method's needs, in both precisions the same. */
static void check_subset(struct bench *f, const struct ptq_method_entry *e, const char *text,
                         unsigned *all)
{
    struct ptq_spec spec;
    assert_ok(ptq_spec_parse(text, &f->arena, &spec, &f->st), &f->st);
    unsigned needs = ptq_spec_needs(&spec);
    if (needs & ~e->single->needs)
        fail_msg("%s needs %#x, its method %#x", text, needs, e->single->needs);
    assert_int_equal(needs, e->dbl->needs_of(spec.opts));
    *all |= needs;
}

/* Nothing that a method says it does not need decides anything. */
static void needs_are_enough(void **state)
{
    struct bench *f = *state;
    int n;
    struct ptq_layer full = f->small;
    const struct ptq_method_entry *e = ptq_methods(&n);
    full.cross = full.hess;
    for (int s = 0; s < f->n_specs; s++)
        check_enough(f, &full, f->specs[s]);
    for (int i = 0; i < n; i++) {
        const char *settings[MAX_SETTINGS];
        unsigned all = 0;
        assert_int_equal(e[i].single->needs, e[i].dbl->needs);
        if (!e[i].single->needs_of)
            continue;
        int n_settings = settings_of(f, e[i].single, settings);
        for (int a = 0; a < n_settings; a++)
            for (int b = a; b < n_settings; b++) {
                if (b > a && strcspn(settings[a], "=") == strcspn(settings[b], "=") &&
                    !strncmp(settings[a], settings[b], strcspn(settings[a], "=")))
                    continue; /* two values of one option */
                const char *text = ptq_arena_printf(&f->arena, &f->st, "%s:%s:%s", e[i].name,
                                                    settings[a], settings[b]);
                if (a == b)
                    text = ptq_arena_printf(&f->arena, &f->st, "%s:%s", e[i].name, settings[a]);
                check_subset(f, &e[i], text, &all);
                check_enough(f, &full, text);
            }
        assert_int_equal(all, e[i].single->needs); /* not wider than any cell */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(stored_forms, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(same_bits_for_any_threads, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(cells_at_once, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(needs_are_enough, open_bench, close_bench),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
