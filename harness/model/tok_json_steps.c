/* The parts of tokenizer.json around the model. Each is an object with a type, or a Sequence of
 * them. What is not known is refused by name. */
#include "core/words.h"
#include "model/tok_json.h"
#include "model/tok_pretok.h"
#include <stdio.h>
#include <string.h>

typedef int part_reader(struct ptq_tok_reading *, const json_t *);

/* Calls read for the part, or for every part of a Sequence; list: where those lie. */
static int each_part(struct ptq_tok_reading *r, const json_t *part, const char *list, int depth,
                     part_reader *read)
{
    int code = PTQ_OK;
    size_t i;
    json_t *inner;
    if (!part || json_is_null(part))
        return PTQ_OK;
    if (strcmp(ptq_json_word(part, "type", ""), "Sequence") != 0)
        return read(r, part);
    if (depth > 8)
        return ptq_status_set(r->st, PTQ_ERR_USAGE,
                              "%s: a Sequence in a Sequence in a ... is too deep", r->path);
    json_array_foreach(json_object_get(part, list), i, inner) if (code == PTQ_OK) code =
        each_part(r, inner, list, depth + 1, read);
    return code;
}

static int unknown(const struct ptq_tok_reading *r, const char *what, const json_t *part,
                   const char *supported)
{
    char shown[PTQ_PRINTABLE];
    ptq_printable(ptq_json_word(part, "type", "(no type)"), shown);
    return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: %s '%s' is not supported; supported: %s",
                          r->path, what, shown, supported);
}

/* ---- normalizer ------------------------------------------------------------------------------ */

static const char spm_space[] = "\xE2\x96\x81"; /* U+2581 */
#define NORMALIZERS                                                                                \
    "NFC (byte-level BPE), Prepend and Replace of U+2581 (SentencePiece), BertNormalizer and "     \
    "Lowercase (WordPiece), Sequence"

static int bert_normalizer(struct ptq_tok_def *d, const json_t *part)
{
    d->norm = PTQ_NORM_BERT;
    d->lower_case = ptq_json_yes(part, "lowercase", true);
    d->strip_accents = ptq_json_yes(part, "strip_accents", d->lower_case);
    d->split_cjk = ptq_json_yes(part, "handle_chinese_chars", true);
    d->clean_text = ptq_json_yes(part, "clean_text", true);
    return PTQ_OK;
}

static int one_normalizer(struct ptq_tok_reading *r, const json_t *part)
{
    struct ptq_tok_def *d = r->def;
    const char *type = ptq_json_word(part, "type", "");
    bool spm = d->kind == PTQ_TOK_SPM, first = d->norm == PTQ_NORM_NONE;
    if (strcmp(type, "NFC") == 0 && d->kind == PTQ_TOK_BPE && first) {
        d->norm = PTQ_NORM_NFC;
        return PTQ_OK;
    }
    if (strcmp(type, "BertNormalizer") == 0 && d->kind == PTQ_TOK_WORDPIECE && first)
        return bert_normalizer(d, part);
    if (strcmp(type, "Lowercase") == 0 && d->kind == PTQ_TOK_WORDPIECE && first) {
        d->norm = PTQ_NORM_BERT;
        d->lower_case = true;
        return PTQ_OK;
    }
    if (strcmp(type, "Prepend") == 0 && spm && first && d->prefix == PTQ_PREFIX_NONE &&
        strcmp(ptq_json_word(part, "prepend", ""), spm_space) == 0) {
        d->prefix = PTQ_PREFIX_EACH;
        d->dummy_prefix = true;
        return PTQ_OK;
    }
    const char *from = ptq_json_word(json_object_get(part, "pattern"), "String", "");
    if (strcmp(type, "Replace") == 0 && spm && first && strcmp(from, " ") == 0 &&
        strcmp(ptq_json_word(part, "content", ""), spm_space) == 0) {
        d->norm = PTQ_NORM_SPM_SPACES;
        return PTQ_OK;
    }
    return unknown(r, "normalizer", part, NORMALIZERS);
}

int ptq_tok_json_normalizer(struct ptq_tok_reading *r, const json_t *part)
{
    int code = each_part(r, part, "normalizers", 0, one_normalizer);
    if (code == PTQ_OK && r->def->prefix == PTQ_PREFIX_EACH && r->def->norm == PTQ_NORM_NONE)
        return ptq_status_set(r->st, PTQ_ERR_USAGE,
                              "%s: normalizer Prepend without Replace is not supported", r->path);
    return code;
}

/* ---- pre-tokenizer --------------------------------------------------------------------------- */

#define PRETOKENIZERS                                                                              \
    "ByteLevel, Split, Digits, Whitespace, WhitespaceSplit, Punctuation (before ByteLevel), "      \
    "Metaspace (SentencePiece), BertPreTokenizer (WordPiece), Sequence"
