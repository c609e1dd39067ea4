/* Every rule of `ptq check` on a run made here: rows and stored forms of rtn and gptq on random
 * layers. The run as it is passes; then one fault is put in for each rule, which must name it. */
#include "quant_lib.h"
#include "analysis/inspection.h"
#include "core/json.h"
#include "core/linalg.h"
#include "sweep/formpack.h"

enum { N_LAYERS = 3, ROWS = 16, COLS = 64 };
static const char *const layer_names[N_LAYERS] = {"blk.0.attn_q", "blk.0.attn_k", "blk.0.attn_v"};

struct run { /* a run folder and what is to be written into it */
    struct fixture f;
    char dir[TEST_PATH];
    json_t *rows;
    bool damaged_is_absent;
    struct ptq_pack *pack;
};

static json_t *new_row(const char *base, const struct ptq_result *r, int bits, int64_t group,
                       const struct ptq_layer *l)
{
    char hash[33];
    struct ptq_ledger ledger;
    double loss, all, mse = 0, w2 = 0;
    const int64_t n = l->w.rows * l->w.cols;
    float *dw = malloc((size_t)n * sizeof *dw);
    assert_non_null(dw);
    for (int64_t i = 0; i < n; i++) {
        dw[i] = r->what[i] - l->w.at[i];
        mse += (double)dw[i] * (double)dw[i] / (double)n;
        w2 += (double)l->w.at[i] * (double)l->w.at[i];
    }
    assert_int_equal(ptq_quadform(NULL, dw, ROWS, COLS, COLS, l->hess.at, COLS, NULL, &loss, NULL),
                     0);
    assert_int_equal(
        ptq_quadform(NULL, l->w.at, ROWS, COLS, COLS, l->hess.at, COLS, NULL, &all, NULL), 0);
    free(dw);
    ptq_quant_hash(&r->quant, hash);
    ptq_quant_ledger(&r->quant, &ledger);
    json_t *notes = json_object();
    for (int i = 0; i < r->n_notes; i++)
        json_object_set_new(notes, r->notes[i].key, ptq_json_num(r->notes[i].value));
    json_t *row = json_pack(
        "{s:i,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:i,s:I,s:i,s:s,s:s,s:i,s:s,s:i,s:s,s:s,s:s,s:i,"
        "s:s,s:i,s:i,s:i}",
        "schema", 1, "kind", "layer", "status", "ok", "model", "m", "source", "demo", "method",
        base, "label", base, "base", base, "options", strcmp(base, "gptq") ? "" : "act_order=1",
        "stats", "fp", "bits", bits, "group_size", (json_int_t)group, "sym", 0, "sym_kind", "full",
        "grid", "minmax", "zero_in_range", 1, "scale", "f32", "seed", 0, "precision", "single",
        "calib", "text", "layer", l->name, "calib_seed", 1, "codes_hash", hash, "block", 0, "rows",
        ROWS, "cols", COLS);
    assert_non_null(row);
    json_object_set_new(row, "metrics",
                        json_pack("{s:f,s:f,s:f,s:f,s:f}", "proxy_loss", loss, "out_relerr",
                                  loss / all, "w_mse", mse, "w_relerr", mse * (double)n / w2,
                                  "bits_stored", ledger.total / (double)n));
    json_object_set_new(row, "notes", notes);
    json_object_set_new(row, "health", json_pack("{s:f,s:i}", "trace", 3.5, "n_dead", 0));
    return row;
}

static void add_row(struct run *r, json_t *row)
{
    char key[64];
    snprintf(key, sizeof key, "%032d", (int)json_array_size(r->rows));
    json_object_set_new(row, "key", json_string(key));
    json_object_set_new(row, "form", json_string(key));
    json_array_append_new(r->rows, row);
}

