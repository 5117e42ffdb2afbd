/* Concept: what happens to the engine in a fork child. One owner (the engine) registers one
 * function. */
#ifndef MTLS_NET_FORK_H
#define MTLS_NET_FORK_H

/* Runs in the child, before anything else of ours, with no other thread alive and the engine lock
 * fresh (not held). It must close inherited path-2 descriptors and forget watches and timers
 * without using the reactor: their memory is the child's to leak or free. */
typedef void mtls_fork_child_fn(void);
void mtls_reactor_on_fork_child(mtls_fork_child_fn *fn);

#endif
