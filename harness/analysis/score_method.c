#include "analysis/score_method.h"
#include "analysis/score_audit.h"
#include "quant/ctx.h"
#include <string.h>

static void note_audit(struct ptq_ctx *ctx, const struct ptq_external_layer *l,
                       const struct ptq_score_audit *a)
{
    const struct {
        const char *key;
        int64_t n;
    } counts[] = {{"n_weights", a->n_weights},
                  {"n_file_bits", l->quant.file_bits},
                  {"n_form_bits", l->form_bits},
                  {"n_on_no_grid", a->bits == 0},
                  {"n_rest_differs", l->rest_differs},
                  {"n_grids", a->n_groups},
                  {"n_rtn_same", a->n_rtn_same},
                  {"n_rtn_close", a->n_rtn_close},
                  {"n_rtn_layers", a->bits && !l->rest_differs && a->n_rtn_close == a->n_weights},
                  {"n_clipped_weights", a->n_clipped},
                  {"n_saturated_groups", a->n_saturated},
                  {"n_one_sided_groups", a->n_one_sided},
                  {"n_flat_groups", a->n_flat},
                  {"n_scale_zero", a->n_scale_zero},
                  {"n_scale_negative", a->n_scale_negative},
                  {"n_scale_subnormal", a->n_scale_subnormal},
                  {"n_scaled_rows", a->n_scaled_rows},
                  {"n_scaled_cols", a->n_scaled_cols},
                  {"n_zero_out_of_range", a->n_out_of_range}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        ptq_note(ctx, counts[i].key, (double)counts[i].n);
    ptq_note(ctx, "grid_bits", a->bits);
    ptq_note(ctx, "grid_group", (double)a->group_cols);
    ptq_note(ctx, "grid_found", a->found);
    ptq_note(ctx, "grid_sym", a->sym);
}

static int quantize(struct ptq_ctx *ctx, const struct ptq_layer *layer, const struct ptq_cell *cell,
                    const void *opts, const void *shared, struct ptq_quant *out)
{
    struct ptq_external *x = *(struct ptq_external *const *)opts;
    const struct ptq_external_want want = {layer->name, layer->w.rows, layer->w.cols};
    struct ptq_external_layer l;
    struct ptq_score_audit audit;
    (void)cell, (void)shared;
    int rc = ptq_external_layer(x, &want, ctx->result, &l, ctx->st);
    if (rc)
        return rc;
    rc = ptq_score_audit_layer(&l, layer->w.at, layer->w.ld, ctx->call, &audit, ctx->st);
    if (rc)
        return rc;
    note_audit(ctx, &l, &audit);
    *out = l.quant;
    return PTQ_OK;
}

static const struct ptq_method external = {
    .name = "external",
    .title = "A checkpoint that another program quantized",
    .status = "measured as it is",
    .caps = PTQ_CAP_SYM | PTQ_CAP_ASYM | PTQ_CAP_GROUPS | PTQ_CAP_TENSOR | PTQ_CAP_GRID_MSE |
            PTQ_CAP_GRID_HESS | PTQ_CAP_ZERO_FREE,
    .quantize = quantize,
};
/* Grows with what is read of a checkpoint, or how: its rows are then made again. */
static const char reader_version[] = "2";

int ptq_score_spec(struct ptq_external *x, const char *name, struct ptq_arena *arena,
                   struct ptq_spec *spec, struct ptq_status *st)
{
    struct ptq_external **opts = ptq_arena_alloc(arena, st, 1, sizeof *opts);
    struct ptq_method_entry *entry = ptq_arena_alloc(arena, st, 1, sizeof *entry);
    *spec = (struct ptq_spec){.entry = entry, .opts = opts, .canonical = ""};
    spec->name = spec->label = ptq_arena_printf(arena, st, "external:%s", name);
    /* The contents are what the source of a method is to others: they are part of every key, and
     * `ptq compare` sets one version against the next. */
    const char *version = ptq_arena_printf(arena, st, "%s-%s-%s", reader_version, x->key,
                                           strcmp(x->kind, "datasets") ? "" : x->dataset);
    if (!opts || !entry || !spec->name || !version)
        return PTQ_ERR_MEMORY;
    *opts = x;
    *entry = (struct ptq_method_entry){
        .name = "external", .version = version, .single = &external, .dbl = &external};
    return PTQ_OK;
}
