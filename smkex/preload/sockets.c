/* Concept: the library that smkexize preloads into an unmodified program. It touches nothing but
 * where TCP connections lead: connect() to a server that smkexize was told of goes to its helper on
 * this machine, bind() of a port that it was told of moves to loopback, behind its helper; the
 * addresses of both sides are shown to the program as if nothing were between. All else (reading,
 * writing, polling, dup, fork, half-close) is the kernel's, on real sockets. Other TCP connections
 * that leave the machine are refused, unless smkexize was told to let them pass in clear. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "outcome.h"
#include "rules.h"

#define EXPORT __attribute__((visibility("default")))

static struct smkexize_rules rules;
static struct smkexize_shared *shared;
static bool writable; /* shared is: a program may have changed its user */
static int (*real_connect)(int, const struct sockaddr *, socklen_t);
static int (*real_bind)(int, const struct sockaddr *, socklen_t);
static int (*real_accept)(int, struct sockaddr *, socklen_t *);
static int (*real_accept4)(int, struct sockaddr *, socklen_t *, int);
static int (*real_getpeername)(int, struct sockaddr *, socklen_t *);
static int (*real_getsockname)(int, struct sockaddr *, socklen_t *);
static int (*real_getsockopt)(int, int, int, void *, socklen_t *);

static void say(const char *text)
{
    ssize_t n = syscall(SYS_write, 2, text, strlen(text));

    (void)n;
}

static void map_shared(void)
{
    const char *file = getenv(SMKEXIZE_PEERS_ENV);
    int fd = file != NULL ? open(file, O_RDWR | O_CLOEXEC) : -1;
    void *at;

    writable = fd >= 0;
    if (fd < 0 && file != NULL)
        fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    at = mmap(NULL, sizeof(*shared), writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd,
              0);
    close(fd);
    if (at != MAP_FAILED)
        shared = at;
}

/* Before main(), and before any socket of the program's: fails closed. */
__attribute__((constructor)) static void start(void)
{
    const char *text = getenv(SMKEXIZE_RULES_ENV);

    *(void **)&real_connect = dlsym(RTLD_NEXT, "connect");
    *(void **)&real_bind = dlsym(RTLD_NEXT, "bind");
    *(void **)&real_accept = dlsym(RTLD_NEXT, "accept");
    *(void **)&real_accept4 = dlsym(RTLD_NEXT, "accept4");
    *(void **)&real_getsockopt = dlsym(RTLD_NEXT, "getsockopt");
    *(void **)&real_getpeername = dlsym(RTLD_NEXT, "getpeername");
    *(void **)&real_getsockname = dlsym(RTLD_NEXT, "getsockname");
    if (real_connect == NULL || real_bind == NULL || real_accept == NULL || real_accept4 == NULL ||
        real_getpeername == NULL || real_getsockname == NULL || real_getsockopt == NULL ||
        text == NULL || smkexize_rules_parse(&rules, text) != 0) {
        say("smkexize: rules are missing or damaged: not run\n");
        _exit(1);
    }
    map_shared();
}

/* ---- Addresses ---- */

static bool is_tcp(int fd)
{
    int type = 0;
    socklen_t len = sizeof(type);

    return real_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

/* IPv4 in IPv6's clothes is IPv4. */
static bool read_addr(const struct sockaddr *sa, socklen_t len, struct smkexize_peer *out)
{
    memset(out, 0, sizeof(*out));
    if (sa != NULL && sa->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;

        out->port = in->sin_port;
        memcpy(out->addr, &in->sin_addr, 4);
        out->family = AF_INET;
    } else if (sa != NULL && sa->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)(const void *)sa;
        bool mapped = IN6_IS_ADDR_V4MAPPED(&in->sin6_addr);

        out->port = in->sin6_port;
        memcpy(out->addr, in->sin6_addr.s6_addr + (mapped ? 12 : 0), mapped ? 4 : 16);
        out->family = mapped ? AF_INET : AF_INET6;
    }
    return out->family != 0;
}

/* Returns the length; family: the socket's, which may have to show IPv4 as IPv6. */
static socklen_t write_addr(struct sockaddr_storage *ss, int family, const struct smkexize_peer *p)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = p->port};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = p->port};

    memset(ss, 0, sizeof(*ss));
    if (family == AF_INET) {
        memcpy(&in.sin_addr, p->addr, 4);
        memcpy(ss, &in, sizeof(in));
        return sizeof(in);
    }
    if (p->family == AF_INET) {
        in6.sin6_addr.s6_addr[10] = in6.sin6_addr.s6_addr[11] = 0xff;
        memcpy(in6.sin6_addr.s6_addr + 12, p->addr, 4);
    } else {
        memcpy(in6.sin6_addr.s6_addr, p->addr, 16);
    }
    memcpy(ss, &in6, sizeof(in6));
    return sizeof(in6);
}

