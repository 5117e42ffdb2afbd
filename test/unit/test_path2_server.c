/* The server's end of path 2: claims, sessions, PROOF and CONFIRM (sections 4 and 7 of the
 * protocol). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "path2_lab.h"

#define ONE(s) ((const struct side *const[]){&(s)}), 1

static int int_user;

/* ---- Claim and session, in either order ---- */

static void hello_waits_for_its_session(void **state)
{
    struct lab lab = {0};
    struct mtls_keys keys;
    struct peer *p;
    struct side s;
    struct mtls_p2s_session *x;

    lab_start(&lab);
    lab_keys(&keys, 1);
    p = peer_new(&lab, lab_v4(2, 1));
    peer_greet(p);
    s = side_open(p, 1, 100, 0);
    assert_int_equal(lab_stats(&lab).waiting_claims, 1);
    x = lab_session(&lab, 100, &int_user);
    assert_int_equal(lab_stats(&lab).waiting_claims, 0);
    peer_expect_nothing(p); /* [KEY-2] no proof before the keys */
    lab.outputs = 0;
    assert_int_equal(mtls_p2s_session_keys(x, &keys, lab.now), 0);
    assert_int_equal(lab.outputs, 1);
    side_expect_proof(&s, &keys);
    assert_int_equal(s.slot, 0);
    assert_int_equal(s.more, 0);
    assert_int_equal(mtls_p2s_session_keys(x, &keys, lab.now), MTLS_ERR_ARG);
    assert_int_equal(side_confirm(&s, &keys, 1, ONE(s)), 0);
    assert_int_equal(lab.confirmed, 1);
    assert_ptr_equal(lab.confirmed_session, &int_user);
    assert_ptr_equal(lab.confirmed_conn, p);
    assert_int_equal(lab.k, 1);
    assert_int_equal(lab.n, 1);
    mtls_p2s_session_free(x, MTLS_FAIL_ABANDONED, lab.now);
    peer_expect_nothing(p); /* [SRV-9] confirmed: no FAIL */
    assert_int_equal(lab_stats(&lab).claims, 0);
    assert_int_equal(lab_stats(&lab).ended_joins, 1);
    /* [REU-1] the connection goes on */
    x = lab_session(&lab, 101, NULL);
    s = side_open(p, 2, 101, 0);
    assert_int_equal(lab.closes, 0);
    peer_free(p);
    lab_stop(&lab);
}

static void session_waits_for_its_hello(void **state)
{
    struct lab lab = {0};
    struct mtls_keys keys;
    struct peer *p;
    struct side s;
    struct mtls_p2s_session *x;

    lab_start(&lab);
    lab_keys(&keys, 2);
    x = lab_session(&lab, 100, NULL);
    assert_int_equal(mtls_p2s_session_keys(x, &keys, lab.now), 0);
    p = peer_new(&lab, lab_v4(2, 1));
    peer_greet(p);
    s = side_open(p, 7, 100, 3);
    side_expect_proof(&s, &keys); /* [PRF-1] at once */
    assert_int_equal(lab_stats(&lab).waiting_claims, 0);
    assert_int_equal(lab_stats(&lab).proofs, 1);
    assert_int_equal(side_confirm(&s, &keys, 1, ONE(s)), 0);
    assert_int_equal(lab.confirmed, 1);
    mtls_p2s_session_free(x, MTLS_FAIL_ABANDONED, lab.now);
    peer_free(p);
    lab_stop(&lab);
}

static void an_unconfirmed_session_fails_its_claims(void **state)
{
    struct lab lab = {0};
    struct mtls_keys keys;
    struct mtls_p2s_session *x;
    struct peer *p;
    struct side s;

    lab_start(&lab);
    lab_keys(&keys, 2);
    p = peer_new(&lab, lab_v4(2, 1));
    peer_greet(p);
    x = lab_session(&lab, 100, NULL);
    s = side_open(p, 1, 100, 0); /* without keys */
    mtls_p2s_session_free(x, MTLS_FAIL_ABANDONED, lab.now);
    peer_expect_fail(p, 1, MTLS_FAIL_ABANDONED);
    x = lab_session(&lab, 101, NULL);
    assert_int_equal(mtls_p2s_session_keys(x, &keys, lab.now), 0);
    s = side_open(p, 2, 101, 0);
    side_expect_proof(&s, &keys);
    mtls_p2s_session_free(x, MTLS_FAIL_UNSPECIFIED, lab.now);
    peer_expect_fail(p, 2, MTLS_FAIL_UNSPECIFIED);
    assert_int_equal(side_confirm(&s, &keys, 1, ONE(s)), 0); /* [P2-6] it crossed the FAIL */
    assert_int_equal(lab.confirmed, 0);
    mtls_p2s_session_free(NULL, 0, lab.now);
    peer_free(p);
    lab_stop(&lab);
}

