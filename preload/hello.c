/* Concept: TLS handshakes in what a program sends. Every hello of an SSL that libmtls knows is
 * announced by its random, before it leaves; one that was not is another TLS library's. The same
 * table tells libmtls on which descriptor a hello leaves that a program carries there itself
 * (memory BIOs). */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#include "../mtls/ossl/interpose.h"
#include "libmtls.h"
#include "preload.h"

enum {
    EXPECTED_MAX = 4096, /* hellos on their way; the oldest goes */
    RANDOM_AT = 5 + 4 + 2,
    LOOK = RANDOM_AT + 32,
    RECORD_HANDSHAKE = 22,
    CLIENT_HELLO = 1,
    SERVER_HELLO = 2
};

static struct {
    uint8_t random[32];
    void *who;
} expected[EXPECTED_MAX];
static unsigned next, used;
static unsigned asked; /* entries with who; atomic */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void child(void)
{
    pthread_mutex_init(&mutex, NULL);
}

void preload_hello_start(void)
{
    pthread_atfork(NULL, NULL, child);
}

static void who_set(unsigned i, void *who)
{
    if ((expected[i].who != NULL) != (who != NULL))
        __atomic_add_fetch(&asked, who != NULL ? 1u : -1u, __ATOMIC_RELAXED);
    expected[i].who = who;
}

void preload_hello_expect(const uint8_t random[32], void *who)
{
    unsigned i;

    pthread_mutex_lock(&mutex);
    i = next++ % EXPECTED_MAX;
    used += used < EXPECTED_MAX;
    memcpy(expected[i].random, random, sizeof(expected[i].random));
    who_set(i, who);
    pthread_mutex_unlock(&mutex);
}

void preload_hello_forget(void *who)
{
    unsigned i;

    if (__atomic_load_n(&asked, __ATOMIC_RELAXED) == 0)
        return;
    pthread_mutex_lock(&mutex);
    for (i = 0; i < used; i++)
        if (expected[i].who == who)
            who_set(i, NULL);
    pthread_mutex_unlock(&mutex);
}

/* libmtls is told with the lock held, so that an SSL does not go away meanwhile. */
static bool is_expected(const uint8_t random[32], int fd)
{
    unsigned i, at;
    bool found = false;
    void *who;

    pthread_mutex_lock(&mutex);
    for (i = 0; i < used && !found; i++) {
        at = (next - 1 - i) % EXPECTED_MAX;
        found = memcmp(expected[at].random, random, 32) == 0;
        who = found ? expected[at].who : NULL;
        if (who != NULL) {
            preload_libmtls.learned(who, fd);
            who_set(at, NULL);
        }
    }
    pthread_mutex_unlock(&mutex);
    return found;
}

static size_t gather(const struct iovec *iov, size_t n, uint8_t *out, size_t size)
{
    size_t i, take, have = 0;

    for (i = 0; i < n && have < size; i++) {
        take = iov[i].iov_len < size - have ? iov[i].iov_len : size - have;
        if (take > 0)
            memcpy(out + have, iov[i].iov_base, take);
        have += take;
    }
    return have;
}

static bool is_tcp(int fd)
{
    int type = 0, protocol = 0;
    socklen_t len = sizeof(type), plen = sizeof(protocol);

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM &&
           getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &plen) == 0 &&
           (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
}

static bool nothing_sent(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);

    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 || info.tcpi_bytes_sent == 0;
}

/* A record that a handshake begins with; part: of a few bytes that may become one. */
static bool looks_like_hello(const uint8_t *b, size_t len, bool *part)
{
    size_t record, message;

    *part = len < RANDOM_AT;
    if (b[0] != RECORD_HANDSHAKE || (len > 1 && b[1] != 3) || (len > 2 && b[2] > 4))
        return false;
    if (len > 5 && b[5] != CLIENT_HELLO && b[5] != SERVER_HELLO)
        return false;
    if (*part)
        return len > 2;
    record = (size_t)b[3] << 8 | b[4];
    message = (size_t)b[6] << 16 | (size_t)b[7] << 8 | b[8];
    return record > 4 && record <= 16384 + 256 && message >= 2 + 32 && message <= 1 << 17 &&
           b[9] == 3 && b[10] <= 4;
}

enum preload_hello preload_hello_look(int fd, const struct iovec *iov, size_t n)
{
    uint8_t b[LOOK];
    size_t len = gather(iov, n, b, sizeof(b));
    int saved = errno;
    bool part;
    enum preload_hello found = PRELOAD_HELLO_NONE;

    if (len == 0 || !looks_like_hello(b, len, &part))
        return PRELOAD_HELLO_NONE;
    if (len == LOOK && is_expected(b + RANDOM_AT, fd))
        found = PRELOAD_HELLO_HOOKED;
    else if (is_tcp(fd) && (!part || nothing_sent(fd)))
        found = PRELOAD_HELLO_UNHOOKED;
    errno = saved;
    return found;
}
