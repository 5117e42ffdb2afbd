/* Concept: listeners and accepted path-2 connections (see path2_service.h). */
#include "path2_service.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "closing.h"
#include "engine.h"
#include "path2_conns.h"
#include "path2_limits.h"
#include "path2_socket.h"
#include "path2_stand.h"
#include "path2_workers.h"
#include "reactor.h"
#include "route.h"

enum {
    LISTENERS_MAX = 64,
    ACCEPT_BATCH = 64,
    BACKLOG_BATCHES = 16,
    SECOND = 1000000,
    LIMIT_EVERY_US = SECOND / 10,
    ACCEPT_PAUSE_US = SECOND / 10, /* out of descriptors: do not spin */
    LOOK_BACK_US = SECOND / 2,     /* standing back: whether nobody takes what comes */
};

struct listener {
    int fd;
    uint64_t id; /* of the socket, in whatever process; 0: unknown */
    struct mtls_addr asked, bound;
    struct mtls_watch *watch;
};

struct mtls_service_session {
    struct mtls_p2s_session *p2s;
    mtls_service_confirmed_fn *fn;
    void *arg;
};

static struct {
    struct mtls_p2s *p2s;
    struct mtls_p2s_config config;
    struct listener listeners[LISTENERS_MAX];
    size_t nlisteners;
    bool configured;
    struct conn *conns, *closing; /* closing: to be freed by the expiry timer */
    struct mtls_reactor *reactor; /* whose the timers and the listeners' watches are */
    struct mtls_timer *expiry, *accept_again;
    mtls_tstamp limit_next; /* when the limit of descriptors is looked at again */
} service;

static void list_add(struct conn **list, struct conn *c)
{
    c->prev = NULL;
    c->next = *list;
    if (*list != NULL)
        (*list)->prev = c;
    *list = c;
}

static void list_remove(struct conn *c)
{
    if (c->prev != NULL)
        c->prev->next = c->next;
    else if (service.conns == c)
        service.conns = c->next;
    else
        service.closing = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
}

static void conn_free(struct conn *c)
{
    bool lost = mtls_watch_lost(c->watch);

    c->closing = c->in_event = true; /* nothing more is done for it by what its end calls */
    list_remove(c);
    mtls_p2s_conn_free(c->p2s);
    mtls_workers_conn_freed(c);
    mtls_watch_free(c->watch);
    if (!lost && c->fd >= 0)
        mtls_closing_add(c->fd);
    free(c);
}

/* Writes what it can; the rest when the socket is writable. */
static void flush(struct conn *c)
{
    size_t len;
    const uint8_t *out = mtls_p2s_conn_out(c->p2s, &len);
    ssize_t n;

    if (len == 0)
        return;
    if (c->fd < 0) {
        mtls_workers_guest_flush(c);
        return;
    }
    n = send(c->fd, out, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0)
        mtls_p2s_conn_sent(c->p2s, (size_t)n);
    if (n < (ssize_t)len && (n >= 0 || errno == EAGAIN) &&
        mtls_watch_set(c->watch, EPOLLIN | EPOLLRDHUP | EPOLLOUT) != 0)
        c->closing = true;
}

static void arm_expiry(void)
{
    if (service.expiry != NULL && service.closing == NULL)
        mtls_timer_set(service.expiry, mtls_p2s_deadline(service.p2s));
}

static void expire(void *arg, mtls_tstamp now)
{
    mtls_p2s_expire(service.p2s, now);
    while (service.closing != NULL) {
        flush(service.closing);
        conn_free(service.closing);
    }
    arm_expiry();
}

static void on_output(void *arg, void *conn_user)
{
    struct conn *c = conn_user;

    /* Inside an event of this connection its end does it, with everything in one segment. */
    if (!c->in_event)
        flush(c);
}

static void on_close(void *arg, void *conn_user, int error)
{
    struct conn *c = conn_user;

    if (!c->closing && !c->in_event) {
        list_remove(c);
        list_add(&service.closing, c);
        mtls_timer_set(service.expiry, mtls_now());
    }
    c->closing = true;
}