static void add_cell(struct run *r, const char *base, int bits, int64_t group,
                     const struct ptq_layer *l)
{
    struct ptq_session *s;
    struct ptq_spec spec;
    struct ptq_result q;
    const struct ptq_session_args args = {.layer = l};
    const struct ptq_cell cell = cell_of(bits, group);
    assert_int_equal(ptq_spec_parse(base, &r->f.arena, &spec, &r->f.st), PTQ_OK);
    assert_int_equal(ptq_session_new(&s, &args, &r->f.st), PTQ_OK);
    assert_int_equal(ptq_session_quantize(s, &spec, &cell, &q, &r->f.st), PTQ_OK);
    json_t *row = new_row(base, &q, bits, group, l);
    add_row(r, row);
    assert_int_equal(
        ptq_pack_put(r->pack, json_string_value(json_object_get(row, "form")), &q, &r->f.st),
        PTQ_OK);
    ptq_result_release(&q);
    ptq_session_free(s);
}

static int make_run(void **state)
{
    struct run *r = calloc(1, sizeof *r);
    assert_non_null(r);
    *state = r;
    ptq_arena_init(&r->f.arena, 0);
    test_tmpdir(r->dir);
    r->rows = json_array();
    assert_int_equal(ptq_pack_open(&r->pack, r->dir, 0, 1, &r->f.st), PTQ_OK);
    for (int k = 0; k < N_LAYERS; k++) {
        struct ptq_layer l;
        synthetic_layer(&r->f.arena, ROWS, COLS, 0, &l);
        float *w = ptq_arena_alloc(&r->f.arena, &r->f.st, ROWS * COLS, sizeof *w);
        assert_non_null(w);
        for (int i = 0; i < ROWS * COLS; i++)
            w[i] = (float)ptq_normal((uint64_t)(70 + k), (uint64_t)i);
        l.w.at = w;
        l.name = layer_names[k];
        for (int bits = 2; bits <= 4; bits++)
            for (int g = 0; g < 2; g++) {
                add_cell(r, "rtn", bits, g ? 16 : -1, &l);
                add_cell(r, "gptq", bits, g ? 16 : -1, &l);
            }
    }
    return 0;
}

static int drop_run(void **state)
{
    struct run *r = *state;
    ptq_pack_close(r->pack);
    json_decref(r->rows);
    ptq_arena_clear(&r->f.arena);
    test_rmdir(r->dir);
    free(r);
    return 0;
}

