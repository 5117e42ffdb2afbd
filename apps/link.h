/* What tls_conn needs of an encrypted connection: libssl's in the mtls tools (link_ssl.c), SMKEX's
 * in the smkex tools (link_smkex.c). Over a non-blocking socket that stays the caller's. */
#ifndef APPS_LINK_H
#define APPS_LINK_H

#include <stddef.h>

struct link;

enum tls_failure_kind {
    TLS_FAILURE_MTLS, /* Multipath TLS or SMKEX refused it: code */
    TLS_FAILURE_CERT, /* the peer's certificate was refused */
    TLS_FAILURE_TLS,  /* anything else that the protocol says */
    TLS_FAILURE_NET,  /* reset, cut off */
    TLS_FAILURE_TIMEOUT,
    TLS_FAILURE_LOCAL,    /* tls_conn_abort(), memory */
    TLS_FAILURE_RECONNECT /* SMKEX, policy prefer: plain TCP, on a new connection */
};

struct tls_failure {
    enum tls_failure_kind kind;
    int code; /* MTLS_ERR_* or 0 */
    char text[256];
};

enum link_result {
    LINK_OK,
    LINK_WANT_READ,
    LINK_WANT_WRITE,
    LINK_END,   /* the peer's authenticated end */
    LINK_FAILED /* *why says */
};

enum link_result link_handshake(struct link *l, struct tls_failure *why);
enum link_result link_read(struct link *l, void *buf, size_t room, size_t *got,
                           struct tls_failure *why);
enum link_result link_write(struct link *l, const void *data, size_t len, size_t *put,
                            struct tls_failure *why);
/* What the link took and could not send yet. */
enum link_result link_flush(struct link *l, struct tls_failure *why);
/* Ends our direction. */
enum link_result link_shutdown(struct link *l, struct tls_failure *why);
void link_free(struct link *l); /* NULL is allowed */

#endif
