/* cmd_eval.c: `ptq eval MODEL`: perplexity and its relatives of a full-precision model under a
 * named protocol; of an encoder its embeddings. */
#include "cli/embeddings.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/words.h"
#include "datasets/facts.h"
#include "metrics/metric.h"
#include "model/requests.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Metrics of a model by itself, in the order of the output. */
static const char *const metric_ids[] = {"ppl", "nll", "bpb", "fact_recall", "copy_accuracy"};
enum { N_IDS = sizeof metric_ids / sizeof *metric_ids };

struct request {
    enum ptq_format format;
    int64_t threads;
    struct ptq_model_options options;
    struct ptq_text_request text;
};

struct result {
    const struct ptq_args *args;
    const struct ptq_model_info *info;
    const struct ptq_text *text;
    struct ptq_eval eval;
    struct ptq_value value[N_IDS];
    double floor_bpb;          /* exact entropy of the text; NaN unless it is the facts language */
    double word_ppl, byte_ppl; /* of lm-eval-word; NaN else */
    double seconds;
};

static int source_of(const struct ptq_args *a, struct ptq_arena *arena, const char *model,
                     const char **out, struct ptq_status *st)
{
    const char *text = ptq_arg(a, "text"), *tokens = ptq_arg(a, "tokens");
    if (text && tokens)
        return ptq_status_set(st, PTQ_ERR_USAGE, "--text and --tokens are both given; choose one");
    *out = tokens ? ptq_arena_printf(arena, st, "ids:%s", tokens) : text;
    if (tokens || text)
        return *out ? PTQ_OK : PTQ_ERR_MEMORY;
    *out = "synth:facts:5555";
    return strcmp(model, "demo") == 0
               ? PTQ_OK
               : ptq_status_set(st, PTQ_ERR_USAGE,
                                "%s: what shall be read? give --text SOURCE or --tokens IDS "
                                "(only the demo model has a text of its own)",
                                model);
}

static int parse(const struct ptq_args *a, struct request *r, struct ptq_status *st)
{
    int rc = ptq_format_parse(ptq_arg(a, "format"), &r->format, st);
    if (rc || (rc = ptq_arg_i64(a, "threads", 1, 4096, &r->threads, st)) ||
        (rc = ptq_arg_i64(a, "window", 2, INT32_MAX, &r->text.window, st)))
        return rc;
    r->options.outliers = ptq_arg(a, "outliers") != NULL;
    r->text.protocol = ptq_arg(a, "protocol");
    r->text.tokenizer = ptq_arg(a, "tokenizer");
    return ptq_arg_i64(a, "windows", 1, INT32_MAX, &r->text.n_seq, st);
}

/* exp of the summed NLL over words or bytes, from their number a token; NaN when that is unknown.
 */
static double ppl_per(const struct ptq_eval *e, double units_per_token)
{
    return units_per_token > 0 ? exp(ptq_eval_nll(e) / units_per_token) : NAN;
}

static double floor_of(const struct ptq_text *t)
{
    double bits = 0;
    int64_t n = 0;
    for (int64_t s = 0; t->facts && s < t->tokens.n_seq; s++) {
        bits += t->facts[s].bits;
        n += t->tokens.len[s] - 1;
    }
    return n ? bits / (double)n : NAN;
}

/* ---- output */

/* {"text": 17 digits, NaN as ""} */
static void put_number(char *out, size_t size, double v)
{
    snprintf(out, size, isfinite(v) ? "%.9g" : "", v);
}

static int add(struct ptq_table *t, const char *name, const char *value)
{
    const char *cells[] = {name, value};
    return ptq_table_row(t, cells);
}

static int print_table(const struct result *r, enum ptq_format format, struct ptq_status *st)
{
    static const char *const columns[] = {"what", "value"};
    char text[64];
    struct ptq_table *t = ptq_table_new(2, columns, NULL);
    int rc = t ? PTQ_OK : PTQ_ERR_MEMORY;
    const char *const texts[][2] = {{"model", r->info->name},
                                    {"text", r->text->name},
                                    {"sha256", r->text->sha256},
                                    {"protocol", r->text->protocol},
                                    {"rules", r->text->rules}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts && !rc; i++)
        if (*texts[i][1])
            rc = add(t, texts[i][0], texts[i][1]);
    for (int i = 0; i < N_IDS && !rc; i++) {
        put_number(text, sizeof text, r->value[i].v);
        if (!r->value[i].reason)
            rc = add(t, metric_ids[i], text);
    }
    const struct {
        const char *name;
        double v;
    } numbers[] = {{"word_perplexity", r->word_ppl},       {"byte_perplexity", r->byte_ppl},
                   {"entropy_floor_bpb", r->floor_bpb},    {"n_windows", (double)r->eval.n_windows},
                   {"n_scored", (double)r->eval.n_scored}, {"seconds", r->seconds}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && !rc; i++) {
        put_number(text, sizeof text, numbers[i].v);
        if (*text)
            rc = add(t, numbers[i].name, text);
    }
    if (!rc)
        ptq_table_print(t, format, stdout);
    ptq_table_free(t);
    return rc ? ptq_status_nomem(st, "a table", 0) : PTQ_OK;
}

