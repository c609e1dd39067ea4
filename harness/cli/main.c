/* main.c: the program. Finds the verb, parses its flags, runs it, turns its status into the exit
 * code. The only exit() is the return from main. */
#include "cli/cli.h"
#include "cli/verbs.h"
#include "core/words.h"
#include "version.inc"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static void print_help(FILE *f)
{
    fputs("ptq: benchmark of post-training quantization of language models\n\n"
          "  ptq sweep configs/demo.ini                      methods x bits x groups, resumable, "
          "with a report\n"
          "  ptq run layers.h5 -m gptq -b 3 -g 128 -l NAME   one cell of one layer, every metric\n"
          "  ptq eval demo                                   perplexity of a model under a named "
          "protocol\n\n",
          f);
    for (const struct ptq_verb *const *v = ptq_verbs(); *v; v++)
        fprintf(f, "  %-9s %s\n", (*v)->name, (*v)->title);
    fputs("\n`ptq VERB --help` is complete.\n", f);
}

static int unknown_verb(const char *word, struct ptq_status *st)
{
    const char *names[64];
    int n = 0;
    for (const struct ptq_verb *const *v = ptq_verbs(); *v && n < 63; v++)
        names[n++] = (*v)->name;
    names[n] = NULL;
    return ptq_unknown_word("verb", word, names, st);
}

static int run_verb(int argc, char **argv, struct ptq_status *st)
{
    const struct ptq_verb *verb = NULL;
    for (const struct ptq_verb *const *v = ptq_verbs(); *v; v++)
        if (!strcmp((*v)->name, argv[1]))
            verb = *v;
    if (!verb)
        return unknown_verb(argv[1], st);
    static struct ptq_machine machine; /* lives as long as the process */
    struct ptq_args args;
    bool help = false;
    int code = ptq_args_parse(&args, verb, argc - 2, argv + 2, &help, st);
    if (help) {
        ptq_verb_help(verb, stdout);
        return PTQ_OK;
    }
    if (code)
        return code;
    args.argc = argc;
    args.argv = (const char *const *)argv;
    code = ptq_machine_init(&machine, ptq_has_flag(verb, "portable") && ptq_arg(&args, "portable"),
                            argv, st);
    if (code < 0)
        return code;
    args.machine = &machine;
    return verb->run(&args, st);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
        !strcmp(argv[1], "help")) {
        print_help(stdout);
        return 0;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("ptq %s (%s, %s)\n", PTQ_COMMIT, PTQ_BUILD, PTQ_COMPILER);
        return 0;
    }
    struct ptq_status st = {0};
    int code = run_verb(argc, argv, &st);
    errno = 0;
    bool unwritten = fflush(stdout) || ferror(stdout);
    if (unwritten &&
        errno != EPIPE) { /* a reader that has seen enough, such as head, is no fault */
        fprintf(stderr, "ptq: writing the results to stdout failed\n");
        return code < 0 ? ptq_status_exit_code(code) : 6;
    }
    if (code >= 100)
        return code - 100;
    if (code)
        fprintf(stderr, "ptq %s: %s\n", argv[1],
                *st.text ? st.text : "failed without a reason (a bug)");
    return ptq_status_exit_code(code);
}
