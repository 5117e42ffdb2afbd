/* smkexize's helpers: smkex-client and smkex-server processes, from their start until the program
 * that they serve has ended. */
#ifndef APPS_SMKEXIZE_HELPER_H
#define APPS_SMKEXIZE_HELPER_H

#include <sys/types.h>

#define HELPERS_MAX 8

struct helper {
    pid_t pid; /* 0: none */
    int log;   /* its standard error, to be passed on */
};

/* Starts argv (the first word is looked for beside this program) and waits until it listens. 0, or
 * -1: its own message is on standard error. */
int helper_start(struct helper *h, char **argv, const char *beside);
/* Passes its messages on; -1: it has closed them. */
int helper_pass_on(struct helper *h);
/* Lets it end what it is doing, for a few seconds. */
void helper_stop(struct helper *h);

#endif
