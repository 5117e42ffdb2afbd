/* Concept: conversions of addresses (sockaddr.h). */
#include "sockaddr.h"

#include <netinet/in.h>
#include <string.h>

void mtls_addr_to_sockaddr(const struct mtls_addr *a, struct sockaddr_storage *ss, socklen_t *len)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(a->port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(a->port)};

    memset(ss, 0, sizeof(*ss)); /* AF_UNSPEC, for an address of no family */
    *len = 0;
    if (a->family == 4) {
        memcpy(&v4.sin_addr, a->ip, sizeof(v4.sin_addr));
        memcpy(ss, &v4, sizeof(v4));
        *len = sizeof(v4);
    } else if (a->family == 6) {
        memcpy(&v6.sin6_addr, a->ip, sizeof(v6.sin6_addr));
        memcpy(ss, &v6, sizeof(v6));
        *len = sizeof(v6);
    }
}

void mtls_addr_set(struct mtls_addr *a, int family, const void *ip, uint16_t port)
{
    struct in6_addr v6;

    memset(a, 0, sizeof(*a));
    a->port = port;
    if (family == AF_INET) {
        a->family = 4;
        memcpy(a->ip, ip, 4);
        return;
    }
    memcpy(&v6, ip, sizeof(v6));
    a->family = IN6_IS_ADDR_V4MAPPED(&v6) ? 4 : 6;
    if (a->family == 4)
        memcpy(a->ip, v6.s6_addr + 12, 4);
    else
        memcpy(a->ip, v6.s6_addr, 16);
}

int mtls_addr_from_sockaddr(struct mtls_addr *a, const struct sockaddr *sa, socklen_t len)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (len < sizeof(sa->sa_family))
        return MTLS_ERR_ARG;
    if (sa->sa_family == AF_INET && len >= sizeof(v4)) {
        memcpy(&v4, sa, sizeof(v4));
        mtls_addr_set(a, AF_INET, &v4.sin_addr, ntohs(v4.sin_port));
    } else if (sa->sa_family == AF_INET6 && len >= sizeof(v6)) {
        memcpy(&v6, sa, sizeof(v6));
        mtls_addr_set(a, AF_INET6, &v6.sin6_addr, ntohs(v6.sin6_port));
    } else {
        return MTLS_ERR_ARG;
    }
    return 0;
}
