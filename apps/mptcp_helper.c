/* mtls-mptcp-helper: makes and steers the second subflow of a Multipath TCP connection for a
 * program that has no CAP_NET_ADMIN and hands the connection's descriptor over. It keeps that one
 * capability, touches no other connection, and knows nothing between two questions. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "complain.h"
#include "mtls/net/mptcp.h"
#include "mtls/net/mptcp_helper.h"
#include "mtls/net/mptcp_pm.h"
#include "options.h"

#define PROG "mtls-mptcp-helper"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

enum { CLIENTS_MAX = 32, CLIENT_MS = 1000, BACKLOG = 32, MODE_DEFAULT = 0660 };

static volatile sig_atomic_t stopping;

/* ---- One question ---- */

struct question {
    struct mtls_mptcp_request request;
    int fd; /* the asker's connection, -1: none */
};

static uint64_t namespace_of(int fd)
{
    uint64_t cookie = 0;
    socklen_t len = sizeof cookie;

    return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

/* What the path manager is asked is of our own network namespace. */
static bool is_here(int fd)
{
    int own = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool here = own >= 0 && namespace_of(own) != 0 && namespace_of(own) == namespace_of(fd);

    if (own >= 0)
        close(own);
    return here;
}

static bool manager_is_ours(void)
{
    int fd = open("/proc/sys/net/mptcp/pm_type", O_RDONLY | O_CLOEXEC);
    char value = 0;
    bool ours = fd >= 0 && read(fd, &value, 1) == 1 && value == '1';

    if (fd >= 0)
        close(fd);
    return ours;
}

struct answer {
    struct mtls_mptcp_reply reply;
    uint16_t family;
    uint32_t token;
    struct mtls_subflows now;
};

static int32_t kernel(struct answer *a, int rc)
{
    a->reply.refusal = -rc;
    return rc == 0 ? 0 : MTLS_ERR_MPTCP_STEER;
}

/* The acknowledgement that carries the first subflow's priority acknowledges its data to MPTCP too,
 * which TCP's own may have left out: the peer would send it again while the second subflow grows.
 */
static int32_t join(struct answer *a, const struct mtls_mptcp_request *r)
{
    int rc;

    if (a->now.n != 1)
        return MTLS_ERR_SUBFLOW_CHANGED;
    if (r->ifindex == 0 || r->ifindex > INT32_MAX || r->remote.port == 0 ||
        (r->local.family != 4 && r->local.family != 6) || r->remote.family != r->local.family)
        return MTLS_ERR_ARG;
    rc = mtls_mptcp_pm_join(a->family, a->token, (int)r->ifindex, &r->local, &r->remote);
    return kernel(a, rc == 0 ? mtls_mptcp_pm_backup(a->family, a->token, a->now.at, false) : rc);
}

/* Never both as backup at a time. */
static int32_t steer(struct answer *a, bool to_second)
{
    const struct mtls_subflow *s = a->now.at;
    int rc;

    if (a->now.n != 2)
        return a->now.n < 2 ? MTLS_ERR_SUBFLOW_MISSING : MTLS_ERR_SUBFLOW_CHANGED;
    rc = mtls_mptcp_pm_backup(a->family, a->token, &s[1], false);
    return kernel(a, rc == 0 ? mtls_mptcp_pm_backup(a->family, a->token, &s[0], to_second) : rc);
}

static int32_t act(struct answer *a, const struct mtls_mptcp_request *r)
{
    switch (r->op) {
    case MTLS_MPTCP_CHECK:
        return 0;
    case MTLS_MPTCP_JOIN:
        return join(a, r);
    case MTLS_MPTCP_STEER:
    case MTLS_MPTCP_RELEASE:
        return steer(a, r->op == MTLS_MPTCP_STEER);
    default:
        return MTLS_ERR_ARG;
    }
}

static int32_t consider(struct answer *a, const struct question *q)
{
    int rc;

    if (q->fd < 0 || q->request.magic != MTLS_MPTCP_MAGIC || !is_here(q->fd))
        return MTLS_ERR_ARG;
    rc = mtls_mptcp_subflows(q->fd, NULL, &a->now);
    if (rc == 0)
        rc = mtls_mptcp_token(q->fd, &a->token);
    if (rc == 0 && !manager_is_ours())
        rc = MTLS_ERR_MPTCP_MANAGER;
    if (rc == 0)
        rc = kernel(a, mtls_mptcp_pm_family(&a->family));
    return rc == 0 ? act(a, &q->request) : rc;
}

/* One datagram of exactly the right size with exactly one descriptor. */
static bool receive(int client, struct question *q)
{
    union {
        char room[CMSG_SPACE(4 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = &q->request, .iov_len = sizeof q->request};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof control.room};
    ssize_t n = recvmsg(client, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    int count = 0;

    q->fd = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); n >= 0 && c != NULL; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
            if (q->fd >= 0)
                close(q->fd);
            memcpy(&q->fd, CMSG_DATA(c) + at, sizeof(int));
            count++;
        }
    }
    return n == (ssize_t)sizeof q->request && count == 1 && (msg.msg_flags & MSG_TRUNC) == 0;
}

