/* Fuzz target: what another process of a service sends (handover.h), and what a member does with
 * it. The input is a sequence of steps on 3 connections, 3 guests, and 4 sessions of 4 joins:
 * messages as they came from the other process, frames of clients, sessions of both processes,
 * time, and connections that leave and come back. A message has one encoding; a session is
 * confirmed only by a CONFIRM that was made with its keys; a guest carries one claim; what has left
 * comes back as it was; nothing is left at the end, in the directory neither. */
#include <stdint.h>

#include "mtls/core/directory.h"
#include "mtls/core/path2_shared.h"
#include "path2_fuzz_sessions.h"

enum { CONNS = 3, GUESTS = 3, SESSIONS = 4, JOINS = 64, CLAIMS_OF_JOIN = 16, ENDED_TTL = 6000000 };

struct fuzz_conn {
    struct mtls_p2s_conn *conn;
    bool closing;
};

static struct world {
    struct mtls_p2s *server;
    struct fuzz_conn conns[CONNS], guests[GUESTS]; /* of guests conn may be NULL */
    struct fuzz_session sessions[SESSIONS];
    struct fuzz_session *may_confirm; /* whose right CONFIRM is on its way */
    uint8_t elsewhere[SESSIONS];      /* sessions of the other process: bits of their slots */
    uint8_t last_slot;
    mtls_tstamp now;
} w;

static struct mtls_dir *dir;
static mtls_member self, other;

/* ---- The directory, as net/path2_workers.c asks it ---- */

static int session_add(void *arg, const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now, uint8_t *slot)
{
    struct mtls_dir_view view;
    int rc = mtls_dir_session_add(dir, self, join, now, slot, &view);

    (void)arg;
    w.last_slot = *slot;
    return rc;
}

static void session_end(void *arg, const uint8_t join[MTLS_JOIN_LEN], uint8_t slot, mtls_tstamp now)
{
    (void)arg;
    mtls_dir_session_end(dir, self, join, slot, now, ENDED_TTL);
}

static int claim_add(void *arg, const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now)
{
    struct mtls_dir_view view;

    (void)arg;
    return mtls_dir_claim_add(dir, self, join, now, &view);
}

static void claim_end(void *arg, const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now)
{
    (void)arg;
    (void)now;
    mtls_dir_claim_end(dir, self, join);
}

static unsigned sessions(void *arg, const uint8_t join[MTLS_JOIN_LEN], mtls_member besides)
{
    struct mtls_dir_view view;
    unsigned n = 0;

    (void)arg;
    mtls_dir_look(dir, join, &view);
    for (unsigned i = 0; i < MTLS_SLOTS_MAX; i++)
        n += view.owners[i] != 0 && view.owners[i] != besides;
    return n;
}

static void send_it(const struct mtls_handover *m)
{
    static uint8_t wire[MTLS_HANDOVER_MAX];

    check(mtls_handover_encode(m, wire, sizeof(wire)) > 0);
}

static void to_owner(void *arg, void *conn_user, mtls_member owner, uint32_t id,
                     const uint8_t *frame, size_t len)
{
    struct mtls_handover m = {.type = MTLS_HANDOVER_TO_OWNER, .id = id, .bytes = frame, .len = len};

    (void)arg;
    (void)conn_user;
    check(owner == other);
    send_it(&m);
}

static void gone(void *arg, void *conn_user, mtls_member owner, uint32_t id)
{
    struct mtls_handover m = {.type = MTLS_HANDOVER_GONE, .id = id};

    (void)arg;
    (void)conn_user;
    check(owner == other);
    send_it(&m);
}

static void done(void *arg, void *guest_user)
{
    (void)arg;
    ((struct fuzz_conn *)guest_user)->closing = true;
}

static const struct mtls_p2s_shared shared = {session_add, session_end, claim_add, claim_end,
                                              sessions,    to_owner,    gone,      done};

/* ---- Events ---- */

