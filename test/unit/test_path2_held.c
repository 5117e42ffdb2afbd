/* The server's end of path 2: READY that waits a moment for its session's keys, so that PROOF goes
 * with it [RDY-2] [TIM-17]; and whatever does not wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mtls/core/path2_shared.h"
#include "path2_lab.h"

#define ONE(s) ((const struct side *const[]){&(s)}), 1

enum { TTL = 5000, PENDING = 100, OTHER = 101, UNKNOWN = 102 };

/* A session without keys, and a peer that has greeted. */
static struct mtls_p2s_session *begin(struct lab *lab, struct peer **p, mtls_tstamp ttl)
{
    struct mtls_p2s_session *x;

    lab->config = lab_config();
    lab->config.ready_ttl = ttl;
    lab_start(lab);
    x = lab_session(lab, PENDING, NULL);
    *p = peer_new(lab, lab_v4(2, 1));
    peer_greet(*p);
    peer_pull(*p); /* the preface alone waits for nothing */
    assert_true((*p)->reader.preface_done);
    return x;
}

static void end(struct lab *lab, struct peer *p, struct mtls_p2s_session *x)
{
    mtls_p2s_session_free(x, MTLS_FAIL_ABANDONED, lab->now);
    peer_free(p);
    lab_stop(lab);
}

static size_t unsent(const struct peer *p)
{
    size_t len;

    mtls_p2s_conn_out(p->conn, &len);
    return len;
}

/* HELLO for the session whose keys are to come: no answer yet. */
static struct side hello_held(struct peer *p, uint32_t id)
{
    struct side s = {.p = p, .id = id};

    p->lab->outputs = 0;
    assert_int_equal(peer_hello(p, id, PENDING, 0), 0);
    assert_int_equal(p->lab->outputs, 0);
    peer_expect_nothing(p);
    return s;
}

static void keys_come(void **state)
{
    struct lab lab = {0};
    struct mtls_keys keys;
    struct peer *p;
    struct mtls_p2s_session *x = begin(&lab, &p, TTL);
    struct side s = hello_held(p, 1);

    lab_keys(&keys, 1);
    assert_int_equal(mtls_p2s_session_keys(x, &keys, lab.now), 0);
    assert_int_equal(lab.outputs, 1);
    assert_int_equal(unsent(p), MTLS_READY_LEN + MTLS_PROOF_LEN); /* in one segment */
    peer_expect_ready(p, 1, MTLS_READY_OK, s.counted.p2);
    side_expect_proof(&s, &keys);
    assert_int_equal(side_confirm(&s, &keys, 1, ONE(s)), 0);
    assert_int_equal(lab.confirmed, 1);
    end(&lab, p, x);
}

/* The server's preface may be in the same segment: it is not owed before READY [P2-1]. */
static void preface_with_it(void **state)
{
    struct lab lab = {0};
    uint8_t in[MTLS_PREFACE_LEN + MTLS_HELLO_LEN];
    struct mtls_keys keys;
    struct peer *p, *q;
    struct mtls_p2s_session *x = begin(&lab, &p, TTL);

    q = peer_new(&lab, lab_v4(3, 1));
    assert_int_equal(peer_hello(p, 1, PENDING, 0), 0); /* makes the frame, too */
    memcpy(in, mtls_preface, MTLS_PREFACE_LEN);
    memcpy(in + MTLS_PREFACE_LEN, p->hello, MTLS_HELLO_LEN);
    assert_int_equal(peer_send(q, in, sizeof(in)), 0);
    assert_int_equal(unsent(q), 0);
    lab_keys(&keys, 1);
    assert_int_equal(mtls_p2s_session_keys(x, &keys, lab.now), 0);
    assert_int_equal(unsent(q), MTLS_PREFACE_LEN + MTLS_READY_LEN + MTLS_PROOF_LEN);
    peer_free(q);
    end(&lab, p, x);
}

