/* Concept: netlink's message format and one exchange over it; every length that the kernel tells
 * is checked. */
#include "netlink.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum {
    QUESTION_MAX = NLMSG_LENGTH(sizeof(struct ifinfomsg)) + MTLS_NL_ATTRS_MAX,
    STRAY_MAX = 5,
    WAIT_MS = 20 /* for each datagram; the engine lock is held */
};

_Static_assert(offsetof(struct mtls_nl_question, body) == NLMSG_HDRLEN,
               "rtnetlink's body follows its header");

void mtls_nl_question_init(struct mtls_nl_question *q, uint16_t type, size_t body_len)
{
    memset(q, 0, sizeof(*q));
    q->head.nlmsg_type = type;
    q->head.nlmsg_flags = NLM_F_REQUEST;
    q->head.nlmsg_seq = 1;
    q->head.nlmsg_len = (uint32_t)NLMSG_LENGTH(body_len);
}

void mtls_nl_question_add(struct mtls_nl_question *q, uint16_t type, const void *data, size_t len)
{
    struct rtattr attr = {.rta_type = type, .rta_len = (uint16_t)RTA_LENGTH(len)};
    size_t at = NLMSG_ALIGN(q->head.nlmsg_len);

    if (q->head.nlmsg_len == 0 || at + RTA_SPACE(len) > QUESTION_MAX) {
        q->head.nlmsg_len = 0; /* too long: never asked */
        return;
    }
    memcpy((uint8_t *)q + at, &attr, sizeof(attr));
    memcpy((uint8_t *)q + at + RTA_LENGTH(0), data, len);
    q->head.nlmsg_len = (uint32_t)(at + RTA_LENGTH(len));
}

/* The kernel answers inside sendto(): nobody waits here but where that should ever change. */
static bool answer_comes(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, WAIT_MS) == 1;
}

/* Reads one datagram that the kernel itself sent; -1 with errno. */
static ssize_t netlink_read(int fd, void *buf, size_t cap)
{
    struct sockaddr_nl from = {0};
    struct iovec iov = {.iov_base = buf, .iov_len = cap};
    struct msghdr msg = {
        .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    for (int i = 0; i < STRAY_MAX; i++) {
        n = recvmsg(fd, &msg, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN && answer_comes(fd))
            n = recvmsg(fd, &msg, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (from.nl_pid == 0 && (msg.msg_flags & MSG_TRUNC) == 0)
            return n;
        msg.msg_namelen = sizeof(from);
    }
    errno = EIO;
    return -1;
}

/* Checks lengths and type; 0, or a negative errno (the kernel's own refusal too). */
static int answer_parse(struct mtls_nl_answer *a, size_t n, const struct mtls_nl_question *q,
                        uint16_t type, size_t body_len)
{
    const struct nlmsghdr *head = (const struct nlmsghdr *)a->bytes;
    struct nlmsgerr refused;

    if (n < sizeof(*head) || head->nlmsg_len < sizeof(*head) || head->nlmsg_len > n ||
        head->nlmsg_seq != q->head.nlmsg_seq)
        return -EBADMSG;
    if (head->nlmsg_type == NLMSG_ERROR) {
        if (head->nlmsg_len < NLMSG_LENGTH(sizeof(refused)))
            return -EBADMSG;
        memcpy(&refused, NLMSG_DATA(head), sizeof(refused));
        if (refused.error == 0 && type == NLMSG_ERROR)
            return 0;
        return refused.error < 0 ? refused.error : -EBADMSG;
    }
    if (head->nlmsg_type != type || head->nlmsg_len < NLMSG_SPACE(body_len))
        return -EBADMSG;
    a->body = NLMSG_DATA(head);
    a->attrs = (const struct rtattr *)(a->bytes + NLMSG_SPACE(body_len));
    a->attrs_len = head->nlmsg_len - NLMSG_SPACE(body_len);
    return 0;
}

/* The calling thread's socket between begin and end. */
static _Thread_local struct {
    int fd, depth;
    uint32_t seq;
} scope = {.fd = -1};

static bool answered; /* atomic */

bool mtls_nl_answered(void)
{
    return __atomic_load_n(&answered, __ATOMIC_RELAXED);
}

static int netlink_open(int protocol)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

    return fd < 0 ? -errno : fd;
}

void mtls_nl_begin(void)
{
    scope.depth++;
}

static void scope_close(void)
{
    if (scope.fd >= 0)
        (void)close(scope.fd);
    scope.fd = -1;
}

void mtls_nl_end(void)
{
    if (--scope.depth == 0)
        scope_close();
}

static int exchange(int fd, const struct mtls_nl_question *q, struct mtls_nl_answer *a)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    ssize_t n;

    if (sendto(fd, q, q->head.nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
        return -errno;
    n = netlink_read(fd, a->bytes, sizeof(a->bytes));
    return n < 0 ? -errno : (int)n;
}

int mtls_nl_ask(const struct mtls_nl_question *q, struct mtls_nl_answer *a, uint16_t type,
                size_t body_len)
{
    struct mtls_nl_question numbered = *q;
    int n, err;

    if (q->head.nlmsg_len == 0)
        return -EMSGSIZE;
    mtls_nl_begin();
    if (scope.fd < 0)
        scope.fd = netlink_open(NETLINK_ROUTE);
    numbered.head.nlmsg_seq = ++scope.seq;
    n = scope.fd < 0 ? scope.fd : exchange(scope.fd, &numbered, a);
    err = n < 0 ? n : answer_parse(a, (size_t)n, &numbered, type, body_len);
    if (n < 0 || err == -EBADMSG)
        scope_close(); /* another answer may still come */
    else
        __atomic_store_n(&answered, true, __ATOMIC_RELAXED);
    mtls_nl_end();
    return err;
}

int mtls_nl_ask_of(int protocol, const struct mtls_nl_question *q, struct mtls_nl_answer *a,
                   uint16_t type, size_t body_len)
{
    int fd, n;

    if (q->head.nlmsg_len == 0)
        return -EMSGSIZE;
    fd = netlink_open(protocol);
    if (fd < 0)
        return fd;
    n = exchange(fd, q, a);
    (void)close(fd);
    return n < 0 ? n : answer_parse(a, (size_t)n, q, type, body_len);
}

const void *mtls_nl_attr_find(const struct rtattr *attrs, size_t len, uint16_t type, size_t min,
                              size_t *size)
{
    const uint8_t *at = (const uint8_t *)attrs;
    struct rtattr attr;

    while (len >= sizeof(attr)) {
        memcpy(&attr, at, sizeof(attr));
        if (attr.rta_len < sizeof(attr) || attr.rta_len > len)
            return NULL;
        if ((attr.rta_type & NLA_TYPE_MASK) == type && attr.rta_len >= RTA_LENGTH(min)) {
            if (size != NULL)
                *size = attr.rta_len - RTA_LENGTH(0);
            return at + RTA_LENGTH(0);
        }
        if (RTA_ALIGN(attr.rta_len) >= len)
            return NULL;
        len -= RTA_ALIGN(attr.rta_len);
        at += RTA_ALIGN(attr.rta_len);
    }
    return NULL;
}

const void *mtls_nl_attr(const struct mtls_nl_answer *a, uint16_t type, size_t min, size_t *size)
{
    return mtls_nl_attr_find(a->attrs, a->attrs_len, type, min, size);
}

bool mtls_nl_u32(const struct mtls_nl_answer *a, uint16_t type, uint32_t *value)
{
    const void *p = mtls_nl_attr(a, type, sizeof(*value), NULL);

    if (p != NULL)
        memcpy(value, p, sizeof(*value));
    return p != NULL;
}
