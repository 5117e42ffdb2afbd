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
    int fd;   /* path 1's */
    bool fed; /* what comes there gets to the SSL by somebody else's doing: memory BIOs */
    bool closed;
};

/* One handshake on path 2 [RSM-4]. */
struct mtls_try {
    enum mtls_rsm_end end;
    int error; /* NOT_MADE: MTLS_ERR_* */
    uint8_t alert;
    bool ticket, psk, chain_valid, has_key, clean;
    uint8_t key[MTLS_SHA256_LEN]; /* of the SubjectPublicKeyInfo */
    STACK_OF(X509) * chain;       /* a full handshake's; NULL */
};

/* Both paths' addresses as text, for who asks. */
struct mtls_confirmation_text {
    char local[64], remote[64], via[64];
};

struct mtls_confirmation {
    struct mtls_config config;
    char name[MTLS_HOST_MAX + 1];
    uint16_t port;
    int given_fd; /* path 1's socket where libssl does not know it, -1 */
    bool ran, allowed;
    bool fed, hungry; /* see mtls_tickets; waits to be fed */
    mtls_tstamp until;
    struct mtls_rsm_facts facts;
    bool
        leave_rest; /* take nothing behind the first ticket: whoever reads later polls the socket */
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
    struct mtls_confirmation_text text[2];
    char shares[128];
    enum mtls_rsm_reason reason;
    unsigned scope;
    SSL_SESSION *spare; /* with the record */
    STACK_OF(X509) * chain1;
    char *bundle; /* the evidence bundle's file, NULL */
    int bundle_error;
    mtls_tstamp begun_at, ready_at, ticket_at, connected_at, path2_at, verdict_at;
};

/* mtls_confirmation_new() with a configuration that was read before. */
struct mtls_confirmation *mtls_confirmation_make(const struct mtls_config *config, const char *name,
                                                 uint16_t port, SSL_SESSION *offered);

/* mtls_confirmation_run(), but -1 where ssl has to be fed with what has come to path 1's socket:
 * SSL_ERROR_WANT_READ; then again. */
int mtls_confirmation_go_on(struct mtls_confirmation *c, SSL *ssl);

/* confirmation_tls.c. Until the first ticket (first), or what is there already. ssl's socket is
 * non-blocking. false: ssl is to be fed. */
void mtls_tickets_begin(struct mtls_tickets *t, SSL *ssl, int fd, bool fed);
bool mtls_tickets_take(struct mtls_tickets *t, SSL *ssl, bool first, mtls_tstamp until);
void mtls_tickets_free(struct mtls_tickets *t);
/* A handshake over fd, as path 1's in name, trust and protocol; server: the name to check where
 * path 1's libssl was not told one; ticket NULL: without PSK. The TCP
 * connection is left open for who judges its path, until mtls_try_end(), which takes fd. */
void mtls_try_run(struct mtls_try *out, SSL *path1, const char *server, SSL_SESSION *ticket, int fd,
                  mtls_tstamp until);
void mtls_try_end(const struct mtls_try *t, int fd);
/* Whether libssl was told a name to check, and whether a certificate is for this name or address.
 */
bool mtls_checks_name(SSL *ssl);
bool mtls_name_fits(X509 *cert, const char *name);
/* The hash of the certificate's SubjectPublicKeyInfo. */
bool mtls_key_of(const X509 *cert, uint8_t out[MTLS_SHA256_LEN]);
/* Whether path 1's handshake had a key exchange (a resumed one need not). */
bool mtls_has_key_exchange(SSL *ssl);

/* confirmation_report.c. After the verdict: what mtls_confirmation_get_path() shows. */
void mtls_confirmation_put_texts(struct mtls_confirmation *c);

/* confirmation_evidence.c. The chain that ssl's peer showed, in place of *out. */
void mtls_chain_keep(STACK_OF(X509) * *out, SSL *ssl);
/* After the verdict: writes the bundle if the configuration asks for one. */
void mtls_confirmation_keep_evidence(struct mtls_confirmation *c, SSL *ssl);

#endif
