/* A checkpoint that was quantized before: its rows, run.json, tables, pictures and Pareto front say
 * so, and settings that can hold its grid are not ranked. The demo model under another attribute
 * stands for one: its weights lie on no grid, so that 3 and 4 bits are better than 2 and would be
 * on the front. */
#include "machine.h"
#include "analysis/board.h"
#include "analysis/report.h"
#include "analysis/tables.h"
#include "datasets/h5.h"
#include "sweep/sweep.h"

struct run {
    char dir[TEST_PATH], run_dir[TEST_PATH], h5[TEST_PATH];
    struct ptq_arena arena;
    struct ptq_status st;
};

static char *slurp(const char *path)
{
    char *text = NULL;
    size_t n;
    struct ptq_status st = {0};
    assert_ok(ptq_read_file(path, 64u << 20, &text, &n, &st), &st);
    return text;
}

static void copy_demo(struct run *r, int64_t grid_bits)
{
    char *demo = NULL;
    size_t n;
    struct ptq_h5 *h5;
    assert_ok(ptq_read_file("datasets/demo.h5", 64u << 20, &demo, &n, &r->st), &r->st);
    assert_ok(ptq_write_file(r->h5, demo, n, &r->st), &r->st);
    free(demo);
    if (!grid_bits)
        return;
    assert_ok(ptq_h5_open(&h5, r->h5, PTQ_H5_APPEND, &r->st), &r->st);
    assert_ok(ptq_h5_set_text(h5, "/model", "quantized_as", "Q3_X: 3 bits, groups of 32", &r->st),
              &r->st);
    assert_ok(ptq_h5_set_i64(h5, "/model", "grid_bits", grid_bits, &r->st), &r->st);
    assert_ok(ptq_h5_set_i64(h5, "/model", "grid_group", 32, &r->st), &r->st);
    assert_ok(ptq_h5_close(h5, &r->st), &r->st);
}

/* rtn at 2, 3 and 4 bits of one layer, reported. */
static void sweep(struct run *r, int64_t grid_bits)
{
    char ini[TEST_PATH], text[2 * TEST_PATH + 400];
    struct ptq_config config;
    struct ptq_sweep_summary summary;
    memset(r, 0, sizeof *r);
    ptq_arena_init(&r->arena, 0);
    test_tmpdir(r->dir);
    test_path(r->dir, "model.h5", r->h5);
    test_path(r->dir, "mark.ini", ini);
    copy_demo(r, grid_bits);
    snprintf(text, sizeof text,
             "[model]\nsource = %s\n[calib]\ntext = synth:facts\nnsamples = 2\n[sweep]\nmethods = "
             "rtn\nbits = 2-4\nlayers = blk.*.ffn_*\n[eval]\ntext = synth:facts:5555\nwindows = 4\n"
             "[run]\nout = %s\n",
             r->h5, r->dir);
    assert_ok(ptq_write_file(ini, text, strlen(text), &r->st), &r->st);
    assert_ok(ptq_config_read(ini, &(struct ptq_config_override){NULL, NULL, false}, &r->arena,
                              &config, &r->st),
              &r->st);
    struct ptq_sweep_args args = {
        .config = &config, .machine = &machine, .pool = pool, .quiet = true, .n_shards = 1};
    assert_ok(ptq_sweep_run(&args, &summary, &r->st), &r->st);
    assert_int_equal(summary.n_ok, summary.n_cells);
    snprintf(r->run_dir, sizeof r->run_dir, "%s", summary.run_dir);
    assert_ok(ptq_report_write(&(struct ptq_report_args){r->run_dir, true, true}, &r->st), &r->st);
}

static void done(struct run *r)
{
    ptq_arena_clear(&r->arena);
    test_rmdir(r->dir);
}

static bool holds(const struct run *r, const char *file, const char *part)
{
    char path[TEST_PATH];
    test_path(r->run_dir, file, path);
    char *text = slurp(path);
    bool found = strstr(text, part) != NULL;
    free(text);
    return found;
}

static void open_view(struct run *r, struct ptq_view *v)
{
    assert_ok(ptq_view_open(v, r->run_dir, &r->arena, &r->st), &r->st);
    assert_int_equal(v->n_boards, 1);
    assert_int_equal(v->boards[0].n_combos, 3);
}

/* Without the attribute more bits are better: all three are on the front, nothing is marked. */
static void plain(void **state)
{
    (void)state;
    struct run r;
    struct ptq_view v;
    sweep(&r, 0);
    open_view(&r, &v);
    for (int i = 0; i < 3; i++)
        assert_true(v.boards[0].combos[i].front && !v.boards[0].combos[i].unranked);
    assert_null(v.boards[0].unranked_note);
    assert_false(holds(&r, "cells.jsonl", "weights_on_grid"));
    assert_false(holds(&r, "report.html", "not ranked"));
    ptq_view_close(&v);
    done(&r);
}

static void on_a_grid(void **state)
{
    (void)state;
    struct run r;
    struct ptq_view v;
    sweep(&r, 3);
    open_view(&r, &v);
    const struct ptq_board *d = &v.boards[0];
    for (int i = 0; i < 3; i++) {
        bool below = d->points[d->combos[i].first].bits < 3;
        assert_int_equal(d->combos[i].front, below);
        assert_int_equal(d->combos[i].unranked, !below);
    }
    assert_int_equal(d->n_unranked, 2);
    for (int64_t i = 0; i < v.rows.n; i++) { /* reference, models and layers */
        assert_string_equal(ptq_row_text(v.rows.at[i], "weights_on_grid"),
                            "Q3_X: 3 bits, groups of 32");
        assert_true(ptq_row_num(v.rows.at[i], "weights_grid_bits") == 3);
    }
    ptq_view_close(&v);
    static const char note[] = "3 bits and above are not ranked: the checkpoint's weights lie on a "
                               "grid of 3 bits already (Q3_X: 3 bits, groups of 32)";
    assert_true(holds(&r, "run.json", "\"weights_on_grid\": \"Q3_X: 3 bits, groups of 32\""));
    assert_true(holds(&r, "report.md", "| 3\\* |") || holds(&r, "report.md", "3*"));
    assert_false(holds(&r, "report.md", "2*"));
    assert_true(holds(&r, "report.md", "not ranked: "));
    assert_true(holds(&r, "tables/main.csv", ",ranked"));
    assert_true(holds(&r, "tables/main.tex", note));
    assert_true(holds(&r, "plots/model.tsv", "\tunranked\t"));
    char path[TEST_PATH];
    test_path(r.run_dir, "plots/loss_bits.svg", path);
    if (access(path, R_OK) == 0)
        assert_true(holds(&r, "plots/loss_bits.svg", "not ranked"));
    else
        printf("SKIP the picture: no gnuplot\n");
    done(&r);
}

int main(int argc, char **argv)
{
    (void)argc;
    if (!machine_start(argv))
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(plain), cmocka_unit_test(on_a_grid)};
    return cmocka_run_group_tests(tests, NULL, machine_end);
}
