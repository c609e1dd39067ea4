/* tokenizer.h: text to token ids and back, as the model's own tokenizer does it. Opened from what
 * comes with a checkpoint; ids equal those of the `tokenizers` and sentencepiece libraries. Files
 * are untrusted. A tokenizer is read-only after open and may be shared by threads. */
#ifndef PTQ_MODEL_TOKENIZER_H
#define PTQ_MODEL_TOKENIZER_H
#include "core/arena.h"
#include "datasets/h5.h"

struct ptq_tokenizer;
struct ptq_tokenizer_info {
    const char
        *kind; /* "bytes" "bpe" (byte-level) "spm" (SentencePiece BPE) "llama2c" "wordpiece" */
    const char *source;
    int64_t vocab_size;                   /* ids are 0 .. vocab_size - 1 */
    int32_t bos, eos, unk, cls, sep, pad; /* -1: none */
    int n_before, n_after; /* tokens the tokenizer itself puts around a text (BOS; CLS, SEP) */
    int32_t before[4], after[4];
    char key[33]; /* of everything that decides ids */
};

/* source: a Hugging Face folder, a tokenizer.json, vocab.json (merges.txt beside it), vocab.txt,
 * *.model (SentencePiece), a llama2.c tok*.bin, a .gguf, a container with /tokenizer, or "bytes".
 * PTQ_SKIP (no status set): the source is a folder or container that holds no tokenizer.
 * Normalizers, pre-tokenizers and models that are not implemented are PTQ_ERR_USAGE with their
 * name: never another tokenization. */
int ptq_tokenizer_open(struct ptq_tokenizer **, const char *source, struct ptq_status *);
void ptq_tokenizer_close(struct ptq_tokenizer *); /* NULL is fine */
const struct ptq_tokenizer_info *ptq_tokenizer_info(const struct ptq_tokenizer *);

struct ptq_encode {
    const char *text; /* UTF-8; invalid bytes are replaced by U+FFFD as Python's decoder does */
    int64_t bytes;
    bool specials; /* put info.before and info.after around the text */
    bool added; /* texts of special tokens ("<|endoftext|>") become their id; false: plain text */
};
/* Ids in the arena. A text of many megabytes is fine. */
int ptq_tokenizer_encode(const struct ptq_tokenizer *, const struct ptq_encode *,
                         struct ptq_arena *, int32_t **ids, int64_t *n, struct ptq_status *);
/* The bytes that ids stand for (special tokens by their text), NUL-terminated, in the arena. */
int ptq_tokenizer_decode(const struct ptq_tokenizer *, const int32_t *ids, int64_t n,
                         struct ptq_arena *, char **text, int64_t *bytes, struct ptq_status *);
/* /tokenizer of a container (SCHEMA.md), from which open makes the same tokenizer with the same
 * key. */
int ptq_tokenizer_write(const struct ptq_tokenizer *, struct ptq_h5 *, struct ptq_status *);
#endif
