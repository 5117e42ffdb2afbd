/* [MPC]: path 2's frames inside one connection, both ends against each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "alloc_sweep.h"
#include "path2_lab.h"
#include "smkex/core/inband.h"

static const uint8_t secret[MTLS_SECRET_LEN] = {5, 5, 5};
static const struct mtls_addr peer = {.family = 4, .ip = {192, 0, 2, 1}};

struct ends {
    struct smkex_inband *client, *server;
    struct mtls_keys keys;
};

static int begin(struct ends *e)
{
    uint8_t join[MTLS_JOIN_LEN];
    int rc;

    memset(e, 0, sizeof(*e));
    e->keys = (struct mtls_keys){.protocol = MTLS_PROTOCOL_SMKEX,
                                 .version = 1,
                                 .hlen = 32,
                                 .th = {1},
                                 .k_s = {2},
                                 .k_c = {3}};
    rc = mtls_crypto_join(lab_crypto, secret, join);
    if (rc == 0)
        rc = smkex_inband_client(&e->client, lab_crypto, 443, secret, 1);
    if (rc == 0)
        rc = smkex_inband_server(&e->server, lab_crypto, join, &e->keys, &peer, 1);
    return rc;
}

static void end(struct ends *e)
{
    smkex_inband_free(e->client);
    smkex_inband_free(e->server);
}

/* What the one has to send, to the other, step bytes at a time; byte at of it is changed. */
static int carry(struct smkex_inband *from, struct smkex_inband *to, size_t step, size_t at)
{
    uint8_t text[256];
    const uint8_t *out;
    size_t len;
    int rc = 0;

    out = smkex_inband_out(from, &len);
    if (len == 0)
        return 0;
    assert_true(len <= sizeof(text));
    memcpy(text, out, len);
    if (at < len)
        text[at] ^= 1;
    smkex_inband_sent(from, len);
    for (size_t i = 0; rc == 0 && i < len; i += step)
        rc = smkex_inband_input(to, text + i, len - i < step ? len - i : step, 2);
    return rc;
}

static int whole(struct ends *e, size_t step, size_t hello, size_t proof, size_t confirm)
{
    uint8_t d[MTLS_SHA256_LEN], d2[MTLS_SHA256_LEN], k, n;
    int rc = carry(e->client, e->server, step, hello);

    if (rc == 0)
        rc = carry(e->server, e->client, step, proof);
    if (rc == 0)
        rc = smkex_inband_check(e->client, &e->keys);
    if (rc == 0)
        rc = smkex_inband_confirm(e->client, &e->keys, d);
    if (rc == 0)
        rc = carry(e->client, e->server, step, confirm);
    if (rc != 0)
        return rc;
    assert_true(smkex_inband_confirmed(e->server, d2, &k, &n));
    assert_memory_equal(d, d2, sizeof(d));
    assert_int_equal(k, 1);
    assert_int_equal(n, 1);
    return 0;
}

static void from_hello_to_confirm_at_every_split(void **state)
{
    for (size_t step = 1; step <= SMKEX_INBAND_PROOF; step++) {
        uint64_t sent, received;
        struct ends e;

        assert_int_equal(begin(&e), 0);
        assert_int_equal(whole(&e, step, SIZE_MAX, SIZE_MAX, SIZE_MAX), 0);
        smkex_inband_bytes(e.client, &sent, &received);
        assert_int_equal(sent, SMKEX_INBAND_HELLO + MTLS_CONFIRM_LEN);
        assert_int_equal(received, SMKEX_INBAND_PROOF);
        smkex_inband_bytes(e.server, &sent, &received);
        assert_int_equal(sent, SMKEX_INBAND_PROOF);
        assert_int_equal(received, SMKEX_INBAND_HELLO + MTLS_CONFIRM_LEN);
        end(&e);
    }
}

/* Each byte changed, one at a time: nobody is confirmed. (HELLO's port and path, and READY's and
 * PROOF's fields without a meaning here, are under the tags all the same.) */
