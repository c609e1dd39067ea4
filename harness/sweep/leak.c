/* leak.c: texts that ought to differ. Held-out errors on the calibration text would be calibration
 * errors under another name: refused. An evaluation text that was calibrated on is a setting some
 * tables use: allowed, and said wherever the numbers are shown. */
#include "sweep/job.h"
#include <stdlib.h>
#include <string.h>

static const char *file_of(const char *source)
{
    return strncmp(source, "text:", 5) && strncmp(source, "ids:", 4) ? source
                                                                     : strchr(source, ':') + 1;
}

/* Windows drawn from one file overlap without being equal. A file has many names, so contents count
 * too, but for two parts of one that are texts by themselves (prose:calib, prose:eval). */
static bool same_file(const struct ptq_text *a, const struct ptq_text *b)
{
    if (!strncmp(a->name, "synth:", 6))
        return false;
    if (!strcmp(file_of(a->name), file_of(b->name)))
        return true;
    return *a->sha256 && !strcmp(a->sha256, b->sha256) && !(a->family && b->family);
}

static int order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t hash_of(const struct ptq_tokens *t, int64_t s)
{
    return ptq_hash64(t->id + t->offset[s], (size_t)t->len[s] * sizeof *t->id);
}

/* Texts of one seed begin alike however many windows are taken of them, so windows are compared, by
 * their hashes. */
static int share_windows(const struct ptq_tokens *a, const struct ptq_tokens *b, bool *shared,
                         struct ptq_status *st)
{
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    uint64_t *hash = ptq_arena_alloc(&arena, st, a->n_seq, sizeof *hash);
    for (int64_t s = 0; hash && s < a->n_seq; s++)
        hash[s] = hash_of(a, s);
    if (hash)
        qsort(hash, (size_t)a->n_seq, sizeof *hash, order);
    *shared = false;
    for (int64_t s = 0; hash && s < b->n_seq && !*shared; s++) {
        uint64_t h = hash_of(b, s);
        *shared = bsearch(&h, hash, (size_t)a->n_seq, sizeof *hash, order) != NULL;
    }
    ptq_arena_clear(&arena);
    return hash ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int check_heldout(const struct ptq_job *job, const struct ptq_draw *d, struct ptq_status *st)
{
    if (!job->has_heldout || strcmp(job->heldout.text.key, d->text.key) != 0)
        return PTQ_OK;
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: [calib] heldout = %s (heldout_seed = %lld) is the very text of "
                          "[calib] text = %s (seed = %lld); choose another heldout_seed or text",
                          job->cfg->file, job->cfg->calib.heldout, (long long)job->heldout.seed,
                          job->cfg->calib.text, (long long)d->seed);
}

/* Texts of one family (WikiText's training and test split) are in-domain of each other. Synthetic
 * languages are not counted: there is no text of another domain for the models that speak them. */
static bool same_family(const struct ptq_text *a, const struct ptq_text *b)
{
    return a->family && b->family && !strcmp(a->family, b->family) &&
           strncmp(a->source, "synth:", 6) != 0 && strncmp(b->source, "synth:", 6) != 0;
}

static int check_evaluation(const struct ptq_job *job, struct ptq_draw *d, struct ptq_status *st)
{
    bool shared = false;
    if (!job->has_eval)
        return PTQ_OK;
    int code = share_windows(&d->text.tokens, &job->eval_text.tokens, &shared, st);
    bool same = shared || same_file(&d->text, &job->eval_text);
    d->in_domain = same                                     ? "same text"
                   : same_family(&d->text, &job->eval_text) ? "same family"
                                                            : NULL;
    return code;
}

static bool any_sees_stats(const struct ptq_job *job, int64_t draw)
{
    bool sees = false;
    for (int64_t i = 0; i < job->n_points && !sees && !job->args->reference_only; i++)
        sees = job->points[i].draw == draw &&
               ptq_sees_stats(job->points[i].spec, &job->points[i].cell);
    return sees;
}

void ptq_job_say_in_domain(const struct ptq_job *job)
{
    for (int64_t i = 0; i < job->cfg->calib.n_seeds && job->draws; i++) {
        const struct ptq_draw *d = &job->draws[i];
        if (!d->in_domain || !any_sees_stats(job, i))
            continue;
        if (!strcmp(d->in_domain, "same text"))
            fprintf(
                stderr,
                "%s: [eval] text = %s holds the calibration text (seed %lld): rows say in_domain\n",
                job->cfg->file, job->eval_text.name, (long long)d->seed);
        else
            fprintf(stderr,
                    "%s: [eval] text = %s and [calib] text = %s are both %s: rows say in_domain\n",
                    job->cfg->file, job->eval_text.name, d->text.name, job->eval_text.family);
    }
}

int ptq_job_check_texts(struct ptq_job *job, struct ptq_status *st)
{
    int code = PTQ_OK;
    for (int64_t i = 0; code >= 0 && i < job->cfg->calib.n_seeds; i++) {
        code = check_heldout(job, &job->draws[i], st);
        if (code >= 0)
            code = check_evaluation(job, &job->draws[i], st);
    }
    return code;
}
