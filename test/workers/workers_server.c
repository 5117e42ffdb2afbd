/* Concept: a server as nginx is one: a parent that hooks its SSL_CTX and forks workers, each with
 * an event loop; SIGHUP reloads the certificate and replaces the workers, which finish what they
 * have; SIGTERM ends all. With --workers 0 one process serves by itself (several of them share
 * ports with
 * --port and share=NAME). Answers each line of a client with its process number. Lines of JSON on
 * standard output: what it listens on, what each worker has done when it exits, how it ended. */
#include <errno.h>
#include <inttypes.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "mtls/mtls.h"
#include "mtls/net/path2_workers.h"

enum { WORKERS_MAX = 64, EVENTS = 64, BACKLOG = 1024 };

struct served {
    int fd;
    SSL *ssl;
    bool ready;
};

static struct {
    const char *host, *cert, *key, *words;
    int port, workers;
    SSL_CTX *ctx;
    int listener, epoll, signals;
    pid_t pids[WORKERS_MAX];
    unsigned verified, plain, failed, open;
    bool quitting;
} server = {.host = "127.0.0.1", .workers = 4};

static void must(bool right, const char *what)
{
    if (right)
        return;
    fprintf(stderr, "workers_server: %s: %s\n", what, strerror(errno));
    ERR_print_errors_fp(stderr);
    exit(1);
}

static SSL_CTX *ctx_make(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    must(ctx != NULL && SSL_CTX_use_certificate_chain_file(ctx, server.cert) == 1 &&
             SSL_CTX_use_PrivateKey_file(ctx, server.key, SSL_FILETYPE_PEM) == 1,
         "certificate");
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    must(server.words == NULL || mtls_ssl_ctx_hook(ctx, server.words) == 1, "hook");
    return ctx;
}

/* ---- A worker ---- */

static void say_stats(void)
{
    struct mtls_workers_stats s;

    mtls_engine_lock();
    mtls_workers_stats(&s);
    mtls_engine_unlock();
    printf("{\"event\": \"worker\", \"pid\": %d, \"verified\": %u, \"plain\": %u, \"failed\": %u, "
           "\"moved_out\": %" PRIu64 ", \"moved_in\": %" PRIu64 ", \"told\": %" PRIu64
           ", \"guests\": %" PRIu64 ", \"wanted\": %" PRIu64 ", \"lost\": %" PRIu64 "}\n",
           (int)getpid(), server.verified, server.plain, server.failed, s.moved_out, s.moved_in,
           s.told, s.guests, s.wanted, s.lost);
    fflush(stdout);
}

static void conn_close(struct served *c)
{
    SSL_free(c->ssl);
    close(c->fd);
    free(c);
    server.open--;
}

static void count(const struct served *c)
{
    enum mtls_outcome outcome = mtls_get_outcome(c->ssl);

    if (server.verified == 0 && outcome == MTLS_OUTCOME_VERIFIED)
        printf("{\"event\": \"first\", \"pid\": %d}\n", (int)getpid());
    server.verified += outcome == MTLS_OUTCOME_VERIFIED;
    server.plain += outcome != MTLS_OUTCOME_VERIFIED;
}

/* True: go on; false: wait, or over. */
static bool judge(struct served *c, int rc)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    int error = rc > 0 ? SSL_ERROR_NONE : SSL_get_error(c->ssl, rc);

    if (rc > 0)
        return true;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        ev.events = error == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT;
        epoll_ctl(server.epoll, EPOLL_CTL_MOD, c->fd, &ev);
        return false;
    }
    if (!c->ready)
        server.failed++;
    if (!c->ready)
        ERR_print_errors_fp(stderr);
    ERR_clear_error();
    conn_close(c);
    return false;
}

static void conn_event(struct served *c)
{
    char in[256], out[64];
    int n, len;

    if (!c->ready) {
        if (!judge(c, SSL_accept(c->ssl)))
            return;
        c->ready = true;
        count(c);
    }
    for (;;) {
        n = SSL_read(c->ssl, in, sizeof(in));
        if (!judge(c, n))
            return;
        len = snprintf(out, sizeof(out), "%d\n", (int)getpid());
        if (!judge(c, SSL_write(c->ssl, out, len)))
            return;
    }
}

