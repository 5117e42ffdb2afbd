/* Concept: the interposed calls that send. Each looks whether anything is under way and is the real
 * one otherwise. What is in a file or a pipe is not looked at: it passes where anything does. */
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "hello_scan.h"
#include "preamble.h"
#include "preload.h"

enum { RECORD_CCS = 20, RECORD_ALERT = 21, RECORD_HANDSHAKE = 22, PROBE_MAX = 16 };

static inline bool noted(int fd)
{
    if (preload_thread.marked && preload_is_stream(fd)) /* not what the program logs meanwhile */
        preload_thread.fd = fd;
    return preload_guard_watches();
}

/* Whether one may begin in the first bytes of len. */
static bool hello_within(const uint8_t *from, size_t first, size_t len)
{
    const uint8_t *at = from, *end = from + first;

    for (; at < end && (at = memchr(at, RECORD_HANDSHAKE, (size_t)(end - at))) != NULL; at++)
        if (preload_hello_may_begin(at, len - (size_t)(at - from)))
            return true;
    return false;
}

/* Whether a TLS handshake may begin or go on here: anywhere in what may be a preamble. */
static bool may_be_hello(int fd, const struct iovec *iov, size_t n)
{
    size_t i, left = PRELOAD_PREAMBLE_MAX, len;

    if (__atomic_load_n(&preload_hellos, __ATOMIC_RELAXED) != 0 && preload_hello_begun(fd))
        return true;
    for (i = 0; i < n && iov[i].iov_len == 0; i++)
        ;
    if (i < n && (*(const uint8_t *)iov[i].iov_base == RECORD_CCS ||
                  *(const uint8_t *)iov[i].iov_base == RECORD_ALERT))
        return true;
    for (; i < n && left > 0; i++, left -= len) {
        len = iov[i].iov_len < left ? iov[i].iov_len : left;
        if (len > 0 && hello_within(iov[i].iov_base, len, iov[i].iov_len))
            return true;
    }
    return false;
}

/* to: a Fast Open, connect() and the first bytes in one call; else NULL. */
static int may_send_parts(int fd, const struct sockaddr *to, const struct iovec *iov, size_t n,
                          const void *code)
{
    if (!noted(fd) && !may_be_hello(fd, iov, n))
        return 0;
    return preload_guard_send(fd, to, iov, n, code);
}

static inline int may_send(int fd, const void *data, size_t len, const void *code)
{
    struct iovec one = {(void *)(uintptr_t)data, len};

    return may_send_parts(fd, NULL, &one, 1, code);
}

/* What came of it. */
static inline ssize_t sent(int fd, ssize_t n)
{
    if (n < 0 && __atomic_load_n(&preload_hellos, __ATOMIC_RELAXED) != 0)
        preload_hello_unsent(fd);
    return n;
}

static const struct sockaddr *opens(const void *to, int flags)
{
    return (flags & MSG_FASTOPEN) != 0 ? to : NULL;
}

PRELOAD_PUBLIC ssize_t send(int fd, const void *data, size_t len, int flags)
{
    if (may_send(fd, data, len, __builtin_return_address(0)) != 0)
        return -1;
    return sent(fd, REAL(send)(fd, data, len, flags));
}

PRELOAD_PUBLIC ssize_t sendto(int fd, const void *data, size_t len, int flags,
                              const struct sockaddr *to, socklen_t tolen)
{
    struct iovec one = {(void *)(uintptr_t)data, len};

    if (may_send_parts(fd, opens(to, flags), &one, 1, __builtin_return_address(0)) != 0)
        return -1;
    return sent(fd, REAL(sendto)(fd, data, len, flags, to, tolen));
}

PRELOAD_PUBLIC ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    if (may_send_parts(fd, opens(msg->msg_name, flags), msg->msg_iov, msg->msg_iovlen,
                       __builtin_return_address(0)) != 0)
        return -1;
    return sent(fd, REAL(sendmsg)(fd, msg, flags));
}

/* Where one may not leave, those before it may. */
PRELOAD_PUBLIC int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
    unsigned i;

    for (i = 0; i < n; i++)
        if (may_send_parts(fd, opens(msgs[i].msg_hdr.msg_name, flags), msgs[i].msg_hdr.msg_iov,
                           msgs[i].msg_hdr.msg_iovlen, __builtin_return_address(0)) != 0)
            return -1;
    return (int)sent(fd, REAL(sendmmsg)(fd, msgs, n, flags));
}

/* Programs ask the kernel whether an address can be read by writing a few bytes from there into a
 * pipe (libunwind): what may be so is only looked at where it goes into a socket. */
static inline bool may_be_probe(int fd, const void *data, size_t len)
{
    return len <= PROBE_MAX && !preload_is_readable(data, len) && !preload_is_stream(fd);
}

static inline bool may_be_probe_parts(int fd, const struct iovec *iov, int n)
{
    if (n <= 0 || n > IOV_MAX || !preload_is_readable(iov, sizeof(*iov) * (size_t)n))
        return n <= 0 || !preload_is_stream(fd);
    for (; n > 0; iov++, n--)
        if (iov->iov_len > 0 && may_be_probe(fd, iov->iov_base, iov->iov_len))
            return true;
    return false;
}

PRELOAD_PUBLIC ssize_t write(int fd, const void *data, size_t len)
{
    if (!may_be_probe(fd, data, len) && may_send(fd, data, len, __builtin_return_address(0)) != 0)
        return -1;
    return sent(fd, REAL(write)(fd, data, len));
}

