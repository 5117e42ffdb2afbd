/* Concept: where a path really goes, asked of the kernel: its routes and its neighbours. Nothing is
 * changed. */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/mptcp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "netlink.h"
#include "route.h"

#ifndef SOL_MPTCP
#define SOL_MPTCP 284
#endif

enum { DSCP_MASK = 0xfc };

/* ---- Addresses ---- */

static bool same_ip(const struct mtls_addr *a, const struct mtls_addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

static int ip_family(const struct mtls_addr *a)
{
    return a->family == 6 ? AF_INET6 : AF_INET;
}

static size_t ip_len(const struct mtls_addr *a)
{
    return a->family == 6 ? 16 : 4;
}

/* ---- Routes ---- */

struct route_query {
    struct mtls_addr remote, local; /* local.family 0 = the kernel chooses */
    int oif;                        /* 0 = any */
    uint32_t mark, uid;
    uint8_t tos;
    bool mptcp;
    bool match; /* the entry of the routing table that matched; none is an error, even where the
                   kernel would go on link */
};

struct route_reply {
    uint8_t type;
    int oif;
    struct mtls_addr gateway, local;
};

static void query_build(struct mtls_nl_question *q, const struct route_query *r)
{
    uint8_t proto = IPPROTO_TCP;
    uint16_t port;
    uint32_t oif = (uint32_t)r->oif;

    mtls_nl_question_init(q, RTM_GETROUTE, sizeof(q->body.route));
    q->body.route.rtm_family = (uint8_t)ip_family(&r->remote);
    q->body.route.rtm_dst_len = (uint8_t)(8 * ip_len(&r->remote));
    q->body.route.rtm_tos = r->tos;
    q->body.route.rtm_flags = r->match ? RTM_F_FIB_MATCH : 0;
    mtls_nl_question_add(q, RTA_DST, r->remote.ip, ip_len(&r->remote));
    if (r->local.family == r->remote.family) {
        q->body.route.rtm_src_len = (uint8_t)(8 * ip_len(&r->local));
        mtls_nl_question_add(q, RTA_SRC, r->local.ip, ip_len(&r->local));
    }
    if (r->oif != 0)
        mtls_nl_question_add(q, RTA_OIF, &oif, sizeof(oif));
    if (r->mark != 0)
        mtls_nl_question_add(q, RTA_MARK, &r->mark, sizeof(r->mark));
    mtls_nl_question_add(q, RTA_UID, &r->uid, sizeof(r->uid));
    mtls_nl_question_add(q, RTA_IP_PROTO, &proto, sizeof(proto));
    port = htons(r->remote.port);
    if (port != 0)
        mtls_nl_question_add(q, RTA_DPORT, &port, sizeof(port));
    port = htons(r->local.port);
    if (port != 0 && r->local.family == r->remote.family)
        mtls_nl_question_add(q, RTA_SPORT, &port, sizeof(port));
}

/* RTA_VIA: a next hop of another family than the destination's. */
static void gateway_parse(const struct mtls_nl_answer *a, const struct route_query *r,
                          struct mtls_addr *gateway)
{
    const void *p = mtls_nl_attr(a, RTA_GATEWAY, ip_len(&r->remote), NULL);
    size_t len = 0;
    struct rtvia via;

    if (p != NULL) {
        mtls_addr_set(gateway, ip_family(&r->remote), p, 0);
        return;
    }
    p = mtls_nl_attr(a, RTA_VIA, sizeof(via), &len);
    if (p == NULL)
        return;
    memcpy(&via, p, sizeof(via));
    len -= sizeof(via);
    if ((via.rtvia_family == AF_INET && len >= 4) || (via.rtvia_family == AF_INET6 && len >= 16))
        mtls_addr_set(gateway, via.rtvia_family, (const uint8_t *)p + sizeof(via), 0);
}

/* 0 or a negative errno (-ENETUNREACH, -EHOSTUNREACH, -EACCES: no way there). */
static int route_ask(const struct route_query *r, struct route_reply *out)
{
    struct mtls_nl_question q;
    struct mtls_nl_answer a;
    uint32_t oif = 0;
    const void *p;
    int err;

    memset(out, 0, sizeof(*out));
    query_build(&q, r);
    err = mtls_nl_ask(&q, &a, RTM_NEWROUTE, sizeof(struct rtmsg));
    if (err != 0)
        return err;
    out->type = ((const struct rtmsg *)a.body)->rtm_type;
    if (mtls_nl_u32(&a, RTA_OIF, &oif))
        out->oif = (int)oif;
    gateway_parse(&a, r, &out->gateway);
    p = mtls_nl_attr(&a, RTA_PREFSRC, ip_len(&r->remote), NULL);
    if (p != NULL)
        mtls_addr_set(&out->local, ip_family(&r->remote), p, 0);
    return out->type == RTN_UNICAST || out->type == RTN_LOCAL ? 0 : -ENETUNREACH;
}

/* As route_ask, for a bound socket: a source address loosens an IPv6 look-up so that it may answer
 * with another device, then the question is put once more without. */
static int route_ask_bound(const struct route_query *r, struct route_reply *out)
{
    struct route_query again = *r;
    int err = route_ask(r, out);

    if (r->oif == 0 || (err == 0 && out->oif == r->oif))
        return err;
    again.local.family = 0;
    err = route_ask(&again, out);
    return err == 0 && out->oif != r->oif ? -ENETUNREACH : err;
}

/* The hardware address of a neighbour; one that the kernel does not know now stays unknown. */
static void neighbour_ask(const struct mtls_addr *hop, int ifindex, struct mtls_path_facts *facts)
{
    const uint16_t usable = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT;
    struct mtls_nl_question q;
    struct mtls_nl_answer a;
    size_t len = 0;
    const void *p;

    mtls_nl_question_init(&q, RTM_GETNEIGH, sizeof(q.body.neighbour));
    q.body.neighbour.ndm_family = (uint8_t)ip_family(hop);
    q.body.neighbour.ndm_ifindex = ifindex;
    mtls_nl_question_add(&q, NDA_DST, hop->ip, ip_len(hop));
    if (mtls_nl_ask(&q, &a, RTM_NEWNEIGH, sizeof(struct ndmsg)) != 0 ||
        (((const struct ndmsg *)a.body)->ndm_state & usable) == 0)
        return;
    p = mtls_nl_attr(&a, NDA_LLADDR, 1, &len);
    if (p == NULL || len > sizeof(facts->lladdr))
        return;
    memcpy(facts->lladdr, p, len);
    facts->lladdr_len = (uint8_t)len;
    facts->lladdr_known = true;
}

static void facts_reset(struct mtls_path_facts *f)
{
    f->known = false;
    memset(&f->local, 0, sizeof(f->local));
    memset(&f->remote, 0, sizeof(f->remote));
    memset(&f->gateway, 0, sizeof(f->gateway));
    memset(f->dev, 0, sizeof(f->dev));
    memset(f->lladdr, 0, sizeof(f->lladdr));
    f->lladdr_len = 0;
    f->lladdr_known = false;
    f->loopback = false;
    f->ifindex = 0;
    f->lower = 0;
    f->dev_tunnel = false;
    f->multi = false;
    f->ndevices = 0;
}

/* Device, gateway and neighbour of the answer to r; r->oif, a device that a socket is bound to,
 * wins. */
static int facts_fill(struct mtls_path_facts *f, const struct route_query *r)
{
    struct route_reply reply;
    struct mtls_device d;
    int err = route_ask_bound(r, &reply);

    if (err != 0 && r->oif == 0)
        return MTLS_ERR_IO;
    if (err != 0)
        memset(&reply, 0, sizeof(reply));
    err = mtls_device_ask(r->oif != 0 ? r->oif : reply.oif, "", &d);
    if (err != 0)
        return MTLS_ERR_IO;
    f->ifindex = d.ifindex;
    memcpy(f->dev, d.name, sizeof(f->dev));
    f->loopback = d.loopback;
    mtls_device_stack(&d, f);
    f->gateway = reply.gateway;
    f->remote = r->remote;
    f->local = r->local.family != 0 ? r->local : reply.local;
    if (!d.loopback)
        neighbour_ask(f->gateway.family != 0 ? &f->gateway : &f->remote, f->ifindex, f);
    f->known = true;
    return 0;
}

/* ---- A live socket ---- */

/* SO_BINDTODEVICE's device as an index; 0 = not bound, -1 = it cannot be told. */
static int socket_device(int fd)
{
    char name[IFNAMSIZ + 1] = "";
    socklen_t len = sizeof(int);
    struct mtls_device d;
    int ifindex;

    if (getsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &ifindex, &len) == 0)
        return ifindex;
    len = IFNAMSIZ;
    if (getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len) != 0)
        return -1;
    if (len == 0 || name[0] == '\0')
        return 0;
    return mtls_device_ask(0, name, &d) == 0 ? d.ifindex : -1;
}

