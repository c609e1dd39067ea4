#include "sweep/placed.h"

int ptq_linear_take(struct ptq_linear *lin, const struct ptq_result *r, struct ptq_arena *arena,
                    struct ptq_status *st)
{
    if (!r->quant.split.n_cols) /* else What is no matrix of this shape */
        lin->w = r->what;
    if (!ptq_quant_treats_inputs(&r->quant))
        return PTQ_OK;
    struct ptq_quant_run *run = ptq_arena_alloc(arena, st, 1, sizeof *run);
    lin->run = run;
    return run ? ptq_quant_run_init(run, &r->quant, r->what, arena, st) : PTQ_ERR_MEMORY;
}

static int take(struct ptq_placed *p, const struct ptq_forms *f, int lin, struct ptq_status *st)
{
    struct ptq_result *own = &p->forms[p->n_forms];
    const struct ptq_result *use = NULL;
    int code = f->of(f->arg, &p->exact, lin, own, &use, st);
    if (code)
        return code == PTQ_SKIP ? PTQ_OK : code;
    if (!use)
        p->n_forms++;
    return ptq_linear_take(&p->block.lin[lin], use ? use : own, &p->arena, st);
}

int ptq_placed_load(struct ptq_placed *p, const struct ptq_model *model, int index,
                    const struct ptq_forms *forms, struct ptq_status *st)
{
    ptq_arena_init(&p->arena, 0);
    p->n_forms = 0;
    int code = ptq_model_load_block(model, index, &p->arena, &p->exact, st);
    p->block = p->exact;
    for (int i = 0; forms && !code && i < p->exact.n_linears; i++)
        code = take(p, forms, i, st);
    return code;
}

void ptq_placed_release(struct ptq_placed *p)
{
    for (int i = 0; i < p->n_forms; i++)
        ptq_result_release(&p->forms[i]);
    p->n_forms = 0;
    ptq_arena_clear(&p->arena);
}

int ptq_placed_run(const struct ptq_placed_args *a, int index, struct ptq_hidden *hidden,
                   struct ptq_status *st)
{
    struct ptq_placed p;
    int code = ptq_placed_load(&p, a->model, index, a->forms, st);
    if (!code)
        code = ptq_block_run(a->model, &p.block, a->pool, hidden, a->tap, st);
    ptq_placed_release(&p);
    return code;
}
