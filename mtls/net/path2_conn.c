/* Concept: one secondary connection of a client (see path2_conn.h). */
#include "path2_conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "closing.h"
#include "path2_socket.h"
#include "route.h"

enum {
    CONNECT_MS = 10000,  /* the whole way to an open connection */
    NEXT_ADDR_MS = 3000, /* until the next address is tried, where there is one */
    LOOKUP_MS = 5000,
    LINGER_US = 2 * 1000000,
    IDLE_US = 120 * 1000000, /* [TIM] client side of a kept connection */
};

static void conn_event(void *arg, uint32_t events, mtls_tstamp now);
static void connect_next(struct mtls_path2_conn *c, mtls_tstamp now);

static uint16_t path2_port(const struct mtls_path2_conn *c)
{
    if (c->spec.port != 0)
        return c->spec.port;
    return c->spec.remote.addr.port != 0 ? c->spec.remote.addr.port : MTLS_PORT_DEFAULT;
}

static void drop_socket(struct mtls_path2_conn *c)
{
    bool lost = mtls_watch_lost(c->watch);

    mtls_watch_free(c->watch);
    c->watch = NULL;
    if (c->fd >= 0 && !lost)
        mtls_closing_add(c->fd);
    c->fd = -1;
    c->early = 0;
    c->lost = 0;
}

void mtls_path2_conn_close(struct mtls_path2_conn *c, int error, mtls_tstamp now)
{
    if (c->state == CONN_CLOSED)
        return;
    c->state = CONN_CLOSED;
    c->error = error;
    drop_socket(c);
    mtls_timer_set(c->timer, MTLS_TSTAMP_NEVER);
    mtls_resolve_free(c->resolve);
    c->resolve = NULL;
    mtls_p2c_closed(c->p2c, error, now);
}

void mtls_path2_conn_linger(struct mtls_path2_conn *c, mtls_tstamp now)
{
    c->state = CONN_LINGER;
    if (shutdown(c->fd, SHUT_WR) != 0)
        mtls_path2_conn_close(c, MTLS_ERR_PATH_CLOSED, now);
    else
        mtls_timer_set(c->timer, now + LINGER_US);
}

/* The end of every reactor call-back: what closed on the way is taken out of the pool. */
static void leave(struct mtls_path2_conn *c, mtls_tstamp now)
{
    size_t pending;

    if (c->state == CONN_OPEN && mtls_p2c_open_claims(c->p2c) == 0) {
        (void)mtls_p2c_out(c->p2c, &pending);
        if (!c->reuse && c->proven && pending == 0)
            mtls_path2_conn_linger(c, now);
        else
            mtls_path2_conn_idle(c, now);
    }
    c->in_input = false;
    if (c->state == CONN_CLOSED)
        mtls_pool_conn_gone(c);
}

void mtls_path2_conn_idle(struct mtls_path2_conn *c, mtls_tstamp now)
{
    if (c->state != CONN_OPEN)
        return;
    mtls_timer_set(c->timer, mtls_p2c_open_claims(c->p2c) == 0 ? now + IDLE_US : MTLS_TSTAMP_NEVER);
}

static ssize_t send_some(int fd, const uint8_t *data, size_t len, int more)
{
    ssize_t n;

    do
        n = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT | more);
    while (n < 0 && errno == EINTR);
    return n;
}

static void want(struct mtls_path2_conn *c, bool writing, mtls_tstamp now)
{
    if (c->watch != NULL && mtls_watch_set(c->watch, EPOLLIN | (writing ? EPOLLOUT : 0)) != 0)
        mtls_path2_conn_close(c, MTLS_ERR_IO, now);
}

/* more: MSG_MORE, or 0. */
static void flush(struct mtls_path2_conn *c, int more, mtls_tstamp now)
{
    const uint8_t *out;
    size_t len;
    ssize_t n;

    if (c->state != CONN_OPEN)
        return;
    out = mtls_p2c_out(c->p2c, &len);
    if (len == 0)
        return;
    n = send_some(c->fd, out, len, more);
    if (n > 0) {
        mtls_p2c_sent(c->p2c, (size_t)n);
        if (c->flushed_at == 0)
            c->flushed_at = now;
    }
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        if (c->lost == 0)
            c->lost = mtls_path2_lost(errno);
        return; /* the reactor sees the same error and closes: never inside a caller's claim */
    }
    if (n < (ssize_t)len)
        want(c, true, now);
}

