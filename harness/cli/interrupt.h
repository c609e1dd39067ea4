/* interrupt.h: Ctrl-C and SIGTERM end a long verb in good order; a second one ends it at once. */
#ifndef PTQ_CLI_INTERRUPT_H
#define PTQ_CLI_INTERRUPT_H
#include <stdatomic.h>
#include <stdbool.h>

extern atomic_bool ptq_interrupted;
/* From now on the first signal sets ptq_interrupted. notice: NULL, or what it says on stderr. */
void ptq_catch_interrupts(const char *notice);
/* For the stop hooks of the work below; the argument is not looked at. */
bool ptq_interrupt_stop(void *unused);
#endif
