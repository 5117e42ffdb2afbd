/* Two processes that serve path 2 together: a claim in one, its session in the other. The messages
 * between them go by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "path2_lab.h"

#include "mtls/core/directory.h"
#include "mtls/core/path2_shared.h"

#define ONE(s) ((const struct side *const[]){&(s)}), 1

enum { MAX = 16, TTL = 60 * SEC };

struct proc {
    struct lab lab; /* first: it is the events' argument */
    struct mtls_dir *dir;
    mtls_member self;
    struct mtls_p2s_conn *guest;
    unsigned done, gone, forwarded;
    uint8_t frame[MTLS_FRAME_MAX]; /* forwarded last */
    size_t len;
};

static struct mtls_dir *dir;
static void *dir_memory;
static struct proc a, b; /* a: the holder; b: the owner */

static int session_add(void *arg, const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now, uint8_t *slot)
{
    struct mtls_dir_view view;

    return mtls_dir_session_add(dir, ((struct proc *)arg)->self, join, now, slot, &view);
}

static void session_end(void *arg, const uint8_t join[MTLS_JOIN_LEN], uint8_t slot, mtls_tstamp now)
{
    mtls_dir_session_end(dir, ((struct proc *)arg)->self, join, slot, now, TTL);
}

static int claim_add(void *arg, const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now)
{
    struct mtls_dir_view view;

    return mtls_dir_claim_add(dir, ((struct proc *)arg)->self, join, now, &view);
}

static void claim_end(void *arg, const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now)
{
    mtls_dir_claim_end(dir, ((struct proc *)arg)->self, join);
}

static unsigned sessions(void *arg, const uint8_t join[MTLS_JOIN_LEN], mtls_member besides)
{
    struct mtls_dir_view view;
    unsigned n = 0;

    mtls_dir_look(dir, join, &view);
    for (unsigned i = 0; i < MTLS_SLOTS_MAX; i++)
        n += view.owners[i] != 0 && view.owners[i] != besides;
    return n;
}

static void to_owner(void *arg, void *conn_user, mtls_member owner, uint32_t id,
                     const uint8_t *frame, size_t len)
{
    struct proc *p = arg;

    assert_true(owner == b.self);
    memcpy(p->frame, frame, len);
    p->len = len;
    p->forwarded++;
}

static void gone(void *arg, void *conn_user, mtls_member owner, uint32_t id)
{
    ((struct proc *)arg)->gone++;
}

static void done(void *arg, void *guest_user)
{
    ((struct proc *)arg)->done++;
}

static const struct mtls_p2s_shared shared = {session_add, session_end, claim_add, claim_end,
                                              sessions,    to_owner,    gone,      done};

static void proc_start(struct proc *p, uint32_t pid)
{
    struct mtls_dir_proc who = {.pid = pid};

    memset(p, 0, sizeof(*p));
    lab_start(&p->lab);
    assert_int_equal(mtls_dir_enter(dir, &who, &p->self), 0);
    mtls_p2s_set_shared(p->lab.server, &shared, p);
}

static int start(void **state)
{
    static const uint8_t seed[MTLS_DIR_SEED_LEN] = {7};
    size_t size = (mtls_dir_size(MAX, MAX) + 63) / 64 * 64;

    dir_memory = aligned_alloc(64, size);
    memset(dir_memory, 0, size);
    assert_int_equal(mtls_dir_new(&dir, dir_memory, MAX, MAX, seed), 0);
    proc_start(&a, 1);
    proc_start(&b, 2);
    return 0;
}

static int take_down(void **state)
{
    struct mtls_dir_stats stats;

    lab_stop(&a.lab);
    lab_stop(&b.lab);
    mtls_dir_stats(dir, &stats);
    assert_int_equal(stats.waiting + stats.sessions, 0);
    mtls_dir_free(dir);
    free(dir_memory);
    return 0;
}

static struct mtls_claim_state state_of(const struct peer *p, uint32_t id)
{
    struct mtls_claim_state state;
    uint32_t before = id - 1;

    assert_true(mtls_p2s_conn_next_claim(p->conn, &before, &state));
    assert_int_equal(state.id, id);
    return state;
}