/* The library's \w here is that of Rust: Oniguruma's without Latin-1's numbers, with joiners. */
#define RUST_WORD                                                                                  \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200c}\\x{200d}\\x{24b6}-\\x{24e9}"                       \
    "\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"
static const char words[] = "[" RUST_WORD "]+|[^\\s" RUST_WORD "]+";

static int add_step(struct ptq_tok_reading *r, const char *pattern, enum ptq_split_kind kind,
                    bool add_prefix_space)
{
    struct ptq_tok_def *d = r->def;
    if (d->n_steps == PTQ_MAX_STEPS)
        return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: more than %d pre-tokenizers", r->path,
                              PTQ_MAX_STEPS);
    d->step[d->n_steps++] = (struct ptq_pretok){pattern, kind, add_prefix_space};
    return PTQ_OK;
}

/* A text as the pattern that matches it. */
static const char *quoted(struct ptq_tok_reading *r, const char *text)
{
    char *out = ptq_arena_alloc(r->arena, r->st, (int64_t)strlen(text) + 1, 2);
    for (char *o = out; o && *text; text++) {
        if (strchr("\\^$.|?*+()[]{}#-& ", *text))
            *o++ = '\\';
        *o++ = *text;
    }
    return out;
}

/* Behaviours of a Split. Runs of neighbouring matches make one piece in "Contiguous". */
static int add_split(struct ptq_tok_reading *r, const char *pattern, const json_t *part)
{
    const char *behaviour = ptq_json_word(part, "behavior", "Isolated");
    bool invert = ptq_json_yes(part, "invert", false);
    if (strcmp(behaviour, "Isolated") == 0)
        return add_step(r, pattern, PTQ_SPLIT_ISOLATED, false);
    if (strcmp(behaviour, "Removed") == 0)
        return add_step(r, pattern, invert ? PTQ_SPLIT_MATCHES : PTQ_SPLIT_REMOVED, false);
    if (strcmp(behaviour, "Contiguous") == 0) {
        pattern = ptq_arena_printf(r->arena, r->st, "(?:%s)+", pattern);
        return pattern ? add_step(r, pattern, PTQ_SPLIT_ISOLATED, false) : PTQ_ERR_MEMORY;
    }
    char shown[PTQ_PRINTABLE];
    ptq_printable(behaviour, shown);
    return ptq_status_set(r->st, PTQ_ERR_USAGE,
                          "%s: Split with behavior '%s' is not supported; supported: Isolated, "
                          "Removed, Contiguous",
                          r->path, shown);
}

static int read_split(struct ptq_tok_reading *r, const json_t *part)
{
    const json_t *given = json_object_get(part, "pattern");
    const char *pattern = ptq_json_word(given, "Regex", NULL);
    const char *text = ptq_json_word(given, "String", NULL);
    if (!pattern && text && !(pattern = quoted(r, text)))
        return PTQ_ERR_MEMORY;
    if (!pattern || !*pattern)
        return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: a Split without pattern", r->path);
    pattern = ptq_arena_strdup(r->arena, r->st, pattern);
    return pattern ? add_split(r, pattern, part) : PTQ_ERR_MEMORY;
}

/* Where U+2581 goes; older files have add_prefix_space instead of prepend_scheme. */
static int read_metaspace(struct ptq_tok_reading *r, const json_t *part)
{
    struct ptq_tok_def *d = r->def;
    const char *absent = ptq_json_yes(part, "add_prefix_space", true) ? "always" : "never";
    const char *scheme = ptq_json_word(part, "prepend_scheme", absent);
    if (d->norm != PTQ_NORM_NONE || strcmp(ptq_json_word(part, "replacement", ""), spm_space) != 0)
        return ptq_status_set(r->st, PTQ_ERR_USAGE,
                              "%s: Metaspace is supported without normalizer and with the "
                              "replacement U+2581 alone",
                              r->path);
    if (strcmp(scheme, "always") == 0)
        d->prefix = PTQ_PREFIX_MISSING_EACH;
    else if (strcmp(scheme, "first") == 0)
        d->prefix = PTQ_PREFIX_MISSING_FIRST;
    else if (strcmp(scheme, "never") != 0)
        return ptq_status_set(r->st, PTQ_ERR_USAGE,
                              "%s: Metaspace with this prepend_scheme is not supported; supported: "
                              "always, first, never",
                              r->path);
    d->dummy_prefix = d->prefix != PTQ_PREFIX_NONE;
    d->norm = PTQ_NORM_SPM_SPACES;
    d->split_spaces = ptq_json_yes(part, "split", true);
    return PTQ_OK;
}

