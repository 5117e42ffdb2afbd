/* What a configuration names and this machine does not have at present: devices, and addresses to
 * listen on. Both may come later (a modem, a container's network), so it is said and no error. */
#include "mtlsize_machine.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../mtls/net/sockaddr.h"

/* Asked of bind(), as the listener will: all of 127.0.0.0/8 is here, and what a local route or
 * ip_nonlocal_bind allows. */
static bool has_address(const struct mtls_addr *addr)
{
    struct sockaddr_storage ss;
    socklen_t len;
    bool refused;
    int fd;

    mtls_addr_to_sockaddr(addr, &ss, &len);
    fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return true; /* not known */
    refused = bind(fd, (const struct sockaddr *)&ss, len) < 0 && errno == EADDRNOTAVAIL;
    close(fd);
    return !refused;
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