/* A claim ended by the client waits no more, and its place is free again. */
static void the_client_ends_a_claim(void **state)
{
    struct lab lab = {0};
    uint8_t fail[MTLS_FAIL_LEN];
    struct mtls_p2s_session *x;
    struct mtls_keys keys;
    struct peer *p;

    lab_start(&lab);
    p = peer_new(&lab, lab_v4(2, 1));
    peer_greet(p);
    side_open(p, 1, 100, 0);
    mtls_frame_fail(fail, 1, MTLS_FAIL_NOT_COUNTED);
    assert_int_equal(peer_send(p, fail, sizeof(fail)), 0);
    assert_int_equal(lab_stats(&lab).claims, 0);
    assert_int_equal(lab_stats(&lab).waiting_claims, 0);
    assert_int_equal(peer_send(p, fail, sizeof(fail)), 0); /* has ended */
    x = lab_session(&lab, 100, NULL);
    lab_keys(&keys, 1);
    assert_int_equal(mtls_p2s_session_keys(x, &keys, lab.now), 0);
    peer_expect_nothing(p);
    mtls_frame_fail(fail, 2, 0);
    assert_int_equal(peer_send(p, fail, sizeof(fail)), MTLS_ERR_FRAME_CLAIM); /* never opened */
    peer_free(p);
    lab_stop(&lab);
}

/* ---- CONFIRM ---- */

/* A session with keys and one proven claim. */
struct proven {
    struct lab lab;
    struct mtls_keys keys;
    struct mtls_p2s_session *x;
    struct peer *p;
    struct side s;
};

static void proven_start(struct proven *t)
{
    memset(t, 0, sizeof(*t));
    lab_start(&t->lab);
    lab_keys(&t->keys, 3);
    t->x = lab_session(&t->lab, 100, &int_user);
    assert_int_equal(mtls_p2s_session_keys(t->x, &t->keys, t->lab.now), 0);
    t->p = peer_new(&t->lab, lab_v4(2, 1));
    peer_greet(t->p);
    t->s = side_open(t->p, 5, 100, 0);
    side_expect_proof(&t->s, &t->keys);
}

static void proven_stop(struct proven *t)
{
    peer_free(t->p);
    lab_stop(&t->lab);
}

/* [CNF-2] [CNF-5] every bit of k, n and tag counts; the untampered twin passes. */
static void a_tampered_confirm_is_wrong(void **state)
{
    static struct proven t;
    uint8_t right[MTLS_CONFIRM_LEN], frame[MTLS_CONFIRM_LEN];

    for (size_t bit = 0; bit <= 8 * MTLS_TAG_LEN; bit++) {
        size_t at = MTLS_FRAME_HEADER_LEN + 3 + bit / 8;

        proven_start(&t);
        side_confirm_frame(&t.s, &t.keys, 1, ONE(t.s), right);
        memcpy(frame, right, sizeof(frame));
        if (bit == 8 * MTLS_TAG_LEN) { /* the twin */
            assert_int_equal(peer_send(t.p, frame, sizeof(frame)), 0);
            assert_int_equal(t.lab.confirmed, 1);
        } else {
            frame[at] ^= (uint8_t)(1u << bit % 8);
            assert_int_equal(peer_send(t.p, frame, sizeof(frame)), MTLS_ERR_CONFIRM_WRONG);
            peer_expect_fail(t.p, 5, MTLS_FAIL_CONFIRM_WRONG);
            assert_int_equal(peer_send(t.p, right, sizeof(right)), MTLS_ERR_CONFIRM_WRONG);
            assert_int_equal(t.lab.confirmed, 0);
            assert_int_equal(lab_stats(&t.lab).confirm_wrong, 1);
            assert_int_equal(lab_stats(&t.lab).conn_errors, 1);
            assert_int_equal(lab_stats(&t.lab).claims, 0);
            assert_int_equal(lab_stats(&t.lab).sessions, 1);
        }
        proven_stop(&t);
    }
}