static struct ptq_rule_result check(struct run *r, const char *rule, struct ptq_invariants *all)
{
    char path[TEST_PATH + 16];
    snprintf(path, sizeof path, "%s/cells.jsonl", r->dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (size_t i = 0; i < json_array_size(r->rows); i++) {
        char *line = ptq_json_line(json_array_get(r->rows, i));
        assert_non_null(line);
        fputs(line, f);
        free(line);
    }
    fclose(f);
    const struct ptq_invariants_args args = {.run_dir = r->dir,
                                             .damaged_is_absent = r->damaged_is_absent};
    assert_int_equal(ptq_invariants_check(&args, &r->f.arena, all, &r->f.st), PTQ_OK);
    for (int i = 0; i < all->n; i++)
        if (!strcmp(all->at[i].rule->name, rule))
            return all->at[i];
    fail_msg("no rule %s", rule);
    return (struct ptq_rule_result){0};
}

/* The fault breaks this rule, names the layer, and counts as it should. */
static void expect_broken(struct run *r, const char *rule, bool hard, const char *words)
{
    struct ptq_invariants all;
    struct ptq_rule_result result = check(r, rule, &all);
    assert_true(result.n_broken > 0);
    assert_int_equal(result.rule->hard, hard);
    assert_true((hard ? all.n_violated : all.n_warned) > 0);
    assert_true(result.n_findings > 0);
    if (!strstr(result.findings[0], words))
        fail_msg("%s: '%s' does not say '%s'", rule, result.findings[0], words);
}

static json_t *row_of(struct run *r, const char *base, int bits, int64_t group, const char *layer)
{
    for (size_t i = 0; i < json_array_size(r->rows); i++) {
        json_t *row = json_array_get(r->rows, i);
        if (!strcmp(ptq_row_text(row, "base"), base) && ptq_row_num(row, "bits") == bits &&
            ptq_row_num(row, "group_size") == (double)group &&
            !strcmp(ptq_row_text(row, "layer"), layer))
            return row;
    }
    fail();
    return NULL;
}

static void set_metric(json_t *row, const char *id, double v)
{
    json_object_set_new(json_object_get(row, "metrics"), id, json_real(v));
}

/* ---- the run as it is --------------------------------------------------------------------------
 */

static void test_clean(void **state)
{
    struct ptq_invariants all;
    check(*state, "round_trip", &all);
    assert_int_equal(all.n_violated, 0);
    for (int i = 0; i < all.n; i++) {
        const struct ptq_rule_result *r = &all.at[i];
        bool idle = !strcmp(r->rule->name, "boa_not_above_gptq") ||
                    !strcmp(r->rule->name, "transforms_are_exact");
        if (!idle && r->rule->hard && r->n_checked == 0)
            fail_msg("%s checked nothing: %s", r->rule->name, r->not_checked ? r->not_checked : "");
    }
}

/* Of 3 layers, bits 2 to 4, 2 group sizes, 2 methods: how often each rule looks. */
static void test_counts(void **state)
{
    static const struct {
        const char *rule;
        int64_t n;
    } want[] = {{"hessian_not_zero", 18},  /* gptq's cells */
                {"calibration_counts", 6}, /* its settings */
                {"codes_in_range", 36},    /* all forms */
                {"round_trip", 36},
                {"ledger_is_bytes", 36},
                {"gptq_not_above_rtn", 6},         /* rows of 3 and 4 bits */
                {"gptq_not_above_rtn_coarse", 12}, /* 2 bits, and fresh groups */
                {"error_falls_with_bits", 8},      /* 2 steps of 2 methods and 2 groups */
                {"error_falls_with_groups", 6}};   /* 1 step of 2 methods and 3 widths */
    struct ptq_invariants all;
    for (int i = 0; i < LENGTH(want); i++)
        if (check(*state, want[i].rule, &all).n_checked != want[i].n)
            fail_msg("%s: %d, not %d", want[i].rule,
                     (int)check(*state, want[i].rule, &all).n_checked, (int)want[i].n);
}

/* Without forms.pack nothing passes in silence. */
static void test_without_forms(void **state)
{
    struct run *r = *state;
    struct ptq_invariants all;
    ptq_pack_remove(r->dir, 0, 1);
    static const char *const rules[] = {"codes_in_range", "round_trip", "ledger_is_bytes",
                                        "transforms_are_exact"};
    for (int i = 0; i < 4; i++) {
        struct ptq_rule_result result = check(r, rules[i], &all);
        assert_int_equal(result.n_checked, 0);
        assert_non_null(result.not_checked);
        assert_non_null(strstr(result.not_checked, "INCOMPLETE: 36 of 36"));
    }
    assert_true(all.n_not_checked >= 4);
}

/* ---- hard rules --------------------------------------------------------------------------------
 */

/* The statistics swapped: the layer's own Hessian where the identity should be. */
static void test_identity(void **state)
{
    struct run *r = *state;
    struct ptq_rule_result now = {0};
    struct ptq_inspection in = {.arena = &r->f.arena, .st = &r->f.st, .now = &now};
    struct ptq_layer l;
    const json_t *row = row_of(r, "gptq", 3, -1, "blk.0.attn_k");
    synthetic_layer(&r->f.arena, ROWS, COLS, 0, &l);
    double *identity = ptq_arena_alloc(&r->f.arena, &r->f.st, COLS * COLS, sizeof *identity);
    assert_non_null(identity);
    for (int i = 0; i < COLS; i++)
        identity[i * COLS + i] = 2;
    const struct ptq_cdmat own = l.hess;
    l.hess.at = identity;
    l.hess_key = 0;
    assert_int_equal(ptq_try_identity(&in, &l, row), PTQ_OK);
    assert_int_equal(now.n_checked, 1);
    assert_int_equal(now.n_broken, 0);
    l.hess = own;
    assert_int_equal(ptq_try_identity(&in, &l, row), PTQ_OK);
    assert_int_equal(now.n_broken, 1);
    assert_non_null(strstr(now.findings[0], "gptq b3 row blk.0.attn_k"));
}

static void test_hessian(void **state)
{
    json_t *row = row_of(*state, "gptq", 3, -1, "blk.0.attn_k");
    json_object_set_new(json_object_get(row, "health"), "trace", json_real(0));
    expect_broken(*state, "hessian_not_zero", true, "gptq b3 row blk.0.attn_k: tr H = 0");
}

static void test_hessian_dead(void **state)
{
    struct ptq_invariants all;
    json_t *health = json_object_get(row_of(*state, "gptq", 3, -1, "blk.0.attn_k"), "health");
    json_object_set_new(health, "n_dead", json_integer(COLS - 1));
    assert_int_equal(check(*state, "hessian_not_zero", &all).n_broken, 0);
    json_object_set_new(health, "n_dead", json_integer(COLS));
    expect_broken(*state, "hessian_not_zero", true, "gptq b3 row blk.0.attn_k: tr H = 3.5");
}

/* Two layers of three that are as rtn's are no alarm; without rtn beside it a layer is not
 * checked, which is said. */
static void test_changed_some(void **state)
{
    struct run *r = *state;
    struct ptq_invariants all;
    for (int k = 0; k < 2; k++)
        json_object_set(row_of(r, "gptq", 4, 16, layer_names[k]), "codes_hash",
                        json_object_get(row_of(r, "rtn", 4, 16, layer_names[k]), "codes_hash"));
    assert_int_equal(check(r, "calibration_counts", &all).n_broken, 0);
    json_object_set_new(row_of(r, "rtn", 4, 16, layer_names[2]), "seed", json_integer(9));
    struct ptq_rule_result alone = check(r, "calibration_counts", &all);
    assert_int_equal(alone.n_broken, 1); /* the two that can be seen */
    assert_non_null(alone.not_checked);
    assert_non_null(strstr(alone.not_checked, "1 layer cells have no rtn"));
}

static void test_changed(void **state)
{
    for (int k = 0; k < N_LAYERS; k++)
        json_object_set(
            row_of(*state, "gptq", 4, 16, layer_names[k]), "codes_hash",
            json_object_get(row_of(*state, "rtn", 4, 16, layer_names[k]), "codes_hash"));
    expect_broken(*state, "calibration_counts", true, "gptq b4 g16 blk.0.attn_k and all 3 layers");
    struct ptq_invariants all; /* and where the method says that it had nothing to take */
    for (int k = 0; k < N_LAYERS; k++)
        json_object_set_new(json_object_get(row_of(*state, "gptq", 4, 16, layer_names[k]), "notes"),
                            "took_nothing", json_integer(1));
    struct ptq_rule_result idle = check(*state, "calibration_counts", &all);
    assert_int_equal(idle.n_broken, 0);
    assert_non_null(strstr(idle.not_checked, "3 layer cells had nothing to take"));
}

static void put_form(struct run *r, json_t *row, const struct ptq_quant *q)
{
    struct ptq_result result = {.quant = *q};
    char hash[33];
    json_object_set_new(row, "form", json_string("00000000000000000000000000000abc"));
    assert_int_equal(ptq_pack_put(r->pack, ptq_row_text(row, "form"), &result, &r->f.st), PTQ_OK);
    ptq_quant_hash(q, hash);
    json_object_set_new(row, "codes_hash", json_string(hash));
}

/* A book of three entries under codes of two bits: code 3 packs, and stands for nothing. */
static void test_codes(void **state)
{
    static uint16_t codes[8] = {0, 1, 2, 0, 1, 3, 2, 0};
    static const float book[3] = {-1, 0, 1};
    const struct ptq_quant q = {.rows = 2,
                                .cols = 4,
                                .n_parts = 1,
                                .part[0] = {.kind = PTQ_PART_CODEBOOK,
                                            .bits = 2,
                                            .codes = codes,
                                            .dim = 1,
                                            .book_len = 3,
                                            .book_rows = 2,
                                            .book_cols = 4,
                                            .book = {.fmt = PTQ_FMT_F32, .n = 3, .at = book}}};
    put_form(*state, row_of(*state, "rtn", 3, -1, "blk.0.attn_v"), &q);
    expect_broken(*state, "codes_in_range", true, "rtn b3 row blk.0.attn_v");
    codes[5] = 1; /* the same with a code that is there */
    put_form(*state, row_of(*state, "rtn", 3, -1, "blk.0.attn_v"), &q);
    struct ptq_invariants all;
    assert_int_equal(check(*state, "codes_in_range", &all).n_broken, 0);
}

static void test_hash(void **state)
{
    json_object_set_new(row_of(*state, "rtn", 2, -1, "blk.0.attn_q"), "codes_hash",
                        json_string("0123456789abcdef0123456789abcdef"));
    expect_broken(*state, "round_trip", true, "rtn b2 row blk.0.attn_q: the row's codes");
}

/* The last byte of the file belongs to the last form. */
static void test_bytes(void **state)
{
    struct run *r = *state;
    char path[TEST_PATH + 16];
    snprintf(path, sizeof path, "%s/forms.pack", r->dir);
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    fseek(f, -1, SEEK_END);
    int c = fgetc(f);
    fseek(f, -1, SEEK_END);
    fputc(c ^ 1, f);
    fclose(f);
    expect_broken(r, "round_trip", true, "gptq b4 g16 blk.0.attn_v: the stored bytes");
    struct ptq_invariants all;
    r->damaged_is_absent = true;
    struct ptq_rule_result absent = check(r, "round_trip", &all);
    assert_int_equal(absent.n_checked, 35);
    assert_non_null(strstr(absent.not_checked, "INCOMPLETE: 1 of 36"));
}

static void test_ledger(void **state)
{
    json_t *row = row_of(*state, "gptq", 2, 16, "blk.0.attn_q");
    set_metric(row, "bits_stored", ptq_row_metric(row, "bits_stored") - 8.0 / (ROWS * COLS));
    expect_broken(*state, "ledger_is_bytes", true, "gptq b2 g16 blk.0.attn_q: the row says");
}

/* Channel 1 in two pieces; the fault leaves its first piece out. */
static void test_transforms(void **state)
{
    static const uint16_t codes[10] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1};
    static const float scale = 0.5F, divisor[4] = {1, 2, 0.3F, 1.7F};
    static int32_t source[5] = {0, 1, 1, 2, 3}, piece[5] = {-1, 0, 1, -1, -1};
    const struct ptq_quant q = {
        .rows = 2,
        .cols = 4,
        .n_parts = 1,
        .act.divisor = {.fmt = PTQ_FMT_F32, .n = 4, .at = divisor},
        .split = {.n_cols = 5, .source = source, .piece = piece, .limit = 0.75F},
        .part[0] = {.kind = PTQ_PART_UNIFORM,
                    .bits = 2,
                    .codes = codes,
                    .group_cols = 5,
                    .scale = {.fmt = PTQ_FMT_F32, .n = 1, .at = &scale},
                    .zero_const = 2}};
    struct ptq_invariants all;
    json_t *row = row_of(*state, "rtn", 3, -1, "blk.0.attn_v");
    put_form(*state, row, &q);
    struct ptq_rule_result clean = check(*state, "transforms_are_exact", &all);
    assert_int_equal(clean.n_checked, 1);
    assert_int_equal(clean.n_broken, 0);
    source[1] = 3; /* piece 0 of another channel: channel 1 has piece 1 alone, 3 has one too many */
    put_form(*state, row, &q);
    expect_broken(*state, "transforms_are_exact", true, "blk.0.attn_v: input channel 1");
}

