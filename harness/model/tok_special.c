#include "model/tok_special.h"
#include <string.h>

static bool is_added(const struct ptq_tok_def *def, int64_t i, bool user)
{
    return def->at[i + 1] > def->at[i] &&
           (def->type[i] == PTQ_TOKEN_CONTROL || def->type[i] == PTQ_TOKEN_UNKNOWN ||
            (user && def->type[i] == PTQ_TOKEN_USER));
}

int ptq_tok_add_specials(struct ptq_tok_def *def, bool user, struct ptq_arena *a,
                         struct ptq_status *st)
{
    int64_t n = 0;
    for (int64_t i = 0; i < def->n; i++)
        n += is_added(def, i, user);
    struct ptq_added_token *added = ptq_arena_alloc(a, st, n, sizeof *added);
    if (!added)
        return st->code;
    for (int64_t i = 0; i < def->n; i++) {
        if (!is_added(def, i, user))
            continue;
        struct ptq_added_token *t = &added[def->n_added++];
        t->id = (int32_t)i;
        t->bytes = def->at[i + 1] - def->at[i];
        t->special = def->type[i] != PTQ_TOKEN_USER;
        char *text = ptq_arena_alloc(a, st, t->bytes + 1, 1);
        if (!text)
            return st->code;
        t->text = memcpy(text, def->text + def->at[i], (size_t)t->bytes);
    }
    def->added = added;
    return PTQ_OK;
}
