/* Concept: the interposed calls that receive. Each looks whether anything is under way and is the
 * real one otherwise. */
#include <alloca.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "preload.h"

/* How much may be read: want, less, or -1 with errno. */
static inline ssize_t may_read(int fd, size_t want)
{
    if (preload_thread.again) {
        preload_thread.fd = fd;
        errno = EAGAIN;
        return -1;
    }
    if (__atomic_load_n(&preload_holds, __ATOMIC_RELAXED) == 0 || want == 0)
        return (ssize_t)want;
    return preload_hold_limit(fd, want);
}

static size_t total(const struct iovec *iov, size_t n)
{
    size_t sum = 0, i;

    for (i = 0; i < n; i++)
        sum += iov[i].iov_len;
    return sum;
}

/* The same places with room for limit bytes in all; returns how many places. */
static size_t trim(const struct iovec *iov, size_t n, struct iovec *out, size_t limit)
{
    size_t i;

    for (i = 0; i < n && limit > 0; i++) {
        out[i] = iov[i];
        if (out[i].iov_len > limit)
            out[i].iov_len = limit;
        limit -= out[i].iov_len;
    }
    return i;
}

PRELOAD_PUBLIC ssize_t read(int fd, void *data, size_t len)
{
    ssize_t n = may_read(fd, len);

    return n < 0 ? -1 : REAL(read)(fd, data, (size_t)n);
}

PRELOAD_PUBLIC ssize_t recv(int fd, void *data, size_t len, int flags)
{
    ssize_t n = may_read(fd, len);

    return n < 0 ? -1 : REAL(recv)(fd, data, (size_t)n, flags);
}

PRELOAD_PUBLIC ssize_t recvfrom(int fd, void *data, size_t len, int flags, struct sockaddr *from,
                                socklen_t *fromlen)
{
    ssize_t n = may_read(fd, len);

    return n < 0 ? -1 : REAL(recvfrom)(fd, data, (size_t)n, flags, from, fromlen);
}

PRELOAD_PUBLIC ssize_t readv(int fd, const struct iovec *iov, int parts)
{
    size_t want = parts > 0 && parts <= IOV_MAX ? total(iov, (size_t)parts) : 0;
    ssize_t n = may_read(fd, want);
    struct iovec *less;

    if (n < 0)
        return -1;
    if ((size_t)n == want)
        return REAL(readv)(fd, iov, parts);
    less = alloca(sizeof(*less) * (size_t)parts);
    return REAL(readv)(fd, less, (int)trim(iov, (size_t)parts, less, (size_t)n));
}

PRELOAD_PUBLIC ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
    size_t want = msg->msg_iovlen <= IOV_MAX ? total(msg->msg_iov, msg->msg_iovlen) : 0;
    ssize_t n = may_read(fd, want);
    struct iovec *given = msg->msg_iov, *less;
    size_t parts = msg->msg_iovlen;

    if (n < 0)
        return -1;
    if ((size_t)n == want)
        return REAL(recvmsg)(fd, msg, flags);
    less = alloca(sizeof(*less) * parts);
    msg->msg_iov = less;
    msg->msg_iovlen = trim(given, parts, less, (size_t)n);
    n = REAL(recvmsg)(fd, msg, flags);
    msg->msg_iov = given;
    msg->msg_iovlen = parts;
    return n;
}

/* What the same calls are under _FORTIFY_SOURCE. */
PRELOAD_PUBLIC ssize_t __read_chk(int fd, void *data, size_t len, size_t room);
PRELOAD_PUBLIC ssize_t __recv_chk(int fd, void *data, size_t len, size_t room, int flags);
PRELOAD_PUBLIC ssize_t __recvfrom_chk(int fd, void *data, size_t len, size_t room, int flags,
                                      struct sockaddr *from, socklen_t *fromlen);

ssize_t __read_chk(int fd, void *data, size_t len, size_t room)
{
    ssize_t n = len <= room ? may_read(fd, len) : (ssize_t)len;

    return n < 0 ? -1 : REAL(__read_chk)(fd, data, (size_t)n, room);
}

ssize_t __recv_chk(int fd, void *data, size_t len, size_t room, int flags)
{
    ssize_t n = len <= room ? may_read(fd, len) : (ssize_t)len;

    return n < 0 ? -1 : REAL(__recv_chk)(fd, data, (size_t)n, room, flags);
}

ssize_t __recvfrom_chk(int fd, void *data, size_t len, size_t room, int flags,
                       struct sockaddr *from, socklen_t *fromlen)
{
    ssize_t n = len <= room ? may_read(fd, len) : (ssize_t)len;

    return n < 0 ? -1 : REAL(__recvfrom_chk)(fd, data, (size_t)n, room, flags, from, fromlen);
}
