/* Concept: one look-up over path 2 (see resolve.h): a c-ares channel of its own for each, whose
 * sockets are bound as path 2's are, driven by the reactor. The result is always handed over from
 * the timer, so that no call-back of c-ares is ever on the stack when the caller's function runs
 * and frees the look-up. */
#define CARES_NO_DEPRECATED
#include "resolve.h"

#include <ares.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "path2_socket.h"
#include "route.h"

#define LINKS_DIR "/run/systemd/netif/links"

enum {
    LOOKUPS_MAX = 256,
    SOCKETS_MAX = 16,
    TRIES = 3,
    TRY_MIN_MS = 100, /* the first try; c-ares doubles it for the next ones */
    TRY_MAX_MS = 1000,
    FAMILY_GRACE_US =
        50 * 1000, /* how long the second family is waited for (RFC 8305, section 3) */
    DNS_PORT = 53,
    DNS_CLASS_IN = 1,
    DNS_TYPE_A = 1,
    DNS_TYPE_AAAA = 28,
    STATE_FILE_MAX = 8192,
};

struct lookup_socket {
    int fd;
    struct mtls_watch *watch;
    struct mtls_resolve *q;
};

struct answers {
    struct mtls_addr addrs[MTLS_RESOLVE_MAX];
    size_t n;
};

struct mtls_resolve {
    struct mtls_reactor *reactor;
    struct mtls_path_spec spec;
    struct mtls_addr resolver;
    int ifindex; /* of the device that spec binds to, 0 = none */
    bool loopback;
    pid_t owner;
    ares_channel channel;
    struct mtls_timer *timer;
    struct lookup_socket sockets[SOCKETS_MAX];
    struct answers v4, v6;
    unsigned pending; /* queries under way */
    int error;        /* ours: a socket could not be bound or watched */
    bool closing;
    mtls_tstamp grace_at, deadline_at;
    mtls_resolve_fn *fn;
    void *arg;
};

/* ---- The bound on look-ups under way (engine lock) ---- */

static unsigned lookups;
static pid_t lookups_owner; /* a fork child starts from zero */

static bool lookup_begin(struct mtls_resolve *q)
{
    pid_t self = getpid();

    if (lookups_owner != self) {
        lookups_owner = self;
        lookups = 0;
    }
    if (lookups >= LOOKUPS_MAX)
        return false;
    lookups++;
    q->owner = self;
    return true;
}

static void lookup_end(struct mtls_resolve *q)
{
    if (q->owner != 0 && q->owner == lookups_owner && q->owner == getpid())
        lookups--;
    q->owner = 0;
}

/* ---- Which resolver is path 2's own ---- */

static bool is_loopback(const struct mtls_addr *a)
{
    static const struct mtls_addr one = {.family = 6, .ip = {[15] = 1}};

    if (a->family == 4)
        return a->ip[0] == 127;
    return memcmp(a->ip, one.ip, sizeof(one.ip)) == 0;
}

/* Loopback aside, an address that one host can have. */
static bool is_host(const struct mtls_addr *a)
{
    static const uint8_t zero[16];

    if (memcmp(a->ip, zero, sizeof(zero)) == 0)
        return false;
    return a->family == 4 ? a->ip[0] != 0 && a->ip[0] < 224 : a->ip[0] != 0xff;
}

/* "ADDR", "ADDR:PORT" or "[ADDR]:PORT", with "%ZONE" and "#NAME", as systemd writes them. */
static bool server_parse(char *word, struct mtls_addr *out)
{
    struct mtls_host h;
    char *zone;
    size_t len;

    word[strcspn(word, "#")] = '\0';
    zone = strchr(word, '%');
    if (zone != NULL) {
        len = strcspn(zone, "]");
        memmove(zone, zone + len, strlen(zone + len) + 1);
    }
    if (mtls_host_parse(&h, word) != 0 || h.addr.family == 0)
        return false;
    *out = h.addr;
    if (out->port == 0)
        out->port = DNS_PORT;
    return is_host(out) && !is_loopback(out);
}

