/* Concept: the benchmark's server: one thread, non-blocking sockets, level-triggered epoll, as an
 * ordinary event-driven server has it; plain or hooked by its command line alone. It says its ports
 * in its first line, and for each line that it reads what it has done and spent so far; it ends
 * with its standard input. */
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>

#include "bench.h"

enum { EVENTS = 64, BACKLOG = 1024 };

struct conn {
    int fd;
    SSL *ssl;
    bool ready;
    uint8_t order[BENCH_ORDER_LEN];
    size_t have;
    uint64_t left;
    uint32_t events;
};

static struct {
    int epoll, listener, path2; /* path2: what is polled for path 2, with reactor=app */
    SSL_CTX *ctx;
    uint64_t done, failed, resumed, verified, resumed_verified, open;
} server;

static uint8_t block[BENCH_RECORD];

static void conn_close(struct conn *c)
{
    SSL_free(c->ssl);
    close(c->fd);
    free(c);
    server.open--;
}

static void count(const struct conn *c)
{
    enum mtls_outcome outcome = mtls_get_outcome(c->ssl);

    server.done++;
    server.resumed += SSL_session_reused(c->ssl) == 1;
    server.verified += outcome == MTLS_OUTCOME_VERIFIED;
    server.resumed_verified += outcome == MTLS_OUTCOME_RESUMED_VERIFIED;
}

/* rc: what libssl returned; 1 go on, 0 wait, -1 over. */
static int judge(struct conn *c, int rc)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};

    if (rc > 0)
        return 1;
    switch (SSL_get_error(c->ssl, rc)) {
    case SSL_ERROR_ZERO_RETURN:
        SSL_shutdown(c->ssl);
        return -1;
    case SSL_ERROR_WANT_READ:
        break;
    case SSL_ERROR_WANT_WRITE:
        ev.events = EPOLLOUT;
        break;
    default:
        return -1;
    }
    if (ev.events != c->events)
        bench_check(epoll_ctl(server.epoll, EPOLL_CTL_MOD, c->fd, &ev) == 0, "epoll_ctl");
    c->events = ev.events;
    return 0;
}

static int serve_up(struct conn *c)
{
    uint8_t in[BENCH_RECORD];
    int rc, go = 1;

    while (c->left > 0) {
        rc = SSL_read(c->ssl, in, sizeof(in));
        go = judge(c, rc);
        if (go != 1)
            return go;
        c->left -= (uint64_t)rc;
    }
    c->have = 0;
    return judge(c, SSL_write(c->ssl, "u", 1));
}

static int serve_down(struct conn *c)
{
    int rc, go = 1;

    while (c->left > 0) {
        rc = SSL_write(c->ssl, block, c->left < sizeof(block) ? (int)c->left : (int)sizeof(block));
        go = judge(c, rc);
        if (go != 1)
            return go;
        c->left -= (uint64_t)rc;
    }
    c->have = 0;
    return 1;
}

static int serve(struct conn *c)
{
    int rc, go = 1;

    while (go == 1) {
        if (c->have < sizeof(c->order)) {
            rc = SSL_read(c->ssl, c->order + c->have, (int)(sizeof(c->order) - c->have));
            go = judge(c, rc);
            if (go != 1)
                break;
            c->have += (size_t)rc;
            c->left = bench_get64(c->order + 1);
        } else if (c->order[0] == BENCH_ECHO) {
            c->have = 0;
            go = judge(c, SSL_write(c->ssl, "e", 1));
        } else {
            go = c->order[0] == BENCH_UP ? serve_up(c) : serve_down(c);
        }
    }
    return go;
}

static void conn_event(struct conn *c)
{
    int go = 1;

    if (!c->ready) {
        go = judge(c, SSL_accept(c->ssl));
        if (go == 1) {
            c->ready = true;
            count(c);
        } else if (go == -1) {
            server.failed++;
        }
    }
    if (go == 1)
        go = serve(c);
    if (go == -1) {
        ERR_clear_error();
        conn_close(c);
    }
}

