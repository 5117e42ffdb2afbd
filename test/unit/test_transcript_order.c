/* The order of handshake messages, what ServerHello may say, and the facts read on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "handshake.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, open_library, close_library);
}
