#include "model/tok_pretok.h"
#include "core/size.h"
#include "core/words.h"
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

const char ptq_pattern_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* Most steps of the matcher from one place: patterns of real tokenizers take a few. */
enum { MATCH_LIMIT = 1000000, JIT_STACK_START = 32 << 10, JIT_STACK_MOST = 8 << 20 };

struct ptq_splitter {
    const struct ptq_tok_def *def;
    pcre2_code *code[PTQ_MAX_STEPS]; /* NULL: the step does not split */
};
struct ptq_split_call {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

static void message_of(int error, char out[128])
{
    if (pcre2_get_error_message(error, (PCRE2_UCHAR *)out, 128) < 0)
        strcpy(out, "no reason given");
}

static int compile(const char *pattern, const char *source, pcre2_code **out, struct ptq_status *st)
{
    struct ptq_arena a;
    char *translated, reason[128], text[PTQ_PRINTABLE];
    int error;
    PCRE2_SIZE where;
    ptq_arena_init(&a, 0);
    int code = ptq_pattern_translate(pattern, source, &a, &translated, st);
    if (code == PTQ_OK) {
        *out = pcre2_compile((PCRE2_SPTR)translated, PCRE2_ZERO_TERMINATED,
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                             &error, &where, NULL);
        if (!*out) {
            message_of(error, reason);
            ptq_printable(pattern, text);
            code = ptq_status_set(st, PTQ_ERR_USAGE,
                                  "%s: pre-tokenizer pattern '%s' cannot be used: %s", source, text,
                                  reason);
        } else
            (void)pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE); /* without it: slower, the same */
    }
    ptq_arena_clear(&a);
    return code;
}

int ptq_splitter_new(struct ptq_splitter **out, const struct ptq_tok_def *def,
                     struct ptq_status *st)
{
    struct ptq_splitter *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return ptq_status_nomem(st, "a pre-tokenizer", sizeof *s);
    s->def = def;
    for (int i = 0; i < def->n_steps; i++) {
        int code = def->step[i].pattern
                       ? compile(def->step[i].pattern, def->source, &s->code[i], st)
                       : PTQ_OK;
        if (code != PTQ_OK) {
            ptq_splitter_free(s);
            return code;
        }
    }
    *out = s;
    return PTQ_OK;
}

void ptq_splitter_free(struct ptq_splitter *s)
{
    for (int i = 0; s && i < PTQ_MAX_STEPS; i++)
        pcre2_code_free(s->code[i]);
    free(s);
}

int ptq_split_call_new(struct ptq_split_call **out, struct ptq_status *st)
{
    struct ptq_split_call *c = calloc(1, sizeof *c);
    *out = NULL;
    if (c) {
        c->match = pcre2_match_data_create(1, NULL);
        c->context = pcre2_match_context_create(NULL);
        c->stack = pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_MOST, NULL);
    }
    if (!c || !c->match || !c->context) {
        ptq_split_call_free(c);
        return ptq_status_nomem(st, "a pre-tokenizer", JIT_STACK_START);
    }
    pcre2_set_match_limit(c->context, MATCH_LIMIT);
    if (c->stack) /* NULL where there is no JIT */
        pcre2_jit_stack_assign(c->context, NULL, c->stack);
    *out = c;
    return PTQ_OK;
}

void ptq_split_call_free(struct ptq_split_call *c)
{
    if (!c)
        return;
    pcre2_match_data_free(c->match);
    pcre2_match_context_free(c->context);
    pcre2_jit_stack_free(c->stack);
    free(c);
}

/* ---- running -------------------------------------------------------------------------------- */

struct run {
    const struct ptq_splitter *splitter;
    struct ptq_split_call *call;
    const struct ptq_pieces *pieces;
    struct ptq_status *st;
};

static int run_step(struct run *r, int k, const char *text, int64_t bytes);

/* The next match at or behind `from` into *begin and *end; PTQ_SKIP: none. */
static int next_match(struct run *r, int k, const char *text, int64_t bytes, int64_t from,
                      int64_t *begin, int64_t *end)
{
    int rc = pcre2_match(r->splitter->code[k], (PCRE2_SPTR)text, (PCRE2_SIZE)bytes,
                         (PCRE2_SIZE)from, PCRE2_NO_UTF_CHECK, r->call->match, r->call->context);
    if (rc == PCRE2_ERROR_NOMATCH)
        return PTQ_SKIP;
    if (rc < 0) {
        char reason[128];
        message_of(rc, reason);
        return ptq_status_set(
            r->st, PTQ_ERR_USAGE,
            "%s: pre-tokenizer step %d takes too long or fails behind byte %lld of "
            "a text: %s",
            r->splitter->def->source, k + 1, (long long)from, reason);
    }
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(r->call->match);
    *begin = (int64_t)at[0];
    *end = (int64_t)at[1];
    return PTQ_OK;
}

