/* Concept: one secondary connection of a client: look-up, connect, proxy, bytes. Private to
 * path2_pool.c and path2_conn.c. */
#ifndef MTLS_NET_PATH2_CONN_H
#define MTLS_NET_PATH2_CONN_H

#include "../core/socks5.h"
#include "path2_pool.h"
#include "reactor.h"
#include "resolve.h"

enum conn_state {
    CONN_RESOLVING,
    CONN_CONNECTING,
    CONN_PROXY,
    CONN_OPEN,
    CONN_LINGER,
    CONN_CLOSED
};

struct mtls_path2_conn {
    struct mtls_path2_conn *prev, *next; /* the pool's list */
    enum conn_state state;
    struct mtls_path_spec spec;
    char name[MTLS_HOST_MAX + 1];
    uint16_t port1;
    bool tfo, reuse, proven,
        used; /* proven: its preface came once; used: a claim was made over it */
    struct mtls_path2_claim *claims; /* the pool's, that are on it */
    bool starting;                   /* inside mtls_path2_conn_start(): no call-backs to claims */
    bool in_input; /* on the reactor's stack: mtls_pool_conn_gone() comes at its end */
    struct mtls_addr addrs[MTLS_POOL_ADDRS_MAX], resolver;
    size_t naddr, addr_i;
    int fd, error;
    int lost;     /* what a failed send() took off the socket: the end that is read next */
    size_t early; /* bytes that the SYN carried */
    struct mtls_watch *watch;
    struct mtls_timer *timer;
    struct mtls_resolve *resolve;
    struct mtls_socks5 socks;
    struct mtls_p2c *p2c;
    mtls_tstamp made_at, connected_at, flushed_at;
    struct mtls_path_facts
        facts_then; /* of its socket since it was noted, and when it was taken for another session:
                       a kept connection whose route changed is dropped */
    bool noted;
};

/* Starts look-up or connect; an immediate failure leaves state CONN_CLOSED and error set, without
 * call-backs. */
void mtls_path2_conn_start(struct mtls_path2_conn *c, const struct mtls_path2_request *req,
                           mtls_tstamp now);
/* Writes what p2c has, as far as the socket takes it. */
void mtls_path2_conn_flush(struct mtls_path2_conn *c, mtls_tstamp now);
/* The same for CONFIRM: on a connection that is not kept, and that no other claim is open on, our
 * end leaves in the same segment. */
void mtls_path2_conn_last_word(struct mtls_path2_conn *c, mtls_tstamp now);
/* Sets the idle timer by whether claims are open. */
void mtls_path2_conn_idle(struct mtls_path2_conn *c, mtls_tstamp now);
/* No claim is open and none will be: ends it in order. A close with unread data would reset the
 * connection and could take CONFIRM away from the server [CNF-6]: our side is shut down, the
 * server's end is awaited for a moment. */
void mtls_path2_conn_linger(struct mtls_path2_conn *c, mtls_tstamp now);
/* Ends it: every claim ends with error. Idempotent. */
void mtls_path2_conn_close(struct mtls_path2_conn *c, int error, mtls_tstamp now);
/* Asks its route for the first time: behind HELLO, or where that was announced, lest the handshake
 * wait for the engine lock with its ClientHello, when mtls_path2_claim_note() says so; at the
 * latest when another session wants the connection. Nothing is judged by it but a change: the
 * decision asks the live socket. [PATH-9], [REU-3] */
void mtls_path2_conn_note(struct mtls_path2_conn *c);
/* Facts of its live socket now. */
void mtls_path2_conn_facts(const struct mtls_path2_conn *c, struct mtls_path_facts *facts);
/* Releases descriptors, watch, timer, look-up and memory; the connection is out of the pool's list
 * already. */
void mtls_path2_conn_free(struct mtls_path2_conn *c);

/* path2_pool.c: a claim on it waits for its session to begin. */
bool mtls_pool_conn_announced(const struct mtls_path2_conn *c);
/* path2_pool.c: the connection has closed, and nothing on the stack below uses it. */
void mtls_pool_conn_gone(struct mtls_path2_conn *c);

#endif
