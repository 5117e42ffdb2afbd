/* Concept: what path 2 costs the kernel alone: the same exchange over a second TCP connection
 * beside each plain handshake, with no protocol in it. What hooked handshakes cost above this row
 * is ours. */
#include <pthread.h>
#include <sys/epoll.h>

#include "bench.h"

/* Sizes of HELLO; READY and PROOF; CONFIRM. */
enum { HELLO = 83, READY = 81, PROOF = 42, CONFIRM = 43, CONFIRM_KEPT = 44, EVENTS = 64 };

void bench_bare_proof(int fd)
{
    static const uint8_t buf[READY + PROOF];

    bench_check(send(fd, buf, sizeof(buf), MSG_NOSIGNAL) == (ssize_t)sizeof(buf), "send");
}

static void answer(int fd)
{
    uint8_t buf[256];
    ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

    if (n == HELLO || n == CONFIRM_KEPT + HELLO) {
        if (!bench_gated_hello(fd))
            bench_bare_proof(fd);
    } else if (n != CONFIRM_KEPT && (n >= 0 || errno != EAGAIN)) {
        if (n > 0)
            bench_gated_confirm();
        close(fd); /* CONFIRM, and the end right behind it */
    }
}

static void *bare_main(void *arg)
{
    int listener = *(int *)arg, epoll = epoll_create1(EPOLL_CLOEXEC), fd;
    struct epoll_event events[EVENTS], ev = {.events = EPOLLIN, .data.fd = listener};

    bench_check(epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &ev) == 0, "epoll_ctl");
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.fd != listener) {
                answer(events[i].data.fd);
                continue;
            }
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                bench_nodelay(fd);
                ev.data.fd = fd;
                bench_check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) == 0, "epoll_ctl");
                answer(fd);
            }
        }
    }
    return NULL;
}

unsigned bench_bare_serve(const char *host)
{
    static int listener;
    struct sockaddr_in sin = bench_addr(host, 0);
    socklen_t len = sizeof(sin);
    pthread_t thread;

    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bench_check(bind(listener, (struct sockaddr *)&sin, len) == 0 && listen(listener, 1024) == 0 &&
                    getsockname(listener, (struct sockaddr *)&sin, &len) == 0 &&
                    pthread_create(&thread, NULL, bare_main, &listener) == 0,
                "bare");
    return ntohs(sin.sin_port);
}

int bench_bare_connect(const char *host, unsigned port, const char *device)
{
    struct sockaddr_in sin = bench_addr(host, port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    bench_check(fd >= 0 &&
                    (device == NULL || setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device,
                                                  (socklen_t)strlen(device)) == 0) &&
                    connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0,
                "connect");
    bench_nodelay(fd);
    return fd;
}

void bench_bare_begin(int fd)
{
    uint8_t hello[HELLO] = {0};

    bench_check(send(fd, hello, sizeof(hello), 0) == (ssize_t)sizeof(hello), "send");
}

void bench_bare_await(int fd)
{
    uint8_t buf[READY + PROOF];

    bench_check(recv(fd, buf, sizeof(buf), MSG_WAITALL) == (ssize_t)sizeof(buf), "recv");
}

void bench_bare_confirm(int fd, bool keep)
{
    uint8_t buf[CONFIRM_KEPT] = {0};
    size_t len = keep ? CONFIRM_KEPT : CONFIRM;

    bench_check(send(fd, buf, len, keep ? 0 : MSG_MORE) == (ssize_t)len, "send");
    if (!keep) {
        bench_check(shutdown(fd, SHUT_WR) == 0, "shutdown"); /* in the same segment */
        close(fd);
    }
}
