/* Concept: one TCP connection over path 2 to the service itself (see path2_dial.h). */
#include "path2_dial.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../core/socks5.h"
#include "engine.h"
#include "path2_socket.h"
#include "resolve.h"
#include "route.h"

enum { ADDRS_MAX = 8, NEXT_ADDR_US = 3000000, LINGER_US = 2000000, LINGER_BYTES = 1 << 20 };

enum dial_state { DIAL_RESOLVING, DIAL_CONNECTING, DIAL_PROXY, DIAL_DONE };

struct mtls_dial {
    enum dial_state state;
    struct mtls_path_spec spec;
    char name[MTLS_HOST_MAX + 1];
    uint16_t port;
    struct mtls_addr preferred, addrs[ADDRS_MAX], resolver;
    size_t naddr, addr_i;
    int fd, error;
    unsigned generation;
    struct mtls_watch *watch;
    struct mtls_timer *timer;
    struct mtls_resolve *resolve;
    struct mtls_socks5 socks;
    mtls_tstamp end_at, connected_at;
    pthread_cond_t done;
};

static void connect_next(struct mtls_dial *d, mtls_tstamp now);

static bool proxied(const struct mtls_dial *d)
{
    return d->spec.proxy.name[0] != '\0';
}

static void drop_socket(struct mtls_dial *d)
{
    bool lost = mtls_watch_lost(d->watch);

    mtls_watch_free(d->watch);
    d->watch = NULL;
    if (d->fd >= 0 && !lost)
        close(d->fd);
    d->fd = -1;
}

/* error 0: open. */
static void finish(struct mtls_dial *d, int error)
{
    if (d->state == DIAL_DONE)
        return;
    d->state = DIAL_DONE;
    d->error = error;
    if (error != 0) {
        drop_socket(d);
    } else {
        mtls_watch_free(d->watch);
        d->watch = NULL;
    }
    mtls_timer_set(d->timer, MTLS_TSTAMP_NEVER);
    pthread_cond_broadcast(&d->done);
}

static void proxy_write(struct mtls_dial *d)
{
    size_t len;
    const uint8_t *out = mtls_socks5_out(&d->socks, &len);
    ssize_t n = len > 0 ? send(d->fd, out, len, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;

    if (n > 0)
        mtls_socks5_sent(&d->socks, (size_t)n);
    else if (n < 0 && errno != EAGAIN && errno != EINTR)
        finish(d, MTLS_ERR_PATH_PROXY);
    (void)mtls_socks5_out(&d->socks, &len);
    if (d->state == DIAL_PROXY &&
        mtls_watch_set(d->watch, EPOLLIN | (len > 0 ? (uint32_t)EPOLLOUT : 0)) != 0)
        finish(d, MTLS_ERR_IO);
}

/* A byte at a time: what follows the proxy's answer belongs to TLS and stays in the socket. */
static void proxy_read(struct mtls_dial *d)
{
    uint8_t byte;
    ssize_t n;

    while (d->state == DIAL_PROXY && (n = recv(d->fd, &byte, 1, MSG_DONTWAIT)) != 0) {
        size_t pos = 0;
        int rc;

        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR)
                finish(d, MTLS_ERR_PATH_PROXY);
            return;
        }
        rc = mtls_socks5_input(&d->socks, &byte, 1, &pos);
        if (rc != 0)
            finish(d, rc < 0 ? rc : 0);
        else
            proxy_write(d);
    }
    if (d->state == DIAL_PROXY)
        finish(d, MTLS_ERR_PATH_PROXY);
}

static void connected(struct mtls_dial *d, mtls_tstamp now)
{
    struct mtls_host target = d->spec.remote;

    d->connected_at = now;
    if (!proxied(d)) {
        finish(d, 0);
        return;
    }
    if ((target.name[0] == '\0' && mtls_host_parse(&target, d->name) != 0) ||
        mtls_socks5_init(&d->socks, &target, d->port) != 0) {
        finish(d, MTLS_ERR_NAME_UNKNOWN);
        return;
    }
    d->state = DIAL_PROXY;
    mtls_timer_set(d->timer, d->end_at);
    proxy_write(d);
}

