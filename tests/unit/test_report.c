/* The report from rows written here by hand. Expected cells are derived in the comments from the
 * rows' numbers. */
#include "testlib.h"
#include "analysis/board.h"
#include "analysis/plot.h"
#include "analysis/put.h"
#include "analysis/report.h"
#include "core/json.h"
#include "core/rng.h"
#include <sys/stat.h>

/* ---- rows -------------------------------------------------------------------------------------
 */

#define SETTING                                                                                    \
    "\"sym\":0,\"sym_kind\":\"full\",\"grid\":\"minmax\",\"zero_in_range\":1,\"scale\":\"f16\","   \
    "\"precision\":\"single\",\"stats\":\"fp\",\"seed\":0,\"nsamples\":4,\"seqlen\":8,"
#define TEXT                                                                                       \
    "\"protocol\":\"bytes-8\",\"rules\":\"windows of 8\",\"text\":\"facts:5\",\"text_key\":"       \
    "\"00112233445566778899aabbccddeeff\",\"n_windows\":4,"
#define HOST "\"host\":{\"threads\":2,\"cpu\":\"a CPU\",\"isa\":\"avx2\",\"blas_core\":\"Haswell\"}"

/* A value of which 9 digits are not enough. */
#define TAIL(v) ((v) + 1e-9 / 3)

struct run {
    char dir[TEST_PATH];
    char lines[64][2048];
    int n;
};

static void add_line(struct run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add_line(struct run *r, const char *fmt, ...)
{
    va_list ap;
    assert_true(r->n < 64);
    va_start(ap, fmt);
    assert_true(vsnprintf(r->lines[r->n], sizeof r->lines[0], fmt, ap) < (int)sizeof r->lines[0]);
    va_end(ap);
    r->n++;
}

static void add_reference(struct run *r)
{
    add_line(r, "{\"schema\":1,\"kind\":\"reference\",\"key\":\"ref\",\"status\":\"ok\",\"model\":"
                "\"toy\"," TEXT
                "\"metrics\":{\"ppl\":1.25,\"dnll\":null},\"absent\":{\"dnll\":\"full precision\"},"
                "\"time\":{}," HOST "}");
}

/* dnll with the symmetric interval +-half; ppl = 1.25 (1 + dnll), near enough for a table. */
static void add_model(struct run *r, const char *label, int bits, int group, int seed,
                      double stored, double dnll, double half)
{
    add_line(
        r,
        "{\"schema\":1,\"kind\":\"model\",\"key\":\"m%d\",\"status\":\"ok\",\"model\":\"toy\","
        "\"source\":\"toy.h5\",\"method\":\"m\",\"label\":\"%s\",\"base\":\"rtn\",\"bits\":%d,"
        "\"group_size\":%d," SETTING "\"calib\":\"facts:%d\",\"calib_seed\":%d," TEXT
        "\"metrics\":{\"ppl\":%.17g,\"dnll\":%.17g,\"bits_stored\":%.17g,\"top1_agree\":0.9375},"
        "\"absent\":{},\"intervals\":{\"dnll\":[%.17g,%.17g]},\"notes\":{},"
        "\"time\":{\"quantize_s\":9}," HOST "}",
        r->n, label, bits, group, seed, seed, 1.25 * (1 + dnll), dnll, stored, dnll - half,
        dnll + half);
}

static void add_layer(struct run *r, const char *label, int bits, int group, int seed,
                      const char *layer, int block, int rows, double stored, double relerr)
{
    add_line(r,
             "{\"schema\":1,\"kind\":\"layer\",\"key\":\"l%d\",\"status\":\"ok\",\"model\":\"toy\","
             "\"source\":\"toy.h5\",\"method\":\"m\",\"label\":\"%s\",\"base\":\"rtn\",\"bits\":%d,"
             "\"group_size\":%d," SETTING "\"calib\":\"facts:%d\",\"calib_seed\":%d,"
             "\"layer\":\"%s\",\"role\":\"attn_q\",\"block\":%d,\"rows\":%d,\"cols\":16,"
             "\"metrics\":{\"out_relerr\":%.17g,\"bits_stored\":%.17g},\"absent\":{},"
             "\"notes\":{\"damping\":0.01,\"n_dead\":2},"
             "\"time\":{\"prepare_s\":0.25,\"quantize_s\":0.5}," HOST "}",
             r->n, label, bits, group, seed, seed, layer, block, rows, relerr, stored);
}

static void add_bad_at(struct run *r, const char *status, const char *label, int bits,
                       const char *layer, const char *reason)
{
    add_line(r,
             "{\"schema\":1,\"kind\":\"layer\",\"key\":\"b%d\",\"status\":\"%s\",\"reason\":\"%s\","
             "\"model\":\"toy\",\"label\":\"%s\",\"bits\":%d,\"group_size\":-1," SETTING
             "\"calib\":\"facts:1\",\"calib_seed\":1,\"layer\":\"%s\",\"block\":0}",
             r->n, status, reason, label, bits, layer);
}

static void add_bad(struct run *r, const char *status, const char *label, const char *reason)
{
    add_bad_at(r, status, label, 2, "blk.0.q", reason);
}

static void write_rows(const struct run *r, bool backwards)
{
    char path[TEST_PATH];
    test_path(r->dir, "cells.jsonl", path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < r->n; i++)
        fprintf(f, "%s\n", r->lines[backwards ? r->n - 1 - i : i]);
    assert_int_equal(fclose(f), 0);
}

static void write_run_json(const struct run *r)
{
    char path[TEST_PATH];
    test_path(r->dir, "run.json", path);
    const char text[] =
        "{\"name\":\"toy\",\"commit\":\"c0ffee\",\"compiler\":\"a gcc\",\"command\":"
        "\"ptq sweep toy.ini\",\"machine\":{\"cpu\":\"a CPU\"},"
        "\"config\":\"[model]\\nsource = <toy>\\n\"}";
    struct ptq_status st = {0};
    assert_ok(ptq_write_file(path, text, strlen(text), &st), &st);
}

/* Two settings of one method and one of another, two layers each. */
static void toy_run(struct run *r)
{
    static const struct {
        const char *label;
        int bits, group;
        double stored, dnll, half, relerr;
    } cells[] = {
        {"rtn", 3, -1, 3.125, TAIL(0.04), 0.002, 1e-2},
        {"gptq", 3, -1, 3.125, 0.01, 0.001, 1e-3},
        {"gptq", 3, 32, 3.625, 0.004, 0.0005, 1e-4},
        {"gptq", 8, 32, 8.75, -0.00001, 0.00003, 1e-6},
    };
    r->n = 0;
    test_tmpdir(r->dir);
    add_reference(r);
    for (int i = 0; i < 4; i++) {
        add_model(r, cells[i].label, cells[i].bits, cells[i].group, 1, cells[i].stored,
                  cells[i].dnll, cells[i].half);
        add_layer(r, cells[i].label, cells[i].bits, cells[i].group, 1, "blk.0.q", 0, 16,
                  cells[i].stored, cells[i].relerr * 10);
        add_layer(r, cells[i].label, cells[i].bits, cells[i].group, 1, "blk.1.q", 1, 48,
                  cells[i].stored, cells[i].relerr / 10);
    }
    write_rows(r, false);
    write_run_json(r);
}

static char *print_report(const struct run *r, const char *format)
{
    struct ptq_status st = {0};
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    assert_ok(ptq_report_print(r->dir, format, f, &st), &st);
    assert_int_equal(fclose(f), 0);
    return text;
}

static char *read_text(const char *folder, const char *name)
{
    char path[TEST_PATH], *text;
    size_t n;
    struct ptq_status st = {0};
    test_path(folder, name, path);
    assert_ok(ptq_read_file(path, 64u << 20, &text, &n, &st), &st);
    return text;
}

static void assert_holds(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" is not in:\n%.4000s", part, text);
}