static void changed_bytes_confirm_nothing(void **state)
{
    for (size_t at = 0; at < SMKEX_INBAND_HELLO; at++) {
        struct ends e;

        assert_int_equal(begin(&e), 0);
        assert_true(whole(&e, 64, at, SIZE_MAX, SIZE_MAX) < 0);
        end(&e);
    }
    for (size_t at = 0; at < SMKEX_INBAND_PROOF; at++) {
        struct ends e;

        assert_int_equal(begin(&e), 0);
        assert_true(whole(&e, 64, SIZE_MAX, at, SIZE_MAX) < 0);
        end(&e);
    }
    for (size_t at = 0; at < MTLS_CONFIRM_LEN; at++) {
        struct ends e;

        assert_int_equal(begin(&e), 0);
        assert_true(whole(&e, 64, SIZE_MAX, SIZE_MAX, at) < 0);
        end(&e);
    }
}

/* Two key exchanges, one path 2: what a man in the middle of path 1 gets. */
static void other_keys_are_refused_by_both(void **state)
{
    uint8_t d[MTLS_SHA256_LEN], k, n;
    struct mtls_keys other;
    struct ends e;

    assert_int_equal(begin(&e), 0);
    other = e.keys;
    other.th[0] ^= 1;
    assert_int_equal(carry(e.client, e.server, 200, SIZE_MAX), 0);
    assert_int_equal(carry(e.server, e.client, 200, SIZE_MAX), 0);
    assert_int_equal(smkex_inband_check(e.client, &other), MTLS_ERR_PROOF_WRONG);
    assert_int_equal(smkex_inband_check(e.client, &e.keys), 0);
    assert_int_equal(smkex_inband_confirm(e.client, &other, d), 0);
    assert_int_equal(carry(e.client, e.server, 200, SIZE_MAX), MTLS_ERR_CONFIRM_WRONG);
    assert_false(smkex_inband_confirmed(e.server, d, &k, &n));
    end(&e);
}

/* A HELLO of another secret is another session's. */
static void another_join_is_refused(void **state)
{
    struct ends e, f;
    uint8_t join[MTLS_JOIN_LEN] = {9};

    assert_int_equal(begin(&e), 0);
    f = e;
    assert_int_equal(smkex_inband_server(&f.server, lab_crypto, join, &e.keys, &peer, 1), 0);
    assert_int_equal(carry(f.client, f.server, 200, SIZE_MAX), MTLS_ERR_FRAME_CLAIM);
    smkex_inband_free(f.server);
    end(&e);
}

static void more_than_belongs_to_path_2_is_refused(void **state)
{
    uint8_t text[SMKEX_INBAND_PROOF + 1] = {0};
    struct ends e;

    assert_int_equal(begin(&e), 0);
    assert_int_equal(smkex_inband_input(e.client, text, sizeof(text), 1), MTLS_ERR_ARG);
    assert_int_equal(smkex_inband_input(e.server, text, SMKEX_INBAND_HELLO + 1, 1), MTLS_ERR_ARG);
    assert_int_equal(smkex_inband_check(e.client, &e.keys), MTLS_ERR_PROOF_MISSING);
    end(&e);
}

static int scenario(void *arg)
{
    struct ends e;
    int rc = begin(&e);

    if (rc == 0)
        rc = whole(&e, 64, SIZE_MAX, SIZE_MAX, SIZE_MAX);
    end(&e);
    /* READY{busy}: the server's own table had no room for the claim. */
    return rc == MTLS_ERR_PATH_BUSY || rc == MTLS_ERR_FRAME_CLAIM ? MTLS_ERR_NOMEM : rc;
}

static void allocation_failures_are_errors(void **state)
{
    assert_true(alloc_sweep(ALLOC_OURS, scenario, NULL) > 5);
    assert_true(alloc_sweep(ALLOC_ALL, scenario, NULL) > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_hello_to_confirm_at_every_split),
        cmocka_unit_test(changed_bytes_confirm_nothing),
        cmocka_unit_test(other_keys_are_refused_by_both),
        cmocka_unit_test(another_join_is_refused),
        cmocka_unit_test(more_than_belongs_to_path_2_is_refused),
        cmocka_unit_test(allocation_failures_are_errors),
    };

    return cmocka_run_group_tests(tests, lab_open, lab_close);
}