static void confirm_covers_k_n_and_keys(void **state)
{
    static struct proven t;
    struct mtls_keys other;
    uint8_t frame[MTLS_CONFIRM_LEN];
    struct side more;

    proven_start(&t); /* k: made for 1 of 2, said 2 of 2 */
    more = side_open(t.p, 6, 100, 1);
    side_expect_proof(&more, &t.keys);
    const struct side *const both[] = {&t.s, &more};

    side_confirm_frame(&t.s, &t.keys, 1, both, 2, frame);
    frame[MTLS_FRAME_HEADER_LEN + 1] = 2;
    assert_int_equal(peer_send(t.p, frame, sizeof(frame)), MTLS_ERR_CONFIRM_WRONG);
    proven_stop(&t);

    proven_start(&t); /* n: made over 1, said 2 */
    side_confirm_frame(&t.s, &t.keys, 1, ONE(t.s), frame);
    frame[MTLS_FRAME_HEADER_LEN + 2] = 2;
    assert_int_equal(peer_send(t.p, frame, sizeof(frame)), MTLS_ERR_CONFIRM_WRONG);
    proven_stop(&t);

    proven_start(&t); /* the keys of another handshake: the man in the middle's */
    lab_keys(&other, 4);
    assert_int_equal(side_confirm(&t.s, &other, 1, ONE(t.s)), MTLS_ERR_CONFIRM_WRONG);
    proven_stop(&t);
}

/* [P2-5] [P2-6] */
static void confirm_where_none_belongs(void **state)
{
    static struct proven t;
    uint8_t frame[MTLS_CONFIRM_LEN];
    struct side early;

    proven_start(&t);
    assert_int_equal(side_confirm(&t.s, &t.keys, 1, ONE(t.s)), 0);
    assert_int_equal(side_confirm(&t.s, &t.keys, 1, ONE(t.s)), MTLS_ERR_FRAME_REPEATED);
    assert_int_equal(t.lab.confirmed, 1);
    proven_stop(&t);

    proven_start(&t); /* a slot of which no PROOF came */
    t.s.slot = 1;
    assert_int_equal(side_confirm(&t.s, &t.keys, 1, ONE(t.s)), MTLS_ERR_FRAME_CLAIM);
    proven_stop(&t);

    proven_start(&t); /* before any PROOF */
    early = side_open(t.p, 6, 101, 0);
    assert_int_equal(side_confirm(&early, &t.keys, 1, ONE(t.s)), MTLS_ERR_FRAME_CLAIM);
    assert_int_equal(lab_stats(&t.lab).waiting_claims, 0);
    proven_stop(&t);

    proven_start(&t); /* a claim never opened; one that was passed over */
    side_confirm_frame(&t.s, &t.keys, 1, ONE(t.s), frame);
    frame[7] = 4;
    assert_int_equal(peer_send(t.p, frame, sizeof(frame)), 0);
    frame[7] = 6;
    assert_int_equal(peer_send(t.p, frame, sizeof(frame)), MTLS_ERR_FRAME_CLAIM);
    proven_stop(&t);
}

