/* Closing a TCP socket without losing what was just sent. */
#include "linger.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINGER_SECONDS 2.0
#define LINGER_BYTES   (4 * 1024 * 1024)

struct lingering {
    ev_io io;
    ev_timer timer;
    size_t dropped;
    struct lingering *prev, *next;
};

static struct lingering *all; /* of the process's one loop */

static void end(struct ev_loop *loop, struct lingering *l)
{
    ev_io_stop(loop, &l->io);
    ev_timer_stop(loop, &l->timer);
    close(l->io.fd);
    if (l->prev != NULL)
        l->prev->next = l->next;
    else
        all = l->next;
    if (l->next != NULL)
        l->next->prev = l->prev;
    free(l);
}

static void on_io(struct ev_loop *loop, ev_io *w, int events)
{
    static char scratch[16384];
    struct lingering *l = w->data;
    ssize_t got = recv(w->fd, scratch, sizeof scratch, 0);

    if (got > 0)
        l->dropped += (size_t)got;
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR) || l->dropped > LINGER_BYTES)
        end(loop, l);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
    end(loop, w->data);
}

void linger_close(struct ev_loop *loop, int fd)
{
    struct lingering *l;

    if (shutdown(fd, SHUT_WR) < 0 || (l = calloc(1, sizeof *l)) == NULL) {
        close(fd);
        return;
    }
    ev_io_init(&l->io, on_io, fd, EV_READ);
    ev_timer_init(&l->timer, on_timer, LINGER_SECONDS, 0.);
    l->io.data = l->timer.data = l;
    ev_io_start(loop, &l->io);
    ev_timer_start(loop, &l->timer);
    l->next = all;
    if (all != NULL)
        all->prev = l;
    all = l;
}

void linger_end_all(struct ev_loop *loop)
{
    while (all != NULL)
        end(loop, all);
}