static void assert_lacks(const char *text, const char *part)
{
    const char *at = strstr(text, part);
    if (at)
        fail_msg("\"%s\" is in: ...%.200s", part, at);
}

/* ---- the table as text ------------------------------------------------------------------------
 */

/* ppl = 1.25 (1 + dnll); out_relerr = sqrt(10 x * x / 10) = x; time = 2 layers of 0.5 s, the model
 * row's 9 s left out. dnll: half-width .002 has its first digit in place 3, so 4 decimals; .001 and
 * .0005 give 4 and 5; 3e-5 gives 6 (two digits each). */
static void table_cells_are_exact(void **state)
{
    (void)state;
    struct run r;
    toy_run(&r);
    char *text = print_report(&r, "text");
    static const char want[] =
        "                              bits_                         dnll   top1_      out_\n"
        "method          bits  group  stored     ppl                ±95 %   agree    relerr   "
        "time\n"
        "                             bits/w                   nats/token   share  geo.mean      "
        "s\n"
        "full precision     -      -       -  1.2500                    -       -         -      "
        "-\n"
        "gptq               3    row   3.125  1.2625      +0.0100 ±0.0010  0.9375  1.00e-03  "
        "1.000\n"
        "gptq               3     32   3.625  1.2550    +0.00400 ±0.00050  0.9375  1.00e-04  "
        "1.000\n"
        "gptq               8     32   8.750  1.2500  -0.000010 ±0.000030  0.9375  1.00e-06  "
        "1.000\n"
        "rtn                3    row   3.125  1.3000      +0.0400 ±0.0020  0.9375  1.00e-02  "
        "1.000\n"
        "\n";
    if (strncmp(text, want, strlen(want)) != 0)
        fail_msg("the table is:\n%.1200s", text);
    assert_holds(
        text,
        "\nprotocol     bytes-8 (windows of 8); text facts:5 (key 001122334455), 4 windows\n");
    assert_holds(text, "\ncalibration  facts:1, 4 sequences of 8 tokens, seed 1; statistics: of "
                       "the full-precision model\n");
    assert_holds(text, "gptq 1.5 s, rtn 0.5 s\n");
    assert_holds(
        text,
        "\nmachine      a CPU, 2 threads; kernels avx2; BLAS core Haswell; commit c0ffee; a gcc\n");
    const char *last = strstr(text, "VALID");
    assert_non_null(last);
    assert_string_equal(last, "VALID: 13 cells finished\n");
    free(text);
    test_rmdir(r.dir);
}

/* An encoder's rows have no perplexity: its own metrics are the columns, and 1 - cosine is the loss
 * of the front, of which gptq at 4 bits is not (as many bits as rtn, more loss). */
