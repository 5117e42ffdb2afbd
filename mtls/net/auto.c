/* Concept: `auto`, the choice of second paths among the devices of this machine: the most different
 * first, each with the reason in words. It reads the kernel's state once and keeps nothing.
 */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "path2_socket.h"
#include "route.h"

/* What makes a choice worse, the gravest in the highest bit. */
enum {
    OTHER_FAMILY = 0x01, /* leads only to the other address family's Internet */
    HOP_UNKNOWN = 0x02,  /* the next hop's hardware address is not known */
    SAME_HOP = 0x04,     /* another device, the same box behind it */
};

struct search {
    struct mtls_path_facts path1;
    const struct ifaddrs *addrs;
    struct mtls_auto_choice *out;
    unsigned faults[MTLS_PATHS_MAX];
    int n, max;
};

/* [PATH-12] A path 1 that goes through a tunnel or proxy is never led around it: that would expose
 * the user. */
static bool path1_allows(struct mtls_path_facts *path1)
{
    struct mtls_device d;

    if (!path1->known || path1->loopback || path1->tunnel || path1->proxied || path1->multi ||
        mtls_device_get(path1->ifindex, &d) != 0)
        return false;
    mtls_device_stack(&d, path1);
    return !d.loopback && !path1->dev_tunnel;
}

static bool link_local(const struct mtls_addr *a)
{
    if (a->family == 4)
        return a->ip[0] == 169 && a->ip[1] == 254;
    return a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

static bool usable(const struct mtls_path_facts *f, const struct mtls_device *d)
{
    return f->local.family != 0 && f->ifindex == d->ifindex && !link_local(&f->local) &&
           mtls_device_owns_address(d->name, &f->local);
}

/* The way to dst out of d: with the address that the kernel chooses, else with any of d's own,
 * since a rule for a source address may be all that leads there. */
static bool way_out(const struct ifaddrs *addrs, const struct mtls_device *d,
                    const struct mtls_addr *dst, struct mtls_path_facts *f)
{
    struct mtls_addr a;

    if (mtls_route_via(dst, d->ifindex, NULL, f) == 0 && usable(f, d))
        return true;
    for (const struct ifaddrs *i = addrs; i != NULL; i = i->ifa_next) {
        if (i->ifa_addr == NULL || strcmp(i->ifa_name, d->name) != 0)
            continue;
        if (mtls_addr_from_sockaddr(&a, i->ifa_addr,
                                    i->ifa_addr->sa_family == AF_INET6
                                        ? sizeof(struct sockaddr_in6)
                                        : sizeof(struct sockaddr_in)) != 0 ||
            a.family != dst->family)
            continue;
        a.port = 0;
        if (mtls_route_via(dst, d->ifindex, &a, f) == 0 && usable(f, d))
            return true;
    }
    return false;
}

bool mtls_path2_way_out(const struct mtls_device *d, const struct mtls_addr *dst,
                        struct mtls_path_facts *f)
{
    struct ifaddrs *addrs = NULL;
    bool found;

    if (getifaddrs(&addrs) != 0)
        addrs = NULL;
    found = way_out(addrs, d, dst, f);
    if (addrs != NULL)
        freeifaddrs(addrs);
    return found;
}

/* Where path 1's destination is of one family, the other family's default route is as good as one
 * for a server that has addresses of both; documentation addresses stand for "anywhere". */
static struct mtls_addr anywhere(uint8_t family)
{
    struct mtls_addr v4 = {.family = 4, .ip = {192, 0, 2, 1}};
    struct mtls_addr v6 = {.family = 6, .ip = {0x20, 0x01, 0x0d, 0xb8, [15] = 1}};

    return family == 4 ? v4 : v6;
}

static unsigned faults_of(const struct search *s, const struct mtls_path_facts *f)
{
    const struct mtls_path_facts *p = &s->path1;
    unsigned faults = f->local.family != p->remote.family ? OTHER_FAMILY : 0;

    if (!f->lladdr_known || !p->lladdr_known)
        faults |= HOP_UNKNOWN;
    else if (f->lladdr_len == p->lladdr_len && memcmp(f->lladdr, p->lladdr, f->lladdr_len) == 0)
        faults |= SAME_HOP;
    return faults;
}

static void explain(const struct mtls_path_facts *f, unsigned faults, char *why, size_t cap)
{
    char local[INET6_ADDRSTRLEN];
    const char *hop = faults & SAME_HOP      ? ", the same next hop"
                      : faults & HOP_UNKNOWN ? ""
                                             : " and next hop";

    (void)mtls_addr_format(&f->local, local, sizeof(local));
    (void)snprintf(why, cap, "%s (%s): another device%s%s", f->dev, local, hop,
                   !(faults & OTHER_FAMILY) ? ""
                   : f->local.family == 6   ? ", IPv6 only"
                                            : ", IPv4 only");
}

/* Keeps the best max; equals stay in the order they were found. */
static void keep(struct search *s, const struct mtls_path_facts *f, unsigned faults)
{
    struct mtls_auto_choice c = {.spec = {.distinct = MTLS_DISTINCT_CLIENT, .local = f->local}};
    int at = s->n;

    c.spec.local.port = 0;
    memcpy(c.spec.dev, f->dev, sizeof(c.spec.dev));
    if (mtls_path_spec_format(&c.spec) != 0)
        return;
    explain(f, faults, c.why, sizeof(c.why));
    while (at > 0 && s->faults[at - 1] > faults)
        at--;
    if (at == s->max)
        return;
    if (s->n < s->max)
        s->n++;
    for (int i = s->n - 1; i > at; i--) {
        s->out[i] = s->out[i - 1];
        s->faults[i] = s->faults[i - 1];
    }
    s->out[at] = c;
    s->faults[at] = faults;
}

/* [PATH-7] A device on path 1's link, or a tunnel, would not be counted: no choice. */
static void consider(struct search *s, int ifindex)
{
    const struct mtls_addr *dst = &s->path1.remote;
    struct mtls_addr other = anywhere(dst->family == 4 ? 6 : 4);
    struct mtls_path_facts f = {0};
    struct mtls_device d;

    if (ifindex == s->path1.ifindex || mtls_device_get(ifindex, &d) != 0 || !d.up || d.loopback)
        return;
    f.ifindex = d.ifindex;
    mtls_device_stack(&d, &f);
    if (f.dev_tunnel || mtls_paths_same_link(&s->path1, &f))
        return;
    if (way_out(s->addrs, &d, dst, &f) || way_out(s->addrs, &d, &other, &f))
        keep(s, &f, faults_of(s, &f));
}

int mtls_path2_auto(const struct mtls_path_facts *path1, struct mtls_auto_choice *out, int max)
{
    struct search s = {
        .path1 = *path1, .out = out, .max = max < MTLS_PATHS_MAX ? max : MTLS_PATHS_MAX};
    struct if_nameindex *devices;
    struct ifaddrs *addrs = NULL;

    if (max <= 0 || !path1_allows(&s.path1))
        return 0;
    devices = if_nameindex();
    if (devices == NULL || getifaddrs(&addrs) != 0)
        addrs = NULL;
    s.addrs = addrs;
    for (size_t i = 0; devices != NULL && devices[i].if_index != 0; i++)
        consider(&s, (int)devices[i].if_index);
    if (addrs != NULL)
        freeifaddrs(addrs);
    if (devices != NULL)
        if_freenameindex(devices);
    return s.n;
}