static void on_confirmed(void *arg, void *session_user, void *conn_user, uint8_t k, uint8_t n)
{
    struct mtls_service_session *s = session_user;
    struct conn *c = conn_user;

    s->fn(s->arg, k, n, &c->local, &c->peer, mtls_now());
}

static const struct mtls_p2s_events events = {on_confirmed, on_output, on_close};

static void conn_event(void *arg, uint32_t epoll_events, mtls_tstamp now)
{
    struct conn *c = arg;
    uint8_t buf[4096];
    ssize_t n;

    c->in_event = true;
    if ((epoll_events & EPOLLOUT) != 0 && mtls_watch_set(c->watch, EPOLLIN | EPOLLRDHUP) != 0)
        c->closing = true;
    if ((epoll_events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
        n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            c->closing = true;
        else if (n > 0 && mtls_p2s_conn_input(c->p2s, buf, (size_t)n, now) != 0)
            c->closing = true;
        else if (n > 0 && (size_t)n < sizeof(buf) && (epoll_events & EPOLLRDHUP) != 0)
            c->closing = true; /* that was all, and the end was behind it */
    }
    if (c->closing)
        mtls_p2s_conn_speak(c->p2s); /* its READY waits for nobody any more */
    flush(c);
    c->in_event = false;
    if (c->closing)
        conn_free(c);
    else
        mtls_workers_settle(c, now);
    arm_expiry();
}

static void conn_new(const struct listener *l, int fd, const struct sockaddr *peer, socklen_t len,
                     mtls_tstamp now)
{
    struct conn *c = calloc(1, sizeof(*c));
    struct mtls_reactor *r = service.reactor; /* at exit, too */

    if (c == NULL || r == NULL)
        goto refuse;
    c->fd = fd;
    if (mtls_addr_from_sockaddr(&c->peer, peer, len) != 0 ||
        mtls_path2_local(fd, &l->bound, &c->local) != 0 ||
        mtls_p2s_conn_new(&c->p2s, service.p2s, &c->peer, c, now) != 0)
        goto refuse;
    if (mtls_watch_new(&c->watch, r, fd, EPOLLIN | EPOLLRDHUP, conn_event, c) != 0) {
        mtls_p2s_conn_free(c->p2s);
        goto refuse;
    }
    list_add(&service.conns, c);
    conn_event(c, EPOLLIN, now); /* HELLO is often here already: in the SYN, or right behind it */
    return;
refuse:
    free(c);
    close(fd);
}

/* The program may have changed its limit since: looked at now and then. */
static void limit_conns(mtls_tstamp now)
{
    size_t max;

    if (service.config.conns_max != 0 && now < service.limit_next)
        return;
    service.limit_next = now + LIMIT_EVERY_US;
    max = mtls_path2_limits_conns();
    if (max == service.config.conns_max)
        return;
    service.config.conns_max = max;
    mtls_p2s_set_config(service.p2s, &service.config);
}

/* The kernel says so even when nobody waits; and room may be under way. */
static void out_of_files(struct listener *l, mtls_tstamp now)
{
    struct pollfd p = {.fd = l->fd, .events = POLLIN};

    if (poll(&p, 1, 0) <= 0 || service.closing != NULL)
        return;
    if (mtls_p2s_evict(service.p2s, now))
        return;
    mtls_watch_free(l->watch); /* EPOLLEXCLUSIVE cannot be changed */
    l->watch = NULL;
    mtls_timer_set(service.accept_again, now + ACCEPT_PAUSE_US);
}

/* False: there may be more. */
static bool accept_some(struct listener *l, int most, mtls_tstamp now)
{
    struct sockaddr_storage ss;
    socklen_t len;
    int i, fd = -1;
    bool none;

    for (i = 0; i < most; i++) {
        len = sizeof(ss);
        fd = accept4(l->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            break;
        conn_new(l, fd, (struct sockaddr *)&ss, len, now);
    }
    none = fd < 0 && errno == EAGAIN;
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS))
        out_of_files(l, now);
    return none;
}

