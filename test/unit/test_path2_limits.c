/* The server's end of path 2: limits, time, broken rules, large numbers (sections 4, 7 and 15). */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "alloc_sweep.h"
#include "mtls/core/path2_internal.h"
#include "path2_lab.h"

/* ---- READY's status, and limits ---- */

/* [RDY-3] */
static void not_here(void **state)
{
    struct lab lab = {.config = lab_config()};
    struct peer *p;

    lab.config.ntls_ports = 2;
    lab.config.tls_ports[0] = 443;
    lab.config.tls_ports[1] = 8443;
    lab.config.max_pending = 1;
    lab_start(&lab);
    p = peer_new(&lab, lab_v4(2, 1));
    peer_greet(p);
    assert_int_equal(peer_hello_to(p, 1, 100, 0, 444), 0);
    peer_expect_ready(p, 1, MTLS_READY_NOT_HERE, NULL);
    assert_int_equal(peer_hello_to(p, 2, 100, 0, 8443), 0);
    peer_expect_ready(p, 2, MTLS_READY_OK, NULL);
    assert_int_equal(peer_hello_to(p, 3, 101, 0, 443), 0);
    peer_expect_ready(p, 3, MTLS_READY_BUSY, NULL);
    assert_int_equal(peer_hello_to(p, 4, 102, 0, 22), 0); /* not-here goes before busy */
    peer_expect_ready(p, 4, MTLS_READY_NOT_HERE, NULL);
    peer_expect_nothing(p);
    assert_int_equal(lab_stats(&lab).ready_not_here, 2);
    assert_int_equal(lab_stats(&lab).ready_ok, 1);
    assert_int_equal(lab_stats(&lab).ready_busy, 1);
    lab.config.ntls_ports = 0;
    lab.config.max_pending = 100;
    mtls_p2s_set_config(lab.server, &lab.config);
    assert_int_equal(peer_hello_to(p, 5, 100, 0, 22), 0);
    peer_expect_ready(p, 5, MTLS_READY_OK, NULL);
    peer_free(p);
    lab_stop(&lab);
}

/* [TIM-9] */
static void busy_when_the_connection_has_64_claims(void **state)
{
    struct lab lab = {.config = lab_config()};
    uint8_t fail[MTLS_FAIL_LEN];
    struct peer *p;

    lab.config.per_source = 1000;
    lab_start(&lab);
    p = peer_new(&lab, lab_v4(2, 1));
    peer_greet(p);
    for (uint32_t i = 1; i <= MTLS_P2S_CLAIMS_MAX; i++)
        side_open(p, i, 100 + i, 0);
    assert_int_equal(peer_hello(p, 100, 7, 0), 0);
    peer_expect_ready(p, 100, MTLS_READY_BUSY, NULL);
    mtls_frame_fail(fail, 100, 0);
    assert_int_equal(peer_send(p, fail, sizeof(fail)), 0); /* has ended */
    mtls_frame_fail(fail, 1, 0);
    assert_int_equal(peer_send(p, fail, sizeof(fail)), 0);
    side_open(p, 101, 7, 0);
    peer_free(p);
    lab_stop(&lab);
}

/* [TIM-9] a claim is over with its CONFIRM, however long the server takes to end the session. */
static void confirmed_claims_take_no_room(void **state)
{
    struct mtls_p2s_session *x[MTLS_P2S_CLAIMS_MAX];
    struct lab lab = {.config = lab_config()};
    struct mtls_keys keys;
    struct peer *p;

    lab.config.per_source = 1000;
    lab_start(&lab);
    lab_keys(&keys, 1);
    p = peer_new(&lab, lab_v4(2, 1));
    peer_greet(p);
    for (uint32_t i = 0; i < MTLS_P2S_CLAIMS_MAX; i++) {
        struct side s = side_open(p, 1 + i, 100 + i, 0);

        x[i] = lab_session(&lab, 100 + i, NULL);
        assert_int_equal(mtls_p2s_session_keys(x[i], &keys, lab.now), 0);
        side_expect_proof(&s, &keys);
        if (i > 0) /* one is left open */
            assert_int_equal(side_confirm(&s, &keys, 1, (const struct side *const[]){&s}, 1), 0);
    }
    for (uint32_t i = 1; i < MTLS_P2S_CLAIMS_MAX; i++)
        side_open(p, 1000 + i, 1000 + i, 0);
    assert_int_equal(peer_hello(p, 2000, 7, 0), 0);
    peer_expect_ready(p, 2000, MTLS_READY_BUSY, NULL);
    for (uint32_t i = 1; i < MTLS_P2S_CLAIMS_MAX; i++)
        mtls_p2s_session_free(x[i], MTLS_FAIL_ABANDONED, lab.now);
    assert_int_equal(peer_hello(p, 2001, 8, 0), 0); /* what is over frees nothing */
    peer_expect_ready(p, 2001, MTLS_READY_BUSY, NULL);
    mtls_p2s_session_free(x[0], MTLS_FAIL_ABANDONED, lab.now);
    peer_expect_fail(p, 1, MTLS_FAIL_ABANDONED);
    side_open(p, 2002, 9, 0);
    mtls_keys_wipe(&keys);
    peer_free(p);
    lab_stop(&lab);
}