static void encoders_have_columns_of_their_own(void **state)
{
    (void)state;
    static const struct {
        const char *label;
        int bits;
        double dcos, half;
    } cells[] = {{"rtn", 4, .01, .0004}, {"gptq", 4, .02, .0005}, {"gptq", 8, 2.5e-5, 3e-6}};
    struct ptq_status st = {0};
    struct ptq_arena a;
    struct ptq_view v;
    struct run r = {.n = 0};
    test_tmpdir(r.dir);
    ptq_arena_init(&a, 0);
    add_line(&r, "{\"schema\":1,\"kind\":\"reference\",\"key\":\"ref\",\"status\":\"ok\","
                 "\"model\":\"toy\"," TEXT "\"metrics\":{\"embed_dcos\":null},"
                 "\"absent\":{\"embed_dcos\":\"full precision\"},\"time\":{}," HOST "}");
    for (int i = 0; i < 3; i++)
        add_line(&r,
                 "{\"schema\":1,\"kind\":\"model\",\"key\":\"m%d\",\"status\":\"ok\",\"model\":"
                 "\"toy\",\"method\":\"m\",\"label\":\"%s\",\"base\":\"rtn\",\"bits\":%d,"
                 "\"group_size\":32," SETTING "\"calib\":\"a\",\"calib_seed\":1,\"calib_draw\":"
                 "\"sentences-8/4\"," TEXT
                 "\"metrics\":{\"bits_stored\":%d.25,\"embed_cos_mean\":%.17g,\"embed_cos_p1\":0.5,"
                 "\"embed_nn10\":0.75,\"embed_dcos\":%.17g,\"ppl\":null,\"dnll\":null},"
                 "\"absent\":{\"ppl\":\"none\",\"dnll\":\"none\"},"
                 "\"intervals\":{\"embed_dcos\":[%.17g,%.17g]},\"time\":{\"quantize_s\":1}," HOST
                 "}",
                 i, cells[i].label, cells[i].bits, cells[i].bits, 1 - cells[i].dcos, cells[i].dcos,
                 cells[i].dcos - cells[i].half, cells[i].dcos + cells[i].half);
    write_rows(&r, false);
    write_run_json(&r);
    char *text = print_report(&r, "text");
    static const char want[] =
        "                                                                                "
        "  embed_\n"
        "                              bits_  embed_cos_  embed_cos_  embed_             "
        "    dcos\n"
        "method          bits  group  stored        mean          p1    nn10             "
        "   ±95 %   time\n"
        "                             bits/w                           share             "
        " 1 - cos      s\n"
        "full precision     -      -       -           -           -       -             "
        "       -      -\n"
        "gptq               4     32   4.250     0.98000     0.50000  0.7500    +0.02000 "
        "±0.00050  1.000\n"
        "gptq               8     32   8.250     0.99997     0.50000  0.7500  +0.000025 ±"
        "0.000003  1.000\n"
        "rtn                4     32   4.250     0.99000     0.50000  0.7500    +0.01000 "
        "±0.00040  1.000\n";
    if (strncmp(text, want, strlen(want)) != 0)
        fail_msg("the table is:\n%.1200s", text);
    assert_holds(text, "4 sequences of up to 8 tokens");
    free(text);
    assert_ok(ptq_view_open(&v, r.dir, &a, &st), &st);
    assert_int_equal(v.n_boards, 1);
    assert_string_equal(v.boards[0].loss_id, "embed_dcos");
    assert_int_equal(v.boards[0].n_combos, 3);
    assert_false(v.boards[0].combos[0].front);
    assert_true(v.boards[0].combos[1].front && v.boards[0].combos[2].front);
    assert_true(v.boards[0].points[2].loss == .01 && v.boards[0].points[2].loss_hi > .0103);
    ptq_view_close(&v);
    ptq_arena_clear(&a);
    test_rmdir(r.dir);
}

static void order_of_rows_does_not_matter(void **state)
{
    (void)state;
    static const char *const formats[] = {"text", "md", "csv", "jsonl", "latex"};
    struct run r;
    toy_run(&r);
    add_bad(&r, "skipped", "gptq", "no");
    add_bad(&r, "failed", "gptq", "yes");
    for (int i = 0; i < 5; i++) {
        write_rows(&r, false);
        char *a = print_report(&r, formats[i]);
        write_rows(&r, true);
        char *b = print_report(&r, formats[i]);
        assert_string_equal(a, b);
        free(a);
        free(b);
    }
    test_rmdir(r.dir);
}

static void text_fits_the_terminal(void **state)
{
    (void)state;
    struct run r;
    toy_run(&r);
    add_model(&r, "gptq:percdamp=0.1:act_order=0:a_rather_long_option=7", 3, 64, 1, 3.3, 1e-2,
              1e-5);
    add_bad(
        &r, "failed", "gptq",
        "a reason of many words that goes on and on until it is much longer than any terminal is "
        "wide, so that it has to be wrapped somewhere at a space");
    write_rows(&r, false);
    char *text = print_report(&r, "text");
    for (const char *s = text; *s; s += strcspn(s, "\n"), s += *s == '\n') {
        char line[1024];
        snprintf(line, sizeof line, "%.*s", (int)strcspn(s, "\n"), s);
        if (ptq_text_width(line) > 120)
            fail_msg("%d columns: %s", ptq_text_width(line), line);
        assert_false(*line && line[strlen(line) - 1] == ' ');
    }
    assert_holds(text, "left out ");
    free(text);
    test_rmdir(r.dir);
}

/* ---- exact formats ------------------------------------------------------------------------------
 */