/* [CNF-3] [CNF-4] [MUL-2]: sets of claims, some of which have ended since. */
static void confirm_over_several_paths(void **state)
{
    static struct proven t;
    struct peer *q, *r;
    struct side b, c, b2;

    proven_start(&t);
    q = peer_new(&t.lab, lab_v4(3, 1));
    peer_greet(q);
    r = peer_new(&t.lab, lab_v4(4, 1));
    peer_greet(r);
    c = side_open(r, 1, 100, 2);
    side_expect_proof(&c, &t.keys);
    b = side_open(q, 1, 100, 1);
    side_expect_proof(&b, &t.keys);
    peer_free(q); /* cut after its PROOF, and opened again */
    q = peer_new(&t.lab, lab_v4(3, 2));
    peer_greet(q);
    b2 = side_open(q, 1, 100, 1);
    side_expect_proof(&b2, &t.keys);
    {
        const struct side *const same_path[] = {&t.s, &c};
        const struct side *const all[] = {&t.s, &b, &c};
        const struct side *const again[] = {&t.s, &b2, &c};

        assert_int_equal(side_confirm(&c, &t.keys, 2, all, 3), 0); /* over the one that is gone */
        assert_int_equal(t.lab.confirmed, 1);
        assert_int_equal(t.lab.k, 2);
        assert_int_equal(t.lab.n, 3);
        assert_int_equal(side_confirm(&b2, &t.keys, 2, again, 3), 0); /* right too: ignored */
        assert_int_equal(side_confirm(&t.s, &t.keys, 1, same_path, 2), 0);
        assert_int_equal(t.lab.confirmed, 1);
    }
    mtls_p2s_session_free(t.x, MTLS_FAIL_ABANDONED, t.lab.now);
    peer_expect_nothing(q);
    peer_expect_nothing(r);
    peer_free(q);
    peer_free(r);
    proven_stop(&t);
}

/* [CNF-4] A wrong CONFIRM of a confirmed session is ignored: its connection, which other sessions
 * may use, stays open. The twin of a session that is not confirmed closes it. */
static void a_wrong_confirm_after_the_right_one(void **state)
{
    static struct proven t;
    struct mtls_keys other;
    struct side b, later;
    struct peer *q;

    for (int confirmed = 0; confirmed <= 1; confirmed++) {
        proven_start(&t);
        lab_keys(&other, 4);
        q = peer_new(&t.lab, lab_v4(3, 1));
        peer_greet(q);
        b = side_open(q, 1, 100, 1);
        side_expect_proof(&b, &t.keys);
        if (confirmed)
            assert_int_equal(side_confirm(&t.s, &t.keys, 1, ONE(t.s)), 0);
        assert_int_equal(side_confirm(&b, &other, 1, ONE(b)),
                         confirmed ? 0 : MTLS_ERR_CONFIRM_WRONG);
        assert_int_equal(lab_stats(&t.lab).confirm_wrong, !confirmed);
        if (confirmed) {
            peer_expect_nothing(q);
            later = side_open(q, 2, 100, 1);
            side_expect_proof(&later, &t.keys);
        } else {
            peer_expect_fail(q, 1, MTLS_FAIL_CONFIRM_WRONG);
        }
        assert_int_equal(t.lab.confirmed, confirmed);
        peer_free(q);
        proven_stop(&t);
    }
}

/* The call-back may free the session; what follows in the same read is taken all the same. */
static void a_session_may_end_when_it_is_confirmed(void **state)
{
    static struct proven t;
    uint8_t stream[MTLS_CONFIRM_LEN + MTLS_CONFIRM_LEN + MTLS_HELLO_LEN], secret[MTLS_SECRET_LEN];
    uint8_t nonce[MTLS_NONCE_LEN] = {0};

    proven_start(&t);
    t.lab.free_when_confirmed = t.x;
    side_confirm_frame(&t.s, &t.keys, 1, ONE(t.s), stream);
    memcpy(stream + MTLS_CONFIRM_LEN, stream,
           MTLS_CONFIRM_LEN); /* for a claim that has just ended */
    lab_secret(101, secret);
    mtls_frame_hello(stream + 2 * MTLS_CONFIRM_LEN, 6, 443, 0, secret, nonce);
    memcpy(t.p->hello, stream + 2 * MTLS_CONFIRM_LEN, MTLS_HELLO_LEN);
    assert_int_equal(peer_send(t.p, stream, sizeof(stream)), 0);
    assert_int_equal(t.lab.confirmed, 1);
    peer_expect_ready(t.p, 6, MTLS_READY_OK, NULL);
    peer_expect_nothing(t.p);
    assert_int_equal(lab_stats(&t.lab).sessions, 0);
    assert_int_equal(lab_stats(&t.lab).claims, 1);
    proven_stop(&t);
}

