#include "model/rest.h"
#include "core/arena.h"
#include "model/internal.h"

static void add(struct ptq_rest_tensor *to, int64_t *n, const char *name, int64_t d0, int64_t d1)
{
    if (name)
        to[(*n)++] = (struct ptq_rest_tensor){name, d0, d1};
}

static void add_outer(const struct ptq_model *m, bool at_head, struct ptq_rest_tensor *to,
                      int64_t *n)
{
    for (int k = 0; k < PTQ_MAX_OUTER; k++)
        if (m->outer[k].at_head == at_head)
            add(to, n, m->outer[k].name, m->outer[k].d0, m->outer[k].d1);
}

int ptq_model_rest(const struct ptq_model *m, struct ptq_arena *arena, struct ptq_rest_tensor **out,
                   int64_t *n, struct ptq_status *st)
{
    const struct ptq_model_info *i = &m->info;
    struct ptq_rest_tensor *to =
        ptq_arena_alloc(arena, st, i->n_blocks * PTQ_MAX_VECTORS + PTQ_MAX_OUTER + 2, sizeof *to);
    int rc = to ? PTQ_OK : PTQ_ERR_MEMORY;
    *out = to;
    *n = 0;
    if (rc)
        return rc;
    add(to, n, "tok_embd", i->vocab_size, i->d_embd);
    add_outer(m, false, to, n);
    for (int b = 0; b < i->n_blocks && !rc; b++) {
        struct ptq_block block;
        rc = ptq_model_layout(m, b, arena, &block, st);
        for (int k = 0; k < block.n_vectors && !rc; k++)
            add(to, n, block.vec[k].name, block.vec[k].n, 0);
    }
    add_outer(m, true, to, n);
    if (!i->tied_head && !i->encoder)
        add(to, n, "output", i->vocab_size, i->d_embd);
    return rc;
}