static void time_passes(void **state)
{
    struct lab lab = {0};
    struct mtls_keys keys;
    struct peer *p;
    struct mtls_p2s_session *x = begin(&lab, &p, TTL);
    struct side s = hello_held(p, 1);
    mtls_tstamp until = lab.now + TTL;

    assert_int_equal(mtls_p2s_deadline(lab.server), until);
    mtls_p2s_expire(lab.server, until - 1);
    assert_int_equal(unsent(p), 0);
    mtls_p2s_expire(lab.server, until);
    assert_int_equal(lab.outputs, 1);
    peer_expect_ready(p, 1, MTLS_READY_OK, s.counted.p2);
    peer_expect_nothing(p); /* [KEY-2] */
    assert_true(mtls_p2s_deadline(lab.server) > until);
    lab_keys(&keys, 1);
    assert_int_equal(mtls_p2s_session_keys(x, &keys, until), 0);
    side_expect_proof(&s, &keys);
    end(&lab, p, x);
}

/* The first READY's time is the connection's: a second one does not make it longer. */
static void two_in_a_row(void **state)
{
    struct lab lab = {0};
    struct peer *p;
    struct mtls_p2s_session *x = begin(&lab, &p, TTL);
    mtls_tstamp until = lab.now + TTL;

    (void)hello_held(p, 1);
    lab.now += TTL - 1;
    (void)hello_held(p, 2);
    mtls_p2s_expire(lab.server, until);
    assert_int_equal(unsent(p), 2 * MTLS_READY_LEN);
    end(&lab, p, x);
}

static void session_ends(void **state)
{
    struct lab lab = {0};
    struct peer *p;
    struct mtls_p2s_session *x = begin(&lab, &p, TTL);

    (void)hello_held(p, 1);
    mtls_p2s_session_free(x, MTLS_FAIL_ABANDONED, lab.now);
    assert_int_equal(lab.outputs, 1);
    peer_expect_ready(p, 1, MTLS_READY_OK, NULL);
    peer_expect_fail(p, 1, MTLS_FAIL_ABANDONED);
    end(&lab, p, NULL);
}

static void connection_breaks_a_rule(void **state)
{
    struct lab lab = {0};
    uint8_t fail[MTLS_FAIL_LEN];
    struct mtls_keys keys;
    struct peer *p;
    struct mtls_p2s_session *x = begin(&lab, &p, TTL);

    (void)hello_held(p, 1);
    mtls_frame_fail(fail, 9, 0);
    assert_int_equal(peer_send(p, fail, sizeof(fail)), MTLS_ERR_FRAME_CLAIM);
    peer_expect_ready(p, 1, MTLS_READY_OK, NULL); /* its output is written still */
    lab.outputs = 0;
    lab_keys(&keys, 1);
    assert_int_equal(mtls_p2s_session_keys(x, &keys, lab.now), 0);
    mtls_p2s_expire(lab.server, lab.now + TTL);
    assert_int_equal(lab.outputs, 0);
    peer_expect_nothing(p);
    end(&lab, p, x);
}

static void connection_goes(void **state)
{
    struct lab lab = {0};
    struct peer *p;
    struct mtls_p2s_session *x = begin(&lab, &p, TTL);
    struct mtls_keys keys;

    (void)hello_held(p, 1);
    peer_free(p);
    assert_int_equal(lab_stats(&lab).claims, 0);
    mtls_p2s_expire(lab.server, lab.now + TTL);
    lab_keys(&keys, 1);
    assert_int_equal(mtls_p2s_session_keys(x, &keys, lab.now), 0);
    assert_int_equal(lab.outputs, 0);
    mtls_p2s_session_free(x, MTLS_FAIL_ABANDONED, lab.now);
    lab_stop(&lab);
}