/* smoothquant's form of a layer passes; rtn's codes under the same divisor, that is of a W that
 * nobody multiplied, do not. */
static void test_divisor(void **state)
{
    struct run *r = *state;
    struct ptq_rule_result now = {0};
    struct ptq_inspection in = {.arena = &r->f.arena, .st = &r->f.st, .now = &now};
    struct ptq_layer l;
    const json_t *row = row_of(r, "rtn", 4, 16, "blk.0.attn_k");
    float most[COLS];
    synthetic_layer(&r->f.arena, ROWS, COLS, 0, &l);
    for (int j = 0; j < COLS; j++)
        most[j] = (float)(1 + j % 9);
    l.x_absmax = l.x_absmean = most;
    for (int bits = 2; bits <= 8; bits++) {
        const struct ptq_cell cell = cell_of(bits, bits % 2 ? -1 : 16);
        struct run_args a = {&l, "smoothquant:smooth=all", cell, PTQ_SINGLE, NULL, 0};
        struct ptq_result smooth, plain;
        assert_int_equal(run_cell(&a, &smooth, &r->f.st), PTQ_OK);
        a.spec = "rtn";
        assert_int_equal(run_cell(&a, &plain, &r->f.st), PTQ_OK);
        now.n_broken = 0;
        ptq_try_weights(&in, &l.w, &smooth.quant, row);
        if (now.n_broken)
            fail_msg("%d bits: %s", bits, now.findings[0]);
        plain.quant.act = smooth.quant.act;
        ptq_try_weights(&in, &l.w, &plain.quant, row);
        assert_true(now.n_broken == 1 || bits < 5); /* coarse steps may hide it */
        ptq_result_release(&smooth);
        ptq_result_release(&plain);
    }
    assert_true(now.n_findings > 0);
    assert_non_null(strstr(now.findings[0], "rtn b4 g16 blk.0.attn_k"));
    assert_non_null(strstr(now.findings[0], "the weights not multiplied"));
}