void mtls_path2_conn_flush(struct mtls_path2_conn *c, mtls_tstamp now)
{
    flush(c, 0, now);
}

void mtls_path2_conn_last_word(struct mtls_path2_conn *c, mtls_tstamp now)
{
    bool last = c->state == CONN_OPEN && !c->reuse && mtls_p2c_open_claims(c->p2c) == 0;
    size_t pending;

    flush(c, last ? MSG_MORE : 0, now); /* shutdown() sends what MSG_MORE has held back */
    (void)mtls_p2c_out(c->p2c, &pending);
    if (last && pending == 0)
        mtls_path2_conn_linger(c, now);
}

void mtls_path2_conn_note(struct mtls_path2_conn *c)
{
    c->noted = true;
    if (mtls_route_of_socket(c->fd, &c->facts_then) != 0)
        c->facts_then.known = false;
}

/* A route cannot move it to another device. */
static bool is_bound(const struct mtls_path2_conn *c)
{
    return c->spec.dev[0] != '\0' || c->spec.local.family != 0;
}

static void opened(struct mtls_path2_conn *c, mtls_tstamp now)
{
    c->state = CONN_OPEN;
    want(c, false, now);
    if (c->state == CONN_OPEN && !is_bound(c)) /* a route that is withdrawn later counts [PATH-9] */
        mtls_path2_conn_note(c);
    mtls_path2_conn_flush(c, now);
    mtls_path2_conn_idle(c, now);
    if (c->state == CONN_OPEN && !c->noted && !mtls_pool_conn_announced(c))
        mtls_path2_conn_note(c);
}

static void proxy_step(struct mtls_path2_conn *c, mtls_tstamp now)
{
    size_t len;
    const uint8_t *out = mtls_socks5_out(&c->socks, &len);

    if (len > 0) {
        ssize_t n = send_some(c->fd, out, len, 0);

        if (n > 0)
            mtls_socks5_sent(&c->socks, (size_t)n);
        else if (errno != EAGAIN)
            mtls_path2_conn_close(c, MTLS_ERR_PATH_PROXY, now);
    }
    (void)mtls_socks5_out(&c->socks, &len);
    if (c->state == CONN_PROXY)
        want(c, len > 0, now);
}

/* HELLO, or the proxy's first word, leaves before anything else is asked. */
static void connected(struct mtls_path2_conn *c, mtls_tstamp now)
{
    c->connected_at = now;
    if (c->spec.proxy.name[0] != '\0') {
        struct mtls_host target = c->spec.remote;

        if (target.name[0] == '\0' && mtls_host_parse(&target, c->name) != 0) {
            mtls_path2_conn_close(c, MTLS_ERR_NAME_UNKNOWN, now);
            return;
        }
        if (mtls_socks5_init(&c->socks, &target, path2_port(c)) != 0) {
            mtls_path2_conn_close(c, MTLS_ERR_PATH_PROXY, now);
            return;
        }
        c->state = CONN_PROXY;
        proxy_step(c, now);
        return;
    }
    if (c->early > 0) {
        c->flushed_at = c->made_at;
        mtls_p2c_sent(c->p2c, c->early);
        c->early = 0;
    }
    opened(c, now);
}

static void read_proxy(struct mtls_path2_conn *c, const uint8_t *data, size_t len, mtls_tstamp now)
{
    size_t pos = 0;
    int rc = mtls_socks5_input(&c->socks, data, len, &pos);

    if (rc < 0) {
        mtls_path2_conn_close(c, rc, now);
    } else if (rc == 0) {
        proxy_step(c, now);
    } else {
        opened(c, now);
        if (c->state == CONN_OPEN && pos < len &&
            (rc = mtls_p2c_input(c->p2c, data + pos, len - pos, now)) != 0)
            mtls_path2_conn_close(c, rc, now);
    }
}

