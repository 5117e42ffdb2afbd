/* Concept: TLS 1.3 handshakes made up message by message, for the tests of the transcript. Owns a
 * library context with both providers, and one transcript for each test. Include it after cmocka.h.
 */
#ifndef MTLS_TEST_HANDSHAKE_H
#define MTLS_TEST_HANDSHAKE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/provider.h>

#include "mtls/core/transcript.h"
#include "provider/provider.h"

static OSSL_LIB_CTX *libctx;
static OSSL_PROVIDER *providers[2];
static struct mtls_crypto *crypto;
static struct mtls_transcript *transcript; /* a fresh one for each test */

static inline int open_library(void **state)
{
    libctx = OSSL_LIB_CTX_new();
    if (libctx == NULL || OSSL_PROVIDER_add_builtin(libctx, "mtls", mtls_provider_init) != 1)
        return -1;
    providers[0] = OSSL_PROVIDER_load(libctx, "default");
    providers[1] = OSSL_PROVIDER_load(libctx, "mtls");
    if (providers[0] == NULL || providers[1] == NULL)
        return -1;
    return mtls_crypto_new(&crypto, libctx, NULL);
}

static inline int close_library(void **state)
{
    mtls_crypto_free(crypto);
    OSSL_PROVIDER_unload(providers[1]);
    OSSL_PROVIDER_unload(providers[0]);
    OSSL_LIB_CTX_free(libctx);
    return 0;
}

static inline int begin(void **state)
{
    return mtls_transcript_new(&transcript, crypto);
}

static inline int end(void **state)
{
    mtls_transcript_free(transcript);
    return 0;
}

/* ---- Handshakes as lists of messages ---- */

enum { MESSAGES_MAX = 16, MESSAGE_MAX = 2048 };

struct message {
    bool from_server;
    size_t len;
    uint8_t bytes[MESSAGE_MAX];
};

struct handshake {
    size_t n;
    struct message m[MESSAGES_MAX];
};

static inline struct message *add(struct handshake *h, bool from_server, uint8_t type,
                                  const void *body, size_t len)
{
    struct message *m = &h->m[h->n++];

    assert_true(h->n <= MESSAGES_MAX && len + 4 <= MESSAGE_MAX);
    m->from_server = from_server;
    m->len = len + 4;
    m->bytes[0] = type;
    m->bytes[1] = 0;
    m->bytes[2] = (uint8_t)(len >> 8);
    m->bytes[3] = (uint8_t)len;
    memcpy(m->bytes + 4, body, len);
    return m;
}

/* Feeds copies of exactly each length, so that a read beyond is seen by the ASan build. */
static inline int feed(struct mtls_transcript *t, const struct message *m)
{
    uint8_t *copy = malloc(m->len + 1);
    int rc;

    assert_non_null(copy);
    memcpy(copy + 1, m->bytes, m->len);
    rc = mtls_transcript_message(t, m->from_server, copy + 1, m->len);
    free(copy);
    return rc;
}

static inline int run(struct mtls_transcript *t, const struct handshake *h)
{
    int rc = 0;

    mtls_transcript_reset(t);
    for (size_t i = 0; i < h->n && rc == 0; i++)
        rc = feed(t, &h->m[i]);
    return rc;
}

/* run(), then the hash; *hlen is 0 when there is none. */
static inline int hash(const struct handshake *h, uint8_t th[MTLS_HASH_MAX], size_t *hlen)
{
    int rc = run(transcript, h);

    *hlen = 0;
    return rc != 0 ? rc : mtls_transcript_get(transcript, th, hlen);
}

static inline struct mtls_transcript_facts facts(void)
{
    struct mtls_transcript_facts f;

    mtls_transcript_facts(transcript, &f);
    return f;
}

static const uint8_t retry_random[32] = {
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91,
    0xC2, 0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C};

/* A ServerHello's body with these extensions; returns its length. ext NULL: without the extensions
 * field. */
static inline size_t server_hello(uint8_t *out, bool retry, uint16_t suite, const uint8_t *ext,
                                  size_t ext_len)
{
    size_t n = 0;

    out[n++] = 3;
    out[n++] = 3;
    if (retry)
        memcpy(out + n, retry_random, 32);
    else
        memset(out + n, 0x5A, 32);
    n += 32;
    out[n++] = 4; /* session id */
    memset(out + n, 0x1D, 4);
    n += 4;
    out[n++] = (uint8_t)(suite >> 8);
    out[n++] = (uint8_t)suite;
    out[n++] = 0;
    if (ext == NULL)
        return n;
    out[n++] = (uint8_t)(ext_len >> 8);
    out[n++] = (uint8_t)ext_len;
    memcpy(out + n, ext, ext_len);
    return n + ext_len;
}

#define VERSIONS_13 0x00, 0x2B, 0x00, 0x02, 0x03, 0x04
#define KEY_SHARE   0x00, 0x33, 0x00, 0x06, 0x00, 0x1D, 0x00, 0x02, 0xAA, 0xBB
#define PSK         0x00, 0x29, 0x00, 0x02, 0x00, 0x00
#define COOKIE      0x00, 0x2C, 0x00, 0x04, 0x00, 0x02, 0xC0, 0xC1

static inline void add_hello(struct handshake *h, bool retry, uint16_t suite, const uint8_t *ext,
                             size_t ext_len)
{
    uint8_t body[512];

    add(h, true, 2, body, server_hello(body, retry, suite, ext, ext_len));
}
#define ADD_HELLO(h, retry, suite, ...)                                                            \
    add_hello(h, retry, suite, (const uint8_t[]){__VA_ARGS__},                                     \
              sizeof((const uint8_t[]){__VA_ARGS__}))

static inline void add_flight(struct handshake *h)
{
    add(h, true, 8, "\0\0", 2);
    add(h, true, 11, "certificate", 11);
    add(h, true, 15, "signature", 9);
    add(h, true, 20, "0123456789abcdef0123456789abcdef", 32);
}

static inline struct handshake simple(uint16_t suite)
{
    struct handshake h = {0};

    add(&h, false, 1, "client hello", 12);
    ADD_HELLO(&h, false, suite, VERSIONS_13, KEY_SHARE);
    add_flight(&h);
    return h;
}

static inline struct handshake retried(uint16_t first, uint16_t second)
{
    struct handshake h = {0};

    add(&h, false, 1, "client hello", 12);
    ADD_HELLO(&h, true, first, COOKIE, VERSIONS_13);
    add(&h, false, 1, "client hello again", 18);
    ADD_HELLO(&h, false, second, KEY_SHARE, VERSIONS_13);
    add_flight(&h);
    return h;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

#endif
