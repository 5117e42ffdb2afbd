/* Concept: a path-2 connection at the server, as path2_service.c (sockets) and path2_workers.c
 * (other processes) know it: accepted here, or the guest of another process's connection, without a
 * socket. Nobody else includes it. Engine lock held for every call. */
#ifndef MTLS_NET_PATH2_CONNS_H
#define MTLS_NET_PATH2_CONNS_H

#include "../core/path2_shared.h"
#include "../core/pending.h"
#include "reactor.h"

struct conn {
    struct conn *prev, *next;
    int fd; /* -1: a guest */
    bool closing, in_event;
    struct mtls_addr local, peer;
    struct mtls_watch *watch;
    struct mtls_p2s_conn *p2s;

    /* Known to other processes: */
    struct mtls_hash_node node;
    bool hashed;
    uint64_t serial;    /* the holder's number of it; 0: not told to anybody */
    mtls_member holder; /* of a guest; 0: this process */
    uint32_t id;        /* of a guest: its claim */
    bool fault;         /* of a guest: it broke a rule */
    bool unasked;       /* of a guest: the holder knows, or is gone */
};

/* path2_service.c */

struct mtls_p2s *mtls_conns_p2s(void);
struct conn *mtls_conns_first(void);
void mtls_conn_add(struct conn *c);
void mtls_conn_flush(struct conn *c);
/* Soon: from inside a call-back, too. */
void mtls_conn_close(struct conn *c);
void mtls_conn_free(struct conn *c);
MTLS_NODISCARD int mtls_conn_watch(struct conn *c);
/* path2_adopt.c: a socket that another process has accepted, with what is open on it; takes fd in
 * any case. */
MTLS_NODISCARD int mtls_conn_adopt(int fd, const struct mtls_conn_state *state, struct conn **out,
                                   mtls_tstamp now);
/* Reads what is there. c may be freed. */
void mtls_conn_read(struct conn *c, mtls_tstamp now);
/* Whoever was woken for a connection may have died before it took it. */
void mtls_conns_accept(mtls_tstamp now);
void mtls_conns_arm(void);
/* What stands for the index-th listener in every process that has inherited it; 0: unknown;
 * MTLS_NO_LISTENER: there are not so many. */
#define MTLS_NO_LISTENER UINT64_MAX
uint64_t mtls_conns_listener_id(size_t index);
/* The listeners are watched again. */
void mtls_conns_return(mtls_tstamp now);

#endif