/* The holder tells the owner of a claim. */
static void tell(struct peer *p, uint32_t id)
{
    struct mtls_claim_state state = state_of(p, id);
    struct mtls_dir_view view;
    uint8_t slots = 0;

    mtls_dir_look(dir, state.join, &view);
    for (unsigned i = 0; i < MTLS_SLOTS_MAX; i++)
        slots |= (uint8_t)((view.owners[i] == b.self) << i);
    assert_true(mtls_p2s_claim_tell(p->conn, id, b.self, slots, a.lab.now));
    assert_false(mtls_p2s_claim_tell(p->conn, id, b.self, slots, a.lab.now));
    assert_int_equal(mtls_p2s_guest_new(&b.guest, b.lab.server, &state, &b, b.lab.now), 0);
}

/* What the guest has to say goes to the client, by the holder. */
static void back(struct peer *p, uint32_t id)
{
    size_t len;
    const uint8_t *out = mtls_p2s_conn_out(b.guest, &len);

    if (len > 0)
        assert_int_equal(mtls_p2s_deliver(p->conn, id, b.self, out, len, a.lab.now), 0);
    mtls_p2s_conn_sent(b.guest, len);
}

static void guest_end(void)
{
    mtls_p2s_conn_free(b.guest);
    b.guest = NULL;
    assert_int_equal(lab_stats(&b.lab).guests, 0);
}

struct both {
    struct peer *p;
    struct side s;
    struct mtls_p2s_session *x;
    struct mtls_keys keys;
};

/* PROOF of b's session is with the client of a's connection. */
static struct both proven(uint32_t number)
{
    struct both t = {0};

    lab_keys(&t.keys, 3);
    t.p = peer_new(&a.lab, lab_v4(2, 1));
    peer_greet(t.p);
    t.s = side_open(t.p, 1, number, 0);
    t.x = lab_session(&b.lab, number, NULL);
    tell(t.p, 1);
    assert_int_equal(lab_stats(&a.lab).waiting_claims, 0);
    assert_int_equal(mtls_p2s_session_keys(t.x, &t.keys, b.lab.now), 0);
    back(t.p, 1);
    side_expect_proof(&t.s, &t.keys);
    assert_int_equal(t.s.more, 0);
    return t;
}

static void confirmed_elsewhere(void **state)
{
    struct both t = proven(1);

    assert_int_equal(side_confirm(&t.s, &t.keys, 1, ONE(t.s)), 0);
    assert_int_equal(a.forwarded, 1);
    assert_int_equal(a.lab.confirmed, 0); /* [SRV-10] the verdict is the owner's */
    assert_int_equal(mtls_p2s_conn_input(b.guest, a.frame, a.len, b.lab.now), 0);
    assert_int_equal(b.lab.confirmed, 1);
    assert_int_equal(side_confirm(&t.s, &t.keys, 1, ONE(t.s)), MTLS_ERR_FRAME_REPEATED);
    assert_int_equal(a.gone, 1);
    mtls_p2s_session_free(t.x, MTLS_FAIL_ABANDONED, b.lab.now);
    assert_int_equal(b.done, 1);
    guest_end();
    peer_free(t.p);
}

static void wrong_confirm(void **state)
{
    struct both t = proven(1);
    uint8_t frame[MTLS_CONFIRM_LEN];

    side_confirm_frame(&t.s, &t.keys, 1, ONE(t.s), frame);
    frame[sizeof(frame) - 1] ^= 1;
    assert_int_equal(peer_send(t.p, frame, sizeof(frame)), 0);
    assert_int_equal(mtls_p2s_conn_input(b.guest, a.frame, a.len, b.lab.now),
                     MTLS_ERR_CONFIRM_WRONG);
    assert_int_equal(b.lab.confirmed, 0);
    back(t.p, 1);
    mtls_p2s_claim_done(t.p->conn, 1, b.self, true, a.lab.now);
    peer_expect_fail(t.p, 1, MTLS_FAIL_CONFIRM_WRONG); /* [CNF-5] */
    assert_int_equal(a.lab.closes, 1);
    guest_end();
    mtls_p2s_session_free(t.x, MTLS_FAIL_ABANDONED, b.lab.now);
    peer_free(t.p);
}

