/* Fuzz target: the server's end of path 2. The input is a sequence of steps on 3 connections and 4
 * sessions of 2 joins: raw bytes, well-formed frames, right CONFIRMs, sessions that come and go,
 * time. A session is confirmed only by a CONFIRM that was made with its keys; every bound holds;
 * nothing is left at the end. */
#include <stdint.h>

#include "path2_fuzz_sessions.h"

enum { CONNS = 3, SESSIONS = 4, CLAIMS = 32, OUT_BOUND = 16384 };

struct seen_claim { /* what the peer knows of a claim */
    uint8_t hello[MTLS_HELLO_LEN];
    struct mtls_counted counted;
    uint8_t slot;
    bool have_ready, have_proof;
};

struct fuzz_conn {
    struct mtls_p2s_conn *conn;
    struct mtls_frame_reader reader;
    struct seen_claim claims[CLAIMS]; /* by number */
    bool closed;
};

static struct world {
    struct mtls_p2s *server;
    struct fuzz_conn conns[CONNS];
    struct fuzz_session sessions[SESSIONS];
    struct fuzz_session *may_confirm; /* whose right CONFIRM is on its way */
    mtls_tstamp now;
} w;

static void on_confirmed(void *arg, void *session_user, void *conn_user, uint8_t k, uint8_t n)
{
    struct fuzz_session *s = session_user;

    (void)arg;
    (void)conn_user;
    check(s == w.may_confirm && s->have_keys && !s->confirmed && k >= 1 && k <= n);
    s->confirmed = true;
}

static void on_output(void *arg, void *conn_user)
{
    size_t len;

    (void)arg;
    mtls_p2s_conn_out(((struct fuzz_conn *)conn_user)->conn, &len);
    check(len > 0);
}

static void on_close(void *arg, void *conn_user, int error)
{
    (void)arg;
    check(error < 0);
    ((struct fuzz_conn *)conn_user)->closed = true;
}

static void secret_of(uint8_t number, uint8_t secret[MTLS_SECRET_LEN])
{
    memset(secret, number & 1, MTLS_SECRET_LEN);
}

static void conn_open(struct fuzz_conn *c, uint8_t source)
{
    struct mtls_addr peer = {.family = 4, .ip = {192, 0, 2, source & 1}};

    memset(c, 0, sizeof(*c));
    mtls_frame_reader_init(&c->reader, MTLS_ROLE_SERVER);
    check(mtls_p2s_conn_new(&c->conn, w.server, &peer, c, w.now) == 0);
}

static void conn_reopen(struct fuzz_conn *c)
{
    mtls_p2s_conn_free(c->conn);
    conn_open(c, (uint8_t)(c - w.conns));
}

/* Reads what the server wrote, which is always well formed, and notes what a claim needs. */
static void conn_pull(struct fuzz_conn *c)
{
    size_t len, pos = 0;
    const uint8_t *out = mtls_p2s_conn_out(c->conn, &len);
    struct mtls_frame f;
    int rc;

    check(len <= OUT_BOUND);
    while ((rc = mtls_frame_reader_next(&c->reader, out, len, &pos, &f)) > 0) {
        struct seen_claim *s = f.claim < CLAIMS ? &c->claims[f.claim] : NULL;

        if (s == NULL)
            continue;
        if (f.type == MTLS_FRAME_READY) {
            s->have_ready = true;
            check(mtls_confirm_p2(crypto, s->hello, f.raw, s->counted.p2) == 0);
        } else if (f.type == MTLS_FRAME_PROOF) {
            s->have_proof = true;
            s->slot = f.u.proof.slot;
            memcpy(s->counted.tag_s, f.u.proof.tag, MTLS_TAG_LEN);
        }
    }
    check(rc == 0);
    mtls_p2s_conn_sent(c->conn, len);
}

static void conn_feed(struct fuzz_conn *c, const uint8_t *data, size_t len)
{
    int rc = mtls_p2s_conn_input(c->conn, data, len, w.now);

    check(rc <= 0 && (!c->closed || rc < 0));
    if (rc < 0) {
        check(mtls_p2s_conn_input(c->conn, data, len, w.now) == rc);
        conn_reopen(c);
    }
}

static void step_hello(struct input *in, struct fuzz_conn *c)
{
    uint8_t claim = next(in), what = next(in), secret[MTLS_SECRET_LEN], nonce[MTLS_NONCE_LEN] = {0};
    uint8_t hello[MTLS_HELLO_LEN];

    secret_of(what, secret);
    mtls_frame_hello(hello, claim, what & 0x80 ? 22 : 443, what >> 1 & 7, secret, nonce);
    if (claim < CLAIMS && !c->claims[claim].have_ready) {
        memcpy(c->claims[claim].hello, hello, sizeof(hello));
        c->claims[claim].counted.path = what >> 1 & 7;
    }
    conn_feed(c, hello, sizeof(hello));
}

