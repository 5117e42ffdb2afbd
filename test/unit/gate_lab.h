/* Test helper: both ends of a hooked session with relays on path 1 and path 2, each end driven in a
 * thread of its own in one of the styles that applications have. Every wait has a deadline. */
#ifndef TEST_GATE_LAB_H
#define TEST_GATE_LAB_H

#include "gate_relay.h"
#include "uring_poll.h"

#include <sys/resource.h>
#include <sys/select.h>

#include <openssl/async.h>

enum style {
    BLOCKING,
    POLLED,
    LEVEL, /* epoll, level-triggered */
    EDGE,
    MEMORY, /* memory BIOs; MEMORY_FD: and mtls_set_fd() */
    MEMORY_FD,
    ASYNC, /* SSL_MODE_ASYNC */
    SELECTED,
    ONESHOT, /* epoll, one-shot */
    URING,
    CUSTOM, /* a BIO of the application, on a socket that it does not tell */
    CUSTOM_FD,
    PAIR_FD, /* a BIO pair */
    PIPES,   /* pumped by a thread; epoll, edge-triggered; and mtls_set_fd() */
    LOCAL,   /* the same over a local socket, level-triggered */
    STYLES
};
enum op { HANDSHAKE, WRITE, READ };

/* A spinning end would burn all the time that path 2 is held (300 ms); a handshake alone takes a
 * few milliseconds. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { CPU_MAX_US = 120000 };
#else
enum { CPU_MAX_US = 20000 };
#endif
enum { HELD_MS = 300 };

struct end {
    SSL_CTX *ctx;
    SSL_SESSION *session;
    bool server;
    enum style style;
    bool no_data;                /* the handshake alone */
    bool implicit;               /* the handshake is left to SSL_write and SSL_read */
    size_t echo;                 /* bytes to send and get back, 0: 5 */
    void (*ready)(struct end *); /* before the handshake */
    int listener;
    uint16_t port;
    /* results */
    SSL *ssl;
    BIO *network; /* the far side of memory BIOs or of a pair: NULL = the SSL's own */
    struct pump {
        int ours[2], theirs[2], fd; /* [0] is read, [1] written */
        pthread_t thread;
    } pump;
    int fd, epoll, rc, ssl_error, queue, got;
    char text[128];                      /* of the last entry on the error queue */
    unsigned calls, wants_async, paused; /* paused: by a call-back of the application */
    uint64_t cpu_us, ms, longest_ms;     /* longest: of one call of the handshake */
    enum mtls_outcome outcome;
    int reason;
    bool keep; /* the test frees ssl and fd */
    pthread_t thread;
};

struct lab {
    SSL_CTX *server, *client;
    int listener;
    uint16_t port; /* the server's own */
    struct relay p1, p2;
    struct end s, c;
};

static inline uint64_t thread_cpu_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static inline bool fd_wait(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};

    return poll(&p, 1, LAB_LIMIT_MS) == 1;
}

/* Whether the client can judge its paths. */
static inline bool tells_fd(enum style style)
{
    return style != MEMORY && style != CUSTOM;
}

static inline bool in_memory(const struct end *e)
{
    return e->style == MEMORY || e->style == MEMORY_FD || e->style == PAIR_FD;
}

static inline bool mem_flush(struct end *e)
{
    char buf[4096];
    int n;

    while ((n = BIO_read(e->network != NULL ? e->network : SSL_get_wbio(e->ssl), buf,
                         sizeof(buf))) > 0) {
        int sent = 0;

        while (sent < n) {
            ssize_t k = send(e->fd, buf + sent, (size_t)(n - sent), MSG_NOSIGNAL);

            if (k < 0 && (errno != EAGAIN || !fd_wait(e->fd, POLLOUT)))
                return false;
            sent += k > 0 ? (int)k : 0;
        }
    }
    return true;
}