/* The owner's session ends before CONFIRM; its process dies; or it comes too late. */
static void owner_gives_up(void **state)
{
    struct both t = proven(1);
    struct mtls_claim_state late;

    mtls_p2s_session_free(t.x, MTLS_FAIL_ABANDONED, b.lab.now);
    back(t.p, 1);
    peer_expect_fail(t.p, 1, MTLS_FAIL_ABANDONED); /* [SRV-9] */
    guest_end();
    peer_free(t.p);
    t = proven(2);
    mtls_dir_remove(dir, b.self, b.lab.now, TTL);
    mtls_p2s_owner_lost(a.lab.server, b.self, a.lab.now);
    peer_expect_fail(t.p, 1, MTLS_FAIL_ABANDONED);
    assert_int_equal(lab_stats(&a.lab).claims, 0);
    late = (struct mtls_claim_state){.id = 9};
    guest_end();
    assert_int_equal(mtls_p2s_guest_new(&b.guest, b.lab.server, &late, &b, b.lab.now), 0);
    assert_true(lab_stats(&b.lab).claims == 0); /* no such session: it ends at once */
    guest_end();
    mtls_p2s_session_free(t.x, MTLS_FAIL_ABANDONED, b.lab.now);
    peer_free(t.p);
}

/* An owner that never says a word is not waited for without end. */
static void silent_owner(void **state)
{
    struct peer *p = peer_new(&a.lab, lab_v4(2, 1));
    struct mtls_p2s_session *x;
    struct side s;

    peer_greet(p);
    s = side_open(p, 1, 5, 0);
    x = lab_session(&b.lab, 5, NULL);
    tell(p, s.id);
    a.lab.now += 149 * SEC;
    mtls_p2s_expire(a.lab.server, a.lab.now);
    assert_int_equal(lab_stats(&a.lab).claims, 1);
    assert_true(mtls_p2s_deadline(a.lab.server) <= a.lab.now + 2 * SEC);
    a.lab.now += 2 * SEC;
    mtls_p2s_expire(a.lab.server, a.lab.now);
    peer_expect_fail(p, 1, MTLS_FAIL_NO_SESSION);
    guest_end();
    mtls_p2s_session_free(x, MTLS_FAIL_ABANDONED, b.lab.now);
    peer_free(p);
}

/* [SRV-7] A copied ClientHello: sessions in both processes, a PROOF for each, and the join has
 * ended only when both have [SRV-8]. */
static void copies_in_two_processes(void **state)
{
    struct mtls_keys mine, other;
    struct peer *p = peer_new(&a.lab, lab_v4(2, 1));
    struct mtls_p2s_session *x, *y;
    struct side s, s2;

    lab_keys(&mine, 1);
    lab_keys(&other, 2);
    peer_greet(p);
    s = side_open(p, 1, 7, 0);
    x = lab_session(&a.lab, 7, NULL);
    y = lab_session(&b.lab, 7, NULL);
    tell(p, 1);
    assert_int_equal(mtls_p2s_session_keys(x, &mine, a.lab.now), 0);
    side_expect_proof(&s, &mine);
    assert_int_equal(s.slot, 0);
    assert_int_equal(s.more, 1); /* [PRF-3] */
    s2 = s;
    assert_int_equal(mtls_p2s_session_keys(y, &other, b.lab.now), 0);
    back(p, 1);
    side_expect_proof(&s2, &other);
    assert_int_equal(s2.slot, 1);
    assert_int_equal(s2.more, 1);
    mtls_p2s_session_free(x, MTLS_FAIL_ABANDONED, a.lab.now); /* the other one may still be ours */
    peer_expect_nothing(p);
    assert_int_equal(lab_stats(&a.lab).claims, 1);
    assert_int_equal(side_confirm(&s2, &other, 1, ONE(s2)), 0);
    assert_int_equal(mtls_p2s_conn_input(b.guest, a.frame, a.len, b.lab.now), 0);
    assert_int_equal(b.lab.confirmed, 1);
    mtls_p2s_session_free(y, MTLS_FAIL_ABANDONED, b.lab.now);
    mtls_p2s_claim_done(p->conn, 1, b.self, false, a.lab.now);
    peer_expect_nothing(p); /* confirmed: in silence */
    assert_int_equal(lab_stats(&a.lab).claims, 0);
    assert_int_equal(lab_session_rc(&a.lab, 7), MTLS_ERR_JOIN_REUSED);
    assert_int_equal(lab_session_rc(&b.lab, 7), MTLS_ERR_JOIN_REUSED);
    assert_int_equal(peer_hello(p, 2, 7, 0), 0);
    peer_expect_ready(p, 2, MTLS_READY_OK, NULL);
    peer_expect_fail(p, 2, MTLS_FAIL_NO_SESSION);
    guest_end();
    peer_free(p);
}