static void read_some(struct mtls_path2_conn *c, mtls_tstamp now)
{
    uint8_t buf[4096];
    ssize_t n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT);
    int rc;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        rc = n < 0 ? mtls_path2_lost(errno) : c->lost != 0 ? c->lost : MTLS_ERR_PATH_CLOSED;
        mtls_path2_conn_close(c, c->state == CONN_PROXY ? MTLS_ERR_PATH_PROXY : rc, now);
        return;
    }
    if (c->state == CONN_PROXY) {
        read_proxy(c, buf, (size_t)n, now);
        return;
    }
    if (c->state == CONN_LINGER)
        return;
    rc = mtls_p2c_input(c->p2c, buf, (size_t)n, now);
    if (rc != 0)
        mtls_path2_conn_close(c, mtls_p2c_preface_seen(c->p2c) ? rc : MTLS_ERR_PATH_FOREIGN, now);
    c->proven = c->proven || mtls_p2c_preface_seen(c->p2c);
}

static void conn_event(void *arg, uint32_t events, mtls_tstamp now)
{
    struct mtls_path2_conn *c = arg;
    int rc;

    c->in_input = true;
    if (c->state == CONN_CONNECTING) {
        rc = mtls_path2_connected(c->fd);
        if (rc == 0) {
            connected(c, now);
        } else {
            c->error = rc;
            connect_next(c, now);
        }
    } else {
        if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
            read_some(c, now);
        if (c->state == CONN_OPEN && (events & EPOLLOUT) != 0) {
            want(c, false, now);
            mtls_path2_conn_flush(c, now);
        } else if (c->state == CONN_PROXY && (events & EPOLLOUT) != 0) {
            proxy_step(c, now);
        }
    }
    leave(c, now);
}

static int connect_one(struct mtls_path2_conn *c, const struct mtls_addr *dst)
{
    struct mtls_reactor *r = mtls_reactor_current();
    bool tfo = c->tfo && c->spec.proxy.name[0] == '\0' && is_bound(c);
    const uint8_t *out;
    size_t len;
    int err;

    if (r == NULL)
        return MTLS_ERR_STOPPED;
    err = mtls_path2_socket(&c->spec, dst, &c->fd);
    if (err != 0)
        return err;
    out = mtls_p2c_out(c->p2c, &len);
    err = mtls_path2_connect(c->fd, dst, tfo, out, len, &c->early);
    if (err == 0)
        err = mtls_watch_new(&c->watch, r, c->fd, EPOLLIN | EPOLLOUT, conn_event, c);
    if (err != 0)
        drop_socket(c);
    return err;
}

static void connect_next(struct mtls_path2_conn *c, mtls_tstamp now)
{
    drop_socket(c);
    while (c->addr_i < c->naddr) {
        struct mtls_addr dst = c->addrs[c->addr_i++];
        int err;

        if (c->spec.local.family != 0 && dst.family != c->spec.local.family) {
            c->error = c->error != 0 ? c->error : MTLS_ERR_PATH_INADMISSIBLE;
            continue;
        }
        err = connect_one(c, &dst);
        if (err == 0) {
            c->state = CONN_CONNECTING;
            mtls_timer_set(c->timer,
                           now + (c->addr_i < c->naddr ? NEXT_ADDR_MS : CONNECT_MS) * 1000u);
            return;
        }
        c->error = err;
    }
    mtls_path2_conn_close(c, c->error != 0 ? c->error : MTLS_ERR_PATH_INADMISSIBLE, now);
}

static void timed_out(void *arg, mtls_tstamp now)
{
    struct mtls_path2_conn *c = arg;

    c->in_input = true;
    if (c->state == CONN_CONNECTING) {
        c->error = MTLS_ERR_PATH_TIMEOUT;
        connect_next(c, now);
    } else {
        mtls_path2_conn_close(
            c, c->state >= CONN_OPEN ? MTLS_ERR_PATH_CLOSED : MTLS_ERR_PATH_TIMEOUT, now);
    }
    leave(c, now);
}

/* Path 2's own answer; the address that path 1 uses goes first if it is among them (the same node
 * of a farm). */
