/* Concept: the primitives the pure rooms compute with, fetched once per library context.
 * Owns the fetched EVP objects and one keyed context. Not thread safe: one user at a time (the
 * engine lock). Touches no socket, clock or libssl. */
#ifndef MTLS_CORE_CRYPTO_H
#define MTLS_CORE_CRYPTO_H

#include <openssl/evp.h>

#include "common.h"

struct mtls_crypto;

enum mtls_role { MTLS_ROLE_SERVER, MTLS_ROLE_CLIENT };

/* The protocol that a proof is for: its label. */
enum mtls_protocol { MTLS_PROTOCOL_TLS, MTLS_PROTOCOL_SMKEX, MTLS_PROTOCOLS };

/* Fetches SHA256, SHA384 and the provider's MAC "MTLS1-PROOF" from libctx (NULL = default); the
 * provider mtls must be active there. *out is the caller's, freed with mtls_crypto_free().
 * Errors: MTLS_ERR_PROVIDER (MAC not there), MTLS_ERR_CRYPTO (hash not there), MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_crypto_new(struct mtls_crypto **out, OSSL_LIB_CTX *libctx,
                                   const char *propq);
void mtls_crypto_free(struct mtls_crypto *c);

/* A fetched hash of hlen 32 (SHA-256) or 48 (SHA-384), owned by c; NULL for any other length. */
const EVP_MD *mtls_crypto_md(const struct mtls_crypto *c, size_t hlen);

struct mtls_bytes {
    const void *data;
    size_t len;
};

/* SHA-256 over the concatenation of n pieces. Errors: MTLS_ERR_CRYPTO. */
MTLS_NODISCARD int mtls_crypto_sha256(struct mtls_crypto *c, const struct mtls_bytes *pieces,
                                      size_t n, uint8_t out[MTLS_SHA256_LEN]);

/* HMAC-SHA-256 under key over role label || 00 || the n pieces ([TAG-3], [TAG-5]). Errors:
 * MTLS_ERR_CRYPTO. */
MTLS_NODISCARD int mtls_crypto_proof(struct mtls_crypto *c, enum mtls_role role,
                                     const uint8_t key[MTLS_KEY_LEN],
                                     const struct mtls_bytes *pieces, size_t n,
                                     uint8_t tag[MTLS_TAG_LEN]);

/* The same with the label of a protocol [SPA-3]; the one above is Multipath TLS's. */
MTLS_NODISCARD int mtls_crypto_proof_of(struct mtls_crypto *c, enum mtls_protocol protocol,
                                        enum mtls_role role, const uint8_t key[MTLS_KEY_LEN],
                                        const struct mtls_bytes *pieces, size_t n,
                                        uint8_t tag[MTLS_TAG_LEN]);

/* Cryptographically strong random bytes (RAND_bytes of c's library context). Errors:
 * MTLS_ERR_CRYPTO. */
MTLS_NODISCARD int mtls_crypto_random(struct mtls_crypto *c, uint8_t *out, size_t len);

/* join = first 16 bytes of SHA-256("mtls1 join" || 00 || secret). Errors: MTLS_ERR_CRYPTO. */
MTLS_NODISCARD int mtls_crypto_join(struct mtls_crypto *c, const uint8_t secret[MTLS_SECRET_LEN],
                                    uint8_t join[MTLS_JOIN_LEN]);

#endif
