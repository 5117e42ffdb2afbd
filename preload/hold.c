/* Concept: reads that are left in the kernel while a handshake waits (interpose.h): for programs
 * that carry TLS bytes from a socket into memory BIOs themselves, and whose event loop nothing but
 * the socket can wake. SO_RCVLOWAT, which libmtls sets, keeps the socket silent; here the read that
 * comes all the same gets less. */
#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <time.h>

#include "../mtls/ossl/interpose.h"
#include "preload.h"

enum { FDS = 65536, NAP_NS = 2 * 1000 * 1000 };

unsigned preload_holds;
static uint8_t held[FDS];   /* enum mtls_interpose_hold; atomic */
static uint64_t whose[FDS]; /* atomic */

bool preload_hold(int fd, int how)
{
    uint8_t before;

    if (fd < 0 || fd >= FDS)
        return false;
    if (how != MTLS_INTERPOSE_FREE)
        __atomic_store_n(&whose[fd], preload_identity(fd), __ATOMIC_RELEASE);
    before = __atomic_exchange_n(&held[fd], (uint8_t)how, __ATOMIC_ACQ_REL);
    if ((before != MTLS_INTERPOSE_FREE) != (how != MTLS_INTERPOSE_FREE))
        __atomic_add_fetch(&preload_holds, how != MTLS_INTERPOSE_FREE ? 1u : -1u, __ATOMIC_ACQ_REL);
    return how != MTLS_INTERPOSE_FREE;
}

void preload_hold_close(int fd)
{
    if (fd >= 0 && fd < FDS && __atomic_load_n(&held[fd], __ATOMIC_RELAXED) != 0)
        (void)preload_hold(fd, MTLS_INTERPOSE_FREE);
}

static int events(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLRDHUP};

    return REAL(poll)(&p, 1, 0) > 0 ? p.revents : 0;
}

/* The descriptor is readable in spite of SO_RCVLOWAT (FIN, or a full window): the program would
 * spin. */
static void nap(void)
{
    struct timespec t = {0, NAP_NS};

    nanosleep(&t, NULL);
}

ssize_t preload_hold_limit(int fd, size_t want)
{
    int how, there = 0;

    if (fd < 0 || fd >= FDS ||
        (how = __atomic_load_n(&held[fd], __ATOMIC_ACQUIRE)) == MTLS_INTERPOSE_FREE)
        return (ssize_t)want;
    if (__atomic_load_n(&whose[fd], __ATOMIC_ACQUIRE) != preload_identity(fd)) {
        (void)preload_hold(fd, MTLS_INTERPOSE_FREE);
        return (ssize_t)want;
    }
    if (ioctl(fd, FIONREAD, &there) != 0)
        return (ssize_t)want;
    if (how == MTLS_INTERPOSE_TAIL) {
        if (there > 1)
            return (size_t)there - 1 < want ? there - 1 : (ssize_t)want;
        /* The end of the stream is the program's to see: nothing can follow it. */
        if ((events(fd) & (POLLRDHUP | POLLHUP | POLLERR)) != 0)
            return (ssize_t)want;
    } else if ((events(fd) & (POLLERR | POLLHUP)) != 0) {
        return (ssize_t)want;
    } else if ((events(fd) & POLLIN) != 0) {
        nap();
    }
    errno = EAGAIN;
    return -1;
}
