/* Moves bytes between a TLS connection and plain descriptors: a socket, or a pair such as standard
 * input and output. Half-close is kept in both directions, and so is the difference between an end
 * and a cut: a TLS connection that was cut resets the plain socket, a plain socket that was reset
 * ends TLS without close_notify. Nothing is buffered here; the connection's bounded queues are the
 * back-pressure. */
#ifndef APPS_RELAY_H
#define APPS_RELAY_H

#include "tls_conn.h"

struct relay;

/* With rfd == wfd (a socket) the relay owns it; a pair stays the caller's, but wfd is closed at the
 * peer's close_notify. NULL: out of memory (nothing is closed). */
struct relay *relay_new(struct tls_conn *c, int rfd, int wfd);
/* From the connection's progress(). */
void relay_progress(struct relay *r);
/* clean: the connection ended in order; otherwise a plain socket is reset. NULL is allowed. */
void relay_free(struct relay *r, bool clean);
/* Writes without blocking to a socket, pipe, terminal or file, whether it is O_NONBLOCK or not.
 * What write() returns; -1 with EAGAIN when it has to wait. */
ssize_t relay_write_some(int fd, const void *data, size_t len);

#endif
