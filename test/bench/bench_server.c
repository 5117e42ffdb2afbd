/* Concept: the benchmark's server: one thread or several, each with non-blocking sockets and
 * level-triggered epoll, as ordinary event-driven servers have it; plain or hooked by its command
 * line alone. It says its ports in its first line, and for each line that it reads what it has done
 * and spent so far; it ends with its standard input. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>

#include "bench.h"

enum { EVENTS = 64, BACKLOG = 1024, THREADS_MAX = 16 };

struct conn {
    int fd, epoll;
    SSL *ssl;
    bool ready;
    uint8_t order[BENCH_ORDER_LEN];
    size_t have;
    uint64_t left;
    uint32_t events;
};

static struct {
    int listener, path2; /* path2: what is polled for path 2, with reactor=app */
    SSL_CTX *ctx;
    bool exporter, needs, gated, hollow; /* bench_needs.c, bench_gated.c, bench_hollow.c */
    struct conn *waiting;                /* gated */
    uint64_t done, failed, resumed, verified, resumed_verified, open; /* atomic */
} server;

static uint8_t block[BENCH_RECORD];

static void add(uint64_t *counter, uint64_t by)
{
    __atomic_fetch_add(counter, by, __ATOMIC_RELAXED);
}

static void conn_close(struct conn *c)
{
    SSL_free(c->ssl);
    close(c->fd);
    free(c);
    add(&server.open, (uint64_t)-1);
}

static void count(const struct conn *c)
{
    enum mtls_outcome outcome = mtls_get_outcome(c->ssl);

    add(&server.resumed, SSL_session_reused(c->ssl) == 1);
    add(&server.verified, outcome == MTLS_OUTCOME_VERIFIED);
    add(&server.resumed_verified, outcome == MTLS_OUTCOME_RESUMED_VERIFIED);
    add(&server.done, 1);
}

static void listen_for(struct conn *c, uint32_t what)
{
    struct epoll_event ev = {.events = what, .data.ptr = c};

    if (what != c->events)
        bench_check(epoll_ctl(c->epoll, EPOLL_CTL_MOD, c->fd, &ev) == 0, "epoll_ctl");
    c->events = what;
}

/* rc: what libssl returned; 1 go on, 0 wait, -1 over. */
static int judge(struct conn *c, int rc)
{
    if (rc > 0)
        return 1;
    switch (SSL_get_error(c->ssl, rc)) {
    case SSL_ERROR_ZERO_RETURN:
        SSL_shutdown(c->ssl);
        return -1;
    case SSL_ERROR_WANT_READ:
        listen_for(c, EPOLLIN);
        return 0;
    case SSL_ERROR_WANT_WRITE:
        listen_for(c, EPOLLOUT);
        return 0;
    default:
        return -1;
    }
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

/* PROOF is made now, as long as the flight is under way. */
static void flight_out(struct conn *c)
{
    uint8_t own[1];

    if (SSL_get_finished(c->ssl, own, sizeof(own)) == 0 || bench_gated_began())
        return;
    if (server.needs)
        bench_needs(c->ssl);
    bench_gated_flight();
}

/* The handshake is over. 0: it waits for path 2. */
static int accepted(struct conn *c)
{
    uint8_t keys[BENCH_KEYS];

    c->ready = true;
    if (server.exporter)
        bench_exporter(c->ssl, keys);
    if (server.needs && !server.gated)
        bench_needs(c->ssl);
    count(c);
    if (!bench_gated_waits())
        return 1;
    server.waiting = c;
    listen_for(c, 0); /* or level-triggered epoll would turn in circles */
    return 0;
}

static void conn_event(struct conn *c)
{
    int go = 1;

    if (!c->ready) {
        go = judge(c, SSL_accept(c->ssl));
        if (go == 1)
            go = accepted(c);
        else if (go == -1)
            add(&server.failed, 1);
        else if (server.gated)
            flight_out(c);
    } else if (c == server.waiting) {
        return;
    }
    if (go == 1)
        go = serve(c);
    if (go == -1) {
        ERR_clear_error();
        conn_close(c);
    }
}

/* What the one that waits may have read meanwhile is in its socket still. */
static void confirmed(void)
{
    struct conn *c = server.waiting;

    if (!bench_gated_over() || c == NULL)
        return;
    server.waiting = NULL;
    listen_for(c, EPOLLIN);
    conn_event(c);
}

static void accept_some(int epoll)
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
        c->epoll = epoll;
        c->events = ev.events;
        ev.data.ptr = c;
        add(&server.open, 1);
        bench_check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) == 0, "epoll_ctl");
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