/* Words that are no owner's for this claim change nothing. */
static void foreign_words(void **state)
{
    struct both t = proven(1);
    uint8_t frame[MTLS_PROOF_LEN], tag[MTLS_TAG_LEN] = {1}, hello[MTLS_HELLO_LEN];

    mtls_frame_proof(frame, 2, 3, 0, tag); /* another claim */
    assert_int_equal(mtls_p2s_deliver(t.p->conn, 1, b.self, frame, sizeof(frame), a.lab.now),
                     MTLS_ERR_FRAME_CLAIM);
    mtls_frame_proof(frame, 1, 3, 0, tag);
    assert_int_equal(mtls_p2s_deliver(t.p->conn, 1, b.self, frame, sizeof(frame) - 1, a.lab.now),
                     MTLS_ERR_FRAME_LENGTH);
    frame[0] = MTLS_FRAME_CONFIRM; /* not an owner's to send */
    assert_int_equal(mtls_p2s_deliver(t.p->conn, 1, b.self, frame, sizeof(frame), a.lab.now),
                     MTLS_ERR_FRAME_TYPE);
    mtls_frame_hello(hello, 1, 443, 0, tag, tag);
    assert_int_equal(mtls_p2s_deliver(t.p->conn, 1, b.self, hello, sizeof(hello), a.lab.now),
                     MTLS_ERR_FRAME_TYPE);
    mtls_frame_proof(frame, 1, t.s.slot, 0, tag); /* that slot has had its PROOF */
    assert_int_equal(mtls_p2s_deliver(t.p->conn, 1, b.self, frame, sizeof(frame), a.lab.now), 0);
    peer_expect_nothing(t.p);
    mtls_p2s_claim_done(t.p->conn, 1, a.self, false, a.lab.now); /* who was not told */
    assert_int_equal(lab_stats(&a.lab).claims, 1);
    assert_int_equal(side_confirm(&t.s, &t.keys, 1, ONE(t.s)), 0);
    guest_end();
    mtls_p2s_session_free(t.x, MTLS_FAIL_ABANDONED, b.lab.now);
    peer_free(t.p);
}

/* A guest is one claim: a HELLO from its holder would open another, in nobody's name. */
static void guest_takes_no_hello(void **state)
{
    struct both t = proven(1);
    uint8_t secret[MTLS_SECRET_LEN], nonce[MTLS_NONCE_LEN] = {0}, hello[MTLS_HELLO_LEN];
    struct mtls_claim_state claim = state_of(t.p, 1);
    struct mtls_dir_view view;

    lab_secret(9, secret);
    mtls_frame_hello(hello, claim.id + 1, 443, 0, secret, nonce);
    assert_int_equal(mtls_p2s_conn_input(b.guest, hello, sizeof(hello), b.lab.now),
                     MTLS_ERR_FRAME_TYPE);
    lab_join(9, claim.join);
    mtls_dir_look(dir, claim.join, &view);
    assert_int_equal(view.nclaims, 0);
    assert_int_equal(lab_stats(&b.lab).claims, 0);
    assert_int_equal(peer_hello(t.p, 2, 9, 0), 0); /* its client may */
    peer_expect_ready(t.p, 2, MTLS_READY_OK, NULL);
    mtls_dir_look(dir, claim.join, &view);
    assert_int_equal(view.nclaims, 1);
    guest_end();
    mtls_p2s_session_free(t.x, MTLS_FAIL_ABANDONED, b.lab.now);
    peer_free(t.p);
}

/* A process that was not told of the claim has no say in it. */
static void unasked_words(void **state)
{
    struct both t = proven(1);
    uint8_t proof[MTLS_PROOF_LEN], fail[MTLS_FAIL_LEN], tag[MTLS_TAG_LEN] = {1};
    mtls_member stranger = b.self + 1;

    mtls_frame_proof(proof, 1, 3, 0, tag);
    mtls_frame_fail(fail, 1, MTLS_FAIL_CONFIRM_WRONG);
    assert_int_equal(mtls_p2s_deliver(t.p->conn, 1, stranger, proof, sizeof(proof), a.lab.now), 0);
    assert_int_equal(mtls_p2s_deliver(t.p->conn, 1, stranger, fail, sizeof(fail), a.lab.now), 0);
    mtls_p2s_claim_done(t.p->conn, 1, stranger, true, a.lab.now);
    peer_expect_nothing(t.p);
    assert_int_equal(lab_stats(&a.lab).claims, 1);
    assert_int_equal(a.lab.closes, 0);
    assert_int_equal(mtls_p2s_deliver(t.p->conn, 1, b.self, fail, sizeof(fail), a.lab.now), 0);
    peer_expect_fail(t.p, 1, MTLS_FAIL_CONFIRM_WRONG);
    assert_int_equal(a.lab.closes, 1);
    guest_end();
    mtls_p2s_session_free(t.x, MTLS_FAIL_ABANDONED, b.lab.now);
    peer_free(t.p);
}

