/* Concept: links between the processes of a service (see peers.h). */
#include "peers.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "share.h"

enum {
    BACKLOG = 1024,
    FD_HIGH = 100,
    LINKS_MAX = 2 * MTLS_DIR_PROCS_MAX,
    QUEUE_MAX = 1024, /* messages of a link */
    BATCH = 64,
    DRAIN_MS = 500,
    ACCEPT_PAUSE_US = 100000,
};

struct parcel {
    struct parcel *next;
    int fd;
    size_t len;
    uint8_t data[];
};

struct link {
    struct link *next;
    int fd;
    bool outgoing, dead; /* dead: to be freed when nobody walks */
    bool spoke;          /* incoming: something came; else it may be one that only looks */
    mtls_member peer;
    struct mtls_watch *watch;
    struct parcel *first, **last;
    size_t nparcels;
};

static struct {
    struct mtls_reactor *reactor;
    int fd;
    struct mtls_watch *watch;
    struct link *links;
    size_t nlinks;
    struct mtls_timer *reap;  /* frees the dead */
    struct mtls_timer *again; /* accepts again */
    mtls_peers_message_fn *message;
    mtls_peers_lost_fn *lost;
} peers = {.fd = -1};

static socklen_t name_to_sockaddr(const uint8_t name[MTLS_DIR_NAME_LEN], struct sockaddr_un *sun)
{
    static const char hex[] = "0123456789abcdef", prefix[] = "mtls-";
    char *p = sun->sun_path + 1;
    unsigned i;

    memset(sun, 0, sizeof(*sun));
    sun->sun_family = AF_UNIX;
    memcpy(p, prefix, sizeof(prefix) - 1);
    p += sizeof(prefix) - 1;
    for (i = 0; i < MTLS_DIR_NAME_LEN; i++) {
        *p++ = hex[name[i] >> 4];
        *p++ = hex[name[i] & 15];
    }
    return (socklen_t)(p - (char *)sun);
}

static int high(int fd)
{
    int moved = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FD_HIGH);

    if (moved < 0)
        return fd;
    close(fd);
    return moved;
}

