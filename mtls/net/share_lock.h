/* Concept: a lock in memory that processes share and that may be hostile: one word, no pointer.
 * Nobody is waited for longer than LOCK_STEAL: whoever has the lock and shows no sign of life for
 * so long (it died, was stopped, or means harm) loses it, and what it was about is repaired. So a
 * process may find at the end that it has lost it; it must therefore not matter for its own safety
 * what the others write meanwhile (core/directory). */
#ifndef MTLS_NET_SHARE_LOCK_H
#define MTLS_NET_SHARE_LOCK_H

#include "../core/common.h"

enum {
    MTLS_LOCK_STEAL_US = 50000,
};

struct mtls_lock { /* all zero: free */
    uint32_t word;
    uint32_t dirty; /* somebody has lost it in the middle of a change */
};

/* ticket: of this process and this call, not 0, below 2^31. wait: how long at most, us; 0: not at
 * all. beat: rises while a holder is at work, may be NULL. False: it was not to be had. */
bool mtls_lock_take(struct mtls_lock *lock, uint32_t ticket, mtls_tstamp wait,
                    uint32_t (*beat)(const void *arg), const void *arg);
void mtls_lock_give(struct mtls_lock *lock, uint32_t ticket);
/* With the lock held: whether there is something to repair; done: it is taken for repaired. */
bool mtls_lock_dirty(struct mtls_lock *lock, bool done);

#endif