/* The client gives the claim up: READY leaves in its time all the same. */
static void claim_goes(void **state)
{
    struct lab lab = {0};
    uint8_t fail[MTLS_FAIL_LEN];
    struct peer *p;
    struct mtls_p2s_session *x = begin(&lab, &p, TTL);

    (void)hello_held(p, 1);
    mtls_frame_fail(fail, 1, 0);
    assert_int_equal(peer_send(p, fail, sizeof(fail)), 0);
    mtls_p2s_expire(lab.server, lab.now + TTL);
    peer_expect_ready(p, 1, MTLS_READY_OK, NULL);
    end(&lab, p, x);
}

/* Nothing else is kept back by it, before or behind it, nor put in another order. */
static void others_do_not_wait(void **state)
{
    struct lab lab = {0};
    struct mtls_keys keys;
    struct peer *p;
    struct mtls_p2s_session *y, *x = begin(&lab, &p, TTL);
    struct side s = {.p = p, .id = 2};

    y = lab_session(&lab, OTHER, NULL);
    lab_keys(&keys, 1);
    assert_int_equal(mtls_p2s_session_keys(y, &keys, lab.now), 0);
    (void)hello_held(p, 1);
    assert_int_equal(peer_hello(p, 2, OTHER, 0), 0);
    assert_int_equal(lab.outputs, 1);
    assert_int_equal(unsent(p), 2 * MTLS_READY_LEN + MTLS_PROOF_LEN);
    peer_expect(p, MTLS_FRAME_READY, 1);
    peer_expect_ready(p, 2, MTLS_READY_OK, s.counted.p2);
    side_expect_proof(&s, &keys);

    assert_int_equal(peer_hello(p, 3, OTHER, 0), 0);
    mtls_p2s_conn_sent(p->conn, 1); /* the socket took a part only */
    assert_int_equal(peer_hello(p, 4, PENDING, 0), 0);
    assert_int_equal(unsent(p), 2 * MTLS_READY_LEN + MTLS_PROOF_LEN - 1);
    p->taken = p->nframes;
    mtls_p2s_conn_sent(p->conn, unsent(p));
    (void)hello_held(p, 5); /* and once that is out, it waits again */
    mtls_p2s_session_free(y, MTLS_FAIL_ABANDONED, lab.now);
    end(&lab, p, x);
}

/* HELLO came first: its ClientHello may be waiting to be read. */
static void session_comes(void **state)
{
    struct lab lab = {0};
    struct mtls_keys keys;
    struct peer *p;
    struct mtls_p2s_session *y, *x = begin(&lab, &p, TTL);
    struct side s = {.p = p, .id = 1};

    assert_int_equal(peer_hello(p, 1, UNKNOWN, 0), 0);
    peer_expect_nothing(p);
    y = lab_session(&lab, UNKNOWN, NULL);
    peer_expect_nothing(p);
    lab_keys(&keys, 1);
    assert_int_equal(mtls_p2s_session_keys(y, &keys, lab.now), 0);
    peer_expect_ready(p, 1, MTLS_READY_OK, s.counted.p2);
    side_expect_proof(&s, &keys);

    assert_int_equal(peer_hello(p, 2, UNKNOWN + 1, 0), 0); /* and one that never comes */
    mtls_p2s_expire(lab.server, lab.now + TTL - 1);
    peer_expect_nothing(p);
    mtls_p2s_expire(lab.server, lab.now + TTL);
    peer_expect_ready(p, 2, MTLS_READY_OK, NULL);
    peer_expect_nothing(p);
    mtls_p2s_session_free(y, MTLS_FAIL_ABANDONED, lab.now);
    end(&lab, p, x);
}

/* Of other processes: one has a session with this join. */
static unsigned one_elsewhere(void *arg, const uint8_t join[MTLS_JOIN_LEN], mtls_member besides)
{
    return 1;
}

static void count_users(void *arg, void *conn_user)
{
    assert_int_equal(unsent(conn_user), MTLS_READY_LEN);
    ++*(unsigned *)arg;
}