/* Field `column` of record `row` of RFC 4180 text, unquoted. */
static bool csv_field(const char *s, int row, int column, char *out, size_t size)
{
    int r = 0, c = 0;
    size_t n = 0;
    bool quoted = false;
    for (; *s; s++) {
        bool wanted = r == row && c == column;
        if (*s == '"' && quoted && s[1] == '"')
            s++; /* a doubled quote is one */
        else if (*s == '"') {
            quoted = !quoted;
            continue;
        }
        if (!quoted && (*s == ',' || *s == '\n')) {
            if (wanted)
                break;
            c = *s == ',' ? c + 1 : 0;
            r += *s == '\n';
            continue;
        }
        if (wanted && n + 1 < size)
            out[n++] = *s;
    }
    out[n] = 0;
    return *s != 0;
}

static int csv_column(const char *csv, const char *name)
{
    char field[256];
    for (int c = 0; c < 200; c++)
        if (csv_field(csv, 0, c, field, sizeof field) && !strcmp(field, name))
            return c;
    fail_msg("no column %s", name);
    return -1;
}

static double csv_number(const char *csv, int row, const char *name)
{
    char field[256], *end;
    assert_true(csv_field(csv, row, csv_column(csv, name), field, sizeof field));
    double v = strtod(field, &end);
    assert_true(*field && !*end);
    return v;
}

static void csv_and_jsonl_are_exact(void **state)
{
    (void)state;
    struct run r;
    toy_run(&r);
    char *csv = print_report(&r, "csv"), field[256];
    /* records: heading, full precision, gptq row, gptq 32, gptq 8, rtn */
    assert_true(csv_number(csv, 5, "ppl") == 1.25 * (1 + TAIL(0.04)));
    assert_true(csv_number(csv, 5, "dnll_lo") == TAIL(0.04) - 0.002);
    assert_true(csv_number(csv, 5, "dnll_hi") == TAIL(0.04) + 0.002);
    assert_true(csv_number(csv, 2, "group_size") == -1);
    assert_rel(csv_number(csv, 3, "out_relerr_geomean"), 1e-4, 1e-14);
    assert_true(csv_number(csv, 2, "on_front") == 1 && csv_number(csv, 5, "on_front") == 0);
    assert_true(csv_field(csv, 1, csv_column(csv, "from"), field, sizeof field));
    assert_string_equal(field, "reference");
    char *jsonl = print_report(&r, "jsonl");
    char *second = strchr(strchr(jsonl, '\n') + 1, '\n'); /* the end of the second line: gptq row */
    *second = 0;
    json_t *row = json_loads(strchr(jsonl, '\n') + 1, 0, NULL);
    assert_non_null(row);
    assert_true(json_number_value(json_object_get(row, "dnll")) == 0.01);
    assert_true(json_is_null(json_object_get(row, "ppl_lo")));
    assert_string_equal(ptq_row_text(row, "label"), "gptq");
    json_decref(row);
    free(csv);
    free(jsonl);
    test_rmdir(r.dir);
}

static void labels_are_escaped(void **state)
{
    (void)state;
    struct run r;
    toy_run(&r);
    add_model(&r, "a_b%,&\\\"<script>alert(1)</script>|\\u001b[31m", 4, -1, 1, 4.125, 0.001,
              0.0001);
    add_bad(&r, "failed", "gptq", "<img src=x onerror=alert(2)> & 'so'");
    write_rows(&r, false);
    char *csv = print_report(&r, "csv"), field[256];
    assert_true(csv_field(csv, 2, csv_column(csv, "label"), field, sizeof field));
    assert_string_equal(field, "a_b%,&\"<script>alert(1)</script>|?[31m");
    char *latex = print_report(&r, "latex");
    assert_holds(latex, "\na\\_b\\%,\\&\\textquotedbl{}\\textless{}script\\textgreater{}alert(1)");
    assert_holds(latex, "\\toprule\n");
    char *md = print_report(&r, "md");
    assert_holds(md, "| a\\_b%,&amp;\"&lt;script>alert(1)&lt;/script>\\|?\\[31m |");
    char *text = print_report(&r, "text");
    assert_lacks(text, "\033");
    free(csv);
    free(latex);
    free(md);
    free(text);
    struct ptq_status st = {0};
    assert_ok(ptq_report_write(
                  &(struct ptq_report_args){.run_dir = r.dir, .plots = true, .quiet = true}, &st),
              &st);
    char *html = read_text(r.dir, "report.html");
    assert_lacks(html, "<script>alert");
    assert_lacks(html, "<img");
    assert_lacks(html, "\033");
    assert_holds(html, "&lt;script&gt;alert(1)&lt;/script&gt;|?[31m");
    assert_holds(html, "&lt;img src=x onerror=alert(2)&gt; &amp; &#39;so&#39;");
    free(html);
    test_rmdir(r.dir);
}

/* ---- HTML and pictures
 * ---------------------------------------------------------------------------- */

static bool have_gnuplot(void)
{
    const char *path = getenv("PATH");
    char file[TEST_PATH];
    for (const char *s = path ? path : ""; *s; s += strcspn(s, ":"), s += *s == ':') {
        snprintf(file, sizeof file, "%.*s/gnuplot", (int)strcspn(s, ":"), s);
        if (access(file, X_OK) == 0)
            return true;
    }
    return false;
}

