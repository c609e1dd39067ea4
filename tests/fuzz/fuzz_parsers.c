/* fuzz_parsers.c: every parser of untrusted bytes that is our own, fed mutated seeds. `make fuzz
 * BUILD=asan [FUZZ_SECONDS=60]`. A run is a function of its seed, which is printed; a crash or a
 * sanitizer's report is the failure. The library behind HDF5 files is not ours and not fuzzed here.
 * usage: fuzz_parsers SECONDS [SEED] */
#include "core/clock.h"
#include "core/ini.h"
#include "core/rng.h"
#include "core/words.h"
#include "datasets/llama2c.h"
#include "datasets/npy.h"
#include "model/text.h"
#include "quant/form.h"
#include "sweep/row.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_BYTES = 1 << 14 };

struct input {
    const uint8_t *at;
    int64_t n;
    const char *path; /* a file that holds the same bytes */
};

static void feed_ini(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    struct ptq_ini ini;
    if (ptq_ini_parse("fuzz.ini", (const char *)in->at, (size_t)in->n, a, &ini, st) == PTQ_OK)
        ptq_ini_find(&ini, "sweep", "bits");
}

static void feed_words(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    char text[MAX_BYTES + 1];
    int64_t *list, n, bytes;
    char **fields;
    memcpy(text, in->at, (size_t)in->n);
    text[in->n] = 0;
    ptq_list_i64(text, "list", a, &list, &n, st);
    ptq_split(text, ',', "fields", a, &fields, &n, st);
    ptq_parse_bytes(text, "size", &bytes, st);
}

static void feed_npy(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    struct ptq_npy_info info;
    int64_t *ids;
    float *x;
    ptq_npy_read_i64(in->path, a, &ids, &info, st);
    ptq_npy_read_f32(in->path, a, &x, &info, st);
}

static void feed_llama2c(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    struct ptq_llama2c *file = NULL;
    float *x;
    if (ptq_llama2c_open(&file, in->path, st) != PTQ_OK)
        return;
    ptq_llama2c_read(file, "blk.0.attn_q", a, &x, st);
    ptq_llama2c_close(file);
}

static void feed_rows(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    struct ptq_rows rows = {0};
    (void)a;
    if (ptq_rows_read_file(in->path, &rows, st) == PTQ_OK)
        for (int64_t i = 0; i < rows.n; i++)
            ptq_row_metric(rows.at[i], "ppl");
    ptq_rows_release(&rows);
}

static void feed_ids(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    const struct ptq_model_info info = {
        .name = "fuzz", .vocab_size = 300, .max_context = 64, .tokenizer = "bytes"};
    struct ptq_text text;
    char source[4200];
    snprintf(source, sizeof source, "ids:%s", in->path);
    const struct ptq_text_request ask = {.source = source, .window = 16};
    ptq_text_load(&info, &ask, a, &text, st);
}

/* The first bytes are the head, the rest the packed form. */
static void feed_form(const struct input *in, struct ptq_arena *a, struct ptq_status *st)
{
    struct ptq_form_head head;
    struct ptq_quant q;
    if (in->n < (int64_t)sizeof head)
        return;
    memset(&head, 0, sizeof head);
    int64_t *field[] = {&head.rows, &head.cols, &head.part[0].group_cols,
                        &head.part[0].groups_per_row, &head.part[0].n_groups};
    int *small[] = {&head.n_parts,           &head.part[0].kind,     &head.part[0].bits,
                    &head.part[0].scale_fmt, &head.part[0].zero_fmt, &head.part[0].zero_bits};
    for (int i = 0; i < 5; i++)
        memcpy(field[i], in->at + 8 * i, (in->at[48 + i] & 1) ? 8 : 1);
    for (int i = 0; i < 6; i++)
        memcpy(small[i], in->at + 56 + 4 * i, (in->at[96 + i] & 1) ? 4 : 1);
    head.part[0].zero_signed = in->at[102] & 1;
    head.part[0].has_perm = in->at[103] & 1;
    ptq_quant_unpack(&head, in->at + sizeof head, in->n - (int64_t)sizeof head, a, &q, st);
}

