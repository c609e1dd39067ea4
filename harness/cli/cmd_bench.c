/* cmd_bench.c: `ptq bench`: speed of the kernels as a share of what this machine can do.
 *
 * Timed: one operation over all rows of a matrix, again and again, on every thread over rows of its
 * own, through copies of the data that together are four times the last cache (or what a quarter of
 * the free memory holds: then the row says so). Products: packed weights and quantized activations
 * are there. Pack, unpack, row and activation quantization are rows of their own.
 * Not timed: making the data, first touches of pages, and threads waiting for each other: they are
 * woken once a repetition, which is many passes.
 *
 * Limits are probed in the same rounds: lines read (products, vectors) or copied past the caches
 * (the others), counted as both; chains of fused multiply-adds or 8-bit dot products in registers,
 * of the instruction set that the row may use. Bytes of a product: codes, scales, zeros and tables;
 * inputs and outputs lie in caches. A repetition counts unless the probes before and after it, of
 * what binds the row, were below 90 % of the best such pair, or a thread was on a processor for
 * less than 97 % of it: others ran. */
#include "cli/bench.h"
#include "core/progress.h"
#include "core/words.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { MOST_ROWS = 3, MOST_WORKS = MOST_ROWS + 1 }; /* a kernel and its rivals */

struct bench {
    const struct ptq_args *args;
    struct ptq_arena arena;
    struct ptq_pool *pool;
    struct ptq_bench bench;
    struct ptq_bench_plan plan;
    struct ptq_bench_row *row;
    int64_t n, room;
    struct ptq_progress *progress;
    bool rivals;
};

/* ---- one row, and its rivals' ---- */

static void describe(const struct bench *b, const struct ptq_bench_spec *s, const char *isa,
                     struct ptq_bench_row *r)
{
    const struct ptq_bench_op_info *info = &ptq_bench_ops[s->op];
    char group[24] = "";
    if (info->group && s->group > 0)
        snprintf(group, sizeof group, " g%lld", (long long)s->group);
    else if (info->group)
        snprintf(group, sizeof group, " row");
    *r = (struct ptq_bench_row){.isa = isa,
                                .rows = s->rows,
                                .cols = s->cols,
                                .batch = s->batch,
                                .threads = ptq_pool_threads(b->pool)};
    snprintf(r->op, sizeof r->op, "%s", info->name);
    if (info->bits)
        snprintf(r->weights, sizeof r->weights, "%s%d%s",
                 s->op == PTQ_BENCH_VQ ? "vq"
                 : s->table            ? "table"
                                       : "int",
                 s->bits, group);
}

static void describe_rival(const struct ptq_bench_row *of, const struct ptq_rival *rival,
                           bool integers, struct ptq_bench_row *r)
{
    *r = (struct ptq_bench_row){.isa = "library",
                                .rows = of->rows,
                                .cols = of->cols,
                                .batch = of->batch,
                                .threads = of->threads,
                                .work = rival->work,
                                .timed = true};
    snprintf(r->op, sizeof r->op, "%s", integers ? "u8s8s32" : of->batch == 1 ? "sgemv" : "sgemm");
    snprintf(r->weights, sizeof r->weights, "%s", integers ? "int8" : "fp32");
    snprintf(r->kernel, sizeof r->kernel, "%s", rival->name);
}

/* A rival's row is shown once a shape and batch. */
static bool shown(const struct bench *b, const struct ptq_bench_row *r)
{
    for (int64_t i = 0; i < b->n; i++) {
        const struct ptq_bench_row *s = &b->row[i];
        if (!strcmp(s->op, r->op) && s->rows == r->rows && s->cols == r->cols &&
            s->batch == r->batch)
            return true;
    }
    return false;
}

static void keep(struct bench *b, const struct ptq_bench_row *r)
{
    if (b->n < b->room && (strcmp(r->isa, "library") || !shown(b, r)))
        b->row[b->n++] = *r;
}

static void add_note(struct ptq_bench_row *r, const char *text)
{
    const size_t n = strlen(r->note);
    snprintf(r->note + n, sizeof r->note - n, "%s%.90s", n ? "; " : "", text);
}

