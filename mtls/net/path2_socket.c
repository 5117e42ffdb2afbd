/* Concept: the sockets of path 2: bound so that neither the routing table nor path 1's network can
 * move them, opened with TCP Fast Open where the kernel has a cookie, and the listeners. Never
 * blocks; owns nothing after it returned. */
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "path2_socket.h"
#include "route.h"

enum { LISTEN_BACKLOG = 1024, FASTOPEN_BACKLOG = 256 };

static int set_int(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value));
}

static int open_stream(const struct mtls_addr *addr)
{
    return socket(addr->family == 6 ? AF_INET6 : AF_INET,
                  SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
}

/* The device that the words bind to; empty = none. [PATH-6] local= implies the device that owns the
 * address: a socket that is bound to the address alone can be reached from, and moved to, another
 * network. */
static int spec_device(const struct mtls_path_spec *spec, char dev[MTLS_IF_MAX + 1])
{
    int ifindex;

    memcpy(dev, spec->dev, MTLS_IF_MAX + 1);
    if (spec->local.family == 0)
        return 0;
    if (dev[0] != '\0')
        return mtls_device_owns_address(dev, &spec->local) ? 0 : MTLS_ERR_PATH_BIND;
    return mtls_device_of_address(&spec->local, dev, &ifindex);
}

static int bind_device(int fd, const char *dev)
{
    if (dev[0] == '\0')
        return 0;
    return setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, dev, (socklen_t)strlen(dev)) == 0
               ? 0
               : MTLS_ERR_PATH_BIND;
}

static int bind_address(int fd, const struct mtls_addr *local)
{
    struct sockaddr_storage ss;
    struct mtls_addr any_port = *local;
    socklen_t len;

    any_port.port = 0;
    mtls_addr_to_sockaddr(&any_port, &ss, &len);
    /* Leaves the choice of a port to connect(), where it need only be free towards dst. */
    (void)set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    return bind(fd, (struct sockaddr *)&ss, len) == 0 ? 0 : MTLS_ERR_PATH_BIND;
}

int mtls_path2_bind(int fd, const struct mtls_path_spec *spec)
{
    char dev[MTLS_IF_MAX + 1];
    int domain = AF_UNSPEC, err = spec_device(spec, dev);
    socklen_t len = sizeof(domain);

    if (err == 0)
        err = bind_device(fd, dev);
    if (err != 0 || spec->local.family == 0)
        return err;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) != 0)
        return MTLS_ERR_PATH_BIND;
    if (domain != (spec->local.family == 6 ? AF_INET6 : AF_INET))
        return 0;
    return bind_address(fd, &spec->local);
}

int mtls_path2_socket(const struct mtls_path_spec *spec, const struct mtls_addr *dst, int *fd)
{
    int s, err;

    *fd = -1;
    if (dst->family == 0)
        return MTLS_ERR_ARG;
    if (spec->local.family != 0 && spec->local.family != dst->family)
        return MTLS_ERR_PATH_BIND;
    s = open_stream(dst);
    if (s < 0)
        return MTLS_ERR_IO;
    err = mtls_path2_bind(s, spec);
    if (err == 0 && set_int(s, IPPROTO_TCP, TCP_NODELAY, 1) != 0)
        err = MTLS_ERR_IO;
    if (err != 0)
        (void)close(s);
    else
        *fd = s;
    return err;
}

/* [DWN-4] A refusal is a segment of the peer that the kernel matched to our SYN; an ICMP error that
 * says the same came from anyone on the way. */
static int refusal(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
        return MTLS_ERR_PATH_UNREACHABLE;
    return info.tcpi_segs_in > 0 ? MTLS_ERR_PATH_REFUSED : MTLS_ERR_PATH_UNREACHABLE;
}

static int connect_error(int fd, int error)
{
    switch (error) {
    case 0:
    case EINPROGRESS:
    case EALREADY:
    case EISCONN:
        return 0;
    case ECONNREFUSED:
        return refusal(fd);
    case ETIMEDOUT:
        return MTLS_ERR_PATH_TIMEOUT;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
    case EADDRNOTAVAIL:
    case EACCES:      /* a prohibiting route */
    case EPERM:       /* a packet filter of this machine */
    case ENOPROTOOPT: /* the rest: ICMP errors of rarer codes */
    case EOPNOTSUPP:
    case ENONET:
    case EMSGSIZE:
    case EPROTO:
        return MTLS_ERR_PATH_UNREACHABLE;
    default:
        return MTLS_ERR_IO;
    }
}

/* The data in the SYN. true: the connect has begun, or has failed (*error); false: not by this way.
 */
static bool connect_fastopen(int fd, const struct sockaddr *sa, socklen_t salen,
                             const uint8_t *first, size_t len, size_t *sent, int *error)
{
    ssize_t n;

    do {
        n = sendto(fd, first, len, MSG_FASTOPEN | MSG_NOSIGNAL, sa, salen);
    } while (n < 0 && errno == EINTR);
    *error = n < 0 ? errno : 0;
    if (n >= 0)
        *sent = (size_t)n;
    /* EINPROGRESS: no cookie for this server; the SYN asks for one and carries no data. */
    return n >= 0 || *error == EINPROGRESS || *error == ECONNREFUSED || *error == ETIMEDOUT ||
           *error == ENETUNREACH || *error == EHOSTUNREACH;
}