static int socket_new(void)
{
    return high(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

/* ---- Links ---- */

static void parcels_free(struct link *l)
{
    while (l->first != NULL) {
        struct parcel *p = l->first;

        l->first = p->next;
        if (p->fd >= 0)
            close(p->fd);
        free(p);
    }
    l->last = &l->first;
    l->nparcels = 0;
}

static void link_shut(struct link *l)
{
    bool program_closed = mtls_watch_lost(l->watch);

    if (l->dead)
        return;
    l->dead = true;
    parcels_free(l);
    mtls_watch_free(l->watch);
    l->watch = NULL;
    if (!program_closed)
        close(l->fd);
    l->fd = -1;
    if (peers.reap != NULL)
        mtls_timer_set(peers.reap, mtls_now());
}

static void reap(void *arg, mtls_tstamp now)
{
    struct link **at = &peers.links;

    while (*at != NULL) {
        struct link *l = *at;

        if (!l->dead) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        peers.nlinks--;
        free(l);
    }
}

/* Both directions at once: what one process knows of the other is over. */
static void peer_lost(mtls_member peer, mtls_tstamp now)
{
    struct link *l;

    for (l = peers.links; l != NULL; l = l->next) {
        if (l->peer == peer)
            link_shut(l);
    }
    peers.lost(peer, now);
}

static int link_new(struct link **out, int fd, mtls_member peer, bool outgoing, mtls_watch_fn *fn)
{
    struct link *l = peers.nlinks < LINKS_MAX ? calloc(1, sizeof(*l)) : NULL;
    int err = l == NULL ? MTLS_ERR_LIMIT : 0;

    if (err == 0)
        err = mtls_watch_new(&l->watch, peers.reactor, fd, EPOLLIN, fn, l);
    if (err != 0) {
        free(l);
        return err;
    }
    l->fd = fd;
    l->peer = peer;
    l->outgoing = outgoing;
    l->last = &l->first;
    l->next = peers.links;
    peers.links = l;
    peers.nlinks++;
    *out = l;
    return 0;
}

/* ---- Who is there ---- */

static bool trusted(const struct mtls_dir_proc *p, const struct ucred *cred)
{
    return p->pid == (uint32_t)cred->pid && mtls_share_same_pids(p) &&
           (p->uid == cred->uid || cred->uid == geteuid() || cred->uid == 0);
}

static bool cred_of(int fd, struct ucred *cred)
{
    socklen_t len = sizeof(*cred);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, cred, &len) == 0;
}

/* The member that has connected; 0: a stranger, who must cost nobody the directory's lock. */
static mtls_member member_of(int fd)
{
    const struct mtls_dir *d = mtls_share_peek();
    struct mtls_dir_proc p;
    struct ucred cred;
    mtls_member best = 0;
    unsigned i;

    if (d == NULL || !cred_of(fd, &cred))
        return 0;
    for (i = 0; i < MTLS_DIR_PROCS_MAX; i++) {
        if (mtls_dir_proc_at(d, i, &p) && trusted(&p, &cred) && p.self > best)
            best = p.self;
    }
    return best;
}

/* ---- Receiving ---- */

static int fd_of(struct msghdr *msg)
{
    struct cmsghdr *c;
    int fd = -1, got;
    size_t at;

    for (c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (at = CMSG_LEN(0); at + sizeof(got) <= c->cmsg_len; at += sizeof(got)) {
            memcpy(&got, (uint8_t *)c + at, sizeof(got));
            if (fd >= 0)
                close(fd);
            fd = got;
        }
    }
    return fd;
}

/* 1: a message; 0: none now; negative: the link is over. */
static int take(struct link *l, mtls_tstamp now)
{
    static uint8_t buf[MTLS_HANDOVER_MAX]; /* engine lock */
    static struct mtls_handover m;
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {buf, sizeof(buf)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.buf,
                         .msg_controllen = sizeof(control.buf)};
    ssize_t n = recvmsg(l->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    int fd;

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : MTLS_ERR_IO;
    fd = fd_of(&msg);
    if (n == 0 || (msg.msg_flags & MSG_TRUNC) != 0 ||
        mtls_handover_decode(&m, buf, (size_t)n) != 0) {
        if (fd >= 0)
            close(fd);
        return MTLS_ERR_IO;
    }
    l->spoke = true;
    peers.message(l->peer, &m, fd, now);
    return 1;
}

static void incoming_event(void *arg, uint32_t epoll_events, mtls_tstamp now)
{
    struct link *l = arg;
    int i, rc = 1;

    for (i = 0; i < BATCH && rc > 0 && !l->dead; i++)
        rc = take(l, now);
    if (rc < 0 && !l->dead && !l->spoke)
        link_shut(l);
    else if (rc < 0 && !l->dead)
        peer_lost(l->peer, now);
}

/* Out of descriptors: what waits does not go away, and would call again and again. */
static void accept_pause(mtls_tstamp now)
{
    if (peers.again != NULL && mtls_watch_set(peers.watch, 0) == 0)
        mtls_timer_set(peers.again, now + ACCEPT_PAUSE_US);
}

static void accept_again(void *arg, mtls_tstamp now)
{
    if (mtls_watch_set(peers.watch, EPOLLIN) != 0)
        mtls_timer_set(peers.again, now + ACCEPT_PAUSE_US);
}

static void accept_event(void *arg, uint32_t epoll_events, mtls_tstamp now)
{
    int i, fd;

    for (i = 0; i < BATCH; i++) {
        mtls_member from;
        struct link *l;

        fd = high(accept4(peers.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
            accept_pause(now);
        if (fd < 0)
            return;
        from = member_of(fd);
        if (from == 0 || from == mtls_share_self() ||
            link_new(&l, fd, from, false, incoming_event) != 0)
            close(fd);
    }
}

bool mtls_peers_hear(mtls_member peer, mtls_tstamp now)
{
    bool may = false;
    struct link *l;

    if (peers.fd >= 0)
        accept_event(NULL, 0, now);
    for (l = peers.links; l != NULL; l = l->next) {
        if (l->peer == peer && !l->outgoing && !l->dead)
            l->spoke = may = true; /* with this one's end it is lost */
    }
    return may;
}

bool mtls_peers_linked(mtls_member peer)
{
    const struct link *l;

    for (l = peers.links; l != NULL; l = l->next) {
        if (l->peer == peer && !l->dead)
            return true;
    }
    return false;
}

/* ---- Sending ---- */

static ssize_t push(const struct link *l, const uint8_t *data, size_t len, int fd)
{
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {(void *)(uintptr_t)data, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    if (fd >= 0) {
        struct cmsghdr *c;

        memset(&control, 0, sizeof(control));
        msg.msg_control = control.buf;
        msg.msg_controllen = sizeof(control.buf);
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    }
    do {
        n = sendmsg(l->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n;
}

static bool full_now(void)
{
    return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM;
}

static void push_queued(struct link *l)
{
    while (l->first != NULL) {
        struct parcel *p = l->first;

        if (push(l, p->data, p->len, p->fd) < 0 && full_now())
            return;
        l->first = p->next;
        if (l->first == NULL)
            l->last = &l->first;
        l->nparcels--;
        if (p->fd >= 0)
            close(p->fd);
        free(p);
    }
}

static void outgoing_event(void *arg, uint32_t epoll_events, mtls_tstamp now)
{
    struct link *l = arg;
    char c;

    if ((epoll_events & EPOLLOUT) != 0) {
        push_queued(l);
        if (l->first == NULL && mtls_watch_set(l->watch, EPOLLIN) != 0)
            epoll_events |= EPOLLERR;
    }
    if ((epoll_events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0)
        return;
    /* Nothing is ever said in this direction: what can be read is the end. */
    if (recv(l->fd, &c, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN) {
        link_shut(l);
        if (!mtls_peers_hear(l->peer, now)) /* else what it said before comes first */
            peers.lost(l->peer, now);
    }
}

static int queue(struct link *l, const uint8_t *data, size_t len, int fd)
{
    struct parcel *p = l->nparcels < QUEUE_MAX ? malloc(sizeof(*p) + len) : NULL;

    if (p == NULL)
        return MTLS_ERR_LIMIT;
    p->next = NULL;
    p->len = len;
    p->fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, FD_HIGH) : -1;
    memcpy(p->data, data, len);
    if ((fd >= 0 && p->fd < 0) || mtls_watch_set(l->watch, EPOLLIN | EPOLLOUT) != 0) {
        if (p->fd >= 0)
            close(p->fd);
        free(p);
        return MTLS_ERR_LIMIT;
    }
    *l->last = p;
    l->last = &p->next;
    l->nparcels++;
    return 0;
}

static int connect_to(const struct mtls_dir_proc *p, int *out)
{
    struct sockaddr_un sun;
    socklen_t len = name_to_sockaddr(p->name, &sun);
    struct ucred cred;
    int fd = socket_new();

    if (fd < 0)
        return MTLS_ERR_LIMIT;
    if (connect(fd, (struct sockaddr *)&sun, len) != 0) {
        int error = errno;

        close(fd);
        return error == ECONNREFUSED ? MTLS_ERR_IO : MTLS_ERR_LIMIT;
    }
    if (mtls_share_same_pids(p) && (!cred_of(fd, &cred) || !trusted(p, &cred))) {
        close(fd); /* the name of one that is gone */
        return MTLS_ERR_IO;
    }
    *out = fd;
    return 0;
}

bool mtls_peers_probe(const struct mtls_dir_proc *p)
{
    int fd, err = mtls_share_same_net(p) ? connect_to(p, &fd) : MTLS_ERR_LIMIT;

    if (err == 0)
        close(fd);
    return err != MTLS_ERR_IO;
}

static int link_to(const struct mtls_dir_proc *to, struct link **out)
{
    struct link *l;
    int fd, err;

    for (l = peers.links; l != NULL; l = l->next) {
        if (l->peer == to->self && l->outgoing && !l->dead) {
            *out = l;
            return 0;
        }
    }
    if (!mtls_share_same_net(to) || !mtls_share_same_pids(to))
        return MTLS_ERR_LIMIT; /* it would not know who calls */
    err = connect_to(to, &fd);
    if (err == 0 && (err = link_new(out, fd, to->self, true, outgoing_event)) != 0)
        close(fd);
    return err;
}

int mtls_peers_follow(const struct mtls_dir_proc *to)
{
    struct link *l;

    return peers.fd >= 0 ? link_to(to, &l) : MTLS_ERR_IO;
}

int mtls_peers_send(const struct mtls_dir_proc *to, const struct mtls_handover *m, int fd)
{
    static uint8_t buf[MTLS_HANDOVER_MAX]; /* engine lock */
    int len = mtls_handover_encode(m, buf, sizeof(buf)), err;
    struct link *l;

    if (len < 0 || peers.fd < 0)
        return len < 0 ? len : MTLS_ERR_IO;
    err = link_to(to, &l);
    if (err != 0)
        return err;
    if (l->first == NULL && push(l, buf, (size_t)len, fd) >= 0)
        return 0;
    if (l->first != NULL || full_now())
        return queue(l, buf, (size_t)len, fd);
    if (errno == ETOOMANYREFS)
        return MTLS_ERR_LIMIT;
    link_shut(l);
    return MTLS_ERR_IO;
}

/* ---- Life ---- */

bool mtls_peers_is_open(const struct mtls_reactor *r)
{
    return peers.fd >= 0 && peers.reactor == r;
}

int mtls_peers_open(struct mtls_reactor *r, struct mtls_crypto *c, uint8_t name[MTLS_DIR_NAME_LEN],
                    mtls_peers_message_fn *message, mtls_peers_lost_fn *lost)
{
    struct sockaddr_un sun;
    int err = mtls_crypto_random(c, name, MTLS_DIR_NAME_LEN);

    mtls_peers_close();
    if (err != 0)
        return err;
    peers.reactor = r;
    peers.message = message;
    peers.lost = lost;
    peers.fd = socket_new();
    if (peers.fd < 0 ||
        bind(peers.fd, (struct sockaddr *)&sun, name_to_sockaddr(name, &sun)) != 0 ||
        listen(peers.fd, BACKLOG) != 0)
        err = MTLS_ERR_IO;
    if (err == 0)
        err = mtls_timer_new(&peers.reap, r, reap, NULL);
    if (err == 0)
        err = mtls_timer_new(&peers.again, r, accept_again, NULL);
    if (err == 0)
        err = mtls_watch_new(&peers.watch, r, peers.fd, EPOLLIN, accept_event, NULL);
    if (err != 0)
        mtls_peers_close();
    return err;
}

/* Whoever takes it up only after this process has left would not know it any more. */
static bool unread(const struct link *l)
{
    int bytes = 0;

    return !l->dead && l->outgoing && ioctl(l->fd, SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

static bool drain_round(mtls_tstamp now)
{
    bool busy = false;
    struct link *l;

    for (l = peers.links; l != NULL; l = l->next) {
        while (!l->dead && !l->outgoing && take(l, now) > 0)
            ;
        if (!l->dead && l->outgoing)
            push_queued(l);
        busy = busy || l->first != NULL || unread(l);
    }
    return busy;
}

void mtls_peers_drain(mtls_tstamp now)
{
    mtls_tstamp until = now + DRAIN_MS * 1000;

    if (peers.fd < 0)
        return;
    accept_event(NULL, 0, now);
    while (drain_round(now) && mtls_now() < until)
        (void)poll(NULL, 0, 1);
}

void mtls_peers_close(void)
{
    struct link *l;

    for (l = peers.links; l != NULL; l = l->next)
        link_shut(l);
    reap(NULL, 0);
    if (peers.fd >= 0 && !mtls_watch_lost(peers.watch))
        close(peers.fd);
    mtls_watch_free(peers.watch);
    mtls_timer_free(peers.reap);
    mtls_timer_free(peers.again);
    peers.fd = -1;
    peers.watch = NULL;
    peers.reap = peers.again = NULL;
    peers.reactor = NULL;
}

/* The descriptors that are watched are the parent's as well. */
void mtls_peers_fork_child(void)
{
    struct link *l;

    for (l = peers.links; l != NULL; l = l->next) {
        if (l->fd >= 0)
            close(l->fd);
        l->fd = -1;
        mtls_watch_disown(l->watch);
        l->watch = NULL;
        parcels_free(l);
        l->dead = true;
    }
    if (peers.fd >= 0)
        close(peers.fd);
    mtls_watch_disown(peers.watch);
    mtls_timer_free(peers.reap);
    mtls_timer_free(peers.again);
    peers.fd = -1;
    peers.watch = NULL;
    peers.reap = peers.again = NULL;
    peers.reactor = NULL;
    reap(NULL, 0);
}