static void note_result(const struct bench *b, struct ptq_bench_row *r)
{
    const struct ptq_bench_result *x = &r->result;
    char text[96];
    if (x->marked) {
        snprintf(text, sizeof text, "%lld of %lld repetitions disturbed%s", (long long)x->marked,
                 (long long)x->rounds, x->rounds - x->marked < 3 ? ", all counted" : "");
        add_note(r, text);
    }
    if (x->stolen > 0.05) {
        snprintf(text, sizeof text, "host took %.2f processors", x->stolen);
        add_note(r, text);
    }
    if (b->bench.most_bytes < b->bench.rotate_bytes &&
        (double)r->work.copies * r->work.bytes < (double)b->bench.rotate_bytes)
        add_note(r, "little memory: partly from caches");
}

struct race { /* of one row */
    struct ptq_bench_case kernel, cached;
    struct ptq_rival blas, onednn;
    struct ptq_bench_row row[MOST_ROWS];
    int n, blas_at, onednn_at; /* 0: not in it */
};

static void enter_rivals(struct bench *b, struct race *r)
{
    const struct ptq_rival_shape shape = {r->row[0].rows, r->row[0].cols, r->row[0].batch,
                                          b->args->machine->blas_core};
    struct ptq_status own = {0};
    if (ptq_rival_blas_open(&r->blas, &b->bench, &shape, &own) == PTQ_OK)
        describe_rival(&r->row[0], &r->blas, false, &r->row[r->blas_at = r->n++]);
    else
        add_note(&r->row[0], r->blas.name);
    ptq_status_clear(&own);
    if (r->kernel.spec.op != PTQ_BENCH_MATMUL_I8)
        return;
    if (ptq_rival_onednn_open(&r->onednn, &b->bench, &shape, &own) == PTQ_OK)
        describe_rival(&r->row[0], &r->onednn, true, &r->row[r->onednn_at = r->n++]);
    else
        add_note(&r->row[0], r->onednn.name);
}

/* 0, which is not shown, where the rival's times are spread so widely that a ratio says nothing. */
static double ratio_to(const struct ptq_bench_result *rival, double scale)
{
    return rival->spread > 0.25 ? 0 : rival->speed * scale;
}

static int time_race(struct bench *b, struct race *r, struct ptq_status *st)
{
    struct ptq_bench_work work[MOST_WORKS];
    struct ptq_bench_result result[MOST_WORKS];
    const bool cached = r->cached.work.run;
    for (int k = 0; k < r->n; k++)
        work[k] = r->row[k].work;
    work[r->n] = r->cached.work;
    const int code = ptq_bench_run(&b->bench, work, r->n + cached, result, st);
    if (!code && cached)
        r->row[0].cached = ratio_to(&result[r->n], work[0].values / work[r->n].values);
    if (r->row[0].cached > 1) /* part of a time cannot be more than it: the machine changed */
        r->row[0].cached = 0;
    for (int k = 0; !code && k < r->n; k++) {
        r->row[k].result = result[k];
        note_result(b, &r->row[k]);
    }
    r->row[0].vs_blas = !code && r->blas_at ? ratio_to(&result[r->blas_at], 1) : 0;
    r->row[0].vs_onednn = !code && r->onednn_at ? ratio_to(&result[r->onednn_at], 1) : 0;
    return code;
}

static int run_row(struct bench *b, const struct ptq_bench_spec *spec, const char *isa,
                   struct ptq_status *st)
{
    struct race r = {.n = 1};
    struct ptq_status own = {0};
    describe(b, spec, isa, &r.row[0]);
    int code = ptq_bench_case_open(&r.kernel, &b->bench, spec, &own);
    if (code == PTQ_OK) {
        r.row[0].timed = true;
        r.row[0].work = r.kernel.work;
        snprintf(r.row[0].kernel, sizeof r.row[0].kernel, "%s",
                 ptq_bench_kernel_name(r.kernel.kernel));
        if (ptq_bench_ops[spec->op].batch && spec->batch == 1)
            (void)ptq_bench_cached_open(&r.cached, &b->bench, spec, &own);
        ptq_status_clear(&own);
        if (b->rivals && ptq_bench_ops[spec->op].batch)
            enter_rivals(b, &r);
        code = time_race(b, &r, &own);
    }
    for (int k = 0; k < r.n; k++)
        keep(b, &r.row[k]);
    ptq_bench_case_close(&r.kernel);
    ptq_bench_case_close(&r.cached);
    ptq_rival_blas_close(&r.blas);
    ptq_rival_onednn_close(&r.onednn);
    if (code == PTQ_SKIP) {
        add_note(&b->row[b->n - 1], own.text);
        return PTQ_OK;
    }
    return code ? ptq_status_set(st, code, "%s", own.text) : PTQ_OK;
}

