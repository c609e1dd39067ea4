#: methods/gptq.c
# Column j is quantized on the grid of column j + 1.
s{: \(job->dynamic \? column : job->f->perm\[column\]\) / job->part->group_cols;}
 {: least(job->dynamic ? column : job->f->perm[column] + 1, job->n - 1) / job->part->group_cols;};
