/* The sweep's configuration: what each key means, and what a wrong one is told. Line numbers are
 * counted by hand. */
#include "testlib.h"
#include "core/json.h"
#include "sweep/job.h"
#include <glob.h>

static struct ptq_arena arena;
static struct ptq_status st;
static struct ptq_config c;
static char folder[TEST_PATH], path[TEST_PATH];

static int setup(void **state)
{
    (void)state;
    ptq_arena_init(&arena, 0);
    test_tmpdir(folder);
    test_path(folder, "night.ini", path);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ptq_arena_clear(&arena);
    test_rmdir(folder);
    return 0;
}

static int read_with(const char *text, const char *set, const char *model)
{
    ptq_status_clear(&st);
    struct ptq_status io = {0};
    assert_ok(ptq_write_file(path, text, strlen(text), &io), &io);
    const struct ptq_config_override o = {set, model, false};
    return ptq_config_read(path, &o, &arena, &c, &st);
}

static int read_full(const char *text, const char *set)
{
    ptq_status_clear(&st);
    struct ptq_status io = {0};
    assert_ok(ptq_write_file(path, text, strlen(text), &io), &io);
    const struct ptq_config_override o = {set, NULL, true};
    return ptq_config_read(path, &o, &arena, &c, &st);
}

static void expect_error(const char *text, const char *place, const char *reason)
{
    char wanted[TEST_PATH + 64];
    snprintf(wanted, sizeof wanted, "%s%s", path, place);
    assert_int_equal(read_with(text, NULL, NULL), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, wanted);
    assert_status(&st, PTQ_ERR_USAGE, reason);
}

static const char minimal[] = "[model]\nsource = demo\n[sweep]\nmethods = rtn\n";

static void defaults(void **state)
{
    (void)state;
    assert_ok(read_with(minimal, NULL, NULL), &st);
    assert_string_equal(c.run.name, "night");
    assert_string_equal(c.run.out, "results");
    assert_string_equal(c.sweep.layers, "*");
    assert_int_equal(c.sweep.n_bits, 4);
    assert_int_equal(c.sweep.bits[3], 8);
    assert_int_equal(c.sweep.n_groups, 1);
    assert_int_equal(c.sweep.groups[0], PTQ_GROUP_ROW);
    assert_int_equal(c.sweep.scale[0], PTQ_FMT_F16);
    assert_int_equal(c.sweep.sym[0], 0);
    assert_true(c.sweep.zero_in_range && c.run.keep_forms && c.calib.true_sequential);
    assert_int_equal(c.calib.n_seeds, 1);
    assert_int_equal(c.calib.sink_tokens, 1);
    assert_int_equal(c.calib.stats, PTQ_STATS_FP);
    assert_int_equal(c.run.precision, PTQ_SINGLE);
    assert_null(c.eval.text);
    assert_null(c.calib.heldout);
    assert_null(c.calib.draw); /* the model decides */
    assert_null(c.eval.protocol);
    assert_int_equal(c.model.format, PTQ_FORMAT_AUTO);
    assert_false(c.full);
}