static void assert_has(struct proc *p, const uint8_t *join, uint8_t slots, uint8_t nclaims)
{
    uint8_t s = 9, n = 9;

    mtls_p2s_has(p->lab.server, join, &s, &n);
    assert_int_equal(s, slots);
    assert_int_equal(n, nclaims);
}

/* What a process has by itself; a guest is not. */
static void has_what_it_has(void **state)
{
    struct both t = proven(1);
    struct mtls_claim_state claim = state_of(t.p, 1);

    assert_has(&a, claim.join, 0, 1);
    assert_has(&b, claim.join, 1, 0);
    mtls_p2s_session_free(t.x, MTLS_FAIL_ABANDONED, b.lab.now);
    assert_has(&b, claim.join, 0, 0);
    claim.join[0] ^= 1;
    assert_has(&a, claim.join, 0, 0);
    guest_end();
    peer_free(t.p);
}

/* Takes the connection of p from one process to another. */
static void move(struct peer *p, struct proc *from, struct proc *to)
{
    static struct mtls_conn_state state;
    struct mtls_addr addr = lab_v4(2, 1);

    assert_true(mtls_p2s_conn_export(p->conn, &state));
    for (unsigned i = 0; i < state.nclaims; i++)
        mtls_dir_claim_move(dir, from->self, to->self, state.claims[i].join, 0);
    mtls_p2s_conn_moved(p->conn);
    p->lab = &to->lab;
    assert_int_equal(mtls_p2s_conn_import(&p->conn, to->lab.server, &addr, &state, p, to->lab.now),
                     0);
}

/* A connection goes to its session: in the middle of a frame, with a claim that waits. */
static void connection_moves(void **state)
{
    struct peer *p = peer_new(&a.lab, lab_v4(2, 1));
    struct mtls_keys keys;
    struct mtls_p2s_session *x;
    struct side s;
    uint8_t frame[MTLS_CONFIRM_LEN];

    lab_keys(&keys, 1);
    assert_int_equal(peer_send(p, mtls_preface, 3), 0);
    move(p, &a, &b);
    move(p, &b, &a);
    assert_int_equal(peer_send(p, mtls_preface + 3, MTLS_PREFACE_LEN - 3), 0);
    s = side_open(p, 4, 1, 0);
    x = lab_session(&b.lab, 1, NULL);
    assert_int_equal(mtls_p2s_session_keys(x, &keys, b.lab.now), 0);
    move(p, &a, &b);
    side_expect_proof(&s, &keys);
    side_confirm_frame(&s, &keys, 1, ONE(s), frame);
    assert_int_equal(peer_send(p, frame, 20), 0);
    move(p, &b, &a); /* the owner hands it over in the middle of CONFIRM, */
    tell(p, 4);      /* and has its claim back as a guest, */
    back(p, 4);
    peer_expect_nothing(p); /* without a second PROOF */
    assert_int_equal(peer_send(p, frame + 20, sizeof(frame) - 20), 0);
    assert_int_equal(mtls_p2s_conn_input(b.guest, a.frame, a.len, b.lab.now), 0);
    assert_int_equal(b.lab.confirmed, 1);
    mtls_p2s_session_free(x, MTLS_FAIL_ABANDONED, b.lab.now);
    mtls_p2s_claim_done(p->conn, 4, b.self, false, a.lab.now);
    assert_int_equal(peer_hello(p, 4, 2, 0),
                     MTLS_ERR_FRAME_CLAIM); /* [P2-3] the count goes along */
    guest_end();
    peer_free(p);
}

