/* cmd_doctor.c: `ptq doctor`: what this machine and this build are, and what is wrong with them. */
#include "cli/cli.h"
#include "core/clock.h"
#include "core/linalg.h"
#include "core/paths.h"
#include "version.inc"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct doctor {
    struct ptq_table *table;
    int n_problems;
};

static void say(struct doctor *d, const char *what, const char *value, const char *problem)
{
    const char *row[] = {what, value, problem ? problem : "ok"};
    ptq_table_row(d->table, row);
    d->n_problems += problem != NULL;
}

/* Rate of the tile arithmetic on n x n x n products: the number that every time prediction stands
 * on. */
static double gemm_gflops(struct ptq_pool *pool, int64_t n, struct ptq_status *st)
{
    struct ptq_arena a;
    ptq_arena_init(&a, 0);
    float *x = ptq_arena_alloc(&a, st, 3 * n * n, sizeof *x);
    double best = 0;
    for (int64_t i = 0; x && i < 2 * n * n; i++)
        x[i] = (float)(i % 17) - 8;
    for (int r = 0; x && r < 5; r++) {
        struct ptq_gemm_f32 g = {.m = n,
                                 .n = n,
                                 .k = n,
                                 .tb = true,
                                 .alpha = 1,
                                 .a = x,
                                 .lda = n,
                                 .b = x + n * n,
                                 .ldb = n,
                                 .c = x + 2 * n * n,
                                 .ldc = n};
        int64_t t = ptq_now_ns();
        if (ptq_gemm_f32(pool, &g, st))
            break;
        double rate = 2.0 * (double)n * (double)n * (double)n / (double)(ptq_now_ns() - t);
        best = rate > best ? rate : best;
    }
    ptq_arena_clear(&a);
    return best;
}

static void check_blas(struct doctor *d, const struct ptq_machine *m)
{
    char text[400];
    say(d, "cpu", m->cpu, NULL);
    snprintf(text, sizeof text, "%s in use, %s offered", ptq_isa_name(m->isa),
             ptq_isa_name(m->cpu_isa));
    say(d, "isa", text, NULL);
    say(d, "blas library", m->blas_library,
        strstr(m->blas_library, "openblas") || strstr(m->blas_library, "blas.so")
            ? NULL
            : "cblas_sgemm is not served by OpenBLAS: check update-alternatives --config "
              "libblas.so.3-x86_64-linux-gnu");
    say(d, "blas build", m->blas_config, NULL);
    snprintf(text, sizeof text, "%s%s", m->blas_core,
             m->blas_repaired ? " (repaired: the library would have chosen a lower one)" : "");
    say(d, "blas core", text, NULL);
    if (*m->blas_inherited)
        say(d, "OPENBLAS_CORETYPE", m->blas_inherited, NULL);
}

static void check_files(struct doctor *d)
{
    static const char *const files[] = {"datasets/demo.h5", "configs/demo.ini",
                                        "configs/presets.ini"};
    struct ptq_arena a;
    ptq_arena_init(&a, 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = NULL;
        struct ptq_status own = {0};
        int code = ptq_data_path(files[i], &a, &path, &own);
        say(d, files[i], code ? "-" : path, code ? own.text : NULL);
    }
    ptq_arena_clear(&a);
}

static bool on_path(const char *program)
{
    const char *path = getenv("PATH");
    char file[4096];
    while (path && *path) {
        size_t n = strcspn(path, ":");
        snprintf(file, sizeof file, "%.*s/%s", (int)n, path, program);
        if (access(file, X_OK) == 0)
            return true;
        path += n + (path[n] == ':');
    }
    return false;
}

static int run(const struct ptq_args *args, struct ptq_status *st)
{
    static const char *const columns[] = {"what", "value", "verdict"};
    enum ptq_format format;
    int code = ptq_format_parse(ptq_arg(args, "format"), &format, st);
    if (code)
        return code;
    struct doctor d = {.table = ptq_table_new(3, columns, NULL)};
    struct ptq_pool *pool = NULL;
    if (!d.table)
        return ptq_status_nomem(st, "a table", 0);
    if ((code = ptq_pool_new(&pool, 0, st)) == 0) {
        char text[200];
        say(&d, "ptq", PTQ_COMMIT " (" PTQ_BUILD ", " PTQ_COMPILER ")", NULL);
        check_blas(&d, args->machine);
        snprintf(text, sizeof text, "%d threads, %.1f GiB of memory", ptq_pool_threads(pool),
                 (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGE_SIZE) / (1 << 30));
        say(&d, "machine", text, NULL);
        snprintf(text, sizeof text, "%.0f GFLOP/s one thread, %.0f all (fp32, n = 1536)",
                 gemm_gflops(NULL, 1536, st), gemm_gflops(pool, 1536, st));
        say(&d, "tile products", text, NULL);
        say(&d, "gnuplot", on_path("gnuplot") ? "found" : "-",
            on_path("gnuplot") ? NULL
                               : "reports will have no pictures: apt-get install gnuplot-nox");
        check_files(&d);
        ptq_table_print(d.table, format, stdout);
    }
    ptq_pool_free(pool);
    ptq_table_free(d.table);
    return code ? code : d.n_problems ? 100 + 2 : PTQ_OK;
}

static const struct ptq_flag flags[] = {
    {"format", 0, PTQ_FLAG_TEXT, "F", "text, md, csv or jsonl [text]", NULL},
    {"portable", 0, PTQ_FLAG_SWITCH, NULL,
     "AVX2 kernels and the Haswell BLAS core: the same bits on every AVX2 machine", NULL},
    {NULL},
};
const struct ptq_verb ptq_verb_doctor = {
    .name = "doctor",
    .title = "Say what this machine and build are, and what is wrong with them",
    .usage = "[--format F] [--portable]",
    .details = "CPU, instruction set, BLAS library and core, threads, speed of the tile products, "
               "data files, gnuplot.\n"
               "Exit code 0 when all is well, 2 when a line carries a problem.",
    .flags = flags,
    .min_positional = 0,
    .max_positional = 0,
    .run = run,
};
