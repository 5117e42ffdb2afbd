/* Concept: asking the helper (mptcp_helper.h). */
#include "mptcp_helper.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static int reach(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct timeval wait = {.tv_sec = MTLS_MPTCP_WAIT_S};
    int fd;

    if (strlen(path) >= sizeof(sa.sun_path))
        return -1;
    memcpy(sa.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) != 0 ||
        connect(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static bool send_request(int to, int fd, const struct mtls_mptcp_request *request)
{
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)request, .iov_len = sizeof(*request)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof(control.room)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    return sendmsg(to, &msg, MSG_NOSIGNAL) == (ssize_t)sizeof(*request);
}

int mtls_mptcp_ask(const char *path, int fd, const struct mtls_mptcp_request *request, bool *again)
{
    struct mtls_mptcp_request r = *request;
    struct mtls_mptcp_reply reply = {0};
    int helper = reach(path), rc = MTLS_ERR_MPTCP_HELPER;

    if (again != NULL)
        *again = false;
    if (helper < 0)
        return rc;
    r.magic = MTLS_MPTCP_MAGIC;
    if (send_request(helper, fd, &r) &&
        recv(helper, &reply, sizeof(reply), 0) == (ssize_t)sizeof(reply) &&
        reply.magic == MTLS_MPTCP_MAGIC && reply.error <= 0) {
        rc = reply.error;
        if (again != NULL)
            *again = reply.refusal == ENOTCONN;
    }
    (void)close(helper);
    return rc;
}
