#include "cli/interrupt.h"
#include <signal.h>
#include <string.h>
#include <unistd.h>

atomic_bool ptq_interrupted;
static const char *said; /* set before the handler is */

static void on_signal(int signal_number)
{
    (void)signal_number;
    atomic_store(&ptq_interrupted, true);
    if (said && write(STDERR_FILENO, said, strlen(said)) < 0)
        return; /* nobody reads it */
}

void ptq_catch_interrupts(const char *notice)
{
    const struct sigaction action = {.sa_handler = on_signal,
                                     .sa_flags = (int)SA_RESETHAND | SA_RESTART};
    said = notice;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool ptq_interrupt_stop(void *unused)
{
    (void)unused;
    return atomic_load(&ptq_interrupted);
}
