#: harness/quant/grid_real.c
# Codes are chosen with exact scales, which are rounded to their format when they are stored.
s{return ptq_round_fmt\(step, cell->scale_fmt\);}{return (float)step;};
#: methods/rtn.c
s{(ptq_parallel_for\(ctx, layer->w.rows, ROWS_A_PIECE, round_rows, &job\);)}
 {$1
    for (int64_t i = 0; i < at.n_groups; i++)
        at.scale[i] = ptq_round_fmt(at.scale[i], cell->scale_fmt);};
#: methods/gptq.c
s{(    ptq_note\(job->ctx, "n_clipped")}
 {    for (int64_t i = 0; i < job->at.n_groups; i++)
        job->at.scale[i] = ptq_round_fmt(job->at.scale[i], job->cell->scale_fmt);
$1};
