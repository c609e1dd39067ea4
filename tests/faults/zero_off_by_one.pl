#: methods/rtn.c
# The codes are chosen with one zero point, another one is stored.
s{(ptq_parallel_for\(ctx, layer->w.rows, ROWS_A_PIECE, round_rows, &job\);)}
 {$1
    for (int64_t i = 0; at.zero && i < at.n_groups; i++)
        at.zero[i] += at.zero[i] < (float)((1 << cell->w_bits) - 1) ? 1 : -1;};
#: methods/gptq.c
s{(    ptq_note\(job->ctx, "n_clipped")}
 {    for (int64_t i = 0; job->at.zero && i < job->at.n_groups; i++)
        job->at.zero[i] += job->at.zero[i] < (float)((1 << job->cell->w_bits) - 1) ? 1 : -1;
$1};
