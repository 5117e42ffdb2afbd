/* The transcript hash [KEY-1] and the facts read on the way, by RFC 8448's traces and by handshakes
 * made up here message by message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/provider.h>

#include "alloc_sweep.h"
#include "mtls/core/transcript.h"
#include "provider/provider.h"
#include "vectors.h"

static OSSL_LIB_CTX *libctx;
static OSSL_PROVIDER *providers[2];
static struct mtls_crypto *crypto;
static struct vectors *vectors;
static struct mtls_transcript *transcript; /* a fresh one for each test */

static int open_library(void **state)
{
    libctx = OSSL_LIB_CTX_new();
    if (libctx == NULL || OSSL_PROVIDER_add_builtin(libctx, "mtls", mtls_provider_init) != 1)
        return -1;
    providers[0] = OSSL_PROVIDER_load(libctx, "default");
    providers[1] = OSSL_PROVIDER_load(libctx, "mtls");
    if (providers[0] == NULL || providers[1] == NULL)
        return -1;
    vectors = vectors_load("transcript");
    return mtls_crypto_new(&crypto, libctx, NULL);
}

static int close_library(void **state)
{
    vectors_free(vectors);
    mtls_crypto_free(crypto);
    OSSL_PROVIDER_unload(providers[1]);
    OSSL_PROVIDER_unload(providers[0]);
    OSSL_LIB_CTX_free(libctx);
    return 0;
}

static int begin(void **state)
{
    return mtls_transcript_new(&transcript, crypto);
}

static int end(void **state)
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

static struct message *add(struct handshake *h, bool from_server, uint8_t type, const void *body,
                           size_t len)
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
static int feed(struct mtls_transcript *t, const struct message *m)
{
    uint8_t *copy = malloc(m->len + 1);
    int rc;

    assert_non_null(copy);
    memcpy(copy + 1, m->bytes, m->len);
    rc = mtls_transcript_message(t, m->from_server, copy + 1, m->len);
    free(copy);
    return rc;
}

static int run(struct mtls_transcript *t, const struct handshake *h)
{
    int rc = 0;

    mtls_transcript_reset(t);
    for (size_t i = 0; i < h->n && rc == 0; i++)
        rc = feed(t, &h->m[i]);
    return rc;
}

/* run(), then the hash; *hlen is 0 when there is none. */
static int hash(const struct handshake *h, uint8_t th[MTLS_HASH_MAX], size_t *hlen)
{
    int rc = run(transcript, h);

    *hlen = 0;
    return rc != 0 ? rc : mtls_transcript_get(transcript, th, hlen);
}