int mtls_path2_connect(int fd, const struct mtls_addr *dst, bool tfo, const uint8_t *first,
                       size_t len, size_t *sent)
{
    struct sockaddr_storage ss;
    socklen_t salen;
    int error = 0;

    *sent = 0;
    mtls_addr_to_sockaddr(dst, &ss, &salen);
    if (salen == 0)
        return MTLS_ERR_ARG;
    if (tfo && len > 0 &&
        connect_fastopen(fd, (struct sockaddr *)&ss, salen, first, len, sent, &error))
        return connect_error(fd, error);
    /* An interrupted connect goes on by itself. */
    error = connect(fd, (struct sockaddr *)&ss, salen) == 0 || errno == EINTR ? 0 : errno;
    return connect_error(fd, error);
}

int mtls_path2_connected(int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    int error = 0;
    socklen_t error_len = sizeof(error);

    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_len) != 0)
        return MTLS_ERR_IO;
    if (error == ECONNRESET || error == EPIPE)
        return MTLS_ERR_PATH_CLOSED;
    if (error != 0) {
        int err = connect_error(fd, error);

        return err == 0 ? MTLS_ERR_IO : err;
    }
    return getpeername(fd, (struct sockaddr *)&ss, &len) == 0 ? 0 : MTLS_ERR_PATH_UNREACHABLE;
}

int mtls_path2_lost(int error)
{
    switch (error) {
    case ECONNRESET:
    case EPIPE:
        return MTLS_ERR_PATH_CLOSED;
    case ETIMEDOUT:
        return MTLS_ERR_PATH_TIMEOUT;
    default:
        return MTLS_ERR_PATH_UNREACHABLE;
    }
}

uint32_t mtls_path2_rtt_us(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);

    memset(&info, 0, sizeof(info));
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 ? info.tcpi_rtt : 0;
}

static int listen_on(const struct mtls_addr *addr, bool shared, int *fd, struct mtls_addr *bound)
{
    struct sockaddr_storage ss;
    socklen_t len;
    int s, error;

    *fd = -1;
    mtls_addr_to_sockaddr(addr, &ss, &len);
    errno = len > 0 ? 0 : EAFNOSUPPORT;
    s = len > 0 ? open_stream(addr) : -1;
    if (s < 0)
        return MTLS_ERR_LISTEN;
    if (set_int(s, SOL_SOCKET, SO_REUSEADDR, 1) != 0 ||
        (shared && set_int(s, SOL_SOCKET, SO_REUSEPORT, 1) != 0) ||
        (addr->family == 6 && set_int(s, IPPROTO_IPV6, IPV6_V6ONLY, 1) != 0) ||
        set_int(s, IPPROTO_TCP, TCP_NODELAY, 1) != 0 || bind(s, (struct sockaddr *)&ss, len) != 0)
        goto fail;
    (void)set_int(s, IPPROTO_TCP, TCP_FASTOPEN,
                  FASTOPEN_BACKLOG); /* no Fast Open in this kernel: a plain listener */
    len = sizeof(ss);
    if (listen(s, LISTEN_BACKLOG) != 0 || getsockname(s, (struct sockaddr *)&ss, &len) != 0 ||
        mtls_addr_from_sockaddr(bound, (struct sockaddr *)&ss, len) != 0)
        goto fail;
    *fd = s;
    return 0;
fail:
    error = errno;
    (void)close(s);
    errno = error;
    return MTLS_ERR_LISTEN;
}

int mtls_path2_listen(const struct mtls_addr *addr, int *fd, struct mtls_addr *bound)
{
    return listen_on(addr, false, fd, bound);
}

int mtls_path2_listen_shared(const struct mtls_addr *addr, int *fd, struct mtls_addr *bound)
{
    return listen_on(addr, true, fd, bound);
}

int mtls_path2_local(int fd, const struct mtls_addr *bound, struct mtls_addr *local)
{
    static const uint8_t any[sizeof(bound->ip)];
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);

    *local = *bound;
    if (memcmp(bound->ip, any, sizeof(any)) != 0)
        return 0;
    return getsockname(fd, (struct sockaddr *)&ss, &len) != 0
               ? MTLS_ERR_IO
               : mtls_addr_from_sockaddr(local, (struct sockaddr *)&ss, len);
}

bool mtls_path2_listens(int fd, const struct mtls_addr *bound)
{
    struct sockaddr_storage ss;
    struct mtls_addr a;
    socklen_t len = sizeof(int), sslen = sizeof(ss);
    int listens = 0;

    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens != 0 &&
           getsockname(fd, (struct sockaddr *)&ss, &sslen) == 0 &&
           mtls_addr_from_sockaddr(&a, (struct sockaddr *)&ss, sslen) == 0 &&
           a.family == bound->family && a.port == bound->port &&
           memcmp(a.ip, bound->ip, sizeof(a.ip)) == 0;
}

uint64_t mtls_path2_socket_id(int fd)
{
    uint64_t id = 0;
    socklen_t len = sizeof(id);

    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &id, &len) == 0 ? id : 0;
}