static void every_key(void **state)
{
    (void)state;
    assert_ok(
        read_with(
            "[model]\nsource = m.h5\nformat = h5\nname = Ada\nblocks = 2\noutliers = yes\n"
            "tokenizer = t.json\nstand_in = synth:tiny\n"
            "[fetch]\npackage = p\nversion = 1\nwheel_sha256 = a\npath = p/q\nsha256 = b\nfile = "
            "q\n"
            "[calib]\ntext = a.txt\ndraw = first\nnsamples = 7\nseqlen = 9\nseed = 3\nstats = "
            "sequential\ntrue_sequential = 0\n"
            "sink_tokens = 4\nheldout = b.txt\nheldout_seed = 5\n"
            "[sweep]\nmethods = rtn, gptq:percdamp=0.01|0.1:act_order=0|1\nwbits = "
            "2-4,8\ngroupsize = -1,128,0\nsym = 0,1\n"
            "sym_kind = absmax\ngrid = hess,minmax\nscale = f32,bf16\nzero_in_range = "
            "0\nlayers = blk.*\na_bits = 16,8,4\n"
            "calib.seed = 0-2\n"
            "[eval]\ntext = c.txt\nprotocols = bytes\nwindows = 11\nwindow = 13\nmetrics = ppl, "
            "w_mse\n"
            "[run]\nthreads = 3\nmemory = 2G\nseed = 17\nportable = 1\nbudget = "
            "10m\nprecision = double\nkeep_forms = 0\n"
            "out = there\nname = here\n",
            NULL, NULL),
        &st);
    assert_string_equal(c.model.source, "m.h5");
    assert_string_equal(c.model.name, "Ada");
    assert_int_equal(c.model.blocks, 2);
    assert_true(c.model.outliers);
    assert_int_equal(c.model.format, PTQ_FORMAT_H5);
    assert_string_equal(c.model.tokenizer, "t.json");
    assert_string_equal(c.model.stand_in, "synth:tiny");
    assert_string_equal(c.fetch.package, "p");
    assert_string_equal(c.fetch.version, "1");
    assert_string_equal(c.fetch.wheel_sha256, "a");
    assert_string_equal(c.fetch.path, "p/q");
    assert_string_equal(c.fetch.sha256, "b");
    assert_string_equal(c.fetch.file, "q");
    assert_false(c.fetched); /* a source is given */
    assert_string_equal(c.calib.draw, "first");
    assert_string_equal(c.eval.protocol, "bytes");
    assert_string_equal(c.calib.text, "a.txt");
    assert_int_equal(c.calib.nsamples, 7);
    assert_int_equal(c.calib.seqlen, 9);
    assert_int_equal(c.calib.stats, PTQ_STATS_SEQUENTIAL);
    assert_false(c.calib.true_sequential);
    assert_int_equal(c.calib.sink_tokens, 4);
    assert_string_equal(c.calib.heldout, "b.txt");
    assert_int_equal(c.calib.heldout_seed, 5);
    assert_int_equal(c.calib.n_seeds, 3); /* calib.seed of [sweep] wins over seed of [calib] */
    assert_int_equal(c.calib.seeds[2], 2);
    assert_int_equal(c.sweep.n_specs, 5);
    assert_string_equal(c.sweep.specs[0].label, "rtn");
    assert_string_equal(c.sweep.specs[4].label, "gptq:percdamp=0.1:act_order=1");
    assert_int_equal(c.sweep.n_bits, 4);
    assert_int_equal(c.sweep.n_a_bits, 3);
    assert_true(c.sweep.a_bits[0] == 0 && c.sweep.a_bits[1] == 8 && c.sweep.a_bits[2] == 4);
    assert_int_equal(c.sweep.n_groups, 3);
    assert_int_equal(c.sweep.groups[2], PTQ_GROUP_TENSOR);
    assert_int_equal(c.sweep.n_sym, 2);
    assert_int_equal(c.sweep.sym_kind, PTQ_SYM_ABSMAX);
    assert_int_equal(c.sweep.grid[0], PTQ_GRID_HESS);
    assert_int_equal(c.sweep.grid[1], PTQ_GRID_MINMAX);
    assert_int_equal(c.sweep.scale[0], PTQ_FMT_F32);
    assert_int_equal(c.sweep.scale[1], PTQ_FMT_BF16);
    assert_false(c.sweep.zero_in_range);
    assert_string_equal(c.sweep.layers, "blk.*");
    assert_string_equal(c.eval.text, "c.txt");
    assert_int_equal(c.eval.windows, 11);
    assert_int_equal(c.eval.window, 13);
    assert_int_equal(c.eval.n_metrics, 2);
    assert_string_equal(c.eval.metrics[1], "w_mse");
    assert_int_equal(c.run.threads, 3);
    assert_int_equal(c.run.memory_bytes, INT64_C(2) << 30);
    assert_int_equal(c.run.seed, 17);
    assert_true(c.run.portable);
    assert_true(c.run.budget_s == 600);
    assert_int_equal(c.run.precision, PTQ_DOUBLE_PRECISION);
    assert_false(c.run.keep_forms);
    assert_string_equal(c.run.out, "there");
    assert_string_equal(c.run.name, "here");
}