static int read_simple(struct ptq_tok_reading *r, const json_t *part, const char *type)
{
    if (strcmp(type, "Digits") == 0)
        return add_step(r, ptq_json_yes(part, "individual_digits", false) ? "\\p{N}" : "\\p{N}+",
                        PTQ_SPLIT_ISOLATED, false);
    if (strcmp(type, "Whitespace") == 0)
        return add_step(r, words, PTQ_SPLIT_MATCHES, false);
    if (strcmp(type, "WhitespaceSplit") == 0)
        return add_step(r, "\\s+", PTQ_SPLIT_REMOVED, false);
    if (strcmp(type, "Punctuation") == 0)
        return add_split(r, "[\\p{P}$+<=>^`|~]", part);
    return unknown(r, "pre-tokenizer", part, PRETOKENIZERS);
}

/* ByteLevel rewrites the text into symbols of bytes: nothing may follow it. */
static int one_pretokenizer(struct ptq_tok_reading *r, const json_t *part)
{
    struct ptq_tok_def *d = r->def;
    const char *type = ptq_json_word(part, "type", "");
    if (strcmp(type, "BertPreTokenizer") == 0 && d->kind == PTQ_TOK_WORDPIECE)
        return PTQ_OK;
    if (strcmp(type, "Metaspace") == 0 && d->kind == PTQ_TOK_SPM)
        return read_metaspace(r, part);
    if (d->kind != PTQ_TOK_BPE)
        return unknown(r, "pre-tokenizer", part, PRETOKENIZERS);
    if (r->byte_level)
        return ptq_status_set(r->st, PTQ_ERR_USAGE,
                              "%s: pre-tokenizers behind ByteLevel are not supported", r->path);
    if (strcmp(type, "Split") == 0)
        return read_split(r, part);
    if (strcmp(type, "ByteLevel") != 0)
        return read_simple(r, part, type);
    r->byte_level = true;
    bool prefix = ptq_json_yes(part, "add_prefix_space", true);
    const char *pattern = ptq_json_yes(part, "use_regex", true) ? ptq_pattern_gpt2 : NULL;
    return pattern || prefix ? add_step(r, pattern, PTQ_SPLIT_ISOLATED, prefix) : PTQ_OK;
}

int ptq_tok_json_pretokenizer(struct ptq_tok_reading *r, const json_t *part)
{
    return each_part(r, part, "pretokenizers", 0, one_pretokenizer);
}

/* ---- post-processor -------------------------------------------------------------------------- */

static int add_edge(struct ptq_tok_reading *r, bool before, json_int_t id)
{
    struct ptq_tok_def *d = r->def;
    int *n = before ? &d->n_before : &d->n_after;
    if (id < 0 || id >= d->n || *n == 4)
        return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: the post-processor puts %s the text",
                              r->path,
                              *n == 4 ? "more than four tokens around"
                                      : "a token that is not in the vocabulary around");
    (before ? d->before : d->after)[(*n)++] = (int32_t)id;
    return PTQ_OK;
}

/* {"single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}], "special_tokens": ...}
 */
static int read_template(struct ptq_tok_reading *r, const json_t *part)
{
    const json_t *ids = json_object_get(part, "special_tokens");
    bool before = true;
    int code = PTQ_OK;
    size_t i, k;
    json_t *item, *id;
    json_array_foreach(json_object_get(part, "single"), i, item)
    {
        const json_t *special = json_object_get(item, "SpecialToken");
        if (json_object_get(item, "Sequence")) {
            before = false;
            continue;
        }
        const json_t *entry = json_object_get(ids, ptq_json_word(special, "id", ""));
        json_array_foreach(json_object_get(entry, "ids"), k, id) if (code == PTQ_OK) code =
            add_edge(r, before, json_is_integer(id) ? json_integer_value(id) : -1);
    }
    if (code == PTQ_OK && before)
        return ptq_status_set(r->st, PTQ_ERR_USAGE,
                              "%s: the post-processor's template has no place for a text", r->path);
    return code;
}

/* "cls": ["[CLS]", 101] before, "sep" behind. */
static int read_cls_sep(struct ptq_tok_reading *r, const json_t *part)
{
    const json_t *cls = json_array_get(json_object_get(part, "cls"), 1);
    const json_t *sep = json_array_get(json_object_get(part, "sep"), 1);
    int code = add_edge(r, true, json_is_integer(cls) ? json_integer_value(cls) : -1);
    return code == PTQ_OK ? add_edge(r, false, json_is_integer(sep) ? json_integer_value(sep) : -1)
                          : code;
}

static int one_postprocessor(struct ptq_tok_reading *r, const json_t *part)
{
    const char *type = ptq_json_word(part, "type", "");
    if (strcmp(type, "ByteLevel") == 0) /* moves offsets only */
        return PTQ_OK;
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_template(r, part);
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0)
        return read_cls_sep(r, part);
    return unknown(r, "post-processor", part,
                   "TemplateProcessing, ByteLevel, BertProcessing, RobertaProcessing, Sequence");
}

int ptq_tok_json_postprocessor(struct ptq_tok_reading *r, const json_t *part)
{
    return each_part(r, part, "processors", 0, one_postprocessor);
}