static void on_confirmed(void *arg, void *session_user, void *conn_user, uint8_t k, uint8_t n)
{
    struct fuzz_session *s = session_user;

    (void)arg;
    (void)conn_user;
    check(s == w.may_confirm && s->have_keys && !s->confirmed && k >= 1 && k <= n);
    s->confirmed = true;
}

static void on_close(void *arg, void *conn_user, int error)
{
    (void)arg;
    check(error < 0);
    ((struct fuzz_conn *)conn_user)->closing = true;
}

/* ---- Connections ---- */

static struct mtls_addr peer_of(const struct fuzz_conn *c)
{
    return (struct mtls_addr){.family = 4, .ip = {192, 0, 2, (uint8_t)((c - w.conns) & 1)}};
}

static void conn_open(struct fuzz_conn *c)
{
    struct mtls_addr peer = peer_of(c);

    c->closing = false;
    check(mtls_p2s_conn_new(&c->conn, w.server, &peer, c, w.now) == 0);
}

static int conn_take(struct fuzz_conn *c, const struct mtls_conn_state *state)
{
    struct mtls_addr peer = peer_of(c);
    int rc = mtls_p2s_conn_import(&c->conn, w.server, &peer, state, c, w.now);

    check(rc <= 0);
    if (rc == 0)
        return 0;
    for (unsigned i = 0; i < state->nclaims; i++)
        claim_end(NULL, state->claims[i].join, w.now);
    conn_open(c);
    return rc;
}

/* Writes what there is: always well formed. */
static void pull(struct fuzz_conn *c, bool guest)
{
    struct mtls_handover m = {.type = MTLS_HANDOVER_TO_HOLDER};
    const uint8_t *out;
    size_t len;

    while ((out = mtls_p2s_conn_out(c->conn, &len)) != NULL && len > 0) {
        if (guest) {
            m.bytes = out;
            m.len = len = len < MTLS_HANDOVER_BYTES_MAX ? len : MTLS_HANDOVER_BYTES_MAX;
            send_it(&m);
        }
        mtls_p2s_conn_sent(c->conn, len);
    }
}

static void feed(struct fuzz_conn *c, const uint8_t *data, size_t len)
{
    int rc;

    if (c->conn == NULL || c->closing)
        return;
    rc = mtls_p2s_conn_input(c->conn, data, len, w.now);
    check(rc <= 0);
    c->closing = c->closing || rc < 0;
}

/* An exported state has one encoding, which decodes to itself. */
static int encoded(const struct fuzz_conn *c, uint8_t wire[MTLS_HANDOVER_MAX])
{
    static struct mtls_handover m, got;
    static uint8_t again[MTLS_HANDOVER_MAX];
    int n;

    memset(&m, 0, sizeof(m));
    m.type = MTLS_HANDOVER_CONN;
    if (!mtls_p2s_conn_export(c->conn, &m.conn))
        return 0;
    n = mtls_handover_encode(&m, wire, MTLS_HANDOVER_MAX);
    check(n > 0 && mtls_handover_decode(&got, wire, (size_t)n) == 0);
    check(memcmp(&m.conn, &got.conn, sizeof(m.conn)) == 0);
    check(mtls_handover_encode(&got, again, sizeof(again)) == n);
    check(memcmp(wire, again, (size_t)n) == 0);
    return n;
}

/* A connection leaves and comes back. */
static void move(struct fuzz_conn *c)
{
    static uint8_t before[MTLS_HANDOVER_MAX], after[MTLS_HANDOVER_MAX];
    static struct mtls_handover m;
    int n, n2, rc;

    if (c->closing || (n = encoded(c, before)) == 0)
        return;
    check(mtls_handover_decode(&m, before, (size_t)n) == 0);
    mtls_p2s_conn_moved(c->conn);
    rc = conn_take(c, &m.conn);
    check(rc == 0 || rc == MTLS_ERR_LIMIT);
    if (rc == 0 && (n2 = encoded(c, after)) > 0) /* else there is something to write now */
        check(n2 == n && memcmp(before, after, (size_t)n) == 0);
}

static void move_holder(void *arg, void *conn_user)
{
    (void)arg;
    move(conn_user);
}

/* ---- What comes in ---- */

