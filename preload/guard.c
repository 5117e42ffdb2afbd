/* Concept: what a program may send. A TLS handshake that libmtls does not know is refused. After a
 * failed verification a new connection to the same address and port carries, for a minute, nothing
 * but TLS that libmtls knows and what announces it: a program that falls back to plaintext would be
 * worse off than with plain TLS. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "preamble.h"
#include "preload.h"

enum { FDS = 65536, FAILED_MAX = 256, WATCH_S = 60, ADDRESS_MAX = 56, PREAMBLE_MAX = 16384 };

unsigned preload_guards;
static uint64_t guarded[FDS]; /* the socket's identity, 0: not guarded; atomic */

/* Shared with the children that the program forks; an entry holds while until is in the future. */
static struct failed {
    unsigned next; /* atomic; the oldest goes */
    struct {
        int64_t until; /* atomic; 0 while the address is written */
        char address[ADDRESS_MAX];
    } entry[FAILED_MAX];
} * failed;

void preload_guard_start(void)
{
    void *shared =
        mmap(NULL, sizeof(*failed), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    failed = shared != MAP_FAILED ? shared : NULL;
}

static int64_t now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec;
}

static void guard_set(int fd, bool on)
{
    uint64_t before;

    if (fd < 0 || fd >= FDS)
        return;
    before = __atomic_exchange_n(&guarded[fd], on ? preload_identity(fd) : 0, __ATOMIC_ACQ_REL);
    if ((before != 0) != on)
        __atomic_add_fetch(&preload_guards, on ? 1u : -1u, __ATOMIC_ACQ_REL);
}

static bool guard_get(int fd)
{
    uint64_t whose = fd >= 0 && fd < FDS ? __atomic_load_n(&guarded[fd], __ATOMIC_ACQUIRE) : 0;

    if (whose == 0 || whose == preload_identity(fd))
        return whose != 0;
    guard_set(fd, false); /* the number is another socket's by now */
    return false;
}

void preload_guard_close(int fd)
{
    if (guard_get(fd))
        guard_set(fd, false);
}

void preload_guard_failed(const char *address, int fd)
{
    unsigned i;

    if (failed == NULL || address[0] == '\0' || strlen(address) >= ADDRESS_MAX)
        return;
    i = __atomic_fetch_add(&failed->next, 1, __ATOMIC_RELAXED) % FAILED_MAX;
    __atomic_store_n(&failed->entry[i].until, 0, __ATOMIC_RELEASE);
    strcpy(failed->entry[i].address, address);
    __atomic_store_n(&failed->entry[i].until, now_s() + WATCH_S, __ATOMIC_RELEASE);
    guard_set(fd, true);
}

static bool has_failed(const char *address)
{
    int64_t now = now_s();
    unsigned i;

    for (i = 0; i < FAILED_MAX; i++)
        if (__atomic_load_n(&failed->entry[i].until, __ATOMIC_ACQUIRE) > now &&
            strncmp(failed->entry[i].address, address, ADDRESS_MAX) == 0)
            return true;
    return false;
}

void preload_guard_connect(int fd, const struct sockaddr *to)
{
    char address[64];

    if (failed == NULL || __atomic_load_n(&failed->next, __ATOMIC_RELAXED) == 0)
        return;
    preload_addr_text(to, address, sizeof(address));
    guard_set(fd, address[0] != '\0' && has_failed(address));
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
    uint8_t data[PREAMBLE_MAX];
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

int preload_guard_send(int fd, const struct iovec *iov, size_t n, const void *code)
{
    enum preload_hello hello = preload_hello_look(fd, iov, n);

    if (hello == PRELOAD_HELLO_HOOKED)
        guard_set(fd, false);
    if (hello == PRELOAD_HELLO_UNHOOKED)
        return unhooked(fd, code);
    if (hello == PRELOAD_HELLO_HOOKED || !guard_get(fd) || preload_is_library(code) ||
        is_preamble(iov, n))
        return 0;
    return refuse(fd, "no plaintext to a server whose verification has failed");
}
