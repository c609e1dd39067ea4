#include "quant/module.h"
#include "core/hash.h"
#include "quant/ctx.h"
#include <stdlib.h>
#include <string.h>

struct entry {
    struct entry *next;
    char key[PTQ_KEY_CHARS];
    double loss;
};
struct ptq_module_memo {
    pthread_mutex_t lock;
    struct entry *entries;
};

int ptq_module_memo_new(struct ptq_module_memo **out, struct ptq_status *st)
{
    struct ptq_module_memo *m = calloc(1, sizeof *m);
    *out = m;
    if (!m)
        return ptq_status_nomem(st, "losses of a module", sizeof *m);
    pthread_mutex_init(&m->lock, NULL);
    return PTQ_OK;
}

void ptq_module_memo_free(struct ptq_module_memo *m)
{
    if (!m)
        return;
    while (m->entries) {
        struct entry *e = m->entries;
        m->entries = e->next;
        free(e);
    }
    pthread_mutex_destroy(&m->lock);
    free(m);
}

static bool find(struct ptq_module_memo *m, const char *key, double *loss)
{
    pthread_mutex_lock(&m->lock);
    const struct entry *e = m->entries;
    while (e && strcmp(e->key, key) != 0)
        e = e->next;
    if (e)
        *loss = e->loss;
    pthread_mutex_unlock(&m->lock);
    return e != NULL;
}

/* Two threads may have computed the same loss: both entries say the same. One that does not fit
 * into memory is computed again. */
static void keep(struct ptq_module_memo *m, const char *key, double loss)
{
    struct entry *e = malloc(sizeof *e);
    if (!e)
        return;
    memcpy(e->key, key, sizeof e->key);
    e->loss = loss;
    pthread_mutex_lock(&m->lock);
    e->next = m->entries;
    m->entries = e;
    pthread_mutex_unlock(&m->lock);
}

static void key_of(const struct ptq_layer *l, const float *const *candidate,
                   char key[PTQ_KEY_CHARS])
{
    struct ptq_hasher *h = ptq_hasher_new();
    ptq_hasher_add_text(h, l->module->input(l->module->arg, l));
    for (int i = 0; i < l->n_siblings; i++) {
        const struct ptq_cmat *w = &l->siblings[i]->w;
        ptq_hasher_add(h, candidate[i], (size_t)w->rows * (size_t)w->cols * sizeof *candidate[i]);
    }
    ptq_hasher_done(h, key);
}

int ptq_module_loss(struct ptq_ctx *ctx, const struct ptq_layer *layer,
                    const float *const *candidate, double *loss)
{
    const struct ptq_module *m = layer->module;
    struct ptq_status st = {0};
    char key[PTQ_KEY_CHARS];
    if (!m || !layer->n_siblings)
        return PTQ_SKIP;
    key_of(layer, candidate, key);
    if (*key && find(m->memo, key, loss))
        return PTQ_OK;
    int rc = m->loss(m->arg, layer, candidate, ctx->pool, loss, &st);
    if (rc < 0)
        return ptq_ctx_adopt(ctx, &st);
    if (rc == PTQ_OK && *key)
        keep(m->memo, key, *loss);
    return rc;
}