static void swap_losses(json_t *a, json_t *b)
{
    json_t *keep = json_incref(json_object_get(a, "metrics"));
    json_object_set(a, "metrics", json_object_get(b, "metrics"));
    json_object_set_new(b, "metrics", keep);
}

static void test_gptq(void **state)
{
    swap_losses(row_of(*state, "gptq", 3, -1, "blk.0.attn_k"),
                row_of(*state, "rtn", 3, -1, "blk.0.attn_k"));
    expect_broken(*state, "gptq_not_above_rtn", true, "gptq b3 row blk.0.attn_k: tr(dW (H +");
}

static void set_loss(json_t *row, double loss, double dw2)
{
    set_metric(row, "proxy_loss", loss);
    set_metric(row, "w_mse", dw2 / (ROWS * COLS));
}

/* What gptq minimises: 11 + lambda 2 against rtn's 10 + lambda 4, level at lambda = 1/2. */
static void test_gptq_damping(void **state)
{
    struct run *r = *state;
    struct ptq_invariants all;
    json_t *gptq = row_of(r, "gptq", 3, -1, "blk.0.attn_k"),
           *rtn = row_of(r, "rtn", 3, -1, "blk.0.attn_k"), *notes = json_object_get(gptq, "notes");
    set_loss(gptq, 11, 2);
    set_loss(rtn, 10, 4);
    json_object_set_new(notes, "damping", json_real(.6));
    assert_int_equal(check(r, "gptq_not_above_rtn", &all).n_broken, 0);
    json_object_set_new(notes, "damping", json_real(.4));
    expect_broken(r, "gptq_not_above_rtn", true, "tr(dW (H + 0.4 I) dW^T) = 11.8, rtn has 11.6");
}

