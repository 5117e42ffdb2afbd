/* Concept: TLS handshakes in what a program sends. Every hello of an SSL that libmtls knows is
 * announced by its random, before it leaves; one that was not is another TLS library's. The same
 * table tells libmtls on which descriptor a hello leaves that a program carries there itself
 * (memory BIOs). */
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#include "../mtls/ossl/interpose.h"
#include "hello_scan.h"
#include "libmtls.h"
#include "preamble.h"
#include "preload.h"

enum {
    EXPECTED_MAX = 4096, /* hellos on their way; the oldest goes */
    SLOTS = 4096,
    RECORD_HANDSHAKE = 22
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

static bool is_tcp(int fd)
{
    int type = 0, protocol = 0;
    socklen_t len = sizeof(type), plen = sizeof(protocol);

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM &&
           getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &plen) == 0 &&
           (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
}

/* ---- what is sent ----
 * The beginning of a hello that has not come as a whole is kept with its descriptor. */

static struct begun {
    bool busy; /* atomic */
    bool is;   /* atomic */
    uint64_t whose;
    struct preload_hello_scan scan, before; /* before: the latest call */
} begun[SLOTS];                             /* by descriptor, modulo */
unsigned preload_hellos;

static void begun_set(struct begun *b, bool is)
{
    if (__atomic_exchange_n(&b->is, is, __ATOMIC_ACQ_REL) != is)
        __atomic_add_fetch(&preload_hellos, is ? 1u : -1u, __ATOMIC_ACQ_REL);
}

/* NULL: none, or in use, by another thread or below this signal handler. */
static struct begun *begun_take(int fd)
{
    struct begun *b = &begun[(unsigned)fd % SLOTS];

    return !__atomic_exchange_n(&b->busy, true, __ATOMIC_ACQUIRE) ? b : NULL;
}

static void begun_give(struct begun *b)
{
    __atomic_store_n(&b->busy, false, __ATOMIC_RELEASE);
}

bool preload_hello_begun(int fd)
{
    return __atomic_load_n(&begun[(unsigned)fd % SLOTS].is, __ATOMIC_ACQUIRE);
}

void preload_hello_unsent(int fd)
{
    struct begun *b = preload_hello_begun(fd) ? begun_take(fd) : NULL;

    if (b == NULL)
        return;
    if (b->whose == preload_identity(fd)) {
        b->scan = b->before;
        begun_set(b, b->scan.have != 0 || b->scan.got != 0);
    }
    begun_give(b);
}

static enum preload_scan scan_all(struct preload_hello_scan *scan, const struct iovec *iov,
                                  size_t n)
{
    enum preload_scan what = PRELOAD_SCAN_MORE;
    size_t i;

    for (i = 0; i < n && what == PRELOAD_SCAN_MORE; i++)
        what = preload_hello_scan(scan, iov[i].iov_base, iov[i].iov_len);
    return what;
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

/* In the same call behind what announces it. */
static enum preload_scan scan_behind(struct preload_hello_scan *scan, const struct iovec *iov,
                                     size_t n)
{
    uint8_t data[PRELOAD_PREAMBLE_MAX];
    size_t len = gather(iov, n, data, sizeof(data));
    const uint8_t *at = data;
    enum preload_scan what;

    while ((at = memchr(at, RECORD_HANDSHAKE, len - (size_t)(at - data))) != NULL) {
        memset(scan, 0, sizeof(*scan));
        what = preload_hello_scan(scan, at, len - (size_t)(at - data));
        if (what != PRELOAD_SCAN_OTHER && preload_preamble(data, (size_t)(at - data)))
            return what;
        at++;
    }
    return PRELOAD_SCAN_OTHER;
}

static enum preload_scan look(struct begun *b, uint64_t whose, const struct iovec *iov, size_t n)
{
    enum preload_scan what = PRELOAD_SCAN_OTHER;

    if (!__atomic_load_n(&b->is, __ATOMIC_ACQUIRE) || b->whose != whose)
        memset(&b->scan, 0, sizeof(b->scan));
    b->before = b->scan;
    b->whose = whose;
    what = scan_all(&b->scan, iov, n);
    if (what == PRELOAD_SCAN_OTHER && (b->before.have != 0 || b->before.got != 0)) {
        memset(&b->before, 0, sizeof(b->before)); /* it was no handshake: from here on then */
        b->scan = b->before;
        what = scan_all(&b->scan, iov, n);
    }
    if (what == PRELOAD_SCAN_OTHER)
        what = scan_behind(&b->scan, iov, n);
    begun_set(b, what == PRELOAD_SCAN_MORE && (b->scan.have != 0 || b->scan.got != 0));
    return what;
}

enum preload_hello preload_hello_look(int fd, const struct iovec *iov, size_t n)
{
    int saved = errno;
    bool tcp = !preload_settings.off && is_tcp(fd);
    struct begun *b = tcp || preload_hello_begun(fd) ? begun_take(fd) : NULL;
    enum preload_hello found = PRELOAD_HELLO_NONE;
    uint8_t random[32];

    if (b != NULL && !tcp && b->whose == preload_identity(fd))
        begun_set(b, false);
    else if (b != NULL && tcp && look(b, preload_identity(fd), iov, n) == PRELOAD_SCAN_HELLO) {
        memcpy(random, b->scan.head + PRELOAD_RANDOM_AT, sizeof(random));
        found = PRELOAD_HELLO_UNHOOKED;
    }
    if (b != NULL)
        begun_give(b);
    if (found == PRELOAD_HELLO_UNHOOKED && is_expected(random, fd))
        found = PRELOAD_HELLO_HOOKED;
    errno = saved;
    return found;
}