static void resolved(void *arg, int error, const struct mtls_addr *addrs, size_t n,
                     const struct mtls_addr *resolver, mtls_tstamp now)
{
    struct mtls_path2_conn *c = arg;
    struct mtls_addr preferred = c->addrs[0]; /* family 0 when path 1's address is not known */
    uint16_t port = c->spec.proxy.name[0] != '\0' ? c->spec.proxy.addr.port : path2_port(c);
    size_t i;

    c->in_input = true;
    mtls_resolve_free(c->resolve);
    c->resolve = NULL;
    c->naddr = 0;
    for (i = 0; error == 0 && i < n && c->naddr < MTLS_POOL_ADDRS_MAX; i++) {
        struct mtls_addr a = addrs[i];

        a.port = port;
        if (preferred.family == a.family && memcmp(preferred.ip, a.ip, sizeof(a.ip)) == 0 &&
            c->naddr > 0) {
            c->addrs[c->naddr++] = c->addrs[0];
            c->addrs[0] = a;
        } else {
            c->addrs[c->naddr++] = a;
        }
    }
    if (resolver != NULL)
        c->resolver = *resolver;
    c->error = error;
    c->addr_i = 0;
    connect_next(c, now);
    leave(c, now);
}

static void resolve_start(struct mtls_path2_conn *c, const char *name,
                          const struct mtls_path2_request *req, mtls_tstamp now)
{
    struct mtls_reactor *r = mtls_reactor_current();
    int err = r == NULL ? MTLS_ERR_STOPPED
                        : mtls_resolve_new(&c->resolve, r, &c->spec, name, LOOKUP_MS, resolved, c);
    size_t i;

    if (err == 0) {
        c->state = CONN_RESOLVING;
        c->addrs[0] = req->path1_remote;
        return;
    }
    /* No resolver of path 2's own: an address stored from a verified session is admissible too. */
    for (i = 0; i < req->nstored && i < MTLS_POOL_ADDRS_MAX && c->spec.proxy.name[0] == '\0'; i++) {
        c->addrs[c->naddr] = req->stored[i];
        if (c->addrs[c->naddr].port == 0)
            c->addrs[c->naddr].port = path2_port(c);
        c->naddr++;
    }
    c->error = err;
    connect_next(c, now);
}

/* [PATH] where path 2 leads: a literal, the proxy, or path 2's own look-up. Nothing that path 1
 * said. */
static void start(struct mtls_path2_conn *c, const struct mtls_path2_request *req, mtls_tstamp now)
{
    struct mtls_reactor *r = mtls_reactor_current();
    struct mtls_host host = c->spec.proxy.name[0] != '\0' ? c->spec.proxy : c->spec.remote;

    if (r == NULL || mtls_timer_new(&c->timer, r, timed_out, c) != 0) {
        c->state = CONN_CLOSED;
        c->error = r == NULL ? MTLS_ERR_STOPPED : MTLS_ERR_NOMEM;
        return;
    }
    if (host.name[0] == '\0' && (c->name[0] == '\0' || mtls_host_parse(&host, c->name) != 0)) {
        mtls_path2_conn_close(c, MTLS_ERR_NAME_UNKNOWN, now);
        return;
    }
    if (host.addr.family == 0) {
        resolve_start(c, host.name, req, now);
        return;
    }
    c->addrs[0] = host.addr;
    if (c->spec.proxy.name[0] == '\0')
        c->addrs[0].port = path2_port(c);
    c->naddr = 1;
    connect_next(c, now);
}

void mtls_path2_conn_start(struct mtls_path2_conn *c, const struct mtls_path2_request *req,
                           mtls_tstamp now)
{
    c->made_at = now;
    c->fd = -1;
    c->starting = true;
    start(c, req, now);
    c->starting = false;
}

void mtls_path2_conn_facts(const struct mtls_path2_conn *c, struct mtls_path_facts *facts)
{
    *facts = c->facts_then;
    if (c->fd < 0 || c->state == CONN_CLOSED || mtls_route_again(c->fd, facts) != 0 ||
        (c->facts_then.known && facts->ifindex != c->facts_then.ifindex)) { /* [PATH-9] */
        memset(facts, 0, sizeof(*facts));
        return;
    }
    facts->tunnel = c->spec.tunnel;
    facts->resolver = c->resolver;
    if (c->spec.proxy.name[0] != '\0') {
        facts->proxied = true;
        facts->proxy = facts->remote;
        facts->remote = c->spec.remote.addr;
        facts->remote.port = path2_port(c);
    }
}

void mtls_path2_conn_free(struct mtls_path2_conn *c)
{
    drop_socket(c);
    mtls_resolve_free(c->resolve);
    mtls_timer_free(c->timer);
    mtls_p2c_free(c->p2c);
    free(c);
}
