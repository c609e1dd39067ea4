/* invariants.h: what must hold of every finished run, whatever its methods: `ptq check`, and after
 * each sweep. One table of rules (invariants.c); a new rule is one entry and its function. Rules
 * read the run's rows and, through `source` in them, one layer of its model. What cannot be checked
 * is said, never passed over. */
#ifndef PTQ_ANALYSIS_INVARIANTS_H
#define PTQ_ANALYSIS_INVARIANTS_H
#include "core/arena.h"
#include "core/pool.h"

struct ptq_inspection; /* a run under inspection (inspection.h) */
struct ptq_rule {
    const char *name;
    bool hard;         /* broken: the run's numbers are wrong; else a warning */
    const char *what;  /* what must hold, one line */
    const char *cause; /* what most likely breaks it */
    int (*check)(struct ptq_inspection *);
};
const struct ptq_rule *ptq_invariant_rules(int *n);

enum { PTQ_MAX_FINDINGS = 8 };
struct ptq_rule_result {
    const struct ptq_rule *rule;
    int64_t n_checked, n_broken;
    const char *unit; /* what was counted: "layers", "forms" */
    /* Why all or some could not be checked, or NULL. */
    const char *not_checked;
    const char *findings[PTQ_MAX_FINDINGS]; /* the first of n_broken: layer, values */
    int n_findings;
};
struct ptq_invariants {
    struct ptq_rule_result *at; /* in the order of the rules */
    int n;
    int64_t n_violated, n_warned, n_not_checked; /* rules */
};
struct ptq_invariants_args {
    const char *run_dir;
    struct ptq_pool *pool; /* NULL: serial */
    /* Stored forms whose bytes are damaged count as absent, as a sweep takes them: forms.pack is
     * its cache, and no number came from what lies there now. Else they break a rule. */
    bool damaged_is_absent;
};
/* Everything in the arena. PTQ_OK also when rules are broken; PTQ_ERR_USAGE: no rows, or broken
 * ones. */
int ptq_invariants_check(const struct ptq_invariants_args *, struct ptq_arena *,
                         struct ptq_invariants *, struct ptq_status *);
#endif