/* Two bytes of length and so many, or what is left, alone in their memory: the caller's to free. */
static uint8_t *next_copy(struct input *in, size_t *len)
{
    uint8_t *copy;

    *len = (size_t)next(in) << 8;
    *len |= next(in);
    *len = *len < in->size ? *len : in->size;
    copy = malloc(*len > 0 ? *len : 1);
    check(copy != NULL);
    memcpy(copy, in->data, *len);
    in->data += *len;
    in->size -= *len;
    return copy;
}

static void guest_end(struct fuzz_conn *g)
{
    mtls_p2s_conn_free(g->conn);
    memset(g, 0, sizeof(*g));
}

static void take_message(const struct mtls_handover *m, struct fuzz_conn *c, struct fuzz_conn *g)
{
    switch (m->type) {
    case MTLS_HANDOVER_CONN:
        mtls_p2s_conn_free(c->conn);
        c->closing = false;
        (void)!conn_take(c, &m->conn);
        break;
    case MTLS_HANDOVER_CLAIM:
        guest_end(g);
        if (mtls_p2s_guest_new(&g->conn, w.server, &m->claim, g, w.now) != 0)
            check(g->conn == NULL);
        break;
    case MTLS_HANDOVER_TO_OWNER:
        feed(g, m->bytes, m->len);
        break;
    case MTLS_HANDOVER_GONE:
        guest_end(g);
        break;
    case MTLS_HANDOVER_TO_HOLDER:
        check(mtls_p2s_deliver(c->conn, m->id, other, m->bytes, m->len, w.now) <= 0);
        break;
    case MTLS_HANDOVER_DONE:
        mtls_p2s_claim_done(c->conn, m->id, other, m->close, w.now);
        break;
    default:
        check(m->type == MTLS_HANDOVER_WANT);
        mtls_p2s_each_holder(w.server, m->join, w.now, move_holder, NULL);
        break;
    }
}

static void step_message(struct input *in, struct fuzz_conn *c, struct fuzz_conn *g)
{
    static struct mtls_handover m;
    static uint8_t wire[MTLS_HANDOVER_MAX];
    size_t len;
    uint8_t *data = next_copy(in, &len);
    int rc = mtls_handover_decode(&m, data, len);

    check(rc <= 0);
    if (rc == 0) {
        check(mtls_handover_encode(&m, wire, sizeof(wire)) == (int)len);
        check(memcmp(wire, data, len) == 0);
        take_message(&m, c, g);
    }
    free(data);
}

static void step_raw(struct input *in, struct fuzz_conn *c)
{
    size_t len;
    uint8_t *data = next_copy(in, &len);

    feed(c, data, len);
    free(data);
}

/* ---- Sessions and clients ---- */

/* Two joins whose secrets clients know, and two that messages are easily made for. */
static void join_of(uint8_t number, uint8_t join[MTLS_JOIN_LEN])
{
    uint8_t secret[MTLS_SECRET_LEN];

    memset(secret, number, sizeof(secret));
    memset(join, number, MTLS_JOIN_LEN);
    if (number < 2)
        check(mtls_crypto_join(crypto, secret, join) == 0);
}

static void step_hello(struct input *in, struct fuzz_conn *c)
{
    uint8_t claim = next(in), what = next(in), secret[MTLS_SECRET_LEN], nonce[MTLS_NONCE_LEN] = {0};
    uint8_t hello[MTLS_HELLO_LEN];

    memset(secret, what & 1, sizeof(secret));
    mtls_frame_hello(hello, claim, 443, what >> 1 & 7, secret, nonce);
    feed(c, hello, sizeof(hello));
}