static void serve(int client)
{
    struct question q = {.fd = -1};
    struct answer a = {.reply = {.magic = MTLS_MPTCP_MAGIC}};

    if (receive(client, &q)) {
        a.reply.error = consider(&a, &q);
        (void)!send(client, &a.reply, sizeof a.reply, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    if (q.fd >= 0)
        close(q.fd);
}

/* ---- Clients ---- */

struct clients {
    int listener, n;
    struct pollfd at[1 + CLIENTS_MAX];
    int64_t until[1 + CLIENTS_MAX]; /* silent ones are dropped then */
};

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void drop(struct clients *c, int i)
{
    close(c->at[i].fd);
    c->at[i] = c->at[c->n];
    c->until[i] = c->until[c->n--];
}

/* Who asks does so at once: where there is no room, the one that has been silent longest goes. */
static void take(struct clients *c)
{
    int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), oldest = 1;

    if (fd < 0)
        return;
    for (int i = 2; i <= c->n; i++)
        if (c->until[i] < c->until[oldest])
            oldest = i;
    if (c->n == CLIENTS_MAX)
        drop(c, oldest);
    c->n++;
    c->at[c->n] = (struct pollfd){.fd = fd, .events = POLLIN};
    c->until[c->n] = now_ms() + CLIENT_MS;
}

static void loop(struct clients *c)
{
    while (!stopping) {
        c->at[0] = (struct pollfd){.fd = c->listener, .events = POLLIN};
        if (poll(c->at, (nfds_t)c->n + 1, c->n > 0 ? CLIENT_MS / 4 : -1) < 0)
            continue;
        for (int i = c->n; i > 0; i--) {
            if (c->at[i].revents != 0)
                serve(c->at[i].fd);
            if (c->at[i].revents != 0 || now_ms() >= c->until[i])
                drop(c, i);
        }
        if ((c->at[0].revents & POLLIN) != 0)
            take(c);
    }
}

/* ---- Beginning ---- */

/* Only CAP_NET_ADMIN is kept, and nothing can be gained again. */
static int shed_privileges(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {.effective = 1u << CAP_NET_ADMIN, .permitted = 1u << CAP_NET_ADMIN}};

    for (int cap = 0; cap < 64; cap++)
        if (cap != CAP_NET_ADMIN)
            (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    if (syscall(SYS_capset, &head, data) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        complain(PROG, "CAP_NET_ADMIN is missing: %s", strerror(errno));
        return -1;
    }
    return 0;
}

/* What a crashed run left behind is replaced; a helper that answers is not. */
static int listen_on(const char *path, unsigned mode, const char *group)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct group *g = group != NULL ? getgrnam(group) : NULL;

    if (group != NULL && g == NULL) {
        complain(PROG, "--group: no group %s", group);
        return -1;
    }
    if (fd < 0 || strlen(path) >= sizeof sa.sun_path) {
        complain(PROG, "%s: path too long", path);
        return -1;
    }
    memcpy(sa.sun_path, path, strlen(path) + 1);
    if (connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0 && errno == ECONNREFUSED)
        unlink(path);
    umask(0777);
    if (bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 ||
        (g != NULL && chown(path, (uid_t)-1, g->gr_gid) < 0) || chmod(path, mode) < 0 ||
        listen(fd, BACKLOG) < 0) {
        complain(PROG, "%s: %s", path, strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}

static void on_signal(int number)
{
    stopping = 1;
}

struct config {
    const char *path, *group;
    unsigned mode;
};

enum { O_LISTEN = 1, O_GROUP, O_MODE, O_JSON, O_HELP };

/* clang-format off: a table */
static const struct option_def defs[] = {
    {O_LISTEN, 0, "listen", "PATH", "the local socket (default " MTLS_MPTCP_HELPER_SOCKET ")", 0},
    {O_GROUP, 0, "group", "NAME", "the group that may ask", 0},
    {O_MODE, 0, "mode", "OCTAL", "the socket's mode (default 0660)", 0},
    {O_JSON, 0, "json", NULL, "standard error is JSON, one object a line", 0},
    {O_HELP, 'h', "help", NULL, "this text", 0},
    {0, 0, NULL, NULL, NULL, 0},
};
/* clang-format on */

static const char usage[] = "usage: mtls-mptcp-helper [flags]\n"
                            "Makes and steers second subflows of Multipath TCP connections for "
                            "programs that hand them over.\n"
                            "Needs CAP_NET_ADMIN, and net.mptcp.pm_type=1.\n";

static int handle(void *arg, int id, const char *value)
{
    struct config *c = arg;
    char *end;

    if (id == O_LISTEN)
        c->path = value;
    else if (id == O_GROUP)
        c->group = value;
    else if (id == O_MODE) {
        c->mode = (unsigned)strtoul(value, &end, 8);
        if (*value == '\0' || *end != '\0' || c->mode > 0777)
            return usage_error(PROG, "--mode: %s is no mode", value);
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct config config = {.path = MTLS_MPTCP_HELPER_SOCKET, .mode = MODE_DEFAULT};
    struct options o = {.prog = PROG, .defs = defs};
    struct sigaction sa = {.sa_handler = on_signal};
    static struct clients clients;

    complain_mode(argc, argv);
    if (options_parse(&o, argc, argv, handle, &config) < 0)
        return 1;
    if (o.seen[O_HELP]) {
        options_help(&o, stdout, usage);
        return 0;
    }
    if (o.word_count > 0)
        return -usage_error(PROG, "%s is one word too many", o.words[0]);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    clients.listener = listen_on(config.path, config.mode, config.group);
    if (clients.listener < 0 || shed_privileges() < 0)
        return 1;
    fprintf(stderr, "%s: listening on %s\n", PROG, config.path);
    loop(&clients);
    unlink(config.path);
    return 0;
}
