/* Concept: what is asked of mtls-mptcp-helper, the one program with CAP_NET_ADMIN: to make and to
 * steer the second subflow of a connection whose descriptor the asker hands over, and of no other.
 * One question and one answer over a local socket; both are of fixed size. */
#ifndef MTLS_NET_MPTCP_HELPER_H
#define MTLS_NET_MPTCP_HELPER_H

#include "../core/common.h"

#define MTLS_MPTCP_HELPER_SOCKET "/run/mtls-mptcp-helper/socket"

enum mtls_mptcp_op {
    MTLS_MPTCP_CHECK = 1, /* could the others be done? */
    MTLS_MPTCP_JOIN,      /* a second subflow, as backup; the connection has one */
    MTLS_MPTCP_STEER,     /* both directions to the second subflow; the connection has two */
    MTLS_MPTCP_RELEASE,   /* neither is backup any more */
};

enum { MTLS_MPTCP_MAGIC = 0x4d544831, MTLS_MPTCP_WAIT_S = 1 };

struct mtls_mptcp_request {
    uint32_t magic;
    uint32_t op;
    uint32_t ifindex;               /* JOIN: the device that the subflow is bound to */
    struct mtls_addr local, remote; /* JOIN: local without port, remote with it */
};

struct mtls_mptcp_reply {
    uint32_t magic;
    int32_t error;   /* 0 or MTLS_ERR_* */
    int32_t refusal; /* the kernel's errno */
};

/* Asks about the MPTCP socket fd. again (or NULL) is set when the kernel says that it is too early
 * (the connection is not established at both ends). At most MTLS_MPTCP_WAIT_S seconds for each of
 * connecting, asking and the answer. Errors: MTLS_ERR_MPTCP_HELPER (not there, not allowed,
 * silent), or the helper's own: MTLS_ERR_MPTCP_NONE, _MANAGER, _STEER, MTLS_ERR_SUBFLOW_MISSING,
 * _CHANGED. */
MTLS_NODISCARD int mtls_mptcp_ask(const char *path, int fd,
                                  const struct mtls_mptcp_request *request, bool *again);

#endif