/* [SRV-4] [RDY-2]: busy, never silence; nobody is evicted; a claim whose session is here never
 * waits. */
static void busy_when_the_table_is_full(void **state)
{
    struct lab lab = {.config = lab_config()};
    struct peer *p[3];
    struct mtls_p2s_session *x;

    lab.config.max_pending = 3;
    lab_start(&lab);
    for (uint8_t i = 0; i < 3; i++) {
        p[i] = peer_new(&lab, lab_v4(2, i));
        peer_greet(p[i]);
        side_open(p[i], 1, 100u + i, 0);
    }
    assert_int_equal(peer_hello(p[0], 2, 103, 0), 0);
    peer_expect_ready(p[0], 2, MTLS_READY_BUSY, NULL);
    assert_int_equal(lab_stats(&lab).waiting_claims, 3);
    x = lab_session(&lab, 103, NULL);
    side_open(p[0], 3, 103, 0);
    mtls_p2s_session_free(x, 0, lab.now);
    peer_expect_fail(p[0], 3, 0);
    side_open(p[0], 4, 103, 0); /* an ended join needs no place */
    peer_expect_fail(p[0], 4, MTLS_FAIL_NO_SESSION);
    lab_session(&lab, 100, NULL);
    lab_session(&lab, 104, NULL);
    lab_session(&lab, 105, NULL);
    assert_int_equal(lab_session_rc(&lab, 106), MTLS_ERR_LIMIT); /* [SRV-11] */
    assert_int_equal(lab_session_rc(&lab, 103), MTLS_ERR_JOIN_REUSED);
    side_open(p[0], 5, 107, 0); /* claim 100 waits no more */
    for (size_t i = 0; i < 3; i++)
        peer_free(p[i]);
    lab_stop(&lab);
}

static void the_share_of_a_source(void **state)
{
    struct lab lab = {.config = lab_config()};
    struct peer *greedy, *same, *other;
    struct mtls_addr mapped = {.family = 6, .ip = {[10] = 0xff, 0xff, 192, 0, 2, 1}};
    unsigned had = 0;

    lab.config.max_pending = 72;
    lab_start(&lab);
    greedy = peer_new(&lab, lab_v4(2, 1));
    peer_greet(greedy);
    for (uint32_t i = 1; i <= 20; i++) {
        assert_int_equal(peer_hello(greedy, i, 100 + i, 0), 0);
        had += peer_expect(greedy, MTLS_FRAME_READY, i)[0] == MTLS_READY_OK;
    }
    assert_int_equal(had, 8); /* the ninth finds 64 free and has 8 of them */
    same = peer_new(&lab, mapped);
    peer_greet(same);
    assert_int_equal(peer_hello(same, 1, 200, 0), 0);
    peer_expect_ready(same, 1, MTLS_READY_BUSY, NULL); /* the same address, mapped into IPv6 */
    other = peer_new(&lab, lab_v4(2, 2));
    peer_greet(other);
    side_open(other, 1, 300, 0);
    peer_free(greedy); /* gives its share back */
    side_open(same, 2, 200, 0);
    peer_free(same);
    peer_free(other);
    assert_int_equal(lab_stats(&lab).waiting_claims, 0);
    lab_stop(&lab);
}

