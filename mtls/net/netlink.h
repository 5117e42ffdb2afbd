/* Concept: netlink questions (of routes, sockets, or generic), one answer each, over a socket that
 * lives for a call of the room's: neither a fork nor an application that closes descriptors it does
 * not know can break it, and no wait is longer than a tenth of a second. What failed is not known,
 * and so is not distinct. */
#ifndef MTLS_NET_NETLINK_H
#define MTLS_NET_NETLINK_H

#include <linux/genetlink.h>
#include <linux/if_link.h>
#include <linux/inet_diag.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "../core/common.h"

enum { MTLS_NL_ANSWER_MAX = 8192, MTLS_NL_ATTRS_MAX = 160 };

struct mtls_nl_question {
    struct nlmsghdr head;
    union {
        struct rtmsg route;
        struct ndmsg neighbour;
        struct ifinfomsg link;
        struct genlmsghdr generic;
        struct inet_diag_req_v2 diag;
    } body;
    uint8_t attrs[MTLS_NL_ATTRS_MAX];
};

struct mtls_nl_answer {
    _Alignas(struct nlmsghdr) uint8_t bytes[MTLS_NL_ANSWER_MAX];
    const void *body; /* into bytes, as is attrs */
    const struct rtattr *attrs;
    size_t attrs_len;
};

/* type: RTM_GET...; body_len: the size of its member of body, which the caller then fills. */
void mtls_nl_question_init(struct mtls_nl_question *q, uint16_t type, size_t body_len);
/* A question that grows beyond MTLS_NL_ATTRS_MAX is refused when it is asked. */
void mtls_nl_question_add(struct mtls_nl_question *q, uint16_t type, const void *data, size_t len);

/* Between these the calling thread's questions share a socket, opened with the first; without them
 * each has its own. They nest. */
void mtls_nl_begin(void);
void mtls_nl_end(void);

/* Whether the kernel has ever answered this process: netlink may be forbidden. Any thread. */
bool mtls_nl_answered(void);

/* Asks; an answer of another type, or one whose lengths do not fit, is -EBADMSG. 0 or a negative
 * errno, the kernel's own refusal among them. */
MTLS_NODISCARD int mtls_nl_ask(const struct mtls_nl_question *q, struct mtls_nl_answer *a,
                               uint16_t type, size_t body_len);
/* The same of another netlink protocol than NETLINK_ROUTE. type NLMSG_ERROR: the answer wanted is
 * the kernel's "done", which has no body. */
MTLS_NODISCARD int mtls_nl_ask_of(int protocol, const struct mtls_nl_question *q,
                                  struct mtls_nl_answer *a, uint16_t type, size_t body_len);

/* The first attribute of a type with at least min bytes; NULL if there is none. size (or NULL) gets
 * its length. It need not be aligned. */
const void *mtls_nl_attr(const struct mtls_nl_answer *a, uint16_t type, size_t min, size_t *size);
const void *mtls_nl_attr_find(const struct rtattr *attrs, size_t len, uint16_t type, size_t min,
                              size_t *size);
bool mtls_nl_u32(const struct mtls_nl_answer *a, uint16_t type, uint32_t *value);

#endif
