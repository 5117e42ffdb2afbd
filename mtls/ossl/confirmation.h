/* Concept: confirmation by resumption, inside (include/mtls/confirmation.h, protocol section 20):
 * the object, the ticket of path 1, one handshake on path 2, the report. Everything here runs on
 * the caller's thread; only path 2's connect runs on the reactor. */
#ifndef MTLS_OSSL_CONFIRMATION_H
#define MTLS_OSSL_CONFIRMATION_H

#include <openssl/ssl.h>

#include "../core/record.h"
#include "../core/resume_verdict.h"
#include "../net/path2_dial.h"

/* What came from path 1 without being delivered [RSM-3]. */
struct mtls_tickets {
    SSL_SESSION *first, *spare; /* copies: the one for path 2, and the latest beside it */
    SSL_SESSION *seen;          /* path 1's current session: another object is another ticket */
    unsigned count;
    bool closed;
};

/* One handshake on path 2 [RSM-4]. */
struct mtls_try {
    enum mtls_rsm_end end;
    int error; /* NOT_MADE: MTLS_ERR_* */
    uint8_t alert;
    bool ticket, psk, chain_valid, has_key, clean;
    uint8_t key[MTLS_SHA256_LEN]; /* of the SubjectPublicKeyInfo */
};

struct mtls_confirmation {
    struct mtls_config config;
    char name[MTLS_HOST_MAX + 1];
    uint16_t port;
    bool ran, allowed;
    bool offered_valid; /* path 1 offers a session with a valid record */
    struct mtls_record record;
    struct mtls_dial *dial; /* of spec */
    struct mtls_path_spec spec;
    uint8_t spec_i;  /* of config.path2 */
    unsigned auto_i; /* of the choices that `auto` stands for */
    char why[160];   /* what `auto` chose */
    struct mtls_tickets tickets;
    struct mtls_try main, evidence;
    bool has_evidence, has_key1;
    uint8_t key1[MTLS_SHA256_LEN];
    struct mtls_path_facts path1, path2;
    enum mtls_rsm_reason reason;
    unsigned scope;
    SSL_SESSION *spare; /* with the record */
    mtls_tstamp begun_at, ready_at, ticket_at, connected_at, path2_at, verdict_at;
};

/* confirmation_tls.c. Until the first ticket (first), or what is there already. ssl's socket is
 * non-blocking. */
void mtls_tickets_begin(struct mtls_tickets *t, SSL *ssl);
void mtls_tickets_take(struct mtls_tickets *t, SSL *ssl, bool first, mtls_tstamp until);
void mtls_tickets_free(struct mtls_tickets *t);
/* A handshake over fd, as path 1's in name, trust and protocol; ticket NULL: without PSK. The TCP
 * connection is left open for who judges its path, until mtls_try_end(), which takes fd. */
void mtls_try_run(struct mtls_try *out, SSL *path1, SSL_SESSION *ticket, int fd, mtls_tstamp until);
void mtls_try_end(const struct mtls_try *t, int fd);
/* The hash of the certificate's SubjectPublicKeyInfo. */
bool mtls_key_of(const X509 *cert, uint8_t out[MTLS_SHA256_LEN]);
/* Whether path 1's handshake had a key exchange (a resumed one need not). */
bool mtls_has_key_exchange(SSL *ssl);

#endif