/* ---- Time ---- */

/* [TIM-4] [TIM-5] [TIM-6] */
static void waiting_claims_and_idle_connections_expire(void **state)
{
    struct lab lab = {0};
    struct peer *p, *q, *silent;
    mtls_tstamp start;

    lab_start(&lab);
    start = lab.now;
    assert_true(mtls_p2s_deadline(lab.server) == MTLS_TSTAMP_NEVER);
    p = peer_new(&lab, lab_v4(2, 1));
    peer_greet(p);
    side_open(p, 1, 100, 0);
    assert_int_equal(mtls_p2s_deadline(lab.server), start + 10 * SEC);
    lab.now += 5 * SEC;
    q = peer_new(&lab, lab_v4(2, 2));
    silent = peer_new(&lab, lab_v4(2, 3));
    peer_greet(q);
    side_open(q, 1, 101, 0);
    lab.now = start + 10 * SEC - 1;
    mtls_p2s_expire(lab.server, lab.now);
    peer_expect_nothing(p);
    lab.now++;
    mtls_p2s_expire(lab.server, lab.now);
    peer_expect_fail(p, 1, MTLS_FAIL_NO_SESSION);
    peer_expect_nothing(q);
    assert_int_equal(lab_stats(&lab).waiting_claims, 1);
    lab_session(&lab, 101, NULL); /* q's claim waits no more */
    assert_int_equal(mtls_p2s_deadline(lab.server), start + 16 * SEC);
    lab.now = start + 16 * SEC;
    mtls_p2s_expire(lab.server, lab.now);
    assert_int_equal(lab.closes, 1);
    assert_ptr_equal(lab.closed_conn, silent);
    assert_int_equal(lab.close_error, MTLS_ERR_PATH_TIMEOUT);
    assert_int_equal(peer_send(silent, mtls_preface, 1), MTLS_ERR_PATH_TIMEOUT);
    peer_free(silent);
    assert_int_equal(mtls_p2s_deadline(lab.server), start + 160 * SEC); /* p is idle since 10 */
    lab.now = start + 160 * SEC;
    mtls_p2s_expire(lab.server, lab.now);
    assert_int_equal(lab.closes, 2);
    assert_ptr_equal(lab.closed_conn, p);
    assert_int_equal(lab_stats(&lab).conn_errors, 0);
    assert_true(mtls_p2s_deadline(lab.server) == MTLS_TSTAMP_NEVER); /* q has an open claim */
    peer_free(p);
    peer_free(q);
    lab_stop(&lab);
}

/* A shorter time to live keeps the queues in order. */
static void times_to_live_may_change(void **state)
{
    struct lab lab = {0};
    struct peer *a, *b;

    lab_start(&lab);
    a = peer_new(&lab, lab_v4(2, 1));
    lab.config.hello_ttl = SEC;
    mtls_p2s_set_config(lab.server, &lab.config);
    b = peer_new(&lab, lab_v4(2, 2));
    mtls_p2s_expire(lab.server, lab.now + 11 * SEC - 1);
    assert_int_equal(lab.closes, 0);
    mtls_p2s_expire(lab.server, lab.now + 11 * SEC);
    assert_int_equal(lab.closes, 2);
    peer_free(a);
    peer_free(b);
    lab.config.hello_ttl = MTLS_TSTAMP_NEVER; /* no overflow */
    mtls_p2s_set_config(lab.server, &lab.config);
    a = peer_new(&lab, lab_v4(2, 1));
    assert_true(mtls_p2s_deadline(lab.server) == MTLS_TSTAMP_NEVER);
    peer_free(a);
    lab_stop(&lab);
}

/* ---- Broken rules ---- */

