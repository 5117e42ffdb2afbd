/* Concept: who answers path 2 of those who could: a process that has had no session for a while,
 * the parent of a server's workers for one, would only pass on what it takes. It stands back while
 * another one lives that has sessions and the very same listeners, and returns when that one goes.
 * Engine lock held for every call. */
#ifndef MTLS_NET_PATH2_STAND_H
#define MTLS_NET_PATH2_STAND_H

#include "../core/config.h"
#include "../core/directory.h"

enum { MTLS_STAND_IDLE_US = 10 * 1000000 };

/* A program that drives the reactor itself may look at it late: nobody relies on it. */
void mtls_stand_open(const struct mtls_config *config);
/* A session has begun in this process. With the directory's lock. */
void mtls_stand_serves(struct mtls_dir *d, mtls_tstamp now);
/* True: the listeners are not to be watched any more, until mtls_conns_return(). */
bool mtls_stand_back(mtls_tstamp now);
bool mtls_stand_is_back(void);
/* Nobody takes what comes: no standing back for a while, if this process did. */
void mtls_stand_stay(mtls_tstamp now);
/* Nothing comes from that process any more. */
void mtls_stand_lost(mtls_member peer, mtls_tstamp now);
/* This process becomes a member, or is a fork child. */
void mtls_stand_reset(void);

#endif
