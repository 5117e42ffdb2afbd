/* What client and server set up alike on an SSL_CTX: certificates, ALPN, key log, random files.
 * Errors are printed on stderr ("PROG: ...") and answered with -1. */
#ifndef APPS_TLS_SETUP_H
#define APPS_TLS_SETUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#define ALPN_WIRE_MAX 256

/* A chain in PEM, the leaf first, and its key; checks that they belong together. Also replaces what
 * ctx had: all or nothing. */
int tls_setup_certificate(SSL_CTX *ctx, const char *prog, const char *chain, const char *key);
/* SSLKEYLOGFILE, if it is set (and the program is not privileged): announced on stderr. */
int tls_setup_keylog(SSL_CTX *ctx, const char *prog);
/* "h2,http/1.1" in the form of the protocol. The length, or -1 (nothing is printed). */
int tls_setup_alpn_wire(const char *list, uint8_t out[ALPN_WIRE_MAX]);
/* Prints "PROG: WHAT: reason" with the first entry of libssl's queue, and empties it. Returns -1.
 */
int tls_setup_error(const char *prog, const char *what);

/* The configuration words of a command line, in one string. */
struct words {
    char text[8192];
    size_t len;
};

/* Appends " key=value"; key NULL: value is words already. -1: value holds white space, or too long.
 */
int words_add(struct words *w, const char *key, const char *value);

#endif