/* [P2-1] [P2-3] [P2-4] */
static void a_broken_rule_ends_the_connection_alone(void **state)
{
    static const struct {
        uint32_t first, second;
        int rc;
    } ids[] = {{1, 2, 0},
               {1, 1, MTLS_ERR_FRAME_CLAIM},
               {9, 8, MTLS_ERR_FRAME_CLAIM},
               {UINT32_MAX - 1, UINT32_MAX, 0},
               {UINT32_MAX, 0, MTLS_ERR_FRAME_CLAIM}};
    struct lab lab = {0};
    struct mtls_keys keys;
    struct peer *p;
    uint8_t ready[MTLS_READY_LEN] = {MTLS_FRAME_READY};

    lab_start(&lab);
    lab_keys(&keys, 1);
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        p = peer_new(&lab, lab_v4(2, 1));
        peer_greet(p);
        side_open(p, ids[i].first, 500, 0);
        assert_int_equal(peer_hello(p, ids[i].second, 501, 0), ids[i].rc);
        assert_int_equal(lab_stats(&lab).claims, ids[i].rc < 0 ? 0 : 2);
        assert_int_equal(peer_send(p, NULL, 0), ids[i].rc); /* sticky */
        peer_free(p);
    }
    p = peer_new(&lab, lab_v4(2, 1));
    peer_greet(p);
    assert_int_equal(peer_hello(p, 0, 500, 0), MTLS_ERR_FRAME_CLAIM);
    peer_free(p);
    p = peer_new(&lab, lab_v4(2, 1));
    assert_int_equal(peer_send(p, (const uint8_t *)"GET / HT", 8), MTLS_ERR_FRAME_PREFACE);
    peer_expect_nothing(p);
    assert_false(p->reader.preface_done); /* [P2-1] nothing was sent */
    peer_free(p);
    p = peer_new(&lab, lab_v4(2, 1));
    peer_greet(p);
    assert_int_equal(peer_send(p, ready, sizeof(ready)), MTLS_ERR_FRAME_TYPE);
    peer_free(p);
    assert_int_equal(lab_stats(&lab).conn_errors, 6);
    assert_int_equal(lab_stats(&lab).conns, 0);
    assert_int_equal(lab.closes, 0); /* the return value told it */
    lab_stop(&lab);
}

/* [P2-8]: a peer that does not read. */
static void unsent_output_is_bounded(void **state)
{
    struct lab lab = {.config = lab_config()};
    struct peer *p;
    uint32_t id = 0;
    size_t len;
    int rc;

    lab.config.ntls_ports = 1; /* every HELLO: not-here */
    lab_start(&lab);
    p = peer_new(&lab, lab_v4(2, 1));
    peer_greet(p);
    do {
        rc = peer_hello(p, ++id, 1, 0);
        mtls_p2s_conn_out(p->conn, &len);
        assert_true(len <= 16384);
    } while (rc == 0);
    assert_int_equal(rc, MTLS_ERR_FRAME_OVERFLOW);
    assert_int_equal(id, (16384 - 8) / MTLS_READY_LEN + 1);
    peer_free(p);
    lab_stop(&lab);
}

/* The same by a PROOF or FAIL that others cause: the driver is told; other claims of the join go
 * on. */
static void overflow_by_a_session(void **state)
{
    for (int by_free = 0; by_free < 2; by_free++) {
        struct lab lab = {.config = lab_config()};
        struct mtls_keys keys;
        struct mtls_p2s_session *x;
        struct peer *full, *good;
        uint32_t id = 100;
        size_t len;

        lab.config.ntls_ports = 1;
        lab.config.tls_ports[0] = 443;
        lab_start(&lab);
        lab_keys(&keys, 1);
        x = lab_session(&lab, 100, NULL);
        full = peer_new(&lab, lab_v4(2, 1));
        peer_greet(full);
        good = peer_new(&lab, lab_v4(2, 2));
        peer_greet(good);
        side_open(full, 1, 100, 0);
        side_open(good, 1, 100, 1);
        side_open(full, 2, 100, 2);
        do { /* leave less room than a FAIL */
            assert_int_equal(peer_hello_to(full, ++id, 1, 0, 444), 0);
            mtls_p2s_conn_out(full->conn, &len);
        } while (16384 - len >= MTLS_READY_LEN);
        while (16384 - len >= MTLS_FAIL_LEN) {
            mtls_p2s_conn_fail(full->conn, 1, 0, lab.now);
            mtls_p2s_conn_out(full->conn, &len);
        }
        if (by_free)
            mtls_p2s_session_free(x, MTLS_FAIL_ABANDONED, lab.now);
        else
            assert_int_equal(mtls_p2s_session_keys(x, &keys, lab.now), 0);
        assert_int_equal(lab.closes, 1);
        assert_ptr_equal(lab.closed_conn, full);
        assert_int_equal(lab.close_error, MTLS_ERR_FRAME_OVERFLOW);
        peer_expect(good, by_free ? MTLS_FRAME_FAIL : MTLS_FRAME_PROOF, 1);
        assert_int_equal(lab_stats(&lab).claims, by_free ? 0 : 1);
        peer_free(full);
        peer_free(good);
        lab_stop(&lab);
    }
}

