/* Concept: path 2 on the port of an unmodified TLS server (single-port=on). A connection on one of
 * the ports that tls-port= names is looked at as the program accepts it: what begins with path 2's
 * preface goes to libmtls, and the program gets the next one. It must be known by then: those
 * listeners tell of a connection only when its first bytes have come (TCP_DEFER_ACCEPT), which in
 * TLS, where the client speaks first, nobody sees. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "preload.h"

enum { PORTS_MAX = 16, DEFER_SECONDS = 10, PREFACE_LEN = 8, TAKEN_MAX = 1024, LISTENERS = 64 };

static const uint8_t preface[PREFACE_LEN] = {0xF0, 0x4D, 0x54, 0x4C, 0x53, 0x32, 0x0D, 0x0A};
static uint16_t ports[PORTS_MAX];
static unsigned nports;

static void ports_of(const char *list)
{
    char *end;

    while (nports < PORTS_MAX) {
        unsigned long port = strtoul(list, &end, 10);

        if (end == list || port == 0 || port > UINT16_MAX)
            return;
        ports[nports++] = (uint16_t)port;
        if (*end != ',')
            return;
        list = end + 1;
    }
}

void preload_accept_start(void)
{
    static const char word[] = "tls-port=";
    const char *at = preload_settings.config;

    if (preload_settings.off || !preload_says(at, "single-port=on"))
        return;
    for (; at != NULL && *at != '\0'; at += strcspn(at, " \t\n")) {
        at += strspn(at, " \t\n");
        if (strncmp(at, word, sizeof(word) - 1) == 0)
            ports_of(at + sizeof(word) - 1);
    }
}

bool preload_accept_lacks_port(void)
{
    return nports == 0 && !preload_settings.off && preload_settings.config != NULL &&
           preload_says(preload_settings.config, "single-port=on");
}

/* Whether it is bound to one of the ports, or connected to it. */
static bool is_ours(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } local;
    socklen_t len = sizeof(local);
    uint16_t port;
    unsigned i;

    if (getsockname(fd, &local.any, &len) != 0 ||
        (local.any.sa_family != AF_INET && local.any.sa_family != AF_INET6))
        return false;
    port = ntohs(local.any.sa_family == AF_INET ? local.in.sin_port : local.in6.sin6_port);
    for (i = 0; i < nports && ports[i] != port; i++)
        ;
    return i < nports;
}

/* The program's own setting stays. */
static void defer(int listener)
{
    int seconds = 0;
    socklen_t len = sizeof(seconds);

    if (getsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, &len) != 0 || seconds != 0)
        return;
    seconds = DEFER_SECONDS;
    (void)setsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof(seconds));
}

PRELOAD_PUBLIC int listen(int fd, int backlog)
{
    int rc = REAL(listen)(fd, backlog), saved = errno;

    if (rc == 0 && nports > 0 && is_ours(fd))
        defer(fd);
    errno = saved;
    return rc;
}

/* True: it is path 2, and libmtls has it. */
static bool taken(int listener, int fd)
{
    uint8_t first[PREFACE_LEN];
    ssize_t n = REAL(recv)(fd, first, sizeof(first), MSG_PEEK | MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        defer(listener); /* it was not ours when it began to listen, or is another process's */
    if (n <= 0 || memcmp(first, preface, (size_t)n) != 0 || !preload_library_ready(false))
        return false;
    preload_library_accepted(fd);
    return true;
}

static bool is_readable(int listener)
{
    struct pollfd p = {.fd = listener, .events = POLLIN};

    return REAL(poll)(&p, 1, 0) > 0;
}

/* Listeners on which accept() was called when there was nothing yet: such a program wants to block.
 * One that asks first (select) never does that. */
static uint64_t waited[LISTENERS]; /* atomic; by inode */

static bool may_block(int listener, bool readable)
{
    uint64_t who = preload_identity(listener), *at = &waited[(who >> 8) % LISTENERS];

    if (!readable)
        __atomic_store_n(at, who, __ATOMIC_RELAXED);
    return __atomic_load_n(at, __ATOMIC_RELAXED) == who;
}

/* A program that was told that there is a connection does not expect accept() to block: if there
 * was one, and it was not for the program, it has gone (accept(2) knows that). With O_NONBLOCK it
 * is told EAGAIN by the kernel, which those who wait for edges need. */
static bool goes_on(int listener, bool told, unsigned times)
{
    int flags = fcntl(listener, F_GETFL);

    if (times < TAKEN_MAX &&
        (is_readable(listener) || !told || flags < 0 || (flags & O_NONBLOCK) != 0))
        return true;
    errno = ECONNABORTED;
    return false;
}

/* So on until there is one for the program, or none. */
static int accept_for(int listener, struct sockaddr *from, socklen_t *fromlen, const int *flags,
                      const void *code)
{
    socklen_t room = fromlen != NULL ? *fromlen : 0;
    bool told = nports > 0 && !preload_is_library(code) && is_ours(listener) &&
                !may_block(listener, is_readable(listener));
    int fd, saved = errno;
    unsigned times = 0;

    for (;;) {
        fd = flags == NULL ? REAL(accept)(listener, from, fromlen)
                           : REAL(accept4)(listener, from, fromlen, *flags);
        if (fd < 0)
            return fd;
        if (nports == 0 || preload_is_library(code) || !is_ours(fd) || !taken(listener, fd))
            break;
        if (fromlen != NULL)
            *fromlen = room;
        if (!goes_on(listener, told, ++times))
            return -1;
    }
    errno = saved;
    return fd;
}

PRELOAD_PUBLIC int accept(int fd, struct sockaddr *from, socklen_t *fromlen)
{
    return accept_for(fd, from, fromlen, NULL, __builtin_return_address(0));
}

PRELOAD_PUBLIC int accept4(int fd, struct sockaddr *from, socklen_t *fromlen, int flags)
{
    return accept_for(fd, from, fromlen, &flags, __builtin_return_address(0));
}
