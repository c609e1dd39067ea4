/* factor.c: the memo of factored Hessians that q, k, v and gate, up share. */
#include "quant/ctx.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct ptq_factor_cache {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct ptq_factor_slot *slots;
};

int ptq_factor_cache_new(struct ptq_factor_cache **out, struct ptq_status *st)
{
    struct ptq_factor_cache *c = calloc(1, sizeof *c);
    *out = c;
    if (!c)
        return ptq_status_nomem(st, "the factor cache", sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    return PTQ_OK;
}

static void slot_free(struct ptq_factor_slot *s)
{
    ptq_arena_clear(&s->arena);
    free(s);
}

void ptq_factor_cache_clear(struct ptq_factor_cache *c)
{
    while (c->slots) {
        struct ptq_factor_slot *s = c->slots;
        c->slots = s->next;
        slot_free(s);
    }
}

void ptq_factor_cache_free(struct ptq_factor_cache *c)
{
    if (!c)
        return;
    ptq_factor_cache_clear(c);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static bool same_key(const struct ptq_factor_key *a, const struct ptq_factor_key *b)
{
    bool fill = a->fill == b->fill || (isnan(a->fill) && isnan(b->fill));
    return a->hess_key == b->hess_key && a->n == b->n && a->percdamp == b->percdamp && fill &&
           a->act_order == b->act_order && a->no_hess == b->no_hess && a->f64 == b->f64;
}

static struct ptq_factor_slot *find(const struct ptq_factor_cache *c,
                                    const struct ptq_factor_key *key)
{
    struct ptq_factor_slot *s = c->slots;
    while (s && !same_key(&s->key, key))
        s = s->next;
    return s;
}

int ptq_factor_cache_take(struct ptq_factor_cache *c, const struct ptq_factor_key *key,
                          struct ptq_factor_slot **out, bool *made, struct ptq_status *st)
{
    struct ptq_factor_slot *s;
    *made = false;
    pthread_mutex_lock(&c->lock);
    while ((s = find(c, key)) && !s->ready)
        pthread_cond_wait(&c->changed, &c->lock);
    if (!s && (s = calloc(1, sizeof *s))) {
        s->key = *key;
        s->next = c->slots;
        c->slots = s;
        *made = true;
    }
    pthread_mutex_unlock(&c->lock);
    *out = s;
    return s ? PTQ_OK : ptq_status_nomem(st, "a factor", sizeof *s);
}

void ptq_factor_cache_done(struct ptq_factor_cache *c, struct ptq_factor_slot *slot, bool ok)
{
    pthread_mutex_lock(&c->lock);
    slot->ready = ok;
    if (!ok) {
        struct ptq_factor_slot **at = &c->slots;
        while (*at != slot)
            at = &(*at)->next;
        *at = slot->next;
        slot_free(slot);
    }
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}
