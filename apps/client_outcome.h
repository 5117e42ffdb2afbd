/* --forward under smkexize: its library is told what became of a connection, so that the program's
 * connect() ends as it would without anything between. */
#ifndef APPS_CLIENT_OUTCOME_H
#define APPS_CLIENT_OUTCOME_H

#include "client.h"

/* 0, or -1 after a message. */
int client_outcome_setup(struct client *c);
void client_outcome_free(struct client *c);
/* fd: the program's connection to us. reason NULL: it is made; else why not, as in reports; text:
 * the message. */
void client_outcome_note(struct client *c, int fd, const char *reason, const char *text);

#endif
