/* Papers' tables: every committed one is read; cells mean what they say; broken files are refused
 * by line; and a table runs end to end on a tiny OPT checkpoint whose full-precision perplexity
 * comes from transformers (tests/vectors/arch/opt.json). */
#include "analysis/papertable.h"
#include "hf_folder.h"
#include "machine.h"
#include "sweep/row.h"

struct fixture {
    char dir[TEST_PATH];
    struct ptq_arena arena;
    struct ptq_status st;
    struct ptq_paper_table t;
};

static void start(struct fixture *f)
{
    *f = (struct fixture){0};
    test_tmpdir(f->dir);
    ptq_arena_init(&f->arena, 0);
}

static void end(struct fixture *f)
{
    ptq_arena_clear(&f->arena);
    test_rmdir(f->dir);
}

static int read_text(struct fixture *f, const char *text)
{
    char path[TEST_PATH];
    test_path(f->dir, "t.ini", path);
    ptq_status_clear(&f->st);
    assert_ok(ptq_write_file(path, text, strlen(text), &f->st), &f->st);
    return ptq_paper_read(path, &f->arena, &f->t, &f->st);
}

#define HEAD    "[table]\ntitle = T\npaper = P\nversion = v1\n"
#define COLUMNS "[column.a]\ntitle = A\n[column.b]\ntitle = B\n"
#define DATA    "[data.d]\nmetric = w_relerr\n"
#define ROW     "[row.r]\nmethods = rtn\nsource = S\ntrust = text\ntolerance = 2\n"
#define BEFORE  HEAD COLUMNS DATA ROW

/* ---- cells */

static void test_cells(void **state)
{
    (void)state;
    struct fixture f;
    start(&f);
    assert_ok(read_text(&f, BEFORE "d = 1.3e3 5.61..5.69!@mem~0.5\n"), &f.st);
    assert_int_equal(f.t.n_cells, 2);
    const struct ptq_paper_cell *a = &f.t.cells[0], *b = &f.t.cells[1];
    assert_string_equal(a->printed, "1.3e3");
    assert_true(a->lo == 1300 && a->hi == 1300 && a->half_digit == 50 && a->tolerance == .02);
    assert_true(ptq_paper_is_gate(a) && a->mark == PTQ_PAPER_PLAIN);
    assert_string_equal(b->printed, "5.61..5.69");
    assert_true(b->lo == 5.61 && b->hi == 5.69 && b->mark == PTQ_PAPER_NOT_REPRODUCIBLE);
    assert_rel(b->tolerance, .005, 1e-15);
    assert_rel(b->half_digit, .005, 1e-15);
    assert_false(ptq_paper_is_gate(b));
    end(&f);
}

/* By hand: 27.65 at 0.3 % and half a digit: 27.65 * 0.997 - 0.005 = 27.56205 and 27.73795. */
static void test_agreement(void **state)
{
    (void)state;
    const struct ptq_paper_cell c = {
        .lo = 27.65, .hi = 27.65, .half_digit = .005, .tolerance = .003};
    assert_true(ptq_paper_agrees(&c, 27.5621) && ptq_paper_agrees(&c, 27.7379));
    assert_false(ptq_paper_agrees(&c, 27.5620) || ptq_paper_agrees(&c, 27.7380));
    assert_false(ptq_paper_agrees(&c, NAN));
    const struct ptq_paper_cell range = {.lo = 10, .hi = 20};
    assert_true(ptq_paper_difference(&range, 15) == 0);
    assert_rel(ptq_paper_difference(&range, 9), -.1, 1e-12);
    assert_rel(ptq_paper_difference(&range, 22), .1, 1e-12);
}