static void watch(int epoll, int fd, uint32_t what, void *ptr)
{
    struct epoll_event ev = {.events = what, .data.ptr = ptr};

    bench_check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) == 0, "epoll_ctl");
}

/* first: the thread that also answers the driver, until the driver ends. */
static void loop(bool first)
{
    struct epoll_event events[EVENTS];
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    watch(epoll, server.listener, EPOLLIN | EPOLLEXCLUSIVE, &server.listener);
    if (first)
        watch(epoll, STDIN_FILENO, EPOLLIN, NULL);
    if (first && server.path2 >= 0)
        watch(epoll, server.path2, EPOLLIN, &server.path2);
    if (first && server.gated)
        watch(epoll, bench_gated(), EPOLLIN, &server.waiting);
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &server.listener)
                accept_some(epoll);
            else if (events[i].data.ptr == &server.waiting)
                confirmed();
            else if (events[i].data.ptr == &server.path2)
                bench_check(mtls_dispatch() == 1, "mtls_dispatch");
            else if (events[i].data.ptr != NULL)
                conn_event(events[i].data.ptr);
            else if (!tell())
                return;
        }
    }
}

static void *idle_main(void *arg)
{
    (void)arg;
    for (;;)
        pause();
    return NULL;
}

static void *thread_main(void *arg)
{
    (void)arg;
    loop(false);
    return NULL;
}

static void run(int threads)
{
    pthread_t thread;

    for (int i = 1; i < threads; i++)
        bench_check(pthread_create(&thread, NULL, thread_main, NULL) == 0, "pthread_create");
    loop(true);
}

static struct {
    const char *host, *cert, *key, *words, *bare;
    int transport, threads;
    bool idle; /* a second thread that does nothing */
} asked = {.host = "127.0.0.1", .transport = IPPROTO_TCP, .threads = 1};

static void option(int opt)
{
    switch (opt) {
    case 'h':
        asked.host = optarg;
        break;
    case 'c':
        asked.cert = optarg;
        break;
    case 'k':
        asked.key = optarg;
        break;
    case 'w':
        asked.words = optarg;
        break;
    case 'p':
        bench_pin(atoi(optarg));
        break;
    case 'B':
        asked.bare = optarg;
        break;
    case 't':
        asked.threads = atoi(optarg);
        bench_check(asked.threads >= 1 && asked.threads <= THREADS_MAX, "--threads");
        break;
    case 'e':
        server.exporter = true;
        break;
    case 'n':
        server.needs = true;
        break;
    case 'g':
        server.gated = true;
        break;
    case 'o':
        server.hollow = true;
        break;
    case 'i':
        asked.idle = true;
        break;
    case 'm':
        asked.transport = IPPROTO_MPTCP;
        break;
    default:
        exit(1);
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"host", required_argument, NULL, 'h'},    {"cert", required_argument, NULL, 'c'},
        {"key", required_argument, NULL, 'k'},     {"words", required_argument, NULL, 'w'},
        {"cpu", required_argument, NULL, 'p'},     {"bare", required_argument, NULL, 'B'},
        {"threads", required_argument, NULL, 't'}, {"exporter", no_argument, NULL, 'e'},
        {"needs", no_argument, NULL, 'n'},         {"gated", no_argument, NULL, 'g'},
        {"hollow", no_argument, NULL, 'o'},        {"idle", no_argument, NULL, 'i'},
        {"mptcp", no_argument, NULL, 'm'},         {NULL, 0, NULL, 0}};
    const char *path2 = NULL;
    pthread_t thread;
    int opt;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1)
        option(opt);
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    server.ctx = bench_server_ctx(asked.words, asked.cert, asked.key);
    server.path2 = -1;
    if (asked.words != NULL && strstr(asked.words, "reactor=app") != NULL)
        server.path2 = mtls_pollable_fd();
    if (asked.words != NULL)
        path2 = mtls_ssl_ctx_get0_listener(server.ctx, 0);
    if (server.hollow)
        bench_hollow(server.ctx);
    if (asked.idle)
        bench_check(pthread_create(&thread, NULL, idle_main, NULL) == 0, "pthread_create");
    listen_on(asked.host, asked.transport, path2,
              asked.bare != NULL ? bench_bare_serve(asked.bare) : 0);
    run(asked.threads);
    return 0;
}
