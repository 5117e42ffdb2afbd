/* Concept: the confirmation: P2, D and both tags (protocol.md, "Keys and tags"). Keeps nothing. */
#ifndef MTLS_CORE_CONFIRM_H
#define MTLS_CORE_CONFIRM_H

#include "common.h"
#include "crypto.h"

/* What both sides of a session hold once the handshake has got there. Secret: wipe it. */
struct mtls_keys {
    uint8_t protocol; /* enum mtls_protocol: whose labels; 0 is Multipath TLS */
    uint8_t version;  /* of the extension (SMKEX: of ANSWER), 1 */
    uint8_t hlen;     /* 32 or 48 */
    uint8_t th[MTLS_HASH_MAX];
    uint8_t k_s[MTLS_KEY_LEN], k_c[MTLS_KEY_LEN];
};

struct mtls_counted { /* one counted claim */
    uint8_t path;
    uint8_t p2[MTLS_SHA256_LEN];
    uint8_t tag_s[MTLS_TAG_LEN];
};

/* ek: 64 exporter bytes, th: hlen bytes. Errors: MTLS_ERR_ARG (hlen not 32 or 48). */
MTLS_NODISCARD int mtls_keys_init(struct mtls_keys *keys, const uint8_t ek[MTLS_EK_LEN],
                                  const uint8_t *th, size_t hlen);
void mtls_keys_wipe(struct mtls_keys *keys);

/* P2 = SHA-256(HELLO frame || READY frame). Errors of all below: MTLS_ERR_CRYPTO, MTLS_ERR_ARG. */
MTLS_NODISCARD int mtls_confirm_p2(struct mtls_crypto *c, const uint8_t hello[75],
                                   const uint8_t ready[73], uint8_t p2[MTLS_SHA256_LEN]);
MTLS_NODISCARD int mtls_confirm_server_tag(struct mtls_crypto *c, const struct mtls_keys *keys,
                                           const uint8_t p2[MTLS_SHA256_LEN],
                                           uint8_t tag_s[MTLS_TAG_LEN]);
/* Sorted by strictly rising path; else MTLS_ERR_ARG, and when n is 0 or over MTLS_PATHS_MAX. */
MTLS_NODISCARD int mtls_confirm_d(struct mtls_crypto *c, const struct mtls_counted *counted,
                                  size_t n, uint8_t d[MTLS_SHA256_LEN]);
MTLS_NODISCARD int mtls_confirm_client_tag(struct mtls_crypto *c, const struct mtls_keys *keys,
                                           const uint8_t p2[MTLS_SHA256_LEN],
                                           const uint8_t tag_s[MTLS_TAG_LEN], uint8_t k, uint8_t n,
                                           const uint8_t d[MTLS_SHA256_LEN],
                                           uint8_t tag_c[MTLS_TAG_LEN]);
/* Constant time. */
bool mtls_tag_equal(const uint8_t a[MTLS_TAG_LEN], const uint8_t b[MTLS_TAG_LEN]);

#endif
