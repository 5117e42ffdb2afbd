/* Concept: the handshake's transcript hash, ClientHello .. server Finished (RFC 8446 section 4.4.1,
 * with the message_hash rule after a HelloRetryRequest), from whole handshake messages.
 * Owns a copy of the ClientHello and, where there is room, of what follows; then one hash context.
 * A flight without certificate, of a resumed session, is hashed only if somebody asks. */
#ifndef MTLS_CORE_TRANSCRIPT_H
#define MTLS_CORE_TRANSCRIPT_H

#include "common.h"
#include "crypto.h"

enum { MTLS_TRANSCRIPT_HELLO_MAX = 1 << 17 /* bytes of buffered ClientHello */ };

struct mtls_transcript;

/* *out is the caller's; c must outlive it. Errors: MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_transcript_new(struct mtls_transcript **out, struct mtls_crypto *c);
void mtls_transcript_free(struct mtls_transcript *t); /* NULL is fine */

/* Adds one whole handshake message (4-byte header included), in the order of the wire, from either
 * side. Messages after the server's Finished are ignored. A ClientHello as the first message or
 * after HelloRetryRequest is taken; a ClientHello at any other point starts the transcript anew
 * only through mtls_transcript_reset(). Errors (sticky): MTLS_ERR_TRANSCRIPT_ORDER (header length
 * differs from len, malformed ServerHello, message before ClientHello, second HelloRetryRequest,
 * client message before server Finished, a message that has no place in a TLS 1.3 server's first
 * flight), MTLS_ERR_TLS_VERSION (ServerHello does not choose 0x0304 in supported_versions;
 * facts.tls13 is false then), MTLS_ERR_TRANSCRIPT_SUITE (unknown, or another than
 * HelloRetryRequest's), MTLS_ERR_LIMIT (ClientHello over the bound), MTLS_ERR_NOMEM,
 * MTLS_ERR_CRYPTO. */
MTLS_NODISCARD int mtls_transcript_message(struct mtls_transcript *t, bool from_server,
                                           const uint8_t *msg, size_t len);
void mtls_transcript_reset(struct mtls_transcript *t);

/* TH; th has room for MTLS_HASH_MAX. Errors: MTLS_ERR_TRANSCRIPT when server Finished has not been
 * added or an earlier error stands; MTLS_ERR_NOMEM, MTLS_ERR_CRYPTO. */
MTLS_NODISCARD int mtls_transcript_get(struct mtls_transcript *t, uint8_t *th, size_t *hlen);

/* Facts read on the way: messages seen so far. tls13 and suite are set by HelloRetryRequest
 * already, key_share and psk by ServerHello alone. */
struct mtls_transcript_facts {
    bool server_hello, hello_retry, encrypted_extensions, complete;
    bool tls13;       /* ServerHello chose 0x0304 in supported_versions */
    bool key_share;   /* ServerHello has a key_share: not psk_ke [RES-2] */
    bool psk;         /* ServerHello has pre_shared_key */
    bool client_auth; /* a CertificateRequest was seen */
    uint16_t suite;
};
/* Whether a ServerHello with this random is a HelloRetryRequest (RFC 8446 section 4.1.3). */
bool mtls_random_is_retry(const uint8_t random[32]);
void mtls_transcript_facts(const struct mtls_transcript *t, struct mtls_transcript_facts *out);

#endif
