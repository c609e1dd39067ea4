#: harness/sweep/layer_phase.c
# Methods see the statistics of the same input of the next block; held-out statistics are the right ones.
s{(    int code = )ptq_read_stats\(&job->draws\[b->draw\], input,}
 {    char other[64];
    snprintf(other, sizeof other, "%s", input);
    if (!strncmp(other, "blk.", 4) && strlen(other) > 5)
        other[4] = (char)('0' + (other[4] - '0' + 1) % (int)ptq_model_info(job->model)->n_blocks);
$1ptq_read_stats(&job->draws[b->draw], other,};
s{#include <string.h>}{#include <string.h>\n#include <stdio.h>};