static void html_stands_alone(void **state)
{
    (void)state;
    struct run r;
    toy_run(&r);
    struct ptq_status st = {0};
    assert_ok(ptq_report_write(
                  &(struct ptq_report_args){.run_dir = r.dir, .plots = true, .quiet = true}, &st),
              &st);
    char *html = read_text(r.dir, "report.html");
    static const char *const outside[] = {
        "http:", "https:", "//www", " src=", "@import", "url(", "<link"};
    for (int i = 0; i < 7; i++)
        assert_lacks(html, outside[i]);
    static const char *const inside[] = {"prefers-color-scheme:dark",
                                         "<td>gptq</td>",
                                         "facts:5 (key 001122334455)",
                                         "c0ffee",
                                         "ptq sweep toy.ini",
                                         "source = &lt;toy&gt;",
                                         "<td>damping</td>",
                                         "<td>out_relerr</td>",
                                         "blk.1.q",
                                         "nats/token"};
    for (int i = 0; i < 10; i++)
        assert_holds(html, inside[i]);
    free(html);
    static const char *const files[] = {
        "report.md",          "tables/main.csv", "tables/main.tex", "tables/layers.csv",
        "tables/not_run.csv", "plots/model.tsv", "plots/layer.tsv"};
    for (int i = 0; i < 7; i++)
        free(read_text(r.dir, files[i]));
    test_rmdir(r.dir);
}

static void pictures_are_drawn(void **state)
{
    (void)state;
    if (!have_gnuplot()) {
        printf("SKIP pictures: gnuplot is not installed\n");
        skip();
    }
    struct run r;
    struct ptq_arena a;
    struct ptq_plot *plots;
    int64_t n;
    struct ptq_status st = {0};
    toy_run(&r);
    add_model(&r, "it's <b>`bold`</b> 'x'", 4, -1, 1, 4.125, 0.001, 0.0001);
    write_rows(&r, false);
    assert_ok(ptq_report_write(
                  &(struct ptq_report_args){.run_dir = r.dir, .plots = true, .quiet = true}, &st),
              &st);
    ptq_arena_init(&a, 0);
    assert_ok(ptq_plots_list(&a, &plots, &n, &st), &st);
    assert_true(n >= 4);
    char *html = read_text(r.dir, "report.html");
    assert_lacks(html, "No pictures");
    assert_lacks(html, "<b>");
    for (int64_t i = 0; i < n; i++) {
        char name[128];
        if (plots[i].optional) /* what it needs is not in every run */
            continue;
        snprintf(name, sizeof name, "plots/%s.svg", plots[i].name);
        char *svg = read_text(r.dir, name);
        assert_holds(svg, "<svg class=\"ptq-plot\"");
        assert_holds(svg, "currentColor");
        assert_lacks(svg, "'black'");
        assert_lacks(svg, "\"black\"");
        assert_lacks(svg, "rgb(  0,   0,   0)");
        assert_lacks(svg, "color='white'");
        free(svg);
        snprintf(name, sizeof name, "<figure id=\"%s-1\">", plots[i].name);
        assert_holds(html, name);
    }
    char *loss = read_text(r.dir, "plots/loss_bits.svg");
    assert_holds(loss, "open symbols: 1 at or below 0");
    assert_holds(loss, "it's &lt;b>?bold?&lt;/b> 'x'");
    free(loss);
    free(html);
    ptq_arena_clear(&a);
    test_rmdir(r.dir);
}

static void without_gnuplot_the_tables_stay(void **state)
{
    (void)state;
    struct run r;
    struct ptq_status st = {0}, why = {0};
    char *path = getenv("PATH") ? strdup(getenv("PATH")) : NULL, svg[TEST_PATH];
    toy_run(&r);
    setenv("PATH", "/nonexistent", 1);
    int code = ptq_report_write(
        &(struct ptq_report_args){.run_dir = r.dir, .plots = true, .quiet = true}, &st);
    test_path(r.dir, "x.svg", svg);
    int drawn = ptq_plot_write(r.dir, "loss_bits", svg, &why);
    if (path)
        setenv("PATH", path, 1);
    free(path);
    assert_ok(code, &st);
    assert_int_equal(drawn, PTQ_SKIP);
    assert_status(&why, PTQ_SKIP, "gnuplot is not installed");
    assert_int_equal(access(svg, F_OK), -1);
    static const char *const files[] = {"report.html", "report.md"};
    for (int i = 0; i < 2; i++) {
        char *text = read_text(r.dir, files[i]);
        assert_holds(text, "gnuplot is not installed");
        assert_holds(text, "1.2625");
        free(text);
    }
    free(read_text(r.dir, "tables/main.tex"));
    test_rmdir(r.dir);
}

static void svg_becomes_themeable(void **state)
{
    (void)state;
    static const char raw[] =
        "<?xml?>\n<svg\n viewBox=\"0 0 9 9\"\n xmlns=\"http://w.org/svg\"\n "
        "xmlns:xlink='http://w.org/x'\n>\n"
        "<title>Gnuplot</title><desc>by</desc><g color=\"black\" stroke=\"currentColor\">"
        "<path id='gpPt1' stroke='black'/><use xlink:href='#gpPt1' color='red'/>"
        "<use xlink:href='#gpPt1' color='white'/><text>black</text></g></svg>";
    const struct ptq_plot plot = {.name = "p", .title = "a < b", .alt = ""};
    struct ptq_status st = {0};
    char *svg;
    size_t n;
    assert_ok(ptq_svg_adapt(raw, &plot, &svg, &n, &st), &st);
    assert_holds(svg, "<g stroke=\"currentColor\"><path id='p-gpPt1' stroke='currentColor'/>"
                      "<use xlink:href='#p-gpPt1' color='red'/><text>black</text></g></svg>");
    assert_holds(svg, "<title>a &lt; b</title>");
    assert_lacks(svg, "Gnuplot");
    struct ptq_buffer b;
    assert_ok(ptq_buffer_open(&b, &st), &st);
    ptq_svg_inline(svg, b.f);
    assert_ok(ptq_buffer_close(&b, &st), &st);
    assert_lacks(b.text, "http");
    assert_lacks(b.text, "<?xml");
    assert_holds(b.text, "viewBox=\"0 0 9 9\"");
    free(b.text);
    free(svg);
    st = (struct ptq_status){0};
    assert_int_equal(ptq_svg_adapt("no picture", &plot, &svg, &n, &st), PTQ_SKIP);
    free(svg);
}

