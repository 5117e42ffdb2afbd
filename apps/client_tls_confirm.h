/* mtls-client's protocol, as far as --confirm resume and --confirm auto go. */
#ifndef APPS_CLIENT_TLS_CONFIRM_H
#define APPS_CLIENT_TLS_CONFIRM_H

#include <mtls/confirmation.h>

#include "client.h"

/* Sets c->confirm, and words to those that the SSL_CTX is to be hooked with. 0, or -1 after a
 * message. */
int client_tls_confirm_setup(struct client *c, struct words *words);
/* Path 2's connect begins with path 1's. */
void client_tls_confirm_announce(struct client *c);
/* A connection is there: what was announced is its own. */
void client_tls_confirm_open(struct client *c, struct link *link);
void client_tls_confirm_free(void);

/* client_tls.c: an SSL with its names and what it offers. NULL: out of memory. */
SSL *client_tls_new(const struct client *c);
/* client_tls.c: writes it to --sess-out, if that is given. */
void client_tls_keep(SSL_SESSION *session);

#endif