static bool dns_line(char *line, struct mtls_addr *out)
{
    char *save = NULL;

    if (strncmp(line, "DNS=", 4) != 0)
        return false;
    for (char *word = strtok_r(line + 4, " \t", &save); word != NULL;
         word = strtok_r(NULL, " \t", &save))
        if (server_parse(word, out))
            return true;
    return false;
}

int mtls_link_resolver(const char *dir, int ifindex, struct mtls_addr *out)
{
    char path[256], text[STATE_FILE_MAX + 1], *save = NULL;
    size_t len = 0;
    ssize_t n = 1;
    int fd;

    if ((size_t)snprintf(path, sizeof(path), "%s/%d", dir, ifindex) >= sizeof(path))
        return MTLS_ERR_PATH_RESOLVE;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return MTLS_ERR_PATH_RESOLVE;
    while (n > 0 && len < STATE_FILE_MAX) {
        n = read(fd, text + len, STATE_FILE_MAX - len);
        len += n > 0 ? (size_t)n : 0;
    }
    (void)close(fd);
    text[len] = '\0';
    if (len == STATE_FILE_MAX || strlen(text) != len)
        return MTLS_ERR_PATH_RESOLVE; /* not the file we know */
    for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save))
        if (dns_line(line, out))
            return 0;
    return MTLS_ERR_PATH_RESOLVE;
}

/* The device that spec's sockets will be bound to. */
static int own_device(struct mtls_resolve *q)
{
    char dev[MTLS_IF_MAX + 1];
    struct mtls_device d;

    if (q->spec.dev[0] == '\0' && q->spec.local.family == 0)
        return 0;
    if (q->spec.dev[0] == '\0') {
        int err = mtls_device_of_address(&q->spec.local, dev, &q->ifindex);

        if (err != 0)
            return err;
    } else {
        q->ifindex = (int)if_nametoindex(q->spec.dev);
    }
    if (mtls_device_get(q->ifindex, &d) != 0)
        return MTLS_ERR_PATH_BIND;
    q->loopback = d.loopback;
    return 0;
}

/* [PATH-1] [PATH-3] Configured, or path 2's own link's; never a forwarder on this machine, which
 * asks whom it likes over path 1. */
static int own_resolver(struct mtls_resolve *q)
{
    struct mtls_path_facts facts = {0};

    if (q->spec.resolver.family != 0)
        q->resolver = q->spec.resolver;
    else if (q->ifindex == 0 || mtls_link_resolver(LINKS_DIR, q->ifindex, &q->resolver) != 0)
        return MTLS_ERR_PATH_RESOLVE;
    if (q->resolver.port == 0)
        q->resolver.port = DNS_PORT;
    if (!is_host(&q->resolver) || (is_loopback(&q->resolver) && !q->loopback))
        return MTLS_ERR_PATH_RESOLVE;
    if (q->ifindex == 0 && (mtls_route_to(&q->resolver, &facts) != 0 || facts.loopback))
        return MTLS_ERR_PATH_RESOLVE;
    return 0;
}

/* ---- The result ---- */

static bool routed(const struct mtls_resolve *q, const struct answers *a)
{
    struct mtls_path_facts facts = {0};

    if (a->n == 0 || q->loopback)
        return a->n > 0;
    if (q->ifindex == 0)
        return mtls_route_to(&a->addrs[0], &facts) == 0;
    return mtls_route_via(&a->addrs[0], q->ifindex,
                          q->spec.local.family != 0 ? &q->spec.local : NULL, &facts) == 0;
}

/* Both families in turn, IPv6 first; a family without a route comes behind the other as a whole. */
static size_t merge(const struct mtls_resolve *q, struct mtls_addr out[MTLS_RESOLVE_MAX])
{
    bool ok4 = routed(q, &q->v4), ok6 = routed(q, &q->v6), turns = ok4 == ok6;
    const struct answers *first = ok4 && !ok6 ? &q->v4 : &q->v6,
                         *second = first == &q->v6 ? &q->v4 : &q->v6;
    size_t n = 0;

    for (size_t i = 0; turns && i < MTLS_RESOLVE_MAX && n < MTLS_RESOLVE_MAX; i++) {
        if (i < first->n)
            out[n++] = first->addrs[i];
        if (i < second->n && n < MTLS_RESOLVE_MAX)
            out[n++] = second->addrs[i];
    }
    for (size_t i = 0; !turns && i < first->n; i++)
        out[n++] = first->addrs[i];
    for (size_t i = 0; !turns && i < second->n && n < MTLS_RESOLVE_MAX; i++)
        out[n++] = second->addrs[i];
    return n;
}

