/* propagation_phase.c: rows of kind "propagation": the error of a quantized model block by block,
 * on the first windows of the evaluation text ([eval] propagation). */
#include "sweep/propagation.h"
#include "core/clock.h"
#include "sweep/job.h"
#include "version.inc"
#include <math.h>
#include <string.h>

/* ---- what is asked for */

static struct ptq_tokens first_windows(const struct ptq_job *job)
{
    return ptq_first_windows(&job->eval_text.tokens, job->cfg->eval.propagation);
}

int ptq_propagation_plan(struct ptq_job *job, struct ptq_status *st)
{
    char on[PTQ_KEY_CHARS], numbers[64];
    struct ptq_wants *wants = &job->beside[PTQ_PROPAGATION];
    if (!job->has_eval || !job->cfg->eval.propagation)
        return PTQ_OK;
    wants->at = ptq_arena_alloc(&job->arena, st, job->n_points, sizeof *wants->at);
    if (!wants->at)
        return PTQ_ERR_MEMORY;
    wants->n = job->n_points;
    snprintf(numbers, sizeof numbers, "%lld windows, %lld sinks",
             (long long)first_windows(job).n_seq, (long long)job->cfg->calib.sink_tokens);
    ptq_key_of(on, job->eval_key, numbers, PTQ_BESIDE_HASH, (char *)NULL);
    for (int64_t p = 0; p < wants->n; p++) {
        wants->at[p] = job->model_wants[p];
        ptq_row_key("propagation", wants->at[p].form, on, wants->at[p].key);
    }
    return PTQ_OK;
}

/* Three states, a block's weights twice, what its products need. */
double ptq_propagation_bytes(const struct ptq_job *job)
{
    const struct ptq_model_info *i = ptq_model_info(job->model);
    const struct ptq_tokens t = first_windows(job);
    double block = (double)i->n_block_params / (double)(i->n_blocks ? i->n_blocks : 1);
    return 3 * 4.0 * (double)t.n_total * (double)i->d_model + 8 * block + ptq_runs_bytes(job) +
           ptq_scoring_bytes(job);
}

/* ---- rows */

typedef double (*ratio)(const double *sum, double tokens);

static double norm_of(const double *sum, double tokens)
{
    return sum[PTQ_ERROR_NORM] / tokens;
}

static double total_of(const double *sum, double tokens)
{
    (void)tokens;
    return sum[PTQ_ERROR_TOTAL] / sum[PTQ_ERROR_NORM];
}

static double local_of(const double *sum, double tokens)
{
    (void)tokens;
    return sum[PTQ_ERROR_LOCAL] / sum[PTQ_ERROR_NORM];
}

static double inherited_of(const double *sum, double tokens)
{
    (void)tokens;
    return sum[PTQ_ERROR_INHERITED] / sum[PTQ_ERROR_NORM];
}

static double own_of(const double *sum, double tokens)
{
    (void)tokens;
    return sum[PTQ_ERROR_OWN] / sum[PTQ_ERROR_NORM];
}

static double cosine_of(const double *sum, double tokens)
{
    (void)tokens;
    return sum[PTQ_ERROR_CROSS] / sqrt(sum[PTQ_ERROR_OWN] * sum[PTQ_ERROR_INHERITED]);
}

static const struct {
    const char *name;
    ratio of;
} fields[] = {{"norm", norm_of},           {"total", total_of}, {"local", local_of},
              {"inherited", inherited_of}, {"own", own_of},     {"cosine", cosine_of}};
enum { N_FIELDS = sizeof fields / sizeof *fields };

static json_t *series_of(const struct ptq_block_errors *e, int64_t n_blocks, int classes,
                         double tokens)
{
    json_t *o = json_object();
    for (int k = 0; k < N_FIELDS; k++) {
        json_t *list = json_array();
        for (int64_t b = 0; b < n_blocks; b++) {
            double sum[PTQ_N_ERROR_SUMS];
            for (int i = 0; i < PTQ_N_ERROR_SUMS; i++)
                sum[i] =
                    e[b].sum[PTQ_REST_TOKENS][i] + (classes > 1 ? e[b].sum[PTQ_SINK_TOKENS][i] : 0);
            json_array_append_new(list, ptq_json_num(fields[k].of(sum, tokens)));
        }
        json_object_set_new(o, fields[k].name, list);
    }
    return o;
}