/* The watches go first: what comes from then on wakes another process, what came before would wake
 * nobody. */
static void stand_back(mtls_tstamp now)
{
    size_t i;
    int batch;

    for (i = 0; i < service.nlisteners; i++) {
        mtls_watch_free(service.listeners[i].watch);
        service.listeners[i].watch = NULL;
    }
    for (i = 0; i < service.nlisteners; i++) {
        for (batch = 0;
             batch < BACKLOG_BATCHES && !accept_some(&service.listeners[i], ACCEPT_BATCH, now);)
            batch++;
    }
    mtls_timer_set(service.accept_again, now + LOOK_BACK_US);
}

static void accept_event(void *arg, uint32_t epoll_events, mtls_tstamp now)
{
    limit_conns(now);
    if (mtls_stand_back(now))
        stand_back(now);
    else
        /* mostly there is no other, and to ask costs as much; but each must not wait for a round
         * through a crowd */
        (void)accept_some(arg, mtls_reactor_crowded(service.reactor) ? ACCEPT_BATCH : 1, now);
    arm_expiry();
}

static int listeners_watch(struct mtls_reactor *r)
{
    size_t i;
    int err = 0;

    for (i = 0; err == 0 && i < service.nlisteners; i++) {
        struct listener *l = &service.listeners[i];

        if (l->watch == NULL) /* a connection wakes one of the processes that share the listener */
            err = mtls_watch_new(&l->watch, r, l->fd, EPOLLIN | EPOLLEXCLUSIVE, accept_event, l);
    }
    return err;
}

/* Whoever answers takes it at once, unless it is stopped, or stuck, or has no descriptor left. */
static bool lies_waiting(void)
{
    size_t i;

    for (i = 0; i < service.nlisteners; i++) {
        struct pollfd p = {.fd = service.listeners[i].fd, .events = POLLIN};

        if (poll(&p, 1, 0) > 0)
            return true;
    }
    return false;
}

static void accept_again(void *arg, mtls_tstamp now)
{
    if (mtls_stand_is_back() && !lies_waiting()) {
        mtls_timer_set(service.accept_again, now + LOOK_BACK_US);
        return;
    }
    mtls_stand_stay(now);
    if (listeners_watch(service.reactor) != 0)
        mtls_timer_set(service.accept_again, now + ACCEPT_PAUSE_US);
}

/* A fork child makes its own table, with the limits that its parent was given. */
static int table_make(void)
{
    struct mtls_crypto *crypto;
    int err = service.p2s != NULL ? 0 : mtls_engine_crypto(&crypto);

    if (err == 0 && service.p2s == NULL)
        err = mtls_p2s_new(&service.p2s, crypto, &service.config, &events, NULL);
    return err;
}

static int service_init(const struct mtls_config *config)
{
    if (!service.configured || mtls_config_serves(config))
        mtls_path2_limits(config, &service.config, service.configured);
    service.configured = true;
    if (service.p2s != NULL)
        mtls_p2s_set_config(service.p2s, &service.config);
    return table_make();
}

/* Another process's reactor, or one whose descriptors the program has closed, has taken timers and
 * watches with it; listeners that it has closed as well are forgotten. */
static void reactor_changed(struct mtls_reactor *r)
{
    size_t i, n = 0;

    mtls_timer_free(service.expiry);
    mtls_timer_free(service.accept_again);
    service.expiry = service.accept_again = NULL;
    for (i = 0; i < service.nlisteners; i++) {
        if (mtls_watch_lost(service.listeners[i].watch)) /* a parent's is the parent's to free */
            mtls_watch_free(service.listeners[i].watch);
        if (!mtls_path2_listens(service.listeners[i].fd, &service.listeners[i].bound))
            continue;
        service.listeners[n] = service.listeners[i];
        service.listeners[n++].watch = NULL;
    }
    service.nlisteners = n;
    service.reactor = r;
}