/* [CNF-3] What a session keeps of a claim that has ended does not point at it. */
static void a_session_forgets_the_claim_not_its_proof(void **state)
{
    struct lab lab = {0};
    struct mtls_p2s_session *x;
    struct mtls_keys keys;
    struct peer *p;
    struct side s;

    lab_start(&lab);
    lab_keys(&keys, 1);
    x = lab_session(&lab, 100, NULL);
    assert_int_equal(mtls_p2s_session_keys(x, &keys, lab.now), 0);
    p = peer_new(&lab, lab_v4(2, 1));
    peer_greet(p);
    s = side_open(p, 1, 100, 3);
    side_expect_proof(&s, &keys);
    assert_int_equal(x->nmembers, 1);
    assert_non_null(x->members[0]->claim);
    peer_free(p);
    assert_int_equal(x->nmembers, 1);
    assert_null(x->members[0]->claim);
    assert_int_equal(x->members[0]->counted.path, 3);
    assert_memory_equal(x->members[0]->counted.tag_s, s.counted.tag_s, MTLS_TAG_LEN);
    lab_stop(&lab);
}

/* ---- Allocation failures, large numbers ---- */

/* Two connections, two sessions, waiting and proven claims. Whatever fails, the rest stays whole:
 * busy is said for want of memory, too, and the caller learns of the rest. */
static int alloc_scenario_run(void *arg)
{
    struct mtls_p2s_config config = lab_config();
    struct mtls_p2s_session *x = NULL, *y = NULL;
    struct mtls_p2s_conn *c = NULL;
    struct mtls_addr addr = lab_v4(2, 1);
    struct mtls_p2s_stats stats;
    struct mtls_p2s *s = NULL;
    struct lab lab = {0};
    const uint8_t *join = arg;
    struct mtls_keys keys = {.version = 1, .hlen = 32};
    uint8_t hello[MTLS_HELLO_LEN], secret[MTLS_SECRET_LEN], nonce[MTLS_NONCE_LEN] = {0};
    int rc;

    if ((rc = mtls_p2s_new(&s, lab_crypto, &config, &lab_events, &lab)) < 0)
        return rc;
    if ((rc = mtls_p2s_conn_new(&c, s, &addr, NULL, 1)) < 0)
        goto out;
    if ((rc = mtls_p2s_conn_input(c, mtls_preface, MTLS_PREFACE_LEN, 1)) < 0)
        goto out;
    for (uint32_t i = 0; i < 3; i++) {
        lab_secret(100 + i, secret);
        mtls_frame_hello(hello, 1 + i, 443, 0, secret, nonce);
        if ((rc = mtls_p2s_conn_input(c, hello, sizeof(hello), 1)) < 0)
            goto out;
    }
    if ((rc = mtls_p2s_session_new(&x, s, join, NULL, 1)) < 0)
        goto out;
    if ((rc = mtls_p2s_session_new(&y, s, join, NULL, 1)) < 0)
        goto out;
    if ((rc = mtls_p2s_session_keys(x, &keys, 1)) < 0)
        goto out;
    if (lab.closes > 0) {
        rc = lab.close_error;
        goto out;
    }
    mtls_p2s_stats(s, &stats);
    rc = stats.ready_busy > 0 ? MTLS_ERR_NOMEM : 0;
    if (rc == 0)
        assert_int_equal(stats.proofs, 1);
out:
    mtls_p2s_session_free(y, 0, 2);
    mtls_p2s_session_free(x, 0, 2);
    mtls_p2s_conn_free(c);
    mtls_p2s_free(s);
    return rc;
}

