/* Concept: how a connection waits for path 2, and is woken. A blocking socket sleeps on the
 * connection's condition; a non-blocking one is made silent by SO_RCVLOWAT while path 1 has unread
 * bytes - the client leaves the last byte of ANSWER in the kernel, to the server the client's
 * Finished comes behind CONFIRM - and the reactor lowers it again. */
#include "internal.h"

#include <poll.h>
#include <sys/socket.h>

enum {
    LOWAT_CLIENT = 2,
    LOWAT_SERVER = 64 * 1024,
    LOWAT_MAX = 256 * 1024,
    NAP_US = 5000,    /* readable in spite of SO_RCVLOWAT: a level-triggered program would spin */
    SLICE_US = 100000 /* a blocking wait looks at its socket so often */
};

static void lowat(struct smkex *s, int value)
{
    (void)!setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof(value));
}

static int current_lowat(const struct smkex *s)
{
    int value = 1;
    socklen_t len = sizeof(value);

    (void)!getsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &value, &len);
    return value;
}

void smkex_unhold(struct smkex *s, bool fail)
{
    s->waiting = false;
    if (s->gated)
        lowat(s, s->saved_lowat > 0 ? s->saved_lowat : 1);
    s->gated = false;
    if (fail && s->fd >= 0)
        shutdown(s->fd, SHUT_RD); /* whoever waits for a silent peer is woken */
    pthread_cond_broadcast(&s->changed);
}

static short events_now(const struct smkex *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLIN | POLLRDHUP};

    return poll(&p, 1, 0) > 0 ? p.revents : 0;
}

static int hold_blocking(struct smkex *s, mtls_tstamp until, mtls_tstamp now)
{
    mtls_tstamp slice = now + SLICE_US;

    mtls_reactor_wait(mtls_reactor_get(), &s->changed, until < slice ? until : slice);
    return 0;
}

static int hold_silent(struct smkex *s, short events, mtls_tstamp now)
{
    int value;

    if (!s->gated) {
        s->saved_lowat = current_lowat(s);
        lowat(s, s->server ? LOWAT_SERVER : LOWAT_CLIENT);
        s->gated = true;
    } else if ((events & POLLIN) != 0) {
        value = current_lowat(s) * 4;
        if (s->server && value <= LOWAT_MAX)
            lowat(s, value);
        mtls_reactor_wait(mtls_reactor_get(), &s->changed, now + NAP_US);
    }
    s->waiting = true;
    return SMKEX_WANT_READ;
}

/* A client that has sent all it had may have closed, but not without its Finished; a server's end
 * before the decision is a failure. */
static bool peer_gone(const struct smkex *s, short events)
{
    char byte;

    if ((events & (POLLERR | POLLHUP)) != 0)
        return true;
    return (events & POLLRDHUP) != 0 &&
           (!s->server || recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0);
}

int smkex_hold(struct smkex *s, mtls_tstamp until)
{
    mtls_tstamp now = mtls_now();
    short events = events_now(s);

    if (mtls_reactor_get() == NULL)
        return MTLS_ERR_STOPPED;
    if (peer_gone(s, events))
        return MTLS_ERR_PEER_CLOSED;
    mtls_timer_set(s->timer, until < s->deadline_at ? until : s->deadline_at);
    return smkex_is_blocking(s) ? hold_blocking(s, until, now) : hold_silent(s, events, now);
}

/* Whether a held client has something to do now. */
static bool undecided(struct smkex *s, mtls_tstamp now)
{
    struct mtls_decision d;

    if (s->over != NULL) {
        mtls_tstamp until = smkex_over_sleeps(s);

        if (now < until)
            mtls_timer_set(s->timer, until < s->deadline_at ? until : s->deadline_at);
        return now < until && now < s->deadline_at;
    }
    if (s->server)
        return !s->confirmed && now < s->deadline_at;
    d = smkex_client_evaluate(s, false, now);
    if (d.verdict == MTLS_WAIT)
        mtls_timer_set(s->timer, d.next < s->deadline_at ? d.next : s->deadline_at);
    return d.verdict == MTLS_WAIT;
}

void smkex_wake(struct smkex *s, mtls_tstamp now)
{
    pthread_cond_broadcast(&s->changed);
    if (s->waiting && !undecided(s, now))
        smkex_unhold(s, now >= s->deadline_at);
    else if (!s->waiting && (now >= s->deadline_at || (s->silent && now >= s->grace_end_at)))
        smkex_unhold(s, true);
}
