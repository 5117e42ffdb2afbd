/* Concept: how a held handshake waits, and how it is woken, for each kind of application: a
 * blocking socket sleeps on the session's condition variable; a non-blocking one gets "retry" while
 * nothing has come, and then while SO_RCVLOWAT keeps its descriptor silent until the reactor lowers
 * it again; an SSL_MODE_ASYNC one
 * is paused; without a descriptor the wait blocks. */
#include "gate.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/async.h>

#include "glue.h"
#include "interpose.h"

enum {
    FD_HIGH = 100, /* out of the way of programs that count on low numbers */
    LOWAT_FIRST = 64 * 1024,
    LOWAT_MAX = 256 * 1024,
    RECALL_US = 500, /* called again so soon: the application spins */
    NAP_FIRST_US = 1000,
    NAP_MAX_US = 16000,
    NAP_BUDGET_US = 8000,  /* of one process in ... */
    NAP_WINDOW_US = 20000, /* ... this long: an event loop with many such peers is not stalled */
    NAP_MANY_US = 100,     /* over the budget, and there are several such peers */
    SLICE_US = 100000,     /* a blocking wait looks at its socket so often */
    LOOK_US = 5000, /* or an eighth of the time so far: whether the first record that has come may
                       stay in the kernel */
    WRITE_WAIT_US = 50000, /* negotiated, non-blocking application at the write: so long at most */
};

static struct { /* engine lock */
    mtls_tstamp window_at;
    uint64_t used;
    const struct mtls_session *last; /* only compared */
} naps;

/* What the application waits on: the descriptor that libssl reads from, else the one we were told.
 */
static int wake_fd(const struct mtls_session *s)
{
    int fd = SSL_get_rfd(s->ssl);

    return fd >= 0 ? fd : s->given_fd;
}

static bool is_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

/* Only there does SO_RCVLOWAT silence a descriptor, and wake the application when it is lowered:
 * not on pipes and local sockets. */
static bool is_tcp(int fd)
{
    int domain = 0, type = 0;
    socklen_t len = sizeof(domain);

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) != 0)
        return false;
    len = sizeof(type);
    return (domain == AF_INET || domain == AF_INET6) &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

bool mtls_gate_is_nonblocking(const struct mtls_session *s)
{
    int fd = wake_fd(s);

    return fd >= 0 && is_nonblocking(fd);
}

/* Of a socket, never given again; 0: fd is none. */
static uint64_t cookie_of(int fd)
{
    uint64_t cookie = 0;
    socklen_t len = sizeof(cookie);

    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

static int poll_now(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 0) > 0 ? p.revents : 0;
}

/* A flight is read in many small pieces: what has arrived is asked once. */
static void count_arrived(struct mtls_gate *g, int fd)
{
    int n = 0;

    g->arrived = ioctl(fd, FIONREAD, &n) == 0 && n > 0 ? (size_t)n : 0;
}

/* Whether a read of len bytes finds them all there, whatever the socket is set to. */
static bool take_arrived(struct mtls_gate *g, size_t len)
{
    bool there = g->arrived >= len;

    g->arrived = there ? g->arrived - len : 0;
    return there;
}

bool mtls_gate_await_data(struct mtls_session *s, size_t len)
{
    mtls_tstamp now = mtls_now();
    int fd = SSL_get_rfd(s->ssl),
        rc = 1; /* the socket that is read from, not one we were only told of */
    struct pollfd p = {.fd = fd, .events = POLLIN};

    if (now >= s->hs->deadline_at)
        return false;
    if (s->gate->copy.fd >= 0 || s->gate->cookie != 0) /* the deadline shuts the socket down: no
                                                          read outlasts it */
        return true;
    if (fd < 0 || take_arrived(s->gate, len) || BIO_pending(BIO_next(s->gate->rfilter)) > 0)
        return true;
    if (!is_nonblocking(fd)) {
        do
            rc = poll(&p, 1, (int)((s->hs->deadline_at - now + 999) / 1000));
        while (rc < 0 && errno == EINTR && (now = mtls_now()) < s->hs->deadline_at);
    }
    if (!s->server && BIO_method_type(BIO_next(s->gate->rfilter)) == BIO_TYPE_SOCKET) {
        count_arrived(s->gate, fd);
        (void)take_arrived(s->gate, len);
    }
    return rc != 0;
}