static void accept_some(void)
{
    struct epoll_event ev = {.events = EPOLLIN};
    struct conn *c;
    int fd;

    while ((fd = accept4(server.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        c = calloc(1, sizeof(*c));
        bench_check(c != NULL && (c->ssl = SSL_new(server.ctx)) != NULL &&
                        SSL_set_fd(c->ssl, fd) == 1,
                    "SSL_new");
        bench_nodelay(fd);
        SSL_set_accept_state(c->ssl);
        c->fd = fd;
        c->events = ev.events;
        ev.data.ptr = c;
        server.open++;
        bench_check(epoll_ctl(server.epoll, EPOLL_CTL_ADD, fd, &ev) == 0, "epoll_ctl");
    }
}

/* false: standard input has ended. */
static bool tell(void)
{
    char line[64];

    if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
        return false;
    printf("{\"cpu_ns\": %" PRIu64 ", \"done\": %" PRIu64 ", \"failed\": %" PRIu64
           ", \"resumed\": %" PRIu64 ", \"verified\": %" PRIu64 ", \"resumed_verified\": %" PRIu64
           ", \"open\": %" PRIu64 "}\n",
           bench_clock_ns(CLOCK_PROCESS_CPUTIME_ID), server.done, server.failed, server.resumed,
           server.verified, server.resumed_verified, server.open);
    return true;
}

static void listen_on(const char *host, int transport, const char *path2, unsigned bare)
{
    struct sockaddr_in sin = bench_addr(host, 0);
    socklen_t len = sizeof(sin);

    server.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, transport);
    bench_check(bind(server.listener, (struct sockaddr *)&sin, len) == 0 &&
                    listen(server.listener, BACKLOG) == 0 &&
                    getsockname(server.listener, (struct sockaddr *)&sin, &len) == 0,
                "listen");
    printf("{\"port\": %u, \"path2\": \"%s\", \"bare\": %u}\n", ntohs(sin.sin_port),
           path2 != NULL ? path2 : "", bare);
}

static void loop(void)
{
    struct epoll_event events[EVENTS], ev = {.events = EPOLLIN, .data.ptr = &server.listener};

    server.epoll = epoll_create1(EPOLL_CLOEXEC);
    bench_check(epoll_ctl(server.epoll, EPOLL_CTL_ADD, server.listener, &ev) == 0, "epoll_ctl");
    ev.data.ptr = NULL;
    bench_check(epoll_ctl(server.epoll, EPOLL_CTL_ADD, STDIN_FILENO, &ev) == 0, "epoll_ctl");
    if (server.path2 >= 0) {
        ev.data.ptr = &server.path2;
        bench_check(epoll_ctl(server.epoll, EPOLL_CTL_ADD, server.path2, &ev) == 0, "epoll_ctl");
    }
    for (;;) {
        int n = epoll_wait(server.epoll, events, EVENTS, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &server.listener)
                accept_some();
            else if (events[i].data.ptr == &server.path2)
                bench_check(mtls_dispatch() == 1, "mtls_dispatch");
            else if (events[i].data.ptr != NULL)
                conn_event(events[i].data.ptr);
            else if (!tell())
                return;
        }
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"host", required_argument, NULL, 'h'}, {"cert", required_argument, NULL, 'c'},
        {"key", required_argument, NULL, 'k'},  {"words", required_argument, NULL, 'w'},
        {"cpu", required_argument, NULL, 'p'},  {"bare", no_argument, NULL, 'B'},
        {"mptcp", no_argument, NULL, 'm'},      {NULL, 0, NULL, 0}};
    const char *host = "127.0.0.1", *cert = NULL, *key = NULL, *words = NULL;
    int opt, transport = IPPROTO_TCP;
    bool bare = false;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (opt) {
        case 'h':
            host = optarg;
            break;
        case 'c':
            cert = optarg;
            break;
        case 'k':
            key = optarg;
            break;
        case 'w':
            words = optarg;
            break;
        case 'p':
            bench_pin(atoi(optarg));
            break;
        case 'B':
            bare = true;
            break;
        case 'm':
            transport = IPPROTO_MPTCP;
            break;
        default:
            return 1;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    server.ctx = bench_server_ctx(words, cert, key);
    server.path2 = words != NULL && strstr(words, "reactor=app") != NULL ? mtls_pollable_fd() : -1;
    listen_on(host, transport, words != NULL ? mtls_ssl_ctx_get0_listener(server.ctx, 0) : NULL,
              bare ? bench_bare_serve() : 0);
    loop();
    return 0;
}
