/* Concept: addresses between the kernel's form and ours. */
#ifndef MTLS_NET_SOCKADDR_H
#define MTLS_NET_SOCKADDR_H

#include <sys/socket.h>

#include "../core/common.h"

void mtls_addr_to_sockaddr(const struct mtls_addr *a, struct sockaddr_storage *ss, socklen_t *len);
/* Errors: MTLS_ERR_ARG (no IP address, or too short for one). */
MTLS_NODISCARD int mtls_addr_from_sockaddr(struct mtls_addr *a, const struct sockaddr *sa,
                                           socklen_t len);
/* family: AF_INET or AF_INET6; a v4-mapped address becomes the IPv4 address that it is. */
void mtls_addr_set(struct mtls_addr *a, int family, const void *ip, uint16_t port);

#endif