/* How a read that may not pass yet waits. */
enum way { WAY_BLOCK, WAY_LOWAT, WAY_RETRY };

/* Apache's BIOs wait for data in their own read, whatever the socket is set to; its mod_ssl takes
 * "retry" for the end of the connection. */
static bool waits_by_itself(const BIO *next)
{
    const char *name = BIO_method_name(next);

    return name != NULL && strncmp(name, "APR ", 4) == 0;
}

/* Server: nothing has come to the socket that libssl reads from. There is nothing to hold then;
 * what comes wakes the application as ever, and its next read asks again, with CONFIRM here as a
 * rule. For the deadline the socket is remembered. */
static bool nothing_came(struct mtls_session *s, int fd)
{
    struct mtls_gate *g = s->gate;

    if (!s->server || g->gated || g->held || fd != SSL_get_rfd(s->ssl) || poll_now(fd) != 0)
        return false;
    if (g->cookie == 0) {
        g->cookie = cookie_of(fd);
        g->shut_fd = fd;
    }
    return g->cookie != 0;
}

/* Data that was taken out of the kernel already cannot wake the application again, so it blocks;
 * before that, a program with memory BIOs must get control back to send what libssl has written. */
static enum way way_of(struct mtls_session *s, int fd)
{
    BIO *next = BIO_next(s->gate->rfilter);
    int pending = BIO_pending(next);

    /* What lay in a server's BIO behind the ClientHello cannot be the second flight: it wakes
     * nobody, and keeps nobody. */
    if (s->server && s->gate->junk < 0)
        s->gate->junk = pending;
    if (waits_by_itself(next) || (pending > 0 && !(s->server && pending <= s->gate->junk)))
        return WAY_BLOCK;
    if (fd >= 0 && is_nonblocking(fd)) {
        if (nothing_came(s, fd))
            return WAY_RETRY;
        if (is_tcp(fd))
            return WAY_LOWAT;
        /* What comes later wakes the application by itself. */
        return (poll_now(fd) & POLLIN) == 0 ? WAY_RETRY : WAY_BLOCK;
    }
    return BIO_find_type(next, BIO_TYPE_MEM) != NULL || BIO_find_type(next, BIO_TYPE_BIO) != NULL
               ? WAY_RETRY
               : WAY_BLOCK;
}

/* false: the application has closed its descriptor, or ours. */
static bool lowat_set(struct mtls_gate *g, int value)
{
    int fd = mtls_copy_get(&g->copy);

    g->lowat = value;
    return fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof(value)) == 0;
}

/* Nothing is owed to whoever has closed it. One that has closed our copy alone could not be woken
 * any more: its handshake ends. */
static void lost(struct mtls_copy *c, bool of_open)
{
    struct mtls_gate *g = (void *)((char *)c - offsetof(struct mtls_gate, copy));

    if (of_open && g->gated)
        shutdown(c->of, SHUT_RD);
    g->gated = g->waiting = g->held = false;
}

static bool gate_on(struct mtls_gate *g, int fd, int lowat)
{
    socklen_t len = sizeof(g->saved_lowat);

    if (mtls_copy_get(&g->copy) < 0 && !mtls_copy_make(&g->copy, fd, lost))
        return false;
    g->gated = getsockopt(g->copy.fd, SOL_SOCKET, SO_RCVLOWAT, &g->saved_lowat, &len) == 0 &&
               lowat_set(g, lowat);
    return g->gated;
}