PRELOAD_PUBLIC ssize_t writev(int fd, const struct iovec *iov, int n)
{
    if (!may_be_probe_parts(fd, iov, n) &&
        may_send_parts(fd, NULL, iov, (size_t)n, __builtin_return_address(0)) != 0)
        return -1;
    return sent(fd, REAL(writev)(fd, iov, n));
}

/* With the offset -1 it is writev(). */
PRELOAD_PUBLIC ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    if (offset == -1 && !may_be_probe_parts(fd, iov, n) &&
        may_send_parts(fd, NULL, iov, (size_t)n, __builtin_return_address(0)) != 0)
        return -1;
    return sent(fd, REAL(pwritev2)(fd, iov, n, offset, flags));
}

PRELOAD_PUBLIC ssize_t pwritev64v2(int fd, const struct iovec *iov, int n, off64_t offset,
                                   int flags)
{
    if (offset == -1 && !may_be_probe_parts(fd, iov, n) &&
        may_send_parts(fd, NULL, iov, (size_t)n, __builtin_return_address(0)) != 0)
        return -1;
    return sent(fd, REAL(pwritev64v2)(fd, iov, n, offset, flags));
}

/* ---- what is not seen ---- */

static int may_send_unseen(int fd, const void *code)
{
    if (!noted(fd) || preload_is_library(code) || !preload_guard_is_on(fd, NULL))
        return 0;
    return preload_guard_refuse(fd);
}

PRELOAD_PUBLIC ssize_t sendfile(int fd, int in, off_t *offset, size_t len)
{
    if (may_send_unseen(fd, __builtin_return_address(0)) != 0)
        return -1;
    return REAL(sendfile)(fd, in, offset, len);
}

PRELOAD_PUBLIC ssize_t sendfile64(int fd, int in, off64_t *offset, size_t len)
{
    if (may_send_unseen(fd, __builtin_return_address(0)) != 0)
        return -1;
    return REAL(sendfile64)(fd, in, offset, len);
}

PRELOAD_PUBLIC ssize_t splice(int in, off64_t *in_at, int fd, off64_t *at, size_t len,
                              unsigned flags)
{
    if (may_send_unseen(fd, __builtin_return_address(0)) != 0)
        return -1;
    return REAL(splice)(in, in_at, fd, at, len, flags);
}

/* libc's own threads write later. */
PRELOAD_PUBLIC int aio_write(struct aiocb *cb)
{
    if (may_send_unseen(cb->aio_fildes, __builtin_return_address(0)) != 0)
        return -1;
    return REAL(aio_write)(cb);
}

PRELOAD_PUBLIC int aio_write64(struct aiocb64 *cb)
{
    if (may_send_unseen(cb->aio_fildes, __builtin_return_address(0)) != 0)
        return -1;
    return REAL(aio_write64)(cb);
}

/* Where one may not leave, none does. */
PRELOAD_PUBLIC int lio_listio(int mode, struct aiocb *const list[], int n, struct sigevent *event)
{
    int i;

    for (i = 0; i < n; i++)
        if (list[i] != NULL && list[i]->aio_lio_opcode == LIO_WRITE &&
            may_send_unseen(list[i]->aio_fildes, __builtin_return_address(0)) != 0)
            return -1;
    return REAL(lio_listio)(mode, list, n, event);
}

PRELOAD_PUBLIC int lio_listio64(int mode, struct aiocb64 *const list[], int n,
                                struct sigevent *event)
{
    int i;

    for (i = 0; i < n; i++)
        if (list[i] != NULL && list[i]->aio_lio_opcode == LIO_WRITE &&
            may_send_unseen(list[i]->aio_fildes, __builtin_return_address(0)) != 0)
            return -1;
    return REAL(lio_listio64)(mode, list, n, event);
}

/* The stream's own writes are inside libc and cannot be interposed. */
PRELOAD_PUBLIC FILE *fdopen(int fd, const char *mode)
{
    if ((mode[0] != 'r' || strchr(mode, '+') != NULL) &&
        may_send_unseen(fd, __builtin_return_address(0)) != 0)
        return NULL;
    return REAL(fdopen)(fd, mode);
}

PRELOAD_PUBLIC int vdprintf(int fd, const char *format, va_list args)
{
    if (may_send_unseen(fd, __builtin_return_address(0)) != 0)
        return -1;
    return REAL(vdprintf)(fd, format, args);
}

PRELOAD_PUBLIC int dprintf(int fd, const char *format, ...)
{
    va_list args;
    int n = -1;

    va_start(args, format);
    if (may_send_unseen(fd, __builtin_return_address(0)) == 0)
        n = REAL(vdprintf)(fd, format, args);
    va_end(args);
    return n;
}

/* What they are under _FORTIFY_SOURCE. */
PRELOAD_PUBLIC int __vdprintf_chk(int fd, int flag, const char *format, va_list args);
PRELOAD_PUBLIC int __dprintf_chk(int fd, int flag, const char *format, ...);

int __vdprintf_chk(int fd, int flag, const char *format, va_list args)
{
    if (may_send_unseen(fd, __builtin_return_address(0)) != 0)
        return -1;
    return REAL(__vdprintf_chk)(fd, flag, format, args);
}

int __dprintf_chk(int fd, int flag, const char *format, ...)
{
    va_list args;
    int n = -1;

    va_start(args, format);
    if (may_send_unseen(fd, __builtin_return_address(0)) == 0)
        n = REAL(__vdprintf_chk)(fd, flag, format, args);
    va_end(args);
    return n;
}
