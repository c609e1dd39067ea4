/* synth_facts.c: `ptq synth facts`: text of the demo language and its exact entropy. */
#include "core/words.h"
#include "datasets/facts.h"
#include "datasets/synth.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { SEED, WINDOWS, OUT, ENTROPY };
static const struct ptq_synth_opt opts[] = {
    [SEED] = {"seed", "5555",
              "stream of documents: 1002 training, 4444 calibration, 5555 evaluation, 8888 tuning"},
    [WINDOWS] = {"windows", "256", "windows of 256 bytes, 1 to 1000000"},
    [OUT] = {"out", "", "file for the text; without it the text goes to stdout"},
    [ENTROPY] = {"entropy", "0", "1: print the exact entropy in bits a byte instead of the text"},
    {NULL, NULL, NULL},
};

static int write_text(FILE *f, const char *path, const struct ptq_facts_window *w, int64_t n,
                      struct ptq_status *st)
{
    for (int64_t i = 0; i < n; i++)
        if (fwrite(w[i].text, 1, sizeof w[i].text, f) != sizeof w[i].text)
            break;
    if (fflush(f) != 0 || ferror(f))
        return ptq_status_set(st, PTQ_ERR_IO, "%s: writing failed: %s; is the disk full?", path,
                              strerror(errno));
    return PTQ_OK;
}

static int write_file(const char *path, const struct ptq_facts_window *w, int64_t n,
                      struct ptq_status *st)
{
    FILE *f = fopen(path, "wb");
    if (!f)
        return ptq_status_set(st, PTQ_ERR_IO, "%s: cannot create: %s; check the folder", path,
                              strerror(errno));
    int rc = write_text(f, path, w, n, st);
    if (fclose(f) != 0 && rc == PTQ_OK)
        rc = ptq_status_set(st, PTQ_ERR_IO, "%s: writing failed: %s; is the disk full?", path,
                            strerror(errno));
    return rc;
}

static void print_entropy(FILE *f, const struct ptq_facts_window *w, int64_t n)
{
    double bits = 0;
    for (int64_t i = 0; i < n; i++)
        bits += w[i].bits;
    fprintf(f, "%lld windows of %d bytes, exact entropy %.12f bits/byte over bytes 1..%d of each\n",
            (long long)n, PTQ_FACTS_WINDOW_BYTES, bits / (double)n / (PTQ_FACTS_WINDOW_BYTES - 1),
            PTQ_FACTS_WINDOW_BYTES - 1);
}

static int run(const char *const *v, void *text_out, struct ptq_status *st)
{
    int64_t seed, n;
    bool entropy;
    if (ptq_parse_i64(v[SEED], "--seed", 0, INT64_MAX, &seed, st) ||
        ptq_parse_i64(v[WINDOWS], "--windows", 1, 1000000, &n, st) ||
        ptq_parse_bool(v[ENTROPY], "--entropy", &entropy, st))
        return PTQ_ERR_USAGE;
    struct ptq_arena a;
    struct ptq_facts_window *w;
    ptq_arena_init(&a, 0);
    int rc = ptq_facts_windows((uint64_t)seed, n, &a, &w, st);
    if (rc == PTQ_OK && *v[OUT])
        rc = write_file(v[OUT], w, n, st);
    else if (rc == PTQ_OK && !entropy)
        rc = write_text(text_out, "stdout", w, n, st);
    if (rc == PTQ_OK && (entropy || *v[OUT]))
        print_entropy(text_out, w, n);
    ptq_arena_clear(&a);
    return rc;
}

const struct ptq_synth ptq_synth_facts = {
    .name = "facts",
    .title = "text of the demo model's language (datasets/README.md)",
    .opts = opts,
    .run = run,
};
