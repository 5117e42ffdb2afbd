/* Concept: opening sockets for path 2: device and address binding (rules 5 and 6), TCP Fast Open,
 * listeners; and the plan of where a path specification leads: literals, look-up over path 2,
 * proxy, stored addresses, `auto`. */
#ifndef MTLS_NET_PATH2_SOCKET_H
#define MTLS_NET_PATH2_SOCKET_H

#include "../core/config.h"
#include "../core/distinct.h"

/* A non-blocking close-on-exec TCP socket for dst, bound as spec says: local=ADDR binds the address
 * and, with SO_BINDTODEVICE, the device that owns it; dev= binds the device; loopback devices are
 * bound too. TCP_NODELAY is set. Not yet connected. Errors: MTLS_ERR_PATH_BIND (no such address or
 * device, or no permission), MTLS_ERR_IO. */
MTLS_NODISCARD int mtls_path2_socket(const struct mtls_path_spec *spec, const struct mtls_addr *dst,
                                     int *fd);

/* Binds a fresh IP socket of any type as spec says: to the device, and to the address where it is
 * of the socket's family. Errors: MTLS_ERR_PATH_BIND, MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_path2_bind(int fd, const struct mtls_path_spec *spec);

/* Begins to connect. With first (len > 0) and tfo, the bytes go into the SYN where the kernel has a
 * cookie, else a plain connect: *sent tells how many bytes are already taken. Returns 0 (connected
 * or in progress) or MTLS_ERR_PATH_REFUSED, _UNREACHABLE, MTLS_ERR_IO. */
MTLS_NODISCARD int mtls_path2_connect(int fd, const struct mtls_addr *dst, bool tfo,
                                      const uint8_t *first, size_t len, size_t *sent);
/* After EPOLLOUT: 0 connected, or the error as above (SO_ERROR: ECONNREFUSED -> _REFUSED if a
 * segment of the peer brought it, _UNREACHABLE if an ICMP error did [DWN-4]; ETIMEDOUT -> _TIMEOUT,
 * ECONNRESET/EPIPE -> _CLOSED, errors of the network -> _UNREACHABLE, other -> MTLS_ERR_IO). */
MTLS_NODISCARD int mtls_path2_connected(int fd);
/* What the errno of a connection that was open means: the peer's own end of it is _CLOSED, silence
 * _TIMEOUT, everything else (which the network may have said) _UNREACHABLE [DWN-4]. */
int mtls_path2_lost(int error);
uint32_t mtls_path2_rtt_us(int fd); /* TCP_INFO; 0 = unknown */

/* A non-blocking listener (SO_REUSEADDR, IPV6_V6ONLY for IPv6, TCP_FASTOPEN where the kernel
 * allows, TCP_NODELAY is inherited); *bound is the real address. Errors: MTLS_ERR_LISTEN with
 * errno. */
MTLS_NODISCARD int mtls_path2_listen(const struct mtls_addr *addr, int *fd,
                                     struct mtls_addr *bound);
/* The same with SO_REUSEPORT: other processes of this user may open it, too. */
MTLS_NODISCARD int mtls_path2_listen_shared(const struct mtls_addr *addr, int *fd,
                                            struct mtls_addr *bound);

/* The address that a connection of the listener bound there was made to. Errors: MTLS_ERR_IO,
 * MTLS_ERR_ARG. */
MTLS_NODISCARD int mtls_path2_local(int fd, const struct mtls_addr *bound, struct mtls_addr *local);
/* Whether fd is still a listener, bound there. */
bool mtls_path2_listens(int fd, const struct mtls_addr *bound);
/* The same in every process that has this very socket; 0: unknown. */
uint64_t mtls_path2_socket_id(int fd);

/* The specs that `auto` stands for, most different first: other devices that are up with a usable
 * address and a default route (or an on-link one to dst), never path 1's device, never a loopback,
 * never a tunnel or a device on path 1's link [PATH-7], and none at all where path 1 uses a VPN
 * [PATH-12]. Each gets dev and local; why[i] says in a few words which and why. path1:
 * route facts of the live socket or a plan. Returns the number (0..max), never negative. */
struct mtls_auto_choice {
    struct mtls_path_spec spec;
    char why[160];
};
/* The way to dst out of a device, as `auto` looks for it: facts of a plan. */
struct mtls_device;
bool mtls_path2_way_out(const struct mtls_device *d, const struct mtls_addr *dst,
                        struct mtls_path_facts *f);
int mtls_path2_auto(const struct mtls_path_facts *path1, struct mtls_auto_choice *out, int max);

#endif
