/* Messages between the processes of a service: each comes back as it was, and whatever is not
 * exactly one is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mtls/core/handover.h"

static struct mtls_handover sent, got;
static uint8_t wire[MTLS_HANDOVER_MAX];

static struct mtls_claim_state claim_of(uint32_t id)
{
    struct mtls_claim_state c = {
        .id = id, .path = 7, .proofs = 0x81, .confirmed = true, .confirmed_slot = 7};

    memset(c.join, 0x11, sizeof(c.join));
    memset(c.p2, 0x22, sizeof(c.p2));
    return c;
}

static int encode(enum mtls_handover_type type)
{
    static const uint8_t frames[MTLS_HANDOVER_BYTES_MAX] = {5, 1, 0, 1};

    memset(&sent, 0, sizeof(sent));
    sent.type = type;
    sent.serial = 0x0102030405060708;
    sent.id = 77;
    sent.close = true;
    sent.local = (struct mtls_addr){.family = 4, .ip = {10, 0, 0, 1}, .port = 914};
    sent.peer = (struct mtls_addr){.family = 6, .ip = {0xfd}, .port = 65535};
    sent.claim = claim_of(77);
    memset(sent.join, 0x33, sizeof(sent.join));
    sent.bytes = frames;
    sent.len = 9;
    sent.conn.last_id = 100;
    sent.conn.preface_done = sent.conn.preface_sent = true;
    sent.conn.have = MTLS_FRAME_MAX - 1;
    memset(sent.conn.buf, 0x44, sent.conn.have);
    sent.conn.nclaims = MTLS_HANDOVER_CLAIMS_MAX;
    for (uint32_t i = 0; i < MTLS_HANDOVER_CLAIMS_MAX; i++)
        sent.conn.claims[i] = claim_of(i + 1);
    return mtls_handover_encode(&sent, wire, sizeof(wire));
}

static void assert_claim(const struct mtls_claim_state *a, const struct mtls_claim_state *b)
{
    assert_int_equal(a->id, b->id);
    assert_int_equal(a->path, b->path);
    assert_int_equal(a->proofs, b->proofs);
    assert_int_equal(a->confirmed, b->confirmed);
    assert_int_equal(a->confirmed_slot, b->confirmed_slot);
    assert_memory_equal(a->join, b->join, MTLS_JOIN_LEN);
    assert_memory_equal(a->p2, b->p2, MTLS_SHA256_LEN);
}

static void round_trips(void **state)
{
    int type, n;

    for (type = MTLS_HANDOVER_CLAIM; type <= MTLS_HANDOVER_CONN; type++) {
        n = encode((enum mtls_handover_type)type);
        assert_true(n > 2);
        assert_int_equal(mtls_handover_decode(&got, wire, (size_t)n), 0);
        assert_int_equal(got.type, type);
        if (type != MTLS_HANDOVER_WANT && type != MTLS_HANDOVER_CONN)
            assert_true(got.serial == sent.serial);
        if (type == MTLS_HANDOVER_CLAIM) {
            assert_claim(&got.claim, &sent.claim);
            assert_memory_equal(&got.local, &sent.local, sizeof(got.local));
            assert_memory_equal(&got.peer, &sent.peer, sizeof(got.peer));
        } else if (type == MTLS_HANDOVER_WANT) {
            assert_memory_equal(got.join, sent.join, MTLS_JOIN_LEN);
        } else if (type == MTLS_HANDOVER_CONN) {
            assert_int_equal(got.conn.last_id, 100);
            assert_int_equal(got.conn.have, sent.conn.have);
            assert_memory_equal(got.conn.buf, sent.conn.buf, sent.conn.have);
            assert_int_equal(got.conn.nclaims, MTLS_HANDOVER_CLAIMS_MAX);
            assert_claim(&got.conn.claims[63], &sent.conn.claims[63]);
        } else {
            assert_int_equal(got.id, 77);
        }
        if (type == MTLS_HANDOVER_TO_OWNER || type == MTLS_HANDOVER_TO_HOLDER) {
            assert_int_equal(got.len, 9);
            assert_memory_equal(got.bytes, sent.bytes, 9);
        }
        assert_int_equal(got.close, type == MTLS_HANDOVER_DONE);
    }
}

/* Shorter or longer by any number of bytes, and no room to write. */
static void lengths(void **state)
{
    int type, n, i;

    for (type = MTLS_HANDOVER_CLAIM; type <= MTLS_HANDOVER_CONN; type++) {
        n = encode((enum mtls_handover_type)type);
        for (i = 0; i < n; i++) {
            uint8_t *exact = malloc((size_t)i + 1);

            memcpy(exact, wire, (size_t)i);
            if (type == MTLS_HANDOVER_TO_OWNER || type == MTLS_HANDOVER_TO_HOLDER) {
                if (i < n - 8) /* what is left of the frames is the frames' matter */
                    assert_int_not_equal(mtls_handover_decode(&got, exact, (size_t)i), 0);
            } else {
                assert_int_equal(mtls_handover_decode(&got, exact, (size_t)i),
                                 MTLS_ERR_FRAME_LENGTH);
            }
            free(exact);
            assert_int_equal(mtls_handover_encode(&sent, wire, (size_t)i), MTLS_ERR_ARG);
        }
        n = encode((enum mtls_handover_type)type);
        wire[n] = 0;
        if (type != MTLS_HANDOVER_TO_OWNER && type != MTLS_HANDOVER_TO_HOLDER)
            assert_int_equal(mtls_handover_decode(&got, wire, (size_t)n + 1),
                             MTLS_ERR_FRAME_LENGTH);
    }
    assert_true(encode(MTLS_HANDOVER_TO_OWNER) > 0);
    sent.len = 0;
    assert_int_equal(mtls_handover_encode(&sent, wire, sizeof(wire)), MTLS_ERR_ARG);
    sent.len = MTLS_HANDOVER_BYTES_MAX + 1;
    assert_int_equal(mtls_handover_encode(&sent, wire, sizeof(wire)), MTLS_ERR_ARG);
    sent.len = MTLS_HANDOVER_BYTES_MAX;
    assert_true(mtls_handover_encode(&sent, wire, sizeof(wire)) > 0);
}