static struct mtls_transcript_facts facts(void)
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
static size_t server_hello(uint8_t *out, bool retry, uint16_t suite, const uint8_t *ext,
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

static void add_hello(struct handshake *h, bool retry, uint16_t suite, const uint8_t *ext,
                      size_t ext_len)
{
    uint8_t body[512];

    add(h, true, 2, body, server_hello(body, retry, suite, ext, ext_len));
}
#define ADD_HELLO(h, retry, suite, ...)                                                            \
    add_hello(h, retry, suite, (const uint8_t[]){__VA_ARGS__},                                     \
              sizeof((const uint8_t[]){__VA_ARGS__}))

static void add_flight(struct handshake *h)
{
    add(h, true, 8, "\0\0", 2);
    add(h, true, 11, "certificate", 11);
    add(h, true, 15, "signature", 9);
    add(h, true, 20, "0123456789abcdef0123456789abcdef", 32);
}

static struct handshake simple(uint16_t suite)
{
    struct handshake h = {0};

    add(&h, false, 1, "client hello", 12);
    ADD_HELLO(&h, false, suite, VERSIONS_13, KEY_SHARE);
    add_flight(&h);
    return h;
}

static struct handshake retried(uint16_t first, uint16_t second)
{
    struct handshake h = {0};

    add(&h, false, 1, "client hello", 12);
    ADD_HELLO(&h, true, first, COOKIE, VERSIONS_13);
    add(&h, false, 1, "client hello again", 18);
    ADD_HELLO(&h, false, second, KEY_SHARE, VERSIONS_13);
    add_flight(&h);
    return h;
}

/* ---- test/vectors/transcript.json ---- */

static struct handshake from_vector(size_t i)
{
    struct handshake h = {0};
    char path[64];

    h.n = vectors_len(vectors, i, "in_messages");
    assert_true(h.n <= MESSAGES_MAX);
    for (size_t j = 0; j < h.n; j++) {
        snprintf(path, sizeof path, "in_senders.%zu", j);
        h.m[j].from_server = strcmp(vectors_str(vectors, i, path), "server") == 0;
        snprintf(path, sizeof path, "in_messages.%zu", j);
        h.m[j].len = vectors_hex(vectors, i, path, h.m[j].bytes, MESSAGE_MAX);
    }
    return h;
}

static size_t vector_named(const char *name)
{
    for (size_t i = 0; i < vectors->nobjects; i++)
        if (strcmp(vectors_str(vectors, i, "name"), name) == 0)
            return i;
    fail_msg("no vector \"%s\"", name);
    return 0;
}

static void vectors_agree(void **state)
{
    uint8_t th[MTLS_HASH_MAX], want[MTLS_HASH_MAX];
    size_t hlen, accepted = 0;

    for (size_t i = 0; i < vectors->nobjects; i++) {
        struct handshake h = from_vector(i);
        int rc = hash(&h, th, &hlen);

        assert_string_equal(mtls_error_name(rc), vectors_str(vectors, i, "out_result"));
        if (rc != 0)
            continue;
        accepted++;
        assert_int_equal(hlen,
                         strcmp(vectors_str(vectors, i, "out_hash"), "sha384") == 0 ? 48 : 32);
        vectors_bytes(vectors, i, "out_th", want, hlen);
        assert_memory_equal(th, want, hlen);
        assert_true(facts().complete && facts().server_hello && facts().encrypted_extensions);
    }
    assert_true(accepted >= 7 && accepted < vectors->nobjects);
}

static void facts_of_rfc8448(void **state)
{
    static const struct {
        const char *name;
        bool hello_retry, psk, client_auth;
    } cases[] = {
        {"rfc8448 simple 1-RTT", false, false, false},
        {"rfc8448 resumed 0-RTT", false, true, false},
        {"rfc8448 HelloRetryRequest", true, false, false},
        {"rfc8448 client authentication", false, false, true},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct handshake h = from_vector(vector_named(cases[i].name));
        struct mtls_transcript_facts f;

        assert_int_equal(run(transcript, &h), 0);
        f = facts();
        assert_int_equal(f.hello_retry, cases[i].hello_retry);
        assert_int_equal(f.psk, cases[i].psk);
        assert_int_equal(f.client_auth, cases[i].client_auth);
        assert_true(f.key_share && f.tls13 && f.complete);
        assert_int_equal(f.suite, 0x1301);
    }
}

/* Index of the server's Finished. */
static size_t last_of(const struct handshake *h)
{
    size_t i = 0;

    while (i < h->n && !(h->m[i].from_server && h->m[i].bytes[0] == 20))
        i++;
    return i;
}

/* Tampered twins: whatever bit of whatever message is flipped, the hash is another or there is
 * none. */
static void flip_every_bit(struct handshake *h)
{
    uint8_t right[MTLS_HASH_MAX], wrong[MTLS_HASH_MAX];
    size_t hlen, other;

    assert_int_equal(hash(h, right, &hlen), 0);
    for (size_t i = 0; i <= last_of(h); i++)
        for (size_t bit = 0; bit < 8 * h->m[i].len; bit++) {
            int rc;

            h->m[i].bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            rc = hash(h, wrong, &other);
            if (rc == 0)
                assert_true(other != hlen || memcmp(right, wrong, hlen) != 0);
            if (bit / 8 >= 1 && bit / 8 <= 3)
                assert_int_equal(rc, MTLS_ERR_TRANSCRIPT_ORDER); /* the message's length */
            h->m[i].bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    assert_int_equal(hash(h, wrong, &other), 0);
    assert_memory_equal(right, wrong, hlen);
}

static void every_bit_of_rfc8448_flipped(void **state)
{
    struct handshake h = from_vector(vector_named("rfc8448 simple 1-RTT"));

    flip_every_bit(&h);
    h = from_vector(vector_named("rfc8448 HelloRetryRequest"));
    flip_every_bit(&h);
}

static void every_bit_of_sha384_flipped(void **state)
{
    struct handshake h = simple(0x1302);

    flip_every_bit(&h);
    h = retried(0x1302, 0x1302);
    flip_every_bit(&h);
}

/* ---- Suites and retries ---- */

static void every_suite(void **state)
{
    uint8_t th[MTLS_HASH_MAX];
    size_t hlen;

    for (uint32_t suite = 0x1300; suite <= 0x1310; suite++) {
        struct handshake h = simple((uint16_t)suite);
        bool known = suite >= 0x1301 && suite <= 0x1305;

        assert_int_equal(hash(&h, th, &hlen), known ? 0 : MTLS_ERR_TRANSCRIPT_SUITE);
        assert_int_equal(hlen, !known ? 0 : suite == 0x1302 ? 48 : 32);
        assert_int_equal(facts().suite, suite);
        assert_true(facts().tls13);
    }
}

/* RFC 8446 section 4.1.4: the suite stays. */
static void suite_changes_after_retry(void **state)
{
    struct handshake same = retried(0x1301, 0x1301), other = retried(0x1301, 0x1303);
    uint8_t th[MTLS_HASH_MAX];
    size_t hlen;

    assert_int_equal(hash(&same, th, &hlen), 0);
    assert_int_equal(hash(&other, th, &hlen), MTLS_ERR_TRANSCRIPT_SUITE);
    other = retried(0x1302, 0x1301);
    assert_int_equal(hash(&other, th, &hlen), MTLS_ERR_TRANSCRIPT_SUITE);
}

static void second_retry(void **state)
{
    struct handshake h = retried(0x1301, 0x1301);

    h.n = 3;
    assert_int_equal(run(transcript, &h), 0);
    ADD_HELLO(&h, true, 0x1301, COOKIE, VERSIONS_13);
    assert_int_equal(run(transcript, &h), MTLS_ERR_TRANSCRIPT_ORDER);
}

/* Neither ServerHello nor a second ClientHello may come where it is not awaited. */
static void hellos_out_of_place(void **state)
{
    struct handshake h = retried(0x1301, 0x1301), bad = h;

    bad.m[2] = h.m[3]; /* ServerHello at once after HelloRetryRequest */
    bad.n = 3;
    assert_int_equal(run(transcript, &bad), MTLS_ERR_TRANSCRIPT_ORDER);
    bad = h;
    bad.m[1] = h.m[2]; /* ClientHello after ClientHello */
    bad.n = 2;
    assert_int_equal(run(transcript, &bad), MTLS_ERR_TRANSCRIPT_ORDER);
    bad = h;
    bad.m[3] = h.m[2]; /* a third one */
    bad.n = 4;
    assert_int_equal(run(transcript, &bad), MTLS_ERR_TRANSCRIPT_ORDER);
}

static void facts_on_the_way(void **state)
{
    struct handshake h = retried(0x1301, 0x1301);
    struct mtls_transcript_facts f = facts();
    uint8_t th[MTLS_HASH_MAX];
    size_t hlen;

    assert_false(f.server_hello || f.hello_retry || f.tls13 || f.complete || f.suite != 0);
    for (size_t i = 0; i < h.n; i++) {
        assert_int_equal(mtls_transcript_get(transcript, th, &hlen), MTLS_ERR_TRANSCRIPT);
        assert_int_equal(feed(transcript, &h.m[i]), 0);
        f = facts();
        assert_int_equal(f.hello_retry, i >= 1);
        assert_int_equal(f.tls13, i >= 1);
        assert_int_equal(f.suite, i >= 1 ? 0x1301 : 0);
        assert_int_equal(f.server_hello, i >= 3);
        assert_int_equal(f.key_share, i >= 3);
        assert_int_equal(f.encrypted_extensions, i >= 4);
        assert_int_equal(f.complete, i + 1 == h.n);
        assert_false(f.psk || f.client_auth);
    }
    assert_int_equal(mtls_transcript_get(transcript, th, &hlen), 0);
}

/* A key_share in HelloRetryRequest is a demand, not a key: [RES-2] looks at ServerHello's alone. */
static void facts_of_a_psk_without_key_exchange(void **state)
{
    struct handshake h = {0};

    add(&h, false, 1, "ch", 2);
    ADD_HELLO(&h, true, 0x1301, 0x00, 0x33, 0x00, 0x02, 0x00, 0x1D, VERSIONS_13);
    add(&h, false, 1, "ch", 2);
    assert_int_equal(run(transcript, &h), 0);
    assert_false(facts().key_share);
    ADD_HELLO(&h, false, 0x1301, VERSIONS_13, PSK);
    assert_int_equal(run(transcript, &h), 0);
    assert_true(facts().psk);
    assert_false(facts().key_share);
}

/* ---- TLS 1.2, and malformed ServerHello ---- */

static int one_hello(const uint8_t *ext, size_t len)
{
    struct handshake h = {0};

    add(&h, false, 1, "ch", 2);
    add_hello(&h, false, 0x1301, ext, len);
    return run(transcript, &h);
}
#define ONE_HELLO(...)                                                                             \
    one_hello((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void versions_below_and_above(void **state)
{
    assert_int_equal(ONE_HELLO(VERSIONS_13, KEY_SHARE), 0);
    assert_true(facts().tls13);
    assert_int_equal(one_hello(NULL, 0), MTLS_ERR_TLS_VERSION);
    assert_true(facts().server_hello);
    assert_false(facts().tls13);
    assert_int_equal(ONE_HELLO(KEY_SHARE), MTLS_ERR_TLS_VERSION);
    assert_int_equal(one_hello((const uint8_t *)"", 0), MTLS_ERR_TLS_VERSION);
    assert_int_equal(ONE_HELLO(0x00, 0x2B, 0x00, 0x02, 0x03, 0x03), MTLS_ERR_TLS_VERSION);
    assert_int_equal(ONE_HELLO(0x00, 0x2B, 0x00, 0x02, 0x03, 0x05), MTLS_ERR_TLS_VERSION);
    assert_false(facts().tls13);
}

/* A suite of TLS 1.2 is not an unknown suite: the version decides first. */
static void tls12_suite(void **state)
{
    struct handshake h = {0};

    add(&h, false, 1, "ch", 2);
    ADD_HELLO(&h, false, 0xC02F, 0xFF, 0x01, 0x00, 0x01, 0x00);
    assert_int_equal(run(transcript, &h), MTLS_ERR_TLS_VERSION);
    assert_int_equal(facts().suite, 0xC02F);
}

static void malformed_extensions(void **state)
{
    assert_int_equal(ONE_HELLO(VERSIONS_13, VERSIONS_13), MTLS_ERR_TRANSCRIPT_ORDER);
    assert_int_equal(ONE_HELLO(VERSIONS_13, KEY_SHARE, KEY_SHARE), MTLS_ERR_TRANSCRIPT_ORDER);
    assert_int_equal(ONE_HELLO(VERSIONS_13, PSK, PSK), MTLS_ERR_TRANSCRIPT_ORDER);
    assert_int_equal(ONE_HELLO(0x00, 0x2B, 0x00, 0x01, 0x03), MTLS_ERR_TRANSCRIPT_ORDER);
    assert_int_equal(ONE_HELLO(0x00, 0x2B, 0x00, 0x03, 0x03, 0x04, 0x00),
                     MTLS_ERR_TRANSCRIPT_ORDER);
    assert_int_equal(ONE_HELLO(0x00, 0x2B, 0x00, 0x00), MTLS_ERR_TRANSCRIPT_ORDER);
    assert_int_equal(ONE_HELLO(VERSIONS_13, 0x00), MTLS_ERR_TRANSCRIPT_ORDER);
    assert_int_equal(ONE_HELLO(VERSIONS_13, 0x00, 0x33, 0x00, 0x01), MTLS_ERR_TRANSCRIPT_ORDER);
    assert_int_equal(ONE_HELLO(VERSIONS_13, 0x00, 0x33, 0x00, 0x00), 0);
    assert_int_equal(ONE_HELLO(0x12, 0x34, 0x00, 0x01, 0xFF, VERSIONS_13), 0);
}

/* ServerHello cut at every byte, its header saying so: malformed, but for the end before the
 * extensions, where TLS 1.2's ServerHello may end. */
static void server_hello_cut_anywhere(void **state)
{
    const uint8_t ext[] = {KEY_SHARE, PSK, VERSIONS_13};
    uint8_t body[512] = {0};
    size_t len = server_hello(body, false, 0x1301, ext, sizeof ext), bare = len - sizeof ext - 2;

    for (size_t cut = 0; cut <= len + 1; cut++) {
        struct handshake h = {0};

        add(&h, false, 1, "ch", 2);
        add(&h, true, 2, body, cut);
        assert_int_equal(run(transcript, &h), cut == len    ? 0
                                              : cut == bare ? MTLS_ERR_TLS_VERSION
                                                            : MTLS_ERR_TRANSCRIPT_ORDER);
    }
}

static void session_id_length(void **state)
{
    uint8_t body[512];
    size_t tail;

    for (size_t n = 0; n <= 40; n++) {
        const uint8_t after[] = {0x13, 0x01, 0, 0, 6, VERSIONS_13};
        struct handshake h = {0};

        memset(body, 0x5A, sizeof body);
        body[34] = (uint8_t)n;
        tail = 35 + n;
        memcpy(body + tail, after, sizeof after);
        add(&h, false, 1, "ch", 2);
        add(&h, true, 2, body, tail + sizeof after);
        assert_int_equal(run(transcript, &h), n <= 32 ? 0 : MTLS_ERR_TRANSCRIPT_ORDER);
    }
}

/* ---- Order ---- */

static void message_shorter_or_longer_than_it_says(void **state)
{
    struct handshake h = simple(0x1301), bad;

    for (size_t i = 0; i < h.n; i++)
        for (size_t len = 0; len <= h.m[i].len + 1; len++) {
            bad = h;
            bad.m[i].len = len;
            assert_int_equal(run(transcript, &bad),
                             len == h.m[i].len ? 0 : MTLS_ERR_TRANSCRIPT_ORDER);
        }
}

static void a_message_may_be_empty(void **state)
{
    struct handshake h = simple(0x1301);

    h.n = 2;
    add(&h, true, 8, "", 0);
    add(&h, true, 11, "", 0);
    add(&h, true, 20, "", 0);
    assert_int_equal(run(transcript, &h), 0);
    assert_true(facts().complete);
}

/* Every message left out, doubled, or from the other side. What libssl judges (the order of
 * certificate and signature) is not ours. */
static void messages_out_of_place(void **state)
{
    struct handshake h = simple(0x1301), bad;
    uint8_t th[MTLS_HASH_MAX];
    size_t hlen;

    for (size_t i = 0; i < h.n; i++) {
        bool judged = h.m[i].bytes[0] != 11 && h.m[i].bytes[0] != 15, last = i + 1 == h.n;
        int rc;

        bad = h;
        bad.m[i].from_server = !bad.m[i].from_server;
        assert_int_equal(hash(&bad, th, &hlen), MTLS_ERR_TRANSCRIPT_ORDER);
        bad = h;
        memmove(&bad.m[i], &bad.m[i + 1], (h.n - i - 1) * sizeof bad.m[0]);
        bad.n--;
        rc = hash(&bad, th, &hlen);
        assert_int_equal(rc, last ? MTLS_ERR_TRANSCRIPT : judged ? MTLS_ERR_TRANSCRIPT_ORDER : 0);
        bad = h;
        memmove(&bad.m[i + 1], &bad.m[i], (h.n - i) * sizeof bad.m[0]);
        bad.n++;
        rc = hash(&bad, th, &hlen);
        assert_int_equal(rc, judged && !last ? MTLS_ERR_TRANSCRIPT_ORDER : 0);
    }
}

static void every_type_at_every_point(void **state)
{
    const struct handshake h = simple(0x1301);

    for (size_t i = 2; i < h.n; i++)
        for (int type = 0; type < 256; type++) {
            bool flight = type == 11 || type == 13 || type == 15 || type == 20 || type == 25;
            struct handshake bad = h;

            bad.n = i;
            add(&bad, true, (uint8_t)type, "\0\0", 2);
            assert_int_equal(run(transcript, &bad),
                             (i == 2 ? type == 8 : flight) ? 0 : MTLS_ERR_TRANSCRIPT_ORDER);
            bad.m[i].from_server = false;
            assert_int_equal(run(transcript, &bad), MTLS_ERR_TRANSCRIPT_ORDER);
        }
}

static void certificate_request_is_a_fact(void **state)
{
    struct handshake h = simple(0x1301);

    h.n = 3;
    assert_int_equal(run(transcript, &h), 0);
    assert_false(facts().client_auth);
    add(&h, true, 13, "\0\0\0", 3);
    assert_int_equal(run(transcript, &h), 0);
    assert_true(facts().client_auth);
}

static void what_follows_finished_changes_nothing(void **state)
{
    struct handshake h = simple(0x1301);
    uint8_t before[MTLS_HASH_MAX], after[MTLS_HASH_MAX];
    size_t hlen;

    assert_int_equal(hash(&h, before, &hlen), 0);
    add(&h, false, 20, "client finished", 15);
    add(&h, true, 4, "ticket", 6);
    add(&h, false, 24, "\0", 1);
    add(&h, false, 1, "client hello", 12);
    h.m[h.n - 1].len--; /* malformed, too */
    assert_int_equal(hash(&h, after, &hlen), 0);
    assert_memory_equal(before, after, hlen);
}

static void errors_stay_until_reset(void **state)
{
    struct handshake h = simple(0x1301);
    uint8_t th[MTLS_HASH_MAX];
    size_t hlen;

    assert_int_equal(feed(transcript, &h.m[1]), MTLS_ERR_TRANSCRIPT_ORDER);
    for (size_t i = 0; i < h.n; i++)
        assert_int_equal(feed(transcript, &h.m[i]), MTLS_ERR_TRANSCRIPT_ORDER);
    assert_int_equal(mtls_transcript_get(transcript, th, &hlen), MTLS_ERR_TRANSCRIPT);
    assert_int_equal(hash(&h, th, &hlen), 0); /* resets */
    mtls_transcript_reset(transcript);
    assert_int_equal(mtls_transcript_get(transcript, th, &hlen), MTLS_ERR_TRANSCRIPT);
    assert_false(facts().complete || facts().tls13 || facts().suite != 0);
}

static void reset_at_every_point(void **state)
{
    struct handshake h = retried(0x1302, 0x1302);
    uint8_t want[MTLS_HASH_MAX], th[MTLS_HASH_MAX];
    size_t hlen;

    assert_int_equal(hash(&h, want, &hlen), 0);
    for (size_t stop = 0; stop <= h.n; stop++) {
        mtls_transcript_reset(transcript);
        for (size_t i = 0; i < stop; i++)
            assert_int_equal(feed(transcript, &h.m[i]), 0);
        assert_int_equal(hash(&h, th, &hlen), 0);
        assert_memory_equal(th, want, hlen);
    }
}

/* ---- Bounds and memory ---- */

static int long_hello(size_t len)
{
    uint8_t *hello = calloc(1, len);
    int rc;

    assert_non_null(hello);
    hello[0] = 1;
    hello[1] = (uint8_t)((len - 4) >> 16);
    hello[2] = (uint8_t)((len - 4) >> 8);
    hello[3] = (uint8_t)(len - 4);
    rc = mtls_transcript_message(transcript, false, hello, len);
    free(hello);
    return rc;
}

static void longest_client_hello(void **state)
{
    struct handshake h = retried(0x1301, 0x1301);

    h.n = 2;
    assert_int_equal(long_hello(MTLS_TRANSCRIPT_HELLO_MAX), 0);
    mtls_transcript_reset(transcript);
    assert_int_equal(long_hello(MTLS_TRANSCRIPT_HELLO_MAX + 1), MTLS_ERR_LIMIT);
    assert_int_equal(run(transcript, &h), 0);
    assert_int_equal(long_hello(MTLS_TRANSCRIPT_HELLO_MAX), 0);
    assert_int_equal(run(transcript, &h), 0);
    assert_int_equal(long_hello(MTLS_TRANSCRIPT_HELLO_MAX + 1), MTLS_ERR_LIMIT);
}

static void free_at_every_point(void **state)
{
    struct handshake h = retried(0x1301, 0x1301);

    mtls_transcript_free(NULL);
    for (size_t stop = 0; stop <= h.n; stop++) {
        struct mtls_transcript *t;

        assert_int_equal(mtls_transcript_new(&t, crypto), 0);
        for (size_t i = 0; i < stop; i++)
            assert_int_equal(feed(t, &h.m[i]), 0);
        mtls_transcript_free(t);
    }
}

/* A failure inside libcrypto must not pass for a result: what is returned with 0 is right. */
struct sweep {
    struct handshake h;
    uint8_t want[MTLS_HASH_MAX];
};

static int whole_transcript(void *arg)
{
    const struct sweep *s = arg;
    const struct handshake *h = &s->h;
    uint8_t th[MTLS_HASH_MAX];
    struct mtls_transcript *t;
    size_t hlen;
    int rc = mtls_transcript_new(&t, crypto);

    for (size_t i = 0; rc == 0 && i < h->n; i++)
        rc = mtls_transcript_message(t, h->m[i].from_server, h->m[i].bytes, h->m[i].len);
    if (rc == 0)
        rc = mtls_transcript_get(t, th, &hlen);
    mtls_transcript_free(t);
    return rc == 0 && memcmp(th, s->want, hlen) != 0 ? MTLS_ERR_INTERNAL : rc;
}

static void sweep(struct handshake h)
{
    struct sweep s = {.h = h};
    size_t hlen;

    assert_int_equal(hash(&h, s.want, &hlen), 0);
    assert_int_equal(alloc_sweep(ALLOC_OURS, whole_transcript, &s), 2);
    assert_true(alloc_sweep(ALLOC_ALL, whole_transcript, &s) > 2);
}

static void allocations_fail_cleanly(void **state)
{
    sweep(simple(0x1301));
    sweep(retried(0x1302, 0x1302));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(vectors_agree),
        TEST(facts_of_rfc8448),
        TEST(every_bit_of_rfc8448_flipped),
        TEST(every_bit_of_sha384_flipped),
        TEST(every_suite),
        TEST(suite_changes_after_retry),
        TEST(second_retry),
        TEST(hellos_out_of_place),
        TEST(facts_on_the_way),
        TEST(facts_of_a_psk_without_key_exchange),
        TEST(versions_below_and_above),
        TEST(tls12_suite),
        TEST(malformed_extensions),
        TEST(server_hello_cut_anywhere),
        TEST(session_id_length),
        TEST(message_shorter_or_longer_than_it_says),
        TEST(a_message_may_be_empty),
        TEST(messages_out_of_place),
        TEST(every_type_at_every_point),
        TEST(certificate_request_is_a_fact),
        TEST(what_follows_finished_changes_nothing),
        TEST(errors_stay_until_reset),
        TEST(reset_at_every_point),
        TEST(longest_client_hello),
        TEST(free_at_every_point),
        TEST(allocations_fail_cleanly),
    };
    return cmocka_run_group_tests(tests, open_library, close_library);
}
