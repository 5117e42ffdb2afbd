/* Concept: what the tests of the provider share: library contexts with the built-in copy, raw HMAC
 * and HKDF-Expand-Label to compare with, expectations on the error queue. Include it after
 * cmocka.h. */
#ifndef MTLS_TEST_PROVIDER_LIB_H
#define MTLS_TEST_PROVIDER_LIB_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>

#include "provider/provider.h"

static const uint8_t test_key[32] = {1, 2, 3, 4, 5, 6, 7, 8};

#define TEXT(key, value) OSSL_PARAM_construct_utf8_string((key), (char *)(uintptr_t)(value), 0)
#define BYTES(key, data, len)                                                                      \
    OSSL_PARAM_construct_octet_string((key), (void *)(uintptr_t)(data), (len))
#define END OSSL_PARAM_construct_end()

struct lib {
    OSSL_LIB_CTX *ctx;
    OSSL_PROVIDER *mtls, *dflt;
};

static inline void lib_load_mtls(struct lib *lib)
{
    assert_int_equal(OSSL_PROVIDER_add_builtin(lib->ctx, "mtls", mtls_provider_init), 1);
    lib->mtls = OSSL_PROVIDER_load(lib->ctx, "mtls");
    assert_non_null(lib->mtls);
}

static inline void lib_load_default(struct lib *lib)
{
    lib->dflt = OSSL_PROVIDER_load(lib->ctx, "default");
    assert_non_null(lib->dflt);
}

/* mtls first or the default provider first. */
static inline void lib_open_order(struct lib *lib, bool mtls_first)
{
    memset(lib, 0, sizeof(*lib));
    lib->ctx = OSSL_LIB_CTX_new();
    assert_non_null(lib->ctx);
    if (mtls_first)
        lib_load_mtls(lib);
    lib_load_default(lib);
    if (!mtls_first)
        lib_load_mtls(lib);
}

static inline void lib_open(struct lib *lib)
{
    lib_open_order(lib, true);
}

static inline void lib_close(struct lib *lib)
{
    if (lib->mtls != NULL)
        assert_int_equal(OSSL_PROVIDER_unload(lib->mtls), 1);
    if (lib->dflt != NULL)
        assert_int_equal(OSSL_PROVIDER_unload(lib->dflt), 1);
    OSSL_LIB_CTX_free(lib->ctx);
}

static inline EVP_KDF_CTX *lib_kdf(const struct lib *lib, const char *name, const char *query)
{
    EVP_KDF *kdf = EVP_KDF_fetch(lib->ctx, name, query);
    EVP_KDF_CTX *ctx;

    assert_non_null(kdf);
    ctx = EVP_KDF_CTX_new(kdf);
    EVP_KDF_free(kdf);
    assert_non_null(ctx);
    return ctx;
}

static inline EVP_MAC_CTX *lib_proof(const struct lib *lib)
{
    EVP_MAC *mac = EVP_MAC_fetch(lib->ctx, MTLS_ALG_PROOF, "provider=mtls");
    EVP_MAC_CTX *ctx;

    assert_non_null(mac);
    ctx = EVP_MAC_CTX_new(mac);
    EVP_MAC_free(mac);
    assert_non_null(ctx);
    return ctx;
}

/* The earliest entry on the queue is the provider's and has this text; clears the queue. */
static inline void expect_reason(const char *text)
{
    unsigned long e = ERR_get_error();
    const char *got = ERR_reason_error_string(e), *library = ERR_lib_error_string(e);

    assert_true(e != 0);
    assert_non_null(got);
    assert_string_equal(got, text);
    assert_non_null(library);
    assert_string_equal(library, "mtls");
    ERR_clear_error();
}

/* HMAC by the default library context. */
static inline void raw_hmac(const char *digest, const uint8_t *key, size_t keylen,
                            const uint8_t *data, size_t len, uint8_t *out)
{
    size_t outlen = 0;

    assert_non_null(EVP_Q_mac(NULL, "HMAC", NULL, digest, NULL, key, keylen, data, len, out,
                              EVP_MAX_MD_SIZE, &outlen));
}

/* RFC 8446 section 7.1, from HMAC alone. */
static inline void raw_expand_label(const char *digest, const uint8_t *secret, size_t hlen,
                                    const char *label, const uint8_t *context, size_t context_len,
                                    uint8_t *out, size_t outlen)
{
    uint8_t info[512], block[EVP_MAX_MD_SIZE], input[EVP_MAX_MD_SIZE + sizeof(info) + 1];
    size_t n = 0, done = 0, prev = 0;
    uint8_t counter = 0;

    info[n++] = (uint8_t)(outlen >> 8);
    info[n++] = (uint8_t)outlen;
    info[n++] = (uint8_t)(6 + strlen(label));
    n += (size_t)snprintf((char *)info + n, 256, "tls13 %s", label);
    info[n++] = (uint8_t)context_len;
    memcpy(info + n, context, context_len);
    n += context_len;
    while (done < outlen) {
        size_t take = outlen - done < hlen ? outlen - done : hlen;

        memcpy(input, block, prev);
        memcpy(input + prev, info, n);
        input[prev + n] = ++counter;
        raw_hmac(digest, secret, hlen, input, prev + n + 1, block);
        prev = hlen;
        memcpy(out + done, block, take);
        done += take;
    }
}

/* RFC 8446 section 7.5 with the empty context. */
static inline void raw_exporter(const char *digest, const uint8_t *secret, size_t hlen,
                                const char *label, uint8_t *out, size_t outlen)
{
    uint8_t empty[EVP_MAX_MD_SIZE], derived[EVP_MAX_MD_SIZE];

    assert_int_equal(EVP_Q_digest(NULL, digest, NULL, "", 0, empty, NULL), 1);
    raw_expand_label(digest, secret, hlen, label, empty, hlen, derived, hlen);
    raw_expand_label(digest, derived, hlen, "exporter", empty, hlen, out, outlen);
}

static inline int proof_init(EVP_MAC_CTX *ctx, const char *role, const char *protocol,
                             const uint8_t *k)
{
    OSSL_PARAM params[3], *p = params;

    if (role != NULL)
        *p++ = TEXT("role", role);
    if (protocol != NULL)
        *p++ = TEXT("protocol", protocol);
    *p = END;
    return EVP_MAC_init(ctx, k, k != NULL ? 32 : 0, params);
}

static inline void proof_tag(EVP_MAC_CTX *ctx, const char *role, const char *protocol,
                             const uint8_t *k, const uint8_t *data, size_t len, uint8_t tag[32])
{
    size_t n = 0;

    assert_int_equal(proof_init(ctx, role, protocol, k), 1);
    for (size_t i = 0; i < len; i += n) { /* in uneven pieces, empty ones too */
        n = i % 7 + 1 < len - i ? i % 7 + 1 : len - i;
        assert_int_equal(EVP_MAC_update(ctx, data, 0), 1);
        assert_int_equal(EVP_MAC_update(ctx, data + i, n), 1);
    }
    assert_int_equal(EVP_MAC_final(ctx, tag, &n, 32), 1);
    assert_int_equal(n, 32);
}

static inline int ek_derive(EVP_KDF_CTX *ctx, const char *digest, const uint8_t *secret, size_t len,
                            uint8_t *out, size_t outlen)
{
    const OSSL_PARAM params[] = {TEXT("digest", digest), BYTES("key", secret, len), END};

    return EVP_KDF_derive(ctx, out, outlen, params);
}

#endif