static void on_event(void *arg, uint32_t events, mtls_tstamp now)
{
    struct mtls_dial *d = arg;
    int rc;

    if (d->state == DIAL_CONNECTING) {
        rc = mtls_path2_connected(d->fd);
        if (rc == 0) {
            connected(d, now);
        } else {
            d->error = rc;
            connect_next(d, now);
        }
    } else if (d->state == DIAL_PROXY) {
        if ((events & EPOLLOUT) != 0)
            proxy_write(d);
        if (d->state == DIAL_PROXY && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
            proxy_read(d);
    }
}

static int connect_one(struct mtls_dial *d, const struct mtls_addr *dst)
{
    struct mtls_reactor *r = mtls_reactor_current();
    size_t sent;
    int err = r == NULL ? MTLS_ERR_STOPPED : mtls_path2_socket(&d->spec, dst, &d->fd);

    if (err == 0)
        err = mtls_path2_connect(d->fd, dst, false, NULL, 0, &sent);
    if (err == 0)
        err = mtls_watch_new(&d->watch, r, d->fd, EPOLLOUT, on_event, d);
    if (err != 0)
        drop_socket(d);
    return err;
}

static void connect_next(struct mtls_dial *d, mtls_tstamp now)
{
    drop_socket(d);
    while (d->addr_i < d->naddr) {
        const struct mtls_addr *dst = &d->addrs[d->addr_i++];
        mtls_tstamp next = now + NEXT_ADDR_US;

        if (d->spec.local.family != 0 && dst->family != d->spec.local.family) {
            d->error = d->error != 0 ? d->error : MTLS_ERR_PATH_INADMISSIBLE;
            continue;
        }
        d->error = connect_one(d, dst);
        if (d->error == 0) {
            d->state = DIAL_CONNECTING;
            mtls_timer_set(d->timer, d->addr_i < d->naddr && next < d->end_at ? next : d->end_at);
            return;
        }
    }
    finish(d, d->error != 0 ? d->error : MTLS_ERR_PATH_INADMISSIBLE);
}

static void on_time(void *arg, mtls_tstamp now)
{
    struct mtls_dial *d = arg;

    d->error = MTLS_ERR_PATH_TIMEOUT;
    if (d->state == DIAL_CONNECTING && now < d->end_at)
        connect_next(d, now);
    else
        finish(d, MTLS_ERR_PATH_TIMEOUT);
}

/* [PATH-1] path 2's own answer; path 1's address goes first if it is among it. */
static void resolved(void *arg, int error, const struct mtls_addr *addrs, size_t n,
                     const struct mtls_addr *resolver, mtls_tstamp now)
{
    struct mtls_dial *d = arg;
    uint16_t port = proxied(d) ? d->spec.proxy.addr.port : d->port;

    mtls_resolve_free(d->resolve);
    d->resolve = NULL;
    for (size_t i = 0; error == 0 && i < n && d->naddr < ADDRS_MAX; i++) {
        struct mtls_addr a = addrs[i];

        a.port = port;
        if (d->naddr > 0 && d->preferred.family == a.family &&
            memcmp(d->preferred.ip, a.ip, sizeof(a.ip)) == 0) {
            d->addrs[d->naddr++] = d->addrs[0];
            d->addrs[0] = a;
        } else {
            d->addrs[d->naddr++] = a;
        }
    }
    if (resolver != NULL)
        d->resolver = *resolver;
    d->error = error;
    connect_next(d, now);
}

/* [PATH-1] to [PATH-3]: a literal that was configured, or path 2's own look-up; of path 1 nothing.
 */
static int begin(struct mtls_dial *d, struct mtls_reactor *r, uint32_t timeout_ms, mtls_tstamp now)
{
    struct mtls_host host = proxied(d) ? d->spec.proxy : d->spec.remote;
    int err;

    if (host.name[0] == '\0' && mtls_host_parse(&host, d->name) != 0)
        return MTLS_ERR_NAME_UNKNOWN;
    /* A literal that only names the server came from nobody knows where. */
    if (host.addr.family != 0 && !proxied(d) && d->spec.remote.name[0] == '\0')
        return MTLS_ERR_PATH_INADMISSIBLE;
    mtls_timer_set(d->timer, d->end_at);
    if (host.addr.family == 0) {
        err = mtls_resolve_new(&d->resolve, r, &d->spec, host.name, timeout_ms, resolved, d);
        d->state = DIAL_RESOLVING;
        return err;
    }
    d->addrs[0] = host.addr;
    if (!proxied(d))
        d->addrs[0].port = d->port;
    d->naddr = 1;
    connect_next(d, now);
    return 0;
}

int mtls_dial_new(struct mtls_dial **out, const struct mtls_dial_request *req, mtls_tstamp now)
{
    struct mtls_reactor *r = mtls_reactor_current();
    struct mtls_dial *d = calloc(1, sizeof(*d));
    int err = d == NULL ? MTLS_ERR_NOMEM : r == NULL ? MTLS_ERR_STOPPED : mtls_cond_init(&d->done);

    *out = NULL;
    if (err != 0) {
        free(d);
        return err;
    }
    d->fd = -1;
    d->generation = mtls_engine_generation();
    d->spec = *req->spec;
    memcpy(d->name, req->name, strlen(req->name) + 1);
    d->port = req->port;
    d->preferred = req->path1_remote;
    d->end_at = now + req->timeout_ms * 1000ull;
    err = mtls_timer_new(&d->timer, r, on_time, d);
    if (err == 0)
        err = begin(d, r, req->timeout_ms, now);
    if (err == 0) {
        *out = d;
        return 0;
    }
    mtls_timer_free(d->timer);
    pthread_cond_destroy(&d->done);
    free(d);
    return err;
}

int mtls_dial_wait(struct mtls_dial *d, mtls_tstamp until, int *fd)
{
    struct mtls_reactor *r;
    int err;

    *fd = -1;
    mtls_engine_lock();
    r = mtls_reactor_current();
    while (r != NULL && d->generation == mtls_engine_generation() && d->state != DIAL_DONE &&
           mtls_now() < until)
        mtls_reactor_wait(r, &d->done, until);
    if (d->generation != mtls_engine_generation())
        err = MTLS_ERR_FORKED;
    else if (r == NULL)
        err = MTLS_ERR_STOPPED;
    else
        err = d->state == DIAL_DONE ? d->error : MTLS_ERR_PATH_TIMEOUT;
    if (err == 0) {
        *fd = d->fd;
        d->fd = -1;
    }
    mtls_engine_unlock();
    return err == 0 && *fd < 0 ? MTLS_ERR_PATH_CLOSED : err;
}

void mtls_dial_facts(const struct mtls_dial *d, int fd, struct mtls_path_facts *facts)
{
    memset(facts, 0, sizeof(*facts));
    if (fd < 0 || mtls_route_of_socket(fd, facts) != 0)
        return;
    facts->tunnel = d->spec.tunnel;
    facts->resolver = d->resolver;
    if (proxied(d)) {
        facts->proxied = true;
        facts->proxy = facts->remote;
        facts->remote = d->spec.remote.addr;
        facts->remote.port = d->port;
    }
}

mtls_tstamp mtls_dial_connected_at(const struct mtls_dial *d)
{
    return d->connected_at;
}

void mtls_dial_free(struct mtls_dial *d)
{
    if (d == NULL)
        return;
    mtls_engine_lock();
    if (d->generation == mtls_engine_generation()) {
        drop_socket(d);
        mtls_resolve_free(d->resolve);
        mtls_timer_free(d->timer);
        pthread_cond_destroy(&d->done);
    } else { /* the parent's; the reactor's part of it is leaked */
        mtls_resolve_forget(d->resolve);
        if (d->fd >= 0)
            close(d->fd);
    }
    free(d);
    mtls_engine_unlock();
}

/* ---- the orderly end ---- */

struct lingering {
    int fd;
    size_t left;
    struct mtls_watch *watch;
    struct mtls_timer *timer;
};

static void linger_end(struct lingering *l)
{
    bool lost = mtls_watch_lost(l->watch);

    mtls_watch_free(l->watch);
    mtls_timer_free(l->timer);
    if (!lost)
        close(l->fd);
    free(l);
}

static void linger_read(void *arg, uint32_t events, mtls_tstamp now)
{
    struct lingering *l = arg;
    uint8_t sink[4096];
    ssize_t n = recv(l->fd, sink, sizeof(sink), MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || (size_t)n >= l->left)
        linger_end(l);
    else
        l->left -= (size_t)n;
}

static void linger_over(void *arg, mtls_tstamp now)
{
    linger_end(arg);
}

static bool linger_begin(int fd)
{
    struct mtls_reactor *r = mtls_reactor_current();
    struct lingering *l = calloc(1, sizeof(*l));

    if (r == NULL || l == NULL || shutdown(fd, SHUT_WR) != 0 ||
        mtls_timer_new(&l->timer, r, linger_over, l) != 0) {
        free(l);
        return false;
    }
    l->fd = fd;
    l->left = LINGER_BYTES;
    mtls_timer_set(l->timer, mtls_now() + LINGER_US);
    if (mtls_watch_new(&l->watch, r, fd, EPOLLIN, linger_read, l) == 0)
        return true;
    mtls_timer_free(l->timer);
    free(l);
    return false;
}

void mtls_dial_linger(int fd)
{
    bool begun;

    mtls_engine_lock();
    begun = linger_begin(fd);
    mtls_engine_unlock();
    if (!begun)
        close(fd);
}