static void accept_one(void)
{
    struct epoll_event ev = {.events = EPOLLIN};
    int one = 1, fd = accept4(server.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct served *c;

    if (fd < 0)
        return;
    c = calloc(1, sizeof(*c));
    must(c != NULL && (c->ssl = SSL_new(server.ctx)) != NULL && SSL_set_fd(c->ssl, fd) == 1,
         "SSL_new");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    c->fd = fd;
    SSL_set_accept_state(c->ssl);
    server.open++;
    ev.data.ptr = c;
    must(epoll_ctl(server.epoll, EPOLL_CTL_ADD, fd, &ev) == 0, "epoll_ctl");
}

static void signal_event(void)
{
    struct signalfd_siginfo info;

    if (read(server.signals, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGTERM)
        exit(0);
    if (info.ssi_signo == SIGQUIT && !server.quitting) { /* accepts no more, ends what it has */
        server.quitting = true;
        epoll_ctl(server.epoll, EPOLL_CTL_DEL, server.listener, NULL);
        close(server.listener);
    }
}

static void worker_main(void)
{
    struct epoll_event events[EVENTS], ev = {.events = EPOLLIN | EPOLLEXCLUSIVE};

    atexit(say_stats);
    server.epoll = epoll_create1(EPOLL_CLOEXEC);
    ev.data.ptr = &server.listener;
    must(epoll_ctl(server.epoll, EPOLL_CTL_ADD, server.listener, &ev) == 0, "epoll_ctl");
    ev.events = EPOLLIN;
    ev.data.ptr = &server.signals;
    must(epoll_ctl(server.epoll, EPOLL_CTL_ADD, server.signals, &ev) == 0, "epoll_ctl");
    while (!server.quitting || server.open > 0) {
        int n = epoll_wait(server.epoll, events, EVENTS, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &server.listener)
                accept_one();
            else if (events[i].data.ptr == &server.signals)
                signal_event();
            else
                conn_event(events[i].data.ptr);
        }
    }
    exit(0);
}

/* ---- The parent ---- */

static void spawn_all(void)
{
    for (int i = 0; i < server.workers; i++) {
        fflush(stdout);
        server.pids[i] = fork();
        must(server.pids[i] >= 0, "fork");
        if (server.pids[i] == 0)
            worker_main();
    }
}

static void reload(void)
{
    SSL_CTX *old = server.ctx;
    pid_t pids[WORKERS_MAX];

    memcpy(pids, server.pids, sizeof(pids));
    server.ctx = ctx_make();
    SSL_CTX_free(old);
    spawn_all();
    for (int i = 0; i < server.workers; i++)
        kill(pids[i], SIGQUIT);
    printf("{\"event\": \"reloaded\"}\n");
}

static int reap(int flags)
{
    int status, n = 0;
    pid_t pid;

    while ((pid = waitpid(-1, &status, flags)) > 0) {
        printf("{\"event\": \"exit\", \"pid\": %d, \"status\": %d, \"signal\": %d}\n", (int)pid,
               WIFEXITED(status) ? WEXITSTATUS(status) : -1,
               WIFSIGNALED(status) ? WTERMSIG(status) : 0);
        n++;
    }
    return n;
}

static void parent_main(void)
{
    struct signalfd_siginfo info;

    spawn_all();
    printf("{\"event\": \"workers\", \"pids\": [");
    for (int i = 0; i < server.workers; i++)
        printf("%s%d", i > 0 ? ", " : "", (int)server.pids[i]);
    printf("]}\n");
    while (read(server.signals, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGTERM)
            break;
        if (info.ssi_signo == SIGHUP)
            reload();
        reap(WNOHANG);
    }
    for (int i = 0; i < server.workers; i++)
        kill(server.pids[i], SIGTERM);
    reap(0);
    say_stats();
}

static void listen_on(void)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)server.port)};
    socklen_t len = sizeof(sin);
    const char *path2;
    int one = 1;

    must(inet_pton(AF_INET, server.host, &sin.sin_addr) == 1, "address");
    server.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    must(setsockopt(server.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
             setsockopt(server.listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) == 0 &&
             bind(server.listener, (struct sockaddr *)&sin, len) == 0 &&
             listen(server.listener, BACKLOG) == 0 &&
             getsockname(server.listener, (struct sockaddr *)&sin, &len) == 0,
         "listen");
    path2 = server.words != NULL ? mtls_ssl_ctx_get0_listener(server.ctx, 0) : NULL;
    printf("{\"event\": \"listening\", \"pid\": %d, \"port\": %u, \"path2\": \"%s\"}\n",
           (int)getpid(), ntohs(sin.sin_port), path2 != NULL ? path2 : "");
}

static void take_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    server.signals = signalfd(-1, &set, SFD_CLOEXEC);
    signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"host", required_argument, NULL, 'h'},
                                            {"port", required_argument, NULL, 'p'},
                                            {"cert", required_argument, NULL, 'c'},
                                            {"key", required_argument, NULL, 'k'},
                                            {"words", required_argument, NULL, 'w'},
                                            {"workers", required_argument, NULL, 'n'},
                                            {NULL, 0, NULL, 0}};
    int opt;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (opt == 'h')
            server.host = optarg;
        else if (opt == 'p')
            server.port = atoi(optarg);
        else if (opt == 'c')
            server.cert = optarg;
        else if (opt == 'k')
            server.key = optarg;
        else if (opt == 'w')
            server.words = optarg;
        else if (opt == 'n')
            server.workers = atoi(optarg);
        else
            return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    take_signals();
    server.ctx = ctx_make();
    listen_on();
    if (server.workers == 0)
        worker_main();
    parent_main();
    return 0;
}