static int socket_int(int fd, int level, int name, int fallback)
{
    int value = fallback;
    socklen_t len = sizeof(value);

    return getsockopt(fd, level, name, &value, &len) == 0 && value >= 0 ? value : fallback;
}

static int socket_addrs(int fd, struct route_query *r)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);

    if (getpeername(fd, (struct sockaddr *)&ss, &len) != 0 ||
        mtls_addr_from_sockaddr(&r->remote, (struct sockaddr *)&ss, len) != 0)
        return MTLS_ERR_PATH_UNKNOWN;
    len = sizeof(ss);
    if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0 ||
        mtls_addr_from_sockaddr(&r->local, (struct sockaddr *)&ss, len) != 0)
        return MTLS_ERR_PATH_UNKNOWN;
    return 0;
}

/* [PATH-13] Of an MPTCP connection the route look-up tells where one subflow goes. */
static bool may_have_subflows(int fd, const struct route_query *r)
{
    struct mptcp_info info = {0};
    socklen_t len = sizeof(info);

    if (!r->mptcp)
        return false;
    if (getsockopt(fd, SOL_MPTCP, MPTCP_INFO, &info, &len) != 0)
        return true;
    return (info.mptcpi_flags & MPTCP_INFO_FLAG_FALLBACK) == 0 && info.mptcpi_subflows > 0;
}