/* With --isa all: levels whose kernel is that of a lower one are left out. */
static bool same_kernel(const struct bench *b, struct ptq_bench_spec s, int level)
{
    struct ptq_bench_spec lower = s;
    if (level == 0)
        return false;
    s.flags = b->plan.level[level].flags;
    lower.flags = b->plan.level[level - 1].flags;
    return ptq_bench_pick(&s) == ptq_bench_pick(&lower);
}

static int run_rows(struct bench *b, struct ptq_status *st)
{
    int code = PTQ_OK;
    for (int64_t i = 0; i < b->plan.n; i++)
        for (int l = 0; !code && l < b->plan.n_levels; l++) {
            struct ptq_bench_spec s = b->plan.spec[i];
            if (!same_kernel(b, s, l)) {
                s.flags = b->plan.level[l].flags;
                code = run_row(b, &s, b->plan.level[l].name, st);
            }
            ptq_progress_step(b->progress, ptq_bench_ops[s.op].name);
        }
    return code;
}

/* ---- the verb ---- */

static int show(struct bench *b, enum ptq_format format, struct ptq_status *st)
{
    const struct ptq_bench_sheet sheet = {b->args->machine, &b->bench, b->row, b->n};
    const char *out = ptq_arg(b->args, "out"), *plot = ptq_arg(b->args, "plot");
    FILE *f = out ? fopen(out, "w") : stdout;
    if (!f)
        return ptq_status_set(st, PTQ_ERR_IO, "%s: cannot create: %s", out, strerror(errno));
    int code = ptq_bench_print(&sheet, format, f, st);
    if (out && fclose(f) && !code)
        code = ptq_status_set(st, PTQ_ERR_IO, "%s: writing failed: %s", out, strerror(errno));
    if (!code && plot && (code = ptq_bench_draw(&sheet, plot, st)) == PTQ_SKIP) {
        fprintf(stderr, "ptq bench: no picture: %s\n", st->text);
        return 100 + 6;
    }
    return code;
}

/* More threads than processors measure the scheduler. */
static int check_threads(int64_t threads, struct ptq_status *st)
{
    struct ptq_pool *all;
    int code = ptq_pool_new(&all, 0, st);
    if (code)
        return code;
    const int most = ptq_pool_threads(all);
    ptq_pool_free(all);
    if (threads <= most)
        return PTQ_OK;
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "--threads %lld: this process may use %d processors, and threads that "
                          "share one measure nothing",
                          (long long)threads, most);
}

static int open_bench(struct bench *b, struct ptq_status *st)
{
    const bool quick = ptq_arg(b->args, "quick");
    struct ptq_bench_time t = {.row_s = quick ? 0.5 : 2, .least_rounds = quick ? 3 : 5};
    int64_t threads = 0;
    const char *plot = ptq_arg(b->args, "plot");
    int code = ptq_arg_i64(b->args, "threads", 0, 1024, &threads, st);
    code = code ? code : check_threads(threads, st);
    if (!code && plot && !ptq_ends_with(plot, ".svg") && !ptq_ends_with(plot, ".png"))
        code = ptq_status_set(st, PTQ_ERR_USAGE,
                              "--plot %.80s: give a name that ends in .svg or .png", plot);
    if (!code && ptq_arg(b->args, "time"))
        code = ptq_parse_f64(ptq_arg(b->args, "time"), "--time", 0.001, 3600, &t.row_s, st);
    code = code ? code : ptq_bench_plan(b->args, &b->arena, &b->plan, st);
    b->room = MOST_ROWS * b->plan.n * b->plan.n_levels;
    b->row = code ? NULL : ptq_arena_alloc(&b->arena, st, b->room, sizeof *b->row);
    if (!code && !b->row)
        return PTQ_ERR_MEMORY;
    code = code ? code : ptq_pool_new(&b->pool, (int)threads, st);
    return code ? code : ptq_bench_open(&b->bench, b->pool, t, st);
}

static int run(const struct ptq_args *args, struct ptq_status *st)
{
    struct bench b = {.args = args, .rivals = !ptq_arg(args, "no-baselines")};
    enum ptq_format format;
    ptq_arena_init(&b.arena, 0);
    int code = ptq_format_parse(ptq_arg(args, "format"), &format, st);
    code = code ? code : open_bench(&b, st);
    if (!code) {
        b.progress =
            ptq_progress_new("bench", b.plan.n * b.plan.n_levels, ptq_arg(args, "quiet") != NULL);
        code = run_rows(&b, st);
        ptq_progress_free(b.progress);
        code = code ? code : show(&b, format, st);
    }
    ptq_bench_close(&b.bench);
    ptq_pool_free(b.pool);
    ptq_arena_clear(&b.arena);
    return code;
}

