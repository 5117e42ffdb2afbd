/* Concept: what the parts of the server's end of path 2 share: path2_server.c (connections, frames,
 * expiry), path2_room.c (how many connections) and path2_session.c (claims, sessions, proofs).
 * Nobody else includes it. */
#ifndef MTLS_CORE_PATH2_INTERNAL_H
#define MTLS_CORE_PATH2_INTERNAL_H

#include "outbuf.h"
#include "path2_server.h"
#include "path2_shared.h"
#include "pending.h"

/* Open claims of a join here: its own eight, and for each the guest that a moving one leaves. */
enum { MTLS_P2S_JOIN_CLAIMS_MAX = 2 * MTLS_SLOTS_MAX };

struct mtls_p2s {
    struct mtls_crypto *crypto;
    struct mtls_p2s_config config;
    struct mtls_p2s_events events;
    void *arg;
    struct mtls_p2s_shared shared; /* no function: this process is alone */
    void *shared_arg;
    struct mtls_pending pending;
    struct mtls_link conns; /* all of them */
    size_t nroom, nbusy;    /* that have not ended: with room, and above it */
    /* queues: connections without HELLO, without claim, without room; claims */
    struct mtls_link fresh, idle, busy, wait;
    struct mtls_link told;       /* queue: claims for which another process has to speak */
    struct mtls_link held;       /* queue: connections whose READY waits for a session's keys */
    struct mtls_p2s_stats stats; /* waiting_claims and ended_joins live in pending */
};

struct mtls_p2s_conn {
    struct mtls_p2s *server;
    void *user;
    struct mtls_link all, claims; /* claims: head */
    struct mtls_due timer;        /* in fresh, idle or busy */
    struct mtls_link in_source;   /* in its source's fresh or idle */
    struct mtls_outbuf out;
    struct mtls_due hold; /* in held: nothing in out need leave yet */
    bool prompt;          /* something in out has to leave at once */
    struct mtls_frame_reader reader;
    struct mtls_source *source; /* NULL: busy, or ended */
    bool busy;                  /* there is no room for it */
    bool moving;                /* its claims go on in another process */
    bool guest;                 /* the connection is another process's, and takes no room here */
    uint32_t last_id;
    uint16_t nclaims;
    uint16_t nconfirmed; /* of them: CONFIRM is here, their session lives on */
    bool preface_sent;
    int err; /* sticky; no claim is open then */
};

struct mtls_p2s_claim {
    struct mtls_p2s_conn *conn;
    struct mtls_join *join;
    struct mtls_source *source; /* NULL unless it waits for its first session */
    struct mtls_link in_conn, in_join;
    struct mtls_due wait;
    uint32_t id;
    uint8_t path;
    uint8_t proofs; /* bit per slot to which a PROOF went */
    bool confirmed; /* a CONFIRM came, for this slot */
    uint8_t confirmed_slot;
    mtls_member via[MTLS_SLOTS_MAX];  /* whose PROOF that of a slot was; 0: ours */
    mtls_member told[MTLS_SLOTS_MAX]; /* who has sessions for it and was told */
    uint8_t ntold;
    uint8_t p2[MTLS_SHA256_LEN];
};

/* A claim that got a PROOF of a session. It outlives the claim: the path may be cut after its
 * PROOF [CNF-3]. */
struct mtls_p2s_member {
    struct mtls_counted counted;
    const struct mtls_p2s_claim *claim; /* NULL: has ended */
};

struct mtls_p2s_session {
    struct mtls_p2s *server;
    void *user;
    struct mtls_join *join;
    struct mtls_link in_join;
    uint8_t slot, nmembers;
    bool have_keys, confirmed;
    uint8_t d[MTLS_SHA256_LEN]; /* confirmed: of the claims that the client counted */
    struct mtls_keys keys;
    struct mtls_p2s_member *members[MTLS_SLOTS_MAX];
};

/* path2_server.c */