/* Rows that say nothing about each other are not compared, which is said: another draw, statistics
 * behind quantized blocks. */
static void test_gptq_apart(void **state)
{
    struct run *r = *state;
    struct ptq_invariants all;
    json_t *gptq = row_of(r, "gptq", 3, -1, "blk.0.attn_k"),
           *rtn = row_of(r, "rtn", 3, -1, "blk.0.attn_k");
    swap_losses(gptq, rtn);
    json_object_set_new(rtn, "calib_seed", json_integer(2));
    struct ptq_rule_result now = check(r, "gptq_not_above_rtn", &all);
    assert_int_equal(now.n_checked, 5);
    assert_int_equal(now.n_broken, 0);
    assert_non_null(strstr(now.not_checked, "no rtn row of the same cell and draw"));
    json_object_set_new(rtn, "calib_seed", json_integer(1));
    json_object_set_new(rtn, "stats", json_string("sequential"));
    json_object_set_new(gptq, "stats", json_string("sequential"));
    now = check(r, "gptq_not_above_rtn", &all);
    assert_int_equal(now.n_broken, 0);
    assert_non_null(strstr(now.not_checked, "sequential"));
    json_object_set_new(rtn, "stats", json_string("fp"));
    json_object_set_new(gptq, "stats", json_string("fp"));
    assert_int_equal(check(r, "gptq_not_above_rtn", &all).n_broken, 1);
}

