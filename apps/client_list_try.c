/* Round trips of --list-paths: every row's TCP connect at the same time, then one by Multipath TCP.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client_list.h"
#include "mtls/net/mptcp.h"
#include "mtls/net/path2_socket.h"
#include "mtls/net/route.h"

enum { SUBFLOW_LOOK_MS = 10, SUBFLOW_MIN_MS = 200, SUBFLOW_MAX_MS = 1000 };

static uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void begin(struct list_row *r)
{
    struct sockaddr_storage ss;
    socklen_t len;
    int rc = mtls_path2_socket(&r->spec, &r->target, &r->fd);

    if (rc != 0) {
        r->error = mtls_error_string(rc);
        r->fd = -1;
        return;
    }
    mtls_addr_to_sockaddr(&r->target, &ss, &len);
    r->error = "no answer";
    if (connect(r->fd, (struct sockaddr *)&ss, len) != 0 && errno != EINPROGRESS) {
        r->error = strerror(errno);
        close(r->fd);
        r->fd = -1;
    }
}

/* A refusal is an answer, too. */
static void finish(struct list_row *r, uint64_t began)
{
    struct mtls_path_facts live;
    int error = 0;
    socklen_t len = sizeof error;

    if (getsockopt(r->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    r->error = error != 0 ? strerror(error) : NULL;
    if (error == 0 || error == ECONNREFUSED)
        r->rtt_us = now_us() - began;
    if (error == 0 && mtls_path2_rtt_us(r->fd) > 0)
        r->rtt_us = mtls_path2_rtt_us(r->fd);
    if (error == 0 && mtls_route_of_socket(r->fd, &live) == 0)
        r->facts.local = live.local;
    close(r->fd);
    r->fd = -1;
}

static void connect_all(struct list *l, unsigned timeout_ms)
{
    struct pollfd fds[LIST_MAX];
    uint64_t began = now_us(), until = began + timeout_ms * 1000u;
    int waiting = 0;

    for (int i = 0; i < l->count; i++) {
        if (l->rows[i].error == NULL)
            begin(&l->rows[i]);
        waiting += l->rows[i].fd >= 0;
    }
    while (waiting > 0 && now_us() < until) {
        for (int i = 0; i < l->count; i++)
            fds[i] = (struct pollfd){.fd = l->rows[i].fd, .events = POLLOUT};
        if (poll(fds, (nfds_t)l->count, (int)((until - now_us()) / 1000u) + 1) <= 0)
            continue;
        for (int i = 0; i < l->count; i++)
            if (fds[i].fd >= 0 && fds[i].revents != 0) {
                finish(&l->rows[i], began);
                waiting--;
            }
    }
    for (int i = 0; i < l->count; i++)
        if (l->rows[i].fd >= 0) {
            close(l->rows[i].fd);
            l->rows[i].fd = -1;
        }
}

/* ---- Multipath TCP ---- */

static void add_subflow(struct list *l, const struct mtls_subflow *s)
{
    struct list_row *r = list_add(l, LIST_SUBFLOW);
    char dev[MTLS_IF_MAX + 1];
    int ifindex = 0;

    if (r == NULL)
        return;
    r->target = s->remote;
    if (mtls_device_of_address(&s->local, dev, &ifindex) == 0)
        (void)!mtls_route_via(&s->remote, ifindex, &s->local, &r->facts);
    r->facts.local = s->local;
    list_judge(l, r);
}

static bool await_connect(int fd, unsigned timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int error = 0;
    socklen_t len = sizeof error;

    return poll(&p, 1, (int)timeout_ms) == 1 &&
           getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0;
}

/* The kernel adds subflows when the server has acknowledged a byte: that with which a TLS record
 * begins. */
static void watch_subflows(struct list *l, int fd)
{
    static const char first = 0x16;
    uint64_t wait = l->rows[0].rtt_us * 4 / 1000, until;
    struct mtls_subflows s = {0};
    int rc;

    wait = wait < SUBFLOW_MIN_MS ? SUBFLOW_MIN_MS : wait > SUBFLOW_MAX_MS ? SUBFLOW_MAX_MS : wait;
    until = now_us() + wait * 1000u;
    if (mtls_mptcp_subflows(fd, NULL, &s) == 0)
        (void)!send(fd, &first, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    do {
        rc = mtls_mptcp_subflows(fd, NULL, &s);
        if (rc != 0 || s.n > 1)
            break;
        (void)!poll(NULL, 0, SUBFLOW_LOOK_MS);
    } while (now_us() < until);
    l->mptcp = rc == 0                     ? "yes"
               : rc == MTLS_ERR_MPTCP_NONE ? "no: the server, or the way to it, does not"
                                           : mtls_error_string(rc);
    for (uint8_t i = 1; i < s.n; i++)
        add_subflow(l, &s.at[i]);
}

static void try_mptcp(struct list *l, unsigned timeout_ms)
{
    const struct list_row *r = &l->rows[0];
    struct sockaddr_storage ss;
    socklen_t len;
    int fd = socket(r->target.family == 6 ? AF_INET6 : AF_INET,
                    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_MPTCP);

    l->mptcp = "no: this kernel does not, or it is switched off";
    if (fd < 0)
        return;
    mtls_addr_to_sockaddr(&r->target, &ss, &len);
    if (r->spec.dev[0] != '\0')
        (void)!setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, r->spec.dev,
                          (socklen_t)strlen(r->spec.dev));
    l->mptcp = "not known: it did not connect";
    if ((connect(fd, (struct sockaddr *)&ss, len) == 0 || errno == EINPROGRESS) &&
        await_connect(fd, timeout_ms))
        watch_subflows(l, fd);
    close(fd);
}

void list_measure(struct list *l, unsigned timeout_ms)
{
    connect_all(l, timeout_ms);
    try_mptcp(l, timeout_ms);
}
