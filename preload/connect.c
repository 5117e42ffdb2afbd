/* Concept: the interposed calls that make, name and close connections. The names that a program
 * looked up are remembered for one purpose: to open path 2 early. Nothing is trusted because of
 * them. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preload.h"

enum { NAMES_MAX = 64, NAME_MAX_LEN = 255 };

static struct name {
    sa_family_t family;
    uint8_t ip[16];
    char text[NAME_MAX_LEN + 1];
} names[NAMES_MAX];
static unsigned names_next, names_used;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static pid_t own_pid; /* of the process whose memory and descriptors these are */

static void child(void)
{
    pthread_mutex_init(&mutex, NULL);
    own_pid = getpid();
}

void preload_connect_start(void)
{
    own_pid = getpid();
    pthread_atfork(NULL, NULL, child);
}

static bool ip_of(const struct sockaddr *sa, struct name *out)
{
    memset(out->ip, 0, sizeof(out->ip));
    out->family = sa->sa_family;
    if (sa->sa_family == AF_INET)
        memcpy(out->ip, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
    else if (sa->sa_family == AF_INET6)
        memcpy(out->ip, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
    else
        return false;
    return true;
}

static void name_add(const struct sockaddr *sa, const char *text)
{
    struct name n;
    unsigned i;

    if (!ip_of(sa, &n) || strlen(text) > NAME_MAX_LEN)
        return;
    strcpy(n.text, text);
    pthread_mutex_lock(&mutex);
    for (i = 0; i < names_used; i++) /* the latest name of an address */
        if (names[i].family == n.family && memcmp(names[i].ip, n.ip, sizeof(n.ip)) == 0)
            break;
    if (i == names_used) {
        i = names_next++ % NAMES_MAX;
        names_used += names_used < NAMES_MAX;
    }
    names[i] = n;
    pthread_mutex_unlock(&mutex);
}

static bool name_get(const struct sockaddr *sa, char text[NAME_MAX_LEN + 1])
{
    struct name n;
    unsigned i;
    bool found = false;

    if (!ip_of(sa, &n))
        return false;
    pthread_mutex_lock(&mutex);
    for (i = 0; i < names_used && !found; i++) {
        found = names[i].family == n.family && memcmp(names[i].ip, n.ip, sizeof(n.ip)) == 0;
        if (found)
            memcpy(text, names[i].text, sizeof(names[i].text));
    }
    pthread_mutex_unlock(&mutex);
    return found;
}

PRELOAD_PUBLIC int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                               struct addrinfo **res)
{
    int rc = REAL(getaddrinfo)(node, service, hints, res), saved = errno;
    struct addrinfo *a;

    if (rc == 0 && node != NULL && preload_settings.client &&
        !preload_is_library(__builtin_return_address(0)))
        for (a = *res; a != NULL; a = a->ai_next)
            if (a->ai_addr != NULL)
                name_add(a->ai_addr, node);
    errno = saved;
    return rc;
}

uint64_t preload_identity(int fd)
{
    struct stat st;
    int saved = errno;
    uint64_t id = fstat(fd, &st) == 0 ? (uint64_t)st.st_ino << 8 | 1 : 1;

    errno = saved;
    return id;
}

bool preload_is_stream(int fd)
{
    int type = 0, saved = errno;
    socklen_t len = sizeof(type);
    bool stream = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;

    errno = saved;
    return stream;
}

static void before_connect(int fd, const struct sockaddr *to, socklen_t len)
{
    char name[NAME_MAX_LEN + 1];
    int saved = errno;

    if (preload_is_stream(fd) && preload_library_ready(true))
        preload_library_connect(fd, to, len, name_get(to, name) ? name : NULL);
    errno = saved;
}

PRELOAD_PUBLIC int connect(int fd, const struct sockaddr *to, socklen_t len)
{
    if (preload_settings.client && to != NULL && len >= sizeof(struct sockaddr_in) &&
        (to->sa_family == AF_INET || to->sa_family == AF_INET6) &&
        !preload_is_library(__builtin_return_address(0)))
        before_connect(fd, to, len);
    return REAL(connect)(fd, to, len);
}

/* ---- the end of a descriptor ----
 * close() is async-signal-safe, and it is what a vfork child does most: no lock, and nothing at all
 * in a process that only borrows this memory. */

static inline bool matters(void)
{
    return (__atomic_load_n(&preload_copies, __ATOMIC_RELAXED) != 0 ||
            __atomic_load_n(&preload_holds, __ATOMIC_RELAXED) != 0) &&
           getpid() == own_pid;
}

static void gone(int fd, const void *code)
{
    if (__atomic_load_n(&preload_copies, __ATOMIC_RELAXED) != 0 && !preload_is_library(code))
        preload_library_closed(fd);
    if (__atomic_load_n(&preload_holds, __ATOMIC_RELAXED) != 0)
        preload_hold_close(fd);
}

PRELOAD_PUBLIC int close(int fd)
{
    if (matters())
        gone(fd, __builtin_return_address(0));
    return REAL(close)(fd);
}

static void gone_between(unsigned from, unsigned to, const void *code)
{
    unsigned fd;

    if (!matters())
        return;
    for (fd = from; fd <= to && fd < 65536; fd++)
        gone((int)fd, code);
}

PRELOAD_PUBLIC int close_range(unsigned from, unsigned to, int flags)
{
    if ((flags & (int)CLOSE_RANGE_CLOEXEC) == 0)
        gone_between(from, to, __builtin_return_address(0));
    return REAL(close_range)(from, to, flags);
}

PRELOAD_PUBLIC void closefrom(int from)
{
    gone_between(from > 0 ? (unsigned)from : 0, UINT_MAX, __builtin_return_address(0));
    REAL(closefrom)(from);
}

/* to is only closed where from is open. */
static void replaced(int from, int to, const void *code)
{
    int saved = errno;

    if (from != to && matters() && fcntl(from, F_GETFD) >= 0)
        gone(to, code);
    errno = saved;
}

/* What is printed into standard output and error is not seen; where a socket becomes one of them
 * while plaintext may not leave on it, it does not. */
static bool may_stand(int from, int to)
{
    if (to < 0 || to > STDERR_FILENO || from == to || !preload_guard_is_on(from, NULL))
        return true;
    (void)preload_guard_refuse(from);
    return false;
}

PRELOAD_PUBLIC int dup2(int from, int to)
{
    if (!may_stand(from, to))
        return -1;
    replaced(from, to, __builtin_return_address(0));
    return REAL(dup2)(from, to);
}

PRELOAD_PUBLIC int dup3(int from, int to, int flags)
{
    if (!may_stand(from, to))
        return -1;
    replaced(from, to, __builtin_return_address(0));
    return REAL(dup3)(from, to, flags);
}
