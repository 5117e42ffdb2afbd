/* A link that is libssl's. */
#ifndef APPS_LINK_SSL_H
#define APPS_LINK_SSL_H

#include <openssl/ssl.h>

#include "link.h"

/* Takes ssl, whose side is set (SSL_set_connect_state or SSL_set_accept_state), also when it fails:
 * NULL, out of memory. */
struct link *link_ssl_new(SSL *ssl, int fd);
SSL *link_get0_ssl(const struct link *l); /* NULL for NULL */

#endif