static void session_is_elsewhere(void **state)
{
    static const struct mtls_p2s_shared shared = {.sessions = one_elsewhere}, alone;
    struct lab lab = {0};
    struct peer *p;
    struct mtls_p2s_session *x = begin(&lab, &p, TTL);
    uint8_t join[MTLS_JOIN_LEN];
    unsigned holders = 0;

    mtls_p2s_set_shared(lab.server, &shared, NULL);
    (void)side_open(p, 1, UNKNOWN, 0);
    mtls_p2s_set_shared(lab.server, &alone, NULL);
    (void)hello_held(p, 2);
    lab_join(PENDING, join); /* and now somebody asks for it */
    mtls_p2s_each_holder(lab.server, join, lab.now, count_users, &holders);
    assert_int_equal(holders, 1);
    peer_expect_ready(p, 2, MTLS_READY_OK, NULL);
    end(&lab, p, x);
}

/* Where no PROOF is about to follow, or there is one already. */
static void at_once(void **state)
{
    struct lab lab = {0};
    struct mtls_p2s_session *x, *y;
    struct mtls_keys keys;
    struct peer *p;
    struct side s;

    x = begin(&lab, &p, 0); /* not asked for */
    s = side_open(p, 1, PENDING, 0);
    end(&lab, p, x);

    x = begin(&lab, &p, TTL);
    lab_keys(&keys, 1);
    y = lab_session(&lab, PENDING, NULL);
    assert_int_equal(mtls_p2s_session_keys(y, &keys, lab.now), 0);
    s = side_open(p, 2, PENDING, 0); /* one session has keys, the other not yet */
    side_expect_proof(&s, &keys);
    mtls_p2s_session_free(y, MTLS_FAIL_ABANDONED, lab.now);
    y = lab_session(&lab, OTHER, NULL);
    mtls_p2s_session_free(y, MTLS_FAIL_ABANDONED, lab.now);
    s = side_open(p, 3, OTHER, 0); /* [SRV-8] */
    peer_expect_fail(p, 3, MTLS_FAIL_NO_SESSION);
    end(&lab, p, x);
}

static void status_is_told_at_once(void **state)
{
    struct lab lab = {0};
    struct peer *p;
    struct mtls_p2s_session *x = begin(&lab, &p, TTL);

    lab.config.ntls_ports = 1;
    lab.config.tls_ports[0] = 443;
    mtls_p2s_set_config(lab.server, &lab.config);
    assert_int_equal(peer_hello_to(p, 1, PENDING, 0, 444), 0);
    peer_expect_ready(p, 1, MTLS_READY_NOT_HERE, NULL);
    (void)hello_held(p, 2);
    end(&lab, p, x);
}

/* Whoever is about to leave has everything said; till then the connection cannot be another's. */
static void said_before_the_end(void **state)
{
    static struct mtls_conn_state moved;
    struct lab lab = {0};
    struct peer *p;
    struct mtls_p2s_session *x = begin(&lab, &p, TTL);

    (void)hello_held(p, 1);
    assert_false(mtls_p2s_conn_export(p->conn, &moved));
    mtls_p2s_conn_speak(p->conn);
    peer_expect_ready(p, 1, MTLS_READY_OK, NULL);
    assert_true(mtls_p2s_conn_export(p->conn, &moved));
    end(&lab, p, x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_come),
        cmocka_unit_test(preface_with_it),
        cmocka_unit_test(time_passes),
        cmocka_unit_test(two_in_a_row),
        cmocka_unit_test(session_ends),
        cmocka_unit_test(connection_breaks_a_rule),
        cmocka_unit_test(connection_goes),
        cmocka_unit_test(claim_goes),
        cmocka_unit_test(others_do_not_wait),
        cmocka_unit_test(session_comes),
        cmocka_unit_test(session_is_elsewhere),
        cmocka_unit_test(at_once),
        cmocka_unit_test(status_is_told_at_once),
        cmocka_unit_test(said_before_the_end),
    };

    return cmocka_run_group_tests(tests, lab_open, lab_close);
}
