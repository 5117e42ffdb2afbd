/* Concept: copies of the application's descriptors (dup), for the reactor: the number may be closed
 * and used again while a handshake waits. Where the preload library sees the application's close(),
 * a copy does not outlive its original, and is not used any more once the application has closed
 * the copy itself (as one that closes what it does not know).
 *
 * Engine lock held for every call but mtls_copies_closed(). */
#ifndef MTLS_OSSL_COPY_H
#define MTLS_OSSL_COPY_H

#include <stdbool.h>
#include <stdint.h>

struct mtls_copy {
    int fd; /* -1: none */
    int of;
    uint32_t fd_closes, of_closes; /* how often each number had been closed */
    struct mtls_copy *next, **link;
    /* fd is -1 now. of_open: the application has closed the copy, not the original. NULL: nothing
     * to do. */
    void (*lost)(struct mtls_copy *c, bool of_open);
};

/* c->fd must be -1. false: out of descriptors. */
bool mtls_copy_make(struct mtls_copy *c, int of, void (*lost)(struct mtls_copy *c, bool of_open));
/* The copy's descriptor, -1: there is none any more. */
int mtls_copy_get(struct mtls_copy *c);
void mtls_copy_close(struct mtls_copy *c);
/* Of a fork child late.c hears by this one too. */
void mtls_copies_on_fork(void);

/* The application is about to close this descriptor. Async-signal-safe, no lock: the reactor looks
 * after the copies at once. */
void mtls_copies_closed(int fd);

#endif
