/* Concept: what happens to the engine in a fork child, and at exit. One owner (the engine)
 * registers the functions. */
#ifndef MTLS_NET_FORK_H
#define MTLS_NET_FORK_H

/* Runs in the child, before anything else of ours, with no other thread alive and the engine lock
 * fresh (not held). It must close inherited path-2 descriptors and forget watches and timers
 * without using the reactor: their memory is the child's to leak or free. */
typedef void mtls_fork_child_fn(void);
void mtls_reactor_on_fork_child(mtls_fork_child_fn *fn);

/* Runs at exit with the engine lock held, when the reactor's thread has ended. */
typedef void mtls_exit_fn(void);
void mtls_reactor_on_exit(mtls_exit_fn *fn);

#endif