static const struct ptq_flag flags[] = {
    {"op", 0, PTQ_FLAG_TEXT, "NAMES",
     "matmul_i8 matmul_f32 vq pack unpack bits_pack bits_unpack rowq_minmax rowq_mse actq "
     "hadamard"},
    {"bits", 'b', PTQ_FLAG_TEXT, "LIST", "of codes: 2,3,4,8 [4]"},
    {"group", 'g', PTQ_FLAG_TEXT, "N", "columns that share a scale, -1: a row [128]",
     .alias = "group-size"},
    {"table", 0, PTQ_FLAG_SWITCH, NULL, "products: codes index a table of values"},
    {"batch", 0, PTQ_FLAG_TEXT, "LIST", "tokens of a product: 1,8,24,128,512 [1]"},
    {"shape", 0, PTQ_FLAG_TEXT, "LIST", "of matrices, ROWSxCOLS [4096x11008]"},
    {"model", 'm', PTQ_FLAG_TEXT, "NAME",
     "shapes of its first block: llama-7b, a checkpoint, or FILE.ini"},
    {"isa", 0, PTQ_FLAG_TEXT, "NAME",
     "scalar, avx2, avxvnni, avx512, best, or all that have a kernel of their own [best]"},
    {"threads", 't', PTQ_FLAG_TEXT, "N", "[0: all]"},
    {"time", 0, PTQ_FLAG_TEXT, "SECONDS", "a row [2; --quick 0.5]"},
    {"quick", 0, PTQ_FLAG_SWITCH, NULL, "the table in less than a minute"},
    {"no-baselines", 0, PTQ_FLAG_SWITCH, NULL, "without OpenBLAS and oneDNN"},
    {"format", 0, PTQ_FLAG_TEXT, "F", "text, md, csv or jsonl [text]"},
    {"out", 'o', PTQ_FLAG_TEXT, "FILE", "write the table there [stdout]"},
    {"plot", 0, PTQ_FLAG_TEXT, "FILE", "draw the rows under the machine's limits, .svg or .png"},
    {"quiet", 'q', PTQ_FLAG_SWITCH, NULL, "no progress on stderr"},
    {NULL},
};
const struct ptq_verb ptq_verb_bench = {
    .name = "bench",
    .title = "Time the kernels against what this machine can do at that moment",
    .usage = "[--op NAMES] [--bits LIST] [--batch LIST] [--shape LIST | --model NAME] ...",
    .details =
        "Without --op, --bits, --batch and --table: a table of the usual formats and operations. "
        "Every row takes turns with short\nprobes of the machine and with its rivals (OpenBLAS "
        "fp32, "
        "oneDNN int8 where installed).\n"
        "  us      median of a pass over the whole matrix; +-%: half the distance of its "
        "quartiles\n"
        "  GB/s    bytes that have to move: codes, scales, zeros, tables; of quantization and "
        "packing "
        "input and output\n"
        "  Gop/s   a multiplication and an addition are two; Gval/s: weights (or values) a second\n"
        "  share   of the limit that binds: memory read (products, vq) or copied (the others), or "
        "arithmetic in registers\n          with the row's instruction set; best: by the fastest "
        "repetition, of the best probes; mem%, ops%: of either limit\n"
        "  cached  n = 1: time of the instructions alone, on data in caches, as a share of the "
        "time\n"
        "  xBLAS, xDNN: how many times as fast as these; - where their times spread too widely to "
        "tell\n"
        "Timed: the operation alone, weights from memory: copies of them are four times the last "
        "cache. Not timed: packing and\nquantizing what a product reads (rows of their own), first "
        "touches of pages, waking threads (once a repetition).\n"
        "Repetitions are marked and left out where the probes beside them were below 90 % of the "
        "best, "
        "or where a thread did not\nhave a processor for itself for 97 % of it; where fewer than "
        "three are left all count, and the row says so.\n"
        "CSV and JSON Lines have more columns. Exit codes: 0 ok, 2 usage, 6 no picture.\n"
        "  ptq bench --quick\n"
        "  ptq bench --model llama-7b --bits 2,3,4 --batch 1,8,128 --format csv -o speed.csv",
    .flags = flags,
    .run = run,
};