static json_t *windows_array(const struct ptq_eval *e)
{
    json_t *a = json_array();
    for (int64_t s = 0; a && s < e->n_windows; s++)
        if (json_array_append_new(a, ptq_json_num(e->nll_window[s]))) {
            json_decref(a);
            return NULL;
        }
    return a;
}

static json_t *row_of(const struct result *r)
{
    json_t *o = json_object();
    int bad = !o;
    const char *const texts[][2] = {{"model", r->info->name},
                                    {"model_key", r->info->key},
                                    {"text", r->text->name},
                                    {"text_source", r->text->source},
                                    {"text_sha256", r->text->sha256},
                                    {"text_key", r->text->key},
                                    {"protocol", r->text->protocol},
                                    {"rules", r->text->rules},
                                    {"blas_core", r->args->machine->blas_core}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts && !bad; i++)
        bad = json_object_set_new(o, texts[i][0], json_string(texts[i][1]));
    for (int i = 0; i < N_IDS && !bad; i++)
        bad = json_object_set_new(o, metric_ids[i], ptq_json_num(r->value[i].v));
    if (!bad)
        bad = json_object_set_new(o, "text_verified", json_boolean(r->text->verified)) ||
              json_object_set_new(o, "word_perplexity", ptq_json_num(r->word_ppl)) ||
              json_object_set_new(o, "byte_perplexity", ptq_json_num(r->byte_ppl)) ||
              json_object_set_new(o, "entropy_floor_bpb", ptq_json_num(r->floor_bpb)) ||
              json_object_set_new(o, "n_windows", json_integer(r->eval.n_windows)) ||
              json_object_set_new(o, "n_scored", json_integer(r->eval.n_scored)) ||
              json_object_set_new(o, "seconds", ptq_json_num(r->seconds)) ||
              json_object_set_new(o, "nll_windows", windows_array(&r->eval));
    if (!bad)
        return o;
    json_decref(o);
    return NULL;
}

static int print_json(const struct result *r, struct ptq_status *st)
{
    json_t *o = row_of(r);
    char *line = o ? ptq_json_line(o) : NULL;
    if (line)
        fputs(line, stdout);
    json_decref(o);
    int rc = line ? PTQ_OK : ptq_status_nomem(st, "the result row", 0);
    free(line);
    return rc;
}

static int print(const struct result *r, enum ptq_format format, struct ptq_status *st)
{
    const struct ptq_embeddings x = {r->info, r->text, &r->eval, r->seconds};
    if (r->eval.embedding)
        return ptq_embeddings_print(&x, format, st);
    return format == PTQ_JSONL ? print_json(r, st) : print_table(r, format, st);
}

/* ---- the verb */

/* Hidden states that would take half of the machine's memory lie in a file of the temporary folder.
 */
