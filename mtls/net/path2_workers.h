/* Concept: path 2 of a service with several processes: what lands in one and belongs to another.
 * A connection whose only claim is for a session elsewhere moves there (SCM_RIGHTS); where it
 * carries more, the frames of the claim are relayed and the connection stays; a process that exits
 * hands over the connections that it has. Engine lock held for every call. */
#ifndef MTLS_NET_PATH2_WORKERS_H
#define MTLS_NET_PATH2_WORKERS_H

#include "../core/config.h"
#include "path2_conns.h"

/* Beside the first listener, before any fork. Errors: as mtls_share_open(). */
MTLS_NODISCARD int mtls_workers_open(const struct mtls_config *config);
/* This process answers path 2 now: it becomes a member. Idempotent. Where that is not to be had (no
 * Unix sockets, more than 1024 processes) it works alone, as far as its own connections go. */
void mtls_workers_enter(struct mtls_reactor *r, struct mtls_p2s *p2s, mtls_tstamp ended_ttl);

/* c has been read: claims of other processes' sessions are passed on. c may be freed. */
void mtls_workers_settle(struct conn *c, mtls_tstamp now);
/* A guest's output, and its end. */
void mtls_workers_guest_flush(struct conn *c);
void mtls_workers_conn_freed(struct conn *c);

void mtls_workers_exit(mtls_tstamp now);
void mtls_workers_fork_child(void);

struct mtls_workers_stats {
    uint64_t moved_out, moved_in; /* connections */
    uint64_t told, guests;        /* claims relayed: from here, to here */
    uint64_t wanted;              /* asked for: path 2 came first, elsewhere */
    uint64_t inherited;           /* handed over by a process that exits */
    uint64_t lost;                /* processes that were gone */
};
void mtls_workers_stats(struct mtls_workers_stats *out);

#endif