static int64_t after_character(const char *text, int64_t bytes, int64_t at)
{
    for (at++; at < bytes && ((unsigned char)text[at] & 0xC0) == 0x80;)
        at++;
    return at;
}

/* What lies between matches, then the match. An empty match ends a piece and is none. */
static int split(struct run *r, int k, const char *text, int64_t bytes)
{
    enum ptq_split_kind kind = r->splitter->def->step[k].kind;
    int64_t done = 0, from = 0, begin = 0, end = 0;
    int code = PTQ_OK;
    while (code == PTQ_OK && from <= bytes) {
        code = next_match(r, k, text, bytes, from, &begin, &end);
        if (code == PTQ_SKIP)
            break;
        if (code == PTQ_OK && kind != PTQ_SPLIT_MATCHES)
            code = run_step(r, k + 1, text + done, begin - done);
        if (code == PTQ_OK && kind != PTQ_SPLIT_REMOVED)
            code = run_step(r, k + 1, text + begin, end - begin);
        done = end;
        from = end > begin ? end : after_character(text, bytes, end);
    }
    if (code == PTQ_SKIP || code == PTQ_OK)
        code = kind == PTQ_SPLIT_MATCHES ? PTQ_OK : run_step(r, k + 1, text + done, bytes - done);
    return code;
}

static int run_prefixed(struct run *r, int k, const char *text, int64_t bytes)
{
    int64_t room;
    char *copy = ptq_size_add(bytes, 1, &room) ? malloc((size_t)room) : NULL;
    if (!copy)
        return ptq_status_nomem(r->st, "a text", (size_t)bytes);
    copy[0] = ' ';
    memcpy(copy + 1, text, (size_t)bytes);
    int code = r->splitter->code[k] ? split(r, k, copy, room) : run_step(r, k + 1, copy, room);
    free(copy);
    return code;
}

static int run_step(struct run *r, int k, const char *text, int64_t bytes)
{
    if (bytes == 0)
        return PTQ_OK;
    if (k == r->splitter->def->n_steps)
        return r->pieces->piece(r->pieces->arg, text, bytes, r->st);
    if (r->splitter->def->step[k].add_prefix_space && text[0] != ' ')
        return run_prefixed(r, k, text, bytes);
    return r->splitter->code[k] ? split(r, k, text, bytes) : run_step(r, k + 1, text, bytes);
}

int ptq_splitter_run(const struct ptq_splitter *s, struct ptq_split_call *call, const char *text,
                     int64_t bytes, const struct ptq_pieces *pieces, struct ptq_status *st)
{
    struct run r = {s, call, pieces, st};
    return run_step(&r, 0, text, bytes);
}

/* ---- by name --------------------------------------------------------------------------------- */

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
#define REST         "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
static const char llama3[] = CONTRACTIONS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" REST;
static const char qwen2[] = CONTRACTIONS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" REST;
static const char bloom[] = " ?[^(\\s|[.,!?…。，、।۔،])]+";

/* GGUF's words, several for one rule: that of GPT-2, the same behind single digits, and those of
 * later families. */
static const struct {
    const char *name, *pattern[2];
    bool ignore_merges, nfc;
} named[] = {
    {"gpt-2", {ptq_pattern_gpt2}, false, false},
    {"phi-2", {ptq_pattern_gpt2}, false, false},
    {"mpt", {ptq_pattern_gpt2}, false, false},
    {"olmo", {ptq_pattern_gpt2}, false, false},
    {"smollm", {"\\p{N}", ptq_pattern_gpt2}, false, false},
    {"starcoder", {"\\p{N}", ptq_pattern_gpt2}, false, false},
    {"refact", {"\\p{N}", ptq_pattern_gpt2}, false, false},
    {"codeshell", {"\\p{N}", ptq_pattern_gpt2}, false, false},
    {"llama-bpe", {llama3}, true, false},
    {"llama3", {llama3}, true, false},
    {"llama-v3", {llama3}, true, false},
    {"qwen2", {qwen2}, false, true},
    {"deepseek-r1-qwen", {qwen2}, false, true},
    {"bloom", {bloom}, false, false},
};
enum { N_NAMED = sizeof named / sizeof *named };

int ptq_pretok_named(const char *name, const char *source, struct ptq_tok_def *def,
                     struct ptq_status *st)
{
    const char *valid[N_NAMED + 1] = {0};
    for (int i = 0; i < N_NAMED; i++) {
        valid[i] = named[i].name;
        if (strcmp(name, named[i].name) != 0)
            continue;
        def->n_steps = 0;
        for (int k = 0; k < 2 && named[i].pattern[k]; k++)
            def->step[def->n_steps++] =
                (struct ptq_pretok){named[i].pattern[k], PTQ_SPLIT_ISOLATED, false};
        def->norm = named[i].nfc ? PTQ_NORM_NFC : PTQ_NORM_NONE;
        def->ignore_merges = named[i].ignore_merges;
        return PTQ_OK;
    }
    return ptq_unknown_word_at(source, "pre-tokenizer", name, valid, st);
}
