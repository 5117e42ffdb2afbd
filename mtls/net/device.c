/* Concept: network devices as the kernel knows them: what they are and what they stand on. */
#include "device.h"

#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <string.h>

#include "netlink.h"

enum { STACK_MAX = 8 };

/* Kinds of virtual devices whose packets leave inside others', by rtnl_link_ops name. */
static bool kind_is_tunnel(const char *kind)
{
    static const char *const kinds[] = {
        "tun",       "wireguard", "ppp",    "xfrm",    "vti",       "vti6",   "ipip",
        "sit",       "gre",       "gretap", "ip6gre",  "ip6gretap", "ip6tnl", "erspan",
        "ip6erspan", "vxlan",     "geneve", "bareudp", "gtp",       "ovpn",   "amneziawg"};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strcmp(kind, kinds[i]) == 0)
            return true;
    return false;
}

static bool type_is_tunnel(unsigned type)
{
    switch (type) {
    case ARPHRD_NONE:
    case ARPHRD_PPP:
    case ARPHRD_SLIP:
    case ARPHRD_TUNNEL:
    case ARPHRD_TUNNEL6:
    case ARPHRD_SIT:
    case ARPHRD_IPGRE:
    case ARPHRD_RAWIP:
        return true;
    default:
        return false;
    }
}

static void answer_kind(const struct mtls_nl_answer *a, char name[32])
{
    size_t nested_len = 0, kind_len = 0;
    const void *nested = mtls_nl_attr(a, IFLA_LINKINFO, 0, &nested_len), *kind = NULL;

    memset(name, 0, 32);
    if (nested != NULL)
        kind = mtls_nl_attr_find(nested, nested_len, IFLA_INFO_KIND, 1, &kind_len);
    if (kind != NULL && kind_len < 32)
        memcpy(name, kind, kind_len);
}

/* A device without Ethernet is a tunnel unless hardware stands behind it (modems present themselves
 * like a tunnel does, but have a parent on a bus). */
static bool answer_is_tunnel(const struct mtls_nl_answer *a, const char *kind, unsigned type)
{
    if (kind_is_tunnel(kind))
        return true;
    return type_is_tunnel(type) && mtls_nl_attr(a, IFLA_PARENT_DEV_NAME, 1, NULL) == NULL;
}

int mtls_device_ask(int ifindex, const char *name, struct mtls_device *d)
{
    struct mtls_nl_question q;
    struct mtls_nl_answer a;
    const struct ifinfomsg *info;
    const char *text;
    uint32_t filter = RTEXT_FILTER_SKIP_STATS, lower = 0, master = 0;
    char kind[32];
    size_t len = 0;
    int err;

    mtls_nl_question_init(&q, RTM_GETLINK, sizeof(q.body.link));
    q.body.link.ifi_index = ifindex;
    if (ifindex == 0)
        mtls_nl_question_add(&q, IFLA_IFNAME, name, strlen(name) + 1);
    mtls_nl_question_add(&q, IFLA_EXT_MASK, &filter, sizeof(filter));
    err = mtls_nl_ask(&q, &a, RTM_NEWLINK, sizeof(*info));
    if (err != 0)
        return err;
    info = a.body;
    text = mtls_nl_attr(&a, IFLA_IFNAME, 1, &len);
    if (text == NULL || len > sizeof(d->name) || text[len - 1] != '\0')
        return -EBADMSG;
    memset(d, 0, sizeof(*d));
    memcpy(d->name, text, len);
    d->ifindex = info->ifi_index;
    d->up = (info->ifi_flags & IFF_UP) != 0 && (info->ifi_flags & IFF_RUNNING) != 0;
    d->loopback = (info->ifi_flags & IFF_LOOPBACK) != 0;
    answer_kind(&a, kind);
    d->tunnel = answer_is_tunnel(&a, kind, info->ifi_type);
    d->vrf = strcmp(kind, "vrf") == 0;
    if (mtls_nl_u32(&a, IFLA_MASTER, &master))
        d->master = (int)master;
    if (mtls_nl_attr(&a, IFLA_LINK_NETNSID, 0, NULL) == NULL && mtls_nl_u32(&a, IFLA_LINK, &lower))
        d->lower = (int)lower == d->ifindex ? 0 : (int)lower;
    return 0;
}

static int device_error(int err)
{
    return err == -ENODEV || err == -EINVAL || err == -ENXIO ? MTLS_ERR_PATH_BIND : MTLS_ERR_IO;
}

int mtls_device_get(int ifindex, struct mtls_device *d)
{
    int err = ifindex > 0 ? mtls_device_ask(ifindex, NULL, d) : -ENODEV;

    return err == 0 ? 0 : device_error(err);
}

bool mtls_device_is_loopback(const char *dev)
{
    struct mtls_device d;

    return dev != NULL && dev[0] != '\0' && strlen(dev) <= MTLS_IF_MAX &&
           mtls_device_ask(0, dev, &d) == 0 && d.loopback;
}

/* Up to the bridge or bond whose link a port is, else down to the device beneath; a VRF is no link,
 * and what a tunnel stands on is not its link. 0: no further; a negative errno. */
static int next_in_stack(const struct mtls_device *at, int before, struct mtls_device *next)
{
    int err = 0;

    if (at->tunnel)
        return 0;
    if (at->master != 0) {
        err = mtls_device_ask(at->master, "", next);
        if (err != 0 || !next->vrf)
            return err != 0 ? err : 1;
    }
    if (at->lower == 0 || at->lower == before)
        return 0;
    err = mtls_device_ask(at->lower, "", next);
    return err != 0 ? err : 1;
}

/* From both ends of a veth pair it leads to the same one. */
void mtls_device_stack(const struct mtls_device *d, struct mtls_path_facts *facts)
{
    struct mtls_device at = *d, next;
    int before = 0, more = 1, bottom;

    for (int i = 0; i < STACK_MAX && (more = next_in_stack(&at, before, &next)) > 0; i++) {
        before = at.ifindex;
        at = next;
    }
    bottom = before != 0 && at.lower == before && before < at.ifindex ? before : at.ifindex;
    facts->lower = more != 0 || d->vrf ? -1 : bottom == d->ifindex ? 0 : bottom;
    facts->dev_tunnel = at.tunnel;
}
