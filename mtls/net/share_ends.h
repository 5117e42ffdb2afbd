/* Concept: what this process takes out of the directory again: the ends of its sessions and claims.
 * None of them may be lost, or the service runs full: an end that finds the directory locked is
 * said later; and what was lost all the same (a connection that did not arrive, a process that died
 * unnoticed) is found by looking through the directory now and then. Engine lock held. */
#ifndef MTLS_NET_SHARE_ENDS_H
#define MTLS_NET_SHARE_ENDS_H

#include "peers.h"

enum {
    MTLS_ENDS_MAX = 65536, /* that wait to be said; more are left to the search */
    MTLS_ENDS_AGAIN_US = 100000,
    MTLS_SWEEP_EVERY_US = 30 * 1000000, /* and what is younger than that is left alone */
};

/* gone: a member does not live any more. has: what this process really has. Errors: MTLS_ERR_NOMEM.
 */
MTLS_NODISCARD int mtls_ends_open(struct mtls_reactor *r, mtls_tstamp ended_ttl,
                                  mtls_dir_has_fn *has, mtls_peers_lost_fn *gone);
void mtls_ends_close(void); /* says what it can */
void mtls_ends_fork_child(void);

void mtls_ends_session(const uint8_t join[MTLS_JOIN_LEN], uint8_t slot, mtls_tstamp now);
void mtls_ends_claim(const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now);
/* Something has been put into the directory: it will be looked through. */
void mtls_ends_begun(mtls_tstamp now);
/* Looks through it now, all of it; for tests. Returns how many were taken out. */
unsigned mtls_ends_sweep(mtls_tstamp now);

#endif