/* A CONFIRM of one path, made with a session's keys: right only if the claim's PROOF is that
 * session's. */
static void step_confirm(struct input *in, struct fuzz_conn *c)
{
    uint8_t claim = next(in) % CLAIMS, which = next(in) % SESSIONS;
    struct fuzz_session *x = &w.sessions[which];
    struct seen_claim *s = &c->claims[claim];
    uint8_t d[MTLS_SHA256_LEN], tag[MTLS_TAG_LEN], frame[MTLS_CONFIRM_LEN];

    conn_pull(c);
    if (!x->have_keys || !s->have_proof)
        return;
    check(mtls_confirm_d(crypto, &s->counted, 1, d) == 0);
    check(mtls_confirm_client_tag(crypto, &x->keys, s->counted.p2, s->counted.tag_s, 1, 1, d,
                                  tag) == 0);
    mtls_frame_confirm(frame, claim, s->slot, 1, 1, tag);
    w.may_confirm = x;
    conn_feed(c, frame, sizeof(frame));
    w.may_confirm = NULL;
}

static void step_session(struct fuzz_session *x, uint8_t number)
{
    uint8_t secret[MTLS_SECRET_LEN], join[MTLS_JOIN_LEN];

    if (x->session != NULL)
        return;
    secret_of(number, secret);
    check(mtls_crypto_join(crypto, secret, join) == 0);
    session_begin(x, w.server, join, w.now);
}

static void step_time(uint8_t amount)
{
    w.now += (mtls_tstamp)amount * 100000;
    mtls_p2s_expire(w.server, w.now);
    check(mtls_p2s_deadline(w.server) > w.now);
}

static void step(struct input *in)
{
    uint8_t op = next(in);
    struct fuzz_conn *c = &w.conns[(op >> 4) % CONNS];
    struct fuzz_session *x = &w.sessions[(op >> 4) % SESSIONS];
    const uint8_t *data;
    size_t len;

    switch (op & 15) {
    case 0:
        data = next_bytes(in, &len);
        conn_feed(c, data, len);
        break;
    case 1:
        conn_feed(c, mtls_preface, MTLS_PREFACE_LEN);
        break;
    case 2:
        step_hello(in, c);
        break;
    case 3:
        step_confirm(in, c);
        break;
    case 4:
        step_session(x, next(in));
        break;
    case 5:
        session_keys(x, (uint8_t)(x - w.sessions), w.now);
        break;
    case 6:
        session_finish(x, next(in), w.now);
        break;
    case 7:
        step_time(next(in));
        break;
    case 8:
        conn_pull(c);
        break;
    default:
        conn_reopen(c);
        break;
    }
    for (size_t i = 0; i < CONNS; i++)
        if (w.conns[i].closed)
            conn_reopen(&w.conns[i]);
}

static void check_counts(void)
{
    struct mtls_p2s_stats s;
    size_t sessions = 0;

    mtls_p2s_stats(w.server, &s);
    for (size_t i = 0; i < SESSIONS; i++)
        sessions += w.sessions[i].session != NULL;
    check(s.conns == CONNS && s.sessions == sessions);
    check(s.waiting_claims <= s.claims && s.waiting_claims <= 16);
    check(s.claims <= CONNS * MTLS_P2S_CLAIMS_MAX && s.ended_joins <= 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct mtls_p2s_events events = {on_confirmed, on_output, on_close};
    struct mtls_p2s_config config = {.max_pending = 16,
                                     .per_source = 8,
                                     .claim_ttl = 1000000,
                                     .hello_ttl = 1500000,
                                     .idle_ttl = 3000000,
                                     .ended_ttl = 6000000,
                                     .ready_ttl = 100000};
    struct input in = {data, size};
    struct mtls_p2s_stats s;

    memset(&w, 0, sizeof(w));
    w.now = 1;
    config.ntls_ports = next(&in) & 1;
    config.tls_ports[0] = 443;
    check(mtls_p2s_new(&w.server, crypto, &config, &events, NULL) == 0);
    for (size_t i = 0; i < CONNS; i++)
        conn_open(&w.conns[i], (uint8_t)i);
    while (more(&in)) {
        step(&in);
        check_counts();
    }
    for (size_t i = 0; i < SESSIONS; i++)
        session_finish(&w.sessions[i], 0, w.now);
    for (size_t i = 0; i < CONNS; i++)
        mtls_p2s_conn_free(w.conns[i].conn);
    mtls_p2s_stats(w.server, &s);
    check(s.conns == 0 && s.claims == 0 && s.sessions == 0 && s.waiting_claims == 0);
    mtls_p2s_free(w.server);
    return 0;
}
