/* Connecting a TCP socket, without blocking, to the first of a list of addresses that answers. */
#include "connector.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ATTEMPT_SECONDS 3.0 /* for one address while there is another */

struct connector {
    struct ev_loop *loop;
    struct addr_list list;
    struct connector_params params;
    struct addr local;
    connector_done *done;
    void *arg;
    size_t next;
    int fd;
    ev_io io;
    ev_timer attempt, whole;
    char error[160];
};

static void attempt_next(struct connector *c);

static void stop(struct connector *c)
{
    ev_io_stop(c->loop, &c->io);
    ev_timer_stop(c->loop, &c->attempt);
}

static void finish(struct connector *c, int fd)
{
    stop(c);
    ev_timer_stop(c->loop, &c->whole);
    if (fd < 0 && c->fd >= 0)
        close(c->fd);
    c->done(c->arg, fd, fd < 0 ? c->error : NULL);
    free(c);
}

static void note_error(struct connector *c, const char *what)
{
    const struct addr *a = &c->list.at[c->next - 1];
    char text[ADDR_TEXT];

    addr_text((const struct sockaddr *)&a->sa, a->len, text);
    snprintf(c->error, sizeof c->error, "%s: %s", text, what);
}

static void give_up_attempt(struct connector *c, const char *what)
{
    note_error(c, what);
    stop(c);
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    attempt_next(c);
}

static void on_io(struct ev_loop *loop, ev_io *w, int events)
{
    struct connector *c = w->data;
    int error = 0;
    socklen_t len = sizeof error;

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    if (error != 0)
        give_up_attempt(c, strerror(error));
    else
        finish(c, c->fd);
}

static void on_attempt(struct ev_loop *loop, ev_timer *w, int events)
{
    give_up_attempt(w->data, "no answer");
}

static void on_whole(struct ev_loop *loop, ev_timer *w, int events)
{
    struct connector *c = w->data;

    if (c->next > 0)
        note_error(c, "connect timed out");
    finish(c, -1);
}

static int open_socket(struct connector *c, const struct addr *to)
{
    const struct connector_params *p = &c->params;
    int one = 1;

    c->fd = socket(to->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                   p->mptcp ? IPPROTO_MPTCP : 0);
    if (c->fd < 0)
        return -1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (p->device != NULL &&
        setsockopt(c->fd, SOL_SOCKET, SO_BINDTODEVICE, p->device, (socklen_t)strlen(p->device)) < 0)
        return -1;
    if (p->local != NULL) {
        if (p->local->sa.ss_family != to->sa.ss_family) {
            errno = EAFNOSUPPORT;
            return -1;
        }
        if (bind(c->fd, (const struct sockaddr *)&p->local->sa, p->local->len) < 0)
            return -1;
    }
    return 0;
}

static void attempt_next(struct connector *c)
{
    const struct addr *to;

    if (c->next == c->list.count) {
        finish(c, -1);
        return;
    }
    to = &c->list.at[c->next++];
    if (open_socket(c, to) < 0) {
        give_up_attempt(c, strerror(errno));
        return;
    }
    if (c->params.prepare != NULL)
        c->params.prepare(c->params.prepare_arg, c->fd, to);
    if (connect(c->fd, (const struct sockaddr *)&to->sa, to->len) < 0 && errno != EINPROGRESS) {
        give_up_attempt(c, strerror(errno));
        return;
    }
    ev_io_set(&c->io, c->fd, EV_WRITE);
    ev_io_start(c->loop, &c->io);
    if (c->next < c->list.count) {
        ev_timer_set(&c->attempt, ATTEMPT_SECONDS, 0.);
        ev_timer_start(c->loop, &c->attempt);
    }
}

static void on_begin(struct ev_loop *loop, ev_timer *w, int events)
{
    struct connector *c = w->data;

    ev_set_cb(&c->attempt, on_attempt);
    attempt_next(c);
}

struct connector *connector_start(struct ev_loop *loop, const struct addr_list *list,
                                  const struct connector_params *params, connector_done *done,
                                  void *arg)
{
    struct connector *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    c->loop = loop;
    c->list = *list;
    c->params = *params;
    if (params->local != NULL) {
        c->local = *params->local;
        c->params.local = &c->local;
    }
    c->done = done;
    c->arg = arg;
    c->fd = -1;
    snprintf(c->error, sizeof c->error, "no address to connect to");
    ev_io_init(&c->io, on_io, -1, EV_WRITE);
    ev_timer_init(&c->attempt, on_begin, 0., 0.);
    ev_timer_init(&c->whole, on_whole, params->timeout_s, 0.);
    c->io.data = c->attempt.data = c->whole.data = c;
    ev_timer_start(loop, &c->attempt);
    ev_timer_start(loop, &c->whole);
    return c;
}

void connector_cancel(struct connector *c)
{
    if (c == NULL)
        return;
    stop(c);
    ev_timer_stop(c->loop, &c->whole);
    if (c->fd >= 0)
        close(c->fd);
    free(c);
}
