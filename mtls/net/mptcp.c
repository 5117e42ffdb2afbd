/* Concept: reading a connection's subflows (mptcp.h). */
#include "mptcp.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/mptcp.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>

#include "netlink.h"
#include "sockaddr.h"

#ifndef SOL_MPTCP
#define SOL_MPTCP 284
#endif

enum {
    FULL_INFO = 4, /* MPTCP_FULL_INFO, newer than some systems' headers */
    STATE_ESTABLISHED = 1,
    INFO_ROOM = 256 /* struct mptcp_info grows with kernels */
};

/* MPTCP_FULL_INFO's layout, as the kernel documents it. */
struct full_subflow {
    uint32_t id;
    struct mptcp_subflow_addrs addrs;
};

struct full_info {
    uint32_t size_tcpinfo_kernel, size_tcpinfo_user;
    uint32_t size_sfinfo_kernel, size_sfinfo_user;
    uint32_t num_subflows, size_arrays_user;
    _Alignas(8) uint64_t subflow_info, tcp_info;
    uint8_t info[INFO_ROOM];
};

static int get_info(int fd, struct mptcp_info *info)
{
    socklen_t len = sizeof(*info);
    int protocol = 0;
    socklen_t plen = sizeof(protocol);

    memset(info, 0, sizeof(*info));
    if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &plen) != 0 ||
        protocol != IPPROTO_MPTCP || getsockopt(fd, SOL_MPTCP, MPTCP_INFO, info, &len) != 0 ||
        (info->mptcpi_flags & MPTCP_INFO_FLAG_FALLBACK) != 0)
        return MTLS_ERR_MPTCP_NONE;
    return 0;
}

int mtls_mptcp_token(int fd, uint32_t *token)
{
    struct mptcp_info info;
    int rc = get_info(fd, &info);

    *token = info.mptcpi_token;
    return rc;
}

/* ---- Flags ---- */

static void diag_addresses(struct inet_diag_req_v2 *r, const struct mtls_subflow *s, int ifindex)
{
    r->sdiag_family = s->local.family == 6 ? AF_INET6 : AF_INET;
    r->sdiag_protocol = IPPROTO_TCP;
    r->idiag_ext = 1u << (INET_DIAG_INFO - 1); /* else the kernel leaves out MPTCP's, too */
    r->id.idiag_sport = htons(s->local.port);
    r->id.idiag_dport = htons(s->remote.port);
    memcpy(r->id.idiag_src, s->local.ip, sizeof(s->local.ip));
    memcpy(r->id.idiag_dst, s->remote.ip, sizeof(s->remote.ip));
    r->id.idiag_if = (uint32_t)ifindex;
    memset(r->id.idiag_cookie, 0xff, sizeof(r->id.idiag_cookie)); /* INET_DIAG_NOCOOKIE */
}

static bool ask_flags(const struct mtls_subflow *s, int ifindex, uint32_t *flags)
{
    struct mtls_nl_question q;
    struct mtls_nl_answer a;
    const void *ulp, *own, *value = NULL;
    size_t ulp_len = 0, own_len = 0;

    mtls_nl_question_init(&q, SOCK_DIAG_BY_FAMILY, sizeof(q.body.diag));
    diag_addresses(&q.body.diag, s, ifindex);
    if (mtls_nl_ask_of(NETLINK_SOCK_DIAG, &q, &a, SOCK_DIAG_BY_FAMILY,
                       sizeof(struct inet_diag_msg)) != 0)
        return false;
    ulp = mtls_nl_attr(&a, INET_DIAG_ULP_INFO, 0, &ulp_len);
    own = ulp != NULL ? mtls_nl_attr_find(ulp, ulp_len, INET_ULP_INFO_MPTCP, 0, &own_len) : NULL;
    if (own != NULL)
        value = mtls_nl_attr_find(own, own_len, MPTCP_SUBFLOW_ATTR_FLAGS, sizeof(*flags), NULL);
    if (value != NULL)
        memcpy(flags, value, sizeof(*flags));
    return value != NULL;
}