static struct smkexize_peer loop_of(const struct smkexize_rule *r)
{
    struct smkexize_peer p = {.family = AF_INET, .port = r->addr.port};

    memcpy(p.addr, &r->loop, 4);
    return p;
}

static bool same(const struct smkexize_peer *a, const struct smkexize_peer *b)
{
    return a->family == b->family && a->port == b->port &&
           memcmp(a->addr, b->addr, sizeof(a->addr)) == 0;
}

static bool stays_here(const struct smkexize_peer *p)
{
    static const uint8_t one[16] = {[15] = 1}, none[16];

    if (p->family == AF_INET)
        return p->addr[0] == 127 || memcmp(p->addr, none, 4) == 0;
    return memcmp(p->addr, one, 16) == 0 || memcmp(p->addr, none, 16) == 0;
}

/* ---- Connecting ---- */

static const struct smkexize_rule *rule_for(bool in, const struct smkexize_peer *p)
{
    for (unsigned i = 0; i < rules.count; i++)
        if (rules.rule[i].in == in &&
            (in ? rules.rule[i].addr.port == p->port : same(&rules.rule[i].addr, p)))
            return &rules.rule[i];
    return NULL;
}

static void both_families(int fd, int family)
{
    int off = 0;

    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
}

static bool own_end(int fd, struct smkexize_peer *p)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);

    return real_getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
           read_addr((struct sockaddr *)&ss, len, p);
}

/* Where the helper will write what became of this connection: by the socket's port, which it gets
 * now if it has none yet. NULL: it cannot. */
static uint32_t *outcome_cell(int fd, int family)
{
    struct smkexize_peer own, here = {.family = AF_INET, .addr = {127, 0, 0, 1}};
    struct sockaddr_storage ss;

    if (shared == NULL || !writable)
        return NULL;
    /* Fails where it has one. (After a disconnection getsockname() shows one that it has no more.)
     */
    (void)real_bind(fd, (struct sockaddr *)&ss, write_addr(&ss, family, &here));
    if (!own_end(fd, &own))
        return NULL;
    return own.port != 0 ? &shared->outcome[ntohs(own.port)] : NULL;
}

/* The program may use the socket again, as after any connect() that failed. */
static void disconnect(int fd)
{
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    int saved = errno;

    (void)real_connect(fd, &none, sizeof(none));
    errno = saved;
}

/* A blocking connect() waits for the protected connection; one that does not block learns of a
 * failure by SO_ERROR, or by the end of the connection. */
