/* health.c: numbers of the inputs that a sweep's layers read, each made once. */
#include "sweep/job.h"
#include <inttypes.h>

struct ptq_health_node {
    struct ptq_health health;
    struct ptq_health_node *next;
};

static const struct ptq_health *find(struct ptq_job *job, uint64_t key)
{
    pthread_mutex_lock(&job->lock);
    const struct ptq_health_node *k = job->health;
    while (k && k->health.key != key)
        k = k->next;
    pthread_mutex_unlock(&job->lock);
    return k ? &k->health : NULL;
}

static const struct ptq_health *keep(struct ptq_job *job, const struct ptq_health *h,
                                     struct ptq_status *st)
{
    pthread_mutex_lock(&job->lock);
    struct ptq_health_node *node = ptq_arena_alloc(&job->arena, st, 1, sizeof *node);
    if (node) {
        *node = (struct ptq_health_node){*h, job->health};
        job->health = node;
    }
    pthread_mutex_unlock(&job->lock);
    return node ? &node->health : NULL;
}

/* Two threads may make the same numbers at once: the later ones are found by nobody. Layers without
 * a key are asked for once. */
int ptq_job_health(struct ptq_job *job, const struct ptq_layer *l, const struct ptq_health **out,
                   struct ptq_status *st)
{
    struct ptq_health h;
    *out = l->hess.at && l->hess_key ? find(job, l->hess_key) : NULL;
    if (!l->hess.at || *out)
        return PTQ_OK;
    int code = ptq_health_of(l, job->args->pool, &h, st);
    if (code)
        return code == PTQ_SKIP ? PTQ_OK : code;
    *out = keep(job, &h, st);
    return *out ? PTQ_OK : PTQ_ERR_MEMORY;
}

void ptq_row_add_health(json_t *row, const struct ptq_health *h)
{
    char input[17];
    if (!h)
        return;
    json_t *o = json_object();
    snprintf(input, sizeof input, "%016" PRIx64, h->key);
    if (h->key)
        json_object_set_new(o, "input", json_string(input));
    json_object_set_new(o, "condition", ptq_json_num(h->condition));
    json_object_set_new(o, "effective_rank", ptq_json_num(h->effective_rank));
    json_object_set_new(o, "n_dead", json_integer(h->n_dead));
    json_object_set_new(o, "sink_share", ptq_json_num(h->sink_share));
    json_object_set_new(o, "trace", ptq_json_num(h->trace));
    json_object_set_new(o, "damping", ptq_json_num(h->damping));
    json_object_set_new(row, "health", o);
}
