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

static int64_t load(const int64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
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

static uint64_t *mark_of(int fd, uint64_t *inode)
{
    struct stat st;
    int saved = errno;
    bool is_socket = fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);

    errno = saved;
    if (shared == NULL || !is_socket)
        return NULL;
    *inode = (uint64_t)st.st_ino;
    return &shared->marks[*inode % SOCKETS];
}

static void mark_set(int fd, enum mark mark)
{
    uint64_t inode, *at = mark_of(fd, &inode);

    if (at != NULL)
        __atomic_store_n(at, inode << 2 | (unsigned)mark, __ATOMIC_RELEASE);
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

static bool is_preamble(const struct iovec *iov, size_t n)
{
    uint8_t data[PRELOAD_PREAMBLE_MAX];
    size_t len = 0, i;

    for (i = 0; i < n; i++) {
        if (iov[i].iov_len > sizeof(data) - len)
            return false;
        if (iov[i].iov_len > 0)
            memcpy(data + len, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }
    return len == 0 || preload_preamble(data, len);
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
    enum preload_hello hello = preload_hello_look(fd, iov, n);

    if (hello == PRELOAD_HELLO_HOOKED)
        mark_set(fd, MARK_HELLO);
    if (hello == PRELOAD_HELLO_UNHOOKED)
        return unhooked(fd, code);
    if (hello == PRELOAD_HELLO_HOOKED || preload_thread.marked || preload_is_library(code) ||
        !preload_guard_is_on(fd, to))
        return 0;
    if (mark_get(fd) == MARK_HELLO ? is_record(iov, n) : is_preamble(iov, n))
        return 0;
    return preload_guard_refuse(fd);
}