static void command_line_wins(void **state)
{
    (void)state;
    assert_ok(read_with(minimal, "sweep.bits=5 run.name=x eval.windows=4", "other.h5"), &st);
    assert_string_equal(c.model.source, "other.h5");
    assert_non_null(strstr(c.text, "model.source = other.h5\n")); /* what was run, not the file */
    assert_int_equal(c.sweep.n_bits, 1);
    assert_int_equal(c.sweep.bits[0], 5);
    assert_int_equal(c.eval.windows, 4);
    assert_non_null(strstr(c.text, "sweep.bits = 5\n"));
    /* an alias on either side names the same key */
    assert_ok(read_with("[model]\nsource = demo\n[sweep]\nmethods = rtn\nwbits = 3\n",
                        "sweep.bits=6", NULL),
              &st);
    assert_int_equal(c.sweep.bits[0], 6);
    assert_ok(read_with("[model]\nsource = demo\n[sweep]\nmethods = rtn\nbits = 3\n",
                        "sweep.wbits=7", NULL),
              &st);
    assert_int_equal(c.sweep.bits[0], 7);
    /* a method list is replaced, not added to */
    assert_ok(read_with(minimal, "sweep.methods=gptq,rtn", NULL), &st);
    assert_int_equal(c.sweep.n_specs, 2);
    assert_string_equal(c.sweep.specs[0].label, "gptq");
    /* none takes a text away */
    assert_ok(read_with("[model]\nsource = demo\n[sweep]\nmethods = rtn\n[calib]\nheldout = a\n",
                        "calib.heldout=none", NULL),
              &st);
    assert_null(c.calib.heldout);
    assert_int_equal(read_with(minimal, "sweep.bit=5", NULL), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE,
                  "command line: unknown key in [sweep]: 'bit'; did you mean 'bits'?");
}

#define FULL                                                                                       \
    "[full]\ncalib.stats = sequential\nsweep.wbits = 2\neval.windows = 0\nsweep.calib.seed = "     \
    "1,2\n"

/* Lines of [full] count when they are asked for, win over the file's and give way to SET. */
static void full(void **state)
{
    (void)state;
    static const char text[] = "[model]\nsource = demo\n[sweep]\nmethods = rtn\nbits = 5\n" FULL
                               "[calib]\nstats = fp\nseed = 9\n[eval]\nwindows = 3\n";
    assert_ok(read_with(text, NULL, NULL), &st);
    assert_int_equal(c.calib.stats, PTQ_STATS_FP);
    assert_int_equal(c.sweep.bits[0], 5);
    assert_int_equal(c.eval.windows, 3);
    assert_int_equal(c.calib.n_seeds, 1);
    assert_false(c.full);
    assert_ok(read_full(text, NULL), &st);
    assert_true(c.full);
    assert_int_equal(c.calib.stats, PTQ_STATS_SEQUENTIAL);
    assert_int_equal(c.sweep.n_bits, 1);
    assert_int_equal(c.sweep.bits[0], 2);
    assert_int_equal(c.eval.windows, 0);
    assert_int_equal(c.calib.n_seeds, 2);
    assert_non_null(strstr(c.text, "sweep.bits = 2\n"));
    assert_ok(read_full(text, "sweep.bits=7 eval.windows=8"), &st);
    assert_int_equal(c.sweep.n_bits, 1);
    assert_int_equal(c.sweep.bits[0], 7);
    assert_int_equal(c.eval.windows, 8);
    assert_int_equal(c.calib.stats, PTQ_STATS_SEQUENTIAL);
}

/* Random models are cut to [model] blocks; of others so many are quantized. */
static void synthetic_blocks(void **state)
{
    (void)state;
    static const struct {
        const char *source, *want;
        int64_t blocks;
    } cases[] = {{"synth:llama-7b", "synth:llama-7b:2", 0},
                 {"synth:llama-7b:4", "synth:llama-7b:4", 2},
                 {"other.h5", "other.h5", 2}};
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        assert_ok(read_with(minimal, "model.blocks=2", cases[i].source), &st);
        assert_string_equal(c.model.source, cases[i].want);
        assert_int_equal(c.model.blocks, cases[i].blocks);
        assert_string_equal(c.run.name, i < 2 ? "night-synth" : "night");
    }
}