static bool add_device(struct mtls_path_facts *f, int ifindex)
{
    struct mtls_path_facts stack = {0};
    struct mtls_device d;

    for (uint8_t i = 0; i < f->ndevices; i++)
        if (f->devices[i].ifindex == ifindex)
            return true;
    if (f->ndevices == MTLS_SUBFLOW_DEVICES_MAX || mtls_device_ask(ifindex, "", &d) != 0)
        return false;
    mtls_device_stack(&d, &stack);
    f->devices[f->ndevices++] =
        (struct mtls_subflow_device){d.ifindex, stack.lower, stack.dev_tunnel, d.loopback};
    return true;
}

/* It may be bound to the device that owns its address, or not: both ways count. */
static bool add_subflow(struct mtls_path_facts *f, struct route_query r,
                        const struct mptcp_subflow_addrs *at)
{
    socklen_t len = sizeof(struct sockaddr_storage);
    char name[MTLS_IF_MAX + 1];
    struct route_reply reply;
    int owner;

    r.oif = 0;
    return mtls_addr_from_sockaddr(&r.local, (const struct sockaddr *)&at->ss_local, len) == 0 &&
           mtls_addr_from_sockaddr(&r.remote, (const struct sockaddr *)&at->ss_remote, len) == 0 &&
           mtls_device_of_address(&r.local, name, &owner) == 0 && add_device(f, owner) &&
           route_ask(&r, &reply) == 0 && add_device(f, reply.oif);
}