static inline bool mem_fill(struct end *e)
{
    char buf[16384];
    ssize_t n;

    if (!fd_wait(e->fd, POLLIN))
        return false;
    n = recv(e->fd, buf, sizeof(buf), MSG_DONTWAIT);
    if (n > 0)
        return BIO_write(e->network != NULL ? e->network : SSL_get_rbio(e->ssl), buf, (int)n) == n;
    if (n < 0 && errno == EAGAIN)
        return true;
    if (e->network != NULL)
        BIO_shutdown_wr(e->network);
    else
        BIO_set_mem_eof_return(SSL_get_rbio(e->ssl), 0);
    return true;
}

static inline bool async_wait(struct end *e)
{
    OSSL_ASYNC_FD fd;
    size_t n = 0;

    e->wants_async++;
    return SSL_get_all_async_fds(e->ssl, NULL, &n) == 1 && n == 1 &&
           SSL_get_all_async_fds(e->ssl, &fd, &n) == 1 && fd_wait(fd, POLLIN);
}

static inline bool pump_move(int from, int to)
{
    char buf[8192];
    ssize_t n = read(from, buf, sizeof(buf)), sent = 0, k = 0;

    while (n > 0 && sent < n && k >= 0) {
        k = write(to, buf + sent, (size_t)(n - sent));
        if (k < 0 && errno == EAGAIN && fd_wait(to, POLLOUT))
            k = 0;
        sent += k > 0 ? k : 0;
    }
    return n > 0 ? k >= 0 : n < 0 && errno == EAGAIN;
}

/* Between the socket and the pipes, until the application has closed its side. */
static inline void *pump_main(void *arg)
{
    struct pump *p = arg;
    bool in = true;

    for (;;) {
        struct pollfd f[2] = {{.fd = p->theirs[0], .events = POLLIN},
                              {.fd = in ? p->fd : -1, .events = POLLIN}};

        if (poll(f, 2, LAB_LIMIT_MS) <= 0 || (f[0].revents != 0 && !pump_move(p->theirs[0], p->fd)))
            break;
        if (in && f[1].revents != 0 && !pump_move(p->fd, p->theirs[1])) {
            in = false;
            if (p->theirs[1] != p->theirs[0])
                close(p->theirs[1]);
            else
                shutdown(p->theirs[1], SHUT_WR);
        }
    }
    close(p->theirs[0]);
    if (in && p->theirs[1] != p->theirs[0])
        close(p->theirs[1]);
    return NULL;
}

static inline void pump_start(struct end *e)
{
    struct pump *p = &e->pump;
    int a[2], b[2];

    p->fd = e->fd;
    if (e->style == PIPES) {
        assert_int_equal(pipe2(a, O_CLOEXEC), 0);
        assert_int_equal(pipe2(b, O_CLOEXEC), 0);
        p->ours[0] = a[0];
        p->theirs[1] = a[1];
        p->theirs[0] = b[0];
        p->ours[1] = b[1];
    } else {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a), 0);
        p->ours[0] = p->ours[1] = a[0];
        p->theirs[0] = p->theirs[1] = a[1];
    }
    fcntl(p->ours[0], F_SETFL, O_NONBLOCK);
    fcntl(p->ours[1], F_SETFL, fcntl(p->ours[1], F_GETFL) | O_NONBLOCK);
    assert_int_equal(pthread_create(&p->thread, NULL, pump_main, p), 0);
}

static inline void pump_stop(struct end *e)
{
    if (e->pump.ours[1] != e->pump.ours[0])
        close(e->pump.ours[1]);
    else
        shutdown(e->pump.ours[1], SHUT_WR);
    pthread_join(e->pump.thread, NULL);
    close(e->pump.ours[0]);
}

static inline bool pumped(const struct end *e)
{
    return e->style == PIPES || e->style == LOCAL;
}

/* What the application waits on. */
static inline int wait_fd(const struct end *e, bool write)
{
    return pumped(e) ? e->pump.ours[write] : e->fd;
}

static inline bool select_wait(int fd, bool write)
{
    struct timeval limit = {.tv_sec = LAB_LIMIT_MS / 1000};
    fd_set set;

    FD_ZERO(&set);
    FD_SET(fd, &set);
    return select(fd + 1, write ? NULL : &set, write ? &set : NULL, NULL, &limit) == 1;
}

