/* Which reader reads a source. */
#include "model/tok_open.h"
#include "core/words.h"
#include "datasets/tensors.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef int reader(const char *path, struct ptq_arena *, struct ptq_tok_def *, struct ptq_status *);

static void read_bytes(const char *source, struct ptq_tok_def *def)
{
    *def = (struct ptq_tok_def){.kind = PTQ_TOK_BYTES, .source = source, .n = 256};
    def->bos = def->eos = def->unk = def->cls = def->sep = def->pad = -1;
}

static int read_h5(const char *path, struct ptq_arena *a, struct ptq_tok_def *def,
                   struct ptq_status *st)
{
    struct ptq_h5 *file;
    int code = ptq_h5_open(&file, path, PTQ_H5_READ, st);
    if (code != PTQ_OK)
        return code;
    code = ptq_tok_read_h5(file, a, def, st);
    ptq_h5_close(file, NULL);
    return code;
}

static int read_gguf(const char *path, struct ptq_arena *a, struct ptq_tok_def *def,
                     struct ptq_status *st)
{
    struct ptq_tensors *file;
    int code = ptq_tensors_open(&file, path, st);
    if (code != PTQ_OK)
        return code;
    code = ptq_tok_read_gguf(file->meta, path, a, def, st);
    ptq_tensors_close(file);
    return code;
}

/* ---- files ----------------------------------------------------------------------------------- */

static bool begins_with(const char *path, const char *magic, size_t n)
{
    char head[8] = {0};
    FILE *f = fopen(path, "rb");
    size_t got = f ? fread(head, 1, sizeof head, f) : 0;
    if (f)
        fclose(f);
    return got >= n && memcmp(head, magic, n) == 0;
}

static reader *reader_of(const char *path)
{
    static const struct {
        const char *end;
        reader *read;
    } by_name[] = {
        {"vocab.json", ptq_tok_read_vocab}, {"encoder.json", ptq_tok_read_vocab},
        {".json", ptq_tok_read_json},       {".txt", ptq_tok_read_wordlist},
        {".model", ptq_tok_read_spm},       {".bin", ptq_tok_read_llama2c},
    };
    if (begins_with(path, "\x89HDF\r\n\x1a\n", 8))
        return read_h5;
    if (begins_with(path, "GGUF", 4))
        return read_gguf;
    for (size_t i = 0; i < sizeof by_name / sizeof *by_name; i++)
        if (ptq_ends_with(path, by_name[i].end))
            return by_name[i].read;
    return NULL;
}

/* ---- folders --------------------------------------------------------------------------------- */

/* The most complete description first: vocab.json and vocab.txt say less than tokenizer.json. */
static int read_folder(const char *folder, struct ptq_arena *a, struct ptq_tok_def *def,
                       struct ptq_status *st)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", "vocab.json",
                                        "encoder.json", "vocab.txt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = ptq_arena_printf(a, st, "%s/%s", folder, names[i]);
        if (!path)
            return PTQ_ERR_MEMORY;
        if (access(path, F_OK) == 0)
            return reader_of(path)(path, a, def, st);
    }
    return PTQ_SKIP;
}

int ptq_tok_read(const char *source, struct ptq_arena *a, struct ptq_tok_def *def,
                 struct ptq_status *st)
{
    struct stat info;
    if (strcmp(source, "bytes") == 0) {
        read_bytes(source, def);
        return PTQ_OK;
    }
    if (stat(source, &info) != 0)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: cannot open: %s; check the path (or give \"bytes\")", source,
                              strerror(errno));
    if (S_ISDIR(info.st_mode))
        return read_folder(source, a, def, st);
    reader *read = S_ISREG(info.st_mode) ? reader_of(source) : NULL;
    if (!read)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: is no tokenizer that is known; supported: a folder or container that holds one, "
            "tokenizer.json, vocab.json with merges.txt, vocab.txt, *.model (SentencePiece), a "
            "llama2.c tok*.bin, *.gguf, bytes",
            source);
    return read(source, a, def, st);
}
