/* Concept: rule 6, when two paths count as different, from facts that net/ reads off live sockets.
 */
#ifndef MTLS_CORE_DISTINCT_H
#define MTLS_CORE_DISTINCT_H

#include "common.h"
#include "config.h"

enum { MTLS_SUBFLOW_DEVICES_MAX = 16 };

/* A device that a subflow of Multipath TCP may leave by. */
struct mtls_subflow_device {
    int ifindex, lower; /* as in mtls_path_facts */
    bool dev_tunnel, loopback;
};

/* What is known of one path now. */
struct mtls_path_facts {
    bool known; /* false: no socket; then nothing is distinct from it */
    struct mtls_addr local, remote;
    int ifindex; /* egress device of the live socket, 0 = unknown */
    char dev[MTLS_IF_MAX + 1];
    int lower;        /* the device at the bottom of the stack it stands on (what a VLAN or macvlan
                         is over, the bridge or bond that a port belongs to); a tunnel is a bottom.
                         0 = it stands on nothing, -1 = that cannot be told */
    bool dev_tunnel;  /* in that stack its packets leave inside others' */
    bool multi;       /* several subflows: other devices may carry it too */
    uint8_t ndevices; /* multi: all of them; 0: they cannot be told */
    struct mtls_subflow_device devices[MTLS_SUBFLOW_DEVICES_MAX];
    bool loopback; /* egress is a loopback device */
    bool tunnel;   /* the configuration names device or proxy as protected */
    bool proxied;
    struct mtls_addr proxy;
    struct mtls_addr gateway; /* family 0 = on link */
    bool lladdr_known;
    uint8_t lladdr[8], lladdr_len; /* next hop's hardware address */
    struct mtls_addr resolver;     /* the resolver whose answer gave remote; family 0 = none */
};

enum {                             /* what two paths share; bits, and their words in reports */
       MTLS_SHARE_DEVICE = 0x01,   /* "device" */
       MTLS_SHARE_GATEWAY = 0x02,  /* "gateway" */
       MTLS_SHARE_NEXT_HOP = 0x04, /* "next-hop": same hardware address */
       MTLS_SHARE_LOCAL = 0x08,    /* "local-address" */
       MTLS_SHARE_REMOTE = 0x10,   /* "remote-address" */
       MTLS_SHARE_PREFIX = 0x20,   /* "remote-prefix": IPv4 /24, IPv6 /48 */
       MTLS_SHARE_RESOLVER = 0x40, /* "resolver" */
       MTLS_SHARE_PROXY = 0x80,    /* "proxy" */
       MTLS_SHARE_UNKNOWN = 0x100, /* "unknown": a fact is missing */
};
unsigned mtls_paths_shared(const struct mtls_path_facts *a, const struct mtls_path_facts *b);
/* Whether the egress devices are one, stand on one, or cannot be told apart. */
bool mtls_paths_same_link(const struct mtls_path_facts *a, const struct mtls_path_facts *b);
/* Comma-separated words ("nothing" for 0); returns out. cap 128 suffices. */
const char *mtls_shared_words(unsigned shared, char *out, size_t cap);

/* The scope in which a and b are distinct: bits of MTLS_DISTINCT_CLIENT and _SERVER, 0 = neither.
 * Symmetric. Client-distinct [PATH-7]: both egress devices known, different, no loopback and on
 * different links (not a VLAN or macvlan over the other, or both over one); or a
 * protected tunnel makes the difference: a proxy that the other path does not use too (nor is
 * connected to by itself; where the proxy is on this host, nor is connected to anything on it:
 * another proxy there may lead into the same tunnel), or a device that the other path does not
 * leave by. Server-distinct [PATH-8]: remote addresses of one family with different prefixes. What
 * is not known counts as the same. A path of several subflows is client-distinct
 * only if by each of their devices it is [PATH-13]. Never client-distinct is one whose device is a
 * tunnel that the configuration does not name as protected: it may run over the other's. */
unsigned mtls_paths_scope(const struct mtls_path_facts *a, const struct mtls_path_facts *b);

/* Of n secondary paths whose claims are provable, picks the largest set (lowest indices first on a
 * tie) that is pairwise distinct and distinct from path1, each pair satisfying the wanted[] bits of
 * both members (path 1 has none of its own). Returns the mask of chosen indices; *scope gets the
 * bits that hold for all chosen pairs. */
unsigned mtls_paths_select(const struct mtls_path_facts *path1, const struct mtls_path_facts *paths,
                           const uint8_t *wanted, size_t n, unsigned *scope);

#endif