/* A set must contain the claim that carries the CONFIRM, and no path twice. */
static void confirm_over_a_set_that_cannot_be(void **state)
{
    static struct proven t;
    struct side b, twin;

    proven_start(&t);
    b = side_open(t.p, 6, 100, 1);
    side_expect_proof(&b, &t.keys);
    assert_int_equal(side_confirm(&t.s, &t.keys, 1, ONE(b)), MTLS_ERR_CONFIRM_WRONG);
    proven_stop(&t);

    proven_start(&t);
    twin = side_open(t.p, 6, 100, 0);
    side_expect_proof(&twin, &t.keys);
    twin.counted.path = 1; /* the library refuses to hash one path twice */
    {
        const struct side *const both[] = {&t.s, &twin};

        assert_int_equal(side_confirm(&t.s, &t.keys, 1, both, 2), MTLS_ERR_CONFIRM_WRONG);
    }
    proven_stop(&t);
}

/* [SRV-5] [TIM-10], and the largest search. */
static void eight_claims_and_no_more(void **state)
{
    static struct proven t;
    struct side s[MTLS_SLOTS_MAX];
    const struct side *counted[MTLS_SLOTS_MAX];

    proven_start(&t);
    s[0] = t.s;
    for (uint8_t i = 1; i < MTLS_SLOTS_MAX; i++) {
        s[i] = side_open(t.p, 5u + i, 100, i);
        side_expect_proof(&s[i], &t.keys);
    }
    side_open(t.p, 20, 100, 0);
    peer_expect_fail(t.p, 20, MTLS_FAIL_LIMIT);
    assert_int_equal(lab_stats(&t.lab).claims, MTLS_SLOTS_MAX);
    /* A place that was given back among open claims is none among the session's claims. */
    {
        uint8_t fail[MTLS_FAIL_LEN];

        mtls_frame_fail(fail, s[7].id, 0);
        assert_int_equal(peer_send(t.p, fail, sizeof(fail)), 0);
    }
    side_open(t.p, 21, 100, 0);
    peer_expect_fail(t.p, 21, MTLS_FAIL_LIMIT);
    assert_int_equal(lab_stats(&t.lab).claims, MTLS_SLOTS_MAX - 1);
    for (size_t i = 0; i < 4; i++) /* the last of the sets of four with claim 1 */
        counted[i] = &s[i == 0 ? 1 : 4 + i];
    assert_int_equal(side_confirm(&s[1], &t.keys, 4, counted, 4), 0);
    assert_int_equal(t.lab.confirmed, 1);
    for (size_t i = 0; i < MTLS_SLOTS_MAX; i++)
        counted[i] = &s[i];
    assert_int_equal(side_confirm(&s[2], &t.keys, 1, counted, 8), 0);
    proven_stop(&t);
}

static void waiting_claims_of_a_join_are_eight(void **state)
{
    struct lab lab = {0};
    struct mtls_p2s_session *x;
    struct mtls_keys keys;
    struct peer *p;

    lab_start(&lab);
    p = peer_new(&lab, lab_v4(2, 1));
    peer_greet(p);
    for (uint32_t i = 1; i <= 8; i++)
        side_open(p, i, 100, 0);
    side_open(p, 9, 100, 0);
    peer_expect_fail(p, 9, MTLS_FAIL_LIMIT);
    assert_int_equal(lab_stats(&lab).waiting_claims, 8);
    x = lab_session(&lab, 100, NULL);
    lab_keys(&keys, 1);
    assert_int_equal(mtls_p2s_session_keys(x, &keys, lab.now), 0);
    for (uint32_t i = 1; i <= 8; i++)
        peer_expect(p, MTLS_FRAME_PROOF, i);
    peer_expect_nothing(p);
    peer_free(p);
    lab_stop(&lab);
}

/* ---- Several sessions of one join ---- */

