/* Listening TCP sockets in a libev loop. */
#include "listener.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG       4096
#define ACCEPT_BATCH  64  /* before the connections have their turn */
#define PAUSE_SECONDS 0.1 /* when descriptors or memory are out */

struct listeners {
    struct ev_loop *loop;
    listener_accept *accept;
    void *arg;
    ev_io io[LISTENER_MAX];
    char text[LISTENER_MAX][ADDR_TEXT];
    size_t count;
    bool running;
    ev_timer pause;
    bool mptcp;
};

static void watch(struct listeners *l, bool on)
{
    for (size_t i = 0; i < l->count; i++) {
        if (on)
            ev_io_start(l->loop, &l->io[i]);
        else
            ev_io_stop(l->loop, &l->io[i]);
    }
}

static void on_pause_end(struct ev_loop *loop, ev_timer *w, int events)
{
    struct listeners *l = w->data;

    watch(l, l->running);
}

static void on_connection(struct ev_loop *loop, ev_io *w, int events)
{
    struct listeners *l = w->data;
    struct sockaddr_storage peer;
    int one = 1;

    for (int i = 0; i < ACCEPT_BATCH && l->running; i++) {
        socklen_t len = sizeof peer;
        int fd = accept4(w->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
            watch(l, false);
            ev_timer_set(&l->pause, PAUSE_SECONDS, 0.);
            ev_timer_start(loop, &l->pause);
        }
        if (fd < 0)
            return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        l->accept(l->arg, fd, (const struct sockaddr *)&peer, len);
    }
}

struct listeners *listeners_new(struct ev_loop *loop, listener_accept *accept, void *arg)
{
    struct listeners *l = calloc(1, sizeof *l);

    if (l == NULL)
        return NULL;
    l->loop = loop;
    l->accept = accept;
    l->arg = arg;
    ev_timer_init(&l->pause, on_pause_end, PAUSE_SECONDS, 0.);
    l->pause.data = l;
    return l;
}

void listeners_set_mptcp(struct listeners *l)
{
    l->mptcp = true;
}

static int open_listener(const struct addr *a, bool mptcp)
{
    int one = 1, fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                             mptcp ? IPPROTO_MPTCP : 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a->sa.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(fd, (const struct sockaddr *)&a->sa, a->len) < 0 || listen(fd, BACKLOG) < 0) {
        int saved = errno;

        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

int listeners_add(struct listeners *l, const char *text, const char **why)
{
    struct host_port hp;
    struct addr a;
    int fd;

    *why = "is not ADDR:PORT";
    if (host_port_parse(text, 0, &hp) < 0 || hp.family == AF_UNSPEC ||
        addr_parse(hp.host, hp.port, &a) < 0)
        return -1;
    *why = "too many listeners";
    if (l->count == LISTENER_MAX)
        return -1;
    if ((fd = open_listener(&a, l->mptcp)) < 0) {
        *why = strerror(errno);
        return -1;
    }
    a.len = sizeof a.sa;
    getsockname(fd, (struct sockaddr *)&a.sa, &a.len);
    addr_text((const struct sockaddr *)&a.sa, a.len, l->text[l->count]);
    ev_io_init(&l->io[l->count], on_connection, fd, EV_READ);
    l->io[l->count++].data = l;
    return 0;
}

size_t listeners_count(const struct listeners *l)
{
    return l->count;
}

const char *listeners_get0_text(const struct listeners *l, size_t index)
{
    return l->text[index];
}

void listeners_run(struct listeners *l, bool on)
{
    if (l->running == on)
        return;
    l->running = on;
    ev_timer_stop(l->loop, &l->pause);
    watch(l, on);
}

void listeners_free(struct listeners *l)
{
    if (l == NULL)
        return;
    listeners_run(l, false);
    for (size_t i = 0; i < l->count; i++)
        close(l->io[i].fd);
    free(l);
}