static inline bool paused_by_callback(int err)
{
    return err == SSL_ERROR_WANT_CLIENT_HELLO_CB || err == SSL_ERROR_WANT_RETRY_VERIFY ||
           err == SSL_ERROR_WANT_X509_LOOKUP;
}

static inline bool end_wait(struct end *e, int err)
{
    bool write = err == SSL_ERROR_WANT_WRITE;
    struct epoll_event ev = {.events = write ? EPOLLOUT : EPOLLIN};

    if (err == SSL_ERROR_WANT_ASYNC)
        return async_wait(e);
    if (paused_by_callback(err))
        return ++e->paused < 10;
    switch (e->style) {
    case BLOCKING:
        return false;
    case LEVEL:
    case LOCAL:
        epoll_ctl(e->epoll, EPOLL_CTL_MOD, wait_fd(e, write), &ev);
        /* fall through */
    case EDGE:
    case PIPES:
        return epoll_wait(e->epoll, &ev, 1, LAB_LIMIT_MS) == 1;
    case ONESHOT:
        return oneshot_wait(e->epoll, e->fd, write ? POLLOUT : POLLIN, LAB_LIMIT_MS);
    case URING:
        return uring_wait(e->epoll, e->fd, write ? POLLOUT : POLLIN, LAB_LIMIT_MS);
    case SELECTED:
        return select_wait(e->fd, write);
    case MEMORY:
    case MEMORY_FD:
    case PAIR_FD:
        return write || mem_fill(e); /* what was written has left already */
    default:
        return fd_wait(e->fd, write ? POLLOUT : POLLIN);
    }
}

static inline int end_call(struct end *e, enum op op, uint8_t *buf, size_t len)
{
    uint64_t began = lab_ms(), took;
    int rc;

    ERR_clear_error();
    if (op == HANDSHAKE)
        rc = SSL_do_handshake(e->ssl);
    else
        rc = op == WRITE ? SSL_write(e->ssl, buf, (int)len) : SSL_read(e->ssl, buf, (int)len);
    took = lab_ms() - began;
    e->longest_ms = op == HANDSHAKE && took > e->longest_ms ? took : e->longest_ms;
    e->ssl_error = SSL_get_error(e->ssl, rc);
    e->queue = mtls_last_error();
    ERR_error_string_n(ERR_peek_last_error(), e->text, sizeof(e->text));
    if (in_memory(e))
        (void)mem_flush(e);
    return rc;
}

static inline int end_do(struct end *e, enum op op, uint8_t *buf, size_t len)
{
    for (;;) {
        int rc = end_call(e, op, buf, len);

        if (op == HANDSHAKE)
            e->calls++;
        if (rc > 0)
            return rc;
        if (e->ssl_error != SSL_ERROR_WANT_READ && e->ssl_error != SSL_ERROR_WANT_WRITE &&
            e->ssl_error != SSL_ERROR_WANT_ASYNC && !paused_by_callback(e->ssl_error))
            return rc;
        if (!end_wait(e, e->ssl_error))
            return -100;
    }
}

static inline void end_socket(struct end *e)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET};

    e->fd = e->server ? accept4(e->listener, NULL, NULL, SOCK_CLOEXEC)
                      : pair_connect("127.0.0.1", e->port);
    assert_true(e->fd >= 0);
    e->epoll = -1;
    if (e->style != BLOCKING)
        fcntl(e->fd, F_SETFL, fcntl(e->fd, F_GETFL) | O_NONBLOCK);
    if (pumped(e))
        pump_start(e);
    else if (e->style != LEVEL && e->style != EDGE && e->style != ONESHOT && e->style != URING)
        return;
    e->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (e->style == ONESHOT || e->style == URING)
        return;
    if (e->style == PIPES) {
        ev.events = EPOLLOUT | EPOLLET;
        epoll_ctl(e->epoll, EPOLL_CTL_ADD, e->pump.ours[1], &ev);
        ev.events = EPOLLIN | EPOLLET;
    }
    ev.events = e->style == LEVEL || e->style == LOCAL ? EPOLLIN : ev.events;
    epoll_ctl(e->epoll, EPOLL_CTL_ADD, wait_fd(e, false), &ev);
}

