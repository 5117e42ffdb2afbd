/* Concept: descriptors that the reactor's thread closes behind the engine lock. The kernel takes
 * its time over the end of a TCP connection, and the handshake that this connection has just
 * confirmed is about to ask for the lock. */
#ifndef MTLS_NET_CLOSING_H
#define MTLS_NET_CLOSING_H

/* Closes fd: between begin and unlock when the lock is given up, else at once. Lock held. */
void mtls_closing_add(int fd);

/* The reactor's thread alone, around what it does with the lock held; unlock gives the lock up. */
void mtls_closing_begin(void);
void mtls_closing_unlock(void);

/* fork() waits until what is being closed is closed, lest a child inherit it: behind the engine
 * lock, before it is given up. */
void mtls_closing_fork_prepare(void);
void mtls_closing_fork_parent(void);
void mtls_closing_fork_child(void);

#endif