static void refused(const char *text, const char *part)
{
    struct fixture f;
    start(&f);
    read_text(&f, text);
    assert_status(&f.st, PTQ_ERR_USAGE, part);
    end(&f);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const words[] = {"nan",   "-3",    "0x10", "1e99",   "5..", "6..5",
                                        "1.5.2", "1e3@x", "1~",   "1~2000", "inf", "0"};
    for (int64_t i = 0; i < LENGTH(words); i++) {
        char text[1024];
        snprintf(text, sizeof text, BEFORE "d = %s -\n", words[i]);
        refused(text, "t.ini:16: ");
    }
    refused(HEAD "[column...]\ntitle = up\n" DATA ROW "d = 1\n", "begins with a letter");
    refused(BEFORE "d = 1 2 3\n", "more values than columns");
    refused(BEFORE "d = 1\n", "fewer values than columns");
    refused(BEFORE "e = 1 2\n", "unknown key");
    refused(BEFORE "d = - -\n", "no printed cell");
    refused(HEAD COLUMNS DATA "[row.r]\nsource = S\ntrust = sure\ntolerance = 2\nd = 1 2\n",
            "valid: code");
    refused(HEAD COLUMNS DATA "[row.r]\ntrust = text\ntolerance = 2\nd = 1 2\n", "no source");
    refused(HEAD COLUMNS DATA "[row.r]\nsource = S\ntrust = text\nd = 1 2\n", "no tolerance");
    refused(HEAD COLUMNS DATA
            "[row.r]\nsource = S\ntrust = text\ntolerance = 2\nof = r\nover = q\n",
            "of and over name two rows");
    refused(HEAD "[column.a]\nfolders = ../x\n" DATA ROW "d = 1\n", "below MODEL_DIR");
    refused(BEFORE "run.out = /\nd = 1 2\n", "is set by `ptq table` itself");
    refused(COLUMNS DATA ROW "d = 1 2\n", "[table] wants title");
    refused(BEFORE "d = 1 2\n[tabel]\ntitle = T\n", "did you mean 'table'");
}

/* ---- the committed tables */

static void test_committed(void **state)
{
    (void)state;
    struct fixture f;
    const char **names;
    int64_t n, cells = 0;
    start(&f);
    assert_ok(ptq_paper_names(&f.arena, &names, &n, &f.st), &f.st);
    assert_true(n >= 14);
    for (int64_t i = 0; i < n; i++) {
        assert_ok(ptq_paper_read(names[i], &f.arena, &f.t, &f.st), &f.st);
        cells += f.t.n_cells;
    }
    assert_true(cells >= 1000);
    /* arXiv 2210.17323, Table 3, as reprinted in 2402.08958, Table 9 */
    assert_ok(ptq_paper_read("gptq-opt", &f.arena, &f.t, &f.st), &f.st);
    const struct ptq_paper_cell *c = ptq_paper_cell_at(&f.t, 0, 0, 0);
    assert_string_equal(c->printed, "27.65");
    assert_true(f.t.rows[0].fp);
    ptq_paper_read("gptq-optt", &f.arena, &f.t, &f.st);
    assert_status(&f.st, PTQ_ERR_USAGE, "did you mean 'gptq-opt'");
    end(&f);
}

/* ---- end to end */

static void write_ids(const struct hf_checkpoint *c, const char *path)
{
    const json_t *ids = json_object_get(c->vector, "ids");
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    for (size_t i = 0; i < json_array_size(ids); i++)
        fprintf(out, "%d ", (int)json_integer_value(json_array_get(ids, i)));
    fputc('\n', out);
    assert_int_equal(fclose(out), 0);
}

struct tiny { /* MODEL_DIR with a tiny OPT under two names, and ids */
    struct fixture f;
    char models[TEST_PATH], ids[TEST_PATH], out[TEST_PATH];
    double ppl; /* transformers' */
};

static void make_tiny(struct tiny *t)
{
    struct hf_checkpoint c;
    char dir[TEST_PATH];
    start(&t->f);
    test_path(t->f.dir, "models", t->models);
    test_path(t->f.dir, "text.ids", t->ids);
    test_path(t->f.dir, "results", t->out);
    hf_load(&c, "opt");
    t->ppl = exp(json_real_value(json_object_get(c.vector, "nll")));
    write_ids(&c, t->ids);
    static const char *const names[] = {"opt-125m", "facebook/opt-350m"};
    for (int i = 0; i < 2; i++) {
        test_path(t->models, names[i], dir);
        assert_ok(ptq_make_dirs(dir, &t->f.st), &t->f.st);
        hf_write(&c, dir, "");
    }
    hf_release(&c);
}

static struct ptq_paper_run args_of(const struct tiny *t)
{
    return (struct ptq_paper_run){
        .model_dir = t->models, .out = t->out, .machine = &machine, .pool = pool, .quiet = true};
}

static const struct ptq_paper_cell *cell(const struct ptq_paper_table *t, const char *row,
                                         const char *column)
{
    for (int64_t i = 0; i < t->n_cells; i++)
        if (!strcmp(t->rows[t->cells[i].row].id, row) &&
            !strcmp(t->columns[t->cells[i].column].id, column))
            return &t->cells[i];
    fail_msg("no cell %s %s", row, column);
    return NULL;
}

static void assert_verdict(const struct ptq_paper_table *t, const char *row, const char *column,
                           enum ptq_paper_verdict want)
{
    const struct ptq_paper_cell *c = cell(t, row, column);
    if (c->verdict != want)
        fail_msg("%s, %s: %s (ours %g; %s), not %s", row, column,
                 ptq_paper_verdict_words[c->verdict], c->ours, c->why,
                 ptq_paper_verdict_words[want]);
}

