/* What a configuration names and this machine does not have at present: devices, and addresses to
 * listen on. Both may come later (a modem, a container's network), so it is said and no error. */
#include "mtlsize_machine.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "../mtls/net/sockaddr.h"

static bool has_address(const struct mtls_addr *addr)
{
    struct ifaddrs *all, *at;
    struct mtls_addr own;
    bool found = false;

    if (getifaddrs(&all) != 0)
        return true; /* not known */
    for (at = all; at != NULL && !found; at = at->ifa_next) {
        socklen_t len = at->ifa_addr == NULL                  ? 0
                        : at->ifa_addr->sa_family == AF_INET  ? sizeof(struct sockaddr_in)
                        : at->ifa_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                              : 0;

        found = len > 0 && mtls_addr_from_sockaddr(&own, at->ifa_addr, len) == 0 &&
                own.family == addr->family && memcmp(own.ip, addr->ip, sizeof own.ip) == 0;
    }
    freeifaddrs(all);
    return found;
}

static bool is_any(const struct mtls_addr *addr)
{
    static const uint8_t zero[sizeof addr->ip];

    return memcmp(addr->ip, zero, sizeof zero) == 0;
}

bool machine_lacks(const struct mtls_config *c, unsigned i, char *text, size_t cap)
{
    struct mtls_addr addr;
    char name[64];

    text[0] = '\0';
    if (i < c->npath2) {
        const char *dev = c->path2[i].dev;

        if (dev[0] != '\0' && if_nametoindex(dev) == 0)
            snprintf(text, cap, "there is no network device %s now (path2=dev=%s)", dev, dev);
        return true;
    }
    if (i - c->npath2 >= c->nlisten)
        return false;
    addr = c->listen[i - c->npath2];
    addr.port = 0;
    mtls_addr_format(&addr, name, sizeof name);
    if (!is_any(&addr) && !has_address(&addr))
        snprintf(text, cap, "this machine has no address %s now (listen=)", name);
    return true;
}