/* Queues one frame; what is there leaves at once. Errors: MTLS_ERR_FRAME_OVERFLOW,
 * MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_p2s_conn_send(struct mtls_p2s_conn *c, const uint8_t *data, size_t len);
/* Tells the driver that c has bytes to write. */
void mtls_p2s_conn_tell(struct mtls_p2s_conn *c);
/* Queues FAIL for a claim that has just ended; outside of c's own input. */
void mtls_p2s_conn_fail(struct mtls_p2s_conn *c, uint32_t id, uint8_t reason, mtls_tstamp now);
/* Ends the connection and its claims for good. */
void mtls_p2s_conn_end(struct mtls_p2s_conn *c, int error, mtls_tstamp now);
/* The same, and tells the driver; outside of c's own input. */
void mtls_p2s_conn_close(struct mtls_p2s_conn *c, int error, mtls_tstamp now);
/* Starts the idle timer if no claim is open, stops it otherwise. */
void mtls_p2s_conn_rest(struct mtls_p2s_conn *c, mtls_tstamp now);

/* path2_room.c */

/* Finds room for a new connection, or makes it a busy one; starts its timer. Errors:
 * MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_p2s_room_enter(struct mtls_p2s_conn *c, const struct mtls_addr *peer,
                                       mtls_tstamp now);
/* c's claims are none, or no longer none. */
void mtls_p2s_room_rest(struct mtls_p2s_conn *c, bool idle);
/* c has ended. */
void mtls_p2s_room_leave(struct mtls_p2s_conn *c);

/* path2_session.c */

/* Decides what a HELLO for join gets. MTLS_READY_OK with *out: the claim is open. MTLS_READY_OK
 * with *out NULL: it ends at once with FAIL{*fail}. */
enum mtls_ready_status mtls_p2s_claim_admit(struct mtls_p2s_conn *c, const struct mtls_frame *hello,
                                            const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now,
                                            struct mtls_p2s_claim **out, uint8_t *fail);
/* Sends PROOF for each session of the claim's join that has keys; READY is queued and claim->p2 is
 * set. May end the claim with FAIL{limit}. */
MTLS_NODISCARD int mtls_p2s_claim_prove(struct mtls_p2s_claim *claim, mtls_tstamp now);
/* Whether PROOF may well follow the claim's READY: its session is here without keys, or has yet to
 * come (its ClientHello may be waiting to be read), and nothing is known of it elsewhere. */
bool mtls_p2s_claim_awaits_keys(const struct mtls_p2s_claim *claim);
/* Handles a CONFIRM for an open claim. */
MTLS_NODISCARD int mtls_p2s_claim_confirm(struct mtls_p2s_claim *claim,
                                          const struct mtls_frame *confirm);
/* How many sessions with this join there are, in all processes. */
unsigned mtls_p2s_sessions(const struct mtls_p2s *s, const struct mtls_join *join);
/* The claim is about to end: tells whom it concerns. */
void mtls_p2s_claim_over(struct mtls_p2s_claim *claim, mtls_tstamp now);
/* No session here is its any more, but another process has one. */
void mtls_p2s_claim_leave_to_others(struct mtls_p2s_claim *claim, mtls_tstamp now);
MTLS_NODISCARD int mtls_p2s_claim_forward(struct mtls_p2s_claim *claim, uint8_t slot,
                                          const struct mtls_frame *confirm);
/* Leaves the queue of those that wait, or that others speak for. */
void mtls_p2s_claim_unwait(struct mtls_p2s_claim *claim);
/* Puts a claim among those of its connection and its join. */
MTLS_NODISCARD int mtls_p2s_claim_attach(struct mtls_p2s_claim *claim,
                                         const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now);
/* Ends and frees a claim, in silence. */
void mtls_p2s_claim_end(struct mtls_p2s_claim *claim, mtls_tstamp now);
/* Frees a session that is no longer on its join. */
void mtls_p2s_session_wipe(struct mtls_p2s_session *x);

#endif
