/* Concept: two ends of SMKEX in one process, on two real paths (netns.h): contexts, connected
 * sockets, handshakes driven as an event loop would. Include it after cmocka.h's requirements. */
#ifndef MTLS_TEST_SMKEX_LAB_H
#define MTLS_TEST_SMKEX_LAB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "mtls/smkex.h"
#include "netns.h"

static int listener;
static uint16_t port1;

static inline struct smkex_ctx *context(const char *format, ...)
{
    char words[1024], msg[256];
    struct smkex_ctx *ctx;
    va_list ap;

    va_start(ap, format);
    vsnprintf(words, sizeof words, format, ap);
    va_end(ap);
    if (smkex_ctx_new(&ctx, words, msg, sizeof msg) != 0)
        fail_msg("%s: %s", words, msg);
    return ctx;
}

/* A server's context, with path 2's listener beyond both links. */
static inline struct smkex_ctx *server_context(const char *words)
{
    struct smkex_ctx *ctx;

    netns_go_there();
    ctx = context("listen=0.0.0.0:0 %s", words);
    netns_go_here();
    return ctx;
}

static inline unsigned path2_port(const struct smkex_ctx *server)
{
    return (unsigned)atoi(strrchr(smkex_ctx_get0_listener(server, 0), ':') + 1);
}

/* A client's context whose path 2 leaves by v1. */
static inline struct smkex_ctx *client_context(const struct smkex_ctx *server, const char *words)
{
    return context("path2=dev=v1,remote=203.0.113.1:%u %s", path2_port(server), words);
}

static inline void set_blocking(int fd, bool blocking)
{
    int flags = fcntl(fd, F_GETFL);

    fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

static inline void open_listener(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    socklen_t len = sizeof sa;

    netns_go_there();
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    netns_go_here();
    assert_int_equal(bind(listener, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(listener, 16), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&sa, &len), 0);
    port1 = ntohs(sa.sin_port);
}

static inline void connect_pair(int fd[2])
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port1)};
    int one = 1;

    inet_pton(AF_INET, "203.0.113.1", &sa.sin_addr);
    fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd[0], (struct sockaddr *)&sa, sizeof sa), 0);
    fd[1] = accept(listener, NULL, NULL);
    assert_true(fd[1] >= 0);
    for (int i = 0; i < 2; i++) {
        setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        set_blocking(fd[i], false);
    }
}

struct pair {
    int fd[2];
    struct smkex *s[2]; /* client, server; NULL: none */
    int rc[2];
    unsigned calls[2];
};

static inline bool waits(int rc)
{
    return rc == SMKEX_WANT_READ || rc == SMKEX_WANT_WRITE;
}

/* Drives the handshakes as an event loop would, until both have ended. */
static inline void drive(struct pair *p)
{
    p->rc[0] = p->rc[1] = SMKEX_WANT_READ;
    for (int i = 0; i < 2; i++)
        p->rc[i] = p->s[i] != NULL ? smkex_handshake(p->s[i]) : 0;
    while (waits(p->rc[0]) || waits(p->rc[1])) {
        struct pollfd fds[2];

        if (p->rc[0] < 0 && !waits(p->rc[0])) /* as a program that gives up closes */
            shutdown(p->fd[0], SHUT_WR);
        for (int i = 0; i < 2; i++) {
            fds[i].fd = waits(p->rc[i]) ? p->fd[i] : -1;
            fds[i].events = p->rc[i] == SMKEX_WANT_WRITE ? POLLOUT : POLLIN;
        }
        assert_true(poll(fds, 2, 20000) > 0);
        for (int i = 0; i < 2; i++)
            if (fds[i].fd >= 0 && fds[i].revents != 0) {
                p->rc[i] = smkex_handshake(p->s[i]);
                p->calls[i]++;
            }
    }
}

static inline struct pair handshake(struct smkex_ctx *client, struct smkex_ctx *server)
{
    struct pair p = {0};

    connect_pair(p.fd);
    assert_int_equal(smkex_client_new(&p.s[0], client, p.fd[0], "203.0.113.1"), 0);
    assert_int_equal(smkex_server_new(&p.s[1], server, p.fd[1]), 0);
    drive(&p);
    return p;
}

static inline void pair_free(struct pair *p)
{
    for (int i = 0; i < 2; i++) {
        smkex_free(p->s[i]);
        close(p->fd[i]);
    }
}

static inline void expect(const struct pair *p, enum smkex_outcome outcome)
{
    assert_int_equal(p->rc[0], 0);
    assert_int_equal(p->rc[1], 0);
    assert_int_equal(smkex_get_outcome(p->s[0]), outcome);
    assert_int_equal(smkex_get_outcome(p->s[1]), outcome);
}

/* One message over non-blocking sockets. */
static inline void pass(struct pair *p, int from, const char *text)
{
    char got[128];
    struct pollfd fd = {.fd = p->fd[!from], .events = POLLIN};
    int n;

    assert_int_equal(smkex_write(p->s[from], text, strlen(text)), strlen(text));
    while ((n = smkex_read(p->s[!from], got, sizeof got)) == SMKEX_WANT_READ)
        assert_true(poll(&fd, 1, 20000) > 0);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(got, text, strlen(text));
}

static inline void both_ways(struct pair *p)
{
    pass(p, 0, "hello");
    pass(p, 1, "hello yourself");
}

#endif
