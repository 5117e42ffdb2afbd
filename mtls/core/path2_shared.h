/* Concept: the server's end of path 2 where several processes serve it: a claim in one process (the
 * holder: it has the connection), its session in another (the owner). The holder tells the owner of
 * the claim, which keeps it as a guest: a connection without a socket that carries this one claim.
 * PROOF and FAIL go back through the holder, CONFIRM to the owner. A whole connection can move as
 * well. Sans-I/O; who the others are is the driver's to know (directory.h). */
#ifndef MTLS_CORE_PATH2_SHARED_H
#define MTLS_CORE_PATH2_SHARED_H

#include "handover.h"
#include "path2_server.h"

/* The driver's part. No function may free or re-enter the object that it is about. */
struct mtls_p2s_shared {
    /* As mtls_dir_session_add() and so on say. The rules on joins [SRV-5] [SRV-6] [SRV-8] hold
     * across the processes by them. */
    int (*session_add)(void *arg, const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now,
                       uint8_t *slot);
    void (*session_end)(void *arg, const uint8_t join[MTLS_JOIN_LEN], uint8_t slot,
                        mtls_tstamp now);
    int (*claim_add)(void *arg, const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now);
    void (*claim_end)(void *arg, const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now);
    /* Sessions of all processes but besides' (0: of all). */
    unsigned (*sessions)(void *arg, const uint8_t join[MTLS_JOIN_LEN], mtls_member besides);
    /* A CONFIRM of a claim, for the owner of its session. */
    void (*to_owner)(void *arg, void *conn_user, mtls_member owner, uint32_t id,
                     const uint8_t *frame, size_t len);
    /* A claim that this owner was told of has ended. */
    void (*gone)(void *arg, void *conn_user, mtls_member owner, uint32_t id);
    /* A guest's claim has ended: write its output, then free it. */
    void (*done)(void *arg, void *guest_user);
};

/* ---- The holder ---- */

/* The open claim after *id (0: the first), which becomes *id. False: there is none. */
bool mtls_p2s_conn_next_claim(const struct mtls_p2s_conn *c, uint32_t *id,
                              struct mtls_claim_state *out);
/* Calls fn for each connection with an open claim of this join; it may move the connection. */
void mtls_p2s_each_holder(struct mtls_p2s *s, const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now,
                          void (*fn)(void *arg, void *conn_user), void *arg);
/* That owner, whose sessions have these slots (bits), is told of the claim. False: it was before,
 * or the claim has ended. */
bool mtls_p2s_claim_tell(struct mtls_p2s_conn *c, uint32_t id, mtls_member owner, uint8_t slots,
                         mtls_tstamp now);
/* Frames from an owner; of one that was not told of the claim they are dropped. Errors:
 * MTLS_ERR_FRAME_* (they are not such; nothing was taken from the wrong one on). */
MTLS_NODISCARD int mtls_p2s_deliver(struct mtls_p2s_conn *c, uint32_t id, mtls_member owner,
                                    const uint8_t *data, size_t len, mtls_tstamp now);
/* The owner has nothing more for the claim, and with close the connection has to go. */
void mtls_p2s_claim_done(struct mtls_p2s_conn *c, uint32_t id, mtls_member owner, bool close,
                         mtls_tstamp now);
/* What this process has of a join: slots of sessions (bits), claims of its own connections. */
void mtls_p2s_has(struct mtls_p2s *s, const uint8_t join[MTLS_JOIN_LEN], uint8_t *slots,
                  uint8_t *nclaims);
/* No word will come from this owner any more. */
void mtls_p2s_owner_lost(struct mtls_p2s *s, mtls_member owner, mtls_tstamp now);

/* ---- The owner ---- */

/* A claim of another process's connection. It may end at once (done call-back). It is used and
 * freed like a connection. Errors: MTLS_ERR_NOMEM, MTLS_ERR_LIMIT (8 claims of the join here). */
MTLS_NODISCARD int mtls_p2s_guest_new(struct mtls_p2s_conn **out, struct mtls_p2s *s,
                                      const struct mtls_claim_state *claim, void *user,
                                      mtls_tstamp now);

/* ---- A connection that moves ---- */

/* False: it has bytes to write, or has ended, and stays. */
bool mtls_p2s_conn_export(const struct mtls_p2s_conn *c, struct mtls_conn_state *out);
/* Frees it: it is another process's now, and so are its claims. */
void mtls_p2s_conn_moved(struct mtls_p2s_conn *c);
/* Errors: MTLS_ERR_LIMIT (no room), MTLS_ERR_NOMEM, MTLS_ERR_FRAME_*. */
MTLS_NODISCARD int mtls_p2s_conn_import(struct mtls_p2s_conn **out, struct mtls_p2s *s,
                                        const struct mtls_addr *peer,
                                        const struct mtls_conn_state *state, void *user,
                                        mtls_tstamp now);

#endif
