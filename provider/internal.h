/* Concept: what the provider's files share: the provider context, the methods it borrows from other
 * providers, its reasons. Libcrypto only; no socket, no file, no libssl. */
#ifndef MTLS_PROVIDER_INTERNAL_H
#define MTLS_PROVIDER_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include <openssl/core_dispatch.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "provider/provider.h"

enum {
    PROV_PROOF_KEY_LEN = 32,
    PROV_PROOF_TAG_LEN = 32,
    PROV_EK_LEN = 64,
    PROV_HASH_MAX = 64,
    PROV_OBSERVED_LEN = 2 + 2 * PROV_HASH_MAX,
};

/* X(symbol, number, "text"): the reasons on OpenSSL's error queue. Numbers are stable. */
#define MTLS_PROV_REASONS(X)                                                                       \
    X(ROLE_MISSING, 1, "role is missing (server or client)")                                       \
    X(ROLE_INVALID, 2, "role is neither server nor client")                                        \
    X(PROTOCOL_INVALID, 3, "protocol is neither mtls1 nor smkex1")                                 \
    X(KEY_MISSING, 4, "key is missing")                                                            \
    X(KEY_LENGTH, 5, "key has the wrong length")                                                   \
    X(NOT_INITIALISED, 6, "operation is not initialised")                                          \
    X(OUTPUT_LENGTH, 7, "output has the wrong length")                                             \
    X(DIGEST_MISSING, 8, "digest is missing")                                                      \
    X(DIGEST_INVALID, 9, "digest is unknown or unusable here")                                     \
    X(NO_EXPORTER, 10, "this protocol has no TLS exporter")                                        \
    X(NOTHING_OBSERVED, 11, "no handshake was observed on this thread")                            \
    X(NO_IMPLEMENTATION, 12, "no other provider has the algorithm underneath")                     \
    X(CONFIG_VALUE, 13, "configuration value is empty or contains white space")                    \
    X(PARAM_TYPE, 14, "parameter has the wrong type")                                              \
    X(SELF_TEST, 15, "self test failed")                                                           \
    X(NO_MEMORY, 16, "out of memory")

#define MTLS_PROV_REASON_ENUM(symbol, number, text) PROV_R_##symbol = number,
enum prov_reason { MTLS_PROV_REASONS(MTLS_PROV_REASON_ENUM) };

enum prov_protocol { PROV_MTLS1, PROV_SMKEX1 };

/* One per activation of the provider in a library context. */
struct mtls_provctx {
    const OSSL_CORE_HANDLE *handle;
    OSSL_DISPATCH *core; /* our copy of the core's functions, for the child context */
    OSSL_FUNC_core_get_params_fn *core_get_params;
    OSSL_FUNC_core_new_error_fn *core_new_error;
    OSSL_FUNC_core_set_error_debug_fn *core_set_error_debug;
    OSSL_FUNC_core_vset_error_fn *core_vset_error;
    CRYPTO_RWLOCK *lock; /* guards the first use: child, then hmac and tls13 */
    OSSL_LIB_CTX *child;
    EVP_MAC *hmac_mac;
    _Atomic(EVP_MAC_CTX *) hmac; /* HMAC-SHA-256 under a dummy key: duplicated, never used itself */
    _Atomic(EVP_KDF *) tls13;    /* another provider's TLS13-KDF */
    _Atomic(char *) config;      /* the words of the section, made at the first question */
    atomic_uint readers;         /* MTLS1-OBSERVED contexts; without one nothing is noted */
};

/* Raises reason on the error queue, with the provider's own library number. */
void prov_raise(const struct mtls_provctx *prov, enum prov_reason reason, const char *file,
                int line, const char *func);
#define PROV_RAISE(prov, symbol) prov_raise((prov), PROV_R_##symbol, __FILE__, __LINE__, __func__)

/* A parameter's value; false if it is of another type. From OpenSSL 3.2 on the getters raise a
 * reason of their own for that, which would stand before ours. */
static inline bool prov_get_text(const OSSL_PARAM *p, const char **text)
{
    return (p->data_type == OSSL_PARAM_UTF8_STRING || p->data_type == OSSL_PARAM_UTF8_PTR) &&
           OSSL_PARAM_get_utf8_string_ptr(p, text);
}

static inline bool prov_get_bytes(const OSSL_PARAM *p, const void **data, size_t *len)
{
    return (p->data_type == OSSL_PARAM_OCTET_STRING || p->data_type == OSSL_PARAM_OCTET_PTR) &&
           OSSL_PARAM_get_octet_string_ptr(p, data, len);
}

/* Borrowed methods, fetched with "provider!=mtls" at the first use. Owned by prov; NULL with a
 * reason raised when no other provider has them (asked again the next time). Any thread. */
EVP_MAC_CTX *prov_hmac_template(struct mtls_provctx *prov);
EVP_KDF *prov_tls13_kdf(struct mtls_provctx *prov);
/* The child library context; only after one of the two above succeeded. */
OSSL_LIB_CTX *prov_libctx(const struct mtls_provctx *prov);

/* The index of p's text in names (n of them), -1 with a reason raised: PARAM_TYPE, or unknown. */
int prov_param_choice(const struct mtls_provctx *prov, const OSSL_PARAM *p,
                      const char *const names[], size_t n, enum prov_reason unknown);

/* "protocol" out of params into *protocol; unchanged where it is not there. 0 with a reason raised.
 */
int prov_get_protocol(const struct mtls_provctx *prov, const OSSL_PARAM params[],
                      enum prov_protocol *protocol);
const char *prov_protocol_name(enum prov_protocol protocol);

/* The configuration words of a section (doc/architecture.md) as one string, keys asked for one by
 * one; get returns NULL for a key that is not there. *text is the caller's, OPENSSL_free. */
enum prov_section { PROV_SECTION_OK, PROV_SECTION_VALUE, PROV_SECTION_NOMEM };
typedef const char *prov_section_get(const void *arg, const char *key);
enum prov_section prov_section_words(prov_section_get *get, const void *arg, char **text);

/* A tag over text in one call, for the self test. 0 with an error raised. */
int prov_proof_once(struct mtls_provctx *prov, const char *role,
                    const unsigned char key[PROV_PROOF_KEY_LEN], const char *text,
                    unsigned char tag[PROV_PROOF_TAG_LEN]);

extern const OSSL_DISPATCH prov_proof_functions[];
extern const OSSL_DISPATCH prov_ek_functions[];
extern const OSSL_DISPATCH prov_observer_functions[];
extern const OSSL_DISPATCH prov_observed_functions[];

#endif
