/* Concept: rules [PATH-7] to [PATH-13] as predicates over the facts of two live sockets. Whatever
 * is not known counts as the same. */
#include <stdio.h>
#include <string.h>

#include "distinct.h"

static bool same_ip(const struct mtls_addr *a, const struct mtls_addr *b)
{
    return a->family != 0 && a->family == b->family &&
           memcmp(a->ip, b->ip, a->family == 4 ? 4 : 16) == 0;
}

static bool same_prefix(const struct mtls_addr *a, const struct mtls_addr *b)
{
    return a->family != 0 && a->family == b->family &&
           memcmp(a->ip, b->ip, a->family == 4 ? 3 : 6) == 0;
}

static bool is_loopback(const struct mtls_addr *a)
{
    static const uint8_t one[16] = {[15] = 1};

    return a->family == 4 ? a->ip[0] == 127
                          : a->family == 6 && memcmp(a->ip, one, sizeof(one)) == 0;
}

static int bottom(const struct mtls_path_facts *f)
{
    return f->lower != 0 ? f->lower : f->ifindex;
}

/* Whoever owns a link is on every device that stands on it: comparing the bottoms of the stacks
 * also finds the one device in the other's stack. */
bool mtls_paths_same_link(const struct mtls_path_facts *a, const struct mtls_path_facts *b)
{
    return a->ifindex <= 0 || b->ifindex <= 0 || bottom(a) < 0 || bottom(b) < 0 ||
           a->ifindex == b->ifindex || bottom(a) == bottom(b);
}

/* Where its packets go in the end, over the other path's device for one, cannot be seen. */
static bool egress_hidden(const struct mtls_path_facts *f)
{
    return (f->multi && (f->ndevices == 0 || f->tunnel)) || (f->dev_tunnel && !f->tunnel);
}

/* Whether b, as far as is known, may leave through a's proxy: by its own proxy, or because the
 * program itself connected path 1 to the proxy. Two ports of one proxy host share its network,
 * unless the host is this one: then each port is a tunnel of its own. But what listens where an
 * unproxied path goes on this host may be a proxy that leads into the same tunnel. */
static bool may_share_proxy(const struct mtls_path_facts *a, const struct mtls_path_facts *b)
{
    const struct mtls_addr *other = b->proxied ? &b->proxy : &b->remote;

    if (a->proxy.family == 0 || other->family == 0)
        return true;
    if (!b->proxied && (a->loopback || is_loopback(&a->proxy)) &&
        (b->loopback || is_loopback(other)))
        return true;
    if (!same_ip(&a->proxy, other))
        return false;
    return a->proxy.port == other->port || (b->proxied && !is_loopback(&a->proxy));
}

static bool tunnels_differ(const struct mtls_path_facts *a, const struct mtls_path_facts *b)
{
    if (a->tunnel && a->proxied)
        return !may_share_proxy(a, b);
    if (b->tunnel && b->proxied)
        return !may_share_proxy(b, a);
    /* A device as tunnel: the other path must not leave by the same one (a VPN that carries
     * everything). */
    return (a->tunnel || b->tunnel) && !mtls_paths_same_link(a, b);
}

static bool client_distinct(const struct mtls_path_facts *a, const struct mtls_path_facts *b);

/* [PATH-13] By each device that a subflow of a may leave by. */
static bool subflows_distinct(const struct mtls_path_facts *a, const struct mtls_path_facts *b)
{
    for (uint8_t i = 0; i < a->ndevices; i++) {
        struct mtls_path_facts one = *a;

        one.multi = false;
        one.ifindex = a->devices[i].ifindex;
        one.lower = a->devices[i].lower;
        one.dev_tunnel = a->devices[i].dev_tunnel;
        one.loopback = a->devices[i].loopback;
        if (!client_distinct(&one, b))
            return false;
    }
    return true;
}

/* [PATH-7] */
static bool client_distinct(const struct mtls_path_facts *a, const struct mtls_path_facts *b)
{
    if (egress_hidden(a) || egress_hidden(b))
        return false;
    if (a->multi)
        return subflows_distinct(a, b);
    if (b->multi)
        return subflows_distinct(b, a);
    if (!a->loopback && !b->loopback && !mtls_paths_same_link(a, b))
        return true;
    return tunnels_differ(a, b);
}

/* [PATH-8] The same family is demanded: two families of one host say nothing about its networks. */
static bool server_distinct(const struct mtls_path_facts *a, const struct mtls_path_facts *b)
{
    return a->remote.family != 0 && a->remote.family == b->remote.family &&
           !same_prefix(&a->remote, &b->remote);
}

/* [PATH-9], [PATH-13] */
unsigned mtls_paths_scope(const struct mtls_path_facts *a, const struct mtls_path_facts *b)
{
    unsigned scope = 0;

    if (!a->known || !b->known)
        return 0;
    if (client_distinct(a, b))
        scope |= MTLS_DISTINCT_CLIENT;
    if (server_distinct(a, b))
        scope |= MTLS_DISTINCT_SERVER;
    return scope;
}

/* ---- What is shared, for reports [PATH-11] ---- */