static void every_allocation_may_fail(void **state)
{
    uint8_t join[MTLS_JOIN_LEN];

    lab_join(100, join);
    assert_true(alloc_sweep(ALLOC_OURS, alloc_scenario_run, join) > 8);
    assert_true(alloc_sweep(ALLOC_ALL, alloc_scenario_run, join) > 8);
}

/* 50,000 sessions and as many waiting claims: look-ups look at less than two nodes on average, a
 * pending session takes well below 1 KiB. */
static void fifty_thousand(void **state)
{
    enum { N = 50000, CONNS = 1000 };
    struct lab lab = {.config = lab_config()};
    struct mtls_p2s_session **x = calloc(N, sizeof(*x));
    struct mtls_p2s_conn **c = calloc(CONNS, sizeof(*c));
    uint8_t hello[MTLS_HELLO_LEN], secret[MTLS_SECRET_LEN], nonce[MTLS_NONCE_LEN] = {0};
    struct mtls_hash *joins;
    size_t before, len;

    assert_non_null(x);
    assert_non_null(c);
    lab.config.max_pending = 65536;
    lab.config.per_source = 256;
    lab_start(&lab);
    joins = &lab.server->pending.joins;
    before = mallinfo2().uordblks;
    for (uint32_t i = 0; i < N; i++)
        x[i] = lab_session(&lab, i, NULL);
    assert_true(mallinfo2().uordblks - before < (size_t)N * 640);
    for (uint32_t i = 0; i < CONNS; i++) {
        struct mtls_addr addr = lab_v4((uint8_t)(i >> 8), (uint8_t)i);

        assert_int_equal(mtls_p2s_conn_new(&c[i], lab.server, &addr, NULL, lab.now), 0);
        assert_int_equal(mtls_p2s_conn_input(c[i], mtls_preface, MTLS_PREFACE_LEN, lab.now), 0);
        for (uint32_t j = 0; j < N / CONNS; j++) {
            lab_secret(N + i * (N / CONNS) + j, secret);
            mtls_frame_hello(hello, j + 1, 443, 0, secret, nonce);
            assert_int_equal(mtls_p2s_conn_input(c[i], hello, sizeof(hello), lab.now), 0);
            mtls_p2s_conn_out(c[i], &len);
            mtls_p2s_conn_sent(c[i], len);
        }
    }
    assert_int_equal(lab_stats(&lab).waiting_claims, N);
    assert_int_equal(lab_stats(&lab).ready_ok, N);
    assert_true(joins->finds >= 2 * N);
    assert_true(joins->probes < 2 * joins->finds);
    joins->probes = joins->finds = 0;
    for (uint32_t i = 0; i < N; i++)
        mtls_p2s_session_free(x[i], 0, lab.now);
    for (uint32_t i = 0; i < 1000; i++) /* a waiting claim each, then one that ended */
        assert_int_equal(lab_session_rc(&lab, N + i), 0);
    assert_int_equal(lab_session_rc(&lab, 17), MTLS_ERR_JOIN_REUSED);
    assert_true(joins->probes < 3 * joins->finds);
    assert_int_equal(lab_stats(&lab).ended_joins, N);
    lab.now += 60 * SEC;
    mtls_p2s_expire(lab.server, lab.now);
    assert_int_equal(lab_stats(&lab).ended_joins, 0);
    assert_int_equal(lab_stats(&lab).waiting_claims, 0);
    assert_int_equal(lab_stats(&lab).claims, 1000);
    lab_stop(&lab); /* frees connections, claims and sessions that are left */
    free(x);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(not_here),
        cmocka_unit_test(busy_when_the_connection_has_64_claims),
        cmocka_unit_test(confirmed_claims_take_no_room),
        cmocka_unit_test(busy_when_the_table_is_full),
        cmocka_unit_test(the_share_of_a_source),
        cmocka_unit_test(waiting_claims_and_idle_connections_expire),
        cmocka_unit_test(times_to_live_may_change),
        cmocka_unit_test(a_broken_rule_ends_the_connection_alone),
        cmocka_unit_test(unsent_output_is_bounded),
        cmocka_unit_test(overflow_by_a_session),
        cmocka_unit_test(a_session_forgets_the_claim_not_its_proof),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(fifty_thousand),
    };

    return cmocka_run_group_tests(tests, lab_open, lab_close);
}
