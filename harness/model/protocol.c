#include "model/protocol.h"
#include "core/words.h"
#include <stdio.h>
#include <string.h>

static const struct ptq_protocol protocols[] = {
    {.name = "gptq",
     .known = "2048, 4096",
     .window = 2048,
     .material = PTQ_OF_ROWS,
     .specials = true,
     .added = true,
     .title = "perplexity of the GPTQ, AWQ, OmniQuant, BoA tables",
     .rules = "tokenized once as a whole, the tokenizer's own special tokens around the whole text "
              "alone; windows of N tokens one after another, a shorter rest dropped, no BOS put "
              "before a window; positions 0 .. N-2 predict tokens 1 .. N-1; perplexity is exp of "
              "the mean of the windows' mean NLL"},
    {.name = "llamacpp",
     .known = "512",
     .window = 512,
     .material = PTQ_OF_PROMPT,
     .specials = true,
     .bos = PTQ_BOS_INSTEAD,
     .scored = PTQ_SCORE_HALF,
     .title = "llama.cpp's perplexity tool",
     .rules = "the raw file, a last newline dropped, tokenized once with the tokenizer's own "
              "special tokens, texts of special tokens being plain text; at least two chunks; "
              "chunks of N tokens one after another, a shorter rest dropped; where the tokenizer "
              "adds a BOS it stands in place of every chunk's first token; of a chunk the tokens "
              "behind its middle, floor(N/2)+1 .. N-1, are scored; perplexity is exp of the mean "
              "NLL of all scored tokens"},
    {.name = "lm-eval-word",
     .known = "",
     .material = PTQ_OF_PAGES,
     .added = true,
     .scored = PTQ_SCORE_ROLLING,
     .title = "the task wikitext of EleutherAI's evaluation harness (version 2)",
     .rules = "documents are pages, begun by lines '= Title ='; each is detokenized by the task's "
              "rules and tokenized by itself without special tokens; a prefix token (BOS, else "
              "EOS) goes before its first; windows of N inputs score the next N tokens, the last "
              "window of a page scores what is left behind as much context as N inputs hold; every "
              "token is scored once; word_perplexity is exp of the summed NLL over the words, "
              "byte_perplexity over the bytes of the pages before detokenization, a word being "
              "what a split at white space gives"},
    {.name = "bos",
     .known = "",
     .material = PTQ_OF_FILE,
     .added = true,
     .bos = PTQ_BOS_BEFORE,
     .title = "a BOS before every window, for models trained on single texts (llama2.c)",
     .rules = "the raw file tokenized once without special tokens; windows of a BOS and the next "
              "N-1 tokens one after another, a shorter rest dropped; every token but the BOS is "
              "scored"},
    {.name = "bytes",
     .known = "",
     .material = PTQ_OF_FILE,
     .title = "byte models over any file",
     .rules = "the file's bytes cut into whole windows of N one after another, a shorter rest "
              "dropped; the first byte of a window is unscored, no byte is put before it"},
    {.name = "ids",
     .known = "",
     .material = PTQ_OF_IDS,
     .title = "token ids as given",
     .rules = "token ids as given, a sequence a line or row, cut into windows of N, shorter ones "
              "scored whole; the first token of a window is unscored, no token is put before it"},
    {.name = "sentences",
     .known = "128",
     .window = 128,
     .material = PTQ_OF_SENTENCES,
     .specials = true,
     .added = true,
     .scored = PTQ_SCORE_EMBEDDING,
     .title = "embeddings of an encoder against those of its full-precision model",
     .rules = "the file (of JSON rows every row) line by line; a line that begins and ends with "
              "'=', a heading, is dropped; a line is cut behind every '.', '?' or '!' that white "
              "space follows; of the pieces, without the white space around them, those of fewer "
              "than 5 words (split at white space) and those that came before byte for byte are "
              "dropped; each is tokenized by itself with the tokenizer's own special tokens, the "
              "last tokens of one of more than N, special ones included, dropped before those "
              "behind it; its embedding is the mean of the last hidden states over all positions, "
              "special tokens included, divided by its Euclidean norm"},
    {.name = "facts",
     .known = "256",
     .window = 256,
     .material = PTQ_OF_FACTS,
     .title = "the demo model's generated language",
     .rules = "windows of N bytes of the facts language, each by itself; byte 0 is unscored, all "
              "others are scored"},
};
enum { N_PROTOCOLS = sizeof protocols / sizeof *protocols };