/* The reactor may be of another process than the one that opened the listeners: watches are made
 * late. */
static int service_watch(struct mtls_reactor *r)
{
    int err;

    if (r == NULL)
        return MTLS_ERR_STOPPED;
    if (service.reactor != r)
        reactor_changed(r);
    if (service.expiry == NULL && (err = mtls_timer_new(&service.expiry, r, expire, NULL)) != 0)
        return err;
    if (service.accept_again == NULL &&
        (err = mtls_timer_new(&service.accept_again, r, accept_again, NULL)) != 0)
        return err;
    mtls_workers_enter(r, service.p2s, service.config.ended_ttl);
    return listeners_watch(r);
}

static int service_resume(struct mtls_reactor *r)
{
    int err = service.configured ? table_make() : MTLS_ERR_NOT_HOOKED;

    return err == 0 ? service_watch(r) : err;
}

int mtls_service_resume(void)
{
    return service_resume(mtls_reactor_get());
}

static bool same(const struct mtls_addr *a, const struct mtls_addr *b)
{
    return a->family == b->family && a->port == b->port && memcmp(a->ip, b->ip, 16) == 0;
}

/* The one that was asked for in the same words: of several with port 0 the one of that number. */
static struct listener *listener_find(const struct mtls_config *config, uint8_t n)
{
    const struct mtls_addr *asked = &config->listen[n];
    uint8_t before = 0, i;
    size_t l;

    for (i = 0; asked->port == 0 && i < n; i++)
        before = (uint8_t)(before + same(&config->listen[i], asked));
    for (l = 0; l < service.nlisteners; l++) {
        if (same(&service.listeners[l].asked, asked) && before-- == 0)
            return &service.listeners[l];
    }
    return NULL;
}

static struct {
    struct mtls_addr addr;
    int error;
} unopened; /* under the engine's lock */

const struct mtls_addr *mtls_service_unopened(int *error)
{
    *error = unopened.error;
    return &unopened.addr;
}

int mtls_service_open(const struct mtls_config *config, struct mtls_addr *bound)
{
    size_t first = service.nlisteners;
    uint8_t i;
    int err = service_init(config);

    if (err == 0 && mtls_config_serves(config))
        err = mtls_workers_open(config);
    for (i = 0; err == 0 && i < config->nlisten; i++) {
        struct listener *l = listener_find(config, i);

        if (l == NULL && service.nlisteners == LISTENERS_MAX) {
            err = MTLS_ERR_LISTEN;
        } else if (l == NULL) {
            l = &service.listeners[service.nlisteners];
            memset(l, 0, sizeof(*l));
            l->asked = config->listen[i];
            err = config->share[0] != '\0' ? mtls_path2_listen_shared(&l->asked, &l->fd, &l->bound)
                                           : mtls_path2_listen(&l->asked, &l->fd, &l->bound);
            if (err == 0) {
                l->id = mtls_path2_socket_id(l->fd);
                service.nlisteners++;
            }
        }
        if (err != 0) {
            unopened.addr = config->listen[i];
            unopened.error = l != NULL ? errno : 0;
        }
        if (err == 0)
            bound[i] = l->bound;
    }
    if (err == 0 && mtls_config_serves(config))
        err = service_watch(mtls_reactor_get());
    while (err != 0 && service.nlisteners > first) {
        struct listener *l = &service.listeners[--service.nlisteners];

        mtls_watch_free(l->watch);
        close(l->fd);
    }
    return err;
}