static json_t *errors_of(const struct ptq_job *job, const struct ptq_tokens *t,
                         const struct ptq_block_errors *e)
{
    const int64_t sinks = job->cfg->calib.sink_tokens,
                  n_blocks = ptq_model_info(job->model)->n_blocks;
    int64_t n_rest = 0;
    for (int64_t s = 0; s < t->n_seq; s++)
        n_rest += t->len[s] > sinks ? t->len[s] - sinks : 0;
    json_t *o = json_object();
    json_object_set_new(o, "windows", json_integer(t->n_seq));
    json_object_set_new(o, "tokens", json_integer(t->n_total));
    json_object_set_new(o, "sink_tokens", json_integer(sinks));
    json_object_set_new(o, "blocks", series_of(e, n_blocks, 1, (double)n_rest));
    json_object_set_new(o, "with_sinks", series_of(e, n_blocks, 2, (double)t->n_total));
    return o;
}

static int write_row(struct ptq_job *job, int64_t point, int outcome, const char *reason,
                     const struct ptq_block_errors *e, const struct ptq_times *t,
                     struct ptq_status *st)
{
    const struct ptq_tokens tokens = first_windows(job);
    json_t *row = ptq_row_begin(job, "propagation", &job->beside[PTQ_PROPAGATION].at[point],
                                &job->points[point]);
    ptq_row_add_eval(row, &job->eval_text, NULL);
    if (outcome)
        ptq_row_set_outcome(row, outcome, reason);
    else
        json_object_set_new(row, "propagation", errors_of(job, &tokens, e));
    ptq_progress_step(job->progress, job->points[point].spec->label);
    return ptq_row_finish(job, row, t, st);
}

/* ---- running */

struct placing {
    struct ptq_job *job;
    int64_t point;
};

static int form_of(void *arg, const struct ptq_block *block, int lin, struct ptq_result *own,
                   const struct ptq_result **use, struct ptq_status *st)
{
    const struct placing *p = arg;
    const int64_t entry = ptq_entry_of(p->job, block->index, lin);
    (void)use;
    return entry < 0 ? PTQ_SKIP : ptq_stored_form(p->job, p->point, entry, own, st);
}

static int walk(struct ptq_job *job, int64_t point, struct ptq_block_errors *e,
                struct ptq_status *st)
{
    struct placing placing = {job, point};
    const struct ptq_forms forms = {form_of, &placing};
    const struct ptq_tokens tokens = first_windows(job);
    const struct ptq_propagation_args args = {.model = job->model,
                                              .forms = &forms,
                                              .tokens = &tokens,
                                              .sink_tokens = job->cfg->calib.sink_tokens,
                                              .pool = job->args->pool,
                                              .spill = ptq_job_spill(job),
                                              .stop = ptq_job_stop_hook,
                                              .stop_arg = job};
    return ptq_propagation(&args, e, st);
}

static void run_point(struct ptq_job *job, int64_t point)
{
    struct ptq_times t = {.begin_ns = ptq_now_ns()};
    struct ptq_status st = {0}, io = {0};
    char reason[sizeof st.text] = "";
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    struct ptq_block_errors *e =
        ptq_arena_alloc(&arena, &st, ptq_model_info(job->model)->n_blocks, sizeof *e);
    int code = e ? ptq_layers_outcome(job, point, reason, sizeof reason) : PTQ_ERR_MEMORY;
    if (code == 0 && (code = walk(job, point, e, &st)) != PTQ_OK)
        snprintf(reason, sizeof reason, "%s", st.text);
    t.score_s = 1e-9 * (double)(ptq_now_ns() - t.begin_ns);
    if (code == PTQ_OK || ptq_job_cell_ended(job, code, &st) == PTQ_LEAVES_ROW)
        write_row(job, point, code, reason, e, &t, &io);
    ptq_arena_clear(&arena);
}

int ptq_propagation_phase(struct ptq_job *job, struct ptq_status *st)
{
    int64_t n = 0;
    struct ptq_arena arena;
    const struct ptq_wants *wants = &job->beside[PTQ_PROPAGATION];
    if (!wants->n || ptq_job_stop(job))
        return PTQ_OK;
    ptq_arena_init(&arena, 0);
    int64_t *points = ptq_arena_alloc(&arena, st, job->n_points, sizeof *points);
    for (int64_t p = 0; points && p < wants->n; p++)
        if (wants->at[p].need_row)
            points[n++] = p;
    if (n)
        ptq_job_each_model(job, points, n, ptq_propagation_bytes(job), run_point);
    ptq_arena_clear(&arena);
    return points ? PTQ_OK : PTQ_ERR_MEMORY;
}
