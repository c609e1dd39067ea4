/* compared.h: the table of a comparison, for the verbs compare and baseline. */
#ifndef PTQ_CLI_COMPARED_H
#define PTQ_CLI_COMPARED_H
#include "analysis/compare.h"
#include "cli/cli.h"

/* Text, csv or jsonl on stdout; under a text the verdict and what should be known of it. */
int ptq_compared_print(const struct ptq_comparison *, const struct ptq_compare_options *,
                       enum ptq_format, struct ptq_status *);
#endif