/* ---- what the numbers mean
 * --------------------------------------------------------------------------- */

/* Coarse values, so that ties in one and in both are common; every pair against every other. */
static void pareto_agrees_with_brute_force(void **state)
{
    (void)state;
    enum { N = 24 };
    struct ptq_status st = {0};
    for (uint64_t round = 0; round < 500; round++) {
        double x[N], y[N];
        bool front[N];
        int64_t n = 1 + (int64_t)(ptq_hash_u64(round, 999) % N);
        for (int64_t i = 0; i < n; i++) {
            x[i] = (double)(ptq_hash_u64(round, (uint64_t)i) % 9);
            y[i] = (double)(ptq_hash_u64(round, (uint64_t)i + 100) % 9) - 4;
            if (ptq_hash_u64(round, (uint64_t)i + 200) % 16 == 0)
                y[i] = NAN;
        }
        assert_ok(ptq_pareto(x, y, n, front, &st), &st);
        for (int64_t i = 0; i < n; i++) {
            bool beaten = isnan(y[i]);
            for (int64_t k = 0; k < n; k++)
                beaten |= x[k] <= x[i] && y[k] <= y[i] && (x[k] < x[i] || y[k] < y[i]);
            assert_int_equal(front[i], !beaten);
        }
    }
}

static void open_view(const struct run *r, struct ptq_arena *a, struct ptq_view *v)
{
    struct ptq_status st = {0};
    ptq_arena_init(a, 0);
    assert_ok(ptq_view_open(v, r->dir, a, &st), &st);
}

static void close_view(struct ptq_arena *a, struct ptq_view *v)
{
    ptq_view_close(v);
    ptq_arena_clear(a);
}

/* Layers of 16 x 16 and 48 x 16 weights: bits (16 * 2 + 48 * 4) / 64 = 3.5; errors 1e-2 and 1e-4:
 * geometric mean 1e-3. */
static void bare_layers_are_aggregated(void **state)
{
    (void)state;
    struct run r = {.n = 0};
    struct ptq_arena a;
    struct ptq_view v;
    test_tmpdir(r.dir);
    add_layer(&r, "rtn", 3, 64, 1, "big", 1, 48, 4, 1e-4);
    add_layer(&r, "rtn", 3, 64, 1, "small", 0, 16, 2, 1e-2);
    add_layer(&r, "rtn", 2, 64, 1, "small", 0, 16, 2, 3e-2);
    write_rows(&r, false);
    open_view(&r, &a, &v);
    assert_int_equal(v.n_boards, 1);
    const struct ptq_board *d = &v.boards[0];
    assert_true(d->by_layers && d->n == 2);
    assert_int_equal(d->points[1].bits, 3);
    assert_rel(d->points[1].bits_stored, 3.5, 1e-15);
    assert_rel(d->points[1].loss, 1e-3, 1e-14);
    assert_rel(d->points[1].time_s, 1.0, 1e-15);
    assert_int_equal(v.faults.n, 1); /* the other setting has one layer of two */
    assert_holds(v.faults.at[0], "1 settings miss layers");
    close_view(&a, &v);
    test_rmdir(r.dir);
}

/* Seed 2 of "lucky" beats "steady", its mean .5 (.1 + .5) = .3 does not beat .2: only the mean may
 * be on the front. */
static void seeds_are_averaged_before_the_front(void **state)
{
    (void)state;
    struct run r = {.n = 0};
    struct ptq_arena a;
    struct ptq_view v;
    test_tmpdir(r.dir);
    add_reference(&r);
    add_model(&r, "steady", 3, -1, 1, 3, 0.2, 0.01);
    add_model(&r, "steady", 3, -1, 2, 3, 0.2, 0.01);
    add_model(&r, "lucky", 3, -1, 1, 3, 0.5, 0.01);
    add_model(&r, "lucky", 3, -1, 2, 3, 0.1, 0.01);
    write_rows(&r, false);
    open_view(&r, &a, &v);
    const struct ptq_board *d = &v.boards[0];
    assert_true(d->many_seeds && d->n == 4 && d->n_combos == 2 && d->n_series == 2);
    assert_string_equal(d->series[0], "lucky");
    assert_rel(d->combos[0].loss, 0.3, 1e-15);
    assert_false(d->combos[0].front);
    assert_true(d->combos[1].front);
    close_view(&a, &v);
    test_rmdir(r.dir);
}