static void ungate(struct mtls_gate *g)
{
    if (g->gated)
        (void)lowat_set(g, g->saved_lowat > 0 ? g->saved_lowat : 1);
    g->gated = false;
}

/* A silent peer's handshake ends too. Without a copy the number may be another's by now. */
static void shut_read(struct mtls_gate *g)
{
    int fd = mtls_copy_get(&g->copy);

    if (fd >= 0) {
        shutdown(fd, SHUT_RD);
        return;
    }
    fd = g->cookie != 0 ? fcntl(g->shut_fd, F_DUPFD_CLOEXEC, FD_HIGH) : -1;
    if (fd < 0) { /* no number is free, perhaps: a silent peer's handshake ends all the same */
        if (g->cookie != 0 && cookie_of(g->shut_fd) == g->cookie)
            shutdown(g->shut_fd, SHUT_RD);
        return;
    }
    if (cookie_of(fd) == g->cookie)
        shutdown(fd, SHUT_RD);
    close(fd);
}

void mtls_gate_release(struct mtls_session *s, bool fail)
{
    struct mtls_gate *g = s->gate;
    uint64_t one = 1;
    ssize_t n;

    if (g != NULL) {
        g->waiting = false;
        (void)mtls_copy_get(&g->copy);
        (void)mtls_interpose_hold(s, MTLS_INTERPOSE_FREE); /* before the descriptor wakes */
        ungate(g);
        if (fail)
            shut_read(g);
        if (g->async_fd >= 0) {
            n = write(g->async_fd, &one, sizeof(one));
            (void)n;
        }
    }
    if (s->hs != NULL)
        pthread_cond_broadcast(&s->hs->changed);
}

void mtls_gate_settle(struct mtls_session *s)
{
    struct mtls_gate *g = s->gate;

    g->waiting = false;
    (void)mtls_interpose_hold(s, MTLS_INTERPOSE_FREE);
    if (s->generation == mtls_engine_generation()) /* a child shares the parent's socket */
        ungate(g);
    mtls_copy_close(&g->copy);
}

/* ---- a client with memory BIOs, before the server's flight has come ----
 * What the application has taken out of the kernel cannot wake it again. So the whole flight stays
 * there until path 2 has answered, whenever it comes: SO_RCVLOWAT is raised behind the ClientHello.
 * A HelloRetryRequest, an alert or another protocol must not wait for path 2, so the reactor looks.
 */

static bool keeps_flight(const struct mtls_session *s)
{
    const struct mtls_gate *g = s->gate;
    const struct mtls_handshake *hs = s->hs;
    BIO *next = BIO_next(g->rfilter);

    return !g->held && !g->direct && !g->flight_open && g->rhave == 0 && g->rbody == 0 &&
           hs->paths_started && !hs->record_offered && s->given_fd >= 0 &&
           SSL_get_rfd(s->ssl) < 0 &&
           (BIO_find_type(next, BIO_TYPE_MEM) != NULL ||
            BIO_find_type(next, BIO_TYPE_BIO) != NULL) &&
           BIO_pending(next) <= 0 && is_nonblocking(s->given_fd) && is_tcp(s->given_fd);
}

static mtls_tstamp look_at(const struct mtls_session *s, mtls_tstamp now, mtls_tstamp latest)
{
    uint64_t pause = (now - s->times[MTLS_STEP_CLIENT_HELLO]) / 8;
    mtls_tstamp at = now + (pause > LOOK_US ? pause : LOOK_US);

    return at < latest ? at : latest;
}