static const struct target {
    const char *name, *seed;
    int64_t seed_bytes;   /* of seed; 0: strlen */
    int64_t padded_bytes; /* zeros up to here follow; 0: none */
    void (*feed)(const struct input *, struct ptq_arena *, struct ptq_status *);
} targets[] = {
    {"ini",
     "[sweep]\nbits = 2-4,8 ; widths\nmethods = rtn, gptq:percdamp=0.01|0.1\n[run]\nout = "
     "${HOME}/x\n",
     0, 0, feed_ini},
    {"words", "2-4,8,-1,512M", 0, 0, feed_words},
    {"npy",
     "\x93NUMPY\1\0v\0{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }"
     "                                                          \n"
     "\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\5\0\0\0\6\0\0\0",
     152, 0, feed_npy},
    {"llama2c", "\4\0\0\0\10\0\0\0\1\0\0\0\2\0\0\0\1\0\0\0\10\0\0\0\20\0\0\0", 28, 2048,
     feed_llama2c},
    {"rows",
     "{\"schema\":1,\"kind\":\"model\",\"key\":\"a\",\"metrics\":{\"ppl\":1.5}}\n{\"schema\":1,"
     "\"key\":\"b\"}\n{\"torn",
     0, 0, feed_rows},
    {"ids", "1 2 3,4\n17 250\n\n299 0\n", 0, 0, feed_ids},
    {"form", "\4\0\0\0\0\0\0\0\10\0\0\0\0\0\0\0\10\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\4", 33, 1024,
     feed_form},
};
enum { N_TARGETS = sizeof targets / sizeof *targets };

/* A few edits of the seed: flipped bits, extreme bytes, cuts, repeats, copies from elsewhere in it.
 */
static int64_t mutate(struct ptq_rng *rng, uint8_t *at, int64_t n)
{
    static const uint8_t extreme[] = {0, 1, 0x7f, 0x80, 0xff, '\n', '[', '{', '-', '9', '"', '\\'};
    for (uint64_t edits = ptq_rng_below(rng, 8); edits > 0 && n > 0; edits--) {
        int64_t i = (int64_t)ptq_rng_below(rng, (uint64_t)n),
                len = 1 + (int64_t)ptq_rng_below(rng, 16);
        switch (ptq_rng_below(rng, 6)) {
        case 0: at[i] ^= (uint8_t)(1u << ptq_rng_below(rng, 8)); break;
        case 1: at[i] = extreme[ptq_rng_below(rng, sizeof extreme)]; break;
        case 2: n = i; break;
        case 3:
            if (n + len <= MAX_BYTES) {
                memmove(at + i + len, at + i, (size_t)(n - i));
                n += len;
            }
            break;
        case 4:
            memset(at + i, extreme[ptq_rng_below(rng, sizeof extreme)],
                   (size_t)(len < n - i ? len : n - i));
            break;
        default: at[i] = at[ptq_rng_below(rng, (uint64_t)n)];
        }
    }
    return n;
}

static int run_one(const struct target *t, struct ptq_rng *rng, int fd, const char *path)
{
    uint8_t bytes[MAX_BYTES] = {0};
    int64_t n = t->seed_bytes ? t->seed_bytes : (int64_t)strlen(t->seed);
    memcpy(bytes, t->seed, (size_t)n);
    n = mutate(rng, bytes, t->padded_bytes ? t->padded_bytes : n);
    if (ftruncate(fd, 0) || pwrite(fd, bytes, (size_t)n, 0) != n)
        return 1;
    struct ptq_arena a;
    struct ptq_status st = {0};
    const struct input in = {bytes, n, path};
    ptq_arena_init(&a, (size_t)64 << 20);
    t->feed(&in, &a, &st);
    ptq_arena_clear(&a);
    return 0;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 10;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)ptq_now_ns(), n = 0;
    struct ptq_rng rng = {seed};
    char path[64];
    int fd = memfd_create("fuzz", 0);
    if (fd < 0)
        return 1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    for (int64_t begin = ptq_now_ns(); (double)(ptq_now_ns() - begin) < seconds * 1e9; n++)
        if (run_one(&targets[n % N_TARGETS], &rng, fd, path)) {
            fprintf(stderr, "cannot write the input\n");
            return 1;
        }
    printf("%llu inputs, %d parsers, no crash\n", (unsigned long long)n, N_TARGETS);
    close(fd);
    return 0;
}
