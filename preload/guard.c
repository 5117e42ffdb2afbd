/* Concept: what a program may send. A TLS handshake that libmtls does not know is refused. After a
 * failed verification its own socket is shut (mtls/ossl/interpose.c), and every connection to the
 * same address and port carries, for a minute, nothing but TLS that libmtls knows and what
 * announces it: a program that falls back to plaintext would be worse off than with plain TLS.
 *
 * What is known of a socket goes with its inode, whichever number, copy or process it is used by;
 * the peer is asked of the kernel each time. All of it is shared with the children that the program
 * forks. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "preamble.h"
#include "preload.h"

enum { SETS = 256, WAYS = 8, WATCH_S = 60, SOCKETS = 65536 };

/* What a socket has carried of TLS that libmtls knows. */
enum mark { MARK_NONE, MARK_HELLO, MARK_DECIDED };

static struct shared {   /* all atomic */
    int64_t watch_until; /* the last entry's end; 0: none */
    int64_t every_until; /* an entry gave way too early: until then every address counts */
    struct {
        uint64_t key;
        int64_t until;
    } failed[SETS][WAYS];
    uint64_t marks[SOCKETS]; /* inode << 2 | enum mark, by the inode's low bits */
} * shared;

void preload_guard_start(void)
{
    void *map =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    shared = map != MAP_FAILED ? map : NULL;
}

static int64_t now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec;
}