const struct ptq_protocol *ptq_protocols(int *n)
{
    *n = N_PROTOCOLS;
    return protocols;
}

const struct ptq_protocol *ptq_protocol_named(const char *name)
{
    for (int i = 0; i < N_PROTOCOLS; i++)
        if (strcmp(protocols[i].name, name) == 0)
            return &protocols[i];
    return NULL;
}

int ptq_protocol_parse(const char *text, const struct ptq_protocol **out, int64_t *window,
                       struct ptq_status *st)
{
    const char *words[N_PROTOCOLS + 1] = {NULL};
    *window = 0;
    if ((*out = ptq_protocol_named(text)))
        return PTQ_OK;
    for (int i = 0; i < N_PROTOCOLS; i++) {
        const struct ptq_protocol *p = &protocols[i];
        size_t n = strlen(p->name);
        words[i] = p->name;
        if (strncmp(text, p->name, n) == 0 && text[n] == '-') {
            *out = p;
            return ptq_parse_i64(text + n + 1, "the window of the protocol", 2, INT32_MAX, window,
                                 st);
        }
    }
    return ptq_unknown_word("protocol", text, words, st);
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* N stands alone: no letter beside it. */
static bool is_window(const char *rules, const char *at)
{
    return *at == 'N' && (at == rules || !is_letter(at[-1])) && !is_letter(at[1]);
}

const char *ptq_rules_of_window(const char *rules, int64_t window, struct ptq_arena *arena,
                                struct ptq_status *st)
{
    char number[24];
    int digits = snprintf(number, sizeof number, "%lld", (long long)window);
    int64_t n = 1;
    for (const char *r = rules; *r; r++)
        n += is_window(rules, r) ? digits : 1;
    char *out = ptq_arena_alloc(arena, st, n, 1), *to = out;
    for (const char *r = rules; out && *r; r++) {
        if (is_window(rules, r)) {
            memcpy(to, number, (size_t)digits);
            to += digits;
        } else {
            *to++ = *r;
        }
    }
    return out;
}

const char *ptq_protocol_rules(const struct ptq_protocol *p, int64_t window,
                               struct ptq_arena *arena, struct ptq_status *st)
{
    return ptq_rules_of_window(p->rules, window, arena, st);
}

static const struct ptq_draw_rule draws[] = {
    [PTQ_DRAW_FIRST] = {"first", "windows in the order of the text",
                        "windows one after another from the text's first token"},
    [PTQ_DRAW_WINDOWS] = {"windows", "windows anywhere in the text",
                          "windows at positions drawn uniformly (splitmix64 of the seed, with "
                          "replacement) in the tokens of the text"},
    [PTQ_DRAW_GPTQ] = {"gptq-windows", "the GPTQ code's draw from WikiText-2 and PTB",
                       "windows of N at positions randint(0, tokens - N - 1) of Python's "
                       "random.seed(seed) in the tokens of the text"},
    [PTQ_DRAW_DOCUMENTS] =
        {"gptq-documents", "the GPTQ code's draw from C4",
         "a row randint(0, rows - 1) of Python's random.seed(seed), tokenized by itself with the "
         "tokenizer's own special tokens, drawn again until it has more than N tokens; of it the N "
         "from randint(0, tokens - N - 1) on"},
    [PTQ_DRAW_SENTENCES] = {"sentences", "sentences of the text, for encoders",
                            "the sentences of the protocol sentences, drawn one after another "
                            "without repetition (splitmix64 of the seed)"},
};
enum { N_DRAWS = sizeof draws / sizeof *draws };

const struct ptq_draw_rule *ptq_draw_rules(int *n)
{
    *n = N_DRAWS;
    return draws;
}

int ptq_draw_parse(const char *name, enum ptq_draw_kind *out, struct ptq_status *st)
{
    const char *words[N_DRAWS + 1] = {NULL};
    for (int i = 0; i < N_DRAWS; i++) {
        words[i] = draws[i].name;
        *out = (enum ptq_draw_kind)i;
        if (strcmp(name, draws[i].name) == 0)
            return PTQ_OK;
    }
    return ptq_unknown_word("draw", name, words, st);
}