/* A fetched model is the source where none is named. */
static void fetched(void **state)
{
    (void)state;
    static const char text[] =
        "[fetch]\nfile = m.gguf\npackage = p\nversion = 1\n[sweep]\nmethods = rtn\n";
    setenv("PTQ_CACHE", "there", 1);
    assert_ok(read_with(text, NULL, NULL), &st);
    assert_string_equal(c.model.source, "there/m.gguf");
    assert_true(c.fetched);
    assert_ok(read_with(text, NULL, "mine"), &st);
    assert_string_equal(c.model.source, "mine");
    assert_false(c.fetched);
    unsetenv("PTQ_CACHE");
    assert_ok(read_with(text, NULL, NULL), &st);
    assert_string_equal(c.model.source, "datasets/cache/m.gguf");
}

/* Without heldout_seed the held-out text is another draw than every calibration text. */
static void heldout_seeds(void **state)
{
    (void)state;
    static const struct {
        const char *lines;
        int64_t want;
    } cases[] = {
        {"text = a\nheldout = a", 1}, /* the default seed is 0 */
        {"text = a\nheldout = a\nseed = 4444", 0},
        {"text = a\nheldout = a\n[sweep]\ncalib.seed = 0-3,5", 4},
        {"text = synth:facts:0\nheldout = synth:facts\nseed = 3", 1},
        {"text = synth:facts:7\nheldout = synth:facts", 0},
        {"text = a\nheldout = a\nseed = 4\nheldout_seed = 4", 4}}; /* refused by the sweep */
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        char text[400];
        snprintf(text, sizeof text, "[model]\nsource = demo\n[sweep]\nmethods = rtn\n[calib]\n%s\n",
                 cases[i].lines);
        assert_ok(read_with(text, NULL, NULL), &st);
        assert_int_equal(c.calib.heldout_seed, cases[i].want);
    }
    int64_t seed = -1;
    assert_true(ptq_fixed_seed("synth:facts:5555", &seed) && seed == 5555);
    assert_false(ptq_fixed_seed("synth:facts", &seed));
    assert_false(ptq_fixed_seed("a.txt", &seed));
    assert_false(ptq_fixed_seed("synth:facts:x", &seed));
}

#define WITH(line) "[model]\nsource = demo\n[sweep]\nmethods = rtn\n" line "\n"

static void errors(void **state)
{
    (void)state;
    expect_error(WITH("bitss = 3"), ":5: unknown key in [sweep]: 'bitss'", "did you mean 'bits'?");
    expect_error("[modle]\nsource = demo\n", ":2: unknown section 'modle'",
                 "did you mean 'model'?");
    expect_error(WITH("bits = 0"), ":5: [sweep] bits", "0 is outside 1 .. 8");
    expect_error(WITH("bits ="), ":5: [sweep] bits", "empty list");
    expect_error(WITH("bits = 3,x"), ":5: [sweep] bits", "'x'");
    expect_error(WITH("bits = 3\nwbits = 4"), ":6: [sweep] wbits", "the same as bits in line 5");
    expect_error(WITH("group_size = -2"), ":5: [sweep] group_size", "-2 is outside");
    expect_error(WITH("grid = minmax,mean"), ":5: [sweep] grid", "'mean'");
    expect_error(WITH("grid = mse,mse"), ":5: [sweep] grid", "'mse' is listed twice");
    expect_error(WITH("scale = f8"), ":5: [sweep] scale", "f16, bf16, f32");
    expect_error(WITH("a_bits = 12"), ":5: [sweep] a_bits", "2 to 8 bits");
    expect_error(WITH("a_bits = 1"), ":5: [sweep] a_bits", "1 is outside 2 .. 16");
    expect_error(WITH("[eval]\nmetrics = ppll"), ":6: [eval] metrics", "did you mean 'ppl'?");
    expect_error(WITH("[calib]\nstats = fpp"), ":6: [calib] stats", "did you mean 'fp'?");
    expect_error(WITH("[calib]\nnsamples = 0"), ":6: [calib] nsamples", "0 is outside");
    expect_error(WITH("[model]\nformat = hff"), ":6: [model] format", "did you mean 'hf'?");
    expect_error(WITH("[eval]\nprotocol = bytes, gptq-2048"), ": [eval] protocol",
                 "one protocol a sweep");
    expect_error(WITH("[full]\nstats = fp"), ":6: [full] stats", "section.key = value");
    expect_error(WITH("[full]\ncalib.stat = fp"), ":6: unknown key in [calib]: 'stat'",
                 "did you mean 'stats'?");
    expect_error(WITH("[full]\ncalb.stats = fp"), ":6: unknown section 'calb'",
                 "did you mean 'calib'?");
    expect_error(WITH("[full]\nfull.a = b"), ":6: unknown key in [full]", "'a'");
    expect_error(WITH("[run]\nbudget = soon"), ":6: [run] budget", "'soon'");
    expect_error(WITH("[run]\nname = ../x"), ": [run] name", "no folder name");
    expect_error(WITH("[bench]\nops = gemv"), ":6: unknown key in [bench]: 'ops'",
                 "valid: speed, batch, ms");
    expect_error("[model]\nsource = demo\n[sweep]\nmethods = rtn, gpqt\n", ":4: [sweep] methods",
                 "did you mean 'gptq'?");
    expect_error("[model]\nsource = demo\n[sweep]\nmethods = gptq:percdam=1\n",
                 ":4: [sweep] methods", "did you mean 'percdamp'?");
    expect_error("[model]\nsource = demo\n[sweep]\nmethods = gptq, gptq\n", ":4: [sweep] methods",
                 "'gptq' is listed twice");
    expect_error("[model]\nsource = demo\n", ": [sweep] methods is missing", "rtn");
    expect_error("[sweep]\nmethods = rtn\n", ": [model] source is missing", "demo");
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double seconds;
    } cases[] = {{"90", 90}, {"90s", 90}, {"10m", 600}, {"2h", 7200}, {"0.5h", 1800}, {"1.5", 1.5}};
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        double s = -1;
        ptq_status_clear(&st);
        assert_ok(ptq_parse_duration(cases[i].text, "budget", &s, &st), &st);
        assert_true(s == cases[i].seconds);
    }
    static const char *const bad[] = {"", "s", "-1", "1d", "ten", "nan", "inf"};
    for (int64_t i = 0; i < LENGTH(bad); i++) {
        double s;
        ptq_status_clear(&st);
        assert_int_equal(ptq_parse_duration(bad[i], "budget", &s, &st), PTQ_ERR_USAGE);
    }
}