/* A PROOF that was lost on its way is sent again, once. */
static void proof_lost_on_the_way(void **state)
{
    struct peer *p = peer_new(&a.lab, lab_v4(2, 1));
    struct mtls_p2s_conn *first;
    struct mtls_keys keys;
    struct mtls_p2s_session *x;
    struct side s;

    lab_keys(&keys, 1);
    peer_greet(p);
    s = side_open(p, 1, 1, 0);
    x = lab_session(&b.lab, 1, NULL);
    assert_int_equal(mtls_p2s_session_keys(x, &keys, b.lab.now), 0);
    tell(p, 1); /* the guest's PROOF stays where it is */
    first = b.guest;
    move(p, &a, &a);
    assert_int_equal(a.gone, 1);
    tell(p, 1);
    mtls_p2s_conn_free(first);
    back(p, 1);
    side_expect_proof(&s, &keys);
    assert_int_equal(side_confirm(&s, &keys, 1, ONE(s)), 0);
    assert_int_equal(mtls_p2s_conn_input(b.guest, a.frame, a.len, b.lab.now), 0);
    assert_int_equal(b.lab.confirmed, 1);
    mtls_p2s_session_free(x, MTLS_FAIL_ABANDONED, b.lab.now);
    guest_end();
    peer_free(p);
}

/* What another process says that it has read of a frame is judged like what comes from the network:
 * a whole frame and more, a type that does not exist, a preface longer than there is. */
static void import_judged(void **state)
{
    static const struct {
        uint8_t type, have;
        bool preface_done;
        int rc;
    } rows[] = {
        {5, MTLS_FRAME_MAX - 1, true, MTLS_ERR_FRAME_LENGTH},
        {5, MTLS_FAIL_LEN, true, MTLS_ERR_FRAME_LENGTH},
        {200, 1, true, MTLS_ERR_FRAME_TYPE},
        {0, MTLS_PREFACE_LEN, false, MTLS_ERR_FRAME_PREFACE},
        {5, MTLS_FAIL_LEN - 1, true, 0},
        {0, MTLS_PREFACE_LEN - 1, false, 0},
    };
    static struct mtls_conn_state st;
    struct mtls_addr addr = lab_v4(2, 1);
    uint8_t flood[4096] = {'A'};
    struct mtls_p2s_conn *conn;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        memset(&st, 0, sizeof(st));
        st.preface_done = rows[i].preface_done;
        st.preface_sent = true;
        st.have = rows[i].have;
        st.buf[0] = rows[i].type;
        st.buf[1] = st.buf[3] = 1;
        conn = NULL;
        assert_int_equal(mtls_p2s_conn_import(&conn, a.lab.server, &addr, &st, NULL, a.lab.now),
                         rows[i].rc);
        if (rows[i].rc != 0)
            continue;
        assert_true(mtls_p2s_conn_input(conn, flood, sizeof(flood), a.lab.now) < 0);
        mtls_p2s_conn_free(conn);
    }
}

static void what_stays(void **state)
{
    static struct mtls_conn_state st;
    struct peer *p = peer_new(&a.lab, lab_v4(2, 1));

    peer_greet(p); /* unsent bytes: its preface */
    assert_false(mtls_p2s_conn_export(p->conn, &st));
    peer_expect_nothing(p);
    assert_true(mtls_p2s_conn_export(p->conn, &st));
    assert_true(peer_send(p, mtls_preface, MTLS_PREFACE_LEN) < 0); /* it has ended */
    assert_false(mtls_p2s_conn_export(p->conn, &st));
    peer_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(confirmed_elsewhere, start, take_down),
        cmocka_unit_test_setup_teardown(wrong_confirm, start, take_down),
        cmocka_unit_test_setup_teardown(owner_gives_up, start, take_down),
        cmocka_unit_test_setup_teardown(silent_owner, start, take_down),
        cmocka_unit_test_setup_teardown(copies_in_two_processes, start, take_down),
        cmocka_unit_test_setup_teardown(foreign_words, start, take_down),
        cmocka_unit_test_setup_teardown(guest_takes_no_hello, start, take_down),
        cmocka_unit_test_setup_teardown(unasked_words, start, take_down),
        cmocka_unit_test_setup_teardown(has_what_it_has, start, take_down),
        cmocka_unit_test_setup_teardown(connection_moves, start, take_down),
        cmocka_unit_test_setup_teardown(proof_lost_on_the_way, start, take_down),
        cmocka_unit_test_setup_teardown(import_judged, start, take_down),
        cmocka_unit_test_setup_teardown(what_stays, start, take_down),
    };

    return cmocka_run_group_tests(tests, lab_open, lab_close);
}
