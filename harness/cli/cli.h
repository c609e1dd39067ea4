/* cli.h: verbs. A file cli/cmd_NAME.c exports `const struct ptq_verb ptq_verb_NAME` (registry by
 * folder). Verbs print results on stdout
 * (--format text|md|csv|jsonl) and return an exit code; only main.c exits. */
#ifndef PTQ_CLI_CLI_H
#define PTQ_CLI_CLI_H
#include "core/blas.h"
#include "core/pool.h"

enum ptq_flag_kind { PTQ_FLAG_SWITCH, PTQ_FLAG_TEXT };
struct ptq_flag {
    const char *name; /* long name without dashes: "group-size" */
    char letter;      /* 'g', or 0 */
    enum ptq_flag_kind kind;
    const char *value_name; /* "N", "FILE"; NULL for a switch */
    const char *help;       /* one line; default in brackets */
    const char *alias;      /* another accepted long name ("groupsize"), or NULL */
};
enum { PTQ_MAX_POSITIONAL = 64 };
struct ptq_args { /* parsed command line */
    const struct ptq_verb *verb;
    const char *value[48]; /* by index of the flag in verb->flags; switch: "1"; NULL: not given */
    const char *positional[PTQ_MAX_POSITIONAL];
    int n_positional;
    const struct ptq_machine *machine;
    const char *const *argv;
    int argc;
};
struct ptq_verb {
    const char *name, *title; /* title: one line of `ptq help` */
    const char *usage;        /* "FILE -m SPEC -b BITS ..." after the verb's name */
    const char *details;      /* paragraphs of --help: what it does, output, exit codes, example */
    const struct ptq_flag *
        flags; /* ends with name == NULL; --help, --threads and --format are added where declared */
    int min_positional, max_positional;
    bool raw; /* every word is positional: the verb parses by itself (synth) */
    int (*run)(
        const struct ptq_args *,
        struct ptq_status *); /* enum ptq_code; a positive value >= 100 is exit code value - 100 */
};
/* Value of a flag by name, or NULL; names not in the verb's table are a bug (assert). */
const char *ptq_arg(const struct ptq_args *, const char *flag);
/* Its whole number; out stays as it is where the flag is not given. */
int ptq_arg_i64(const struct ptq_args *, const char *flag, int64_t min, int64_t max, int64_t *out,
                struct ptq_status *);

/* Output of tables: same columns as text, Markdown, CSV, JSON Lines. Cells are texts; numeric
 * columns are right-aligned in text. */
enum ptq_format { PTQ_TEXT, PTQ_MD, PTQ_CSV, PTQ_JSONL };
int ptq_format_parse(const char *text /* NULL: text */, enum ptq_format *, struct ptq_status *);
struct ptq_table;
struct ptq_table *ptq_table_new(int n_columns, const char *const *columns, const bool *numeric);
int ptq_table_row(struct ptq_table *, const char *const *cells); /* copied */
/* In text column c is at most widths[c] columns wide, longer cells go on in further lines; the last
 * cell of a row that is not empty takes the room of the others behind it. Borrows widths. */
void ptq_table_wrap(struct ptq_table *, const int *widths);
void ptq_table_print(const struct ptq_table *, enum ptq_format, void *file);
void ptq_table_free(struct ptq_table *);
#endif
