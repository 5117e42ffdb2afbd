/* Concept: the facts of one path, read from the live socket and from the kernel's routing
 * (rtnetlink), never guessed from a source address [PATH-6]. Blocking only on the local kernel. */
#ifndef MTLS_NET_ROUTE_H
#define MTLS_NET_ROUTE_H

#include <sys/socket.h>

#include "device.h"
#include "sockaddr.h"

/* Fills facts (known, local, remote, ifindex, dev, lower, dev_tunnel, multi, loopback, gateway,
 * lladdr) of a connected TCP or
 * MPTCP socket: getsockname/getpeername; the egress device is SO_BINDTODEVICE's if set, else
 * RTM_GETROUTE's answer for (remote, local, SO_MARK, uid); lladdr by RTM_GETNEIGH. tunnel, proxied,
 * proxy and resolver are left alone. v4-mapped addresses become IPv4. Errors: MTLS_ERR_PATH_UNKNOWN
 * (not a connected IP socket), MTLS_ERR_IO; facts->known is false then. */
MTLS_NODISCARD int mtls_route_of_socket(int fd, struct mtls_path_facts *facts);
/* local and remote alone, for a socket whose facts are asked later; facts->known stays false.
 * Errors: MTLS_ERR_PATH_UNKNOWN; MTLS_ERR_IO: the kernel has not yet answered any question of this
 * process, so that it is not known whether it will. */
MTLS_NODISCARD int mtls_route_ends(int fd, struct mtls_path_facts *facts);
/* mtls_route_of_socket() for a socket whose facts were read earlier in its handshake: its route is
 * asked anew; only if that changed (or it is an MPTCP connection), also what its device stands on
 * and who its neighbour is. facts not known: the same as mtls_route_of_socket(). */
MTLS_NODISCARD int mtls_route_again(int fd, struct mtls_path_facts *facts);
/* The same for a destination without a socket (a plan, not evidence). */
MTLS_NODISCARD int mtls_route_to(const struct mtls_addr *remote, struct mtls_path_facts *facts);

/* The same for a way out of one device, from one of its addresses (NULL: the kernel chooses): only
 * if an entry of the routing tables leads there (for a bound socket the kernel would else take the
 * destination for a neighbour). Errors: MTLS_ERR_PATH_UNREACHABLE, MTLS_ERR_PATH_UNKNOWN,
 * MTLS_ERR_IO. */
MTLS_NODISCARD int mtls_route_via(const struct mtls_addr *remote, int ifindex,
                                  const struct mtls_addr *local, struct mtls_path_facts *facts);

/* The device that owns a local address (the first, if several do). Errors: MTLS_ERR_PATH_BIND,
 * MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_device_of_address(const struct mtls_addr *local, char dev[MTLS_IF_MAX + 1],
                                          int *ifindex);
bool mtls_device_owns_address(const char *dev, const struct mtls_addr *local);

#endif
