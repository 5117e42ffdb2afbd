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
    WAYS = 8,
    PREFIX_MAX = 128, /* unknown bytes before a hello in the same call */
    BEHIND_MAX = PRELOAD_PREAMBLE_MAX,
    RECORD_HANDSHAKE = 22
};

static struct {
    uint8_t random[32];
    void *who;
} expected[EXPECTED_MAX];
static unsigned next, used;
static unsigned asked; /* entries with who; atomic */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

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

/* A raw socket too, in which no hello comes first. */
static bool is_tcp(int fd)
{
    int protocol = 0;
    socklen_t len = sizeof(protocol);

    return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 &&
           (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
}

/* ---- what is sent ----
 * The beginning of a hello that has not come as a whole is kept with its socket, whichever number
 * or copy it is used by. */

static struct begun {
    bool busy;                              /* atomic */
    bool is;                                /* atomic */
    uint64_t whose;                         /* atomic; preload_identity(), 0: nobody's yet */
    unsigned age;                           /* atomic; of the clock below */
    struct preload_hello_scan scan, before; /* before: the latest call */
} begun[SLOTS];                             /* linear probing, WAYS at most */
static unsigned clock_now;                  /* atomic */
unsigned preload_hellos;

static void begun_set(struct begun *b, bool is)
{
    if (__atomic_exchange_n(&b->is, is, __ATOMIC_ACQ_REL) != is)
        __atomic_add_fetch(&preload_hellos, is ? 1u : -1u, __ATOMIC_ACQ_REL);
}

static struct begun *way(uint64_t whose, unsigned i)
{
    return &begun[((whose >> 8) + i) % SLOTS];
}

static bool is_for(const struct begun *b, uint64_t whose)
{
    return __atomic_load_n(&b->is, __ATOMIC_ACQUIRE) &&
           __atomic_load_n(&b->whose, __ATOMIC_ACQUIRE) == whose;
}

static bool begun_lock(struct begun *b)
{
    return !__atomic_exchange_n(&b->busy, true, __ATOMIC_ACQUIRE);
}

static void begun_give(struct begun *b)
{
    __atomic_store_n(&b->busy, false, __ATOMIC_RELEASE);
}

/* The one that has begun. NULL: none, or in use, by another thread or below this signal handler. */
static struct begun *begun_find(uint64_t whose)
{
    struct begun *b;
    unsigned i;

    for (i = 0; i < WAYS; i++) {
        b = way(whose, i);
        if (!is_for(b, whose) || !begun_lock(b))
            continue;
        if (is_for(b, whose))
            return b;
        begun_give(b);
    }
    return NULL;
}

/* A new one; where all ways are taken the oldest goes. */
static struct begun *begun_new(uint64_t whose)
{
    struct begun *b, *at = NULL;
    unsigned i, now = __atomic_add_fetch(&clock_now, 1, __ATOMIC_RELAXED), age, oldest = 0;

    for (i = 0; i < WAYS; i++) {
        b = way(whose, i);
        age = __atomic_load_n(&b->is, __ATOMIC_ACQUIRE)
                  ? now - __atomic_load_n(&b->age, __ATOMIC_RELAXED)
                  : UINT32_MAX;
        if ((at == NULL || age > oldest) && !__atomic_load_n(&b->busy, __ATOMIC_RELAXED)) {
            at = b;
            oldest = age;
        }
    }
    if (at == NULL || !begun_lock(at))
        return NULL;
    begun_set(at, false);
    __atomic_store_n(&at->whose, whose, __ATOMIC_RELEASE);
    __atomic_store_n(&at->age, now, __ATOMIC_RELAXED);
    return at;
}

bool preload_hello_begun(int fd)
{
    uint64_t whose;
    unsigned i;

    if (__atomic_load_n(&preload_hellos, __ATOMIC_RELAXED) == 0)
        return false;
    whose = preload_identity(fd);
    for (i = 0; i < WAYS; i++)
        if (is_for(way(whose, i), whose))
            return true;
    return false;
}

void preload_hello_unsent(int fd)
{
    struct begun *b = begun_find(preload_identity(fd));

    if (b == NULL)
        return;
    b->scan = b->before;
    begun_set(b, b->scan.have != 0 || b->scan.got != 0);
    begun_give(b);
}

/* Threads that are not in the child were in the middle of theirs. */
static void child(void)
{
    unsigned i;

    pthread_mutex_init(&mutex, NULL);
    for (i = 0; i < SLOTS; i++)
        if (begun[i].busy) {
            begun[i].is = false;
            begun[i].busy = false;
        }
    for (preload_hellos = i = 0; i < SLOTS; i++)
        preload_hellos += begun[i].is;
}

void preload_hello_start(void)
{
    pthread_atfork(NULL, NULL, child);
}

/* From byte at of the first part on. */
static enum preload_scan scan_from(struct preload_hello_scan *scan, const struct iovec *iov,
                                   size_t n, size_t at)
{
    enum preload_scan what = PRELOAD_SCAN_MORE;
    size_t i;

    for (i = 0; i < n && what == PRELOAD_SCAN_MORE; i++, at = 0)
        what = preload_hello_scan(scan, (const uint8_t *)iov[i].iov_base + at, iov[i].iov_len - at);
    return what;
}

/* In the same call behind what announces it, or as a whole behind a few bytes of anything. */
static enum preload_scan scan_behind(struct preload_hello_scan *scan, const struct iovec *iov,
                                     size_t n)
{
    enum preload_scan what;
    size_t i, before = 0, len;

    for (i = 0; i < n && before < BEHIND_MAX; before += iov[i++].iov_len) {
        const uint8_t *from = iov[i].iov_base, *at = from;

        len = iov[i].iov_len < BEHIND_MAX - before ? iov[i].iov_len : BEHIND_MAX - before;
        for (; len > 0 && (at = memchr(at, RECORD_HANDSHAKE, len - (size_t)(at - from))) != NULL;
             at++) {
            size_t prefix = before + (size_t)(at - from);

            memset(scan, 0, sizeof(*scan));
            what = scan_from(scan, iov + i, n - i, (size_t)(at - from));
            if (what == PRELOAD_SCAN_HELLO && prefix <= PREFIX_MAX && preload_hello_fits(scan))
                return what;
            if (what != PRELOAD_SCAN_OTHER && preload_is_preamble(iov, n, prefix))
                return what;
        }
    }
    return PRELOAD_SCAN_OTHER;
}

/* b->scan: of the calls before this one, or all zero. */
static enum preload_scan look(struct begun *b, const struct iovec *iov, size_t n)
{
    enum preload_scan what;

    b->before = b->scan;
    what = scan_from(&b->scan, iov, n, 0);
    if (what == PRELOAD_SCAN_OTHER && (b->before.have != 0 || b->before.got != 0)) {
        memset(&b->before, 0, sizeof(b->before)); /* it was no handshake: from here on then */
        b->scan = b->before;
        what = scan_from(&b->scan, iov, n, 0);
    }
    if (what == PRELOAD_SCAN_OTHER)
        what = scan_behind(&b->scan, iov, n);
    return what;
}

/* What cannot be kept, because another thread (or what this signal handler has interrupted) is at
 * it, is looked at all the same: a hello that comes as a whole is always seen. */
static enum preload_scan look_at(uint64_t whose, const struct iovec *iov, size_t n,
                                 struct preload_hello_scan *scan)
{
    struct begun own = {.busy = true}, *b = begun_find(whose);
    enum preload_scan what;

    if (b != NULL)
        own.scan = b->scan;
    what = look(&own, iov, n);
    *scan = own.scan;
    if (what == PRELOAD_SCAN_MORE && (scan->have != 0 || scan->got != 0)) {
        b = b != NULL ? b : begun_new(whose);
        if (b != NULL) {
            b->scan = own.scan;
            b->before = own.before;
            begun_set(b, true);
        }
    } else if (b != NULL) {
        begun_set(b, false);
    }
    if (b != NULL)
        begun_give(b);
    return what;
}

enum preload_hello preload_hello_look(int fd, const struct iovec *iov, size_t n, uint64_t *whose)
{
    int saved = errno;
    enum preload_hello found = PRELOAD_HELLO_NONE;
    struct preload_hello_scan scan;

    if (!preload_settings.off && is_tcp(fd) &&
        look_at(*whose = preload_identity(fd), iov, n, &scan) == PRELOAD_SCAN_HELLO) {
        if (is_expected(scan.head + PRELOAD_RANDOM_AT, fd))
            found = PRELOAD_HELLO_HOOKED;
        else if (preload_is_stream(fd))
            found = PRELOAD_HELLO_UNHOOKED;
    }
    errno = saved;
    return found;
}