void mtls_gate_keep_flight(struct mtls_session *s, bool server_hello)
{
    struct mtls_gate *g = s->gate;
    bool keep = !server_hello && s->timer != NULL && keeps_flight(s);
    struct mtls_decision d;
    mtls_tstamp now;

    if (!keep && !g->keeping)
        return;
    mtls_engine_lock();
    now = mtls_now();
    g->looking = keep && (g->looking || !g->keeping);
    g->keeping = s->hs->before_flight = keep;
    if (keep) {
        d = mtls_session_evaluate(s, false, now);
        if (d.verdict != MTLS_WAIT || (!g->gated && !gate_on(g, s->given_fd, LOWAT_FIRST)))
            g->keeping = s->hs->before_flight = false;
        else
            mtls_timer_set(s->timer, g->looking ? look_at(s, now, d.next) : d.next);
    }
    g->waiting = g->keeping;
    if (!g->keeping)
        ungate(g);
    mtls_engine_unlock();
}

/* Whether what has come may stay where it is; *next is when to look again. */
static bool flight_stays(struct mtls_session *s, mtls_tstamp now, mtls_tstamp *next)
{
    struct mtls_gate *g = s->gate;
    uint8_t head[MTLS_HELLO_PEEK];
    ssize_t n;

    if (!g->keeping || !g->looking)
        return true;
    n = mtls_copy_get(&g->copy) < 0 ? 0
                                    : recv(g->copy.fd, head, sizeof(head), MSG_PEEK | MSG_DONTWAIT);
    switch (mtls_gate_peek(head, n > 0 ? (size_t)n : 0)) {
    case MTLS_PEEK_MORE:
        *next = look_at(s, now, *next);
        return true;
    case MTLS_PEEK_SERVER_HELLO:
        g->looking = false;
        g->kept = true;
        return true;
    default:
        return false;
    }
}

void mtls_session_wake(struct mtls_session *s, mtls_tstamp now)
{
    struct mtls_decision d;

    if (s->hs == NULL) /* decided */
        return;
    pthread_cond_broadcast(&s->hs->changed);
    if (s->gate == NULL || !s->gate->waiting)
        return;
    d = mtls_session_evaluate(s, false, now);
    if (mtls_interpose_idle(s) && now < s->hs->deadline_at) {
        mtls_timer_set(s->timer, s->hs->deadline_at);
        return;
    }
    if (d.verdict == MTLS_WAIT && flight_stays(s, now, &d.next))
        mtls_timer_set(s->timer, d.next);
    else
        mtls_gate_release(s, d.verdict == MTLS_FAILED);
}

/* ---- reads held in the kernel (interpose.h); path 1 is given_fd ---- */

/* A client's flight is not complete without its last byte, a server needs nothing of what comes. */
void mtls_gate_hold_reads(struct mtls_session *s)
{
    int how = s->server ? MTLS_INTERPOSE_ALL : MTLS_INTERPOSE_TAIL;

    if (s->server && s->phase < MTLS_PHASE_ANSWERED) /* a HelloRetryRequest, or plain */
        return;
    if (!is_nonblocking(s->given_fd) || BIO_pending(BIO_next(s->gate->rfilter)) > 0)
        return;
    mtls_engine_lock();
    s->gate->waiting = mtls_interpose_hold(s, how);
    if (s->gate->waiting && !gate_on(s->gate, s->given_fd, s->server ? LOWAT_FIRST : 2))
        s->gate->waiting = mtls_interpose_hold(s, MTLS_INTERPOSE_FREE);
    if (s->gate->waiting) {
        s->hs->before_flight = !s->server;
        mtls_session_wake(s, mtls_now());
    }
    mtls_engine_unlock();
}

bool mtls_gate_holds_reads(struct mtls_session *s)
{
    bool held;

    mtls_engine_lock();
    if (s->hs->answered != MTLS_OFFER_UNKNOWN || s->hs->old_tls)
        s->hs->before_flight = false;
    held = s->gate->held;
    if (held && s->gate->waiting)
        mtls_session_wake(s, mtls_now());
    held = held && s->gate->held;
    mtls_engine_unlock();
    return held;
}

/* ---- the ways to wait; the engine lock is held on entry and exit ---- */

static void async_clear(ASYNC_WAIT_CTX *ctx, const void *key, OSSL_ASYNC_FD fd, void *data)
{
    close(fd);
}