/* [PRF-2] [PRF-3] [SRV-7]: a copied ClientHello. */
static void several_sessions_of_one_join(void **state)
{
    struct lab lab = {0};
    struct mtls_keys k1, k2;
    struct mtls_p2s_session *a, *b;
    struct peer *p;
    struct side first, second;

    lab_start(&lab);
    lab_keys(&k1, 1);
    lab_keys(&k2, 2);
    p = peer_new(&lab, lab_v4(2, 1));
    peer_greet(p);
    first = side_open(p, 1, 100, 0);
    second = side_open(p, 2, 100, 1);
    a = lab_session(&lab, 100, &lab);
    b = lab_session(&lab, 100, &int_user);
    assert_int_equal(mtls_p2s_session_keys(b, &k2, lab.now), 0);
    side_expect_proof(&first, &k2);
    side_expect_proof(&second, &k2);
    assert_int_equal(first.slot, 1);
    assert_int_equal(first.more, 1);
    assert_int_equal(mtls_p2s_session_keys(a, &k1, lab.now), 0);
    side_expect_proof(&first, &k1);
    assert_int_equal(first.slot, 0);
    assert_int_equal(first.more, 1);
    peer_expect(p, MTLS_FRAME_PROOF, 2);
    /* The wrong one ends: claims go on for the other, in silence. */
    mtls_p2s_session_free(a, MTLS_FAIL_ABANDONED, lab.now);
    peer_expect_nothing(p);
    assert_int_equal(lab_stats(&lab).claims, 2);
    /* CONFIRM for the session that has just ended is no offence. */
    assert_int_equal(side_confirm(&first, &k1, 1, ONE(first)), 0);
    assert_int_equal(lab.confirmed, 0);
    assert_int_equal(side_confirm(&second, &k2, 1, ONE(second)), 0);
    assert_ptr_equal(lab.confirmed_session, &int_user);
    /* A newcomer after it: more = 0 is said of what is there now, slots are not given twice. */
    a = lab_session(&lab, 100, NULL);
    mtls_p2s_session_free(b, MTLS_FAIL_ABANDONED, lab.now);
    assert_int_equal(lab_stats(&lab).claims, 1); /* the one that confirmed has ended */
    assert_int_equal(mtls_p2s_session_keys(a, &k1, lab.now), 0);
    side_expect_proof(&first, &k1);
    assert_int_equal(first.slot, 2);
    assert_int_equal(first.more, 0);
    mtls_p2s_session_free(a, MTLS_FAIL_ABANDONED, lab.now);
    peer_expect_nothing(p); /* its only claim had sent its CONFIRM */
    assert_int_equal(lab_stats(&lab).ended_joins, 1);
    peer_free(p);
    lab_stop(&lab);
}

/* [SRV-6] */
static void eight_sessions_of_one_join(void **state)
{
    struct lab lab = {0};
    struct mtls_p2s_session *x[MTLS_SLOTS_MAX];
    struct mtls_keys keys;
    struct peer *p;
    struct side s;

    lab_start(&lab);
    for (size_t i = 0; i < MTLS_SLOTS_MAX; i++)
        x[i] = lab_session(&lab, 100, NULL);
    assert_int_equal(lab_session_rc(&lab, 100), MTLS_ERR_LIMIT);
    p = peer_new(&lab, lab_v4(2, 1));
    peer_greet(p);
    s = side_open(p, 1, 100, 0);
    for (size_t i = 0; i < MTLS_SLOTS_MAX; i++) {
        lab_keys(&keys, (uint8_t)i);
        assert_int_equal(mtls_p2s_session_keys(x[i], &keys, lab.now), 0);
        side_expect_proof(&s, &keys);
        assert_int_equal(s.slot, i);
        assert_int_equal(s.more, 1);
    }
    assert_int_equal(side_confirm(&s, &keys, 1, ONE(s)), 0);
    assert_int_equal(lab.confirmed, 1);
    mtls_p2s_session_free(x[0], 0, lab.now);
    assert_int_equal(lab_session_rc(&lab, 100), MTLS_ERR_LIMIT); /* its slot is not given again */
    peer_free(p);
    lab_stop(&lab);
}

/* [SRV-8] [TIM-8] */
static void an_ended_join_is_refused(void **state)
{
    struct lab lab = {0};
    struct mtls_p2s_session *x;
    struct peer *p;

    lab_start(&lab);
    p = peer_new(&lab, lab_v4(2, 1));
    peer_greet(p);
    x = lab_session(&lab, 100, NULL);
    mtls_p2s_session_free(x, 0, lab.now);
    assert_int_equal(lab_session_rc(&lab, 100), MTLS_ERR_JOIN_REUSED);
    assert_int_equal(mtls_p2s_deadline(lab.server), lab.now + 11 * SEC); /* p's HELLO */
    side_open(p, 1, 100, 0);
    peer_expect_fail(p, 1, MTLS_FAIL_NO_SESSION);
    assert_int_equal(lab_stats(&lab).claims, 0);
    assert_int_equal(mtls_p2s_deadline(lab.server), lab.now + 60 * SEC);
    lab.now += 60 * SEC - 1;
    mtls_p2s_expire(lab.server, lab.now);
    assert_int_equal(lab_session_rc(&lab, 100), MTLS_ERR_JOIN_REUSED);
    lab.now++;
    assert_int_equal(lab_session_rc(&lab, 100), 0); /* also before expire() comes by */
    mtls_p2s_expire(lab.server, lab.now);
    assert_int_equal(lab_stats(&lab).ended_joins, 0);
    peer_free(p);
    lab_stop(&lab);
}

