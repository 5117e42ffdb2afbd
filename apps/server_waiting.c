/* Accepted connections of which it is not known yet what they are: TLS, or path 2 on the same port.
 * Their first byte tells. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server.h"

enum { WAITING_MAX = 4096, PATIENCE_S = 10 };

struct server_waiting {
    struct server_waiting *prev, *next;
    struct server *server;
    int fd;
    ev_io readable;
    ev_timer patience;
    struct sockaddr_storage peer;
    socklen_t len;
};

static void forget(struct server_waiting *w)
{
    struct server *s = w->server;

    ev_io_stop(s->loop, &w->readable);
    ev_timer_stop(s->loop, &w->patience);
    if (w->prev != NULL)
        w->prev->next = w->next;
    else
        s->waiting = w->next;
    if (w->next != NULL)
        w->next->prev = w->prev;
    s->waiting_count--;
    free(w);
}

static void on_readable(struct ev_loop *loop, ev_io *io, int events)
{
    struct server_waiting *w = io->data, was = *w;
    int is = server_protocol_path2(w->server, w->fd);

    if (is < 0)
        return;
    forget(w);
    if (is == 0)
        server_session_new(was.server, was.fd, (const struct sockaddr *)&was.peer, was.len);
}

static void on_patience_end(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct server_waiting *w = timer->data;
    int fd = w->fd;

    forget(w);
    close(fd);
}

bool server_waiting_add(struct server *s, int fd, const struct sockaddr *peer, socklen_t len)
{
    struct server_waiting *w =
        s->waiting_count < WAITING_MAX && len <= sizeof w->peer ? calloc(1, sizeof *w) : NULL;

    if (w == NULL)
        return false;
    w->server = s;
    w->fd = fd;
    memcpy(&w->peer, peer, len);
    w->len = len;
    ev_io_init(&w->readable, on_readable, fd, EV_READ);
    ev_timer_init(&w->patience, on_patience_end, PATIENCE_S, 0.);
    w->readable.data = w->patience.data = w;
    ev_io_start(s->loop, &w->readable);
    ev_timer_start(s->loop, &w->patience);
    w->next = s->waiting;
    if (w->next != NULL)
        w->next->prev = w;
    s->waiting = w;
    s->waiting_count++;
    return true;
}

void server_waiting_free(struct server *s)
{
    while (s->waiting != NULL)
        on_patience_end(s->loop, &s->waiting->patience, 0);
}