/* A socket that is bound to a device is found by that device alone. */
static void read_flags(int ifindex, struct mtls_subflow *s)
{
    uint32_t flags = 0;

    s->flags_known = ask_flags(s, 0, &flags) || (ifindex > 0 && ask_flags(s, ifindex, &flags));
    s->full = (flags & MPTCP_SUBFLOW_FLAG_FULLY_ESTABLISHED) != 0;
    s->backup = (flags & MPTCP_SUBFLOW_FLAG_BKUP_LOC) != 0;
    s->by_peer = (flags & MPTCP_SUBFLOW_FLAG_BKUP_REM) != 0;
}

/* ---- Counters ---- */

static int fill(struct mtls_subflow *s, const struct full_subflow *f, const struct tcp_info *t)
{
    socklen_t len = sizeof(struct sockaddr_storage);

    memset(s, 0, sizeof(*s));
    s->id = f->id;
    s->established = t->tcpi_state == STATE_ESTABLISHED;
    s->received = t->tcpi_bytes_received;
    s->sent = t->tcpi_bytes_sent - t->tcpi_bytes_retrans;
    if (mtls_addr_from_sockaddr(&s->local, (const struct sockaddr *)&f->addrs.ss_local, len) != 0 ||
        mtls_addr_from_sockaddr(&s->remote, (const struct sockaddr *)&f->addrs.ss_remote, len) != 0)
        return MTLS_ERR_MPTCP_KERNEL;
    return 0;
}

/* The kernel lists the first subflow first as long as it lives; its number says so too. */
static void order(struct mtls_subflows *s)
{
    for (uint8_t i = 1; i < s->n; i++)
        for (uint8_t j = i; j > 0 && s->at[j].id < s->at[j - 1].id; j--) {
            struct mtls_subflow t = s->at[j];

            s->at[j] = s->at[j - 1];
            s->at[j - 1] = t;
        }
}

int mtls_mptcp_subflows(int fd, const struct mtls_mptcp_devices *devices, struct mtls_subflows *out)
{
    struct full_subflow subflows[MTLS_SUBFLOWS_MAX];
    struct tcp_info tcp[MTLS_SUBFLOWS_MAX];
    struct full_info full = {.size_tcpinfo_user = sizeof(tcp[0]),
                             .size_sfinfo_user = sizeof(subflows[0]),
                             .size_arrays_user = MTLS_SUBFLOWS_MAX,
                             .subflow_info = (uint64_t)(uintptr_t)subflows,
                             .tcp_info = (uint64_t)(uintptr_t)tcp};
    struct mptcp_info info;
    socklen_t len = sizeof(full);
    int rc = get_info(fd, &info);

    memset(out, 0, sizeof(*out));
    memset(subflows, 0, sizeof(subflows));
    memset(tcp, 0, sizeof(tcp));
    if (rc != 0)
        return rc;
    if (getsockopt(fd, SOL_MPTCP, FULL_INFO, &full, &len) != 0 ||
        full.size_sfinfo_kernel < sizeof(subflows[0]) ||
        full.size_tcpinfo_kernel < offsetof(struct tcp_info, tcpi_dsack_dups))
        return MTLS_ERR_MPTCP_KERNEL;
    if (full.num_subflows > MTLS_SUBFLOWS_MAX)
        return MTLS_ERR_SUBFLOW_CHANGED;
    for (uint32_t i = 0; rc == 0 && i < full.num_subflows; i++)
        rc = fill(&out->at[i], &subflows[i], &tcp[i]);
    out->n = rc == 0 ? (uint8_t)full.num_subflows : 0;
    order(out);
    for (uint8_t i = 0; devices != NULL && i < out->n; i++)
        read_flags(i == 0 ? devices->first : devices->second, &out->at[i]);
    return rc;
}
