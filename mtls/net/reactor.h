/* Concept: the reactor: file descriptors, timers, the engine lock, and who runs them.
 *
 * Thread and fork rule. Every function here but mtls_reactor_get() and those named _lock is called
 * with the engine lock held; call-backs run with it held, on the reactor thread or in
 * mtls_reactor_dispatch(). The reactor belongs to one process: after fork() the child's
 * mtls_reactor_get() makes a new, empty one. So it does where the program has closed the reactor's
 * descriptors (becoming a daemon, for one): what watches and timers the old one had is never called
 * again and its descriptors are nobody's to close. The thread is started by mtls_reactor_start(),
 * blocks every signal, and is stopped at exit, before libcrypto goes. */
#ifndef MTLS_NET_REACTOR_H
#define MTLS_NET_REACTOR_H

#include <pthread.h>

#include "../core/common.h"

struct mtls_reactor;
struct mtls_watch;
struct mtls_timer;

typedef void mtls_watch_fn(void *arg, uint32_t epoll_events, mtls_tstamp now);
typedef void mtls_timer_fn(void *arg, mtls_tstamp now);

mtls_tstamp mtls_now(void);   /* CLOCK_MONOTONIC, microseconds */
int64_t mtls_wallclock(void); /* seconds since the epoch */

void mtls_engine_lock(void);
void mtls_engine_unlock(void);

/* This process's reactor, made on first use (lock held). NULL: out of memory or descriptors, or
 * stopped. */
struct mtls_reactor *mtls_reactor_get(void);
/* The same without a look at its descriptors, which costs a system call: for those who run within a
 * handshake or an event whose beginning has asked mtls_reactor_get(). */
struct mtls_reactor *mtls_reactor_current(void);
/* Starts the thread unless app_driven; idempotent. Errors: MTLS_ERR_IO, MTLS_ERR_STOPPED. */
MTLS_NODISCARD int mtls_reactor_start(struct mtls_reactor *r, bool app_driven);

/* Watches fd for EPOLLIN/EPOLLOUT/... ; the fd stays the caller's. Errors: MTLS_ERR_NOMEM,
 * MTLS_ERR_IO. */
MTLS_NODISCARD int mtls_watch_new(struct mtls_watch **out, struct mtls_reactor *r, int fd,
                                  uint32_t epoll_events, mtls_watch_fn *fn, void *arg);
MTLS_NODISCARD int mtls_watch_set(struct mtls_watch *w, uint32_t epoll_events);
void mtls_watch_free(
    struct mtls_watch *w); /* before the fd is closed; safe inside any call-back; NULL is fine */

/* In a fork child: frees the memory of its parent's watch, and touches nothing else. */
void mtls_watch_disown(struct mtls_watch *w);

/* The program closed the descriptors of w's reactor, and with them surely w's: its number may be
 * the program's by now. NULL: false. */
bool mtls_watch_lost(const struct mtls_watch *w);

/* A one-shot timer; free-ing or setting it anew inside its call-back is fine. */
MTLS_NODISCARD int mtls_timer_new(struct mtls_timer **out, struct mtls_reactor *r,
                                  mtls_timer_fn *fn, void *arg);
void mtls_timer_set(struct mtls_timer *t, mtls_tstamp at); /* MTLS_TSTAMP_NEVER: off */
void mtls_timer_free(struct mtls_timer *t);                /* NULL is fine */

/* Waits on cond (with the engine lock) until signalled or until; when the application drives the
 * reactor, runs it instead. Returns when anything may have changed. */
void mtls_reactor_wait(struct mtls_reactor *r, pthread_cond_t *cond, mtls_tstamp until);
/* A condition variable on CLOCK_MONOTONIC. */
MTLS_NODISCARD int mtls_cond_init(pthread_cond_t *cond);

/* Has fn run with the lock held, soon, on whatever drives the reactor. mtls_reactor_poke() may be
 * called without the lock, from a signal handler too; not in a vfork child. */
void mtls_reactor_on_poke(void (*fn)(void));
/* Whether more may be ready than the last wait had room for. */
bool mtls_reactor_crowded(const struct mtls_reactor *r);
void mtls_reactor_poke(void);

/* For the application: readable when there is work; and: do the work that is there, do not block.
 * _lock: they take the engine lock themselves. */
int mtls_reactor_fd_lock(void);
int mtls_reactor_dispatch_lock(void);

#endif