static inline void end_bios(struct end *e)
{
    BIO *b;

    switch (e->style) {
    case MEMORY:
    case MEMORY_FD:
        SSL_set_bio(e->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
        break;
    case PAIR_FD:
        assert_int_equal(BIO_new_bio_pair(&b, 0, &e->network, 0), 1);
        SSL_set_bio(e->ssl, b, b);
        break;
    case CUSTOM:
    case CUSTOM_FD:
        b = custom_bio(e->fd);
        SSL_set_bio(e->ssl, b, b);
        break;
    case PIPES:
    case LOCAL:
        SSL_set_rfd(e->ssl, e->pump.ours[0]);
        SSL_set_wfd(e->ssl, e->pump.ours[1]);
        break;
    default:
        SSL_set_fd(e->ssl, e->fd);
        break;
    }
    if (pumped(e) || e->style == MEMORY_FD || e->style == PAIR_FD || e->style == CUSTOM_FD)
        assert_int_equal(mtls_set_fd(e->ssl, e->fd), 1);
}

static inline void end_open(struct end *e)
{
    end_socket(e);
    e->ssl = SSL_new(e->ctx);
    if (e->server)
        SSL_set_accept_state(e->ssl);
    else
        SSL_set_connect_state(e->ssl);
    if (!e->server) {
        SSL_set_tlsext_host_name(e->ssl, "server.example");
        X509_VERIFY_PARAM_set1_host(SSL_get0_param(e->ssl), "server.example", 0);
    }
    if (e->session != NULL)
        SSL_set_session(e->ssl, e->session);
    end_bios(e);
    if (e->style == ASYNC)
        SSL_set_mode(e->ssl, SSL_MODE_ASYNC);
    if (e->ready != NULL)
        e->ready(e);
}

static inline void end_close(struct end *e)
{
    SSL_free(e->ssl);
    BIO_free(e->network);
    e->ssl = NULL;
    e->network = NULL;
    if (pumped(e))
        pump_stop(e);
    if (e->epoll >= 0)
        close(e->epoll);
    close(e->fd);
}

/* The client sends and gets it back; the server echoes. */
static inline void end_data(struct end *e)
{
    uint8_t buf[8192] = "hello";
    size_t len = e->echo != 0 ? e->echo : 5, n = 0;

    if (!e->server && (e->rc = end_do(e, WRITE, buf, len)) != (int)len)
        return;
    while (n < len && (e->rc = end_do(e, READ, buf, sizeof(buf))) > 0) {
        n += (size_t)e->rc;
        if (e->server && end_do(e, WRITE, buf, (size_t)e->rc) != e->rc)
            break;
    }
    e->got = (int)n;
}

static inline void *end_main(void *arg)
{
    struct end *e = arg;
    uint64_t cpu, began;

    end_open(e);
    began = lab_ms();
    cpu = thread_cpu_us();
    e->rc = e->implicit ? 1 : end_do(e, HANDSHAKE, NULL, 0);
    e->cpu_us = thread_cpu_us() - cpu;
    e->ms = lab_ms() - began;
    if (e->rc == 1 && !e->no_data)
        end_data(e);
    e->outcome = mtls_get_outcome(e->ssl);
    e->reason = mtls_get_reason(e->ssl);
    if (!e->keep) {
        if (SSL_is_init_finished(e->ssl))
            SSL_shutdown(e->ssl);
        if (in_memory(e))
            (void)mem_flush(e);
        end_close(e);
    }
    ERR_clear_error();
    return NULL;
}

static inline void end_start(struct end *e)
{
    assert_int_equal(pthread_create(&e->thread, NULL, end_main, e), 0);
}

static inline void end_join(struct end *e)
{
    pthread_join(e->thread, NULL);
}

/* ---- lab ---- */

static inline void lab_ends(struct lab *l)
{
    memset(&l->s, 0, sizeof(l->s));
    memset(&l->c, 0, sizeof(l->c));
    l->s.ctx = l->server;
    l->s.server = true;
    l->s.listener = l->listener;
    l->c.ctx = l->client;
    l->c.port = l->p1.port;
}

/* Listeners live as long as the process: one for all tests, on an SSL_CTX that nothing else uses.
 */
static SSL_CTX *lab_keeper;

static inline uint16_t lab_port2(void)
{
    if (lab_keeper == NULL) {
        lab_keeper = pair_server_ctx();
        assert_int_equal(mtls_ssl_ctx_hook(lab_keeper, "policy=prefer listen=127.0.1.1:0"), 1);
    }
    return pair_port2(lab_keeper);
}

/* server: its words, NULL: plain TLS; client: its words beside path2. policy NULL: the client is
 * plain. */
static inline void lab_make(struct lab *l, const char *server, const char *policy,
                            const char *client)
{
    char words[512];

    memset(l, 0, sizeof(*l));
    l->server = pair_server_ctx();
    l->client = pair_client_ctx();
    if (server != NULL && mtls_ssl_ctx_hook(l->server, server) != 1) {
        ERR_print_errors_fp(stderr);
        fail();
    }
    l->listener = pair_listen("127.0.0.1", &l->port);
    relay_start(&l->p2, RELAY_PATH2, "127.0.1.1", "127.0.1.1", lab_port2());
    relay_start(&l->p1, RELAY_PATH1, "127.0.0.1", "127.0.0.1", l->port);
    pair_words(words, sizeof(words), policy != NULL ? policy : "off", l->p2.port, client);
    if (policy != NULL)
        assert_int_equal(mtls_ssl_ctx_hook(l->client, words), 1);
    lab_ends(l);
}

static inline void lab_free(struct lab *l)
{
    relay_stop(&l->p1);
    relay_stop(&l->p2);
    SSL_CTX_free(l->server);
    SSL_CTX_free(l->client);
    close(l->listener);
}

static inline void lab_start(struct lab *l)
{
    end_start(&l->s);
    end_start(&l->c);
}

static inline void lab_join(struct lab *l)
{
    end_join(&l->c);
    end_join(&l->s);
}

static inline void lab_run(struct lab *l)
{
    lab_start(l);
    lab_join(l);
}

static inline void assert_verified(const struct end *e)
{
    if (e->outcome != MTLS_OUTCOME_VERIFIED)
        print_error("%s: %s, %s\n", e->server ? "server" : "client", mtls_outcome_name(e->outcome),
                    mtls_error_name(e->reason));
    if (e->got == 0)
        print_error("%s, style %d: rc %d, SSL error %d, %s, %s\n", e->server ? "server" : "client",
                    e->style, e->rc, e->ssl_error, mtls_error_name(e->queue), e->text);
    assert_int_equal(e->outcome, MTLS_OUTCOME_VERIFIED);
    assert_int_equal(e->got, e->echo != 0 ? e->echo : 5);
}

static inline void assert_plain(const struct end *e, int reason)
{
    if (e->outcome != MTLS_OUTCOME_PLAIN)
        print_error("%s: %s, %s, expected plain\n", e->server ? "server" : "client",
                    mtls_outcome_name(e->outcome), mtls_error_name(e->reason));
    assert_int_equal(e->outcome, MTLS_OUTCOME_PLAIN);
    assert_int_equal(e->reason, reason);
}

static inline void assert_failed(const struct end *e, int reason)
{
    if (e->outcome != MTLS_OUTCOME_FAILED || e->reason != reason)
        print_error("%s: %s, %s, expected %s\n", e->server ? "server" : "client",
                    mtls_outcome_name(e->outcome), mtls_error_name(e->reason),
                    mtls_error_name(reason));
    assert_int_equal(e->outcome, MTLS_OUTCOME_FAILED);
    assert_int_equal(e->reason, reason);
    assert_true(e->rc <= 0);
    assert_int_equal(e->got, 0);
}

#define SERVER_WORDS "policy=require "

#endif
