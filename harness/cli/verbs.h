/* verbs.h: the registry of verbs and the parsing of their command lines (for main.c). */
#ifndef PTQ_CLI_VERBS_H
#define PTQ_CLI_VERBS_H
#include "cli/cli.h"
#include <stdio.h>

const struct ptq_verb *const *ptq_verbs(void); /* NULL-terminated, name order */
/* argv without program and verb. *help: --help or -h was given (nothing else is checked then).
 * Unknown flags name the nearest. */
int ptq_args_parse(struct ptq_args *, const struct ptq_verb *, int argc, char **argv, bool *help,
                   struct ptq_status *);
bool ptq_has_flag(const struct ptq_verb *, const char *flag);
void ptq_verb_help(const struct ptq_verb *, FILE *);
#endif