/* A dead input among live ones: gptq takes its weights for 0, which is nothing that it minimises.
 * At 8 bits its |W|^2 outweighs all that is left of the loss. */
static void test_gptq_dead(void **state)
{
    struct run *r = *state;
    struct ptq_layer l;
    struct ptq_invariants all;
    enum { DEAD = 5 };
    synthetic_layer(&r->f.arena, ROWS, COLS, 0, &l);
    double *h = ptq_arena_alloc(&r->f.arena, &r->f.st, COLS * COLS, sizeof *h);
    assert_non_null(h);
    for (int i = 0; i < COLS; i++)
        for (int j = 0; j < COLS; j++)
            h[i * COLS + j] = i == DEAD || j == DEAD ? 0 : l.hess.at[i * l.hess.ld + j];
    l.hess = (struct ptq_cdmat){h, COLS, COLS, COLS};
    l.hess_key = 0;
    l.name = "blk.0.ffn_down";
    const int64_t before = check(r, "gptq_not_above_rtn", &all).n_checked;
    add_cell(r, "rtn", 8, -1, &l);
    add_cell(r, "gptq", 8, -1, &l);
    struct ptq_rule_result now = check(r, "gptq_not_above_rtn", &all);
    assert_int_equal(now.n_checked, before + 1);
    assert_int_equal(now.n_broken, 0);
    json_t *row = row_of(r, "gptq", 8, -1, l.name), *notes = json_object_get(row, "notes");
    double dead = 0;
    for (int i = 0; i < ROWS; i++) /* zero is on its grid: dW of such a weight is the weight */
        dead += pow((double)l.w.at[i * l.w.ld + DEAD], 2);
    assert_true(fabs(json_real_value(json_object_get(notes, "dead_dw2")) - dead) < 1e-6 * dead);
    json_object_del(notes, "dead_dw2"); /* of another build: the undamped losses */
    assert_int_equal(check(r, "gptq_not_above_rtn", &all).n_broken, 0);
    set_metric(row, "proxy_loss",
               2 * ptq_row_metric(row_of(r, "rtn", 8, -1, l.name), "proxy_loss"));
    expect_broken(r, "gptq_not_above_rtn", true, "gptq b8 row blk.0.ffn_down");
}

/* ---- warnings ----------------------------------------------------------------------------------
 */

/* One layer at 2 bits, or one of fresh groups: no violation. */
static void test_gptq_coarse(void **state)
{
    struct ptq_invariants all;
    swap_losses(row_of(*state, "gptq", 2, -1, "blk.0.attn_k"),
                row_of(*state, "rtn", 2, -1, "blk.0.attn_k"));
    swap_losses(row_of(*state, "gptq", 4, 16, "blk.0.attn_q"),
                row_of(*state, "rtn", 4, 16, "blk.0.attn_q"));
    expect_broken(*state, "gptq_not_above_rtn_coarse", false, "blk.0.attn_k");
    assert_int_equal(check(*state, "gptq_not_above_rtn_coarse", &all).n_broken, 2);
    assert_int_equal(all.n_violated, 0);
    json_t *fresh = row_of(*state, "gptq", 4, 16, "blk.0.attn_q");
    json_object_set_new(fresh, "options", json_string("act_order=1:static_groups=10"));
    assert_int_equal(check(*state, "gptq_not_above_rtn", &all).n_broken, 0);
    json_object_set_new(fresh, "options", json_string("act_order=1:static_groups=1"));
    assert_int_equal(check(*state, "gptq_not_above_rtn", &all).n_broken, 1);
}