int mtls_service_session_new(struct mtls_service_session **out, const uint8_t join[MTLS_JOIN_LEN],
                             mtls_service_confirmed_fn *fn, void *arg, mtls_tstamp now)
{
    struct mtls_service_session *s = calloc(1, sizeof(*s));
    int err = s == NULL ? MTLS_ERR_NOMEM : service_resume(mtls_reactor_current());

    if (err == 0) {
        s->fn = fn;
        s->arg = arg;
        err = mtls_p2s_session_new(&s->p2s, service.p2s, join, s, now);
    }
    if (err != 0) {
        free(s);
        return err;
    }
    *out = s;
    return 0;
}

int mtls_service_session_keys(struct mtls_service_session *s, const struct mtls_keys *keys,
                              mtls_tstamp now)
{
    int err = mtls_p2s_session_keys(s->p2s, keys, now);

    arm_expiry();
    return err;
}

void mtls_service_session_d(const struct mtls_service_session *s, uint8_t d[MTLS_SHA256_LEN])
{
    mtls_p2s_session_d(s->p2s, d);
}

void mtls_service_session_free(struct mtls_service_session *s, uint8_t fail_reason, mtls_tstamp now)
{
    if (s == NULL)
        return;
    mtls_p2s_session_free(s->p2s, fail_reason, now);
    free(s);
    arm_expiry();
}

void mtls_service_stats(struct mtls_p2s_stats *out)
{
    memset(out, 0, sizeof(*out));
    if (service.p2s != NULL)
        mtls_p2s_stats(service.p2s, out);
}

/* The listeners stay, the connections and everything that waits belong to the parent. */
static void conns_forget(struct conn *c)
{
    while (c != NULL) {
        struct conn *next = c->next;

        if (c->fd >= 0)
            close(c->fd);
        mtls_watch_disown(c->watch);
        free(c);
        c = next;
    }
}

void mtls_service_fork_child(void)
{
    static const struct mtls_p2s_shared alone;
    size_t i;

    if (service.p2s != NULL)
        mtls_p2s_set_shared(service.p2s, &alone, NULL);
    mtls_p2s_free(service.p2s);
    service.p2s = NULL;
    conns_forget(service.conns);
    conns_forget(service.closing);
    service.conns = service.closing = NULL;
    mtls_workers_fork_child();
    for (i = 0; i < service.nlisteners; i++) {
        mtls_watch_disown(service.listeners[i].watch);
        service.listeners[i].watch = NULL;
    }
    reactor_changed(NULL);
}

void mtls_service_exit(void)
{
    if (service.p2s != NULL)
        mtls_workers_exit(mtls_now());
}

/* ---- What path2_workers.c needs ---- */

struct mtls_p2s *mtls_conns_p2s(void)
{
    return service.p2s;
}

struct conn *mtls_conns_first(void)
{
    return service.conns;
}

void mtls_conn_add(struct conn *c)
{
    list_add(&service.conns, c);
}

void mtls_conn_flush(struct conn *c)
{
    mtls_p2s_conn_speak(c->p2s);
    flush(c);
}

void mtls_conn_close(struct conn *c)
{
    on_close(NULL, c, 0);
}

void mtls_conn_free(struct conn *c)
{
    conn_free(c);
}

void mtls_conn_read(struct conn *c, mtls_tstamp now)
{
    conn_event(c, EPOLLIN, now);
}

void mtls_conns_accept(mtls_tstamp now)
{
    size_t i;

    limit_conns(now);
    for (i = 0; i < service.nlisteners; i++) {
        if (service.listeners[i].watch != NULL)
            (void)accept_some(&service.listeners[i], ACCEPT_BATCH, now);
    }
    arm_expiry();
}

void mtls_conns_arm(void)
{
    arm_expiry();
}

uint64_t mtls_conns_listener_id(size_t i)
{
    return i < service.nlisteners ? service.listeners[i].id : MTLS_NO_LISTENER;
}

void mtls_conns_return(mtls_tstamp now)
{
    accept_again(NULL, now);
}

int mtls_conn_watch(struct conn *c)
{
    return mtls_watch_new(&c->watch, service.reactor, c->fd, EPOLLIN | EPOLLRDHUP, conn_event, c);
}