/* Columns: the checkpoint as the paper has it, as it has another, and one that is not here. 8 bits
 * move this model's perplexity by far less than 5 %, so its row is known without running it. */
static char *tiny_table(struct tiny *t)
{
    return ptq_arena_printf(
        &t->f.arena, &t->f.st,
        HEAD
        "[settings]\ncalib.text = synth:zipf\ncalib.draw = windows\ncalib.nsamples = 1\n"
        "calib.seqlen = 48\ncalib.seed = 0,1\ncalib.stats = sequential\n"
        "sweep.group_size = -1\nsweep.scale = f32\n"
        "[column.same]\nfolders = opt-125m\n[column.other]\nfolders = opt-350m, "
        "facebook/opt-350m\n[column.absent]\nfolders = opt-1.3b\n"
        "[data.d]\nmetric = ppl\neval.text = ids:%s\neval.window = 48\n[data.none]\ntitle = N\n"
        "[row.fp]\nmethods = fp\nsource = S\ntrust = text\ntolerance = 0.1\nd = %.3f 10 10\n"
        "[row.good]\nmethods = rtn\nsweep.bits = 8\ndata_free = 1\nsource = S\ntrust = text\n"
        "tolerance = 5\nd = %.3f 10 10\nnone = 1 1 1\n"
        "[row.bad]\nmethods = gptq-paper\nsweep.bits = 8\nsource = S\ntrust = text\n"
        "tolerance = 5\nd = 10 10 10!\n"
        "[row.best]\nmethods = rtn, gptq:act_order=0|1\nsweep.bits = 2\nsource = S\n"
        "trust = text\ntolerance = 90\nd = 10? 10* -\n"
        "[row.one]\nmethods = rtn\nsweep.bits = 2\nsource = S\ntrust = text\n"
        "tolerance = 90\nd = 10 - -\n"
        "[row.two]\nmethods = gptq:act_order=0\nsweep.bits = 2\nsource = S\n"
        "trust = text\ntolerance = 90\nd = 10 - -\n"
        "[row.three]\nmethods = gptq:act_order=1\nsweep.bits = 2\nsource = S\n"
        "trust = text\ntolerance = 90\nd = 10 - -\n"
        "[row.nobody]\nsource = S\ntrust = text\ntolerance = 5\nd = 10 10 10\n"
        "[row.ratio]\nof = good\nover = fp\nsource = S\ntrust = text\ntolerance = 5\n"
        "d = 100%% - -\n",
        t->ids, t->ppl, t->ppl);
}

static int64_t n_rows_in(const struct tiny *t, const char *column)
{
    char dir[TEST_PATH + 64];
    struct ptq_rows rows = {0};
    struct ptq_status st = {0};
    snprintf(dir, sizeof dir, "%s/table-t/%s", t->out, column);
    assert_ok(ptq_rows_read_all(dir, &rows, &st), &st);
    int64_t n = rows.n;
    ptq_rows_release(&rows);
    return n;
}

static int64_t bytes_of_rows(const struct tiny *t)
{
    char path[TEST_PATH + 64];
    struct stat info;
    snprintf(path, sizeof path, "%s/table-t/same/cells.jsonl", t->out);
    assert_int_equal(stat(path, &info), 0);
    return info.st_size;
}