static struct ptq_spill spill_of_machine(void)
{
    const char *folder = getenv("TMPDIR");
    return (struct ptq_spill){folder && *folder ? folder : "/tmp",
                              (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / 2};
}

static int evaluate(struct result *r, const struct ptq_model *m, const struct request *q,
                    struct ptq_arena *arena, struct ptq_status *st)
{
    struct ptq_pool *pool = NULL;
    struct ptq_text *text = ptq_arena_alloc(arena, st, 1, sizeof *text);
    int64_t start = ptq_now_ns();
    int rc = text ? ptq_text_load(ptq_model_info(m), &q->text, arena, text, st) : PTQ_ERR_MEMORY;
    if (rc || (rc = ptq_pool_new(&pool, (int)q->threads, st)))
        return rc;
    if (text->note)
        fprintf(stderr, "ptq eval: %s\n", text->note);
    const struct ptq_eval_args args = {
        .model = m, .text = text, .pool = pool, .spill = spill_of_machine()};
    rc = ptq_eval_model(&args, arena, &r->eval, st);
    ptq_pool_free(pool);
    r->seconds = (double)(ptq_now_ns() - start) * 1e-9;
    r->info = ptq_model_info(m);
    r->text = text;
    r->floor_bpb = floor_of(text);
    if (!rc && text->words_per_token > 0) {
        r->word_ppl = ppl_per(&r->eval, text->words_per_token);
        r->byte_ppl = ppl_per(&r->eval, text->bytes_per_token);
    }
    const struct ptq_model_eval e = {.eval = &r->eval, .info = r->info};
    for (int i = 0; i < N_IDS && !rc; i++)
        if (ptq_metric_of_model(ptq_metric_find(metric_ids[i]), &e, &r->value[i]) < 0)
            rc = ptq_status_nomem(st, metric_ids[i], 0);
    /* A model whose output is not a number has failed: no row without its number may look like a
     * result. */
    if (!rc && !r->eval.embedding && !isfinite(ptq_eval_nll(&r->eval)))
        rc = ptq_status_set(
            st, PTQ_ERR_NUMERIC,
            "%s: the mean NLL over %s is not finite: the model's activations overflow",
            r->info->source, text->source);
    return rc;
}

/* ---- --requests */

enum { MOST_REQUEST_BYTES = 1 << 30 };

/* Standard input may be a pipe: it is read to its end. */
static int read_stdin(char **text, size_t *bytes, struct ptq_status *st)
{
    size_t room = 1 << 16, n = 0, got;
    char *at = malloc(room);
    while (at && (got = fread(at + n, 1, room - n, stdin)) > 0) {
        n += got;
        if (n == room && room < MOST_REQUEST_BYTES) {
            char *more = realloc(at, room * 2);
            if (!more)
                free(at);
            at = more;
            room *= 2;
        }
    }
    *text = at;
    *bytes = n;
    if (!at)
        return ptq_status_nomem(st, "the requests", room);
    if (!ferror(stdin) && n < MOST_REQUEST_BYTES)
        return PTQ_OK;
    free(at);
    return ptq_status_set(st, PTQ_ERR_USAGE, "standard input: cannot read the requests: %s",
                          ferror(stdin) ? strerror(errno) : "more than 1 GB");
}

static int put_line(void *arg, const char *line, struct ptq_status *st)
{
    (void)arg;
    return fputs(line, stdout) >= 0
               ? PTQ_OK
               : ptq_status_set(st, PTQ_ERR_IO, "cannot write the rows: %s", strerror(errno));
}

/* The tokenizer for texts: the one named, else the model's own if it has one. */
static int open_tokenizer(const struct request *q, const struct ptq_model_info *info,
                          struct ptq_tokenizer **tok, struct ptq_status *st)
{
    const char *source = q->text.tokenizer;
    *tok = NULL;
    if (!source && strcmp(info->tokenizer, "own") == 0)
        source = info->source;
    int rc = source ? ptq_tokenizer_open(tok, source, st) : PTQ_OK;
    return rc == PTQ_SKIP ? PTQ_OK : rc;
}

static int answer(const struct ptq_args *a, const struct request *q, const struct ptq_model *m,
                  struct ptq_status *st)
{
    const char *path = ptq_arg(a, "requests");
    bool pipe = strcmp(path, "-") == 0;
    struct ptq_requests ask = {.model = m,
                               .name = pipe ? "standard input" : path,
                               .window = q->text.window,
                               .row = put_line};
    struct ptq_tokenizer *tok;
    char *text;
    size_t bytes;
    int rc = open_tokenizer(q, ptq_model_info(m), &tok, st);
    if (rc)
        return rc;
    rc = pipe ? read_stdin(&text, &bytes, st)
              : ptq_read_file(path, MOST_REQUEST_BYTES, &text, &bytes, st);
    if (!rc) {
        ask.tokenizer = tok;
        ask.text = text;
        ask.bytes = (int64_t)bytes;
        if (!(rc = ptq_pool_new(&ask.pool, (int)q->threads, st)))
            rc = ptq_requests_run(&ask, st);
        ptq_pool_free(ask.pool);
        free(text);
    }
    ptq_tokenizer_close(tok);
    return rc;
}

static int check_requests(const struct ptq_args *a, struct ptq_status *st)
{
    static const char *const others[] = {"text", "tokens", "protocol", "windows", "format"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (ptq_arg(a, others[i]))
            return ptq_status_set(st, PTQ_ERR_USAGE,
                                  "--requests and --%s are both given; requests are rows of JSON "
                                  "in and out, and read nothing else",
                                  others[i]);
    return PTQ_OK;
}

static int run_requests(const struct ptq_args *a, const char *name, struct ptq_status *st)
{
    struct request q = {0};
    struct ptq_model *m = NULL;
    int rc = check_requests(a, st);
    if (!rc && !(rc = parse(a, &q, st)) && !(rc = ptq_model_open(&m, name, &q.options, st)))
        rc = answer(a, &q, m, st);
    ptq_model_close(m);
    return rc;
}

static int run(const struct ptq_args *a, struct ptq_status *st)
{
    const char *name = a->n_positional ? a->positional[0] : "demo";
    struct request q = {0};
    struct result r = {.args = a, .word_ppl = NAN, .byte_ppl = NAN};
    struct ptq_arena arena;
    struct ptq_model *m = NULL;
    if (ptq_arg(a, "requests"))
        return run_requests(a, name, st);
    ptq_arena_init(&arena, 0);
    int rc = parse(a, &q, st);
    if (!rc && !(rc = source_of(a, &arena, name, &q.text.source, st)) &&
        !(rc = ptq_model_open(&m, name, &q.options, st)))
        rc = evaluate(&r, m, &q, &arena, st);
    if (!rc)
        rc = print(&r, q.format, st);
    ptq_model_close(m);
    ptq_arena_clear(&arena);
    return rc;
}

static const struct ptq_flag flags[] = {
    {"text", 't', PTQ_FLAG_TEXT, "SOURCE",
     "a text of `ptq list texts` (wikitext2, c4_new:validation), a file, or synth:facts:SEED "
     "[demo: synth:facts:5555]",
     NULL},
    {"tokens", 0, PTQ_FLAG_TEXT, "IDS",
     "token ids: text, a sequence a line; or .npy, one or two axes", NULL},
    {"protocol", 'p', PTQ_FLAG_TEXT, "P",
     "a protocol of `ptq list protocols`: gptq-2048, llamacpp-512, ... [by the text]", NULL},
    {"window", 'w', PTQ_FLAG_TEXT, "N", "tokens a window [the protocol's, or the model's context]",
     "seqlen"},
    {"windows", 'n', PTQ_FLAG_TEXT, "N",
     "at most so many windows, of lm-eval-word documents: another protocol [all; synth: 256]",
     NULL},
    {"tokenizer", 0, PTQ_FLAG_TEXT, "FILE",
     "folder or file of the tokenizer [the one that comes with the model]", NULL},
    {"requests", 0, PTQ_FLAG_TEXT, "FILE",
     "log-likelihoods of continuations: JSON lines from FILE (-: standard input)", NULL},
    {"outliers", 0, PTQ_FLAG_SWITCH, NULL,
     "the demo model's outlier variant (same output, planted outlier channels)", NULL},
    {"threads", 'j', PTQ_FLAG_TEXT, "N", "threads; no result depends on it [all cores]", NULL},
    {"portable", 0, PTQ_FLAG_SWITCH, NULL, "AVX2 arithmetic: the same bits on every AVX2 machine",
     NULL},
    {"format", 0, PTQ_FLAG_TEXT, "F", "text, md, csv or jsonl [text]", NULL},
    {NULL},
};
const struct ptq_verb ptq_verb_eval = {
    .name = "eval",
    .title = "Perplexity of a model under a named protocol; embeddings of an encoder",
    .usage = "[MODEL] [--text SOURCE | --tokens IDS | --requests FILE] [options]",
    .details =
        "MODEL: a Hugging Face folder, a .gguf, a container (datasets/SCHEMA.md), a llama2.c "
        "checkpoint (.bin), or `demo` [demo].\n"
        "A text is cut into windows and scored by a protocol (`ptq list protocols`); its name and "
        "rules are printed with\n"
        "every result, and values of different protocols do not compare. NLL is in nats per "
        "token. A known text\n"
        "(`ptq list texts`) is looked for in $PTQ_TEXTS and datasets/texts/ and checked by its "
        "SHA-256.\n"
        "jsonl: one row, with nll_windows, the mean NLL of every window (null for a window "
        "without a scored token).\n"
        "An encoder gives the embeddings of the text's sentences (protocol sentences-N); jsonl: "
        "all "
        "of them, one row.\n"
        "--requests reads one request a line and writes one row a line in the same order, when "
        "all are read:\n"
        "  {\"id\": 1, \"context\": [1, 20, 7], \"continuation\": [9, 4]}          token ids\n"
        "  {\"id\": 2, \"context_text\": \"A cat\", \"continuation_text\": \" sat\"}  with a "
        "tokenizer\n"
        "  -> {\"id\": 1, \"logprob\": -3.25, \"greedy\": false, \"n_tokens\": 2}\n"
        "What is longer than the window loses the first ids of the context, and its row says "
        "\"truncated\". Example in Python:\n"
        "datasets/README.md.\n"
        "Exit codes: 0 ok, 2 usage or a wrong file, 5 the model's output is not finite, 6 out of "
        "memory.\n"
        "  ptq eval\n"
        "  ptq eval ~/opt-125m --text wikitext2 --protocol gptq-2048\n"
        "  ptq eval ~/llama-7b --tokens ids.txt --window 2048 --format jsonl\n"
        "  ptq eval ~/llama-7b --requests tasks.jsonl > scores.jsonl",
    .flags = flags,
    .min_positional = 0,
    .max_positional = 1,
    .run = run,
};