static void ended_ttl_zero_remembers_nothing(void **state)
{
    struct lab lab = {.config = lab_config()};

    lab.config.ended_ttl = 0;
    lab_start(&lab);
    mtls_p2s_session_free(lab_session(&lab, 100, NULL), 0, lab.now);
    assert_int_equal(lab_stats(&lab).ended_joins, 0);
    mtls_p2s_session_free(lab_session(&lab, 100, NULL), 0, lab.now);
    lab_stop(&lab);
}

/* ---- Splits ---- */

/* The same stream, cut in two at every byte, has the same effect. */
static void split_at_every_byte(void **state)
{
    static struct proven t;
    uint8_t stream[MTLS_PREFACE_LEN + MTLS_HELLO_LEN];
    struct mtls_addr addr = lab_v4(2, 1);

    for (size_t cut = 0; cut <= sizeof(stream); cut++) {
        struct peer *q;
        uint8_t confirm[MTLS_CONFIRM_LEN];
        struct side s = {.id = 1, .counted.path = 4};
        uint8_t secret[MTLS_SECRET_LEN], nonce[MTLS_NONCE_LEN] = {0};
        size_t at = cut % (sizeof(confirm) + 1);

        proven_start(&t);
        q = peer_new(&t.lab, addr);
        lab_secret(100, secret);
        memcpy(stream, mtls_preface, MTLS_PREFACE_LEN);
        mtls_frame_hello(stream + MTLS_PREFACE_LEN, 1, 443, 4, secret, nonce);
        memcpy(q->hello, stream + MTLS_PREFACE_LEN, MTLS_HELLO_LEN);
        assert_int_equal(peer_send(q, stream, cut), 0);
        assert_int_equal(peer_send(q, stream + cut, sizeof(stream) - cut), 0);
        peer_expect_ready(q, 1, MTLS_READY_OK, s.counted.p2);
        s.p = q;
        side_expect_proof(&s, &t.keys);
        side_confirm_frame(&s, &t.keys, 1, ONE(s), confirm);
        assert_int_equal(peer_send(q, confirm, at), 0);
        assert_int_equal(t.lab.confirmed, at == sizeof(confirm));
        assert_int_equal(peer_send(q, confirm + at, sizeof(confirm) - at), 0);
        assert_int_equal(t.lab.confirmed, 1);
        peer_free(q);
        proven_stop(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_waits_for_its_session),
        cmocka_unit_test(session_waits_for_its_hello),
        cmocka_unit_test(an_unconfirmed_session_fails_its_claims),
        cmocka_unit_test(the_client_ends_a_claim),
        cmocka_unit_test(a_tampered_confirm_is_wrong),
        cmocka_unit_test(confirm_covers_k_n_and_keys),
        cmocka_unit_test(confirm_where_none_belongs),
        cmocka_unit_test(confirm_over_several_paths),
        cmocka_unit_test(a_wrong_confirm_after_the_right_one),
        cmocka_unit_test(a_session_may_end_when_it_is_confirmed),
        cmocka_unit_test(confirm_over_a_set_that_cannot_be),
        cmocka_unit_test(eight_claims_and_no_more),
        cmocka_unit_test(waiting_claims_of_a_join_are_eight),
        cmocka_unit_test(several_sessions_of_one_join),
        cmocka_unit_test(eight_sessions_of_one_join),
        cmocka_unit_test(an_ended_join_is_refused),
        cmocka_unit_test(ended_ttl_zero_remembers_nothing),
        cmocka_unit_test(split_at_every_byte),
    };

    return cmocka_run_group_tests(tests, lab_open, lab_close);
}
