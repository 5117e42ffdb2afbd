/* One encrypted connection over a non-blocking socket in a libev loop. */
#include "tls_conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "linger.h"

#define ROUNDS 8 /* of one connection before the others have their turn */

struct tls_conn {
    struct ev_loop *loop;
    struct link *link;
    int fd;
    const struct tls_conn_ops *ops;
    void *arg;
    struct tls_conn_limits limits;
    struct tls_failure failure;
    struct buf in, out;
    ev_io io;
    ev_timer timer;         /* the handshake's end, later the idle check */
    ev_timer soon;          /* another turn in the next round of the loop */
    ev_tstamp last;         /* of the last byte either way */
    int want;               /* EV_READ, EV_WRITE: what the link waits for */
    bool busy, again, dead; /* within pump(); call it once more; freed meanwhile */
    bool ready, eof;
    bool held;                            /* the SSL belongs to somebody else for now */
    bool end_write, write_ended, closing; /* asked for; close_notify sent; input no longer wanted */
    bool cut;                             /* reading failed: told after what came before */
    bool failed, closed_told;
};

static void pump(struct tls_conn *c);

static void fail(struct tls_conn *c, enum tls_failure_kind kind, const char *text)
{
    if (c->failed)
        return;
    c->failed = true;
    c->failure.kind = kind;
    snprintf(c->failure.text, sizeof c->failure.text, "%s", text);
}

/* After a call of the link that did not succeed: notes what it waits for. */
static void waits(struct tls_conn *c, enum link_result result, const struct tls_failure *why)
{
    if (result == LINK_WANT_READ) {
        c->want |= EV_READ;
    } else if (result == LINK_WANT_WRITE) {
        c->want |= EV_WRITE;
    } else if (!c->failed) {
        c->failed = true;
        c->failure = *why;
        if (result == LINK_END) {
            c->failure.kind = TLS_FAILURE_NET;
            snprintf(c->failure.text, sizeof c->failure.text, "connection was closed");
        }
    }
}

static bool handshake(struct tls_conn *c)
{
    struct tls_failure why = {0};
    enum link_result result = link_handshake(c->link, &why);

    if (result != LINK_OK) {
        waits(c, result, &why);
        return false;
    }
    c->ready = true;
    c->last = ev_now(c->loop);
    ev_timer_stop(c->loop, &c->timer);
    ev_timer_set(&c->timer, c->limits.idle_s, 0.);
    ev_timer_start(c->loop, &c->timer);
    c->ops->ready(c->arg);
    return true;
}

static bool fill(struct tls_conn *c)
{
    struct tls_failure why = {0};
    enum link_result result;
    bool moved = false;
    uint8_t *at;
    size_t room, got;

    while (!c->eof && !c->cut && !c->closing && !c->failed && buf_space(&c->in) > 0) {
        if ((at = buf_reserve(&c->in, &room)) == NULL) {
            fail(c, TLS_FAILURE_LOCAL, "out of memory");
            break;
        }
        result = link_read(c->link, at, room, &got, &why);
        if (result == LINK_OK) {
            buf_commit(&c->in, got);
            moved = true;
            continue;
        }
        if (result == LINK_END)
            moved = c->eof = true;
        else
            waits(c, result, &why);
        break;
    }
    if (c->failed && buf_len(&c->in) > 0) {
        c->failed = false;
        c->cut = true;
    }
    if (buf_len(&c->in) == 0)
        buf_clear(&c->in);
    return moved;
}

static void send_close_notify(struct tls_conn *c)
{
    struct tls_failure why = {0};
    enum link_result result = link_shutdown(c->link, &why);

    if (result == LINK_OK)
        c->write_ended = true;
    else
        waits(c, result, &why);
}

static bool flush(struct tls_conn *c)
{
    struct tls_failure why = {0};
    enum link_result result = LINK_OK;
    bool moved = false;
    size_t put;

    while (buf_len(&c->out) > 0 && !c->failed && result == LINK_OK) {
        result = link_write(c->link, buf_head(&c->out), buf_len(&c->out), &put, &why);
        if (result == LINK_OK) {
            buf_consume(&c->out, put);
            moved = true;
        }
    }
    if (result == LINK_OK && !c->failed)
        result = link_flush(c->link, &why);
    if (result != LINK_OK) {
        waits(c, result, &why);
        return moved;
    }
    if (c->end_write && !c->write_ended && !c->failed)
        send_close_notify(c);
    return moved;
}

/* One turn; whether anything moved. */
static bool turn(struct tls_conn *c)
{
    bool moved;

    c->want = 0;
    if (!c->ready)
        return handshake(c);
    moved = fill(c);
    if (moved && !c->dead && !c->failed)
        c->ops->progress(c->arg);
    if (c->dead || c->failed)
        return false;
    if (!c->cut && flush(c)) {
        moved = true;
        if (!c->closing && !c->failed)
            c->ops->progress(c->arg);
    }
    if (moved)
        c->last = ev_now(c->loop);
    return moved;
}

static bool finished(const struct tls_conn *c)
{
    bool drained = buf_len(&c->in) == 0;

    return c->failed || (c->cut && drained) ||
           (c->write_ended && (c->closing || (c->eof && drained)));
}

