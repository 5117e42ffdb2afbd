/* Concept: SMKEX's cryptography: the primitives fetched once, Diffie-Hellman, the server's
 * signature, and the key schedule [SKY]. Keeps no state of a session. */
#ifndef SMKEX_CORE_KEYS_H
#define SMKEX_CORE_KEYS_H

#include <openssl/evp.h>

#include "mtls/core/confirm.h"
#include "wire.h"

/* Read-only after it was made: any thread may use it. */
struct smkex_crypto;
/* libctx NULL = default. Errors: MTLS_ERR_CRYPTO, MTLS_ERR_NOMEM. */
MTLS_NODISCARD int smkex_crypto_new(struct smkex_crypto **out, OSSL_LIB_CTX *libctx);
void smkex_crypto_free(struct smkex_crypto *c);
const EVP_CIPHER *smkex_crypto_cipher(const struct smkex_crypto *c, uint8_t suite); /* or NULL */
MTLS_NODISCARD int smkex_crypto_sha256(const struct smkex_crypto *c,
                                       const struct mtls_bytes *pieces, size_t n,
                                       uint8_t out[MTLS_SHA256_LEN]);
/* The join of a secret [EXT-2]. */
MTLS_NODISCARD int smkex_crypto_join(const struct smkex_crypto *c,
                                     const uint8_t secret[MTLS_SECRET_LEN],
                                     uint8_t join[MTLS_JOIN_LEN]);
MTLS_NODISCARD int smkex_crypto_random(const struct smkex_crypto *c, uint8_t *out, size_t len);

/* A fresh key pair of a group and its share. Errors: MTLS_ERR_CRYPTO, MTLS_ERR_ARG (no such
 * group). *key: EVP_PKEY_free(). */
MTLS_NODISCARD int smkex_dh_new(const struct smkex_crypto *c, uint8_t group, EVP_PKEY **key,
                                struct smkex_share *share);
/* The shared secret [SKY-2]. own: our share of this group. Errors: MTLS_ERR_SMKEX_SHARE [ANS-3],
 * MTLS_ERR_CRYPTO. */
MTLS_NODISCARD int smkex_dh_derive(const struct smkex_crypto *c, EVP_PKEY *key,
                                   const struct smkex_share *own, const struct smkex_share *peer,
                                   uint8_t dh[32]);

/* [TOF-1]. digest: H(OFFER || ANSWER without its last 64 bytes). key: Ed25519, private. Errors:
 * MTLS_ERR_CRYPTO. */
MTLS_NODISCARD int smkex_sign(const struct smkex_crypto *c, enum smkex_mode mode, EVP_PKEY *key,
                              const uint8_t digest[MTLS_SHA256_LEN],
                              uint8_t signature[SMKEX_SIG_LEN]);
/* Errors: MTLS_ERR_SMKEX_SIGNATURE. */
MTLS_NODISCARD int smkex_verify(const struct smkex_crypto *c, enum smkex_mode mode,
                                const uint8_t key[SMKEX_KEY_LEN],
                                const uint8_t digest[MTLS_SHA256_LEN],
                                const uint8_t signature[SMKEX_SIG_LEN]);

/* ES [SKY-3] and, for path 2, TH, k_s and k_c. Both are secret: wipe them. */
MTLS_NODISCARD int smkex_schedule_confirm(const struct smkex_crypto *c, enum smkex_mode mode,
                                          const uint8_t dh[32], const uint8_t th[MTLS_SHA256_LEN],
                                          uint8_t es[32], struct mtls_keys *keys);
/* The two traffic secrets [SKY-4] [SKY-5]. Single-path mode: d 32 zero bytes, k = n = 0. */
MTLS_NODISCARD int smkex_schedule_data(const struct smkex_crypto *c, enum smkex_mode mode,
                                       const uint8_t es[32], const uint8_t d[MTLS_SHA256_LEN],
                                       uint8_t k, uint8_t n, uint8_t client[32],
                                       uint8_t server[32]);
/* key (16 or 32 bytes) and iv of a traffic secret; and the secret after it, which may be the same
 * memory [SKY-6]. */
MTLS_NODISCARD int smkex_schedule_record(const struct smkex_crypto *c, enum smkex_mode mode,
                                         const uint8_t secret[32], uint8_t *key, size_t key_len,
                                         uint8_t iv[12]);
MTLS_NODISCARD int smkex_schedule_update(const struct smkex_crypto *c, enum smkex_mode mode,
                                         const uint8_t secret[32], uint8_t next[32]);

#endif