static int connect_by_helper(int fd, int family, const struct smkexize_rule *r)
{
    struct smkexize_peer loop = loop_of(r);
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    uint32_t *cell;
    int rc;

    both_families(fd, family);
    /* One that is connected is asked a second time: the kernel says so. */
    cell =
        real_getpeername(fd, (struct sockaddr *)&ss, &len) != 0 ? outcome_cell(fd, family) : NULL;
    if (cell != NULL)
        smkexize_outcome_reset(cell);
    rc = real_connect(fd, (struct sockaddr *)&ss, write_addr(&ss, family, &loop));
    if (rc != 0 || cell == NULL || (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0)
        return rc;
    rc = smkexize_outcome_wait(cell, fd);
    if (rc != 0 && errno != EINTR)
        disconnect(fd);
    return rc;
}

EXPORT int connect(int fd, const struct sockaddr *sa, socklen_t len)
{
    struct smkexize_peer to;
    const struct smkexize_rule *r;

    if (!read_addr(sa, len, &to) || !is_tcp(fd))
        return real_connect(fd, sa, len);
    r = rule_for(false, &to);
    if (r == NULL && (rules.plain || stays_here(&to)))
        return real_connect(fd, sa, len);
    if (r == NULL) {
        say("smkexize: a connection to another server was refused: it would not be protected\n");
        errno = EACCES;
        return -1;
    }
    return connect_by_helper(fd, sa->sa_family, r);
}

EXPORT int bind(int fd, const struct sockaddr *sa, socklen_t len)
{
    struct sockaddr_storage ss;
    struct smkexize_peer at, loop;
    const struct smkexize_rule *r;

    if (!read_addr(sa, len, &at) || !is_tcp(fd) || (r = rule_for(true, &at)) == NULL)
        return real_bind(fd, sa, len);
    loop = loop_of(r);
    if (sa->sa_family == AF_INET6 && at.family == AF_INET6) { /* beside the IPv4 one: to itself */
        memset(&loop, 0, sizeof(loop));
        loop.family = AF_INET6;
        loop.port = at.port;
        loop.addr[15] = 1;
    }
    return real_bind(fd, (struct sockaddr *)&ss, write_addr(&ss, sa->sa_family, &loop));
}

/* ---- Whom the program sees ---- */

static void show(const struct smkexize_peer *p, int family, struct sockaddr *sa, socklen_t *len,
                 socklen_t cap)
{
    struct sockaddr_storage ss;
    socklen_t n = write_addr(&ss, family, p);

    memcpy(sa, &ss, n < cap ? n : cap);
    *len = n;
}

/* The rule whose loopback address this end of the socket has. */
static const struct smkexize_rule *behind(bool in, const struct smkexize_peer *p)
{
    for (unsigned i = 0; i < rules.count; i++) {
        struct smkexize_peer loop = loop_of(&rules.rule[i]);

        if (rules.rule[i].in == in && same(&loop, p))
            return &rules.rule[i];
    }
    return NULL;
}

/* sa, of *len bytes, of which cap were the program's: the helper's address becomes the peer's. */
static void reveal_peer(int fd, struct sockaddr *sa, socklen_t *len, socklen_t cap)
{
    struct smkexize_peer p, own;
    const struct smkexize_rule *r;

    if (sa == NULL || len == NULL || *len > cap || !read_addr(sa, *len, &p))
        return;
    r = behind(false, &p);
    if (r != NULL) {
        show(&r->addr, sa->sa_family, sa, len, cap);
        return;
    }
    if (shared == NULL || !own_end(fd, &own) || behind(true, &own) == NULL)
        return;
    own = shared->peer[ntohs(p.port)];
    if (own.family != 0 && (own.family == AF_INET || sa->sa_family == AF_INET6))
        show(&own, sa->sa_family, sa, len, cap);
}

EXPORT int getpeername(int fd, struct sockaddr *sa, socklen_t *len)
{
    socklen_t cap = len != NULL ? *len : 0;
    int rc = real_getpeername(fd, sa, len);

    if (rc == 0)
        reveal_peer(fd, sa, len, cap);
    return rc;
}

EXPORT int getsockname(int fd, struct sockaddr *sa, socklen_t *len)
{
    socklen_t cap = len != NULL ? *len : 0;
    int rc = real_getsockname(fd, sa, len);
    const struct smkexize_rule *r;
    struct smkexize_peer p;

    if (rc == 0 && sa != NULL && *len <= cap && read_addr(sa, *len, &p) &&
        (r = behind(true, &p)) != NULL && (r->addr.family == AF_INET || sa->sa_family == AF_INET6))
        show(&r->addr, sa->sa_family, sa, len, cap);
    return rc;
}

EXPORT int accept(int fd, struct sockaddr *sa, socklen_t *len)
{
    socklen_t cap = sa != NULL && len != NULL ? *len : 0;
    int conn = real_accept(fd, sa, len);

    if (conn >= 0)
        reveal_peer(conn, sa, len, cap);
    return conn;
}

EXPORT int accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
    socklen_t cap = sa != NULL && len != NULL ? *len : 0;
    int conn = real_accept4(fd, sa, len, flags);

    if (conn >= 0)
        reveal_peer(conn, sa, len, cap);
    return conn;
}

/* A connection to a helper, or what is left of one: then its own end is all that can be asked. */
static bool went_to_helper(int fd, const struct smkexize_peer *own)
{
    struct smkexize_peer peer;
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);

    if (real_getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
        return read_addr((struct sockaddr *)&ss, len, &peer) && behind(false, &peer) != NULL;
    return own->family == AF_INET && own->addr[0] == 127 && is_tcp(fd);
}

/* SO_ERROR after a connect() that did not block. */
EXPORT int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    int rc = real_getsockopt(fd, level, name, value, len), error;
    struct smkexize_peer own;
    uint32_t *cell;

    if (rc != 0 || level != SOL_SOCKET || name != SO_ERROR || *len < (socklen_t)sizeof(error) ||
        shared == NULL || !writable || !own_end(fd, &own) || own.port == 0 ||
        !went_to_helper(fd, &own))
        return rc;
    cell = &shared->outcome[ntohs(own.port)];
    memcpy(&error, value, sizeof(error));
    if ((error == 0 || error == ECONNRESET) && smkexize_outcome_error(cell) != 0) {
        error = smkexize_outcome_error(cell);
        smkexize_outcome_reset(cell); /* told once, as the kernel tells it */
        memcpy(value, &error, sizeof(error));
    }
    return rc;
}