/* boa: gptq's rows under another name, its attn_loss told. */
static void test_boa(void **state)
{
    struct run *r = *state;
    for (int k = 0; k < N_LAYERS; k++) {
        json_t *g = row_of(r, "gptq", 3, -1, layer_names[k]), *b = json_deep_copy(g);
        json_object_set_new(b, "base", json_string("boa"));
        json_object_set_new(b, "label", json_string("boa"));
        json_object_set_new(b, "options", json_string("act_order_col=1"));
        set_metric(g, "attn_loss", 2);
        set_metric(b, "attn_loss", k == 0 ? 9 : 1); /* one chaotic layer */
        add_row(r, b);
    }
    struct ptq_invariants all;
    struct ptq_rule_result one = check(r, "boa_not_above_gptq", &all);
    assert_int_equal(one.n_checked, 1);
    assert_int_equal(one.n_broken, 0);
    set_metric(row_of(r, "boa", 3, -1, "blk.0.attn_v"), "attn_loss", 3);
    expect_broken(r, "boa_not_above_gptq", false, "blk.0.attn_v (1.5)");
    for (int k = 0; k < N_LAYERS; k++) /* of another order of columns: no comparison */
        json_object_set_new(row_of(r, "boa", 3, -1, layer_names[k]), "options",
                            json_string("act_order_col=0"));
    one = check(r, "boa_not_above_gptq", &all);
    assert_int_equal(one.n_checked, 0);
    assert_non_null(one.not_checked);
}

static void raise_errors(struct run *r, int bits, int64_t group, int n_layers)
{
    for (int k = 0; k < n_layers; k++)
        set_metric(row_of(r, "rtn", bits, group, layer_names[k]), "out_relerr", 0.9);
}

static void test_falls(void **state)
{
    struct ptq_invariants all;
    raise_errors(*state, 4, -1, 1); /* one chaotic layer of three */
    assert_int_equal(check(*state, "error_falls_with_bits", &all).n_broken, 0);
    raise_errors(*state, 4, -1, 2);
    expect_broken(*state, "error_falls_with_bits", false, "rtn minmax from b3 row to b4 row");
    raise_errors(*state, 3, 16, 2);
    expect_broken(*state, "error_falls_with_groups", false, "rtn minmax from b3 row to b3 g16");
    assert_int_equal(check(*state, "round_trip", &all).n_broken, 0);
    assert_int_equal(all.n_violated, 0);
}

/* Groups get finer from rows to 32 to 16 columns: each is held to the next coarser one. */
static void test_falls_over_three(void **state)
{
    struct run *r = *state;
    for (int k = 0; k < N_LAYERS; k++) {
        json_t *copy = json_deep_copy(row_of(r, "rtn", 3, 16, layer_names[k]));
        json_object_set_new(copy, "group_size", json_integer(32));
        set_metric(copy, "out_relerr", 0.9);
        add_row(r, copy);
    }
    expect_broken(r, "error_falls_with_groups", false, "rtn minmax from b3 row to b3 g32");
    struct ptq_invariants all;
    struct ptq_rule_result now = check(r, "error_falls_with_groups", &all);
    assert_int_equal(now.n_broken, 1);
    assert_int_equal(now.n_checked, 7);
}

#define RUN_TEST(test) cmocka_unit_test_setup_teardown(test, make_run, drop_run)
int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_TEST(test_clean),        RUN_TEST(test_without_forms),
        RUN_TEST(test_identity),     RUN_TEST(test_hessian),
        RUN_TEST(test_changed),      RUN_TEST(test_codes),
        RUN_TEST(test_hash),         RUN_TEST(test_bytes),
        RUN_TEST(test_ledger),       RUN_TEST(test_transforms),
        RUN_TEST(test_gptq),         RUN_TEST(test_gptq_coarse),
        RUN_TEST(test_gptq_dead),    RUN_TEST(test_divisor),
        RUN_TEST(test_boa),          RUN_TEST(test_falls),
        RUN_TEST(test_counts),       RUN_TEST(test_hessian_dead),
        RUN_TEST(test_changed_some), RUN_TEST(test_gptq_damping),
        RUN_TEST(test_gptq_apart),   RUN_TEST(test_falls_over_three)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