/* Ends every query and socket; the timer stays. */
static void channel_close(struct mtls_resolve *q)
{
    q->closing = true;
    if (q->channel != NULL)
        ares_destroy(q->channel);
    q->channel = NULL;
    for (size_t i = 0; i < SOCKETS_MAX; i++) {
        mtls_watch_free(q->sockets[i].watch);
        q->sockets[i].watch = NULL;
    }
}

static void deliver(struct mtls_resolve *q, mtls_tstamp now)
{
    struct mtls_addr addrs[MTLS_RESOLVE_MAX], resolver = q->resolver;
    size_t n = merge(q, addrs);
    int error = n > 0 ? 0 : q->error != 0 ? q->error : MTLS_ERR_PATH_RESOLVE;

    channel_close(q);
    lookup_end(q);
    mtls_timer_set(q->timer, MTLS_TSTAMP_NEVER);
    q->fn(q->arg, error, addrs, n, &resolver, now); /* may free q */
}

/* ---- Driving c-ares ---- */

static bool settled(const struct mtls_resolve *q, mtls_tstamp now)
{
    return q->pending == 0 || q->error != 0 || now >= q->deadline_at || now >= q->grace_at;
}

/* Sets the timer for what comes next. */
static void arm(struct mtls_resolve *q, mtls_tstamp now)
{
    mtls_tstamp at = q->deadline_at < q->grace_at ? q->deadline_at : q->grace_at, again;
    struct timeval tv;

    if (settled(q, now)) {
        at = now;
    } else if (ares_timeout(q->channel, NULL, &tv) != NULL) {
        again = now + (mtls_tstamp)tv.tv_sec * 1000000u + (mtls_tstamp)tv.tv_usec;
        at = again < at ? again : at;
    }
    mtls_timer_set(q->timer, at);
}