static void check_first_run(const struct ptq_paper_table *p, const struct tiny *t)
{
    assert_verdict(p, "fp", "same", PTQ_PAPER_REPRODUCED);
    assert_rel(cell(p, "fp", "same")->ours, t->ppl, 1e-4);
    assert_verdict(p, "good", "same", PTQ_PAPER_REPRODUCED);
    assert_verdict(p, "bad", "same", PTQ_PAPER_OFF);
    assert_int_equal(cell(p, "bad", "same")->n_seeds, 2);
    assert_false(isnan(cell(p, "bad", "same")->spread));
    assert_verdict(p, "best", "same", PTQ_PAPER_HAS_DETAIL_MISSING);
    const double one = cell(p, "one", "same")->ours, two = cell(p, "two", "same")->ours,
                 three = cell(p, "three", "same")->ours;
    assert_true(one != two && two != three);
    assert_true(cell(p, "best", "same")->ours == fmin(one, fmin(two, three)));
    assert_true(*cell(p, "best", "same")->label != 0);
    assert_verdict(p, "nobody", "same", PTQ_PAPER_NO_METHOD);
    assert_verdict(p, "ratio", "same", PTQ_PAPER_REPRODUCED);
    assert_rel(cell(p, "ratio", "same")->ours,
               100 * cell(p, "good", "same")->ours / cell(p, "fp", "same")->ours, 1e-12);
    /* another base: measured, said, and nothing else run */
    assert_verdict(p, "fp", "other", PTQ_PAPER_HAS_BASE_UNKNOWN);
    assert_rel(cell(p, "fp", "other")->ours, t->ppl, 1e-4);
    assert_verdict(p, "good", "other", PTQ_PAPER_HAS_BASE_UNKNOWN);
    assert_true(isnan(cell(p, "good", "other")->ours));
    assert_non_null(strstr(cell(p, "good", "other")->why, "the paper's 10"));
    assert_int_equal(n_rows_in(t, "other"), 1);
    assert_verdict(p, "best", "other", PTQ_PAPER_HAS_BASE_UNKNOWN);
    assert_verdict(p, "good", "absent", PTQ_PAPER_NO_MODEL);
    assert_verdict(p, "bad", "absent", PTQ_PAPER_IS_NOT_REPRODUCIBLE);
    assert_int_equal(ptq_paper_cell_at(p, 1, 1, 0)->verdict, PTQ_PAPER_NO_METRIC);
}

static void test_tiny(void **state)
{
    (void)state;
    struct tiny t;
    make_tiny(&t);
    struct ptq_paper_run run = args_of(&t);
    struct ptq_paper_table *p = &t.f.t;
    char *text = tiny_table(&t);
    assert_non_null(text);
    assert_ok(read_text(&t.f, text), &t.f.st);
    assert_ok(ptq_paper_run(&run, p, &t.f.arena, &t.f.st), &t.f.st);
    check_first_run(p, &t);
    const double good = cell(p, "good", "same")->ours;
    /* finished cells are not run again */
    const int64_t before = bytes_of_rows(&t);
    assert_ok(read_text(&t.f, text), &t.f.st);
    assert_ok(ptq_paper_run(&run, p, &t.f.arena, &t.f.st), &t.f.st);
    check_first_run(p, &t);
    assert_int_equal(bytes_of_rows(&t), before);
    /* any base: the same checkpoint, so the same number; the verdict stays */
    run.any_base = true;
    assert_ok(read_text(&t.f, text), &t.f.st);
    assert_ok(ptq_paper_run(&run, p, &t.f.arena, &t.f.st), &t.f.st);
    assert_verdict(p, "good", "other", PTQ_PAPER_HAS_BASE_UNKNOWN);
    assert_true(cell(p, "good", "other")->ours == good);
    end(&t.f);
}

/* The committed table of GPTQ on the same folder: its rows run, on a base that is not the paper's;
 * and with what --set changes no verdict is about the paper. */
static void test_gptq_opt(void **state)
{
    (void)state;
    struct tiny t;
    make_tiny(&t);
    struct ptq_paper_run run = args_of(&t);
    struct ptq_paper_table *p = &t.f.t;
    run.any_base = true;
    run.set_words = ptq_arena_printf(&t.f.arena, &t.f.st,
                                     "eval.text=ids:%s eval.protocol=ids-48 calib.text=synth:zipf "
                                     "calib.draw=windows calib.nsamples=1 calib.seqlen=48",
                                     t.ids);
    assert_ok(ptq_paper_read("gptq-opt", &t.f.arena, p, &t.f.st), &t.f.st);
    assert_ok(ptq_paper_select(p, "?pt?-?", "opt-125m", "wikitext2", &t.f.arena, &t.f.st), &t.f.st);
    assert_ok(ptq_paper_run(&run, p, &t.f.arena, &t.f.st), &t.f.st);
    assert_verdict(p, "gptq-4", "opt-125m", PTQ_PAPER_HAS_BASE_UNKNOWN);
    assert_verdict(p, "gptq-3", "opt-125m", PTQ_PAPER_HAS_BASE_UNKNOWN);
    assert_int_equal(cell(p, "gptq-4", "opt-125m")->n_seeds, 3);
    assert_true(cell(p, "gptq-3", "opt-125m")->ours > 1);
    assert_verdict(p, "gptq-4", "opt-13b", PTQ_PAPER_NO_MODEL);
    end(&t.f);
}

int main(int argc, char **argv)
{
    (void)argc;
    if (!machine_start(argv))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cells),   cmocka_unit_test(test_agreement),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_committed),
        cmocka_unit_test(test_tiny),    cmocka_unit_test(test_gptq_opt),
    };
    return cmocka_run_group_tests(tests, NULL, machine_end);
}
