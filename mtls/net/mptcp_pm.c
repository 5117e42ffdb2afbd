/* Concept: questions to the path manager (mptcp_pm.h). */
#include "mptcp_pm.h"

#include <errno.h>
#include <linux/mptcp.h>
#include <netinet/in.h>
#include <string.h>

#include "netlink.h"

enum { JOIN_ID = 2 /* of the second local address; the first one's is 0 */, NEST_MAX = 64 };

struct nest { /* attributes inside one */
    uint8_t bytes[NEST_MAX];
    size_t len;
};

static void nest_add(struct nest *n, uint16_t type, const void *data, size_t len)
{
    struct rtattr attr = {.rta_type = type, .rta_len = (uint16_t)RTA_LENGTH(len)};

    if (n->len + RTA_SPACE(len) > sizeof(n->bytes))
        return; /* the kernel misses what is not there */
    memcpy(n->bytes + n->len, &attr, sizeof(attr));
    memcpy(n->bytes + n->len + RTA_LENGTH(0), data, len);
    n->len += RTA_SPACE(len);
}

static struct nest address(const struct mtls_addr *a)
{
    uint16_t family = a->family == 6 ? AF_INET6 : AF_INET;
    struct nest n = {.len = 0};

    nest_add(&n, MPTCP_PM_ADDR_ATTR_FAMILY, &family, sizeof(family));
    if (a->family == 6)
        nest_add(&n, MPTCP_PM_ADDR_ATTR_ADDR6, a->ip, 16);
    else
        nest_add(&n, MPTCP_PM_ADDR_ATTR_ADDR4, a->ip, 4);
    return n;
}

static void begin(struct mtls_nl_question *q, uint16_t family, uint8_t command, uint32_t token)
{
    mtls_nl_question_init(q, family, sizeof(q->body.generic));
    q->head.nlmsg_flags |= NLM_F_ACK;
    q->body.generic.cmd = command;
    q->body.generic.version = MPTCP_PM_VER;
    mtls_nl_question_add(q, MPTCP_PM_ATTR_TOKEN, &token, sizeof(token));
}

static int finish(struct mtls_nl_question *q, struct nest *local, const struct mtls_addr *remote)
{
    struct nest there = address(remote);
    struct mtls_nl_answer a;

    nest_add(&there, MPTCP_PM_ADDR_ATTR_PORT, &remote->port, sizeof(remote->port));
    mtls_nl_question_add(q, MPTCP_PM_ATTR_ADDR | NLA_F_NESTED, local->bytes, local->len);
    mtls_nl_question_add(q, MPTCP_PM_ATTR_ADDR_REMOTE | NLA_F_NESTED, there.bytes, there.len);
    return mtls_nl_ask_of(NETLINK_GENERIC, q, &a, NLMSG_ERROR, 0);
}

int mtls_mptcp_pm_family(uint16_t *family)
{
    struct mtls_nl_question q;
    struct mtls_nl_answer a;
    const void *found;
    int rc;

    mtls_nl_question_init(&q, GENL_ID_CTRL, sizeof(q.body.generic));
    q.body.generic.cmd = CTRL_CMD_GETFAMILY;
    q.body.generic.version = 1;
    mtls_nl_question_add(&q, CTRL_ATTR_FAMILY_NAME, MPTCP_PM_NAME, sizeof(MPTCP_PM_NAME));
    rc = mtls_nl_ask_of(NETLINK_GENERIC, &q, &a, GENL_ID_CTRL, sizeof(q.body.generic));
    if (rc != 0)
        return rc;
    found = mtls_nl_attr(&a, CTRL_ATTR_FAMILY_ID, sizeof(*family), NULL);
    if (found == NULL)
        return -EBADMSG;
    memcpy(family, found, sizeof(*family));
    return 0;
}

int mtls_mptcp_pm_join(uint16_t family, uint32_t token, int ifindex, const struct mtls_addr *local,
                       const struct mtls_addr *remote)
{
    uint32_t flags = MPTCP_PM_ADDR_FLAG_SUBFLOW | MPTCP_PM_ADDR_FLAG_BACKUP;
    struct nest here = address(local);
    struct mtls_nl_question q;
    uint8_t id = JOIN_ID;

    nest_add(&here, MPTCP_PM_ADDR_ATTR_ID, &id, sizeof(id));
    nest_add(&here, MPTCP_PM_ADDR_ATTR_FLAGS, &flags, sizeof(flags));
    nest_add(&here, MPTCP_PM_ADDR_ATTR_IF_IDX, &ifindex, sizeof(ifindex));
    begin(&q, family, MPTCP_PM_CMD_SUBFLOW_CREATE, token);
    return finish(&q, &here, remote);
}

int mtls_mptcp_pm_backup(uint16_t family, uint32_t token, const struct mtls_subflow *s, bool backup)
{
    uint32_t flags = backup ? MPTCP_PM_ADDR_FLAG_BACKUP : 0;
    struct nest here = address(&s->local);
    struct mtls_nl_question q;

    nest_add(&here, MPTCP_PM_ADDR_ATTR_FLAGS, &flags, sizeof(flags));
    begin(&q, family, MPTCP_PM_CMD_SET_FLAGS, token);
    return finish(&q, &here, &s->remote);
}
