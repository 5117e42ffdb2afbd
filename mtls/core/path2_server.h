/* Concept: the server's end of path 2 for one process: connections, claims, sessions, and the
 * pending table that brings a claim and a session with the same join together, whichever comes
 * first. Sans-I/O; time and randomness are passed in. Every table is bounded; expiry is by deadline
 * order; look-up, insertion and expiry are O(1). Not thread safe (engine lock). */
#ifndef MTLS_CORE_PATH2_SERVER_H
#define MTLS_CORE_PATH2_SERVER_H

#include "common.h"
#include "confirm.h"
#include "crypto.h"
#include "wire_frame.h"

enum {
    MTLS_P2S_CLAIMS_MAX = 64, /* open claims of one connection: without a CONFIRM yet */
    MTLS_P2S_KEPT_MAX = 1024, /* and with those whose session the server has not done with */
    MTLS_P2S_TLS_PORTS_MAX = 16,
    MTLS_P2S_ENDED_MAX = 65536, /* remembered joins of ended sessions */
    MTLS_P2S_CONNS_MAX = 65536, /* connections, where the configuration says no less */
    MTLS_P2S_BUSY_MAX = 64,     /* connections above that, which only hear READY{busy} */
};

struct mtls_p2s_config {
    size_t max_pending;    /* sessions, and separately waiting claims */
    size_t per_source;     /* waiting claims of one source, and its connections */
    size_t conns_max;      /* connections, a source at most half of them; 0: MTLS_P2S_CONNS_MAX */
    mtls_tstamp claim_ttl; /* how long a HELLO waits for its ClientHello, us */
    mtls_tstamp hello_ttl; /* how long a fresh connection may be without a HELLO, us */
    mtls_tstamp idle_ttl;  /* how long it may stay without an open claim after that, us */
    mtls_tstamp ended_ttl; /* how long the join of an ended session is refused, us */
    mtls_tstamp ready_ttl; /* how long READY may wait for the session's keys, so that PROOF goes
                              with it, us; 0: not at all [RDY-2] */
    uint8_t ntls_ports;    /* 0 = any port is hooked */
    uint16_t tls_ports[MTLS_P2S_TLS_PORTS_MAX];
};

struct mtls_p2s;
struct mtls_p2s_conn;
struct mtls_p2s_session;

/* What the server tells its driver. No call-back may free or re-enter the object it is about. */
struct mtls_p2s_events {
    /* A right CONFIRM came: the session is confirmed. Called once. It may free the session. [CNF-4]
     */
    void (*confirmed)(void *arg, void *session_user, void *conn_user, uint8_t k, uint8_t n);
    /* conn has new bytes to write (mtls_p2s_conn_out). */
    void (*output)(void *arg, void *conn_user);
    /* conn must be closed once its output is written (error or expiry); free it then. */
    void (*close)(void *arg, void *conn_user, int error);
};

MTLS_NODISCARD int mtls_p2s_new(struct mtls_p2s **out, struct mtls_crypto *c,
                                const struct mtls_p2s_config *config,
                                const struct mtls_p2s_events *events, void *arg);
/* Frees everything that is left; no call-back runs. */
void mtls_p2s_free(struct mtls_p2s *s);
void mtls_p2s_set_config(struct mtls_p2s *s, const struct mtls_p2s_config *config);
struct mtls_p2s_shared; /* path2_shared.h: other processes serve path 2 with this one */
void mtls_p2s_set_shared(struct mtls_p2s *s, const struct mtls_p2s_shared *shared, void *arg);

/* A connection was accepted from peer (source limits go by IPv4 address or IPv6 /56). Where its
 * source, or the server, has no room, the oldest connection without a HELLO goes (close call-back),
 * else the oldest without an open claim, both of the source or of all; where all have claims, this
 * one's HELLO is answered with READY{busy} and ends it: silence or a close would tell the client
 * that nobody speaks this protocol here [RDY-2]. Errors: MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_p2s_conn_new(struct mtls_p2s_conn **out, struct mtls_p2s *s,
                                     const struct mtls_addr *peer, void *user, mtls_tstamp now);
void mtls_p2s_conn_free(struct mtls_p2s_conn *c); /* ends its claims */
/* Out of descriptors: closes one connection that may go. False: none may. */
MTLS_NODISCARD bool mtls_p2s_evict(struct mtls_p2s *s, mtls_tstamp now);

/* Feeds what was read. Each HELLO is answered with READY, whatever the limits say, and at once
 * unless PROOF is about to follow [RDY-2]: ok, busy (a table, the source's share or the
 * connection's claims are full; that claim is closed), not-here. Negative: the connection broke a
 * rule, or there is no room for it; its claims have ended; write its output and close it. No
 * session fails by it. */
MTLS_NODISCARD int mtls_p2s_conn_input(struct mtls_p2s_conn *c, const uint8_t *data, size_t len,
                                       mtls_tstamp now);
/* What is to be written now. */
const uint8_t *mtls_p2s_conn_out(const struct mtls_p2s_conn *c, size_t *len);
/* All that there is to write is to be written now: READY waits no more. */
void mtls_p2s_conn_speak(struct mtls_p2s_conn *c);
void mtls_p2s_conn_sent(struct mtls_p2s_conn *c, size_t n);

/* A ClientHello with this join was parsed. A session waits for its CONFIRM until it is freed;
 * deadlines are the caller's. Errors: MTLS_ERR_LIMIT (table full, or MTLS_SLOTS_MAX sessions have
 * this join), MTLS_ERR_JOIN_REUSED (every session of this join has ended, within ended_ttl),
 * MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_p2s_session_new(struct mtls_p2s_session **out, struct mtls_p2s *s,
                                        const uint8_t join[MTLS_JOIN_LEN], void *user,
                                        mtls_tstamp now);
/* The server's Finished is out: PROOF goes to every claim of this join, now and later (at most
 * MTLS_SLOTS_MAX claims a session; a further one gets FAIL{limit}). keys are copied. */
MTLS_NODISCARD int mtls_p2s_session_keys(struct mtls_p2s_session *x, const struct mtls_keys *keys,
                                         mtls_tstamp now);
/* D [TAG-4] of the claims that the right CONFIRM counted; all zero before it. */
void mtls_p2s_session_d(const struct mtls_p2s_session *x, uint8_t d[MTLS_SHA256_LEN]);
/* Ends the session (decided or given up) and wipes its keys. Its claims get FAIL{reason} unless
 * confirmed; when it was the last session of its join, the join is remembered as ended. */
void mtls_p2s_session_free(struct mtls_p2s_session *x, uint8_t fail_reason, mtls_tstamp now);

/* The next time mtls_p2s_expire() has work, MTLS_TSTAMP_NEVER if none. */
mtls_tstamp mtls_p2s_deadline(const struct mtls_p2s *s);
/* Ends waiting claims (FAIL{no-session}), idle connections (close call-back), forgotten joins;
 * READY waits no more. */
void mtls_p2s_expire(struct mtls_p2s *s, mtls_tstamp now);

struct mtls_p2s_stats {
    size_t conns, sessions, waiting_claims, claims, ended_joins;
    size_t guests; /* claims of other processes' connections, see path2_shared.h */
    uint64_t ready_ok, ready_busy, ready_not_here, proofs, confirmed, confirm_wrong, conn_errors,
        evicted;
};
void mtls_p2s_stats(const struct mtls_p2s *s, struct mtls_p2s_stats *out);

#endif