static void durations_in_words(void **state)
{
    (void)state;
    static const struct {
        double seconds;
        const char *want;
    } cases[] = {{0.01, "less than 0.1 seconds"}, {8.04, "about 8.0 seconds"},
                 {41, "about 41 seconds"},        {150, "about 2.5 minutes"},
                 {26280, "about 7.3 hours"},      {3.2 * 86400, "about 3.2 days"},
                 {30 * 86400, "about 30 days"}};
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        char text[64];
        ptq_duration_text(cases[i].seconds, text);
        assert_string_equal(text, cases[i].want);
    }
}

/* The files of configs/ are read by the program they come with, with and without [full]. */
static void our_own_files(void **state)
{
    (void)state;
    glob_t found;
    int n = 0;
    assert_int_equal(glob("configs/*.ini", 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        if (strstr(found.gl_pathv[i], "presets.ini") || strstr(found.gl_pathv[i], "texts.ini"))
            continue;
        for (int whole = 0; whole < 2; whole++) {
            ptq_status_clear(&st);
            assert_ok(ptq_config_read(found.gl_pathv[i],
                                      &(struct ptq_config_override){.full = whole}, &arena, &c,
                                      &st),
                      &st);
        }
        n++;
    }
    globfree(&found);
    assert_true(n >= 14);
    assert_ok(
        ptq_config_read("configs/demo.ini", &(struct ptq_config_override){0}, &arena, &c, &st),
        &st);
    /* what the page of the default sweep shows: rtn, gptq, gptq-paper at 2, 3, 4, 8 bits and groups
     * -1, 64, 32 */
    assert_int_equal(c.sweep.n_specs * c.sweep.n_bits * c.sweep.n_groups, 36);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(every_key, setup, teardown),
        cmocka_unit_test_setup_teardown(command_line_wins, setup, teardown),
        cmocka_unit_test_setup_teardown(full, setup, teardown),
        cmocka_unit_test_setup_teardown(synthetic_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(fetched, setup, teardown),
        cmocka_unit_test_setup_teardown(heldout_seeds, setup, teardown),
        cmocka_unit_test_setup_teardown(errors, setup, teardown),
        cmocka_unit_test_setup_teardown(durations, setup, teardown),
        cmocka_unit_test_setup_teardown(durations_in_words, setup, teardown),
        cmocka_unit_test_setup_teardown(our_own_files, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
