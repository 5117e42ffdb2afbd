/* The transcript hash [KEY-1] by RFC 8448's traces and other vectors; its bounds and its memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "alloc_sweep.h"
#include "handshake.h"
#include "vectors.h"

static struct vectors *vectors;

static int open_all(void **state)
{
    vectors = vectors_load("transcript");
    return open_library(state);
}

static int close_all(void **state)
{
    vectors_free(vectors);
    return close_library(state);
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

/* The flight is kept up to a bound and hashed from there on: the hash is the same wherever that is,
 * however often it is asked for. */
static void kept_or_running(void **state)
{
    uint8_t whole[4 * MESSAGE_MAX], want[MTLS_HASH_MAX], th[MTLS_HASH_MAX];

    for (size_t size = 4; size <= 1200; size++) {
        struct handshake h = simple(0x1302);
        size_t len = 0, hlen;

        for (size_t i = 0; i < h.n; i++) {
            struct message *m = &h.m[i];

            if (m->bytes[0] == 11) { /* Certificate */
                memset(m->bytes + 4, (int)size, size);
                m->bytes[2] = (uint8_t)(size >> 8);
                m->bytes[3] = (uint8_t)size;
                m->len = size + 4;
            }
            if (i <= last_of(&h)) {
                memcpy(whole + len, m->bytes, m->len);
                len += m->len;
            }
        }
        assert_int_equal(EVP_Digest(whole, len, want, NULL, EVP_sha384(), NULL), 1);
        assert_int_equal(hash(&h, th, &hlen), 0);
        assert_int_equal(hlen, 48);
        assert_memory_equal(th, want, hlen);
        assert_int_equal(mtls_transcript_get(transcript, th, &hlen), 0);
        assert_memory_equal(th, want, hlen);
    }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(vectors_agree),
        TEST(facts_of_rfc8448),
        TEST(every_bit_of_rfc8448_flipped),
        TEST(every_bit_of_sha384_flipped),
        TEST(longest_client_hello),
        TEST(kept_or_running),
        TEST(free_at_every_point),
        TEST(allocations_fail_cleanly),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