static void tick(void *arg, mtls_tstamp now)
{
    struct mtls_resolve *q = arg;

    if (!settled(q, now))
        ares_process_fd(q->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    if (settled(q, now))
        deliver(q, now);
    else
        arm(q, now);
}

static void socket_event(void *arg, uint32_t events, mtls_tstamp now)
{
    struct lookup_socket *s = arg;
    struct mtls_resolve *q = s->q;
    ares_socket_t in = events & (EPOLLIN | EPOLLERR | EPOLLHUP) ? s->fd : ARES_SOCKET_BAD;
    ares_socket_t out = events & (EPOLLOUT | EPOLLERR | EPOLLHUP) ? s->fd : ARES_SOCKET_BAD;

    ares_process_fd(q->channel, in, out); /* s may be another socket's from here on */
    arm(q, now);
}

static struct lookup_socket *socket_slot(struct mtls_resolve *q, int fd)
{
    struct lookup_socket *free_slot = NULL;

    for (size_t i = 0; i < SOCKETS_MAX; i++) {
        if (q->sockets[i].watch != NULL && q->sockets[i].fd == fd)
            return &q->sockets[i];
        if (q->sockets[i].watch == NULL && free_slot == NULL)
            free_slot = &q->sockets[i];
    }
    return free_slot;
}

/* c-ares tells which of its sockets it waits for, and, with neither, that one is about to be
 * closed. */
static void socket_state(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct mtls_resolve *q = arg;
    struct lookup_socket *s = socket_slot(q, fd);
    uint32_t events = (readable ? (uint32_t)EPOLLIN : 0) | (writable ? (uint32_t)EPOLLOUT : 0);
    int err = 0;

    if (s == NULL) {
        err = events != 0 ? MTLS_ERR_LIMIT : 0;
    } else if (events == 0) {
        mtls_watch_free(s->watch);
        s->watch = NULL;
    } else if (s->watch != NULL) {
        err = mtls_watch_set(s->watch, events);
    } else {
        s->fd = fd;
        s->q = q;
        err = mtls_watch_new(&s->watch, q->reactor, fd, events, socket_event, s);
    }
    if (err != 0 && q->error == 0)
        q->error = err;
}

/* [PATH-6] c-ares binds to a device if it can and goes on if it cannot; path 2 does not go on. */
static int socket_bind(ares_socket_t fd, int type, void *arg)
{
    struct mtls_resolve *q = arg;
    int err = mtls_path2_bind(fd, &q->spec);

    if (err != 0 && q->error == 0)
        q->error = err;
    return err != 0 ? -1 : 0;
}

/* ---- Answers ---- */

static void answers_add(struct mtls_resolve *q, struct answers *a, uint8_t family, const void *ip)
{
    struct mtls_addr addr = {.family = family};

    memcpy(addr.ip, ip, family == 4 ? 4 : 16);
    if (a->n == MTLS_RESOLVE_MAX || !is_host(&addr) || (is_loopback(&addr) && !q->loopback))
        return;
    for (size_t i = 0; i < a->n; i++)
        if (memcmp(a->addrs[i].ip, addr.ip, sizeof(addr.ip)) == 0)
            return;
    a->addrs[a->n++] = addr;
}

/* One query's end. true: there is an answer to parse. */
static bool query_ended(struct mtls_resolve *q, int status)
{
    q->pending--;
    if (status == ARES_ENOMEM && q->error == 0)
        q->error = MTLS_ERR_NOMEM;
    return !q->closing && status == ARES_SUCCESS;
}

static void answer_came(struct mtls_resolve *q)
{
    if (q->v4.n + q->v6.n > 0 && q->grace_at == MTLS_TSTAMP_NEVER)
        q->grace_at = mtls_now() + FAMILY_GRACE_US;
}

static void answered_a(void *arg, int status, int timeouts, unsigned char *buf, int len)
{
    struct mtls_resolve *q = arg;
    struct ares_addrttl list[MTLS_RESOLVE_MAX];
    int n = MTLS_RESOLVE_MAX;

    if (!query_ended(q, status) || ares_parse_a_reply(buf, len, NULL, list, &n) != ARES_SUCCESS)
        return;
    for (int i = 0; i < n; i++)
        answers_add(q, &q->v4, 4, &list[i].ipaddr);
    answer_came(q);
}

static void answered_aaaa(void *arg, int status, int timeouts, unsigned char *buf, int len)
{
    struct mtls_resolve *q = arg;
    struct ares_addr6ttl list[MTLS_RESOLVE_MAX];
    int n = MTLS_RESOLVE_MAX;

    if (!query_ended(q, status) || ares_parse_aaaa_reply(buf, len, NULL, list, &n) != ARES_SUCCESS)
        return;
    for (int i = 0; i < n; i++)
        answers_add(q, &q->v6, 6, &list[i].ip6addr);
    answer_came(q);
}

/* ---- Beginning and end ---- */

static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static int library_status;

static void library_init(void)
{
    library_status = ares_library_init(ARES_LIB_INIT_ALL);
}

static int ares_error(int status)
{
    if (status == ARES_SUCCESS)
        return 0;
    return status == ARES_ENOMEM ? MTLS_ERR_NOMEM : MTLS_ERR_IO;
}

/* Everything that a file or the environment could say is said here. */
static int channel_open(struct mtls_resolve *q, uint32_t timeout_ms)
{
    struct ares_addr_port_node server = {.family = q->resolver.family == 6 ? AF_INET6 : AF_INET,
                                         .udp_port = q->resolver.port,
                                         .tcp_port = q->resolver.port};
    struct ares_options o = {.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
                             .tries = TRIES,
                             .lookups = (char[]){"b"},
                             .resolvconf_path = (char[]){"/dev/null"},
                             .sock_state_cb = socket_state,
                             .sock_state_cb_data = q};
    const int mask = ARES_OPT_FLAGS | ARES_OPT_TRIES | ARES_OPT_TIMEOUTMS | ARES_OPT_LOOKUPS |
                     ARES_OPT_DOMAINS | ARES_OPT_RESOLVCONF | ARES_OPT_SOCK_STATE_CB |
                     ARES_OPT_NOROTATE;
    int err;

    o.timeout = (int)(timeout_ms / ((1u << TRIES) - 1));
    o.timeout = o.timeout < TRY_MIN_MS   ? TRY_MIN_MS
                : o.timeout > TRY_MAX_MS ? TRY_MAX_MS
                                         : o.timeout;
    memcpy(&server.addr, q->resolver.ip, q->resolver.family == 6 ? 16 : 4);
    err = ares_error(ares_init_options(&q->channel, &o, mask));
    if (err != 0) {
        q->channel = NULL;
        return err;
    }
    ares_set_socket_configure_callback(q->channel, socket_bind, q);
    return ares_error(ares_set_servers_ports(q->channel, &server));
}

static void send_queries(struct mtls_resolve *q, const char *name)
{
    char absolute[MTLS_HOST_MAX + 2];
    uint8_t only = q->spec.local.family;

    (void)snprintf(absolute, sizeof(absolute), "%s.", name);
    q->pending = only == 0 ? 2 : 1;
    if (only != 4)
        ares_query(q->channel, absolute, DNS_CLASS_IN, DNS_TYPE_AAAA, answered_aaaa, q);
    if (only != 6)
        ares_query(q->channel, absolute, DNS_CLASS_IN, DNS_TYPE_A, answered_a, q);
}

static int begin(struct mtls_resolve *q, const char *name, uint32_t timeout_ms)
{
    char canonical[MTLS_HOST_MAX + 1];
    struct mtls_host host;
    mtls_tstamp now = mtls_now();
    int err;

    if (mtls_name_canonical(name, canonical) != 0 || mtls_host_parse(&host, canonical) != 0 ||
        host.addr.family != 0)
        return MTLS_ERR_PATH_RESOLVE;
    if ((err = own_device(q)) != 0 || (err = own_resolver(q)) != 0)
        return err;
    if (!lookup_begin(q))
        return MTLS_ERR_LIMIT;
    err = mtls_timer_new(&q->timer, q->reactor, tick, q);
    if (err == 0)
        err = channel_open(q, timeout_ms);
    if (err != 0)
        return err;
    q->grace_at = MTLS_TSTAMP_NEVER;
    q->deadline_at = now + (mtls_tstamp)timeout_ms * 1000u;
    send_queries(q, canonical);
    if (q->error != 0)
        return q->error;
    arm(q, now);
    return 0;
}

int mtls_resolve_new(struct mtls_resolve **out, struct mtls_reactor *r,
                     const struct mtls_path_spec *spec, const char *name, uint32_t timeout_ms,
                     mtls_resolve_fn *fn, void *arg)
{
    struct mtls_resolve *q;
    int err;

    *out = NULL;
    (void)pthread_once(&library_once, library_init);
    if (library_status != ARES_SUCCESS)
        return ares_error(library_status);
    q = calloc(1, sizeof(*q));
    if (q == NULL)
        return MTLS_ERR_NOMEM;
    q->reactor = r;
    q->spec = *spec;
    q->fn = fn;
    q->arg = arg;
    err = begin(q, name, timeout_ms);
    if (err != 0)
        mtls_resolve_free(q);
    else
        *out = q;
    return err;
}

void mtls_resolve_free(struct mtls_resolve *q)
{
    if (q == NULL)
        return;
    channel_close(q);
    lookup_end(q);
    mtls_timer_free(q->timer);
    free(q);
}

void mtls_resolve_forget(struct mtls_resolve *q)
{
    if (q == NULL)
        return;
    for (size_t i = 0; i < SOCKETS_MAX; i++)
        q->sockets[i].watch = NULL;
    channel_close(q);
    free(q);
}