/* Cells of one label that differ in a setting are told apart by it. */
static void settings_that_vary_are_shown(void **state)
{
    (void)state;
    struct run r = {.n = 0};
    struct ptq_arena a;
    struct ptq_view v;
    test_tmpdir(r.dir);
    add_reference(&r);
    add_model(&r, "rtn", 3, -1, 1, 3, 0.2, 0.01);
    add_model(&r, "rtn", 3, -1, 1, 3, 0.1, 0.01);
    char *grid = strstr(r.lines[2], "minmax\"");
    assert_non_null(grid);
    memcpy(grid, "mse\"   ", 7);
    write_rows(&r, false);
    open_view(&r, &a, &v);
    assert_int_equal(v.boards[0].n_combos, 2);
    assert_string_equal(v.boards[0].series[0], "rtn grid=minmax");
    assert_string_equal(v.boards[0].series[1], "rtn grid=mse");
    close_view(&a, &v);
    test_rmdir(r.dir);
}

static void protocols_are_never_mixed(void **state)
{
    (void)state;
    struct run r;
    struct ptq_arena a;
    struct ptq_view v;
    toy_run(&r);
    add_model(&r, "rtn", 4, -1, 1, 4.125, 0.002, 0.0001);
    char *protocol = strstr(r.lines[r.n - 1], "bytes-8");
    assert_non_null(protocol);
    memcpy(protocol, "bytes-9", 7);
    write_rows(&r, false);
    open_view(&r, &a, &v);
    assert_int_equal(v.n_boards, 2);
    assert_int_equal(v.boards[1].n, 1);
    assert_int_equal(v.faults.n, 1);
    assert_holds(v.faults.at[0], "no full-precision row for model toy, protocol bytes-9");
    close_view(&a, &v);
    memcpy(protocol, "bytes-8", 7); /* the same protocol over another text is another board */
    char *key = strstr(r.lines[r.n - 1], "001122");
    assert_non_null(key);
    memcpy(key, "ffffff", 6);
    write_rows(&r, false);
    open_view(&r, &a, &v);
    assert_int_equal(v.n_boards, 2);
    assert_null(v.boards[1].reference);
    assert_int_equal(v.faults.n, 1);
    close_view(&a, &v);
    test_rmdir(r.dir);
}

/* ---- validity and bad input
 * ---------------------------------------------------------------------------- */

static void assert_verdict(const struct run *r, const char *want)
{
    char *text = print_report(r, "text");
    assert_holds(text, want);
    free(text);
}

static void a_run_is_invalid_for_a_reason(void **state)
{
    (void)state;
    struct run r;
    struct ptq_status st = {0};
    char plan[TEST_PATH];
    toy_run(&r);
    add_bad(&r, "skipped", "gptq", "two bits are not for it");
    write_rows(&r, false);
    assert_verdict(&r, "\nskipped      gptq b2 row blk.0.q: two bits are not for it\nVALID: 13 "
                       "cells finished, 1 skipped\n");
    add_bad(&r, "failed", "gptq", "not positive definite");
    write_rows(&r, false);
    assert_verdict(&r, "\nINVALID: 13 cells finished, 1 skipped; 1 failed cell\n");
    r.n--;
    char *value = strstr(r.lines[1], "0.9375"); /* a null without a reason, in the row of rtn */
    assert_non_null(value);
    memcpy(value, "null  ", 6);
    write_rows(&r, false);
    assert_verdict(&r, "INVALID: 13 cells finished, 1 skipped; 1 cells hold a value that is not "
                       "finite, without a reason (first: "
                       "top1_agree of rtn )\n");
    memcpy(value, "0.9375", 6);
    write_rows(&r, false);
    test_path(r.dir, "plan.txt", plan);
    const char keys[] =
        "ref\nm1\nl2\nl3\nm4\nl5\nl6\nm7\nl8\nl9\nm10\nl11\nl12\nb13\nmissing1\nmissing2\n";
    assert_ok(ptq_write_file(plan, keys, strlen(keys), &st), &st);
    assert_verdict(&r, "INVALID: 13 cells finished, 1 skipped; 2 of 16 cells not run yet: run the "
                       "sweep again to go on\n");
    test_rmdir(r.dir);
}

/* Reasons of one cell's layers that differ in numbers and layers alone are a line; so are equal
 * ones of several cells. Other words, and other numbers at other bits, are lines of their own. */
static void reasons_are_joined(void **state)
{
    (void)state;
    struct run r;
    toy_run(&r);
    add_bad_at(&r, "skipped", "opq", 3, "blk.0.a", "blk.0.a: it takes 32 of 3.5 bits");
    add_bad_at(&r, "skipped", "opq", 3, "blk.0.bc", "blk.0.bc: it takes 10.25 of 4 bits");
    add_bad_at(&r, "skipped", "opq", 3, "blk.0.d", "blk.0.d: it takes 32 of some bits");
    add_bad_at(&r, "skipped", "opq", 4, "blk.0.a", "blk.0.a: it takes 7 of some bits");
    add_bad_at(&r, "skipped", "pq", 2, "blk.0.a", "never");
    add_bad_at(&r, "skipped", "pq", 3, "blk.0.a", "never");
    add_bad_at(&r, "failed", "pq", 3, "blk.0.b", "never");
    write_rows(&r, false);
    assert_verdict(
        &r, "\nskipped      opq b3 row blk.0.a (2 cells, first): blk.0.a: it takes 32 of 3.5 bits\n"
            "skipped      opq b3 row blk.0.d: blk.0.d: it takes 32 of some bits\n"
            "skipped      opq b4 row blk.0.a: blk.0.a: it takes 7 of some bits\n"
            "skipped      pq b2 row blk.0.a (2 cells, first): never\n"
            "failed       pq b3 row blk.0.b: never\n");
    test_rmdir(r.dir);
}

/* Bits of the inputs are part of a cell; what differs in the layer's name alone is one fault at any
 * bits. */