/* The application set SSL_MODE_ASYNC and libssl runs in a job: SSL_ERROR_WANT_ASYNC, with our
 * descriptor. */
static bool wait_async(struct mtls_session *s)
{
    ASYNC_JOB *job = ASYNC_get_current_job();
    ASYNC_WAIT_CTX *ctx = job != NULL ? ASYNC_get_wait_ctx(job) : NULL;
    int fd;

    if (ctx == NULL || (SSL_get_mode(s->ssl) & SSL_MODE_ASYNC) == 0)
        return false;
    fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0 || ASYNC_WAIT_CTX_set_wait_fd(ctx, s, fd, NULL, async_clear) != 1) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    s->gate->async_fd = fd;
    s->gate->waiting = true;
    mtls_engine_unlock();
    (void)ASYNC_pause_job();
    mtls_engine_lock();
    s->gate->async_fd = -1;
    ASYNC_WAIT_CTX_clear_fd(ctx, s); /* does not call async_clear() */
    close(fd);
    return true;
}

static void wait_blocking(struct mtls_session *s, mtls_tstamp until, mtls_tstamp now)
{
    mtls_tstamp slice = now + SLICE_US;

    s->gate->waiting = true;
    mtls_reactor_wait(mtls_reactor_current(), &s->hs->changed, until < slice ? until : slice);
    s->gate->waiting = false;
}

/* The kernel reports readiness in spite of SO_RCVLOWAT when the window is full or the peer sent
 * FIN: level-triggered programs would spin. */
static void nap(struct mtls_session *s, mtls_tstamp now)
{
    struct mtls_gate *g = s->gate;
    uint64_t us = (uint64_t)NAP_FIRST_US << (g->naps < 4 ? g->naps : 4);

    if (g->gated && g->lowat < LOWAT_MAX)
        (void)lowat_set(g, g->lowat * 4 < LOWAT_MAX ? g->lowat * 4 : LOWAT_MAX);
    if (now - naps.window_at > NAP_WINDOW_US) {
        naps.window_at = now;
        naps.used = 0;
    }
    us = us > NAP_MAX_US ? NAP_MAX_US : us;
    if (naps.used + us > NAP_BUDGET_US && g->naps > 0)
        us = naps.last == s ? NAP_FIRST_US : NAP_MANY_US;
    naps.last = s;
    naps.used += us;
    g->naps++;
    mtls_reactor_wait(mtls_reactor_current(), &s->hs->changed, now + us);
}

static bool peer_gone(int ready)
{
    return (ready & POLLERR) != 0 || (ready & (POLLHUP | POLLIN)) == (POLLHUP | POLLIN);
}

/* The application calls again at once, or its descriptor is readable in spite of SO_RCVLOWAT. */
static bool spins(const struct mtls_gate *g, int fd, mtls_tstamp now)
{
    return g->last_call != 0 &&
           (now - g->last_call < RECALL_US || (g->gated && (poll_now(fd) & POLLIN) != 0));
}

static enum mtls_hold failed(struct mtls_decision *d, int reason)
{
    d->verdict = MTLS_FAILED;
    d->reason = reason;
    return MTLS_HOLD_FAIL;
}

static enum mtls_hold retry(struct mtls_session *s, enum way way)
{
    s->gate->last_call = mtls_now();
    s->gate->waiting = way == WAY_LOWAT || s->gate->held || s->gate->cookie != 0;
    return MTLS_HOLD_RETRY;
}

/* Why a wait that blocks must be a short one: the application runs an event loop. 0: it need not.
 */
static int brief(const struct mtls_session *s, int fd, bool at_write)
{
    if (fd < 0 || !is_nonblocking(fd) || !is_tcp(fd) || waits_by_itself(BIO_next(s->gate->rfilter)))
        return 0;
    if (at_write)
        return s->hs->answered == MTLS_OFFER_YES ? MTLS_ERR_PROOF_MISSING : 0;
    return s->server ? MTLS_ERR_GATE_FLOOD : 0; /* the peer made the gated descriptor readable */
}