static void destroy(struct tls_conn *c)
{
    bool linger = c->failed || c->cut ? c->failure.kind <= TLS_FAILURE_TLS : c->closing;

    ev_io_stop(c->loop, &c->io);
    ev_timer_stop(c->loop, &c->timer);
    ev_timer_stop(c->loop, &c->soon);
    link_free(c->link);
    if (linger)
        linger_close(c->loop, c->fd);
    else
        close(c->fd);
    buf_clear(&c->in);
    buf_clear(&c->out);
    free(c);
}

static void watch(struct tls_conn *c, int events)
{
    if (ev_is_active(&c->io) && (c->io.events & (EV_READ | EV_WRITE)) == events)
        return;
    ev_io_stop(c->loop, &c->io);
    ev_io_set(&c->io, c->fd, events);
    if (events != 0)
        ev_io_start(c->loop, &c->io);
}

static void tell_closed(struct tls_conn *c)
{
    c->closed_told = true;
    ev_io_stop(c->loop, &c->io);
    ev_timer_stop(c->loop, &c->timer);
    ev_timer_stop(c->loop, &c->soon);
    c->busy = true; /* the owner frees c in here: not under our feet */
    c->ops->closed(c->arg, c->failed || c->cut ? &c->failure : NULL);
    c->busy = false;
    if (c->dead)
        destroy(c);
}

static void pump(struct tls_conn *c)
{
    bool moved = false;
    int rounds = 0;

    if (c->busy) {
        c->again = true;
        return;
    }
    if (c->closed_told || c->held)
        return;
    c->busy = true;
    while (!c->dead && !c->held && !finished(c) && rounds++ < ROUNDS) {
        c->again = false;
        moved = turn(c);
        if (!moved && !c->again)
            break;
    }
    c->busy = false;
    if (c->dead) {
        destroy(c);
    } else if (c->held) {
        watch(c, 0);
        ev_timer_stop(c->loop, &c->soon);
    } else if (finished(c)) {
        /* Told from the loop, so that the owner's call into us returns with the owner alive. */
        ev_io_stop(c->loop, &c->io);
        ev_timer_start(c->loop, &c->soon);
    } else {
        watch(c, c->want);
        if (moved || c->again)
            ev_timer_start(c->loop, &c->soon);
    }
}

static void on_io(struct ev_loop *loop, ev_io *w, int events)
{
    pump(w->data);
}

static void on_soon(struct ev_loop *loop, ev_timer *w, int events)
{
    struct tls_conn *c = w->data;

    if (finished(c))
        tell_closed(c);
    else
        pump(c);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
    struct tls_conn *c = w->data;
    ev_tstamp left = c->last + c->limits.idle_s - ev_now(loop);

    if (c->ready && left > 0.) {
        ev_timer_set(&c->timer, left, 0.);
        ev_timer_start(loop, &c->timer);
        return;
    }
    fail(c, TLS_FAILURE_TIMEOUT, c->ready ? "idle for too long" : "handshake timed out");
    tell_closed(c);
}

struct tls_conn *tls_conn_new(struct ev_loop *loop, struct link *link, int fd,
                              const struct tls_conn_limits *limits, const struct tls_conn_ops *ops,
                              void *arg)
{
    struct tls_conn *c = calloc(1, sizeof *c);

    if (c == NULL) {
        link_free(link);
        close(fd);
        return NULL;
    }
    c->loop = loop;
    c->link = link;
    c->fd = fd;
    c->limits = *limits;
    c->ops = ops;
    c->arg = arg;
    ev_io_init(&c->io, on_io, fd, EV_READ);
    ev_timer_init(&c->timer, on_timer, limits->handshake_s, 0.);
    ev_timer_init(&c->soon, on_soon, 0., 0.);
    c->io.data = c->timer.data = c->soon.data = c;
    ev_timer_start(loop, &c->timer);
    ev_timer_start(loop, &c->soon);
    return c;
}

void tls_conn_free(struct tls_conn *c)
{
    if (c == NULL)
        return;
    c->dead = true;
    if (!c->busy)
        destroy(c);
}

struct link *tls_conn_get0_link(const struct tls_conn *c)
{
    return c->link;
}

struct link *tls_conn_take_link(struct tls_conn *c)
{
    struct link *link = c->link;

    c->link = NULL;
    return link;
}

struct ev_loop *tls_conn_loop(const struct tls_conn *c)
{
    return c->loop;
}

struct buf *tls_conn_in(struct tls_conn *c)
{
    return &c->in;
}

struct buf *tls_conn_out(struct tls_conn *c)
{
    return &c->out;
}

bool tls_conn_is_ready(const struct tls_conn *c)
{
    return c->ready;
}

bool tls_conn_eof(const struct tls_conn *c)
{
    return c->eof;
}

void tls_conn_kick(struct tls_conn *c)
{
    pump(c);
}

void tls_conn_hold(struct tls_conn *c)
{
    c->held = true;
    ev_timer_stop(c->loop, &c->timer);
}

void tls_conn_release(struct tls_conn *c)
{
    c->held = false;
    c->last = ev_now(c->loop);
    ev_timer_start(c->loop, &c->timer);
    ev_timer_start(c->loop, &c->soon);
}

void tls_conn_shutdown_write(struct tls_conn *c)
{
    if (c->end_write)
        return;
    c->end_write = true;
    pump(c);
}

void tls_conn_close(struct tls_conn *c)
{
    c->closing = true;
    c->end_write = true;
    buf_clear(&c->in);
    pump(c);
}

void tls_conn_abort(struct tls_conn *c, const char *text)
{
    fail(c, TLS_FAILURE_LOCAL, text);
    pump(c);
}