/* Workers of another user may write here as well: no end is later than one that was set now. */
static int64_t load(int64_t *at)
{
    int64_t value = __atomic_load_n(at, __ATOMIC_ACQUIRE), latest;

    if (value == 0)
        return 0;
    latest = now_s() + WATCH_S;
    if (value > latest &&
        __atomic_compare_exchange_n(at, &value, latest, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        value = latest;
    return value < latest ? value : latest;
}

static void raise_to(int64_t *at, int64_t value)
{
    int64_t before = load(at);

    while (before < value && !__atomic_compare_exchange_n(at, &before, value, false,
                                                          __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        ;
}

bool preload_guard_watches(void)
{
    int64_t until = shared != NULL ? load(&shared->watch_until) : 0;

    return until != 0 && now_s() < until;
}

/* ---- sockets ---- */

static uint64_t *mark_at(uint64_t inode)
{
    return shared != NULL ? &shared->marks[inode % SOCKETS] : NULL;
}

static uint64_t *mark_of(int fd, uint64_t *inode)
{
    struct stat st;
    int saved = errno;
    bool is_socket = fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);

    errno = saved;
    if (!is_socket)
        return NULL;
    *inode = (uint64_t)st.st_ino;
    return mark_at(*inode);
}

static void mark_put(uint64_t *at, uint64_t inode, enum mark mark)
{
    if (at != NULL)
        __atomic_store_n(at, inode << 2 | (unsigned)mark, __ATOMIC_RELEASE);
}

static void mark_set(int fd, enum mark mark)
{
    uint64_t inode = 0, *at = mark_of(fd, &inode);

    mark_put(at, inode, mark);
}

static enum mark mark_get(int fd)
{
    uint64_t inode, *at = mark_of(fd, &inode), value;

    value = at != NULL ? __atomic_load_n(at, __ATOMIC_ACQUIRE) : 0;
    return value != 0 && value >> 2 == inode ? (enum mark)(value & 3) : MARK_NONE;
}

void preload_guard_decided(int fd)
{
    mark_set(fd, MARK_DECIDED);
}

/* ---- addresses ---- */

static uint64_t key_of(const char *address)
{
    uint64_t key = 0xcbf29ce484222325u; /* FNV-1a */

    for (; *address != '\0'; address++)
        key = (key ^ (uint8_t)*address) * 0x100000001b3u;
    return key | 1;
}

/* Another process may take the same place: then it is looked for again. */
static bool remember(uint64_t key, int64_t now, int64_t until)
{
    unsigned set = (unsigned)(key >> 32) % SETS, i, at = 0;
    uint64_t before;

    for (i = 0; i < WAYS; i++) {
        before = __atomic_load_n(&shared->failed[set][i].key, __ATOMIC_ACQUIRE);
        if (before == key) {
            at = i;
            break;
        }
        if (load(&shared->failed[set][i].until) < load(&shared->failed[set][at].until))
            at = i;
    }
    before = __atomic_load_n(&shared->failed[set][at].key, __ATOMIC_ACQUIRE);
    if (before != key && load(&shared->failed[set][at].until) > now)
        raise_to(&shared->every_until, load(&shared->failed[set][at].until));
    if (!__atomic_compare_exchange_n(&shared->failed[set][at].key, &before, key, false,
                                     __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return false;
    __atomic_store_n(&shared->failed[set][at].until, until, __ATOMIC_RELEASE);
    return __atomic_load_n(&shared->failed[set][at].key, __ATOMIC_ACQUIRE) == key;
}

void preload_guard_failed(const char *address, int fd)
{
    int64_t now = now_s(), until = now + WATCH_S;
    unsigned tries = 0;

    mark_set(fd, MARK_NONE);
    if (shared == NULL || address[0] == '\0')
        return;
    while (!remember(key_of(address), now, until))
        if (++tries == WAYS) {
            raise_to(&shared->every_until, until);
            break;
        }
    raise_to(&shared->watch_until, until);
}

static bool has_failed(const char *address)
{
    uint64_t key = key_of(address);
    unsigned set = (unsigned)(key >> 32) % SETS, i;
    int64_t now = now_s();

    if (address[0] == '\0')
        return false;
    if (load(&shared->every_until) > now)
        return true;
    for (i = 0; i < WAYS; i++)
        if (__atomic_load_n(&shared->failed[set][i].key, __ATOMIC_ACQUIRE) == key &&
            load(&shared->failed[set][i].until) > now)
            return true;
    return false;
}

/* ---- sending ---- */

static int refuse(int fd, const char *why)
{
    char peer[64];

    preload_peer_text(fd, peer, sizeof(peer));
    preload_log_event("refused", peer, why);
    shutdown(fd, SHUT_RDWR);
    errno = ECONNABORTED;
    return -1;
}

static int unhooked(int fd, const void *code)
{
    char why[256], peer[64];
    const char *slash;
    Dl_info info;

    if (preload_settings.off || preload_is_library(code))
        return 0;
    if (dladdr(code, &info) == 0 || info.dli_fname == NULL)
        info.dli_fname = "the program";
    slash = strrchr(info.dli_fname, '/');
    snprintf(why, sizeof(why), "TLS of %s cannot be protected",
             slash != NULL ? slash + 1 : info.dli_fname);
    if (preload_enforcing())
        return refuse(fd, why);
    preload_peer_text(fd, peer, sizeof(peer));
    preload_log_event("unhooked", peer, why);
    return 0;
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

/* Neither the stack (it may be a signal handler's) nor malloc() has room for what comes in parts.
 */
bool preload_is_preamble(const struct iovec *iov, size_t n, size_t len)
{
    uint8_t *copy;
    bool is;

    while (n > 0 && iov->iov_len == 0)
        iov++, n--;
    if (n == 0 || len == 0 || len > PRELOAD_PREAMBLE_MAX)
        return len == 0;
    if (iov->iov_len >= len)
        return preload_preamble(iov->iov_base, len);
    copy = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        return false;
    is = gather(iov, n, copy, len) == len && preload_preamble(copy, len);
    munmap(copy, len);
    return is;
}

static size_t total(const struct iovec *iov, size_t n)
{
    size_t i, sum = 0;

    for (i = 0; i < n && sum <= PRELOAD_PREAMBLE_MAX; i++)
        sum += iov[i].iov_len < PRELOAD_PREAMBLE_MAX ? iov[i].iov_len : PRELOAD_PREAMBLE_MAX + 1;
    return sum;
}

/* The beginning of a TLS record: all that follows a hello until its handshake is decided. */
static bool is_record(const struct iovec *iov, size_t n)
{
    uint8_t head[3];
    size_t have = 0, i, j;

    for (i = 0; i < n && have < sizeof(head); i++)
        for (j = 0; j < iov[i].iov_len && have < sizeof(head); j++)
            head[have++] = ((const uint8_t *)iov[i].iov_base)[j];
    return have == 0 || (head[0] >= 20 && head[0] <= 23 && (have < 2 || head[1] == 3) &&
                         (have < 3 || head[2] <= 4));
}

bool preload_guard_is_on(int fd, const struct sockaddr *to)
{
    char address[64];

    if (!preload_guard_watches() || !preload_is_stream(fd))
        return false;
    if (to != NULL)
        preload_addr_text(to, address, sizeof(address));
    else
        preload_peer_text(fd, address, sizeof(address));
    return has_failed(address) && mark_get(fd) != MARK_DECIDED;
}

int preload_guard_refuse(int fd)
{
    return refuse(fd, "no plaintext to a server whose verification has failed");
}

int preload_guard_send(int fd, const struct sockaddr *to, const struct iovec *iov, size_t n,
                       const void *code)
{
    uint64_t whose = 0;
    enum preload_hello hello = preload_hello_look(fd, iov, n, &whose);

    if (hello == PRELOAD_HELLO_HOOKED)
        mark_put(mark_at(whose >> 8), whose >> 8, MARK_HELLO);
    if (hello == PRELOAD_HELLO_UNHOOKED)
        return unhooked(fd, code);
    if (hello == PRELOAD_HELLO_HOOKED || preload_thread.marked || preload_is_library(code) ||
        !preload_guard_is_on(fd, to))
        return 0;
    if (mark_get(fd) == MARK_HELLO ? is_record(iov, n) : preload_is_preamble(iov, n, total(iov, n)))
        return 0;
    return preload_guard_refuse(fd);
}