/* [PATH-13] All of them or none. */
static void subflow_devices(int fd, const struct route_query *r, struct mtls_path_facts *f)
{
    struct {
        struct mptcp_subflow_data head;
        struct mptcp_subflow_addrs at[MTLS_SUBFLOW_DEVICES_MAX / 2];
    } all = {.head = {.size_subflow_data = sizeof(all.head), .size_user = sizeof(all.at[0])}};
    socklen_t len = sizeof(all);
    bool known = getsockopt(fd, SOL_MPTCP, MPTCP_SUBFLOW_ADDRS, &all, &len) == 0 &&
                 all.head.num_subflows <= MTLS_SUBFLOW_DEVICES_MAX / 2 &&
                 all.head.size_kernel == sizeof(all.at[0]);

    for (uint32_t i = 0; known && i < all.head.num_subflows; i++)
        known = add_subflow(f, *r, &all.at[i]);
    if (!known || (f->ndevices > 0 && !add_device(f, f->ifindex)))
        f->ndevices = 0;
}

static int socket_ends(int fd, struct route_query *r)
{
    int protocol = socket_int(fd, SOL_SOCKET, SO_PROTOCOL, 0);

    memset(r, 0, sizeof(*r));
    r->mptcp = protocol == IPPROTO_MPTCP;
    return r->mptcp || protocol == IPPROTO_TCP ? socket_addrs(fd, r) : MTLS_ERR_PATH_UNKNOWN;
}

/* What the look-up for a connected socket asks. */
static int socket_query(int fd, struct route_query *r)
{
    struct stat st;
    int err = socket_ends(fd, r);

    if (err != 0)
        return err;
    r->oif = socket_device(fd);
    if (r->oif < 0)
        return MTLS_ERR_IO;
    r->mark = (uint32_t)socket_int(fd, SOL_SOCKET, SO_MARK, 0);
    /* Rules by user look at the socket's owner, which a set-user-ID program's effective user need
     * not be. */
    r->uid = fstat(fd, &st) == 0 ? (uint32_t)st.st_uid : (uint32_t)geteuid();
    r->tos = (uint8_t)(DSCP_MASK &
                       (r->remote.family == 4 ? socket_int(fd, IPPROTO_IP, IP_TOS, 0)
                                              : socket_int(fd, IPPROTO_IPV6, IPV6_TCLASS, 0)));
    return 0;
}

static int socket_facts(int fd, const struct route_query *r, struct mtls_path_facts *facts)
{
    int err;

    facts_reset(facts);
    err = facts_fill(facts, r);
    facts->multi = err == 0 && may_have_subflows(fd, r);
    if (facts->multi)
        subflow_devices(fd, r, facts);
    return err;
}

int mtls_route_of_socket(int fd, struct mtls_path_facts *facts)
{
    struct route_query r;
    int err;

    facts_reset(facts);
    mtls_nl_begin();
    err = socket_query(fd, &r);
    if (err == 0)
        err = socket_facts(fd, &r, facts);
    mtls_nl_end();
    return err;
}

int mtls_route_ends(int fd, struct mtls_path_facts *facts)
{
    struct route_query r;
    int err = socket_ends(fd, &r);

    facts_reset(facts);
    if (err == 0 && !mtls_nl_answered())
        err = MTLS_ERR_IO;
    if (err != 0)
        return err;
    facts->local = r.local;
    facts->remote = r.remote;
    return 0;
}

static bool same_end(const struct mtls_addr *a, const struct mtls_addr *b)
{
    return same_ip(a, b) && a->port == b->port;
}

/* Whether the socket's route is still the one of facts. */
static bool unchanged(const struct route_query *r, const struct mtls_path_facts *facts)
{
    struct route_reply reply;

    return same_end(&r->remote, &facts->remote) && same_end(&r->local, &facts->local) &&
           route_ask_bound(r, &reply) == 0 &&
           (r->oif != 0 ? r->oif : reply.oif) == facts->ifindex &&
           same_ip(&reply.gateway, &facts->gateway);
}

int mtls_route_again(int fd, struct mtls_path_facts *facts)
{
    struct route_query r;
    int err;

    mtls_nl_begin();
    err = socket_query(fd, &r);
    if (err != 0)
        facts_reset(facts);
    else if (!facts->known || facts->multi || may_have_subflows(fd, &r) || !unchanged(&r, facts))
        err = socket_facts(fd, &r, facts);
    mtls_nl_end();
    return err;
}

