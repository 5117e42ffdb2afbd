/* A link that is libssl's. */
#ifndef APPS_LINK_SSL_H
#define APPS_LINK_SSL_H

#include <openssl/ssl.h>

#include <mtls/confirmation.h>

#include "link.h"

/* Takes ssl, whose side is set (SSL_set_connect_state or SSL_set_accept_state), also when it fails:
 * NULL, out of memory. */
struct link *link_ssl_new(SSL *ssl, int fd);
/* The handshake fails with this MTLS_ERR_* before it begins. */
void link_ssl_refuse(struct link *l, int code);
/* What is freed with the link, before its SSL. */
void link_ssl_own(struct link *l, void *owner, void (*owner_free)(void *owner));
void *link_get0_owner(const struct link *l);
/* The verdict of a confirmation by resumption, the owner's; code: its refusal, or 0. */
void link_ssl_judged(struct link *l, const struct mtls_confirmation *confirmation, int code);
/* NULL: not judged. */
const struct mtls_confirmation *link_get0_confirmation(const struct link *l, int *code);
SSL *link_get0_ssl(const struct link *l); /* NULL for NULL */

#endif