/* The peer has answered: its CONFIRM was sent before, and is in the kernel as a rule. */
static void read_path2(struct mtls_session *s, mtls_tstamp now)
{
    if (s->server && s->service != NULL)
        mtls_service_read(s->hs->join, now);
}

/* Data has come before the decision: it stays in the kernel from here on. */
static bool gate_first(struct mtls_gate *g, int fd)
{
    g->last_call = 0; /* it was called for a reason */
    return gate_on(g, fd, LOWAT_FIRST);
}

static enum mtls_hold hold_loop(struct mtls_session *s, bool at_write, struct mtls_decision *d)
{
    mtls_tstamp began = mtls_now(), now, until;
    int fd = wake_fd(s);
    enum way way = WAY_BLOCK;
    bool waits = false, napped = false, looked = false;
    int hurry, ready;

    for (;;) {
        now = mtls_now();
        *d = mtls_session_evaluate(s, at_write, now);
        if (d->verdict == MTLS_FAILED)
            return MTLS_HOLD_FAIL;
        if (d->verdict != MTLS_WAIT)
            return MTLS_HOLD_PASS;
        if (!waits && !at_write) /* asked only now: most calls need not wait */
            way = way_of(s, fd);
        waits = true;
        until = d->next < s->hs->deadline_at ? d->next : s->hs->deadline_at;
        if (s->timer != NULL)
            mtls_timer_set(s->timer, until);
        if (mtls_reactor_current() == NULL)
            return failed(d, MTLS_ERR_STOPPED);
        if (wait_async(s))
            continue;
        ready = way == WAY_LOWAT ? poll_now(fd) : 0;
        if (peer_gone(ready))
            return failed(d, MTLS_ERR_PEER_CLOSED);
        if (way == WAY_LOWAT && !s->gate->gated && !looked) {
            read_path2(s, now);
            looked = true;
            continue;
        }
        if (way == WAY_LOWAT && !s->gate->gated && !gate_first(s->gate, fd))
            return failed(
                d, MTLS_ERR_LIMIT); /* out of descriptors: an event loop is not to be blocked */
        if (way != WAY_BLOCK) {
            if (napped || !spins(s->gate, fd, now))
                return retry(s, way);
            nap(s, now); /* gives up the lock: what is known now must be judged again */
            napped = true;
            continue;
        }
        hurry = brief(s, fd, at_write);
        if (hurry != 0 && now - began >= WRITE_WAIT_US)
            return failed(d, hurry);
        if (hurry != 0 && until > began + WRITE_WAIT_US)
            until = began + WRITE_WAIT_US;
        wait_blocking(s, until, now);
        if (!at_write && fd >= 0 && (poll_now(fd) & (POLLERR | POLLHUP)) != 0 && is_tcp(fd))
            return failed(d, MTLS_ERR_PEER_CLOSED);
    }
}

enum mtls_hold mtls_gate_hold(struct mtls_session *s, bool at_write, struct mtls_decision *d)
{
    enum mtls_hold hold;
    int err;

    mtls_engine_lock();
    s->gate->waiting = false;
    hold = hold_loop(s, at_write, d);
    if (hold == MTLS_HOLD_PASS && at_write && d->verdict == MTLS_VERIFIED) {
        err = mtls_client_confirm(s); /* the same lock: what was judged is what is confirmed */
        if (err != 0)
            hold = failed(d, err);
    }
    if (hold != MTLS_HOLD_RETRY) {
        s->gate->waiting = false;
        (void)mtls_interpose_hold(s, MTLS_INTERPOSE_FREE);
        ungate(s->gate);
    }
    mtls_engine_unlock();
    if (hold == MTLS_HOLD_RETRY) /* without the lock: it runs code of the application */
        mtls_interpose_again(s);
    return hold;
}