static void skips_of_inputs_are_told_apart(void **state)
{
    (void)state;
    struct run r;
    toy_run(&r);
    static const char *const layers[] = {"blk.0.a", "blk.0.b"};
    for (int a_bits = 8; a_bits >= 4; a_bits -= 4)
        for (int i = 0; i < 2; i++)
            add_line(&r,
                     "{\"schema\":1,\"kind\":\"layer\",\"key\":\"b%d\",\"status\":\"skipped\","
                     "\"reason\":\"%s: set group_size = 0\",\"model\":\"toy\",\"label\":\"flat\","
                     "\"bits\":4,\"a_bits\":%d,\"group_size\":-1," SETTING
                     "\"calib\":\"facts:1\",\"calib_seed\":1,\"layer\":\"%s\",\"block\":0}",
                     r.n, layers[i], a_bits, layers[i]);
    write_rows(&r, false);
    assert_verdict(&r, "\nskipped      flat b4 a4 row blk.0.a (4 cells, first): blk.0.a: set "
                       "group_size = 0\nVALID: 13 cells finished, 4 skipped\n");
    test_rmdir(r.dir);
}

static void a_run_that_quantized_nothing(void **state)
{
    (void)state;
    struct run r = {.n = 0};
    test_tmpdir(r.dir);
    add_line(&r, "{\"schema\":1,\"kind\":\"reference\",\"key\":\"ref\",\"status\":\"ok\","
                 "\"model\":\"toy\"," TEXT "\"metrics\":{},\"absent\":{},\"time\":{}," HOST "}");
    add_bad_at(&r, "skipped", "pq", 2, "blk.0.a", "set sym = 0");
    write_rows(&r, false);
    assert_verdict(&r, "INVALID: 1 cell finished, 1 skipped; nothing was quantized: every cell was "
                       "skipped (set sym = 0)\n");
    test_rmdir(r.dir);
}

static void broken_input_is_named(void **state)
{
    (void)state;
    struct run r;
    struct ptq_status st = {0};
    char path[TEST_PATH];
    toy_run(&r);
    snprintf(r.lines[3], sizeof r.lines[3], "{\"schema\":1,\"key\":");
    write_rows(&r, false);
    assert_int_equal(ptq_report_print(r.dir, "text", stdout, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "cells.jsonl:4");
    st = (struct ptq_status){0};
    assert_int_equal(ptq_report_write(&(struct ptq_report_args){.run_dir = r.dir}, &st),
                     PTQ_ERR_USAGE);
    st = (struct ptq_status){0};
    assert_int_equal(ptq_report_print(r.dir, "texd", stdout, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "text");
    test_path(r.dir, "cells.jsonl", path);
    assert_int_equal(remove(path), 0);
    st = (struct ptq_status){0};
    assert_int_equal(ptq_report_print(r.dir, "text", stdout, &st), PTQ_ERR_USAGE);
    test_rmdir(r.dir);
}

/* Rows of the right schema whose fields have wrong types: hostile, but no crash and no lie. */
static void odd_rows_do_no_harm(void **state)
{
    (void)state;
    struct run r;
    struct ptq_status st = {0};
    toy_run(&r);
    add_line(&r, "{\"schema\":1,\"kind\":\"model\",\"key\":\"x1\",\"status\":\"ok\",\"label\":7,"
                 "\"bits\":\"three\",\"metrics\":[1],"
                 "\"intervals\":{\"dnll\":[1]},\"notes\":3,\"time\":null}");
    add_line(&r,
             "{\"schema\":1,\"kind\":\"layer\",\"key\":\"x2\",\"status\":\"ok\",\"group_size\":"
             "1e300,\"block\":{},"
             "\"metrics\":{\"out_relerr\":-1,\"bits_stored\":1e308},\"rows\":-4,\"cols\":1e18}");
    add_line(&r, "{\"schema\":1,\"key\":\"x3\"}");
    write_rows(&r, false);
    char *text = print_report(&r, "text");
    assert_holds(text, "INVALID");
    free(text);
    assert_ok(ptq_report_write(
                  &(struct ptq_report_args){.run_dir = r.dir, .plots = true, .quiet = true}, &st),
              &st);
    test_rmdir(r.dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_cells_are_exact),
        cmocka_unit_test(encoders_have_columns_of_their_own),
        cmocka_unit_test(order_of_rows_does_not_matter),
        cmocka_unit_test(text_fits_the_terminal),
        cmocka_unit_test(csv_and_jsonl_are_exact),
        cmocka_unit_test(labels_are_escaped),
        cmocka_unit_test(html_stands_alone),
        cmocka_unit_test(pictures_are_drawn),
        cmocka_unit_test(without_gnuplot_the_tables_stay),
        cmocka_unit_test(svg_becomes_themeable),
        cmocka_unit_test(pareto_agrees_with_brute_force),
        cmocka_unit_test(bare_layers_are_aggregated),
        cmocka_unit_test(seeds_are_averaged_before_the_front),
        cmocka_unit_test(settings_that_vary_are_shown),
        cmocka_unit_test(protocols_are_never_mixed),
        cmocka_unit_test(a_run_is_invalid_for_a_reason),
        cmocka_unit_test(reasons_are_joined),
        cmocka_unit_test(skips_of_inputs_are_told_apart),
        cmocka_unit_test(a_run_that_quantized_nothing),
        cmocka_unit_test(broken_input_is_named),
        cmocka_unit_test(odd_rows_do_no_harm),
    };
    return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