int mtls_route_to(const struct mtls_addr *remote, struct mtls_path_facts *facts)
{
    struct route_query r = {.remote = *remote, .uid = (uint32_t)geteuid()};

    int err = MTLS_ERR_PATH_UNKNOWN;

    facts_reset(facts);
    mtls_nl_begin();
    if (remote->family != 0)
        err = facts_fill(facts, &r);
    mtls_nl_end();
    return err;
}

int mtls_route_via(const struct mtls_addr *remote, int ifindex, const struct mtls_addr *local,
                   struct mtls_path_facts *facts)
{
    struct route_query r = {
        .remote = *remote, .uid = (uint32_t)geteuid(), .oif = ifindex, .match = true};
    struct route_reply reply;

    facts_reset(facts);
    if (remote->family == 0 || ifindex <= 0)
        return MTLS_ERR_PATH_UNKNOWN;
    if (local != NULL)
        r.local = *local;
    if (route_ask(&r, &reply) != 0 || reply.type != RTN_UNICAST ||
        (reply.oif != 0 &&
         reply.oif != ifindex)) /* 0: several next hops, one of them this device's */
        return MTLS_ERR_PATH_UNREACHABLE;
    r.match = false;
    return facts_fill(facts, &r);
}

/* ---- Who owns a local address ---- */

/* Addresses that no device lists, 127.0.0.2 for one, belong to the device of the local route that
 * covers them. */
static int device_of_local_route(const struct mtls_addr *local)
{
    struct route_query r = {.remote = *local, .uid = (uint32_t)geteuid(), .match = true};
    struct route_reply reply;

    r.remote.port = 0;
    return route_ask(&r, &reply) == 0 && reply.type == RTN_LOCAL ? reply.oif : 0;
}

static const char *owner_find(const struct ifaddrs *list, const struct mtls_addr *local,
                              const char *dev)
{
    struct mtls_addr a;

    for (; list != NULL; list = list->ifa_next) {
        if (list->ifa_addr == NULL || (dev[0] != '\0' && strcmp(dev, list->ifa_name) != 0))
            continue;
        if (mtls_addr_from_sockaddr(&a, list->ifa_addr,
                                    list->ifa_addr->sa_family == AF_INET6
                                        ? sizeof(struct sockaddr_in6)
                                        : sizeof(struct sockaddr_in)) == 0 &&
            same_ip(&a, local))
            return list->ifa_name;
    }
    return NULL;
}

/* want: the name of a device, or "" for any. */
static int owner_get(const struct mtls_addr *local, const char *want, struct mtls_device *d)
{
    struct ifaddrs *list = NULL;
    const char *owner;
    int err;

    if (local->family == 0)
        return MTLS_ERR_PATH_BIND;
    if (getifaddrs(&list) != 0)
        return errno == ENOMEM ? MTLS_ERR_NOMEM : MTLS_ERR_PATH_BIND;
    owner = owner_find(list, local, want);
    err = owner != NULL ? mtls_device_ask(0, owner, d)
                        : mtls_device_ask(device_of_local_route(local), "", d);
    freeifaddrs(list);
    return err == 0 && (want[0] == '\0' || strcmp(want, d->name) == 0) ? 0 : MTLS_ERR_PATH_BIND;
}

int mtls_device_of_address(const struct mtls_addr *local, char dev[MTLS_IF_MAX + 1], int *ifindex)
{
    struct mtls_device d;
    int err = owner_get(local, "", &d);

    if (err != 0)
        return err;
    memcpy(dev, d.name, sizeof(d.name));
    *ifindex = d.ifindex;
    return 0;
}

bool mtls_device_owns_address(const char *dev, const struct mtls_addr *local)
{
    struct mtls_device d;

    return dev != NULL && dev[0] != '\0' && owner_get(local, dev, &d) == 0;
}