/* A CONFIRM of the first claim after a number, made with a session's keys. */
static void step_confirm(struct input *in, struct fuzz_conn *c)
{
    uint32_t id = next(in);
    struct fuzz_session *x = &w.sessions[next(in) % SESSIONS];
    struct mtls_claim_state claim;
    struct mtls_counted counted;
    uint8_t d[MTLS_SHA256_LEN], tag[MTLS_TAG_LEN], frame[MTLS_CONFIRM_LEN];

    if (!x->have_keys || c->conn == NULL || !mtls_p2s_conn_next_claim(c->conn, &id, &claim))
        return;
    counted.path = claim.path;
    memcpy(counted.p2, claim.p2, sizeof(counted.p2));
    check(mtls_confirm_server_tag(crypto, &x->keys, claim.p2, counted.tag_s) == 0);
    check(mtls_confirm_d(crypto, &counted, 1, d) == 0);
    check(mtls_confirm_client_tag(crypto, &x->keys, claim.p2, counted.tag_s, 1, 1, d, tag) == 0);
    mtls_frame_confirm(frame, claim.id, x->slot, 1, 1, tag);
    w.may_confirm = x;
    feed(c, frame, sizeof(frame));
    w.may_confirm = NULL;
}

static void step_session(struct fuzz_session *x)
{
    uint8_t join[MTLS_JOIN_LEN];

    if (x->session != NULL)
        return;
    join_of((uint8_t)(x - w.sessions), join);
    session_begin(x, w.server, join, w.now);
    x->slot = w.last_slot;
}

/* ---- The other process ---- */

static void other_begins(uint8_t number)
{
    uint8_t join[MTLS_JOIN_LEN], slot;
    struct mtls_dir_view view;

    join_of(number, join);
    if (mtls_dir_session_add(dir, other, join, w.now, &slot, &view) == 0)
        w.elsewhere[number] |= (uint8_t)(1u << slot);
}

static void other_ends(uint8_t number)
{
    uint8_t join[MTLS_JOIN_LEN];

    join_of(number, join);
    for (uint8_t slot = 0; slot < MTLS_SLOTS_MAX; slot++)
        if ((w.elsewhere[number] >> slot & 1) != 0)
            mtls_dir_session_end(dir, other, join, slot, w.now, ENDED_TTL);
    w.elsewhere[number] = 0;
}

/* The other one is told of the first claim after a number, as it has sessions, or as it says. */
static void step_tell(struct input *in, struct fuzz_conn *c)
{
    uint32_t id = next(in);
    uint8_t slots = next(in);
    struct mtls_claim_state claim;

    if (!c->closing && mtls_p2s_conn_next_claim(c->conn, &id, &claim))
        (void)mtls_p2s_claim_tell(c->conn, claim.id, other, slots, w.now);
}

/* ---- Steps ---- */

static void step_time(uint8_t amount)
{
    w.now += (mtls_tstamp)amount * 100000;
    mtls_p2s_expire(w.server, w.now);
    check(mtls_p2s_deadline(w.server) > w.now);
}

static void step(struct input *in)
{
    uint8_t op = next(in), at = op >> 4;
    struct fuzz_conn *c = &w.conns[at % CONNS], *g = &w.guests[at % GUESTS];

    switch (op & 15) {
    case 0:
        step_raw(in, c);
        break;
    case 1:
        step_message(in, c, g);
        break;
    case 2:
        step_hello(in, c);
        break;
    case 3:
        step_confirm(in, at & 8 ? g : c);
        break;
    case 4:
        step_session(&w.sessions[at % SESSIONS]);
        break;
    case 5:
        session_keys(&w.sessions[at % SESSIONS], at % SESSIONS, w.now);
        break;
    case 6:
        session_finish(&w.sessions[at % SESSIONS], next(in), w.now);
        break;
    case 7:
        step_time(next(in));
        break;
    case 8:
        pull(c, false);
        break;
    case 9:
        move(c);
        break;
    case 10:
        step_tell(in, c);
        break;
    case 11:
        other_begins(at % SESSIONS);
        break;
    case 12:
        other_ends(at % SESSIONS);
        break;
    case 13:
        mtls_p2s_owner_lost(w.server, other, w.now);
        break;
    case 14:
        feed(c, mtls_preface, MTLS_PREFACE_LEN);
        break;
    default:
        c->closing = true;
        break;
    }
}

