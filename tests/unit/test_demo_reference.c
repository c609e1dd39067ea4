/* Sweeps of the demo model against the independent evaluation of ../shared/demo-model (torch;
 * reference.json, `conventions`): RTN cells within 1e-4 bits/byte, GPTQ cells inside the spread of
 * that evaluation's calibration seeds. The whole path is run: configuration, statistics,
 * quantization, perplexity, rows. */
#include "machine.h"
#include "core/json.h"
#include "sweep/row.h"
#include "sweep/sweep.h"

struct run {
    struct ptq_arena arena;
    struct ptq_rows rows;
    char dir[TEST_PATH];
    struct ptq_status st;
};

static void run_init(struct run *r)
{
    memset(r, 0, sizeof *r);
    ptq_arena_init(&r->arena, 0);
    test_tmpdir(r->dir);
}

static void run_release(struct run *r)
{
    ptq_rows_release(&r->rows);
    ptq_arena_clear(&r->arena);
    test_rmdir(r->dir);
}

/* Conventions of reference.json: 256 windows of seed 5555, f32 scales, asymmetric, zero in range;
 * calibration: 64 windows. */
static void run_sweep(struct run *r, const char *calib_and_methods)
{
    char path[TEST_PATH], set[2 * TEST_PATH];
    struct ptq_config config;
    struct ptq_sweep_summary summary;
    test_path(r->dir, "reference.ini", path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "[model]\nsource = demo\n[calib]\ntext = synth:facts\nnsamples = 64\nseqlen = "
               "256\nseed = 4444\n"
               "[eval]\ntext = synth:facts:5555\nwindows = 256\nmetrics = "
               "bpb,dnll,fact_recall,copy_accuracy\n");
    assert_int_equal(fclose(f), 0);
    snprintf(set, sizeof set, "sweep.scale=f32 run.out=%s %s", r->dir, calib_and_methods);
    assert_ok(ptq_config_read(path, &(struct ptq_config_override){.set_words = set}, &r->arena,
                              &config, &r->st),
              &r->st);
    struct ptq_sweep_args args = {
        .config = &config, .machine = &machine, .pool = pool, .quiet = true, .n_shards = 1};
    assert_ok(ptq_sweep_run(&args, &summary, &r->st), &r->st);
    assert_int_equal(summary.n_failed + summary.n_left + summary.n_skipped, 0);
    assert_ok(ptq_rows_read_run(summary.run_dir, &r->rows, &r->st), &r->st);
}

static const json_t *find(const struct run *r, const char *kind, const char *label, int bits,
                          int group)
{
    for (int64_t i = 0; i < r->rows.n; i++) {
        const json_t *row = r->rows.at[i];
        if (!strcmp(ptq_row_text(row, "kind"), kind) &&
            (!label ||
             (!strcmp(ptq_row_text(row, "label"), label) && ptq_row_num(row, "bits") == bits &&
              ptq_row_num(row, "group_size") == group)))
            return row;
    }
    return NULL;
}

static json_t *reference(const char *path)
{
    json_error_t error;
    json_t *doc = json_load_file(path, JSON_ALLOW_NUL, &error);
    if (!doc) { /* the file writes NaN for the z of the full-precision row, which is not JSON */
        char *text, *nan_at;
        size_t bytes;
        struct ptq_status st = {0};
        assert_ok(ptq_read_file(path, 1 << 20, &text, &bytes, &st), &st);
        while ((nan_at = strstr(text, "NaN")))
            memcpy(nan_at, "0.0", 3);
        doc = json_loads(text, 0, &error);
        free(text);
    }
    assert_non_null(doc);
    return doc;
}

static void group_word(int group, char out[16])
{
    if (group > 0)
        snprintf(out, 16, "g%d", group);
    else
        snprintf(out, 16, "grow");
}

/* 28 quantized models over 256 windows: minutes under a sanitizer, which sees the same code in the
 * small sweeps of tests/cli. */
static bool too_slow(void)
{
#ifdef PTQ_SANITIZE
    printf("SKIP reference sweeps of the demo model: too slow in a sanitizer build\n");
    fflush(stdout);
    return true;
#else
    return false;
#endif
}