static unsigned shared_link(const struct mtls_path_facts *a, const struct mtls_path_facts *b)
{
    const bool both_ll = a->lladdr_known && b->lladdr_known;
    const bool same_ll = both_ll && a->lladdr_len > 0 && a->lladdr_len == b->lladdr_len &&
                         a->lladdr_len <= sizeof(a->lladdr) &&
                         memcmp(a->lladdr, b->lladdr, a->lladdr_len) == 0;
    unsigned shared = 0;

    if (a->ifindex == 0 || b->ifindex == 0 || bottom(a) < 0 || bottom(b) < 0 || egress_hidden(a) ||
        egress_hidden(b))
        shared |= MTLS_SHARE_UNKNOWN;
    else if (mtls_paths_same_link(a, b))
        shared |= MTLS_SHARE_DEVICE;
    /* 192.168.1.1 stands in many networks: known hardware addresses tell them apart. */
    if (same_ip(&a->gateway, &b->gateway) && (!both_ll || same_ll))
        shared |= MTLS_SHARE_GATEWAY;
    if (same_ll)
        shared |= MTLS_SHARE_NEXT_HOP;
    return shared;
}

unsigned mtls_paths_shared(const struct mtls_path_facts *a, const struct mtls_path_facts *b)
{
    unsigned shared;

    if (!a->known || !b->known)
        return MTLS_SHARE_UNKNOWN;
    shared = shared_link(a, b);
    if (a->local.family == 0 || b->local.family == 0 || a->remote.family == 0 ||
        b->remote.family == 0)
        shared |= MTLS_SHARE_UNKNOWN;
    if (same_ip(&a->local, &b->local))
        shared |= MTLS_SHARE_LOCAL;
    if (same_ip(&a->remote, &b->remote))
        shared |= MTLS_SHARE_REMOTE;
    if (same_prefix(&a->remote, &b->remote))
        shared |= MTLS_SHARE_PREFIX;
    if (same_ip(&a->resolver, &b->resolver))
        shared |= MTLS_SHARE_RESOLVER;
    if (a->proxied && b->proxied && (a->proxy.family == 0 || b->proxy.family == 0))
        shared |= MTLS_SHARE_UNKNOWN;
    else if (a->proxied && b->proxied && may_share_proxy(a, b))
        shared |= MTLS_SHARE_PROXY;
    return shared;
}

const char *mtls_shared_words(unsigned shared, char *out, size_t cap)
{
    static const char *const names[] = {"device",        "gateway",        "next-hop",
                                        "local-address", "remote-address", "remote-prefix",
                                        "resolver",      "proxy",          "unknown"};
    size_t len = 0;

    if (cap == 0)
        return out;
    (void)snprintf(out, cap, "%s", shared == 0 ? "nothing" : "");
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if ((shared & 1u << i) == 0 || len >= cap)
            continue;
        len += (size_t)snprintf(out + len, cap - len, "%s%s", len > 0 ? "," : "", names[i]);
    }
    return out;
}

/* ---- The choice of the counted paths [PATH-10], [MUL-3] ---- */

struct pairs {
    unsigned scope1[MTLS_PATHS_MAX];                /* with path 1 */
    unsigned scope[MTLS_PATHS_MAX][MTLS_PATHS_MAX]; /* with each other, i < j */
    unsigned wanted[MTLS_PATHS_MAX];
};

/* Whether the members of mask satisfy each other and path 1; *scope: the bits that hold for every
 * pair. */
static bool mask_is_distinct(const struct pairs *p, size_t n, unsigned mask, unsigned *scope)
{
    *scope = MTLS_DISTINCT_CLIENT | MTLS_DISTINCT_SERVER;
    for (size_t i = 0; i < n; i++) {
        if ((mask & 1u << i) == 0)
            continue;
        if ((p->scope1[i] & p->wanted[i]) != p->wanted[i])
            return false;
        *scope &= p->scope1[i];
        for (size_t j = i + 1; j < n; j++) {
            const unsigned wanted = p->wanted[i] | p->wanted[j];

            if ((mask & 1u << j) == 0)
                continue;
            if ((p->scope[i][j] & wanted) != wanted)
                return false;
            *scope &= p->scope[i][j];
        }
    }
    return true;
}

/* Larger first; of equal size the one that has the lowest index in which they differ. */
static bool mask_is_better(unsigned mask, unsigned best)
{
    const unsigned differ = mask ^ best;
    const int a = __builtin_popcount(mask), b = __builtin_popcount(best);

    return a != b ? a > b : (mask & differ & (0u - differ)) != 0;
}

unsigned mtls_paths_select(const struct mtls_path_facts *path1, const struct mtls_path_facts *paths,
                           const uint8_t *wanted, size_t n, unsigned *scope)
{
    struct pairs p = {0};
    unsigned best = 0, s;

    *scope = 0;
    if (n > MTLS_PATHS_MAX)
        n = MTLS_PATHS_MAX;
    for (size_t i = 0; i < n; i++) {
        p.wanted[i] = wanted[i] & (MTLS_DISTINCT_CLIENT | MTLS_DISTINCT_SERVER);
        if (p.wanted[i] == 0)
            p.wanted[i] = MTLS_DISTINCT_CLIENT;
        p.scope1[i] = mtls_paths_scope(path1, &paths[i]);
        for (size_t j = i + 1; j < n; j++)
            p.scope[i][j] = mtls_paths_scope(&paths[i], &paths[j]);
    }
    for (unsigned mask = 1; mask < 1u << n; mask++)
        if (mask_is_better(mask, best) && mask_is_distinct(&p, n, mask, &s)) {
            best = mask;
            *scope = s;
        }
    return best;
}