static int decode_with(enum mtls_handover_type type, size_t at, uint8_t value)
{
    int n = encode(type);

    assert_true(n > (int)at);
    wire[at] = value;
    return mtls_handover_decode(&got, wire, (size_t)n);
}

static void values(void **state)
{
    enum { SERIAL = 2, CLAIM = 10, CONN_BUF = 9 };

    assert_int_equal(decode_with(MTLS_HANDOVER_WANT, 0, 2), MTLS_ERR_FRAME_VERSION);
    assert_int_equal(decode_with(MTLS_HANDOVER_WANT, 1, 0), MTLS_ERR_FRAME_TYPE);
    assert_int_equal(decode_with(MTLS_HANDOVER_WANT, 1, 9), MTLS_ERR_FRAME_TYPE);
    assert_int_equal(decode_with(MTLS_HANDOVER_WANT, 1, 255), MTLS_ERR_FRAME_TYPE);
    assert_int_equal(decode_with(MTLS_HANDOVER_CLAIM, CLAIM + 3, 0), MTLS_ERR_FRAME_VALUE);
    assert_int_equal(decode_with(MTLS_HANDOVER_CLAIM, CLAIM + 4, 8), MTLS_ERR_FRAME_VALUE);
    assert_int_equal(decode_with(MTLS_HANDOVER_CLAIM, CLAIM + 4, 6), 0);
    assert_int_equal(decode_with(MTLS_HANDOVER_CLAIM, CLAIM + 6, 2), MTLS_ERR_FRAME_VALUE);
    assert_int_equal(decode_with(MTLS_HANDOVER_CLAIM, CLAIM + 7, 8), MTLS_ERR_FRAME_VALUE);
    assert_int_equal(decode_with(MTLS_HANDOVER_CLAIM, CLAIM + 56, 5), MTLS_ERR_FRAME_VALUE);
    assert_int_equal(decode_with(MTLS_HANDOVER_DONE, 14, 2), MTLS_ERR_FRAME_VALUE);
    assert_int_equal(decode_with(MTLS_HANDOVER_CONN, 6, 2), MTLS_ERR_FRAME_VALUE);
    assert_int_equal(decode_with(MTLS_HANDOVER_CONN, 8, MTLS_FRAME_MAX), MTLS_ERR_FRAME_VALUE);
    assert_int_equal(decode_with(MTLS_HANDOVER_CONN, CONN_BUF + MTLS_FRAME_MAX - 1, 65),
                     MTLS_ERR_FRAME_VALUE);
    /* [P2-3] claims rise, and the last HELLO's is the greatest */
    assert_int_equal(decode_with(MTLS_HANDOVER_CONN, CONN_BUF + MTLS_FRAME_MAX + 56 + 3, 1),
                     MTLS_ERR_FRAME_VALUE);
    assert_int_equal(decode_with(MTLS_HANDOVER_CONN, 5, 63), MTLS_ERR_FRAME_VALUE);
    assert_int_equal(decode_with(MTLS_HANDOVER_CONN, 5, 64), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(lengths),
        cmocka_unit_test(values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
