/* One encrypted connection over a non-blocking socket in a libev loop, the same for client and
 * server, for TLS and SMKEX.
 *
 * Owns the link and the socket; holds one bounded queue in each direction. The owner looks at the
 * queues from its progress() and calls tls_conn_kick() after it changed them from anywhere else. A
 * full input queue stops reading (back-pressure), a full output queue is for the owner to respect.
 * A close_notify closes one direction only. Every wait ends: the handshake after its time limit, an
 * open connection after idle_s without a byte. */
#ifndef APPS_TLS_CONN_H
#define APPS_TLS_CONN_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "buf.h"
#include "link.h"

struct tls_conn;

struct tls_conn_ops {
    void (*ready)(void *arg);    /* the handshake is done; once */
    void (*progress)(void *arg); /* bytes came, room came, or the peer's close_notify */
    /* The end, once, and the last call, always from the loop itself: why is NULL after close_notify
     * in both directions or tls_conn_close(). The link can still be asked; the owner calls
     * tls_conn_free(). */
    void (*closed)(void *arg, const struct tls_failure *why);
};

struct tls_conn_limits {
    double handshake_s, idle_s;
};

/* Takes link and fd, also when it fails (NULL: out of memory). Nothing is called before the loop
 * runs. */
struct tls_conn *tls_conn_new(struct ev_loop *loop, struct link *link, int fd,
                              const struct tls_conn_limits *limits, const struct tls_conn_ops *ops,
                              void *arg);
/* May be called from within the owner's own call-backs. */
void tls_conn_free(struct tls_conn *c);

struct link *tls_conn_get0_link(const struct tls_conn *c);
/* From closed(): the link is the caller's now. */
struct link *tls_conn_take_link(struct tls_conn *c);
struct ev_loop *tls_conn_loop(const struct tls_conn *c);
struct buf *tls_conn_in(struct tls_conn *c);
struct buf *tls_conn_out(struct tls_conn *c);
bool tls_conn_is_ready(const struct tls_conn *c);
/* The peer's close_notify was read (bytes may still be in the input queue). */
bool tls_conn_eof(const struct tls_conn *c);
/* The queues were changed from outside progress(). */
void tls_conn_kick(struct tls_conn *c);
/* From within ready(): the SSL is left alone, whatever is asked of the connection, until
 * tls_conn_release(). The owner sees to it that this comes. */
void tls_conn_hold(struct tls_conn *c);
void tls_conn_release(struct tls_conn *c);
/* close_notify once the output queue is empty; reading goes on. */
void tls_conn_shutdown_write(struct tls_conn *c);
/* Writes what is queued and close_notify, ignores what still comes, then closed(NULL). */
void tls_conn_close(struct tls_conn *c);
/* Ends it without close_notify, so that the peer notices the cut; closed() follows. */
void tls_conn_abort(struct tls_conn *c, const char *text);

#endif