/* As the driver does once the call is over. */
static void close_what_ends(void)
{
    for (size_t i = 0; i < CONNS; i++) {
        if (!w.conns[i].closing)
            continue;
        mtls_p2s_conn_free(w.conns[i].conn);
        conn_open(&w.conns[i]);
    }
    for (size_t i = 0; i < GUESTS; i++) {
        if (w.guests[i].conn == NULL)
            continue;
        pull(&w.guests[i], true);
        if (w.guests[i].closing)
            guest_end(&w.guests[i]);
    }
}

static void check_counts(void)
{
    struct mtls_claim_state claim;
    struct mtls_p2s_stats s;
    size_t nsessions = 0, guests = 0;
    uint8_t join[MTLS_JOIN_LEN], slots, nclaims;

    for (uint8_t i = 0; i < SESSIONS; i++) {
        const struct fuzz_session *x = &w.sessions[i];

        nsessions += x->session != NULL;
        join_of(i, join);
        mtls_p2s_has(w.server, join, &slots, &nclaims);
        check(slots == (x->session != NULL ? 1u << x->slot : 0) && nclaims <= CLAIMS_OF_JOIN);
    }
    for (size_t i = 0; i < GUESTS; i++) {
        uint32_t id = 0;

        if (w.guests[i].conn == NULL)
            continue;
        guests++;
        check(!mtls_p2s_conn_next_claim(w.guests[i].conn, &id, &claim) ||
              !mtls_p2s_conn_next_claim(w.guests[i].conn, &id, &claim));
    }
    mtls_p2s_stats(w.server, &s);
    check(s.conns == CONNS && s.guests == guests && s.sessions == nsessions);
    check(s.waiting_claims <= s.claims && s.waiting_claims <= 16);
}

static void *dir_open(void)
{
    static const uint8_t seed[MTLS_DIR_SEED_LEN] = {7};
    const struct mtls_dir_proc who[2] = {{.pid = 1}, {.pid = 2}};
    size_t size = (mtls_dir_size(JOINS, JOINS) + 63) / 64 * 64;
    void *mem = aligned_alloc(64, size);

    check(mem != NULL);
    memset(mem, 0, size);
    check(mtls_dir_new(&dir, mem, JOINS, JOINS, seed) == 0);
    check(mtls_dir_enter(dir, &who[0], &self) == 0 && mtls_dir_enter(dir, &who[1], &other) == 0);
    return mem;
}

static void all_end(void)
{
    struct mtls_dir_stats stats;
    struct mtls_p2s_stats s;

    for (uint8_t i = 0; i < SESSIONS; i++) {
        session_finish(&w.sessions[i], 0, w.now);
        other_ends(i);
    }
    for (size_t i = 0; i < CONNS; i++)
        mtls_p2s_conn_free(w.conns[i].conn);
    for (size_t i = 0; i < GUESTS; i++)
        guest_end(&w.guests[i]);
    mtls_p2s_stats(w.server, &s);
    check(s.conns + s.guests + s.claims + s.sessions + s.waiting_claims == 0);
    mtls_dir_stats(dir, &stats);
    check(stats.sessions + stats.waiting == 0 && !mtls_dir_spoilt(dir));
    mtls_p2s_free(w.server);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct mtls_p2s_events events = {on_confirmed, NULL, on_close};
    const struct mtls_p2s_config config = {.max_pending = 16,
                                           .per_source = 8,
                                           .claim_ttl = 1000000,
                                           .hello_ttl = 1500000,
                                           .idle_ttl = 3000000,
                                           .ended_ttl = ENDED_TTL,
                                           .ready_ttl = 100000};
    struct input in = {data, size};
    void *mem = dir_open();

    memset(&w, 0, sizeof(w));
    w.now = 1;
    check(mtls_p2s_new(&w.server, crypto, &config, &events, NULL) == 0);
    mtls_p2s_set_shared(w.server, &shared, NULL);
    for (size_t i = 0; i < CONNS; i++)
        conn_open(&w.conns[i]);
    while (more(&in)) {
        step(&in);
        close_what_ends();
        check_counts();
    }
    all_end();
    mtls_dir_free(dir);
    free(mem);
    return 0;
}