static void test_rtn_cells(void **state)
{
    (void)state;
    if (too_slow())
        skip();
    TEST_SHARED_OR_SKIP(path, "demo-model/reference.json");
    struct run r;
    run_init(&r);
    run_sweep(&r, "sweep.methods=rtn sweep.bits=2,3,4,8 sweep.group_size=-1,64,32");
    json_t *doc = reference(path);
    const json_t *cells = json_object_get(doc, "cells_256_windows_seed_5555");
    int n = 0;
    for (int b = 0; b < 4; b++)
        for (int g = 0; g < 3; g++) {
            int bits = (int[]){2, 3, 4, 8}[b], group = (int[]){-1, 64, 32}[g];
            char word[16], name[64];
            group_word(group, word);
            snprintf(name, sizeof name, "rtn_w%d_%s", bits, word);
            const json_t *cell = json_object_get(cells, name),
                         *row = find(&r, "model", "rtn", bits, group);
            assert_non_null(cell);
            assert_non_null(row);
            double want = json_number_value(json_object_get(cell, "bpb")),
                   got = ptq_row_metric(row, "bpb");
            if (!(fabs(got - want) <= 1e-4))
                fail_msg("%s: %.6f bits/byte, reference %.6f", name, got, want);
            assert_true(fabs(ptq_row_metric(row, "fact_recall") -
                             json_number_value(json_object_get(cell, "recall"))) < 2e-3);
            assert_true(fabs(ptq_row_metric(row, "copy_accuracy") -
                             json_number_value(json_object_get(cell, "copy"))) < 5e-3);
            n++;
        }
    assert_int_equal(n, 12);
    const json_t *fp = find(&r, "reference", NULL, 0, 0);
    assert_non_null(fp);
    assert_true(fabs(ptq_row_metric(fp, "bpb") - 0.316732) < 1e-6); /* reference.json, cell fp */
    json_decref(doc);
    run_release(&r);
}

/* Added bits/byte inside [min - r/2, max + r/2] of the values listed for the calibration seeds, r =
 * max - min. */
static int check_gptq(const struct run *r, const json_t *cells, const char *prefix,
                      const char *label)
{
    const char *name;
    const json_t *list;
    int n = 0;
    json_object_foreach((json_t *)cells, name, list)
    {
        int bits;
        char word[16];
        size_t skip_chars = strlen(prefix);
        if (strncmp(name, prefix, skip_chars) ||
            sscanf(name + skip_chars, "_w%d_g%15s", &bits, word) != 2)
            continue;
        int group = !strcmp(word, "row") ? -1 : atoi(word);
        const json_t *row = find(r, "model", label, bits, group),
                     *fp = find(r, "reference", NULL, 0, 0);
        double lo = INFINITY, hi = -INFINITY;
        for (size_t i = 0; i < json_array_size(list); i++) {
            lo = fmin(lo, json_number_value(json_array_get(list, i)));
            hi = fmax(hi, json_number_value(json_array_get(list, i)));
        }
        assert_non_null(row);
        double got = ptq_row_metric(row, "bpb") - ptq_row_metric(fp, "bpb"), r2 = (hi - lo) / 2;
        printf("%s: %.6f in [%.6f, %.6f]\n", name, got, lo - r2, hi + r2);
        if (!(got >= lo - r2 && got <= hi + r2))
            fail_msg("%s: %.6f is outside [%.6f, %.6f]", name, got, lo - r2, hi + r2);
        n++;
    }
    return n;
}

static void test_gptq_cells(void **state)
{
    (void)state;
    if (too_slow())
        skip();
    TEST_SHARED_OR_SKIP(path, "demo-model/reference.json");
    struct run r;
    run_init(&r);
    run_sweep(&r,
              "calib.stats=sequential calib.true_sequential=1 run.precision=double "
              "sweep.bits=2,3,4 sweep.group_size=-1,64,32 "
              "sweep.methods=gptq:act_order=1:static_groups=1,gptq:act_order=0:static_groups=1");
    json_t *doc = reference(path);
    const json_t *cells = json_object_get(
        json_object_get(doc, "gptq_added_bits_per_byte_by_calibration_seed"), "cells");
    int n = check_gptq(&r, cells, "gptq_act_static", "gptq:act_order=1:static_groups=1");
    n += check_gptq(&r, cells, "gptq_static", "gptq:act_order=0:static_groups=1");
    assert_int_equal(n, (int)json_object_size(cells));
    json_decref(doc);
    run_release(&r);
}

int main(int argc, char **argv)
{
    (void)argc;
    if (!machine_start(argv))
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rtn_cells),
                                       cmocka_unit_test(test_gptq_cells)};
    return cmocka_run_group_tests(tests, NULL, machine_end);
}
