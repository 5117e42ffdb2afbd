/* Concept: the facts of one path, read from the live socket and from the kernel's routing
 * (rtnetlink), never guessed from a source address [PATH-6]. Blocking only on the local kernel. */
#ifndef MTLS_NET_ROUTE_H
#define MTLS_NET_ROUTE_H

#include <sys/socket.h>

#include "../core/distinct.h"

/* Fills facts (known, local, remote, ifindex, dev, lower, dev_tunnel, multi, loopback, gateway,
 * lladdr) of a connected TCP or
 * MPTCP socket: getsockname/getpeername; the egress device is SO_BINDTODEVICE's if set, else
 * RTM_GETROUTE's answer for (remote, local, SO_MARK, uid); lladdr by RTM_GETNEIGH. tunnel, proxied,
 * proxy and resolver are left alone. v4-mapped addresses become IPv4. Errors: MTLS_ERR_PATH_UNKNOWN
 * (not a connected IP socket), MTLS_ERR_IO; facts->known is false then. */
MTLS_NODISCARD int mtls_route_of_socket(int fd, struct mtls_path_facts *facts);
/* The same for a destination without a socket (a plan, not evidence). */
MTLS_NODISCARD int mtls_route_to(const struct mtls_addr *remote, struct mtls_path_facts *facts);

/* The same for a way out of one device, from one of its addresses (NULL: the kernel chooses): only
 * if an entry of the routing tables leads there (for a bound socket the kernel would else take the
 * destination for a neighbour). Errors: MTLS_ERR_PATH_UNREACHABLE, MTLS_ERR_PATH_UNKNOWN,
 * MTLS_ERR_IO. */
MTLS_NODISCARD int mtls_route_via(const struct mtls_addr *remote, int ifindex,
                                  const struct mtls_addr *local, struct mtls_path_facts *facts);

/* A network device. */
struct mtls_device {
    int ifindex;
    char name[MTLS_IF_MAX + 1];
    bool up, loopback; /* up: and running */
    bool tunnel; /* its packets leave inside others' (tun, tap, WireGuard, PPP, GRE, ...), as far as
                    can be seen */
    bool vrf;    /* stands for routes through other devices */
    int lower;   /* index of the device beneath (VLAN, macvlan), or a veth's other end, 0 = none */
    int master;  /* index of the bridge, bond, team or VRF that it is a port of, 0 = none */
};
/* Errors: MTLS_ERR_PATH_BIND (no such device), MTLS_ERR_IO. */
MTLS_NODISCARD int mtls_device_get(int ifindex, struct mtls_device *d);

/* lower and dev_tunnel of the facts of a path that leaves by d. */
void mtls_device_stack(const struct mtls_device *d, struct mtls_path_facts *facts);

/* The device that owns a local address (the first, if several do). Errors: MTLS_ERR_PATH_BIND,
 * MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_device_of_address(const struct mtls_addr *local, char dev[MTLS_IF_MAX + 1],
                                          int *ifindex);
bool mtls_device_owns_address(const char *dev, const struct mtls_addr *local);
bool mtls_device_is_loopback(const char *dev);

void mtls_addr_to_sockaddr(const struct mtls_addr *a, struct sockaddr_storage *ss, socklen_t *len);
MTLS_NODISCARD int mtls_addr_from_sockaddr(struct mtls_addr *a, const struct sockaddr *sa,
                                           socklen_t len);

#endif
